//! Duplicate detection: what a client sends again after a failover is recognised by its producer's number.

use openwire_client::wire::{MessageId, ProducerId};
use rustc_hash::FxHashMap;

/// How many producers are remembered. A client that reconnects is among the last ones seen; ActiveMQ's own
/// default is 64.
const MAX_PRODUCERS: usize = 1024;

/// The last persistent message of each producer.
#[derive(Debug, Default)]
pub(super) struct ProducerAudit {
    last: FxHashMap<ProducerId, Last>,
    clock: u64,
}

#[derive(Debug)]
struct Last {
    sequence: i64,
    seen: u64,
}

impl ProducerAudit {
    pub(super) fn new(producers: Vec<(ProducerId, i64)>) -> Self {
        let mut audit = Self::default();
        for (producer, sequence) in producers {
            audit.note(producer, sequence);
        }
        audit
    }

    /// True if this message, or a later one of the same producer, was taken already.
    pub(super) fn is_duplicate(&self, id: &MessageId) -> bool {
        let Some(producer) = &id.producer_id else {
            return false;
        };
        self.last
            .get(producer)
            .is_some_and(|last| id.producer_sequence_id <= last.sequence)
    }

    /// Notes a message that was taken.
    pub(super) fn taken(&mut self, id: &MessageId) {
        if let Some(producer) = &id.producer_id {
            self.note(producer.clone(), id.producer_sequence_id);
        }
    }

    /// A message that was noted is not there after all: it may be sent again.
    pub(super) fn not_taken(&mut self, id: &MessageId) {
        if let Some(producer) = &id.producer_id {
            self.not_taken_from(producer, id.producer_sequence_id);
        }
    }

    /// The same for all messages of a producer from this number on.
    pub(super) fn not_taken_from(&mut self, producer: &ProducerId, first: i64) {
        if let Some(last) = self.last.get_mut(producer) {
            last.sequence = last.sequence.min(first - 1);
        }
    }

    fn note(&mut self, producer: ProducerId, sequence: i64) {
        self.clock += 1;
        let seen = self.clock;
        if let Some(last) = self.last.get_mut(&producer) {
            last.sequence = last.sequence.max(sequence);
            last.seen = seen;
            return;
        }
        if self.last.len() >= MAX_PRODUCERS {
            self.forget_older_half();
        }
        self.last.insert(producer, Last { sequence, seen });
    }

    /// Makes room in one sweep, so that it costs little per producer.
    fn forget_older_half(&mut self) {
        let mut seen: Vec<u64> = self.last.values().map(|last| last.seen).collect();
        seen.sort_unstable();
        let median = seen[seen.len() / 2];
        self.last.retain(|_, last| last.seen >= median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(producer: i64, sequence: i64) -> MessageId {
        MessageId {
            producer_id: Some(ProducerId {
                connection_id: Some("c".into()),
                value: producer,
                session_id: 1,
            }),
            producer_sequence_id: sequence,
            ..MessageId::default()
        }
    }

    #[test]
    fn what_was_taken_is_recognised() {
        let mut audit = ProducerAudit::default();
        assert!(!audit.is_duplicate(&id(1, 1)));
        audit.taken(&id(1, 5));
        assert!(audit.is_duplicate(&id(1, 5)) && audit.is_duplicate(&id(1, 4)));
        assert!(!audit.is_duplicate(&id(1, 6)) && !audit.is_duplicate(&id(2, 1)));
    }

    #[test]
    fn the_producers_seen_last_are_kept() {
        let mut audit = ProducerAudit::default();
        for producer in 0..5000 {
            audit.taken(&id(producer, 1));
            audit.taken(&id(0, producer + 1));
        }
        assert!(audit.last.len() <= MAX_PRODUCERS);
        assert!(audit.is_duplicate(&id(0, 5000)) && audit.is_duplicate(&id(4999, 1)));
        assert!(!audit.is_duplicate(&id(1, 1)));
    }
}
