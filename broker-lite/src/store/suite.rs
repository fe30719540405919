//! What every store does, and what tests of stores share.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use openwire_client::wire::{Destination, Message, MessageId, ProducerId};
use tempfile::TempDir;

use super::journal::{Journal, JournalOptions};
use super::memory::MemoryStore;
use super::{
    Batch, Committed, DestinationKey, MessageKey, Op, Prepared, Recovered, Store, StoreError,
    StoredDestination, StoredSubscription, StoredXid, accounting_size,
};

/// Longer than anything here takes.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// What bodies are cut from, so that those of different messages differ.
static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    (0..1u32 << 21)
        .map(|at| (at.wrapping_mul(at) >> 7) as u8)
        .collect()
});

pub(super) type Answer = Receiver<Result<(), StoreError>>;
pub(super) type Found = Vec<(MessageKey, Option<Arc<Message>>)>;

pub(super) fn key(destination: u32, sequence: u64) -> MessageKey {
    MessageKey {
        destination: DestinationKey(destination),
        sequence,
    }
}

pub(super) fn producer(value: i64) -> ProducerId {
    ProducerId {
        connection_id: Some("ID:host-1-2-3:4".into()),
        value,
        session_id: 1,
    }
}

pub(super) fn create(destination: u32) -> Op {
    Op::CreateDestination {
        key: DestinationKey(destination),
        destination: queue(destination),
    }
}

pub(super) fn queue(destination: u32) -> StoredDestination {
    StoredDestination::Queue(format!("queue://q{destination}").into())
}

pub(super) fn put(destination: u32, sequence: u64, size: usize) -> Op {
    Op::Put {
        key: key(destination, sequence),
        message: Arc::new(message(1, sequence as i64, size)),
    }
}

pub(super) fn remove(destination: u32, sequence: u64) -> Op {
    Op::Remove {
        key: key(destination, sequence),
    }
}

pub(super) fn message(from: i64, number: i64, size: usize) -> Message {
    Message {
        producer_id: Some(producer(from)),
        destination: Some(Destination::queue("q")),
        message_id: Some(MessageId {
            producer_id: Some(producer(from)),
            producer_sequence_id: number,
            ..MessageId::default()
        }),
        content: Some(PATTERN.slice(number as usize % 65_536..).slice(..size)),
        ..Message::default()
    }
}

pub(super) fn committed(connection: i64, transaction: i64, at: i64) -> Committed {
    Committed {
        connection: format!("ID:host-1-2-3:{connection}").into(),
        transaction,
        at,
    }
}

/// Appends a batch; the answer comes through the channel.
pub(super) fn append(store: &dyn Store, ops: Vec<Op>) -> Answer {
    let (answer, result) = channel();
    let done = move |result| drop(answer.send(result));
    store.append(Batch { ops }, Box::new(done));
    result
}

pub(super) fn wait(answer: Answer) -> Result<(), StoreError> {
    answer.recv_timeout(DEADLINE).expect("every batch is answered")
}

pub(super) fn load(store: &dyn Store, keys: Vec<MessageKey>) -> Result<Found, StoreError> {
    let (answer, found) = channel();
    store.load(keys, Box::new(move |result| drop(answer.send(result))));
    found.recv_timeout(DEADLINE).expect("every load is answered")
}

/// The sequences of the messages of a destination.
pub(super) fn sequences(recovered: &Recovered, destination: u32) -> Vec<u64> {
    let found = recovered
        .destinations
        .iter()
        .find(|found| found.key.0 == destination);
    found
        .expect("the destination is there")
        .messages
        .iter()
        .map(|message| message.sequence)
        .collect()
}

/// A store to test.
trait Subject: Sized {
    fn fresh() -> Self;

    fn store(&self) -> &dyn Store;

    /// What the next start finds.
    fn restart(self) -> (Self, Recovered);
}

impl Subject for MemoryStore {
    fn fresh() -> Self {
        Self::new()
    }

    fn store(&self) -> &dyn Store {
        self
    }

    fn restart(self) -> (Self, Recovered) {
        self.reopen()
    }
}

/// A journal in a directory of its own.
struct OnDisk {
    journal: Journal,
    dir: TempDir,
}

impl OnDisk {
    fn open(dir: TempDir) -> (Self, Recovered) {
        let options = JournalOptions {
            segment_size: 64 * 1024,
            ..JournalOptions::default()
        };
        let (journal, recovered) = Journal::open(dir.path(), options).unwrap();
        (Self { journal, dir }, recovered)
    }
}

impl Subject for OnDisk {
    fn fresh() -> Self {
        Self::open(tempfile::tempdir().unwrap()).0
    }

    fn store(&self) -> &dyn Store {
        &self.journal
    }

    fn restart(self) -> (Self, Recovered) {
        let Self { journal, dir } = self;
        drop(journal);
        Self::open(dir)
    }
}

macro_rules! suite {
    ($($test:ident)*) => {
        mod memory {
            $(#[test] fn $test() { super::$test::<super::MemoryStore>(); })*
        }
        mod journal {
            $(#[test] fn $test() { super::$test::<super::OnDisk>(); })*
        }
    };
}

suite! {
    what_is_put_can_be_loaded
    what_is_removed_is_gone
    a_restart_finds_what_was_stored
    a_restart_tells_whether_the_store_was_closed
    a_restart_knows_the_producers_seen_last
    a_restart_knows_what_was_committed_and_which_store_it_is
    a_removed_destination_takes_its_messages_along
    a_restart_knows_what_destinations_are
    a_shared_message_lies_at_both_keys
    a_moved_message_takes_its_counter_along
    what_lies_where_a_message_is_moved_or_shared_is_replaced
    what_cannot_be_shared_or_moved_is_refused_as_a_whole
    a_transaction_is_gone_after_a_restart
    a_prepared_transaction_survives
    what_was_sent_in_a_transaction_counts_once_it_is_committed
    a_restart_knows_what_is_due
    a_batch_for_an_unknown_destination_is_refused_as_a_whole
    a_closed_store_takes_nothing
    callbacks_may_use_the_store
    statistics_count
}

fn ok(subject: &impl Subject, ops: Vec<Op>) {
    wait(append(subject.store(), ops)).unwrap();
}

fn what_is_put_can_be_loaded<S: Subject>() {
    let subject = S::fresh();
    // Not waited for: a load sees what was appended before it.
    let first = append(
        subject.store(),
        vec![create(1), put(1, 1, 10), put(1, 2, 100_000)],
    );
    let keys = vec![key(1, 2), key(1, 7), key(1, 1), key(9, 1), key(1, 2)];
    let found = load(subject.store(), keys.clone()).unwrap();
    wait(first).unwrap();
    assert!(found.iter().map(|(key, _)| *key).eq(keys));
    let large = Some(Arc::new(message(1, 2, 100_000)));
    assert_eq!(found[0].1, large);
    assert_eq!(found[1].1, None);
    assert_eq!(found[2].1, Some(Arc::new(message(1, 1, 10))));
    assert_eq!(found[3].1, None);
    assert_eq!(found[4].1, large);
    assert!(load(subject.store(), Vec::new()).unwrap().is_empty());
}

fn what_is_removed_is_gone<S: Subject>() {
    let subject = S::fresh();
    ok(&subject, vec![create(1), put(1, 1, 10), put(1, 2, 10)]);
    append(subject.store(), vec![remove(1, 1), remove(1, 9), remove(3, 1)]);
    let found = load(subject.store(), vec![key(1, 1), key(1, 2)]).unwrap();
    assert!(found[0].1.is_none() && found[1].1.is_some());
}

fn a_restart_finds_what_was_stored<S: Subject>() {
    let subject = S::fresh();
    let mut moved = message(1, 3, 30);
    moved.redelivery_counter = 4;
    let moved = Arc::new(moved);
    ok(
        &subject,
        vec![
            create(1),
            create(5),
            put(1, 1, 10),
            put(5, 2, 20),
            Op::Put {
                key: key(1, 3),
                message: moved.clone(),
            },
        ],
    );
    ok(
        &subject,
        vec![
            remove(1, 1),
            Op::Redelivered {
                key: key(5, 2),
                count: 2,
            },
            Op::Dispatched {
                destination: DestinationKey(5),
                sequence: 2,
            },
            Op::Dispatched {
                destination: DestinationKey(5),
                sequence: 1,
            },
        ],
    );
    let (subject, recovered) = subject.restart();
    assert_eq!(recovered.next_sequence, 4);
    assert_eq!(recovered.next_destination, 6);
    let [first, second] = &recovered.destinations[..] else {
        panic!("{recovered:?}");
    };
    assert_eq!(
        (first.key.0, &first.destination, first.dispatched),
        (1, &queue(1), 0)
    );
    assert_eq!(
        (second.key.0, &second.destination, second.dispatched),
        (5, &queue(5), 2)
    );
    let counters = |found: &super::RecoveredDestination| -> Vec<(u64, u32, u32)> {
        let messages = found.messages.iter();
        messages
            .map(|one| (one.sequence, one.size, one.redelivered))
            .collect()
    };
    assert_eq!(counters(first), [(3, accounting_size(&moved), 4)]);
    assert_eq!(counters(second), [(2, 1024 + 20, 2)]);
    let found = load(subject.store(), vec![key(1, 3)]).unwrap();
    assert_eq!(found[0].1, Some(moved));
}

fn a_restart_tells_whether_the_store_was_closed<S: Subject>() {
    let subject = S::fresh();
    ok(&subject, vec![create(1), put(1, 1, 10)]);
    let (subject, recovered) = subject.restart();
    assert!(!recovered.clean);
    subject.store().close().unwrap();
    let (subject, recovered) = subject.restart();
    assert!(recovered.clean);
    assert_eq!(sequences(&recovered, 1), [1]);
    let (_subject, recovered) = subject.restart();
    assert!(!recovered.clean);
}

fn a_restart_knows_the_producers_seen_last<S: Subject>() {
    let subject = S::fresh();
    ok(&subject, vec![create(1)]);
    for from in [1, 2, 3, 1] {
        let op = Op::Put {
            key: key(1, from as u64),
            message: Arc::new(message(from, from * 10, 1)),
        };
        ok(&subject, vec![op]);
    }
    ok(&subject, vec![remove(1, 3)]);
    let (subject, recovered) = subject.restart();
    let expected = [(producer(2), 20), (producer(3), 30), (producer(1), 10)];
    assert_eq!(recovered.producers, expected);
    let (_subject, recovered) = subject.restart();
    assert_eq!(recovered.producers, expected);
}

fn a_restart_knows_what_was_committed_and_which_store_it_is<S: Subject>() {
    let (subject, recovered) = S::fresh().restart();
    let identity = recovered.identity;
    assert!(!identity.is_empty());
    assert_eq!((recovered.committed, recovered.forgotten), (vec![], 0));
    let commit = |connection, transaction, at, forgotten| Op::Committed {
        outcome: committed(connection, transaction, at),
        forgotten,
    };
    ok(&subject, vec![create(1), put(1, 1, 1), commit(1, 1, 10, 0)]);
    ok(&subject, vec![commit(2, 1, 20, 0)]);
    ok(&subject, vec![commit(1, 2, 20, 10), commit(1, 3, 30, 0)]);
    let refused = append(subject.store(), vec![put(9, 2, 1), commit(1, 4, 40, 30)]);
    assert!(matches!(wait(refused), Err(StoreError::Refused(_))));
    let expected = [committed(2, 1, 20), committed(1, 2, 20), committed(1, 3, 30)];
    let (subject, recovered) = subject.restart();
    assert_eq!(recovered.committed, expected);
    assert_eq!((recovered.forgotten, &recovered.identity), (10, &identity));
    subject.store().close().unwrap();
    let (_subject, mut recovered) = subject.restart();
    // Of those at the same time none is the first.
    recovered
        .committed
        .sort_by_key(|outcome| (outcome.at, outcome.transaction));
    assert_eq!(recovered.committed, expected);
    assert_eq!((recovered.forgotten, &recovered.identity), (10, &identity));
}

fn a_removed_destination_takes_its_messages_along<S: Subject>() {
    let subject = S::fresh();
    ok(&subject, vec![create(1), create(2), put(1, 1, 1), put(2, 2, 1)]);
    let gone = Op::RemoveDestination {
        key: DestinationKey(1),
    };
    ok(&subject, vec![gone]);
    let found = load(subject.store(), vec![key(1, 1), key(2, 2)]).unwrap();
    assert!(found[0].1.is_none() && found[1].1.is_some());
    let (_subject, recovered) = subject.restart();
    assert_eq!(recovered.destinations.len(), 1);
    assert_eq!(sequences(&recovered, 2), [2]);
}

fn create_as(number: u32, destination: StoredDestination) -> Op {
    Op::CreateDestination {
        key: DestinationKey(number),
        destination,
    }
}

pub(super) fn transaction(number: u32) -> Op {
    create_as(number, StoredDestination::Transaction)
}

pub(super) fn share(key: MessageKey, of: MessageKey) -> Op {
    Op::Share { key, of }
}

pub(super) fn move_to(from: MessageKey, to: MessageKey) -> Op {
    Op::Move { from, to }
}

pub(super) fn prepare(number: u32, acknowledged: Vec<MessageKey>) -> (Op, Arc<Prepared>) {
    let prepared = Arc::new(Prepared {
        xid: StoredXid {
            format_id: 7,
            global: Bytes::from_static(b"global"),
            branch: Bytes::from_static(b"branch"),
        },
        acknowledged,
    });
    let op = Op::Prepare {
        destination: DestinationKey(number),
        prepared: prepared.clone(),
    };
    (op, prepared)
}

/// What is found at a key, by its producer's number.
fn number_at(subject: &impl Subject, key: MessageKey) -> Option<i64> {
    let found = load(subject.store(), vec![key]).unwrap();
    let message = found[0].1.as_ref()?;
    message.message_id.as_ref().map(|id| id.producer_sequence_id)
}

fn a_restart_knows_what_destinations_are<S: Subject>() {
    let subscription = |selector: Option<&str>| {
        StoredDestination::Subscription(Arc::new(StoredSubscription {
            client_id: "client".into(),
            name: "name".into(),
            destination: "topic://A.>".into(),
            selector: selector.map(Into::into),
            no_local: true,
        }))
    };
    let all = [
        queue(1),
        subscription(None),
        subscription(Some("a = 1")),
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
    ok(&subject, vec![create_as(2, subscription(Some("b = 2")))]);
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
        assert_eq!(found[1], &subscription(Some("b = 2")));
        assert!(found[2..].iter().copied().eq(&all[2..]));
        assert_eq!(sequences(&recovered, 2), [1]);
    }
    // It is not made a transaction.
    let refused = append(subject.store(), vec![transaction(1)]);
    assert!(matches!(wait(refused), Err(StoreError::Refused(_))));
}

fn a_shared_message_lies_at_both_keys<S: Subject>() {
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

fn a_moved_message_takes_its_counter_along<S: Subject>() {
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

fn what_lies_where_a_message_is_moved_or_shared_is_replaced<S: Subject>() {
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

fn what_cannot_be_shared_or_moved_is_refused_as_a_whole<S: Subject>() {
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

fn a_transaction_is_gone_after_a_restart<S: Subject>() {
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

fn a_prepared_transaction_survives<S: Subject>() {
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

fn what_was_sent_in_a_transaction_counts_once_it_is_committed<S: Subject>() {
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

fn a_restart_knows_what_is_due<S: Subject>() {
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

fn a_batch_for_an_unknown_destination_is_refused_as_a_whole<S: Subject>() {
    let subject = S::fresh();
    ok(&subject, vec![create(1), put(1, 1, 1)]);
    let gone = Op::RemoveDestination {
        key: DestinationKey(1),
    };
    let refused = append(subject.store(), vec![gone, put(1, 2, 1)]);
    assert!(matches!(wait(refused), Err(StoreError::Refused(_))));
    let refused = append(subject.store(), vec![put(1, 3, 1), put(2, 4, 1), create(2)]);
    assert!(matches!(wait(refused), Err(StoreError::Refused(_))));
    // Nothing of them happened, and the store goes on.
    ok(&subject, vec![put(1, 5, 1)]);
    let (_subject, recovered) = subject.restart();
    assert_eq!(recovered.destinations.len(), 1);
    assert_eq!(sequences(&recovered, 1), [1, 5]);
}

fn a_closed_store_takes_nothing<S: Subject>() {
    let subject = S::fresh();
    let before = append(subject.store(), vec![create(1)]);
    subject.store().close().unwrap();
    wait(before).unwrap();
    let after = append(subject.store(), vec![put(1, 1, 1)]);
    assert_eq!(wait(after), Err(StoreError::Closed));
    assert_eq!(
        load(subject.store(), vec![key(1, 1)]).unwrap_err(),
        StoreError::Closed
    );
    subject.store().close().unwrap();
    assert!(subject.store().ready().now_or_never().is_some());
}

fn callbacks_may_use_the_store<S: Subject + Send + Sync + 'static>() {
    let subject = Arc::new(S::fresh());
    let (answer, result) = channel();
    let inner = subject.clone();
    let batch = Batch {
        ops: vec![create(1), put(1, 1, 1)],
    };
    let done = move |stored: Result<(), StoreError>| {
        stored.unwrap();
        inner.store().stats();
        let store = inner.clone();
        let found = move |found: Result<Found, StoreError>| {
            assert!(found.unwrap()[0].1.is_some());
            let ops = vec![remove(1, 1)];
            let done = move |result| drop(answer.send(result));
            store.store().append(Batch { ops }, Box::new(done));
        };
        inner.store().load(vec![key(1, 1)], Box::new(found));
    };
    subject.store().append(batch, Box::new(done));
    wait(result).unwrap();
}

fn statistics_count<S: Subject>() {
    let subject = S::fresh();
    ok(&subject, vec![create(1), put(1, 1, 1), put(1, 2, 1)]);
    ok(&subject, vec![remove(1, 1), put(1, 2, 1)]);
    ok(&subject, Vec::new());
    let stats = subject.store().stats();
    assert_eq!(stats.messages, 1);
    assert!(stats.batches >= 2);
}
