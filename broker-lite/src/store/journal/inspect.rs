//! Looking at a journal that no broker has open, without changing it.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::{DestinationKey, MessageKey, Recovered, StoreError, StoredDestination, identity};
use super::disk::{Directory, Disk};
use super::frame::Position;
use super::index::Location;
use super::reader::{self, Answers};
use super::recovery::{Ending, recover};
use super::segment::{segment_name, segment_number};
use super::shared::Shared;

/// Messages that are read at a time.
const AT_ONCE: usize = 256;

/// A journal that is looked at. It is locked meanwhile, so that no broker starts on it.
pub(crate) struct Inspection {
    directory: Directory,
    shared: Shared,
    recovered: Recovered,
    /// The records of messages in each segment, whether or not they are needed.
    records: BTreeMap<u32, u64>,
    leftovers: Vec<String>,
    end: Position,
    ending: Ending,
}

/// A segment of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentReport {
    pub(crate) number: u32,
    pub(crate) name: String,
    /// The mastership that wrote it; 0 before there were any.
    pub(crate) epoch: u64,
    /// Bytes on disk.
    pub(crate) disk_bytes: u64,
    /// Bytes of its frames.
    pub(crate) used_bytes: u64,
    /// Bytes of records of messages that are there still.
    pub(crate) live_bytes: u64,
    /// Records of messages.
    pub(crate) records: u64,
    /// How many of them are of messages that are there still.
    pub(crate) live_records: u64,
}

/// The messages of one destination that keep a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) key: DestinationKey,
    pub(crate) destination: StoredDestination,
    pub(crate) sequences: Vec<u64>,
}

/// A message and where else it lies.
pub(crate) struct Group {
    /// The key that stands for the record: one of a transaction if there is one, since nothing is shared onto it.
    pub(crate) first: MessageKey,
    pub(crate) others: Vec<MessageKey>,
}

impl Drop for Inspection {
    fn drop(&mut self) {
        self.directory.unlock();
    }
}

impl Inspection {
    /// Reads the log of the journal in a directory. Blocks as long as that takes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] if a process has it open, [`StoreError::Damaged`] with the first place at which something
    /// that was durable cannot be read, [`StoreError::Refused`] if there is no journal.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let directory = Directory::existing(dir)?;
        if !holds_journal(&directory)? {
            return Err(StoreError::Refused(format!("{} holds no journal", dir.display())));
        }
        directory.lock()?;
        let mut recovery = match recover(&directory) {
            Ok(recovery) => recovery,
            Err(error) => {
                directory.unlock();
                return Err(error);
            }
        };
        recovery.index.drop_unprepared();
        let state = recovery.index.state();
        let recovered = state.recovered(
            recovery.journal.map_or_else(Default::default, identity),
            recovery.ending == Ending::Closed,
            |location| recovery.header(location),
        );
        Ok(Self {
            directory,
            recovered,
            records: recovery.records,
            leftovers: recovery.leftovers,
            end: recovery.end,
            ending: recovery.ending,
            shared: Shared::new(recovery.index, recovery.end, 0, None),
        })
    }

    /// What a broker would find.
    pub(crate) fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Files that look like segments and are not part of the log: the next opener removes them.
    pub(crate) fn leftovers(&self) -> &[String] {
        &self.leftovers
    }

    /// Where the log ends, and whether somebody was writing there when it ended.
    pub(crate) fn end(&self) -> (String, u32, bool) {
        let name = segment_name(self.end.segment);
        (name, self.end.offset, self.ending == Ending::Open)
    }

    /// The segments, the oldest first.
    pub(crate) fn segments(&self) -> Vec<SegmentReport> {
        let index = self.shared.index.lock();
        let mut live: BTreeMap<u32, u64> = BTreeMap::new();
        let mut last = None;
        for (location, _) in self.places(|key| index.state().get(key).copied()) {
            // A record that lies at several keys is there once.
            let place = (location.segment, location.offset);
            if last.replace(place) != Some(place) {
                *live.entry(location.segment).or_default() += u64::from(location.length);
            }
        }
        let usages = index.usages();
        usages
            .map(|(segment, used, live_records)| SegmentReport {
                number: segment.number,
                name: segment.name(),
                epoch: segment.epoch,
                disk_bytes: segment.len,
                used_bytes: used.into(),
                live_bytes: live.get(&segment.number).copied().unwrap_or(0),
                records: self.records.get(&segment.number).copied().unwrap_or(0),
                live_records,
            })
            .collect()
    }

    /// Whose messages keep a segment; none if there is no such segment.
    pub(crate) fn holders(&self, segment: u32) -> Option<Vec<Holder>> {
        let index = self.shared.index.lock();
        index.usages().find(|(found, ..)| found.number == segment)?;
        let here = |key: MessageKey| {
            let location = index.state().get(key);
            location.is_some_and(|location| location.segment == segment)
        };
        let destinations = self.recovered.destinations.iter();
        let holders = destinations.filter_map(|found| {
            let sequences: Vec<u64> = found
                .messages
                .iter()
                .map(|message| message.sequence)
                .filter(|&sequence| {
                    here(MessageKey {
                        destination: found.key,
                        sequence,
                    })
                })
                .collect();
            (!sequences.is_empty()).then(|| Holder {
                key: found.key,
                destination: found.destination.clone(),
                sequences,
            })
        });
        Some(holders.collect())
    }

    /// All messages, each with all the keys it lies at, in the order in which they lie in the log.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let transactions: Vec<_> = self
            .recovered
            .destinations
            .iter()
            .filter(|found| found.destination == StoredDestination::Transaction)
            .map(|found| found.key)
            .collect();
        let index = self.shared.index.lock();
        let places = self.places(|key| index.state().get(key).copied());
        drop(index);
        let same = places.chunk_by(|(one, _), (other, _)| one == other);
        same.filter_map(|places| {
            let mut keys: Vec<_> = places.iter().map(|(_, key)| *key).collect();
            keys.sort_unstable_by_key(|key| (!transactions.contains(&key.destination), *key));
            let mut keys = keys.into_iter();
            Some(Group {
                first: keys.next()?,
                others: keys.collect(),
            })
        })
        .collect()
    }

    /// Where all messages lie, in the order of the log.
    fn places(&self, locate: impl Fn(MessageKey) -> Option<Location>) -> Vec<(Location, MessageKey)> {
        let destinations = self.recovered.destinations.iter();
        let mut places: Vec<_> = destinations
            .flat_map(|found| {
                found.messages.iter().map(|message| MessageKey {
                    destination: found.key,
                    sequence: message.sequence,
                })
            })
            .filter_map(|key| Some((locate(key)?, key)))
            .collect();
        places.sort_unstable_by_key(|(location, key)| (location.segment, location.offset, *key));
        places
    }

    /// Reads messages.
    pub(crate) fn load(&self, keys: &[MessageKey]) -> Result<Answers, StoreError> {
        reader::load(&self.shared, keys)
    }

    /// Reads every message and gives how many there are; the log itself was read already.
    pub(crate) fn read_all(&self) -> Result<u64, StoreError> {
        let keys: Vec<_> = self.groups().iter().map(|group| group.first).collect();
        for keys in keys.chunks(AT_ONCE) {
            self.load(keys)?;
        }
        Ok(keys.len() as u64)
    }
}

/// True if the directory holds segments of a journal; false also if it is missing.
pub(crate) fn is_journal(dir: &Path) -> Result<bool, StoreError> {
    match dir.is_dir() {
        true => holds_journal(&Directory::existing(dir)?),
        false => Ok(false),
    }
}

fn holds_journal(directory: &Directory) -> Result<bool, StoreError> {
    let names = directory.list();
    let names = names.map_err(|error| StoreError::Io(format!("the journal's directory: {error}")))?;
    Ok(names.iter().any(|name| segment_number(name).is_some()))
}
