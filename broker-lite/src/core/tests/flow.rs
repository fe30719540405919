//! A broker without room.

use std::sync::Arc;
use std::time::Duration;

use openwire_client::wire::*;

use super::rig::{Client, Rig};
use crate::core::Rules;
use crate::policy::{Pattern, Policies, Policy};

impl Rig {
    /// Sends a message that wants an answer, which may not come yet.
    fn send_unanswered(&mut self, client: Client, number: i64, persistent: bool) {
        let mut command = Command::from(Arc::new(Self::message(client, number, persistent)));
        command.set_header(number as i32, true);
        self.say(client, command);
    }
}

#[test]
fn a_full_broker_holds_back_sends_and_reads_on() {
    let mut rig = Rig::with_config(false, usize::MAX, 10 * 1024);
    let client = rig.connect();
    (1..=10).for_each(|number| rig.send(client, number));
    for number in 11..=13 {
        rig.send_unanswered(client, number, false);
        assert_eq!(rig.answer(client), None);
    }
    assert_eq!(
        (rig.stats().blocked, rig.stats().held_back, rig.depth()),
        (1, 3, 10)
    );
    assert_eq!(rig.paused, []);
    // The same connection consumes, and that makes room.
    rig.consume(client, 1, 3);
    assert_eq!(rig.numbers(client), [1, 2, 3]);
    rig.say(
        client,
        Box::new(rig.ack(client, 1, MessageAck::STANDARD, client, 1, 2)),
    );
    for _ in 0..2 {
        assert_eq!(rig.answer(client), Some(Ok(())));
    }
    assert_eq!(rig.answer(client), None);
    rig.say(
        client,
        Box::new(rig.ack(client, 1, MessageAck::STANDARD, client, 3, 5)),
    );
    assert_eq!(rig.answer(client), Some(Ok(())));
    rig.say(
        client,
        Box::new(rig.ack(client, 1, MessageAck::STANDARD, client, 6, 8)),
    );
    rig.numbers(client);
    rig.say(
        client,
        Box::new(rig.ack(client, 1, MessageAck::STANDARD, client, 9, 11)),
    );
    assert_eq!(rig.numbers(client), [12, 13]);
    assert_eq!((rig.stats().blocked, rig.stats().held_back), (0, 0));
}

#[test]
fn a_connection_is_not_read_once_much_of_it_is_held_back() {
    let mut rig = Rig::with_config(false, usize::MAX, 10 * 1024);
    let (producer, consumer) = (rig.connect(), rig.connect());
    (1..=10).for_each(|number| rig.send(producer, number));
    (11..=1034).for_each(|number| rig.send_unanswered(producer, number, false));
    assert_eq!(rig.paused, []);
    rig.send_unanswered(producer, 1035, false);
    assert_eq!(rig.paused, [producer.key]);
    rig.consume(consumer, 1, 10);
    let mut first = 1;
    while first <= 1035 {
        let numbers = rig.numbers(consumer);
        assert_eq!(numbers[0], first, "in order");
        let last = numbers[numbers.len() - 1];
        rig.consumed(consumer, 1, producer, first, last).unwrap();
        first = last + 1;
    }
    assert_eq!(
        (rig.paused.len(), rig.stats().held_back, rig.stats().memory_used),
        (0, 0, 0)
    );
}

#[test]
fn a_connection_that_consumes_is_refused_rather_than_not_read() {
    let mut rig = Rig::with_config(false, usize::MAX, 10 * 1024);
    let client = rig.connect();
    rig.consume(client, 1, 1);
    (1..=10).for_each(|number| rig.send(client, number));
    (11..=1034).for_each(|number| rig.send_unanswered(client, number, false));
    rig.send_unanswered(client, 1035, false);
    assert_eq!(
        rig.answer(client),
        Some(Err("ResourceAllocationException".into()))
    );
    assert_eq!(rig.paused, []);
}

fn rig(stored: bool, change: impl FnOnce(&mut Rules)) -> Rig {
    let mut rules = Rules::default();
    change(&mut rules);
    Rig::with(stored, |config| config.rules = Arc::new(rules))
}

#[test]
fn a_full_queue_holds_back_its_own_producers_only() {
    let mut rig = rig(false, |rules| {
        let policy = Policy::new().memory_limit(2048);
        let free = policy.clone().producer_flow_control(false);
        rules.policies = Policies::new()
            .with(Pattern::queue("Q"), policy)
            .with(Pattern::queue("FREE"), free);
    });
    let client = rig.connect();
    (1..=2).for_each(|number| rig.send(client, number));
    rig.send_unanswered(client, 3, false);
    assert_eq!(rig.answer(client), None);
    for (number, name) in [(4, "OTHER"), (5, "FREE"), (6, "FREE"), (7, "FREE")] {
        rig.send_with(client, number, |message| {
            message.destination = Some(Destination::queue(name))
        });
    }
    rig.consume(client, 1, 1);
    rig.say(
        client,
        Box::new(rig.ack(client, 1, MessageAck::STANDARD, client, 1, 1)),
    );
    assert_eq!((rig.answer(client), rig.depth()), (Some(Ok(())), 1));
}

#[test]
fn a_full_store_holds_back_what_is_to_be_stored() {
    let mut rig = rig(true, |rules| rules.store_limit = 2048);
    let client = rig.connect();
    (1..=2).for_each(|number| rig.send(client, number));
    rig.send_unanswered(client, 3, true);
    assert_eq!(rig.answer(client), None);
    rig.send_with(client, 4, |message| {
        message.destination = Some(Destination::queue("OTHER"));
        message.persistent = false;
    });
    assert_eq!(rig.stats().stored_used, 2048);
    rig.consume(client, 1, 10);
    rig.say(
        client,
        Box::new(rig.ack(client, 1, MessageAck::STANDARD, client, 1, 1)),
    );
    assert_eq!(rig.answer(client), Some(Ok(())));
    assert_eq!(rig.numbers(client), [1, 2, 3]);
}

#[test]
fn a_queue_may_have_a_share_of_the_store_only() {
    let mut rig = rig(true, |rules| {
        rules.store_limit = 4096;
        let half = Policy::new().store_usage_high_water_mark(50);
        rules.policies = Policies::new().with(Pattern::queue("Q"), half);
    });
    let client = rig.connect();
    (1..=2).for_each(|number| rig.send(client, number));
    rig.send_unanswered(client, 3, true);
    assert_eq!(rig.answer(client), None);
    for number in 4..=5 {
        rig.send_with(client, number, |message| {
            message.destination = Some(Destination::queue("OTHER"));
        });
    }
    assert_eq!((rig.stats().stored_used, rig.stats().blocked), (4096, 1));
    rig.consume(client, 1, 10);
    let ack = |rig: &mut Rig, first, last| {
        let ack = rig.ack(client, 1, MessageAck::STANDARD, client, first, last);
        rig.say(client, Box::new(ack));
    };
    ack(&mut rig, 1, 2);
    assert_eq!(rig.answer(client), None, "it is half full still");
    rig.consume_from(client, 2, 10, Destination::queue("OTHER"))
        .unwrap();
    let other = rig.ack(client, 2, MessageAck::STANDARD, client, 4, 4);
    rig.say(client, Box::new(other));
    assert_eq!(rig.answer(client), Some(Ok(())));
    assert_eq!(rig.numbers(client).last(), Some(&3));
}

#[test]
fn a_send_without_room_fails_at_once_or_after_a_while_if_so_configured() {
    let mut at_once = rig(true, |rules| {
        rules.store_limit = 1024;
        rules.send_fail_if_no_space = true;
    });
    let client = at_once.connect();
    at_once.send(client, 1);
    let message = Arc::new(Rig::message(client, 2, true));
    assert_eq!(
        at_once.ask(client, message),
        Err("ResourceAllocationException".into())
    );

    let mut later = rig(true, |rules| {
        rules.store_limit = 1024;
        rules.send_fail_if_no_space_after_timeout = Some(Duration::from_secs(3));
    });
    let client = later.connect();
    later.send(client, 1);
    later.send_unanswered(client, 2, true);
    later.now += 2999;
    later.tick();
    assert_eq!(later.answer(client), None);
    later.now += 1;
    later.tick();
    assert_eq!(
        later.answer(client),
        Some(Err("ResourceAllocationException".into()))
    );
    assert_eq!(
        (
            later.stats().held_back,
            later.stats().blocked,
            later.stats().refused
        ),
        (0, 0, 1)
    );
}

#[test]
fn what_a_lost_connection_had_held_back_is_forgotten() {
    let mut rig = Rig::with_config(false, usize::MAX, 1024);
    let (producer, consumer) = (rig.connect(), rig.connect());
    rig.send(producer, 1);
    rig.send_unanswered(producer, 2, false);
    rig.lose(producer);
    assert_eq!((rig.stats().held_back, rig.stats().blocked), (0, 0));
    rig.consume(consumer, 1, 10);
    rig.consumed(consumer, 1, producer, 1, 1).unwrap();
    assert_eq!(rig.numbers(consumer), [1]);
}
