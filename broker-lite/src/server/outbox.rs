//! What waits to be written to one client, and what its connection is told to do.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::Waker;

use openwire_client::wire::Command;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::store::accounting_size;

/// Bytes of messages that wait here, beyond which the connection is congested: what is sent to the topics of its
/// consumers waits in the core, where it counts as memory and can be evicted.
const CONGESTED: usize = 8 * 1024 * 1024;

/// What a connection does now. Each state but the first two ends in one that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flow {
    /// Reads and writes.
    Reading,
    /// Only writes until the broker has room again.
    Paused,
    /// Writes, and reads what has arrived: the broker stops.
    Draining,
    /// Only writes: the broker answers what it was asked before.
    Drained,
    /// Ends as soon as everything is written.
    Closing,
}

/// Held by whoever still has something to read; nothing is ever sent.
pub(crate) type Unread = mpsc::Sender<Infallible>;

/// The half of a connection that others reach: whoever has something for the client puts it here, and the
/// connection's own task encodes and writes it.
///
/// Its length is bounded by others: dispatches by the consumers' credit and, for topics, because the core holds them
/// back while the connection is congested; replies because the connection reads nothing more while too many of them
/// wait.
///
/// Lock order: the core's lock, then this one. Nothing is called while it is held.
#[derive(Debug)]
pub(crate) struct Outbox(Mutex<State>);

#[derive(Debug)]
struct State {
    queue: VecDeque<Command>,
    /// Bytes of the messages in it.
    bytes: usize,
    /// The core was told that there are too many, and not yet that there are not any more.
    congested: bool,
    /// Replies here or taken, and not encoded yet.
    replies: usize,
    flow: Flow,
    /// Dropped when what has arrived is read.
    unread: Option<Unread>,
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
            bytes: 0,
            congested: false,
            replies: 0,
            flow: Flow::Reading,
            unread: None,
            reason: None,
            sleeper: None,
            takes: false,
        }))
    }

    /// Adds a command. The caller wakes the returned sleeper once it holds no lock.
    #[must_use]
    pub(crate) fn push(&self, command: Command) -> Option<Waker> {
        self.push_counted(command).0
    }

    /// As [`push`](Self::push); true if the connection is congested from here on. The core is to be told.
    #[must_use]
    pub(crate) fn push_counted(&self, command: Command) -> (Option<Waker>, bool) {
        let mut state = self.0.lock();
        state.replies += usize::from(is_reply(&command));
        if let Command::MessageDispatch(dispatch) = &command {
            let size = dispatch.message.as_deref().map_or(0, accounting_size);
            state.bytes = state.bytes.saturating_add(size as usize);
        }
        state.queue.push_back(command);
        let congested = state.bytes > CONGESTED && !std::mem::replace(&mut state.congested, true);
        let sleeper = if state.takes { state.sleeper.take() } else { None };
        (sleeper, congested)
    }

    /// The core holds more back: the connection is congested until it has taken what waits.
    #[must_use]
    pub(crate) fn congest(&self) -> Option<Waker> {
        let mut state = self.0.lock();
        state.congested = true;
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

    /// Reads what has arrived, unless there is no room for it, and no more. `unread` is dropped when that is done.
    #[must_use]
    pub(crate) fn drain(&self, unread: Unread) -> Option<Waker> {
        let mut state = self.0.lock();
        match state.flow {
            Flow::Reading => (state.flow, state.unread) = (Flow::Draining, Some(unread)),
            Flow::Paused => state.flow = Flow::Drained,
            _ => return None,
        }
        state.sleeper.take()
    }

    /// What had arrived is read.
    pub(crate) fn drained(&self) {
        // The connection's own task is not asleep.
        let _ = self.advance(Flow::Drained, None);
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
        state.unread = None;
        state.reason = reason;
        state.sleeper.take()
    }

    /// Moves what waits into `pending` if that is empty, and says what to do and how many replies are not
    /// encoded yet. `encoded` replies were, since the last call. The last value is true if the connection is not
    /// congested any more: the core is to be told.
    pub(crate) fn take(&self, pending: &mut VecDeque<Command>, encoded: usize) -> (Flow, usize, bool) {
        let mut state = self.0.lock();
        let mut relieved = false;
        if pending.is_empty() {
            std::mem::swap(&mut state.queue, pending);
            state.bytes = 0;
            relieved = std::mem::take(&mut state.congested);
        }
        state.replies = state.replies.saturating_sub(encoded);
        (state.flow, state.replies, relieved)
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
        if state.flow != flow || (takes && (!state.queue.is_empty() || state.congested)) {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use openwire_client::wire::{Message, MessageDispatch};

    use super::*;

    fn dispatch(bytes: usize) -> Command {
        let message = Message {
            content: Some(Bytes::from(vec![0; bytes])),
            ..Message::default()
        };
        Command::from(MessageDispatch {
            message: Some(Arc::new(message)),
            ..MessageDispatch::default()
        })
    }

    #[test]
    fn congestion_is_told_once_and_ends_when_everything_is_taken() {
        let outbox = Outbox::new();
        let mut pending = VecDeque::new();
        assert!(!outbox.push_counted(dispatch(CONGESTED / 2)).1);
        assert!(outbox.push_counted(dispatch(CONGESTED / 2)).1);
        assert!(!outbox.push_counted(dispatch(1)).1);
        assert!(outbox.take(&mut pending, 0).2);
        // What was taken is not written yet.
        for relieved in [false, false, true] {
            let congested = outbox.push_counted(dispatch(CONGESTED)).1;
            assert_eq!(
                (pending.len(), congested),
                (3, !relieved && outbox.0.lock().queue.len() == 1)
            );
            if relieved {
                pending.clear();
            }
            assert_eq!(outbox.take(&mut pending, 0).2, relieved);
        }
        pending.clear();
        // The core has more: whoever could sleep has to look again.
        assert!(outbox.congest().is_none());
        assert!(!outbox.sleep(Waker::noop(), true, Flow::Reading));
        assert!(outbox.take(&mut pending, 0).2);
        assert!(outbox.sleep(Waker::noop(), true, Flow::Reading));
    }
}
