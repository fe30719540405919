//! Mastership: of the brokers that share a store, one serves and the others stand by.
//!
//! A [`Locker`] knows how one of them is chosen; [`SharedFile`] does it with a lock on a file in the directory of the store,
//! as ActiveMQ's `shared-file-locker` does. A thread of its own, the keeper, takes mastership, renews it, and gives it
//! back; whatever else the broker does cannot keep it from renewing.
//!
//! # The lease
//!
//! Mastership holds for a lease, `lockAcquireSleepInterval`, from when it was last seen to be there, and is looked at every
//! `lockKeepAlivePeriod`. The clock goes on while a process or the machine sleeps. Beyond the lease nothing is read from
//! clients, written to them, written to the store or confirmed, until the keeper has looked again: a master that was
//! stopped for an hour looks first and finds whether it still is one. If it is not, or cannot tell for two seconds more, then
//! mastership is *lost*, for good: connections are cut, the store takes nothing more, and the broker has failed with
//! [`BrokerError::is_mastership_lost`](crate::BrokerError::is_mastership_lost).
//!
//! # What no lease can do
//!
//! A process can be stopped between looking at the clock and the write. So that such a late write harms nothing, each
//! mastership has an **epoch**, a number that grows. It stands in the lock file and in every segment of the journal, where a
//! successor ignores what it did not find when it began; see [`crate::store::journal`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

mod clock;
mod file_system;
mod keeper;
mod lease;
mod shared_file;

pub(crate) use keeper::Keeper;
pub(crate) use lease::{Lease, Lost};
pub use shared_file::SharedFile;

/// How one of several brokers on a store is chosen. ActiveMQ's `Locker`.
///
/// A locker lives on the keeper's thread, from the first attempt to the release: it may block that thread, and a connection
/// of its own is best made there, in [`try_acquire`](Self::try_acquire).
#[async_trait]
pub trait Locker: Send + 'static {
    /// Takes mastership if nobody has it, and says who does otherwise. Does not wait for whoever does; it may wait until a
    /// former master, which might not know yet that it is not one any more, has to.
    ///
    /// Cancel safe: dropped, it has nothing, or [`release`](Self::release) gives it back.
    ///
    /// # Errors
    ///
    /// [`LockError`] if it cannot be found out.
    async fn try_acquire(&mut self) -> Result<Attempt, LockError>;

    /// Makes sure that mastership is still there, and renews it where it ends by itself.
    ///
    /// # Errors
    ///
    /// [`LockError::Lost`] if it is not there. [`LockError::Unavailable`] if that cannot be found out: it is tried again
    /// until the lease has passed.
    async fn keep_alive(&mut self) -> Result<(), LockError>;

    /// Waits until it shows by itself that mastership is over, and says why. By default it never does: only
    /// [`keep_alive`](Self::keep_alive) finds out.
    ///
    /// Cancel safe.
    async fn lost(&mut self) -> LockError {
        std::future::pending().await
    }

    /// Notes that the store counts this mastership with a higher epoch than was acquired. Does nothing where no epoch is kept.
    ///
    /// # Errors
    ///
    /// As those of [`keep_alive`](Self::keep_alive).
    async fn raise_epoch(&mut self, epoch: u64) -> Result<(), LockError> {
        let _ = epoch;
        Ok(())
    }

    /// Gives mastership back, if it is there.
    async fn release(&mut self);
}

/// What came of an attempt to become master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// This broker is it.
    Acquired {
        /// Higher than that of any master before; 0 where no epoch is kept.
        epoch: u64,
    },
    /// Another one is.
    Held(Holder),
}

/// Who is master, as far as it has said so.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// What people want to know: the broker's name, its process and host, and since when.
    pub description: Arc<str>,
    /// For how long it is master yet, if it does not say so anew; none where nobody can tell. A standby tries again then, if
    /// that is sooner than `lockAcquireSleepInterval`.
    pub left: Option<Duration>,
}

impl Holder {
    /// A holder that is described so.
    pub fn new(description: impl Into<Arc<str>>) -> Self {
        Self {
            description: description.into(),
            left: None,
        }
    }

    /// The same with what is left of its lease.
    #[must_use]
    pub fn with_left(self, left: Duration) -> Self {
        Self {
            left: Some(left),
            ..self
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

/// Why a broker is not master.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockError {
    /// Another broker is, and this one was not to wait.
    Held(Holder),
    /// It was, and is not any more.
    Lost(String),
    /// It cannot be found out now.
    Unavailable(String),
    /// The place where it would be found out cannot be used for that.
    Unfit(String),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(holder) => write!(f, "another broker is master: {holder}"),
            Self::Lost(why) => write!(f, "mastership is lost: {why}"),
            Self::Unavailable(why) | Self::Unfit(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for LockError {}

/// When a broker looks after its mastership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockOptions {
    /// `lockAcquireSleepInterval`, in milliseconds where it is written: how often a standby tries to become master, and the
    /// lease of a master. A standby that knows when the lease it found ends tries then, if that is sooner. Default 10 seconds;
    /// at least 10 ms.
    pub acquire_sleep_interval: Duration,
    /// `lockKeepAlivePeriod`, in milliseconds where it is written: how often a master makes sure that it still is one. Zero is
    /// never: then there is no lease either, and a lock file that somebody deletes is not noticed. Default `None`: half of
    /// `lockAcquireSleepInterval`. ActiveMQ's default is 0 for files and 30,000 for databases.
    pub keep_alive_period: Option<Duration>,
    /// `failIfLocked`: the broker does not wait for another to end, its start fails. Default false.
    pub fail_if_locked: bool,
}

impl Default for LockOptions {
    fn default() -> Self {
        Self {
            acquire_sleep_interval: Duration::from_secs(10),
            keep_alive_period: None,
            fail_if_locked: false,
        }
    }
}

impl LockOptions {
    /// Nobody needs to look more often, and a processor that does nothing else helps nobody.
    const SHORTEST: Duration = Duration::from_millis(10);

    /// The lease of a master and how often it is renewed; `None` if it has none.
    pub(crate) fn lease(&self) -> Option<(Duration, Duration)> {
        let period = self.keep_alive_period.unwrap_or(self.acquire_sleep_interval / 2);
        (!period.is_zero()).then_some((self.acquire_sleep_interval, period))
    }

    /// What of it cannot be, if something cannot.
    pub(crate) fn contradiction(&self) -> Option<String> {
        if self.acquire_sleep_interval < Self::SHORTEST {
            return Some(format!(
                "lockAcquireSleepInterval is at least {:?}",
                Self::SHORTEST
            ));
        }
        match self.lease() {
            Some((lease, period)) if period >= lease => Some(format!(
                "lockKeepAlivePeriod ({} ms) is less than lockAcquireSleepInterval ({} ms), for which a master may go on \
                 without having been seen to be one",
                period.as_millis(),
                lease.as_millis()
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_renews_before_its_lease_has_passed() {
        let millis = |millis| Duration::from_millis(millis);
        let options = |interval, period: Option<u64>| LockOptions {
            acquire_sleep_interval: millis(interval),
            keep_alive_period: period.map(millis),
            fail_if_locked: false,
        };
        assert_eq!(
            LockOptions::default().lease(),
            Some((millis(10_000), millis(5_000)))
        );
        assert_eq!(options(1000, Some(0)).lease(), None);
        assert_eq!(options(1000, Some(999)).contradiction(), None);
        for wrong in [options(1000, Some(1000)), options(1, None), options(0, Some(0))] {
            assert!(wrong.contradiction().is_some(), "{wrong:?}");
        }
    }
}
