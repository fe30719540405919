//! A broker with a journal whose disk is full.

use std::sync::Arc;

use openwire_client::{AcknowledgeMode, ConnectionFactory, Destination};

use super::super::super::suite::DEADLINE;
use super::faults::FaultyDisk;
use super::open;
use crate::Broker;
use crate::store::StoredDestination;

#[tokio::test]
async fn a_commit_that_a_full_disk_refuses_is_rolled_back_and_can_be_done_again() {
    let disk = FaultyDisk::default();
    let (journal, recovered) = open(&disk);
    let broker = Broker::builder()
        .listen("tcp://127.0.0.1:0")
        .store(Arc::new(journal), recovered)
        .start()
        .await
        .unwrap();
    let factory = ConnectionFactory::new(broker.uri()).unwrap();
    let connection = factory.create_connection().await.unwrap();
    connection.start().await.unwrap();
    let [orders, replies, filler] = ["orders", "replies", "filler"].map(Destination::queue);
    let single = connection.create_session(AcknowledgeMode::Auto).await.unwrap();
    let transacted = connection
        .create_session(AcknowledgeMode::Transacted)
        .await
        .unwrap();
    let sender = single.create_producer(&orders).await.unwrap();
    sender.send("order").await.unwrap();
    let consumer = transacted.create_consumer(&orders).await.unwrap();
    let replier = transacted.create_producer(&replies).await.unwrap();
    let received = consumer.receive_timeout(DEADLINE).await.unwrap().unwrap();
    assert_eq!(received.as_text().unwrap(), Some("order"));
    let reply = "x".repeat(3_000);
    replier.send(reply.as_str()).await.unwrap();

    disk.set_space(Some(0));
    let sender = single.create_producer(&filler).await.unwrap();
    let text = "y".repeat(1_000);
    let mut filled = 0;
    let refused = loop {
        match sender.send(text.as_str()).await {
            Ok(_) => filled += 1,
            Err(refused) => break refused,
        }
        assert!(filled < 100, "the disk has no end");
    };
    assert!(refused.is_resource_allocation(), "{refused}");
    assert_eq!(broker.queue_depth("filler"), Some(filled));
    transacted.commit().await.unwrap_err();
    assert_eq!(broker.queue_depth("replies"), Some(0));

    disk.set_space(None);
    let again = consumer.receive_timeout(DEADLINE).await.unwrap();
    let again = again.expect("what the refused commit had consumed");
    assert_eq!(again.as_text().unwrap(), Some("order"));
    replier.send(reply.as_str()).await.unwrap();
    transacted.commit().await.unwrap();
    connection.close().await.unwrap();
    broker.stop().await.unwrap();

    let (_, recovered) = open(&disk);
    let mut left: Vec<_> = recovered
        .destinations
        .iter()
        .map(|found| match &found.destination {
            StoredDestination::Queue(name) => (&**name, found.messages.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    left.sort_unstable();
    assert_eq!(
        left,
        [
            ("queue://filler", filled),
            ("queue://orders", 0),
            ("queue://replies", 1)
        ]
    );
}
