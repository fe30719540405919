//! What a client is told of the outcomes of transactions, in the handshake and when it commits again.

mod common;

use std::path::Path;
use std::time::Duration;

use broker_lite::{Broker, BrokerBuilder};
use common::{Raw, exception, ok};
use openwire_client::wire::{Command, Destination, TransactionOutcomes};

const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MILLIS: u64 = 3_600_000;

fn builder() -> BrokerBuilder {
    Broker::builder().listen("tcp://127.0.0.1:0")
}

async fn on_journal(directory: &Path) -> Broker {
    builder().data_dir(directory).start().await.unwrap()
}

/// A client with a producer.
async fn client(broker: &Broker, queue: &Destination) -> Raw {
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    client.introduce().await;
    client.producer(queue).await;
    client
}

async fn told(broker: &Broker) -> TransactionOutcomes {
    let client = Raw::connect(broker.uri()).await.unwrap();
    client
        .format
        .transaction_outcomes
        .expect("the broker keeps outcomes")
}

#[tokio::test]
async fn the_store_is_the_same_as_long_as_its_files_are() {
    let directory = tempfile::tempdir().unwrap();
    let broker = on_journal(directory.path()).await;
    let first = told(&broker).await;
    assert_eq!(first.kept, HOUR_MILLIS);
    broker.stop().await.unwrap();
    let again = told(&on_journal(directory.path()).await).await;
    assert_eq!(again, first);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = told(&on_journal(elsewhere.path()).await).await;
    assert_ne!(other.store, first.store);
}

#[tokio::test]
async fn a_broker_in_memory_is_another_store_at_each_start() {
    let one = told(&builder().start().await.unwrap()).await;
    let other = told(&builder().start().await.unwrap()).await;
    assert_ne!(one.store, other.store);
    assert_eq!((one.kept, other.kept), (HOUR_MILLIS, HOUR_MILLIS));
}

#[tokio::test]
async fn the_time_told_is_shorter_when_outcomes_are_crowded_out() {
    let broker = builder().transaction_outcomes(3, HOUR).start().await.unwrap();
    let queue = Destination::queue("crowded");
    let mut client = client(&broker, &queue).await;
    for transaction in 1..=4 {
        assert_eq!(
            told(&broker).await.kept,
            HOUR_MILLIS,
            "before transaction {transaction}"
        );
        let commit = client.send_transaction(transaction, &queue, 1).await;
        ok(client.response(commit).await);
    }
    // The first was committed since this test began.
    assert!(told(&broker).await.kept < HOUR_MILLIS / 2);
    assert_eq!(broker.stats().core.outcomes, 3);
    let (class, _) = exception(&client.commit(1).await);
    assert_eq!(class, "javax.jms.JMSException");
    ok(client.commit(2).await);
}

#[tokio::test]
async fn a_half_open_connection_is_taken_over_and_its_commit_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let broker = on_journal(directory.path()).await;
    let queue = Destination::queue("half-open");
    for transaction in 1..=20 {
        let mut old = client(&broker, &queue).await;
        old.send_transaction(transaction, &queue, 2).await;
        // The old socket stays open, and nobody reads from it.
        let mut new = Raw::connect(broker.uri()).await.unwrap();
        new.come_again(old.id()).await;
        // Whether the broker has read it by then or not: it says what is true from now on.
        let done = match new.commit(transaction).await {
            Command::Response(_) => true,
            refused => {
                assert_eq!(exception(&refused).0, "javax.jms.JMSException");
                false
            }
        };
        old.read_to_end().await;
        let expected = 2 * usize::from(done);
        assert_eq!(broker.queue_depth("half-open").unwrap_or(0), expected);
        let mut consumer = Raw::connect(broker.uri()).await.unwrap();
        consumer.introduce().await;
        consumer.consumer(&queue, 10).await;
        for _ in 0..expected {
            let message = consumer.dispatch().await;
            let ack = consumer.ack(&queue, &message);
            ok(consumer.request(ack).await);
        }
        assert_eq!(broker.queue_depth("half-open").unwrap_or(0), 0);
    }
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn too_many_outcomes_are_refused() {
    let error = builder()
        .transaction_outcomes(1_000_001, HOUR)
        .start()
        .await
        .unwrap_err();
    assert!(error.is_config(), "{error}");
}
