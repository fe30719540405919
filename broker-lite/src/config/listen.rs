//! Where a broker listens: bind URIs and their options.

use std::fmt;
use std::time::Duration;

use openwire_client::Result;
use openwire_client::uri::{Body, OptionValue, Uri, read_wire_format};
use openwire_client::wire::WireFormatOptions;

/// `backlog`: connections the system keeps until they are accepted. ActiveMQ asks for 5000; the kernel's own
/// limit cuts either down.
const BACKLOG: u32 = 1024;

/// `connectAttemptTimeout`: how long a client may take to send its first frame.
const CONNECT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// A parsed bind URI: what to listen on, and how to treat those who connect there.
#[derive(Debug, Clone)]
pub(crate) struct ListenUri {
    pub(crate) endpoint: Endpoint,
    /// `maximumConnections`; beyond it a new connection is closed at once.
    pub(crate) maximum_connections: usize,
    pub(crate) backlog: u32,
    pub(crate) connect_attempt_timeout: Duration,
    /// `useInactivityMonitor`.
    pub(crate) inactivity_monitor: bool,
    /// `useKeepAlive`: false never sends `KeepAliveInfo`.
    pub(crate) keep_alive: bool,
    /// `tcpNoDelay`; what was negotiated, if unset.
    pub(crate) tcp_no_delay: Option<bool>,
    pub(crate) wire: WireFormatOptions,
}

/// What is listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Tcp {
        host: String,
        port: u16,
    },
    Tls {
        host: String,
        port: u16,
        client_auth: ClientAuth,
    },
    /// Reached from the same process only.
    Vm {
        name: String,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Vm { name } => return write!(f, "vm://{name}"),
            Self::Tcp { host, port } => ("tcp", host, port),
            Self::Tls { host, port, .. } => ("ssl", host, port),
        };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

/// What a TLS listener wants of its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ClientAuth {
    /// No certificate.
    None,
    /// `wantClientAuth`: a certificate is checked if there is one.
    Want,
    /// `needClientAuth`.
    Need,
}

impl ListenUri {
    /// A listener for the same process.
    pub(crate) fn vm(name: &str) -> Self {
        Self::new(Endpoint::Vm {
            name: name.to_owned(),
        })
    }

    /// Parses a bind URI.
    ///
    /// # Errors
    ///
    /// [`openwire_client::Error::is_uri`] if there is no such listener, or for an option that is unknown or
    /// cannot be, with its name and place.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut uri = Uri::parse(text)?;
        let mut listen = Self::new(endpoint(&uri)?);
        let is_tcp = !matches!(listen.endpoint, Endpoint::Vm { .. });

        let query = &mut uri.query;
        query.read("maximumConnections", &mut listen.maximum_connections)?;
        if is_tcp {
            query.read("backlog", &mut listen.backlog)?;
        }
        read_wire_format(query, &mut listen.wire)?;
        // ActiveMQ has the options of accepted connections behind this prefix, and some of them without it.
        let mut accepted = query.take_prefix("transport.");
        for query in [&mut uri.query, &mut accepted] {
            query.read_with(
                "connectAttemptTimeout",
                &mut listen.connect_attempt_timeout,
                |text| match u32::from_text(text)? {
                    0 => Err("is 0: a client that never says anything cannot be kept".to_owned()),
                    millis => Ok(Duration::from_millis(millis.into())),
                },
            )?;
            query.read("useInactivityMonitor", &mut listen.inactivity_monitor)?;
            query.read("useKeepAlive", &mut listen.keep_alive)?;
            if is_tcp {
                query.read_with("tcpNoDelay", &mut listen.tcp_no_delay, |text| {
                    bool::from_text(text).map(Some)
                })?;
            }
            if let Endpoint::Tls { client_auth, .. } = &mut listen.endpoint {
                let mut want = *client_auth >= ClientAuth::Want;
                let mut need = *client_auth >= ClientAuth::Need;
                query.read("wantClientAuth", &mut want)?;
                query.read("needClientAuth", &mut need)?;
                *client_auth = match (want, need) {
                    (_, true) => ClientAuth::Need,
                    (true, false) => ClientAuth::Want,
                    (false, false) => ClientAuth::None,
                };
            }
        }
        accepted.finish("an accepted connection")?;
        let scheme = uri.scheme.clone();
        std::mem::take(&mut uri.query).finish(&format!("a {scheme}: listener"))?;
        if listen.wire.size_prefix_disabled {
            return Err(
                uri.error("wireFormat.sizePrefixDisabled: nobody finds the frames of a stream without sizes")
            );
        }
        Ok(listen)
    }

    fn new(endpoint: Endpoint) -> Self {
        Self {
            // Nobody in the same process goes away unnoticed.
            inactivity_monitor: !matches!(endpoint, Endpoint::Vm { .. }),
            endpoint,
            maximum_connections: usize::MAX,
            backlog: BACKLOG,
            connect_attempt_timeout: CONNECT_ATTEMPT_TIMEOUT,
            keep_alive: true,
            tcp_no_delay: None,
            wire: WireFormatOptions::default(),
        }
    }
}

/// What the part of a URI before its options says.
fn endpoint(uri: &Uri) -> Result<Endpoint> {
    let Body::Authority(authority) = &uri.body else {
        return Err(uri.error("a bind URI names a host and a port"));
    };
    if authority.host.is_empty() {
        return Err(uri.error("the bind URI names no host"));
    }
    if !uri.path.is_empty() || uri.fragment.is_some() {
        return Err(uri.error("a bind URI has neither path nor fragment"));
    }
    let host = authority.host.clone();
    let port = || {
        authority
            .port
            .ok_or_else(|| uri.error("the bind URI names no port; 0 takes a free one"))
    };
    match uri.scheme.as_str() {
        "tcp" | "nio" => Ok(Endpoint::Tcp { host, port: port()? }),
        "ssl" | "nio+ssl" => Ok(Endpoint::Tls {
            host,
            port: port()?,
            client_auth: ClientAuth::None,
        }),
        "vm" if authority.port.is_none() => Ok(Endpoint::Vm { name: host }),
        "vm" => Err(uri.error("vm: has no port")),
        scheme => Err(uri.error(&format!(
            "there is no {scheme}: listener, only tcp:, ssl: and vm:"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(uri: &str) -> String {
        ListenUri::parse(uri).unwrap_err().to_string()
    }

    #[test]
    fn endpoints() {
        let endpoint = |uri: &str| ListenUri::parse(uri).unwrap().endpoint;
        let tcp = |host: &str, port| Endpoint::Tcp {
            host: host.into(),
            port,
        };
        assert_eq!(endpoint("tcp://127.0.0.1:0"), tcp("127.0.0.1", 0));
        assert_eq!(endpoint("tcp://[::1]:61616"), tcp("::1", 61616));
        assert_eq!(endpoint("nio://localhost:61616/"), tcp("localhost", 61616));
        assert_eq!(
            endpoint("vm://orders"),
            Endpoint::Vm {
                name: "orders".into()
            }
        );
        let auth = |uri: &str| match endpoint(uri) {
            Endpoint::Tls { client_auth, .. } => client_auth,
            other => panic!("{other:?}"),
        };
        assert_eq!(auth("ssl://h:1"), ClientAuth::None);
        assert_eq!(
            auth("ssl://h:1?transport.needClientAuth=true&wantClientAuth=true"),
            ClientAuth::Need
        );
        assert_eq!(
            auth("ssl://h:1?wantClientAuth=true&needClientAuth=false"),
            ClientAuth::Want
        );
    }

    #[test]
    fn options() {
        let listen = ListenUri::parse(
            "tcp://h:1?maximumConnections=2&transport.connectAttemptTimeout=100&useInactivityMonitor=true\
             &wireFormat.maxFrameSize=1000&wireFormat.maxInactivityDuration=0&transport.useKeepAlive=false",
        )
        .unwrap();
        assert_eq!(listen.maximum_connections, 2);
        assert_eq!(listen.connect_attempt_timeout, Duration::from_millis(100));
        assert_eq!(listen.wire.max_frame_size, 1000);
        assert_eq!(listen.wire.max_inactivity_duration, 0);
        assert!(listen.inactivity_monitor && !listen.keep_alive);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (uri, names) in [
            ("tcp://127.0.0.1", "port"),
            ("tcp://:61616", "host"),
            ("127.0.0.1:61616", "127.0.0.1:61616"),
            ("stomp://h:1", "stomp"),
            ("vm://a:1", "port"),
            ("tcp://h:1/path", "path"),
            ("tcp://h:1?bogus=1", "bogus"),
            ("tcp://h:1?transport.bogus=1", "transport.bogus"),
            ("tcp://h:1?wireFormat.bogus=1", "wireFormat.bogus"),
            (
                "tcp://h:1?transport.maximumConnections=1",
                "transport.maximumConnections",
            ),
            ("tcp://h:1?maximumConnections=-1", "maximumConnections"),
            ("tcp://h:1?needClientAuth=true", "needClientAuth"),
            ("tcp://h:1?transport.useKeepAlive=maybe", "useKeepAlive"),
            ("tcp://h:1?wireFormat.cacheSize=64", "cacheSize"),
            ("tcp://h:1?wireFormat.version=13", "version"),
            (
                "tcp://h:1?wireFormat.sizePrefixDisabled=true",
                "sizePrefixDisabled",
            ),
            ("tcp://h:1?connectAttemptTimeout=0", "connectAttemptTimeout"),
            ("vm://a?tcpNoDelay=true", "tcpNoDelay"),
        ] {
            let error = refused(uri);
            assert!(error.contains(names), "{uri}: {error}");
        }
    }
}
