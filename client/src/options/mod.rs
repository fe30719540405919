//! The options of a connection: everything a URI says with the prefix `jms.`, and the policies that go
//! with it.

mod policy;
mod redelivery;

use std::fmt;
use std::time::Duration;

pub use policy::PrefetchPolicy;
pub use redelivery::{RedeliveryPolicy, RedeliveryPolicyMap};

use crate::error::Result;
use crate::uri::{OptionValue, Query, Refused, limit, multiplier, unless_negative, unless_zero};
use crate::wire::Destination;

/// The options of a connection, `jms.*` in a URI.
///
/// The name of each in a URI is the field's in camel case unless its documentation says otherwise.
/// Durations are whole milliseconds in a URI.
///
/// What ActiveMQ documents as "0: no limit" takes `infinite` as well. The defaults are ActiveMQ's, except that
/// no wait is without an end unless that was asked for.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ConnectionOptions {
    /// Who connects when the call that creates the connection does not say. Default none.
    pub user_name: Option<String>,
    /// The password that goes with [`user_name`](Self::user_name). Default none.
    pub password: Option<Password>,
    /// The client id of every connection (`clientID`). Default none: one is generated.
    pub client_id: Option<String>,
    /// How generated client ids begin (`clientIDPrefix`). Default none, which is `ID`.
    pub client_id_prefix: Option<String>,
    /// How generated connection ids begin (`connectionIDPrefix`). Default none, which is `ID`.
    pub connection_id_prefix: Option<String>,

    /// Persistent messages outside a transaction are sent without waiting for the broker. Default false.
    pub use_async_send: bool,
    /// Every send waits for the broker. Default false.
    pub always_sync_send: bool,
    /// If there is one, every send waits for the broker, this long at most. Default none (0), and then
    /// the sends that wait do so for [`request_timeout`](Self::request_timeout).
    pub send_timeout: Option<Duration>,
    /// How long a request waits for its response. Default 60 seconds; ActiveMQ waits without an end.
    /// None is `infinite` or 0.
    pub request_timeout: Option<Duration>,
    /// How long the broker may take to accept the connection. Default 30 seconds; ActiveMQ waits without an
    /// end. None is `infinite` or 0.
    pub connect_response_timeout: Option<Duration>,
    /// How long closing waits for the broker; to run out of it is no error. Default 15 seconds.
    pub close_timeout: Duration,
    /// How many bytes of messages a producer may have sent without waiting and the broker not yet taken
    /// in. Default 0: no window.
    pub producer_window_size: u32,
    /// Acknowledgements outside a transaction do not wait for the broker. Default true.
    pub send_acks_async: bool,
    /// The broker may dispatch to consumers from another thread than the producer's. Default true.
    pub dispatch_async: bool,

    /// After how long sends that have to wait and do not get on, on a live connection, are worth an
    /// [`Event::Blocked`](crate::Event::Blocked) and a warning (an option of ours, not of ActiveMQ); none is a negative
    /// number. Default 5 seconds.
    pub blocked_after: Option<Duration>,

    /// Message bodies are compressed. Default false.
    pub use_compression: bool,
    /// How many times the negotiated `maxFrameSize` a body may hold once it is inflated. Default 10.
    pub max_inflated_data_size_ratio: f64,
    /// New producers do not stamp their messages, which then cannot expire. Default false.
    pub disable_time_stamps_by_default: bool,
    /// Map messages may hold maps and lists. Default true.
    pub nested_map_and_list_enabled: bool,

    /// Durable subscribers that acknowledge by themselves get
    /// [`optimize_durable_topic_prefetch`](PrefetchPolicy::optimize_durable_topic_prefetch). Default true.
    pub optimized_message_dispatch: bool,
    /// Acknowledgements are sent in batches: at 65 % of the prefetch, or when
    /// [`optimize_acknowledge_timeout`](Self::optimize_acknowledge_timeout) has passed. Default false.
    pub optimize_acknowledge: bool,
    /// How old such a batch may be when the next message takes it along (`optimizeAcknowledgeTimeOut`); none is 0. Default 300 milliseconds.
    pub optimize_acknowledge_timeout: Option<Duration>,
    /// How often such batches are sent even if no message comes; none is 0. What a listener has in hand stays out of it.
    /// Default none.
    pub optimized_ack_scheduled_ack_interval: Option<Duration>,
    /// Topic consumers get what the broker has kept from before they came. Default false.
    pub use_retroactive_consumer: bool,
    /// Consumers ask to be the only one of their queue. Default false.
    pub exclusive_consumer: bool,
    /// Higher priorities overtake within what was prefetched (`SimplePriorityMessageDispatchChannel`). Default false; a
    /// queue of the broker that is to dispatch by priority needs `prioritizedMessages` in its policy.
    pub message_priority_supported: bool,
    /// Expired messages are not handed to the application. Default true.
    pub consumer_expiry_check_enabled: bool,
    /// Within a transaction each message is acknowledged on its own as soon as it is delivered, rather than all at the
    /// commit; they count as consumed only with the commit all the same. Default false.
    pub transacted_individual_ack: bool,
    /// A redelivery that waits does not hold up the messages behind it; their order is lost. Each message waits as long as
    /// its own number of redeliveries says. Default false.
    pub non_blocking_redelivery: bool,
    /// The connection learns which temporary destinations exist, by an extra consumer. Default true.
    pub watch_topic_advisories: bool,
    /// How long a message may wait for the application before that is worth an
    /// [`Event::SlowConsumer`](crate::Event::SlowConsumer) and a warning (an option of ours, not of ActiveMQ); none is a
    /// negative number. Default 30 seconds.
    pub slow_consumer_after: Option<Duration>,
    /// After how long a message that comes before the connection is started is worth a warning; none is a
    /// negative number. There is one warning, and none once the connection was started. Default 500 milliseconds.
    pub warn_about_unstarted_connection_timeout: Option<Duration>,

    /// Duplicates that a failover brings are recognised and not shown. Default true.
    pub check_for_duplicates: bool,
    /// How many messages of a producer are remembered for that. Default 2048.
    pub audit_depth: u32,
    /// How many producers are remembered for that, at least. Default 64. Whoever sent them, a consumer remembers as many
    /// messages as [`audit_depth`](Self::audit_depth), this, and twice its prefetch allow, whichever is the most.
    pub audit_maximum_producer_number: u32,
    /// How long a commit waits, once there is a connection again, for messages that the transaction received before the
    /// connection broke: each must be delivered again to the same consumer, which the application does not see; otherwise
    /// the transaction is rolled back. The commit goes on as soon as all are there, and gives up as soon as one of them was
    /// overtaken: when a later message of the same producer and priority has come from the destination, another consumer has it,
    /// most likely, and it has a quarter of a second left. It takes no longer than
    /// [`request_timeout`](Self::request_timeout) in all. Default 5 seconds. ActiveMQ's default is 0, which rolls a
    /// transaction back for nothing if it is committed right after the connection has resumed; and its client sleeps where
    /// this one waits for the messages.
    pub consumer_failover_redelivery_wait_period: Duration,

    /// How XA sessions acknowledge outside of a branch: 1 auto, 2 client, 3 dups-ok, 4 individual. Default none (-1, 0):
    /// they receive and send within branches only.
    pub xa_ack_mode: Option<u8>,
    /// XA sessions of the same connection, rather than of the same broker, count as the same resource
    /// manager. Default false.
    pub rm_id_from_connection_id: bool,

    /// How much brokers send ahead (`jms.prefetchPolicy.*`).
    pub prefetch_policy: PrefetchPolicy,
    /// When a message that was rolled back is shown again (`jms.redeliveryPolicy.*`).
    pub redelivery_policy: RedeliveryPolicy,
    /// The same for some destinations, instead (`redeliveryPolicyMap`). Not to be set in a URI. Default none.
    pub redelivery_policy_map: RedeliveryPolicyMap,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            user_name: None,
            password: None,
            client_id: None,
            client_id_prefix: None,
            connection_id_prefix: None,
            use_async_send: false,
            always_sync_send: false,
            send_timeout: None,
            request_timeout: Some(Duration::from_secs(60)),
            connect_response_timeout: Some(Duration::from_secs(30)),
            close_timeout: Duration::from_secs(15),
            producer_window_size: 0,
            send_acks_async: true,
            dispatch_async: true,
            blocked_after: Some(Duration::from_secs(5)),
            use_compression: false,
            max_inflated_data_size_ratio: 10.0,
            disable_time_stamps_by_default: false,
            nested_map_and_list_enabled: true,
            optimized_message_dispatch: true,
            optimize_acknowledge: false,
            optimize_acknowledge_timeout: Some(Duration::from_millis(300)),
            optimized_ack_scheduled_ack_interval: None,
            use_retroactive_consumer: false,
            exclusive_consumer: false,
            message_priority_supported: false,
            consumer_expiry_check_enabled: true,
            transacted_individual_ack: false,
            non_blocking_redelivery: false,
            watch_topic_advisories: true,
            slow_consumer_after: Some(Duration::from_secs(30)),
            warn_about_unstarted_connection_timeout: Some(Duration::from_millis(500)),
            check_for_duplicates: true,
            audit_depth: 2048,
            audit_maximum_producer_number: 64,
            consumer_failover_redelivery_wait_period: Duration::from_secs(5),
            xa_ack_mode: None,
            rm_id_from_connection_id: false,
            prefetch_policy: PrefetchPolicy::default(),
            redelivery_policy: RedeliveryPolicy::default(),
            redelivery_policy_map: RedeliveryPolicyMap::default(),
        }
    }
}

impl ConnectionOptions {
    /// The redelivery policy for consumers of a destination.
    pub fn redelivery_policy_of(&self, destination: &Destination) -> &RedeliveryPolicy {
        self.redelivery_policy_map
            .get(destination)
            .unwrap_or(&self.redelivery_policy)
    }

    /// Reads the options of a URI, which have lost their prefix `jms.`, and refuses what is none.
    pub(crate) fn read(&mut self, mut query: Query) -> Result<()> {
        query.refuse(&REFUSED)?;
        self.prefetch_policy.read(query.take_prefix("prefetchPolicy."))?;
        self.redelivery_policy
            .read(query.take_prefix("redeliveryPolicy."))?;
        self.read_identity(&mut query)?;
        self.read_sending(&mut query)?;
        self.read_consuming(&mut query)?;
        query.finish("a connection")
    }

    fn read_identity(&mut self, query: &mut Query) -> Result<()> {
        query.read("userName", &mut self.user_name)?;
        query.read("password", &mut self.password)?;
        query.read("clientID", &mut self.client_id)?;
        query.read("clientIDPrefix", &mut self.client_id_prefix)?;
        query.read("connectionIDPrefix", &mut self.connection_id_prefix)?;
        query.read_with("requestTimeout", &mut self.request_timeout, limit)?;
        query.read_with(
            "connectResponseTimeout",
            &mut self.connect_response_timeout,
            limit,
        )?;
        query.read("closeTimeout", &mut self.close_timeout)?;
        query.read_with(
            "xaAckMode",
            &mut self.xa_ack_mode,
            |text| match unless_negative::<u8>(text)? {
                Some(5..) => Err("is not an acknowledge mode from 0 to 4, or -1".into()),
                mode => Ok(mode),
            },
        )?;
        query.read("rmIdFromConnectionId", &mut self.rm_id_from_connection_id)
    }

    fn read_sending(&mut self, query: &mut Query) -> Result<()> {
        query.read("useAsyncSend", &mut self.use_async_send)?;
        query.read("alwaysSyncSend", &mut self.always_sync_send)?;
        query.read_with("sendTimeout", &mut self.send_timeout, unless_zero)?;
        query.read("producerWindowSize", &mut self.producer_window_size)?;
        query.read_with("blockedAfter", &mut self.blocked_after, unless_negative)?;
        query.read("useCompression", &mut self.use_compression)?;
        query.read_with(
            "maxInflatedDataSizeRatio",
            &mut self.max_inflated_data_size_ratio,
            multiplier,
        )?;
        query.read(
            "disableTimeStampsByDefault",
            &mut self.disable_time_stamps_by_default,
        )?;
        query.read("nestedMapAndListEnabled", &mut self.nested_map_and_list_enabled)
    }

    fn read_consuming(&mut self, query: &mut Query) -> Result<()> {
        query.read("sendAcksAsync", &mut self.send_acks_async)?;
        query.read("dispatchAsync", &mut self.dispatch_async)?;
        query.read("optimizedMessageDispatch", &mut self.optimized_message_dispatch)?;
        query.read("optimizeAcknowledge", &mut self.optimize_acknowledge)?;
        query.read_with(
            "optimizeAcknowledgeTimeOut",
            &mut self.optimize_acknowledge_timeout,
            unless_zero,
        )?;
        query.read_with(
            "optimizedAckScheduledAckInterval",
            &mut self.optimized_ack_scheduled_ack_interval,
            unless_zero,
        )?;
        query.read("useRetroactiveConsumer", &mut self.use_retroactive_consumer)?;
        query.read("exclusiveConsumer", &mut self.exclusive_consumer)?;
        query.read("messagePrioritySupported", &mut self.message_priority_supported)?;
        query.read(
            "consumerExpiryCheckEnabled",
            &mut self.consumer_expiry_check_enabled,
        )?;
        query.read("transactedIndividualAck", &mut self.transacted_individual_ack)?;
        query.read("nonBlockingRedelivery", &mut self.non_blocking_redelivery)?;
        query.read("watchTopicAdvisories", &mut self.watch_topic_advisories)?;
        query.read_with(
            "slowConsumerAfter",
            &mut self.slow_consumer_after,
            unless_negative,
        )?;
        query.read_with(
            "warnAboutUnstartedConnectionTimeout",
            &mut self.warn_about_unstarted_connection_timeout,
            unless_negative,
        )?;
        query.read("checkForDuplicates", &mut self.check_for_duplicates)?;
        query.read("auditDepth", &mut self.audit_depth)?;
        query.read(
            "auditMaximumProducerNumber",
            &mut self.audit_maximum_producer_number,
        )?;
        query.read(
            "consumerFailoverRedeliveryWaitPeriod",
            &mut self.consumer_failover_redelivery_wait_period,
        )
    }
}

const JAVA_THREADS: &str = "it is about Java's threads, and there are none here";
const JAVA_OBJECTS: &str = "it is about Java's objects, whose bodies are only bytes here";

const REFUSED: [Refused; 11] = [
    ("alwaysSessionAsync", JAVA_THREADS),
    ("useDedicatedTaskRunner", JAVA_THREADS),
    ("useVirtualThreadTaskRunner", JAVA_THREADS),
    ("maxThreadPoolSize", JAVA_THREADS),
    (
        "copyMessageOnSend",
        "a message that is sent cannot be changed any more",
    ),
    ("objectMessageSerializationDefered", JAVA_OBJECTS),
    ("trustedPackages", JAVA_OBJECTS),
    ("trustAllPackages", JAVA_OBJECTS),
    ("strictCompliance", "the rules of JMS are not optional"),
    ("statsEnabled", "it is about the statistics of Java's management"),
    ("blobTransferPolicy.", "there are no blob transfers"),
];

/// A password: its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The password itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Password {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl OptionValue for Password {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(Self(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uri::ClientUri;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn read(options: &str) -> Result<ConnectionOptions> {
        let options: Vec<_> = options
            .split_whitespace()
            .map(|option| format!("jms.{option}"))
            .collect();
        ClientUri::parse(&format!("tcp://h:1?{}", options.join("&"))).map(|uri| uri.options)
    }

    #[test]
    fn no_option_is_the_default() {
        assert_eq!(
            ClientUri::parse("tcp://h:1").unwrap().options,
            ConnectionOptions::default()
        );
    }

    #[test]
    fn every_option_is_read() {
        let options = read(
            "userName=me password=secret clientID=id clientIDPrefix=c connectionIDPrefix=d useAsyncSend=true \
             alwaysSyncSend=true sendTimeout=1 requestTimeout=2 connectResponseTimeout=3 closeTimeout=4 \
             producerWindowSize=5 sendAcksAsync=false dispatchAsync=false useCompression=true \
             maxInflatedDataSizeRatio=6 disableTimeStampsByDefault=true nestedMapAndListEnabled=false \
             optimizedMessageDispatch=false optimizeAcknowledge=true optimizeAcknowledgeTimeOut=7 \
             optimizedAckScheduledAckInterval=8 useRetroactiveConsumer=true exclusiveConsumer=true \
             messagePrioritySupported=true consumerExpiryCheckEnabled=false transactedIndividualAck=true \
             nonBlockingRedelivery=true watchTopicAdvisories=false warnAboutUnstartedConnectionTimeout=9 \
             checkForDuplicates=false auditDepth=10 auditMaximumProducerNumber=11 \
             consumerFailoverRedeliveryWaitPeriod=12 xaAckMode=2 rmIdFromConnectionId=true \
             prefetchPolicy.queuePrefetch=13 redeliveryPolicy.maximumRedeliveries=14 blockedAfter=15 slowConsumerAfter=16",
        )
        .unwrap();
        assert_eq!(
            options,
            ConnectionOptions {
                user_name: Some("me".into()),
                password: Some("secret".into()),
                client_id: Some("id".into()),
                client_id_prefix: Some("c".into()),
                connection_id_prefix: Some("d".into()),
                use_async_send: true,
                always_sync_send: true,
                send_timeout: Some(ms(1)),
                request_timeout: Some(ms(2)),
                connect_response_timeout: Some(ms(3)),
                close_timeout: ms(4),
                producer_window_size: 5,
                send_acks_async: false,
                dispatch_async: false,
                blocked_after: Some(ms(15)),
                use_compression: true,
                max_inflated_data_size_ratio: 6.0,
                disable_time_stamps_by_default: true,
                nested_map_and_list_enabled: false,
                optimized_message_dispatch: false,
                optimize_acknowledge: true,
                optimize_acknowledge_timeout: Some(ms(7)),
                optimized_ack_scheduled_ack_interval: Some(ms(8)),
                use_retroactive_consumer: true,
                exclusive_consumer: true,
                message_priority_supported: true,
                consumer_expiry_check_enabled: false,
                transacted_individual_ack: true,
                non_blocking_redelivery: true,
                watch_topic_advisories: false,
                slow_consumer_after: Some(ms(16)),
                warn_about_unstarted_connection_timeout: Some(ms(9)),
                check_for_duplicates: false,
                audit_depth: 10,
                audit_maximum_producer_number: 11,
                consumer_failover_redelivery_wait_period: ms(12),
                xa_ack_mode: Some(2),
                rm_id_from_connection_id: true,
                prefetch_policy: PrefetchPolicy {
                    queue_prefetch: 13,
                    ..PrefetchPolicy::default()
                },
                redelivery_policy: RedeliveryPolicy {
                    maximum_redeliveries: Some(14),
                    ..RedeliveryPolicy::default()
                },
                redelivery_policy_map: RedeliveryPolicyMap::default(),
            }
        );
    }

    #[test]
    fn waits_have_an_end_unless_they_are_told_not_to() {
        let options = ConnectionOptions::default();
        assert!(options.request_timeout.is_some() && options.connect_response_timeout.is_some());
        for endless in ["0", "infinite"] {
            let options = read(&format!(
                "requestTimeout={endless} connectResponseTimeout={endless} sendTimeout=0"
            ))
            .unwrap();
            assert_eq!(options.request_timeout, None);
            assert_eq!(options.connect_response_timeout, None);
            assert_eq!(options.send_timeout, None);
        }
        let options = read(
            "warnAboutUnstartedConnectionTimeout=-1 optimizeAcknowledgeTimeOut=0 xaAckMode=-1 \
             closeTimeout=9223372036854775807",
        )
        .unwrap();
        assert_eq!(options.warn_about_unstarted_connection_timeout, None);
        assert_eq!(options.optimize_acknowledge_timeout, None);
        assert_eq!(options.xa_ack_mode, None);
        assert!(
            std::time::Instant::now()
                .checked_add(options.close_timeout)
                .is_some()
        );
    }

    #[test]
    fn what_is_unknown_or_cannot_be_honoured_is_refused_by_name() {
        for option in [
            "bogus=1",
            "clientId=x",
            "useAsyncSend=1",
            "xaAckMode=5",
            "maxInflatedDataSizeRatio=0.5",
            "requestTimeout=-1",
            "prefetchPolicy.bogus=1",
            "prefetchPolicy.queuePrefetch=-1",
            "redeliveryPolicy.bogus=1",
            "redeliveryPolicy.collisionAvoidancePercent=101",
            "redeliveryPolicy.backOffMultiplier=0",
            "useDedicatedTaskRunner=true",
            "copyMessageOnSend=true",
            "trustAllPackages=true",
            "statsEnabled=true",
            "blobTransferPolicy.uploadUrl=x",
        ] {
            let error = read(option).unwrap_err();
            let name = option.split('=').next().unwrap();
            assert!(
                error.is_uri() && error.to_string().contains(name),
                "{option}: {error}"
            );
        }
    }

    #[test]
    fn all_prefetches_are_set_at_once_but_for_those_named() {
        // Whatever the order, what is named counts more.
        for options in [
            "prefetchPolicy.all=7 prefetchPolicy.topicPrefetch=40000",
            "prefetchPolicy.topicPrefetch=40000 prefetchPolicy.all=7",
        ] {
            assert_eq!(
                read(options).unwrap().prefetch_policy,
                PrefetchPolicy {
                    queue_prefetch: 7,
                    queue_browser_prefetch: 7,
                    topic_prefetch: 32767,
                    durable_topic_prefetch: 7,
                    optimize_durable_topic_prefetch: 7,
                    maximum_pending_message_limit: 0,
                }
            );
        }
        let policy = read(
            "prefetchPolicy.queuePrefetch=1 prefetchPolicy.queueBrowserPrefetch=2 prefetchPolicy.topicPrefetch=3 \
             prefetchPolicy.durableTopicPrefetch=4 prefetchPolicy.optimizeDurableTopicPrefetch=5 \
             prefetchPolicy.maximumPendingMessageLimit=6",
        )
        .unwrap()
        .prefetch_policy;
        assert_eq!(
            policy,
            PrefetchPolicy {
                queue_prefetch: 1,
                queue_browser_prefetch: 2,
                topic_prefetch: 3,
                durable_topic_prefetch: 4,
                optimize_durable_topic_prefetch: 5,
                maximum_pending_message_limit: 6,
            }
        );
    }

    #[test]
    fn the_redelivery_policy_is_read() {
        let policy = read(
            "redeliveryPolicy.maximumRedeliveries=-1 redeliveryPolicy.initialRedeliveryDelay=1 \
             redeliveryPolicy.redeliveryDelay=2 redeliveryPolicy.useExponentialBackOff=true \
             redeliveryPolicy.backOffMultiplier=3 redeliveryPolicy.maximumRedeliveryDelay=4 \
             redeliveryPolicy.useCollisionAvoidance=true redeliveryPolicy.collisionAvoidancePercent=5 \
             redeliveryPolicy.preDispatchCheck=false",
        )
        .unwrap()
        .redelivery_policy;
        assert_eq!(
            policy,
            RedeliveryPolicy {
                maximum_redeliveries: None,
                initial_redelivery_delay: ms(1),
                redelivery_delay: ms(2),
                use_exponential_back_off: true,
                back_off_multiplier: 3.0,
                maximum_redelivery_delay: Some(ms(4)),
                use_collision_avoidance: true,
                collision_avoidance_percent: 5,
                pre_dispatch_check: false,
            }
        );
    }

    #[test]
    fn a_password_is_not_shown() {
        let options = read("password=secret").unwrap();
        assert_eq!(options.password.as_ref().map(Password::expose), Some("secret"));
        assert!(!format!("{options:?}").contains("secret"));
    }
}
