//! A commit that is sent again is answered with what happened, whatever happened meanwhile.

use std::sync::Arc;
use std::time::Duration;

use openwire_client::wire::*;

use super::rig::{Client, QUEUE, Rig};
use crate::core::OutcomeLimits;

const BEGIN: i8 = TransactionInfo::BEGIN;
const COMMIT: i8 = TransactionInfo::COMMIT_ONE_PHASE;
const ROLLBACK: i8 = TransactionInfo::ROLLBACK;

fn refused() -> Result<(), String> {
    Err("JMSException".into())
}

/// Begins a transaction and sends a message with its number in it.
fn begin(rig: &mut Rig, client: Client, transaction: i64, persistent: bool) {
    rig.transact(client, transaction, BEGIN).unwrap();
    let message = Message {
        transaction_id: Some(client.transaction(transaction)),
        ..Rig::message(client, transaction, persistent)
    };
    rig.say(client, Arc::new(message));
}

fn commit_in_order(rig: &mut Rig, client: Client, transactions: std::ops::RangeInclusive<i64>) {
    for transaction in transactions {
        rig.now += 1_000;
        begin(rig, client, transaction, true);
        rig.transact(client, transaction, COMMIT).unwrap();
    }
}

/// Asks for a commit without waiting for its answer.
fn request_commit(rig: &mut Rig, client: Client, transaction: i64) {
    let mut commit = Command::from(TransactionInfo {
        transaction_id: Some(client.transaction(transaction)),
        step: COMMIT,
        ..TransactionInfo::default()
    });
    commit.set_header(9, true);
    rig.say(client, commit);
}

fn rig(count: usize, age: Duration) -> Rig {
    let outcomes = OutcomeLimits { count, age };
    Rig::with(true, |config| config.outcomes = outcomes)
}

const HOUR: Duration = Duration::from_secs(3600);
const HOUR_MILLIS: i64 = 3_600_000;

#[test]
fn a_commit_sent_again_is_answered_and_done_once() {
    for (stored, persistent) in [(false, true), (true, false), (true, true)] {
        let mut rig = Rig::new(stored);
        let client = rig.connect();
        begin(&mut rig, client, 1, persistent);
        begin(&mut rig, client, 2, persistent);
        begin(&mut rig, client, 3, persistent);
        rig.transact(client, 1, COMMIT).unwrap();
        rig.transact(client, 2, ROLLBACK).unwrap();
        rig.transact(client, 1, COMMIT).unwrap();
        let client = rig.reconnect(client);
        rig.transact(client, 1, COMMIT).unwrap();
        assert_eq!(rig.transact(client, 2, COMMIT), refused());
        assert_eq!(rig.transact(client, 3, COMMIT), refused(), "its connection ended");
        assert_eq!(rig.transact(client, 1, ROLLBACK), refused());
        rig.consume(client, 1, 10);
        assert_eq!(rig.numbers(client), [1]);
        let stats = rig.stats();
        assert_eq!((stats.outcomes, stats.commits_repeated), (1, 2));
    }
}

#[test]
fn outcomes_belong_to_the_connection_id() {
    let mut rig = Rig::new(true);
    let (client, other) = (rig.connect(), rig.connect());
    begin(&mut rig, client, 1, true);
    rig.transact(client, 1, COMMIT).unwrap();
    assert_eq!(rig.transact(other, 1, COMMIT), refused());
    let foreign = TransactionInfo {
        transaction_id: Some(client.transaction(1)),
        step: COMMIT,
        ..TransactionInfo::default()
    };
    assert_eq!(rig.ask(other, foreign), refused());
}

#[test]
fn a_restart_knows_the_outcomes_of_what_was_stored() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    begin(&mut rig, client, 1, true);
    rig.transact(client, 1, COMMIT).unwrap();
    rig.now += 10;
    // A transaction that consumed and sent nothing has stored something as well.
    rig.consume(client, 1, 10);
    rig.transact(client, 2, BEGIN).unwrap();
    let ack = MessageAck {
        transaction_id: Some(client.transaction(2)),
        ..rig.ack(client, 1, MessageAck::STANDARD, client, 1, 1)
    };
    rig.say(client, Box::new(ack));
    rig.transact(client, 2, COMMIT).unwrap();
    begin(&mut rig, client, 3, false);
    rig.transact(client, 3, COMMIT).unwrap();
    for clean in [false, true] {
        rig = rig.restart(clean);
        let client = rig.reconnect(client);
        rig.transact(client, 1, COMMIT).unwrap();
        rig.transact(client, 2, COMMIT).unwrap();
        assert_eq!(
            rig.transact(client, 3, COMMIT),
            refused(),
            "its message is gone as well"
        );
        assert_eq!((rig.depth(), rig.stored(), rig.stats().outcomes), (0, 0, 2));
    }
}

#[test]
fn the_answer_to_a_commit_on_its_way_to_the_disk_waits_for_it() {
    let mut rig = Rig::new(true);
    let old = rig.connect();
    begin(&mut rig, old, 1, true);
    begin(&mut rig, old, 2, true);
    rig.slow_store = true;
    request_commit(&mut rig, old, 1);
    // The old connection is half open: the broker does not know yet that it ended.
    let new = rig.reconnect(old);
    assert_eq!(rig.closed, [old.key]);
    request_commit(&mut rig, new, 1);
    assert_eq!(rig.answer(new), None, "it is not durable");
    assert_eq!(rig.transact(new, 2, COMMIT), refused());
    // What the old connection still holds has no effect after that answer.
    request_commit(&mut rig, old, 2);
    // A third one comes before the second was answered, and somebody gets the second one's key.
    let newest = rig.reconnect(new);
    request_commit(&mut rig, newest, 1);
    rig.lose(old);
    rig.lose(new);
    let stranger = rig.connect();
    assert_eq!(rig.answer(newest), None);
    rig.release();
    assert_eq!((rig.answer(newest), rig.answer(stranger)), (Some(Ok(())), None));
    rig.consume(newest, 1, 10);
    assert_eq!(rig.numbers(newest), [1]);
    assert_eq!(rig.stats().memory_used, 0, "the open transaction was rolled back");
    rig.transact(newest, 1, COMMIT).unwrap();
}

#[test]
fn a_commit_the_store_refuses_has_not_happened() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    begin(&mut rig, client, 1, true);
    (rig.slow_store, rig.refusing) = (true, true);
    request_commit(&mut rig, client, 1);
    let client = rig.reconnect(client);
    request_commit(&mut rig, client, 1);
    rig.refusing = false;
    rig.release();
    assert_eq!(
        rig.answer(client),
        Some(Err("ResourceAllocationException".into()))
    );
    assert_eq!(rig.transact(client, 1, COMMIT), refused());
    assert_eq!((rig.depth(), rig.stats().outcomes), (0, 0));
    // It can be tried again under the same id.
    begin(&mut rig, client, 1, true);
    rig.transact(client, 1, COMMIT).unwrap();
    rig.transact(client, 1, COMMIT).unwrap();
    assert_eq!(rig.depth(), 1);
}

#[test]
fn nobody_is_told_an_outcome_that_a_failed_store_left_open() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    begin(&mut rig, client, 1, true);
    rig.slow_store = true;
    request_commit(&mut rig, client, 1);
    let client = rig.reconnect(client);
    request_commit(&mut rig, client, 1);
    rig.fail_waiting();
    assert_eq!(rig.answer(client), Some(Err("IOException".into())));
    request_commit(&mut rig, client, 1);
    assert_eq!(rig.answer(client), Some(Err("IOException".into())));
}

#[test]
fn outcomes_are_forgotten_when_they_are_old() {
    let mut rig = rig(100, HOUR);
    let client = rig.connect();
    assert_eq!(rig.core.outcomes_kept(rig.now), HOUR_MILLIS);
    commit_in_order(&mut rig, client, 1..=10);
    rig.now += HOUR_MILLIS - 5_000;
    commit_in_order(&mut rig, client, 11..=11);
    // Number 6 was committed an hour ago.
    assert_eq!(rig.stats().outcomes, 5 + 1);
    assert_eq!(rig.transact(client, 5, COMMIT), refused());
    rig.transact(client, 6, COMMIT).unwrap();
    assert_eq!(rig.core.outcomes_kept(rig.now), HOUR_MILLIS);
    assert_eq!(rig.stats().outcomes_crowded_out, 0);
    let rig = rig.restart(false);
    assert_eq!(rig.stats().outcomes, 6);
    assert_eq!(rig.core.outcomes_kept(rig.now), HOUR_MILLIS);
}

#[test]
fn what_is_crowded_out_shortens_the_time_for_which_outcomes_are_known() {
    let mut rig = rig(10, HOUR);
    let client = rig.connect();
    commit_in_order(&mut rig, client, 1..=10);
    assert_eq!(rig.core.outcomes_kept(rig.now), HOUR_MILLIS);
    commit_in_order(&mut rig, client, 11..=12);
    // Number 2 was committed ten seconds ago.
    assert_eq!(rig.core.outcomes_kept(rig.now), 10_000);
    assert_eq!(rig.transact(client, 2, COMMIT), refused());
    rig.transact(client, 3, COMMIT).unwrap();
    assert_eq!((rig.stats().outcomes, rig.stats().outcomes_crowded_out), (10, 2));
    let mut rig = rig.restart(false);
    let client = rig.reconnect(client);
    assert_eq!(rig.core.outcomes_kept(rig.now), 10_000);
    rig.transact(client, 3, COMMIT).unwrap();
    // Time passes, and what is known reaches further back.
    rig.now += 1_000;
    assert_eq!(rig.core.outcomes_kept(rig.now), 11_000);
    rig.now += HOUR_MILLIS;
    assert_eq!(rig.core.outcomes_kept(rig.now), HOUR_MILLIS);
}

#[test]
fn a_clock_that_is_set_back_promises_nothing_false() {
    let mut rig = rig(10, HOUR);
    let client = rig.connect();
    commit_in_order(&mut rig, client, 1..=10);
    rig.now -= 2 * HOUR_MILLIS;
    commit_in_order(&mut rig, client, 11..=12);
    assert!(rig.core.outcomes_kept(rig.now) < 10_000);
    rig.transact(client, 3, COMMIT).unwrap();
    rig.transact(client, 12, COMMIT).unwrap();
}

#[test]
fn a_broker_that_keeps_none_says_so() {
    let mut rig = rig(0, HOUR);
    let client = rig.connect();
    commit_in_order(&mut rig, client, 1..=2);
    assert_eq!((rig.core.outcomes_kept(rig.now), rig.stats().outcomes), (0, 0));
    assert_eq!(rig.transact(client, 2, COMMIT), refused());
    let rig = self::rig(10, Duration::ZERO);
    assert_eq!(rig.core.outcomes_kept(rig.now), 0);
}

#[test]
fn a_promise_that_does_not_hold_is_not_relied_on() {
    let mut rig = rig(10, HOUR);
    let (client, other) = (rig.connect(), rig.connect());
    begin(&mut rig, client, 1, true);
    rig.transact(client, 1, COMMIT).unwrap();
    let client = rig.reconnect(client);
    rig.core.promised(client.key, rig.core.outcomes_kept(rig.now));
    assert_eq!(rig.transact(client, 2, COMMIT), refused());
    rig.closed.clear();
    // Meanwhile others crowd it out: a refusal would be taken for "not committed".
    commit_in_order(&mut rig, other, 1..=11);
    request_commit(&mut rig, client, 1);
    assert_eq!((rig.answer(client), &rig.closed[..]), (None, &[client.key][..]));
    let client = rig.reconnect(client);
    rig.core.promised(client.key, rig.core.outcomes_kept(rig.now));
    assert_eq!(rig.transact(client, 1, COMMIT), refused());
}

#[test]
fn a_connection_id_is_that_of_the_newest_connection() {
    let mut rig = Rig::new(true);
    let old = rig.connect();
    begin(&mut rig, old, 1, true);
    rig.consume(old, 1, 10);
    let info = |client_id: &str, connection: &str| ConnectionInfo {
        connection_id: Some(ConnectionId::new(connection)),
        client_id: Some(client_id.into()),
        ..ConnectionInfo::default()
    };
    // Under another client id it is the same connection all the same.
    let new = Client {
        key: rig.socket(),
        ..old
    };
    rig.ask(new, Box::new(info("another", &old.id()))).unwrap();
    assert_eq!(rig.closed, [old.key]);
    assert_eq!((rig.stats().consumers, rig.stats().memory_used), (0, 0));
    rig.lose(old);
    // The old client id is free, the new one is not.
    let third = Client {
        key: rig.socket(),
        number: 99,
    };
    assert_eq!(
        rig.ask(third, Box::new(info("another", "ID:third"))),
        Err("InvalidClientIDException".into())
    );
    assert_eq!(rig.closed, [old.key, third.key], "who has the id keeps it");
    rig.transact(new, 5, BEGIN).unwrap();
    let fourth = Client {
        key: rig.socket(),
        number: 98,
    };
    rig.ask(fourth, Box::new(info(&old.id(), "ID:fourth"))).unwrap();
    // An id that is too long to be kept is refused.
    let fifth = Client {
        key: rig.socket(),
        number: 97,
    };
    assert_eq!(
        rig.ask(fifth, Box::new(info("fifth", &"x".repeat(10_000)))),
        Err("ResourceAllocationException".into())
    );
    assert_eq!(rig.core.queue_depth(&Destination::queue(QUEUE)).unwrap_or(0), 0);
}
