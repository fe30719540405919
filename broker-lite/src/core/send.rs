//! A message arrives: checks, duplicate detection, and where it goes.

use std::sync::Arc;

use openwire_client::wire::{Message, ProducerAck};

use super::authorize::UserIds;
use super::dead_letter::is_dead_letter;
use super::destinations::{Target, parts};
use super::effect::{ConnectionKey, Then};
use super::once::Once;
use super::queue::{Entry, QueueKey};
use super::refusal::Refusal;
use super::route::Routes;
use super::spool::Spooled;
use super::{Core, Outcome, Turn};
use crate::policy::is_to_be_retained;
use crate::security::Action;
use crate::store::{MessageKey, Op, accounting_size};

impl Core {
    pub(super) fn message(
        &mut self,
        from: ConnectionKey,
        mut message: Arc<Message>,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        self.registered(from)?;
        if message.message_id.is_none() {
            return Err(Refusal::illegal_state("a message without a message id"));
        }
        if self.answer_statistics(&message, turn)? {
            self.acknowledge_producer(from, &message, reply.is_some(), turn);
            return Ok(Outcome::Done);
        }
        if self.config.authorization.is_some()
            && let Some(destination) = &message.destination
        {
            for part in parts(destination)? {
                self.authorize_use(from, Action::Write, &part)?;
            }
        }
        if self.config.user_ids != UserIds::AsSent {
            self.stamp_user(from, Arc::make_mut(&mut message));
        }
        self.apply_plugins(&mut message, turn.now);
        if self.is_for_scheduler(&message) {
            self.acknowledge_producer(from, &message, reply.is_some(), turn);
            return self.manage_jobs(&message, reply, turn);
        }
        let routes = self.route(&message, turn)?;
        let Some(open) = self.transaction_of(from, message.transaction_id.as_ref())? else {
            return self.send_or_wait(from, routes, message, reply, turn);
        };
        let awaited = reply.is_some();
        self.acknowledge_producer(from, &message, awaited, turn);
        self.send_in(from, open, &routes, message, awaited, turn)?;
        Ok(Outcome::Done)
    }

    /// Takes in a message for which there is room.
    pub(super) fn accept(
        &mut self,
        from: ConnectionKey,
        routes: Routes,
        mut message: Arc<Message>,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Outcome {
        self.acknowledge_producer(from, &message, reply.is_some(), turn);
        if self.is_duplicate(from, &message) {
            self.stats.duplicates += 1;
            return self.confirm_duplicate(&message, reply, turn);
        }
        Arc::make_mut(&mut message).response_required = false;
        self.publish(routes, message, reply, turn)
    }

    /// Tells a producer with a window that it may send more (`ProducerAck`).
    fn acknowledge_producer(
        &self,
        from: ConnectionKey,
        message: &Message,
        awaited: bool,
        turn: &mut Turn<'_>,
    ) {
        let Some(id) = message.producer_id.as_ref().filter(|_| !awaited) else {
            return;
        };
        let producers = &self.connections[from.0 as usize].producers;
        if producers
            .get(&(id.session_id, id.value))
            .is_some_and(|producer| producer.window > 0)
        {
            let ack = ProducerAck {
                producer_id: Some(id.clone()),
                size: accounting_size(message) as i32,
                ..ProducerAck::default()
            };
            turn.send(from, ack);
        }
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

    /// Puts a message where it goes and dispatches. The answer waits for what is stored.
    pub(super) fn publish(
        &mut self,
        routes: Routes,
        message: Arc<Message>,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Outcome {
        let mut queues = Once::default();
        let stored = self.put_all(routes, message, false, &mut queues, turn);
        let outcome = match reply {
            Some(reply) if stored => {
                turn.effects.store([], Some(reply));
                Outcome::Answered
            }
            _ => Outcome::Done,
        };
        for queue in queues {
            self.dispatch(queue, turn);
        }
        outcome
    }

    /// Puts a message where it goes; true if some of it is stored. Queues that have more now are added to `queues`. What
    /// is `tied` is on its queue only if what this turn stores is.
    pub(super) fn put_all(
        &mut self,
        routes: Routes,
        message: Arc<Message>,
        tied: bool,
        queues: &mut Once<QueueKey>,
        turn: &mut Turn<'_>,
    ) -> bool {
        match routes {
            Routes::One(target) => self.put(target, message, tied, queues, turn),
            Routes::Several(copies) => {
                // All of them are there once what is stored of them is.
                let tied = tied || copies.iter().any(|(target, copy)| self.stores(*target, copy));
                let mut stored = false;
                for (target, copy) in copies {
                    stored |= self.put(target, copy, tied, queues, turn);
                }
                stored
            }
            Routes::Later(schedule) => self.put_job(*schedule, message, turn),
        }
    }

    /// Gives the message its number and puts it where it goes.
    fn put(
        &mut self,
        target: Target,
        mut message: Arc<Message>,
        tied: bool,
        queues: &mut Once<QueueKey>,
        turn: &mut Turn<'_>,
    ) -> bool {
        self.sequence += 1;
        let fields = Arc::make_mut(&mut message);
        fields.broker_in_time = turn.now;
        if let Some(id) = &mut fields.message_id {
            id.broker_sequence_id = self.sequence as i64;
            if fields.persistent {
                self.audit.taken(id);
            }
        }
        self.stats.enqueued += 1;
        let told = self.told_of_arrival(&message, turn.now);
        let stored = match target {
            Target::Topic(topic) => self.publish_to_topic(topic, message, tied, queues, turn),
            Target::Queue(queue) => {
                queues.add(queue);
                self.put_on_queue(queue, message, tied, &mut None, turn)
            }
        };
        if let Some(message) = told {
            self.advise_arrival(target, &message, turn);
        }
        stored
    }

    /// True if a message that lies on this queue lies in the store as well.
    pub(super) fn keeps(&self, queue: QueueKey, message: &Message) -> bool {
        self.config.stored && message.persistent && !self.queues[queue.0].destination.is_temporary()
    }

    /// True if the store may be told of a message that is sent there.
    pub(super) fn stores(&self, target: Target, message: &Message) -> bool {
        match target {
            Target::Queue(queue) => self.keeps(queue, message),
            Target::Topic(topic) => {
                let durables = !self.topics[topic.0].durables.is_empty();
                self.config.stored && message.persistent && (durables || is_to_be_retained(message))
            }
        }
    }

    /// Puts a message on a queue; true if it is stored. If it is stored at `first` already, its body is not stored
    /// again.
    pub(super) fn put_on_queue(
        &mut self,
        queue: QueueKey,
        message: Arc<Message>,
        tied: bool,
        first: &mut Option<MessageKey>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let stored = self.keeps(queue, &message);
        let sequence = self.sequence;
        if stored {
            let destination = self.stored_key(queue, turn);
            let key = MessageKey {
                destination,
                sequence,
            };
            let op = match *first {
                Some(of) => Op::Share { key, of },
                None => Op::Put {
                    key,
                    message: message.clone(),
                },
            };
            first.get_or_insert(key);
            turn.effects.store([op], None);
            let id = message.message_id.as_ref().filter(|_| !is_dead_letter(&message));
            self.batch(turn).put(queue, sequence, id);
        } else if tied {
            self.batch(turn).put(queue, sequence, None);
        }
        let entry = Entry {
            sequence,
            size: accounting_size(&message),
            redelivered: message.redelivery_counter.max(0) as u32,
            stored,
            tied: tied && !stored,
            spooled: Spooled::No,
            priority: message.priority.clamp(0, 9) as u8,
            body: Some(message),
        };
        self.count(queue, &entry);
        self.queues[queue.0].counts.enqueue(&entry);
        if stored {
            self.resident_used += entry.size as usize;
        }
        self.put_waiting(queue, entry, turn.now);
        stored
    }
}

/// True once the message's time is over.
pub(super) fn is_expired(message: &Message, now: i64) -> bool {
    message.expiration > 0 && message.expiration <= now
}

/// True if these bytes stand in those.
pub(super) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
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
