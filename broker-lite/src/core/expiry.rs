//! Messages whose time is over while they wait.

use std::time::Duration;

use super::backlog::Place;
use super::dispatch::LOAD_MESSAGES;
use super::queue::{Entry, QueueKey};
use super::timer::Alarm;
use super::{Core, Turn};

/// How many are dealt with in one turn, so that others get theirs.
const AT_ONCE: usize = 1000;

/// How soon the rest is, in milliseconds.
const SOON: i64 = 10;

/// A duration in the milliseconds that times here are in.
pub(super) fn millis(duration: Duration) -> i64 {
    duration.as_millis().try_into().unwrap_or(i64::MAX)
}

impl Core {
    /// Puts a message on a queue where it belongs, and sees to it that it ends when its time is over.
    pub(super) fn put_waiting(&mut self, key: QueueKey, entry: Entry, now: i64) {
        let expiration = entry.body.as_ref().map_or(0, |message| message.expiration);
        let short_of_memory = !entry.stored && self.is_beyond_mark(key);
        let queue = &mut self.queues[key.0];
        let place = queue.backlog.place(&entry);
        if short_of_memory {
            queue.spool.candidates.push(place);
        }
        queue.put(entry);
        if expiration > 0 {
            self.note_expiration(key, place, expiration, now);
        }
    }

    /// The message at this place has an end.
    pub(super) fn note_expiration(&mut self, key: QueueKey, place: Place, expiration: i64, now: i64) {
        let queue = &mut self.queues[key.0];
        let period = millis(queue.policy.expire_messages_period);
        if period == 0 {
            return;
        }
        queue.expiring.insert((expiration, place));
        if !std::mem::replace(&mut queue.sweeping, true) {
            let alarm = Alarm::Sweep(key, queue.number);
            self.alarms.set(now.saturating_add(period), alarm);
        }
    }

    /// Searches a queue for messages whose time is over (`expireMessagesPeriod`).
    pub(super) fn sweep(&mut self, key: QueueKey, turn: &mut Turn<'_>) {
        let more = self.expire_waiting(key, turn);
        let queue = &mut self.queues[key.0];
        queue.sweeping = more || !queue.expiring.is_empty();
        if queue.sweeping {
            let after = match more {
                true => SOON,
                false => millis(queue.policy.expire_messages_period),
            };
            let alarm = Alarm::Sweep(key, queue.number);
            self.alarms.set(turn.now.saturating_add(after), alarm);
        }
    }

    /// Ends what waits beyond its time; true if there may be more of it. What is out of memory is read back first,
    /// because it may go to the dead letters.
    pub(super) fn expire_waiting(&mut self, key: QueueKey, turn: &mut Turn<'_>) -> bool {
        for _ in 0..AT_ONCE {
            let queue = &mut self.queues[key.0];
            let Some(&(expiration, place)) = queue.expiring.first() else {
                return false;
            };
            if expiration > turn.now {
                return false;
            }
            match queue.backlog.get(place) {
                Some(entry) if entry.waits_for_store() && entry.sequence > self.durable => return true,
                Some(entry) if entry.body.is_none() => {
                    let over = queue.expiring.iter();
                    let over = over.take_while(|(expiration, _)| *expiration <= turn.now);
                    let places: Vec<_> = over.map(|(_, place)| *place).take(LOAD_MESSAGES).collect();
                    self.load(key, places, turn);
                    return true;
                }
                Some(_) => {
                    if let Some(entry) = self.remove_waiting(key, place, turn) {
                        self.expire(key, entry, turn);
                    }
                }
                None => {}
            }
            if let Some(queue) = self.queues.get_mut(key.0) {
                queue.expiring.remove(&(expiration, place));
            }
        }
        true
    }
}
