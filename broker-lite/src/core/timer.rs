//! What time brings about: one list of alarms, the soonest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use openwire_client::wire::ConsumerId;

use super::effect::ConnectionKey;
use super::queue::QueueKey;
use super::subscription::Pull;
use super::topic::TopicKey;
use super::{Core, Turn};

/// What an alarm is for. One that has lost its meaning by the time it goes off does nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A queue that waited for more consumers begins to dispatch. The number tells whether it is the same queue still.
    Start(QueueKey, u64),
    /// A queue is searched for messages whose time is over.
    Sweep(QueueKey, u64),
    /// A pull has waited long enough.
    Pull(ConnectionKey, ConsumerId),
    /// Sends may have waited long enough for room.
    NoRoom,
    /// It is looked whether a consumer keeps up.
    Slow(ConnectionKey, ConsumerId),
    /// A topic need not keep some of its messages any longer. The number tells whether it is the same topic still.
    Forget(TopicKey, u64),
    /// It is looked for destinations that nobody uses.
    Purge,
    /// The store is told what was redelivered, or may have been before a crash.
    Flagged,
    /// It is looked for durable subscriptions that have been away for too long.
    Absent,
}

/// Alarms, the soonest first.
#[derive(Debug, Default)]
pub(super) struct Alarms(BinaryHeap<Reverse<(i64, Alarm)>>);

impl Alarms {
    /// Sets an alarm, in milliseconds since 1970.
    pub(super) fn set(&mut self, at: i64, alarm: Alarm) {
        self.0.push(Reverse((at, alarm)));
    }

    /// When the next one goes off.
    pub(super) fn next(&self) -> Option<i64> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    fn due(&mut self, now: i64) -> Option<(i64, Alarm)> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop().map(|Reverse(alarm)| alarm)
    }
}

impl Core {
    /// When [`Core::tick`] wants to be called next, in milliseconds since 1970.
    pub fn next_deadline(&self) -> Option<i64> {
        self.alarms
            .next()
            .into_iter()
            .chain(self.interrupted.until())
            .chain(self.jobs.next())
            .min()
    }

    /// Time has passed: pulls that waited long enough are answered, queues go on that a refusal of the store had
    /// interrupted, messages expire, and those are delivered that were scheduled.
    pub fn tick(&mut self, now: i64, effects: &mut super::Effects) {
        let turn = &mut Turn { now, effects };
        self.resume_interrupted(turn);
        if self.jobs.next().is_some_and(|at| at <= now) {
            self.run_jobs(turn);
        }
        while let Some((at, alarm)) = self.alarms.due(now) {
            match alarm {
                Alarm::Start(queue, number) if self.is_queue(queue, number) => self.start(queue, turn),
                Alarm::Sweep(queue, number) if self.is_queue(queue, number) => self.sweep(queue, turn),
                Alarm::Start(..) | Alarm::Sweep(..) => {}
                Alarm::Pull(connection, consumer) => {
                    if self.connections.contains(connection.0 as usize)
                        && let Some(key) = self.subscription_of(connection, Some(&consumer))
                        && self.subscriptions[key.0].pull == Some(Pull::Until(at))
                    {
                        self.answer_pull(key, turn);
                    }
                }
                Alarm::NoRoom => self.give_up_waiting(turn),
                Alarm::Slow(connection, consumer) => {
                    if self.connections.contains(connection.0 as usize)
                        && let Some(key) = self.subscription_of(connection, Some(&consumer))
                    {
                        self.look_for_slow(key, at, turn);
                    }
                }
                Alarm::Forget(topic, number) => self.forget_old(topic, number, turn),
                Alarm::Purge => self.purge_unused(turn),
                Alarm::Flagged => self.keep_flags(turn),
                Alarm::Absent => self.remove_absent(turn),
            }
        }
    }

    /// True if the key still means the same queue.
    fn is_queue(&self, key: QueueKey, number: u64) -> bool {
        self.queues.get(key.0).is_some_and(|queue| queue.number == number)
    }
}
