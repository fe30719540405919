//! Where messages go that nobody could consume, as the policy of their destination has it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::BytesMut;
use openwire_client::wire::{Destination, Message, MessageId, ValueMap, decode_map, encode_map};
use rustc_hash::{FxHashMap, FxHashSet};

use super::advisory::AdvisoryKind;
use super::durable::{Back, Consumed};
use super::effect::Effect;
use super::queue::{Entry, QueueKey};
use super::send::contains;
use super::subscription::InFlight;
use super::{Core, Turn};
use crate::policy::{Audit, DeadLetter, DeadMessage};
use crate::store::MessageKey;

/// How many messages that were given up are read at once.
const LOAD_GIVEN_UP: usize = 256;

/// A message that a consumer gave up, before it is read.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub(super) queue: QueueKey,
    entry: Entry,
    cause: String,
}

/// The cause of a message whose time is over.
pub(super) const EXPIRED: &str = "Message Expired";

/// Says why a message is a dead letter; ActiveMQ's `Message.DLQ_DELIVERY_FAILURE_CAUSE_PROPERTY`.
const CAUSE: &str = "dlqDeliveryFailureCause";

/// The ids of what went to the dead letters lately, so that a message that several subscriptions give up goes there once.
#[derive(Debug, Default)]
pub(super) struct DeadAudit(FxHashMap<Destination, Seen>);

#[derive(Debug, Default)]
struct Seen {
    ids: FxHashSet<Arc<str>>,
    order: VecDeque<Arc<str>>,
}

impl DeadAudit {
    /// True if this message went there before; it has from now on.
    fn is_duplicate(&mut self, audit: Audit, to: &Destination, id: &MessageId) -> bool {
        let seen = self.0.entry(to.clone()).or_default();
        let id: Arc<str> = id.to_string().into();
        if !seen.ids.insert(id.clone()) {
            return true;
        }
        seen.order.push_back(id);
        if seen.order.len() > audit.depth as usize
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.ids.remove(&oldest);
        }
        false
    }

    /// The message is not there after all.
    pub(super) fn forget(&mut self, to: &Destination, id: &MessageId) {
        if let Some(seen) = self.0.get_mut(to) {
            seen.ids.remove(id.to_string().as_str());
        }
    }
}

impl Core {
    /// The time of a message that waited is over.
    pub(super) fn expire(&mut self, queue: QueueKey, entry: Entry, turn: &mut Turn<'_>) {
        self.stats.expired += 1;
        let consumed = entry
            .stored
            .then(|| Consumed::new(queue, entry.clone(), Back::Unseen));
        self.dead_letter(queue, entry.clone(), EXPIRED, turn);
        self.note_expired(queue, &entry, turn);
        self.note_consumed(consumed.into_iter().collect(), turn);
    }

    /// Consumers gave these up whose bodies are not in memory: they are read first. Until then they are with nobody,
    /// and on their queue in the store.
    pub(super) fn give_up_later(&mut self, messages: Vec<InFlight>, cause: &str, turn: &mut Turn<'_>) {
        let mut keys = Vec::new();
        for InFlight { entry, queue, .. } in messages {
            let Some(destination) = self.queues.get(queue.0).and_then(|queue| queue.key) else {
                continue;
            };
            let key = MessageKey {
                destination,
                sequence: entry.sequence,
            };
            let cause = cause.to_owned();
            self.given_up.insert(key, GivenUp { queue, entry, cause });
            keys.push(key);
        }
        for keys in keys.chunks(LOAD_GIVEN_UP) {
            let keys = keys.to_vec();
            turn.effects.push(Effect::Load { keys });
        }
    }

    /// A message that a consumer gave up was read; none if it is gone.
    pub(super) fn read_given_up(
        &mut self,
        key: MessageKey,
        message: Option<Arc<Message>>,
        turn: &mut Turn<'_>,
    ) {
        let Some(GivenUp {
            queue,
            mut entry,
            cause,
        }) = self.given_up.remove(&key)
        else {
            return;
        };
        self.landed(queue);
        entry.body = message;
        let consumed = Consumed::new(queue, entry.clone(), Back::Seen);
        if cause == EXPIRED {
            self.dead_letter(queue, entry.clone(), &cause, turn);
            self.note_expired(queue, &entry, turn);
        } else {
            self.give_up(queue, entry, &cause, turn);
        }
        self.note_consumed(vec![consumed], turn);
    }

    /// Moves a message to the dead letters, or drops and counts it if the policy says so; by default one that is not
    /// persistent is dropped, and so is one that nobody could consume from the dead letter queue itself.
    pub(super) fn dead_letter(&mut self, key: QueueKey, entry: Entry, cause: &str, turn: &mut Turn<'_>) {
        self.discard(key, &entry, turn);
        let (Some(message), Some(queue)) = (entry.body, self.queues.get(key.0)) else {
            self.stats.discarded += 1;
            return;
        };
        let durable = queue.durable.as_ref();
        let durable = durable.map(|durable| (durable.client_id.clone(), durable.name.clone()));
        let from = match durable {
            Some(_) => message.destination.clone(),
            None => Some(queue.destination.clone()),
        };
        let durable = durable.as_ref().map(|(client, name)| (&**client, &**name));
        self.bury(from, durable, &message, cause, turn);
    }

    /// Sends a message that is on no queue any more to the dead letters, or counts it.
    pub(super) fn bury(
        &mut self,
        from: Option<Destination>,
        durable: Option<(&str, &str)>,
        message: &Arc<Message>,
        cause: &str,
        turn: &mut Turn<'_>,
    ) {
        let Some((letter, from)) = from.and_then(|from| {
            let letter = self.grave(&from, durable, message, cause == EXPIRED, turn.now)?;
            Some((letter, from))
        }) else {
            self.stats.discarded += 1;
            return;
        };
        let mut copy = dead_copy(message, from.clone(), letter, cause);
        copy.persistent = self.config.rules.force_persistency.unwrap_or(copy.persistent);
        let copy = Arc::new(copy);
        match self.route(&copy, turn) {
            Ok(routes) => {
                self.stats.dead_lettered += 1;
                self.publish(routes, copy, None, turn);
                self.advise_message(AdvisoryKind::MessageDlqd, &from, message, None, turn);
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "a dead letter has nowhere to go");
                self.stats.discarded += 1;
            }
        }
    }

    /// Where a dead message goes, if it goes anywhere.
    fn grave(
        &mut self,
        from: &Destination,
        durable: Option<(&str, &str)>,
        message: &Message,
        expired: bool,
        now: i64,
    ) -> Option<DeadLetter> {
        let rules = self.config.rules.clone();
        if rules
            .discard_dead_letters
            .as_ref()
            .is_some_and(|discarding| discarding.discards(from))
        {
            return None;
        }
        let strategy = &rules.policies.for_destination(from).dead_letters;
        let dead = DeadMessage {
            destination: from,
            durable,
            persistent: message.persistent,
            expired,
        };
        let letter = strategy.dead_letter(&dead, now)?;
        if let (Some(audit), Some(id)) = (strategy.audit, &message.message_id)
            && self.dead_audit.is_duplicate(audit, &letter.destination, id)
        {
            self.stats.duplicates += 1;
            return None;
        }
        Some(letter)
    }
}

/// True for a copy that this broker made: nobody sends it again, and its id is that of the message it is of.
pub(super) fn is_dead_letter(message: &Message) -> bool {
    message.original_destination.is_some()
        && message
            .marshalled_properties
            .as_ref()
            .is_some_and(|properties| contains(properties, CAUSE.as_bytes()))
}

fn dead_copy(message: &Message, from: Destination, letter: DeadLetter, cause: &str) -> Message {
    let mut copy = message.clone();
    let properties = copy.marshalled_properties.take().map(decode_map).transpose();
    // Properties that do not decode stay as they are: the message is more than its cause.
    let with_cause = properties.ok().and_then(|properties| {
        let mut properties: ValueMap = properties.unwrap_or_default();
        if letter.expiration == 0 && message.expiration > 0 {
            properties.insert("originalExpiration", message.expiration);
        }
        if !message.persistent {
            properties.insert("originalDeliveryMode", "NON_PERSISTENT");
        }
        properties.insert(CAUSE, cause);
        let mut out = BytesMut::new();
        encode_map(&properties, &mut out).ok()?;
        Some(out.freeze())
    });
    copy.marshalled_properties = with_cause.or_else(|| message.marshalled_properties.clone());
    copy.persistent = true;
    copy.original_destination = Some(from);
    copy.destination = Some(letter.destination);
    copy.original_transaction_id = copy.transaction_id.take();
    copy.redelivery_counter = 0;
    copy.expiration = letter.expiration;
    copy
}
