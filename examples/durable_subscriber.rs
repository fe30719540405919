//! A durable subscription: what is sent to the topic while nobody is there waits for the subscriber.
//!
//! ```text
//! cargo run --example durable_subscriber -- --uri tcp://127.0.0.1:61616
//! ```

use std::time::Duration;

use clap::Parser;
use openwire_client::{AcknowledgeMode, Connection, ConnectionFactory, Destination, Result};

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Subscribes, leaves, and gets what was sent meanwhile.
#[derive(Parser)]
struct Args {
    /// Where the broker is.
    #[arg(long, default_value = "failover:(tcp://127.0.0.1:61616)")]
    uri: String,
    /// The topic.
    #[arg(long, default_value = "News")]
    topic: String,
    /// The client id that the subscription belongs to.
    #[arg(long, default_value = "reader")]
    client_id: String,
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let topic = Destination::topic(&args.topic);

    let connection = connect_as_reader(&args).await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let subscriber = session.create_durable_subscriber(&topic, "all").await?;
    println!("subscribed to {topic} as {}", connection.client_id());
    subscriber.close().await?;
    connection.close().await?;

    let writer = ConnectionFactory::new(&args.uri)?.create_connection().await?;
    let session = writer.create_session(AcknowledgeMode::Auto).await?;
    let producer = session.create_producer(&topic).await?;
    for number in 1..=3 {
        producer.send(format!("news {number}")).await?;
    }
    println!("sent 3 messages while nobody was there");
    writer.close().await?;

    let connection = connect_as_reader(&args).await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let subscriber = session.create_durable_subscriber(&topic, "all").await?;
    for _ in 0..3 {
        let message = subscriber.receive_timeout(PATIENCE).await?;
        let message = message.ok_or("a message did not come")?;
        println!("received: {}", message.as_text()?.unwrap_or_default());
    }
    subscriber.close().await?;
    session.unsubscribe("all").await?;
    println!("unsubscribed");
    connection.close().await?;
    Ok(())
}

async fn connect_as_reader(args: &Args) -> Result<Connection> {
    let factory = ConnectionFactory::new(&args.uri)?.client_id(&args.client_id);
    let connection = factory.create_connection().await?;
    connection.start().await?;
    Ok(connection)
}
