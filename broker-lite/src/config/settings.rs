//! What a broker is told before it starts, in one plain struct.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use openwire_client::wire::{Destination, DestinationKind};

use crate::ha::LockOptions;
use crate::policy::schedule::MAX_REPEAT;
use crate::policy::{DiscardDeadLetters, Interceptors, Policies, Redelivery, Timestamping, Zone};
use crate::store::journal::{Durability, JournalOptions};
#[cfg(feature = "sql")]
use crate::store::sql::SqlSettings;

/// Everything a configuration file can say, with the defaults of what it leaves out.
///
/// [`load`](Self::load) and [`parse`](Self::parse) read one;
/// [`BrokerBuilder::settings`](crate::BrokerBuilder::settings) takes it, wherever it is from. Names in the file are those
/// of ActiveMQ, times are milliseconds, and sizes are bytes or have a unit (`"64 mb"`):
///
/// ```
/// let settings = broker_lite::Settings::parse(r#"
///     brokerName = "orders"
///     listen = ["tcp://127.0.0.1:61616"]
///     dataDirectory = "/var/lib/orders"
///
///     [limits]
///     memoryUsage = "512 mb"
///
///     [[policy]]
///     queue = "ORDERS.>"
///     queuePrefetch = 10
///     deadLetterStrategy = { type = "individual", queuePrefix = "DLQ." }
///
///     [[policy]]
///     default = true
///     producerFlowControl = false
///
///     [[composite]]
///     queue = "ALL"
///     forwardTo = ["A", "topic://B", { queue = "C", selector = "amount > 100" }]
/// "#)?;
/// assert_eq!(settings.broker_name.as_deref(), Some("orders"));
/// # Ok::<(), broker_lite::BrokerError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// `brokerName`.
    pub broker_name: Option<String>,
    /// `listen`: bind URIs, as [`BrokerBuilder::listen`](crate::BrokerBuilder::listen) takes them. Default none.
    pub listen: Vec<String>,
    /// `persistent` and `dataDirectory`: where persistent messages go. Default `None`: wherever they would go without the
    /// file.
    pub storage: Option<StorageSettings>,
    /// `durability`: `always`, `os` or `interval:MS`. Default `None`: as without the file.
    pub durability: Option<Durability>,
    /// `[locker]`: how the broker becomes and stays master of its store. Default `None`: as without the file.
    pub locker: Option<LockOptions>,
    /// `restartAllowed`: `broker-lite start` stands by again in the same process once mastership is lost; otherwise it ends.
    /// Default true. A broker in another program fails in both cases, and the program decides.
    pub restart_allowed: bool,
    /// `[journal]`: ActiveMQ's `kahaDB`.
    pub journal: JournalSettings,
    /// `transactionOutcomes`: how many are kept. Default `None`: as without the file.
    pub transaction_outcomes: Option<usize>,
    /// `transactionOutcomesAge`, in milliseconds: for how long. Default `None`: as without the file.
    pub transaction_outcomes_age: Option<Duration>,
    /// `[[user]]`: who may connect. Default none: everybody.
    pub users: Vec<UserSettings>,
    /// `[tls]`: what `ssl://` listeners present.
    pub tls: Option<TlsSettings>,
    /// `advisorySupport`: the broker tells on advisory topics what happens. Default true.
    pub advisory_support: bool,
    /// `rejectDurableConsumers`: durable subscriptions are refused. Default false.
    pub reject_durable_consumers: bool,
    /// `offlineDurableSubscriberTimeout`, in milliseconds: durable subscriptions that are away for longer are removed.
    /// Default `None`, written -1: never.
    pub offline_durable_subscriber_timeout: Option<Duration>,
    /// `offlineDurableSubscriberTaskSchedule`, in milliseconds: how often it is looked for them. Default 300,000.
    pub offline_durable_subscriber_task_schedule: Duration,
    /// `populateJMSXUserID`: messages say who sent them. Default false.
    pub populate_jmsx_user_id: bool,
    /// `schedulePeriodForDestinationPurge`, in milliseconds: how often it is looked for destinations that are not used.
    /// Default `None`, written 0: never.
    pub schedule_period_for_destination_purge: Option<Duration>,
    /// `maxPurgedDestinationsPerSweep`: how many go each time. Default `None`, written 0: all.
    pub max_purged_destinations_per_sweep: Option<u32>,
    /// `allowTempAutoCreationOnSend`: a send to a temporary destination that is gone makes it anew. Default false.
    pub allow_temp_auto_creation_on_send: bool,
    /// `[limits]`: ActiveMQ's `systemUsage`, and more.
    pub limits: LimitSettings,
    /// `[[policy]]`: ActiveMQ's `policyEntry`, each for a `queue`, a `topic`, `tempQueue = true`, `tempTopic = true` or, with
    /// `default = true`, all others.
    pub policies: Policies,
    /// `useVirtualTopics`, `[[virtualTopic]]`, `[[composite]]`, `[mirroredQueue]`: what passes messages on. As in ActiveMQ,
    /// virtual topics that are given replace the default one.
    pub interceptors: Interceptors,
    /// `[[destination]]`: `queue` or `topic`: destinations that are there from the start.
    pub destinations: Vec<Destination>,
    /// `[timestamp]`: ActiveMQ's `timeStampingBrokerPlugin`.
    pub timestamp: Option<Timestamping>,
    /// `[forcePersistency]` `persistenceFlag`: ActiveMQ's `forcePersistencyModeBrokerPlugin`: all messages are
    /// persistent, or none is. Default `None`: as they are sent. Without a flag in the table none is, as in ActiveMQ.
    pub force_persistency: Option<bool>,
    /// `[discardDeadLetters]`: ActiveMQ's `discardingDLQBrokerPlugin`.
    pub discard_dead_letters: Option<DiscardDeadLetters>,
    /// `[redelivery]`, with `[[redelivery.policy]]`: ActiveMQ's `redeliveryPlugin`. It needs the scheduler.
    pub redelivery: Option<Redelivery>,
    /// `[statistics]`: ActiveMQ's `statisticsBrokerPlugin` is there. Default false.
    pub statistics: bool,
    /// `[scheduler]`: ActiveMQ's `schedulerSupport="true"`. Default `None`: as in ActiveMQ, what properties say of a later
    /// delivery is not heeded.
    pub scheduler: Option<SchedulerSettings>,
}

/// Where persistent messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageSettings {
    /// `persistent = false`: they are kept in memory.
    Memory,
    /// To a journal in this directory.
    Journal(PathBuf),
    /// `[store]`: to a database; ActiveMQ's `jdbcPersistenceAdapter`.
    #[cfg(feature = "sql")]
    Sql(Box<SqlSettings>),
}

/// `[journal]`: ActiveMQ's `kahaDB`. What is out of range is refused when the broker starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalSettings {
    /// `journalMaxFileLength`: bytes of a segment, 8 KiB to 1 GiB. Default 64 MiB; ActiveMQ's is 32 MiB.
    pub max_file_length: u64,
    /// `spareFiles`: how many segments are made ahead of time or kept to be used again, 1 to 64. Default 3. ActiveMQ has
    /// no such.
    pub spare_files: usize,
}

impl Default for JournalSettings {
    fn default() -> Self {
        let options = JournalOptions::default();
        Self {
            max_file_length: options.segment_size,
            spare_files: options.spare_segments,
        }
    }
}

/// `[[user]]`: ActiveMQ's `authenticationUser`.
#[derive(Clone, PartialEq, Eq)]
pub struct UserSettings {
    /// `username`.
    pub username: String,
    /// `password`.
    pub password: String,
}

impl fmt::Debug for UserSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserSettings")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// `[tls]`: files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// `certificate`: the chain, the broker's own certificate first.
    pub certificate: PathBuf,
    /// `key`.
    pub key: PathBuf,
    /// `clientCa`: the authorities of client certificates.
    pub client_ca: Option<PathBuf>,
}

/// `[limits]`: ActiveMQ's `systemUsage`, and other limits of the whole broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// `memoryUsage`: bytes of messages that live in memory only, beyond which producers wait. Default 1 GiB.
    pub memory_usage: u64,
    /// `residentLimit`: bytes of stored messages that are kept in memory as well. Default 64 MiB. ActiveMQ has no such.
    pub resident_limit: u64,
    /// `storeUsage`: bytes of the store, beyond which producers of persistent messages wait. Default 100 GiB. As in
    /// ActiveMQ, it is less if the file system of the journal has no room for so much when the broker starts; a journal
    /// needs up to twice the bytes of its messages, and a few files.
    pub store_usage: u64,
    /// `tempUsage`: bytes of non-persistent messages that lie on disk while memory is short, beyond which their producers
    /// wait. At most what the disk has free when the broker starts. Default 50 GiB. Only for a broker with a data
    /// directory; without one it is refused.
    pub temp_usage: u64,
    /// `jobSchedulerUsage`: bytes of messages that wait for their time. Default 50 GiB.
    pub job_scheduler_usage: u64,
    /// `sendFailIfNoSpace`: a send for which there is no room fails at once, it does not wait. Default false.
    pub send_fail_if_no_space: bool,
    /// `sendFailIfNoSpaceAfterTimeout`, in milliseconds: it fails after so long. Default `None`, written 0: it waits.
    pub send_fail_if_no_space_after_timeout: Option<Duration>,
    /// `maxUncommittedCount`: the most sends in a transaction. Default `None`, written 0: any number.
    pub max_uncommitted_count: Option<u32>,
    /// `maxDestinations`: the most destinations of the broker. Default `None`, written -1: any number.
    pub max_destinations: Option<u32>,
}

impl Default for LimitSettings {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            memory_usage: super::MEMORY_LIMIT as u64,
            resident_limit: super::RESIDENT_LIMIT as u64,
            store_usage: 100 * GIB,
            temp_usage: 50 * GIB,
            job_scheduler_usage: 50 * GIB,
            send_fail_if_no_space: false,
            send_fail_if_no_space_after_timeout: None,
            max_uncommitted_count: None,
            max_destinations: None,
        }
    }
}

/// `[scheduler]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerSettings {
    /// `maxSchedulerRepeatAllowed`: how often a message may be repeated. Default 1000.
    pub max_repeat: i32,
    /// `timeZone`: in which cron entries are read: `system`, `UTC` or a name such as `Europe/Berlin`. Default `system`, as
    /// ActiveMQ has it.
    pub time_zone: Zone,
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self {
            max_repeat: MAX_REPEAT,
            time_zone: Zone::system(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broker_name: None,
            listen: Vec::new(),
            storage: None,
            durability: None,
            locker: None,
            restart_allowed: true,
            journal: JournalSettings::default(),
            transaction_outcomes: None,
            transaction_outcomes_age: None,
            users: Vec::new(),
            tls: None,
            advisory_support: true,
            reject_durable_consumers: false,
            offline_durable_subscriber_timeout: None,
            offline_durable_subscriber_task_schedule: Duration::from_secs(300),
            populate_jmsx_user_id: false,
            schedule_period_for_destination_purge: None,
            max_purged_destinations_per_sweep: None,
            allow_temp_auto_creation_on_send: false,
            limits: LimitSettings::default(),
            policies: Policies::new(),
            interceptors: Interceptors::default(),
            destinations: Vec::new(),
            timestamp: None,
            force_persistency: None,
            discard_dead_letters: None,
            redelivery: None,
            statistics: false,
            scheduler: None,
        }
    }
}

impl Settings {
    /// What of it does not go together, if something does not.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        (self.redelivery.is_some() && self.scheduler.is_none())
            .then_some("redelivery needs the scheduler, which delivers messages again")
    }

    /// What was asked for, by name, and this broker does not do: it refuses to start with it rather than to act as if it
    /// did.
    pub(crate) fn not_served(&self) -> Vec<&'static str> {
        let usual = Self::default();
        let limits = &usual.limits;
        let asked = [(
            self.limits.job_scheduler_usage != limits.job_scheduler_usage,
            "limits.jobSchedulerUsage",
        )];
        let policies = self.policies.iter().map(|(_, policy)| policy);
        let of_policies = policies
            .chain([self.policies.default_policy()])
            .flat_map(|policy| super::rules::not_served(policy));
        let of_topics = self
            .policies
            .iter()
            .filter(|(pattern, policy)| pattern.kind() == DestinationKind::Topic && policy.memory_limit > 0)
            .map(|_| "policy.memoryLimit of a topic");
        let mut names: Vec<_> = asked
            .into_iter()
            .filter(|(asked, _)| *asked)
            .map(|(_, name)| name)
            .chain(of_policies)
            .chain(of_topics)
            .collect();
        names.dedup();
        names
    }
}

/// Reads when a message counts as stored: `always`, `os` or `interval:MS`.
///
/// # Errors
///
/// For anything else, with what there is.
pub(crate) fn durability(text: &str) -> Result<Durability, String> {
    match text.split_once(':') {
        None if text == "always" => Ok(Durability::Always),
        None if text == "os" => Ok(Durability::Os),
        Some(("interval", millis)) => match millis.parse() {
            Ok(millis @ 1..) => Ok(Durability::Interval(Duration::from_millis(millis))),
            _ => Err("interval takes milliseconds, from 1".to_owned()),
        },
        _ => Err("always, os or interval:MS".to_owned()),
    }
}
