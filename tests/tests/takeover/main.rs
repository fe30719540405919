//! Two broker-lite on one directory: whatever happens to the master, one serves, and what was confirmed is there.
//!
//! `TAKEOVER_ROUNDS` says how many rounds each of the tests under load does, and `TAKEOVER_PENDING` how many messages wait
//! when the time of a takeover is taken; without them they are few enough for every day. For the record:
//! `TAKEOVER_ROUNDS=100 TAKEOVER_PENDING=100000 cargo test --release -p tests --test takeover -- --nocapture`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use broker_lite::cli::soak::{Control, Length, Plan, Report, Soak};
use openwire_client::{AcknowledgeMode, ConnectionFactory, Destination, Message};
use parking_lot::Mutex;
use tempfile::TempDir;
use tests::process::{Candidate, Signal, free_port};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::timeout;

/// In this time a standby has taken over, and the load has gone on.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a standby tries, and the lease of a master.
const INTERVAL: Duration = Duration::from_millis(400);

/// Messages that are confirmed, and come, between two rounds.
const BETWEEN: u64 = 200;

/// How long one waits for an answer of a broker that may not serve.
const PROBE: Duration = Duration::from_secs(10);

/// The status with which a master ends that is none any more.
const MASTERSHIP_LOST: i32 = 4;

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("it is a number"))
}

/// One of the two brokers, over all its lives.
struct Place {
    listen: String,
    /// How often it was started.
    life: Arc<AtomicU32>,
    broker: Candidate,
}

/// Two brokers on one directory, of which the first is master.
struct Pair {
    directory: TempDir,
    options: Vec<String>,
    places: [Place; 2],
}

impl Pair {
    fn start(options: &[&str]) -> Self {
        let directory = TempDir::new().expect("there is room for temporary files");
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        let listen = || format!("tcp://127.0.0.1:{}", free_port());
        let place = |name, listen: String| Place {
            broker: run(directory.path(), name, &listen, &options),
            listen,
            life: Arc::new(AtomicU32::new(1)),
        };
        let mut first = place("a", listen());
        first.broker.hear("ready", PATIENCE);
        let mut second = place("b", listen());
        second.broker.hear("standing by", PATIENCE);
        Self {
            places: [first, second],
            directory,
            options,
        }
    }

    fn lock(&self) -> PathBuf {
        self.directory.path().join("lock")
    }

    fn uri(&self) -> String {
        let [first, second] = &self.places;
        // A stopped broker closes nothing: that it says nothing has to do.
        format!(
            "failover:({},{})?maxReconnectDelay=200&nested.wireFormat.maxInactivityDuration=1500\
             &nested.wireFormat.maxInactivityDurationInitalDelay=1500",
            first.listen, second.listen
        )
    }

    /// Starts the broker at a place again, as a standby.
    fn restart(&mut self, at: usize) {
        let name = ["a", "b"][at];
        let place = &mut self.places[at];
        place.life.fetch_add(1, Ordering::SeqCst);
        place.broker = run(self.directory.path(), name, &place.listen, &self.options);
        place.broker.hear("standing by", PATIENCE);
    }
}

fn run(directory: &Path, name: &str, listen: &str, options: &[String]) -> Candidate {
    let directory = directory.to_string_lossy();
    let interval = INTERVAL.as_millis().to_string();
    let mut arguments = vec!["--data", &*directory, "--name", name, "--listen", listen];
    arguments.extend(["--lock-acquire-sleep-interval", &interval, "--log", "warn"]);
    arguments.extend(options.iter().map(String::as_str));
    Candidate::start(&arguments)
}

/// What happens in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// The master is killed.
    Kill,
    /// The master is stopped for longer than its lease, and nobody takes over: it has the lock.
    Pause,
    /// The master is stopped, its lock file deleted, the standby takes over, and the former master goes on.
    Replace,
    /// The lock file is deleted while the master serves.
    Delete,
    /// The master stops in order.
    Stop,
    /// The standby is killed.
    Standby,
}

/// In order. The masters change an odd number of times, so both brokers come to suffer everything.
const FAULTS: [Fault; 7] = [
    Fault::Kill,
    Fault::Replace,
    Fault::Pause,
    Fault::Delete,
    Fault::Stop,
    Fault::Standby,
    Fault::Kill,
];

impl Pair {
    /// Does it, and returns who is master then. The other one stands by when the round is over.
    fn suffer(&mut self, fault: Fault, master: usize) -> usize {
        let standby = 1 - master;
        match fault {
            Fault::Kill => {
                self.places[master].broker.signal(Signal::KILL);
                self.places[standby].broker.hear("ready", PATIENCE);
                self.places[master].broker.end(PATIENCE);
            }
            Fault::Stop => {
                self.places[master].broker.signal(Signal::TERM);
                self.places[standby].broker.hear("ready", PATIENCE);
                let (status, errors) = self.places[master].broker.end(PATIENCE);
                assert_eq!(status, Some(0), "{errors}");
            }
            Fault::Delete => {
                fs::remove_file(self.lock()).expect("there is a lock file");
                let (status, errors) = self.places[master].broker.end(PATIENCE);
                assert_eq!(status, Some(MASTERSHIP_LOST), "{errors}");
                self.places[standby].broker.hear("ready", PATIENCE);
            }
            Fault::Replace => {
                self.places[master].broker.signal(Signal::STOP);
                fs::remove_file(self.lock()).expect("there is a lock file");
                self.places[standby].broker.hear("ready", PATIENCE);
                // Who asks the old one now is in its queue when it goes on.
                std::thread::sleep(INTERVAL);
                self.places[master].broker.signal(Signal::CONT);
                let (status, errors) = self.places[master].broker.end(PATIENCE);
                assert_eq!(status, Some(MASTERSHIP_LOST), "{errors}");
            }
            Fault::Pause => {
                self.places[master].broker.signal(Signal::STOP);
                // As long as this is what happens to it, not something that is waited for.
                std::thread::sleep(3 * INTERVAL);
                self.places[master].broker.signal(Signal::CONT);
                assert!(
                    !self.places[standby].broker.has_said("ready"),
                    "there are two masters"
                );
                return master;
            }
            Fault::Standby => {
                self.places[standby].broker.signal(Signal::KILL);
                self.places[standby].broker.end(PATIENCE);
                self.restart(standby);
                return master;
            }
        }
        self.restart(master);
        standby
    }
}

/// Asks both brokers all the time, and notes who answers.
struct Witness {
    seen: Arc<Mutex<BTreeMap<Life, Span>>>,
    asking: JoinSet<()>,
}

/// A broker from one start to its end: at which place, and which time there.
type Life = (usize, u32);

/// Within these it has served for certain, so two that overlap are two masters.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// When it had answered first.
    from: Instant,
    /// When it was asked last what it then answered.
    to: Instant,
    answers: u64,
}

impl Witness {
    fn of(pair: &Pair) -> Self {
        let seen = Arc::<Mutex<BTreeMap<Life, Span>>>::default();
        let mut asking = JoinSet::new();
        for (place, Place { listen, life, .. }) in pair.places.iter().enumerate() {
            let (seen, listen, life) = (seen.clone(), listen.clone(), life.clone());
            asking.spawn(async move {
                let mut questions = JoinSet::new();
                let mut often = tokio::time::interval(Duration::from_millis(50));
                loop {
                    often.tick().await;
                    while questions.try_join_next().is_some() {}
                    let (seen, listen, life) = (seen.clone(), listen.clone(), life.clone());
                    questions.spawn(async move {
                        let number = life.load(Ordering::SeqCst);
                        let asked = Instant::now();
                        // One that does not answer in time is stopped for longer than any of this takes.
                        let answer = timeout(PROBE, ask(&listen)).await;
                        if matches!(answer, Ok(Ok(()))) && life.load(Ordering::SeqCst) == number {
                            let span = Span {
                                from: Instant::now(),
                                to: asked,
                                answers: 0,
                            };
                            let mut seen = seen.lock();
                            let span = seen.entry((place, number)).or_insert(span);
                            span.to = span.to.max(asked);
                            span.answers += 1;
                        }
                    });
                }
            });
        }
        Self { seen, asking }
    }

    /// Fails if two have served at once, and says how often the one that served changed.
    fn judge(mut self) -> usize {
        self.asking.abort_all();
        let mut spans: Vec<_> = self.seen.lock().clone().into_iter().collect();
        spans.sort_by_key(|(_, span)| span.from);
        for (index, (one, span)) in spans.iter().enumerate() {
            for (other, later) in &spans[index + 1..] {
                assert!(
                    later.from >= span.to.min(later.to),
                    "{one:?} has answered what it was asked after {other:?} had answered: {span:?}, {later:?}"
                );
            }
        }
        println!("served, as place, life and answers: {:?}", served(&spans));
        spans.len()
    }
}

fn served(spans: &[(Life, Span)]) -> Vec<(usize, u32, u64)> {
    let each = spans.iter();
    each.map(|((place, life), span)| (*place, *life, span.answers))
        .collect()
}

/// Does something at a broker that only a master answers.
async fn ask(listen: &str) -> openwire_client::Result<()> {
    let connection = ConnectionFactory::new(listen)?.create_connection().await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_consumer(&Destination::topic("witness")).await?;
    drop(consumer);
    connection.close().await
}

async fn goes_on(control: &Control, before: &str) {
    let (counts, began) = (control.counts(), Instant::now());
    loop {
        let now = control.counts();
        if now.confirmed >= counts.confirmed + BETWEEN && now.received >= counts.received + BETWEEN {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "the load does not go on before {before}: {counts:?}, and now {now:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Eight clients, and round after round of faults.
async fn rounds(transacted: bool) -> Report {
    let usual = u32::try_from(FAULTS.len()).expect("there are few");
    let rounds = number("TAKEOVER_ROUNDS", usual);
    let mut pair = block_in_place(|| Pair::start(&["--restart-allowed", "false"]));
    let mut plan = Plan::new(pair.uri());
    plan.length = Length::Time(PATIENCE * (rounds + 1));
    (plan.producers, plan.consumers) = (4, 4);
    plan.persistent = true;
    plan.transacted = transacted.then_some(10);
    plan.size = 200;
    plan.drain = PATIENCE;
    let soak = Soak::start(plan).await.expect("a broker is there");
    let witness = Witness::of(&pair);
    let control = soak.control();
    let finish = tokio::spawn(soak.finish());
    let mut master = 0;
    let mut masters = Vec::new();
    for (round, fault) in (1..=rounds).zip(FAULTS.into_iter().cycle()) {
        goes_on(&control, &format!("round {round}, {fault:?}")).await;
        masters.push(master);
        master = block_in_place(|| pair.suffer(fault, master));
    }
    goes_on(&control, "the end").await;
    control.stop();
    let report = finish.await.expect("a soak comes to its end");
    println!("{rounds} rounds, masters {masters:?}: {report}");
    let lives = witness.judge();
    let changes = masters.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(
        lives > changes,
        "{lives} brokers have served, with {changes} changes"
    );
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn transactions_are_neither_lost_nor_doubled_whatever_happens_to_the_master() {
    let report = rounds(true).await;
    assert_eq!((report.lost, report.unexpected), (0, 0));
    assert_eq!(report.duplicated, 0);
    assert_eq!(
        report.in_doubt, 0,
        "every master knows the outcomes of those before it"
    );
    assert_eq!(report.out_of_order, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_was_confirmed_is_there_whatever_happens_to_the_master() {
    let report = rounds(false).await;
    assert_eq!((report.lost, report.unexpected, report.in_doubt), (0, 0, 0));
    // Who had not heard that a message was acknowledged sends it again, and says that it may have come before.
    assert_eq!((report.duplicated, report.unexplained), (report.flagged, 0));
}

/// The files of a directory: name, length, and when each was changed.
fn files(directory: &Path) -> BTreeMap<String, (u64, SystemTime)> {
    let entries = fs::read_dir(directory).expect("it is there");
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("it can be read");
        let metadata = entry.metadata().expect("it is there");
        let name = entry.file_name().to_string_lossy().into_owned();
        (
            name,
            (metadata.len(), metadata.modified().expect("there are times")),
        )
    };
    entries.map(file).collect()
}

/// What a broker answers to whoever asks whether it serves.
fn ready(health: &str) -> String {
    let mut stream = TcpStream::connect(health).expect("it is there");
    let request = b"GET /readyz HTTP/1.1\r\n\r\n";
    stream.write_all(request).expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn a_standby_says_who_is_master_and_touches_nothing() {
    let directory = TempDir::new().expect("there is room for temporary files");
    let listens = [0, 1].map(|_| format!("tcp://127.0.0.1:{}", free_port()));
    let mut master = run(directory.path(), "first", &listens[0], &[]);
    master.hear("ready", PATIENCE);
    let before = files(directory.path());
    let health = format!("127.0.0.1:{}", free_port());
    let asked = ["--health".to_owned(), health.clone()];
    let mut standby = run(directory.path(), "second", &listens[1], &asked);
    let said = standby.hear("standing by", PATIENCE);
    assert!(said.contains("broker first, process "), "{said}");
    let tries = Instant::now() + 3 * INTERVAL;
    while Instant::now() < tries {
        let host_port = listens[1].trim_start_matches("tcp://");
        assert!(TcpStream::connect(host_port).is_err(), "a standby listens");
    }
    assert_eq!(files(directory.path()), before);
    let answer = ready(&health);
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("broker first"),
        "{answer}"
    );
    // It says so once, however often it tries.
    assert!(!standby.has_said("standing by"));
    let mut third = run(
        directory.path(),
        "third",
        &listens[1],
        &["--fail-if-locked".to_owned()],
    );
    let (status, errors) = third.end(PATIENCE);
    assert_eq!(status, Some(3), "{errors}");
    assert!(errors.contains("broker first, process "), "{errors}");
    master.signal(Signal::TERM);
    assert_eq!(master.end(PATIENCE).0, Some(0));
    standby.hear("ready", PATIENCE);
    assert!(ready(&health).starts_with("HTTP/1.1 200 "));
    standby.signal(Signal::TERM);
    assert_eq!(standby.end(PATIENCE).0, Some(0));
}

#[test]
fn a_master_that_lost_its_lock_stands_by_and_comes_back() {
    let mut pair = Pair::start(&[]);
    // It is stopped meanwhile, or it might have the lock again before the other one tries.
    pair.places[0].broker.signal(Signal::STOP);
    fs::remove_file(pair.lock()).expect("there is a lock file");
    pair.places[1].broker.hear("ready", PATIENCE);
    pair.places[0].broker.signal(Signal::CONT);
    let said = pair.places[0].broker.hear("standing by", PATIENCE);
    assert!(said.contains("broker b, process "), "{said}");
    pair.places[1].broker.signal(Signal::KILL);
    pair.places[0].broker.hear("ready", PATIENCE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_takes_little_longer_than_the_standby_sleeps() {
    let pending = number("TAKEOVER_PENDING", 5_000);
    let mut pair = block_in_place(|| Pair::start(&[]));
    let queue = Destination::queue("pending");
    let factory = ConnectionFactory::new(&pair.uri()).expect("it is a URI");
    let connection = factory.create_connection().await.expect("a broker is there");
    connection.start().await.expect("it starts");
    let session = connection
        .create_session(AcknowledgeMode::Auto)
        .await
        .expect("a session");
    let producer = session.create_producer(&queue).await.expect("a producer");
    let body = "x".repeat(1024);
    let mut receipts = std::collections::VecDeque::new();
    for _ in 0..pending {
        let sent = producer.send_pipelined(Message::text(body.as_str())).await;
        receipts.push_back(sent.expect("it is sent"));
        if receipts.len() > 1_000 {
            receipts
                .pop_front()
                .expect("there are some")
                .await
                .expect("it is stored");
        }
    }
    for receipt in receipts {
        receipt.await.expect("it is stored");
    }
    let took = block_in_place(|| {
        pair.places[0].broker.signal(Signal::KILL);
        let killed = Instant::now();
        pair.places[1].broker.hear("ready", PATIENCE);
        killed.elapsed()
    });
    println!("{pending} pending, the standby tries every {INTERVAL:?}: ready {took:?} after the kill");
    let consumer = session.create_consumer(&queue).await.expect("a consumer");
    for _ in 0..pending {
        let message = timeout(PATIENCE, consumer.receive()).await;
        message.expect("it comes").expect("the connection lives");
    }
    connection.close().await.expect("it closes");
}
