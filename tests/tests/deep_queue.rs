//! A queue much deeper than memory: bodies leave it, and come back in order.

use std::time::Duration;

use openwire_client::{AcknowledgeMode, ConnectionFactory, Destination, Message};
use tests::process::BrokerProcess;
use tokio::time::timeout;

/// Nothing here takes as long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(60);

/// Sends that may be unanswered.
const IN_FLIGHT: usize = 2_000;

const MIB: u64 = 1024 * 1024;

/// The number is 1,000,000; that takes a release build: `DEEP_QUEUE_MESSAGES=1000000 cargo test --release
/// -p tests --test deep_queue`.
fn messages() -> u64 {
    let wish = std::env::var("DEEP_QUEUE_MESSAGES").ok();
    wish.map_or(100_000, |text| {
        text.parse().expect("DEEP_QUEUE_MESSAGES is a number")
    })
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("the kernel tells");
    line.trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .expect("a number")
        * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deep_queue_stays_on_disk_and_drains_in_order() {
    let count = messages();
    let data = tempfile::TempDir::new().unwrap();
    let broker = BrokerProcess::start(&[
        "--data",
        &data.path().to_string_lossy(),
        "--listen",
        "tcp://127.0.0.1:0",
    ]);
    let connection = ConnectionFactory::new(&broker.addresses[0])
        .unwrap()
        .create_connection()
        .await
        .unwrap();
    let session = connection.create_session(AcknowledgeMode::Auto).await.unwrap();
    let queue = Destination::queue("deep");
    let producer = session.create_producer(&queue).await.unwrap();
    let body = "x".repeat(1024);
    let mut waiting = std::collections::VecDeque::new();
    for number in 0..count {
        let mut message = Message::text(body.as_str());
        message.set_property("number", number as i64).unwrap();
        waiting.push_back(producer.send_pipelined(message).await.unwrap());
        if waiting.len() == IN_FLIGHT {
            timeout(DEADLINE, waiting.pop_front().unwrap())
                .await
                .expect("an answer")
                .unwrap();
        }
    }
    for receipt in waiting {
        timeout(DEADLINE, receipt).await.expect("an answer").unwrap();
    }
    // 64 MiB of bodies, what the process needs by itself, and the queue's entry and the store's index.
    let limit = (64 + 36) * MIB + count * 150;
    let used = resident(broker.pid());
    println!("{count} messages pending: {} MiB resident", used / MIB);
    assert!(
        used < limit.min(300 * MIB),
        "{} MiB resident with {count} messages",
        used / MIB
    );

    connection.start().await.unwrap();
    let consumer = session.create_consumer(&queue).await.unwrap();
    for number in 0..count {
        let message = timeout(DEADLINE, consumer.receive())
            .await
            .expect("a message")
            .unwrap();
        assert_eq!(message.property_i64("number").unwrap(), number as i64);
    }
    assert!(consumer.receive_no_wait().await.unwrap().is_none());
    connection.close().await.unwrap();
}
