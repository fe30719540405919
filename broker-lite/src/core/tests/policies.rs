//! What policies and interceptors say holds.

use std::sync::Arc;
use std::time::Duration;

use openwire_client::wire::*;

use super::rig::{Rig, properties};
use crate::core::Rules;
use crate::policy::{
    Composite, DeadLetterStrategy, DeadLetters, Filter, Forward, IndividualDeadLetters, Mirror, Pattern,
    Policies, Policy,
};

fn rig(stored: bool, change: impl FnOnce(&mut Rules)) -> Rig {
    let mut rules = Rules::default();
    change(&mut rules);
    Rig::with(stored, |config| config.rules = Arc::new(rules))
}

fn with_policy(stored: bool, policy: Policy) -> Rig {
    rig(stored, |rules| {
        rules.policies = Policies::new().with_default(policy)
    })
}

fn queue(name: &str) -> impl FnOnce(&mut ConsumerInfo) {
    let name = Destination::queue(name);
    |info| info.destination = Some(name)
}

fn to(destination: Destination) -> impl FnOnce(&mut Message) {
    |message| message.destination = Some(destination)
}

#[test]
fn higher_priorities_come_first_if_the_policy_heeds_them() {
    for (heeded, expected) in [(true, [2, 4, 1, 3]), (false, [1, 2, 3, 4])] {
        let mut rig = with_policy(true, Policy::new().prioritized_messages(heeded));
        let client = rig.connect();
        for (number, priority) in [(1, 4), (2, 9), (3, 0), (4, 7)] {
            rig.send_with(client, number, |message| message.priority = priority);
        }
        rig.consume(client, 1, 10);
        assert_eq!(rig.numbers(client), expected);
        rig.stop_consuming(client, 1, RemoveInfo::NOTHING_DELIVERED);
        rig.consume(client, 2, 2);
        assert_eq!(rig.numbers(client), expected[..2]);
    }
}

#[test]
fn after_a_restart_priorities_order_before_any_body_is_read() {
    for clean in [false, true] {
        let mut rig = with_policy(true, Policy::new().prioritized_messages(true));
        let client = rig.connect();
        for (number, priority) in [(1, 4), (2, 9), (3, 0), (4, 7)] {
            rig.send_with(client, number, |message| message.priority = priority);
        }
        let mut rig = rig.restart(clean);
        let client = rig.connect();
        rig.consume(client, 1, 10);
        assert_eq!(rig.numbers(client), [2, 4, 1, 3]);
    }
}

#[test]
fn after_a_restart_what_waits_ends_in_time_though_nobody_consumes() {
    for clean in [false, true] {
        let mut rig = Rig::with_config(true, 0, usize::MAX);
        let client = rig.connect();
        let (end, later) = (rig.now + 40_000, rig.now + 1_000_000);
        rig.send_with(client, 1, |message| message.expiration = end);
        rig.send(client, 2);
        rig.send_with(client, 3, |message| message.expiration = later);
        let mut rig = rig.restart(clean);
        rig.now += 60_000;
        rig.tick();
        rig.now += 10;
        rig.tick();
        assert_eq!(
            (rig.depth(), rig.stats().expired, rig.stats().dead_lettered),
            (2, 1, 1)
        );
    }
}

#[test]
fn a_queue_waits_for_consumers_before_it_begins() {
    let policy = Policy::new()
        .consumers_before_dispatch_starts(2)
        .time_before_dispatch_starts(Duration::from_millis(500));
    let mut rig = with_policy(false, policy);
    let client = rig.connect();
    (1..=4).for_each(|number| rig.send(client, number));
    rig.consume(client, 1, 10);
    assert_eq!(rig.numbers(client), [] as [i64; 0]);
    rig.consume(client, 2, 10);
    assert_eq!(rig.by_consumer(client), [(1, 1), (2, 2), (1, 3), (2, 4)]);

    // Or until the time is over.
    let policy = Policy::new().time_before_dispatch_starts(Duration::from_millis(500));
    let mut rig = with_policy(false, policy);
    let client = rig.connect();
    rig.send(client, 1);
    rig.consume(client, 1, 10);
    assert_eq!(rig.numbers(client), [] as [i64; 0]);
    rig.now += 500;
    rig.tick();
    assert_eq!(rig.numbers(client), [1]);
}

#[test]
fn a_default_prefetch_gives_way_to_the_policy() {
    let mut rig = with_policy(false, Policy::new().queue_prefetch(2));
    let client = rig.connect();
    (1..=6).for_each(|number| rig.send(client, number));
    rig.consume(client, 1, 1000);
    assert_eq!(rig.numbers(client), [1, 2]);
    rig.consume(client, 2, 3);
    assert_eq!(rig.numbers(client), [3, 4, 5]);
}

#[test]
fn every_consumer_is_exclusive_if_the_policy_says_so() {
    let mut rig = with_policy(false, Policy::new().all_consumers_exclusive_by_default(true));
    let client = rig.connect();
    rig.consume(client, 1, 10);
    rig.consume(client, 2, 10);
    (1..=2).for_each(|number| rig.send(client, number));
    assert_eq!(rig.by_consumer(client), [(1, 1), (1, 2)]);
}

#[test]
fn what_waits_beyond_its_time_goes_to_the_dead_letters_though_nobody_consumes() {
    for resident in [usize::MAX, 0] {
        let mut rig = Rig::with_config(true, resident, usize::MAX);
        let client = rig.connect();
        let end = rig.now + 40_000;
        rig.send_with(client, 1, |message| message.expiration = end);
        rig.send(client, 2);
        rig.now += 30_000;
        rig.tick();
        assert_eq!((rig.depth(), rig.stats().expired), (2, 0));
        rig.now += 30_000;
        rig.tick();
        rig.now += 10;
        rig.tick();
        assert_eq!(
            (rig.depth(), rig.stats().expired, rig.stats().dead_lettered),
            (1, 1, 1)
        );
        rig.subscribe(client, 1, queue("ActiveMQ.DLQ")).unwrap();
        let letter = rig.dispatches(client).remove(0).message.unwrap();
        assert_eq!(
            (letter.expiration, &letter.original_destination),
            (0, &Some(Destination::queue("Q")))
        );
        let said = decode_map(letter.marshalled_properties.clone().unwrap()).unwrap();
        assert_eq!(said.get("originalExpiration"), Some(&Value::Long(end)));
    }
}

#[test]
fn dead_letters_go_where_the_strategy_of_their_destination_says() {
    let individual = DeadLetterStrategy {
        letters: DeadLetters::Individual(IndividualDeadLetters {
            queue_prefix: "DLQ.".into(),
            ..IndividualDeadLetters::default()
        }),
        process_non_persistent: true,
        expiration: Some(Duration::from_secs(60)),
        ..DeadLetterStrategy::default()
    };
    let discarding = DeadLetterStrategy {
        letters: DeadLetters::Discard,
        ..DeadLetterStrategy::default()
    };
    let mut rig = rig(true, |rules| {
        rules.policies = Policies::new()
            .with(Pattern::queue("A"), Policy::new().dead_letters(individual))
            .with(Pattern::queue("B"), Policy::new().dead_letters(discarding));
    });
    let client = rig.connect();
    for (number, name) in [(1, "A"), (2, "B"), (3, "C")] {
        rig.send_with(client, number, |message| {
            message.destination = Some(Destination::queue(name));
            message.persistent = name != "A";
        });
        rig.subscribe(client, number, queue(name)).unwrap();
        let poison = rig.ack(client, number, MessageAck::POISON, client, number, number);
        rig.ask(client, Box::new(poison)).unwrap();
    }
    rig.dispatches(client);
    rig.subscribe(client, 10, queue("DLQ.A,ActiveMQ.DLQ")).unwrap();
    let letters: Vec<_> = rig
        .dispatches(client)
        .into_iter()
        .map(|letter| {
            let message = letter.message.unwrap();
            (
                letter.destination.unwrap().to_string(),
                message.persistent,
                message.expiration > rig.now,
            )
        })
        .collect();
    assert_eq!(
        letters,
        [
            ("queue://DLQ.A".to_owned(), true, true),
            ("queue://ActiveMQ.DLQ".to_owned(), true, false)
        ]
    );
    assert_eq!((rig.stats().dead_lettered, rig.stats().discarded), (2, 1));
}

#[test]
fn a_message_of_several_subscriptions_is_a_dead_letter_once() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    for (consumer, name) in [(1, "one"), (2, "two")] {
        rig.subscribe(client, consumer, |info| {
            info.destination = Some(Destination::topic("T"));
            info.subscription_name = Some(name.into());
        })
        .unwrap();
    }
    rig.send_with(client, 1, to(Destination::topic("T")));
    for consumer in [1, 2] {
        let poison = rig.ack(client, consumer, MessageAck::POISON, client, 1, 1);
        rig.ask(client, Box::new(poison)).unwrap();
    }
    assert_eq!(
        (rig.stats().dead_lettered, rig.stats().discarded, rig.stored()),
        (1, 1, 1)
    );
}

#[test]
fn a_virtual_topic_feeds_the_queues_of_its_consumers() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    let topic = Destination::topic("VirtualTopic.Orders");
    rig.subscribe(client, 1, queue("Consumer.A.VirtualTopic.Orders"))
        .unwrap();
    rig.subscribe(client, 2, queue("Consumer.B.VirtualTopic.Orders"))
        .unwrap();
    rig.subscribe(client, 3, |info| info.destination = Some(topic.clone()))
        .unwrap();
    rig.subscribe(client, 4, queue("Consumer.A.VirtualTopic.Other"))
        .unwrap();
    rig.send_with(client, 1, to(topic.clone()));
    let dispatches = rig.dispatches(client);
    let seen: Vec<_> = dispatches
        .iter()
        .map(|dispatch| {
            let message = dispatch.message.as_ref().unwrap();
            (
                dispatch.consumer_id.as_ref().unwrap().value,
                message.original_destination.clone(),
            )
        })
        .collect();
    let original = Some(topic.clone());
    assert_eq!(seen, [(3, None), (1, original.clone()), (2, original)]);
    rig.transact(client, 1, TransactionInfo::BEGIN).unwrap();
    rig.send_with(client, 2, |message| {
        message.destination = Some(topic);
        message.transaction_id = Some(client.transaction(1));
    });
    assert_eq!(rig.numbers(client), [] as [i64; 0]);
    rig.transact(client, 1, TransactionInfo::COMMIT_ONE_PHASE)
        .unwrap();
    assert_eq!(rig.by_consumer(client).len(), 3);
}

#[test]
fn a_composite_passes_on_what_its_filters_select_and_circles_are_refused() {
    let mut rig = rig(false, |rules| {
        let mut all = Composite::new(Pattern::queue("ALL"), [Destination::queue("A")]);
        all.forward_to.push(Forward {
            destination: Destination::topic("T"),
            selector: Some(Filter::parse("colour = 1").unwrap()),
        });
        rules.interceptors.add_composite(all);
        let circle = Composite::new(Pattern::queue("ROUND"), [Destination::queue("ROUND")]);
        rules.interceptors.add_composite(circle);
    });
    let client = rig.connect();
    rig.subscribe(client, 1, queue("A")).unwrap();
    rig.subscribe(client, 2, |info| info.destination = Some(Destination::topic("T")))
        .unwrap();
    for colour in [1, 2] {
        rig.send_with(client, colour, |message| {
            message.destination = Some(Destination::queue("ALL"));
            message.marshalled_properties = properties(&[("colour", colour)]);
        });
    }
    let mut seen = rig.by_consumer(client);
    seen.sort_unstable();
    assert_eq!(seen, [(1, 1), (1, 2), (2, 1)]);
    rig.subscribe(client, 3, queue("ALL")).unwrap();
    assert_eq!(rig.by_consumer(client), []);
    let message = Message {
        destination: Some(Destination::queue("ROUND")),
        ..Rig::message(client, 9, false)
    };
    assert_eq!(
        rig.ask(client, Arc::new(message)),
        Err("InvalidDestinationException".into())
    );
}

#[test]
fn a_mirrored_queue_has_a_topic() {
    let mut rig = rig(false, |rules| rules.interceptors.mirror = Some(Mirror::default()));
    let client = rig.connect();
    rig.subscribe(client, 1, |info| {
        info.destination = Some(Destination::topic("VirtualTopic.Mirror.Q"))
    })
    .unwrap();
    rig.send(client, 1);
    assert_eq!((rig.by_consumer(client), rig.depth()), (vec![(1, 1)], 1));
}

#[test]
fn destinations_that_nobody_uses_are_removed_if_the_policy_says_so() {
    let mut rig = rig(true, |rules| {
        rules.schedule_period_for_destination_purge = Some(Duration::from_secs(10));
        let policy = Policy::new().gc_inactive_destinations(true);
        rules.policies = Policies::new().with(Pattern::queue("GC.>"), policy);
    });
    let client = rig.connect();
    for name in ["GC.empty", "GC.used", "GC.full", "KEPT"] {
        rig.send_with(client, 1, to(Destination::queue(name)));
        rig.subscribe(client, 1, queue(name)).unwrap();
        if name != "GC.full" {
            rig.consumed(client, 1, client, 1, 1).unwrap();
        }
        rig.stop_consuming(client, 1, RemoveInfo::NOTHING_DELIVERED);
    }
    rig.subscribe(client, 2, queue("GC.used")).unwrap();
    let before = rig.stats().destinations;
    for _ in 0..7 {
        assert_eq!(rig.stats().destinations, before);
        rig.now += 10_000;
        rig.tick();
    }
    assert_eq!(rig.stats().destinations, before - 1);
}

#[test]
fn durable_subscriptions_that_are_away_for_too_long_are_removed() {
    let mut rig = rig(true, |rules| {
        rules.offline_durable_subscriber_timeout = Some(Duration::from_secs(600))
    });
    let client = rig.connect();
    for (consumer, name) in [(1, "away"), (2, "here")] {
        rig.subscribe(client, consumer, |info| {
            info.destination = Some(Destination::topic("T"));
            info.subscription_name = Some(name.into());
        })
        .unwrap();
    }
    rig.stop_consuming(client, 1, RemoveInfo::NOTHING_DELIVERED);
    for stored in [2, 2, 1] {
        rig.send_with(client, stored, to(Destination::topic("T")));
        rig.now += 300_000;
        rig.tick();
    }
    assert_eq!(
        rig.stored(),
        3,
        "all that is left is what the one that is here has not acknowledged"
    );
}
