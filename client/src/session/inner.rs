//! What the handles of a session share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::AcknowledgeMode;
use super::completing::{Completing, Step, by};
use crate::connection::ConnectionInner;
use crate::consumer::{Mailbox, Out, Rules};
use crate::error::{Error, ErrorKind, Result};
use crate::link::{Guard, Receipt};
use crate::transaction::Transaction;
use crate::wire::{ConsumerId, Destination, EntityId, RemoveInfo, SessionId, SessionInfo, TransactionInfo};
use crate::xa::Enlisted;

#[derive(Debug)]
pub(crate) struct SessionInner {
    pub(crate) connection: Arc<ConnectionInner>,
    pub(crate) id: SessionId,
    /// Of a session with branches of distributed transactions: how it acknowledges at other times.
    pub(crate) mode: AcknowledgeMode,
    /// The session works in branches of distributed transactions.
    pub(crate) enlisted: Option<Enlisted>,
    /// The one that is open.
    transaction: Mutex<Option<Transaction>>,
    /// Transactions are completed one after another.
    turn: Semaphore,
    consumers: Mutex<Vec<Arc<Mailbox>>>,
    /// Closed, but part of the open transaction, with the number of the last message each has delivered.
    leaving: Mutex<Vec<(Arc<Mailbox>, i64)>>,
    last_consumer: AtomicI64,
    last_producer: AtomicI64,
    closed: AtomicBool,
}
impl SessionInner {
    pub(super) fn new(
        connection: Arc<ConnectionInner>,
        id: SessionId,
        mode: AcknowledgeMode,
        enlisted: Option<Enlisted>,
    ) -> Result<Self> {
        let info = SessionInfo {
            session_id: Some(id.clone()),
            ..SessionInfo::default()
        };
        connection.link.post(info, Guard::Always)?;
        Ok(Self {
            connection,
            id,
            mode,
            enlisted,
            transaction: Mutex::default(),
            turn: Semaphore::new(1),
            consumers: Mutex::default(),
            leaving: Mutex::default(),
            last_consumer: AtomicI64::new(0),
            last_producer: AtomicI64::new(0),
            closed: AtomicBool::new(false),
        })
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        Ok(())
    }

    pub(super) fn check_transacted(&self) -> Result<()> {
        self.check_open()?;
        if self.enlisted.is_some() {
            return Err(Error::new(
                ErrorKind::IllegalState,
                "the transactions of an XA session are completed by their transaction manager",
            ));
        }
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

    pub(super) fn next_consumer(&self) -> i64 {
        self.last_consumer.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn add_consumer(&self, mailbox: Arc<Mailbox>) {
        self.consumers.lock().push(mailbox);
    }

    /// Those that consume, which browsers do not.
    pub(crate) fn consumers(&self) -> Vec<Arc<Mailbox>> {
        let consumers = self.consumers.lock();
        consumers
            .iter()
            .filter(|consumer| !consumer.browses())
            .cloned()
            .collect()
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

    pub(super) fn rules(&self, prefetch: u16, destination: &Destination, durable: bool) -> Rules {
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
            redelivery: options.redelivery_policy_of(destination).clone(),
            by_priority: options.message_priority_supported,
            non_blocking: options.non_blocking_redelivery,
            individually: options.transacted_individual_ack,
            // No more acknowledgements than the prefetch can be on their way, and what comes again must not be forgotten
            // over what comes between.
            remember: if lasting && options.check_for_duplicates && (durable || destination.is_queue()) {
                let producers = options.audit_maximum_producer_number as usize;
                (2 * prefetch_size)
                    .max(options.audit_depth as usize)
                    .max(producers)
            } else {
                0
            },
            own_copies: durable,
            comes_again: durable || (destination.is_queue() && !destination.is_temporary()),
            browses: false,
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
    fn enter(&self) -> Result<Transaction> {
        let connection = &self.connection;
        let mut current = self.transaction.lock();
        if let Some(transaction) = &*current {
            return Ok(transaction.clone());
        }
        let transaction = Transaction::new(&connection.id, connection.next_transaction());
        let begin = transaction.step(&connection.id, TransactionInfo::BEGIN);
        connection.link.post(begin, transaction.guard())?;
        Ok(current.insert(transaction).clone())
    }

    /// The transaction that something is sent or delivered in now, if there is to be one.
    pub(crate) fn current(&self) -> Result<Option<Transaction>> {
        match (&self.enlisted, self.mode) {
            (Some(enlisted), _) => enlisted.current(self),
            (None, AcknowledgeMode::Transacted) => self.enter().map(Some),
            (None, _) => Ok(None),
        }
    }

    /// Refuses to wait for messages that could not be delivered.
    pub(crate) fn check_enlisted(&self) -> Result<()> {
        match &self.enlisted {
            Some(enlisted) => enlisted.current(self).map(drop),
            None => Ok(()),
        }
    }

    /// The transaction a message is sent in, if the session is transacted.
    pub(crate) fn enter_to_send(&self) -> Result<Option<Transaction>> {
        self.check_open()?;
        self.current()
    }

    /// Commits or rolls back.
    pub(super) async fn complete(&self, step: Step) -> Result<()> {
        let deadline = self.connection.request_deadline();
        let turn = async { Ok(self.turn.acquire().await) };
        let _turn = by(deadline, "another commit or rollback of the session", turn).await?;
        let Some(transaction) = self.transaction.lock().take() else {
            return Ok(());
        };
        Completing::begin(self, transaction, deadline).run(step).await
    }

    /// A transaction is over, and the consumers that stayed for it go.
    pub(crate) fn completed(&self) {
        let mut leaving = self.leaving.lock();
        let left: Vec<_> = leaving
            .extract_if(.., |(mailbox, _)| !mailbox.in_transaction())
            .collect();
        drop(leaving);
        for (mailbox, last) in left {
            if self.forget_consumer(mailbox.id()) {
                let _ = self.connection.link.post(mailbox.farewell(last), Guard::Always);
            }
        }
    }

    /// Says which message was the last that was delivered.
    pub(crate) async fn close(&self) -> i64 {
        if self.closed.swap(true, Ordering::AcqRel) {
            return RemoveInfo::NOTHING_DELIVERED;
        }
        if let Some(enlisted) = &self.enlisted {
            enlisted.close(self);
        } else if self.mode == AcknowledgeMode::Transacted {
            // Only the broker's answer could fail, and the session goes anyway.
            let _ = self.complete(Step::RollBack).await;
        }
        self.remove()
    }

    /// Takes leave of the broker.
    fn remove(&self) -> i64 {
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
        if let Some(enlisted) = &self.enlisted {
            enlisted.close(self);
        }
        if let Some(transaction) = self.transaction.lock().take() {
            // What waits of it need not be sent any more.
            transaction.kill();
            let rollback = transaction.step(&self.connection.id, TransactionInfo::ROLLBACK);
            let _ = self.connection.link.post(rollback, transaction.guard());
        }
        self.remove();
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the session is closed")
}
