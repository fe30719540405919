//! A queue: messages in order of their sequence, and the consumers that have credit.

use std::collections::VecDeque;
use std::sync::Arc;

use openwire_client::wire::{Destination, Message};

use super::subscription::SubscriptionKey;
use crate::store::DestinationKey;

/// Names a queue inside the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct QueueKey(pub(super) usize);

/// A message on a queue. Small, because a deep queue has millions: a body that is stored as well may be
/// out of memory.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The broker sequence number, which orders the queue.
    pub(super) sequence: u64,
    /// What it counts in the broker's accounting, in bytes.
    pub(super) size: u32,
    /// How often delivery failed.
    pub(super) redelivered: u32,
    /// It lies in the store.
    pub(super) stored: bool,
    /// It does not, but was sent in a transaction that stored something, and stands or falls with it.
    pub(super) tied: bool,
    /// The message; none while only the store has it.
    pub(super) body: Option<Arc<Message>>,
}

impl Entry {
    /// Nobody may see it before everything up to its sequence is durable.
    pub(super) fn waits_for_store(&self) -> bool {
        self.stored || self.tied
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) destination: Destination,
    /// Its name in the store, once something of it was stored.
    pub(super) key: Option<DestinationKey>,
    /// The store was told of that name, and has not refused it.
    pub(super) created: bool,
    /// What waits, in order.
    pub(super) pending: VecDeque<Entry>,
    pub(super) consumers: Vec<SubscriptionKey>,
    /// Consumers with credit, in the order in which they are served.
    pub(super) ready: VecDeque<SubscriptionKey>,
    /// Stored messages up to this sequence may be shown to consumers: the store knows that they may have
    /// been, and a restart after a crash flags them as redelivered.
    pub(super) mark: u64,
    /// A higher mark is on its way into the store.
    pub(super) marking: bool,
    /// Bodies are on their way from the store.
    pub(super) loading: bool,
}

impl Queue {
    pub(super) fn new(destination: Destination) -> Self {
        Self {
            destination,
            key: None,
            created: false,
            pending: VecDeque::new(),
            consumers: Vec::new(),
            ready: VecDeque::new(),
            mark: 0,
            marking: false,
            loading: false,
        }
    }

    /// Where the message with this sequence waits, or would.
    pub(super) fn position(&self, sequence: u64) -> Result<usize, usize> {
        self.pending
            .binary_search_by_key(&sequence, |entry| entry.sequence)
    }

    /// Puts messages back to where they were. Most go to the front, which costs nothing.
    pub(super) fn put_back(&mut self, mut entries: Vec<Entry>) {
        entries.sort_unstable_by_key(|entry| entry.sequence);
        for entry in entries.into_iter().rev() {
            if self
                .pending
                .front()
                .is_none_or(|front| entry.sequence < front.sequence)
            {
                self.pending.push_front(entry);
            } else if let Err(at) = self.position(entry.sequence) {
                self.pending.insert(at, entry);
            }
        }
    }

    /// The mark that is asked for next: enough for many messages, so that the store is seldom waited for,
    /// but not for a whole backlog, because all that is below it counts as shown.
    pub(super) fn next_mark(&self, last_sequence: u64) -> u64 {
        const AHEAD: usize = 1000;
        match self.pending.get(AHEAD - 1) {
            Some(entry) => entry.sequence,
            None => last_sequence + AHEAD as u64,
        }
    }

    pub(super) fn remove_consumer(&mut self, key: SubscriptionKey) {
        self.consumers.retain(|&consumer| consumer != key);
        self.ready.retain(|&consumer| consumer != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sequence: u64) -> Entry {
        Entry {
            sequence,
            size: 1,
            redelivered: 0,
            stored: false,
            tied: false,
            body: None,
        }
    }

    fn sequences(queue: &Queue) -> Vec<u64> {
        queue.pending.iter().map(|entry| entry.sequence).collect()
    }

    #[test]
    fn what_comes_back_stands_where_it_stood() {
        let mut queue = Queue::new(Destination::queue("q"));
        queue.pending.extend([entry(10), entry(12), entry(14)]);
        queue.put_back(vec![entry(5), entry(3)]);
        queue.put_back(vec![entry(13), entry(4), entry(20)]);
        assert_eq!(sequences(&queue), [3, 4, 5, 10, 12, 13, 14, 20]);
    }

    #[test]
    fn a_mark_reaches_ahead_but_not_over_a_backlog() {
        let mut queue = Queue::new(Destination::queue("q"));
        queue.pending.extend((1..=10).map(entry));
        assert_eq!(queue.next_mark(10), 1010);
        queue.pending.extend((11..=5000).map(entry));
        assert_eq!(queue.next_mark(5000), 1000);
    }
}
