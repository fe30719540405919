//! One configuration with one set of defaults, whoever fills it in.

mod file;
mod listen;
mod rules;
mod settings;
mod storage;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crate::core::{OutcomeLimits, UserIds};
use crate::error::BrokerError;
use crate::ha::{Holder, LockOptions, Locker};
use crate::security::{self, AuthorizationEntry};
use crate::store::journal::Durability;
#[cfg(feature = "sql")]
use crate::store::sql::SqlSettings;
use crate::store::{Recovered, Store};

pub(crate) use listen::{ClientAuth, Endpoint, ListenUri};
pub(crate) use settings::durability;
pub use settings::{
    JournalSettings, LimitSettings, SchedulerSettings, Settings, StorageSettings, TlsSettings, UserSettings,
};
#[cfg(feature = "sql")]
pub(crate) use storage::database_locking;
pub(crate) use storage::store;

/// Messages that live in memory only may take so much of it before producers have to wait: ActiveMQ's
/// default for `memoryUsage`.
const MEMORY_LIMIT: usize = 1024 * 1024 * 1024;

/// Bodies of stored messages that are kept in memory as well, so that consumers who keep up are served
/// without reading. Enough for a long burst, little beside what a machine has.
const RESIDENT_LIMIT: usize = 64 * 1024 * 1024;

/// What a broker is built from.
pub(crate) struct Config {
    pub(crate) name: Option<String>,
    pub(crate) listen: Vec<String>,
    pub(crate) storage: Storage,
    pub(crate) durability: Durability,
    pub(crate) locking: LockOptions,
    /// None: as the storage has it.
    pub(crate) locker: Option<Box<dyn Locker>>,
    /// It waits also if it cannot be found out at first who is master.
    pub(crate) patient: bool,
    /// Told of each broker that is master while this one stands by.
    pub(crate) standing_by: Box<dyn FnMut(&Holder) + Send>,
    pub(crate) users: security::Settings,
    /// None: everybody may do everything.
    pub(crate) authorization: Option<Vec<AuthorizationEntry>>,
    pub(crate) user_ids: UserIds,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) memory_limit: usize,
    pub(crate) resident_limit: usize,
    pub(crate) outcomes: OutcomeLimits,
    /// What a file or a program said beyond the above.
    pub(crate) settings: Settings,
    pub(crate) max_uncommitted: usize,
}

/// Where persistent messages go.
pub(crate) enum Storage {
    /// Nowhere: they live as long as the broker.
    Memory,
    /// To a journal in a directory.
    Journal(PathBuf),
    /// To a database.
    #[cfg(feature = "sql")]
    Sql(Box<SqlSettings>),
    /// To a store that is open already.
    Open(Arc<dyn Store>, Recovered),
}

/// The PEM texts for `ssl:` listeners.
pub(crate) struct TlsFiles {
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) client_ca: Option<Vec<u8>>,
}

impl TlsFiles {
    /// Reads the files that settings name.
    pub(crate) fn read(files: &TlsSettings) -> Result<Self, BrokerError> {
        let read = |path: &PathBuf| fs::read(path).map_err(|error| BrokerError::io(path.display(), &error));
        Ok(Self {
            chain: read(&files.certificate)?,
            key: read(&files.key)?,
            client_ca: files.client_ca.as_ref().map(read).transpose()?,
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: None,
            listen: Vec::new(),
            storage: Storage::Memory,
            durability: Durability::default(),
            locking: LockOptions::default(),
            locker: None,
            patient: false,
            standing_by: Box::new(|_| {}),
            users: security::Settings::default(),
            authorization: None,
            user_ids: UserIds::default(),
            tls: None,
            memory_limit: MEMORY_LIMIT,
            resident_limit: RESIDENT_LIMIT,
            outcomes: OutcomeLimits::default(),
            settings: Settings::default(),
            max_uncommitted: 0,
        }
    }
}

/// A broker's name as it may stand in URIs and ids: as in ActiveMQ, any other character becomes `_`.
pub(crate) fn broker_name(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':') {
                c
            } else {
                '_'
            }
        })
        .collect()
}
