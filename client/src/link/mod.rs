//! One logical connection over many physical ones.
//!
//! The handles of a connection put commands into its [`Outbox`](outbox::Outbox); one task, the supervisor, connects
//! and then moves bytes both ways ([`running`]). What has to survive a physical connection (what the broker was told,
//! what it has not answered) is kept in books that know neither sockets nor clocks: [`traffic`], [`tracker`],
//! [`endpoints`], [`backoff`], [`heartbeat`].

mod backoff;
mod doubt;
mod endpoints;
mod fanout;
mod guard;
mod handshake;
mod heartbeat;
mod outbox;
mod physical;
mod receipt;
mod running;
mod spares;
mod status;
mod supervisor;
mod tracker;
mod traffic;
mod updates;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until};

pub(crate) use doubt::Moment;
use endpoints::Endpoints;
pub(crate) use fanout::{Fanout, FanoutConfig};
pub(crate) use guard::{Guard, TransactionGuard};
use outbox::{Item, Outbox, Reply};
pub(crate) use receipt::{Receipt, Share, Unanswered};
pub use status::{EndpointFailure, EndpointSource, EndpointState, EndpointStatus};
pub(crate) use supervisor::Config;
use supervisor::Supervisor;

use crate::deadline::timeout_at;
use crate::error::{Error, ErrorKind, Result, Unfinished};
use crate::events::Event;
use crate::wire::{
    BrokerInfo, Command, ConnectionId, ConsumerControl, EntityId, Message, MessageAck, MessageDispatch,
    ProducerAck, RemoveInfo, WireFormat,
};

/// The end of a time that cannot be counted.
const FAR: Duration = Duration::from_secs(86_400 * 365);

/// How much longer than the connection itself whoever closes it waits for the end.
const GRACE: Duration = Duration::from_secs(1);

/// The layer above, which the link tells what comes. All calls are made by the one task of the link, in order, and
/// must not block.
pub(crate) trait Upper: Send + Sync + 'static {
    /// A message for a consumer. What comes back is sent.
    fn dispatch(&self, dispatch: MessageDispatch) -> Result<Option<MessageAck>>;
    /// Room in the window of a producer.
    fn producer_ack(&self, ack: &ProducerAck);
    /// The broker changes or closes a consumer.
    fn consumer_control(&self, control: &ConsumerControl);
    /// The broker introduces itself.
    fn broker_info(&self, info: BrokerInfo);
    /// A command that asked for no answer failed.
    fn broker_error(&self, error: Error);
    /// A new broker refused what the old one had accepted.
    fn not_restored(&self, entity: &EntityId, error: Error);
    /// A connection was made and accepted.
    fn opened(&self, format: &WireFormat);
    /// The connection broke: what came over it and was not acknowledged will come again. `connection` is the number
    /// of the next one.
    fn interrupted(&self, connection: u64);
    /// The connection is over.
    fn closed(&self, cause: &Error);
    /// Something that users may want to know.
    fn event(&self, event: Event);
}

/// What the handles and the supervisor have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    outbox: Outbox,
    /// Number of the physical connection, from 1; it changes when one breaks.
    connection: AtomicU64,
    /// How the connection is to be closed, once it is.
    closing: watch::Sender<Option<Closing>>,
    /// Wakes the supervisor to make another connection now.
    reconnect: Notify,
    /// Locked for a look or a note, never while another lock is held or for longer than that.
    endpoints: Mutex<Endpoints>,
    /// What came of it, when the supervisor is done.
    done: watch::Sender<Option<Ended>>,
}

/// How a connection is to be closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closing {
    /// It is over then, whatever is missing.
    until: Instant,
    /// Everything is to be answered first, by another broker if there is a break.
    thorough: bool,
}

impl Closing {
    /// How long another connection is waited for.
    fn without_connection(&self) -> Instant {
        match self.thorough {
            true => self.until,
            false => Instant::now(),
        }
    }
}

/// How a connection has ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) unfinished: Unfinished,
    /// Why, unless it was closed from this side.
    pub(crate) cause: Option<Error>,
}

impl Shared {
    fn connection(&self) -> u64 {
        self.connection.load(Ordering::Acquire)
    }

    fn next_connection(&self) -> u64 {
        self.connection.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn is_thorough(&self) -> bool {
        self.closing.borrow().is_some_and(|closing| closing.thorough)
    }

    /// Waits until the connection is to be closed and that has taken long enough.
    async fn closing_expired(&self, end: impl Fn(&Closing) -> Instant) {
        let mut closing = self.closing.subscribe();
        loop {
            let until = closing.borrow_and_update().as_ref().map(&end);
            let expired = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = expired => return,
                // It cannot be dropped while this is borrowed.
                _ = closing.changed() => {}
            }
        }
    }
}

/// Whether the broker shall answer a message.
#[derive(Debug)]
pub(crate) enum Answer {
    None,
    /// With the share of what may be unanswered, given back with the answer.
    Wanted(Option<Share>),
}

/// The handle of a logical connection. Dropping it closes the connection without waiting.
#[derive(Debug)]
pub(crate) enum Link {
    /// To one broker at a time.
    Single(Single),
    /// To all brokers at once.
    Fanout(Fanout),
}

impl Link {
    /// It is to all brokers at once.
    pub(crate) fn is_fanout(&self) -> bool {
        matches!(self, Self::Fanout(_))
    }

    /// Number of the physical connection, for [`Guard::Connection`]: that over which messages come.
    pub(crate) fn connection(&self) -> u64 {
        match self {
            Self::Single(link) => link.connection(),
            Self::Fanout(link) => link.connection(),
        }
    }

    /// Sends a command that asks for no answer, without waiting for room: only for what is few or bounded by
    /// something else, such as acknowledgements.
    ///
    /// # Errors
    ///
    /// The connection is closed.
    pub(crate) fn post(&self, command: impl Into<Command>, guard: Guard) -> Result<()> {
        match self {
            Self::Single(link) => link.post(command, guard),
            Self::Fanout(link) => link.post(command.into(), guard),
        }
    }

    /// Sends a command that asks for an answer, as soon as there is room. The answer comes by the receipt.
    ///
    /// Cancel safe: a command whose future was dropped is not sent.
    ///
    /// # Errors
    ///
    /// The connection is closed.
    pub(crate) async fn request(&self, command: impl Into<Command>, guard: Guard) -> Result<Receipt> {
        match self {
            Self::Single(link) => link.request(command, guard).await,
            Self::Fanout(link) => link.request(command.into(), guard).await,
        }
    }

    /// Sends a message that asks for an answer if `answer` says so; see [`Outbox::push`] for `number`.
    ///
    /// Cancel safe: a message whose future was dropped is not sent.
    ///
    /// # Errors
    ///
    /// The connection is closed.
    pub(crate) async fn send_message(
        &self,
        message: Arc<Message>,
        guard: Guard,
        answer: Answer,
        number: impl FnMut(&mut Message),
    ) -> Result<Option<Receipt>> {
        match self {
            Self::Single(link) => link.send_message(message, guard, answer, number).await,
            Self::Fanout(link) => link.send_message(message, guard, answer, number).await,
        }
    }

    /// As [`request`](Self::request) without waiting for room, for what must follow something that was posted.
    ///
    /// # Errors
    ///
    /// The connection is closed.
    pub(crate) fn post_request(&self, command: impl Into<Command>, guard: Guard) -> Result<Receipt> {
        match self {
            Self::Single(link) => link.post_request(command, guard),
            Self::Fanout(link) => link.post_request(command.into(), guard),
        }
    }

    /// Somebody has given up waiting for an answer, which the link may be waiting for as well.
    pub(crate) fn wake(&self) {
        match self {
            Self::Single(link) => link.wake(),
            Self::Fanout(link) => link.wake(),
        }
    }

    /// Has another connection made, at once; of a fanout to each broker.
    pub(crate) fn reconnect_now(&self) {
        match self {
            Self::Single(link) => link.reconnect_now(),
            Self::Fanout(link) => link.reconnect_now(),
        }
    }

    /// Every known address.
    pub(crate) fn endpoints(&self) -> Vec<EndpointStatus> {
        match self {
            Self::Single(link) => link.endpoints(),
            Self::Fanout(link) => link.endpoints(),
        }
    }

    /// Takes leave of the broker and ends the connection, within `limit`. If `thorough`, everything is to be answered
    /// first; otherwise only what somebody waits for, and only if there is a connection. None says that the time has
    /// passed and the end did not come.
    ///
    /// Cancel safe: if the future is dropped the connection ends without further waiting.
    pub(crate) async fn close(&self, last_delivered: i64, limit: Duration, thorough: bool) -> Option<Ended> {
        match self {
            Self::Single(link) => link.close(last_delivered, limit, thorough).await,
            Self::Fanout(link) => link.close(last_delivered, limit, thorough).await,
        }
    }

    /// Waits for the end of a connection that is being closed.
    pub(crate) async fn ended(&self, limit: Duration) -> Option<Ended> {
        match self {
            Self::Single(link) => link.ended(limit).await,
            Self::Fanout(link) => link.ended(limit).await,
        }
    }
}

/// A connection to one broker at a time. Dropping it closes the connection without waiting.
#[derive(Debug)]
pub(crate) struct Single {
    shared: Arc<Shared>,
    connection_id: ConnectionId,
    close_timeout: Duration,
}

impl Single {
    /// Starts the task that connects. The receiver gets the outcome of the first attempt (or attempts).
    ///
    /// # Errors
    ///
    /// There is no tokio runtime.
    pub(crate) fn start(
        config: Config,
        upper: Arc<dyn Upper>,
    ) -> Result<(Self, oneshot::Receiver<Result<()>>)> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| Error::new(ErrorKind::IllegalState, error.to_string()).with_source(error))?;
        let shared = Arc::new(Shared {
            // The connection's info has the first number.
            outbox: Outbox::new(1),
            connection: AtomicU64::new(1),
            closing: watch::Sender::new(None),
            reconnect: Notify::new(),
            endpoints: Mutex::new(Endpoints::new(config.endpoints.clone(), config.failover.as_ref())),
            done: watch::Sender::new(None),
        });
        let close_timeout = config.close_timeout;
        let connection_id = config.connection_info.connection_id.clone().unwrap_or_default();
        let (ready, receiver) = oneshot::channel();
        runtime.spawn(Supervisor::new(config, shared.clone(), upper).run(ready));
        Ok((
            Self {
                shared,
                connection_id,
                close_timeout,
            },
            receiver,
        ))
    }

    fn reconnect_now(&self) {
        self.shared.reconnect.notify_one();
    }

    fn endpoints(&self) -> Vec<EndpointStatus> {
        self.shared.endpoints.lock().status()
    }

    fn connection(&self) -> u64 {
        self.shared.connection()
    }

    fn post(&self, command: impl Into<Command>, guard: Guard) -> Result<()> {
        let item = Item {
            command: command.into(),
            reply: None,
            guard,
        };
        self.shared.outbox.post(item)
    }

    async fn request(&self, command: impl Into<Command>, guard: Guard) -> Result<Receipt> {
        let (reply, receiver) = oneshot::channel();
        let item = Item {
            command: command.into(),
            reply: Some(Reply::new(reply, None)),
            guard,
        };
        self.shared.outbox.push(item, |_| {}).await?;
        Ok(Receipt::new(receiver))
    }

    async fn send_message(
        &self,
        message: Arc<Message>,
        guard: Guard,
        answer: Answer,
        mut number: impl FnMut(&mut Message),
    ) -> Result<Option<Receipt>> {
        let (reply, receipt) = match answer {
            Answer::None => (None, None),
            Answer::Wanted(share) => {
                let (reply, receiver) = oneshot::channel();
                (Some(Reply::new(reply, share)), Some(Receipt::new(receiver)))
            }
        };
        let item = Item {
            command: Command::Message(message),
            reply,
            guard,
        };
        let number = |command: &mut Command| {
            if let Command::Message(message) = command {
                number(Arc::make_mut(message));
            }
        };
        self.shared.outbox.push(item, number).await?;
        Ok(receipt)
    }

    fn post_request(&self, command: impl Into<Command>, guard: Guard) -> Result<Receipt> {
        let (reply, receiver) = oneshot::channel();
        let item = Item {
            command: command.into(),
            reply: Some(Reply::new(reply, None)),
            guard,
        };
        self.shared.outbox.post(item)?;
        Ok(Receipt::new(receiver))
    }

    fn wake(&self) {
        self.shared.outbox.wake();
    }

    async fn close(&self, last_delivered: i64, limit: Duration, thorough: bool) -> Option<Ended> {
        let farewell = farewell(&self.connection_id, last_delivered);
        let receipt = self.post_request(farewell, Guard::Connection(self.connection()));
        // Nothing may follow the farewell.
        self.shut(limit, thorough);
        let cancelled = Cancelled(self);
        // The connection waits for the answer as long as somebody here does.
        let ended = self.ended(limit).await;
        drop(receipt);
        drop(cancelled);
        ended
    }

    async fn ended(&self, limit: Duration) -> Option<Ended> {
        let mut done = self.shared.done.subscribe();
        // The supervisor keeps to the limit by itself; this is for a machine that does not let it.
        let end = Instant::now().checked_add(limit.saturating_add(GRACE));
        let ended = timeout_at(end, done.wait_for(Option::is_some)).await;
        ended.ok()??.ok()?.clone()
    }

    fn shut(&self, limit: Duration, thorough: bool) {
        self.shared
            .outbox
            .close(Error::new(ErrorKind::Closed, "the connection is closed"));
        let now = Instant::now();
        let until = now.checked_add(limit).unwrap_or(now + FAR);
        self.shared
            .closing
            .send_replace(Some(Closing { until, thorough }));
    }
}

/// Whoever closes the connection does not wait for it any more.
struct Cancelled<'a>(&'a Single);

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        self.0.shut(self.0.close_timeout, false);
    }
}

impl Drop for Single {
    fn drop(&mut self) {
        if self.shared.closing.borrow().is_some() {
            return;
        }
        let _ = self.post(
            farewell(&self.connection_id, RemoveInfo::UNKNOWN_DELIVERED),
            Guard::Connection(self.connection()),
        );
        self.shut(self.close_timeout, false);
    }
}

/// The command that takes leave of a broker.
fn farewell(connection: &ConnectionId, last_delivered: i64) -> RemoveInfo {
    RemoveInfo {
        object_id: Some(EntityId::Connection(connection.clone())),
        last_delivered_sequence_id: last_delivered,
        ..RemoveInfo::default()
    }
}
