//! Branches of distributed transactions: known by their xid to the whole broker, whichever connection works on them.
//!
//! A branch that is prepared outlives its connection and, with a store, the broker. Until it has its outcome, what was
//! sent in it lies on a destination of its own, and what it acknowledged is with nobody.

use std::sync::Arc;

use openwire_client::wire::{Command, DataArrayResponse, TransactionId, TransactionInfo, XaTransactionId};
use rustc_hash::FxHashMap;

use super::sends::Sends;
use super::taken::Taken;
use super::xid::{not_started, number, outcome_of, rolled_back, stored_xid, wire_xid};
use super::{Transaction, TransactionKey};
use crate::core::durable::{Back, Part};
use crate::core::effect::{ConnectionKey, Effect, Then};
use crate::core::outcomes::OutcomeId;
use crate::core::refusal::{Refusal, XA_RBCOMMFAIL, XA_RETRY, XAER_PROTO, XAER_RMERR, XAER_RMFAIL};
use crate::core::subscription::{InFlight, SubscriptionKey};
use crate::core::{Core, Outcome, Turn};
use crate::store::{DestinationKey, MessageKey, Op, Prepared, StoreError, StoredXid};

/// Branches without an outcome, in the whole broker: they are made by naming them, and all prepared ones go into the
/// answer to one `RECOVER`.
const MAX_BRANCHES: usize = 100_000;

/// Messages that prepared branches have acknowledged, in all: they stand in the catalog of each segment of the journal.
const MAX_HELD: usize = 4_000_000;

/// `XAResource.XA_OK`: the branch is prepared.
const XA_OK: i32 = 0;

/// `XAResource.XA_RDONLY`: nothing was done in the branch, and it has ended.
const XA_RDONLY: i32 = 3;

/// How far a branch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Work can be done in it.
    Open,
    /// On its way into the store.
    Preparing,
    Prepared,
    /// Committed or rolled back, which is on its way into the store.
    Ending,
    /// It was committed. A client that came back after a break sends it again, without any effect.
    Echo,
}

/// What makes a transaction a branch.
#[derive(Debug)]
pub(super) struct Branch {
    xid: StoredXid,
    /// The connection that began it, until that ends.
    owner: Option<ConnectionKey>,
    pub(super) state: State,
    /// How many messages it holds that nobody else may have, once it is prepared.
    held: usize,
}

/// The branches without an outcome.
#[derive(Debug, Default)]
pub(super) struct Branches {
    known: FxHashMap<StoredXid, TransactionKey>,
    held: usize,
}

impl Branches {
    pub(super) fn remove(&mut self, branch: &Branch) {
        self.known.remove(&branch.xid);
        self.held -= branch.held;
    }
}

impl Core {
    /// A step of a branch.
    pub(super) fn branch_info(
        &mut self,
        from: ConnectionKey,
        id: &XaTransactionId,
        info: &TransactionInfo,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        match info.step {
            TransactionInfo::BEGIN => self.begin_branch(from, id),
            // Commands of a connection are done in order: whatever came before it is in the branch.
            TransactionInfo::END => Ok(Outcome::Done),
            TransactionInfo::PREPARE => self.prepare(from, id, info, reply, turn),
            TransactionInfo::COMMIT_ONE_PHASE | TransactionInfo::COMMIT_TWO_PHASE => {
                self.commit_branch(from, id, info, reply, turn)
            }
            // As in ActiveMQ, to forget a branch is to roll it back if it still is there.
            TransactionInfo::ROLLBACK | TransactionInfo::FORGET => self.roll_back_branch(id, reply, turn),
            other => Err(Refusal::jms(format!("no such step of a transaction: {other}"))),
        }
    }

    /// The branch with this id.
    pub(super) fn branch(&self, id: &XaTransactionId) -> Result<TransactionKey, Refusal> {
        let known = self.transactions.branches.known.get(&stored_xid(id));
        known.copied().ok_or_else(|| not_started(id))
    }

    /// A branch that is there already is joined.
    fn begin_branch(&mut self, from: ConnectionKey, id: &XaTransactionId) -> Result<Outcome, Refusal> {
        let xid = stored_xid(id);
        let branches = &self.transactions.branches.known;
        if branches.contains_key(&xid) {
            return Ok(Outcome::Done);
        }
        if branches.len() >= MAX_BRANCHES {
            return Err(Refusal::resources(format!(
                "the broker has {MAX_BRANCHES} open branches of distributed transactions already"
            )));
        }
        let replayed = self.connections[from.0 as usize].failover_reconnect();
        let state = match replayed && self.is_committed(&outcome_of(&xid)) {
            true => State::Echo,
            false => State::Open,
        };
        self.add_branch(xid, Some(from), state, Transaction::default());
        Ok(Outcome::Done)
    }

    fn add_branch(
        &mut self,
        xid: StoredXid,
        owner: Option<ConnectionKey>,
        state: State,
        mut transaction: Transaction,
    ) -> TransactionKey {
        let held = match state {
            State::Prepared => transaction.taken.len(),
            _ => 0,
        };
        transaction.branch = Some(Branch {
            xid: xid.clone(),
            owner,
            state,
            held,
        });
        let key = self.transactions.begin(transaction);
        self.transactions.branches.known.insert(xid, key);
        self.transactions.branches.held += held;
        key
    }

    fn set_state(&mut self, key: TransactionKey, state: State) {
        if let Some(branch) = self
            .transactions
            .get_mut(key)
            .and_then(|open| open.branch.as_mut())
        {
            branch.state = state;
        }
    }

    /// First phase: from the answer on the branch can be committed, whatever becomes of client and broker.
    fn prepare(
        &mut self,
        from: ConnectionKey,
        id: &XaTransactionId,
        info: &TransactionInfo,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let key = self.branch(id)?;
        let Some(transaction) = self.transactions.get(key) else {
            return Err(not_started(id));
        };
        match transaction.state() {
            State::Open if transaction.asked.is_none() => {}
            State::Prepared | State::Echo => return Ok(self.answer_branch(number(reply, XA_OK), None, turn)),
            _ => return Err(Refusal::xa("Cannot call prepare now.", XAER_PROTO)),
        }
        if let Some(why) = transaction.failed.clone() {
            self.roll_back(key, turn);
            return Err(rolled_back(&why));
        }
        if !transaction.has_work() {
            self.roll_back(key, turn);
            return Ok(self.answer_branch(number(reply, XA_RDONLY), None, turn));
        }
        if transaction.sends.unanswered > 0 {
            self.defer(key, from, info, reply, turn);
            return Ok(Outcome::Answered);
        }
        let held = transaction.taken.len();
        if self.transactions.branches.held + held > MAX_HELD {
            return Err(Refusal::xa(
                format!("prepared transactions hold too many messages; {MAX_HELD} is the limit"),
                XAER_RMERR,
            ));
        }
        let stored = self.config.stored && self.has_stored_work(key);
        self.transactions.branches.held += held;
        if let Some(transaction) = self.transactions.get_mut(key) {
            for taken in transaction
                .taken
                .iter_mut()
                .filter(|taken| taken.message.entry.stored)
            {
                taken.message.release_body();
            }
            if let Some(branch) = &mut transaction.branch {
                branch.held = held;
                branch.state = if stored { State::Preparing } else { State::Prepared };
            }
        }
        if !stored {
            return Ok(self.answer_branch(number(reply, XA_OK), None, turn));
        }
        let Some((destination, created)) = self.sent_destination(key, turn) else {
            return Err(not_started(id));
        };
        self.store_resident(key, turn);
        let prepared = Arc::new(Prepared {
            xid: stored_xid(id),
            acknowledged: self.held_keys(key),
        });
        turn.effects.store(
            [Op::Prepare {
                destination,
                prepared,
            }],
            None,
        );
        self.batch(turn).transactions.push(Part::Prepared {
            transaction: key,
            created,
        });
        Ok(self.answer_branch(number(reply, XA_OK), Some(XAER_RMERR), turn))
    }

    /// True if the store has a part in what the branch does.
    fn has_stored_work(&self, key: TransactionKey) -> bool {
        self.transactions.get(key).is_some_and(|transaction| {
            transaction.sends.any_persistent()
                || transaction.taken.iter().any(|taken| taken.message.entry.stored)
        })
    }

    fn held_keys(&self, key: TransactionKey) -> Vec<MessageKey> {
        let taken = self
            .transactions
            .get(key)
            .map_or(&[][..], |transaction| &transaction.taken[..]);
        let stored = taken.iter().filter(|taken| taken.message.entry.stored);
        stored
            .filter_map(|taken| {
                let queue = self.queues.get(taken.message.queue.0)?;
                Some(MessageKey {
                    destination: queue.key?,
                    sequence: taken.message.entry.sequence,
                })
            })
            .collect()
    }

    /// The store has what was prepared, or refused it.
    pub(super) fn prepare_stored(
        &mut self,
        key: TransactionKey,
        created: bool,
        result: &Result<(), StoreError>,
        turn: &mut Turn<'_>,
    ) {
        let Some(transaction) = self.transactions.open.get_mut(&key) else {
            return;
        };
        let Some(branch) = &mut transaction.branch else {
            return;
        };
        match result {
            Ok(()) => {
                branch.state = State::Prepared;
                self.drop_resident(key);
            }
            Err(StoreError::Refused(_) | StoreError::Full(_)) => {
                branch.state = State::Open;
                self.transactions.branches.held -= std::mem::take(&mut branch.held);
                let alone = branch.owner.is_none();
                transaction.sends.forget_stored();
                transaction.sends.created &= !created;
                if alone {
                    self.roll_back(key, turn);
                }
            }
            // Nobody knows whether it is prepared: the broker ends, and the next one reads it.
            Err(_) => {}
        }
    }

    fn commit_branch(
        &mut self,
        from: ConnectionKey,
        id: &XaTransactionId,
        info: &TransactionInfo,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let outcome = outcome_of(&stored_xid(id));
        let key = match self.branch(id) {
            Ok(key) => key,
            // It was sent before, and the answer got lost.
            Err(refusal) => {
                return self
                    .tell_outcome(&outcome, Some(XA_RBCOMMFAIL), reply, turn)
                    .unwrap_or(Err(refusal));
            }
        };
        let Some(transaction) = self.transactions.get(key) else {
            return Err(not_started(id));
        };
        let prepared = match transaction.state() {
            State::Open if info.step == TransactionInfo::COMMIT_TWO_PHASE => {
                return Err(Refusal::xa(
                    "Cannot do 2 phase commit if the transaction has not been prepared",
                    XAER_PROTO,
                ));
            }
            State::Open if transaction.asked.is_none() => false,
            State::Prepared if transaction.asked.is_none() => true,
            State::Echo => {
                self.roll_back(key, turn);
                let told = self.tell_outcome(&outcome, Some(XA_RETRY), reply, turn);
                return told.unwrap_or_else(|| Err(not_started(id)));
            }
            State::Ending => {
                let told = self.tell_outcome(&outcome, Some(XA_RETRY), reply, turn);
                return told.unwrap_or_else(|| Err(Refusal::xa("Cannot call commit now.", XAER_PROTO)));
            }
            _ => return Err(Refusal::xa("Cannot call commit now.", XAER_PROTO)),
        };
        if let Some(why) = transaction.failed.clone() {
            self.roll_back(key, turn);
            return Err(rolled_back(&why));
        }
        if !transaction.sends.is_settled() {
            self.defer(key, from, info, reply, turn);
            return Ok(Outcome::Answered);
        }
        match prepared {
            false => self.commit_open(key, outcome, reply, turn),
            true => self.commit_prepared(key, outcome, reply, turn),
        }
    }

    /// Commits a branch that is not prepared. If the store refuses that, it is rolled back.
    fn commit_open(
        &mut self,
        key: TransactionKey,
        outcome: OutcomeId,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let Some(transaction) = self.transactions.remove(key) else {
            return Ok(Outcome::Done);
        };
        let told = reply.is_some();
        let back = |taken: &Taken| match taken.consumer {
            Some(consumer) if told => Back::InFlight(consumer),
            _ => Back::Seen,
        };
        let done = self.complete(key, transaction, None, outcome, back, turn);
        self.note_consumed(done.consumed, turn);
        let answer = self.answer_branch(reply, Some(XA_RBCOMMFAIL), turn);
        self.remove_sent_destination(&done.transaction.sends, turn);
        self.move_on_after(&done.touched, turn);
        Ok(answer)
    }

    /// Commits a branch that is prepared. If the store refuses that, it stays prepared.
    fn commit_prepared(
        &mut self,
        key: TransactionKey,
        outcome: OutcomeId,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        // It stays known by its xid.
        let Some(transaction) = self.transactions.open.remove(&key) else {
            return Ok(Outcome::Done);
        };
        let back = |taken: &Taken| Back::Prepared(key, taken.consumer);
        let done = self.complete(key, transaction, None, outcome, back, turn);
        self.transactions.open.insert(key, done.transaction);
        self.note_consumed(done.consumed, turn);
        self.end_prepared(key, true, turn);
        let answer = self.answer_branch(reply, Some(XA_RETRY), turn);
        self.move_on_after(&done.touched, turn);
        Ok(answer)
    }

    fn roll_back_branch(
        &mut self,
        id: &XaTransactionId,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let key = self.branch(id)?;
        let Some(transaction) = self.transactions.get(key) else {
            return Err(not_started(id));
        };
        match transaction.state() {
            State::Open if transaction.asked.is_none() => self.roll_back(key, turn),
            State::Prepared if transaction.asked.is_none() => {
                self.end_prepared(key, false, turn);
                return Ok(self.answer_branch(reply, Some(XAER_RMFAIL), turn));
            }
            // It was committed.
            State::Echo => {
                self.roll_back(key, turn);
                return Err(not_started(id));
            }
            _ => return Err(Refusal::xa("Cannot call rollback now.", XAER_PROTO)),
        }
        Ok(Outcome::Done)
    }

    /// What is prepared ends, as soon as the store has that.
    fn end_prepared(&mut self, key: TransactionKey, committed: bool, turn: &mut Turn<'_>) {
        let Some(transaction) = self.transactions.get(key) else {
            return;
        };
        match transaction.sends.destination {
            Some(destination) if transaction.sends.created => {
                let key = destination;
                turn.effects.store([Op::RemoveDestination { key }], None);
            }
            // Only memory knows of it; what its commit stores it stores with the turn.
            _ if committed && turn.effects.has_store() => {}
            _ => return self.finish_prepared(key, committed, turn),
        }
        self.set_state(key, State::Ending);
        self.batch(turn).transactions.push(Part::Ended {
            transaction: key,
            committed,
        });
    }

    fn finish_prepared(&mut self, key: TransactionKey, committed: bool, turn: &mut Turn<'_>) {
        let Some(mut transaction) = self.transactions.remove(key) else {
            return;
        };
        if let Some(destination) = transaction.sends.destination {
            self.transactions.stored.remove(&destination);
        }
        if committed {
            // Whatever it had in memory is on its queues.
            transaction.sends.resident = 0;
        }
        self.release(key, transaction, turn);
    }

    /// The store has the end of what was prepared, or refused it: then it is prepared as it was.
    pub(super) fn end_stored(
        &mut self,
        key: TransactionKey,
        committed: bool,
        result: &Result<(), StoreError>,
        turn: &mut Turn<'_>,
    ) {
        match result {
            Ok(()) => self.finish_prepared(key, committed, turn),
            Err(StoreError::Refused(_) | StoreError::Full(_)) => {
                self.set_state(key, State::Prepared);
                if let Some(transaction) = self.transactions.get(key)
                    && committed
                {
                    self.memory_used += transaction.sends.resident;
                }
            }
            Err(_) => {}
        }
    }

    /// A message of a prepared branch whose commit the store refused is held again.
    pub(in crate::core) fn hold_again(
        &mut self,
        key: TransactionKey,
        message: InFlight,
        consumer: Option<SubscriptionKey>,
    ) {
        let Some(transaction) = self.transactions.get_mut(key) else {
            return;
        };
        if let Some(consumer) = consumer
            && !transaction.consumers.contains(&consumer)
        {
            transaction.consumers.push(consumer);
            self.subscriptions[consumer.0].transactions.push(key);
        }
        transaction.taken.push(Taken { message, consumer });
    }

    /// A connection ended. What it began and is not prepared is rolled back.
    pub(super) fn forget_branches(&mut self, connection: ConnectionKey, turn: &mut Turn<'_>) {
        let open = self.transactions.branches.known.values();
        let mut own: Vec<_> = open
            .copied()
            .filter(|key| {
                let branch = self.transactions.get(*key).and_then(|open| open.branch.as_ref());
                branch.is_some_and(|branch| branch.owner == Some(connection))
            })
            .collect();
        own.sort_unstable();
        for key in own {
            let Some(branch) = self
                .transactions
                .get_mut(key)
                .and_then(|open| open.branch.as_mut())
            else {
                continue;
            };
            branch.owner = None;
            if matches!(branch.state, State::Open | State::Echo) {
                self.roll_back(key, turn);
            }
        }
    }

    /// Answers which branches are prepared, in the order in which they began.
    pub(super) fn recover_branches(
        &mut self,
        from: ConnectionKey,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Outcome {
        let mut prepared: Vec<_> = self
            .transactions
            .branches
            .known
            .iter()
            .filter(|(_, key)| {
                let transaction = self.transactions.get(**key);
                transaction.is_some_and(|open| open.state() == State::Prepared)
            })
            .collect();
        prepared.sort_unstable_by_key(|(_, key)| **key);
        let data = prepared
            .into_iter()
            .map(|(xid, _)| Some(Box::new(Command::from(TransactionId::Xa(wire_xid(xid))))))
            .collect();
        if let Some(Then::Reply { response, .. }) = reply {
            let response = DataArrayResponse {
                correlation_id: response.correlation_id().unwrap_or_default(),
                data: Some(data),
                ..DataArrayResponse::default()
            };
            turn.send(from, response);
        }
        Outcome::Answered
    }

    /// Answers a step: now or, with a code for its refusal, once the store has what the turn stores.
    fn answer_branch(&mut self, reply: Option<Then>, refused: Option<i32>, turn: &mut Turn<'_>) -> Outcome {
        let Some(Then::Reply { to, response }) = reply else {
            return Outcome::Answered;
        };
        match refused {
            Some(code) if turn.effects.has_store() => {
                self.batch(turn).undecided.wait_branch(to, response, code);
            }
            _ => turn.effects.push(Effect::Send {
                to,
                command: response,
            }),
        }
        Outcome::Answered
    }

    /// Takes over a prepared branch that the store held, with the messages it acknowledged.
    pub(in crate::core) fn recover_branch(
        &mut self,
        destination: DestinationKey,
        prepared: &Prepared,
        sent: impl Iterator<Item = (u64, u32)>,
        held: Vec<InFlight>,
    ) {
        let taken = held.into_iter().map(|message| Taken {
            message,
            consumer: None,
        });
        let transaction = Transaction {
            sends: Sends::recovered(destination, sent),
            taken: taken.collect(),
            ..Transaction::default()
        };
        let key = self.add_branch(prepared.xid.clone(), None, State::Prepared, transaction);
        self.transactions.stored.insert(destination, key);
    }
}
