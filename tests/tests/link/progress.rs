//! What is told of producers and consumers that do not get on.

use std::time::Duration;

use openwire_client::options::ConnectionOptions;
use openwire_client::wire::{Command, ProducerAck};
use openwire_client::{AcknowledgeMode, ConnectionState, DeliveryMode, Destination, Event};
use tests::scripted::ScriptedPeer;
use tests::soon;

use super::*;

/// Short, and long enough for what answers at once.
const PATIENCE: &str = "jms.blockedAfter=60&jms.slowConsumerAfter=60";

async fn blocked(events: &mut Events) -> (Option<Destination>, u64, bool) {
    event(events, |event| match event {
        Event::Blocked {
            destination,
            waiting,
            window_full,
            ..
        } => Some((destination, waiting, window_full)),
        _ => None,
    })
    .await
}

async fn unblocked(events: &mut Events) -> Duration {
    event(events, |event| match event {
        Event::Unblocked { blocked_for, .. } => Some(blocked_for),
        _ => None,
    })
    .await
}

fn is_message(command: &Command) -> Option<i32> {
    matches!(command, Command::Message(_)).then(|| command.command_id())
}

#[tokio::test]
async fn a_send_that_is_not_answered_blocks_until_it_is() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&format!("{}?{PATIENCE}", peer.uri()), &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let queue = Destination::queue("q");
    let producer = served(&mut far, session.create_producer(&queue)).await.unwrap();
    let answering = async {
        let id = far.serve_until(is_message).await;
        assert_eq!(blocked(&mut events).await, (Some(queue.clone()), 1, false));
        far.respond(id).await;
        unblocked(&mut events).await
    };
    let (sent, blocked_for) = tokio::join!(producer.send("slowly"), answering);
    sent.unwrap();
    let stats = connection.stats();
    assert_eq!((stats.sent, stats.confirmed, stats.blocked), (1, 1, 1));
    assert_eq!(u128::from(stats.blocked_millis), blocked_for.as_millis());
}

#[tokio::test]
async fn pipelined_sends_are_blocked_while_none_of_them_is_answered() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&format!("{}?{PATIENCE}", peer.uri()), &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    let first = producer.send_pipelined("1").await.unwrap();
    // Whether or not somebody holds its receipt.
    drop(producer.send_pipelined("2").await.unwrap());
    let (one, two) = (
        far.serve_until(is_message).await,
        far.serve_until(is_message).await,
    );
    let (_, waiting, _) = blocked(&mut events).await;
    assert_eq!(waiting, 2);
    far.respond(one).await;
    unblocked(&mut events).await;
    first.await.unwrap();
    let (_, waiting, _) = blocked(&mut events).await;
    assert_eq!(waiting, 1);
    far.respond(two).await;
    unblocked(&mut events).await;
    assert_eq!(connection.stats().confirmed, 2);
}

#[tokio::test]
async fn a_full_window_blocks_until_the_broker_has_taken_something_in() {
    let peer = ScriptedPeer::bind().await;
    let uri = format!("{}?{PATIENCE}&jms.producerWindowSize=1", peer.uri());
    let (connection, mut far) = connect(&uri, &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let mut producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    producer.send("goes over the edge").await.unwrap();
    let opening = async {
        let (_, waiting, window_full) = blocked(&mut events).await;
        assert_eq!((waiting, window_full), (1, true));
        far.send(ProducerAck {
            producer_id: Some(producer.id().clone()),
            size: 1 << 20,
            ..ProducerAck::default()
        })
        .await;
        unblocked(&mut events).await;
    };
    let (sent, ()) = tokio::join!(producer.send("waits"), opening);
    sent.unwrap();
}

#[tokio::test]
async fn a_block_ends_with_the_connection_and_begins_anew() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], &format!("&{PATIENCE}")), &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    let receipt = producer.send_pipelined("1").await.unwrap();
    far.serve_until(is_message).await;
    blocked(&mut events).await;
    drop(far);
    unblocked(&mut events).await;
    let (mut far, _) = peer.accepted().await;
    let id = far.serve_until(is_message).await;
    blocked(&mut events).await;
    far.respond(id).await;
    receipt.await.unwrap();
    unblocked(&mut events).await;
}

#[tokio::test]
async fn a_consumer_that_lets_messages_wait_is_slow_until_it_has_taken_them() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&format!("{}?{PATIENCE}", peer.uri()), &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Client).await;
    let (consumer, info) = consumer(&session, &mut far, "q").await;
    for index in 1..=3 {
        far.send(dispatch(&info, index)).await;
    }
    soon("a message", consumer.receive()).await.unwrap();
    let slow = event(&mut events, |event| match event {
        Event::SlowConsumer {
            consumer,
            destination,
            waiting,
            unacknowledged,
        } => Some((consumer, destination, waiting, unacknowledged)),
        _ => None,
    })
    .await;
    assert_eq!(
        slow,
        (consumer.id().clone(), consumer.destination().clone(), 2, 1)
    );
    soon("a message", consumer.receive()).await.unwrap();
    soon("a message", consumer.receive()).await.unwrap();
    event(&mut events, |event| {
        matches!(event, Event::ConsumerCaughtUp { .. }).then_some(())
    })
    .await;
    assert_eq!(connection.stats().slow_consumers, 1);
}

#[tokio::test]
async fn a_stopped_connection_has_no_slow_consumers() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&format!("{}?{PATIENCE}", peer.uri()), &peer).await;
    let session = session(&connection, AcknowledgeMode::Client).await;
    let (stopped, info) = consumer(&session, &mut far, "q").await;
    connection.stop().await.unwrap();
    far.send(dispatch(&info, 1)).await;
    far.assert_silent().await;
    assert_eq!(connection.stats().slow_consumers, 0);
    drop(stopped);
}

#[tokio::test]
async fn streams_and_state_agree() {
    let peer = ScriptedPeer::bind().await;
    let (connection, far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut early = connection.events();
    let first = soon("the first event", early.next()).await;
    assert!(matches!(first, Some(Event::Connected { .. })), "{first:?}");
    let mut state = connection.state();
    drop(far);
    soon(
        "the break",
        state.wait_for(|state| *state == ConnectionState::Interrupted),
    )
    .await
    .unwrap();
    // A late subscriber begins with what led there, or with what followed.
    let first = soon("the first event", connection.events().next()).await;
    assert!(
        matches!(first, Some(Event::Interrupted { .. } | Event::Resumed { .. })),
        "{first:?}"
    );
    let (_far, _) = peer.accepted().await;
    let attempt = event(&mut early, |event| match event {
        Event::Connecting { broker, attempt } => Some((broker, attempt)),
        _ => None,
    })
    .await;
    assert_eq!(attempt, (peer.uri(), 1));
    resumed(&mut early).await;
    assert_eq!(*connection.state().borrow(), ConnectionState::Connected);
}

#[test]
fn the_patience_has_a_default_and_can_be_without_an_end() {
    let options = ConnectionOptions::default();
    assert!(options.blocked_after.is_some() && options.slow_consumer_after.is_some());
    let factory = ConnectionFactory::new("tcp://h:1?jms.blockedAfter=-1&jms.slowConsumerAfter=-1").unwrap();
    assert_eq!(factory.options().blocked_after, None);
    assert_eq!(factory.options().slow_consumer_after, None);
}
