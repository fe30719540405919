//! The broker as a process, with many of everything over real sockets on the loopback.
//!
//! `ulimit -n 16384; cargo bench -p broker-lite --bench sockets [-- [many] [deep] [durables] [--percent N] [--dir DIR]]`
//!
//! `many`: 10,000 queues, 5,000 connections, 20,000 consumers. `deep`: 5,000,000 persistent messages of 1 KiB on one queue
//! (6 GiB of disk), of which a consumer selects the last; then a restart. `durables`: 1,000 durable subscriptions of one
//! topic. `--percent` makes all of them smaller.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use openwire_client::{
    AcknowledgeMode, Connection, ConnectionFactory, Consumer, ConsumerOptions, Destination, Message, Result,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

/// Nothing takes as long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(600);

/// Sends that may be unanswered.
const UNANSWERED: usize = 2_000;

/// What is asked for.
#[derive(Debug)]
struct Wish {
    loads: Vec<String>,
    percent: u64,
    dir: PathBuf,
}

impl Wish {
    fn has(&self, load: &str) -> bool {
        self.loads.is_empty() || self.loads.iter().any(|wanted| wanted == load)
    }

    fn share(&self, of: u64) -> u64 {
        (of * self.percent / 100).max(1)
    }
}

fn main() -> Result<()> {
    let mut wish = Wish {
        loads: Vec::new(),
        percent: 100,
        dir: std::env::temp_dir(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--percent" => {
                let percent = arguments.next().and_then(|number| number.parse().ok());
                wish.percent = percent.expect("--percent is followed by a number");
            }
            "--dir" => wish.dir = arguments.next().expect("--dir is followed by a directory").into(),
            _ => wish.loads.push(argument),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        if wish.has("many") {
            many(&wish).await?;
        }
        if wish.has("deep") {
            deep(&wish).await?;
        }
        if wish.has("durables") {
            durables(&wish).await?;
        }
        Ok(())
    })
}

/// A broker in a process of its own, ended in order when dropped.
struct Broker {
    child: Child,
    url: String,
    /// From the start to `ready`.
    start: Duration,
}

impl Broker {
    fn start(arguments: &[&str]) -> Self {
        let from = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_broker-lite"))
            .args([
                "start",
                "--listen",
                "tcp://127.0.0.1:0?maximumConnections=10000",
                "--log",
                "warn",
            ])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("broker-lite can be run");
        let stdout = child.stdout.take().expect("its output is piped");
        let mut url = None;
        for line in BufReader::new(stdout).lines() {
            let line = line.expect("its output can be read");
            match line.strip_prefix("listening on ") {
                Some(address) => url = Some(address.to_owned()),
                None => break,
            }
        }
        Self {
            child,
            url: url.expect("it says where it listens"),
            start: from.elapsed(),
        }
    }

    fn kept(data: &Path) -> Self {
        Self::start(&["--data", &data.to_string_lossy(), "--durability", "os"])
    }

    async fn connect(&self, client_id: Option<String>) -> Result<Connection> {
        let mut factory = ConnectionFactory::new(&self.url)?;
        if let Some(id) = client_id {
            factory = factory.client_id(id);
        }
        let connection = factory.create_connection().await?;
        connection.start().await?;
        Ok(connection)
    }

    /// CPU time so far, in seconds.
    fn cpu(&self) -> f64 {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).expect("it runs");
        let fields = stat
            .rsplit_once(')')
            .map(|(_, fields)| fields)
            .unwrap_or_default();
        let ticks = fields.split_whitespace().skip(11).take(2);
        // Linux shows a hundred a second to all programs.
        ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
    }

    /// Resident memory now and at its most, in MiB.
    fn memory(&self) -> (u64, u64) {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            kib.expect("the kernel tells") / 1024
        };
        (mib("VmRSS:"), mib("VmHWM:"))
    }

    /// Does something `count` times, and tells what that cost.
    async fn time<T>(&self, what: &str, count: u64, work: impl Future<Output = Result<T>>) -> Result<T> {
        let (from, cpu) = (Instant::now(), self.cpu());
        let done = timeout(DEADLINE, work).await.expect("in time")?;
        let (seconds, cpu) = (from.elapsed().as_secs_f64(), self.cpu() - cpu);
        let (now, most) = self.memory();
        println!(
            "{what:44} {count:>9}  {seconds:>7.2} s  broker {:>7.2} us CPU each  {now:>5} MiB, at most {most}",
            cpu * 1e6 / count as f64
        );
        Ok(done)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // One that ended by itself has no process any more, and there is nobody to tell.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

async fn many(wish: &Wish) -> Result<()> {
    const EACH: usize = 4;
    let broker = Broker::start(&["--memory"]);
    let queues: Vec<_> = (0..wish.share(10_000))
        .map(|at| Destination::queue(&format!("Q.{at}")))
        .collect();
    let clients = wish.share(5_000) as usize;
    let mut connections = Vec::new();
    broker
        .time("connections", clients as u64, async {
            for _ in 0..clients {
                connections.push(broker.connect(None).await?);
            }
            Ok(())
        })
        .await?;
    let mut consumers = Vec::new();
    broker
        .time(
            "consumers, on queues new to the broker",
            (clients * EACH) as u64,
            async {
                for (at, connection) in connections.iter().enumerate() {
                    let session = connection.create_session(AcknowledgeMode::Auto).await?;
                    for more in 0..EACH {
                        let queue = &queues[(at * EACH + more) % queues.len()];
                        consumers.push(session.create_consumer(queue).await?);
                    }
                }
                Ok(())
            },
        )
        .await?;
    let sender = broker.connect(None).await?;
    let session = sender.create_session(AcknowledgeMode::Auto).await?;
    let producer = session.create_anonymous_producer().await?;
    let rounds = 10;
    let count = rounds * consumers.len();
    broker
        .time("messages of 1 KiB to all queues in turn", count as u64, async {
            for _ in 0..rounds {
                for at in 0..consumers.len() {
                    let queue = &queues[at % queues.len()];
                    producer.send_to(queue, Message::bytes(vec![0; 1024])).await?;
                }
                for consumer in &consumers {
                    consumer.receive().await?;
                }
            }
            Ok(())
        })
        .await?;
    broker
        .time("connections closed", clients as u64, async {
            for connection in &connections {
                connection.close().await?;
            }
            Ok(())
        })
        .await
}

async fn deep(wish: &Wish) -> Result<()> {
    let data = tempfile::TempDir::new_in(&wish.dir).expect("a directory");
    let count = wish.share(5_000_000);
    let queue = Destination::queue("deep");
    let broker = Broker::kept(data.path());
    let connection = broker.connect(None).await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let producer = session.create_producer(&queue).await?;
    broker
        .time("persistent messages of 1 KiB", count, async {
            let mut receipts = VecDeque::new();
            for number in 0..count {
                let mut message = Message::bytes(vec![0; 1024]);
                message.set_property("number", number as i64)?;
                receipts.push_back(producer.send_pipelined(message).await?);
                if receipts.len() == UNANSWERED
                    && let Some(first) = receipts.pop_front()
                {
                    first.await?;
                }
            }
            for receipt in receipts {
                receipt.await?;
            }
            Ok(())
        })
        .await?;
    let last = format!("number = {}", count - 1);
    broker
        .time(
            "looked at until the last is selected",
            count,
            select(&connection, &queue, last),
        )
        .await?;
    let first = "number = 0".to_owned();
    broker
        .time(
            "the first, beside a deep queue",
            1,
            select(&connection, &queue, first),
        )
        .await?;
    connection.close().await?;
    let from = Instant::now();
    drop(broker);
    println!("{:44} {:>9}  {:>7.2} s", "stop", "", from.elapsed().as_secs_f64());
    let broker = Broker::kept(data.path());
    let (now, most) = broker.memory();
    println!(
        "{:44} {:>9}  {:>7.2} s  broker {:>7.2} s CPU  {now:>5} MiB, at most {most}",
        "start again",
        count,
        broker.start.as_secs_f64(),
        broker.cpu()
    );
    Ok(())
}

async fn select(connection: &Connection, queue: &Destination, selector: String) -> Result<()> {
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session
        .create_consumer_with(queue, ConsumerOptions::with_selector(selector))
        .await?;
    consumer.receive_timeout(DEADLINE).await?.expect("the message");
    consumer.close().await
}

async fn durables(wish: &Wish) -> Result<()> {
    const CONNECTIONS: u64 = 10;
    let data = tempfile::TempDir::new_in(&wish.dir).expect("a directory");
    let each = wish.share(1_000).div_ceil(CONNECTIONS);
    let subscriptions = each * CONNECTIONS;
    let topic = Destination::topic("news");
    let broker = Broker::kept(data.path());
    let mut connections = Vec::new();
    let mut subscribers: Vec<Consumer> = Vec::new();
    broker
        .time("durable subscriptions", subscriptions, async {
            for client in 0..CONNECTIONS {
                let connection = broker.connect(Some(format!("client {client}"))).await?;
                let session = connection.create_session(AcknowledgeMode::Auto).await?;
                for at in 0..each {
                    let name = format!("subscription {at}");
                    subscribers.push(session.create_durable_subscriber(&topic, &name).await?);
                }
                connections.push(connection);
            }
            Ok(())
        })
        .await?;
    let sender = broker.connect(None).await?;
    let session = sender.create_session(AcknowledgeMode::Auto).await?;
    let producer = session.create_producer(&topic).await?;
    let count = 500;
    broker
        .time(
            "deliveries of persistent messages of 1 KiB",
            count * subscriptions,
            async {
                for _ in 0..count {
                    producer.send(Message::bytes(vec![0; 1024])).await?;
                    for subscriber in &subscribers {
                        subscriber.receive().await?;
                    }
                }
                Ok(())
            },
        )
        .await?;
    for connection in &connections {
        connection.close().await?;
    }
    broker
        .time(
            "kept for subscribers that are away",
            count * subscriptions,
            async {
                for _ in 0..count {
                    producer.send(Message::bytes(vec![0; 1024])).await?;
                }
                Ok(())
            },
        )
        .await?;
    sender.close().await?;
    drop(broker);
    let broker = Broker::kept(data.path());
    let (now, most) = broker.memory();
    println!(
        "{:44} {:>9}  {:>7.2} s  broker {:>7.2} s CPU  {now:>5} MiB, at most {most}",
        "start again",
        count * subscriptions,
        broker.start.as_secs_f64(),
        broker.cpu()
    );
    Ok(())
}
