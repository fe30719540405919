//! Branches of distributed transactions.

use std::sync::Arc;

use openwire_client::wire::*;

use super::rig::{Client, QUEUE, Rig};

const BEGIN: i8 = TransactionInfo::BEGIN;
const PREPARE: i8 = TransactionInfo::PREPARE;
const ONE_PHASE: i8 = TransactionInfo::COMMIT_ONE_PHASE;
const TWO_PHASE: i8 = TransactionInfo::COMMIT_TWO_PHASE;
const ROLLBACK: i8 = TransactionInfo::ROLLBACK;
const FORGET: i8 = TransactionInfo::FORGET;
const END: i8 = TransactionInfo::END;

const NOTA: Result<i32, i32> = Err(-4);
const PROTO: Result<i32, i32> = Err(-6);

fn xid(number: u8) -> TransactionId {
    TransactionId::Xa(XaTransactionId {
        format_id: 4711,
        global_transaction_id: Some(vec![b'g', number].into()),
        branch_qualifier: Some(vec![1, 2, 3].into()),
    })
}

fn info(number: u8, step: i8) -> TransactionInfo {
    TransactionInfo {
        transaction_id: Some(xid(number)),
        step,
        ..TransactionInfo::default()
    }
}

/// What an answer says: the number of a prepare, 0, or the code of an XAException.
fn outcome(answer: Command) -> Result<i32, i32> {
    match answer {
        Command::IntegerResponse(response) => Ok(response.result),
        Command::ExceptionResponse(response) => {
            let exception = response.exception.unwrap();
            assert_eq!(exception.simple_class(), "XAException", "{exception:?}");
            let text = exception.message.unwrap();
            let (_, code) = text.rsplit_once("xaErrorCode:").unwrap();
            Err(code.parse().unwrap())
        }
        _ => Ok(0),
    }
}

pub(super) fn step(rig: &mut Rig, client: Client, number: u8, step: i8) -> Result<i32, i32> {
    rig.request(client, info(number, step));
    outcome(rig.raw_answer(client).expect("an answer"))
}

pub(super) fn in_doubt(rig: &mut Rig, client: Client) -> Vec<TransactionId> {
    let recover = TransactionInfo {
        step: TransactionInfo::RECOVER,
        ..TransactionInfo::default()
    };
    rig.request(client, recover);
    let Some(Command::DataArrayResponse(response)) = rig.raw_answer(client) else {
        panic!("no list of transactions");
    };
    let found = response.data.unwrap_or_default().into_iter();
    found
        .map(|data| match *data.unwrap() {
            Command::TransactionId(id) => id,
            other => panic!("{other:?}"),
        })
        .collect()
}

pub(super) fn send_in(rig: &mut Rig, client: Client, branch: u8, message: Message) {
    let message = Message {
        transaction_id: Some(xid(branch)),
        ..message
    };
    rig.say(client, Arc::new(message));
}

/// Begins a branch and sends a message with this number in it.
fn begin(rig: &mut Rig, client: Client, branch: u8, number: i64) {
    assert_eq!(step(rig, client, branch, BEGIN), Ok(0));
    send_in(rig, client, branch, Rig::message(client, number, true));
    assert_eq!(step(rig, client, branch, END), Ok(0));
}

pub(super) fn acknowledge(rig: &mut Rig, client: Client, branch: u8, sender: Client, from: i64, to: i64) {
    let ack = MessageAck {
        transaction_id: Some(xid(branch)),
        ..rig.ack(client, 1, MessageAck::STANDARD, sender, from, to)
    };
    rig.ask(client, Box::new(ack)).unwrap();
}

/// A consumer that has 1, 2 and 3, of which it has acknowledged 1 and 2 in a branch that has sent 10.
fn holding(rig: &mut Rig) -> (Client, Client) {
    let (sender, client) = (rig.connect(), rig.connect());
    (1..=3).for_each(|number| rig.send(sender, number));
    rig.consume(client, 1, 10);
    assert_eq!(rig.numbers(client), [1, 2, 3]);
    begin(rig, client, 1, 10);
    acknowledge(rig, client, 1, sender, 1, 2);
    (sender, client)
}

fn assert_nothing_left(rig: &Rig) {
    let stats = rig.stats();
    assert_eq!(
        (rig.depth(), rig.stored(), rig.resident(), stats.memory_used),
        (0, 0, 0, 0)
    );
}

#[test]
fn what_is_prepared_is_seen_after_the_commit_by_whoever() {
    for stored in [false, true] {
        let mut rig = Rig::new(stored);
        let (client, other) = (rig.connect(), rig.connect());
        rig.consume(other, 1, 10);
        begin(&mut rig, client, 1, 1);
        assert_eq!(in_doubt(&mut rig, other), []);
        assert_eq!(step(&mut rig, client, 1, PREPARE), Ok(0));
        assert_eq!(step(&mut rig, client, 1, PREPARE), Ok(0), "asked again");
        assert_eq!(rig.numbers(other), [0i64; 0]);
        rig.lose(client);
        assert_eq!(in_doubt(&mut rig, other), [xid(1)]);
        assert_eq!(step(&mut rig, other, 1, TWO_PHASE), Ok(0));
        assert_eq!(rig.numbers(other), [1]);
        assert_eq!(in_doubt(&mut rig, other), []);
        assert_eq!(step(&mut rig, other, 1, TWO_PHASE), Ok(0), "sent again");
        rig.consumed(other, 1, client, 1, 1).unwrap();
        assert_nothing_left(&rig);
    }
}

#[test]
fn steps_have_an_order() {
    let mut rig = Rig::new(true);
    let (client, other) = (rig.connect(), rig.connect());
    for unknown in [PREPARE, ONE_PHASE, TWO_PHASE, ROLLBACK, FORGET] {
        assert_eq!(step(&mut rig, client, 9, unknown), NOTA);
    }
    begin(&mut rig, client, 1, 1);
    assert_eq!(step(&mut rig, client, 1, TWO_PHASE), PROTO);
    // Another connection joins, and ends: what it did stays.
    begin(&mut rig, other, 1, 1);
    rig.lose(other);
    assert_eq!(step(&mut rig, client, 1, ONE_PHASE), Ok(0));
    assert_eq!(rig.depth(), 2);
    // Nothing was done in it: it is over with the prepare.
    assert_eq!(step(&mut rig, client, 2, BEGIN), Ok(0));
    assert_eq!(step(&mut rig, client, 2, PREPARE), Ok(3));
    assert_eq!(step(&mut rig, client, 2, TWO_PHASE), NOTA);
    for end in [ROLLBACK, FORGET] {
        begin(&mut rig, client, 3, 3);
        assert_eq!(step(&mut rig, client, 3, PREPARE), Ok(0));
        let late = Message {
            transaction_id: Some(xid(3)),
            ..Rig::message(client, 4, true)
        };
        assert_eq!(rig.ask(client, Arc::new(late)), Err("XAException".into()));
        assert_eq!(step(&mut rig, client, 3, end), Ok(0));
        assert_eq!(step(&mut rig, client, 3, end), NOTA);
    }
    // Prepared, and committed as if it were not: as in ActiveMQ.
    begin(&mut rig, client, 4, 5);
    assert_eq!(step(&mut rig, client, 4, PREPARE), Ok(0));
    assert_eq!(step(&mut rig, client, 4, ONE_PHASE), Ok(0));
    assert_eq!((rig.depth(), rig.stored()), (3, 3));
}

#[test]
fn a_lost_connection_rolls_back_what_is_not_prepared() {
    for stored in [false, true] {
        let mut rig = Rig::new(stored);
        let (_, client) = holding(&mut rig);
        rig.lose(client);
        let other = rig.connect();
        assert_eq!(step(&mut rig, other, 1, TWO_PHASE), NOTA);
        rig.consume(other, 1, 10);
        assert_eq!(rig.dispatched(other), [(1, 1, 1), (1, 2, 1), (1, 3, 1)]);
    }
}

#[test]
fn what_a_prepared_branch_acknowledged_is_with_nobody() {
    for (stored, commit) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut rig = Rig::new(stored);
        let (sender, client) = holding(&mut rig);
        assert_eq!(step(&mut rig, client, 1, PREPARE), Ok(0));
        rig.lose(client);
        let other = rig.connect();
        rig.consume(other, 1, 10);
        assert_eq!(rig.dispatched(other), [(1, 3, 1)]);
        let end = if commit { TWO_PHASE } else { ROLLBACK };
        assert_eq!(step(&mut rig, other, 1, end), Ok(0));
        match commit {
            true => {
                assert_eq!(rig.numbers(other), [10]);
                rig.consumed(other, 1, sender, 3, 3).unwrap();
                rig.consumed(other, 1, client, 10, 10).unwrap();
            }
            false => {
                assert_eq!(rig.dispatched(other), [(1, 1, 1), (1, 2, 1)]);
                rig.consumed(other, 1, sender, 3, 3).unwrap();
                rig.consumed(other, 1, sender, 1, 2).unwrap();
            }
        }
        assert_nothing_left(&rig);
    }
}

#[test]
fn a_restart_keeps_what_is_prepared() {
    for (clean, commit) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut rig = Rig::new(true);
        let (sender, client) = holding(&mut rig);
        assert_eq!(step(&mut rig, client, 1, PREPARE), Ok(0));
        begin(&mut rig, client, 2, 20);
        if clean {
            rig.lose(client);
        }
        rig = rig.restart(clean).restart(clean);
        let other = rig.connect();
        assert_eq!(in_doubt(&mut rig, other), [xid(1)]);
        assert_eq!((rig.depth(), rig.stored()), (1, 4));
        rig.consume(other, 1, 10);
        assert_eq!(rig.dispatched(other), [(1, 3, 1)]);
        let end = if commit { TWO_PHASE } else { ROLLBACK };
        assert_eq!(step(&mut rig, other, 1, end), Ok(0));
        rig.consumed(other, 1, sender, 3, 3).unwrap();
        match commit {
            true => {
                let sent = rig
                    .dispatches(other)
                    .pop()
                    .and_then(|dispatch| dispatch.message)
                    .unwrap();
                let id = sent.message_id.as_ref().unwrap();
                assert_eq!(id.producer_sequence_id, 10);
                // The client names what it saw by its place on the queue.
                rig.stop_consuming(other, 1, id.broker_sequence_id);
                rig.consume(other, 1, 10);
                assert_eq!(rig.dispatched(other), [(1, 10, 1)]);
                rig.consumed(other, 1, client, 10, 10).unwrap();
            }
            false => {
                assert_eq!(rig.dispatched(other), [(1, 1, 1), (1, 2, 1)]);
                rig.consumed(other, 1, sender, 1, 2).unwrap();
            }
        }
        assert_eq!(in_doubt(&mut rig, other), []);
        assert_nothing_left(&rig);
        let rig = rig.restart(clean);
        assert_eq!((rig.depth(), rig.stored()), (0, 0));
    }
}

#[test]
fn after_a_restart_a_commit_reaches_topics_and_lists_of_destinations() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    let subscribe = |client: Client| ConsumerInfo {
        consumer_id: Some(client.consumer(1)),
        destination: Some(Destination::topic("T")),
        subscription_name: Some("sub".into()),
        prefetch_size: 10,
        ..ConsumerInfo::default()
    };
    rig.ask(client, Box::new(subscribe(client))).unwrap();
    assert_eq!(step(&mut rig, client, 1, BEGIN), Ok(0));
    for (number, to) in [
        (1, Destination::topic("T")),
        (2, Destination::queue("Q,topic://T")),
        (3, Destination::queue(QUEUE)),
    ] {
        let message = Message {
            destination: Some(to),
            ..Rig::message(client, number, true)
        };
        send_in(&mut rig, client, 1, message);
    }
    assert_eq!(step(&mut rig, client, 1, PREPARE), Ok(0));
    let mut rig = rig.restart(false);
    let client = rig.reconnect(client);
    rig.ask(client, Box::new(subscribe(client))).unwrap();
    rig.slow_store = true;
    rig.request(client, info(1, TWO_PHASE));
    assert_eq!(rig.raw_answer(client), None, "it has to be read first");
    assert_eq!(step(&mut rig, client, 1, ROLLBACK), PROTO);
    rig.release();
    assert_eq!(rig.raw_answer(client).map(outcome), Some(Ok(0)));
    assert_eq!(rig.numbers(client), [1, 2]);
    rig.consume(client, 2, 10);
    assert_eq!(rig.numbers(client), [2, 3]);
    assert_eq!(rig.stats().memory_used, 0);
}

#[test]
fn a_prepare_that_the_store_refuses_leaves_the_branch_open() {
    let mut rig = Rig::new(true);
    let (sender, client) = holding(&mut rig);
    rig.refusing = true;
    assert_eq!(step(&mut rig, client, 1, PREPARE), Err(-3));
    rig.make_space();
    assert_eq!(in_doubt(&mut rig, client), []);
    send_in(&mut rig, client, 1, Rig::message(client, 11, true));
    assert_eq!(step(&mut rig, client, 1, PREPARE), Ok(0));
    assert_eq!(step(&mut rig, client, 1, TWO_PHASE), Ok(0));
    assert_eq!(rig.numbers(client), [10, 11]);
    rig.consumed(client, 1, sender, 3, 3).unwrap();
    rig.consumed(client, 1, client, 10, 11).unwrap();
    assert_nothing_left(&rig);
    // Its connection ends before the answer.
    begin(&mut rig, client, 2, 12);
    (rig.slow_store, rig.refusing) = (true, true);
    rig.request(client, info(2, PREPARE));
    rig.lose(client);
    rig.release();
    rig.make_space();
    let other = rig.connect();
    assert_eq!(step(&mut rig, other, 2, ROLLBACK), NOTA);
    assert_nothing_left(&rig);
}

#[test]
fn a_branch_on_its_way_into_the_store_outlives_its_connection() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    begin(&mut rig, client, 1, 1);
    rig.slow_store = true;
    rig.request(client, info(1, PREPARE));
    assert_eq!(rig.raw_answer(client), None);
    rig.lose(client);
    rig.release();
    let other = rig.connect();
    assert_eq!(in_doubt(&mut rig, other), [xid(1)]);
    assert_eq!(step(&mut rig, other, 1, ROLLBACK), Ok(0));
    assert_nothing_left(&rig);
}

#[test]
fn what_is_prepared_stays_so_until_the_store_takes_its_end() {
    for restarted in [false, true] {
        let mut rig = Rig::new(true);
        let (sender, mut client) = holding(&mut rig);
        assert_eq!(step(&mut rig, client, 1, PREPARE), Ok(0));
        if restarted {
            rig = rig.restart(false);
            client = rig.reconnect(client);
        }
        rig.refusing = true;
        assert_eq!(step(&mut rig, client, 1, TWO_PHASE), Err(4));
        assert_eq!(step(&mut rig, client, 1, ROLLBACK), Err(-7));
        rig.make_space();
        assert_eq!(in_doubt(&mut rig, client), [xid(1)]);
        let other = rig.connect();
        rig.consume(other, 1, 10);
        let waits = if restarted { vec![(1, 3, 1)] } else { vec![] };
        assert_eq!(rig.dispatched(other), waits);
        assert_eq!(step(&mut rig, client, 1, TWO_PHASE), Ok(0));
        assert_eq!(in_doubt(&mut rig, client), []);
        let holder = if restarted { other } else { client };
        rig.consumed(holder, 1, sender, 3, 3).unwrap();
        assert_eq!([rig.numbers(client), rig.numbers(other)].concat(), [10]);
        rig.lose(client);
        rig.lose(other);
        let last = rig.connect();
        rig.consume(last, 1, 10);
        rig.consumed(last, 1, client, 10, 10).unwrap();
        assert_nothing_left(&rig);
    }
}

#[test]
fn a_refused_commit_in_one_phase_rolls_back() {
    let mut rig = Rig::new(true);
    let (sender, client) = holding(&mut rig);
    rig.refusing = true;
    assert_eq!(step(&mut rig, client, 1, ONE_PHASE), Err(101));
    rig.make_space();
    assert_eq!(step(&mut rig, client, 1, ONE_PHASE), NOTA);
    // Its client delivers again what it has.
    assert_eq!(rig.numbers(client), [0i64; 0]);
    rig.consumed(client, 1, sender, 1, 3).unwrap();
    assert_nothing_left(&rig);
}

#[test]
fn a_rolled_back_branch_leaves_its_messages_with_a_consumer_that_is_there() {
    for prepare in [false, true] {
        let mut rig = Rig::new(true);
        let (sender, client) = holding(&mut rig);
        if prepare {
            assert_eq!(step(&mut rig, client, 1, PREPARE), Ok(0));
        }
        assert_eq!(step(&mut rig, client, 1, ROLLBACK), Ok(0));
        assert_eq!(rig.numbers(client), [0i64; 0]);
        rig.consumed(client, 1, sender, 1, 3).unwrap();
        assert_nothing_left(&rig);
    }
}

#[test]
fn a_client_that_comes_back_repeats_a_branch_without_effect() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    begin(&mut rig, client, 1, 1);
    assert_eq!(step(&mut rig, client, 1, PREPARE), Ok(0));
    // The broker knows it as prepared.
    let client = rig.reconnect(client);
    begin(&mut rig, client, 1, 1);
    assert_eq!(step(&mut rig, client, 1, PREPARE), Ok(0));
    assert_eq!(step(&mut rig, client, 1, TWO_PHASE), Ok(0));
    // And then as committed, also after a restart.
    for clean in [true, false] {
        rig = rig.restart(clean);
        let client = rig.reconnect(client);
        begin(&mut rig, client, 1, 1);
        assert_eq!(step(&mut rig, client, 1, PREPARE), Ok(0));
        assert_eq!(in_doubt(&mut rig, client), []);
        assert_eq!(step(&mut rig, client, 1, TWO_PHASE), Ok(0));
        assert_eq!(step(&mut rig, client, 1, TWO_PHASE), Ok(0));
        assert_eq!(rig.depth(), 1);
        rig.lose(client);
    }
    let client = rig.connect();
    assert_eq!(step(&mut rig, client, 1, ROLLBACK), NOTA);
}

#[test]
fn what_was_refused_in_a_branch_rolls_it_back() {
    let mut rig = Rig::new(true);
    let client = rig.connect();
    for end in [PREPARE, ONE_PHASE] {
        begin(&mut rig, client, 1, 1);
        let nowhere = Message {
            destination: None,
            ..Rig::message(client, 2, true)
        };
        send_in(&mut rig, client, 1, nowhere);
        assert_eq!(rig.errors(client), ["InvalidDestinationException"]);
        assert_eq!(step(&mut rig, client, 1, end), Err(100));
        assert_eq!(step(&mut rig, client, 1, ROLLBACK), NOTA);
    }
    assert_nothing_left(&rig);
}

#[test]
fn a_queue_that_owes_messages_to_a_prepared_branch_is_not_removed() {
    let mut rig = Rig::new(true);
    let (_, client) = holding(&mut rig);
    assert_eq!(step(&mut rig, client, 1, PREPARE), Ok(0));
    rig.lose(client);
    let mut rig = rig.restart(false);
    let client = rig.connect();
    let remove = || DestinationInfo {
        destination: Some(Destination::queue(QUEUE)),
        operation_type: DestinationInfo::REMOVE,
        ..DestinationInfo::default()
    };
    assert_eq!(rig.ask(client, remove()), Err("JMSException".into()));
    assert_eq!(step(&mut rig, client, 1, ROLLBACK), Ok(0));
    rig.ask(client, remove()).unwrap();
    assert_nothing_left(&rig);
}

#[test]
fn a_commit_asked_for_again_gets_the_answer_of_the_first() {
    for refused in [false, true] {
        for prepare in [false, true] {
            let mut rig = Rig::new(true);
            let (client, other) = (rig.connect(), rig.connect());
            begin(&mut rig, client, 1, 1);
            let (end, code) = match prepare {
                true => (TWO_PHASE, 4),
                false => (ONE_PHASE, 101),
            };
            if prepare {
                assert_eq!(step(&mut rig, client, 1, PREPARE), Ok(0));
            }
            (rig.slow_store, rig.refusing) = (true, refused);
            rig.request(client, info(1, end));
            rig.request(other, info(1, end));
            assert_eq!((rig.raw_answer(client), rig.raw_answer(other)), (None, None));
            rig.refusing = false;
            rig.release();
            let expected = if refused { Err(code) } else { Ok(0) };
            for asking in [client, other] {
                assert_eq!(rig.raw_answer(asking).map(outcome), Some(expected));
            }
            assert_eq!(rig.depth(), usize::from(!refused));
        }
    }
}
