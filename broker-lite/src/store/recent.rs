//! What a store remembers of the recent past: producers, for duplicate detection, and outcomes of transactions.

use std::collections::{HashMap, VecDeque};

use openwire_client::wire::ProducerId;

use super::Committed;

/// How many producers the audit remembers. A client that reconnects is among those seen last; ActiveMQ's
/// own default is 64 (`maximumProducersToAudit`).
pub(super) const AUDITED_PRODUCERS: usize = 1024;

/// The highest `producerSequenceId` of each of the producers seen last.
#[derive(Debug, Clone, Default)]
pub(super) struct Audit {
    producers: HashMap<ProducerId, Seen>,
    clock: u64,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    sequence: i64,
    at: u64,
}

impl Audit {
    /// A message of this producer was stored. A message that is moved keeps the id it was sent with, so a
    /// low number after a high one means nothing.
    pub(super) fn note(&mut self, producer: &ProducerId, sequence: i64) {
        self.clock += 1;
        let at = self.clock;
        if let Some(seen) = self.producers.get_mut(producer) {
            seen.sequence = seen.sequence.max(sequence);
            seen.at = at;
            return;
        }
        // One sweep in so many producers costs little for each, however many there are.
        if self.producers.len() >= 2 * AUDITED_PRODUCERS {
            let kept = self.recent_first();
            if let Some((_, oldest)) = kept.last() {
                let oldest = oldest.at;
                self.producers.retain(|_, seen| seen.at >= oldest);
            }
        }
        self.producers.insert(producer.clone(), Seen { sequence, at });
    }

    /// The highest number of a producer, and when it was seen: the larger, the later.
    #[cfg(feature = "sql")]
    pub(super) fn get(&self, producer: &ProducerId) -> Option<(i64, u64)> {
        let seen = self.producers.get(producer)?;
        Some((seen.sequence, seen.at))
    }

    /// When the last producer was seen.
    #[cfg(feature = "sql")]
    pub(super) fn clock(&self) -> u64 {
        self.clock
    }

    fn recent_first(&self) -> Vec<(&ProducerId, Seen)> {
        let mut all: Vec<_> = self.producers.iter().map(|(id, seen)| (id, *seen)).collect();
        all.sort_unstable_by_key(|(_, seen)| std::cmp::Reverse(seen.at));
        all.truncate(AUDITED_PRODUCERS);
        all
    }

    /// The producers seen last, the latest one last.
    pub(super) fn recent(&self) -> Vec<(ProducerId, i64)> {
        self.recent_first()
            .into_iter()
            .rev()
            .map(|(id, seen)| (id.clone(), seen.sequence))
            .collect()
    }
}

/// The transactions that were committed lately. The core says how long they are kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcomes {
    known: VecDeque<Committed>,
    forgotten: i64,
}

impl Outcomes {
    /// A transaction was committed, and outcomes up to `forgotten` are not needed any more.
    pub(super) fn note(&mut self, mut outcome: Committed, forgotten: i64) {
        // One text serves all outcomes of a busy connection, also after they were read one by one.
        if let Some(last) = self.known.back()
            && last.connection == outcome.connection
        {
            outcome.connection = last.connection.clone();
        }
        self.known.push_back(outcome);
        self.forget(forgotten);
    }

    /// Outcomes up to this time are not needed any more.
    pub(super) fn forget(&mut self, until: i64) {
        self.forgotten = self.forgotten.max(until);
        while self.known.pop_front_if(|oldest| oldest.at <= until).is_some() {}
    }

    /// The oldest first.
    pub(super) fn known(&self) -> impl Iterator<Item = &Committed> {
        self.known.iter()
    }

    pub(super) fn forgotten(&self) -> i64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producer(value: i64) -> ProducerId {
        ProducerId {
            connection_id: Some("c".into()),
            value,
            session_id: 1,
        }
    }

    #[test]
    fn the_audit_keeps_the_producers_seen_last() {
        let mut audit = Audit::default();
        for value in 0..10_000 {
            audit.note(&producer(value), 1);
            audit.note(&producer(-1), value);
        }
        let recent = audit.recent();
        assert_eq!(recent.len(), AUDITED_PRODUCERS);
        assert_eq!(recent.last(), Some(&(producer(-1), 9_999)));
        assert_eq!(recent[recent.len() - 2], (producer(9_999), 1));
        assert_eq!(recent[0], (producer(10_000 - AUDITED_PRODUCERS as i64 + 1), 1));
        assert!(audit.producers.len() <= 2 * AUDITED_PRODUCERS);
    }

    #[test]
    fn a_moved_message_does_not_set_its_producer_back() {
        let mut audit = Audit::default();
        audit.note(&producer(1), 7);
        audit.note(&producer(1), 3);
        assert_eq!(audit.recent(), [(producer(1), 7)]);
    }
}
