//! Commits that left and were not answered when their connection broke. What became of one is known only to the store
//! in which its broker keeps the outcomes of transactions, if it does, and only for a time: until that has passed, a
//! broker with the same store can be asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::guard::TransactionGuard;
use super::outbox::Reply;
use crate::environment::now_millis;
use crate::wire::{Command, TransactionId, TransactionOutcomes};

/// So much earlier than a broker forgets an outcome it is not relied on any more: the clocks of two machines do not run
/// at the same speed, and brokers count in whole milliseconds.
const MARGIN: Duration = Duration::from_secs(2);

/// A point in time on two clocks. One stands still while the machine is suspended and the other can be set, so what has
/// passed is what the one says that says more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    at: Instant,
    millis: i64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self {
            at: Instant::now(),
            millis: now_millis(),
        }
    }

    fn until(self, now: Self) -> Duration {
        let by_date = u64::try_from(now.millis.saturating_sub(self.millis)).unwrap_or(0);
        let measured = now.at.saturating_duration_since(self.at);
        measured.max(Duration::from_millis(by_date))
    }

    #[cfg(test)]
    pub(super) fn later(self, by: Duration) -> Self {
        Self {
            at: self.at + by,
            ..self
        }
    }
}

/// A commit whose outcome is open.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) id: TransactionId,
    /// The commit, to be sent again under its old command id.
    pub(super) commit: Command,
    pub(super) reply: Reply,
    pub(super) guard: Arc<TransactionGuard>,
    /// What the broker has announced to which it was written first.
    pub(super) outcomes: Option<TransactionOutcomes>,
}

impl Doubt {
    /// A broker that announces `theirs` still knows the outcome.
    fn can_be_resolved(&self, theirs: Option<&TransactionOutcomes>, now: Moment) -> bool {
        let (Some(ours), Some(theirs), Some(since)) = (&self.outcomes, theirs, self.guard.committing_since())
        else {
            return false;
        };
        let kept = Duration::from_millis(ours.kept.min(theirs.kept));
        ours.store == theirs.store && since.until(now) + MARGIN < kept
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// For the next broker.
    open: Vec<Doubt>,
    /// The broker was asked, by the commit's command id.
    asked: BTreeMap<i32, Doubt>,
}

impl Doubts {
    pub(super) fn add(&mut self, doubt: Doubt) {
        self.open.push(doubt);
    }

    /// The connection broke: what was asked is as open as before.
    pub(super) fn broken(&mut self) {
        self.open.extend(std::mem::take(&mut self.asked).into_values());
    }

    /// A broker has accepted the connection. Those that it cannot resolve come back.
    pub(super) fn ask(&mut self, theirs: Option<&TransactionOutcomes>, now: Moment) -> Vec<Doubt> {
        let (ask, hopeless): (Vec<_>, Vec<_>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|doubt| doubt.can_be_resolved(theirs, now));
        self.asked
            .extend(ask.into_iter().map(|doubt| (doubt.commit.command_id(), doubt)));
        hopeless
    }

    /// What the broker is asked.
    pub(super) fn questions(&self) -> Vec<Command> {
        self.asked.values().map(|doubt| doubt.commit.clone()).collect()
    }

    /// The broker answers. The flag says whether it could still know, so that a no is a no.
    pub(super) fn answered(
        &mut self,
        command_id: i32,
        now: impl FnOnce() -> Moment,
    ) -> Option<(Doubt, bool)> {
        let doubt = self.asked.remove(&command_id)?;
        let knew = doubt.can_be_resolved(doubt.outcomes.as_ref(), now());
        Some((doubt, knew))
    }

    /// Those that nobody waits for any more.
    pub(super) fn take_abandoned(&mut self) -> Vec<Doubt> {
        let abandoned = self.open.extract_if(.., |doubt| doubt.reply.is_closed());
        let mut abandoned: Vec<_> = abandoned.collect();
        abandoned.extend(
            self.asked
                .extract_if(.., |_, doubt| doubt.reply.is_closed())
                .map(|(_, doubt)| doubt),
        );
        abandoned
    }

    /// Answers are awaited.
    pub(super) fn is_asking(&self) -> bool {
        !self.asked.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len() + self.asked.len()
    }

    /// Somebody waits for one of them; if `all`, there are any.
    pub(super) fn is_awaited(&self, all: bool) -> bool {
        let mut doubts = self.open.iter().chain(self.asked.values());
        doubts.any(|doubt| all || !doubt.reply.is_closed())
    }

    pub(super) fn drain(&mut self) -> Vec<Doubt> {
        self.broken();
        std::mem::take(&mut self.open)
    }
}
