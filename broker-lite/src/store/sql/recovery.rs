//! Reads the tables when the store is opened: what we know, and what an ActiveMQ that was master meanwhile made of it.
//!
//! ActiveMQ knows nothing of our tables, so what they say may be of messages that are gone. The messages themselves and
//! how far subscriptions have acknowledged are always taken from ActiveMQ's tables:
//!
//! * A note counts if its message is there, and is the one that was meant.
//! * A message of a topic that is noted for a subscription is for those that it is noted for and whose acknowledgements
//!   have not passed it. One that is not noted at all was put by ActiveMQ: it is for all whose acknowledgements have not
//!   passed it and whose selector it matches.
//! * A subscription that ActiveMQ knew and knows no more is gone.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use openwire_client::wire::{DestinationKind, Message, ProducerId};
use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use super::super::state::{Counter, initial_redelivered, producer_of};
use super::super::{
    Committed, DestinationKey, MessageKey, Prepared, StoreError, StoredDestination, StoredSubscription,
    StoredXid,
};
use super::body::{decode, mark};
use super::changes::{Row, SubscriptionName};
use super::index::{Acks, At, Index, Topic};
use super::producers::Producers;
use super::schema::{
    ACKS, DESTINATIONS, HELD, MESSAGES, NOTES, OUTCOMES, OWN_MESSAGES, PRODUCERS, QUEUE, RETAINED, SCHEDULE,
    SUBSCRIPTION, TRANSACTION,
};
use super::statements::{Session, bytes, id, number, text};
use super::{Matches, failed};

/// What `BROKERLITE_NOTES` says of a message.
#[derive(Debug, Clone, Copy)]
struct Note {
    row: u64,
    mark: u32,
    counter: Counter,
    due: Option<(i64, u32)>,
}

/// What ActiveMQ's acknowledgements say of a subscription on a topic.
#[derive(Debug, Default)]
struct Acked {
    /// `LAST_ACKED_ID`, by priority where ActiveMQ keeps it so.
    last: FxHashMap<i64, i64>,
}

impl Acked {
    /// True if the row is not acknowledged.
    fn is_pending(&self, id: u64, priority: i64) -> bool {
        let last = match self.last.len() {
            0 => return true,
            1 => self.last.values().next(),
            _ => self.last.get(&priority),
        };
        last.is_none_or(|&last| id as i64 > last)
    }
}

/// Everything is read into these.
pub(super) struct Recovery<'m> {
    pub(super) index: Index,
    pub(super) producers: Producers,
    matches: &'m Matches,
    notes: FxHashMap<MessageKey, Note>,
    /// Which subscriptions' notes are of a row.
    noted: FxHashMap<u64, Vec<MessageKey>>,
    acked: FxHashMap<DestinationKey, FxHashMap<Topic, Acked>>,
    /// The subscriptions on a topic.
    subscribed: FxHashMap<Topic, Vec<DestinationKey>>,
    queues: FxHashMap<Arc<str>, DestinationKey>,
    subscriptions: FxHashMap<SubscriptionName, DestinationKey>,
    /// Those that ActiveMQ knew of.
    known: FxHashSet<DestinationKey>,
    /// Of destinations with messages that ActiveMQ put: the first one of those, and the last one of ours.
    foreign: FxHashMap<DestinationKey, (u64, u64)>,
    largest: i64,
    /// The next number we would have given out.
    next: u64,
}

impl<'m> Recovery<'m> {
    /// `next_sequence` and `next_destination` are what the store gave out last.
    pub(super) fn new(matches: &'m Matches, next_sequence: u64, next_destination: u32) -> Self {
        let mut index = Index::default();
        index.state.next_sequence = next_sequence;
        index.state.next_destination = next_destination;
        Self {
            index,
            producers: Producers::default(),
            matches,
            notes: FxHashMap::default(),
            noted: FxHashMap::default(),
            acked: FxHashMap::default(),
            subscribed: FxHashMap::default(),
            queues: FxHashMap::default(),
            subscriptions: FxHashMap::default(),
            known: FxHashSet::default(),
            foreign: FxHashMap::default(),
            largest: 0,
            next: next_sequence,
        }
    }

    /// Reads all tables. What is to be changed in them so that they say what was made of them is in the changes of the index.
    pub(super) async fn read(&mut self, session: &mut Session<'_>, forgotten: i64) -> Result<(), StoreError> {
        self.destinations(session).await?;
        self.acks(session).await?;
        self.forget_unsubscribed();
        self.notes(session).await?;
        self.messages(session).await?;
        self.lower_marks();
        self.own_messages(session).await?;
        self.held(session).await?;
        self.recent(session, forgotten).await?;
        for (key, _) in std::mem::take(&mut self.notes) {
            // Of a message that is gone, or is another one.
            self.index.changes.notes.insert(key, true);
        }
        for key in self.index.state.unprepared() {
            self.index.remove_destination(key);
        }
        self.index.state.used(self.largest.max(0) as u64);
        Ok(())
    }

    async fn destinations(&mut self, session: &mut Session<'_>) -> Result<(), StoreError> {
        let query = format!(
            "SELECT DEST, KIND, NAME, CLIENT_ID, SUB_NAME, SELECTOR, NO_LOCAL, ACKS, DISPATCHED, XID_FORMAT, \
             XID_GLOBAL, XID_BRANCH FROM {DESTINATIONS} ORDER BY DEST"
        );
        for row in session.rows(&query, &[]).await.map_err(failed)? {
            self.destination(&row).map_err(failed)?;
        }
        Ok(())
    }

    fn destination(&mut self, row: &AnyRow) -> Result<(), sqlx::Error> {
        let key = DestinationKey(id(row, 0)? as u32);
        let name = text(row, 2)?.unwrap_or_default();
        let destination = match number(row, 1)?.unwrap_or_default() {
            QUEUE => {
                self.queues.insert(name.clone(), key);
                StoredDestination::Queue(name)
            }
            SUBSCRIPTION => {
                let subscription = StoredSubscription {
                    client_id: text(row, 3)?.unwrap_or_default(),
                    name: text(row, 4)?.unwrap_or_default(),
                    destination: name,
                    selector: text(row, 5)?,
                    no_local: number(row, 6)? == Some(1),
                };
                self.subscriptions
                    .insert(super::index::name_of(&subscription), key);
                if number(row, 7)? == Some(1) {
                    self.known.insert(key);
                }
                StoredDestination::Subscription(Arc::new(subscription))
            }
            TRANSACTION => StoredDestination::Transaction,
            SCHEDULE => StoredDestination::Schedule,
            RETAINED => StoredDestination::Retained(name),
            other => {
                return Err(sqlx::Error::Protocol(format!(
                    "{DESTINATIONS}: destination {} is of the unknown kind {other}",
                    key.0
                )));
            }
        };
        let state = &mut self.index.state;
        state.create_destination(key, destination);
        state.set_dispatched(key, id(row, 8)?);
        if let Some(format_id) = number(row, 9)? {
            let xid = StoredXid {
                format_id: format_id as i32,
                global: bytes(row, 10)?.unwrap_or_default(),
                branch: bytes(row, 11)?.unwrap_or_default(),
            };
            let acknowledged = Vec::new();
            state.prepare(key, Arc::new(Prepared { xid, acknowledged }));
        }
        Ok(())
    }

    async fn acks(&mut self, session: &mut Session<'_>) -> Result<(), StoreError> {
        let query = format!(
            "SELECT CONTAINER, SUB_DEST, CLIENT_ID, SUB_NAME, SELECTOR, LAST_ACKED_ID, PRIORITY, XID FROM {ACKS} \
             ORDER BY CONTAINER, CLIENT_ID, SUB_NAME, PRIORITY"
        );
        for row in session.rows(&query, &[]).await.map_err(failed)? {
            self.ack(&row).map_err(failed)?;
        }
        Ok(())
    }

    fn ack(&mut self, row: &AnyRow) -> Result<(), sqlx::Error> {
        let priority = number(row, 6)?.unwrap_or_default();
        let last = number(row, 5)?.unwrap_or(-1);
        self.largest = self.largest.max(last);
        // Rows out of the range of priorities are of ActiveMQ alone: destinations it wants to remember.
        if !(0..=9).contains(&priority) {
            return Ok(());
        }
        if text(row, 7)?.is_some() {
            return Err(sqlx::Error::Protocol(pending_transactions(ACKS)));
        }
        let container = text(row, 0)?.unwrap_or_default();
        let subscription = StoredSubscription {
            client_id: text(row, 2)?.unwrap_or_default(),
            name: text(row, 3)?.unwrap_or_default(),
            destination: text(row, 1)?.unwrap_or_else(|| container.clone()),
            selector: text(row, 4)?.filter(|selector| !selector.is_empty()),
            no_local: false,
        };
        let topic = self.index.topics.number(&container);
        let key = self.subscription(subscription);
        self.known.remove(&key);
        let acked = self.acked.entry(key).or_default().entry(topic).or_default();
        acked.last.insert(priority, last);
        if priority > 0 {
            self.index.prioritized.insert(topic, ());
        }
        let lowest = acked.last.values().copied().min();
        let acks = self.index.acks.entry(key).or_default();
        let acks = acks.entry(topic).or_insert_with(|| {
            self.subscribed.entry(topic).or_default().push(key);
            Acks::default()
        });
        acks.found(lowest.unwrap_or(last), last);
        Ok(())
    }

    /// The destination of a subscription as ActiveMQ describes it. It knows nothing of `noLocal`.
    fn subscription(&mut self, found: StoredSubscription) -> DestinationKey {
        let name = super::index::name_of(&found);
        if let Some(&key) = self.subscriptions.get(&name) {
            if let Some(StoredDestination::Subscription(ours)) = self.index.state.destination(key)
                && (ours.destination != found.destination || ours.selector != found.selector)
            {
                let no_local = ours.no_local;
                let described = StoredSubscription { no_local, ..found };
                self.index.redescribe(key, described);
            }
            return key;
        }
        let key = self.new_destination(StoredDestination::Subscription(Arc::new(found)));
        self.subscriptions.insert(name, key);
        key
    }

    /// One that ActiveMQ made.
    fn new_destination(&mut self, destination: StoredDestination) -> DestinationKey {
        let key = DestinationKey(self.index.state.next_destination);
        self.index.state.create_destination(key, destination);
        self.index.changes.destinations.insert(key, false);
        key
    }

    fn forget_unsubscribed(&mut self) {
        for key in std::mem::take(&mut self.known) {
            self.index.remove_destination(key);
        }
    }

    async fn notes(&mut self, session: &mut Session<'_>) -> Result<(), StoreError> {
        let query = format!("SELECT DEST, SEQ, ID, MARK, REDELIVERED, AT_FIRST, DUE, FIRED FROM {NOTES}");
        let mut found = sqlx::query(AssertSqlSafe(query)).fetch(&mut *session.connection);
        while let Some(row) = found.try_next().await.map_err(failed)? {
            self.note(&row).map_err(failed)?;
        }
        Ok(())
    }

    fn note(&mut self, row: &AnyRow) -> Result<(), sqlx::Error> {
        let key = MessageKey {
            destination: DestinationKey(id(row, 0)? as u32),
            sequence: id(row, 1)?,
        };
        let note = Note {
            row: id(row, 2)?,
            mark: id(row, 3)? as u32,
            counter: Counter {
                now: id(row, 4)? as u32,
                initial: id(row, 5)? as u32,
            },
            due: match (number(row, 6)?, number(row, 7)?) {
                (Some(at), Some(times)) => Some((at, times as u32)),
                _ => None,
            },
        };
        if self.index.is_subscription(key.destination) {
            self.noted.entry(note.row).or_default().push(key);
        }
        self.notes.insert(key, note);
        Ok(())
    }

    async fn messages(&mut self, session: &mut Session<'_>) -> Result<(), StoreError> {
        let query = format!("SELECT ID, CONTAINER, PRIORITY, XID, MSG FROM {MESSAGES} ORDER BY ID");
        let mut found = sqlx::query(AssertSqlSafe(query)).fetch(&mut *session.connection);
        while let Some(row) = found.try_next().await.map_err(failed)? {
            let number_of = id(&row, 0).map_err(failed)?;
            self.largest = self.largest.max(number_of as i64);
            if text(&row, 3).map_err(failed)?.is_some() {
                return Err(StoreError::Refused(pending_transactions(MESSAGES)));
            }
            let container = text(&row, 1).map_err(failed)?.unwrap_or_default();
            let priority = number(&row, 2).map_err(failed)?.unwrap_or_default();
            let message = read(MESSAGES, number_of, bytes(&row, 4).map_err(failed)?)?;
            self.message(number_of, &container, priority, &message);
        }
        Ok(())
    }

    fn message(&mut self, id: u64, container: &Arc<str>, priority: i64, message: &Message) {
        let sent = mark(message);
        if container.starts_with(DestinationKind::Queue.prefix()) {
            let destination = match self.queues.get(container) {
                Some(&known) => known,
                None => {
                    let key = self.new_destination(StoredDestination::Queue(container.clone()));
                    self.queues.insert(container.clone(), key);
                    key
                }
            };
            let key = MessageKey {
                destination,
                sequence: id,
            };
            let at = At::new(Row::Message(id), message, sent, None);
            // What we write has the message's priority beside it. ActiveMQ writes 0 unless the queue heeds priorities, and
            // it may use numbers again that we had given out.
            let is_other = self.notes.get(&key).is_some_and(|note| note.mark != sent);
            let is_foreign =
                id >= self.next || is_other || priority != i64::from(message.priority.clamp(0, 9));
            self.put(key, at, message, is_foreign);
            self.note_origin(key, is_foreign);
            return;
        }
        if !container.starts_with(DestinationKind::Topic.prefix()) {
            // Neither broker stores for other destinations. Whoever put it there may want it.
            tracing::warn!(
                "{MESSAGES}: the message with ID {id} is for {container}: it stays there and is not delivered"
            );
            return;
        }
        let topic = self.index.topics.number(container);
        let noted = self.noted.remove(&id).unwrap_or_default();
        let noted: Vec<_> = noted
            .into_iter()
            .filter(|key| self.notes.get(key).is_some_and(|note| note.mark == sent))
            .collect();
        let is_pending = |destination: DestinationKey| {
            let acked = self.acked.get(&destination);
            acked
                .and_then(|acked| acked.get(&topic))
                .is_none_or(|acked| acked.is_pending(id, priority))
        };
        let is_foreign = noted.is_empty();
        let keys: Vec<_> = if is_foreign {
            let all = self.subscribed.get(&topic).into_iter().flatten().copied();
            all.filter(|&destination| {
                is_pending(destination)
                    && match self.index.state.destination(destination) {
                        Some(StoredDestination::Subscription(subscription)) => {
                            (self.matches)(subscription, message)
                        }
                        _ => false,
                    }
            })
            .map(|destination| MessageKey {
                destination,
                sequence: id,
            })
            .collect()
        } else {
            noted
                .into_iter()
                .filter(|key| is_pending(key.destination))
                .collect()
        };
        if keys.is_empty() {
            // Everybody has acknowledged it. ActiveMQ would see to it later.
            self.index.changes.erase(Row::Message(id));
            return;
        }
        self.index.hold_row(id, topic);
        for key in keys {
            let at = At::new(Row::Message(id), message, sent, Some(topic));
            self.put(key, at, message, is_foreign);
            self.note_origin(key, is_foreign);
            self.index.give(key.destination, id);
        }
    }

    fn note_origin(&mut self, key: MessageKey, is_foreign: bool) {
        let (first, last) = self.foreign.entry(key.destination).or_insert((u64::MAX, 0));
        match is_foreign {
            true => *first = key.sequence.min(*first),
            false => *last = key.sequence.max(*last),
        }
    }

    /// Marks of what was dispatched mean our own messages. ActiveMQ may have given numbers below a mark to others.
    fn lower_marks(&mut self) {
        for (key, (first, last)) in std::mem::take(&mut self.foreign) {
            // Where ours stand among the others, too much is said to have been shown.
            if last < first && first < u64::MAX {
                self.index.lower_dispatched(key, first.saturating_sub(1));
            }
        }
    }

    /// A message lies at this key. The table of producers says who sent it, unless it `counts` here.
    fn put(&mut self, key: MessageKey, at: At, message: &Message, counts: bool) {
        let stored = initial_redelivered(message);
        let note = self.notes.get(&key).copied();
        let meant = note.filter(|note| note.mark == at.mark);
        let counter = match meant {
            // ActiveMQ may have counted on.
            Some(note) => Counter {
                now: note.counter.now.max(stored),
                ..note.counter
            },
            None => Counter::starting(stored),
        };
        // The destination is there.
        let _ = self.index.state.put(key, at, counter);
        if let Some((at, times)) = meant.and_then(|note| note.due) {
            self.index.state.set_due(key, at, times);
        }
        if counts && let Some((producer, number)) = producer_of(message) {
            self.index.state.note_sender(key, producer, number);
        }
        self.notes.remove(&key);
        let noted = meant.is_some_and(|note| note.counter.now == counter.now);
        if !noted && (note.is_some() || self.index.is_noted(key)) {
            self.index.changes.notes.insert(key, note.is_some());
        }
    }

    async fn own_messages(&mut self, session: &mut Session<'_>) -> Result<(), StoreError> {
        let query = format!("SELECT DEST, ID, MSG FROM {OWN_MESSAGES} ORDER BY ID");
        let mut found = sqlx::query(AssertSqlSafe(query)).fetch(&mut *session.connection);
        while let Some(row) = found.try_next().await.map_err(failed)? {
            let destination = DestinationKey(id(&row, 0).map_err(failed)? as u32);
            let sequence = id(&row, 1).map_err(failed)?;
            let key = MessageKey {
                destination,
                sequence,
            };
            let message = read(OWN_MESSAGES, sequence, bytes(&row, 2).map_err(failed)?)?;
            let at = At::new(Row::Own(key), &message, mark(&message), None);
            let in_transaction =
                self.index.state.destination(destination) == Some(&StoredDestination::Transaction);
            self.put(key, at, &message, in_transaction);
        }
        Ok(())
    }

    async fn held(&mut self, session: &mut Session<'_>) -> Result<(), StoreError> {
        let query =
            format!("SELECT DEST, HELD_DEST, HELD_SEQ, MARK FROM {HELD} ORDER BY DEST, HELD_DEST, HELD_SEQ");
        let mut held: FxHashMap<_, Vec<MessageKey>> = FxHashMap::default();
        for row in session.rows(&query, &[]).await.map_err(failed)? {
            let number = |column| id(&row, column).map_err(failed);
            let destination = DestinationKey(number(0)? as u32);
            let key = MessageKey {
                destination: DestinationKey(number(1)? as u32),
                sequence: number(2)?,
            };
            let mark = number(3)? as u32;
            let at = self.index.state.get(key);
            if at.is_some_and(|at| at.mark == mark) {
                held.entry(destination).or_default().push(key);
            }
        }
        for (destination, acknowledged) in held {
            let stored = self.index.state.stored(destination);
            let xid = stored.and_then(|stored| stored.prepared.as_ref());
            if let Some(xid) = xid.map(|prepared| prepared.xid.clone()) {
                let prepared = Prepared { xid, acknowledged };
                self.index.state.prepare(destination, Arc::new(prepared));
            }
        }
        Ok(())
    }

    async fn recent(&mut self, session: &mut Session<'_>, forgotten: i64) -> Result<(), StoreError> {
        let query = format!(
            "SELECT ID, CONNECTION_ID, SESSION_ID, PRODUCER, SEQ, SEEN FROM {PRODUCERS} ORDER BY SEEN"
        );
        for row in session.rows(&query, &[]).await.map_err(failed)? {
            let number = |column| number(&row, column).map_err(failed);
            let producer = ProducerId {
                connection_id: Some(text(&row, 1).map_err(failed)?.unwrap_or_default()),
                session_id: number(2)?.unwrap_or_default(),
                value: number(3)?.unwrap_or_default(),
            };
            let sequence = number(4)?.unwrap_or_default();
            self.index.state.audit.note(&producer, sequence);
            self.producers.found(
                producer,
                number(0)?.unwrap_or_default(),
                number(5)?.unwrap_or_default(),
            );
        }
        self.producers.opened(self.index.state.audit.clock());
        let query = format!("SELECT ID, CONNECTION_ID, TX, AT_TIME FROM {OUTCOMES} ORDER BY ID");
        for row in session.rows(&query, &[]).await.map_err(failed)? {
            let number = |column| number(&row, column).map_err(failed);
            let outcome = Committed {
                connection: text(&row, 1).map_err(failed)?.unwrap_or_default(),
                transaction: number(2)?.unwrap_or_default(),
                at: number(3)?.unwrap_or_default(),
            };
            self.producers.outcomes = number(0)?.unwrap_or_default() + 1;
            self.index.state.outcomes.note(outcome, forgotten);
        }
        self.index.state.outcomes.forget(forgotten);
        Ok(())
    }
}

fn read(table: &str, id: u64, body: Option<Bytes>) -> Result<Arc<Message>, StoreError> {
    decode(body.unwrap_or_default()).map_err(|error| {
        StoreError::Refused(format!(
            "{table}: the message with ID {id} cannot be read: {error}"
        ))
    })
}

fn pending_transactions(table: &str) -> String {
    format!(
        "{table} has what XA transactions that are prepared have done (XID): commit them or roll them back with ActiveMQ \
         before this broker takes over"
    )
}
