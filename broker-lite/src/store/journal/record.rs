//! Records to bytes and back. The layout is described in the [journal's documentation](super).

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openwire_client::wire::{Message, ProducerId, WireError, marshal, unmarshal};

use super::super::state::{initial_redelivered, producer_of};
use super::super::{
    Committed, DEFAULT_PRIORITY, DestinationKey, Header, MessageKey, Op, Prepared, StoreError,
    StoredDestination,
};
use super::describe::{get_destination, get_prepared, put_destination, put_prepared};

/// A put without priority and expiration. Not written since version 4, but copied as it is.
const PUT_WITHOUT_HEADER: u8 = 1;
const REMOVE: u8 = 2;
const REDELIVERED: u8 = 3;
const DISPATCHED: u8 = 4;
/// A queue: the other destinations have a record of their own since version 3.
const CREATE_QUEUE: u8 = 5;
const REMOVE_DESTINATION: u8 = 6;
const COMMITTED: u8 = 7;
const SHARE: u8 = 8;
const MOVE: u8 = 9;
const CREATE_DESTINATION: u8 = 10;
const PREPARE: u8 = 11;
const DUE: u8 = 12;
const PUT: u8 = 13;

/// Bytes of a put before producer and body.
const PUT_HEADER: usize = 42;
/// The same without priority and expiration, which are its end.
const SHORT_PUT_HEADER: usize = 33;
/// Where the length of the producer of a put stands.
const PUT_PRODUCER_LEN: usize = 29;
/// What the CRC of a put covers begins here.
const PUT_CHECKED: usize = 5;
/// Where the key of a put stands.
const PUT_KEY: std::ops::Range<usize> = 9..21;
/// Bytes of an outcome before the connection's id.
const COMMITTED_HEADER: usize = 29;
/// Bytes of a producer before the connection's id.
pub(super) const PRODUCER_HEADER: usize = 24;
/// Bytes of a move before the producer.
const MOVE_HEADER: usize = 29;
/// Bytes before what a created or prepared destination is.
const DESTINATION_HEADER: usize = 9;

/// Bytes of a share.
pub(super) const SHARE_LEN: usize = 25;
/// Bytes of a redelivery counter.
pub(super) const REDELIVERED_LEN: usize = 17;
/// Bytes of a time at which a message is due.
pub(super) const DUE_LEN: usize = 25;

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
        destination: StoredDestination,
    },
    RemoveDestination {
        key: DestinationKey,
    },
    Committed {
        outcome: Committed,
        forgotten: i64,
    },
    Share {
        key: MessageKey,
        of: MessageKey,
    },
    Move {
        from: MessageKey,
        to: MessageKey,
        /// Who sent it, and its number there, if it counts from here on.
        producer: Option<(ProducerRecord<'a>, i64)>,
    },
    Prepare {
        destination: DestinationKey,
        prepared: Prepared,
    },
    Due {
        key: MessageKey,
        at: i64,
        times: u32,
    },
}

/// A message as it stands in a batch.
#[derive(Debug)]
pub(super) struct PutRecord<'a> {
    pub(super) key: MessageKey,
    pub(super) header: Header,
    /// The counter it was put with.
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
    /// True if this is its id.
    pub(super) fn is(&self, id: &ProducerId) -> bool {
        self.value == id.value
            && self.session_id == id.session_id
            && id.connection_id.as_deref() == Some(self.connection_id)
    }

    pub(super) fn id(&self) -> ProducerId {
        ProducerId {
            connection_id: Some(self.connection_id.into()),
            value: self.value,
            session_id: self.session_id,
        }
    }
}

/// Appends the record of a change. `sender` is who sent a message that is moved off a transaction.
pub(super) fn encode_op(
    op: &Op,
    sender: Option<(&ProducerId, i64)>,
    out: &mut BytesMut,
) -> Result<(), StoreError> {
    match op {
        Op::Put { key, message } => return encode_put(*key, message, out),
        Op::Remove { key } => {
            out.put_u8(REMOVE);
            put_key(*key, out);
        }
        Op::Redelivered { key, count } => encode_redelivered(*key, *count, out),
        Op::Dispatched {
            destination,
            sequence,
        } => {
            out.put_u8(DISPATCHED);
            out.put_u32_le(destination.0);
            out.put_u64_le(*sequence);
        }
        Op::CreateDestination {
            key,
            destination: StoredDestination::Queue(name),
        } => {
            out.put_u8(CREATE_QUEUE);
            out.put_u32_le(key.0);
            put_text(name, out);
        }
        Op::CreateDestination { key, destination } => {
            encode_described(CREATE_DESTINATION, *key, out, |out| {
                put_destination(destination, out)
            });
        }
        Op::RemoveDestination { key } => encode_removal(*key, out),
        Op::Committed { outcome, forgotten } => {
            out.put_u8(COMMITTED);
            out.put_u32_le(outcome.connection.len() as u32);
            out.put_i64_le(outcome.transaction);
            out.put_i64_le(outcome.at);
            out.put_i64_le(*forgotten);
            out.put_slice(outcome.connection.as_bytes());
        }
        Op::Share { key, of } => encode_share(*key, *of, out),
        Op::Move { from, to } => {
            out.put_u8(MOVE);
            put_key(*from, out);
            put_key(*to, out);
            let len = sender.map_or(0, |(producer, _)| PRODUCER_HEADER + connection_id(producer).len());
            out.put_u32_le(len as u32);
            if let Some((producer, sequence)) = sender {
                put_producer(producer, sequence, out);
            }
        }
        Op::Prepare {
            destination,
            prepared,
        } => encode_described(PREPARE, *destination, out, |out| put_prepared(prepared, out)),
        Op::Due { key, at, times } => encode_due(*key, *at, *times, out),
    }
    Ok(())
}

/// Appends that the message at `of` lies at `key` as well.
pub(super) fn encode_share(key: MessageKey, of: MessageKey, out: &mut BytesMut) {
    out.put_u8(SHARE);
    put_key(key, out);
    put_key(of, out);
}

/// Appends the redelivery counter of a message.
pub(super) fn encode_redelivered(key: MessageKey, count: u32, out: &mut BytesMut) {
    out.put_u8(REDELIVERED);
    put_key(key, out);
    out.put_u32_le(count);
}

/// Appends when a message is due, and how often it fired.
pub(super) fn encode_due(key: MessageKey, at: i64, times: u32, out: &mut BytesMut) {
    out.put_u8(DUE);
    put_key(key, out);
    out.put_i64_le(at);
    out.put_u32_le(times);
}

/// Appends that a destination is gone.
pub(super) fn encode_removal(key: DestinationKey, out: &mut BytesMut) {
    out.put_u8(REMOVE_DESTINATION);
    out.put_u32_le(key.0);
}

/// Appends a record that ends with a description.
fn encode_described(kind: u8, key: DestinationKey, out: &mut BytesMut, describe: impl FnOnce(&mut BytesMut)) {
    out.put_u8(kind);
    out.put_u32_le(key.0);
    let length = out.len();
    out.put_u32_le(0);
    describe(out);
    let described = (out.len() - length - 4) as u32;
    out[length..length + 4].copy_from_slice(&described.to_le_bytes());
}

pub(super) fn put_key(key: MessageKey, out: &mut BytesMut) {
    out.put_u32_le(key.destination.0);
    out.put_u64_le(key.sequence);
}

pub(super) fn put_text(text: &str, out: &mut BytesMut) {
    out.put_u32_le(text.len() as u32);
    out.put_slice(text.as_bytes());
}

pub(super) fn put_producer(producer: &ProducerId, sequence: i64, out: &mut BytesMut) {
    out.put_i64_le(producer.value);
    out.put_i64_le(producer.session_id);
    out.put_i64_le(sequence);
    out.put_slice(connection_id(producer).as_bytes());
}

pub(super) fn connection_id(producer: &ProducerId) -> &str {
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
    let known = Header::of(message);
    header.put_u8(PUT);
    header.put_u32_le(0);
    header.put_u32_le(body_len as u32);
    header.put_u32_le(key.destination.0);
    header.put_u64_le(key.sequence);
    header.put_u32_le(known.size);
    header.put_u32_le(initial_redelivered(message));
    header.put_u32_le((body - start - PUT_HEADER) as u32);
    header.put_i64_le(known.expiration);
    header.put_u8(known.priority);
    seal_put(&mut out[start..]);
    Ok(())
}

fn seal_put(record: &mut [u8]) {
    let crc = crc32fast::hash(&record[PUT_CHECKED..]);
    record[1..PUT_CHECKED].copy_from_slice(&crc.to_le_bytes());
}

/// Appends a put once more, for a key at which the message lies by now. `record` is what [`PutRecord::parse`]
/// accepted.
pub(super) fn encode_copy(record: &[u8], key: MessageKey, out: &mut BytesMut) {
    let start = out.len();
    out.put_slice(record);
    if put_key_of(record) != Some(key) {
        put_key_at(key, &mut out[start..][PUT_KEY]);
        seal_put(&mut out[start..]);
    }
}

fn put_key_at(key: MessageKey, mut at: &mut [u8]) {
    at.put_u32_le(key.destination.0);
    at.put_u64_le(key.sequence);
}

/// The length of the record that begins with `prefix`, which is at least [`RECORD_PREFIX`] bytes of it or
/// the rest of its frame; none if no record begins so.
pub(super) fn record_len(prefix: &[u8]) -> Option<usize> {
    let field = |at: usize| -> Option<usize> {
        let bytes = prefix.get(at..at + 4)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes) as usize)
    };
    Some(match *prefix.first()? {
        PUT => PUT_HEADER + field(5)? + field(PUT_PRODUCER_LEN)?,
        PUT_WITHOUT_HEADER => SHORT_PUT_HEADER + field(5)? + field(PUT_PRODUCER_LEN)?,
        REMOVE => 13,
        REDELIVERED => REDELIVERED_LEN,
        DISPATCHED => 13,
        CREATE_QUEUE | CREATE_DESTINATION | PREPARE => DESTINATION_HEADER + field(5)?,
        REMOVE_DESTINATION => 5,
        COMMITTED => COMMITTED_HEADER + field(1)?,
        SHARE => SHARE_LEN,
        MOVE => MOVE_HEADER + field(MOVE_HEADER - 4)?,
        DUE => DUE_LEN,
        _ => return None,
    })
}

/// True if this is the beginning of a put.
pub(super) fn is_put(prefix: &[u8]) -> bool {
    matches!(prefix.first(), Some(&PUT | &PUT_WITHOUT_HEADER))
}

/// The key of the put that begins with `prefix`.
pub(super) fn put_key_of(prefix: &[u8]) -> Option<MessageKey> {
    get_key(&mut prefix.get(PUT_KEY)?)
}

pub(super) fn get_key(from: &mut &[u8]) -> Option<MessageKey> {
    Some(MessageKey {
        destination: DestinationKey(from.try_get_u32_le().ok()?),
        sequence: from.try_get_u64_le().ok()?,
    })
}

pub(super) fn get_text<'a>(from: &mut &'a [u8]) -> Option<&'a str> {
    let len = from.try_get_u32_le().ok()? as usize;
    let (text, rest) = from.split_at_checked(len)?;
    *from = rest;
    std::str::from_utf8(text).ok()
}

pub(super) fn get_producer(mut from: &[u8]) -> Option<(ProducerRecord<'_>, i64)> {
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
            PUT | PUT_WITHOUT_HEADER => Self::Put(PutRecord::parse_unchecked(record)?),
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
            CREATE_QUEUE => Self::CreateDestination {
                key: DestinationKey(rest.try_get_u32_le().ok()?),
                destination: StoredDestination::Queue(get_text(&mut rest)?.into()),
            },
            CREATE_DESTINATION | PREPARE => {
                let destination = DestinationKey(rest.try_get_u32_le().ok()?);
                let mut described = record.get(DESTINATION_HEADER..)?;
                let parsed = match record[0] {
                    PREPARE => Self::Prepare {
                        destination,
                        prepared: get_prepared(&mut described)?,
                    },
                    _ => Self::CreateDestination {
                        key: destination,
                        destination: get_destination(&mut described)?,
                    },
                };
                described.is_empty().then_some(parsed)?
            }
            SHARE => Self::Share {
                key: get_key(&mut rest)?,
                of: get_key(&mut rest)?,
            },
            MOVE => {
                let (mut header, producer) = record.split_at_checked(MOVE_HEADER)?;
                header = header.get(1..)?;
                Self::Move {
                    from: get_key(&mut header)?,
                    to: get_key(&mut header)?,
                    producer: match producer {
                        [] => None,
                        producer => Some(get_producer(producer)?),
                    },
                }
            }
            DUE => Self::Due {
                key: get_key(&mut rest)?,
                at: rest.try_get_i64_le().ok()?,
                times: rest.try_get_u32_le().ok()?,
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
        let (expiration, priority) = match record.first()? {
            &PUT => (rest.try_get_i64_le().ok()?, rest.try_get_u8().ok()?),
            _ => (0, DEFAULT_PRIORITY),
        };
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
            header: Header {
                size,
                priority,
                expiration,
            },
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

#[cfg(test)]
mod tests;
