//! What a consumer was sent, and how far each message is on its way through the application. Knows no clock and no
//! connection: it is told the time and leaves acknowledgements to be sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ack::Acker;
use super::audit::{Audit, MessageKey};
use super::delivery::Delivery;
use super::held::{Held, Shown};
use super::ready::Ready;
use crate::error::{Error, ErrorKind, Result};
use crate::options::RedeliveryPolicy;
use crate::session::AcknowledgeMode;
use crate::wire::{ConsumerId, Message, MessageAck, MessageDispatch, MessageId, TransactionId};

/// A broker may send ahead as much as the prefetch says, and a rollback returns what was credited meanwhile; one that
/// sends more than this many times the prefetch, and this many messages besides, is out of its mind.
const OVERRUN: usize = 4;
const OVERRUN_BASE: usize = 1024;

/// How a consumer treats what it gets.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) mode: AcknowledgeMode,
    pub(crate) prefetch: u16,
    /// Acknowledgements are collected until there are this many; none acknowledges each message.
    pub(crate) batch: Option<usize>,
    /// How old the oldest of them may get before the next message takes them along (`optimizeAcknowledgeTimeOut`).
    pub(crate) batch_age: Option<Duration>,
    /// `consumerExpiryCheckEnabled`
    pub(crate) check_expiry: bool,
    pub(crate) redelivery: RedeliveryPolicy,
    /// How many acknowledged messages are remembered, to recognise those whose acknowledgement a break lost; 0 on a
    /// connection that does not survive one.
    pub(crate) remember: usize,
    /// Other consumers of the connection get the same messages, each its own copy: what one of them acknowledged says
    /// nothing about the others. So it is with durable subscriptions.
    pub(crate) own_copies: bool,
    /// What was delivered before a break comes again: not so from topics without a durable subscription, nor from
    /// temporary queues, which end with their connection.
    pub(crate) comes_again: bool,
    /// Higher priorities overtake within what was dispatched (`messagePrioritySupported`).
    pub(crate) by_priority: bool,
    /// A redelivery that waits does not hold up what is behind it (`nonBlockingRedelivery`).
    pub(crate) non_blocking: bool,
    /// In a transaction each message is acknowledged when it is delivered (`transactedIndividualAck`).
    pub(crate) individually: bool,
    /// Messages are looked at only, whatever the session does with others.
    pub(crate) browses: bool,
}

impl Rules {
    /// A queue browser: what it acknowledges only makes room for more.
    pub(crate) fn browser(prefetch: u16) -> Self {
        Self {
            mode: AcknowledgeMode::Auto,
            prefetch,
            batch: Some(usize::from(prefetch) / 2).filter(|&batch| batch > 1),
            batch_age: None,
            // The application may want to see what has expired, or was delivered often.
            check_expiry: false,
            redelivery: RedeliveryPolicy {
                pre_dispatch_check: false,
                ..RedeliveryPolicy::default()
            },
            remember: 0,
            own_copies: false,
            comes_again: false,
            by_priority: false,
            non_blocking: false,
            individually: false,
            browses: true,
        }
    }
}

/// What happened in passing, for the statistics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) expired: u64,
    pub(crate) duplicates: u64,
    pub(crate) poisoned: u64,
}

/// What [`Inbox::next`] finds.
#[derive(Debug)]
pub(crate) enum Next {
    Message(Arc<Message>),
    /// All that had come was not for the application.
    Nothing,
}

/// What became of a dispatch.
#[derive(Debug)]
pub(crate) enum Dispatched {
    /// It waits for the application.
    Ready,
    /// The application has it already, in a transaction that goes on: this is for the broker.
    Again(Box<MessageAck>),
    /// There was no message in it: the answer to a pull that found none.
    Nothing,
}

/// What a transaction that is being completed has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It took no part.
    None,
    Whole,
    /// Something of it is to come again.
    Missing,
    /// The same, and something came that the broker has after it.
    Overtaken,
    /// Something of it never comes again.
    Lost,
}

/// The messages of one consumer.
#[derive(Debug)]
pub(crate) struct Inbox {
    id: ConsumerId,
    rules: Rules,
    /// The prefetch the broker holds to; it may change it.
    prefetch: usize,
    /// Dispatched, or rolled back, and not delivered to the application.
    ready: Ready,
    /// How many messages were dispatched.
    arrived: u64,
    /// Delivered to the application and not acknowledged; with transactions, in the current one.
    delivered: Held,
    /// Delivered in the transaction that is being completed.
    completing: Option<Held>,
    /// What is delivered belongs to a branch of a distributed transaction, which is not ended.
    in_branch: bool,
    /// Delivered in branches that are ended and not completed. Their acknowledgements are with the broker.
    branches: Vec<(TransactionId, Held)>,
    /// The message that a listener has in hand, by its order.
    in_hand: Option<u64>,
    /// How many of those the broker does not know to be delivered.
    unreported: usize,
    last_delivered: i64,
    /// When the first of the acknowledgements that are being collected was put off, in milliseconds since 1970.
    batch_began: i64,
    /// That is long enough ago.
    batch_is_old: bool,
    /// Redelivery holds up the consumer until then.
    paused_until: Option<Instant>,
    /// Delivered over connections that broke. Each break may have added one to the counters of messages that nobody was
    /// shown, since the broker cannot know: that is no reason to give them up.
    shown: Shown,
    redelivery_delay: Option<Duration>,
    /// Acknowledged last, oldest first.
    recent: VecDeque<MessageKey>,
    audit: Arc<Audit>,
    pub(crate) noted: Noted,
}

impl Inbox {
    pub(crate) fn new(id: ConsumerId, rules: Rules, audit: Arc<Audit>) -> Self {
        Self {
            id,
            audit: match rules.own_copies {
                true => Arc::default(),
                false => audit,
            },
            prefetch: rules.prefetch.into(),
            ready: Ready::new(rules.by_priority),
            rules,
            arrived: 0,
            delivered: Held::default(),
            completing: None,
            in_branch: false,
            branches: Vec::new(),
            in_hand: None,
            unreported: 0,
            last_delivered: crate::wire::RemoveInfo::NOTHING_DELIVERED,
            batch_began: 0,
            batch_is_old: false,
            paused_until: None,
            shown: Shown::default(),
            redelivery_delay: None,
            recent: VecDeque::new(),
            noted: Noted::default(),
        }
    }

    /// A message came.
    ///
    /// # Errors
    ///
    /// The broker sends far more than it was asked for.
    pub(crate) fn dispatch(&mut self, dispatch: MessageDispatch) -> Result<Dispatched> {
        let Some(delivery) = Delivery::new(dispatch, self.arrived) else {
            return Ok(Dispatched::Nothing);
        };
        if self.ready.len() >= self.prefetch * OVERRUN + OVERRUN_BASE {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!(
                    "the broker sends more to consumer {} than its prefetch of {}",
                    self.id, self.prefetch
                ),
            ));
        }
        self.arrived += 1;
        if self.comes_again(&delivery) {
            self.last_delivered = self.last_delivered.max(delivery.sequence());
            let acker = Acker {
                consumer: &self.id,
                transaction: None,
            };
            // It makes room in the window, as it did before the break.
            let ack = acker.one(MessageAck::DELIVERED, &delivery);
            return Ok(Dispatched::Again(Box::new(ack)));
        }
        self.ready.push_back(delivery);
        Ok(Dispatched::Ready)
    }

    /// True if the application holds the message in a transaction.
    fn comes_again(&mut self, delivery: &Delivery) -> bool {
        let completing = self.completing.as_ref().is_none_or(Held::is_whole);
        if completing && self.delivered.is_whole() {
            return false;
        }
        let Some(key) = delivery.key() else {
            return false;
        };
        let mut taken = false;
        for held in self.completing.iter_mut().chain([&mut self.delivered]) {
            taken |= held.take_back(&key, delivery);
        }
        taken
    }

    /// Nothing waits to be delivered.
    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// How many messages were dispatched so far.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// How many wait to be delivered.
    pub(crate) fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// How many were delivered and not acknowledged.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.delivered.deliveries().len()
    }

    /// A transaction that is not completed has received something.
    pub(crate) fn in_transaction(&self) -> bool {
        let open = self.in_branch || self.rules.mode == AcknowledgeMode::Transacted;
        (open && !self.delivered.is_empty()) || self.part() != Part::None || !self.branches.is_empty()
    }

    /// Nobody has to ask for an acknowledgement.
    fn by_itself(&self) -> bool {
        self.rules.mode.is_automatic() && !self.in_branch
    }

    pub(crate) fn set_prefetch(&mut self, prefetch: i32) {
        self.prefetch = usize::try_from(prefetch).unwrap_or(0);
    }

    /// The broker's number of the last message delivered. What was dispatched before it, and is not acknowledged, the
    /// broker flags as redelivered: so one that was given back, or was not acknowledged, goes before a later delivery
    /// that was.
    pub(crate) fn last_delivered(&self) -> i64 {
        let returned = self.ready.iter().filter(|delivery| delivery.returned);
        returned
            .max_by_key(|delivery| delivery.order)
            .or_else(|| self.delivered.deliveries().back())
            .map_or(self.last_delivered, Delivery::sequence)
    }

    /// When a redelivery that holds up the consumer is due, if it is not yet.
    pub(crate) fn paused_until(&mut self, now: Instant) -> Option<Instant> {
        self.paused_until = self.paused_until.filter(|until| now < *until);
        self.paused_until
    }

    /// Redeliveries that are due can be delivered. Says when the next one is.
    pub(crate) fn wake(&mut self, now: Instant) -> Option<Instant> {
        self.ready.wake(now)
    }

    /// The next message for the application.
    ///
    /// `hold` leaves a message that acknowledges itself to [`processed`](Self::processed) or
    /// [`failed`](Self::failed).
    pub(crate) fn next(
        &mut self,
        millis: i64,
        transaction: Option<&TransactionId>,
        hold: bool,
        acks: &mut Vec<MessageAck>,
    ) -> Next {
        if matches!(transaction, Some(TransactionId::Xa(_))) && !self.in_branch {
            self.flush(acks);
            self.in_branch = true;
        }
        while let Some(mut delivery) = self.ready.pop_front() {
            if self.sorted_out(&delivery, millis, acks) {
                continue;
            }
            self.shown.correct(&mut delivery);
            self.last_delivered = delivery.sequence();
            let message = delivery.message.clone();
            if self.delivered.deliveries().is_empty() {
                self.batch_began = millis;
            }
            let age = self.rules.batch_age.map(|age| age.as_millis() as i64);
            self.batch_is_old = age.is_some_and(|age| millis - self.batch_began >= age);
            self.delivered_now(delivery, transaction, hold, acks);
            return Next::Message(message);
        }
        Next::Nothing
    }

    /// Deals with messages that the application shall not see.
    fn sorted_out(&mut self, delivery: &Delivery, millis: i64, acks: &mut Vec<MessageAck>) -> bool {
        let acker = Acker {
            consumer: &self.id,
            transaction: None,
        };
        if self.rules.check_expiry && delivery.expired(millis) {
            acks.push(acker.one(MessageAck::EXPIRED, delivery));
            self.noted.expired += 1;
            return true;
        }
        let counter = delivery.counter();
        if self.audit.knows(|| delivery.key(), counter > 0) {
            acks.push(acker.one(MessageAck::STANDARD, delivery));
            self.remember(delivery);
            self.noted.duplicates += 1;
            return true;
        }
        let policy = &self.rules.redelivery;
        if policy.pre_dispatch_check && self.exceeds(counter) && !delayed_by_broker(delivery) {
            acks.push(acker.poison(delivery, &exhausted(&self.id, counter, policy)));
            self.noted.poisoned += 1;
            return true;
        }
        false
    }

    fn delivered_now(
        &mut self,
        mut delivery: Delivery,
        transaction: Option<&TransactionId>,
        hold: bool,
        acks: &mut Vec<MessageAck>,
    ) {
        let by_itself = self.by_itself();
        if by_itself && self.rules.batch.is_none() && !hold {
            let acker = Acker {
                consumer: &self.id,
                transaction: None,
            };
            acks.push(acker.one(MessageAck::STANDARD, &delivery));
            self.remember(&delivery);
            return;
        }
        self.in_hand = hold.then_some(delivery.order);
        if self.rules.individually && transaction.is_some() {
            let acker = Acker {
                consumer: &self.id,
                transaction,
            };
            acks.push(acker.one(MessageAck::INDIVIDUAL, &delivery));
            delivery.reported = true;
            delivery.acknowledged = true;
            self.delivered.insert(delivery);
            return;
        }
        if !delivery.reported {
            self.unreported += 1;
        }
        self.delivered.insert(delivery);
        if by_itself {
            if !hold {
                self.flush_full_batch(acks);
            }
        } else if self.prefetch > 0 && self.unreported * 2 >= self.prefetch {
            self.report(transaction, acks);
        }
    }

    /// Tells the broker what was delivered, so that it sends more.
    fn report(&mut self, transaction: Option<&TransactionId>, acks: &mut Vec<MessageAck>) {
        let deliveries = self.delivered.deliveries_mut();
        let first = deliveries.iter().find(|delivery| !delivery.reported);
        if let (Some(first), Some(last)) = (first, deliveries.back()) {
            let acker = Acker {
                consumer: &self.id,
                transaction,
            };
            acks.push(acker.range(MessageAck::DELIVERED, first, last, self.unreported));
        }
        for delivery in deliveries {
            delivery.reported = true;
        }
        self.unreported = 0;
    }

    fn flush_full_batch(&mut self, acks: &mut Vec<MessageAck>) {
        if self.batch_is_old || self.delivered.deliveries().len() >= self.rules.batch.unwrap_or(1) {
            self.flush(acks);
        }
    }

    /// Acknowledges what is left of a batch.
    pub(crate) fn flush(&mut self, acks: &mut Vec<MessageAck>) {
        if self.by_itself() {
            self.acknowledge_all(acks);
        }
    }

    /// As [`flush`](Self::flush), from time to time (`optimizedAckScheduledAckInterval`): what a listener has in hand is
    /// not done.
    pub(crate) fn flush_finished(&mut self, acks: &mut Vec<MessageAck>) {
        if !self.by_itself() {
            return;
        }
        let deliveries = self.delivered.deliveries_mut();
        let in_hand = self.in_hand.and_then(|order| {
            let at = deliveries.iter().position(|delivery| delivery.order == order)?;
            deliveries.remove(at)
        });
        self.acknowledge_all(acks);
        if let Some(delivery) = in_hand {
            self.unreported += usize::from(!delivery.reported);
            self.delivered.insert(delivery);
        }
    }

    /// The listener is done with a message that was held.
    pub(crate) fn processed(&mut self, message: &Message, acks: &mut Vec<MessageAck>) {
        self.in_hand = None;
        if !self.by_itself() {
            return;
        }
        if self.position(message).is_some() {
            self.flush_full_batch(acks);
        } else if self.rules.remember > 0
            && let (Some(id), Some(destination)) = (&message.message_id, &message.destination)
        {
            // The connection broke meanwhile: the broker sends it once more.
            let key = (id.clone(), destination.clone());
            self.audit.acknowledged_before(&key);
            self.keep(key);
        }
    }

    /// The listener failed on a message: it is delivered again.
    pub(crate) fn failed(
        &mut self,
        message: &Message,
        now: Instant,
        random: f64,
        why: &str,
        acks: &mut Vec<MessageAck>,
    ) {
        self.in_hand = None;
        if !self.in_branch
            && !matches!(
                self.rules.mode,
                AcknowledgeMode::Client | AcknowledgeMode::Transacted
            )
            && let Some(at) = self.position(message)
            && let Some(delivery) = self.delivered.deliveries_mut().remove(at)
        {
            if !delivery.reported {
                self.unreported -= 1;
            }
            self.redeliver([delivery].into(), now, random, why, acks);
        }
    }

    fn position(&self, message: &Message) -> Option<usize> {
        self.delivered
            .deliveries()
            .iter()
            .rposition(|delivery| delivery.id() == message.message_id.as_ref())
    }

    /// Everything delivered is consumed.
    pub(crate) fn acknowledge_all(&mut self, acks: &mut Vec<MessageAck>) -> usize {
        if self.in_branch {
            // The transaction does.
            return 0;
        }
        self.acknowledge(&self.delivered, None, acks);
        let all = std::mem::take(self.delivered.deliveries_mut());
        for delivery in &all {
            self.remember(delivery);
        }
        self.unreported = 0;
        self.redelivery_delay = None;
        all.len()
    }

    fn acknowledge(&self, held: &Held, transaction: Option<&TransactionId>, acks: &mut Vec<MessageAck>) {
        let acker = Acker {
            consumer: &self.id,
            transaction,
        };
        if held.deliveries().iter().any(|delivery| delivery.acknowledged) {
            // What is acknowledged in the transaction stays in the way of a range until the transaction ends.
            let rest = held.deliveries().iter().filter(|delivery| !delivery.acknowledged);
            acks.extend(rest.map(|delivery| acker.one(MessageAck::INDIVIDUAL, delivery)));
            return;
        }
        for (first, last, count) in held.ranges(|from, to| self.holds_between(from, to)) {
            acks.push(acker.range(MessageAck::STANDARD, first, last, count));
        }
    }

    /// The broker waits for word of a message that was dispatched between these two.
    fn holds_between(&self, from: u64, to: u64) -> bool {
        let branches = self.branches.iter().map(|(_, held)| held);
        let others = branches.chain(&self.completing).chain([&self.delivered]);
        self.ready
            .iter()
            .chain(others.flat_map(|held| held.deliveries()))
            .any(|delivery| from < delivery.order && delivery.order < to)
    }

    /// The current transaction is being completed: what comes from here on belongs to the next one.
    pub(crate) fn begin_completion(&mut self) {
        self.completing = Some(std::mem::take(&mut self.delivered));
        self.unreported = 0;
    }

    /// What the transaction that is being completed has received.
    pub(crate) fn part(&self) -> Part {
        match &self.completing {
            None => Part::None,
            Some(held) if held.is_empty() => Part::None,
            Some(held) if held.is_whole() => Part::Whole,
            Some(held) if self.rules.comes_again && held.is_overtaken() => Part::Overtaken,
            Some(_) if self.rules.comes_again => Part::Missing,
            Some(_) => Part::Lost,
        }
    }

    /// What the transaction that is being completed has received is consumed if the broker says so in the end.
    pub(crate) fn settle(&self, transaction: &TransactionId, acks: &mut Vec<MessageAck>) {
        if let Some(held) = &self.completing {
            self.acknowledge(held, Some(transaction), acks);
        }
    }

    /// The transaction is committed.
    pub(crate) fn committed(&mut self) {
        self.completing = None;
        self.redelivery_delay = None;
    }

    /// The transaction is rolled back: what is here is delivered again, and the rest when it comes.
    pub(crate) fn rolled_back(&mut self, now: Instant, random: f64, acks: &mut Vec<MessageAck>) {
        let (deliveries, missing) = self.completing.take().unwrap_or_default().into_parts();
        for (key, counter) in missing {
            self.shown.remember(key, counter.saturating_add(1));
        }
        let why = "the transaction was rolled back";
        self.redeliver(deliveries, now, random, why, acks);
    }

    /// Nobody knows what becomes of the transaction.
    pub(crate) fn abandoned(&mut self) {
        if let Some(held) = self.completing.take() {
            self.expect(held);
        }
    }

    /// The branch is not worked on any more, for now at least: what it has received is consumed if the broker says so in
    /// the end.
    pub(crate) fn end_branch(&mut self, branch: &TransactionId, acks: &mut Vec<MessageAck>) {
        if !std::mem::take(&mut self.in_branch) {
            return;
        }
        self.unreported = 0;
        let held = std::mem::take(&mut self.delivered);
        if held.is_empty() {
            return;
        }
        self.acknowledge(&held, Some(branch), acks);
        match self.branches.iter_mut().find(|(known, _)| known == branch) {
            Some((_, known)) => {
                for delivery in held.into_parts().0 {
                    known.insert(delivery);
                }
            }
            None => self.branches.push((branch.clone(), held)),
        }
    }

    fn take_branch(&mut self, branch: &TransactionId) -> Option<Held> {
        let at = self.branches.iter().position(|(known, _)| known == branch)?;
        Some(self.branches.swap_remove(at).1)
    }

    /// The branch is committed.
    pub(crate) fn branch_committed(&mut self, branch: &TransactionId) {
        if self.take_branch(branch).is_some() {
            self.redelivery_delay = None;
        }
    }

    /// The branch is rolled back.
    pub(crate) fn branch_rolled_back(
        &mut self,
        branch: &TransactionId,
        now: Instant,
        random: f64,
        acks: &mut Vec<MessageAck>,
    ) {
        if let Some(held) = self.take_branch(branch) {
            let why = "the branch of a distributed transaction was rolled back";
            self.redeliver(held.into_parts().0, now, random, why, acks);
        }
    }

    /// Nobody knows what becomes of the branch, or it is not for this connection to see.
    pub(crate) fn branch_abandoned(&mut self, branch: &TransactionId) {
        if let Some(held) = self.take_branch(branch) {
            self.expect(held);
        }
    }

    /// What was held may come again, and has been shown then.
    fn expect(&mut self, mut held: Held) {
        held.broken();
        for (key, counter) in held.into_parts().1 {
            self.shown.remember(key, counter.saturating_add(1));
        }
    }

    /// One message is consumed. False if it is not waiting for that.
    pub(crate) fn acknowledge_one(&mut self, id: &MessageId, acks: &mut Vec<MessageAck>) -> bool {
        let deliveries = self.delivered.deliveries();
        let Some(at) = deliveries.iter().position(|delivery| delivery.id() == Some(id)) else {
            return false;
        };
        if self.in_branch {
            // The transaction does.
            return true;
        }
        if let Some(delivery) = self.delivered.deliveries_mut().remove(at) {
            if !delivery.reported {
                self.unreported -= 1;
            }
            let acker = Acker {
                consumer: &self.id,
                transaction: None,
            };
            acks.push(acker.one(MessageAck::INDIVIDUAL, &delivery));
            self.remember(&delivery);
        }
        true
    }

    /// Everything delivered and not acknowledged is to be delivered again (`recover`).
    pub(crate) fn recover(&mut self, now: Instant, random: f64, acks: &mut Vec<MessageAck>) {
        if self.rules.mode.is_automatic() || self.in_branch {
            return;
        }
        self.unreported = 0;
        let deliveries = std::mem::take(self.delivered.deliveries_mut());
        self.redeliver(deliveries, now, random, "the session was recovered", acks);
    }

    /// These messages go back to the front of the queue, or to the dead letter queue if that was often enough.
    fn redeliver(
        &mut self,
        deliveries: VecDeque<Delivery>,
        now: Instant,
        random: f64,
        why: &str,
        acks: &mut Vec<MessageAck>,
    ) {
        let policy = &self.rules.redelivery;
        let acker = Acker {
            consumer: &self.id,
            transaction: None,
        };
        let mut again = Held::default();
        let mut known = false;
        for mut delivery in deliveries {
            let before = delivery.counter();
            let counter = before.saturating_add(1);
            delivery.set_counter(counter);
            if self.exceeds(counter) {
                let reason = exhausted(&self.id, counter, policy);
                acks.push(acker.poison(&delivery, &format!("{reason}, cause: {why}")));
                self.noted.poisoned += 1;
            } else {
                known |= before > 0;
                delivery.returned = true;
                delivery.acknowledged = false;
                again.insert(delivery);
            }
        }
        if again.is_empty() {
            return;
        }
        if known {
            for (first, last, count) in again.ranges(|from, to| self.holds_between(from, to)) {
                acks.push(acker.range(MessageAck::REDELIVERED, first, last, count));
            }
        }
        if self.rules.non_blocking {
            for delivery in again.into_parts().0 {
                let delay = policy.delay_of(u32::try_from(delivery.counter()).unwrap_or(1), random);
                // A delay that no clock can show is without an end.
                match now.checked_add(delay).filter(|_| !delay.is_zero()) {
                    Some(until) => self.ready.delay(delivery, until),
                    None => self.ready.push_back(delivery),
                }
            }
            return;
        }
        let delay = policy.next_delay(self.redelivery_delay, random);
        self.redelivery_delay = Some(delay);
        self.paused_until = now.checked_add(delay).filter(|_| !delay.is_zero());
        for delivery in again.into_parts().0.into_iter().rev() {
            self.ready.push_front(delivery);
        }
    }

    /// The connection broke: the broker sends again whatever it does not know to be consumed.
    pub(crate) fn interrupted(&mut self) {
        self.shown.broken();
        // Those that were rolled back have been shown.
        for delivery in self.ready.drain().filter(|delivery| delivery.counter() > 0) {
            if let Some(key) = delivery.key() {
                self.shown.remember(key, delivery.counter());
            }
        }
        self.delivered.broken();
        if let Some(held) = &mut self.completing {
            held.broken();
        }
        // A branch is over, or prepared: what is rolled back of it comes again, here or elsewhere.
        for (_, held) in std::mem::take(&mut self.branches) {
            self.expect(held);
        }
        if self.rules.mode != AcknowledgeMode::Transacted || self.in_branch {
            let held = std::mem::take(&mut self.delivered);
            self.expect(held);
        }
        self.in_hand = None;
        self.unreported = 0;
        self.paused_until = None;
        self.last_delivered = crate::wire::RemoveInfo::NOTHING_DELIVERED;
        self.audit.adopt(&self.recent);
        if self.rules.own_copies {
            self.audit.interrupted();
        }
    }

    /// The message was delivered again as often as it may.
    fn exceeds(&self, counter: i32) -> bool {
        let maximum = self.rules.redelivery.maximum_redeliveries;
        maximum
            .is_some_and(|maximum| i64::from(counter) > i64::from(maximum) + i64::from(self.shown.breaks()))
    }

    fn remember(&mut self, delivery: &Delivery) {
        if self.rules.remember > 0
            && let Some(key) = delivery.key()
        {
            self.audit.acknowledged(&key);
            self.keep(key);
        }
    }

    fn keep(&mut self, key: MessageKey) {
        if self.recent.len() >= self.rules.remember
            && let Some(oldest) = self.recent.pop_front()
        {
            self.audit.forget(oldest);
        }
        self.recent.push_back(key);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        for key in self.recent.drain(..) {
            self.audit.forget(key);
        }
    }
}

fn exhausted(consumer: &ConsumerId, counter: i32, policy: &RedeliveryPolicy) -> String {
    let maximum = policy.maximum_redeliveries.unwrap_or(u32::MAX);
    format!("Delivery[{counter}] exceeds redelivery policy limit: {maximum} of consumer {consumer}")
}

/// The broker's own redelivery plugin counts on its own.
fn delayed_by_broker(delivery: &Delivery) -> bool {
    let properties = delivery.message.marshalled_properties.clone();
    properties
        .and_then(|properties| crate::wire::decode_map(properties).ok())
        .is_some_and(|properties| properties.get("redeliveryDelay").is_some())
}

#[cfg(test)]
mod tests;
