//! The subscribers of one topic, in the order in which they are served. Coming, leaving and moving to the end cost the
//! logarithm of how many there are.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::subscription::SubscriptionKey;

/// Where one stands: those of a higher priority come first and, among equals, who came first.
type Place = (Reverse<i8>, u64);

/// Subscribers in order.
pub(super) type Line = BTreeMap<Place, SubscriptionKey>;

#[derive(Debug, Default)]
pub(super) struct Subscribers {
    /// Shared with whoever goes through it, who may meanwhile change the rest of the broker.
    line: Arc<Line>,
    places: FxHashMap<SubscriptionKey, Place>,
    last: u64,
}

impl Subscribers {
    /// Takes one in, behind those of its priority. One that is there stays where it is.
    pub(super) fn add(&mut self, key: SubscriptionKey, priority: i8) {
        if !self.places.contains_key(&key) {
            self.put(key, Reverse(priority));
        }
    }

    fn put(&mut self, key: SubscriptionKey, priority: Reverse<i8>) {
        self.last += 1;
        let place = (priority, self.last);
        Arc::make_mut(&mut self.line).insert(place, key);
        self.places.insert(key, place);
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, key: SubscriptionKey) {
        if let Some(place) = self.places.remove(&key) {
            Arc::make_mut(&mut self.line).remove(&place);
        }
    }

    /// One that was served takes its place behind the others of its priority.
    pub(super) fn move_to_end(&mut self, key: SubscriptionKey) {
        if let Some(place) = self.places.get(&key).copied() {
            Arc::make_mut(&mut self.line).remove(&place);
            self.put(key, place.0);
        }
    }

    /// All of them as they stand now.
    pub(super) fn line(&self) -> Arc<Line> {
        self.line.clone()
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = SubscriptionKey> {
        self.line.values().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_served_by_priority_and_then_in_turn() {
        let mut subscribers = Subscribers::default();
        let keys = |subscribers: &Subscribers| subscribers.iter().map(|key| key.0).collect::<Vec<_>>();
        for (key, priority) in [(1, 0), (2, 5), (3, 0), (4, 5), (3, 9)] {
            subscribers.add(SubscriptionKey(key), priority);
        }
        assert_eq!(keys(&subscribers), [2, 4, 1, 3]);
        let before = subscribers.line();
        subscribers.move_to_end(SubscriptionKey(2));
        subscribers.remove(SubscriptionKey(1));
        subscribers.remove(SubscriptionKey(1));
        assert_eq!(keys(&subscribers), [4, 2, 3]);
        assert_eq!((subscribers.len(), before.len()), (3, 4));
    }
}
