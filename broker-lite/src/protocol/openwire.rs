//! OpenWire as a broker speaks it: the handshake, the reading of frames, keep-alive.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use openwire_client::wire::{
    Command, Decoder, Encoder, ValueMap, WireError, WireFormat, WireFormatInfo, WireFormatOptions,
    decode_map, encode_map, negotiate,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

/// The first read buffer of a connection: most connections are idle ones.
const FIRST_READ: usize = 8 * 1024;

/// The read buffer of a busy connection. One system call a buffer; larger ones measured no faster.
const BUSY_READ: usize = 64 * 1024;

/// Less room than this is not worth a system call.
const LEAST_READ: usize = 2 * 1024;

/// A frame from this size on that does not fit into its block gets a block of its own, of just its size: a
/// message keeps its whole block in memory, and beside few large ones too much of it would be empty.
const LARGE_FRAME: usize = 16 * 1024;

/// For a frame up to this size the whole room is made at once, so that a size alone takes little memory.
const TRUSTED_FRAME: usize = 1024 * 1024;

/// For a larger one there is room for so many times what has really arrived: whoever wants us to spend memory
/// has to spend a share of it, and hardly anything is copied twice.
const TRUSTED_GROWTH: usize = 32;

/// Why a client and the broker did not come together.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The client went away before it had sent anything: a port check.
    Silent,
    Io(io::Error),
    Wire(WireError),
    /// The first frame was another one.
    NotOpenWire,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("it closed without a word"),
            Self::Io(error) => error.fmt(f),
            Self::Wire(error) => error.fmt(f),
            Self::NotOpenWire => f.write_str("its first frame was no WireFormatInfo"),
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<WireError> for HandshakeError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// What a broker says of the outcomes of transactions, so that a client knows what the answer to a commit means
/// that it sends again. No other peer looks at it.
#[derive(Debug, Clone)]
pub(crate) struct OutcomesKept {
    /// The identity of the store that keeps them.
    pub(crate) store: Arc<str>,
    /// For how long each is certainly known, in milliseconds.
    pub(crate) millis: i64,
}

/// The frame that offers a wire format and says how outcomes are kept.
fn hello(ours: &WireFormatOptions, outcomes: &OutcomesKept) -> Result<WireFormatInfo, WireError> {
    let mut info = ours.to_info()?;
    let mut map = match info.marshalled_properties.take() {
        Some(properties) => decode_map(properties)?,
        None => ValueMap::new(),
    };
    map.insert("TransactionOutcomes", &*outcomes.store);
    map.insert("TransactionOutcomesKept", outcomes.millis);
    let mut properties = BytesMut::new();
    encode_map(&map, &mut properties)?;
    info.marshalled_properties = Some(properties.freeze());
    Ok(info)
}

/// Sends our `WireFormatInfo`, waits for the client's, and says what follows. What the client sent after it
/// is in the returned input.
pub(crate) async fn handshake<S>(
    io: &mut S,
    ours: &WireFormatOptions,
    outcomes: &OutcomesKept,
) -> Result<(WireFormat, Input), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut frame = BytesMut::new();
    Encoder::new(WireFormat::handshake()).encode(&hello(ours, outcomes)?.into(), &mut frame)?;
    io.write_all(&frame).await?;
    io.flush().await?;

    let mut decoder = Decoder::new(WireFormat::handshake());
    let mut input = Input::new();
    loop {
        match decoder.decode(&mut input.buffer)? {
            Some(Command::WireFormatInfo(theirs)) => return Ok((negotiate(ours, &theirs)?, input)),
            Some(_) => return Err(HandshakeError::NotOpenWire),
            None => {}
        }
        if io.read_buf(input.room()).await? == 0 {
            return Err(if input.buffer.is_empty() {
                HandshakeError::Silent
            } else {
                HandshakeError::Io(io::ErrorKind::UnexpectedEof.into())
            });
        }
    }
}

/// The bytes that were read and not decoded yet.
///
/// Messages are slices of this buffer, so a block is filled to its end before a new one is taken.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) buffer: BytesMut,
    block: usize,
}

impl Input {
    fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            block: FIRST_READ,
        }
    }

    /// Gives the memory of busy times back, if nothing is in it.
    pub(crate) fn release(&mut self) {
        if self.buffer.is_empty() {
            *self = Self::new();
        }
    }

    /// The buffer, with room to read into.
    pub(crate) fn room(&mut self) -> &mut BytesMut {
        let held = self.buffer.len();
        let spare = self.buffer.capacity() - held;
        // How long the frame is that has begun.
        let frame = match self.buffer.first_chunk::<4>() {
            Some(size) => (u32::from_be_bytes(*size) as usize).saturating_add(4),
            None => held,
        };
        if frame > held + spare && frame >= LARGE_FRAME {
            let mut block = BytesMut::with_capacity(frame.min(TRUSTED_FRAME.max(TRUSTED_GROWTH * held)));
            block.extend_from_slice(&self.buffer);
            self.buffer = block;
        } else if frame > held + spare || (frame == held && spare < LEAST_READ) {
            if spare == 0 {
                // The last read filled it.
                self.block = (self.block * 2).min(BUSY_READ);
            }
            self.buffer.reserve(self.block);
        }
        &mut self.buffer
    }
}

/// What an inactivity monitor does for a connection. Sans-IO: it is told what happened and asked what to do.
///
/// Every third of the agreed duration it sends a `KeepAliveInfo` if nothing else was sent; after a whole
/// duration without a byte from the peer it gives the connection up.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    duration: Duration,
    next_write: Instant,
    next_read: Instant,
    wrote: bool,
    read: bool,
}

/// What a [`Heartbeat`] wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    Nothing,
    Send,
    Dead,
}

impl Heartbeat {
    /// A heartbeat as agreed; none if it was switched off.
    pub(crate) fn new(now: Instant, format: &WireFormat) -> Option<Self> {
        let duration = Duration::from_millis(format.max_inactivity_duration.try_into().ok()?);
        if duration.is_zero() {
            return None;
        }
        let initial = format
            .max_inactivity_duration_initial_delay
            .try_into()
            .unwrap_or(0);
        let first = now + Duration::from_millis(initial);
        Some(Self {
            duration,
            next_write: first,
            next_read: first,
            wrote: true,
            read: true,
        })
    }

    /// A command went out, other than a beat: beats go out at an even pace.
    pub(crate) fn wrote(&mut self) {
        self.wrote = true;
    }

    /// Bytes came in, or nothing could because the broker did not read.
    pub(crate) fn read(&mut self) {
        self.read = true;
    }

    /// When [`check`](Self::check) wants to be called.
    pub(crate) fn deadline(&self) -> Instant {
        self.next_write.min(self.next_read)
    }

    pub(crate) fn check(&mut self, now: Instant) -> Beat {
        if now >= self.next_read {
            self.next_read = now + self.duration;
            if !std::mem::take(&mut self.read) {
                return Beat::Dead;
            }
        }
        if now >= self.next_write {
            // At least a millisecond, the grain of the timer.
            self.next_write = now + (self.duration / 3).max(Duration::from_millis(1));
            if !std::mem::take(&mut self.wrote) {
                return Beat::Send;
            }
        }
        Beat::Nothing
    }

    /// The agreed duration.
    pub(crate) fn duration(&self) -> Duration {
        self.duration
    }
}

#[cfg(test)]
mod tests {
    use openwire_client::wire::Value;

    use super::*;

    fn kept() -> OutcomesKept {
        OutcomesKept {
            store: "0123".into(),
            millis: 4567,
        }
    }

    #[test]
    fn the_handshake_says_how_outcomes_are_kept() {
        let info = hello(&WireFormatOptions::default(), &kept()).unwrap();
        let map = decode_map(info.marshalled_properties.unwrap()).unwrap();
        assert_eq!(map.get("TransactionOutcomes"), Some(&Value::from("0123")));
        assert_eq!(map.get("TransactionOutcomesKept"), Some(&Value::Long(4567)));
        assert_eq!(map.get("CacheSize"), Some(&Value::Int(1024)));
    }

    fn format(duration: i64, initial: i64) -> WireFormat {
        WireFormat {
            max_inactivity_duration: duration,
            max_inactivity_duration_initial_delay: initial,
            ..WireFormat::handshake()
        }
    }

    #[test]
    fn a_silent_peer_is_dead_after_the_second_check() {
        let start = Instant::now();
        let mut beat = Heartbeat::new(start, &format(1200, 600)).unwrap();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(beat.deadline(), at(600));
        assert_eq!(beat.check(at(600)), Beat::Nothing, "the handshake counts");
        assert_eq!(beat.deadline(), at(1000));
        assert_eq!(
            beat.check(at(1000)),
            Beat::Send,
            "nothing was written for a third"
        );
        beat.wrote();
        assert_eq!(beat.check(at(1400)), Beat::Nothing, "something was");
        assert_eq!(beat.check(at(1800)), Beat::Dead);
    }

    #[test]
    fn a_peer_that_sends_lives() {
        let start = Instant::now();
        let mut beat = Heartbeat::new(start, &format(300, 300)).unwrap();
        for n in 1..10 {
            beat.read();
            assert_ne!(beat.check(start + Duration::from_millis(300 * n)), Beat::Dead);
        }
    }

    #[test]
    fn zero_switches_it_off() {
        assert!(Heartbeat::new(Instant::now(), &format(0, 600)).is_none());
    }

    #[test]
    fn a_declared_size_alone_takes_no_memory() {
        let mut input = Input::new();
        input.buffer.extend_from_slice(&i32::MAX.to_be_bytes());
        input.room();
        assert!(
            input.buffer.capacity() <= 2 * TRUSTED_FRAME,
            "{}",
            input.buffer.capacity()
        );
    }

    #[test]
    fn large_frames_lie_in_blocks_of_their_size() {
        for size in [LARGE_FRAME, 70_000, 3 * TRUSTED_FRAME] {
            let mut frame = BytesMut::from(&(size as u32).to_be_bytes()[..]);
            frame.resize(4 + size, 7);
            let stream = frame.repeat(5);
            let mut unread = &stream[..];
            let mut input = Input::new();
            let mut frames = 0;
            while frames < 5 {
                let room = input.room();
                let spare = room.capacity() - room.len();
                assert!(spare > 0, "no room after {} of {size} bytes", room.len());
                let (read, rest) = unread.split_at(spare.min(unread.len()));
                room.extend_from_slice(read);
                unread = rest;
                while input.buffer.len() >= frame.len() {
                    // Whatever else is in its block is small beside it.
                    let beside = input.buffer.capacity() - frame.len();
                    assert!(beside < BUSY_READ, "{beside} bytes beside a frame of {size}");
                    assert_eq!(input.buffer.split_to(frame.len()), frame);
                    frames += 1;
                }
            }
        }
    }

    #[test]
    fn a_busy_connection_gets_a_larger_buffer() {
        let mut input = Input::new();
        let mut messages = Vec::new();
        let mut spare = 0;
        for _ in 0..8 {
            let room = input.room();
            spare = room.capacity() - room.len();
            assert!(spare <= BUSY_READ + LEAST_READ, "{spare}");
            room.extend_from_slice(&vec![0; spare]);
            messages.push(input.buffer.split().freeze());
        }
        assert!(spare >= BUSY_READ, "{spare}");
    }

    #[tokio::test]
    async fn a_handshake_leaves_what_follows() {
        let (mut client, mut server) = tokio::io::duplex(4096);
        let options = WireFormatOptions::default();
        let mut bytes = BytesMut::new();
        Encoder::new(WireFormat::handshake())
            .encode(&options.to_info().unwrap().into(), &mut bytes)
            .unwrap();
        bytes.extend_from_slice(b"next");
        client.write_all(&bytes).await.unwrap();
        let (format, input) = handshake(&mut server, &options, &kept()).await.unwrap();
        assert_eq!((format.version, format.tight), (12, true));
        assert_eq!(&input.buffer[..], b"next");
    }

    #[tokio::test]
    async fn what_is_not_openwire_is_refused() {
        for (bytes, is_silent) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], false),
            (b"\x00\x00\x00\x06\x0a\x00\x00\x16\xb3\x01", false),
            (b"\x00\x00\x00\x10\x01", false),
            (b"", true),
        ] {
            let (mut client, mut server) = tokio::io::duplex(4096);
            client.write_all(bytes).await.unwrap();
            drop(client);
            // The broker's own hello may fail too: the pipe is closed.
            let error = handshake(&mut server, &WireFormatOptions::default(), &kept())
                .await
                .unwrap_err();
            assert!(
                !is_silent || matches!(error, HandshakeError::Silent | HandshakeError::Io(_)),
                "{error}"
            );
        }
    }
}
