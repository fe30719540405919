//! Where the link delivers to: it knows every consumer, producer window and session of a connection, and none of them
//! knows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::advisories::{Advisories, IMPLICIT_SESSION};
use super::metadata::ConnectionMetadata;
use super::progress::Alarm;
use super::stats::Counters;
use crate::consumer::{Audit, Mailbox};
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Event, Publisher};
use crate::link::Upper;
use crate::producer::Flow;
use crate::wire::{
    BrokerInfo, ConsumerControl, ConsumerId, Destination, EntityId, MessageAck, MessageDispatch, ProducerAck,
    ProducerId, WireFormat,
};

/// Consumers and producers by the numbers of their session and their own: the rest of their ids is the same for all.
pub(super) type Key = (i64, i64);

/// The log warns of errors that the broker reports no more often than this; events and counters tell of each.
const WARN_OF_ERRORS_EVERY: Duration = Duration::from_secs(10);

/// The order of locks: one of these, then a consumer's own, then its session's transactions, the audit or the
/// outbox.
#[derive(Debug)]
pub(crate) struct Hub {
    consumers: RwLock<FxHashMap<Key, Arc<Mailbox>>>,
    flows: RwLock<FxHashMap<Key, Arc<Flow>>>,
    /// `start` was called and `stop` was not.
    started: AtomicBool,
    /// `start` was called once.
    was_started: AtomicBool,
    advisories: Advisories,
    pub(crate) audit: Arc<Audit>,
    pub(crate) publisher: Publisher,
    pub(crate) counters: Arc<Counters>,
    pub(super) alarm: Arc<Alarm>,
    metadata: Mutex<ConnectionMetadata>,
    /// The id of the broker at the other end of the present physical connection, once it has introduced itself.
    broker: Mutex<Option<Arc<str>>>,
    /// The largest frame the broker takes, in bytes.
    max_frame_size: AtomicU64,
    /// When the last error of the broker was worth a warning.
    warned_of_errors: Mutex<Option<Instant>>,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            consumers: RwLock::default(),
            flows: RwLock::default(),
            started: AtomicBool::new(false),
            was_started: AtomicBool::new(false),
            advisories: Advisories::default(),
            audit: Arc::default(),
            publisher: Publisher::new(),
            counters: Arc::default(),
            alarm: Arc::new(Alarm::new()),
            metadata: Mutex::default(),
            broker: Mutex::default(),
            max_frame_size: AtomicU64::new(u64::MAX),
            warned_of_errors: Mutex::default(),
        }
    }

    pub(crate) fn metadata(&self) -> ConnectionMetadata {
        self.metadata.lock().clone()
    }

    /// The id of the broker that is connected now, new at each of its starts; none while that is not known.
    pub(crate) fn broker_now(&self) -> Option<Arc<str>> {
        self.broker.lock().clone()
    }

    pub(crate) fn max_frame_size(&self) -> u64 {
        self.max_frame_size.load(Ordering::Relaxed)
    }

    pub(crate) fn set_started(&self, started: bool) {
        // Under the lock, so that a consumer that is just being added is not missed.
        let consumers = self.consumers.write();
        self.started.store(started, Ordering::Release);
        self.was_started.fetch_or(started, Ordering::Relaxed);
        consumers
            .values()
            .for_each(|consumer| consumer.set_started(started));
    }

    /// `connection` gives the number of the physical connection.
    pub(crate) fn add_consumer(&self, consumer: Arc<Mailbox>, connection: impl FnOnce() -> u64) {
        // Under the lock: what changes from here on is told to the consumer.
        let mut consumers = self.consumers.write();
        consumer.begin(connection(), self.started.load(Ordering::Acquire));
        consumers.insert(consumer_key(consumer.id()), consumer);
    }

    pub(crate) fn remove_consumer(&self, id: &ConsumerId) {
        self.consumers.write().remove(&consumer_key(id));
    }

    /// The broker has said that the temporary destination is deleted.
    pub(crate) fn is_deleted(&self, destination: &Destination) -> bool {
        destination.is_temporary() && self.advisories.is_deleted(destination)
    }

    pub(crate) fn consumes_from(&self, destination: &Destination) -> bool {
        let consumers = self.consumers.read();
        consumers
            .values()
            .any(|consumer| consumer.destination() == destination)
    }

    pub(crate) fn add_flow(&self, new: impl FnOnce(Arc<Alarm>, Arc<Counters>) -> Flow) -> Arc<Flow> {
        let flow = Arc::new(new(self.alarm.clone(), self.counters.clone()));
        self.flows.write().insert(producer_key(flow.id()), flow.clone());
        flow
    }

    pub(crate) fn remove_flow(&self, id: &ProducerId) {
        self.flows.write().remove(&producer_key(id));
    }

    /// Refuses to wait for messages that are not delivered.
    pub(crate) fn check_started(&self) -> Result<()> {
        match self.started.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::IllegalState,
                "the connection is not started, so that nothing is delivered",
            )),
        }
    }

    pub(super) fn was_started(&self) -> bool {
        self.was_started.load(Ordering::Relaxed)
    }

    pub(super) fn flows(&self) -> Vec<(Key, Arc<Flow>)> {
        let flows = self.flows.read();
        flows.iter().map(|(key, flow)| (*key, flow.clone())).collect()
    }

    pub(super) fn has_flow(&self, key: Key) -> bool {
        self.flows.read().contains_key(&key)
    }

    pub(super) fn mailboxes(&self) -> Vec<(Key, Arc<Mailbox>)> {
        let consumers = self.consumers.read();
        consumers
            .iter()
            .map(|(key, mailbox)| (*key, mailbox.clone()))
            .collect()
    }

    pub(super) fn has_consumer(&self, key: Key) -> bool {
        self.consumers.read().contains_key(&key)
    }

    fn consumer(&self, id: &ConsumerId) -> Option<Arc<Mailbox>> {
        self.consumers.read().get(&consumer_key(id)).cloned()
    }

    fn all_consumers(&self) -> Vec<Arc<Mailbox>> {
        self.consumers.read().values().cloned().collect()
    }

    fn reset_windows(&self) {
        self.flows
            .read()
            .values()
            .filter_map(|flow| flow.window())
            .for_each(|window| window.reset());
    }
}

fn consumer_key(id: &ConsumerId) -> Key {
    (id.session_id, id.value)
}

fn producer_key(id: &ProducerId) -> Key {
    (id.session_id, id.value)
}

impl Upper for Hub {
    fn dispatch(&self, dispatch: MessageDispatch) -> Result<Option<MessageAck>> {
        let Some(id) = &dispatch.consumer_id else {
            return Ok(None);
        };
        if id.session_id == IMPLICIT_SESSION {
            return Ok(self.advisories.learn(dispatch));
        }
        // A message for a consumer that was just closed goes back to its queue by itself.
        let consumers = self.consumers.read();
        if let Some(consumer) = consumers.get(&consumer_key(id)) {
            self.counters.dispatched.add(1);
            let answer = consumer.dispatch(dispatch)?;
            self.alarm.arm();
            return Ok(answer);
        }
        Ok(None)
    }

    fn producer_ack(&self, ack: &ProducerAck) {
        let flow = ack
            .producer_id
            .as_ref()
            .and_then(|id| self.flows.read().get(&producer_key(id)).cloned());
        if let Some(window) = flow.as_ref().and_then(|flow| flow.window()) {
            window.acknowledged(ack.size);
        }
    }

    fn consumer_control(&self, control: &ConsumerControl) {
        let Some(consumer) = control.consumer_id.as_ref().and_then(|id| self.consumer(id)) else {
            return;
        };
        if control.close {
            self.remove_consumer(consumer.id());
            consumer.fail(&closed_by_broker());
        } else {
            consumer.set_prefetch(control.prefetch);
        }
    }

    fn broker_info(&self, info: BrokerInfo) {
        *self.broker.lock() = info.broker_id.as_ref().and_then(|id| id.value.clone());
        self.metadata.lock().learn(info);
    }

    fn broker_error(&self, error: Error) {
        self.counters.broker_errors.add(1);
        // One for each message that was sent without waiting would say no more.
        let now = Instant::now();
        let mut warned = self.warned_of_errors.lock();
        if warned.is_none_or(|at| now.duration_since(at) >= WARN_OF_ERRORS_EVERY) {
            *warned = Some(now);
            tracing::warn!(%error, "the broker reports an error");
        } else {
            tracing::debug!(%error, "the broker reports another error");
        }
        drop(warned);
        self.publisher.publish(Event::BrokerError(error));
    }

    fn not_restored(&self, entity: &EntityId, error: Error) {
        let id = match entity {
            EntityId::Consumer(id) => {
                if let Some(consumer) = self.consumer(id) {
                    self.remove_consumer(id);
                    consumer.fail(&error);
                }
                id.to_string()
            }
            EntityId::Producer(id) => id.to_string(),
            EntityId::Session(id) => id.to_string(),
            EntityId::Connection(id) => id.to_string(),
        };
        tracing::warn!(%id, %error, "the new broker refuses what the old one had accepted");
        self.publisher.publish(Event::NotRestored { id, cause: error });
    }

    fn opened(&self, format: &WireFormat) {
        self.metadata.lock().opened(format);
        self.max_frame_size
            .store(format.max_frame_size, Ordering::Relaxed);
    }

    fn interrupted(&self, connection: u64) {
        *self.broker.lock() = None;
        // First the consumers: from then on nothing of the old connection is delivered.
        for consumer in self.all_consumers() {
            let dropped = consumer.interrupted(connection);
            self.counters.dropped.add(dropped as u64);
        }
        self.audit.interrupted();
        self.reset_windows();
        self.advisories.interrupted();
    }

    fn closed(&self, cause: &Error) {
        for consumer in self.all_consumers() {
            consumer.fail(cause);
        }
        self.reset_windows();
    }

    fn event(&self, event: Event) {
        match &event {
            Event::Resumed { resumed, lost, .. } => {
                self.counters.reconnects.add(1);
                self.counters.resumed.add(*resumed);
                self.counters.lost.add(*lost);
            }
            Event::Closed { lost, .. } => self.counters.lost.add(*lost),
            Event::Blocked {
                producer,
                destination,
                waiting,
                window_full,
            } => {
                self.counters.blocked.add(1);
                let destination = destination.as_ref().map(tracing::field::display);
                tracing::warn!(%producer, destination, waiting, window_full, "sends are blocked");
            }
            Event::Unblocked {
                producer,
                destination,
                blocked_for,
            } => {
                self.counters.blocked_millis.add(millis(*blocked_for));
                let destination = destination.as_ref().map(tracing::field::display);
                tracing::info!(%producer, destination, ?blocked_for, "sends are not blocked any more");
            }
            Event::SlowConsumer {
                consumer,
                destination,
                waiting,
                unacknowledged,
            } => {
                self.counters.slow_consumers.add(1);
                tracing::warn!(%consumer, %destination, waiting, unacknowledged, "slow consumer");
            }
            Event::ConsumerCaughtUp {
                consumer,
                destination,
                slow_for,
            } => tracing::info!(%consumer, %destination, ?slow_for, "the consumer has caught up"),
            _ => {}
        }
        self.publisher.publish(event);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn closed_by_broker() -> Error {
    Error::new(ErrorKind::Closed, "the broker has closed the consumer")
}
