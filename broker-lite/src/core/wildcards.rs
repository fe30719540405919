//! Who has what matches a wildcard, also what comes later. To find them for a new destination takes time in proportion
//! to the levels of its name and to those that match it.

use openwire_client::wire::Destination;
use rustc_hash::FxHashMap;

use super::destinations::parts;
use super::queue::QueueKey;
use super::subscription::SubscriptionKey;
use crate::policy::{Pattern, PatternMap};

/// Who has what matches a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wildcard {
    Consumer(SubscriptionKey),
    /// What waits for a durable subscription.
    Durable(QueueKey),
}

#[derive(Debug, Default)]
pub(super) struct Wildcards {
    patterns: PatternMap<Wildcard>,
    /// The patterns of each.
    of: FxHashMap<Wildcard, Vec<u64>>,
}

impl Wildcards {
    /// Whoever names wildcards has what matches them later.
    pub(super) fn watch(&mut self, destination: &Destination, who: Wildcard) {
        for part in parts(destination).into_iter().flatten() {
            if part.is_pattern() {
                let number = self.patterns.insert(Pattern::from(&part), who);
                self.of.entry(who).or_default().push(number);
            }
        }
    }

    /// It has nothing of it any more.
    pub(super) fn unwatch(&mut self, who: Wildcard) {
        for number in self.of.remove(&who).unwrap_or_default() {
            self.patterns.remove(number);
        }
    }

    /// Those whose wildcards match a destination, in the order in which they came; one with several that do, as often.
    pub(super) fn matching(&self, destination: &Destination) -> impl Iterator<Item = Wildcard> {
        self.patterns.all(destination).copied()
    }
}
