//! How long a run lasts, and when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

/// A run in which nothing arrives for so long has lost something.
const STALLED: Duration = Duration::from_secs(60);

/// How long a run lasts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Length {
    Messages(u64),
    Time(Duration),
}

/// What has been sent and received in a run.
#[derive(Debug)]
pub(super) struct Progress {
    length: Length,
    began: Instant,
    /// How many consumers get each message.
    copies: u64,
    sent: AtomicU64,
    all_sent: AtomicBool,
    received: AtomicU64,
    done: Notify,
}

impl Progress {
    pub(super) fn new(length: Length, copies: u64) -> Arc<Self> {
        Arc::new(Self {
            length,
            began: Instant::now(),
            copies,
            sent: AtomicU64::new(0),
            all_sent: AtomicBool::new(false),
            received: AtomicU64::new(0),
            done: Notify::new(),
        })
    }

    /// Nanoseconds since the run began.
    pub(super) fn clock(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// May another message be sent? Counts it.
    pub(super) fn send(&self) -> bool {
        let sent = self.sent.fetch_add(1, SeqCst);
        let more = match self.length {
            Length::Messages(limit) => sent < limit,
            Length::Time(limit) => self.began.elapsed() < limit,
        };
        if !more {
            self.sent.fetch_sub(1, SeqCst);
        }
        more
    }

    /// Nothing more will be sent.
    pub(super) fn all_sent(&self) {
        self.all_sent.store(true, SeqCst);
        self.check();
    }

    /// Everything was sent before the run, if it has a number of messages.
    pub(super) fn all_sent_before(&self) {
        while self.send() {}
        self.all_sent();
    }

    /// A message was received.
    pub(super) fn receive(&self) {
        self.received.fetch_add(1, SeqCst);
        self.check();
    }

    fn check(&self) {
        if self.all_sent.load(SeqCst) && self.received.load(SeqCst) >= self.expected() {
            self.done.notify_one();
        }
    }

    fn expected(&self) -> u64 {
        self.sent() * self.copies
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(SeqCst)
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Waits until everything that was sent has been received.
    pub(super) async fn done(&self) -> Result<(), String> {
        loop {
            let before = self.received();
            if timeout(STALLED, self.done.notified()).await.is_ok() {
                return Ok(());
            }
            if self.received() == before {
                return Err(format!(
                    "{before} of {} messages came, and then none for {STALLED:?}",
                    self.expected()
                ));
            }
        }
    }
}
