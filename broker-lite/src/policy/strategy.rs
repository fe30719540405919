//! What a policy can choose from: the strategies of ActiveMQ's `policyEntry`, and how they are written.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use openwire_client::wire::{Destination, DestinationKind};

use super::fields::{
    FieldError, FieldValue, Fields, bytes, flag, fraction, limit, millis, millis_or_never, number, table,
    text,
};
use crate::selector::{Selector, SelectorError};

/// A selector that a configuration names. Two are equal if their texts are.
#[derive(Clone)]
pub struct Filter(Arc<Selector>);

impl Filter {
    /// Parses a selector.
    ///
    /// # Errors
    ///
    /// As [`Selector::parse`].
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Selector::parse(text).map(Arc::new).map(Self)
    }
}

impl Deref for Filter {
    type Target = Selector;

    fn deref(&self) -> &Selector {
        &self.0
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Filter {}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({:?})", self.as_str())
    }
}

/// `deadLetterStrategy`: what becomes of messages that nobody could consume, or whose time is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterStrategy {
    /// Where they go.
    pub letters: DeadLetters,
    /// Those whose time is over as well. Default true.
    pub process_expired: bool,
    /// Non-persistent ones as well; otherwise they are dropped. Default false.
    pub process_non_persistent: bool,
    /// How long they are kept there, from then on. Default `None`, written 0: without end.
    pub expiration: Option<Duration>,
    /// `enableAudit`: a message goes there once only, however often it fails. Default true.
    pub audit: Option<Audit>,
}

impl Default for DeadLetterStrategy {
    fn default() -> Self {
        Self {
            letters: DeadLetters::default(),
            process_expired: true,
            process_non_persistent: false,
            expiration: None,
            audit: Some(Audit::DEAD_LETTERS),
        }
    }
}

/// Where dead letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetters {
    /// `sharedDeadLetterStrategy`: all to one destination.
    Shared {
        /// `deadLetterQueue`. Default `ActiveMQ.DLQ`; `topic://NAME` makes it a topic.
        queue: Destination,
    },
    /// `individualDeadLetterStrategy`: to a destination for each.
    Individual(IndividualDeadLetters),
    /// `discarding`: nowhere, they are dropped and counted.
    Discard,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self::Shared {
            queue: Destination::queue("ActiveMQ.DLQ"),
        }
    }
}

/// The names of individual dead letter destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndividualDeadLetters {
    /// In front of the name of a queue. Default `ActiveMQ.DLQ.Queue.`.
    pub queue_prefix: String,
    /// In front of the name of a topic. Default `ActiveMQ.DLQ.Topic.`.
    pub topic_prefix: String,
    /// Behind the name of a queue. Default empty.
    pub queue_suffix: String,
    /// Behind the name of a topic. Default empty.
    pub topic_suffix: String,
    /// What comes from a queue goes to a queue rather than a topic. Default true.
    pub use_queue_for_queue_messages: bool,
    /// What comes from a topic goes to a queue rather than a topic. Default true.
    pub use_queue_for_topic_messages: bool,
    /// Durable subscriptions have one each, with `.clientId:subscriptionName` behind the name. Default false.
    pub destination_per_durable_subscriber: bool,
}

impl Default for IndividualDeadLetters {
    fn default() -> Self {
        Self {
            queue_prefix: "ActiveMQ.DLQ.Queue.".to_owned(),
            topic_prefix: "ActiveMQ.DLQ.Topic.".to_owned(),
            queue_suffix: String::new(),
            topic_suffix: String::new(),
            use_queue_for_queue_messages: true,
            use_queue_for_topic_messages: true,
            destination_per_durable_subscriber: false,
        }
    }
}

/// How many messages are remembered to recognise one that comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audit {
    /// `maxAuditDepth`: messages of each producer.
    pub depth: u32,
    /// `maxProducersToAudit`: producers.
    pub producers: u32,
}

impl Audit {
    /// That of dead letters: 2048 messages of 64 producers.
    pub const DEAD_LETTERS: Self = Self {
        depth: 2048,
        producers: 64,
    };

    /// That of destinations: 10,000 messages of 64 producers.
    pub const DESTINATIONS: Self = Self {
        depth: 10_000,
        producers: 64,
    };
}

/// `subscriptionRecoveryPolicy`: what a topic keeps for retroactive consumers that come later.
///
/// Whatever is chosen, a topic keeps its retained message besides; see [`RecoveryBuffer`](super::RecoveryBuffer).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Recovery {
    /// `noSubscriptionRecoveryPolicy`: nothing. The default.
    #[default]
    None,
    /// `lastImageSubscriptionRecoveryPolicy`: the last message.
    LastImage,
    /// `fixedCountSubscriptionRecoveryPolicy`: the last so many messages.
    FixedCount {
        /// `maximumSize`, in messages. Default 100.
        maximum_size: usize,
    },
    /// `fixedSizedSubscriptionRecoveryPolicy`: the last messages of so many bytes in all.
    FixedSize {
        /// `maximumSize`, in bytes. Default 65,536.
        maximum_size: u64,
    },
    /// `timedSubscriptionRecoveryPolicy`: what is younger than this.
    Timed {
        /// `recoverDuration`, written in milliseconds. Default 60,000.
        recover_duration: Duration,
    },
    /// `queryBasedSubscriptionRecoveryPolicy`: the last so many messages that a selector selects. In ActiveMQ the
    /// query is a class of the application, which this broker cannot run.
    Query {
        /// The selector.
        query: Filter,
        /// `maximumSize`, in messages. Default 100.
        maximum_size: usize,
    },
    /// `retainedMessageSubscriptionRecoveryPolicy`: the retained message, which is kept anyway, and what else is
    /// said.
    Retained {
        /// What is kept besides.
        wrapped: Box<Self>,
    },
}

/// `pendingMessageLimitStrategy`: how many messages may wait for a consumer of a topic beyond its prefetch, before some
/// are evicted.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum PendingLimit {
    /// Any number. The default.
    #[default]
    Unlimited,
    /// `constantPendingMessageLimitStrategy`: so many; 0 keeps none.
    Constant(u32),
    /// `prefetchRatePendingMessageLimitStrategy`: so many times the prefetch. Default 0.5.
    PrefetchRate(f64),
}

impl PendingLimit {
    /// The limit for a consumer, `None` without one.
    ///
    /// `asked` is the consumer's own `maximumPendingMessageLimit`, which can only lower what the policy says, and says
    /// nothing where the policy sets no limit, as in ActiveMQ; 0 and less ask for nothing.
    pub fn for_consumer(self, prefetch: u32, asked: i32) -> Option<u32> {
        let limit = match self {
            Self::Unlimited => return None,
            Self::Constant(limit) => limit,
            Self::PrefetchRate(rate) => (f64::from(prefetch) * rate) as u32,
        };
        Some(match u32::try_from(asked) {
            Ok(0) | Err(_) => limit,
            Ok(asked) => limit.min(asked),
        })
    }
}

/// `messageEvictionStrategy`: which message goes when too many wait for a consumer of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Eviction {
    /// `oldestMessageEvictionStrategy`: the one that waits longest. The default.
    #[default]
    Oldest,
    /// `oldestMessageWithLowestPriorityEvictionStrategy`: the one that waits longest of those with the lowest priority.
    OldestLowestPriority,
    /// `uniquePropertyMessageEvictionStrategy`: all but the latest of those with the same value of a property, by
    /// their `JMSTimestamp`, and all without the property; if that leaves no fewer, the one that waits longest.
    UniqueProperty(String),
}

/// `slowConsumerStrategy`: what happens to consumers that do not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowConsumers {
    /// Nothing. The default.
    #[default]
    None,
    /// `abortSlowConsumerStrategy`: those whose prefetch stays full are ended.
    Abort(AbortLimits),
    /// `abortSlowAckConsumerStrategy`: those that do not acknowledge are ended, too.
    AbortSlowAck {
        /// What holds for all slow consumers.
        limits: AbortLimits,
        /// `maxTimeSinceLastAck`, written in milliseconds. Default 30,000.
        max_time_since_last_ack: Duration,
        /// `ignoreIdleConsumers`: one that has nothing to acknowledge is not slow. Default true.
        ignore_idle_consumers: bool,
    },
}

/// When a slow consumer is ended, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortLimits {
    /// `maxSlowCount`: so often it may become slow. Default `None`, written -1: any number.
    pub max_slow_count: Option<u32>,
    /// `maxSlowDuration`: so long it may stay slow, in milliseconds. Default 30,000; `None`, written -1: for ever.
    pub max_slow_duration: Option<Duration>,
    /// `checkPeriod`: how often it is looked for them, in milliseconds. Default 30,000.
    pub check_period: Duration,
    /// `abortConnection`: the connection is ended, not only the consumer. Default false.
    pub abort_connection: bool,
    /// `ignoreNetworkConsumers`: those of other brokers are let be. Default true.
    pub ignore_network_consumers: bool,
}

impl Default for AbortLimits {
    fn default() -> Self {
        Self {
            max_slow_count: None,
            max_slow_duration: Some(HALF_A_MINUTE),
            check_period: HALF_A_MINUTE,
            abort_connection: false,
            ignore_network_consumers: true,
        }
    }
}

const HALF_A_MINUTE: Duration = Duration::from_secs(30);

/// `dispatchPolicy`: in which order the consumers of a topic get a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DispatchPolicy {
    /// `simpleDispatchPolicy`: in the order in which they came. The default.
    #[default]
    Simple,
    /// `roundRobinDispatchPolicy`: each time another one is the first.
    RoundRobin,
    /// `strictOrderDispatchPolicy`: all of them see all messages in the same order, which this broker always keeps.
    StrictOrder,
    /// `priorityDispatchPolicy`: those of the highest priority first.
    Priority,
    /// `priorityNetworkDispatchPolicy`: of several consumers of other brokers that stand for the same one, only that of
    /// the highest priority gets it.
    PriorityNetwork,
    /// `clientIdFilterDispatchPolicy`: a message that names a client goes to that one only, on topics with a certain
    /// end.
    ClientIdFilter {
        /// `ptpClientId`: the property that names the client. Default `PTP_CLIENTID`.
        property: String,
        /// `ptpSuffix`: how the topics end. Default `.PTP`.
        suffix: String,
    },
}

/// `pendingQueuePolicy`: where non-persistent messages of a queue wait when memory is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PendingQueue {
    /// `storeCursor`, `fileQueueCursor`: in the temporary store, if the broker has one. ActiveMQ's two differ in where
    /// they list messages; here the list is always in memory. The default.
    #[default]
    Store,
    /// `vmQueueCursor`: in memory, always. Those of temporary queues do so in any case, as in ActiveMQ.
    Vm,
}

/// `messageGroupMapFactoryType`: how a queue remembers which consumer has which message group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupMap {
    /// `cached`: the last so many groups (`?cacheSize=`). The default, with 1024.
    Cached(usize),
    /// `bucket`: so many buckets (`?bucketCount=`, 1024), each of which is like one group.
    Bucket(usize),
    /// `simple`: all of them, up to [`Groups::MOST`](super::Groups::MOST).
    Simple,
}

impl Default for GroupMap {
    fn default() -> Self {
        Self::Cached(1024)
    }
}

/// `conditionalNetworkBridgeFilterFactory`: when messages go back to a broker they came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkReplay {
    /// `replayWhenNoConsumers`: where there are no consumers any more they may go back. Default false.
    pub replay_when_no_consumers: bool,
    /// `replayDelay`: but not before so many milliseconds. Default 0.
    pub replay_delay: Duration,
    /// `rateLimit`: so many messages go over a bridge in each `rateDuration`. Default `None`, written 0: any number.
    pub rate_limit: Option<u32>,
    /// `rateDuration`, in milliseconds. Default 1000.
    pub rate_duration: Duration,
    /// `selectorAware`: consumers whose selectors do not fit do not count. Default false.
    pub selector_aware: bool,
}

impl Default for NetworkReplay {
    fn default() -> Self {
        Self {
            replay_when_no_consumers: false,
            replay_delay: Duration::ZERO,
            rate_limit: None,
            rate_duration: Duration::from_secs(1),
            selector_aware: false,
        }
    }
}

/// A strategy is a table with a `type`, or only its type as a text.
fn typed(value: FieldValue) -> Result<(String, Fields), FieldError> {
    match value {
        FieldValue::Text(kind) => Ok((kind, Fields::default())),
        other => {
            let mut fields = table(other)?;
            match fields.take("type", text)? {
                Some(kind) => Ok((kind, fields)),
                None => Err(fields.error("a strategy has a type")),
            }
        }
    }
}

/// Takes the long names of ActiveMQ's elements as well as the short ones: `lastImageSubscriptionRecoveryPolicy`,
/// `lastImage`.
fn short<'a>(kind: &'a str, ending: &str) -> &'a str {
    kind.strip_suffix(ending).unwrap_or(kind)
}

fn unknown<T>(kind: &str, known: &str) -> Result<T, FieldError> {
    Err(FieldError::new(format!("there is no type {kind}, but: {known}")))
}

fn at_least_one<T: TryFrom<i64> + PartialEq + Default>(value: FieldValue) -> Result<T, FieldError> {
    let count = number::<T>(value)?;
    if count == T::default() {
        return Err(FieldError::new("is at least 1"));
    }
    Ok(count)
}

/// Reads a selector.
///
/// # Errors
///
/// For what is none.
pub(crate) fn filter(value: FieldValue) -> Result<Filter, FieldError> {
    let selector = text(value)?;
    Filter::parse(&selector).map_err(|error| FieldError::new(format!("{selector}: {error}")))
}

pub(super) fn dead_letters(value: FieldValue) -> Result<DeadLetterStrategy, FieldError> {
    let (kind, mut fields) = typed(value)?;
    let letters = match short(&kind, "DeadLetterStrategy") {
        "shared" => {
            let queue = fields.take("deadLetterQueue", text)?;
            let queue = queue.map_or_else(
                || Destination::queue("ActiveMQ.DLQ"),
                |name| Destination::parse(&name, DestinationKind::Queue),
            );
            if queue.name().is_empty() || queue.is_pattern() || queue.is_composite() || queue.is_temporary() {
                return Err(fields.error(format!("{queue} is no place for dead letters")));
            }
            DeadLetters::Shared { queue }
        }
        "individual" => {
            let mut names = IndividualDeadLetters::default();
            fields.take_into("queuePrefix", &mut names.queue_prefix, text)?;
            fields.take_into("topicPrefix", &mut names.topic_prefix, text)?;
            fields.take_into("queueSuffix", &mut names.queue_suffix, text)?;
            fields.take_into("topicSuffix", &mut names.topic_suffix, text)?;
            fields.take_into(
                "useQueueForQueueMessages",
                &mut names.use_queue_for_queue_messages,
                flag,
            )?;
            fields.take_into(
                "useQueueForTopicMessages",
                &mut names.use_queue_for_topic_messages,
                flag,
            )?;
            fields.take_into(
                "destinationPerDurableSubscriber",
                &mut names.destination_per_durable_subscriber,
                flag,
            )?;
            DeadLetters::Individual(names)
        }
        "discarding" => DeadLetters::Discard,
        kind => return unknown(kind, "shared, individual, discarding"),
    };
    let mut strategy = DeadLetterStrategy {
        letters,
        ..DeadLetterStrategy::default()
    };
    fields.take_into("processExpired", &mut strategy.process_expired, flag)?;
    fields.take_into("processNonPersistent", &mut strategy.process_non_persistent, flag)?;
    let expiration = fields.take("expiration", millis)?;
    strategy.expiration = expiration.filter(|expiration| !expiration.is_zero());
    let audited = fields.take("enableAudit", flag)?.unwrap_or(true);
    let mut audit = Audit::DEAD_LETTERS;
    fields.take_into("maxAuditDepth", &mut audit.depth, at_least_one)?;
    fields.take_into("maxProducersToAudit", &mut audit.producers, at_least_one)?;
    strategy.audit = audited.then_some(audit);
    fields.finish()?;
    Ok(strategy)
}

pub(super) fn recovery(value: FieldValue) -> Result<Recovery, FieldError> {
    let (kind, mut fields) = typed(value)?;
    fields.refuse(&[("useSharedBuffer", "a buffer holds the messages of one topic")])?;
    let recovery = match short(&kind, "SubscriptionRecoveryPolicy") {
        "no" | "none" => Recovery::None,
        "lastImage" => Recovery::LastImage,
        "fixedCount" => Recovery::FixedCount {
            maximum_size: fields.take("maximumSize", at_least_one)?.unwrap_or(100),
        },
        "fixedSized" => Recovery::FixedSize {
            maximum_size: fields.take("maximumSize", bytes)?.unwrap_or(64 * 1024),
        },
        "timed" => Recovery::Timed {
            recover_duration: fields
                .take("recoverDuration", millis)?
                .unwrap_or(Duration::from_secs(60)),
        },
        "queryBased" => Recovery::Query {
            query: match fields.take("query", filter)? {
                Some(query) => query,
                None => return Err(fields.error("it needs a query: a selector")),
            },
            maximum_size: fields.take("maximumSize", at_least_one)?.unwrap_or(100),
        },
        "retainedMessage" => {
            let wrapped = fields.take("wrapped", recovery)?.unwrap_or_default();
            if matches!(wrapped, Recovery::Retained { .. }) {
                return Err(fields.error("it wraps another one, not itself"));
            }
            Recovery::Retained {
                wrapped: Box::new(wrapped),
            }
        }
        kind => {
            return unknown(
                kind,
                "none, lastImage, fixedCount, fixedSized, timed, queryBased, retainedMessage",
            );
        }
    };
    fields.finish()?;
    Ok(recovery)
}

pub(super) fn pending_limit(value: FieldValue) -> Result<PendingLimit, FieldError> {
    let (kind, mut fields) = typed(value)?;
    let pending = match short(&kind, "PendingMessageLimitStrategy") {
        "constant" => fields
            .take("limit", limit)?
            .flatten()
            .map_or(PendingLimit::Unlimited, PendingLimit::Constant),
        "prefetchRate" => match fields.take("multiplier", fraction)?.unwrap_or(0.5) {
            rate if rate < 0.0 => return Err(fields.error("a multiplier is not negative")),
            rate => PendingLimit::PrefetchRate(rate),
        },
        kind => return unknown(kind, "constant, prefetchRate"),
    };
    fields.finish()?;
    Ok(pending)
}

/// The strategy, and `evictExpiredMessagesHighWatermark` if it is given.
pub(super) fn eviction(value: FieldValue) -> Result<(Eviction, Option<usize>), FieldError> {
    let (kind, mut fields) = typed(value)?;
    let eviction = match short(&kind, "EvictionStrategy") {
        "oldest" | "oldestMessage" => Eviction::Oldest,
        "oldestMessageWithLowestPriority" => Eviction::OldestLowestPriority,
        "uniqueProperty" | "uniquePropertyMessage" => match fields.take("propertyName", text)? {
            Some(name) => Eviction::UniqueProperty(name),
            None => return Err(fields.error("it needs a propertyName")),
        },
        kind => {
            return unknown(
                kind,
                "oldestMessage, oldestMessageWithLowestPriority, uniquePropertyMessage",
            );
        }
    };
    let watermark = fields.take("evictExpiredMessagesHighWatermark", number)?;
    fields.finish()?;
    Ok((eviction, watermark))
}

pub(super) fn pending_queue(value: FieldValue) -> Result<PendingQueue, FieldError> {
    let (kind, fields) = typed(value)?;
    let pending = match kind.as_str() {
        "store" | "storeCursor" | "fileQueue" | "fileQueueCursor" => PendingQueue::Store,
        "vmQueue" | "vmQueueCursor" => PendingQueue::Vm,
        kind => return unknown(kind, "storeCursor, fileQueueCursor, vmQueueCursor"),
    };
    fields.finish()?;
    Ok(pending)
}

pub(super) fn slow_consumers(value: FieldValue) -> Result<SlowConsumers, FieldError> {
    let (kind, mut fields) = typed(value)?;
    fields.refuse(&[("name", "it only names an MBean")])?;
    let kind = short(&kind, "Strategy");
    if kind == "none" {
        fields.finish()?;
        return Ok(SlowConsumers::None);
    }
    let mut limits = AbortLimits::default();
    fields.take_into("maxSlowCount", &mut limits.max_slow_count, limit)?;
    fields.take_into("maxSlowDuration", &mut limits.max_slow_duration, millis_or_never)?;
    fields.take_into("checkPeriod", &mut limits.check_period, millis)?;
    fields.take_into("abortConnection", &mut limits.abort_connection, flag)?;
    fields.take_into(
        "ignoreNetworkConsumers",
        &mut limits.ignore_network_consumers,
        flag,
    )?;
    if limits.check_period.is_zero() {
        return Err(fields.error("checkPeriod is at least 1"));
    }
    let strategy = match kind {
        "abortSlowConsumer" => SlowConsumers::Abort(limits),
        "abortSlowAckConsumer" => SlowConsumers::AbortSlowAck {
            limits,
            max_time_since_last_ack: fields
                .take("maxTimeSinceLastAck", millis)?
                .unwrap_or(HALF_A_MINUTE),
            ignore_idle_consumers: fields.take("ignoreIdleConsumers", flag)?.unwrap_or(true),
        },
        kind => return unknown(kind, "none, abortSlowConsumer, abortSlowAckConsumer"),
    };
    fields.finish()?;
    Ok(strategy)
}

pub(super) fn dispatch(value: FieldValue) -> Result<DispatchPolicy, FieldError> {
    let (kind, mut fields) = typed(value)?;
    let policy = match short(&kind, "DispatchPolicy") {
        "simple" => DispatchPolicy::Simple,
        "roundRobin" => DispatchPolicy::RoundRobin,
        "strictOrder" => DispatchPolicy::StrictOrder,
        "priority" => DispatchPolicy::Priority,
        "priorityNetwork" => DispatchPolicy::PriorityNetwork,
        "clientIdFilter" => DispatchPolicy::ClientIdFilter {
            property: fields
                .take("ptpClientId", text)?
                .unwrap_or_else(|| "PTP_CLIENTID".to_owned()),
            suffix: fields
                .take("ptpSuffix", text)?
                .unwrap_or_else(|| ".PTP".to_owned()),
        },
        kind => {
            return unknown(
                kind,
                "simple, roundRobin, strictOrder, priority, priorityNetwork, clientIdFilter",
            );
        }
    };
    fields.finish()?;
    Ok(policy)
}

/// `cached`, `cached?cacheSize=64`, `bucket?bucketCount=16`, `simple`.
pub(super) fn group_map(value: FieldValue) -> Result<GroupMap, FieldError> {
    let written = text(value)?;
    let written = written.trim();
    let (kind, options) = written.split_once('?').unwrap_or((written, ""));
    let mut fields = Fields::default();
    for option in options.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        fields.insert(name, 0, FieldValue::Text(value.to_owned()));
    }
    let read = |fields: &mut Fields| -> Result<GroupMap, FieldError> {
        let count = |value| match number::<usize>(value)? {
            count if (1..=super::Groups::<u64>::MOST).contains(&count) => Ok(count),
            count => Err(FieldError::new(format!(
                "{count} is not from 1 to {}",
                super::Groups::<u64>::MOST
            ))),
        };
        match kind {
            "cached" => Ok(GroupMap::Cached(fields.take("cacheSize", count)?.unwrap_or(1024))),
            "bucket" => {
                fields.refuse(&[("cacheSize", "a bucket does not remember the names of groups")])?;
                Ok(GroupMap::Bucket(
                    fields.take("bucketCount", count)?.unwrap_or(1024),
                ))
            }
            "simple" => Ok(GroupMap::Simple),
            kind => unknown(kind, "cached, bucket, simple"),
        }
    };
    // The places within the text mean nothing to the reader of the file.
    let map = read(&mut fields).and_then(|map| fields.finish().map(|()| map));
    map.map_err(|error| FieldError::new(error.message()))
}

pub(super) fn network_replay(value: FieldValue) -> Result<NetworkReplay, FieldError> {
    let mut fields = table(value)?;
    let mut replay = NetworkReplay::default();
    fields.take_into(
        "replayWhenNoConsumers",
        &mut replay.replay_when_no_consumers,
        flag,
    )?;
    fields.take_into("replayDelay", &mut replay.replay_delay, millis)?;
    replay.rate_limit = fields.take("rateLimit", number)?.filter(|limit| *limit != 0);
    fields.take_into("rateDuration", &mut replay.rate_duration, millis)?;
    fields.take_into("selectorAware", &mut replay.selector_aware, flag)?;
    fields.finish()?;
    Ok(replay)
}
