//! One behaviour a test.

use std::sync::Arc;

use openwire_client::wire::*;

use super::rig::{Client, QUEUE, Rig};

#[test]
fn a_queue_is_first_in_first_out_and_prefetch_is_credit() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    (1..=5).for_each(|number| rig.send(client, number));
    rig.consume(client, 1, 3);
    assert_eq!(rig.numbers(client), [1, 2, 3]);
    rig.consumed(client, 1, client, 1, 2).unwrap();
    assert_eq!(rig.numbers(client), [4, 5]);
    rig.consumed(client, 1, client, 3, 5).unwrap();
    assert_eq!(
        (rig.depth(), rig.stats().memory_used, rig.stats().acknowledged),
        (0, 0, 5)
    );
}

#[test]
fn competing_consumers_are_served_in_turn() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    for consumer in 1..=3 {
        rig.consume(client, consumer, 10);
    }
    (1..=6).for_each(|number| rig.send(client, number));
    let consumers: Vec<_> = rig
        .dispatched(client)
        .into_iter()
        .map(|(consumer, ..)| consumer)
        .collect();
    assert_eq!(consumers, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn what_a_consumer_saw_comes_back_as_redelivered_and_in_order() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    (1..=4).for_each(|number| rig.send(client, number));
    rig.consume(client, 1, 3);
    let second = rig.dispatches(client)[1]
        .message
        .as_ref()
        .unwrap()
        .message_id
        .as_ref()
        .unwrap()
        .broker_sequence_id;
    rig.stop_consuming(client, 1, second);
    rig.consume(client, 2, 10);
    assert_eq!(
        rig.dispatched(client),
        [(2, 1, 1), (2, 2, 1), (2, 3, 0), (2, 4, 0)]
    );
    rig.stop_consuming(client, 2, RemoveInfo::NOTHING_DELIVERED);
    rig.consume(client, 3, 10);
    assert_eq!(
        rig.dispatched(client),
        [(3, 1, 1), (3, 2, 1), (3, 3, 0), (3, 4, 0)]
    );
    rig.lose(client);
    let other = rig.connect();
    rig.consume(other, 1, 10);
    assert_eq!(
        rig.dispatched(other),
        [(1, 1, 2), (1, 2, 2), (1, 3, 1), (1, 4, 1)]
    );
}

#[test]
fn an_acknowledgement_must_match_what_was_dispatched() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    (1..=3).for_each(|number| rig.send(client, number));
    rig.consume(client, 1, 10);
    let wrong_count = MessageAck {
        message_count: 1,
        ..rig.ack(client, 1, MessageAck::STANDARD, client, 1, 3)
    };
    assert_eq!(rig.ask(client, Box::new(wrong_count)), Err("JMSException".into()));
    assert_eq!(rig.consumed(client, 1, client, 1, 9), Err("JMSException".into()));
    let individual = MessageAck {
        first_message_id: None,
        ..rig.ack(client, 1, MessageAck::INDIVIDUAL, client, 2, 2)
    };
    rig.ask(client, Box::new(individual)).unwrap();
    rig.consumed(client, 1, client, 1, 1).unwrap();
    rig.consumed(client, 1, client, 3, 3).unwrap();
    assert_eq!(rig.stats().acknowledged, 3);
}

#[test]
fn delivered_widens_the_window_and_consumption_takes_it_back() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    (1..=8).for_each(|number| rig.send(client, number));
    rig.consume(client, 1, 2);
    let delivered = rig.ack(client, 1, MessageAck::DELIVERED, client, 1, 2);
    rig.say(client, Box::new(delivered));
    assert_eq!(rig.numbers(client), [1, 2, 3, 4]);
    rig.consumed(client, 1, client, 1, 2).unwrap();
    assert_eq!(rig.numbers(client), [] as [i64; 0]);
    rig.consumed(client, 1, client, 3, 3).unwrap();
    assert_eq!(rig.numbers(client), [5]);
}

#[test]
fn a_persistent_send_is_confirmed_when_it_is_stored() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.slow_store = true;
    let mut command = Command::from(Arc::new(Rig::message(client, 1, true)));
    command.set_header(5, true);
    rig.say(client, command);
    assert_eq!(rig.answer(client), None);
    rig.release();
    assert_eq!((rig.answer(client), rig.stored()), (Some(Ok(())), 1));
    rig.consume(client, 1, 1);
    rig.consumed(client, 1, client, 1, 1).unwrap();
    assert_eq!(rig.stored(), 0);
}

#[test]
fn nothing_stored_is_shown_before_a_restart_would_know() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    (1..=3).for_each(|number| rig.send(client, number));
    rig.slow_store = true;
    rig.say(
        client,
        Box::new(ConsumerInfo {
            consumer_id: Some(client.consumer(1)),
            destination: Some(Destination::queue(QUEUE)),
            prefetch_size: 2,
            ..ConsumerInfo::default()
        }),
    );
    assert_eq!(rig.numbers(client), [] as [i64; 0]);
    rig.release();
    assert_eq!(rig.numbers(client), [1, 2]);
    let mut rig = rig.restart(false);
    let client = rig.connect();
    rig.consume(client, 1, 10);
    let flagged: Vec<_> = rig
        .dispatched(client)
        .into_iter()
        .map(|(_, _, redelivered)| redelivered > 0)
        .collect();
    assert!(flagged[0] && flagged[1] && flagged.len() == 3);
    // In order, every counter is exact.
    rig.stop_consuming(client, 1, RemoveInfo::NOTHING_DELIVERED);
    let mut rig = rig.restart(true);
    let client = rig.connect();
    rig.send(client, 9);
    rig.consume(client, 1, 10);
    assert_eq!(rig.dispatched(client).last(), Some(&(1, 9, 0)));
}

#[test]
fn bodies_beyond_the_limit_come_back_in_order() {
    let mut rig = Rig::with_config(true, 10 * 1024, usize::MAX);
    let client = rig.connect();
    (1..=3000).for_each(|number| rig.send(client, number));
    assert!(rig.resident() <= 10 * 1024);
    rig.consume(client, 1, 7);
    let mut next = 1;
    while next <= 3000 {
        let numbers = rig.numbers(client);
        assert_eq!(numbers.first(), Some(&next));
        next += numbers.len() as i64;
        rig.consumed(client, 1, client, numbers[0], next - 1).unwrap();
    }
    assert_eq!((rig.stored(), rig.resident()), (0, 0));
}

#[test]
fn a_commit_sends_and_consumes_at_once_and_a_rollback_does_nothing() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    (1..=2).for_each(|number| rig.send(client, number));
    rig.consume(client, 1, 10);
    rig.numbers(client);
    for (transaction, outcome) in [
        (1, TransactionInfo::ROLLBACK),
        (2, TransactionInfo::COMMIT_ONE_PHASE),
    ] {
        rig.transact(client, transaction, TransactionInfo::BEGIN).unwrap();
        let id = Some(client.transaction(transaction));
        let sent = Message {
            transaction_id: id.clone(),
            ..Rig::message(client, 10 + transaction, true)
        };
        rig.say(client, Arc::new(sent));
        let ack = MessageAck {
            transaction_id: id,
            ..rig.ack(client, 1, MessageAck::STANDARD, client, 1, 2)
        };
        rig.say(client, Box::new(ack));
        assert_eq!((rig.numbers(client), rig.stored()), (vec![], 2));
        rig.transact(client, transaction, outcome).unwrap();
    }
    assert_eq!(
        (rig.numbers(client), rig.stored(), rig.stats().memory_used),
        (vec![12], 1, 0)
    );
    assert_eq!(
        rig.transact(client, 1, TransactionInfo::COMMIT_ONE_PHASE),
        Err("JMSException".into())
    );
}

#[test]
fn a_transaction_outlives_its_consumer_but_not_its_connection() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    (1..=2).for_each(|number| rig.send(client, number));
    rig.consume(client, 1, 10);
    rig.transact(client, 1, TransactionInfo::BEGIN).unwrap();
    let transaction_id = Some(client.transaction(1));
    let ack = MessageAck {
        transaction_id,
        ..rig.ack(client, 1, MessageAck::STANDARD, client, 1, 1)
    };
    rig.say(client, Box::new(ack));
    rig.stop_consuming(client, 1, RemoveInfo::UNKNOWN_DELIVERED);
    assert_eq!(rig.depth(), 1);
    rig.lose(client);
    assert_eq!((rig.depth(), rig.stored()), (2, 2));
}

#[test]
fn a_failed_send_without_an_answer_fails_the_commit() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.transact(client, 1, TransactionInfo::BEGIN).unwrap();
    let transaction_id = Some(client.transaction(1));
    rig.say(
        client,
        Arc::new(Message {
            transaction_id: transaction_id.clone(),
            ..Rig::message(client, 1, true)
        }),
    );
    let gone = Some(Destination::new(DestinationKind::TempQueue, "ID:nobody:1"));
    rig.say(
        client,
        Arc::new(Message {
            transaction_id,
            destination: gone,
            ..Rig::message(client, 2, true)
        }),
    );
    assert_eq!(rig.errors(client), ["DestinationDoesNotExistException"]);
    let outcome = rig.transact(client, 1, TransactionInfo::COMMIT_ONE_PHASE);
    assert_eq!(
        (outcome, rig.depth()),
        (Err("TransactionRolledBackException".into()), 0)
    );
}

fn pull(client: Client, timeout: i64) -> Box<MessagePull> {
    Box::new(MessagePull {
        consumer_id: Some(client.consumer(1)),
        timeout,
        ..MessagePull::default()
    })
}

#[test]
fn a_pull_gets_one_message_or_the_answer_that_there_is_none() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.consume(client, 1, 0);
    rig.say(client, pull(client, -1));
    assert_eq!(rig.numbers(client), [0]);
    rig.say(client, pull(client, 500));
    assert_eq!(rig.core.next_deadline(), Some(rig.now + 500));
    rig.now += 499;
    rig.tick();
    assert_eq!(rig.numbers(client), [] as [i64; 0]);
    rig.now += 1;
    rig.tick();
    assert_eq!(rig.numbers(client), [0]);
    rig.say(client, pull(client, 0));
    (1..=2).for_each(|number| rig.send(client, number));
    assert_eq!(rig.numbers(client), [1]);
    rig.slow_store = true;
    rig.say(client, pull(client, -1));
    rig.release();
    assert_eq!(rig.numbers(client), [2]);
    assert_eq!(rig.core.next_deadline(), None);
}

#[test]
fn a_topic_message_goes_to_every_subscriber_and_waits_for_credit() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    let topic = Destination::topic("T");
    rig.consume_from(client, 1, 100, topic.clone()).unwrap();
    rig.consume_from(client, 2, 1, topic.clone()).unwrap();
    for number in 1..=2 {
        let message = Message {
            destination: Some(topic.clone()),
            ..Rig::message(client, number, true)
        };
        rig.ask(client, Arc::new(message)).unwrap();
    }
    assert_eq!(rig.dispatched(client), [(1, 1, 0), (2, 1, 0), (1, 2, 0)]);
    rig.consumed(client, 2, client, 1, 1).unwrap();
    assert_eq!(rig.dispatched(client), [(2, 2, 0)]);
    assert_eq!((rig.stats().memory_used, rig.stored()), (0, 0));
}

#[test]
fn a_temporary_queue_belongs_to_its_connection_and_is_announced() {
    let mut rig = Rig::new(true);
    let (owner, other) = (rig.connect(), rig.connect());
    let advisories = Destination::topic("ActiveMQ.Advisory.TempQueue,ActiveMQ.Advisory.TempTopic");
    rig.consume_from(other, 9, 100, advisories.clone()).unwrap();
    let temporary = Destination::new(DestinationKind::TempQueue, &format!("{}:1", owner.id()));
    let send = |rig: &mut Rig, number| {
        let message = Message {
            destination: Some(temporary.clone()),
            ..Rig::message(other, number, true)
        };
        rig.ask(other, Arc::new(message))
    };
    assert_eq!(send(&mut rig, 1), Err("DestinationDoesNotExistException".into()));
    let info = DestinationInfo {
        destination: Some(temporary.clone()),
        ..DestinationInfo::default()
    };
    assert_eq!(
        rig.ask(other, info.clone()),
        Err("InvalidDestinationException".into())
    );
    rig.ask(owner, info).unwrap();
    let announced = |dispatches: Vec<MessageDispatch>| -> Vec<(Destination, i8)> {
        let infos = dispatches.into_iter().filter_map(|dispatch| {
            match dispatch.message?.data_structure.as_deref()? {
                Command::DestinationInfo(info) => Some((info.destination.clone()?, info.operation_type)),
                _ => None,
            }
        });
        infos.collect()
    };
    assert_eq!(
        announced(rig.dispatches(other)),
        [(temporary.clone(), DestinationInfo::ADD)]
    );
    rig.consume_from(other, 10, 100, advisories).unwrap();
    assert_eq!(
        announced(rig.dispatches(other)),
        [(temporary.clone(), DestinationInfo::ADD)]
    );
    send(&mut rig, 2).unwrap();
    assert_eq!(
        rig.consume_from(other, 1, 1, temporary.clone()),
        Err("InvalidDestinationException".into())
    );
    rig.consume_from(owner, 1, 1, temporary.clone()).unwrap();
    assert_eq!(rig.numbers(owner), [2]);
    rig.lose(owner);
    let gone = announced(rig.dispatches(other));
    assert!(gone.len() == 2 && gone.contains(&(temporary.clone(), DestinationInfo::REMOVE)));
    assert_eq!(send(&mut rig, 3), Err("DestinationDoesNotExistException".into()));
    assert_eq!((rig.stored(), rig.stats().memory_used), (0, 0));
}

#[test]
fn a_client_id_is_used_once_unless_its_owner_comes_again() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.send(client, 1);
    rig.consume(client, 1, 1);
    let key = rig.socket();
    let stranger = Client { key, ..client };
    let info = ConnectionInfo {
        connection_id: Some(ConnectionId::new("ID:other")),
        client_id: Some(client.id().into()),
        ..ConnectionInfo::default()
    };
    assert_eq!(
        rig.ask(stranger, Box::new(info)),
        Err("InvalidClientIDException".into())
    );
    assert_eq!(rig.closed, [key]);
    let again = rig.reconnect(client);
    assert_eq!(rig.closed, [key, client.key]);
    rig.consume(again, 1, 1);
    assert_eq!(rig.dispatched(again), [(1, 1, 1)]);
    rig.lose(client);
    assert_eq!(
        rig.ask(again, SessionInfo::default()),
        Err("IllegalStateException".into())
    );
    rig.consumed(again, 1, client, 1, 1).unwrap();
}

#[test]
fn what_is_sent_again_after_a_failover_is_taken_once() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    (1..=2).for_each(|number| rig.send(client, number));
    let client = rig.reconnect(client);
    (2..=3).for_each(|number| rig.send(client, number));
    assert_eq!((rig.depth(), rig.stats().duplicates), (3, 1));
}

#[test]
fn given_up_messages_become_dead_letters_with_their_cause() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.send(client, 1);
    rig.ask(client, Arc::new(Rig::message(client, 2, false))).unwrap();
    let expiring = Message {
        expiration: rig.now + 10,
        ..Rig::message(client, 3, true)
    };
    rig.ask(client, Arc::new(expiring)).unwrap();
    rig.now += 10;
    rig.consume(client, 1, 10);
    let poison = MessageAck {
        poison_cause: Some(Throwable::new("java.lang.Exception", "broken")),
        ..rig.ack(client, 1, MessageAck::POISON, client, 1, 2)
    };
    rig.ask(client, Box::new(poison)).unwrap();
    rig.numbers(client);
    rig.consume_from(client, 2, 10, Destination::queue("ActiveMQ.DLQ"))
        .unwrap();
    let letters: Vec<_> = rig
        .dispatches(client)
        .into_iter()
        .filter_map(|dispatch| dispatch.message)
        .collect();
    let cause = |message: &Message| {
        let properties = decode_map(message.marshalled_properties.clone().unwrap()).unwrap();
        match properties.get("dlqDeliveryFailureCause") {
            Some(Value::String(cause)) => cause.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let numbers: Vec<_> = letters
        .iter()
        .map(|m| m.message_id.as_ref().unwrap().producer_sequence_id)
        .collect();
    assert_eq!(numbers, [3, 1]);
    assert!(cause(&letters[1]).contains("broken") && cause(&letters[0]).contains("Expired"));
    assert_eq!(letters[0].original_destination, Some(Destination::queue(QUEUE)));
    assert_eq!(letters[0].expiration, 0);
    assert_eq!(
        (rig.stats().dead_lettered, rig.stats().discarded, rig.stored()),
        (2, 1, 2)
    );
}

#[test]
fn a_topic_consumer_gets_what_it_selects() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    let topic = Destination::topic("prices");
    let subscribe = |consumer, destination: &Destination, selector: &str| {
        Box::new(ConsumerInfo {
            consumer_id: Some(client.consumer(consumer)),
            destination: Some(destination.clone()),
            prefetch_size: 10,
            selector: Some(selector.into()),
            ..ConsumerInfo::default()
        })
    };
    for (consumer, selector) in [
        (1, "JMSPriority > 4"),
        (2, " "),
        (3, "NOT (JMSType + 1 = 1)"),
        (4, "JMSPriority - JMSType = 1"),
    ] {
        rig.ask(client, subscribe(consumer, &topic, selector)).unwrap();
    }
    for (number, priority) in [(1, 4), (2, 5), (3, 9)] {
        let message = Message {
            destination: Some(topic.clone()),
            priority,
            message_type: Some("a".into()),
            ..Rig::message(client, number, false)
        };
        rig.ask(client, Arc::new(message)).unwrap();
    }
    let mut seen: Vec<_> = rig
        .dispatched(client)
        .into_iter()
        .map(|(consumer, number, _)| (consumer, number))
        .collect();
    seen.sort_unstable();
    // A selector that does not fit a message, as the last one, does not select it.
    assert_eq!(
        seen,
        [(1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)]
    );
    for destination in [&topic, &Destination::queue(QUEUE)] {
        let wrong = rig.ask(client, subscribe(5, destination, "JMSPriority >"));
        assert_eq!(wrong, Err("InvalidSelectorException".into()));
    }
    assert_eq!(rig.stats().consumers, 4);
}

#[test]
fn what_the_broker_cannot_do_is_refused() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    let base = ConsumerInfo {
        consumer_id: Some(client.consumer(1)),
        destination: Some(Destination::queue(QUEUE)),
        prefetch_size: 1,
        ..ConsumerInfo::default()
    };
    let refused = [
        ConsumerInfo {
            selector: Some("a = ".into()),
            ..base.clone()
        },
        ConsumerInfo {
            subscription_name: Some("s".into()),
            ..base.clone()
        },
        ConsumerInfo {
            network_subscription: true,
            ..base.clone()
        },
    ];
    for info in refused {
        assert!(rig.ask(client, Box::new(info.clone())).is_err(), "{info:?}");
    }
    assert_eq!((rig.stats().consumers, rig.depth()), (0, 0));
}

#[test]
fn nothing_is_taken_before_the_client_introduced_itself() {
    let mut rig = Rig::new(false);
    let key = rig.socket();
    let client = rig.connect();
    let stranger = Client { key, ..client };
    assert!(
        rig.ask(stranger, Arc::new(Rig::message(client, 1, false)))
            .is_err()
    );
    assert!(rig.ask(stranger, Box::new(ConsumerInfo::default())).is_err());
    assert_eq!(
        rig.ask(stranger, Box::new(ConnectionInfo::default())),
        Err("IllegalStateException".into())
    );
    assert_eq!(rig.closed, [key]);
}

#[test]
fn a_consumer_sees_only_what_is_durable() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.consume(client, 1, 10);
    rig.slow_store = true;
    rig.say(client, Arc::new(Rig::message(client, 1, true)));
    rig.say(client, Arc::new(Rig::message(client, 2, true)));
    assert_eq!(rig.numbers(client), [] as [i64; 0]);
    rig.release();
    assert_eq!(rig.numbers(client), [1, 2]);
    // What is not stored does not wait, but it does not overtake either.
    rig.slow_store = true;
    rig.say(client, Arc::new(Rig::message(client, 3, false)));
    rig.say(client, Arc::new(Rig::message(client, 4, true)));
    rig.say(client, Arc::new(Rig::message(client, 5, false)));
    assert_eq!(rig.numbers(client), [3]);
    rig.release();
    assert_eq!(rig.numbers(client), [4, 5]);
}

#[test]
fn what_the_store_refuses_was_never_there_and_can_be_sent_again() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.send(client, 1);
    (rig.slow_store, rig.refusing) = (true, true);
    let mut refused = Command::from(Arc::new(Rig::message(client, 2, true)));
    refused.set_header(5, true);
    rig.say(client, refused);
    rig.refusing = false;
    rig.release();
    assert_eq!((rig.depth(), rig.stats().refused), (1, 1));
    let client = rig.reconnect(client);
    rig.send(client, 2);
    rig.consume(client, 1, 10);
    assert_eq!((rig.numbers(client), rig.stats().duplicates), (vec![1, 2], 0));
}

#[test]
fn consumers_that_end_together_do_not_pass_on_what_they_had_among_themselves() {
    let mut rig = Rig::new(true);
    let (sender, receiver) = (rig.connect(), rig.connect());
    for consumer in 1..=5 {
        rig.consume(receiver, consumer, 10);
    }
    (1..=3).for_each(|number| rig.send(sender, number));
    assert_eq!(rig.numbers(receiver), [1, 2, 3]);
    rig.lose(receiver);
    assert_eq!(rig.stats().dispatched, 3);
    let receiver = rig.connect();
    rig.consume(receiver, 1, 10);
    assert_eq!(
        rig.dispatched(receiver),
        [(1, 1, 1), (1, 2, 1), (1, 3, 1)],
        "one break is one redelivery"
    );
}

#[test]
fn what_a_crash_made_redelivered_is_so_after_an_orderly_stop_as_well() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.consume(client, 1, 10);
    rig.send(client, 1);
    assert_eq!(rig.dispatched(client), [(1, 1, 0)]);
    let mut rig = rig.restart(false);
    assert_eq!(
        rig.core.next_deadline(),
        Some(rig.now),
        "the store is to be told soon"
    );
    rig.tick();
    let mut rig = rig.restart(true);
    let client = rig.connect();
    rig.consume(client, 1, 10);
    assert_eq!(rig.dispatched(client), [(1, 1, 1)]);
}

#[test]
fn what_consumers_have_when_the_broker_stops_goes_to_none_of_them_and_says_that_it_was_shown() {
    let mut rig = Rig::new(true);
    let [one, other] = [rig.connect(), rig.connect()];
    rig.consume(one, 1, 10);
    (1..=2).for_each(|number| rig.send(one, number));
    assert_eq!(rig.dispatched(one), [(1, 1, 0), (1, 2, 0)]);
    rig.core.end_dispatch();
    rig.consume(other, 1, 10);
    rig.send(one, 3);
    // What is acknowledged meanwhile counts.
    rig.consumed(one, 1, one, 1, 1).unwrap();
    rig.lose(one);
    assert_eq!(rig.dispatched(other), []);
    rig.lose(other);
    let mut rig = rig.restart(true);
    let client = rig.connect();
    rig.consume(client, 1, 10);
    assert_eq!(rig.dispatched(client), [(1, 2, 1), (1, 3, 0)]);
}
