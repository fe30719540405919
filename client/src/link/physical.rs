//! One physical connection: frames in, frames out, and the signs of life between them.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use super::heartbeat::{Due, Heartbeat};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{ReadHalf, WriteHalf};
use crate::uri::Endpoint;
use crate::wire::{BrokerInfo, Command, Decoder, Encoder, KeepAliveInfo, WireFormat};

/// A frame that grew the write buffer beyond this must not keep it so for as long as the connection lives.
const KEEP_BUFFER: usize = 1024 * 1024;

/// Where a timer stands that has nothing to wait for.
const FAR: Duration = Duration::from_secs(86_400 * 365);

/// A connection that was negotiated, whatever it is used for.
#[derive(Debug)]
pub(super) struct Physical {
    reader: ReadHalf,
    writer: WriteHalf,
    encoder: Encoder,
    decoder: Decoder,
    input: BytesMut,
    read_size: usize,
    output: BytesMut,
    /// How many bytes were encoded and how many have left.
    encoded: u64,
    flushed: u64,
    /// The transport below may hold back bytes.
    unflushed: bool,
    heartbeat: Heartbeat,
    timer: Pin<Box<Sleep>>,
    keep_alive_response: bool,
    /// The broker introduced itself while the connection was a spare one.
    introduced: Option<Box<BrokerInfo>>,
}

impl Physical {
    /// A connection that was just negotiated. `input` is what came after the peer's `WireFormatInfo`.
    pub(super) fn new(
        endpoint: &Endpoint,
        halves: (ReadHalf, WriteHalf),
        agreed: WireFormat,
        input: BytesMut,
    ) -> Self {
        let now = Instant::now();
        Self {
            reader: halves.0,
            writer: halves.1,
            heartbeat: Heartbeat::new(endpoint, &agreed, now.into_std()),
            encoder: Encoder::new(agreed.clone()),
            decoder: Decoder::new(agreed),
            input,
            read_size: endpoint.socket.io_buffer_size,
            output: BytesMut::new(),
            encoded: 0,
            flushed: 0,
            unflushed: false,
            timer: Box::pin(sleep_until(now + FAR)),
            keep_alive_response: endpoint.keep_alive_response_required,
            introduced: None,
        }
    }

    /// How many bytes were encoded.
    pub(super) fn encoded(&self) -> u64 {
        self.encoded
    }

    /// How many bytes have left.
    pub(super) fn flushed(&self) -> u64 {
        self.flushed
    }

    /// How many bytes wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.output.len()
    }

    /// Everything that was encoded has left.
    pub(super) fn is_flushed(&self) -> bool {
        self.output.is_empty() && !self.unflushed
    }

    /// What was agreed with the broker.
    pub(super) fn format(&self) -> &WireFormat {
        self.encoder.format()
    }

    /// What the broker said about itself while the connection was a spare one.
    pub(super) fn take_introduction(&mut self) -> Option<Box<BrokerInfo>> {
        self.introduced.take()
    }

    /// The next whole frame of what was read.
    pub(super) fn next_command(&mut self) -> Result<Option<Command>> {
        Ok(self.decoder.decode(&mut self.input)?)
    }

    /// Whole frames were taken out of what was read.
    pub(super) fn received(&mut self) {
        self.heartbeat
            .received(!self.input.is_empty(), Instant::now().into_std());
    }

    /// Reads once.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        // Grows with what is there, so that a large frame needs few reads and a declared size costs nothing.
        self.input.reserve(self.read_size.max(self.input.len()));
        Poll::Ready(
            match ready!(pin!(self.reader.read_buf(&mut self.input)).poll(cx)) {
                Ok(0) => Err(Error::new(ErrorKind::Io, "the broker closed the connection")),
                Ok(_) => {
                    self.heartbeat.received(true, Instant::now().into_std());
                    Ok(())
                }
                Err(error) => Err(error.into()),
            },
        )
    }

    /// Puts a command behind those that wait to be written.
    pub(super) fn encode(&mut self, command: &Command) -> Result<()> {
        let before = self.output.len();
        self.encoder.encode(command, &mut self.output)?;
        self.encoded += (self.output.len() - before) as u64;
        Ok(())
    }

    /// Answers a sign of life, if it asks for that.
    pub(super) fn answer(&mut self, info: &KeepAliveInfo) -> Result<()> {
        if !info.response_required {
            return Ok(());
        }
        self.encode(&Command::from(KeepAliveInfo {
            command_id: info.command_id,
            response_required: false,
        }))
    }

    /// Writes once. Ready says that something was written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>> {
        if self.output.is_empty() {
            if self.unflushed {
                self.unflushed = pin!(&mut self.writer).poll_flush(cx)?.is_pending();
            }
            return Ok(Poll::Pending);
        }
        let Poll::Ready(written) = pin!(&mut self.writer).poll_write(cx, &self.output)? else {
            self.heartbeat.blocked(Instant::now().into_std());
            return Ok(Poll::Pending);
        };
        if written == 0 {
            return Err(Error::new(ErrorKind::Io, "the connection takes no more bytes"));
        }
        self.output.advance(written);
        self.flushed += written as u64;
        self.unflushed = true;
        self.heartbeat
            .sent(!self.output.is_empty(), Instant::now().into_std());
        if self.output.is_empty() && self.output.capacity() > KEEP_BUFFER {
            self.output = BytesMut::new();
        }
        Ok(Poll::Ready(()))
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) {
        let _ = pin!(&mut self.writer).poll_shutdown(cx);
    }

    /// True if something was due: a sign of life, which is to be written, or what the caller has to do at `also`.
    pub(super) fn poll_timer(&mut self, cx: &mut Context<'_>, also: Option<Instant>) -> Result<bool> {
        loop {
            let now = Instant::now();
            match self.heartbeat.due(now.into_std()) {
                Due::Nothing => {}
                Due::KeepAlive if !self.output.is_empty() => {}
                Due::KeepAlive => {
                    self.encode(&Command::from(KeepAliveInfo {
                        command_id: 0,
                        response_required: self.keep_alive_response,
                    }))?;
                    return Ok(true);
                }
                Due::Silent(limit) => return Err(silent("nothing came from the broker", limit)),
                Due::PartialFrame(limit) => return Err(silent("the rest of a frame did not come", limit)),
                Due::Blocked(limit) => return Err(silent("the broker takes nothing", limit)),
            }
            let next = self.heartbeat.next().map_or(now + FAR, Instant::from_std);
            let next = also.map_or(next, |also| also.min(next));
            if self.timer.deadline() != next {
                self.timer.as_mut().reset(next);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(false);
            }
            if also.is_some_and(|also| also <= Instant::now()) {
                return Ok(true);
            }
        }
    }

    /// Keeps a connection alive that nobody uses. Ready says why it is of no use any more.
    pub(super) fn poll_spare(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        match self.tend(cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    fn tend(&mut self, cx: &mut Context<'_>) -> Result<()> {
        loop {
            // The handshake may have left whole frames behind.
            let mut news = false;
            while let Some(command) = self.next_command()? {
                news = true;
                match command {
                    Command::KeepAliveInfo(info) => self.answer(&info)?,
                    Command::BrokerInfo(info) => self.introduced = Some(info),
                    Command::ShutdownInfo(_) => return Err(shutting_down()),
                    other => tracing::debug!(type_id = other.type_id(), "not for a spare connection"),
                }
            }
            if news {
                self.received();
            }
            let wrote = self.poll_write(cx)?.is_ready();
            let read = match self.poll_read(cx) {
                Poll::Ready(result) => result.map(|()| true)?,
                Poll::Pending => false,
            };
            if !read && !wrote && !self.poll_timer(cx, None)? {
                return Ok(());
            }
        }
    }
}

pub(super) fn shutting_down() -> Error {
    Error::new(ErrorKind::Io, "the broker is shutting down")
}

pub(super) fn silent(what: &str, limit: Duration) -> Error {
    Error::new(ErrorKind::Io, format!("{what} for {limit:?}"))
}
