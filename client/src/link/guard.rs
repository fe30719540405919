//! Conditions under which a waiting command still means something when its turn comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What must still hold when a command is written.
#[derive(Debug, Clone)]
pub(crate) enum Guard {
    /// Nothing.
    Always,
    /// The connection to the broker is still the same one. Acknowledgements and pulls mean nothing to
    /// another one, which has not dispatched anything yet.
    Connection(u64),
    /// The transaction can still be committed.
    Transaction(Arc<TransactionGuard>),
}

/// Where a transaction stands between the session, which may give it up, and the link, which may send it away.
#[derive(Debug, Default)]
pub(crate) struct TransactionGuard {
    state: AtomicU8,
    consumed: AtomicBool,
}

const OPEN: u8 = 0;
const COMMITTING: u8 = 1;
const DEAD: u8 = 2;

impl TransactionGuard {
    /// Gives the transaction up: nothing more of it is written. False if its commit is on its way already.
    pub(crate) fn kill(&self) -> bool {
        self.set(DEAD)
    }

    /// The commit is being written. False if the transaction was given up.
    pub(crate) fn begin_commit(&self) -> bool {
        self.set(COMMITTING)
    }

    /// The commit was not written after all.
    pub(crate) fn withdraw_commit(&self) {
        let _ = self
            .state
            .compare_exchange(COMMITTING, OPEN, Ordering::AcqRel, Ordering::Acquire);
    }

    /// A message is being delivered in the transaction: another broker does not know that, so the transaction does
    /// not survive a break.
    pub(crate) fn consume(&self) {
        self.consumed.store(true, Ordering::Release);
    }

    pub(crate) fn has_consumed(&self) -> bool {
        self.consumed.load(Ordering::Acquire)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state.load(Ordering::Acquire) == DEAD
    }

    fn set(&self, state: u8) -> bool {
        match self
            .state
            .compare_exchange(OPEN, state, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => true,
            Err(current) => current == state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_first_decides() {
        let guard = TransactionGuard::default();
        assert!(guard.begin_commit());
        assert!(!guard.kill());
        assert!(!guard.is_dead());
        let guard = TransactionGuard::default();
        assert!(guard.kill());
        assert!(!guard.begin_commit());
        assert!(guard.is_dead() && guard.kill());
    }

    #[test]
    fn a_commit_that_was_not_written_can_be_given_up() {
        let guard = TransactionGuard::default();
        guard.begin_commit();
        guard.withdraw_commit();
        assert!(guard.kill());
    }
}
