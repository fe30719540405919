//! What brokers tell of themselves as typed events, the list of destinations that follows from it, and the scheduler.
//!
//! The broker tells of the destinations of other checks as well, and schedules their messages.

use std::time::{Duration, SystemTime};

use openwire_client::advisory::{Advisories, AdvisoryEvent, DestinationListing, DestinationSource, topics};
use openwire_client::schedule::{Schedule, Scheduler};
use openwire_client::wire::DestinationKind;
use openwire_client::{AcknowledgeMode, Connection, Destination, Error, Message, SendOptions, Session};

use crate::check::{Check, Failure, Outcome, ensure, refused, same};
use crate::scene::Scene;
use crate::steps::{PATIENCE, empty, expect, next, nothing_more, numbered, send, text, until_expired};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("listening.connections", |scene| Box::pin(connections(scene))),
    Check::new("listening.consumers", |scene| Box::pin(consumers(scene))),
    Check::new("listening.producers", |scene| Box::pin(producers(scene))),
    Check::new("listening.existing", |scene| Box::pin(existing(scene))),
    Check::new("listening.several", |scene| Box::pin(several(scene))),
    Check::new("listening.comma", |scene| Box::pin(comma(scene))),
    Check::new("listening.destinations", |scene| Box::pin(destinations(scene))),
    Check::new("listening.expired", |scene| Box::pin(expired(scene))),
    Check::new("listening.dead-letter", |scene| Box::pin(dead_letter(scene))),
    Check::new("listening.advisories-only", |scene| {
        Box::pin(advisories_only(scene))
    }),
    Check::new("destinations.listed", |scene| Box::pin(listed(scene))),
    Check::new("destinations.temporary", |scene| Box::pin(temporary(scene))),
    Check::restarting("destinations.after-a-restart", |scene| {
        Box::pin(listed_anew(scene))
    }),
    Check::new("scheduler.browse", |scene| Box::pin(browse(scene))),
    Check::new("scheduler.between", |scene| Box::pin(between(scene))),
    Check::new("scheduler.remove", |scene| Box::pin(remove(scene))),
    Check::new("scheduler.transaction", |scene| Box::pin(transaction(scene))),
    Check::new("scheduler.too-many-repetitions", |scene| {
        Box::pin(too_many(scene))
    }),
    Check::restarting("scheduler.survives-and-remove-all", |scene| {
        Box::pin(survives(scene))
    }),
];

async fn listen(scene: &Scene, topic: &Destination) -> Outcome<Advisories> {
    Ok(scene.connect().await?.advisories(topic).await?)
}

/// What is told next.
async fn told(advisories: &mut Advisories) -> Outcome<AdvisoryEvent> {
    match advisories.next_timeout(PATIENCE).await? {
        Some(advisory) => Ok(advisory.event),
        None => Err(Failure::new(format!(
            "nothing was told on {} within {PATIENCE:?}",
            advisories.topic()
        ))),
    }
}

/// What is found in what is told.
async fn find<T>(
    advisories: &mut Advisories,
    mut found: impl FnMut(AdvisoryEvent) -> Option<T>,
) -> Outcome<T> {
    loop {
        if let Some(found) = found(told(advisories).await?) {
            return Ok(found);
        }
    }
}

fn other(event: &AdvisoryEvent) -> Failure {
    Failure::new(format!("something else is told: {event:?}"))
}

async fn connections(scene: &Scene) -> Outcome {
    let mut advisories = listen(scene, &topics::connections()).await?;
    let connection = scene.connect_as("watched").await?;
    let client = connection.client_id().to_owned();
    let id = connection.id().clone();
    let started = find(&mut advisories, |event| match event {
        AdvisoryEvent::ConnectionStarted(info) if info.client_id.as_deref() == Some(&client) => Some(info),
        _ => None,
    })
    .await?;
    same("the connection", started.connection_id.as_ref(), Some(&id))?;
    same(
        "its password",
        started.password.as_deref().unwrap_or_default(),
        "",
    )?;
    connection.close().await?;
    find(&mut advisories, |event| match event {
        AdvisoryEvent::ConnectionStopped(stopped) => (stopped == id).then_some(()),
        _ => None,
    })
    .await
}

/// They are counted.
async fn consumers(scene: &Scene) -> Outcome {
    for destination in [scene.queue(), scene.topic()] {
        let mut advisories = listen(scene, &topics::consumers(&destination)).await?;
        let session = scene.auto().await?;
        let first = session.create_consumer(&destination).await?;
        let second = session.create_consumer(&destination).await?;
        for (which, wanted) in [(&first, 1), (&second, 2)] {
            match told(&mut advisories).await? {
                AdvisoryEvent::ConsumerAdded {
                    destination: of,
                    consumer,
                    count,
                } => {
                    same("the destination", of, destination.clone())?;
                    same("the consumer", consumer.consumer_id.as_ref(), Some(which.id()))?;
                    same("the count", count, Some(wanted))?;
                }
                event => return Err(other(&event)),
            }
        }
        for (which, left) in [(first, 1), (second, 0)] {
            let id = which.id().clone();
            which.close().await?;
            match told(&mut advisories).await? {
                AdvisoryEvent::ConsumerRemoved { consumer, count, .. } => {
                    same("the consumer", consumer, id)?;
                    same("the count", count, Some(left))?;
                }
                event => return Err(other(&event)),
            }
        }
    }
    Ok(())
}

async fn producers(scene: &Scene) -> Outcome {
    for destination in [scene.queue(), scene.topic()] {
        let mut advisories = listen(scene, &topics::producers(&destination)).await?;
        let session = scene.auto().await?;
        let made = session.create_producer(&destination).await?;
        match told(&mut advisories).await? {
            AdvisoryEvent::ProducerAdded {
                destination: to,
                producer,
                count,
            } => {
                same("the destination", to.as_ref(), Some(&destination))?;
                same("the producer", producer.producer_id.as_ref(), Some(made.id()))?;
                same("the count", count, Some(1))?;
            }
            event => return Err(other(&event)),
        }
        let id = made.id().clone();
        made.close().await?;
        match told(&mut advisories).await? {
            AdvisoryEvent::ProducerRemoved { producer, count, .. } => {
                same("the producer", producer, id)?;
                same("the count", count, Some(0))?;
            }
            event => return Err(other(&event)),
        }
    }
    Ok(())
}

/// Who listens late is told of what there is.
async fn existing(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let mut advisories = listen(scene, &topics::consumers(&scene.queue())).await?;
    match told(&mut advisories).await? {
        AdvisoryEvent::ConsumerAdded { consumer: there, .. } => {
            same("the consumer", there.consumer_id.as_ref(), Some(consumer.id()))?;
        }
        event => return Err(other(&event)),
    }
    let mut advisories = listen(scene, &topics::producers(&scene.queue())).await?;
    match told(&mut advisories).await? {
        AdvisoryEvent::ProducerAdded { producer: there, .. } => {
            same("the producer", there.producer_id.as_ref(), Some(producer.id()))?;
        }
        event => return Err(other(&event)),
    }
    let mut advisories = listen(scene, &topics::destinations(DestinationKind::Queue)).await?;
    find(&mut advisories, |event| match event {
        AdvisoryEvent::DestinationAdded(queue) => (queue == scene.queue()).then_some(()),
        _ => None,
    })
    .await
}

/// Several topics are listened to as one, and each advisory names its broker.
async fn several(scene: &Scene) -> Outcome {
    let topic = topics::several(&[
        topics::consumers(&scene.queue()),
        topics::producers(&scene.queue()),
    ]);
    let mut advisories = listen(scene, &topic).await?;
    let session = scene.auto().await?;
    let _producer = session.create_producer(&scene.queue()).await?;
    let advisory = advisories.next_timeout(PATIENCE).await?;
    let advisory = advisory.ok_or_else(|| Failure::new("nothing was told"))?;
    ensure(
        matches!(advisory.event, AdvisoryEvent::ProducerAdded { .. }),
        "it tells of the producer",
    )?;
    ensure(advisory.broker_id().is_some(), "it has the broker's id")?;
    ensure(advisory.broker_name().is_some(), "and its name")?;
    let _consumer = session.create_consumer(&scene.queue()).await?;
    let event = told(&mut advisories).await?;
    ensure(
        matches!(event, AdvisoryEvent::ConsumerAdded { .. }),
        "it tells of the consumer",
    )
}

/// A comma in a name does not make the advisories' topic several.
async fn comma(scene: &Scene) -> Outcome {
    let list = Destination::queue(&format!("{0}.a,{0}.b", scene.name()));
    let mut advisories = listen(scene, &topics::consumers(&list)).await?;
    let session = scene.auto().await?;
    let _consumer = session.create_consumer(&list).await?;
    match told(&mut advisories).await? {
        AdvisoryEvent::ConsumerAdded { destination, .. } => same("the destination", destination, list),
        event => Err(other(&event)),
    }
}

async fn destinations(scene: &Scene) -> Outcome {
    let kinds = [DestinationKind::Queue, DestinationKind::Topic];
    for (kind, destination) in kinds.into_iter().zip([scene.queue(), scene.topic()]) {
        let mut advisories = listen(scene, &topics::destinations(kind)).await?;
        let connection = scene.connect().await?;
        let session = connection.create_session(AcknowledgeMode::Auto).await?;
        send(&session, &destination, ["makes it"]).await?;
        find(&mut advisories, |event| match event {
            AdvisoryEvent::DestinationAdded(added) => (added == destination).then_some(()),
            _ => None,
        })
        .await?;
        connection.destroy_destination(&destination).await?;
        find(&mut advisories, |event| match event {
            AdvisoryEvent::DestinationRemoved(removed) => (removed == destination).then_some(()),
            _ => None,
        })
        .await?;
    }
    Ok(())
}

async fn expired(scene: &Scene) -> Outcome {
    const SHORT: Duration = Duration::from_millis(20);
    let mut advisories = listen(scene, &topics::expired(&scene.queue())).await?;
    let session = scene.auto().await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let mut how = SendOptions::default();
    how.time_to_live = SHORT;
    let id = producer.send_with("expires", how).await?;
    until_expired(SHORT).await;
    let consumer = session.create_consumer(&scene.queue()).await?;
    nothing_more("it is not delivered", &session, &consumer, &scene.queue()).await?;
    match told(&mut advisories).await? {
        AdvisoryEvent::Expired(about) => {
            same("where", about.destination, scene.queue())?;
            same(
                "which",
                about.message_id.as_deref(),
                Some(id.to_string().as_str()),
            )
        }
        event => Err(other(&event)),
    }
}

async fn dead_letter(scene: &Scene) -> Outcome {
    let mut advisories = listen(scene, &topics::dead_lettered(&scene.queue())).await?;
    let connection = scene
        .connect_with("jms.redeliveryPolicy.maximumRedeliveries=0")
        .await?;
    let session = connection.create_session(AcknowledgeMode::Transacted).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    send(&scene.auto().await?, &scene.queue(), ["dies"]).await?;
    let message = next(&consumer).await?;
    session.rollback().await?;
    match told(&mut advisories).await? {
        AdvisoryEvent::DeadLettered(about) => {
            same("where", about.destination, scene.queue())?;
            same("which", about.message_id, message.message_id().map(Into::into))
        }
        event => Err(other(&event)),
    }
}

async fn advisories_only(scene: &Scene) -> Outcome {
    let connection = scene.connect().await?;
    for wrong in [
        scene.topic(),
        Destination::queue("ActiveMQ.Advisory.Queue"),
        Destination::topic("ActiveMQ.Advisory.Queue,a"),
    ] {
        let listening = connection.advisories(&wrong).await;
        refused(&wrong, listening, Error::is_invalid_destination)?;
    }
    Ok(())
}

/// Waits until the list is such.
async fn until_listed(
    what: &str,
    source: &DestinationSource,
    so: impl FnMut(&DestinationListing) -> bool,
) -> Outcome {
    match tokio::time::timeout(PATIENCE, source.wait_for(so)).await {
        Ok(listed) => Ok(listed?),
        Err(_) => Err(Failure::new(format!("not within {PATIENCE:?}: {what}"))),
    }
}

/// What is there already, and what comes and goes.
async fn listed(scene: &Scene) -> Outcome {
    let (queue, topic) = (scene.queue(), scene.topic());
    send(&scene.auto().await?, &queue, ["makes it"]).await?;
    let connection = scene.connect().await?;
    let source = connection.destinations().await?;
    until_listed("the queue that was there", &source, |all| all.contains(&queue)).await?;
    ensure(!source.listing().contains(&topic), "there is no such topic yet")?;
    send(&scene.auto().await?, &topic, ["makes it"]).await?;
    until_listed("the topic that came", &source, |all| all.contains(&topic)).await?;
    let listing = source.listing();
    ensure(listing.queues().any(|listed| listed == queue), "it is a queue")?;
    ensure(listing.topics().any(|listed| listed == topic), "it is a topic")?;
    scene.connect().await?.destroy_destination(&queue).await?;
    until_listed("the queue has gone", &source, |all| !all.contains(&queue)).await?;
    connection.close().await?;
    let over = source.wait_for(|all| all.is_empty()).await;
    refused("waiting once it is closed", over, Error::is_closed)
}

async fn temporary(scene: &Scene) -> Outcome {
    let source = scene.connect().await?.destinations().await?;
    let session = scene.auto().await?;
    let queue = session.create_temporary_queue().await?;
    let topic = session.create_temporary_topic().await?;
    let (queue_name, topic_name) = (queue.destination().clone(), topic.destination().clone());
    until_listed("both come", &source, |all| {
        all.contains(&queue_name) && all.contains(&topic_name)
    })
    .await?;
    let listing = source.listing();
    ensure(
        listing.temporary_queues().any(|listed| listed == queue_name),
        "it is a temporary queue",
    )?;
    ensure(
        listing.temporary_topics().any(|listed| listed == topic_name),
        "it is a temporary topic",
    )?;
    queue.delete().await?;
    topic.delete().await?;
    until_listed("both go", &source, |all| {
        !all.contains(&queue_name) && !all.contains(&topic_name)
    })
    .await
}

/// The list begins anew with what the broker has kept.
async fn listed_anew(scene: &Scene) -> Outcome {
    let (kept, lost) = (scene.queue_of(".kept"), scene.topic());
    let connection = scene.connect_to(&scene.failover()).await?;
    let source = connection.destinations().await?;
    let session = scene.auto().await?;
    send(&session, &kept, ["kept"]).await?;
    send(&session, &lost, ["lost"]).await?;
    until_listed("before the restart", &source, |all| {
        all.contains(&kept) && all.contains(&lost)
    })
    .await?;
    scene.restart().await?;
    until_listed("after the restart", &source, |all| {
        all.contains(&kept) && !all.contains(&lost)
    })
    .await
}

/// Later than any check takes.
const LATER: Duration = Duration::from_secs(3600);

/// When nothing else is due.
const FAR: Duration = Duration::from_secs(30 * 24 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Sends a text that is delivered later.
async fn schedule(session: &Session, scene: &Scene, text: &str, schedule: &Schedule) -> Outcome {
    let mut message = Message::text(text);
    message.set_property("check", scene.name())?;
    message.set_schedule(schedule)?;
    send(session, &scene.queue(), [message]).await
}

/// What waits of this check's.
async fn waiting(scene: &Scene, scheduler: &Scheduler) -> Outcome<Vec<Message>> {
    own(scene, scheduler.browse().await?)
}

/// Those of this check, in the order of their texts.
fn own(scene: &Scene, messages: Vec<Message>) -> Outcome<Vec<Message>> {
    let mut own = Vec::new();
    for message in messages {
        if message.property_string("check")?.as_deref() == Some(scene.name()) {
            own.push((text(&message)?, message));
        }
    }
    own.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(own.into_iter().map(|(_, message)| message).collect())
}

fn texts_of(messages: &[Message]) -> Outcome<Vec<String>> {
    messages.iter().map(text).collect()
}

async fn started(scene: &Scene) -> Outcome<(Connection, Session, Scheduler)> {
    let connection = scene.connect().await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let scheduler = connection.scheduler().await?;
    Ok((connection, session, scheduler))
}

async fn browse(scene: &Scene) -> Outcome {
    let (connection, session, scheduler) = started(scene).await?;
    same("before", waiting(scene, &scheduler).await?.len(), 0)?;
    let schedules = [
        ("m1", Schedule::after(LATER)),
        ("m2", Schedule::after(LATER).every(LATER).repeat(2)),
        ("m3", Schedule::cron("0 3 1 1 *")),
    ];
    for (text, when) in &schedules {
        schedule(&session, scene, text, when).await?;
    }
    let waiting = waiting(scene, &scheduler).await?;
    same("what waits", texts_of(&waiting)?, numbered(1..=3))?;
    for (message, (text, when)) in waiting.iter().zip(&schedules) {
        let told = message.schedule()?;
        let told = told.ok_or_else(|| Failure::new(format!("{text} has no schedule")))?;
        same(format!("the delay of {text}"), told.delay(), when.delay())?;
        same(format!("the period of {text}"), told.period(), when.period())?;
        same(
            format!("the repetitions of {text}"),
            told.repetitions(),
            when.repetitions(),
        )?;
        same(
            format!("the entry of {text}"),
            told.cron_entry(),
            when.cron_entry(),
        )?;
        same(
            format!("where {text} goes to"),
            message.original_destination(),
            Some(&scene.queue()),
        )?;
    }
    connection.stop().await?;
    let stopped = scheduler.browse().await;
    refused("browsing while stopped", stopped, Error::is_illegal_state)?;
    connection.start().await?;
    for message in waiting {
        remove_job(&scheduler, &message).await?;
    }
    Ok(())
}

async fn remove_job(scheduler: &Scheduler, message: &Message) -> Outcome {
    let job = message.scheduled_job_id()?;
    let job = job.ok_or_else(|| Failure::new("a job has no id"))?;
    Ok(scheduler.remove(&job).await?)
}

/// Only what is due between two points in time is shown, and removed.
async fn between(scene: &Scene) -> Outcome {
    let (_connection, session, scheduler) = started(scene).await?;
    for (text, after) in [("m1", FAR), ("m2", FAR + 4 * DAY), ("m3", FAR + 8 * DAY)] {
        schedule(&session, scene, text, &Schedule::after(after)).await?;
    }
    let far = SystemTime::now() + FAR;
    let shown = scheduler.browse_between(far + DAY, far + 6 * DAY).await?;
    same("what is shown", texts_of(&own(scene, shown)?)?, ["m2"])?;
    scheduler.remove_between(far + DAY, far + 6 * DAY).await?;
    let left = waiting(scene, &scheduler).await?;
    same("what is left", texts_of(&left)?, ["m1", "m3"])?;
    scheduler.remove_between(far - DAY, far + 9 * DAY).await?;
    same("in the end", waiting(scene, &scheduler).await?.len(), 0)
}

async fn remove(scene: &Scene) -> Outcome {
    let (_connection, session, scheduler) = started(scene).await?;
    for text in ["m1", "m2"] {
        schedule(&session, scene, text, &Schedule::after(LATER)).await?;
    }
    let both = waiting(scene, &scheduler).await?;
    same("what waits", texts_of(&both)?, numbered(1..=2))?;
    let [first, second] = &both[..] else {
        return Err(Failure::new("two wait"));
    };
    remove_job(&scheduler, first).await?;
    // It has gone already, which is no error.
    remove_job(&scheduler, first).await?;
    same(
        "what is left",
        texts_of(&waiting(scene, &scheduler).await?)?,
        ["m2"],
    )?;
    remove_job(&scheduler, second).await?;
    same("in the end", waiting(scene, &scheduler).await?.len(), 0)?;
    empty("nothing was delivered", &session, &scene.queue()).await
}

/// It waits from the commit on.
async fn transaction(scene: &Scene) -> Outcome {
    let (_connection, _, scheduler) = started(scene).await?;
    let transacted = scene.transacted().await?;
    for text in ["rolled back", "committed"] {
        schedule(&transacted, scene, text, &Schedule::after(LATER)).await?;
        let early = waiting(scene, &scheduler).await?;
        same("before the end", texts_of(&early)?, Vec::<String>::new())?;
        match text {
            "committed" => transacted.commit().await?,
            _ => transacted.rollback().await?,
        }
    }
    let waiting = waiting(scene, &scheduler).await?;
    same("what waits", texts_of(&waiting)?, ["committed"])?;
    remove_job(&scheduler, &waiting[0]).await
}

/// More than `maxSchedulerRepeatAllowed`.
async fn too_many(scene: &Scene) -> Outcome {
    let (_connection, session, scheduler) = started(scene).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    let mut message = Message::text("too often");
    message.set_property("check", scene.name())?;
    message.set_schedule(&Schedule::after(LATER).every(LATER).repeat(1001))?;
    refused("1001 repetitions", producer.send(message).await, |error| {
        error.throwable().is_some()
    })?;
    same("what waits", waiting(scene, &scheduler).await?.len(), 0)
}

/// What is scheduled is in the store, until all is removed.
async fn survives(scene: &Scene) -> Outcome {
    let (connection, session, scheduler) = started(scene).await?;
    for text in ["m1", "m2"] {
        schedule(&session, scene, text, &Schedule::after(LATER)).await?;
    }
    let mut before = Vec::new();
    for message in waiting(scene, &scheduler).await? {
        before.push(message.scheduled_job_id()?);
    }
    connection.close().await?;
    scene.restart().await?;
    let (_connection, session, scheduler) = started(scene).await?;
    let after = scheduler.browse().await?;
    same(
        "what has survived",
        texts_of(&own(scene, after.clone())?)?,
        numbered(1..=2),
    )?;
    let mut ids = Vec::new();
    for message in own(scene, after)? {
        ids.push(message.scheduled_job_id()?);
    }
    same("their ids", ids, before)?;
    scheduler.remove_all().await?;
    same("in the end", scheduler.browse().await?.len(), 0)?;
    schedule(
        &session,
        scene,
        "m3",
        &Schedule::after(Duration::from_millis(100)),
    )
    .await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    expect("the scheduler goes on", &consumer, ["m3"]).await
}
