//! Local transactions: what was sent waits, what was acknowledged is only marked, until the outcome.

use std::sync::Arc;

use openwire_client::wire::{ConsumerId, LocalTransactionId, Message, TransactionId, TransactionInfo};
use rustc_hash::FxHashMap;

use super::destinations::Target;
use super::durable::{Back, Consumed};
use super::effect::{ConnectionKey, Then};
use super::queue::{Entry, QueueKey};
use super::refusal::Refusal;
use super::subscription::{InFlight, SubscriptionKey};
use super::{Core, Outcome, Turn};
use crate::store::accounting_size;

/// Open transactions of one connection; a session has one at a time.
const MAX_OPEN: usize = 100_000;

/// An open local transaction.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) sends: Vec<Arc<Message>>,
    /// Queue consumers with messages that were acknowledged in it.
    pub(super) consumers: Vec<SubscriptionKey>,
    /// Topic messages that were acknowledged in it. The id tells whether the key still means the same.
    pub(super) topic_acks: Vec<(SubscriptionKey, ConsumerId, usize)>,
    /// Messages that were acknowledged in it by consumers that ended before it did.
    pub(super) orphans: Vec<(QueueKey, Entry)>,
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
                transactions.entry(id.value).or_default();
                Ok(Outcome::Done)
            }
            TransactionInfo::COMMIT_ONE_PHASE => self.commit(from, id, reply, turn),
            TransactionInfo::ROLLBACK => {
                self.transaction_mut(from, id)?;
                self.roll_back(from, id.value, turn);
                Ok(Outcome::Done)
            }
            _ => Err(Refusal::jms("a local transaction has one phase only")),
        }
    }

    pub(super) fn transaction_mut(
        &mut self,
        from: ConnectionKey,
        id: &LocalTransactionId,
    ) -> Result<&mut Transaction, Refusal> {
        let connection = &mut self.connections[from.0 as usize];
        let own = connection.owns(id);
        connection
            .transactions
            .get_mut(&id.value)
            .filter(|_| own)
            .ok_or_else(|| {
                Refusal::jms(format!(
                    "Transaction '{}' has not been started.",
                    TransactionId::Local(id.clone())
                ))
            })
    }

    fn commit(
        &mut self,
        from: ConnectionKey,
        id: &LocalTransactionId,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let failed = match self.transaction_mut(from, id) {
            Ok(open) => open.failed.clone(),
            Err(refusal) => return self.commit_again(from, id, refusal, reply, turn),
        };
        if let Some(why) = failed {
            self.roll_back(from, id.value, turn);
            return Err(Refusal::rolled_back(format!(
                "the transaction was rolled back: {why}"
            )));
        }
        let Some(transaction) = self.connections[from.0 as usize].transactions.remove(&id.value) else {
            return Ok(Outcome::Done);
        };
        // Everything below goes into this turn's one batch, so it is durable as a whole or not at all.
        let mut served = Vec::new();
        let mut consumed = Vec::new();
        for key in transaction.consumers {
            // Whoever is told that the transaction was rolled back delivers again what it received in it.
            let back = match reply {
                Some(_) => Back::InFlight(key),
                None => Back::Seen,
            };
            if let Some((queue, taken)) = self.commit_acknowledged(key, id.value, turn) {
                let taken = taken.into_iter();
                consumed.extend(taken.map(|message| Consumed::in_flight(queue, message, back)));
                served.push(key);
            }
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
            let target = match &message.destination {
                Some(destination) => self.resolve_for_send(&destination.clone()),
                None => continue,
            };
            match target {
                Ok(target) => {
                    self.put(target, message, None, tied, turn);
                    if let Target::Queue(queue) = target
                        && !queues.contains(&queue)
                    {
                        queues.push(queue);
                    }
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
            self.serve(key, turn);
        }
        self.resume_producers(turn);
        Ok(outcome)
    }

    /// True if some of these go to the store.
    fn stores_any(&self, sends: &[Arc<Message>]) -> bool {
        self.config.stored
            && sends.iter().any(|message| {
                message.persistent
                    && message
                        .destination
                        .as_ref()
                        .is_some_and(|destination| destination.is_queue() && !destination.is_temporary())
            })
    }

    /// Takes what was acknowledged in the transaction.
    fn commit_acknowledged(
        &mut self,
        key: SubscriptionKey,
        transaction: i64,
        turn: &mut Turn<'_>,
    ) -> Option<(QueueKey, Vec<InFlight>)> {
        let subscription = self.subscriptions.get_mut(key.0)?;
        let super::subscription::Source::Queue(queue) = subscription.source else {
            return None;
        };
        let mut consumed = Vec::new();
        let kept = std::mem::take(&mut subscription.in_flight)
            .into_iter()
            .filter_map(|message| {
                if message.transaction == Some(transaction) {
                    consumed.push(message);
                    None
                } else {
                    Some(message)
                }
            });
        subscription.in_flight = kept.collect();
        subscription.extension = subscription.extension.saturating_sub(consumed.len());
        for message in &consumed {
            self.consumed(queue, &message.entry, turn);
        }
        Some((queue, consumed))
    }

    /// Forgets what was sent; what was acknowledged stays with its consumers, which deliver it again
    /// themselves.
    pub(super) fn roll_back(&mut self, from: ConnectionKey, value: i64, turn: &mut Turn<'_>) {
        let Some(transaction) = self.connections[from.0 as usize].transactions.remove(&value) else {
            return;
        };
        for message in &transaction.sends {
            self.memory_used -= accounting_size(message) as usize;
        }
        for key in transaction.consumers {
            if let Some(subscription) = self.subscriptions.get_mut(key.0) {
                for message in &mut subscription.in_flight {
                    if message.transaction == Some(value) {
                        message.transaction = None;
                    }
                }
            }
        }
        let mut back: FxHashMap<QueueKey, Vec<Entry>> = FxHashMap::default();
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
