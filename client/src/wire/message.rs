//! The struct behind the seven message types.

use std::sync::Arc;

use super::destination::Destination;
use super::error::WireError;
use super::fields::Structure;
use super::ids::{BrokerId, ConsumerId, MessageId, ProducerId, TransactionId};
use super::read::{ReadEncoding, Reader};
use super::write::{WriteEncoding, Writer};

/// Which message type a [`Message`] is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MessageKind {
    /// `ActiveMQMessage`: header and properties only.
    #[default]
    Plain,
    /// `ActiveMQBytesMessage`.
    Bytes,
    /// `ActiveMQMapMessage`.
    Map,
    /// `ActiveMQObjectMessage`: a Java serialization stream, which stays opaque.
    Object,
    /// `ActiveMQStreamMessage`.
    Stream,
    /// `ActiveMQTextMessage`.
    Text,
    /// `ActiveMQBlobMessage`: the body lies elsewhere. Since version 3.
    Blob,
}

impl MessageKind {
    /// The data-structure type id: 23 to 29.
    pub fn type_id(self) -> u8 {
        23 + self as u8
    }

    /// The kind with this type id.
    pub fn from_type_id(id: u8) -> Option<Self> {
        [
            Self::Plain,
            Self::Bytes,
            Self::Map,
            Self::Object,
            Self::Stream,
            Self::Text,
            Self::Blob,
        ]
        .into_iter()
        .find(|kind| kind.type_id() == id)
    }
}

/// Where the body of a blob message lies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlobReference {
    /// The URL to fetch it from.
    pub remote_blob_url: Option<Arc<str>>,
    /// Its MIME type.
    pub mime_type: Option<Arc<str>>,
    /// The broker deletes it once it was consumed.
    pub deleted_by_broker: bool,
}

impl BlobReference {
    fn write<E: WriteEncoding>(&self, w: &mut Writer<'_, E>) -> Result<(), WireError> {
        w.string(self.remote_blob_url.as_deref())?;
        w.string(self.mime_type.as_deref())?;
        w.boolean(self.deleted_by_broker);
        Ok(())
    }

    fn read<E: ReadEncoding>(r: &mut Reader<'_, E>) -> Result<Self, WireError> {
        let mut blob = Self::default();
        r.string(&mut blob.remote_blob_url)?;
        r.string(&mut blob.mime_type)?;
        blob.deleted_by_broker = r.boolean()?;
        Ok(blob)
    }
}

openwire! {
    /// A message as it stands on the wire: header fields, marshalled properties, marshalled body.
    ///
    /// Body and properties are slices of the frame they came in and stay marshalled until somebody asks.
    message Message {
        /// Who sent it.
        producer_id: cached<ProducerId>,
        /// Where to (`JMSDestination`).
        destination: cached<Destination>,
        /// The transaction it is sent in.
        transaction_id: cached<TransactionId>,
        /// Where it was sent to before a broker moved it.
        original_destination: cached<Destination>,
        /// `JMSMessageID`.
        message_id: nested<MessageId>,
        /// The transaction it was sent in before a broker moved it.
        original_transaction_id: cached<TransactionId>,
        /// `JMSXGroupID`.
        group_id: string,
        /// `JMSXGroupSeq`: 1 starts a group, a negative number closes it.
        group_sequence: int,
        /// `JMSCorrelationID`.
        correlation_id: string,
        /// `JMSDeliveryMode`: true is `PERSISTENT`.
        persistent: bool,
        /// `JMSExpiration`: milliseconds since 1970, 0 is never.
        expiration: long,
        /// `JMSPriority`: 0 to 9.
        priority: byte,
        /// `JMSReplyTo`.
        reply_to: nested<Destination>,
        /// `JMSTimestamp`: milliseconds since 1970.
        timestamp: long,
        /// `JMSType`.
        message_type: string,
        /// The marshalled body.
        content: bytes,
        /// The marshalled properties; see [`decode_map`](crate::wire::decode_map).
        marshalled_properties: bytes,
        /// What an advisory tells of.
        data_structure: nested<Box<crate::wire::Command>>,
        /// Deliver to this consumer only.
        target_consumer_id: cached<ConsumerId>,
        /// The body is deflated.
        compressed: bool,
        /// How often delivery failed; `JMSXDeliveryCount` is one more.
        redelivery_counter: int,
        /// The brokers it crossed.
        broker_path: array<BrokerId>,
        /// When it arrived; unused.
        arrival: long,
        /// `JMSXUserID`.
        user_id: string,
        /// Came over a demand-forwarding bridge (the spelling is the protocol's).
        recieved_by_df_bridge: bool,
        /// May be dropped under pressure.
        droppable: bool @ 2,
        /// Brokers of a cluster.
        cluster: array<BrokerId> @ 3,
        /// When the broker got it.
        broker_in_time: long @ 3,
        /// When the broker dispatched it.
        broker_out_time: long @ 3,
        /// `JMSXGroupFirstForConsumer`.
        jmsx_group_first_for_consumer: bool @ 10,
    }
}

impl Structure for Arc<Message> {
    fn type_id(&self) -> u8 {
        self.kind.type_id()
    }

    fn write<E: WriteEncoding>(&self, w: &mut Writer<'_, E>) -> Result<(), WireError> {
        Message::write(self, w)
    }

    fn read<E: ReadEncoding>(id: u8, r: &mut Reader<'_, E>) -> Result<Self, WireError> {
        Message::read(id, r).map(Self::new)
    }
}
