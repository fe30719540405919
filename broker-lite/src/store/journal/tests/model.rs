//! The journal against a model of it: random batches, closes, crashes and former masters that go on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use openwire_client::wire::Message;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::super::{Durability, JournalOptions};
use super::faults::{Crash, FaultyDisk};
use super::leash::while_others;
use super::process::Process;
use super::workload::random_batch;
use super::{key, producer, put};
use crate::store::suite::Answer;
use crate::store::{
    Batch, Committed, MessageKey, Op, Prepared, Recovered, RecoveredDestination, StoreError,
    StoredDestination,
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

/// What was recovered, for people.
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
    /// The first so many batches are there in any case.
    fn is_sure_of(&mut self, batches: usize) {
        for batch in self.perhaps.drain(..batches) {
            self.base.apply(&batch);
        }
    }

    /// The states that look as what was recovered, with how many of the batches are in them.
    fn find(self, recovered: &Recovered, seed: u64) -> Vec<(usize, Model)> {
        if let Some(clean) = self.clean {
            assert_eq!(recovered.clean, clean, "seed {seed}");
        }
        let mut model = self.base;
        let mut found = Vec::new();
        for count in 0..=self.perhaps.len() {
            let reopened = model.clone().reopened();
            if reopened.matches(recovered) {
                found.push((count, reopened));
            }
            if let Some(batch) = self.perhaps.get(count) {
                model.apply(batch);
            }
        }
        assert!(
            !found.is_empty(),
            "seed {seed}: none of {} states matches, the last being\n{}\nfound is\n{}",
            self.perhaps.len() + 1,
            model.reopened().outline(),
            outline(recovered)
        );
        found
    }
}

/// One that was the master, and goes on a little after another has taken over.
struct Former {
    process: Process,
    destination: Option<u32>,
    /// How many batches it has said to be stored.
    stored: Arc<Mutex<usize>>,
    /// How many of them the next master found, once there was one.
    found: Option<usize>,
    late: Vec<Answer>,
}

impl Former {
    fn go(&mut self, random: &mut SmallRng) {
        if let Some(destination) = self.destination
            && random.random_ratio(1, 20)
        {
            self.late
                .push(self.process.ask(vec![put(destination, 1_000_000, 100)]));
        }
        self.process.go(random);
    }

    /// It said Ok to nothing that the next master did not find. What it was about to say may come late.
    fn end(self, seed: u64) {
        drop(self.process);
        let stored = *self.stored.lock();
        let found = self.found.unwrap_or(stored);
        assert!(
            stored <= found,
            "seed {seed}: {stored} batches stored, {found} found"
        );
        for answer in self.late {
            assert!(
                !matches!(answer.try_recv(), Ok(Ok(()))),
                "seed {seed}: a former master says Ok"
            );
        }
    }
}

/// Those that are not the master any more, and when they go on.
#[derive(Clone)]
struct Formers(Rc<RefCell<(Vec<Former>, SmallRng)>>);

impl Formers {
    fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new((
            Vec::new(),
            SmallRng::seed_from_u64(!seed),
        ))))
    }

    fn add(&self, former: Former) {
        self.0.borrow_mut().0.push(former);
    }

    fn are_there(&self) -> bool {
        !self.0.borrow().0.is_empty()
    }

    /// Perhaps one of them goes on a little.
    fn perhaps_go(&self) {
        let (formers, random) = &mut *self.0.borrow_mut();
        if !formers.is_empty() && random.random_ratio(1, 4) {
            let which = random.random_range(0..formers.len());
            formers[which].go(random);
        }
    }

    /// So many batches of the last of them were found, if it was the last master.
    fn found(&self, batches: usize) {
        if let Some(last) = self.0.borrow_mut().0.last_mut() {
            last.found.get_or_insert(batches);
        }
    }

    /// How many batches the last of them has said to be stored, if nobody was master since.
    fn stored(&self) -> Option<usize> {
        let formers = self.0.borrow();
        let last = formers.0.last().filter(|last| last.found.is_none())?;
        Some(*last.stored.lock())
    }

    fn end(&self, seed: u64) {
        let formers = std::mem::take(&mut self.0.borrow_mut().0);
        formers.into_iter().for_each(|former| former.end(seed));
    }
}

fn options(random: &mut SmallRng) -> JournalOptions {
    JournalOptions {
        segment_size: random.random_range(8..32) * 1024,
        durability: match random.random_range(0..10) {
            0 => Durability::Os,
            // In the next turn, or not before something else wants it.
            1 => Durability::Interval(Duration::ZERO),
            2 => Durability::Interval(Duration::from_secs(3_600)),
            _ => Durability::Always,
        },
        spare_segments: random.random_range(1..4),
        ..JournalOptions::default()
    }
}

/// Reads these messages back, and looks whether what is counted is right; the states of which all of them are.
fn check(
    process: &Process,
    disk: &FaultyDisk,
    mut models: Vec<(usize, Model)>,
    keys: &[MessageKey],
    random: &mut SmallRng,
    seed: u64,
) -> Vec<(usize, Model)> {
    let found = match process.load(keys, random) {
        Ok(found) => found,
        Err(error) => {
            assert!(disk.is_dead(), "seed {seed}: {error}");
            return models;
        }
    };
    process.shared.index.lock().check();
    assert!(found.iter().map(|(key, _)| key).eq(keys));
    models.retain(|(_, model)| {
        let mut found = found.iter();
        found.all(|(key, message)| message.as_ref() == model.message(*key))
    });
    assert!(
        !models.is_empty(),
        "seed {seed}: other messages are read than were stored"
    );
    models
}

/// One life of a journal after another on one disk. What happened, as a number.
fn run(seed: u64) -> u64 {
    let mut random = SmallRng::seed_from_u64(seed);
    let formers = Formers::new(seed);
    let mut disk = FaultyDisk::default();
    let mut expected = Expected {
        base: Model::new(),
        perhaps: Vec::new(),
        clean: None,
        unsynced: None,
    };
    // How many batches of the last life are in the state that is expected at least.
    let mut before = 0;
    for _ in 0..random.random_range(2..7) {
        let options = options(&mut random);
        let always = options.durability == Durability::Always;
        let dies = random.random_ratio(1, 2);
        if dies && random.random_ratio(1, 4) {
            disk.fail_sync_after(random.random_range(0..100));
        } else if dies {
            disk.die_after(random.random_range(1..300));
        }
        let tight = random.random_ratio(1, 5);
        disk.set_space(tight.then(|| disk.allocated() + options.segment_size * random.random_range(1..4)));
        let others = formers.clone();
        let opened = while_others(move || others.perhaps_go(), || Process::start(&disk, options));
        let (process, recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let full = tight && matches!(error, StoreError::Full(_));
                // A former master may have made the segment in which this one was to go on.
                let disturbed = formers.are_there() && matches!(error, StoreError::Poisoned(_));
                assert!(full || disturbed || disk.is_dead(), "seed {seed}: {error}");
                disk.set_space(None);
                expected.clean = None;
                if disturbed && !disk.is_dead() && random.random() {
                    // The same again.
                    disk.get_well();
                    continue;
                }
                let (kind, after) = crash(&disk, &mut random);
                expected.is_sure_of(formers.stored().map_or(0, |stored| stored - before));
                formers.end(seed);
                disk = after;
                if kind != Crash::Process
                    && let Some((base, perhaps)) = expected.unsynced.take()
                {
                    (expected.base, expected.perhaps) = (base, perhaps);
                    before = 0;
                }
                continue;
            }
        };
        let found = expected.find(&recovered, seed);
        let keys = found[0].1.keys();
        let (count, base) = check(&process, &disk, found, &keys, &mut random, seed)
            .pop()
            .unwrap();
        formers.found(before + count);
        if random.random_ratio(1, 6) {
            disk.cut_writes(1);
        }
        let world = World {
            process: &process,
            formers: &formers,
            disk: &disk,
            dies,
            tight,
            seed,
        };
        let (last, batches, stored) = world.live(base.clone(), &mut random);
        if random.random() {
            formers.end(seed);
        }
        disk.set_space(None);

        if !dies && random.random() {
            let closed = process.close(&disk, &mut random);
            assert_eq!(closed, Ok(()), "seed {seed}");
            disk.cut_writes(0);
            assert_eq!(*stored.lock(), batches.len(), "seed {seed}");
            expected = Expected {
                base: last,
                perhaps: Vec::new(),
                clean: Some(true),
                unsynced: None,
            };
            continue;
        }
        let after = if !dies && random.random_ratio(2, 3) {
            // Paused somewhere, perhaps while it is about to close.
            let closes = random.random_ratio(1, 4);
            if closes {
                process.begin_close();
            }
            for _ in 0..random.random_range(0..10) {
                process.go(&mut random);
            }
            process.lose();
            // Whoever takes over has the same disk.
            disk.cut_writes(0);
            disk = disk.taken_over();
            let destinations = last.destinations.iter();
            let mut plain = destinations.filter(|(_, found)| !found.is_transaction());
            let said = *stored.lock();
            formers.add(Former {
                process,
                destination: plain.next().map(|(&number, _)| number),
                stored,
                found: None,
                late: Vec::new(),
            });
            (said, (!closes).then_some(false))
        } else {
            drop(process);
            let (kind, after) = crash(&disk, &mut random);
            formers.end(seed);
            disk = after;
            let sure = match kind {
                Crash::Process => *stored.lock(),
                _ if always => *stored.lock(),
                _ => 0,
            };
            (sure, Some(false))
        };
        let (sure, clean) = after;
        before = sure;
        let unsynced = (!always).then(|| (base.clone(), batches.clone()));
        let mut base = base;
        batches[..sure].iter().for_each(|batch| base.apply(batch));
        expected = Expected {
            base,
            perhaps: batches[sure..].to_vec(),
            clean,
            unsynced,
        };
    }
    formers.end(seed);
    let opened = Process::start(&disk, options(&mut random));
    let (process, recovered) = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let found = expected.find(&recovered, seed);
    let keys = found[0].1.keys();
    check(&process, &disk, found, &keys, &mut random, seed);
    drop(process);
    disk.history()
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

/// A journal at work, and what is around it.
struct World<'a> {
    process: &'a Process,
    formers: &'a Formers,
    disk: &'a FaultyDisk,
    dies: bool,
    tight: bool,
    seed: u64,
}

impl World<'_> {
    /// Appends batches and reads messages back. Gives the state after all, the batches, and how many of them,
    /// from the first on, were said to be stored.
    fn live(&self, mut model: Model, random: &mut SmallRng) -> (Model, Vec<Batch>, Arc<Mutex<usize>>) {
        let Self { process, seed, .. } = self;
        let mut batches = Vec::new();
        let stored = Arc::new(Mutex::new(0));
        for number in 0..random.random_range(0..150) {
            self.formers.perhaps_go();
            let before = self.tight.then(|| model.clone());
            let batch = random_batch(&mut model, random);
            if let Some(before) = before {
                // One at a time: a batch that finds no room is as if it had never been.
                match process.answer(&process.ask(batch.ops.clone()), random) {
                    Ok(()) => {
                        *stored.lock() += 1;
                        batches.push(batch);
                    }
                    Err(StoreError::Full(_)) => model = before,
                    Err(error) => {
                        assert!(self.disk.is_dead(), "seed {seed}: {error}");
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
            process.append(batch, random.random_ratio(3, 4), done);
            for _ in 0..random.random_range(0..3) {
                process.go(random);
            }
            if random.random_ratio(1, 10) {
                let result = process.answer(&process.ask(Vec::new()), random);
                assert!(self.dies || result.is_ok(), "seed {seed}");
            }
            if random.random_ratio(1, 20) {
                let mut keys = model.keys();
                keys.retain(|_| random.random_ratio(1, 3));
                keys.push(key(1, 999_999));
                check(process, self.disk, vec![(0, model.clone())], &keys, random, *seed);
            }
        }
        if random.random() {
            // An empty batch is answered after all before it.
            let _ = process.answer(&process.ask(Vec::new()), random);
        }
        (model, batches, stored)
    }
}

#[test]
fn whatever_happens_what_was_stored_is_there() {
    let seeds = std::env::var("JOURNAL_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let first = std::env::var("JOURNAL_FIRST_SEED").map_or(0, |first| first.parse().unwrap());
    for seed in first..first + seeds {
        run(seed);
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
