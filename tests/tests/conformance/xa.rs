//! Distributed transactions, as a transaction manager goes about them.
//!
//! The branches of other checks are at the same broker, so a recovery is asked only about one's own.

use std::time::Duration;

use openwire_client::xa::{End, Start, Vote, XaCode, XaSession, Xid};
use openwire_client::{AcknowledgeMode, Connection, Destination, Error, Message, Session};

use crate::check::{Check, Outcome, ensure, refused, same};
use crate::scene::Scene;
use crate::steps::{empty, eventually, expect, next, nothing_more, numbered, redelivery, send, text};

pub(crate) const CHECKS: &[Check] = &[
    Check::new("xa.one-phase", |scene| Box::pin(one_phase(scene))),
    Check::new("xa.two-phase", |scene| Box::pin(two_phase(scene))),
    Check::new("xa.topic", |scene| Box::pin(topic(scene))),
    Check::new("xa.rollback", |scene| Box::pin(rollback(scene))),
    Check::new("xa.rollback-prepared", |scene| Box::pin(rollback_prepared(scene))),
    Check::new("xa.read-only", |scene| Box::pin(read_only(scene))),
    Check::new("xa.receive-and-send", |scene| Box::pin(receive_and_send(scene))),
    Check::new("xa.redelivery-counts", |scene| Box::pin(counts(scene))),
    Check::new("xa.durable-subscription", |scene| Box::pin(durable(scene))),
    Check::new("xa.suspend-resume", |scene| Box::pin(suspend_resume(scene))),
    Check::new("xa.join", |scene| Box::pin(join(scene))),
    Check::new("xa.same-resource-manager", |scene| {
        Box::pin(same_resource_manager(scene))
    }),
    Check::new("xa.recover-commit", |scene| Box::pin(recover(scene, true))),
    Check::new("xa.recover-rollback", |scene| Box::pin(recover(scene, false))),
    Check::new("xa.prepared-keeps-what-it-received", |scene| {
        Box::pin(keeps_received(scene))
    }),
    Check::new("xa.close-rolls-back", |scene| Box::pin(close_rolls_back(scene))),
    Check::new("xa.unknown-branch", |scene| Box::pin(unknown(scene))),
    Check::new("xa.second-phase-without-first", |scene| {
        Box::pin(without_first(scene))
    }),
    Check::new("xa.ended-as-failed", |scene| Box::pin(ended_as_failed(scene))),
    Check::new("xa.outside-of-a-branch", |scene| Box::pin(outside(scene))),
    Check::restarting("xa.restart-prepared", |scene| Box::pin(restart_prepared(scene))),
    Check::restarting("xa.restart-not-prepared", |scene| {
        Box::pin(restart_not_prepared(scene))
    }),
];

/// A branch that no other check has.
fn xid(scene: &Scene, branch: &str) -> Outcome<Xid> {
    Ok(Xid::new(4660, scene.name(), branch)?)
}

async fn xa_session(scene: &Scene) -> Outcome<XaSession> {
    Ok(scene.connect().await?.create_xa_session().await?)
}

/// Sends these in a new branch.
async fn send_in<M: Into<Message>>(
    session: &XaSession,
    xid: &Xid,
    to: &Destination,
    messages: impl IntoIterator<Item = M>,
) -> Outcome {
    session.start(xid, Start::New).await?;
    send(session, to, messages).await?;
    Ok(session.end(xid, End::Success).await?)
}

/// The broker has a prepared branch, or has it no more.
async fn prepared(what: &str, session: &XaSession, xid: &Xid, expected: bool) -> Outcome {
    same(what, session.recover().await?.contains(xid), expected)
}

/// It failed with this code.
#[track_caller]
fn code<T>(what: &str, result: openwire_client::Result<T>, expected: XaCode) -> Outcome {
    refused(what, result, |error| error.xa_code() == Some(expected))
}

async fn one_phase(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    let consumer = outside.create_consumer(&scene.queue()).await?;
    let session = xa_session(scene).await?;
    let xid = xid(scene, "1")?;
    send_in(&session, &xid, &scene.queue(), numbered(1..=3)).await?;
    nothing_more("before the commit", &outside, &consumer, &scene.queue()).await?;
    session.commit(&xid, true).await?;
    expect("after the commit", &consumer, numbered(1..=3)).await
}

async fn two_phase(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    let consumer = outside.create_consumer(&scene.queue()).await?;
    let session = xa_session(scene).await?;
    let xid = xid(scene, "1")?;
    send_in(&session, &xid, &scene.queue(), numbered(1..=3)).await?;
    prepared("recovered before", &session, &xid, false).await?;
    same("the vote", session.prepare(&xid).await?, Vote::Commit)?;
    prepared("recovered between", &session, &xid, true).await?;
    nothing_more("when prepared", &outside, &consumer, &scene.queue()).await?;
    session.commit(&xid, false).await?;
    expect("after the commit", &consumer, numbered(1..=3)).await?;
    prepared("recovered after", &session, &xid, false).await
}

async fn topic(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    let consumer = outside.create_consumer(&scene.topic()).await?;
    let session = xa_session(scene).await?;
    let (first, second) = (xid(scene, "1")?, xid(scene, "2")?);
    send_in(&session, &first, &scene.topic(), ["rolled back"]).await?;
    session.rollback(&first).await?;
    send_in(&session, &second, &scene.topic(), numbered(1..=2)).await?;
    session.prepare(&second).await?;
    nothing_more("before the commit", &outside, &consumer, &scene.topic()).await?;
    session.commit(&second, false).await?;
    expect("after the commit", &consumer, numbered(1..=2)).await
}

/// One that is worked on, and one that is ended.
async fn rollback(scene: &Scene) -> Outcome {
    let session = xa_session(scene).await?;
    let (working, ended, last) = (xid(scene, "working")?, xid(scene, "ended")?, xid(scene, "last")?);
    session.start(&working, Start::New).await?;
    send(&session, &scene.queue(), ["working"]).await?;
    session.rollback(&working).await?;
    send_in(&session, &ended, &scene.queue(), ["ended"]).await?;
    session.rollback(&ended).await?;
    send_in(&session, &last, &scene.queue(), ["last"]).await?;
    session.commit(&last, true).await?;
    let outside = scene.auto().await?;
    let consumer = outside.create_consumer(&scene.queue()).await?;
    expect("what was committed", &consumer, ["last"]).await?;
    nothing_more("not the others", &outside, &consumer, &scene.queue()).await
}

async fn rollback_prepared(scene: &Scene) -> Outcome {
    let session = xa_session(scene).await?;
    let xid = xid(scene, "1")?;
    send_in(&session, &xid, &scene.queue(), ["rolled back"]).await?;
    session.prepare(&xid).await?;
    session.rollback(&xid).await?;
    prepared("recovered", &session, &xid, false).await?;
    code(
        "a second phase",
        session.commit(&xid, false).await,
        XaCode::UnknownXid,
    )?;
    empty("what was sent", &scene.auto().await?, &scene.queue()).await
}

/// There is nothing to commit, and no second phase.
async fn read_only(scene: &Scene) -> Outcome {
    let session = xa_session(scene).await?;
    let xid = xid(scene, "1")?;
    session.start(&xid, Start::New).await?;
    session.end(&xid, End::Success).await?;
    same("the vote", session.prepare(&xid).await?, Vote::ReadOnly)?;
    prepared("recovered", &session, &xid, false).await?;
    code(
        "a second phase",
        session.commit(&xid, false).await,
        XaCode::UnknownXid,
    )
}

/// What is received and what is sent belong together, branch by branch.
async fn receive_and_send(scene: &Scene) -> Outcome {
    let (input, output) = (scene.queue_of(".in"), scene.queue_of(".out"));
    let outside = scene.auto().await?;
    send(&outside, &input, numbered(1..=6)).await?;
    let arrived = outside.create_consumer(&output).await?;
    let session = xa_session(scene).await?;
    let consumer = session.create_consumer(&input).await?;
    let producer = session.create_producer(&output).await?;
    for (branch, one_phase) in [("1", true), ("2", false)] {
        let xid = xid(scene, branch)?;
        session.start(&xid, Start::New).await?;
        for _ in 0..3 {
            producer.send(next(&consumer).await?).await?;
        }
        session.end(&xid, End::Success).await?;
        if !one_phase {
            session.prepare(&xid).await?;
        }
        nothing_more("before the commit", &outside, &arrived, &output).await?;
        session.commit(&xid, one_phase).await?;
        let numbers = if one_phase { 1..=3 } else { 4..=6 };
        expect("after the commit", &arrived, numbered(numbers)).await?;
    }
    consumer.close().await?;
    empty("what was received", &outside, &input).await
}

/// After each rollback the same messages come in the same order, and count.
async fn counts(scene: &Scene) -> Outcome {
    send(&scene.auto().await?, &scene.queue(), numbered(1..=3)).await?;
    let connection = scene.connect_with(&redelivery(10)).await?;
    let session = connection.create_xa_session().await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    for round in 1..=3 {
        let xid = xid(scene, &format!("{round}"))?;
        session.start(&xid, Start::New).await?;
        for wanted in numbered(1..=3) {
            let got = next(&consumer).await?;
            same(format!("the order in round {round}"), text(&got)?, wanted)?;
            same("JMSXDeliveryCount", got.delivery_count(), round)?;
            same("JMSRedelivered", got.redelivered(), round > 1)?;
        }
        session.end(&xid, End::Success).await?;
        match round {
            1 => session.rollback(&xid).await?,
            2 => {
                session.prepare(&xid).await?;
                session.rollback(&xid).await?;
            }
            _ => session.commit(&xid, true).await?,
        }
    }
    consumer.close().await?;
    empty("after the commit", &scene.auto().await?, &scene.queue()).await
}

/// What a durable subscriber has received in a branch comes again unless the branch is committed.
async fn durable(scene: &Scene) -> Outcome {
    const NAME: &str = "subscription";
    let connection = scene.connect_as("client").await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    session.create_durable_subscriber(&scene.topic(), NAME).await?;
    connection.close().await?;
    send(&scene.auto().await?, &scene.topic(), numbered(1..=2)).await?;
    for (branch, commits) in [("1", false), ("2", true)] {
        let xid = xid(scene, branch)?;
        let connection = scene.connect_as("client").await?;
        let session = connection.create_xa_session().await?;
        let consumer = session.create_durable_subscriber(&scene.topic(), NAME).await?;
        session.start(&xid, Start::New).await?;
        expect("while it was away", &consumer, numbered(1..=2)).await?;
        session.end(&xid, End::Success).await?;
        session.prepare(&xid).await?;
        complete(&session, &xid, commits).await?;
        connection.close().await?;
    }
    let connection = scene.connect_as("client").await?;
    let session = connection.create_session(AcknowledgeMode::Auto).await?;
    let consumer = session.create_durable_subscriber(&scene.topic(), NAME).await?;
    nothing_more("after the commit", &session, &consumer, &scene.topic()).await
}

/// A session works on two branches by turns, and each has its own messages.
async fn suspend_resume(scene: &Scene) -> Outcome {
    let (first, second) = (xid(scene, "1")?, xid(scene, "2")?);
    let session = xa_session(scene).await?;
    session.start(&first, Start::New).await?;
    send(&session, &scene.queue(), ["first"]).await?;
    code(
        "a second one at once",
        session.start(&second, Start::New).await,
        XaCode::Protocol,
    )?;
    session.end(&first, End::Suspend).await?;
    send_in(&session, &second, &scene.queue(), ["second"]).await?;
    session.start(&first, Start::Resume).await?;
    send(&session, &scene.queue(), ["first again"]).await?;
    session.end(&first, End::Success).await?;
    session.prepare(&first).await?;
    session.rollback(&second).await?;
    session.commit(&first, false).await?;
    let outside = scene.auto().await?;
    let consumer = outside.create_consumer(&scene.queue()).await?;
    expect("the first branch", &consumer, ["first", "first again"]).await?;
    nothing_more("not the second", &outside, &consumer, &scene.queue()).await
}

/// One session receives and another sends, in one branch.
async fn join(scene: &Scene) -> Outcome {
    let (input, output) = (scene.queue_of(".in"), scene.queue_of(".out"));
    let outside = scene.auto().await?;
    send(&outside, &input, ["moves"]).await?;
    let connection = scene.connect_with(&redelivery(10)).await?;
    let receiving = connection.create_xa_session().await?;
    let sending = connection.create_xa_session().await?;
    let consumer = receiving.create_consumer(&input).await?;
    let producer = sending.create_producer(&output).await?;
    for (branch, commits) in [("1", false), ("2", true)] {
        let xid = xid(scene, branch)?;
        receiving.start(&xid, Start::New).await?;
        sending.start(&xid, Start::Join).await?;
        let message = next(&consumer).await?;
        same("what comes", text(&message)?, "moves")?;
        producer.send(message).await?;
        receiving.end(&xid, End::Success).await?;
        sending.end(&xid, End::Success).await?;
        same("the vote", sending.prepare(&xid).await?, Vote::Commit)?;
        complete(&receiving, &xid, commits).await?;
    }
    consumer.close().await?;
    empty("where it was", &outside, &input).await?;
    let consumer = outside.create_consumer(&output).await?;
    expect("where it is", &consumer, ["moves"]).await?;
    nothing_more("once", &outside, &consumer, &output).await
}

async fn same_resource_manager(scene: &Scene) -> Outcome {
    let (one, other) = (xa_session(scene).await?, xa_session(scene).await?);
    let ids = || (one.resource_manager_id(), other.resource_manager_id());
    eventually("the broker has introduced itself", || async {
        Ok(matches!(ids(), (Some(_), Some(_))))
    })
    .await?;
    ensure(one.is_same_resource_manager(&other), "both are of one broker")?;
    let own = scene.connect_with("jms.rmIdFromConnectionId=true").await?;
    let own = own.create_xa_session().await?;
    ensure(!own.is_same_resource_manager(&one), "it is of its connection")
}

/// The connection that has prepared a branch goes, and another completes it.
async fn recover(scene: &Scene, commits: bool) -> Outcome {
    let (input, output) = (scene.queue_of(".in"), scene.queue_of(".out"));
    let outside = scene.auto().await?;
    send(&outside, &input, ["taken"]).await?;
    let xid = xid(scene, "1")?;
    prepare_and_go(scene, &xid).await?;
    let manager = xa_session(scene).await?;
    prepared("recovered", &manager, &xid, true).await?;
    let arrived = outside.create_consumer(&output).await?;
    nothing_more("before it is completed", &outside, &arrived, &output).await?;
    arrived.close().await?;
    complete(&manager, &xid, commits).await?;
    prepared("recovered afterwards", &manager, &xid, false).await?;
    completed(&outside, scene, commits).await
}

/// Takes a message and sends another in a branch that is prepared, and closes the connection.
async fn prepare_and_go(scene: &Scene, xid: &Xid) -> Outcome {
    let connection = scene.connect().await?;
    work(&connection, scene, xid).await?.prepare(xid).await?;
    Ok(connection.close().await?)
}

/// Takes a message and sends another in a branch.
async fn work(connection: &Connection, scene: &Scene, xid: &Xid) -> Outcome<XaSession> {
    let session = connection.create_xa_session().await?;
    let consumer = session.create_consumer(&scene.queue_of(".in")).await?;
    session.start(xid, Start::New).await?;
    expect("what is taken", &consumer, ["taken"]).await?;
    send(&session, &scene.queue_of(".out"), ["sent"]).await?;
    session.end(xid, End::Success).await?;
    Ok(session)
}

async fn complete(session: &XaSession, xid: &Xid, commits: bool) -> Outcome {
    match commits {
        true => session.commit(xid, false).await?,
        false => session.rollback(xid).await?,
    }
    Ok(())
}

/// What [`work`] did has happened, or has not.
async fn completed(session: &Session, scene: &Scene, commits: bool) -> Outcome {
    let (input, output) = (scene.queue_of(".in"), scene.queue_of(".out"));
    let (there, empty_one, text) = match commits {
        true => (&output, &input, "sent"),
        false => (&input, &output, "taken"),
    };
    let consumer = session.create_consumer(there).await?;
    expect("what is left", &consumer, [text]).await?;
    nothing_more("once", session, &consumer, there).await?;
    consumer.close().await?;
    empty("the other queue", session, empty_one).await
}

async fn keeps_received(scene: &Scene) -> Outcome {
    let outside = scene.auto().await?;
    let session = xa_session(scene).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    send(&outside, &scene.queue(), ["prepared"]).await?;
    let xid = xid(scene, "1")?;
    session.start(&xid, Start::New).await?;
    expect("what comes", &consumer, ["prepared"]).await?;
    session.end(&xid, End::Success).await?;
    session.prepare(&xid).await?;
    consumer.close().await?;
    let other = outside.create_consumer(&scene.queue()).await?;
    let early = other.receive_timeout(Duration::from_millis(200)).await?;
    same(
        "who else receives",
        early.map(|message| message.message_id()),
        None,
    )?;
    session.commit(&xid, false).await?;
    nothing_more("after the commit", &outside, &other, &scene.queue()).await
}

/// A session that is closed rolls its branches back, unless they are prepared.
async fn close_rolls_back(scene: &Scene) -> Outcome {
    let manager = xa_session(scene).await?;
    for way in ["working", "ended", "prepared"] {
        let xid = xid(scene, way)?;
        let connection = scene.connect().await?;
        let session = connection.create_xa_session().await?;
        session.start(&xid, Start::New).await?;
        send(&session, &scene.queue(), [way]).await?;
        if way != "working" {
            session.end(&xid, End::Success).await?;
        }
        if way == "prepared" {
            session.prepare(&xid).await?;
        }
        session.close().await?;
        connection.close().await?;
        let committed = manager.commit(&xid, false).await;
        match way {
            "prepared" => committed?,
            _ => code(way, committed, XaCode::UnknownXid)?,
        }
    }
    let outside = scene.auto().await?;
    let consumer = outside.create_consumer(&scene.queue()).await?;
    expect("what was prepared", &consumer, ["prepared"]).await?;
    nothing_more("not the rest", &outside, &consumer, &scene.queue()).await
}

async fn unknown(scene: &Scene) -> Outcome {
    let session = xa_session(scene).await?;
    let xid = xid(scene, "never begun")?;
    let prepared = session.prepare(&xid).await.map(drop);
    for (what, result) in [
        ("prepare", prepared),
        ("a commit of one phase", session.commit(&xid, true).await),
        ("a commit of two phases", session.commit(&xid, false).await),
        ("a rollback", session.rollback(&xid).await),
        ("forget", session.forget(&xid).await),
    ] {
        code(what, result, XaCode::UnknownXid)?;
    }
    Ok(())
}

async fn without_first(scene: &Scene) -> Outcome {
    let session = xa_session(scene).await?;
    let xid = xid(scene, "1")?;
    send_in(&session, &xid, &scene.queue(), ["not committed"]).await?;
    code(
        "the second phase",
        session.commit(&xid, false).await,
        XaCode::Protocol,
    )?;
    session.rollback(&xid).await?;
    empty("what was sent", &scene.auto().await?, &scene.queue()).await
}

async fn ended_as_failed(scene: &Scene) -> Outcome {
    let session = xa_session(scene).await?;
    let xid = xid(scene, "1")?;
    session.start(&xid, Start::New).await?;
    send(&session, &scene.queue(), ["failed"]).await?;
    session.end(&xid, End::Fail).await?;
    refused("prepare", session.prepare(&xid).await, Error::is_rolled_back)?;
    code("a rollback", session.rollback(&xid).await, XaCode::UnknownXid)?;
    empty("what was sent", &scene.auto().await?, &scene.queue()).await
}

async fn outside(scene: &Scene) -> Outcome {
    let session = xa_session(scene).await?;
    let producer = session.create_producer(&scene.queue()).await?;
    refused("sending", producer.send("outside").await, Error::is_illegal_state)?;
    let committed = session.session().commit().await;
    refused("a local commit", committed, Error::is_illegal_state)?;
    // Unless the acknowledge mode for that is said.
    let connection = scene.connect_with("jms.xaAckMode=1").await?;
    let session = connection.create_xa_session().await?;
    send(&session, &scene.queue(), ["outside"]).await?;
    let consumer = session.create_consumer(&scene.queue()).await?;
    expect("what was sent", &consumer, ["outside"]).await?;
    consumer.close().await?;
    empty("what was received", &scene.auto().await?, &scene.queue()).await
}

/// A vote is a promise that a kill does not break.
async fn restart_prepared(scene: &Scene) -> Outcome {
    for (branch, commits) in [("committed", true), ("rolled back", false)] {
        let xid = xid(scene, branch)?;
        let input = scene.queue_of(".in");
        send(&scene.auto().await?, &input, ["taken"]).await?;
        let connection = scene.connect().await?;
        work(&connection, scene, &xid).await?.prepare(&xid).await?;
        scene.restart().await?;
        let manager = xa_session(scene).await?;
        same("what is recovered", manager.recover().await?, [xid.clone()])?;
        complete(&manager, &xid, commits).await?;
        same("what is left to recover", manager.recover().await?.len(), 0)?;
        completed(&scene.auto().await?, scene, commits).await?;
    }
    Ok(())
}

/// A branch that is not prepared ends with its connection, and its session says so and goes on.
async fn restart_not_prepared(scene: &Scene) -> Outcome {
    send(&scene.auto().await?, &scene.queue_of(".in"), ["taken"]).await?;
    let connection = scene.connect_to(&scene.failover()).await?;
    let (lost, kept) = (xid(scene, "lost")?, xid(scene, "kept")?);
    let session = work(&connection, scene, &lost).await?;
    scene.restart().await?;
    let vote = session.prepare(&lost).await.map(drop);
    code("prepare", vote, XaCode::RolledBackConnection)?;
    let session = work(&connection, scene, &kept).await?;
    session.commit(&kept, true).await?;
    completed(&scene.auto().await?, scene, true).await
}
