//! What a new broker is told after a break, and what becomes of what the old one has not answered.

use std::time::Duration;

use openwire_client::wire::{Command, EntityId, Message as WireMessage};
use openwire_client::{AcknowledgeMode, DeliveryMode, Destination, Event};
use tests::process::free_port;
use tests::scripted::ScriptedPeer;
use tests::soon;

use super::*;

/// A line for each command, to compare an order with.
fn line(command: &Command) -> String {
    match command {
        Command::ConnectionControl(control) => format!("control faultTolerant={}", control.fault_tolerant),
        Command::ConnectionInfo(info) => {
            format!("connection {} again={}", info.command_id, info.failover_reconnect)
        }
        Command::DestinationInfo(_) => "temporary".into(),
        Command::SessionInfo(info) => format!("session {}", info.session_id.as_ref().unwrap().value),
        Command::ProducerInfo(info) => format!("producer {}", info.producer_id.as_ref().unwrap().value),
        Command::ConsumerInfo(info) => format!("consumer {}", info.consumer_id.as_ref().unwrap().value),
        Command::TransactionInfo(info) => format!("transaction step {}", info.step),
        Command::Message(message) => format!("message {}", sequence(message)),
        other => format!("{other:?}"),
    }
}

fn sequence(message: &WireMessage) -> i64 {
    message.message_id.as_ref().unwrap().producer_sequence_id
}

fn message(command: &Command) -> Option<WireMessage> {
    match command {
        Command::Message(message) => Some((**message).clone()),
        _ => None,
    }
}

/// The next commands, each answered if it asks for that.
async fn lines(far: &mut ScriptedConnection, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..count {
        let command = far.expect().await;
        lines.push(line(&command));
        if command.response_required() {
            far.respond(command.command_id()).await;
        }
    }
    lines
}

#[tokio::test]
async fn the_new_broker_is_told_everything_in_order() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    let queue = Destination::queue("q");
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let transacted = session(&connection, AcknowledgeMode::Transacted).await;
    let temporary = served(&mut far, auto.create_temporary_queue()).await.unwrap();
    let (_from_queue, _) = consumer(&auto, &mut far, "q").await;
    let _from_temporary = served(&mut far, auto.create_consumer(&temporary)).await.unwrap();
    let gone = served(&mut far, auto.create_producer(&queue)).await.unwrap();
    let _producer = served(&mut far, auto.create_producer(&queue)).await.unwrap();
    let sender = served(&mut far, transacted.create_producer(&queue))
        .await
        .unwrap();
    drop(gone);
    sender.send("a").await.unwrap();
    sender.send("b").await.unwrap();
    far.serve_until(|command| message(command).filter(|message| sequence(message) == 2))
        .await;
    drop(far);

    let mut far = peer.negotiated().await;
    assert_eq!(
        lines(&mut far, 2).await,
        ["control faultTolerant=true", "connection 1 again=true"]
    );
    let expected = [
        "temporary",
        "session 1",
        "producer 2",
        "consumer 1",
        "consumer 2",
        "session 2",
        "producer 1",
        "transaction step 0",
        "message 1",
        "message 2",
    ];
    assert_eq!(lines(&mut far, expected.len()).await, expected);
    assert_eq!(resumed(&mut events).await, (0, 0));
    // And life goes on: the commit is the new broker's.
    let (committed, step) = tokio::join!(transacted.commit(), lines(&mut far, 1));
    committed.unwrap();
    assert_eq!(step, ["transaction step 2"]);
}

#[tokio::test]
async fn nothing_is_said_before_the_new_broker_accepts() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let _producer = served(&mut far, auto.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    drop(far);
    let mut far = peer.negotiated().await;
    assert_eq!(line(&far.expect().await), "control faultTolerant=true");
    let Command::ConnectionInfo(info) = far.expect().await else {
        panic!("a ConnectionInfo is due");
    };
    far.assert_silent().await;
    // The broker has not noticed the end of the old connection: the client tries again.
    far.refuse(info.command_id, "javax.jms.InvalidClientIDException")
        .await;
    let (mut far, _) = peer.accepted().await;
    assert_eq!(lines(&mut far, 2).await, ["session 1", "producer 1"]);
}

#[tokio::test]
async fn unanswered_sends_go_out_again_under_their_old_ids() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, auto.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    let mut receipts = Vec::new();
    for text in ["1", "2", "3", "4"] {
        receipts.push(producer.send_pipelined(text).await.unwrap());
    }
    // Whoever gives up the answer does not give up the message.
    drop(receipts.remove(3));
    let mut sent = Vec::new();
    for _ in 0..4 {
        sent.push(far.serve_until(message).await);
    }
    far.respond(sent[1].command_id).await;
    let first = receipts.remove(0);
    soon("the second answer", receipts.remove(0)).await.unwrap();
    drop(far);

    let (mut far, _) = peer.accepted().await;
    assert_eq!(lines(&mut far, 2).await, ["session 1", "producer 1"]);
    for expected in [&sent[0], &sent[2], &sent[3]] {
        let again = message(&far.expect().await).expect("a message is due");
        assert_eq!(again, *expected);
        far.respond(again.command_id).await;
    }
    soon("the first answer", first).await.unwrap();
    soon("the third answer", receipts.remove(0)).await.unwrap();
    assert_eq!(resumed(&mut events).await, (3, 0));
    far.assert_silent().await;
}

#[tokio::test]
async fn what_was_sent_without_waiting_and_may_be_lost_is_counted() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let mut producer = served(&mut far, auto.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    for text in ["1", "2"] {
        producer.send(text).await.unwrap();
    }
    // The answer to anything later proves that both have arrived.
    let _other = served(&mut far, auto.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    for text in ["3", "4", "5"] {
        producer.send(text).await.unwrap();
    }
    far.serve_until(|command| message(command).filter(|message| sequence(message) == 5))
        .await;
    drop(far);
    let (_far, _) = peer.accepted().await;
    assert_eq!(resumed(&mut events).await, (0, 3));
    assert_eq!(connection.stats().lost, 3);
}

#[tokio::test]
async fn tracked_messages_go_out_again() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(
        &failover(&[&peer], "&trackMessages=true&maxCacheSize=2000"),
        &peer,
    )
    .await;
    let mut events = connection.events();
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let mut producer = served(&mut far, auto.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    for _ in 0..3 {
        producer.send(vec![1_u8; 600]).await.unwrap();
    }
    far.serve_until(|command| message(command).filter(|message| sequence(message) == 3))
        .await;
    drop(far);
    let (mut far, _) = peer.accepted().await;
    // There is room for two of them.
    assert_eq!(
        lines(&mut far, 4).await,
        ["session 1", "producer 1", "message 2", "message 3"]
    );
    assert_eq!(resumed(&mut events).await, (2, 1));
}

#[tokio::test]
async fn what_was_still_waiting_goes_to_the_new_broker() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let mut producer = served(&mut far, auto.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    drop(far);
    interrupted(&mut events).await;
    producer.send("1").await.unwrap();
    producer.send("2").await.unwrap();
    let (mut far, _) = peer.accepted().await;
    assert_eq!(
        lines(&mut far, 4).await,
        ["session 1", "producer 1", "message 1", "message 2"]
    );
    assert_eq!(resumed(&mut events).await, (0, 0));
}

#[tokio::test]
async fn requests_keep_their_deadline_over_a_break() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], "&jms.requestTimeout=300"), &peer).await;
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, auto.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    let (sent, _silent) = tokio::join!(soon("sending", producer.send("1")), async {
        far.serve_until(message).await;
        drop(far);
        let mut far = peer.negotiated().await;
        let _ = far.expect().await;
        far
    });
    assert!(sent.unwrap_err().is_timeout());
}

#[tokio::test]
async fn sends_wait_for_a_connection_as_long_as_the_uri_says() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], "&timeout=100"), &peer).await;
    let mut events = connection.events();
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, auto.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    drop((far, peer));
    interrupted(&mut events).await;
    assert!(
        soon("sending", producer.send("1"))
            .await
            .unwrap_err()
            .is_timeout()
    );
}

#[tokio::test]
async fn a_request_that_was_refused_is_not_restored() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let queue = Destination::queue("q");
    let refusing = async {
        let info = far.serve_until(consumer_info).await;
        far.refuse(info.command_id, "javax.jms.InvalidSelectorException")
            .await;
    };
    let (refused, ()) = tokio::join!(auto.create_consumer(&queue), refusing);
    assert!(refused.unwrap_err().is_invalid_selector());
    drop(far);
    let (mut far, _) = peer.accepted().await;
    assert_eq!(lines(&mut far, 1).await, ["session 1"]);
    far.assert_silent().await;
}

#[tokio::test]
async fn a_consumer_closed_during_the_break_is_not_restored() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let (stays, _) = consumer(&auto, &mut far, "q").await;
    let (goes, _) = consumer(&auto, &mut far, "q").await;
    drop(far);
    interrupted(&mut events).await;
    goes.close().await.unwrap();
    let (mut far, _) = peer.accepted().await;
    assert_eq!(lines(&mut far, 2).await, ["session 1", "consumer 1"]);
    stays.close().await.unwrap();
    let removed = far
        .serve_until(|command| match command {
            Command::RemoveInfo(info) => Some(info.object_id.clone()),
            _ => None,
        })
        .await;
    assert!(matches!(removed, Some(EntityId::Consumer(id)) if id.value == 2 || id.value == 1));
}

#[tokio::test]
async fn what_a_new_broker_refuses_is_told() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let (consumer, _) = consumer(&auto, &mut far, "q").await;
    drop(far);
    let (mut far, _) = peer.accepted().await;
    let info = far.serve_until(consumer_info).await;
    far.refuse(info.command_id, "java.lang.SecurityException").await;
    assert!(
        soon("receiving", consumer.receive())
            .await
            .unwrap_err()
            .is_security()
    );
    let told = event(&mut events, |event| match event {
        Event::NotRestored { id, .. } => Some(id),
        _ => None,
    })
    .await;
    assert_eq!(told, consumer.id().to_string());
    // It is not tried again.
    drop(far);
    let (mut far, _) = peer.accepted().await;
    assert_eq!(lines(&mut far, 1).await, ["session 1"]);
    far.assert_silent().await;
}

#[tokio::test]
async fn the_other_addresses_are_tried_before_the_one_that_failed() {
    let (a, b) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let (connection, far) = connect(&failover(&[&a, &b], ""), &a).await;
    let mut events = connection.events();
    drop(far);
    let (_far, _) = b.accepted().await;
    let (attempts, broker) = event(&mut events, |event| match event {
        Event::Resumed { attempts, broker, .. } => Some((attempts, broker)),
        _ => None,
    })
    .await;
    assert_eq!((attempts, broker), (1, b.uri()));
    a.assert_idle().await;
}

#[tokio::test]
async fn failover_that_may_not_go_on_ends_with_the_cause() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], "&maxReconnectAttempts=2"), &peer).await;
    let mut events = connection.events();
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, auto.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    let (sent, ()) = tokio::join!(soon("sending", producer.send("1")), async {
        far.serve_until(message).await;
        drop((far, peer));
    });
    assert!(sent.unwrap_err().is_io());
    let cause = event(&mut events, |event| match event {
        Event::Closed { cause, .. } => Some(cause),
        _ => None,
    })
    .await;
    assert!(cause.is_some());
}

#[tokio::test]
async fn closing_during_a_break_does_not_wait_for_a_broker() {
    let peer = ScriptedPeer::bind().await;
    let uri = format!("failover:({},tcp://127.0.0.1:{})", peer.uri(), free_port());
    let (connection, far) = connect(&uri, &peer).await;
    let mut events = connection.events();
    drop((far, peer));
    interrupted(&mut events).await;
    let closed = tokio::time::timeout(Duration::from_secs(5), connection.close()).await;
    closed.expect("closing is quick").unwrap();
}
