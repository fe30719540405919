//! Brokers that are found by multicast, on the loopback interface.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use broker_lite::Broker;
use futures::StreamExt;
use openwire_client::discovery::MulticastDiscovery;
use openwire_client::uri::{Agent, MulticastAgent};
use openwire_client::{AcknowledgeMode, Connection, ConnectionFactory, Destination, Event};
use tests::peers::Peers;
use tests::soon;
use tokio::sync::watch;

const GROUP: &str = "239.255.2.3";

/// A group of brokers that no other test knows.
struct Group {
    port: u16,
    name: String,
}

impl Group {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("there are ports");
        Self {
            port: socket.local_addr().expect("it has an address").port(),
            name: format!("test{}", rand::random::<u32>()),
        }
    }

    fn uri(&self) -> String {
        let Self { port, name } = self;
        format!("multicast://{GROUP}:{port}?group={name}&networkInterface=lo&joinNetworkInterface=lo")
    }

    fn agent(&self, options: &str) -> MulticastAgent {
        match Agent::parse(&(self.uri() + options)) {
            Ok(Agent::Multicast(agent)) => agent,
            other => panic!("{other:?}"),
        }
    }

    async fn start(&self, options: &str) -> MulticastDiscovery {
        let discovery = MulticastDiscovery::start(&self.agent(options)).await;
        discovery.expect("there is multicast on the loopback interface")
    }

    /// Sends anything to the group.
    fn shout(&self, datagram: &[u8]) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
        // From this address it leaves by the loopback interface.
        let sent = socket.send_to(datagram, (GROUP, self.port));
        sent.expect("there is multicast on the loopback interface");
    }

    async fn connect(&self, options: &str) -> Connection {
        let uri = format!("discovery:({})?initialReconnectDelay=1{options}", self.uri());
        let factory = ConnectionFactory::new(&uri).expect("the URI is fine");
        let connection = soon("connecting", factory.create_connection()).await;
        connection.expect("a broker is found")
    }
}

async fn until(services: &mut watch::Receiver<Vec<String>>, expected: &[&str]) {
    soon(
        &format!("{expected:?}"),
        services.wait_for(|found| found == expected),
    )
    .await
    .expect("the agent runs");
}

async fn broker() -> Broker {
    let broker = Broker::builder().memory().listen("tcp://127.0.0.1:0").start();
    broker.await.expect("it starts")
}

/// Sends a message and receives it.
async fn works(connection: &Connection) {
    let queue = Destination::queue("found");
    connection.start().await.unwrap();
    let session = connection.create_session(AcknowledgeMode::Auto).await.unwrap();
    let producer = session.create_producer(&queue).await.unwrap();
    soon("sending", producer.send("hello")).await.unwrap();
    let consumer = session.create_consumer(&queue).await.unwrap();
    let message = soon("receiving", consumer.receive()).await.unwrap();
    assert_eq!(message.as_text().unwrap(), Some("hello"));
}

#[tokio::test]
async fn agents_find_each_other_and_notice_who_leaves() {
    let group = Group::new();
    let (one, two) = (group.start("").await, group.start("").await);
    one.advertise("tcp://one:1").unwrap();
    two.advertise("tcp://two:2").unwrap();
    let (mut of_one, mut of_two) = (one.services(), two.services());
    until(&mut of_one, &["tcp://two:2"]).await;
    until(&mut of_two, &["tcp://one:1"]).await;
    soon("stopping", one.stop()).await;
    until(&mut of_two, &[]).await;
    // The handle and the receivers are dropped: that is goodbye as well.
    let three = group.start("").await;
    let mut of_three = three.services();
    until(&mut of_three, &["tcp://two:2"]).await;
    drop((two, of_two));
    until(&mut of_three, &[]).await;
}

#[tokio::test]
async fn one_that_failed_is_reported_again_after_the_delay() {
    let group = Group::new();
    let announcing = group.start("").await;
    announcing.advertise("tcp://a:1").unwrap();
    let listening = group.start("&initialReconnectDelay=600").await;
    let mut services = listening.services();
    until(&mut services, &["tcp://a:1"]).await;
    let failed = std::time::Instant::now();
    listening.service_failed("tcp://a:1");
    until(&mut services, &[]).await;
    until(&mut services, &["tcp://a:1"]).await;
    assert!(failed.elapsed() >= Duration::from_millis(600));
}

#[tokio::test]
async fn whoever_falls_silent_expires() {
    let group = Group::new();
    let listening = group.start("&keepAliveInterval=20").await;
    let mut services = listening.services();
    group.shout(format!("{}.ActiveMQ-4.alive.%localhost%tcp://a:1", group.name).as_bytes());
    until(&mut services, &["tcp://a:1"]).await;
    until(&mut services, &[]).await;
}

#[tokio::test]
async fn garbage_and_floods_are_counted_and_harm_nothing() {
    let group = Group::new();
    let listening = group.start("&keepAliveInterval=60000").await;
    let mut services = listening.services();
    let prefix = format!("{}.ActiveMQ-4.", group.name);
    for garbage in [
        "",
        "%",
        "alive.",
        "alive.%",
        "alive.%localhost%",
        "dead.%localhost",
        "gone.%l%tcp://a:1",
    ] {
        group.shout(format!("{prefix}{garbage}").as_bytes());
    }
    group.shout(b"");
    group.shout(b"\xff\xfe");
    group.shout(&vec![b'x'; 9000]);
    group.shout(b"another.ActiveMQ-4.alive.%localhost%tcp://b:1");
    for number in 0..300 {
        group.shout(format!("{prefix}alive.%localhost%tcp://flood:{number}").as_bytes());
        // The socket's buffer holds what one that is read from all the time may be sent.
        tokio::task::yield_now().await;
    }
    soon("a full list", services.wait_for(|found| found.len() == 256))
        .await
        .unwrap();
    group.shout(format!("{prefix}dead.%localhost%tcp://flood:0").as_bytes());
    soon("room", services.wait_for(|found| found.len() == 255))
        .await
        .unwrap();
    assert_eq!(listening.ignored(), 10 + 44);
    assert!(listening.advertise("tcp:// a").unwrap_err().is_invalid());
}

#[tokio::test]
async fn what_cannot_be_joined_is_an_error() {
    for uri in [
        "multicast://127.0.0.1",
        "multicast://default?networkInterface=nosuch0",
        "multicast://default?joinNetworkInterface=nosuch0",
    ] {
        let factory = ConnectionFactory::new(&format!("discovery:({uri})")).expect("the URI is fine");
        let error = soon("failing", factory.create_connection()).await.unwrap_err();
        assert!(error.is_io(), "{uri}: {error:?}");
    }
}

#[tokio::test]
async fn a_client_waits_until_a_broker_is_announced() {
    let group = Group::new();
    let broker = broker().await;
    let announcing = group.start("").await;
    let (connection, ()) = tokio::join!(group.connect("&maxReconnectDelay=60000"), async {
        // No address at all is no failed pass, so that only the announcement can end the waiting.
        announcing.advertise("tcp://127.0.0.1:1").unwrap();
        let mut services = group.start("").await.services();
        until(&mut services, &["tcp://127.0.0.1:1"]).await;
        announcing.advertise(broker.uri()).unwrap();
    });
    works(&connection).await;
    connection.close().await.unwrap();
}

#[tokio::test]
async fn nobody_who_is_announced_is_a_timeout() {
    let group = Group::new();
    let uri = format!("discovery:({})?startupMaxReconnectAttempts=1", group.uri());
    let factory = ConnectionFactory::new(&uri)
        .unwrap()
        .connect_timeout(Duration::from_millis(200));
    let error = soon("failing", factory.create_connection()).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
}

#[tokio::test]
async fn a_connection_follows_what_is_announced() {
    let group = Group::new();
    let (first, second) = (broker().await, broker().await);
    let announcing = group.start("").await;
    announcing.advertise(first.uri()).unwrap();
    let connection = group.connect("").await;
    let mut events = connection.events();
    drop(announcing);
    first.stop().await.unwrap();
    let announcing = group.start("").await;
    announcing.advertise(second.uri()).unwrap();
    let broker = soon("resuming", async {
        loop {
            if let Some(Event::Resumed { broker, .. }) = events.next().await {
                return broker;
            }
        }
    })
    .await;
    assert_eq!(broker, second.uri());
    works(&connection).await;
    connection.close().await.unwrap();
}

#[tokio::test]
async fn discovered_options_count_for_what_is_found() {
    let group = Group::new();
    let broker = broker().await;
    let announcing = group.start("").await;
    announcing.advertise(broker.uri()).unwrap();
    let connection = group.connect("&discovered.wireFormat.version=9").await;
    assert_eq!(connection.metadata().wire_version(), 9);
    works(&connection).await;
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_real_broker_is_found() {
    let Some(peers) = Peers::find("a_real_broker_is_found") else {
        return;
    };
    let group = Group::new();
    let real = peers.start(&["--discovery", &group.uri()]);
    let connection = group.connect("").await;
    works(&connection).await;
    // It dies without a word: after ten missing announcements it is not in the list any more.
    let listening = group.start("").await;
    let mut services = listening.services();
    soon("its announcement", services.wait_for(|found| found.len() == 1))
        .await
        .unwrap();
    let mut events = connection.events();
    real.kill();
    until(&mut services, &[]).await;
    let other = peers.start(&["--discovery", &group.uri()]);
    soon("resuming", async {
        while !matches!(events.next().await, Some(Event::Resumed { .. })) {}
    })
    .await;
    works(&connection).await;
    assert_eq!(listening.ignored(), 0);
    connection.close().await.unwrap();
    drop(other);
}

#[tokio::test]
async fn javas_client_finds_what_is_announced() {
    let Some(peers) = Peers::find("javas_client_finds_what_is_announced") else {
        return;
    };
    let group = Group::new();
    let broker = broker().await;
    let announcing = group.start("").await;
    announcing.advertise(broker.uri()).unwrap();
    let uri = format!("discovery:({})", group.uri());
    let sent = tokio::task::spawn_blocking(move || peers.jms(&["Sender", &uri, "found", "3"]))
        .await
        .unwrap();
    assert!(sent.success, "{}", sent.stderr);
    assert_eq!(broker.queue_depth("found"), Some(3));
}
