//! A process with a journal, whose threads are on leashes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{TryRecvError, channel};

use rand::RngExt;
use rand::rngs::SmallRng;

use super::super::disk::Disk;
use super::super::segment::Pool;
use super::super::shared::{Shared, Stop};
use super::super::{JournalOptions, Machinery, reader};
use super::faults::FaultyDisk;
use super::leash::{Led, step};
use crate::store::suite::{Answer, Found};
use crate::store::{Batch, Done, Mastership, MessageKey, Op, Recovered, StoreError};

/// More steps than anything takes.
const PATIENCE: u32 = 1_000_000;

/// Whether a process is the master.
#[derive(Debug, Default)]
struct Lease {
    lost: AtomicBool,
}

impl Mastership for Lease {
    fn may_write(&self) -> Result<(), StoreError> {
        let killed = |error: std::io::Error| StoreError::Refused(error.to_string());
        step().map_err(killed)?;
        let lost = self.lost.load(Ordering::SeqCst);
        // What it does next may come much later.
        step().map_err(killed)?;
        match lost {
            false => Ok(()),
            true => Err(StoreError::Refused("the lease is over".into())),
        }
    }
}

pub(super) struct Process {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Arc<Pool>,
    lease: Arc<Lease>,
    pub(super) writer: Led,
    pub(super) keeper: Led,
}

impl Process {
    /// A process that opens the journal, and what it found.
    pub(super) fn start(disk: &FaultyDisk, options: JournalOptions) -> Result<(Self, Recovered), StoreError> {
        let lease = Arc::new(Lease::default());
        let options = JournalOptions {
            mastership: Some(lease.clone()),
            ..options
        };
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        disk.lock()?;
        let (machinery, recovered) = Machinery::assemble(&disk, &options).inspect_err(|_| disk.unlock())?;
        let Machinery {
            shared,
            pool,
            mut writer,
            mut keeper,
            ..
        } = machinery;
        let writer = Led::new(move || !writer.has_work() || writer.work());
        let keeper = Led::new(move || keeper.poll());
        let process = Self {
            shared,
            pool,
            lease,
            writer,
            keeper,
        };
        Ok((process, recovered))
    }

    /// One of its threads goes some steps.
    pub(super) fn go(&self, random: &mut SmallRng) {
        // The patience of those that nobody waits for ends at some time.
        if random.random_ratio(1, 16) {
            self.shared.hurry();
        }
        let steps = [1, 2, 3, 20][random.random_range(0..4)];
        match random.random_ratio(2, 3) {
            true => self.writer.go(steps),
            false => self.keeper.go(steps),
        }
    }

    /// It goes on until something is so.
    pub(super) fn go_until(&self, random: &mut SmallRng, so: impl Fn(&Self) -> bool) {
        for _ in 0..PATIENCE {
            if so(self) {
                return;
            }
            self.go(random);
        }
        panic!("it goes on without an end");
    }

    pub(super) fn append(&self, batch: Batch, awaited: bool, done: Done) {
        self.shared.append(batch, awaited, done);
    }

    /// Appends a batch; the answer comes through the channel.
    pub(super) fn ask(&self, ops: Vec<Op>) -> Answer {
        let (answer, result) = channel();
        let done = Box::new(move |result| drop(answer.send(result)));
        self.append(Batch { ops }, true, done);
        result
    }

    /// Goes on until the answer is there.
    pub(super) fn answer(&self, answer: &Answer, random: &mut SmallRng) -> Result<(), StoreError> {
        for _ in 0..PATIENCE {
            match answer.try_recv() {
                Ok(answer) => return answer,
                Err(TryRecvError::Disconnected) => return Err(StoreError::Closed),
                Err(TryRecvError::Empty) => self.go(random),
            }
        }
        panic!("a batch is not answered");
    }

    /// Goes on until all that was appended can be read, and reads.
    pub(super) fn load(&self, keys: &[MessageKey], random: &mut SmallRng) -> Result<Found, StoreError> {
        self.go_until(random, |process| {
            let shared = &process.shared;
            shared.failure().is_some() || shared.written() >= shared.hurry()
        });
        self.shared.failure().map_or(Ok(()), Err)?;
        reader::load(&self.shared, keys)
    }

    /// It is no longer the master, and does not know.
    pub(super) fn lose(&self) {
        self.lease.lost.store(true, Ordering::SeqCst);
    }

    /// It is to close the journal.
    pub(super) fn begin_close(&self) {
        self.shared.stop(Stop::Close);
    }

    pub(super) fn close(self, disk: &FaultyDisk, random: &mut SmallRng) -> Result<(), StoreError> {
        self.begin_close();
        self.go_until(random, |process| {
            process.writer.has_ended() && process.keeper.has_ended()
        });
        disk.unlock();
        self.shared.failure().map_or(Ok(()), Err)
    }
}
