//! One grammar for simple, composite and nested URIs, typed into what the transports need.
//!
//! [`ClientUri`] is what a connection factory takes. Everything wrong with it, within nested URIs as well, is found
//! when it is parsed, where ActiveMQ would find it at each attempt to connect and try for ever. An option that
//! ActiveMQ knows and this library cannot honour is refused with the reason; none is accepted and ignored.
//!
//! [`Uri`] and [`Query`] are the grammar below it, for URIs of other kinds, such as those of a broker's
//! connectors.

mod discovery;
mod endpoint;
mod failover;
mod grammar;
mod place;
mod query;

use std::fmt;
use std::str::FromStr;

pub use discovery::{Agent, AgentRetry, DiscoveryUri, FanoutOptions, FanoutUri, MulticastAgent, StaticAgent};
#[cfg(feature = "tls")]
pub(crate) use endpoint::cipher_suite_name;
pub use endpoint::{Endpoint, EndpointTls, LocalBind, Scheme, SocketOptions, TlsVersion, read_wire_format};
pub use failover::{FailoverOptions, FailoverUri, UpdateUrl};
pub use grammar::{Authority, Body, Uri};
pub use query::{OptionValue, Query, QueryOption, Refused};
pub(crate) use query::{limit, multiplier, unless_negative, unless_zero};

use crate::error::{Error, Result};
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
        let mut uri = Uri::parse(text)?;
        let text = uri.text().to_owned();
        let mut options = ConnectionOptions::default();
        options.read(uri.query.take_prefix("jms."))?;
        let transport = match uri.scheme.as_str() {
            "failover" | "masterslave" => TransportUri::Failover(FailoverUri::from_uri(uri)?),
            "discovery" | "static" | "simple" => TransportUri::Discovery(DiscoveryUri::from_uri(uri)?),
            "fanout" => TransportUri::Fanout(FanoutUri::from_uri(uri)?),
            _ => TransportUri::Single(Endpoint::from_uri(uri, &Query::default())?.alone()),
        };
        Ok(Self {
            transport,
            options,
            text,
        })
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

#[cfg(test)]
mod tests;
