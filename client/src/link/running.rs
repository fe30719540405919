//! One physical connection while it lives: everything that is read and written passes here.

use std::collections::{HashMap, VecDeque};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};

use super::heartbeat::{Due, Heartbeat};
use super::outbox::Item;
use super::traffic::{Restore, Traffic};
use super::{Shared, Upper};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{ReadHalf, WriteHalf};
use crate::uri::Endpoint;
use crate::wire::{
    Command, ConnectionControl, Decoder, Encoder, EntityId, KeepAliveInfo, ShutdownInfo, WireFormat,
};

/// Frames are gathered up to this many bytes before they are written.
const WRITE_AHEAD: usize = 128 * 1024;

/// A frame that grew the write buffer beyond this must not keep it so for as long as the connection lives.
const KEEP_BUFFER: usize = 1024 * 1024;

/// Where a timer stands that has nothing to wait for.
const FAR: Duration = Duration::from_secs(86_400 * 365);

/// Why [`Running::poll`] returns.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The broker has accepted the connection. Goes on.
    Opened,
    /// The broker said something about the cluster. Goes on.
    Control(Box<ConnectionControl>),
    /// The broker refused the connection.
    Refused(Error),
    /// The connection is of no use any more.
    Broken(Error),
    /// It was closed from this side, and everything that waited was written.
    Closed,
}

/// One physical connection.
#[derive(Debug)]
pub(super) struct Running {
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
    opening: Opening,
    /// Restored state and repeated requests, which go before everything else.
    first: VecDeque<Command>,
    /// What an answer with an exception would refuse of that.
    restored: HashMap<i32, EntityId>,
    /// `ShutdownInfo` was written: the rest is to get rid of the bytes.
    shutdown: bool,
    keep_alive_response: bool,
}

/// How far the opening is.
#[derive(Debug, PartialEq, Eq)]
enum Opening {
    /// These are to be written.
    Write(Vec<Command>),
    /// The answer to this command is awaited.
    Await(i32),
    Done,
}

impl Running {
    /// A connection that was just negotiated. `input` is what came after the peer's `WireFormatInfo`.
    pub(super) fn new(
        endpoint: &Endpoint,
        halves: (ReadHalf, WriteHalf),
        agreed: WireFormat,
        input: BytesMut,
        restore: Restore,
    ) -> Self {
        let heartbeat = Heartbeat::new(endpoint, &agreed, Instant::now().into_std());
        let restored = restore.state.iter().filter_map(restored_entity).collect();
        let mut first = VecDeque::from(restore.state);
        first.extend(restore.again);
        Self {
            reader: halves.0,
            writer: halves.1,
            encoder: Encoder::new(agreed.clone()),
            decoder: Decoder::new(agreed),
            input,
            read_size: endpoint.socket.io_buffer_size,
            output: BytesMut::new(),
            encoded: 0,
            flushed: 0,
            unflushed: false,
            heartbeat,
            timer: Box::pin(sleep_until(Instant::now() + FAR)),
            opening: Opening::Write(restore.opening),
            first,
            restored,
            shutdown: false,
            keep_alive_response: endpoint.keep_alive_response_required,
        }
    }

    /// How many bytes have left.
    pub(super) fn flushed(&self) -> u64 {
        self.flushed
    }

    /// What was agreed with the broker.
    pub(super) fn format(&self) -> &WireFormat {
        self.encoder.format()
    }

    /// Reads, writes and watches the clock until there is an outcome.
    pub(super) async fn next(
        &mut self,
        shared: &Shared,
        traffic: &mut Traffic,
        upper: &dyn Upper,
    ) -> Outcome {
        std::future::poll_fn(|cx| match self.poll(cx, shared, traffic, upper) {
            Ok(poll) => poll,
            Err(error) => Poll::Ready(Outcome::Broken(error)),
        })
        .await
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        shared: &Shared,
        traffic: &mut Traffic,
        upper: &dyn Upper,
    ) -> Result<Poll<Outcome>> {
        shared.outbox.register(cx.waker());
        loop {
            // Whatever comes is read even if nothing can be written, so that two full pipes never wait for each other.
            let read = match self.poll_read(cx, traffic, upper)? {
                Poll::Ready(Some(outcome)) => return Ok(Poll::Ready(outcome)),
                Poll::Ready(None) => true,
                Poll::Pending => false,
            };
            self.stage(shared, traffic, upper)?;
            let wrote = self.poll_write(cx)?.is_ready();
            if self.shutdown && self.output.is_empty() && !self.unflushed {
                let _ = pin!(&mut self.writer).poll_shutdown(cx);
                return Ok(Poll::Ready(Outcome::Closed));
            }
            if !read && !wrote && !self.poll_timer(cx)? {
                return Ok(Poll::Pending);
            }
        }
    }

    /// Reads once and handles every whole frame. `Ready(None)` says that there was something.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        traffic: &mut Traffic,
        upper: &dyn Upper,
    ) -> Result<Poll<Option<Outcome>>> {
        // An earlier outcome may have left whole frames behind, and so does the handshake.
        let mut news = false;
        loop {
            while let Some(command) = self.decoder.decode(&mut self.input)? {
                news = true;
                if let Some(outcome) = self.handle(command, traffic, upper)? {
                    return Ok(Poll::Ready(Some(outcome)));
                }
            }
            if news {
                self.heartbeat
                    .received(!self.input.is_empty(), Instant::now().into_std());
                return Ok(Poll::Ready(None));
            }
            // Grows with what is there, so that a large frame needs few reads and a declared size costs nothing.
            self.input.reserve(self.read_size.max(self.input.len()));
            match pin!(self.reader.read_buf(&mut self.input)).poll(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Ok(0)) => {
                    return Err(Error::new(ErrorKind::Io, "the broker closed the connection"));
                }
                Poll::Ready(Ok(_)) => self.heartbeat.received(true, Instant::now().into_std()),
                Poll::Ready(Err(error)) => return Err(error.into()),
            }
        }
    }

    fn handle(
        &mut self,
        command: Command,
        traffic: &mut Traffic,
        upper: &dyn Upper,
    ) -> Result<Option<Outcome>> {
        if let Some(id) = command.correlation_id() {
            return Ok(self.answered(id, command, traffic, upper));
        }
        match command {
            Command::MessageDispatch(dispatch) => {
                if let Some(ack) = upper.dispatch(dispatch)? {
                    self.encode(&Command::from(Box::new(ack)))?;
                }
            }
            Command::ProducerAck(ack) => upper.producer_ack(&ack),
            Command::KeepAliveInfo(info) if info.response_required => {
                let answer = KeepAliveInfo {
                    command_id: info.command_id,
                    response_required: false,
                };
                self.encode(&Command::from(answer))?;
            }
            Command::KeepAliveInfo(_) => {}
            Command::BrokerInfo(info) => upper.broker_info(*info),
            Command::ConnectionControl(control) => return Ok(Some(Outcome::Control(control))),
            Command::ConsumerControl(control) => {
                if let (Some(tracker), Some(id)) = (traffic.tracker(), &control.consumer_id) {
                    if control.close {
                        tracker.remove(&EntityId::Consumer(id.clone()));
                    } else {
                        tracker.set_prefetch(id, control.prefetch);
                    }
                }
                upper.consumer_control(&control);
            }
            Command::ConnectionError(error) => {
                upper.broker_error(Error::from_throwable(error.exception.unwrap_or_default()));
            }
            Command::ShutdownInfo(_) => {
                return Err(Error::new(ErrorKind::Io, "the broker is shutting down"));
            }
            other => tracing::debug!(type_id = other.type_id(), "ignored a command of the broker"),
        }
        Ok(None)
    }

    fn answered(
        &mut self,
        id: i32,
        answer: Command,
        traffic: &mut Traffic,
        upper: &dyn Upper,
    ) -> Option<Outcome> {
        if self.opening == Opening::Await(id) {
            self.opening = Opening::Done;
            return Some(match answer {
                Command::ExceptionResponse(response) => {
                    Outcome::Refused(Error::from_throwable(response.exception.unwrap_or_default()))
                }
                _ => Outcome::Opened,
            });
        }
        let restored = self.restored.remove(&id);
        if let (Some(entity), Command::ExceptionResponse(response)) = (restored, &answer) {
            if let Some(tracker) = traffic.tracker() {
                tracker.remove(&entity);
            }
            let cause = response.exception.clone().unwrap_or_default();
            upper.not_restored(&entity, Error::from_throwable(cause));
        }
        traffic.answered(id, answer);
        None
    }

    /// Encodes what waits, up to a good size for one write.
    fn stage(&mut self, shared: &Shared, traffic: &mut Traffic, upper: &dyn Upper) -> Result<()> {
        if let Opening::Write(commands) = &mut self.opening {
            let commands = std::mem::take(commands);
            // The connection's info is the last of them.
            let id = commands.last().map_or(0, Command::command_id);
            for command in &commands {
                self.encode(command)?;
            }
            self.opening = Opening::Await(id);
        }
        if self.opening != Opening::Done || self.shutdown {
            return Ok(());
        }
        while self.output.len() < WRITE_AHEAD {
            if let Some(command) = self.first.pop_front() {
                traffic.rewritten(&command, self.encoded);
                self.encode(&command)?;
                continue;
            }
            if traffic.staged.is_empty() {
                shared.outbox.take(&mut traffic.staged);
            }
            let Some(item) = traffic.staged.pop_front() else {
                if shared.outbox.is_closed() && !traffic.is_awaited() {
                    self.encode(&Command::from(ShutdownInfo::default()))?;
                    self.shutdown = true;
                }
                break;
            };
            if let Some(item) = traffic.admit(item, shared.connection()) {
                self.write_item(item, traffic, upper);
            }
        }
        Ok(())
    }

    fn write_item(&mut self, item: Item, traffic: &mut Traffic, upper: &dyn Upper) {
        let position = self.encoded;
        match self.encode(&item.command) {
            Ok(()) => traffic.written(item, position),
            Err(error) => {
                if let Some(error) = traffic.not_written(item, error) {
                    upper.broker_error(error);
                }
            }
        }
    }

    fn encode(&mut self, command: &Command) -> Result<()> {
        let before = self.output.len();
        self.encoder.encode(command, &mut self.output)?;
        self.encoded += (self.output.len() - before) as u64;
        Ok(())
    }

    /// Writes once. Ready says that something was written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>> {
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

    /// True if something was due and is to be written.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<bool> {
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
            if self.timer.deadline() != next {
                self.timer.as_mut().reset(next);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(false);
            }
        }
    }
}

fn silent(what: &str, limit: Duration) -> Error {
    Error::new(ErrorKind::Io, format!("{what} for {limit:?}"))
}

fn restored_entity(command: &Command) -> Option<(i32, EntityId)> {
    let entity = match command {
        Command::ProducerInfo(info) => EntityId::Producer(info.producer_id.clone()?),
        Command::ConsumerInfo(info) => EntityId::Consumer(info.consumer_id.clone()?),
        _ => return None,
    };
    Some((command.command_id(), entity))
}
