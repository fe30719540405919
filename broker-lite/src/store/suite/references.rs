//! What every store does with messages that are shared or moved, with transactions, and with what is due.

use super::*;
use crate::store::StoredSubscription;

/// What is found at a key, by its producer's number.
fn number_at(subject: &impl Subject, key: MessageKey) -> Option<i64> {
    let found = load(subject.store(), vec![key]).unwrap();
    let message = found[0].1.as_ref()?;
    message.message_id.as_ref().map(|id| id.producer_sequence_id)
}

pub(super) fn a_restart_knows_what_destinations_are<S: Subject>() {
    let subscription = |name: &str, selector: Option<&str>| {
        StoredDestination::Subscription(Arc::new(StoredSubscription {
            client_id: "client".into(),
            name: name.into(),
            destination: "topic://A.>".into(),
            selector: selector.map(Into::into),
            no_local: true,
        }))
    };
    let all = [
        queue(1),
        subscription("first", None),
        subscription("second", Some("a = 1")),
        StoredDestination::Schedule,
        StoredDestination::Retained("topic://t".into()),
    ];
    let subject = S::fresh();
    let ops = all.iter().zip(1..);
    ok(
        &subject,
        ops.map(|(destination, number)| create_as(number, destination.clone()))
            .collect(),
    );
    ok(&subject, vec![put(2, 1, 10)]);
    // The selector changes: what the subscription has to deliver stays.
    ok(&subject, vec![create_as(2, subscription("first", Some("b = 2")))]);
    let (subject, recovered) = subject.restart();
    let (subject, again) = {
        subject.store().close().unwrap();
        subject.restart()
    };
    for recovered in [recovered, again] {
        let found: Vec<_> = recovered
            .destinations
            .iter()
            .map(|found| &found.destination)
            .collect();
        assert_eq!(found[0], &all[0]);
        assert_eq!(found[1], &subscription("first", Some("b = 2")));
        assert!(found[2..].iter().copied().eq(&all[2..]));
        assert_eq!(sequences(&recovered, 2), [1]);
    }
    // It is not made a transaction.
    let refused = append(subject.store(), vec![transaction(1)]);
    assert!(matches!(wait(refused), Err(StoreError::Refused(_))));
}

pub(super) fn a_shared_message_lies_at_both_keys<S: Subject>() {
    let subject = S::fresh();
    let mut counted = message(1, 5, 50);
    counted.redelivery_counter = 2;
    let counted = Op::Put {
        key: key(1, 1),
        message: Arc::new(counted),
    };
    let redelivered = |key, count| Op::Redelivered { key, count };
    ok(&subject, vec![create(1), create(2), create(3), counted]);
    ok(&subject, vec![redelivered(key(1, 1), 9)]);
    ok(
        &subject,
        vec![share(key(2, 2), key(1, 1)), share(key(3, 3), key(2, 2))],
    );
    ok(
        &subject,
        vec![share(key(3, 3), key(3, 3)), redelivered(key(3, 3), 4)],
    );
    assert_eq!(subject.store().stats().messages, 3);
    ok(&subject, vec![remove(1, 1)]);
    let (subject, recovered) = subject.restart();
    assert_eq!(recovered.next_sequence, 4);
    let counters: Vec<_> = recovered
        .destinations
        .iter()
        .flat_map(|found| &found.messages)
        .map(|found| (found.sequence, found.size, found.redelivered))
        .collect();
    assert_eq!(counters, [(2, 1024 + 50, 2), (3, 1024 + 50, 4)]);
    assert_eq!(number_at(&subject, key(1, 1)), None);
    assert_eq!(number_at(&subject, key(2, 2)), Some(5));
    ok(&subject, vec![remove(2, 2)]);
    assert_eq!(number_at(&subject, key(2, 2)), None);
    assert_eq!(number_at(&subject, key(3, 3)), Some(5));
    let gone = Op::RemoveDestination {
        key: DestinationKey(3),
    };
    ok(&subject, vec![gone]);
    assert_eq!(subject.store().stats().messages, 0);
}

pub(super) fn a_moved_message_takes_its_counter_along<S: Subject>() {
    let subject = S::fresh();
    let due = Op::Due {
        key: key(1, 1),
        at: 5,
        times: 1,
    };
    let counter = Op::Redelivered {
        key: key(1, 1),
        count: 3,
    };
    ok(&subject, vec![create(1), create(2), put(1, 1, 10), put(1, 2, 10)]);
    ok(&subject, vec![due, counter]);
    ok(
        &subject,
        vec![move_to(key(1, 1), key(2, 9)), move_to(key(1, 7), key(2, 30))],
    );
    // There and back in one batch, and to itself.
    let back = [
        (key(1, 2), key(2, 2)),
        (key(2, 2), key(1, 2)),
        (key(1, 2), key(1, 2)),
    ];
    ok(&subject, back.map(|(from, to)| move_to(from, to)).to_vec());
    let (subject, recovered) = subject.restart();
    assert_eq!(recovered.next_sequence, 10);
    assert_eq!(
        (sequences(&recovered, 1), sequences(&recovered, 2)),
        (vec![2], vec![9])
    );
    let moved = &recovered.destinations[1];
    assert_eq!((moved.messages[0].redelivered, moved.due.len()), (3, 0));
    assert_eq!(number_at(&subject, key(2, 9)), Some(1));
    assert_eq!(number_at(&subject, key(1, 2)), Some(2));
    assert_eq!(number_at(&subject, key(1, 1)), None);
}

pub(super) fn what_lies_where_a_message_is_moved_or_shared_is_replaced<S: Subject>() {
    let subject = S::fresh();
    let mark = Op::Due {
        key: key(2, 3),
        at: 5,
        times: 1,
    };
    ok(&subject, vec![create(1), create(2)]);
    ok(
        &subject,
        vec![put(1, 1, 10), put(1, 2, 10), put(2, 3, 10), mark, put(2, 4, 10)],
    );
    ok(
        &subject,
        vec![share(key(2, 3), key(1, 1)), move_to(key(1, 2), key(2, 4))],
    );
    let (subject, recovered) = subject.restart();
    assert_eq!(
        (sequences(&recovered, 1), sequences(&recovered, 2)),
        (vec![1], vec![3, 4])
    );
    assert_eq!(recovered.destinations[1].due, []);
    assert_eq!(number_at(&subject, key(2, 3)), Some(1));
    assert_eq!(number_at(&subject, key(2, 4)), Some(2));
    assert_eq!(subject.store().stats().messages, 3);
}

pub(super) fn what_cannot_be_shared_or_moved_is_refused_as_a_whole<S: Subject>() {
    let subject = S::fresh();
    ok(
        &subject,
        vec![create(1), create(2), transaction(3), put(1, 1, 10), put(3, 2, 10)],
    );
    let (prepared, _) = prepare(2, vec![]);
    let (unknown, _) = prepare(9, vec![]);
    let gone = Op::RemoveDestination {
        key: DestinationKey(1),
    };
    let refused = [
        vec![share(key(2, 5), key(1, 9))],
        vec![share(key(9, 5), key(1, 1))],
        vec![share(key(3, 5), key(1, 1))],
        vec![remove(1, 1), share(key(2, 5), key(1, 1))],
        vec![move_to(key(1, 1), key(2, 5)), share(key(2, 6), key(1, 1))],
        vec![gone, share(key(2, 5), key(1, 1))],
        vec![move_to(key(1, 1), key(9, 5))],
        vec![move_to(key(1, 1), key(3, 5))],
        vec![prepared],
        vec![unknown],
    ];
    for mut ops in refused {
        ops.insert(0, put(1, 7, 10));
        let what = format!("{ops:?}");
        let answer = wait(append(subject.store(), ops));
        assert!(matches!(answer, Err(StoreError::Refused(_))), "{what}");
    }
    // What the batch itself does counts.
    ok(
        &subject,
        vec![
            put(1, 8, 10),
            move_to(key(1, 8), key(2, 9)),
            share(key(1, 10), key(2, 9)),
        ],
    );
    let (_subject, recovered) = subject.restart();
    assert_eq!(
        (sequences(&recovered, 1), sequences(&recovered, 2)),
        (vec![1, 10], vec![9])
    );
}

pub(super) fn a_transaction_is_gone_after_a_restart<S: Subject>() {
    let subject = S::fresh();
    ok(
        &subject,
        vec![create(1), transaction(2), put(2, 1, 10), put(2, 2, 10)],
    );
    ok(&subject, vec![share(key(1, 3), key(2, 2))]);
    let (subject, recovered) = subject.restart();
    assert_eq!(recovered.destinations.len(), 1);
    assert_eq!((recovered.next_sequence, recovered.next_destination), (4, 3));
    assert_eq!(number_at(&subject, key(2, 1)), None);
    assert_eq!(number_at(&subject, key(1, 3)), Some(2));
    // It stays gone, whatever is asked of it.
    ok(&subject, vec![move_to(key(2, 1), key(1, 9))]);
    let (prepared, _) = prepare(2, vec![]);
    assert!(matches!(
        wait(append(subject.store(), vec![prepared])),
        Err(StoreError::Refused(_))
    ));
    for _ in 0..2 {
        ok(&subject, vec![create(3), transaction(4), put(4, 4, 10)]);
    }
    let (subject, recovered) = subject.restart();
    assert_eq!((recovered.destinations.len(), recovered.next_sequence), (2, 5));
    assert_eq!(sequences(&recovered, 1), [3]);
    // After an orderly end as well.
    ok(&subject, vec![transaction(5), put(5, 5, 10)]);
    subject.store().close().unwrap();
    let (subject, recovered) = subject.restart();
    assert_eq!((recovered.destinations.len(), recovered.next_sequence), (2, 6));
    assert_eq!(subject.store().stats().messages, 1);
}

pub(super) fn a_prepared_transaction_survives<S: Subject>() {
    let subject = S::fresh();
    ok(
        &subject,
        vec![create(1), put(1, 1, 10), transaction(2), put(2, 2, 10)],
    );
    ok(&subject, vec![prepare(2, vec![]).0]);
    let (again, prepared) = prepare(2, vec![key(1, 1)]);
    ok(&subject, vec![again]);
    let (subject, recovered) = subject.restart();
    assert_eq!(recovered.destinations[0].prepared, None);
    assert_eq!(recovered.destinations[1].prepared, Some(prepared.clone()));
    assert_eq!(sequences(&recovered, 2), [2]);
    subject.store().close().unwrap();
    let (subject, recovered) = subject.restart();
    assert_eq!(recovered.destinations[1].prepared, Some(prepared));
    let gone = Op::RemoveDestination {
        key: DestinationKey(2),
    };
    ok(&subject, vec![move_to(key(2, 2), key(1, 3)), remove(1, 1), gone]);
    let (subject, recovered) = subject.restart();
    assert_eq!(
        (recovered.destinations.len(), sequences(&recovered, 1)),
        (1, vec![3])
    );
    assert_eq!(number_at(&subject, key(1, 3)), Some(2));
}

pub(super) fn what_was_sent_in_a_transaction_counts_once_it_is_committed<S: Subject>() {
    let send = |destination, from, number| Op::Put {
        key: key(destination, number as u64),
        message: Arc::new(message(from, number, 1)),
    };
    let subject = S::fresh();
    ok(
        &subject,
        vec![
            create(1),
            send(1, 1, 1),
            transaction(2),
            transaction(3),
            transaction(4),
        ],
    );
    // One is forgotten, one committed, and one committed in the batch it was sent in.
    ok(&subject, vec![send(2, 1, 5), send(3, 2, 6), send(3, 3, 7)]);
    ok(
        &subject,
        vec![move_to(key(3, 6), key(1, 6)), share(key(1, 8), key(3, 7))],
    );
    ok(&subject, vec![send(4, 4, 9), move_to(key(4, 9), key(1, 9))]);
    let expected = [(producer(1), 1), (producer(2), 6), (producer(4), 9)];
    let (subject, recovered) = subject.restart();
    assert_eq!(recovered.producers, expected);
    ok(&subject, vec![remove(1, 6), remove(1, 9)]);
    let (_subject, recovered) = subject.restart();
    assert_eq!(recovered.producers, expected);
}

pub(super) fn a_restart_knows_what_is_due<S: Subject>() {
    let due = |sequence, at, times| Op::Due {
        key: key(1, sequence),
        at,
        times,
    };
    let subject = S::fresh();
    ok(
        &subject,
        vec![
            create_as(1, StoredDestination::Schedule),
            put(1, 1, 10),
            put(1, 2, 10),
        ],
    );
    ok(
        &subject,
        vec![put(1, 3, 10), put(1, 4, 10), due(3, -4, 0), due(9, 1, 1)],
    );
    ok(
        &subject,
        vec![due(1, 10, 0), due(1, 20, 1), due(4, 30, 1), remove(1, 4)],
    );
    // A message that is put again is another one.
    ok(&subject, vec![due(2, 40, 0), put(1, 2, 20)]);
    let expected = [(1, 20, 1), (3, -4, 0)];
    let (subject, recovered) = subject.restart();
    assert_eq!(recovered.destinations[0].due, expected);
    assert_eq!(sequences(&recovered, 1), [1, 2, 3]);
    subject.store().close().unwrap();
    let (_subject, recovered) = subject.restart();
    assert_eq!(recovered.destinations[0].due, expected);
}
