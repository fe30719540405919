//! Brokers that die under their clients.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use openwire_client::{AcknowledgeMode, Destination, Event, Message};
use tests::soon;

use super::*;

/// Starts a broker with a store, and a failover URI that leads to it.
fn lasting(test: &str) -> Option<(ActiveMq, tempfile::TempDir, String)> {
    let store = tempfile::TempDir::new().expect("there is room for temporary files");
    let broker = Peers::find(test)?.start(&["--persistent", &store.path().display().to_string()]);
    let uri = format!(
        "failover:({})?initialReconnectDelay=10&maxReconnectDelay=100&jms.redeliveryPolicy.initialRedeliveryDelay=10",
        broker.url()
    );
    Some((broker, store, uri))
}

/// Kills the broker whenever the counter has grown by `every`, `times` times.
fn kill_under_load(
    broker: Arc<ActiveMq>,
    counter: Arc<AtomicUsize>,
    every: usize,
    times: usize,
) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_blocking(move || {
        for time in 1..=times {
            tests::process::wait_for("progress", Duration::from_secs(60), || {
                (counter.load(Ordering::Relaxed) >= time * every).then_some(())
            });
            broker.restart();
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_confirmed_is_lost_when_the_broker_is_killed() {
    let Some((broker, _store, uri)) = lasting("nothing_confirmed_is_lost_when_the_broker_is_killed") else {
        return;
    };
    let broker = Arc::new(broker);
    let connection = connect(&uri).await;
    let mut events = connection.events();
    let queue = Destination::queue("killed");
    let sending = session(&connection, AcknowledgeMode::Auto).await;
    let producer = producer(&sending, &queue).await;
    let confirmed = Arc::new(AtomicUsize::new(0));
    let killer = kill_under_load(broker.clone(), confirmed.clone(), 300, 3);
    let mut number = 0;
    while !killer.is_finished() {
        number += 1;
        producer
            .send(Message::text(number.to_string()))
            .await
            .expect("it is sent in the end");
        confirmed.fetch_add(1, Ordering::Relaxed);
    }
    killer.await.unwrap();
    let consumer = consumer(&sending, &queue).await;
    // Each exactly once, in order: what was sent again was recognised by the broker.
    assert_eq!(receive_texts(&consumer, number).await, numbers(1..=number));
    assert!(consumer.receive_timeout(QUIET).await.unwrap().is_none());
    assert_eq!(connection.stats().reconnects, 3);
    soon("closing", connection.close()).await.unwrap();
    let mut changes = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Interrupted { .. } => changes.push("interrupted"),
            Event::Resumed { .. } => changes.push("resumed"),
            Event::Closed { cause: None, .. } => changes.push("closed"),
            _ => {}
        }
    }
    let expected = ["interrupted", "resumed"].repeat(3).into_iter().chain(["closed"]);
    assert!(changes.iter().copied().eq(expected), "{changes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_see_everything_when_the_broker_is_killed() {
    let Some((broker, _store, uri)) = lasting("consumers_see_everything_when_the_broker_is_killed") else {
        return;
    };
    const COUNT: usize = 3000;
    let broker = Arc::new(broker);
    let connection = connect(&uri).await;
    let queue = Destination::queue("consumed");
    let sending = session(&connection, AcknowledgeMode::Transacted).await;
    let to = producer(&sending, &queue).await;
    for number in 1..=COUNT {
        to.send(number.to_string()).await.unwrap();
    }
    sending.commit().await.unwrap();
    let auto = session(&connection, AcknowledgeMode::Auto).await;
    let from = consumer(&auto, &queue).await;
    let seen = Arc::new(AtomicUsize::new(0));
    let killer = kill_under_load(broker.clone(), seen.clone(), 800, 2);
    let mut all = Vec::new();
    while all.iter().collect::<BTreeSet<_>>().len() < COUNT {
        all.push(text(&receive(&from).await));
        seen.fetch_add(1, Ordering::Relaxed);
    }
    killer.await.unwrap();
    // Acknowledgements that the broker had not stored are recognised when their messages come again.
    assert_eq!(all, numbers(1..=COUNT));
    soon("closing", connection.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_done_again_until_they_are_done() {
    let Some((broker, _store, uri)) = lasting("transactions_are_done_again_until_they_are_done") else {
        return;
    };
    const COUNT: usize = 1000;
    let broker = Arc::new(broker);
    let connection = connect(&uri).await;
    let (input, output) = (Destination::queue("tx.in"), Destination::queue("tx.out"));
    let filling = session(&connection, AcknowledgeMode::Transacted).await;
    let to = producer(&filling, &input).await;
    for number in 1..=COUNT {
        to.send(number.to_string()).await.unwrap();
    }
    filling.commit().await.unwrap();
    let moving = session(&connection, AcknowledgeMode::Transacted).await;
    let from = consumer(&moving, &input).await;
    let to = producer(&moving, &output).await;
    let moved = Arc::new(AtomicUsize::new(0));
    let killer = kill_under_load(broker.clone(), moved.clone(), 300, 2);
    let (mut again, mut in_doubt) = (0, 0);
    loop {
        let last = killer.is_finished();
        let batch = async {
            let mut count = 0;
            while count < 20 {
                let Some(message) = from.receive_timeout(Duration::from_secs(5)).await? else {
                    break;
                };
                to.send(message).await?;
                count += 1;
            }
            moving.commit().await?;
            Ok::<_, openwire_client::Error>(count)
        };
        match soon("a batch", batch).await {
            Ok(0) if last => break,
            Ok(count) => {
                moved.fetch_add(count, Ordering::Relaxed);
            }
            Err(error) if error.is_rolled_back() => {
                moving.rollback().await.unwrap();
                again += 1;
            }
            Err(error) if error.is_in_doubt() => in_doubt += 1,
            Err(error) => panic!("{error}"),
        }
    }
    killer.await.unwrap();
    assert!(again + in_doubt > 0, "no transaction was hit");
    let reading = session(&connection, AcknowledgeMode::Auto).await;
    let done = consumer(&reading, &output).await;
    let mut all = Vec::new();
    while let Some(message) = done.receive_timeout(Duration::from_secs(1)).await.unwrap() {
        all.push(text(&message).parse::<usize>().unwrap());
    }
    let (mut missing, mut doubled): (BTreeSet<usize>, Vec<usize>) = ((1..=COUNT).collect(), Vec::new());
    for number in all {
        if !missing.remove(&number) {
            doubled.push(number);
        }
    }
    assert!(
        missing.is_empty() && doubled.is_empty(),
        "missing {missing:?}, doubled {doubled:?}; {again} done again, {in_doubt} in doubt"
    );
    soon("closing", connection.close()).await.unwrap();
}
