//! What the handle of a store shares with its thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::super::line::{Group, Line, Next};
use super::super::{Batch, Done, Loaded, MessageKey, Op, StoreError, payload_len};

/// About how many bytes are written in one transaction: what a batch that comes late waits for.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// How many batches.
const GROUP_BATCHES: usize = 4096;

/// About what a row takes beside the payload of its message.
const ROW_OVERHEAD: usize = 256;

/// About how much longer it takes with each batch more: half of it is the row, with ActiveMQ's indexes.
const EACH: Duration = Duration::from_micros(70);

/// A batch that is not yet written.
pub(super) struct Waiting {
    pub(super) batch: Batch,
    /// About what it takes.
    pub(super) bytes: usize,
    done: Option<Done>,
}

impl Waiting {
    pub(super) fn new(batch: Batch, done: Done) -> Self {
        Self {
            bytes: estimate(&batch),
            batch,
            done: Some(done),
        }
    }

    pub(super) fn answer(mut self, result: Result<(), StoreError>) {
        if let Some(done) = self.done.take() {
            done(result);
        }
    }
}

impl Drop for Waiting {
    /// Nobody is going to write it.
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(StoreError::Closed));
        }
    }
}

/// Messages that are to be read.
pub(super) struct Request {
    pub(super) keys: Vec<MessageKey>,
    done: Option<Loaded>,
}

impl Request {
    pub(super) fn new(keys: Vec<MessageKey>, done: Loaded) -> Self {
        Self {
            keys,
            done: Some(done),
        }
    }

    pub(super) fn answer(mut self, result: super::super::Bodies) {
        if let Some(done) = self.done.take() {
            done(result);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(StoreError::Closed));
        }
    }
}

/// What the thread has to do next.
pub(super) struct Turn {
    /// To be written in one transaction; there may be none.
    pub(super) group: Group<Waiting>,
    /// To be read after that.
    pub(super) requests: Vec<Request>,
    /// Everything is written with it, and the store is closed in order.
    pub(super) closes: bool,
}

struct Queue {
    line: Line<Waiting>,
    /// What is to be read, and how many batches were appended before it.
    requests: VecDeque<(u64, Request)>,
    /// Batches taken so far.
    taken: u64,
    /// Nothing more is taken, and the thread is to end.
    closes: bool,
}

/// What the handle and the thread have in common: what is to be done, numbers and flags.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    work: Notify,
    backlog: AtomicUsize,
    backlog_limit: usize,
    pub(super) messages: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) commits: AtomicU64,
    /// Nothing more is accepted.
    over: AtomicBool,
    failure: Mutex<Option<StoreError>>,
    room: Notify,
}

impl Shared {
    pub(super) fn new(backlog_limit: usize) -> Self {
        Self {
            queue: Mutex::new(Queue {
                line: Line::new(EACH),
                requests: VecDeque::new(),
                taken: 0,
                closes: false,
            }),
            work: Notify::new(),
            backlog: AtomicUsize::new(0),
            backlog_limit,
            messages: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            over: AtomicBool::new(false),
            failure: Mutex::new(None),
            room: Notify::new(),
        }
    }

    /// Queues a batch; one that is not taken any more is answered by being dropped.
    pub(super) fn append(&self, waiting: Waiting, awaited: bool) {
        let mut queue = self.queue.lock();
        if queue.closes {
            drop(queue);
            drop(waiting);
            return;
        }
        self.backlog.fetch_add(waiting.bytes, Ordering::Relaxed);
        if queue.line.push(waiting, awaited) {
            self.work.notify_one();
        }
    }

    /// Queues what is to be read.
    pub(super) fn load(&self, request: Request) {
        let mut queue = self.queue.lock();
        if queue.closes {
            drop(queue);
            drop(request);
            return;
        }
        let after = queue.line.appended();
        queue.requests.push_back((after, request));
        queue.line.hurry();
        self.work.notify_one();
    }

    /// Everything so far is to be done, and nothing after it.
    pub(super) fn close(&self) {
        self.queue.lock().closes = true;
        self.work.notify_one();
    }

    /// Waits for something to do. Cancel safe.
    pub(super) async fn next(&self) -> Turn {
        loop {
            let until = {
                let mut queue = self.queue.lock();
                match queue.line.next(Instant::now()) {
                    Next::Now => return queue.turn(),
                    _ if queue.closes => return queue.turn(),
                    Next::Idle if !queue.requests.is_empty() => return queue.turn(),
                    Next::Idle => None,
                    Next::At(until) => Some(until),
                }
            };
            // Whoever calls before this waits is heard all the same.
            match until {
                Some(until) => drop(timeout_at(until.into(), self.work.notified()).await),
                None => self.work.notified().await,
            }
        }
    }

    /// So many batches that somebody waits for were written in this time.
    pub(super) fn wrote(&self, awaited: usize, took: Duration) {
        self.queue.lock().line.written(awaited, took);
    }

    /// Nothing is taken any more, and what was is answered.
    fn give_up(&self) {
        self.end();
        let (batches, requests) = {
            let mut queue = self.queue.lock();
            queue.closes = true;
            (queue.line.drain(), std::mem::take(&mut queue.requests))
        };
        let bytes = batches.iter().map(|waiting| waiting.bytes).sum();
        self.answered(bytes);
        // Dropping them answers them, and whoever hears it may come back to this.
        drop((batches, requests));
    }

    /// Batches with so many bytes are about to be answered.
    pub(super) fn answered(&self, bytes: usize) {
        let before = self.backlog.fetch_sub(bytes, Ordering::AcqRel);
        if before > self.backlog_limit && before - bytes <= self.backlog_limit {
            self.room.notify_waiters();
        }
    }

    pub(super) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Acquire)
    }

    /// Nothing more is accepted. The first reason counts.
    pub(super) fn poison(&self, failure: StoreError) {
        tracing::error!("the store stops: {failure}");
        self.failure.lock().get_or_insert(failure);
        self.end();
    }

    pub(super) fn failure(&self) -> Option<StoreError> {
        self.failure.lock().clone()
    }

    fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.room.notify_waiters();
    }

    /// Waits until the backlog is within its limit, or nothing is accepted any more.
    pub(super) async fn wait_room(&self) {
        loop {
            // Made before looking: it is told of what happens from here on, polled or not.
            let room = self.room.notified();
            if self.backlog() <= self.backlog_limit || self.over.load(Ordering::Acquire) {
                return;
            }
            room.await;
        }
    }
}

/// Answers everybody, whatever ends the thread.
pub(super) struct Guard(pub(super) Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl Queue {
    fn turn(&mut self) -> Turn {
        let (mut bytes, mut count) = (0, 0);
        let group = self.line.take(|waiting| {
            bytes += waiting.bytes;
            count += 1;
            bytes <= GROUP_BYTES && count <= GROUP_BATCHES
        });
        self.taken += group.batches.len() as u64;
        let ready = self.requests.iter().take_while(|(after, _)| *after <= self.taken);
        let ready = ready.count();
        Turn {
            group,
            requests: self.requests.drain(..ready).map(|(_, request)| request).collect(),
            closes: self.closes && self.line.is_empty(),
        }
    }
}

/// About what a batch takes in the database.
fn estimate(batch: &Batch) -> usize {
    let payload: usize = batch
        .ops
        .iter()
        .map(|op| match op {
            Op::Put { message, .. } => ROW_OVERHEAD + payload_len(message),
            _ => ROW_OVERHEAD / 4,
        })
        .sum();
    // An empty batch counts as well: it waits like any other.
    ROW_OVERHEAD + payload
}
