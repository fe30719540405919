//! What the handle of a store shares with its thread.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::super::{Batch, Done, Loaded, MessageKey, Op, StoreError, payload_len};

/// About what a row takes beside the payload of its message.
const ROW_OVERHEAD: usize = 256;

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

/// What the thread has to do, in order.
pub(super) enum Work {
    Write(Waiting),
    Read(Request),
    /// Everything before this is written, and the store is closed in order.
    Close,
}

/// Numbers and flags.
pub(super) struct Shared {
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

    pub(super) fn appended(&self, bytes: usize) {
        self.backlog.fetch_add(bytes, Ordering::Relaxed);
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

    pub(super) fn end(&self) {
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
