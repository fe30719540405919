//! The walk of a message to the subscribers of a topic: at once, or when they have credit, or not at all if too many
//! wait.
//!
//! What a publication brings about besides (dead letters, advisories) comes after every subscriber has it, because it
//! is published itself.

use std::sync::Arc;

use openwire_client::wire::{Message, MessageDispatch, ValueRef, find_value};

use super::advisory::AdvisoryKind;
use super::dead_letter::EXPIRED;
use super::effect::{ConnectionKey, Effects};
use super::once::Once;
use super::queue::QueueKey;
use super::send::is_expired;
use super::statistics::count_topic_dispatch;
use super::subscription::{Pull, Source, SubscriptionKey};
use super::topic::{Topic, TopicKey};
use super::{Core, Turn};
use crate::policy::{DispatchPolicy, evict_expired};
use crate::store::accounting_size;

/// How many bytes of messages a connection gets that was congested, in one turn: as many as it takes to be so again.
const RELIEF: usize = 8 * 1024 * 1024;

/// Why a subscriber does not get a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// Its time was over while it waited.
    Expired,
    /// It made room for others.
    Evicted,
    /// No message may wait.
    NoRoom,
}

/// What is left to do when all subscribers have a message.
#[derive(Debug, Default)]
pub(super) struct Aftermath {
    lost: Vec<(SubscriptionKey, Arc<Message>, Loss)>,
    /// Those that do not keep up, from here on.
    slow: Vec<SubscriptionKey>,
}

/// Whom a message is for, as far as it says so itself (`clientIdFilterDispatchPolicy`).
#[derive(Debug)]
enum Addressee {
    Everybody,
    Client(String),
    Nobody,
}

impl Addressee {
    fn of(topic: &Topic, message: &Message) -> Self {
        let DispatchPolicy::ClientIdFilter { property, suffix } = &topic.policy.dispatch else {
            return Self::Everybody;
        };
        let properties = message.marshalled_properties.as_ref();
        match properties.and_then(|properties| find_value(properties, property).ok()?) {
            None | Some(ValueRef::Null) => Self::Everybody,
            Some(ValueRef::String(client))
                if topic.destination.qualified_name().ends_with(suffix.as_str()) =>
            {
                Self::Client(client.to_string())
            }
            // As in ActiveMQ: on other topics, and for what is no name, nobody is meant.
            Some(_) => Self::Nobody,
        }
    }

    fn is(&self, client_id: Option<&str>) -> bool {
        match self {
            Self::Everybody => true,
            Self::Client(client) => client_id == Some(client),
            Self::Nobody => false,
        }
    }
}

impl Core {
    /// Gives a message to the subscribers of a topic; true if some of it is stored.
    pub(super) fn publish_to_topic(
        &mut self,
        topic: TopicKey,
        mut message: Arc<Message>,
        tied: bool,
        queues: &mut Once<QueueKey>,
        turn: &mut Turn<'_>,
    ) -> bool {
        if is_expired(&message, turn.now) {
            self.bury(message.destination.clone(), None, &message, EXPIRED, turn);
            self.expire_topic_message(topic, &message, turn);
            return turn.effects.has_store();
        }
        let sequence = self.sequence;
        self.topics[topic.0].counts.arrive(accounting_size(&message));
        Arc::make_mut(&mut message).broker_out_time = turn.now;
        let (message, mut stored) = self.keep_for_later(topic, message, turn);
        let addressee = Addressee::of(&self.topics[topic.0], &message);
        let mut taken = false;
        let mut first = None;
        let durables = self.topics[topic.0].durables.clone();
        for &queue in durables.iter() {
            let durable = self.queues[queue.0].durable.as_ref();
            if durable.is_some_and(|durable| {
                addressee.is(Some(&durable.client_id)) && self.is_for_subscription(durable, &message)
            }) {
                taken = true;
                queues.add(queue);
                stored |= self.put_on_queue(queue, message.clone(), tied, &mut first, turn);
                self.note_slow_durable(queue, turn);
            }
        }
        self.serve_in_order(topic, message, sequence, tied || stored, taken, turn);
        stored
    }

    /// Gives a message to those who subscribed to a topic before it was sent, and to retroactive ones.
    pub(super) fn serve_subscribers(
        &mut self,
        topic: TopicKey,
        message: Arc<Message>,
        sequence: u64,
        taken: bool,
        turn: &mut Turn<'_>,
    ) {
        let addressee = Addressee::of(&self.topics[topic.0], &message);
        let mut after = Aftermath::default();
        let mut served = None;
        let line = self.topics[topic.0].subscribers.line();
        for &key in line.values() {
            if self.is_for(key, &message, &addressee) && self.is_in_time(key, topic, sequence) {
                served.get_or_insert(key);
                self.offer(key, message.clone(), &mut after, turn);
            }
        }
        drop(line);
        let topic = &mut self.topics[topic.0];
        if let (DispatchPolicy::RoundRobin, Some(first)) = (&topic.policy.dispatch, served) {
            topic.subscribers.move_to_end(first);
        }
        let tells = topic.policy.send_advisory_if_no_consumers
            && !message.persistent
            && !topic.destination.is_advisory();
        if tells && !taken && served.is_none() {
            self.nobody_consumes(&message, turn);
        }
        self.finish(after, turn);
    }

    /// True if a consumer came before the message with this number was sent, or gets what was sent before it came.
    fn is_in_time(&self, key: SubscriptionKey, topic: TopicKey, sequence: u64) -> bool {
        let subscription = &self.subscriptions[key.0];
        subscription.since < sequence
            || subscription.info.retroactive
            || self.topics[topic.0].always_retroactive
    }

    fn is_for(&self, key: SubscriptionKey, message: &Message, addressee: &Addressee) -> bool {
        let subscription = &self.subscriptions[key.0];
        if let Some(target) = &message.target_consumer_id
            && *target != subscription.id
        {
            return false;
        }
        if !matches!(addressee, Addressee::Everybody) {
            let info = self.connections[subscription.connection.0 as usize].info.as_ref();
            if !addressee.is(info.and_then(|info| info.client_id.as_deref())) {
                return false;
            }
        }
        subscription.sight.sees(message)
    }

    /// A message that is for a topic consumer: it gets it now, or it waits for credit as far as its limit allows.
    /// [`finish`](Self::finish) has to follow.
    pub(super) fn offer(
        &mut self,
        key: SubscriptionKey,
        message: Arc<Message>,
        after: &mut Aftermath,
        turn: &mut Turn<'_>,
    ) {
        let subscription = &mut self.subscriptions[key.0];
        subscription.counts.offered += 1;
        if subscription.waiting.is_empty() && subscription.has_credit() {
            subscription.slowness.keeps_up();
            return self.hand_over(key, message, turn);
        }
        // As in ActiveMQ a consumer is slow once more than its prefetch waits.
        let prefetch = subscription.prefetch as usize;
        if prefetch > 1 && subscription.waiting.len() > prefetch && subscription.slowness.falls_behind() {
            after.slow.push(key);
        }
        if subscription.pending_limit == Some(0) {
            after.lost.push((key, message, Loss::NoRoom));
            return;
        }
        if message.expiration > 0 {
            subscription.first_expiration = subscription.first_expiration.min(message.expiration);
        }
        self.memory_used += accounting_size(&message) as usize;
        subscription.waiting.push_back(message);
        self.make_room(key, after, turn.now);
        self.hand_out(key, usize::MAX, after, turn);
    }

    /// Gives a message of the broker's own to one subscriber.
    pub(super) fn post_to(&mut self, key: SubscriptionKey, message: &Arc<Message>, turn: &mut Turn<'_>) {
        if self.subscriptions[key.0].sight.sees(message) {
            let mut after = Aftermath::default();
            self.offer(key, message.clone(), &mut after, turn);
            self.finish(after, turn);
        }
    }

    /// Evicts what waits beyond the limit of a topic consumer, what waits in vain first.
    fn make_room(&mut self, key: SubscriptionKey, after: &mut Aftermath, now: i64) {
        let subscription = &mut self.subscriptions[key.0];
        let Some(limit) = subscription.pending_limit else {
            return;
        };
        let policy = &subscription.policy;
        let watermark = policy.evict_expired_messages_high_watermark.min(limit);
        let waiting = &mut subscription.waiting;
        let known = after.lost.len();
        // Who has nothing that ends need not be searched.
        if waiting.len() > watermark && subscription.first_expiration <= now {
            let expired = evict_expired(waiting, watermark, now);
            let ends = waiting.iter().map(|message| message.expiration);
            subscription.first_expiration = ends.filter(|end| *end > 0).min().unwrap_or(i64::MAX);
            let expired = expired.into_iter();
            after
                .lost
                .extend(expired.map(|message| (key, message, Loss::Expired)));
        }
        while waiting.len() > limit {
            let evicted = policy.eviction.evict(waiting);
            if evicted.is_empty() {
                break;
            }
            let evicted = evicted.into_iter();
            after
                .lost
                .extend(evicted.map(|message| (key, message, Loss::Evicted)));
        }
        for (_, message, _) in &after.lost[known..] {
            self.memory_used -= accounting_size(message) as usize;
        }
    }

    /// Dispatches what waits for a topic consumer, as far as its credit goes.
    pub(super) fn feed(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let mut after = Aftermath::default();
        self.hand_out(key, usize::MAX, &mut after, turn);
        self.finish(after, turn);
    }

    /// Dispatches what waits, until that is so many bytes.
    fn hand_out(&mut self, key: SubscriptionKey, most: usize, after: &mut Aftermath, turn: &mut Turn<'_>) {
        let mut bytes = 0;
        while bytes < most {
            let subscription = &mut self.subscriptions[key.0];
            if !subscription.has_credit() {
                return;
            }
            let Some(message) = subscription.waiting.pop_front() else {
                subscription.first_expiration = i64::MAX;
                subscription.slowness.keeps_up();
                return;
            };
            let size = accounting_size(&message) as usize;
            self.memory_used -= size;
            bytes = bytes.saturating_add(size);
            if is_expired(&message, turn.now) {
                after.lost.push((key, message, Loss::Expired));
            } else {
                self.hand_over(key, message, turn);
            }
        }
    }

    /// A connection has more to write than it takes: what is sent to topics waits for its consumers until
    /// [`relieved`](Self::relieved), however large their prefetch is.
    pub fn congested(&mut self, connection: ConnectionKey) {
        let Some(congested) = self.connections.get_mut(connection.0 as usize) else {
            return;
        };
        congested.congested = true;
        for consumer in congested.consumers.values() {
            let subscription = &mut self.subscriptions[consumer.0];
            subscription.stalled = matches!(subscription.source, Source::Topics(_));
        }
    }

    /// A connection has taken what there was for it. True if it is congested still, because more waits than it gets
    /// now; [`relieved`](Self::relieved) is to be called again when it has taken that.
    pub fn relieved(&mut self, now: i64, connection: ConnectionKey, effects: &mut Effects) -> bool {
        let turn = &mut Turn { now, effects };
        let Some(relieved) = self.connections.get(connection.0 as usize) else {
            return false;
        };
        let consumers = relieved.consumers.values().copied();
        let stalled: Vec<_> = consumers
            .filter(|consumer| self.subscriptions[consumer.0].stalled)
            .collect();
        let share = RELIEF / stalled.len().max(1);
        let mut more = false;
        let mut after = Aftermath::default();
        for consumer in stalled {
            self.subscriptions[consumer.0].stalled = false;
            self.hand_out(consumer, share.max(1), &mut after, turn);
            let subscription = &mut self.subscriptions[consumer.0];
            subscription.stalled = !subscription.waiting.is_empty() && subscription.has_credit();
            more |= subscription.stalled;
        }
        self.connections[connection.0 as usize].congested = more;
        self.finish(after, turn);
        self.resume_producers(turn);
        more
    }

    /// Sends a message to a topic consumer that has credit.
    fn hand_over(&mut self, key: SubscriptionKey, message: Arc<Message>, turn: &mut Turn<'_>) {
        let subscription = &mut self.subscriptions[key.0];
        // A consumer that pulls has no window: its credit is the pull itself.
        match subscription.pull.take() {
            None => {
                if subscription.topic_in_flight == 0 {
                    subscription.slowness.moved(turn.now);
                }
                subscription.topic_in_flight += 1;
            }
            Some(Pull::NoWait) => self.pulls_without_wait -= 1,
            Some(_) => {}
        }
        self.stats.dispatched += 1;
        count_topic_dispatch(
            &mut self.topics,
            &self.destinations,
            subscription,
            &message,
            turn.now,
        );
        turn.send(
            subscription.connection,
            MessageDispatch {
                consumer_id: Some(subscription.id.clone()),
                destination: message.destination.clone(),
                redelivery_counter: message.redelivery_counter,
                message: Some(message),
                ..MessageDispatch::default()
            },
        );
    }

    /// Does what messages brought about that were [offered](Self::offer).
    pub(super) fn finish(&mut self, after: Aftermath, turn: &mut Turn<'_>) {
        for key in after.slow {
            self.slow(key, turn);
        }
        for (key, message, loss) in after.lost {
            if loss == Loss::Expired {
                self.bury(message.destination.clone(), None, &message, EXPIRED, turn);
                self.expire_offered(&message, turn);
                continue;
            }
            self.stats.evicted += 1;
            let Some(subscription) = self.subscriptions.get_mut(key.0) else {
                continue;
            };
            subscription.counts.discarded += 1;
            // What is published because of an eviction may evict again, but without end it must not.
            if loss == Loss::NoRoom || self.discarding {
                self.stats.discarded += 1;
                continue;
            }
            let cause = format!("java.lang.Throwable: TopicSubDiscard. ID:{}", subscription.id);
            self.discarding = true;
            self.discarded_from_topic(key, &message, turn);
            self.bury(message.destination.clone(), None, &message, &cause, turn);
            self.discarding = false;
        }
    }

    /// A message was evicted that waited for a topic consumer. Told by advisories, and logged once for each consumer.
    fn discarded_from_topic(&mut self, key: SubscriptionKey, message: &Arc<Message>, turn: &mut Turn<'_>) {
        if let Some(destination) = &message.destination {
            self.advise_message(
                AdvisoryKind::MessageDiscarded,
                destination,
                message,
                Some(key),
                turn,
            );
        }
        let subscription = &self.subscriptions[key.0];
        if subscription.counts.discarded == 1 {
            tracing::warn!(
                consumer = %subscription.id,
                peer = %self.connections[subscription.connection.0 as usize].peer,
                destination = ?message.destination,
                limit = subscription.pending_limit,
                "too many messages wait for a consumer: some are evicted from here on"
            );
        }
    }

    /// A message that is not persistent was sent to a topic from which nobody consumes (`sendAdvisoryIfNoConsumers`).
    fn nobody_consumes(&mut self, message: &Arc<Message>, turn: &mut Turn<'_>) {
        const CAUSE: &str = "java.lang.Throwable: No consumers";
        self.bury(message.destination.clone(), None, message, CAUSE, turn);
    }

    /// A consumer gets what is sent to a topic from here on.
    pub(super) fn join_topic(&mut self, key: SubscriptionKey, topic: TopicKey) {
        let topic = &mut self.topics[topic.0];
        let priority = match topic.policy.dispatch {
            DispatchPolicy::Priority => self.subscriptions[key.0].info.priority,
            _ => 0,
        };
        topic.subscribers.add(key, priority);
    }
}
