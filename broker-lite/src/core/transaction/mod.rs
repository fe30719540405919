//! Transactions: what was sent waits, what was acknowledged is only taken aside, until the outcome.
//!
//! | room | what it knows |
//! |---|---|
//! | here | local transactions; how a transaction ends, whichever it is |
//! | `xa`, `xid` | branches of distributed transactions, which belong to no connection |
//! | `sends`, `unread` | what was sent, in memory or in the store |
//! | `taken` | what was acknowledged |

mod sends;
mod taken;
mod unread;
mod xa;
mod xid;

use std::collections::hash_map::Entry;

use openwire_client::wire::{Command, ConsumerId, LocalTransactionId, TransactionId, TransactionInfo};
use rustc_hash::FxHashMap;

use self::sends::Sends;
use self::taken::Taken;
use self::xa::{Branch, Branches, State};
use super::durable::{Back, Consumed, Part};
use super::effect::{ConnectionKey, Effect, Then};
use super::outcomes::OutcomeId;
use super::refusal::Refusal;
use super::subscription::SubscriptionKey;
use super::{Core, Outcome, Turn};
use crate::store::{DestinationKey, Op, StoreError};

/// Open transactions of one connection; a session has one at a time.
const MAX_OPEN: usize = 100_000;

/// Names an open transaction inside the core. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TransactionKey(u64);

/// A transaction that has no outcome yet.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    sends: Sends,
    /// Queue messages that were acknowledged in it.
    taken: Vec<Taken>,
    /// Bytes of their bodies that were in memory.
    taken_bytes: usize,
    /// The consumers that had them.
    consumers: Vec<SubscriptionKey>,
    /// Topic messages that were acknowledged in it. The id tells whether the key still means the same.
    pub(super) topic_acks: Vec<(SubscriptionKey, ConsumerId, usize)>,
    /// Why it cannot be committed.
    failed: Option<String>,
    /// What it is if it is not local.
    branch: Option<Branch>,
    /// What is to become of it once the store has answered.
    asked: Option<Box<Asked>>,
}

impl Transaction {
    fn state(&self) -> State {
        self.branch.as_ref().map_or(State::Open, |branch| branch.state)
    }

    /// Work can be done in it.
    pub(super) fn is_open(&self) -> bool {
        self.state() == State::Open && self.asked.is_none()
    }

    fn has_work(&self) -> bool {
        !(self.sends.list.is_empty() && self.taken.is_empty() && self.topic_acks.is_empty())
    }
}

/// The end of a transaction was asked for, before it could come.
#[derive(Debug)]
struct Asked {
    from: ConnectionKey,
    info: TransactionInfo,
    response: Option<Command>,
}

/// The transactions that have no outcome yet.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    open: FxHashMap<TransactionKey, Transaction>,
    last: u64,
    branches: Branches,
    /// Whose messages lie on these destinations of the store.
    pub(super) stored: FxHashMap<DestinationKey, TransactionKey>,
    /// Those whose end was asked for and waits for the store.
    deferred: Vec<TransactionKey>,
    /// Destinations that are gone, which the store refused to remove.
    leftovers: Vec<DestinationKey>,
}

impl Transactions {
    pub(super) fn get(&self, key: TransactionKey) -> Option<&Transaction> {
        self.open.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: TransactionKey) -> Option<&mut Transaction> {
        self.open.get_mut(&key)
    }

    fn begin(&mut self, transaction: Transaction) -> TransactionKey {
        self.last += 1;
        let key = TransactionKey(self.last);
        self.open.insert(key, transaction);
        key
    }

    fn remove(&mut self, key: TransactionKey) -> Option<Transaction> {
        let transaction = self.open.remove(&key)?;
        if let Some(branch) = &transaction.branch {
            self.branches.remove(branch);
        }
        if transaction.asked.is_some() {
            self.deferred.retain(|&deferred| deferred != key);
        }
        Some(transaction)
    }
}

impl Core {
    pub(super) fn transaction_info(
        &mut self,
        from: ConnectionKey,
        info: &TransactionInfo,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        self.registered(from)?;
        if info.step == TransactionInfo::RECOVER {
            return Ok(self.recover_branches(from, reply, turn));
        }
        let id = match &info.transaction_id {
            Some(TransactionId::Local(id)) => id,
            Some(TransactionId::Xa(xid)) => return self.branch_info(from, xid, info, reply, turn),
            None => return Err(Refusal::jms("a step of no transaction")),
        };
        match info.step {
            TransactionInfo::BEGIN => {
                let transactions = &mut self.connections[from.0 as usize].transactions;
                if transactions.len() >= MAX_OPEN {
                    return Err(Refusal::resources(format!(
                        "a connection can have {MAX_OPEN} open transactions"
                    )));
                }
                if let Entry::Vacant(vacant) = transactions.entry(id.value) {
                    vacant.insert(self.transactions.begin(Transaction::default()));
                }
                Ok(Outcome::Done)
            }
            TransactionInfo::COMMIT_ONE_PHASE => self.commit(from, id, info, reply, turn),
            TransactionInfo::ROLLBACK => {
                let key = self.local_transaction(from, id)?;
                self.end_local(from, id.value);
                self.roll_back(key, turn);
                Ok(Outcome::Done)
            }
            _ => Err(Refusal::jms("a local transaction has one phase only")),
        }
    }

    /// The transaction a command belongs to, if it belongs to one.
    pub(super) fn transaction_of(
        &self,
        from: ConnectionKey,
        id: Option<&TransactionId>,
    ) -> Result<Option<TransactionKey>, Refusal> {
        match id {
            None => Ok(None),
            Some(TransactionId::Local(id)) => self.local_transaction(from, id).map(Some),
            Some(TransactionId::Xa(xid)) => self.branch(xid).map(Some),
        }
    }

    fn local_transaction(
        &self,
        from: ConnectionKey,
        id: &LocalTransactionId,
    ) -> Result<TransactionKey, Refusal> {
        let connection = &self.connections[from.0 as usize];
        let own = connection.owns(id);
        connection
            .transactions
            .get(&id.value)
            .filter(|_| own)
            .copied()
            .ok_or_else(|| {
                Refusal::jms(format!(
                    "Transaction '{}' has not been started.",
                    TransactionId::Local(id.clone())
                ))
            })
    }

    fn end_local(&mut self, from: ConnectionKey, value: i64) {
        self.connections[from.0 as usize].transactions.remove(&value);
    }

    /// A transaction is given up from the broker's side: it is as if it had never begun.
    fn drop_transaction(&mut self, from: ConnectionKey, key: TransactionKey, turn: &mut Turn<'_>) {
        self.connections[from.0 as usize]
            .transactions
            .retain(|_, &mut open| open != key);
        self.roll_back(key, turn);
    }

    /// Something of a transaction was refused, so that it cannot be committed. What is prepared can be.
    pub(super) fn fail_transaction(&mut self, key: TransactionKey, why: &str) {
        if let Some(transaction) = self.transactions.get_mut(key)
            && transaction.state() == State::Open
        {
            transaction.failed.get_or_insert_with(|| why.to_owned());
        }
    }

    fn commit(
        &mut self,
        from: ConnectionKey,
        id: &LocalTransactionId,
        info: &TransactionInfo,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let key = match self.local_transaction(from, id) {
            Ok(key) => key,
            Err(refusal) => return self.commit_again(from, id, refusal, reply, turn),
        };
        let Some(transaction) = self.transactions.get(key) else {
            return Err(Refusal::jms("the transaction has ended"));
        };
        if transaction.asked.is_some() {
            return Err(Refusal::jms("the transaction is being committed"));
        }
        if let Some(why) = transaction.failed.clone() {
            self.end_local(from, id.value);
            self.roll_back(key, turn);
            return Err(Refusal::rolled_back(format!(
                "the transaction was rolled back: {why}"
            )));
        }
        if !transaction.sends.is_settled() {
            self.defer(key, from, info, reply, turn);
            return Ok(Outcome::Answered);
        }
        self.end_local(from, id.value);
        let outcome = (self.connections[from.0 as usize].id_text(), id.value);
        let back = match reply {
            // Whoever is told that the transaction was rolled back delivers again what it received in it.
            Some(_) => |taken: &Taken| taken.consumer.map_or(Back::Seen, Back::InFlight),
            None => |_: &Taken| Back::Seen,
        };
        let Some(transaction) = self.transactions.remove(key) else {
            return Ok(Outcome::Done);
        };
        let done = self.complete(key, transaction, Some(from), outcome, back, turn);
        let answer = self.confirm_consumed(done.consumed, reply, turn);
        self.remove_sent_destination(&done.transaction.sends, turn);
        self.move_on_after(&done.touched, turn);
        Ok(answer)
    }

    /// The end of a transaction waits until the store has answered.
    fn defer(
        &mut self,
        key: TransactionKey,
        from: ConnectionKey,
        info: &TransactionInfo,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) {
        let Some(transaction) = self.transactions.get_mut(key) else {
            return;
        };
        let response = match reply {
            Some(Then::Reply { response, .. }) => Some(response),
            _ => None,
        };
        let info = info.clone();
        transaction.asked = Some(Box::new(Asked { from, info, response }));
        let unread = transaction.sends.unread > 0;
        self.transactions.deferred.push(key);
        if unread {
            self.load_sends(key, turn);
        }
    }

    /// The store has answered something: a transaction may end if that was asked for.
    fn advance(&mut self, key: TransactionKey, turn: &mut Turn<'_>) {
        let Some(transaction) = self.transactions.get_mut(key) else {
            return;
        };
        let waits = transaction.failed.is_none() && !transaction.sends.is_settled();
        if waits || transaction.asked.is_none() {
            return;
        }
        let Some(asked) = transaction.asked.take() else {
            return;
        };
        self.transactions.deferred.retain(|&deferred| deferred != key);
        let Asked { from, info, response } = *asked;
        let reply = response
            .clone()
            .map(|response| Then::Reply { to: from, response });
        let result = self.transaction_info(from, &info, reply, turn);
        let command = match (result, response) {
            (Ok(Outcome::Done), Some(response)) => response,
            (Err(refusal), Some(response)) => refusal.answer_to(&response),
            (Err(refusal), None) => return self.report(from, &refusal, turn),
            (Ok(_), _) => return,
        };
        turn.effects.push(Effect::Send { to: from, command });
    }

    /// A connection ended: what it asked for and did not get has not happened.
    pub(super) fn forget_transactions(&mut self, connection: ConnectionKey, turn: &mut Turn<'_>) {
        for key in std::mem::take(&mut self.transactions.deferred) {
            let Some(transaction) = self.transactions.get_mut(key) else {
                continue;
            };
            match &transaction.asked {
                Some(asked) if asked.from == connection => transaction.asked = None,
                _ => self.transactions.deferred.push(key),
            }
        }
        let transactions = std::mem::take(&mut self.connections[connection.0 as usize].transactions);
        for transaction in transactions.into_values() {
            self.roll_back(transaction, turn);
        }
        self.forget_branches(connection, turn);
    }

    /// Does all that a transaction is for. All that is stored goes into this turn's one batch, so it is durable as a
    /// whole or not at all.
    fn complete(
        &mut self,
        key: TransactionKey,
        mut transaction: Transaction,
        from: Option<ConnectionKey>,
        outcome: OutcomeId,
        back: impl Fn(&Taken) -> Back,
        turn: &mut Turn<'_>,
    ) -> Completed {
        let kept = transaction.state() != State::Open;
        let mut served = std::mem::take(&mut transaction.consumers);
        self.leave_consumers(key, &served);
        let mut consumed = Vec::with_capacity(transaction.taken.len());
        for taken in std::mem::take(&mut transaction.taken) {
            let message = &taken.message;
            self.landed(message.queue);
            self.consumed(message.queue, &message.entry, turn);
            if let Some(consumer) = taken.consumer.and_then(|key| self.subscriptions.get_mut(key.0)) {
                consumer.counts.acknowledged += 1;
            }
            let back = back(&taken);
            consumed.push(Consumed::in_flight(taken.message, back));
        }
        for (key, consumer, count) in std::mem::take(&mut transaction.topic_acks) {
            if self
                .subscriptions
                .get(key.0)
                .is_some_and(|subscription| subscription.id == consumer)
            {
                self.release_topic(key, count);
                served.push(key);
            }
        }
        // What is prepared is needed again if the store refuses this.
        let list = match kept {
            true => transaction.sends.list.clone(),
            false => std::mem::take(&mut transaction.sends.list),
        };
        let queues = self.put_sends(&transaction.sends, list, from, turn);
        self.note_outcome(outcome, turn);
        Completed {
            transaction,
            consumed,
            touched: Touched { queues, served },
        }
    }

    /// Dispatches what a transaction let go: only after all it stores, because what dispatching stores has no part in
    /// the outcome.
    fn move_on_after(&mut self, touched: &Touched, turn: &mut Turn<'_>) {
        for &queue in &touched.queues {
            if self.queues.contains(queue.0) {
                self.dispatch(queue, turn);
            }
        }
        for &key in &touched.served {
            if self.subscriptions.contains(key.0) {
                self.serve(key, turn);
            }
        }
        self.resume_producers(turn);
    }

    /// Forgets what was sent; what was acknowledged stays with its consumers, which deliver it again themselves.
    fn roll_back(&mut self, key: TransactionKey, turn: &mut Turn<'_>) {
        let Some(transaction) = self.transactions.remove(key) else {
            return;
        };
        self.remove_sent_destination(&transaction.sends, turn);
        self.release(key, transaction, turn);
    }

    /// Undoes what a transaction has in memory.
    fn release(&mut self, key: TransactionKey, transaction: Transaction, turn: &mut Turn<'_>) {
        self.leave_consumers(key, &transaction.consumers);
        self.memory_used -= transaction.sends.resident;
        self.give_back(transaction.taken, turn);
        self.resume_producers(turn);
    }

    /// The store need not keep a destination any longer. It is told again with later batches if it refuses to be.
    pub(in crate::core) fn remove_stored(&mut self, key: DestinationKey, turn: &mut Turn<'_>) {
        turn.effects.store([Op::RemoveDestination { key }], None);
        self.batch(turn).transactions.push(Part::Removed(key));
    }

    /// The store has a batch with these in it, or refused it.
    pub(super) fn transactions_stored(
        &mut self,
        parts: Vec<Part>,
        result: &Result<(), StoreError>,
        turn: &mut Turn<'_>,
    ) {
        for part in parts {
            match part {
                Part::Sent { transaction, created } => {
                    if let Some(open) = self.transactions.get_mut(transaction) {
                        open.sends.unanswered -= 1;
                        if let Err(failure) = result {
                            open.sends.created &= !created;
                            open.failed.get_or_insert_with(|| failure.to_string());
                        }
                    }
                    self.advance(transaction, turn);
                }
                Part::Prepared { transaction, created } => {
                    self.prepare_stored(transaction, created, result, turn)
                }
                Part::Ended {
                    transaction,
                    committed,
                } => self.end_stored(transaction, committed, result, turn),
                Part::Removed(key) => {
                    if result.is_err() {
                        self.transactions.leftovers.push(key);
                    }
                }
            }
        }
        if result.is_ok() {
            for key in std::mem::take(&mut self.transactions.leftovers) {
                self.remove_stored(key, turn);
            }
        }
    }
}

/// What a transaction was for is done, as far as this turn is concerned.
struct Completed {
    /// What is left of it.
    transaction: Transaction,
    consumed: Vec<Consumed>,
    touched: Touched,
}

/// Who may have something to do after a transaction.
struct Touched {
    queues: Vec<super::queue::QueueKey>,
    served: Vec<SubscriptionKey>,
}
