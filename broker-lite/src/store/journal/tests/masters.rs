//! Two that take themselves for the master: the former one was paused while another took over.

use std::sync::atomic::{AtomicBool, Ordering};

use super::faults::Crash;
use super::process::Process;
use super::*;
use crate::store::Mastership;

const CRASHES: [Crash; 4] = [Crash::Nothing, Crash::Prefix, Crash::Sectors, Crash::Process];

/// A lease that can be lost.
#[derive(Debug, Default)]
struct Lease {
    lost: AtomicBool,
}

impl Lease {
    fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }
}

impl Mastership for Lease {
    fn may_write(&self) -> Result<(), StoreError> {
        match self.lost.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(StoreError::Refused("the lease was lost".into())),
        }
    }
}

fn leased(disk: &FaultyDisk) -> (Arc<Lease>, Journal) {
    let lease = Arc::new(Lease::default());
    let options = JournalOptions {
        mastership: Some(lease.clone()),
        ..small()
    };
    (lease, open_with(disk, options).unwrap().0)
}

fn puts(sequences: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = Op> {
    sequences.map(|sequence| put(1, sequence, 200))
}

/// Whatever the disk keeps, these messages and no others are there.
fn only_these_survive(disk: &FaultyDisk, expected: &[u64]) {
    for (life, crash) in (0..).zip(CRASHES.into_iter().cycle().take(12)) {
        let disk = disk.crash(crash, life);
        for _ in 0..2 {
            let (journal, recovered) = open(&disk);
            assert_eq!(sequences(&recovered, 1), expected, "{crash:?} {life}");
            let keys = expected.iter().map(|&at| key(1, at)).collect();
            for (key, found) in load(&journal, keys).unwrap() {
                let number = key.sequence as i64;
                assert_eq!(found, Some(Arc::new(message(1, number, 200))), "{crash:?} {life}");
            }
        }
    }
}

#[test]
fn nothing_that_a_former_master_writes_survives() {
    // It has written less or more of its segment when it is paused, and writes less or more when it goes on.
    for (before, after) in [(1, 1), (1, 60), (20, 3), (30, 30), (70, 5)] {
        let disk = FaultyDisk::default();
        let (former, _) = open(&disk);
        store(&former, vec![create(1)]);
        puts(1..=before).for_each(|op| store(&former, vec![op]));
        let takeover = disk.taken_over();
        let (master, recovered) = open(&takeover);
        let mut expected: Vec<_> = (1..=before).collect();
        assert_eq!(sequences(&recovered, 1), expected);
        store(&master, puts(1_000..=1_002).collect());
        for op in puts(500..=500 + after) {
            // Until its segment is full: there is one of the next number already.
            if wait(append(&former, vec![op])).is_err() {
                break;
            }
        }
        store(&master, puts(1_003..=1_005).collect());
        expected.extend(1_000..=1_005);
        only_these_survive(&takeover, &expected);
        drop(former);
        only_these_survive(&takeover, &expected);
    }
}

#[test]
fn a_former_master_cannot_take_the_place_of_a_segment() {
    let disk = FaultyDisk::default();
    let (former, _) = open(&disk);
    store(&former, vec![create(1), put(1, 1, 200)]);
    let takeover = disk.taken_over();
    let (master, _) = open(&takeover);
    let refused = puts(2..=100).find_map(|op| wait(append(&former, vec![op])).err());
    assert!(
        matches!(&refused, Some(StoreError::Poisoned(why)) if why.contains("another process writes")),
        "{refused:?}"
    );
    puts(1_000..=1_100).for_each(|op| store(&master, vec![op]));
    drop(master);
    let (_, recovered) = open(&takeover);
    assert_eq!(sequences(&recovered, 1)[1..], (1_000..=1_100).collect::<Vec<_>>());
}

#[test]
fn a_segment_that_a_former_master_makes_late_is_ignored() {
    let disk = FaultyDisk::default();
    let (former, _) = open(&disk);
    store(&former, vec![create(1), put(1, 1, 200)]);
    let takeover = disk.taken_over();
    let (master, _) = open(&takeover);
    store(&master, vec![remove(1, 1)]);
    // The new master gives up its own first segment: the number is free again.
    let oldest = || master.shared.index.lock().oldest_number();
    let mut sequence = 1_000;
    until("its first segment is given up", || {
        sequence += 1;
        store(&master, vec![put(1, sequence, 200), remove(1, sequence)]);
        oldest() == Some(3)
    });
    // Nothing is written meanwhile, or the next one might be given up before this one has gone.
    let made = || disk.names().contains(&"journal-0000000002.log".into());
    until("its file has gone", || !made());
    store(&master, vec![put(1, 5_000, 200)]);
    let late = (2..100).find(|&sequence| {
        let _ = wait(append(&former, vec![put(1, sequence, 200)]));
        made()
    });
    assert!(late.is_some(), "the former master made no segment");
    only_these_survive(&takeover, &[5_000]);
}

#[test]
fn a_segment_that_a_former_master_only_makes_is_ignored() {
    let disk = FaultyDisk::default();
    let (former, _) = open(&disk);
    store(&former, vec![create(1)]);
    let takeover = disk.taken_over();
    let (master, _) = open(&takeover);
    let oldest = || master.shared.index.lock().oldest_number();
    let mut sequence = 0;
    until("its first segment is given up", || {
        sequence += 1;
        store(&master, vec![put(1, sequence, 200), remove(1, sequence)]);
        oldest() == Some(3)
    });
    until("its file has gone", || {
        !disk.names().contains(&"journal-0000000002.log".into())
    });
    store(&master, vec![put(1, 5_000, 200)]);
    takeover.make("journal-0000000002.log", SEGMENT);
    assert_eq!(oldest(), Some(3));
    only_these_survive(&takeover, &[5_000]);
}

#[test]
fn a_file_that_a_former_master_removes_late_is_not_missed() {
    let disk = FaultyDisk::default();
    let (former, _) = Process::start(&disk, small()).unwrap();
    let store = |ops| {
        let answer = former.ask(ops);
        until("it is stored", || {
            former.writer.go(10);
            answer.try_recv() == Ok(Ok(()))
        });
    };
    store(vec![create(1)]);
    puts(1..=60).for_each(|op| store(vec![op]));
    store((1..=60).map(|at| remove(1, at)).collect());
    // It says that its first segments may go, and gets no further.
    former.writer.go(100);
    former.lose();
    let takeover = disk.taken_over();
    let (master, _) = Process::start(&takeover, small()).unwrap();
    let files = disk.names().len();
    until("files go", || {
        former.keeper.go(10);
        disk.names().len() < files
    });
    drop(master);
    only_these_survive(&takeover, &[]);
}

#[test]
fn a_write_that_was_under_way_does_not_survive() {
    let disk = FaultyDisk::default();
    let (former, _) = open(&disk);
    store(&former, vec![create(1), put(1, 1, 200)]);
    let held = disk.hold_writes();
    let under_way = append(&former, vec![put(1, 2, 200)]);
    held.wait();
    let takeover = disk.taken_over();
    let (master, _) = open(&takeover);
    store(&master, vec![put(1, 3, 200)]);
    drop(held);
    wait(under_way).unwrap();
    only_these_survive(&takeover, &[1, 3]);
}

#[test]
fn who_lost_the_mastership_says_ok_to_nothing_that_is_lost() {
    // Paused before the write, and between write and sync.
    for before_the_write in [true, false] {
        let disk = FaultyDisk::default();
        let (lease, former) = leased(&disk);
        store(&former, vec![create(1), put(1, 1, 200)]);
        let held = match before_the_write {
            true => disk.hold_writes(),
            false => disk.hold_syncs(),
        };
        let under_way = append(&former, vec![put(1, 2, 200)]);
        held.wait();
        let takeover = disk.taken_over();
        let (master, recovered) = open(&takeover);
        lease.lose();
        drop(held);
        let answer = wait(under_way);
        assert!(
            matches!(&answer, Err(StoreError::Poisoned(why)) if why.contains("the lease was lost")),
            "{answer:?}"
        );
        assert!(matches!(former.close(), Err(StoreError::Poisoned(_))));
        drop(former);
        store(&master, vec![put(1, 3, 200)]);
        let mut expected = sequences(&recovered, 1);
        expected.push(3);
        only_these_survive(&takeover, &expected);
    }
}

#[test]
fn who_lost_the_mastership_removes_nothing() {
    for durability in [Durability::Always, Durability::Os] {
        let disk = FaultyDisk::default();
        let lease = Arc::new(Lease::default());
        let options = JournalOptions {
            mastership: Some(lease.clone()),
            durability,
            ..small()
        };
        let (former, _) = open_with(&disk, options).unwrap();
        store(&former, vec![create(1)]);
        puts(1..=60).for_each(|op| store(&former, vec![op]));
        let held = disk.hold_syncs();
        // It says that all of its segments may go, but cannot make that durable in time.
        let removals = append(&former, (1..=60).map(|at| remove(1, at)).collect());
        held.wait();
        let kept = disk.crash(Crash::Nothing, 0);
        let files = disk.names();
        lease.lose();
        drop(held);
        let _ = wait(removals);
        assert!(wait(append(&former, vec![put(1, 100, 200)])).is_err());
        drop(former);
        let files_left = disk.names();
        let is_segment = |name: &&String| name.starts_with("journal");
        assert!(
            files
                .iter()
                .filter(is_segment)
                .all(|name| files_left.contains(name))
        );
        let (_, recovered) = open(&kept);
        if durability == Durability::Always {
            assert_eq!(sequences(&recovered, 1), (1..=60).collect::<Vec<_>>());
        }
    }
}

#[test]
fn without_mastership_nothing_is_opened() {
    let disk = FaultyDisk::default();
    let lease = Arc::new(Lease::default());
    lease.lose();
    let options = JournalOptions {
        mastership: Some(lease),
        ..small()
    };
    let refused = open_with(&disk, options).map(|_| ());
    assert_eq!(refused, Err(StoreError::Refused("the lease was lost".into())));
    assert!(disk.names().is_empty());
}

#[test]
fn an_epoch_is_higher_than_any_before_and_not_less_than_was_asked_for() {
    let disk = FaultyDisk::default();
    let from = |epoch| {
        let options = JournalOptions { epoch, ..small() };
        open_with(&disk, options).map(|(journal, _)| journal.epoch())
    };
    assert_eq!(from(None), Ok(1));
    assert_eq!(from(Some(7)), Ok(7));
    for (least, next) in [(Some(0), 8), (Some(8), 9), (None, 10), (Some(u64::MAX), u64::MAX)] {
        assert_eq!(from(least), Ok(next));
    }
    assert!(matches!(from(None), Err(StoreError::Refused(_))));
}
