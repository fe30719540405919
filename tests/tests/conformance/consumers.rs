//! How much goes to which consumer: prefetch, exclusiveness, priority, groups.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openwire_client::{AcknowledgeMode, Consumer, ConsumerOptions, Message, SendOptions, Session};

use crate::check::{Check, Failure, Outcome, ensure, same};
use crate::scene::Scene;
use crate::steps::{empty, expect, next, nothing_more, numbered, send, text, texts};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("prefetch.zero", |scene| Box::pin(prefetch_zero(scene))),
    Check::new("prefetch.zero-late", |scene| Box::pin(prefetch_zero_late(scene))),
    Check::new("prefetch.one", |scene| Box::pin(prefetch_one(scene))),
    Check::new("prefetch.by-destination-option", |scene| {
        Box::pin(by_option(scene))
    }),
    Check::new("prefetch.by-policy", |scene| Box::pin(by_policy(scene))),
    Check::new("consumer.exclusive", |scene| Box::pin(exclusive(scene))),
    Check::new("consumer.priority", |scene| Box::pin(priority(scene))),
    Check::new("consumer.close-wakes-receive", |scene| {
        Box::pin(close_wakes(scene))
    }),
    Check::new("consumer.message-priority", |scene| {
        Box::pin(message_priority(scene))
    }),
    Check::new("groups.sticky", |scene| Box::pin(groups_sticky(scene))),
    Check::new("groups.close", |scene| Box::pin(groups_close(scene))),
    Check::new("groups.move-on", |scene| Box::pin(groups_move_on(scene))),
];

async fn with_prefetch(scene: &Scene, prefetch: u16) -> Outcome<Consumer> {
    let options = ConsumerOptions::with_prefetch(prefetch);
    let session = scene.auto().await?;
    Ok(session.create_consumer_with(&scene.queue(), options).await?)
}

/// Nothing is sent ahead: who asks gets it.
async fn prefetch_zero(scene: &Scene) -> Outcome {
    let a = with_prefetch(scene, 0).await?;
    let b = with_prefetch(scene, 0).await?;
    ensure(a.receive_no_wait().await?.is_none(), "nothing is there")?;
    let nothing = a.receive_timeout(Duration::from_millis(50)).await?;
    ensure(nothing.is_none(), "nothing comes")?;
    send(&scene.auto().await?, &scene.queue(), numbered(1..=4)).await?;
    expect("who asks first", &a, ["m1"]).await?;
    expect("who asks then", &b, ["m2", "m3"]).await?;
    let last = a.receive_no_wait().await?;
    let last = last.ok_or_else(|| Failure::new("one message is there"))?;
    same("the last one", text(&last)?, "m4")?;
    ensure(b.receive_no_wait().await?.is_none(), "nothing is left")
}

/// A message that comes while somebody asks.
async fn prefetch_zero_late(scene: &Scene) -> Outcome {
    let consumer = with_prefetch(scene, 0).await?;
    let session = scene.auto().await?;
    let sending = async {
        // The question has gone out by the time that this one is answered.
        empty("another queue", &session, &scene.queue_of(".other")).await?;
        send(&session, &scene.queue(), ["late"]).await
    };
    let (asked, sent) = tokio::join!(expect("what comes late", &consumer, ["late"]), sending);
    sent.and(asked)
}

/// Who takes nothing holds no more than its prefetch; the others get the rest.
async fn held(scene: &Scene, idle: &Consumer, busy: &Consumer, prefetch: usize) -> Outcome {
    send(&scene.auto().await?, &scene.queue(), numbered(1..=10)).await?;
    let mut all = texts(busy, 10 - prefetch).await?;
    all.append(&mut texts(idle, prefetch).await?);
    let all: BTreeSet<_> = all.into_iter().collect();
    same("every message once", all.len(), 10)
}

async fn prefetch_one(scene: &Scene) -> Outcome {
    let idle = with_prefetch(scene, 1).await?;
    let busy = with_prefetch(scene, 1).await?;
    held(scene, &idle, &busy, 1).await
}

async fn by_option(scene: &Scene) -> Outcome {
    let queue = scene.queue_of("?consumer.prefetchSize=2");
    let idle = scene.auto().await?.create_consumer(&queue).await?;
    let busy = scene.auto().await?.create_consumer(&queue).await?;
    held(scene, &idle, &busy, 2).await
}

async fn by_policy(scene: &Scene) -> Outcome {
    let connection = scene.connect_with("jms.prefetchPolicy.all=3").await?;
    let a = connection.create_session(AcknowledgeMode::Auto).await?;
    let b = connection.create_session(AcknowledgeMode::Auto).await?;
    let idle = a.create_consumer(&scene.queue()).await?;
    let busy = b.create_consumer(&scene.queue()).await?;
    held(scene, &idle, &busy, 3).await
}

/// One gets everything, and when it goes, the next one.
async fn exclusive(scene: &Scene) -> Outcome {
    let queue = scene.queue_of("?consumer.exclusive=true");
    let session = scene.auto().await?;
    let first = scene.auto().await?.create_consumer(&queue).await?;
    let second = scene.auto().await?.create_consumer(&queue).await?;
    send(&session, &scene.queue(), numbered(1..=20)).await?;
    expect("the first takes all", &first, numbered(1..=20)).await?;
    first.close().await?;
    send(&session, &scene.queue(), numbered(21..=25)).await?;
    expect("then the second", &second, numbered(21..=25)).await?;
    nothing_more("no more", &session, &second, &scene.queue()).await
}

async fn priority(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let low = scene.queue_of("?consumer.priority=1");
    let low = scene.auto().await?.create_consumer(&low).await?;
    let high = scene.queue_of("?consumer.priority=10");
    let high = scene.auto().await?.create_consumer(&high).await?;
    send(&session, &scene.queue(), numbered(1..=20)).await?;
    expect("the higher takes all", &high, numbered(1..=20)).await?;
    high.close().await?;
    send(&session, &scene.queue(), ["and then"]).await?;
    expect("the lower takes over", &low, ["and then"]).await
}

async fn close_wakes(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    let (waiting, closing) = tokio::join!(consumer.receive(), async {
        // Polled after the consumer waits.
        session.close().await
    });
    closing?;
    match waiting {
        Err(error) if error.is_closed() => Ok(()),
        other => Err(Failure::new(format!(
            "a consumer that was closed returned {other:?}"
        ))),
    }
}

/// The client puts what waits into the order of the priorities; nothing is lost or doubled by it.
async fn message_priority(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let producer = session.create_producer(&scene.queue()).await?;
    for priority in [1, 9, 4, 0, 7] {
        let mut how = SendOptions::default();
        how.priority = priority;
        producer.send_with(priority.to_string(), how).await?;
    }
    let consumer = session.create_consumer(&scene.queue()).await?;
    let mut got = Vec::new();
    for _ in 0..5 {
        let message = next(&consumer).await?;
        same(
            "its own priority",
            text(&message)?,
            message.priority().to_string(),
        )?;
        got.push(message.priority());
    }
    got.sort_unstable();
    same("all of them", got, [0, 1, 4, 7, 9])
}

/// A message of a group.
fn grouped(text: String, group: &str, sequence: i32) -> Message {
    let mut message = Message::text(text);
    message.set_group(group, sequence);
    message
}

async fn send_groups(session: &Session, scene: &Scene, groups: usize, each: usize) -> Outcome {
    for number in 0..each {
        for group in 0..groups {
            let message = grouped(number.to_string(), &format!("g{group}"), 0);
            send(session, &scene.queue(), [message]).await?;
        }
    }
    Ok(())
}

/// The messages of a group go to one consumer, in their order, and the first says so.
async fn groups_sticky(scene: &Scene) -> Outcome {
    const GROUPS: usize = 10;
    const EACH: usize = 10;
    let session = scene.auto().await?;
    let a = scene.auto().await?.create_consumer(&scene.queue()).await?;
    let b = scene.auto().await?.create_consumer(&scene.queue()).await?;
    send_groups(&session, scene, GROUPS, EACH).await?;
    let mut owners: BTreeMap<String, (bool, usize)> = BTreeMap::new();
    for _ in 0..GROUPS * EACH {
        let (is_a, got) = tokio::select! {
            got = next(&a) => (true, got?),
            got = next(&b) => (false, got?),
        };
        let group = got.group_id().unwrap_or_default().to_owned();
        let first = !owners.contains_key(&group);
        let (owner, seen) = owners.entry(group.clone()).or_insert((is_a, 0));
        same(format!("the owner of {group}"), is_a, *owner)?;
        same(format!("the order of {group}"), text(&got)?, seen.to_string())?;
        same("the first says so", got.is_group_first_for_consumer(), first)?;
        *seen += 1;
    }
    let of_a = owners.values().filter(|(is_a, _)| *is_a).count();
    same("the groups", owners.len(), GROUPS)?;
    ensure((1..GROUPS).contains(&of_a), format!("both have some, one {of_a}"))
}

/// A sequence of -1 closes a group: what comes next is the first one again.
async fn groups_close(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let consumer = scene.auto().await?.create_consumer(&scene.queue()).await?;
    for sequence in [1, 2, -1, 1] {
        let message = grouped(sequence.to_string(), "g", sequence);
        send(&session, &scene.queue(), [message]).await?;
    }
    let mut firsts = Vec::new();
    for _ in 0..4 {
        firsts.push(next(&consumer).await?.is_group_first_for_consumer());
    }
    same(
        "the first, and the first after the end",
        (firsts[0], firsts[3]),
        (true, true),
    )?;
    same("not the second", firsts[1], false)
}

/// When the owner goes, its groups get another one.
async fn groups_move_on(scene: &Scene) -> Outcome {
    let session = scene.auto().await?;
    let leaving = scene.connect().await?;
    let other = leaving.create_session(AcknowledgeMode::Auto).await?;
    let stays = scene.auto().await?.create_consumer(&scene.queue()).await?;
    let goes = other.create_consumer(&scene.queue()).await?;
    send_groups(&session, scene, 10, 1).await?;
    let mut left = Vec::new();
    for _ in 0..10 {
        let (is_leaving, got) = tokio::select! {
            got = next(&goes) => (true, got?),
            got = next(&stays) => (false, got?),
        };
        if is_leaving {
            left.push(got.group_id().unwrap_or_default().to_owned());
        }
    }
    ensure(!left.is_empty(), "the one that goes owns some")?;
    leaving.close().await?;
    send_groups(&session, scene, 10, 1).await?;
    for _ in 0..10 {
        let got = next(&stays).await?;
        let group = got.group_id().unwrap_or_default().to_owned();
        same(
            format!("{group} is new to it"),
            got.is_group_first_for_consumer(),
            left.contains(&group),
        )?;
    }
    Ok(())
}
