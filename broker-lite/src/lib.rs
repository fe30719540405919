//! A compact OpenWire message broker: embed it in a test or a service, or run it as one binary.
//!
//! [`Broker::builder`] is the front door.

mod broker;
pub mod cli;
mod config;
pub mod core;
mod error;
pub mod ha;
pub mod policy;
mod protocol;
pub mod security;
pub mod selector;
mod server;
pub mod store;

pub use broker::{Broker, BrokerBuilder, BrokerStats};
pub use config::{
    JournalSettings, LimitSettings, SchedulerSettings, Settings, StorageSettings, TlsSettings, UserSettings,
};
pub use error::BrokerError;
pub use server::ListenerStats;
