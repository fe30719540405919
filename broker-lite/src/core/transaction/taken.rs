//! What was acknowledged in a transaction: taken from its consumer, and gone only with the commit.

use openwire_client::wire::MessageId;
use rustc_hash::FxHashMap;

use super::TransactionKey;
use super::sends::RESIDENT;
use super::xa::State;
use crate::core::queue::{Entry, QueueKey};
use crate::core::refusal::{Refusal, XAER_PROTO};
use crate::core::subscription::{InFlight, SubscriptionKey};
use crate::core::{Core, Turn};

/// A message that was acknowledged.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) message: InFlight,
    /// The consumer that had it, unless that ended.
    pub(super) consumer: Option<SubscriptionKey>,
}

impl Core {
    /// A consumer acknowledges what it has at these positions in a transaction. Bodies beyond [`RESIDENT`] leave
    /// memory.
    pub(in crate::core) fn take_in(
        &mut self,
        open: TransactionKey,
        consumer: SubscriptionKey,
        (from, to): (usize, usize),
    ) -> Result<(), Refusal> {
        let Some(transaction) = self.transactions.get_mut(open) else {
            return Ok(());
        };
        if !transaction.is_open() {
            return Err(Refusal::xa(
                "Cannot acknowledge in a transaction that has ended",
                XAER_PROTO,
            ));
        }
        let subscription = &mut self.subscriptions[consumer.0];
        if !transaction.consumers.contains(&consumer) {
            transaction.consumers.push(consumer);
            subscription.transactions.push(open);
        }
        for mut message in subscription.take(from, to) {
            if message.entry.stored && message.entry.body.is_some() {
                transaction.taken_bytes += message.entry.size as usize;
                if transaction.taken_bytes > RESIDENT {
                    message.release_body();
                }
            }
            let consumer = Some(consumer);
            transaction.taken.push(Taken { message, consumer });
        }
        Ok(())
    }

    /// True if a consumer acknowledged this in this transaction already.
    pub(in crate::core) fn has_taken(
        &self,
        open: TransactionKey,
        consumer: SubscriptionKey,
        id: &MessageId,
    ) -> bool {
        self.transactions.get(open).is_some_and(|transaction| {
            let mut taken = transaction.taken.iter().rev();
            taken.any(|taken| taken.consumer == Some(consumer) && taken.message.is(id))
        })
    }

    /// What this consumer acknowledged in these transactions, which have no outcome yet.
    pub(in crate::core) fn taken_by(
        &self,
        consumer: SubscriptionKey,
        open: &[TransactionKey],
    ) -> impl Iterator<Item = &InFlight> {
        open.iter()
            .filter_map(|key| self.transactions.get(*key))
            .flat_map(|transaction| &transaction.taken)
            .filter(move |taken| taken.consumer == Some(consumer))
            .map(|taken| &taken.message)
    }

    /// A consumer ended: what it acknowledged in these transactions goes back to its queue if they are rolled back.
    pub(in crate::core) fn taker_ended(&mut self, consumer: SubscriptionKey, open: &[TransactionKey]) {
        for key in open {
            let Some(transaction) = self.transactions.get_mut(*key) else {
                continue;
            };
            transaction.consumers.retain(|&of| of != consumer);
            for taken in &mut transaction.taken {
                taken.consumer.take_if(|of| *of == consumer);
            }
        }
    }

    /// A transaction has no part in these consumers any more.
    pub(super) fn leave_consumers(&mut self, key: TransactionKey, consumers: &[SubscriptionKey]) {
        for consumer in consumers {
            if let Some(subscription) = self.subscriptions.get_mut(consumer.0) {
                subscription.transactions.retain(|&open| open != key);
            }
        }
    }

    /// A transaction was rolled back: what it took is with its consumers again, or on its queue.
    pub(super) fn give_back(&mut self, taken: Vec<Taken>, turn: &mut Turn<'_>) {
        let mut in_flight: FxHashMap<SubscriptionKey, Vec<InFlight>> = FxHashMap::default();
        let mut back: FxHashMap<QueueKey, Vec<Entry>> = FxHashMap::default();
        for Taken {
            mut message,
            consumer,
        } in taken
        {
            match consumer {
                Some(consumer) => in_flight.entry(consumer).or_default().push(message),
                None => {
                    self.landed(message.queue);
                    message.entry.redelivered += 1;
                    back.entry(message.queue).or_default().push(message.entry);
                }
            }
        }
        for (consumer, messages) in in_flight {
            self.subscriptions[consumer.0].take_back(messages);
        }
        for (queue, entries) in back {
            self.put_back(queue, entries, turn);
        }
    }

    /// True if a prepared transaction took messages of this queue, which it may have to give back.
    pub(in crate::core) fn is_held(&self, queue: QueueKey) -> bool {
        let mut branches = self.transactions.open.values();
        branches.any(|transaction| {
            transaction.state() != State::Open
                && transaction.taken.iter().any(|taken| taken.message.queue == queue)
        })
    }

    /// The queue is gone: no transaction brings messages back to it.
    pub(in crate::core) fn drop_taken(&mut self, queue: QueueKey) {
        let mut gone = Vec::new();
        for transaction in self.transactions.open.values_mut() {
            let (dropped, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut transaction.taken)
                .into_iter()
                .partition(|taken| taken.message.queue == queue);
            transaction.taken = kept;
            gone.extend(dropped);
        }
        for taken in gone {
            self.uncount(queue, &taken.message.entry);
        }
    }
}
