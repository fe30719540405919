//! Subscribers of topics: what they get of what was before them, what happens when they do not keep up, and in which
//! order they are served.

use std::sync::Arc;
use std::time::Duration;

use openwire_client::wire::*;

use super::rig::{Client, Rig, properties};
use crate::core::Rules;
use crate::policy::{
    AbortLimits, DeadLetterStrategy, DispatchPolicy, Eviction, Filter, Pattern, PendingLimit, Policies,
    Policy, Recovery, SlowConsumers,
};

const NOTHING: [i64; 0] = [];

fn rig(stored: bool, policy: Policy) -> Rig {
    let rules = Rules {
        policies: Policies::new().with_default(policy),
        ..Rules::default()
    };
    Rig::with(stored, |config| config.rules = Arc::new(rules))
}

fn topic() -> Destination {
    Destination::topic("T.A")
}

fn send(rig: &mut Rig, client: Client, number: i64, change: impl FnOnce(&mut Message)) {
    rig.send_with(client, number, |message| {
        message.destination = Some(topic());
        change(message);
    });
}

fn plain(_: &mut Message) {}

fn listen(
    rig: &mut Rig,
    client: Client,
    consumer: i64,
    prefetch: i32,
    change: impl FnOnce(&mut ConsumerInfo),
) {
    rig.subscribe(client, consumer, |info| {
        info.destination = Some(topic());
        info.prefetch_size = prefetch;
        change(info);
    })
    .unwrap();
}

fn retroactive(info: &mut ConsumerInfo) {
    info.retroactive = true;
}

fn durable(info: &mut ConsumerInfo) {
    info.subscription_name = Some("s".into());
    info.retroactive = true;
}

/// A message that is to be retained; without a body it takes the one that is there away.
fn retain(body: &'static [u8]) -> impl FnOnce(&mut Message) {
    move |message| {
        let mut out = bytes::BytesMut::new();
        encode_map(&[("ActiveMQ.Retain", true)].into_iter().collect(), &mut out).unwrap();
        message.marshalled_properties = Some(out.freeze());
        message.content = Some(bytes::Bytes::from_static(body));
    }
}

fn property(message: &Message, name: &str) -> Option<Value> {
    let properties = decode_map(message.marshalled_properties.clone()?).unwrap();
    properties.get(name).cloned()
}

fn after(rig: &mut Rig, millis: i64) {
    rig.now += millis;
    rig.tick();
}

#[test]
fn a_retroactive_consumer_gets_what_the_policy_kept_and_others_do_not() {
    let cases = [
        (Recovery::None, &[][..]),
        (Recovery::LastImage, &[5]),
        (Recovery::FixedCount { maximum_size: 2 }, &[4, 5]),
        (Recovery::FixedSize { maximum_size: 3000 }, &[4, 5]),
        (
            Recovery::Timed {
                recover_duration: Duration::from_millis(250),
            },
            &[4, 5],
        ),
        (
            Recovery::Query {
                query: Filter::parse("n < 3").unwrap(),
                maximum_size: 10,
            },
            &[1, 2],
        ),
    ];
    for (recovery, expected) in cases {
        let mut rig = rig(false, Policy::new().recovery(recovery.clone()));
        let client = rig.connect();
        for number in 1..=5 {
            send(&mut rig, client, number, |message| {
                message.marshalled_properties = properties(&[("n", number)]);
            });
            rig.now += 100;
        }
        listen(&mut rig, client, 1, 100, |_| {});
        assert_eq!(rig.numbers(client), NOTHING, "{recovery:?}");
        listen(&mut rig, client, 2, 100, retroactive);
        assert_eq!(rig.numbers(client), expected, "{recovery:?}");
        listen(&mut rig, client, 3, 100, |info| {
            info.selector = Some("n = 5".into());
            retroactive(info);
        });
        let selected: Vec<_> = expected.iter().copied().filter(|number| *number == 5).collect();
        assert_eq!(rig.numbers(client), selected, "{recovery:?}");
    }
}

#[test]
fn every_consumer_is_retroactive_if_the_policy_says_so_and_wildcards_are() {
    let mut rig = rig(
        false,
        Policy::new()
            .recovery(Recovery::LastImage)
            .always_retroactive(true),
    );
    let client = rig.connect();
    for (number, name) in [(1, "T.A"), (2, "T.B"), (3, "T.B")] {
        send(&mut rig, client, number, |message| {
            message.destination = Some(Destination::topic(name));
        });
    }
    listen(&mut rig, client, 1, 100, |info| {
        info.destination = Some(Destination::topic("T.>"));
    });
    assert_eq!(rig.numbers(client), [1, 3]);
}

#[test]
fn a_timed_policy_frees_what_it_kept_though_nothing_is_sent() {
    let mut rig = rig(
        false,
        Policy::new().recovery(Recovery::Timed {
            recover_duration: Duration::from_secs(1),
        }),
    );
    let client = rig.connect();
    send(&mut rig, client, 1, plain);
    assert!(rig.core.kept_used > 0);
    after(&mut rig, 1000);
    after(&mut rig, 1000);
    assert_eq!((rig.core.kept_used, rig.core.next_deadline()), (0, None));
}

#[test]
fn what_is_kept_for_later_is_bounded_and_costs_nobody_else_room() {
    let rules = Rules {
        policies: Policies::new()
            .with_default(Policy::new().recovery(Recovery::FixedCount { maximum_size: 1000 })),
        ..Rules::default()
    };
    let mut rig = Rig::with(false, |config| {
        config.rules = Arc::new(rules);
        config.memory_limit = 5 * 1024;
    });
    let client = rig.connect();
    (1..=50).for_each(|number| send(&mut rig, client, number, plain));
    assert_eq!((rig.stats().memory_used, &*rig.paused), (0, &[][..]));
    listen(&mut rig, client, 1, 100, retroactive);
    assert_eq!(rig.numbers(client), [46, 47, 48, 49, 50]);
}

#[test]
fn the_retained_message_comes_first_and_says_so() {
    let mut rig = rig(false, Policy::new().recovery(Recovery::LastImage));
    let client = rig.connect();
    listen(&mut rig, client, 1, 100, |_| {});
    send(&mut rig, client, 1, retain(b"x"));
    send(&mut rig, client, 2, plain);
    // Who is there sees no difference.
    let live = rig.dispatches(client);
    let first = live[0].message.as_ref().unwrap();
    assert_eq!((live.len(), &first.marshalled_properties), (2, &None));

    listen(&mut rig, client, 2, 100, |_| {});
    assert_eq!(rig.numbers(client), NOTHING);
    listen(&mut rig, client, 3, 100, retroactive);
    let replayed = rig.dispatches(client);
    let retained = replayed[0].message.as_ref().unwrap();
    assert_eq!(property(retained, "ActiveMQ.Retained"), Some(Value::Bool(true)));
    assert_eq!(property(retained, "ActiveMQ.Retain"), None);
    assert_eq!(replayed.len(), 2);

    send(&mut rig, client, 3, retain(b""));
    rig.dispatches(client);
    listen(&mut rig, client, 4, 100, retroactive);
    assert_eq!(rig.by_consumer(client), [(4, 3)]);
}

#[test]
fn a_persistent_retained_message_lives_through_a_restart_until_it_is_taken_away() {
    let mut rig = rig(true, Policy::new());
    let client = rig.connect();
    send(&mut rig, client, 1, retain(b"x"));
    send(&mut rig, client, 2, retain(b"y"));
    assert_eq!(rig.stored(), 1);
    let mut rig = rig.restart(true);
    let client = rig.connect();
    rig.slow_store = true;
    listen_slowly(&mut rig, client, 1);
    listen_slowly(&mut rig, client, 2);
    rig.say(client, Arc::new(to_topic(client, 3)));
    assert_eq!(rig.numbers(client), NOTHING, "the retained message comes first");
    rig.release();
    assert_eq!(rig.by_consumer(client), [(1, 2), (1, 3), (2, 2), (2, 3)]);
    listen(&mut rig, client, 3, 100, retroactive);
    assert_eq!(rig.by_consumer(client), [(3, 2)]);
    assert_eq!(rig.stats().memory_used, 0);

    // One that is not persistent takes its place.
    send(&mut rig, client, 4, |message| {
        retain(b"z")(message);
        message.persistent = false;
    });
    assert_eq!(rig.stored(), 0);
    rig.dispatches(client);
    listen(&mut rig, client, 4, 100, retroactive);
    assert_eq!(rig.by_consumer(client), [(4, 4)]);
    let mut rig = rig.restart(false);
    let client = rig.connect();
    listen(&mut rig, client, 1, 100, retroactive);
    assert_eq!(rig.numbers(client), NOTHING);
}

fn to_topic(client: Client, number: i64) -> Message {
    Message {
        destination: Some(topic()),
        ..Rig::message(client, number, true)
    }
}

/// Without waiting for an answer, which the store may hold back.
fn listen_slowly(rig: &mut Rig, client: Client, consumer: i64) {
    let info = ConsumerInfo {
        consumer_id: Some(client.consumer(consumer)),
        destination: Some(topic()),
        prefetch_size: 100,
        retroactive: true,
        ..ConsumerInfo::default()
    };
    rig.say(client, Box::new(info));
}

#[test]
fn whoever_waits_for_a_retained_message_goes_on_when_another_takes_its_place() {
    let mut rig = rig(true, Policy::new());
    let client = rig.connect();
    send(&mut rig, client, 1, retain(b"x"));
    let mut rig = rig.restart(true);
    let client = rig.connect();
    rig.slow_store = true;
    listen_slowly(&mut rig, client, 1);
    listen_slowly(&mut rig, client, 2);
    rig.stop_consuming(client, 1, RemoveInfo::UNKNOWN_DELIVERED);
    let mut next = to_topic(client, 2);
    retain(b"y")(&mut next);
    rig.say(client, Arc::new(next));
    assert_eq!(rig.by_consumer(client), [], "it is not durable");
    rig.release();
    assert_eq!(rig.by_consumer(client), [(2, 2)]);
    assert_eq!((rig.stored(), rig.stats().memory_used), (1, 0));
}

#[test]
fn a_retained_message_that_the_store_refuses_was_never_there() {
    let mut rig = rig(true, Policy::new());
    let client = rig.connect();
    let refused = |rig: &mut Rig, number, body| {
        rig.refusing = true;
        let mut message = to_topic(client, number);
        retain(body)(&mut message);
        assert!(rig.ask(client, Arc::new(message)).is_err());
        rig.refusing = false;
    };
    refused(&mut rig, 1, b"x");
    listen(&mut rig, client, 1, 100, retroactive);
    assert_eq!(rig.numbers(client), NOTHING);
    rig.stop_consuming(client, 1, RemoveInfo::UNKNOWN_DELIVERED);

    // What was there before is there still, whether another one or none should have taken its place.
    send(&mut rig, client, 2, retain(b"y"));
    refused(&mut rig, 3, b"z");
    listen(&mut rig, client, 2, 100, retroactive);
    assert_eq!(rig.numbers(client), [2]);
    rig.stop_consuming(client, 2, RemoveInfo::UNKNOWN_DELIVERED);
    refused(&mut rig, 4, b"");
    listen(&mut rig, client, 3, 100, retroactive);
    assert_eq!(rig.numbers(client), [2]);
    send(&mut rig, client, 5, retain(b"a"));
    assert_eq!(rig.stored(), 1);
    let mut rig = rig.restart(true);
    let client = rig.connect();
    listen(&mut rig, client, 1, 100, retroactive);
    assert_eq!(rig.numbers(client), [5]);
}

#[test]
fn a_topic_that_is_removed_takes_its_retained_message_along() {
    let mut rig = rig(true, Policy::new());
    let client = rig.connect();
    send(&mut rig, client, 1, retain(b"x"));
    let remove = DestinationInfo {
        destination: Some(topic()),
        operation_type: DestinationInfo::REMOVE,
        ..DestinationInfo::default()
    };
    rig.ask(client, remove).unwrap();
    assert_eq!((rig.stored(), rig.core.kept_used), (0, 0));
    listen(&mut rig, client, 1, 100, retroactive);
    assert_eq!(rig.numbers(client), NOTHING);
}

#[test]
fn a_retroactive_durable_subscription_gets_what_was_kept_each_time_it_comes() {
    let mut rig = rig(
        true,
        Policy::new().recovery(Recovery::FixedCount { maximum_size: 2 }),
    );
    let client = rig.connect();
    send(&mut rig, client, 1, retain(b"x"));
    (2..=3).for_each(|number| send(&mut rig, client, number, plain));
    listen(&mut rig, client, 1, 100, durable);
    assert_eq!(rig.dispatched(client), [(1, 1, 0), (1, 2, 0), (1, 3, 0)]);
    rig.consumed(client, 1, client, 1, 1).unwrap();
    rig.stop_consuming(client, 1, RemoveInfo::NOTHING_DELIVERED);
    // What it has not taken comes once.
    listen(&mut rig, client, 2, 100, durable);
    assert_eq!(rig.numbers(client), [1, 2, 3]);
    rig.consumed(client, 2, client, 1, 3).unwrap();
    rig.stop_consuming(client, 2, RemoveInfo::UNKNOWN_DELIVERED);
    // For what waits, only the retained one is added.
    send(&mut rig, client, 4, plain);
    listen(&mut rig, client, 3, 100, durable);
    assert_eq!(rig.numbers(client), [4, 1]);
    assert_eq!(rig.stored(), 2);
    rig.stop_consuming(client, 3, RemoveInfo::NOTHING_DELIVERED);
    let mut rig = rig.restart(true);
    let client = Client {
        key: rig.socket(),
        number: client.number,
    };
    rig.introduce(client, false).unwrap();
    listen(&mut rig, client, 1, 100, durable);
    assert_eq!(rig.numbers(client), [4, 1]);
    rig.stop_consuming(client, 1, RemoveInfo::NOTHING_DELIVERED);
    listen(&mut rig, client, 2, 100, |info| {
        info.subscription_name = Some("s".into())
    });
    assert_eq!(rig.numbers(client), [4, 1]);
    assert_eq!(rig.consumed(client, 2, client, 4, 4), Ok(()));
}

fn pending(policy: Policy, consumer_limit: i32) -> (Rig, Client) {
    let mut rig = rig(true, policy);
    let client = rig.connect();
    listen(&mut rig, client, 1, 2, |info| {
        info.maximum_pending_message_limit = consumer_limit;
    });
    (rig, client)
}

/// Acknowledges what the consumer has, and sees what it gets then.
fn next(rig: &mut Rig, client: Client, from: i64, to: i64) -> Vec<i64> {
    rig.consumed(client, 1, client, from, to).unwrap();
    rig.numbers(client)
}

#[test]
fn no_more_waits_than_the_limit_and_the_oldest_go() {
    for (policy, limit) in [
        (Policy::new().pending_limit(PendingLimit::Constant(9)), 2),
        (Policy::new().pending_limit(PendingLimit::Constant(2)), 0),
        (Policy::new().pending_limit(PendingLimit::Constant(2)), 5),
        (Policy::new().pending_limit(PendingLimit::PrefetchRate(1.0)), 0),
    ] {
        let (mut rig, client) = pending(policy, limit);
        (1..=7).for_each(|number| send(&mut rig, client, number, |message| message.persistent = false));
        assert_eq!(rig.numbers(client), [1, 2]);
        let stats = rig.stats();
        assert_eq!(
            (stats.evicted, stats.discarded, stats.memory_used),
            (3, 3, 2 * 1024)
        );
        assert_eq!(next(&mut rig, client, 1, 2), [6, 7]);
        assert_eq!(rig.stats().memory_used, 0);
    }
}

#[test]
fn with_a_limit_of_nothing_only_the_prefetch_is_filled() {
    let (mut rig, client) = pending(Policy::new().pending_limit(PendingLimit::Constant(0)), 0);
    (1..=4).for_each(|number| send(&mut rig, client, number, plain));
    assert_eq!(next(&mut rig, client, 1, 2), [1, 2]);
    send(&mut rig, client, 5, plain);
    assert_eq!(rig.numbers(client), [5]);
    let stats = rig.stats();
    assert_eq!((stats.evicted, stats.discarded, stats.dead_lettered), (2, 2, 0));
}

#[test]
fn which_messages_go_is_for_the_policy_to_say() {
    let limited = || Policy::new().pending_limit(PendingLimit::Constant(2));
    let (mut rig, client) = pending(limited().eviction(Eviction::OldestLowestPriority), 0);
    for (number, priority) in [(1, 4), (2, 4), (3, 5), (4, 1), (5, 4)] {
        send(&mut rig, client, number, |message| message.priority = priority);
    }
    rig.numbers(client);
    assert_eq!(next(&mut rig, client, 1, 2), [3, 5]);

    let (mut rig, client) = pending(limited().eviction(Eviction::UniqueProperty("id".into())), 0);
    for (number, id) in [(1, 0), (2, 0), (3, 7), (4, 8), (5, 7)] {
        send(&mut rig, client, number, |message| {
            message.timestamp = number;
            message.marshalled_properties = properties(&[("id", id)]);
        });
    }
    rig.numbers(client);
    assert_eq!(next(&mut rig, client, 1, 2), [4, 5]);
}

#[test]
fn what_waits_beyond_its_time_goes_before_others() {
    let policy = Policy::new().pending_limit(PendingLimit::Constant(3));
    let (mut rig, client) = pending(policy.evict_expired_messages_high_watermark(2), 0);
    (1..=3).for_each(|number| send(&mut rig, client, number, plain));
    let end = rig.now + 10;
    send(&mut rig, client, 4, |message| message.expiration = end);
    rig.now = end;
    send(&mut rig, client, 5, plain);
    let stats = rig.stats();
    assert_eq!(
        (stats.expired, stats.evicted, stats.memory_used),
        (1, 0, 2 * 1024)
    );
    rig.numbers(client);
    assert_eq!(next(&mut rig, client, 1, 2), [3, 5]);
}

#[test]
fn evicted_and_expired_messages_become_dead_letters_as_the_strategy_says() {
    let (mut rig, client) = pending(Policy::new().pending_limit(PendingLimit::Constant(9)), 1);
    (1..=4).for_each(|number| send(&mut rig, client, number, plain));
    let gone = rig.now - 1;
    send(&mut rig, client, 5, |message| message.expiration = gone);
    let stats = rig.stats();
    assert_eq!((stats.evicted, stats.expired, stats.dead_lettered), (1, 1, 2));
    rig.numbers(client);
    rig.subscribe(client, 9, |info| {
        info.destination = Some(Destination::queue("ActiveMQ.DLQ"))
    })
    .unwrap();
    let letters = rig.dispatches(client);
    let letter = letters[0].message.as_ref().unwrap();
    let cause = property(letter, "dlqDeliveryFailureCause");
    assert!(
        matches!(&cause, Some(Value::String(cause)) if cause.contains("TopicSubDiscard. ID:")),
        "{cause:?}"
    );
    assert_eq!(letter.original_destination, Some(topic()));
}

#[test]
fn evictions_that_make_evictions_end() {
    let strategy = DeadLetterStrategy {
        letters: crate::policy::DeadLetters::Individual(crate::policy::IndividualDeadLetters {
            use_queue_for_topic_messages: false,
            ..Default::default()
        }),
        ..DeadLetterStrategy::default()
    };
    let policy = Policy::new()
        .pending_limit(PendingLimit::Constant(50))
        .dead_letters(strategy);
    let mut rig = rig(true, policy);
    let client = rig.connect();
    for consumer in 1..=5 {
        listen(&mut rig, client, consumer, 1, |info| {
            info.destination = Some(Destination::topic(">"));
        });
    }
    (1..=200).for_each(|number| send(&mut rig, client, number, plain));
    // Fifty wait for each; what is told of the dead letters is among them, and differs a little in size.
    let expected = 5 * 50 * waiting_size(&rig);
    assert!(
        rig.stats().memory_used.abs_diff(expected) < 1024,
        "{}",
        rig.stats().memory_used
    );
    for consumer in 1..=5 {
        rig.stop_consuming(client, consumer, RemoveInfo::UNKNOWN_DELIVERED);
    }
    assert_eq!(rig.stats().memory_used, 0);
}

/// The mean of what waits, which dead letters make no round number.
fn waiting_size(rig: &Rig) -> usize {
    let waiting = rig
        .core
        .subscriptions
        .iter()
        .flat_map(|(_, subscription)| &subscription.waiting);
    let sizes: Vec<_> = waiting
        .map(|message| crate::store::accounting_size(message) as usize)
        .collect();
    assert_eq!(sizes.len(), 5 * 50);
    sizes.iter().sum::<usize>() / sizes.len()
}

#[test]
fn who_never_reads_ends_in_flow_control() {
    let mut rig = Rig::with_config(false, usize::MAX, 10 * 1024);
    let (consumer, producer) = (rig.connect(), rig.connect());
    listen(&mut rig, consumer, 1, 5, |_| {});
    let mut number = 0;
    while rig.stats().held_back == 0 && number < 100 {
        number += 1;
        let mut message = Rig::message(producer, number, false);
        message.destination = Some(topic());
        rig.say(producer, Arc::new(message));
    }
    assert_eq!((rig.numbers(consumer).len(), number), (5, 16));
    rig.consumed(consumer, 1, producer, 1, 5).unwrap();
    assert_eq!((rig.numbers(consumer).len(), rig.stats().held_back), (5, 0));
}

#[test]
fn what_a_congested_connection_does_not_take_counts_as_memory() {
    let mut rig = rig(false, Policy::new());
    let (consumer, producer) = (rig.connect(), rig.connect());
    listen(&mut rig, consumer, 1, 30_000, |_| {});
    listen(&mut rig, producer, 1, 30_000, |_| {});
    rig.core.congested(consumer.key);
    listen(&mut rig, consumer, 2, 30_000, |_| {});
    let large = bytes::Bytes::from(vec![0; 3 << 20]);
    for number in 1..=4 {
        send(&mut rig, producer, number, |message| {
            message.content = Some(large.clone())
        });
    }
    assert_eq!(rig.numbers(consumer), NOTHING);
    assert_eq!(rig.numbers(producer), [1, 2, 3, 4]);
    assert_eq!(rig.stats().memory_used, 8 * (large.len() + 1024));
    // Queues are not concerned.
    rig.consume(consumer, 3, 10);
    rig.send(producer, 9);
    assert_eq!(rig.numbers(consumer), [9]);
    // It gets what it can take, in order, and all in the end.
    let mut got = Vec::new();
    while rig.relieve(consumer) {
        got.extend(rig.by_consumer(consumer));
        assert!(got.len() < 8);
    }
    got.extend(rig.by_consumer(consumer));
    got.sort_by_key(|(consumer, _)| *consumer);
    let expected = [1, 2].map(|consumer| [1, 2, 3, 4].map(|number| (consumer, number)));
    assert_eq!(got, expected.concat());
    send(&mut rig, producer, 5, plain);
    assert_eq!((rig.numbers(consumer).len(), rig.stats().memory_used), (2, 1024));
}

fn aborting(limits: AbortLimits) -> Policy {
    Policy::new().slow_consumers(SlowConsumers::Abort(limits))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Consumers that clients were told to end.
fn told_to_end(rig: &mut Rig, client: Client) -> Vec<i64> {
    let controls = rig.controls(client);
    let ended = controls.iter().filter(|control| control.close);
    ended
        .filter_map(|control| Some(control.consumer_id.as_ref()?.value))
        .collect()
}

#[test]
fn a_topic_consumer_that_stays_slow_is_ended() {
    let limits = AbortLimits {
        max_slow_duration: Some(seconds(3)),
        check_period: seconds(1),
        ..AbortLimits::default()
    };
    let mut rig = rig(false, aborting(limits));
    let client = rig.connect();
    listen(&mut rig, client, 1, 2, |_| {});
    listen(&mut rig, client, 2, 100, |_| {});
    (1..=6).for_each(|number| send(&mut rig, client, number, plain));
    assert_eq!(rig.stats().slow_consumers, 1);
    after(&mut rig, 1000);
    // It catches up, and falls behind once more.
    rig.consumed(client, 1, client, 1, 2).unwrap();
    rig.consumed(client, 1, client, 3, 4).unwrap();
    rig.consumed(client, 1, client, 5, 6).unwrap();
    after(&mut rig, 1000);
    (7..=12).for_each(|number| send(&mut rig, client, number, plain));
    assert_eq!(rig.stats().slow_consumers, 2);
    after(&mut rig, 1000);
    after(&mut rig, 1000);
    assert_eq!(told_to_end(&mut rig, client), NOTHING);
    after(&mut rig, 1000);
    assert_eq!(
        (told_to_end(&mut rig, client), rig.stats().consumers),
        (vec![1], 2)
    );
    // Its client does not answer.
    after(&mut rig, 1000);
    let stats = rig.stats();
    assert_eq!(
        (stats.consumers, stats.aborted_consumers, stats.memory_used),
        (1, 1, 0)
    );
}

#[test]
fn a_queue_consumer_that_stays_slow_is_ended_and_others_get_what_it_had() {
    let limits = AbortLimits {
        max_slow_duration: None,
        max_slow_count: Some(1),
        check_period: seconds(1),
        ..AbortLimits::default()
    };
    let mut rig = rig(true, aborting(limits));
    let client = rig.connect();
    rig.consume(client, 1, 2);
    (1..=2).for_each(|number| rig.send(client, number));
    // Full, but nothing waits.
    after(&mut rig, 1000);
    assert_eq!(rig.stats().slow_consumers, 0);
    rig.send(client, 3);
    rig.consume(client, 2, 10);
    assert_eq!(rig.by_consumer(client), [(1, 1), (1, 2), (2, 3)]);
    after(&mut rig, 1000);
    assert_eq!(rig.stats().slow_consumers, 0);
    rig.stop_consuming(client, 2, RemoveInfo::NOTHING_DELIVERED);
    after(&mut rig, 1000);
    assert_eq!(
        (told_to_end(&mut rig, client), rig.stats().slow_consumers),
        (vec![1], 1)
    );
    rig.consume(client, 3, 10);
    assert_eq!(rig.by_consumer(client), [(3, 3)]);
    rig.stop_consuming(client, 1, RemoveInfo::NOTHING_DELIVERED);
    assert_eq!(rig.dispatched(client), [(3, 1, 0), (3, 2, 0)]);
    after(&mut rig, 1000);
    assert_eq!(rig.stats().consumers, 1);
}

#[test]
fn the_connection_of_a_slow_consumer_is_ended_if_the_policy_says_so() {
    let limits = AbortLimits {
        max_slow_duration: Some(seconds(1)),
        check_period: seconds(1),
        abort_connection: true,
        ..AbortLimits::default()
    };
    let mut rig = rig(false, aborting(limits));
    let (slow, other) = (rig.connect(), rig.connect());
    rig.consume(slow, 1, 1);
    (1..=2).for_each(|number| rig.send(other, number));
    after(&mut rig, 1000);
    assert_eq!(rig.closed, [slow.key]);
    rig.lose(slow);
    rig.consume(other, 1, 10);
    assert_eq!(rig.dispatched(other), [(1, 1, 1), (1, 2, 0)]);
}

#[test]
fn whoever_does_not_acknowledge_is_ended_unless_it_has_nothing() {
    for (idle_too, topics) in [(false, false), (false, true), (true, true)] {
        let policy = Policy::new().slow_consumers(SlowConsumers::AbortSlowAck {
            limits: AbortLimits {
                max_slow_duration: Some(seconds(2)),
                check_period: seconds(1),
                ..AbortLimits::default()
            },
            max_time_since_last_ack: seconds(5),
            ignore_idle_consumers: !idle_too,
        });
        let mut rig = rig(false, policy);
        let client = rig.connect();
        let from = if topics { topic() } else { Destination::queue("Q") };
        let send_one = |rig: &mut Rig, number| {
            rig.send_with(client, number, |message| message.destination = Some(from.clone()));
        };
        for consumer in 1..=2 {
            rig.consume_from(client, consumer, 1, from.clone()).unwrap();
        }
        if !topics {
            rig.stop_consuming(client, 2, RemoveInfo::NOTHING_DELIVERED);
        }
        (0..60).for_each(|_| after(&mut rig, if idle_too { 100 } else { 1000 }));
        send_one(&mut rig, 1);
        after(&mut rig, 1000);
        let idle = if idle_too { vec![1, 2] } else { vec![] };
        if topics {
            rig.consumed(client, 2, client, 1, 1).unwrap();
        }
        assert_eq!(told_to_end(&mut rig, client), NOTHING);
        for _ in 0..7 {
            after(&mut rig, 1000);
        }
        let mut ended = told_to_end(&mut rig, client);
        ended.sort_unstable();
        assert_eq!(ended, if idle_too { idle } else { vec![1] });
    }
}

#[test]
fn without_a_strategy_nothing_is_looked_for() {
    let mut rig = rig(false, Policy::new());
    let client = rig.connect();
    rig.consume(client, 1, 1);
    listen(&mut rig, client, 2, 1, |_| {});
    (1..=5).for_each(|number| rig.send(client, number));
    assert_eq!(rig.core.next_deadline(), None);
}

#[test]
fn the_order_of_subscribers_is_that_of_the_policy() {
    for (dispatch, expected) in [
        (DispatchPolicy::Simple, [[1, 2, 3], [1, 2, 3]]),
        (DispatchPolicy::StrictOrder, [[1, 2, 3], [1, 2, 3]]),
        (DispatchPolicy::RoundRobin, [[1, 2, 3], [2, 3, 1]]),
        (DispatchPolicy::Priority, [[2, 1, 3], [2, 1, 3]]),
    ] {
        let mut rig = rig(false, Policy::new().dispatch(dispatch.clone()));
        let client = rig.connect();
        for (consumer, priority) in [(1, 0), (2, 5), (3, 0)] {
            listen(&mut rig, client, consumer, 100, |info| info.priority = priority);
        }
        for order in expected {
            send(&mut rig, client, 1, plain);
            let got: Vec<_> = rig
                .by_consumer(client)
                .into_iter()
                .map(|(consumer, _)| consumer)
                .collect();
            assert_eq!(got, order, "{dispatch:?}");
        }
    }
}

#[test]
fn a_message_that_names_a_client_goes_to_that_one_only() {
    let dispatch = DispatchPolicy::ClientIdFilter {
        property: "PTP_CLIENTID".into(),
        suffix: ".PTP".into(),
    };
    let mut rig = rig(false, Policy::new().dispatch(dispatch));
    let (one, other) = (rig.connect(), rig.connect());
    let name = |client: Client| {
        let mut out = bytes::BytesMut::new();
        encode_map(&[("PTP_CLIENTID", client.id())].into_iter().collect(), &mut out).unwrap();
        Some(out.freeze())
    };
    for topic in ["A.PTP", "A"] {
        for client in [one, other] {
            let consumer = if topic == "A" { 1 } else { 2 };
            rig.consume_from(client, consumer, 100, Destination::topic(topic))
                .unwrap();
        }
    }
    rig.subscribe(other, 3, |info| {
        info.destination = Some(Destination::topic("A.PTP"));
        info.subscription_name = Some("s".into());
    })
    .unwrap();
    for (number, topic, to) in [
        (1, "A.PTP", None),
        (2, "A.PTP", Some(other)),
        (3, "A", Some(other)),
    ] {
        rig.send_with(one, number, |message| {
            message.destination = Some(Destination::topic(topic));
            message.marshalled_properties = to.and_then(name);
        });
    }
    assert_eq!(rig.by_consumer(one), [(2, 1)]);
    let mut got = rig.by_consumer(other);
    got.sort_unstable();
    assert_eq!(got, [(2, 1), (2, 2), (3, 1), (3, 2)]);
}

#[test]
fn a_consumer_with_several_names_for_a_topic_gets_each_message_once() {
    let mut rig = rig(false, Policy::new());
    let client = rig.connect();
    listen(&mut rig, client, 1, 100, |info| {
        info.destination = Some(Destination::topic("T.A,T.*,T.>,U"));
    });
    for (number, name) in [(1, "T.A"), (2, "T.B"), (3, "U"), (4, "T.A,T.B")] {
        send(&mut rig, client, number, |message| {
            message.destination = Some(Destination::topic(name));
        });
    }
    // The last one was sent to two topics.
    assert_eq!(rig.numbers(client), [1, 2, 3, 4, 4]);
}

#[test]
fn a_message_that_nobody_consumes_can_go_to_the_dead_letters() {
    for (process, expected) in [(true, 1), (false, 0)] {
        let strategy = DeadLetterStrategy {
            process_non_persistent: process,
            ..DeadLetterStrategy::default()
        };
        let policy = Policy::new()
            .send_advisory_if_no_consumers(true)
            .dead_letters(strategy);
        let mut rig = rig(true, policy);
        let client = rig.connect();
        listen(&mut rig, client, 1, 100, |info| {
            info.selector = Some("a = 1".into())
        });
        // Persistent ones are not meant.
        send(&mut rig, client, 1, plain);
        send(&mut rig, client, 2, |message| message.persistent = false);
        let stats = rig.stats();
        assert_eq!((stats.dead_lettered, stats.discarded), (expected, 1 - expected));
    }
}

#[test]
fn a_pull_from_a_topic_takes_one_message_and_no_window() {
    let mut rig = rig(false, Policy::new());
    let client = rig.connect();
    listen(&mut rig, client, 1, 0, |_| {});
    (1..=2).for_each(|number| send(&mut rig, client, number, plain));
    for expected in [1, 2, 0] {
        let pull = MessagePull {
            consumer_id: Some(client.consumer(1)),
            timeout: -1,
            ..MessagePull::default()
        };
        rig.say(client, Box::new(pull));
        assert_eq!(rig.numbers(client), [expected]);
    }
    assert_eq!(rig.core.pulls_without_wait, 0);
}

#[test]
fn policies_of_other_destinations_do_not_matter() {
    let rules = Rules {
        policies: Policies::new().with(
            Pattern::topic("T.A"),
            Policy::new()
                .recovery(Recovery::LastImage)
                .pending_limit(PendingLimit::Constant(1)),
        ),
        ..Rules::default()
    };
    let mut rig = Rig::with(false, |config| config.rules = Arc::new(rules));
    let client = rig.connect();
    for (number, name) in [(1, "T.A"), (2, "T.B")] {
        send(&mut rig, client, number, |message| {
            message.destination = Some(Destination::topic(name))
        });
    }
    listen(&mut rig, client, 1, 100, |info| {
        info.destination = Some(Destination::topic("T.*"));
        retroactive(info);
    });
    assert_eq!(rig.numbers(client), [1]);
}

#[test]
fn a_subscription_keeps_out_what_its_own_client_sends_after_a_restart_as_well() {
    let mut rig = rig(true, Policy::new());
    let client = rig.connect();
    listen(&mut rig, client, 1, 100, |info| {
        info.subscription_name = Some("s".into());
        info.no_local = true;
    });
    rig.stop_consuming(client, 1, RemoveInfo::UNKNOWN_DELIVERED);
    let mut rig = rig.restart(true);
    let (client, other) = (rig.connect(), rig.connect());
    send(&mut rig, client, 1, plain);
    assert_eq!(rig.stored(), 0);
    send(&mut rig, other, 2, plain);
    listen(&mut rig, client, 1, 100, |info| {
        info.subscription_name = Some("s".into());
        info.no_local = true;
    });
    assert_eq!((rig.numbers(client), rig.stored()), (vec![2], 1));
}
