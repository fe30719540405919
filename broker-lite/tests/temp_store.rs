//! A broker whose non-persistent messages outgrow its memory.

use std::path::Path;
use std::time::Duration;

use broker_lite::{Broker, BrokerBuilder, Settings};
use openwire_client::{
    AcknowledgeMode, Connection, ConnectionFactory, Consumer, DeliveryMode, Destination, Message, Producer,
    Session,
};
use tokio::time::timeout;

/// Nothing here takes as long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(60);
const MEMORY: usize = 8 * 1024 * 1024;

fn broker(data: &Path, limits: &str) -> BrokerBuilder {
    let settings = Settings::parse(&format!("[limits]\nmemoryUsage = {MEMORY}\n{limits}")).unwrap();
    Broker::builder()
        .settings(settings)
        .data_dir(data)
        .listen("tcp://127.0.0.1:0")
}

async fn connect(broker: &Broker) -> (Connection, Session) {
    let factory = ConnectionFactory::new(broker.uri()).unwrap();
    let connection = factory.create_connection().await.unwrap();
    connection.start().await.unwrap();
    let session = connection.create_session(AcknowledgeMode::Auto).await.unwrap();
    (connection, session)
}

async fn producer(session: &Session, queue: &Destination) -> Producer {
    let mut producer = session.create_producer(queue).await.unwrap();
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    producer
}

async fn send(producer: &Producer, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let mut message = Message::bytes(vec![7; 1024]);
        message.set_property("number", number).unwrap();
        producer.send(message).await.unwrap();
    }
}

async fn receive(consumer: &Consumer) -> i64 {
    let message = timeout(DEADLINE, consumer.receive()).await.expect("a message");
    let message = message.unwrap();
    assert_eq!(message.as_bytes().unwrap().len(), 1024);
    message.property_i64("number").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_memory_holds_passes_through_eight_mebibytes_in_order() {
    const MESSAGES: i64 = 30_000;
    let data = tempfile::tempdir().unwrap();
    let broker = broker(data.path(), "").start().await.unwrap();
    let queue = Destination::queue("deep");
    let (producing, session) = connect(&broker).await;
    let producer = producer(&session, &queue).await;
    for first in (0..MESSAGES).step_by(1000) {
        send(&producer, first..first + 1000).await;
        assert!(broker.stats().core.memory_used <= MEMORY);
    }
    // The connection's answer comes behind all that was sent.
    producing.close().await.unwrap();
    assert_eq!(broker.queue_depth("deep"), Some(MESSAGES as usize));
    let stats = broker.stats().core;
    assert!(stats.temp_used as i64 > (MESSAGES - 8 * 1024) * 1024, "{stats:?}");
    assert_eq!((stats.stored_used, stats.blocked), (0, 0));

    let (consuming, session) = connect(&broker).await;
    let consumer = session.create_consumer(&queue).await.unwrap();
    for number in 0..MESSAGES {
        assert_eq!(receive(&consumer).await, number);
        assert!(broker.stats().core.memory_used <= MEMORY);
    }
    consuming.close().await.unwrap();
    let stats = broker.stats().core;
    assert_eq!((stats.memory_used, stats.temp_used), (0, 0));
    broker.stop().await.unwrap();
    assert!(!data.path().join("tmp_storage").exists());
}

#[tokio::test]
async fn a_restart_finds_nothing_of_them() {
    let data = tempfile::tempdir().unwrap();
    let queue = Destination::queue("fleeting");
    for _ in 0..2 {
        let broker = broker(data.path(), "").start().await.unwrap();
        assert!(!data.path().join("tmp_storage").exists());
        assert_eq!(broker.queue_depth("fleeting"), None);
        let (producing, session) = connect(&broker).await;
        send(&producer(&session, &queue).await, 0..8000).await;
        producing.close().await.unwrap();
        assert!(broker.stats().core.temp_used > 0);
        assert!(data.path().join("tmp_storage").exists());
        drop(broker);
    }
}

#[tokio::test]
async fn producers_wait_when_the_temporary_store_is_full() {
    const MESSAGES: i64 = 10_000;
    let data = tempfile::tempdir().unwrap();
    let limit = 1024 * 1024;
    let broker = broker(data.path(), "tempUsage = \"1 mb\"").start().await.unwrap();
    let queue = Destination::queue("full");
    let (producing, session) = connect(&broker).await;
    let producer = producer(&session, &queue).await;
    let sender = tokio::spawn(async move {
        send(&producer, 0..MESSAGES).await;
        producer
    });
    let full = async {
        while broker.stats().core.blocked == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, full).await.expect("the store fills");
    let stats = broker.stats().core;
    assert!((limit..limit + 4096).contains(&stats.temp_used), "{stats:?}");
    assert!(stats.memory_used < MEMORY);

    let (consuming, session) = connect(&broker).await;
    let consumer = session.create_consumer(&queue).await.unwrap();
    for number in 0..MESSAGES {
        assert_eq!(receive(&consumer).await, number);
    }
    sender.await.unwrap();
    consuming.close().await.unwrap();
    producing.close().await.unwrap();
    assert_eq!(broker.stats().core.blocked, 0);
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn a_broker_without_a_data_directory_has_none() {
    let settings = || Settings::parse("[limits]\ntempUsage = \"1 mb\"").unwrap();
    let refused = Broker::builder().settings(settings()).start().await.unwrap_err();
    assert!(refused.is_config());
    assert!(refused.to_string().contains("limits.tempUsage"), "{refused}");
}
