//! A run: random clients do what clients do, and the model does it as well.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use openwire_client::wire::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::judge::Letters;
use super::state::{Deferred, Durable, Item, Letter, Model, Queue, QueueId, Source};
use super::world::{Stored, World};
use crate::core::tests::rig::{Client, Rig, properties};
use crate::core::{AdvisoryOptions, CoreConfig, OutcomeLimits, Rules, UserIds};
use crate::policy::{Pattern, Policies, Policy};
use crate::store::{Op, accounting_size};

pub(super) const DEAD_LETTERS: &str = "ActiveMQ.DLQ";
const QUEUES: [&str; 4] = ["Q.A", "Q.B", "P.A", "P.B"];
const TOPICS: [&str; 2] = ["T.A", "T.B"];
const CLIENTS: u32 = 4;
const NOW: i64 = 1_700_000_000_000;

/// How a run goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) resident_limit: usize,
    /// How often, in a hundred, the store is not waited for.
    pub(super) slow: u32,
    /// How often, in a hundred, the disk is full.
    pub(super) full: u32,
    /// The broker is restarted once in so many steps.
    pub(super) restarts: u32,
}

pub(super) struct Run {
    seed: u64,
    manner: Manner,
    pub(super) world: World,
    pub(super) model: Model,
    pub(super) random: StdRng,
    pub(super) clients: Vec<Client>,
    pub(super) letters: BTreeMap<i64, Rc<Letter>>,
    /// Requests without an answer, and the batch that the answer waits for.
    pub(super) expected: BTreeMap<i32, Option<u64>>,
    /// Requests of connections that ended before the answer.
    pub(super) gone: BTreeSet<i32>,
    asked: BTreeMap<i32, u32>,
    pub(super) next_consumer: i64,
    pub(super) next_transaction: i64,
    last_request: i32,
    log: VecDeque<String>,
    /// Calls since everything was compared.
    pub(super) unseen: u32,
    pub(super) rests: u32,
}

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} in {:?}, after:", self.seed, self.manner);
            self.log.iter().for_each(|step| eprintln!("  {step}"));
        }
    }
}

impl Run {
    pub(super) fn new(seed: u64, manner: Manner) -> Self {
        let names = QUEUES.iter().chain(&[DEAD_LETTERS]);
        let queues: Vec<_> = names.map(|name| Destination::queue(name)).collect();
        let topics = TOPICS.iter().map(|name| Destination::topic(name));
        let policy = Policy::new().prioritized_messages(true);
        let rules = Rules {
            policies: Policies::new().with(Pattern::queue("P.>"), policy),
            destinations: queues.iter().cloned().chain(topics).collect(),
            ..Rules::default()
        };
        let config = CoreConfig {
            temp_limit: None,
            broker_name: "test".into(),
            broker_id: BrokerId {
                value: Some("ID:test".into()),
            },
            broker_url: "vm://test".into(),
            stored: true,
            resident_limit: manner.resident_limit,
            memory_limit: usize::MAX,
            outcomes: OutcomeLimits::default(),
            rules: Arc::new(rules),
            authorization: None,
            user_ids: UserIds::default(),
            max_uncommitted: 0,
            advisories: AdvisoryOptions::default(),
            statistics: None,
        };
        let mut run = Self {
            seed,
            manner,
            world: World::new(NOW, config),
            model: Model::default(),
            random: StdRng::seed_from_u64(seed),
            clients: Vec::new(),
            letters: BTreeMap::new(),
            expected: BTreeMap::new(),
            gone: BTreeSet::new(),
            asked: BTreeMap::new(),
            next_consumer: 1,
            next_transaction: 1,
            last_request: 0,
            log: VecDeque::new(),
            unseen: 0,
            rests: 0,
        };
        for queue in queues {
            let prioritised = queue.name().starts_with("P.");
            run.add_queue(Queue::new(queue, prioritised));
        }
        for number in 1..=CLIENTS {
            run.connect(number);
        }
        run
    }

    pub(super) fn add_queue(&mut self, queue: Queue) -> QueueId {
        let id = self.model.next_queue;
        self.model.next_queue += 1;
        self.model.queues.insert(id, queue);
        id
    }

    pub(super) fn queue_named(&self, name: &Destination) -> QueueId {
        let mut queues = self.model.queues.iter();
        let found = queues.find(|(_, queue)| queue.durable.is_none() && queue.name == *name);
        *found.unwrap_or_else(|| panic!("there is no {name}")).0
    }

    pub(super) fn note(&mut self, step: impl FnOnce() -> String) {
        if self.log.len() >= 60 {
            self.log.pop_front();
        }
        self.log.push_back(step());
    }

    /// True once in so many.
    pub(super) fn once_in(&mut self, many: u32) -> bool {
        self.random.random_ratio(1, many)
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        match from.len() {
            0 => None,
            len => Some(from[self.random.random_range(0..len)].clone()),
        }
    }

    /// A client says something; the answer, if one is asked for, is expected.
    pub(super) fn say(&mut self, client: Client, command: impl Into<Command>, answered: bool) -> Stored {
        let mut command = command.into();
        self.last_request += 1;
        command.set_header(self.last_request, answered);
        self.get_in_line();
        let stored = self.world.say(client.key, command);
        if answered {
            self.expected.insert(self.last_request, stored.batch);
            self.asked.insert(self.last_request, client.number);
        }
        stored
    }

    /// Who has credit now is served before those who get it later.
    fn get_in_line(&mut self) {
        for consumer in &mut self.model.consumers {
            consumer.in_line = consumer.has_credit();
        }
    }

    /// Holds what came of a command against the model; an answer that waits for nothing is there.
    pub(super) fn done(&mut self, letters: Letters, stored: &Stored) {
        self.judge(letters, stored, None);
        if stored.batch.is_none() {
            let late = self.expected.get(&self.last_request);
            assert!(late.is_none(), "{} is not answered", self.last_request);
        }
    }

    fn connect(&mut self, number: u32) {
        let client = Client {
            key: self.world.open(),
            number,
        };
        self.clients.retain(|client| client.number != number);
        self.clients.push(client);
        let info = ConnectionInfo {
            connection_id: Some(ConnectionId::new(client.id())),
            client_id: Some(client.id().into()),
            ..ConnectionInfo::default()
        };
        let session = SessionInfo {
            session_id: Some(SessionId {
                connection_id: Some(client.id().into()),
                value: 1,
            }),
            ..SessionInfo::default()
        };
        let producer = ProducerInfo {
            producer_id: Some(client.producer()),
            ..ProducerInfo::default()
        };
        for command in [Command::from(Box::new(info)), session.into(), producer.into()] {
            let stored = self.say(client, command, true);
            self.done(Letters::new(), &stored);
        }
    }

    /// A letter to somewhere, and the message as the client says it.
    pub(super) fn letter(&mut self, client: Client) -> (Rc<Letter>, Message) {
        let number = self.letters.len() as i64 + 1;
        let to = match self.random.random_range(0..10) {
            0..7 => Destination::queue(QUEUES[self.random.random_range(0..QUEUES.len())]),
            _ => Destination::topic(TOPICS[self.random.random_range(0..TOPICS.len())]),
        };
        let grouped = self.once_in(3);
        let expires = self.once_in(8);
        let letter = Rc::new(Letter {
            number,
            sender: client.number,
            to,
            persistent: self.once_in(2),
            colour: self.random.random_range(0..3),
            group: grouped.then(|| self.random.random_range(0..4)),
            group_sequence: match self.random.random_range(0..8) {
                0 => -1,
                1 => 1,
                _ => 0,
            },
            priority: self.random.random_range(0..10),
            expiration: match expires {
                true => self.world.now + self.random.random_range(1..20_000),
                false => 0,
            },
        });
        self.letters.insert(number, letter.clone());
        let mut content = number.to_be_bytes().to_vec();
        content.resize(8 + self.random.random_range(0..200), 0);
        let message = Message {
            destination: Some(letter.to.clone()),
            marshalled_properties: properties(&[("colour", letter.colour)]),
            content: Some(content.into()),
            group_id: letter.group.map(|group| format!("g{group}").into()),
            group_sequence: letter.group_sequence,
            priority: letter.priority as i8,
            expiration: letter.expiration,
            ..Rig::message(client, number, letter.persistent)
        };
        (letter, message)
    }

    /// A message arrives; true if what it is waits for the store. What is `tied` is not there without the batch.
    pub(super) fn publish(
        &mut self,
        letter: &Rc<Letter>,
        size: usize,
        tied: bool,
        letters: &mut Letters,
        stored: &Stored,
    ) -> bool {
        self.model.sequence += 1;
        let mut waits = false;
        let over = letter.is_over(self.world.now);
        if letter.to.is_topic() && over {
            let before = letters.len();
            self.bury_unpublished(letter, letters, stored);
            return letters.len() < before;
        }
        for queue in self.model.queues.values_mut() {
            let takes = match &queue.durable {
                None => queue.name == letter.to,
                Some(durable) => durable.takes(letter),
            };
            if takes {
                let wait = letter.persistent || tied;
                waits |= wait;
                let mut item = Item::new(letter.clone(), self.model.sequence, size);
                item.level = queue.level(letter.priority);
                item.stored = letter.persistent;
                item.pending = wait.then(|| stored.batch.expect("it is stored"));
                queue.put(item);
            }
        }
        let pending = (waits || tied).then(|| stored.batch.expect("it is stored"));
        let before = self.model.deferred.entry(letter.to.name().to_owned());
        let before = before.or_default();
        let defers = letter.to.is_topic() && (pending.is_some() || !before.is_empty());
        let mut consumers = Vec::new();
        for consumer in &mut self.model.consumers {
            if let Source::Topics(topics) = &consumer.source
                && topics.contains(&letter.to)
                && consumer.selects(letter)
            {
                match defers {
                    true => consumers.push(consumer.id),
                    false => consumer.waiting.push((letter.clone(), size)),
                }
            }
        }
        if defers {
            before.push_back(Deferred {
                letter: letter.clone(),
                size,
                pending,
                consumers,
            });
        }
        waits
    }

    pub(super) fn send(&mut self) {
        let client = self.client();
        let (letter, message) = self.letter(client);
        let size = accounting_size(&message) as usize;
        let answered = self.once_in(2);
        self.note(|| format!("{letter:?} is sent, answered: {answered}"));
        let stored = self.say(client, Arc::new(message), answered);
        let mut letters = Self::letters(&stored);
        self.publish(&letter, size, false, &mut letters, &stored);
        self.done(letters, &stored);
    }

    pub(super) fn client(&mut self) -> Client {
        self.clients[self.random.random_range(0..self.clients.len())]
    }

    /// The store finishes one of the things it has to do; false if there are none.
    fn let_store_work(&mut self) -> bool {
        let (batch, load) = (self.world.waits_for_batch(), self.world.waits_for_load());
        if load && (!batch || self.once_in(2)) {
            self.note(|| "bodies come back".to_owned());
            self.get_in_line();
            let stored = self.world.finish_load().expect("it waits");
            self.judge(Self::letters(&stored), &stored, None);
            return true;
        }
        if !batch {
            return false;
        }
        self.get_in_line();
        let (finished, stored) = self.world.finish_batch().expect("it waits");
        self.note(|| format!("{finished:?}"));
        self.model
            .finished(finished.batch, finished.refused, stored.batch);
        self.judge(Self::letters(&stored), &stored, Some(finished));
        true
    }

    /// Waits until nothing is left to do.
    pub(super) fn rest(&mut self) {
        self.world.refusing = false;
        loop {
            while self.let_store_work() {}
            let core = &self.world.core;
            let until = match core.flagged.is_empty() {
                true => core.interrupted.until(),
                false => core.next_deadline(),
            };
            match until {
                Some(until) => self.pass_time(until - self.world.now),
                None => break,
            }
        }
        assert!(self.world.is_idle());
        self.check_rest();
    }

    pub(super) fn pass_time(&mut self, millis: i64) {
        self.world.now += millis.max(0);
        self.note(|| format!("{millis} ms pass"));
        self.get_in_line();
        let stored = self.world.tick();
        self.count_again(&stored);
        self.judge(Self::letters(&stored), &stored, None);
    }

    /// The store is told of counters again that it refused to be told of.
    fn count_again(&mut self, stored: &Stored) {
        for op in &stored.ops {
            let Op::Redelivered { key, count } = op else {
                continue;
            };
            let mut ids = self.model.queues.keys().copied();
            let found =
                ids.find(|id| self.core_queue(*id).and_then(|queue| queue.key) == Some(key.destination));
            let queue = found.and_then(|id| self.model.queues.get_mut(&id));
            let items = queue.into_iter().flat_map(|queue| &mut queue.items);
            let told = (stored.batch.expect("it is stored"), *count);
            for item in items.filter(|item| item.sequence == key.sequence) {
                if !item.counts.contains(&told) {
                    item.counts.push(told);
                }
            }
        }
    }

    /// The connection breaks, and the client comes again.
    pub(super) fn lose(&mut self, client: Client) {
        self.disconnect(client);
        self.connect(client.number);
    }

    fn disconnect(&mut self, client: Client) {
        self.look_closely();
        self.note(|| format!("client {} is lost", client.number));
        self.get_in_line();
        let stored = self.world.lose(client.key);
        self.expected.retain(|request, _| {
            let gone = self.asked[request] == client.number;
            if gone {
                self.gone.insert(*request);
            }
            !gone
        });
        let own: Vec<i64> = self.consumers_of(client);
        for id in own {
            self.model.end_consumer(id, None, stored.batch);
        }
        let open: Vec<_> = self.model.transactions.keys().copied().collect();
        for transaction in open.into_iter().filter(|(of, _)| *of == client.number) {
            self.model.roll_back(transaction, stored.batch);
        }
        self.judge(Self::letters(&stored), &stored, None);
    }

    pub(super) fn consumers_of(&self, client: Client) -> Vec<i64> {
        let consumers = self.model.consumers.iter();
        let own = consumers.filter(|consumer| consumer.client == client.number);
        own.map(|consumer| consumer.id).collect()
    }

    fn restart(&mut self) {
        let clean = self.once_in(2);
        let mut kept = 0;
        if clean {
            for client in self.clients.clone() {
                self.disconnect(client);
            }
            self.rest();
        } else {
            kept = self.random.random_range(0..=self.world.pending());
        }
        self.look_closely();
        self.note(|| format!("the broker starts again, clean: {clean}, {kept} batches kept"));
        let outcomes = self.world.restart(clean, kept);
        let outcomes: Vec<_> = outcomes
            .into_iter()
            .map(|(batch, refused)| (batch, refused == Some(false)))
            .collect();
        self.expected.clear();
        self.model.end_broker(&outcomes, self.world.last_sequence());
        self.model.started = self.world.now;
        self.adopt_counters(clean);
        self.clients.clear();
        let stored = self.world.tick();
        self.model.flagged(&stored);
        self.judge(Letters::new(), &stored, None);
        (1..=CLIENTS).for_each(|number| self.connect(number));
    }

    pub(super) fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.world.refusing = self.random.random_range(0..100) < self.manner.full;
            match self.random.random_range(0..1000) {
                0..330 => self.send(),
                330..350 => self.begin(),
                350..430 => self.send_transacted(),
                430..460 => self.complete(),
                460..720 => self.acknowledge(),
                720..780 => self.consume(),
                780..810 => self.browse(),
                810..855 => self.stop_consuming(),
                855..915 => self.pull(),
                915..945 => self.subscribe_durably(),
                945..955 => self.unsubscribe(),
                955..960 => {
                    let client = self.client();
                    self.lose(client);
                }
                960..985 => {
                    let millis = self.random.random_range(1..200);
                    self.pass_time(millis);
                }
                985..998 => {
                    let millis = self.random.random_range(200..3000);
                    self.pass_time(millis);
                }
                _ => {
                    let millis = self.random.random_range(3000..30_000);
                    self.pass_time(millis);
                }
            }
            if self.once_in(self.manner.restarts) {
                self.restart();
            }
            if self.random.random_range(0..100) >= self.manner.slow {
                self.rest();
            } else {
                for _ in 0..self.random.random_range(0..3) {
                    self.let_store_work();
                }
            }
            self.thin_out();
        }
        self.empty();
    }

    /// Takes everything once much waits or is with consumers, so that a step stays cheap.
    fn thin_out(&mut self) {
        let waiting: usize = self.model.queues.values().map(|queue| queue.items.len()).sum();
        let held = self.model.consumers.iter().map(|consumer| consumer.held.len());
        if waiting > 60 || held.sum::<usize>() > 100 {
            self.empty();
        }
    }
}

impl Durable {
    /// True if it is one of this topic.
    pub(super) fn is_of(&self, topic: &Destination) -> bool {
        topic.is_topic() && (self.topic.name() == "T.>" || self.topic == *topic)
    }

    /// True if what is sent to its topic is kept for it.
    pub(super) fn takes(&self, letter: &Letter) -> bool {
        self.is_of(&letter.to)
            && self.colour.is_none_or(|colour| letter.colour == colour)
            && !(self.no_local && letter.sender == self.client)
    }
}
