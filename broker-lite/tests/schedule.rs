//! Scheduled messages of a broker with a journal.

mod common;

use std::path::Path;
use std::sync::Arc;

use broker_lite::policy::{Redelivery, Zone};
use broker_lite::{Broker, BrokerBuilder, SchedulerSettings, Settings};
use bytes::BytesMut;
use common::{AnyRaw, DEADLINE, Raw, exception, ok};
use openwire_client::transport::TlsOptions;
use openwire_client::wire::{Command, Destination, Message, Value, decode_map, encode_map};
use tokio::time::timeout;

fn builder(directory: &Path) -> BrokerBuilder {
    Broker::builder()
        .data_dir(directory)
        .scheduler(SchedulerSettings::default())
}

async fn client(broker: &Broker) -> AnyRaw {
    let mut client = Raw::connect_any(broker.uri(), &TlsOptions::default())
        .await
        .unwrap();
    client.introduce().await;
    client
}

/// A message to the queue with these properties.
fn scheduled(client: &AnyRaw, number: i64, pairs: &[(&str, i64)]) -> Command {
    let mut command = client.message(number, &Destination::queue("Q"), true, b"body");
    let mut properties = BytesMut::new();
    encode_map(&pairs.iter().copied().collect(), &mut properties).unwrap();
    if let Command::Message(message) = &mut command {
        Arc::make_mut(message).marshalled_properties = Some(properties.freeze());
    }
    command
}

fn has(message: &Message, name: &str) -> bool {
    let properties = message.marshalled_properties.clone().map(decode_map);
    properties.is_some_and(|properties| {
        properties
            .unwrap()
            .get(name)
            .is_some_and(|value| *value != Value::Null)
    })
}

#[tokio::test]
async fn what_is_scheduled_survives_restarts_and_comes_as_often_as_it_should() {
    let directory = tempfile::tempdir().unwrap();
    let queue = Destination::queue("Q");
    let broker = builder(directory.path()).start().await.unwrap();
    let mut sender = client(&broker).await;
    sender.producer(&queue).await;
    for (number, pairs) in [
        (1, &[("AMQ_SCHEDULED_DELAY", 3_600_000)][..]),
        (2, &[("AMQ_SCHEDULED_PERIOD", 1), ("AMQ_SCHEDULED_REPEAT", 199)]),
    ] {
        let message = scheduled(&sender, number, pairs);
        ok(sender.request(message).await);
    }
    // Restarted in the middle of it, again and again: each delivery is there once.
    let mut broker = broker;
    for _ in 0..3 {
        let before = broker.stats().core.fired;
        timeout(DEADLINE, async {
            while broker.stats().core.fired < before + 20 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("deliveries");
        broker.stop().await.unwrap();
        broker = builder(directory.path()).start().await.unwrap();
    }
    let mut receiver = client(&broker).await;
    receiver.consumer(&queue, 1000).await;
    for _ in 0..200 {
        let message = timeout(DEADLINE, receiver.dispatch()).await.expect("a delivery");
        assert!(has(&message, "scheduledJobId") && !has(&message, "AMQ_SCHEDULED_PERIOD"));
    }
    let left = broker.scheduled_jobs(0, 10);
    assert_eq!((left.len(), left[0].times, broker.scheduled().jobs), (1, 0, 1));
    assert_eq!(broker.queue_depth("Q"), Some(0));
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn too_many_repetitions_are_refused_with_the_class_that_java_knows() {
    let broker = Broker::builder()
        .settings(Settings::default())
        .scheduler(SchedulerSettings {
            max_repeat: 3,
            time_zone: Zone::utc(),
        })
        .start()
        .await
        .unwrap();
    let queue = Destination::queue("Q");
    let mut sender = client(&broker).await;
    sender.producer(&queue).await;
    let pairs = [("AMQ_SCHEDULED_DELAY", 1), ("AMQ_SCHEDULED_REPEAT", 4)];
    let message = scheduled(&sender, 1, &pairs);
    let (class, why) = exception(&sender.request(message).await);
    assert_eq!(class, "javax.jms.MessageFormatException");
    assert!(why.contains("too large"), "{why}");
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn redelivery_needs_the_scheduler() {
    let mut settings = Settings::default();
    settings.redelivery = Some(Redelivery::default());
    let refused = Broker::builder()
        .settings(settings.clone())
        .start()
        .await
        .unwrap_err();
    assert!(
        refused.is_config() && refused.to_string().contains("scheduler"),
        "{refused}"
    );
    // What the builder was told before the settings holds, too.
    let broker = Broker::builder()
        .scheduler(SchedulerSettings::default())
        .settings(settings);
    broker.start().await.unwrap().stop().await.unwrap();
}
