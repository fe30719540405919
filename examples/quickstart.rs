//! Failover in one file: a broker stops half-way, its successor takes over its store, and neither the
//! producer nor the consumer notices more than a pause.
//!
//! ```text
//! cargo run --example quickstart
//! ```

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use broker_lite::{Broker, BrokerError};
use openwire_client::{
    AcknowledgeMode, ConnectionFactory, Consumer, Destination, Message, Producer, Session,
};

/// How many messages each of the two brokers is sent.
const HALF: usize = 5;

/// How long a message may take; the time to find the second broker is part of it.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let journal = tempfile::tempdir()?;
    let (first, second) = free_ports()?;

    let broker = start("first", first, journal.path()).await?;
    println!("1. the first broker listens on port {first}");

    let uri = format!("failover:(tcp://127.0.0.1:{first},tcp://127.0.0.1:{second})");
    let connection = ConnectionFactory::new(&uri)?.create_connection().await?;
    connection.start().await?;
    let queue = Destination::queue("FirstQueue");
    let sending = connection.create_session(AcknowledgeMode::Transacted).await?;
    let producer = sending.create_producer(&queue).await?;
    let receiving = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = receiving.create_consumer(&queue).await?;
    println!("2. connected through {uri}");

    send(&sending, &producer, 1).await?;
    println!("3. committed {HALF} messages");
    let mut received = receive(&consumer, 2).await?;
    println!("4. received {received} of them");

    broker.stop().await?;
    println!("5. stopped the first broker");
    let broker = start("second", second, journal.path()).await?;
    println!("6. the second broker listens on port {second}, on the same journal");

    send(&sending, &producer, HALF + 1).await?;
    println!("7. committed {HALF} more, with the same producer");
    received += receive(&consumer, 2 * HALF - received).await?;
    println!("8. received the rest, with the same consumer: {received} messages in all");

    connection.close().await?;
    broker.stop().await?;
    Ok(())
}

async fn start(name: &str, port: u16, journal: &Path) -> Result<Broker, BrokerError> {
    Broker::builder()
        .name(name)
        .listen(format!("tcp://127.0.0.1:{port}"))
        .data_dir(journal)
        .start()
        .await
}

/// Two ports that nobody listens on.
fn free_ports() -> std::io::Result<(u16, u16)> {
    let first = TcpListener::bind("127.0.0.1:0")?;
    let second = TcpListener::bind("127.0.0.1:0")?;
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}

/// Sends half of the messages, numbered from `from`, in one transaction.
async fn send(session: &Session, producer: &Producer, from: usize) -> openwire_client::Result<()> {
    for number in from..from + HALF {
        producer.send(Message::text(format!("message {number}"))).await?;
    }
    session.commit().await
}

/// Receives so many messages, prints them, and fails if one does not come.
async fn receive(consumer: &Consumer, count: usize) -> Result<usize, Box<dyn std::error::Error>> {
    for _ in 0..count {
        let message = consumer.receive_timeout(PATIENCE).await?;
        let message = message.ok_or("a message did not come")?;
        println!("   {}", message.as_text()?.unwrap_or_default());
    }
    Ok(count)
}
