//! The queue's loop: the next message goes to the next consumer with credit that wants it.

use std::sync::Arc;

use openwire_client::wire::{ConsumerControl, Message, MessageDispatch, MessagePull};
use rustc_hash::FxHashMap;

use super::backlog::Place;
use super::destinations::Target;
use super::effect::{ConnectionKey, Effect};
use super::expiry::millis;
use super::groups::Groups;
use super::once::Once;
use super::queue::{Choice, Entry, Queue, QueueKey};
use super::refusal::Refusal;
use super::send::is_expired;
use super::spool::Spooled;
use super::subscription::{InFlight, Pull, Source, SubscriptionKey};
use super::timer::Alarm;
use super::{Core, Outcome, Turn};
use crate::store::{MessageKey, Op};

/// How many bodies, and how many bytes of them, are asked for at once: enough to hide the way to the disk,
/// little against the memory they take.
pub(super) const LOAD_MESSAGES: usize = 1024;
const LOAD_BYTES: usize = 4 * 1024 * 1024;
/// Bodies are asked for when fewer than this many stand ready at the front.
const LOAD_AHEAD: usize = 256;

/// How many a queue asks for that loads them only when they are needed (`lazyDispatch`).
const LAZY_MESSAGES: usize = 16;

/// How long a queue waits for `consumersBeforeDispatchStarts` that has no `timeBeforeDispatchStarts`, in milliseconds;
/// as ActiveMQ.
const WAIT_FOR_CONSUMERS: i64 = 1000;

/// How many places are searched at once for bodies that are not in memory.
fn most_loaded(queue: &Queue) -> usize {
    match queue.policy.lazy_dispatch {
        true => LAZY_MESSAGES,
        false => LOAD_MESSAGES,
    }
}

/// What may be done with a message that is next.
#[derive(Debug)]
enum Readiness {
    /// It can be looked at.
    Ready {
        message: Arc<Message>,
        /// The store knows that it may have been shown.
        marked: bool,
    },
    /// Something has to come from the store first, and is on its way.
    Waits,
    /// It was there no longer: its time was over.
    Gone,
}

impl Core {
    /// Ends consumers that end together. Nothing is dispatched before all have ended: what one of them had must not go
    /// to the next, be counted as redelivered there, and so on.
    pub(super) fn together(&mut self, turn: &mut Turn<'_>, end: impl FnOnce(&mut Self, &mut Turn<'_>)) {
        if self.postponed.is_some() {
            return end(self, turn);
        }
        self.postponed = Some(Once::default());
        end(self, turn);
        for queue in self.postponed.take().unwrap_or_default() {
            if self.queues.contains(queue.0) {
                self.dispatch(queue, turn);
            }
        }
    }

    /// Dispatches nothing from queues any more, because the broker stops. What ends from now on gives back what it had, and
    /// that must not go to whoever ends next.
    pub fn end_dispatch(&mut self) {
        self.postponed.get_or_insert_default();
    }

    /// Dispatches from a queue as far as messages and credit go. What nobody takes is spooled if memory is short.
    pub(super) fn dispatch(&mut self, key: QueueKey, turn: &mut Turn<'_>) {
        if let Some(postponed) = &mut self.postponed {
            return postponed.add(key);
        }
        self.dispatch_ready(key, turn);
        if !self.queues[key.0].spool.candidates.is_empty() {
            self.spool(key, turn);
        }
    }

    fn dispatch_ready(&mut self, key: QueueKey, turn: &mut Turn<'_>) {
        let queue = &self.queues[key.0];
        if !queue.browsers.is_empty() {
            self.serve_browsers(key, turn);
        }
        if self.queues[key.0].backlog.is_empty() || self.queues[key.0].held {
            return;
        }
        let mut last = None;
        while let Some(place) = self.queues[key.0].next() {
            let (message, marked) = match self.readiness(key, place, turn) {
                Readiness::Ready { message, marked } => (message, marked),
                Readiness::Waits => return,
                Readiness::Gone => continue,
            };
            match self.queues[key.0].choose(place, &message) {
                Choice::Consumer(consumer) if !self.subscriptions[consumer.0].has_credit() => {
                    // It has spent it on another of its queues.
                    self.queues[key.0].rest(consumer);
                    self.subscriptions[consumer.0].starved.push_back(key);
                }
                Choice::Consumer(_) if !marked => return self.raise_mark(key, place, turn),
                Choice::Consumer(consumer) => {
                    // Whoever has it alone changes it without a copy.
                    drop(message);
                    self.dispatch_to(key, place, consumer, turn);
                    last = Some(place);
                }
                Choice::Parked(owner) => self.queues[key.0].park(owner, place, &message),
                Choice::Nobody => {
                    self.queues[key.0].pass(place, &message);
                    self.let_body_go(key, place);
                }
            }
        }
        if let Some(last) = last {
            self.load_ahead(key, last.next(), turn);
        }
    }

    /// Whether a message can be looked at; sees to it that it can be later if it cannot.
    fn readiness(&mut self, key: QueueKey, place: Place, turn: &mut Turn<'_>) -> Readiness {
        let queue = &self.queues[key.0];
        let Some(entry) = queue.backlog.get(place) else {
            return Readiness::Gone;
        };
        let Some(body) = &entry.body else {
            self.load_from(key, place, turn);
            return Readiness::Waits;
        };
        let durable = !entry.waits_for_store() || entry.sequence <= self.durable;
        if !durable {
            // A consumer must not act on what a restart would not know.
            return Readiness::Waits;
        }
        if is_expired(body, turn.now) {
            if let Some(entry) = self.remove_waiting(key, place, turn) {
                self.expire(key, entry, turn);
            }
            return Readiness::Gone;
        }
        Readiness::Ready {
            message: body.clone(),
            marked: !entry.stored || entry.sequence <= queue.mark,
        }
    }

    /// Takes a message off its queue.
    pub(super) fn remove_waiting(
        &mut self,
        key: QueueKey,
        place: Place,
        turn: &mut Turn<'_>,
    ) -> Option<Entry> {
        let mut entry = self.queues[key.0].remove(place)?;
        self.unspool(key, &mut entry, turn);
        if entry.stored && entry.body.is_some() {
            self.resident_used -= entry.size as usize;
        }
        Some(entry)
    }

    /// A message that lies on disk as well and that nobody takes for now need not be in memory. One that was spooled goes at
    /// once, because memory was short.
    pub(super) fn let_body_go(&mut self, key: QueueKey, place: Place) {
        if let Some(entry) = self.queues[key.0].backlog.get_mut(place)
            && entry.spooled == Spooled::Away
        {
            entry.body = None;
        }
        if self.resident_used <= self.config.resident_limit {
            return;
        }
        if let Some(entry) = self.queues[key.0].backlog.get_mut(place)
            && entry.stored
            && entry.body.take().is_some()
        {
            self.resident_used -= entry.size as usize;
        }
    }

    /// Takes the message at this place to a consumer.
    fn dispatch_to(&mut self, key: QueueKey, place: Place, consumer: SubscriptionKey, turn: &mut Turn<'_>) {
        let Some(mut entry) = self.queues[key.0].take(place, consumer) else {
            return;
        };
        if entry.stored && entry.body.is_some() {
            self.resident_used -= entry.size as usize;
        }
        self.unspool(key, &mut entry, turn);
        let first = self.join_group(key, consumer, &entry);
        if let Some(message) = &mut entry.body {
            let fields = Arc::make_mut(message);
            fields.jmsx_group_first_for_consumer = first;
            fields.redelivery_counter = entry.redelivered as i32;
            fields.broker_out_time = turn.now;
            let arrived = fields.broker_in_time;
            self.count_dispatch(key, arrived, entry.body.as_deref(), turn.now);
        }
        self.stats.dispatched += 1;
        self.send_to(key, consumer, entry, turn);
        let subscription = &mut self.subscriptions[consumer.0];
        if subscription.pull.take() == Some(Pull::NoWait) {
            self.pulls_without_wait -= 1;
        }
        if self.subscriptions[consumer.0].has_credit() {
            self.queues[key.0].get_ready(consumer);
        } else {
            self.subscriptions[consumer.0].starved.push_back(key);
        }
    }

    /// Brings the books on groups up to what is dispatched; true if it is the first of its group for the consumer.
    fn join_group(&mut self, key: QueueKey, consumer: SubscriptionKey, entry: &Entry) -> bool {
        let Some((message, group)) = entry
            .body
            .as_ref()
            .and_then(|message| Some((message, message.group_id.as_ref()?)))
        else {
            return false;
        };
        let queue = &mut self.queues[key.0];
        let kind = queue.policy.group_map;
        let groups = queue.groups.get_or_insert_with(|| Box::new(Groups::new(kind)));
        let owned = groups.owner(group) == Some(consumer);
        let closes = owned && message.group_sequence < 0;
        let first = !closes && (!owned || message.group_sequence == 1);
        let free = match (closes, first) {
            (true, _) => groups.close(group),
            (_, true) => groups.assign(group, consumer),
            _ => return false,
        };
        queue.look_again(free);
        first
    }

    /// Sends a message to a consumer, which has it from then on.
    pub(super) fn send_to(
        &mut self,
        key: QueueKey,
        consumer: SubscriptionKey,
        entry: Entry,
        turn: &mut Turn<'_>,
    ) {
        self.last_dispatch += 1;
        let queue = &mut self.queues[key.0];
        let subscription = &mut self.subscriptions[consumer.0];
        let destination = match queue.durable {
            Some(_) => entry
                .body
                .as_ref()
                .and_then(|message| message.destination.clone()),
            None => Some(queue.destination.clone()),
        };
        turn.send(
            subscription.connection,
            MessageDispatch {
                consumer_id: Some(subscription.id.clone()),
                destination,
                message: entry.body.clone(),
                redelivery_counter: entry.redelivered as i32,
                ..MessageDispatch::default()
            },
        );
        if subscription.browse.is_none() {
            queue.in_flight += 1;
        }
        subscription.counts.dispatched += 1;
        if queue.durable.is_some() {
            subscription.slowness.keeps_up();
        }
        if subscription.in_flight.is_empty() {
            subscription.slowness.moved(turn.now);
        }
        subscription.in_flight.push_back(InFlight {
            entry,
            queue: key,
            number: self.last_dispatch,
            id: None,
        });
    }

    /// The consumer may have credit: it takes its place in the lists of its queues, and messages if there are any.
    pub(super) fn serve(&mut self, consumer: SubscriptionKey, turn: &mut Turn<'_>) {
        let subscription = &mut self.subscriptions[consumer.0];
        if subscription.browse.is_some() {
            return self.serve_browser(consumer, turn);
        }
        if matches!(subscription.source, Source::Topics(_)) {
            return self.feed(consumer, turn);
        }
        while self.subscriptions[consumer.0].has_credit() {
            let Some(queue) = self.subscriptions[consumer.0].starved.pop_front() else {
                break;
            };
            if self.queues.contains(queue.0) {
                self.queues[queue.0].get_ready(consumer);
                self.dispatch(queue, turn);
            }
        }
    }

    /// A consumer has one more queue.
    pub(super) fn join_queue(&mut self, consumer: SubscriptionKey, key: QueueKey, turn: &mut Turn<'_>) {
        let subscription = &mut self.subscriptions[consumer.0];
        let Source::Queues(queues) = &mut subscription.source else {
            return;
        };
        // A browser sees what was there when it came. Another of its wildcards may have matched; the queue is new, so that
        // was just now.
        if queues.last() == Some(&key) || subscription.browse.is_some() {
            return;
        }
        queues.push(key);
        subscription.starved.push_back(key);
        self.enter(consumer, key, turn);
        self.serve(consumer, turn);
        self.start_if_complete(key, turn);
        self.watch_slow_of(consumer, Target::Queue(key), turn.now);
    }

    /// A queue takes a consumer in.
    pub(super) fn enter(&mut self, consumer: SubscriptionKey, key: QueueKey, turn: &mut Turn<'_>) {
        let subscription = &self.subscriptions[consumer.0];
        let (sight, exclusive) = (subscription.sight.clone(), subscription.info.exclusive);
        let queue = &mut self.queues[key.0];
        if queue.add_consumer(consumer, sight, exclusive) {
            self.line_up(key);
        }
        let queue = &mut self.queues[key.0];
        let count = queue.consumers().len();
        let wanted = queue.policy.consumers_before_dispatch_starts as usize;
        let wait = match millis(queue.policy.time_before_dispatch_starts) {
            0 if wanted > 0 => WAIT_FOR_CONSUMERS,
            wait => wait,
        };
        if count == 1 && wait > 0 && wanted != 1 {
            queue.held = true;
            let alarm = Alarm::Start(key, queue.number);
            self.alarms.set(turn.now.saturating_add(wait), alarm);
        }
    }

    /// The consumer has its place in its queues and is served; those that waited for it begin.
    pub(super) fn settle(&mut self, consumer: SubscriptionKey, turn: &mut Turn<'_>) {
        self.serve(consumer, turn);
        for queue in self.subscriptions[consumer.0].queues().to_vec() {
            self.start_if_complete(queue, turn);
        }
    }

    /// The queue waits for consumers no longer if it has as many as it waits for.
    fn start_if_complete(&mut self, key: QueueKey, turn: &mut Turn<'_>) {
        let waiting = &self.queues[key.0];
        let wanted = waiting.policy.consumers_before_dispatch_starts as usize;
        if waiting.held && wanted > 0 && waiting.consumers().len() >= wanted {
            self.start(key, turn);
        }
    }

    /// A queue that waited for more consumers dispatches from now on.
    pub(super) fn start(&mut self, key: QueueKey, turn: &mut Turn<'_>) {
        if std::mem::take(&mut self.queues[key.0].held) {
            self.dispatch(key, turn);
        }
    }

    /// Who is served has changed: those who have credit get in line.
    pub(super) fn line_up(&mut self, key: QueueKey) {
        for consumer in self.queues[key.0].out_of_line() {
            let subscription = &mut self.subscriptions[consumer.0];
            if subscription.has_credit() {
                self.queues[key.0].get_ready(consumer);
            } else if !subscription.starved.contains(&key) {
                subscription.starved.push_back(key);
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
                    (key, entry.redelivered)
                });
            self.store_counters(counted.collect(), turn);
        }
        self.resident_used += entries
            .iter()
            .filter(|entry| entry.stored && entry.body.is_some())
            .map(|entry| entry.size as usize)
            .sum::<usize>();
        for entry in entries {
            self.put_waiting(key, entry, turn.now);
        }
    }

    /// Asks the store to note up to where messages may have been shown, before they are.
    fn raise_mark(&mut self, key: QueueKey, place: Place, turn: &mut Turn<'_>) {
        let queue = &mut self.queues[key.0];
        let (false, Some(destination)) = (queue.marking, queue.key) else {
            return;
        };
        queue.marking = true;
        let sequence = queue.next_mark(place, self.sequence);
        turn.effects.store(
            [Op::Dispatched {
                destination,
                sequence,
            }],
            None,
        );
        self.batch(turn).marks.push((destination, sequence));
    }

    fn load_ahead(&mut self, key: QueueKey, place: Place, turn: &mut Turn<'_>) {
        let queue = &self.queues[key.0];
        let on_disk = queue.key.is_some() || queue.spool.key.is_some();
        let few = queue.backlog.len() <= LOAD_AHEAD;
        if queue.loading || !on_disk || few || queue.policy.lazy_dispatch {
            return;
        }
        let ahead = queue.ahead(place).nth(LOAD_AHEAD);
        if ahead.is_some_and(|(_, entry)| entry.body.is_none()) {
            self.load_from(key, place, turn);
        }
    }

    /// Asks for the next bodies that those in line will look at and that are not in memory.
    fn load_from(&mut self, key: QueueKey, place: Place, turn: &mut Turn<'_>) {
        let queue = &self.queues[key.0];
        let places = queue.ahead(place).map(|(place, _)| place);
        let places: Vec<_> = places.take(most_loaded(queue)).collect();
        self.load(key, places, turn);
    }

    /// Asks for the bodies here that are not in memory, as many as are asked for at once. Whoever asks looks at all of them,
    /// and lets them go.
    pub(super) fn load(
        &mut self,
        key: QueueKey,
        places: impl IntoIterator<Item = Place>,
        turn: &mut Turn<'_>,
    ) {
        let queue = &mut self.queues[key.0];
        if queue.loading {
            return;
        }
        let places = places.into_iter().take(most_loaded(queue));
        let absent = places
            .filter_map(|place| queue.backlog.get(place))
            .filter(|entry| entry.body.is_none());
        let mut absent = absent.peekable();
        // One after the other, if some are here and some are there.
        let Some(spooled) = absent.peek().map(|first| first.spooled) else {
            return;
        };
        let destination = match spooled {
            Spooled::No => queue.key,
            Spooled::Leaving | Spooled::Away => queue.spool.key,
        };
        let Some(destination) = destination else { return };
        let mut bytes = 0;
        let keys: Vec<_> = absent
            .filter(|entry| entry.spooled == spooled)
            .take_while(|entry| {
                let fits = bytes < LOAD_BYTES;
                bytes += entry.size as usize;
                fits
            })
            .map(|entry| MessageKey {
                destination,
                sequence: entry.sequence,
            })
            .collect();
        queue.loading = true;
        turn.effects.push(match spooled {
            Spooled::No => Effect::Load { keys },
            Spooled::Leaving | Spooled::Away => Effect::LoadSpooled { keys },
        });
    }

    /// Messages came from the store. Gives back those that are not for transactions, and were not given up.
    pub(super) fn messages_loaded(
        &mut self,
        messages: Vec<(MessageKey, Option<Arc<Message>>)>,
        turn: &mut Turn<'_>,
    ) -> Vec<(MessageKey, Option<Arc<Message>>)> {
        let mut waiting = Vec::new();
        let mut sends: FxHashMap<_, FxHashMap<_, _>> = FxHashMap::default();
        for (key, message) in messages {
            if let Some(&transaction) = self.transactions.stored.get(&key.destination) {
                sends
                    .entry(transaction)
                    .or_default()
                    .insert(key.sequence, message);
            } else if self.given_up.contains_key(&key) {
                self.read_given_up(key, message, turn);
            } else {
                waiting.push((key, message));
            }
        }
        for (transaction, loaded) in sends {
            self.sends_loaded(transaction, loaded, turn);
        }
        waiting
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
                self.alarms.set(until, Alarm::Pull(from, subscription.id.clone()));
                Pull::Until(until)
            }
        };
        self.pulls_without_wait += usize::from(wait == Pull::NoWait);
        if subscription.pull.replace(wait) == Some(Pull::NoWait) {
            self.pulls_without_wait -= 1;
        }
        self.serve(key, turn);
        self.end_pull(key, turn);
        Ok(Outcome::Done)
    }

    /// Answers the consumers that do not wait, once it is known that there is nothing for them.
    pub(super) fn end_pulls(&mut self, key: QueueKey, turn: &mut Turn<'_>) {
        if self.pulls_without_wait == 0 {
            return;
        }
        let ready: Vec<_> = self.queues[key.0].ready().collect();
        for consumer in ready {
            self.end_pull(consumer, turn);
        }
    }

    fn end_pull(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let subscription = &self.subscriptions[key.0];
        if subscription.pull != Some(Pull::NoWait) {
            return;
        }
        let queues = subscription.queues().to_vec();
        let nothing = queues.into_iter().all(|queue| {
            let queue = &mut self.queues[queue.0];
            !queue.is_served(key) || queue.has_nothing_for(key)
        });
        if nothing {
            self.answer_pull(key, turn);
        }
    }

    /// Tells a consumer that its pull found nothing.
    pub(super) fn answer_pull(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let subscription = &mut self.subscriptions[key.0];
        if subscription.pull.take() == Some(Pull::NoWait) {
            self.pulls_without_wait -= 1;
        }
        let connection = subscription.connection;
        let consumer_id = Some(subscription.id.clone());
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

/// A message carries the number it has where it lies: one that was stored before its transaction was committed was
/// stored with another.
pub(super) fn number_as(message: &mut Arc<Message>, sequence: u64) {
    let numbered = |message: &Message| {
        let id = message.message_id.as_ref();
        id.is_none_or(|id| id.broker_sequence_id == sequence as i64)
    };
    if !numbered(message)
        && let Some(id) = &mut Arc::make_mut(message).message_id
    {
        id.broker_sequence_id = sequence as i64;
    }
}
