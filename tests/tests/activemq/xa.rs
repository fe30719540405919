//! Distributed transactions.

use openwire_client::xa::{End, Start, Vote, XaCode, XaSession, Xid};
use openwire_client::{Destination, Error};

use super::*;

scenes! { [] =>
    a_branch_is_committed_in_one_phase_or_two,
    a_branch_that_is_rolled_back_delivers_again,
    a_session_works_on_branches_by_turns,
    a_branch_that_cannot_be_says_which_code,
    what_closes_with_a_branch_rolls_it_back_unless_it_is_prepared,
    several_sessions_work_on_one_branch_and_another_connection_completes_it,
    nothing_happens_outside_of_a_branch_unless_there_is_an_acknowledge_mode,
    what_a_prepared_branch_has_received_goes_to_nobody_else,
}

async fn xa_session(connection: &Connection) -> XaSession {
    connection
        .create_xa_session()
        .await
        .expect("the connection is open")
}

/// A branch that no other test has.
fn xid(connection: &Connection, number: u32) -> Xid {
    Xid::new(4660, connection.id().to_string(), format!("branch {number}")).expect("the parts are short")
}

fn code(error: &Error) -> Option<XaCode> {
    error.xa_code()
}

async fn start(session: &XaSession, xid: &Xid) {
    session
        .start(xid, Start::New)
        .await
        .expect("it works on no other branch");
}

async fn end(session: &XaSession, xid: &Xid) {
    soon("ending", session.end(xid, End::Success))
        .await
        .expect("it works on the branch");
}

async fn prepare(session: &XaSession, xid: &Xid) -> Vote {
    soon("preparing", session.prepare(xid))
        .await
        .expect("the broker votes")
}

async fn commit(session: &XaSession, xid: &Xid, one_phase: bool) {
    soon("committing", session.commit(xid, one_phase))
        .await
        .expect("it is committed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_break_ends_what_is_not_prepared_and_nothing_else() {
    let Some(peers) = Peers::find("a_break_ends_what_is_not_prepared_and_nothing_else") else {
        return;
    };
    let store = tempfile::TempDir::new().expect("there is room for temporary files");
    let broker = peers.start(&["--persistent", &store.path().display().to_string()]);
    let connection = connect(&format!("failover:({})?maxReconnectDelay=100", broker.url())).await;
    let (input, output) = (Destination::queue("xa.in"), Destination::queue("xa.out"));
    send(&connection, &input, 3).await;
    let session = xa_session(&connection).await;
    let consumer = consumer(&session, &input).await;
    let producer = producer(&session, &output).await;
    let (prepared, ended, working) = (xid(&connection, 1), xid(&connection, 2), xid(&connection, 3));
    for xid in [&prepared, &ended, &working] {
        start(&session, xid).await;
        let message = receive(&consumer).await;
        soon("sending", producer.send(message)).await.unwrap();
        if xid == &working {
            continue;
        }
        end(&session, xid).await;
        if xid == &prepared {
            prepare(&session, xid).await;
        }
    }
    tokio::task::block_in_place(|| broker.restart());
    let mut state = connection.state();
    soon(
        "resuming",
        state.wait_for(|state| *state == ConnectionState::Connected),
    )
    .await
    .unwrap();
    let error = soon("sending", producer.send("x")).await.unwrap_err();
    assert_eq!(code(&error), Some(XaCode::RolledBackConnection), "{error}");
    let error = soon("ending", session.end(&working, End::Success))
        .await
        .unwrap_err();
    assert_eq!(code(&error), Some(XaCode::RolledBackConnection), "{error}");
    let error = soon("preparing", session.prepare(&ended)).await.unwrap_err();
    assert_eq!(code(&error), Some(XaCode::RolledBackConnection), "{error}");
    assert!(error.is_rolled_back());
    assert_eq!(
        soon("recovering", session.recover()).await.unwrap(),
        std::slice::from_ref(&prepared)
    );
    commit(&session, &prepared, false).await;
    let again = xid(&connection, 4);
    start(&session, &again).await;
    for number in ["2", "3"] {
        let message = receive(&consumer).await;
        assert_eq!(text(&message), number);
        assert!(message.redelivered());
        soon("sending", producer.send(message)).await.unwrap();
    }
    end(&session, &again).await;
    commit(&session, &again, true).await;
    soon("closing", connection.close()).await.unwrap();
    assert_eq!(left(&broker, &output).await, numbers(1..=3));
    assert_eq!(left(&broker, &input).await, Vec::<String>::new());
}

mod scene {
    use super::*;

    pub(super) async fn a_branch_is_committed_in_one_phase_or_two(url: &str) {
        let connection = connect(url).await;
        let (input, output) = (Destination::queue("xa.in"), Destination::queue("xa.out"));
        send(&connection, &input, 30).await;
        let session = xa_session(&connection).await;
        assert!(session.is_transacted() && !session.is_enlisted());
        let consumer = session
            .create_consumer_with(&input, ConsumerOptions::with_prefetch(4))
            .await
            .unwrap();
        let producer = producer(&session, &output).await;
        for (batch, one_phase) in [true, false].into_iter().enumerate() {
            let xid = xid(&connection, batch as u32);
            start(&session, &xid).await;
            assert!(session.is_enlisted());
            for at in 1..=10 {
                let message = receive(&consumer).await;
                assert_eq!(text(&message), (batch * 10 + at).to_string());
                soon("sending", producer.send(message)).await.unwrap();
            }
            end(&session, &xid).await;
            assert_eq!(left_at(url, &output).await, Vec::<String>::new());
            if !one_phase {
                assert_eq!(prepare(&session, &xid).await, Vote::Commit);
                assert_eq!(
                    soon("recovering", session.recover()).await.unwrap(),
                    std::slice::from_ref(&xid)
                );
            }
            commit(&session, &xid, one_phase).await;
            assert_eq!(
                left_at(url, &output).await,
                numbers(batch * 10 + 1..=batch * 10 + 10)
            );
            let error = soon("committing", session.commit(&xid, false)).await.unwrap_err();
            assert_eq!(code(&error), Some(XaCode::UnknownXid), "{error}");
        }
        assert_eq!(soon("recovering", session.recover()).await.unwrap(), []);
        close(&connection).await;
        assert_eq!(left_at(url, &input).await, numbers(21..=30));
    }

    pub(super) async fn a_branch_that_is_rolled_back_delivers_again(url: &str) {
        let connection = connect(&format!(
            "{}?jms.redeliveryPolicy.initialRedeliveryDelay=20&jms.redeliveryPolicy.redeliveryDelay=20",
            url
        ))
        .await;
        let (input, output) = (Destination::queue("xa.in"), Destination::queue("xa.out"));
        send(&connection, &input, 4).await;
        let session = xa_session(&connection).await;
        let consumer = consumer(&session, &input).await;
        let producer = producer(&session, &output).await;
        for round in 1..=3 {
            let xid = xid(&connection, round as u32);
            start(&session, &xid).await;
            for number in 1..=3 {
                let message = receive(&consumer).await;
                assert_eq!(
                    (text(&message), message.delivery_count()),
                    (number.to_string(), round)
                );
                soon("sending", producer.send(message)).await.unwrap();
            }
            match round {
                // One that the session works on.
                1 => {}
                2 => end(&session, &xid).await,
                _ => {
                    end(&session, &xid).await;
                    prepare(&session, &xid).await;
                }
            }
            soon("rolling back", session.rollback(&xid)).await.unwrap();
        }
        let last = xid(&connection, 9);
        start(&session, &last).await;
        assert_eq!(receive_texts(&consumer, 2).await, numbers(1..=2));
        end(&session, &last).await;
        commit(&session, &last, true).await;
        close(&connection).await;
        assert_eq!(left_at(url, &output).await, Vec::<String>::new());
        assert_eq!(left_at(url, &input).await, numbers(3..=4));
    }

    pub(super) async fn a_session_works_on_branches_by_turns(url: &str) {
        let connection = connect(&format!("{}?jms.redeliveryPolicy.initialRedeliveryDelay=0", url)).await;
        let queue = Destination::queue("xa.turns");
        send(&connection, &queue, 6).await;
        let session = xa_session(&connection).await;
        let consumer = consumer(&session, &queue).await;
        let (first, second) = (xid(&connection, 1), xid(&connection, 2));
        // 1 and 4 belong to the first, 2 and 3 to the second.
        start(&session, &first).await;
        assert_eq!(receive_texts(&consumer, 1).await, ["1"]);
        let error = session.start(&second, Start::New).await.unwrap_err();
        assert_eq!(code(&error), Some(XaCode::Protocol), "{error}");
        let error = soon("preparing", session.prepare(&first)).await.unwrap_err();
        assert_eq!(code(&error), Some(XaCode::Protocol), "{error}");
        soon("suspending", session.end(&first, End::Suspend))
            .await
            .unwrap();
        start(&session, &second).await;
        assert_eq!(receive_texts(&consumer, 2).await, ["2", "3"]);
        end(&session, &second).await;
        session.start(&first, Start::Resume).await.unwrap();
        assert_eq!(receive_texts(&consumer, 1).await, ["4"]);
        end(&session, &first).await;
        assert_eq!(prepare(&session, &first).await, Vote::Commit);
        soon("rolling back", session.rollback(&second)).await.unwrap();
        commit(&session, &first, false).await;
        let third = xid(&connection, 3);
        start(&session, &third).await;
        assert_eq!(receive_texts(&consumer, 2).await, ["2", "3"]);
        end(&session, &third).await;
        commit(&session, &third, true).await;
        close(&connection).await;
        assert_eq!(left_at(url, &queue).await, numbers(5..=6));
    }

    pub(super) async fn several_sessions_work_on_one_branch_and_another_connection_completes_it(url: &str) {
        let connection = connect(&format!("{}?jms.redeliveryPolicy.initialRedeliveryDelay=0", url)).await;
        let manager = connect(url).await;
        let (input, output) = (Destination::queue("xa.in"), Destination::queue("xa.out"));
        send(&connection, &input, 2).await;
        let (one, two) = (xa_session(&connection).await, xa_session(&connection).await);
        let other = xa_session(&manager).await;
        assert!(one.is_same_resource_manager(&two) && one.is_same_resource_manager(&other));
        let consumer = consumer(&one, &input).await;
        let producer = producer(&two, &output).await;
        for (number, commits) in [(1, false), (2, true)] {
            let xid = xid(&connection, number);
            start(&one, &xid).await;
            two.start(&xid, Start::Join).await.unwrap();
            let message = receive(&consumer).await;
            assert_eq!(text(&message), "1");
            soon("sending", producer.send(message)).await.unwrap();
            end(&one, &xid).await;
            end(&two, &xid).await;
            assert_eq!(prepare(&other, &xid).await, Vote::Commit);
            match commits {
                true => commit(&other, &xid, false).await,
                false => soon("rolling back", other.rollback(&xid)).await.unwrap(),
            }
        }
        close(&connection).await;
        close(&manager).await;
        assert_eq!(left_at(url, &output).await, ["1"]);
        assert_eq!(left_at(url, &input).await, ["2"]);
    }

    pub(super) async fn nothing_happens_outside_of_a_branch_unless_there_is_an_acknowledge_mode(url: &str) {
        let queue = Destination::queue("xa.outside");
        let connection = connect(url).await;
        let session = xa_session(&connection).await;
        let sender = producer(&session, &queue).await;
        let receiver = consumer(&session, &queue).await;
        let error = sender.send("1").await.unwrap_err();
        assert!(error.is_illegal_state(), "{error}");
        assert!(receiver.receive().await.unwrap_err().is_illegal_state());
        assert!(session.session().commit().await.unwrap_err().is_illegal_state());
        assert!(session.session().rollback().await.unwrap_err().is_illegal_state());
        close(&connection).await;

        let connection = connect(&format!("{}?jms.xaAckMode=1", url)).await;
        send(&connection, &queue, 3).await;
        let session = xa_session(&connection).await;
        let receiver = consumer(&session, &queue).await;
        assert!(!session.is_transacted());
        assert_eq!(receive_texts(&receiver, 1).await, ["1"]);
        let xid = xid(&connection, 1);
        start(&session, &xid).await;
        assert!(session.is_transacted());
        assert_eq!(receive_texts(&receiver, 1).await, ["2"]);
        end(&session, &xid).await;
        soon("rolling back", session.rollback(&xid)).await.unwrap();
        close(&connection).await;
        assert_eq!(left_at(url, &queue).await, ["2", "3"]);
    }

    pub(super) async fn a_branch_that_cannot_be_says_which_code(url: &str) {
        let connection = connect(url).await;
        let session = xa_session(&connection).await;
        let producer = producer(&session, &Destination::queue("xa.codes")).await;
        let never = xid(&connection, 1);
        for result in [
            soon("preparing", session.prepare(&never)).await.map(drop),
            soon("committing", session.commit(&never, true)).await,
            soon("committing", session.commit(&never, false)).await,
            soon("rolling back", session.rollback(&never)).await,
            soon("forgetting", session.forget(&never)).await,
        ] {
            let error = result.unwrap_err();
            assert_eq!(code(&error), Some(XaCode::UnknownXid), "{error}");
        }
        let error = session.end(&never, End::Success).await.unwrap_err();
        assert_eq!(code(&error), Some(XaCode::Protocol), "{error}");
        let error = session.start(&never, Start::Resume).await.unwrap_err();
        assert_eq!(code(&error), Some(XaCode::UnknownXid), "{error}");

        let empty = xid(&connection, 2);
        start(&session, &empty).await;
        end(&session, &empty).await;
        assert_eq!(prepare(&session, &empty).await, Vote::ReadOnly);

        let failed = xid(&connection, 3);
        start(&session, &failed).await;
        soon("sending", producer.send("1")).await.unwrap();
        soon("ending", session.end(&failed, End::Fail)).await.unwrap();
        let error = soon("preparing", session.prepare(&failed)).await.unwrap_err();
        assert_eq!(code(&error), Some(XaCode::RolledBack), "{error}");
        assert!(error.is_rolled_back());

        let unprepared = xid(&connection, 4);
        start(&session, &unprepared).await;
        soon("sending", producer.send("1")).await.unwrap();
        end(&session, &unprepared).await;
        let error = soon("committing", session.commit(&unprepared, false))
            .await
            .unwrap_err();
        assert_eq!(code(&error), Some(XaCode::Protocol), "{error}");
        soon("rolling back", session.rollback(&unprepared)).await.unwrap();
        assert!(!session.set_transaction_timeout(PATIENCE));
        close(&connection).await;
    }

    pub(super) async fn what_closes_with_a_branch_rolls_it_back_unless_it_is_prepared(url: &str) {
        let manager = connect(url).await;
        let others = xa_session(&manager).await;
        let queue = Destination::queue("xa.closed");
        for (number, way) in ["working", "ended", "prepared"].into_iter().enumerate() {
            let connection = connect(url).await;
            let session = xa_session(&connection).await;
            let producer = producer(&session, &queue).await;
            let xid = xid(&connection, number as u32);
            start(&session, &xid).await;
            soon("sending", producer.send("1")).await.unwrap();
            if way != "working" {
                end(&session, &xid).await;
            }
            if way == "prepared" {
                prepare(&session, &xid).await;
            }
            soon("closing", session.close()).await.unwrap();
            close(&connection).await;
            let result = soon("committing", others.commit(&xid, false)).await;
            if way == "prepared" {
                result.expect("it was prepared");
            } else {
                let error = result.unwrap_err();
                assert_eq!(code(&error), Some(XaCode::UnknownXid), "{way}: {error}");
            }
        }
        assert_eq!(left_at(url, &queue).await, ["1"]);
        close(&manager).await;
    }

    pub(super) async fn what_a_prepared_branch_has_received_goes_to_nobody_else(url: &str) {
        let (connection, others) = (connect(url).await, connect(url).await);
        let queue = Destination::queue("xa.prepared");
        send(&connection, &queue, 2).await;
        let session = xa_session(&connection).await;
        let receiver = consumer(&session, &queue).await;
        let xid = xid(&connection, 1);
        start(&session, &xid).await;
        assert_eq!(receive_texts(&receiver, 1).await, ["1"]);
        end(&session, &xid).await;
        assert_eq!(prepare(&session, &xid).await, Vote::Commit);
        drop(receiver);
        let other = super::session(&others, AcknowledgeMode::Auto).await;
        let waiting = consumer(&other, &queue).await;
        // The consumer stays for its branch, at the broker, and so does what it was sent.
        assert!(waiting.receive_timeout(QUIET).await.unwrap().is_none());
        commit(&session, &xid, false).await;
        assert_eq!(receive_texts(&waiting, 1).await, ["2"]);
        close(&connection).await;
        close(&others).await;
        assert_eq!(left_at(url, &queue).await, Vec::<String>::new());
    }
}
