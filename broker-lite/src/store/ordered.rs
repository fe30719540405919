//! A map whose keys mostly come in order, and of which there may be millions of entries.
//!
//! Entries lie in chunks: they take no more than their size and a little, where a tree whose keys come in order stays
//! half empty. Finding one costs the logarithm of their number; what comes at the end or goes at the front costs
//! nothing more, anything else moves no more than a chunk.

use std::collections::VecDeque;

/// Entries in a chunk: moving half of them must cost little, and there must be few chunks to search.
const CHUNK: usize = 256;

/// Entries in order of their keys.
#[derive(Debug, Clone)]
pub(super) struct Ordered<V> {
    /// None of them empty.
    chunks: VecDeque<VecDeque<(u64, V)>>,
    len: usize,
}

impl<V> Default for Ordered<V> {
    fn default() -> Self {
        Self {
            chunks: VecDeque::new(),
            len: 0,
        }
    }
}

impl<V> Ordered<V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Chunk and place of a key, or where it would stand.
    fn find(&self, key: u64) -> Result<(usize, usize), (usize, usize)> {
        let behind = self.chunks.partition_point(|chunk| chunk[0].0 <= key);
        let Some(chunk) = behind.checked_sub(1) else {
            return Err((0, 0));
        };
        match self.chunks[chunk].binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => Ok((chunk, at)),
            Err(at) => Err((chunk, at)),
        }
    }

    pub(super) fn get(&self, key: u64) -> Option<&V> {
        let (chunk, at) = self.find(key).ok()?;
        Some(&self.chunks[chunk][at].1)
    }

    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        let (chunk, at) = self.find(key).ok()?;
        Some(&mut self.chunks[chunk][at].1)
    }

    pub(super) fn contains_key(&self, key: u64) -> bool {
        self.find(key).is_ok()
    }

    /// Puts a value and hands out the one it replaces.
    pub(super) fn insert(&mut self, key: u64, value: V) -> Option<V> {
        let newest = self.chunks.back_mut();
        if let Some(newest) = newest.filter(|newest| newest.back().is_some_and(|(last, _)| *last < key)) {
            if newest.len() < CHUNK {
                newest.push_back((key, value));
            } else {
                self.chunks.push_back(VecDeque::from([(key, value)]));
            }
            self.len += 1;
            return None;
        }
        let (chunk, at) = match self.find(key) {
            Ok((chunk, at)) => return Some(std::mem::replace(&mut self.chunks[chunk][at].1, value)),
            Err(place) => place,
        };
        self.len += 1;
        let Some(entries) = self.chunks.get_mut(chunk) else {
            self.chunks.push_back(VecDeque::from([(key, value)]));
            return None;
        };
        entries.insert(at, (key, value));
        if entries.len() > CHUNK {
            let rest = entries.split_off(CHUNK / 2);
            entries.shrink_to_fit();
            self.chunks.insert(chunk + 1, rest);
        }
        None
    }

    pub(super) fn remove(&mut self, key: u64) -> Option<V> {
        let (chunk, at) = self.find(key).ok()?;
        let entries = &mut self.chunks[chunk];
        let (_, value) = entries.remove(at)?;
        self.len -= 1;
        let left = entries.len();
        if left == 0 {
            self.chunks.remove(chunk);
        } else if chunk > 0 && left < CHUNK / 4 && self.chunks[chunk - 1].len() + left <= CHUNK {
            // A few that stay must not keep a chunk.
            if let Some(mut rest) = self.chunks.remove(chunk) {
                self.chunks[chunk - 1].append(&mut rest);
            }
        }
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        let entries = self.chunks.iter().flatten();
        entries.map(|(key, value)| (*key, value))
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = V> {
        self.chunks.into_iter().flatten().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_comes_in_order_takes_no_more_than_its_size() {
        let mut ordered = Ordered::default();
        (0..10_000).for_each(|key| assert_eq!(ordered.insert(key, 0u64), None));
        let room: usize = ordered.chunks.iter().map(VecDeque::capacity).sum();
        assert!(room < 10_500, "{room}");
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0..5u8, 0..1500u64), 1..4000)) {
            let mut ordered = Ordered::default();
            let mut model = BTreeMap::new();
            let mut end = 1500;
            for (number, (step, key)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => {
                        end += 1;
                        prop_assert_eq!(ordered.insert(end, number), model.insert(end, number));
                    }
                    2 => prop_assert_eq!(ordered.insert(key, number), model.insert(key, number)),
                    3 => prop_assert_eq!(ordered.remove(key), model.remove(&key)),
                    _ => {
                        let first = model.keys().next().copied().unwrap_or(0);
                        prop_assert_eq!(ordered.remove(first), model.remove(&first));
                    }
                }
                prop_assert_eq!(ordered.get(key), model.get(&key));
                prop_assert_eq!(ordered.get_mut(key).copied(), model.get(&key).copied());
                prop_assert_eq!(ordered.contains_key(key), model.contains_key(&key));
                prop_assert_eq!(ordered.len(), model.len());
            }
            prop_assert!(ordered.chunks.iter().all(|chunk| (1..=CHUNK).contains(&chunk.len())));
            let expected: Vec<_> = model.iter().map(|(key, value)| (*key, *value)).collect();
            let found: Vec<_> = ordered.iter().map(|(key, value)| (key, *value)).collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(ordered.into_values().collect::<Vec<_>>(), model.into_values().collect::<Vec<_>>());
        }
    }
}
