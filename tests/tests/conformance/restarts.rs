//! The broker is killed and comes back: what clients over `failover:` notice of it, and what a store keeps.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use openwire_client::{AcknowledgeMode, ConsumerOptions, DeliveryMode, SendOptions};

use crate::check::{Check, Outcome, ensure, same};
use crate::kinds::{set_properties, verify_properties};
use crate::scene::Scene;
use crate::steps::{empty, expect, marked, next, nothing_more, numbered, rest, send, text, texts};

pub(crate) const CHECKS: &[Check] = &[
    Check::restarting("failover.reconnect", |scene| Box::pin(reconnect(scene))),
    Check::restarting("failover.send-while-down", |scene| {
        Box::pin(send_while_down(scene))
    }),
    Check::restarting("failover.transaction", |scene| Box::pin(transaction(scene))),
    Check::restarting("failover.durable-subscriber", |scene| {
        Box::pin(durable_subscriber(scene))
    }),
    Check::restarting("restart.persistent-queue", |scene| {
        Box::pin(persistent_queue(scene))
    }),
    Check::restarting("restart.non-persistent-dropped", |scene| {
        Box::pin(non_persistent(scene))
    }),
    Check::restarting("restart.uncommitted-dropped", |scene| {
        Box::pin(uncommitted(scene))
    }),
    Check::restarting("restart.durable-subscription", |scene| Box::pin(durable(scene))),
    Check::restarting("restart.scheduled", |scene| Box::pin(scheduled(scene))),
    Check::restarting("restart.redelivered", |scene| Box::pin(redelivered(scene))),
];

/// Consumers, producers and temporary queues go on.
async fn reconnect(scene: &Scene) -> Outcome {
    let connection = scene.connect_to(&scene.failover()).await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let temporary = session.create_temporary_queue().await?;
    let from_temporary = session.create_consumer(&temporary).await?;
    producer.send("before").await?;
    expect("before the restart", &consumer, ["before"]).await?;
    scene.restart().await?;
    producer.send("after").await?;
    expect("after the restart", &consumer, ["after"]).await?;
    send(&session, &temporary, ["temporary"]).await?;
    expect("the temporary queue", &from_temporary, ["temporary"]).await
}

/// Sends go through, and what was confirmed arrives.
async fn send_while_down(scene: &Scene) -> Outcome {
    const AROUND: usize = 50;
    let consuming = scene.connect_to(&scene.failover()).await?;
    let consuming = consuming.create_session(AcknowledgeMode::Auto).await?;
    let consumer = consuming.create_consumer(&scene.queue()).await?;
    let sending = scene.connect_to(&scene.failover()).await?;
    let sending = sending.create_session(AcknowledgeMode::Auto).await?;
    let producer = sending.create_producer(&scene.queue()).await?;
    let (confirmed, restarted) = (AtomicUsize::new(0), AtomicBool::new(false));
    let produce = async {
        let mut after = 0;
        while after < AROUND {
            let number = confirmed.load(Ordering::Relaxed);
            producer.send(number.to_string()).await?;
            confirmed.store(number + 1, Ordering::Relaxed);
            after += usize::from(restarted.load(Ordering::Relaxed));
        }
        Outcome::Ok(())
    };
    let restart = async {
        crate::steps::eventually("the producer gets going", || async {
            Ok(confirmed.load(Ordering::Relaxed) >= AROUND)
        })
        .await?;
        scene.restart().await?;
        restarted.store(true, Ordering::Relaxed);
        Outcome::Ok(())
    };
    tokio::try_join!(produce, restart)?;
    let mut numbers = BTreeSet::new();
    let sent = confirmed.load(Ordering::Relaxed);
    while numbers.len() < sent {
        let text = text(&next(&consumer).await?)?;
        ensure(numbers.insert(text.clone()), format!("{text} comes once"))?;
    }
    Ok(())
}

/// A transaction that spans the restart happens, or is refused, as a whole.
async fn transaction(scene: &Scene) -> Outcome {
    let connection = scene.connect_to(&scene.failover()).await?;
    let session = connection.create_session(AcknowledgeMode::Transacted).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    producer.send("1").await?;
    scene.restart().await?;
    producer.send("2").await?;
    let committed = match session.commit().await {
        Ok(()) => true,
        Err(error) if error.is_rolled_back() => false,
        Err(error) => return Err(error.into()),
    };
    let outside = scene.auto().await?;
    let consumer = outside.create_consumer(&scene.queue()).await?;
    let expected: &[&str] = if committed { &["1", "2"] } else { &[] };
    same(
        format!("all or nothing, committed: {committed}"),
        rest(&outside, &consumer, &scene.queue()).await?,
        expected,
    )
}

/// A durable subscriber goes on where it was.
async fn durable_subscriber(scene: &Scene) -> Outcome {
    let uri = format!("{}&jms.clientID=subscriber", scene.failover());
    let connection = scene.connect_to(&uri).await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session
        .create_durable_subscriber(&scene.topic(), "subscription")
        .await?;
    send(&session, &scene.topic(), numbered(1..=3)).await?;
    expect("before the restart", &consumer, numbered(1..=3)).await?;
    scene.restart().await?;
    send(&session, &scene.topic(), numbered(4..=6)).await?;
    expect("after the restart", &consumer, numbered(4..=6)).await
}

async fn persistent_queue(scene: &Scene) -> Outcome {
    let connection = scene.connect().await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    for text in numbered(1..=100) {
        let mut message = openwire_client::Message::text(text);
        set_properties(&mut message)?;
        send(&session, &scene.queue(), [message]).await?;
    }
    let consumer = session.create_consumer(&scene.queue()).await?;
    expect("taken before", &consumer, numbered(1..=10)).await?;
    connection.close().await?;
    scene.restart().await?;
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    for wanted in numbered(11..=100) {
        let got = next(&consumer).await?;
        same("the order", text(&got)?, wanted)?;
        verify_properties(&got)?;
    }
    nothing_more("nothing twice", &session, &consumer, &scene.queue()).await
}

async fn non_persistent(scene: &Scene) -> Outcome {
    let connection = scene.connect().await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let mut how = SendOptions::default();
    how.delivery_mode = DeliveryMode::NonPersistent;
    producer.send_with("not persistent", how).await?;
    producer.send("persistent").await?;
    connection.close().await?;
    scene.restart().await?;
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    same(
        "what survives",
        rest(&session, &consumer, &scene.queue()).await?,
        ["persistent"],
    )
}

/// What was sent and taken in a transaction that was never committed is as it was before.
async fn uncommitted(scene: &Scene) -> Outcome {
    let (input, output) = (scene.queue_of(".in"), scene.queue_of(".out"));
    send(&scene.auto().await?, &input, numbered(1..=3)).await?;
    let session = scene.transacted().await?;
    let consumer = session.create_consumer(&input).await?;
    same("taken", texts(&consumer, 2).await?, numbered(1..=2))?;
    send(&session, &output, ["never committed"]).await?;
    scene.restart().await?;
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&input).await?;
    same(
        "what was taken",
        rest(&session, &consumer, &input).await?,
        numbered(1..=3),
    )?;
    empty("what was sent", &session, &output).await
}

async fn durable(scene: &Scene) -> Outcome {
    let options = || ConsumerOptions::with_selector("number > 1 OR number IS NULL");
    let connection = scene.connect_as("subscriber").await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    session
        .create_durable_subscriber_with(&scene.topic(), "subscription", options())
        .await?
        .close()
        .await?;
    for number in 0..5 {
        let message = marked(&format!("m{number}"), "number", number)?;
        send(&session, &scene.topic(), [message]).await?;
    }
    connection.close().await?;
    scene.restart().await?;
    let connection = scene.connect_as("subscriber").await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session
        .create_durable_subscriber_with(&scene.topic(), "subscription", options())
        .await?;
    same(
        "what was kept",
        rest(&session, &consumer, &scene.topic()).await?,
        numbered(2..=4),
    )?;
    consumer.close().await?;
    Ok(session.unsubscribe("subscription").await?)
}

async fn scheduled(scene: &Scene) -> Outcome {
    let connection = scene.connect().await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let message = marked("later", "AMQ_SCHEDULED_DELAY", 3000_i64)?;
    send(&session, &scene.queue(), [message]).await?;
    connection.close().await?;
    scene.restart().await?;
    let consumer = scene.auto().await?.create_consumer(&scene.queue()).await?;
    expect("what was scheduled", &consumer, ["later"]).await
}

/// What a consumer had and had not acknowledged comes again.
async fn redelivered(scene: &Scene) -> Outcome {
    send(&scene.auto().await?, &scene.queue(), ["shown"]).await?;
    let session = scene.session(AcknowledgeMode::Client).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    expect("before the restart", &consumer, ["shown"]).await?;
    scene.restart().await?;
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    expect("after the restart", &consumer, ["shown"]).await?;
    nothing_more("once", &session, &consumer, &scene.queue()).await
}
