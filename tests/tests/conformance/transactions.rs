//! Local transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use openwire_client::{AcknowledgeMode, ConsumerOptions, DeliveryMode, Error, Message};
use tokio::sync::mpsc;

use crate::check::{Check, Failure, Outcome, refused, same};
use crate::scene::Scene;
use crate::steps::{empty, expect, next, nothing_more, numbered, redelivery, send, text, texts};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("transaction.commit-send", |scene| Box::pin(commit_send(scene))),
    Check::new("transaction.rollback-send", |scene| {
        Box::pin(rollback_send(scene))
    }),
    Check::new("transaction.topic", |scene| Box::pin(topic(scene))),
    Check::new("transaction.several-destinations", |scene| {
        Box::pin(several(scene))
    }),
    Check::new("transaction.rollback-receive-counts", |scene| {
        Box::pin(counts(scene))
    }),
    Check::new("transaction.close-redelivers", |scene| {
        Box::pin(close_redelivers(scene))
    }),
    Check::new("transaction.close-discards-sends", |scene| {
        Box::pin(close_discards(scene))
    }),
    Check::new("transaction.receive-and-send", |scene| {
        Box::pin(receive_and_send(scene))
    }),
    Check::new("transaction.consumer-closed-before-commit", |scene| {
        Box::pin(closed_before(scene))
    }),
    Check::new("transaction.batches", |scene| Box::pin(batches(scene))),
    Check::new("transaction.large-receive", |scene| {
        Box::pin(large_receive(scene))
    }),
    Check::new("transaction.listener", |scene| Box::pin(listener(scene))),
    Check::new("transaction.wrong-session", |scene| {
        Box::pin(wrong_session(scene))
    }),
];

/// A marker that is sent outside overtakes what is sent inside: the latter is not visible yet.
async fn commit_send(scene: &Scene) -> Outcome {
    let session = scene.transacted().await?;
    let outside = scene.auto().await?;
    let consumer = outside.create_consumer(&scene.queue()).await?;
    send(&session, &scene.queue(), numbered(1..=3)).await?;
    nothing_more("before the commit", &outside, &consumer, &scene.queue()).await?;
    session.commit().await?;
    expect("after the commit", &consumer, numbered(1..=3)).await
}

async fn rollback_send(scene: &Scene) -> Outcome {
    let session = scene.transacted().await?;
    let outside = scene.auto().await?;
    let consumer = outside.create_consumer(&scene.queue()).await?;
    send(&session, &scene.queue(), ["rolled back"]).await?;
    session.rollback().await?;
    send(&session, &scene.queue(), ["committed"]).await?;
    session.commit().await?;
    expect("the second transaction", &consumer, ["committed"]).await?;
    nothing_more("not the first", &outside, &consumer, &scene.queue()).await
}

async fn topic(scene: &Scene) -> Outcome {
    let session = scene.transacted().await?;
    let outside = scene.auto().await?;
    let consumer = outside.create_consumer(&scene.topic()).await?;
    send(&session, &scene.topic(), ["rolled back"]).await?;
    session.rollback().await?;
    send(&session, &scene.topic(), numbered(1..=2)).await?;
    nothing_more("before the commit", &outside, &consumer, &scene.topic()).await?;
    session.commit().await?;
    expect("after the commit", &consumer, numbered(1..=2)).await
}

/// One transaction over two queues and a topic, consumed and produced.
async fn several(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    let (input, queue, topic) = (scene.queue_of(".in"), scene.queue_of(".out"), scene.topic());
    send(&outside, &input, numbered(1..=5)).await?;
    let from_queue = outside.create_consumer(&queue).await?;
    let from_topic = outside.create_consumer(&topic).await?;
    let session = scene.transacted().await?;
    let consumer = session.create_consumer(&input).await?;
    let to_queue = session.create_producer(&queue).await?;
    let to_topic = session.create_producer(&topic).await?;
    for _ in 0..5 {
        let message = next(&consumer).await?;
        to_topic.send(message.clone()).await?;
        to_queue.send(message).await?;
    }
    nothing_more("before the commit", &outside, &from_queue, &queue).await?;
    nothing_more("before the commit", &outside, &from_topic, &topic).await?;
    session.commit().await?;
    expect("the queue", &from_queue, numbered(1..=5)).await?;
    expect("the topic", &from_topic, numbered(1..=5)).await?;
    consumer.close().await?;
    empty("what was consumed", &outside, &input).await
}

/// After each rollback the same messages come in the same order, and count.
async fn counts(scene: &Scene) -> Outcome {
    send(&scene.auto().await?, &scene.queue(), numbered(1..=5)).await?;
    let connection = scene.connect_with(&redelivery(10)).await?;
    let session = connection.create_session(AcknowledgeMode::Transacted).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    for round in 1..=4 {
        for wanted in numbered(1..=5) {
            let got = next(&consumer).await?;
            same(format!("the order in round {round}"), text(&got)?, wanted)?;
            same("JMSXDeliveryCount", got.delivery_count(), round)?;
            same("JMSRedelivered", got.redelivered(), round > 1)?;
        }
        match round {
            4 => session.commit().await?,
            _ => session.rollback().await?,
        }
    }
    consumer.close().await?;
    empty("committed in the end", &scene.auto().await?, &scene.queue()).await
}

/// Only what was shown comes back as redelivered.
async fn close_redelivers(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    send(&outside, &scene.queue(), numbered(1..=2)).await?;
    let connection = scene.connect().await?;
    let session = connection.create_session(AcknowledgeMode::Transacted).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    next(&consumer).await?;
    connection.close().await?;
    let consumer = outside.create_consumer(&scene.queue()).await?;
    let first = next(&consumer).await?;
    same("the order", text(&first)?, "m1")?;
    same("JMSRedelivered", first.redelivered(), true)?;
    same("JMSXDeliveryCount", first.delivery_count(), 2)?;
    let second = next(&consumer).await?;
    same("the order", text(&second)?, "m2")?;
    same("what was not shown", second.redelivered(), false)
}

async fn close_discards(scene: &Scene) -> Outcome {
    let connection = scene.connect().await?;
    let session = connection.create_session(AcknowledgeMode::Transacted).await?;
    send(&session, &scene.queue(), ["never committed"]).await?;
    connection.close().await?;
    empty("what was never committed", &scene.auto().await?, &scene.queue()).await
}

async fn receive_and_send(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    let (input, output) = (scene.queue_of(".in"), scene.queue_of(".out"));
    send(&outside, &input, ["x"]).await?;
    let connection = scene.connect_with(&redelivery(10)).await?;
    let session = connection.create_session(AcknowledgeMode::Transacted).await?;
    let consumer = session.create_consumer(&input).await?;
    let results = outside.create_consumer(&output).await?;
    next(&consumer).await?;
    send(&session, &output, ["first"]).await?;
    session.rollback().await?;
    nothing_more("what was rolled back", &outside, &results, &output).await?;
    expect("it comes again", &consumer, ["x"]).await?;
    send(&session, &output, ["second"]).await?;
    session.commit().await?;
    expect("what was committed", &results, ["second"]).await?;
    consumer.close().await?;
    empty("what was consumed", &outside, &input).await
}

/// What a closed consumer had is still part of its session's transaction.
async fn closed_before(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    send(&outside, &scene.queue(), numbered(1..=4)).await?;
    let session = scene.transacted().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    same("taken", texts(&consumer, 2).await?, numbered(1..=2))?;
    consumer.close().await?;
    session.commit().await?;
    let consumer = outside.create_consumer(&scene.queue()).await?;
    expect("the others", &consumer, numbered(3..=4)).await?;
    nothing_more("no more", &outside, &consumer, &scene.queue()).await
}

/// ActiveMQ pages in no more than 200 messages of a backlog that are not acknowledged, so it is consumed in parts.
async fn batches(scene: &Scene) -> Outcome {
    const PART: usize = 100;
    let session = scene.transacted().await?;
    send(&session, &scene.queue(), numbered(1..=2000)).await?;
    session.commit().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    for part in 0..2000 / PART {
        let numbers = part * PART + 1..=(part + 1) * PART;
        expect("a part", &consumer, numbered(numbers)).await?;
        session.commit().await?;
    }
    consumer.close().await?;
    empty("everything was taken", &scene.auto().await?, &scene.queue()).await
}

/// What comes while the consumer listens is dispatched as far as its prefetch goes.
async fn large_receive(scene: &Scene) -> Outcome {
    const COUNT: usize = 1500;
    let session = scene.transacted().await?;
    let options = ConsumerOptions::with_prefetch(2000);
    let consumer = session.create_consumer_with(&scene.queue(), options).await?;
    let outside = scene.auto().await?;
    let mut producer = outside.create_producer(&scene.queue()).await?;
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    for text in numbered(1..=COUNT) {
        producer.send(text).await?;
    }
    expect("one transaction", &consumer, numbered(1..=COUNT)).await?;
    session.commit().await?;
    consumer.close().await?;
    empty("everything was taken", &outside, &scene.queue()).await
}

/// A listener that commits each message, and rolls back once.
async fn listener(scene: &Scene) -> Outcome {
    send(&scene.auto().await?, &scene.queue(), numbered(1..=10)).await?;
    let connection = scene.connect_with(&redelivery(10)).await?;
    let session = connection.create_session(AcknowledgeMode::Transacted).await?;
    let (done, mut committed) = mpsc::unbounded_channel();
    let calls = Arc::new(AtomicUsize::new(0));
    let consumer = session.create_consumer(&scene.queue()).await?;
    let _listener = consumer.listen(move |message: Message| {
        let (session, done, calls) = (session.clone(), done.clone(), calls.clone());
        async move {
            if calls.fetch_add(1, Ordering::Relaxed) == 4 {
                return session.rollback().await;
            }
            session.commit().await?;
            // Nobody listens any more once the check has failed.
            let _ = done.send(message);
            Ok(())
        }
    })?;
    for wanted in numbered(1..=10) {
        let got = tokio::time::timeout(std::time::Duration::from_secs(20), committed.recv()).await;
        let got = got
            .ok()
            .flatten()
            .ok_or_else(|| Failure::new(format!("{wanted} was never committed")))?;
        same("each once, in order", text(&got)?, wanted)?;
    }
    Ok(())
}

async fn wrong_session(scene: &Scene) -> Outcome {
    let auto = scene.auto().await?;
    refused("committing nothing", auto.commit().await, Error::is_illegal_state)?;
    refused(
        "rolling back nothing",
        auto.rollback().await,
        Error::is_illegal_state,
    )?;
    let transacted = scene.transacted().await?;
    refused("recovering", transacted.recover().await, Error::is_illegal_state)?;
    Ok(transacted.commit().await?)
}
