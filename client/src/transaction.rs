//! The transactions that a session works in, one after another.

use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::link::{Guard, Moment, TransactionGuard};
use crate::wire::{ConnectionId, LocalTransactionId, TransactionId, TransactionInfo, XaTransactionId};

/// A transaction that has begun.
#[derive(Debug, Clone)]
pub(crate) struct Transaction {
    pub(crate) id: TransactionId,
    guard: Arc<TransactionGuard>,
    /// Of a branch of a distributed transaction: the number of the physical connection it belongs to.
    over: Option<u64>,
}

impl Transaction {
    pub(crate) fn new(connection: &ConnectionId, number: i64) -> Self {
        Self {
            id: TransactionId::Local(LocalTransactionId {
                value: number,
                connection_id: Some(connection.clone()),
            }),
            guard: Arc::default(),
            over: None,
        }
    }

    /// A branch of a distributed transaction. It ends with its physical connection unless it is prepared by then.
    pub(crate) fn branch(id: XaTransactionId, over: u64) -> Self {
        Self {
            id: TransactionId::Xa(id),
            guard: Arc::default(),
            over: Some(over),
        }
    }

    pub(crate) fn guard(&self) -> Guard {
        match self.over {
            Some(over) => Guard::Connection(over),
            None => Guard::Transaction(self.guard.clone()),
        }
    }

    /// For what means nothing over another physical connection.
    pub(crate) fn guard_on(&self, connection: u64) -> Guard {
        match self.over {
            Some(_) => Guard::Connection(connection),
            None => Guard::TransactionOn(self.guard.clone(), connection),
        }
    }

    /// The commit is about to be handed to the link.
    pub(crate) fn committing(&self) {
        self.guard.committing_from(Moment::now());
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

/// Nothing of the transaction has happened.
pub(crate) fn rolled_back(why: &str) -> Error {
    Error::new(
        ErrorKind::TransactionRolledBack,
        format!("the transaction was rolled back: {why}"),
    )
}
