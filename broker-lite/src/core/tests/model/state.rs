//! What must be where, in plain lists: no cursors, no lines of consumers, nothing that is kept to be found faster.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use openwire_client::wire::Destination;

use super::world::Stored;

/// A message as its sender made it.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    /// Unlike that of any other.
    pub(super) number: i64,
    /// The number of the client that sent it.
    pub(super) sender: u32,
    pub(super) to: Destination,
    pub(super) persistent: bool,
    pub(super) colour: i64,
    pub(super) group: Option<u8>,
    pub(super) group_sequence: i32,
    pub(super) priority: u8,
    /// 0 is never.
    pub(super) expiration: i64,
}

/// A message on a queue, or on its way from one.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) letter: Rc<Letter>,
    pub(super) sequence: u64,
    pub(super) size: usize,
    /// Where it stands by priority: 0 comes first.
    pub(super) level: u8,
    pub(super) redelivered: u32,
    /// The counter that the store has, and those that are on their way to it.
    pub(super) kept_count: u32,
    pub(super) counts: Vec<(u64, u32)>,
    pub(super) stored: bool,
    /// The batch it came with, until that is durable.
    pub(super) pending: Option<u64>,
    /// An application may have seen it.
    pub(super) shown: bool,
    /// It is a dead letter: its time does not end, and it has nowhere to go.
    pub(super) dead: bool,
    /// How many browsers there had been when it was put back last.
    pub(super) moved: u64,
}

impl Letter {
    /// Its time is over.
    pub(super) fn is_over(&self, now: i64) -> bool {
        self.expiration > 0 && self.expiration <= now
    }
}

impl Item {
    /// A message as it is when it arrives, in memory only.
    pub(super) fn new(letter: Rc<Letter>, sequence: u64, size: usize) -> Self {
        Self {
            letter,
            sequence,
            size,
            level: 0,
            redelivered: 0,
            kept_count: 0,
            counts: Vec::new(),
            stored: false,
            pending: None,
            shown: false,
            dead: false,
            moved: 0,
        }
    }

    pub(super) fn is_expired(&self, now: i64) -> bool {
        !self.dead && self.letter.is_over(now)
    }
}

/// A durable subscription.
#[derive(Debug, Clone)]
pub(super) struct Durable {
    pub(super) client: u32,
    pub(super) name: &'static str,
    pub(super) topic: Destination,
    pub(super) colour: Option<i64>,
    pub(super) no_local: bool,
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: Destination,
    pub(super) durable: Option<Durable>,
    pub(super) prioritised: bool,
    /// In the order in which they are to be delivered.
    pub(super) items: Vec<Item>,
    /// The only consumer that is served.
    pub(super) exclusive: Option<i64>,
    pub(super) owners: BTreeMap<u8, i64>,
}

impl Queue {
    pub(super) fn new(name: Destination, prioritised: bool) -> Self {
        Self {
            name,
            durable: None,
            prioritised,
            items: Vec::new(),
            exclusive: None,
            owners: BTreeMap::new(),
        }
    }

    pub(super) fn put(&mut self, item: Item) {
        self.items.push(item);
        self.items.sort_by_key(|item| (item.level, item.sequence));
    }

    pub(super) fn level(&self, priority: u8) -> u8 {
        match self.prioritised {
            true => 9 - priority,
            false => 0,
        }
    }
}

/// Names a queue, or what waits for a durable subscription, for ever.
pub(super) type QueueId = usize;

/// A message that a consumer has.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) queue: QueueId,
    pub(super) item: Item,
    /// Grows with every dispatch.
    pub(super) number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pull {
    Forever,
    Until(i64),
    NoWait,
}

/// Where a message was when a browser came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Waiting,
    WithConsumer,
    /// On its way into the store: it may be shown once it is there.
    Pending,
}

/// What a browser has to show.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    /// In order: the queue, the sequence, and where it was.
    pub(super) left: Vec<(QueueId, u64, Found)>,
    pub(super) number: u64,
    pub(super) ended: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Source {
    Queues(Vec<QueueId>),
    Topics(Vec<Destination>),
}

#[derive(Debug, Clone)]
pub(super) struct Consumer {
    pub(super) id: i64,
    pub(super) client: u32,
    pub(super) source: Source,
    pub(super) prefetch: usize,
    pub(super) extension: usize,
    pub(super) held: Vec<Held>,
    pub(super) colour: Option<i64>,
    pub(super) no_local: bool,
    pub(super) priority: i8,
    pub(super) exclusive: bool,
    pub(super) pull: Option<Pull>,
    pub(super) browser: Option<Snapshot>,
    /// What waits for a topic subscriber, and how many it has.
    pub(super) waiting: Vec<(Rc<Letter>, usize)>,
    pub(super) topic_in_flight: usize,
    /// It had credit before this step, and has had some ever since.
    pub(super) in_line: bool,
}

impl Consumer {
    pub(super) fn has_credit(&self) -> bool {
        let in_flight = self.held.len() + self.topic_in_flight;
        match self.prefetch {
            0 => self.pull.is_some(),
            prefetch => in_flight.saturating_sub(self.extension) < prefetch,
        }
    }

    pub(super) fn selects(&self, letter: &Letter) -> bool {
        self.colour.is_none_or(|colour| letter.colour == colour)
            && !(self.no_local && letter.sender == self.client)
    }

    pub(super) fn consumes(&self, queue: QueueId) -> bool {
        self.browser.is_none() && matches!(&self.source, Source::Queues(queues) if queues.contains(&queue))
    }
}

/// A message that was published on a topic and that nobody may see yet.
#[derive(Debug)]
pub(super) struct Deferred {
    pub(super) letter: Rc<Letter>,
    pub(super) size: usize,
    /// The batch it came with, until that is durable; none if it is only behind others.
    pub(super) pending: Option<u64>,
    /// Whom it is for.
    pub(super) consumers: Vec<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) sends: Vec<(Rc<Letter>, usize)>,
    /// What was acknowledged in it, by whom: nobody if that consumer ended.
    pub(super) taken: Vec<(Option<i64>, Held)>,
    /// Consumers of topics with how many messages they acknowledged.
    pub(super) topics: Vec<(i64, usize)>,
}

/// Where a message goes whose end is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    Consumer(i64),
    Seen,
    Unseen,
}

/// A message whose end is on its way into the store.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    pub(super) batch: u64,
    pub(super) held: Held,
    pub(super) back: Back,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) queues: BTreeMap<QueueId, Queue>,
    pub(super) consumers: Vec<Consumer>,
    pub(super) transactions: BTreeMap<(u32, i64), Transaction>,
    pub(super) endings: Vec<Ending>,
    /// By the name of the topic, in order.
    pub(super) deferred: BTreeMap<String, VecDeque<Deferred>>,
    /// The last sequence given out.
    pub(super) sequence: u64,
    pub(super) dispatches: u64,
    pub(super) next_queue: QueueId,
    /// When the broker started.
    pub(super) started: i64,
    /// What went to the dead letters since.
    pub(super) buried: BTreeSet<i64>,
    pub(super) browsers: u64,
}

impl Model {
    pub(super) fn consumer(&mut self, id: i64) -> &mut Consumer {
        let found = self.consumers.iter_mut().find(|consumer| consumer.id == id);
        found.unwrap_or_else(|| panic!("consumer {id} has ended"))
    }

    /// True if this message may go to this consumer, as far as the model knows.
    pub(super) fn may_go(&self, queue: QueueId, item: &Item, consumer: &Consumer, now: i64) -> bool {
        let waits_on = &self.queues[&queue];
        let owner = item.letter.group.and_then(|group| waits_on.owners.get(&group));
        item.pending.is_none()
            && !item.is_expired(now)
            && consumer.consumes(queue)
            && consumer.selects(&item.letter)
            && waits_on.exclusive.is_none_or(|holder| holder == consumer.id)
            && (item.letter.group_sequence == 1 || owner.is_none_or(|owner| *owner == consumer.id))
    }

    /// A message lies on a queue again: `seen` if that counts as a redelivery, which `batch` tells the store of.
    pub(super) fn put_back(&mut self, queue: QueueId, mut item: Item, seen: bool, batch: Option<u64>) {
        item.redelivered += u32::from(seen);
        item.shown = item.redelivered > 0;
        item.moved = self.browsers;
        if item.stored && item.redelivered > 0 {
            let batch = batch.expect("the store is told of the counter");
            item.counts.push((batch, item.redelivered));
        }
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.put(item);
        }
    }

    /// A durable subscription is gone, with all that was kept for it.
    pub(super) fn remove_queue(&mut self, queue: QueueId) {
        self.queues.remove(&queue);
        for open in self.transactions.values_mut() {
            open.taken.retain(|(_, held)| held.queue != queue);
        }
    }

    /// The only consumer that is served after others came or went.
    pub(super) fn elect(&mut self, queue: QueueId) {
        let holds = |consumer: &&Consumer| consumer.consumes(queue) && consumer.exclusive;
        let candidates: Vec<_> = self.consumers.iter().filter(holds).collect();
        let highest = candidates.iter().map(|consumer| consumer.priority).max();
        let next = candidates
            .iter()
            .find(|consumer| Some(consumer.priority) == highest);
        let next = next.map(|consumer| consumer.id);
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.exclusive = next;
        }
    }

    /// The consumer is gone: what it had is back, or stays with the transaction it was acknowledged in.
    pub(super) fn end_consumer(&mut self, id: i64, delivered: Option<i64>, batch: Option<u64>) {
        let at = self.consumers.iter().position(|consumer| consumer.id == id);
        let consumer = self.consumers.remove(at.expect("it is there"));
        for ending in &mut self.endings {
            if ending.back == Back::Consumer(id) {
                ending.back = Back::Seen;
            }
        }
        let Source::Queues(queues) = consumer.source else {
            return;
        };
        if consumer.browser.is_some() {
            return;
        }
        for queue in &queues {
            if let Some(queue) = self.queues.get_mut(queue) {
                queue.owners.retain(|_, owner| *owner != id);
            }
            self.elect(*queue);
        }
        let seen = match delivered {
            None => consumer.held.len(),
            Some(last) => consumer
                .held
                .iter()
                .rposition(|held| held.item.sequence as i64 == last)
                .map_or(0, |at| at + 1),
        };
        for (at, held) in consumer.held.into_iter().enumerate() {
            self.put_back(held.queue, held.item, at < seen, batch);
        }
        for open in self.transactions.values_mut() {
            for (taker, _) in &mut open.taken {
                taker.take_if(|taker| *taker == id);
            }
        }
    }

    /// A transaction is rolled back.
    pub(super) fn roll_back(&mut self, transaction: (u32, i64), batch: Option<u64>) {
        let Some(open) = self.transactions.remove(&transaction) else {
            return;
        };
        for (taker, held) in open.taken {
            match taker {
                Some(taker) => self.give_back(taker, held),
                None => self.put_back(held.queue, held.item, true, batch),
            }
        }
    }

    /// A consumer has again what it had acknowledged, where it was.
    fn give_back(&mut self, consumer: i64, held: Held) {
        let consumer = self.consumer(consumer);
        consumer.extension += 1;
        consumer.held.push(held);
        consumer.held.sort_by_key(|held| held.number);
    }

    /// The store has finished with a batch.
    pub(super) fn finished(&mut self, batch: u64, refused: bool, counted: Option<u64>) {
        let settle = |item: &mut Item| {
            item.pending.take_if(|pending| *pending == batch);
            let kept = &mut item.kept_count;
            item.counts.retain(|(of, count)| {
                if *of == batch && !refused {
                    *kept = *count;
                }
                *of != batch
            });
        };
        for deferred in self.deferred.values_mut() {
            deferred.retain(|next| !(refused && next.pending == Some(batch)));
            for next in deferred.iter_mut() {
                next.pending.take_if(|pending| *pending == batch);
            }
            while let Some(next) = deferred.pop_front_if(|next| next.pending.is_none()) {
                for consumer in &mut self.consumers {
                    if next.consumers.contains(&consumer.id) {
                        consumer.waiting.push((next.letter.clone(), next.size));
                    }
                }
            }
        }
        for queue in self.queues.values_mut() {
            if refused {
                let buried = &mut self.buried;
                queue.items.retain(|item| {
                    let gone = item.pending == Some(batch);
                    if gone && item.dead {
                        buried.remove(&item.letter.number);
                    }
                    !gone
                });
            }
            queue.items.iter_mut().for_each(settle);
        }
        for consumer in &mut self.consumers {
            consumer.held.iter_mut().for_each(|held| settle(&mut held.item));
        }
        for open in self.transactions.values_mut() {
            open.taken.iter_mut().for_each(|(_, held)| settle(&mut held.item));
        }
        let endings = std::mem::take(&mut self.endings);
        let (over, mut still): (Vec<_>, Vec<_>) =
            endings.into_iter().partition(|ending| ending.batch == batch);
        still.iter_mut().for_each(|ending| settle(&mut ending.held.item));
        self.endings = still;
        if !refused {
            return;
        }
        for Ending { mut held, back, .. } in over {
            settle(&mut held.item);
            match back {
                Back::Consumer(id) => self.give_back(id, held),
                Back::Seen | Back::Unseen => {
                    self.put_back(held.queue, held.item, back == Back::Seen, counted)
                }
            }
        }
    }

    /// Bytes in memory only, and in the store.
    pub(super) fn used(&self) -> (usize, usize) {
        let waiting = self.queues.values().flat_map(|queue| &queue.items);
        let held = self
            .consumers
            .iter()
            .filter(|consumer| consumer.browser.is_none());
        let held = held.flat_map(|consumer| &consumer.held).map(|held| &held.item);
        let open = self.transactions.values();
        let taken = open.flat_map(|open| &open.taken).map(|(_, held)| &held.item);
        let (mut memory, mut stored) = (0, 0);
        for item in waiting.chain(held).chain(taken) {
            match item.stored {
                true => stored += item.size,
                false => memory += item.size,
            }
        }
        let sends = self.transactions.values().flat_map(|open| &open.sends);
        let topics = self.consumers.iter().flat_map(|consumer| &consumer.waiting);
        memory += sends.chain(topics).map(|(_, size)| size).sum::<usize>();
        let deferred = self.deferred.values().flatten();
        memory += deferred.map(|next| next.size).sum::<usize>();
        (memory, stored)
    }
}

impl Model {
    /// The broker ended. Of its batches these are in the store, and those not.
    pub(super) fn end_broker(&mut self, outcomes: &[(u64, bool)], sequence: u64) {
        self.deferred.clear();
        let mut back = Vec::new();
        for consumer in self
            .consumers
            .drain(..)
            .filter(|consumer| consumer.browser.is_none())
        {
            back.extend(consumer.held.into_iter().map(|held| (held.queue, held.item)));
        }
        for (_, open) in std::mem::take(&mut self.transactions) {
            let taken = open.taken.into_iter();
            back.extend(taken.map(|(_, held)| (held.queue, held.item)));
        }
        for ending in std::mem::take(&mut self.endings) {
            let over = outcomes
                .iter()
                .any(|(batch, kept)| *batch == ending.batch && *kept);
            if !over {
                back.push((ending.held.queue, ending.held.item));
            }
        }
        for (queue, item) in back {
            if let Some(queue) = self.queues.get_mut(&queue) {
                queue.put(item);
            }
        }
        for (batch, kept) in outcomes {
            self.finished(*batch, !kept, None);
        }
        for queue in self.queues.values_mut() {
            queue.exclusive = None;
            queue.owners.clear();
            queue.items.retain(|item| item.stored);
            for item in &queue.items {
                assert!(item.pending.is_none() && item.counts.is_empty());
            }
            queue.items.sort_by_key(|item| (item.level, item.sequence));
        }
        self.buried.clear();
        self.sequence = sequence;
    }

    /// The store is told what a crash made redelivered.
    pub(super) fn flagged(&mut self, stored: &Stored) {
        for item in self.queues.values_mut().flat_map(|queue| &mut queue.items) {
            if item.redelivered > item.kept_count {
                let batch = stored.batch.expect("the store is told");
                item.counts.push((batch, item.redelivered));
            }
        }
    }
}
