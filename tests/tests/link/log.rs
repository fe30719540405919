//! What the log says: one warning for each turn, and spans for who wants to follow a message.

use std::sync::Arc;

use openwire_client::wire::{ConnectionError, Throwable};
use openwire_client::{AcknowledgeMode, Destination, Event};
use parking_lot::Mutex;
use tests::scripted::ScriptedPeer;
use tests::soon;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::*;

/// Keeps the text of each warning, and name and fields of each span.
#[derive(Debug, Clone, Default)]
struct Log {
    warnings: Arc<Mutex<Vec<String>>>,
    spans: Arc<Mutex<Vec<String>>>,
}

struct Fields<'a>(&'a mut Vec<String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push(match field.name() {
            "message" => format!("{value:?}"),
            name => format!("{name}={value:?}"),
        });
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() <= Level::WARN {
            let mut fields = Vec::new();
            event.record(&mut Fields(&mut fields));
            self.warnings.lock().push(fields.remove(0));
        }
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut fields = vec![attributes.metadata().name().to_owned()];
        attributes.record(&mut Fields(&mut fields));
        self.spans.lock().push(fields.join(" "));
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut fields = Vec::new();
        values.record(&mut Fields(&mut fields));
        self.spans.lock().append(&mut fields);
    }
}

/// Everything of this thread goes to the log until the guard is dropped.
fn log() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let subscriber = tracing_subscriber::registry().with(log.clone());
    (log, tracing::subscriber::set_default(subscriber))
}

#[tokio::test]
async fn each_turn_is_one_warning_however_many_messages_and_attempts_there_are() {
    let (log, _guard) = log();
    let peer = ScriptedPeer::bind().await;
    let options = "&jms.blockedAfter=60&jms.slowConsumerAfter=60&warnAfterReconnectAttempts=-1";
    let (connection, mut far) = connect(&failover(&[&peer], options), &peer).await;
    let mut events = connection.events();
    let session = session(&connection, AcknowledgeMode::Client).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    let (_consumer, info) = consumer(&session, &mut far, "q").await;
    for number in 1..=100 {
        far.send(dispatch(&info, number)).await;
        drop(producer.send_pipelined("x").await.unwrap());
        far.send(Box::new(ConnectionError {
            exception: Some(Throwable::new("java.io.IOException", "no room")),
            ..ConnectionError::default()
        }))
        .await;
    }
    let (mut blocked, mut slow) = (0, 0);
    event(&mut events, |event| {
        blocked += usize::from(matches!(event, Event::Blocked { .. }));
        slow += usize::from(matches!(event, Event::SlowConsumer { .. }));
        (blocked + slow == 2).then_some(())
    })
    .await;
    drop(far);
    // Many attempts, and none of them a warning.
    for _ in 0..5 {
        drop(peer.accept().await);
    }
    let _far = peer.accepted().await;
    resumed(&mut events).await;
    assert_eq!(connection.stats().broker_errors, 100);
    assert_eq!(connection.stats().dropped, 100);
    let mut warnings = log.warnings.lock().clone();
    warnings.sort();
    assert_eq!(
        warnings,
        [
            "connection interrupted",
            "connection resumed",
            "sends are blocked",
            "slow consumer",
            "the broker reports an error",
        ]
    );
}

#[tokio::test]
async fn messages_on_a_connection_that_was_never_started_are_one_warning() {
    let (log, _guard) = log();
    let peer = ScriptedPeer::bind().await;
    let uri = format!("{}?jms.warnAboutUnstartedConnectionTimeout=20", peer.uri());
    let (connection, (mut far, _)) = tokio::join!(try_connect(&uri), peer.accepted());
    let connection = connection.unwrap();
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let (consumer, info) = consumer(&session, &mut far, "q").await;
    for number in 1..=10 {
        far.send(dispatch(&info, number)).await;
    }
    far.assert_silent().await;
    let warnings = log.warnings.lock().clone();
    assert!(
        matches!(&warnings[..], [one] if one.contains("never started")),
        "{warnings:?}"
    );
    connection.start().await.unwrap();
    soon("a message", consumer.receive()).await.unwrap();
}

#[tokio::test]
async fn spans_follow_a_message() {
    let (log, _guard) = log();
    let peer = ScriptedPeer::bind().await;
    let (connection, mut far) = connect(&peer.uri(), &peer).await;
    let session = session(&connection, AcknowledgeMode::Auto).await;
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    let id = served(&mut far, producer.send("x")).await.unwrap();
    let (consumer, info) = consumer(&session, &mut far, "q").await;
    far.send(dispatch(&info, 1)).await;
    let message = soon("a message", consumer.receive()).await.unwrap();
    let spans = log.spans.lock().clone();
    let has = |start: &str, parts: &[&str]| {
        spans
            .iter()
            .any(|span| span.starts_with(start) && parts.iter().all(|part| span.contains(part)))
    };
    let (producer_id, consumer_id) = (producer.id().to_string(), consumer.id().to_string());
    assert!(has("create_connection", &[&peer.uri()]), "{spans:?}");
    assert!(
        has("send", &["queue://q", &producer_id, &peer.uri()]),
        "{spans:?}"
    );
    assert!(has(&format!("message_id={id}"), &[]), "{spans:?}");
    assert!(
        has("receive", &["queue://q", &consumer_id, &peer.uri()]),
        "{spans:?}"
    );
    assert!(
        has(&format!("message_id={}", message.message_id().unwrap()), &[]),
        "{spans:?}"
    );
}
