//! What is told when. Each of these is called where the thing happens, and ends at once if nobody listens.

use std::sync::Arc;

use openwire_client::wire::{
    Command, ConnectionId, ConsumerId, Destination, DestinationInfo, EntityId, Message, ProducerInfo,
    RemoveInfo, RemoveSubscriptionInfo,
};

use super::kind::{AdvisoryKind, is_of_one_destination};
use super::{Advisory, names_advisories};
use crate::core::destinations::{Target, parts};
use crate::core::effect::ConnectionKey;
use crate::core::flow::Limit;
use crate::core::queue::{Entry, QueueKey};
use crate::core::send::is_expired;
use crate::core::subscription::SubscriptionKey;
use crate::core::topic::TopicKey;
use crate::core::{Core, Turn};

impl Core {
    /// A client has introduced itself.
    pub(in crate::core) fn advise_connection(&mut self, key: ConnectionKey, turn: &mut Turn<'_>) {
        if self.listens(AdvisoryKind::Connection)
            && let Some(advisory) = self.connection_advisory(key)
        {
            self.advise(AdvisoryKind::Connection, None, advisory, turn);
        }
    }

    /// What is told of a connection. Its password is nobody's business.
    pub(super) fn connection_advisory(&self, key: ConnectionKey) -> Option<Advisory> {
        let connection = self.connections.get(key.0 as usize)?;
        let mut info = connection.info.clone()?;
        info.password = Some("".into());
        info.client_ip.get_or_insert_with(|| connection.peer.clone());
        Some(Advisory::of(info))
    }

    /// A connection has left.
    pub(in crate::core) fn advise_disconnection(&mut self, id: ConnectionId, turn: &mut Turn<'_>) {
        if self.listens(AdvisoryKind::Connection) {
            let advisory = Advisory::of(removal(EntityId::Connection(id)));
            self.advise(AdvisoryKind::Connection, None, advisory, turn);
        }
    }

    /// A destination came or went. A temporary one is its owner's; else it is told whose command did it.
    pub(in crate::core) fn advise_existence(
        &mut self,
        destination: &Destination,
        owner: Option<ConnectionKey>,
        operation_type: i8,
        turn: &mut Turn<'_>,
    ) {
        let kind = AdvisoryKind::of_existence(destination);
        if !self.listens(kind) || destination.is_advisory() {
            return;
        }
        let info = DestinationInfo {
            connection_id: match owner {
                Some(owner) => self.connection_id(owner),
                None => self.acting_connection(),
            },
            destination: Some(destination.clone()),
            operation_type,
            ..DestinationInfo::default()
        };
        self.advise(kind, None, Advisory::of(info), turn);
    }

    /// A destination is there now. That of a temporary one is told by the command that makes it.
    pub(in crate::core) fn note_creation(
        &mut self,
        destination: &Destination,
        target: Target,
        turn: &mut Turn<'_>,
    ) {
        let made_by = self.acting_connection();
        match target {
            Target::Queue(key) => self.queues[key.0].made_by = made_by,
            Target::Topic(key) => self.topics[key.0].made_by = made_by,
        }
        self.advisories.topics += usize::from(is_of_one_destination(destination));
        if !destination.is_temporary() {
            self.advise_existence(destination, None, DestinationInfo::ADD, turn);
        }
    }

    /// A destination is there no more.
    pub(in crate::core) fn note_removal(&mut self, destination: &Destination, turn: &mut Turn<'_>) {
        self.advisories.topics -= usize::from(is_of_one_destination(destination));
        if !destination.is_temporary() {
            self.advise_existence(destination, None, DestinationInfo::REMOVE, turn);
        }
        self.remove_advisory_topics(destination, turn);
    }

    /// With a destination go the topics of advisories about it that nobody names: wildcards need none.
    fn remove_advisory_topics(&mut self, destination: &Destination, turn: &mut Turn<'_>) {
        if self.advisories.topics == 0 || destination.is_advisory() {
            return;
        }
        for kind in AdvisoryKind::ALL
            .iter()
            .filter(|kind| kind.is_of_one_destination())
        {
            let topic = kind.topic(Some(destination));
            if let Some(Target::Topic(key)) = self.destinations.get(&topic)
                && !self.topics[key.0]
                    .subscribers
                    .iter()
                    .any(|of| self.names(of, &topic))
            {
                self.remove_destination(&topic, turn);
            }
        }
    }

    fn names(&self, consumer: SubscriptionKey, topic: &Destination) -> bool {
        let destination = self.subscriptions[consumer.0].info.destination.iter();
        destination.flat_map(parts).flatten().any(|part| part == *topic)
    }

    /// A producer came.
    pub(in crate::core) fn advise_producer(&mut self, info: &ProducerInfo, turn: &mut Turn<'_>) {
        for part in info.destination.iter().flat_map(parts).flatten() {
            self.advisories.count_producer(&part, true);
        }
        if self.listens(AdvisoryKind::Producer) {
            for (about, advisory) in self.producer_advisories(info) {
                self.advise(AdvisoryKind::Producer, about.as_ref(), advisory, turn);
            }
        }
    }

    /// What is told of a producer: one advisory for each of its destinations, as if it had that one only.
    pub(super) fn producer_advisories(&self, info: &ProducerInfo) -> Vec<(Option<Destination>, Advisory)> {
        let about = self.advised_destinations(info).into_iter();
        let told = about.map(|about| {
            let info = ProducerInfo {
                destination: about.clone(),
                ..info.clone()
            };
            let advisory = self.with_producers(about.as_ref(), info.into());
            (about, advisory)
        });
        told.collect()
    }

    fn with_producers(&self, about: Option<&Destination>, data: Command) -> Advisory {
        let count = about.map_or(0, |about| self.advisories.producers(about));
        Advisory::of(data).with("producerCount", number(count))
    }

    /// The destinations of a producer that are told of; none stands for that of an anonymous one.
    fn advised_destinations(&self, info: &ProducerInfo) -> Vec<Option<Destination>> {
        match &info.destination {
            None if self.config.advisories.anonymous_producers => vec![None],
            None => Vec::new(),
            Some(destination) if names_advisories(destination) => Vec::new(),
            Some(destination) => parts(destination).into_iter().flatten().map(Some).collect(),
        }
    }

    /// A producer left.
    pub(in crate::core) fn advise_producer_removal(&mut self, info: &ProducerInfo, turn: &mut Turn<'_>) {
        for part in info.destination.iter().flat_map(parts).flatten() {
            self.advisories.count_producer(&part, false);
        }
        if !self.listens(AdvisoryKind::Producer) {
            return;
        }
        let Some(id) = &info.producer_id else { return };
        for about in self.advised_destinations(info) {
            if about.as_ref().is_some_and(|about| self.is_gone(about)) {
                continue;
            }
            let data = Command::from(removal(EntityId::Producer(id.clone())));
            let advisory = self.with_producers(about.as_ref(), data);
            self.advise(AdvisoryKind::Producer, about.as_ref(), advisory, turn);
        }
    }

    /// A temporary destination takes those who used it along, untold.
    fn is_gone(&self, destination: &Destination) -> bool {
        destination.is_temporary() && !self.destinations.contains_key(destination)
    }

    /// A consumer came.
    pub(in crate::core) fn advise_consumer(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        if self.listens(AdvisoryKind::Consumer)
            && let Some((about, advisory)) = self.consumer_advisory(key)
        {
            self.advise(AdvisoryKind::Consumer, Some(&about), advisory, turn);
        }
    }

    /// What is told of a consumer; nothing of those who listen to advisories.
    pub(super) fn consumer_advisory(&self, key: SubscriptionKey) -> Option<(Destination, Advisory)> {
        let subscription = self.subscriptions.get(key.0)?;
        let destination = subscription.info.destination.clone()?;
        if names_advisories(&destination) {
            return None;
        }
        let mut info = subscription.info.clone();
        if info.client_id.is_none() {
            let connection = self.connections.get(subscription.connection.0 as usize);
            info.client_id = connection
                .and_then(|connection| connection.info.as_ref())
                .and_then(|connection| connection.client_id.clone());
        }
        let count = number(self.consumers_of(&destination));
        Some((destination, Advisory::of(info).with("consumerCount", count)))
    }

    /// A consumer of this destination left.
    pub(in crate::core) fn advise_consumer_removal(
        &mut self,
        id: &ConsumerId,
        destination: Option<&Destination>,
        turn: &mut Turn<'_>,
    ) {
        let Some(destination) = destination.filter(|_| self.listens(AdvisoryKind::Consumer)) else {
            return;
        };
        if names_advisories(destination) || self.is_gone(destination) {
            return;
        }
        let data = removal(EntityId::Consumer(id.clone()));
        self.advise_consumers_of(destination, data.into(), turn);
    }

    /// A durable subscription to this destination is ended.
    pub(in crate::core) fn advise_unsubscription(
        &mut self,
        destination: &Destination,
        info: &RemoveSubscriptionInfo,
        turn: &mut Turn<'_>,
    ) {
        if self.listens(AdvisoryKind::Consumer) {
            self.advise_consumers_of(destination, info.clone().into(), turn);
        }
    }

    fn advise_consumers_of(&mut self, destination: &Destination, data: Command, turn: &mut Turn<'_>) {
        let count = number(self.consumers_of(destination));
        let advisory = Advisory::of(data).with("consumerCount", count);
        self.advise(AdvisoryKind::Consumer, Some(destination), advisory, turn);
    }

    /// How many consumers there are for what a name stands for, durable subscriptions nobody consumes from included.
    fn consumers_of(&self, destination: &Destination) -> usize {
        let parts = parts(destination).into_iter().flatten();
        parts
            .flat_map(|part| self.matching(&part))
            .map(|target| self.consumer_count(target))
            .sum()
    }

    /// What there is of what a name stands for.
    pub(in crate::core) fn matching(&self, destination: &Destination) -> Vec<Target> {
        if !destination.is_pattern() {
            return self.destinations.get(destination).copied().into_iter().collect();
        }
        let pattern = crate::policy::Pattern::from(destination);
        self.destinations
            .iter()
            .filter(|(destination, _)| pattern.matches(destination))
            .map(|(_, target)| *target)
            .collect()
    }

    /// The message, if somebody may be told of its arrival.
    pub(in crate::core) fn told_of_arrival(&self, message: &Arc<Message>, now: i64) -> Option<Arc<Message>> {
        let told = self.listens(AdvisoryKind::MessageDelivered) || self.listens(AdvisoryKind::NoConsumer);
        (told && !is_expired(message, now)).then(|| message.clone())
    }

    /// A message arrived at a destination. Queues and topics tell in different order, as in ActiveMQ.
    pub(in crate::core) fn advise_arrival(
        &mut self,
        target: Target,
        message: &Arc<Message>,
        turn: &mut Turn<'_>,
    ) {
        let destination = match target {
            Target::Queue(key) => self.queues[key.0].destination.clone(),
            Target::Topic(key) => self.topics[key.0].destination.clone(),
        };
        let alone = !message.persistent && self.consumer_count(target) == 0;
        let unheard = alone && self.wants(AdvisoryKind::NoConsumer, &destination);
        if unheard && destination.is_topic() {
            self.advise_no_consumer(&destination, message, turn);
        }
        self.advise_message(AdvisoryKind::MessageDelivered, &destination, message, None, turn);
        if unheard && destination.is_queue() {
            self.advise_no_consumer(&destination, message, turn);
        }
    }

    /// The message itself goes to the topic.
    fn advise_no_consumer(&mut self, destination: &Destination, message: &Message, turn: &mut Turn<'_>) {
        let topic = AdvisoryKind::NoConsumer.topic(Some(destination));
        let listeners = self.listeners(&topic);
        if listeners.is_empty() {
            return;
        }
        let copy = Message {
            destination: Some(topic),
            transaction_id: None,
            ..message.clone()
        };
        self.post(listeners, copy, turn);
    }

    /// The time of a message that was on a queue is over.
    pub(in crate::core) fn note_expired(&mut self, queue: QueueKey, entry: &Entry, turn: &mut Turn<'_>) {
        self.count_expired(queue, entry.body.as_deref());
        self.advise_of_entry(AdvisoryKind::Expired, queue, entry, turn);
    }

    /// The time of a message was over before it came to a topic.
    pub(in crate::core) fn expire_topic_message(
        &mut self,
        topic: TopicKey,
        message: &Arc<Message>,
        turn: &mut Turn<'_>,
    ) {
        self.stats.expired += 1;
        self.topics[topic.0].counts.expire();
        let destination = self.topics[topic.0].destination.clone();
        self.advise_message(AdvisoryKind::Expired, &destination, message, None, turn);
    }

    /// The time of a message that waited for a topic consumer is over.
    pub(in crate::core) fn expire_offered(&mut self, message: &Arc<Message>, turn: &mut Turn<'_>) {
        let target = message
            .destination
            .as_ref()
            .and_then(|of| self.destinations.get(of));
        match target {
            Some(Target::Topic(topic)) => self.expire_topic_message(*topic, message, turn),
            _ => self.stats.expired += 1,
        }
    }

    /// A message is on its queue no more.
    pub(in crate::core) fn note_left(&mut self, queue: QueueKey, entry: &Entry, turn: &mut Turn<'_>) {
        self.count_left(queue, entry);
        self.advise_of_entry(AdvisoryKind::MessageConsumed, queue, entry, turn);
    }

    /// Tells of a message that was on a queue.
    pub(in crate::core) fn advise_of_entry(
        &mut self,
        kind: AdvisoryKind,
        queue: QueueKey,
        entry: &Entry,
        turn: &mut Turn<'_>,
    ) {
        if !self.listens(kind) {
            return;
        }
        let (Some(message), Some(queue)) = (&entry.body, self.queues.get(queue.0)) else {
            return;
        };
        let destination = match &queue.durable {
            None => queue.destination.clone(),
            // What waits for a subscription came over a topic.
            Some(durable) => message
                .destination
                .clone()
                .unwrap_or_else(|| durable.destination.clone()),
        };
        self.advise_message(kind, &destination, message, None, turn);
    }

    /// Tells of a message of a destination and, if it is on account of a consumer, of which.
    pub(in crate::core) fn advise_message(
        &mut self,
        kind: AdvisoryKind,
        destination: &Destination,
        message: &Arc<Message>,
        consumer: Option<SubscriptionKey>,
        turn: &mut Turn<'_>,
    ) {
        if !self.wants(kind, destination) {
            return;
        }
        let policy = self.config.rules.policies.for_destination(destination);
        let mut told = message.clone();
        if !policy.include_body_for_advisory {
            Arc::make_mut(&mut told).content = None;
        }
        let mut advisory = Advisory::of(told);
        if kind != AdvisoryKind::MessageDlqd
            && let Some(id) = &message.message_id
        {
            advisory = advisory.with("orignalMessageId", id.to_string());
        }
        if !matches!(kind, AdvisoryKind::MessageDlqd | AdvisoryKind::Expired) {
            advisory = advisory.with("orignalDestination", destination.qualified_name());
        }
        if let Some(subscription) = consumer.and_then(|key| self.subscriptions.get(key.0)) {
            let discarded = i32::try_from(subscription.counts.discarded).unwrap_or(i32::MAX);
            advisory = advisory
                .with("discardedCount", discarded)
                .with("consumerId", subscription.id.to_string());
        }
        self.advise(kind, Some(destination), advisory, turn);
    }

    /// Something waits for a durable subscription whose consumer has no room.
    pub(in crate::core) fn note_slow_durable(&mut self, queue: QueueKey, turn: &mut Turn<'_>) {
        let consumer = self.queues[queue.0].consumers().next();
        if let Some(key) = consumer
            && !self.subscriptions[key.0].has_credit()
            && self.subscriptions[key.0].slowness.falls_behind()
        {
            self.slow(key, turn);
        }
    }

    fn wants(&self, kind: AdvisoryKind, destination: &Destination) -> bool {
        self.listens(kind) && self.advises(kind, destination)
    }

    /// A consumer does not keep up, from here on.
    pub(in crate::core) fn advise_slow(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let subscription = &self.subscriptions[key.0];
        let Some(destination) = subscription
            .info
            .destination
            .clone()
            .filter(|of| self.wants(AdvisoryKind::SlowConsumer, of))
        else {
            return;
        };
        let advisory =
            Advisory::of(subscription.info.clone()).with("consumerId", subscription.id.to_string());
        self.advise(AdvisoryKind::SlowConsumer, Some(&destination), advisory, turn);
    }

    /// There is no room for a message: its producer waits, or is told so.
    pub(in crate::core) fn advise_full(
        &mut self,
        from: ConnectionKey,
        limit: Limit,
        message: &Message,
        turn: &mut Turn<'_>,
    ) {
        let Some(destination) = &message.destination else {
            return;
        };
        if self.wants(AdvisoryKind::Full, destination) {
            let (name, used) = match limit {
                Limit::Memory => ("Main:memory".to_owned(), self.memory_used),
                Limit::Store(_) => ("Main:store".to_owned(), self.stored_used),
                Limit::Temp => ("Main:temp".to_owned(), self.spool.used),
                Limit::Queue(key) => {
                    let used = self.queues.get(key.0).map_or(0, |queue| queue.memory_used);
                    (format!("Main:memory:{destination}:memory"), used)
                }
            };
            let usage = i64::try_from(used).unwrap_or(i64::MAX);
            let advisory = Advisory::default()
                .with("usageName", name)
                .with("usageCount", usage);
            self.advise(AdvisoryKind::Full, Some(destination), advisory, turn);
        }
        if self.wants(AdvisoryKind::FastProducer, destination)
            && let Some(id) = &message.producer_id
        {
            let known = self.connections[from.0 as usize]
                .producers
                .get(&(id.session_id, id.value));
            let info = known.map_or_else(
                || ProducerInfo {
                    producer_id: Some(id.clone()),
                    ..ProducerInfo::default()
                },
                |producer| producer.info.clone(),
            );
            let advisory = Advisory::of(info).with("producerId", id.to_string());
            self.advise(AdvisoryKind::FastProducer, Some(destination), advisory, turn);
        }
    }
}

fn removal(id: EntityId) -> RemoveInfo {
    RemoveInfo {
        object_id: Some(id),
        last_delivered_sequence_id: RemoveInfo::UNKNOWN_DELIVERED,
        response_required: true,
        ..RemoveInfo::default()
    }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
