//! Random clients against a naive account of what must be where.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openwire_client::wire::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::rig::{Client, Rig};

/// What the account says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    /// In the hands of this consumer.
    With(i64),
}

struct Account {
    rig: Rig,
    sender: Client,
    receiver: Client,
    next_message: i64,
    next_consumer: i64,
    next_transaction: i64,
    messages: BTreeMap<i64, Place>,
    persistent: BTreeSet<i64>,
    consumers: BTreeSet<i64>,
    /// What was dispatched, by consumer, in order.
    hands: BTreeMap<i64, Vec<i64>>,
    /// The sender's transactions, and whether they were committed.
    outcomes: Vec<(i64, bool)>,
}

impl Account {
    fn look(&mut self) {
        for (consumer, number, _) in self.rig.dispatched(self.receiver) {
            let before = self.messages.insert(number, Place::With(consumer));
            assert_eq!(
                before,
                Some(Place::Waiting),
                "message {number} was dispatched to two"
            );
            self.hands.entry(consumer).or_default().push(number);
        }
    }

    /// The answer to something that only the store may have refused.
    fn accepted(&self, answer: Result<(), String>) -> bool {
        if let Err(class) = &answer {
            assert!(
                self.rig.refusing && class == "ResourceAllocationException",
                "{class}"
            );
        }
        answer.is_ok()
    }

    fn number(&mut self, persistent: bool) -> i64 {
        let number = self.next_message;
        self.next_message += 1;
        if persistent {
            self.persistent.insert(number);
        }
        number
    }

    fn send(&mut self, persistent: bool) {
        let number = self.number(persistent);
        let message = Rig::message(self.sender, number, persistent);
        let answer = self.rig.ask(self.sender, Arc::new(message));
        if self.accepted(answer) {
            self.messages.insert(number, Place::Waiting);
        }
    }

    /// The sender's connection breaks before the answer, and it sends the message again.
    fn send_again(&mut self) {
        let number = self.number(true);
        let mut message = Command::from(Arc::new(Rig::message(self.sender, number, true)));
        message.set_header(9, true);
        self.rig.slow_store = true;
        self.rig.say(self.sender, message.clone());
        let old = self.sender;
        self.sender = self.rig.reconnect(old);
        self.rig.lose(old);
        self.rig.say(self.sender, message);
        self.rig.release();
        let answer = self.rig.answer(self.sender).unwrap();
        if self.accepted(answer) {
            self.messages.insert(number, Place::Waiting);
        }
    }

    fn send_transacted(&mut self, random: &mut StdRng) {
        let transaction = self.next_transaction;
        self.next_transaction += 1;
        self.rig
            .transact(self.sender, transaction, TransactionInfo::BEGIN)
            .unwrap();
        let commit = random.random_bool(0.5);
        let mut sent = Vec::new();
        for _ in 0..random.random_range(1..5) {
            let persistent = random.random_bool(0.5);
            let number = self.number(persistent);
            sent.push(number);
            let transaction_id = Some(self.sender.transaction(transaction));
            let message = Message {
                transaction_id,
                ..Rig::message(self.sender, number, persistent)
            };
            self.rig.say(self.sender, Arc::new(message));
        }
        let step = if commit {
            TransactionInfo::COMMIT_ONE_PHASE
        } else {
            TransactionInfo::ROLLBACK
        };
        let answer = self.rig.transact(self.sender, transaction, step);
        let committed = self.accepted(answer) && commit;
        if committed {
            self.messages
                .extend(sent.into_iter().map(|number| (number, Place::Waiting)));
        }
        self.outcomes.push((transaction, committed));
    }

    /// The sender commits something again, perhaps over a new connection. Nothing happens.
    fn commit_again(&mut self, random: &mut StdRng) {
        if random.random_bool(0.5) {
            let old = self.sender;
            self.sender = self.rig.reconnect(old);
            self.rig.lose(old);
        }
        if self.outcomes.is_empty() {
            return;
        }
        let (transaction, committed) = self.outcomes[random.random_range(0..self.outcomes.len())];
        let answer = self
            .rig
            .transact(self.sender, transaction, TransactionInfo::COMMIT_ONE_PHASE);
        assert_eq!(answer.is_ok(), committed, "transaction {transaction}");
    }

    fn acknowledge(&mut self, random: &mut StdRng) {
        let busy: Vec<i64> = self
            .hands
            .iter()
            .filter(|(_, hand)| !hand.is_empty())
            .map(|(&c, _)| c)
            .collect();
        if busy.is_empty() {
            return;
        }
        let consumer = busy[random.random_range(0..busy.len())];
        let hand = self.hands.get_mut(&consumer).unwrap();
        let from = random.random_range(0..hand.len());
        let to = random.random_range(from..hand.len());
        let taken: Vec<i64> = hand[from..=to].to_vec();
        let mut ack = self.rig.ack(
            self.receiver,
            consumer,
            MessageAck::STANDARD,
            self.sender,
            taken[0],
            taken[taken.len() - 1],
        );
        ack.message_count = taken.len() as i32;
        if random.random_bool(0.4) {
            let answer = self.rig.ask(self.receiver, Box::new(ack));
            if self.accepted(answer) {
                self.consumed(consumer, &taken);
            }
            return;
        }
        if random.random_bool(0.5) {
            self.consumed(consumer, &taken);
            if self.rig.refusing {
                // Nobody was told: what the store has is delivered again.
                let back = taken.iter().filter(|number| self.persistent.contains(number));
                self.messages.extend(back.map(|&number| (number, Place::Waiting)));
            }
            self.rig.say(self.receiver, Box::new(ack));
            return;
        }
        let transaction = self.next_transaction;
        self.next_transaction += 1;
        self.rig
            .transact(self.receiver, transaction, TransactionInfo::BEGIN)
            .unwrap();
        ack.transaction_id = Some(self.receiver.transaction(transaction));
        self.rig.ask(self.receiver, Box::new(ack)).unwrap();
        if random.random_bool(0.3) {
            // The consumer ends first; the transaction still decides.
            self.end_consumer(consumer, &taken);
            let back = random.random_bool(0.5);
            let step = if back {
                TransactionInfo::ROLLBACK
            } else {
                TransactionInfo::COMMIT_ONE_PHASE
            };
            let answer = self.rig.transact(self.receiver, transaction, step);
            let back = !self.accepted(answer) || back;
            for number in &taken {
                if back {
                    self.messages.insert(*number, Place::Waiting);
                } else {
                    self.messages.remove(number);
                }
            }
        } else if random.random_bool(0.5) {
            let answer = self
                .rig
                .transact(self.receiver, transaction, TransactionInfo::COMMIT_ONE_PHASE);
            if self.accepted(answer) {
                self.consumed(consumer, &taken);
            }
        } else {
            self.rig
                .transact(self.receiver, transaction, TransactionInfo::ROLLBACK)
                .unwrap();
        }
    }

    fn consumed(&mut self, consumer: i64, taken: &[i64]) {
        let hand = self.hands.get_mut(&consumer).unwrap();
        hand.retain(|number| !taken.contains(number));
        for number in taken {
            assert!(self.messages.remove(number).is_some());
        }
    }

    fn end_consumer(&mut self, consumer: i64, kept: &[i64]) {
        self.look();
        self.consumers.remove(&consumer);
        for number in self.hands.remove(&consumer).unwrap_or_default() {
            if !kept.contains(&number) {
                self.messages.insert(number, Place::Waiting);
            }
        }
        self.rig
            .stop_consuming(self.receiver, consumer, RemoveInfo::UNKNOWN_DELIVERED);
    }

    fn begin_consumer(&mut self, random: &mut StdRng) {
        let consumer = self.next_consumer;
        self.next_consumer += 1;
        self.consumers.insert(consumer);
        self.rig
            .consume(self.receiver, consumer, random.random_range(1..20));
    }

    fn lose_receiver(&mut self) {
        self.rig.lose(self.receiver);
        self.receiver = self.rig.connect();
        self.consumers.clear();
        self.hands.clear();
        self.messages
            .values_mut()
            .for_each(|place| *place = Place::Waiting);
    }

    fn check(&mut self) {
        self.look();
        let waiting = self
            .messages
            .values()
            .filter(|place| **place == Place::Waiting)
            .count();
        assert_eq!(self.rig.depth(), waiting);
    }
}

fn run(seed: u64, steps: usize, stored: bool) {
    let random = &mut StdRng::seed_from_u64(seed);
    let mut rig = Rig::with_config(stored, 20 * 1024, usize::MAX);
    let (sender, receiver) = (rig.connect(), rig.connect());
    let mut account = Account {
        rig,
        sender,
        receiver,
        next_message: 1,
        next_consumer: 1,
        next_transaction: 1,
        messages: BTreeMap::new(),
        persistent: BTreeSet::new(),
        consumers: BTreeSet::new(),
        hands: BTreeMap::new(),
        outcomes: Vec::new(),
    };
    for _ in 0..steps {
        account.rig.refusing = stored && random.random_bool(0.1);
        match random.random_range(0..100) {
            0..2 => account.send_again(),
            2..40 => account.send(random.random_bool(0.5)),
            40..48 => account.send_transacted(random),
            48..50 => account.commit_again(random),
            50..85 => account.acknowledge(random),
            85..92 => {
                let consumers: Vec<i64> = account.consumers.iter().copied().collect();
                if !consumers.is_empty() {
                    account.end_consumer(consumers[random.random_range(0..consumers.len())], &[]);
                }
            }
            92..99 => account.begin_consumer(random),
            _ => account.lose_receiver(),
        }
        account.check();
        if account.rig.refusing {
            account.rig.make_space();
            account.check();
        }
    }
    // Everything that is left can be consumed, and then nothing is counted any more.
    account.lose_receiver();
    account.rig.consume(account.receiver, 0, 1_000_000);
    account.check();
    let hand = account.hands.remove(&0).unwrap_or_default();
    assert!(hand.is_sorted(), "the queue lost its order");
    assert_eq!(hand.len(), account.messages.len());
    for number in hand {
        account
            .rig
            .consumed(account.receiver, 0, account.sender, number, number)
            .unwrap();
    }
    let stats = account.rig.stats();
    assert_eq!(
        (account.rig.stored(), account.rig.resident(), stats.memory_used),
        (0, 0, 0),
        "seed {seed}"
    );
    for counted in account.rig.core.destinations() {
        let held = (counted.size, counted.in_flight, counted.memory_used);
        assert_eq!(held, (0, 0, 0), "{} seed {seed}", counted.destination);
        assert_eq!(
            counted.enqueued, counted.dequeued,
            "{} seed {seed}",
            counted.destination
        );
    }
}

#[test]
fn no_message_is_lost_doubled_or_out_of_order() {
    for seed in 0..40 {
        run(seed, 2500, seed % 2 == 0);
    }
}
