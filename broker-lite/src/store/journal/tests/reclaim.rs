//! How old segments go, and what must not go with them.

use super::faults::Crash;
use super::*;
use crate::store::{DestinationKey, StoredDestination, StoredSubscription};

/// Puts and removes messages of one destination, so that `segments` segments are filled.
fn churn(journal: &Journal, sequence: &mut u64, destination: u32, segments: u64) {
    let size = 400;
    for _ in 0..segments * SEGMENT / 700 {
        *sequence += 1;
        store(journal, vec![put(destination, *sequence, size)]);
        store(journal, vec![remove(destination, *sequence)]);
    }
}

/// True once the log is not longer than it may be.
fn is_short(journal: &Journal) -> bool {
    let index = journal.shared.index.lock();
    index.used() <= 2 * index.live() + 2 * SEGMENT
}

fn segments(disk: &FaultyDisk) -> Vec<u32> {
    let names = disk.names();
    names
        .iter()
        .filter(|name| name.starts_with("journal"))
        .map(|name| number_of(name))
        .collect()
}

#[test]
fn segments_without_messages_are_used_again() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1)]);
    let mut sequence = 0;
    churn(&journal, &mut sequence, 1, 30);
    until("old segments are reclaimed", || segments(&disk).len() <= 2);
    assert!(segments(&disk)[0] > 10);
    // Three to spare and two in use.
    assert!(disk.allocated() <= 5 * SEGMENT);
    assert_eq!(journal.stats().disk_bytes, disk.allocated());
    drop(journal);
    let (_journal, recovered) = open(&disk);
    assert_eq!(recovered.next_sequence, sequence + 1);
    assert_eq!(recovered.destinations[0].destination, queue(1));
    assert_eq!(recovered.producers, [(producer(1), sequence as i64)]);
    assert!(recovered.destinations[0].messages.is_empty());
}

#[test]
fn frames_of_an_earlier_use_stay_forgotten() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1)]);
    let mut sequence = 0;
    churn(&journal, &mut sequence, 1, 10);
    // The same sizes again, so that old frames stand just where new ones would.
    let mut seen = 0;
    for _ in 0..40 {
        churn(&journal, &mut sequence, 1, 1);
        let newest = *segments(&disk).last().unwrap();
        let name = super::super::segment::segment_name(newest);
        let end = frames(&disk, &name)
            .last()
            .map_or(0, |(at, header)| at + frame_len(header.length));
        let behind = disk.content(&name)[end..].to_vec();
        let old = FrameHeader::parse(&behind);
        seen += usize::from(old.is_some_and(|old| old.at.offset as usize == end && old.at.segment < newest));
        for crash in [Crash::Nothing, Crash::Process] {
            let (_, recovered) = open(&disk.crash(crash, sequence));
            assert!(recovered.destinations[0].messages.is_empty());
            assert_eq!(recovered.next_sequence, sequence + 1);
        }
    }
    assert!(seen > 0, "no old frame ever stood behind the end of the log");
}

#[test]
fn one_old_message_does_not_keep_the_log() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1), create(2), put(1, 1, 500)]);
    let mut sequence = 1;
    churn(&journal, &mut sequence, 2, 60);
    until("the message is moved on", || segments(&disk)[0] > 20);
    until("its space is given back", || disk.allocated() <= 9 * SEGMENT);
    let found = load(&journal, vec![key(1, 1)]).unwrap();
    assert_eq!(found[0].1, Some(Arc::new(message(1, 1, 500))));
    drop(journal);
    let (_journal, recovered) = open(&disk);
    assert_eq!(sequences(&recovered, 1), [1]);
    assert_eq!(sequences(&recovered, 2), [0u64; 0]);
}

/// A durable subscription on a destination of this number.
fn subscribe(destination: u32) -> Op {
    Op::CreateDestination {
        key: DestinationKey(destination),
        destination: StoredDestination::Subscription(Arc::new(StoredSubscription {
            client_id: format!("client {destination}").into(),
            name: "name".into(),
            destination: "topic://T".into(),
            selector: None,
            no_local: false,
        })),
    }
}

#[test]
fn what_an_idle_durable_subscriber_acknowledged_does_not_keep_the_log() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1), subscribe(2), subscribe(3)]);
    // It takes a few messages, and is not heard of again.
    for sequence in 1..=3 {
        store(&journal, vec![put(2, sequence, 100)]);
        let shown = Op::Dispatched {
            destination: DestinationKey(2),
            sequence,
        };
        store(&journal, vec![shown, remove(2, sequence)]);
    }
    let mut sequence = 3;
    churn(&journal, &mut sequence, 1, 60);
    until("old segments are gone", || segments(&disk).len() <= 2);
    assert!(segments(&disk)[0] > 20);
    // And what it acknowledged stays so.
    for life in 0..3 {
        let (_journal, recovered) = open(&disk.crash(Crash::Nothing, life));
        assert_eq!(sequences(&recovered, 2), [0u64; 0]);
        assert_eq!(recovered.destinations[1].dispatched, 3);
        assert!(matches!(
            recovered.destinations[1].destination,
            StoredDestination::Subscription(_)
        ));
    }
}

#[test]
fn few_messages_of_an_idle_durable_subscriber_do_not_keep_the_log() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1), subscribe(2), subscribe(3)]);
    // Two have the same messages, stored once. One is away, and the other takes what it has.
    let mut sequence = 0;
    let mut waiting = Vec::new();
    for _ in 0..6 {
        sequence += 2;
        let of = key(2, sequence - 1);
        let shared = Op::Share {
            key: key(3, sequence),
            of,
        };
        store(&journal, vec![put(2, sequence - 1, 200), shared]);
        store(&journal, vec![remove(3, sequence)]);
        waiting.push(sequence - 1);
        churn(&journal, &mut sequence, 1, 10);
    }
    until("the log is short", || is_short(&journal));
    assert!(segments(&disk)[0] > 20);
    until("its space is given back", || disk.allocated() <= 9 * SEGMENT);
    drop(journal);
    let (journal, recovered) = open(&disk);
    assert_eq!(sequences(&recovered, 2), waiting);
    assert_eq!(sequences(&recovered, 3), [0u64; 0]);
    for (key, found) in load(&journal, waiting.iter().map(|&at| key(2, at)).collect()).unwrap() {
        assert_eq!(found, Some(Arc::new(message(1, key.sequence as i64, 200))));
    }
}

#[test]
fn a_full_old_segment_does_not_keep_the_log_either() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1), create(2)]);
    // Four segments in which everything stays.
    for sequence in 1..=60 {
        store(&journal, vec![put(1, sequence, 400)]);
    }
    let mut sequence = 60;
    churn(&journal, &mut sequence, 2, 60);
    until("the log is short", || is_short(&journal));
    assert!(segments(&disk)[0] > 20);
    let keys: Vec<_> = (1..=60).map(|at| key(1, at)).collect();
    for (key, found) in load(&journal, keys).unwrap() {
        assert_eq!(found, Some(Arc::new(message(1, key.sequence as i64, 400))));
    }
    drop(journal);
    let (_journal, recovered) = open(&disk);
    assert_eq!(sequences(&recovered, 1), (1..=60).collect::<Vec<_>>());
}

#[test]
fn moving_messages_on_comes_to_an_end() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1)]);
    // Most of each segment goes, something of each stays.
    for sequence in 1..=400 {
        store(&journal, vec![put(1, sequence, 400)]);
    }
    let gone = (1..=400).filter(|at| at % 8 != 0).map(|at| remove(1, at));
    store(&journal, gone.collect());
    until("the log is short", || is_short(&journal));
    until("old segments are gone", || segments(&disk)[0] > 10);
    // Every turn does what is due, and after some nothing is.
    until("a few turns leave the log as it is", || {
        let used = || journal.shared.index.lock().used();
        let before = used();
        for _ in 0..5 {
            store(&journal, Vec::new());
        }
        used() == before
    });
}

#[test]
fn marks_of_a_message_go_where_it_goes() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(
        &journal,
        vec![create(1), create(2), put(1, 1, 100), put(1, 2, 100)],
    );
    let redelivered = Op::Redelivered {
        key: key(1, 2),
        count: 3,
    };
    let dispatched = Op::Dispatched {
        destination: DestinationKey(1),
        sequence: 2,
    };
    store(&journal, vec![redelivered, dispatched]);
    let mut sequence = 2;
    churn(&journal, &mut sequence, 2, 60);
    until("the messages are moved on", || segments(&disk)[0] > 20);
    let once_more = Op::Redelivered {
        key: key(1, 1),
        count: 1,
    };
    store(&journal, vec![once_more]);
    for life in 0..3 {
        let (_journal, recovered) = open(&disk.crash(Crash::Nothing, life));
        assert_eq!(recovered.destinations[0].dispatched, 2);
        let messages = &recovered.destinations[0].messages;
        let counters: Vec<_> = messages.iter().map(|found| found.redelivered).collect();
        assert_eq!(counters, [1, 3]);
    }
}

#[test]
fn many_starts_leave_few_files() {
    let disk = FaultyDisk::default();
    for start in 0..50u64 {
        let (journal, recovered) = open(&disk);
        if start == 0 {
            store(&journal, vec![create(1), put(1, 1, 500)]);
        } else {
            assert_eq!(sequences(&recovered, 1), [1]);
        }
        match start % 2 {
            0 => drop(journal),
            _ => journal.close().unwrap(),
        }
    }
    assert!(disk.allocated() < 16 * SEGMENT, "{} bytes", disk.allocated());
}

#[test]
fn many_destinations_make_larger_segments() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    // Their names alone are more than a segment.
    for first in (1..2_000).step_by(100) {
        store(&journal, (first..first + 100).map(create).collect());
    }
    let mut sequence = 0;
    churn(&journal, &mut sequence, 1, 60);
    assert!(segments(&disk).len() < 10);
    drop(journal);
    let (_journal, recovered) = open(&disk);
    assert_eq!(recovered.destinations.len(), 2_000);
}
