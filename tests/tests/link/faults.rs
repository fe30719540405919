//! Every fault of a connect and of what follows, for the first connection and for another one after a break: it ends
//! within its deadline, with the right error, and another address gets the connection.

use std::time::Duration;

use openwire_client::wire::Command;
use openwire_client::{AcknowledgeMode, ConnectionState, Destination, Message};
use tests::process::free_port;
use tests::scripted::ScriptedPeer;
use tests::soon;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::*;

/// What is wrong with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Refused,
    BlackHole,
    AcceptThenClose,
    Silence,
    Garbage,
    HandshakeThenSilence,
    BadPassword,
    ClientIdInUse,
}

/// The deadlines of each step, in milliseconds.
const SHORT: &str = "connectionTimeout=300&negotiationTimeout=300";

impl Fault {
    fn is_told_by(self, error: &Error) -> bool {
        match self {
            Self::Refused | Self::AcceptThenClose => error.is_io(),
            Self::BlackHole | Self::Silence | Self::HandshakeThenSilence => error.is_timeout(),
            Self::Garbage => !error.is_io() && !error.is_timeout(),
            Self::BadPassword => error.is_security(),
            Self::ClientIdInUse => error.is_invalid_client_id(),
        }
    }

    /// A first connection ends with it, although there are other addresses.
    fn is_final(self) -> bool {
        matches!(self, Self::BadPassword | Self::ClientIdInUse)
    }

    /// Somebody who has it. Lives as long as the runtime of the test.
    async fn peer(self) -> String {
        let uri = match self {
            Self::Refused => format!("tcp://127.0.0.1:{}", free_port()),
            Self::BlackHole => black_hole().await,
            _ => {
                let peer = ScriptedPeer::bind().await;
                let uri = peer.uri();
                tokio::spawn(async move {
                    let mut held = Vec::new();
                    loop {
                        held.extend(self.meet(&peer).await);
                    }
                });
                uri
            }
        };
        format!("{uri}?{SHORT}")
    }

    /// What the peer does to one connection, and whether it keeps it.
    async fn meet(self, peer: &ScriptedPeer) -> Option<ScriptedConnection> {
        let mut far = peer.accept().await;
        match self {
            Self::Refused | Self::BlackHole | Self::AcceptThenClose => return None,
            Self::Silence => {}
            Self::Garbage => far.send_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
            Self::HandshakeThenSilence => far.handshake(&Default::default()).await,
            Self::BadPassword | Self::ClientIdInUse => {
                far.handshake(&Default::default()).await;
                let info = far
                    .serve_until(|command| match command {
                        Command::ConnectionInfo(info) => Some(info.command_id),
                        _ => None,
                    })
                    .await;
                let class = match self {
                    Self::BadPassword => "java.lang.SecurityException",
                    _ => "javax.jms.InvalidClientIDException",
                };
                far.refuse(info, class).await;
            }
        }
        Some(far)
    }
}

/// An address that never answers: a listener whose queue is full, and stays so.
async fn black_hole() -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queue.push(stream.unwrap());
    }
    tokio::spawn(async move {
        let _held = (listener, queue);
        std::future::pending::<()>().await;
    });
    format!("tcp://{address}")
}

const OPTIONS: &str =
    "randomize=false&initialReconnectDelay=1&maxReconnectDelay=20&jms.connectResponseTimeout=300";

/// What is recorded of the address at `index`.
fn recorded(connection: &Connection, index: usize, fault: Fault) {
    let told = &connection.endpoints()[index];
    let last = told.last_failure.as_ref().expect("it was tried");
    assert!(fault.is_told_by(&last.error), "{fault:?}: {}", last.error);
}

async fn first(fault: Fault) {
    let sick = fault.peer().await;
    let error = try_connect(&format!("{sick}&jms.connectResponseTimeout=300"))
        .await
        .unwrap_err();
    assert!(fault.is_told_by(&error), "{fault:?}: {error}");

    let healthy = ScriptedPeer::bind().await;
    let uri = format!("failover:({sick},{})?{OPTIONS}", healthy.uri());
    if fault.is_final() {
        let error = try_connect(&uri).await.unwrap_err();
        assert!(fault.is_told_by(&error), "{fault:?}: {error}");
        healthy.assert_idle().await;
    } else {
        let (connection, _far) = connect(&uri, &healthy).await;
        recorded(&connection, 0, fault);
    }
}

async fn again(fault: Fault) {
    let (victim, healthy) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let sick = fault.peer().await;
    let uri = format!("failover:({},{sick},{})?{OPTIONS}", victim.uri(), healthy.uri());
    let (connection, far) = connect(&uri, &victim).await;
    let mut events = connection.events();
    drop(victim);
    drop(far);
    let (_far, _) = healthy.accepted().await;
    resumed(&mut events).await;
    recorded(&connection, 1, fault);
}

macro_rules! cells {
    ($($name:ident: $fault:ident,)*) => {
        mod at_first {
            $(#[tokio::test]
            async fn $name() {
                super::first(super::Fault::$fault).await;
            })*
        }

        mod after_a_break {
            $(#[tokio::test]
            async fn $name() {
                super::again(super::Fault::$fault).await;
            })*
        }
    };
}

cells! {
    refused: Refused,
    black_hole: BlackHole,
    accept_then_close: AcceptThenClose,
    silence: Silence,
    garbage_instead_of_a_handshake: Garbage,
    handshake_then_silence: HandshakeThenSilence,
    bad_password: BadPassword,
    client_id_in_use: ClientIdInUse,
}

/// A peer that takes its time for each step, but less than it has.
async fn open_slowly(peer: &ScriptedPeer) -> ScriptedConnection {
    let mut far = peer.accept().await;
    peer.assert_idle().await;
    far.handshake(&Default::default()).await;
    peer.assert_idle().await;
    far.accept_client().await;
    far
}

#[tokio::test]
async fn a_very_slow_open_is_waited_for_at_first_and_after_a_break() {
    let peer = ScriptedPeer::bind().await;
    let uri = failover(&[&peer], "");
    let (connection, far) = tokio::join!(try_connect(&uri), open_slowly(&peer));
    let connection = connection.unwrap();
    let mut events = connection.events();
    drop(far);
    let _far = open_slowly(&peer).await;
    resumed(&mut events).await;
}

mod while_it_lives {
    use super::*;

    const INACTIVITY: &str =
        "wireFormat.maxInactivityDuration=300&wireFormat.maxInactivityDurationInitalDelay=100";

    /// Waits for the end of a connection.
    async fn ended(connection: &Connection) {
        let mut state = connection.state();
        let closed = |state: &ConnectionState| *state == ConnectionState::Closed;
        soon("the end", state.wait_for(closed)).await.unwrap();
    }

    #[tokio::test]
    async fn half_open_after_traffic_is_the_end_of_a_single_broker() {
        let peer = ScriptedPeer::bind().await;
        let (connection, mut far) = connect(&format!("{}?{INACTIVITY}", peer.uri()), &peer).await;
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
            .await
            .unwrap();
        // The socket stays open, and nobody is behind it any more.
        let error = soon("sending", producer.send("x")).await.unwrap_err();
        assert!(error.is_io(), "{error}");
        ended(&connection).await;
        drop(far);
    }

    #[tokio::test]
    async fn half_open_after_traffic_is_recovered_from_elsewhere() {
        let (peer, healthy) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
        let uri = format!(
            "failover:({}?{INACTIVITY},{})?{OPTIONS}",
            peer.uri(),
            healthy.uri()
        );
        let (connection, mut far) = connect(&uri, &peer).await;
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
            .await
            .unwrap();
        let recover = async {
            let (mut far, _) = healthy.accepted().await;
            let message =
                |command: &Command| matches!(command, Command::Message(_)).then(|| command.command_id());
            let sent = far.serve_until(message).await;
            far.respond(sent).await;
            far
        };
        let (sent, _healthy) = tokio::join!(soon("sending", producer.send("x")), recover);
        sent.unwrap();
        drop(far);
    }

    /// More than the buffers between two sockets take.
    fn large() -> Message {
        Message::bytes(vec![0; 16 << 20])
    }

    #[tokio::test]
    async fn a_reader_that_reads_no_more_is_the_end_of_a_single_broker() {
        let peer = ScriptedPeer::bind().await;
        let uri = format!("{}?soWriteTimeout=300", peer.uri());
        let (connection, mut far) = connect(&uri, &peer).await;
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
            .await
            .unwrap();
        let error = soon("sending", producer.send(large())).await.unwrap_err();
        assert!(error.is_timeout() || error.is_io(), "{error}");
        ended(&connection).await;
        drop(far);
    }

    #[tokio::test]
    async fn a_reader_that_reads_no_more_is_recovered_from_elsewhere() {
        let (peer, healthy) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
        let uri = format!(
            "failover:({}?soWriteTimeout=300,{})?{OPTIONS}",
            peer.uri(),
            healthy.uri()
        );
        let (connection, mut far) = connect(&uri, &peer).await;
        let session = session(&connection, AcknowledgeMode::Auto).await;
        let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
            .await
            .unwrap();
        let recover = async {
            let (mut far, _) = healthy.accepted().await;
            let message =
                |command: &Command| matches!(command, Command::Message(_)).then(|| command.command_id());
            let sent = far.serve_until(message).await;
            far.respond(sent).await;
            far
        };
        let (sent, _healthy) = tokio::join!(soon("sending", producer.send(large())), recover);
        sent.unwrap();
        drop(far);
    }
}
