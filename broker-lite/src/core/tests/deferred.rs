//! Subscribers of topics see nothing of a send or a commit before what is stored of it is durable.

use std::sync::Arc;

use openwire_client::wire::*;

use super::rig::{Client, Rig};
use crate::core::Rules;
use crate::policy::{Policies, Policy, Recovery};

const NOTHING: [i64; 0] = [];

fn topic() -> Destination {
    Destination::topic("T")
}

/// A client that listens to the topic, and another one's durable subscription to it that nobody consumes from.
fn listening(mut rig: Rig) -> (Rig, Client) {
    let away = rig.connect();
    rig.subscribe(away, 1, durable).unwrap();
    rig.stop_consuming(away, 1, 0);
    let client = rig.connect();
    rig.consume_from(client, 1, 100, topic()).unwrap();
    (rig, client)
}

fn durable(info: &mut ConsumerInfo) {
    info.destination = Some(topic());
    info.subscription_name = Some("s".into());
}

fn message(client: Client, number: i64, persistent: bool) -> Message {
    Message {
        destination: Some(topic()),
        ..Rig::message(client, number, persistent)
    }
}

/// Sends without waiting for an answer.
fn send(rig: &mut Rig, client: Client, number: i64, persistent: bool) {
    rig.say(client, Arc::new(message(client, number, persistent)));
}

#[test]
fn a_subscriber_gets_what_is_stored_for_others_once_it_is_durable() {
    let (mut rig, client) = listening(Rig::new(true));
    rig.slow_store = true;
    send(&mut rig, client, 1, true);
    assert_eq!(rig.numbers(client), NOTHING);
    // What is not stored keeps its place behind it.
    send(&mut rig, client, 2, false);
    send(&mut rig, client, 3, true);
    assert_eq!(rig.numbers(client), NOTHING);
    assert!(rig.stats().memory_used > 0, "what waits is counted");
    rig.release();
    assert_eq!(rig.numbers(client), [1, 2, 3]);
    send(&mut rig, client, 4, false);
    assert_eq!(rig.numbers(client), [4]);
}

#[test]
fn a_subscriber_waits_for_no_store_that_has_nothing_of_the_message() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.consume_from(client, 1, 100, topic()).unwrap();
    rig.slow_store = true;
    send(&mut rig, client, 1, true);
    assert_eq!(rig.numbers(client), [1]);
    // The same in a transaction.
    rig.transact(client, 1, TransactionInfo::BEGIN).unwrap();
    let sent = Message {
        transaction_id: Some(client.transaction(1)),
        ..message(client, 2, true)
    };
    rig.say(client, Arc::new(sent));
    rig.transact(client, 1, TransactionInfo::COMMIT_ONE_PHASE)
        .unwrap();
    assert_eq!((rig.numbers(client), rig.stored()), (vec![2], 0));
}

#[test]
fn what_the_store_refuses_is_never_seen_on_a_topic() {
    let policy = Policy::new().recovery(Recovery::FixedCount { maximum_size: 10 });
    let rules = Rules {
        policies: Policies::new().with_default(policy),
        ..Rules::default()
    };
    let rig = Rig::with(true, |config| config.rules = Arc::new(rules));
    let (mut rig, client) = listening(rig);
    (rig.slow_store, rig.refusing) = (true, true);
    send(&mut rig, client, 1, true);
    send(&mut rig, client, 2, false);
    rig.release();
    assert_eq!(rig.numbers(client), [2]);
    rig.make_space();
    // Nor by those who come later. It can be sent again.
    rig.subscribe(client, 2, |info| {
        info.destination = Some(topic());
        info.retroactive = true;
    })
    .unwrap();
    assert_eq!(rig.by_consumer(client), [(2, 2)]);
    let client = rig.reconnect(client);
    rig.consume_from(client, 1, 100, topic()).unwrap();
    send(&mut rig, client, 1, true);
    assert_eq!(rig.numbers(client), [1]);
    // Message 2 waits for the durable subscription.
    assert_eq!((rig.stats().memory_used, rig.stats().duplicates), (1024, 0));
}

#[test]
fn a_commit_is_seen_as_a_whole_once_it_is_durable() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.consume_from(client, 1, 100, topic()).unwrap();
    for (transaction, refused) in [(1, false), (2, true)] {
        rig.transact(client, transaction, TransactionInfo::BEGIN).unwrap();
        let in_transaction = |message| Message {
            transaction_id: Some(client.transaction(transaction)),
            ..message
        };
        let number = transaction * 10;
        rig.say(client, Arc::new(in_transaction(message(client, number, false))));
        let to_queue = Rig::message(client, number + 1, true);
        rig.say(client, Arc::new(in_transaction(to_queue)));
        (rig.slow_store, rig.refusing) = (true, refused);
        let commit = TransactionInfo {
            transaction_id: Some(client.transaction(transaction)),
            step: TransactionInfo::COMMIT_ONE_PHASE,
            ..TransactionInfo::default()
        };
        rig.say(client, commit);
        assert_eq!(rig.numbers(client), NOTHING);
        rig.release();
        let seen = if refused { vec![] } else { vec![number] };
        assert_eq!(rig.numbers(client), seen);
    }
    assert_eq!(rig.depth(), 1);
}

#[test]
fn a_copy_for_a_topic_waits_for_the_copy_that_is_stored() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.consume_from(client, 1, 100, topic()).unwrap();
    for destination in [
        Destination::queue("Q,topic://T"),
        Destination::queue("topic://T,queue://Q"),
    ] {
        rig.slow_store = true;
        let sent = Message {
            destination: Some(destination),
            ..Rig::message(client, 1, true)
        };
        rig.say(client, Arc::new(sent));
        assert_eq!(rig.numbers(client), NOTHING);
        rig.release();
        assert_eq!(rig.numbers(client), [1]);
    }
}

#[test]
fn who_comes_meanwhile_gets_what_came_before_only_if_it_wants_it() {
    let policy = Policy::new().recovery(Recovery::FixedCount { maximum_size: 10 });
    let rules = Rules {
        policies: Policies::new().with_default(policy),
        ..Rules::default()
    };
    let rig = Rig::with(true, |config| config.rules = Arc::new(rules));
    let (mut rig, client) = listening(rig);
    let late = rig.connect();
    rig.slow_store = true;
    send(&mut rig, client, 1, true);
    rig.consume_from(late, 1, 100, topic()).unwrap();
    rig.subscribe(late, 2, |info| {
        info.destination = Some(topic());
        info.retroactive = true;
    })
    .unwrap();
    let mut subscription = ConsumerInfo {
        consumer_id: Some(late.consumer(3)),
        prefetch_size: 100,
        retroactive: true,
        ..ConsumerInfo::default()
    };
    durable(&mut subscription);
    rig.say(late, Box::new(subscription));
    assert_eq!(rig.by_consumer(late), []);
    rig.release();
    let mut seen = rig.by_consumer(late);
    seen.sort_unstable();
    assert_eq!(seen, [(2, 1), (3, 1)]);
    assert_eq!(rig.numbers(client), [1]);
}

#[test]
fn a_topic_that_goes_takes_what_waited_along() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    let temporary = Destination::new(DestinationKind::TempTopic, &format!("{}:1", client.id()));
    let info = |operation_type| DestinationInfo {
        destination: Some(temporary.clone()),
        operation_type,
        ..DestinationInfo::default()
    };
    rig.ask(client, info(DestinationInfo::ADD)).unwrap();
    rig.slow_store = true;
    rig.transact(client, 1, TransactionInfo::BEGIN).unwrap();
    for (number, destination) in [(1, temporary.clone()), (2, Destination::queue("Q"))] {
        let sent = Message {
            destination: Some(destination),
            transaction_id: Some(client.transaction(1)),
            ..Rig::message(client, number, true)
        };
        rig.say(client, Arc::new(sent));
    }
    let commit = TransactionInfo {
        transaction_id: Some(client.transaction(1)),
        step: TransactionInfo::COMMIT_ONE_PHASE,
        ..TransactionInfo::default()
    };
    rig.say(client, commit);
    assert!(rig.stats().memory_used > 0);
    rig.ask(client, info(DestinationInfo::REMOVE)).unwrap();
    assert_eq!(rig.stats().memory_used, 0);
    rig.release();
    assert_eq!((rig.depth(), rig.stats().memory_used), (1, 0));
}
