//! What waits to be written to one client, and what its connection is told to do.

use std::collections::VecDeque;
use std::task::Waker;

use openwire_client::wire::Command;
use parking_lot::Mutex;

/// What a connection does now. Each state but the first two ends in the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flow {
    /// Reads and writes.
    Reading,
    /// Only writes until the broker has room again.
    Paused,
    /// Only writes: the broker stops, and answers what it was asked before.
    Draining,
    /// Ends as soon as everything is written.
    Closing,
}

/// The half of a connection that others reach: whoever has something for the client puts it here, and the
/// connection's own task encodes and writes it.
///
/// Its length is bounded by others: dispatches by the consumers' credit, replies because the connection
/// reads nothing more while too many of them wait.
///
/// Lock order: the core's lock, then this one. Nothing is called while it is held.
#[derive(Debug)]
pub(crate) struct Outbox(Mutex<State>);

#[derive(Debug)]
struct State {
    queue: VecDeque<Command>,
    /// Replies here or taken, and not encoded yet.
    replies: usize,
    flow: Flow,
    reason: Option<String>,
    /// The connection's task, while it sleeps.
    sleeper: Option<Waker>,
    /// The sleeper can take more of the queue; while it is blocked on its socket it cannot.
    takes: bool,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State {
            queue: VecDeque::new(),
            replies: 0,
            flow: Flow::Reading,
            reason: None,
            sleeper: None,
            takes: false,
        }))
    }

    /// Adds a command. The caller wakes the returned sleeper once it holds no lock.
    #[must_use]
    pub(crate) fn push(&self, command: Command) -> Option<Waker> {
        let mut state = self.0.lock();
        state.replies += usize::from(is_reply(&command));
        state.queue.push_back(command);
        if state.takes { state.sleeper.take() } else { None }
    }

    /// Stops and starts reading, unless the connection is about to end.
    #[must_use]
    pub(crate) fn pause(&self, paused: bool) -> Option<Waker> {
        let mut state = self.0.lock();
        let flow = if paused { Flow::Paused } else { Flow::Reading };
        if state.flow >= Flow::Draining || state.flow == flow {
            return None;
        }
        state.flow = flow;
        state.sleeper.take()
    }

    /// Reads no more.
    #[must_use]
    pub(crate) fn drain(&self) -> Option<Waker> {
        self.advance(Flow::Draining, None)
    }

    /// Ends the connection once everything is written. The first reason stays.
    #[must_use]
    pub(crate) fn close(&self, reason: impl Into<String>) -> Option<Waker> {
        self.advance(Flow::Closing, Some(reason.into()))
    }

    fn advance(&self, flow: Flow, reason: Option<String>) -> Option<Waker> {
        let mut state = self.0.lock();
        if state.flow >= flow {
            return None;
        }
        state.flow = flow;
        state.reason = reason;
        state.sleeper.take()
    }

    /// Moves what waits into `pending` if that is empty, and says what to do and how many replies are not
    /// encoded yet. `encoded` replies were, since the last call.
    pub(crate) fn take(&self, pending: &mut VecDeque<Command>, encoded: usize) -> (Flow, usize) {
        let mut state = self.0.lock();
        if pending.is_empty() {
            std::mem::swap(&mut state.queue, pending);
        }
        state.replies = state.replies.saturating_sub(encoded);
        (state.flow, state.replies)
    }

    /// Why the connection was closed by [`close`](Self::close).
    pub(crate) fn reason(&self) -> Option<String> {
        self.0.lock().reason.take()
    }

    /// Puts the connection's task to sleep: `waker` is called when there is something to do. False if there
    /// is already, given that `flow` is what the task last saw.
    #[must_use]
    pub(crate) fn sleep(&self, waker: &Waker, takes: bool, flow: Flow) -> bool {
        let mut state = self.0.lock();
        if state.flow != flow || (takes && !state.queue.is_empty()) {
            return false;
        }
        state.takes = takes;
        match &mut state.sleeper {
            Some(sleeper) => sleeper.clone_from(waker),
            None => state.sleeper = Some(waker.clone()),
        }
        true
    }
}

/// Something that no credit bounds.
pub(crate) fn is_reply(command: &Command) -> bool {
    !matches!(command, Command::MessageDispatch(_))
}
