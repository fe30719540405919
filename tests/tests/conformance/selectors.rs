//! Selectors of consumers. The language itself is proved by the vectors of the evaluator; this is the way through the
//! broker.

use openwire_client::{ConsumerOptions, DeliveryMode, Error, Message, SendOptions, Session};

use crate::check::{Check, Failure, Outcome, refused, same};
use crate::scene::Scene;
use crate::steps::{empty, expect, marked, next, numbered, rest, send};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("selector.properties", |scene| Box::pin(chosen(scene, PROPERTIES))),
    Check::new("selector.operators", |scene| Box::pin(chosen(scene, OPERATORS))),
    Check::new("selector.unknown-values", |scene| {
        Box::pin(chosen(scene, UNKNOWN))
    }),
    Check::new("selector.headers", |scene| Box::pin(chosen(scene, HEADERS))),
    Check::new("selector.group-header", |scene| Box::pin(group_header(scene))),
    Check::new("selector.queue-leaves-others", |scene| {
        Box::pin(leaves_others(scene))
    }),
    Check::new("selector.queue-shared", |scene| Box::pin(shared(scene))),
    Check::new("selector.by-destination-option", |scene| {
        Box::pin(by_option(scene))
    }),
    Check::new("selector.invalid", |scene| Box::pin(invalid(scene))),
];

/// Which of the messages 0 to 4 a selector takes.
type Case = (&'static str, &'static [i32]);

const PROPERTIES: &[Case] = &[
    ("i = 3", &[3]),
    ("i <> 3", &[0, 1, 2, 4]),
    ("i >= 3", &[3, 4]),
    ("d > 1.5e0", &[2, 3, 4]),
    ("d = i", &[0, 1, 2, 3, 4]),
    ("l = 4000000003", &[3]),
    ("flag = TRUE", &[0, 2, 4]),
    ("flag", &[0, 2, 4]),
    ("NOT flag", &[1, 3]),
    ("flag <> TRUE", &[1, 3]),
    ("color = 'RED'", &[]),
    ("quote = 'it''s'", &[2]),
    ("five = 5", &[]),
    ("$dollar = 1 AND _under = 2", &[0, 1, 2, 3, 4]),
    ("TRUE", &[0, 1, 2, 3, 4]),
    ("0x10 = 16 AND i = 0", &[0]),
];

const OPERATORS: &[Case] = &[
    ("i < 2 OR i = 4", &[0, 1, 4]),
    ("i=1 or i=2", &[1, 2]),
    ("i > 0 AND NOT (i = 2)", &[1, 3, 4]),
    ("i BETWEEN 1 AND 3", &[1, 2, 3]),
    ("i NOT BETWEEN 1 AND 3", &[0, 4]),
    ("color IN ('red', 'blue')", &[0, 2]),
    ("color NOT IN ('red', 'blue')", &[1, 3]),
    ("color LIKE 'gr%'", &[1]),
    ("color LIKE '_ed'", &[0]),
    ("color NOT LIKE '%e%'", &[3]),
    ("tricky LIKE 'a\\_%' ESCAPE '\\'", &[1]),
    ("tricky LIKE 'a_%'", &[0, 1]),
    ("i + 2 * 2 = 6", &[2]),
    ("(i + 2) * 2 = 6", &[1]),
    // A division is one of doubles.
    ("i / 2 = 1", &[2]),
    ("-i = -3", &[3]),
];

const UNKNOWN: &[Case] = &[
    ("color IS NULL", &[4]),
    ("color IS NOT NULL", &[0, 1, 2, 3]),
    ("missing > 5", &[]),
    ("NOT (missing > 5)", &[]),
    ("missing > 5 OR i = 1", &[1]),
    ("missing > 5 AND i = 1", &[]),
    ("missing IS NULL", &[0, 1, 2, 3, 4]),
];

const HEADERS: &[Case] = &[
    ("JMSPriority > 5", &[3, 4]),
    ("JMSType = 't1'", &[1]),
    ("JMSCorrelationID LIKE 'c-%'", &[2]),
    ("JMSDeliveryMode = 'PERSISTENT'", &[0, 2, 4]),
    ("JMSDeliveryMode = 'NON_PERSISTENT'", &[1, 3]),
    ("JMSMessageID LIKE 'ID:%'", &[0, 1, 2, 3, 4]),
    ("JMSTimestamp > 0", &[0, 1, 2, 3, 4]),
];

/// Message `i` of those that the cases are about.
fn message(i: i32) -> Outcome<Message> {
    const COLORS: [&str; 4] = ["red", "green", "blue", "gold"];
    let mut message = Message::new();
    message.set_property("i", i)?;
    message.set_property("d", f64::from(i))?;
    message.set_property("l", 4_000_000_000 + i64::from(i))?;
    message.set_property("flag", i % 2 == 0)?;
    message.set_property("five", "5")?;
    message.set_property("$dollar", 1)?;
    message.set_property("_under", 2)?;
    if let Some(color) = usize::try_from(i).ok().and_then(|i| COLORS.get(i)) {
        message.set_property("color", *color)?;
    }
    match i {
        0 => message.set_property("tricky", "axb")?,
        1 => {
            message.set_property("tricky", "a_b")?;
            message.set_message_type("t1");
        }
        2 => {
            message.set_property("quote", "it's")?;
            message.set_correlation_id("c-2");
        }
        _ => {}
    }
    Ok(message)
}

/// One subscriber for each case; a last message, which all of them take, says that no more comes.
async fn chosen(scene: &Scene, cases: &[Case]) -> Outcome {
    let listening = scene.auto().await?;
    let mut consumers = Vec::new();
    for (selector, _) in cases {
        let options = ConsumerOptions::with_selector(format!("({selector}) OR last = TRUE"));
        consumers.push(listening.create_consumer_with(&scene.topic(), options).await?);
    }
    let session = scene.auto().await?;
    let producer = session.create_producer(&scene.topic()).await?;
    for (i, priority) in (0..5).zip(3..) {
        let mut how = SendOptions::default();
        how.priority = priority;
        if i % 2 != 0 {
            how.delivery_mode = DeliveryMode::NonPersistent;
        }
        producer.send_with(message(i)?, how).await?;
    }
    producer.send(marked("last", "last", true)?).await?;
    let mut wrong = Vec::new();
    for ((selector, expected), consumer) in cases.iter().zip(&consumers) {
        let mut got = Vec::new();
        loop {
            let message = next(consumer).await?;
            if message.has_property("last")? {
                break;
            }
            got.push(message.property_i32("i")?);
        }
        if got != *expected {
            wrong.push(format!("{selector} takes {expected:?}, took {got:?}"));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(wrong.join("; "))),
    }
}

async fn group_header(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let options = ConsumerOptions::with_selector("JMSXGroupID = 'mine' AND JMSXGroupSeq > 1");
    let consumer = session.create_consumer_with(&scene.topic(), options).await?;
    for (text, group, sequence) in [("1", "mine", 1), ("2", "yours", 2), ("3", "mine", 2)] {
        let mut message = Message::text(text);
        message.set_group(group, sequence);
        send(&session, &scene.topic(), [message]).await?;
    }
    expect("the one that matches", &consumer, ["3"]).await
}

async fn fill(session: &Session, scene: &Scene) -> Outcome {
    for number in 1..=20 {
        let message = marked(&format!("m{number}"), "number", number)?;
        send(session, &scene.queue(), [message]).await?;
    }
    Ok(())
}

/// What a selector does not take stays where it is, in its order.
async fn leaves_others(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    fill(&session, scene).await?;
    let options = ConsumerOptions::with_selector("number = 3 OR number = 17 OR number IS NULL");
    let consumer = session.create_consumer_with(&scene.queue(), options).await?;
    same(
        "what was chosen",
        rest(&session, &consumer, &scene.queue()).await?,
        ["m3", "m17"],
    )?;
    consumer.close().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let mut left = numbered(1..=20);
    left.retain(|text| text != "m3" && text != "m17");
    same(
        "what was left",
        rest(&session, &consumer, &scene.queue()).await?,
        left,
    )
}

/// Two consumers with selectors share a queue, and neither is in the other's way.
async fn shared(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let low = ConsumerOptions::with_selector("number <= 10");
    let high = ConsumerOptions::with_selector("number > 10");
    let low = session.create_consumer_with(&scene.queue(), low).await?;
    let high = session.create_consumer_with(&scene.queue(), high).await?;
    fill(&session, scene).await?;
    expect("the high ones", &high, numbered(11..=20)).await?;
    expect("the low ones", &low, numbered(1..=10)).await?;
    low.close().await?;
    high.close().await?;
    empty("all were taken", &session, &scene.queue()).await
}

async fn by_option(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    fill(&session, scene).await?;
    let queue = scene.queue_of("?consumer.selector=number%20%3E%2018");
    let consumer = session.create_consumer(&queue).await?;
    expect("what was chosen", &consumer, numbered(19..=20)).await
}

/// A selector that means nothing is refused, and the session lives on.
async fn invalid(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    for selector in ["= 3", "i = ", "i LIKE 5", "(i = 1", "i BETWEEN 1"] {
        let options = || ConsumerOptions::with_selector(selector);
        let made = session.create_consumer_with(&scene.queue(), options()).await;
        refused(selector, made, Error::is_invalid_selector)?;
        // ActiveMQ says of a topic only that the subscription could not be made.
        let made = session.create_consumer_with(&scene.topic(), options()).await;
        refused(selector, made, |error| error.throwable().is_some())?;
    }
    send(&session, &scene.queue(), ["alive"]).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    expect("the session", &consumer, ["alive"]).await
}
