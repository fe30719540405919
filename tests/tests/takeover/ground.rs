//! Where the two brokers have their store.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tests::databases::{Kind, Server};
use tests::proxy::Gate;

use crate::faults::Fault;

/// A store that both brokers reach.
pub(crate) enum Ground {
    Directory(TempDir),
    Database {
        server: Server,
        /// How each of them reaches it.
        gates: [Gate; 2],
        locker: Locker,
    },
}

/// How a broker becomes master of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locker {
    Row,
    Lease,
}

impl Locker {
    fn name(self) -> &'static str {
        match self {
            Self::Row => "database-locker",
            Self::Lease => "lease-database-locker",
        }
    }
}

impl Ground {
    pub(crate) fn directory() -> Self {
        Self::Directory(TempDir::new().expect("there is room for temporary files"))
    }

    /// None if the server is not installed, and `test` is skipped.
    pub(crate) async fn database(kind: Kind, locker: Locker, test: &str) -> Option<Self> {
        let server = Server::find(kind, test)?;
        let gates = [Gate::start(server.port()).await, Gate::start(server.port()).await];
        Some(Self::Database {
            server,
            gates,
            locker,
        })
    }

    /// The path of the directory.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Directory(directory) => directory.path(),
            Self::Database { .. } => panic!("the store is in no directory"),
        }
    }

    /// How often a standby tries, and the lease of a master.
    pub(crate) fn interval(&self) -> Duration {
        match self {
            // It is renewed over a connection, on a machine that does other things.
            Self::Database {
                locker: Locker::Lease,
                ..
            } => Duration::from_secs(1),
            _ => Duration::from_millis(400),
        }
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.path().join("lock")
    }

    /// What the broker at a place is told of it.
    pub(crate) fn arguments(&self, at: usize) -> Vec<String> {
        match self {
            Self::Directory(directory) => {
                vec!["--data".into(), directory.path().to_string_lossy().into_owned()]
            }
            Self::Database {
                server,
                gates,
                locker,
            } => vec![
                "--store".into(),
                server.kind().url(gates[at].port()),
                "--store-locker".into(),
                locker.name().into(),
            ],
        }
    }

    /// What can happen, in order. The masters change an odd number of times, so both brokers come to suffer everything.
    pub(crate) fn faults(&self) -> &'static [Fault] {
        match self {
            Self::Directory(_) => &[
                Fault::Kill,
                Fault::Replace,
                Fault::Pause,
                Fault::Delete,
                Fault::Stop,
                Fault::Standby,
                Fault::Kill,
            ],
            Self::Database {
                locker: Locker::Row, ..
            } => &[
                Fault::Kill,
                Fault::Cut,
                Fault::Pause,
                Fault::Server,
                Fault::Stop,
                Fault::Standby,
                Fault::Kill,
            ],
            Self::Database {
                locker: Locker::Lease,
                ..
            } => &[
                Fault::Kill,
                Fault::Cut,
                Fault::Outlast,
                Fault::Server,
                Fault::Standby,
                Fault::Stop,
            ],
        }
    }
}
