//! `broker-lite soak`: it says what happened, and above all it can fail.

use std::process::Command;
use std::time::Duration;

use broker_lite::Broker;
use broker_lite::cli::soak::{Control, Length, Plan, Soak};
use openwire_client::{
    AcknowledgeMode, Connection, ConnectionFactory, Consumer, ConsumerOptions, Destination,
};
use tests::process::{BrokerProcess, broker_lite, free_port, run};
use tests::soon;

fn plan(uri: &str, messages: u64) -> Plan {
    let mut plan = Plan::new(uri);
    plan.length = Length::Messages(messages);
    (plan.producers, plan.consumers) = (3, 2);
    plan.persistent = true;
    plan.size = 100;
    plan
}

async fn memory() -> Broker {
    Broker::builder()
        .memory()
        .listen("tcp://127.0.0.1:0")
        .start()
        .await
        .unwrap()
}

/// Somebody else who consumes.
async fn rival(uri: &str, queue: &str, mode: AcknowledgeMode, prefetch: u16) -> (Connection, Consumer) {
    let connection = ConnectionFactory::new(uri)
        .unwrap()
        .create_connection()
        .await
        .unwrap();
    connection.start().await.unwrap();
    let session = connection.create_session(mode).await.unwrap();
    let mut options = ConsumerOptions::default();
    options.prefetch = Some(prefetch);
    let consumer = session
        .create_consumer_with(&Destination::queue(queue), options)
        .await
        .unwrap();
    (connection, consumer)
}

/// Waits until so many messages were confirmed.
async fn confirmed(control: &Control, messages: u64) {
    soon("the load goes on", async {
        while control.counts().confirmed < messages {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_is_lost_where_nothing_happens() {
    let broker = memory().await;
    for uri in [broker.uri(), "vm://soak", &format!("failover:({})", broker.uri())] {
        let embedded = Broker::builder().name("soak").memory().start().await.unwrap();
        for transacted in [None, Some(7)] {
            let mut plan = plan(uri, 1000);
            plan.transacted = transacted;
            let report = soon("the soak", Soak::start(plan).await.unwrap().finish()).await;
            assert_eq!(
                (report.sent, report.confirmed, report.received),
                (1000, 1000, 1000)
            );
            assert_eq!((report.lost, report.duplicated, report.in_doubt), (0, 0, 0));
            assert_eq!(
                (report.out_of_order, report.reconnects, report.refused),
                (0, 0, 0)
            );
        }
        embedded.stop().await.unwrap();
    }
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn what_somebody_takes_away_is_lost_and_counted() {
    let broker = memory().await;
    let stolen = 7;
    let (thief, consumer) = rival(broker.uri(), "S", AcknowledgeMode::Client, 1).await;
    let mut plan = plan(broker.uri(), u64::MAX);
    plan.queue = Some("S".to_owned());
    plan.rate = Some(1000);
    plan.drain = Duration::from_secs(2);
    let soak = Soak::start(plan).await.unwrap();
    let control = soak.control();
    let finish = tokio::spawn(soak.finish());
    for _ in 0..stolen {
        let message = soon("something to steal", consumer.receive()).await.unwrap();
        message.acknowledge().await.unwrap();
    }
    // What it was given and did not take goes back.
    thief.close().await.unwrap();
    control.stop();
    let report = soon("the soak", finish).await.unwrap();
    assert_eq!(
        (report.lost, report.confirmed - report.received),
        (stolen, stolen)
    );
    assert_eq!((report.in_doubt, report.unexpected), (0, 0));
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn what_others_left_in_the_queue_is_foreign() {
    let broker = memory().await;
    let sending = ConnectionFactory::new(broker.uri())
        .unwrap()
        .create_connection()
        .await
        .unwrap();
    let session = sending.create_session(AcknowledgeMode::Auto).await.unwrap();
    let producer = session.create_producer(&Destination::queue("S")).await.unwrap();
    for _ in 0..5 {
        producer.send("left over").await.unwrap();
    }
    let mut plan = plan(broker.uri(), 100);
    plan.queue = Some("S".to_owned());
    let report = soon("the soak", Soak::start(plan).await.unwrap().finish()).await;
    assert_eq!((report.foreign, report.received, report.lost), (5, 100, 0));
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn a_rate_is_not_exceeded() {
    let broker = memory().await;
    let mut plan = plan(broker.uri(), 60);
    plan.rate = Some(100);
    let began = std::time::Instant::now();
    let report = soon("the soak", Soak::start(plan).await.unwrap().finish()).await;
    assert_eq!(report.received, 60);
    // The first message of each of three producers comes at once.
    assert!(began.elapsed() >= Duration::from_millis(500));
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_ends_the_load_and_still_reports() {
    let broker = memory().await;
    for transacted in [None, Some(5)] {
        let mut plan = plan(broker.uri(), u64::MAX);
        plan.transacted = transacted;
        let soak = Soak::start(plan).await.unwrap();
        let control = soak.control();
        let finish = tokio::spawn(soak.finish());
        confirmed(&control, 100).await;
        control.stop();
        let report = soon("the soak", finish).await.unwrap();
        assert!(report.confirmed >= 100);
        assert_eq!(
            (report.sent, report.received),
            (report.confirmed, report.confirmed)
        );
        assert_eq!((report.lost, report.in_doubt), (0, 0));
    }
    broker.stop().await.unwrap();
}

/// A plain `tcp:` connection is over when the broker goes: the soak makes new ones, and says what it cannot know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_over_are_replaced() {
    let data = tempfile::TempDir::new().unwrap();
    let data = data.path().to_string_lossy();
    let listen = format!("tcp://127.0.0.1:{}", free_port());
    let start = || BrokerProcess::start(&["--data", &data, "--listen", &listen]);
    for transacted in [None, Some(5)] {
        let broker = start();
        let mut plan = plan(&listen, u64::MAX);
        plan.transacted = transacted;
        let soak = Soak::start(plan).await.unwrap();
        let control = soak.control();
        let finish = tokio::spawn(soak.finish());
        confirmed(&control, 200).await;
        broker.kill();
        let broker = start();
        let before = control.counts().confirmed;
        confirmed(&control, before + 200).await;
        control.stop();
        let report = soon("the soak", finish).await.unwrap();
        println!("{report}");
        assert_eq!((report.lost, report.reconnects), (0, 5));
        assert_eq!(
            report.sent,
            report.confirmed + report.in_doubt - report.doubtful_receipts
        );
        assert_eq!(
            (report.unexplained, report.out_of_order, report.unexpected),
            (0, 0, 0)
        );
        drop(broker);
    }
}

/// A broker without a journal that is killed loses what it had, whatever it had confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_forgets_is_found_out() {
    let listen = format!("tcp://127.0.0.1:{}", free_port());
    let start = || BrokerProcess::start(&["--memory", "--listen", &listen]);
    let broker = start();
    let soak = Command::new(broker_lite())
        .args(["soak", &format!("failover:({listen})?maxReconnectDelay=100")])
        .args([
            "--queue",
            "S",
            "--persistent",
            "--seconds",
            "3600",
            "--drain-seconds",
            "2",
        ])
        .args([
            "--producers",
            "2",
            "--consumers",
            "2",
            "--rate",
            "2000",
            "--json",
            "--log",
            "error",
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It holds messages that the soak is not given while this broker lives, and the next one does not know.
    let (hoarder, consumer) = rival(&listen, "S", AcknowledgeMode::Client, 100).await;
    soon("something to hoard", consumer.receive()).await.unwrap();
    broker.kill();
    let broker = start();
    // The soak has come back when its messages are seen here.
    let (witness, consumer) = rival(&listen, "S", AcknowledgeMode::Client, 1).await;
    soon("the soak goes on", consumer.receive()).await.unwrap();
    witness.close().await.unwrap();
    run(Command::new("kill").args(["-INT", &soak.id().to_string()]));
    let output = soak.wait_with_output().unwrap();
    drop((broker, hoarder));

    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let fields: Vec<_> = report.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "sent",
        "confirmed",
        "received",
        "lost",
        "duplicated",
        "in_doubt",
        "out_of_order",
        "reconnects",
        "longest_gap_ms",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
    let lost = report["lost"].as_u64().unwrap();
    assert!(lost > 0, "{report}");
    assert_eq!(report["reconnects"], 4);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains(&format!("{lost} messages were lost")), "{errors}");
}

#[test]
fn a_good_run_ends_well_and_a_bad_plan_at_once() {
    let broker = BrokerProcess::start(&["--memory", "--listen", "tcp://127.0.0.1:0"]);
    let address = broker.addresses[0].as_str();
    let soak = |arguments: &[&str]| run(Command::new(broker_lite()).arg("soak").args(arguments));
    let good = soak(&[address, "--messages", "100", "--transacted", "--batch", "3"]);
    assert!(good.success, "{}", good.stderr);
    assert!(
        good.stdout
            .starts_with("100 sent, 100 confirmed, 100 received, 0 lost"),
        "{}",
        good.stdout
    );
    assert_eq!(good.stdout.lines().count(), 1);
    for (arguments, what) in [
        (["nonsense://x", "--messages", "1"].as_slice(), "nonsense"),
        (&["tcp://127.0.0.1:1", "--messages", "1"], "refused"),
        (
            &[address, "--messages", "1", "--seconds", "1"],
            "cannot be used with",
        ),
        (&[address, "--batch", "5"], "--transacted"),
        (&[address, "--size", "19"], "from 20"),
        (&[address, "--user", "somebody"], "NAME:PASSWORD"),
    ] {
        let bad = soak(arguments);
        assert!(!bad.success, "{arguments:?}");
        assert!(bad.stderr.contains(what), "{arguments:?}: {}", bad.stderr);
    }
}
