//! The journal against a model of it: random batches, closes and crashes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use openwire_client::wire::Message;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::super::{Durability, Journal, JournalOptions};
use super::faults::{Crash, FaultyDisk};
use super::workload::random_batch;
use super::{append, key, load, producer, put, wait};
use crate::store::{
    Batch, Committed, Mastership, MessageKey, Op, Prepared, Recovered, RecoveredDestination, Store,
    StoreError, StoredDestination,
};

/// How many seeds are run; `JOURNAL_SEEDS` in the environment changes it.
const SEEDS: u64 = 250;

/// What a store should hold, as simply as it can be said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Model {
    pub(super) destinations: BTreeMap<u32, Destination>,
    pub(super) next_sequence: u64,
    pub(super) next_destination: u32,
    producers: Vec<(i64, i64)>,
    pub(super) committed: Vec<Committed>,
    pub(super) forgotten: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Destination {
    destination: StoredDestination,
    dispatched: u64,
    prepared: Option<Arc<Prepared>>,
    pub(super) messages: BTreeMap<u64, Stored>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    message: Arc<Message>,
    redelivered: u32,
    due: Option<(i64, u32)>,
}

impl Stored {
    fn new(message: Arc<Message>) -> Self {
        Self {
            redelivered: message.redelivery_counter as u32,
            message,
            due: None,
        }
    }
}

impl Destination {
    pub(super) fn is_transaction(&self) -> bool {
        self.destination == StoredDestination::Transaction
    }

    fn matches(&self, found: &RecoveredDestination) -> bool {
        let due = self
            .messages
            .iter()
            .filter_map(|(&sequence, stored)| stored.due.map(|(at, times)| (sequence, at, times)));
        let expiring = self.messages.iter().filter_map(|(&sequence, stored)| {
            let expiration = stored.message.expiration;
            (expiration > 0).then_some((sequence, expiration))
        });
        self.destination == found.destination
            && self.dispatched == found.dispatched
            && self.prepared == found.prepared
            && expiring.eq(found.expiring.iter().copied())
            && due.eq(found.due.iter().copied())
            && self.messages.len() == found.messages.len()
            && self
                .messages
                .iter()
                .zip(&found.messages)
                .all(|((&sequence, stored), found)| {
                    sequence == found.sequence
                        && stored.redelivered == found.redelivered
                        && stored.message.priority as u8 == found.priority
                        && crate::store::accounting_size(&stored.message) == found.size
                })
    }
}

impl Model {
    fn new() -> Self {
        Self {
            destinations: BTreeMap::new(),
            next_sequence: 1,
            next_destination: 1,
            producers: Vec::new(),
            committed: Vec::new(),
            forgotten: 0,
        }
    }

    fn note(&mut self, message: &Message) {
        let id = message.message_id.as_ref().unwrap();
        let producer = id.producer_id.as_ref().unwrap().value;
        let seen = self.producers.iter().position(|(known, _)| *known == producer);
        let before = seen.map_or(i64::MIN, |at| self.producers.remove(at).1);
        self.producers
            .push((producer, before.max(id.producer_sequence_id)));
    }

    fn used(&mut self, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence + 1);
    }

    fn set(&mut self, key: MessageKey, stored: Stored) {
        let destination = self.destinations.get_mut(&key.destination.0).unwrap();
        destination.messages.insert(key.sequence, stored);
        self.used(key.sequence);
    }

    fn take(&mut self, key: MessageKey) -> Option<Stored> {
        let destination = self.destinations.get_mut(&key.destination.0)?;
        destination.messages.remove(&key.sequence)
    }

    fn apply(&mut self, batch: &Batch) {
        batch.ops.iter().for_each(|op| self.apply_op(op));
    }

    pub(super) fn apply_op(&mut self, op: &Op) {
        match op {
            Op::CreateDestination { key, destination } => {
                let destination = Destination {
                    destination: destination.clone(),
                    dispatched: 0,
                    prepared: None,
                    messages: BTreeMap::new(),
                };
                self.destinations.insert(key.0, destination);
                self.next_destination = self.next_destination.max(key.0 + 1);
            }
            Op::RemoveDestination { key } => {
                self.destinations.remove(&key.0);
            }
            Op::Put { key, message } => {
                self.set(*key, Stored::new(message.clone()));
                if !self.destinations[&key.destination.0].is_transaction() {
                    self.note(message);
                }
            }
            Op::Remove { key } => {
                self.take(*key);
            }
            // Where it lies already nothing changes.
            Op::Share { key, of } | Op::Move { from: of, to: key } if key == of => {}
            Op::Share { key, of } => {
                let message = self.message(*of).expect("the workload shares what is there");
                self.set(*key, Stored::new(message.clone()));
            }
            Op::Move { from, to } => {
                if let Some(mut stored) = self.take(*from) {
                    if self.destinations[&from.destination.0].is_transaction() {
                        self.note(&stored.message);
                    }
                    stored.due = None;
                    self.set(*to, stored);
                }
            }
            Op::Prepare {
                destination,
                prepared,
            } => {
                let destination = self.destinations.get_mut(&destination.0).unwrap();
                destination.prepared = Some(prepared.clone());
            }
            Op::Due { key, at, times } => {
                if let Some(stored) = self.stored_mut(*key) {
                    stored.due = Some((*at, *times));
                }
            }
            Op::Redelivered { key, count } => {
                if let Some(stored) = self.stored_mut(*key) {
                    stored.redelivered = *count;
                }
            }
            Op::Dispatched {
                destination,
                sequence,
            } => {
                self.used(*sequence);
                if let Some(destination) = self.destinations.get_mut(&destination.0) {
                    destination.dispatched = destination.dispatched.max(*sequence);
                }
            }
            Op::Committed { outcome, forgotten } => {
                self.committed.push(outcome.clone());
                self.forgotten = self.forgotten.max(*forgotten);
                self.committed.retain(|outcome| outcome.at > self.forgotten);
            }
        }
    }

    /// What the next opener finds of this: transactions that were not prepared are gone.
    fn reopened(mut self) -> Self {
        self.destinations
            .retain(|_, found| !found.is_transaction() || found.prepared.is_some());
        self
    }

    fn matches(&self, recovered: &Recovered) -> bool {
        let destinations = self.destinations.len() == recovered.destinations.len()
            && self
                .destinations
                .iter()
                .zip(&recovered.destinations)
                .all(|((&key, expected), found)| key == found.key.0 && expected.matches(found));
        let producers = self.producers.iter().map(|&(id, last)| (producer(id), last));
        destinations
            && self.next_sequence == recovered.next_sequence
            && self.next_destination == recovered.next_destination
            && producers.eq(recovered.producers.iter().cloned())
            && self.committed == recovered.committed
            && self.forgotten == recovered.forgotten
    }

    /// As [`outline()`] says it of what was recovered.
    fn outline(&self) -> String {
        let destinations = self.destinations.iter().map(|(key, found)| {
            let messages = found.messages.iter();
            let messages: Vec<_> = messages.map(|(at, stored)| (*at, stored.redelivered)).collect();
            let due = found.messages.iter();
            let due: Vec<_> = due.filter_map(|(at, stored)| Some((*at, stored.due?))).collect();
            (key, found.dispatched, messages, due)
        });
        format!(
            "{:?}, next {} and {}, {:?}, {:?} since {}",
            destinations.collect::<Vec<_>>(),
            self.next_sequence,
            self.next_destination,
            self.producers,
            self.committed,
            self.forgotten
        )
    }

    pub(super) fn keys(&self) -> Vec<MessageKey> {
        self.destinations
            .iter()
            .flat_map(|(&destination, found)| found.messages.keys().map(move |&at| key(destination, at)))
            .collect()
    }

    fn stored_mut(&mut self, key: MessageKey) -> Option<&mut Stored> {
        let destination = self.destinations.get_mut(&key.destination.0)?;
        destination.messages.get_mut(&key.sequence)
    }

    fn message(&self, key: MessageKey) -> Option<&Arc<Message>> {
        let destination = self.destinations.get(&key.destination.0)?;
        destination
            .messages
            .get(&key.sequence)
            .map(|stored| &stored.message)
    }
}

/// What was recovered, for people: seeds that fail need not do so again.
fn outline(recovered: &Recovered) -> String {
    let destinations = recovered.destinations.iter().map(|found| {
        let messages = found.messages.iter();
        let messages: Vec<_> = messages
            .map(|message| (message.sequence, message.redelivered))
            .collect();
        (found.key.0, found.dispatched, messages, &found.due)
    });
    format!(
        "{:?}, next {} and {}, {:?}, {:?} since {}",
        destinations.collect::<Vec<_>>(),
        recovered.next_sequence,
        recovered.next_destination,
        recovered.producers,
        recovered.committed,
        recovered.forgotten
    )
}

/// The states that are possible when the journal is opened next.
struct Expected {
    /// The state before the first batch that is not sure to be there.
    base: Model,
    /// Batches of which all, some of the first, or none may be there.
    perhaps: Vec<Batch>,
    clean: Option<bool>,
    /// The same if the power fails before the next opener has synced what a killed process had only written.
    unsynced: Option<(Model, Vec<Batch>)>,
}

impl Expected {
    fn find(self, recovered: &Recovered, seed: u64) -> Model {
        if let Some(clean) = self.clean {
            assert_eq!(recovered.clean, clean, "seed {seed}");
        }
        let mut model = self.base;
        let mut batches = self.perhaps.iter();
        loop {
            let reopened = model.clone().reopened();
            if reopened.matches(recovered) {
                return reopened;
            }
            match batches.next() {
                Some(batch) => model.apply(batch),
                None => panic!(
                    "seed {seed}: none of {} states matches, the last being\n{}\nfound is\n{}",
                    self.perhaps.len() + 1,
                    reopened.outline(),
                    outline(recovered)
                ),
            }
        }
    }
}

/// A lease that is lost after so many questions.
#[derive(Debug)]
struct Lease(AtomicI64);

impl Mastership for Lease {
    fn may_write(&self) -> Result<(), StoreError> {
        match self.0.fetch_sub(1, Ordering::SeqCst) {
            1.. => Ok(()),
            _ => Err(StoreError::Refused("the lease is over".into())),
        }
    }
}

/// One that was the master, and goes on a little after another has taken over.
struct Former {
    journal: Journal,
    lease: Arc<Lease>,
    destination: Option<u32>,
}

impl Former {
    /// It was paused between asking and writing, or before it asked.
    fn pause(&self, random: &mut SmallRng) {
        self.lease.0.store(random.random_range(0..=1), Ordering::SeqCst);
    }

    fn go_on(&self, seed: u64) {
        let Some(destination) = self.destination else {
            return;
        };
        let stored = wait(append(&self.journal, vec![put(destination, 1_000_000, 100)]));
        assert!(stored.is_err(), "seed {seed}: a former master says Ok");
    }
}

fn options(random: &mut SmallRng, lease: &Arc<Lease>) -> JournalOptions {
    JournalOptions {
        mastership: Some(lease.clone()),
        segment_size: random.random_range(8..32) * 1024,
        durability: match random.random_range(0..10) {
            0 => Durability::Os,
            1 => Durability::Interval(Duration::from_millis(1)),
            _ => Durability::Always,
        },
        spare_segments: random.random_range(1..4),
        ..JournalOptions::default()
    }
}

/// Reads these messages back, and looks whether what is counted is right.
fn check(journal: &Journal, disk: &FaultyDisk, model: &Model, keys: Vec<MessageKey>, seed: u64) {
    journal.shared.index.lock().check();
    let found = match load(journal, keys.clone()) {
        Ok(found) => found,
        Err(error) => {
            assert!(disk.is_dead(), "seed {seed}: {error}");
            return;
        }
    };
    assert_eq!(found.len(), keys.len());
    for (asked, (key, message)) in keys.into_iter().zip(found) {
        assert_eq!(asked, key);
        assert_eq!(message.as_ref(), model.message(key), "seed {seed}: {key:?}");
    }
}

/// One life of a journal after another on one disk.
fn run(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut disk = FaultyDisk::default();
    let mut expected = Expected {
        base: Model::new(),
        perhaps: Vec::new(),
        clean: None,
        unsynced: None,
    };
    let mut former: Option<Former> = None;
    for _ in 0..random.random_range(2..6) {
        let lease = Arc::new(Lease(AtomicI64::new(i64::MAX)));
        let options = options(&mut random, &lease);
        let always = options.durability == Durability::Always;
        let dies = random.random_ratio(2, 3);
        if dies && random.random_ratio(1, 4) {
            disk.fail_sync_after(random.random_range(0..100));
        } else if dies {
            disk.die_after(random.random_range(1..200));
        }
        let tight = random.random_ratio(1, 5);
        disk.set_space(tight.then(|| disk.allocated() + options.segment_size * random.random_range(1..4)));
        let (journal, recovered) = match Journal::open_on(Arc::new(disk.clone()), options) {
            Ok(opened) => opened,
            Err(error) => {
                let full = tight && matches!(error, StoreError::Full(_));
                // Files come and go while a former master finishes what it was about.
                let disturbed = former.is_some() && !matches!(error, StoreError::Damaged { .. });
                assert!(full || disturbed || disk.is_dead(), "seed {seed}: {error}");
                disk.set_space(None);
                let (kind, after) = crash(&disk, &mut random);
                disk = after;
                if kind != Crash::Process
                    && let Some((base, perhaps)) = expected.unsynced.take()
                {
                    (expected.base, expected.perhaps) = (base, perhaps);
                }
                expected.clean = None;
                continue;
            }
        };
        let base = expected.find(&recovered, seed);
        if let Some(former) = former.take() {
            former.go_on(seed);
        }
        check(&journal, &disk, &base, base.keys(), seed);
        if random.random_ratio(1, 6) {
            disk.cut_writes(1);
        }
        let (last, batches, stored) = live(&journal, &disk, base.clone(), (dies, tight), &mut random, seed);
        disk.set_space(None);
        // Whoever takes over has the same disk.
        disk.cut_writes(0);

        if !dies && random.random() {
            journal.close().unwrap();
            assert_eq!(*stored.lock(), batches.len());
            drop(journal);
            expected = Expected {
                base: last,
                perhaps: Vec::new(),
                clean: Some(true),
                unsynced: None,
            };
            continue;
        }
        if !dies && random.random_ratio(1, 2) {
            let found = last
                .destinations
                .iter()
                .find(|(_, found)| !found.is_transaction());
            let replaced = Former {
                journal,
                lease,
                destination: found.map(|(&number, _)| number),
            };
            assert_eq!(*stored.lock(), batches.len(), "seed {seed}");
            replaced.pause(&mut random);
            disk = disk.taken_over();
            former = Some(replaced);
            expected = Expected {
                base: last,
                perhaps: Vec::new(),
                clean: Some(false),
                unsynced: (!always).then_some((base, batches)),
            };
            continue;
        }
        drop(journal);
        let (kind, after) = crash(&disk, &mut random);
        disk = after;
        let sure = match kind {
            Crash::Process => *stored.lock(),
            _ if always => *stored.lock(),
            _ => 0,
        };
        let unsynced = (!always).then(|| (base.clone(), batches.clone()));
        let mut base = base;
        batches[..sure].iter().for_each(|batch| base.apply(batch));
        expected = Expected {
            base,
            perhaps: batches[sure..].to_vec(),
            clean: Some(false),
            unsynced,
        };
    }
    let lease = Arc::new(Lease(AtomicI64::new(i64::MAX)));
    let options = options(&mut random, &lease);
    let (journal, recovered) = Journal::open_on(Arc::new(disk.clone()), options).unwrap();
    let model = expected.find(&recovered, seed);
    check(&journal, &disk, &model, model.keys(), seed);
}

fn crash(disk: &FaultyDisk, random: &mut SmallRng) -> (Crash, FaultyDisk) {
    let kind = match random.random_range(0..4) {
        0 => Crash::Process,
        1 => Crash::Nothing,
        2 => Crash::Prefix,
        _ => Crash::Sectors,
    };
    (kind, disk.crash(kind, random.random()))
}

/// Appends batches and reads messages back. Gives the state after all, the batches, and how many of them,
/// from the first on, were said to be stored.
fn live(
    journal: &Journal,
    disk: &FaultyDisk,
    mut model: Model,
    (dies, tight): (bool, bool),
    random: &mut SmallRng,
    seed: u64,
) -> (Model, Vec<Batch>, Arc<Mutex<usize>>) {
    let mut batches = Vec::new();
    let stored = Arc::new(Mutex::new(0));
    for number in 0..random.random_range(0..150) {
        let before = tight.then(|| model.clone());
        let batch = random_batch(&mut model, random);
        if let Some(before) = before {
            // One at a time: a batch that finds no room is as if it had never been.
            match wait(append(journal, batch.ops.clone())) {
                Ok(()) => {
                    *stored.lock() += 1;
                    batches.push(batch);
                }
                Err(StoreError::Full(_)) => model = before,
                Err(error) => {
                    assert!(disk.is_dead(), "seed {seed}: {error}");
                    batches.push(batch);
                    break;
                }
            }
            continue;
        }
        batches.push(batch.clone());
        let counted = stored.clone();
        let done = Box::new(move |result: Result<(), _>| {
            let mut stored = counted.lock();
            if result.is_ok() {
                // In order: none before it may have failed.
                assert_eq!(*stored, number);
                *stored += 1;
            }
        });
        journal.append(batch, done);
        if random.random_ratio(1, 10) {
            let result = wait(append(journal, Vec::new()));
            assert!(dies || result.is_ok(), "seed {seed}");
        }
        if random.random_ratio(1, 20) {
            let mut keys = model.keys();
            keys.retain(|_| random.random_ratio(1, 3));
            keys.push(key(1, 999_999));
            check(journal, disk, &model, keys, seed);
        }
    }
    // An empty batch is answered after all before it.
    let _ = wait(append(journal, Vec::new()));
    (model, batches, stored)
}

#[test]
fn whatever_happens_what_was_stored_is_there() {
    let seeds = std::env::var("JOURNAL_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let first = std::env::var("JOURNAL_FIRST_SEED").map_or(0, |first| first.parse().unwrap());
    for seed in first..first + seeds {
        run(seed);
    }
}
