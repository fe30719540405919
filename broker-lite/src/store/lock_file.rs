//! The lock file of a store: whoever has the lock on it may use the store.
//!
//! The lock is that of `flock`: it belongs to an open file, so two openers exclude each other within a process as well, and it
//! is gone when the process is. On NFS Linux makes a lock on the server of it. ActiveMQ locks its file with `fcntl`, which
//! on local file systems is another kind of lock; but the two kinds of broker cannot share a store anyhow.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use openwire_client::environment::{host_name, now_millis, random};

use super::StoreError;

/// Its name, as in ActiveMQ.
const NAME: &str = "lock";

/// No lock file is longer; what is, is something else.
const MAX_LENGTH: u64 = 1024;

/// The first line of what a master writes.
const TITLE: &str = "broker-lite";

/// The lock file, locked. The lock is given back when this is dropped; the file stays, for the next one.
#[derive(Debug)]
pub(crate) struct LockFile {
    path: PathBuf,
    file: File,
    /// What the holder of the lock has written.
    text: String,
    claim: Option<Claim>,
}

/// What a holder says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    epoch: u64,
    broker: String,
    since: i64,
    /// So that no two claims are the same, whatever the rest is.
    token: u64,
}

/// What came of an attempt to lock the file.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is ours.
    Mine(LockFile),
    /// It is that of another, who has this file open.
    Held(String, File),
}

impl LockFile {
    /// Locks the file in a directory, which has to be there, if nobody else has.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] for what the file system says, and [`StoreError::Refused`] if it gives the same lock to two.
    pub(crate) fn try_take(directory: &Path) -> Result<Taken, StoreError> {
        let path = directory.join(NAME);
        let failed = |error: io::Error| unavailable(&path, &error);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let text = read(&file).map_err(failed)?;
                    return Ok(Taken::Held(holder(&path, &text), file));
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            let other = match OpenOptions::new().read(true).write(true).open(&path) {
                Ok(other) => other,
                // Somebody deleted it between the two.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            if !is_same(&file, &other).map_err(failed)? {
                continue;
            }
            match other.try_lock() {
                Err(TryLockError::WouldBlock) => {}
                Ok(()) => {
                    return Err(StoreError::Refused(format!(
                        "{}: this file system gives the same lock to two, so it cannot say who is master",
                        path.display()
                    )));
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            let text = read(&file).map_err(failed)?;
            return Ok(Taken::Mine(Self {
                path,
                file,
                text,
                claim: None,
            }));
        }
    }

    /// The file has never been written by a holder of the lock: it is new.
    pub(crate) fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// True if whoever locked this file, an older one of the same name, still has it locked.
    pub(crate) fn replaces(&self, older: &File) -> Result<bool, StoreError> {
        let failed = |error: io::Error| unavailable(&self.path, &error);
        if is_same(&self.file, older).map_err(failed)? {
            return Ok(false);
        }
        match older.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Writes who has the lock now, and returns the epoch: one more than that of the last holder.
    pub(crate) fn claim(&mut self, broker: &str) -> Result<u64, StoreError> {
        let epoch = epoch(&self.text).saturating_add(1);
        self.write(Claim {
            epoch,
            // A name has no line breaks, whoever gave it.
            broker: broker.replace(char::is_control, "_"),
            since: now_millis(),
            token: random(),
        })?;
        Ok(epoch)
    }

    /// Writes that the epoch is this one.
    pub(crate) fn raise_epoch(&mut self, epoch: u64) -> Result<(), StoreError> {
        match &self.claim {
            Some(claim) if claim.epoch < epoch => {
                let claim = claim.clone();
                self.write(Claim { epoch, ..claim })
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, claim: Claim) -> Result<(), StoreError> {
        let failed = |error: io::Error| unavailable(&self.path, &error);
        let text = claim.text();
        self.file.write_all_at(text.as_bytes(), 0).map_err(failed)?;
        self.file.set_len(text.len() as u64).map_err(failed)?;
        self.file.sync_all().map_err(failed)?;
        self.text = text;
        self.claim = Some(claim);
        Ok(())
    }

    /// Makes sure that the file is there and says what this holder has written: [`StoreError::NotMaster`] if not. It is
    /// opened for that, because on NFS the server is asked then.
    pub(crate) fn verify(&self) -> Result<(), StoreError> {
        let name = self.path.display();
        let there = match File::open(&self.path) {
            Ok(there) => there,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotMaster(format!("{name} was deleted")));
            }
            Err(error) => return Err(unavailable(&self.path, &error)),
        };
        let failed = |error: io::Error| unavailable(&self.path, &error);
        if !is_same(&self.file, &there).map_err(failed)? {
            return Err(StoreError::NotMaster(format!("{name} is another file now")));
        }
        // Through our own, so that a lock which the server gave away is an error.
        let text = read(&self.file).map_err(failed)?;
        if text != self.text {
            let holder = holder(&self.path, &text);
            return Err(StoreError::NotMaster(format!(
                "{name} is that of another now: {holder}"
            )));
        }
        Ok(())
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Claim {
    fn text(&self) -> String {
        let since = jiff::Timestamp::from_millisecond(self.since).map_or_else(
            |_| self.since.to_string(),
            |since| since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        );
        let host = host_name(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
        let process = std::process::id();
        let (epoch, broker, token) = (self.epoch, &self.broker, self.token);
        format!(
            "{TITLE}\nepoch {epoch}\nbroker {broker}\nprocess {process}\nhost {host}\nsince {since}\ntoken {token:016x}\n"
        )
    }
}

/// The value of a line of what a holder has written.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

fn epoch(text: &str) -> u64 {
    value(text, "epoch")
        .and_then(|epoch| epoch.parse().ok())
        .unwrap_or_default()
}

/// Who has written this.
fn holder(path: &Path, text: &str) -> String {
    let value = |name| value(text, name).unwrap_or("unknown");
    let path = path.display();
    match text.starts_with(TITLE) {
        true => format!(
            "{path} is locked by broker {}, process {} on {}, since {}",
            value("broker"),
            value("process"),
            value("host"),
            value("since")
        ),
        // The holder may be about to write, or an older version of this program.
        false => match text.trim() {
            "" => format!("{path} is locked"),
            text => format!("{path} is locked by {text}"),
        },
    }
}

fn read(file: &File) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut at = 0;
    let mut part = [0; MAX_LENGTH as usize];
    while at < MAX_LENGTH {
        match file.read_at(&mut part, at)? {
            0 => break,
            length => bytes.extend_from_slice(&part[..length]),
        }
        at = bytes.len() as u64;
    }
    bytes.truncate(MAX_LENGTH as usize);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_same(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// The directory holds something beside the lock file.
pub(crate) fn is_in_use(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        if entry?.file_name() != NAME {
            return Ok(true);
        }
    }
    Ok(false)
}

fn unavailable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Io(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(directory: &Path) -> LockFile {
        match LockFile::try_take(directory).unwrap() {
            Taken::Mine(lock) => lock,
            Taken::Held(holder, _) => panic!("{holder}"),
        }
    }

    fn held(directory: &Path) -> (String, File) {
        match LockFile::try_take(directory).unwrap() {
            Taken::Held(holder, file) => (holder, file),
            Taken::Mine(lock) => panic!("{lock:?}"),
        }
    }

    #[test]
    fn two_handles_exclude_each_other_and_the_second_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut lock = take(dir.path());
        assert!(lock.is_blank());
        // Who has not written yet is nobody in particular.
        assert!(held(dir.path()).0.ends_with("is locked"));
        assert_eq!(lock.claim("the\nmaster"), Ok(1));
        let told = held(dir.path()).0;
        let process = format!("process {} on ", std::process::id());
        assert!(
            told.contains("by broker the_master, ") && told.contains(&process),
            "{told}"
        );
        drop(lock);
        let mut lock = take(dir.path());
        assert!(!lock.is_blank());
        assert_eq!(lock.claim("another"), Ok(2));
    }

    #[test]
    fn an_epoch_is_raised_and_goes_on_from_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut lock = take(dir.path());
        lock.claim("master").unwrap();
        for (epoch, next) in [(41, 42), (7, 43)] {
            lock.raise_epoch(epoch).unwrap();
            assert_eq!(lock.verify(), Ok(()));
            drop(lock);
            lock = take(dir.path());
            assert_eq!(lock.claim("master"), Ok(next));
        }
    }

    #[test]
    fn a_file_that_is_gone_or_not_ours_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let mut lock = take(dir.path());
        lock.claim("master").unwrap();
        let ours = fs::read(&path).unwrap();
        assert_eq!(lock.verify(), Ok(()));
        fs::write(&path, "process 1").unwrap();
        assert!(matches!(lock.verify(), Err(StoreError::NotMaster(why)) if why.contains("process 1")));
        fs::write(&path, &ours).unwrap();
        assert_eq!(lock.verify(), Ok(()));
        fs::remove_file(&path).unwrap();
        assert!(matches!(lock.verify(), Err(StoreError::NotMaster(why)) if why.contains("deleted")));
        fs::write(&path, ours).unwrap();
        assert!(matches!(lock.verify(), Err(StoreError::NotMaster(why)) if why.contains("another file")));
    }

    #[test]
    fn who_replaces_a_file_knows_whether_its_holder_is_still_there() {
        let dir = tempfile::tempdir().unwrap();
        let older = take(dir.path());
        let (_, seen) = held(dir.path());
        fs::remove_file(dir.path().join(NAME)).unwrap();
        let lock = take(dir.path());
        assert_eq!(lock.replaces(&seen), Ok(true));
        drop(older);
        assert_eq!(lock.replaces(&seen), Ok(false));
        assert_eq!(lock.replaces(lock.file()), Ok(false));
    }

    #[test]
    fn what_others_wrote_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for text in [
            &b"process 4711"[..],
            &[0xff; 4096],
            b"broker-lite\nepoch x\n",
            b"epoch -1",
        ] {
            fs::write(dir.path().join(NAME), text).unwrap();
            let mut lock = take(dir.path());
            assert!(!held(dir.path()).0.is_empty());
            assert_eq!(lock.claim("master"), Ok(1), "{text:?}");
            assert_eq!(lock.verify(), Ok(()));
        }
    }
}
