//! What holds for a destination: ActiveMQ's `policyEntry` and `policyMap`.

use std::sync::Arc;
use std::time::Duration;

use openwire_client::wire::{Destination, DestinationKind};

use super::fields::{FieldError, FieldValue, Fields, bytes, flag, limit, millis, number, percent, text};
use super::pattern::{Pattern, PatternMap};
use super::strategy::{
    self, Audit, DeadLetterStrategy, DispatchPolicy, Eviction, GroupMap, NetworkReplay, PendingLimit,
    PendingQueue, Recovery, SlowConsumers,
};

macro_rules! policy {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr $(, $name:literal by $read:expr)?;)*) => {
        /// What holds for a destination: ActiveMQ's `policyEntry`, with its defaults.
        ///
        /// ```
        /// use broker_lite::policy::{Policies, Policy};
        /// use broker_lite::policy::Pattern;
        ///
        /// let policies = Policies::new()
        ///     .with(Pattern::queue("ORDERS.>"), Policy::new().queue_prefetch(10).strict_order_dispatch(true));
        /// # let _ = policies;
        /// ```
        ///
        /// # Not needed
        ///
        /// These attributes of ActiveMQ have no field: they say how its broker does something, and this one does it in
        /// another way. A configuration that has them is refused with the reason, [`Policy::NOT_NEEDED`].
        #[doc = include_str!("not_needed.md")]
        #[derive(Debug, Clone, PartialEq)]
        pub struct Policy {
            $($(#[doc = $doc])+ pub $field: $type,)*
        }

        impl Default for Policy {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl Policy {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
                #[must_use]
                pub fn $field(mut self, value: $type) -> Self {
                    self.$field = value;
                    self
                }
            )*

            /// Takes all attributes out of the fields of a configuration, by their names in ActiveMQ. What is not
            /// there stays as it is, and what this does not know is left.
            ///
            /// # Errors
            ///
            /// A [`FieldError`] for a value that cannot be, and for one of [`NOT_NEEDED`](Self::NOT_NEEDED).
            pub fn read(&mut self, fields: &mut Fields) -> Result<(), FieldError> {
                fields.refuse(Self::NOT_NEEDED)?;
                $($(fields.take_into($name, &mut self.$field, $read)?;)?)*
                self.read_composed(fields)
            }
        }
    };
}

policy! {
    /// `memoryLimit`: bytes of messages of the destination that live in memory only, beyond which its producers wait;
    /// also counted by the broker's limit. Default 0: none of its own.
    memory_limit: u64 = 0, "memoryLimit" by bytes;
    /// `producerFlowControl`: producers wait when there is no room. Without it messages are taken in beyond
    /// the memory limit of a destination, as far as the broker's reach. Default true.
    producer_flow_control: bool = true, "producerFlowControl" by flag;
    /// `blockedProducerWarningInterval`: how often it is logged that producers wait, in milliseconds. Default 30,000;
    /// 0: only once.
    blocked_producer_warning_interval: Duration = Duration::from_secs(30), "blockedProducerWarningInterval" by millis;
    /// `storeUsageHighWaterMark`: the share of the store's limit, in percent, from which on producers of persistent messages
    /// wait. Default 100.
    store_usage_high_water_mark: u8 = 100, "storeUsageHighWaterMark" by percent;
    /// `cursorMemoryHighWaterMark`: the share of the memory of the broker and of the queue, in percent, from which on
    /// non-persistent messages that wait go to the temporary store. Default 70.
    cursor_memory_high_water_mark: u8 = 70, "cursorMemoryHighWaterMark" by percent;
    /// `pendingQueuePolicy`: whether they do. Default `storeCursor`: they do.
    pending_queue: PendingQueue = PendingQueue::default(), "pendingQueuePolicy" by strategy::pending_queue;
    /// `sendFailIfNoSpace`: a send for which there is no room fails at once rather than wait. Default `None`: as
    /// the broker's limits say.
    send_fail_if_no_space: Option<bool> = None, "sendFailIfNoSpace" by |value| flag(value).map(Some);
    /// `sendFailIfNoSpaceAfterTimeout`: it fails after so many milliseconds. Default `None`: as the broker's limits
    /// say.
    send_fail_if_no_space_after_timeout: Option<Duration> = None,
        "sendFailIfNoSpaceAfterTimeout" by |value| millis(value).map(Some);
    /// `queuePrefetch`: the prefetch of consumers of a queue that did not choose another one than their default of 1000.
    /// Default 1000.
    queue_prefetch: u32 = 1000, "queuePrefetch" by prefetch;
    /// `queueBrowserPrefetch`: likewise of browsers, with a default of 500.
    queue_browser_prefetch: u32 = 500, "queueBrowserPrefetch" by prefetch;
    /// `topicPrefetch`: likewise of consumers of a topic, with a default of 32,767.
    topic_prefetch: u32 = 32_767, "topicPrefetch" by prefetch;
    /// `durableTopicPrefetch`: likewise of durable subscriptions, with a default of 100.
    durable_topic_prefetch: u32 = 100, "durableTopicPrefetch" by prefetch;
    /// `usePrefetchExtension`: what a consumer of a queue acknowledged in an open transaction, or reported as delivered,
    /// makes room for as much again. Default true.
    use_prefetch_extension: bool = true, "usePrefetchExtension" by flag;
    /// `expireMessagesPeriod`: how often a queue, or a durable subscription that is away, is searched for messages whose
    /// time is over, in milliseconds. Default 30,000; 0: never, they are found when their turn comes.
    expire_messages_period: Duration = Duration::from_secs(30), "expireMessagesPeriod" by millis;
    /// `lazyDispatch`: a queue loads bodies only when a consumer has room for them, not ahead. Default false.
    lazy_dispatch: bool = false, "lazyDispatch" by flag;
    /// `strictOrderDispatch`: what comes back to a queue goes to its old place, also in front of what was sent
    /// back before. Default false.
    strict_order_dispatch: bool = false, "strictOrderDispatch" by flag;
    /// `useConsumerPriority`: consumers of a queue with a higher priority are served first. Default true.
    use_consumer_priority: bool = true, "useConsumerPriority" by flag;
    /// `prioritizedMessages`: messages with a higher `JMSPriority` come first. Default false.
    prioritized_messages: bool = false, "prioritizedMessages" by flag;
    /// `allConsumersExclusiveByDefault`: every consumer of a queue is an exclusive one. Default false.
    all_consumers_exclusive_by_default: bool = false, "allConsumersExclusiveByDefault" by flag;
    /// `timeBeforeDispatchStarts`: a queue waits so many milliseconds from its first consumer on before it dispatches.
    /// Default 0.
    time_before_dispatch_starts: Duration = Duration::ZERO, "timeBeforeDispatchStarts" by millis;
    /// `consumersBeforeDispatchStarts`: or until it has so many consumers. Default 0.
    consumers_before_dispatch_starts: u32 = 0, "consumersBeforeDispatchStarts" by number;
    /// `messageGroupMapFactoryType`: how a queue remembers the owners of message groups. Default cached, 1024.
    group_map: GroupMap = GroupMap::default(), "messageGroupMapFactoryType" by strategy::group_map;
    /// `gcInactiveDestinations`: the destination is removed when it was not used for a while; it needs
    /// `schedulePeriodForDestinationPurge`. Default false.
    gc_inactive_destinations: bool = false, "gcInactiveDestinations" by flag;
    /// `gcWithNetworkConsumers`: consumers of other brokers do not count as use. Default false.
    gc_with_network_consumers: bool = false, "gcWithNetworkConsumers" by flag;
    /// `inactiveTimeoutBeforeGC`: how long that is, in milliseconds. Default 60,000.
    inactive_timeout_before_gc: Duration = Duration::from_secs(60), "inactiveTimeoutBeforeGC" by millis;
    /// `maxDestinations`: how many destinations the policy may hold for; no more are made. Default `None`, written -1:
    /// any number.
    max_destinations: Option<u32> = None, "maxDestinations" by limit;
    /// `deadLetterStrategy`. Default shared, `ActiveMQ.DLQ`.
    dead_letters: DeadLetterStrategy = DeadLetterStrategy::default(), "deadLetterStrategy" by strategy::dead_letters;
    /// `sendDuplicateFromStoreToDLQ`: what the store has twice goes to the dead letters rather than nowhere. Default
    /// false.
    send_duplicate_from_store_to_dlq: bool = false, "sendDuplicateFromStoreToDLQ" by flag;
    /// `alwaysRetroactive`: every consumer of a topic is a retroactive one. Default false.
    always_retroactive: bool = false, "alwaysRetroactive" by flag;
    /// `subscriptionRecoveryPolicy`. Default none.
    recovery: Recovery = Recovery::None, "subscriptionRecoveryPolicy" by strategy::recovery;
    /// `pendingMessageLimitStrategy`. Default unlimited.
    pending_limit: PendingLimit = PendingLimit::Unlimited, "pendingMessageLimitStrategy" by strategy::pending_limit;
    /// `slowConsumerStrategy`. Default none.
    slow_consumers: SlowConsumers = SlowConsumers::None, "slowConsumerStrategy" by strategy::slow_consumers;
    /// `dispatchPolicy`. Default simple.
    dispatch: DispatchPolicy = DispatchPolicy::Simple, "dispatchPolicy" by strategy::dispatch;
    /// `networkBridgeFilterFactory`. Default `None`: messages do not go back to where they came from.
    network_replay: Option<NetworkReplay> = None,
        "networkBridgeFilterFactory" by |value| strategy::network_replay(value).map(Some);
    /// `sendAdvisoryIfNoConsumers`: a message to a topic without consumers goes to the dead letters if it is not
    /// persistent, and is told of on `ActiveMQ.Advisory.NoConsumer…`. Default false.
    send_advisory_if_no_consumers: bool = false, "sendAdvisoryIfNoConsumers" by flag;
    /// `advisoryForSlowConsumers`: slow consumers are told of. Default false.
    advisory_for_slow_consumers: bool = false, "advisoryForSlowConsumers" by flag;
    /// `advisoryForFastProducers`: producers that have to wait are told of. Default false.
    advisory_for_fast_producers: bool = false, "advisoryForFastProducers" by flag;
    /// `advisoryForDiscardingMessages`: evicted messages are told of. Default false.
    advisory_for_discarding_messages: bool = false, "advisoryForDiscardingMessages" by flag;
    /// `advisoryForDelivery`: messages that were sent to a consumer are told of. Default false.
    advisory_for_delivery: bool = false, "advisoryForDelivery" by flag;
    /// `advisoryForConsumed`: acknowledged messages are told of. Default false.
    advisory_for_consumed: bool = false, "advisoryForConsumed" by flag;
    /// `advisoryForDispatched` (6.x): dispatched messages are told of. Default false.
    advisory_for_dispatched: bool = false, "advisoryForDispatched" by flag;
    /// `advisoryWhenFull`: a limit that is reached is told of. Default false.
    advisory_when_full: bool = false, "advisoryWhenFull" by flag;
    /// `includeBodyForAdvisory`: advisories of messages have their bodies. Default false.
    include_body_for_advisory: bool = false, "includeBodyForAdvisory" by flag;
    /// `persistJMSRedelivered`: the redelivered flag outlives a crash of the broker. This broker always sees to that, so
    /// both values mean the same. Default false.
    persist_jms_redelivered: bool = false, "persistJMSRedelivered" by flag;
    /// `allowTempDestinationStealing` (6.x): others than the connection that made a temporary destination may consume
    /// from it. Default false.
    allow_temp_destination_stealing: bool = false, "allowTempDestinationStealing" by flag;
    /// `enableAudit`, `maxAuditDepth`, `maxProducersToAudit`: how many messages a destination remembers to recognise one
    /// that is sent again. Default 10,000 messages of 64 producers.
    audit: Option<Audit> = Some(Audit::DESTINATIONS);
    /// `messageEvictionStrategy`. Default oldest.
    eviction: Eviction = Eviction::Oldest;
    /// `evictExpiredMessagesHighWatermark` of the eviction strategy: from so many waiting messages on those are evicted
    /// first whose time is over. Default 1000.
    evict_expired_messages_high_watermark: usize = 1000;
}

impl Policy {
    /// Attributes of ActiveMQ that say how its broker does something which this one does in another way, each with the
    /// reason why it is not needed.
    pub const NOT_NEEDED: &'static [(&'static str, &'static str)] = &[
        (
            "useCache",
            "messages are kept in memory as far as residentLimit goes",
        ),
        (
            "pendingSubscriberPolicy",
            "there are no cursors: memoryLimit bounds what waits for a subscriber",
        ),
        (
            "pendingDurableSubscriberPolicy",
            "there are no cursors: what waits for a subscription is in the store",
        ),
        (
            "maxPageSize",
            "there are no pages: what is needed is read ahead of its turn",
        ),
        (
            "maxBrowsePageSize",
            "there are no pages: a browser sees all of a queue",
        ),
        (
            "maxExpirePageSize",
            "there are no pages: a sweep looks at all of a queue without loading it",
        ),
        (
            "maxQueueAuditDepth",
            "a queue has one audit, maxAuditDepth says how deep it is",
        ),
        (
            "optimizedDispatch",
            "every dispatch is made where the message comes in",
        ),
        ("reduceMemoryFootprint", "messages are always kept as they came"),
        ("minimumMessageSize", "a message counts for what it takes"),
        (
            "doOptimzeMessageStorage",
            "storing and dispatching always go side by side",
        ),
        (
            "optimizeMessageStoreInFlightLimit",
            "storing and dispatching always go side by side",
        ),
        (
            "useTopicSubscriptionInflightStats",
            "what is in flight is always counted",
        ),
        (
            "advancedNetworkStatisticsEnabled",
            "what goes over bridges is always counted",
        ),
        (
            "advancedMessageStatisticsEnabled",
            "the statistics are always complete",
        ),
        (
            "messageInterceptorStrategy",
            "it is a Java class, which this broker cannot run",
        ),
        (
            "messageGroupMapFactory",
            "messageGroupMapFactoryType says the same",
        ),
    ];

    /// ActiveMQ's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The prefetch of a consumer that asked for `asked`. Only one that is the client's default for its kind gives way
    /// to the policy; see the fields.
    pub fn prefetch(&self, asked: i32, kind: Prefetch) -> i32 {
        let (default, policy) = match kind {
            Prefetch::Queue => (1000, self.queue_prefetch),
            Prefetch::Browser => (500, self.queue_browser_prefetch),
            Prefetch::Topic => (32_767, self.topic_prefetch),
            Prefetch::Durable => (100, self.durable_topic_prefetch),
        };
        if asked == default {
            i32::try_from(policy).unwrap_or(i32::MAX)
        } else {
            asked
        }
    }

    /// What is not one attribute for one field.
    fn read_composed(&mut self, fields: &mut Fields) -> Result<(), FieldError> {
        // The name as it was misspelt before ActiveMQ 5.11.
        fields.take_into(
            "inactiveTimoutBeforeGC",
            &mut self.inactive_timeout_before_gc,
            millis,
        )?;
        let mut audit = self.audit.unwrap_or(Audit::DESTINATIONS);
        let audited = fields
            .take("enableAudit", flag)?
            .unwrap_or_else(|| self.audit.is_some());
        fields.take_into("maxAuditDepth", &mut audit.depth, at_least_one)?;
        fields.take_into("maxProducersToAudit", &mut audit.producers, at_least_one)?;
        self.audit = audited.then_some(audit);
        if let Some((eviction, watermark)) = fields.take("messageEvictionStrategy", strategy::eviction)? {
            self.eviction = eviction;
            self.evict_expired_messages_high_watermark =
                watermark.unwrap_or(self.evict_expired_messages_high_watermark);
        }
        Ok(())
    }
}

/// The kinds of consumers that differ in their prefetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefetch {
    /// A consumer of a queue.
    Queue,
    /// A browser.
    Browser,
    /// A consumer of a topic.
    Topic,
    /// A durable subscription.
    Durable,
}

fn prefetch(value: FieldValue) -> Result<u32, FieldError> {
    match number(value)? {
        // A prefetch is an int on the wire.
        prefetch if i32::try_from(prefetch).is_ok() => Ok(prefetch),
        more => Err(FieldError::new(format!("{more} is out of range"))),
    }
}

fn at_least_one(value: FieldValue) -> Result<u32, FieldError> {
    match number(value)? {
        0 => Err(FieldError::new("is at least 1")),
        more => Ok(more),
    }
}

/// All policies of a broker: ActiveMQ's `policyMap`.
///
/// Exactly one holds for a destination: that of its own name, or of the narrowest pattern, or the default one. What one
/// leaves out is never taken from another.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    entries: PatternMap<Arc<Policy>>,
    default: Arc<Policy>,
}

impl Policies {
    /// Only the default policy, with ActiveMQ's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a policy. Of several for the same pattern the first counts.
    #[must_use]
    pub fn with(mut self, pattern: Pattern, policy: Policy) -> Self {
        self.entries.insert(pattern, Arc::new(policy));
        self
    }

    /// `defaultEntry`: what holds where no other policy does.
    #[must_use]
    pub fn with_default(mut self, policy: Policy) -> Self {
        self.default = Arc::new(policy);
        self
    }

    /// The policy that holds for a destination.
    pub fn for_destination(&self, destination: &Destination) -> &Arc<Policy> {
        self.entries.select(destination).unwrap_or(&self.default)
    }

    /// As [`for_destination`](Self::for_destination), with the pattern it was given for, so that
    /// [`Policy::max_destinations`] can be counted; `None` for the default.
    pub fn entry(&self, destination: &Destination) -> (Option<&Pattern>, &Arc<Policy>) {
        match self.entries.select_entry(destination) {
            Some((pattern, policy)) => (Some(pattern), policy),
            None => (None, &self.default),
        }
    }

    /// All of them but the default.
    pub fn iter(&self) -> impl Iterator<Item = (&Pattern, &Arc<Policy>)> {
        self.entries.iter()
    }

    /// The default one.
    pub fn default_policy(&self) -> &Arc<Policy> {
        &self.default
    }

    /// True if every destination has ActiveMQ's defaults.
    pub fn is_default(&self) -> bool {
        self.entries.is_empty() && *self.default == Policy::default()
    }
}

/// What a policy, or something else that holds for destinations, is given for: one of `queue`, `topic`, `tempQueue` and
/// `tempTopic`. `None` if none of them is there.
///
/// # Errors
///
/// For more than one of them, an empty name, and `tempQueue` or `tempTopic` without `true`.
pub(crate) fn target(fields: &mut Fields) -> Result<Option<Pattern>, FieldError> {
    let mut targets = Vec::new();
    for (name, kind) in [
        ("queue", DestinationKind::Queue),
        ("topic", DestinationKind::Topic),
    ] {
        if let Some(pattern) = fields.take(name, text)? {
            let pattern = pattern.trim();
            if pattern.is_empty() || pattern.contains(',') {
                return Err(fields.error(format!("{name}: one name or pattern, not {pattern:?}")));
            }
            targets.push(Pattern::new(kind, pattern));
        }
    }
    for (name, kind) in [
        ("tempQueue", DestinationKind::TempQueue),
        ("tempTopic", DestinationKind::TempTopic),
    ] {
        match fields.take(name, flag)? {
            None => {}
            Some(true) => targets.push(Pattern::all(kind)),
            Some(false) => return Err(fields.error(format!("{name} is true or not there"))),
        }
    }
    if targets.len() > 1 {
        return Err(fields.error("only one of queue, topic, tempQueue and tempTopic"));
    }
    Ok(targets.pop())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::strategy::{AbortLimits, DeadLetters, Filter, IndividualDeadLetters};

    fn fields(values: &[(&str, FieldValue)]) -> Fields {
        let mut fields = Fields::default();
        for (at, (name, value)) in values.iter().enumerate() {
            fields.insert(*name, at, value.clone());
        }
        fields
    }

    fn said(text: &str) -> FieldValue {
        FieldValue::Text(text.to_owned())
    }

    fn table(kind: &str, values: &[(&str, FieldValue)]) -> FieldValue {
        let mut fields = fields(values);
        fields.insert("type", 0, said(kind));
        FieldValue::Table(fields)
    }

    fn read(values: &[(&str, FieldValue)]) -> Result<Policy, String> {
        let mut fields = fields(values);
        let mut policy = Policy::new();
        policy
            .read(&mut fields)
            .and_then(|()| fields.finish())
            .map_err(|error| error.to_string())?;
        Ok(policy)
    }

    #[test]
    fn the_table_of_what_is_not_needed_is_the_list() {
        let lines = include_str!("not_needed.md").lines().skip(2).collect::<Vec<_>>();
        let list = Policy::NOT_NEEDED
            .iter()
            .map(|(name, why)| format!("| `{name}` | {why} |"))
            .collect::<Vec<_>>();
        assert_eq!(lines, list);
        for (name, why) in Policy::NOT_NEEDED {
            let error = read(&[(name, said("true"))]).unwrap_err();
            assert!(error.contains(name) && error.contains(why), "{error}");
        }
    }

    #[test]
    fn attributes_are_read_by_their_names() {
        let policy = read(&[
            ("memoryLimit", said("64 mb")),
            ("queuePrefetch", FieldValue::Integer(1)),
            ("producerFlowControl", said("false")),
            ("sendFailIfNoSpace", FieldValue::Bool(true)),
            ("inactiveTimoutBeforeGC", FieldValue::Integer(5)),
            ("maxDestinations", said("-1")),
            ("enableAudit", FieldValue::Bool(false)),
            ("messageGroupMapFactoryType", said("bucket?bucketCount=16")),
            ("dispatchPolicy", said("roundRobinDispatchPolicy")),
            (
                "pendingMessageLimitStrategy",
                table("constant", &[("limit", FieldValue::Integer(0))]),
            ),
            (
                "messageEvictionStrategy",
                table(
                    "uniqueProperty",
                    &[
                        ("propertyName", said("id")),
                        ("evictExpiredMessagesHighWatermark", said("7")),
                    ],
                ),
            ),
            (
                "subscriptionRecoveryPolicy",
                table("queryBased", &[("query", said("a > 1"))]),
            ),
            (
                "slowConsumerStrategy",
                table(
                    "abortSlowConsumer",
                    &[("maxSlowDuration", said("-1")), ("maxSlowCount", said("3"))],
                ),
            ),
            (
                "deadLetterStrategy",
                table(
                    "individual",
                    &[("queuePrefix", said("DLQ.")), ("expiration", said("5000"))],
                ),
            ),
        ])
        .unwrap();
        let expected = Policy::new()
            .memory_limit(64 << 20)
            .queue_prefetch(1)
            .producer_flow_control(false)
            .send_fail_if_no_space(Some(true))
            .inactive_timeout_before_gc(Duration::from_millis(5))
            .audit(None)
            .group_map(GroupMap::Bucket(16))
            .dispatch(DispatchPolicy::RoundRobin)
            .pending_limit(PendingLimit::Constant(0))
            .eviction(Eviction::UniqueProperty("id".to_owned()))
            .evict_expired_messages_high_watermark(7)
            .recovery(Recovery::Query {
                query: Filter::parse("a > 1").unwrap(),
                maximum_size: 100,
            })
            .slow_consumers(SlowConsumers::Abort(AbortLimits {
                max_slow_count: Some(3),
                max_slow_duration: None,
                ..AbortLimits::default()
            }))
            .dead_letters(DeadLetterStrategy {
                letters: DeadLetters::Individual(IndividualDeadLetters {
                    queue_prefix: "DLQ.".to_owned(),
                    ..IndividualDeadLetters::default()
                }),
                expiration: Some(Duration::from_secs(5)),
                ..DeadLetterStrategy::default()
            });
        assert_eq!(policy, expected);
        assert_eq!(read(&[]), Ok(Policy::default()));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (name, value, says) in [
            ("queuePrefetches", FieldValue::Integer(1), "queuePrefetches"),
            ("queuePrefetch", FieldValue::Integer(-1), "queuePrefetch"),
            ("queuePrefetch", said("4294967295"), "queuePrefetch"),
            ("memoryLimit", said("1.5 gb"), "memoryLimit"),
            ("messageGroupMapFactoryType", said("cached?size=1"), "cacheSize"),
            (
                "messageGroupMapFactoryType",
                said("cached?cacheSize=0"),
                "cacheSize",
            ),
            ("dispatchPolicy", said("random"), "roundRobin"),
            ("dispatchPolicy", table("simple", &[("x", said("1"))]), "x"),
            ("subscriptionRecoveryPolicy", said("queryBased"), "query"),
            (
                "subscriptionRecoveryPolicy",
                table("queryBased", &[("query", said("a >"))]),
                "query",
            ),
            (
                "subscriptionRecoveryPolicy",
                table("fixedSized", &[("useSharedBuffer", FieldValue::Bool(true))]),
                "one topic",
            ),
            (
                "subscriptionRecoveryPolicy",
                table("fixedCount", &[("maximumSize", FieldValue::Integer(0))]),
                "at least 1",
            ),
            (
                "deadLetterStrategy",
                table("shared", &[("deadLetterQueue", said("A.>"))]),
                "A.>",
            ),
            ("deadLetterStrategy", FieldValue::Integer(1), "table"),
            ("slowConsumerStrategy", said("abort"), "abortSlowConsumer"),
            ("maxAuditDepth", FieldValue::Integer(0), "at least 1"),
        ] {
            let error = read(&[(name, value)]).unwrap_err();
            assert!(error.contains(says), "{name}: {error}");
        }
    }

    #[test]
    fn one_policy_holds_and_is_not_mixed_with_others() {
        let policies = Policies::new()
            .with(
                Pattern::queue("A.>"),
                Policy::new().queue_prefetch(1).lazy_dispatch(true),
            )
            .with(Pattern::queue("A.B"), Policy::new().queue_prefetch(2))
            .with_default(Policy::new().queue_prefetch(3));
        for (name, prefetch, lazy) in [("A.B", 2, false), ("A.C", 1, true), ("B", 3, false)] {
            let policy = policies.for_destination(&Destination::queue(name));
            assert_eq!(
                (policy.queue_prefetch, policy.lazy_dispatch),
                (prefetch, lazy),
                "{name}"
            );
        }
        assert_eq!(
            policies
                .for_destination(&Destination::topic("A.B"))
                .queue_prefetch,
            3
        );
        assert_eq!(
            policies.entry(&Destination::queue("A.C")).0,
            Some(&Pattern::queue("A.>"))
        );
        assert!(Policies::new().is_default() && !policies.is_default());
        let policy = Policy::new().queue_prefetch(7);
        assert_eq!(policy.prefetch(1000, Prefetch::Queue), 7);
        assert_eq!(policy.prefetch(5, Prefetch::Queue), 5);
        assert_eq!(policy.prefetch(32_767, Prefetch::Topic), 32_767);
    }

    #[test]
    fn a_consumer_can_only_lower_its_pending_limit() {
        assert_eq!(PendingLimit::Unlimited.for_consumer(10, 0), None);
        assert_eq!(PendingLimit::Unlimited.for_consumer(10, 5), None);
        assert_eq!(PendingLimit::Constant(3).for_consumer(10, 5), Some(3));
        assert_eq!(PendingLimit::Constant(3).for_consumer(10, -1), Some(3));
        assert_eq!(PendingLimit::Constant(0).for_consumer(10, 5), Some(0));
        assert_eq!(PendingLimit::PrefetchRate(2.5).for_consumer(10, 0), Some(25));
    }

    #[test]
    fn what_a_policy_is_given_for() {
        let of =
            |values: &[(&str, FieldValue)]| target(&mut fields(values)).map_err(|error| error.to_string());
        assert_eq!(of(&[("queue", said(" A.> "))]), Ok(Some(Pattern::queue("A.>"))));
        assert_eq!(
            of(&[("tempTopic", FieldValue::Bool(true))]),
            Ok(Some(Pattern::all(DestinationKind::TempTopic)))
        );
        assert_eq!(of(&[]), Ok(None));
        for wrong in [
            &[("queue", said("A")), ("topic", said("A"))][..],
            &[("queue", said(" "))],
            &[("queue", said("A,B"))],
            &[("tempQueue", FieldValue::Bool(false))],
        ] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
