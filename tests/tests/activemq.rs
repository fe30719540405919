//! The client against a real ActiveMQ.

use std::time::Duration;

use openwire_client::{AcknowledgeMode, Connection, ConnectionFactory, DeliveryMode, Destination, Message};
use tests::peers::{ActiveMq, Peers};
use tests::soon;

fn broker(test: &str) -> Option<ActiveMq> {
    Some(Peers::find(test)?.start(&[]))
}

async fn connect(uri: &str) -> Connection {
    let factory = ConnectionFactory::new(uri).expect("the URI is fine");
    let connection = soon("connecting", factory.create_connection())
        .await
        .expect("the broker accepts");
    connection.start().await.expect("the connection is open");
    connection
}

#[tokio::test]
async fn a_message_goes_there_and_back() {
    let Some(broker) = broker("a_message_goes_there_and_back") else {
        return;
    };
    let connection = connect(&broker.url()).await;
    let session = connection.create_session(AcknowledgeMode::Auto).await.unwrap();
    let queue = Destination::queue("there.and.back");
    let mut producer = session.create_producer(&queue).await.unwrap();
    let consumer = session.create_consumer(&queue).await.unwrap();
    for mode in [DeliveryMode::Persistent, DeliveryMode::NonPersistent] {
        producer.set_delivery_mode(mode);
        let id = soon("sending", producer.send(Message::text("hello")))
            .await
            .unwrap();
        let message = soon("receiving", consumer.receive()).await.unwrap();
        assert_eq!(message.as_text().unwrap(), Some("hello"));
        assert_eq!(message.message_id(), Some(id.to_string()));
        assert_eq!(message.delivery_mode(), mode);
        assert_eq!(message.destination(), Some(&queue));
    }
    assert!(
        consumer
            .receive_timeout(Duration::from_millis(50))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(
        connection.metadata().broker_name().map(|name| name.is_empty()),
        Some(false)
    );
    soon("closing", connection.close()).await.unwrap();
}
