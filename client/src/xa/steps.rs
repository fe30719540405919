//! The steps of a transaction manager, each a question to the broker and what follows from the answer.

use std::sync::Arc;

use super::branches::{self, Ended};
use super::{Vote, XaCode, Xid};
use crate::connection::{ConnectionInner, within};
use crate::error::{Error, Result};
use crate::link::Guard;
use crate::wire::{Command, TransactionId, TransactionInfo};

/// Asks the broker of one connection.
pub(super) struct Steps<'a> {
    connection: Arc<ConnectionInner>,
    xid: &'a Xid,
}

/// An answer, and whether it came from the broker that was asked first.
struct Answer {
    result: Result<Command>,
    /// The connection broke meanwhile.
    repeated: bool,
    /// The one that was asked first.
    broker: Option<Arc<str>>,
    /// It is the same broker still, which was not restarted.
    same_broker: bool,
}

impl<'a> Steps<'a> {
    pub(super) fn new(connection: &Arc<ConnectionInner>, xid: &'a Xid) -> Self {
        Self {
            connection: connection.clone(),
            xid,
        }
    }

    /// For steps that a broker takes only over a connection that has worked on the branch: over that one, if it is known.
    pub(super) fn of_worker(connection: &Arc<ConnectionInner>, xid: &'a Xid) -> Self {
        let worker = branches::find(xid).and_then(|branch| branch.worker(connection));
        Self {
            connection: worker.unwrap_or_else(|| connection.clone()),
            xid,
        }
    }

    fn info(&self, step: i8) -> TransactionInfo {
        TransactionInfo {
            connection_id: Some(self.connection.id.clone()),
            transaction_id: Some(self.xid.transaction_id()),
            step,
            ..TransactionInfo::default()
        }
    }

    /// Sends a step and waits for its answer, as long as a request may take.
    async fn ask(&self, step: i8, guard: Guard) -> Answer {
        let connection = &self.connection;
        let (over, broker) = (connection.link.connection(), connection.hub.broker_now());
        let result = within(connection.options.request_timeout, async {
            connection.link.request(self.info(step), guard).await?.await
        })
        .await;
        Answer {
            result,
            repeated: connection.link.connection() != over,
            same_broker: broker.is_some() && broker == connection.hub.broker_now(),
            broker,
        }
    }

    /// First phase.
    pub(super) async fn prepare(&self) -> Result<Vote> {
        let over = self.connection.link.connection();
        self.check_alive().await?;
        let answer = self.ask(TransactionInfo::PREPARE, Guard::Connection(over)).await;
        match answer.result {
            Ok(Command::IntegerResponse(response)) if response.result == XaCode::ReadOnly.value() => {
                branches::complete(self.xid, Ended::Committed);
                Ok(Vote::ReadOnly)
            }
            Ok(_) => {
                branches::update(self.xid, |branch| branch.prepared = true);
                Ok(Vote::Commit)
            }
            Err(error) if error.is_in_doubt() => self.find_prepared(answer.broker, error).await,
            Err(error) if error.is_interrupted() => Err(self.lost()),
            Err(error) if error.throwable().is_some() => {
                branches::complete(self.xid, Ended::RolledBack);
                // How ActiveMQ says that it knows no such branch.
                Err(match error.is_illegal_state() {
                    true => error.with_xa(XaCode::UnknownXid),
                    false => error.with_xa(XaCode::ResourceManager),
                })
            }
            Err(error) => Err(self.in_doubt("prepare", error)),
        }
    }

    /// The connection broke before the answer to a first phase: whoever comes next is asked what is prepared.
    async fn find_prepared(&self, before: Option<Arc<str>>, error: Error) -> Result<Vote> {
        let Ok(prepared) = recover(&self.connection).await else {
            return Err(self.in_doubt("prepare", error));
        };
        if prepared.contains(self.xid) {
            branches::update(self.xid, |branch| branch.prepared = true);
            return Ok(Vote::Commit);
        }
        if before.is_some() && before == self.connection.hub.broker_now() {
            return Err(self.lost());
        }
        Err(self.in_doubt("prepare", error))
    }

    /// The only phase.
    pub(super) async fn commit_one_phase(&self) -> Result<()> {
        let over = self.connection.link.connection();
        self.check_alive().await?;
        let answer = self
            .ask(TransactionInfo::COMMIT_ONE_PHASE, Guard::Connection(over))
            .await;
        match answer.result {
            Ok(_) => {
                branches::complete(self.xid, Ended::Committed);
                Ok(())
            }
            Err(error) if error.throwable().is_some() => {
                branches::complete(self.xid, Ended::RolledBack);
                Err(error)
            }
            Err(error) if error.is_interrupted() => Err(self.lost()),
            Err(error) => {
                branches::complete(self.xid, Ended::Unknown);
                Err(self.in_doubt("commit", error))
            }
        }
    }

    /// Second phase. What is prepared outlives connections, and so does this question.
    pub(super) async fn commit_two_phase(&self) -> Result<()> {
        let answer = self.ask(TransactionInfo::COMMIT_TWO_PHASE, Guard::Always).await;
        match answer.result {
            Ok(_) => {
                branches::complete(self.xid, Ended::Committed);
                Ok(())
            }
            Err(error) if error.xa_code() == Some(XaCode::UnknownXid) => {
                let known = branches::find(self.xid).is_some_and(|branch| branch.prepared);
                if answer.repeated && known && answer.same_broker {
                    // The first one has done it.
                    branches::complete(self.xid, Ended::Committed);
                    return Ok(());
                }
                branches::complete(self.xid, Ended::Unknown);
                match answer.repeated {
                    true => Err(self.in_doubt("commit", error)),
                    false => Err(error),
                }
            }
            Err(error) if error.throwable().is_some() => Err(error),
            Err(error) => Err(self.in_doubt("commit", error)),
        }
    }

    pub(super) async fn roll_back(&self) -> Result<()> {
        let branch = branches::find(self.xid);
        if branch.as_ref().is_some_and(branches::Branch::is_lost) {
            let _ = self.lost();
            return Ok(());
        }
        let answer = self.ask(TransactionInfo::ROLLBACK, Guard::Always).await;
        match answer.result {
            Ok(_) => {
                branches::complete(self.xid, Ended::RolledBack);
                Ok(())
            }
            Err(error) if error.xa_code() == Some(XaCode::UnknownXid) => {
                branches::complete(self.xid, Ended::RolledBack);
                // The break has done it, or the first question.
                let over = branch.is_some_and(|branch| !branch.prepared || answer.same_broker);
                match answer.repeated {
                    true if over => Ok(()),
                    true => Err(self.in_doubt("rollback", error)),
                    false => Err(error),
                }
            }
            Err(error) if error.throwable().is_some() => Err(error),
            Err(error) => Err(self.in_doubt("rollback", error)),
        }
    }

    pub(super) async fn forget(&self) -> Result<()> {
        let answer = self.ask(TransactionInfo::FORGET, Guard::Always).await;
        if answer.result.is_ok() {
            branches::complete(self.xid, Ended::Unknown);
        }
        answer
            .result
            .map(drop)
            .map_err(|error| error.with_xa(XaCode::Unavailable))
    }

    /// Refuses a branch that cannot be committed any more, and rolls it back where it is.
    async fn check_alive(&self) -> Result<()> {
        let Some(branch) = branches::find(self.xid) else {
            return Ok(());
        };
        if branch.is_lost() {
            return Err(self.lost());
        }
        if !branch.failed {
            return Ok(());
        }
        self.roll_back().await?;
        Err(Error::xa(
            XaCode::RolledBack,
            format!("{} was ended as failed, and is rolled back", self.xid),
        ))
    }

    /// The branch was not prepared when its connection broke.
    fn lost(&self) -> Error {
        // What came over other connections is there still; a broker that does not know it says so to nobody.
        let rollback = self.info(TransactionInfo::ROLLBACK);
        if let Ok(receipt) = self.connection.link.post_request(rollback, Guard::Always) {
            drop(receipt);
        }
        branches::complete(self.xid, Ended::RolledBack);
        lost(self.xid)
    }

    fn in_doubt(&self, what: &str, error: Error) -> Error {
        if error.is_closed() && !error.is_in_doubt() {
            // It was not sent.
            return error.with_xa(XaCode::Unavailable);
        }
        let why = format!("the {what} of {} may have happened or not: {error}", self.xid);
        Error::branch_in_doubt(&self.xid.transaction_id(), why)
            .with_source(error)
            .with_xa(XaCode::Unavailable)
    }
}

/// The branch was not prepared when its connection broke.
pub(super) fn lost(xid: &Xid) -> Error {
    Error::xa(
        XaCode::RolledBackConnection,
        format!("{xid} was rolled back: its connection broke before it was prepared"),
    )
}

/// The branches that are prepared at the broker.
pub(super) async fn recover(connection: &Arc<ConnectionInner>) -> Result<Vec<Xid>> {
    let info = TransactionInfo {
        connection_id: Some(connection.id.clone()),
        step: TransactionInfo::RECOVER,
        ..TransactionInfo::default()
    };
    let answer = connection
        .call(info)
        .await
        .map_err(|error| error.with_xa(XaCode::Unavailable))?;
    let Command::DataArrayResponse(response) = answer else {
        return Err(Error::xa(
            XaCode::ResourceManager,
            "the broker does not say which branches are prepared",
        ));
    };
    let ids = response.data.unwrap_or_default();
    Ok(ids
        .iter()
        .filter_map(|data| match data.as_deref() {
            Some(Command::TransactionId(TransactionId::Xa(id))) => Some(Xid::from_wire(id.clone())),
            _ => None,
        })
        .collect())
}
