//! A broker's life: built, started, stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fmt, io};

use openwire_client::environment::{self, now_millis, random};
use openwire_client::wire::{BrokerId, Destination};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::config::{
    Config, ListenUri, SchedulerSettings, Settings, Storage, StorageSettings, TlsFiles, broker_name,
};
use crate::core::{
    AdvisoryOptions, Core, CoreConfig, DestinationStats, OutcomeLimits, Scheduled, ScheduledJob,
    StatisticsOptions, Stats, UserIds,
};
use crate::error::BrokerError;
use crate::ha::{Holder, Keeper, Lease, LockOptions, Locker, SharedFile};
use crate::security::{Authenticator, Authorization, AuthorizationEntry, Secret};
use crate::server::{BindError, Counters, Driver, Listener, ListenerStats, Room, Server, Stores, Tls};
use crate::store::journal::{Durability, Journal, JournalOptions};
use crate::store::memory::MemoryStore;
#[cfg(feature = "sql")]
use crate::store::sql::{self, SqlSettings, SqlStore};
use crate::store::{Recovered, Store, StoreError, StoreStats, TempStore, new_identity};

/// How long a broker that stops waits for the store to confirm what clients asked for.
const DRAIN: Duration = Duration::from_secs(5);

/// How long it waits then for its connections to end; each of them has a second for its last write.
const CLOSE: Duration = Duration::from_secs(2);

/// A running broker, embedded in this process.
///
/// ```
/// # async fn example() -> Result<(), broker_lite::BrokerError> {
/// let broker = broker_lite::Broker::builder().listen("tcp://127.0.0.1:0").start().await?;
/// println!("connect to {}", broker.uri());
/// broker.stop().await?;
/// # Ok(())
/// # }
/// ```
///
/// It runs on the tokio runtime it was started on. Brokers in one process are independent of each other.
/// Dropping a broker stops it as well, without waiting for connections to end; what was confirmed is stored
/// in any case. A drop needs no runtime, but it blocks until the store is closed.
pub struct Broker {
    name: Arc<str>,
    addresses: Vec<String>,
    server: Arc<Server>,
    stop: Arc<watch::Sender<bool>>,
    listeners: Vec<JoinHandle<()>>,
    background: Vec<JoinHandle<()>>,
    stopped: bool,
    /// Gives mastership back when everything else is over; none where nobody else can reach the store.
    _keeper: Option<Keeper>,
}

/// Builds a [`Broker`]. What it is given is checked by [`start`](Self::start).
pub struct BrokerBuilder {
    config: Config,
}

/// What a broker counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStats {
    /// Destinations, consumers, messages.
    pub core: Stats,
    /// The listeners.
    pub listeners: ListenerStats,
    /// The store.
    pub store: StoreStats,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("name", &self.name)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for BrokerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerBuilder")
            .field("name", &self.config.name)
            .field("listen", &self.config.listen)
            .finish_non_exhaustive()
    }
}

impl BrokerBuilder {
    /// `brokerName`. Characters outside `a-zA-Z0-9._-:` become `_`. Default: a name no other broker in this
    /// process has.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// Listens on a bind URI as well: `tcp://host:port?options` or `ssl://host:port?options`, where port 0
    /// takes a free one.
    ///
    /// Options, with ActiveMQ's names and defaults: `maximumConnections`, `backlog`,
    /// `transport.connectAttemptTimeout` and `wireFormat.maxInactivityDuration` (milliseconds),
    /// `transport.useInactivityMonitor`, `transport.useKeepAlive`, `transport.tcpNoDelay`,
    /// `needClientAuth` and `wantClientAuth`, `wireFormat.maxFrameSize` (bytes) and the other options of the
    /// wire format. Any other is refused.
    pub fn listen(mut self, uri: impl Into<String>) -> Self {
        self.config.listen.push(uri.into());
        self
    }

    /// Keeps persistent messages in memory only: they are gone when the broker is. This is the default.
    pub fn memory(mut self) -> Self {
        self.config.storage = Storage::Memory;
        self
    }

    /// Keeps persistent messages in a journal in this directory, which is made if it is not there.
    ///
    /// Of the brokers that share a directory one serves: [`start`](Self::start) waits until this one does, see
    /// [`locking`](Self::locking).
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.config.storage = Storage::Journal(directory.into());
        self
    }

    /// Keeps persistent messages in a database. Of the brokers on it, an ActiveMQ among them, one serves:
    /// [`start`](Self::start) waits until this one does.
    #[cfg(feature = "sql")]
    pub fn database(mut self, settings: SqlSettings) -> Self {
        self.config.storage = Storage::Sql(Box::new(settings));
        self
    }

    /// When the journal counts a message as stored, so that its producer is told. Default: when it is on the
    /// disk.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.config.durability = durability;
        self
    }

    /// How the broker becomes and stays master of its store: ActiveMQ's `shared-file-locker` and `lockKeepAlivePeriod`.
    pub fn locking(mut self, options: LockOptions) -> Self {
        self.config.locking = options;
        self
    }

    /// Has another [`Locker`] say who is master than the lock file in the directory of the journal. It is asked before the
    /// store is touched. A store that was given [open](Self::store) has none otherwise.
    pub fn locker(mut self, locker: Box<dyn Locker>) -> Self {
        self.config.locker = Some(locker);
        self
    }

    /// Was master before: waits also where it cannot be found out at first who is now.
    pub(crate) fn patient(mut self) -> Self {
        self.config.patient = true;
        self
    }

    /// Is called by [`start`](Self::start), once for each other broker that is master while this one stands by.
    pub fn on_standby(mut self, standing_by: impl FnMut(&Holder) + Send + 'static) -> Self {
        self.config.standing_by = Box::new(standing_by);
        self
    }

    /// Keeps persistent messages in a store that is open already, and begins with what it held.
    pub fn store(mut self, store: Arc<dyn Store>, recovered: Recovered) -> Self {
        self.config.storage = Storage::Open(store, recovered);
        self
    }

    /// Lets a user in. Once there is one, nobody else is let in but other users. ActiveMQ's `authenticationUser`,
    /// whose groups are given with [`group`](Self::group).
    ///
    /// The password may be a hash of Argon2 (`$argon2id$…`) or bcrypt (`$2b$…`):
    /// [`hash_password`](crate::security::hash_password) makes one. A user that is given again gets another
    /// password; one that stands in the [`users_file`](Self::users_file) as well has this one.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.config
            .users
            .users
            .push((name.into(), Secret(password.into())));
        self
    }

    /// Puts users into a group, for [`authorize`](Self::authorize). A user can be in several, by this and by the
    /// [`groups_file`](Self::groups_file).
    pub fn group<U: Into<String>>(
        mut self,
        name: impl Into<String>,
        users: impl IntoIterator<Item = U>,
    ) -> Self {
        let users = users.into_iter().map(Into::into).collect();
        self.config.users.groups.push((name.into(), users));
        self
    }

    /// Lets in the users of a properties file, as ActiveMQ's `PropertiesLoginModule` has them: `NAME=PASSWORD` a
    /// line, with Java's escapes, in UTF-8 or ISO 8859-1. Passwords may be hashes, as for [`user`](Self::user).
    ///
    /// The file is read again when it has changed and somebody logs in, but not more often than once a second; one
    /// that is then wrong is warned about and has no effect. Replace it by renaming another, so that nobody reads
    /// half of it. Connections that there are keep the rights they began with.
    pub fn users_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.users.users_file = Some(path.into());
        self
    }

    /// The groups of users from a properties file of the same kind, `GROUP=USER,USER` a line.
    pub fn groups_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.users.groups_file = Some(path.into());
        self
    }

    /// Lets in whoever shows a TLS client certificate of this distinguished name, as this user and without a
    /// password: ActiveMQ's `TextFileCertificateLoginModule`. The listener has to have `needClientAuth` or
    /// `wantClientAuth`, and [`tls`](Self::tls) the authorities that the certificates are checked by.
    ///
    /// The name is written as Java does, `CN=Ada, O=Acme`, the common name first, or as RFC 2253 has it; between
    /// slashes, it is a regular expression for what Java writes. Whoever shows another certificate logs in with
    /// a name and a password, if there are any.
    pub fn certificate(mut self, user: impl Into<String>, name: impl Into<String>) -> Self {
        self.config.users.certificates.push((user.into(), name.into()));
        self
    }

    /// The same from a properties file, `USER=DISTINGUISHED NAME` a line, which is read again when it changes.
    pub fn certificates_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.users.certificates_file = Some(path.into());
        self
    }

    /// `anonymousAccessAllowed`, `anonymousUser`, `anonymousGroup`: whoever gives neither a name nor a password is
    /// let in as this user, in this group. ActiveMQ calls both `anonymous` by default. Without it, nobody is let
    /// in without a name once there are users.
    ///
    /// Said of a broker without users, it means that everybody may connect, from other machines as well, and
    /// that is not warned about any more.
    pub fn anonymous(mut self, user: impl Into<String>, group: impl Into<String>) -> Self {
        self.config.users.anonymous = Some((user.into(), group.into()));
        self
    }

    /// `authorizationEntry`: gives rights to groups. Once there is an entry, what no entry allows is refused with
    /// a `JMSSecurityException`; see [`Authorization`]. Needs users, or anonymous ones.
    pub fn authorize(mut self, entry: AuthorizationEntry) -> Self {
        self.config.authorization.get_or_insert_default().push(entry);
        self
    }

    /// `populateJMSXUserID` and `useAuthenticatedPrincipalForJMSXUserID`: what becomes of `JMSXUserID` in messages
    /// that are sent. By default it is what the client says.
    pub fn user_ids(mut self, user_ids: UserIds) -> Self {
        self.config.user_ids = user_ids;
        self
    }

    /// What `ssl://` listeners present: a certificate chain, its own certificate first, and the key, both PEM.
    /// With the authorities of client certificates, also PEM, `needClientAuth` and `wantClientAuth` can be
    /// used.
    pub fn tls(
        mut self,
        chain: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
        client_ca: Option<Vec<u8>>,
    ) -> Self {
        self.config.tls = Some(TlsFiles {
            chain: chain.into(),
            key: key.into(),
            client_ca,
        });
        self
    }

    /// `memoryUsage`: bytes of messages that live in memory only, beyond which producers wait. Default 1 GiB.
    ///
    /// It bounds what is sent in transactions as well. Persistent messages for one queue each wait for the commit in the
    /// store if they are many. Others, such as those for topics and lists of destinations, wait in memory: one for which
    /// there is no room is refused with `ResourceAllocationException`, and its transaction is rolled back.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.config.memory_limit = bytes;
        self
    }

    /// Bytes of stored messages that are kept in memory as well; beyond it they are read back when a
    /// consumer's turn comes. Default 64 MiB.
    pub fn resident_limit(mut self, bytes: usize) -> Self {
        self.config.resident_limit = bytes;
        self
    }

    /// `maxUncommittedCount`: how many messages can be sent in one transaction. The one beyond is refused with
    /// `ResourceAllocationException`, and the transaction is rolled back. Default 0, which is no limit.
    pub fn max_uncommitted_count(mut self, messages: usize) -> Self {
        self.config.max_uncommitted = messages;
        self
    }

    /// How long the outcomes of transactions are kept, so that a commit which is sent again after a failover
    /// is answered with what became of it: each until it is older than `age`, or until there are more than
    /// `count`, up to [`OutcomeLimits::MAX_COUNT`]. Default 100,000 and an hour; 0 keeps none.
    ///
    /// Outcomes are kept in the store, with what their transactions stored. The outcome of a transaction that
    /// stored nothing is kept in memory, as its messages are: see [`OutcomeLimits`] for what a restart makes of
    /// it. ActiveMQ keeps none.
    pub fn transaction_outcomes(mut self, count: usize, age: Duration) -> Self {
        self.config.outcomes = OutcomeLimits { count, age };
        self
    }

    /// `schedulerSupport`: messages are delivered when their properties `AMQ_SCHEDULED_DELAY`, `AMQ_SCHEDULED_PERIOD`,
    /// `AMQ_SCHEDULED_REPEAT` and `AMQ_SCHEDULED_CRON` say, and messages to `ActiveMQ.Scheduler.Management` browse and
    /// remove what is scheduled. Default: as in ActiveMQ there is no scheduler, and messages are delivered at once.
    ///
    /// With a journal all that is scheduled is kept there, also messages that are not persistent. What was due while the
    /// broker was down is delivered once when it starts.
    pub fn scheduler(mut self, scheduler: SchedulerSettings) -> Self {
        self.config.settings.scheduler = Some(scheduler);
        self
    }

    /// Takes all that a configuration says, usually one read by [`Settings::load`]. What is called before it gives
    /// way where the settings say something, listeners and users are added; what is called after it wins.
    ///
    /// Something that this broker does not do makes [`start`](Self::start) fail, with its name; nothing is
    /// overlooked. The files of `[tls]` are read by `start` as well, unless [`tls`](Self::tls) was called.
    pub fn settings(mut self, settings: Settings) -> Self {
        let config = &mut self.config;
        if let Some(name) = &settings.broker_name {
            config.name = Some(name.clone());
        }
        config.listen.extend(settings.listen.iter().cloned());
        match &settings.storage {
            Some(StorageSettings::Memory) => config.storage = Storage::Memory,
            Some(StorageSettings::Journal(directory)) => config.storage = Storage::Journal(directory.clone()),
            #[cfg(feature = "sql")]
            Some(StorageSettings::Sql(database)) => config.storage = Storage::Sql(database.clone()),
            None => {}
        }
        config.locking = settings.locker.unwrap_or(config.locking);
        config.durability = settings.durability.unwrap_or(config.durability);
        config.outcomes.count = settings.transaction_outcomes.unwrap_or(config.outcomes.count);
        config.outcomes.age = settings.transaction_outcomes_age.unwrap_or(config.outcomes.age);
        for user in &settings.users {
            let password = Secret(user.password.clone());
            config.users.users.push((user.username.clone(), password));
        }
        if let Some(most) = settings.limits.max_uncommitted_count {
            config.max_uncommitted = most as usize;
        }
        if settings.populate_jmsx_user_id {
            config.user_ids = UserIds::Given;
        }
        config.memory_limit = usize::try_from(settings.limits.memory_usage).unwrap_or(usize::MAX);
        config.resident_limit = usize::try_from(settings.limits.resident_limit).unwrap_or(usize::MAX);
        let scheduler = config.settings.scheduler.take();
        config.settings = settings;
        config.settings.scheduler = config.settings.scheduler.take().or(scheduler);
        self
    }

    /// Becomes master of the store, opens it, listens, and serves on the current tokio runtime. As long as another broker
    /// is master this one stands by: it waits, touches nothing of the store, and does not listen.
    ///
    /// Cancel safe: a future that is dropped leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`BrokerError::is_config`] for what cannot be, by name; [`BrokerError::is_address_in_use`] for a port
    /// or name that is taken; [`BrokerError::is_locked`] with `failIfLocked`, if another broker is master;
    /// [`BrokerError::is_mastership_lost`] if it was lost while the store was opened; [`BrokerError::is_damaged`] for a
    /// store that does not open; [`BrokerError::is_io`] for what the system refused.
    pub async fn start(self) -> Result<Broker, BrokerError> {
        let runtime = Handle::try_current()
            .map_err(|_| BrokerError::config("a broker needs a tokio runtime to run on"))?;
        let mut config = self.config;
        let not_served = config.settings.not_served();
        if !not_served.is_empty() {
            return Err(BrokerError::config(format!(
                "this broker cannot do what the configuration asks for: {}",
                not_served.join(", ")
            )));
        }
        if let Some(contradiction) = config.settings.contradiction() {
            return Err(BrokerError::config(contradiction));
        }
        if let Some(contradiction) = config.locking.contradiction() {
            return Err(BrokerError::config(contradiction));
        }
        if let (None, Some(files)) = (&config.tls, &config.settings.tls) {
            config.tls = Some(TlsFiles::read(files)?);
        }
        let name: Arc<str> = match &config.name {
            Some(name) if name.is_empty() => return Err(BrokerError::config("a broker's name is not empty")),
            Some(name) => broker_name(name).into(),
            None => unique_name().into(),
        };
        if config.outcomes.count > OutcomeLimits::MAX_COUNT {
            return Err(BrokerError::config(format!(
                "a broker keeps the outcomes of {} transactions at most",
                OutcomeLimits::MAX_COUNT
            )));
        }
        let mut listen = config
            .listen
            .iter()
            .map(|uri| ListenUri::parse(uri))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| BrokerError::config(error.to_string()))?;
        // Its own process always reaches it by name.
        let own = ListenUri::vm(&name);
        if listen.iter().all(|uri| uri.endpoint != own.endpoint) {
            listen.push(own);
        }
        let users = Authenticator::new(config.users)
            .await
            .map_err(BrokerError::config)?;
        if config.authorization.is_some() && users.is_open() && users.anonymous().is_none() {
            return Err(BrokerError::config(
                "nobody has any rights: authorization needs users, or anonymous access by name",
            ));
        }
        let tls = config
            .tls
            .as_ref()
            .map(|files| Tls::from_pem(&files.chain, &files.key, files.client_ca.as_deref()))
            .transpose()
            .map_err(BrokerError::config)?;

        let options = JournalOptions {
            segment_size: config.settings.journal.max_file_length,
            spare_segments: config.settings.journal.spare_files,
            durability: config.durability,
            ..JournalOptions::default()
        };
        let data_directory = match &config.storage {
            Storage::Journal(directory) => Some(directory.clone()),
            _ => None,
        };
        let locker: Option<Box<dyn Locker>> = match (config.locker, &config.storage) {
            (Some(locker), _) => Some(locker),
            (None, Storage::Journal(directory)) => {
                Some(Box::new(SharedFile::new(directory, &*name, &config.locking)))
            }
            #[cfg(feature = "sql")]
            (None, Storage::Sql(database)) => {
                // A commit in a database is durable, or as durable as the database makes it.
                if config.settings.durability.is_some() {
                    return Err(BrokerError::config("durability is that of a journal"));
                }
                let locker = sql::locker(database, &name, &config.locking);
                Some(locker.map_err(|error| BrokerError::store("the store", &error))?)
            }
            (None, Storage::Memory | Storage::Open(..)) => None,
        };
        let keeper = match locker {
            Some(locker) => {
                let keeper = Keeper::acquire(locker, config.locking, config.patient, config.standing_by);
                Some(keeper.await.map_err(|error| BrokerError::lock(&error))?)
            }
            None => None,
        };
        let opened = open(config.storage, options, keeper, &name).await?;
        let Opened {
            store,
            recovered,
            stored,
            keeper,
            journal,
        } = opened;
        let room = journal.map(|journal| Room::new(&journal, config.settings.limits.store_usage));
        if let Some(room) = &room {
            config.settings.limits.store_usage = room.limit();
        }
        let store = CloseOnDrop::new(store);
        let temp = open_temp(data_directory, &config.settings).await?;
        let mut listeners = Vec::new();
        for uri in listen {
            let wanted = uri.endpoint.to_string();
            let listener = Listener::bind(uri, tls.as_ref())
                .await
                .map_err(|error| match error {
                    BindError::Config(why) => {
                        BrokerError::config(format!("cannot listen on {wanted}: {why}"))
                    }
                    BindError::Io(error) => {
                        BrokerError::io(format_args!("cannot listen on {wanted}"), &error)
                    }
                    BindError::NameInUse => BrokerError::name_in_use(format!(
                        "cannot listen on {wanted}: this process has a broker of that name already"
                    )),
                })?;
            listeners.push(listener);
        }
        if users.is_open() && users.anonymous().is_none() {
            for listener in listeners.iter().filter(|listener| listener.address().is_public()) {
                warn!(
                    "everybody who reaches {} may connect: there are no users",
                    listener.address()
                );
            }
        }
        // The listener of its own that every broker has says nothing about one that was given others.
        let given = config.listen.len().max(1);
        let addresses = listeners
            .iter()
            .take(given)
            .map(|listener| listener.address().to_string())
            .collect::<Vec<_>>();
        let broker_url = match listeners.first() {
            Some(listener) => listener.address().seen_from_outside(&host_name()),
            None => String::new(),
        };

        let store_identity = match &*recovered.identity {
            // What is known of transactions does not outlive the broker.
            "" => new_identity(),
            _ => recovered.identity.clone(),
        };
        let core = Core::new(
            now_millis(),
            CoreConfig {
                broker_name: name.clone(),
                broker_id: broker_id(),
                broker_url: broker_url.into(),
                stored,
                resident_limit: config.resident_limit,
                memory_limit: config.memory_limit,
                temp_limit: temp.as_ref().map(|(_, limit)| *limit),
                outcomes: config.outcomes,
                rules: config.settings.rules(),
                authorization: config
                    .authorization
                    .map(|entries| Arc::new(Authorization::new(entries))),
                user_ids: config.user_ids,
                max_uncommitted: config.max_uncommitted,
                advisories: AdvisoryOptions {
                    enabled: config.settings.advisory_support,
                    ..AdvisoryOptions::default()
                },
                statistics: config.settings.statistics.then(StatisticsOptions::default),
            },
            recovered,
        );
        // From here on nothing fails.
        let (driver, completions) = Driver::new(
            core,
            Stores {
                main: store.keep(),
                temp: temp.map(|(store, _)| store),
            },
        );
        let (stop, stopping) = watch::channel(false);
        let stop = Arc::new(stop);
        let server = Arc::new(Server {
            driver: driver.clone(),
            users: Arc::new(users),
            counters: Counters::default(),
            store_identity,
            lease: lease_of(keeper.as_ref()),
            stop: stopping,
        });
        let mut background = vec![
            runtime.spawn(driver.clone().run(completions)),
            runtime.spawn(fail_on_loss(driver.clone(), server.lease.clone())),
            runtime.spawn(stop_on_failure(driver.clone(), stop.clone())),
        ];
        background.extend(room.map(|room| runtime.spawn(room.follow(driver))));
        let listeners = listeners
            .into_iter()
            .map(|listener| runtime.spawn(listener.run(server.clone())))
            .collect();
        info!(broker = &*name, ?addresses, "started");
        Ok(Broker {
            name,
            addresses,
            server,
            stop,
            listeners,
            background,
            stopped: false,
            _keeper: keeper,
        })
    }
}

/// A broker that cannot store keeps no promise: its clients go elsewhere.
async fn stop_on_failure(driver: Arc<Driver>, stop: Arc<watch::Sender<bool>>) {
    let failure = driver.failed().await;
    stop.send_replace(true);
    driver.close_connections(&format!("the store failed: {failure}"));
}

/// A broker that is not master any more must not serve.
async fn fail_on_loss(driver: Arc<Driver>, lease: Lease) {
    let lost = lease.lost().await;
    driver.fail(&StoreError::NotMaster(lost.0.to_string()));
}

impl Broker {
    /// A broker to be configured. By default it keeps everything in memory and is reached at `vm://NAME`
    /// only.
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder {
            config: Config::default(),
        }
    }

    /// `brokerName`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URIs it is reached at, in the order its listeners were given, with the real ports.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The first of its [`addresses`](Self::addresses).
    pub fn uri(&self) -> &str {
        self.addresses.first().map_or("", String::as_str)
    }

    /// What it counts, now.
    pub fn stats(&self) -> BrokerStats {
        BrokerStats {
            core: self.server.driver.stats(),
            listeners: self.server.counters.stats(),
            store: self.server.driver.store().stats(),
        }
    }

    /// What it counts of each destination, now, ordered by kind and name. No other work is done meanwhile, so with
    /// very many destinations ask seldom.
    pub fn destinations(&self) -> Vec<DestinationStats> {
        self.server.driver.destinations()
    }

    /// How many messages wait on a queue; none if there is no such queue.
    pub fn queue_depth(&self, name: &str) -> Option<usize> {
        self.server.driver.queue_depth(&Destination::queue(name))
    }

    /// How much is scheduled.
    pub fn scheduled(&self) -> Scheduled {
        self.server.driver.scheduled()
    }

    /// What is scheduled for a time not before `from`, in milliseconds since 1970, the soonest first: at most `most` of it.
    /// To go on, ask again from when the last one is due.
    pub fn scheduled_jobs(&self, from: i64, most: usize) -> Vec<ScheduledJob> {
        self.server.driver.scheduled_jobs(from, most)
    }

    /// Waits until the broker fails: its store took something no more, or another broker may be master of it
    /// ([`BrokerError::is_mastership_lost`]). It has closed its connections then, so that clients go elsewhere, and only [`stop`](Self::stop) is left to do. Cancel safe.
    pub async fn failed(&self) -> BrokerError {
        let failure = self.server.driver.failed().await;
        // Then the store fails as well, and it may have been the first to say so.
        let failure = match self.server.lease.why_lost() {
            Some(lost) => StoreError::NotMaster(lost.0.to_string()),
            None => failure,
        };
        BrokerError::store("the broker failed", &failure)
    }

    /// Stops in order: takes no more connections and dispatches nothing more, takes the commands that have arrived and
    /// answers them, closes the connections and then the store. What consumers were sent and had not acknowledged by
    /// then comes again with the redelivered flag.
    ///
    /// Takes milliseconds, and at most some seconds when the disk or a client is slow. If the future is
    /// dropped, the rest is done as if the broker was dropped.
    ///
    /// # Errors
    ///
    /// [`BrokerError::is_io`] if the store could not be closed in order.
    pub async fn stop(mut self) -> Result<(), BrokerError> {
        let driver = self.server.driver.clone();
        self.stop.send_replace(true);
        driver.end_dispatch();
        // The runtime looks what has arrived, so that connections find it.
        tokio::task::yield_now().await;
        let answered = async {
            driver.drain().await;
            driver.barrier().await;
        };
        if timeout(DRAIN, answered).await.is_err() {
            warn!(
                broker = &*self.name,
                "the store is slow: some requests are not answered"
            );
        }
        driver.close_connections("the broker stops");
        let ended = timeout(CLOSE, async {
            for listener in &mut self.listeners {
                // A listener that panicked has ended, too.
                let _ = listener.await;
            }
        });
        if ended.await.is_err() {
            warn!(broker = &*self.name, "not all connections ended in time");
        }
        self.abort_tasks();
        driver.shutdown();
        let stores: Vec<_> = driver.stores().cloned().collect();
        let closed = tokio::task::spawn_blocking(move || close(&stores)).await;
        self.stopped = true;
        match closed {
            Ok(Ok(())) => {
                info!(broker = &*self.name, "stopped");
                Ok(())
            }
            Ok(Err(failure)) => Err(BrokerError::store("the store was not closed in order", &failure)),
            Err(panic) => Err(BrokerError::store(
                "the store was not closed in order",
                &StoreError::Io(panic.to_string()),
            )),
        }
    }

    fn abort_tasks(&self) {
        for task in self.listeners.iter().chain(&self.background) {
            task.abort();
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        self.stop.send_replace(true);
        self.abort_tasks();
        self.server.driver.shutdown();
        let stores: Vec<_> = self.server.driver.stores().cloned().collect();
        if let Err(failure) = close(&stores) {
            error!(
                broker = &*self.name,
                "the store was not closed in order: {failure}"
            );
        }
    }
}

/// Closes a store that was opened for a broker that then does not start.
struct CloseOnDrop {
    store: Arc<dyn Store>,
    close: bool,
}

impl CloseOnDrop {
    fn new(store: Arc<dyn Store>) -> Self {
        Self { store, close: true }
    }

    fn keep(mut self) -> Arc<dyn Store> {
        self.close = false;
        self.store.clone()
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        if self.close
            && let Err(failure) = self.store.close()
        {
            error!("the store was not closed in order: {failure}");
        }
    }
}

/// The lease of a keeper; without one it does not end.
fn lease_of(keeper: Option<&Keeper>) -> Lease {
    keeper.map_or_else(|| Lease::endless(0), |keeper| keeper.lease().clone())
}

/// What persistent messages go to. The store is dropped before mastership is given back.
struct Opened {
    store: Arc<dyn Store>,
    recovered: Recovered,
    /// What is stored outlives the broker.
    stored: bool,
    /// The store, if it is a journal.
    journal: Option<Arc<Journal>>,
    keeper: Option<Keeper>,
}

/// Closes all stores; the first failure counts.
fn close(stores: &[Arc<dyn Store>]) -> Result<(), StoreError> {
    stores.iter().map(|store| store.close()).fold(Ok(()), Result::and)
}

/// Makes the place where non-persistent messages may lie, and says how many bytes of them.
async fn open_temp(
    data_directory: Option<PathBuf>,
    settings: &Settings,
) -> Result<Option<(Arc<dyn Store>, u64)>, BrokerError> {
    let asked = settings.limits.temp_usage;
    let Some(directory) = data_directory else {
        if asked != Settings::default().limits.temp_usage {
            return Err(BrokerError::config(
                "limits.tempUsage needs a data directory: without one non-persistent messages are in memory only",
            ));
        }
        return Ok(None);
    };
    let made = tokio::task::spawn_blocking(move || {
        let store = TempStore::new(directory)?;
        let free = store.free_space()?;
        io::Result::Ok((store, free))
    });
    let made = made.await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
    let (store, free) = made.map_err(|error| BrokerError::io("the temporary store", &error))?;
    if free < asked {
        info!(
            asked,
            free, "the disk has less space than tempUsage allows: that is the limit"
        );
    }
    Ok(Some((Arc::new(store), asked.min(free))))
}

/// Opens what persistent messages go to.
async fn open(
    storage: Storage,
    options: JournalOptions,
    keeper: Option<Keeper>,
    #[cfg_attr(
        not(feature = "sql"),
        expect(unused_variables, reason = "it is what a lease in a database says")
    )]
    broker: &str,
) -> Result<Opened, BrokerError> {
    let directory = match storage {
        Storage::Open(store, recovered) => {
            return Ok(Opened {
                store,
                recovered,
                stored: true,
                journal: None,
                keeper,
            });
        }
        // The core gives it nothing: messages that do not outlive the broker are in its own memory.
        Storage::Memory => {
            return Ok(Opened {
                store: Arc::new(MemoryStore::new()),
                recovered: Recovered::default(),
                stored: false,
                journal: None,
                keeper,
            });
        }
        #[cfg(feature = "sql")]
        Storage::Sql(database) => {
            let what = format!("the store in {}", database.url);
            let mastership = lease_of(keeper.as_ref());
            let matches = Box::new(crate::core::foreign::matches());
            let opened = SqlStore::open_as(*database, broker, matches, mastership).await;
            let (store, recovered) = opened.map_err(|error| BrokerError::store(what, &error))?;
            return Ok(Opened {
                store: Arc::new(store),
                recovered,
                stored: true,
                journal: None,
                keeper,
            });
        }
        Storage::Journal(directory) => directory,
    };
    let what = format!("the journal in {}", directory.display());
    // If this future is dropped, the journal is opened for nobody and closed again, and only then is mastership given back.
    let opened = tokio::task::spawn_blocking(move || {
        let lease = lease_of(keeper.as_ref());
        let options = JournalOptions {
            epoch: Some(lease.epoch()),
            mastership: Some(Arc::new(lease.clone())),
            ..options
        };
        let (journal, recovered) = Journal::open_locked(directory, options)?;
        lease.raise_epoch(journal.epoch());
        let journal = Arc::new(journal);
        Ok(Opened {
            journal: Some(journal.clone()),
            store: journal,
            recovered,
            stored: true,
            keeper,
        })
    })
    .await;
    match opened {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) => Err(BrokerError::store(what, &error)),
        Err(panic) => Err(BrokerError::store(what, &StoreError::Io(panic.to_string()))),
    }
}

/// A name that no other broker of this process was given in this way.
fn unique_name() -> String {
    static BROKERS: AtomicU64 = AtomicU64::new(1);
    format!("embedded-{}", BROKERS.fetch_add(1, Ordering::Relaxed))
}

/// The name of this machine, as its clients may know it.
fn host_name() -> String {
    environment::host_name(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

/// An id that no other start of a broker gets.
fn broker_id() -> BrokerId {
    let (millis, random) = (now_millis(), random::<u32>());
    let value = format!("ID:{}-{random}-{millis}-0:1", host_name());
    BrokerId {
        value: Some(value.into()),
    }
}
