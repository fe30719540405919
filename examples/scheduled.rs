//! Messages that the broker delivers later, and a look at those that wait. The broker needs a scheduler
//! (`schedulerSupport="true"`).
//!
//! ```text
//! cargo run --example scheduled -- --uri tcp://127.0.0.1:61616
//! ```

use std::time::{Duration, Instant};

use clap::Parser;
use openwire_client::schedule::Schedule;
use openwire_client::{AcknowledgeMode, ConnectionFactory, Destination, Message};

/// How long a message may take beyond its delay.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends one message late, one three times and one every morning, and removes the last.
#[derive(Parser)]
struct Args {
    /// Where the broker is.
    #[arg(long, default_value = "failover:(tcp://127.0.0.1:61616)")]
    uri: String,
    /// The queue.
    #[arg(long, default_value = "Reminders")]
    queue: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let connection = ConnectionFactory::new(&args.uri)?.create_connection().await?;
    connection.start().await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let queue = Destination::queue(&args.queue);
    let producer = session.create_producer(&queue).await?;

    let second = Duration::from_secs(1);
    for (text, schedule) in [
        ("late", Schedule::after(2 * second)),
        ("thrice", Schedule::after(second).every(second).repeat(2)),
        ("every morning", Schedule::cron("0 7 * * *")),
    ] {
        let mut message = Message::text(text);
        message.set_schedule(&schedule)?;
        producer.send(message).await?;
    }

    let scheduler = connection.scheduler().await?;
    for waiting in scheduler.browse().await? {
        let text = waiting.as_text()?.unwrap_or_default();
        println!("waiting: {text}, {:?}", waiting.schedule()?);
        if let (Some(id), "every morning") = (waiting.scheduled_job_id()?, text) {
            scheduler.remove(&id).await?;
            println!("removed: {text}");
        }
    }

    let began = Instant::now();
    let consumer = session.create_consumer(&queue).await?;
    for _ in 0..4 {
        let message = consumer.receive_timeout(PATIENCE).await?;
        let message = message.ok_or("a message did not come: has the broker a scheduler?")?;
        let text = message.as_text()?.unwrap_or_default();
        println!("after {:.1} s: {text}", began.elapsed().as_secs_f32());
    }
    connection.close().await?;
    Ok(())
}
