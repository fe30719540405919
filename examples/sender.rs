//! Sends text messages in one transaction: the `Sender` that every ActiveMQ tutorial begins with.
//!
//! ```text
//! cargo run --example sender -- --uri tcp://127.0.0.1:61616 --count 5
//! ```

use std::path::PathBuf;

use clap::Parser;
use openwire_client::transport::TlsOptions;
use openwire_client::{AcknowledgeMode, ConnectionFactory, DeliveryMode, Destination, Message};

/// Sends text messages to a queue and commits them.
#[derive(Parser)]
struct Args {
    /// Where the brokers are.
    #[arg(
        long,
        default_value = "failover:(tcp://127.0.0.1:61617,tcp://127.0.0.1:61618)"
    )]
    uri: String,
    /// The queue to send to.
    #[arg(long, default_value = "FirstQueue")]
    queue: String,
    /// How many messages to send.
    #[arg(long, default_value_t = 5)]
    count: u32,
    /// Messages outlive the broker.
    #[arg(long)]
    persistent: bool,
    /// The user to log in as.
    #[arg(long, requires = "password")]
    user: Option<String>,
    /// The user's password.
    #[arg(long, requires = "user")]
    password: Option<String>,
    /// For ssl: URIs, the authority (PEM) that the broker's certificate is checked by; otherwise the system's.
    #[arg(long)]
    ca: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let mut factory = ConnectionFactory::new(&args.uri)?;
    if let (Some(user), Some(password)) = (args.user, args.password) {
        factory = factory.credentials(user, password);
    }
    if let Some(file) = args.ca {
        factory = factory.tls(TlsOptions::default().ca_file(file)?);
    }
    let connection = factory.create_connection().await?;
    connection.start().await?;

    let session = connection.create_session(AcknowledgeMode::Transacted).await?;
    let mut producer = session.create_producer(&Destination::queue(&args.queue)).await?;
    producer.set_delivery_mode(match args.persistent {
        true => DeliveryMode::Persistent,
        false => DeliveryMode::NonPersistent,
    });
    for number in 1..=args.count {
        let text = format!("ActiveMQ 发送的消息 {number}");
        println!("sent: {text}");
        producer.send(Message::text(text)).await?;
    }
    session.commit().await?;
    println!("committed {} messages", args.count);
    connection.close().await?;
    Ok(())
}
