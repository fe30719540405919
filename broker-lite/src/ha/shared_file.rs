//! Mastership by a lock on a file that all brokers of a store can reach.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;
use tracing::warn;

use super::{Attempt, Holder, LockError, LockOptions, Locker, file_system};
use crate::store::StoreError;
use crate::store::lock_file::{LockFile, Taken, is_in_use};

/// The file `lock` in the directory of the store. ActiveMQ's `shared-file-locker`.
///
/// The system gives the lock back when a process ends, however it ends, so a killed master is followed within
/// `lockAcquireSleepInterval`. A master that is stopped keeps it. If somebody deletes the file, the master finds out
/// when it looks next and is master no more; a standby that makes the file anew waits first for as long as the lease of a
/// master that has not looked yet.
#[derive(Debug)]
pub struct SharedFile {
    directory: PathBuf,
    broker: String,
    lease: Duration,
    lock: Option<LockFile>,
    /// The file that another broker had locked when it was last tried.
    seen: Option<File>,
}

impl SharedFile {
    /// A locker for the store in this directory, which is made if it is not there, and the name that others are told.
    pub fn new(directory: impl Into<PathBuf>, broker: impl Into<String>, options: &LockOptions) -> Self {
        Self {
            directory: directory.into(),
            broker: broker.into(),
            lease: options.acquire_sleep_interval,
            lock: None,
            seen: None,
        }
    }

    /// There may be a master that does not know yet that the lock is not its own any more.
    fn may_have_former(&self, lock: &LockFile) -> Result<bool, LockError> {
        match &self.seen {
            Some(seen) => Ok(lock.replaces(seen)?),
            // A file is written before its store is used, so one that was not is not that of the store.
            None if lock.is_blank() => {
                is_in_use(&self.directory).map_err(|error| unavailable(&self.directory, &error))
            }
            None => Ok(false),
        }
    }
}

#[async_trait]
impl Locker for SharedFile {
    async fn try_acquire(&mut self) -> Result<Attempt, LockError> {
        make(&self.directory).map_err(|error| unavailable(&self.directory, &error))?;
        let mut lock = match LockFile::try_take(&self.directory)? {
            Taken::Mine(lock) => lock,
            Taken::Held(holder, file) => {
                self.seen = Some(file);
                return Ok(Attempt::Held(Holder::new(holder)));
            }
        };
        if self.may_have_former(&lock)? {
            warn!(
                "the lock file in {} is new, though the store is not: waiting {:?} for a master that may not know yet",
                self.directory.display(),
                self.lease
            );
            sleep(self.lease).await;
        }
        file_system::report(lock.file());
        let epoch = lock.claim(&self.broker)?;
        lock.verify()?;
        self.seen = None;
        self.lock = Some(lock);
        Ok(Attempt::Acquired { epoch })
    }

    async fn keep_alive(&mut self) -> Result<(), LockError> {
        match &self.lock {
            Some(lock) => Ok(lock.verify()?),
            None => Err(LockError::Lost("it was given back".to_owned())),
        }
    }

    async fn raise_epoch(&mut self, epoch: u64) -> Result<(), LockError> {
        match &mut self.lock {
            Some(lock) => {
                lock.verify()?;
                Ok(lock.raise_epoch(epoch)?)
            }
            None => Ok(()),
        }
    }

    async fn release(&mut self) {
        self.lock = None;
    }
}

/// Makes the directory, for good, if it is not there.
fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    match directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

impl From<StoreError> for LockError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotMaster(why) => Self::Lost(why),
            StoreError::Refused(why) => Self::Unfit(why),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

fn unavailable(path: &Path, error: &io::Error) -> LockError {
    LockError::Unavailable(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const LEASE: Duration = Duration::from_millis(80);

    fn locker(directory: &Path, broker: &str) -> SharedFile {
        let options = LockOptions {
            acquire_sleep_interval: LEASE,
            ..LockOptions::default()
        };
        SharedFile::new(directory, broker, &options)
    }

    #[tokio::test]
    async fn one_of_two_is_master_and_the_other_follows_with_a_higher_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("made/here");
        let (mut first, mut second) = (locker(&directory, "first"), locker(&directory, "second"));
        assert_eq!(first.try_acquire().await, Ok(Attempt::Acquired { epoch: 1 }));
        let held = second.try_acquire().await.unwrap();
        assert!(
            matches!(&held, Attempt::Held(holder) if holder.to_string().contains("broker first")),
            "{held:?}"
        );
        assert_eq!(first.keep_alive().await, Ok(()));
        first.raise_epoch(7).await.unwrap();
        first.release().await;
        assert!(first.keep_alive().await.is_err());
        assert_eq!(second.try_acquire().await, Ok(Attempt::Acquired { epoch: 8 }));
    }

    #[tokio::test]
    async fn who_makes_the_file_anew_waits_for_the_lease_of_a_master_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let (mut first, mut second) = (locker(dir.path(), "first"), locker(dir.path(), "second"));
        first.try_acquire().await.unwrap();
        second.try_acquire().await.unwrap();
        fs::remove_file(dir.path().join("lock")).unwrap();
        let began = Instant::now();
        assert_eq!(second.try_acquire().await, Ok(Attempt::Acquired { epoch: 1 }));
        assert!(began.elapsed() >= LEASE);
        assert!(matches!(first.keep_alive().await, Err(LockError::Lost(_))));
        assert_eq!(second.keep_alive().await, Ok(()));
    }

    #[tokio::test]
    async fn who_has_not_seen_the_master_waits_if_the_directory_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("journal"), "").unwrap();
        let began = Instant::now();
        let mut lost = locker(dir.path(), "a");
        // One that gives up while it waits has written nothing: the next one waits as well.
        let waiting = tokio::time::timeout(Duration::ZERO, lost.try_acquire()).await;
        assert!(waiting.is_err());
        lost.release().await;
        locker(dir.path(), "b").try_acquire().await.unwrap();
        assert!(began.elapsed() >= LEASE);
    }
}
