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

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    fn format(tight: bool, cache: Option<i32>) -> WireFormat {
        WireFormat {
            version: MAX_VERSION,
            tight,
            cache,
            max_frame_size: 1024,
            ..WireFormat::handshake()
        }
    }

    fn encode(format: &WireFormat, command: impl Into<Command>) -> Result<BytesMut, WireError> {
        let mut out = BytesMut::new();
        Encoder::new(format.clone())
            .encode(&command.into(), &mut out)
            .map(|()| out)
    }

    fn decode(format: &WireFormat, bytes: &[u8]) -> Result<Option<Command>, WireError> {
        Decoder::new(format.clone()).decode(&mut BytesMut::from(bytes))
    }

    #[test]
    fn a_frame_is_its_size_its_type_and_its_fields() {
        let command = KeepAliveInfo {
            command_id: 5811,
            response_required: true,
        };
        // Tight: one byte of bits, the bit of the flag, then the id.
        let tight = b"\0\0\0\x07\x0a\x01\x01\0\0\x16\xb3";
        // Loose: the id, then the flag.
        let loose = b"\0\0\0\x06\x0a\0\0\x16\xb3\x01";
        for (format, frame) in [(format(true, None), &tight[..]), (format(false, None), loose)] {
            assert_eq!(encode(&format, command.clone()).unwrap(), frame);
            assert_eq!(decode(&format, frame).unwrap(), Some(command.clone().into()));
        }
    }

    #[test]
    fn tight_fields_are_bits_and_bytes() {
        let id = SessionId {
            connection_id: Some("miropexbo".into()),
            value: i64::MIN,
        };
        // Bits, lowest first: there is a string, it is ASCII, and the number takes eight bytes (1, 1).
        let frame = b"\0\0\0\x16\x79\x01\x0f\0\x09miropexbo\x80\0\0\0\0\0\0\0";
        assert_eq!(encode(&format(true, None), id.clone()).unwrap(), &frame[..]);
        assert_eq!(decode(&format(true, None), frame).unwrap(), Some(id.into()));
    }

    #[test]
    fn any_flag_but_zero_is_true_as_java_reads_it() {
        let frame = b"\0\0\0\x06\x0a\0\0\0\x01\x7f";
        let command = decode(&format(false, None), frame).unwrap().unwrap();
        assert!(command.response_required());
    }

    #[test]
    fn a_cached_value_goes_over_the_wire_once() {
        for tight in [false, true] {
            let format = format(tight, Some(1024));
            let command = Command::from(SessionInfo {
                session_id: Some(SessionId {
                    connection_id: Some("ID:somewhere-1".into()),
                    value: 1,
                }),
                ..SessionInfo::default()
            });
            let (mut encoder, mut decoder) = (Encoder::new(format.clone()), Decoder::new(format));
            let mut sizes = Vec::new();
            for _ in 0..3 {
                let mut out = BytesMut::new();
                encoder.encode(&command, &mut out).unwrap();
                sizes.push(out.len());
                assert_eq!(decoder.decode(&mut out).unwrap().as_ref(), Some(&command));
            }
            assert!(sizes[1] < sizes[0] / 2 && sizes[1] == sizes[2], "{sizes:?}");
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_size_alone() {
        let kind = |bytes: &[u8]| decode(&format(true, None), bytes).map_err(|error| error.kind());
        assert_eq!(kind(b"\0\0\x04\x01"), Err(WireErrorKind::FrameTooLarge));
        assert_eq!(kind(b"\x7f\xff\xff\xff"), Err(WireErrorKind::FrameTooLarge));
        assert_eq!(kind(b"\0\0\x04\0"), Ok(None), "1024 bytes may come");
        assert_eq!(kind(b"\0\0\0\0"), Err(WireErrorKind::Invalid));
        assert_eq!(kind(b"\xff\xff\xff\xff"), Err(WireErrorKind::Invalid));
    }

    #[test]
    fn a_frame_that_cannot_be_sent_leaves_the_connection_as_it_was() {
        for tight in [false, true] {
            let format = format(tight, Some(100));
            let named = |name: &str, selector: String| {
                Command::from(Box::new(ConsumerInfo {
                    destination: Some(Destination::queue(name)),
                    selector: Some(selector.into()),
                    ..ConsumerInfo::default()
                }))
            };
            let good = named("good", "a = 1".into());
            let (mut encoder, mut decoder) = (Encoder::new(format.clone()), Decoder::new(format.clone()));
            let mut out = BytesMut::new();
            encoder.encode(&good, &mut out).unwrap();
            let before = out.clone();
            for (bad, kind) in [
                (named("long", "x".repeat(65536)), WireErrorKind::TooLong),
                (named("large", "x".repeat(1024)), WireErrorKind::FrameTooLarge),
            ] {
                assert_eq!(encoder.encode(&bad, &mut out).unwrap_err().kind(), kind);
                assert_eq!(out, before);
            }
            // The peer, which saw nothing of those, understands what comes after.
            encoder.encode(&named("long", String::new()), &mut out).unwrap();
            encoder.encode(&named("large", String::new()), &mut out).unwrap();
            encoder.encode(&good, &mut out).unwrap();
            for expected in [
                good.clone(),
                named("long", String::new()),
                named("large", String::new()),
                good,
            ] {
                assert_eq!(decoder.decode(&mut out).unwrap(), Some(expected));
            }
        }
    }

    #[test]
    fn bytes_left_over_are_an_error_and_null_objects_are_skipped() {
        let kind = |bytes: &[u8]| decode(&format(false, None), bytes).map_err(|error| error.kind());
        assert_eq!(kind(b"\0\0\0\x07\x0a\0\0\0\0\0\0"), Err(WireErrorKind::Trailing));
        assert_eq!(kind(b"\0\0\0\x02\0\0"), Err(WireErrorKind::Trailing));
        let mut out = BytesMut::new();
        let mut encoder = Encoder::new(format(false, None));
        encoder.encode_null(&mut out);
        encoder.encode_null(&mut out);
        assert_eq!(kind(&out), Ok(None));
        encoder.encode(&ShutdownInfo::default().into(), &mut out).unwrap();
        assert_eq!(kind(&out), Ok(Some(ShutdownInfo::default().into())));
    }

    #[test]
    fn the_length_of_the_bits_takes_one_to_three_bytes() {
        let nulls = |count: usize| DataArrayResponse {
            data: Some(vec![None; count]),
            ..DataArrayResponse::default()
        };
        let mut format = format(true, None);
        format.max_frame_size = 1 << 20;
        // Two bits stand before those of the elements.
        for (count, head) in [
            (63 * 8 - 2, &[63][..]),
            (63 * 8 - 1, &[0xC0, 64]),
            (255 * 8 - 2, &[0xC0, 255]),
            (255 * 8 - 1, &[0x80, 1, 0]),
            (4096, &[0x80, 0x02, 0x01]),
        ] {
            let frame = encode(&format, nulls(count)).unwrap();
            assert_eq!(&frame[5..5 + head.len()], head, "{count} elements");
            assert_eq!(decode(&format, &frame).unwrap(), Some(nulls(count).into()));
        }
        // What Java could not write: an unused code, and more bits than a signed length counts.
        for head in [&[0x40][..], &[0x81], &[0xFF], &[0x80, 0x80, 0x00]] {
            let mut frame = vec![10];
            frame.extend_from_slice(head);
            frame.resize(40_000, 0);
            let error = Decoder::new(format.clone())
                .decode_frame(frame.into())
                .unwrap_err();
            assert_eq!(error.kind(), WireErrorKind::Invalid, "{head:02x?}");
        }
    }

    #[test]
    fn more_bits_or_elements_than_a_length_counts_do_not_fit() {
        let format = WireFormat {
            max_frame_size: 1 << 20,
            ..format(true, None)
        };
        let info = |consumers: usize, path: usize| BrokerSubscriptionInfo {
            subscription_infos: Some(vec![
                Some(Box::new(ConsumerInfo {
                    network_consumer_path: Some(vec![Some(ConsumerId::default()); path]),
                    ..ConsumerInfo::default()
                }));
                consumers
            ]),
            ..BrokerSubscriptionInfo::default()
        };
        assert!(encode(&format, info(1, 32767)).is_ok());
        let kind = |info| encode(&format, info).unwrap_err().kind();
        assert_eq!(kind(info(1, 32768)), WireErrorKind::TooLong);
        // Each element has six bits, and at most 32767 bytes of them can be.
        assert_eq!(kind(info(2, 32767)), WireErrorKind::TooLong);
    }

    #[test]
    fn nulls_in_arrays_are_cheap_to_send_and_therefore_counted() {
        for tight in [false, true] {
            let format = WireFormat {
                max_frame_size: 1 << 20,
                ..format(tight, None)
            };
            let nulls = |count| DataArrayResponse {
                data: Some(vec![None; count]),
                ..DataArrayResponse::default()
            };
            let frame = encode(&format, nulls(4096)).unwrap();
            assert_eq!(decode(&format, &frame).unwrap(), Some(nulls(4096).into()));
            assert_eq!(
                encode(&format, nulls(4097)).unwrap_err().kind(),
                WireErrorKind::Invalid
            );

            // The same frame with all the nulls a count can declare.
            let mut frame = vec![33];
            if tight {
                frame.extend_from_slice(&[0x80, 0x10, 0x01, 0x02]);
                frame.resize(4 + 4097, 0);
                frame.extend_from_slice(&[0; 8]);
            } else {
                frame.extend_from_slice(&[0; 9]);
                frame.push(1);
            }
            frame.extend_from_slice(&32767_i16.to_be_bytes());
            if !tight {
                frame.resize(frame.len() + 32767, 0);
            }
            let error = Decoder::new(format).decode_frame(frame.into()).unwrap_err();
            assert_eq!(error.kind(), WireErrorKind::Invalid);
        }
    }

    #[test]
    fn the_parts_of_a_distributed_transaction_id_are_short_and_do_not_hold_on_to_the_frame() {
        let id = |length| {
            TransactionId::Xa(XaTransactionId {
                format_id: 1,
                global_transaction_id: Some(vec![7; length].into()),
                branch_qualifier: None,
            })
        };
        for tight in [false, true] {
            let format = format(tight, None);
            let frame = encode(&format, id(64)).unwrap().freeze().slice(4..);
            let Ok(Some(Command::TransactionId(TransactionId::Xa(read)))) =
                Decoder::new(format.clone()).decode_frame(frame.clone())
            else {
                panic!("not the id that was sent");
            };
            assert!(frame.is_unique(), "a part of the frame is still held");
            assert_eq!(TransactionId::Xa(read), id(64));
            assert_eq!(
                encode(&format, id(65)).unwrap_err().kind(),
                WireErrorKind::TooLong
            );
        }
    }

    #[test]
    fn no_log_shows_a_password() {
        let command = Command::from(Box::new(ConnectionInfo {
            user_name: Some("somebody".into()),
            password: Some("hunter2".into()),
            ..ConnectionInfo::default()
        }));
        let shown = format!("{command:?}");
        assert!(
            shown.contains("somebody") && !shown.contains("hunter2"),
            "{shown}"
        );
        let frame = encode(&format(true, None), command.clone()).unwrap();
        assert_eq!(decode(&format(true, None), &frame).unwrap(), Some(command));
    }

    #[test]
    fn long_bodies_come_out_where_they_belong() {
        for tight in [false, true] {
            let mut format = format(tight, None);
            format.max_frame_size = 1 << 20;
            for (content, properties) in [(5000, 10), (10, 5000), (5000, 5000), (1024, 1023), (0, 0)] {
                let message = Message {
                    content: Some(vec![1; content].into()),
                    marshalled_properties: Some(vec![2; properties].into()),
                    user_id: Some("somebody".into()),
                    ..Message::default()
                };
                let frame = encode(&format, Arc::new(message.clone())).unwrap();
                assert_eq!(decode(&format, &frame).unwrap(), Some(Arc::new(message).into()));
            }
        }
    }

    #[test]
    fn the_stand_alone_form_is_loose_and_has_no_size() {
        let message = Message {
            kind: MessageKind::Text,
            content: Some(b"\0\0\0\x02hi"[..].into()),
            ..Message::default()
        };
        let mut out = BytesMut::from(&b"before"[..]);
        marshal(&message, &mut out).unwrap();
        assert_eq!(out[..11], *b"before\x1c\0\0\0\0");
        let bytes = out.freeze().slice(6..);
        assert_eq!(*unmarshal(bytes.clone()).unwrap(), message);
        for other in [&b"\0"[..], b"\x0a\0\0\0\0\0"] {
            assert_eq!(
                unmarshal(other.into()).unwrap_err().kind(),
                WireErrorKind::UnexpectedType
            );
        }
        assert!(unmarshal(bytes.slice(..bytes.len() - 1)).is_err());
    }
}
