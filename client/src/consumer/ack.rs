//! Acknowledgements as the broker wants them: exact in range and count.

use crate::wire::{ConsumerId, Destination, MessageAck, MessageId, Throwable, TransactionId};

use super::delivery::Delivery;

/// Who acknowledges, and in which transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acker<'a> {
    pub(crate) consumer: &'a ConsumerId,
    pub(crate) transaction: Option<&'a TransactionId>,
}

impl Acker<'_> {
    /// One message.
    pub(crate) fn one(self, ack_type: i8, delivery: &Delivery) -> MessageAck {
        let first = match ack_type {
            MessageAck::INDIVIDUAL => None,
            _ => delivery.id().cloned(),
        };
        self.ack(ack_type, delivery.destination(), first, delivery.id().cloned(), 1)
    }

    /// All messages from `first` to `last` in the order of their dispatch, which are `count`.
    pub(crate) fn range(self, ack_type: i8, first: &Delivery, last: &Delivery, count: usize) -> MessageAck {
        self.ack(
            ack_type,
            last.destination(),
            first.id().cloned(),
            last.id().cloned(),
            count,
        )
    }

    /// One message is given up.
    pub(crate) fn poison(self, delivery: &Delivery, why: &str) -> MessageAck {
        MessageAck {
            // A broker refuses it within a transaction.
            transaction_id: None,
            poison_cause: Some(Throwable::new("java.lang.Throwable", why)),
            ..self.one(MessageAck::POISON, delivery)
        }
    }

    fn ack(
        self,
        ack_type: i8,
        destination: Option<&Destination>,
        first: Option<MessageId>,
        last: Option<MessageId>,
        count: usize,
    ) -> MessageAck {
        MessageAck {
            destination: destination.cloned(),
            transaction_id: self.transaction.cloned(),
            consumer_id: Some(self.consumer.clone()),
            ack_type,
            first_message_id: first,
            last_message_id: last,
            // The window of a consumer is a signed 32-bit number as well.
            message_count: i32::try_from(count).unwrap_or(i32::MAX),
            ..MessageAck::default()
        }
    }
}
