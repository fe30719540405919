//! One address of one broker, and how a connection to it is made and kept.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::query::Query;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::WireFormatOptions;

/// How bytes travel to a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `tcp`, and its aliases `nio`, `auto` and `auto+nio`.
    Tcp,
    /// `ssl`, and its aliases `nio+ssl`, `auto+ssl` and `auto+nio+ssl`.
    Ssl,
    /// `vm`: a broker in this process.
    Vm,
}

/// One address of one broker, with everything its URI says about connections to it.
///
/// `Display` gives the URI as it was written, without options that a composite URI around it adds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Endpoint {
    /// How to get there.
    pub scheme: Scheme,
    /// The host, without the brackets of an IPv6 address; the broker's name for `vm:`.
    pub host: String,
    /// The port. Default 61616, and 61617 for `ssl:`; 0 for `vm:`.
    pub port: u16,
    /// Where connections come from: the path of the URI, as in `tcp://remote:61616/local:0`.
    /// Default none: the system chooses.
    pub local_bind: Option<LocalBind>,
    /// What to offer the broker: `wireFormat.*`. Its `host` is the URI's unless the URI is part of a composite.
    pub wire_format: WireFormatOptions,
    /// `minmumWireFormatVersion` (the spelling is ActiveMQ's): a broker that speaks only older versions is
    /// refused. Default 0.
    pub minimum_wire_format_version: i32,
    /// The options of the socket.
    pub socket: SocketOptions,
    /// The options of TLS, for `ssl:`.
    pub tls: EndpointTls,
    /// `useInactivityMonitor`: silent peers are taken for dead, and this side does not stay silent.
    /// Default true, false for `vm:`.
    pub use_inactivity_monitor: bool,
    /// `useKeepAlive`: this side sends `KeepAliveInfo` when it has nothing else to send. Default true.
    pub use_keep_alive: bool,
    /// `keepAliveResponseRequired`: that `KeepAliveInfo` asks for an answer. Default false.
    pub keep_alive_response_required: bool,
    /// `ignoreRemoteWireFormat`: what the peer says about inactivity does not count. Default false.
    pub ignore_remote_wire_format: bool,
    /// `waitForStart`, for `vm:`: how long to wait for a broker of that name. Default none (-1): it must be
    /// there.
    pub wait_for_start: Option<Duration>,
    text: String,
}

/// A local address that connections come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalBind {
    /// The local host name or address.
    pub host: String,
    /// The local port; 0 is any.
    pub port: u16,
}

/// The options of a socket, which the URI gives by their own names or, most of them, with the prefix
/// `socket.`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// `connectionTimeout`: how long it may take to open the connection, TLS included. Default 30 seconds;
    /// none (0) leaves it to the operating system.
    pub connection_timeout: Option<Duration>,
    /// `soTimeout`: how long the peer may pause in the middle of a frame or of the TLS handshake; between
    /// frames it may be silent for as long as the inactivity monitor allows. Default none (0).
    pub so_timeout: Option<Duration>,
    /// `soWriteTimeout`: how long the peer may take nothing of what is written to it. Default none (0).
    pub so_write_timeout: Option<Duration>,
    /// `socket.sendBufferSize` or `socketBufferSize`, in bytes. Default none: the system's, which grows as
    /// needed (ActiveMQ sets 65536).
    pub send_buffer_size: Option<u32>,
    /// `socket.receiveBufferSize` or `socketBufferSize`, in bytes. Default none, as for sending.
    pub receive_buffer_size: Option<u32>,
    /// `ioBufferSize`: the capacity of the buffer that frames are read into, in bytes. Default 65536
    /// (ActiveMQ has 8192).
    pub io_buffer_size: usize,
    /// `tcpNoDelay`. Default none: what `wireFormat.tcpNoDelayEnabled` comes to.
    pub tcp_no_delay: Option<bool>,
    /// `keepAlive`: the system's own probes of an idle connection. Default none: left alone.
    pub keep_alive: Option<bool>,
    /// `soLinger=0`: closing resets the connection. Default false (-1).
    pub zero_linger: bool,
    /// `trafficClass`, `typeOfService` or, as its upper six bits, `diffServ`. Default none.
    pub traffic_class: Option<u8>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            connection_timeout: Some(Duration::from_secs(30)),
            so_timeout: None,
            so_write_timeout: None,
            send_buffer_size: None,
            receive_buffer_size: None,
            io_buffer_size: 65_536,
            tcp_no_delay: None,
            keep_alive: None,
            zero_linger: false,
            traffic_class: None,
        }
    }
}

/// What the URI of an `ssl:` endpoint says about TLS. Certificates are not in URIs: see
/// [`TlsOptions`](crate::transport::TlsOptions).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointTls {
    /// `verifyHostName`: the broker's certificate must be for the host of the URI. Default true.
    pub verify_host_name: bool,
    /// `socket.enabledProtocols`: the versions of TLS to allow. Default empty: all there are.
    pub enabled_protocols: Vec<TlsVersion>,
    /// `socket.enabledCipherSuites`, by the names that Java and IANA have for them. Default empty: all there
    /// are.
    pub enabled_cipher_suites: Vec<String>,
}

impl Default for EndpointTls {
    fn default() -> Self {
        Self {
            verify_host_name: true,
            enabled_protocols: Vec::new(),
            enabled_cipher_suites: Vec::new(),
        }
    }
}

/// A version of TLS; there are no older ones here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVersion {
    /// `TLSv1.2`
    Tls12,
    /// `TLSv1.3`
    Tls13,
}

impl Endpoint {
    /// An endpoint with the defaults of its scheme.
    pub fn new(scheme: Scheme, host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        let text = match scheme {
            Scheme::Vm => format!("vm://{host}"),
            Scheme::Tcp | Scheme::Ssl => {
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                format!("{scheme}://{open}{host}{close}:{port}")
            }
        };
        Self {
            scheme,
            host,
            port,
            local_bind: None,
            wire_format: WireFormatOptions::default(),
            minimum_wire_format_version: 0,
            socket: SocketOptions::default(),
            tls: EndpointTls::default(),
            use_inactivity_monitor: scheme != Scheme::Vm,
            use_keep_alive: true,
            keep_alive_response_required: false,
            ignore_remote_wire_format: false,
            wait_for_start: None,
            text,
        }
    }

    /// Parses the URI of one address.
    ///
    /// # Errors
    ///
    /// As [`ClientUri::parse`](super::ClientUri::parse).
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_with(text, &Query::default())
    }

    /// Parses the URI of one address and applies `extra` on top of its own options.
    pub(super) fn parse_with(text: &str, _extra: &Query) -> Result<Self> {
        Err(Error::new(ErrorKind::Uri, text))
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Ssl => "ssl",
            Self::Vm => "vm",
        })
    }
}
