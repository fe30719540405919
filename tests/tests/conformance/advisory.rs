//! What brokers tell of themselves, as messages of the advisory topics.

use openwire_client::wire::{Command, DestinationInfo};
use openwire_client::{
    AcknowledgeMode, Consumer, ConsumerOptions, Destination, Message, SendOptions, Session,
};

use crate::check::{Check, Failure, Outcome, ensure, same};
use crate::scene::Scene;
use crate::steps::{next, nothing_more, send, until_expired};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("advisory.consumer", |scene| Box::pin(consumer(scene))),
    Check::new("advisory.consumer-existing", |scene| {
        Box::pin(consumer_existing(scene))
    }),
    Check::new("advisory.consumer-topic", |scene| Box::pin(consumer_topic(scene))),
    Check::new("advisory.producer", |scene| Box::pin(producer(scene))),
    Check::new("advisory.connection", |scene| Box::pin(connection(scene))),
    Check::new("advisory.destination", |scene| Box::pin(destination(scene))),
    Check::new("advisory.topic-destination", |scene| {
        Box::pin(topic_destination(scene))
    }),
    Check::new("advisory.temporary-destination", |scene| {
        Box::pin(temporary(scene))
    }),
    Check::new("advisory.expired", |scene| Box::pin(expired(scene))),
];

/// The topic that tells of something concerning a destination.
fn about(what: &str, destination: &Destination) -> Destination {
    let kind = if destination.is_queue() { "Queue" } else { "Topic" };
    Destination::topic(&format!("ActiveMQ.Advisory.{what}.{kind}.{}", destination.name()))
}

fn told(advisory: &Message) -> Outcome<&Command> {
    advisory
        .data_structure()
        .ok_or_else(|| Failure::new(format!("an advisory that tells nothing: {advisory:?}")))
}

/// The next advisory that tells of what is looked for. Topics that concern everybody tell of others as well.
async fn until(consumer: &Consumer, mut wanted: impl FnMut(&Command) -> bool) -> Outcome<Message> {
    loop {
        let advisory = next(consumer).await?;
        if wanted(told(&advisory)?) {
            return Ok(advisory);
        }
    }
}

async fn listen(session: &Session, topic: &str) -> Outcome<Consumer> {
    Ok(session.create_consumer(&Destination::topic(topic)).await?)
}

async fn consumer(scene: &Scene) -> Outcome {
    let watching = scene.auto().await?;
    let advisories = watching
        .create_consumer(&about("Consumer", &scene.queue()))
        .await?;
    let session = scene.auto().await?;
    let options = ConsumerOptions::with_selector("a = 1");
    let consumer = session.create_consumer_with(&scene.queue(), options).await?;
    let started = next(&advisories).await?;
    match told(&started)? {
        Command::ConsumerInfo(info) => {
            same("the destination", info.destination.as_ref(), Some(&scene.queue()))?;
            same("the selector", info.selector.as_deref(), Some("a = 1"))?;
            same("the consumer", info.consumer_id.as_ref(), Some(consumer.id()))?;
        }
        other => return Err(Failure::new(format!("not a ConsumerInfo: {other:?}"))),
    }
    same("consumerCount", started.property_i32("consumerCount")?, 1)?;
    same("JMSType", started.message_type(), Some("Advisory"))?;
    for name in ["originBrokerName", "originBrokerId"] {
        ensure(
            started.property_string(name)?.is_some(),
            format!("{name} is there"),
        )?;
    }
    consumer.close().await?;
    let stopped = next(&advisories).await?;
    ensure(
        matches!(told(&stopped)?, Command::RemoveInfo(_)),
        "then it tells of the end",
    )?;
    same("consumerCount", stopped.property_i32("consumerCount")?, 0)
}

/// Who listens late is told of the consumers there are.
async fn consumer_existing(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let watching = scene.auto().await?;
    let advisories = watching
        .create_consumer(&about("Consumer", &scene.queue()))
        .await?;
    match told(&next(&advisories).await?)? {
        Command::ConsumerInfo(info) => same("the consumer", info.consumer_id.as_ref(), Some(consumer.id())),
        other => Err(Failure::new(format!("not a ConsumerInfo: {other:?}"))),
    }
}

async fn consumer_topic(scene: &Scene) -> Outcome {
    let watching = scene.auto().await?;
    let advisories = watching
        .create_consumer(&about("Consumer", &scene.topic()))
        .await?;
    let consumer = scene.auto().await?.create_consumer(&scene.topic()).await?;
    let started = next(&advisories).await?;
    ensure(
        matches!(told(&started)?, Command::ConsumerInfo(_)),
        "it tells of the consumer",
    )?;
    consumer.close().await?;
    let stopped = next(&advisories).await?;
    ensure(
        matches!(told(&stopped)?, Command::RemoveInfo(_)),
        "and of its end",
    )
}

async fn producer(scene: &Scene) -> Outcome {
    let watching = scene.auto().await?;
    let advisories = watching
        .create_consumer(&about("Producer", &scene.queue()))
        .await?;
    let producer = scene.auto().await?.create_producer(&scene.queue()).await?;
    let started = next(&advisories).await?;
    match told(&started)? {
        Command::ProducerInfo(info) => {
            same("the producer", info.producer_id.as_ref(), Some(producer.id()))?;
        }
        other => return Err(Failure::new(format!("not a ProducerInfo: {other:?}"))),
    }
    same("producerCount", started.property_i32("producerCount")?, 1)?;
    producer.close().await?;
    let stopped = next(&advisories).await?;
    ensure(
        matches!(told(&stopped)?, Command::RemoveInfo(_)),
        "and of its end",
    )
}

async fn connection(scene: &Scene) -> Outcome {
    let watching = scene.auto().await?;
    let advisories = listen(&watching, "ActiveMQ.Advisory.Connection").await?;
    let connection = scene.connect_as("watched").await?;
    until(&advisories, |told| match told {
        Command::ConnectionInfo(info) => info.client_id.as_deref() == Some(connection.client_id()),
        _ => false,
    })
    .await?;
    let id = connection.id().clone();
    connection.close().await?;
    until(&advisories, |told| match told {
        Command::RemoveInfo(info) => format!("{:?}", info.object_id).contains(id.as_str()),
        _ => false,
    })
    .await?;
    Ok(())
}

/// Waits until the broker tells that a destination was made, or removed.
async fn until_destination(consumer: &Consumer, destination: &Destination, operation: i8) -> Outcome {
    until(consumer, |told| match told {
        Command::DestinationInfo(info) => {
            info.destination.as_ref() == Some(destination) && info.operation_type == operation
        }
        _ => false,
    })
    .await?;
    Ok(())
}

async fn destination(scene: &Scene) -> Outcome {
    let watching = scene.auto().await?;
    let advisories = listen(&watching, "ActiveMQ.Advisory.Queue").await?;
    let connection = scene.connect().await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    send(&session, &scene.queue(), ["makes it"]).await?;
    until_destination(&advisories, &scene.queue(), DestinationInfo::ADD).await?;
    connection.destroy_destination(&scene.queue()).await?;
    until_destination(&advisories, &scene.queue(), DestinationInfo::REMOVE).await
}

/// Who listens late is told of the topics there are.
async fn topic_destination(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    send(&session, &scene.topic(), ["makes it"]).await?;
    let watching = scene.auto().await?;
    let advisories = listen(&watching, "ActiveMQ.Advisory.Topic").await?;
    until_destination(&advisories, &scene.topic(), DestinationInfo::ADD).await
}

async fn temporary(scene: &Scene) -> Outcome {
    let watching = scene.auto().await?;
    let of_queues = listen(&watching, "ActiveMQ.Advisory.TempQueue").await?;
    let of_topics = listen(&watching, "ActiveMQ.Advisory.TempTopic").await?;
    let session = scene.auto().await?;
    let queue = session.create_temporary_queue().await?;
    let topic = session.create_temporary_topic().await?;
    until_destination(&of_queues, &queue, DestinationInfo::ADD).await?;
    until_destination(&of_topics, &topic, DestinationInfo::ADD).await?;
    queue.delete().await?;
    topic.delete().await?;
    until_destination(&of_queues, &queue, DestinationInfo::REMOVE).await?;
    until_destination(&of_topics, &topic, DestinationInfo::REMOVE).await
}

/// The expired message is in the advisory.
async fn expired(scene: &Scene) -> Outcome {
    const SHORT: std::time::Duration = std::time::Duration::from_millis(20);
    let watching = scene.auto().await?;
    let advisories = watching
        .create_consumer(&about("Expired", &scene.queue()))
        .await?;
    let session = scene.auto().await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let mut how = SendOptions::default();
    how.time_to_live = SHORT;
    let id = producer.send_with("expires", how).await?;
    until_expired(SHORT).await;
    let consumer = session.create_consumer(&scene.queue()).await?;
    nothing_more("it is not delivered", &session, &consumer, &scene.queue()).await?;
    match told(&next(&advisories).await?)? {
        Command::Message(message) => same(
            "the message",
            message.message_id.as_ref().map(ToString::to_string),
            Some(id.to_string()),
        ),
        other => Err(Failure::new(format!("not a message: {other:?}"))),
    }
}
