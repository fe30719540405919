//! `failover:` and `masterslave:`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::endpoint::Endpoint;
use super::grammar::{Body, Uri};
use super::query::{Query, Refused, limit, multiplier, unless_negative};
use crate::error::Result;

/// One of several brokers, and another one when that is gone.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FailoverUri {
    /// The brokers, as listed. There is at least one, unless
    /// [`update_uris_url`](FailoverOptions::update_uris_url) is given.
    pub endpoints: Vec<Endpoint>,
    /// Which of them, and when.
    pub options: FailoverOptions,
}

/// Where a list of URIs is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateUrl {
    /// In a file.
    File(PathBuf),
    /// At an `http:` or `https:` URL.
    Http(String),
}

/// Which broker is tried next, when, and what is kept for it.
///
/// The name of each in a URI is the field's in camel case unless its documentation says otherwise.
/// Durations are whole milliseconds in a URI.
///
/// # How long connecting may take
///
/// The first time and every other time, each step has its own end, and an attempt has one in all:
///
/// | step | option | default | without an end |
/// |---|---|---|---|
/// | name, connection, TLS | `connectionTimeout` of the address | 30 s | `infinite`, 0 |
/// | the broker's `WireFormatInfo` | `negotiationTimeout` of the address | 10 s | `infinite`, 0 |
/// | the credentials provider | `ConnectionFactory::credentials_timeout` | 10 s | `None` |
/// | the answer to `ConnectionInfo` | `jms.connectResponseTimeout` | 30 s | `infinite`, 0 |
/// | all of these, for one address | `connectTimeout` | 30 s | `infinite` |
/// | each answer to what is restored | `restoreTimeout` | 30 s | `infinite` |
/// | the first connection, with all attempts | `ConnectionFactory::connect_timeout` | 60 s | `None` |
///
/// How often a connection that broke is tried again is up to `maxReconnectAttempts`, and how long a message waits for
/// it, to `timeout`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FailoverOptions {
    /// The delay before the first attempt after a connection broke, and where the back-off begins. Default none: 10
    /// milliseconds, but another broker than the one that went is tried at once, unless the last two connections both
    /// broke within [`stable_period`](Self::stable_period). ActiveMQ has 10 milliseconds in any case, and so has a
    /// URI that says so.
    pub initial_reconnect_delay: Option<Duration>,
    /// No delay is longer. Default 30 seconds.
    pub max_reconnect_delay: Duration,
    /// The delay after the first failed pass of all, in place of
    /// [`initial_reconnect_delay`](Self::initial_reconnect_delay). Default none.
    pub reconnect_delay: Option<Duration>,
    /// Each failed pass multiplies the delay. Default true.
    pub use_exponential_back_off: bool,
    /// By this (also `backOffMultiplier`, as ActiveMQ's documentation calls it), at least 1. Default 2.
    pub reconnect_delay_exponent: f64,
    /// Each delay is drawn at random between 0 and its value, so that the clients of a broker that went do not all
    /// come back at once. Default true. Not in ActiveMQ.
    pub jitter: bool,
    /// How long a connection must have lived for the delay to begin anew after it (also `minConnectTime`).
    /// Default 5 seconds. Not in ActiveMQ, where every connection counts.
    pub stable_period: Duration,
    /// How long one attempt may take in all: connection, TLS, negotiation and the broker's answer to
    /// `ConnectionInfo`. Default 30 seconds; none is `infinite`. Not in ActiveMQ.
    pub connect_timeout: Option<Duration>,
    /// How long a new broker may take for each answer to what is restored, in which case the connection counts as
    /// broken. Default 30 seconds; none is `infinite`. Not in ActiveMQ.
    pub restore_timeout: Option<Duration>,
    /// How many failed passes through the list make an end; 0 is one pass and never a reconnect. Default
    /// none (-1): no end.
    pub max_reconnect_attempts: Option<u32>,
    /// The same until the first connection is made. Default none (-1): as
    /// [`max_reconnect_attempts`](Self::max_reconnect_attempts).
    pub startup_max_reconnect_attempts: Option<u32>,
    /// The first and then every so many failed passes are worth a warning; none (0 or less) is silent.
    /// Default 10.
    pub warn_after_reconnect_attempts: Option<u32>,
    /// How long the sending of a message may wait for a connection. Default none (-1).
    pub timeout: Option<Duration>,
    /// The list is shuffled before each pass. Default true, false for `masterslave:`.
    pub randomize: bool,
    /// Spare connections to other brokers are kept open. Default false.
    pub backup: bool,
    /// How many. Default 1.
    pub backup_pool_size: u32,
    /// The brokers of [`priority_uris`](Self::priority_uris) are preferred: while connected to another one, they are
    /// tried and moved back to. Default false.
    pub priority_backup: bool,
    /// Which brokers those are (`priorityURIs`). Default empty: the first of the list.
    pub priority_uris: Vec<Endpoint>,
    /// Messages sent without waiting for the broker are kept, and sent again after a reconnect. Default false.
    pub track_messages: bool,
    /// How many bytes of them. Default 131072.
    pub max_cache_size: u32,
    /// Producers closed within a transaction are remembered until its end. Default true.
    pub track_transaction_producers: bool,
    /// The client follows a broker that tells it to connect elsewhere. Default true.
    pub reconnect_supported: bool,
    /// The client learns the other brokers' addresses from the broker (`updateURIsSupported`). Default true.
    pub update_uris_supported: bool,
    /// A list of further URIs, separated by commas or line ends, which is read before each pass (`updateURIsURL`): a
    /// path, a `file:` URL or, with the feature `http`, an `http:` or `https:` URL. One that cannot be read within 3
    /// seconds, has more than 64 KiB or holds a wrong URI changes nothing. Default none.
    pub update_uris_url: Option<UpdateUrl>,
    /// How often that list is read while there is a connection (`updateURIsInterval`). Default 30 seconds; none is
    /// `infinite`. Not in ActiveMQ.
    pub update_uris_interval: Option<Duration>,
    /// A change of that list moves a live connection, unless it is to the first of the addresses or to a preferred one
    /// (`rebalanceUpdateURIs`). Default true.
    pub rebalance_update_uris: bool,
    pub(crate) nested: Query,
}

impl Default for FailoverOptions {
    fn default() -> Self {
        Self {
            initial_reconnect_delay: None,
            max_reconnect_delay: Duration::from_secs(30),
            reconnect_delay: None,
            use_exponential_back_off: true,
            reconnect_delay_exponent: 2.0,
            jitter: true,
            stable_period: Duration::from_secs(5),
            connect_timeout: Some(Duration::from_secs(30)),
            restore_timeout: Some(Duration::from_secs(30)),
            max_reconnect_attempts: None,
            startup_max_reconnect_attempts: None,
            warn_after_reconnect_attempts: Some(10),
            timeout: None,
            randomize: true,
            backup: false,
            backup_pool_size: 1,
            priority_backup: false,
            priority_uris: Vec::new(),
            track_messages: false,
            max_cache_size: 131_072,
            track_transaction_producers: true,
            reconnect_supported: true,
            update_uris_supported: true,
            update_uris_url: None,
            update_uris_interval: Some(Duration::from_secs(30)),
            rebalance_update_uris: true,
            nested: Query::default(),
        }
    }
}

impl FailoverOptions {
    /// Where the back-off begins if [`initial_reconnect_delay`](Self::initial_reconnect_delay) does not say.
    pub const INITIAL_RECONNECT_DELAY: Duration = Duration::from_millis(10);
}

impl FailoverUri {
    /// `failover:(…)`, or `masterslave:(…)`, which is the same in order.
    pub(super) fn from_uri(mut uri: Uri) -> Result<Self> {
        let ordered = uri.scheme == "masterslave";
        let mut options = FailoverOptions {
            randomize: !ordered,
            ..FailoverOptions::default()
        };
        options.read(&mut uri.query)?;
        let components = components(&mut uri)?;
        let endpoints = options.endpoints(components)?;
        if ordered && endpoints.len() < 2 {
            return Err(uri.error("masterslave: needs at least two URIs"));
        }
        if endpoints.is_empty() && options.update_uris_url.is_none() {
            return Err(uri.error("there is no URI in the list"));
        }
        let scheme = format!("{}:", uri.scheme);
        uri.query.finish(&scheme)?;
        Ok(Self { endpoints, options })
    }
}

impl FailoverOptions {
    /// Takes the options of failover out of `query`.
    pub(super) fn read(&mut self, query: &mut Query) -> Result<()> {
        query.refuse(&REFUSED)?;
        self.nested = query.take_prefix("nested.");
        query.read("initialReconnectDelay", &mut self.initial_reconnect_delay)?;
        query.read("maxReconnectDelay", &mut self.max_reconnect_delay)?;
        query.read("reconnectDelay", &mut self.reconnect_delay)?;
        query.read("useExponentialBackOff", &mut self.use_exponential_back_off)?;
        query.read_with(
            "backOffMultiplier",
            &mut self.reconnect_delay_exponent,
            multiplier,
        )?;
        query.read_with(
            "reconnectDelayExponent",
            &mut self.reconnect_delay_exponent,
            multiplier,
        )?;
        query.read("jitter", &mut self.jitter)?;
        query.read("minConnectTime", &mut self.stable_period)?;
        query.read("stablePeriod", &mut self.stable_period)?;
        query.read_with("connectTimeout", &mut self.connect_timeout, named_limit)?;
        query.read_with("restoreTimeout", &mut self.restore_timeout, named_limit)?;
        query.read_with(
            "maxReconnectAttempts",
            &mut self.max_reconnect_attempts,
            unless_negative,
        )?;
        query.read_with(
            "startupMaxReconnectAttempts",
            &mut self.startup_max_reconnect_attempts,
            unless_negative,
        )?;
        query.read_with(
            "warnAfterReconnectAttempts",
            &mut self.warn_after_reconnect_attempts,
            |text| Ok(unless_negative(text)?.filter(|attempts| *attempts > 0)),
        )?;
        query.read_with("timeout", &mut self.timeout, unless_negative)?;
        query.read("randomize", &mut self.randomize)?;
        query.read("backup", &mut self.backup)?;
        query.read("backupPoolSize", &mut self.backup_pool_size)?;
        query.read("priorityBackup", &mut self.priority_backup)?;
        query.read("trackMessages", &mut self.track_messages)?;
        query.read("maxCacheSize", &mut self.max_cache_size)?;
        query.read("trackTransactionProducers", &mut self.track_transaction_producers)?;
        query.read("reconnectSupported", &mut self.reconnect_supported)?;
        query.read("updateURIsSupported", &mut self.update_uris_supported)?;
        query.read_with("updateURIsURL", &mut self.update_uris_url, |text| {
            UpdateUrl::parse(text).map(Some)
        })?;
        query.read_with("updateURIsInterval", &mut self.update_uris_interval, named_limit)?;
        query.read("rebalanceUpdateURIs", &mut self.rebalance_update_uris)?;
        if let Some(option) = query.take("priorityURIs") {
            let list = option.parse_as::<String>()?;
            self.priority_uris = self
                .learn_list(&list)
                .into_iter()
                .collect::<Result<_>>()
                .map_err(|error| option.error(&format!("holds a wrong URI: {error}")))?;
        }
        Ok(())
    }

    /// What is applied to every URI of the list.
    pub(super) fn nested(&self) -> &Query {
        &self.nested
    }

    /// Applies these to every URI as well; the `nested.*` options count more.
    pub(super) fn nest_before(&mut self, mut before: Query) {
        before.extend(&self.nested);
        self.nested = before;
    }

    /// What the URIs of a list are, with the `nested.*` options.
    pub(super) fn endpoints(&self, list: Vec<Uri>) -> Result<Vec<Endpoint>> {
        list.into_iter()
            .map(|uri| Endpoint::from_uri(uri, &self.nested))
            .collect()
    }

    /// Parses a URI that was learnt later (from the broker, a file or an agent) and applies the `nested.*` options to it, as to those of the list.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::parse`].
    pub fn learn(&self, text: &str) -> Result<Endpoint> {
        Endpoint::from_uri(Uri::parse(text)?, &self.nested)
    }

    /// [`learn`](Self::learn) for each URI of a comma separated list, the form in which brokers send them.
    pub fn learn_list(&self, text: &str) -> Vec<Result<Endpoint>> {
        match Uri::parse_list(text) {
            Ok(list) => list
                .into_iter()
                .map(|uri| Endpoint::from_uri(uri?, &self.nested))
                .collect(),
            Err(error) => vec![Err(error)],
        }
    }
}

/// The list of a composite URI, which has neither path nor fragment.
pub(super) fn components(uri: &mut Uri) -> Result<Vec<Uri>> {
    if !uri.path.is_empty() || uri.fragment.is_some() {
        return Err(uri.error(&format!(
            "a {}: URI has neither a path nor a #fragment",
            uri.scheme
        )));
    }
    match &mut uri.body {
        Body::List(list) => Ok(std::mem::take(list)),
        _ => Err(uri.error("there is no list of URIs")),
    }
}

/// A limit that only `infinite` lifts.
fn named_limit(text: &str) -> Result<Option<Duration>, String> {
    match limit(text)? {
        None if text != "infinite" => Err("is 0: for no limit write infinite".into()),
        limit => Ok(limit),
    }
}

impl UpdateUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let path = match text.strip_prefix("file:") {
            // An empty host, or this one, and the path.
            Some(rest) => match rest.strip_prefix("//") {
                Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
                None => rest,
            },
            None if text.contains("://") => return http(text).map(Self::Http),
            None => text,
        };
        match path {
            "" => Err("names no file".into()),
            path => Ok(Self::File(path.into())),
        }
    }
}

impl fmt::Display for UpdateUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Http(url) => f.write_str(url),
        }
    }
}

fn http(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    match url.scheme() {
        "http" | "https" if cfg!(feature = "http") => {}
        "http" | "https" => {
            return Err("needs the feature http, which is off in this build of the library".into());
        }
        _ => return Err("is neither a file nor an http: or https: URL".into()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or password, which would be shown in logs".into());
    }
    Ok(url.into())
}

const OF_CHILDREN: &str = "options of the connections in the list have the prefix nested.";

const REFUSED: [Refused; 8] = [
    (
        "nestedExtraQueryOptions",
        "write each of them with the prefix nested.",
    ),
    ("wireFormat.", OF_CHILDREN),
    ("socket.", OF_CHILDREN),
    ("soTimeout", OF_CHILDREN),
    ("keepAlive", OF_CHILDREN),
    ("connectionTimeout", OF_CHILDREN),
    ("tcpNoDelay", OF_CHILDREN),
    ("verifyHostName", OF_CHILDREN),
];
