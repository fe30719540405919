//! The queue's loop: the first message goes to the next consumer with credit.

use std::sync::Arc;

use openwire_client::wire::{ConsumerControl, MessageDispatch, MessagePull};

use super::effect::{ConnectionKey, Effect};
use super::queue::{Entry, QueueKey};
use super::refusal::Refusal;
use super::send::is_expired;
use super::subscription::{InFlight, Pull, Source, SubscriptionKey};
use super::{Core, Outcome, Turn};
use crate::store::{MessageKey, Op};

/// How many bodies, and how many bytes of them, are asked for at once: enough to hide the way to the disk,
/// little against the memory they take.
const LOAD_MESSAGES: usize = 1024;
const LOAD_BYTES: usize = 4 * 1024 * 1024;
/// Bodies are asked for when fewer than this many stand ready at the front.
const LOAD_AHEAD: usize = 256;

impl Core {
    /// Dispatches from a queue as far as messages and credit go.
    pub(super) fn dispatch(&mut self, key: QueueKey, turn: &mut Turn<'_>) {
        let mut taken = false;
        loop {
            let queue = &mut self.queues[key.0];
            let (Some(front), Some(&consumer)) = (queue.pending.front(), queue.ready.front()) else {
                break;
            };
            if !self.subscriptions[consumer.0].has_credit() {
                queue.ready.pop_front();
                self.subscriptions[consumer.0].ready = false;
                continue;
            }
            let Some(body) = &front.body else {
                self.load(key, turn);
                return;
            };
            let durable = !front.waits_for_store() || front.sequence <= self.durable;
            if durable && is_expired(body, turn.now) {
                if let Some(entry) = self.pop(key) {
                    self.expire(key, entry, turn);
                }
                continue;
            }
            if front.stored && front.sequence > queue.mark {
                self.raise_mark(key, turn);
                return;
            }
            if !durable {
                // A consumer must not act on what a restart would not know.
                return;
            }
            queue.ready.pop_front();
            if let Some(entry) = self.pop(key) {
                self.hand_over(key, consumer, entry, turn);
                taken = true;
            }
        }
        if taken {
            self.load_ahead(key, turn);
        }
    }

    fn pop(&mut self, key: QueueKey) -> Option<Entry> {
        let entry = self.queues[key.0].pending.pop_front()?;
        if entry.stored && entry.body.is_some() {
            self.resident_used -= entry.size as usize;
        }
        Some(entry)
    }

    fn hand_over(&mut self, key: QueueKey, consumer: SubscriptionKey, mut entry: Entry, turn: &mut Turn<'_>) {
        let queue = &mut self.queues[key.0];
        let subscription = &mut self.subscriptions[consumer.0];
        if let Some(message) = &mut entry.body {
            let fields = Arc::make_mut(message);
            fields.redelivery_counter = entry.redelivered as i32;
            fields.broker_out_time = turn.now;
        }
        self.stats.dispatched += 1;
        turn.send(
            subscription.connection,
            MessageDispatch {
                consumer_id: Some(subscription.id.clone()),
                destination: Some(queue.destination.clone()),
                message: entry.body.clone(),
                redelivery_counter: entry.redelivered as i32,
                ..MessageDispatch::default()
            },
        );
        subscription.in_flight.push_back(InFlight {
            entry,
            transaction: None,
            number: self.stats.dispatched,
        });
        subscription.pull = None;
        subscription.ready = subscription.has_credit();
        if subscription.ready {
            queue.ready.push_back(consumer);
        }
    }

    /// The consumer may have credit: it takes its place in the queue's list, and messages if there are any.
    pub(super) fn serve(&mut self, consumer: SubscriptionKey, turn: &mut Turn<'_>) {
        let subscription = &mut self.subscriptions[consumer.0];
        match &subscription.source {
            Source::Topics(_) => self.feed(consumer, turn),
            Source::Queue(key) => {
                let key = *key;
                if !subscription.ready && subscription.has_credit() {
                    subscription.ready = true;
                    self.queues[key.0].ready.push_back(consumer);
                    self.dispatch(key, turn);
                }
            }
        }
    }

    /// Puts messages back, where the next consumer gets them.
    pub(super) fn put_back(&mut self, key: QueueKey, entries: Vec<Entry>, turn: &mut Turn<'_>) {
        self.return_to_queue(key, entries, turn);
        self.dispatch(key, turn);
    }

    /// Puts messages back and counts what became of them.
    pub(super) fn return_to_queue(&mut self, key: QueueKey, entries: Vec<Entry>, turn: &mut Turn<'_>) {
        if let Some(destination) = self.queues[key.0].key {
            let counted = entries
                .iter()
                .filter(|entry| entry.stored && entry.redelivered > 0)
                .map(|entry| {
                    let key = MessageKey {
                        destination,
                        sequence: entry.sequence,
                    };
                    Op::Redelivered {
                        key,
                        count: entry.redelivered,
                    }
                });
            let ops: Vec<_> = counted.collect();
            if !ops.is_empty() {
                turn.effects.store(ops, None);
            }
        }
        self.resident_used += entries
            .iter()
            .filter(|entry| entry.stored && entry.body.is_some())
            .map(|entry| entry.size as usize)
            .sum::<usize>();
        self.queues[key.0].put_back(entries);
    }

    /// Asks the store to note up to where messages may have been shown, before they are.
    fn raise_mark(&mut self, key: QueueKey, turn: &mut Turn<'_>) {
        let queue = &mut self.queues[key.0];
        let (false, Some(destination)) = (queue.marking, queue.key) else {
            return;
        };
        queue.marking = true;
        let sequence = queue.next_mark(self.sequence);
        turn.effects.store(
            [Op::Dispatched {
                destination,
                sequence,
            }],
            None,
        );
        self.batch(turn).marks.push((destination, sequence));
    }

    fn load_ahead(&mut self, key: QueueKey, turn: &mut Turn<'_>) {
        let queue = &self.queues[key.0];
        let ahead = queue.pending.get(LOAD_AHEAD).or_else(|| queue.pending.back());
        if ahead.is_some_and(|entry| entry.body.is_none()) {
            self.load(key, turn);
        }
    }

    /// Asks for the next bodies that are not in memory.
    fn load(&mut self, key: QueueKey, turn: &mut Turn<'_>) {
        let queue = &mut self.queues[key.0];
        let (false, Some(destination)) = (queue.loading, queue.key) else {
            return;
        };
        let mut bytes = 0;
        let keys: Vec<_> = queue
            .pending
            .iter()
            .take(LOAD_AHEAD + LOAD_MESSAGES)
            .filter(|entry| entry.body.is_none())
            .take_while(|entry| {
                let fits = bytes < LOAD_BYTES;
                bytes += entry.size as usize;
                fits
            })
            .take(LOAD_MESSAGES)
            .map(|entry| MessageKey {
                destination,
                sequence: entry.sequence,
            })
            .collect();
        if !keys.is_empty() {
            queue.loading = true;
            turn.effects.push(Effect::Load { keys });
        }
    }

    pub(super) fn pull(
        &mut self,
        from: ConnectionKey,
        pull: &MessagePull,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let Some(key) = self.subscription_of(from, pull.consumer_id.as_ref()) else {
            // It went away while the pull was on its way.
            return Ok(Outcome::Done);
        };
        let subscription = &mut self.subscriptions[key.0];
        if subscription.prefetch > 0 {
            return Ok(Outcome::Done);
        }
        let wait = match pull.timeout {
            0 => Pull::Forever,
            timeout if timeout < 0 => Pull::NoWait,
            timeout => {
                let until = turn.now.saturating_add(timeout);
                self.pulls
                    .push(std::cmp::Reverse((until, subscription.id.clone(), from)));
                Pull::Until(until)
            }
        };
        subscription.pull = Some(wait);
        let source = match &subscription.source {
            Source::Queue(queue) => Some(*queue),
            Source::Topics(_) => None,
        };
        self.serve(key, turn);
        match source {
            Some(queue) => self.end_pulls(queue, turn),
            None => self.end_pull(key, turn),
        }
        Ok(Outcome::Done)
    }

    /// Answers the consumers that do not wait, once it is known that there is nothing for them.
    pub(super) fn end_pulls(&mut self, key: QueueKey, turn: &mut Turn<'_>) {
        let queue = &self.queues[key.0];
        if !queue.pending.is_empty() || queue.ready.is_empty() {
            return;
        }
        for consumer in queue.ready.clone() {
            self.end_pull(consumer, turn);
        }
    }

    fn end_pull(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let subscription = &mut self.subscriptions[key.0];
        if subscription.pull == Some(Pull::NoWait) {
            self.answer_pull(key, turn);
        }
    }

    /// Tells a consumer that its pull found nothing.
    pub(super) fn answer_pull(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let subscription = &mut self.subscriptions[key.0];
        subscription.pull = None;
        let connection = subscription.connection;
        let consumer_id = Some(subscription.id.clone());
        if let Source::Queue(queue) = subscription.source
            && std::mem::take(&mut subscription.ready)
            && let Some(queue) = self.queues.get_mut(queue.0)
        {
            queue.ready.retain(|&consumer| consumer != key);
        }
        turn.send(
            connection,
            MessageDispatch {
                consumer_id,
                ..MessageDispatch::default()
            },
        );
    }

    /// A client changes a consumer's prefetch; those that reconnected do so once they are ready for messages.
    pub(super) fn consumer_control(
        &mut self,
        from: ConnectionKey,
        control: &ConsumerControl,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        if let Some(key) = self.subscription_of(from, control.consumer_id.as_ref()) {
            self.subscriptions[key.0].prefetch = u32::try_from(control.prefetch).unwrap_or(0);
            self.serve(key, turn);
        }
        Ok(Outcome::Done)
    }
}
