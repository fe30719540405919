//! Messages that are delivered later, and again; and the plugins that change what is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openwire_client::wire::*;
use proptest::prelude::*;

use super::rig::{Client, QUEUE, Rig};
use crate::core::{CoreConfig, Rules, SchedulerRules};
use crate::policy::{Composite, Pattern, Redelivery, RedeliveryPolicy, Timestamping, Zone};

const DELAY: &str = "AMQ_SCHEDULED_DELAY";
const PERIOD: &str = "AMQ_SCHEDULED_PERIOD";
const REPEAT: &str = "AMQ_SCHEDULED_REPEAT";
const CRON: &str = "AMQ_SCHEDULED_CRON";
const ID: &str = "scheduledJobId";

fn rig_with(stored: bool, change: impl FnOnce(&mut Rules), config: impl FnOnce(&mut CoreConfig)) -> Rig {
    let mut rules = Rules {
        scheduler: Some(SchedulerRules {
            max_repeat: 10,
            zone: Zone::utc(),
        }),
        ..Rules::default()
    };
    change(&mut rules);
    Rig::with(stored, |built| {
        built.rules = Arc::new(rules);
        config(built);
    })
}

fn rig(stored: bool) -> Rig {
    rig_with(stored, |_| {}, |_| {})
}

fn marshalled(pairs: &[(&str, Value)]) -> Option<bytes::Bytes> {
    let mut out = bytes::BytesMut::new();
    encode_map(&pairs.iter().cloned().collect(), &mut out).unwrap();
    Some(out.freeze())
}

fn scheduled(client: Client, number: i64, pairs: &[(&str, Value)]) -> Message {
    Message {
        marshalled_properties: marshalled(pairs),
        ..Rig::message(client, number, true)
    }
}

fn schedule(rig: &mut Rig, client: Client, number: i64, pairs: &[(&str, Value)]) {
    rig.ask(client, Arc::new(scheduled(client, number, pairs)))
        .unwrap();
}

fn property(message: &Message, name: &str) -> Option<Value> {
    let properties = decode_map(message.marshalled_properties.clone()?).unwrap();
    properties.get(name).cloned()
}

/// The messages dispatched since the last look.
fn messages(rig: &mut Rig, client: Client) -> Vec<Arc<Message>> {
    let dispatches = rig.dispatches(client).into_iter();
    dispatches.filter_map(|dispatch| dispatch.message).collect()
}

/// Lets time pass, in steps in which a real driver would tick, and says when something was dispatched.
fn pass(rig: &mut Rig, client: Client, millis: i64) -> Vec<(i64, i64)> {
    let begin = rig.now;
    let mut seen = Vec::new();
    for _ in 0..10_000 {
        let until = begin + millis;
        match rig.core.next_deadline() {
            Some(at) if at <= until => {
                rig.now = rig.now.max(at);
                rig.tick();
                let numbers = rig.numbers(client).into_iter();
                seen.extend(numbers.map(|number| (rig.now - begin, number)));
            }
            _ => {
                rig.now = until;
                return seen;
            }
        }
    }
    panic!("the core wants to be called over and over");
}

#[test]
fn a_message_comes_after_its_delay_without_what_scheduled_it() {
    for (stored, persistent) in [(false, true), (true, true), (true, false)] {
        let mut rig = rig(stored);
        let client = rig.connect();
        rig.consume(client, 1, 10);
        let message = Message {
            persistent,
            timestamp: rig.now,
            expiration: rig.now + 1000,
            ..scheduled(client, 1, &[(DELAY, Value::Long(5000)), ("colour", "red".into())])
        };
        rig.ask(client, Arc::new(message)).unwrap();
        assert_eq!(rig.stored(), usize::from(stored));
        assert_eq!(rig.core.scheduled().jobs, 1);
        rig.send(client, 2);
        assert_eq!(rig.numbers(client), [2]);
        rig.consumed(client, 1, client, 2, 2).unwrap();
        assert_eq!(pass(&mut rig, client, 4999), []);
        rig.now += 1;
        rig.tick();
        let message = messages(&mut rig, client).remove(0);
        assert_eq!(property(&message, DELAY), None);
        assert_eq!(property(&message, "colour"), Some("red".into()));
        assert!(matches!(property(&message, ID), Some(Value::String(_))));
        // It is the message that was sent, and has not aged.
        assert_eq!(message.message_id.as_ref().unwrap().producer_sequence_id, 1);
        assert_eq!(
            (message.persistent, message.timestamp, message.expiration),
            (persistent, rig.now, rig.now + 1000)
        );
        rig.consumed(client, 1, client, 1, 1).unwrap();
        assert_eq!(
            (rig.stored(), rig.stats().fired, rig.stats().scheduled),
            (0, 1, 0)
        );
        assert_eq!(
            (rig.core.scheduled().bytes, rig.core.memory_used),
            (0, 0),
            "nothing is left"
        );
        assert_eq!(pass(&mut rig, client, 100_000), []);
    }
}

#[test]
fn deliveries_are_repeated_and_each_has_an_id_of_its_own() {
    for stored in [false, true] {
        let mut rig = rig(stored);
        let client = rig.connect();
        rig.consume(client, 1, 10);
        let repeated = [
            (DELAY, Value::Long(500)),
            (PERIOD, Value::Int(100)),
            (REPEAT, "2".into()),
        ];
        schedule(&mut rig, client, 7, &repeated);
        let mut ids = BTreeSet::new();
        let mut jobs = BTreeSet::new();
        for due in [500, 100, 100] {
            assert_eq!(rig.core.next_deadline(), Some(rig.now + due));
            rig.now += due;
            rig.tick();
            for message in messages(&mut rig, client) {
                ids.insert(message.message_id.as_ref().unwrap().to_string());
                jobs.insert(format!("{:?}", property(&message, ID)));
            }
        }
        assert_eq!((ids.len(), jobs.len()), (3, 1));
        assert_eq!(pass(&mut rig, client, 10_000), []);
        assert_eq!((rig.stats().fired, rig.stats().scheduled), (3, 0));
    }
}

#[test]
fn a_cron_entry_begins_repetitions_each_time() {
    for stored in [false, true] {
        let mut rig = rig(stored);
        rig.now += 60_000 - rig.now % 60_000;
        let client = rig.connect();
        rig.consume(client, 1, 100);
        let both = [
            (CRON, "*/2 * * * *".into()),
            (PERIOD, Value::Long(1000)),
            (REPEAT, Value::Int(1)),
        ];
        let offset = rig.now % 120_000;
        schedule(&mut rig, client, 1, &both);
        // The entry's first time is late by the period, as in ActiveMQ; its repetitions come each time.
        let first = 120_000 - offset + 1000;
        let times: Vec<_> = pass(&mut rig, client, 5 * 60_000)
            .into_iter()
            .map(|(at, _)| at)
            .collect();
        assert_eq!(times[..2], [first + 1000, first + 2000], "{times:?}");
        assert_eq!(times.get(2), Some(&(first + 120_000)), "{times:?}");
        // The entry itself goes on; what it began is over.
        assert_eq!(
            rig.core
                .scheduled_jobs(0, 10)
                .iter()
                .filter(|job| job.times > 0)
                .count(),
            1
        );
    }
}

#[test]
fn what_cannot_be_scheduled_is_refused() {
    let mut rig = rig(true);
    let client = rig.connect();
    rig.consume(client, 1, 10);
    for pairs in [
        &[(DELAY, "soon".into())][..],
        &[(CRON, "hello".into())],
        &[
            (DELAY, Value::Int(1)),
            (PERIOD, Value::Int(1)),
            (REPEAT, Value::Int(11)),
        ],
        &[(DELAY, Value::Long(i64::MAX))],
    ] {
        let answer = rig.ask(client, Arc::new(scheduled(client, 1, pairs)));
        assert_eq!(answer, Err("MessageFormatException".to_owned()), "{pairs:?}");
    }
    // These say nothing of a later delivery.
    for (number, pairs) in [
        (1, &[(REPEAT, Value::Int(1))][..]),
        (2, &[(DELAY, Value::Int(1)), (ID, "ID:x".into())]),
    ] {
        schedule(&mut rig, client, number, pairs);
    }
    assert_eq!(rig.numbers(client), [1, 2]);
    assert_eq!(rig.core.scheduled().jobs, 0);
}

#[test]
fn without_a_scheduler_messages_are_delivered_at_once_as_they_are() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    rig.consume(client, 1, 10);
    schedule(&mut rig, client, 1, &[(DELAY, Value::Long(5000))]);
    let message = messages(&mut rig, client).remove(0);
    assert_eq!(property(&message, DELAY), Some(Value::Long(5000)));
    assert_eq!(property(&message, ID), None);
}

#[test]
fn the_answer_waits_until_the_message_is_stored() {
    let mut rig = rig(true);
    let client = rig.connect();
    rig.consume(client, 1, 10);
    rig.slow_store = true;
    let mut command = Command::from(Arc::new(scheduled(client, 1, &[(DELAY, Value::Int(10))])));
    command.set_header(77, true);
    rig.say(client, command);
    assert_eq!(rig.answer(client), None);
    // It is not delivered before a restart would know it, and nobody is called in vain.
    assert_eq!(rig.core.next_deadline(), None);
    rig.now += 1000;
    rig.release();
    assert_eq!(rig.answer(client), Some(Ok(())));
    rig.tick();
    assert_eq!(rig.numbers(client), [1]);
}

#[test]
fn a_refused_message_is_not_scheduled_and_may_be_sent_again() {
    let mut rig = rig(true);
    let client = rig.connect();
    let client = rig.reconnect(client);
    rig.consume(client, 1, 10);
    let message = Arc::new(scheduled(client, 1, &[(DELAY, Value::Int(10))]));
    rig.refusing = true;
    assert!(rig.ask(client, message.clone()).is_err());
    assert_eq!(rig.core.scheduled(), Default::default());
    rig.make_space();
    rig.ask(client, message.clone()).unwrap();
    // Once it is there, it is known.
    rig.ask(client, message).unwrap();
    assert_eq!((rig.core.scheduled().jobs, rig.stats().duplicates), (1, 1));
    assert_eq!(pass(&mut rig, client, 10).len(), 1);
}

#[test]
fn a_delivery_that_the_store_refuses_comes_later_and_once() {
    let mut rig = rig(true);
    let client = rig.connect();
    rig.consume(client, 1, 10);
    schedule(
        &mut rig,
        client,
        1,
        &[
            (DELAY, Value::Int(10)),
            (PERIOD, Value::Int(50)),
            (REPEAT, Value::Int(1)),
        ],
    );
    rig.send(client, 2);
    assert_eq!(rig.numbers(client), [2]);
    rig.refusing = true;
    assert_eq!(pass(&mut rig, client, 20), []);
    rig.refusing = false;
    assert_eq!(rig.stats().fired, 0);
    let seen = pass(&mut rig, client, 5000);
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(rig.stats().fired, 2);
    // What its client sent later is still known to be there.
    let client = rig.reconnect(client);
    rig.send(client, 2);
    assert_eq!(rig.stats().duplicates, 1);
}

#[test]
fn a_transaction_schedules_when_it_is_committed() {
    for stored in [false, true] {
        let mut rig = rig(stored);
        let client = rig.connect();
        rig.consume(client, 1, 10);
        for (transaction, step) in [
            (1, TransactionInfo::ROLLBACK),
            (2, TransactionInfo::COMMIT_ONE_PHASE),
        ] {
            rig.transact(client, transaction, TransactionInfo::BEGIN).unwrap();
            let message = Message {
                transaction_id: Some(client.transaction(transaction)),
                ..scheduled(client, transaction, &[(DELAY, Value::Int(300))])
            };
            rig.ask(client, Arc::new(message)).unwrap();
            assert_eq!(rig.core.scheduled().jobs, 0);
            rig.now += 1000;
            rig.transact(client, transaction, step).unwrap();
        }
        assert_eq!(rig.core.scheduled().jobs, 1);
        assert_eq!(pass(&mut rig, client, 10_000), [(300, 2)]);
        rig.consumed(client, 1, client, 2, 2).unwrap();
        assert_eq!((rig.core.memory_used, rig.stored()), (0, 0));
    }
}

#[test]
fn scheduled_messages_survive_a_restart_with_what_is_left_of_them() {
    for clean in [true, false] {
        let mut rig = rig(true);
        let client = rig.connect();
        schedule(&mut rig, client, 1, &[(DELAY, Value::Int(500))]);
        let repeated = [(PERIOD, Value::Int(100)), (REPEAT, Value::Int(3))];
        schedule(&mut rig, client, 2, &repeated);
        schedule(&mut rig, client, 3, &[(DELAY, Value::Int(100_000))]);
        rig.send_with(client, 4, |message| {
            message.persistent = false;
            message.marshalled_properties = marshalled(&[(DELAY, Value::Int(700))]);
        });
        rig.consume(client, 1, 0);
        pass(&mut rig, client, 200);
        assert_eq!((rig.depth(), rig.stats().fired), (2, 2));
        let jobs = rig.core.scheduled_jobs(0, 10);
        let mut rig = rig.restart(clean);
        assert_eq!(rig.core.scheduled_jobs(0, 10), jobs);
        // What was missed meanwhile comes once, and then in the old rhythm.
        rig.now += 1000;
        let client = rig.connect();
        rig.consume(client, 1, 10);
        rig.numbers(client);
        let seen = pass(&mut rig, client, 10_000);
        let times: Vec<_> = seen.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [0, 0, 0, 100], "{seen:?}");
        assert_eq!(rig.core.scheduled().jobs, 1);
    }
}

#[test]
fn a_crash_after_a_delivery_does_not_repeat_it() {
    let mut rig = rig(true);
    let client = rig.connect();
    schedule(&mut rig, client, 1, &[(DELAY, Value::Int(10))]);
    pass(&mut rig, client, 10);
    assert_eq!((rig.depth(), rig.stored()), (1, 1));
    let mut rig = rig.restart(false);
    let client = rig.connect();
    rig.consume(client, 1, 10);
    assert_eq!(pass(&mut rig, client, 10_000), []);
    assert_eq!((rig.stats().dispatched, rig.core.scheduled().jobs), (1, 0));
}

#[test]
fn without_a_scheduler_what_is_stored_waits_for_one() {
    let mut rig = rig(true);
    let client = rig.connect();
    schedule(&mut rig, client, 1, &[(DELAY, Value::Int(10))]);
    let with = rig.core.config.rules.clone();
    rig.core.config.rules = Arc::default();
    let mut rig = rig.restart(true);
    let client = rig.connect();
    assert_eq!(rig.core.next_deadline(), None);
    pass(&mut rig, client, 1000);
    assert_eq!((rig.depth(), rig.core.scheduled().jobs), (0, 1));
    rig.core.config.rules = with;
    let mut rig = rig.restart(true);
    rig.tick();
    assert_eq!(rig.depth(), 1);
}

#[test]
fn a_message_goes_where_any_other_goes_when_its_time_comes() {
    let mut rig = rig_with(
        true,
        |rules| {
            let forwards = [Destination::queue("A"), Destination::queue("B")];
            rules
                .interceptors
                .add_composite(Composite::new(Pattern::queue("ALL"), forwards));
        },
        |_| {},
    );
    let client = rig.connect();
    for (number, to) in [
        (1, Destination::queue("ALL")),
        (2, Destination::topic("VirtualTopic.T")),
        (3, Destination::queue("C,D")),
        (4, Destination::topic("plain")),
    ] {
        rig.send_with(client, number, |message| {
            message.destination = Some(to);
            message.marshalled_properties = marshalled(&[(DELAY, Value::Int(10))]);
        });
    }
    for (consumer, from) in [
        (1, Destination::queue("A")),
        (2, Destination::queue("B")),
        (3, Destination::queue("Consumer.x.VirtualTopic.T")),
        (4, Destination::queue("C")),
        (5, Destination::queue("D")),
        (6, Destination::topic("plain")),
    ] {
        rig.consume_from(client, consumer, 10, from).unwrap();
    }
    rig.now += 10;
    rig.tick();
    let mut seen = rig.by_consumer(client);
    seen.sort_unstable();
    assert_eq!(seen, [(1, 1), (2, 1), (3, 2), (4, 3), (5, 3), (6, 4)]);
}

#[test]
fn a_message_whose_destination_is_gone_is_counted() {
    let mut rig = rig(true);
    let client = rig.connect();
    rig.send_with(client, 1, |message| {
        message.destination = Some(Destination::parse(
            "temp-queue://ID:gone:1",
            DestinationKind::Queue,
        ));
        message.marshalled_properties = marshalled(&[(DELAY, Value::Int(10))]);
    });
    pass(&mut rig, client, 10);
    assert_eq!((rig.stats().discarded, rig.core.scheduled().jobs), (1, 0));
    assert_eq!(rig.stored(), 0);
}

/// Asks the scheduler for something; gives back the answer.
fn ask_scheduler(rig: &mut Rig, client: Client, number: i64, pairs: &[(&str, Value)]) {
    let message = Message {
        destination: Some(Destination::topic("ActiveMQ.Scheduler.Management")),
        reply_to: Some(Destination::queue("replies")),
        persistent: false,
        ..scheduled(client, number, pairs)
    };
    let mut command = Command::from(Arc::new(message));
    command.set_header(77, true);
    rig.say(client, command);
}

/// Asks the scheduler for something and waits for the answer, which comes when everything asked for was shown.
fn manage(rig: &mut Rig, client: Client, number: i64, pairs: &[(&str, Value)]) -> Result<(), String> {
    ask_scheduler(rig, client, number, pairs);
    while rig.core.next_deadline().is_some_and(|at| at <= rig.now) {
        rig.tick();
    }
    rig.answer(client).expect("an answer")
}

/// What the scheduler shows: number and job id.
fn browsed(rig: &mut Rig, client: Client) -> Vec<(Option<Value>, String)> {
    while rig.core.next_deadline().is_some_and(|at| at <= rig.now) {
        rig.tick();
    }
    messages(rig, client)
        .iter()
        .map(|message| {
            assert_eq!(message.message_type.as_deref(), Some("Advisory"));
            assert_eq!(message.original_destination, Some(Destination::queue(QUEUE)));
            assert!(!message.persistent && property(message, DELAY).is_some());
            let Some(Value::String(id)) = property(message, ID) else {
                panic!("no job id")
            };
            (property(message, "n"), id.to_string())
        })
        .collect()
}

#[test]
fn what_is_scheduled_can_be_browsed_and_removed() {
    const ACTION: &str = "AMQ_SCHEDULER_ACTION";
    for stored in [false, true] {
        let mut rig = rig(stored);
        let client = rig.connect();
        rig.consume_from(client, 1, 1000, Destination::queue("replies"))
            .unwrap();
        let begin = rig.now;
        for number in 1..=5i64 {
            let delay = Value::Long(number * 1000);
            schedule(
                &mut rig,
                client,
                number,
                &[(DELAY, delay), ("n", Value::Long(number))],
            );
        }
        manage(&mut rig, client, 10, &[(ACTION, "BROWSE".into())]).unwrap();
        let all = browsed(&mut rig, client);
        let numbers = |shown: &[(Option<Value>, String)]| -> Vec<_> {
            let numbers = shown.iter().map(|(number, _)| match number {
                Some(Value::Long(number)) => *number,
                _ => 0,
            });
            numbers.collect()
        };
        assert_eq!(numbers(&all), [1, 2, 3, 4, 5]);
        let listed = rig.core.scheduled_jobs(0, 10);
        assert!(all.iter().map(|(_, id)| id).eq(listed.iter().map(|job| &job.id)));

        let range = [
            ("ACTION_START_TIME", Value::Long(begin + 2000)),
            ("ACTION_END_TIME", (begin + 4000).to_string().as_str().into()),
        ];
        let mut browse = vec![(ACTION, "BROWSE".into())];
        browse.extend(range.clone());
        manage(&mut rig, client, 11, &browse).unwrap();
        assert_eq!(numbers(&browsed(&mut rig, client)), [2, 3, 4]);

        let remove = |id: &str| [(ACTION, "REMOVE".into()), (ID, id.into())];
        manage(&mut rig, client, 12, &remove(&all[2].1)).unwrap();
        manage(&mut rig, client, 13, &remove("ID:other:1")).unwrap();
        manage(&mut rig, client, 14, &remove("ID:test:x")).unwrap();
        let due = |rig: &Rig| -> Vec<_> {
            let jobs = rig.core.scheduled_jobs(0, 10).into_iter();
            jobs.map(|job| job.due - begin).collect()
        };
        assert_eq!(due(&rig), [1000, 2000, 4000, 5000]);
        let mut remove = vec![(ACTION, "REMOVEALL".into())];
        remove.extend(range);
        manage(&mut rig, client, 15, &remove).unwrap();
        assert_eq!(due(&rig), [1000, 5000]);
        assert_eq!(rig.stored(), if stored { 2 } else { 0 });
        // It says nothing that can be done.
        manage(&mut rig, client, 16, &[(ACTION, "DANCE".into())]).unwrap();
        assert!(manage(&mut rig, client, 17, &[("ACTION_END_TIME", "x".into())]).is_err());
        assert_eq!(due(&rig), [1000, 5000]);
        manage(&mut rig, client, 18, &[(ACTION, "REMOVEALL".into())]).unwrap();
        assert_eq!(rig.core.scheduled(), Default::default());
        // Only the replies take room.
        assert_eq!(rig.stats().dispatched, 8);
        rig.stop_consuming(client, 1, RemoveInfo::NOTHING_DELIVERED);
        rig.ask(
            client,
            DestinationInfo {
                destination: Some(Destination::queue("replies")),
                operation_type: DestinationInfo::REMOVE,
                ..DestinationInfo::default()
            },
        )
        .unwrap();
        assert_eq!((rig.core.memory_used, rig.stored()), (0, 0));
    }
}

#[test]
fn many_are_shown_bit_by_bit_and_deliveries_go_on() {
    for stored in [false, true] {
        let mut rig = rig_with(stored, |_| {}, |config| config.memory_limit = 20_000_000);
        let client = rig.connect();
        let delay = (DELAY, Value::Long(1));
        for number in 1..=2500 {
            let far = (DELAY, Value::Long(50_000));
            schedule(&mut rig, client, number, &[far]);
        }
        schedule(&mut rig, client, 2501, &[delay]);
        ask_scheduler(&mut rig, client, 1, &[("AMQ_SCHEDULER_ACTION", "BROWSE".into())]);
        rig.consume(client, 1, 10);
        rig.now += 1;
        rig.tick();
        assert_eq!(rig.numbers(client), [2501]);
        for _ in 0..10 {
            rig.tick();
        }
        assert_eq!(rig.answer(client), Some(Ok(())));
        assert_eq!(
            rig.core.queue_depth(&Destination::queue("replies")),
            Some(2501 - 1)
        );
        rig.now += 49_999;
        for _ in 0..10 {
            rig.tick();
        }
        assert_eq!((rig.stats().fired, rig.core.scheduled().jobs), (2501, 0));
    }
}

#[test]
fn replies_to_a_browser_wait_for_room() {
    let mut rig = rig_with(true, |_| {}, |config| config.memory_limit = 5000);
    let client = rig.connect();
    for number in 1..=1100 {
        schedule(&mut rig, client, number, &[(DELAY, Value::Long(1_000_000))]);
    }
    for _ in 0..2 {
        ask_scheduler(&mut rig, client, 1, &[("AMQ_SCHEDULER_ACTION", "BROWSE".into())]);
    }
    rig.tick();
    let depth = |rig: &Rig| rig.core.queue_depth(&Destination::queue("replies")).unwrap_or(0);
    assert_eq!(depth(&rig), 1000);
    // There is no room any more, and nobody waits for ever.
    for _ in 0..1000 {
        rig.now += 100;
        rig.tick();
    }
    assert_eq!(depth(&rig), 1000);
    assert!(rig.core.next_deadline().is_some_and(|at| at > rig.now + 100_000));
}

#[test]
fn a_message_that_is_removed_while_it_is_delivered_is_not_delivered_again() {
    let mut rig = rig(true);
    let client = rig.connect();
    schedule(
        &mut rig,
        client,
        1,
        &[(PERIOD, Value::Int(10)), (REPEAT, Value::Int(5))],
    );
    rig.now += 10;
    rig.slow_store = true;
    rig.tick();
    // Its body is on its way; it is removed meanwhile.
    let all = [("AMQ_SCHEDULER_ACTION", "REMOVEALL".into())];
    let mut command = Command::from(Arc::new(Message {
        destination: Some(Destination::queue("activemq.scheduler.management")),
        ..scheduled(client, 2, &all)
    }));
    command.set_header(77, true);
    rig.say(client, command);
    rig.release();
    assert_eq!(rig.answer(client), Some(Ok(())));
    pass(&mut rig, client, 1000);
    assert_eq!((rig.stats().fired, rig.stored(), rig.depth()), (0, 0, 0));
}

fn redelivering(stored: bool, change: impl FnOnce(&mut Redelivery)) -> Rig {
    let policy = RedeliveryPolicy {
        initial_redelivery_delay: Duration::from_secs(2),
        redelivery_delay: Duration::from_secs(3),
        maximum_redeliveries: Some(2),
        ..RedeliveryPolicy::default()
    };
    let mut redelivery = Redelivery::default().with(Pattern::queue(QUEUE), policy);
    change(&mut redelivery);
    rig_with(stored, |rules| rules.redelivery = Some(redelivery), |_| {})
}

fn poison(rig: &mut Rig, client: Client, number: i64) {
    let ack = rig.ack(client, 1, MessageAck::POISON, client, number, number);
    rig.ask(client, Box::new(ack)).unwrap();
}

#[test]
fn what_a_consumer_gives_up_comes_again_and_then_goes_to_the_dead_letters() {
    for stored in [false, true] {
        let mut rig = redelivering(stored, |_| {});
        let client = rig.connect();
        rig.consume(client, 1, 10);
        rig.send(client, 1);
        assert_eq!(rig.dispatched(client), [(1, 1, 0)]);
        for (count, delay) in [(1, 2000), (2, 3000)] {
            poison(&mut rig, client, 1);
            assert_eq!((rig.depth(), rig.core.scheduled().jobs), (0, 1));
            if stored {
                rig = rig.restart(count == 1);
                let again = rig.connect();
                assert_eq!(again, client);
                rig.consume(client, 1, 10);
            }
            rig.now += delay - 1;
            rig.tick();
            assert_eq!(rig.dispatched(client), []);
            rig.now += 1;
            rig.tick();
            let dispatch = rig.dispatches(client).remove(0);
            let message = dispatch.message.unwrap();
            assert_eq!(
                (dispatch.redelivery_counter, message.redelivery_counter),
                (count, count)
            );
            assert_eq!(property(&message, "redeliveryDelay"), Some(Value::Long(delay)));
            assert_eq!(message.message_id.as_ref().unwrap().producer_sequence_id, 1);
        }
        poison(&mut rig, client, 1);
        assert_eq!((rig.stats().dead_lettered, rig.core.scheduled().jobs), (1, 0));
    }
}

#[test]
fn what_has_no_policy_or_no_time_left_is_not_redelivered() {
    let mut rig = redelivering(true, |_| {});
    let client = rig.connect();
    rig.consume(client, 1, 10);
    let soon = rig.now + 10;
    rig.send_with(client, 1, |message| message.expiration = soon);
    rig.now += 20;
    poison(&mut rig, client, 1);
    assert_eq!((rig.stats().dead_lettered, rig.stats().redelivered), (1, 0));
    rig.consume_from(client, 2, 10, Destination::queue("other"))
        .unwrap();
    rig.send_with(client, 2, |message| {
        message.destination = Some(Destination::queue("other"))
    });
    let ack = rig.ack(client, 2, MessageAck::POISON, client, 2, 2);
    rig.ask(client, Box::new(ack)).unwrap();
    assert_eq!((rig.stats().dead_lettered, rig.stats().redelivered), (2, 0));

    let mut rig = redelivering(true, |redelivery| {
        redelivery.policies = Default::default();
        redelivery.fallback_to_dead_letter = false;
    });
    let client = rig.connect();
    rig.consume(client, 1, 10);
    rig.send(client, 1);
    poison(&mut rig, client, 1);
    assert_eq!(
        (rig.stats().discarded, rig.stats().dead_lettered, rig.stored()),
        (1, 0, 0)
    );
}

#[test]
fn a_redelivery_that_the_store_refuses_leaves_the_message_with_its_consumer() {
    let mut rig = redelivering(true, |_| {});
    let client = rig.connect();
    rig.consume(client, 1, 10);
    rig.send(client, 1);
    rig.numbers(client);
    rig.refusing = true;
    let ack = rig.ack(client, 1, MessageAck::POISON, client, 1, 1);
    assert!(rig.ask(client, Box::new(ack)).is_err());
    assert_eq!((rig.stored(), rig.core.scheduled().jobs), (1, 0));
    rig.make_space();
    poison(&mut rig, client, 1);
    assert_eq!(pass(&mut rig, client, 2000), [(2000, 1)]);
}

#[test]
fn messages_are_stamped_and_made_persistent_as_the_plugins_have_it() {
    for persistent in [true, false] {
        let mut rig = rig_with(
            true,
            |rules| {
                rules.force_persistency = Some(persistent);
                rules.timestamp = Some(Timestamping {
                    ttl_ceiling: Duration::from_secs(10),
                    ..Timestamping::default()
                });
            },
            |_| {},
        );
        let client = rig.connect();
        rig.consume(client, 1, 10);
        rig.send_with(client, 1, |message| {
            message.persistent = !persistent;
            message.timestamp = 1000;
            message.expiration = 90_000;
        });
        let message = messages(&mut rig, client).remove(0);
        assert_eq!(
            (message.persistent, message.timestamp, message.expiration),
            (persistent, rig.now, rig.now + 10_000)
        );
        assert_eq!(rig.stored(), usize::from(persistent));
        // Dead letters are messages, too.
        rig.send_with(client, 2, |message| message.persistent = true);
        poison(&mut rig, client, 2);
        assert_eq!(rig.stats().dead_lettered, u64::from(persistent));
    }
}

/// The ids of all that waits.
fn ids(rig: &Rig) -> BTreeSet<String> {
    let jobs = rig.core.scheduled_jobs(0, usize::MAX).into_iter();
    jobs.map(|job| job.id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    // Whatever is scheduled comes exactly as often as it should, however often the broker crashes, the store refuses and
    // somebody removes some of it.
    #[test]
    fn each_message_comes_as_often_as_it_should(
        steps in prop::collection::vec((0..12_u8, 0..400_i64, 0..4_u32), 1..60),
    ) {
        let mut rig = rig(true);
        let mut client = rig.connect();
        let mut expected = BTreeMap::new();
        let mut known = BTreeMap::new();
        for (number, (what, time, count)) in (1..).zip(steps) {
            match what {
                0..5 => {
                    let pairs = [
                        (DELAY, Value::Long(time + 1)),
                        (PERIOD, Value::Long(time / 3)),
                        (REPEAT, Value::Int(count as i32)),
                        ("n", Value::Long(number)),
                    ];
                    let before = ids(&rig);
                    let answer = rig.ask(client, Arc::new(scheduled(client, number, &pairs)));
                    let new: Vec<_> = ids(&rig).difference(&before).cloned().collect();
                    prop_assert_eq!(new.len(), usize::from(answer.is_ok()));
                    for id in new {
                        expected.insert(number, count + 1);
                        known.insert(id, number);
                    }
                }
                5..8 => drop(pass(&mut rig, client, time)),
                8 => {
                    rig = rig.restart(time % 2 == 0);
                    client = rig.connect();
                }
                9 | 10 => rig.refusing = !rig.refusing,
                _ => {
                    let jobs = rig.core.scheduled_jobs(0, usize::MAX);
                    let Some(job) = jobs.get(count as usize) else { continue };
                    let remove = [("AMQ_SCHEDULER_ACTION", "REMOVE".into()), (ID, job.id.as_str().into())];
                    let removed = manage(&mut rig, client, 0, &remove).is_ok();
                    if removed {
                        expected.insert(known[&job.id], job.times);
                    }
                    prop_assert_eq!(ids(&rig).contains(&job.id), !removed);
                }
            }
        }
        rig.refusing = false;
        pass(&mut rig, client, 1_000_000);
        prop_assert_eq!(rig.core.scheduled(), Default::default());
        rig.consume(client, 1, 10_000);
        let mut seen: BTreeMap<i64, u32> = expected.keys().map(|number| (*number, 0)).collect();
        for message in messages(&mut rig, client) {
            let Some(Value::Long(number)) = property(&message, "n") else { panic!("no number") };
            *seen.entry(number).or_default() += 1;
        }
        prop_assert_eq!(seen, expected);
    }
}
