//! Segment files: their names, and the pool of spare ones.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::super::StoreError;
use super::disk::{Disk, DiskFile, is_full};
use super::frame::{ALIGN, MAX_PAYLOAD, frame_len};

/// The largest segment: a catalog and a batch of the largest payload, and the room kept at the end.
const MAX_SEGMENT: u64 = 2 * frame_len(MAX_PAYLOAD) as u64 + END_ROOM;

/// The number of the first segment of a journal.
pub(super) const FIRST_SEGMENT: u32 = 1;

/// A catalog takes at most this part of its segment, however many destinations there are: it says nothing
/// new and would be most of what is written.
const CATALOG_SHARE: u64 = 8;

/// What a seal takes.
pub(super) const SEAL_ROOM: u64 = frame_len(0) as u64;

/// Room at the end of each segment for its seal and a few reclaim frames: on a full disk space can be made
/// though no batch fits any more.
pub(super) const END_ROOM: u64 = SEAL_ROOM + 16 * frame_len(4) as u64;

/// The least a makeshift segment has: room for some acknowledgements.
const MAKESHIFT: u64 = 4 * 1024;

/// A file of the log.
pub(super) struct Segment {
    pub(super) number: u32,
    /// The epoch in which it was written.
    pub(super) epoch: u64,
    /// Its length on disk.
    pub(super) len: u64,
    pub(super) file: Box<dyn DiskFile>,
}

impl Segment {
    pub(super) fn name(&self) -> String {
        segment_name(self.number)
    }

    /// The store failed in this segment.
    pub(super) fn poisoned(&self, doing: &str, error: &io::Error) -> StoreError {
        StoreError::Poisoned(format!("{doing} {}: {error}", self.name()))
    }
}

/// The name of the segment with this number.
pub(super) fn segment_name(number: u32) -> String {
    format!("journal-{number:010}.log")
}

/// The number of the segment with this name.
pub(super) fn segment_number(name: &str) -> Option<u32> {
    let number = name
        .strip_prefix("journal-")?
        .strip_suffix(".log")?
        .parse()
        .ok()?;
    (segment_name(number) == name).then_some(number)
}

/// The epoch is in it, so that nobody ever comes across the spare file of another.
fn spare_name(epoch: u64, number: u64) -> String {
    format!("spare-{epoch}-{number}.log")
}

fn is_spare(name: &str) -> bool {
    name.starts_with("spare-") && name.ends_with(".log")
}

/// A file that waits to become a segment.
struct Spare {
    name: String,
    len: u64,
    file: Box<dyn DiskFile>,
}

/// The files that wait to become segments, and how they come and go.
pub(super) struct Pool {
    disk: Arc<dyn Disk>,
    /// The epoch in which segments are written.
    epoch: u64,
    segment_size: u64,
    target: usize,
    spares: Mutex<Vec<Spare>>,
    next_spare: AtomicU64,
    /// The disk had no room for another file when last asked.
    full: AtomicBool,
    disk_bytes: AtomicU64,
}

impl Pool {
    /// A pool without spare files: those that are there go, because a former master may have them open still.
    /// `segments` bytes are in segments already.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        epoch: u64,
        segment_size: u64,
        target: usize,
        segments: u64,
    ) -> io::Result<Self> {
        for name in disk.list()?.iter().filter(|name| is_spare(name)) {
            disk.remove(name)?;
        }
        Ok(Self {
            disk,
            epoch,
            segment_size,
            target,
            spares: Mutex::default(),
            next_spare: AtomicU64::new(0),
            full: AtomicBool::new(false),
            disk_bytes: AtomicU64::new(segments),
        })
    }

    /// True if the disk has no room for another file and there is none to spare. Makes one if nobody has
    /// come to it yet: what the disk said a while ago may be wrong by now.
    pub(super) fn is_exhausted(&self) -> bool {
        if !self.spares.lock().is_empty() {
            return false;
        }
        match self.allocate(self.segment_size) {
            Ok(spare) => {
                self.spares.lock().push(spare);
                false
            }
            Err(error) => is_full(&error),
        }
    }

    /// The epoch in which segments are written.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Bytes of messages that the disk has room for. The log may be twice as long as what is needed of it, and two
    /// segments; beside it there are spare files, and one segment while it is written again.
    pub(super) fn capacity(&self) -> io::Result<u64> {
        let room = self.disk.free_space()?.saturating_add(self.disk_bytes());
        let beside = (self.target as u64 + 3) * self.segment_size;
        // Where there is hardly room for that, a little has to do.
        Ok((room.saturating_sub(beside) / 2).max(room / 8))
    }

    /// Bytes on disk, of segments and spare files.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    /// True for one that is smaller than segments are, because the disk had no room.
    pub(super) fn is_makeshift(&self, segment: &Segment) -> bool {
        segment.len < self.segment_size
    }

    /// Makes the segment with this number, large enough for a catalog frame, and after it a frame of so many
    /// bytes; where there is no room for as much as segments take, and with `makeshift`, a smaller one.
    /// [`StoreError::Full`] leaves everything as it was.
    pub(super) fn segment(
        &self,
        number: u32,
        catalog: u64,
        frame: u64,
        makeshift: bool,
    ) -> Result<Arc<Segment>, StoreError> {
        let needed = (catalog + frame + END_ROOM).next_multiple_of(ALIGN as u64);
        let wanted = self
            .segment_size
            .max((catalog * CATALOG_SHARE).min(MAX_SEGMENT))
            .max(needed);
        if wanted > MAX_SEGMENT {
            return Err(StoreError::Refused(format!(
                "no segment can hold a catalog of {catalog} bytes and a batch of {frame}"
            )));
        }
        let failed = |error: io::Error| {
            let name = segment_name(number);
            if is_full(&error) {
                StoreError::Full(format!("{name}: {error}"))
            } else if error.kind() == io::ErrorKind::AlreadyExists {
                StoreError::Poisoned(format!(
                    "{name} is there already: another process writes to this journal"
                ))
            } else {
                StoreError::Poisoned(format!("{name}: {error}"))
            }
        };
        let spare = if wanted == self.segment_size {
            self.spares.lock().pop()
        } else {
            None
        };
        let spare = match spare {
            Some(spare) => spare,
            None => match self.allocate(wanted) {
                Err(error) if makeshift && is_full(&error) => self.allocate_less(wanted, needed, error),
                allocated => allocated,
            }
            .map_err(failed)?,
        };
        if let Err(error) = self.disk.rename(&spare.name, &segment_name(number)) {
            match spare.len == self.segment_size {
                true => self.spares.lock().push(spare),
                // Who takes a spare file takes it for a whole segment.
                false => self.remove(&spare.name, spare.len),
            }
            return Err(failed(error));
        }
        // Nothing in the segment can be found after a crash unless its name is durable before.
        self.disk
            .sync_directory()
            .map_err(|error| StoreError::Poisoned(format!("{}: {error}", segment_name(number))))?;
        Ok(Arc::new(Segment {
            number,
            epoch: self.epoch,
            len: spare.len,
            file: spare.file,
        }))
    }

    fn spare_name(&self) -> String {
        spare_name(self.epoch, self.next_spare.fetch_add(1, Ordering::Relaxed))
    }

    fn allocate(&self, len: u64) -> io::Result<Spare> {
        let spare = self.make(len);
        let full = spare.as_ref().is_err_and(is_full);
        if full != self.full.swap(full, Ordering::Relaxed) {
            if full {
                tracing::error!("the journal finds no space for another segment of {len} bytes");
            } else {
                tracing::info!("the journal finds space again");
            }
        }
        spare
    }

    /// Makes a file of less than `wanted` bytes, for which there was no room: as large as there is room for.
    fn allocate_less(&self, wanted: u64, needed: u64, mut full: io::Error) -> io::Result<Spare> {
        let align = |len: u64| len / ALIGN as u64 * ALIGN as u64;
        let least = needed.max(MAKESHIFT);
        // What is free need not be free for us, nor for a file.
        let mut len = align(self.disk.free_space()?.min(wanted - 1));
        while len >= least {
            match self.make(len) {
                Ok(spare) => {
                    tracing::warn!("the journal goes on in a segment of {len} bytes");
                    return Ok(spare);
                }
                Err(error) if is_full(&error) => full = error,
                Err(error) => return Err(error),
            }
            len = align(len / 2);
        }
        Err(full)
    }

    fn make(&self, len: u64) -> io::Result<Spare> {
        let name = self.spare_name();
        let file = self.disk.allocate(&name, len)?;
        self.disk_bytes.fetch_add(len, Ordering::Relaxed);
        Ok(Spare { name, len, file })
    }

    fn remove(&self, name: &str, len: u64) {
        match self.disk.remove(name) {
            Ok(()) => {
                self.disk_bytes.fetch_sub(len, Ordering::Relaxed);
            }
            // It is only in the way: whoever opens the journal next removes it.
            Err(error) => tracing::warn!("{name} cannot be removed: {error}"),
        }
    }

    /// Gives the spare files back.
    pub(super) fn clear(&self) {
        let spares = std::mem::take(&mut *self.spares.lock());
        for spare in spares {
            self.remove(&spare.name, spare.len);
        }
    }

    /// Makes spare files until there are enough.
    pub(super) fn replenish(&self) {
        while self.spares.lock().len() < self.target {
            match self.allocate(self.segment_size) {
                Ok(spare) => self.spares.lock().push(spare),
                Err(error) => {
                    if !is_full(&error) {
                        tracing::warn!("the journal could not make a segment ahead of time: {error}");
                    }
                    return;
                }
            }
        }
    }

    /// Makes a spare file of a segment that is no longer needed, or removes it. One of an earlier epoch is removed:
    /// who wrote it then may do so still.
    pub(super) fn retire(&self, segment: Arc<Segment>) {
        let (name, len) = (segment.name(), segment.len);
        // Who still reads it must not find another segment's bytes.
        if let Some(segment) = Arc::into_inner(segment)
            && len == self.segment_size
            && segment.epoch == self.epoch
            && self.spares.lock().len() < self.target
        {
            let spare = self.spare_name();
            match self.disk.rename(&name, &spare) {
                Ok(()) => {
                    self.spares.lock().push(Spare {
                        name: spare,
                        len,
                        file: segment.file,
                    });
                    return;
                }
                Err(error) => tracing::warn!("{name} cannot be used again: {error}"),
            }
        }
        self.remove(&name, len);
    }
}
