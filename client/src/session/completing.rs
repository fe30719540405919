//! The end of a transaction: what the session settles before it, and what follows from its outcome.

use std::collections::VecDeque;
use std::sync::Arc;

use super::SessionInner;
use crate::consumer::{Mailbox, Settled};
use crate::error::{Error, Result};
use crate::transaction::{Transaction, rolled_back};
use crate::wire::TransactionInfo;

/// A transaction on its way to its end; dropping this ends it for the session.
pub(super) struct Completing<'a> {
    session: &'a SessionInner,
    settled: VecDeque<(Arc<Mailbox>, Settled)>,
}

impl<'a> Completing<'a> {
    pub(super) fn new(session: &'a SessionInner) -> Self {
        Self {
            session,
            settled: VecDeque::new(),
        }
    }

    pub(super) async fn run(mut self, transaction: &Transaction, step: i8) -> Result<()> {
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
                    return Err(
                        Error::commit_in_doubt(&transaction.id, &error.to_string()).with_source(error)
                    );
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
        self.session.completed();
    }
}
