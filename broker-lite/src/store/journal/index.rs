//! What is stored and where it lies: kept in memory, rebuilt by recovery.

use std::collections::VecDeque;
use std::sync::Arc;

use openwire_client::wire::ProducerId;

use super::super::state::{State, initial_redelivered, producer_of};
use super::super::{Batch, Committed, DestinationKey, MessageKey, Op};
use super::frame::Position;
use super::record::Catalog;
use super::segment::Segment;

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
    pub(super) key: MessageKey,
    pub(super) from: Location,
    pub(super) to: Location,
}

/// A segment and what is in use of it.
struct Usage {
    segment: Arc<Segment>,
    /// Where its frames end.
    end: u32,
    messages: u64,
}

/// The stored state and the segments it lies in.
#[derive(Default)]
pub(super) struct Index {
    state: State<Location>,
    /// In order of their numbers, which have no gaps.
    segments: VecDeque<Usage>,
    /// Bytes of frames in all segments.
    used: u64,
    /// Bytes of records of messages that are there.
    live: u64,
}

impl Index {
    pub(super) fn state(&self) -> &State<Location> {
        &self.state
    }

    /// The state and the segment a message lies in.
    pub(super) fn locate(&self, key: MessageKey) -> Option<(Location, &Arc<Segment>)> {
        let location = *self.state.get(key)?;
        let usage = self.segments.get(self.slot(location.segment)?)?;
        Some((location, &usage.segment))
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
        });
    }

    /// The frames of the newest segment reach to here.
    pub(super) fn set_end(&mut self, end: u32) {
        if let Some(newest) = self.segments.back_mut() {
            self.used += u64::from(end) - u64::from(newest.end);
            newest.end = end;
        }
    }

    /// The number of the oldest segment.
    pub(super) fn oldest_number(&self) -> Option<u32> {
        self.segments.front().map(|oldest| oldest.segment.number)
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

    /// Bytes of frames in all segments.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Bytes of records of messages that are there.
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    pub(super) fn put(&mut self, key: MessageKey, location: Location, redelivered: u32) -> bool {
        match self.state.put(key, location, redelivered) {
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

    fn let_go(&mut self, location: Location) {
        self.live -= u64::from(location.length);
        if let Some(usage) = self.usage(location.segment) {
            usage.messages -= 1;
        }
    }

    pub(super) fn remove(&mut self, key: MessageKey) {
        if let Some(old) = self.state.remove(key) {
            self.let_go(old);
        }
    }

    pub(super) fn create_destination(&mut self, key: DestinationKey, name: Arc<str>) {
        self.state.create_destination(key, name);
    }

    pub(super) fn remove_destination(&mut self, key: DestinationKey) {
        for old in self.state.remove_destination(key) {
            self.let_go(old);
        }
    }

    pub(super) fn set_redelivered(&mut self, key: MessageKey, count: u32) {
        self.state.set_redelivered(key, count);
    }

    pub(super) fn set_dispatched(&mut self, destination: DestinationKey, sequence: u64) {
        self.state.set_dispatched(destination, sequence);
    }

    pub(super) fn note_producer(&mut self, producer: &ProducerId, sequence: i64) {
        self.state.audit.note(producer, sequence);
    }

    pub(super) fn note_outcome(&mut self, outcome: Committed, forgotten: i64) {
        self.state.outcomes.note(outcome, forgotten);
    }

    /// A batch is in the log, its messages at these places.
    pub(super) fn apply(&mut self, batch: &Batch, mut locations: impl Iterator<Item = Location>) {
        for op in &batch.ops {
            match op {
                Op::Put { key, message } => {
                    let location = locations.next().expect("the writer noted a place for each put");
                    self.put(*key, location, initial_redelivered(message));
                    if let Some((producer, sequence)) = producer_of(message) {
                        self.note_producer(producer, sequence);
                    }
                }
                Op::Remove { key } => self.remove(*key),
                Op::Redelivered { key, count } => self.set_redelivered(*key, *count),
                Op::Dispatched {
                    destination,
                    sequence,
                } => self.set_dispatched(*destination, *sequence),
                Op::CreateDestination { key, name } => self.create_destination(*key, name.clone()),
                Op::RemoveDestination { key } => self.remove_destination(*key),
                Op::Committed { outcome, forgotten } => self.note_outcome(outcome.clone(), *forgotten),
            }
        }
    }

    /// Copies of messages are in the log. A message that was removed meanwhile stays removed.
    pub(super) fn apply_copies(&mut self, copies: &[Copied]) {
        for copied in copies {
            if let Some(location) = self.state.get_mut(copied.key)
                && *location == copied.from
            {
                *location = copied.to;
                self.take_up(copied.to);
                self.let_go(copied.from);
            }
        }
    }

    /// Takes over what a catalog says.
    pub(super) fn restore(&mut self, catalog: Catalog) {
        self.state.next_sequence = catalog.next_sequence;
        self.state.next_destination = catalog.next_destination;
        for (key, name, dispatched) in catalog.destinations {
            self.state.create_destination(key, name);
            self.state.set_dispatched(key, dispatched);
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
            oldest: self.oldest_number().unwrap_or(0),
            next_sequence: self.state.next_sequence,
            next_destination: self.state.next_destination,
            destinations: self
                .state
                .destinations()
                .map(|(key, stored)| (key, stored.name.clone(), stored.dispatched))
                .collect(),
            producers: self.state.audit.recent(),
            forgotten: self.state.outcomes.forgotten(),
            committed: self.state.outcomes.known().cloned().collect(),
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
