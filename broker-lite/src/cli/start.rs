//! `broker-lite start`: a broker in a process of its own.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::access::Access;
use super::health::{Health, State};
use super::{Common, Failure, log};
#[cfg(feature = "sql")]
use crate::config::database_locking;
use crate::config::{durability, store};
use crate::policy::fields::{FieldValue, bytes};
use crate::store::journal::Durability;
#[cfg(feature = "sql")]
use crate::store::sql::DatabaseLocking;
use crate::{Broker, BrokerBuilder, Settings, StorageSettings};

/// What a broker is called that is not told.
const DEFAULT_NAME: &str = "localhost";

/// Where it listens.
const DEFAULT_LISTEN: &str = "tcp://127.0.0.1:61616";

/// Where it keeps persistent messages.
const DEFAULT_DATA: &str = "data";

#[derive(Debug, Args)]
pub(super) struct Options {
    /// A configuration file (TOML); what is given on the command line as well wins over it, but for users, which are added
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The broker's name, brokerName in ActiveMQ [default: localhost]
    #[arg(long)]
    name: Option<String>,

    /// Where to listen; can be given more than once: tcp://HOST:PORT, ssl://HOST:PORT, with ActiveMQ's options;
    /// port 0 takes a free one [default: tcp://127.0.0.1:61616]
    #[arg(long, value_name = "URI")]
    listen: Vec<String>,

    /// The directory of the journal that keeps persistent messages [default: data]
    #[arg(long, value_name = "DIR", conflicts_with = "memory")]
    data: Option<PathBuf>,

    /// Keep persistent messages in memory only
    #[arg(long)]
    memory: bool,

    /// Where to keep persistent messages: journal:DIR, memory:, or a database, in the tables of ActiveMQ's JDBC store:
    /// postgres://USER:PASSWORD@HOST:PORT/DATABASE, mysql://… (MariaDB as well), sqlite:FILE. User and password can be in
    /// the environment instead: BROKER_LITE_STORE_USER, BROKER_LITE_STORE_PASSWORD
    #[arg(long, value_name = "URL", conflicts_with_all = ["data", "memory"], value_parser = store)]
    store: Option<StorageSettings>,

    /// How a broker becomes master of a database: database-locker or lease-database-locker, as in ActiveMQ
    /// [default: database-locker]
    #[cfg(feature = "sql")]
    #[arg(long, value_name = "LOCKER", requires = "store", value_parser = database_locking)]
    store_locker: Option<DatabaseLocking>,

    /// What this broker is called in a lease, leaseHolderId in ActiveMQ [default: its name]
    #[cfg(feature = "sql")]
    #[arg(long, value_name = "NAME", requires = "store_locker")]
    lease_holder_id: Option<String>,

    /// When a message counts as stored: `always` when it is on the disk, `os` when the system has it,
    /// `interval:MS` likewise, and synced so often [default: always]
    #[arg(long, value_name = "WHEN", conflicts_with = "memory", value_parser = durability)]
    durability: Option<Durability>,

    /// How often a broker that stands by tries to become master of the directory, and how long a master may go on
    /// without having made sure that it is: lockAcquireSleepInterval in ActiveMQ [default: 10000]
    #[arg(long, value_name = "MS", conflicts_with = "memory")]
    lock_acquire_sleep_interval: Option<u64>,

    /// How often a master makes sure that it still is, 0 for never: lockKeepAlivePeriod in ActiveMQ [default: half of
    /// --lock-acquire-sleep-interval]
    #[arg(long, value_name = "MS", conflicts_with = "memory")]
    lock_keep_alive_period: Option<u64>,

    /// End with status 3 if another broker is master of the directory, rather than stand by: failIfLocked in ActiveMQ
    #[arg(long, conflicts_with = "memory")]
    fail_if_locked: bool,

    /// Stand by again when mastership is lost; `false`: end with status 4. restartAllowed in ActiveMQ [default: true]
    #[arg(long, value_name = "BOOLEAN")]
    restart_allowed: Option<bool>,

    /// The size of a file of the journal, such as `32 mb`, journalMaxFileLength in ActiveMQ [default: 64 mb]
    #[arg(long, value_name = "SIZE", conflicts_with = "memory", value_parser = size)]
    journal_max_file_length: Option<u64>,

    /// Producers of persistent messages wait beyond so many bytes of them, storeUsage in ActiveMQ [default: 100 gb, or
    /// what the disk has room for]
    #[arg(long, value_name = "SIZE", conflicts_with = "memory", value_parser = size)]
    store_usage: Option<u64>,

    /// Keep the outcomes of so many transactions, for clients that have to send a commit again [default: 100000]
    #[arg(long, value_name = "NUMBER")]
    transaction_outcomes: Option<usize>,

    /// Keep them for so long [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    transaction_outcomes_age: Option<u64>,

    #[command(flatten)]
    access: Access,

    /// Deliver messages when their AMQ_SCHEDULED_ properties say, schedulerSupport in ActiveMQ; without it, and without
    /// `[scheduler]` in the file, they are delivered at once
    #[arg(long)]
    scheduler: bool,

    /// The certificate chain for ssl:// (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The key for ssl:// (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// The authorities that client certificates are checked by (PEM), for needClientAuth and wantClientAuth
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_ca: Option<PathBuf>,

    /// Answer over HTTP whether this broker serves: /readyz is 200 then, and 503 while it starts or stands by; /healthz is
    /// always 200
    #[arg(long, value_name = "HOST:PORT")]
    health: Option<String>,

    /// Write the addresses listened on to this file, one a line, once they are known
    #[arg(long, value_name = "FILE")]
    ports_file: Option<PathBuf>,

    /// Threads that serve connections. One needs the least CPU time for a message; more help where there are
    /// more cores than two and more traffic than one of them can carry
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,

    #[command(flatten)]
    common: Common,
}

pub(super) fn run(options: Options) -> Result<(), Failure> {
    log::init(&options.common.log)?;
    let health = Health::new();
    // What is wrong with it is said before anything else happens.
    let first = configure(&options, &health)?;
    let runtime = match options.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads.into());
            builder
        }
    }
    .enable_all()
    .build()
    .map_err(|error| format!("no runtime: {error}"))?;
    let result = runtime.block_on(serve(&options, &health, first));
    // A journal that is still being opened is not waited for.
    runtime.shutdown_background();
    result
}

/// A broker as it was asked for.
struct Wanted {
    builder: BrokerBuilder,
    /// It stands by again once mastership is lost.
    restart_allowed: bool,
}

fn configure(options: &Options, health: &Health) -> Result<Wanted, String> {
    let mut settings = match &options.config {
        Some(file) => Settings::load(file).map_err(|error| error.to_string())?,
        None => Settings::default(),
    };
    let name = options.name.clone().or(settings.broker_name);
    settings.broker_name = Some(name.unwrap_or_else(|| DEFAULT_NAME.to_owned()));
    if !options.listen.is_empty() {
        settings.listen.clone_from(&options.listen);
    } else if settings.listen.is_empty() {
        settings.listen.push(DEFAULT_LISTEN.to_owned());
    }
    let storage = match &options.data {
        _ if options.store.is_some() => options.store.clone(),
        Some(directory) => Some(StorageSettings::Journal(directory.clone())),
        None if options.memory => Some(StorageSettings::Memory),
        None => settings.storage,
    };
    settings.storage = Some(storage.unwrap_or_else(|| StorageSettings::Journal(DEFAULT_DATA.into())));
    #[cfg(feature = "sql")]
    lock_database(options, settings.storage.as_mut())?;
    settings.durability = options.durability.or(settings.durability);
    let mut locker = settings.locker.unwrap_or_default();
    let millis = |given: Option<u64>| given.map(Duration::from_millis);
    locker.acquire_sleep_interval =
        millis(options.lock_acquire_sleep_interval).unwrap_or(locker.acquire_sleep_interval);
    locker.keep_alive_period = millis(options.lock_keep_alive_period).or(locker.keep_alive_period);
    locker.fail_if_locked |= options.fail_if_locked;
    settings.locker = Some(locker);
    settings.restart_allowed = options.restart_allowed.unwrap_or(settings.restart_allowed);
    let restart_allowed = settings.restart_allowed;
    if let Some(length) = options.journal_max_file_length {
        settings.journal.max_file_length = length;
    }
    if let Some(usage) = options.store_usage {
        settings.limits.store_usage = usage;
    }
    settings.transaction_outcomes = options.transaction_outcomes.or(settings.transaction_outcomes);
    let age = options.transaction_outcomes_age.map(Duration::from_secs);
    settings.transaction_outcomes_age = age.or(settings.transaction_outcomes_age);
    if options.scheduler {
        settings.scheduler.get_or_insert_default();
    }
    let mut broker = Broker::builder().settings(settings);
    broker = options.access.configure(broker)?;
    if let (Some(chain), Some(key)) = (&options.tls_cert, &options.tls_key) {
        let client_ca = options.tls_ca.as_deref().map(read).transpose()?;
        broker = broker.tls(read(chain)?, read(key)?, client_ca);
    }
    let health = health.clone();
    let builder = broker.on_standby(move |holder| {
        health.set(State::StandingBy(holder.to_string()));
        // Whoever closed our stdout does not want to know.
        let _ = say(&format!("standing by: {holder}"));
    });
    Ok(Wanted {
        builder,
        restart_allowed,
    })
}

/// Applies what is said of mastership of a database.
#[cfg(feature = "sql")]
fn lock_database(options: &Options, storage: Option<&mut StorageSettings>) -> Result<(), String> {
    let Some(mut locking) = options.store_locker.clone() else {
        return Ok(());
    };
    match (&mut locking, &options.lease_holder_id) {
        (DatabaseLocking::Lease(lease), holder) => lease.lease_holder_id.clone_from(holder),
        (DatabaseLocking::Row, Some(_)) => {
            return Err("--lease-holder-id is of no use without lease-database-locker".to_owned());
        }
        (DatabaseLocking::Row, None) => {}
    }
    match storage {
        Some(StorageSettings::Sql(database)) => {
            database.locking = locking;
            Ok(())
        }
        _ => Err("--store-locker is of no use without a database".to_owned()),
    }
}

/// A size as it stands in a configuration file.
fn size(text: &str) -> Result<u64, String> {
    bytes(FieldValue::Text(text.to_owned())).map_err(|error| error.to_string())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Serves until it is told to stop, and stands by again each time mastership is lost, if that is wanted.
async fn serve(options: &Options, health: &Health, first: Wanted) -> Result<(), Failure> {
    // Before the broker is ready, so that no signal to a ready broker is missed.
    let mut stop = Stop::new().map_err(|error| format!("no signals: {error}"))?;
    let ports_file = options.ports_file.as_deref();
    if let Some(address) = &options.health {
        let bound = health.listen(address).await;
        let bound = bound.map_err(|error| format!("cannot listen on {address}: {error}"))?;
        info!("health checks are answered on http://{bound}/readyz");
    }
    let mut wanted = first;
    loop {
        let ended = serve_once(wanted.builder, ports_file, health, &mut stop).await;
        health.set(State::Starting);
        match ended {
            Err(failure) if failure.is_mastership_lost() && wanted.restart_allowed => {
                warn!("standing by again: {failure}");
                wanted = configure(options, health)?;
                wanted.builder = wanted.builder.patient();
            }
            ended => return ended,
        }
    }
}

/// Serves until it is told to stop or fails.
async fn serve_once(
    builder: BrokerBuilder,
    ports_file: Option<&Path>,
    health: &Health,
    stop: &mut Stop,
) -> Result<(), Failure> {
    if let Some(path) = ports_file {
        // Nobody shall take the addresses of an earlier run for these.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("{}: {error}", path.display()).into());
            }
            _ => {}
        }
    }
    let broker = tokio::select! {
        started = builder.start() => started?,
        signal = stop.wait() => {
            info!("{signal} while starting");
            return Ok(());
        }
    };
    if let Some(path) = ports_file {
        write_ports(path, broker.addresses()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    health.set(State::Ready);
    // Whoever closed our stdout does not want to know.
    let _ = announce(broker.addresses());

    tokio::select! {
        signal = stop.wait() => {
            info!("{signal}: stopping");
            health.set(State::Stopping);
        }
        failure = broker.failed() => {
            health.set(State::Stopping);
            // What failed is the reason to end, not what then cannot be closed.
            let _ = broker.stop().await;
            return Err(failure.into());
        }
    }
    tokio::select! {
        stopped = broker.stop() => Ok(stopped?),
        signal = stop.wait() => Err(format!("{signal} again: not waiting any longer").into()),
    }
}

fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

fn announce(addresses: &[String]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for address in addresses {
        writeln!(stdout, "listening on {address}")?;
    }
    writeln!(stdout, "ready")?;
    stdout.flush()
}

/// Writes the addresses so that whoever sees the file sees all of it.
fn write_ports(path: &Path, addresses: &[String]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let mut text = addresses.join("\n");
    text.push('\n');
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| {
            // It may not even be there.
            let _ = fs::remove_file(&temporary);
        })
}

/// The signals to stop at.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
