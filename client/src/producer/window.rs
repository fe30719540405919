//! How far a producer may be ahead of the broker.

use parking_lot::Mutex;
use tokio::sync::Notify;

/// How many bytes a producer has sent that the broker has not taken in (`producerWindowSize`).
#[derive(Debug)]
pub(crate) struct Window {
    size: usize,
    used: Mutex<usize>,
    room: Notify,
}

impl Window {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            used: Mutex::new(0),
            room: Notify::new(),
        }
    }

    /// Waits until there is room, as ActiveMQ does: a message may go over the edge.
    pub(super) async fn enter(&self, size: usize) -> Charge<'_> {
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            {
                let mut used = self.used.lock();
                if *used < self.size {
                    *used += size;
                    return Charge { window: self, size };
                }
            }
            room.await;
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        *self.used.lock() >= self.size
    }

    pub(crate) fn acknowledged(&self, size: i32) {
        self.release(usize::try_from(size).unwrap_or(0));
    }

    fn release(&self, size: usize) {
        let mut used = self.used.lock();
        *used = used.saturating_sub(size);
        drop(used);
        self.room.notify_waiters();
    }

    /// The connection is gone, and what was on its way with it.
    pub(crate) fn reset(&self) {
        *self.used.lock() = 0;
        self.room.notify_waiters();
    }
}

/// A message's part of the window, given back if the message is not sent after all.
pub(super) struct Charge<'a> {
    window: &'a Window,
    size: usize,
}

impl Charge<'_> {
    pub(super) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.window.release(self.size);
    }
}
