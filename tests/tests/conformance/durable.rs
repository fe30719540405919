//! Durable subscriptions.

use openwire_client::{AcknowledgeMode, ConsumerOptions, Error, Session};

use crate::check::{Check, Outcome, refused, same};
use crate::scene::Scene;
use crate::steps::{expect, marked, next, nothing_more, numbered, rest, send, text, texts};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("durable.reconnect", |scene| Box::pin(reconnect(scene))),
    Check::new("durable.two-subscriptions", |scene| Box::pin(two(scene))),
    Check::new("durable.selector", |scene| Box::pin(selector(scene))),
    Check::new("durable.selector-change", |scene| {
        Box::pin(selector_change(scene))
    }),
    Check::new("durable.topic-change", |scene| Box::pin(topic_change(scene))),
    Check::new("durable.active-twice-refused", |scene| Box::pin(twice(scene))),
    Check::new("durable.client-acknowledge", |scene| {
        Box::pin(client_acknowledge(scene))
    }),
    Check::new("durable.transacted", |scene| Box::pin(transacted(scene))),
    Check::new("durable.other-client", |scene| Box::pin(other_client(scene))),
];

const NAME: &str = "subscription";

async fn session(scene: &Scene) -> Outcome<Session> {
    let connection = scene.connect_as("subscriber").await?;
    Ok(connection.create_session(AcknowledgeMode::Auto).await?)
}

/// What comes while nobody is there is kept, over several visits, until the subscription ends.
async fn reconnect(scene: &Scene) -> Outcome {
    let topic = scene.topic();
    let sending = scene.auto().await?;
    let connection = scene.connect_as("subscriber").await?;
    let subscribing = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = subscribing.create_durable_subscriber(&topic, NAME).await?;
    send(&sending, &topic, ["online"]).await?;
    expect("while it is there", &consumer, ["online"]).await?;
    connection.close().await?;
    send(&sending, &topic, numbered(1..=20)).await?;

    let connection = scene.connect_as("subscriber").await?;
    let subscribing = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = subscribing.create_durable_subscriber(&topic, NAME).await?;
    expect("the first visit", &consumer, numbered(1..=10)).await?;
    connection.close().await?;

    let connection = scene.connect_as("subscriber").await?;
    let subscribing = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = subscribing.create_durable_subscriber(&topic, NAME).await?;
    expect("the second visit", &consumer, numbered(11..=20)).await?;
    nothing_more("all was taken", &sending, &consumer, &topic).await?;
    consumer.close().await?;
    subscribing.unsubscribe(NAME).await?;
    send(&sending, &topic, ["for nobody"]).await?;
    let consumer = subscribing.create_durable_subscriber(&topic, NAME).await?;
    nothing_more("nothing is kept any more", &sending, &consumer, &topic).await
}

/// Each subscription of a client has what it has not seen.
async fn two(scene: &Scene) -> Outcome {
    let topic = scene.topic();
    let session = session(scene).await?;
    let a = session.create_durable_subscriber(&topic, "a").await?;
    session
        .create_durable_subscriber(&topic, "b")
        .await?
        .close()
        .await?;
    send(&session, &topic, numbered(1..=3)).await?;
    expect("the one that is there", &a, numbered(1..=3)).await?;
    let b = session.create_durable_subscriber(&topic, "b").await?;
    expect("the one that was away", &b, numbered(1..=3)).await?;
    a.close().await?;
    b.close().await?;
    session.unsubscribe("a").await?;
    Ok(session.unsubscribe("b").await?)
}

async fn send_numbers(session: &Session, scene: &Scene) -> Outcome {
    for number in 0..10 {
        let message = marked(&format!("m{number}"), "number", number)?;
        send(session, &scene.topic(), [message]).await?;
    }
    Ok(())
}

/// Only what the selector takes is kept.
async fn selector(scene: &Scene) -> Outcome {
    let topic = scene.topic();
    let session = session(scene).await?;
    let options = || ConsumerOptions::with_selector("number > 5 OR number IS NULL");
    session
        .create_durable_subscriber_with(&topic, NAME, options())
        .await?
        .close()
        .await?;
    send_numbers(&session, scene).await?;
    let consumer = session
        .create_durable_subscriber_with(&topic, NAME, options())
        .await?;
    same(
        "what was kept",
        rest(&session, &consumer, &topic).await?,
        numbered(6..=9),
    )?;
    consumer.close().await?;
    Ok(session.unsubscribe(NAME).await?)
}

/// Another selector makes another subscription of the same name.
async fn selector_change(scene: &Scene) -> Outcome {
    let topic = scene.topic();
    let session = session(scene).await?;
    let old = ConsumerOptions::with_selector("number = 1");
    session
        .create_durable_subscriber_with(&topic, NAME, old)
        .await?
        .close()
        .await?;
    send_numbers(&session, scene).await?;
    let new = ConsumerOptions::with_selector("number = 2 OR number IS NULL");
    let consumer = session.create_durable_subscriber_with(&topic, NAME, new).await?;
    send_numbers(&session, scene).await?;
    same(
        "what the new one takes",
        rest(&session, &consumer, &topic).await?,
        ["m2"],
    )?;
    consumer.close().await?;
    Ok(session.unsubscribe(NAME).await?)
}

/// So does another topic.
async fn topic_change(scene: &Scene) -> Outcome {
    let (old, new) = (scene.topic_of(".old"), scene.topic_of(".new"));
    let session = session(scene).await?;
    let consumer = session.create_durable_subscriber(&old, NAME).await?;
    consumer.close().await?;
    send(&session, &old, ["kept for nobody"]).await?;
    let consumer = session.create_durable_subscriber(&new, NAME).await?;
    send(&session, &old, ["to the old one"]).await?;
    send(&session, &new, ["to the new one"]).await?;
    expect("the new topic", &consumer, ["to the new one"]).await?;
    nothing_more("not the old one", &session, &consumer, &new).await?;
    consumer.close().await?;
    Ok(session.unsubscribe(NAME).await?)
}

async fn twice(scene: &Scene) -> Outcome {
    let topic = scene.topic();
    let session = session(scene).await?;
    let consumer = session.create_durable_subscriber(&topic, NAME).await?;
    let again = session.create_durable_subscriber(&topic, NAME).await;
    refused("a second one at the same time", again, |error| {
        error.throwable().is_some()
    })?;
    let ended = session.unsubscribe(NAME).await;
    refused("ending it while it is used", ended, |error| {
        error.throwable().is_some()
    })?;
    send(&session, &topic, ["still there"]).await?;
    expect("the first one", &consumer, ["still there"]).await?;
    consumer.close().await?;
    session.unsubscribe(NAME).await?;
    let ended = session.unsubscribe(NAME).await;
    refused("ending it twice", ended, Error::is_invalid_destination)
}

/// What was not acknowledged comes again, and what was does not.
async fn client_acknowledge(scene: &Scene) -> Outcome {
    let topic = scene.topic();
    let sending = scene.auto().await?;
    let connection = scene.connect_as("subscriber").await?;
    let session = connection.create_session(AcknowledgeMode::Client).await?;
    let consumer = session.create_durable_subscriber(&topic, NAME).await?;
    send(&sending, &topic, numbered(1..=4)).await?;
    next(&consumer).await?;
    next(&consumer).await?.acknowledge().await?;
    next(&consumer).await?;
    connection.close().await?;
    let connection = scene.connect_as("subscriber").await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_durable_subscriber(&topic, NAME).await?;
    let third = next(&consumer).await?;
    same("the first that was not acknowledged", text(&third)?, "m3")?;
    same("it was shown before", third.redelivered(), true)?;
    expect("the one after it", &consumer, ["m4"]).await?;
    nothing_more("no others", &sending, &consumer, &topic).await
}

/// A transaction that is rolled back leaves the subscription as it was.
async fn transacted(scene: &Scene) -> Outcome {
    let topic = scene.topic();
    let sending = scene.auto().await?;
    let connection = scene.connect_as("subscriber").await?;
    let session = connection.create_session(AcknowledgeMode::Transacted).await?;
    let consumer = session.create_durable_subscriber(&topic, NAME).await?;
    send(&sending, &topic, numbered(1..=4)).await?;
    same("taken", texts(&consumer, 2).await?, numbered(1..=2))?;
    session.commit().await?;
    same(
        "taken and given back",
        texts(&consumer, 2).await?,
        numbered(3..=4),
    )?;
    session.rollback().await?;
    connection.close().await?;
    let connection = scene.connect_as("subscriber").await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_durable_subscriber(&topic, NAME).await?;
    expect("what was given back", &consumer, numbered(3..=4)).await?;
    nothing_more("no others", &sending, &consumer, &topic).await
}

/// The same name of another client is another subscription.
async fn other_client(scene: &Scene) -> Outcome {
    let topic = scene.topic();
    let here = session(scene).await?;
    let other = scene.connect_as("another").await?;
    let other = other.create_session(AcknowledgeMode::Auto).await?;
    let a = here.create_durable_subscriber(&topic, NAME).await?;
    let b = other.create_durable_subscriber(&topic, NAME).await?;
    send(&here, &topic, numbered(1..=2)).await?;
    expect("one client", &a, numbered(1..=2)).await?;
    b.close().await?;
    send(&here, &topic, numbered(3..=3)).await?;
    other.unsubscribe(NAME).await?;
    expect("the other's end means nothing to it", &a, numbered(3..=3)).await
}
