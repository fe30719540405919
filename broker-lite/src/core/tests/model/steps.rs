//! What clients do with what they get: consumers, acknowledgements, transactions, browsers, durable subscriptions.

use std::sync::Arc;

use openwire_client::wire::*;
use rand::RngExt;

use super::judge::Letters;
use super::run::{DEAD_LETTERS, Run};
use super::state::{
    Back, Consumer, Durable, Ending, Found, Held, Letter, Pull, Queue, QueueId, Snapshot, Source, Transaction,
};
use super::world::Stored;
use crate::core::tests::rig::Client;
use crate::store::accounting_size;

const MOST_CONSUMERS: usize = 14;

impl Run {
    fn client_of(&self, consumer: &Consumer) -> Client {
        let mut clients = self.clients.iter();
        let found = clients.find(|client| client.number == consumer.client);
        *found.expect("it is connected")
    }

    fn pick_consumer(&mut self, fits: impl Fn(&Consumer) -> bool) -> Option<Consumer> {
        let consumers = self.model.consumers.iter();
        let fitting: Vec<_> = consumers
            .filter(|consumer| fits(consumer))
            .map(|c| c.id)
            .collect();
        let id = self.pick(&fitting)?;
        Some(self.model.consumer(id).clone())
    }

    /// A consumer as anybody might have it; its destination is still to be said.
    fn new_consumer(&mut self, client: Client) -> (Consumer, ConsumerInfo) {
        let id = self.next_consumer;
        self.next_consumer += 1;
        let consumer = Consumer {
            id,
            client: client.number,
            source: Source::Queues(Vec::new()),
            prefetch: match self.random.random_range(0..6) {
                0 => 1,
                1 => 0,
                2 => 1000,
                _ => self.random.random_range(2..12),
            },
            extension: 0,
            held: Vec::new(),
            colour: self.once_in(3).then(|| self.random.random_range(0..3)),
            no_local: self.once_in(8),
            priority: match self.once_in(4) {
                true => self.random.random_range(1..3),
                false => 0,
            },
            exclusive: self.once_in(8),
            pull: None,
            browser: None,
            waiting: Vec::new(),
            topic_in_flight: 0,
            in_line: false,
        };
        let info = ConsumerInfo {
            consumer_id: Some(client.consumer(id)),
            prefetch_size: consumer.prefetch as i32,
            selector: consumer.colour.map(|colour| format!("colour = {colour}").into()),
            no_local: consumer.no_local,
            priority: consumer.priority,
            exclusive: consumer.exclusive,
            ..ConsumerInfo::default()
        };
        (consumer, info)
    }

    fn queues_matching(&self, name: &str) -> Vec<QueueId> {
        let queues = self.model.queues.iter();
        let matching = queues.filter(|(_, queue)| {
            let own = queue.name.name();
            let matches = match name.strip_suffix('>') {
                Some(prefix) => own.starts_with(prefix),
                None => own == name,
            };
            queue.durable.is_none() && matches
        });
        matching.map(|(id, _)| *id).collect()
    }

    pub(super) fn consume(&mut self) {
        if self.model.consumers.len() >= MOST_CONSUMERS {
            return self.stop_consuming();
        }
        let client = self.client();
        let (mut consumer, mut info) = self.new_consumer(client);
        let names = [
            "Q.A",
            "Q.A",
            "Q.B",
            "P.A",
            "P.B",
            "Q.>",
            "P.>",
            DEAD_LETTERS,
            "T.A",
            "T.>",
        ];
        let name = names[self.random.random_range(0..names.len())];
        if name.starts_with("T.") {
            consumer.prefetch = consumer.prefetch.max(1);
            info.prefetch_size = consumer.prefetch as i32;
            consumer.exclusive = false;
            info.destination = Some(Destination::topic(name));
            let topics = ["T.A", "T.B"]
                .iter()
                .filter(|topic| name == "T.>" || **topic == name);
            consumer.source = Source::Topics(topics.map(|topic| Destination::topic(topic)).collect());
        } else {
            info.destination = Some(Destination::queue(name));
            consumer.source = Source::Queues(self.queues_matching(name));
        }
        self.begin_consumer(client, consumer, info);
    }

    fn begin_consumer(&mut self, client: Client, consumer: Consumer, info: ConsumerInfo) {
        self.note(|| format!("{consumer:?} begins"));
        let stored = self.say(client, Box::new(info), true);
        let queues = match &consumer.source {
            Source::Queues(queues) => queues.clone(),
            Source::Topics(_) => Vec::new(),
        };
        self.model.consumers.push(consumer);
        for queue in queues {
            self.model.elect(queue);
        }
        self.done(Self::letters(&stored), &stored);
    }

    pub(super) fn browse(&mut self) {
        if self.model.consumers.len() >= MOST_CONSUMERS {
            return self.stop_consuming();
        }
        let client = self.client();
        let (mut consumer, mut info) = self.new_consumer(client);
        let names = ["Q.A", "Q.B", "P.A", "Q.>", DEAD_LETTERS];
        let name = names[self.random.random_range(0..names.len())];
        consumer.prefetch = match self.once_in(2) {
            true => consumer.prefetch.max(1),
            false => 1000,
        };
        (consumer.exclusive, consumer.priority) = (false, 0);
        let queues = self.queues_matching(name);
        let mut left = Vec::new();
        for id in &queues {
            let wanted = |letter| consumer.selects(letter);
            for item in &self.model.queues[id].items {
                let found = match item.pending {
                    None => Found::Waiting,
                    Some(_) => Found::Pending,
                };
                if !item.is_expired(self.world.now) && wanted(&item.letter) {
                    left.push((*id, item.sequence, found));
                }
            }
            let others = self
                .model
                .consumers
                .iter()
                .filter(|other| other.browser.is_none());
            let taken = self.model.transactions.values().flat_map(|open| &open.taken);
            let taken = taken.filter(|(taker, _)| taker.is_some()).map(|(_, held)| held);
            for held in others
                .flat_map(|other| &other.held)
                .chain(taken)
                .filter(|held| held.queue == *id)
            {
                if !held.item.is_expired(self.world.now) && wanted(&held.item.letter) {
                    left.push((*id, held.item.sequence, Found::WithConsumer));
                }
            }
        }
        self.model.browsers += 1;
        consumer.browser = Some(Snapshot {
            left,
            number: self.model.browsers,
            ended: false,
        });
        consumer.source = Source::Queues(queues);
        info.destination = Some(Destination::queue(name));
        info.prefetch_size = consumer.prefetch as i32;
        info.browser = true;
        self.begin_consumer(client, consumer, info);
    }

    pub(super) fn stop_consuming(&mut self) {
        let Some(consumer) = self.pick_consumer(|_| true) else {
            return;
        };
        let held = consumer.held.iter().map(|held| held.item.sequence as i64);
        let delivered = match self.random.random_range(0..3) {
            0 => RemoveInfo::NOTHING_DELIVERED,
            1 => RemoveInfo::UNKNOWN_DELIVERED,
            _ => {
                let held: Vec<_> = held.collect();
                self.pick(&held).unwrap_or(RemoveInfo::UNKNOWN_DELIVERED)
            }
        };
        self.end_consumer(&consumer, delivered);
    }

    fn end_consumer(&mut self, consumer: &Consumer, delivered: i64) {
        self.note(|| format!("consumer {} ends, {delivered} was delivered", consumer.id));
        let client = self.client_of(consumer);
        let info = RemoveInfo {
            object_id: Some(EntityId::Consumer(client.consumer(consumer.id))),
            last_delivered_sequence_id: delivered,
            ..RemoveInfo::default()
        };
        let stored = self.say(client, info, true);
        let delivered = (delivered != RemoveInfo::UNKNOWN_DELIVERED).then_some(delivered);
        self.model.end_consumer(consumer.id, delivered, stored.batch);
        self.done(Self::letters(&stored), &stored);
    }

    pub(super) fn pull(&mut self) {
        let Some(consumer) = self.pick_consumer(|consumer| consumer.prefetch == 0) else {
            return;
        };
        let timeout = match self.random.random_range(0..3) {
            0 => 0,
            1 => -1,
            _ => self.random.random_range(1..3000),
        };
        self.note(|| format!("consumer {} pulls for {timeout}", consumer.id));
        let client = self.client_of(&consumer);
        let pull = MessagePull {
            consumer_id: Some(client.consumer(consumer.id)),
            timeout,
            ..MessagePull::default()
        };
        let stored = self.say(client, Box::new(pull), false);
        self.model.consumer(consumer.id).pull = Some(match timeout {
            0 => Pull::Forever,
            -1 => Pull::NoWait,
            _ => Pull::Until(self.world.now + timeout),
        });
        self.done(Self::letters(&stored), &stored);
    }

    pub(super) fn subscribe_durably(&mut self) {
        if self.model.consumers.len() >= MOST_CONSUMERS {
            return self.stop_consuming();
        }
        self.rest();
        let client = self.client();
        let (mut consumer, mut info) = self.new_consumer(client);
        let name = ["one", "two"][self.random.random_range(0..2)];
        let topic = Destination::topic(["T.A", "T.A", "T.B", "T.>"][self.random.random_range(0..4)]);
        (consumer.exclusive, consumer.priority) = (false, 0);
        (info.exclusive, info.priority) = (false, 0);
        let found = self.durable(client, name);
        let mut wanted = Durable {
            client: client.number,
            name,
            topic,
            colour: consumer.colour,
            no_local: consumer.no_local,
        };
        if let Some(id) = found {
            if self.model.consumers.iter().any(|consumer| consumer.consumes(id)) {
                return;
            }
            // Mostly it is the one that was there before.
            if let Some(before) = self.model.queues[&id]
                .durable
                .clone()
                .filter(|_| !self.once_in(4))
            {
                wanted = before;
                (consumer.colour, consumer.no_local) = (wanted.colour, wanted.no_local);
                info.selector = wanted.colour.map(|colour| format!("colour = {colour}").into());
                info.no_local = wanted.no_local;
            }
        }
        info.destination = Some(wanted.topic.clone());
        info.subscription_name = Some(name.into());
        let same = |durable: &Durable| {
            (&durable.topic, durable.colour, durable.no_local)
                == (&wanted.topic, wanted.colour, wanted.no_local)
        };
        let kept = found.filter(|id| self.model.queues[id].durable.as_ref().is_some_and(same));
        let id = match kept {
            Some(id) => {
                let queue = self.model.queues.get_mut(&id).expect("it is there");
                queue.durable = Some(wanted);
                id
            }
            None => {
                if let Some(id) = found {
                    self.model.remove_queue(id);
                }
                let mut queue = Queue::new(wanted.topic.clone(), false);
                queue.durable = Some(wanted);
                self.add_queue(queue)
            }
        };
        consumer.source = Source::Queues(vec![id]);
        self.begin_consumer(client, consumer, info);
        self.rest();
    }

    fn durable(&self, client: Client, name: &str) -> Option<QueueId> {
        let mut queues = self.model.queues.iter();
        let found = queues.find(|(_, queue)| {
            let durable = queue.durable.as_ref();
            durable.is_some_and(|durable| durable.client == client.number && durable.name == name)
        });
        found.map(|(id, _)| *id)
    }

    pub(super) fn unsubscribe(&mut self) {
        self.rest();
        let idle = |(id, queue): (&QueueId, &Queue)| {
            let used = self.model.consumers.iter().any(|consumer| consumer.consumes(*id));
            let durable = queue.durable.clone().filter(|_| !used)?;
            Some((*id, durable))
        };
        let idle: Vec<_> = self.model.queues.iter().filter_map(idle).collect();
        let Some((id, durable)) = self.pick(&idle) else {
            return;
        };
        self.note(|| format!("{durable:?} is no more"));
        let client = *self
            .clients
            .iter()
            .find(|client| client.number == durable.client)
            .expect("it is there");
        let info = RemoveSubscriptionInfo {
            client_id: Some(client.id().into()),
            subscription_name: Some(durable.name.into()),
            ..RemoveSubscriptionInfo::default()
        };
        let stored = self.say(client, info, true);
        self.model.remove_queue(id);
        self.done(Self::letters(&stored), &stored);
        self.rest();
    }

    fn transaction_info(&mut self, transaction: (u32, i64), step: i8) -> (Client, TransactionInfo) {
        let mut clients = self.clients.iter();
        let client = *clients
            .find(|client| client.number == transaction.0)
            .expect("it is there");
        let info = TransactionInfo {
            transaction_id: Some(client.transaction(transaction.1)),
            step,
            ..TransactionInfo::default()
        };
        (client, info)
    }

    pub(super) fn begin(&mut self) {
        if self.model.transactions.len() >= 4 {
            return self.complete();
        }
        let key = (self.client().number, self.next_transaction);
        self.next_transaction += 1;
        self.note(|| format!("transaction {key:?} begins"));
        let (client, info) = self.transaction_info(key, TransactionInfo::BEGIN);
        let stored = self.say(client, info, true);
        self.model.transactions.insert(key, Transaction::default());
        self.done(Self::letters(&stored), &stored);
    }

    fn open_transaction(&mut self, client: Option<u32>) -> Option<(u32, i64)> {
        let open = self.model.transactions.keys().copied();
        let open: Vec<_> = open
            .filter(|(of, _)| client.is_none_or(|client| client == *of))
            .collect();
        self.pick(&open)
    }

    pub(super) fn send_transacted(&mut self) {
        let Some(key) = self.open_transaction(None) else {
            return self.begin();
        };
        let client = *self
            .clients
            .iter()
            .find(|client| client.number == key.0)
            .expect("it is there");
        let (letter, mut message) = self.letter(client);
        message.transaction_id = Some(client.transaction(key.1));
        let size = accounting_size(&message) as usize;
        self.note(|| format!("{letter:?} is sent in {key:?}"));
        let answered = self.once_in(4);
        let stored = self.say(client, Arc::new(message), answered);
        // Its place among what the transaction may have to store; a commit numbers it again.
        self.model.sequence += 1;
        let open = self.model.transactions.get_mut(&key).expect("it is open");
        open.sends.push((letter, size));
        self.done(Self::letters(&stored), &stored);
    }

    pub(super) fn complete(&mut self) {
        let Some(key) = self.open_transaction(None) else {
            return;
        };
        self.look_closely();
        if self.once_in(3) {
            self.note(|| format!("{key:?} is rolled back"));
            let (client, info) = self.transaction_info(key, TransactionInfo::ROLLBACK);
            let stored = self.say(client, info, true);
            self.model.roll_back(key, stored.batch);
            return self.done(Self::letters(&stored), &stored);
        }
        let answered = !self.once_in(5);
        self.note(|| format!("{key:?} is committed, answered: {answered}"));
        let (client, info) = self.transaction_info(key, TransactionInfo::COMMIT_ONE_PHASE);
        let stored = self.say(client, info, answered);
        let mut letters = Self::letters(&stored);
        self.commit(key, answered, &mut letters, &stored);
        self.done(letters, &stored);
    }

    fn commit(&mut self, key: (u32, i64), answered: bool, letters: &mut Letters, stored: &Stored) {
        let open = self.model.transactions.remove(&key).expect("it is open");
        let mut over: Vec<(Held, Back)> = Vec::new();
        for (taker, held) in open.taken {
            let back = match taker {
                Some(taker) if answered => Back::Consumer(taker),
                _ => Back::Seen,
            };
            over.push((held, back));
        }
        for (id, count) in open.topics {
            if let Some(consumer) = self.model.consumers.iter_mut().find(|consumer| consumer.id == id) {
                consumer.topic_in_flight -= count;
                consumer.extension = consumer.extension.saturating_sub(count);
            }
        }
        let removes = over.iter().any(|(held, _)| held.item.stored);
        let kept = |letter: &Letter| {
            let mut durables = self
                .model
                .queues
                .values()
                .filter_map(|queue| queue.durable.as_ref());
            letter.persistent && (letter.to.is_queue() || durables.any(|durable| durable.is_of(&letter.to)))
        };
        let tied = removes || open.sends.iter().any(|(letter, _)| kept(letter));
        let mut waits = removes;
        for (letter, size) in &open.sends {
            waits |= self.publish(letter, *size, tied, letters, stored);
        }
        if waits {
            let batch = stored.batch.expect("it is stored");
            let endings = over.into_iter().map(|(held, back)| Ending { batch, held, back });
            self.model.endings.extend(endings);
        }
    }

    pub(super) fn acknowledge(&mut self) {
        let busy = |consumer: &Consumer| !consumer.held.is_empty() || consumer.topic_in_flight > 0;
        let Some(consumer) = self.pick_consumer(busy) else {
            return;
        };
        match consumer.source {
            Source::Topics(_) => self.acknowledge_topic(&consumer),
            Source::Queues(_) => self.acknowledge_queue(&consumer),
        }
    }

    fn acknowledge_topic(&mut self, consumer: &Consumer) {
        let acknowledged = self.model.transactions.values().flat_map(|open| &open.topics);
        let acknowledged = acknowledged.filter(|(id, _)| *id == consumer.id);
        let free = consumer.topic_in_flight - acknowledged.map(|(_, count)| count).sum::<usize>();
        if free == 0 {
            return;
        }
        let count = self.random.random_range(1..=free);
        let kind = match self.once_in(4) {
            true => MessageAck::DELIVERED,
            false => MessageAck::STANDARD,
        };
        let transaction = match kind == MessageAck::STANDARD && self.once_in(3) {
            true => self.open_transaction(Some(consumer.client)),
            false => None,
        };
        self.note(|| {
            format!(
                "subscriber {} acknowledges {count} ({kind}) in {transaction:?}",
                consumer.id
            )
        });
        let client = self.client_of(consumer);
        let ack = MessageAck {
            consumer_id: Some(client.consumer(consumer.id)),
            ack_type: kind,
            message_count: count as i32,
            transaction_id: transaction.map(|(_, value)| client.transaction(value)),
            ..MessageAck::default()
        };
        let answered = self.once_in(3);
        let stored = self.say(client, Box::new(ack), answered);
        let own = self.model.consumer(consumer.id);
        if kind == MessageAck::DELIVERED || transaction.is_some() {
            own.extension = (own.extension + count).min(own.topic_in_flight);
        } else {
            own.topic_in_flight -= count;
            own.extension = own.extension.saturating_sub(count);
        }
        if let Some(open) = transaction.and_then(|open| self.model.transactions.get_mut(&open)) {
            open.topics.push((consumer.id, count));
        }
        self.done(Self::letters(&stored), &stored);
    }

    fn acknowledge_queue(&mut self, consumer: &Consumer) {
        let held = &consumer.held;
        let mut to = self.random.random_range(0..held.len());
        let mut from = match self.once_in(4) {
            true => self.random.random_range(0..=to),
            false => 0,
        };
        let kind = match self.random.random_range(0..20) {
            0..11 => MessageAck::STANDARD,
            11..14 if consumer.browser.is_none() => MessageAck::INDIVIDUAL,
            11..14 => MessageAck::STANDARD,
            14..16 => MessageAck::DELIVERED,
            16 => MessageAck::REDELIVERED,
            17 | 18 => MessageAck::POISON,
            _ => MessageAck::EXPIRED,
        };
        let number = |at: usize| held[at].item.letter.number;
        let id = |at: usize| MessageId {
            producer_sequence_id: number(at),
            producer_id: Some(self.sender(number(at)).producer()),
            ..MessageId::default()
        };
        let (first_id, last_id) = (id(from), id(to));
        // The same message may be among the dead letters twice.
        let position = |start: usize, wanted: i64| (start..held.len()).find(|at| number(*at) == wanted);
        (from, to) = match kind {
            MessageAck::DELIVERED => (0, position(0, number(to)).unwrap_or(to)),
            MessageAck::INDIVIDUAL => {
                let at = position(0, number(to)).unwrap_or(to);
                (at, at)
            }
            _ => {
                let start = position(0, number(from)).unwrap_or(from);
                (start, position(start, number(to)).unwrap_or(to))
            }
        };
        let transactable = matches!(kind, MessageAck::STANDARD | MessageAck::INDIVIDUAL);
        let transaction = match transactable && consumer.browser.is_none() && self.once_in(2) {
            true => self.open_transaction(Some(consumer.client)),
            false => None,
        };
        let answered = self.once_in(2);
        let count = to - from + 1;
        self.note(|| {
            let (first, last) = (number(from), number(to));
            format!(
                "consumer {} acknowledges {first} to {last} ({kind}) in {transaction:?}, answered: {answered}",
                consumer.id
            )
        });
        let client = self.client_of(consumer);
        let ack = MessageAck {
            consumer_id: Some(client.consumer(consumer.id)),
            ack_type: kind,
            first_message_id: Some(first_id),
            last_message_id: Some(last_id),
            message_count: count as i32,
            transaction_id: transaction.map(|(_, value)| client.transaction(value)),
            ..MessageAck::default()
        };
        let stored = self.say(client, Box::new(ack), answered);
        let mut letters = Self::letters(&stored);
        let own = self.model.consumer(consumer.id);
        if kind == MessageAck::DELIVERED {
            own.extension = own.extension.max(to + 1);
        } else if own.browser.is_some() {
            own.held.drain(from..=to);
            own.extension = own.extension.saturating_sub(count);
        } else if kind == MessageAck::REDELIVERED {
            own.held[from..=to]
                .iter_mut()
                .for_each(|held| held.item.redelivered += 1);
        } else if let Some(open) = transaction {
            let taken: Vec<_> = own.held.drain(from..=to).collect();
            own.extension = own.extension.saturating_sub(count);
            let open = self.model.transactions.get_mut(&open).expect("it is open");
            open.taken
                .extend(taken.into_iter().map(|held| (Some(consumer.id), held)));
        } else {
            let taken: Vec<_> = own.held.drain(from..=to).collect();
            own.extension = own.extension.saturating_sub(count);
            if !transactable {
                taken
                    .iter()
                    .for_each(|held| self.bury(&held.item, &mut letters, &stored));
            }
            self.end(consumer.id, taken, answered, &stored);
        }
        self.done(letters, &stored);
    }

    fn sender(&self, number: i64) -> Client {
        let sender = self.letters[&number].sender;
        *self
            .clients
            .iter()
            .find(|client| client.number == sender)
            .expect("it is there")
    }

    /// What was acknowledged ends, once the store knows.
    fn end(&mut self, consumer: i64, taken: Vec<Held>, answered: bool, stored: &Stored) {
        if !taken.iter().any(|held| held.item.stored) {
            return;
        }
        let batch = stored.batch.expect("the store is told");
        let back = match answered {
            true => Back::Consumer(consumer),
            false => Back::Seen,
        };
        let taken = taken.into_iter().filter(|held| held.item.stored || answered);
        let endings = taken.map(|held| Ending { batch, held, back });
        self.model.endings.extend(endings);
    }

    /// Everything that waits can be consumed, and then nothing is counted any more.
    pub(super) fn empty(&mut self) {
        self.rest();
        for client in self.clients.clone() {
            self.lose(client);
        }
        self.rest();
        let queues: Vec<_> = self
            .model
            .queues
            .iter()
            .map(|(id, queue)| (*id, queue.durable.clone()))
            .collect();
        for (id, durable) in queues {
            let number = durable.as_ref().map_or(1, |durable| durable.client);
            let client = *self
                .clients
                .iter()
                .find(|client| client.number == number)
                .expect("it is there");
            let (mut consumer, _) = self.new_consumer(client);
            (consumer.prefetch, consumer.colour, consumer.priority) = (100_000, None, 0);
            (consumer.no_local, consumer.exclusive) = (false, false);
            let info = ConsumerInfo {
                consumer_id: Some(client.consumer(consumer.id)),
                destination: Some(self.model.queues[&id].name.clone()),
                prefetch_size: 100_000,
                ..ConsumerInfo::default()
            };
            if durable.is_some() {
                continue;
            }
            consumer.source = Source::Queues(vec![id]);
            let consumer_id = consumer.id;
            self.begin_consumer(client, consumer, info);
            self.rest();
            while !self.model.consumer(consumer_id).held.is_empty() {
                let consumer = self.model.consumer(consumer_id).clone();
                self.acknowledge_all(&consumer);
            }
            let consumer = self.model.consumer(consumer_id).clone();
            self.end_consumer(&consumer, RemoveInfo::NOTHING_DELIVERED);
            assert!(self.model.queues[&id].items.is_empty());
        }
    }

    /// Acknowledges what a consumer has that nothing was acknowledged of before.
    fn acknowledge_all(&mut self, consumer: &Consumer) {
        let number = |at: usize| consumer.held[at].item.letter.number;
        let last = number(consumer.held.len() - 1);
        // The same message may be among the dead letters twice: then it is acknowledged up to the first.
        let to = (0..consumer.held.len()).find(|at| number(*at) == last);
        let count = to.map_or(0, |to| to + 1);
        self.note(|| format!("consumer {} acknowledges {count} up to {last}", consumer.id));
        let client = self.client_of(consumer);
        let id = |number| MessageId {
            producer_sequence_id: number,
            producer_id: Some(self.sender(number).producer()),
            ..MessageId::default()
        };
        let ack = MessageAck {
            consumer_id: Some(client.consumer(consumer.id)),
            ack_type: MessageAck::STANDARD,
            first_message_id: Some(id(number(0))),
            last_message_id: Some(id(last)),
            message_count: count as i32,
            ..MessageAck::default()
        };
        let stored = self.say(client, Box::new(ack), true);
        let own = self.model.consumer(consumer.id);
        let taken: Vec<_> = own.held.drain(..count).collect();
        own.extension = own.extension.saturating_sub(count);
        self.end(consumer.id, taken, true, &stored);
        self.done(Letters::new(), &stored);
        self.rest();
    }
}
