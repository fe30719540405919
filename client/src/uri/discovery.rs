//! `discovery:`, `fanout:` and the agents that tell them where brokers are.

use std::time::Duration;

use super::endpoint::Endpoint;
use super::failover::{FailoverOptions, FailoverUri, components};
use super::grammar::{Body, Uri};
use super::query::{OptionValue, Query, Refused, multiplier, unless_zero};
use crate::error::Result;

const MULTICAST_HOST: &str = "239.255.2.3";
const MULTICAST_PORT: u16 = 6155;

/// Failover over the brokers that an agent finds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DiscoveryUri {
    /// Who finds them.
    pub agent: Agent,
    /// Which of them, and when. Its [`learn`](FailoverOptions::learn) is for what the agent finds as well: it
    /// applies the `discovered.*` options with the `nested.*` ones.
    pub options: FailoverOptions,
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
    /// When one that failed is reported again. For networks of brokers, as with [`MulticastAgent::retry`].
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
    /// `minConnectTime`: a connection that lived shorter is a quick failure. Default 5 seconds. Not for multicast, where
    /// ActiveMQ does not know it.
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
    /// When a broker that failed is reported again. For networks of brokers: a client does not report failures to its
    /// agent, so these options are refused within `discovery:` and `fanout:`.
    pub retry: AgentRetry,
}

impl Default for MulticastAgent {
    fn default() -> Self {
        Self {
            host: MULTICAST_HOST.into(),
            port: MULTICAST_PORT,
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

impl Agent {
    /// Parses the URI of an agent, as it is within `discovery:(…)` and as brokers have it for their networks.
    ///
    /// # Errors
    ///
    /// [`Error::is_uri`](crate::Error::is_uri) with what is wrong and where.
    pub fn parse(text: &str) -> Result<Self> {
        Self::from_uri(Uri::parse(text)?, &Query::default())
    }

    /// The brokers it knows of by itself, each with its addresses: a master has those of its slaves as well.
    pub(crate) fn brokers(&self) -> Vec<Vec<Endpoint>> {
        match self {
            Self::Static(agent) => agent.endpoints.iter().map(|one| vec![one.clone()]).collect(),
            Self::MasterSlave(agent) => vec![agent.endpoints.clone()],
            Self::Multicast(_) => Vec::new(),
        }
    }

    /// Makes a URI one of an agent; the options `discovered` count more than those of the URIs in its list.
    fn from_uri(mut uri: Uri, discovered: &Query) -> Result<Self> {
        match uri.scheme.as_str() {
            "static" | "simple" => StaticAgent::from_uri(&mut uri, discovered).map(Self::Static),
            "masterslave" => StaticAgent::from_uri(&mut uri, discovered).map(Self::MasterSlave),
            "multicast" => MulticastAgent::from_uri(uri).map(Self::Multicast),
            "zeroconf" | "rendezvous" | "http" => Err(uri.error(&format!(
                "the agent {}: is known to ActiveMQ but not supported here",
                uri.scheme
            ))),
            other => Err(uri.error(&format!(
                "{other}: is not a discovery agent, such as static:(…) or multicast://default"
            ))),
        }
    }

    /// The agent that a URI such as `discovery:(…)` has as its only component.
    fn within(mut uri: Uri, discovered: &Query) -> Result<Self> {
        let mut list = components(&mut uri)?.into_iter();
        match (list.next(), list.next()) {
            (Some(agent), None) => Self::from_uri(agent, discovered),
            (None, _) => Err(uri.error(&format!("{}: needs a discovery agent", uri.scheme))),
            (_, Some(second)) => Err(second.error(&format!(
                "{}: takes one discovery agent; a list of brokers is written {}:(static:(…))",
                uri.scheme, uri.scheme
            ))),
        }
    }
}

impl StaticAgent {
    fn from_uri(uri: &mut Uri, discovered: &Query) -> Result<Self> {
        let endpoints = components(uri)?
            .into_iter()
            .map(|uri| Endpoint::from_uri(uri, discovered))
            .collect::<Result<Vec<_>>>()?;
        let least = if uri.scheme == "masterslave" { 2 } else { 1 };
        if endpoints.len() < least {
            return Err(uri.error(&format!("{}: needs at least {least} URIs", uri.scheme)));
        }
        let mut query = std::mem::take(&mut uri.query);
        let mut retry = AgentRetry::default();
        retry.read(&mut query)?;
        query.read("minConnectTime", &mut retry.min_connect_time)?;
        query.finish(&format!("{}:", uri.scheme))?;
        Ok(Self { endpoints, retry })
    }
}

impl MulticastAgent {
    fn from_uri(uri: Uri) -> Result<Self> {
        let (host, port) = match &uri.body {
            Body::Authority(authority) if !authority.host.is_empty() => (&authority.host, authority.port),
            _ => return Err(uri.error("multicast: needs an address, as in multicast://default")),
        };
        if !uri.path.is_empty() || uri.fragment.is_some() {
            return Err(uri.error("a multicast: URI has neither a path nor a #fragment"));
        }
        let mut agent = Self::default();
        if host != "default" {
            agent.host.clone_from(host);
        }
        agent.port = port.unwrap_or(MULTICAST_PORT);
        let mut query = uri.query;
        query.read("group", &mut agent.group)?;
        query.read("timeToLive", &mut agent.time_to_live)?;
        query.read("loopBackMode", &mut agent.loop_back_mode)?;
        query.read_with("keepAliveInterval", &mut agent.keep_alive_interval, |text| {
            match Duration::from_text(text)? {
                Duration::ZERO => Err("is 0".into()),
                interval => Ok(interval),
            }
        })?;
        query.read("interface", &mut agent.interface)?;
        query.read("networkInterface", &mut agent.network_interface)?;
        query.read("joinNetworkInterface", &mut agent.join_network_interface)?;
        agent.retry.read(&mut query)?;
        query.finish("multicast:")?;
        Ok(agent)
    }
}

impl AgentRetry {
    fn read(&mut self, query: &mut Query) -> Result<()> {
        query.read("initialReconnectDelay", &mut self.initial_reconnect_delay)?;
        query.read("maxReconnectDelay", &mut self.max_reconnect_delay)?;
        query.read("useExponentialBackOff", &mut self.use_exponential_back_off)?;
        query.read_with("backOffMultiplier", &mut self.back_off_multiplier, multiplier)?;
        query.read_with(
            "maxReconnectAttempts",
            &mut self.max_reconnect_attempts,
            unless_zero,
        )
    }
}

impl DiscoveryUri {
    /// `discovery:(agent)`, or `static:(…)` for `discovery:(static:(…))`.
    pub(super) fn from_uri(mut uri: Uri) -> Result<Self> {
        let scheme = format!("{}:", uri.scheme);
        let mut query = std::mem::take(&mut uri.query);
        let mut options = FailoverOptions::default();
        if has_order(&uri) {
            options.randomize = false;
        }
        let discovered = query.take_prefix("discovered.");
        options.read(&mut query)?;
        query.finish(&scheme)?;
        options.nest_before(discovered);
        let agent = if scheme == "discovery:" {
            refuse_retry(&uri)?;
            Agent::within(uri, options.nested())?
        } else {
            Agent::from_uri(uri, options.nested())?
        };
        Ok(Self { agent, options })
    }

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
}

/// Whether the agent is one whose list has an order.
fn has_order(uri: &Uri) -> bool {
    matches!(&uri.body, Body::List(list) if list.first().is_some_and(|agent| agent.scheme == "masterslave"))
}

/// A client does not tell its agent what failed, in ActiveMQ as here: its own options decide when a broker is tried
/// again, and those of the agent would be ignored.
fn refuse_retry(uri: &Uri) -> Result<()> {
    const WHY: &str = "for a client it goes behind the last parenthesis, as in discovery:(static:(…))?…";
    const REFUSED: [Refused; 6] = [
        ("initialReconnectDelay", WHY),
        ("maxReconnectDelay", WHY),
        ("useExponentialBackOff", WHY),
        ("backOffMultiplier", WHY),
        ("maxReconnectAttempts", WHY),
        ("minConnectTime", WHY),
    ];
    match &uri.body {
        Body::List(list) => list.iter().try_for_each(|agent| agent.query.refuse(&REFUSED)),
        _ => Ok(()),
    }
}

/// All brokers that an agent finds, at once (`FanoutTransport`).
///
/// `fanout:(static:(tcp://a:61616,tcp://b:61616))` or `fanout:(multicast://default)`. The connection is there, and
/// sends go out, while at least [`min_ack_count`](FanoutOptions::min_ack_count) brokers are connected; until then
/// they wait. Each broker is connected to again by itself. `masterslave:(…)` as the agent is one broker, at one of
/// several addresses.
///
/// | what | goes to | is answered when |
/// |---|---|---|
/// | a message for a topic, and for a queue with `fanOutQueues` | all that are connected | `minAckCount` have confirmed it |
/// | a message for a queue | the primary alone | it has confirmed it |
/// | sessions, producers, temporary destinations | all, and one that comes later when it comes | `minAckCount` have |
/// | consumers, browsers, acknowledgements | the primary alone | it has confirmed them |
/// | commit | all that have the whole transaction | see below |
///
/// **One broker refuses.** If enough others confirm, the request has succeeded, and the refusal is
/// [`Event::BrokerError`](crate::Event::BrokerError). Otherwise the request fails with it, as soon as enough
/// confirmations are out of reach; those that confirmed have the message. (ActiveMQ counts a refusal as an answer.)
///
/// **One broker breaks.** What it had not answered is sent again once it is back, unless enough others had answered
/// already; it misses what is sent meanwhile. If enough are left there is an
/// [`Event::BrokerError`](crate::Event::BrokerError) and nothing else happens; if not, the connection is interrupted
/// until there are enough again. A broker that cannot be reached in
/// [`max_reconnect_attempts`](FanoutOptions::max_reconnect_attempts) passes ends the connection. One that refuses the connection, once there was
/// one, is left out as long as enough others can be there.
///
/// **The primary breaks**, the first broker that was connected. The next one that is connected becomes the primary
/// and gets all consumers; what they had received and not acknowledged counts as it does after any break, only that the
/// broker that has it still is the old one, where it stays. A request for it alone, such as a message for a queue,
/// waits until it is back, within its own time limit.
///
/// **Transactions** can only send: consumers in transacted sessions are refused, because an acknowledgement at one
/// broker and messages at several cannot be committed as one. A broker is part of a transaction if it was connected at its
/// first message and whenever something follows; one that was not is told to roll back. If fewer than
/// `minAckCount` are part of it, or the one that has its messages for queues is not, it is rolled back. Brokers commit
/// each for itself: if enough of them have, and the one with the messages for queues is among them, the commit has succeeded; if none has, it has
/// failed; in between it is [in doubt](crate::Error::is_in_doubt).
///
/// **Discovered brokers** that are announced are added, at most 64. One that falls silent is dropped unless it is
/// connected: a connection counts more than an announcement.
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
    /// `minAckCount`: how many brokers must be connected for anything to be sent, and confirm a request. Default 2; at least 1,
    /// and no more than are listed.
    pub min_ack_count: u32,
    /// `fanOutQueues`: messages for queues go to all brokers as well. Default false.
    pub fan_out_queues: bool,
    /// `initialReconnectDelay`, for each broker. Default 10 milliseconds.
    pub initial_reconnect_delay: Duration,
    /// `maxReconnectDelay`. Default 30 seconds.
    pub max_reconnect_delay: Duration,
    /// `reconnectDelayExponent`. Default 2.
    pub reconnect_delay_exponent: f64,
    /// `maxReconnectAttempts`: how many failed attempts to reach one broker end the connection. Default none (0).
    pub max_reconnect_attempts: Option<u32>,
}

impl FanoutUri {
    /// `fanout:(agent)`
    pub(super) fn from_uri(mut uri: Uri) -> Result<Self> {
        let mut query = std::mem::take(&mut uri.query);
        let mut options = FanoutOptions::default();
        query.read("minAckCount", &mut options.min_ack_count)?;
        query.read("fanOutQueues", &mut options.fan_out_queues)?;
        query.read("initialReconnectDelay", &mut options.initial_reconnect_delay)?;
        query.read("maxReconnectDelay", &mut options.max_reconnect_delay)?;
        query.read_with(
            "reconnectDelayExponent",
            &mut options.reconnect_delay_exponent,
            multiplier,
        )?;
        query.read_with(
            "maxReconnectAttempts",
            &mut options.max_reconnect_attempts,
            unless_zero,
        )?;
        query.finish("fanout:")?;
        refuse_retry(&uri)?;
        let place = uri.clone();
        let agent = Agent::within(uri, &Query::default())?;
        let brokers = agent.brokers().len();
        if options.min_ack_count == 0 {
            return Err(place.error("minAckCount is 0: somebody must answer"));
        }
        if !matches!(agent, Agent::Multicast(_)) && brokers < options.min_ack_count as usize {
            return Err(place.error(&format!(
                "minAckCount is {}, which {brokers} brokers can never reach",
                options.min_ack_count
            )));
        }
        Ok(Self { agent, options })
    }
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
