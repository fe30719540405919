//! Receives text messages and acknowledges each by itself: the other half of `sender`.
//!
//! ```text
//! cargo run --example receive -- --uri tcp://127.0.0.1:61616 --count 5
//! ```
//!
//! Exits with 1 if fewer than `--count` messages came.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use openwire_client::transport::TlsOptions;
use openwire_client::{AcknowledgeMode, ConnectionFactory, Destination, MessageKind};

/// Receives messages from a queue and prints them.
#[derive(Parser)]
struct Args {
    /// Where the brokers are.
    #[arg(
        long,
        default_value = "failover:(tcp://127.0.0.1:61617,tcp://127.0.0.1:61618)"
    )]
    uri: String,
    /// The queue to receive from.
    #[arg(long, default_value = "FirstQueue")]
    queue: String,
    /// How many messages to wait for.
    #[arg(long, default_value_t = 5)]
    count: u32,
    /// How long to wait for each, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    timeout: u64,
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
async fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
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

    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_consumer(&Destination::queue(&args.queue)).await?;
    let mut received = 0;
    while received < args.count {
        let Some(message) = consumer
            .receive_timeout(Duration::from_millis(args.timeout))
            .await?
        else {
            break;
        };
        received += 1;
        match message.kind() {
            MessageKind::Text => println!("received: {}", message.as_text()?.unwrap_or("(null)")),
            _ => println!("received: {message:?}"),
        }
    }
    println!("received {received} of {} messages", args.count);
    connection.close().await?;
    Ok(match received == args.count {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
