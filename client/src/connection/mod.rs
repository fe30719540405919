//! JMS `Connection`.

pub(crate) mod advisories;
mod hub;
pub(crate) mod ids;
mod metadata;
pub(crate) mod progress;
pub(crate) mod stats;
pub(crate) mod temporary;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use hub::Hub;
pub use metadata::ConnectionMetadata;
pub use stats::ConnectionStats;

use crate::advisory::{Advisories, DestinationSource, topics};
use crate::deadline::timeout_at;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{ConnectionState, Events};
use crate::link::{Ended, EndpointStatus, Guard, Link, Receipt};
use crate::options::ConnectionOptions;
use crate::schedule::Scheduler;
use crate::session::{AcknowledgeMode, Session, SessionInner};
use crate::wire::{Command, ConnectionId, Destination, DestinationInfo, RemoveInfo, SessionId};
use crate::xa::XaSession;

/// A connection to a broker, or to one of several, one after the other (JMS `Connection`).
///
/// Made by [`ConnectionFactory::create_connection`](crate::ConnectionFactory::create_connection). A clone is another
/// handle of the same connection.
///
/// When the last handle is gone, sessions, producers and consumers included, the connection is closed without waiting:
/// messages that were sent without waiting for the broker may be lost then. [`close`](Self::close) waits.
#[derive(Debug, Clone)]
pub struct Connection {
    inner: Arc<ConnectionInner>,
}

#[derive(Debug)]
pub(crate) struct ConnectionInner {
    pub(crate) link: Link,
    pub(crate) hub: Arc<Hub>,
    pub(crate) id: ConnectionId,
    pub(crate) client_id: Arc<str>,
    pub(crate) options: ConnectionOptions,
    /// A broken connection is followed by another one.
    pub(crate) survives_breaks: bool,
    /// The failover option `timeout`.
    pub(crate) send_patience: Option<Duration>,
    pub(crate) sessions: Mutex<Vec<Weak<SessionInner>>>,
    pub(crate) numbers: Numbers,
    pub(crate) closed: AtomicBool,
}

/// The counters of a connection.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    session: AtomicI64,
    transaction: AtomicI64,
    temporary: AtomicI64,
}

fn next(counter: &AtomicI64) -> i64 {
    counter.fetch_add(1, Ordering::Relaxed) + 1
}

impl Connection {
    /// Called within the runtime of the connection.
    pub(crate) fn new(inner: ConnectionInner) -> Self {
        if let Some(patience) = progress::Patience::of(&inner.options) {
            tokio::spawn(progress::run(inner.hub.clone(), patience));
        }
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Lets messages be delivered (`start`). A new connection delivers none.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// Does not wait.
    pub async fn start(&self) -> Result<()> {
        self.inner.check_open()?;
        self.inner.hub.set_started(true);
        Ok(())
    }

    /// Lets no more messages be delivered until [`start`](Self::start) (`stop`). They wait. A message that a listener has
    /// in hand is not waited for.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// Does not wait.
    pub async fn stop(&self) -> Result<()> {
        self.inner.check_open()?;
        self.inner.hub.set_started(false);
        Ok(())
    }

    /// A session (`createSession`).
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// Does not wait: the broker does not answer this.
    pub async fn create_session(&self, mode: AcknowledgeMode) -> Result<Session> {
        self.inner.check_open()?;
        let session = Session::new(self.inner.clone(), self.inner.next_session(), mode)?;
        self.inner.keep(&session);
        Ok(session)
    }

    /// A session whose work is part of distributed transactions (`XAConnection.createXASession`).
    ///
    /// # Errors
    ///
    /// [`is_unsupported`](Error::is_unsupported) on a `fanout:` connection, whose brokers cannot vote as one;
    /// [`is_closed`](Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// Does not wait: the broker does not answer this.
    pub async fn create_xa_session(&self) -> Result<XaSession> {
        self.inner.check_open()?;
        if self.inner.link.is_fanout() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a fanout: connection has no distributed transactions: its brokers cannot vote as one",
            ));
        }
        let session = XaSession::new(self.inner.clone(), self.inner.next_session())?;
        self.inner.keep(session.session());
        Ok(session)
    }

    /// Listens to what the broker tells on one of the [`topics`](crate::advisory::topics) of advisories, or several.
    ///
    /// # Errors
    ///
    /// [`is_invalid_destination`](Error::is_invalid_destination) for another topic; what the broker answers;
    /// [`is_timeout`](Error::is_timeout); [`is_closed`](Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped nothing is listened to.
    pub async fn advisories(&self, topic: &Destination) -> Result<Advisories> {
        let session = self.create_session(AcknowledgeMode::Auto).await?;
        Advisories::new(session, topic).await
    }

    /// Keeps a list of the broker's destinations (`getDestinationSource`).
    ///
    /// # Errors
    ///
    /// As [`advisories`](Self::advisories); [`is_illegal_state`](Error::is_illegal_state) outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped there is no list.
    pub async fn destinations(&self) -> Result<DestinationSource> {
        DestinationSource::start(self.advisories(&topics::all_destinations()).await?)
    }

    /// Looks at and removes the messages that the broker is to deliver later.
    ///
    /// # Errors
    ///
    /// As [`Session::create_producer`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped there is none.
    pub async fn scheduler(&self) -> Result<Scheduler> {
        Scheduler::new(self.create_session(AcknowledgeMode::Auto).await?).await
    }

    /// The client id (`getClientID`): the one that was set, or a generated one.
    pub fn client_id(&self) -> &str {
        &self.inner.client_id
    }

    /// The id of the connection at the broker.
    pub fn id(&self) -> &ConnectionId {
        &self.inner.id
    }

    /// Who is at the other end (`getMetaData`).
    pub fn metadata(&self) -> ConnectionMetadata {
        self.inner.hub.metadata()
    }

    /// What happens to the connection, as a stream that begins with what led to its present state. Each call gives a stream
    /// of its own.
    pub fn events(&self) -> Events {
        self.inner.hub.publisher.subscribe()
    }

    /// Where the connection stands, to be looked at or waited for.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.inner.hub.publisher.state()
    }

    /// What the connection has done so far.
    pub fn stats(&self) -> ConnectionStats {
        self.inner.hub.counters.snapshot()
    }

    /// Every address that is known for this connection: those of the URI and those learnt since, from brokers, from
    /// `updateURIsURL` and from discovery, in the order in which they are tried without `randomize`.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.inner.link.endpoints()
    }

    /// Makes a new connection at once. One that waits for its next attempt waits no longer, and an attempt that is under
    /// way begins anew; a live connection is left for another one, for instance because the credentials were changed.
    /// What is on its way then is answered first if the broker does so within 2 seconds; transactions that consumed
    /// something are rolled back, as with every break.
    ///
    /// Does not wait: [`state`](Self::state) and [`events`](Self::events) tell how it goes.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed); [`is_illegal_state`](Error::is_illegal_state) if the URI allows no second
    /// connection.
    pub fn reconnect_now(&self) -> Result<()> {
        self.inner.check_open()?;
        if !self.inner.survives_breaks {
            return Err(Error::new(
                ErrorKind::IllegalState,
                "there is no failover, so there is no other connection",
            ));
        }
        self.inner.link.reconnect_now();
        Ok(())
    }

    /// Deletes a queue or topic at the broker, with the messages in it (`ActiveMQConnection.destroyDestination`).
    ///
    /// # Errors
    ///
    /// What the broker answers: that consumers are still there, or [`is_security`](Error::is_security);
    /// [`is_timeout`](Error::is_timeout); [`is_closed`](Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the destination may be gone or not.
    pub async fn destroy_destination(&self, destination: &Destination) -> Result<()> {
        self.inner.check_open()?;
        let info = DestinationInfo {
            connection_id: Some(self.inner.id.clone()),
            destination: Some(destination.clone()),
            operation_type: DestinationInfo::REMOVE,
            ..DestinationInfo::default()
        };
        self.inner.call(info).await.map(drop)
    }

    /// Closes the connection with its sessions (`close`): open transactions are rolled back, messages that were sent
    /// without waiting are written, temporary destinations end.
    ///
    /// Takes no longer than `jms.closeTimeout`; to run out of it is no error, and neither is a connection that is broken:
    /// another one is not waited for. [`close_within`](Self::close_within) is for those who want to know.
    ///
    /// # Errors
    ///
    /// None today; closing twice is fine.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the connection ends without further waiting.
    pub async fn close(&self) -> Result<()> {
        self.inner.close(self.inner.options.close_timeout, false).await;
        Ok(())
    }

    /// Closes the connection with its sessions as [`close`](Self::close) does, once everything is out: every message that
    /// was handed over is sent, and answered if it asked for that, acknowledgements are with the broker, and transactions
    /// are rolled back there. Nothing new is taken in meanwhile.
    ///
    /// If the connection breaks, or is broken, a `failover:` connection is waited for within the time: what waits goes to
    /// the next broker. In any case the connection is over when this returns, and every [`Receipt`](crate::Receipt) has its
    /// answer.
    ///
    /// # Errors
    ///
    /// If something was not out in time, [`is_timeout`](Error::is_timeout), or what ended the connection before. What it
    /// was is told by [`unfinished`](Error::unfinished).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the connection ends without further waiting.
    pub async fn close_within(&self, limit: Duration) -> Result<()> {
        let Some(ended) = self.inner.close(limit, true).await else {
            return Err(no_end(limit));
        };
        if ended.unfinished.is_nothing() {
            return Ok(());
        }
        Err(ended
            .cause
            .unwrap_or_else(|| no_end(limit))
            .with_unfinished(ended.unfinished))
    }
}

fn no_end(limit: Duration) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("the connection was closed after {limit:?} without everything being out"),
    )
}

impl ConnectionInner {
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the connection is closed"));
        }
        Ok(())
    }

    /// Refuses to consume from a temporary destination of another connection, which a broker would let through.
    pub(crate) fn check_owner(&self, destination: &Destination) -> Result<()> {
        let owner = destination.name().rsplit_once(':').map(|(owner, _)| owner);
        if !destination.is_temporary() || owner == Some(self.id.as_str()) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidDestination,
            format!("{destination} belongs to another connection, which alone may consume from it"),
        ))
    }

    fn next_session(&self) -> SessionId {
        SessionId {
            connection_id: self.id.value.clone(),
            value: next(&self.numbers.session),
        }
    }

    /// The session is closed with the connection.
    fn keep(&self, session: &Session) {
        let mut sessions = self.sessions.lock();
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(Arc::downgrade(session.inner()));
    }

    pub(crate) fn next_transaction(&self) -> i64 {
        next(&self.numbers.transaction)
    }

    pub(crate) fn next_temporary(&self) -> i64 {
        next(&self.numbers.temporary)
    }

    /// How many bytes a compressed body may inflate to.
    pub(crate) fn inflated_limit(&self) -> usize {
        let limit = self.hub.max_frame_size() as f64 * self.options.max_inflated_data_size_ratio;
        // The conversion saturates.
        limit as usize
    }

    /// When a request that is made now has waited long enough.
    pub(crate) fn request_deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.options.request_timeout?)
    }

    /// Sends a request and waits for its answer, for `requestTimeout` at most.
    pub(crate) async fn call(&self, command: impl Into<Command>) -> Result<Command> {
        let command = command.into();
        within(self.options.request_timeout, async {
            self.link.request(command, Guard::Always).await?.await
        })
        .await
    }

    /// Waits for the answer to a request, for `requestTimeout` at most.
    pub(crate) async fn answer(&self, receipt: Receipt) -> Result<Command> {
        within(self.options.request_timeout, receipt).await
    }

    /// Waits for a connection as long as the failover option `timeout` allows.
    pub(crate) async fn wait_connected(&self) -> Result<()> {
        let Some(limit) = self.send_patience else {
            return Ok(());
        };
        let mut state = self.hub.publisher.state();
        if *state.borrow() != ConnectionState::Interrupted {
            return Ok(());
        }
        let end = Instant::now().checked_add(limit);
        match timeout_at(
            end,
            state.wait_for(|state| *state != ConnectionState::Interrupted),
        )
        .await?
        {
            Some(_) => Ok(()),
            None => Err(Error::new(
                ErrorKind::Timeout,
                format!("there was no connection to a broker for {limit:?}"),
            )),
        }
    }

    /// Closes the sessions and then the connection. None says that it did not end in time.
    async fn close(&self, limit: Duration, thorough: bool) -> Option<Ended> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return self.link.ended(limit).await;
        }
        let began = Instant::now();
        let sessions: Vec<_> = self
            .sessions
            .lock()
            .drain(..)
            .filter_map(|session| session.upgrade())
            .collect();
        let closing = join_all(sessions.iter().map(|session| session.close()));
        let last = match timeout_at(began.checked_add(limit), closing).await {
            Ok(Some(last)) => last.into_iter().max(),
            _ => None,
        };
        let left = limit.saturating_sub(began.elapsed());
        self.link
            .close(last.unwrap_or(RemoveInfo::NOTHING_DELIVERED), left, thorough)
            .await
    }
}

/// Waits no longer than `limit`.
pub(crate) async fn within<T>(limit: Option<Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = pin!(work);
    // Most of what is asked for is done at once, and needs neither clock nor timer.
    if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
        return result;
    }
    let Some(limit) = limit else {
        return work.await;
    };
    match timeout_at(Instant::now().checked_add(limit), work).await? {
        Some(result) => result,
        None => Err(no_answer(limit)),
    }
}

pub(crate) fn no_answer(limit: Duration) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("the broker did not answer within {limit:?}"),
    )
}
