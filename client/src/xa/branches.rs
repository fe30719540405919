//! Which sessions have worked on which branch. Whoever completes a branch, over whatever session or connection of this
//! process, tells those who consumed messages in it, as ActiveMQ's client does: a transaction manager need not use the same
//! one for both.

use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::Xid;
use crate::connection::ConnectionInner;
use crate::consumer::{Mailbox, Out};
use crate::session::SessionInner;
use crate::wire::SessionId;

/// Branches that are begun and not completed. Each lasts as long as one of its connections does.
static BRANCHES: LazyLock<Mutex<FxHashMap<Xid, Branch>>> = LazyLock::new(Mutex::default);

/// A branch as this process knows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Branch {
    parts: Vec<Part>,
    pub(super) prepared: bool,
    /// It was ended as failed.
    pub(super) failed: bool,
}

/// What one session has done in it.
#[derive(Debug, Clone)]
struct Part {
    connection: Weak<ConnectionInner>,
    session: Weak<SessionInner>,
    id: SessionId,
    /// The physical connection.
    over: u64,
    mailboxes: Vec<Arc<Mailbox>>,
}

/// A session begins, or goes on, to work on a branch.
pub(super) fn join(xid: &Xid, session: &Arc<SessionInner>, over: u64) {
    let mut branches = BRANCHES.lock();
    branches.retain(|_, branch| branch.parts.iter().any(|part| part.connection.strong_count() > 0));
    let branch = branches.entry(xid.clone()).or_default();
    if branch.parts.iter().any(|part| part.id == session.id) {
        return;
    }
    branch.parts.push(Part {
        connection: Arc::downgrade(&session.connection),
        session: Arc::downgrade(session),
        id: session.id.clone(),
        over,
        mailboxes: Vec::new(),
    });
}

/// These consumers of a session have a part in the branch.
pub(super) fn consumed(xid: &Xid, session: &SessionId, mailboxes: &[Arc<Mailbox>]) {
    let mut branches = BRANCHES.lock();
    let parts = branches.get_mut(xid).map(|branch| &mut branch.parts);
    let Some(part) = parts.and_then(|parts| parts.iter_mut().find(|part| part.id == *session)) else {
        return;
    };
    for mailbox in mailboxes {
        if part.mailboxes.iter().all(|known| known.id() != mailbox.id()) {
            part.mailboxes.push(mailbox.clone());
        }
    }
}

/// The branch, if somebody of this process has worked on it.
pub(super) fn find(xid: &Xid) -> Option<Branch> {
    BRANCHES.lock().get(xid).cloned()
}

/// The branches that a session has worked on and that are not completed.
pub(super) fn of(session: &SessionId) -> Vec<(Xid, Branch)> {
    let branches = BRANCHES.lock();
    branches
        .iter()
        .filter(|(_, branch)| branch.parts.iter().any(|part| part.id == *session))
        .map(|(xid, branch)| (xid.clone(), branch.clone()))
        .collect()
}

/// Changes what is known of a branch.
pub(super) fn update(xid: &Xid, change: impl FnOnce(&mut Branch)) {
    if let Some(branch) = BRANCHES.lock().get_mut(xid) {
        change(branch);
    }
}

/// How a branch has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Committed,
    RolledBack,
    /// Nobody can tell.
    Unknown,
}

/// A branch is over: all who consumed in it hear of that.
pub(super) fn complete(xid: &Xid, how: Ended) {
    let branch = BRANCHES.lock().remove(xid);
    let id = xid.transaction_id();
    for part in branch.into_iter().flat_map(|branch| branch.parts) {
        let Some(connection) = part.connection.upgrade() else {
            continue;
        };
        for mailbox in part.mailboxes {
            let out = Out {
                link: &connection.link,
                counters: &connection.hub.counters,
                one_way: connection.options.send_acks_async,
            };
            match how {
                Ended::Committed => mailbox.branch_committed(&id),
                // An error says that the connection is closed, and its consumers with it.
                Ended::RolledBack => drop(mailbox.branch_rolled_back(&id, out)),
                Ended::Unknown => mailbox.branch_abandoned(&id),
            }
        }
        if let Some(session) = part.session.upgrade() {
            session.completed();
        }
    }
}

impl Branch {
    /// A connection that has worked on it, this one if it has.
    pub(super) fn worker(&self, preferred: &Arc<ConnectionInner>) -> Option<Arc<ConnectionInner>> {
        let mut workers = self.parts.iter().filter_map(|part| part.connection.upgrade());
        let first = workers.next()?;
        if Arc::ptr_eq(&first, preferred) || workers.any(|worker| Arc::ptr_eq(&worker, preferred)) {
            return Some(preferred.clone());
        }
        Some(first)
    }

    /// A connection broke before it was prepared: the broker has rolled back what came over it.
    pub(super) fn is_lost(&self) -> bool {
        !self.prepared
            && self.parts.iter().any(|part| {
                part.connection
                    .upgrade()
                    .is_none_or(|connection| connection.link.connection() != part.over)
            })
    }
}
