//! How the sends of a producer get on.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use tokio::sync::Semaphore;

use super::Window;
use crate::connection::progress::Alarm;
use crate::connection::stats::Counters;
use crate::link::{Share, Unanswered};
use crate::wire::{Destination, ProducerId};

/// So many bytes of messages of one producer may be unanswered before [`Producer::send_pipelined`](super::Producer::send_pipelined)
/// waits: enough to hide any round trip, not enough to matter.
const MAX_IN_FLIGHT: u32 = 4 * 1024 * 1024;

/// What holds back the sends of a producer, and which of them it does.
#[derive(Debug)]
pub(crate) struct Flow {
    id: ProducerId,
    destination: Option<Destination>,
    window: Option<Window>,
    in_flight: Semaphore,
    /// Sends that wait, for room or for an answer.
    waiting: AtomicU64,
    /// Sends that had to wait and have got on.
    progress: AtomicU64,
    /// It is told everybody that they do not.
    blocked: AtomicBool,
    alarm: Arc<Alarm>,
    counters: Arc<Counters>,
}

impl Flow {
    pub(super) fn new(
        id: ProducerId,
        destination: Option<Destination>,
        window: Option<Window>,
        alarm: Arc<Alarm>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            id,
            destination,
            window,
            in_flight: Semaphore::new(MAX_IN_FLIGHT as usize),
            waiting: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            alarm,
            counters,
        }
    }

    pub(crate) fn id(&self) -> &ProducerId {
        &self.id
    }

    pub(crate) fn destination(&self) -> Option<&Destination> {
        self.destination.as_ref()
    }

    pub(crate) fn window(&self) -> Option<&Window> {
        self.window.as_ref()
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::SeqCst)
    }

    pub(crate) fn progress(&self) -> u64 {
        self.progress.load(Ordering::Relaxed)
    }

    pub(crate) fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
    }

    /// Does the work of a send, which counts as waiting from the first time it has to.
    pub(super) async fn held<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut waiting = None;
        poll_fn(|cx| {
            let poll = work.as_mut().poll(cx);
            match poll {
                Poll::Ready(_) if waiting.is_some() => self.got_on(),
                Poll::Pending if waiting.is_none() => waiting = Some(Waiting::new(self)),
                _ => {}
            }
            poll
        })
        .await
    }

    /// Waits until a message of this size may go unanswered.
    pub(super) async fn share(self: &Arc<Self>, size: usize) -> Share {
        let size = u32::try_from(size).unwrap_or(u32::MAX).min(MAX_IN_FLIGHT);
        if let Ok(permit) = self.in_flight.acquire_many(size).await {
            permit.forget();
        }
        self.waits();
        Share::new(self.clone(), size)
    }

    fn waits(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.alarm.arm();
    }

    fn got_on(&self) {
        self.progress.fetch_add(1, Ordering::Relaxed);
        if self.blocked.load(Ordering::Relaxed) {
            self.alarm.look();
        }
    }
}

impl Unanswered for Flow {
    fn answered(&self, size: u32, confirmed: bool) {
        self.in_flight.add_permits(size as usize);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.counters.confirmed.add(confirmed.into());
        self.got_on();
    }
}

/// A send that has to wait.
struct Waiting<'a>(&'a Flow);

impl<'a> Waiting<'a> {
    fn new(flow: &'a Flow) -> Self {
        flow.waits();
        Self(flow)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        if self.0.blocked.load(Ordering::Relaxed) {
            self.0.alarm.look();
        }
    }
}
