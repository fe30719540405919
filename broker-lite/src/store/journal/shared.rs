//! What the threads of a journal share.
//!
//! No two of the locks here are ever held at once, and none while a callback runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::super::line::{Group, Line, Next};
use super::super::{Batch, Done, Mastership, Op, StoreError, payload_len};
use super::figures::Figure;
use super::frame::Position;
use super::index::Index;

/// How much is written at a time, in bytes: what a writer that comes late waits for at most, and about what
/// the writer keeps in memory twice.
const TURN_BYTES: usize = 8 * 1024 * 1024;

/// What a record takes beside the payload of its message, for the backlog; about right is enough.
const RECORD_OVERHEAD: usize = 256;

/// About what it takes that a message lies elsewhere, with who sent it.
const REFERENCE: usize = 64;

/// About how much longer it takes with each batch more: mostly what a client and its connection do on two cores.
const EACH: Duration = Duration::from_micros(30);

/// A batch that is not yet written.
pub(super) struct Waiting {
    pub(super) batch: Batch,
    /// About what it takes in the log.
    pub(super) bytes: usize,
    pub(super) done: Done,
}

/// How the journal is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// Everything is written, and the log says that it was closed in order.
    Close,
    /// As if the process had ended.
    Abandon,
}

/// What the writer has to do next.
pub(super) enum Work {
    /// Write these; there may be none, when only time has passed or there are chores.
    Turn(Group<Waiting>),
    Stop(Stop),
}

struct Queue {
    /// Without a bound, as an append never waits: who appends is to wait for [`Shared::wait_room`].
    line: Line<Waiting>,
    stop: Option<Stop>,
}

#[derive(Default)]
struct Progress {
    /// Batches written so far.
    written: u64,
    /// Everything before this is durable.
    synced: Position,
    failure: Option<StoreError>,
    /// The writer has ended.
    ended: bool,
}

pub(super) struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    progress: Mutex<Progress>,
    advanced: Condvar,
    pub(super) index: Mutex<Index>,
    backlog: AtomicUsize,
    backlog_limit: usize,
    room: Notify,
    batches: AtomicU64,
    /// How long syncs took, in microseconds.
    pub(super) syncs: Figure,
    pub(super) turn_batches: Figure,
    pub(super) turn_bytes: Figure,
    mastership: Option<Arc<dyn Mastership>>,
    /// Segments before this one are to be moved on however little that saves.
    compact_before: AtomicU32,
    /// Why that cannot be done.
    compaction_failure: Mutex<Option<StoreError>>,
}

impl Shared {
    pub(super) fn new(
        index: Index,
        synced: Position,
        backlog_limit: usize,
        mastership: Option<Arc<dyn Mastership>>,
    ) -> Self {
        Self {
            queue: Mutex::new(Queue {
                line: Line::new(EACH),
                stop: None,
            }),
            work: Condvar::new(),
            progress: Mutex::new(Progress {
                synced,
                ..Progress::default()
            }),
            advanced: Condvar::new(),
            index: Mutex::new(index),
            backlog: AtomicUsize::new(0),
            backlog_limit,
            room: Notify::new(),
            batches: AtomicU64::new(0),
            syncs: Figure::default(),
            turn_batches: Figure::default(),
            turn_bytes: Figure::default(),
            mastership,
            compact_before: AtomicU32::new(0),
            compaction_failure: Mutex::default(),
        }
    }

    /// Asks for what is needed of the segments before this one to be moved on.
    pub(super) fn request_compaction(&self, before: u32) {
        // What is damaged stays so.
        let mut failure = self.compaction_failure.lock();
        failure.take_if(|failure| !matches!(failure, StoreError::Damaged { .. }));
        drop(failure);
        self.compact_before.store(before, Ordering::Release);
    }

    /// The segments that are to be moved on are those before this one.
    pub(super) fn compact_before(&self) -> u32 {
        self.compact_before.load(Ordering::Acquire)
    }

    /// What was asked for cannot be done now.
    pub(super) fn fail_compaction(&self, failure: StoreError) {
        self.compact_before.store(0, Ordering::Release);
        *self.compaction_failure.lock() = Some(failure);
    }

    pub(super) fn compaction_failure(&self) -> Option<StoreError> {
        self.compaction_failure.lock().clone()
    }

    /// Fails if somebody else may be the master.
    pub(super) fn may_write(&self) -> Result<(), StoreError> {
        may_write(self.mastership.as_ref())
            .map_err(|why| StoreError::Poisoned(format!("this process is the master no longer: {why}")))
    }

    /// Queues a batch; one that is not taken any more fails.
    pub(super) fn append(&self, batch: Batch, awaited: bool, done: Done) {
        let bytes = estimate(&batch);
        let mut queue = self.queue.lock();
        if queue.stop.is_some() {
            drop(queue);
            return done(Err(StoreError::Closed));
        }
        self.backlog.fetch_add(bytes, Ordering::Relaxed);
        if queue.line.push(Waiting { batch, bytes, done }, awaited) {
            self.work.notify_one();
        }
    }

    /// How many batches were appended. They are waited for from here on.
    pub(super) fn hurry(&self) -> u64 {
        let mut queue = self.queue.lock();
        if !queue.line.is_empty() {
            queue.line.hurry();
            self.work.notify_one();
        }
        queue.line.appended()
    }

    /// Tells the writer to stop, unless it was told already.
    pub(super) fn stop(&self, stop: Stop) {
        self.queue.lock().stop.get_or_insert(stop);
        self.work.notify_one();
        self.room.notify_waiters();
    }

    /// Waits for something to write, until `deadline` if there is one, and not at all with `chores`.
    pub(super) fn next_work(&self, deadline: Option<Instant>, chores: bool) -> Work {
        let mut queue = self.queue.lock();
        loop {
            match queue.stop {
                Some(Stop::Abandon) => return Work::Stop(Stop::Abandon),
                Some(Stop::Close) if queue.line.is_empty() => return Work::Stop(Stop::Close),
                _ => {}
            }
            let now = Instant::now();
            let is_due = deadline.is_some_and(|deadline| deadline <= now);
            let until = match queue.line.next(now) {
                _ if chores || is_due || queue.stop.is_some() => return Work::Turn(take(&mut queue.line)),
                Next::Now => return Work::Turn(take(&mut queue.line)),
                Next::At(until) => Some(deadline.map_or(until, |deadline| deadline.min(until))),
                Next::Idle => deadline,
            };
            match until {
                // What comes next, it looks for itself.
                Some(until) => drop(self.work.wait_until(&mut queue, until)),
                None => self.work.wait(&mut queue),
            }
        }
    }

    /// So many batches that somebody waits for were written in this time.
    pub(super) fn wrote(&self, awaited: usize, took: Duration) {
        self.queue.lock().line.written(awaited, took);
    }

    /// True if something is to be written now, or the journal is to stop.
    #[cfg(test)]
    pub(super) fn has_work(&self) -> bool {
        let queue = self.queue.lock();
        queue.stop.is_some() || queue.line.is_awaited()
    }

    /// How many batches are written.
    #[cfg(test)]
    pub(super) fn written(&self) -> u64 {
        self.progress.lock().written
    }

    /// Waits so long, or until the journal is to stop; true if it is.
    pub(super) fn is_stopped_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut queue = self.queue.lock();
        // Whoever appends meanwhile wakes the writer too.
        while queue.stop.is_none() && !self.work.wait_until(&mut queue, deadline).timed_out() {}
        queue.stop.is_some()
    }

    /// Takes out what nobody will write.
    pub(super) fn give_up(&self, stop: Stop) -> Vec<Waiting> {
        let mut queue = self.queue.lock();
        queue.stop.get_or_insert(stop);
        queue.line.drain()
    }

    /// So many more batches are written: they can be read.
    pub(super) fn add_written(&self, batches: u64) {
        self.progress.lock().written += batches;
        self.advanced.notify_all();
    }

    /// Waits until the first `count` batches are written.
    pub(super) fn wait_written(&self, count: u64) -> Result<(), StoreError> {
        let mut progress = self.progress.lock();
        loop {
            if let Some(failure) = &progress.failure {
                return Err(failure.clone());
            }
            if progress.written >= count {
                return Ok(());
            }
            if progress.ended {
                return Err(StoreError::Closed);
            }
            self.advanced.wait(&mut progress);
        }
    }

    /// Everything before this is durable.
    pub(super) fn set_synced(&self, synced: Position) {
        let mut progress = self.progress.lock();
        progress.synced = progress.synced.max(synced);
    }

    pub(super) fn synced(&self) -> Position {
        self.progress.lock().synced
    }

    /// Nothing more is accepted. The first reason counts.
    pub(super) fn poison(&self, failure: StoreError) {
        let mut progress = self.progress.lock();
        if progress.failure.is_none() {
            tracing::error!("the journal stops: {failure}");
            progress.failure = Some(failure);
        }
        drop(progress);
        self.advanced.notify_all();
        self.room.notify_waiters();
    }

    pub(super) fn failure(&self) -> Option<StoreError> {
        self.progress.lock().failure.clone()
    }

    /// The writer has ended.
    pub(super) fn end(&self) {
        self.progress.lock().ended = true;
        self.advanced.notify_all();
        self.room.notify_waiters();
    }

    /// Batches with so many bytes were answered, `durable` of them with Ok.
    pub(super) fn answered(&self, bytes: usize, durable: u64) {
        self.batches.fetch_add(durable, Ordering::Relaxed);
        let before = self.backlog.fetch_sub(bytes, Ordering::AcqRel);
        if before > self.backlog_limit && before - bytes <= self.backlog_limit {
            self.room.notify_waiters();
        }
    }

    /// A sync that began then is done.
    pub(super) fn note_sync(&self, begin: Instant) {
        let micros = begin.elapsed().as_micros();
        self.syncs.note(micros.try_into().unwrap_or(u64::MAX));
    }

    pub(super) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Acquire)
    }

    /// Batches made durable.
    pub(super) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.backlog() <= self.backlog_limit || self.queue.lock().stop.is_some() || self.failure().is_some()
    }

    /// Waits until the backlog is within its limit, or nothing is accepted any more.
    pub(super) async fn wait_room(&self) {
        loop {
            // Made before looking: it is told of what happens from here on, polled or not.
            let room = self.room.notified();
            if self.has_room() {
                return;
            }
            room.await;
        }
    }
}

/// Asks whoever knows whether this process is the master.
pub(super) fn may_write(mastership: Option<&Arc<dyn Mastership>>) -> Result<(), StoreError> {
    mastership.map_or(Ok(()), |mastership| mastership.may_write())
}

/// Takes from the front what makes a turn, at least one.
fn take(line: &mut Line<Waiting>) -> Group<Waiting> {
    let mut bytes = 0;
    line.take(|next| {
        bytes += next.bytes;
        bytes <= TURN_BYTES
    })
}

/// About what a batch takes in the log.
fn estimate(batch: &Batch) -> usize {
    let payload: usize = batch
        .ops
        .iter()
        .map(|op| match op {
            Op::Put { message, .. } => RECORD_OVERHEAD + payload_len(message),
            Op::CreateDestination { .. } => RECORD_OVERHEAD,
            Op::Prepare { prepared, .. } => RECORD_OVERHEAD + 12 * prepared.acknowledged.len(),
            Op::Share { .. } | Op::Move { .. } => REFERENCE,
            _ => 0,
        })
        .sum();
    // An empty batch counts as well: it waits like any other.
    RECORD_OVERHEAD + payload
}
