//! Connections, and the options that a URI gives them.

use std::time::Duration;

use futures::StreamExt;
use openwire_client::{AcknowledgeMode, ConnectionFactory, Error, Event};
use tests::process::free_port;

use crate::check::{Check, Failure, Outcome, refused, same};
use crate::scene::Scene;
use crate::steps::{eventually, expect, numbered, send};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("connection.duplicate-client-id", |scene| {
        Box::pin(duplicate(scene))
    }),
    Check::new("connection.client-id-free-after-close", |scene| {
        Box::pin(free_after_close(scene))
    }),
    Check::new("connection.stop-start", |scene| Box::pin(stop_start(scene))),
    Check::new("connection.churn", |scene| Box::pin(churn(scene))),
    Check::new("connection.many-sessions", |scene| Box::pin(many_sessions(scene))),
    Check::new("connection.keep-alive", |scene| Box::pin(keep_alive(scene))),
    Check::new("connection.no-inactivity-monitor", |scene| {
        Box::pin(there_and_back(scene, "wireFormat.maxInactivityDuration=0"))
    }),
    Check::new("connection.no-advisories", |scene| {
        Box::pin(there_and_back(scene, "jms.watchTopicAdvisories=false"))
    }),
    Check::new("connection.failover-uri", |scene| Box::pin(failover_uri(scene))),
    Check::new("connection.metadata", |scene| Box::pin(metadata(scene))),
    Check::new("connection.closed", |scene| Box::pin(closed(scene))),
];

async fn duplicate(scene: &Scene) -> Outcome {
    let first = scene.connect_as("client").await?;
    let uri = format!("{}?jms.clientID={}", scene.url(), first.client_id());
    let second = ConnectionFactory::new(&uri)?.create_connection().await;
    refused("the same client id again", second, Error::is_invalid_client_id)?;
    // The first one is as it was.
    let session = first.create_session(AcknowledgeMode::Auto).await?;
    send(&session, &scene.queue(), ["alive"]).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    expect("the first connection", &consumer, ["alive"]).await
}

async fn free_after_close(scene: &Scene) -> Outcome {
    for _ in 0..5 {
        scene.connect_as("client").await?.close().await?;
    }
    Ok(())
}

/// A stopped connection delivers nothing; what comes meanwhile waits.
async fn stop_start(scene: &Scene) -> Outcome {
    let connection = scene.connect().await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let topic = session.create_consumer(&scene.topic()).await?;
    connection.stop().await?;
    let other = scene.auto().await?;
    send(&other, &scene.queue(), ["waits"]).await?;
    send(&other, &scene.topic(), ["waits as well"]).await?;
    let early = consumer.receive_timeout(Duration::from_millis(200)).await?;
    same(
        "while it is stopped",
        early.map(|message| message.message_id()),
        None,
    )?;
    connection.start().await?;
    expect("once it goes on", &consumer, ["waits"]).await?;
    expect("once it goes on", &topic, ["waits as well"]).await
}

async fn churn(scene: &Scene) -> Outcome {
    for text in numbered(1..=50) {
        let connection = scene.connect().await?;
        let session = connection.create_session(AcknowledgeMode::Auto).await?;
        send(&session, &scene.queue(), [text]).await?;
        connection.close().await?;
    }
    let consumer = scene.auto().await?.create_consumer(&scene.queue()).await?;
    expect("what each of them sent", &consumer, numbered(1..=50)).await
}

async fn many_sessions(scene: &Scene) -> Outcome {
    let connection = scene.connect().await?;
    let sending = connection.create_session(AcknowledgeMode::Auto).await?;
    let mut consumers = Vec::new();
    for name in numbered(1..=50) {
        let session = connection.create_session(AcknowledgeMode::Auto).await?;
        let queue = scene.queue_of(&format!(".{name}"));
        consumers.push((session.create_consumer(&queue).await?, name));
    }
    for (consumer, name) in &consumers {
        send(&sending, consumer.destination(), [name.as_str()]).await?;
    }
    for (consumer, name) in &consumers {
        expect("each its own", consumer, [name]).await?;
    }
    Ok(())
}

/// While nothing else is said, both sides say that they live, and neither gives up.
async fn keep_alive(scene: &Scene) -> Outcome {
    let options = "wireFormat.maxInactivityDuration=1000&wireFormat.maxInactivityDurationInitalDelay=500";
    let connection = scene.connect_with(options).await?;
    let mut events = connection.events();
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let lost = async {
        loop {
            match events.next().await {
                Some(Event::Closed { cause, .. }) => return format!("{cause:?}"),
                Some(_) => {}
                None => return "no more events".to_owned(),
            }
        }
    };
    if let Ok(cause) = tokio::time::timeout(Duration::from_secs(4), lost).await {
        return Err(Failure::new(format!("the idle connection was lost: {cause}")));
    }
    send(&session, &scene.queue(), ["alive"]).await?;
    expect("after a silence", &consumer, ["alive"]).await
}

async fn there_and_back(scene: &Scene, options: &str) -> Outcome {
    let connection = scene.connect_with(options).await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    send(&session, &scene.queue(), ["there and back"]).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    expect("it works", &consumer, ["there and back"]).await
}

/// The first broker of the list is dead.
async fn failover_uri(scene: &Scene) -> Outcome {
    let dead = free_port();
    let uri = format!(
        "failover:(tcp://127.0.0.1:{dead},{})?randomize=false&initialReconnectDelay=10",
        scene.url()
    );
    let connection = scene.connect_to(&uri).await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    send(&session, &scene.queue(), ["the other one"]).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    expect("the broker that lives", &consumer, ["the other one"]).await
}

/// A broker introduces itself, which it may do a moment after it has accepted.
async fn metadata(scene: &Scene) -> Outcome {
    let connection = scene.connect().await?;
    same("the wire version", connection.metadata().wire_version(), 12)?;
    eventually("the broker has an id and a name", || async {
        let metadata = connection.metadata();
        let said = [metadata.broker_id(), metadata.broker_name()];
        Ok(said.iter().all(|said| said.is_some_and(|said| !said.is_empty())))
    })
    .await
}

async fn closed(scene: &Scene) -> Outcome {
    let connection = scene.connect().await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    connection.close().await?;
    connection.close().await?;
    refused("sending", producer.send("too late").await, Error::is_closed)?;
    refused("receiving", consumer.receive().await, Error::is_closed)?;
    let made = connection.create_session(AcknowledgeMode::Auto).await;
    refused("another session", made, Error::is_closed)
}
