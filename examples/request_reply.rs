//! Request and reply: the one who asks waits at a temporary queue, the one who answers sends there.
//!
//! ```text
//! cargo run --example request_reply -- --uri tcp://127.0.0.1:61616
//! ```

use std::time::Duration;

use clap::Parser;
use openwire_client::{
    AcknowledgeMode, Connection, ConnectionFactory, Destination, Error, Listener, Message, Result,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks a service in the same program to shout.
#[derive(Parser)]
struct Args {
    /// Where the broker is.
    #[arg(long, default_value = "failover:(tcp://127.0.0.1:61616)")]
    uri: String,
    /// What to shout.
    #[arg(default_values_t = ["hello".to_owned(), "world".to_owned()])]
    words: Vec<String>,
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let connection = ConnectionFactory::new(&args.uri)?.create_connection().await?;
    connection.start().await?;
    let queue = Destination::queue("Shout");
    let service = serve(&connection, &queue).await?;

    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let inbox = session.create_temporary_queue().await?;
    let answers = session.create_consumer(&inbox).await?;
    let producer = session.create_producer(&queue).await?;
    for word in args.words {
        let mut request = Message::text(word);
        request.set_reply_to(Destination::clone(&inbox));
        let id = producer.send(request).await?.to_string();
        // One asks after the other here; an answer to an earlier question that was given up is left out.
        loop {
            let answer = answers.receive_timeout(PATIENCE).await?.ok_or("no answer came")?;
            if answer.correlation_id() == Some(&id) {
                println!("{}", answer.as_text()?.unwrap_or_default());
                break;
            }
        }
    }
    service.close().await?;
    connection.close().await?;
    Ok(())
}

/// Answers in the background.
async fn serve(connection: &Connection, queue: &Destination) -> Result<Listener> {
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let producer = std::sync::Arc::new(session.create_anonymous_producer().await?);
    let requests = session.create_consumer(queue).await?;
    requests.listen(move |request| {
        let producer = producer.clone();
        async move {
            let text = request.as_text()?.unwrap_or_default().to_uppercase();
            let mut answer = Message::text(text);
            answer.set_correlation_id(request.message_id().as_deref());
            if let Some(to) = request.reply_to() {
                producer.send_to(to, answer).await?;
            }
            Ok::<_, Error>(())
        }
    })
}
