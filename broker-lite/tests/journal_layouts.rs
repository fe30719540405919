//! Journals as each layout wrote them, in `journal-layouts`: they open for ever.
//!
//! The brokers of the time wrote them, each as much of [`write()`] as its layout knew, and stopped as a crash would.
//! That of the present layout is written by
//! `cargo test -p broker-lite --test journal_layouts -- --ignored` with `LAYOUT_DIR` set.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use broker_lite::store::journal::{Journal, JournalOptions};
use broker_lite::store::{
    Batch, Committed, DestinationKey, MessageKey, Op, Prepared, Recovered, Store, StoredDestination,
    StoredSubscription, StoredXid,
};
use bytes::Bytes;
use openwire_client::wire::{Destination, Message, MessageId, ProducerId};

/// The layouts there have been.
const LAYOUTS: std::ops::RangeInclusive<u32> = 1..=4;

const DEADLINE: Duration = Duration::from_secs(60);

/// In the year 2100.
const LATER: i64 = 4_102_444_800_000;

fn key(destination: u32, sequence: u64) -> MessageKey {
    MessageKey {
        destination: DestinationKey(destination),
        sequence,
    }
}

fn producer() -> ProducerId {
    ProducerId {
        connection_id: Some("ID:fixture-1:1".into()),
        value: 1,
        session_id: 1,
    }
}

fn message(sequence: u64) -> Arc<Message> {
    let first = sequence == 1;
    Arc::new(Message {
        producer_id: Some(producer()),
        destination: Some(Destination::queue("A")),
        message_id: Some(MessageId {
            producer_id: Some(producer()),
            producer_sequence_id: sequence as i64,
            ..MessageId::default()
        }),
        persistent: true,
        priority: if first { 9 } else { 4 },
        expiration: if first { LATER } else { 0 },
        content: Some(vec![sequence as u8; if first { 100 } else { 400 }].into()),
        ..Message::default()
    })
}

fn put(destination: u32, sequence: u64) -> Op {
    Op::Put {
        key: key(destination, sequence),
        message: message(sequence),
    }
}

fn create(key: u32, destination: StoredDestination) -> Op {
    Op::CreateDestination {
        key: DestinationKey(key),
        destination,
    }
}

fn subscription() -> StoredDestination {
    StoredDestination::Subscription(Arc::new(StoredSubscription {
        client_id: "client".into(),
        name: "name".into(),
        destination: "topic://T.>".into(),
        selector: Some("a > 1".into()),
        no_local: false,
    }))
}

fn committed() -> Committed {
    Committed {
        connection: "ID:fixture-1:1".into(),
        transaction: 7,
        at: 1_700_000_000_000,
    }
}

fn prepared() -> Prepared {
    Prepared {
        xid: StoredXid {
            format_id: 1,
            global: Bytes::from_static(b"global"),
            branch: Bytes::from_static(b"branch"),
        },
        acknowledged: vec![key(1, 3)],
    }
}

fn options() -> JournalOptions {
    JournalOptions {
        segment_size: 8 * 1024,
        spare_segments: 1,
        ..JournalOptions::default()
    }
}

fn store(journal: &Journal, ops: Vec<Op>) {
    let (answer, result) = channel();
    journal.append(Batch { ops }, Box::new(move |stored| drop(answer.send(stored))));
    result.recv_timeout(DEADLINE).expect("an answer").expect("stored");
}

/// What is in each of the directories.
fn write(dir: &Path) {
    let (journal, _) = Journal::open(dir, options()).expect("a new journal");
    let queue = |name: &str| StoredDestination::Queue(name.into());
    store(
        &journal,
        vec![create(1, queue("queue://A")), create(2, queue("queue://B"))],
    );
    store(&journal, vec![put(1, 1)]);
    store(&journal, vec![put(1, 2), put(1, 3)]);
    let redelivered = Op::Redelivered {
        key: key(1, 3),
        count: 2,
    };
    store(&journal, vec![Op::Remove { key: key(1, 2) }, redelivered]);
    let dispatched = Op::Dispatched {
        destination: DestinationKey(1),
        sequence: 3,
    };
    store(&journal, vec![dispatched]);
    // Enough that the first messages are copied forward.
    for sequence in 10..60 {
        store(&journal, vec![put(2, sequence)]);
        store(
            &journal,
            vec![Op::Remove {
                key: key(2, sequence),
            }],
        );
    }
    store(&journal, vec![put(2, 60)]);
    // From layout 2 on.
    let outcome = Op::Committed {
        outcome: committed(),
        forgotten: 1_600_000_000_000,
    };
    store(&journal, vec![outcome]);
    // From layout 3 on.
    let retained = StoredDestination::Retained("topic://T".into());
    store(
        &journal,
        vec![
            create(3, subscription()),
            create(4, StoredDestination::Transaction),
            create(5, StoredDestination::Schedule),
            create(6, retained),
        ],
    );
    let share = Op::Share {
        key: key(3, 100),
        of: key(1, 1),
    };
    store(&journal, vec![share, put(4, 101), put(5, 102), put(6, 103)]);
    let due = Op::Due {
        key: key(5, 102),
        at: LATER,
        times: 2,
    };
    let moved = Op::Move {
        from: key(4, 104),
        to: key(2, 105),
    };
    store(&journal, vec![due, put(4, 104), moved]);
    let prepare = Op::Prepare {
        destination: DestinationKey(4),
        prepared: Arc::new(prepared()),
    };
    store(&journal, vec![prepare]);
    // Dropped, not closed.
}

/// Compares what was found with what [`write()`] wrote, as far as the layout knew it.
fn check(layout: u32, journal: &Journal, recovered: &Recovered) {
    let found: Vec<(u32, Vec<u64>)> = recovered
        .destinations
        .iter()
        .map(|found| {
            (
                found.key.0,
                found.messages.iter().map(|message| message.sequence).collect(),
            )
        })
        .collect();
    let mut expected = vec![(1, vec![1, 3]), (2, vec![60])];
    let mut bodies = vec![(key(1, 1), 1), (key(1, 3), 3), (key(2, 60), 60)];
    if layout >= 3 {
        expected = vec![
            (1, vec![1, 3]),
            (2, vec![60, 105]),
            (3, vec![100]),
            (4, vec![101]),
            (5, vec![102]),
            (6, vec![103]),
        ];
        let since = [
            (2, 105, 104),
            (3, 100, 1),
            (4, 101, 101),
            (5, 102, 102),
            (6, 103, 103),
        ];
        bodies.extend(since.map(|(destination, at, number)| (key(destination, at), number)));
    }
    assert_eq!(found, expected, "layout {layout}");

    let [a, b, others @ ..] = &recovered.destinations[..] else {
        panic!("the queues are missing");
    };
    assert_eq!(a.destination, StoredDestination::Queue("queue://A".into()));
    assert_eq!(b.destination, StoredDestination::Queue("queue://B".into()));
    assert_eq!((a.dispatched, a.messages[1].redelivered), (3, 2));
    let (priority, end) = match layout {
        ..4 => (4, vec![]),
        4.. => (9, vec![(1, LATER)]),
    };
    assert_eq!((a.messages[0].priority, &a.expiring), (priority, &end));
    if let [subscribed, branch, scheduled, _] = others {
        assert_eq!(subscribed.destination, subscription());
        assert_eq!(subscribed.messages[0].priority, priority);
        assert_eq!(branch.prepared.as_deref(), Some(&prepared()));
        assert_eq!(scheduled.due, [(102, LATER, 2)]);
    }
    let last = if layout >= 3 { 105 } else { 60 };
    assert_eq!(recovered.next_sequence, last + 1);
    let sent = if layout >= 3 { 104 } else { 60 };
    assert_eq!(recovered.producers, [(producer(), sent)]);
    let outcomes: &[Committed] = if layout >= 2 { &[committed()] } else { &[] };
    assert_eq!(recovered.committed, outcomes);

    let (answer, loaded) = channel();
    let keys = bodies.iter().map(|(key, _)| *key).collect();
    journal.load(keys, Box::new(move |found| drop(answer.send(found))));
    let loaded = loaded.recv_timeout(DEADLINE).expect("an answer").expect("bodies");
    for ((key, found), (_, number)) in loaded.into_iter().zip(bodies) {
        assert_eq!(found, Some(message(number)), "layout {layout}: {key:?}");
    }
}

fn fixture(layout: u32) -> PathBuf {
    let layouts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journal-layouts");
    layouts.join(layout.to_string())
}

#[test]
fn journals_of_all_layouts_open() {
    for layout in LAYOUTS {
        let dir = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(fixture(layout)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
        let (journal, recovered) = Journal::open(dir.path(), options()).unwrap();
        assert!(!recovered.clean, "layout {layout}");
        check(layout, &journal, &recovered);
        // And they go on in the present layout.
        journal.close().unwrap();
        drop(journal);
        let (journal, recovered) = Journal::open(dir.path(), options()).unwrap();
        assert!(recovered.clean, "layout {layout}");
        check(layout, &journal, &recovered);
        store(&journal, vec![put(1, 200)]);
    }
}

#[test]
fn the_present_layout_is_the_last_of_them() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let (journal, recovered) = Journal::open(dir.path(), options()).unwrap();
    check(*LAYOUTS.end(), &journal, &recovered);
}

#[test]
#[ignore = "writes the files that the others read"]
fn write_the_present_layout() {
    let dir = std::env::var_os("LAYOUT_DIR").expect("LAYOUT_DIR");
    write(Path::new(&dir));
}
