//! What everybody asks before it acts as a master.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::clock;
use crate::store::{Mastership, StoreError};

/// How long the keeper may take to look again once the lease has passed. Nothing is done meanwhile, so the only harm is
/// that clients wait for so long before they are sent elsewhere.
const GRACE: Duration = Duration::from_secs(2);

/// The lease of a master, which its keeper renews: cheap to look at, from any thread.
#[derive(Clone)]
pub(crate) struct Lease(Arc<Inner>);

struct Inner {
    /// Until when, in nanoseconds of the clock of leases.
    until: AtomicU64,
    epoch: AtomicU64,
    /// Why it was lost.
    lost: Mutex<Option<Arc<str>>>,
    /// For threads: the lease was renewed, or mastership lost.
    changed: Condvar,
    /// The same for tasks.
    told: Notify,
    /// For the keeper: it should look now.
    wanted: Notify,
}

/// Mastership is lost, for this reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost(pub(crate) Arc<str>);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mastership is lost: {}", self.0)
    }
}

impl Mastership for Lease {
    fn may_write(&self) -> Result<(), StoreError> {
        let held = self.ensure();
        held.map_err(|lost| StoreError::NotMaster(lost.0.to_string()))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("epoch", &self.epoch())
            .field("is_current", &self.is_current())
            .finish_non_exhaustive()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Lease {
    /// One that does not end unless it is [`lose`](Self::lose)d.
    pub(crate) fn endless(epoch: u64) -> Self {
        Self::until(u64::MAX, epoch)
    }

    /// One that ends at this time of the clock of leases.
    pub(super) fn leased(until: Duration, epoch: u64) -> Self {
        Self::until(nanos(until), epoch)
    }

    fn until(until: u64, epoch: u64) -> Self {
        Self(Arc::new(Inner {
            until: AtomicU64::new(until),
            epoch: AtomicU64::new(epoch),
            lost: Mutex::new(None),
            changed: Condvar::new(),
            told: Notify::new(),
            wanted: Notify::new(),
        }))
    }

    /// It holds at this moment.
    pub(crate) fn is_current(&self) -> bool {
        match self.0.until.load(Ordering::Acquire) {
            u64::MAX => true,
            until => nanos(clock::now()) < until,
        }
    }

    /// Why it was lost, if it was.
    pub(crate) fn why_lost(&self) -> Option<Lost> {
        self.0.lost.lock().clone().map(Lost)
    }

    /// The number of this mastership among all of the store.
    pub(crate) fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// The store knows of higher ones: this one has this number from here on.
    pub(crate) fn raise_epoch(&self, epoch: u64) {
        if self.0.epoch.fetch_max(epoch, Ordering::AcqRel) < epoch {
            self.0.wanted.notify_one();
        }
    }

    /// Makes sure that it holds. Blocks for up to two seconds while the keeper looks, if the lease has passed: for
    /// threads that serve nobody else meanwhile.
    pub(crate) fn ensure(&self) -> Result<(), Lost> {
        if self.is_current() {
            return Ok(());
        }
        self.0.wanted.notify_one();
        let mut lost = self.0.lost.lock();
        loop {
            if let Some(why) = &*lost {
                return Err(Lost(why.clone()));
            }
            if self.is_current() {
                return Ok(());
            }
            if self.0.changed.wait_for(&mut lost, GRACE).timed_out() && !self.is_current() {
                drop(lost);
                return Err(self.expire());
            }
        }
    }

    /// The same for tasks. Cancel safe.
    pub(crate) async fn current(&self) -> Result<(), Lost> {
        let renewed = async {
            loop {
                let mut told = pin!(self.0.told.notified());
                // Told of what happens from here on.
                told.as_mut().enable();
                if let Some(lost) = self.why_lost() {
                    return Err(lost);
                }
                if self.is_current() {
                    return Ok(());
                }
                self.0.wanted.notify_one();
                told.await;
            }
        };
        match timeout(GRACE, renewed).await {
            Ok(result) => result,
            Err(_) if self.is_current() => Ok(()),
            Err(_) => Err(self.expire()),
        }
    }

    /// Waits until it is lost, which it also is if nobody renews it. Cancel safe.
    pub(crate) async fn lost(&self) -> Lost {
        loop {
            let mut told = pin!(self.0.told.notified());
            told.as_mut().enable();
            if let Some(lost) = self.why_lost() {
                return lost;
            }
            match self.0.until.load(Ordering::Acquire) {
                u64::MAX => told.await,
                until => {
                    let left = until.saturating_sub(nanos(clock::now()));
                    tokio::select! {
                        biased;
                        () = told => continue,
                        () = sleep(Duration::from_nanos(left)) => {}
                    }
                    if !self.is_current()
                        && let Err(lost) = self.current().await
                    {
                        return lost;
                    }
                }
            }
        }
    }

    /// It holds until this time of the clock of leases, unless it was lost.
    pub(super) fn renew(&self, until: Duration) {
        let lost = self.0.lost.lock();
        if lost.is_none() {
            self.0.until.store(nanos(until), Ordering::Release);
        }
        drop(lost);
        self.tell();
    }

    /// It is over. The first reason counts.
    pub(crate) fn lose(&self, why: &str) -> Lost {
        let mut lost = self.0.lost.lock();
        let why = lost.get_or_insert_with(|| why.into()).clone();
        self.0.until.store(0, Ordering::Release);
        drop(lost);
        self.tell();
        Lost(why)
    }

    fn expire(&self) -> Lost {
        self.lose("its lease has passed, and it could not be renewed in time")
    }

    fn tell(&self) {
        self.0.changed.notify_all();
        self.0.told.notify_waiters();
    }

    /// Waits until somebody needs the keeper. Cancel safe.
    pub(super) fn wanted(&self) -> impl Future<Output = ()> + '_ {
        self.0.wanted.notified()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn expired() -> Lease {
        Lease::leased(clock::now(), 1)
    }

    #[test]
    fn it_holds_until_the_lease_has_passed() {
        let lease = Lease::leased(clock::now() + LONG, 1);
        assert!(lease.is_current());
        assert_eq!(lease.ensure(), Ok(()));
        assert!(!expired().is_current());
        assert!(Lease::endless(1).is_current());
    }

    #[test]
    fn a_thread_waits_until_it_is_renewed() {
        let lease = expired();
        let asks = lease.clone();
        let asking = std::thread::spawn(move || asks.ensure());
        lease.renew(clock::now() + LONG);
        assert_eq!(asking.join().unwrap(), Ok(()));
    }

    #[test]
    fn what_is_lost_does_not_come_back() {
        let lease = Lease::endless(1);
        let lost = lease.lose("another took it");
        lease.renew(clock::now() + LONG);
        assert!(!lease.is_current());
        assert_eq!(lease.ensure(), Err(lost.clone()));
        assert_eq!(lease.lose("something else"), lost);
    }

    #[test]
    fn who_asks_is_not_kept_waiting_for_ever() {
        assert!(expired().ensure().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_are_told_as_well() {
        let lease = expired();
        let (asked, ()) = tokio::join!(lease.current(), async {
            // It asks for the keeper.
            lease.wanted().await;
            lease.renew(clock::now() + LONG);
        });
        assert_eq!(asked, Ok(()));
        let (lost, _) = tokio::join!(lease.lost(), async { lease.lose("why") });
        assert_eq!(lost, Lost("why".into()));
        assert!(expired().current().await.is_err());
        assert!(expired().lost().await.to_string().contains("lease"));
    }

    #[test]
    fn an_epoch_only_grows() {
        let lease = Lease::endless(3);
        lease.raise_epoch(2);
        assert_eq!(lease.epoch(), 3);
        lease.raise_epoch(7);
        assert_eq!(lease.epoch(), 7);
    }
}
