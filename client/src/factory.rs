//! JMS `ConnectionFactory`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::connection::advisories::consumer_info;
use crate::connection::ids::{CLIENT_IDS, CONNECTION_IDS};
use crate::connection::{Connection, ConnectionInner, Hub, Numbers};
use crate::credentials::{CredentialsProvider, Provider};
use crate::discovery::MulticastDiscovery;
use crate::error::{Error, ErrorKind, Result};
use crate::link::{Config, Fanout, FanoutConfig, Guard, Link, Single};
use crate::options::{ConnectionOptions, Password};
use crate::transport::TlsOptions;
use crate::uri::{
    Agent, ClientUri, DEFAULT_BROKER_URL, DiscoveryUri, Endpoint, FailoverOptions, FanoutUri, TransportUri,
};
use crate::wire::{ConnectionId, ConnectionInfo};

/// How long [`ConnectionFactory::create_connection`] tries unless it is told otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a credentials provider may take unless it is told otherwise: less than the 30 seconds a broker waits for a
/// client that says nothing.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes connections to the brokers of a URI (JMS `ConnectionFactory`, `ActiveMQConnectionFactory`).
///
/// ```no_run
/// use openwire_client::ConnectionFactory;
///
/// # async fn run() -> openwire_client::Result<()> {
/// let connection = ConnectionFactory::new("failover:(tcp://a:61616,tcp://b:61616)")?
///     .credentials("shop", "secret")
///     .create_connection()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ConnectionFactory {
    uri: ClientUri,
    tls: TlsOptions,
    connect_timeout: Option<Duration>,
    credentials_provider: Option<Arc<dyn CredentialsProvider>>,
    credentials_timeout: Option<Duration>,
}

impl ConnectionFactory {
    /// A factory for a URI such as `tcp://localhost:61616?jms.useAsyncSend=true`.
    ///
    /// # Errors
    ///
    /// [`is_uri`](Error::is_uri) with the place and the reason, for whatever is wrong with the URI;
    /// [`is_unsupported`](Error::is_unsupported) for what this library cannot do.
    pub fn new(uri: &str) -> Result<Self> {
        let uri = ClientUri::parse(uri)?;
        Ok(Self {
            uri,
            tls: TlsOptions::default(),
            connect_timeout: Some(CONNECT_TIMEOUT),
            credentials_provider: None,
            credentials_timeout: Some(CREDENTIALS_TIMEOUT),
        })
    }

    /// A factory for [`DEFAULT_BROKER_URL`], as `new ActiveMQConnectionFactory()` makes one.
    ///
    /// # Errors
    ///
    /// None: the URI is fine.
    pub fn local() -> Result<Self> {
        Self::new(DEFAULT_BROKER_URL)
    }

    /// Who connects (`setUserName`, `setPassword`).
    #[must_use]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<Password>) -> Self {
        self.uri.options.user_name = Some(user.into());
        self.uri.options.password = Some(password.into());
        self
    }

    /// Who connects, asked for each time the client introduces itself to a broker: when the connection is made and after
    /// every break. Counts more than [`credentials`](Self::credentials).
    ///
    /// An error of the provider, and its panic, is a failed attempt: of a `failover:` connection, not the last one. A
    /// broker that refuses the credentials after a break is tried again as well, with those the provider gives then,
    /// for as long as `maxReconnectAttempts` allows; fixed credentials that every broker refuses end the connection.
    #[must_use]
    pub fn credentials_provider(mut self, provider: impl CredentialsProvider) -> Self {
        self.credentials_provider = Some(Arc::new(provider));
        self
    }

    /// How long the [`credentials_provider`](Self::credentials_provider) may take each time; `None` is for ever. Default
    /// 10 seconds.
    #[must_use]
    pub fn credentials_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.credentials_timeout = limit.into();
        self
    }

    /// The client id of the connections (`setClientID`). Only one connection at a time can have it.
    #[must_use]
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.uri.options.client_id = Some(id.into());
        self
    }

    /// Certificates and keys for `ssl:` URIs.
    #[must_use]
    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.tls = options;
        self
    }

    /// How long [`create_connection`](Self::create_connection) may take, with all its attempts; `None` is for ever. Default 60
    /// seconds.
    #[must_use]
    pub fn connect_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.connect_timeout = limit.into();
        self
    }

    /// The URI.
    pub fn uri(&self) -> &ClientUri {
        &self.uri
    }

    /// The options of the connections, as the URI has set them.
    pub fn options(&self) -> &ConnectionOptions {
        &self.uri.options
    }

    /// The options of the connections, to be changed.
    pub fn options_mut(&mut self) -> &mut ConnectionOptions {
        &mut self.uri.options
    }

    /// Connects (`createConnection`): the connection is accepted by the broker when this returns. Nothing is delivered
    /// before [`Connection::start`].
    ///
    /// With a `failover:` URI all addresses are tried again and again, for as long as
    /// [`connect_timeout`](Self::connect_timeout) and `startupMaxReconnectAttempts` allow.
    ///
    /// # Errors
    ///
    /// [`is_security`](Error::is_security) for wrong credentials; [`is_invalid_client_id`](Error::is_invalid_client_id) if
    /// the client id is in use; [`is_io`](Error::is_io) and [`is_timeout`](Error::is_timeout) if there is no broker;
    /// [`is_unsupported`](Error::is_unsupported) for what this library cannot do;
    /// [`is_illegal_state`](Error::is_illegal_state) outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped there is no connection.
    #[tracing::instrument(level = "debug", skip_all, fields(uri = %self.uri))]
    pub async fn create_connection(&self) -> Result<Connection> {
        let (endpoints, failover) = self.transport()?;
        let options = self.uri.options.clone();
        let prefix = options.connection_id_prefix.as_deref();
        let id = ConnectionId::new(CONNECTION_IDS.next(prefix));
        let client_id: Arc<str> = match &options.client_id {
            Some(id) => id.as_str().into(),
            None => CLIENT_IDS.next(options.client_id_prefix.as_deref()).into(),
        };
        let survives_breaks = failover
            .as_ref()
            .is_some_and(|failover| failover.max_reconnect_attempts != Some(0));
        let connection_info = ConnectionInfo {
            connection_id: Some(id.clone()),
            client_id: Some(client_id.clone()),
            user_name: options.user_name.as_deref().map(Into::into),
            password: options.password.as_ref().map(|password| password.expose().into()),
            manageable: true,
            client_master: true,
            fault_tolerant: failover.is_some(),
            ..ConnectionInfo::default()
        };
        let send_patience = failover.as_ref().and_then(|failover| failover.timeout);
        let attempt_timeout = match &failover {
            Some(failover) => failover.connect_timeout,
            None => self.connect_timeout,
        };
        let hub = Arc::new(Hub::new());
        let discovered = self.discovered().await?;
        let config = Config {
            endpoints,
            discovered: None,
            attempt_timeout,
            failover,
            tls: self.tls.clone(),
            connection_info,
            credentials: self.credentials_provider.clone().map(|provider| Provider {
                provider,
                timeout: self.credentials_timeout,
            }),
            accept_timeout: options.connect_response_timeout,
            close_timeout: options.close_timeout,
        };
        let (link, ready) = match &self.uri.transport {
            TransportUri::Fanout(uri) => {
                let config = FanoutConfig {
                    brokers: uri.agent.brokers(),
                    discovered,
                    options: uri.options.clone(),
                    link: config,
                };
                let (link, ready) = Fanout::start(config, hub.clone())?;
                (Link::Fanout(link), ready)
            }
            _ => {
                let (link, ready) = Single::start(Config { discovered, ..config }, hub.clone())?;
                (Link::Single(link), ready)
            }
        };
        let accepted = async {
            ready.await.unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::Closed,
                    "the runtime of the connection is gone",
                ))
            })
        };
        match self.connect_timeout {
            None => accepted.await?,
            Some(limit) => tokio::time::timeout(limit, accepted).await.map_err(|_| {
                Error::new(
                    ErrorKind::Timeout,
                    format!("no broker accepted the connection within {limit:?}"),
                )
            })??,
        }
        if options.watch_topic_advisories {
            // Not waited for: a broker that keeps its advisories to itself is as good as any other.
            link.post_request(Box::new(consumer_info(&id)), Guard::Always)?;
        }
        Ok(Connection::new(ConnectionInner {
            link,
            hub,
            id,
            client_id,
            options,
            survives_breaks,
            send_patience,
            sessions: Mutex::default(),
            numbers: Numbers::default(),
            closed: AtomicBool::new(false),
        }))
    }

    /// The addresses, and what happens when a connection breaks.
    fn transport(&self) -> Result<(Vec<Endpoint>, Option<FailoverOptions>)> {
        match &self.uri.transport {
            TransportUri::Single(endpoint) => Ok((vec![endpoint.clone()], None)),
            TransportUri::Failover(uri) => Ok((uri.endpoints.clone(), Some(uri.options.clone()))),
            TransportUri::Discovery(uri) => match uri.to_failover() {
                Some(uri) => Ok((uri.endpoints, Some(uri.options))),
                None => Ok((Vec::new(), Some(uri.options.clone()))),
            },
            // Each of its links has its own.
            TransportUri::Fanout(_) => Ok((Vec::new(), Some(FailoverOptions::default()))),
        }
    }

    /// The brokers that are announced by multicast. The agent runs for as long as somebody has the receiver.
    async fn discovered(&self) -> Result<Option<watch::Receiver<Vec<String>>>> {
        match &self.uri.transport {
            TransportUri::Discovery(DiscoveryUri {
                agent: Agent::Multicast(agent),
                ..
            })
            | TransportUri::Fanout(FanoutUri {
                agent: Agent::Multicast(agent),
                ..
            }) => Ok(Some(MulticastDiscovery::start(agent).await?.services())),
            _ => Ok(None),
        }
    }
}

impl fmt::Debug for ConnectionFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionFactory")
            .field("uri", &self.uri)
            .field("connect_timeout", &self.connect_timeout)
            .field("credentials_provider", &self.credentials_provider.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_uri_is_said_at_once_and_with_its_place() {
        let mut wrong = Vec::new();
        for (uri, at, what) in [
            ("", 0, "empty"),
            ("nonsense", 0, "no scheme"),
            ("tcp://h:1?bogus=1", 10, "option bogus"),
            ("tcp://h:99999", 8, "port number"),
            ("tcp://h:0", 0, "port 0"),
            ("failover:()", 0, "no URI in the list"),
            ("failover:(tcp://a:1,,tcp://b:1)", 20, "empty"),
            ("failover:(tcp://a:1", 9, "no )"),
            ("failover:((tcp://a:1))", 10, "no scheme"),
            ("failover:(failover:(tcp://a:1))", 10, "is a list"),
            ("failover:(tcp://a:1,tcp://b:99999)", 28, "port number"),
            ("failover:(tcp://a:1)?bogus=1", 21, "option bogus"),
            ("failover:(tcp://a:1?bogus=1)", 20, "option bogus"),
            ("failover:(tcp://a:1?randomize=false)", 20, "randomize"),
            ("failover:(tcp://a:1)?nested.bogus=1", 21, "nested.bogus"),
            (
                "failover:(tcp://a:1)?maxReconnectAttempts=many",
                21,
                "maxReconnectAttempts",
            ),
            ("failover:(tcp://a:1)?jms.bogus=1", 21, "jms.bogus"),
            ("masterslave:(tcp://a:1)", 0, "at least two"),
            ("static:()", 0, "at least 1"),
            ("static:(tcp://a:1?bogus=1)", 18, "option bogus"),
            ("discovery:(tcp://a:1)", 11, "not a discovery agent"),
            ("discovery:(static:(tcp://a:1))?bogus=1", 31, "option bogus"),
        ] {
            let error = ConnectionFactory::new(uri).unwrap_err();
            let text = error.to_string();
            if !error.is_uri() || !text.contains(what) || !text.contains(&format!("(byte {at} of")) {
                wrong.push(format!("{uri}: {text}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let factory = ConnectionFactory::new("tcp://a:1?jms.password=secret").unwrap();
        let factory = factory.credentials("me", "hidden");
        let shown = format!("{factory:?}");
        assert!(!shown.contains("secret") && !shown.contains("hidden"), "{shown}");
    }
}
