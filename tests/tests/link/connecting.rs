//! How a connection begins and ends.

use std::time::{Duration, Instant};

use openwire_client::wire::{Command, ConnectionControl, KeepAliveInfo, WireFormatOptions};
use openwire_client::{AcknowledgeMode, ConnectionFactory, ConnectionState, Destination, Event, Retry};
use tests::process::free_port;
use tests::scripted::ScriptedPeer;
use tests::soon;

use super::*;

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let error = try_connect(&format!("tcp://127.0.0.1:{}", free_port()))
        .await
        .unwrap_err();
    assert!(error.is_io(), "{error}");
    assert_eq!(error.retry(), Retry::Reconnect);
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_given_up() {
    let peer = ScriptedPeer::bind().await;
    let uri = format!("{}?wireFormat.maxInactivityDurationInitalDelay=100", peer.uri());
    let (error, _silent) = tokio::join!(try_connect(&uri), peer.accept());
    assert!(error.unwrap_err().is_timeout());
}

#[tokio::test]
async fn a_peer_that_does_not_accept_is_given_up() {
    let peer = ScriptedPeer::bind().await;
    let uri = format!("{}?jms.connectResponseTimeout=100", peer.uri());
    let (error, _silent) = tokio::join!(try_connect(&uri), peer.negotiated());
    assert!(error.unwrap_err().is_timeout());
}

#[tokio::test]
async fn connecting_has_a_deadline_with_failover_too() {
    let factory = ConnectionFactory::new(&format!("failover:(tcp://127.0.0.1:{})", free_port()))
        .unwrap()
        .connect_timeout(Duration::from_millis(200));
    let error = soon("connecting", factory.create_connection()).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
}

#[tokio::test]
async fn failover_gives_up_after_as_many_passes_as_it_may() {
    let uri = format!(
        "failover:(tcp://127.0.0.1:{})?startupMaxReconnectAttempts=3&initialReconnectDelay=1",
        free_port()
    );
    let error = try_connect(&uri).await.unwrap_err();
    assert!(error.is_io(), "{error}");
}

#[tokio::test]
async fn a_peer_that_closes_or_talks_nonsense_is_an_error() {
    let peer = ScriptedPeer::bind().await;
    let uri = peer.uri();
    let (error, ()) = tokio::join!(try_connect(&uri), async { drop(peer.accept().await) });
    assert!(error.unwrap_err().is_io());
    let (error, ()) = tokio::join!(try_connect(&uri), async { drop(peer.negotiated().await) });
    assert!(error.unwrap_err().is_io());
    let nonsense = async {
        let mut far = peer.accept().await;
        far.send_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        far
    };
    let (error, _far) = tokio::join!(try_connect(&uri), nonsense);
    let error = error.unwrap_err();
    assert!(!error.is_io() && !error.is_timeout(), "{error}");
}

#[tokio::test]
async fn a_version_that_is_too_old_is_refused() {
    let peer = ScriptedPeer::bind().await;
    let uri = format!("{}?minmumWireFormatVersion=10", peer.uri());
    let old = async {
        let mut options = WireFormatOptions::default();
        options.version = 9;
        let mut far = peer.accept().await;
        far.handshake(&options).await;
        far
    };
    let (error, _far) = tokio::join!(try_connect(&uri), old);
    assert!(error.unwrap_err().to_string().contains("version 9"));
}

#[tokio::test]
async fn wrong_credentials_are_final_with_failover_too() {
    let peer = ScriptedPeer::bind().await;
    for uri in [peer.uri(), failover(&[&peer], "")] {
        let refusing = async {
            let mut far = peer.negotiated().await;
            let Command::ConnectionInfo(info) = far.expect().await else {
                panic!("a ConnectionInfo is due");
            };
            assert_eq!(info.user_name.as_deref(), Some("eve"));
            assert_eq!(info.fault_tolerant, uri.starts_with("failover"));
            far.refuse(info.command_id, "java.lang.SecurityException").await;
            far
        };
        let factory = ConnectionFactory::new(&uri).unwrap().credentials("eve", "guess");
        let (error, _far) = tokio::join!(factory.create_connection(), refusing);
        assert!(error.unwrap_err().is_security());
        peer.assert_idle().await;
    }
}

#[tokio::test]
async fn a_single_broker_that_goes_is_the_end() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&peer.uri(), &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let queue = Destination::queue("q");
    let producer = served(&mut far, session.create_producer(&queue)).await.unwrap();
    let (consumer, _) = consumer(&session, &mut far, "q").await;
    let break_it = async {
        // The message is on its way, and unanswered.
        far.serve_until(|command| matches!(command, Command::Message(_)).then_some(()))
            .await;
        drop(far);
    };
    let (sent, received, ()) = tokio::join!(
        soon("sending", producer.send("x")),
        soon("receiving", consumer.receive()),
        break_it
    );
    assert!(sent.unwrap_err().is_io());
    assert!(received.unwrap_err().is_io());
    let cause = event(&mut events, |event| match event {
        Event::Closed { cause, .. } => Some(cause),
        _ => None,
    })
    .await;
    assert!(cause.is_some_and(|cause| cause.is_io()));
    assert!(producer.send("y").await.unwrap_err().is_closed());
    assert!(session.create_producer(&queue).await.unwrap_err().is_closed());
    assert_eq!(*connection.state().borrow(), ConnectionState::Closed);
    soon("closing", connection.close()).await.unwrap();
}

#[tokio::test]
async fn closing_says_goodbye_in_order() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&peer.uri(), &peer).await;
    let _session = session(&connection, AcknowledgeMode::Auto).await;
    let farewell = async {
        let mut seen = Vec::new();
        while let Some(command) = far.next().await {
            seen.push(command.type_id());
            if command.response_required() {
                far.respond(command.command_id()).await;
            }
        }
        seen
    };
    let (closed, seen) = tokio::join!(connection.close(), farewell);
    closed.unwrap();
    // SessionInfo, RemoveInfo of the session and of the connection, ShutdownInfo.
    assert_eq!(seen, [4, 12, 12, 11]);
    assert!(
        connection
            .create_session(AcknowledgeMode::Auto)
            .await
            .unwrap_err()
            .is_closed()
    );
}

#[tokio::test]
async fn closing_has_a_deadline() {
    let peer = ScriptedPeer::bind().await;
    let (connection, far) = connect(&format!("{}?jms.closeTimeout=100", peer.uri()), &peer).await;
    let begun = Instant::now();
    connection.close().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(far);
}

#[tokio::test]
async fn dropping_the_last_handle_says_goodbye() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&peer.uri(), &peer).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    drop((connection, session));
    producer.session_is_alive(&mut far).await;
    drop(producer);
    let mut seen = Vec::new();
    while let Some(command) = far.next().await {
        seen.push(command.type_id());
    }
    assert_eq!(seen, [12, 12, 12, 11]);
}

trait StillWorks {
    async fn session_is_alive(&self, far: &mut ScriptedConnection);
}

impl StillWorks for openwire_client::Producer {
    async fn session_is_alive(&self, far: &mut ScriptedConnection) {
        served(far, self.send("x"))
            .await
            .expect("its connection is still there");
    }
}

#[tokio::test]
async fn handles_can_be_dropped_after_their_runtime() {
    let held = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let peer = ScriptedPeer::bind().await;
            let (connection, mut far) = connect(&peer.uri(), &peer).await;
            let session = session(&connection, AcknowledgeMode::Transacted).await;
            let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
                .await
                .unwrap();
            let (consumer, _) = consumer(&session, &mut far, "q").await;
            producer.send("x").await.unwrap();
            (connection, session, producer, consumer)
        })
    })
    .join()
    .unwrap();
    drop(held);
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_taken_for_dead() {
    let peer = ScriptedPeer::bind().await;
    let options = "wireFormat.maxInactivityDuration=300&wireFormat.maxInactivityDurationInitalDelay=100";
    let (connection, mut far) = connect(&format!("{}?{options}", peer.uri()), &peer).await;
    // It lives as long as it speaks, and says itself that it lives.
    for _ in 0..5 {
        let Some(Command::KeepAliveInfo(info)) = far.next().await else {
            panic!("a sign of life is due");
        };
        assert!(!info.response_required);
        far.send(KeepAliveInfo::default()).await;
    }
    assert_eq!(*connection.state().borrow(), ConnectionState::Connected);
    let mut state = connection.state();
    soon(
        "the end",
        state.wait_for(|state| *state == ConnectionState::Closed),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_sign_of_life_that_asks_is_answered() {
    let peer = ScriptedPeer::bind().await;
    let (_connection, mut far) = connect(&peer.uri(), &peer).await;
    far.send(KeepAliveInfo {
        command_id: 77,
        response_required: true,
    })
    .await;
    let Some(Command::KeepAliveInfo(answer)) = far.next().await else {
        panic!("an answer is due");
    };
    assert_eq!((answer.command_id, answer.response_required), (77, false));
}

#[tokio::test]
async fn a_broker_can_send_its_clients_elsewhere() {
    let (first, second, third) = (
        ScriptedPeer::bind().await,
        ScriptedPeer::bind().await,
        ScriptedPeer::bind().await,
    );
    let (connection, mut far) = connect(&failover(&[&first], ""), &first).await;
    let mut events = connection.events();
    far.send(Box::new(ConnectionControl {
        connected_brokers: Some(format!("{},{}", second.uri(), first.uri()).into()),
        rebalance_connection: true,
        ..ConnectionControl::default()
    }))
    .await;
    let (mut far, _) = second.accepted().await;
    resumed(&mut events).await;
    far.send(Box::new(ConnectionControl {
        reconnect_to: Some(third.uri().into()),
        ..ConnectionControl::default()
    }))
    .await;
    let (far, _) = third.accepted().await;
    resumed(&mut events).await;
    // From now on nobody else counts.
    drop(far);
    let _far = third.accepted().await;
    resumed(&mut events).await;
    first.assert_idle().await;
}

#[tokio::test]
async fn a_broker_that_accepts_and_closes_is_not_hammered() {
    let peer = ScriptedPeer::bind().await;
    let uri = format!("failover:({})?jitter=false&initialReconnectDelay=40", peer.uri());
    let (_connection, far) = connect(&uri, &peer).await;
    let begun = Instant::now();
    drop(far);
    for _ in 0..4 {
        drop(peer.accepted().await);
    }
    // 40 + 80 + 160 + 320: the delay goes on growing although each connection was made.
    assert!(
        begun.elapsed() >= Duration::from_millis(600),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn advisories_are_watched_unless_the_uri_says_no() {
    let peer = ScriptedPeer::bind().await;
    let factory = ConnectionFactory::new(&failover(&[&peer], "")).unwrap();
    let (connection, (mut far, _)) = tokio::join!(factory.create_connection(), peer.accepted());
    let connection = connection.unwrap();
    let mut events = connection.events();
    let topic = "topic://ActiveMQ.Advisory.TempQueue,ActiveMQ.Advisory.TempTopic";
    let info = far.serve_until(consumer_info).await;
    assert_eq!(
        info.destination.as_ref().map(ToString::to_string).as_deref(),
        Some(topic)
    );
    assert_eq!(
        info.consumer_id.as_ref().map(|id| (id.session_id, id.value)),
        Some((-1, 1))
    );
    // A new broker is told as well.
    drop(far);
    let (mut far, _) = peer.accepted().await;
    resumed(&mut events).await;
    assert_eq!(far.serve_until(consumer_info).await.consumer_id, info.consumer_id);
    // One that keeps its advisories to itself is as good as any other.
    far.refuse(info.command_id, "java.lang.SecurityException").await;
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    served(&mut far, auto.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
}
