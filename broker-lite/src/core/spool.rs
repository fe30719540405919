//! Non-persistent messages that wait on a queue lie on disk when memory runs short (ActiveMQ's `tempUsage`).
//!
//! What comes while memory is beyond the high-water mark and finds no consumer is *spooled*; what came before stays where
//! it is, so the messages that are next are mostly in memory. A spooled message counts for the temporary store rather
//! than for memory, and is read back as a stored one is. Whatever takes it off its queue makes it a message in memory
//! again, so nothing but the backlog knows of this.

use std::collections::VecDeque;

use super::backlog::Place;
use super::effect::StoreToken;
use super::queue::{Entry, Queue, QueueKey};
use super::{Core, Turn};
use crate::policy::PendingQueue;
use crate::store::{DestinationKey, MessageKey, Op, StoreError, StoredDestination};

/// The keys of the temporary store begin here, where those of the store, which counts from 1, never come.
const FIRST_KEY: u32 = 1 << 31;

/// After the temporary store refused something, nothing is spooled for so many milliseconds.
const PAUSE: i64 = 1000;

/// Where the body of a message that waits is besides memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Spooled {
    /// Nowhere, as far as the temporary store is concerned.
    #[default]
    No,
    /// On its way to the temporary store; it stays in memory until it is there.
    Leaving,
    /// In the temporary store.
    Away,
}

/// What a queue has spooled.
#[derive(Debug, Default)]
pub(super) struct QueueSpool {
    /// Its name in the temporary store.
    pub(super) key: Option<DestinationKey>,
    /// The temporary store was told of that name, and has not refused it.
    created: bool,
    /// What came while memory was short, and may be spooled.
    pub(super) candidates: Vec<Place>,
}

/// What one turn gives to the temporary store.
#[derive(Debug)]
struct Leaving {
    token: StoreToken,
    /// The messages, with their queues and the numbers of these.
    messages: Vec<(QueueKey, u64, Place)>,
    /// The queues it is told of for the first time.
    created: Vec<(QueueKey, u64)>,
    /// What goes from there.
    removed: Vec<MessageKey>,
}

/// The account of the temporary store.
#[derive(Debug, Default)]
pub(super) struct Spool {
    /// Bytes of messages there, and on their way.
    pub(super) used: usize,
    /// What is on its way, in order.
    leaving: VecDeque<Leaving>,
    last_token: u64,
    last_key: u32,
    /// Nothing is spooled before this, in milliseconds since 1970.
    not_before: i64,
}

impl Core {
    /// True if messages of this queue that live in memory only may be spooled.
    pub(super) fn may_spool(&self, queue: &Queue) -> bool {
        self.config.temp_limit.is_some()
            && !queue.destination.is_temporary()
            && queue.policy.pending_queue != PendingQueue::Vm
    }

    /// True if messages of this queue are to be spooled: memory is beyond the high-water mark (`cursorMemoryHighWaterMark`).
    pub(super) fn is_beyond_mark(&self, key: QueueKey) -> bool {
        if self.config.temp_limit.is_none() {
            return false;
        }
        let queue = &self.queues[key.0];
        let share = u64::from(queue.policy.cursor_memory_high_water_mark);
        let reached = |used: usize, limit: u64| used as u64 >= limit.saturating_mul(share) / 100;
        let own = queue.policy.memory_limit;
        (reached(self.memory_used, self.config.memory_limit as u64)
            || own > 0 && reached(queue.memory_used, own))
            && self.may_spool(queue)
    }

    /// True if there is no room in the temporary store.
    pub(super) fn is_temp_full(&self) -> bool {
        self.config
            .temp_limit
            .is_some_and(|limit| self.spool.used as u64 >= limit)
    }

    /// Spools what came to a queue while memory was short and is there still.
    pub(super) fn spool(&mut self, key: QueueKey, turn: &mut Turn<'_>) {
        let candidates = std::mem::take(&mut self.queues[key.0].spool.candidates);
        if turn.now < self.spool.not_before {
            return;
        }
        for place in candidates {
            if self.is_temp_full() || !self.is_beyond_mark(key) {
                return;
            }
            self.spool_one(key, place, turn);
        }
    }

    fn spool_one(&mut self, key: QueueKey, place: Place, turn: &mut Turn<'_>) {
        let durable = self.durable;
        let queue = &mut self.queues[key.0];
        let Some(entry) = queue.backlog.get(place) else {
            return;
        };
        let Some(message) = entry.body.clone() else { return };
        let waits = entry.waits_for_store() && entry.sequence > durable;
        if entry.stored || waits || entry.spooled != Spooled::No {
            return;
        }
        let (number, sequence) = (queue.number, entry.sequence);
        let destination = *queue.spool.key.get_or_insert_with(|| {
            self.spool.last_key += 1;
            DestinationKey(FIRST_KEY + self.spool.last_key)
        });
        let name = queue.destination.to_string();
        self.stored_queues.insert(destination, key);
        if !std::mem::replace(&mut self.queues[key.0].spool.created, true) {
            let create = Op::CreateDestination {
                key: destination,
                destination: StoredDestination::Queue(name.into()),
            };
            self.store_in_temp(create, turn).created.push((key, number));
        }
        let at = MessageKey {
            destination,
            sequence,
        };
        let put = Op::Put { key: at, message };
        self.store_in_temp(put, turn).messages.push((key, number, place));
        self.change(key, place, Spooled::Leaving);
    }

    /// A message of this queue counts where it is from here on.
    fn change(&mut self, key: QueueKey, place: Place, spooled: Spooled) {
        let Some(mut entry) = self.queues[key.0].backlog.get(place).cloned() else {
            return;
        };
        self.uncount(key, &entry);
        self.queues[key.0].counts.release(&entry);
        entry.spooled = spooled;
        self.count(key, &entry);
        let queue = &mut self.queues[key.0];
        queue.counts.hold(&entry);
        if let Some(entry) = queue.backlog.get_mut(place) {
            entry.spooled = spooled;
        }
    }

    /// A message was taken off its queue: it lives in memory only from here on.
    pub(super) fn unspool(&mut self, key: QueueKey, entry: &mut Entry, turn: &mut Turn<'_>) {
        if entry.spooled == Spooled::No {
            return;
        }
        self.uncount(key, entry);
        entry.spooled = Spooled::No;
        self.count(key, entry);
        let queue = &mut self.queues[key.0];
        queue.counts.hold(entry);
        if let Some(destination) = queue.spool.key {
            let key = MessageKey {
                destination,
                sequence: entry.sequence,
            };
            self.remove_from_temp(key, turn);
        }
    }

    fn remove_from_temp(&mut self, key: MessageKey, turn: &mut Turn<'_>) {
        self.store_in_temp(Op::Remove { key }, turn).removed.push(key);
    }

    /// A queue is gone, and what it had spooled.
    pub(super) fn forget_spooled(&mut self, queue: &QueueSpool, turn: &mut Turn<'_>) {
        if let Some(key) = queue.key {
            self.stored_queues.remove(&key);
            if queue.created {
                self.store_in_temp(Op::RemoveDestination { key }, turn);
            }
        }
    }

    /// Adds a change to what the turn gives to the temporary store.
    fn store_in_temp(&mut self, op: Op, turn: &mut Turn<'_>) -> &mut Leaving {
        let next = StoreToken(self.spool.last_token + 1);
        if turn.effects.spool(op, next) {
            self.spool.last_token += 1;
            self.spool.leaving.push_back(Leaving {
                token: next,
                messages: Vec::new(),
                created: Vec::new(),
                removed: Vec::new(),
            });
        }
        let last = self.spool.leaving.len() - 1;
        &mut self.spool.leaving[last]
    }

    /// The batch of an [`Effect::Spool`](super::Effect::Spool) is written, or never will be. Batches are told of in the
    /// order in which they were given out.
    pub fn spooled(
        &mut self,
        now: i64,
        token: StoreToken,
        result: Result<(), StoreError>,
        effects: &mut super::Effects,
    ) {
        let turn = &mut Turn { now, effects };
        let Some(batch) = self.spool.leaving.pop_front_if(|batch| batch.token == token) else {
            return;
        };
        if let Err(error) = &result {
            if now >= self.spool.not_before {
                tracing::warn!(%error, "messages stay in memory: the temporary store does not take them");
            }
            self.spool.not_before = now.saturating_add(PAUSE);
            for (key, number) in batch.created {
                if let Some(queue) = self.queues.get_mut(key.0).filter(|queue| queue.number == number) {
                    queue.spool.created = false;
                }
            }
        }
        // What was refused for its messages removed nothing either.
        let removed = match result {
            Err(_) if !batch.messages.is_empty() => batch.removed,
            _ => Vec::new(),
        };
        for (key, number, place) in batch.messages {
            let queue = self.queues.get_mut(key.0).filter(|queue| queue.number == number);
            let entry = queue.and_then(|queue| queue.backlog.get_mut(place));
            let Some(entry) = entry.filter(|entry| entry.spooled == Spooled::Leaving) else {
                continue;
            };
            match result {
                Ok(()) => {
                    entry.spooled = Spooled::Away;
                    entry.body = None;
                }
                Err(_) => self.change(key, place, Spooled::No),
            }
        }
        for key in removed {
            if !self.is_spooled(key) {
                self.remove_from_temp(key, turn);
            }
        }
        self.resume_producers(turn);
    }

    /// True if a message that waits lies there, or is on its way.
    fn is_spooled(&self, key: MessageKey) -> bool {
        let queue = self.stored_queues.get(&key.destination);
        let backlog = queue.map(|queue| &self.queues[queue.0].backlog);
        backlog
            .and_then(|backlog| backlog.get(backlog.find(key.sequence)?))
            .is_some_and(|entry| entry.spooled != Spooled::No)
    }
}
