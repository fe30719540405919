//! A message arrives: checks, duplicate detection, and where it goes.

use std::sync::Arc;

use openwire_client::wire::{Message, MessageDispatch, ProducerAck, TransactionId};

use super::connection::IMPLICIT_SESSION;
use super::dead_letter::is_dead_letter;
use super::destinations::Target;
use super::effect::{ConnectionKey, Effect, Then};
use super::queue::{Entry, QueueKey};
use super::refusal::Refusal;
use super::subscription::SubscriptionKey;
use super::topic::TopicKey;
use super::{Core, Outcome, Turn};
use crate::store::{MessageKey, Op, accounting_size};

impl Core {
    pub(super) fn message(
        &mut self,
        from: ConnectionKey,
        mut message: Arc<Message>,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let connection = self.registered(from)?;
        let window = match &message.producer_id {
            Some(id) => connection
                .producers
                .get(&(id.session_id, id.value))
                .map_or(0, |producer| producer.window),
            None => 0,
        };
        if message.message_id.is_none() {
            return Err(Refusal::illegal_state("a message without a message id"));
        }
        check_supported(&message)?;
        let destination = message
            .destination
            .clone()
            .ok_or_else(|| Refusal::destination("a message without a destination"))?;
        let target = self.resolve_for_send(&destination)?;
        let size = accounting_size(&message);
        if message.transaction_id.is_some() || !self.goes_to_store(target, &message) {
            self.check_memory(from, size, turn)?;
        }
        let producer_id = message.producer_id.clone();
        let awaited = reply.is_some();

        let outcome = match message.transaction_id.clone() {
            Some(TransactionId::Local(id)) => {
                self.transaction_mut(from, &id)?.sends.push(message);
                self.memory_used += size as usize;
                Outcome::Done
            }
            Some(TransactionId::Xa(_)) => return Err(Refusal::unsupported("XA transactions are")),
            None => {
                let duplicate = self.is_duplicate(from, &message);
                if duplicate {
                    self.stats.duplicates += 1;
                    self.confirm_duplicate(&message, reply, turn)
                } else {
                    Arc::make_mut(&mut message).response_required = false;
                    self.publish(target, message, reply, turn)
                }
            }
        };
        if window > 0 && !awaited {
            let ack = ProducerAck {
                producer_id,
                size: size as i32,
                ..ProducerAck::default()
            };
            turn.send(from, ack);
        }
        Ok(outcome)
    }

    /// True if a client that reconnected sends what the broker has already.
    pub(super) fn is_duplicate(&self, from: ConnectionKey, message: &Message) -> bool {
        message.persistent
            && self.connections[from.0 as usize].failover_reconnect()
            && message
                .message_id
                .as_ref()
                .is_some_and(|id| self.audit.is_duplicate(id))
    }

    /// The first copy may still be on its way into the store: the answer is the one that copy gets.
    fn confirm_duplicate(&mut self, message: &Message, reply: Option<Then>, turn: &mut Turn<'_>) -> Outcome {
        let (Some(Then::Reply { to, response }), Some(id)) = (reply, &message.message_id) else {
            return Outcome::Done;
        };
        if let Some(batch) = self.batches.iter_mut().find(|batch| batch.has(id)) {
            batch.undecided.wait(to, response);
            return Outcome::Answered;
        }
        turn.confirm(Some(Then::Reply { to, response }))
    }

    /// Gives the message its number, puts it where it goes and dispatches.
    pub(super) fn publish(
        &mut self,
        target: Target,
        message: Arc<Message>,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Outcome {
        let outcome = self.put(target, message, reply, false, turn);
        if let Target::Queue(queue) = target {
            self.dispatch(queue, turn);
        }
        outcome
    }

    /// Gives the message its number and puts it where it goes. One that is `tied` is on its queue only if what
    /// this turn stores is.
    pub(super) fn put(
        &mut self,
        target: Target,
        mut message: Arc<Message>,
        reply: Option<Then>,
        tied: bool,
        turn: &mut Turn<'_>,
    ) -> Outcome {
        self.sequence += 1;
        let sequence = self.sequence;
        let fields = Arc::make_mut(&mut message);
        fields.broker_in_time = turn.now;
        if let Some(id) = &mut fields.message_id {
            id.broker_sequence_id = sequence as i64;
            if fields.persistent {
                self.audit.taken(id);
            }
        }
        self.stats.enqueued += 1;
        match target {
            Target::Topic(topic) => {
                self.publish_to_topic(topic, message, turn);
                Outcome::Done
            }
            Target::Queue(queue) => self.put_on_queue(queue, message, reply, tied, turn),
        }
    }

    fn goes_to_store(&self, target: Target, message: &Message) -> bool {
        match target {
            Target::Queue(queue) => {
                self.config.stored && message.persistent && !self.queues[queue.0].destination.is_temporary()
            }
            Target::Topic(_) => false,
        }
    }

    fn put_on_queue(
        &mut self,
        queue: QueueKey,
        message: Arc<Message>,
        reply: Option<Then>,
        tied: bool,
        turn: &mut Turn<'_>,
    ) -> Outcome {
        let stored =
            self.config.stored && message.persistent && !self.queues[queue.0].destination.is_temporary();
        let size = accounting_size(&message);
        let sequence = self.sequence;
        let mut entry = Entry {
            sequence,
            size,
            redelivered: message.redelivery_counter.max(0) as u32,
            stored,
            tied: tied && !stored,
            body: None,
        };
        let outcome = if stored {
            let destination = self.stored_key(queue, turn);
            let key = MessageKey {
                destination,
                sequence,
            };
            turn.effects.store(
                [Op::Put {
                    key,
                    message: message.clone(),
                }],
                None,
            );
            let awaited = reply.is_some();
            turn.effects.store([], reply);
            let id = message.message_id.as_ref().filter(|_| !is_dead_letter(&message));
            self.batch(turn).put(queue, sequence, id);
            entry.body = Some(message);
            if awaited { Outcome::Answered } else { Outcome::Done }
        } else {
            if tied {
                self.batch(turn).put(queue, sequence, None);
            }
            entry.body = Some(message);
            Outcome::Done
        };
        self.count(&entry);
        self.queues[queue.0].pending.push_back(entry);
        outcome
    }

    fn publish_to_topic(&mut self, topic: TopicKey, mut message: Arc<Message>, turn: &mut Turn<'_>) {
        if is_expired(&message, turn.now) {
            self.stats.expired += 1;
            return;
        }
        Arc::make_mut(&mut message).broker_out_time = turn.now;
        let subscribers = std::mem::take(&mut self.topics[topic.0].subscribers);
        let target = message.target_consumer_id.as_ref();
        for &key in &subscribers {
            let subscription = &mut self.subscriptions[key.0];
            if target.is_some_and(|target| *target != subscription.id) {
                continue;
            }
            let local = || {
                let sender = message.message_id.as_ref().and_then(|id| id.producer_id.as_ref());
                sender.and_then(|id| id.connection_id.as_deref()) == subscription.id.connection_id.as_deref()
            };
            if subscription.no_local && local() || !subscription.selects(&message) {
                continue;
            }
            self.memory_used += accounting_size(&message) as usize;
            subscription.waiting.push_back(message.clone());
            self.feed(key, turn);
        }
        self.topics[topic.0].subscribers = subscribers;
    }

    /// Dispatches what waits for a topic consumer, as far as its credit goes.
    pub(super) fn feed(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let subscription = &mut self.subscriptions[key.0];
        while subscription.has_credit() {
            let Some(message) = subscription.waiting.pop_front() else {
                break;
            };
            self.memory_used -= accounting_size(&message) as usize;
            if is_expired(&message, turn.now) {
                self.stats.expired += 1;
                continue;
            }
            // A consumer that pulls has no window: its credit is the pull itself.
            if subscription.pull.take().is_none() {
                subscription.topic_in_flight += 1;
            }
            self.stats.dispatched += 1;
            turn.send(
                subscription.connection,
                MessageDispatch {
                    consumer_id: Some(subscription.id.clone()),
                    destination: message.destination.clone(),
                    redelivery_counter: message.redelivery_counter,
                    message: Some(message),
                    ..MessageDispatch::default()
                },
            );
        }
    }

    /// Holds back a producer for which the broker has no room. One that consumes on the same connection must
    /// be read on, because its acknowledgements make room; its message is refused.
    fn check_memory(&mut self, from: ConnectionKey, size: u32, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if self.memory_used + size as usize <= self.config.memory_limit {
            return Ok(());
        }
        let connection = &mut self.connections[from.0 as usize];
        let consumes = connection
            .consumers
            .values()
            .any(|key| self.subscriptions[key.0].id.session_id != IMPLICIT_SESSION);
        if consumes {
            self.stats.refused += 1;
            return Err(Refusal::resources(format!(
                "the broker's memory limit of {} bytes is reached",
                self.config.memory_limit
            )));
        }
        if !connection.paused {
            connection.paused = true;
            self.paused.push(from);
            tracing::warn!(peer = %connection.peer, limit = self.config.memory_limit, "memory limit reached: producer paused");
            turn.effects.push(Effect::Pause { connection: from });
        }
        Ok(())
    }

    /// Lets paused producers go on once there is room again.
    pub(super) fn resume_producers(&mut self, turn: &mut Turn<'_>) {
        if self.paused.is_empty() || self.memory_used > self.config.memory_limit / 10 * 9 {
            return;
        }
        for key in std::mem::take(&mut self.paused) {
            if let Some(connection) = self.connections.get_mut(key.0 as usize)
                && std::mem::take(&mut connection.paused)
            {
                turn.effects.push(Effect::Resume { connection: key });
            }
        }
    }
}

/// True once the message's time is over.
pub(super) fn is_expired(message: &Message, now: i64) -> bool {
    message.expiration > 0 && message.expiration <= now
}

/// What this broker cannot do for a message is refused rather than ignored.
fn check_supported(message: &Message) -> Result<(), Refusal> {
    const SCHEDULED: &[u8] = b"AMQ_SCHEDULED_";
    if message.group_id.is_some() {
        return Err(Refusal::unsupported("message groups are"));
    }
    if let Some(properties) = &message.marshalled_properties
        && contains(properties, SCHEDULED)
    {
        return Err(Refusal::unsupported("scheduled messages are"));
    }
    Ok(())
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    let Some((&first, rest)) = needle.split_first() else {
        return true;
    };
    let mut at = haystack;
    while let Some(found) = at.iter().position(|&byte| byte == first) {
        at = &at[found + 1..];
        if at.starts_with(rest) {
            return true;
        }
    }
    false
}
