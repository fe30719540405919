//! What a store holds, without the bodies: the one meaning of each [`Op`], shared by all stores.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use openwire_client::wire::{Message, ProducerId};
use rustc_hash::FxHashMap;

use super::{
    Batch, Committed, DestinationKey, MessageKey, Op, Recovered, RecoveredDestination, RecoveredMessage,
    StoreError,
};

/// How many producers the audit remembers. A client that reconnects is among those seen last; ActiveMQ's
/// own default is 64 (`maximumProducersToAudit`).
pub(super) const AUDITED_PRODUCERS: usize = 1024;

/// Destinations with their messages, and the counters. `M` is what a store keeps for each message: the
/// message, or where it lies.
#[derive(Debug, Clone)]
pub(super) struct State<M> {
    destinations: FxHashMap<DestinationKey, Stored<M>>,
    messages: u64,
    pub(super) next_sequence: u64,
    pub(super) next_destination: u32,
    pub(super) audit: Audit,
    pub(super) outcomes: Outcomes,
}

/// A destination and its messages.
#[derive(Debug, Clone)]
pub(super) struct Stored<M> {
    pub(super) name: Arc<str>,
    pub(super) dispatched: u64,
    messages: BTreeMap<u64, M>,
    /// The counters that are not 0.
    redelivered: FxHashMap<u64, u32>,
}

impl<M> Default for State<M> {
    fn default() -> Self {
        Self {
            destinations: FxHashMap::default(),
            messages: 0,
            next_sequence: 1,
            next_destination: 1,
            audit: Audit::default(),
            outcomes: Outcomes::default(),
        }
    }
}

impl<M> State<M> {
    /// How many messages there are.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    pub(super) fn has_destination(&self, key: DestinationKey) -> bool {
        self.destinations.contains_key(&key)
    }

    /// Every destination, in no order.
    pub(super) fn destinations(&self) -> impl ExactSizeIterator<Item = (DestinationKey, &Stored<M>)> {
        self.destinations.iter().map(|(key, stored)| (*key, stored))
    }

    pub(super) fn create_destination(&mut self, key: DestinationKey, name: Arc<str>) {
        self.next_destination = self.next_destination.max(key.0.saturating_add(1));
        self.destinations
            .entry(key)
            .and_modify(|stored| stored.name = name.clone())
            .or_insert_with(|| Stored {
                name,
                dispatched: 0,
                messages: BTreeMap::new(),
                redelivered: FxHashMap::default(),
            });
    }

    /// Removes a destination and hands out what was kept for its messages.
    pub(super) fn remove_destination(&mut self, key: DestinationKey) -> impl Iterator<Item = M> + use<M> {
        let messages = self
            .destinations
            .remove(&key)
            .map_or_else(BTreeMap::new, |stored| stored.messages);
        self.messages -= messages.len() as u64;
        messages.into_values()
    }

    /// Puts a message and hands out what it replaces. Gives `message` back if there is no such destination.
    pub(super) fn put(&mut self, key: MessageKey, message: M, redelivered: u32) -> Result<Option<M>, M> {
        let Some(stored) = self.destinations.get_mut(&key.destination) else {
            return Err(message);
        };
        self.next_sequence = self.next_sequence.max(key.sequence.saturating_add(1));
        let old = stored.messages.insert(key.sequence, message);
        self.messages += u64::from(old.is_none());
        stored.set_redelivered(key.sequence, redelivered);
        Ok(old)
    }

    pub(super) fn get(&self, key: MessageKey) -> Option<&M> {
        self.destinations
            .get(&key.destination)?
            .messages
            .get(&key.sequence)
    }

    pub(super) fn get_mut(&mut self, key: MessageKey) -> Option<&mut M> {
        self.destinations
            .get_mut(&key.destination)?
            .messages
            .get_mut(&key.sequence)
    }

    pub(super) fn redelivered(&self, key: MessageKey) -> u32 {
        self.destinations
            .get(&key.destination)
            .and_then(|stored| stored.redelivered.get(&key.sequence))
            .copied()
            .unwrap_or(0)
    }

    pub(super) fn remove(&mut self, key: MessageKey) -> Option<M> {
        let stored = self.destinations.get_mut(&key.destination)?;
        let old = stored.messages.remove(&key.sequence)?;
        stored.redelivered.remove(&key.sequence);
        self.messages -= 1;
        Some(old)
    }

    pub(super) fn set_redelivered(&mut self, key: MessageKey, count: u32) {
        if let Some(stored) = self.destinations.get_mut(&key.destination)
            && stored.messages.contains_key(&key.sequence)
        {
            stored.set_redelivered(key.sequence, count);
        }
    }

    pub(super) fn set_dispatched(&mut self, key: DestinationKey, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
        if let Some(stored) = self.destinations.get_mut(&key) {
            stored.dispatched = stored.dispatched.max(sequence);
        }
    }

    /// What a store that opens with this state tells the core.
    pub(super) fn recovered(&self, identity: Arc<str>, clean: bool, size: impl Fn(&M) -> u32) -> Recovered {
        let mut destinations: Vec<RecoveredDestination> = self
            .destinations()
            .map(|(key, stored)| RecoveredDestination {
                key,
                name: stored.name.clone(),
                dispatched: stored.dispatched,
                messages: stored
                    .messages
                    .iter()
                    .map(|(&sequence, message)| RecoveredMessage {
                        sequence,
                        size: size(message),
                        redelivered: stored.redelivered.get(&sequence).copied().unwrap_or(0),
                    })
                    .collect(),
            })
            .collect();
        destinations.sort_unstable_by_key(|destination| destination.key);
        Recovered {
            clean,
            destinations,
            next_sequence: self.next_sequence,
            next_destination: self.next_destination,
            producers: self.audit.recent(),
            identity,
            committed: self.outcomes.known().cloned().collect(),
            forgotten: self.outcomes.forgotten(),
        }
    }
}

impl<M> Stored<M> {
    fn set_redelivered(&mut self, sequence: u64, count: u32) {
        if count == 0 {
            self.redelivered.remove(&sequence);
        } else {
            self.redelivered.insert(sequence, count);
        }
    }
}

/// Which destinations a batch creates (true) and removes (false).
pub(super) type DestinationChanges = FxHashMap<DestinationKey, bool>;

/// Checks that every message of a batch goes to a destination that exists when its turn comes.
pub(super) fn check(
    batch: &Batch,
    exists: impl Fn(DestinationKey) -> bool,
) -> Result<DestinationChanges, StoreError> {
    let mut changes = DestinationChanges::default();
    for op in &batch.ops {
        match op {
            Op::CreateDestination { key, .. } => {
                changes.insert(*key, true);
            }
            Op::RemoveDestination { key } => {
                changes.insert(*key, false);
            }
            Op::Put { key, .. } => {
                let known = changes.get(&key.destination).copied();
                if !known.unwrap_or_else(|| exists(key.destination)) {
                    return Err(StoreError::Refused(format!(
                        "message {} is for destination {}, which does not exist",
                        key.sequence, key.destination.0
                    )));
                }
            }
            Op::Remove { .. } | Op::Redelivered { .. } | Op::Dispatched { .. } | Op::Committed { .. } => {}
        }
    }
    Ok(changes)
}

/// The redelivery counter a message arrives with.
pub(super) fn initial_redelivered(message: &Message) -> u32 {
    u32::try_from(message.redelivery_counter).unwrap_or(0)
}

/// Who sent a message, and its number there, if both can be recognised when it is sent again.
pub(super) fn producer_of(message: &Message) -> Option<(&ProducerId, i64)> {
    let id = message.message_id.as_ref()?;
    let producer = id.producer_id.as_ref()?;
    producer.connection_id.as_ref()?;
    Some((producer, id.producer_sequence_id))
}

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
