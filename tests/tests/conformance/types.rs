//! Bodies and properties arrive as they were sent.

use openwire_client::{AcknowledgeMode, DeliveryMode, Message, SendOptions, Value, ValueMap};

use crate::check::{Check, Outcome, ensure, same};
use crate::kinds::{KINDS, UNICODE, pattern, set_properties, verify_properties};
use crate::scene::Scene;
use crate::steps::{next, send, text};

/// The real broker takes frames of 100 MiB.
const LARGE: usize = 10 * 1024 * 1024;

pub(crate) const CHECKS: &[Check] = &[
    Check::new("types.text", |scene| Box::pin(exchange(scene, "text", ""))),
    Check::new("types.bytes", |scene| Box::pin(exchange(scene, "bytes", ""))),
    Check::new("types.map", |scene| Box::pin(exchange(scene, "map", ""))),
    Check::new("types.stream", |scene| Box::pin(exchange(scene, "stream", ""))),
    Check::new("types.object", |scene| Box::pin(exchange(scene, "object", ""))),
    Check::new("types.plain", |scene| Box::pin(exchange(scene, "plain", ""))),
    Check::new("types.nested-map-and-list", |scene| Box::pin(nested(scene))),
    Check::new("types.big-property", |scene| Box::pin(big_property(scene))),
    Check::new("types.many-properties", |scene| Box::pin(many_properties(scene))),
    Check::new("types.forward-received", |scene| Box::pin(forward(scene))),
    Check::new("compression.text", |scene| {
        Box::pin(exchange(scene, "text", COMPRESSED))
    }),
    Check::new("compression.bytes", |scene| {
        Box::pin(exchange(scene, "bytes", COMPRESSED))
    }),
    Check::new("compression.map", |scene| {
        Box::pin(exchange(scene, "map", COMPRESSED))
    }),
    Check::new("compression.stream", |scene| {
        Box::pin(exchange(scene, "stream", COMPRESSED))
    }),
    Check::new("compression.object", |scene| {
        Box::pin(exchange(scene, "object", COMPRESSED))
    }),
    Check::new("compression.across", |scene| Box::pin(compression_across(scene))),
    Check::new("large.text", |scene| Box::pin(large_text(scene))),
    Check::new("large.bytes", |scene| Box::pin(large_bytes(scene))),
    Check::new("large.map", |scene| Box::pin(large_map(scene))),
];

const COMPRESSED: &str = "jms.useCompression=true";

/// Every message of a kind, by queue and by topic, persistent and not.
async fn exchange(scene: &Scene, prefix: &str, options: &str) -> Outcome {
    let connection = scene.connect_with(options).await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let listening = scene.connect_with(options).await?;
    let listening = listening.create_session(AcknowledgeMode::Auto).await?;
    for destination in [scene.queue(), scene.topic()] {
        let consumer = listening.create_consumer(&destination).await?;
        let producer = session.create_producer(&destination).await?;
        for kind in KINDS {
            if kind.name.split('-').next() != Some(prefix) {
                continue;
            }
            for mode in [DeliveryMode::Persistent, DeliveryMode::NonPersistent] {
                let mut message = (kind.make)()?;
                set_properties(&mut message)?;
                let mut how = SendOptions::default();
                how.delivery_mode = mode;
                producer.send_with(message, how).await?;
                let got = next(&consumer).await?;
                let checked = (kind.verify)(&got).and_then(|()| verify_properties(&got));
                checked.map_err(|mut failure| {
                    failure.add(&format!("{} to {destination}, {mode:?}", kind.name));
                    failure
                })?;
            }
        }
    }
    Ok(())
}

async fn nested(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let list = Value::List(vec![1.into(), "two".into(), 3.0.into()]);
    let inner = Value::Map(ValueMap::from_iter([
        ("number", Value::from(5)),
        ("list", Value::List(vec!["x".into(), 2_i64.into(), true.into()])),
    ]));
    let mut message = Message::map(ValueMap::from_iter([("inner", inner.clone())]));
    message.set_property("properties", inner.clone())?;
    message.set_property("list", list.clone())?;
    send(&session, &scene.queue(), [message]).await?;
    let got = next(&consumer).await?;
    same("a map in the body", got.as_map()?.get("inner"), Some(&inner))?;
    same("a map as a property", got.property("properties")?, Some(inner))?;
    same("a list as a property", got.property("list")?, Some(list))
}

async fn big_property(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let big = pattern(70_000) + UNICODE;
    let mut message = Message::new();
    message.set_property("big", big.as_str())?;
    send(&session, &scene.queue(), [message]).await?;
    let got = next(&consumer).await?.property_string("big")?;
    same(
        "a property of 70,000 characters",
        got.as_deref(),
        Some(big.as_str()),
    )
}

async fn many_properties(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let mut message = Message::text("x");
    for number in 0..500 {
        message.set_property(&format!("p{number}"), format!("v{number}"))?;
    }
    send(&session, &scene.queue(), [message]).await?;
    let got = next(&consumer).await?;
    for number in 0..500 {
        let value = got.property_string(&format!("p{number}"))?;
        same(
            "a property",
            value.as_deref(),
            Some(format!("v{number}").as_str()),
        )?;
    }
    Ok(())
}

/// A message that was received is sent on: the same content under a new id.
async fn forward(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let (first, second) = (scene.queue_of(".first"), scene.queue_of(".second"));
    let from_first = session.create_consumer(&first).await?;
    let from_second = session.create_consumer(&second).await?;
    for kind in KINDS {
        let mut message = (kind.make)()?;
        set_properties(&mut message)?;
        send(&session, &first, [message]).await?;
        let once = next(&from_first).await?;
        let id = once.message_id();
        send(&session, &second, [once]).await?;
        let twice = next(&from_second).await?;
        (kind.verify)(&twice)?;
        verify_properties(&twice)?;
        ensure(twice.message_id() != id, "the id is a new one")?;
        same("where it was sent to last", twice.destination(), Some(&second))?;
    }
    Ok(())
}

/// Who does not compress reads what is compressed, and it travels so.
async fn compression_across(scene: &Scene) -> Outcome {
    let compressing = scene.connect_with(COMPRESSED).await?;
    let compressing = compressing.create_session(AcknowledgeMode::Auto).await?;
    let plain = scene.auto().await?;
    let consumer = plain.create_consumer(&scene.queue()).await?;
    let body = "abc".repeat(50_000);
    send(&compressing, &scene.queue(), [body.as_str()]).await?;
    let got = next(&consumer).await?;
    same("the body", text(&got)?, body)?;
    ensure(got.is_compressed(), "it arrives compressed")?;
    send(&plain, &scene.queue(), ["as it is"]).await?;
    ensure(!next(&consumer).await?.is_compressed(), "the other does not")
}

async fn large_text(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let large = pattern(LARGE);
    for mode in [DeliveryMode::Persistent, DeliveryMode::NonPersistent] {
        let mut how = SendOptions::default();
        how.delivery_mode = mode;
        producer.send_with(large.as_str(), how).await?;
        let got = text(&next(&consumer).await?)?;
        ensure(got == large, "10 MB of text are the same")?;
    }
    Ok(())
}

async fn large_bytes(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let large = pattern(LARGE).into_bytes();
    for mode in [DeliveryMode::Persistent, DeliveryMode::NonPersistent] {
        let mut how = SendOptions::default();
        how.delivery_mode = mode;
        producer.send_with(large.clone(), how).await?;
        let got = next(&consumer).await?.as_bytes()?;
        ensure(got == large, "10 MB of bytes are the same")?;
    }
    Ok(())
}

async fn large_map(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let value = pattern(10_000);
    let map: ValueMap = (0..100)
        .map(|number| (format!("k{number}"), format!("{number}{value}")))
        .collect();
    send(&session, &scene.queue(), [map.clone()]).await?;
    ensure(
        next(&consumer).await?.as_map()? == &map,
        "1 MB of entries are the same",
    )
}
