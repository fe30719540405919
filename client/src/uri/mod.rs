//! One grammar for simple, composite and nested URIs, typed into what the transports need.

mod discovery;
mod endpoint;
mod failover;
mod query;

use std::fmt;
use std::str::FromStr;

pub use discovery::{Agent, AgentRetry, DiscoveryUri, FanoutOptions, FanoutUri, MulticastAgent, StaticAgent};
pub use endpoint::{Endpoint, EndpointTls, LocalBind, Scheme, SocketOptions, TlsVersion};
pub use failover::{FailoverOptions, FailoverUri};
pub use query::Query;

use crate::error::{Error, ErrorKind, Result};
use crate::options::ConnectionOptions;

/// The URI a connection factory takes when none is given.
pub const DEFAULT_BROKER_URL: &str = "failover://tcp://localhost:61616";

/// What a client connects to and how: a URI of a connection factory.
///
/// `Display` gives the text it was parsed from, without its password.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ClientUri {
    /// Where to.
    pub transport: TransportUri,
    /// The options with the prefix `jms.`.
    pub options: ConnectionOptions,
    text: String,
}

/// The ways to reach a broker.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one for each connection factory"
)]
pub enum TransportUri {
    /// `tcp:`, `ssl:`, `vm:` and their aliases: one connection, and when it breaks it is over.
    Single(Endpoint),
    /// `failover:(…)` and `masterslave:(…)`: one of several brokers, and another one when that is gone.
    Failover(FailoverUri),
    /// `discovery:(…)` and `static:(…)`: failover over what an agent finds.
    Discovery(DiscoveryUri),
    /// `fanout:(…)`: all brokers at once.
    Fanout(FanoutUri),
}

impl ClientUri {
    /// Parses a URI, and every URI within it.
    ///
    /// # Errors
    ///
    /// [`Error::is_uri`] for whatever is wrong with it, with the place; [`Error::is_unsupported`] for an
    /// `ssl:` URI in a build without the feature `tls`.
    pub fn parse(text: &str) -> Result<Self> {
        Err(Error::new(ErrorKind::Uri, text))
    }
}

impl FromStr for ClientUri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for ClientUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
