//! The store against the one in memory: random batches, closes and restarts.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::super::super::memory::MemoryStore;
use super::super::super::suite::prepare;
use super::*;

/// How many seeds are run; `SQL_SEEDS` in the environment changes it.
const SEEDS: u64 = 12;

/// What is there, as far as it matters for what comes next.
#[derive(Default)]
struct World {
    /// Destinations: whether each is a transaction, and its messages.
    destinations: Vec<(u32, bool, Vec<u64>)>,
    next_destination: u32,
    next_sequence: u64,
}

impl World {
    fn pick(&self, random: &mut SmallRng) -> Option<usize> {
        (!self.destinations.is_empty()).then(|| random.random_range(0..self.destinations.len()))
    }

    /// A destination that is no transaction.
    fn pick_open(&self, random: &mut SmallRng) -> Option<usize> {
        let at = self.pick(random)?;
        (!self.destinations[at].1).then_some(at)
    }

    fn sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence
    }

    /// A message, by the places of its destination and itself.
    fn message(&self, random: &mut SmallRng) -> Option<(usize, usize)> {
        let at = self.pick(random)?;
        let messages = &self.destinations[at].2;
        (!messages.is_empty()).then(|| (at, random.random_range(0..messages.len())))
    }

    fn key(&self, (at, message): (usize, usize)) -> MessageKey {
        let (destination, _, messages) = &self.destinations[at];
        key(*destination, messages[message])
    }

    fn op(&mut self, random: &mut SmallRng) -> Option<Op> {
        Some(match random.random_range(0..24) {
            0..2 if self.destinations.len() < 8 => {
                self.next_destination += 1;
                let number = self.next_destination;
                let op = match random.random_range(0..6) {
                    0..2 => create(number),
                    2 => subscription(number, &format!("s{number}"), "topic://t"),
                    3 => subscription(number, &format!("s{number}"), "topic://>"),
                    4 => transaction(number),
                    _ => Op::CreateDestination {
                        key: DestinationKey(number),
                        destination: StoredDestination::Schedule,
                    },
                };
                let is_transaction = matches!(
                    op,
                    Op::CreateDestination {
                        destination: StoredDestination::Transaction,
                        ..
                    }
                );
                self.destinations.push((number, is_transaction, Vec::new()));
                op
            }
            2 if random.random_bool(0.3) => {
                let at = self.pick(random)?;
                let (number, ..) = self.destinations.remove(at);
                Op::RemoveDestination {
                    key: DestinationKey(number),
                }
            }
            3..11 => {
                let (at, sequence) = (self.pick(random)?, self.sequence());
                self.destinations[at].2.push(sequence);
                let number = self.destinations[at].0;
                match random.random() {
                    true => put_on_topic(number, sequence),
                    false => put(number, sequence, random.random_range(0..300)),
                }
            }
            11..15 => {
                let (at, message) = self.message(random)?;
                let op = Op::Remove {
                    key: self.key((at, message)),
                };
                self.destinations[at].2.remove(message);
                op
            }
            15..18 => {
                let of = self.key(self.message(random)?);
                let (at, sequence) = (self.pick_open(random)?, self.sequence());
                self.destinations[at].2.push(sequence);
                share(key(self.destinations[at].0, sequence), of)
            }
            18..20 => {
                let (at, message) = self.message(random)?;
                let (to, sequence) = (self.pick_open(random)?, self.sequence());
                let from = self.key((at, message));
                self.destinations[at].2.remove(message);
                self.destinations[to].2.push(sequence);
                move_to(from, key(self.destinations[to].0, sequence))
            }
            20..22 => Op::Redelivered {
                key: self.key(self.message(random)?),
                count: random.random_range(0..4),
            },
            22 => Op::Due {
                key: self.key(self.message(random)?),
                at: random.random_range(0..1000),
                times: 1,
            },
            _ => {
                let at = self.pick(random)?;
                let (number, is_transaction, _) = &self.destinations[at];
                match is_transaction {
                    true => {
                        prepare(
                            *number,
                            self.message(random).map(|at| self.key(at)).into_iter().collect(),
                        )
                        .0
                    }
                    false => Op::Dispatched {
                        destination: DestinationKey(*number),
                        sequence: self.next_sequence,
                    },
                }
            }
        })
    }

    /// What a restart ends is gone.
    fn restarted(&mut self, recovered: &Recovered) {
        self.destinations
            .retain(|(number, ..)| recovered.destinations.iter().any(|found| found.key.0 == *number));
    }
}

/// What two stores should have recovered alike. Who sent the messages of transactions that ended is not.
fn seen(recovered: &Recovered) -> String {
    let destinations: Vec<_> = recovered
        .destinations
        .iter()
        .map(|found| {
            // What is held is there, or means nothing.
            let there = |key: &MessageKey| {
                let held = recovered
                    .destinations
                    .iter()
                    .find(|found| found.key == key.destination);
                held.is_some_and(|held| held.messages.iter().any(|found| found.sequence == key.sequence))
            };
            let held = found.prepared.as_ref().map(|prepared| {
                let held = prepared.acknowledged.iter().filter(|key| there(key));
                held.copied().collect::<Vec<_>>()
            });
            format!(
                "{:?} {:?} {} {:?} {:?} {held:?}",
                found.key, found.destination, found.dispatched, found.messages, found.due
            )
        })
        .collect();
    format!(
        "{}\nnext {} {}, clean {}, {:?}",
        destinations.join("\n"),
        recovered.next_sequence,
        recovered.next_destination,
        recovered.clean,
        recovered.committed
    )
}

fn run(seed: u64, url: &str) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut world = World::default();
    let (mut store, _) = open(url).unwrap();
    let mut model = MemoryStore::new();
    for round in 0..6 {
        let mut answers = Vec::new();
        for _ in 0..random.random_range(1..25) {
            let count = random.random_range(1..6);
            let ops: Vec<_> = (0..count).filter_map(|_| world.op(&mut random)).collect();
            wait(append(&model, ops.clone())).unwrap();
            answers.push(append(&store, ops));
            if random.random_bool(0.3) {
                for answer in answers.drain(..) {
                    wait(answer).unwrap();
                }
            }
        }
        let keys: Vec<_> = world
            .destinations
            .iter()
            .flat_map(|(destination, _, messages)| {
                messages.iter().map(|&sequence| key(*destination, sequence))
            })
            .collect();
        let (found, expected) = (load(&store, keys.clone()).unwrap(), load(&model, keys).unwrap());
        assert_eq!(found, expected, "seed {seed}, round {round}");
        for answer in answers {
            wait(answer).unwrap();
        }
        if random.random() {
            store.close().unwrap();
            model.close().unwrap();
        }
        drop(store);
        let (reopened, recovered) = open(url).unwrap();
        let (model_again, expected) = model.reopen();
        let (found, expected) = (seen(&recovered), seen(&expected));
        // One line of two that differ says more than both in full.
        for (found, expected) in found.lines().zip(expected.lines()) {
            assert_eq!(found, expected, "seed {seed}, round {round}");
        }
        assert_eq!(found.len(), expected.len(), "seed {seed}, round {round}");
        (store, model) = (reopened, model_again);
        world.restarted(&recovered);
    }
}

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("SQL_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok());
    0..count.unwrap_or(SEEDS)
}

#[test]
fn a_file_holds_what_memory_holds() {
    for seed in seeds() {
        let dir = tempfile::tempdir().unwrap();
        run(seed, &format!("sqlite:{}", dir.path().join("db").display()));
    }
}

#[test]
fn postgres_holds_what_memory_holds() {
    if is_here("postgres", "postgres_holds_what_memory_holds") {
        seeds().for_each(|seed| run(seed, &POSTGRES.database()));
    }
}

#[test]
fn mariadb_holds_what_memory_holds() {
    if is_here("mariadb", "mariadb_holds_what_memory_holds") {
        seeds().for_each(|seed| run(seed, &MARIADB.database()));
    }
}
