//! The plugins that change what is sent: `redeliveryPlugin`, `timeStampingBrokerPlugin` and
//! `forcePersistencyModeBrokerPlugin`.

use std::sync::Arc;

use openwire_client::wire::Message;

use super::expiry::millis;
use super::queue::{Entry, QueueKey};
use super::schedule::with_properties;
use super::send::{contains, is_expired};
use super::{Core, Turn};
use crate::policy::GivenUp;
use crate::policy::schedule::{SCHEDULED_DELAY, SCHEDULED_ID};

/// Property: how long a message waited to be delivered again; `RedeliveryPlugin.REDELIVERY_DELAY`.
const DELAY: &str = "redeliveryDelay";

impl Core {
    /// Changes a message that comes in as the plugins have it. Neither what was scheduled nor what is sent again passes
    /// here a second time.
    pub(super) fn apply_plugins(&self, message: &mut Arc<Message>, now: i64) {
        let rules = &self.config.rules;
        if let Some(persistent) = rules.force_persistency
            && message.persistent != persistent
        {
            Arc::make_mut(message).persistent = persistent;
        }
        if let Some(stamping) = &rules.timestamp
            && let Some((timestamp, expiration)) = stamping.restamp(message, false, now)
        {
            let fields = Arc::make_mut(message);
            (fields.timestamp, fields.expiration) = (timestamp, expiration);
        }
    }

    /// A consumer gave a message up: it is sent again after a while if there is a policy for that, else it is a dead
    /// letter.
    pub(super) fn give_up(&mut self, key: QueueKey, entry: Entry, cause: &str, turn: &mut Turn<'_>) {
        let rules = self.config.rules.clone();
        let (Some(redelivery), Some(queue), Some(message)) =
            (&rules.redelivery, self.queues.get(key.0), entry.body.clone())
        else {
            return self.dead_letter(key, entry, cause, turn);
        };
        let from = match queue.durable {
            Some(_) => message.destination.clone(),
            None => Some(queue.destination.clone()),
        };
        let Some(from) = from.filter(|_| !is_expired(&message, turn.now)) else {
            return self.dead_letter(key, entry, cause, turn);
        };
        let mut dice = Dice(entry.sequence ^ turn.now as u64);
        match redelivery.given_up(&from, entry.redelivered, || dice.throw()) {
            GivenUp::DeadLetter => self.dead_letter(key, entry, cause, turn),
            GivenUp::Dropped => {
                self.discard(key, &entry, turn);
                self.stats.discarded += 1;
            }
            GivenUp::Again(delay) => match sent_again(&message, millis(delay), entry.redelivered) {
                Some(copy) => self.send_again(key, entry, Arc::new(copy), cause, turn),
                None => self.dead_letter(key, entry, cause, turn),
            },
        }
    }

    fn send_again(
        &mut self,
        key: QueueKey,
        entry: Entry,
        copy: Arc<Message>,
        cause: &str,
        turn: &mut Turn<'_>,
    ) {
        match self.route(&copy, turn) {
            Ok(routes) => {
                self.discard(key, &entry, turn);
                self.stats.redelivered += 1;
                self.publish(routes, copy, None, turn);
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "a message that was given up cannot be sent again");
                self.dead_letter(key, entry, cause, turn);
            }
        }
    }
}

/// The message as it is sent again; none if its properties cannot be changed.
fn sent_again(message: &Message, delay: i64, count: u32) -> Option<Message> {
    let mut copy = with_properties(message, |properties| {
        properties.remove(SCHEDULED_ID);
        properties.insert(DELAY, delay);
        properties.insert(SCHEDULED_DELAY, delay);
    })?;
    copy.transaction_id = None;
    copy.redelivery_counter = i32::try_from(count).unwrap_or(i32::MAX).saturating_add(1);
    Some(copy)
}

/// True for a message that this broker sends again: its client does not.
pub(super) fn is_sent_again(message: &Message) -> bool {
    message
        .marshalled_properties
        .as_ref()
        .is_some_and(|properties| contains(properties, DELAY.as_bytes()))
}

/// Numbers from 0 to less than 1 that keep messages apart which were given up together. Nobody has to be unable to
/// guess them, so they come from what the core knows, and tests know them too. (SplitMix64.)
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_are_between_0_and_1_and_fair() {
        let mut dice = Dice(1);
        let throws: Vec<_> = (0..10_000).map(|_| dice.throw()).collect();
        assert!(throws.iter().all(|throw| (0.0..1.0).contains(throw)));
        let low = throws.iter().filter(|throw| **throw < 0.5).count();
        assert!((4800..5200).contains(&low), "{low}");
    }
}
