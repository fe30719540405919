//! Transactions that are larger than memory.

use std::sync::Arc;

use openwire_client::wire::*;

use super::rig::{Client, Rig};
use super::xa;

const BEGIN: i8 = TransactionInfo::BEGIN;
const COMMIT: i8 = TransactionInfo::COMMIT_ONE_PHASE;
const ROLLBACK: i8 = TransactionInfo::ROLLBACK;

const MIB: usize = 1024 * 1024;

fn large(client: Client, number: i64, persistent: bool) -> Message {
    Message {
        transaction_id: Some(client.transaction(1)),
        content: Some(vec![0; MIB / 8].into()),
        ..Rig::message(client, number, persistent)
    }
}

fn send(rig: &mut Rig, client: Client, number: i64, persistent: bool) {
    rig.say(client, Arc::new(large(client, number, persistent)));
}

fn begin(rig: &mut Rig, client: Client) {
    rig.transact(client, 1, BEGIN).unwrap();
}

#[test]
fn messages_beyond_a_limit_wait_in_the_store() {
    for end in [COMMIT, ROLLBACK] {
        let mut rig = Rig::with_config(true, MIB, usize::MAX);
        let client = rig.connect();
        begin(&mut rig, client);
        (1..=200).for_each(|number| send(&mut rig, client, number, true));
        assert!(rig.stats().memory_used <= 8 * MIB);
        assert!(rig.stored() > 100 && rig.depth() == 0);
        rig.transact(client, 1, end).unwrap();
        assert_eq!(rig.stats().memory_used, 0);
        if end == ROLLBACK {
            assert_eq!((rig.stored(), rig.depth()), (0, 0));
            continue;
        }
        assert_eq!((rig.stored(), rig.depth()), (200, 200));
        let mut rig = rig.restart(true);
        let client = rig.reconnect(client);
        rig.consume(client, 1, 1000);
        assert_eq!(rig.numbers(client), (1..=200).collect::<Vec<_>>());
        rig.consumed(client, 1, client, 1, 200).unwrap();
        assert_eq!((rig.stored(), rig.resident()), (0, 0));
    }
}

#[test]
fn a_commit_waits_for_what_is_on_its_way_into_the_store() {
    for refused in [false, true] {
        let mut rig = Rig::new(true);
        let client = rig.connect();
        begin(&mut rig, client);
        (1..=70).for_each(|number| send(&mut rig, client, number, true));
        (rig.slow_store, rig.refusing) = (true, refused);
        (71..=80).for_each(|number| send(&mut rig, client, number, true));
        rig.refusing = false;
        let commit = TransactionInfo {
            transaction_id: Some(client.transaction(1)),
            step: COMMIT,
            ..TransactionInfo::default()
        };
        rig.request(client, commit);
        assert_eq!(rig.answer(client), None);
        rig.release();
        let (answer, depth) = match refused {
            true => (Err("TransactionRolledBackException".into()), 0),
            false => (Ok(()), 80),
        };
        assert_eq!(rig.answer(client), Some(answer));
        assert_eq!((rig.depth(), rig.stored()), (depth, depth));
        assert_eq!(rig.stats().memory_used, 0);
    }
}

#[test]
fn a_connection_that_ends_before_its_commit_was_possible_has_not_committed() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    begin(&mut rig, client);
    rig.slow_store = true;
    (1..=80).for_each(|number| send(&mut rig, client, number, true));
    let commit = TransactionInfo {
        transaction_id: Some(client.transaction(1)),
        step: COMMIT,
        ..TransactionInfo::default()
    };
    rig.request(client, commit.clone());
    let client = rig.reconnect(client);
    assert_eq!(rig.ask(client, commit), Err("JMSException".into()));
    rig.release();
    assert_eq!((rig.depth(), rig.stored(), rig.stats().memory_used), (0, 0, 0));
}

#[test]
fn a_refused_commit_leaves_nothing_of_a_large_transaction() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    begin(&mut rig, client);
    (1..=80).for_each(|number| send(&mut rig, client, number, true));
    rig.refusing = true;
    assert_eq!(
        rig.transact(client, 1, COMMIT),
        Err("ResourceAllocationException".into())
    );
    assert!(rig.stored() > 0, "the store does not take the removal either");
    rig.make_space();
    rig.send(client, 81);
    assert_eq!((rig.depth(), rig.stored(), rig.stats().memory_used), (1, 1, 0));
    // The same messages can be sent again.
    let client = rig.reconnect(client);
    begin(&mut rig, client);
    (1..=80).for_each(|number| send(&mut rig, client, number, true));
    rig.transact(client, 1, COMMIT).unwrap();
    let duplicates = rig.stats().duplicates;
    assert_eq!(
        (rig.depth(), rig.stored(), duplicates),
        (1, 1, 80),
        "81 came after them"
    );
}

#[test]
fn a_producer_in_a_transaction_is_not_paused() {
    let mut rig = Rig::with_config(true, MIB, MIB);
    let client = rig.connect();
    begin(&mut rig, client);
    (1..=40).for_each(|number| send(&mut rig, client, number, true));
    assert!(rig.paused.is_empty() && rig.stats().memory_used <= MIB);
    rig.transact(client, 1, COMMIT).unwrap();
    assert_eq!((rig.depth(), rig.stats().memory_used), (40, 0));
    // What cannot be stored is refused, and with it the transaction.
    begin(&mut rig, client);
    (41..=50).for_each(|number| send(&mut rig, client, number, false));
    assert!(rig.paused.is_empty() && rig.stats().memory_used <= MIB);
    assert_eq!(rig.errors(client), ["ResourceAllocationException"]);
    assert_eq!(
        rig.transact(client, 1, COMMIT),
        Err("TransactionRolledBackException".into())
    );
    assert_eq!((rig.depth(), rig.stats().memory_used), (40, 0));
}

#[test]
fn what_cannot_wait_in_the_store_is_bounded_by_memory() {
    for destination in [Destination::topic("T"), Destination::queue("A,B")] {
        let mut rig = Rig::with_config(true, MIB, MIB);
        let client = rig.connect();
        rig.subscribe(client, 1, |info| {
            info.destination = Some(Destination::topic("T"));
            info.subscription_name = Some("s".into());
        })
        .unwrap();
        begin(&mut rig, client);
        for number in 1..=100_000 {
            let message = Message {
                destination: Some(destination.clone()),
                transaction_id: Some(client.transaction(1)),
                ..Rig::message(client, number, true)
            };
            rig.say(client, Arc::new(message));
            assert!(rig.stats().memory_used <= MIB);
        }
        assert_eq!(rig.errors(client), ["ResourceAllocationException"]);
        let rolled_back = Err("TransactionRolledBackException".into());
        assert_eq!(rig.transact(client, 1, COMMIT), rolled_back);
        assert_eq!((rig.stored(), rig.stats().memory_used), (0, 0));
    }
}

#[test]
fn a_transaction_with_too_many_messages_is_rolled_back() {
    let mut rig = Rig::with(true, |config| config.max_uncommitted = 3);
    let client = rig.connect();
    begin(&mut rig, client);
    (1..=3).for_each(|number| send(&mut rig, client, number, true));
    let fourth = Arc::new(large(client, 4, true));
    assert_eq!(rig.ask(client, fourth), Err("ResourceAllocationException".into()));
    assert_eq!(rig.transact(client, 1, COMMIT), Err("JMSException".into()));
    assert_eq!((rig.stats().memory_used, rig.depth()), (0, 0));
    begin(&mut rig, client);
    (5..=7).for_each(|number| send(&mut rig, client, number, true));
    rig.transact(client, 1, COMMIT).unwrap();
    assert_eq!(rig.depth(), 3);
}

/// A consumer that has said that it has 200 messages of 128 KiB, and has acknowledged them in a transaction.
fn taken(rig: &mut Rig) -> Client {
    let client = rig.connect();
    for number in 1..=200 {
        let message = Message {
            transaction_id: None,
            ..large(client, number, true)
        };
        rig.say(client, Arc::new(message));
    }
    rig.consume(client, 1, 1000);
    assert_eq!(rig.numbers(client).len(), 200);
    let delivered = rig.ack(client, 1, MessageAck::DELIVERED, client, 1, 200);
    rig.say(client, Box::new(delivered));
    begin(rig, client);
    let ack = MessageAck {
        transaction_id: Some(client.transaction(1)),
        ..rig.ack(client, 1, MessageAck::STANDARD, client, 1, 200)
    };
    rig.ask(client, Box::new(ack)).unwrap();
    client
}

#[test]
fn many_acknowledgements_commit_without_the_bodies() {
    let mut rig = Rig::new(true);
    let client = taken(&mut rig);
    rig.transact(client, 1, COMMIT).unwrap();
    assert_eq!((rig.stored(), rig.resident(), rig.stats().memory_used), (0, 0, 0));
}

#[test]
fn what_is_given_up_after_a_rollback_is_read_for_the_dead_letters() {
    let mut rig = Rig::new(true);
    let client = taken(&mut rig);
    rig.transact(client, 1, ROLLBACK).unwrap();
    let given_up = rig.ack(client, 1, MessageAck::POISON, client, 150, 200);
    rig.ask(client, Box::new(given_up)).unwrap();
    rig.consumed(client, 1, client, 1, 149).unwrap();
    let dead_letters = Destination::queue("ActiveMQ.DLQ");
    assert_eq!(rig.core.queue_depth(&dead_letters), Some(51));
    rig.consume_from(client, 2, 1000, dead_letters).unwrap();
    let bodies = rig
        .dispatches(client)
        .into_iter()
        .filter_map(|dispatch| dispatch.message);
    let sizes: Vec<_> = bodies
        .map(|message| message.content.as_ref().unwrap().len())
        .collect();
    assert_eq!(sizes, [MIB / 8; 51]);
    assert_eq!(rig.stored(), 51);
}

#[test]
fn a_large_branch_survives_a_restart() {
    for commit in [false, true] {
        let mut rig = Rig::with_config(true, MIB, MIB);
        let client = rig.connect();
        assert_eq!(xa::step(&mut rig, client, 1, BEGIN), Ok(0));
        for number in 1..=200 {
            xa::send_in(&mut rig, client, 1, large(client, number, true));
        }
        assert_eq!(xa::step(&mut rig, client, 1, TransactionInfo::PREPARE), Ok(0));
        assert!(rig.stats().memory_used <= MIB / 2);
        let mut rig = rig.restart(false);
        let client = rig.reconnect(client);
        let step = if commit {
            TransactionInfo::COMMIT_TWO_PHASE
        } else {
            ROLLBACK
        };
        assert_eq!(xa::step(&mut rig, client, 1, step), Ok(0));
        let depth = if commit { 200 } else { 0 };
        assert_eq!(
            (rig.depth(), rig.stored(), rig.stats().memory_used),
            (depth, depth, 0)
        );
        rig.consume(client, 1, 1000);
        assert_eq!(rig.numbers(client), (1..=depth as i64).collect::<Vec<_>>());
    }
}
