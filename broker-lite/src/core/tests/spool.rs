//! Messages that lie in the temporary store while memory is short.

use std::collections::VecDeque;
use std::sync::Arc;

use openwire_client::wire::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::rig::{Client, QUEUE, Rig};
use crate::core::Rules;
use crate::policy::{Pattern, PendingQueue, Policies, Policy};

/// Messages count 1 KiB each, so the seventh reaches the mark and is spooled, and so are those behind it.
const MEMORY: usize = 10 * 1024;

fn rig(temp_limit: u64, policy: Policy) -> Rig {
    Rig::with(true, |config| {
        config.memory_limit = MEMORY;
        config.temp_limit = Some(temp_limit);
        config.rules = Arc::new(Rules {
            policies: Policies::new().with(Pattern::queue(">"), policy),
            ..Rules::default()
        });
    })
}

fn roomy() -> Rig {
    rig(u64::MAX, Policy::new())
}

impl Rig {
    fn send_fleeting(&mut self, client: Client, number: i64) {
        self.send_with(client, number, |message| message.persistent = false);
    }

    fn spooled(&self) -> usize {
        assert_eq!(self.stats().temp_used, self.temp.messages.len() * 1024);
        self.temp.messages.len()
    }

    fn is_empty(&self) -> bool {
        let stats = self.stats();
        (stats.memory_used, stats.temp_used, self.temp.messages.len()) == (0, 0, 0)
    }
}

#[test]
fn what_comes_beyond_the_mark_is_spooled_and_comes_in_order() {
    let mut rig = roomy();
    let (producer, consumer) = (rig.connect(), rig.connect());
    (1..=5000).for_each(|number| rig.send_fleeting(producer, number));
    assert_eq!(rig.spooled(), 4994);
    assert_eq!(rig.stats().memory_used, 6 * 1024);
    assert_eq!((rig.depth(), rig.stored(), rig.stats().blocked), (5000, 0, 0));
    rig.consume(consumer, 1, 10);
    for number in 1..=5000 {
        let numbers = rig.numbers(consumer);
        assert!(numbers.is_empty() || numbers[0] >= number);
        rig.consumed(consumer, 1, producer, number, number).unwrap();
        // What the consumer has is in memory again.
        assert!(rig.stats().memory_used <= 10 * 1024 + 6 * 1024);
    }
    assert!(rig.is_empty());
    assert_eq!(rig.stats().dispatched, 5000);
}

#[test]
fn a_consumer_that_waits_gets_messages_past_the_store() {
    let mut rig = roomy();
    let (producer, consumer) = (rig.connect(), rig.connect());
    rig.consume(consumer, 1, 100);
    (1..=9).for_each(|number| rig.send_fleeting(producer, number));
    assert_eq!(rig.numbers(consumer), (1..=9).collect::<Vec<_>>());
    assert_eq!(rig.spooled(), 0);
    // What it gives back waits again.
    rig.stop_consuming(consumer, 1, 0);
    assert_eq!((rig.depth(), rig.spooled()), (9, 3));
    rig.consume(consumer, 2, 100);
    assert_eq!(rig.numbers(consumer), (1..=9).collect::<Vec<_>>());
    rig.consumed(consumer, 2, producer, 1, 9).unwrap();
    assert!(rig.is_empty());
}

#[test]
fn priorities_selectors_and_stored_messages_keep_their_order() {
    let mut rig = rig(u64::MAX, Policy::new().prioritized_messages(true));
    let client = rig.connect();
    for number in 1..=60 {
        rig.send_with(client, number, |message| {
            message.priority = (number % 3) as i8 as _;
            message.persistent = number % 4 == 0;
            message.marshalled_properties = super::rig::properties(&[("colour", number % 2)]);
        });
    }
    assert!(rig.temp.messages.len() > 30);
    let selector = |info: &mut ConsumerInfo| info.selector = Some("colour = 1".into());
    rig.subscribe(client, 1, selector).unwrap();
    let mut expected: Vec<i64> = (1..=60).filter(|number| number % 2 == 1).collect();
    expected.sort_by_key(|number| (-(number % 3), *number));
    assert_eq!(rig.numbers(client), expected);
    rig.subscribe(client, 2, |_| {}).unwrap();
    let mut expected: Vec<i64> = (1..=60).filter(|number| number % 2 == 0).collect();
    expected.sort_by_key(|number| (-(number % 3), *number));
    assert_eq!(rig.numbers(client), expected);
}

#[test]
fn browsing_shows_what_is_spooled_and_leaves_it_there() {
    let mut rig = roomy();
    let client = rig.connect();
    (1..=50).for_each(|number| rig.send_fleeting(client, number));
    rig.subscribe(client, 1, |info| info.browser = true).unwrap();
    assert_eq!(rig.numbers(client), (1..=50).chain([0]).collect::<Vec<_>>());
    assert_eq!((rig.depth(), rig.spooled()), (50, 44));
    // Their bodies left memory again.
    rig.stop_consuming(client, 1, 0);
    rig.consume(client, 2, 100);
    assert_eq!(rig.numbers(client), (1..=50).collect::<Vec<_>>());
}

#[test]
fn what_is_spooled_ends_in_time() {
    let mut rig = roomy();
    let client = rig.connect();
    let end = rig.now + 1000;
    for number in 1..=50 {
        rig.send_with(client, number, |message| {
            message.persistent = false;
            message.expiration = if number % 2 == 0 { end } else { 0 };
        });
    }
    rig.now += 60_000;
    while rig.depth() > 25 {
        let before = rig.stats().expired;
        rig.tick();
        rig.now += 60_000;
        assert!(rig.stats().expired > before);
    }
    assert_eq!(rig.spooled(), 22);
    rig.consume(client, 1, 100);
    let numbers: Vec<i64> = (1..=50).filter(|number| number % 2 == 1).collect();
    assert_eq!(rig.numbers(client), numbers);
}

#[test]
fn a_full_temporary_store_holds_producers_back() {
    let mut rig = rig(5 * 1024, Policy::new());
    let (producer, consumer) = (rig.connect(), rig.connect());
    (1..=11).for_each(|number| rig.send_fleeting(producer, number));
    assert_eq!(rig.spooled(), 5);
    let mut message = Command::from(Arc::new(Message {
        persistent: false,
        ..Rig::message(producer, 12, false)
    }));
    message.set_header(12, true);
    rig.say(producer, message);
    assert_eq!(rig.answer(producer), None);
    assert_eq!((rig.stats().blocked, rig.stats().held_back), (1, 1));
    // A persistent one has room.
    rig.send_with(consumer, 1, |message| {
        message.destination = Some(Destination::queue("OTHER"));
    });
    rig.consume(consumer, 1, 3);
    rig.consumed(consumer, 1, producer, 1, 3).unwrap();
    assert_eq!(rig.answer(producer), None, "the temporary store is full still");
    rig.consumed(consumer, 1, producer, 4, 6).unwrap();
    assert_eq!(rig.answer(producer), Some(Ok(())));
    assert_eq!(rig.stats().blocked, 0);
    rig.consumed(consumer, 1, producer, 7, 9).unwrap();
    rig.consumed(consumer, 1, producer, 10, 12).unwrap();
    assert!(rig.is_empty());
}

#[test]
fn some_queues_stay_in_memory() {
    let vm = Policy::new().pending_queue(PendingQueue::Vm);
    let mut rig = rig(u64::MAX, vm);
    let client = rig.connect();
    (1..=10).for_each(|number| rig.send_fleeting(client, number));
    assert_eq!((rig.spooled(), rig.stats().memory_used), (0, MEMORY));

    let mut rig = roomy();
    let client = rig.connect();
    let temporary = Destination::new(DestinationKind::TempQueue, &format!("{}:1", client.id()));
    for number in 1..=10 {
        rig.send_with(client, number, |message| {
            message.destination = Some(Destination::queue("A"));
            message.persistent = false;
        });
    }
    let info = DestinationInfo {
        connection_id: Some(ConnectionId::new(client.id())),
        destination: Some(temporary.clone()),
        ..DestinationInfo::default()
    };
    rig.ask(client, info).unwrap();
    assert_eq!(rig.spooled(), 4);
    (11..=13).for_each(|number| {
        rig.send_with(client, number, |message| {
            message.destination = Some(temporary.clone())
        });
    });
    assert_eq!((rig.spooled(), rig.stats().memory_used), (4, 9 * 1024));
}

#[test]
fn a_queue_has_a_mark_of_its_own() {
    let policy = Policy::new()
        .memory_limit(4096)
        .producer_flow_control(false)
        .cursor_memory_high_water_mark(50);
    let mut rig = rig(u64::MAX, policy);
    let client = rig.connect();
    (1..=20).for_each(|number| rig.send_fleeting(client, number));
    assert_eq!((rig.spooled(), rig.stats().memory_used), (19, 1024));
}

#[test]
fn what_the_temporary_store_refuses_stays_in_memory() {
    let mut rig = roomy();
    rig.temp.refusing = true;
    let (producer, consumer) = (rig.connect(), rig.connect());
    (1..=9).for_each(|number| rig.send_fleeting(producer, number));
    assert_eq!((rig.spooled(), rig.stats().memory_used), (0, 9 * 1024));
    rig.temp.refusing = false;
    rig.now += 1000;
    rig.send_fleeting(producer, 10);
    assert_eq!((rig.spooled(), rig.stats().memory_used), (1, 9 * 1024));
    rig.consume(consumer, 1, 100);
    assert_eq!(rig.numbers(consumer), (1..=10).collect::<Vec<_>>());
    rig.consumed(consumer, 1, producer, 1, 10).unwrap();
    assert!(rig.is_empty());
}

#[test]
fn what_is_on_its_way_may_be_taken() {
    for refusing in [false, true] {
        let mut rig = roomy();
        (rig.temp.slow, rig.temp.refusing) = (true, refusing);
        let (producer, consumer) = (rig.connect(), rig.connect());
        (1..=20).for_each(|number| rig.send_fleeting(producer, number));
        rig.consume(consumer, 1, 10);
        assert_eq!(rig.numbers(consumer), (1..=10).collect::<Vec<_>>());
        rig.consumed(consumer, 1, producer, 1, 10).unwrap();
        rig.release_temp();
        assert_eq!(rig.numbers(consumer), (11..=20).collect::<Vec<_>>());
        rig.consumed(consumer, 1, producer, 11, 20).unwrap();
        assert!(rig.is_empty());
    }
}

#[test]
fn what_the_temporary_store_lost_is_counted_and_the_rest_goes_on() {
    let mut rig = roomy();
    let client = rig.connect();
    (1..=20).for_each(|number| rig.send_fleeting(client, number));
    let lost = *rig.temp.messages.keys().nth(3).unwrap();
    rig.temp.messages.remove(&lost);
    rig.consume(client, 1, 100);
    let numbers: Vec<i64> = (1..=20).filter(|number| *number != 10).collect();
    assert_eq!(rig.numbers(client), numbers);
    assert_eq!(rig.stats().discarded, 1);
    rig.stop_consuming(client, 1, 0);
    assert_eq!(rig.spooled(), 13);
}

#[test]
fn a_queue_takes_what_it_spooled_with_it() {
    let mut rig = roomy();
    let client = rig.connect();
    (1..=20).for_each(|number| rig.send_fleeting(client, number));
    let info = DestinationInfo {
        connection_id: Some(ConnectionId::new(client.id())),
        destination: Some(Destination::queue(QUEUE)),
        operation_type: 1,
        ..DestinationInfo::default()
    };
    rig.ask(client, info).unwrap();
    assert!(rig.is_empty());
    assert!(rig.temp.destinations.is_empty());
}

#[test]
fn a_transaction_puts_them_where_there_is_room() {
    let mut rig = roomy();
    let client = rig.connect();
    rig.transact(client, 1, TransactionInfo::BEGIN).unwrap();
    for number in 1..=9 {
        rig.send_with(client, number, |message| {
            message.persistent = false;
            message.transaction_id = Some(client.transaction(1));
        });
    }
    rig.transact(client, 1, TransactionInfo::COMMIT_ONE_PHASE)
        .unwrap();
    rig.send_fleeting(client, 10);
    assert_eq!(rig.stats().memory_used + rig.stats().temp_used, 10 * 1024);
    assert!(rig.spooled() > 0);
    rig.consume(client, 1, 100);
    assert_eq!(rig.numbers(client), (1..=10).collect::<Vec<_>>());
}

#[test]
fn nothing_is_lost_doubled_or_left_behind_at_random() {
    for seed in 0..30 {
        let random = &mut StdRng::seed_from_u64(seed);
        let mut rig = rig(30 * 1024, Policy::new());
        let (producer, consumer) = (rig.connect(), rig.connect());
        let (mut sent, mut number, mut taken) = (0, 0, VecDeque::new());
        rig.consume(consumer, 1, 5);
        let mut id = 1;
        for _ in 0..2000 {
            match random.random_range(0..12) {
                0..=5 if sent - number < 30 => {
                    sent += 1;
                    let persistent = random.random_bool(0.2);
                    // It may be held back for a while.
                    rig.say(producer, Arc::new(Rig::message(producer, sent, persistent)));
                }
                6..=8 => {
                    if let Some(first) = taken.pop_front() {
                        rig.consumed(consumer, id, producer, first, first).unwrap();
                        assert_eq!(first, number + 1, "seed {seed}");
                        number = first;
                    }
                }
                9 => {
                    rig.stop_consuming(consumer, id, 0);
                    taken.clear();
                    rig.numbers(consumer);
                    id += 1;
                    rig.consume(consumer, id, 5);
                }
                10 => rig.temp.slow = random.random_bool(0.5),
                _ => {
                    rig.temp.refusing = random.random_bool(0.2);
                    rig.now += 1000;
                }
            }
            if !rig.temp.slow {
                rig.release_temp();
            }
            taken.extend(rig.numbers(consumer));
        }
        (rig.temp.slow, rig.temp.refusing) = (false, false);
        rig.release_temp();
        taken.extend(rig.numbers(consumer));
        while let Some(first) = taken.pop_front() {
            assert_eq!(first, number + 1, "seed {seed}");
            number = first;
            rig.consumed(consumer, id, producer, first, first).unwrap();
            taken.extend(rig.numbers(consumer));
        }
        assert_eq!(number, sent, "seed {seed}");
        assert!(rig.is_empty(), "seed {seed}: {:?}", rig.stats());
    }
}
