//! What was stored becomes durable; only then is it shown to anybody.
//!
//! A consumer that acts on a message which a crash then forgets would see it again, unflagged, when its
//! producer sends it again. And a message that the store refuses, because the disk is full, must never
//! have been there.

use openwire_client::wire::{Message, MessageId, ProducerId};
use rustc_hash::FxHashMap;

use super::dead_letter::is_dead_letter;
use super::effect::{StoreToken, Then};
use super::once::Once;
use super::outcomes::Undecided;
use super::queue::{Entry, QueueKey};
use super::retained::Retention;
use super::schedule::JobChanges;
use super::send::contains;
use super::subscription::{InFlight, SubscriptionKey};
use super::timer::Alarm;
use super::topic::TopicKey;
use super::transaction::TransactionKey;
use super::{Core, Outcome, Turn};
use crate::policy::schedule::SCHEDULED_ID;
use crate::store::{DestinationKey, MessageKey, Op, StoreError};

/// After the store refused something, its queues pause for so many milliseconds, unless clients move them
/// on: what they want stored next, such as a dead letter, is likely refused as well.
const PAUSE: i64 = 1000;

/// A turn's batch on its way into the store.
#[derive(Debug)]
pub(super) struct PendingBatch {
    pub(super) token: StoreToken,
    /// The first and the last message put in it.
    pub(super) first: Option<u64>,
    pub(super) last: u64,
    /// The queues they were put on.
    queues: Once<QueueKey>,
    /// The topics on which something was published that waits for it.
    topics: Once<TopicKey>,
    /// Their producers, with the first and the last number of each.
    producers: Vec<(ProducerId, i64, i64)>,
    /// The queues the store is told of for the first time.
    pub(super) created: Vec<QueueKey>,
    /// What it is the end of.
    consumed: Vec<Consumed>,
    /// The marks that hold once it is durable.
    pub(super) marks: Vec<(DestinationKey, u64)>,
    /// Messages whose counters it changes.
    pub(super) redelivered: Vec<MessageKey>,
    /// What it does to retained messages.
    pub(super) retained: Vec<Retention>,
    /// The transactions that are committed with it.
    pub(super) undecided: Undecided,
    /// What it does with scheduled messages.
    pub(super) jobs: JobChanges,
    /// What else it is for transactions.
    pub(super) transactions: Vec<Part>,
}

/// What a batch is for a transaction.
#[derive(Debug)]
pub(super) enum Part {
    /// It has messages that were sent in it; it also has what makes the destination on which they lie, if `created`.
    Sent {
        transaction: TransactionKey,
        created: bool,
    },
    /// It prepares it.
    Prepared {
        transaction: TransactionKey,
        created: bool,
    },
    /// It ends one that was prepared.
    Ended {
        transaction: TransactionKey,
        committed: bool,
    },
    /// It removes a destination that is not needed any more, be it of a transaction or not.
    Removed(DestinationKey),
}

impl PendingBatch {
    /// A message was put on a queue. Its id counts if it can be sent again.
    pub(super) fn put(&mut self, queue: QueueKey, sequence: u64, id: Option<&MessageId>) {
        self.queues.add(queue);
        self.note(sequence, id);
    }

    /// Something was published with it on a topic.
    pub(super) fn publish(&mut self, topic: TopicKey, sequence: u64) {
        self.topics.add(topic);
        self.note(sequence, None);
    }

    /// A message was put in it. Its id counts if it can be sent again.
    pub(super) fn note(&mut self, sequence: u64, id: Option<&MessageId>) {
        self.first = Some(self.first.map_or(sequence, |first| first.min(sequence)));
        self.last = self.last.max(sequence);
        self.sent(id);
    }

    /// A retained message changes with it; the last sequence so far is given.
    pub(super) fn retain(&mut self, sequence: u64, retention: Retention) {
        self.last = sequence;
        self.sent(retention.id());
        self.retained.push(retention);
    }

    /// A message with this id is in it.
    fn sent(&mut self, id: Option<&MessageId>) {
        let Some((producer, number)) = id.and_then(producer_and_number) else {
            return;
        };
        match self.producers.iter_mut().find(|(known, ..)| known == producer) {
            Some((_, first, last)) => (*first, *last) = ((*first).min(number), (*last).max(number)),
            None => self.producers.push((producer.clone(), number, number)),
        }
    }

    /// A message was put in it that was sent in a transaction; true if it is the first of that one.
    pub(super) fn note_sent(&mut self, of: TransactionKey, created: bool) -> bool {
        let known = self
            .transactions
            .iter_mut()
            .rev()
            .any(|part| matches!(part, Part::Sent { transaction, .. } if *transaction == of));
        if !known {
            self.transactions.push(Part::Sent {
                transaction: of,
                created,
            });
        }
        !known
    }

    /// True if the message with this id was put in it.
    pub(super) fn has(&self, id: &MessageId) -> bool {
        producer_and_number(id).is_some_and(|(producer, number)| {
            self.producers
                .iter()
                .any(|(known, first, last)| known == producer && (*first..=*last).contains(&number))
        })
    }

    /// The queue is gone, and its key may get another meaning.
    pub(super) fn drop_queue(&mut self, queue: QueueKey) {
        self.queues.remove(queue);
        self.created.retain(|&of| of != queue);
        self.consumed.retain(|consumed| consumed.message.queue != queue);
    }

    /// The topic is gone, and its key may get another meaning.
    pub(super) fn drop_topic(&mut self, topic: TopicKey) {
        self.topics.remove(topic);
    }

    /// The consumer is gone, and its key may get another meaning.
    pub(super) fn consumer_ended(&mut self, consumer: SubscriptionKey) {
        for consumed in &mut self.consumed {
            match &mut consumed.back {
                back if *back == Back::InFlight(consumer) => *back = Back::Seen,
                Back::Prepared(_, of) => drop(of.take_if(|of| *of == consumer)),
                _ => {}
            }
        }
    }
}

/// True for a message that was delivered because its time had come.
fn was_scheduled(message: &Message) -> bool {
    message
        .marshalled_properties
        .as_ref()
        .is_some_and(|properties| contains(properties, SCHEDULED_ID.as_bytes()))
}

fn producer_and_number(id: &MessageId) -> Option<(&ProducerId, i64)> {
    Some((id.producer_id.as_ref()?, id.producer_sequence_id))
}

/// Where a message goes whose end the store refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    /// To the consumer that has it and is told of the refusal.
    InFlight(SubscriptionKey),
    /// To the prepared transaction in which this consumer, unless it ended, acknowledged it.
    Prepared(TransactionKey, Option<SubscriptionKey>),
    /// To its queue, as one that a consumer has seen.
    Seen,
    /// To its queue, where it waited.
    Unseen,
}

/// A message that is gone once the batch is durable.
#[derive(Debug)]
pub(super) struct Consumed {
    message: InFlight,
    back: Back,
}

impl Consumed {
    /// One that is with no consumer.
    pub(super) fn new(queue: QueueKey, entry: Entry, back: Back) -> Self {
        let message = InFlight {
            entry,
            queue,
            number: 0,
            id: None,
        };
        Self::in_flight(message, back)
    }

    /// One that a consumer had.
    pub(super) fn in_flight(mut message: InFlight, back: Back) -> Self {
        // On its queue it can be read back from the store, so the memory it takes meanwhile is bounded by
        // what clients have, not by what they have acknowledged.
        match back {
            Back::InFlight(_) => {}
            _ if !message.entry.stored => {}
            Back::Prepared(..) => message.release_body(),
            Back::Seen | Back::Unseen => message.entry.body = None,
        }
        Self { message, back }
    }
}

/// Queues that pause because the store refused something.
#[derive(Debug, Default)]
pub(super) struct Interrupted {
    queues: Vec<QueueKey>,
    until: i64,
}

impl Interrupted {
    /// When they go on, in milliseconds since 1970.
    pub(super) fn until(&self) -> Option<i64> {
        (!self.queues.is_empty()).then_some(self.until)
    }

    fn add(&mut self, queue: QueueKey, now: i64) {
        if self.queues.is_empty() {
            self.until = now + PAUSE;
        }
        if !self.queues.contains(&queue) {
            self.queues.push(queue);
        }
    }
}

impl Core {
    /// The batch of this turn; the core is told when it is durable.
    pub(super) fn batch(&mut self, turn: &mut Turn<'_>) -> &mut PendingBatch {
        if turn.effects.token().is_none() {
            self.last_token += 1;
            let token = StoreToken(self.last_token);
            turn.effects.tell(token);
            self.batches.push_back(PendingBatch {
                token,
                first: None,
                last: 0,
                queues: Once::default(),
                topics: Once::default(),
                producers: Vec::new(),
                created: Vec::new(),
                consumed: Vec::new(),
                marks: Vec::new(),
                redelivered: Vec::new(),
                retained: Vec::new(),
                undecided: Undecided::default(),
                transactions: Vec::new(),
                jobs: JobChanges::default(),
            });
        }
        let last = self.batches.len() - 1;
        &mut self.batches[last]
    }

    /// These end with the turn's batch, if it has one, and are back if the store refuses it.
    pub(super) fn note_consumed(&mut self, consumed: Vec<Consumed>, turn: &mut Turn<'_>) {
        if turn.effects.has_store() && !consumed.is_empty() {
            self.batch(turn).consumed.extend(consumed);
        }
    }

    /// Answers a command that was the end of these. A refusal is told by the core itself, after they are back:
    /// the client may acknowledge them again at once.
    pub(super) fn confirm_consumed(
        &mut self,
        consumed: Vec<Consumed>,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Outcome {
        let returns = consumed
            .iter()
            .any(|consumed| matches!(consumed.back, Back::InFlight(_)));
        self.note_consumed(consumed, turn);
        match reply {
            Some(Then::Reply { to, response }) if returns && turn.effects.has_store() => {
                self.batch(turn).undecided.wait(to, response);
                Outcome::Answered
            }
            reply => turn.confirm(reply),
        }
    }

    /// The batch of a [`Then::Tell`] is durable, or never will be. Batches are told of in
    /// the order in which they were stored.
    pub fn stored(
        &mut self,
        now: i64,
        token: StoreToken,
        result: Result<(), StoreError>,
        effects: &mut super::Effects,
    ) {
        let turn = &mut Turn { now, effects };
        let Some(mut batch) = self.batches.pop_front_if(|batch| batch.token == token) else {
            return;
        };
        let undecided = std::mem::take(&mut batch.undecided);
        self.decide(token, undecided, &result, turn);
        let parts = std::mem::take(&mut batch.transactions);
        let jobs = std::mem::take(&mut batch.jobs);
        match &result {
            Ok(()) => {
                self.durable = self.durable.max(batch.last);
                for &(destination, mark) in &batch.marks {
                    if let Some(&key) = self.stored_queues.get(&destination) {
                        let queue = &mut self.queues[key.0];
                        queue.marking = false;
                        queue.mark = queue.mark.max(mark);
                    }
                }
                self.jobs_durable(jobs);
                self.drop_bodies(&batch);
                for queue in self.touched(&batch) {
                    self.move_on(queue, turn);
                }
                self.publish_durable(&batch, turn);
            }
            Err(error) => {
                self.withdraw(&batch, error);
                self.retain_again(std::mem::take(&mut batch.retained));
                for queue in self.touched(&batch) {
                    self.interrupted.add(queue, turn.now);
                }
                // After any other error nobody knows what the store has.
                if matches!(error, StoreError::Refused(_) | StoreError::Full(_)) {
                    self.jobs_refused(jobs, turn.now);
                    self.restore(std::mem::take(&mut batch.consumed), turn);
                    self.refuse_subscriptions(&batch.created, error, turn);
                }
                self.flag_again(std::mem::take(&mut batch.redelivered), turn.now);
                self.publish_durable(&batch, turn);
                self.resume_producers(turn);
            }
        }
        self.transactions_stored(parts, &result, turn);
    }

    /// Has the store count how often these were delivered.
    pub(super) fn store_counters(&mut self, counters: Vec<(MessageKey, u32)>, turn: &mut Turn<'_>) {
        if counters.is_empty() {
            return;
        }
        let keys = counters.iter().map(|(key, _)| *key);
        self.batch(turn).redelivered.extend(keys);
        let ops = counters.into_iter();
        let ops = ops.map(|(key, count)| Op::Redelivered { key, count });
        turn.effects.store(ops, None);
    }

    /// The queues for which the batch changes what may be dispatched.
    fn touched(&self, batch: &PendingBatch) -> Vec<QueueKey> {
        let marked = batch
            .marks
            .iter()
            .filter_map(|(destination, _)| self.stored_queues.get(destination));
        batch.queues.iter().chain(marked).copied().collect()
    }

    /// What was published behind the batch need not wait for it any longer.
    fn publish_durable(&mut self, batch: &PendingBatch, turn: &mut Turn<'_>) {
        for &topic in batch.topics.iter() {
            self.release_deferred(topic, turn);
        }
        if batch.topics.iter().next().is_some() {
            self.resume_producers(turn);
        }
    }

    fn move_on(&mut self, queue: QueueKey, turn: &mut Turn<'_>) {
        if self.queues.contains(queue.0) {
            self.dispatch(queue, turn);
            self.end_pulls(queue, turn);
        }
    }

    /// Lets queues go on that paused long enough.
    pub(super) fn resume_interrupted(&mut self, turn: &mut Turn<'_>) {
        if self.interrupted.until().is_some_and(|until| until <= turn.now) {
            for queue in std::mem::take(&mut self.interrupted).queues {
                self.move_on(queue, turn);
            }
        }
    }

    /// What should have ended with a batch that the store refused has not.
    fn restore(&mut self, consumed: Vec<Consumed>, turn: &mut Turn<'_>) {
        let mut in_flight: FxHashMap<SubscriptionKey, Vec<InFlight>> = FxHashMap::default();
        let mut waiting: FxHashMap<QueueKey, Vec<Entry>> = FxHashMap::default();
        for Consumed { mut message, back } in consumed {
            self.count(message.queue, &message.entry);
            self.queues[message.queue.0].counts.take_back(&message.entry);
            match back {
                Back::InFlight(consumer) => {
                    self.queues[message.queue.0].in_flight += 1;
                    in_flight.entry(consumer).or_default().push(message);
                }
                Back::Prepared(transaction, consumer) => {
                    self.queues[message.queue.0].in_flight += 1;
                    self.hold_again(transaction, message, consumer);
                }
                Back::Seen | Back::Unseen => {
                    message.entry.redelivered += u32::from(back == Back::Seen);
                    waiting.entry(message.queue).or_default().push(message.entry);
                }
            }
        }
        for (consumer, messages) in in_flight {
            self.subscriptions[consumer.0].take_back(messages);
        }
        for (queue, entries) in waiting {
            self.return_to_queue(queue, entries, turn);
            self.interrupted.add(queue, turn.now);
        }
    }

    /// The store was not told that these may have been seen: an orderly stop would forget it.
    fn flag_again(&mut self, messages: Vec<MessageKey>, now: i64) {
        if !messages.is_empty() {
            self.flagged.extend(messages);
            self.alarms.set(now + PAUSE, Alarm::Flagged);
        }
    }

    /// A deep queue's bodies stay in the store.
    fn drop_bodies(&mut self, batch: &PendingBatch) {
        let Some(first) = batch.first else { return };
        if self.resident_used <= self.config.resident_limit {
            return;
        }
        for queue in batch.queues.iter() {
            let queue = &mut self.queues[queue.0];
            // Consumers that wait take these at once.
            if queue.any_ready() {
                continue;
            }
            for place in queue.backlog.between(first, batch.last) {
                if let Some(entry) = queue.backlog.get_mut(place)
                    && entry.stored
                    && entry.body.take().is_some()
                {
                    self.resident_used -= entry.size as usize;
                }
            }
        }
    }

    /// The store refused the batch: its messages were never there. Whoever sent them is told by the answer.
    fn withdraw(&mut self, batch: &PendingBatch, error: &StoreError) {
        tracing::warn!(%error, "messages were refused by the store");
        for (destination, _) in &batch.marks {
            if let Some(key) = self.stored_queues.get(destination) {
                self.queues[key.0].marking = false;
            }
        }
        for queue in &batch.created {
            self.queues[queue.0].created = false;
        }
        for (producer, first, _) in &batch.producers {
            self.audit.not_taken_from(producer, *first);
        }
        let Some(first) = batch.first else { return };
        for &key in batch.topics.iter() {
            self.withdraw_deferred(key, first, batch.last);
        }
        for &key in batch.queues.iter() {
            let queue = &mut self.queues[key.0];
            let mut refused = queue.backlog.between(first, batch.last);
            refused.retain(|place| queue.backlog.get(*place).is_some_and(Entry::waits_for_store));
            let refused: Vec<_> = refused
                .into_iter()
                .filter_map(|place| queue.remove(place))
                .collect();
            for entry in refused {
                self.queues[key.0].counts.withdraw(&entry);
                self.uncount(key, &entry);
                if entry.stored && entry.body.is_some() {
                    self.resident_used -= entry.size as usize;
                }
                self.stats.refused += 1;
                if let Some(message) = &entry.body {
                    self.not_taken(message);
                }
            }
        }
    }

    /// A message that the store refused is not there after all: it may come again.
    pub(super) fn not_taken(&mut self, message: &Message) {
        let Some(id) = &message.message_id else { return };
        match &message.destination {
            Some(destination) if is_dead_letter(message) => self.dead_audit.forget(destination, id),
            // Its client sent it long ago.
            _ if was_scheduled(message) => {}
            _ => self.audit.not_taken(id),
        }
    }
}
