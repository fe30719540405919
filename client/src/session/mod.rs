//! JMS `Session`.

mod completing;
mod inner;
mod subscribe;

use std::sync::Arc;

pub(crate) use inner::SessionInner;

use crate::connection::ConnectionInner;
use crate::connection::temporary::TemporaryDestination;
use crate::consumer::{Browser, Consumer, ConsumerOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::producer::Producer;
use crate::wire::{Destination, DestinationKind, RemoveSubscriptionInfo, SessionId};
use crate::xa::Enlisted;
use completing::Step;
use subscribe::Kind;

/// When a received message counts as consumed (the modes of JMS `Session`, and ActiveMQ's `INDIVIDUAL_ACKNOWLEDGE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AcknowledgeMode {
    /// `AUTO_ACKNOWLEDGE`: when it is returned from `receive`, or when the listener has returned.
    #[default]
    Auto,
    /// `CLIENT_ACKNOWLEDGE`: when [`Message::acknowledge`](crate::Message::acknowledge) is called on it or on a later
    /// message of the session.
    Client,
    /// `DUPS_OK_ACKNOWLEDGE`: as [`Auto`](Self::Auto), for topics in batches.
    DupsOk,
    /// `INDIVIDUAL_ACKNOWLEDGE`: when [`Message::acknowledge`](crate::Message::acknowledge) is called on it.
    Individual,
    /// `SESSION_TRANSACTED`: when the session commits.
    Transacted,
}

impl AcknowledgeMode {
    /// Nobody has to ask for it.
    pub(crate) fn is_automatic(self) -> bool {
        matches!(self, Self::Auto | Self::DupsOk)
    }
}

/// Makes producers and consumers, and holds a transaction together (JMS `Session`).
///
/// Made by [`Connection::create_session`](crate::Connection::create_session). A clone is another handle of the same
/// session. Its producers and consumers may be used from different tasks; a transaction is everything the session does
/// between two calls of [`commit`](Self::commit) or [`rollback`](Self::rollback), whoever does it.
///
/// When the last handle is gone, producers and consumers included, the session is closed without waiting, and an open
/// transaction is rolled back.
#[derive(Debug, Clone)]
pub struct Session {
    inner: Arc<SessionInner>,
}

impl Session {
    pub(crate) fn new(
        connection: Arc<ConnectionInner>,
        id: SessionId,
        mode: AcknowledgeMode,
    ) -> Result<Self> {
        Ok(Self {
            inner: Arc::new(SessionInner::new(connection, id, mode, None)?),
        })
    }

    /// One that works in branches of distributed transactions.
    pub(crate) fn enlisted(
        connection: Arc<ConnectionInner>,
        id: SessionId,
        mode: AcknowledgeMode,
    ) -> Result<Self> {
        let enlisted = Some(Enlisted::default());
        Ok(Self {
            inner: Arc::new(SessionInner::new(connection, id, mode, enlisted)?),
        })
    }

    pub(crate) fn inner(&self) -> &Arc<SessionInner> {
        &self.inner
    }

    /// The mode (`getAcknowledgeMode`); of an XA session, that outside of a branch.
    pub fn acknowledge_mode(&self) -> AcknowledgeMode {
        self.inner.mode
    }

    /// True if the session has transactions (`getTransacted`). An XA session with `jms.xaAckMode` has them while it works on a
    /// branch.
    pub fn is_transacted(&self) -> bool {
        self.inner.mode == AcknowledgeMode::Transacted
            || self.inner.enlisted.as_ref().is_some_and(Enlisted::is_working)
    }

    /// A producer for one destination (`createProducer`).
    ///
    /// # Errors
    ///
    /// What the broker answers, for instance [`is_security`](Error::is_security);
    /// [`is_timeout`](Error::is_timeout) if it does not; [`is_closed`](Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped there is no producer.
    pub async fn create_producer(&self, destination: &Destination) -> Result<Producer> {
        Producer::create(self.inner.clone(), Some(destination.clone())).await
    }

    /// A producer whose messages each name their destination (`createProducer(null)`).
    ///
    /// # Errors
    ///
    /// As [`create_producer`](Self::create_producer).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped there is no producer.
    pub async fn create_anonymous_producer(&self) -> Result<Producer> {
        Producer::create(self.inner.clone(), None).await
    }

    /// A consumer (`createConsumer`).
    ///
    /// # Errors
    ///
    /// What the broker answers, for instance [`is_security`](Error::is_security);
    /// [`is_invalid_destination`](Error::is_invalid_destination) for a temporary destination of another connection;
    /// [`is_uri`](Error::is_uri) for an unknown `consumer.*` option of the destination;
    /// [`is_timeout`](Error::is_timeout); [`is_closed`](Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped there is no consumer.
    pub async fn create_consumer(&self, destination: &Destination) -> Result<Consumer> {
        self.create_consumer_with(destination, ConsumerOptions::default())
            .await
    }

    /// A consumer with a selector or other options (`createConsumer(Destination, String, boolean)`).
    ///
    /// # Errors
    ///
    /// As [`create_consumer`](Self::create_consumer), and [`is_invalid_selector`](Error::is_invalid_selector).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped there is no consumer.
    pub async fn create_consumer_with(
        &self,
        destination: &Destination,
        options: ConsumerOptions,
    ) -> Result<Consumer> {
        let subscribed = self.inner.subscribe(destination, options, Kind::Plain).await?;
        Ok(Consumer::new(subscribed))
    }

    /// A subscription of a topic that keeps what arrives while nobody consumes from it (`createDurableSubscriber`). It
    /// belongs to the client id, which has to be given (`jms.clientID`, or
    /// [`ConnectionFactory::client_id`](crate::ConnectionFactory::client_id)), and lives until
    /// [`unsubscribe`](Self::unsubscribe); closing the consumer only leaves it. The same name with another topic or selector
    /// replaces it.
    ///
    /// Over a `failover:` connection the new broker is told of it as of any consumer.
    ///
    /// # Errors
    ///
    /// [`is_illegal_state`](Error::is_illegal_state) without a client id; [`is_invalid`](Error::is_invalid) for an empty
    /// name; [`is_invalid_destination`](Error::is_invalid_destination) for what is no topic, or a temporary one; and as
    /// [`create_consumer`](Self::create_consumer).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped there is no consumer; the subscription may exist.
    pub async fn create_durable_subscriber(&self, topic: &Destination, name: &str) -> Result<Consumer> {
        self.create_durable_subscriber_with(topic, name, ConsumerOptions::default())
            .await
    }

    /// A durable subscription with a selector or other options (`createDurableSubscriber(Topic, String, String, boolean)`).
    ///
    /// # Errors
    ///
    /// As [`create_durable_subscriber`](Self::create_durable_subscriber), and
    /// [`is_invalid_selector`](Error::is_invalid_selector).
    ///
    /// # Cancel safety
    ///
    /// As [`create_durable_subscriber`](Self::create_durable_subscriber).
    pub async fn create_durable_subscriber_with(
        &self,
        topic: &Destination,
        name: &str,
        options: ConsumerOptions,
    ) -> Result<Consumer> {
        self.inner.check_durable(name)?;
        if !topic.is_topic() || topic.is_temporary() {
            return Err(Error::new(
                ErrorKind::InvalidDestination,
                format!("{topic} cannot have a durable subscription: only a topic that lasts can"),
            ));
        }
        let subscribed = self.inner.subscribe(topic, options, Kind::Durable(name)).await?;
        Ok(Consumer::new(subscribed))
    }

    /// Ends a durable subscription (`unsubscribe`), which nobody may be consuming from.
    ///
    /// # Errors
    ///
    /// What the broker answers: [`is_invalid_destination`](Error::is_invalid_destination) if there is none of that name;
    /// another error of the broker if it is in use. [`is_illegal_state`](Error::is_illegal_state) without a client id;
    /// [`is_timeout`](Error::is_timeout); [`is_closed`](Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the subscription may be gone or not.
    pub async fn unsubscribe(&self, name: &str) -> Result<()> {
        self.inner.check_durable(name)?;
        let connection = &self.inner.connection;
        let info = RemoveSubscriptionInfo {
            connection_id: Some(connection.id.clone()),
            client_id: Some(connection.client_id.clone()),
            subscription_name: Some(name.into()),
            ..RemoveSubscriptionInfo::default()
        };
        connection.call(info).await.map(drop)
    }

    /// Looks at the messages of a queue without consuming them (`createBrowser`).
    ///
    /// # Errors
    ///
    /// As [`create_consumer`](Self::create_consumer); [`is_invalid_destination`](Error::is_invalid_destination) for a topic.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped there is no browser.
    pub async fn create_browser(&self, queue: &Destination) -> Result<Browser> {
        self.create_browser_with(queue, ConsumerOptions::default()).await
    }

    /// A browser with a selector or another prefetch (`createBrowser(Queue, String)`); the other options mean nothing to it.
    ///
    /// # Errors
    ///
    /// As [`create_browser`](Self::create_browser), and [`is_invalid_selector`](Error::is_invalid_selector).
    ///
    /// # Cancel safety
    ///
    /// As [`create_browser`](Self::create_browser).
    pub async fn create_browser_with(
        &self,
        queue: &Destination,
        options: ConsumerOptions,
    ) -> Result<Browser> {
        if !queue.is_queue() {
            return Err(Error::new(
                ErrorKind::InvalidDestination,
                format!("{queue} cannot be browsed: only a queue can"),
            ));
        }
        let subscribed = self.inner.subscribe(queue, options, Kind::Browser).await?;
        Ok(Browser::new(subscribed))
    }

    /// A queue that lives as long as the connection, or until it is deleted (`createTemporaryQueue`). Only this
    /// connection may consume from it; everybody may send to it.
    ///
    /// # Errors
    ///
    /// What the broker answers; [`is_timeout`](Error::is_timeout); [`is_closed`](Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the queue may exist until the connection ends.
    pub async fn create_temporary_queue(&self) -> Result<TemporaryDestination> {
        self.inner.check_open()?;
        TemporaryDestination::create(&self.inner.connection, DestinationKind::TempQueue).await
    }

    /// A topic that lives as long as the connection, or until it is deleted (`createTemporaryTopic`).
    ///
    /// # Errors
    ///
    /// As [`create_temporary_queue`](Self::create_temporary_queue).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the topic may exist until the connection ends.
    pub async fn create_temporary_topic(&self) -> Result<TemporaryDestination> {
        self.inner.check_open()?;
        TemporaryDestination::create(&self.inner.connection, DestinationKind::TempTopic).await
    }

    /// Commits the transaction and begins another (`commit`). Without work since the last one there is nothing to do.
    ///
    /// An open transaction survives the break of a `failover:` connection, several of them as well: what it sent is sent
    /// again, and what it received is not shown a second time when the broker delivers it again, which must happen before
    /// the commit. The commit waits for that, as long as
    /// [`consumer_failover_redelivery_wait_period`](crate::options::ConnectionOptions::consumer_failover_redelivery_wait_period)
    /// allows. A message that another consumer gets instead, or that came from a topic without a durable subscription or
    /// from a temporary queue, does not come again: as with ActiveMQ's client, the transaction is rolled back then.
    ///
    /// If the connection breaks before the answer comes, a broker that keeps the outcomes of transactions, such as
    /// broker-lite, is asked what has happened, and a commit that has not is tried again. All of that takes no longer than
    /// [`request_timeout`](crate::options::ConnectionOptions::request_timeout).
    ///
    /// # Errors
    ///
    /// * [`is_rolled_back`](Error::is_rolled_back): nothing of it happened, and what it received is delivered again.
    /// * [`is_in_doubt`](Error::is_in_doubt): the commit was sent and not answered, and no broker could tell its outcome.
    ///   See [`CommitInDoubt`](crate::CommitInDoubt).
    /// * [`is_timeout`](Error::is_timeout): another commit or rollback of this session took too long, and this one has not
    ///   begun: the transaction is still open.
    /// * [`is_illegal_state`](Error::is_illegal_state) for a session that is not transacted.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: if the future is dropped the transaction is rolled back, unless its commit is on its way. Then the
    /// outcome is not known, as for [`CommitInDoubt`](crate::CommitInDoubt).
    #[tracing::instrument(
        level = "debug",
        skip_all,
        fields(session = %self.inner.id, broker = self.inner.connection.hub.publisher.broker())
    )]
    pub async fn commit(&self) -> Result<()> {
        self.inner.check_transacted()?;
        self.inner.complete(Step::Commit).await
    }

    /// Rolls the transaction back and begins another (`rollback`): what it sent is gone, and what it received is
    /// delivered again, after the delay of the [`RedeliveryPolicy`](crate::options::RedeliveryPolicy).
    ///
    /// # Errors
    ///
    /// [`is_timeout`](Error::is_timeout) if the broker does not answer; the transaction is gone nevertheless.
    /// [`is_illegal_state`](Error::is_illegal_state) for a session that is not transacted.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the transaction is rolled back nevertheless.
    pub async fn rollback(&self) -> Result<()> {
        self.inner.check_transacted()?;
        self.inner.complete(Step::RollBack).await
    }

    /// Delivers again what was delivered and not acknowledged (`recover`).
    ///
    /// # Errors
    ///
    /// [`is_illegal_state`](Error::is_illegal_state) for a transacted session.
    ///
    /// # Cancel safety
    ///
    /// Does not wait.
    pub async fn recover(&self) -> Result<()> {
        self.inner.check_open()?;
        if self.is_transacted() {
            return Err(Error::new(
                ErrorKind::IllegalState,
                "a transacted session rolls back instead",
            ));
        }
        self.inner
            .consumers()
            .iter()
            .try_for_each(|mailbox| mailbox.recover(self.inner.out()))
    }

    /// Closes the session with its producers and consumers (`close`). An open transaction is rolled back; messages that
    /// were not acknowledged go back.
    ///
    /// # Errors
    ///
    /// None today; closing twice is fine.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the session is closed when its last handle is.
    pub async fn close(&self) -> Result<()> {
        self.inner.close().await;
        Ok(())
    }
}
