//! Messages that were acknowledged shortly before the connection broke: the broker may not know it, and send them
//! again.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashSet;

use crate::wire::{Destination, MessageId};

/// A message in one of its destinations: copies in several have the same id.
pub(crate) type MessageKey = (MessageId, Destination);

/// The suspects of a connection. They belong to all its consumers: a broker may send again to any of them.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    /// There are any. There are none as long as nothing breaks.
    any: AtomicBool,
    keys: Mutex<FxHashSet<MessageKey>>,
}

impl Suspects {
    /// Another break: what was suspected since the last one has come again or will not.
    pub(crate) fn clear(&self) {
        self.keys.lock().clear();
        self.any.store(false, Ordering::Release);
    }

    pub(crate) fn add(&self, keys: impl IntoIterator<Item = MessageKey>) {
        let mut known = self.keys.lock();
        known.extend(keys);
        self.any.store(!known.is_empty(), Ordering::Release);
    }

    /// True if the message is one of them, once.
    pub(crate) fn remove(&self, key: impl FnOnce() -> Option<MessageKey>) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let Some(key) = key() else {
            return false;
        };
        let mut known = self.keys.lock();
        let found = known.remove(&key);
        self.any.store(!known.is_empty(), Ordering::Release);
        found
    }
}
