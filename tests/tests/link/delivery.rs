//! Messages that were dispatched when the connection broke.

use openwire_client::AcknowledgeMode;
use openwire_client::wire::{Command, MessageAck};
use tests::scripted::ScriptedPeer;
use tests::soon;

use super::*;

fn ack(command: &Command) -> Option<MessageAck> {
    match command {
        Command::MessageAck(ack) => Some((**ack).clone()),
        _ => None,
    }
}

fn acknowledged(ack: &MessageAck) -> (i8, i64, i32) {
    let last = ack
        .last_message_id
        .as_ref()
        .map_or(0, |id| id.producer_sequence_id);
    (ack.ack_type, last, ack.message_count)
}

#[tokio::test]
async fn prefetched_messages_are_dropped_and_come_again() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let (consumer, info) = consumer(&auto, &mut far, "q").await;
    for number in 1..=3 {
        far.send(dispatch(&info, number)).await;
    }
    assert_eq!(number(&soon("receiving", consumer.receive()).await.unwrap()), 1);
    assert_eq!(
        acknowledged(&far.serve_until(ack).await),
        (MessageAck::STANDARD, 1, 1)
    );
    drop(far);
    interrupted(&mut events).await;
    assert!(consumer.receive_no_wait().await.unwrap().is_none());
    let (mut far, _) = peer.accepted().await;
    resumed(&mut events).await;
    for number in 2..=3 {
        far.send(dispatch(&info, number)).await;
        assert_eq!(
            super::number(&soon("receiving", consumer.receive()).await.unwrap()),
            number
        );
        assert_eq!(
            acknowledged(&far.serve_until(ack).await),
            (MessageAck::STANDARD, number, 1)
        );
    }
}

#[tokio::test]
async fn a_message_whose_acknowledgement_was_lost_is_not_shown_again() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let (consumer, info) = consumer(&auto, &mut far, "q").await;
    far.send(dispatch(&info, 1)).await;
    soon("receiving", consumer.receive()).await.unwrap();
    drop(far);
    let (mut far, _) = peer.accepted().await;
    resumed(&mut events).await;
    let mut again = dispatch(&info, 1);
    again.redelivery_counter = 1;
    far.send(again).await;
    far.send(dispatch(&info, 2)).await;
    assert_eq!(number(&soon("receiving", consumer.receive()).await.unwrap()), 2);
    // Both are acknowledged, in order.
    assert_eq!(
        acknowledged(&far.serve_until(ack).await),
        (MessageAck::STANDARD, 1, 1)
    );
    assert_eq!(
        acknowledged(&far.serve_until(ack).await),
        (MessageAck::STANDARD, 2, 1)
    );
    assert_eq!(connection.stats().duplicates, 1);
}

#[tokio::test]
async fn acknowledging_what_was_delivered_before_the_break_is_an_error() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    for mode in [AcknowledgeMode::Client, AcknowledgeMode::Individual] {
        let session = session(&connection, mode).await;
        let (consumer, info) = consumer(&session, &mut far, "q").await;
        far.send(dispatch(&info, 1)).await;
        let old = soon("receiving", consumer.receive()).await.unwrap();
        drop(far);
        (far, _) = peer.accepted().await;
        resumed(&mut events).await;
        assert!(old.acknowledge().await.unwrap_err().is_interrupted());
        // It comes again, and this time it can be acknowledged.
        far.send(dispatch(&info, 1)).await;
        let new = soon("receiving", consumer.receive()).await.unwrap();
        new.acknowledge().await.unwrap();
        let sent = far.serve_until(ack).await;
        assert_eq!(sent.last_message_id.map(|id| id.producer_sequence_id), Some(1));
        session.close().await.unwrap();
    }
}

#[tokio::test]
async fn acknowledgements_of_the_old_connection_are_not_sent_to_the_new_one() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], "&jms.sendAcksAsync=false"), &peer).await;
    let client = session(&connection, AcknowledgeMode::Client).await;
    let (consumer, info) = consumer(&client, &mut far, "q").await;
    far.send(dispatch(&info, 1)).await;
    let message = soon("receiving", consumer.receive()).await.unwrap();
    let (acknowledged, mut far) = tokio::join!(soon("acknowledging", message.acknowledge()), async {
        far.serve_until(ack).await;
        drop(far);
        peer.accepted().await.0
    });
    assert!(acknowledged.unwrap_err().is_in_doubt());
    far.serve_until(consumer_info).await;
    far.assert_silent().await;
}

#[tokio::test]
async fn a_waiting_pull_is_repeated() {
    let peer = ScriptedPeer::bind().await;
    let uri = failover(&[&peer], "&jms.prefetchPolicy.queuePrefetch=0");
    let (connection, mut far) = connect(&uri, &peer).await;
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let (consumer, info) = consumer(&auto, &mut far, "q").await;
    let pull = |command: &Command| match command {
        Command::MessagePull(pull) => Some(pull.timeout),
        _ => None,
    };
    let (received, ()) = tokio::join!(soon("receiving", consumer.receive()), async {
        assert_eq!(far.serve_until(pull).await, 0);
        drop(far);
        let (mut far, _) = peer.accepted().await;
        assert_eq!(far.serve_until(pull).await, 0);
        far.send(dispatch(&info, 7)).await;
        far.serve_until(ack).await;
    });
    assert_eq!(number(&received.unwrap()), 7);
}

#[tokio::test]
async fn a_broker_that_sends_without_end_is_left() {
    let peer = ScriptedPeer::bind().await;
    let uri = format!("{}?jms.prefetchPolicy.queuePrefetch=1", peer.uri());
    let (connection, mut far) = connect(&uri, &peer).await;
    let mut events = connection.events();
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let (_consumer, info) = consumer(&auto, &mut far, "q").await;
    far.flood(&dispatch(&info, 1)).await;
    let cause = event(&mut events, |event| match event {
        Event::Closed { cause, .. } => Some(cause),
        _ => None,
    })
    .await;
    assert!(cause.is_some_and(|cause| cause.to_string().contains("prefetch")));
}

#[tokio::test]
async fn a_message_whose_acknowledgement_is_not_answered_in_time_is_handed_over() {
    let peer = ScriptedPeer::bind().await;
    let uri = failover(&[&peer], "&jms.sendAcksAsync=false&jms.requestTimeout=100");
    let (connection, mut far) = connect(&uri, &peer).await;
    let client = session(&connection, AcknowledgeMode::Auto).await;
    let (consumer, info) = consumer(&client, &mut far, "q").await;
    for sent in 1..=2 {
        far.send(dispatch(&info, sent)).await;
        let received = soon("receiving", consumer.receive()).await.unwrap();
        assert_eq!(number(&received), sent);
        assert_eq!(
            acknowledged(&far.serve_until(ack).await),
            (MessageAck::STANDARD, sent, 1)
        );
    }
}

#[tokio::test]
async fn a_message_whose_acknowledgement_the_end_of_the_connection_leaves_open_is_handed_over() {
    let peer = ScriptedPeer::bind().await;
    // The second message completes a batch, which is acknowledged as a whole.
    for (options, count) in [("", 1), ("&jms.optimizeAcknowledge=true", 2)] {
        let uri = format!(
            "{}?jms.sendAcksAsync=false&jms.prefetchPolicy.queuePrefetch=4{options}",
            peer.uri()
        );
        let (connection, mut far) = connect(&uri, &peer).await;
        let auto = session(&connection, AcknowledgeMode::Auto).await;
        let (consumer, info) = consumer(&auto, &mut far, "q").await;
        for sent in 1..=count {
            far.send(dispatch(&info, sent)).await;
        }
        for wanted in 1..count {
            let received = soon("receiving", consumer.receive()).await.unwrap();
            assert_eq!(number(&received), wanted);
        }
        let (received, ()) = tokio::join!(soon("receiving", consumer.receive()), async {
            let all = acknowledged(&far.serve_until(ack).await);
            assert_eq!(all, (MessageAck::STANDARD, count, count as i32));
            drop(far);
        });
        assert_eq!(number(&received.unwrap()), count);
        assert!(soon("receiving", consumer.receive()).await.unwrap_err().is_io());
    }
}

#[tokio::test]
async fn the_refusal_of_an_acknowledgement_is_an_error() {
    let peer = ScriptedPeer::bind().await;
    let uri = failover(&[&peer], "&jms.sendAcksAsync=false");
    let (connection, mut far) = connect(&uri, &peer).await;
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let (consumer, info) = consumer(&auto, &mut far, "q").await;
    far.send(dispatch(&info, 1)).await;
    let (received, ()) = tokio::join!(soon("receiving", consumer.receive()), async {
        let asked = far
            .serve_until(|command| ack(command).map(|ack| ack.command_id))
            .await;
        far.refuse(asked, "javax.jms.JMSException").await;
    });
    assert!(received.unwrap_err().throwable().is_some());
}

#[tokio::test]
async fn a_listener_goes_on_after_an_acknowledgement_that_a_break_left_open() {
    let peer = ScriptedPeer::bind().await;
    let uri = failover(&[&peer], "&jms.sendAcksAsync=false");
    let (connection, mut far) = connect(&uri, &peer).await;
    let mut events = connection.events();
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let (consumer, info) = consumer(&auto, &mut far, "q").await;
    let (seen, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let listener = consumer
        .listen(move |message| {
            let told = seen.send(number(&message));
            async move { told }
        })
        .unwrap();
    far.send(dispatch(&info, 1)).await;
    assert_eq!(soon("a message", heard.recv()).await, Some(1));
    far.serve_until(ack).await;
    drop(far);
    let (mut far, _) = peer.accepted().await;
    resumed(&mut events).await;
    let mut again = dispatch(&info, 1);
    again.redelivery_counter = 1;
    far.send(again).await;
    far.send(dispatch(&info, 2)).await;
    assert_eq!(soon("a message", served(&mut far, heard.recv())).await, Some(2));
    served(&mut far, listener.close()).await.unwrap();
}
