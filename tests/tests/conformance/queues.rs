//! Queues: order, sharing, browsing, names that stand for several.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use openwire_client::{
    AcknowledgeMode, Browser, ConsumerOptions, DeliveryMode, Destination, Error, Message, SendOptions,
    Session,
};
use tokio::sync::mpsc;

use crate::check::{Check, Failure, Outcome, ensure, refused, same};
use crate::scene::Scene;
use crate::steps::{empty, expect, marked, next, nothing_more, numbered, send, text, texts};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("queue.fifo", |scene| Box::pin(fifo(scene))),
    Check::new("queue.listener", |scene| Box::pin(listener(scene))),
    Check::new("queue.competing-consumers", |scene| Box::pin(competing(scene))),
    Check::new("queue.stress", |scene| Box::pin(stress(scene))),
    Check::new("queue.receive-timeouts", |scene| Box::pin(timeouts(scene))),
    Check::new("queue.names", |scene| Box::pin(names(scene))),
    Check::new("queue.browser", |scene| Box::pin(browser(scene))),
    Check::new("queue.browser-selector", |scene| {
        Box::pin(browser_selector(scene))
    }),
    Check::new("queue.browser-empty", |scene| Box::pin(browser_empty(scene))),
    Check::new("queue.composite-send", |scene| Box::pin(composite_send(scene))),
    Check::new("queue.composite-consume", |scene| {
        Box::pin(composite_consume(scene))
    }),
    Check::new("queue.wildcards", |scene| Box::pin(wildcards(scene))),
    Check::new("queue.delete", |scene| Box::pin(delete(scene))),
];

async fn fifo(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let mut producer = session.create_producer(&scene.queue()).await?;
    producer.set_delivery_mode(DeliveryMode::NonPersistent);
    let sent = numbered(1..=1000);
    for text in &sent {
        producer.send(text.as_str()).await?;
    }
    let consumer = session.create_consumer(&scene.queue()).await?;
    same("the order", texts(&consumer, 1000).await?, sent)?;
    nothing_more("nothing is left", &session, &consumer, &scene.queue()).await
}

async fn listener(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let consumer = session.create_consumer(&scene.queue()).await?;
    let _listener = consumer.listen(move |message: Message| {
        let told = heard.send(message);
        async move { told }
    })?;
    send(&scene.auto().await?, &scene.queue(), numbered(1..=200)).await?;
    for wanted in numbered(1..=200) {
        same("the order", text(&heard_next(&mut hearing).await?)?, wanted)?;
    }
    Ok(())
}

/// The next message that a listener has heard.
async fn heard_next<T>(hearing: &mut mpsc::UnboundedReceiver<T>) -> Outcome<T> {
    let heard = tokio::time::timeout(Duration::from_secs(20), hearing.recv()).await;
    heard
        .ok()
        .flatten()
        .ok_or_else(|| Failure::new("a listener hears nothing"))
}

/// Four consumers share what there is: each message comes once, and each of them gets some.
async fn competing(scene: &Scene) -> Outcome {
    const CONSUMERS: usize = 4;
    const MESSAGES: usize = 400;
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let mut listeners = Vec::new();
    for number in 0..CONSUMERS {
        let session = scene.auto().await?;
        let options = ConsumerOptions::with_prefetch(10);
        let consumer = session.create_consumer_with(&scene.queue(), options).await?;
        let heard = heard.clone();
        listeners.push(consumer.listen(move |message: Message| {
            let told = heard.send((number, message));
            async move { told }
        })?);
    }
    send(&scene.auto().await?, &scene.queue(), numbered(1..=MESSAGES)).await?;
    let mut by_text = BTreeMap::new();
    let mut by_consumer = [0; CONSUMERS];
    for _ in 0..MESSAGES {
        let (consumer, message) = heard_next(&mut hearing).await?;
        by_consumer[consumer] += 1;
        ensure(
            by_text.insert(text(&message)?, consumer).is_none(),
            "no message comes twice",
        )?;
    }
    ensure(
        by_consumer.iter().all(|&count| count > 0),
        format!("everybody gets some: {by_consumer:?}"),
    )
}

/// Four producers and four consumers on one queue.
async fn stress(scene: &Scene) -> Outcome {
    const HANDS: usize = 4;
    const EACH: usize = 2000;
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let mut listeners = Vec::new();
    for _ in 0..HANDS {
        let heard = heard.clone();
        let consumer = scene.auto().await?.create_consumer(&scene.queue()).await?;
        listeners.push(consumer.listen(move |message: Message| {
            let told = heard.send(message);
            async move { told }
        })?);
    }
    let mut producing = Vec::new();
    for hand in 0..HANDS {
        producing.push(produce(scene.auto().await?, scene.queue(), hand, EACH));
    }
    futures::future::try_join_all(producing).await?;
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..HANDS * EACH {
        let key = heard_next(&mut hearing).await?.property_string("key")?;
        ensure(keys.insert(key), "no message comes twice")?;
    }
    Ok(())
}

async fn produce(session: Session, to: Destination, hand: usize, count: usize) -> Result<(), Error> {
    let producer = session.create_producer(&to).await?;
    for number in 0..count {
        let mut message = Message::text("x".repeat(number % 300));
        message.set_property("key", format!("{hand}-{number}"))?;
        let mut how = SendOptions::default();
        if number % 10 != 0 {
            how.delivery_mode = DeliveryMode::NonPersistent;
        }
        producer.send_with(message, how).await?;
    }
    Ok(())
}

async fn timeouts(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let nothing = consumer.receive_no_wait().await?;
    ensure(nothing.is_none(), "an empty queue has nothing to give at once")?;
    let began = Instant::now();
    let nothing = consumer.receive_timeout(Duration::from_millis(300)).await?;
    ensure(nothing.is_none(), "nor after a while")?;
    ensure(
        began.elapsed() >= Duration::from_millis(299),
        format!("the while was waited for: {:?}", began.elapsed()),
    )
}

async fn names(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let long = "x".repeat(200);
    for name in [
        "with space",
        "a/b/c",
        "UPPER.lower",
        "\u{4f60}\u{597d}",
        "dash-under_score",
        &long,
    ] {
        let queue = scene.queue_of(&format!(".{name}"));
        send(&session, &queue, [name]).await?;
        let consumer = session.create_consumer(&queue).await?;
        let got = next(&consumer).await?;
        same("what was sent there", text(&got)?, name)?;
        same("where it was", got.destination(), Some(&queue))?;
    }
    Ok(())
}

async fn browse(mut browser: Browser) -> Outcome<Vec<String>> {
    let mut texts = Vec::new();
    while let Some(message) = browser.next().await? {
        texts.push(text(&message)?);
    }
    browser.close().await?;
    Ok(texts)
}

/// A browser shows everything in its order and changes nothing.
async fn browser(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let sent = numbered(1..=50);
    send(&session, &scene.queue(), sent.clone()).await?;
    for prefetch in [None, Some(7), Some(0)] {
        let mut options = ConsumerOptions::default();
        options.prefetch = prefetch;
        let browser = session.create_browser_with(&scene.queue(), options).await?;
        same(
            format!("browsed, {prefetch:?} ahead"),
            browse(browser).await?,
            sent.clone(),
        )?;
    }
    let consumer = session.create_consumer(&scene.queue()).await?;
    for wanted in sent {
        let got = next(&consumer).await?;
        same("what was browsed", text(&got)?, wanted)?;
        same("JMSRedelivered", got.redelivered(), false)?;
    }
    nothing_more("nothing else is there", &session, &consumer, &scene.queue()).await
}

async fn browser_selector(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    for number in 1..=20 {
        let message = marked(&format!("m{number}"), "number", number)?;
        send(&session, &scene.queue(), [message]).await?;
    }
    let options = ConsumerOptions::with_selector("number BETWEEN 5 AND 9");
    let browser = session.create_browser_with(&scene.queue(), options).await?;
    same("what was chosen", browse(browser).await?, numbered(5..=9))?;
    let wrong = ConsumerOptions::with_selector("number >");
    let made = session.create_browser_with(&scene.queue(), wrong).await;
    refused("a wrong selector", made, Error::is_invalid_selector)
}

async fn browser_empty(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    // Once one that nobody has heard of, then one that exists.
    for _ in 0..2 {
        let browser = session.create_browser(&scene.queue()).await?;
        same("an empty queue", browse(browser).await?, Vec::<String>::new())?;
        session.create_consumer(&scene.queue()).await?.close().await?;
    }
    Ok(())
}

/// One message for a list of destinations, the queues and the topic alike.
async fn composite_send(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let (a, b, c) = (scene.queue_of(".a"), scene.queue_of(".b"), scene.topic_of(".c"));
    let from_a = session.create_consumer(&a).await?;
    let from_b = session.create_consumer(&b).await?;
    let from_c = session.create_consumer(&c).await?;
    let all = Destination::queue(&format!("{},{},topic://{}", a.name(), b.name(), c.name()));
    send(&session, &all, ["to all"]).await?;
    for (consumer, destination) in [(&from_a, &a), (&from_b, &b), (&from_c, &c)] {
        let got = next(consumer).await?;
        same("what was sent", text(&got)?, "to all")?;
        same("JMSDestination", got.destination(), Some(destination))?;
        nothing_more("it comes once", &session, consumer, destination).await?;
    }
    Ok(())
}

async fn composite_consume(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let (a, b) = (scene.queue_of(".a"), scene.queue_of(".b"));
    let both = Destination::queue(&format!("{},{}", a.name(), b.name()));
    let consumer = session.create_consumer(&both).await?;
    send(&session, &a, ["from a"]).await?;
    expect("the first queue", &consumer, ["from a"]).await?;
    send(&session, &b, ["from b"]).await?;
    expect("the second queue", &consumer, ["from b"]).await?;
    consumer.close().await?;
    empty("it was consumed", &session, &a).await?;
    empty("it was consumed", &session, &b).await
}

async fn wildcards(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    send(&session, &scene.queue_of(".one"), ["older"]).await?;
    let star = session.create_consumer(&scene.queue_of(".*")).await?;
    let got = next(&star).await?;
    same("a queue that is older", text(&got)?, "older")?;
    same("JMSDestination", got.destination(), Some(&scene.queue_of(".one")))?;
    send(&session, &scene.queue_of(".two"), ["younger"]).await?;
    expect("a queue that is younger", &star, ["younger"]).await?;
    send(&session, &scene.queue_of(".two.deep"), ["deep"]).await?;
    nothing_more(
        "* stands for one level",
        &session,
        &star,
        &scene.queue_of(".three"),
    )
    .await?;
    let all = session.create_consumer(&scene.queue_of(".>")).await?;
    expect("> stands for all levels", &all, ["deep"]).await
}

/// A queue in use stays; one that is not in use goes with its messages.
async fn delete(scene: &Scene) -> Outcome {
    let connection = scene.connect().await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let deleted = connection.destroy_destination(&scene.queue()).await;
    refused("deleting a queue in use", deleted, |error| {
        error.throwable().is_some()
    })?;
    consumer.close().await?;
    send(&session, &scene.queue(), ["gone with it"]).await?;
    // The broker hears of the closing behind the send at the latest.
    connection.destroy_destination(&scene.queue()).await?;
    empty("a new queue of that name is empty", &session, &scene.queue()).await
}
