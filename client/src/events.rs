//! What happens to a connection.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::Error;
use crate::wire::{ConsumerId, Destination, ProducerId};

/// Something that happened to a connection (ActiveMQ's `TransportListener` and JMS's `ExceptionListener`).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// An address is about to be tried, for the first connection or for one after a break.
    Connecting {
        /// The URI of the broker.
        broker: String,
        /// Which attempt it is since there was a connection, from 1.
        attempt: u32,
    },
    /// The first connection was made and the broker has accepted it.
    Connected {
        /// The URI of the broker.
        broker: String,
    },
    /// The connection broke and another one is being made (`transportInterupted`).
    Interrupted {
        /// Why.
        cause: Error,
    },
    /// No address answered; they are tried again.
    Retrying {
        /// How often all of them have been tried since there was a connection.
        passes: u32,
        /// What the last one said.
        cause: Error,
        /// When they are tried again.
        delay: Duration,
    },
    /// A broker has accepted the connection again (`transportResumed`).
    Resumed {
        /// The URI of the broker.
        broker: String,
        /// How many requests, and messages kept by `trackMessages`, are sent again because they were not answered.
        resumed: u64,
        /// How many messages, at most, may be lost: they were sent without waiting for the broker, and nothing that
        /// came from it proves that it got them.
        lost: u64,
        /// How many addresses were tried.
        attempts: u32,
        /// How long there was no connection.
        downtime: Duration,
    },
    /// The broker reports that something failed which nobody waits for, such as a message that was sent without
    /// waiting (`onException` without the end of the connection).
    BrokerError(Error),
    /// A new broker refused what an old one had accepted; the consumer or producer is of no use any more.
    NotRestored {
        /// The id of the consumer or producer.
        id: String,
        /// Why.
        cause: Error,
    },
    /// For longer than [`blocked_after`](crate::options::ConnectionOptions::blocked_after) no send of a producer that has
    /// to wait got on, although there is a connection: the broker has no room, does not read, or does not answer.
    Blocked {
        /// Where the producer sends to; none if each of its messages names its own destination.
        destination: Option<Destination>,
        /// The producer.
        producer: ProducerId,
        /// How many of its sends wait, unanswered ones of `send_pipelined` included.
        waiting: u64,
        /// They wait for room in the producer's window (`jms.producerWindowSize`).
        window_full: bool,
    },
    /// Sends of a [`Blocked`](Self::Blocked) producer get on again, or nobody waits for them any more, or the connection
    /// broke. Each `Blocked` has its `Unblocked` unless [`Closed`](Self::Closed) comes first.
    Unblocked {
        /// Where the producer sends to.
        destination: Option<Destination>,
        /// The producer.
        producer: ProducerId,
        /// How long it was blocked, counted from the event.
        blocked_for: Duration,
    },
    /// A message has waited for the application for longer than
    /// [`slow_consumer_after`](crate::options::ConnectionOptions::slow_consumer_after), on a started connection and not
    /// because of a redelivery delay.
    SlowConsumer {
        /// The consumer.
        consumer: ConsumerId,
        /// Where it consumes from.
        destination: Destination,
        /// How many messages wait to be received.
        waiting: u64,
        /// How many were received and not acknowledged.
        unacknowledged: u64,
    },
    /// The end of a [`SlowConsumer`](Self::SlowConsumer): none of its messages has waited so long any more. Each has its end
    /// unless [`Closed`](Self::Closed) comes first.
    ConsumerCaughtUp {
        /// The consumer.
        consumer: ConsumerId,
        /// Where it consumes from.
        destination: Destination,
        /// How long it was slow, counted from the event.
        slow_for: Duration,
    },
    /// The connection is over (`onException` if there is a cause).
    Closed {
        /// Why, unless it was closed from this side.
        cause: Option<Error>,
        /// How many messages, at most, may be lost: as for [`Resumed`](Self::Resumed), and those that were still
        /// waiting to be sent.
        lost: u64,
    },
}

/// Where a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// The first connection is being made.
    Connecting,
    /// There is a connection.
    Connected,
    /// It broke, and another one is being made.
    Interrupted,
    /// It is over.
    Closed,
}

/// Attempts to connect and reports of the broker may be many and change no state: of those, each subscriber keeps this
/// many unread ones. The broker's are all counted in the statistics of the connection.
const MAX_UNREAD_REPORTS: usize = 256;

/// The events of a connection ([`Connection::events`](crate::Connection::events)).
///
/// The first is the one that led to the present [`ConnectionState`], whenever it happened; all that follow come after the
/// call. [`Connection::state`](crate::Connection::state) never runs ahead of what a stream is going to tell.
///
/// Nothing that changes a state is ever left out: `Connected`, `Interrupted`, `Resumed`, `Closed`, `Blocked`, `Unblocked`,
/// `SlowConsumer`, `ConsumerCaughtUp`, `NotRestored`. Of `Connecting`, `Retrying` and `BrokerError` a reader that does not
/// keep up gets the first 256; what it missed is counted ([`missed`](Self::missed)). The stream ends after `Closed`.
#[derive(Debug)]
pub struct Events {
    mailbox: Arc<Mailbox>,
}

#[derive(Debug, Default)]
struct Mailbox {
    // Not bounded: the connection's back-off and the two patience values bound how often a state can change.
    unread: Mutex<Unread>,
    reader: AtomicWaker,
}

#[derive(Debug, Default)]
struct Unread {
    events: VecDeque<Event>,
    reports: usize,
    missed: u64,
    ended: bool,
}

impl Events {
    /// How many reports this stream has left out because they were not read in time.
    pub fn missed(&self) -> u64 {
        self.mailbox.unread.lock().missed
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.mailbox.reader.register(cx.waker());
        let mut unread = self.mailbox.unread.lock();
        match unread.events.pop_front() {
            Some(event) => {
                if event.is_report() {
                    unread.reports -= 1;
                }
                Poll::Ready(Some(event))
            }
            None if unread.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl Event {
    fn is_report(&self) -> bool {
        matches!(
            self,
            Self::BrokerError(_) | Self::Retrying { .. } | Self::Connecting { .. }
        )
    }

    fn state(&self) -> Option<ConnectionState> {
        Some(match self {
            Self::Connected { .. } | Self::Resumed { .. } => ConnectionState::Connected,
            Self::Interrupted { .. } => ConnectionState::Interrupted,
            Self::Closed { .. } => ConnectionState::Closed,
            _ => return None,
        })
    }
}

/// Hands events to all who subscribed.
#[derive(Debug)]
pub(crate) struct Publisher {
    state: watch::Sender<ConnectionState>,
    audience: Mutex<Audience>,
}

#[derive(Debug, Default)]
struct Audience {
    subscribers: Vec<Weak<Mailbox>>,
    /// The event that led to the present state.
    present: Option<Event>,
}

impl Publisher {
    pub(crate) fn new() -> Self {
        Self {
            state: watch::Sender::new(ConnectionState::Connecting),
            audience: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    /// The URI of the broker, if there is a connection.
    pub(crate) fn broker(&self) -> Option<String> {
        match &self.audience.lock().present {
            Some(Event::Connected { broker } | Event::Resumed { broker, .. }) => Some(broker.clone()),
            _ => None,
        }
    }

    pub(crate) fn subscribe(&self) -> Events {
        let mut audience = self.audience.lock();
        let mailbox = Arc::new(Mailbox::default());
        if let Some(present) = &audience.present {
            mailbox.put(present);
        }
        audience
            .subscribers
            .retain(|subscriber| subscriber.strong_count() > 0);
        audience.subscribers.push(Arc::downgrade(&mailbox));
        Events { mailbox }
    }

    pub(crate) fn publish(&self, event: Event) {
        let mut audience = self.audience.lock();
        if matches!(audience.present, Some(Event::Closed { .. })) {
            return;
        }
        for subscriber in audience.subscribers.iter().filter_map(Weak::upgrade) {
            subscriber.put(&event);
        }
        if let Some(state) = event.state() {
            audience.present = Some(event);
            // After the streams and under the lock: whoever sees the state finds its event in every stream.
            self.state.send_replace(state);
        }
    }
}

impl Mailbox {
    fn put(&self, event: &Event) {
        let mut unread = self.unread.lock();
        if event.is_report() {
            if unread.reports >= MAX_UNREAD_REPORTS {
                unread.missed += 1;
                return;
            }
            unread.reports += 1;
        }
        unread.ended |= matches!(event, Event::Closed { .. });
        unread.events.push_back(event.clone());
        drop(unread);
        self.reader.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;
    use crate::error::ErrorKind;

    fn error() -> Error {
        Error::new(ErrorKind::Io, "x")
    }

    fn connected() -> Event {
        Event::Connected { broker: "b".into() }
    }

    #[test]
    fn no_change_of_state_is_lost_and_reports_are_bounded() {
        let publisher = Publisher::new();
        let events = publisher.subscribe();
        for _ in 0..1000 {
            publisher.publish(Event::BrokerError(error()));
            publisher.publish(Event::Interrupted { cause: error() });
        }
        publisher.publish(Event::Closed { cause: None, lost: 0 });
        assert_eq!(events.missed(), 1000 - MAX_UNREAD_REPORTS as u64);
        let all: Vec<_> = events.collect::<Vec<_>>().now_or_never().unwrap();
        let reports = all.iter().filter(|event| event.is_report()).count();
        assert_eq!((reports, all.len() - reports), (MAX_UNREAD_REPORTS, 1001));
    }

    #[test]
    fn the_state_follows_the_events() {
        let publisher = Publisher::new();
        let state = publisher.state();
        assert_eq!(*state.borrow(), ConnectionState::Connecting);
        publisher.publish(connected());
        assert_eq!(*state.borrow(), ConnectionState::Connected);
        publisher.publish(Event::BrokerError(error()));
        assert_eq!(*state.borrow(), ConnectionState::Connected);
        publisher.publish(Event::Interrupted { cause: error() });
        assert_eq!(*state.borrow(), ConnectionState::Interrupted);
    }

    #[test]
    fn a_subscription_begins_with_the_present_state() {
        let publisher = Publisher::new();
        assert!(publisher.subscribe().next().now_or_never().is_none());
        publisher.publish(connected());
        publisher.publish(Event::Interrupted { cause: error() });
        publisher.publish(Event::BrokerError(error()));
        let mut events = publisher.subscribe();
        let first = events.next().now_or_never().flatten();
        assert!(matches!(first, Some(Event::Interrupted { .. })), "{first:?}");
        assert!(events.next().now_or_never().is_none());
    }

    #[test]
    fn a_subscription_after_the_end_tells_of_the_end() {
        let publisher = Publisher::new();
        publisher.publish(Event::Closed { cause: None, lost: 7 });
        let all = publisher.subscribe().collect::<Vec<_>>().now_or_never().unwrap();
        assert!(matches!(all[..], [Event::Closed { lost: 7, .. }]), "{all:?}");
    }

    #[test]
    fn whoever_sees_a_state_finds_its_event() {
        let publisher = Arc::new(Publisher::new());
        let mut events = publisher.subscribe();
        let state = publisher.state();
        let publishing = std::thread::spawn({
            let publisher = publisher.clone();
            move || {
                for _ in 0..1000 {
                    publisher.publish(Event::Interrupted { cause: error() });
                    publisher.publish(connected());
                }
                publisher.publish(Event::Closed { cause: None, lost: 0 });
            }
        });
        while *state.borrow() != ConnectionState::Closed {
            std::thread::yield_now();
        }
        let all: Vec<_> = events
            .by_ref()
            .take(2001)
            .collect::<Vec<_>>()
            .now_or_never()
            .unwrap();
        publishing.join().unwrap();
        assert!(matches!(all[2000], Event::Closed { .. }));
    }

    #[test]
    fn whoever_waits_is_woken() {
        let publisher = Publisher::new();
        let mut events = publisher.subscribe();
        let mut task = tokio_test_task(&mut events);
        assert!(task().is_none());
        publisher.publish(connected());
        assert!(task().is_some());
    }

    fn tokio_test_task(events: &mut Events) -> impl FnMut() -> Option<Event> + '_ {
        move || events.next().now_or_never().flatten()
    }
}
