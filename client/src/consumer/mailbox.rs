//! The [`Inbox`] of a consumer as the link and the application share it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::audit::Audit;
use super::inbox::{Dispatched, Inbox, Next, Part, Rules};
use crate::connection::stats::Counters;
use crate::deadline::timeout_at;
use crate::environment::{self, now_millis};
use crate::error::{Error, Result};
use crate::link::{Guard, Link, Receipt};
use crate::session::AcknowledgeMode;
use crate::transaction::Transaction;
use crate::wire::{
    ConsumerId, Destination, EntityId, Message, MessageAck, MessageDispatch, MessageId, MessagePull,
    RemoveInfo, TransactionId,
};

/// How long a message is waited for that was overtaken. Most likely another consumer has it; but a broker that takes back what
/// several consumers had does so one after the other.
const GRACE: Duration = Duration::from_millis(250);

/// Where the messages of a consumer wait for the application.
#[derive(Debug)]
pub(crate) struct Mailbox {
    id: ConsumerId,
    destination: Destination,
    mode: AcknowledgeMode,
    /// The consumer asks for each message.
    pull: bool,
    browses: bool,
    /// Acknowledgements are collected.
    collects: bool,
    state: Mutex<State>,
    changed: Notify,
    /// Told when the part of a transaction has changed that is being completed.
    came_again: Notify,
}

#[derive(Debug)]
struct State {
    inbox: Inbox,
    /// Number of the physical connection that the messages came over.
    connection: u64,
    started: bool,
    /// Why there is nothing more to get.
    ended: Option<Error>,
    /// No broker knows the consumer any more.
    gone: bool,
    /// A pull is not answered yet.
    pulling: bool,
    /// How many pulls were answered with nothing.
    empty_answers: u64,
    /// Acknowledgements on their way out, kept for its memory.
    acks: Vec<MessageAck>,
}

/// A message that was taken out, with the acknowledgements that are to be waited for.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) message: Arc<Message>,
    /// Number of the physical connection it came over.
    pub(crate) connection: u64,
    pub(crate) receipts: Vec<Receipt>,
}

/// What [`Mailbox::take`] finds.
#[derive(Debug)]
pub(crate) enum Found {
    Message(Taken),
    /// Nothing, until this point in time or until something changes.
    Nothing(Option<Instant>),
}

/// Where acknowledgements go to.
#[derive(Clone, Copy)]
pub(crate) struct Out<'a> {
    pub(crate) link: &'a Link,
    pub(crate) counters: &'a Counters,
    /// `sendAcksAsync`: nobody waits for the broker.
    pub(crate) one_way: bool,
}

/// How far a consumer is with what it was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// How many messages were dispatched so far.
    pub(crate) arrived: u64,
    /// How many of them wait for the application.
    pub(crate) waiting: u64,
    /// How many the application has and has not acknowledged.
    pub(crate) unacknowledged: u64,
    /// They wait for the application alone.
    pub(crate) deliverable: bool,
}

/// How a consumer stands to the transaction that is being completed, as seen from a physical connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// All that it has received came over this connection.
    Ready,
    /// Something of it is to come again.
    Missing,
    /// The same, and something came that the broker has after it.
    Overtaken,
    /// The consumer has not heard yet of this connection.
    Behind,
    /// The connection has broken since.
    Broken,
    /// Something of it never comes again.
    Lost,
}

impl State {
    fn readiness(&self, connection: u64) -> Readiness {
        match self.inbox.part() {
            Part::None => Readiness::Ready,
            Part::Lost => Readiness::Lost,
            _ if self.gone => Readiness::Lost,
            _ if self.connection > connection => Readiness::Broken,
            _ if self.connection < connection => Readiness::Behind,
            Part::Whole => Readiness::Ready,
            Part::Missing => Readiness::Missing,
            Part::Overtaken => Readiness::Overtaken,
        }
    }
}

impl Mailbox {
    pub(crate) fn new(id: ConsumerId, destination: Destination, rules: Rules, audit: Arc<Audit>) -> Self {
        Self {
            id: id.clone(),
            destination,
            mode: rules.mode,
            pull: rules.prefetch == 0,
            browses: rules.browses,
            collects: rules.batch.is_some() && !rules.browses,
            state: Mutex::new(State {
                inbox: Inbox::new(id, rules, audit),
                connection: 0,
                started: false,
                ended: None,
                gone: false,
                pulling: false,
                empty_answers: 0,
                acks: Vec::new(),
            }),
            changed: Notify::new(),
            came_again: Notify::new(),
        }
    }

    pub(crate) fn id(&self) -> &ConsumerId {
        &self.id
    }

    pub(crate) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// How its messages are acknowledged.
    pub(crate) fn mode(&self) -> AcknowledgeMode {
        self.mode
    }

    pub(crate) fn browses(&self) -> bool {
        self.browses
    }

    /// Acknowledgements are collected and sent in batches.
    pub(crate) fn collects(&self) -> bool {
        self.collects
    }

    pub(crate) fn pulls(&self) -> bool {
        self.pull
    }

    /// Told whenever it is worth to look again.
    pub(crate) fn changed(&self) -> &Notify {
        &self.changed
    }

    /// A message came. What comes back is for the broker.
    pub(crate) fn dispatch(&self, dispatch: MessageDispatch) -> Result<Option<MessageAck>> {
        let mut state = self.state.lock();
        state.pulling = false;
        let dispatched = state.inbox.dispatch(dispatch)?;
        if matches!(dispatched, Dispatched::Nothing) {
            state.empty_answers += 1;
        }
        let overtakes = state.inbox.part() == Part::Overtaken;
        drop(state);
        self.changed.notify_one();
        if overtakes || matches!(dispatched, Dispatched::Again(_)) {
            self.came_again.notify_waiters();
        }
        match dispatched {
            Dispatched::Again(ack) => Ok(Some(*ack)),
            Dispatched::Ready | Dispatched::Nothing => Ok(None),
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        let mut state = self.state.lock();
        let paused = state.inbox.paused_until(Instant::now()).is_some();
        let deliverable = state.started && state.ended.is_none() && !paused;
        let inbox = &state.inbox;
        Standing {
            arrived: inbox.arrived(),
            waiting: inbox.waiting() as u64,
            unacknowledged: inbox.unacknowledged() as u64,
            deliverable,
        }
    }

    /// It is known to the link from now on, on this physical connection.
    pub(crate) fn begin(&self, connection: u64, started: bool) {
        let mut state = self.state.lock();
        state.connection = connection;
        state.started = started;
    }

    pub(crate) fn set_started(&self, started: bool) {
        self.state.lock().started = started;
        self.changed.notify_waiters();
    }

    pub(crate) fn set_prefetch(&self, prefetch: i32) {
        self.state.lock().inbox.set_prefetch(prefetch);
    }

    /// The connection broke. Says how many messages were not delivered and will come again.
    pub(crate) fn interrupted(&self, connection: u64) -> usize {
        let mut state = self.state.lock();
        let dropped = state.inbox.waiting();
        state.connection = connection;
        state.pulling = false;
        state.inbox.interrupted();
        drop(state);
        self.changed.notify_waiters();
        self.came_again.notify_waiters();
        dropped
    }

    /// There will be nothing more: no broker knows the consumer.
    pub(crate) fn fail(&self, cause: &Error) {
        let mut state = self.state.lock();
        state.ended.get_or_insert_with(|| cause.clone());
        state.gone = true;
        drop(state);
        self.changed.notify_waiters();
        self.came_again.notify_waiters();
    }

    /// How often the broker has said that there is nothing more: it answers pulls so, and ends the snapshot of a browser.
    pub(crate) fn empty_answers(&self) -> u64 {
        self.state.lock().empty_answers
    }

    /// Takes the next message. `enter` gives the transaction it is delivered in, if the session is transacted; see
    /// [`Inbox::next`] for `hold`.
    ///
    /// # Errors
    ///
    /// The consumer or the connection is closed.
    pub(crate) fn take(
        &self,
        hold: bool,
        out: Out<'_>,
        enter: impl FnOnce() -> Result<Option<Transaction>>,
    ) -> Result<Found> {
        let mut state = self.state.lock();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        if !state.started {
            return Ok(Found::Nothing(None));
        }
        let now = Instant::now();
        let due = state.inbox.wake(now);
        if state.inbox.is_empty() {
            return Ok(Found::Nothing(due));
        }
        if let Some(until) = state.inbox.paused_until(now) {
            return Ok(Found::Nothing(Some(until)));
        }
        let transaction = enter()?;
        let id = transaction.as_ref().map(|transaction| &transaction.id);
        let mut acks = std::mem::take(&mut state.acks);
        let next = state.inbox.next(now_millis(), id, hold, &mut acks);
        let receipts = self.post(&mut state, acks, transaction.as_ref(), out)?;
        Ok(match next {
            Next::Nothing => Found::Nothing(due),
            Next::Message(message) => {
                out.counters.delivered.add(1);
                out.counters
                    .redelivered
                    .add((message.redelivery_counter > 0).into());
                let connection = state.connection;
                Found::Message(Taken {
                    message,
                    connection,
                    receipts,
                })
            }
        })
    }

    /// Asks the broker for a message unless it was asked already. `timeout` is the command's.
    ///
    /// # Errors
    ///
    /// The connection is closed.
    pub(crate) fn ask(&self, timeout: i64, link: &Link) -> Result<()> {
        let mut state = self.state.lock();
        if state.pulling || !state.started || !state.inbox.is_empty() {
            return Ok(());
        }
        let pull = MessagePull {
            consumer_id: Some(self.id.clone()),
            destination: Some(self.destination.clone()),
            timeout,
            ..MessagePull::default()
        };
        link.post(Box::new(pull), Guard::Connection(state.connection))?;
        state.pulling = true;
        Ok(())
    }

    /// Sends acknowledgements while the lock is held: their order is that of the changes.
    fn post(
        &self,
        state: &mut MutexGuard<'_, State>,
        mut acks: Vec<MessageAck>,
        transaction: Option<&Transaction>,
        out: Out<'_>,
    ) -> Result<Vec<Receipt>> {
        let mut receipts = Vec::new();
        let mut result = Ok(());
        for ack in acks.drain(..) {
            if matches!(ack.ack_type, MessageAck::STANDARD | MessageAck::INDIVIDUAL) {
                let count = u64::try_from(ack.message_count).unwrap_or(0);
                out.counters.acknowledged.add(count);
            }
            // What says nothing about being consumed is never waited for.
            let lazy = ack.ack_type == MessageAck::DELIVERED || ack.ack_type == MessageAck::REDELIVERED;
            let guard = match (&ack.transaction_id, transaction) {
                (Some(_), Some(transaction)) => transaction.guard_on(state.connection),
                _ => Guard::Connection(state.connection),
            };
            if out.one_way || lazy || ack.transaction_id.is_some() {
                let posted = out.link.post(Box::new(ack), guard);
                result = result.and(posted);
            } else {
                match out.link.post_request(Box::new(ack), guard) {
                    Ok(receipt) => receipts.push(receipt),
                    Err(error) => result = Err(error),
                }
            }
        }
        state.acks = acks;
        let noted = std::mem::take(&mut state.inbox.noted);
        out.counters.expired.add(noted.expired);
        out.counters.duplicates.add(noted.duplicates);
        out.counters.poisoned.add(noted.poisoned);
        result.map(|()| receipts)
    }

    /// Changes the inbox and sends what follows from it.
    fn change<T>(
        &self,
        out: Out<'_>,
        transaction: Option<&Transaction>,
        change: impl FnOnce(&mut State, &mut Vec<MessageAck>) -> T,
    ) -> Result<(T, Vec<Receipt>)> {
        let mut state = self.state.lock();
        let mut acks = std::mem::take(&mut state.acks);
        let value = change(&mut state, &mut acks);
        let receipts = self.post(&mut state, acks, transaction, out)?;
        Ok((value, receipts))
    }

    /// The listener is done with a message.
    pub(crate) fn processed(&self, message: &Message, out: Out<'_>) -> Result<Vec<Receipt>> {
        self.change(out, None, |state, acks| state.inbox.processed(message, acks))
            .map(|(_, receipts)| receipts)
    }

    /// The listener failed on a message.
    pub(crate) fn failed(&self, message: &Message, why: &str, out: Out<'_>) -> Result<()> {
        self.change(out, None, |state, acks| {
            state
                .inbox
                .failed(message, Instant::now(), environment::random(), why, acks);
        })?;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Everything delivered is consumed. Says how many messages that were.
    pub(crate) fn acknowledge_all(&self, out: Out<'_>) -> Result<(usize, Vec<Receipt>)> {
        self.change(out, None, |state, acks| state.inbox.acknowledge_all(acks))
    }

    /// One message is consumed. None if it does not wait for that.
    pub(crate) fn acknowledge_one(
        &self,
        id: &MessageId,
        connection: u64,
        out: Out<'_>,
    ) -> Result<Option<Vec<Receipt>>> {
        let (found, receipts) = self.change(out, None, |state, acks| {
            state.connection == connection && state.inbox.acknowledge_one(id, acks)
        })?;
        Ok(found.then_some(receipts))
    }

    /// Everything delivered and not acknowledged is delivered again.
    pub(crate) fn recover(&self, out: Out<'_>) -> Result<()> {
        self.change(out, None, |state, acks| {
            state.inbox.recover(Instant::now(), environment::random(), acks)
        })?;
        self.changed.notify_waiters();
        Ok(())
    }

    /// The current transaction of the session is being completed.
    pub(crate) fn begin_completion(&self) {
        self.state.lock().inbox.begin_completion();
    }

    /// Waits until everything that the transaction has received from here came over this physical connection, or until it
    /// is clear that it will not.
    ///
    /// # Errors
    ///
    /// The connection is closed.
    pub(crate) async fn ready(&self, connection: u64, link: &Link) -> Result<Readiness> {
        let mut grace = None;
        loop {
            let mut came_again = pin!(self.came_again.notified());
            came_again.as_mut().enable();
            let readiness = self.state.lock().readiness(connection);
            grace = match readiness {
                Readiness::Overtaken => grace.or_else(|| Instant::now().checked_add(GRACE)),
                _ => None,
            };
            match readiness {
                Readiness::Behind => {}
                // Nothing comes unasked. It is among the first that the broker has.
                Readiness::Missing | Readiness::Overtaken if self.pull => self.ask(0, link)?,
                Readiness::Missing | Readiness::Overtaken => {}
                settled => return Ok(settled),
            }
            if timeout_at(grace, came_again).await?.is_none() {
                return Ok(Readiness::Lost);
            }
        }
    }

    /// Acknowledges in a transaction that is being completed. False if that cannot be done over this connection.
    ///
    /// # Errors
    ///
    /// The connection is closed.
    pub(crate) fn settle(&self, transaction: &Transaction, connection: u64, out: Out<'_>) -> Result<bool> {
        let (settled, _) = self.change(out, Some(transaction), |state, acks| {
            let ready = state.readiness(connection) == Readiness::Ready;
            if ready {
                state.inbox.settle(&transaction.id, acks);
            }
            ready
        })?;
        Ok(settled)
    }

    /// The transaction was committed.
    pub(crate) fn committed(&self) {
        self.state.lock().inbox.committed();
    }

    /// The transaction was rolled back: its messages are delivered again.
    ///
    /// # Errors
    ///
    /// The connection is closed.
    pub(crate) fn rolled_back(&self, out: Out<'_>) -> Result<()> {
        self.change(out, None, |state, acks| {
            state
                .inbox
                .rolled_back(Instant::now(), environment::random(), acks);
        })?;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Nobody knows what became of the transaction.
    pub(crate) fn abandoned(&self) {
        self.state.lock().inbox.abandoned();
    }

    /// True if a transaction that is open has consumed messages from here.
    pub(crate) fn in_transaction(&self) -> bool {
        self.state.lock().inbox.in_transaction()
    }

    /// What is left of a batch of acknowledgements is sent, without what a listener has in hand. False if the consumer has
    /// ended.
    ///
    /// # Errors
    ///
    /// The connection is closed.
    pub(crate) fn flush_finished(&self, out: Out<'_>) -> Result<bool> {
        let (ended, _) = self.change(out, None, |state, acks| {
            state.inbox.flush_finished(acks);
            state.ended.is_some()
        })?;
        Ok(!ended)
    }

    /// A branch of a distributed transaction is not worked on any more. False if what it has received did not come over
    /// this physical connection.
    ///
    /// # Errors
    ///
    /// The connection is closed.
    pub(crate) fn end_branch(&self, branch: &Transaction, over: u64, out: Out<'_>) -> Result<bool> {
        let (whole, _) = self.change(out, Some(branch), |state, acks| {
            state.inbox.end_branch(&branch.id, acks);
            state.connection == over
        })?;
        Ok(whole)
    }

    /// The branch was committed.
    pub(crate) fn branch_committed(&self, branch: &TransactionId) {
        self.state.lock().inbox.branch_committed(branch);
    }

    /// The branch was rolled back: its messages are delivered again.
    ///
    /// # Errors
    ///
    /// The connection is closed.
    pub(crate) fn branch_rolled_back(&self, branch: &TransactionId, out: Out<'_>) -> Result<()> {
        self.change(out, None, |state, acks| {
            let (now, random) = (Instant::now(), environment::random());
            state.inbox.branch_rolled_back(branch, now, random, acks);
        })?;
        self.changed.notify_waiters();
        Ok(())
    }

    /// Nobody knows what becomes of the branch.
    pub(crate) fn branch_abandoned(&self, branch: &TransactionId) {
        self.state.lock().inbox.branch_abandoned(branch);
    }

    /// Ends the delivery and says which message was the last.
    pub(crate) fn end(&self, reason: Error, out: Out<'_>) -> i64 {
        let last = self.change(out, None, |state, acks| {
            state.ended.get_or_insert(reason);
            state.inbox.flush(acks);
            state.inbox.last_delivered()
        });
        self.changed.notify_waiters();
        last.map_or(RemoveInfo::UNKNOWN_DELIVERED, |(last, _)| last)
    }

    /// The command that takes leave of the broker.
    pub(crate) fn farewell(&self, last_delivered: i64) -> RemoveInfo {
        RemoveInfo {
            object_id: Some(EntityId::Consumer(self.id.clone())),
            last_delivered_sequence_id: last_delivered,
            ..RemoveInfo::default()
        }
    }
}
