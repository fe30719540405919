//! Brokers of both kinds on one PostgreSQL: each takes over from the other what it had.

use std::thread;
use std::time::Duration;

use openwire_client::{AcknowledgeMode, Connection, ConnectionFactory, Consumer, Destination, Message};
use tests::databases::Postgres;
use tests::peers::Peers;
use tests::process::{BrokerProcess, free_port};
use tests::soon;

/// A takeover reads everything, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const SUBSCRIPTION: &str = "subscription";

fn queue() -> Destination {
    Destination::queue("Orders")
}

fn topic() -> Destination {
    Destination::topic("Prices")
}

/// One message at a time is with a client, so that what was shown is what was received.
async fn connect(url: &str, client: Option<&str>) -> Connection {
    let client = client.map_or_else(String::new, |client| format!("&jms.clientID={client}"));
    let uri = format!(
        "{url}?jms.prefetchPolicy.all=1&jms.redeliveryPolicy.initialRedeliveryDelay=5\
         &jms.redeliveryPolicy.redeliveryDelay=5{client}"
    );
    let factory = ConnectionFactory::new(&uri).expect("the URI is right");
    let connection = soon("connecting", factory.create_connection())
        .await
        .expect("it connects");
    connection.start().await.expect("it starts");
    connection
}

async fn send(url: &str, to: &Destination, texts: impl Iterator<Item = String>) {
    let connection = connect(url, None).await;
    let session = connection
        .create_session(AcknowledgeMode::Auto)
        .await
        .expect("a session");
    let producer = session.create_producer(to).await.expect("a producer");
    for text in texts {
        let mut message = Message::text(text.as_str());
        message
            .set_property("number", text.len() as i32)
            .expect("a property");
        soon("sending", producer.send(message))
            .await
            .expect("it is stored");
    }
    connection.close().await.expect("it closes");
}

fn numbered(prefix: &str, numbers: std::ops::RangeInclusive<u32>) -> impl Iterator<Item = String> {
    let prefix = prefix.to_owned();
    numbers.map(move |number| format!("{prefix}{number}"))
}

async fn next(consumer: &Consumer) -> Message {
    let received = consumer
        .receive_timeout(PATIENCE)
        .await
        .expect("it can be received");
    received.expect("a message comes")
}

async fn expect(consumer: &Consumer, texts: impl Iterator<Item = String>) {
    for text in texts {
        let message = next(consumer).await;
        assert_eq!(message.as_text().expect("a text"), Some(&*text));
        let number = message.property("number").expect("properties can be read");
        assert_eq!(number, Some((text.len() as i32).into()));
    }
}

async fn subscriber(url: &str) -> (Connection, Consumer) {
    let connection = connect(url, Some("subscriber")).await;
    let session = connection
        .create_session(AcknowledgeMode::Auto)
        .await
        .expect("a session");
    let consumer = session.create_durable_subscriber(&topic(), SUBSCRIPTION).await;
    (connection, consumer.expect("a durable subscriber"))
}

/// Receives some messages of the subscription, and leaves the others.
async fn visit(url: &str, texts: impl Iterator<Item = String>) {
    let (connection, consumer) = subscriber(url).await;
    expect(&consumer, texts).await;
    connection.close().await.expect("it closes");
}

/// Receives messages of the queue. The first was shown before, or nobody asks; the last was not. One behind it may have been
/// sent ahead.
async fn receive(url: &str, shown: bool, texts: impl Iterator<Item = String>) {
    let connection = connect(url, None).await;
    let session = connection
        .create_session(AcknowledgeMode::Client)
        .await
        .expect("a session");
    let consumer = session.create_consumer(&queue()).await.expect("a consumer");
    let texts: Vec<_> = texts.collect();
    for (at, text) in texts.iter().enumerate() {
        let message = next(&consumer).await;
        assert_eq!(message.as_text().expect("a text"), Some(&**text));
        if at == 0 && shown {
            assert!(message.redelivered(), "{text} was shown before");
            assert!(
                message.delivery_count() >= 2,
                "{text}: {}",
                message.delivery_count()
            );
        } else if at + 1 == texts.len() {
            assert!(!message.redelivered(), "{text} was not shown before");
        }
        soon("acknowledging", message.acknowledge())
            .await
            .expect("it is acknowledged");
    }
    connection.close().await.expect("it closes");
}

/// Receives the next message of the queue and gives it back.
async fn show(url: &str, text: &str) {
    let connection = connect(url, None).await;
    let session = connection
        .create_session(AcknowledgeMode::Transacted)
        .await
        .expect("a session");
    let consumer = session.create_consumer(&queue()).await.expect("a consumer");
    for _ in 0..2 {
        let message = next(&consumer).await;
        assert_eq!(message.as_text().expect("a text"), Some(text));
        soon("rolling back", session.rollback())
            .await
            .expect("it is rolled back");
    }
    connection.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn activemq_and_broker_lite_take_over_from_each_other() {
    const TEST: &str = "activemq_and_broker_lite_take_over_from_each_other";
    let (Some(peers), Some(database)) = (Peers::find(TEST), Postgres::find(TEST)) else {
        return;
    };
    let on_database = database.activemq(r#"persistJMSRedelivered="true""#);
    let first = peers.start_on(&on_database);
    let url = first.url();
    visit(&url, std::iter::empty()).await;
    send(&url, &queue(), numbered("m", 1..=20)).await;
    send(&url, &topic(), numbered("t", 1..=10)).await;
    receive(&url, false, numbered("m", 1..=4)).await;
    visit(&url, numbered("t", 1..=3)).await;
    show(&url, "m5").await;

    let listen = format!("tcp://127.0.0.1:{}", free_port());
    let store = database.url();
    let options = [
        "start",
        "--listen",
        &listen,
        "--store",
        &store,
        "--lock-acquire-sleep-interval",
        "200",
    ];
    let standby = BrokerProcess::stand_by(&options);
    first.kill();
    let lite = standby.ready();
    let url = lite.addresses[0].clone();
    // What it had is there, what was shown says so, and what comes is behind it.
    receive(&url, true, numbered("m", 5..=9)).await;
    visit(&url, numbered("t", 4..=6)).await;
    send(&url, &queue(), numbered("n", 1..=10)).await;
    send(&url, &topic(), numbered("u", 1..=5)).await;
    show(&url, "m10").await;

    let second = thread::spawn(move || peers.start_on(&on_database));
    database.wait_for_standby();
    lite.kill();
    let second = second.join().expect("ActiveMQ takes over");
    let url = second.url();
    receive(&url, true, numbered("m", 10..=20)).await;
    receive(&url, false, numbered("n", 1..=4)).await;
    visit(&url, numbered("t", 7..=9)).await;
    send(&url, &queue(), numbered("o", 1..=3)).await;

    // And back once more: our tables know nothing of what happened meanwhile.
    let standby = BrokerProcess::stand_by(&options);
    second.kill();
    let lite = standby.ready();
    let url = &lite.addresses[0];
    receive(url, false, numbered("n", 5..=10).chain(numbered("o", 1..=3))).await;
    visit(url, numbered("t", 10..=10).chain(numbered("u", 1..=5))).await;
    assert_eq!(database.query("SELECT count(*) FROM ACTIVEMQ_MSGS").trim(), "0");
    assert_eq!(
        database.query("SELECT count(*) FROM BROKERLITE_NOTES").trim(),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_are_those_that_activemq_makes() {
    const TEST: &str = "the_tables_are_those_that_activemq_makes";
    let (Some(peers), Some(of_activemq)) = (Peers::find(TEST), Postgres::find(TEST)) else {
        return;
    };
    let Some(ours) = Postgres::find(TEST) else {
        return;
    };
    drop(peers.start_on(&of_activemq.activemq("")));
    let url = ours.url();
    drop(BrokerProcess::start(&[
        "start",
        "--listen",
        "tcp://127.0.0.1:0",
        "--store",
        &url,
    ]));
    let columns = "SELECT table_name, ordinal_position, column_name, data_type, character_maximum_length, is_nullable \
                   FROM information_schema.columns WHERE table_name LIKE 'activemq%' ORDER BY 1, 2";
    assert_eq!(ours.query(columns), of_activemq.query(columns));
    let indexes =
        "SELECT tablename, indexname FROM pg_indexes WHERE tablename LIKE 'activemq%' ORDER BY 1, 2";
    assert_eq!(ours.query(indexes), of_activemq.query(indexes));
}
