//! The queue between the handles of a connection and the one task that writes.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::task::Waker;

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::guard::Guard;
use super::receipt::Share;
use crate::error::{Error, Result};
use crate::wire::Command;

/// So many bytes may wait to be written before senders wait. Large enough to keep the writer busy, small enough to
/// stay in the processor's cache.
const LIMIT: usize = 1024 * 1024;

/// What a command counts for besides its bodies.
const OVERHEAD: usize = 256;

/// A command that waits to be written.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) command: Command,
    pub(crate) reply: Option<Reply>,
    pub(crate) guard: Guard,
}

/// Where the answer to a request goes.
#[derive(Debug)]
pub(crate) enum Reply {
    /// To the one who asked, whose share it gives back.
    Asker(oneshot::Sender<Result<Command>>, Option<Share>),
    /// To somebody who asked several brokers; the number says which one this is.
    Respond(Arc<dyn Respond>, u64),
}

/// Somebody who asks several brokers at once.
pub(crate) trait Respond: std::fmt::Debug + Send + Sync {
    /// Nobody is interested any more.
    fn is_closed(&self) -> bool;
    /// The answer still changes something.
    fn matters(&self) -> bool;
    /// The answer of broker number `from`. Must not block.
    fn respond(&self, from: u64, answer: Result<Command>);
}

impl Reply {
    pub(crate) fn new(sender: oneshot::Sender<Result<Command>>, share: Option<Share>) -> Self {
        Self::Asker(sender, share)
    }

    /// Nobody is interested any more.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Asker(sender, _) => sender.is_closed(),
            Self::Respond(asker, _) => asker.is_closed(),
        }
    }

    /// The answer still changes something: somebody waits for it, or it is about a message whose sender left it to us.
    pub(crate) fn matters(&self) -> bool {
        match self {
            Self::Asker(sender, share) => share.is_some() || !sender.is_closed(),
            Self::Respond(asker, _) => asker.matters(),
        }
    }

    /// False if whoever asked has lost interest.
    pub(crate) fn send(self, answer: Result<Command>) -> bool {
        match self {
            Self::Asker(sender, mut share) => {
                if let (Some(share), Ok(_)) = (&mut share, &answer) {
                    share.confirm();
                }
                sender.send(answer).is_ok()
            }
            Self::Respond(asker, from) => {
                let wanted = !asker.is_closed();
                asker.respond(from, answer);
                wanted
            }
        }
    }
}

/// The queue. Commands go out in the order they came in.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    room: Notify,
    writer: AtomicWaker,
}

#[derive(Debug)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    last_command_id: i32,
    /// Why nothing more is taken in.
    closed: Option<Error>,
}

impl Outbox {
    /// An empty queue. The commands get the ids after `last_command_id`.
    pub(crate) fn new(last_command_id: i32) -> Self {
        Self {
            queue: Mutex::new(Queue {
                items: VecDeque::new(),
                bytes: 0,
                last_command_id,
                closed: None,
            }),
            room: Notify::new(),
            writer: AtomicWaker::new(),
        }
    }

    /// Adds a command once there is room. `number` is called with it at that moment and before any other is added,
    /// for what must be numbered in the order of the queue.
    ///
    /// Cancel safe: a command whose future is dropped was not added.
    ///
    /// # Errors
    ///
    /// The reason why the queue is closed.
    pub(crate) async fn push(&self, item: Item, mut number: impl FnMut(&mut Command)) -> Result<()> {
        let mut item = Some(item);
        loop {
            if self.try_push(&mut item, &mut number)? {
                return Ok(());
            }
            self.room().await;
        }
    }

    /// Waits until there may be room.
    pub(crate) async fn room(&self) {
        let mut room = pin!(self.room.notified());
        room.as_mut().enable();
        // The writer may have made room before this task was listed.
        if self.is_full() {
            room.await;
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.queue.lock().is_full()
    }

    /// Takes the item if there is room.
    fn try_push(&self, item: &mut Option<Item>, number: &mut impl FnMut(&mut Command)) -> Result<bool> {
        let mut queue = self.queue.lock();
        if let Some(error) = &queue.closed {
            return Err(error.clone());
        }
        if queue.is_full() {
            return Ok(false);
        }
        if let Some(mut item) = item.take() {
            number(&mut item.command);
            queue.add(item);
        }
        drop(queue);
        self.writer.wake();
        Ok(true)
    }

    /// Adds a command whether or not there is room: for those that are few or that follow from something bounded,
    /// such as acknowledgements, of which there are never more than dispatched messages.
    ///
    /// # Errors
    ///
    /// The reason why the queue is closed.
    pub(crate) fn post(&self, item: Item) -> Result<()> {
        let mut queue = self.queue.lock();
        if let Some(error) = &queue.closed {
            return Err(error.clone());
        }
        queue.add(item);
        drop(queue);
        self.writer.wake();
        Ok(())
    }

    /// Takes nothing more in. What is in the queue stays.
    pub(crate) fn close(&self, reason: Error) {
        self.queue.lock().closed.get_or_insert(reason);
        self.room.notify_waiters();
        self.writer.wake();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue.lock().closed.is_some()
    }

    /// The writer: takes all there is, to the end of `into`.
    pub(crate) fn take(&self, into: &mut VecDeque<Item>) {
        let mut queue = self.queue.lock();
        if queue.items.is_empty() {
            return;
        }
        let was_full = queue.is_full();
        queue.bytes = 0;
        if into.is_empty() {
            std::mem::swap(into, &mut queue.items);
        } else {
            into.append(&mut queue.items);
        }
        drop(queue);
        if was_full {
            self.room.notify_waiters();
        }
    }

    /// Lets the writer look again.
    pub(crate) fn wake(&self) {
        self.writer.wake();
    }

    /// The writer: whom to wake when there is something to take.
    pub(crate) fn register(&self, waker: &Waker) {
        self.writer.register(waker);
    }
}

impl Queue {
    fn is_full(&self) -> bool {
        self.bytes >= LIMIT && self.closed.is_none()
    }

    fn add(&mut self, mut item: Item) {
        self.last_command_id = self.last_command_id.checked_add(1).unwrap_or(1);
        // A message is not shared yet, so this copies nothing.
        item.command
            .set_header(self.last_command_id, item.reply.is_some());
        self.bytes += weight(&item.command);
        self.items.push_back(item);
    }
}

/// About how many bytes a command takes.
pub(crate) fn weight(command: &Command) -> usize {
    let bodies = match command {
        Command::Message(message) => {
            message.content.as_ref().map_or(0, |bytes| bytes.len())
                + message
                    .marshalled_properties
                    .as_ref()
                    .map_or(0, |bytes| bytes.len())
        }
        _ => 0,
    };
    OVERHEAD + bodies
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt;

    use super::*;
    use crate::error::ErrorKind;
    use crate::wire::{KeepAliveInfo, Message};

    fn item(command: impl Into<Command>) -> Item {
        Item {
            command: command.into(),
            reply: None,
            guard: Guard::Always,
        }
    }

    fn message(size: usize) -> Item {
        item(Arc::new(Message {
            content: Some(Bytes::from(vec![0; size])),
            ..Message::default()
        }))
    }

    fn ids(outbox: &Outbox) -> Vec<i32> {
        let mut items = VecDeque::new();
        outbox.take(&mut items);
        items.iter().map(|item| item.command.command_id()).collect()
    }

    #[test]
    fn commands_are_numbered_in_order() {
        let outbox = Outbox::new(1);
        outbox.post(item(KeepAliveInfo::default())).unwrap();
        outbox.post(item(KeepAliveInfo::default())).unwrap();
        assert_eq!(ids(&outbox), [2, 3]);
        let outbox = Outbox::new(i32::MAX);
        outbox.post(item(KeepAliveInfo::default())).unwrap();
        assert_eq!(ids(&outbox), [1]);
    }

    #[test]
    fn a_reply_asks_for_a_response() {
        let outbox = Outbox::new(0);
        let (reply, _rx) = oneshot::channel();
        let mut asked = item(KeepAliveInfo::default());
        asked.reply = Some(Reply::new(reply, None));
        outbox.post(asked).unwrap();
        outbox.post(item(KeepAliveInfo::default())).unwrap();
        let mut items = VecDeque::new();
        outbox.take(&mut items);
        let asks: Vec<_> = items
            .iter()
            .map(|item| item.command.response_required())
            .collect();
        assert_eq!(asks, [true, false]);
    }

    #[tokio::test]
    async fn senders_wait_for_room_and_others_do_not() {
        let outbox = Outbox::new(0);
        outbox.push(message(LIMIT), |_| {}).await.unwrap();
        let mut waiting = pin!(outbox.push(message(1), |_| {}));
        assert!(waiting.as_mut().now_or_never().is_none());
        outbox.post(item(KeepAliveInfo::default())).unwrap();
        assert_eq!(ids(&outbox), [1, 2]);
        waiting.await.unwrap();
        assert_eq!(ids(&outbox), [3]);
    }

    #[tokio::test]
    async fn closing_fails_those_that_wait_and_those_that_come() {
        let outbox = Outbox::new(0);
        outbox.push(message(LIMIT), |_| {}).await.unwrap();
        let mut waiting = Box::pin(outbox.push(message(1), |_| {}));
        assert!(waiting.as_mut().now_or_never().is_none());
        outbox.close(Error::new(ErrorKind::Closed, "closed"));
        assert!(waiting.await.unwrap_err().is_closed());
        assert!(outbox.post(message(1)).unwrap_err().is_closed());
        assert_eq!(ids(&outbox), [1]);
    }
}
