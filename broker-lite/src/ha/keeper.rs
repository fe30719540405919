//! The keeper: the thread that takes mastership, renews it, and gives it back.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::lease::Lease;
use super::{Attempt, Holder, LockError, LockOptions, Locker, clock};

/// What cannot be found out is tried again after so long, or sooner if the lease is short: when a master's lease ends
/// soon, each attempt counts.
const RETRY: Duration = Duration::from_secs(1);

/// Holds mastership until it is dropped, and gives it back then.
#[derive(Debug)]
pub(crate) struct Keeper {
    lease: Lease,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Waits until this broker is master. `standing_by` is told once of each other that is meanwhile.
    ///
    /// Cancel safe: a future that is dropped leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] if another broker is master and `failIfLocked` says not to wait; whatever else the locker
    /// says at the first attempt. Later ones are tried again, and the first one as well if this is to be `patient`.
    pub(crate) async fn acquire(
        locker: Box<dyn Locker>,
        options: LockOptions,
        patient: bool,
        mut standing_by: impl FnMut(&Holder),
    ) -> Result<Self, LockError> {
        let (stop, stopping) = watch::channel(false);
        let (holders, mut held) = mpsc::unbounded_channel();
        let (acquired, mut answer) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("mastership".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        // Whoever asked may have gone.
                        let _ = acquired.send(Err(unavailable(&error)));
                        return;
                    }
                };
                let keeping = Keeping {
                    locker,
                    options,
                    patient,
                    stopping,
                };
                runtime.block_on(keeping.run(&holders, acquired));
            })
            .map_err(|error| unavailable(&error))?;
        // Told to stop, should this future be dropped here.
        let waiting = StopOnDrop(Some(stop));
        let lease = loop {
            tokio::select! {
                biased;
                Some(holder) = held.recv() => standing_by(&holder),
                answer = &mut answer => break match answer {
                    Ok(answer) => answer?,
                    Err(_) => return Err(LockError::Unavailable("the keeper's thread has ended".to_owned())),
                },
            }
        };
        Ok(Self {
            lease,
            stop: waiting.keep(),
            thread: Some(thread),
        })
    }

    /// What is held.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        // One that cannot renew may hang in a file system that does not answer.
        if self.lease.is_current()
            && let Some(thread) = self.thread.take()
        {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Tells a keeper to stop that nobody waits for.
struct StopOnDrop(Option<watch::Sender<bool>>);

impl StopOnDrop {
    fn keep(mut self) -> watch::Sender<bool> {
        self.0.take().unwrap_or_else(|| watch::Sender::new(true))
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        if let Some(stop) = &self.0 {
            stop.send_replace(true);
        }
    }
}

fn unavailable(error: &std::io::Error) -> LockError {
    LockError::Unavailable(format!("the keeper's thread cannot be started: {error}"))
}

/// What the thread does.
struct Keeping {
    locker: Box<dyn Locker>,
    options: LockOptions,
    patient: bool,
    stopping: watch::Receiver<bool>,
}

impl Keeping {
    async fn run(
        mut self,
        holders: &mpsc::UnboundedSender<Holder>,
        acquired: oneshot::Sender<Result<Lease, LockError>>,
    ) {
        let mut stopping = self.stopping.clone();
        let lease = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => None,
            lease = self.acquire(holders) => Some(lease),
        };
        match lease {
            Some(Ok(lease)) => {
                // Whoever asked may have gone; then it has told to stop.
                let _ = acquired.send(Ok(lease.clone()));
                tokio::select! {
                    biased;
                    _ = stopping.wait_for(|stop| *stop) => {}
                    () = self.keep(&lease) => {}
                }
                // The store is closed by now; if not, it must not be used any more.
                lease.lose("it was given back");
            }
            Some(Err(failure)) => {
                let _ = acquired.send(Err(failure));
            }
            None => {}
        }
        self.locker.release().await;
    }

    /// Tries until it is acquired.
    async fn acquire(&mut self, holders: &mpsc::UnboundedSender<Holder>) -> Result<Lease, LockError> {
        let mut told: Option<Arc<str>> = None;
        let mut failed = false;
        let mut first = !self.patient;
        loop {
            let mut pause = self.options.acquire_sleep_interval;
            match self.locker.try_acquire().await {
                Ok(Attempt::Acquired { epoch }) => match self.begin(epoch).await {
                    Ok(lease) => {
                        // Whoever has read that another was wants to know.
                        match told {
                            Some(_) => info!(epoch, "this broker is master now"),
                            None => debug!(epoch, "this broker is master"),
                        }
                        return Ok(lease);
                    }
                    Err(failure) => {
                        warn!("mastership was lost as soon as it was acquired, trying again: {failure}");
                        self.locker.release().await;
                    }
                },
                Ok(Attempt::Held(holder)) if self.options.fail_if_locked => {
                    return Err(LockError::Held(holder));
                }
                Ok(Attempt::Held(holder)) => {
                    failed = false;
                    let left = holder.left.map(|left| left.max(LockOptions::SHORTEST));
                    pause = left.map_or(pause, |left| left.min(pause));
                    if told.as_ref() != Some(&holder.description) {
                        info!("standing by: {holder}");
                        told = Some(holder.description.clone());
                        // Whoever asked may have gone; then it has told to stop.
                        let _ = holders.send(holder);
                    }
                }
                // What is wrong from the beginning is said to whoever is there to hear it.
                Err(failure) if first || matches!(failure, LockError::Unfit(_)) => return Err(failure),
                Err(failure) => {
                    if !std::mem::replace(&mut failed, true) {
                        warn!("cannot find out who is master, and goes on trying: {failure}");
                    }
                }
            }
            first = false;
            sleep(pause).await;
        }
    }

    /// What was acquired, from now on: acquiring it may have taken longer than the lease.
    async fn begin(&mut self, epoch: u64) -> Result<Lease, LockError> {
        let looked = clock::now();
        self.locker.keep_alive().await?;
        Ok(match self.options.lease() {
            Some((lease, _)) => Lease::leased(looked + lease, epoch),
            None => Lease::endless(epoch),
        })
    }

    /// Renews until it is lost.
    async fn keep(&mut self, held: &Lease) {
        let mut epoch = held.epoch();
        let mut failed = false;
        loop {
            let pause = match (self.options.lease(), failed) {
                (Some((_, period)), true) => Some(RETRY.min(period)),
                (Some((_, period)), false) => Some(period),
                (None, _) => None,
            };
            tokio::select! {
                biased;
                failure = self.locker.lost() => return end(held, failure),
                () = held.wanted() => {}
                () = elapsed(pause) => {}
            }
            // From before it was looked at: what was true then may not be any more.
            let looked = clock::now();
            let wanted = held.epoch();
            let kept = match wanted > epoch {
                true => self.locker.raise_epoch(wanted).await,
                false => self.locker.keep_alive().await,
            };
            match kept {
                Ok(()) => {
                    epoch = wanted;
                    if std::mem::take(&mut failed) {
                        info!("mastership is renewed again");
                    }
                    if let Some((lease, _)) = self.options.lease() {
                        held.renew(looked + lease);
                    }
                    debug!("mastership is renewed");
                }
                Err(LockError::Unavailable(why)) => {
                    if !std::mem::replace(&mut failed, true) {
                        warn!("mastership cannot be renewed, and ends with its lease: {why}");
                    }
                }
                Err(failure) => return end(held, failure),
            }
            if held.why_lost().is_some() {
                return;
            }
        }
    }
}

/// Mastership is over.
fn end(held: &Lease, failure: LockError) {
    error!("{failure}");
    held.lose(&match failure {
        LockError::Lost(why) => why,
        other => other.to_string(),
    });
}

async fn elapsed(pause: Option<Duration>) {
    match pause {
        Some(pause) => sleep(pause).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use async_trait::async_trait;
    use parking_lot::Mutex;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    /// What a place looks like at which brokers are chosen.
    #[derive(Default)]
    struct Place {
        holder: Option<Holder>,
        /// What renewals come to.
        failure: Option<LockError>,
        attempts: u32,
        renewals: u32,
        /// Told when it shows that mastership is over.
        shows: Arc<tokio::sync::Notify>,
        epoch: u64,
        releases: u32,
    }

    #[derive(Clone, Default)]
    struct Scripted(Arc<Mutex<Place>>);

    impl Scripted {
        /// Waits until the place is so.
        #[track_caller]
        fn until(&self, what: &str, so: impl Fn(&Place) -> bool) {
            let began = Instant::now();
            while !so(&self.0.lock()) {
                assert!(began.elapsed() < DEADLINE, "{what}");
                std::thread::yield_now();
            }
        }
    }

    #[async_trait]
    impl Locker for Scripted {
        async fn try_acquire(&mut self) -> Result<Attempt, LockError> {
            let mut place = self.0.lock();
            place.attempts += 1;
            match (&place.failure, &place.holder) {
                (Some(failure), _) => Err(failure.clone()),
                (None, Some(holder)) => Ok(Attempt::Held(holder.clone())),
                (None, None) => Ok(Attempt::Acquired {
                    epoch: place.epoch + 1,
                }),
            }
        }

        async fn keep_alive(&mut self) -> Result<(), LockError> {
            let mut place = self.0.lock();
            place.renewals += 1;
            place.failure.clone().map_or(Ok(()), Err)
        }

        async fn lost(&mut self) -> LockError {
            let shows = self.0.lock().shows.clone();
            shows.notified().await;
            LockError::Lost("it shows".to_owned())
        }

        async fn raise_epoch(&mut self, epoch: u64) -> Result<(), LockError> {
            self.0.lock().epoch = epoch;
            Ok(())
        }

        async fn release(&mut self) {
            self.0.lock().releases += 1;
        }
    }

    fn options(interval: u64, period: u64) -> LockOptions {
        LockOptions {
            acquire_sleep_interval: Duration::from_millis(interval),
            keep_alive_period: Some(Duration::from_millis(period)),
            fail_if_locked: false,
        }
    }

    async fn acquire(place: &Scripted, options: LockOptions) -> Result<Keeper, LockError> {
        Keeper::acquire(Box::new(place.clone()), options, false, |_| {}).await
    }

    #[tokio::test]
    async fn it_renews_and_gives_back() {
        let place = Scripted::default();
        // A lease that would pass many times: it is the renewals that keep it.
        let keeper = acquire(&place, options(2000, 10)).await.unwrap();
        place.until("renewals", |place| place.renewals > 20);
        assert_eq!(keeper.lease().ensure(), Ok(()));
        keeper.lease().raise_epoch(9);
        place.until("the epoch", |place| place.epoch == 9);
        let lease = keeper.lease().clone();
        drop(keeper);
        assert_eq!(place.0.lock().releases, 1);
        assert!(!lease.is_current());
    }

    #[tokio::test]
    async fn who_stands_by_says_so_once_for_each_master_and_follows() {
        let place = Scripted::default();
        place.0.lock().holder = Some(Holder::new("one"));
        let told = Arc::new(Mutex::new(Vec::new()));
        let telling = (told.clone(), place.clone());
        let keeper = Keeper::acquire(Box::new(place.clone()), options(20, 10), false, move |holder| {
            let (told, place) = &telling;
            told.lock().push(holder.to_string());
            let (attempts, began) = (place.0.lock().attempts, Instant::now());
            while place.0.lock().attempts < attempts + 2 && began.elapsed() < DEADLINE {
                std::thread::yield_now();
            }
            place.0.lock().holder = match holder.to_string().as_str() {
                "one" => Some(Holder::new("two")),
                _ => None,
            };
        });
        assert_eq!(keeper.await.unwrap().lease().epoch(), 1);
        assert_eq!(*told.lock(), ["one", "two"]);
    }

    #[tokio::test]
    async fn a_standby_is_there_when_a_lease_ends() {
        let place = Scripted::default();
        let left = Duration::from_millis(20);
        place.0.lock().holder = Some(Holder::new("one").with_left(left));
        let hour = 60 * 60 * 1_000;
        let keeper = tokio::spawn({
            let place = place.clone();
            async move { acquire(&place, options(hour, hour / 2)).await }
        });
        tokio::task::spawn_blocking({
            let place = place.clone();
            move || place.until("attempts", |place| place.attempts > 2)
        })
        .await
        .unwrap();
        place.0.lock().holder = None;
        assert_eq!(keeper.await.unwrap().unwrap().lease().epoch(), 1);
    }

    #[tokio::test]
    async fn who_is_not_to_wait_is_told_who_is_master() {
        let place = Scripted::default();
        let holder = Holder::new("one");
        place.0.lock().holder = Some(holder.clone());
        let impatient = LockOptions {
            fail_if_locked: true,
            ..options(20, 10)
        };
        assert_eq!(
            acquire(&place, impatient).await.unwrap_err(),
            LockError::Held(holder)
        );
    }

    #[tokio::test]
    async fn what_is_wrong_at_first_is_an_error_unless_it_is_to_be_patient() {
        let place = Scripted::default();
        let failure = LockError::Unavailable("no such directory".to_owned());
        place.0.lock().failure = Some(failure.clone());
        assert_eq!(acquire(&place, options(20, 10)).await.unwrap_err(), failure);
        let patient = Keeper::acquire(Box::new(place.clone()), options(20, 10), true, |_| {});
        let heals = std::thread::spawn({
            let place = place.clone();
            move || {
                place.until("attempts", |place| place.attempts > 3);
                place.0.lock().failure = None;
            }
        });
        patient.await.unwrap();
        heals.join().unwrap();
    }

    #[tokio::test]
    async fn a_standby_that_is_given_up_leaves_nothing_behind() {
        let place = Scripted::default();
        place.0.lock().holder = Some(Holder::new("one"));
        let waiting = tokio::time::timeout(Duration::from_millis(1), acquire(&place, options(20, 10)));
        assert!(waiting.await.is_err());
        place.until("the release", |place| place.releases == 1);
    }

    #[tokio::test]
    async fn mastership_that_another_took_is_lost_at_once() {
        let place = Scripted::default();
        let keeper = acquire(&place, options(600_000, 10)).await.unwrap();
        place.0.lock().failure = Some(LockError::Lost("another took it".to_owned()));
        let lost = keeper.lease().lost().await;
        assert_eq!(lost.to_string(), "mastership is lost: another took it");
        place.until("the release", |place| place.releases == 1);
    }

    #[tokio::test]
    async fn mastership_that_shows_to_be_over_is_lost_at_once() {
        let place = Scripted::default();
        let keeper = acquire(&place, options(600_000, 0)).await.unwrap();
        place.0.lock().shows.notify_one();
        let lost = keeper.lease().lost().await;
        assert_eq!(lost.to_string(), "mastership is lost: it shows");
        place.until("the release", |place| place.releases == 1);
    }

    #[tokio::test]
    async fn what_cannot_be_renewed_ends_with_its_lease_and_what_can_again_goes_on() {
        let place = Scripted::default();
        let keeper = acquire(&place, options(100, 10)).await.unwrap();
        let unavailable = Some(LockError::Unavailable("no answer".to_owned()));
        place.0.lock().failure.clone_from(&unavailable);
        let began = Instant::now();
        while keeper.lease().is_current() {
            assert!(began.elapsed() < DEADLINE, "the lease does not end");
            std::thread::yield_now();
        }
        place.0.lock().failure = None;
        assert_eq!(keeper.lease().ensure(), Ok(()));
        place.0.lock().failure = unavailable;
        let lost = keeper.lease().lost().await;
        assert!(lost.to_string().contains("could not be renewed"), "{lost}");
    }

    #[tokio::test]
    async fn without_a_lease_it_holds_and_is_never_looked_at() {
        let place = Scripted::default();
        let keeper = acquire(&place, options(20, 0)).await.unwrap();
        let renewals = place.0.lock().renewals;
        place.0.lock().failure = Some(LockError::Lost("another took it".to_owned()));
        assert!(keeper.lease().is_current());
        drop(keeper);
        assert_eq!(place.0.lock().renewals, renewals);
    }
}
