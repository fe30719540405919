//! A consumer acknowledges.

use openwire_client::wire::{MessageAck, MessageId, Throwable};

use super::dead_letter::EXPIRED;
use super::durable::{Back, Consumed};
use super::effect::{ConnectionKey, Then};
use super::queue::{Entry, QueueKey};
use super::refusal::Refusal;
use super::statistics::count_topic_landing;
use super::subscription::{InFlight, Source, SubscriptionKey};
use super::transaction::TransactionKey;
use super::{Core, Outcome, Turn};
use crate::store::{MessageKey, Op};

impl Core {
    pub(super) fn acknowledge(
        &mut self,
        from: ConnectionKey,
        ack: &MessageAck,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let Some(key) = self.subscription_of(from, ack.consumer_id.as_ref()) else {
            // Its messages went back to the queue when it ended.
            return Ok(Outcome::Done);
        };
        let transaction = self.transaction_of(from, ack.transaction_id.as_ref())?;
        self.subscriptions[key.0].slowness.moved(turn.now);
        let outcome = match self.subscriptions[key.0].source {
            Source::Topics(_) => {
                self.acknowledge_topic(key, ack, transaction);
                turn.confirm(reply)
            }
            Source::Queues(_) if self.subscriptions[key.0].browse.is_some() => {
                self.acknowledge_browsed(key, ack);
                Outcome::Done
            }
            Source::Queues(_) => {
                let taken = self.acknowledge_queue(key, ack, transaction, turn)?;
                // Whoever is told of a refusal acknowledges again; else the broker delivers again.
                let back = match reply {
                    Some(_) => Back::InFlight(key),
                    None => Back::Seen,
                };
                let consumed = taken
                    .into_iter()
                    .filter(|message| message.entry.stored || reply.is_some())
                    .map(|message| Consumed::in_flight(message, back));
                self.confirm_consumed(consumed.collect(), reply, turn)
            }
        };
        self.serve(key, turn);
        self.resume_producers(turn);
        Ok(outcome)
    }

    /// Nobody keeps a topic's messages for a subscriber: only its window counts.
    fn acknowledge_topic(
        &mut self,
        key: SubscriptionKey,
        ack: &MessageAck,
        transaction: Option<TransactionKey>,
    ) {
        let count = usize::try_from(ack.message_count).unwrap_or(0);
        let subscription = &mut self.subscriptions[key.0];
        match ack.ack_type {
            MessageAck::DELIVERED => {
                subscription.extension = (subscription.extension + count).min(subscription.topic_in_flight);
            }
            MessageAck::STANDARD | MessageAck::INDIVIDUAL | MessageAck::EXPIRED | MessageAck::POISON => {
                match transaction.and_then(|open| self.transactions.get_mut(open)) {
                    Some(transaction) => {
                        subscription.extension =
                            (subscription.extension + count).min(subscription.topic_in_flight);
                        transaction.topic_acks.push((key, subscription.id.clone(), count));
                    }
                    None => self.release_topic(key, count),
                }
            }
            _ => {}
        }
    }

    pub(super) fn release_topic(&mut self, key: SubscriptionKey, count: usize) {
        let subscription = &mut self.subscriptions[key.0];
        count_topic_landing(&mut self.topics, subscription, count, true);
        subscription.topic_in_flight = subscription.topic_in_flight.saturating_sub(count);
        subscription.extension = subscription.extension.saturating_sub(count);
        self.stats.acknowledged += count as u64;
    }

    /// Gives back the messages that the acknowledgement is the end of.
    fn acknowledge_queue(
        &mut self,
        key: SubscriptionKey,
        ack: &MessageAck,
        transaction: Option<TransactionKey>,
        turn: &mut Turn<'_>,
    ) -> Result<Vec<InFlight>, Refusal> {
        let subscription = &mut self.subscriptions[key.0];
        if subscription.in_flight.is_empty() {
            // What it acknowledges was dispatched on an earlier connection and is dispatched again.
            return Ok(Vec::new());
        }
        let last = ack.last_message_id.as_ref().ok_or_else(|| not_dispatched(None))?;
        match ack.ack_type {
            MessageAck::DELIVERED => {
                let (_, to) = subscription
                    .range(None, last)
                    .ok_or_else(|| not_dispatched(Some(last)))?;
                subscription.extend(to);
            }
            MessageAck::STANDARD | MessageAck::INDIVIDUAL => {
                let first = if ack.ack_type == MessageAck::INDIVIDUAL {
                    Some(last)
                } else {
                    ack.first_message_id.as_ref()
                };
                let mut range = subscription.range(first, last);
                if let Some(open) = transaction {
                    if range.is_none() && self.has_taken(open, key, last) {
                        return Ok(Vec::new());
                    }
                    // What it begins with was acknowledged in the transaction before.
                    if range.is_none() && first.is_some_and(|first| self.has_taken(open, key, first)) {
                        range = self.subscriptions[key.0].range(None, last);
                    }
                    let range = range.ok_or_else(|| not_dispatched(Some(last)))?;
                    self.take_in(open, key, range)?;
                    return Ok(Vec::new());
                }
                let (from_at, to) = range.ok_or_else(|| not_dispatched(Some(last)))?;
                let count = to - from_at + 1;
                if ack.ack_type == MessageAck::STANDARD && ack.message_count != count as i32 {
                    return Err(Refusal::jms(format!(
                        "Unmatched acknowledge: {} messages where {count} were dispatched up to {last}",
                        ack.message_count
                    )));
                }
                let taken = subscription.take(from_at, to);
                for message in &taken {
                    self.landed(message.queue);
                    self.consumed(message.queue, &message.entry, turn);
                }
                return Ok(taken);
            }
            MessageAck::REDELIVERED => {
                let (from_at, to) = subscription
                    .range(ack.first_message_id.as_ref(), last)
                    .ok_or_else(|| not_dispatched(Some(last)))?;
                for message in subscription.in_flight.range_mut(from_at..=to) {
                    message.entry.redelivered += 1;
                }
            }
            MessageAck::POISON | MessageAck::EXPIRED => {
                if transaction.is_some() {
                    return Err(Refusal::jms("Poison ack cannot be transacted"));
                }
                let (from_at, to) = subscription
                    .range(ack.first_message_id.as_ref(), last)
                    .ok_or_else(|| not_dispatched(Some(last)))?;
                let taken = subscription.take(from_at, to);
                let expired = ack.ack_type == MessageAck::EXPIRED;
                if expired {
                    self.stats.expired += taken.len() as u64;
                }
                let cause = match expired {
                    true => EXPIRED.to_owned(),
                    false => poison_cause(ack.poison_cause.as_ref()),
                };
                let (here, absent): (Vec<_>, Vec<_>) = taken
                    .into_iter()
                    .partition(|message| message.entry.body.is_some());
                for message in &here {
                    self.landed(message.queue);
                    let entry = message.entry.clone();
                    if expired {
                        self.dead_letter(message.queue, entry, &cause, turn);
                        self.note_expired(message.queue, &message.entry, turn);
                    } else {
                        self.give_up(message.queue, entry, &cause, turn);
                    }
                }
                self.give_up_later(absent, &cause, turn);
                return Ok(here);
            }
            MessageAck::UNMATCHED => {}
            other => return Err(Refusal::jms(format!("no such acknowledgement type: {other}"))),
        }
        Ok(Vec::new())
    }

    /// What a browser has seen counts for its window only.
    fn acknowledge_browsed(&mut self, key: SubscriptionKey, ack: &MessageAck) {
        let subscription = &mut self.subscriptions[key.0];
        let Some(last) = ack.last_message_id.as_ref() else {
            return;
        };
        let first = ack.first_message_id.as_ref();
        if let Some((from, to)) = subscription.range(first, last) {
            match ack.ack_type {
                MessageAck::DELIVERED => subscription.extend(to),
                _ => drop(subscription.take(from, to)),
            }
        }
    }

    /// A message of this queue is with no consumer any more.
    pub(super) fn landed(&mut self, queue: QueueKey) {
        if let Some(queue) = self.queues.get_mut(queue.0) {
            queue.in_flight -= 1;
        }
    }

    /// A message of this queue is gone for good.
    pub(super) fn consumed(&mut self, queue: QueueKey, entry: &Entry, turn: &mut Turn<'_>) {
        self.stats.acknowledged += 1;
        self.discard(queue, entry, turn);
    }

    /// Forgets a message that is not on its queue any more, in memory or in the store.
    pub(super) fn discard(&mut self, queue: QueueKey, entry: &Entry, turn: &mut Turn<'_>) {
        self.note_left(queue, entry, turn);
        self.uncount(queue, entry);
        if entry.stored
            && let Some(destination) = self.queues.get(queue.0).and_then(|queue| queue.key)
        {
            let key = MessageKey {
                destination,
                sequence: entry.sequence,
            };
            turn.effects.store([Op::Remove { key }], None);
        }
    }
}

fn not_dispatched(id: Option<&MessageId>) -> Refusal {
    match id {
        Some(id) => Refusal::jms(format!(
            "Unmatched acknowledge: {id} was not dispatched to this consumer"
        )),
        None => Refusal::jms("an acknowledgement without a message id"),
    }
}

fn poison_cause(cause: Option<&Throwable>) -> String {
    match cause {
        Some(cause) => {
            let class = cause.class.as_deref().unwrap_or_default();
            format!("{class}: {}", cause.message.as_deref().unwrap_or_default())
        }
        None => "the consumer gave it up".to_owned(),
    }
}
