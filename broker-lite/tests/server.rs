//! The server from outside: who is let in, who is kept, who is thrown out, and how it ends.

mod common;

use std::time::{Duration, Instant};

use broker_lite::Broker;
use common::{AnyRaw, DEADLINE, Raw, exception, host_port, ok};
use openwire_client::transport::TlsOptions;
use openwire_client::wire::{Command, Destination, KeepAliveInfo, MessagePull, ShutdownInfo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn broker() -> Broker {
    Broker::builder()
        .listen("tcp://127.0.0.1:0")
        .start()
        .await
        .unwrap()
}

async fn broker_with(options: &str) -> Broker {
    Broker::builder()
        .listen(format!("tcp://127.0.0.1:0?{options}"))
        .start()
        .await
        .unwrap()
}

/// Waits for a condition with a deadline.
async fn until(mut condition: impl FnMut() -> bool) {
    let waited = timeout(DEADLINE, async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    });
    waited.await.expect("the condition never held");
}

/// Reads until the broker closes; an error of the socket is an end too.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut rest))
        .await
        .expect("the broker did not close");
}

#[tokio::test]
async fn a_message_goes_through() {
    let broker = broker().await;
    let queue = Destination::queue("through");
    let mut consumer = Raw::connect(broker.uri()).await.unwrap();
    consumer.introduce().await;
    consumer.consumer(&queue, 10).await;
    let mut producer = Raw::connect(broker.uri()).await.unwrap();
    producer.introduce().await;
    producer.producer(&queue).await;
    let message = producer.message(1, &queue, true, b"hello");
    ok(producer.request(message).await);
    let message = consumer.dispatch().await;
    assert_eq!(message.content.as_deref(), Some(&b"\0\0\0\x05hello"[..]));
    let ack = consumer.ack(&queue, &message);
    ok(consumer.request(ack).await);
    assert_eq!(broker.queue_depth("through"), Some(0));
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn the_broker_introduces_itself() {
    let broker = Broker::builder()
        .name("my broker")
        .listen("tcp://127.0.0.1:0")
        .start()
        .await
        .unwrap();
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    let Some(Command::BrokerInfo(info)) = client.read().await.unwrap() else {
        panic!("no BrokerInfo");
    };
    assert_eq!(info.broker_name.as_deref(), Some("my_broker"));
    assert_eq!(info.broker_url.as_deref(), Some(broker.uri()));
}

#[tokio::test]
async fn keep_alive_is_answered_when_an_answer_is_wanted() {
    let broker = broker().await;
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    client.send(KeepAliveInfo::default(), false).await.unwrap();
    let id = client.send(KeepAliveInfo::default(), true).await.unwrap();
    let answer = client
        .read_until(|command| match command {
            Command::KeepAliveInfo(answer) => Some(answer.clone()),
            _ => None,
        })
        .await;
    assert_eq!((answer.command_id, answer.response_required), (id, false));
}

#[tokio::test]
async fn a_silent_client_hears_keep_alive_and_is_dropped_in_the_end() {
    let broker =
        broker_with("wireFormat.maxInactivityDuration=300&wireFormat.maxInactivityDurationInitalDelay=100")
            .await;
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    assert_eq!(client.format.max_inactivity_duration, 300);
    let started = Instant::now();
    let heard = client.read_to_end().await;
    let beats = heard
        .iter()
        .filter(|command| matches!(command, Command::KeepAliveInfo(_)))
        .count();
    assert!(beats >= 2, "{heard:?}");
    assert!(
        started.elapsed() >= Duration::from_millis(300),
        "dropped too early"
    );
}

#[tokio::test]
async fn a_client_that_beats_is_kept() {
    let broker =
        broker_with("wireFormat.maxInactivityDuration=300&wireFormat.maxInactivityDurationInitalDelay=100")
            .await;
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    let started = Instant::now();
    // It answers each beat with one of its own.
    while started.elapsed() < Duration::from_millis(1000) {
        client
            .read_until(|command| matches!(command, Command::KeepAliveInfo(_)).then_some(()))
            .await;
        client.send(KeepAliveInfo::default(), false).await.unwrap();
    }
}

#[tokio::test]
async fn whoever_does_not_speak_openwire_is_dropped() {
    let broker = broker_with("transport.connectAttemptTimeout=200").await;
    let started = Instant::now();
    for (bytes, how) in [
        (&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], "garbage"),
        (b"\x7f\xff\xff\xff\x01ActiveMQ", "a huge frame"),
        (b"\x00\x01\x00\x01\x01", "a frame over the limit of the handshake"),
        (b"\x00\x00\x00\x06\x0a\x00\x00\x00\x00\x00", "another command"),
        (b"\x00\x00\x00\x40\x01ActiveMQ", "half a frame, and silence"),
        (b"", "silence"),
    ] {
        let mut stream = TcpStream::connect(host_port(broker.uri())).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        closed(&mut stream).await;
        assert!(started.elapsed() < DEADLINE, "{how}");
    }
    until(|| broker.stats().listeners.failed_handshakes == 6).await;
    // A port check is nobody's failure.
    drop(TcpStream::connect(host_port(broker.uri())).await.unwrap());
    // The broker is well.
    Raw::connect(broker.uri()).await.unwrap().introduce().await;
    assert_eq!(broker.stats().listeners.failed_handshakes, 6);
}

#[tokio::test]
async fn frames_are_limited_after_the_handshake_too() {
    let broker = broker_with("wireFormat.maxFrameSize=2000").await;
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    client.introduce().await;
    assert_eq!(client.format.max_frame_size, 2000);
    client.stream.write_all(&2001_u32.to_be_bytes()).await.unwrap();
    client.read_to_end().await;
    until(|| broker.stats().core.connections == 0).await;
}

#[tokio::test]
async fn garbage_after_the_handshake_ends_the_connection() {
    let broker = broker().await;
    for bytes in [
        &b"\x00\x00\x00\x00"[..],
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02\xfe\x00",
    ] {
        let mut client = Raw::connect(broker.uri()).await.unwrap();
        client.introduce().await;
        client.stream.write_all(bytes).await.unwrap();
        client.read_to_end().await;
    }
    until(|| broker.stats().core.connections == 0).await;
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_and_counted() {
    let broker = broker_with("maximumConnections=2").await;
    let first = Raw::connect(broker.uri()).await.unwrap();
    let _second = Raw::connect(broker.uri()).await.unwrap();
    for refused in 1..=2 {
        assert!(Raw::connect(broker.uri()).await.is_err());
        assert_eq!(broker.stats().listeners.over_limit, refused);
    }
    drop(first);
    until(|| broker.stats().core.connections == 1).await;
    let mut third = Raw::connect(broker.uri()).await.unwrap();
    third.introduce().await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_counted() {
    let broker = Broker::builder()
        .listen("tcp://127.0.0.1:0")
        .user("system", "manager")
        .start()
        .await
        .unwrap();
    for (user, password) in [
        (Some("system"), Some("wrong")),
        (Some("nobody"), None),
        (None, None),
    ] {
        let mut client = Raw::connect(broker.uri()).await.unwrap();
        let mut info = client.connection_info();
        info.user_name = user.map(Into::into);
        info.password = password.map(Into::into);
        let (class, message) = exception(&client.request(Box::new(info)).await);
        assert_eq!(class, "java.lang.SecurityException");
        assert_eq!(
            message,
            format!("User name [{}] or password is invalid.", user.unwrap_or("null"))
        );
        client.read_to_end().await;
    }
    assert_eq!(broker.stats().listeners.failed_authentications, 3);

    let mut client = Raw::connect(broker.uri()).await.unwrap();
    let mut info = client.connection_info();
    info.user_name = Some("system".into());
    info.password = Some("manager".into());
    ok(client.request(Box::new(info)).await);
}

#[tokio::test]
async fn whoever_does_not_say_who_they_are_gets_nothing() {
    let broker = Broker::builder()
        .listen("tcp://127.0.0.1:0")
        .user("system", "manager")
        .start()
        .await
        .unwrap();
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    let queue = Destination::queue("secret");
    let message = client.message(1, &queue, true, b"x");
    let (class, _) = exception(&client.request(message).await);
    assert_eq!(class, "java.lang.SecurityException");
    client.read_to_end().await;
    assert_eq!(broker.queue_depth("secret"), None);
}

#[tokio::test]
async fn brokers_of_one_process_are_independent() {
    let (one, two) = (broker().await, broker().await);
    assert_ne!(one.name(), two.name());
    let queue = Destination::queue("mine");
    let mut client = Raw::connect(one.uri()).await.unwrap();
    client.introduce().await;
    client.producer(&queue).await;
    let message = client.message(1, &queue, true, b"x");
    ok(client.request(message).await);
    assert_eq!(one.queue_depth("mine"), Some(1));
    assert_eq!(two.queue_depth("mine"), None);
    one.stop().await.unwrap();
    Raw::connect(two.uri()).await.unwrap().introduce().await;
}

#[tokio::test]
async fn stopping_answers_what_was_asked_and_gives_the_port_back() {
    let broker = broker().await;
    let uri = broker.uri().to_owned();
    let mut client = Raw::connect(&uri).await.unwrap();
    client.introduce().await;
    let started = Instant::now();
    broker.stop().await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    client.read_to_end().await;
    assert!(TcpStream::connect(host_port(&uri)).await.is_err());
    let again = Broker::builder().listen(&uri).start().await.unwrap();
    assert_eq!(again.uri(), uri);
}

/// What a client wrote before the broker stops counts, and what it did not acknowledge was shown to it.
#[tokio::test]
async fn stopping_takes_the_acknowledgements_that_have_arrived() {
    let dir = tempfile::tempdir().unwrap();
    let start = || Broker::builder().listen("tcp://127.0.0.1:0").data_dir(dir.path());
    let queue = Destination::queue("orders");
    let broker = start().start().await.unwrap();
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    client.introduce().await;
    client.producer(&queue).await;
    client.consumer(&queue, 10).await;
    for number in 1..=3 {
        let message = client.message(number, &queue, true, b"x");
        ok(client.request(message).await);
    }
    let shown = [
        client.dispatch().await,
        client.dispatch().await,
        client.dispatch().await,
    ];
    for message in &shown[..2] {
        let ack = client.ack(&queue, message);
        client.send(ack, false).await.unwrap();
    }
    broker.stop().await.unwrap();
    let broker = start().start().await.unwrap();
    assert_eq!(broker.queue_depth("orders"), Some(1));
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    client.introduce().await;
    client.consumer(&queue, 10).await;
    let again = client.dispatch().await;
    assert_eq!(again.message_id, shown[2].message_id);
    assert_eq!(again.redelivery_counter, 1);
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_says_so() {
    let broker = broker().await;
    let error = Broker::builder().listen(broker.uri()).start().await.unwrap_err();
    assert!(error.is_address_in_use(), "{error}");
    assert!(error.to_string().contains(broker.uri()), "{error}");
}

#[tokio::test]
async fn what_cannot_be_listened_on_is_an_error_of_the_configuration() {
    for uri in [
        "tcp://127.0.0.1:0?bogus=1",
        "ssl://127.0.0.1:0",
        "stomp://127.0.0.1:0",
        "nonsense",
    ] {
        let error = Broker::builder().listen(uri).start().await.unwrap_err();
        assert!(error.is_config(), "{error}");
    }
}

#[test]
fn dropping_needs_no_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let broker = runtime.block_on(broker());
    let orphan = runtime.block_on(async { Raw::connect(broker.uri()).await.unwrap() });
    drop(broker);
    drop(orphan);
    let outlived = runtime.block_on(self::broker());
    drop(runtime);
    drop(outlived);
}

#[tokio::test]
async fn a_dropped_broker_closes_its_connections() {
    let broker = broker().await;
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    client.introduce().await;
    drop(broker);
    client.read_to_end().await;
}

#[tokio::test]
async fn shutdown_info_ends_the_connection() {
    let broker = broker().await;
    let mut client = Raw::connect(broker.uri()).await.unwrap();
    client.introduce().await;
    client.send(ShutdownInfo::default(), false).await.unwrap();
    client.read_to_end().await;
    until(|| broker.stats().core.connections == 0).await;
}

#[tokio::test]
async fn the_same_process_reaches_it_by_name() {
    let broker = Broker::builder().start().await.unwrap();
    assert_eq!(broker.uri(), format!("vm://{}", broker.name()));
    let mut client = AnyRaw::connect_any(broker.uri(), &TlsOptions::new())
        .await
        .unwrap();
    client.introduce().await;
    // It does so as well if there are other listeners, which are not the first to be named.
    let named = Broker::builder()
        .name("named")
        .listen("tcp://127.0.0.1:0")
        .start()
        .await
        .unwrap();
    assert_eq!(named.addresses().len(), 1);
    let mut client = AnyRaw::connect_any("vm://named", &TlsOptions::new())
        .await
        .unwrap();
    client.introduce().await;
    named.stop().await.unwrap();
    assert!(
        AnyRaw::connect_any("vm://named", &TlsOptions::new())
            .await
            .is_err()
    );
    client.read_to_end().await;
}

#[tokio::test]
async fn a_name_is_taken_once_in_a_process() {
    let first = Broker::builder().name("once").start().await.unwrap();
    let error = Broker::builder().name("once").start().await.unwrap_err();
    assert!(error.is_address_in_use(), "{error}");
    first.stop().await.unwrap();
    Broker::builder().name("once").start().await.unwrap();
}

/// A certificate authority, and a certificate of it for localhost and for a client.
struct Certificates {
    ca: String,
    chain: String,
    key: String,
}

fn certificates() -> Certificates {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new([]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Certificates {
        ca: ca.pem(),
        chain: certificate.pem(),
        key: key.serialize_pem(),
    }
}

#[tokio::test]
async fn tls() {
    let ours = certificates();
    let broker = Broker::builder()
        .listen("ssl://localhost:0")
        .listen("ssl://localhost:0?needClientAuth=true")
        .listen("ssl://localhost:0?transport.wantClientAuth=true")
        .tls(
            ours.chain.as_str(),
            ours.key.as_str(),
            Some(ours.ca.clone().into()),
        )
        .start()
        .await
        .unwrap();
    let uri = |index: usize| broker.addresses()[index].replace("127.0.0.1", "localhost");
    let nobody = TlsOptions::new().ca_pem(&ours.ca).unwrap();
    let known = nobody
        .clone()
        .client_certificate_pem(&ours.chain, &ours.key)
        .unwrap();
    let theirs = certificates();
    let stranger = nobody
        .clone()
        .client_certificate_pem(&theirs.chain, &theirs.key)
        .unwrap();
    for (index, tls, let_in) in [
        (0, &nobody, true),
        (0, &known, true),
        (1, &known, true),
        (1, &nobody, false),
        (1, &stranger, false),
        (2, &nobody, true),
        (2, &known, true),
        (2, &stranger, false),
    ] {
        let failed = broker.stats().listeners.failed_handshakes;
        match AnyRaw::connect_any(&uri(index), tls).await {
            Ok(mut client) => {
                assert!(let_in, "listener {index}");
                client.introduce().await;
            }
            Err(error) => {
                assert!(!let_in, "listener {index}: {error}");
                until(|| broker.stats().listeners.failed_handshakes == failed + 1).await;
            }
        }
    }
    // Somebody who does not speak TLS.
    let failed = broker.stats().listeners.failed_handshakes;
    let mut plain = TcpStream::connect(host_port(&uri(0))).await.unwrap();
    plain.write_all(b"\0\0\0\x40\x01ActiveMQ").await.unwrap();
    closed(&mut plain).await;
    assert_eq!(broker.stats().listeners.failed_handshakes, failed + 1);
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn certificates_that_cannot_be_are_errors_of_the_configuration() {
    let ours = certificates();
    let listen = || Broker::builder().listen("ssl://127.0.0.1:0");
    for (builder, what) in [
        (listen().tls("", ours.key.as_str(), None), "chain"),
        (listen().tls(ours.chain.as_str(), "", None), "key"),
        (
            listen().tls(ours.chain.as_str(), certificates().key.as_str(), None),
            "certificate",
        ),
        (
            listen().tls(ours.chain.as_str(), ours.key.as_str(), Some(Vec::new())),
            "authorities",
        ),
        (
            Broker::builder()
                .listen("ssl://127.0.0.1:0?needClientAuth=true")
                .tls(ours.chain.as_str(), ours.key.as_str(), None),
            "authority",
        ),
    ] {
        let error = builder.start().await.unwrap_err();
        assert!(error.is_config() && error.to_string().contains(what), "{error}");
    }
}

/// A pull of the consumer's, with a time-out in milliseconds.
fn pull(client: &Raw, queue: &Destination, timeout: i64) -> Command {
    Box::new(MessagePull {
        consumer_id: Some(client.consumer_id()),
        destination: Some(queue.clone()),
        timeout,
        ..MessagePull::default()
    })
    .into()
}

/// Waits for the dispatch that says that a pull found nothing.
async fn nothing(client: &mut Raw) {
    client
        .read_until(|command| match command {
            Command::MessageDispatch(dispatch) => dispatch.message.is_none().then_some(()),
            _ => None,
        })
        .await;
}

#[tokio::test]
async fn time_passes_for_the_core() {
    let broker = broker().await;
    let queue = Destination::queue("pulled");
    let mut patient = Raw::connect(broker.uri()).await.unwrap();
    patient.introduce().await;
    patient.consumer(&queue, 0).await;
    let long = pull(&patient, &queue, 3000);
    patient.send(long, false).await.unwrap();
    // A later pull that ends sooner does not wait for the earlier one.
    let mut hasty = Raw::connect(broker.uri()).await.unwrap();
    hasty.introduce().await;
    hasty.consumer(&queue, 0).await;
    let started = Instant::now();
    let short = pull(&hasty, &queue, 100);
    hasty.send(short, false).await.unwrap();
    nothing(&mut hasty).await;
    let waited = started.elapsed();
    assert!(
        (Duration::from_millis(100)..Duration::from_millis(2000)).contains(&waited),
        "{waited:?}"
    );
    nothing(&mut patient).await;
}

#[tokio::test]
async fn what_has_no_room_waits_and_its_connection_is_read_on() {
    const MESSAGES: i64 = 40;
    let broker = Broker::builder().memory_limit(20 * 1024).start().await.unwrap();
    let queue = Destination::queue("full");
    let tls = TlsOptions::new();
    let mut producer = AnyRaw::connect_any(broker.uri(), &tls).await.unwrap();
    producer.introduce().await;
    producer.producer(&queue).await;
    for number in 1..=MESSAGES {
        let message = producer.message(number, &queue, false, &[0; 1000]);
        producer.send(message, false).await.unwrap();
    }
    let id = producer.send(KeepAliveInfo::default(), true).await.unwrap();
    let answered = |command: &Command| match command {
        Command::KeepAliveInfo(answer) if answer.command_id == id => Some(()),
        _ => None,
    };
    // What stands behind the messages is answered, though most of them have no room.
    producer.read_until(answered).await;
    let depth = broker.queue_depth("full").unwrap();
    assert!((1..MESSAGES as usize).contains(&depth), "{depth}");
    assert_eq!(broker.stats().core.held_back, MESSAGES as usize - depth);

    let mut consumer = AnyRaw::connect_any(broker.uri(), &tls).await.unwrap();
    consumer.introduce().await;
    consumer.consumer(&queue, 10).await;
    for number in 1..=MESSAGES {
        let message = consumer.dispatch().await;
        let sequence = message.message_id.as_ref().map(|id| id.producer_sequence_id);
        assert_eq!(sequence, Some(number));
        let ack = consumer.ack(&queue, &message);
        ok(consumer.request(ack).await);
    }
    assert_eq!(broker.stats().core.held_back, 0);
}
