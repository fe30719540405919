//! Messages that lie at several keys or elsewhere than they were put, and transactions: through reclaiming,
//! copying and crashes.

use super::faults::Crash;
use super::*;
use crate::store::DestinationKey;

const CRASHES: [Crash; 4] = [Crash::Nothing, Crash::Prefix, Crash::Sectors, Crash::Process];

/// Fills so many segments with what is gone at once, on queue 1.
fn churn(journal: &Journal, sequence: &mut u64, segments: u64) {
    for _ in 0..segments * SEGMENT / 700 {
        *sequence += 1;
        store(journal, vec![put(1, *sequence, 400), remove(1, *sequence)]);
    }
}

fn oldest(journal: &Journal) -> u32 {
    journal.shared.index.lock().oldest_number().unwrap()
}

/// Goes on until nothing of the first segments is left.
fn outlive(journal: &Journal, sequence: &mut u64) {
    let begin = oldest(journal);
    churn(journal, sequence, 40);
    until("the old segments are given up", || oldest(journal) > begin + 10);
    journal.shared.index.lock().check();
}

fn removal(destination: u32) -> Op {
    Op::RemoveDestination {
        key: DestinationKey(destination),
    }
}

fn is_there(journal: &Journal, keys: &[(u32, u64)], number: i64, size: usize) {
    let keys = keys
        .iter()
        .map(|&(destination, at)| key(destination, at))
        .collect();
    for (key, found) in load(journal, keys).unwrap() {
        assert_eq!(found, Some(Arc::new(message(1, number, size))), "{key:?}");
    }
}

#[test]
fn a_shared_message_is_kept_and_copied_once() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, (1..=20).map(create).collect());
    store(&journal, vec![put(2, 1, 3_000)]);
    let shares = (3..=20).map(|to| share(key(to, u64::from(to)), key(2, 1)));
    store(&journal, shares.collect());
    // The key it was put with goes first.
    store(&journal, vec![remove(2, 1), remove(3, 3)]);
    let mut sequence = 20;
    for _ in 0..3 {
        outlive(&journal, &mut sequence);
        let live = journal.shared.index.lock().live();
        assert!((3_000..5_000).contains(&live), "{live}");
    }
    let everywhere: Vec<_> = (4..=20).map(|to| (to, u64::from(to))).collect();
    is_there(&journal, &everywhere, 1, 3_000);
    drop(journal);
    let (journal, recovered) = open(&disk);
    for &(destination, at) in &everywhere {
        assert_eq!(sequences(&recovered, destination), [at]);
    }
    is_there(&journal, &everywhere, 1, 3_000);
    // As long as any is left.
    store(&journal, (4..20).map(|to| remove(to, u64::from(to))).collect());
    outlive(&journal, &mut sequence);
    is_there(&journal, &[(20, 20)], 1, 3_000);
    store(&journal, vec![remove(20, 20)]);
    assert_eq!(journal.shared.index.lock().live(), 0);
}

#[test]
fn what_is_kept_beside_messages_goes_where_they_go() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, (1..=4).map(create).collect());
    let mark = |key, count| Op::Redelivered { key, count };
    let due = |key, at| Op::Due { key, at, times: 7 };
    store(&journal, vec![put(2, 1, 100), share(key(3, 2), key(2, 1))]);
    store(&journal, vec![move_to(key(2, 1), key(4, 3)), mark(key(3, 2), 5)]);
    store(
        &journal,
        vec![due(key(4, 3), 9), due(key(3, 2), 8), mark(key(4, 3), 1)],
    );
    let mut sequence = 3;
    outlive(&journal, &mut sequence);
    store(&journal, vec![mark(key(4, 3), 0)]);
    outlive(&journal, &mut sequence);
    for (life, crash) in CRASHES.into_iter().enumerate() {
        let (journal, recovered) = open(&disk.crash(crash, life as u64));
        let found = |at: usize| {
            let found = &recovered.destinations[at];
            (found.messages[0].redelivered, found.due.clone())
        };
        assert_eq!(found(2), (5, vec![(2, 8, 7)]));
        assert_eq!(found(3), (0, vec![(3, 9, 7)]));
        is_there(&journal, &[(3, 2), (4, 3)], 1, 100);
    }
}

#[test]
fn many_shares_of_small_messages_can_be_copied_to_an_end() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, (1..=100).map(create).collect());
    let mut sequence = 0;
    for _ in 0..20 {
        let of = key(1, sequence + 1);
        let mut ops = vec![put(1, sequence + 1, 1)];
        ops.extend((2..=100).map(|to| share(key(to, sequence + u64::from(to)), of)));
        sequence += 100;
        store(&journal, ops);
    }
    // What says where the messages lie is far more than the messages.
    outlive(&journal, &mut sequence);
    until("a few turns leave the log as it is", || {
        let used = || journal.shared.index.lock().used();
        let before = used();
        for _ in 0..5 {
            store(&journal, Vec::new());
        }
        used() == before
    });
    drop(journal);
    let (journal, recovered) = open(&disk);
    assert_eq!(journal.stats().messages, 2_000);
    assert_eq!(sequences(&recovered, 100).len(), 20);
    journal.shared.index.lock().check();
}

#[test]
fn a_target_that_was_replaced_stays_replaced() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1), create(2), create(3), put(2, 1, 100)]);
    let mut sequence = 10;
    // The message that replaces lies in an older segment than what it replaces, and goes before it does.
    churn(&journal, &mut sequence, 1);
    let first = oldest(&journal);
    store(&journal, vec![put(3, 2, 100), put(3, 3, 100), put(3, 4, 100)]);
    store(
        &journal,
        vec![share(key(3, 2), key(2, 1)), move_to(key(2, 1), key(3, 3))],
    );
    store(&journal, vec![remove(3, 2), remove(3, 3)]);
    until("the message that replaced them is gone", || {
        store(&journal, Vec::new());
        oldest(&journal) > first
    });
    is_there(&journal, &[(3, 4)], 4, 100);
    drop(journal);
    let (_journal, recovered) = open(&disk);
    assert_eq!(sequences(&recovered, 3), [4]);
}

#[test]
fn a_prepared_transaction_outlives_its_segments() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1), create(2), put(2, 1, 100)]);
    store(&journal, vec![transaction(3), put(3, 2, 100), put(3, 3, 100)]);
    let (op, prepared) = prepare(3, vec![key(2, 1)]);
    store(&journal, vec![op]);
    let mut sequence = 3;
    outlive(&journal, &mut sequence);
    drop(journal);
    let disk = disk.crash(Crash::Nothing, 1);
    let (journal, recovered) = open(&disk);
    assert_eq!(recovered.destinations[2].prepared, Some(prepared));
    assert_eq!(sequences(&recovered, 3), [2, 3]);
    // What was sent in it counts from now on, although it was sent long ago.
    assert_eq!(recovered.producers, [(producer(1), sequence as i64)]);
    store(
        &journal,
        vec![move_to(key(3, 2), key(2, sequence + 1)), removal(3)],
    );
    outlive(&journal, &mut sequence);
    drop(journal);
    let (_journal, recovered) = open(&disk);
    assert_eq!(recovered.destinations.len(), 2);
    assert_eq!(sequences(&recovered, 2).len(), 2);
}

#[test]
fn a_transaction_that_was_not_prepared_stays_gone() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    // One message keeps the segment in which the transaction stands.
    store(&journal, vec![create(1), put(1, 1, 100)]);
    store(&journal, vec![transaction(2), put(2, 2, 3_000)]);
    drop(journal);
    let (journal, recovered) = open(&disk);
    assert_eq!(recovered.destinations.len(), 1);
    // Its messages do not count as needed, and asking for them again changes nothing.
    assert!(journal.shared.index.lock().live() < 3_000);
    store(&journal, vec![move_to(key(2, 2), key(1, 3))]);
    for (life, crash) in CRASHES.into_iter().enumerate() {
        let (_journal, recovered) = open(&disk.crash(crash, life as u64));
        assert_eq!(recovered.destinations.len(), 1);
        assert_eq!(sequences(&recovered, 1), [1]);
        assert_eq!((recovered.next_sequence, recovered.next_destination), (3, 3));
    }
    // Nothing of it comes back even if its key is given out again.
    store(&journal, vec![create(2), put(2, 5, 10)]);
    drop(journal);
    let (_journal, recovered) = open(&disk);
    assert_eq!(sequences(&recovered, 2), [5]);
}

#[test]
fn whatever_is_lost_while_it_opens_a_transaction_is_gone_the_next_time() {
    for changes in 0..30 {
        let disk = FaultyDisk::default();
        let (journal, _) = open(&disk);
        store(&journal, vec![create(1), put(1, 1, 100)]);
        store(&journal, (10..30).map(transaction).collect());
        store(&journal, (10..30).map(|at| put(at, u64::from(at), 100)).collect());
        store(&journal, vec![prepare(20, vec![]).0]);
        drop(journal);
        for (life, crash) in CRASHES.into_iter().enumerate() {
            let disk = disk.crash(Crash::Process, 0);
            disk.die_after(changes);
            drop(open_with(&disk, small()));
            let after = disk.crash(crash, life as u64 + 4 * changes);
            let (_journal, recovered) = open(&after);
            let there: Vec<_> = recovered.destinations.iter().map(|found| found.key.0).collect();
            assert_eq!(there, [1, 20], "{crash:?} after {changes} changes");
        }
    }
}

#[test]
fn a_commit_is_there_as_a_whole_or_not_at_all() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(
        &journal,
        vec![create(1), create(2), put(1, 1, 100), transaction(3)],
    );
    store(&journal, (10..40).map(|at| put(3, at, 300)).collect());
    let synced = disk.hold_syncs();
    // The commit shares a turn with nothing, and with what comes after it.
    let mut ops: Vec<_> = (10..40).map(|at| move_to(key(3, at), key(2, at))).collect();
    ops.extend((10..40).map(|at| share(key(1, at + 100), key(2, at))));
    ops.extend([remove(1, 1), removal(3)]);
    let commit = append(&journal, ops);
    synced.wait();
    let after = append(&journal, vec![move_to(key(2, 10), key(1, 200))]);
    let mut seen = [0; 3];
    for seed in 0..50 {
        for crash in CRASHES {
            let (_journal, recovered) = open(&disk.crash(crash, seed));
            let there = (
                sequences(&recovered, 1).len(),
                sequences(&recovered, 2).len(),
                recovered.destinations.len(),
            );
            let state = [(1, 0, 2), (30, 30, 2), (31, 29, 2)]
                .iter()
                .position(|state| *state == there);
            seen[state.unwrap_or_else(|| panic!("{crash:?} {seed}: {there:?}"))] += 1;
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    drop(synced);
    wait(commit).unwrap();
    wait(after).unwrap();
}

#[test]
fn a_full_disk_takes_a_commit_and_refuses_copies() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(
        &journal,
        vec![create(1), create(2), transaction(3), put(3, 1, 100)],
    );
    disk.set_space(Some(disk.allocated()));
    let mut sequence = 1;
    let refused = loop {
        sequence += 1;
        if let Err(error) = wait(append(&journal, vec![put(1, sequence, 1_000)])) {
            break error;
        }
        assert!(sequence < 100, "there is room for everything");
    };
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    while wait(append(&journal, vec![share(key(2, sequence), key(1, 2))])).is_ok() {
        sequence += 1;
        assert!(sequence < 1_000, "there is room for everything");
    }
    store(&journal, vec![move_to(key(3, 1), key(1, 1)), removal(3)]);
    drop(journal);
    disk.set_space(None);
    let (_journal, recovered) = open(&disk);
    assert_eq!(sequences(&recovered, 1)[0], 1);
}
