//! Local transactions.

use openwire_client::{AcknowledgeMode, ConsumerOptions, Destination};

use super::*;

const FAST: &str = "jms.redeliveryPolicy.initialRedeliveryDelay=20&jms.redeliveryPolicy.redeliveryDelay=20";

#[tokio::test]
async fn a_commit_sends_and_consumes_together() {
    let Some(broker) = broker("a_commit_sends_and_consumes_together") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let (input, output) = (Destination::queue("tx.in"), Destination::queue("tx.out"));
    send(&connection, &input, 30).await;
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    // A small prefetch: the broker goes on only because deliveries are reported within the transaction.
    let consumer = session
        .create_consumer_with(&input, ConsumerOptions::with_prefetch(4))
        .await
        .unwrap();
    let producer = producer(&session, &output).await;
    for batch in 0..2 {
        for at in 1..=10 {
            let message = receive(&consumer).await;
            assert_eq!(text(&message), (batch * 10 + at).to_string());
            producer.send(message).await.unwrap();
        }
        assert_eq!(left(&broker, &output).await, Vec::<String>::new());
        session.commit().await.unwrap();
        assert_eq!(
            left(&broker, &output).await,
            numbers(batch * 10 + 1..=batch * 10 + 10)
        );
    }
    // Nothing was done since: nothing to commit.
    session.commit().await.unwrap();
    close(&connection).await;
    assert_eq!(left(&broker, &input).await, numbers(21..=30));
}

#[tokio::test]
async fn a_rollback_takes_back_and_delivers_again() {
    let Some(broker) = broker("a_rollback_takes_back_and_delivers_again") else {
        return;
    };
    let connection = connect(&format!("{}?{FAST}", broker.url())).await;
    let (input, output) = (Destination::queue("tx.in"), Destination::queue("tx.out"));
    send(&connection, &input, 4).await;
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let consumer = consumer(&session, &input).await;
    let producer = producer(&session, &output).await;
    for round in 1..=3 {
        for number in 1..=3 {
            let message = receive(&consumer).await;
            assert_eq!(
                (text(&message), message.delivery_count()),
                (number.to_string(), round)
            );
            producer.send(message).await.unwrap();
        }
        session.rollback().await.unwrap();
    }
    assert_eq!(receive_texts(&consumer, 2).await, numbers(1..=2));
    session.commit().await.unwrap();
    close(&connection).await;
    assert_eq!(left(&broker, &output).await, Vec::<String>::new());
    assert_eq!(left(&broker, &input).await, numbers(3..=4));
}

#[tokio::test]
async fn a_message_that_is_rolled_back_too_often_is_dead() {
    let Some(broker) = broker("a_message_that_is_rolled_back_too_often_is_dead") else {
        return;
    };
    let connection = connect(&format!(
        "{}?{FAST}&jms.redeliveryPolicy.maximumRedeliveries=1",
        broker.url()
    ))
    .await;
    let queue = Destination::queue("tx.poison");
    send(&connection, &queue, 2).await;
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let consumer = consumer(&session, &queue).await;
    for _ in 0..2 {
        assert_eq!(text(&receive(&consumer).await), "1");
        session.rollback().await.unwrap();
    }
    assert_eq!(text(&receive(&consumer).await), "2");
    session.commit().await.unwrap();
    close(&connection).await;
    let connection = connect(&broker.url()).await;
    let session = super::session(&connection, AcknowledgeMode::Auto).await;
    let dead = super::consumer(&session, &Destination::queue("ActiveMQ.DLQ")).await;
    let message = receive(&dead).await;
    assert_eq!(text(&message), "1");
    assert_eq!(message.original_destination(), Some(&queue));
    let cause = message
        .property_string("dlqDeliveryFailureCause")
        .unwrap()
        .unwrap();
    assert!(cause.contains("exceeds redelivery policy limit"), "{cause}");
    close(&connection).await;
}

#[tokio::test]
async fn what_closes_with_an_open_transaction_rolls_it_back() {
    let Some(broker) = broker("what_closes_with_an_open_transaction_rolls_it_back") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let (input, output) = (Destination::queue("tx.in"), Destination::queue("tx.out"));
    send(&connection, &input, 2).await;
    for way in ["close", "drop", "connection"] {
        let other = connect(&broker.url()).await;
        let session = session(&other, AcknowledgeMode::Transacted).await;
        let from = consumer(&session, &input).await;
        let to = producer(&session, &output).await;
        let message = receive(&from).await;
        to.send(message).await.unwrap();
        match way {
            "close" => session.close().await.unwrap(),
            "drop" => drop((session, from, to)),
            _ => {}
        }
        close(&other).await;
        assert_eq!(left(&broker, &output).await, Vec::<String>::new(), "{way}");
    }
    close(&connection).await;
    assert_eq!(left(&broker, &input).await, numbers(1..=2));
}

#[tokio::test]
async fn a_consumer_closed_in_a_transaction_stays_part_of_it() {
    let Some(broker) = broker("a_consumer_closed_in_a_transaction_stays_part_of_it") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let queue = Destination::queue("tx.closed");
    send(&connection, &queue, 3).await;
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let first = consumer(&session, &queue).await;
    assert_eq!(text(&receive(&first).await), "1");
    first.close().await.unwrap();
    session.commit().await.unwrap();
    let second = consumer(&session, &queue).await;
    assert_eq!(text(&receive(&second).await), "2");
    second.close().await.unwrap();
    session.rollback().await.unwrap();
    close(&connection).await;
    assert_eq!(left(&broker, &queue).await, numbers(2..=3));
}

#[tokio::test]
async fn only_transacted_sessions_commit() {
    let Some(broker) = broker("only_transacted_sessions_commit") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    assert!(auto.commit().await.unwrap_err().is_illegal_state());
    assert!(auto.rollback().await.unwrap_err().is_illegal_state());
    let transacted = session(&connection, AcknowledgeMode::Transacted).await;
    assert!(transacted.recover().await.unwrap_err().is_illegal_state());
    close(&connection).await;
}
