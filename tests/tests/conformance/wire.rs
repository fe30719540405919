//! Every version of the wire format, tight and loose, with and without its cache.

use openwire_client::{AcknowledgeMode, DeliveryMode, Error, Message};

use crate::check::{Check, Outcome, refused, same};
use crate::kinds::{KINDS, set_properties, verify_properties};
use crate::scene::Scene;
use crate::steps::{expect, next, numbered, send, text};

macro_rules! variants {
    ($($name:literal: $options:literal,)*) => {
        &[
            $( Check::new(concat!("wire.", $name), |scene| Box::pin(variant(scene, $options))), )*
            Check::new("wire.cache-eviction", |scene| Box::pin(cache_eviction(scene))),
        ]
    };
}

pub(crate) const CHECKS: &[Check] = variants! {
    "loose": "wireFormat.tightEncodingEnabled=false",
    "no-cache": "wireFormat.cacheEnabled=false",
    "loose-no-cache": "wireFormat.tightEncodingEnabled=false&wireFormat.cacheEnabled=false",
    "small-cache": "wireFormat.cacheSize=256",
    "stack-trace-off": "wireFormat.stackTraceEnabled=false",
    "tcp-no-delay-off": "wireFormat.tcpNoDelayEnabled=false",
    "no-prefix-asked": "wireFormat.sizePrefixDisabled=true",
    "version-12": "wireFormat.version=12",
    "version-11": "wireFormat.version=11",
    "version-10": "wireFormat.version=10",
    "version-9": "wireFormat.version=9",
    "version-6": "wireFormat.version=6",
    "version-3": "wireFormat.version=3",
    "version-2": "wireFormat.version=2",
    "version-1": "wireFormat.version=1",
    "version-9-loose": "wireFormat.version=9&wireFormat.tightEncodingEnabled=false",
    "version-3-loose": "wireFormat.version=3&wireFormat.tightEncodingEnabled=false",
};

/// Every kind of message, a transaction, a message to the default format, and an error.
async fn variant(scene: &Scene, options: &str) -> Outcome {
    let connection = scene.connect_with(options).await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let other = scene.auto().await?;
    let across = scene.queue_of(".across");
    let from_across = other.create_consumer(&across).await?;
    for kind in KINDS {
        let mut message = (kind.make)()?;
        set_properties(&mut message)?;
        message.set_reply_to(scene.topic());
        message.set_correlation_id("c");
        send(&session, &across, [message.clone()]).await?;
        producer.send(message).await?;
        for got in [next(&consumer).await?, next(&from_across).await?] {
            let checked = (kind.verify)(&got).and_then(|()| verify_properties(&got));
            checked.map_err(|mut failure| {
                failure.add(kind.name);
                failure
            })?;
            same("JMSReplyTo", got.reply_to(), Some(&scene.topic()))?;
            same("JMSCorrelationID", got.correlation_id(), Some("c"))?;
        }
    }
    let queue = scene.queue_of(".transacted");
    let transacted = connection.create_session(AcknowledgeMode::Transacted).await?;
    send(&transacted, &queue, numbered(1..=3)).await?;
    transacted.commit().await?;
    let consumer = transacted.create_consumer(&queue).await?;
    expect("a transaction", &consumer, numbered(1..=3)).await?;
    transacted.commit().await?;
    let id = connection.client_id();
    let again = format!("{}?jms.clientID={id}&{options}", scene.url());
    let again = openwire_client::ConnectionFactory::new(&again)?;
    refused(
        "the same client id again",
        again.create_connection().await,
        Error::is_invalid_client_id,
    )
}

/// More destinations and ids than the cache holds, both ways on one connection.
async fn cache_eviction(scene: &Scene) -> Outcome {
    const ROUNDS: usize = 3;
    const DESTINATIONS: usize = 700;
    let connection = scene.connect_with("wireFormat.cacheSize=256").await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_consumer(&scene.topic_of(".>")).await?;
    let mut producer = session.create_anonymous_producer().await?;
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    let to = |number: usize| scene.topic_of(&format!(".{number}"));
    let reply_to = |number: usize| scene.queue_of(&format!(".reply.{number}"));
    for round in 0..ROUNDS {
        for number in 0..DESTINATIONS {
            let mut message = Message::text(format!("{round}:{number}"));
            message.set_reply_to(reply_to(number));
            producer.send_to(&to(number), message).await?;
        }
    }
    for round in 0..ROUNDS {
        for number in 0..DESTINATIONS {
            let got = next(&consumer).await?;
            same("the text", text(&got)?, format!("{round}:{number}"))?;
            same("JMSDestination", got.destination(), Some(&to(number)))?;
            same("JMSReplyTo", got.reply_to(), Some(&reply_to(number)))?;
        }
    }
    Ok(())
}
