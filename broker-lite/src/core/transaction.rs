//! Local transactions: what was sent waits, what was acknowledged is only marked, until the outcome.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use openwire_client::wire::{ConsumerId, LocalTransactionId, Message, TransactionId, TransactionInfo};
use rustc_hash::FxHashMap;

use super::durable::{Back, Consumed};
use super::effect::{ConnectionKey, Then};
use super::queue::{Entry as Waiting, QueueKey};
use super::refusal::Refusal;
use super::subscription::{InFlight, SubscriptionKey};
use super::{Core, Outcome, Turn};
use crate::store::accounting_size;

/// Open transactions of one connection; a session has one at a time.
const MAX_OPEN: usize = 100_000;

/// Names an open transaction inside the core. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TransactionKey(pub(super) u64);

/// An open transaction.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) sends: Vec<Arc<Message>>,
    /// Queue consumers with messages that were acknowledged in it.
    pub(super) consumers: Vec<SubscriptionKey>,
    /// Topic messages that were acknowledged in it. The id tells whether the key still means the same.
    pub(super) topic_acks: Vec<(SubscriptionKey, ConsumerId, usize)>,
    /// Messages that were acknowledged in it by consumers that ended before it did.
    pub(super) orphans: Vec<(QueueKey, Waiting)>,
    /// Why it cannot be committed.
    pub(super) failed: Option<String>,
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
        let Some(TransactionId::Local(id)) = &info.transaction_id else {
            return Err(Refusal::unsupported("XA transactions are"));
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
                    self.last_transaction += 1;
                    let key = *vacant.insert(TransactionKey(self.last_transaction));
                    self.transactions.insert(key, Transaction::default());
                }
                Ok(Outcome::Done)
            }
            TransactionInfo::COMMIT_ONE_PHASE => self.commit(from, id, reply, turn),
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
            Some(TransactionId::Xa(_)) => Err(Refusal::unsupported("XA transactions are")),
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

    fn commit(
        &mut self,
        from: ConnectionKey,
        id: &LocalTransactionId,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let key = match self.local_transaction(from, id) {
            Ok(key) => key,
            Err(refusal) => return self.commit_again(from, id, refusal, reply, turn),
        };
        self.end_local(from, id.value);
        if let Some(why) = self.transactions.get(&key).and_then(|open| open.failed.clone()) {
            self.roll_back(key, turn);
            return Err(Refusal::rolled_back(format!(
                "the transaction was rolled back: {why}"
            )));
        }
        let Some(transaction) = self.transactions.remove(&key) else {
            return Ok(Outcome::Done);
        };
        // Everything below goes into this turn's one batch, so it is durable as a whole or not at all.
        let mut served = Vec::new();
        let mut consumed = Vec::new();
        for consumer in transaction.consumers {
            // Whoever is told that the transaction was rolled back delivers again what it received in it.
            let back = match reply {
                Some(_) => Back::InFlight(consumer),
                None => Back::Seen,
            };
            let taken = self.commit_acknowledged(consumer, key, turn).into_iter();
            consumed.extend(taken.map(|message| Consumed::in_flight(message, back)));
            served.push(consumer);
        }
        for (queue, entry) in transaction.orphans {
            self.consumed(queue, &entry, turn);
            consumed.push(Consumed::new(queue, entry, Back::Seen));
        }
        for (key, consumer, count) in transaction.topic_acks {
            if self
                .subscriptions
                .get(key.0)
                .is_some_and(|subscription| subscription.id == consumer)
            {
                self.release_topic(key, count);
                served.push(key);
            }
        }
        let tied = turn.effects.has_store() || self.stores_any(&transaction.sends);
        let mut queues = Vec::new();
        for message in transaction.sends {
            self.memory_used -= accounting_size(&message) as usize;
            if self.is_duplicate(from, &message) {
                self.stats.duplicates += 1;
                if self.config.stored {
                    // The answer waits for what is on its way into the store.
                    turn.effects.store([], None);
                }
                continue;
            }
            match self.route(&message, turn) {
                Ok(routes) => {
                    self.put_all(routes, message, tied, &mut queues, turn);
                }
                // A temporary destination that went away since: nobody is left to receive it.
                Err(_) => self.stats.discarded += 1,
            }
        }
        self.note_outcome(from, id.value, turn);
        let outcome = self.confirm_consumed(consumed, reply, turn);
        // Only now, because what dispatching stores has no part in the outcome.
        for queue in queues {
            self.dispatch(queue, turn);
        }
        for key in served {
            if self.subscriptions.contains(key.0) {
                self.serve(key, turn);
            }
        }
        self.resume_producers(turn);
        Ok(outcome)
    }

    /// True if some of these go to the store.
    fn stores_any(&self, sends: &[Arc<Message>]) -> bool {
        self.config.stored && sends.iter().any(|message| message.persistent)
    }

    /// Takes what was acknowledged in the transaction.
    fn commit_acknowledged(
        &mut self,
        key: SubscriptionKey,
        transaction: TransactionKey,
        turn: &mut Turn<'_>,
    ) -> Vec<InFlight> {
        let Some(subscription) = self.subscriptions.get_mut(key.0) else {
            return Vec::new();
        };
        let (consumed, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut subscription.in_flight)
            .into_iter()
            .partition(|message| message.transaction == Some(transaction));
        subscription.in_flight = kept.into();
        subscription.extension = subscription.extension.saturating_sub(consumed.len());
        for message in &consumed {
            self.landed(message.queue);
            self.consumed(message.queue, &message.entry, turn);
        }
        consumed
    }

    /// Forgets what was sent; what was acknowledged stays with its consumers, which deliver it again
    /// themselves.
    pub(super) fn roll_back(&mut self, key: TransactionKey, turn: &mut Turn<'_>) {
        let Some(transaction) = self.transactions.remove(&key) else {
            return;
        };
        for message in &transaction.sends {
            self.memory_used -= accounting_size(message) as usize;
        }
        for consumer in transaction.consumers {
            if let Some(subscription) = self.subscriptions.get_mut(consumer.0) {
                for message in &mut subscription.in_flight {
                    if message.transaction == Some(key) {
                        message.transaction = None;
                    }
                }
            }
        }
        let mut back: FxHashMap<QueueKey, Vec<Waiting>> = FxHashMap::default();
        for (queue, mut entry) in transaction.orphans {
            entry.redelivered += 1;
            back.entry(queue).or_default().push(entry);
        }
        for (queue, entries) in back {
            self.put_back(queue, entries, turn);
        }
        self.resume_producers(turn);
    }
}
