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

pub use error::{Error, Result, Retry};
pub use message::{DeliveryMode, Message};
pub use wire::{Destination, DestinationKind, MessageKind, Value, ValueMap};
