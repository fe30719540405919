//! A connection of the load, and the next one when it is over for good.

use std::fmt;
use std::time::Duration;

use futures::StreamExt;
use openwire_client::{AcknowledgeMode, Connection, ConnectionState, Event, Events, Result, Session};
use tokio::time::sleep;
use tracing::{info, warn};

use super::books::Books;
use super::run::{Shared, SharedBooks};

/// Between two attempts to replace a connection that is over for good: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Before something is tried again that the broker refused.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// A connection with its session.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) connection: Connection,
    pub(super) session: Session,
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    Producer(usize),
    Consumer(usize),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Producer(number) => write!(f, "producer {number}"),
            Self::Consumer(number) => write!(f, "consumer {number}"),
        }
    }
}

impl Line {
    /// Connects, and notes from then on what happens to the connection.
    pub(super) async fn open(shared: &Shared, role: Role) -> Result<Self> {
        let connection = shared.factory.create_connection().await?;
        let mode = match shared.plan.transacted {
            Some(_) => AcknowledgeMode::Transacted,
            None => AcknowledgeMode::Auto,
        };
        let session = connection.create_session(mode).await?;
        shared
            .watchers
            .lock()
            .spawn(watch(connection.events(), shared.books.clone(), role));
        Ok(Self { connection, session })
    }

    /// Nothing can be done with it any more.
    pub(super) fn is_over(&self) -> bool {
        *self.connection.state().borrow() == ConnectionState::Closed
    }
}

/// Tries until it succeeds, as a service would whose connection is over for good.
pub(super) async fn replace<T, F: Future<Output = Result<T>>>(
    shared: &Shared,
    role: Role,
    mut open: impl FnMut() -> F,
) -> T {
    let (mut delay, longest) = RETRY;
    let mut warned = false;
    loop {
        match open().await {
            Ok(opened) => {
                info!("{role} is connected again");
                let mut books = shared.books.lock();
                books.reconnected();
                disturb(&mut books, role);
                return opened;
            }
            Err(error) if !warned => warn!("{role} cannot connect again, and goes on trying: {error}"),
            Err(_) => {}
        }
        warned = true;
        sleep(delay).await;
        delay = longest.min(delay * 2);
    }
}

async fn watch(mut events: Events, books: SharedBooks, role: Role) {
    while let Some(event) = events.next().await {
        match event {
            Event::Interrupted { .. } => disturb(&mut books.lock(), role),
            Event::Resumed { .. } => {
                let mut books = books.lock();
                books.reconnected();
                disturb(&mut books, role);
            }
            Event::Closed {
                cause: Some(cause), ..
            } => {
                warn!("the connection of {role} is over: {cause}");
                disturb(&mut books.lock(), role);
            }
            _ => {}
        }
    }
}

fn disturb(books: &mut Books, role: Role) {
    if let Role::Consumer(consumer) = role {
        books.disturbed(consumer);
    }
}
