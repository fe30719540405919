//! What was written and not answered yet, and what becomes of it when the connection breaks.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::doubt::{Doubt, Doubts, Moment};
use super::guard::{Guard, TransactionGuard};
use super::outbox::{Item, Reply, weight};
use super::tracker::Tracker;
use crate::error::{Error, ErrorKind, Unfinished};
use crate::wire::{
    Command, DestinationInfo, EntityId, RemoveInfo, Response, TransactionId, TransactionInfo,
    TransactionOutcomes,
};
use crate::xa::XaCode;

/// Unanswered requests are searched for those nobody waits for any more when there are this many, and then
/// whenever they have doubled.
const PURGE_AT: usize = 1024;

/// The books of a logical connection: they outlive the physical ones.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// Taken from the outbox, not yet written.
    pub(crate) staged: VecDeque<Item>,
    /// The state to restore; none if a break is the end.
    tracker: Option<Tracker>,
    pending: FxHashMap<i32, Pending>,
    doubts: Doubts,
    /// What the broker announces.
    outcomes: Option<TransactionOutcomes>,
    restoring: Restoring,
    purge_at: usize,
    /// Counts what is written, to keep its order.
    sequence: u64,
    one_way: OneWay,
}

#[derive(Debug)]
struct Pending {
    reply: Reply,
    /// What to send again; none if a break is the end, or if the tracker repeats it.
    again: Option<Command>,
    /// What the broker removes when it refuses.
    entity: Option<Tracked>,
    completion: Option<Completion>,
    /// The branch of a distributed transaction whose outcome it asks for.
    branch: Option<TransactionId>,
    guard: Guard,
    sequence: u64,
    /// Where the frame begins in the bytes of the connection.
    position: u64,
    /// How many one-way messages and acknowledgements were written before it.
    one_way: u64,
    acknowledgements: u64,
    kind: Kind,
}

/// What a command counts for when it is not out at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Message,
    Acknowledgement,
    /// It ends a transaction.
    Completion,
    Other,
}

/// A request that ends a local transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Completion {
    id: TransactionId,
    commit: bool,
}

/// What the tracker learnt from a request, to be forgotten if the broker refuses.
#[derive(Debug)]
enum Tracked {
    Entity(EntityId),
    Destination(DestinationInfo),
}

/// Messages sent without waiting: any later answer proves that the broker has taken them in.
#[derive(Debug, Default)]
struct OneWay {
    written: u64,
    confirmed: u64,
    /// The same of acknowledgements.
    acknowledgements_written: u64,
    acknowledgements_confirmed: u64,
    /// `trackMessages`: those not confirmed, to be sent again.
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// `maxCacheSize`; 0 keeps none.
    limit: usize,
}

#[derive(Debug)]
struct Kept {
    number: u64,
    sequence: u64,
    command: Command,
}

impl OneWay {
    fn written(&mut self, command: &Command, sequence: u64) {
        self.written += 1;
        if self.limit == 0 {
            return;
        }
        self.kept_bytes += weight(command);
        self.kept.push_back(Kept {
            number: self.written,
            sequence,
            command: command.clone(),
        });
        while self.kept_bytes > self.limit {
            self.drop_oldest();
        }
    }

    fn confirm(&mut self, number: u64) {
        self.confirmed = self.confirmed.max(number);
        while self
            .kept
            .front()
            .is_some_and(|kept| kept.number <= self.confirmed)
        {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        match self.kept.pop_front() {
            Some(kept) => self.kept_bytes -= weight(&kept.command),
            None => self.kept_bytes = 0,
        }
    }
}

impl Traffic {
    /// `keep_messages` is how many bytes of one-way messages are kept to be sent again.
    pub(crate) fn new(tracker: Option<Tracker>, keep_messages: usize) -> Self {
        Self {
            staged: VecDeque::new(),
            tracker,
            pending: FxHashMap::default(),
            doubts: Doubts::default(),
            outcomes: None,
            restoring: Restoring::Done,
            purge_at: PURGE_AT,
            sequence: 0,
            one_way: OneWay {
                limit: keep_messages,
                ..OneWay::default()
            },
        }
    }

    /// Whether a command still means something on connection number `connection`. If not, it is answered here.
    pub(crate) fn admit(&self, item: Item, connection: u64) -> Option<Item> {
        let error = match (item.guard.connection(), item.guard.transaction()) {
            (Some(number), _) if number != connection => cut_off(Kind::of(&item.command)),
            (_, None) => return Some(item),
            (_, Some(guard)) => {
                let admitted = match Completion::of(&item.command) {
                    Some(completion) if completion.commit => guard.begin_commit(),
                    Some(completion) => !guard.is_dead() || self.knows(&completion.id, guard),
                    None => !guard.is_dead(),
                };
                if admitted {
                    return Some(item);
                }
                rolled_back()
            }
        };
        if let Some(reply) = item.reply {
            let rollback = Completion::of(&item.command).is_some_and(|completion| !completion.commit);
            reply.send(if rollback { Ok(response()) } else { Err(error) });
        }
        None
    }

    /// The broker was told of the transaction.
    fn knows(&self, transaction: &TransactionId, guard: &TransactionGuard) -> bool {
        match &self.tracker {
            Some(tracker) => tracker.knows(transaction),
            // There was no other broker.
            None => guard.has_begun(),
        }
    }

    /// A command is being written; its frame begins at `position`.
    pub(crate) fn written(&mut self, item: Item, position: u64) {
        self.sequence += 1;
        let Item {
            command,
            reply,
            guard,
        } = item;
        let repeated = match &mut self.tracker {
            // What belongs to one physical connection is not restored on another one.
            Some(_) if matches!(guard, Guard::Connection(_)) => false,
            Some(tracker) => tracker.observe(&command, guard.transaction()),
            None => false,
        };
        if let (Command::TransactionInfo(info), Some(transaction)) = (&command, guard.transaction())
            && info.step == TransactionInfo::BEGIN
        {
            transaction.begin();
        }
        let Some(reply) = reply else {
            match command {
                // A branch belongs to its physical connection, and what is lost of it its transaction manager hears.
                Command::Message(message) if is_distributed(message.transaction_id.as_ref()) => {}
                Command::Message(_) if !repeated => self.one_way.written(&command, self.sequence),
                Command::MessageAck(_) => self.one_way.acknowledgements_written += 1,
                _ => {}
            }
            return;
        };
        if self.pending.len() >= self.purge_at {
            // Whoever ran out of time is gone, and its request with it.
            let gone = self.pending.extract_if(|_, pending| !pending.reply.matters());
            for completion in gone.filter_map(|(_, pending)| pending.completion) {
                if let Some(tracker) = &mut self.tracker {
                    tracker.end_transaction(&completion.id);
                }
            }
            self.purge_at = PURGE_AT.max(2 * self.pending.len());
        }
        let id = command.command_id();
        let pending = Pending {
            reply,
            kind: Kind::of(&command),
            entity: repeated.then(|| Tracked::of(&command)).flatten(),
            completion: Completion::of(&command),
            branch: branch_outcome(&command),
            again: (self.tracker.is_some() && !repeated).then_some(command),
            guard,
            sequence: self.sequence,
            position,
            one_way: self.one_way.written,
            acknowledgements: self.one_way.acknowledgements_written,
        };
        self.pending.insert(id, pending);
    }

    /// A command could not be written: it has a value that has no encoding, or is too large. The error comes back if
    /// nobody waits for it.
    pub(crate) fn not_written(&mut self, item: Item, error: Error) -> Option<Error> {
        match item.reply {
            Some(reply) => {
                reply.send(Err(error));
                None
            }
            None => Some(error),
        }
    }

    /// A command is being written again.
    pub(crate) fn rewritten(&mut self, command: &Command, position: u64) {
        match self.pending.get_mut(&command.command_id()) {
            Some(pending) if command.response_required() => {
                pending.position = position;
                pending.one_way = self.one_way.written;
                pending.acknowledgements = self.one_way.acknowledgements_written;
            }
            _ => {}
        }
    }

    /// The broker's answer came. False if nobody asked, which is normal after a reconnect.
    pub(crate) fn answered(&mut self, correlation_id: i32, answer: Command) -> bool {
        let Some(pending) = self.pending.remove(&correlation_id) else {
            return self.resolved(correlation_id, &answer);
        };
        self.one_way.confirm(pending.one_way);
        self.one_way.acknowledgements_confirmed = self
            .one_way
            .acknowledgements_confirmed
            .max(pending.acknowledgements);
        let result = match answer {
            Command::ExceptionResponse(response) => {
                if let (Some(tracker), Some(tracked)) = (&mut self.tracker, &pending.entity) {
                    match tracked {
                        Tracked::Entity(id) => tracker.remove(id),
                        Tracked::Destination(info) => tracker.remove_destination(info),
                    }
                }
                Err(Error::from_throwable(response.exception.unwrap_or_default()))
            }
            answer => Ok(answer),
        };
        if let (Some(tracker), Some(completion)) = (&mut self.tracker, &pending.completion) {
            tracker.end_transaction(&completion.id);
        }
        pending.reply.send(result);
        true
    }

    /// The broker's answer to a commit that it, or another one with the same store, had got before.
    fn resolved(&mut self, command_id: i32, answer: &Command) -> bool {
        let Some((doubt, knew)) = self.doubts.answered(command_id, Moment::now) else {
            return false;
        };
        let refused = matches!(answer, Command::ExceptionResponse(_));
        if refused && knew {
            doubt.guard.withdraw_commit();
            if doubt.reply.send(Err(not_committed())) {
                // Whoever commits does so once more, after it was restored.
                return true;
            }
            doubt.guard.kill();
        } else {
            doubt.reply.send(match refused {
                true => Err(in_doubt(&doubt.id)),
                false => Ok(response()),
            });
        }
        self.end_transaction(&doubt.id);
        true
    }

    fn end_transaction(&mut self, id: &TransactionId) {
        if let Some(tracker) = &mut self.tracker {
            tracker.end_transaction(id);
        }
    }

    /// The physical connection broke after `flushed` bytes had left, and there will be another one. Returns how
    /// many one-way messages may be lost.
    pub(crate) fn broken(&mut self, flushed: u64) -> u64 {
        self.restoring = Restoring::Done;
        self.doubts.broken();
        for (id, pending) in std::mem::take(&mut self.pending) {
            if let Some(completion) = pending.completion.clone() {
                self.completion_broken(completion, pending, flushed);
            } else if matches!(pending.again, Some(Command::RemoveInfo(_))) {
                // It went with the connection.
                pending.reply.send(Ok(response()));
            } else if pending.guard.connection().is_some() {
                pending.reply.send(Err(match &pending.branch {
                    Some(branch) if pending.position < flushed => in_doubt(branch),
                    _ => cut_off(pending.kind),
                }));
            } else if pending.reply.matters() {
                self.pending.insert(id, pending);
            }
        }
        let one_way = &mut self.one_way;
        let kept = one_way.kept.len() as u64;
        let lost = one_way.written - one_way.confirmed - kept;
        one_way.confirmed = one_way.written - kept;
        one_way.acknowledgements_confirmed = one_way.acknowledgements_written;
        lost
    }

    /// A transaction was to end when the connection broke.
    fn completion_broken(&mut self, completion: Completion, pending: Pending, flushed: u64) {
        let Completion { id, commit } = completion;
        let Pending {
            reply,
            again,
            guard,
            position,
            ..
        } = pending;
        match (guard.transaction(), again) {
            // No broker has seen it: it is up to whoever commits to do so over the next connection.
            (Some(transaction), _) if commit && position >= flushed => {
                transaction.withdraw_commit();
                reply.send(Err(not_committed()));
            }
            (Some(transaction), Some(again)) if commit && !reply.is_closed() => self.doubts.add(Doubt {
                id,
                commit: again,
                reply,
                guard: transaction.clone(),
                outcomes: self.outcomes.clone(),
            }),
            _ => {
                self.end_transaction(&id);
                reply.send(match commit {
                    true => Err(in_doubt(&id)),
                    false => Ok(response()),
                });
            }
        }
    }

    /// What a new connection begins with. What follows once it is open comes from [`restore_next`](Self::restore_next).
    pub(crate) fn restore(&self) -> Restore {
        let again = self.pending.values().filter(|pending| pending.again.is_some());
        Restore {
            opening: self.tracker.as_ref().map(Tracker::opening).unwrap_or_default(),
            resumed: again.count() as u64 + self.one_way.kept.len() as u64,
        }
    }

    /// A broker that announces `outcomes` has accepted the connection. Commits whose outcome it cannot know stay in
    /// doubt.
    pub(crate) fn opened(&mut self, outcomes: Option<TransactionOutcomes>, now: Moment) {
        for doubt in self.doubts.ask(outcomes.as_ref(), now) {
            self.end_transaction(&doubt.id);
            doubt.reply.send(Err(in_doubt(&doubt.id)));
        }
        self.outcomes = outcomes;
        self.restoring = Restoring::Ask;
    }

    /// What an open connection goes on with before anything else: first it is asked what became of commits, and all the
    /// rest, which depends on that, comes after the answers.
    pub(crate) fn restore_next(&mut self) -> Next {
        match self.restoring {
            Restoring::Done => return Next::Nothing,
            Restoring::Ask => {
                self.restoring = Restoring::Await;
                let questions = self.doubts.questions();
                if !questions.is_empty() {
                    return Next::Commands(questions);
                }
            }
            Restoring::Await => {}
        }
        for abandoned in self.doubts.take_abandoned() {
            self.end_transaction(&abandoned.id);
        }
        if self.doubts.is_asking() {
            return Next::Wait;
        }
        self.restoring = Restoring::Done;
        Next::Commands(self.state())
    }

    /// The broker was asked what became of commits.
    pub(crate) fn is_asking(&self) -> bool {
        self.doubts.is_asking()
    }

    /// The state of the connection, and what was not answered, in the old order and under the old ids. Consumers that
    /// were closed meanwhile are left out.
    fn state(&mut self) -> Vec<Command> {
        let Some(tracker) = &mut self.tracker else {
            return Vec::new();
        };
        for item in &self.staged {
            if let Command::RemoveInfo(RemoveInfo {
                object_id: Some(id), ..
            }) = &item.command
                && matches!(id, EntityId::Consumer(_))
            {
                tracker.remove(id);
            }
        }
        let mut state = tracker.restore();
        let dead = |pending: &Pending| pending.guard.transaction().is_some_and(|guard| guard.is_dead());
        for (_, pending) in self.pending.extract_if(|_, pending| dead(pending)) {
            pending.reply.send(Err(rolled_back()));
        }
        let mut again: Vec<(u64, Command)> = self
            .pending
            .values()
            .filter_map(|pending| Some((pending.sequence, pending.again.clone()?)))
            .chain(
                self.one_way
                    .kept
                    .iter()
                    .map(|kept| (kept.sequence, kept.command.clone())),
            )
            .collect();
        again.sort_by_key(|(sequence, _)| *sequence);
        state.extend(again.into_iter().map(|(_, command)| command));
        state
    }

    /// An answer is missing that somebody waits for; if `all`, any answer.
    pub(crate) fn is_awaited(&self, all: bool) -> bool {
        self.doubts.is_awaited(all)
            || self
                .pending
                .values()
                .any(|pending| all || !pending.reply.is_closed())
    }

    /// What is not out.
    pub(crate) fn unfinished(&self) -> Unfinished {
        let one_way = &self.one_way;
        let mut unfinished = Unfinished {
            unconfirmed: one_way.written - one_way.confirmed,
            acknowledgements: one_way.acknowledgements_written - one_way.acknowledgements_confirmed,
            transactions: self.doubts.len() as u64,
            ..Unfinished::default()
        };
        for pending in self.pending.values() {
            match pending.kind {
                Kind::Message => unfinished.unanswered += 1,
                Kind::Acknowledgement => unfinished.acknowledgements += 1,
                Kind::Completion => unfinished.transactions += 1,
                Kind::Other => {}
            }
        }
        for item in &self.staged {
            match Kind::of(&item.command) {
                Kind::Message => unfinished.unsent += 1,
                Kind::Acknowledgement => unfinished.acknowledgements += 1,
                Kind::Completion => unfinished.transactions += 1,
                Kind::Other => {}
            }
        }
        unfinished
    }

    /// The tracker, if a break is not the end.
    pub(crate) fn tracker(&mut self) -> Option<&mut Tracker> {
        self.tracker.as_mut()
    }

    /// The end: every request and every command that still waits gets `cause`, and commits on their way are in doubt.
    /// Returns how many one-way messages may be lost.
    pub(crate) fn fail(&mut self, cause: &Error, flushed: u64) -> u64 {
        for (_, pending) in self.pending.drain() {
            let commit = pending.completion.as_ref().filter(|completion| completion.commit);
            let error = match commit.map(|commit| &commit.id).or(pending.branch.as_ref()) {
                Some(transaction) if pending.position < flushed => in_doubt(transaction),
                _ => cause.clone(),
            };
            pending.reply.send(Err(error));
        }
        for doubt in self.doubts.drain() {
            doubt.reply.send(Err(in_doubt(&doubt.id)));
        }
        let one_way = &self.one_way;
        let mut lost = one_way.written - one_way.confirmed;
        for item in self.staged.drain(..) {
            match item.reply {
                Some(reply) => {
                    reply.send(Err(cause.clone()));
                }
                None => lost += u64::from(matches!(item.command, Command::Message(_))),
            }
        }
        lost
    }
}

/// What a new connection begins with.
#[derive(Debug, Default)]
pub(crate) struct Restore {
    /// The commands that open the connection.
    pub(crate) opening: Vec<Command>,
    /// How many commands are sent again because they were not answered.
    pub(crate) resumed: u64,
}

/// What an open connection goes on with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// These go before everything else.
    Commands(Vec<Command>),
    /// Answers are awaited on which all the rest depends.
    Wait,
    /// All was restored.
    Nothing,
}

/// How far the restoring is.
#[derive(Debug, PartialEq, Eq)]
enum Restoring {
    /// The broker is to be asked what became of commits.
    Ask,
    /// Its answers are awaited.
    Await,
    Done,
}

impl Kind {
    fn of(command: &Command) -> Self {
        match command {
            Command::Message(_) => Self::Message,
            Command::MessageAck(_) => Self::Acknowledgement,
            _ if Completion::of(command).is_some() || branch_outcome(command).is_some() => Self::Completion,
            _ => Self::Other,
        }
    }
}

impl Completion {
    fn of(command: &Command) -> Option<Self> {
        let Command::TransactionInfo(info) = command else {
            return None;
        };
        let commit = match info.step {
            TransactionInfo::COMMIT_ONE_PHASE => true,
            TransactionInfo::ROLLBACK => false,
            _ => return None,
        };
        let id = info.transaction_id.clone()?;
        (!is_distributed(Some(&id))).then_some(Self { id, commit })
    }
}

fn is_distributed(transaction: Option<&TransactionId>) -> bool {
    matches!(transaction, Some(TransactionId::Xa(_)))
}

/// The branch of a distributed transaction whose outcome, or readiness, the command asks for.
fn branch_outcome(command: &Command) -> Option<TransactionId> {
    let Command::TransactionInfo(info) = command else {
        return None;
    };
    let asks = matches!(
        info.step,
        TransactionInfo::PREPARE
            | TransactionInfo::COMMIT_ONE_PHASE
            | TransactionInfo::COMMIT_TWO_PHASE
            | TransactionInfo::ROLLBACK
    );
    info.transaction_id
        .clone()
        .filter(|id| asks && is_distributed(Some(id)))
}

impl Tracked {
    fn of(command: &Command) -> Option<Self> {
        Some(match command {
            Command::ProducerInfo(info) => Self::Entity(EntityId::Producer(info.producer_id.clone()?)),
            Command::ConsumerInfo(info) => Self::Entity(EntityId::Consumer(info.consumer_id.clone()?)),
            Command::DestinationInfo(info) => Self::Destination(info.clone()),
            _ => return None,
        })
    }
}

pub(super) fn response() -> Command {
    Command::from(Response::default())
}

/// What belongs to a connection that is gone.
fn cut_off(kind: Kind) -> Error {
    match kind {
        // Its consumer takes the message for consumed, whatever the broker does.
        Kind::Acknowledgement => Error::new(
            ErrorKind::InDoubt,
            "the connection broke before the acknowledgement was answered: the message is consumed, or comes again \
             and is then acknowledged without being shown",
        ),
        // Of messages only those of distributed transactions belong to one connection.
        Kind::Message => Error::xa(
            XaCode::RolledBackConnection,
            "the branch of the message was rolled back: its connection broke before it was prepared",
        ),
        _ => interrupted(),
    }
}

pub(super) fn interrupted() -> Error {
    Error::new(
        ErrorKind::Interrupted,
        "the connection broke since the message was delivered: it is delivered again",
    )
}

/// For whoever commits: it has not happened, and can be tried again.
fn not_committed() -> Error {
    Error::new(
        ErrorKind::Interrupted,
        "the connection broke before the transaction was committed",
    )
}

pub(super) fn rolled_back() -> Error {
    Error::new(
        ErrorKind::TransactionRolledBack,
        "the transaction was rolled back because the connection broke",
    )
}

fn in_doubt(transaction: &TransactionId) -> Error {
    Error::commit_in_doubt(
        transaction,
        "the connection broke after it was sent and before it was answered",
    )
}

#[cfg(test)]
mod tests;
