//! A message on its way through a consumer.

use std::sync::Arc;

use super::audit::MessageKey;
use crate::wire::{Destination, Message, MessageDispatch, MessageId};

/// A message that was dispatched.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(super) message: Arc<Message>,
    destination: Option<Destination>,
    /// The how manieth it was that came to its consumer.
    pub(super) order: u64,
    /// The broker knows that it was delivered.
    pub(super) reported: bool,
    /// It was delivered before and given back.
    pub(super) returned: bool,
    /// It is acknowledged in the transaction that it is delivered in.
    pub(super) acknowledged: bool,
}

impl Delivery {
    /// None for a dispatch without a message.
    pub(super) fn new(dispatch: MessageDispatch, order: u64) -> Option<Self> {
        let mut delivery = Self {
            message: dispatch.message?,
            destination: dispatch.destination,
            order,
            reported: false,
            returned: false,
            acknowledged: false,
        };
        delivery.set_counter(dispatch.redelivery_counter);
        Some(delivery)
    }

    pub(crate) fn id(&self) -> Option<&MessageId> {
        self.message.message_id.as_ref()
    }

    /// Where it was consumed from.
    pub(crate) fn destination(&self) -> Option<&Destination> {
        self.destination.as_ref().or(self.message.destination.as_ref())
    }

    pub(super) fn key(&self) -> Option<MessageKey> {
        Some((self.id()?.clone(), self.destination()?.clone()))
    }

    /// The broker's number.
    pub(super) fn sequence(&self) -> i64 {
        self.id().map_or(0, |id| id.broker_sequence_id)
    }

    pub(super) fn expired(&self, millis: i64) -> bool {
        self.message.expiration > 0 && millis > self.message.expiration
    }

    /// How often it was delivered before.
    pub(super) fn counter(&self) -> i32 {
        self.message.redelivery_counter
    }

    pub(super) fn set_counter(&mut self, counter: i32) {
        if self.counter() != counter {
            Arc::make_mut(&mut self.message).redelivery_counter = counter;
        }
    }
}
