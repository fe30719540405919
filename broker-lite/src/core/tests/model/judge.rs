//! What the core says and has is held against the model.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use openwire_client::wire::*;

use super::run::{DEAD_LETTERS, Run};
use super::state::{Back, Ending, Found, Held, Item, Letter, Pull, QueueId, Snapshot, Source};
use super::world::{Finished, Stored};
use crate::core::backlog::Place;
use crate::core::queue::Queue;
use crate::core::{ConnectionKey, destinations::Target};
use crate::store::{Op, accounting_size};

/// `expireMessagesPeriod`, and time enough for the bodies to come and for the test to look.
const SWEPT: i64 = 30_000 + 40_000;

/// After how many calls all that lies on the queues is compared. What a call did wrong is still wrong a little later;
/// what clients are told is judged at once.
const LOOK_EVERY: u32 = 12;

/// Once in how many rests all that waits is looked at.
const REST_EVERY: u32 = 4;

/// Dead letters of one turn: the sequence of each.
pub(super) type Letters = VecDeque<(u64, Arc<Message>)>;

impl Run {
    /// Dead letters the core gave to the store.
    pub(super) fn letters(stored: &Stored) -> Letters {
        let puts = stored.ops.iter().filter_map(|op| match op {
            Op::Put { key, message } => Some((key.sequence, message.clone())),
            _ => None,
        });
        let dead = Destination::queue(DEAD_LETTERS);
        puts.filter(|(_, message)| message.destination.as_ref() == Some(&dead))
            .collect()
    }

    /// True if a message that nobody could consume goes to the dead letters.
    fn is_buried(&self, item: &Item) -> bool {
        item.letter.persistent && !item.dead && !self.model.buried.contains(&item.letter.number)
    }

    /// A message goes to the dead letters, or nowhere.
    pub(super) fn bury(&mut self, item: &Item, letters: &mut Letters, stored: &Stored) {
        if !self.is_buried(item) {
            return;
        }
        let number = item.letter.number;
        self.model.buried.insert(number);
        let (sequence, copy) = letters.pop_front().expect("a dead letter is missing");
        assert_eq!(
            number_of(&copy),
            number,
            "another message went to the dead letters"
        );
        assert_eq!((copy.persistent, copy.expiration), (true, 0));
        self.model.sequence = self.model.sequence.max(sequence);
        let mut dead = Item::new(item.letter.clone(), sequence, accounting_size(&copy) as usize);
        (dead.stored, dead.pending, dead.dead) = (true, stored.batch, true);
        let queue = self.queue_named(&Destination::queue(DEAD_LETTERS));
        self.model.queues.get_mut(&queue).expect("it is there").put(dead);
    }

    /// Something was published on a topic when its time was over.
    pub(super) fn bury_unpublished(&mut self, letter: &Rc<Letter>, letters: &mut Letters, stored: &Stored) {
        self.bury(&Item::new(letter.clone(), 0, 0), letters, stored);
    }

    /// Holds what came of a call against the model, which has done what was asked for. `letters` are the dead letters
    /// that nobody asked for: of messages whose time was over.
    pub(super) fn judge(&mut self, letters: Letters, stored: &Stored, finished: Option<Finished>) {
        self.judge_expired(letters, stored);
        for (to, command) in std::mem::take(&mut self.world.sent) {
            match command {
                Command::MessageDispatch(dispatch) => self.judge_dispatch(to, dispatch),
                Command::Response(answer) => self.judge_answer(answer.correlation_id, None, finished),
                Command::ExceptionResponse(answer) => {
                    let class = answer
                        .exception
                        .as_ref()
                        .map(|error| error.simple_class().to_owned());
                    self.judge_answer(answer.correlation_id, class, finished);
                }
                Command::BrokerInfo(_) => {}
                other => panic!("nobody expects {other:?}"),
            }
        }
        if finished.is_some_and(|done| done.refused) {
            self.look_closely();
        }
        self.unseen += 1;
        if self.unseen >= LOOK_EVERY {
            self.unseen = 0;
            self.compare();
        }
    }

    /// The next call is one after which everything is compared.
    pub(super) fn look_closely(&mut self) {
        self.unseen = LOOK_EVERY;
    }

    fn judge_answer(&mut self, request: i32, error: Option<String>, finished: Option<Finished>) {
        if self.gone.contains(&request) {
            return;
        }
        let batch = self.expected.remove(&request).expect("it was asked for once");
        let refused = finished.filter(|done| Some(done.batch) == batch && done.refused);
        match error {
            None => assert!(refused.is_none(), "{request} is confirmed and was refused"),
            Some(class) => {
                assert!(refused.is_some(), "{request} failed: {class}");
                assert_eq!(class, "ResourceAllocationException");
            }
        }
    }

    /// Takes messages out of the model whose time was over and that the core has found.
    fn judge_expired(&mut self, mut letters: Letters, stored: &Stored) {
        let now = self.world.now;
        let mut gone: Vec<(QueueId, Item)> = Vec::new();
        for id in self.model.queues.keys().copied().collect::<Vec<_>>() {
            let expired = |item: &Item| item.pending.is_none() && item.is_expired(now);
            if !self.model.queues[&id].items.iter().any(expired) {
                continue;
            }
            let there: Vec<u64> = self.core_queue(id).map_or(Vec::new(), sequences);
            let queue = self.model.queues.get_mut(&id).expect("it is there");
            let (over, still) = std::mem::take(&mut queue.items)
                .into_iter()
                .partition(|item| expired(item) && !there.contains(&item.sequence));
            queue.items = still;
            let over: Vec<Item> = over;
            gone.extend(over.into_iter().map(|item| (id, item)));
        }
        while let Some((_, copy)) = letters.front() {
            let number = number_of(copy);
            let at = gone.iter().position(|(_, item)| item.letter.number == number);
            if at.is_none() && self.is_too_old_for_a_subscriber(number) {
                let letter = self.letters[&number].clone();
                self.bury(&Item::new(letter, 0, 0), &mut letters, stored);
                continue;
            }
            let (queue, item) = gone.remove(
                at.unwrap_or_else(|| panic!("a dead letter of something that is still there: {number}")),
            );
            self.bury(&item, &mut letters, stored);
            self.expired(queue, item, stored);
        }
        for (queue, item) in gone {
            assert!(!self.is_buried(&item), "{item:?} is lost");
            self.expired(queue, item, stored);
        }
    }

    /// It waits for the credit of a topic's subscriber, and its time is over.
    fn is_too_old_for_a_subscriber(&self, number: i64) -> bool {
        let mut waiting = self.model.consumers.iter().flat_map(|consumer| &consumer.waiting);
        let now = self.world.now;
        let unburied = !self.model.buried.contains(&number);
        unburied && waiting.any(|(letter, _)| letter.number == number && letter.is_over(now))
    }

    fn expired(&mut self, queue: QueueId, item: Item, stored: &Stored) {
        if item.stored {
            self.model.endings.push(Ending {
                batch: stored.batch.expect("the store is told"),
                held: Held {
                    queue,
                    item,
                    number: 0,
                },
                back: Back::Unseen,
            });
        }
    }

    fn judge_dispatch(&mut self, to: ConnectionKey, dispatch: MessageDispatch) {
        let id = dispatch.consumer_id.as_ref().expect("it is for a consumer");
        let consumer = self.model.consumer(id.value);
        let client = self
            .clients
            .iter()
            .find(|client| client.number == consumer.client);
        assert_eq!(client.map(|client| client.key), Some(to), "for another client");
        let Some(message) = &dispatch.message else {
            return self.judge_nothing(id.value);
        };
        assert_eq!(message.redelivery_counter, dispatch.redelivery_counter);
        if consumer.browser.is_some() {
            return self.judge_browsed(id.value, message);
        }
        match consumer.source {
            Source::Queues(_) => self.judge_queue_dispatch(id.value, &dispatch, message),
            Source::Topics(_) => self.judge_topic_dispatch(id.value, message),
        }
    }

    /// A consumer is told that there is nothing, or a browser that it is at the end.
    fn judge_nothing(&mut self, id: i64) {
        let now = self.world.now;
        let consumer = self.model.consumer(id);
        if let Some(snapshot) = &mut consumer.browser {
            assert!(!std::mem::replace(&mut snapshot.ended, true), "it ends once");
            let left = std::mem::take(&mut snapshot.left);
            let number = snapshot.number;
            for (queue, sequence, was) in left {
                self.check_missed(queue, sequence, was, number);
            }
            return;
        }
        match consumer.pull.take() {
            Some(Pull::NoWait) => {
                let consumer = self.model.consumer(id).clone();
                for (key, queue) in &self.model.queues {
                    for item in &queue.items {
                        let takes = self.model.may_go(*key, item, &consumer, now);
                        assert!(!takes, "there is something: {item:?}");
                    }
                }
            }
            Some(Pull::Until(until)) => assert!(until <= now, "it is told too early"),
            other => panic!("nobody waits to hear that there is nothing: {other:?}"),
        }
    }

    /// A browser was not shown this message. That is right if it was taken meanwhile.
    fn check_missed(&self, queue: QueueId, sequence: u64, was: Found, browser: u64) {
        let found = self.model.queues.get(&queue);
        let found = found.and_then(|queue| queue.items.iter().find(|item| item.sequence == sequence));
        let Some(item) = found.filter(|item| !item.is_expired(self.world.now)) else {
            return;
        };
        let taken = was == Found::Waiting && item.moved >= browser;
        assert!(taken || was == Found::Pending, "a browser missed {item:?}");
    }

    fn judge_browsed(&mut self, id: i64, message: &Message) {
        let sequence = sequence_of(message);
        let number = self.model.dispatches;
        let consumer = self.model.consumer(id);
        assert!(consumer.has_credit(), "a browser gets too much");
        let snapshot: &mut Snapshot = consumer.browser.as_mut().expect("it is a browser");
        assert!(!snapshot.ended, "a browser gets more after its end");
        let at = snapshot.left.iter().position(|(_, left, _)| *left == sequence);
        let (queue, ..) = snapshot
            .left
            .remove(at.unwrap_or_else(|| panic!("a browser sees {} twice, or too late", number_of(message))));
        let browser = snapshot.number;
        let mut passed = Vec::new();
        if !self.model.queues[&queue].prioritised {
            let consumer = self.model.consumer(id);
            let left = &mut consumer.browser.as_mut().expect("it is a browser").left;
            let before = |(of, left, _): &(QueueId, u64, Found)| *of == queue && *left < sequence;
            passed = left.iter().copied().filter(before).collect();
            left.retain(|part| !before(part));
        }
        for (queue, sequence, was) in passed {
            self.check_missed(queue, sequence, was, browser);
        }
        let (letter, now) = (self.letters[&number_of(message)].clone(), self.world.now);
        check_content(message, letter.number);
        let consumer = self.model.consumer(id);
        assert!(consumer.selects(&letter), "a browser sees what it does not want");
        let mut item = Item::new(letter, sequence, 0);
        item.dead = message.original_destination.is_some();
        assert!(!item.is_expired(now), "a browser sees what is over");
        consumer.held.push(Held { queue, item, number });
    }

    fn judge_topic_dispatch(&mut self, id: i64, message: &Message) {
        let now = self.world.now;
        let consumer = self.model.consumer(id);
        assert!(consumer.has_credit(), "a subscriber gets too much");
        consumer.topic_in_flight += 1;
        loop {
            assert!(!consumer.waiting.is_empty(), "a subscriber gets {message:?}");
            // Different topics are in no order.
            let same = |(letter, _): &(Rc<Letter>, usize)| Some(&letter.to) == message.destination.as_ref();
            let next = consumer.waiting.iter().position(same);
            let (letter, _) = consumer.waiting.remove(next.expect("it waits"));
            let over = letter.is_over(now);
            if letter.number == number_of(message) {
                assert!(!over, "a subscriber gets what is over");
                return check_content(message, letter.number);
            }
            assert!(over, "a subscriber missed {letter:?}");
        }
    }

    fn judge_queue_dispatch(&mut self, id: i64, dispatch: &MessageDispatch, message: &Message) {
        let (now, sequence) = (self.world.now, sequence_of(message));
        let consumers = &self.model.consumers;
        let found = consumers.iter().find(|consumer| consumer.id == id);
        let consumer = found.expect("it is there");
        let key = match &consumer.source {
            Source::Queues(queues) if queues.len() == 1 => queues[0],
            _ => self.queue_named(dispatch.destination.as_ref().expect("it is from a queue")),
        };
        let queue = &self.model.queues[&key];
        let at = queue.items.iter().position(|item| item.sequence == sequence);
        let item = &queue.items[at.unwrap_or_else(|| panic!("{message:?} does not wait on {}", queue.name))];
        assert_eq!(item.letter.number, number_of(message));
        check_content(message, item.letter.number);
        assert!(
            self.model.may_go(key, item, consumer, now),
            "{item:?} may not go to {consumer:?}"
        );
        assert!(consumer.has_credit(), "{consumer:?} gets too much");
        assert_eq!(
            message.redelivery_counter as u32, item.redelivered,
            "the counter of {item:?}"
        );
        let earlier = &queue.items[..at.unwrap_or_default()];
        for before in earlier {
            let sooner = self.model.may_go(key, before, consumer, now);
            assert!(!sooner, "{item:?} goes before {before:?} to {consumer:?}");
        }
        for other in &self.model.consumers {
            let sooner = other.in_line && other.has_credit() && other.priority > consumer.priority;
            assert!(
                !(sooner && self.model.may_go(key, item, other, now)),
                "{item:?} goes to {consumer:?}, but {other:?} is served first"
            );
        }
        let mut first = false;
        let letter = item.letter.clone();
        let queue = self.model.queues.get_mut(&key).expect("it is there");
        if let Some(group) = letter.group {
            let owned = queue.owners.get(&group) == Some(&id);
            if owned && letter.group_sequence < 0 {
                queue.owners.remove(&group);
            } else if !owned || letter.group_sequence == 1 {
                queue.owners.insert(group, id);
                first = true;
            }
        }
        assert_eq!(message.jmsx_group_first_for_consumer, first, "first of its group");
        let mut item = queue.items.remove(at.unwrap_or_default());
        item.shown = true;
        self.model.dispatches += 1;
        let number = self.model.dispatches;
        let consumer = self.model.consumer(id);
        consumer.pull = None;
        consumer.held.push(Held {
            queue: key,
            item,
            number,
        });
        consumer.in_line &= consumer.has_credit();
    }

    /// The core's own queue.
    pub(super) fn core_queue(&self, id: QueueId) -> Option<&Queue> {
        let core = &self.world.core;
        let queue = &self.model.queues[&id];
        let key = match &queue.durable {
            Some(durable) => {
                let client = format!("ID:client-{}", durable.client);
                *core.durables.get(&(client.into(), durable.name.into()))?
            }
            None => match core.destinations.get(&queue.name)? {
                Target::Queue(key) => *key,
                Target::Topic(_) => panic!("{} is a topic", queue.name),
            },
        };
        Some(&core.queues[key.0])
    }

    /// What the core has is what it should have.
    pub(super) fn compare(&mut self) {
        let now = self.world.now;
        let core = &self.world.core;
        // What is too old goes when its turn comes, of which nobody hears.
        for consumer in &mut self.model.consumers {
            let mut subscriptions = core.subscriptions.iter();
            let subscription = subscriptions.find(|(_, found)| found.id.value == consumer.id);
            let waits = |letter: &Letter| {
                let mut waiting = subscription.iter().flat_map(|(_, found)| &found.waiting);
                waiting.any(|message| number_of(message) == letter.number)
            };
            consumer
                .waiting
                .retain(|(letter, _)| !letter.is_over(now) || waits(letter));
        }
        let mut resident = 0;
        for (key, expected) in &self.model.queues {
            let Some(queue) = self.core_queue(*key) else {
                panic!("{} is gone", expected.name);
            };
            let mut items = expected.items.iter();
            for (_, entry) in queue.backlog.iter_from(Place::START) {
                let item = items.next();
                let is = (
                    entry.sequence,
                    entry.redelivered,
                    entry.stored,
                    entry.size as usize,
                );
                let should = item.map(|item| (item.sequence, item.redelivered, item.stored, item.size));
                assert_eq!(Some(is), should, "on {} {:?}", expected.name, expected.durable);
                if entry.stored && entry.body.is_some() {
                    resident += entry.size as usize;
                }
            }
            if let Some(item) = items.next() {
                panic!("{} has lost {item:?}", expected.name);
            }
            let consumers = self.model.consumers.iter();
            let held = consumers.filter(|consumer| consumer.consumes(*key));
            let held = held.flat_map(|consumer| &consumer.held);
            let taken = self.model.transactions.values().flat_map(|open| &open.taken);
            let held = held.chain(taken.map(|(_, held)| held));
            let in_flight = held.filter(|held| held.queue == *key).count();
            assert_eq!(queue.in_flight, in_flight, "in flight from {}", expected.name);
        }
        let (memory, stored) = self.model.used();
        assert_eq!(
            (core.memory_used, core.stored_used, core.resident_used),
            (memory, stored, resident),
            "bytes in memory, stored, and both"
        );
    }

    /// Nothing is left to do: whoever may have something has it.
    pub(super) fn check_rest(&mut self) {
        assert!(self.expected.is_empty(), "no answer to {:?}", self.expected);
        let now = self.world.now;
        for consumer in &mut self.model.consumers {
            assert!(
                consumer.pull != Some(Pull::NoWait),
                "{consumer:?} is not answered"
            );
            if !consumer.has_credit() {
                continue;
            }
            assert!(
                consumer.browser.as_ref().is_none_or(|snapshot| snapshot.ended),
                "{consumer:?} is not at its end"
            );
            assert!(
                consumer.waiting.iter().all(|(letter, _)| letter.is_over(now)),
                "something waits for {consumer:?}"
            );
        }
        self.rests += 1;
        if !self.rests.is_multiple_of(REST_EVERY) {
            return;
        }
        let mut stored = 0;
        for (key, queue) in &self.model.queues {
            let consumers = self.model.consumers.iter();
            let hungry = consumers.filter(|consumer| consumer.consumes(*key) && consumer.has_credit());
            let hungry: Vec<_> = hungry.collect();
            for item in &queue.items {
                for consumer in &hungry {
                    assert!(
                        !self.model.may_go(*key, item, consumer, now),
                        "{item:?} waits, and {consumer:?} could have it"
                    );
                }
                assert!(
                    now - SWEPT < self.model.started || !item.is_expired(now - SWEPT),
                    "{item:?} waits long after its time"
                );
                assert!(item.pending.is_none(), "{item:?} is not durable");
                stored += usize::from(item.stored);
            }
        }
        let held = self
            .model
            .consumers
            .iter()
            .filter(|consumer| consumer.browser.is_none());
        stored += held.flat_map(|c| &c.held).filter(|held| held.item.stored).count();
        let taken = self.model.transactions.values().flat_map(|open| &open.taken);
        stored += taken.filter(|(_, held)| held.item.stored).count();
        assert_eq!(self.world.view.messages.len(), stored, "in the store");
        assert!(self.model.endings.is_empty());
    }

    /// A new broker has what the store had, and says of nothing that it is new that may have been seen.
    pub(super) fn adopt_counters(&mut self, clean: bool) {
        let mut counters = Vec::new();
        for (key, expected) in &self.model.queues {
            let queue = self
                .core_queue(*key)
                .unwrap_or_else(|| panic!("{} is gone", expected.name));
            assert_eq!(
                sequences(queue),
                expected
                    .items
                    .iter()
                    .map(|item| item.sequence)
                    .collect::<Vec<_>>()
            );
            for ((_, entry), item) in queue.backlog.iter_from(Place::START).zip(&expected.items) {
                let (count, kept) = (entry.redelivered, item.kept_count);
                let most = if clean { kept } else { kept.max(1) };
                assert!(
                    count >= kept && (count <= most || item.shown && count == 1),
                    "{item:?} comes back with {count}"
                );
                assert!(!item.shown || count > 0, "{item:?} comes back and is not flagged");
                counters.push((*key, entry.sequence, count));
            }
        }
        for (key, sequence, count) in counters {
            let queue = self.model.queues.get_mut(&key).expect("it is there");
            let item = queue.items.iter_mut().find(|item| item.sequence == sequence);
            let item = item.expect("it is there");
            (item.redelivered, item.shown) = (count, item.shown && count > 0);
        }
    }
}

fn sequences(queue: &Queue) -> Vec<u64> {
    let entries = queue.backlog.iter_from(Place::START);
    entries.map(|(_, entry)| entry.sequence).collect()
}

fn sequence_of(message: &Message) -> u64 {
    message
        .message_id
        .as_ref()
        .map_or(0, |id| id.broker_sequence_id as u64)
}

fn number_of(message: &Message) -> i64 {
    message
        .message_id
        .as_ref()
        .map_or(0, |id| id.producer_sequence_id)
}

fn check_content(message: &Message, number: i64) {
    let content = message.content.as_ref().expect("it has content");
    assert_eq!(content[..8], number.to_be_bytes(), "the content is another's");
}
