//! Temporary queues and topics.

use openwire_client::{AcknowledgeMode, Error, Message, Session};

use crate::check::{Check, Outcome, refused, same};
use crate::scene::Scene;
use crate::steps::{eventually, expect, next, send, text};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("temporary.request-reply", |scene| Box::pin(request_reply(scene))),
    Check::new("temporary.topic", |scene| Box::pin(topic(scene))),
    Check::new("temporary.only-owner-consumes", |scene| {
        Box::pin(only_owner(scene))
    }),
    Check::new("temporary.delete", |scene| Box::pin(delete(scene))),
    Check::new("temporary.gone-with-connection", |scene| Box::pin(gone(scene))),
];

async fn request_reply(scene: &Scene) -> Outcome {
    let server = scene.auto().await?;
    let replies = std::sync::Arc::new(server.create_anonymous_producer().await?);
    let requests = server.create_consumer(&scene.queue()).await?;
    let _server = requests.listen(move |request| {
        let replies = replies.clone();
        async move { answer(&replies, &request).await }
    })?;
    let client = scene.auto().await?;
    let inbox = client.create_temporary_queue().await?;
    let answers = client.create_consumer(&inbox).await?;
    let producer = client.create_producer(&scene.queue()).await?;
    for number in 1..=100 {
        let mut request = Message::text(format!("request {number}"));
        request.set_reply_to(inbox.destination().clone());
        let id = producer.send(request).await?.to_string();
        let reply = next(&answers).await?;
        same("the reply", text(&reply)?, format!("re: request {number}"))?;
        same("JMSCorrelationID", reply.correlation_id(), Some(id.as_str()))?;
    }
    Ok(())
}

async fn answer(replies: &openwire_client::Producer, request: &Message) -> Outcome {
    let mut reply = Message::text(format!("re: {}", text(request)?));
    reply.set_correlation_id(request.message_id().as_deref());
    if let Some(to) = request.reply_to() {
        replies.send_to(to, reply).await?;
    }
    Ok(())
}

async fn topic(scene: &Scene) -> Outcome {
    let owner = scene.auto().await?;
    let topic = owner.create_temporary_topic().await?;
    let a = owner.create_consumer(&topic).await?;
    let b = owner.create_consumer(&topic).await?;
    send(&scene.auto().await?, &topic, ["to both"]).await?;
    expect("the one", &a, ["to both"]).await?;
    expect("the other", &b, ["to both"]).await
}

async fn only_owner(scene: &Scene) -> Outcome {
    let owner = scene.auto().await?;
    let stranger = scene.auto().await?;
    for temporary in [
        owner.create_temporary_queue().await?,
        owner.create_temporary_topic().await?,
    ] {
        let made = stranger.create_consumer(&temporary).await;
        refused("consuming from another's", made, Error::is_invalid_destination)?;
    }
    Ok(())
}

async fn delete(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let queue = session.create_temporary_queue().await?;
    let consumer = session.create_consumer(&queue).await?;
    refused(
        "deleting it while it is used",
        queue.delete().await,
        Error::is_illegal_state,
    )?;
    consumer.close().await?;
    queue.delete().await?;
    let sent = try_send(&session, &queue).await;
    refused("sending to what is deleted", sent, Error::is_invalid_destination)
}

async fn try_send(session: &Session, to: &openwire_client::Destination) -> openwire_client::Result<()> {
    let producer = session.create_producer(to).await?;
    producer.send("is anybody there?").await?;
    producer.close().await
}

async fn gone(scene: &Scene) -> Outcome {
    let connection = scene.connect().await?;
    let owner = connection.create_session(AcknowledgeMode::Auto).await?;
    let queue = owner.create_temporary_queue().await?;
    let other = scene.auto().await?;
    send(&other, &queue, ["while it is there"]).await?;
    connection.close().await?;
    // The end of a connection is not waited for by the others.
    eventually("sending to what has ended is refused", || async {
        match try_send(&other, &queue).await {
            Ok(()) => Ok(false),
            Err(error) if error.is_invalid_destination() => Ok(true),
            Err(error) => Err(error.into()),
        }
    })
    .await
}
