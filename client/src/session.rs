//! JMS `Session`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;

use crate::connection::ConnectionInner;
use crate::connection::temporary::TemporaryDestination;
use crate::consumer::{Consumer, ConsumerInner, ConsumerOptions, Mailbox, Out, Rules, Settled};
use crate::error::{Error, ErrorKind, Result};
use crate::link::{Guard, Receipt};
use crate::producer::Producer;
use crate::transaction::{Transaction, Transactions, rolled_back};
use crate::wire::{
    ConsumerId, ConsumerInfo, Destination, DestinationKind, EntityId, RemoveInfo, SessionId, SessionInfo,
    TransactionInfo,
};

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

#[derive(Debug)]
pub(crate) struct SessionInner {
    pub(crate) connection: Arc<ConnectionInner>,
    pub(crate) id: SessionId,
    pub(crate) mode: AcknowledgeMode,
    transactions: Arc<Mutex<Transactions>>,
    consumers: Mutex<Vec<Arc<Mailbox>>>,
    /// Closed, but part of the open transaction, with the number of the last message each has delivered.
    leaving: Mutex<Vec<(Arc<Mailbox>, i64)>>,
    last_consumer: AtomicI64,
    last_producer: AtomicI64,
    closed: AtomicBool,
}

impl Session {
    pub(crate) fn new(
        connection: Arc<ConnectionInner>,
        id: SessionId,
        mode: AcknowledgeMode,
    ) -> Result<Self> {
        let info = SessionInfo {
            session_id: Some(id.clone()),
            ..SessionInfo::default()
        };
        connection.link.post(info, Guard::Always)?;
        let transactions: Arc<Mutex<Transactions>> = Arc::default();
        if mode == AcknowledgeMode::Transacted {
            connection.hub.add_transactions(id.value, transactions.clone());
        }
        Ok(Self {
            inner: Arc::new(SessionInner {
                connection,
                id,
                mode,
                transactions,
                consumers: Mutex::default(),
                leaving: Mutex::default(),
                last_consumer: AtomicI64::new(0),
                last_producer: AtomicI64::new(0),
                closed: AtomicBool::new(false),
            }),
        })
    }

    pub(crate) fn inner(&self) -> &Arc<SessionInner> {
        &self.inner
    }

    /// The mode (`getAcknowledgeMode`).
    pub fn acknowledge_mode(&self) -> AcknowledgeMode {
        self.inner.mode
    }

    /// True if the session has transactions (`getTransacted`).
    pub fn is_transacted(&self) -> bool {
        self.inner.mode == AcknowledgeMode::Transacted
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
        let inner = &self.inner;
        inner.check_open()?;
        if destination.name().is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidDestination,
                "a destination needs a name",
            ));
        }
        let options = options.overridden_by(destination)?;
        let connection = &inner.connection;
        connection.check_owner(destination)?;
        let defaults = &connection.options;
        let id = ConsumerId {
            connection_id: inner.id.connection_id.clone(),
            session_id: inner.id.value,
            value: inner.last_consumer.fetch_add(1, Ordering::Relaxed) + 1,
        };
        let policy = &defaults.prefetch_policy;
        let prefetch = match options.prefetch {
            Some(prefetch) => prefetch,
            None if destination.is_queue() => policy.queue_prefetch,
            None => policy.topic_prefetch,
        };
        let pending_limit = options
            .maximum_pending_message_limit
            .unwrap_or(policy.maximum_pending_message_limit);
        let info = ConsumerInfo {
            consumer_id: Some(id.clone()),
            destination: Some(destination.clone()),
            prefetch_size: prefetch.into(),
            maximum_pending_message_limit: i32::try_from(pending_limit).unwrap_or(i32::MAX),
            dispatch_async: options.dispatch_async.unwrap_or(defaults.dispatch_async),
            selector: options.selector.clone(),
            no_local: options.no_local,
            exclusive: options.exclusive.unwrap_or(defaults.exclusive_consumer),
            retroactive: options.retroactive.unwrap_or(defaults.use_retroactive_consumer),
            priority: options.priority,
            ..ConsumerInfo::default()
        };
        let rules = inner.rules(prefetch, destination);
        let mailbox = Arc::new(Mailbox::new(
            id,
            destination.clone(),
            rules,
            connection.hub.audit.clone(),
        ));
        connection
            .hub
            .add_consumer(mailbox.clone(), || connection.link.connection());
        inner.consumers.lock().push(mailbox.clone());
        // From here on dropping it takes leave of the broker, also if the answer is not waited for.
        let consumer = ConsumerInner {
            session: inner.clone(),
            mailbox,
            selector: options.selector,
        };
        match connection.call(Box::new(info)).await {
            Ok(_) => Ok(Consumer::new(consumer)),
            Err(error) => {
                if error.throwable().is_some() {
                    // The broker does not know it.
                    inner.forget_consumer(consumer.mailbox.id());
                }
                Err(error)
            }
        }
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
    /// # Errors
    ///
    /// * [`is_rolled_back`](Error::is_rolled_back): nothing of it happened, and what it received is delivered again.
    ///   That is so if the broker refuses, or if the connection broke since the transaction received something: it
    ///   cannot be told to another broker.
    /// * [`is_in_doubt`](Error::is_in_doubt): the commit was sent and not answered, because the connection broke or the
    ///   broker took longer than [`request_timeout`](crate::options::ConnectionOptions::request_timeout). It may have
    ///   happened or not.
    /// * [`is_illegal_state`](Error::is_illegal_state) for a session that is not transacted.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: if the future is dropped the outcome is not known.
    #[tracing::instrument(level = "debug", skip_all, fields(session = %self.inner.id))]
    pub async fn commit(&self) -> Result<()> {
        self.inner.check_transacted()?;
        self.inner.complete(TransactionInfo::COMMIT_ONE_PHASE).await
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
    /// If the future is dropped the transaction is rolled back, but what it received is delivered again only when its
    /// consumer is closed.
    pub async fn rollback(&self) -> Result<()> {
        self.inner.check_transacted()?;
        self.inner.complete(TransactionInfo::ROLLBACK).await
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

impl SessionInner {
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        Ok(())
    }

    fn check_transacted(&self) -> Result<()> {
        self.check_open()?;
        if self.mode != AcknowledgeMode::Transacted {
            return Err(Error::new(
                ErrorKind::IllegalState,
                "the session is not transacted",
            ));
        }
        Ok(())
    }

    pub(crate) fn next_producer(&self) -> i64 {
        self.last_producer.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn consumers(&self) -> Vec<Arc<Mailbox>> {
        self.consumers.lock().clone()
    }

    pub(crate) fn out(&self) -> Out<'_> {
        Out {
            link: &self.connection.link,
            counters: &self.connection.hub.counters,
            one_way: self.connection.options.send_acks_async,
        }
    }

    /// Waits for acknowledgements that shall be waited for.
    pub(crate) async fn answered(&self, receipts: Vec<Receipt>) -> Result<()> {
        for receipt in receipts {
            self.connection.answer(receipt).await?;
        }
        Ok(())
    }

    fn rules(&self, prefetch: u16, destination: &Destination) -> Rules {
        let options = &self.connection.options;
        let lasting = self.connection.survives_breaks;
        let prefetch_size = usize::from(prefetch);
        let batch = match self.mode {
            AcknowledgeMode::DupsOk if destination.is_topic() => Some(prefetch_size / 2),
            // As in ActiveMQ's client, not where a break could make many of them come again.
            AcknowledgeMode::Auto if options.optimize_acknowledge && !lasting => {
                Some(prefetch_size * 65 / 100)
            }
            _ => None,
        };
        Rules {
            mode: self.mode,
            prefetch,
            batch: batch.filter(|&batch| batch > 1),
            batch_age: match self.mode {
                AcknowledgeMode::Auto => options.optimize_acknowledge_timeout,
                _ => None,
            },
            check_expiry: options.consumer_expiry_check_enabled,
            redelivery: options.redelivery_policy.clone(),
            // No more acknowledgements than the prefetch can be on their way, and what comes again must not be forgotten
            // over what comes between.
            remember: if lasting && options.check_for_duplicates && destination.is_queue() {
                (2 * prefetch_size).max(options.audit_depth as usize)
            } else {
                0
            },
        }
    }

    /// Forgets a consumer. False if it is not known any more.
    pub(crate) fn forget_consumer(&self, id: &ConsumerId) -> bool {
        self.connection.hub.remove_consumer(id);
        let mut consumers = self.consumers.lock();
        let known = consumers.len();
        consumers.retain(|mailbox| mailbox.id() != id);
        consumers.len() < known
    }

    /// A consumer was closed that the open transaction still needs.
    pub(crate) fn close_later(&self, mailbox: &Arc<Mailbox>, last_delivered: i64) {
        let mut leaving = self.leaving.lock();
        if leaving.iter().all(|(known, _)| known.id() != mailbox.id()) {
            leaving.push((mailbox.clone(), last_delivered));
        }
    }

    /// The transaction that something is sent or delivered in.
    pub(crate) fn enter(&self) -> Result<Transaction> {
        let connection = &self.connection;
        let mut transactions = self.transactions.lock();
        transactions
            .enter(|| {
                let transaction = Transaction::new(&connection.id, connection.next_transaction());
                let begin = transaction.step(&connection.id, TransactionInfo::BEGIN);
                connection.link.post(begin, transaction.guard())?;
                Ok(transaction)
            })
            .cloned()
    }

    /// The transaction a message is sent in, if the session is transacted.
    pub(crate) fn enter_to_send(&self) -> Result<Option<Transaction>> {
        self.check_open()?;
        if self.mode != AcknowledgeMode::Transacted {
            return Ok(None);
        }
        let transaction = self.enter()?;
        if transaction.is_dead() {
            return Err(rolled_back(
                "the connection broke after it had received something",
            ));
        }
        Ok(Some(transaction))
    }

    /// Commits or rolls back.
    async fn complete(&self, step: i8) -> Result<()> {
        let Some(transaction) = self.transactions.lock().complete() else {
            return Ok(());
        };
        let completing = Completing {
            session: self,
            settled: VecDeque::new(),
        };
        completing.run(&transaction, step).await
    }

    /// Says which message was the last that was delivered.
    pub(crate) async fn close(&self) -> i64 {
        if self.closed.swap(true, Ordering::AcqRel) {
            return RemoveInfo::NOTHING_DELIVERED;
        }
        if self.mode == AcknowledgeMode::Transacted {
            // Only the broker's answer could fail, and the session goes anyway.
            let _ = self.complete(TransactionInfo::ROLLBACK).await;
        }
        self.remove()
    }

    /// Takes leave of the broker.
    fn remove(&self) -> i64 {
        self.connection.hub.remove_transactions(self.id.value);
        let consumers = std::mem::take(&mut *self.consumers.lock());
        let mut last = RemoveInfo::UNKNOWN_DELIVERED;
        for mailbox in consumers {
            last = last.max(mailbox.end(closed(), self.out()));
            self.connection.hub.remove_consumer(mailbox.id());
        }
        let info = RemoveInfo {
            object_id: Some(EntityId::Session(self.id.clone())),
            last_delivered_sequence_id: last,
            ..RemoveInfo::default()
        };
        // An error says that the connection is closed, and the session with it.
        let _ = self.connection.link.post(info, Guard::Always);
        last
    }
}

impl Drop for SessionInner {
    fn drop(&mut self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(transaction) = self.transactions.lock().complete() {
            let rollback = transaction.step(&self.connection.id, TransactionInfo::ROLLBACK);
            let _ = self.connection.link.post(rollback, transaction.guard());
        }
        self.remove();
    }
}

/// A transaction on its way to its end; dropping this ends it for the session.
struct Completing<'a> {
    session: &'a SessionInner,
    settled: VecDeque<(Arc<Mailbox>, Settled)>,
}

impl Completing<'_> {
    async fn run(mut self, transaction: &Transaction, step: i8) -> Result<()> {
        let session = self.session;
        for mailbox in session.consumers() {
            let settled = mailbox.settle(transaction, session.out())?;
            self.settled.push_back((mailbox, settled));
        }
        let commit = step == TransactionInfo::COMMIT_ONE_PHASE;
        if transaction.is_dead() {
            // No broker knows of it any more, and none has to be waited for.
            self.redeliver()?;
            return match commit {
                true => Err(rolled_back(
                    "the connection broke after it had received something",
                )),
                false => Ok(()),
            };
        }
        let connection = &session.connection;
        let completion = transaction.step(&connection.id, step);
        let receipt = connection.link.post_request(completion, transaction.guard())?;
        match connection.answer(receipt).await {
            Ok(_) if commit => {
                for (mailbox, _) in self.settled.drain(..) {
                    mailbox.committed();
                }
                Ok(())
            }
            Ok(_) => self.redeliver(),
            Err(error) if error.is_in_doubt() => Err(error),
            Err(error) if error.is_timeout() => {
                if commit && !transaction.kill() {
                    return Err(Error::new(
                        ErrorKind::InDoubt,
                        format!("the commit was sent, and its outcome is not known: {error}"),
                    )
                    .with_source(error));
                }
                if commit {
                    let rollback = transaction.step(&connection.id, TransactionInfo::ROLLBACK);
                    connection.link.post(rollback, transaction.guard())?;
                } else {
                    transaction.kill();
                }
                self.redeliver()?;
                Err(if commit {
                    rolled_back(&error.to_string())
                } else {
                    error
                })
            }
            Err(error) => {
                self.redeliver()?;
                Err(
                    if commit && error.throwable().is_some() && !error.is_rolled_back() {
                        rolled_back(&error.to_string()).with_source(error)
                    } else {
                        error
                    },
                )
            }
        }
    }

    fn redeliver(&mut self) -> Result<()> {
        let out = self.session.out();
        self.settled
            .drain(..)
            .try_for_each(|(mailbox, settled)| mailbox.rolled_back(settled, out))
    }
}

impl Drop for Completing<'_> {
    fn drop(&mut self) {
        self.session.transactions.lock().completed();
        for (mailbox, last) in self.session.leaving.lock().drain(..) {
            if self.session.forget_consumer(mailbox.id()) {
                let _ = self
                    .session
                    .connection
                    .link
                    .post(mailbox.farewell(last), Guard::Always);
            }
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the session is closed")
}
