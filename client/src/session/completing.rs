//! The end of a transaction: what the session settles before it, what it does about breaks meanwhile, and what follows
//! from the outcome.

use std::sync::Arc;

use tokio::time::Instant;

use super::SessionInner;
use crate::consumer::{Mailbox, Readiness};
use crate::deadline::timeout_at;
use crate::error::{Error, ErrorKind, Result};
use crate::events::ConnectionState;
use crate::transaction::{Transaction, rolled_back};
use crate::wire::{Command, TransactionInfo};

/// How a transaction is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Commit,
    RollBack,
}

/// A transaction on its way to its end. Dropping this gives the transaction up, if it is not too late for that.
pub(super) struct Completing<'a> {
    session: &'a SessionInner,
    transaction: Transaction,
    /// Every consumer that can have received something in it.
    mailboxes: Vec<Arc<Mailbox>>,
    deadline: Option<Instant>,
    /// The broker has been told to roll it back.
    rolling_back: bool,
    over: bool,
}

impl<'a> Completing<'a> {
    pub(super) fn begin(
        session: &'a SessionInner,
        transaction: Transaction,
        deadline: Option<Instant>,
    ) -> Self {
        let mailboxes = session.consumers();
        mailboxes.iter().for_each(|mailbox| mailbox.begin_completion());
        Self {
            session,
            transaction,
            mailboxes,
            deadline,
            rolling_back: false,
            over: false,
        }
    }

    pub(super) async fn run(self, step: Step) -> Result<()> {
        match step {
            Step::Commit => self.commit().await,
            Step::RollBack => self.roll_back().await,
        }
    }

    /// Over as many physical connections as it takes.
    async fn commit(mut self) -> Result<()> {
        let error = loop {
            let over = self.session.connection.link.connection();
            match by(self.deadline, "the connection", self.is_whole(over)).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => break error,
            }
            if !self.settle(over)? {
                continue;
            }
            match self.ask(over).await {
                Ok(_) => {
                    self.over = true;
                    self.mailboxes.iter().for_each(|mailbox| mailbox.committed());
                    return Ok(());
                }
                // It has not happened, and is tried again over the next connection.
                Err(error) if error.is_interrupted() => {}
                Err(error) => break error,
            }
        };
        if error.is_in_doubt() {
            self.abandon();
            return Err(error);
        }
        if error.throwable().is_some() {
            // The broker has refused: the transaction is gone there.
            self.redeliver()?;
            return Err(match error.is_rolled_back() {
                true => error,
                false => rolled_back(&error.to_string()).with_source(error),
            });
        }
        if !self.give_up() {
            let id = &self.transaction.id;
            return Err(Error::commit_in_doubt(id, &error.to_string()).with_source(error));
        }
        Err(match error.is_timeout() {
            true => rolled_back(&error.to_string()).with_source(error),
            false => error,
        })
    }

    /// Hands the commit to the link. The answer is an interruption if it certainly has not happened.
    async fn ask(&self, over: u64) -> Result<Command> {
        let connection = &self.session.connection;
        let commit = self
            .transaction
            .step(&connection.id, TransactionInfo::COMMIT_ONE_PHASE);
        self.transaction.committing();
        let receipt = connection
            .link
            .post_request(commit, self.transaction.guard_on(over))?;
        by(self.deadline, "the answer of the broker", receipt).await
    }

    /// Waits until all that the transaction has received came over this physical connection. False if that has broken.
    ///
    /// # Errors
    ///
    /// Something of it does not come again; the connection is closed.
    async fn is_whole(&self, over: u64) -> Result<bool> {
        let connection = &self.session.connection;
        let period = connection.options.consumer_failover_redelivery_wait_period;
        let mut state = connection.hub.publisher.state();
        let too_long = async {
            // Nothing can come before there is a connection.
            while state
                .wait_for(|state| *state != ConnectionState::Interrupted)
                .await
                .is_ok()
                && timeout_at(Instant::now().checked_add(period), state.changed())
                    .await?
                    .is_some()
            {}
            Ok(())
        };
        tokio::select! {
            biased;
            whole = self.all_ready(over) => whole,
            passed = too_long => Err(match passed {
                Ok(()) => rolled_back(&format!(
                    "the connection broke, and not all that it had received was delivered again within {period:?}"
                )),
                Err(error) => error,
            }),
        }
    }

    async fn all_ready(&self, over: u64) -> Result<bool> {
        for mailbox in &self.mailboxes {
            match mailbox.ready(over, &self.session.connection.link).await? {
                Readiness::Ready => {}
                Readiness::Lost => {
                    return Err(rolled_back(
                        "the connection broke, and something that it had received does not come again",
                    ));
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Acknowledges what the transaction has received. False if the connection has broken.
    fn settle(&self, over: u64) -> Result<bool> {
        for mailbox in &self.mailboxes {
            if !mailbox.settle(&self.transaction, over, self.session.out())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn roll_back(mut self) -> Result<()> {
        let connection = &self.session.connection;
        let over = connection.link.connection();
        let mut state = connection.hub.publisher.state();
        if *state.borrow_and_update() == ConnectionState::Interrupted {
            // No broker knows of it any more, and none has to be waited for.
            self.give_up();
            return Ok(());
        }
        self.settle(over)?;
        let rollback = self.transaction.step(&connection.id, TransactionInfo::ROLLBACK);
        let receipt = connection.link.post_request(rollback, self.transaction.guard())?;
        self.rolling_back = true;
        let answered = tokio::select! {
            biased;
            answer = by(self.deadline, "the answer of the broker", receipt) => answer.map(drop),
            // The connection went, and the transaction with it.
            _ = state.wait_for(|state| *state == ConnectionState::Interrupted) => Ok(()),
        };
        self.transaction.kill();
        self.redeliver()?;
        answered
    }

    /// Nothing of the transaction is to happen any more. False if that cannot be said: its commit is on its way.
    fn give_up(&mut self) -> bool {
        if !self.transaction.kill() {
            self.abandon();
            return false;
        }
        // An error of these says that the connection is closed, and the transaction is gone with it.
        if !self.rolling_back {
            let connection = &self.session.connection;
            let rollback = self.transaction.step(&connection.id, TransactionInfo::ROLLBACK);
            let _ = connection.link.post(rollback, self.transaction.guard());
        }
        let _ = self.redeliver();
        true
    }

    fn redeliver(&mut self) -> Result<()> {
        self.over = true;
        let out = self.session.out();
        self.mailboxes
            .iter()
            .map(|mailbox| mailbox.rolled_back(out))
            .fold(Ok(()), Result::and)
    }

    fn abandon(&mut self) {
        self.over = true;
        self.mailboxes.iter().for_each(|mailbox| mailbox.abandoned());
        self.session.connection.link.wake();
    }
}

impl Drop for Completing<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.give_up();
        }
        self.session.completed();
    }
}

/// Waits for something until a point in time.
pub(super) async fn by<T>(
    deadline: Option<Instant>,
    what: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let began = Instant::now();
    match timeout_at(deadline, work).await? {
        Some(result) => result,
        None => {
            let waited = began.elapsed();
            Err(Error::new(
                ErrorKind::Timeout,
                format!("{what} did not come within {waited:?}"),
            ))
        }
    }
}
