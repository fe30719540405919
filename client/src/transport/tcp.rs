//! TCP.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use super::failed;
use crate::error::{Error, ErrorKind, Result};
use crate::uri::{Endpoint, LocalBind, SocketOptions};

/// An address that has not answered for so long does not keep the next one waiting: the "connection attempt delay" of RFC
/// 8305.
const STAGGER: Duration = Duration::from_millis(250);

/// Of a host with more addresses, so many are tried: each costs a socket.
const MAX_ADDRESSES: usize = 32;

/// Connects to the address of the host that answers first. The time it may take is up to the caller.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<TcpStream> {
    let addresses = lookup_host((dialled(&endpoint.host), endpoint.port))
        .await
        .map_err(|error| failed(endpoint, "the host is not found", error))?;
    race(alternating(addresses), |address| async move {
        connect_to(address, endpoint)
            .await
            .map_err(|error| failed(endpoint, &format!("no connection to {address}"), error))
    })
    .await
    .unwrap_or_else(|| {
        let what = format!("{endpoint}: the host has no address");
        Err(Error::new(ErrorKind::Io, what))
    })
}

/// Both families in turn, in the system's order otherwise: one of them may lead nowhere.
fn alternating(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.take(MAX_ADDRESSES).peekable();
    let first_is_v4 = addresses.peek().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) = addresses.partition(|address| address.is_ipv4() == first_is_v4);
    let mut second = second.into_iter();
    let mut list: Vec<_> = first
        .into_iter()
        .flat_map(|address| [Some(address), second.next()])
        .flatten()
        .collect();
    list.extend(second);
    list
}

/// Makes an attempt at each address, the next one when one fails or takes long, until one succeeds. Otherwise the last
/// error, and none if there is no address.
async fn race<T, F: Future<Output = Result<T>>>(
    addresses: Vec<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
) -> Option<Result<T>> {
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut last = None;
    loop {
        running.extend(waiting.next().map(&attempt));
        let outcome = match waiting.len() {
            0 => running.next().await,
            _ => match tokio::time::timeout(STAGGER, running.next()).await {
                Ok(outcome) => outcome,
                Err(_) => continue,
            },
        };
        match outcome {
            Some(Ok(connected)) => return Some(Ok(connected)),
            Some(Err(error)) => last = Some(Err(error)),
            None => return last,
        }
    }
}

/// The host to dial: who says "any address" of a broker to connect to means this machine.
fn dialled(host: &str) -> &str {
    match host {
        "0.0.0.0" | "*" => "127.0.0.1",
        "::" => "::1",
        host => host,
    }
}

async fn connect_to(address: SocketAddr, endpoint: &Endpoint) -> io::Result<TcpStream> {
    let options = &endpoint.socket;
    let socket = open(address, options)?;
    if let Some(local) = &endpoint.local_bind {
        socket.bind(local_address(local, address).await?)?;
    }
    let stream = socket.connect(address).await?;
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

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::time::{Instant, sleep};

    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    /// Races for addresses whose ports say what they do: 1 refuses at once, 2 never answers, any other answers after as
    /// many milliseconds. Says who won, how long it took, and who was tried.
    async fn run(list: &[&str]) -> (Option<Result<u16>>, Duration, Vec<u16>) {
        let tried = Mutex::new(Vec::new());
        let begun = Instant::now();
        let outcome = race(addresses(list), |address| {
            let port = address.port();
            tried.lock().push(port);
            async move {
                match port {
                    1 => Err(Error::new(ErrorKind::Io, "refused")),
                    2 => std::future::pending().await,
                    port => {
                        sleep(Duration::from_millis(port.into())).await;
                        Ok(port)
                    }
                }
            }
        })
        .await;
        (outcome, begun.elapsed(), tried.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_refuses_or_is_silent_does_not_keep_the_others_waiting() {
        let (outcome, took, tried) = run(&["1.1.1.1:1", "1.1.1.1:2", "1.1.1.1:30", "1.1.1.1:40"]).await;
        assert_eq!(outcome.unwrap().unwrap(), 30);
        assert_eq!(took, STAGGER + Duration::from_millis(30));
        assert_eq!(tried, [1, 2, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_slow_may_still_be_the_first() {
        let (outcome, took, _) = run(&["1.1.1.1:300", "1.1.1.1:200"]).await;
        assert_eq!(
            (outcome.unwrap().unwrap(), took),
            (300, Duration::from_millis(300))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn that_nobody_answers_is_the_last_error() {
        let (outcome, _, tried) = run(&["1.1.1.1:1", "1.1.1.1:1"]).await;
        assert!(outcome.unwrap().is_err());
        assert_eq!(tried, [1, 1]);
        assert!(run(&[]).await.0.is_none());
    }

    #[test]
    fn families_take_turns() {
        let list = addresses(&["[::1]:1", "[::1]:2", "1.1.1.1:3", "[::1]:4", "1.1.1.1:5"]);
        let turns: Vec<u16> = alternating(list.into_iter())
            .iter()
            .map(SocketAddr::port)
            .collect();
        assert_eq!(turns, [1, 3, 2, 5, 4]);
    }
}
