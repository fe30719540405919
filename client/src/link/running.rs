//! One physical connection while it lives: everything that is read and written passes here.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::doubt::Moment;
use super::outbox::Item;
use super::physical::{Physical, shutting_down, silent};
use super::traffic::{Next, Restore, Traffic};
use super::{Shared, Upper};
use crate::error::{Error, Result};
use crate::wire::{Command, ConnectionControl, EntityId, RemoveInfo, ShutdownInfo, WireFormat};

/// Frames are gathered up to this many bytes before they are written.
const WRITE_AHEAD: usize = 128 * 1024;

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

/// One physical connection that carries the logical one.
#[derive(Debug)]
pub(super) struct Running {
    physical: Physical,
    opening: Opening,
    /// Restored state and repeated requests, which go before everything else.
    first: VecDeque<Command>,
    /// What an answer with an exception would refuse of that.
    restored: HashMap<i32, EntityId>,
    restoring: Patience,
    /// The broker was told that the connection goes: nothing may follow.
    left: bool,
    /// `ShutdownInfo` was written: the rest is to get rid of the bytes.
    shutdown: bool,
}

/// How long the broker may take for each answer to what was restored.
#[derive(Debug)]
struct Patience {
    limit: Option<Duration>,
    deadline: Option<Instant>,
}

impl Patience {
    fn begin(&mut self) {
        self.deadline = self.limit.and_then(|limit| Instant::now().checked_add(limit));
    }
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
    /// Opens the logical connection over a physical one. `restore_timeout` is for each answer to what is restored.
    pub(super) fn new(physical: Physical, restore: Restore, restore_timeout: Option<Duration>) -> Self {
        Self {
            physical,
            opening: Opening::Write(restore.opening),
            first: VecDeque::new(),
            restored: HashMap::new(),
            restoring: Patience {
                limit: restore_timeout,
                deadline: None,
            },
            left: false,
            shutdown: false,
        }
    }

    /// How many bytes have left.
    pub(super) fn flushed(&self) -> u64 {
        self.physical.flushed()
    }

    /// What was agreed with the broker.
    pub(super) fn format(&self) -> &WireFormat {
        self.physical.format()
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
        if let Some(info) = self.physical.take_introduction() {
            upper.broker_info(*info);
        }
        loop {
            // Whatever comes is read even if nothing can be written, so that two full pipes never wait for each other.
            let read = match self.poll_read(cx, traffic, upper)? {
                Poll::Ready(Some(outcome)) => return Ok(Poll::Ready(outcome)),
                Poll::Ready(None) => true,
                Poll::Pending => false,
            };
            self.stage(shared, traffic, upper)?;
            let wrote = self.physical.poll_write(cx)?.is_ready();
            if self.shutdown && self.physical.is_flushed() {
                self.physical.poll_shutdown(cx);
                return Ok(Poll::Ready(Outcome::Closed));
            }
            if !read && !wrote && !self.poll_timer(cx, traffic)? {
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
            while let Some(command) = self.physical.next_command()? {
                news = true;
                if let Some(outcome) = self.handle(command, traffic, upper)? {
                    return Ok(Poll::Ready(Some(outcome)));
                }
            }
            if news {
                self.physical.received();
                return Ok(Poll::Ready(None));
            }
            match self.physical.poll_read(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(result) => result?,
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
                    self.physical.encode(&Command::from(Box::new(ack)))?;
                }
            }
            Command::ProducerAck(ack) => upper.producer_ack(&ack),
            Command::KeepAliveInfo(info) => self.physical.answer(&info)?,
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
            Command::ShutdownInfo(_) => return Err(shutting_down()),
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
                _ => {
                    traffic.opened(self.format().transaction_outcomes.clone(), Moment::now());
                    Outcome::Opened
                }
            });
        }
        let restored = self.restored.remove(&id);
        if restored.is_some() || traffic.is_asking() {
            self.restoring.begin();
        }
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
                self.physical.encode(command)?;
            }
            self.opening = Opening::Await(id);
        }
        if self.opening != Opening::Done || self.shutdown {
            return Ok(());
        }
        while self.physical.waiting() < WRITE_AHEAD {
            if let Some(command) = self.first.pop_front() {
                traffic.rewritten(&command, self.physical.encoded());
                self.physical.encode(&command)?;
                if self.first.is_empty() && self.waits_to_restore(traffic) {
                    self.restoring.begin();
                }
                continue;
            }
            match traffic.restore_next() {
                Next::Nothing => {}
                Next::Wait => break,
                Next::Commands(commands) => {
                    self.restored.extend(commands.iter().filter_map(restored_entity));
                    self.first.extend(commands);
                    continue;
                }
            }
            let Some(item) = self.next_item(shared, traffic) else {
                if shared.outbox.is_closed() && !traffic.is_awaited(shared.is_thorough()) {
                    self.physical.encode(&Command::from(ShutdownInfo::default()))?;
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

    /// What waits to be written. After the farewell that is for another connection.
    fn next_item(&self, shared: &Shared, traffic: &mut Traffic) -> Option<Item> {
        if self.left {
            return None;
        }
        if traffic.staged.is_empty() {
            shared.outbox.take(&mut traffic.staged);
        }
        traffic.staged.pop_front()
    }

    /// Answers to what was restored, or to what must be known before, are awaited.
    fn waits_to_restore(&self, traffic: &Traffic) -> bool {
        !self.restored.is_empty() || traffic.is_asking()
    }

    fn write_item(&mut self, item: Item, traffic: &mut Traffic, upper: &dyn Upper) {
        let position = self.physical.encoded();
        self.left |= is_farewell(&item.command);
        match self.physical.encode(&item.command) {
            Ok(()) => traffic.written(item, position),
            Err(error) => {
                if let Some(error) = traffic.not_written(item, error) {
                    upper.broker_error(error);
                }
            }
        }
    }

    /// True if something was due and is to be written.
    fn poll_timer(&mut self, cx: &mut Context<'_>, traffic: &Traffic) -> Result<bool> {
        let deadline = self.restoring.deadline.filter(|_| self.waits_to_restore(traffic));
        if let (Some(deadline), Some(limit)) = (deadline, self.restoring.limit)
            && deadline <= Instant::now()
        {
            return Err(silent(
                "no answer to what was restored came from the broker",
                limit,
            ));
        }
        self.physical.poll_timer(cx, deadline)
    }
}

fn is_farewell(command: &Command) -> bool {
    matches!(
        command,
        Command::RemoveInfo(RemoveInfo {
            object_id: Some(EntityId::Connection(_)),
            ..
        })
    )
}

fn restored_entity(command: &Command) -> Option<(i32, EntityId)> {
    if !command.response_required() {
        return None;
    }
    let entity = match command {
        Command::ProducerInfo(info) => EntityId::Producer(info.producer_id.clone()?),
        Command::ConsumerInfo(info) => EntityId::Consumer(info.consumer_id.clone()?),
        _ => return None,
    };
    Some((command.command_id(), entity))
}
