//! Two broker-lite on one directory, or on one database: whatever happens to the master, one serves, and what was confirmed is there.
//!
//! `TAKEOVER_ROUNDS` says how many rounds each of the tests under load does, and `TAKEOVER_PENDING` how many messages wait
//! when the time of a takeover is taken; without them they are few enough for every day. For the record:
//! `TAKEOVER_ROUNDS=100 TAKEOVER_PENDING=100000 cargo test --release -p tests --test takeover -- --nocapture`.

mod faults;
mod ground;
mod pair;
mod witness;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use broker_lite::cli::soak::{Length, Plan, Report, Soak};
use openwire_client::{AcknowledgeMode, ConnectionFactory, Destination, Message};
use tests::databases::Kind;
use tests::load::goes_on;
use tests::process::{Signal, free_port};
use tokio::task::block_in_place;
use tokio::time::timeout;

use ground::{Ground, Locker};
use pair::{Pair, start};
use witness::Witness;

/// In this time a standby has taken over, and the load has gone on.
const PATIENCE: Duration = Duration::from_secs(120);

/// Messages that are confirmed, and come, between two rounds.
const BETWEEN: u64 = 200;

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("it is a number"))
}

/// Eight clients, and round after round of faults.
async fn rounds(ground: Ground, transacted: bool) -> Report {
    let faults = ground.faults();
    let usual = u32::try_from(faults.len()).expect("there are few");
    let rounds = number("TAKEOVER_ROUNDS", usual);
    let mut pair = block_in_place(|| Pair::start(ground, &["--restart-allowed", "false"]));
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
    for (round, fault) in (1..=rounds).zip(faults.iter().copied().cycle()) {
        let before = Instant::now();
        goes_on(&control, BETWEEN, PATIENCE, &format!("round {round}, {fault:?}")).await;
        witness.sees(&pair.places[master], master).await;
        masters.push(master);
        let begins = Instant::now();
        master = block_in_place(|| pair.suffer(fault, master));
        let (load, took) = (begins - before, begins.elapsed());
        println!("round {round}: {load:?} of load, then {fault:?}, which took {took:?}");
    }
    goes_on(&control, BETWEEN, PATIENCE, "the end").await;
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

/// Transactions are neither lost nor doubled.
async fn with_transactions(ground: Ground) {
    let report = rounds(ground, true).await;
    assert_eq!((report.lost, report.unexpected), (0, 0));
    assert_eq!(report.duplicated, 0);
    assert_eq!(
        report.in_doubt, 0,
        "every master knows the outcomes of those before it"
    );
    assert_eq!(report.out_of_order, 0);
}

/// What was confirmed is there.
async fn without_transactions(ground: Ground) {
    let report = rounds(ground, false).await;
    assert_eq!((report.lost, report.unexpected, report.in_doubt), (0, 0, 0));
    // Who had not heard that a message was acknowledged sends it again, and says that it may have come before.
    assert_eq!((report.duplicated, report.unexplained), (report.flagged, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn transactions_on_a_directory() {
    with_transactions(Ground::directory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn single_messages_on_a_directory() {
    without_transactions(Ground::directory()).await;
}

/// Both loads, one after the other.
async fn on_database(kind: Kind, locker: Locker) {
    let test = format!("takeover on {kind:?} with {locker:?}");
    if let Some(ground) = Ground::database(kind, locker, &test).await {
        with_transactions(ground).await;
    }
    if let Some(ground) = Ground::database(kind, locker, &test).await {
        without_transactions(ground).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn on_postgres_with_its_row_locked() {
    on_database(Kind::Postgres, Locker::Row).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn on_postgres_with_a_lease() {
    on_database(Kind::Postgres, Locker::Lease).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn on_mariadb_with_its_row_locked() {
    on_database(Kind::MariaDb, Locker::Row).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn on_mariadb_with_a_lease() {
    on_database(Kind::MariaDb, Locker::Lease).await;
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
    let ground = Ground::directory();
    let listens = [0, 1].map(|_| format!("tcp://127.0.0.1:{}", free_port()));
    let run = |name, listen: &str, options: &[String]| start(&ground, 0, name, listen, options);
    let mut master = run("first", &listens[0], &[]);
    master.hear("ready", PATIENCE);
    let before = files(ground.path());
    let health = format!("127.0.0.1:{}", free_port());
    let asked = ["--health".to_owned(), health.clone()];
    let mut standby = run("second", &listens[1], &asked);
    let said = standby.hear("standing by", PATIENCE);
    assert!(said.contains("broker first, process "), "{said}");
    let tries = Instant::now() + 3 * ground.interval();
    while Instant::now() < tries {
        let host_port = listens[1].trim_start_matches("tcp://");
        assert!(TcpStream::connect(host_port).is_err(), "a standby listens");
    }
    assert_eq!(files(ground.path()), before);
    let answer = ready(&health);
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("broker first"),
        "{answer}"
    );
    // It says so once, however often it tries.
    assert!(!standby.has_said("standing by"));
    let mut third = run("third", &listens[1], &["--fail-if-locked".to_owned()]);
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
    let mut pair = Pair::start(Ground::directory(), &[]);
    // It is stopped meanwhile, or it might have the lock again before the other one tries.
    pair.places[0].broker.signal(Signal::STOP);
    fs::remove_file(pair.ground.lock()).expect("there is a lock file");
    pair.places[1].broker.hear("ready", PATIENCE);
    pair.places[0].broker.signal(Signal::CONT);
    let said = pair.places[0].broker.hear("standing by", PATIENCE);
    assert!(said.contains("broker b, process "), "{said}");
    pair.places[1].broker.signal(Signal::KILL);
    pair.places[0].broker.hear("ready", PATIENCE);
}

/// Says how long it takes from a kill until the standby is ready, and sees that nothing is missing.
async fn measure(ground: Ground) {
    let pending = number("TAKEOVER_PENDING", 5_000);
    let interval = ground.interval();
    let mut pair = block_in_place(|| Pair::start(ground, &[]));
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
    println!("{pending} pending, the standby tries every {interval:?}: ready {took:?} after the kill");
    let consumer = session.create_consumer(&queue).await.expect("a consumer");
    for _ in 0..pending {
        let message = timeout(PATIENCE, consumer.receive()).await;
        message.expect("it comes").expect("the connection lives");
    }
    connection.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_takes_little_longer_than_the_standby_sleeps() {
    measure(Ground::directory()).await;
    for kind in [Kind::Postgres, Kind::MariaDb] {
        for locker in [Locker::Row, Locker::Lease] {
            let test = format!("the time of a takeover on {kind:?} with {locker:?}");
            if let Some(ground) = Ground::database(kind, locker, &test).await {
                println!("{kind:?}, {locker:?}:");
                measure(ground).await;
            }
        }
    }
}
