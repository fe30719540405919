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
    StoredDestination, StoredXid, accounting_size,
};

mod references;
#[cfg(feature = "sql")]
pub(super) mod sql;

use references::*;

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
        #[cfg(feature = "sql")]
        mod sqlite {
            $(#[test] fn $test() { super::$test::<super::sql::InFile>(); })*
        }
        #[cfg(feature = "sql")]
        mod postgres {
            $(#[test] fn $test() {
                if super::sql::is_here("postgres", stringify!($test)) {
                    super::$test::<super::sql::Postgres>();
                }
            })*
        }
        #[cfg(feature = "sql")]
        mod mariadb {
            $(#[test] fn $test() {
                if super::sql::is_here("mariadb", stringify!($test)) {
                    super::$test::<super::sql::MariaDb>();
                }
            })*
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
