//! What is published on a topic together with something that is stored waits until that is durable, as stored messages
//! on queues do; what comes after it on the same topic waits behind it. So the subscribers of a topic see its messages
//! in order, and none that a refusal of the store or a crash makes unsent. (Messages of different topics may change
//! places for a subscriber of both: JMS promises no order across destinations.)
//!
//! A subscriber that comes meanwhile does not get what was published before it, unless it is retroactive.

use std::sync::Arc;

use openwire_client::wire::Message;

use super::dead_letter::EXPIRED;
use super::send::is_expired;
use super::topic::{Topic, TopicKey};
use super::{Core, Turn};
use crate::store::accounting_size;

/// A message that the subscribers of its topic do not have yet.
#[derive(Debug)]
pub(super) struct Deferred {
    message: Arc<Message>,
    /// The broker sequence number.
    sequence: u64,
    /// It waits for the store; else it is only behind one that does.
    tied: bool,
    /// A durable subscription has it.
    taken: bool,
}

impl Topic {
    /// True if this message, which the topic keeps for consumers that come later, is not to be seen yet.
    pub(super) fn defers(&self, message: &Message) -> bool {
        let sequence = message.message_id.as_ref().map_or(0, |id| id.broker_sequence_id);
        self.deferred
            .front()
            .is_some_and(|first| sequence >= first.sequence as i64)
    }
}

impl Core {
    /// Gives a message to the subscribers of a topic: now or, if it is `tied` to what the turn stores, once that is
    /// durable. `taken` says that a durable subscription has it.
    pub(super) fn serve_in_order(
        &mut self,
        key: TopicKey,
        message: Arc<Message>,
        sequence: u64,
        tied: bool,
        taken: bool,
        turn: &mut Turn<'_>,
    ) {
        if tied {
            self.batch(turn).publish(key, sequence);
        } else if self.topics[key.0].deferred.is_empty() {
            return self.serve_subscribers(key, message, sequence, taken, turn);
        }
        self.memory_used += accounting_size(&message) as usize;
        self.topics[key.0].deferred.push_back(Deferred {
            message,
            sequence,
            tied,
            taken,
        });
    }

    /// The store has answered: subscribers get what need not wait any longer.
    pub(super) fn release_deferred(&mut self, key: TopicKey, turn: &mut Turn<'_>) {
        while let Some(topic) = self.topics.get_mut(key.0) {
            let durable = self.durable;
            let next = topic
                .deferred
                .pop_front_if(|next| !next.tied || next.sequence <= durable);
            let Some(next) = next else { return };
            let message = next.message;
            self.memory_used -= accounting_size(&message) as usize;
            if is_expired(&message, turn.now) {
                self.bury(message.destination.clone(), None, &message, EXPIRED, turn);
                self.expire_topic_message(key, &message, turn);
            } else {
                self.serve_subscribers(key, message, next.sequence, next.taken, turn);
            }
        }
    }

    /// The store refused a batch with these messages: they were never published.
    pub(super) fn withdraw_deferred(&mut self, key: TopicKey, first: u64, last: u64) {
        let Some(topic) = self.topics.get_mut(key.0) else {
            return;
        };
        let kept = topic.kept_bytes();
        let (refused, left) = std::mem::take(&mut topic.deferred)
            .into_iter()
            .partition::<Vec<_>, _>(|next| next.tied && (first..=last).contains(&next.sequence));
        topic.deferred = left.into();
        // The last ones first: that is where they are found.
        for Deferred {
            message, sequence, ..
        } in refused.into_iter().rev()
        {
            let topic = &mut self.topics[key.0];
            topic.recovery.withdraw(sequence as i64);
            topic.counts.depart(accounting_size(&message));
            self.memory_used -= accounting_size(&message) as usize;
            self.stats.refused += 1;
            self.not_taken(&message);
        }
        self.kept_used = self.kept_used - kept + self.topics[key.0].kept_bytes();
    }

    /// The topic is gone, and nobody gets what waited.
    pub(super) fn drop_deferred(&mut self, key: TopicKey, topic: &Topic) {
        let sizes = topic
            .deferred
            .iter()
            .map(|next| accounting_size(&next.message) as usize);
        self.memory_used -= sizes.sum::<usize>();
        for batch in &mut self.batches {
            batch.drop_topic(key);
        }
    }
}
