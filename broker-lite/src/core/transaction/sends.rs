//! What was sent in a transaction and waits for its outcome.
//!
//! A few messages wait in memory. What comes beyond [`RESIDENT`], or finds no room, is stored at once on a destination
//! of the transaction's own, and its body leaves memory; a commit moves it to its queue.

use std::hash::Hash;
use std::sync::Arc;

use openwire_client::wire::{Destination, Message, MessageId, ProducerId};
use rustc_hash::FxHashMap;

use super::TransactionKey;
use super::xa::State;
use crate::core::destinations::Target;
use crate::core::effect::ConnectionKey;
use crate::core::once::Once;
use crate::core::queue::{Entry, QueueKey};
use crate::core::refusal::{Refusal, XAER_PROTO};
use crate::core::route::Routes;
use crate::core::spool::Spooled;
use crate::core::{Core, Turn};
use crate::store::{DestinationKey, MessageKey, Op, StoredDestination, accounting_size};

/// Bytes of messages of one transaction that wait in memory although they could be stored: a commit of a
/// transaction that has no more writes each of them once and reads none.
pub(super) const RESIDENT: usize = 8 * 1024 * 1024;

/// A message that was sent in a transaction.
#[derive(Debug, Clone)]
pub(super) enum Sent {
    /// In memory and, if it is `stored`, in the store as well. The sequence is its place among the others there.
    Here {
        message: Arc<Message>,
        sequence: u64,
        stored: bool,
    },
    /// In the store, and all is known that a commit has to know.
    Stored(Spilled),
    /// In the store, and where it goes has to be read there.
    Unread { sequence: u64, size: u32 },
}

impl Sent {
    fn is_persistent(&self) -> bool {
        match self {
            Self::Here { message, .. } => message.persistent,
            Self::Stored(_) | Self::Unread { .. } => true,
        }
    }
}

/// What a commit has to know of a message that it moves to its queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spilled {
    sequence: u64,
    size: u32,
    redelivered: u32,
    priority: u8,
    /// Which of the transaction's queues it goes to.
    queue: u32,
    /// Which of the transaction's producers sent it, and its number there.
    sender: Option<(u32, i64)>,
}

/// Values that are kept once and named by numbers.
#[derive(Debug)]
struct Interned<T> {
    values: Vec<T>,
    numbers: FxHashMap<T, u32>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            numbers: FxHashMap::default(),
        }
    }
}

impl<T: Clone + Eq + Hash> Interned<T> {
    fn number(&mut self, value: &T) -> u32 {
        if let Some(&number) = self.numbers.get(value) {
            return number;
        }
        let number = self.values.len() as u32;
        self.values.push(value.clone());
        self.numbers.insert(value.clone(), number);
        number
    }

    fn get(&self, number: u32) -> Option<&T> {
        self.values.get(number as usize)
    }
}

/// The messages of a transaction, in order.
#[derive(Debug, Default)]
pub(super) struct Sends {
    pub(super) list: Vec<Sent>,
    /// Bytes of those in memory, as the broker counts them.
    pub(super) resident: usize,
    /// Where those in the store lie.
    pub(super) destination: Option<DestinationKey>,
    /// The store was told of that, and has not refused it.
    pub(super) created: bool,
    /// Batches with messages of it that the store has not answered.
    pub(super) unanswered: u32,
    /// How many were not read since the broker started.
    pub(super) unread: usize,
    queues: Interned<Destination>,
    producers: Interned<ProducerId>,
}

impl Sends {
    /// Those that the store held of a prepared transaction.
    pub(super) fn recovered(destination: DestinationKey, messages: impl Iterator<Item = (u64, u32)>) -> Self {
        let list: Vec<_> = messages
            .map(|(sequence, size)| Sent::Unread { sequence, size })
            .collect();
        Self {
            unread: list.len(),
            list,
            destination: Some(destination),
            created: true,
            ..Self::default()
        }
    }

    /// True if a commit can be gone through with what is known.
    pub(super) fn is_settled(&self) -> bool {
        self.unanswered == 0 && self.unread == 0
    }

    /// True if some of them belong in the store.
    pub(super) fn any_persistent(&self) -> bool {
        self.list.iter().any(Sent::is_persistent)
    }

    /// The store refused those that are in memory.
    pub(super) fn forget_stored(&mut self) {
        for sent in &mut self.list {
            if let Sent::Here { stored, .. } = sent {
                *stored = false;
            }
        }
    }

    pub(super) fn key(&self, sequence: u64) -> Option<MessageKey> {
        let destination = self.destination?;
        Some(MessageKey {
            destination,
            sequence,
        })
    }

    pub(super) fn spilled(&mut self, sequence: u64, message: &Message, queue: &Destination) -> Spilled {
        let sender = message.message_id.as_ref().and_then(|id| {
            Some((
                self.producers.number(id.producer_id.as_ref()?),
                id.producer_sequence_id,
            ))
        });
        Spilled {
            sequence,
            size: accounting_size(message),
            redelivered: message.redelivery_counter.max(0) as u32,
            priority: message.priority.clamp(0, 9) as u8,
            queue: self.queues.number(queue),
            sender,
        }
    }

    fn id(&self, spilled: &Spilled) -> Option<MessageId> {
        let (producer, number) = spilled.sender?;
        Some(MessageId {
            producer_id: Some(self.producers.get(producer)?.clone()),
            producer_sequence_id: number,
            ..MessageId::default()
        })
    }
}

impl Core {
    /// A message is sent in a transaction.
    ///
    /// Where there is no room for it, a persistent one is stored; any other is refused, and the transaction cannot be
    /// committed. Its producer is never paused, because the commit that makes room would not be read.
    pub(in crate::core) fn send_in(
        &mut self,
        from: ConnectionKey,
        open: TransactionKey,
        routes: &Routes,
        mut message: Arc<Message>,
        awaited: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let replayed = self.connections[from.0 as usize].failover_reconnect();
        let size = accounting_size(&message);
        let room = self.memory_used.saturating_add(size as usize) <= self.config.memory_limit;
        let queue = match routes {
            Routes::One(Target::Queue(queue)) if self.keeps(*queue, &message) => Some(*queue),
            _ => None,
        };
        let Some(transaction) = self.transactions.get_mut(open) else {
            return Ok(());
        };
        match transaction.state() {
            State::Open if transaction.asked.is_none() => {}
            // A client that came back sends again what it had sent in a transaction that it had prepared.
            State::Prepared | State::Preparing | State::Echo if replayed => {
                self.stats.duplicates += 1;
                return Ok(());
            }
            _ => {
                return Err(Refusal::xa(
                    "Cannot send in a transaction that has ended",
                    XAER_PROTO,
                ));
            }
        }
        if let Some(why) = &transaction.failed {
            // Its commit will say so; what it is told here it is told once.
            return match awaited {
                true => Err(Refusal::rolled_back(why.clone())),
                false => Ok(()),
            };
        }
        let most = self.config.max_uncommitted;
        if most > 0 && transaction.sends.list.len() >= most {
            let id = message.transaction_id.as_ref().map(ToString::to_string);
            self.drop_transaction(from, open, turn);
            return Err(Refusal::resources(format!(
                "Can not send message on transaction with id: '{}', Transaction has reached the maximum allowed \
                 number of pending send operations before commit of '{most}'",
                id.unwrap_or_default()
            )));
        }
        Arc::make_mut(&mut message).response_required = false;
        match queue {
            Some(queue) if !room || transaction.sends.resident + size as usize > RESIDENT => {
                self.spill(open, queue, message, turn);
            }
            _ if room => {
                transaction.sends.resident += size as usize;
                self.memory_used += size as usize;
                // Whether it is stored later or not, it keeps its place.
                self.sequence += 1;
                transaction.sends.list.push(Sent::Here {
                    message,
                    sequence: self.sequence,
                    stored: false,
                });
            }
            _ => {
                self.stats.refused += 1;
                let why = format!(
                    "the broker's memory limit of {} bytes is reached, and only persistent messages for one queue \
                     each can wait for the commit in the store",
                    self.config.memory_limit
                );
                self.fail_transaction(open, &why);
                return Err(Refusal::resources(why));
            }
        }
        Ok(())
    }

    /// Stores a message of a transaction, which need not be in memory from then on.
    fn spill(
        &mut self,
        open: TransactionKey,
        queue: QueueKey,
        mut message: Arc<Message>,
        turn: &mut Turn<'_>,
    ) {
        self.sequence += 1;
        let Some((key, created)) = self.store_sent(open, self.sequence, &mut message, turn) else {
            return;
        };
        let begins = self.batch(turn).note_sent(open, created);
        let queue = &self.queues[queue.0].destination;
        if let Some(transaction) = self.transactions.get_mut(open) {
            let sends = &mut transaction.sends;
            sends.unanswered += u32::from(begins);
            let spilled = sends.spilled(key.sequence, &message, queue);
            sends.list.push(Sent::Stored(spilled));
        }
    }

    /// Puts a message on the transaction's destination; true if that was made for it.
    fn store_sent(
        &mut self,
        open: TransactionKey,
        sequence: u64,
        message: &mut Arc<Message>,
        turn: &mut Turn<'_>,
    ) -> Option<(MessageKey, bool)> {
        let (destination, created) = self.sent_destination(open, turn)?;
        let fields = Arc::make_mut(message);
        fields.broker_in_time = turn.now;
        if let Some(id) = &mut fields.message_id {
            id.broker_sequence_id = sequence as i64;
        }
        let key = MessageKey {
            destination,
            sequence,
        };
        let message = message.clone();
        turn.effects.store([Op::Put { key, message }], None);
        Some((key, created))
    }

    /// Where messages of this transaction lie in the store; true if it is made now.
    pub(super) fn sent_destination(
        &mut self,
        open: TransactionKey,
        turn: &mut Turn<'_>,
    ) -> Option<(DestinationKey, bool)> {
        let sends = &mut self.transactions.get_mut(open)?.sends;
        if let Some(destination) = sends.destination
            && sends.created
        {
            return Some((destination, false));
        }
        let key = sends.destination.unwrap_or_else(|| {
            self.next_destination += 1;
            DestinationKey(self.next_destination - 1)
        });
        (sends.destination, sends.created) = (Some(key), true);
        self.transactions.stored.insert(key, open);
        let destination = StoredDestination::Transaction;
        turn.effects
            .store([Op::CreateDestination { key, destination }], None);
        Some((key, true))
    }

    /// Stores what a transaction that is prepared has in memory and must not lose.
    pub(super) fn store_resident(&mut self, open: TransactionKey, turn: &mut Turn<'_>) {
        let Some(transaction) = self.transactions.get_mut(open) else {
            return;
        };
        let mut list = std::mem::take(&mut transaction.sends.list);
        for sent in &mut list {
            if let Sent::Here {
                message,
                sequence,
                stored,
            } = sent
                && message.persistent
            {
                *stored = self.store_sent(open, *sequence, message, turn).is_some();
            }
        }
        if let Some(transaction) = self.transactions.get_mut(open) {
            transaction.sends.list = list;
        }
    }

    /// Puts what was sent where it goes. A branch looks for duplicates when it begins; `from` is the connection of a
    /// local transaction.
    pub(super) fn put_sends(
        &mut self,
        sends: &Sends,
        list: Vec<Sent>,
        from: Option<ConnectionKey>,
        turn: &mut Turn<'_>,
    ) -> Vec<QueueKey> {
        let mut queues = Once::default();
        let tied = turn.effects.has_store() || list.iter().any(|sent| self.stores_sent(sent, turn.now));
        for sent in list {
            match sent {
                Sent::Here {
                    message,
                    sequence,
                    stored,
                } => {
                    self.memory_used -= accounting_size(&message) as usize;
                    if from.is_some_and(|from| self.is_duplicate(from, &message)) {
                        self.pass_duplicate(turn);
                        continue;
                    }
                    let of = sends.key(sequence).filter(|_| stored);
                    match (self.route(&message, turn), of) {
                        (Ok(Routes::One(Target::Queue(queue))), Some(of)) if self.keeps(queue, &message) => {
                            let entry = entry_of(message);
                            let id = entry.body.as_ref().and_then(|message| message.message_id.clone());
                            self.move_to_queue(queue, of, entry, id, &mut queues, turn);
                        }
                        (Ok(routes), _) => {
                            self.put_all(routes, message, tied, &mut queues, turn);
                        }
                        // A temporary destination that went away since: nobody is left to receive it.
                        (Err(_), _) => self.stats.discarded += 1,
                    }
                }
                Sent::Stored(spilled) => {
                    let id = sends.id(&spilled);
                    let known = id.as_ref().is_some_and(|id| self.audit.is_duplicate(id));
                    if known
                        && from.is_some_and(|from| self.connections[from.0 as usize].failover_reconnect())
                    {
                        self.pass_duplicate(turn);
                        continue;
                    }
                    let target = sends
                        .queues
                        .get(spilled.queue)
                        .map(|queue| self.resolve_for_send(queue, turn));
                    match (target, sends.key(spilled.sequence)) {
                        (Some(Ok(Target::Queue(queue))), Some(of)) => {
                            let entry = Entry {
                                sequence: 0,
                                size: spilled.size,
                                redelivered: spilled.redelivered,
                                stored: true,
                                tied: false,
                                spooled: Spooled::No,
                                priority: spilled.priority,
                                body: None,
                            };
                            self.move_to_queue(queue, of, entry, id, &mut queues, turn);
                        }
                        _ => self.stats.discarded += 1,
                    }
                }
                // A commit waits until all are read.
                Sent::Unread { .. } => self.stats.discarded += 1,
            }
        }
        self.load_arrivals(turn);
        queues.into_list()
    }

    /// True if the store may be told of a message when its transaction is committed.
    fn stores_sent(&self, sent: &Sent, now: i64) -> bool {
        let Sent::Here { message, stored, .. } = sent else {
            return true;
        };
        if *stored || !self.config.stored {
            return *stored;
        }
        if !message.persistent {
            return matches!(self.schedule_of(message, now), Ok(Some(_)));
        }
        let target = message
            .destination
            .as_ref()
            .and_then(|of| self.destinations.get(of));
        // What is not there is made, and what passes messages on may pass them to a queue.
        target.is_none_or(|&target| self.passes_on(target) || self.stores(target, message))
            || matches!(self.schedule_of(message, now), Ok(Some(_)))
    }

    fn pass_duplicate(&mut self, turn: &mut Turn<'_>) {
        self.stats.duplicates += 1;
        if self.config.stored {
            // The answer waits for what is on its way into the store.
            turn.effects.store([], None);
        }
    }

    /// A message that lies at `of` in the store goes to a queue.
    fn move_to_queue(
        &mut self,
        queue: QueueKey,
        of: MessageKey,
        mut entry: Entry,
        id: Option<MessageId>,
        queues: &mut Once<QueueKey>,
        turn: &mut Turn<'_>,
    ) {
        self.sequence += 1;
        let sequence = self.sequence;
        if let Some(id) = &id {
            self.audit.taken(id);
        }
        self.stats.enqueued += 1;
        queues.add(queue);
        let destination = self.stored_key(queue, turn);
        let to = MessageKey {
            destination,
            sequence,
        };
        turn.effects.store([Op::Move { from: of, to }], None);
        self.batch(turn).put(queue, sequence, id.as_ref());
        entry.sequence = sequence;
        if let Some(message) = &mut entry.body {
            let fields = Arc::make_mut(message);
            if let Some(id) = &mut fields.message_id {
                id.broker_sequence_id = sequence as i64;
            }
        }
        self.count(queue, &entry);
        self.queues[queue.0].counts.enqueue(&entry);
        if entry.body.is_some() {
            self.resident_used += entry.size as usize;
        }
        self.note_moved(queue, to, &entry, turn);
        self.put_waiting(queue, entry, turn.now);
    }

    /// The destination of a transaction goes, with all that lies on it; none of it is needed any more.
    pub(super) fn remove_sent_destination(&mut self, sends: &Sends, turn: &mut Turn<'_>) {
        if let Some(key) = sends.destination {
            self.transactions.stored.remove(&key);
            if sends.created {
                self.remove_stored(key, turn);
            }
        }
    }
}

/// A stored message that is in memory as well, as it stands on a queue.
fn entry_of(message: Arc<Message>) -> Entry {
    Entry {
        sequence: 0,
        size: accounting_size(&message),
        redelivered: message.redelivery_counter.max(0) as u32,
        stored: true,
        tied: false,
        spooled: Spooled::No,
        priority: message.priority.clamp(0, 9) as u8,
        body: Some(message),
    }
}
