//! Topics, and what ActiveMQ makes of the names of some of them.

use openwire_client::{AcknowledgeMode, ConsumerOptions, DeliveryMode, Destination};

use crate::check::{Check, Outcome, ensure, same};
use crate::scene::Scene;
use crate::steps::{expect, next, nothing_more, numbered, rest, send, text, texts};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("topic.publish-subscribe", |scene| Box::pin(publish(scene))),
    Check::new("topic.wildcards", |scene| Box::pin(wildcards(scene))),
    Check::new("topic.send-to-wildcard", |scene| {
        Box::pin(send_to_wildcard(scene))
    }),
    Check::new("topic.no-local", |scene| Box::pin(no_local(scene))),
    Check::new("topic.retroactive", |scene| Box::pin(retroactive(scene))),
    Check::new("topic.fan-out", |scene| Box::pin(fan_out(scene))),
    Check::new("topic.delete", |scene| Box::pin(delete(scene))),
    Check::new("virtual-topic", |scene| Box::pin(virtual_topic(scene))),
];

async fn publish(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let topic = scene.topic();
    send(&session, &topic, ["nobody is there"]).await?;
    let a = scene.auto().await?.create_consumer(&topic).await?;
    let b = scene.auto().await?.create_consumer(&topic).await?;
    send(&session, &topic, numbered(1..=100)).await?;
    expect("the first subscriber", &a, numbered(1..=100)).await?;
    expect("the second subscriber", &b, numbered(1..=100)).await
}

async fn wildcards(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let star = session.create_consumer(&scene.topic_of(".*.price")).await?;
    let all = session.create_consumer(&scene.topic_of(".>")).await?;
    for (name, text) in [
        (".ibm.price", "1"),
        (".ibm.volume", "2"),
        (".ibm.x.price", "3"),
        (".sun.price", "4"),
    ] {
        send(&session, &scene.topic_of(name), [text]).await?;
    }
    let last = scene.topic_of(".last.price");
    same("*.price", rest(&session, &star, &last).await?, ["1", "4"])?;
    same("> without itself", texts(&all, 4).await?, ["1", "2", "3", "4"])
}

/// A name with a wildcard that is sent to is a name like any other: those that it would match get nothing.
async fn send_to_wildcard(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let topic = scene.topic_of(".a");
    let matching = session.create_consumer(&topic).await?;
    let all = session.create_consumer(&scene.topic_of(".>")).await?;
    send(&session, &scene.topic_of(".*"), ["to the pattern"]).await?;
    let got = next(&all).await?;
    same("whoever listens to that name too", text(&got)?, "to the pattern")?;
    same("JMSDestination", got.destination(), Some(&scene.topic_of(".*")))?;
    nothing_more("what it would match", &session, &matching, &topic).await
}

async fn no_local(scene: &Scene) -> Outcome {
    let topic = scene.topic();
    let mut options = ConsumerOptions::default();
    options.no_local = true;
    let here = scene.auto().await?;
    let there = scene.auto().await?;
    let mine = here.create_consumer_with(&topic, options.clone()).await?;
    let other = there.create_consumer_with(&topic, options).await?;
    send(&here, &topic, ["from here"]).await?;
    expect("another connection", &other, ["from here"]).await?;
    send(&there, &topic, ["from there"]).await?;
    expect("not one's own", &mine, ["from there"]).await
}

/// By default a broker keeps nothing of a topic for later, and lets those that ask for it in.
async fn retroactive(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let topic = scene.topic();
    let early = session.create_consumer(&topic).await?;
    send(&session, &topic, ["from before"]).await?;
    expect("who was there", &early, ["from before"]).await?;
    let mut options = ConsumerOptions::default();
    options.retroactive = Some(true);
    let late = session.create_consumer_with(&topic, options).await?;
    send(&session, &topic, ["from now on"]).await?;
    expect("who was not", &late, ["from now on"]).await
}

async fn fan_out(scene: &Scene) -> Outcome {
    let mut consumers = Vec::new();
    for _ in 0..10 {
        consumers.push(scene.auto().await?.create_consumer(&scene.topic()).await?);
    }
    let session = scene.auto().await?;
    let mut producer = session.create_producer(&scene.topic()).await?;
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    for text in numbered(1..=500) {
        producer.send(text).await?;
    }
    for consumer in &consumers {
        expect("everybody gets everything", consumer, numbered(1..=500)).await?;
    }
    Ok(())
}

async fn delete(scene: &Scene) -> Outcome {
    let connection = scene.connect().await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_consumer(&scene.topic()).await?;
    let deleted = connection.destroy_destination(&scene.topic()).await;
    ensure(deleted.is_err(), "a topic in use stays")?;
    consumer.close().await?;
    send(&session, &scene.topic(), ["into the void"]).await?;
    connection.destroy_destination(&scene.topic()).await?;
    let consumer = session.create_consumer(&scene.topic()).await?;
    nothing_more("it works again", &session, &consumer, &scene.topic()).await
}

/// Each `Consumer.NAME` queue of a virtual topic gets everything, and shares it among its consumers.
async fn virtual_topic(scene: &Scene) -> Outcome {
    let topic = Destination::topic(&format!("VirtualTopic.{}", scene.name()));
    let queue = |name: &str| Destination::queue(&format!("Consumer.{name}.{}", topic.name()));
    let session = scene.auto().await?;
    let a1 = scene.auto().await?.create_consumer(&queue("A")).await?;
    let a2 = scene.auto().await?.create_consumer(&queue("A")).await?;
    let b = session.create_consumer(&queue("B")).await?;
    let plain = session.create_consumer(&topic).await?;
    send(&session, &topic, numbered(1..=20)).await?;
    expect("the other queue", &b, numbered(1..=20)).await?;
    expect("the topic itself", &plain, numbered(1..=20)).await?;
    let (mut shared, mut by_first) = (Vec::new(), 0);
    for _ in 0..20 {
        let got = tokio::select! {
            got = next(&a1) => { by_first += 1; got }
            got = next(&a2) => got,
        };
        shared.push(text(&got?)?);
    }
    shared.sort();
    let mut all = numbered(1..=20);
    all.sort();
    same("the two consumers of one queue", shared, all)?;
    ensure(
        (1..20).contains(&by_first),
        format!("both get some, the first {by_first}"),
    )?;
    b.close().await?;
    send(&session, &topic, ["kept"]).await?;
    let b = session.create_consumer(&queue("B")).await?;
    let got = next(&b).await?;
    same("what came while nobody was there", text(&got)?, "kept")?;
    same("JMSDestination", got.destination(), Some(&queue("B")))
}
