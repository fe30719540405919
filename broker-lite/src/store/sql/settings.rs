//! What a configuration says of a store in a database.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::super::StoreError;
use super::SqlOptions;
use super::connect::Database;

/// Where a database is: the URL, which was read. Shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    text: Arc<str>,
    name: Arc<str>,
}

impl DatabaseUrl {
    pub(super) fn database(&self) -> Result<Database, StoreError> {
        Database::parse(&self.text)
    }
}

impl FromStr for DatabaseUrl {
    type Err = StoreError;

    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, `mysql://…` or `mariadb://…` likewise, `sqlite:FILE`.
    ///
    /// User and password can be in the environment instead, as `BROKER_LITE_STORE_USER` and
    /// `BROKER_LITE_STORE_PASSWORD`. TLS: `?sslmode=verify-full&sslrootcert=FILE`, and for MySQL
    /// `?ssl-mode=VERIFY_IDENTITY&ssl-ca=FILE`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] for what cannot be understood, by name.
    fn from_str(text: &str) -> Result<Self, StoreError> {
        let database = Database::parse(text)?;
        Ok(Self {
            text: text.into(),
            name: database.name.into(),
        })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatabaseUrl").field(&self.name).finish()
    }
}

/// How one of the brokers on a database becomes master of it. An ActiveMQ on the same database has to be told the same.
///
/// With SQLite both are a lock on a file beside the database, as nobody else can reach it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DatabaseLocking {
    /// The row of `ACTIVEMQ_LOCK` is locked for as long as a connection is open: ActiveMQ's `database-locker`, and the
    /// default of both.
    #[default]
    Row,
    /// The row says until when which broker is master: ActiveMQ's `lease-database-locker`.
    Lease(LeaseSettings),
}

/// A lease in the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseSettings {
    /// `leaseHolderId`: what this broker is called there; no other broker may be called the same. Default `None`: its name.
    pub lease_holder_id: Option<String>,
    /// `maxAllowableDiffFromDBTime`: if the clock of the database differs by more than this, its time counts. Zero, the
    /// default: this machine's time counts, however they differ.
    pub max_allowable_diff_from_db_time: Duration,
}

impl LeaseSettings {
    /// What the broker of this name is called in the lease.
    pub(super) fn holder<'a>(&'a self, broker: &'a str) -> &'a str {
        self.lease_holder_id.as_deref().unwrap_or(broker)
    }
}

/// A store in a database, as a configuration describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlSettings {
    /// Where the database is.
    pub url: DatabaseUrl,
    /// How this broker becomes its master.
    pub locking: DatabaseLocking,
    /// How the store is kept.
    pub options: SqlOptions,
}

impl SqlSettings {
    /// With all defaults.
    pub fn new(url: DatabaseUrl) -> Self {
        Self {
            url,
            locking: DatabaseLocking::default(),
            options: SqlOptions::default(),
        }
    }
}
