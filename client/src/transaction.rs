//! The local transactions of a session, one after another.

use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::link::{Guard, TransactionGuard};
use crate::wire::{ConnectionId, LocalTransactionId, TransactionId, TransactionInfo};

/// A transaction that has begun.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub(crate) id: TransactionId,
    guard: Arc<TransactionGuard>,
}

impl Transaction {
    pub(crate) fn new(connection: &ConnectionId, number: i64) -> Self {
        Self {
            id: TransactionId::Local(LocalTransactionId {
                value: number,
                connection_id: Some(connection.clone()),
            }),
            guard: Arc::default(),
        }
    }

    pub(crate) fn guard(&self) -> Guard {
        Guard::Transaction(self.guard.clone())
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.guard.is_dead()
    }

    /// A message is being delivered in it.
    pub(crate) fn consume(&self) {
        self.guard.consume();
    }

    /// Gives it up unless its commit is on its way.
    pub(crate) fn kill(&self) -> bool {
        self.guard.kill()
    }

    pub(crate) fn step(&self, connection: &ConnectionId, step: i8) -> TransactionInfo {
        TransactionInfo {
            connection_id: Some(connection.clone()),
            transaction_id: Some(self.id.clone()),
            step,
            ..TransactionInfo::default()
        }
    }
}

/// The transaction a session works in, and the one it is completing.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    current: Option<Transaction>,
    completing: Option<Transaction>,
}

impl Transactions {
    /// The current transaction, begun by `begin` if there is none.
    ///
    /// # Errors
    ///
    /// What `begin` says.
    pub(crate) fn enter<E>(
        &mut self,
        begin: impl FnOnce() -> Result<Transaction, E>,
    ) -> Result<&Transaction, E> {
        let transaction = match self.current.take() {
            Some(transaction) => transaction,
            None => begin()?,
        };
        Ok(self.current.insert(transaction))
    }

    /// Takes the current transaction to complete it.
    pub(crate) fn complete(&mut self) -> Option<Transaction> {
        let transaction = self.current.take()?;
        self.completing = Some(transaction.clone());
        Some(transaction)
    }

    /// The transaction is completed, however.
    pub(crate) fn completed(&mut self) {
        self.completing = None;
    }

    /// The connection broke: a transaction that consumed something cannot be committed any more.
    pub(crate) fn interrupted(&self) {
        for transaction in [&self.current, &self.completing].into_iter().flatten() {
            if transaction.guard.has_consumed() {
                transaction.kill();
            }
        }
    }
}

/// The error of everything that is done in a transaction that a break has ended.
pub(crate) fn rolled_back(why: &str) -> Error {
    Error::new(
        ErrorKind::TransactionRolledBack,
        format!("the transaction was rolled back: {why}"),
    )
}
