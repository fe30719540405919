//! The ways to send.

use std::time::Duration;

use openwire_client::{AcknowledgeMode, DeliveryMode, Error, Session};

use crate::check::{Check, Outcome, refused, same};
use crate::scene::Scene;
use crate::steps::{expect, next, numbered};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("producer.async-send", |scene| {
        Box::pin(send_with(
            scene,
            "jms.useAsyncSend=true",
            DeliveryMode::Persistent,
        ))
    }),
    Check::new("producer.always-sync", |scene| {
        Box::pin(send_with(
            scene,
            "jms.alwaysSyncSend=true",
            DeliveryMode::NonPersistent,
        ))
    }),
    Check::new("producer.window", |scene| {
        let options = "jms.useAsyncSend=true&jms.producerWindowSize=4096";
        Box::pin(send_with(scene, options, DeliveryMode::Persistent))
    }),
    Check::new("producer.window-transacted", |scene| {
        Box::pin(window_transacted(scene))
    }),
    Check::new("producer.pipelined", |scene| Box::pin(pipelined(scene))),
    Check::new("producer.defaults", |scene| Box::pin(defaults(scene))),
    Check::new("producer.wrong-use", |scene| Box::pin(wrong_use(scene))),
];

async fn session_with(scene: &Scene, mode: AcknowledgeMode, options: &str) -> Outcome<Session> {
    let connection = scene.connect_with(options).await?;
    Ok(connection.create_session(mode).await?)
}

/// However it is sent, everything arrives in its order.
async fn send_with(scene: &Scene, options: &str, mode: DeliveryMode) -> Outcome {
    let session = session_with(scene, AcknowledgeMode::Auto, options).await?;
    let mut producer = session.create_producer(&scene.queue()).await?;
    producer.set_delivery_mode(mode);
    for text in numbered(1..=500) {
        producer.send(text).await?;
    }
    let consumer = session.create_consumer(&scene.queue()).await?;
    expect("what was sent", &consumer, numbered(1..=500)).await
}

async fn window_transacted(scene: &Scene) -> Outcome {
    let options = "jms.producerWindowSize=4096";
    let session = session_with(scene, AcknowledgeMode::Transacted, options).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    for text in numbered(1..=200) {
        producer.send(text).await?;
    }
    session.commit().await?;
    let consumer = scene.auto().await?.create_consumer(&scene.queue()).await?;
    expect("what was sent", &consumer, numbered(1..=200)).await
}

/// Many sends on their way at once, each with an answer of its own.
async fn pipelined(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let mut receipts = Vec::new();
    for text in numbered(1..=200) {
        receipts.push(producer.send_pipelined(text).await?);
    }
    let mut ids = Vec::new();
    for receipt in receipts {
        ids.push(receipt.message_id().to_string());
        receipt.await?;
    }
    let consumer = session.create_consumer(&scene.queue()).await?;
    for id in ids {
        same(
            "what was confirmed",
            next(&consumer).await?.message_id(),
            Some(id),
        )?;
    }
    Ok(())
}

async fn defaults(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let mut producer = session.create_producer(&scene.queue()).await?;
    producer.set_priority(7)?;
    producer.set_time_to_live(Duration::from_secs(30));
    producer.send("as usual").await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let got = next(&consumer).await?;
    same("JMSPriority", got.priority(), 7)?;
    same("JMSExpiration", got.expiration(), got.timestamp() + 30_000)
}

async fn wrong_use(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let mut anonymous = session.create_anonymous_producer().await?;
    let sent = anonymous.send("where to?").await;
    refused("sending to nowhere", sent, Error::is_illegal_state)?;
    refused("a priority of 10", anonymous.set_priority(10), Error::is_invalid)?;
    let named = session.create_producer(&scene.queue()).await?;
    let sent = named.send_to(&scene.queue_of(".other"), "elsewhere").await;
    refused("sending elsewhere", sent, Error::is_illegal_state)
}
