//! A message as ActiveMQ's JDBC store writes it, and as it stands in the columns beside.

use std::fmt::Write;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use openwire_client::wire::{Message, MessageId, WireError, marshal, unmarshal};

/// Bytes before the message: its length, as `OpenWireFormat` writes it where nobody disables it.
const PREFIX: usize = 4;

/// A message as it goes into a row.
#[derive(Debug)]
pub(super) struct Body {
    /// `MSG`.
    pub(super) bytes: Bytes,
    /// `MSGID_PROD`: the text of the producer's id.
    pub(super) producer: Arc<str>,
    /// `MSGID_SEQ`: the `producerSequenceId`.
    pub(super) sequence: i64,
    /// `EXPIRATION`, in milliseconds since 1970; 0 for never.
    pub(super) expiration: i64,
    /// `PRIORITY`, 0 to 9.
    pub(super) priority: i64,
    /// Tells it from others with the same number.
    pub(super) mark: u32,
}

impl Body {
    pub(super) fn of(message: &Message) -> Result<Self, WireError> {
        let id = message.message_id.as_ref();
        let producer = id.and_then(|id| id.producer_id.as_ref());
        let producer = producer.map_or_else(String::new, |producer| producer.to_string());
        Ok(Self {
            bytes: encode(message)?,
            producer: producer.into(),
            sequence: id.map_or(0, |id| id.producer_sequence_id),
            expiration: message.expiration,
            priority: i64::from(message.priority.clamp(0, 9)),
            mark: mark(message),
        })
    }
}

fn encode(message: &Message) -> Result<Bytes, WireError> {
    let mut bytes = BytesMut::new();
    bytes.put_bytes(0, PREFIX);
    marshal(message, &mut bytes)?;
    let len = (bytes.len() - PREFIX) as u32;
    bytes[..PREFIX].copy_from_slice(&len.to_be_bytes());
    Ok(bytes.freeze())
}

/// Reads what a row has.
pub(super) fn decode(mut bytes: Bytes) -> Result<Arc<Message>, WireError> {
    // As in ActiveMQ, the length itself is not looked at: the column has one as well.
    let message = bytes.split_off(PREFIX.min(bytes.len()));
    unmarshal(message)
}

/// The same message with another redelivery counter.
pub(super) fn with_counter(bytes: Bytes, counter: u32) -> Result<Bytes, WireError> {
    let mut message = decode(bytes)?;
    Arc::make_mut(&mut message).redelivery_counter = i32::try_from(counter).unwrap_or(i32::MAX);
    encode(&message)
}

/// A number that tells a message from another one which an ActiveMQ stored under the same id later. The id within the
/// broker does not count: ActiveMQ sets it when it reads.
pub(super) fn mark(message: &Message) -> u32 {
    let mut text = String::new();
    if let Some(MessageId {
        producer_id: Some(producer),
        producer_sequence_id,
        ..
    }) = &message.message_id
    {
        // Writing to a text does not fail.
        let _ = write!(text, "{producer}:{producer_sequence_id}");
    }
    crc32fast::hash(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use openwire_client::wire::{Destination, ProducerId};

    use super::*;

    fn message() -> Message {
        Message {
            destination: Some(Destination::queue("q")),
            message_id: Some(MessageId {
                producer_id: Some(ProducerId {
                    connection_id: Some("ID:host-1-2-3:4".into()),
                    value: 5,
                    session_id: 6,
                }),
                producer_sequence_id: 7,
                ..MessageId::default()
            }),
            content: Some(Bytes::from_static(b"content")),
            priority: 4,
            expiration: 99,
            ..Message::default()
        }
    }

    #[test]
    fn a_body_has_its_length_in_front_and_its_id_beside() {
        let body = Body::of(&message()).unwrap();
        let len = u32::from_be_bytes(*body.bytes.first_chunk().unwrap());
        assert_eq!(len as usize, body.bytes.len() - PREFIX);
        assert_eq!((&*body.producer, body.sequence), ("ID:host-1-2-3:4:6:5", 7));
        assert_eq!((body.expiration, body.priority), (99, 4));
        assert_eq!(*decode(body.bytes).unwrap(), message());
    }

    #[test]
    fn a_counter_is_written_into_the_body() {
        let body = Body::of(&message()).unwrap();
        let counted = decode(with_counter(body.bytes, 3).unwrap()).unwrap();
        assert_eq!(counted.redelivery_counter, 3);
        assert_eq!(mark(&counted), body.mark);
    }

    #[test]
    fn what_is_no_body_is_refused() {
        for bytes in [&b""[..], b"abc", b"\0\0\0\x01", b"\0\0\0\x02\x17\xff"] {
            assert!(decode(Bytes::copy_from_slice(bytes)).is_err());
        }
    }
}
