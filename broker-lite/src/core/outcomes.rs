//! What became of transactions: a commit that is sent again, because the connection broke before it was
//! answered, is answered with what happened.
//!
//! A commit that stored something is remembered by the store as well, in the same batch. One that stored
//! nothing is remembered here alone: a restart forgets it and its messages, but not what consumers had of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use openwire_client::wire::{Command, LocalTransactionId};
use rustc_hash::FxHashMap;

use super::effect::{ConnectionKey, Effect, StoreToken, Then};
use super::refusal::{Refusal, branch_not_stored, not_stored};
use super::{Core, Outcome, Turn};
use crate::store::{Committed, Op, StoreError};

/// How long the outcomes of transactions are kept: each until it is older than `age`, or until there are
/// more than `count`.
///
/// They are kept as what the transactions did is kept: in the store, if a transaction stored something (it sent
/// or consumed a persistent message, and there is a store), else in memory. So after a restart of the broker, or
/// a crash, a commit that stored nothing and is sent again is answered as one that did not happen. Its client
/// then does all of it again, which is right for what the restart lost; but consumers that had received its
/// non-persistent messages before receive them a second time. Who cannot have that sends persistent messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutcomeLimits {
    /// How many are kept; 100,000 by default, up to 1,000,000. They take about 150 bytes of memory each, and 16
    /// in each segment of the journal.
    pub count: usize,
    /// How long; an hour by default, longer than any client tries to get an answer.
    pub age: Duration,
}

impl OutcomeLimits {
    /// The most [`count`](Self::count) may be: all of them stand in the catalog that begins each segment of
    /// the journal, and it has to fit in a frame.
    pub const MAX_COUNT: usize = 1_000_000;
}

impl Default for OutcomeLimits {
    fn default() -> Self {
        Self {
            count: 100_000,
            age: Duration::from_secs(3600),
        }
    }
}

/// A local transaction: the id of its connection, and its number there. Or a branch, by its xid.
pub(super) type OutcomeId = (Arc<str>, i64);

type Id = OutcomeId;

/// The transactions that were committed lately.
#[derive(Debug)]
pub(super) struct Outcomes {
    count: usize,
    /// In milliseconds.
    age: i64,
    known: FxHashMap<Id, Known>,
    /// In order of their commits.
    order: VecDeque<(i64, Id)>,
    /// How many were taken off the front of `order`.
    passed: u64,
    /// Outcomes up to this time may have been forgotten.
    forgotten: i64,
    /// How many were forgotten before their time.
    pub(super) crowded_out: u64,
}

#[derive(Debug)]
struct Known {
    /// Which entry of `order` it is, counted from the first one ever: a client may use an id again.
    number: u64,
    /// The batch it is stored with, until that is durable.
    pending: Option<StoreToken>,
}

impl Outcomes {
    pub(super) fn new(limits: OutcomeLimits, committed: Vec<Committed>, forgotten: i64) -> Self {
        let mut outcomes = Self {
            count: limits.count,
            age: limits.age.as_millis().try_into().unwrap_or(i64::MAX),
            known: FxHashMap::default(),
            order: VecDeque::new(),
            passed: 0,
            forgotten,
            crowded_out: 0,
        };
        for outcome in committed {
            outcomes.note((outcome.connection, outcome.transaction), outcome.at, None);
        }
        outcomes
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// For how long every outcome is known, in milliseconds.
    pub(super) fn kept(&self, now: i64) -> i64 {
        let since = self.time(now).saturating_sub(self.forgotten);
        since.clamp(0, self.age)
    }

    /// The time, which does not run backwards here when somebody sets the clock.
    fn time(&self, now: i64) -> i64 {
        self.order.back().map_or(now, |(newest, _)| now.max(*newest))
    }

    /// A transaction was committed; gives when that counts as having happened.
    fn note(&mut self, id: Id, now: i64, pending: Option<StoreToken>) -> i64 {
        let at = self.time(now);
        let number = self.passed + self.order.len() as u64;
        self.known.insert(id.clone(), Known { number, pending });
        self.order.push_back((at, id));
        while let Some((oldest, _)) = self.order.front()
            && (self.order.len() > self.count || at.saturating_sub(*oldest) > self.age)
        {
            self.forget_oldest(at);
        }
        at
    }

    fn forget_oldest(&mut self, now: i64) {
        let Some((at, id)) = self.order.pop_front() else {
            return;
        };
        let number = self.passed;
        self.passed += 1;
        self.forgotten = self.forgotten.max(at);
        if self.known.get(&id).is_some_and(|known| known.number == number) {
            self.known.remove(&id);
            self.crowded_out += u64::from(now.saturating_sub(at) <= self.age);
        }
    }

    /// What these wait for is durable.
    pub(super) fn durable(&mut self, token: StoreToken, ids: &[Id]) {
        for id in ids {
            if let Some(known) = self.known.get_mut(id) {
                known.pending.take_if(|pending| *pending == token);
            }
        }
    }

    /// What these wait for was refused: they did not happen.
    pub(super) fn withdraw(&mut self, token: StoreToken, ids: &[Id]) {
        for id in ids {
            if self
                .known
                .get(id)
                .is_some_and(|known| known.pending == Some(token))
            {
                self.known.remove(id);
            }
        }
    }
}

/// Outcomes that become known with a batch, and who asked for them meanwhile.
#[derive(Debug, Default)]
pub(super) struct Undecided {
    ids: Vec<Id>,
    /// With the code of the refusal, if it is of a branch.
    waiting: Vec<(ConnectionKey, Command, Option<i32>)>,
}

impl Undecided {
    /// This is to be answered, or refused, with the batch.
    pub(super) fn wait(&mut self, to: ConnectionKey, response: Command) {
        self.waiting.push((to, response, None));
    }

    /// The same for a step of a branch, which is refused with this code of `XAException`.
    pub(super) fn wait_branch(&mut self, to: ConnectionKey, response: Command, code: i32) {
        self.waiting.push((to, response, Some(code)));
    }

    /// A connection ended: it waits no more.
    pub(super) fn gone(&mut self, connection: ConnectionKey) {
        self.waiting.retain(|(to, ..)| *to != connection);
    }
}

impl Core {
    /// For how long the outcome of every transaction is known at this time, in milliseconds: a commit that is
    /// refused, and was sent for the first time less than this ago, did not happen.
    pub fn outcomes_kept(&self, now: i64) -> i64 {
        self.outcomes.kept(now)
    }

    /// The client of this connection was told that outcomes are kept for so long; see
    /// [`Core::outcomes_kept`]. If by then they no longer are when it sends a commit again, it is not given an answer that it
    /// would take for more than it says: its connection ends, and it is told the shorter time when it comes again.
    pub fn promised(&mut self, connection: ConnectionKey, kept: i64) {
        if let Some(connection) = self.connections.get_mut(connection.0 as usize) {
            connection.promised = kept;
        }
    }

    /// Everything a transaction does is done, as far as this turn is concerned.
    pub(super) fn note_outcome(&mut self, id: OutcomeId, turn: &mut Turn<'_>) {
        if !turn.effects.has_store() {
            self.outcomes.note(id, turn.now, None);
            return;
        }
        let batch = self.batch(turn);
        batch.undecided.ids.push(id.clone());
        let token = batch.token;
        let at = self.outcomes.note(id.clone(), turn.now, Some(token));
        let (connection, transaction) = id;
        let outcome = Committed {
            connection,
            transaction,
            at,
        };
        let forgotten = self.outcomes.forgotten;
        turn.effects.store([Op::Committed { outcome, forgotten }], None);
    }

    /// A commit of a transaction that is not open: answered with its outcome if that is known, else refused.
    pub(super) fn commit_again(
        &mut self,
        from: ConnectionKey,
        transaction: &LocalTransactionId,
        refusal: Refusal,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let connection = &self.connections[from.0 as usize];
        let id = (connection.id_text(), transaction.value);
        if self.is_committed(&id) && connection.owns(transaction) {
            let told = self.tell_outcome(&id, None, reply, turn);
            return told.unwrap_or(Err(refusal));
        }
        if connection.failover_reconnect() && self.outcomes.kept(turn.now) < connection.promised {
            self.close(
                from,
                "outcomes were forgotten sooner than it was told".into(),
                turn,
            );
            return Ok(Outcome::Answered);
        }
        Err(refusal)
    }

    /// True if this was committed lately, as far as is known.
    pub(super) fn is_committed(&self, id: &OutcomeId) -> bool {
        self.outcomes.known.contains_key(id)
    }

    /// Answers a commit that was sent again; none if it is not known that it happened. If the store refuses it, and it is
    /// of a branch, it is refused with this code.
    pub(super) fn tell_outcome(
        &mut self,
        id: &OutcomeId,
        refused: Option<i32>,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Option<Result<Outcome, Refusal>> {
        let known = self.outcomes.known.get(id)?;
        self.stats.commits_repeated += 1;
        let Some(token) = known.pending else {
            return Some(Ok(turn.confirm(reply)));
        };
        let Some(batch) = self.batches.iter_mut().find(|batch| batch.token == token) else {
            return Some(Err(Refusal::io(
                "the store failed while the transaction was committed: its outcome is not known",
            )));
        };
        match (reply, refused) {
            (Some(Then::Reply { to, response }), Some(code)) => {
                batch.undecided.wait_branch(to, response, code);
            }
            (Some(Then::Reply { to, response }), None) => batch.undecided.wait(to, response),
            _ => {}
        }
        Some(Ok(Outcome::Answered))
    }

    /// The batch these were stored with is durable, or never will be.
    pub(super) fn decide(
        &mut self,
        token: StoreToken,
        undecided: Undecided,
        result: &Result<(), StoreError>,
        turn: &mut Turn<'_>,
    ) {
        match result {
            Ok(()) => self.outcomes.durable(token, &undecided.ids),
            Err(StoreError::Refused(_) | StoreError::Full(_)) => {
                self.outcomes.withdraw(token, &undecided.ids);
            }
            // Nobody knows whether it is on the disk: it stays undecided.
            Err(_) => {}
        }
        for (to, response, code) in undecided.waiting {
            let command = match (result, code) {
                (Ok(()), _) => response,
                (Err(failure), None) => not_stored(&response, failure),
                (Err(failure), Some(code)) => branch_not_stored(&response, failure, code),
            };
            turn.effects.push(Effect::Send { to, command });
        }
    }
}
