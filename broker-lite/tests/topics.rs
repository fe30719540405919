//! A topic whose subscriber does not read, over a real socket.

mod common;

use broker_lite::Broker;
use common::{DEADLINE, Raw};
use openwire_client::wire::Destination;
use tokio::time::timeout;

const BODY: usize = 256 * 1024;
const MESSAGES: i64 = 400;

/// Far below what its prefetch would let the consumer have in flight.
const LIMIT: usize = 4 * 1024 * 1024;

#[tokio::test]
async fn a_subscriber_that_does_not_read_holds_its_producer_back_and_gets_everything_in_the_end() {
    let builder = Broker::builder().memory_limit(LIMIT).listen("tcp://127.0.0.1:0");
    let broker = builder.start().await.unwrap();
    let topic = Destination::topic("flood");
    let mut consumer = Raw::connect(broker.uri()).await.unwrap();
    consumer.introduce().await;
    consumer.consumer(&topic, 32_766).await;
    let mut producer = Raw::connect(broker.uri()).await.unwrap();
    producer.introduce().await;
    producer.producer(&topic).await;
    let destination = topic.clone();
    let sender = tokio::spawn(async move {
        let body = vec![0; BODY];
        for number in 1..=MESSAGES {
            let message = producer.message(number, &destination, false, &body);
            producer.send(message, false).await.unwrap();
        }
        producer
    });
    let held_back = async {
        while broker.stats().core.memory_used < LIMIT {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, held_back).await.expect("the broker fills");
    assert!(!sender.is_finished());
    let sent = broker.stats().core.dispatched as usize * BODY;
    assert!(sent < 64 * 1024 * 1024, "{sent} bytes went to who does not read");

    for number in 1..=MESSAGES {
        let message = timeout(DEADLINE, consumer.dispatch()).await.expect("a message");
        let id = message.message_id.as_ref().unwrap();
        assert_eq!(id.producer_sequence_id, number);
    }
    sender.await.unwrap();
    assert_eq!(broker.stats().core.memory_used, 0);
    broker.stop().await.unwrap();
}
