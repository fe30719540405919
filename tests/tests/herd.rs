//! Many connections of one process come back after a restart of their broker, and not all at the same moment.

use std::time::{Duration, Instant};

use broker_lite::Broker;
use futures::StreamExt;
use futures::future::join_all;
use openwire_client::{ConnectionFactory, ConnectionState, Event, Events};
use tests::process::free_port;

const CONNECTIONS: usize = 1000;

/// What it takes on a quiet machine is a fraction of this.
const LIMIT: Duration = Duration::from_secs(60);

async fn broker(port: u16) -> Broker {
    Broker::builder()
        .memory()
        .listen(format!("tcp://127.0.0.1:{port}"))
        .start()
        .await
        .expect("the port is free")
}

/// How many connections wait to be accepted at a port, where the system tells.
fn accept_queue(port: u16) -> Option<u32> {
    const LISTEN: &str = "0A";
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let here = format!("0100007F:{port:04X}");
    let line = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|fields| fields.get(1) == Some(&here.as_str()) && fields.get(3) == Some(&LISTEN))?;
    let (_, waiting) = line.get(4)?.split_once(':')?;
    u32::from_str_radix(waiting, 16).ok()
}

/// How many attempts it took to come back.
async fn attempts(mut events: Events) -> u32 {
    loop {
        if let Event::Resumed { attempts, .. } = events.next().await.expect("the connection goes on") {
            return attempts;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_come_back_after_a_restart() {
    let port = free_port();
    let first = broker(port).await;
    let mut factory = ConnectionFactory::new(&format!("failover:(tcp://127.0.0.1:{port})")).unwrap();
    factory.options_mut().watch_topic_advisories = false;
    let connections: Vec<_> = join_all((0..CONNECTIONS).map(|_| factory.create_connection()))
        .await
        .into_iter()
        .map(|connection| connection.expect("the broker is there"))
        .collect();
    let resumed: Vec<_> = connections
        .iter()
        .map(|connection| tokio::spawn(attempts(connection.events())))
        .collect();
    first.stop().await.unwrap();
    let second = broker(port).await;
    let begun = Instant::now();

    let mut back = std::pin::pin!(join_all(resumed));
    let mut look = tokio::time::interval(Duration::from_millis(1));
    let mut longest = None;
    let all = tokio::time::timeout(LIMIT, async {
        loop {
            tokio::select! {
                all = &mut back => return all,
                _ = look.tick() => longest = longest.max(accept_queue(port)),
            }
        }
    })
    .await
    .expect("all of them come back");
    let took = begun.elapsed();
    let attempts: u32 = all.into_iter().map(|attempts| attempts.unwrap()).sum();
    println!(
        "{CONNECTIONS} connections were back {took:?} after the restart, with {attempts} attempts; \
         the accept queue held at most {longest:?}"
    );
    assert!(
        connections
            .iter()
            .all(|connection| *connection.state().borrow() == ConnectionState::Connected)
    );
    drop(connections);
    second.stop().await.unwrap();
}
