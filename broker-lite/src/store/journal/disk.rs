//! The journal's way to its files, as a seam: tests put a disk behind it that loses, tears and refuses.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{CWD, FallocateFlags, RenameFlags};
use rustix::io::Errno;

use super::super::StoreError;
use super::super::lock_file::{LockFile, Taken};

/// What the lock file calls an opener that is no broker.
const NO_BROKER: &str = "(none)";

/// The directory of a journal.
pub(super) trait Disk: Send + Sync {
    /// Takes the directory for this opener alone.
    fn lock(&self) -> Result<(), StoreError>;

    /// Gives it back.
    fn unlock(&self);

    /// The names of the files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file that is there.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a file of this length whose space is taken and whose metadata is durable. Leaves none behind
    /// if it fails.
    fn allocate(&self, name: &str, len: u64) -> io::Result<Box<dyn DiskFile>>;

    /// Fails if there is a file called `to`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; one that is not there any more is as good.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Bytes that can still be had.
    fn free_space(&self) -> io::Result<u64>;

    /// Makes durable which files there are and what they are called.
    fn sync_directory(&self) -> io::Result<()>;
}

/// A file of a journal. It may be used from several threads.
pub(super) trait DiskFile: Send + Sync {
    fn len(&self) -> io::Result<u64>;

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes durable what was written before the call.
    fn sync(&self) -> io::Result<()>;

    fn truncate(&self, len: u64) -> io::Result<()>;
}

/// True if there is no space, so that the same may succeed later and nothing was harmed.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// A directory of the file system.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Whoever opened it has the lock.
    is_locked: bool,
    lock: Mutex<Option<LockFile>>,
}

impl Directory {
    /// The directory at `path`, which is created if it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |error: io::Error| StoreError::Io(format!("{}: {error}", path.display()));
        if !path.is_dir() {
            std::fs::create_dir_all(path).map_err(failed)?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                sync_directory(parent).map_err(failed)?;
            }
        }
        Ok(Self {
            path: path.to_path_buf(),
            is_locked: false,
            lock: Mutex::new(None),
        })
    }
}

impl Directory {
    /// A directory that is there.
    pub(super) fn existing(path: &Path) -> Result<Self, StoreError> {
        match path.is_dir() {
            true => Self::open(path),
            false => Err(StoreError::Io(format!(
                "{}: there is no such directory",
                path.display()
            ))),
        }
    }

    /// The same of a master, which has the lock on it already.
    pub(super) fn open_locked(path: &Path) -> Result<Self, StoreError> {
        let directory = Self::open(path)?;
        Ok(Self {
            is_locked: true,
            ..directory
        })
    }
}

impl Disk for Directory {
    fn lock(&self) -> Result<(), StoreError> {
        if self.is_locked {
            return Ok(());
        }
        match LockFile::try_take(&self.path)? {
            Taken::Mine(mut lock) => {
                lock.claim(NO_BROKER)?;
                *self.lock.lock() = Some(lock);
                Ok(())
            }
            Taken::Held(holder, _) => Err(StoreError::Locked(holder)),
        }
    }

    fn unlock(&self) {
        *self.lock.lock() = None;
    }

    fn list(&self) -> io::Result<Vec<String>> {
        std::fs::read_dir(&self.path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.path.join(name))?;
        Ok(Box::new(file))
    }

    fn allocate(&self, name: &str, len: u64) -> io::Result<Box<dyn DiskFile>> {
        let path = self.path.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        let allocated = reserve(&file, len).and_then(|()| file.sync_all());
        match allocated {
            Ok(()) => Ok(Box::new(file)),
            Err(error) => {
                std::fs::remove_file(&path)?;
                Err(error)
            }
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path.join(from), self.path.join(to));
        match rustix::fs::renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            // Not every file system can; all of them refuse a second file of the same name.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                std::fs::hard_link(&from, &to)?;
                std::fs::remove_file(&from)
            }
            renamed => Ok(renamed?),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.path.join(name)) {
            // A former master was quicker.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn free_space(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn sync_directory(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Takes the space of a new file, so that no later write to it can fail for want of space.
fn reserve(file: &File, len: u64) -> io::Result<()> {
    /// What is written at a time where the space can be had by writing only.
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
        Ok(()) => return Ok(()),
        Err(Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    let mut at = 0;
    while at < len {
        let step = (len - at).min(ZEROS.len() as u64);
        FileExt::write_all_at(file, &ZEROS[..step as usize], at)?;
        at += step;
    }
    Ok(())
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_is_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = Directory::open(&path).unwrap();
        first.lock().unwrap();
        let second = Directory::open(&path).unwrap();
        let me = std::process::id().to_string();
        assert!(matches!(second.lock(), Err(StoreError::Locked(holder)) if holder.contains(&me)));
        first.unlock();
        second.lock().unwrap();
    }

    #[test]
    fn an_allocated_file_has_its_length_and_its_space() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        let file = disk.allocate("x", 1 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        assert!(std::fs::metadata(dir.path().join("x")).unwrap().blocks() * 512 >= 1 << 20);
        assert!(disk.allocate("x", 1).is_err());
    }

    #[test]
    fn a_new_name_never_takes_that_of_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        disk.allocate("a", 1).unwrap();
        disk.allocate("b", 2).unwrap();
        let refused = disk.rename("a", "b").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.open("b").unwrap().len().unwrap(), 2);
        disk.rename("a", "c").unwrap();
        assert_eq!(disk.open("c").unwrap().len().unwrap(), 1);
        assert!(disk.open("a").is_err());
    }

    #[test]
    fn a_file_that_finds_no_space_is_not_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Directory::open(dir.path()).unwrap();
        assert!(disk.allocate("x", 1 << 55).is_err());
        assert!(disk.list().unwrap().is_empty());
    }
}
