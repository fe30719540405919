//! Conditions under which a waiting command still means something when its turn comes.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use super::doubt::Moment;

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
    /// Both: acknowledgements in a transaction, and the commit that relies on them.
    TransactionOn(Arc<TransactionGuard>, u64),
}

impl Guard {
    /// The transaction it belongs to.
    pub(crate) fn transaction(&self) -> Option<&Arc<TransactionGuard>> {
        match self {
            Self::Transaction(guard) | Self::TransactionOn(guard, _) => Some(guard),
            Self::Always | Self::Connection(_) => None,
        }
    }

    /// The physical connection it belongs to.
    pub(crate) fn connection(&self) -> Option<u64> {
        match self {
            Self::Connection(number) | Self::TransactionOn(_, number) => Some(*number),
            Self::Always | Self::Transaction(_) => None,
        }
    }
}

/// Where a transaction stands between the session, which may give it up, and the link, which may send it away.
#[derive(Debug, Default)]
pub(crate) struct TransactionGuard {
    state: AtomicU8,
    committing_since: OnceLock<Moment>,
    begun: AtomicBool,
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

    /// The commit was not written after all, or a broker has said that it has not happened.
    pub(crate) fn withdraw_commit(&self) {
        let _ = self
            .state
            .compare_exchange(COMMITTING, OPEN, Ordering::AcqRel, Ordering::Acquire);
    }

    /// The commit is about to be handed to the link: no broker has seen it before. Only the first time counts.
    pub(crate) fn committing_from(&self, now: Moment) {
        self.committing_since.get_or_init(|| now);
    }

    pub(crate) fn committing_since(&self) -> Option<Moment> {
        self.committing_since.get().copied()
    }

    /// Its beginning was written: a broker has to hear of its end.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
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
