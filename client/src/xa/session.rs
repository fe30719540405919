//! JMS `XASession`.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::branches::{self, Ended};
use super::steps::{self, Steps};
use super::{XaCode, Xid};
use crate::connection::ConnectionInner;
use crate::error::{Error, ErrorKind, Result};
use crate::link::Guard;
use crate::session::{AcknowledgeMode, Session, SessionInner};
use crate::transaction::Transaction;
use crate::wire::{SessionId, TransactionInfo};

/// How work on a branch begins (the flags of `XAResource.start`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Start {
    /// `TMNOFLAGS`: a new branch.
    New,
    /// `TMJOIN`: one that another session works on, or has.
    Join,
    /// `TMRESUME`: one that was suspended.
    Resume,
}

/// How work on a branch ends (the flags of `XAResource.end`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// `TMSUCCESS`: it is done.
    Success,
    /// `TMFAIL`: it can only be rolled back.
    Fail,
    /// `TMSUSPEND`: it goes on later, with [`Start::Resume`].
    Suspend,
}

/// What a broker says to a first phase (`XA_OK`, `XA_RDONLY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vote {
    /// It is prepared, and waits for its second phase.
    Commit,
    /// There was nothing to commit, and the branch is over.
    ReadOnly,
}

/// A session whose work is part of distributed transactions (JMS `XASession` with its `XAResource`).
///
/// Made by [`Connection::create_xa_session`](crate::Connection::create_xa_session). It is a [`Session`] for everything but
/// [`commit`](Session::commit) and [`rollback`](Session::rollback), which are the transaction manager's. Between
/// [`start`](Self::start) and [`end`](Self::end) what it sends and receives belongs to the branch; at other times it neither
/// sends nor receives, unless `jms.xaAckMode` says how.
///
/// The steps [`prepare`](Self::prepare), [`commit`](Self::commit), [`rollback`](Self::rollback), [`forget`](Self::forget) and
/// [`recover`](Self::recover) can be made over any XA session of the same broker, whoever did the work. (ActiveMQ's brokers
/// prepare a branch, and commit it in one phase, only over a connection that has worked on it; such a connection of this
/// process is found and used.) The error of a step has its [`xa_code`](Error::xa_code).
///
/// When the last handle is gone, producers and consumers included, the session is closed without waiting; see
/// [`close`](Self::close).
#[derive(Debug, Clone)]
pub struct XaSession {
    session: Session,
}

/// What a session with branches knows more.
#[derive(Debug, Default)]
pub(crate) struct Enlisted {
    current: Mutex<Option<Current>>,
}

/// The branch that is worked on.
#[derive(Debug, Clone)]
struct Current {
    xid: Xid,
    transaction: Transaction,
    over: u64,
}

impl Enlisted {
    /// The branch that something is sent or delivered in.
    pub(crate) fn current(&self, session: &SessionInner) -> Result<Option<Transaction>> {
        match &*self.current.lock() {
            Some(current) if current.over != session.connection.link.connection() => {
                Err(steps::lost(&current.xid))
            }
            Some(current) => Ok(Some(current.transaction.clone())),
            None if session.mode == AcknowledgeMode::Transacted => Err(Error::new(
                ErrorKind::IllegalState,
                "no branch of a distributed transaction is started in this session",
            )),
            None => Ok(None),
        }
    }

    pub(crate) fn is_working(&self) -> bool {
        self.current.lock().is_some()
    }

    fn xid(&self) -> Option<Xid> {
        self.current.lock().as_ref().map(|current| current.xid.clone())
    }

    /// The session goes: what it works on, or has worked on and is not prepared, is rolled back. Does not wait.
    pub(crate) fn close(&self, session: &SessionInner) {
        if let Some(current) = self.current.lock().take() {
            let _ = end_work(session, &current);
        }
        for (xid, branch) in branches::of(&session.id) {
            if branch.prepared {
                continue;
            }
            let info = step(&session.connection, &xid, TransactionInfo::ROLLBACK);
            let guard = Guard::Connection(session.connection.link.connection());
            // An error says that the connection is closed, and the branch with it.
            let _ = session.connection.link.post(info, guard);
            branches::complete(&xid, Ended::RolledBack);
        }
    }
}

/// What the branch has received is acknowledged in it. False if it came over another physical connection.
fn end_work(session: &SessionInner, current: &Current) -> Result<bool> {
    let mailboxes = session.consumers();
    branches::consumed(&current.xid, &session.id, &mailboxes);
    let mut whole = true;
    for mailbox in mailboxes {
        whole &= mailbox.end_branch(&current.transaction, current.over, session.out())?
            || !mailbox.in_transaction();
    }
    Ok(whole)
}

fn step(connection: &ConnectionInner, xid: &Xid, step: i8) -> TransactionInfo {
    TransactionInfo {
        connection_id: Some(connection.id.clone()),
        transaction_id: Some(xid.transaction_id()),
        step,
        ..TransactionInfo::default()
    }
}

impl XaSession {
    pub(crate) fn new(connection: Arc<ConnectionInner>, id: SessionId) -> Result<Self> {
        let mode = match connection.options.xa_ack_mode {
            Some(1) => AcknowledgeMode::Auto,
            Some(2) => AcknowledgeMode::Client,
            Some(3) => AcknowledgeMode::DupsOk,
            Some(4) => AcknowledgeMode::Individual,
            _ => AcknowledgeMode::Transacted,
        };
        Ok(Self {
            session: Session::enlisted(connection, id, mode)?,
        })
    }

    /// The session that sends and receives (`getSession`). This handle is one, too.
    pub fn session(&self) -> &Session {
        &self.session
    }

    fn enlisted(&self) -> Result<&Enlisted> {
        self.session
            .inner()
            .enlisted
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::IllegalState, "the session has no branches"))
    }

    fn connection(&self) -> &Arc<ConnectionInner> {
        &self.session.inner().connection
    }

    /// Begins to work on a branch (`start`).
    ///
    /// Does not wait: a broker does not answer this, and takes a branch that it knows already for a join.
    ///
    /// # Errors
    ///
    /// [`Protocol`](XaCode::Protocol) while the session works on another one; [`UnknownXid`](XaCode::UnknownXid) to resume
    /// what this process has not suspended; [`RolledBackConnection`](XaCode::RolledBackConnection) to join or resume what
    /// a break has ended; [`is_closed`](Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// Does not wait.
    pub async fn start(&self, xid: &Xid, how: Start) -> Result<()> {
        let session = self.session.inner();
        session.check_open()?;
        let connection = self.connection();
        // Before its lock is taken: what follows from a loss takes those of consumers.
        let known = branches::find(xid);
        let is_lost = known.as_ref().is_some_and(|branch| branch.is_lost());
        if is_lost {
            branches::complete(xid, Ended::RolledBack);
        }
        match how {
            // What was left of one whose connection broke is out of the way of a new one.
            Start::New => {}
            Start::Join | Start::Resume if is_lost => return Err(steps::lost(xid)),
            Start::Resume if known.is_none() => {
                return Err(Error::xa(
                    XaCode::UnknownXid,
                    format!("{xid} cannot be resumed: nobody here has suspended it"),
                ));
            }
            Start::Join | Start::Resume => {}
        }
        let mut current = self.enlisted()?.current.lock();
        if let Some(current) = &*current {
            return Err(protocol(format!("the session works on {} already", current.xid)));
        }
        let over = connection.link.connection();
        let begin = step(connection, xid, TransactionInfo::BEGIN);
        connection.link.post(begin, Guard::Connection(over))?;
        branches::join(xid, session, over);
        *current = Some(Current {
            xid: xid.clone(),
            transaction: Transaction::branch(xid.to_wire(), over),
            over,
        });
        Ok(())
    }

    /// Ends the work on a branch (`end`): acknowledges in it what the session has received.
    ///
    /// # Errors
    ///
    /// [`Protocol`](XaCode::Protocol) if the session does not work on it;
    /// [`RolledBackConnection`](XaCode::RolledBackConnection) if the connection has broken: the branch is over then;
    /// what the broker answers; [`Unavailable`](XaCode::Unavailable) if it does not: roll the branch back.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the session does not work on the branch any more.
    pub async fn end(&self, xid: &Xid, how: End) -> Result<()> {
        let session = self.session.inner();
        let current = self
            .enlisted()?
            .current
            .lock()
            .take_if(|current| current.xid == *xid);
        let Some(current) = current else {
            // An end that comes after a suspension is only a word about how.
            return match (
                how,
                branches::of(&session.id).iter().any(|(known, _)| known == xid),
            ) {
                (End::Success, true) => Ok(()),
                (End::Fail, true) => {
                    branches::update(xid, |branch| branch.failed = true);
                    Ok(())
                }
                _ => Err(protocol(format!("the session does not work on {xid}"))),
            };
        };
        if how == End::Fail {
            branches::update(xid, |branch| branch.failed = true);
        }
        let whole = end_work(session, &current)?;
        let connection = self.connection();
        if !whole || connection.link.connection() != current.over {
            branches::complete(xid, Ended::RolledBack);
            return Err(steps::lost(xid));
        }
        let end = step(connection, xid, TransactionInfo::END);
        let receipt = connection
            .link
            .post_request(end, Guard::Connection(current.over))?;
        match connection.answer(receipt).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_interrupted() => {
                branches::complete(xid, Ended::RolledBack);
                Err(steps::lost(xid))
            }
            Err(error) => Err(error.with_xa(XaCode::Unavailable)),
        }
    }

    /// First phase of a commit (`prepare`): with [`Vote::Commit`] the broker promises that it can commit the branch, over any
    /// connection and after a restart.
    ///
    /// # Errors
    ///
    /// A code that [is rolled back](XaCode::is_rolled_back): the branch is over. [`Protocol`](XaCode::Protocol) while the
    /// session works on it; [`UnknownXid`](XaCode::UnknownXid). [`is_in_doubt`](Error::is_in_doubt) with
    /// [`Unavailable`](XaCode::Unavailable) if it may be prepared or not: see [the module](crate::xa).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: if the future is dropped the branch may be prepared or not.
    pub async fn prepare(&self, xid: &Xid) -> Result<Vote> {
        self.check_ended(xid)?;
        Steps::of_worker(self.connection(), xid).prepare().await
    }

    /// Commits a branch (`commit`): the second phase, or both at once.
    ///
    /// # Errors
    ///
    /// [`Protocol`](XaCode::Protocol) while the session works on it, or if a second phase has had no first one;
    /// [`UnknownXid`](XaCode::UnknownXid): the broker has no such branch, for instance because it is done;
    /// [`Retry`](XaCode::Retry): it is as it was. Of one phase also a code that
    /// [is rolled back](XaCode::is_rolled_back). [`is_in_doubt`](Error::is_in_doubt) with
    /// [`Unavailable`](XaCode::Unavailable): see [the module](crate::xa).
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: if the future is dropped the branch may be committed or not.
    #[tracing::instrument(level = "debug", skip(self), fields(session = %self.session.inner().id))]
    pub async fn commit(&self, xid: &Xid, one_phase: bool) -> Result<()> {
        self.check_ended(xid)?;
        match one_phase {
            true => Steps::of_worker(self.connection(), xid).commit_one_phase().await,
            false => Steps::new(self.connection(), xid).commit_two_phase().await,
        }
    }

    /// Rolls a branch back (`rollback`), prepared or not: what it received is delivered again. One that the session works on
    /// is ended first.
    ///
    /// # Errors
    ///
    /// [`UnknownXid`](XaCode::UnknownXid): the broker has no such branch; [`is_in_doubt`](Error::is_in_doubt) with
    /// [`Unavailable`](XaCode::Unavailable): see [the module](crate::xa).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the branch may be rolled back or not.
    pub async fn rollback(&self, xid: &Xid) -> Result<()> {
        let session = self.session.inner();
        self.connection().check_open()?;
        let current = self
            .enlisted()?
            .current
            .lock()
            .take_if(|current| current.xid == *xid);
        if let Some(current) = current {
            end_work(session, &current)?;
        }
        Steps::new(self.connection(), xid).roll_back().await
    }

    /// The branches that are prepared at the broker and not completed, whoever prepared them (`recover`). The scan is always a
    /// whole one (`TMSTARTRSCAN | TMENDRSCAN`).
    ///
    /// # Errors
    ///
    /// What the broker answers; [`Unavailable`](XaCode::Unavailable) if it does not.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn recover(&self) -> Result<Vec<Xid>> {
        self.connection().check_open()?;
        steps::recover(self.connection()).await
    }

    /// Has the broker forget a branch about which somebody has decided by hand (`forget`).
    ///
    /// # Errors
    ///
    /// As [`rollback`](Self::rollback); [`Protocol`](XaCode::Protocol) while the session works on it.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped it may be forgotten or not.
    pub async fn forget(&self, xid: &Xid) -> Result<()> {
        self.check_ended(xid)?;
        Steps::new(self.connection(), xid).forget().await
    }

    /// True if both are of the same broker, so that one can join the other's branch (`isSameRM`); with
    /// `jms.rmIdFromConnectionId=true`, if both are of the same connection.
    pub fn is_same_resource_manager(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.resource_manager_id(), other.resource_manager_id());
        ours.is_some() && ours == theirs
    }

    /// The name of the broker's present run, or of the connection with `jms.rmIdFromConnectionId=true`; none while the
    /// broker has not introduced itself.
    pub fn resource_manager_id(&self) -> Option<String> {
        let connection = self.connection();
        match connection.options.rm_id_from_connection_id {
            true => Some(connection.id.to_string()),
            false => connection.hub.broker_now().map(|id| id.to_string()),
        }
    }

    /// How long a branch may take (`getTransactionTimeout`): zero, there is no limit.
    pub fn transaction_timeout(&self) -> Duration {
        Duration::ZERO
    }

    /// Always false (`setTransactionTimeout`): ActiveMQ's brokers have no limit, and the transaction manager keeps its own.
    pub fn set_transaction_timeout(&self, _limit: Duration) -> bool {
        false
    }

    /// True if the session works on a branch.
    pub fn is_enlisted(&self) -> bool {
        self.session
            .inner()
            .enlisted
            .as_ref()
            .is_some_and(Enlisted::is_working)
    }

    /// Closes the session (`close`). Branches that it has worked on and that are not prepared are rolled back; prepared ones
    /// stay as they are, and another session completes them.
    ///
    /// # Errors
    ///
    /// None today; closing twice is fine.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped the session is closed when its last handle is.
    pub async fn close(&self) -> Result<()> {
        self.session.close().await
    }

    fn check_ended(&self, xid: &Xid) -> Result<()> {
        self.connection().check_open()?;
        if self.enlisted()?.xid().as_ref() == Some(xid) {
            return Err(protocol(format!("the session still works on {xid}")));
        }
        Ok(())
    }
}

/// Everything that a session does but commit and roll back.
impl Deref for XaSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

fn protocol(what: String) -> Error {
    Error::xa(XaCode::Protocol, what)
}
