//! An async, JMS-like client for Apache ActiveMQ Classic (and Amazon MQ, which is the same broker), and for every
//! other broker that speaks OpenWire.
//!
//! [`ConnectionFactory`] → [`Connection`] → [`Session`] → [`Producer`] and [`Consumer`], as in JMS:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use openwire_client::{AcknowledgeMode, ConnectionFactory, Destination, Message};
//!
//! # async fn example() -> openwire_client::Result<()> {
//! let factory = ConnectionFactory::new("failover:(tcp://broker-a:61616,tcp://broker-b:61616)")?;
//! let connection = factory.credentials("user", "password").create_connection().await?;
//! connection.start().await?;
//!
//! let session = connection.create_session(AcknowledgeMode::Transacted).await?;
//! let queue = Destination::queue("FirstQueue");
//! let producer = session.create_producer(&queue).await?;
//! producer.send("hello").await?;
//! session.commit().await?;
//!
//! let consumer = session.create_consumer(&queue).await?;
//! while let Some(message) = consumer.receive_timeout(Duration::from_secs(1)).await? {
//!     println!("{:?}", message.as_text()?);
//! }
//! session.commit().await?;
//! connection.close().await
//! # }
//! ```
//!
//! # What is worth knowing
//!
//! * **Ok means that the broker said so.** A persistent [`send`](Producer::send) outside a transaction, a
//!   [`commit`](Session::commit) and whatever else waits for an answer return `Ok` only for what was confirmed.
//!   [`send_pipelined`](Producer::send_pipelined) hands back a [`Receipt`] instead, so that one producer keeps many
//!   messages on their way.
//! * **Every wait ends.** What touches the network has a deadline; only what is named so waits for ever, such as
//!   [`receive`](Consumer::receive).
//! * **A `failover:` connection outlives its brokers.** Handles stay valid; [`Connection::events`] and
//!   [`Connection::state`] tell what happens. What was unanswered is sent again, and open transactions
//!   [go on](Session::commit). A commit without an answer is [in doubt](CommitInDoubt) unless the broker keeps outcomes, as
//!   broker-lite does.
//! * **Errors answer questions**: [`Error::is_timeout`], [`Error::is_security`], … and [`Error::retry`]: what to do
//!   now.
//! * **Options** stand in the URI with ActiveMQ's names. One that does not exist is an error, and so is one that this
//!   library does not heed yet.
//!
//! # What it tells
//!
//! * [`Connection::events`] and [`Connection::state`]: what happens to the connection, its producers and its consumers;
//!   [`Connection::stats`]: how much of everything.
//! * The log, through `tracing`, warns once of each turn for the worse and never of each message or attempt: connection
//!   interrupted and resumed, given up, sends blocked, slow consumer, not restored, messages on a connection that was never
//!   started, errors that the broker reports (every 10 seconds at most), no broker found (as `warnAfterReconnectAttempts`
//!   says).
//! * Spans: `create_connection` and `commit` at level debug; `send`, `send_pipelined` and `receive` at level trace, with the
//!   fields `destination`, `producer` or `consumer` (an id that begins with the connection's), `broker` and `message_id`.
//!   They cost next to nothing while nobody listens at that level.
//!
//! # Features
//!
//! * `tls` (default): `ssl:` URIs, through rustls.

pub mod discovery;
#[doc(hidden)]
pub mod environment;
pub mod error;
pub mod events;
pub mod message;
pub mod options;
pub mod transport;
pub mod uri;
pub mod wire;

mod connection;
mod consumer;
mod credentials;
mod deadline;
mod factory;
mod link;
mod producer;
mod session;
mod transaction;

pub use connection::temporary::TemporaryDestination;
pub use connection::{Connection, ConnectionMetadata, ConnectionStats};
pub use consumer::{Browser, Consumer, ConsumerOptions, Listener};
pub use credentials::{Credentials, CredentialsProvider};
pub use error::{CommitInDoubt, Error, Result, Retry, Unfinished};
pub use events::{ConnectionState, Event, Events};
pub use factory::ConnectionFactory;
pub use link::{EndpointFailure, EndpointSource, EndpointState, EndpointStatus};
pub use message::{DeliveryMode, Message};
pub use producer::{Producer, Receipt, SendOptions};
pub use session::{AcknowledgeMode, Session};
pub use uri::Endpoint;
pub use wire::{Destination, DestinationKind, MessageKind, Value, ValueMap};

#[cfg(test)]
mod tests {
    use super::*;

    /// Every handle can be moved into a task and shared between tasks.
    #[test]
    fn handles_are_send_and_sync() {
        fn check<T: Send + Sync + 'static>() {}
        check::<ConnectionFactory>();
        check::<Connection>();
        check::<Session>();
        check::<Producer>();
        check::<Consumer>();
        check::<Listener>();
        check::<Receipt>();
        check::<Events>();
        check::<Message>();
        check::<TemporaryDestination>();
        check::<Error>();
    }
}
