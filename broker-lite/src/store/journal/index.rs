//! What is stored and where it lies: kept in memory, rebuilt by recovery.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use openwire_client::wire::ProducerId;
use rustc_hash::FxHashMap;

use super::super::state::{Counter, State, initial_redelivered, producer_of};
use super::super::{Batch, Committed, DestinationKey, MessageKey, Op, Prepared, StoredDestination};
use super::catalog::{Catalog, Cataloged};
use super::epoch::Epoch;
use super::frame::Position;
use super::record::{DUE_LEN, REDELIVERED_LEN, SHARE_LEN, encode_due, encode_redelivered, encode_share};
use super::segment::Segment;
use super::shares::Shares;

/// Where the record of a message lies. There is one for each message, so its size counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) segment: u32,
    pub(super) offset: u32,
    /// Bytes of the record.
    pub(super) length: u32,
    /// The accounting size of the message.
    pub(super) size: u32,
}

impl Location {
    /// The same record after its frame, from whose begin the offset was counted, has got its place.
    pub(super) fn moved_to(self, frame: Position) -> Self {
        Self {
            segment: frame.segment,
            offset: frame.offset + self.offset,
            ..self
        }
    }
}

/// A message that was copied forward.
#[derive(Debug)]
pub(super) struct Copied {
    /// The key of the copy.
    pub(super) key: MessageKey,
    /// Where the message lies as well.
    pub(super) others: Vec<MessageKey>,
    pub(super) from: Location,
    pub(super) to: Location,
}

/// A message whose record is needed.
#[derive(Debug)]
pub(super) struct Survivor {
    /// Where it lies: the key of its next copy.
    pub(super) key: MessageKey,
    /// Where it lies as well.
    pub(super) others: Vec<MessageKey>,
    pub(super) location: Location,
}

/// A segment and what is in use of it.
struct Usage {
    segment: Arc<Segment>,
    /// Where its frames end.
    end: u32,
    /// Records of messages that are there, at one key or several.
    messages: u64,
    /// Of the records that do not lie just at the key they were put with, who refers to them, by their offset.
    shared: FxHashMap<u32, Shares>,
}

/// The stored state and the segments it lies in.
#[derive(Default)]
pub(super) struct Index {
    state: State<Location>,
    /// In order of their numbers, which have no gaps.
    segments: VecDeque<Usage>,
    /// Bytes of frames in all segments.
    used: u64,
    /// Bytes of records of messages that are there, and of what says where else they lie.
    live: u64,
    /// Who writes now.
    epoch: Epoch,
}

impl Index {
    /// What is written from here on is written in this epoch.
    pub(super) fn begin_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    pub(super) fn state(&self) -> &State<Location> {
        &self.state
    }

    /// Where a message lies, in which segment, and the key in its record.
    pub(super) fn locate(&self, key: MessageKey) -> Option<(Location, &Arc<Segment>, MessageKey)> {
        let location = *self.state.get(key)?;
        let usage = self.segments.get(self.slot(location.segment)?)?;
        let shares = usage.shared.get(&location.offset);
        Some((location, &usage.segment, shares.map_or(key, Shares::own)))
    }

    /// Where the message lies whose record, with the key `own`, stands in this segment at this offset: the
    /// first of the keys becomes that of a copy. None if it is gone.
    pub(super) fn survivor(&self, own: MessageKey, segment: u32, offset: u32) -> Option<Survivor> {
        let lies_here = |key: MessageKey| {
            let location = self.state.get(key)?;
            (location.segment == segment && location.offset == offset).then_some(*location)
        };
        let usage = self.segments.get(self.slot(segment)?)?;
        let (key, others) = match usage.shared.get(&offset) {
            None => (own, Vec::new()),
            Some(shares) => {
                let mut keys = shares.keys(|key| lies_here(key).is_some()).into_iter();
                (keys.next()?, keys.collect())
            }
        };
        let location = lies_here(key)?;
        Some(Survivor {
            key,
            others,
            location,
        })
    }

    /// Appends where else a message lies whose copy was appended, and what is kept beside it.
    pub(super) fn encode_beside(&self, survivor: &Survivor, initial: u32, out: &mut BytesMut) {
        for &other in &survivor.others {
            encode_share(other, survivor.key, out);
        }
        for &key in std::iter::once(&survivor.key).chain(&survivor.others) {
            let now = self.state.counter(key).now;
            if now != initial {
                encode_redelivered(key, now, out);
            }
            if let Some((at, times)) = self.state.due(key) {
                encode_due(key, at, times, out);
            }
        }
    }

    fn slot(&self, segment: u32) -> Option<usize> {
        let first = self.segments.front()?.segment.number;
        segment.checked_sub(first).map(|slot| slot as usize)
    }

    fn usage(&mut self, segment: u32) -> Option<&mut Usage> {
        let slot = self.slot(segment)?;
        self.segments.get_mut(slot)
    }

    /// The segments with this number and higher ones.
    pub(super) fn segments_from(&self, number: u32) -> Vec<Arc<Segment>> {
        let segments = self.segments.iter().map(|usage| &usage.segment);
        segments
            .filter(|segment| segment.number >= number)
            .cloned()
            .collect()
    }

    /// The segment that is written to.
    pub(super) fn newest_mut(&mut self) -> Option<&mut Arc<Segment>> {
        self.segments.back_mut().map(|newest| &mut newest.segment)
    }

    /// Bytes of the segments on disk.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.segments.iter().map(|usage| usage.segment.len).sum()
    }

    /// The log goes on in this segment, whose number is the next.
    pub(super) fn add_segment(&mut self, segment: Arc<Segment>) {
        self.segments.push_back(Usage {
            segment,
            end: 0,
            messages: 0,
            shared: FxHashMap::default(),
        });
    }

    /// The frames of the newest segment reach to here.
    pub(super) fn set_end(&mut self, end: u32) {
        if let Some(newest) = self.segments.back_mut() {
            self.used += u64::from(end) - u64::from(newest.end);
            newest.end = end;
        }
    }

    /// The segments, each with where its frames end and how many records of it are needed, the oldest first.
    pub(super) fn usages(&self) -> impl Iterator<Item = (&Segment, u32, u64)> {
        let usages = self.segments.iter();
        usages.map(|usage| (&*usage.segment, usage.end, usage.messages))
    }

    /// The number of the oldest segment.
    pub(super) fn oldest_number(&self) -> Option<u32> {
        self.segments.front().map(|oldest| oldest.segment.number)
    }

    /// The number of the segment that is written to.
    pub(super) fn newest_number(&self) -> Option<u32> {
        self.segments.back().map(|newest| newest.segment.number)
    }

    /// The oldest segment, and where its frames end, unless it is the one that is written to.
    pub(super) fn oldest(&self) -> Option<(&Arc<Segment>, u32)> {
        let oldest = self.segments.front().filter(|_| self.segments.len() > 1)?;
        Some((&oldest.segment, oldest.end))
    }

    /// True if the oldest segment holds nothing that is needed.
    pub(super) fn can_reclaim(&self) -> bool {
        self.segments.len() > 1 && self.segments.front().is_some_and(|oldest| oldest.messages == 0)
    }

    /// Takes the oldest segment out if it holds nothing that is needed.
    pub(super) fn reclaim(&mut self) -> Option<Arc<Segment>> {
        if !self.can_reclaim() {
            return None;
        }
        let usage = self.segments.pop_front()?;
        self.used -= u64::from(usage.end);
        Some(usage.segment)
    }

    /// Where the frames of a segment end.
    pub(super) fn end_of(&self, segment: u32) -> u32 {
        let usage = self.slot(segment).and_then(|slot| self.segments.get(slot));
        usage.map_or(0, |usage| usage.end)
    }

    /// How many segments there are.
    pub(super) fn segments(&self) -> u64 {
        self.segments.len() as u64
    }

    /// Bytes of frames in all segments.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Bytes that copies of all that is there would take.
    pub(super) fn live(&self) -> u64 {
        let (counters, due) = self.state.marks();
        self.live + counters * REDELIVERED_LEN as u64 + due * DUE_LEN as u64
    }

    pub(super) fn put(&mut self, key: MessageKey, location: Location, redelivered: u32) -> bool {
        match self.state.put(key, location, Counter::starting(redelivered)) {
            Ok(old) => {
                self.take_up(location);
                if let Some(old) = old {
                    self.let_go(old);
                }
                true
            }
            Err(_) => false,
        }
    }

    fn take_up(&mut self, location: Location) {
        self.live += u64::from(location.length);
        if let Some(usage) = self.usage(location.segment) {
            usage.messages += 1;
        }
    }

    /// A key does not refer to this record any more.
    fn let_go(&mut self, location: Location) {
        let Some(usage) = self
            .slot(location.segment)
            .and_then(|slot| self.segments.get_mut(slot))
        else {
            return;
        };
        if !usage.shared.is_empty()
            && let Some(shares) = usage.shared.get_mut(&location.offset)
        {
            if shares.let_go(|key| self.state.get(key) == Some(&location)) {
                self.live -= SHARE_LEN as u64;
                return;
            }
            usage.shared.remove(&location.offset);
        }
        self.live -= u64::from(location.length);
        usage.messages -= 1;
    }

    /// The record at this place, which lies at `of`, lies at `key` as well.
    fn refer(&mut self, location: Location, of: MessageKey, key: MessageKey) {
        if let Some(usage) = self.usage(location.segment) {
            let shares = usage.shared.entry(location.offset);
            shares.or_insert_with(|| Shares::of(of)).add(key);
            self.live += SHARE_LEN as u64;
        }
    }

    pub(super) fn remove(&mut self, key: MessageKey) {
        if let Some(old) = self.state.remove(key) {
            self.let_go(old);
        }
    }

    /// The message at `of` lies at `key` as well. False if there is none.
    fn share(&mut self, key: MessageKey, of: MessageKey) -> bool {
        let Some(shared) = self.state.share(key, of) else {
            return false;
        };
        self.refer(shared.message, of, key);
        if let Some(old) = shared.replaced {
            self.let_go(old);
        }
        true
    }

    /// The message at `from` lies at `to` instead. False if there is none.
    fn move_to(&mut self, from: MessageKey, to: MessageKey) -> bool {
        let Some(moved) = self.state.move_to(from, to) else {
            return false;
        };
        self.refer(moved.message, from, to);
        // For the key it does not lie at any more.
        self.let_go(moved.message);
        if let Some(old) = moved.replaced {
            self.let_go(old);
        }
        true
    }

    /// The log says that the message at `of` lies at `key` as well. The record of that message may have gone
    /// since with its segment: then there is a copy later on, or it was removed from both; but what lay at `key`
    /// before was replaced all the same.
    pub(super) fn replay_share(&mut self, key: MessageKey, of: MessageKey) {
        self.state.used(key.sequence);
        if !self.share(key, of) {
            self.remove(key);
        }
    }

    /// The log says that the message at `from` was moved to `to`, and who sent it if that counts from here on.
    /// Its record may be gone as with [`replay_share`](Self::replay_share).
    pub(super) fn replay_move(&mut self, from: MessageKey, to: MessageKey, sent: Option<(ProducerId, i64)>) {
        self.state.used(to.sequence);
        if !self.move_to(from, to) {
            if let Some((producer, sequence)) = sent {
                self.state.audit.note(&producer, sequence);
            }
            self.remove(to);
        }
    }

    pub(super) fn create_destination(&mut self, key: DestinationKey, destination: StoredDestination) {
        self.state.create_destination(key, destination);
    }

    pub(super) fn remove_destination(&mut self, key: DestinationKey) {
        for old in self.state.remove_destination(key) {
            self.let_go(old);
        }
    }

    /// False if there is no such destination.
    pub(super) fn prepare(&mut self, key: DestinationKey, prepared: Arc<Prepared>) -> bool {
        self.state.prepare(key, prepared)
    }

    pub(super) fn set_redelivered(&mut self, key: MessageKey, count: u32) {
        self.state.set_redelivered(key, count);
    }

    pub(super) fn set_due(&mut self, key: MessageKey, at: i64, times: u32) {
        self.state.set_due(key, at, times);
    }

    pub(super) fn set_dispatched(&mut self, destination: DestinationKey, sequence: u64) {
        self.state.set_dispatched(destination, sequence);
    }

    /// Who sent a message that was put. One that was `copied` arrived before: it counts only if its transaction
    /// is still to be committed.
    pub(super) fn note_sender(
        &mut self,
        key: MessageKey,
        producer: &ProducerId,
        sequence: i64,
        copied: bool,
    ) {
        let in_transaction =
            || self.state.destination(key.destination) == Some(&StoredDestination::Transaction);
        if !copied || in_transaction() {
            self.state.note_sender(key, producer, sequence);
        }
    }

    pub(super) fn note_outcome(&mut self, outcome: Committed, forgotten: i64) {
        self.state.outcomes.note(outcome, forgotten);
    }

    /// The transactions that were not prepared end, and their messages go. Says which they were.
    pub(super) fn drop_unprepared(&mut self) -> Vec<DestinationKey> {
        let unprepared = self.state.unprepared();
        for key in &unprepared {
            self.remove_destination(*key);
        }
        unprepared
    }

    /// A batch is in the log, its messages at these places.
    pub(super) fn apply(&mut self, batch: &Batch, mut locations: impl Iterator<Item = Location>) {
        for op in &batch.ops {
            match op {
                Op::Put { key, message } => {
                    let location = locations.next().expect("the writer noted a place for each put");
                    self.put(*key, location, initial_redelivered(message));
                    if let Some((producer, sequence)) = producer_of(message) {
                        self.note_sender(*key, producer, sequence, false);
                    }
                }
                Op::Remove { key } => self.remove(*key),
                Op::Redelivered { key, count } => self.set_redelivered(*key, *count),
                Op::Dispatched {
                    destination,
                    sequence,
                } => self.set_dispatched(*destination, *sequence),
                Op::CreateDestination { key, destination } => {
                    self.create_destination(*key, destination.clone());
                }
                Op::RemoveDestination { key } => self.remove_destination(*key),
                Op::Committed { outcome, forgotten } => self.note_outcome(outcome.clone(), *forgotten),
                Op::Share { key, of } => {
                    self.share(*key, *of);
                }
                Op::Move { from, to } => {
                    self.move_to(*from, *to);
                }
                Op::Prepare {
                    destination,
                    prepared,
                } => {
                    self.prepare(*destination, prepared.clone());
                }
                Op::Due { key, at, times } => self.set_due(*key, *at, *times),
            }
        }
    }

    /// Copies of messages are in the log. A message that was removed meanwhile stays removed.
    pub(super) fn apply_copies(&mut self, copies: &[Copied]) {
        for copied in copies {
            let mut first = None;
            for &key in std::iter::once(&copied.key).chain(&copied.others) {
                let Some(location) = self.state.get_mut(key) else {
                    continue;
                };
                if *location != copied.from {
                    continue;
                }
                *location = copied.to;
                match first {
                    None => {
                        self.take_up(copied.to);
                        first = Some(key);
                    }
                    Some(first) => self.refer(copied.to, first, key),
                }
                self.let_go(copied.from);
            }
        }
    }

    /// Takes over what a catalog says.
    pub(super) fn restore(&mut self, catalog: Catalog) {
        self.state.next_sequence = catalog.next_sequence;
        self.state.next_destination = catalog.next_destination;
        for cataloged in catalog.destinations {
            let key = cataloged.key;
            self.state.create_destination(key, cataloged.destination);
            self.state.set_dispatched(key, cataloged.dispatched);
            if let Some(prepared) = cataloged.prepared {
                self.state.prepare(key, prepared);
            }
        }
        for (producer, sequence) in &catalog.producers {
            self.state.audit.note(producer, *sequence);
        }
        for outcome in catalog.committed {
            self.state.outcomes.note(outcome, catalog.forgotten);
        }
        self.state.outcomes.forget(catalog.forgotten);
    }

    /// What the next segment has to begin with.
    pub(super) fn catalog(&self) -> Catalog {
        Catalog {
            epoch: self.epoch,
            oldest: self.oldest_number().unwrap_or(0),
            next_sequence: self.state.next_sequence,
            next_destination: self.state.next_destination,
            destinations: self
                .state
                .destinations()
                .map(|(key, stored)| Cataloged {
                    key,
                    destination: stored.destination.clone(),
                    dispatched: stored.dispatched,
                    prepared: stored.prepared.clone(),
                })
                .collect(),
            producers: self.state.audit.recent(),
            forgotten: self.state.outcomes.forgotten(),
            committed: self.state.outcomes.known().cloned().collect(),
        }
    }
}

#[cfg(test)]
impl Index {
    /// Counts everything anew and compares.
    pub(super) fn check(&self) {
        let mut records: FxHashMap<(u32, u32), (Location, u64)> = FxHashMap::default();
        for (key, location) in self.state.all() {
            let found = records
                .entry((location.segment, location.offset))
                .or_insert((*location, 0));
            assert_eq!(found.0, *location);
            found.1 += 1;
            let survivor = self
                .locate(key)
                .and_then(|(location, _, own)| self.survivor(own, location.segment, location.offset));
            let survivor = survivor.expect("what is there is found");
            assert!(survivor.key == key || survivor.others.contains(&key));
        }
        let live = records
            .values()
            .map(|(location, keys)| u64::from(location.length) + (keys - 1) * SHARE_LEN as u64);
        assert_eq!(self.live, live.sum::<u64>());
        for usage in &self.segments {
            let number = usage.segment.number;
            let here = records.keys().filter(|(segment, _)| *segment == number);
            assert_eq!(usage.messages, here.count() as u64, "in segment {number}");
            for offset in usage.shared.keys() {
                assert!(records.contains_key(&(number, *offset)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_small() {
        assert!(size_of::<Location>() <= 16);
    }
}
