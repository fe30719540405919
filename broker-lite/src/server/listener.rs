//! Listening: bind, accept, limits, and the way of a connection up to its first frame.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use openwire_client::transport::vm::{self, VmListener};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, error, warn};

use super::connection::{Keeping, serve};
use super::{Server, Tls, count};
use crate::config::{Endpoint, ListenUri};
use crate::protocol::openwire::{HandshakeError, OutcomesKept, handshake};
use crate::security::{Caller, DistinguishedName};

/// The pauses after the system could not hand over a connection, doubling from the first to the last: the
/// cause, such as too many open files, passes when others close.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A bound listener.
pub(crate) struct Listener {
    socket: Socket,
    settings: Arc<ListenUri>,
    address: Address,
}

enum Socket {
    Tcp(TcpListener, Option<Arc<ServerConfig>>),
    Vm(VmListener),
}

/// Somebody who has connected.
enum Incoming {
    Tcp(TcpStream, SocketAddr, Option<Arc<ServerConfig>>),
    Vm(DuplexStream),
}

/// The bytes of a connection, whatever carries them.
trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// Sets `TCP_NODELAY`, where there is TCP.
    fn set_nodelay(&self, no_delay: bool) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn set_nodelay(&self, no_delay: bool) -> io::Result<()> {
        Self::set_nodelay(self, no_delay)
    }
}

impl Stream for TlsStream<TcpStream> {
    fn set_nodelay(&self, no_delay: bool) -> io::Result<()> {
        self.get_ref().0.set_nodelay(no_delay)
    }
}

impl Stream for DuplexStream {
    fn set_nodelay(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}

/// Where a listener can be reached.
#[derive(Debug, Clone)]
pub(crate) enum Address {
    Socket {
        scheme: &'static str,
        socket: SocketAddr,
    },
    Vm {
        name: String,
    },
}

impl Address {
    /// Anybody who reaches this machine reaches the listener.
    pub(crate) fn is_public(&self) -> bool {
        match self {
            Self::Socket { socket, .. } => !socket.ip().is_loopback(),
            Self::Vm { .. } => false,
        }
    }

    /// The URI for clients on other machines, where `host` is this one's name.
    pub(crate) fn seen_from_outside(&self, host: &str) -> String {
        match self {
            Self::Socket { scheme, socket } if socket.ip().is_unspecified() => {
                format!("{scheme}://{host}:{}", socket.port())
            }
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { scheme, socket } => write!(f, "{scheme}://{socket}"),
            Self::Vm { name } => write!(f, "vm://{name}"),
        }
    }
}

/// Why a listener cannot be.
#[derive(Debug)]
pub(crate) enum BindError {
    Config(String),
    Io(io::Error),
    /// A broker of this process has the name.
    NameInUse,
}

impl Listener {
    /// Binds the endpoint of a URI.
    pub(crate) async fn bind(settings: ListenUri, tls: Option<&Tls>) -> Result<Self, BindError> {
        let (socket, address) = match &settings.endpoint {
            Endpoint::Tcp { host, port } => {
                let (socket, address) = bind(host, *port, settings.backlog).await.map_err(BindError::Io)?;
                let scheme = "tcp";
                (
                    Socket::Tcp(socket, None),
                    Address::Socket {
                        scheme,
                        socket: address,
                    },
                )
            }
            Endpoint::Tls {
                host,
                port,
                client_auth,
            } => {
                let identity =
                    tls.ok_or_else(|| BindError::Config("ssl:// needs a certificate and a key".to_owned()))?;
                let config = identity.server_config(*client_auth).map_err(BindError::Config)?;
                let (socket, address) = bind(host, *port, settings.backlog).await.map_err(BindError::Io)?;
                let scheme = "ssl";
                (
                    Socket::Tcp(socket, Some(config)),
                    Address::Socket {
                        scheme,
                        socket: address,
                    },
                )
            }
            Endpoint::Vm { name } => {
                let listener = vm::bind(name).map_err(|_| BindError::NameInUse)?;
                (Socket::Vm(listener), Address::Vm { name: name.clone() })
            }
        };
        Ok(Self {
            socket,
            settings: Arc::new(settings),
            address,
        })
    }

    /// Where it can be reached.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Accepts connections until the broker stops; then gives the port back and waits for the connections
    /// to end.
    pub(crate) async fn run(mut self, server: Arc<Server>) {
        let mut stop = server.stop.clone();
        let mut connections = JoinSet::new();
        let mut pause = FIRST_PAUSE;
        let mut full = false;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some(ended) = connections.join_next() => {
                    report(ended);
                    full = false;
                    continue;
                }
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok(incoming) => {
                    pause = FIRST_PAUSE;
                    count(&server.counters.accepted);
                    if connections.len() >= self.settings.maximum_connections {
                        count(&server.counters.over_limit);
                        if !std::mem::replace(&mut full, true) {
                            warn!(
                                listener = %self.address,
                                "closing a connection: maximumConnections={} is reached",
                                self.settings.maximum_connections
                            );
                        }
                        continue;
                    }
                    connections.spawn(connect(server.clone(), incoming, self.settings.clone()));
                }
                Err(failure) => {
                    count(&server.counters.failed_accepts);
                    if pause == FIRST_PAUSE {
                        warn!(listener = %self.address, "cannot accept connections now: {failure}");
                    }
                    tokio::select! {
                        biased;
                        () = sleep(pause) => {}
                        _ = stop.wait_for(|stop| *stop) => break,
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        drop(self.socket);
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    }
}

impl Socket {
    /// The next connection. Cancel safe.
    async fn accept(&mut self) -> io::Result<Incoming> {
        match self {
            Self::Tcp(listener, tls) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Incoming::Tcp(stream, peer, tls.clone()))
            }
            Self::Vm(listener) => Ok(Incoming::Vm(listener.accept().await)),
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(failure) = ended
        && failure.is_panic()
    {
        error!("a connection's task failed: {failure}");
    }
}

/// Binds a host and port; gives the address with the real port.
async fn bind(host: &str, port: u16, backlog: u32) -> io::Result<(TcpListener, SocketAddr)> {
    let mut addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    // As Java has it: `localhost` is 127.0.0.1 where there are both.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for address in addresses {
        match bind_address(address, backlog) {
            Ok(socket) => {
                let address = socket.local_addr()?;
                return Ok((socket, address));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_address(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A broker that restarts must not wait for the connections of its last run.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// Takes a new connection through TLS, if there is any, to its first frame, and serves it.
async fn connect(server: Arc<Server>, incoming: Incoming, settings: Arc<ListenUri>) {
    if server.lease.current().await.is_err() {
        return;
    }
    let deadline = Instant::now() + settings.connect_attempt_timeout;
    let (stream, peer, tls) = match incoming {
        Incoming::Tcp(stream, peer, tls) => (stream, peer, tls),
        Incoming::Vm(stream) => {
            let caller = Caller::default();
            return greet(server, stream, "vm://".to_owned(), caller, deadline, &settings).await;
        }
    };
    // The first frames shall not wait; what was negotiated is set later, below the TLS.
    if let Err(failure) = stream.set_nodelay(true) {
        debug!(%peer, "TCP_NODELAY: {failure}");
    }
    let mut caller = Caller {
        address: Some(peer.ip()),
        certificate: None,
    };
    let Some(tls) = tls else {
        return greet(
            server,
            stream,
            format!("tcp://{peer}"),
            caller,
            deadline,
            &settings,
        )
        .await;
    };
    let mut stop = server.stop.clone();
    let accepted = tokio::select! {
        biased;
        accepted = timeout_at(deadline, TlsAcceptor::from(tls).accept(stream)) => accepted,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    match accepted {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            caller.certificate = certificates
                .and_then(<[_]>::first)
                .and_then(|certificate| DistinguishedName::of_subject(certificate));
            greet(
                server,
                stream,
                format!("ssl://{peer}"),
                caller,
                deadline,
                &settings,
            )
            .await;
        }
        Ok(Err(failure)) => {
            count(&server.counters.failed_handshakes);
            debug!(%peer, "no TLS: {failure}");
        }
        Err(_) => {
            count(&server.counters.failed_handshakes);
            debug!(%peer, "no TLS within {:?}", settings.connect_attempt_timeout);
        }
    }
}

/// Agrees on a wire format with a client, within the time it has, and serves it.
async fn greet(
    server: Arc<Server>,
    mut stream: impl Stream,
    peer: String,
    caller: Caller,
    deadline: Instant,
    settings: &ListenUri,
) {
    let mut stop = server.stop.clone();
    let outcomes = OutcomesKept {
        store: server.store_identity.clone(),
        millis: server.driver.outcomes_kept(),
    };
    let greeted = tokio::select! {
        biased;
        greeted = timeout_at(deadline, handshake(&mut stream, &settings.wire, &outcomes)) => greeted,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let (format, input) = match greeted {
        Ok(Ok(agreed)) => agreed,
        Ok(Err(HandshakeError::Silent)) => {
            debug!(peer, "closed before its first frame");
            return;
        }
        Ok(Err(failure)) => {
            count(&server.counters.failed_handshakes);
            debug!(peer, "no OpenWire: {failure}");
            return;
        }
        Err(_) => {
            count(&server.counters.failed_handshakes);
            debug!(
                peer,
                "no first frame within {:?}", settings.connect_attempt_timeout
            );
            return;
        }
    };
    let no_delay = settings.tcp_no_delay.unwrap_or(format.tcp_no_delay);
    if let Err(failure) = stream.set_nodelay(no_delay) {
        debug!(peer, "TCP_NODELAY: {failure}");
    }
    let keeping = Keeping {
        inactivity_monitor: settings.inactivity_monitor,
        keep_alive: settings.keep_alive,
        outcomes_kept: outcomes.millis,
    };
    serve(stream, server, &peer, caller, format, input, keeping).await;
}
