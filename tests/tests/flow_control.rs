//! A broker without room holds its producers back, and lets them go on when there is room again.

use std::time::Duration;

use broker_lite::Broker;
use openwire_client::{AcknowledgeMode, Connection, ConnectionFactory, DeliveryMode, Destination, Message};
use tokio::time::timeout;

/// Nothing here takes as long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(60);
const MESSAGES: i64 = 20_000;

async fn connect(uri: &str) -> Connection {
    let connection = ConnectionFactory::new(uri)
        .unwrap()
        .create_connection()
        .await
        .unwrap();
    connection.start().await.unwrap();
    connection
}

#[tokio::test]
async fn a_producer_waits_for_room_and_nothing_is_lost() {
    let limit = 1024 * 1024;
    let builder = Broker::builder().memory_limit(limit).listen("tcp://127.0.0.1:0");
    let broker = builder.start().await.unwrap();
    let queue = Destination::queue("full");
    let producing = connect(broker.uri()).await;
    let session = producing.create_session(AcknowledgeMode::Auto).await.unwrap();
    let mut producer = session.create_producer(&queue).await.unwrap();
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    let sender = tokio::spawn(async move {
        for number in 0..MESSAGES {
            let mut message = Message::bytes(vec![0; 1024]);
            message.set_property("number", number).unwrap();
            producer.send(message).await.unwrap();
        }
        producer
    });
    let held_back = async {
        while broker.stats().core.memory_used < limit {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, held_back).await.expect("the broker fills");
    assert!(!sender.is_finished());

    let consuming = connect(broker.uri()).await;
    let session = consuming.create_session(AcknowledgeMode::Auto).await.unwrap();
    let consumer = session.create_consumer(&queue).await.unwrap();
    for number in 0..MESSAGES {
        let message = timeout(DEADLINE, consumer.receive())
            .await
            .expect("a message")
            .unwrap();
        assert_eq!(message.property_i64("number").unwrap(), number);
        // Only what one turn brings can be over the limit.
        assert!(broker.stats().core.memory_used < 3 * limit);
    }
    sender.await.unwrap();
    consuming.close().await.unwrap();
    producing.close().await.unwrap();
    broker.stop().await.unwrap();
}
