//! An async, JMS-like client for Apache ActiveMQ Classic (and Amazon MQ, which is the same broker).

pub mod error;
pub mod events;
pub mod message;
pub mod options;
pub mod transport;
pub mod uri;
pub mod wire;

mod connection;
mod consumer;
mod factory;
mod link;
mod producer;
mod session;
mod transaction;

pub use connection::temporary::TemporaryDestination;
pub use connection::{Connection, ConnectionMetadata, ConnectionStats};
pub use consumer::{Consumer, ConsumerOptions, Listener};
pub use error::{Error, Result, Retry};
pub use events::{ConnectionState, Event, Events};
pub use factory::ConnectionFactory;
pub use message::{DeliveryMode, Message};
pub use producer::{Producer, Receipt, SendOptions};
pub use session::{AcknowledgeMode, Session};
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
