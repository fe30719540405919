//! The steps that most checks take.
//!
//! That nothing comes is not shown by waiting: something else is sent after it, and has to come first.

use std::time::Duration;

use openwire_client::{Consumer, Destination, Message, Session};

use crate::check::{Failure, Outcome, same};

/// Whatever a broker is going to do, it has done by then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What [`nothing_more`] sends.
const LAST: &str = "and nothing else";

/// A redelivery policy for the URI, without the usual second of delay.
pub(crate) fn redelivery(maximum: i32) -> String {
    format!(
        "jms.redeliveryPolicy.initialRedeliveryDelay=5&jms.redeliveryPolicy.redeliveryDelay=5\
         &jms.redeliveryPolicy.maximumRedeliveries={maximum}"
    )
}

/// `m1`, `m2`, …
pub(crate) fn numbered(numbers: std::ops::RangeInclusive<usize>) -> Vec<String> {
    numbers.map(|number| format!("m{number}")).collect()
}

/// Sends messages one after another, persistent ones.
pub(crate) async fn send<M: Into<Message>>(
    session: &Session,
    to: &Destination,
    messages: impl IntoIterator<Item = M>,
) -> Outcome {
    let producer = session.create_producer(to).await?;
    for message in messages {
        producer.send(message).await?;
    }
    Ok(producer.close().await?)
}

/// A text with a property.
pub(crate) fn marked(text: &str, name: &str, value: impl Into<openwire_client::Value>) -> Outcome<Message> {
    let mut message = Message::text(text);
    message.set_property(name, value)?;
    Ok(message)
}

/// The next message, which has to come.
pub(crate) async fn next(consumer: &Consumer) -> Outcome<Message> {
    match consumer.receive_timeout(PATIENCE).await? {
        Some(message) => Ok(message),
        None => Err(Failure::new(format!(
            "nothing came from {} within {PATIENCE:?}",
            consumer.destination()
        ))),
    }
}

/// The text of a message that has to be a text message.
pub(crate) fn text(message: &Message) -> Outcome<String> {
    let text = message.as_text()?;
    text.map(str::to_owned)
        .ok_or_else(|| Failure::new("a text message without a text"))
}

/// The texts of the next messages.
pub(crate) async fn texts(consumer: &Consumer, count: usize) -> Outcome<Vec<String>> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(text(&next(consumer).await?)?);
    }
    Ok(texts)
}

/// These have to come next, in this order.
pub(crate) async fn expect<T: AsRef<str> + std::fmt::Debug>(
    what: &str,
    consumer: &Consumer,
    expected: impl IntoIterator<Item = T>,
) -> Outcome {
    for wanted in expected {
        let got = text(&next(consumer).await?)?;
        same(what, got.as_str(), wanted.as_ref())?;
    }
    Ok(())
}

/// What comes until nothing more does, by a message that is sent behind it.
pub(crate) async fn rest(session: &Session, consumer: &Consumer, to: &Destination) -> Outcome<Vec<String>> {
    send(session, to, [LAST]).await?;
    let mut texts = Vec::new();
    loop {
        let text = text(&next(consumer).await?)?;
        if text == LAST {
            return Ok(texts);
        }
        texts.push(text);
    }
}

/// Nothing else comes to a consumer of `to`.
pub(crate) async fn nothing_more(
    what: &str,
    session: &Session,
    consumer: &Consumer,
    to: &Destination,
) -> Outcome {
    same(what, rest(session, consumer, to).await?, Vec::<String>::new())
}

/// A queue is empty, as a new consumer sees it.
pub(crate) async fn empty(what: &str, session: &Session, queue: &Destination) -> Outcome {
    let consumer = session.create_consumer(queue).await?;
    nothing_more(what, session, &consumer, queue).await?;
    Ok(consumer.close().await?)
}

/// Tries until it is so. For what a broker does by itself, and what is told by advisories.
pub(crate) async fn eventually<F>(what: &str, mut so: impl FnMut() -> F) -> Outcome
where
    F: Future<Output = Outcome<bool>>,
{
    let tries = async {
        while !so().await? {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    };
    match tokio::time::timeout(PATIENCE, tries).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new(format!("not within {PATIENCE:?}: {what}"))),
    }
}

/// Waits until a message that expires is expired.
pub(crate) async fn until_expired(message_lives: Duration) {
    // The clock of the header counts whole milliseconds.
    tokio::time::sleep(message_lives + Duration::from_millis(2)).await;
}
