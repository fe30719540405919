//! Transactions that a break interrupts.

use openwire_client::wire::{Command, MessageAck, MessageId, TransactionInfo};
use openwire_client::{AcknowledgeMode, Consumer, Destination, Message, Producer, Retry};
use tests::scripted::{ScriptedConnection, ScriptedPeer};
use tests::soon;

use super::*;

fn step(command: &Command) -> Option<i8> {
    match command {
        Command::TransactionInfo(info) => Some(info.step),
        _ => None,
    }
}

fn commit(command: &Command) -> Option<i32> {
    step(command)
        .filter(|step| *step == TransactionInfo::COMMIT_ONE_PHASE)
        .map(|_| command.command_id())
}

#[tokio::test]
async fn a_commit_without_an_answer_is_in_doubt() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    producer.send("1").await.unwrap();
    let (committed, mut far) = tokio::join!(soon("committing", session.commit()), async {
        far.serve_until(commit).await;
        drop(far);
        peer.accepted().await.0
    });
    let error = committed.unwrap_err();
    assert!(error.is_in_doubt() && !error.is_rolled_back(), "{error}");
    assert_eq!(error.retry(), Retry::Examine);
    // Nothing of it is told to the new broker, and the session goes on.
    producer.send("2").await.unwrap();
    assert_eq!(far.serve_until(step).await, TransactionInfo::BEGIN);
    let (committed, ()) = tokio::join!(session.commit(), async {
        let id = far.serve_until(commit).await;
        far.respond(id).await;
    });
    committed.unwrap();
}

#[tokio::test]
async fn a_commit_that_takes_too_long_is_in_doubt() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&format!("{}?jms.requestTimeout=200", peer.uri()), &peer).await;
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    producer.send("1").await.unwrap();
    let (committed, _) = tokio::join!(soon("committing", session.commit()), far.serve_until(commit));
    assert!(committed.unwrap_err().is_in_doubt());
}

#[tokio::test]
async fn a_commit_that_no_broker_saw_in_time_is_rolled_back() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], "&jms.requestTimeout=200"), &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    producer.send("1").await.unwrap();
    far.serve_until(step).await;
    drop(far);
    interrupted(&mut events).await;
    let error = soon("committing", session.commit()).await.unwrap_err();
    assert!(error.is_rolled_back() && !error.is_in_doubt(), "{error}");
    // The new broker hears nothing of it.
    let (mut far, _) = peer.accepted().await;
    far.serve_until(|command| matches!(command, Command::ProducerInfo(_)).then_some(()))
        .await;
    far.assert_silent().await;
}

#[tokio::test]
async fn a_commit_during_the_break_is_the_new_brokers() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    producer.send("1").await.unwrap();
    far.serve_until(step).await;
    drop(far);
    interrupted(&mut events).await;
    let (committed, ()) = tokio::join!(soon("committing", session.commit()), async {
        let (mut far, _) = peer.accepted().await;
        assert_eq!(far.serve_until(step).await, TransactionInfo::BEGIN);
        assert!(matches!(far.expect().await, Command::Message(_)));
        let id = far.serve_until(commit).await;
        far.respond(id).await;
    });
    committed.unwrap();
}

/// What the far end sees of a transaction, up to its commit, whose id comes with it.
async fn until_commit(far: &mut ScriptedConnection) -> (Vec<String>, i32) {
    let mut seen = Vec::new();
    let id = far
        .serve_until(|command| {
            match command {
                Command::TransactionInfo(info) if info.step == TransactionInfo::BEGIN => {
                    seen.push("begin".to_owned());
                }
                Command::Message(_) => seen.push("send".to_owned()),
                Command::MessageAck(ack) => seen.push(acknowledged(ack)),
                _ => {}
            }
            commit(command)
        })
        .await;
    (seen, id)
}

fn acknowledged(ack: &MessageAck) -> String {
    let number = |id: &Option<MessageId>| id.as_ref().map_or(0, |id| id.producer_sequence_id);
    let kind = match ack.ack_type {
        MessageAck::DELIVERED => "delivered",
        MessageAck::STANDARD => "acknowledge",
        MessageAck::REDELIVERED => "redelivered",
        _ => "other",
    };
    let (first, last) = (number(&ack.first_message_id), number(&ack.last_message_id));
    let transacted = if ack.transaction_id.is_some() {
        " in it"
    } else {
        ""
    };
    format!("{kind} {first}-{last}{transacted}")
}

async fn receive(consumer: &Consumer) -> Message {
    soon("receiving", consumer.receive()).await.unwrap()
}

/// A message that the broker says it has delivered before.
fn again(consumer: &ConsumerInfo, number: i64) -> MessageDispatch {
    MessageDispatch {
        redelivery_counter: 1,
        ..dispatch(consumer, number)
    }
}

/// A session that has received the messages 1 and 2 and has sent one.
struct Moving {
    _connection: Connection,
    session: Session,
    producer: Producer,
    consumer: Consumer,
    info: ConsumerInfo,
    events: Events,
}

async fn moving(peer: &ScriptedPeer, options: &str, store: Option<&str>) -> (Moving, ScriptedConnection) {
    let uri = failover(&[peer], options);
    let (connection, mut far) = tokio::join!(try_connect(&uri), async {
        match store {
            Some(store) => peer.accepted_keeping_outcomes(store).await,
            None => peer.accepted().await.0,
        }
    });
    let connection = connection.unwrap();
    connection.start().await.unwrap();
    let events = connection.events();
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("out")))
        .await
        .unwrap();
    let (consumer, info) = consumer(&session, &mut far, "in").await;
    for number in 1..=2 {
        far.send(dispatch(&info, number)).await;
        assert_eq!(self::number(&receive(&consumer).await), number);
    }
    producer.send("moved").await.unwrap();
    far.serve_until(|command| matches!(command, Command::Message(_)).then_some(()))
        .await;
    let moving = Moving {
        _connection: connection,
        session,
        producer,
        consumer,
        info,
        events,
    };
    (moving, far)
}

#[tokio::test]
async fn a_transaction_that_received_something_survives() {
    let peer = ScriptedPeer::bind().await;
    let (moving, far) = moving(&peer, "", None).await;
    drop(far);
    let (mut far, _) = peer.accepted().await;
    far.serve_until(consumer_info).await;
    far.send(again(&moving.info, 1)).await;
    let seen = far
        .serve_until(|command| match command {
            Command::MessageAck(ack) => Some(acknowledged(ack)),
            _ => None,
        })
        .await;
    assert_eq!(seen, "delivered 1-1");
    moving.producer.send("late").await.unwrap();
    let (committed, ()) = tokio::join!(soon("committing", moving.session.commit()), async {
        far.serve_until(|command| {
            let Command::Message(message) = command else {
                return None;
            };
            let id = message.message_id.as_ref()?;
            (id.producer_sequence_id == 2).then_some(())
        })
        .await;
        far.assert_silent().await;
        // Not in their old order: another one comes in between, which is not of this transaction.
        far.send(dispatch(&moving.info, 3)).await;
        far.send(again(&moving.info, 2)).await;
        let (seen, id) = until_commit(&mut far).await;
        let expected = ["delivered 2-2", "acknowledge 1-1 in it", "acknowledge 2-2 in it"];
        assert_eq!(seen, expected);
        far.respond(id).await;
    });
    committed.unwrap();
    assert_eq!(number(&receive(&moving.consumer).await), 3);
    assert!(moving.consumer.receive_no_wait().await.unwrap().is_none());
}

#[tokio::test]
async fn what_does_not_come_again_in_time_rolls_the_transaction_back() {
    let peer = ScriptedPeer::bind().await;
    let options =
        "&jms.consumerFailoverRedeliveryWaitPeriod=100&jms.redeliveryPolicy.initialRedeliveryDelay=0";
    let (moving, far) = moving(&peer, options, None).await;
    drop(far);
    let (mut far, _) = peer.accepted().await;
    far.send(again(&moving.info, 1)).await;
    let error = soon("committing", moving.session.commit()).await.unwrap_err();
    assert!(error.is_rolled_back() && !error.is_in_doubt(), "{error}");
    assert_eq!(error.retry(), Retry::RedoTransaction);
    far.serve_until(|command| step(command).filter(|step| *step == TransactionInfo::ROLLBACK))
        .await;
    // What is here is delivered again, and the rest when it comes, flagged although this broker does not know.
    let first = receive(&moving.consumer).await;
    far.send(dispatch(&moving.info, 2)).await;
    let second = receive(&moving.consumer).await;
    assert_eq!([number(&first), number(&second)], [1, 2]);
    assert!(first.redelivered() && second.redelivered());
    moving.producer.send("moved").await.unwrap();
    let (committed, ()) = tokio::join!(soon("committing", moving.session.commit()), async {
        let (seen, id) = until_commit(&mut far).await;
        assert_eq!(seen.last().map(String::as_str), Some("acknowledge 1-2 in it"));
        far.respond(id).await;
    });
    committed.unwrap();
}

#[tokio::test]
async fn what_was_overtaken_is_not_waited_for_to_the_end() {
    let peer = ScriptedPeer::bind().await;
    let options = "&jms.consumerFailoverRedeliveryWaitPeriod=600000";
    let (moving, far) = moving(&peer, options, None).await;
    drop(far);
    let (mut far, _) = peer.accepted().await;
    far.serve_until(consumer_info).await;
    // Another consumer has got what comes before this one.
    far.send(again(&moving.info, 2)).await;
    let error = soon("committing", moving.session.commit()).await.unwrap_err();
    assert!(error.is_rolled_back(), "{error}");
}

#[tokio::test]
async fn a_commit_waits_for_the_next_broker_and_for_what_comes_again() {
    let peer = ScriptedPeer::bind().await;
    let (mut moving, far) = moving(&peer, "", None).await;
    drop(far);
    interrupted(&mut moving.events).await;
    let (committed, ()) = tokio::join!(soon("committing", moving.session.commit()), async {
        // One broker more that breaks before it is done.
        let (mut far, _) = peer.accepted().await;
        far.serve_until(consumer_info).await;
        far.send(again(&moving.info, 1)).await;
        far.serve_until(|command| matches!(command, Command::MessageAck(_)).then_some(()))
            .await;
        drop(far);
        let (mut far, _) = peer.accepted().await;
        far.serve_until(consumer_info).await;
        far.send(again(&moving.info, 1)).await;
        far.send(again(&moving.info, 2)).await;
        let (seen, id) = until_commit(&mut far).await;
        let expected = [
            "begin",
            "send",
            "delivered 1-1",
            "delivered 2-2",
            "acknowledge 1-2 in it",
        ];
        assert_eq!(seen, expected);
        far.respond(id).await;
    });
    committed.unwrap();
}

#[tokio::test]
async fn what_a_topic_has_delivered_does_not_come_again() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let topic = Destination::topic("t");
    let answer = async {
        let info = far.serve_until(consumer_info).await;
        far.respond(info.command_id).await;
        info
    };
    let (consumer, info) = tokio::join!(session.create_consumer(&topic), answer);
    let consumer = consumer.unwrap();
    far.send(dispatch(&info, 1)).await;
    receive(&consumer).await;
    drop(far);
    interrupted(&mut events).await;
    // No broker has to be waited for.
    let error = soon("committing", session.commit()).await.unwrap_err();
    assert!(error.is_rolled_back(), "{error}");
}

#[tokio::test]
async fn a_rollback_during_the_break_does_not_wait_for_a_broker() {
    let peer = ScriptedPeer::bind().await;
    let (mut moving, far) = moving(&peer, "", None).await;
    drop(far);
    interrupted(&mut moving.events).await;
    soon("rolling back", moving.session.rollback()).await.unwrap();
    let (mut far, _) = peer.accepted().await;
    far.serve_until(consumer_info).await;
    far.send(dispatch(&moving.info, 1)).await;
    assert!(receive(&moving.consumer).await.redelivered());
    // A new transaction has begun with it.
    assert_eq!(far.serve_until(step).await, TransactionInfo::BEGIN);
    far.assert_silent().await;
}

#[tokio::test]
async fn a_commit_is_asked_for_where_its_outcome_is_kept() {
    let peer = ScriptedPeer::bind().await;
    let (moving, mut far) = moving(&peer, "", Some("store")).await;
    let (committed, mut far) = tokio::join!(soon("committing", moving.session.commit()), async {
        let (_, id) = until_commit(&mut far).await;
        drop(far);
        // The next one breaks before it has answered.
        for last in [false, true] {
            let mut far = peer.accepted_keeping_outcomes("store").await;
            let again = far.expect().await;
            assert_eq!(commit(&again), Some(id), "{again:?}");
            far.assert_silent().await;
            if last {
                far.respond(id).await;
                return far;
            }
        }
        unreachable!("the last one answers");
    });
    committed.unwrap();
    // All is restored but the transaction.
    far.serve_until(consumer_info).await;
    far.assert_silent().await;
}

#[tokio::test]
async fn a_commit_that_has_not_happened_is_done_again() {
    let peer = ScriptedPeer::bind().await;
    let (moving, mut far) = moving(&peer, "", Some("store")).await;
    let (committed, ()) = tokio::join!(soon("committing", moving.session.commit()), async {
        let (_, id) = until_commit(&mut far).await;
        drop(far);
        let mut far = peer.accepted_keeping_outcomes("store").await;
        assert_eq!(commit(&far.expect().await), Some(id));
        far.refuse(id, "javax.jms.JMSException").await;
        far.serve_until(consumer_info).await;
        far.send(again(&moving.info, 1)).await;
        far.send(again(&moving.info, 2)).await;
        let (seen, second) = until_commit(&mut far).await;
        assert_eq!(
            seen,
            [
                "begin",
                "send",
                "delivered 1-1",
                "delivered 2-2",
                "acknowledge 1-2 in it"
            ]
        );
        assert_ne!(id, second);
        // And this one breaks as well.
        drop(far);
        let mut far = peer.accepted_keeping_outcomes("store").await;
        assert_eq!(commit(&far.expect().await), Some(second));
        far.respond(second).await;
    });
    committed.unwrap();
}

#[tokio::test]
async fn another_store_leaves_a_commit_in_doubt() {
    let peer = ScriptedPeer::bind().await;
    let (moving, mut far) = moving(&peer, "", Some("store")).await;
    let (committed, mut far) = tokio::join!(soon("committing", moving.session.commit()), async {
        until_commit(&mut far).await;
        drop(far);
        peer.accepted_keeping_outcomes("another").await
    });
    let error = committed.unwrap_err();
    let doubt = error.in_doubt().expect("it is in doubt");
    assert!(doubt.transaction.starts_with("TX:ID:"), "{doubt:?}");
    assert_eq!(error.retry(), Retry::Examine);
    // Nothing of it is told, and nothing hides what comes again.
    far.serve_until(consumer_info).await;
    far.assert_silent().await;
    far.send(dispatch(&moving.info, 1)).await;
    assert!(receive(&moving.consumer).await.redelivered());
}

#[tokio::test]
async fn a_commit_whose_broker_does_not_come_back_in_time_is_in_doubt() {
    let peer = ScriptedPeer::bind().await;
    let (moving, mut far) = moving(&peer, "&jms.requestTimeout=500", Some("store")).await;
    let (committed, far) = tokio::join!(soon("committing", moving.session.commit()), async {
        until_commit(&mut far).await;
        drop(far);
        // It asks, and is not answered.
        let mut far = peer.accepted_keeping_outcomes("store").await;
        assert!(commit(&far.expect().await).is_some());
        far
    });
    assert!(committed.unwrap_err().is_in_doubt());
    // The connection goes on without the answer.
    let mut far = far;
    far.serve_until(consumer_info).await;
    far.assert_silent().await;
}

#[tokio::test]
async fn a_commit_that_is_not_waited_for_is_not_repeated() {
    let peer = ScriptedPeer::bind().await;
    let (moving, mut far) = moving(&peer, "", Some("store")).await;
    tokio::select! {
        _ = moving.session.commit() => panic!("nobody answers"),
        _ = until_commit(&mut far) => {}
    }
    drop(far);
    let mut far = peer.accepted_keeping_outcomes("store").await;
    far.serve_until(consumer_info).await;
    far.assert_silent().await;
    // The session goes on.
    far.send(again(&moving.info, 1)).await;
    assert!(receive(&moving.consumer).await.redelivered());
}

#[tokio::test]
async fn a_commit_that_is_dropped_while_it_waits_is_rolled_back() {
    let peer = ScriptedPeer::bind().await;
    let options = "&jms.redeliveryPolicy.initialRedeliveryDelay=0";
    let (moving, far) = moving(&peer, options, None).await;
    drop(far);
    let (mut far, _) = peer.accepted().await;
    let rollback = |command: &Command| step(command).filter(|step| *step == TransactionInfo::ROLLBACK);
    let came_again = async {
        far.serve_until(consumer_info).await;
        far.send(again(&moving.info, 1)).await;
        far.serve_until(|command| matches!(command, Command::MessageAck(_)).then_some(()))
            .await;
    };
    tokio::select! {
        _ = moving.session.commit() => panic!("something is missing"),
        () = came_again => {}
    }
    far.serve_until(rollback).await;
    assert!(receive(&moving.consumer).await.redelivered());
}

#[tokio::test]
async fn a_consumer_with_no_prefetch_asks_for_what_must_come_again() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) =
        connect(&failover(&[&peer], "&jms.prefetchPolicy.queuePrefetch=0"), &peer).await;
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let (consumer, info) = consumer(&session, &mut far, "in").await;
    let pull = |command: &Command| matches!(command, Command::MessagePull(_)).then_some(());
    for number in 1..=2 {
        let answer = async {
            far.serve_until(pull).await;
            far.send(dispatch(&info, number)).await;
        };
        tokio::join!(receive(&consumer), answer);
    }
    drop(far);
    let (mut far, _) = peer.accepted().await;
    let (committed, ()) = tokio::join!(soon("committing", session.commit()), async {
        for number in 1..=2 {
            far.serve_until(pull).await;
            far.send(again(&info, number)).await;
        }
        let (seen, id) = until_commit(&mut far).await;
        assert_eq!(seen.last().map(String::as_str), Some("acknowledge 1-2 in it"));
        far.respond(id).await;
    });
    committed.unwrap();
}

#[tokio::test]
async fn a_rollback_without_an_answer_has_happened() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    producer.send("1").await.unwrap();
    let rollback = |command: &Command| step(command).filter(|step| *step == TransactionInfo::ROLLBACK);
    let (rolled_back, mut far) = tokio::join!(soon("rolling back", session.rollback()), async {
        far.serve_until(rollback).await;
        drop(far);
        peer.accepted().await.0
    });
    rolled_back.unwrap();
    far.serve_until(|command| matches!(command, Command::ProducerInfo(_)).then_some(()))
        .await;
    far.assert_silent().await;
}

#[tokio::test]
async fn a_commit_that_is_refused_is_rolled_back() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&peer.uri(), &peer).await;
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    producer.send("1").await.unwrap();
    let (committed, ()) = tokio::join!(soon("committing", session.commit()), async {
        let id = far.serve_until(commit).await;
        far.refuse(id, "javax.jms.JMSException").await;
    });
    assert!(committed.unwrap_err().is_rolled_back());
}
