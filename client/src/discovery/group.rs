//! The socket of a multicast group.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{UdpSocket, lookup_host};

use crate::error::{Error, ErrorKind, Result};
use crate::uri::MulticastAgent;

/// A socket that has joined a group.
#[derive(Debug)]
pub(super) struct Group {
    socket: UdpSocket,
    address: SocketAddr,
    /// The local addresses of the interfaces to send from.
    from: Vec<Ipv4Addr>,
}

impl Group {
    pub(super) async fn join(options: &MulticastAgent) -> Result<Self> {
        let group = resolve(&options.host).await?;
        if !group.is_multicast() {
            return Err(failed(&format!(
                "{group} is not the address of a multicast group"
            )));
        }
        let interfaces = Interfaces::of(options).await?;
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        // Brokers and clients of one machine share the port.
        socket.set_reuse_address(true)?;
        #[cfg(all(
            unix,
            not(any(target_os = "linux", target_os = "solaris", target_os = "illumos"))
        ))]
        socket.set_reuse_port(true)?;
        socket.set_multicast_ttl_v4(options.time_to_live.into())?;
        socket.set_multicast_loop_v4(!options.loop_back_mode)?;
        socket.set_nonblocking(true)?;
        // Where it can, the socket takes only what was sent to the group.
        let local = if cfg!(unix) { group } else { Ipv4Addr::UNSPECIFIED };
        socket.bind(&SocketAddr::from((local, options.port)).into())?;
        interfaces.join(&socket, group)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            address: SocketAddrV4::new(group, options.port).into(),
            from: interfaces.send,
        })
    }

    /// Receives one datagram; as many bytes as there is room for.
    pub(super) async fn receive(&self, into: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(into).await
    }

    /// Sends a datagram to the group, from each interface. An error if it left from none.
    pub(super) async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
        for address in &self.from {
            let sent = match SockRef::from(&self.socket).set_multicast_if_v4(address) {
                Ok(()) => self.socket.send_to(datagram, self.address).await.map(drop),
                Err(error) => Err(error),
            };
            if outcome.is_err() {
                outcome = sent;
            }
        }
        outcome
    }
}

/// The local addresses of interfaces.
struct Interfaces {
    listen: Vec<Ipv4Addr>,
    send: Vec<Ipv4Addr>,
    /// Each of `listen` was asked for by name.
    named: bool,
}

impl Interfaces {
    async fn of(options: &MulticastAgent) -> Result<Self> {
        let mut send = Vec::new();
        if let Some(address) = &options.interface {
            send.push(resolve(address).await?);
        }
        if let Some(name) = &options.network_interface {
            // The last word, as in ActiveMQ.
            send = vec![address_of(name)?];
        }
        if let Some(name) = &options.join_network_interface {
            let listen = address_of(name)?;
            if send.is_empty() {
                send.push(listen);
            }
            return Ok(Self {
                listen: vec![listen],
                send,
                named: true,
            });
        }
        let mut listen: Vec<_> = addresses()?
            .filter(|(_, address)| !address.is_loopback())
            .map(|(_, address)| address)
            .collect();
        if send.is_empty() {
            send.clone_from(&listen);
        }
        listen.extend(&send);
        listen.sort_unstable();
        listen.dedup();
        Ok(Self {
            listen,
            send,
            named: false,
        })
    }

    /// Joins the group on all of them, or on those that can.
    fn join(&self, socket: &Socket, group: Ipv4Addr) -> Result<()> {
        let mut joined = false;
        for address in &self.listen {
            match socket.join_multicast_v4(&group, address) {
                Ok(()) => joined = true,
                Err(error) if self.named => return Err(error.into()),
                Err(error) => tracing::debug!(%address, %error, "no multicast on a network interface"),
            }
        }
        if joined {
            return Ok(());
        }
        Err(failed(
            "no network interface can be used for multicast; one can be named, as in joinNetworkInterface=lo",
        ))
    }
}

/// The names and IPv4 addresses of the interfaces. One with two addresses comes twice, and joins once.
fn addresses() -> Result<impl Iterator<Item = (String, Ipv4Addr)>> {
    let interfaces = if_addrs::get_if_addrs()?;
    Ok(interfaces
        .into_iter()
        .filter_map(|interface| match interface.ip() {
            IpAddr::V4(address) => Some((interface.name, address)),
            IpAddr::V6(_) => None,
        }))
}

fn address_of(name: &str) -> Result<Ipv4Addr> {
    addresses()?
        .find(|(known, _)| known == name)
        .map(|(_, address)| address)
        .ok_or_else(|| {
            failed(&format!(
                "there is no network interface {name} with an IPv4 address"
            ))
        })
}

async fn resolve(host: &str) -> Result<Ipv4Addr> {
    let found = lookup_host((host, 0))
        .await?
        .find_map(|address| match address.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
    found.ok_or_else(|| {
        failed(&format!(
            "{host} has no IPv4 address, which multicast discovery needs"
        ))
    })
}

fn failed(what: &str) -> Error {
    Error::new(ErrorKind::Io, what)
}
