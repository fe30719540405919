//! Closing: what it waits for, what it tells, and that nothing waits for ever afterwards.

use std::time::Duration;

use openwire_client::wire::{Command, EntityId};
use openwire_client::{AcknowledgeMode, DeliveryMode, Destination, Event};
use tests::scripted::ScriptedPeer;
use tests::{PATIENCE, soon};

use super::*;

/// For what does not come.
const SHORT: Duration = Duration::from_millis(200);

fn message(command: &Command) -> Option<i32> {
    matches!(command, Command::Message(_)).then(|| command.command_id())
}

fn farewell(command: &Command) -> Option<i32> {
    match command {
        Command::RemoveInfo(info) if matches!(info.object_id, Some(EntityId::Connection(_))) => {
            Some(info.command_id)
        }
        _ => None,
    }
}

/// Answers everything until the client has said goodbye.
async fn serve_to_the_end(far: &mut ScriptedConnection) {
    while let Some(command) = far.next().await {
        if matches!(command, Command::ShutdownInfo(_)) {
            break;
        }
        if command.response_required() {
            far.respond(command.command_id()).await;
        }
    }
}

#[tokio::test]
async fn it_waits_for_the_answers_also_those_that_nobody_else_waits_for() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&peer.uri(), &peer).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    let kept = producer.send_pipelined("kept").await.unwrap();
    drop(producer.send_pipelined("dropped").await.unwrap());
    let answering = async {
        let (one, two) = (far.serve_until(message).await, far.serve_until(message).await);
        let bye = far.serve_until(farewell).await;
        far.respond(bye).await;
        far.respond(one).await;
        far.assert_silent().await;
        far.respond(two).await;
        serve_to_the_end(&mut far).await;
    };
    let (closed, ()) = tokio::join!(connection.close_within(PATIENCE), answering);
    closed.unwrap();
    kept.await.unwrap();
    assert_eq!(connection.stats().confirmed, 2);
    connection.close_within(SHORT).await.unwrap();
}

#[tokio::test]
async fn what_is_not_out_in_time_is_told() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&peer.uri(), &peer).await;
    let mut events = connection.events();
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let transacted = session(&connection, AcknowledgeMode::Transacted).await;
    let queue = Destination::queue("q");
    let mut producer = served(&mut far, auto.create_producer(&queue)).await.unwrap();
    let in_transaction = served(&mut far, transacted.create_producer(&queue))
        .await
        .unwrap();
    let (consumer, info) = consumer(&auto, &mut far, "q").await;
    far.send(dispatch(&info, 1)).await;
    soon("a message", consumer.receive()).await.unwrap();
    let receipt = producer.send_pipelined("unanswered").await.unwrap();
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    producer.send("unconfirmed").await.unwrap();
    in_transaction.send("rolled back").await.unwrap();
    // The peer reads and says nothing.
    let reading = async { while far.next().await.is_some() {} };
    let (closed, ()) = tokio::join!(connection.close_within(SHORT), reading);
    let error = closed.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let unfinished = error.unfinished().expect("it tells");
    assert_eq!(
        (
            unfinished.unanswered,
            unfinished.unsent,
            unfinished.acknowledgements,
            unfinished.transactions
        ),
        (1, 0, 1, 1)
    );
    // The one of the transaction is one of them: there is no tracker that would repeat it.
    assert_eq!(unfinished.unconfirmed, 2);
    assert!(soon("the receipt", receipt).await.unwrap_err().is_closed());
    event(&mut events, |event| {
        matches!(event, Event::Closed { .. }).then_some(())
    })
    .await;
    // To ask again is to hear the same.
    let again = connection.close_within(SHORT).await.unwrap_err();
    assert_eq!(again.unfinished(), error.unfinished());
}

#[tokio::test]
async fn another_broker_gets_what_waits() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    let receipt = producer.send_pipelined("kept").await.unwrap();
    drop(producer.send_pipelined("dropped").await.unwrap());
    far.serve_until(message).await;
    far.serve_until(message).await;
    drop(far);
    interrupted(&mut events).await;
    let serving = async {
        let (mut far, _) = peer.accepted().await;
        serve_to_the_end(&mut far).await;
    };
    let (closed, ()) = tokio::join!(connection.close_within(PATIENCE), serving);
    closed.unwrap();
    receipt.await.unwrap();
    assert_eq!(connection.stats().confirmed, 2);
}

#[tokio::test]
async fn a_broker_that_breaks_off_while_it_is_taken_leave_of_is_followed_by_another() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    let receipt = producer.send_pipelined("1").await.unwrap();
    let serving = async {
        far.serve_until(message).await;
        far.serve_until(farewell).await;
        drop(far);
        let (mut far, _) = peer.accepted().await;
        serve_to_the_end(&mut far).await;
    };
    let (closed, ()) = tokio::join!(connection.close_within(PATIENCE), serving);
    closed.unwrap();
    receipt.await.unwrap();
}

#[tokio::test]
async fn nobody_comes_back_only_to_say_goodbye() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let serving = async {
        far.serve_until(farewell).await;
        drop(far);
    };
    let (closed, ()) = tokio::join!(connection.close_within(PATIENCE), serving);
    closed.unwrap();
    peer.assert_idle().await;
}

#[tokio::test]
async fn without_a_broker_it_ends_in_time_and_every_receipt_with_it() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    drop((far, peer));
    interrupted(&mut events).await;
    let receipt = producer.send_pipelined("unsent").await.unwrap();
    let error = connection.close_within(SHORT).await.unwrap_err();
    let unfinished = error.unfinished().expect("it tells");
    assert_eq!((unfinished.unanswered, unfinished.unsent), (0, 1));
    assert!(error.is_timeout() && soon("the receipt", receipt).await.is_err());
    assert!(producer.send("late").await.unwrap_err().is_closed());
}

#[tokio::test]
async fn closing_without_a_time_does_not_wait_for_another_broker() {
    let peer = ScriptedPeer::bind().await;
    let (connection, far) = connect(&failover(&[&peer], "&jms.closeTimeout=60000"), &peer).await;
    let mut events = connection.events();
    drop((far, peer));
    interrupted(&mut events).await;
    soon("closing", connection.close()).await.unwrap();
}

#[tokio::test]
async fn whoever_gives_up_closing_leaves_a_closed_connection() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&format!("{}?jms.closeTimeout=100", peer.uri()), &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    let receipt = producer.send_pipelined("1").await.unwrap();
    let closing = tokio::time::timeout(SHORT, connection.close_within(PATIENCE)).await;
    assert!(closing.is_err(), "nobody answers");
    event(&mut events, |event| {
        matches!(event, Event::Closed { .. }).then_some(())
    })
    .await;
    assert!(soon("the receipt", receipt).await.is_err());
}
