//! When messages count as consumed.

use openwire_client::{AcknowledgeMode, Message, Session};
use tokio::sync::mpsc;

use crate::check::{Check, Failure, Outcome, same};
use crate::scene::Scene;
use crate::steps::{empty, expect, next, nothing_more, numbered, redelivery, rest, send, text, texts};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("acknowledge.client", |scene| Box::pin(client(scene))),
    Check::new("acknowledge.client-recover", |scene| Box::pin(recover(scene))),
    Check::new("acknowledge.individual", |scene| Box::pin(individual(scene))),
    Check::new("acknowledge.dups-ok", |scene| Box::pin(dups_ok(scene))),
    Check::new("acknowledge.dups-ok-topic", |scene| {
        Box::pin(dups_ok_topic(scene))
    }),
    Check::new("acknowledge.optimized", |scene| Box::pin(optimized(scene))),
    Check::new("acknowledge.synchronous", |scene| Box::pin(synchronous(scene))),
    Check::new("acknowledge.listener-fails", |scene| {
        Box::pin(listener_fails(scene))
    }),
    Check::new("acknowledge.close-returns-prefetched", |scene| {
        Box::pin(close_returns(scene))
    }),
];

async fn session_with(scene: &Scene, mode: AcknowledgeMode, options: &str) -> Outcome<Session> {
    let connection = scene.connect_with(options).await?;
    Ok(connection.create_session(mode).await?)
}

/// An acknowledgement is for everything before it.
async fn client(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    send(&outside, &scene.queue(), numbered(1..=5)).await?;
    let connection = scene.connect().await?;
    let session = connection.create_session(AcknowledgeMode::Client).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    texts(&consumer, 2).await?;
    next(&consumer).await?.acknowledge().await?;
    next(&consumer).await?;
    connection.close().await?;
    let consumer = outside.create_consumer(&scene.queue()).await?;
    let fourth = next(&consumer).await?;
    same("the first that was not acknowledged", text(&fourth)?, "m4")?;
    same("it was shown", fourth.redelivered(), true)?;
    let fifth = next(&consumer).await?;
    same("the one after it", text(&fifth)?, "m5")?;
    same("it was not shown", fifth.redelivered(), false)
}

async fn recover(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    send(&outside, &scene.queue(), numbered(1..=2)).await?;
    let session = session_with(scene, AcknowledgeMode::Client, &redelivery(10)).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    texts(&consumer, 2).await?;
    session.recover().await?;
    let first = next(&consumer).await?;
    same("the order after recovering", text(&first)?, "m1")?;
    same("JMSRedelivered", first.redelivered(), true)?;
    next(&consumer).await?.acknowledge().await?;
    session.close().await?;
    empty("all is acknowledged", &outside, &scene.queue()).await
}

async fn individual(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    send(&outside, &scene.queue(), numbered(1..=5)).await?;
    let connection = scene.connect().await?;
    let session = connection.create_session(AcknowledgeMode::Individual).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    for number in 1..=5 {
        let message = next(&consumer).await?;
        if number % 2 == 0 {
            message.acknowledge().await?;
        }
    }
    connection.close().await?;
    let consumer = outside.create_consumer(&scene.queue()).await?;
    same(
        "the others",
        rest(&outside, &consumer, &scene.queue()).await?,
        ["m1", "m3", "m5"],
    )
}

async fn dups_ok(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    send(&outside, &scene.queue(), numbered(1..=200)).await?;
    let connection = scene.connect().await?;
    let session = connection.create_session(AcknowledgeMode::DupsOk).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    expect("all of them", &consumer, numbered(1..=200)).await?;
    connection.close().await?;
    empty("acknowledged at the latest now", &outside, &scene.queue()).await
}

/// More than the prefetch of a topic allows at once, so the acknowledgements must arrive meanwhile.
async fn dups_ok_topic(scene: &Scene) -> Outcome {
    let options = "jms.prefetchPolicy.topicPrefetch=50";
    let session = session_with(scene, AcknowledgeMode::DupsOk, options).await?;
    let consumer = session.create_consumer(&scene.topic()).await?;
    send(&scene.auto().await?, &scene.topic(), numbered(1..=500)).await?;
    expect("all of them", &consumer, numbered(1..=500)).await
}

async fn optimized(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    let options = "jms.optimizeAcknowledge=true&jms.prefetchPolicy.queuePrefetch=100";
    let session = session_with(scene, AcknowledgeMode::Auto, options).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    send(&outside, &scene.queue(), numbered(1..=500)).await?;
    expect("all of them", &consumer, numbered(1..=500)).await?;
    consumer.close().await?;
    empty("acknowledged at the latest now", &outside, &scene.queue()).await
}

/// Every acknowledgement is waited for.
async fn synchronous(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    send(&outside, &scene.queue(), numbered(1..=6)).await?;
    for mode in [AcknowledgeMode::Auto, AcknowledgeMode::Client] {
        let session = session_with(scene, mode, "jms.sendAcksAsync=false").await?;
        let consumer = session.create_consumer(&scene.queue()).await?;
        next(&consumer).await?.acknowledge().await?;
        next(&consumer).await?.acknowledge().await?;
        session.close().await?;
    }
    let consumer = outside.create_consumer(&scene.queue()).await?;
    expect("the others", &consumer, numbered(5..=6)).await
}

/// A message whose listener fails comes again, and again, and counts.
async fn listener_fails(scene: &Scene) -> Outcome {
    let session = session_with(scene, AcknowledgeMode::Auto, &redelivery(5)).await?;
    let (heard, mut counts) = mpsc::unbounded_channel();
    let consumer = session.create_consumer(&scene.queue()).await?;
    let _listener = consumer.listen(move |message: Message| {
        let count = message.delivery_count();
        // Nobody listens any more once the check has failed.
        let _ = heard.send((text(&message), count));
        async move { if count < 3 { Err("on purpose") } else { Ok(()) } }
    })?;
    send(&scene.auto().await?, &scene.queue(), ["1", "2"]).await?;
    for wanted in [("1", 1), ("1", 2), ("1", 3), ("2", 1), ("2", 2), ("2", 3)] {
        let got = tokio::time::timeout(std::time::Duration::from_secs(20), counts.recv()).await;
        let (text, count) = got
            .ok()
            .flatten()
            .ok_or_else(|| Failure::new(format!("the listener never got {wanted:?}")))?;
        same("what the listener gets", (text?.as_str(), count), wanted)?;
    }
    Ok(())
}

/// What was sent ahead and never shown is not redelivered.
async fn close_returns(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    send(&outside, &scene.queue(), numbered(1..=10)).await?;
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    expect("the first", &consumer, ["m1"]).await?;
    consumer.close().await?;
    let consumer = outside.create_consumer(&scene.queue()).await?;
    for wanted in numbered(2..=10) {
        let got = next(&consumer).await?;
        same("the order", text(&got)?, wanted)?;
        same("JMSRedelivered", got.redelivered(), false)?;
    }
    nothing_more("no more", &outside, &consumer, &scene.queue()).await
}
