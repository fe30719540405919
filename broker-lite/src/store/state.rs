//! What a store holds, without the bodies: the one meaning of each [`Op`], shared by all stores.

use std::collections::HashMap;
use std::sync::Arc;

use openwire_client::wire::{Message, ProducerId};
use rustc_hash::FxHashMap;

use super::ordered::Ordered;
use super::recent::{Audit, Outcomes};
use super::{
    DestinationKey, Header, MessageKey, Prepared, Recovered, RecoveredDestination, RecoveredMessage,
    StoredDestination,
};

/// Destinations with their messages, and the counters. `M` is what a store keeps for each message: the
/// message, or where it lies.
#[derive(Debug, Clone)]
pub(super) struct State<M> {
    destinations: FxHashMap<DestinationKey, Stored<M>>,
    messages: u64,
    /// Counters that are not 0.
    counters: u64,
    /// Messages that are due.
    due: u64,
    pub(super) next_sequence: u64,
    pub(super) next_destination: u32,
    pub(super) audit: Audit,
    pub(super) outcomes: Outcomes,
}

/// A destination and its messages.
#[derive(Debug, Clone)]
pub(super) struct Stored<M> {
    pub(super) destination: StoredDestination,
    pub(super) dispatched: u64,
    pub(super) prepared: Option<Arc<Prepared>>,
    messages: Ordered<M>,
    /// The counters that are not 0.
    redelivered: FxHashMap<u64, Counter>,
    /// When messages are due, and how often they fired.
    due: FxHashMap<u64, (i64, u32)>,
    /// Of a transaction, who sent what: it counts once the message is moved off.
    senders: Option<Box<Senders>>,
}

/// The redelivery counter of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counter {
    pub(super) now: u32,
    /// What the message was put with.
    pub(super) initial: u32,
}

impl Counter {
    pub(super) fn starting(initial: u32) -> Self {
        Self {
            now: initial,
            initial,
        }
    }
}

/// Who sent the messages of a transaction. Each producer is kept once: there are few, and many messages.
#[derive(Debug, Clone, Default)]
struct Senders {
    producers: Vec<ProducerId>,
    known: HashMap<ProducerId, u32>,
    /// Which of the producers, and its number there.
    messages: FxHashMap<u64, (u32, i64)>,
}

impl Senders {
    fn note(&mut self, sequence: u64, producer: &ProducerId, number: i64) {
        let index = self.known.get(producer).copied().unwrap_or_else(|| {
            let index = self.producers.len() as u32;
            self.producers.push(producer.clone());
            self.known.insert(producer.clone(), index);
            index
        });
        self.messages.insert(sequence, (index, number));
    }

    fn get(&self, sequence: u64) -> Option<(&ProducerId, i64)> {
        let (index, number) = self.messages.get(&sequence)?;
        Some((self.producers.get(*index as usize)?, *number))
    }
}

/// What came of sharing or moving a message.
#[derive(Debug)]
pub(super) struct Referred<M> {
    /// What is kept for the message.
    pub(super) message: M,
    /// What was kept for the one that lay there before.
    pub(super) replaced: Option<M>,
}

impl<M> Default for State<M> {
    fn default() -> Self {
        Self {
            destinations: FxHashMap::default(),
            messages: 0,
            counters: 0,
            due: 0,
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

    /// How many counters are kept, and how many times at which messages are due.
    pub(super) fn marks(&self) -> (u64, u64) {
        (self.counters, self.due)
    }

    pub(super) fn destination(&self, key: DestinationKey) -> Option<&StoredDestination> {
        self.destinations.get(&key).map(|stored| &stored.destination)
    }

    /// A destination with what is kept of it.
    #[cfg(feature = "sql")]
    pub(super) fn stored(&self, key: DestinationKey) -> Option<&Stored<M>> {
        self.destinations.get(&key)
    }

    /// Every destination, in no order.
    pub(super) fn destinations(&self) -> impl ExactSizeIterator<Item = (DestinationKey, &Stored<M>)> {
        self.destinations.iter().map(|(key, stored)| (*key, stored))
    }

    pub(super) fn create_destination(&mut self, key: DestinationKey, destination: StoredDestination) {
        self.next_destination = self.next_destination.max(key.0.saturating_add(1));
        if let Some(stored) = self.destinations.get_mut(&key) {
            stored.destination = destination;
            return;
        }
        let stored = Stored {
            destination,
            dispatched: 0,
            prepared: None,
            messages: Ordered::default(),
            redelivered: FxHashMap::default(),
            due: FxHashMap::default(),
            senders: None,
        };
        self.destinations.insert(key, stored);
    }

    /// Removes a destination and hands out what was kept for its messages.
    pub(super) fn remove_destination(&mut self, key: DestinationKey) -> impl Iterator<Item = M> + use<M> {
        let messages = self
            .destinations
            .remove(&key)
            .map_or_else(Ordered::default, |stored| {
                self.counters -= stored.redelivered.len() as u64;
                self.due -= stored.due.len() as u64;
                stored.messages
            });
        self.messages -= messages.len() as u64;
        messages.into_values()
    }

    /// The transactions that were not prepared: they end when a store is opened.
    pub(super) fn unprepared(&self) -> Vec<DestinationKey> {
        let mut unprepared: Vec<_> = self
            .destinations()
            .filter(|(_, stored)| {
                stored.destination == StoredDestination::Transaction && stored.prepared.is_none()
            })
            .map(|(key, _)| key)
            .collect();
        unprepared.sort_unstable();
        unprepared
    }

    /// False if there is no such destination.
    pub(super) fn prepare(&mut self, key: DestinationKey, prepared: Arc<Prepared>) -> bool {
        let stored = self.destinations.get_mut(&key);
        stored.is_some_and(|stored| {
            stored.prepared = Some(prepared);
            true
        })
    }

    /// Puts a message and hands out what it replaces. Gives `message` back if there is no such destination.
    pub(super) fn put(&mut self, key: MessageKey, message: M, counter: Counter) -> Result<Option<M>, M> {
        let Some(stored) = self.destinations.get_mut(&key.destination) else {
            return Err(message);
        };
        self.next_sequence = self.next_sequence.max(key.sequence.saturating_add(1));
        let old = stored.messages.insert(key.sequence, message);
        if old.is_some() {
            stored.forget_marks(key.sequence, &mut self.counters, &mut self.due);
        } else {
            self.messages += 1;
        }
        stored.set_counter(&mut self.counters, key.sequence, counter);
        Ok(old)
    }

    /// Says who sent a message that was put: it counts now or, in a transaction, once the message is moved.
    pub(super) fn note_sender(&mut self, key: MessageKey, producer: &ProducerId, number: i64) {
        match self.destinations.get_mut(&key.destination) {
            Some(stored) if stored.destination == StoredDestination::Transaction => {
                let senders = stored.senders.get_or_insert_default();
                senders.note(key.sequence, producer, number);
            }
            _ => self.audit.note(producer, number),
        }
    }

    /// Who sent a message of a transaction.
    pub(super) fn sender(&self, key: MessageKey) -> Option<(&ProducerId, i64)> {
        let stored = self.destinations.get(&key.destination)?;
        stored.senders.as_ref()?.get(key.sequence)
    }

    pub(super) fn get(&self, key: MessageKey) -> Option<&M> {
        self.destinations
            .get(&key.destination)?
            .messages
            .get(key.sequence)
    }

    pub(super) fn get_mut(&mut self, key: MessageKey) -> Option<&mut M> {
        self.destinations
            .get_mut(&key.destination)?
            .messages
            .get_mut(key.sequence)
    }

    pub(super) fn counter(&self, key: MessageKey) -> Counter {
        self.destinations
            .get(&key.destination)
            .and_then(|stored| stored.redelivered.get(&key.sequence))
            .copied()
            .unwrap_or_default()
    }

    /// When a message is due, and how often it fired.
    pub(super) fn due(&self, key: MessageKey) -> Option<(i64, u32)> {
        let stored = self.destinations.get(&key.destination)?;
        stored.due.get(&key.sequence).copied()
    }

    pub(super) fn remove(&mut self, key: MessageKey) -> Option<M> {
        let stored = self.destinations.get_mut(&key.destination)?;
        let old = stored.messages.remove(key.sequence)?;
        stored.forget_marks(key.sequence, &mut self.counters, &mut self.due);
        self.messages -= 1;
        Some(old)
    }

    /// The message at `of` lies at `key` as well. None if there is none, or no destination for it.
    pub(super) fn share(&mut self, key: MessageKey, of: MessageKey) -> Option<Referred<M>>
    where
        M: Clone,
    {
        let message = self.get(of)?.clone();
        if key == of {
            return None;
        }
        let initial = self.counter(of).initial;
        let replaced = self.put(key, message.clone(), Counter::starting(initial)).ok()?;
        Some(Referred { message, replaced })
    }

    /// The message at `from` lies at `to` instead. None, and nothing happens, if there is none, or no
    /// destination for it. Who sent it in a transaction counts from here on.
    pub(super) fn move_to(&mut self, from: MessageKey, to: MessageKey) -> Option<Referred<M>>
    where
        M: Clone,
    {
        if from == to || !self.destinations.contains_key(&to.destination) {
            return None;
        }
        let counter = self.counter(from);
        let sent = self
            .sender(from)
            .map(|(producer, number)| (producer.clone(), number));
        let message = self.remove(from)?;
        if let Some((producer, number)) = sent {
            self.audit.note(&producer, number);
        }
        let replaced = self.put(to, message.clone(), counter).ok()?;
        Some(Referred { message, replaced })
    }

    pub(super) fn set_redelivered(&mut self, key: MessageKey, count: u32) {
        if let Some(stored) = self.destinations.get_mut(&key.destination)
            && stored.messages.contains_key(key.sequence)
        {
            let before = stored.redelivered.get(&key.sequence).copied();
            let counter = Counter {
                now: count,
                ..before.unwrap_or_default()
            };
            stored.set_counter(&mut self.counters, key.sequence, counter);
        }
    }

    pub(super) fn set_due(&mut self, key: MessageKey, at: i64, times: u32) {
        if let Some(stored) = self.destinations.get_mut(&key.destination)
            && stored.messages.contains_key(key.sequence)
        {
            let before = stored.due.insert(key.sequence, (at, times));
            self.due += u64::from(before.is_none());
        }
    }

    pub(super) fn set_dispatched(&mut self, key: DestinationKey, sequence: u64) {
        self.used(sequence);
        if let Some(stored) = self.destinations.get_mut(&key) {
            stored.dispatched = stored.dispatched.max(sequence);
        }
    }

    /// No more than this was dispatched from the destination, whatever was said before.
    #[cfg(feature = "sql")]
    pub(super) fn lower_dispatched(&mut self, key: DestinationKey, sequence: u64) {
        if let Some(stored) = self.destinations.get_mut(&key) {
            stored.dispatched = stored.dispatched.min(sequence);
        }
    }

    /// This sequence was given out.
    pub(super) fn used(&mut self, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
    }

    /// What a store that opens with this state tells the core.
    pub(super) fn recovered(
        &self,
        identity: Arc<str>,
        clean: bool,
        header: impl Fn(&M) -> Header,
    ) -> Recovered {
        let mut destinations: Vec<RecoveredDestination> = self
            .destinations()
            .map(|(key, stored)| stored.recovered(key, &header))
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

#[cfg(test)]
impl<M> State<M> {
    /// Every message, after counting anew what is counted of them.
    pub(super) fn all(&self) -> Vec<(MessageKey, &M)> {
        let stored = || self.destinations.values();
        assert_eq!(
            self.counters,
            stored().map(|found| found.redelivered.len() as u64).sum::<u64>()
        );
        assert_eq!(
            self.due,
            stored().map(|found| found.due.len() as u64).sum::<u64>()
        );
        let all: Vec<_> = self
            .destinations
            .iter()
            .flat_map(|(&destination, found)| {
                let messages = found.messages.iter();
                messages.map(move |(sequence, message)| {
                    let key = MessageKey {
                        destination,
                        sequence,
                    };
                    (key, message)
                })
            })
            .collect();
        assert_eq!(self.messages, all.len() as u64);
        for found in stored() {
            let marked = found.redelivered.keys().chain(found.due.keys());
            let senders = found.senders.iter();
            let marked = marked.chain(senders.flat_map(|senders| senders.messages.keys()));
            assert!(
                marked
                    .into_iter()
                    .all(|sequence| found.messages.contains_key(*sequence))
            );
        }
        all
    }
}

impl<M> Stored<M> {
    /// `counters` is how many are kept in all.
    fn set_counter(&mut self, counters: &mut u64, sequence: u64, counter: Counter) {
        let before = if counter == Counter::default() {
            self.redelivered.remove(&sequence)
        } else {
            *counters += 1;
            self.redelivered.insert(sequence, counter)
        };
        *counters -= u64::from(before.is_some());
    }

    /// The message is gone.
    fn forget_marks(&mut self, sequence: u64, counters: &mut u64, due: &mut u64) {
        *counters -= u64::from(self.redelivered.remove(&sequence).is_some());
        *due -= u64::from(self.due.remove(&sequence).is_some());
        if let Some(senders) = &mut self.senders {
            senders.messages.remove(&sequence);
        }
    }

    fn recovered(&self, key: DestinationKey, header: impl Fn(&M) -> Header) -> RecoveredDestination {
        let mut expiring = Vec::new();
        let mut messages = Vec::with_capacity(self.messages.len());
        messages.extend(self.messages.iter().map(|(sequence, message)| {
            let header = header(message);
            if header.expiration > 0 {
                expiring.push((sequence, header.expiration));
            }
            RecoveredMessage {
                sequence,
                size: header.size,
                redelivered: self.redelivered.get(&sequence).map_or(0, |counter| counter.now),
                priority: header.priority,
            }
        }));
        let due = self.due.iter();
        let mut due: Vec<_> = due
            .map(|(&sequence, &(at, times))| (sequence, at, times))
            .collect();
        due.sort_unstable();
        RecoveredDestination {
            key,
            destination: self.destination.clone(),
            dispatched: self.dispatched,
            messages,
            due,
            expiring,
            prepared: self.prepared.clone(),
        }
    }
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
