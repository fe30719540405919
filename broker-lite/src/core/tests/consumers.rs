//! Who gets which message: selectors, priorities, exclusive consumers, groups, wildcards, browsers, durable
//! subscriptions.

use openwire_client::wire::*;

use super::rig::{Rig, properties};

#[test]
fn a_selector_takes_what_it_selects_and_leaves_the_rest_in_order() {
    for resident in [usize::MAX, 0] {
        let mut rig = Rig::with_config(true, resident, usize::MAX);
        let client = rig.connect();
        (1..=600).for_each(|number| rig.send_colour(client, number, number % 3));
        rig.subscribe(client, 1, |info| info.selector = Some("colour = 1".into()))
            .unwrap();
        let mut got = Vec::new();
        loop {
            let numbers = rig.numbers(client);
            let (Some(&first), Some(&last)) = (numbers.first(), numbers.last()) else {
                break;
            };
            got.extend(numbers.iter().copied());
            let ack = MessageAck {
                message_count: numbers.len() as i32,
                ..rig.ack(client, 1, MessageAck::STANDARD, client, first, last)
            };
            rig.ask(client, Box::new(ack)).unwrap();
        }
        assert_eq!(
            got,
            (1..=600).filter(|number| number % 3 == 1).collect::<Vec<_>>()
        );
        assert_eq!(rig.depth(), 400);
        rig.subscribe(client, 2, |info| info.selector = Some("colour = 2".into()))
            .unwrap();
        assert_eq!(rig.numbers(client)[..3], [2, 5, 8]);
        // What comes back is found again, by whoever wants it.
        rig.stop_consuming(client, 2, RemoveInfo::NOTHING_DELIVERED);
        rig.subscribe(client, 3, |info| info.prefetch_size = 4).unwrap();
        assert_eq!(rig.numbers(client), [2, 3, 5, 6]);
        if resident == 0 {
            assert!(
                rig.resident() < 600 * 1024,
                "bodies that nobody takes leave memory"
            );
        }
    }
}

#[test]
fn a_message_that_comes_back_is_looked_at_by_consumers_that_were_past_it() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.subscribe(client, 1, |info| info.selector = Some("colour = 1".into()))
        .unwrap();
    rig.subscribe(client, 2, |info| {
        info.selector = Some("colour > 0".into());
        info.priority = 5;
    })
    .unwrap();
    (1..=4).for_each(|number| rig.send_colour(client, number, number % 2));
    assert_eq!(rig.by_consumer(client), [(2, 1), (2, 3)]);
    rig.stop_consuming(client, 2, RemoveInfo::NOTHING_DELIVERED);
    assert_eq!(rig.by_consumer(client), [(1, 1), (1, 3)]);
    assert_eq!(rig.depth(), 2);
}

#[test]
fn consumers_of_higher_priority_are_served_first_as_long_as_they_have_credit() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.subscribe(client, 1, |info| info.prefetch_size = 10).unwrap();
    rig.subscribe(client, 2, |info| {
        info.priority = 7;
        info.prefetch_size = 2;
    })
    .unwrap();
    (1..=4).for_each(|number| rig.send(client, number));
    assert_eq!(rig.by_consumer(client), [(2, 1), (2, 2), (1, 3), (1, 4)]);
}

#[test]
fn equals_take_turns_though_they_select_differently() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.subscribe(client, 1, |_| {}).unwrap();
    rig.subscribe(client, 2, |info| info.selector = Some("colour = 1".into()))
        .unwrap();
    rig.subscribe(client, 3, |info| info.selector = Some("colour >= 1".into()))
        .unwrap();
    (1..=6).for_each(|number| rig.send_colour(client, number, 1));
    let consumers: Vec<_> = rig
        .by_consumer(client)
        .into_iter()
        .map(|(consumer, _)| consumer)
        .collect();
    assert_eq!(consumers, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn an_exclusive_consumer_gets_everything_until_it_goes() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.subscribe(client, 1, |_| {}).unwrap();
    rig.subscribe(client, 2, |info| info.exclusive = true).unwrap();
    rig.subscribe(client, 3, |info| info.exclusive = true).unwrap();
    (1..=2).for_each(|number| rig.send(client, number));
    assert_eq!(rig.by_consumer(client), [(2, 1), (2, 2)]);
    rig.stop_consuming(client, 2, RemoveInfo::NOTHING_DELIVERED);
    assert_eq!(rig.by_consumer(client), [(3, 1), (3, 2)]);
    rig.subscribe(client, 4, |info| {
        info.exclusive = true;
        info.priority = 1;
    })
    .unwrap();
    rig.send(client, 3);
    assert_eq!(rig.by_consumer(client), [(4, 3)]);
    for consumer in [4, 3] {
        rig.stop_consuming(client, consumer, RemoveInfo::NOTHING_DELIVERED);
    }
    let last: Vec<_> = rig.by_consumer(client);
    assert_eq!(last[last.len() - 3..], [(1, 1), (1, 2), (1, 3)]);
}

fn group(name: &str, sequence: i32) -> impl FnOnce(&mut Message) {
    let name = name.to_owned();
    move |message| {
        message.group_id = Some(name.as_str().into());
        message.group_sequence = sequence;
    }
}

#[test]
fn a_group_stays_with_its_consumer_until_it_is_closed_or_the_consumer_goes() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.subscribe(client, 1, |info| info.prefetch_size = 3).unwrap();
    rig.subscribe(client, 2, |_| {}).unwrap();
    rig.send_with(client, 1, group("a", 0));
    rig.send_with(client, 2, group("b", 0));
    rig.send_with(client, 3, group("a", 0));
    rig.send_with(client, 4, group("a", 0));
    rig.send_with(client, 5, group("a", 0));
    rig.send_with(client, 6, group("b", 0));
    let first: Vec<_> = rig
        .dispatches(client)
        .into_iter()
        .map(|dispatch| {
            let message = dispatch.message.unwrap();
            let number = message.message_id.as_ref().unwrap().producer_sequence_id;
            (
                dispatch.consumer_id.unwrap().value,
                number,
                message.jmsx_group_first_for_consumer,
            )
        })
        .collect();
    assert_eq!(
        first,
        [
            (1, 1, true),
            (2, 2, true),
            (1, 3, false),
            (1, 4, false),
            (2, 6, false)
        ]
    );
    // Message 5 waits for its owner, though the other has credit.
    assert_eq!(rig.depth(), 1);
    rig.consumed(client, 1, client, 1, 1).unwrap();
    assert_eq!(rig.by_consumer(client), [(1, 5)]);
    rig.consumed(client, 1, client, 3, 5).unwrap();
    rig.send_with(client, 7, group("a", -1));
    assert_eq!(rig.by_consumer(client), [(1, 7)]);
    // The group was closed: it is anybody's.
    rig.send_with(client, 8, group("a", 0));
    assert_eq!(rig.by_consumer(client), [(2, 8)]);
    rig.stop_consuming(client, 2, RemoveInfo::NOTHING_DELIVERED);
    assert_eq!(rig.by_consumer(client), [(1, 2), (1, 6)]);
}

#[test]
fn what_waits_for_the_owner_of_a_group_goes_to_others_when_it_ends() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.subscribe(client, 1, |info| info.prefetch_size = 1).unwrap();
    rig.send_with(client, 1, group("a", 0));
    rig.subscribe(client, 2, |_| {}).unwrap();
    (2..=5).for_each(|number| rig.send_with(client, number, group("a", 0)));
    assert_eq!(rig.by_consumer(client), [(1, 1)]);
    rig.stop_consuming(client, 1, RemoveInfo::NOTHING_DELIVERED);
    assert_eq!(rig.by_consumer(client), [(2, 1), (2, 2), (2, 3), (2, 4), (2, 5)]);
}

#[test]
fn wildcards_and_lists_of_queues_share_one_window() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    let to = |name: &'static str| {
        move |message: &mut Message| message.destination = Some(Destination::queue(name))
    };
    rig.send_with(client, 1, to("A.B"));
    rig.subscribe(client, 1, |info| {
        info.destination = Some(Destination::queue("A.>,C"));
        info.prefetch_size = 2;
    })
    .unwrap();
    rig.send_with(client, 2, to("C"));
    rig.send_with(client, 3, to("A.NEW"));
    rig.send_with(client, 4, to("A"));
    rig.send_with(client, 5, to("D"));
    rig.send_with(client, 6, to("A.B"));
    assert_eq!(rig.numbers(client), [1, 2]);
    for expected in [3, 4, 6] {
        let oldest = expected - 2 - i64::from(expected == 6);
        rig.consumed(client, 1, client, oldest, oldest).unwrap();
        assert_eq!(rig.numbers(client), [expected]);
    }
    rig.stop_consuming(client, 1, RemoveInfo::UNKNOWN_DELIVERED);
    rig.subscribe(client, 2, |info| {
        info.destination = Some(Destination::queue("A.*"))
    })
    .unwrap();
    assert_eq!(rig.dispatched(client), [(2, 6, 1)]);
}

#[test]
fn a_message_to_several_destinations_goes_to_each() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.subscribe(client, 1, |info| info.destination = Some(Destination::topic("T")))
        .unwrap();
    rig.send_with(client, 1, |message| {
        message.destination = Some(Destination::queue("A,B,topic://T"))
    });
    rig.subscribe(client, 2, |info| info.destination = Some(Destination::queue("A")))
        .unwrap();
    rig.subscribe(client, 3, |info| info.destination = Some(Destination::queue("B")))
        .unwrap();
    let dispatches = rig.dispatches(client);
    let seen: Vec<_> = dispatches
        .iter()
        .map(|dispatch| {
            let message = dispatch.message.as_ref().unwrap();
            let original = message.original_destination.as_ref().unwrap().name();
            (
                message.destination.as_ref().unwrap().to_string(),
                original.to_owned(),
            )
        })
        .collect();
    let original = "A,B,topic://T".to_owned();
    let expected = ["topic://T", "queue://A", "queue://B"].map(|name| (name.to_owned(), original.clone()));
    assert_eq!(seen, expected);
}

#[test]
fn a_browser_sees_what_is_there_and_takes_nothing() {
    for resident in [usize::MAX, 0] {
        let mut rig = Rig::with_config(true, resident, usize::MAX);
        let client = rig.connect();
        (1..=10).for_each(|number| rig.send_colour(client, number, number % 2));
        rig.consume(client, 1, 3);
        assert_eq!(rig.numbers(client), [1, 2, 3]);
        rig.subscribe(client, 2, |info| {
            info.browser = true;
            info.prefetch_size = 4;
        })
        .unwrap();
        rig.send(client, 11);
        assert_eq!(rig.numbers(client), [1, 2, 3, 4]);
        rig.consumed(client, 2, client, 1, 4).unwrap();
        assert_eq!(rig.numbers(client), [5, 6, 7, 8]);
        rig.consumed(client, 2, client, 5, 8).unwrap();
        // Those that came first, and then the end.
        assert_eq!(rig.numbers(client), [9, 10, 0]);
        rig.stop_consuming(client, 2, RemoveInfo::UNKNOWN_DELIVERED);
        rig.subscribe(client, 3, |info| {
            info.browser = true;
            info.selector = Some("colour = 1".into());
        })
        .unwrap();
        assert_eq!(rig.numbers(client), [1, 3, 5, 7, 9, 0]);
        assert_eq!((rig.depth(), rig.stats().acknowledged), (8, 0));
        rig.stop_consuming(client, 1, RemoveInfo::NOTHING_DELIVERED);
        rig.consume(client, 4, 20);
        assert_eq!(rig.dispatched(client).len(), 11);
    }
}

#[test]
fn a_browser_of_an_empty_queue_is_at_its_end_at_once() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.subscribe(client, 1, |info| info.browser = true).unwrap();
    assert_eq!(rig.numbers(client), [0]);
}

fn durable(topic: &'static str, name: &'static str) -> impl Fn(&mut ConsumerInfo) {
    move |info| {
        info.destination = Some(Destination::topic(topic));
        info.subscription_name = Some(name.into());
    }
}

fn on_topic(message: &mut Message) {
    message.destination = Some(Destination::topic("T"));
}

#[test]
fn a_durable_subscription_keeps_what_comes_while_its_client_is_away() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.subscribe(client, 1, durable("T", "s")).unwrap();
    assert_eq!(
        rig.subscribe(client, 2, durable("T", "s")),
        Err("JMSException".into())
    );
    rig.send_with(client, 1, on_topic);
    rig.send_with(client, 2, on_topic);
    assert_eq!(rig.numbers(client), [1, 2]);
    rig.consumed(client, 1, client, 1, 1).unwrap();
    rig.stop_consuming(client, 1, RemoveInfo::UNKNOWN_DELIVERED);
    rig.send_with(client, 3, on_topic);
    rig.subscribe(client, 2, durable("T", "s")).unwrap();
    assert_eq!(rig.dispatched(client), [(2, 2, 1), (2, 3, 0)]);
    rig.stop_consuming(client, 2, RemoveInfo::NOTHING_DELIVERED);
    // With another selector it is another subscription, which has nothing yet.
    rig.subscribe(client, 3, |info| {
        durable("T", "s")(info);
        info.selector = Some("colour = 1".into());
    })
    .unwrap();
    rig.send_with(client, 4, on_topic);
    rig.send_with(client, 5, |message| {
        on_topic(message);
        message.marshalled_properties = properties(&[("colour", 1)]);
    });
    assert_eq!(rig.numbers(client), [5]);
    let unsubscribe = RemoveSubscriptionInfo {
        client_id: Some(client.id().into()),
        subscription_name: Some("s".into()),
        ..RemoveSubscriptionInfo::default()
    };
    assert_eq!(rig.ask(client, unsubscribe.clone()), Err("JMSException".into()));
    rig.stop_consuming(client, 3, RemoveInfo::NOTHING_DELIVERED);
    rig.ask(client, unsubscribe.clone()).unwrap();
    assert_eq!(
        rig.ask(client, unsubscribe),
        Err("InvalidDestinationException".into())
    );
    assert_eq!(rig.stored(), 0);
}

#[test]
fn durable_subscriptions_live_through_a_restart_and_share_what_is_stored() {
    for clean in [true, false] {
        let mut rig = Rig::new(true);
        let client = rig.connect();
        for (consumer, name) in [(1, "one"), (2, "two"), (3, "three")] {
            rig.subscribe(client, consumer, |info| {
                durable("T", name)(info);
                info.prefetch_size = 1;
                info.selector = (consumer == 3).then(|| "colour = 1".into());
            })
            .unwrap();
        }
        (1..=3).for_each(|number| rig.send_with(client, number, on_topic));
        assert_eq!((rig.stored(), rig.by_consumer(client)), (6, vec![(1, 1), (2, 1)]));
        rig.consumed(client, 1, client, 1, 1).unwrap();
        let mut rig = rig.restart(clean);
        let client = rig.connect();
        rig.send_colour(client, 4, 1);
        rig.send_with(client, 5, |message| {
            on_topic(message);
            message.marshalled_properties = properties(&[("colour", 1)]);
        });
        rig.subscribe(client, 1, durable("T", "one")).unwrap();
        rig.subscribe(client, 2, durable("T", "two")).unwrap();
        rig.subscribe(client, 3, |info| {
            durable("T", "three")(info);
            info.selector = Some("colour = 1".into());
        })
        .unwrap();
        assert_eq!(
            rig.by_consumer(client),
            [(1, 2), (1, 3), (1, 5), (2, 1), (2, 2), (2, 3), (2, 5), (3, 5)]
        );
    }
}

#[test]
fn a_durable_subscription_with_a_wildcard_joins_topics_that_come_later() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.subscribe(client, 1, durable("P.>", "s")).unwrap();
    rig.send_with(client, 1, |message| {
        message.destination = Some(Destination::topic("P.A.B"))
    });
    let dispatches = rig.dispatches(client);
    assert_eq!(dispatches.len(), 1);
    assert_eq!(dispatches[0].destination, Some(Destination::topic("P.A.B")));
}

#[test]
fn no_local_leaves_out_what_its_own_connection_sent() {
    let mut rig = Rig::new(true);
    let (client, other) = (rig.connect(), rig.connect());
    rig.subscribe(client, 1, |info| {
        durable("T", "s")(info);
        info.no_local = true;
    })
    .unwrap();
    rig.send_with(client, 1, on_topic);
    rig.send_with(other, 2, on_topic);
    assert_eq!(rig.numbers(client), [2]);
}

#[test]
fn what_waits_for_the_owner_of_a_group_is_for_others_once_the_group_is_closed() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.subscribe(client, 1, |info| info.prefetch_size = 1).unwrap();
    rig.send_with(client, 1, group("a", 0));
    rig.subscribe(client, 2, |info| info.prefetch_size = 1).unwrap();
    rig.send_with(client, 2, group("a", -1));
    (3..=4).for_each(|number| rig.send_with(client, number, group("a", 0)));
    assert_eq!(rig.by_consumer(client), [(1, 1)]);
    // The last of the old group, and a new one that has another owner: the old owner gets no more of it.
    rig.consumed(client, 1, client, 1, 1).unwrap();
    assert_eq!(rig.by_consumer(client), [(1, 2), (2, 3)]);
    rig.consumed(client, 1, client, 2, 2).unwrap();
    assert_eq!(rig.by_consumer(client), [] as [(i64, i64); 0]);
    rig.consumed(client, 2, client, 3, 3).unwrap();
    assert_eq!(rig.by_consumer(client), [(2, 4)]);
}

#[test]
fn what_waits_for_the_owner_of_a_group_moves_with_a_group_that_begins_anew() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.subscribe(client, 1, |info| info.prefetch_size = 1).unwrap();
    rig.send_with(client, 1, group("a", 0));
    rig.send_with(client, 2, group("a", 0));
    rig.subscribe(client, 2, |_| {}).unwrap();
    rig.send_with(client, 3, group("a", 1));
    assert_eq!(rig.by_consumer(client), [(1, 1), (2, 3), (2, 2)]);
}

#[test]
fn the_owner_of_a_group_gets_it_in_order_with_everything_else() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.subscribe(client, 1, |info| info.prefetch_size = 1).unwrap();
    rig.send_with(client, 1, group("a", 0));
    rig.subscribe(client, 2, |info| info.prefetch_size = 2).unwrap();
    rig.send_with(client, 2, group("a", 0));
    (3..=4).for_each(|number| rig.send(client, number));
    rig.send_with(client, 5, group("a", 0));
    rig.send(client, 6);
    assert_eq!(rig.by_consumer(client), [(1, 1), (2, 3), (2, 4)]);
    // What another gives back stands before what waited for the owner.
    rig.stop_consuming(client, 2, RemoveInfo::NOTHING_DELIVERED);
    for (number, next) in [(1, 2), (2, 3), (3, 4), (4, 5), (5, 6)] {
        rig.consumed(client, 1, client, number, number).unwrap();
        assert_eq!(rig.by_consumer(client), [(1, next)]);
    }
}

#[test]
fn a_pull_is_answered_though_a_group_has_messages_that_its_owner_does_not_select() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.subscribe(client, 1, |info| {
        info.prefetch_size = 0;
        info.selector = Some("colour = 1".into());
    })
    .unwrap();
    for (number, colour) in [(1, 1), (2, 0)] {
        rig.send_with(client, number, |message| {
            message.group_id = Some("a".into());
            message.marshalled_properties = properties(&[("colour", colour)]);
        });
    }
    for expected in [1, 0] {
        let pull = MessagePull {
            consumer_id: Some(client.consumer(1)),
            timeout: -1,
            ..MessagePull::default()
        };
        rig.say(client, Box::new(pull));
        assert_eq!(rig.by_consumer(client), [(1, expected)]);
    }
}

#[test]
fn a_browser_does_not_see_again_what_a_consumer_gives_back() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.consume(client, 1, 10);
    (1..=2).for_each(|number| rig.send(client, number));
    assert_eq!(rig.numbers(client), [1, 2]);
    rig.subscribe(client, 2, |info| {
        info.browser = true;
        info.prefetch_size = 1;
    })
    .unwrap();
    assert_eq!(rig.by_consumer(client), [(2, 1)]);
    rig.stop_consuming(client, 1, RemoveInfo::NOTHING_DELIVERED);
    rig.consumed(client, 2, client, 1, 1).unwrap();
    assert_eq!(rig.by_consumer(client), [(2, 2)]);
    rig.consumed(client, 2, client, 2, 2).unwrap();
    assert_eq!(rig.by_consumer(client), [(2, 0)]);
}

#[test]
fn an_individual_acknowledgement_is_of_one_copy() {
    let mut rig = Rig::new(false);
    let client = rig.connect();
    rig.consume_from(client, 1, 10, Destination::queue("A,B"))
        .unwrap();
    rig.send_with(client, 1, |message| {
        message.destination = Some(Destination::queue("A,B"));
    });
    assert_eq!(rig.numbers(client), [1, 1]);
    // The client has the first copy, and acknowledges that.
    for ack_type in [MessageAck::DELIVERED, MessageAck::INDIVIDUAL] {
        let ack = rig.ack(client, 1, ack_type, client, 1, 1);
        rig.ask(client, Box::new(ack)).unwrap();
    }
    assert_eq!(rig.stats().acknowledged, 1);
}
