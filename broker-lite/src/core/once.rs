//! A list that has nothing twice.

use std::hash::Hash;

use rustc_hash::FxHashSet;

/// Up to so many are compared one by one, which is what a turn mostly has.
const FEW: usize = 16;

/// Things in the order in which they were first added.
#[derive(Debug)]
pub(super) struct Once<T> {
    list: Vec<T>,
    /// All of them, if there are more than a few.
    known: FxHashSet<T>,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            known: FxHashSet::default(),
        }
    }
}

impl<T: Copy + Eq + Hash> Once<T> {
    /// Adds something, unless it is there.
    pub(super) fn add(&mut self, item: T) {
        let new = if self.list.len() < FEW {
            !self.list.contains(&item)
        } else {
            if self.known.is_empty() {
                self.known.extend(&self.list);
            }
            self.known.insert(item)
        };
        if new {
            self.list.push(item);
        }
    }

    /// Takes something out.
    pub(super) fn remove(&mut self, item: T) {
        self.list.retain(|&of| of != item);
        if self.list.len() < FEW {
            self.known.clear();
        } else {
            self.known.remove(&item);
        }
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.list.iter()
    }

    pub(super) fn into_list(self) -> Vec<T> {
        self.list
    }
}

impl<T> IntoIterator for Once<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_there_twice_however_many_there_are() {
        let mut list = Once::default();
        for item in (0..40).chain(5..30) {
            list.add(item);
        }
        assert_eq!(
            list.iter().copied().collect::<Vec<_>>(),
            (0..40).collect::<Vec<_>>()
        );
        // Few again, and then many once more.
        (3..40).for_each(|item| list.remove(item));
        (0..40).rev().for_each(|item| list.add(item));
        let expected: Vec<_> = (0..3).chain((3..40).rev()).collect();
        assert_eq!(list.into_list(), expected);
    }
}
