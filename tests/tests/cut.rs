//! Connections that are cut anywhere, again and again, while the broker lives on: what was confirmed arrives, once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openwire_client::{AcknowledgeMode, Connection, ConnectionFactory, Destination, Error, Message};
use parking_lot::Mutex;
use tests::peers::Peers;
use tests::process::BrokerProcess;
use tests::proxy::CuttingProxy;

const SENDERS: u64 = 3;
const CONSUMERS: usize = 3;
const PER_SENDER: u64 = 2000;
const IN_FLIGHT: usize = 50;
/// Nothing here takes as long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(120);

async fn connect(proxy: &CuttingProxy) -> Connection {
    let uri = format!(
        "failover:({})?initialReconnectDelay=1&maxReconnectDelay=50&jms.prefetchPolicy.all=50",
        proxy.uri()
    );
    let factory = ConnectionFactory::new(&uri).expect("the URI is fine");
    let connection = factory.create_connection().await.expect("the broker lives");
    connection.start().await.expect("it is open");
    connection
}

async fn send_all(connection: Connection, queue: Destination, sender: u64) -> Result<(), Error> {
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let producer = session.create_producer(&queue).await?;
    let mut unanswered = FuturesUnordered::new();
    for number in 0..PER_SENDER {
        let mut message = Message::text("x".repeat((number % 700) as usize));
        message.set_property("number", (sender * PER_SENDER + number) as i64)?;
        unanswered.push(producer.send_pipelined(message).await?);
        while unanswered.len() > IN_FLIGHT {
            unanswered.next().await.expect("there are some")?;
        }
    }
    while let Some(answer) = unanswered.next().await {
        answer?;
    }
    Ok(())
}

fn number(message: &Message) -> u64 {
    message
        .property_i64("number")
        .expect("every message has its number") as u64
}

/// How each number came: as which message, and as which message it was moved.
type Seen = Arc<Mutex<BTreeMap<u64, Vec<[String; 2]>>>>;

async fn receive_all(connection: Connection, queue: Destination, seen: Seen) -> Result<(), Error> {
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_consumer(&queue).await?;
    while seen.lock().len() < (SENDERS * PER_SENDER) as usize {
        if let Some(message) = consumer.receive_timeout(Duration::from_millis(200)).await? {
            let moved = message.property_string("moved")?.map(|id| id.to_string());
            let ids = [message.message_id(), moved].map(Option::unwrap_or_default);
            seen.lock().entry(number(&message)).or_default().push(ids);
        }
    }
    Ok(())
}

/// How often a transaction did not simply go well.
#[derive(Debug, Default)]
struct Trouble {
    rolled_back: u32,
    in_doubt: u32,
}

/// Moves everything from one queue to the next, in transactions.
async fn move_all(
    connection: Connection,
    from: Destination,
    to: Destination,
    seen: Seen,
) -> Result<Trouble, Error> {
    let session = connection.create_session(AcknowledgeMode::Transacted).await?;
    let consumer = session.create_consumer(&from).await?;
    let producer = session.create_producer(&to).await?;
    let mut trouble = Trouble::default();
    while seen.lock().len() < (SENDERS * PER_SENDER) as usize {
        let batch = async {
            for _ in 0..10 {
                let Some(mut message) = consumer.receive_timeout(Duration::from_millis(100)).await? else {
                    break;
                };
                let id = message.message_id().unwrap_or_default();
                message.set_property("moved", id)?;
                producer.send(message).await?;
            }
            session.commit().await
        };
        match batch.await {
            Ok(()) => {}
            Err(error) if error.is_rolled_back() => {
                trouble.rolled_back += 1;
                session.rollback().await?;
            }
            Err(error) if error.is_in_doubt() => trouble.in_doubt += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(trouble)
}

/// Senders, one that moves and consumers share two connections that are cut all the time.
async fn everything_arrives_once(broker: String, seed: u64) -> Trouble {
    let proxy = CuttingProxy::start(broker, seed, 20_000..400_000).await;
    let (first, second) = (connect(&proxy).await, connect(&proxy).await);
    let (input, output) = (Destination::queue("cut.in"), Destination::queue("cut.out"));
    let seen = Seen::default();
    let work = async {
        let sending: Vec<_> = (0..SENDERS)
            .map(|sender| tokio::spawn(send_all(first.clone(), input.clone(), sender)))
            .collect();
        let moving = tokio::spawn(move_all(
            second.clone(),
            input.clone(),
            output.clone(),
            seen.clone(),
        ));
        // On one connection, which knows what it has acknowledged when the broker sends it again.
        let receiving: Vec<_> = (0..CONSUMERS)
            .map(|_| tokio::spawn(receive_all(first.clone(), output.clone(), seen.clone())))
            .collect();
        for task in sending {
            task.await
                .expect("it does not panic")
                .expect("it is sent in the end");
        }
        // Everything is on its way: now it must come to an end.
        proxy.calm_down();
        for task in receiving {
            task.await
                .expect("it does not panic")
                .expect("it is received in the end");
        }
        moving
            .await
            .expect("it does not panic")
            .expect("it is moved in the end")
    };
    let Ok(trouble) = tokio::time::timeout(DEADLINE, work).await else {
        let missing: Vec<_> = (0..SENDERS * PER_SENDER)
            .filter(|number| !seen.lock().contains_key(number))
            .collect();
        panic!(
            "seed {seed}: {} missing, such as {:?}; {:?} {:?}",
            missing.len(),
            missing.first(),
            first.stats(),
            second.stats()
        );
    };
    let doubled: Vec<_> = seen
        .lock()
        .values()
        .filter(|ways| ways.len() > 1)
        .cloned()
        .collect();
    println!("seed {seed}: {} cuts, transactions: {trouble:?}", proxy.cuts());
    assert!(proxy.cuts() > 5, "seed {seed}: nothing was cut");
    assert!(
        doubled.is_empty(),
        "seed {seed}: {} came twice, such as {:?}",
        doubled.len(),
        doubled.first()
    );
    for connection in [first, second] {
        connection.close().await.expect("closing always works");
    }
    trouble
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_our_broker() {
    let broker = BrokerProcess::start(&["--memory", "--listen", "tcp://127.0.0.1:0"]);
    let address = broker.addresses[0]
        .rsplit('/')
        .next()
        .expect("it is a URI")
        .to_owned();
    let trouble = everything_arrives_once(address, rand::random()).await;
    assert_eq!(trouble.in_doubt, 0, "it knows the outcome of every commit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_activemq() {
    let Some(peers) = Peers::find("through_activemq") else {
        return;
    };
    // Only with a store does it recognise what is sent again.
    let store = tempfile::TempDir::new().expect("there is room for temporary files");
    let broker = peers.start(&["--persistent", &store.path().display().to_string()]);
    everything_arrives_once(format!("127.0.0.1:{}", broker.port()), rand::random()).await;
}
