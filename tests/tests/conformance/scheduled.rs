//! Messages that are delivered later.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use openwire_client::{Destination, Message, Session};

use crate::check::{Check, Failure, Outcome, ensure, same};
use crate::scene::Scene;
use crate::steps::{expect, marked, next, nothing_more, send, text};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("scheduled.delay", |scene| Box::pin(delay(scene))),
    Check::new("scheduled.topic", |scene| Box::pin(topic(scene))),
    Check::new("scheduled.repeat", |scene| Box::pin(repeat(scene))),
    Check::new("scheduled.transaction", |scene| Box::pin(transaction(scene))),
    Check::new("scheduled.browse-and-remove", |scene| {
        Box::pin(browse_and_remove(scene))
    }),
    Check::slow("scheduled.cron", |scene| Box::pin(cron(scene))),
];

/// Delays in milliseconds: one that a broker can keep, one that is over after it, and one that is never over here.
const SOON: i64 = 300;
const LATER: i64 = 1500;
const NEVER: i64 = 3_600_000;

const DELAY: &str = "AMQ_SCHEDULED_DELAY";
const ACTION: &str = "AMQ_SCHEDULER_ACTION";
const JOB: &str = "scheduledJobId";

fn delayed(text: &str, delay: i64) -> Outcome<Message> {
    marked(text, DELAY, delay)
}

async fn delay(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let began = Instant::now();
    send(&session, &scene.queue(), [delayed("later", LATER)?]).await?;
    send(&session, &scene.queue(), ["now"]).await?;
    expect("what is not delayed", &consumer, ["now"]).await?;
    let got = next(&consumer).await?;
    // Both clocks count whole milliseconds.
    let took = began.elapsed() + Duration::from_millis(2);
    same("what is delayed", text(&got)?, "later")?;
    ensure(took >= Duration::from_millis(1500), format!("it took {took:?}"))?;
    ensure(got.has_property(JOB)?, "it names its job")
}

async fn topic(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    send(&session, &scene.topic(), [delayed("later", SOON)?]).await?;
    // There in time for the delivery, though not for the sending.
    let consumer = session.create_consumer(&scene.topic()).await?;
    expect("what is delayed", &consumer, ["later"]).await
}

/// The first delivery and as many as are asked for, each a message of its own.
async fn repeat(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let mut message = delayed("again", SOON)?;
    message.set_property("AMQ_SCHEDULED_PERIOD", SOON)?;
    message.set_property("AMQ_SCHEDULED_REPEAT", 2)?;
    send(&session, &scene.queue(), [message]).await?;
    let mut ids = BTreeSet::new();
    for _ in 0..3 {
        let got = next(&consumer).await?;
        same("a delivery", text(&got)?, "again")?;
        ids.insert(got.message_id());
    }
    same("their ids", ids.len(), 3)?;
    send(&session, &scene.queue(), [delayed("no more", LATER)?]).await?;
    expect("the end", &consumer, ["no more"]).await
}

/// What is rolled back is not scheduled.
async fn transaction(scene: &Scene) -> Outcome {
    let session = scene.transacted().await?;
    let outside = scene.auto().await?;
    let consumer = outside.create_consumer(&scene.queue()).await?;
    send(&session, &scene.queue(), [delayed("rolled back", SOON)?]).await?;
    session.rollback().await?;
    send(&session, &scene.queue(), [delayed("committed", SOON)?]).await?;
    session.commit().await?;
    expect("what was committed", &consumer, ["committed"]).await?;
    nothing_more("not the other", &outside, &consumer, &scene.queue()).await
}

/// Tells the scheduler what to do.
async fn manage(session: &Session, mut order: Message, action: &str) -> Outcome {
    order.set_property(ACTION, action)?;
    let management = Destination::topic("ActiveMQ.Scheduler.Management");
    send(session, &management, [order]).await
}

async fn remove(session: &Session, job: &str) -> Outcome {
    let mut order = Message::new();
    order.set_property(JOB, job)?;
    manage(session, order, "REMOVE").await
}

/// The job of this check's message, as the scheduler tells.
async fn browse(scene: &Scene, session: &Session) -> Outcome<String> {
    let inbox = session.create_temporary_queue().await?;
    let answers = session.create_consumer(&inbox).await?;
    let mut order = Message::new();
    order.set_reply_to(inbox.destination().clone());
    manage(session, order, "BROWSE").await?;
    loop {
        // There are the jobs of other checks too.
        let job = next(&answers).await?;
        if job.property_string("check")?.as_deref() == Some(scene.name()) {
            let id = job.property_string(JOB)?;
            return id
                .map(|id| id.as_ref().to_owned())
                .ok_or_else(|| Failure::new("a job has no id"));
        }
    }
}

async fn browse_and_remove(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let mut message = delayed("removed", SOON * 3)?;
    message.set_property("check", scene.name())?;
    send(&session, &scene.queue(), [message]).await?;
    let job = browse(scene, &session).await?;
    remove(&session, &job).await?;
    send(&session, &scene.queue(), [delayed("kept", LATER)?]).await?;
    expect("the one that was not removed", &consumer, ["kept"]).await?;
    // One that is far away does not keep the broker from anything, and goes as well.
    let mut message = delayed("far away", NEVER)?;
    message.set_property("check", scene.name())?;
    send(&session, &scene.queue(), [message]).await?;
    let far = browse(scene, &session).await?;
    ensure(far != job, "each job has an id of its own")?;
    remove(&session, &far).await
}

/// Each full minute.
async fn cron(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let message = marked("each minute", "AMQ_SCHEDULED_CRON", "* * * * *")?;
    send(&session, &scene.queue(), [message]).await?;
    let got = consumer.receive_timeout(Duration::from_secs(75)).await?;
    let got = got.ok_or_else(|| Failure::new("nothing came at the full minute"))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let past = now.map_or(0, |now| now.as_secs() % 60);
    ensure(past < 10, format!("it came {past} seconds past the minute"))?;
    let job = got.property_string(JOB)?;
    let job = job.ok_or_else(|| Failure::new("the message does not name its job"))?;
    remove(&session, &job).await
}
