//! Brokers are killed under load, again and again: what they confirmed is there, and every doubt was reported.
//!
//! `KILLS` says how many kills each test does; without it they are few enough for every day.

use std::time::Duration;

use broker_lite::cli::soak::{Length, Plan, Report, Soak};
use tests::databases::Postgres;
use tests::load::goes_on;
use tests::peers::{ActiveMq, Peers};
use tests::process::{BrokerProcess, StartingBroker, free_port};
use tokio::task::block_in_place;

/// Messages that are confirmed, and come, between two kills.
const BETWEEN: u64 = 400;

/// In this time a broker has started, or a standby has taken over, and the load has gone on.
const PATIENCE: Duration = Duration::from_secs(90);

fn kills(default: u64) -> u64 {
    std::env::var("KILLS").map_or(default, |kills| kills.parse().expect("KILLS is a number"))
}

/// Kills as often as wanted, each time when the load is seen to go on.
async fn kill_under_load(uri: &str, transacted: bool, kills: u64, mut kill: impl FnMut()) -> Report {
    let mut plan = Plan::new(uri);
    plan.length = Length::Time(PATIENCE * u32::try_from(kills + 1).expect("a number of kills"));
    (plan.producers, plan.consumers) = (4, 4);
    plan.persistent = true;
    plan.transacted = transacted.then_some(10);
    plan.size = 200;
    plan.drain = PATIENCE;
    let soak = Soak::start(plan).await.expect("the broker is there");
    let control = soak.control();
    let finish = tokio::spawn(soak.finish());
    for number in 1..=kills {
        goes_on(&control, BETWEEN, PATIENCE, &format!("kill {number}")).await;
        block_in_place(&mut kill);
    }
    goes_on(&control, BETWEEN, PATIENCE, "the end").await;
    control.stop();
    let report = finish.await.expect("a soak comes to its end");
    println!("{kills} kills: {report}");
    report
}

/// One broker-lite, which comes back with its journal.
async fn broker_lite(transacted: bool) -> Report {
    let data = tempfile::TempDir::new().expect("there is room for temporary files");
    let directory = data.path().to_string_lossy().into_owned();
    let listen = format!("tcp://127.0.0.1:{}", free_port());
    let start = || BrokerProcess::start(&["--data", &directory, "--listen", &listen]);
    let mut broker = Some(start());
    let uri = format!("failover:({listen})?maxReconnectDelay=200");
    kill_under_load(&uri, transacted, kills(4), || {
        broker.take().expect("it runs").kill();
        broker = Some(start());
    })
    .await
}

/// Two broker-lite on one PostgreSQL, of which the second takes over.
async fn broker_lite_on_database(test: &str, transacted: bool) -> Option<Report> {
    let database = Postgres::find(test)?;
    let store = database.url();
    let [first, second] = [(); 2].map(|()| format!("tcp://127.0.0.1:{}", free_port()));
    let uri = format!("failover:({first},{second})?maxReconnectDelay=200");
    let options = |listen| {
        [
            "start",
            "--store",
            &store,
            "--listen",
            listen,
            "--lock-acquire-sleep-interval",
            "100",
        ]
    };
    let mut listens = [&first, &second];
    let mut master = Some(BrokerProcess::start(&options(listens[0])));
    let mut standby = Some(BrokerProcess::stand_by(&options(listens[1])));
    let report = kill_under_load(&uri, transacted, kills(3), || {
        master.take().expect("it runs").kill();
        master = standby.take().map(StartingBroker::ready);
        listens.reverse();
        standby = Some(BrokerProcess::stand_by(&options(listens[1])));
    })
    .await;
    Some(report)
}

/// Two ActiveMQ brokers on one KahaDB, of which the second takes over.
async fn activemq(test: &str, transacted: bool) -> Option<Report> {
    let peers = Peers::find(test)?;
    let data = tempfile::TempDir::new().expect("there is room for temporary files");
    let directory = data.path().to_string_lossy().into_owned();
    let start = || peers.start(&["--masterslave-dir", &directory]);
    let mut brokers: [ActiveMq; 2] = block_in_place(|| [start(), start()]);
    let uri = format!(
        "failover:({},{})?maxReconnectDelay=200",
        brokers[0].url(),
        brokers[1].url()
    );
    let report = kill_under_load(&uri, transacted, kills(3), || {
        let [master, standby] = &mut brokers;
        // It is there again, as the standby, before the next kill.
        master.kill();
        standby.wait();
        master.restart();
        std::mem::swap(master, standby);
    })
    .await;
    Some(report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn broker_lite_keeps_what_it_confirmed() {
    let report = broker_lite(false).await;
    assert_eq!((report.lost, report.unexpected, report.in_doubt), (0, 0, 0));
    // Who had not heard that a message was acknowledged sends it again, and says that it may have come before.
    assert_eq!(report.duplicated, report.flagged);
    assert_eq!(report.out_of_order, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn broker_lite_keeps_transactions_and_doubles_none() {
    let report = broker_lite(true).await;
    assert_eq!((report.lost, report.unexpected), (0, 0));
    assert_eq!(report.duplicated, 0);
    assert_eq!(report.in_doubt, 0, "it knows the outcome of every commit");
    assert_eq!(report.out_of_order, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn broker_lite_keeps_in_a_database_what_it_confirmed() {
    if let Some(report) = broker_lite_on_database("kills of broker-lite on a database", false).await {
        assert_eq!((report.lost, report.unexpected, report.in_doubt), (0, 0, 0));
        assert_eq!(report.duplicated, report.flagged);
        assert_eq!(report.out_of_order, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn broker_lite_keeps_transactions_in_a_database_and_doubles_none() {
    if let Some(report) =
        broker_lite_on_database("kills of broker-lite on a database, transacted", true).await
    {
        assert_eq!((report.lost, report.unexpected), (0, 0));
        assert_eq!(report.duplicated, 0);
        assert_eq!(report.in_doubt, 0, "it knows the outcome of every commit");
        assert_eq!(report.out_of_order, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn activemq_keeps_what_it_confirmed_and_every_doubt_is_reported() {
    if let Some(report) = activemq("kills of ActiveMQ", false).await {
        assert_eq!((report.lost, report.unexpected), (0, 0));
        assert_eq!(report.unexplained, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn activemq_keeps_transactions_and_every_doubt_is_reported() {
    if let Some(report) = activemq("kills of ActiveMQ, transacted", true).await {
        assert_eq!((report.lost, report.unexpected), (0, 0));
        assert_eq!(report.unexplained, 0);
    }
}
