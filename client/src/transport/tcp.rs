//! TCP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::Instant;

use super::failed;
use crate::error::{Error, ErrorKind, Result};
use crate::uri::{Endpoint, LocalBind, SocketOptions};

/// Connects to the first address of the host that answers.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<TcpStream> {
    let addresses: Vec<_> = lookup_host((dialled(&endpoint.host), endpoint.port))
        .await
        .map_err(|error| failed(endpoint, "the host is not found", error))?
        .collect();
    let deadline = endpoint
        .socket
        .connection_timeout
        .map(|limit| Instant::now() + limit);
    let mut last = None;
    for (index, address) in addresses.iter().enumerate() {
        let share = deadline.map(|deadline| share_of(deadline, addresses.len() - index));
        match connect_to(*address, endpoint, share).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(failed(endpoint, &format!("no connection to {address}"), error)),
        }
    }
    let nowhere = || Error::new(ErrorKind::Io, format!("{endpoint}: the host has no address"));
    Err(last.unwrap_or_else(nowhere))
}

/// An address that does not answer must not take the time of those behind it.
fn share_of(deadline: Instant, addresses: usize) -> Duration {
    let parts = u32::try_from(addresses).unwrap_or(u32::MAX).max(1);
    deadline.saturating_duration_since(Instant::now()) / parts
}

/// The host to dial: who says "any address" of a broker to connect to means this machine.
fn dialled(host: &str) -> &str {
    match host {
        "0.0.0.0" | "*" => "127.0.0.1",
        "::" => "::1",
        host => host,
    }
}

async fn connect_to(
    address: SocketAddr,
    endpoint: &Endpoint,
    limit: Option<Duration>,
) -> io::Result<TcpStream> {
    let options = &endpoint.socket;
    let socket = open(address, options)?;
    if let Some(local) = &endpoint.local_bind {
        socket.bind(local_address(local, address).await?)?;
    }
    let stream = match limit {
        Some(limit) => tokio::time::timeout(limit, socket.connect(address))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}")))??,
        None => socket.connect(address).await?,
    };
    if stream.local_addr()? == address {
        // Nobody listens there, and the system chose just that port for this end. A reconnect that goes on trying
        // meets that sooner or later, and would keep the broker from its own port.
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    // The handshake is small frames both ways; what is negotiated in it counts afterwards.
    let nodelay = options
        .tcp_no_delay
        .unwrap_or(endpoint.wire_format.tcp_no_delay_enabled);
    stream.set_nodelay(nodelay)?;
    Ok(stream)
}

fn open(address: SocketAddr, options: &SocketOptions) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(size) = options.send_buffer_size {
        socket.set_send_buffer_size(size)?;
    }
    if let Some(size) = options.receive_buffer_size {
        socket.set_recv_buffer_size(size)?;
    }
    if let Some(keep_alive) = options.keep_alive {
        socket.set_keepalive(keep_alive)?;
    }
    if options.zero_linger {
        socket.set_zero_linger()?;
    }
    if let Some(class) = options.traffic_class {
        set_traffic_class(&socket, address, class)?;
    }
    Ok(socket)
}

#[cfg(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "freebsd"
))]
fn set_traffic_class(socket: &TcpSocket, address: SocketAddr, class: u8) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_tos_v4(class.into()),
        SocketAddr::V6(_) => socket.set_tclass_v6(class.into()),
    }
}

#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "freebsd"
)))]
fn set_traffic_class(_: &TcpSocket, _: SocketAddr, _: u8) -> io::Result<()> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "the traffic class cannot be set on this system",
    ))
}

/// The address to connect from, of the same family as the peer's.
async fn local_address(local: &LocalBind, peer: SocketAddr) -> io::Result<SocketAddr> {
    lookup_host((local.host.as_str(), local.port))
        .await?
        .find(|address| address.is_ipv4() == peer.is_ipv4())
        .ok_or_else(|| {
            let what = format!("{} has no address to reach {peer} from", local.host);
            io::Error::new(io::ErrorKind::AddrNotAvailable, what)
        })
}
