//! The broker is killed under load, again and again: what it confirmed is there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use openwire_client::{AcknowledgeMode, ConnectionFactory, Destination};
use parking_lot::Mutex;
use tests::process::{BrokerProcess, free_port};
use tokio::time::timeout;

const ROUNDS: usize = 20;
/// Confirmed sends between two kills.
const PER_ROUND: usize = 300;
/// How many sends may be unanswered, so that a kill always hits some.
const IN_FLIGHT: usize = 64;
/// Nothing here takes as long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(60);

/// What was received: how often each number came without and with the redelivered flag.
type Received = Arc<Mutex<BTreeMap<u64, (u32, u32)>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_survives_twenty_kills_under_load() {
    let again = kill_under_load("").await;
    assert_eq!(again, 0, "the client's audit recognises what it has seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_audit_what_comes_twice_is_flagged() {
    kill_under_load("&jms.checkForDuplicates=false").await;
}

/// Returns how many messages came more than once.
async fn kill_under_load(consumer_options: &str) -> u32 {
    let data = tempfile::TempDir::new().unwrap();
    let directory = data.path().to_string_lossy().into_owned();
    let listen = format!("tcp://127.0.0.1:{}", free_port());
    let start = || BrokerProcess::start(&["--data", &directory, "--listen", &listen]);
    let mut broker = start();
    let uri = format!("failover:({listen})?maxReconnectDelay=200");
    let queue = Destination::queue("crash");

    let consuming = ConnectionFactory::new(&format!("{uri}{consumer_options}"))
        .unwrap()
        .create_connection()
        .await
        .unwrap();
    consuming.start().await.unwrap();
    let session = consuming.create_session(AcknowledgeMode::Auto).await.unwrap();
    let consumer = session.create_consumer(&queue).await.unwrap();
    let received = Received::default();
    let receiver = tokio::spawn({
        let received = received.clone();
        async move {
            while let Ok(message) = consumer.receive().await {
                let number = message
                    .property_i64("number")
                    .expect("every message has its number");
                let mut received = received.lock();
                let seen = received.entry(number as u64).or_default();
                if message.redelivered() {
                    seen.1 += 1
                } else {
                    seen.0 += 1
                }
            }
        }
    });

    let producing = ConnectionFactory::new(&uri)
        .unwrap()
        .create_connection()
        .await
        .unwrap();
    let session = producing.create_session(AcknowledgeMode::Auto).await.unwrap();
    let producer = session.create_producer(&queue).await.unwrap();
    let mut confirmed = BTreeSet::new();
    let mut waiting = VecDeque::new();
    let mut next = 0u64;
    for round in 0..=ROUNDS {
        let target = confirmed.len() + PER_ROUND;
        while confirmed.len() < target {
            if waiting.len() < IN_FLIGHT {
                let mut message = openwire_client::Message::text(format!("message {next}"));
                message.set_property("number", next as i64).unwrap();
                let receipt = timeout(DEADLINE, producer.send_pipelined(message))
                    .await
                    .expect("room")
                    .unwrap();
                waiting.push_back((next, receipt));
                next += 1;
            } else if let Some((number, receipt)) = waiting.pop_front() {
                timeout(DEADLINE, receipt)
                    .await
                    .expect("an answer")
                    .expect("the broker comes back");
                confirmed.insert(number);
            }
        }
        if round < ROUNDS {
            broker.kill();
            broker = start();
        }
    }
    for (number, receipt) in waiting {
        timeout(DEADLINE, receipt)
            .await
            .expect("an answer")
            .expect("the broker comes back");
        confirmed.insert(number);
    }
    let all_there = async {
        while received.lock().len() < confirmed.len() {
            tokio::task::yield_now().await;
        }
    };
    let complete = timeout(DEADLINE, all_there).await.is_ok();
    let received = received.lock().clone();
    let lost: Vec<_> = confirmed
        .iter()
        .filter(|number| !received.contains_key(number))
        .collect();
    assert!(
        complete && lost.is_empty(),
        "{} of {} were lost: {lost:?}",
        lost.len(),
        confirmed.len()
    );
    // Who saw a message twice must have been told that it may be so.
    let silent: Vec<_> = received.iter().filter(|(_, (plain, _))| *plain > 1).collect();
    assert!(silent.is_empty(), "came twice without a flag: {silent:?}");
    let again: u32 = received
        .values()
        .map(|(plain, flagged)| plain + flagged - 1)
        .sum();
    println!(
        "{} confirmed, none lost, {again} came again and said so",
        confirmed.len()
    );
    receiver.abort();
    producing.close().await.unwrap();
    drop(broker);
    again
}
