//! Requests for statistics by message: ActiveMQ's `statisticsBrokerPlugin`.

use std::sync::Arc;

use openwire_client::wire::{Destination, Message, MessageKind, Value, ValueMap, decode_map};

use super::DestinationStats;
use crate::core::advisory::marshalled;
use crate::core::destinations::{Target, parts};
use crate::core::refusal::Refusal;
use crate::core::route::Routes;
use crate::core::subscription::{Source, SubscriptionKey};
use crate::core::{Core, Turn};

const PREFIX: &str = "ActiveMQ.Statistics";
const DESTINATION: &str = "ActiveMQ.Statistics.Destination";
const BROKER: &str = "ActiveMQ.Statistics.Broker";
const SUBSCRIPTION: &str = "ActiveMQ.Statistics.Subscription";

/// In a property or in the name: an empty message ends the answers.
const END_OF_LIST: &str = "ActiveMQ.Statistics.Destination.List.End.With.Null";
/// As a property: when the first message of a queue arrived is told as well.
const FIRST_MESSAGE: &str = "ActiveMQ.Statistics.Destination.Include.First.Message.Timestamp";
/// As a property: counters begin again before they are told.
const RESET: &str = "ActiveMQ.Statistics.Broker.Reset";

/// What a broker that answers requests for statistics (`statisticsBrokerPlugin`) tells of itself besides what it counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatisticsOptions {
    /// URIs it is reached at. The first `tcp`, `ssl`, `stomp` and `stomp+ssl` among them are told.
    pub connectors: Vec<Arc<str>>,
    /// `dataDirectory`; empty if there is none.
    pub data_directory: Arc<str>,
}

impl Core {
    /// Answers a request for statistics; false if the message is none. Nothing else becomes of a request.
    pub(in crate::core) fn answer_statistics(
        &mut self,
        request: &Message,
        turn: &mut Turn<'_>,
    ) -> Result<bool, Refusal> {
        let (Some(destination), Some(reply_to)) = (&request.destination, &request.reply_to) else {
            return Ok(false);
        };
        let name = destination.name();
        if self.config.statistics.is_none() || !name.starts_with(PREFIX) {
            return Ok(false);
        }
        let properties = request.marshalled_properties.clone().map(decode_map);
        // Without its properties a request asks for the usual.
        let properties = properties.and_then(Result::ok).unwrap_or_default();
        let has = |name| properties.get(name).is_some();
        let mut answers = Vec::new();
        if let Some(rest) = name.strip_prefix(DESTINATION) {
            let rest = rest.strip_prefix('.').unwrap_or(rest);
            let wanted = rest.replace(END_OF_LIST, "");
            let ends = wanted != rest || has(END_OF_LIST);
            let wanted = Destination::parse(&wanted, destination.kind());
            if !wanted.name().is_empty() {
                answers = self.destination_answers(&wanted, has(FIRST_MESSAGE))?;
            }
            if ends {
                answers.push(ValueMap::new());
            }
        } else if name.starts_with(SUBSCRIPTION) {
            answers = self.subscription_answers();
        } else if name.starts_with(BROKER) {
            if has(RESET) {
                self.reset_statistics();
            }
            answers.push(self.broker_answer());
        } else {
            return Ok(false);
        }
        for answer in answers {
            self.send_statistics(answer, reply_to, request.correlation_id.clone(), turn)?;
        }
        Ok(true)
    }

    fn send_statistics(
        &mut self,
        map: ValueMap,
        reply_to: &Destination,
        correlation_id: Option<Arc<str>>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        if self.memory_used > self.config.memory_limit {
            return Err(Refusal::resources(
                "there is no room for the statistics that were asked for",
            ));
        }
        let target = self.resolve_for_send(reply_to, turn)?;
        let (producer_id, message_id) = self.own_ids();
        let content = match map.is_empty() {
            true => None,
            false => marshalled(&map),
        };
        let message = Message {
            kind: MessageKind::Map,
            producer_id: Some(producer_id),
            message_id: Some(message_id),
            destination: Some(reply_to.clone()),
            message_type: Some("Advisory".into()),
            correlation_id,
            priority: 4,
            timestamp: turn.now,
            content,
            ..Message::default()
        };
        self.publish(Routes::One(target), Arc::new(message), None, turn);
        Ok(())
    }

    fn identity(&self) -> ValueMap {
        let mut map = ValueMap::new();
        map.insert("brokerName", &*self.config.broker_name);
        map.insert("brokerId", self.config.broker_id.to_string());
        map
    }

    fn destination_answers(&self, wanted: &Destination, first: bool) -> Result<Vec<ValueMap>, Refusal> {
        let mut targets = Vec::new();
        for part in parts(wanted)? {
            for target in self.matching(&part) {
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        Ok(targets
            .into_iter()
            .map(|target| self.destination_answer(target, first))
            .collect())
    }

    fn destination_answer(&self, target: Target, first: bool) -> ValueMap {
        let destination = match target {
            Target::Queue(key) => &self.queues[key.0].destination,
            Target::Topic(key) => &self.topics[key.0].destination,
        };
        let stats = self.stats_of(destination, target);
        let own_limit = self
            .config
            .rules
            .policies
            .for_destination(destination)
            .memory_limit;
        let limit = match usize::try_from(own_limit).unwrap_or(usize::MAX) {
            0 => self.config.memory_limit,
            limit => limit,
        };
        let mut map = self.identity();
        map.insert("destinationName", destination.qualified_name());
        put_common(&mut map, &stats, limit);
        if first && let Some(arrived) = self.first_arrival(target) {
            map.insert("firstMessageTimestamp", arrived);
        }
        map
    }

    /// When the first message of a queue arrived; none if it is in the store only.
    fn first_arrival(&self, target: Target) -> Option<i64> {
        let Target::Queue(key) = target else { return None };
        let (_, first) = self.queues[key.0]
            .backlog
            .iter_from(crate::core::backlog::Place::START)
            .next()?;
        first.body.as_ref().map(|message| message.broker_in_time)
    }

    fn broker_answer(&self) -> ValueMap {
        let mut all = DestinationStats {
            destination: Destination::queue(""),
            size: 0,
            enqueued: self.stats.enqueued - self.statistics_since.enqueued,
            dequeued: 0,
            dispatched: self.stats.dispatched - self.statistics_since.dispatched,
            expired: self.stats.expired - self.statistics_since.expired,
            in_flight: 0,
            consumers: 0,
            producers: 0,
            memory_used: self.memory_used,
            average_message_size: 0.0,
            average_enqueue_time: 0.0,
            max_enqueue_time: 0,
            min_enqueue_time: u64::MAX,
        };
        let (mut arrived, mut bytes, mut sent, mut time) = (0, 0.0, 0, 0.0);
        for (destination, target) in &self.destinations {
            let stats = self.stats_of(destination, *target);
            all.size += stats.size;
            all.dequeued += stats.dequeued;
            all.in_flight += stats.in_flight;
            all.consumers += stats.consumers;
            all.producers += stats.producers;
            arrived += stats.enqueued;
            bytes += stats.average_message_size * stats.enqueued as f64;
            if stats.dispatched > 0 {
                sent += stats.dispatched;
                time += stats.average_enqueue_time * stats.dispatched as f64;
                all.max_enqueue_time = all.max_enqueue_time.max(stats.max_enqueue_time);
                all.min_enqueue_time = all.min_enqueue_time.min(stats.min_enqueue_time);
            }
        }
        if arrived > 0 {
            all.average_message_size = bytes / arrived as f64;
        }
        match sent {
            0 => all.min_enqueue_time = 0,
            sent => all.average_enqueue_time = time / sent as f64,
        }
        let mut map = self.identity();
        put_common(&mut map, &all, self.config.memory_limit);
        let (temp, limit) = (self.spool.used as u64, self.config.temp_limit.unwrap_or(0));
        for (kind, used, limit) in [("store", 0, 0), ("temp", temp, limit)] {
            let percent = used.saturating_mul(100).checked_div(limit).unwrap_or(0);
            let long = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
            map.insert(
                format!("{kind}PercentUsage"),
                i32::try_from(percent).unwrap_or(i32::MAX),
            );
            map.insert(format!("{kind}Usage"), long(used));
            map.insert(format!("{kind}Limit"), long(limit));
        }
        let options = self.config.statistics.as_ref();
        for (key, scheme) in [
            ("openwire", "tcp"),
            ("stomp", "stomp"),
            ("ssl", "ssl"),
            ("stomp+ssl", "stomp+ssl"),
        ] {
            let uri = options.and_then(|options| {
                let mut uris = options.connectors.iter();
                uris.find(|uri| uri.split_once("://").is_some_and(|(of, _)| of == scheme))
            });
            map.insert(key, uri.map_or("", |uri| &**uri));
        }
        map.insert("vm", format!("vm://{}", self.config.broker_name));
        let directory = options.map_or("", |options| &*options.data_directory);
        map.insert("dataDirectory", directory);
        map
    }

    fn subscription_answers(&self) -> Vec<ValueMap> {
        let mut keys: Vec<_> = self
            .subscriptions
            .iter()
            .map(|(key, subscription)| (matches!(subscription.source, Source::Topics(_)), key))
            .collect();
        keys.sort_unstable();
        keys.into_iter()
            .map(|(_, key)| self.subscription_answer(SubscriptionKey(key)))
            .collect()
    }

    fn subscription_answer(&self, key: SubscriptionKey) -> ValueMap {
        let subscription = &self.subscriptions[key.0];
        let (info, counts) = (&subscription.info, &subscription.counts);
        let connection = self.connections.get(subscription.connection.0 as usize);
        let client = connection
            .and_then(|connection| connection.info.as_ref())
            .and_then(|connection| connection.client_id.as_deref());
        let in_flight = match subscription.source {
            Source::Queues(_) => subscription.in_flight.len(),
            Source::Topics(_) => subscription.topic_in_flight,
        };
        let offered = match subscription.source {
            Source::Queues(_) => counts.dispatched,
            Source::Topics(_) => counts.offered,
        };
        let name = info.destination.as_ref().map_or("", Destination::name);
        let mut map = self.identity();
        map.insert("destinationName", name);
        map.insert("clientId", client.unwrap_or_default());
        map.insert(
            "connectionId",
            subscription.id.connection_id.as_deref().unwrap_or_default(),
        );
        map.insert("sessionId", subscription.id.session_id);
        let selector = info.selector.clone();
        map.insert("selector", selector.map_or(Value::Null, Value::from));
        map.insert("enqueueCounter", long(offered));
        map.insert("dequeueCounter", long(counts.acknowledged));
        map.insert("dispatchedCounter", long(counts.dispatched));
        map.insert("dispatchedQueueSize", long(in_flight as u64));
        map.insert("prefetchSize", subscription.prefetch as i32);
        map.insert("maximumPendingMessageLimit", info.maximum_pending_message_limit);
        map.insert("exclusive", info.exclusive);
        map.insert("retroactive", info.retroactive);
        map.insert("slowConsumer", subscription.slowness.is_slow());
        map
    }
}

fn put_common(map: &mut ValueMap, stats: &DestinationStats, limit: usize) {
    let percent = match limit {
        0 => 0,
        limit => stats.memory_used as u128 * 100 / limit as u128,
    };
    map.insert("size", long(stats.size as u64));
    map.insert("enqueueCount", long(stats.enqueued));
    map.insert("dequeueCount", long(stats.dequeued));
    map.insert("dispatchCount", long(stats.dispatched));
    map.insert("expiredCount", long(stats.expired));
    map.insert("inflightCount", long(stats.in_flight as u64));
    map.insert("messagesCached", 0_i64);
    map.insert("averageMessageSize", stats.average_message_size as i64);
    map.insert("memoryPercentUsage", i32::try_from(percent).unwrap_or(i32::MAX));
    map.insert("memoryUsage", long(stats.memory_used as u64));
    map.insert("memoryLimit", long(limit as u64));
    map.insert("averageEnqueueTime", stats.average_enqueue_time);
    map.insert("maxEnqueueTime", stats.max_enqueue_time as f64);
    map.insert("minEnqueueTime", stats.min_enqueue_time as f64);
    map.insert("consumerCount", long(stats.consumers as u64));
    map.insert("producerCount", long(stats.producers as u64));
}

fn long(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
