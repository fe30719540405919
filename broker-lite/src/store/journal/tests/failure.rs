//! What happens while it runs: waiting, failing, filling up, stopping.

use std::sync::mpsc::channel;
use std::time::Duration;

use futures::FutureExt;

use super::faults::Crash;
use super::process::Process;
use super::*;
use crate::store::Batch;

#[test]
fn what_arrives_during_a_sync_shares_the_next() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    let held = disk.hold_syncs();
    let first = append(&journal, vec![create(1)]);
    held.wait();
    let later: Vec<_> = (1..100)
        .map(|at| append(&journal, vec![put(1, at, 10)]))
        .collect();
    assert!(first.try_recv().is_err(), "nothing is stored before its sync");
    drop(held);
    wait(first).unwrap();
    later.into_iter().for_each(|answer| wait(answer).unwrap());
    until("the figures are there", || journal.stats().batches == 100);
    let segments = frames_in_all(&disk);
    // One for the first batch, and for the others one for each segment they are in.
    assert!(journal.stats().syncs <= 1 + segments, "{:?}", journal.stats());
}

fn frames_in_all(disk: &FaultyDisk) -> u64 {
    disk.names()
        .iter()
        .filter(|name| name.starts_with("journal"))
        .count() as u64
}

#[test]
fn a_load_does_not_wait_for_a_sync() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    let held = disk.hold_syncs();
    let stored = append(&journal, vec![create(1), put(1, 1, 10)]);
    let found = load(&journal, vec![key(1, 1)]).unwrap();
    assert!(found[0].1.is_some());
    assert!(stored.try_recv().is_err());
    drop(held);
    wait(stored).unwrap();
}

#[test]
fn ready_waits_until_the_backlog_is_small() {
    let disk = FaultyDisk::default();
    let options = JournalOptions {
        backlog_limit: 10_000,
        ..small()
    };
    let (journal, _) = open_with(&disk, options).unwrap();
    let journal = Arc::new(journal);
    store(&journal, vec![create(1)]);
    until("the backlog is empty", || journal.backlog() == 0);
    assert!(journal.ready().now_or_never().is_some());
    let held = disk.hold_syncs();
    let mut answers = vec![append(&*journal, vec![put(1, 1, 9_000)])];
    assert!(journal.ready().now_or_never().is_some(), "within the limit");
    answers.push(append(&*journal, vec![put(1, 2, 9_000)]));
    assert!(journal.backlog() > 10_000);
    let mut ready = journal.ready();
    assert!((&mut ready).now_or_never().is_none());
    drop(held);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(DEADLINE, ready).await })
        .expect("room is told of");
    answers.into_iter().for_each(|answer| wait(answer).unwrap());
}

#[test]
fn a_failed_sync_stops_the_journal() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1), put(1, 1, 10)]);
    disk.fail_sync_after(0);
    let held = disk.hold_syncs();
    let during = append(&journal, vec![put(1, 2, 10)]);
    held.wait();
    let waiting = append(&journal, vec![put(1, 3, 10)]);
    drop(held);
    assert!(matches!(wait(during), Err(StoreError::Poisoned(_))));
    assert!(matches!(wait(waiting), Err(StoreError::Poisoned(_))));
    // Although the disk does as if nothing had been.
    let later = append(&journal, vec![put(1, 4, 10)]);
    assert!(matches!(wait(later), Err(StoreError::Poisoned(_))));
    assert!(matches!(
        load(&journal, vec![key(1, 1)]),
        Err(StoreError::Poisoned(_))
    ));
    assert!(journal.ready().now_or_never().is_some());
    assert!(matches!(journal.close(), Err(StoreError::Poisoned(_))));
    drop(journal);
    let (_journal, recovered) = open(&disk);
    assert!(!recovered.clean);
    assert_eq!(sequences(&recovered, 1)[0], 1);
}

#[test]
fn a_failed_write_stops_the_journal() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1), put(1, 1, 10)]);
    disk.die_after(0);
    assert!(matches!(
        wait(append(&journal, vec![put(1, 2, 10)])),
        Err(StoreError::Poisoned(why)) if why.contains("journal-0000000001.log")
    ));
}

#[test]
fn a_sync_that_fails_in_the_background_stops_the_journal() {
    let disk = FaultyDisk::default();
    let options = JournalOptions {
        durability: Durability::Interval(Duration::ZERO),
        ..small()
    };
    let (journal, _) = open_with(&disk, options).unwrap();
    disk.fail_sync_after(0);
    store(&journal, vec![create(1)]);
    until("the journal has stopped", || {
        matches!(wait(append(&journal, Vec::new())), Err(StoreError::Poisoned(_)))
    });
}

#[test]
fn no_segment_goes_before_it_is_durable_that_it_may() {
    for seed in 0..100 {
        let disk = FaultyDisk::default();
        let options = JournalOptions {
            durability: Durability::Os,
            ..small()
        };
        let (journal, _) = open_with(&disk, options).unwrap();
        disk.fail_sync_after(seed % 5);
        let mut sequence = 0;
        wait(append(&journal, vec![create(1)])).unwrap();
        let failed = loop {
            sequence += 1;
            if let Err(error) = wait(append(&journal, vec![put(1, sequence, 2_000)])) {
                break error;
            }
            let _ = wait(append(&journal, vec![remove(1, sequence)]));
        };
        assert!(matches!(failed, StoreError::Poisoned(_)));
        drop(journal);
        let after = disk.crash(Crash::Prefix, seed);
        open(&after);
    }
}

#[test]
fn a_full_disk_refuses_messages_and_takes_acknowledgements() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1)]);
    disk.set_space(Some(4 * SEGMENT));
    let mut stored = Vec::new();
    let refused = loop {
        let sequence = stored.len() as u64 + 1;
        match wait(append(&journal, vec![put(1, sequence, 1_000)])) {
            Ok(()) => stored.push(sequence),
            Err(error) => break error,
        }
        assert!(stored.len() < 100, "the disk has no end");
    };
    assert!(matches!(&refused, StoreError::Full(_)), "{refused}");
    assert!(stored.len() > 15);
    assert!(disk.allocated() <= 4 * SEGMENT);

    // What was stored is there, also for a process that starts now.
    let found = load(&journal, stored.iter().map(|&at| key(1, at)).collect()).unwrap();
    assert!(found.iter().all(|(_, message)| message.is_some()));
    let copy = disk.crash(Crash::Nothing, 0);
    copy.set_space(None);
    let (_, recovered) = open(&copy);
    assert_eq!(sequences(&recovered, 1), stored);

    // Acknowledgements make room again.
    for sequence in &stored[..15] {
        store(&journal, vec![remove(1, *sequence)]);
    }
    until("messages are taken again", || {
        wait(append(&journal, vec![put(1, 1_000, 1_000)])).is_ok()
    });
}

#[test]
fn a_journal_opens_on_a_full_disk_and_takes_acknowledgements() {
    let disk = FaultyDisk::default();
    let options = JournalOptions {
        segment_size: 8 * SEGMENT,
        ..small()
    };
    disk.set_space(Some(24 * SEGMENT));
    let (journal, _) = open_with(&disk, options.clone()).unwrap();
    store(&journal, vec![create(1)]);
    let mut stored: Vec<_> = (1..)
        .take_while(|&at| wait(append(&journal, vec![put(1, at, 1_000)])).is_ok())
        .collect();
    drop(journal);
    let mut disk = disk.crash(Crash::Process, 0);
    for _ in 0..5 {
        disk.set_space(Some(disk.allocated()));
        let (journal, recovered) = open_with(&disk, options.clone()).unwrap();
        assert_eq!(sequences(&recovered, 1), stored);
        let refused = wait(append(&journal, vec![put(1, 1_000, 1_000)]));
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
        store(&journal, vec![remove(1, stored.pop().unwrap())]);
        drop(journal);
        disk = disk.crash(Crash::Process, 0);
    }
    // All of them, which is more than a makeshift segment has room for.
    disk.set_space(Some(disk.allocated()));
    let (journal, _) = open_with(&disk, options.clone()).unwrap();
    for at in &stored {
        store(&journal, vec![remove(1, *at)]);
    }
    until("messages are taken again", || {
        wait(append(&journal, vec![put(1, 1_000, 1_000)])).is_ok()
    });
    drop(journal);
    disk.set_space(None);
    let (_, recovered) = open_with(&disk, options).unwrap();
    assert_eq!(sequences(&recovered, 1), [1_000]);
}

#[test]
fn within_its_capacity_a_journal_finds_room() {
    let disk = FaultyDisk::default();
    disk.set_space(Some(60 * SEGMENT));
    // The keeper is as fast as the writer.
    let (process, _) = Process::start(&disk, small()).unwrap();
    let store = |ops| {
        let answer = process.ask(ops);
        until("it is stored", || {
            process.writer.go(10);
            process.keeper.go(50);
            answer.try_recv() == Ok(Ok(()))
        });
    };
    store(vec![create(1)]);
    let capacity = process.pool.capacity().unwrap();
    assert!((20 * SEGMENT..30 * SEGMENT).contains(&capacity), "{capacity}");
    // Full, and then always as full, while everything but a few old messages comes and goes.
    let mut waiting = std::collections::VecDeque::new();
    for sequence in 1..=2_000 {
        store(vec![put(1, sequence, 500)]);
        waiting.push_back(sequence);
        // A record is smaller than the message counts.
        if (waiting.len() as u64 + 1) * (1_024 + 500) > capacity {
            let gone = waiting.remove(10).unwrap();
            store(vec![remove(1, gone)]);
        }
    }
    assert!(disk.allocated() <= 60 * SEGMENT);
    // It does not change with what is stored.
    let now = process.pool.capacity().unwrap();
    assert!(now.abs_diff(capacity) <= SEGMENT, "{now}");
}

#[test]
fn space_that_comes_back_is_used() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1)]);
    disk.set_space(Some(0));
    let mut sequence = 0;
    let refused = loop {
        sequence += 1;
        if let Err(error) = wait(append(&journal, vec![put(1, sequence, 1_000)])) {
            break error;
        }
    };
    assert!(matches!(refused, StoreError::Full(_)));
    disk.set_space(None);
    store(&journal, vec![put(1, sequence, 1_000)]);
}

#[test]
fn a_write_that_finds_no_space_is_finished_once_there_is_some() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1), put(1, 1, 100)]);
    disk.cut_writes(3);
    let answers: Vec<_> = (2..10)
        .map(|at| append(&journal, vec![put(1, at, 100)]))
        .collect();
    answers.into_iter().for_each(|answer| wait(answer).unwrap());
    assert!(disk.writes_whole());
    store(&journal, vec![put(1, 10, 100)]);
    drop(journal);
    let (_, recovered) = open(&disk.crash(Crash::Nothing, 0));
    assert_eq!(sequences(&recovered, 1), (1..=10).collect::<Vec<_>>());
}

#[test]
fn a_write_that_finds_no_space_ends_with_the_journal() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1), put(1, 1, 100)]);
    disk.cut_writes(u64::MAX);
    let waiting = append(&journal, vec![put(1, 2, 100)]);
    assert!(matches!(journal.close(), Err(StoreError::Poisoned(_))));
    assert!(matches!(wait(waiting), Err(StoreError::Poisoned(_))));
    drop(journal);
    for seed in 0..20 {
        let (_, recovered) = open(&disk.crash(Crash::Sectors, seed));
        assert_eq!(sequences(&recovered, 1), [1]);
    }
}

#[test]
fn what_a_failed_sync_left_in_memory_is_made_durable_by_the_next_opener() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1), put(1, 1, 100)]);
    disk.fail_sync_after(0);
    assert!(wait(append(&journal, vec![put(1, 2, 100)])).is_err());
    drop(journal);
    let disk = disk.crash(Crash::Process, 0);
    let (journal, recovered) = open(&disk);
    let found = sequences(&recovered, 1);
    assert_eq!(found, [1, 2]);
    drop(journal);
    let (_, recovered) = open(&disk.crash(Crash::Nothing, 0));
    assert_eq!(sequences(&recovered, 1), found);
}

#[test]
fn a_batch_larger_than_a_segment_is_stored_whole() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1), put(1, 1, 10)]);
    let ops = (2..200).map(|at| put(1, at, 2_000)).collect();
    store(&journal, ops);
    store(&journal, vec![put(1, 200, 100 * SEGMENT as usize)]);
    store(&journal, vec![put(1, 201, 10)]);
    drop(journal);
    let (journal, recovered) = open(&disk);
    assert_eq!(sequences(&recovered, 1), (1..202).collect::<Vec<_>>());
    let keys: Vec<_> = (1..202).map(|at| key(1, at)).collect();
    let found = load(&journal, keys).unwrap();
    assert_eq!(
        found[199].1,
        Some(Arc::new(message(1, 200, 100 * SEGMENT as usize)))
    );
    // Such a segment does not stay.
    store(&journal, (1..202).map(|at| remove(1, at)).collect());
    until("its space is given back", || disk.allocated() <= 10 * SEGMENT);
}

#[test]
fn a_message_that_has_no_encoding_is_refused_and_harms_nothing() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    let mut odd = message(1, 2, 10);
    odd.message_type = Some("x".repeat(70_000).into());
    store(&journal, vec![create(1), put(1, 1, 10)]);
    let op = Op::Put {
        key: key(1, 2),
        message: Arc::new(odd),
    };
    let refused = append(&journal, vec![create(2), put(1, 3, 10), op]);
    assert!(matches!(wait(refused), Err(StoreError::Refused(_))));
    // The batch did not create its destination either.
    let refused = append(&journal, vec![put(2, 4, 10)]);
    assert!(matches!(wait(refused), Err(StoreError::Refused(_))));
    store(&journal, vec![put(1, 5, 10)]);
    drop(journal);
    let (_journal, recovered) = open(&disk);
    assert_eq!(sequences(&recovered, 1), [1, 5]);
}

#[test]
fn one_opener_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = Journal::open(dir.path(), small()).unwrap();
    let second = Journal::open(dir.path(), small()).map(|_| ());
    assert!(matches!(second, Err(StoreError::Locked(_))), "{second:?}");
    first.close().unwrap();
    // Although the first is still there.
    let (third, recovered) = Journal::open(dir.path(), small()).unwrap();
    assert!(recovered.clean);
    drop(first);
    assert!(matches!(
        Journal::open(dir.path(), small()).map(|_| ()),
        Err(StoreError::Locked(_))
    ));
    drop(third);
    Journal::open(dir.path(), small()).unwrap();
}

#[test]
fn options_out_of_range_are_refused() {
    let disk = FaultyDisk::default();
    for (segment_size, spare_segments) in [(100, 2), (1 << 40, 2), (SEGMENT, 0), (SEGMENT, 1_000)] {
        let options = JournalOptions {
            segment_size,
            spare_segments,
            ..JournalOptions::default()
        };
        let opened = open_with(&disk, options).map(|_| ());
        assert!(matches!(opened, Err(StoreError::Refused(_))));
    }
}

#[test]
fn with_an_interval_nobody_waits_for_the_sync() {
    let disk = FaultyDisk::default();
    let options = JournalOptions {
        durability: Durability::Interval(Duration::from_millis(1)),
        ..small()
    };
    let (journal, _) = open_with(&disk, options).unwrap();
    let held = disk.hold_syncs();
    store(&journal, vec![create(1), put(1, 1, 10)]);
    held.wait();
    store(&journal, vec![put(1, 2, 10)]);
    drop(held);
    until("it is durable", || {
        let (_, recovered) = open(&disk.crash(Crash::Nothing, 0));
        recovered.destinations.len() == 1 && sequences(&recovered, 1) == [1, 2]
    });
}

#[test]
fn left_to_the_system_only_full_segments_are_synced() {
    let disk = FaultyDisk::default();
    let options = JournalOptions {
        durability: Durability::Os,
        ..small()
    };
    let (journal, _) = open_with(&disk, options.clone()).unwrap();
    store(&journal, vec![create(1)]);
    for sequence in 1..6 {
        store(&journal, vec![put(1, sequence, 1_000)]);
    }
    assert_eq!(journal.stats().syncs, 0);
    let killed = disk.crash(Crash::Process, 0);
    let (_, recovered) = open(&killed);
    assert_eq!(sequences(&recovered, 1), [1, 2, 3, 4, 5]);
    for sequence in 6..10 {
        store(&journal, vec![put(1, sequence, 1_000)]);
    }
    until("the first segment is synced", || journal.stats().syncs > 0);
    let failed = disk.crash(Crash::Nothing, 0);
    let (_, recovered) = open(&failed);
    assert!(sequences(&recovered, 1).len() >= 5);
    // And a close makes everything durable.
    journal.close().unwrap();
    let (_, recovered) = open(&disk.crash(Crash::Nothing, 0));
    assert!(recovered.clean);
    assert_eq!(sequences(&recovered, 1).len(), 9);
}

#[test]
fn a_callback_may_drop_the_journal() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    let journal = Arc::new(journal);
    let (dropped, waiting) = channel();
    let held = disk.hold_syncs();
    let inner = journal.clone();
    let done = move |result: Result<(), StoreError>| {
        result.unwrap();
        drop(inner);
        dropped.send(()).unwrap();
    };
    journal.append(Batch { ops: vec![create(1)] }, Box::new(done));
    held.wait();
    let later = append(&*journal, vec![put(1, 1, 10)]);
    drop(journal);
    drop(held);
    waiting.recv_timeout(DEADLINE).unwrap();
    assert_eq!(wait(later), Err(StoreError::Closed));
}

#[test]
fn a_hundred_thousand_messages_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        segment_size: 4 << 20,
        durability: Durability::Os,
        ..JournalOptions::default()
    };
    let (journal, _) = Journal::open(dir.path(), options.clone()).unwrap();
    append(&journal, (1..=10).map(create).collect());
    for begin in (0..100_000u64).step_by(1_000) {
        let ops = (begin..begin + 1_000).map(|at| put(at as u32 % 10 + 1, at + 1, 20));
        append(&journal, ops.collect());
    }
    let ops = (0..100_000)
        .step_by(2)
        .map(|at| remove(at as u32 % 10 + 1, at + 1));
    store(&journal, ops.collect());
    drop(journal);
    let (journal, recovered) = Journal::open(dir.path(), options).unwrap();
    assert_eq!(recovered.next_sequence, 100_001);
    for destination in 1..=10u32 {
        let expected = (0..100_000).filter(|at| at % 2 == 1 && at % 10 + 1 == u64::from(destination));
        assert!(
            sequences(&recovered, destination)
                .into_iter()
                .eq(expected.map(|at| at + 1))
        );
    }
    let keys: Vec<_> = (1..20_000)
        .step_by(2)
        .map(|at| key(at as u32 % 10 + 1, at + 1))
        .collect();
    let found = load(&journal, keys).unwrap();
    assert!(found.iter().all(|(_, message)| message.is_some()));
}
