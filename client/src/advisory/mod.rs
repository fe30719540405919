//! What brokers tell about themselves: who connects, consumes and sends, what becomes of messages, what is full
//! (ActiveMQ's advisories).
//!
//! [`Connection::advisories`](crate::Connection::advisories) listens to one of the [`topics`], or several;
//! [`Connection::destinations`](crate::Connection::destinations) keeps a list of all destinations.
//!
//! ```no_run
//! use openwire_client::advisory::{AdvisoryEvent, topics};
//! use openwire_client::{Connection, Destination};
//!
//! # async fn example(connection: Connection) -> openwire_client::Result<()> {
//! let orders = Destination::queue("Orders");
//! let mut advisories = connection.advisories(&topics::consumers(&orders)).await?;
//! connection.start().await?;
//! loop {
//!     match advisories.next().await?.event {
//!         AdvisoryEvent::ConsumerAdded { consumer, count, .. } => println!("+ {:?}: {count:?}", consumer.consumer_id),
//!         AdvisoryEvent::ConsumerRemoved { consumer, count, .. } => println!("- {consumer}: {count:?}"),
//!         _ => {}
//!     }
//! }
//! # }
//! ```

mod event;
mod source;
pub mod topics;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;

pub use event::{AboutMessage, Advisory, AdvisoryEvent};
pub use source::{DestinationListing, DestinationSource};

use crate::consumer::Consumer;
use crate::error::{Error, ErrorKind, Result};
use crate::session::Session;
use crate::wire::Destination;

/// What a broker tells on one topic or several, made by [`Connection::advisories`](crate::Connection::advisories).
///
/// A broker first tells what there is already of connections, destinations, producers and consumers, and then what
/// changes; after the break of a `failover:` connection the new broker does so again. What happened during the break, to
/// messages or otherwise, is not told. Nothing comes before [`Connection::start`](crate::Connection::start).
///
/// It is a [`Stream`], too, which ends when the connection is closed. Dropping it ends it without waiting.
#[derive(Debug)]
pub struct Advisories {
    consumer: Consumer,
    session: Session,
}

impl Advisories {
    pub(crate) async fn new(session: Session, topic: &Destination) -> Result<Self> {
        let names = topic.name().split(',').filter(|name| !name.is_empty());
        let wrong = |name: &str| !Destination::topic(name.trim()).is_advisory();
        if !topic.is_topic() || names.clone().count() == 0 || names.into_iter().any(wrong) {
            return Err(Error::new(
                ErrorKind::InvalidDestination,
                format!("{topic} is not a topic of advisories"),
            ));
        }
        Ok(Self {
            consumer: session.create_consumer(topic).await?,
            session,
        })
    }

    /// Waits for what is told next, for ever if nothing is.
    ///
    /// # Errors
    ///
    /// As [`Consumer::receive`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Result<Advisory> {
        self.consumer.receive().await.map(Advisory::of)
    }

    /// Waits for what is told next for as long as `timeout`; `None` if nothing was.
    ///
    /// # Errors
    ///
    /// As [`Consumer::receive`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Advisory>> {
        let message = self.consumer.receive_timeout(timeout).await?;
        Ok(message.map(Advisory::of))
    }

    /// What is listened to.
    pub fn topic(&self) -> &Destination {
        self.consumer.destination()
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// None today.
    pub async fn close(self) -> Result<()> {
        self.session.close().await
    }

    /// Number of the physical connection.
    fn over(&self) -> u64 {
        self.session.inner().connection.link.connection()
    }
}

impl Stream for Advisories {
    type Item = Result<Advisory>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = std::task::ready!(Pin::new(&mut self.consumer).poll_next(cx));
        Poll::Ready(message.map(|message| message.map(Advisory::of)))
    }
}
