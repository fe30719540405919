//! A disk in memory that loses, tears and refuses.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustc_hash::FxHasher;

use super::super::super::StoreError;
use super::super::super::suite::DEADLINE;
use super::super::disk::{Disk, DiskFile};
use super::leash::{is_shared, step};

/// What a disk writes as a whole or not at all.
const SECTOR: usize = 512;

/// A disk whose power can fail.
#[derive(Clone, Default)]
pub(super) struct FaultyDisk {
    inner: Arc<Mutex<Inner>>,
    syncs: Arc<Gate>,
    writes: Arc<Gate>,
}

/// Where syncs or writes can be held up.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    closed: bool,
    waiting: usize,
}

impl Gate {
    fn close(self: &Arc<Self>) -> Held {
        self.state.lock().closed = true;
        Held(self.clone())
    }

    fn pass(&self) {
        let mut state = self.state.lock();
        state.waiting += 1;
        self.changed.notify_all();
        while state.closed {
            self.changed.wait(&mut state);
        }
        state.waiting -= 1;
    }
}

/// Lets what is held up through again when it is dropped.
pub(super) struct Held(Arc<Gate>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state.lock().closed = false;
        self.0.changed.notify_all();
    }
}

impl Held {
    /// Waits until something is held up.
    pub(super) fn wait(&self) {
        let mut state = self.0.state.lock();
        while state.waiting == 0 {
            let waited = self.0.changed.wait_for(&mut state, DEADLINE);
            assert!(!waited.timed_out(), "nobody comes");
        }
    }
}

#[derive(Default)]
struct Inner {
    files: HashMap<u64, FileData>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// Changes of names since the directory was synced.
    name_changes: Vec<NameChange>,
    next_file: u64,
    locked: bool,
    /// Somebody may still write to files that another has cut.
    taken_over: bool,
    /// So many more changes succeed.
    lifetime: Option<u64>,
    /// So many more syncs succeed before one does not.
    good_syncs: Option<u64>,
    /// So many bytes can be allocated.
    space: Option<u64>,
    /// So many more writes find no space, although it was allocated.
    short_writes: u64,
    /// A sync has failed.
    broken: bool,
    /// Everything that was changed, and in which order, as a number.
    history: FxHasher,
}

#[derive(Clone, Hash)]
enum NameChange {
    Add(String, u64),
    Rename(String, String),
    Remove(String),
}

#[derive(Default, Clone)]
struct FileData {
    data: Vec<u8>,
    durable: Vec<u8>,
    /// Changes since the last sync.
    changes: Vec<Change>,
    failed_syncs: u64,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Change {
    fn apply(&self, data: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => {
                let end = offset + bytes.len();
                if data.len() < end {
                    data.resize(end, 0);
                }
                data[*offset..end].copy_from_slice(bytes);
            }
            Self::Truncate(len) => data.truncate(*len),
        }
    }
}

fn rename(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Add(name, file) => {
            names.insert(name.clone(), *file);
        }
        NameChange::Rename(from, to) => {
            let file = names.remove(from).unwrap();
            names.insert(to.clone(), file);
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
    }
}

/// What is left of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crash {
    /// Everything: only the process was killed.
    Process,
    /// Nothing.
    Nothing,
    /// The first changes of each file, the last of them torn.
    Prefix,
    /// Any sectors.
    Sectors,
}

impl Inner {
    fn change(&mut self) -> io::Result<()> {
        match &mut self.lifetime {
            Some(0) => Err(io::Error::other("the power failed")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn rename(&mut self, change: NameChange) -> io::Result<()> {
        self.change()?;
        change.hash(&mut self.history);
        rename(&mut self.names, &change);
        self.name_changes.push(change);
        Ok(())
    }

    fn allocated(&self) -> u64 {
        let lens = self.names.values().map(|file| self.files[file].data.len());
        lens.sum::<usize>() as u64
    }
}

impl FaultyDisk {
    /// After so many more changes the power fails.
    pub(super) fn die_after(&self, changes: u64) {
        self.inner.lock().lifetime = Some(changes);
    }

    /// Nothing fails that was to fail later.
    pub(super) fn get_well(&self) {
        let mut inner = self.inner.lock();
        (inner.lifetime, inner.good_syncs) = (None, None);
    }

    /// The power has failed, or a sync.
    pub(super) fn is_dead(&self) -> bool {
        let inner = self.inner.lock();
        inner.lifetime == Some(0) || inner.broken
    }

    /// So many of the next writes write less than they should and then find no space.
    pub(super) fn cut_writes(&self, writes: u64) {
        self.inner.lock().short_writes = writes;
    }

    /// True if no write is to be cut any more.
    pub(super) fn writes_whole(&self) -> bool {
        self.inner.lock().short_writes == 0
    }

    /// After so many more syncs one fails. As on Linux what it should have made durable never is, and the
    /// next sync says nothing of it.
    pub(super) fn fail_sync_after(&self, syncs: u64) {
        self.inner.lock().good_syncs = Some(syncs);
    }

    /// Holds up every sync from now on.
    pub(super) fn hold_syncs(&self) -> Held {
        self.syncs.close()
    }

    /// Holds up every write from now on.
    pub(super) fn hold_writes(&self) -> Held {
        self.writes.close()
    }

    /// The same disk for another machine, which can take it although this one has not given it back.
    pub(super) fn taken_over(&self) -> Self {
        let mut inner = self.inner.lock();
        inner.locked = false;
        inner.taken_over = true;
        drop(inner);
        Self {
            inner: self.inner.clone(),
            ..Self::default()
        }
    }

    /// So much may be allocated, or as much as asked for.
    pub(super) fn set_space(&self, bytes: Option<u64>) {
        self.inner.lock().space = bytes;
    }

    pub(super) fn allocated(&self) -> u64 {
        self.inner.lock().allocated()
    }

    /// What is found after a crash.
    pub(super) fn crash(&self, crash: Crash, seed: u64) -> Self {
        let inner = match crash {
            Crash::Process => self.killed(),
            _ => self.powerless(crash, seed),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            ..Self::default()
        }
    }

    /// Everything is there, and as little durable as before.
    fn killed(&self) -> Inner {
        let inner = self.inner.lock();
        Inner {
            files: inner.files.clone(),
            names: inner.names.clone(),
            durable_names: inner.durable_names.clone(),
            name_changes: inner.name_changes.clone(),
            next_file: inner.next_file,
            space: inner.space,
            history: inner.history.clone(),
            ..Inner::default()
        }
    }

    fn powerless(&self, crash: Crash, seed: u64) -> Inner {
        let mut random = SmallRng::seed_from_u64(seed);
        let inner = self.inner.lock();
        let mut names = inner.durable_names.clone();
        let kept = match crash {
            Crash::Process | Crash::Nothing => 0,
            Crash::Prefix | Crash::Sectors => random.random_range(0..=inner.name_changes.len()),
        };
        for change in &inner.name_changes[..kept] {
            rename(&mut names, change);
        }
        let mut files = HashMap::new();
        for &number in names.values() {
            let file = &inner.files[&number];
            let mut data = file.durable.clone();
            survive(&mut data, &file.changes, crash, &mut random);
            let durable = data.clone();
            files.insert(
                number,
                FileData {
                    data,
                    durable,
                    ..FileData::default()
                },
            );
        }
        Inner {
            files,
            durable_names: names.clone(),
            names,
            next_file: inner.next_file,
            space: inner.space,
            history: inner.history.clone(),
            ..Inner::default()
        }
    }

    /// All that was ever done to it, as a number.
    pub(super) fn history(&self) -> u64 {
        self.inner.lock().history.finish()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.inner.lock().names.keys().cloned().collect()
    }

    /// The content of a file.
    pub(super) fn content(&self, name: &str) -> Vec<u8> {
        let inner = self.inner.lock();
        inner.files[&inner.names[name]].data.clone()
    }

    /// Changes a file behind the journal's back.
    pub(super) fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.inner.lock();
        let file = inner.names[name];
        let file = inner.files.get_mut(&file).unwrap();
        edit(&mut file.data);
        file.durable = file.data.clone();
        file.changes.clear();
    }

    /// Makes a file of zeros behind the journal's back, for good.
    pub(super) fn make(&self, name: &str, len: u64) {
        drop(self.allocate(name, len).unwrap());
        self.sync_directory().unwrap();
    }

    /// Removes a file behind the journal's back.
    pub(super) fn erase(&self, name: &str) {
        let mut inner = self.inner.lock();
        inner.names.remove(name);
        inner.durable_names.remove(name);
        inner.name_changes.clear();
    }

    /// Puts a file there.
    pub(super) fn plant(&self, name: &str, content: Vec<u8>) {
        let mut inner = self.inner.lock();
        let number = inner.next_file;
        inner.next_file += 1;
        inner.names.insert(name.into(), number);
        inner.durable_names.insert(name.into(), number);
        let file = FileData {
            durable: content.clone(),
            data: content,
            ..FileData::default()
        };
        inner.files.insert(number, file);
    }

    fn file(&self, number: u64) -> Box<dyn DiskFile> {
        let told = self.inner.lock().files[&number].failed_syncs;
        Box::new(FaultyFile {
            disk: self.clone(),
            number,
            told: AtomicU64::new(told),
        })
    }
}

/// Applies what survives of these changes.
fn survive(data: &mut Vec<u8>, changes: &[Change], crash: Crash, random: &mut SmallRng) {
    let kept = match crash {
        Crash::Sectors => changes.len(),
        Crash::Process | Crash::Nothing => 0,
        Crash::Prefix => random.random_range(0..=changes.len()),
    };
    for (index, change) in changes[..kept].iter().enumerate() {
        let torn = crash == Crash::Sectors || index + 1 == kept;
        let Change::Write(offset, bytes) = change else {
            if !torn || random.random() {
                change.apply(data);
            }
            continue;
        };
        if !torn {
            change.apply(data);
            continue;
        }
        if data.len() < offset + bytes.len() {
            data.resize(offset + bytes.len(), 0);
        }
        let whole = random.random_range(0..=bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            let end = ((offset + at) / SECTOR + 1) * SECTOR - offset;
            let end = end.min(bytes.len());
            let kept = match crash {
                Crash::Sectors => random.random(),
                _ => end <= whole,
            };
            if kept {
                data[offset + at..offset + end].copy_from_slice(&bytes[at..end]);
            }
            at = end;
        }
    }
}

impl Disk for FaultyDisk {
    fn lock(&self) -> Result<(), StoreError> {
        match std::mem::replace(&mut self.inner.lock().locked, true) {
            true => Err(StoreError::Locked("lock".into())),
            false => Ok(()),
        }
    }

    fn unlock(&self) {
        self.inner.lock().locked = false;
    }

    fn list(&self) -> io::Result<Vec<String>> {
        step()?;
        Ok(self.names())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        step()?;
        let number = self.inner.lock().names.get(name).copied();
        number
            .map(|number| self.file(number))
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn allocate(&self, name: &str, len: u64) -> io::Result<Box<dyn DiskFile>> {
        step()?;
        let mut inner = self.inner.lock();
        if inner.space.is_some_and(|space| inner.allocated() + len > space) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = inner.next_file;
        inner.next_file += 1;
        let file = FileData {
            data: vec![0; len as usize],
            durable: vec![0; len as usize],
            ..FileData::default()
        };
        inner.files.insert(number, file);
        inner.rename(NameChange::Add(name.into(), number))?;
        drop(inner);
        Ok(self.file(number))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        step()?;
        let mut inner = self.inner.lock();
        if inner.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !inner.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.rename(NameChange::Rename(from.into(), to.into()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        step()?;
        let mut inner = self.inner.lock();
        match inner.names.contains_key(name) {
            true => inner.rename(NameChange::Remove(name.into())),
            false => Ok(()),
        }
    }

    fn free_space(&self) -> io::Result<u64> {
        let inner = self.inner.lock();
        let space = inner.space.unwrap_or(u64::MAX);
        Ok(space.saturating_sub(inner.allocated()))
    }

    fn sync_directory(&self) -> io::Result<()> {
        step()?;
        let mut inner = self.inner.lock();
        inner.change()?;
        inner.durable_names = inner.names.clone();
        inner.name_changes.clear();
        Ok(())
    }
}

struct FaultyFile {
    disk: FaultyDisk,
    number: u64,
    /// How many failed syncs this handle knows of: as on Linux each handle that was open is told of one.
    told: AtomicU64,
}

impl FaultyFile {
    fn with<T>(&self, work: impl FnOnce(&mut FileData) -> T) -> T {
        let mut inner = self.disk.inner.lock();
        work(inner.files.get_mut(&self.number).unwrap())
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut inner = self.disk.inner.lock();
        let alive = inner.change();
        let what = match &change {
            Change::Write(offset, bytes) => (*offset, bytes.len()),
            Change::Truncate(len) => (*len, 0),
        };
        (self.number, what).hash(&mut inner.history);
        drop(inner);
        // What was under way when the power failed may be there or not.
        self.with(|file| {
            change.apply(&mut file.data);
            file.changes.push(change);
        });
        alive
    }
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|file| file.data.len() as u64))
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        step()?;
        self.with(|file| {
            let from = file.data.get(offset as usize..offset as usize + buf.len());
            buf.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let len = self.len()?;
        let taken_over = self.disk.inner.lock().taken_over;
        assert!(
            taken_over || offset + bytes.len() as u64 <= len,
            "a write makes the file longer"
        );
        self.disk.writes.pass();
        let left = self.disk.inner.lock().short_writes.checked_sub(1);
        if let Some(left) = left {
            self.disk.inner.lock().short_writes = left;
            let part = bytes.len() / 2;
            self.change(Change::Write(offset as usize, bytes[..part].to_vec()))?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (first, second) = match is_shared() && bytes.len() > SECTOR {
            true => bytes.split_at(bytes.len() / 2),
            false => (bytes, &[][..]),
        };
        step()?;
        self.change(Change::Write(offset as usize, first.to_vec()))?;
        if !second.is_empty() {
            step()?;
            let offset = offset as usize + first.len();
            self.change(Change::Write(offset, second.to_vec()))?;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.syncs.pass();
        step()?;
        let mut inner = self.disk.inner.lock();
        inner.change()?;
        self.number.hash(&mut inner.history);
        let failed = match &mut inner.good_syncs {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        if failed {
            inner.good_syncs = None;
            inner.broken = true;
        }
        let file = inner.files.get_mut(&self.number).unwrap();
        if failed {
            file.changes.clear();
            file.failed_syncs += 1;
        }
        if self.told.swap(file.failed_syncs, Ordering::SeqCst) < file.failed_syncs {
            return Err(io::Error::other("the disk is broken"));
        }
        for change in std::mem::take(&mut file.changes) {
            change.apply(&mut file.durable);
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        step()?;
        self.change(Change::Truncate(len as usize))
    }
}
