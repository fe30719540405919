//! Where messages go that nobody could consume: `ActiveMQ.DLQ`, as ActiveMQ's shared strategy has it.

use std::sync::Arc;

use bytes::BytesMut;
use openwire_client::wire::{Destination, Message, ValueMap, decode_map, encode_map};

use super::durable::{Back, Consumed};
use super::queue::{Entry, QueueKey};
use super::route::Routes;
use super::{Core, Turn};

const DEAD_LETTER_QUEUE: &str = "ActiveMQ.DLQ";

/// The cause of a message whose time is over.
pub(super) const EXPIRED: &str = "Message Expired";

impl Core {
    /// The time of a message that waited is over.
    pub(super) fn expire(&mut self, queue: QueueKey, entry: Entry, turn: &mut Turn<'_>) {
        self.stats.expired += 1;
        let consumed = entry
            .stored
            .then(|| Consumed::new(queue, entry.clone(), Back::Unseen));
        self.dead_letter(queue, entry, EXPIRED, turn);
        self.note_consumed(consumed.into_iter().collect(), turn);
    }

    /// Moves a persistent message to the dead letter queue. A non-persistent one is dropped and counted, by
    /// ActiveMQ's default, and so is one that nobody could consume from the dead letter queue itself.
    pub(super) fn dead_letter(&mut self, queue: QueueKey, entry: Entry, cause: &str, turn: &mut Turn<'_>) {
        self.discard(queue, &entry, turn);
        let dead_letters = Destination::queue(DEAD_LETTER_QUEUE);
        let on_dead_letters = self
            .queues
            .get(queue.0)
            .is_some_and(|queue| queue.destination == dead_letters);
        let message = entry
            .body
            .filter(|message| message.persistent && !on_dead_letters);
        let target = match message {
            Some(message) => self.resolve_for_send(&dead_letters, turn).ok().zip(Some(message)),
            None => None,
        };
        let Some((target, message)) = target else {
            self.stats.discarded += 1;
            return;
        };
        self.stats.dead_lettered += 1;
        self.publish(
            Routes::One(target),
            Arc::new(dead_copy(&message, dead_letters, cause)),
            None,
            turn,
        );
    }
}

/// True for a copy that this broker made: nobody sends it again, and its id is that of the message it is of.
pub(super) fn is_dead_letter(message: &Message) -> bool {
    message.original_destination.is_some()
        && message
            .destination
            .as_ref()
            .is_some_and(|destination| destination.name() == DEAD_LETTER_QUEUE)
}

fn dead_copy(message: &Message, dead_letters: Destination, cause: &str) -> Message {
    let mut copy = message.clone();
    let properties = copy.marshalled_properties.take().map(decode_map).transpose();
    // Properties that do not decode stay as they are: the message is more than its cause.
    let with_cause = properties.ok().and_then(|properties| {
        let mut properties: ValueMap = properties.unwrap_or_default();
        properties.insert("originalExpiration", message.expiration);
        properties.insert("dlqDeliveryFailureCause", cause);
        let mut out = BytesMut::new();
        encode_map(&properties, &mut out).ok()?;
        Some(out.freeze())
    });
    copy.marshalled_properties = with_cause.or_else(|| message.marshalled_properties.clone());
    copy.original_destination = copy.destination.replace(dead_letters);
    copy.original_transaction_id = copy.transaction_id.take();
    copy.redelivery_counter = 0;
    copy.expiration = 0;
    copy
}
