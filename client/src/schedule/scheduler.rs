//! What a broker is to deliver later.

use std::time::{SystemTime, UNIX_EPOCH};

use super::JOB_ID;
use crate::connection::within;
use crate::consumer::ConsumerOptions;
use crate::error::Result;
use crate::message::{DeliveryMode, Message};
use crate::producer::Producer;
use crate::session::Session;
use crate::wire::Destination;

/// Where brokers are asked (`ScheduledMessage.AMQ_SCHEDULER_MANAGEMENT_DESTINATION`).
const MANAGEMENT: &str = "ActiveMQ.Scheduler.Management";

const ACTION: &str = "AMQ_SCHEDULER_ACTION";
const BROWSE: &str = "BROWSE";
const REMOVE: &str = "REMOVE";
const REMOVE_ALL: &str = "REMOVEALL";
const FROM: &str = "ACTION_START_TIME";
const TO: &str = "ACTION_END_TIME";

/// Looks at and removes what a broker is to deliver later (its destination `ActiveMQ.Scheduler.Management`), made by
/// [`Connection::scheduler`](crate::Connection::scheduler).
///
/// A broker without a scheduler takes the questions and answers none of them: nothing is waiting there.
#[derive(Debug)]
pub struct Scheduler {
    session: Session,
    producer: Producer,
}

impl Scheduler {
    pub(crate) async fn new(session: Session) -> Result<Self> {
        let mut producer = session.create_producer(&Destination::topic(MANAGEMENT)).await?;
        // Those are waited for.
        producer.set_delivery_mode(DeliveryMode::Persistent);
        Ok(Self { session, producer })
    }

    /// All messages that wait (`BROWSE`), in no certain order. Each has its
    /// [`schedule`](Message::schedule), its [`scheduled_job_id`](Message::scheduled_job_id), and where it goes to in
    /// [`original_destination`](Message::original_destination).
    ///
    /// # Errors
    ///
    /// What the broker answers; [`is_timeout`](crate::Error::is_timeout); [`is_closed`](crate::Error::is_closed);
    /// [`is_illegal_state`](crate::Error::is_illegal_state) unless the connection is started, since the messages are received.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, but for a temporary queue that may be left until the connection ends.
    pub async fn browse(&self) -> Result<Vec<Message>> {
        self.ask(Message::new()).await
    }

    /// The messages that are due between two points in time (`BROWSE` with `ACTION_START_TIME` and `ACTION_END_TIME`).
    ///
    /// # Errors
    ///
    /// As [`browse`](Self::browse).
    ///
    /// # Cancel safety
    ///
    /// As [`browse`](Self::browse).
    pub async fn browse_between(&self, from: SystemTime, to: SystemTime) -> Result<Vec<Message>> {
        self.ask(between(from, to)?).await
    }

    /// Removes what waits under a [`scheduled_job_id`](Message::scheduled_job_id) (`REMOVE`). One that is not there any more
    /// is no error.
    ///
    /// # Errors
    ///
    /// What the broker answers; [`is_timeout`](crate::Error::is_timeout); [`is_closed`](crate::Error::is_closed).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped it may be removed or not.
    pub async fn remove(&self, job_id: &str) -> Result<()> {
        let mut message = action(Message::new(), REMOVE)?;
        message.set_property(JOB_ID, job_id)?;
        self.producer.send(message).await.map(drop)
    }

    /// Removes all that waits (`REMOVEALL`).
    ///
    /// # Errors
    ///
    /// As [`remove`](Self::remove).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped all may be removed or nothing.
    pub async fn remove_all(&self) -> Result<()> {
        let message = action(Message::new(), REMOVE_ALL)?;
        self.producer.send(message).await.map(drop)
    }

    /// Removes what is due between two points in time (`REMOVEALL` with `ACTION_START_TIME` and `ACTION_END_TIME`).
    ///
    /// # Errors
    ///
    /// As [`remove`](Self::remove).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped all may be removed or nothing.
    pub async fn remove_between(&self, from: SystemTime, to: SystemTime) -> Result<()> {
        let message = action(between(from, to)?, REMOVE_ALL)?;
        self.producer.send(message).await.map(drop)
    }

    /// The answers come before the question is answered, so those that are there then are all.
    async fn ask(&self, question: Message) -> Result<Vec<Message>> {
        let connection = &self.session.inner().connection;
        connection.hub.check_started()?;
        within(connection.options.request_timeout, async {
            let answers = self.session.create_temporary_queue().await?;
            // Each is asked for, and the broker says when there is none left.
            let options = ConsumerOptions::with_prefetch(0);
            let consumer = self.session.create_consumer_with(&answers, options).await?;
            let mut question = action(question, BROWSE)?;
            question.set_reply_to(Destination::clone(&answers));
            self.producer.send(question).await?;
            let mut waiting = Vec::new();
            while let Some(message) = consumer.receive_no_wait().await? {
                waiting.push(message);
            }
            consumer.close().await?;
            answers.delete().await?;
            Ok(waiting)
        })
        .await
    }
}

fn action(mut message: Message, action: &str) -> Result<Message> {
    message.set_property(ACTION, action)?;
    Ok(message)
}

fn between(from: SystemTime, to: SystemTime) -> Result<Message> {
    let mut message = Message::new();
    message.set_property(FROM, millis(from))?;
    message.set_property(TO, millis(to))?;
    Ok(message)
}

fn millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}
