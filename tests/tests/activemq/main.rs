//! The client against a real ActiveMQ.
//!
//! What a broker has to do is a scene: a function that takes the URL of one. [`scenes`] plays it at a real ActiveMQ of its
//! own; others can play it elsewhere.

/// A test for each scene of the module `scene`, with a broker that is started with these options.
macro_rules! scenes {
    ($options:expr => $($name:ident),* $(,)?) => { $(
        #[tokio::test]
        async fn $name() {
            if let Some(broker) = broker_with(stringify!($name), &$options) {
                scene::$name(&broker.url()).await;
            }
        }
    )* };
}

mod acknowledge;
mod advisories;
mod consumers;
mod failover;
mod groups;
mod messages;
mod redelivery;
mod scheduled;
mod subscriptions;
mod transactions;
mod xa;

use openwire_client::{
    AcknowledgeMode, Connection, ConnectionFactory, ConnectionState, Consumer, ConsumerOptions, Destination,
    Message, Producer, Session,
};
use tests::peers::{ActiveMq, Peers};
use tests::{PATIENCE, QUIET, soon};

fn broker(test: &str) -> Option<ActiveMq> {
    broker_with(test, &[])
}

/// `options` are those of `activemq.sh start`.
fn broker_with(test: &str, options: &[&str]) -> Option<ActiveMq> {
    Some(Peers::find(test)?.start(options))
}

async fn connect(uri: &str) -> Connection {
    let factory = ConnectionFactory::new(uri).expect("the URI is fine");
    let connection = soon("connecting", factory.create_connection())
        .await
        .expect("the broker accepts");
    connection.start().await.expect("the connection is open");
    connection
}

async fn session(connection: &Connection, mode: AcknowledgeMode) -> Session {
    connection
        .create_session(mode)
        .await
        .expect("the connection is open")
}

async fn producer(session: &Session, destination: &Destination) -> Producer {
    soon("creating a producer", session.create_producer(destination))
        .await
        .expect("the broker allows it")
}

async fn consumer(session: &Session, destination: &Destination) -> Consumer {
    soon("creating a consumer", session.create_consumer(destination))
        .await
        .expect("the broker allows it")
}

/// Sends `1`, `2`, … from a session of its own.
async fn send(connection: &Connection, destination: &Destination, count: usize) {
    let session = session(connection, AcknowledgeMode::Auto).await;
    let producer = producer(&session, destination).await;
    for number in 1..=count {
        let message = Message::text(number.to_string());
        soon("sending", producer.send(message))
            .await
            .expect("the broker takes it");
    }
}

async fn receive(consumer: &Consumer) -> Message {
    soon("receiving", consumer.receive())
        .await
        .expect("a message comes")
}

/// The texts of the next messages.
async fn receive_texts(consumer: &Consumer, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(text(&receive(consumer).await));
    }
    texts
}

fn text(message: &Message) -> String {
    message
        .as_text()
        .expect("it is a text message")
        .expect("it has a text")
        .to_owned()
}

/// What is left in a queue, as another connection sees it.
async fn left(broker: &ActiveMq, queue: &Destination) -> Vec<String> {
    left_at(&broker.url(), queue).await
}

/// The same of a broker of this URL.
async fn left_at(url: &str, queue: &Destination) -> Vec<String> {
    let connection = connect(url).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let consumer = consumer(&session, queue).await;
    let mut texts = Vec::new();
    while let Some(message) = soon("receiving", consumer.receive_timeout(QUIET)).await.unwrap() {
        texts.push(text(&message));
    }
    close(&connection).await;
    texts
}

/// Closes the connection, and makes sure that the broker had nothing to complain about.
async fn close(connection: &Connection) {
    soon("closing", connection.close())
        .await
        .expect("closing always works");
    assert_eq!(connection.stats().broker_errors, 0);
}

fn numbers(range: std::ops::RangeInclusive<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}
