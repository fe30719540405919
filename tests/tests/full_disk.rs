//! A disk that is really full: messages are refused or held back, acknowledgements are taken, nothing that was
//! acknowledged is lost, and it goes on when there is space again.

use std::time::Duration;

use openwire_client::{
    AcknowledgeMode, Connection, ConnectionFactory, Consumer, Destination, Message, Producer, Session,
};
use tests::process::BrokerProcess;
use tests::small_disk::SmallDisk;
use tokio::time::timeout;

/// Nothing here takes as long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(60);

struct Client {
    connection: Connection,
    session: Session,
    producer: Producer,
}

impl Client {
    async fn connect(broker: &BrokerProcess) -> Self {
        let factory = ConnectionFactory::new(&broker.addresses[0]).unwrap();
        let connection = factory.create_connection().await.unwrap();
        connection.start().await.unwrap();
        let session = connection.create_session(AcknowledgeMode::Client).await.unwrap();
        let producer = session
            .create_producer(&Destination::queue("full"))
            .await
            .unwrap();
        Self {
            connection,
            session,
            producer,
        }
    }

    async fn send(&self, number: i64) -> openwire_client::Result<()> {
        let mut message = Message::bytes(vec![7; 1024]);
        message.set_property("number", number).unwrap();
        timeout(DEADLINE, self.producer.send(message))
            .await
            .expect("a send is answered")
            .map(drop)
    }

    async fn consume(&self) -> Consumer {
        let consumer = self.session.create_consumer(&Destination::queue("full")).await;
        consumer.unwrap()
    }
}

async fn receive(consumer: &Consumer) -> i64 {
    let message = timeout(DEADLINE, consumer.receive()).await;
    let message = message.expect("a message comes").unwrap();
    message.acknowledge().await.unwrap();
    message.property_i64("number").unwrap()
}

/// Sends until the disk has no room; gives what was taken.
async fn send_until_refused(client: &Client, first: i64) -> Vec<i64> {
    let mut taken = Vec::new();
    loop {
        let number = first + taken.len() as i64;
        match client.send(number).await {
            Ok(()) => taken.push(number),
            Err(error) => {
                assert!(error.to_string().contains("no disk space"), "{error}");
                return taken;
            }
        }
        assert!(taken.len() < 20_000, "the disk has no end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_goes_on_with_space() {
    let directory = tempfile::TempDir::new().unwrap();
    let Some(disk) = SmallDisk::mount(directory.path(), 24) else {
        return;
    };
    let data = disk.path().join("data");
    let arguments = [
        "--data",
        &data.to_string_lossy(),
        "--listen",
        "tcp://127.0.0.1:0",
        "--journal-max-file-length",
        "1 mb",
    ];
    let start = || BrokerProcess::start_in(disk.surroundings(), &arguments);
    let broker = start();
    let client = Client::connect(&broker).await;
    let mut stored = Vec::new();
    for number in 0..300 {
        client.send(number).await.unwrap();
        stored.push(number);
    }

    disk.fill();
    stored.extend(send_until_refused(&client, 1_000).await);
    let consumer = client.consume().await;
    for number in stored.drain(..50) {
        assert_eq!(receive(&consumer).await, number);
    }
    consumer.close().await.unwrap();

    // Without a restart.
    disk.make_room();
    let again = async {
        while client.send(10_000).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, again).await.expect("messages are taken again");
    stored.push(10_000);
    disk.fill();
    stored.extend(send_until_refused(&client, 20_000).await);
    broker.kill();
    drop(client);

    // What was free again by the kill is taken, too.
    disk.fill();
    let broker = start();
    let client = Client::connect(&broker).await;
    disk.fill();
    let consumer = client.consume().await;
    for number in stored.drain(..100) {
        assert_eq!(receive(&consumer).await, number);
    }
    consumer.close().await.unwrap();
    let late = client.send(30_000);
    let room = async {
        tokio::task::yield_now().await;
        disk.make_room();
    };
    // It is held back, or refused, until there is room.
    let (sent, ()) = tokio::join!(late, room);
    if sent.is_ok() {
        stored.push(30_000);
    }
    let consumer = client.consume().await;
    for number in stored {
        assert_eq!(receive(&consumer).await, number);
    }
    consumer.close().await.unwrap();
    client.send(40_000).await.unwrap();
    let consumer = client.consume().await;
    assert_eq!(receive(&consumer).await, 40_000);
    client.connection.close().await.unwrap();
}
