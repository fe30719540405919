//! Connections and what belongs to them: sessions, producers, consumers, temporary destinations.

use std::collections::VecDeque;
use std::sync::Arc;

use openwire_client::wire::{
    Command, ConnectionControl, ConnectionError, ConnectionInfo, ConsumerId, ConsumerInfo, Destination,
    DestinationInfo, EntityId, LocalTransactionId, ProducerInfo, RemoveInfo, SessionId,
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::destinations::parts;
use super::effect::{ConnectionKey, Effect, Then};
use super::flow::Limit;
use super::queue::{Entry, QueueKey};
use super::refusal::Refusal;
use super::statistics::count_topic_landing;
use super::subscription::{InFlight, Pull, Sight, Source, Subscription, SubscriptionKey};
use super::transaction::TransactionKey;
use super::wildcards::Wildcard;
use super::{Core, Outcome, Turn};
use crate::policy::Prefetch;
use crate::security::{Action, Grants, Principal};
use crate::selector::Selector;
use crate::store::accounting_size;

/// The session that exists with each connection, for the client's own consumer of advisories.
pub(super) const IMPLICIT_SESSION: i64 = -1;

/// Sessions, consumers and producers of one connection, each. Far more than an application has; a client
/// that asks for more is broken or hostile.
const MAX_PER_CONNECTION: usize = 100_000;

/// Bytes of a connection's id. It is kept with the outcome of each of its transactions; those that clients
/// make have less than a hundred.
const MAX_CONNECTION_ID: usize = 512;

/// What the broker knows of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: Arc<str>,
    /// What the client said of itself; none until it did.
    pub(super) info: Option<Box<ConnectionInfo>>,
    /// Who was let in; none where nobody is asked.
    pub(super) principal: Option<Principal>,
    pub(super) grants: Grants,
    sessions: FxHashSet<i64>,
    pub(super) consumers: FxHashMap<(i64, i64), SubscriptionKey>,
    pub(super) producers: FxHashMap<(i64, i64), Producer>,
    pub(super) transactions: FxHashMap<i64, TransactionKey>,
    pub(super) temporaries: Vec<Destination>,
    pub(super) paused: bool,
    /// Where its sends are held back, by what, and how many.
    pub(super) held_back: FxHashMap<Destination, (Limit, usize)>,
    pub(super) held_back_bytes: usize,
    /// It has more to write than it can, so its topic consumers get nothing.
    pub(super) congested: bool,
    /// For how long outcomes are kept, as its client was told; see [`Core::promised`].
    pub(super) promised: i64,
    /// Refused or taken over: what it still sends is ignored.
    closing: bool,
}

#[derive(Debug)]
pub(super) struct Producer {
    /// Bytes the producer may send ahead of acknowledgements; 0 is no limit.
    pub(super) window: i32,
    /// As the client described it.
    pub(super) info: ProducerInfo,
}

impl Connection {
    pub(super) fn new(peer: &str) -> Self {
        Self {
            peer: peer.into(),
            info: None,
            principal: None,
            grants: Grants::default(),
            sessions: FxHashSet::default(),
            consumers: FxHashMap::default(),
            producers: FxHashMap::default(),
            transactions: FxHashMap::default(),
            temporaries: Vec::new(),
            paused: false,
            held_back: FxHashMap::default(),
            held_back_bytes: 0,
            congested: false,
            promised: 0,
            closing: false,
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// The text of its id; empty before the client gave it.
    pub(super) fn id(&self) -> &str {
        self.info
            .as_ref()
            .and_then(|info| info.connection_id.as_ref())
            .map_or("", |id| id.as_str())
    }

    /// The same, to be kept.
    pub(super) fn id_text(&self) -> Arc<str> {
        self.info
            .as_ref()
            .and_then(|info| info.connection_id.as_ref()?.value.clone())
            .unwrap_or_default()
    }

    /// The transaction has an id of this connection.
    pub(super) fn owns(&self, transaction: &LocalTransactionId) -> bool {
        transaction
            .connection_id
            .as_ref()
            .is_none_or(|owner| owner.as_str() == self.id())
    }

    pub(super) fn failover_reconnect(&self) -> bool {
        self.info.as_ref().is_some_and(|info| info.failover_reconnect)
    }

    fn check_session(&self, connection_id: Option<&str>, session: i64) -> Result<(), Refusal> {
        if connection_id != Some(self.id()) || !self.sessions.contains(&session) {
            let connection = connection_id.unwrap_or_default();
            return Err(Refusal::illegal_state(format!(
                "Cannot add to a session that had not been registered: {connection}:{session}"
            )));
        }
        Ok(())
    }
}

fn check_room(used: usize, what: &str) -> Result<(), Refusal> {
    if used < MAX_PER_CONNECTION {
        return Ok(());
    }
    Err(Refusal::resources(format!(
        "a connection can have {MAX_PER_CONNECTION} {what}"
    )))
}

impl Core {
    pub(super) fn connection_info(
        &mut self,
        from: ConnectionKey,
        info: Box<ConnectionInfo>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let result = self.register(from, info, turn);
        if let Err(refusal) = &result {
            self.close(from, format!("its ConnectionInfo was refused: {refusal}"), turn);
        }
        result
    }

    fn register(
        &mut self,
        from: ConnectionKey,
        info: Box<ConnectionInfo>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let Some(id) = info.connection_id.clone() else {
            return Err(Refusal::illegal_state("ConnectionInfo without a connection id"));
        };
        let Some(client_id) = info.client_id.clone() else {
            return Err(Refusal::client_id("No clientID specified for connection request"));
        };
        let connection = &self.connections[from.0 as usize];
        if connection.info.is_some() {
            if connection.id() == id.as_str() {
                return Ok(Outcome::Done);
            }
            return Err(Refusal::illegal_state("the connection has an id already"));
        }
        if id.as_str().len() > MAX_CONNECTION_ID {
            return Err(Refusal::resources(format!(
                "a connection id has at most {MAX_CONNECTION_ID} bytes"
            )));
        }
        if let Some(&other) = self.client_ids.get(&client_id) {
            let old = &self.connections[other.0 as usize];
            if old.id() != id.as_str() {
                return Err(Refusal::client_id(format!(
                    "Broker: {} - Client: {client_id} already connected from {}",
                    self.config.broker_name, old.peer
                )));
            }
        }
        // The same client on a new socket: the old one is dead, the broker just has not noticed. Whatever of
        // its commands has not been read by now has no effect, so that what the client is told from here on
        // stays true.
        if let Some(&old) = self.connection_ids.get(id.as_str()) {
            self.close(old, "its client connected again".into(), turn);
            self.forget(old, turn);
        }
        self.client_ids.insert(client_id, from);
        self.connection_ids.insert(id.as_str().into(), from);
        let manageable = info.manageable;
        let connection = &mut self.connections[from.0 as usize];
        connection.info = Some(info);
        connection.sessions.insert(IMPLICIT_SESSION);
        if manageable {
            turn.send(
                from,
                Box::new(ConnectionControl {
                    connected_brokers: Some("".into()),
                    reconnect_to: Some("".into()),
                    ..ConnectionControl::default()
                }),
            );
        }
        self.advise_connection(from, turn);
        Ok(Outcome::Done)
    }

    /// Ends a connection from the broker's side.
    pub(super) fn close(&mut self, key: ConnectionKey, reason: String, turn: &mut Turn<'_>) {
        self.connections[key.0 as usize].closing = true;
        turn.effects.push(Effect::Close {
            connection: key,
            reason,
        });
    }

    pub(super) fn session_info(
        &mut self,
        from: ConnectionKey,
        id: Option<SessionId>,
    ) -> Result<Outcome, Refusal> {
        let id = id.ok_or_else(|| Refusal::illegal_state("SessionInfo without a session id"))?;
        let connection = self.registered(from)?;
        if id.connection_id.as_deref() != Some(connection.id()) {
            return Err(Refusal::illegal_state(format!(
                "Cannot add session {id} to a connection that had not been registered"
            )));
        }
        check_room(connection.sessions.len(), "sessions")?;
        self.connections[from.0 as usize].sessions.insert(id.value);
        Ok(Outcome::Done)
    }

    pub(super) fn producer_info(
        &mut self,
        from: ConnectionKey,
        info: ProducerInfo,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let id = info
            .producer_id
            .as_ref()
            .ok_or_else(|| Refusal::illegal_state("ProducerInfo without a producer id"))?;
        let connection = self.registered(from)?;
        connection.check_session(id.connection_id.as_deref(), id.session_id)?;
        let key = (id.session_id, id.value);
        if connection.producers.contains_key(&key) {
            return Ok(Outcome::Done);
        }
        check_room(connection.producers.len(), "producers")?;
        for destination in info.destination.iter().map(parts) {
            for part in destination? {
                self.authorize_use(from, Action::Write, &part)?;
                self.resolve_for_send(&part, turn)?;
            }
        }
        self.connections[from.0 as usize].producers.insert(
            key,
            Producer {
                window: info.window_size,
                info: info.clone(),
            },
        );
        self.advise_producer(&info, turn);
        Ok(Outcome::Done)
    }

    pub(super) fn consumer_info(
        &mut self,
        from: ConnectionKey,
        mut info: Box<ConsumerInfo>,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let id = info
            .consumer_id
            .clone()
            .ok_or_else(|| Refusal::illegal_state("ConsumerInfo without a consumer id"))?;
        let connection = self.registered(from)?;
        connection.check_session(id.connection_id.as_deref(), id.session_id)?;
        if connection.consumers.contains_key(&(id.session_id, id.value)) {
            return Ok(Outcome::Done);
        }
        check_room(connection.consumers.len(), "consumers")?;
        check_supported(&info)?;
        let sight = sight_of(&info, connection)?;
        let destination = info
            .destination
            .clone()
            .ok_or_else(|| Refusal::destination("a consumer without a destination"))?;
        for part in parts(&destination)? {
            self.authorize_use(from, Action::Read, &part)?;
        }
        let durable = info.subscription_name.is_some();
        info.prefetch_size = self.prefetch(&info);
        let source = match durable {
            true => Source::Queues(vec![self.activate(from, &info, &sight, turn)?]),
            false => self.resolve_for_consumer(from, &destination, turn)?,
        };
        let (browser, retroactive) = (info.browser, info.retroactive);
        let policy = self.policy_of(&destination);
        let mut subscription = Subscription::new(id.clone(), from, info, source, sight, policy, turn.now);
        subscription.since = self.sequence;
        let key = SubscriptionKey(self.subscriptions.insert(subscription));
        self.connections[from.0 as usize]
            .consumers
            .insert((id.session_id, id.value), key);
        if !durable && !browser {
            self.wildcards.watch(&destination, Wildcard::Consumer(key));
        }
        // A durable subscription is there once it is stored; what its consumer is sent at once may come before the answer.
        let outcome = match durable {
            true => self.confirm_subscription(reply, turn),
            false => Outcome::Done,
        };
        match &self.subscriptions[key.0].source {
            Source::Queues(_) if browser => self.begin_browsing(key, turn),
            Source::Queues(queues) => {
                let queues = queues.clone();
                for &queue in &queues {
                    self.enter(key, queue, turn);
                }
                if let (&[queue], true) = (&*queues, durable && retroactive) {
                    self.recall_durable(queue, &destination, turn)?;
                }
                self.settle(key, turn);
            }
            Source::Topics(topics) => {
                let topics = topics.clone();
                self.subscriptions[key.0].stalled = self.connections[from.0 as usize].congested;
                for &topic in &topics {
                    self.join_topic(key, topic);
                    self.recall(key, topic, turn);
                }
                self.begin_listening(key, &destination, turn);
            }
        }
        self.advise_consumer(key, turn);
        self.watch_slow(key, turn.now);
        Ok(outcome)
    }

    /// The prefetch of a consumer: its own, or that of the policy if it did not choose one.
    fn prefetch(&self, info: &ConsumerInfo) -> i32 {
        let Some(destination) = &info.destination else {
            return info.prefetch_size;
        };
        let kind = match destination.is_queue() {
            _ if info.subscription_name.is_some() => Prefetch::Durable,
            true if info.browser => Prefetch::Browser,
            true => Prefetch::Queue,
            false => Prefetch::Topic,
        };
        self.policy_of(destination).prefetch(info.prefetch_size, kind)
    }

    pub(super) fn remove(
        &mut self,
        from: ConnectionKey,
        info: RemoveInfo,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        // Peers below version 5 do not send it, and no message has the number 0.
        let delivered = match info.last_delivered_sequence_id {
            0 => RemoveInfo::UNKNOWN_DELIVERED,
            delivered => delivered,
        };
        let object = info
            .object_id
            .ok_or_else(|| Refusal::illegal_state("RemoveInfo without an id"))?;
        let connection = self.registered(from)?;
        match object {
            EntityId::Connection(id) => {
                if id.as_str() != connection.id() {
                    return Err(Refusal::illegal_state(format!(
                        "Cannot remove a connection that had not been registered: {id}"
                    )));
                }
                self.forget_with(from, delivered, turn);
            }
            EntityId::Session(id) => {
                if !connection.sessions.contains(&id.value) {
                    return Err(Refusal::illegal_state(format!(
                        "Cannot remove a session that had not been registered: {id}"
                    )));
                }
                let consumers: Vec<_> = connection
                    .consumers
                    .iter()
                    .filter(|((session, _), _)| *session == id.value)
                    .map(|(_, &key)| key)
                    .collect();
                self.together(turn, |core, turn| {
                    for key in consumers {
                        core.remove_consumer(key, delivered, turn);
                    }
                });
                self.remove_producers(from, |session| session == id.value, turn);
                self.connections[from.0 as usize].sessions.remove(&id.value);
            }
            EntityId::Consumer(id) => {
                let key = connection
                    .consumers
                    .get(&(id.session_id, id.value))
                    .copied()
                    .ok_or_else(|| {
                        Refusal::illegal_state(format!(
                            "Cannot remove a consumer that had not been registered: {id}"
                        ))
                    })?;
                self.remove_consumer(key, delivered, turn);
            }
            EntityId::Producer(id) => {
                let producers = &mut self.connections[from.0 as usize].producers;
                let producer = producers.remove(&(id.session_id, id.value)).ok_or_else(|| {
                    Refusal::illegal_state(format!(
                        "Cannot remove a producer that had not been registered: {id}"
                    ))
                })?;
                self.advise_producer_removal(&producer.info, turn);
            }
        }
        Ok(Outcome::Done)
    }

    /// The connection, if the client has introduced itself.
    pub(super) fn registered(&self, key: ConnectionKey) -> Result<&Connection, Refusal> {
        let connection = &self.connections[key.0 as usize];
        if connection.info.is_none() {
            return Err(Refusal::illegal_state("the connection has not been registered"));
        }
        Ok(connection)
    }

    pub(super) fn subscription_of(
        &self,
        from: ConnectionKey,
        id: Option<&ConsumerId>,
    ) -> Option<SubscriptionKey> {
        let id = id?;
        let connection = self.registered(from).ok()?;
        if id.connection_id.as_deref() != Some(connection.id()) {
            return None;
        }
        connection.consumers.get(&(id.session_id, id.value)).copied()
    }

    /// Undoes all that belongs to a connection; its key stays until the shell reports it lost.
    pub(super) fn forget(&mut self, key: ConnectionKey, turn: &mut Turn<'_>) {
        self.forget_with(key, RemoveInfo::UNKNOWN_DELIVERED, turn);
    }

    fn forget_with(&mut self, key: ConnectionKey, delivered: i64, turn: &mut Turn<'_>) {
        self.forget_held_back(key);
        self.forget_browses(key);
        self.together(turn, |core, turn| {
            core.forget_transactions(key, turn);
            let consumers: Vec<_> = core.connections[key.0 as usize]
                .consumers
                .values()
                .copied()
                .collect();
            for consumer in consumers {
                core.remove_consumer(consumer, delivered, turn);
            }
        });
        self.remove_producers(key, |_| true, turn);
        let connection = &mut self.connections[key.0 as usize];
        connection.sessions.clear();
        for destination in std::mem::take(&mut connection.temporaries) {
            self.remove_destination(&destination, turn);
            self.advise_existence(&destination, Some(key), DestinationInfo::REMOVE, turn);
        }
        let connection = &mut self.connections[key.0 as usize];
        if let Some(info) = connection.info.take() {
            if let Some(client_id) = info.client_id
                && self.client_ids.get(&client_id) == Some(&key)
            {
                self.client_ids.remove(&client_id);
            }
            let id = info.connection_id;
            if let Some(id) = &id
                && self.connection_ids.get(id.as_str()) == Some(&key)
            {
                self.connection_ids.remove(id.as_str());
            }
            if let Some(id) = id {
                self.advise_disconnection(id, turn);
            }
        }
    }

    /// Ends the producers of a connection's sessions.
    fn remove_producers(&mut self, from: ConnectionKey, of: impl Fn(i64) -> bool, turn: &mut Turn<'_>) {
        let producers = &mut self.connections[from.0 as usize].producers;
        let removed: Vec<_> = producers.extract_if(|(session, _), _| of(*session)).collect();
        for (_, producer) in removed {
            self.advise_producer_removal(&producer.info, turn);
        }
    }

    /// Ends a consumer: what it had goes back to where it stood. `delivered` says what the application saw,
    /// which decides what counts as redelivered.
    pub(super) fn remove_consumer(&mut self, key: SubscriptionKey, delivered: i64, turn: &mut Turn<'_>) {
        let mut subscription = self.subscriptions.remove(key.0);
        for batch in &mut self.batches {
            batch.consumer_ended(key);
        }
        let last_seen = self.last_seen(&subscription, key, delivered);
        self.taker_ended(key, &subscription.transactions);
        let owner = &mut self.connections[subscription.connection.0 as usize];
        owner
            .consumers
            .remove(&(subscription.id.session_id, subscription.id.value));
        for message in &subscription.waiting {
            self.memory_used -= accounting_size(message) as usize;
        }
        if subscription.pull == Some(Pull::NoWait) {
            self.pulls_without_wait -= 1;
        }
        count_topic_landing(&mut self.topics, &mut subscription, usize::MAX, false);
        let destination = subscription.info.destination.take();
        self.wildcards.unwatch(Wildcard::Consumer(key));
        let browses = usize::from(subscription.browse.is_some());
        match subscription.source {
            Source::Topics(topics) => {
                destination.iter().for_each(|of| self.end_listening(of));
                for topic in topics {
                    let topic = &mut self.topics[topic.0];
                    topic.subscribers.remove(key);
                    topic.retained.leave(key);
                }
            }
            Source::Queues(queues) => {
                let changed: Vec<_> = queues
                    .iter()
                    .filter(|queue| self.queues[queue.0].remove_consumer(key))
                    .copied()
                    .collect();
                for queue in changed {
                    self.line_up(queue);
                }
                if subscription.browse.is_none() {
                    self.take_from_consumer(subscription.in_flight, last_seen, turn);
                }
                for queue in queues {
                    self.queues[queue.0].counts.browsers -= browses;
                    if let Some(durable) = &mut self.queues[queue.0].durable {
                        durable.active = false;
                        durable.absent_since = turn.now;
                    }
                    // What waited for this consumer alone is for others now.
                    self.dispatch(queue, turn);
                }
            }
        }
        self.advise_consumer_removal(&subscription.id, destination.as_ref(), turn);
        self.resume_producers(turn);
    }

    /// The number of the last message that the application of an ended consumer saw: it may have acknowledged that in a
    /// transaction.
    fn last_seen(&self, subscription: &Subscription, key: SubscriptionKey, delivered: i64) -> u64 {
        if delivered == RemoveInfo::UNKNOWN_DELIVERED {
            return u64::MAX;
        }
        let taken = self.taken_by(key, &subscription.transactions);
        let mut known = subscription.in_flight.iter().chain(taken);
        known
            .find(|message| message.entry.sequence == delivered as u64)
            .map_or(0, |message| message.number)
    }

    /// What an ended consumer had goes back to where it stood.
    fn take_from_consumer(&mut self, in_flight: VecDeque<InFlight>, last_seen: u64, turn: &mut Turn<'_>) {
        let mut back: Vec<(QueueKey, Vec<Entry>)> = Vec::new();
        let mut places: FxHashMap<QueueKey, usize> = FxHashMap::default();
        for message in in_flight {
            let (queue, mut entry) = (message.queue, message.entry);
            self.landed(queue);
            entry.redelivered += u32::from(message.number <= last_seen);
            let place = *places.entry(queue).or_insert_with(|| {
                back.push((queue, Vec::new()));
                back.len() - 1
            });
            back[place].1.push(entry);
        }
        for (queue, entries) in back {
            self.return_to_queue(queue, entries, turn);
        }
    }

    /// Tells a client that a command it wants no response to was refused.
    pub(super) fn report(&self, to: ConnectionKey, refusal: &Refusal, turn: &mut Turn<'_>) {
        let error = ConnectionError {
            exception: Some(refusal.throwable()),
            ..ConnectionError::default()
        };
        turn.send(to, Command::from(Box::new(error)));
    }
}

/// What a consumer wants to see. A blank selector selects all, as JMS has it.
fn sight_of(info: &ConsumerInfo, connection: &Connection) -> Result<Sight, Refusal> {
    let selector = match info.selector.as_ref().filter(|text| !text.trim().is_empty()) {
        Some(text) => {
            let selector = Selector::parse(text).map_err(|error| Refusal::selector(&error))?;
            Some(Arc::new(selector))
        }
        None => None,
    };
    Ok(Sight {
        priority: info.priority,
        selector,
        not_from: info.no_local.then(|| connection.id_text()),
    })
}

/// What this broker cannot do for a consumer is refused rather than ignored.
fn check_supported(info: &ConsumerInfo) -> Result<(), Refusal> {
    match info.network_subscription || info.additional_predicate.is_some() {
        true => Err(Refusal::unsupported("network subscriptions are")),
        false => Ok(()),
    }
}
