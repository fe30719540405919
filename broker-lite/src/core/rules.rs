//! What the core is told to do with destinations and messages.

use std::time::Duration;

use openwire_client::wire::Destination;

use crate::policy::{DiscardDeadLetters, Interceptors, Policies, Redelivery, Timestamping, Zone};

/// What holds for the broker as a whole: ActiveMQ's attributes of `broker`, its interceptors and its plugins. The default
/// is ActiveMQ's.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What holds for destinations.
    pub policies: Policies,
    /// What passes messages on.
    pub interceptors: Interceptors,
    /// Destinations that are there from the start.
    pub destinations: Vec<Destination>,
    /// `rejectDurableConsumers`.
    pub reject_durable_consumers: bool,
    /// `offlineDurableSubscriberTimeout`: durable subscriptions that are away for longer are removed; none never are.
    pub offline_durable_subscriber_timeout: Option<Duration>,
    /// `offlineDurableSubscriberTaskSchedule`: how often it is looked for them.
    pub offline_durable_subscriber_task_schedule: Duration,
    /// `schedulePeriodForDestinationPurge`: how often it is looked for destinations that are not used; none is never.
    pub schedule_period_for_destination_purge: Option<Duration>,
    /// `maxPurgedDestinationsPerSweep`: how many of them go each time.
    pub max_purged_destinations_per_sweep: Option<u32>,
    /// `allowTempAutoCreationOnSend`.
    pub allow_temp_auto_creation_on_send: bool,
    /// `storeUsage`: bytes of messages in the store, as the broker counts them, beyond which persistent sends wait.
    pub store_limit: u64,
    /// `sendFailIfNoSpace`: a send for which there is no room fails at once.
    pub send_fail_if_no_space: bool,
    /// `sendFailIfNoSpaceAfterTimeout`: it fails after so long; none is never.
    pub send_fail_if_no_space_after_timeout: Option<Duration>,
    /// The most destinations of the broker.
    pub max_destinations: usize,
    /// `discardingDLQBrokerPlugin`.
    pub discard_dead_letters: Option<DiscardDeadLetters>,
    /// `redeliveryPlugin`. It needs the scheduler: without it a message is sent again at once.
    pub redelivery: Option<Redelivery>,
    /// `forcePersistencyModeBrokerPlugin`.
    pub force_persistency: Option<bool>,
    /// `timeStampingBrokerPlugin`.
    pub timestamp: Option<Timestamping>,
    /// `schedulerSupport`.
    pub scheduler: Option<SchedulerRules>,
}

/// How messages are scheduled.
#[derive(Debug, Clone)]
pub struct SchedulerRules {
    /// `maxSchedulerRepeatAllowed`.
    pub max_repeat: i32,
    /// In which cron entries are read.
    pub zone: Zone,
}

/// ActiveMQ's default for `storeUsage`.
const STORE_LIMIT: u64 = 100 << 30;

impl Rules {
    /// Destinations are made by naming them, so there must be an end to it.
    pub const MAX_DESTINATIONS: usize = 1_000_000;
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            policies: Policies::new(),
            interceptors: Interceptors::default(),
            destinations: Vec::new(),
            reject_durable_consumers: false,
            offline_durable_subscriber_timeout: None,
            offline_durable_subscriber_task_schedule: Duration::from_secs(300),
            schedule_period_for_destination_purge: None,
            max_purged_destinations_per_sweep: None,
            allow_temp_auto_creation_on_send: false,
            store_limit: STORE_LIMIT,
            send_fail_if_no_space: false,
            send_fail_if_no_space_after_timeout: None,
            max_destinations: Self::MAX_DESTINATIONS,
            discard_dead_letters: None,
            redelivery: None,
            force_persistency: None,
            timestamp: None,
            scheduler: None,
        }
    }
}
