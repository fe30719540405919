//! `discovery:`, `fanout:` and the agents that tell them where brokers are.

use std::time::Duration;

use super::endpoint::Endpoint;
use super::failover::{FailoverOptions, FailoverUri};
use super::query::Query;
use crate::error::Result;

/// Failover over the brokers that an agent finds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DiscoveryUri {
    /// Who finds them.
    pub agent: Agent,
    /// Which of them, and when.
    pub options: FailoverOptions,
    discovered: Query,
}

/// Who finds brokers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Agent {
    /// `static:(…)` or `simple:(…)`: those listed, each for itself.
    Static(StaticAgent),
    /// `masterslave:(…)`: those listed, one at a time, the first one first.
    MasterSlave(StaticAgent),
    /// `multicast://…`: those that announce themselves in the local network.
    Multicast(MulticastAgent),
}

/// A fixed list of brokers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StaticAgent {
    /// The list.
    pub endpoints: Vec<Endpoint>,
    /// When one that failed is reported again.
    pub retry: AgentRetry,
}

/// When an agent reports a broker again that could not be reached or was lost.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AgentRetry {
    /// `initialReconnectDelay`. Default 1 second, 5 for multicast.
    pub initial_reconnect_delay: Duration,
    /// `maxReconnectDelay`. Default 30 seconds.
    pub max_reconnect_delay: Duration,
    /// `useExponentialBackOff`. Default true, false for multicast.
    pub use_exponential_back_off: bool,
    /// `backOffMultiplier`. Default 2.
    pub back_off_multiplier: f64,
    /// `maxReconnectAttempts`: how many quick failures make an end. Default none (0).
    pub max_reconnect_attempts: Option<u32>,
    /// `minConnectTime`: a connection that lived shorter is a quick failure. Default 5 seconds.
    pub min_connect_time: Duration,
}

impl Default for AgentRetry {
    fn default() -> Self {
        Self {
            initial_reconnect_delay: Duration::from_secs(1),
            max_reconnect_delay: Duration::from_secs(30),
            use_exponential_back_off: true,
            back_off_multiplier: 2.0,
            max_reconnect_attempts: None,
            min_connect_time: Duration::from_secs(5),
        }
    }
}

/// Brokers that announce themselves to a multicast group (`MulticastDiscoveryAgent`).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MulticastAgent {
    /// The address of the multicast group. Default `239.255.2.3`, which is also what `default` stands for.
    pub host: String,
    /// The port. Default 6155.
    pub port: u16,
    /// `group`: only brokers that announce the same name count. Default `default`.
    pub group: String,
    /// `timeToLive`: how many routers an announcement passes, at most 255. Default 1.
    pub time_to_live: u8,
    /// `loopBackMode`: own announcements are not wanted back. Default false.
    pub loop_back_mode: bool,
    /// `keepAliveInterval`: how often brokers announce themselves; ten missing ones are a loss. Default 500
    /// milliseconds.
    pub keep_alive_interval: Duration,
    /// `interface`: the local address to send from. Default none.
    pub interface: Option<String>,
    /// `networkInterface`: the name of the interface to send from. Default none.
    pub network_interface: Option<String>,
    /// `joinNetworkInterface`: the name of the interface to listen on. Default none.
    pub join_network_interface: Option<String>,
    /// When a broker that failed is reported again.
    pub retry: AgentRetry,
}

impl Default for MulticastAgent {
    fn default() -> Self {
        Self {
            host: "239.255.2.3".into(),
            port: 6155,
            group: "default".into(),
            time_to_live: 1,
            loop_back_mode: false,
            keep_alive_interval: Duration::from_millis(500),
            interface: None,
            network_interface: None,
            join_network_interface: None,
            retry: AgentRetry {
                initial_reconnect_delay: Duration::from_secs(5),
                use_exponential_back_off: false,
                ..AgentRetry::default()
            },
        }
    }
}

impl DiscoveryUri {
    /// The same as a fixed list, if the agent has one.
    pub fn to_failover(&self) -> Option<FailoverUri> {
        match &self.agent {
            Agent::Static(agent) | Agent::MasterSlave(agent) => Some(FailoverUri {
                endpoints: agent.endpoints.clone(),
                options: self.options.clone(),
            }),
            Agent::Multicast(_) => None,
        }
    }

    /// Parses a URI that the agent found and applies the `discovered.*` options to it.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::parse`].
    pub fn learn(&self, text: &str) -> Result<Endpoint> {
        Endpoint::parse_with(text, &self.discovered)
    }
}

/// All brokers that an agent finds, at once.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FanoutUri {
    /// Who finds them.
    pub agent: Agent,
    /// How commands are spread.
    pub options: FanoutOptions,
}

/// How `fanout:` spreads commands over brokers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FanoutOptions {
    /// `minAckCount`: how many brokers must answer a request. Default 2.
    pub min_ack_count: u32,
    /// `fanOutQueues`: messages for queues go to all brokers as well. Default false.
    pub fan_out_queues: bool,
    /// `initialReconnectDelay`, for each broker. Default 10 milliseconds.
    pub initial_reconnect_delay: Duration,
    /// `maxReconnectDelay`. Default 30 seconds.
    pub max_reconnect_delay: Duration,
    /// `reconnectDelayExponent`. Default 2.
    pub reconnect_delay_exponent: f64,
    /// `maxReconnectAttempts`. Default none (0).
    pub max_reconnect_attempts: Option<u32>,
}

impl Default for FanoutOptions {
    fn default() -> Self {
        Self {
            min_ack_count: 2,
            fan_out_queues: false,
            initial_reconnect_delay: Duration::from_millis(10),
            max_reconnect_delay: Duration::from_secs(30),
            reconnect_delay_exponent: 2.0,
            max_reconnect_attempts: None,
        }
    }
}
