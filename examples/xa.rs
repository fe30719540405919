//! A distributed transaction over two brokers, or two queues of one: a message moves from the first to the second, and is
//! never in both or in none.
//!
//! ```text
//! cargo run --example xa -- --from tcp://127.0.0.1:61616 --to tcp://127.0.0.1:61617
//! ```
//!
//! What makes a transaction manager of this is left out: its decisions have to be written down before the second phase, and
//! looked up for what [`XaSession::recover`] finds after a crash.

use std::time::Duration;

use clap::Parser;
use openwire_client::xa::{End, Start, Vote, XaSession, Xid};
use openwire_client::{AcknowledgeMode, Connection, ConnectionFactory, Destination, Result};

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Moves a message from one broker to another.
#[derive(Parser)]
struct Args {
    /// Where the message is.
    #[arg(long, default_value = "failover:(tcp://127.0.0.1:61616)")]
    from: String,
    /// Where it goes to.
    #[arg(long, default_value = "failover:(tcp://127.0.0.1:61616)")]
    to: String,
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let (source, target) = (connect(&args.from).await?, connect(&args.to).await?);
    let (orders, moved) = (Destination::queue("Orders"), Destination::queue("Orders.Moved"));
    let session = source.create_session(AcknowledgeMode::Auto).await?;
    session.create_producer(&orders).await?.send("order 17").await?;

    let (reading, writing) = (
        source.create_xa_session().await?,
        target.create_xa_session().await?,
    );
    let consumer = reading.create_consumer(&orders).await?;
    let producer = writing.create_producer(&moved).await?;

    // One transaction, with a branch at each broker.
    let transaction = source.id().to_string();
    let (here, there) = (
        Xid::new(4660, &transaction, "from")?,
        Xid::new(4660, &transaction, "to")?,
    );
    reading.start(&here, Start::New).await?;
    writing.start(&there, Start::New).await?;
    let message = consumer.receive_timeout(PATIENCE).await?;
    producer.send(message.ok_or("the message did not come")?).await?;
    reading.end(&here, End::Success).await?;
    writing.end(&there, End::Success).await?;

    let branches = [(&reading, &here), (&writing, &there)];
    match prepare(&branches).await {
        Ok(prepared) => {
            for (session, xid) in prepared {
                session.commit(xid, false).await?;
            }
            println!("moved");
        }
        Err(error) => {
            println!("not moved: {error}");
            for (session, xid) in branches {
                // One that has failed is rolled back already, and says that it does not know of it.
                if let Err(error) = session.rollback(xid).await {
                    println!("{xid}: {error}");
                }
            }
        }
    }
    source.close().await?;
    target.close().await?;
    Ok(())
}

/// First phase: the branches that have to be committed, if all are ready.
async fn prepare<'a>(branches: &[(&'a XaSession, &'a Xid)]) -> Result<Vec<(&'a XaSession, &'a Xid)>> {
    let mut prepared = Vec::new();
    for &(session, xid) in branches {
        if session.prepare(xid).await? == Vote::Commit {
            prepared.push((session, xid));
        }
    }
    Ok(prepared)
}

async fn connect(uri: &str) -> Result<Connection> {
    let connection = ConnectionFactory::new(uri)?.create_connection().await?;
    connection.start().await?;
    Ok(connection)
}
