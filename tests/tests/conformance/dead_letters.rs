//! Messages that expire, and messages that nobody can digest.

use std::time::Duration;

use openwire_client::{
    AcknowledgeMode, Consumer, ConsumerOptions, DeliveryMode, Destination, Message, SendOptions, Session,
};

use crate::check::{Check, Outcome, ensure, same};
use crate::scene::Scene;
use crate::steps::{expect, marked, next, nothing_more, redelivery, send, text, texts, until_expired};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("expiry.not-delivered", |scene| Box::pin(not_delivered(scene))),
    Check::new("expiry.not-browsed", |scene| Box::pin(not_browsed(scene))),
    Check::new("expiry.topic", |scene| Box::pin(expired_on_topic(scene))),
    Check::new("expiry.dead-letter", |scene| Box::pin(expired_dead_letter(scene))),
    Check::new("expiry.in-prefetch", |scene| Box::pin(expired_in_prefetch(scene))),
    Check::new("expiry.non-persistent-discarded", |scene| {
        Box::pin(expired_discarded(scene))
    }),
    Check::new("redelivery.dead-letter", |scene| Box::pin(poison(scene))),
    Check::new("redelivery.others-pass", |scene| Box::pin(others_pass(scene))),
    Check::new("redelivery.non-persistent-discarded", |scene| {
        Box::pin(poison_discarded(scene))
    }),
    Check::new("redelivery.recover", |scene| Box::pin(poison_by_recover(scene))),
    Check::new("redelivery.no-limit", |scene| Box::pin(no_limit(scene))),
];

/// How long a message lives that is to expire.
const SHORT: Duration = Duration::from_millis(20);

/// How long one lives that is to expire behind the broker's back: long enough to be dispatched.
const LESS_SHORT: Duration = Duration::from_millis(500);

fn short_lived(delivery_mode: DeliveryMode) -> SendOptions {
    let mut how = SendOptions::default();
    how.time_to_live = SHORT;
    how.delivery_mode = delivery_mode;
    how
}

/// A message that is known among the dead letters of others.
fn own(scene: &Scene, text: &str) -> Outcome<Message> {
    marked(text, "check", scene.name())
}

fn dead_letter_queue() -> Destination {
    Destination::queue("ActiveMQ.DLQ")
}

/// The dead letters of this check.
async fn dead_letters(scene: &Scene, session: &Session) -> Outcome<Consumer> {
    let options = ConsumerOptions::with_selector(format!("check = '{}'", scene.name()));
    Ok(session
        .create_consumer_with(&dead_letter_queue(), options)
        .await?)
}

/// No dead letter of this check is there before the one that is sent now.
async fn no_dead_letter(scene: &Scene, session: &Session) -> Outcome {
    let consumer = dead_letters(scene, session).await?;
    send(session, &dead_letter_queue(), [own(scene, "the only one")?]).await?;
    expect("the dead letters", &consumer, ["the only one"]).await
}

async fn not_delivered(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let mut long = short_lived(DeliveryMode::NonPersistent);
    long.time_to_live = Duration::from_secs(60);
    producer
        .send_with("dead", short_lived(DeliveryMode::NonPersistent))
        .await?;
    producer.send_with("alive", long).await?;
    until_expired(SHORT).await;
    let consumer = session.create_consumer(&scene.queue()).await?;
    expect("the one that lives", &consumer, ["alive"]).await?;
    nothing_more("not the other", &session, &consumer, &scene.queue()).await
}

async fn not_browsed(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let producer = session.create_producer(&scene.queue()).await?;
    producer
        .send_with("dead", short_lived(DeliveryMode::NonPersistent))
        .await?;
    producer.send("alive").await?;
    until_expired(SHORT).await;
    let mut browser = session.create_browser(&scene.queue()).await?;
    let mut seen = Vec::new();
    while let Some(message) = browser.next().await? {
        seen.push(text(&message)?);
    }
    same("what is browsed", seen, ["alive"])
}

/// A subscriber that has enough to do gets nothing that has expired meanwhile.
async fn expired_on_topic(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session
        .create_consumer_with(&scene.topic(), ConsumerOptions::with_prefetch(1))
        .await?;
    let producer = session.create_producer(&scene.topic()).await?;
    producer.send("first").await?;
    producer
        .send_with("dead", short_lived(DeliveryMode::NonPersistent))
        .await?;
    until_expired(SHORT).await;
    expect("what was sent ahead", &consumer, ["first"]).await?;
    nothing_more("not what has expired", &session, &consumer, &scene.topic()).await
}

/// A persistent message that expires is a dead letter, and does not expire again.
async fn expired_dead_letter(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let letters = dead_letters(scene, &session).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    producer
        .send_with(own(scene, "expired")?, short_lived(DeliveryMode::Persistent))
        .await?;
    until_expired(SHORT).await;
    let consumer = session.create_consumer(&scene.queue()).await?;
    nothing_more("it is not delivered", &session, &consumer, &scene.queue()).await?;
    let letter = next(&letters).await?;
    same("the body", text(&letter)?, "expired")?;
    same("JMSExpiration", letter.expiration(), 0)?;
    same(
        "where it comes from",
        letter.original_destination(),
        Some(&scene.queue()),
    )
}

/// The client finds that a message has expired which the broker sent ahead.
async fn expired_in_prefetch(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let letters = dead_letters(scene, &session).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let mut how = SendOptions::default();
    how.time_to_live = LESS_SHORT;
    producer.send_with(own(scene, "expired")?, how).await?;
    producer.send("alive").await?;
    until_expired(LESS_SHORT).await;
    expect("the one that lives", &consumer, ["alive"]).await?;
    same("the dead letter", texts(&letters, 1).await?, ["expired"])
}

async fn expired_discarded(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let producer = session.create_producer(&scene.queue()).await?;
    producer
        .send_with(own(scene, "expired")?, short_lived(DeliveryMode::NonPersistent))
        .await?;
    until_expired(SHORT).await;
    let consumer = session.create_consumer(&scene.queue()).await?;
    nothing_more("it is not delivered", &session, &consumer, &scene.queue()).await?;
    no_dead_letter(scene, &session).await
}

async fn transacted(scene: &Scene, options: &str) -> Outcome<Session> {
    let connection = scene.connect_with(options).await?;
    Ok(connection.create_session(AcknowledgeMode::Transacted).await?)
}

/// After the last redelivery a message is a dead letter that says where it comes from, and why.
async fn poison(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    send(&outside, &scene.queue(), [own(scene, "poison")?]).await?;
    let session = transacted(scene, &redelivery(2)).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    for count in 1..=3 {
        let got = next(&consumer).await?;
        same("JMSXDeliveryCount", got.delivery_count(), count)?;
        session.rollback().await?;
    }
    nothing_more("no fourth time", &outside, &consumer, &scene.queue()).await?;
    let letter = next(&dead_letters(scene, &outside).await?).await?;
    same("the body", text(&letter)?, "poison")?;
    same(
        "where it comes from",
        letter.original_destination(),
        Some(&scene.queue()),
    )?;
    same("JMSDestination", letter.destination(), Some(&dead_letter_queue()))?;
    ensure(
        letter.has_property("dlqDeliveryFailureCause")?,
        "it says why it is there",
    )
}

async fn others_pass(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    send(&outside, &scene.queue(), ["bad", "good", "better"]).await?;
    let session = transacted(scene, &redelivery(1)).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let mut passed = Vec::new();
    while passed.len() < 2 {
        match text(&next(&consumer).await?)?.as_str() {
            "bad" => session.rollback().await?,
            other => {
                passed.push(other.to_owned());
                session.commit().await?;
            }
        }
    }
    same("the good ones", passed, ["good", "better"])?;
    nothing_more("the bad one is gone", &outside, &consumer, &scene.queue()).await
}

async fn poison_discarded(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    let mut producer = outside.create_producer(&scene.queue()).await?;
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    producer.send(own(scene, "poison")?).await?;
    let session = transacted(scene, &redelivery(0)).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    next(&consumer).await?;
    session.rollback().await?;
    nothing_more("no second time", &outside, &consumer, &scene.queue()).await?;
    no_dead_letter(scene, &outside).await
}

/// Recovering counts as rolling back does.
async fn poison_by_recover(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    send(&outside, &scene.queue(), [own(scene, "poison")?]).await?;
    let connection = scene.connect_with(&redelivery(1)).await?;
    let session = connection.create_session(AcknowledgeMode::Client).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    for count in 1..=2 {
        same(
            "JMSXDeliveryCount",
            next(&consumer).await?.delivery_count(),
            count,
        )?;
        session.recover().await?;
    }
    nothing_more("no third time", &outside, &consumer, &scene.queue()).await?;
    let letters = dead_letters(scene, &outside).await?;
    expect("the dead letter", &letters, ["poison"]).await
}

/// A maximum of -1 is none.
async fn no_limit(scene: &Scene) -> Outcome {
    const MANY: i32 = 20;
    let outside = scene.auto().await?;
    send(&outside, &scene.queue(), ["again and again"]).await?;
    let session = transacted(scene, &redelivery(-1)).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    for count in 1..=MANY {
        same(
            "JMSXDeliveryCount",
            next(&consumer).await?.delivery_count(),
            count,
        )?;
        session.rollback().await?;
    }
    expect("at last", &consumer, ["again and again"]).await?;
    Ok(session.commit().await?)
}
