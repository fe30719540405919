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
//!   [`Connection::state`] tell what happens, and the table below what each call gets.
//! * **Errors answer questions**: [`Error::is_timeout`], [`Error::is_security`], … and [`Error::retry`]: what to do
//!   now.
//! * **Options** stand in the URI with ActiveMQ's names. One that does not exist is an error, and so is one that means
//!   nothing here, such as those about Java's threads.
//! * **More than sending and receiving**: distributed transactions ([`xa`]), what brokers tell about themselves
//!   ([`advisory`]), messages that are delivered later ([`schedule`]).
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
//!   They cost little while nobody listens at that level.
//!
//! # When the connection breaks
//!
//! What a call on a `failover:` (or `masterslave:`, `discovery:`) connection gets when the connection breaks: before the
//! operation has reached a broker, while it is unanswered, or after it was answered. Waiting ends at the call's deadline
//! ([`request_timeout`](options::ConnectionOptions::request_timeout), [`send_timeout`](options::ConnectionOptions::send_timeout),
//! and for sends the failover option [`timeout`](uri::FailoverOptions::timeout)) with [`is_timeout`](Error::is_timeout).
//!
//! | | before it left | unanswered | after |
//! |---|---|---|---|
//! | [`send`](Producer::send), persistent | goes to the new broker, which answers | sent again under its old id, by which the broker recognises what it has | the broker has it |
//! | [`send_pipelined`](Producer::send_pipelined) | the same; the receipt resolves | the same | the same |
//! | `send` without waiting: non-persistent, `jms.useAsyncSend` | goes to the new broker | not sent again, and counted in [`Resumed.lost`](Event::Resumed); with `trackMessages` sent again | any later answer proves that the broker has it |
//! | [`acknowledge`](Message::acknowledge) | [`is_interrupted`](Error::is_interrupted): the message is delivered again | with `jms.sendAcksAsync=false` [`is_in_doubt`](Error::is_in_doubt): consumed, or it comes again and is acknowledged without being shown; by default it has returned, and the message, if it comes again, is acknowledged again and not shown | the broker has it |
//! | [`commit`](Session::commit) | the transaction is replayed on the new broker and committed there | sent again to a broker that keeps outcomes (`broker-lite`, for an hour by default), which tells what happened; otherwise [in doubt](CommitInDoubt) | it has happened |
//! | [`rollback`](Session::rollback) | rolled back | rolled back | rolled back |
//! | [`receive`](Consumer::receive) | waits on, for the new broker | what was dispatched and not received is dropped, and comes again; a message whose acknowledgement is being waited for (`jms.sendAcksAsync=false`) is returned, and not shown again | what was acknowledged is not shown again; what was not comes again, flagged as redelivered |
//! | [`Browser`] | browses the new broker's queue | the same | [`is_interrupted`](Error::is_interrupted): browse again |
//! | creating sessions, producers, consumers, temporary destinations | made at the new broker | asked again | restored; [`NotRestored`](Event::NotRestored) if the new broker refuses |
//! | `close` | over: it went with the connection | the same | the same |
//!
//! `broker-lite` keeps the outcome of a transaction that stored nothing, because all its messages were non-persistent, in
//! memory. If that broker is killed before it has answered such a commit, the restarted one knows nothing of it: the
//! transaction is replayed and committed, and a consumer that had its messages before the kill gets them again.
//!
//! A transaction that is open when the connection breaks goes on: what it sent is sent again to the new broker, and what it
//! received has to be delivered to its consumers once more before it can be committed. They do not show those messages a
//! second time. If another consumer got them instead, [`commit`](Session::commit) waits until a later message shows that, or as
//! long as [`consumer_failover_redelivery_wait_period`](options::ConnectionOptions::consumer_failover_redelivery_wait_period) says,
//! and then reports that the transaction [was rolled back](Error::is_rolled_back).
//!
//! A message comes again in three cases, and each time with [`redelivered`](Message::redelivered) set: it was received and not
//! acknowledged; its acknowledgement was on its way and this consumer is not the one that sent it; its transaction was rolled
//! back. A consumer that has acknowledged a message recognises it when it comes again, acknowledges it once more and does not
//! show it; [`ConnectionStats::duplicates`] counts those.
//!
//! # Features
//!
//! * `tls` (default): `ssl:` URIs, through rustls.
//! * `http` (default): lists of brokers from the web (`updateURIsURL=http://…`), through ureq.

pub mod advisory;
pub mod discovery;
#[doc(hidden)]
pub mod environment;
pub mod error;
pub mod events;
pub mod message;
pub mod options;
pub mod schedule;
pub mod transport;
pub mod uri;
pub mod wire;
pub mod xa;

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
        check::<advisory::Advisories>();
        check::<advisory::DestinationSource>();
        check::<schedule::Scheduler>();
        check::<xa::XaSession>();
        check::<Error>();
    }
}
