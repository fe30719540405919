//! A batch that the store refuses has no effect, whatever was in it.

use std::sync::Arc;

use openwire_client::wire::*;

use super::rig::{Client, Rig};

fn full() -> Result<(), String> {
    Err("ResourceAllocationException".into())
}

/// A consumer that has the messages 1 and 2 and room for more.
fn holding_two() -> (Rig, Client) {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.consume(client, 1, 10);
    rig.send(client, 1);
    rig.send(client, 2);
    assert_eq!(rig.numbers(client), [1, 2]);
    (rig, client)
}

/// Acknowledges message 1, or 1 and 2, in a transaction.
fn acknowledge_in(rig: &mut Rig, client: Client, transaction: i64, to: i64) {
    rig.transact(client, transaction, TransactionInfo::BEGIN).unwrap();
    let ack = MessageAck {
        transaction_id: Some(client.transaction(transaction)),
        ..rig.ack(client, 1, MessageAck::STANDARD, client, 1, to)
    };
    rig.say(client, Box::new(ack));
}

#[test]
fn what_a_refused_commit_consumed_is_still_with_its_consumer() {
    let (mut rig, client) = holding_two();
    acknowledge_in(&mut rig, client, 1, 1);
    let reply = Message {
        transaction_id: Some(client.transaction(1)),
        ..Rig::message(client, 3, true)
    };
    rig.say(client, Arc::new(reply));
    rig.refusing = true;
    assert_eq!(rig.transact(client, 1, TransactionInfo::COMMIT_ONE_PHASE), full());
    rig.make_space();
    assert_eq!(
        rig.numbers(client),
        [0i64; 0],
        "the client delivers them again itself"
    );
    // In the order in which they were dispatched.
    acknowledge_in(&mut rig, client, 2, 2);
    rig.transact(client, 2, TransactionInfo::COMMIT_ONE_PHASE)
        .unwrap();
    assert_eq!((rig.stored(), rig.depth()), (0, 0));
}

#[test]
fn what_a_refused_commit_consumed_goes_back_to_the_queue_if_its_consumer_has_ended() {
    let (mut rig, client) = holding_two();
    acknowledge_in(&mut rig, client, 1, 1);
    (rig.slow_store, rig.refusing) = (true, true);
    let mut commit = Command::from(TransactionInfo {
        transaction_id: Some(client.transaction(1)),
        step: TransactionInfo::COMMIT_ONE_PHASE,
        ..TransactionInfo::default()
    });
    commit.set_header(9, true);
    rig.say(client, commit);
    rig.stop_consuming(client, 1, RemoveInfo::UNKNOWN_DELIVERED);
    rig.release();
    assert_eq!(rig.answer(client), Some(full()));
    rig.make_space();
    rig.consume(client, 2, 10);
    assert_eq!(rig.dispatched(client), [(2, 1, 1), (2, 2, 1)]);
}

#[test]
fn a_refused_acknowledgement_that_nobody_is_told_of_leads_to_redelivery() {
    let (mut rig, client) = holding_two();
    rig.refusing = true;
    let ack = rig.ack(client, 1, MessageAck::STANDARD, client, 1, 2);
    rig.say(client, Box::new(ack));
    assert_eq!(rig.dispatched(client), []);
    rig.make_space();
    assert_eq!(rig.dispatched(client), [(1, 1, 1), (1, 2, 1)]);
    rig.consumed(client, 1, client, 1, 2).unwrap();
    assert_eq!((rig.stored(), rig.depth(), rig.resident()), (0, 0, 0));
}

#[test]
fn a_refused_acknowledgement_that_is_told_can_be_repeated() {
    let (mut rig, client) = holding_two();
    rig.refusing = true;
    assert_eq!(rig.consumed(client, 1, client, 1, 1), full());
    rig.make_space();
    assert_eq!(rig.dispatched(client), []);
    rig.consumed(client, 1, client, 1, 2).unwrap();
    assert_eq!(rig.stored(), 0);
}

#[test]
fn a_message_sent_again_is_refused_with_its_first_copy() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.send(client, 1);
    (rig.slow_store, rig.refusing) = (true, true);
    let mut message = Command::from(Arc::new(Rig::message(client, 2, true)));
    message.set_header(9, true);
    rig.say(client, message.clone());
    let client = rig.reconnect(client);
    rig.say(client, message);
    assert_eq!(rig.answer(client), None);
    rig.release();
    assert_eq!((rig.answer(client), rig.stats().duplicates), (Some(full()), 1));
    rig.make_space();
    rig.send(client, 2);
    assert_eq!((rig.depth(), rig.stored()), (2, 2));
}

#[test]
fn a_queue_whose_first_message_was_refused_takes_the_next() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.refusing = true;
    let first = Arc::new(Rig::message(client, 1, true));
    assert_eq!(rig.ask(client, first), full());
    rig.make_space();
    rig.send(client, 2);
    assert_eq!((rig.depth(), rig.stored()), (1, 1));
}

#[test]
fn a_dead_letter_that_is_refused_leaves_the_message_where_it_was_and_is_tried_again() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    let expiration = rig.now + 10;
    let message = Message {
        expiration,
        ..Rig::message(client, 1, true)
    };
    rig.ask(client, Arc::new(message)).unwrap();
    rig.now = expiration;
    rig.refusing = true;
    rig.consume(client, 1, 10);
    assert_eq!((rig.depth(), rig.stored(), rig.stats().expired), (1, 1, 1));
    rig.make_space();
    assert_eq!((rig.depth(), rig.stored()), (0, 1));
    let dead_letters = Destination::queue("ActiveMQ.DLQ");
    assert_eq!(rig.core.queue_depth(&dead_letters), Some(1));
}

#[test]
fn a_refused_dead_letter_does_not_make_the_broker_forget_what_it_has() {
    let (mut rig, client) = holding_two();
    let sender = rig.connect();
    rig.send(sender, 3);
    assert_eq!(rig.numbers(client), [3]);
    rig.refusing = true;
    let given_up = rig.ack(client, 1, MessageAck::POISON, sender, 3, 3);
    rig.say(client, Box::new(given_up));
    rig.make_space();
    assert_eq!(rig.dispatched(client), [(1, 3, 1)]);
    let sender = rig.reconnect(sender);
    rig.send(sender, 3);
    assert_eq!((rig.stats().duplicates, rig.stored()), (1, 3));
}

fn subscription(client: Client, name: &str, topic: &str) -> Box<ConsumerInfo> {
    Box::new(ConsumerInfo {
        consumer_id: Some(client.consumer(1)),
        destination: Some(Destination::topic(topic)),
        subscription_name: Some(name.into()),
        prefetch_size: 10,
        ..ConsumerInfo::default()
    })
}

fn publish(rig: &mut Rig, client: Client, number: i64) {
    rig.send_with(client, number, |message| {
        message.destination = Some(Destination::topic("T"));
    });
}

#[test]
fn a_durable_subscription_that_the_store_refuses_is_not_there() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.refusing = true;
    assert_eq!(rig.ask(client, subscription(client, "s", "T")), full());
    rig.make_space();
    let remove = RemoveSubscriptionInfo {
        subscription_name: Some("s".into()),
        ..RemoveSubscriptionInfo::default()
    };
    let gone = Err("InvalidDestinationException".to_owned());
    assert_eq!(rig.ask(client, remove), gone);
    publish(&mut rig, client, 1);
    assert_eq!((rig.stored(), rig.stats().consumers), (0, 0));
    // It can be had once there is room.
    rig.ask(client, subscription(client, "s", "T")).unwrap();
    publish(&mut rig, client, 2);
    assert_eq!((rig.numbers(client), rig.stored()), (vec![2], 1));
}

#[test]
fn a_refused_subscription_is_told_to_a_client_that_asks_for_no_answer() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.refusing = true;
    rig.say(client, subscription(client, "s", "T"));
    assert_eq!(rig.errors(client), ["ResourceAllocationException"]);
    assert_eq!(rig.stats().consumers, 0);
}

#[test]
fn a_subscription_whose_successor_is_refused_is_gone_for_good() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.ask(client, subscription(client, "s", "T")).unwrap();
    rig.stop_consuming(client, 1, 0);
    publish(&mut rig, client, 1);
    rig.refusing = true;
    assert_eq!(rig.ask(client, subscription(client, "s", "U")), full());
    rig.make_space();
    // With the next thing the store takes it lets go of what it has of the one before.
    rig.send(client, 2);
    assert_eq!(rig.stored(), 1);
    let mut rig = rig.restart(true);
    let client = rig.connect();
    rig.ask(client, subscription(client, "s", "T")).unwrap();
    assert_eq!(rig.numbers(client), [0i64; 0]);
}

#[test]
fn a_counter_that_the_store_refuses_is_told_again() {
    let (mut rig, client) = holding_two();
    rig.refusing = true;
    rig.lose(client);
    rig.make_space();
    let mut rig = rig.restart(true);
    let client = rig.connect();
    rig.consume(client, 1, 10);
    assert_eq!(rig.dispatched(client), [(1, 1, 1), (1, 2, 1)]);
}
