//! One connection to all brokers at once.

use std::time::Duration;

use broker_lite::Broker;
use futures::StreamExt;
use openwire_client::discovery::MulticastDiscovery;
use openwire_client::uri::Agent;
use openwire_client::wire::{Command, TransactionInfo};
use openwire_client::{
    AcknowledgeMode, Connection, ConnectionFactory, ConnectionState, Consumer, Destination, Event, Events,
    Session,
};
use std::net::UdpSocket;
use tests::peers::Peers;
use tests::process::free_port;
use tests::scripted::{ScriptedConnection, ScriptedPeer};
use tests::{QUIET, soon};

async fn broker_at(uri: &str) -> Broker {
    let broker = Broker::builder().memory().listen(uri).start().await;
    broker.expect("it starts")
}

async fn broker() -> Broker {
    broker_at(&format!("tcp://127.0.0.1:{}", free_port())).await
}

fn fanout(brokers: &[&str], options: &str) -> String {
    let list = brokers.join(",");
    format!("fanout:(static:({list}))?initialReconnectDelay=1&maxReconnectDelay=50{options}")
}

async fn connect(uri: &str) -> Connection {
    let factory = ConnectionFactory::new(uri).expect("the URI is fine");
    let connection = soon("connecting", factory.create_connection()).await;
    let connection = connection.expect("the brokers accept");
    connection.start().await.expect("it is open");
    connection
}

async fn session(connection: &Connection, mode: AcknowledgeMode) -> Session {
    connection.create_session(mode).await.expect("it is open")
}

async fn send(connection: &Connection, destination: &Destination, text: &str) {
    let session = session(connection, AcknowledgeMode::Auto).await;
    send_in(&session, destination, text).await;
}

async fn send_in(session: &Session, destination: &Destination, text: &str) {
    let producer = session.create_producer(destination).await.unwrap();
    soon("sending", producer.send(text)).await.unwrap();
}

/// Somebody who listens at one broker alone.
struct Witness {
    _connection: Connection,
    consumer: Consumer,
}

impl Witness {
    async fn of(uri: &str, destination: &Destination) -> Self {
        let connection = connect(uri).await;
        let consumer = session(&connection, AcknowledgeMode::Auto).await;
        let consumer = soon("subscribing", consumer.create_consumer(destination))
            .await
            .unwrap();
        Self {
            _connection: connection,
            consumer,
        }
    }

    async fn sees(&self, expected: &[&str]) {
        for expected in expected {
            assert_eq!(receive(&self.consumer).await, *expected);
        }
        let more = soon("nothing", self.consumer.receive_timeout(QUIET))
            .await
            .unwrap();
        assert!(more.is_none(), "{more:?} was not expected");
    }
}

async fn receive(consumer: &Consumer) -> String {
    let message = soon("receiving", consumer.receive())
        .await
        .expect("a message comes");
    message.as_text().unwrap().unwrap_or_default().to_owned()
}

async fn until(events: &mut Events, what: &str, is: impl Fn(&Event) -> bool) {
    soon(what, async {
        while !is(&events.next().await.expect("the events go on")) {}
    })
    .await;
}

async fn state(connection: &Connection, wanted: ConnectionState) {
    let mut state = connection.state();
    soon("a change of state", state.wait_for(|state| *state == wanted))
        .await
        .unwrap();
}

#[tokio::test]
async fn topics_reach_all_brokers_and_queues_one() {
    let (a, b) = (broker().await, broker().await);
    let (topic, queue) = (Destination::topic("news"), Destination::queue("jobs"));
    let (at_a, at_b) = (
        Witness::of(a.uri(), &topic).await,
        Witness::of(b.uri(), &topic).await,
    );
    let connection = connect(&fanout(&[a.uri(), b.uri()], "")).await;
    send(&connection, &topic, "1").await;
    send(&connection, &topic, "2").await;
    at_a.sees(&["1", "2"]).await;
    at_b.sees(&["1", "2"]).await;
    send(&connection, &queue, "job").await;
    let depth = |broker: &Broker| broker.queue_depth("jobs").unwrap_or_default();
    assert_eq!(depth(&a) + depth(&b), 1);
    soon("closing", connection.close()).await.unwrap();
    assert_eq!(connection.stats().broker_errors, 0);
    assert_eq!(*connection.state().borrow(), ConnectionState::Closed);
}

#[tokio::test]
async fn queues_reach_all_brokers_if_wanted() {
    let (a, b) = (broker().await, broker().await);
    let connection = connect(&fanout(&[a.uri(), b.uri()], "&fanOutQueues=true")).await;
    let queue = Destination::queue("jobs");
    send(&connection, &queue, "job").await;
    assert_eq!((a.queue_depth("jobs"), b.queue_depth("jobs")), (Some(1), Some(1)));
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let consumer = soon("subscribing", session.create_consumer(&queue))
        .await
        .unwrap();
    assert_eq!(receive(&consumer).await, "job");
    let more = soon("nothing", consumer.receive_timeout(QUIET)).await.unwrap();
    assert!(more.is_none(), "only the primary is consumed from");
    soon("closing", connection.close()).await.unwrap();
}

#[tokio::test]
async fn a_broker_that_leaves_holds_up_sends_until_it_is_back() {
    let (a, b) = (broker().await, broker().await);
    let topic = Destination::topic("news");
    let uri = b.uri().to_owned();
    let connection = connect(&fanout(&[a.uri(), &uri], "")).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = session.create_producer(&topic).await.unwrap();
    b.stop().await.unwrap();
    state(&connection, ConnectionState::Interrupted).await;
    let at_a = Witness::of(a.uri(), &topic).await;
    let sending = tokio::spawn(async move { producer.send("both").await });
    at_a.sees(&[]).await;
    assert!(!sending.is_finished(), "two brokers are wanted");
    let b = broker_at(&uri).await;
    soon("sending", sending).await.unwrap().unwrap();
    at_a.sees(&["both"]).await;
    state(&connection, ConnectionState::Connected).await;
    // And the sessions and producers are known at the one that came back.
    let at_b = Witness::of(b.uri(), &topic).await;
    send(&connection, &topic, "again").await;
    at_b.sees(&["again"]).await;
    soon("closing", connection.close()).await.unwrap();
}

#[tokio::test]
async fn with_fewer_answers_wanted_a_broker_may_leave() {
    let (a, b) = (broker().await, broker().await);
    let topic = Destination::topic("news");
    let uri = b.uri().to_owned();
    let connection = connect(&fanout(&[a.uri(), &uri], "&minAckCount=1")).await;
    let mut events = connection.events();
    // Both are there.
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = session.create_producer(&topic).await.unwrap();
    b.stop().await.unwrap();
    until(&mut events, "news of the break", |event| {
        matches!(event, Event::BrokerError(_))
    })
    .await;
    let at_a = Witness::of(a.uri(), &topic).await;
    soon("sending", producer.send("1")).await.unwrap();
    at_a.sees(&["1"]).await;
    let b = broker_at(&uri).await;
    let at_b = Witness::of(b.uri(), &topic).await;
    // What is sent from the moment on that it is back reaches it as well.
    let mut number = 1;
    loop {
        number += 1;
        soon("sending", producer.send(number.to_string())).await.unwrap();
        if let Some(message) = at_b.consumer.receive_timeout(QUIET).await.unwrap() {
            assert_eq!(message.as_text().unwrap(), Some(number.to_string().as_str()));
            break;
        }
        assert!(number < 100, "it does not come back");
    }
    assert_eq!(*connection.state().borrow(), ConnectionState::Connected);
    soon("closing", connection.close()).await.unwrap();
}

#[tokio::test]
async fn consumers_move_when_the_primary_dies() {
    let (a, b) = (broker().await, broker().await);
    let queue = Destination::queue("jobs");
    let connection = connect(&fanout(&[a.uri(), b.uri()], "&minAckCount=1")).await;
    let session = session(&connection, AcknowledgeMode::Client).await;
    let consumer = soon("subscribing", session.create_consumer(&queue))
        .await
        .unwrap();
    // Whichever was there first has the consumer.
    send(&connect(a.uri()).await, &queue, "at a").await;
    send(&connect(b.uri()).await, &queue, "at b").await;
    let first = receive(&consumer).await;
    let (primary, other, second) = match first.as_str() {
        "at a" => (a, b, "at b"),
        _ => (b, a, "at a"),
    };
    let stale = soon("nothing", consumer.receive_timeout(QUIET)).await.unwrap();
    assert!(stale.is_none(), "only the primary is consumed from");
    primary.stop().await.unwrap();
    let message = soon("receiving", consumer.receive()).await.unwrap();
    assert_eq!(message.as_text().unwrap(), Some(second));
    soon("acknowledging", message.acknowledge()).await.unwrap();
    soon("closing", connection.close()).await.unwrap();
    assert_eq!(other.queue_depth("jobs").unwrap_or_default(), 0);
}

#[tokio::test]
async fn transactions_are_committed_and_rolled_back_everywhere() {
    let (a, b) = (broker().await, broker().await);
    let (topic, queue) = (Destination::topic("news"), Destination::queue("jobs"));
    let (at_a, at_b) = (
        Witness::of(a.uri(), &topic).await,
        Witness::of(b.uri(), &topic).await,
    );
    let connection = connect(&fanout(&[a.uri(), b.uri()], "")).await;
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let producer = session.create_producer(&topic).await.unwrap();
    let jobs = session.create_producer(&queue).await.unwrap();
    soon("sending", producer.send("dropped")).await.unwrap();
    soon("rolling back", session.rollback()).await.unwrap();
    soon("sending", producer.send("kept")).await.unwrap();
    soon("sending", jobs.send("job")).await.unwrap();
    at_a.sees(&[]).await;
    soon("committing", session.commit()).await.unwrap();
    at_a.sees(&["kept"]).await;
    at_b.sees(&["kept"]).await;
    let depth = |broker: &Broker| broker.queue_depth("jobs").unwrap_or_default();
    assert_eq!(depth(&a) + depth(&b), 1);
    soon("committing nothing", session.commit()).await.unwrap();
    let refused = soon("subscribing", session.create_consumer(&queue))
        .await
        .unwrap_err();
    assert!(refused.is_unsupported(), "{refused:?}");
    soon("closing", connection.close()).await.unwrap();
    assert_eq!(connection.stats().broker_errors, 0);
}

#[tokio::test]
async fn a_transaction_that_too_few_brokers_have_is_rolled_back() {
    let (a, b) = (broker().await, broker().await);
    let topic = Destination::topic("news");
    let uri = b.uri().to_owned();
    let at_a = Witness::of(a.uri(), &topic).await;
    let connection = connect(&fanout(&[a.uri(), &uri], "")).await;
    let session = session(&connection, AcknowledgeMode::Transacted).await;
    let producer = session.create_producer(&topic).await.unwrap();
    soon("sending", producer.send("half")).await.unwrap();
    b.stop().await.unwrap();
    state(&connection, ConnectionState::Interrupted).await;
    let error = soon("committing", session.commit()).await.unwrap_err();
    assert!(error.is_rolled_back(), "{error:?}");
    at_a.sees(&[]).await;
    let _b = broker_at(&uri).await;
    soon("sending", producer.send("whole")).await.unwrap();
    soon("committing", session.commit()).await.unwrap();
    at_a.sees(&["whole"]).await;
    soon("closing", connection.close()).await.unwrap();
}

#[tokio::test]
async fn who_gives_up_on_a_broker_ends_the_connection() {
    let (a, b) = (broker().await, broker().await);
    let connection = connect(&fanout(&[a.uri(), b.uri()], "&maxReconnectAttempts=2")).await;
    b.stop().await.unwrap();
    state(&connection, ConnectionState::Closed).await;
    assert!(connection.create_session(AcknowledgeMode::Auto).await.is_err());
    soon("closing", connection.close()).await.unwrap();
}

#[tokio::test]
async fn too_few_brokers_are_an_error_in_time() {
    let a = broker().await;
    let gone = format!("tcp://127.0.0.1:{}", free_port());
    let factory = ConnectionFactory::new(&fanout(&[a.uri(), &gone], "")).unwrap();
    let factory = factory.connect_timeout(Duration::from_millis(300));
    let error = soon("failing", factory.create_connection()).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    let uri = fanout(&[a.uri(), &gone], "&maxReconnectAttempts=1");
    let factory = ConnectionFactory::new(&uri).unwrap();
    let error = soon("failing", factory.create_connection()).await.unwrap_err();
    assert!(error.is_io(), "{error:?}");
    for options in ["&minAckCount=3", "&minAckCount=0"] {
        assert!(
            ConnectionFactory::new(&fanout(&[a.uri(), &gone], options))
                .unwrap_err()
                .is_uri()
        );
    }
}

#[tokio::test]
async fn dropping_everything_leaves_the_brokers() {
    let (a, b) = (broker().await, broker().await);
    let connection = connect(&fanout(&[a.uri(), b.uri()], "")).await;
    let mut events = connection.events();
    assert_eq!((a.stats().core.connections, b.stats().core.connections), (1, 1));
    drop(connection);
    until(&mut events, "the end", |event| {
        matches!(event, Event::Closed { cause: None, .. })
    })
    .await;
    soon("no connections", async {
        while a.stats().core.connections + b.stats().core.connections > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The same over two real brokers.
#[tokio::test]
async fn over_real_brokers() {
    let Some(peers) = Peers::find("over_real_brokers") else {
        return;
    };
    let (a, b) = (peers.start(&[]), peers.start(&[]));
    let (topic, queue) = (Destination::topic("news"), Destination::queue("jobs"));
    let at_a = Witness::of(&a.url(), &topic).await;
    let at_b = Witness::of(&b.url(), &topic).await;
    let connection = connect(&fanout(&[&a.url(), &b.url()], "")).await;
    send(&connection, &topic, "1").await;
    let transacted = session(&connection, AcknowledgeMode::Transacted).await;
    let producer = transacted.create_producer(&topic).await.unwrap();
    soon("sending", producer.send("2")).await.unwrap();
    soon("committing", transacted.commit()).await.unwrap();
    soon("sending", producer.send("dropped")).await.unwrap();
    soon("rolling back", transacted.rollback()).await.unwrap();
    at_a.sees(&["1", "2"]).await;
    at_b.sees(&["1", "2"]).await;
    let consuming = session(&connection, AcknowledgeMode::Auto).await;
    let consumer = soon("subscribing", consuming.create_consumer(&queue))
        .await
        .unwrap();
    send(&connection, &queue, "job").await;
    assert_eq!(receive(&consumer).await, "job");
    assert_eq!(connection.stats().broker_errors, 0);
    // One goes and comes back: sessions and producers are known there again, and so are the consumers, wherever they are.
    b.restart();
    state(&connection, ConnectionState::Connected).await;
    let at_b = Witness::of(&b.url(), &topic).await;
    send(&connection, &topic, "3").await;
    at_b.sees(&["3"]).await;
    at_a.sees(&["3"]).await;
    a.restart();
    send(&connection, &queue, "another job").await;
    assert_eq!(receive(&consumer).await, "another job");
    soon("closing", connection.close()).await.unwrap();
}

#[tokio::test]
async fn brokers_are_discovered() {
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let group = format!(
        "multicast://239.255.2.3:{port}?group=g{}&networkInterface=lo&joinNetworkInterface=lo",
        rand::random::<u32>()
    );
    let Ok(Agent::Multicast(agent)) = Agent::parse(&group) else {
        panic!("the URI is fine");
    };
    let topic = Destination::topic("news");
    let (a, b, c) = (broker().await, broker().await, broker().await);
    let mut announced = Vec::new();
    for broker in [&a, &b] {
        let discovery = MulticastDiscovery::start(&agent)
            .await
            .expect("there is multicast");
        discovery.advertise(broker.uri()).unwrap();
        announced.push(discovery);
    }
    let connection = connect(&format!("fanout:({group})?initialReconnectDelay=1")).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = session.create_producer(&topic).await.unwrap();
    // One that comes later is told what the others know.
    let at_c = Witness::of(c.uri(), &topic).await;
    let discovery = MulticastDiscovery::start(&agent)
        .await
        .expect("there is multicast");
    discovery.advertise(c.uri()).unwrap();
    soon("the third one", async {
        while c.stats().core.connections < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut number = 0;
    let first = loop {
        number += 1;
        soon("sending", producer.send(number.to_string())).await.unwrap();
        if let Some(message) = at_c.consumer.receive_timeout(QUIET).await.unwrap() {
            break message;
        }
        assert!(number < 100, "the third one gets nothing");
    };
    assert_eq!(first.as_text().unwrap(), Some(number.to_string().as_str()));
    soon("closing", connection.close()).await.unwrap();
    assert_eq!(connection.stats().broker_errors, 0);
}

/// What the peer is asked of this kind, everything before it being agreed to.
async fn asked(far: &mut ScriptedConnection, wanted: impl Fn(&Command) -> bool) -> Command {
    far.serve_until(|command| wanted(command).then(|| command.clone()))
        .await
}

async fn scripted(peers: [&ScriptedPeer; 2], options: &str) -> (Connection, [ScriptedConnection; 2]) {
    let [a, b] = peers;
    let uri = fanout(&[&a.uri(), &b.uri()], options);
    let mut factory = ConnectionFactory::new(&uri).unwrap();
    factory.options_mut().watch_topic_advisories = false;
    let (connection, (a, _), (b, _)) = tokio::join!(
        soon("connecting", factory.create_connection()),
        a.accepted(),
        b.accepted()
    );
    (connection.expect("they accept"), [a, b])
}

fn is_message(command: &Command) -> bool {
    matches!(command, Command::Message(_))
}

fn is_commit(command: &Command) -> bool {
    matches!(command, Command::TransactionInfo(info) if info.step == TransactionInfo::COMMIT_ONE_PHASE)
}

#[tokio::test]
async fn a_send_is_done_when_both_have_confirmed_it_over_a_break() {
    let (a, b) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let (connection, [mut at_a, mut at_b]) = scripted([&a, &b], "").await;
    let is_session = |command: &Command| matches!(command, Command::SessionInfo(_));
    let sending = tokio::spawn(async move { send(&connection, &Destination::topic("news"), "hello").await });
    let (to_a, to_b) = tokio::join!(asked(&mut at_a, is_message), asked(&mut at_b, is_message));
    at_a.respond(to_a.command_id()).await;
    drop(at_b);
    // The second one is asked again, with the same id, after it was told of the session and the producer.
    let (mut at_b, _) = b.accepted().await;
    asked(&mut at_b, is_session).await;
    let again = asked(&mut at_b, is_message).await;
    assert_eq!(again.command_id(), to_b.command_id());
    assert!(!sending.is_finished());
    at_b.respond(again.command_id()).await;
    soon("sending", sending).await.unwrap();
}

#[tokio::test]
async fn a_commit_that_one_of_two_has_done_is_in_doubt() {
    let (a, b) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let (connection, [mut at_a, mut at_b]) = scripted([&a, &b], "").await;
    let committing = tokio::spawn(async move {
        let session = session(&connection, AcknowledgeMode::Transacted).await;
        send_in(&session, &Destination::topic("news"), "hello").await;
        session.commit().await
    });
    let (to_a, to_b) = tokio::join!(asked(&mut at_a, is_commit), asked(&mut at_b, is_commit));
    at_a.respond(to_a.command_id()).await;
    at_b.refuse(to_b.command_id(), "javax.jms.JMSException").await;
    let error = soon("committing", committing).await.unwrap().unwrap_err();
    assert!(error.is_in_doubt(), "{error:?}");
}

#[tokio::test]
async fn a_refusal_that_enough_others_do_not_share_is_reported() {
    let (a, b) = (ScriptedPeer::bind().await, ScriptedPeer::bind().await);
    let (connection, [mut at_a, mut at_b]) = scripted([&a, &b], "&minAckCount=1").await;
    let mut events = connection.events();
    let sending = tokio::spawn(async move {
        send(&connection, &Destination::topic("news"), "hello").await;
        connection
    });
    let (to_a, to_b) = tokio::join!(asked(&mut at_a, is_message), asked(&mut at_b, is_message));
    at_b.refuse(to_b.command_id(), "javax.jms.JMSException").await;
    at_a.respond(to_a.command_id()).await;
    let _connection = soon("sending", sending).await.unwrap();
    until(&mut events, "the refusal", |event| {
        matches!(event, Event::BrokerError(_))
    })
    .await;
}
