//! What was acknowledged lately, for when the connection breaks: the broker may not know it, and send it again.

use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::wire::{Destination, MessageId};

/// A message in one of its destinations: copies in several have the same id.
pub(crate) type MessageKey = (MessageId, Destination);

/// The audit of a connection. It belongs to all its consumers of queues: a broker may send again to any of them. A durable
/// subscription has one of its own.
///
/// Costs nothing until the first break: until then each consumer remembers for itself.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    breaks: AtomicU64,
    known: Mutex<FxHashMap<MessageKey, Known>>,
}

#[derive(Debug)]
struct Known {
    /// How many breaks there had been when it was acknowledged last.
    breaks: u64,
    /// How often consumers remember it.
    remembered: usize,
}

impl Audit {
    /// The connection broke, and every consumer knows.
    pub(crate) fn interrupted(&self) {
        self.breaks.fetch_add(1, Ordering::AcqRel);
    }

    fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Acquire)
    }

    /// The connection breaks: what a consumer remembers is the audit's concern from the first time on.
    pub(crate) fn adopt<'a>(&self, keys: impl IntoIterator<Item = &'a MessageKey>) {
        if self.breaks() == 0 {
            keys.into_iter().for_each(|key| self.learn(key, 0));
        }
    }

    /// A message is being acknowledged.
    pub(crate) fn acknowledged(&self, key: &MessageKey) {
        let breaks = self.breaks();
        if breaks > 0 {
            self.learn(key, breaks);
        }
    }

    /// The application is done with a message that came before the last break.
    pub(crate) fn acknowledged_before(&self, key: &MessageKey) {
        self.learn(key, self.breaks().saturating_sub(1));
    }

    fn learn(&self, key: &MessageKey, breaks: u64) {
        let mut known = self.known.lock();
        let known = known.entry(key.clone()).or_insert(Known {
            breaks,
            remembered: 0,
        });
        known.breaks = breaks;
        known.remembered += 1;
    }

    /// A consumer remembers it no longer.
    pub(crate) fn forget(&self, key: MessageKey) {
        if self.breaks() > 0
            && let Entry::Occupied(mut known) = self.known.lock().entry(key)
        {
            known.get_mut().remembered = known.get().remembered.saturating_sub(1);
            if known.get().remembered == 0 {
                known.remove();
            }
        }
    }

    /// True if the message was acknowledged already.
    ///
    /// One that was acknowledged since the last break, too, if the broker says itself that it delivers again: while it
    /// clears an old connection away it may take back what it has sent over the new one. Without that word it is
    /// somebody's new copy.
    pub(crate) fn knows(&self, key: impl FnOnce() -> Option<MessageKey>, redelivered: bool) -> bool {
        let breaks = self.breaks();
        if breaks == 0 {
            return false;
        }
        let Some(key) = key() else {
            return false;
        };
        let known = self.known.lock();
        known
            .get(&key)
            .is_some_and(|known| known.breaks < breaks || redelivered)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.lock().len()
    }
}
