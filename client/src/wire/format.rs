//! Frames: commands to bytes and back, with the settings two peers agreed on.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::STORE_VERSION;
use super::cache::{ReceiveCache, SendCache};
use super::command::Command;
use super::error::{WireError, WireErrorKind};
use super::fields::Structure;
use super::loose::Loose;
use super::message::Message;
use super::read::{Input, ReadEncoding, Reader};
use super::tight::{BitReader, BitWriter};
use super::write::{Fields, Writer};

/// The settings of a connection, as [`negotiate`](super::negotiate) computes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireFormat {
    /// The version, 1 to 12.
    pub version: i32,
    /// Tight rather than loose encoding.
    pub tight: bool,
    /// The number of slots of the object cache; none switches the cache off.
    pub cache: Option<i32>,
    /// Throwables carry their stack traces and causes.
    pub stack_trace: bool,
    /// Frames carry no size. No peer uses this over TCP.
    pub size_prefix_disabled: bool,
    /// Larger frames are refused, in bytes.
    pub max_frame_size: u64,
    /// `TCP_NODELAY`.
    pub tcp_no_delay: bool,
    /// A peer silent for longer is taken for dead, in milliseconds; 0 is never.
    pub max_inactivity_duration: i64,
    /// How long after the handshake the first check for silence is made, in milliseconds.
    pub max_inactivity_duration_initial_delay: i64,
    /// What the peer says about the outcomes of transactions; none if it does not keep them, as ActiveMQ.
    pub transaction_outcomes: Option<TransactionOutcomes>,
}

/// A broker remembers what became of transactions: a commit that is sent again is answered with a response if it has
/// happened, and with an exception if not (`TransactionOutcomes` and `TransactionOutcomesKept` in a `WireFormatInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionOutcomes {
    /// Names the store they are kept in. Brokers that name the same store know the same outcomes.
    pub store: Arc<str>,
    /// For how long each of them is certainly still known, in milliseconds.
    pub kept: u64,
}

/// Before the handshake no frame but a `WireFormatInfo` is due, and these are small.
const HANDSHAKE_FRAME_SIZE: u64 = 64 * 1024;

impl WireFormat {
    /// The settings before the peers have agreed on any: loose, no cache, small frames only.
    pub fn handshake() -> Self {
        Self {
            version: 1,
            tight: false,
            cache: None,
            stack_trace: false,
            size_prefix_disabled: false,
            max_frame_size: HANDSHAKE_FRAME_SIZE,
            tcp_no_delay: true,
            max_inactivity_duration: 0,
            max_inactivity_duration_initial_delay: 0,
            transaction_outcomes: None,
        }
    }
}

/// Turns commands into frames. Holds the sending half of the object cache, so the frames of one encoder
/// belong to one connection and go out in the order they were made.
#[derive(Debug)]
pub struct Encoder {
    format: WireFormat,
    cache: Option<SendCache>,
    bits: BitWriter,
    fields: Fields,
}

impl Encoder {
    /// An encoder with an empty cache.
    pub fn new(format: WireFormat) -> Self {
        let cache = format.cache.map(SendCache::new);
        Self {
            format,
            cache,
            bits: BitWriter::default(),
            fields: Fields::default(),
        }
    }

    /// Its settings.
    pub fn format(&self) -> &WireFormat {
        &self.format
    }

    /// Appends the frame of a command to `out`.
    ///
    /// Fields that the agreed version does not have are left out. Whether it has the command at all is the
    /// caller's concern: [`ProducerAck`](super::ProducerAck) since version 3, for one.
    ///
    /// # Errors
    ///
    /// [`WireErrorKind::TooLong`] for a value that has no encoding, [`WireErrorKind::TooDeep`] and
    /// [`WireErrorKind::Invalid`] for what a [`Decoder`] would refuse, and
    /// [`WireErrorKind::FrameTooLarge`] for a frame over the limit. `out` and the cache are as before then,
    /// and the connection can go on.
    pub fn encode(&mut self, command: &Command, out: &mut BytesMut) -> Result<(), WireError> {
        self.encode_structure(command, out)
    }

    /// Appends the frame of the null object, which a peer skips.
    pub fn encode_null(&mut self, out: &mut BytesMut) {
        if !self.format.size_prefix_disabled {
            out.put_u32(1);
        }
        out.put_u8(0);
    }

    fn encode_structure<T: Structure>(&mut self, value: &T, out: &mut BytesMut) -> Result<(), WireError> {
        let used = self.cache.as_mut().map(|cache| {
            cache.evict();
            cache.used()
        });
        let result = self.try_encode(value, out);
        if let (Err(_), Some(cache), Some(used)) = (&result, &mut self.cache, used) {
            cache.rewind(used);
        }
        self.fields.clear();
        result
    }

    fn try_encode<T: Structure>(&mut self, value: &T, out: &mut BytesMut) -> Result<(), WireError> {
        let (format, cache, fields) = (&self.format, self.cache.as_mut(), &mut self.fields);
        let bits: &[u8] = if format.tight {
            self.bits.clear();
            value.write(&mut Writer::new(format, cache, &mut self.bits, fields))?;
            self.bits.finish()?
        } else {
            value.write(&mut Writer::new(format, cache, Loose, fields))?;
            &[]
        };
        let size = 1 + bits.len() + fields.len();
        if size as u64 > format.max_frame_size || size > i32::MAX as usize {
            return Err(frame_too_large(size as u64, format.max_frame_size));
        }
        out.reserve(4 + size);
        if !format.size_prefix_disabled {
            out.put_u32(size as u32);
        }
        out.put_u8(value.type_id());
        out.put_slice(bits);
        fields.append_to(out);
        Ok(())
    }
}

fn frame_too_large(size: u64, limit: u64) -> WireError {
    WireError::new(
        WireErrorKind::FrameTooLarge,
        format!("{size} bytes where {limit} is the limit"),
    )
}

/// Turns bytes into commands. Holds the receiving half of the object cache.
///
/// After an error the connection is spent: neither the position nor the cache can be trusted.
///
/// The byte strings of a command, such as the body of a message, are slices of the buffer it was decoded
/// from and keep all of that buffer in memory. That spares a copy, and does no harm where messages come and
/// go; whoever keeps a small message for long among large ones copies its body.
#[derive(Debug)]
pub struct Decoder {
    format: WireFormat,
    cache: Option<ReceiveCache>,
}

impl Decoder {
    /// A decoder with an empty cache.
    pub fn new(format: WireFormat) -> Self {
        let cache = format.cache.map(ReceiveCache::new);
        Self { format, cache }
    }

    /// Its settings.
    pub fn format(&self) -> &WireFormat {
        &self.format
    }

    /// Takes the next command from the front of `input`; none if a frame is not complete yet. Null objects
    /// are skipped.
    ///
    /// # Errors
    ///
    /// Any [`WireError`]: the bytes are not OpenWire with these settings.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Command>, WireError> {
        loop {
            let Some(frame) = self.next_frame(input)? else {
                return Ok(None);
            };
            if let Some(command) = self.decode_frame(frame)? {
                return Ok(Some(command));
            }
        }
    }

    /// Cuts the next whole frame, without its size, off `input`.
    fn next_frame(&self, input: &mut BytesMut) -> Result<Option<Bytes>, WireError> {
        if self.format.size_prefix_disabled {
            // Only a datagram says where such a frame ends.
            return Ok(if input.is_empty() {
                None
            } else {
                Some(input.split().freeze())
            });
        }
        let Some(prefix) = input.first_chunk::<4>() else {
            return Ok(None);
        };
        let size = i32::from_be_bytes(*prefix);
        if size < 1 {
            return Err(WireError::invalid(format!("a frame size of {size}")));
        }
        if size as u64 > self.format.max_frame_size {
            return Err(frame_too_large(size as u64, self.format.max_frame_size));
        }
        let size = size as usize;
        if input.len() < 4 + size {
            return Ok(None);
        }
        input.advance(4);
        Ok(Some(input.split_to(size).freeze()))
    }

    /// Decodes one whole frame without its size: type, then payload. None is the null object.
    ///
    /// # Errors
    ///
    /// Any [`WireError`]; bytes left over are one.
    pub fn decode_frame(&mut self, frame: Bytes) -> Result<Option<Command>, WireError> {
        let mut input = Input::new(frame);
        let id = input.u8()?;
        if id == 0 {
            Reader::new(&self.format, None, Loose, input).finish()?;
            return Ok(None);
        }
        if self.format.tight {
            let bits = BitReader::new(&mut input)?;
            self.read_structure(id, bits, input).map(Some)
        } else {
            self.read_structure(id, Loose, input).map(Some)
        }
    }

    fn read_structure<E: ReadEncoding>(
        &mut self,
        id: u8,
        encoding: E,
        input: Input,
    ) -> Result<Command, WireError> {
        let mut reader = Reader::new(&self.format, self.cache.as_mut(), encoding, input);
        let command = Command::read(id, &mut reader)?;
        reader.finish()?;
        Ok(command)
    }
}

/// The settings of the stand-alone form: loose, no cache, as ActiveMQ's stores write it.
fn store_format() -> WireFormat {
    WireFormat {
        version: STORE_VERSION,
        stack_trace: true,
        size_prefix_disabled: true,
        max_frame_size: i32::MAX as u64,
        ..WireFormat::handshake()
    }
}

/// Appends the stand-alone form of a message: type id and fields, loose, in [`STORE_VERSION`].
///
/// # Errors
///
/// [`WireErrorKind::TooLong`] for a value that has no encoding.
pub fn marshal(message: &Message, out: &mut BytesMut) -> Result<(), WireError> {
    Encoder::new(store_format()).encode_structure(message, out)
}

/// Reads the stand-alone form of a message.
///
/// # Errors
///
/// Any [`WireError`]: the bytes are not what [`marshal`] writes.
pub fn unmarshal(bytes: Bytes) -> Result<Arc<Message>, WireError> {
    match Decoder::new(store_format()).decode_frame(bytes)? {
        Some(Command::Message(message)) => Ok(message),
        Some(other) => Err(WireError::unexpected_type(other.type_id(), "a message")),
        None => Err(WireError::unexpected_type(0, "a message")),
    }
}
