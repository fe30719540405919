//! Branches of distributed transactions that a break interrupts.

use openwire_client::wire::{
    BrokerId, BrokerInfo, Command, DataArrayResponse, ExceptionResponse, IntegerResponse, Throwable,
    TransactionId, TransactionInfo,
};
use openwire_client::xa::{End, Start, Vote, XaCode, XaSession, Xid};
use openwire_client::{Destination, Producer, Retry};
use tests::scripted::{ScriptedConnection, ScriptedPeer};
use tests::soon;

use super::*;

/// What the next broker is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Next {
    Same,
    Other,
}

/// A connection to a broker that introduces itself.
async fn accepted(peer: &ScriptedPeer, id: &str) -> ScriptedConnection {
    let mut far = peer.negotiated().await;
    far.send(Box::new(BrokerInfo {
        broker_id: Some(BrokerId {
            value: Some(id.into()),
        }),
        ..BrokerInfo::default()
    }))
    .await;
    far.accept_client().await;
    far
}

/// The end of one connection, and the next.
async fn next(far: ScriptedConnection, peer: &ScriptedPeer, next: Next) -> ScriptedConnection {
    drop(far);
    let id = match next {
        Next::Same => "ID:one",
        Next::Other => "ID:two",
    };
    accepted(peer, id).await
}

struct Scene {
    peer: ScriptedPeer,
    connection: Connection,
    session: XaSession,
    producer: Producer,
    far: ScriptedConnection,
    xid: Xid,
}

/// A branch in which a message was sent, ended.
async fn scene() -> Scene {
    let peer = ScriptedPeer::bind().await;
    let uri = failover(&[&peer], "&jms.requestTimeout=3000");
    let (connection, mut far) = tokio::join!(try_connect(&uri), accepted(&peer, "ID:one"));
    let connection = connection.expect("the peer accepts");
    let session = connection.create_xa_session().await.unwrap();
    let producer = served(&mut far, session.create_producer(&Destination::queue("q")))
        .await
        .unwrap();
    let xid = Xid::new(1, connection.id().to_string(), "b").unwrap();
    session.start(&xid, Start::New).await.unwrap();
    producer.send("1").await.unwrap();
    served(&mut far, session.end(&xid, End::Success)).await.unwrap();
    Scene {
        peer,
        connection,
        session,
        producer,
        far,
        xid,
    }
}

/// The id of a command that is this step.
fn step(wanted: i8) -> impl FnMut(&Command) -> Option<i32> {
    move |command| match command {
        Command::TransactionInfo(info) if info.step == wanted => Some(info.command_id),
        _ => None,
    }
}

async fn vote(far: &mut ScriptedConnection, id: i32) {
    far.send(IntegerResponse {
        correlation_id: id,
        ..IntegerResponse::default()
    })
    .await;
}

async fn unknown(far: &mut ScriptedConnection, id: i32) {
    far.send(Box::new(ExceptionResponse {
        correlation_id: id,
        exception: Some(Throwable::new(
            "javax.transaction.xa.XAException",
            "not started xaErrorCode:-4",
        )),
        ..ExceptionResponse::default()
    }))
    .await;
}

/// Answers what is prepared.
async fn recovered(far: &mut ScriptedConnection, prepared: &[&Xid]) {
    let id = far.serve_until(step(TransactionInfo::RECOVER)).await;
    let data = prepared
        .iter()
        .map(|xid| Some(Box::new(Command::TransactionId(TransactionId::Xa(xid.to_wire())))))
        .collect();
    far.send(DataArrayResponse {
        correlation_id: id,
        data: Some(data),
        ..DataArrayResponse::default()
    })
    .await;
}

#[tokio::test]
async fn the_next_broker_knows_what_is_prepared() {
    for (then, prepared, wanted) in [
        (Next::Same, true, Ok(Vote::Commit)),
        (Next::Other, true, Ok(Vote::Commit)),
        (Next::Same, false, Err(XaCode::RolledBackConnection)),
        (Next::Other, false, Err(XaCode::Unavailable)),
    ] {
        let mut s = scene().await;
        let (result, _far) = tokio::join!(soon("preparing", s.session.prepare(&s.xid)), async {
            s.far.serve_until(step(TransactionInfo::PREPARE)).await;
            let mut far = next(s.far, &s.peer, then).await;
            let listed: &[&Xid] = if prepared { &[&s.xid] } else { &[] };
            recovered(&mut far, listed).await;
            far
        });
        match (&result, wanted) {
            (Ok(vote), Ok(wanted)) => assert_eq!(*vote, wanted),
            (Err(error), Err(code)) => {
                assert_eq!(error.xa_code(), Some(code), "{error}");
                assert_eq!(error.is_in_doubt(), code == XaCode::Unavailable);
                assert_eq!(error.is_rolled_back(), code != XaCode::Unavailable);
            }
            _ => panic!("{then:?}, {prepared}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn a_second_phase_is_asked_again_and_what_is_not_known_any_more_is_done() {
    for (then, knows, done) in [
        (Next::Same, true, true),
        (Next::Other, true, true),
        (Next::Same, false, true),
        (Next::Other, false, false),
    ] {
        for step_of in [TransactionInfo::COMMIT_TWO_PHASE, TransactionInfo::ROLLBACK] {
            let mut s = scene().await;
            let (vote_of, ()) = tokio::join!(s.session.prepare(&s.xid), async {
                let id = s.far.serve_until(step(TransactionInfo::PREPARE)).await;
                vote(&mut s.far, id).await;
            });
            assert_eq!(vote_of.unwrap(), Vote::Commit);
            let complete = async {
                match step_of {
                    TransactionInfo::ROLLBACK => s.session.rollback(&s.xid).await,
                    _ => s.session.commit(&s.xid, false).await,
                }
            };
            let (result, _far) = tokio::join!(soon("completing", complete), async {
                let first = s.far.serve_until(step(step_of)).await;
                let mut far = next(s.far, &s.peer, then).await;
                let again = far.serve_until(step(step_of)).await;
                assert_eq!(again, first);
                match knows {
                    true => far.respond(again).await,
                    false => unknown(&mut far, again).await,
                }
                far
            });
            if done {
                result.unwrap_or_else(|error| panic!("{then:?}, {knows}, {step_of}: {error}"));
                continue;
            }
            let error = result.unwrap_err();
            assert!(error.is_in_doubt(), "{error}");
            assert_eq!(error.xa_code(), Some(XaCode::Unavailable));
            assert_eq!(error.retry(), Retry::Examine);
        }
    }
}

#[tokio::test]
async fn the_only_phase_without_an_answer_is_in_doubt() {
    let mut s = scene().await;
    let (result, mut far) = tokio::join!(soon("committing", s.session.commit(&s.xid, true)), async {
        s.far.serve_until(step(TransactionInfo::COMMIT_ONE_PHASE)).await;
        next(s.far, &s.peer, Next::Same).await
    });
    let error = result.unwrap_err();
    assert!(error.is_in_doubt(), "{error}");
    assert_eq!(error.xa_code(), Some(XaCode::Unavailable));
    assert!(error.in_doubt().unwrap().transaction.starts_with("XID:"));
    // Nothing of it is told to the new broker.
    let id = far
        .serve_until(|command| match command {
            Command::ProducerInfo(info) => Some(info.command_id),
            _ => None,
        })
        .await;
    far.respond(id).await;
    far.assert_silent().await;
}

#[tokio::test]
async fn a_branch_that_breaks_is_rolled_back_and_says_so() {
    let mut s = scene().await;
    let working = Xid::new(1, s.connection.id().to_string(), "working").unwrap();
    s.session.start(&working, Start::New).await.unwrap();
    s.producer.send("1").await.unwrap();
    s.far
        .serve_until(|command| matches!(command, Command::Message(_)).then_some(()))
        .await;
    let mut events = s.connection.events();
    let mut far = next(s.far, &s.peer, Next::Same).await;
    resumed(&mut events).await;
    let lost = Some(XaCode::RolledBackConnection);
    assert_eq!(s.producer.send("2").await.unwrap_err().xa_code(), lost);
    assert_eq!(
        s.session.end(&working, End::Success).await.unwrap_err().xa_code(),
        lost
    );
    assert_eq!(s.session.prepare(&s.xid).await.unwrap_err().xa_code(), lost);
    // Another one can be worked on, over the new connection.
    let again = Xid::new(1, s.connection.id().to_string(), "again").unwrap();
    s.session.start(&again, Start::New).await.unwrap();
    s.producer.send("3").await.unwrap();
    let seen = far
        .serve_until(|command| match command {
            Command::Message(message) => message.transaction_id.clone(),
            _ => None,
        })
        .await;
    assert_eq!(seen, TransactionId::Xa(again.to_wire()));
}

#[tokio::test]
async fn no_answer_in_time_is_in_doubt() {
    let mut s = scene().await;
    drop(s.connection);
    let (result, _) = tokio::join!(
        soon("preparing", s.session.prepare(&s.xid)),
        s.far.serve_until(step(TransactionInfo::PREPARE))
    );
    let error = result.unwrap_err();
    assert!(error.is_in_doubt(), "{error}");
    assert_eq!(error.xa_code(), Some(XaCode::Unavailable));
}
