//! `broker-lite.toml`: reads it into [`Settings`].

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openwire_client::wire::Destination;
use toml::de::{DeTable, DeValue};

use super::settings::{
    JournalSettings, LimitSettings, SchedulerSettings, Settings, StorageSettings, TlsSettings, UserSettings,
    durability,
};
use crate::error::BrokerError;
use crate::ha::LockOptions;
use crate::policy::fields::{
    FieldError, FieldValue, Fields, bytes, flag, limit, list, millis, millis_or_never, number, table, text,
};
use crate::policy::{
    Composite, DiscardDeadLetters, Interceptors, Mirror, Pattern, Policies, Policy, Redelivery,
    RedeliveryPolicy, Timestamping, VirtualTopic, Zone, target,
};
#[cfg(feature = "sql")]
use crate::store::sql::DatabaseLocking;

/// Where persistent messages go if a file only says that they are kept.
const DATA_DIRECTORY: &str = "data";

/// No configuration is larger; what is, is something else.
const MAX_LENGTH: u64 = 4 * 1024 * 1024;

impl Settings {
    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// [`BrokerError::is_io`] if it cannot be read, [`BrokerError::is_config`] with file, line and column for what cannot
    /// be.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, BrokerError> {
        let path = path.as_ref();
        let unreadable = |error| BrokerError::io(path.display(), &error);
        let length = fs::metadata(path).map_err(unreadable)?.len();
        if length > MAX_LENGTH {
            return Err(BrokerError::config(format!(
                "{}: a configuration has at most {MAX_LENGTH} bytes",
                path.display()
            )));
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        Self::read(&text).map_err(|error| refused(&path.display().to_string(), &text, &error))
    }

    /// Reads the text of a configuration file.
    ///
    /// # Errors
    ///
    /// [`BrokerError::is_config`] with line and column for what cannot be.
    pub fn parse(text: &str) -> Result<Self, BrokerError> {
        Self::read(text).map_err(|error| refused("the configuration", text, &error))
    }

    fn read(text: &str) -> Result<Self, FieldError> {
        let root = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            FieldError::at(at, error.message())
        })?;
        let at = root.span().start;
        settings(into_fields(root.into_inner(), at)?)
    }
}

fn refused(file: &str, text: &str, error: &FieldError) -> BrokerError {
    // The place may be within a character only if it is wrong.
    let before = error.offset().and_then(|at| text.get(..at));
    let place = before.map_or_else(String::new, |before| {
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!(":{line}:{column}")
    });
    BrokerError::config(format!("{file}{place}: {}", error.message()))
}

fn into_fields(entries: DeTable<'_>, at: usize) -> Result<Fields, FieldError> {
    let mut fields = Fields::new(at);
    for (name, value) in entries {
        let at = name.span().start;
        let value_at = value.span().start;
        let value = into_value(value.into_inner(), value_at)?;
        fields.insert(name.into_inner(), at, value);
    }
    Ok(fields)
}

fn into_value(value: DeValue<'_>, at: usize) -> Result<FieldValue, FieldError> {
    Ok(match value {
        DeValue::Boolean(value) => FieldValue::Bool(value),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
            .map(FieldValue::Integer)
            .map_err(|_| FieldError::at(at, "the number is out of range"))?,
        DeValue::Float(digits) => digits
            .as_str()
            .parse()
            .map(FieldValue::Float)
            .map_err(|_| FieldError::at(at, "the number is out of range"))?,
        DeValue::String(text) => FieldValue::Text(text.into_owned()),
        DeValue::Datetime(_) => return Err(FieldError::at(at, "no value is a date")),
        DeValue::Array(values) => FieldValue::List(
            values
                .into_iter()
                .map(|value| {
                    let at = value.span().start;
                    into_value(value.into_inner(), at)
                })
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(entries) => FieldValue::Table(into_fields(entries, at)?),
    })
}

fn settings(mut fields: Fields) -> Result<Settings, FieldError> {
    let mut settings = Settings {
        broker_name: fields.take("brokerName", text)?,
        listen: fields.take("listen", list(text))?.unwrap_or_default(),
        storage: storage(&mut fields)?,
        ..Settings::default()
    };
    settings.durability = fields.take("durability", |value| Ok(durability(&text(value)?)?))?;
    settings.locker = fields.take("locker", locker)?;
    fields.take_into("restartAllowed", &mut settings.restart_allowed, flag)?;
    fields.take_into("journal", &mut settings.journal, journal)?;
    settings.transaction_outcomes = fields.take("transactionOutcomes", number)?;
    settings.transaction_outcomes_age = fields.take("transactionOutcomesAge", millis)?;
    settings.users = fields.take("user", list(user))?.unwrap_or_default();
    settings.tls = fields.take("tls", tls)?;
    fields.take_into("advisorySupport", &mut settings.advisory_support, flag)?;
    fields.take_into(
        "rejectDurableConsumers",
        &mut settings.reject_durable_consumers,
        flag,
    )?;
    fields.take_into(
        "offlineDurableSubscriberTimeout",
        &mut settings.offline_durable_subscriber_timeout,
        millis_or_never,
    )?;
    fields.take_into(
        "offlineDurableSubscriberTaskSchedule",
        &mut settings.offline_durable_subscriber_task_schedule,
        at_least_a_millisecond,
    )?;
    fields.take_into("populateJMSXUserID", &mut settings.populate_jmsx_user_id, flag)?;
    settings.schedule_period_for_destination_purge = fields
        .take("schedulePeriodForDestinationPurge", millis)?
        .filter(|period| !period.is_zero());
    settings.max_purged_destinations_per_sweep = fields
        .take("maxPurgedDestinationsPerSweep", number)?
        .filter(|most| *most != 0);
    fields.take_into(
        "allowTempAutoCreationOnSend",
        &mut settings.allow_temp_auto_creation_on_send,
        flag,
    )?;
    fields.take_into("limits", &mut settings.limits, limits)?;
    fields.take_into("policy", &mut settings.policies, policies)?;
    settings.interceptors = interceptors(&mut fields)?;
    settings.destinations = fields.take("destination", list(destination))?.unwrap_or_default();
    settings.timestamp = fields.take("timestamp", |value| Timestamping::read(table(value)?))?;
    settings.force_persistency = either(
        &mut fields,
        "forcePersistency",
        "force_persistency",
        force_persistency,
    )?;
    settings.discard_dead_letters =
        either(&mut fields, "discardDeadLetters", "discard_dead_letters", discard)?;
    settings.redelivery = fields.take("redelivery", redelivery)?;
    settings.statistics = fields
        .take("statistics", |value| table(value)?.finish())?
        .is_some();
    settings.scheduler = fields.take("scheduler", scheduler)?;
    fields.finish()?;
    Ok(settings)
}

/// Takes the value of a table that has two spellings.
fn either<T>(
    fields: &mut Fields,
    name: &'static str,
    other: &'static str,
    convert: impl Fn(FieldValue) -> Result<T, FieldError>,
) -> Result<Option<T>, FieldError> {
    let found = fields.take(name, &convert)?;
    match fields.take(other, &convert)? {
        None => Ok(found),
        Some(_) if found.is_some() => Err(fields.error(format!("{name} and {other} are the same"))),
        also => Ok(also),
    }
}

fn at_least_a_millisecond(value: FieldValue) -> Result<Duration, FieldError> {
    match millis(value)? {
        Duration::ZERO => Err(FieldError::new("is at least 1")),
        period => Ok(period),
    }
}

fn required<T>(value: Option<T>, fields: &Fields, what: &str) -> Result<T, FieldError> {
    value.ok_or_else(|| fields.error(what))
}

fn storage(fields: &mut Fields) -> Result<Option<StorageSettings>, FieldError> {
    if let Some(store) = fields.take("store", store)? {
        for other in ["persistent", "dataDirectory"] {
            if fields.take(other, Ok)?.is_some() {
                return Err(fields.error(format!("{other} is of no use beside [store]")));
            }
        }
        return Ok(Some(store));
    }
    let persistent = fields.take("persistent", flag)?;
    let directory = fields.take("dataDirectory", text)?.map(PathBuf::from);
    match (persistent, directory) {
        (Some(false), Some(_)) => Err(fields.error("dataDirectory is of no use where persistent is false")),
        (Some(false), None) => Ok(Some(StorageSettings::Memory)),
        (_, Some(directory)) => Ok(Some(StorageSettings::Journal(directory))),
        (Some(true), None) => Ok(Some(StorageSettings::Journal(DATA_DIRECTORY.into()))),
        (None, None) => Ok(None),
    }
}

fn store(value: FieldValue) -> Result<StorageSettings, FieldError> {
    let mut fields = table(value)?;
    let url = fields.take("url", |value| Ok(super::storage::store(&text(value)?)?))?;
    let store = required(url, &fields, "a store has a url")?;
    #[cfg(feature = "sql")]
    let store = database(&mut fields, store)?;
    fields.finish()?;
    Ok(store)
}

/// What else is said of a database.
#[cfg(feature = "sql")]
fn database(fields: &mut Fields, store: StorageSettings) -> Result<StorageSettings, FieldError> {
    let StorageSettings::Sql(mut settings) = store else {
        return Ok(store);
    };
    fields.take_into("locker", &mut settings.locking, |value| {
        Ok(super::storage::database_locking(&text(value)?)?)
    })?;
    if let DatabaseLocking::Lease(lease) = &mut settings.locking {
        lease.lease_holder_id = fields.take("leaseHolderId", text)?;
        let difference = &mut lease.max_allowable_diff_from_db_time;
        fields.take_into("maxAllowableDiffFromDBTime", difference, millis)?;
    }
    let options = &mut settings.options;
    fields.take_into("reconnectTimeout", &mut options.reconnect, at_least_a_millisecond)?;
    fields.take_into("readers", &mut options.readers, |value| {
        match number::<u32>(value)? {
            0 => Err(FieldError::new("is at least 1")),
            readers => Ok(readers),
        }
    })?;
    Ok(StorageSettings::Sql(settings))
}

fn locker(value: FieldValue) -> Result<LockOptions, FieldError> {
    let mut fields = table(value)?;
    let mut options = LockOptions::default();
    fields.take_into(
        "lockAcquireSleepInterval",
        &mut options.acquire_sleep_interval,
        millis,
    )?;
    options.keep_alive_period = fields.take("lockKeepAlivePeriod", millis)?;
    fields.take_into("failIfLocked", &mut options.fail_if_locked, flag)?;
    if let Some(contradiction) = options.contradiction() {
        return Err(fields.error(contradiction));
    }
    fields.finish()?;
    Ok(options)
}

fn user(value: FieldValue) -> Result<UserSettings, FieldError> {
    let mut fields = table(value)?;
    let username = fields.take("username", text)?;
    let password = fields.take("password", text)?;
    let user = UserSettings {
        username: required(username, &fields, "a user has a username")?,
        password: required(password, &fields, "a user has a password")?,
    };
    fields.finish()?;
    Ok(user)
}

fn tls(value: FieldValue) -> Result<TlsSettings, FieldError> {
    let mut fields = table(value)?;
    let certificate = fields.take("certificate", text)?;
    let key = fields.take("key", text)?;
    let tls = TlsSettings {
        certificate: required(certificate, &fields, "tls needs a certificate")?.into(),
        key: required(key, &fields, "tls needs a key")?.into(),
        client_ca: fields.take("clientCa", text)?.map(PathBuf::from),
    };
    fields.finish()?;
    Ok(tls)
}

fn journal(value: FieldValue) -> Result<JournalSettings, FieldError> {
    let mut fields = table(value)?;
    let mut journal = JournalSettings::default();
    fields.take_into("journalMaxFileLength", &mut journal.max_file_length, bytes)?;
    fields.take_into("spareFiles", &mut journal.spare_files, number)?;
    fields.finish()?;
    Ok(journal)
}

fn limits(value: FieldValue) -> Result<LimitSettings, FieldError> {
    let mut fields = table(value)?;
    let mut limits = LimitSettings::default();
    fields.take_into("memoryUsage", &mut limits.memory_usage, bytes)?;
    fields.take_into("residentLimit", &mut limits.resident_limit, bytes)?;
    fields.take_into("storeUsage", &mut limits.store_usage, bytes)?;
    fields.take_into("tempUsage", &mut limits.temp_usage, bytes)?;
    fields.take_into("jobSchedulerUsage", &mut limits.job_scheduler_usage, bytes)?;
    fields.take_into("sendFailIfNoSpace", &mut limits.send_fail_if_no_space, flag)?;
    limits.send_fail_if_no_space_after_timeout = fields
        .take("sendFailIfNoSpaceAfterTimeout", millis)?
        .filter(|timeout| !timeout.is_zero());
    limits.max_uncommitted_count = fields
        .take("maxUncommittedCount", number)?
        .filter(|most| *most != 0);
    fields.take_into("maxDestinations", &mut limits.max_destinations, limit)?;
    fields.finish()?;
    Ok(limits)
}

/// Entries for patterns, of which each may stand only once, and perhaps one for all others.
struct Entries {
    seen: Vec<Pattern>,
    default: bool,
}

impl Entries {
    fn new() -> Self {
        Self {
            seen: Vec::new(),
            default: false,
        }
    }

    /// What the next entry is for; `None` for all others.
    fn next(&mut self, fields: &mut Fields) -> Result<Option<Pattern>, FieldError> {
        let pattern = target(fields)?;
        let default = fields.take("default", flag)?.unwrap_or(false);
        match (&pattern, default) {
            (Some(_), true) => Err(fields.error("it is for one destination or the default, not both")),
            (None, false) => {
                Err(fields.error("it is for a queue, a topic, tempQueue, tempTopic, or the default"))
            }
            (Some(pattern), _) if self.seen.contains(pattern) => {
                Err(fields.error(format!("there are two for {pattern}")))
            }
            (None, true) if self.default => Err(fields.error("there are two defaults")),
            _ => {
                self.default |= default;
                self.seen.extend(pattern.clone());
                Ok(pattern)
            }
        }
    }
}

fn policies(value: FieldValue) -> Result<Policies, FieldError> {
    let mut entries = Entries::new();
    let mut policies = Policies::new();
    for mut fields in list(table)(value)? {
        let pattern = entries.next(&mut fields)?;
        let mut policy = Policy::new();
        policy.read(&mut fields)?;
        fields.finish()?;
        policies = match pattern {
            Some(pattern) => policies.with(pattern, policy),
            None => policies.with_default(policy),
        };
    }
    Ok(policies)
}

fn interceptors(fields: &mut Fields) -> Result<Interceptors, FieldError> {
    let used = fields.take("useVirtualTopics", flag)?;
    let virtual_topics = either(
        fields,
        "virtualTopic",
        "virtual_topic",
        list(|value| VirtualTopic::read(table(value)?)),
    )?;
    let mut interceptors = match (used, virtual_topics) {
        (Some(false), Some(_)) => {
            return Err(fields.error("virtualTopic is of no use where useVirtualTopics is false"));
        }
        (Some(false), None) => Interceptors::none(),
        (_, None) => Interceptors::default(),
        (_, Some(topics)) => {
            let mut interceptors = Interceptors::none();
            topics
                .into_iter()
                .for_each(|topic| interceptors.add_virtual_topic(topic));
            interceptors
        }
    };
    let composites = fields.take("composite", list(|value| Composite::read(table(value)?)))?;
    for composite in composites.unwrap_or_default() {
        interceptors.add_composite(composite);
    }
    interceptors.mirror = fields.take("mirroredQueue", |value| Mirror::read(table(value)?))?;
    Ok(interceptors)
}

fn destination(value: FieldValue) -> Result<Destination, FieldError> {
    let mut fields = table(value)?;
    let Some(pattern) = target(&mut fields)? else {
        return Err(fields.error("a destination is a queue or a topic"));
    };
    let destination = Destination::new(pattern.kind(), &pattern.name());
    if destination.is_pattern() || destination.is_temporary() {
        return Err(fields.error(format!("{destination} cannot be made before somebody uses it")));
    }
    fields.finish()?;
    Ok(destination)
}

fn force_persistency(value: FieldValue) -> Result<bool, FieldError> {
    let mut fields = table(value)?;
    let persistent = fields.take("persistenceFlag", flag)?.unwrap_or(false);
    fields.finish()?;
    Ok(persistent)
}

fn discard(value: FieldValue) -> Result<DiscardDeadLetters, FieldError> {
    let mut fields = table(value)?;
    let mut discard = DiscardDeadLetters::default();
    fields.take_into("dropAll", &mut discard.drop_all, flag)?;
    fields.take_into("dropTemporaryTopics", &mut discard.drop_temporary_topics, flag)?;
    fields.take_into("dropTemporaryQueues", &mut discard.drop_temporary_queues, flag)?;
    fields.take_into("dropOnly", &mut discard.drop_only, |value| {
        DiscardDeadLetters::expressions(&text(value)?).map_err(|error| FieldError::new(error.to_string()))
    })?;
    fields.take_into("reportInterval", &mut discard.report_interval, number)?;
    fields.finish()?;
    Ok(discard)
}

fn redelivery(value: FieldValue) -> Result<Redelivery, FieldError> {
    let mut fields = table(value)?;
    let mut redelivery = Redelivery::default();
    fields.take_into(
        "sendToDlqIfMaxRetriesExceeded",
        &mut redelivery.send_to_dlq_if_max_retries_exceeded,
        flag,
    )?;
    fields.take_into(
        "fallbackToDeadLetter",
        &mut redelivery.fallback_to_dead_letter,
        flag,
    )?;
    let mut entries = Entries::new();
    for mut fields in fields.take("policy", list(table))?.unwrap_or_default() {
        let pattern = entries.next(&mut fields)?;
        let mut policy = RedeliveryPolicy::default();
        policy.read(&mut fields)?;
        fields.finish()?;
        match pattern {
            Some(pattern) => redelivery = redelivery.with(pattern, policy),
            None => redelivery.default = Some(policy),
        }
    }
    fields.finish()?;
    Ok(redelivery)
}

fn scheduler(value: FieldValue) -> Result<SchedulerSettings, FieldError> {
    let mut fields = table(value)?;
    let mut scheduler = SchedulerSettings::default();
    fields.take_into(
        "maxSchedulerRepeatAllowed",
        &mut scheduler.max_repeat,
        |value| match number(value)? {
            most @ 0.. => Ok(most),
            negative => Err(FieldError::new(format!("{negative} is negative"))),
        },
    )?;
    fields.take_into("timeZone", &mut scheduler.time_zone, |value| {
        Ok(Zone::named(&text(value)?)?)
    })?;
    fields.finish()?;
    Ok(scheduler)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{DeadLetters, PendingLimit};
    use crate::store::journal::Durability;

    const FULL: &str = r#"
brokerName = "orders"
listen = ["tcp://127.0.0.1:0", "ssl://127.0.0.1:0"]
dataDirectory = "/var/lib/orders"
durability = "interval:50"
transactionOutcomes = 10
transactionOutcomesAge = 60_000
populateJMSXUserID = true
schedulePeriodForDestinationPurge = 10000
restartAllowed = false

[locker]
lockAcquireSleepInterval = 2000
lockKeepAlivePeriod = 500
failIfLocked = true

[[user]]
username = "system"
password = "manager"

[tls]
certificate = "cert.pem"
key = "key.pem"

[journal]
journalMaxFileLength = "8 mb"
spareFiles = 2

[limits]
memoryUsage = "64 mb"
storeUsage = "10 gb"
sendFailIfNoSpaceAfterTimeout = 3000
maxUncommittedCount = 0
maxDestinations = 100

[[policy]]
queue = "ORDERS.>"
queuePrefetch = 10

[policy.deadLetterStrategy]
type = "individual"
queuePrefix = "DLQ."

[[policy]]
topic = "PRICES.*"
pendingMessageLimitStrategy = { type = "prefetchRate", multiplier = 2 }

[[policy]]
default = true
gcInactiveDestinations = true

[[virtualTopic]]
name = "VT.>"
prefix = "C.*."
selectorAware = true

[[composite]]
topic = "ALL"
forwardTo = [{ queue = "A", selector = "n > 1" }, "topic://B"]
forwardOnly = false

[[destination]]
queue = "FIRST"

[[destination]]
topic = "SECOND"

[timestamp]
ttlCeiling = 86400000

[forcePersistency]
persistenceFlag = true

[discardDeadLetters]
dropAll = false
dropOnly = "TEST\\..* X"

[redelivery]
fallbackToDeadLetter = false

[[redelivery.policy]]
queue = "ORDERS.>"
maximumRedeliveries = 3
useExponentialBackOff = true

[[redelivery.policy]]
default = true

[statistics]

[scheduler]
maxSchedulerRepeatAllowed = 5
timeZone = "UTC"
"#;

    #[test]
    fn everything_a_file_can_say() {
        let settings = Settings::parse(FULL).unwrap();
        assert_eq!(settings.broker_name.as_deref(), Some("orders"));
        assert_eq!(settings.listen.len(), 2);
        assert_eq!(
            settings.storage,
            Some(StorageSettings::Journal("/var/lib/orders".into()))
        );
        assert_eq!(
            settings.durability,
            Some(Durability::Interval(Duration::from_millis(50)))
        );
        assert_eq!(settings.transaction_outcomes_age, Some(Duration::from_secs(60)));
        assert_eq!(settings.users[0].username, "system");
        assert!(!format!("{settings:?}").contains("manager"));
        assert_eq!(
            settings.tls.as_ref().map(|tls| tls.key.clone()),
            Some("key.pem".into())
        );
        let journal = JournalSettings {
            max_file_length: 8 << 20,
            spare_files: 2,
        };
        assert_eq!(settings.journal, journal);
        assert_eq!(settings.limits.memory_usage, 64 << 20);
        assert_eq!(settings.limits.max_uncommitted_count, None);
        assert_eq!(settings.limits.max_destinations, Some(100));
        let policy = |destination| settings.policies.for_destination(&destination);
        let orders = policy(Destination::queue("ORDERS.NEW"));
        assert_eq!(orders.queue_prefetch, 10);
        assert!(
            matches!(&orders.dead_letters.letters, DeadLetters::Individual(names) if names.queue_prefix == "DLQ.")
        );
        assert_eq!(
            policy(Destination::topic("PRICES.X")).pending_limit,
            PendingLimit::PrefetchRate(2.0)
        );
        assert!(policy(Destination::queue("OTHER")).gc_inactive_destinations);
        assert!(!orders.gc_inactive_destinations);
        let fed = Destination::topic("VT.X");
        let queues = settings
            .interceptors
            .feeds(&fed)
            .map(|(_, queues)| queues)
            .collect::<Vec<_>>();
        assert_eq!(queues, [Pattern::queue("C.*.VT.X")]);
        let replaced = Destination::topic("VirtualTopic.X");
        assert_eq!(settings.interceptors.feeds(&replaced).count(), 0);
        assert_eq!(
            settings
                .interceptors
                .composites(&Destination::topic("ALL"))
                .count(),
            1
        );
        assert_eq!(
            settings.destinations,
            [Destination::queue("FIRST"), Destination::topic("SECOND")]
        );
        let locker = settings.locker.unwrap();
        let millis = Duration::from_millis;
        assert_eq!(locker.lease(), Some((millis(2000), millis(500))));
        assert!(locker.fail_if_locked && !settings.restart_allowed);
        assert_eq!(settings.force_persistency, Some(true));
        assert_eq!(
            settings.timestamp.map(|stamp| stamp.ttl_ceiling.as_secs()),
            Some(86_400)
        );
        let discard = settings.discard_dead_letters.as_ref().unwrap();
        assert!(
            discard.discards(&Destination::queue("TEST.A")) && !discard.discards(&Destination::queue("A"))
        );
        let redelivery = settings.redelivery.as_ref().unwrap();
        assert_eq!(redelivery.policies.len(), 1);
        assert!(redelivery.default.is_some() && !redelivery.fallback_to_dead_letter);
        assert!(settings.statistics);
        let scheduler = settings.scheduler.as_ref().unwrap();
        assert_eq!((scheduler.max_repeat, &scheduler.time_zone), (5, &Zone::utc()));
        // What a policy asks for beyond what the broker does is refused down to the attribute.
        assert_eq!(settings.not_served(), [""; 0]);
    }

    #[test]
    fn an_empty_file_asks_for_nothing() {
        let settings = Settings::parse("").unwrap();
        assert_eq!(settings.not_served(), [""; 0]);
        assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
        // Nor does one that says what is so anyway.
        let usual = "advisorySupport = true\n[[policy]]\ndefault = true\nqueuePrefetch = 1000\n[limits]\nmemoryUsage = \"1gb\"";
        assert_eq!(Settings::parse(usual).unwrap().not_served(), [""; 0]);
        assert_eq!(
            Settings::parse("persistent = false").unwrap().storage,
            Some(StorageSettings::Memory)
        );
        let named =
            Settings::parse("[force_persistency]\n[[virtual_topic]]\n[discard_dead_letters]").unwrap();
        assert_eq!(named.force_persistency, Some(false));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        for (text, says) in [
            ("brokerName = ", ":1:"),
            ("\nbroker = 1", ":2:1: there is no broker here"),
            (
                "[limits]\nmemoryUsage = \"1.5 gb\"",
                ":2:1: memoryUsage: 1.5 gb is not a size",
            ),
            ("[limits]\n  memory = 1", ":2:3: there is no memory here"),
            ("[[policy]]\nqueuePrefetch = 1", ":1:"),
            (
                "[[policy]]\nqueue = \"A\"\nuseCache = true",
                ":3:1: useCache is not needed",
            ),
            ("[[policy]]\nqueue = \"A\"\ntopic = \"B\"", "only one of"),
            ("[[policy]]\nqueue = \"A\"\ndefault = true", "not both"),
            (
                "[[policy]]\nqueue = \"A\"\n[[policy]]\nqueue = \"A\"",
                "two for queue://A",
            ),
            (
                "[[policy]]\ndefault = true\n[[policy]]\ndefault = true",
                "two defaults",
            ),
            (
                "[[policy]]\nqueue = \"A\"\ndeadLetterStrategy = { type = \"shared\", queuePrefix = \"x\" }",
                "there is no queuePrefix here",
            ),
            ("[[virtualTopic]]\nconcurrentSend = true", ":2:1: concurrentSend"),
            ("[[virtualTopic]]\n[[virtual_topic]]", "the same"),
            ("useVirtualTopics = false\n[[virtualTopic]]", "of no use"),
            (
                "[[composite]]\nqueue = \"A\"\nforwardTo = [\"B\", 1]",
                "forwardTo",
            ),
            ("[[destination]]\nqueue = \"A.>\"", "A.>"),
            ("[[destination]]\ntempQueue = true", "cannot be made"),
            ("persistent = false\ndataDirectory = \"x\"", "of no use"),
            ("persistent = true\n[store]\nurl = \"memory:\"", "of no use"),
            ("[store]\nlocker = \"database-locker\"", "url"),
            ("[store]\nurl = \"oracle:x\"", "journal:DIR"),
            ("[store]\nurl = \"journal:x\"\nreaders = 2", "readers"),
            ("durability = \"interval:0\"", "milliseconds"),
            (
                "[locker]\nlockKeepAlivePeriod = 10000",
                "less than lockAcquireSleepInterval",
            ),
            ("[locker]\nlockAcquireSleepInterval = 0", "at least"),
            ("[locker]\nuseLock = false", "no useLock here"),
            ("[[user]]\nusername = \"a\"", "password"),
            ("[tls]\nkey = \"a\"", "certificate"),
            (
                "[scheduler]\ntimeZone = \"Mars\"",
                ":2:1: timeZone: there is no time zone Mars",
            ),
            ("[scheduler]\nmaxSchedulerRepeatAllowed = -1", "negative"),
            ("[discardDeadLetters]\ndropOnly = \"(\"", "dropOnly"),
            ("[statistics]\nx = 1", "no x here"),
            ("brokerName = 2020-01-01", "date"),
            ("transactionOutcomes = 99999999999999999999", "out of range"),
            ("advisorySupport = \"maybe\"", "true or false"),
            ("\"ü\" = \"ä\"\nx = 1", "there is no"),
        ] {
            let error = Settings::parse(text).unwrap_err();
            assert!(error.is_config());
            assert!(error.to_string().contains(says), "{text}: {error}");
        }
    }

    #[cfg(feature = "sql")]
    #[test]
    fn a_store_in_a_database_is_described() {
        let text = r#"
            [store]
            url = "postgres://orders@db/orders"
            locker = "lease-database-locker"
            leaseHolderId = "left"
            maxAllowableDiffFromDBTime = 250
            reconnectTimeout = 5000
            readers = 3
        "#;
        let Some(StorageSettings::Sql(store)) = Settings::parse(text).unwrap().storage else {
            panic!("it is no database");
        };
        assert_eq!(store.url.to_string(), "PostgreSQL db/orders");
        let DatabaseLocking::Lease(lease) = &store.locking else {
            panic!("{store:?}");
        };
        assert_eq!(lease.lease_holder_id.as_deref(), Some("left"));
        assert_eq!(lease.max_allowable_diff_from_db_time, Duration::from_millis(250));
        assert_eq!(
            (store.options.reconnect, store.options.readers),
            (Duration::from_secs(5), 3)
        );
        for (text, says) in [
            (
                "[store]\nurl = \"sqlite:x\"\nlocker = \"shared-file-locker\"",
                "lease-database-locker",
            ),
            (
                "[store]\nurl = \"sqlite:x\"\nleaseHolderId = \"a\"",
                "leaseHolderId",
            ),
            ("[store]\nurl = \"postgres://h/d?sslmod=x\"", "sslmod"),
            ("[store]\nurl = \"sqlite:x\"\nreaders = 0", "at least 1"),
        ] {
            let error = Settings::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn files_are_named_in_errors() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("broker-lite.toml");
        assert!(Settings::load(&path).unwrap_err().is_io());
        fs::write(&path, "listen = [\n  1,\n]").unwrap();
        let error = Settings::load(&path).unwrap_err().to_string();
        assert!(error.contains("broker-lite.toml:1:1: listen"), "{error}");
        fs::write(&path, FULL).unwrap();
        assert!(Settings::load(&path).is_ok());
        fs::write(&path, " ".repeat(5 << 20)).unwrap();
        assert!(Settings::load(&path).unwrap_err().is_config());
    }
}
