//! What is known of the addresses of a connection.

use std::time::SystemTime;

use crate::error::Error;
use crate::uri::Endpoint;

/// One address that a connection may use, and how it does
/// ([`Connection::endpoints`](crate::Connection::endpoints)).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// The address.
    pub endpoint: Endpoint,
    /// Where it is from; if from several, the first of them in the order of [`EndpointSource`].
    pub source: EndpointSource,
    /// What it is used for now.
    pub state: EndpointState,
    /// How many attempts to connect to it have failed and how many connections to it have broken.
    pub failed_attempts: u64,
    /// The last of those.
    pub last_failure: Option<EndpointFailure>,
}

/// Why and when an address was of no use.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EndpointFailure {
    /// Why.
    pub error: Error,
    /// When.
    pub at: SystemTime,
}

/// Where an address is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndpointSource {
    /// A discovery agent found it.
    Discovered,
    /// A broker told of it (`connectedBrokers`).
    Broker,
    /// It is in the list of `updateURIsURL`.
    UpdateUrl,
    /// It is in the URI of the connection factory, or a broker has sent its clients there (`reconnectTo`).
    Configured,
}

/// What an address is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndpointState {
    /// The connection is to this broker.
    Current,
    /// A spare connection to this broker is kept (`backup`, `priorityBackup`).
    Backup,
    /// There is no connection to it.
    Idle,
}
