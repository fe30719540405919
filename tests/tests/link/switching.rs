//! Spare connections, preferred brokers, and connections that are left although they work.

use openwire_client::wire::{Command, ConnectionControl, EntityId, KeepAliveInfo, RemoveInfo};
use openwire_client::{AcknowledgeMode, ConnectionState, Destination, EndpointSource, EndpointState, Event};
use tests::scripted::ScriptedPeer;
use tests::soon;

use super::*;

/// What a connection says of its endpoints, once it is as expected.
async fn endpoints(connection: &Connection, expected: &[(EndpointSource, EndpointState)]) {
    soon("the state of the endpoints", async {
        loop {
            let told = connection.endpoints();
            let told: Vec<_> = told.iter().map(|told| (told.source, told.state)).collect();
            if told == expected {
                break;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn farewell(command: &Command) -> Option<i32> {
    match command {
        Command::RemoveInfo(RemoveInfo {
            object_id: Some(EntityId::Connection(_)),
            command_id,
            ..
        }) => Some(*command_id),
        _ => None,
    }
}

fn message(command: &Command) -> Option<i32> {
    matches!(command, Command::Message(_)).then(|| command.command_id())
}

const SHORT_INACTIVITY: &str =
    "wireFormat.maxInactivityDuration=300&wireFormat.maxInactivityDurationInitalDelay=100";

#[tokio::test]
async fn a_spare_connection_is_not_announced_and_taken_at_a_break() {
    let (first, second) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let uri = failover(&[&first, &second], "&backup=true&stablePeriod=0");
    let (connection, far) = connect(&uri, &first).await;
    let mut events = connection.events();
    let mut spare = second.negotiated().await;
    spare.introduce().await;
    spare.assert_silent().await;
    let configured = EndpointSource::Configured;
    endpoints(
        &connection,
        &[
            (configured, EndpointState::Current),
            (configured, EndpointState::Backup),
        ],
    )
    .await;
    drop(far);
    assert!(spare.accept_client().await.failover_reconnect);
    resumed(&mut events).await;
    assert_eq!(connection.metadata().broker_name(), Some("scripted"));
    // Now the first one is in reserve, and no other connection was made to the second.
    let _spare = first.negotiated().await;
    second.assert_idle().await;
    let failed = &connection.endpoints()[0];
    assert_eq!((failed.failed_attempts, failed.source), (1, configured));
    assert!(
        failed
            .last_failure
            .as_ref()
            .is_some_and(|last| last.error.is_io())
    );
}

#[tokio::test]
async fn a_spare_connection_is_kept_alive_and_made_again_when_it_is_lost() {
    let (first, second) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let uri = format!(
        "failover:({},{}?{SHORT_INACTIVITY})?backup=true&randomize=false",
        first.uri(),
        second.uri()
    );
    let (connection, _far) = connect(&uri, &first).await;
    let mut spare = second.negotiated().await;
    for _ in 0..5 {
        assert!(matches!(spare.next().await, Some(Command::KeepAliveInfo(_))));
        spare.send(KeepAliveInfo::default()).await;
    }
    let question = KeepAliveInfo {
        command_id: 7,
        response_required: true,
    };
    spare.send(question).await;
    soon("an answer", async {
        while !matches!(spare.next().await, Some(Command::KeepAliveInfo(info)) if info.command_id == 7) {}
    })
    .await;
    // It says nothing any more and is given up; another one takes its place.
    let _spare = second.negotiated().await;
    assert_eq!(*connection.state().borrow(), ConnectionState::Connected);
    soon("the end of the silent one", async {
        while spare.next().await.is_some() {}
    })
    .await;
}

#[tokio::test]
async fn as_many_spare_connections_are_kept_as_the_pool_has() {
    let peers = [
        ScriptedPeer::bind().await,
        ScriptedPeer::bind().await,
        ScriptedPeer::bind().await,
        ScriptedPeer::bind().await,
    ];
    let uri = failover(&peers.each_ref(), "&backup=true&backupPoolSize=2");
    let (_connection, _far) = connect(&uri, &peers[0]).await;
    let spares = (peers[1].negotiated().await, peers[2].negotiated().await);
    peers[3].assert_idle().await;
    drop(spares);
    // Lost ones are replaced by whoever is next.
    let _spares = (peers[3].negotiated().await, peers[1].negotiated().await);
}

/// A connection to the second of two peers, the first of which is preferred and closes what it accepts.
async fn beside_the_preferred(
    first: &ScriptedPeer,
    second: &ScriptedPeer,
) -> (Connection, ScriptedConnection) {
    let uri = failover(&[first, second], "&priorityBackup=true");
    let refused = async { drop(first.accept().await) };
    let ((connection, far), ()) = tokio::join!(connect(&uri, second), refused);
    (connection, far)
}

#[tokio::test]
async fn a_preferred_broker_is_returned_to_and_nothing_is_sent_twice() {
    let (first, second) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let (connection, mut far) = beside_the_preferred(&first, &second).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    // It goes on refusing for a while, and then it is there.
    drop(first.accept().await);
    let move_over = async {
        let sent = far.serve_until(message).await;
        let mut preferred = first.negotiated().await;
        let goodbye = far.serve_until(farewell).await;
        preferred.assert_silent().await;
        far.respond(sent).await;
        far.respond(goodbye).await;
        let info = preferred.accept_client().await;
        assert!(info.failover_reconnect);
        preferred
    };
    let (sent, mut preferred) = tokio::join!(producer.send("x"), move_over);
    sent.unwrap();
    assert_eq!(resumed(&mut events).await, (0, 0));
    // The producer is known there, the message is not sent again.
    served(&mut preferred, producer.send("y")).await.unwrap();
    // And there it stays.
    second.assert_idle().await;
}

#[tokio::test]
async fn what_a_broker_does_not_answer_before_it_is_left_is_sent_again() {
    let (first, second) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let (connection, mut far) = beside_the_preferred(&first, &second).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    let move_over = async {
        far.serve_until(message).await;
        let mut preferred = first.negotiated().await;
        preferred.accept_client().await;
        let sent = preferred.serve_until(message).await;
        preferred.respond(sent).await;
        preferred
    };
    let (sent, _preferred) = tokio::join!(producer.send("x"), move_over);
    sent.unwrap();
    assert_eq!(resumed(&mut events).await, (1, 0));
}

#[tokio::test]
async fn a_connection_to_a_preferred_broker_is_not_left_to_spread() {
    let (first, second) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let options = format!("&priorityBackup=true&priorityURIs={}", second.uri());
    let uri = failover(&[&first, &second], &options);
    let refused = async { drop(first.accept().await) };
    let ((_connection, mut far), ()) = tokio::join!(connect(&uri, &second), refused);
    far.send(Box::new(ConnectionControl {
        connected_brokers: Some(format!("{},{}", first.uri(), second.uri()).into()),
        rebalance_connection: true,
        ..ConnectionControl::default()
    }))
    .await;
    first.assert_idle().await;
}

#[tokio::test]
async fn a_new_connection_can_be_asked_for() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    connection.reconnect_now().unwrap();
    let goodbye = far.serve_until(farewell).await;
    far.respond(goodbye).await;
    assert!(far.next().await.is_none());
    let (_far, _) = peer.accepted().await;
    assert_eq!(resumed(&mut events).await, (0, 0));
    assert_eq!(connection.endpoints()[0].failed_attempts, 0);
}

#[tokio::test]
async fn a_new_connection_can_be_asked_for_while_the_next_attempt_is_far_away() {
    let peer = ScriptedPeer::bind().await;
    let uri = format!(
        "failover:({})?jitter=false&initialReconnectDelay=600000&maxReconnectDelay=600000",
        peer.uri()
    );
    let (connection, far) = connect(&uri, &peer).await;
    let mut events = connection.events();
    drop(far);
    interrupted(&mut events).await;
    connection.reconnect_now().unwrap();
    // An attempt that hangs is begun anew as well, and so is the wait after one that failed.
    let hanging = peer.accept().await;
    connection.reconnect_now().unwrap();
    drop(peer.accept().await);
    event(&mut events, |event| {
        matches!(event, Event::Retrying { .. }).then_some(())
    })
    .await;
    connection.reconnect_now().unwrap();
    let (_far, _) = peer.accepted().await;
    resumed(&mut events).await;
    drop(hanging);
}

#[tokio::test]
async fn without_failover_there_is_no_new_connection() {
    let peer = ScriptedPeer::bind().await;
    for options in ["", "maxReconnectAttempts=0"] {
        let uri = match options {
            "" => peer.uri(),
            options => format!("failover:({})?{options}", peer.uri()),
        };
        let (connection, far) = connect(&uri, &peer).await;
        assert!(connection.reconnect_now().unwrap_err().is_illegal_state());
        drop(far);
        let mut state = connection.state();
        soon(
            "the end",
            state.wait_for(|state| *state == ConnectionState::Closed),
        )
        .await
        .unwrap();
        connection.close().await.unwrap();
        assert!(connection.reconnect_now().unwrap_err().is_closed());
    }
}

#[tokio::test]
async fn of_a_master_and_a_slave_the_first_is_preferred_and_the_one_that_failed_comes_last() {
    let (master, slave) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let uri = format!(
        "masterslave:({},{})?initialReconnectDelay=1&maxReconnectDelay=20",
        master.uri(),
        slave.uri()
    );
    let (connection, far) = connect(&uri, &master).await;
    let mut events = connection.events();
    drop(far);
    // The slave is not ready, and accepts nobody; then the master is tried, and then the slave is ready.
    drop(slave.accept().await);
    drop(master.accept().await);
    drop(master.accept().await);
    let (_far, _) = slave.accepted().await;
    resumed(&mut events).await;
    let states: Vec<_> = connection.endpoints().iter().map(|told| told.state).collect();
    assert_eq!(states, [EndpointState::Idle, EndpointState::Current]);
}

#[tokio::test]
async fn what_is_restored_is_answered_or_the_connection_is_of_no_use() {
    let peer = ScriptedPeer::bind().await;
    let uri = failover(&[&peer], "&restoreTimeout=200");
    let (connection, mut far) = connect(&uri, &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let (_consumer, info) = consumer(&session, &mut far, "q").await;
    drop(far);
    let (mut mute, _) = peer.accepted().await;
    assert_eq!(
        mute.serve_until(consumer_info).await.consumer_id,
        info.consumer_id
    );
    resumed(&mut events).await;
    // The connection stands, and the answer does not come.
    interrupted(&mut events).await;
    let (mut far, _) = peer.accepted().await;
    let restored = far.serve_until(consumer_info).await;
    far.respond(restored.command_id).await;
    resumed(&mut events).await;
    // Once it is answered, there is nothing left to wait for.
    peer.assert_idle().await;
}
