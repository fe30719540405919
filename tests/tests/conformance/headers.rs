//! What stands in the header.

use std::time::{Duration, SystemTime};

use openwire_client::{DeliveryMode, Message, SendOptions};

use crate::check::{Check, Outcome, ensure, same};
use crate::kinds::UNICODE;
use crate::scene::Scene;
use crate::steps::{expect, next};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("headers.all", |scene| Box::pin(all(scene))),
    Check::new("headers.group", |scene| Box::pin(group(scene))),
    Check::new("headers.defaults", |scene| Box::pin(defaults(scene))),
    Check::new("headers.no-timestamp", |scene| Box::pin(no_timestamp(scene))),
    Check::new("headers.reply-to-kinds", |scene| Box::pin(reply_to_kinds(scene))),
    Check::new("headers.anonymous-producer", |scene| Box::pin(anonymous(scene))),
];

async fn all(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let mut message = Message::text("all");
    message.set_correlation_id(UNICODE);
    message.set_reply_to(scene.queue_of(".reply"));
    message.set_message_type("a type");
    let mut how = SendOptions::default();
    how.priority = 9;
    how.time_to_live = Duration::from_secs(60);
    let before = millis();
    let id = producer.send_with(message, how).await?;
    let got = next(&consumer).await?;
    same("JMSCorrelationID", got.correlation_id(), Some(UNICODE))?;
    same("JMSReplyTo", got.reply_to(), Some(&scene.queue_of(".reply")))?;
    same("JMSType", got.message_type(), Some("a type"))?;
    same("JMSPriority", got.priority(), 9)?;
    same("JMSDeliveryMode", got.delivery_mode(), DeliveryMode::Persistent)?;
    same("JMSXDeliveryCount", got.delivery_count(), 1)?;
    same("JMSRedelivered", got.redelivered(), false)?;
    same("JMSDestination", got.destination(), Some(&scene.queue()))?;
    same("JMSMessageID", got.message_id(), Some(id.to_string()))?;
    ensure(id.to_string().starts_with("ID:"), "an id begins with ID:")?;
    ensure(
        (before..=millis()).contains(&got.timestamp()),
        format!("JMSTimestamp {} is the time of sending", got.timestamp()),
    )?;
    same("JMSExpiration", got.expiration(), got.timestamp() + 60_000)
}

fn millis() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

async fn group(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let mut message = Message::text("grouped");
    message.set_group("a group", 7);
    producer.send(message).await?;
    let got = next(&consumer).await?;
    same("JMSXGroupID", got.group_id(), Some("a group"))?;
    same("JMSXGroupSeq", got.group_sequence(), 7)
}

async fn defaults(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let mut producer = session.create_producer(&scene.queue()).await?;
    producer.send("persistent").await?;
    let got = next(&consumer).await?;
    same("JMSCorrelationID", got.correlation_id(), None)?;
    same("JMSReplyTo", got.reply_to(), None)?;
    same("JMSType", got.message_type(), None)?;
    same("JMSPriority", got.priority(), 4)?;
    same("JMSDeliveryMode", got.delivery_mode(), DeliveryMode::Persistent)?;
    same("JMSExpiration", got.expiration(), 0)?;
    same("JMSXGroupID", got.group_id(), None)?;
    ensure(got.properties()?.is_empty(), "there are no properties")?;
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    producer.send("not persistent").await?;
    let mode = next(&consumer).await?.delivery_mode();
    same("JMSDeliveryMode", mode, DeliveryMode::NonPersistent)
}

async fn no_timestamp(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let mut producer = session.create_producer(&scene.queue()).await?;
    producer.set_disable_message_timestamp(true);
    producer.send("timeless").await?;
    same("JMSTimestamp", next(&consumer).await?.timestamp(), 0)
}

async fn reply_to_kinds(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let temporary_queue = session.create_temporary_queue().await?;
    let temporary_topic = session.create_temporary_topic().await?;
    for destination in [
        scene.queue_of(".reply"),
        scene.topic_of(".reply"),
        temporary_queue.destination().clone(),
        temporary_topic.destination().clone(),
    ] {
        let mut message = Message::new();
        message.set_reply_to(destination.clone());
        producer.send(message).await?;
        let got = next(&consumer).await?;
        same("JMSReplyTo", got.reply_to(), Some(&destination))?;
        same(
            "its kind",
            got.reply_to().map(|to| to.kind()),
            Some(destination.kind()),
        )?;
    }
    Ok(())
}

async fn anonymous(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let (queue, topic) = (scene.queue_of(".a"), scene.topic_of(".b"));
    let from_queue = session.create_consumer(&queue).await?;
    let from_topic = session.create_consumer(&topic).await?;
    let producer = session.create_anonymous_producer().await?;
    producer.send_to(&queue, "1").await?;
    let mut how = SendOptions::default();
    how.delivery_mode = DeliveryMode::NonPersistent;
    how.priority = 1;
    producer.send_to_with(&topic, "2", how).await?;
    expect("from the queue", &from_queue, ["1"]).await?;
    expect("from the topic", &from_topic, ["2"]).await
}
