//! Records and catalogs to bytes and back. The layout is described in the [journal's documentation](super).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openwire_client::wire::{Message, ProducerId, WireError, marshal, unmarshal};

use super::super::state::{initial_redelivered, producer_of};
use super::super::{Committed, DestinationKey, MessageKey, Op, StoreError, accounting_size};

/// The version of the layout, in each catalog.
const VERSION: u32 = 2;

/// The version before there were outcomes of transactions, which is still read.
const WITHOUT_OUTCOMES: u32 = 1;

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const REDELIVERED: u8 = 3;
const DISPATCHED: u8 = 4;
const CREATE_DESTINATION: u8 = 5;
const REMOVE_DESTINATION: u8 = 6;
const COMMITTED: u8 = 7;

/// Bytes of a put before producer and body.
const PUT_HEADER: usize = 33;
/// What the CRC of a put covers begins here.
const PUT_CHECKED: usize = 5;
/// Where the counter of a put stands.
const PUT_REDELIVERED: usize = 25;
/// Bytes of an outcome before the connection's id.
const COMMITTED_HEADER: usize = 29;
/// Bytes of a producer before the connection's id.
const PRODUCER_HEADER: usize = 24;

/// How much of a record tells its length.
pub(super) const RECORD_PREFIX: usize = PUT_HEADER;

/// A change, as it stands in a batch.
#[derive(Debug)]
pub(super) enum Record<'a> {
    Put(PutRecord<'a>),
    Remove {
        key: MessageKey,
    },
    Redelivered {
        key: MessageKey,
        count: u32,
    },
    Dispatched {
        destination: DestinationKey,
        sequence: u64,
    },
    CreateDestination {
        key: DestinationKey,
        name: &'a str,
    },
    RemoveDestination {
        key: DestinationKey,
    },
    Committed {
        outcome: Committed,
        forgotten: i64,
    },
}

/// A message as it stands in a batch.
#[derive(Debug)]
pub(super) struct PutRecord<'a> {
    pub(super) key: MessageKey,
    /// Its accounting size.
    pub(super) size: u32,
    pub(super) redelivered: u32,
    /// Its producer, and its number there.
    pub(super) producer: Option<(ProducerRecord<'a>, i64)>,
    body: &'a [u8],
    crc: u32,
    checked: &'a [u8],
}

/// A producer's id.
#[derive(Debug)]
pub(super) struct ProducerRecord<'a> {
    value: i64,
    session_id: i64,
    connection_id: &'a str,
}

impl ProducerRecord<'_> {
    pub(super) fn id(&self) -> ProducerId {
        ProducerId {
            connection_id: Some(self.connection_id.into()),
            value: self.value,
            session_id: self.session_id,
        }
    }
}

/// Appends the record of a change.
pub(super) fn encode_op(op: &Op, out: &mut BytesMut) -> Result<(), StoreError> {
    match op {
        Op::Put { key, message } => return encode_put(*key, message, out),
        Op::Remove { key } => {
            out.put_u8(REMOVE);
            put_key(*key, out);
        }
        Op::Redelivered { key, count } => {
            out.put_u8(REDELIVERED);
            put_key(*key, out);
            out.put_u32_le(*count);
        }
        Op::Dispatched {
            destination,
            sequence,
        } => {
            out.put_u8(DISPATCHED);
            out.put_u32_le(destination.0);
            out.put_u64_le(*sequence);
        }
        Op::CreateDestination { key, name } => {
            out.put_u8(CREATE_DESTINATION);
            out.put_u32_le(key.0);
            put_text(name, out);
        }
        Op::RemoveDestination { key } => {
            out.put_u8(REMOVE_DESTINATION);
            out.put_u32_le(key.0);
        }
        Op::Committed { outcome, forgotten } => {
            out.put_u8(COMMITTED);
            out.put_u32_le(outcome.connection.len() as u32);
            out.put_i64_le(outcome.transaction);
            out.put_i64_le(outcome.at);
            out.put_i64_le(*forgotten);
            out.put_slice(outcome.connection.as_bytes());
        }
    }
    Ok(())
}

fn put_key(key: MessageKey, out: &mut BytesMut) {
    out.put_u32_le(key.destination.0);
    out.put_u64_le(key.sequence);
}

fn put_text(text: &str, out: &mut BytesMut) {
    out.put_u32_le(text.len() as u32);
    out.put_slice(text.as_bytes());
}

fn put_producer(producer: &ProducerId, sequence: i64, out: &mut BytesMut) {
    out.put_i64_le(producer.value);
    out.put_i64_le(producer.session_id);
    out.put_i64_le(sequence);
    out.put_slice(connection_id(producer).as_bytes());
}

fn connection_id(producer: &ProducerId) -> &str {
    producer.connection_id.as_deref().unwrap_or_default()
}

fn encode_put(key: MessageKey, message: &Message, out: &mut BytesMut) -> Result<(), StoreError> {
    let start = out.len();
    out.put_bytes(0, PUT_HEADER);
    let producer = producer_of(message);
    if let Some((producer, sequence)) = producer {
        put_producer(producer, sequence, out);
    }
    let body = out.len();
    marshal(message, out)
        .map_err(|error| StoreError::Refused(format!("message {}: {error}", key.sequence)))?;
    let body_len = out.len() - body;
    let mut header = &mut out[start..start + PUT_HEADER];
    header.put_u8(PUT);
    header.put_u32_le(0);
    header.put_u32_le(body_len as u32);
    header.put_u32_le(key.destination.0);
    header.put_u64_le(key.sequence);
    header.put_u32_le(accounting_size(message));
    header.put_u32_le(initial_redelivered(message));
    header.put_u32_le((body - start - PUT_HEADER) as u32);
    seal_put(&mut out[start..]);
    Ok(())
}

fn seal_put(record: &mut [u8]) {
    let crc = crc32fast::hash(&record[PUT_CHECKED..]);
    record[1..PUT_CHECKED].copy_from_slice(&crc.to_le_bytes());
}

/// Appends a put once more, with the counter the message has by now. `record` is what
/// [`PutRecord::parse`] accepted.
pub(super) fn encode_copy(record: &[u8], redelivered: u32, out: &mut BytesMut) {
    let start = out.len();
    out.put_slice(record);
    let copy = &mut out[start..];
    copy[PUT_REDELIVERED..PUT_REDELIVERED + 4].copy_from_slice(&redelivered.to_le_bytes());
    seal_put(copy);
}

/// The length of the record that begins with `prefix`, which is at least [`RECORD_PREFIX`] bytes of it or
/// the rest of its frame; none if no record begins so.
pub(super) fn record_len(prefix: &[u8]) -> Option<usize> {
    let field = |at: usize| -> Option<usize> {
        let bytes = prefix.get(at..at + 4)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    };
    Some(match *prefix.first()? {
        PUT => PUT_HEADER + field(5)? + field(PUT_HEADER - 4)?,
        REMOVE => 13,
        REDELIVERED => 17,
        DISPATCHED => 13,
        CREATE_DESTINATION => 9 + field(5)?,
        REMOVE_DESTINATION => 5,
        COMMITTED => COMMITTED_HEADER + field(1)?,
        _ => return None,
    })
}

/// True if this is the beginning of a put.
pub(super) fn is_put(prefix: &[u8]) -> bool {
    prefix.first() == Some(&PUT)
}

/// The key of the put that begins with `prefix`.
pub(super) fn put_key_of(prefix: &[u8]) -> Option<MessageKey> {
    get_key(&mut prefix.get(9..)?)
}

fn get_key(from: &mut &[u8]) -> Option<MessageKey> {
    Some(MessageKey {
        destination: DestinationKey(from.try_get_u32_le().ok()?),
        sequence: from.try_get_u64_le().ok()?,
    })
}

fn get_text<'a>(from: &mut &'a [u8]) -> Option<&'a str> {
    let len = from.try_get_u32_le().ok()? as usize;
    let (text, rest) = from.split_at_checked(len)?;
    *from = rest;
    std::str::from_utf8(text).ok()
}

fn get_producer(mut from: &[u8]) -> Option<(ProducerRecord<'_>, i64)> {
    let value = from.try_get_i64_le().ok()?;
    let session_id = from.try_get_i64_le().ok()?;
    let sequence = from.try_get_i64_le().ok()?;
    let producer = ProducerRecord {
        value,
        session_id,
        connection_id: std::str::from_utf8(from).ok()?,
    };
    Some((producer, sequence))
}

impl<'a> Record<'a> {
    /// Reads the first record of `from` and says how long it is.
    pub(super) fn parse(from: &'a [u8]) -> Option<(Self, usize)> {
        let len = record_len(from)?;
        let record = from.get(..len)?;
        let mut rest = record.get(1..)?;
        let parsed = match record[0] {
            PUT => Self::Put(PutRecord::parse_unchecked(record)?),
            REMOVE => Self::Remove {
                key: get_key(&mut rest)?,
            },
            REDELIVERED => Self::Redelivered {
                key: get_key(&mut rest)?,
                count: rest.try_get_u32_le().ok()?,
            },
            DISPATCHED => Self::Dispatched {
                destination: DestinationKey(rest.try_get_u32_le().ok()?),
                sequence: rest.try_get_u64_le().ok()?,
            },
            CREATE_DESTINATION => Self::CreateDestination {
                key: DestinationKey(rest.try_get_u32_le().ok()?),
                name: get_text(&mut rest)?,
            },
            COMMITTED => {
                let (header, connection) = record.split_at_checked(COMMITTED_HEADER)?;
                let mut header = header.get(5..)?;
                Self::Committed {
                    outcome: Committed {
                        transaction: header.try_get_i64_le().ok()?,
                        at: header.try_get_i64_le().ok()?,
                        connection: std::str::from_utf8(connection).ok()?.into(),
                    },
                    forgotten: header.try_get_i64_le().ok()?,
                }
            }
            _ => Self::RemoveDestination {
                key: DestinationKey(rest.try_get_u32_le().ok()?),
            },
        };
        Some((parsed, len))
    }
}

impl<'a> PutRecord<'a> {
    /// Reads a put that stands alone, and checks it.
    pub(super) fn parse(record: &'a [u8]) -> Option<Self> {
        if !is_put(record) || record_len(record)? != record.len() {
            return None;
        }
        let put = Self::parse_unchecked(record)?;
        (crc32fast::hash(put.checked) == put.crc).then_some(put)
    }

    fn parse_unchecked(record: &'a [u8]) -> Option<Self> {
        let mut rest = record.get(1..)?;
        let crc = rest.try_get_u32_le().ok()?;
        let checked = rest;
        let body_len = rest.try_get_u32_le().ok()? as usize;
        let key = get_key(&mut rest)?;
        let size = rest.try_get_u32_le().ok()?;
        let redelivered = rest.try_get_u32_le().ok()?;
        let producer_len = rest.try_get_u32_le().ok()? as usize;
        let (producer, body) = rest.split_at_checked(producer_len)?;
        if body.len() != body_len {
            return None;
        }
        let producer = match producer_len {
            0 => None,
            _ => Some(get_producer(producer)?),
        };
        Some(Self {
            key,
            size,
            redelivered,
            producer,
            body,
            crc,
            checked,
        })
    }

    /// The message. `record` is the bytes this was read from.
    pub(super) fn message(&self, record: &Bytes) -> Result<Arc<Message>, WireError> {
        unmarshal(record.slice_ref(self.body))
    }
}

/// What a segment begins with: everything but messages that the segments before it said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Catalog {
    /// The oldest segment that is still needed.
    pub(super) oldest: u32,
    pub(super) next_sequence: u64,
    pub(super) next_destination: u32,
    /// Key, name and dispatched watermark.
    pub(super) destinations: Vec<(DestinationKey, Arc<str>, u64)>,
    pub(super) producers: Vec<(ProducerId, i64)>,
    /// Outcomes of transactions up to this time may be missing.
    pub(super) forgotten: i64,
    /// The oldest first.
    pub(super) committed: Vec<Committed>,
}

impl Catalog {
    /// Appends the payload of a catalog frame.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(VERSION);
        out.put_u32_le(self.oldest);
        out.put_u64_le(self.next_sequence);
        out.put_u32_le(self.next_destination);
        out.put_u32_le(self.destinations.len() as u32);
        for (key, name, dispatched) in &self.destinations {
            out.put_u32_le(key.0);
            out.put_u64_le(*dispatched);
            put_text(name, out);
        }
        out.put_u32_le(self.producers.len() as u32);
        for (producer, sequence) in &self.producers {
            out.put_u32_le((PRODUCER_HEADER + connection_id(producer).len()) as u32);
            put_producer(producer, *sequence, out);
        }
        out.put_i64_le(self.forgotten);
        // A busy connection has many outcomes: its id is written once.
        let mut connections: BTreeMap<&str, Vec<&Committed>> = BTreeMap::new();
        for outcome in &self.committed {
            connections.entry(&outcome.connection).or_default().push(outcome);
        }
        out.put_u32_le(connections.len() as u32);
        for (connection, outcomes) in connections {
            put_text(connection, out);
            out.put_u32_le(outcomes.len() as u32);
            for outcome in outcomes {
                out.put_i64_le(outcome.transaction);
                out.put_i64_le(outcome.at);
            }
        }
    }

    /// Reads the payload of a catalog frame; the error says what is wrong.
    pub(super) fn parse(mut from: &[u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "the catalog ends too early";
        let version = from.try_get_u32_le().map_err(|_| SHORT)?;
        if !(WITHOUT_OUTCOMES..=VERSION).contains(&version) {
            return Err("the journal was written by another version");
        }
        let mut catalog = Self::parse_fields(&mut from).ok_or(SHORT)?;
        if version > WITHOUT_OUTCOMES {
            catalog.parse_outcomes(&mut from).ok_or(SHORT)?;
        }
        Ok(catalog)
    }

    fn parse_fields(from: &mut &[u8]) -> Option<Self> {
        let mut catalog = Self {
            oldest: from.try_get_u32_le().ok()?,
            next_sequence: from.try_get_u64_le().ok()?,
            next_destination: from.try_get_u32_le().ok()?,
            ..Self::default()
        };
        // The counts are not trusted with an allocation: each entry has to be there.
        for _ in 0..from.try_get_u32_le().ok()? {
            let key = DestinationKey(from.try_get_u32_le().ok()?);
            let dispatched = from.try_get_u64_le().ok()?;
            catalog
                .destinations
                .push((key, get_text(from)?.into(), dispatched));
        }
        for _ in 0..from.try_get_u32_le().ok()? {
            let len = from.try_get_u32_le().ok()? as usize;
            let (producer, rest) = from.split_at_checked(len)?;
            *from = rest;
            let (producer, sequence) = get_producer(producer)?;
            catalog.producers.push((producer.id(), sequence));
        }
        Some(catalog)
    }

    fn parse_outcomes(&mut self, from: &mut &[u8]) -> Option<()> {
        self.forgotten = from.try_get_i64_le().ok()?;
        for _ in 0..from.try_get_u32_le().ok()? {
            let connection: Arc<str> = get_text(from)?.into();
            for _ in 0..from.try_get_u32_le().ok()? {
                self.committed.push(Committed {
                    connection: connection.clone(),
                    transaction: from.try_get_i64_le().ok()?,
                    at: from.try_get_i64_le().ok()?,
                });
            }
        }
        self.committed.sort_by_key(|outcome| outcome.at);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use openwire_client::wire::MessageId;
    use proptest::prelude::*;

    use super::super::frame::FrameHeader;
    use super::*;

    fn key(sequence: u64) -> MessageKey {
        MessageKey {
            destination: DestinationKey(7),
            sequence,
        }
    }

    fn message() -> Message {
        let producer = ProducerId {
            connection_id: Some("ID:höst-1".into()),
            value: -2,
            session_id: 3,
        };
        Message {
            message_id: Some(MessageId {
                producer_id: Some(producer),
                producer_sequence_id: 11,
                ..MessageId::default()
            }),
            content: Some(Bytes::from_static(b"body")),
            redelivery_counter: 2,
            ..Message::default()
        }
    }

    #[test]
    fn a_put_comes_back_and_can_be_copied() {
        let mut out = BytesMut::from(&b"xyz"[..]);
        let message = Arc::new(message());
        let op = Op::Put {
            key: key(9),
            message: message.clone(),
        };
        encode_op(&op, &mut out).unwrap();
        let record = out.split_off(3).freeze();
        assert_eq!(record_len(&record[..RECORD_PREFIX]), Some(record.len()));
        assert_eq!(put_key_of(&record), Some(key(9)));
        let put = PutRecord::parse(&record).unwrap();
        assert_eq!((put.key, put.size, put.redelivered), (key(9), 1028, 2));
        let (producer, sequence) = put.producer.as_ref().unwrap();
        let id = message.message_id.clone().unwrap();
        assert_eq!(
            (Some(producer.id()), *sequence),
            (id.producer_id, id.producer_sequence_id)
        );
        assert_eq!(put.message(&record).unwrap(), message);

        encode_copy(&record, 5, &mut out);
        let copy = out.split_off(3).freeze();
        assert_eq!(copy.len(), record.len());
        let put = PutRecord::parse(&copy).unwrap();
        assert_eq!((put.key, put.redelivered), (key(9), 5));
        assert_eq!(put.message(&copy).unwrap(), message);
        for byte in 0..record.len() {
            let mut broken = record.to_vec();
            broken[byte] ^= 1;
            assert!(PutRecord::parse(&broken).is_none(), "{byte}");
        }
    }

    #[test]
    fn a_message_without_a_producer_has_none() {
        let mut out = BytesMut::new();
        encode_put(key(1), &Message::default(), &mut out).unwrap();
        assert!(PutRecord::parse(&out).unwrap().producer.is_none());
    }

    fn committed(connection: &str, transaction: i64, at: i64) -> Committed {
        Committed {
            connection: connection.into(),
            transaction,
            at,
        }
    }

    #[test]
    fn other_records_come_back() {
        let name: Arc<str> = "queue://Ä".into();
        let ops = [
            Op::CreateDestination {
                key: DestinationKey(1),
                name: name.clone(),
            },
            Op::Remove { key: key(2) },
            Op::Redelivered {
                key: key(3),
                count: 4,
            },
            Op::Dispatched {
                destination: DestinationKey(5),
                sequence: 6,
            },
            Op::RemoveDestination {
                key: DestinationKey(8),
            },
            Op::Committed {
                outcome: committed("ID:ö", 9, 10),
                forgotten: 11,
            },
        ];
        let mut out = BytesMut::new();
        ops.iter().for_each(|op| encode_op(op, &mut out).unwrap());
        let mut at = 0;
        let records = std::iter::from_fn(|| {
            let (record, len) = Record::parse(out.get(at..)?)?;
            at += len;
            Some(record)
        });
        let records: Vec<_> = records.collect();
        assert!(matches!(
            &records[..],
            [
                Record::CreateDestination {
                    key: DestinationKey(1),
                    name: "queue://Ä"
                },
                Record::Remove {
                    key: MessageKey { sequence: 2, .. }
                },
                Record::Redelivered {
                    key: MessageKey { sequence: 3, .. },
                    count: 4
                },
                Record::Dispatched {
                    destination: DestinationKey(5),
                    sequence: 6
                },
                Record::RemoveDestination {
                    key: DestinationKey(8)
                },
                Record::Committed {
                    outcome,
                    forgotten: 11
                },
            ] if *outcome == committed("ID:ö", 9, 10)
        ));
        assert_eq!(at, out.len());
    }

    #[test]
    fn a_catalog_comes_back() {
        let catalog = Catalog {
            oldest: 1,
            next_sequence: 2,
            next_destination: 3,
            destinations: vec![
                (DestinationKey(1), "queue://a".into(), 9),
                (DestinationKey(2), "".into(), 0),
            ],
            producers: vec![(
                ProducerId {
                    connection_id: Some("c".into()),
                    value: 1,
                    session_id: 2,
                },
                3,
            )],
            forgotten: 4,
            committed: vec![committed("b", 1, 5), committed("a", 1, 6), committed("b", 2, 7)],
        };
        let mut out = BytesMut::new();
        catalog.encode(&mut out);
        for len in 0..out.len() {
            assert!(Catalog::parse(&out[..len]).is_err());
        }
        assert_eq!(Catalog::parse(&out).as_ref(), Ok(&catalog));
        // The version before ended with the producers.
        out[0] = WITHOUT_OUTCOMES as u8;
        let old = Catalog {
            forgotten: 0,
            committed: Vec::new(),
            ..catalog
        };
        assert_eq!(Catalog::parse(&out), Ok(old));
        for other in [0, VERSION as u8 + 1] {
            out[0] = other;
            assert!(Catalog::parse(&out).unwrap_err().contains("version"));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(first in 0u8..9, mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(begin) = bytes.first_mut() {
                *begin = first;
            }
            if let Some(header) = FrameHeader::parse(&bytes) {
                header.is_intact(&bytes);
            }
            record_len(&bytes);
            put_key_of(&bytes);
            Record::parse(&bytes);
            PutRecord::parse(&bytes);
            prop_assert!(Catalog::parse(&bytes).is_err() || bytes.len() >= 28);
        }
    }
}
