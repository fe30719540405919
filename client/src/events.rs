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

/// Something that happened to a connection (ActiveMQ's `TransportListener` and JMS's `ExceptionListener`).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
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

/// Reports of the broker may be many and tell nothing about the state: of those, each subscriber keeps this many unread
/// ones. All are counted in the statistics of the connection.
const MAX_UNREAD_REPORTS: usize = 256;

/// The events of a connection, from the moment it was asked for ([`Connection::events`](crate::Connection::events)).
///
/// No change of state is ever left out. The stream ends after [`Event::Closed`].
#[derive(Debug)]
pub struct Events {
    mailbox: Arc<Mailbox>,
}

#[derive(Debug, Default)]
struct Mailbox {
    // Not bounded: the connection's back-off bounds how often its state can change.
    unread: Mutex<Unread>,
    reader: AtomicWaker,
}

#[derive(Debug, Default)]
struct Unread {
    events: VecDeque<Event>,
    reports: usize,
    ended: bool,
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
        matches!(self, Self::BrokerError(_) | Self::Retrying { .. })
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
    subscribers: Mutex<Vec<Weak<Mailbox>>>,
}

impl Publisher {
    pub(crate) fn new() -> Self {
        Self {
            state: watch::Sender::new(ConnectionState::Connecting),
            subscribers: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    pub(crate) fn subscribe(&self) -> Events {
        let mailbox = Arc::new(Mailbox::default());
        let mut subscribers = self.subscribers.lock();
        subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        subscribers.push(Arc::downgrade(&mailbox));
        // Under the lock, so that the end is not missed.
        mailbox.unread.lock().ended = *self.state.borrow() == ConnectionState::Closed;
        Events { mailbox }
    }

    pub(crate) fn publish(&self, event: Event) {
        let subscribers = self.subscribers.lock();
        if let Some(state) = event.state() {
            self.state.send_replace(state);
        }
        for subscriber in subscribers.iter().filter_map(Weak::upgrade) {
            let mut unread = subscriber.unread.lock();
            if event.is_report() {
                if unread.reports >= MAX_UNREAD_REPORTS {
                    continue;
                }
                unread.reports += 1;
            }
            unread.ended = matches!(event, Event::Closed { .. });
            unread.events.push_back(event.clone());
            drop(unread);
            subscriber.reader.wake();
        }
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
    fn a_subscription_after_the_end_ends_at_once() {
        let publisher = Publisher::new();
        publisher.publish(Event::Closed { cause: None, lost: 0 });
        assert!(publisher.subscribe().next().now_or_never().unwrap().is_none());
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
