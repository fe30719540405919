//! What waits on a queue, in the order in which it is to be delivered.
//!
//! Messages come at the end and mostly leave at the front, but a selector takes them from anywhere and a consumer that
//! ends puts them back to where they were. So they lie in chunks: finding a place costs the logarithm of the depth, and
//! taking or putting one moves no more than a chunk.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::queue::Entry;

/// Messages in a chunk: moving half of them must cost little, and there must be few chunks to search.
const CHUNK: usize = 256;

/// JMS priorities are 0 to 9.
const PRIORITIES: u8 = 10;

/// Where a message stands in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// 0 is delivered first. Always 0 in a queue that does not heed priorities.
    level: u8,
    sequence: u64,
}

impl Place {
    /// Before every message.
    pub(super) const START: Self = Self {
        level: 0,
        sequence: 0,
    };

    /// The next place there is, whether or not there is a message.
    pub(super) fn next(self) -> Self {
        Self {
            sequence: self.sequence + 1,
            ..self
        }
    }
}

/// The messages of a queue that are with no consumer.
#[derive(Debug)]
pub(super) struct Backlog {
    /// One, or one for each priority, the highest first.
    levels: Vec<Level>,
    len: usize,
}

#[derive(Debug, Default)]
struct Level {
    /// None of them empty, in order of their sequences.
    chunks: VecDeque<VecDeque<Entry>>,
}

impl Backlog {
    /// An empty one; with `priorities`, messages of higher priority stand before those of lower ones.
    pub(super) fn new(priorities: bool) -> Self {
        let levels = if priorities { PRIORITIES } else { 1 };
        Self {
            levels: (0..levels).map(|_| Level::default()).collect(),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where a message stands or would stand.
    pub(super) fn place(&self, entry: &Entry) -> Place {
        let level = match self.levels.len() {
            1 => 0,
            _ => PRIORITIES - 1 - entry.priority.min(PRIORITIES - 1),
        };
        Place {
            level,
            sequence: entry.sequence,
        }
    }

    /// Puts a message where it belongs. One whose sequence is there already is not put twice.
    pub(super) fn insert(&mut self, entry: Entry) -> Place {
        let place = self.place(&entry);
        if self.levels[usize::from(place.level)].insert(entry) {
            self.len += 1;
        }
        place
    }

    /// The first message at this place or behind it.
    pub(super) fn first_from(&self, place: Place) -> Option<(Place, &Entry)> {
        self.iter_from(place).next()
    }

    pub(super) fn get(&self, place: Place) -> Option<&Entry> {
        let level = &self.levels[usize::from(place.level)];
        let (chunk, at) = level.find(place.sequence).ok()?;
        Some(&level.chunks[chunk][at])
    }

    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut Entry> {
        let level = &mut self.levels[usize::from(place.level)];
        let (chunk, at) = level.find(place.sequence).ok()?;
        Some(&mut level.chunks[chunk][at])
    }

    pub(super) fn remove(&mut self, place: Place) -> Option<Entry> {
        let entry = self.levels[usize::from(place.level)].remove(place.sequence)?;
        self.len -= 1;
        Some(entry)
    }

    /// Where the message with this sequence stands.
    pub(super) fn find(&self, sequence: u64) -> Option<Place> {
        (0..self.levels.len() as u8)
            .map(|level| Place { level, sequence })
            .find(|place| self.get(*place).is_some())
    }

    /// All messages from this place on, in order. To skip many costs little.
    pub(super) fn iter_from(&self, place: Place) -> Iter<'_> {
        let (chunk, at) = match self.levels.get(usize::from(place.level)) {
            Some(level) => level.find(place.sequence).unwrap_or_else(|at| at),
            None => (0, 0),
        };
        Iter {
            levels: &self.levels,
            level: place.level,
            chunk,
            at,
        }
    }

    /// The places of the messages with sequences from `first` to `last`.
    pub(super) fn between(&self, first: u64, last: u64) -> Vec<Place> {
        let levels = 0..self.levels.len() as u8;
        let found = levels.flat_map(|level| {
            let sequence = first;
            self.iter_from(Place { level, sequence })
                .map(|(place, _)| place)
                .take_while(move |place| place.level == level && place.sequence <= last)
        });
        found.collect()
    }

    /// Takes everything out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry> + use<> {
        self.len = 0;
        let levels: Vec<_> = self.levels.iter_mut().map(std::mem::take).collect();
        levels
            .into_iter()
            .flat_map(|level| level.chunks.into_iter().flatten())
    }
}

/// Messages of a backlog in order.
#[derive(Debug, Clone)]
pub(super) struct Iter<'a> {
    levels: &'a [Level],
    level: u8,
    chunk: usize,
    at: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Place, &'a Entry);

    fn next(&mut self) -> Option<Self::Item> {
        self.nth(0)
    }

    fn nth(&mut self, mut skipped: usize) -> Option<Self::Item> {
        loop {
            let level = self.levels.get(usize::from(self.level))?;
            let Some(chunk) = level.chunks.get(self.chunk) else {
                self.level += 1;
                (self.chunk, self.at) = (0, 0);
                continue;
            };
            if let Some(entry) = chunk.get(self.at + skipped) {
                self.at += skipped + 1;
                let place = Place {
                    level: self.level,
                    sequence: entry.sequence,
                };
                return Some((place, entry));
            }
            skipped -= chunk.len().saturating_sub(self.at);
            self.chunk += 1;
            self.at = 0;
        }
    }
}

impl Level {
    /// Chunk and position of a sequence, or where it would stand.
    fn find(&self, sequence: u64) -> Result<(usize, usize), (usize, usize)> {
        // Who asks mostly asks for the first, or what is behind the last.
        let Some(first) = self.chunks.front() else {
            return Err((0, 0));
        };
        match first[0].sequence.cmp(&sequence) {
            Ordering::Greater => return Err((0, 0)),
            Ordering::Equal => return Ok((0, 0)),
            Ordering::Less => {}
        }
        let last = &self.chunks[self.chunks.len() - 1];
        if last[last.len() - 1].sequence < sequence {
            return Err((self.chunks.len() - 1, last.len()));
        }
        let chunk = match self.chunks.len() {
            1 => 0,
            _ => self.chunks.partition_point(|chunk| chunk[0].sequence <= sequence) - 1,
        };
        match self.chunks[chunk].binary_search_by_key(&sequence, |entry| entry.sequence) {
            Ok(at) => Ok((chunk, at)),
            Err(at) => Err((chunk, at)),
        }
    }

    fn insert(&mut self, entry: Entry) -> bool {
        match self.chunks.back_mut() {
            Some(last) if last.back().is_some_and(|newest| newest.sequence < entry.sequence) => {
                if last.len() < CHUNK {
                    last.push_back(entry);
                } else {
                    self.chunks.push_back(VecDeque::from([entry]));
                }
                return true;
            }
            Some(_) => {}
            None => {
                self.chunks.push_back(VecDeque::from([entry]));
                return true;
            }
        }
        let Err((chunk, at)) = self.find(entry.sequence) else {
            return false;
        };
        if at == 0 && self.chunks[chunk].len() >= CHUNK {
            self.chunks.insert(chunk, VecDeque::from([entry]));
            return true;
        }
        let messages = &mut self.chunks[chunk];
        messages.insert(at, entry);
        if messages.len() > 2 * CHUNK {
            let rest = messages.split_off(CHUNK);
            self.chunks.insert(chunk + 1, rest);
        }
        true
    }

    fn remove(&mut self, sequence: u64) -> Option<Entry> {
        let (chunk, at) = self.find(sequence).ok()?;
        let messages = &mut self.chunks[chunk];
        let entry = messages.remove(at);
        let left = messages.len();
        if left == 0 {
            self.chunks.remove(chunk);
        } else if chunk > 0 && left < CHUNK / 4 && self.chunks[chunk - 1].len() + left <= CHUNK {
            // What a selector leaves behind must not keep a chunk for a few messages each.
            if let Some(mut rest) = self.chunks.remove(chunk) {
                self.chunks[chunk - 1].append(&mut rest);
            }
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::core::spool::Spooled;

    fn entry(sequence: u64, priority: u8) -> Entry {
        Entry {
            sequence,
            size: 1,
            redelivered: 0,
            stored: false,
            tied: false,
            spooled: Spooled::No,
            priority,
            body: None,
        }
    }

    fn sequences(backlog: &Backlog) -> Vec<u64> {
        backlog
            .iter_from(Place::START)
            .map(|(_, entry)| entry.sequence)
            .collect()
    }

    #[test]
    fn what_comes_back_stands_where_it_stood() {
        let mut backlog = Backlog::new(false);
        for sequence in [10, 12, 14, 5, 3, 13, 4, 20, 4] {
            backlog.insert(entry(sequence, 4));
        }
        assert_eq!(sequences(&backlog), [3, 4, 5, 10, 12, 13, 14, 20]);
        assert_eq!(backlog.len(), 8);
    }

    #[test]
    fn higher_priorities_stand_first() {
        let mut backlog = Backlog::new(true);
        for (sequence, priority) in [(1, 4), (2, 9), (3, 0), (4, 4), (5, 77)] {
            backlog.insert(entry(sequence, priority));
        }
        assert_eq!(sequences(&backlog), [2, 5, 1, 4, 3]);
        let behind = backlog.first_from(backlog.find(5).unwrap().next()).unwrap();
        assert_eq!(behind.1.sequence, 1);
        assert_eq!(backlog.between(3, 4).len(), 2);
    }

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 32);
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map(steps in proptest::collection::vec((0..3u8, 0..2000u64, 0..10u8), 1..3000), priorities: bool) {
            let mut backlog = Backlog::new(priorities);
            let mut model = BTreeMap::new();
            let mut end = 2000;
            for (step, sequence, priority) in steps {
                match step {
                    0 => {
                        end += 1;
                        let place = backlog.insert(entry(end, priority));
                        model.insert(place, end);
                    }
                    1 => {
                        let place = backlog.insert(entry(sequence, (sequence % 10) as u8));
                        model.insert(place, sequence);
                    }
                    _ => {
                        let at = backlog.first_from(Place { level: 0, sequence }).map(|(place, _)| place);
                        let expected = model.range(Place { level: 0, sequence }..).next().map(|(place, _)| *place);
                        prop_assert_eq!(at, expected);
                        if let Some(place) = at {
                            prop_assert_eq!(backlog.remove(place).map(|entry| entry.sequence), model.remove(&place));
                        }
                    }
                }
                prop_assert_eq!(backlog.len(), model.len());
            }
            let expected: Vec<_> = model.into_values().collect();
            for skipped in [0, 1, 255, 256, 257, 600, expected.len()] {
                let mut rest = backlog.iter_from(Place::START);
                prop_assert_eq!(rest.nth(skipped).map(|(_, entry)| entry.sequence), expected.get(skipped).copied());
                prop_assert_eq!(rest.count(), expected.len().saturating_sub(skipped + 1));
            }
            prop_assert_eq!(sequences(&backlog), expected);
        }
    }
}
