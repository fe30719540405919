//! What is counted of each destination and each subscription.

mod requests;

use openwire_client::wire::{Destination, Message};
use rustc_hash::FxHashMap;
use slab::Slab;

use super::Core;
use super::destinations::Target;
use super::queue::{Entry, QueueKey};
use super::subscription::Subscription;
use super::topic::{Topic, TopicKey};
use crate::core::spool::Spooled;
pub use requests::StatisticsOptions;

/// What is counted of a queue or topic: ActiveMQ's `DestinationStatistics`.
///
/// Counters begin with the broker's start; a request to `ActiveMQ.Statistics.Broker` can set them back.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DestinationStats {
    /// Which.
    pub destination: Destination,
    /// Messages it holds (`QueueSize`): those that wait and those that consumers have. Of a topic none.
    pub size: usize,
    /// Messages that arrived.
    pub enqueued: u64,
    /// Messages that were acknowledged, or left in another way. Of a topic those that its subscribers acknowledged.
    pub dequeued: u64,
    /// Messages that went to consumers, each time.
    pub dispatched: u64,
    /// Messages whose time was over.
    pub expired: u64,
    /// Messages that consumers have and have not acknowledged.
    pub in_flight: usize,
    /// Consumers, browsers and durable subscriptions that nobody consumes from included.
    pub consumers: usize,
    /// Producers that name it.
    pub producers: usize,
    /// Bytes of messages it holds that live in memory only.
    pub memory_used: usize,
    /// Bytes a message counted on average, 1024 for its header included; 0 before the first.
    pub average_message_size: f64,
    /// Milliseconds from arrival to dispatch on average; 0 before the first dispatch.
    pub average_enqueue_time: f64,
    /// The longest such time, in milliseconds.
    pub max_enqueue_time: u64,
    /// The shortest such time, in milliseconds.
    pub min_enqueue_time: u64,
}

/// The counters of one queue or topic.
#[derive(Debug, Default)]
pub(super) struct Counts {
    enqueued: u64,
    /// Bytes of those.
    bytes: u64,
    dequeued: u64,
    dispatched: u64,
    expired: u64,
    /// Milliseconds from arrival to dispatch, of all that were dispatched together.
    time: u64,
    longest: u64,
    shortest: u64,
    /// Messages of a topic that subscribers have; queues know it themselves.
    in_flight: u64,
    /// Bytes of messages on a queue that live in memory only.
    memory: u64,
    /// Browsers of a queue, those at their end included.
    pub(super) browsers: usize,
}

impl Counts {
    /// A message arrived.
    pub(super) fn arrive(&mut self, size: u32) {
        self.enqueued += 1;
        self.bytes += u64::from(size);
    }

    /// A message arrived and is on the queue.
    pub(super) fn enqueue(&mut self, entry: &Entry) {
        self.arrive(entry.size);
        self.hold(entry);
    }

    /// The store refused what had arrived.
    pub(super) fn withdraw(&mut self, entry: &Entry) {
        self.depart(entry.size);
        self.release(entry);
    }

    /// The opposite of [`Counts::arrive`].
    pub(super) fn depart(&mut self, size: u32) {
        self.enqueued = self.enqueued.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(size));
    }

    /// The store refused that a message has left.
    pub(super) fn take_back(&mut self, entry: &Entry) {
        self.dequeued = self.dequeued.saturating_sub(1);
        self.hold(entry);
    }

    /// A message that arrived then goes to a consumer now.
    pub(super) fn dispatch(&mut self, arrived: i64, now: i64) {
        let time = u64::try_from(now - arrived).unwrap_or(0);
        if self.dispatched == 0 || time < self.shortest {
            self.shortest = time;
        }
        self.longest = self.longest.max(time);
        self.dispatched += 1;
        self.time += time;
    }

    pub(super) fn expire(&mut self) {
        self.expired += 1;
    }

    /// A message is on the queue.
    pub(super) fn hold(&mut self, entry: &Entry) {
        if !entry.stored && entry.spooled == Spooled::No {
            self.memory += u64::from(entry.size);
        }
    }

    /// The opposite of [`Counts::hold`].
    pub(super) fn release(&mut self, entry: &Entry) {
        if !entry.stored && entry.spooled == Spooled::No {
            self.memory = self.memory.saturating_sub(u64::from(entry.size));
        }
    }

    /// Begins again. What there is stays.
    fn reset(&mut self) {
        *self = Self {
            in_flight: self.in_flight,
            memory: self.memory,
            browsers: self.browsers,
            ..Self::default()
        };
    }
}

/// The counters of one subscription.
#[derive(Debug, Default)]
pub(super) struct SubscriptionCounts {
    /// Messages of topics that were for it.
    pub(super) offered: u64,
    pub(super) dispatched: u64,
    pub(super) acknowledged: u64,
    /// Messages it did not get because too much waited for it.
    pub(super) discarded: u64,
}

fn average(sum: u64, count: u64) -> f64 {
    match count {
        0 => 0.0,
        count => sum as f64 / count as f64,
    }
}

impl Core {
    /// What is counted of a destination; none if there is no such.
    pub fn destination_stats(&self, destination: &Destination) -> Option<DestinationStats> {
        let target = *self.destinations.get(destination)?;
        Some(self.stats_of(destination, target))
    }

    /// What is counted of each destination, advisory topics included, ordered by kind and name.
    pub fn destinations(&self) -> Vec<DestinationStats> {
        let known = self.destinations.iter();
        let mut all: Vec<_> = known
            .map(|(destination, target)| self.stats_of(destination, *target))
            .collect();
        all.sort_unstable_by(|one, other| {
            let key = |stats: &DestinationStats| (stats.destination.kind(), stats.destination.shared_name());
            key(one).cmp(&key(other))
        });
        all
    }

    fn stats_of(&self, destination: &Destination, target: Target) -> DestinationStats {
        let (counts, size, in_flight) = match target {
            Target::Queue(key) => {
                let queue = &self.queues[key.0];
                let size = queue.backlog.len() + queue.in_flight;
                (&queue.counts, size, queue.in_flight)
            }
            Target::Topic(key) => {
                let topic = &self.topics[key.0];
                (&topic.counts, 0, self.topic_in_flight(key))
            }
        };
        DestinationStats {
            destination: destination.clone(),
            size,
            enqueued: counts.enqueued,
            dequeued: counts.dequeued,
            dispatched: counts.dispatched,
            expired: counts.expired,
            in_flight,
            consumers: self.consumer_count(target),
            producers: self.advisories.producers(destination),
            memory_used: counts.memory as usize,
            average_message_size: average(counts.bytes, counts.enqueued),
            average_enqueue_time: average(counts.time, counts.dispatched),
            max_enqueue_time: counts.longest,
            min_enqueue_time: counts.shortest,
        }
    }

    /// What subscribers of a topic have, and what those of its durable subscriptions have of any topic.
    fn topic_in_flight(&self, key: TopicKey) -> usize {
        let topic = &self.topics[key.0];
        let durable: usize = topic
            .durables
            .iter()
            .map(|queue| self.queues[queue.0].in_flight)
            .sum();
        topic.counts.in_flight as usize + durable
    }

    /// How many consumers there are.
    pub(super) fn consumer_count(&self, target: Target) -> usize {
        match target {
            Target::Queue(key) => {
                let queue = &self.queues[key.0];
                queue.consumers().len() + queue.counts.browsers
            }
            Target::Topic(key) => {
                let topic = &self.topics[key.0];
                topic.subscribers.len() + topic.durables.len()
            }
        }
    }

    /// The counters a message of a queue counts in as well: those of the topic it came over, if it waited for a durable
    /// subscription.
    fn topic_counts(&mut self, queue: QueueKey, message: Option<&Message>) -> Option<&mut Counts> {
        self.queues.get(queue.0)?.durable.as_ref()?;
        match self.destinations.get(message?.destination.as_ref()?)? {
            Target::Topic(topic) => Some(&mut self.topics[topic.0].counts),
            Target::Queue(_) => None,
        }
    }

    /// A message that arrived then goes from a queue to a consumer.
    pub(super) fn count_dispatch(
        &mut self,
        queue: QueueKey,
        arrived: i64,
        message: Option<&Message>,
        now: i64,
    ) {
        self.queues[queue.0].counts.dispatch(arrived, now);
        if let Some(counts) = self.topic_counts(queue, message) {
            counts.dispatch(arrived, now);
        }
    }

    /// A message is on its queue no more.
    pub(super) fn count_left(&mut self, queue: QueueKey, entry: &Entry) {
        if let Some(queue) = self.queues.get_mut(queue.0) {
            queue.counts.dequeued += 1;
            queue.counts.release(entry);
        }
        if let Some(counts) = self.topic_counts(queue, entry.body.as_deref()) {
            counts.dequeued += 1;
        }
    }

    /// The time of a message on a queue was over.
    pub(super) fn count_expired(&mut self, queue: QueueKey, message: Option<&Message>) {
        if let Some(queue) = self.queues.get_mut(queue.0) {
            queue.counts.expire();
        }
        if let Some(counts) = self.topic_counts(queue, message) {
            counts.expire();
        }
    }

    fn reset_statistics(&mut self) {
        for (_, queue) in &mut self.queues {
            queue.counts.reset();
        }
        for (_, topic) in &mut self.topics {
            topic.counts.reset();
        }
        self.statistics_since = self.stats;
    }
}

/// A message of a topic goes to a subscriber. Which topic it is of is kept only if the subscriber has several.
pub(super) fn count_topic_dispatch(
    topics: &mut Slab<Topic>,
    destinations: &FxHashMap<Destination, Target>,
    subscription: &mut Subscription,
    message: &Message,
    now: i64,
) {
    subscription.counts.dispatched += 1;
    let topic = match subscription.topics() {
        [topic] => Some(*topic),
        _ => {
            let target = message.destination.as_ref().and_then(|of| destinations.get(of));
            let topic = match target {
                Some(Target::Topic(topic)) => Some(*topic),
                _ => None,
            };
            subscription.topics_in_flight.push_back(topic);
            topic
        }
    };
    if let Some(topic) = topic.and_then(|topic| topics.get_mut(topic.0)) {
        topic.counts.dispatch(message.broker_in_time, now);
        topic.counts.in_flight += 1;
    }
}

/// A subscriber has acknowledged so many messages of topics, or is gone and has them no more.
pub(super) fn count_topic_landing(
    topics: &mut Slab<Topic>,
    subscription: &mut Subscription,
    count: usize,
    acknowledged: bool,
) {
    let mut land = |topic: Option<TopicKey>, count: u64| {
        if let Some(topic) = topic.and_then(|topic| topics.get_mut(topic.0)) {
            topic.counts.in_flight = topic.counts.in_flight.saturating_sub(count);
            topic.counts.dequeued += if acknowledged { count } else { 0 };
        }
    };
    let held = subscription
        .counts
        .dispatched
        .saturating_sub(subscription.counts.acknowledged);
    let count = count.min(usize::try_from(held).unwrap_or(usize::MAX));
    let listed = count.min(subscription.topics_in_flight.len());
    for topic in subscription.topics_in_flight.drain(..listed) {
        land(topic, 1);
    }
    land(subscription.topics().first().copied(), (count - listed) as u64);
    if acknowledged {
        subscription.counts.acknowledged += count as u64;
    }
}
