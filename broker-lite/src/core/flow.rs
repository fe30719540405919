//! Room for messages: what the broker has, who waits for it, and who is told that there is none.
//!
//! A send that finds no room is *held back*: it has no effect and no answer yet, and the connection it came over is
//! read on, so that acknowledgements, which make room, still come in. It goes on in its turn when there is room. What a
//! connection may have held back is bounded; beyond that it is not read any more or, if it consumes, its sends are
//! refused.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use openwire_client::wire::{Destination, Message};

use super::connection::IMPLICIT_SESSION;
use super::destinations::Target;
use super::effect::{ConnectionKey, Effect, Then};
use super::expiry::millis;
use super::queue::{Entry, QueueKey};
use super::refusal::Refusal;
use super::route::Routes;
use super::send::is_expired;
use super::spool::Spooled;
use super::timer::Alarm;
use super::{Core, Effects, Outcome, Turn};
use crate::store::accounting_size;

/// Bytes of sends of one connection that are held back before it is not read any more: some messages of each of its
/// producers, and little beside what the broker has room for.
const HELD_BACK: usize = 1024 * 1024;

/// What there can be no room in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Limit {
    /// Messages that live in memory only.
    Memory,
    /// Messages in the store, as far as so many percent of its limit (`storeUsageHighWaterMark`).
    Store(u8),
    /// Messages that live in memory only and lie in the temporary store meanwhile.
    Temp,
    /// What a queue's policy lets it have in memory.
    Queue(QueueKey),
}

/// A send for which there was no room.
#[derive(Debug)]
struct HeldBack {
    from: ConnectionKey,
    message: Arc<Message>,
    reply: Option<Then>,
    /// It fails then, in milliseconds since 1970.
    until: Option<i64>,
}

/// Sends that wait for room.
#[derive(Debug, Default)]
pub(super) struct Flow {
    waiting: BTreeMap<Limit, VecDeque<HeldBack>>,
    /// Those that wait are let go just now.
    releasing: bool,
}

impl Flow {
    /// How many sends wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }
}

impl Core {
    /// Counts a message that lies on a queue or is with a consumer of it.
    pub(super) fn count(&mut self, queue: QueueKey, entry: &Entry) {
        let size = entry.size as usize;
        if entry.stored {
            self.stored_used += size;
        } else if entry.spooled != Spooled::No {
            self.spool.used += size;
        } else {
            self.memory_used += size;
            if let Some(queue) = self.queues.get_mut(queue.0) {
                queue.memory_used += size;
            }
        }
    }

    /// Undoes [`Core::count`].
    pub(super) fn uncount(&mut self, queue: QueueKey, entry: &Entry) {
        let size = entry.size as usize;
        if entry.stored {
            self.stored_used -= size;
        } else if entry.spooled != Spooled::No {
            self.spool.used -= size;
        } else {
            self.memory_used -= size;
            if let Some(queue) = self.queues.get_mut(queue.0) {
                queue.memory_used -= size;
            }
        }
    }

    /// What a message would have no room in.
    fn without_room(&self, routes: &Routes, message: &Message) -> Option<Limit> {
        let targets = match routes {
            Routes::One(target) => return self.lacks(*target, message),
            Routes::Several(copies) => copies,
            // It waits for its time where stored messages are, if there is a store.
            Routes::Later(_) => {
                let limit = match self.config.stored {
                    true => Limit::Store(100),
                    false => Limit::Memory,
                };
                return self.is_reached(limit).then_some(limit);
            }
        };
        targets
            .iter()
            .find_map(|(target, copy)| self.lacks(*target, copy))
    }

    fn lacks(&self, target: Target, message: &Message) -> Option<Limit> {
        let (queue, policy) = match target {
            Target::Queue(key) => (Some(key), &self.queues[key.0].policy),
            Target::Topic(key) => (None, &self.topics[key.0].policy),
        };
        let kept = match target {
            Target::Queue(key) => self.keeps(key, message),
            Target::Topic(key) => {
                self.config.stored && message.persistent && !self.topics[key.0].durables.is_empty()
            }
        };
        let limits = match kept {
            true => [Some(Limit::Store(policy.store_usage_high_water_mark)), None, None],
            false => {
                let spools = queue.filter(|key| self.may_spool(&self.queues[key.0]));
                let temp = spools.map(|_| Limit::Temp);
                [Some(Limit::Memory), queue.map(Limit::Queue), temp]
            }
        };
        limits.into_iter().flatten().find(|limit| self.is_reached(*limit))
    }

    fn is_reached(&self, limit: Limit) -> bool {
        match limit {
            Limit::Memory => self.is_full(),
            Limit::Store(share) => self.stored_used as u64 >= self.store_limit(share),
            Limit::Temp => self.is_temp_full(),
            Limit::Queue(key) => self.queues.get(key.0).is_some_and(|queue| {
                let most = queue.policy.memory_limit;
                most > 0 && queue.policy.producer_flow_control && queue.memory_used as u64 >= most
            }),
        }
    }

    /// From now on the store has room for so many bytes of messages, and producers wait beyond.
    pub fn set_store_limit(&mut self, now: i64, bytes: u64, effects: &mut Effects) {
        Arc::make_mut(&mut self.config.rules).store_limit = bytes;
        self.resume_producers(&mut Turn { now, effects });
    }

    /// So many percent of the store's limit, in bytes.
    fn store_limit(&self, percent: u8) -> u64 {
        let limit = u128::from(self.config.rules.store_limit) * u128::from(percent) / 100;
        // It is no more than the limit.
        limit.try_into().unwrap_or(u64::MAX)
    }

    /// True if there is no room for messages that live in memory only.
    pub(super) fn is_full(&self) -> bool {
        self.memory_used >= self.config.memory_limit
    }

    /// Sends a message, or holds it back until there is room.
    pub(super) fn send_or_wait(
        &mut self,
        from: ConnectionKey,
        routes: Routes,
        message: Arc<Message>,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let connection = &self.connections[from.0 as usize];
        // Behind others of the same sender to the same destination, so that they stay in order.
        let behind = message
            .destination
            .as_ref()
            .and_then(|destination| connection.held_back.get(destination))
            .map(|(limit, _)| *limit);
        match behind.or_else(|| self.without_room(&routes, &message)) {
            Some(limit) => self.hold_back(from, limit, message, reply, turn),
            None => Ok(self.accept(from, routes, message, reply, turn)),
        }
    }

    fn hold_back(
        &mut self,
        from: ConnectionKey,
        limit: Limit,
        message: Arc<Message>,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let Some(destination) = message.destination.clone() else {
            return Err(Refusal::destination("a message without a destination"));
        };
        if !self.connections[from.0 as usize]
            .held_back
            .contains_key(&destination)
        {
            self.advise_full(from, limit, &message, turn);
        }
        let rules = self.config.rules.clone();
        let policy = rules.policies.for_destination(&destination);
        if policy
            .send_fail_if_no_space
            .unwrap_or(rules.send_fail_if_no_space)
        {
            return Err(self.no_room(limit, &destination));
        }
        let size = accounting_size(&message) as usize;
        let consumes = self.consumes(from);
        let connection = &mut self.connections[from.0 as usize];
        if connection.held_back_bytes + size > HELD_BACK && connection.held_back_bytes > 0 {
            if consumes {
                return Err(self.no_room(limit, &destination));
            }
            self.pause(from, turn);
        }
        let timeout = policy
            .send_fail_if_no_space_after_timeout
            .or(rules.send_fail_if_no_space_after_timeout)
            .filter(|timeout| !timeout.is_zero());
        let until = timeout.map(|timeout| turn.now.saturating_add(millis(timeout)));
        if let Some(until) = until {
            self.alarms.set(until, Alarm::NoRoom);
        }
        let connection = &mut self.connections[from.0 as usize];
        connection.held_back_bytes += size;
        let (_, count) = connection
            .held_back
            .entry(destination.clone())
            .or_insert((limit, 0));
        *count += 1;
        if *count == 1 {
            self.stats.blocked += 1;
            tracing::warn!(peer = %connection.peer, %destination, ?limit, "no room: a producer waits");
        }
        self.flow.waiting.entry(limit).or_default().push_back(HeldBack {
            from,
            message,
            reply,
            until,
        });
        Ok(Outcome::Answered)
    }

    fn no_room(&mut self, limit: Limit, destination: &Destination) -> Refusal {
        self.stats.refused += 1;
        let (what, most) = match limit {
            Limit::Memory => ("memory limit", self.config.memory_limit as u64),
            Limit::Store(share) => ("store limit", self.store_limit(share)),
            Limit::Temp => ("temp limit", self.config.temp_limit.unwrap_or(0)),
            Limit::Queue(key) => {
                let queue = self.queues.get(key.0);
                (
                    "memory limit of the destination",
                    queue.map_or(0, |queue| queue.policy.memory_limit),
                )
            }
        };
        Refusal::resources(format!(
            "no room for a message to {destination}: the broker's {what} of {most} bytes is reached"
        ))
    }

    /// True if the connection has consumers of the application.
    pub(super) fn consumes(&self, from: ConnectionKey) -> bool {
        self.connections[from.0 as usize]
            .consumers
            .values()
            .any(|key| self.subscriptions[key.0].id.session_id != IMPLICIT_SESSION)
    }

    /// Nothing more is read from the connection until there is room.
    pub(super) fn pause(&mut self, from: ConnectionKey, turn: &mut Turn<'_>) {
        let connection = &mut self.connections[from.0 as usize];
        if !std::mem::replace(&mut connection.paused, true) {
            self.paused.push(from);
            tracing::warn!(peer = %connection.peer, "no room for its messages: the connection is not read");
            turn.effects.push(Effect::Pause { connection: from });
        }
    }

    /// There may be room again: those that wait go on, as far as it reaches.
    pub(super) fn resume_producers(&mut self, turn: &mut Turn<'_>) {
        if self.flow.releasing || (self.flow.waiting.is_empty() && self.paused.is_empty()) {
            return;
        }
        self.flow.releasing = true;
        let limits: Vec<_> = self.flow.waiting.keys().copied().collect();
        for limit in limits {
            while !self.is_reached(limit) {
                let Some(next) = self.next_held_back(limit) else {
                    break;
                };
                self.go_on(next, turn);
            }
        }
        self.flow.releasing = false;
        self.resume_paused(turn);
    }

    fn next_held_back(&mut self, limit: Limit) -> Option<HeldBack> {
        let waiting = self.flow.waiting.get_mut(&limit)?;
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.flow.waiting.remove(&limit);
        }
        let next = next?;
        self.no_longer_held(next.from, &next.message);
        Some(next)
    }

    fn no_longer_held(&mut self, from: ConnectionKey, message: &Message) {
        let Some(connection) = self.connections.get_mut(from.0 as usize) else {
            return;
        };
        connection.held_back_bytes -= accounting_size(message) as usize;
        if let Some(destination) = &message.destination
            && let Some((_, count)) = connection.held_back.get_mut(destination)
        {
            *count -= 1;
            if *count == 0 {
                connection.held_back.remove(destination);
                self.stats.blocked -= 1;
            }
        }
    }

    /// A send goes on that was held back.
    fn go_on(&mut self, held: HeldBack, turn: &mut Turn<'_>) {
        let HeldBack {
            from, message, reply, ..
        } = held;
        if is_expired(&message, turn.now) {
            self.stats.expired += 1;
            return self.answer(reply, Ok(Outcome::Done), turn);
        }
        let waits = reply.clone();
        let result = self.route(&message, turn).and_then(|routes| {
            match self.without_room(&routes, &message) {
                // It waited for something else before.
                Some(limit) => self.hold_back(from, limit, message, reply, turn),
                None => Ok(self.accept(from, routes, message, reply, turn)),
            }
        });
        self.answer(waits, result, turn);
    }

    /// Answers a command after its turn.
    pub(super) fn answer(
        &mut self,
        reply: Option<Then>,
        result: Result<Outcome, Refusal>,
        turn: &mut Turn<'_>,
    ) {
        let Some(Then::Reply { to, response }) = reply else {
            return;
        };
        let command = match result {
            Ok(Outcome::Answered) => return,
            Ok(Outcome::Done) => response,
            Err(refusal) => refusal.answer_to(&response),
        };
        turn.effects.push(Effect::Send { to, command });
    }

    /// Sends fail that have waited for room for too long (`sendFailIfNoSpaceAfterTimeout`).
    pub(super) fn give_up_waiting(&mut self, turn: &mut Turn<'_>) {
        let mut failed = Vec::new();
        self.flow.waiting.retain(|limit, waiting| {
            let (over, still): (VecDeque<_>, VecDeque<_>) = std::mem::take(waiting)
                .into_iter()
                .partition(|held| held.until.is_some_and(|until| until <= turn.now));
            failed.extend(over.into_iter().map(|held| (*limit, held)));
            *waiting = still;
            !waiting.is_empty()
        });
        for (limit, held) in failed {
            self.no_longer_held(held.from, &held.message);
            let destination = held.message.destination.clone();
            let refusal = self.no_room(limit, &destination.unwrap_or_else(|| Destination::queue("")));
            match held.reply {
                Some(_) => self.answer(held.reply, Err(refusal), turn),
                None => self.report(held.from, &refusal, turn),
            }
        }
        self.resume_paused(turn);
    }

    /// The connection ended: what it had held back was never sent.
    pub(super) fn forget_held_back(&mut self, connection: ConnectionKey) {
        self.flow.waiting.retain(|_, waiting| {
            waiting.retain(|held| held.from != connection);
            !waiting.is_empty()
        });
        let connection = &mut self.connections[connection.0 as usize];
        self.stats.blocked -= connection.held_back.len();
        connection.held_back.clear();
        connection.held_back_bytes = 0;
    }

    /// Connections are read again that have little held back.
    fn resume_paused(&mut self, turn: &mut Turn<'_>) {
        if self.paused.is_empty() || self.memory_used > self.config.memory_limit / 10 * 9 {
            return;
        }
        for key in std::mem::take(&mut self.paused) {
            let Some(connection) = self.connections.get_mut(key.0 as usize) else {
                continue;
            };
            if connection.held_back_bytes > HELD_BACK / 2 {
                self.paused.push(key);
            } else if std::mem::take(&mut connection.paused) {
                turn.effects.push(Effect::Resume { connection: key });
            }
        }
    }
}
