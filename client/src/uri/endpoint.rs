//! One address of one broker, and how a connection to it is made and kept.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::grammar::{Body, Uri};
use super::query::{OptionValue, Query, Refused, limit, unless_negative, unless_zero};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::{MAX_VERSION, WireFormatOptions};

const DEFAULT_PORT: u16 = 61616;
const DEFAULT_SSL_PORT: u16 = 61617;

/// Less makes a system call of almost every command, more is memory that each connection holds for nothing.
const MIN_IO_BUFFER_SIZE: usize = 1024;
const MAX_IO_BUFFER_SIZE: usize = 16 << 20;

/// What a Java peer can do: fewer slots make it hang, more do not fit the index of a slot.
const MIN_CACHE_SIZE: i32 = 100;
const MAX_CACHE_SIZE: i32 = i16::MAX as i32;

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
    /// `negotiationTimeout`: how long the broker may take to send its `WireFormatInfo` once there is a connection.
    /// Default as in ActiveMQ: `wireFormat.maxInactivityDurationInitalDelay`, which is 10 seconds, and 15 seconds if
    /// that is 0. None is `infinite` or 0. The option is not in ActiveMQ.
    pub negotiation_timeout: Option<Duration>,
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
    /// `create`, for `vm:`: start the broker if it is not there. That is up to the application, which embeds the
    /// broker: with or without, connecting to a broker that is not there fails. Default true.
    pub create: bool,
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
    /// `connectionTimeout`: how long it may take to open the connection, name resolution and TLS included. Default 30
    /// seconds; none (`infinite` or 0) leaves it to the operating system.
    pub connection_timeout: Option<Duration>,
    /// `soTimeout`: how long the peer may pause in the middle of a frame; between frames it may be silent for as
    /// long as the inactivity monitor allows. Default none (0).
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
            negotiation_timeout: negotiation_timeout(&WireFormatOptions::default()),
            wire_format: WireFormatOptions::default(),
            minimum_wire_format_version: 0,
            socket: SocketOptions::default(),
            tls: EndpointTls::default(),
            use_inactivity_monitor: scheme != Scheme::Vm,
            use_keep_alive: true,
            keep_alive_response_required: false,
            ignore_remote_wire_format: false,
            create: true,
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
        Self::from_uri(Uri::parse(text)?, &Query::default())
    }

    /// Makes a URI one of an address; the options `extra` count more than its own.
    pub(super) fn from_uri(mut uri: Uri, extra: &Query) -> Result<Self> {
        let scheme = match uri.scheme.as_str() {
            "tcp" | "nio" | "auto" | "auto+nio" => Scheme::Tcp,
            "ssl" | "nio+ssl" | "auto+ssl" | "auto+nio+ssl" => Scheme::Ssl,
            "vm" => Scheme::Vm,
            other => return Err(wrong_scheme(other, &uri)),
        };
        if scheme == Scheme::Ssl && cfg!(not(feature = "tls")) {
            let what = "this build of the library has no TLS: its feature tls is off";
            return Err(uri.place.error_of(ErrorKind::Unsupported, what));
        }
        if uri.fragment.is_some() {
            return Err(uri.error("a #fragment has no effect on the address of a broker"));
        }
        let authority = match &uri.body {
            Body::Authority(authority) if !authority.host.is_empty() => authority,
            Body::List(_) if scheme == Scheme::Vm => {
                return Err(
                    uri.error("a broker that the URI describes would have to be started by the client")
                );
            }
            _ => return Err(uri.error("there is no host: write scheme://host:port")),
        };
        let port = match (scheme, authority.port) {
            (Scheme::Vm, None) => 0,
            (Scheme::Vm, Some(_)) => return Err(uri.error("a vm: URI has a broker name and no port")),
            (_, Some(0)) => return Err(uri.error("nobody listens on port 0")),
            (_, Some(port)) => port,
            (Scheme::Tcp, None) => DEFAULT_PORT,
            (Scheme::Ssl, None) => DEFAULT_SSL_PORT,
        };
        let mut endpoint = Self::new(scheme, authority.host.clone(), port);
        endpoint.local_bind = match uri.path.as_str() {
            "" => None,
            _ if scheme == Scheme::Vm => return Err(uri.error("a vm: URI has no path")),
            path => Some(local_bind(path, &uri)?),
        };
        endpoint.text.clone_from(&uri.text);
        uri.query.extend(extra);
        endpoint.read_options(uri.query)?;
        Ok(endpoint)
    }

    /// As the only address of a URI, which is told to the broker (for virtual hosts).
    pub(super) fn alone(mut self) -> Self {
        if self.scheme != Scheme::Vm && self.wire_format.host.is_none() {
            self.wire_format.host = Some(self.host.clone());
        }
        self
    }

    fn read_options(&mut self, mut query: Query) -> Result<()> {
        query.refuse(&REFUSED)?;
        read_wire_format(&mut query, &mut self.wire_format)?;
        self.negotiation_timeout = negotiation_timeout(&self.wire_format);
        query.read_with("negotiationTimeout", &mut self.negotiation_timeout, limit)?;
        query.read("minmumWireFormatVersion", &mut self.minimum_wire_format_version)?;
        query.read("useInactivityMonitor", &mut self.use_inactivity_monitor)?;
        query.read("useKeepAlive", &mut self.use_keep_alive)?;
        query.read(
            "keepAliveResponseRequired",
            &mut self.keep_alive_response_required,
        )?;
        query.read("ignoreRemoteWireFormat", &mut self.ignore_remote_wire_format)?;
        if self.scheme == Scheme::Vm {
            query.refuse(&REFUSED_OF_VM)?;
            query.read("create", &mut self.create)?;
            query.read_with("waitForStart", &mut self.wait_for_start, unless_negative)?;
        } else {
            let mut java = query.take_prefix("socket.");
            if self.scheme == Scheme::Ssl {
                self.tls.read(&mut query, &mut java)?;
            } else {
                query.refuse(&REFUSED_WITHOUT_TLS)?;
                java.refuse(&REFUSED_WITHOUT_TLS)?;
            }
            self.socket.read(&mut query, &mut java)?;
            java.finish("the socket")?;
        }
        query.finish(&format!("{}:", self.scheme))
    }
}

impl SocketOptions {
    /// Reads the options that have names of their own from `query`, and those of a Java socket from `java`.
    fn read(&mut self, query: &mut Query, java: &mut Query) -> Result<()> {
        query.read_with("connectionTimeout", &mut self.connection_timeout, limit)?;
        query.read_with("soWriteTimeout", &mut self.so_write_timeout, unless_zero)?;
        query.read_with(
            "ioBufferSize",
            &mut self.io_buffer_size,
            |text| match usize::from_text(text)? {
                size @ MIN_IO_BUFFER_SIZE..=MAX_IO_BUFFER_SIZE => Ok(size),
                _ => Err(format!(
                    "is not from {MIN_IO_BUFFER_SIZE} to {MAX_IO_BUFFER_SIZE} bytes"
                )),
            },
        )?;
        let mut both = None;
        query.read_with("socketBufferSize", &mut both, buffer_size)?;
        (self.send_buffer_size, self.receive_buffer_size) = (both, both);
        java.read_with("sendBufferSize", &mut self.send_buffer_size, buffer_size)?;
        java.read_with("receiveBufferSize", &mut self.receive_buffer_size, buffer_size)?;
        let differentiated = query.take("diffServ");
        if let (Some(option), true) = (&differentiated, query.contains("typeOfService")) {
            return Err(option.error("cannot be given together with typeOfService"));
        }
        if let Some(option) = differentiated {
            self.traffic_class = Some(option.parse_with(differentiated_services)?);
        }
        query.read("typeOfService", &mut self.traffic_class)?;
        for names in [query, java] {
            names.read_with("soTimeout", &mut self.so_timeout, unless_zero)?;
            names.read("tcpNoDelay", &mut self.tcp_no_delay)?;
            names.read("keepAlive", &mut self.keep_alive)?;
            names.read("trafficClass", &mut self.traffic_class)?;
            names.read_with("soLinger", &mut self.zero_linger, |text| {
                match unless_negative::<u32>(text)? {
                    None => Ok(false),
                    Some(0) => Ok(true),
                    Some(_) => Err("can only be -1 or 0: to linger, a thread would have to wait".into()),
                }
            })?;
        }
        Ok(())
    }
}

impl EndpointTls {
    fn read(&mut self, query: &mut Query, java: &mut Query) -> Result<()> {
        query.read("verifyHostName", &mut self.verify_host_name)?;
        java.read("verifyHostName", &mut self.verify_host_name)?;
        java.read_with("enabledProtocols", &mut self.enabled_protocols, |text| {
            names(text)
                .map(|name| match name {
                    "TLSv1.2" => Ok(TlsVersion::Tls12),
                    "TLSv1.3" => Ok(TlsVersion::Tls13),
                    other => Err(format!(
                        "has {other}, and there are only TLSv1.2 and TLSv1.3 here"
                    )),
                })
                .collect()
        })?;
        java.read_with("enabledCipherSuites", &mut self.enabled_cipher_suites, |text| {
            names(text).map(known_cipher_suite).collect()
        })
    }
}

/// As ActiveMQ: the time to the first inactivity check, 15 seconds if there is none.
fn negotiation_timeout(options: &WireFormatOptions) -> Option<Duration> {
    Some(
        match u64::try_from(options.max_inactivity_duration_initial_delay) {
            Ok(millis) if millis > 0 => Duration::from_millis(millis),
            _ => Duration::from_secs(15),
        },
    )
}

/// Takes the options with the prefix `wireFormat.` out of `query`.
///
/// # Errors
///
/// [`Error::is_uri`] if one is unknown, not supported or cannot be.
pub fn read_wire_format(query: &mut Query, options: &mut WireFormatOptions) -> Result<()> {
    let mut query = query.take_prefix("wireFormat.");
    query.refuse(&REFUSED_OF_WIRE_FORMAT)?;
    query.read_with("version", &mut options.version, |text| {
        match i32::from_text(text)? {
            version @ 1..=MAX_VERSION => Ok(version),
            _ => Err(format!("is not from 1 to {MAX_VERSION}")),
        }
    })?;
    query.read("tightEncodingEnabled", &mut options.tight_encoding_enabled)?;
    query.read("cacheEnabled", &mut options.cache_enabled)?;
    query.read_with(
        "cacheSize",
        &mut options.cache_size,
        |text| match i32::from_text(text)? {
            size @ (0 | MIN_CACHE_SIZE..=MAX_CACHE_SIZE) => Ok(size),
            _ => Err(format!(
                "is neither 0 nor from {MIN_CACHE_SIZE} to {MAX_CACHE_SIZE}"
            )),
        },
    )?;
    query.read("sizePrefixDisabled", &mut options.size_prefix_disabled)?;
    query.read("stackTraceEnabled", &mut options.stack_trace_enabled)?;
    query.read("tcpNoDelayEnabled", &mut options.tcp_no_delay_enabled)?;
    query.read_with(
        "maxInactivityDuration",
        &mut options.max_inactivity_duration,
        |text| {
            // ActiveMQ takes what is below 0 for 0 as well.
            i64::from_text(text).map(|millis| millis.max(0))
        },
    )?;
    query.read_with(
        "maxInactivityDurationInitalDelay",
        &mut options.max_inactivity_duration_initial_delay,
        not_negative,
    )?;
    query.read_with(
        "maxFrameSize",
        &mut options.max_frame_size,
        |text| match i64::from_text(text)? {
            size @ 1.. => Ok(size),
            _ => Err("is not at least 1: a limit is switched off with wireFormat.maxFrameSizeEnabled".into()),
        },
    )?;
    query.read("maxFrameSizeEnabled", &mut options.max_frame_size_enabled)?;
    query.read("host", &mut options.host)?;
    query.read("includePlatformDetails", &mut options.include_platform_details)?;
    query.finish("the wire format")
}

fn local_bind(path: &str, uri: &Uri) -> Result<LocalBind> {
    let wrong = || uri.error("the path is not a local address to connect from, /host:port");
    let (host, port) = path.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return Err(wrong());
    }
    Ok(LocalBind {
        host: host.into(),
        port,
    })
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// The name that Java and IANA have for a cipher suite.
#[cfg(feature = "tls")]
pub(crate) fn cipher_suite_name(suite: &rustls::SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

#[cfg(feature = "tls")]
fn known_cipher_suite(name: &str) -> Result<String, String> {
    match rustls::crypto::ring::ALL_CIPHER_SUITES
        .iter()
        .any(|suite| cipher_suite_name(suite) == name)
    {
        true => Ok(name.into()),
        false => Err(format!("has {name}, which is no cipher suite there is here")),
    }
}

/// There are no endpoints with TLS to enable one for.
#[cfg(not(feature = "tls"))]
fn known_cipher_suite(_: &str) -> Result<String, String> {
    Err("needs TLS".into())
}

fn buffer_size(text: &str) -> Result<Option<u32>, String> {
    match u32::from_text(text)? {
        0 => Err("is 0".into()),
        size => Ok(Some(size)),
    }
}

fn not_negative(text: &str) -> Result<i64, String> {
    match i64::from_text(text)? {
        value @ 0.. => Ok(value),
        _ => Err("is negative".into()),
    }
}

/// The traffic class that a code point of differentiated services is the upper six bits of.
fn differentiated_services(text: &str) -> Result<u8, String> {
    let point = match text {
        "EF" => 46,
        _ => match text.as_bytes() {
            // A class selector: the class.
            [b'C', b'S', class @ b'0'..=b'7'] => (class - b'0') << 3,
            // Assured forwarding: class and drop precedence.
            [b'A', b'F', class @ b'1'..=b'4', drop @ b'1'..=b'3'] => (class - b'0') << 3 | (drop - b'0') << 1,
            _ => match text.parse() {
                Ok(point @ 0..=63) => point,
                _ => return Err("is neither from 0 to 63 nor EF, CS0 to CS7 or AF11 to AF43".into()),
            },
        },
    };
    Ok(point << 2)
}

/// Why a scheme is not that of an address.
fn wrong_scheme(scheme: &str, uri: &Uri) -> Error {
    uri.error(&match scheme {
        "failover" | "masterslave" | "static" | "simple" | "discovery" | "fanout" => format!(
            "{scheme}: is a list of URIs, and here only the URI of one broker can be: tcp:, ssl: or vm:"
        ),
        "multicast" | "zeroconf" | "rendezvous" => {
            format!("{scheme}: finds brokers and is none: write discovery:(multicast://default)")
        }
        "udp" | "http" | "https" | "peer" | "mock" => {
            format!("{scheme}: is known to ActiveMQ but not supported here")
        }
        "ws" | "wss" | "stomp" | "mqtt" | "amqp" => {
            format!("{scheme}: does not carry OpenWire: connect to the broker's tcp: or ssl: connector")
        }
        _ => format!("{scheme}: is not a transport"),
    })
}

const JAVA_THREADS: &str = "it is about Java's threads, and there are none here";
const JAVA_LOGGER: &str = "it is about Java's loggers; here events go to the crate `tracing`";
const OF_BROKERS: &str = "it is for the connectors of brokers, not for clients";
const EMBEDDED: &str = "it describes a broker to start, which is up to the application";

const REFUSED: [Refused; 23] = [
    ("daemon", JAVA_THREADS),
    ("stackSize", JAVA_THREADS),
    ("closeAsync", JAVA_THREADS),
    ("trace", JAVA_LOGGER),
    ("logWriterName", JAVA_LOGGER),
    ("dynamicManagement", JAVA_LOGGER),
    ("startLogging", JAVA_LOGGER),
    ("jmxPort", JAVA_LOGGER),
    ("connectAttemptTimeout", OF_BROKERS),
    ("maximumConnections", OF_BROKERS),
    ("backlog", OF_BROKERS),
    ("useQueueForAccept", OF_BROKERS),
    ("allowLinkStealing", OF_BROKERS),
    ("protocolDetectionTimeOut", OF_BROKERS),
    ("maxConnectionThreadPoolSize", OF_BROKERS),
    ("needClientAuth", OF_BROKERS),
    ("wantClientAuth", OF_BROKERS),
    ("transport.", OF_BROKERS),
    ("auto.", OF_BROKERS),
    (
        "useLocalHost",
        "write localhost instead of the name of the machine",
    ),
    ("jms.", "it belongs to the URI as a whole: failover:(…)?jms.…"),
    (
        "nested.",
        "it belongs to the URI as a whole: failover:(…)?nested.…",
    ),
    (
        "discovered.",
        "it belongs to the URI as a whole: discovery:(…)?discovered.…",
    ),
];

const REFUSED_OF_VM: [Refused; 5] = [
    ("broker.", EMBEDDED),
    ("brokerConfig", EMBEDDED),
    ("marshal", "commands always travel as frames"),
    ("async", JAVA_THREADS),
    ("asyncQueueDepth", "what waits is bounded by the size of a pipe"),
];

const REFUSED_WITHOUT_TLS: [Refused; 3] = [
    ("verifyHostName", "there is no TLS without ssl:"),
    ("enabledProtocols", "there is no TLS without ssl:"),
    ("enabledCipherSuites", "there is no TLS without ssl:"),
];

const REFUSED_OF_WIRE_FORMAT: [Refused; 5] = [
    ("providerName", "it is the name of this library"),
    ("providerVersion", "it is the version of this library"),
    ("platformDetails", "includePlatformDetails sends the real ones"),
    ("maxInflatedDataSize", "jms.maxInflatedDataSizeRatio is the limit"),
    (
        "maxInflatedDataSizeRatio",
        "jms.maxInflatedDataSizeRatio is the limit",
    ),
];

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
