//! What the store holds, without the bodies, and where those lie.
//!
//! # How our destinations stand in ActiveMQ's tables
//!
//! * A message of a **queue** is a row with the queue as its container, and its sequence as the row's id. A message that
//!   lies on two queues is two rows: ActiveMQ could not find it twice otherwise.
//! * A message of **durable subscriptions** is one row with the topic as its container, as in ActiveMQ. Which
//!   subscriptions have still to deliver it is noted, one note each: ActiveMQ knows only up to where a subscription has
//!   acknowledged, and that is told it as well: everything before the first row that a subscription still has.
//! * **Open transactions, schedules and retained messages** are nothing that ActiveMQ's tables can say. They lie in a table
//!   of our own.

use std::collections::BTreeMap;
use std::sync::Arc;

use openwire_client::wire::{DestinationKind, Message};
use rustc_hash::FxHashMap;

use super::super::state::{Counter, State, initial_redelivered, producer_of};
use super::super::{
    Committed, DestinationKey, Header, MessageKey, Op, StoredDestination, StoredSubscription,
};
use super::body::Body;
use super::changes::{Changes, Content, Row, Source, SubscriptionName};

/// The number of a topic's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Topic(u32);

/// What is kept in memory of a message at a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) row: Row,
    pub(super) header: Header,
    /// The redelivery counter that stands in its row.
    pub(super) counted: u32,
    /// See [`body::mark`](super::body::mark).
    pub(super) mark: u32,
    /// The topic it was sent to, if it was.
    topic: Option<Topic>,
}

impl At {
    pub(super) fn new(row: Row, message: &Message, mark: u32, topic: Option<Topic>) -> Self {
        Self {
            row,
            header: Header::of(message),
            counted: initial_redelivered(message),
            mark,
            topic,
        }
    }
}

/// Names of topics, each kept once.
#[derive(Debug, Default)]
pub(super) struct Topics {
    names: Vec<Arc<str>>,
    known: FxHashMap<Arc<str>, Topic>,
}

impl Topics {
    pub(super) fn number(&mut self, name: &str) -> Topic {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let (name, topic): (Arc<str>, _) = (name.into(), Topic(self.names.len() as u32));
        self.names.push(name.clone());
        self.known.insert(name, topic);
        topic
    }

    pub(super) fn name(&self, topic: Topic) -> Arc<str> {
        self.names[topic.0 as usize].clone()
    }
}

/// A row that durable subscriptions share.
#[derive(Debug)]
struct Shared {
    topic: Topic,
    /// How many have still to deliver it.
    subscriptions: u32,
}

/// Up to where a subscription has acknowledged on a topic.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// The rows it still has to deliver, and how many times each.
    pending: BTreeMap<u64, u32>,
    /// The last row it was given, or that was there when it began.
    highest: i64,
    /// What stands in the table; none if there is no row.
    pub(super) written: Option<i64>,
}

impl Acks {
    /// The table says this: the lowest, and one of them.
    pub(super) fn found(&mut self, lowest: i64, last: i64) {
        self.written = Some(lowest);
        self.highest = self.highest.max(last);
    }

    /// The row was delivered, once more.
    fn acknowledge(&mut self, id: u64) {
        if let Some(times) = self.pending.get_mut(&id) {
            *times -= 1;
            if *times == 0 {
                self.pending.remove(&id);
            }
        }
    }

    /// `LAST_ACKED_ID`: everything up to here is acknowledged, and nothing behind it for sure.
    pub(super) fn last(&self) -> i64 {
        self.pending
            .first_key_value()
            .map_or(self.highest, |(&first, _)| first as i64 - 1)
    }
}

/// What the store holds.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) state: State<At>,
    pub(super) topics: Topics,
    shared: FxHashMap<u64, Shared>,
    pub(super) acks: FxHashMap<DestinationKey, FxHashMap<Topic, Acks>>,
    /// Topics on which ActiveMQ keeps acknowledgements by priority.
    pub(super) prioritized: FxHashMap<Topic, ()>,
    pub(super) changes: Changes,
}

/// What a destination is, as far as rows are concerned.
enum Home {
    Queue(Arc<str>),
    Subscription(Arc<StoredSubscription>),
    Own,
}

impl Index {
    /// Applies a change of a batch that was checked. `body` is that of a put.
    pub(super) fn apply(&mut self, op: Op, body: Option<Body>) {
        match op {
            Op::CreateDestination { key, destination } => self.create(key, destination),
            Op::RemoveDestination { key } => self.remove_destination(key),
            Op::Put { key, message } => {
                if let Some(body) = body {
                    self.put(key, &message, body);
                }
            }
            Op::Remove { key } => self.remove(key),
            Op::Share { key, of } => self.share(key, of),
            Op::Move { from, to } => self.move_to(from, to),
            Op::Prepare {
                destination,
                prepared,
            } => {
                self.touch_destination(destination);
                self.state.prepare(destination, prepared);
                self.changes.prepared.insert(destination);
            }
            Op::Due { key, at, times } => {
                self.touch(key);
                self.state.set_due(key, at, times);
            }
            Op::Redelivered { key, count } => {
                self.touch(key);
                self.state.set_redelivered(key, count);
            }
            Op::Dispatched {
                destination,
                sequence,
            } => {
                self.touch_destination(destination);
                self.state.set_dispatched(destination, sequence);
            }
            Op::Committed { outcome, forgotten } => self.committed(outcome, forgotten),
        }
    }

    pub(super) fn create(&mut self, key: DestinationKey, destination: StoredDestination) {
        self.touch_destination(key);
        let subscription = match &destination {
            StoredDestination::Subscription(subscription) => Some(subscription.clone()),
            _ => None,
        };
        let is_new = self.state.destination(key).is_none();
        self.state.create_destination(key, destination);
        let Some(subscription) = subscription else {
            return;
        };
        if !is_new {
            self.changes.reselected.insert(key);
        }
        // ActiveMQ knows a subscription by the topics that are there; a pattern may have none yet.
        if let Some(topic) = single_topic(&subscription) {
            let topic = self.topics.number(topic);
            let last = self.state.next_sequence as i64 - 1;
            let acks = self.acks.entry(key).or_default();
            acks.entry(topic).or_insert_with(|| Acks {
                highest: last,
                ..Acks::default()
            });
            self.changes.acks.insert((key, topic));
        }
    }

    /// No more than this was dispatched from the destination.
    pub(super) fn lower_dispatched(&mut self, key: DestinationKey, sequence: u64) {
        let stored = self.state.stored(key);
        if stored.is_some_and(|stored| stored.dispatched > sequence) {
            self.touch_destination(key);
            self.state.lower_dispatched(key, sequence);
        }
    }

    pub(super) fn remove_destination(&mut self, key: DestinationKey) {
        let Some(destination) = self.state.destination(key).cloned() else {
            return;
        };
        self.touch_destination(key);
        self.changes.emptied.push(key);
        self.changes.prepared.remove(&key);
        for at in self.state.remove_destination(key) {
            match at.row {
                // Those in the table before go all at once.
                Row::Own(_) => drop(self.changes.rows.remove(&at.row)),
                Row::Message(id) if self.shared.contains_key(&id) => {
                    release_shared(&mut self.shared, &mut self.acks, &mut self.changes, key, id)
                }
                row @ Row::Message(_) => self.changes.erase(row),
            }
        }
        let acks = self.acks.remove(&key).unwrap_or_default();
        if let StoredDestination::Subscription(subscription) = destination {
            for topic in acks.into_keys() {
                self.changes.acks.remove(&(key, topic));
                let container = self.topics.name(topic);
                self.changes
                    .unsubscribed
                    .push((name_of(&subscription), container));
            }
        }
    }

    /// ActiveMQ describes a subscription in another way than the table of destinations does.
    pub(super) fn redescribe(&mut self, key: DestinationKey, described: StoredSubscription) {
        self.touch_destination(key);
        let described = StoredDestination::Subscription(Arc::new(described));
        self.state.create_destination(key, described);
    }

    fn put(&mut self, key: MessageKey, message: &Message, body: Body) {
        self.touch(key);
        if let Some(old) = self.state.remove(key) {
            self.release(key.destination, old);
        }
        let topic = message.destination.as_ref();
        let topic = topic.filter(|destination| destination.kind() == DestinationKind::Topic);
        let topic = topic.map(|topic| self.topics.number(&topic.qualified_name()));
        let at = At::new(Row::Own(key), message, body.mark, topic);
        let at = self.place(key, at, Source::New(Arc::new(body)));
        // The batch was checked: the destination is there.
        let _ = self
            .state
            .put(key, at, Counter::starting(initial_redelivered(message)));
        if let Some((producer, number)) = producer_of(message) {
            self.state.note_sender(key, producer, number);
            self.counts(key, producer.clone());
        }
    }

    /// This producer's number counts from here on, if the destination is no transaction.
    fn counts(&mut self, key: MessageKey, producer: openwire_client::wire::ProducerId) {
        if self.state.destination(key.destination) != Some(&StoredDestination::Transaction) {
            self.changes.producers.insert(producer);
        }
    }

    fn remove(&mut self, key: MessageKey) {
        self.touch(key);
        if let Some(at) = self.state.remove(key) {
            self.release(key.destination, at);
        }
    }

    fn share(&mut self, key: MessageKey, of: MessageKey) {
        let Some(&found) = self.state.get(of) else {
            return;
        };
        if key == of {
            return;
        }
        self.touch(key);
        let source = self.changes.source(found.row);
        if let Some(old) = self.state.remove(key) {
            self.release(key.destination, old);
        }
        let at = self.place(key, found, source);
        self.state.share(key, of);
        if let Some(shared) = self.state.get_mut(key) {
            *shared = at;
        }
    }

    fn move_to(&mut self, from: MessageKey, to: MessageKey) {
        let Some(&found) = self.state.get(from) else {
            return;
        };
        if from == to || self.state.destination(to.destination).is_none() {
            return;
        }
        self.touch(from);
        self.touch(to);
        let source = self.changes.source(found.row);
        if let Some(old) = self.state.remove(to) {
            self.release(to.destination, old);
        }
        self.release(from.destination, found);
        if let Some((producer, _)) = self.state.sender(from) {
            self.changes.producers.insert(producer.clone());
        }
        let at = self.place(to, found, source);
        self.state.move_to(from, to);
        if let Some(moved) = self.state.get_mut(to) {
            *moved = at;
        }
    }

    fn committed(&mut self, outcome: Committed, forgotten: i64) {
        self.changes.forgets |= forgotten > self.state.outcomes.forgotten();
        self.changes.outcomes.push(outcome.clone());
        self.state.outcomes.note(outcome, forgotten);
    }

    /// Where a message lies that is put at `key`. It is written there.
    fn place(&mut self, key: MessageKey, from: At, source: Source) -> At {
        let row = match self.home(key.destination) {
            Home::Own => {
                let content = Content {
                    container: None,
                    priority: None,
                    source,
                };
                self.changes.write(Row::Own(key), content);
                Row::Own(key)
            }
            Home::Queue(name) => {
                let row = Row::Message(key.sequence);
                let content = Content {
                    container: Some(name),
                    priority: None,
                    source,
                };
                self.changes.write(row, content);
                row
            }
            Home::Subscription(subscription) => {
                let id = match from.row {
                    Row::Message(id) if self.shared.contains_key(&id) => id,
                    _ => {
                        // A message that was sent to no topic is found by what is subscribed to.
                        let topic = from
                            .topic
                            .unwrap_or_else(|| self.topics.number(&subscription.destination));
                        let content = Content {
                            container: Some(self.topics.name(topic)),
                            priority: (!self.prioritized.contains_key(&topic)).then_some(0),
                            source,
                        };
                        self.changes.write(Row::Message(key.sequence), content);
                        self.hold_row(key.sequence, topic);
                        key.sequence
                    }
                };
                self.give(key.destination, id);
                Row::Message(id)
            }
        };
        At { row, ..from }
    }

    /// A row for subscriptions is there.
    pub(super) fn hold_row(&mut self, id: u64, topic: Topic) {
        let shared = Shared {
            topic,
            subscriptions: 0,
        };
        self.shared.insert(id, shared);
    }

    /// A subscription has to deliver a row.
    pub(super) fn give(&mut self, destination: DestinationKey, id: u64) {
        let Some(shared) = self.shared.get_mut(&id) else {
            return;
        };
        shared.subscriptions += 1;
        let acks = self.acks.entry(destination).or_default();
        let acks = acks.entry(shared.topic).or_default();
        *acks.pending.entry(id).or_default() += 1;
        acks.highest = acks.highest.max(id as i64);
        self.changes.acks.insert((destination, shared.topic));
        if acks.written.is_none() {
            // The table of destinations says that ActiveMQ knows of it.
            self.touch_destination(destination);
        }
    }

    /// A message is no longer at a key of this destination.
    fn release(&mut self, destination: DestinationKey, at: At) {
        match at.row {
            Row::Message(id) if self.shared.contains_key(&id) => release_shared(
                &mut self.shared,
                &mut self.acks,
                &mut self.changes,
                destination,
                id,
            ),
            row => self.changes.erase(row),
        }
    }

    fn home(&self, key: DestinationKey) -> Home {
        match self.state.destination(key) {
            Some(StoredDestination::Queue(name)) => Home::Queue(name.clone()),
            Some(StoredDestination::Subscription(subscription)) => Home::Subscription(subscription.clone()),
            _ => Home::Own,
        }
    }

    pub(super) fn is_subscription(&self, key: DestinationKey) -> bool {
        matches!(
            self.state.destination(key),
            Some(StoredDestination::Subscription(_))
        )
    }

    /// True if the table of notes has to say something of the message at this key.
    pub(super) fn is_noted(&self, key: MessageKey) -> bool {
        if self.state.get(key).is_none() {
            return false;
        }
        let counter = self.state.counter(key);
        counter.now != counter.initial
            || self.state.due(key).is_some()
            || self.is_subscription(key.destination)
    }

    /// Something is about to change for this key.
    fn touch(&mut self, key: MessageKey) {
        if !self.changes.notes.contains_key(&key) {
            let noted = self.is_noted(key);
            self.changes.notes.insert(key, noted);
        }
    }

    fn touch_destination(&mut self, key: DestinationKey) {
        let exists = self.state.destination(key).is_some();
        self.changes.destinations.entry(key).or_insert(exists);
    }

    /// The redelivery counter that the row of this message is to have, if it has another one: on a queue what was counted, as
    /// ActiveMQ knows of no other place; elsewhere what the message was put with, and notes say the rest.
    pub(super) fn miscounted(&self, key: MessageKey) -> Option<(Row, u32)> {
        let at = self.state.get(key)?;
        let counter = self.state.counter(key);
        let wanted = match self.state.destination(key.destination)? {
            StoredDestination::Queue(_) => counter.now,
            _ => counter.initial,
        };
        (at.counted != wanted).then_some((at.row, wanted))
    }

    /// The tables say what the index says.
    pub(super) fn written(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        for key in changes.notes.into_keys() {
            if let Some((_, counter)) = self.miscounted(key)
                && let Some(at) = self.state.get_mut(key)
            {
                at.counted = counter;
            }
        }
        for (destination, topic) in changes.acks {
            let acks = self.acks.get_mut(&destination);
            if let Some(acks) = acks.and_then(|acks| acks.get_mut(&topic)) {
                acks.written = Some(acks.last());
            }
        }
    }
}

/// A subscription has no longer to deliver a row. The last one takes it along.
fn release_shared(
    shared: &mut FxHashMap<u64, Shared>,
    acks: &mut FxHashMap<DestinationKey, FxHashMap<Topic, Acks>>,
    changes: &mut Changes,
    destination: DestinationKey,
    id: u64,
) {
    let Some(row) = shared.get_mut(&id) else {
        return;
    };
    let topic = row.topic;
    row.subscriptions = row.subscriptions.saturating_sub(1);
    if row.subscriptions == 0 {
        shared.remove(&id);
        changes.erase(Row::Message(id));
    }
    let acks = acks.get_mut(&destination);
    if let Some(acks) = acks.and_then(|acks| acks.get_mut(&topic)) {
        acks.acknowledge(id);
        changes.acks.insert((destination, topic));
    }
}

/// The topic of a subscription to no more than one.
fn single_topic(subscription: &StoredSubscription) -> Option<&str> {
    let destination =
        openwire_client::wire::Destination::parse(&subscription.destination, DestinationKind::Topic);
    (!destination.is_pattern() && !destination.is_composite()).then_some(&*subscription.destination)
}

pub(super) fn name_of(subscription: &StoredSubscription) -> SubscriptionName {
    SubscriptionName {
        client_id: subscription.client_id.clone(),
        name: subscription.name.clone(),
    }
}
