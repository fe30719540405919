//! The header fields of a message.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Message;
use crate::wire::Destination;

/// The priority of a message unless its producer says otherwise (`Message.DEFAULT_PRIORITY`).
pub const DEFAULT_PRIORITY: i8 = 4;

/// Whether a message outlives the broker that holds it (JMS `DeliveryMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeliveryMode {
    /// `NON_PERSISTENT`: kept in memory; lost if the broker stops.
    NonPersistent,
    /// `PERSISTENT`, the default: stored before the broker confirms it.
    #[default]
    Persistent,
}

impl Message {
    /// The id the producer gave the message (`getJMSMessageID`), such as `ID:host-40993-1795385921299-1:1:1:1:7`.
    /// `None` until it is sent.
    pub fn message_id(&self) -> Option<String> {
        self.wire.message_id.as_ref().map(ToString::to_string)
    }

    /// Where the message was sent to (`getJMSDestination`).
    pub fn destination(&self) -> Option<&Destination> {
        self.wire.destination.as_ref()
    }

    /// Where the message was sent to before the broker moved it, for instance to a dead letter queue
    /// (`ActiveMQMessage.getOriginalDestination`).
    pub fn original_destination(&self) -> Option<&Destination> {
        self.wire.original_destination.as_ref()
    }

    /// Whether the message outlives its broker (`getJMSDeliveryMode`). Sending sets it.
    pub fn delivery_mode(&self) -> DeliveryMode {
        if self.wire.persistent {
            DeliveryMode::Persistent
        } else {
            DeliveryMode::NonPersistent
        }
    }

    /// 0 to 9; 4 is ordinary (`getJMSPriority`). Sending sets it.
    pub fn priority(&self) -> i8 {
        self.wire.priority
    }

    /// When the message was sent, in milliseconds since 1970; 0 if its producer says nothing
    /// (`getJMSTimestamp`). Sending sets it.
    pub fn timestamp(&self) -> i64 {
        self.wire.timestamp
    }

    /// [`timestamp`](Self::timestamp) as a point in time.
    pub fn sent_at(&self) -> Option<SystemTime> {
        point_in_time(self.wire.timestamp)
    }

    /// When the message expires, in milliseconds since 1970; 0 is never (`getJMSExpiration`). Sending sets it.
    pub fn expiration(&self) -> i64 {
        self.wire.expiration
    }

    /// [`expiration`](Self::expiration) as a point in time, `None` if it never expires.
    pub fn expires_at(&self) -> Option<SystemTime> {
        point_in_time(self.wire.expiration)
    }

    /// True if the message has expired at this point in time (`ActiveMQMessage.isExpired`).
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_at().is_some_and(|end| now > end)
    }

    /// The id of what this message belongs to, often the request it answers (`getJMSCorrelationID`).
    pub fn correlation_id(&self) -> Option<&str> {
        self.wire.correlation_id.as_deref()
    }

    /// Sets the correlation id (`setJMSCorrelationID`).
    pub fn set_correlation_id<'a>(&mut self, id: impl Into<Option<&'a str>>) {
        self.wire_mut().correlation_id = id.into().map(Into::into);
    }

    /// Where answers go to (`getJMSReplyTo`).
    pub fn reply_to(&self) -> Option<&Destination> {
        self.wire.reply_to.as_ref()
    }

    /// Sets where answers go to (`setJMSReplyTo`).
    pub fn set_reply_to(&mut self, destination: impl Into<Option<Destination>>) {
        self.wire_mut().reply_to = destination.into();
    }

    /// The application's name for this type of message (`getJMSType`).
    pub fn message_type(&self) -> Option<&str> {
        self.wire.message_type.as_deref()
    }

    /// Sets the type (`setJMSType`).
    pub fn set_message_type<'a>(&mut self, name: impl Into<Option<&'a str>>) {
        self.wire_mut().message_type = name.into().map(Into::into);
    }

    /// The group of messages that go to one consumer, in order (`JMSXGroupID`).
    pub fn group_id(&self) -> Option<&str> {
        self.wire.group_id.as_deref()
    }

    /// The number in its group: 1 starts it, a negative number closes it (`JMSXGroupSeq`).
    pub fn group_sequence(&self) -> i32 {
        self.wire.group_sequence
    }

    /// Puts the message into a group (`JMSXGroupID` and `JMSXGroupSeq`).
    pub fn set_group<'a>(&mut self, id: impl Into<Option<&'a str>>, sequence: i32) {
        let wire = self.wire_mut();
        wire.group_id = id.into().map(Into::into);
        wire.group_sequence = sequence;
    }

    /// True for the first message of its group that this consumer gets (`JMSXGroupFirstForConsumer`).
    pub fn is_group_first_for_consumer(&self) -> bool {
        self.wire.jmsx_group_first_for_consumer
    }

    /// Who sent it, if the broker tells (`JMSXUserID`).
    pub fn user_id(&self) -> Option<&str> {
        self.wire.user_id.as_deref()
    }

    /// True if the message may have been delivered before (`getJMSRedelivered`).
    pub fn redelivered(&self) -> bool {
        self.wire.redelivery_counter > 0
    }

    /// How often it was delivered, this time included: 1 the first time (`JMSXDeliveryCount`).
    pub fn delivery_count(&self) -> i32 {
        self.wire.redelivery_counter.saturating_add(1)
    }

    /// When the broker got it, in milliseconds since 1970; 0 if unknown (`JMSActiveMQBrokerInTime`).
    pub fn broker_in_time(&self) -> i64 {
        self.wire.broker_in_time
    }

    /// When the broker dispatched it, in milliseconds since 1970; 0 if unknown (`JMSActiveMQBrokerOutTime`).
    pub fn broker_out_time(&self) -> i64 {
        self.wire.broker_out_time
    }

    /// True if the body of a received message came compressed (`ActiveMQMessage.isCompressed`); reading it inflates it. A
    /// message that is yet to be sent is compressed then, with `jms.useCompression`.
    pub fn is_compressed(&self) -> bool {
        self.wire.compressed
    }

    /// The text of the transaction it was sent in (`JMSXProducerTXID`).
    pub fn producer_transaction_id(&self) -> Option<String> {
        self.wire
            .original_transaction_id
            .as_ref()
            .or(self.wire.transaction_id.as_ref())
            .map(ToString::to_string)
    }
}

/// Milliseconds since 1970 as a point in time; `None` for 0, what is before it and what no clock can show.
fn point_in_time(millis: i64) -> Option<SystemTime> {
    let millis = u64::try_from(millis).ok().filter(|&millis| millis > 0)?;
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}
