//! Says when messages flow again after a break. `failover_bench.sh` runs it beside `FailoverProbe.java`, which does the
//! same with the Java client.
//!
//! `failover_probe URI QUEUE` reads `go` from its input, connects, sends and receives, and prints `ready` when messages
//! flow. After the next break of the connection it prints `resumed` with the time at which the first message came, in
//! microseconds since 1970, and waits for the next `go`.

use std::io::BufRead;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{FutureExt, StreamExt};
use openwire_client::{AcknowledgeMode, ConnectionFactory, Consumer, Destination, Event, Events, Producer};
use tokio::sync::mpsc;

/// Messages after which it is taken for granted that they flow.
const FLOW: u32 = 50;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(uri), Some(queue)) = (arguments.next(), arguments.next()) else {
        return Err("failover_probe URI QUEUE".into());
    };
    let factory = ConnectionFactory::new(&uri)?;
    let queue = Destination::queue(&queue);
    let mut commands = commands();
    while commands.recv().await.is_some() {
        probe(&factory, &queue).await?;
    }
    Ok(())
}

/// One break, of a new connection: what an earlier one has gone through does not matter.
async fn probe(factory: &ConnectionFactory, queue: &Destination) -> openwire_client::Result<()> {
    let connection = factory.create_connection().await?;
    connection.start().await?;
    let sending = connection.create_session(AcknowledgeMode::Auto).await?;
    let producer = sending.create_producer(queue).await?;
    let receiving = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = receiving.create_consumer(queue).await?;
    let mut events = connection.events();
    tokio::select! {
        () = send(&producer) => {}
        outcome = receive(&consumer, &mut events) => outcome?,
    }
    connection.close().await
}

/// The lines of the input.
fn commands() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn send(producer: &Producer) {
    loop {
        // What a break has cost is seen by the consumer.
        let _ = producer.send("probe").await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns with the first message after a break.
async fn receive(consumer: &Consumer, events: &mut Events) -> openwire_client::Result<()> {
    let mut received = 0;
    let mut broken = false;
    loop {
        consumer.receive().await?;
        let micros = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros();
        while let Some(Some(event)) = events.next().now_or_never() {
            broken |= matches!(event, Event::Interrupted { .. });
        }
        if broken {
            println!("resumed {micros}");
            return Ok(());
        }
        received += 1;
        if received == FLOW {
            println!("ready");
        }
    }
}
