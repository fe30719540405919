//! The stores in a database: PostgreSQL, MySQL or MariaDB, and SQLite in a file.
//!
//! Messages and durable subscriptions stand in the tables of ActiveMQ's JDBC store (`jdbcPersistenceAdapter`), with its
//! names, and each message as ActiveMQ writes it. So an ActiveMQ and this broker can take over from each other on one
//! database. What ActiveMQ's tables cannot say is in tables beside them, whose names begin with `BROKERLITE_`; an ActiveMQ
//! does not look at them.
//!
//! | table | what |
//! | --- | --- |
//! | `ACTIVEMQ_MSGS` | messages of queues, one row for each; messages of topics, one row for all durable subscriptions |
//! | `ACTIVEMQ_ACKS` | durable subscriptions on topics, and up to where each has acknowledged |
//! | `ACTIVEMQ_LOCK` | the lock of the master |
//! | `BROKERLITE_STORE` | identity, who opened it last, number of transactions, next numbers |
//! | `BROKERLITE_DESTS` | destinations by their keys; what is prepared |
//! | `BROKERLITE_MSGS` | messages of open transactions, schedules, and retained ones |
//! | `BROKERLITE_NOTES` | for which subscriptions a message is; redelivery counters, when a message is due |
//! | `BROKERLITE_HELD` | what prepared transactions have acknowledged |
//! | `BROKERLITE_PRODUCERS` | the producers seen last |
//! | `BROKERLITE_OUTCOMES` | the transactions committed lately |
//!
//! # How it works
//!
//! An index of what is stored is in memory, about 100 bytes for each message; bodies are not. One thread takes all batches
//! that wait as a group, applies them to the index, and writes the difference in one transaction: what is put and removed
//! within a group is never written. Bodies are read back over a few other connections.
//!
//! Each transaction raises a number in `BROKERLITE_STORE`. If a connection breaks during a commit, the next one reads from it
//! whether the transaction was committed. And nobody but the last opener can raise it: what a broker writes that does not
//! know yet that another one took over is rolled back.
//!
//! # What ActiveMQ sees
//!
//! It finds every message of queues, with its redelivery counter. Of a subscription it knows only up to where it has
//! acknowledged: messages that were acknowledged out of order come again there, as they would if ActiveMQ itself had been
//! the broker. Schedules, retained messages and prepared transactions wait until this broker is back. XA transactions that
//! ActiveMQ has prepared cannot be taken over: the store does not open, and says so.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use openwire_client::wire::Message;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::ha::{self, LockOptions, Locker};

use super::{Batch, Done, Loaded, MessageKey, Recovered, Store, StoreError, StoreStats, StoredSubscription};

mod body;
mod changes;
mod connect;
mod dialect;
mod file_lock;
mod flush;
mod index;
mod lease;
mod open;
mod producers;
mod reader;
mod recovery;
mod row_lock;
mod schema;
mod settings;
mod shared;
mod statements;
#[cfg(test)]
mod tests;
mod writer;

pub use settings::{DatabaseLocking, DatabaseUrl, LeaseSettings, SqlSettings};

use dialect::Dialect;
use file_lock::FileLock;
use lease::Lease;
use row_lock::RowLock;
use shared::{Guard, Request, Shared, Waiting};

/// Tells whether a message is for a subscription. Asked of messages that an ActiveMQ stored for a topic.
pub type Matches = Box<dyn Fn(&StoredSubscription, &Message) -> bool + Send>;

/// How a [`SqlStore`] is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlOptions {
    /// For how long a database that is gone is waited for, before the store stops for good; 30 seconds by default. Meanwhile
    /// nothing is answered. A transaction without an answer for so long counts as a connection that broke. A database that is
    /// gone when the store is opened is not waited for.
    pub reconnect: Duration,
    /// How many connections read messages back; 2 by default. One more writes.
    pub readers: u32,
    /// [`Store::ready`] waits while more bytes than this were appended and not yet stored. 64 MiB by
    /// default.
    pub backlog_limit: usize,
}

impl Default for SqlOptions {
    fn default() -> Self {
        Self {
            reconnect: Duration::from_secs(30),
            readers: 2,
            backlog_limit: 64 * 1024 * 1024,
        }
    }
}

impl SqlOptions {
    fn check(&self) -> Result<(), StoreError> {
        if self.reconnect.is_zero() {
            return Err(StoreError::Refused("no transaction takes no time at all".into()));
        }
        if self.readers == 0 {
            return Err(StoreError::Refused(
                "a store needs a connection to read with".into(),
            ));
        }
        Ok(())
    }
}

/// A store in a database; see [the module](self).
///
/// Dropping it without [`Store::close`] is what a crash of the process is: batches whose `done` was not called
/// fail with [`StoreError::Closed`], and the next opener is not told that it was closed in order.
pub struct SqlStore {
    shared: Arc<Shared>,
    abandoned: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlStore").finish_non_exhaustive()
    }
}

/// Who says that this process may write.
struct Master {
    mastership: ha::Lease,
    /// What it is called in the database's lease, if it has one there.
    lease: Option<String>,
}

/// What decides who is master of this database. `broker` is the name of this one.
pub(crate) fn locker(
    settings: &SqlSettings,
    broker: &str,
    options: &LockOptions,
) -> Result<Box<dyn Locker>, StoreError> {
    let database = settings.url.database()?;
    Ok(match &settings.locking {
        _ if database.dialect == Dialect::Sqlite => Box::new(FileLock::new(database)),
        DatabaseLocking::Row => Box::new(RowLock::new(database, options.acquire_sleep_interval)),
        DatabaseLocking::Lease(lease) => {
            let holder = lease.holder(broker).to_owned();
            let length = options.acquire_sleep_interval;
            Box::new(Lease::new(database, holder, length, lease))
        }
    })
}

impl SqlStore {
    /// Opens the store in a database, makes the tables that are not there, and reads what there is. `matches` is asked
    /// for which subscriptions the messages are that an ActiveMQ stored.
    ///
    /// It takes a file of SQLite for itself. In other databases nothing keeps others from doing the same: the last one wins,
    /// and the others fail with their next batch.
    ///
    /// Cancel safe: if the future is dropped, the store is opened for nobody and left as after a crash.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] if an option makes no sense, or the tables hold what cannot be understood;
    /// [`StoreError::Locked`] if another broker has the file; [`StoreError::Io`] if the database cannot be reached or
    /// does not do what it is asked.
    pub async fn open(
        url: &DatabaseUrl,
        options: SqlOptions,
        matches: Matches,
    ) -> Result<(Self, Recovered), StoreError> {
        Self::open_for(url, options, matches, None).await
    }

    /// The same for a master, which has the lock of the database already: nothing is written, and nothing said to be
    /// stored, when mastership is over.
    pub(crate) async fn open_as(
        settings: SqlSettings,
        broker: &str,
        matches: Matches,
        mastership: ha::Lease,
    ) -> Result<(Self, Recovered), StoreError> {
        let lease = match &settings.locking {
            DatabaseLocking::Lease(lease) if settings.url.database()?.dialect != Dialect::Sqlite => {
                Some(lease.holder(broker).to_owned())
            }
            _ => None,
        };
        let master = Master { mastership, lease };
        Self::open_for(&settings.url, settings.options, matches, Some(master)).await
    }

    async fn open_for(
        url: &DatabaseUrl,
        options: SqlOptions,
        matches: Matches,
        master: Option<Master>,
    ) -> Result<(Self, Recovered), StoreError> {
        options.check()?;
        let shared = Arc::new(Shared::new(options.backlog_limit));
        let (abandoned, is_abandoned) = watch::channel(false);
        let (opened, result) = oneshot::channel();
        let request = open::Request {
            database: url.database()?,
            options,
            matches,
            master,
        };
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("sql-store".into())
                .spawn(move || {
                    let _guard = Guard(shared.clone());
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                    let runtime = match runtime {
                        Ok(runtime) => runtime,
                        Err(error) => {
                            let why = format!("no runtime for the store: {error}");
                            drop(opened.send(Err(StoreError::Io(why))));
                            return;
                        }
                    };
                    runtime.block_on(async move {
                        let mut gone = is_abandoned.clone();
                        let writer = tokio::select! {
                            biased;
                            _ = gone.wait_for(|abandoned| *abandoned) => return,
                            writer = open::open(request, shared) => writer,
                        };
                        match writer {
                            Ok((writer, recovered)) => {
                                if opened.send(Ok(recovered)).is_ok() {
                                    writer.run(is_abandoned).await;
                                }
                            }
                            Err(error) => drop(opened.send(Err(error))),
                        }
                    });
                })
        };
        let thread =
            thread.map_err(|error| StoreError::Io(format!("starting the thread sql-store: {error}")))?;
        let store = Self {
            shared,
            abandoned,
            thread: Mutex::new(Some(thread)),
        };
        match result.await {
            Ok(Ok(recovered)) => Ok((store, recovered)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StoreError::Io("the store's thread ended while opening".into())),
        }
    }

    /// Waits for the thread to end. Does nothing when called again, or on that thread.
    fn join(&self) {
        let mut thread = self.thread.lock();
        let me = std::thread::current().id();
        // A callback may hold the last handle.
        if let Some(thread) = thread.take_if(|thread| thread.thread().id() != me) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

#[async_trait]
impl Store for SqlStore {
    fn append(&self, batch: Batch, done: Done) {
        self.shared.append(Waiting::new(batch, done), true);
    }

    fn append_unawaited(&self, batch: Batch, done: Done) {
        self.shared.append(Waiting::new(batch, done), false);
    }

    fn load(&self, keys: Vec<MessageKey>, done: Loaded) {
        self.shared.load(Request::new(keys, done));
    }

    fn backlog(&self) -> usize {
        self.shared.backlog()
    }

    async fn ready(&self) {
        self.shared.wait_room().await;
    }

    /// `disk_bytes` is 0: what a database takes is its own affair.
    fn stats(&self) -> StoreStats {
        StoreStats {
            journal: None,
            messages: self.shared.messages.load(Ordering::Relaxed),
            disk_bytes: 0,
            batches: self.shared.batches.load(Ordering::Relaxed),
            syncs: self.shared.commits.load(Ordering::Relaxed),
            backlog_bytes: self.shared.backlog() as u64,
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        self.shared.close();
        self.join();
        self.shared.failure().map_or(Ok(()), Err)
    }
}

impl Drop for SqlStore {
    fn drop(&mut self) {
        self.abandoned.send_replace(true);
        self.join();
    }
}

/// What went wrong with the database, outside of a running store.
fn failed(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Configuration(error) => StoreError::Refused(format!("the store's URL: {error}")),
        sqlx::Error::Protocol(why) => StoreError::Refused(why),
        error => StoreError::Io(error.to_string()),
    }
}
