//! Frames and records to bytes and back. The layout is described in the [journal's documentation](super).

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openwire_client::wire::{Message, ProducerId, WireError, marshal, unmarshal};

use super::super::state::{initial_redelivered, producer_of};
use super::super::{DestinationKey, MessageKey, Op, StoreError, accounting_size};

/// Frames start at multiples of it.
pub(super) const ALIGN: usize = 8;

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 40;

/// The largest payload of a frame: offsets in a segment have 32 bits, and a catalog and a seal must fit in
/// beside it.
pub(super) const MAX_PAYLOAD: usize = 1 << 30;

/// Every frame begins with it.
pub(super) const MAGIC: [u8; 4] = *b"OWJ1";

/// The version of the layout, in each catalog.
const VERSION: u32 = 1;

/// What the CRC covers begins here.
const CHECKED: usize = 8;

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Position {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// The state at the begin of a segment.
    Catalog = 1,
    /// The records of a batch.
    Batch = 2,
    /// Messages copied forward.
    Copies = 3,
    /// The number of the oldest segment that is still needed.
    Reclaim = 4,
    /// Nothing: the log goes on in the next segment.
    Seal = 5,
    /// Nothing: the journal was closed in order.
    Close = 6,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Catalog,
            Self::Batch,
            Self::Copies,
            Self::Reclaim,
            Self::Seal,
            Self::Close,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    crc: u32,
    /// Bytes of payload.
    pub(super) length: usize,
    kind: u8,
    /// The random number of the journal.
    pub(super) journal: u64,
    /// Where the frame stands.
    pub(super) at: Position,
    /// Everything before this was durable when the frame was written.
    pub(super) synced: Position,
}

/// What a frame takes in a segment, for so much payload.
pub(super) const fn frame_len(payload: usize) -> usize {
    (HEADER + payload).next_multiple_of(ALIGN)
}

/// Begins a frame at the end of `out`: its payload is to be appended.
pub(super) fn begin_frame(out: &mut BytesMut) -> usize {
    let start = out.len();
    out.put_bytes(0, HEADER);
    start
}

/// Completes the frame that begins at `start` and ends at the end of `out`.
pub(super) fn end_frame(
    out: &mut BytesMut,
    start: usize,
    kind: FrameKind,
    journal: u64,
    at: Position,
    synced: Position,
) {
    let length = out.len() - start - HEADER;
    let mut header = &mut out[start..start + HEADER];
    header.put_slice(&MAGIC);
    header.put_u32_le(0);
    header.put_u32_le(length as u32);
    header.put_u32_le(kind as u32);
    header.put_u64_le(journal);
    header.put_u32_le(at.segment);
    header.put_u32_le(at.offset);
    header.put_u32_le(synced.segment);
    header.put_u32_le(synced.offset);
    let crc = crc32fast::hash(&out[start + CHECKED..]);
    out[start + 4..start + CHECKED].copy_from_slice(&crc.to_le_bytes());
    out.put_bytes(0, frame_len(length) - HEADER - length);
}

impl FrameHeader {
    /// Reads a header; none if these bytes are no header.
    pub(super) fn parse(mut bytes: &[u8]) -> Option<Self> {
        bytes = bytes.strip_prefix(&MAGIC)?;
        Some(Self {
            crc: bytes.try_get_u32_le().ok()?,
            length: bytes.try_get_u32_le().ok()? as usize,
            kind: bytes
                .try_get_u32_le()
                .ok()
                .and_then(|kind| kind.try_into().ok())?,
            journal: bytes.try_get_u64_le().ok()?,
            at: Position {
                segment: bytes.try_get_u32_le().ok()?,
                offset: bytes.try_get_u32_le().ok()?,
            },
            synced: Position {
                segment: bytes.try_get_u32_le().ok()?,
                offset: bytes.try_get_u32_le().ok()?,
            },
        })
    }

    /// What the frame holds; none if a newer version wrote it.
    pub(super) fn kind(&self) -> Option<FrameKind> {
        FrameKind::from_byte(self.kind)
    }

    /// Checks header and payload, which follow each other in `frame`.
    pub(super) fn is_intact(&self, frame: &[u8]) -> bool {
        frame
            .get(CHECKED..HEADER + self.length)
            .is_some_and(|checked| crc32fast::hash(checked) == self.crc)
    }
}

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const REDELIVERED: u8 = 3;
const DISPATCHED: u8 = 4;
const CREATE_DESTINATION: u8 = 5;
const REMOVE_DESTINATION: u8 = 6;

/// Bytes of a put before producer and body.
const PUT_HEADER: usize = 33;
/// What the CRC of a put covers begins here.
const PUT_CHECKED: usize = 5;
/// Where the counter of a put stands.
const PUT_REDELIVERED: usize = 25;
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
    }

    /// Reads the payload of a catalog frame; the error says what is wrong.
    pub(super) fn parse(mut from: &[u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "the catalog ends too early";
        match from.try_get_u32_le() {
            Ok(VERSION) => {}
            Ok(_) => return Err("the journal was written by another version"),
            Err(_) => return Err(SHORT),
        }
        Self::parse_fields(&mut from).ok_or(SHORT)
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
}

/// Appends the payload of a reclaim frame.
pub(super) fn encode_reclaim(oldest: u32, out: &mut BytesMut) {
    out.put_u32_le(oldest);
}

/// Reads the payload of a reclaim frame.
pub(super) fn parse_reclaim(mut from: &[u8]) -> Option<u32> {
    from.try_get_u32_le().ok()
}
