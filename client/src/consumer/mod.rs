//! JMS `MessageConsumer`.

mod ack;
mod audit;
mod browser;
mod delivery;
mod held;
mod inbox;
mod listener;
mod mailbox;
mod options;
mod ready;

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures::Stream;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

pub(crate) use audit::Audit;
pub use browser::Browser;
pub(crate) use inbox::Rules;
pub use listener::Listener;
pub(crate) use mailbox::{Found, Mailbox, Out, Readiness, Taken};
pub use options::ConsumerOptions;

use crate::deadline::timeout_at;
use crate::error::{Error, ErrorKind, Result};
use crate::link::{Guard, Receipt};
use crate::message::{Acknowledger, Message};
use crate::session::{AcknowledgeMode, SessionInner};
use crate::wire::{ConsumerId, Destination, MessageId};

/// How much longer than its own time a pull waits for the broker to say that there was nothing.
const PULL_GRACE: Duration = Duration::from_secs(2);

/// Receives messages from a destination (JMS `MessageConsumer`).
///
/// Made by [`Session::create_consumer`](crate::Session::create_consumer). Nothing arrives before
/// [`Connection::start`](crate::Connection::start). Messages are taken with [`receive`](Self::receive) and its kin, as a
/// [`Stream`], or by a function given to [`listen`](Self::listen).
///
/// Dropping a consumer closes it without waiting.
#[derive(Debug)]
pub struct Consumer {
    inner: Arc<ConsumerInner>,
    /// What the stream waits for.
    waiting: Option<Waiting>,
}

/// Behind a lock, which is never contended, so that a consumer can be shared between threads.
struct Waiting(Mutex<BoxFuture<'static, Result<Option<Message>>>>);

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Waiting")
    }
}

#[derive(Debug)]
pub(crate) struct ConsumerInner {
    pub(crate) session: Arc<SessionInner>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) selector: Option<Arc<str>>,
    /// Number of the physical connection a browser looks through.
    pub(crate) browses_over: Option<u64>,
}

/// How long to wait for a message.
#[derive(Debug, Clone, Copy)]
enum Patience {
    Forever,
    For(Duration),
    None,
}

impl Consumer {
    pub(crate) fn new(inner: ConsumerInner) -> Self {
        Self {
            inner: Arc::new(inner),
            waiting: None,
        }
    }

    /// Waits for the next message, for ever if none comes (`receive()`).
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) if the consumer or its connection is closed, or whatever ended the connection;
    /// [`is_io`](Error::is_io) if it broke for good. With `jms.sendAcksAsync=false` also the broker's refusal of the
    /// message's acknowledgement, with its [`throwable`](Error::throwable); if no answer comes, because the connection breaks
    /// or ends or [`request_timeout`](crate::options::ConnectionOptions::request_timeout) is over, the message is returned all
    /// the same, since the broker may have consumed it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is either returned or still there. With `jms.sendAcksAsync=false` a message whose
    /// acknowledgement is being waited for is gone.
    pub async fn receive(&self) -> Result<Message> {
        match self.inner.next(Patience::Forever).await? {
            Some(message) => Ok(message),
            None => Err(closed()),
        }
    }

    /// Waits for the next message for as long as `timeout` (`receive(long)`); `None` if none came.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    ///
    /// # Cancel safety
    ///
    /// As [`receive`](Self::receive).
    pub async fn receive_timeout(&self, timeout: Duration) -> Result<Option<Message>> {
        self.inner.next(Patience::For(timeout)).await
    }

    /// A message if there is one (`receiveNoWait()`). With a prefetch of 0 that asks the broker.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    ///
    /// # Cancel safety
    ///
    /// As [`receive`](Self::receive).
    pub async fn receive_no_wait(&self) -> Result<Option<Message>> {
        self.inner.next(Patience::None).await
    }

    /// Hands each message to a function, one after another, until the [`Listener`] is closed or dropped
    /// (`setMessageListener`).
    ///
    /// A message is acknowledged when the function has returned `Ok`. If it returns an error, a message that
    /// acknowledges itself is delivered again as the redelivery policy says; in the other modes that is up to the
    /// application. Each listener runs in a task of its own, so those of one session run at the same time, unlike in JMS.
    ///
    /// # Errors
    ///
    /// [`is_illegal_state`](Error::is_illegal_state) with a prefetch of 0, with which nothing comes unasked, in an XA session
    /// without `jms.xaAckMode`, or if there is no tokio runtime.
    pub fn listen<F, R, T, E>(self, listener: F) -> Result<Listener>
    where
        F: FnMut(Message) -> R + Send + 'static,
        R: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        Listener::start(self.inner.clone(), listener)
    }

    /// Where the messages come from.
    pub fn destination(&self) -> &Destination {
        self.inner.mailbox.destination()
    }

    /// The selector (`getMessageSelector`).
    pub fn selector(&self) -> Option<&str> {
        self.inner.selector.as_deref()
    }

    /// The id of the consumer at the broker.
    pub fn id(&self) -> &ConsumerId {
        self.inner.mailbox.id()
    }

    /// Closes the consumer (`close`): messages that were not acknowledged go back to their queue. In a transaction they
    /// stay part of it.
    ///
    /// Does not wait for the broker, so there is nothing to be cancelled.
    ///
    /// # Errors
    ///
    /// None today; closing twice is fine.
    pub async fn close(self) -> Result<()> {
        self.inner.close();
        Ok(())
    }
}

/// The messages, one after another, as [`Consumer::receive`] returns them. Ends when the consumer is closed; an error
/// that ended the connection comes first.
impl Stream for Consumer {
    type Item = Result<Message>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let inner = &this.inner;
        let waiting = this.waiting.get_or_insert_with(|| {
            let inner = inner.clone();
            Waiting(Mutex::new(Box::pin(async move {
                inner.next(Patience::Forever).await
            })))
        });
        let result = std::task::ready!(waiting.0.get_mut().as_mut().poll(cx));
        this.waiting = None;
        Poll::Ready(match result {
            Ok(message) => message.map(Ok),
            Err(error) if error.is_closed() => None,
            Err(error) => Some(Err(error)),
        })
    }
}

impl ConsumerInner {
    fn out(&self) -> Out<'_> {
        self.session.out()
    }

    #[tracing::instrument(
        name = "receive",
        level = "trace",
        skip_all,
        fields(
            destination = %self.mailbox.destination(),
            consumer = %self.mailbox.id(),
            broker = self.session.connection.hub.publisher.broker(),
            message_id
        )
    )]
    async fn next(&self, patience: Patience) -> Result<Option<Message>> {
        match self.take(patience, false).await? {
            Some(taken) => {
                if let Some(id) = &taken.message.message_id
                    && tracing::enabled!(tracing::Level::TRACE)
                {
                    tracing::Span::current().record("message_id", tracing::field::display(id));
                }
                self.deliver(taken).await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// Waits until the broker has answered acknowledgements of messages that were delivered, as long as a request may
    /// take. Without an answer it may have consumed them, so they belong to the application; what comes again is
    /// recognised.
    ///
    /// # Errors
    ///
    /// The broker refuses one.
    async fn settled(&self, receipts: Vec<Receipt>) -> Result<()> {
        let connection = &self.session.connection;
        let answers = async {
            for receipt in receipts {
                match receipt.await {
                    Err(error) if error.throwable().is_some() => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        };
        match timeout_at(connection.request_deadline(), answers).await {
            Ok(Some(result)) => result,
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// The message as the application sees it, once its acknowledgement was answered if that is wanted.
    async fn deliver(&self, taken: Taken) -> Result<Message> {
        self.settled(taken.receipts).await?;
        let limit = self.session.connection.inflated_limit();
        let message = Message::from_wire(taken.message).with_inflated_limit(limit);
        Ok(match self.mailbox.mode() {
            AcknowledgeMode::Client => message.with_acknowledger(Arc::new(AcknowledgeSession {
                session: Arc::downgrade(&self.session),
                connection: taken.connection,
            })),
            AcknowledgeMode::Individual => {
                let id = message.wire().message_id.clone().unwrap_or_default();
                message.with_acknowledger(Arc::new(AcknowledgeMessage {
                    session: Arc::downgrade(&self.session),
                    mailbox: self.mailbox.clone(),
                    id,
                    connection: taken.connection,
                }))
            }
            _ => message,
        })
    }

    /// Takes the next message. None only if patience ran out.
    async fn take(&self, patience: Patience, hold: bool) -> Result<Option<Taken>> {
        let mailbox = &*self.mailbox;
        if !mailbox.browses() {
            self.session.check_enlisted()?;
        }
        let deadline = match patience {
            Patience::Forever => None,
            Patience::For(time) => Instant::now().checked_add(time),
            Patience::None => Some(Instant::now()),
        };
        let given_up = match (mailbox.pulls(), patience) {
            // The broker says when there is nothing; the clock is only for one that does not.
            (true, Patience::For(time)) => Instant::now().checked_add(time + PULL_GRACE),
            (true, Patience::None) => self.session.connection.request_deadline(),
            _ => deadline,
        };
        let empty_before = mailbox.empty_answers();
        loop {
            let mut changed = std::pin::pin!(mailbox.changed().notified());
            let ended = mailbox.browses() && mailbox.empty_answers() > 0;
            let until = match self.try_take(hold)? {
                Found::Message(taken) => return Ok(Some(taken)),
                Found::Nothing(_) if ended => return Ok(None),
                Found::Nothing(until) => until,
            };
            self.check_browsing()?;
            if mailbox.pulls() {
                let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                if left.is_some() && mailbox.empty_answers() != empty_before {
                    return Ok(None);
                }
                mailbox.ask(pull_timeout(patience, left), &self.session.connection.link)?;
            }
            if given_up.is_some_and(|end| end <= Instant::now()) {
                return Ok(None);
            }
            // What happened since the last look is seen by another look, and what happens from here on wakes.
            if changed.as_mut().enable() {
                continue;
            }
            if let Found::Message(taken) = self.try_take(hold)? {
                return Ok(Some(taken));
            }
            match [until, given_up].into_iter().flatten().min() {
                None => changed.await,
                Some(end) => {
                    timeout_at(Some(end), changed).await?;
                }
            }
        }
    }

    /// What a browser has not been shown went with its connection.
    fn check_browsing(&self) -> Result<()> {
        match self.browses_over {
            Some(over) if over != self.session.connection.link.connection() => Err(Error::new(
                ErrorKind::Interrupted,
                "the connection broke while the queue was being browsed: browse it again",
            )),
            _ => Ok(()),
        }
    }

    fn try_take(&self, hold: bool) -> Result<Found> {
        self.mailbox
            .take(hold, self.out(), || match self.mailbox.browses() {
                true => Ok(None),
                false => self.session.current(),
            })
    }

    /// Takes leave of the broker, at the end of the transaction if one needs the consumer still.
    pub(crate) fn close(&self) {
        let in_transaction = self.mailbox.in_transaction();
        let last = self.mailbox.end(closed(), self.out());
        if in_transaction {
            self.session.close_later(&self.mailbox, last);
        } else if self.session.forget_consumer(self.mailbox.id()) {
            // An error says that the connection is closed, and the consumer with it.
            let _ = self
                .session
                .connection
                .link
                .post(self.mailbox.farewell(last), Guard::Always);
        }
    }
}

impl Drop for ConsumerInner {
    fn drop(&mut self) {
        self.close();
    }
}

/// The timeout of a `MessagePull`: 0 is for ever, -1 not at all.
fn pull_timeout(patience: Patience, left: Option<Duration>) -> i64 {
    match (patience, left) {
        (Patience::Forever, _) | (_, None) => 0,
        (Patience::None, _) => -1,
        (Patience::For(_), Some(left)) => i64::try_from(left.as_millis()).unwrap_or(i64::MAX).max(1),
    }
}

/// `CLIENT_ACKNOWLEDGE`: everything the session has delivered.
struct AcknowledgeSession {
    session: Weak<SessionInner>,
    connection: u64,
}

#[async_trait]
impl Acknowledger for AcknowledgeSession {
    async fn acknowledge(&self) -> Result<()> {
        let session = self.session.upgrade().ok_or_else(closed)?;
        session.check_open()?;
        let mut receipts: Vec<Receipt> = Vec::new();
        let mut count = 0;
        for mailbox in session.consumers() {
            let (acknowledged, waiting) = mailbox.acknowledge_all(session.out())?;
            count += acknowledged;
            receipts.extend(waiting);
        }
        if count == 0 && session.connection.link.connection() != self.connection {
            return Err(interrupted());
        }
        session.answered(receipts).await
    }
}

/// `INDIVIDUAL_ACKNOWLEDGE`: one message.
struct AcknowledgeMessage {
    session: Weak<SessionInner>,
    mailbox: Arc<Mailbox>,
    id: MessageId,
    connection: u64,
}

#[async_trait]
impl Acknowledger for AcknowledgeMessage {
    async fn acknowledge(&self) -> Result<()> {
        let session = self.session.upgrade().ok_or_else(closed)?;
        session.check_open()?;
        match self
            .mailbox
            .acknowledge_one(&self.id, self.connection, session.out())?
        {
            Some(receipts) => session.answered(receipts).await,
            None if session.connection.link.connection() != self.connection => Err(interrupted()),
            // It was acknowledged before.
            None => Ok(()),
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the consumer is closed")
}

fn interrupted() -> Error {
    Error::new(
        ErrorKind::Interrupted,
        "the connection broke since the message was delivered: it is delivered again",
    )
}
