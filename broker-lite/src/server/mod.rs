//! The shell around the core: listeners, TLS, limits, and one task a connection.

mod connection;
mod driver;
mod listener;
mod outbox;
mod room;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::ha::Lease;
use crate::security::Authenticator;

pub(crate) use driver::{Driver, Stores};
pub(crate) use listener::{BindError, Listener};
pub(crate) use room::Room;
pub(crate) use tls::Tls;

/// What all connections of a broker share.
pub(crate) struct Server {
    pub(crate) driver: Arc<Driver>,
    pub(crate) users: Arc<Authenticator>,
    pub(crate) counters: Counters,
    /// Says in which store the outcomes of transactions are kept.
    pub(crate) store_identity: Arc<str>,
    /// Beyond it nothing is read from clients or written to them.
    pub(crate) lease: Lease,
    /// True once the broker stops.
    pub(crate) stop: watch::Receiver<bool>,
}

/// What went wrong at the door, counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    over_limit: AtomicU64,
    failed_accepts: AtomicU64,
    failed_handshakes: AtomicU64,
    failed_authentications: AtomicU64,
    throttled_authentications: AtomicU64,
}

/// What happened at the listeners of a broker since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerStats {
    /// Connections that were accepted, whatever became of them.
    pub accepted: u64,
    /// Connections closed at once because `maximumConnections` was reached.
    pub over_limit: u64,
    /// Times the system could not hand over a connection, such as for want of file descriptors.
    pub failed_accepts: u64,
    /// Connections that spoke neither TLS nor OpenWire where they should, or nothing in time.
    pub failed_handshakes: u64,
    /// Attempts to log in that let nobody in: wrong passwords, unknown users and certificates, and those that were
    /// throttled.
    pub failed_authentications: u64,
    /// Attempts to log in that were refused without a look, because too many had failed before.
    pub throttled_authentications: u64,
}

impl Counters {
    pub(crate) fn stats(&self) -> ListenerStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ListenerStats {
            accepted: read(&self.accepted),
            over_limit: read(&self.over_limit),
            failed_accepts: read(&self.failed_accepts),
            failed_handshakes: read(&self.failed_handshakes),
            failed_authentications: read(&self.failed_authentications),
            throttled_authentications: read(&self.throttled_authentications),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
