//! Transactions that a break interrupts.

use openwire_client::wire::{Command, TransactionInfo};
use openwire_client::{AcknowledgeMode, Destination, Retry};
use tests::scripted::ScriptedPeer;
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

#[tokio::test]
async fn a_transaction_that_received_something_does_not_survive() {
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&failover(&[&peer], ""), &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("out")))
        .await
        .unwrap();
    let (consumer, info) = consumer(&session, &mut far, "in").await;
    far.send(dispatch(&info, 1)).await;
    producer
        .send(soon("receiving", consumer.receive()).await.unwrap())
        .await
        .unwrap();
    far.serve_until(|command| matches!(command, Command::Message(_)).then_some(()))
        .await;
    drop(far);
    let (mut far, _) = peer.accepted().await;
    resumed(&mut events).await;
    let late = producer.send("late").await.unwrap_err();
    assert!(late.is_rolled_back(), "{late}");
    let error = soon("committing", session.commit()).await.unwrap_err();
    assert!(error.is_rolled_back(), "{error}");
    assert_eq!(error.retry(), Retry::RedoTransaction);
    far.serve_until(consumer_info).await;
    far.assert_silent().await;
    // Once more, and now it goes through.
    far.send(dispatch(&info, 1)).await;
    producer
        .send(soon("receiving", consumer.receive()).await.unwrap())
        .await
        .unwrap();
    let (committed, steps) = tokio::join!(soon("committing", session.commit()), async {
        let mut steps = vec![far.serve_until(step).await];
        let mut acks = 0;
        let id = far
            .serve_until(|command| {
                acks += i32::from(matches!(command, Command::MessageAck(_)));
                commit(command)
            })
            .await;
        steps.push(TransactionInfo::COMMIT_ONE_PHASE);
        far.respond(id).await;
        (steps, acks)
    });
    committed.unwrap();
    assert_eq!(
        steps,
        (vec![TransactionInfo::BEGIN, TransactionInfo::COMMIT_ONE_PHASE], 1)
    );
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
