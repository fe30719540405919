//! What is made of files that are not as they were written.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::faults::Crash;
use super::*;

const FIRST: &str = "journal-0000000001.log";

/// A journal that stored messages 1 to `count`, each in a batch and a turn of its own.
fn filled(count: u64) -> (FaultyDisk, Journal) {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1)]);
    for sequence in 1..=count {
        store(&journal, vec![put(1, sequence, 50)]);
    }
    (disk, journal)
}

#[test]
fn a_batch_that_was_not_written_to_its_end_is_cut_off() {
    let (disk, journal) = filled(10);
    drop(journal);
    let last = *batches(&disk, FIRST).last().unwrap();
    disk.edit(FIRST, |content| content[last + 100..].fill(0));
    let (journal, recovered) = open(&disk);
    assert!(!recovered.clean);
    assert_eq!(sequences(&recovered, 1), (1..10).collect::<Vec<_>>());
    // What comes next stands where nothing of it is in the way.
    store(&journal, vec![put(1, 10, 50), put(1, 11, 50)]);
    drop(journal);
    let (_journal, recovered) = open(&disk);
    assert_eq!(sequences(&recovered, 1), (1..12).collect::<Vec<_>>());
}

#[test]
fn damage_to_what_was_durable_is_refused_with_its_place() {
    let (disk, journal) = filled(10);
    drop(journal);
    let damaged = batches(&disk, FIRST)[4];
    disk.edit(FIRST, |content| content[damaged + 60] ^= 1);
    // Twice: an opener that fails does not keep the lock.
    for _ in 0..2 {
        match open_with(&disk, small()).map(|_| ()) {
            Err(StoreError::Damaged { file, offset, .. }) => {
                assert_eq!((file.as_str(), offset), (FIRST, damaged as u64));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn damage_to_the_end_of_a_full_segment_is_refused() {
    let (disk, journal) = filled(100);
    drop(journal);
    let (seal, _) = *frames(&disk, FIRST).last().unwrap();
    disk.edit(FIRST, |content| content[seal] ^= 1);
    match open_with(&disk, small()).map(|_| ()) {
        Err(StoreError::Damaged { file, offset, .. }) => {
            assert_eq!((file.as_str(), offset), (FIRST, seal as u64));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn after_a_close_every_changed_byte_is_noticed() {
    let (disk, journal) = filled(6);
    journal.close().unwrap();
    drop(journal);
    let frames = frames(&disk, FIRST);
    let (close, header) = *frames.last().unwrap();
    assert_eq!(header.kind(), Some(FrameKind::Close));
    for changed in 0..close + HEADER {
        let disk = disk.crash(Crash::Process, 0);
        disk.edit(FIRST, |content| content[changed] ^= 0x10);
        let (at, header) = *frames.iter().rev().find(|(at, _)| *at <= changed).unwrap();
        let opened = open_with(&disk, small());
        if changed >= close {
            let (_, recovered) = opened.unwrap();
            assert!(!recovered.clean);
            assert_eq!(sequences(&recovered, 1).len(), 6);
        } else if changed >= at + HEADER + header.length {
            // Between two frames.
            assert!(opened.unwrap().1.clean);
        } else {
            match opened.map(|_| ()) {
                Err(StoreError::Damaged { file, offset, .. }) => {
                    assert_eq!((file.as_str(), offset), (FIRST, at as u64), "byte {changed}");
                }
                other => panic!("byte {changed}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_missing_segment_is_damage() {
    for missing in [FIRST, "journal-0000000002.log"] {
        let (disk, journal) = filled(100);
        drop(journal);
        disk.erase(missing);
        match open_with(&disk, small()).map(|_| ()) {
            Err(StoreError::Damaged { file, .. }) => assert_eq!(file, missing),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_segment_of_another_journal_is_not_taken() {
    let (disk, journal) = filled(100);
    let (other, _keep) = filled(100);
    drop(journal);
    let second = "journal-0000000002.log";
    let foreign = other.content(second);
    disk.edit(second, |content| *content = foreign);
    match open_with(&disk, small()).map(|_| ()) {
        Err(StoreError::Damaged { file, offset, .. }) => assert_eq!((file.as_str(), offset), (second, 0)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn frames_in_a_body_are_not_taken_for_the_log() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1)]);
    store(&journal, vec![put(1, 1, 50)]);
    let mut evil = message(1, 2, 0);
    // With a seal and claims that more is durable than is.
    let (second, keep) = filled(100);
    drop(keep);
    let mut body = disk.content(FIRST)[..1000].to_vec();
    body.extend(second.content(FIRST));
    body.truncate(6000 / 8 * 8);
    evil.content = Some(body.into());
    let op = Op::Put {
        key: key(1, 2),
        message: Arc::new(evil),
    };
    store(&journal, vec![op]);
    drop(journal);
    let last = *batches(&disk, FIRST).last().unwrap();
    // Wherever the body lies, one of these puts its frames where frames may begin.
    for shift in 0..8 {
        let disk = disk.crash(Crash::Process, 0);
        disk.edit(FIRST, |content| {
            content[last] ^= 1;
            content.copy_within(last + 100 + shift.., last + 100);
        });
        let (_journal, recovered) = open(&disk);
        assert_eq!(sequences(&recovered, 1), [1]);
    }
}

#[test]
fn nothing_in_the_files_makes_it_panic() {
    let (disk, journal) = filled(100);
    drop(journal);
    for seed in 0..300 {
        let mut random = SmallRng::seed_from_u64(seed);
        let disk = disk.crash(Crash::Process, seed);
        for _ in 0..random.random_range(1..4) {
            let names = disk.names();
            let name = &names[random.random_range(0..names.len())];
            let garbage: Vec<u8> = (0..random.random_range(0..300))
                .map(|_| random.random())
                .collect();
            match random.random_range(0..4) {
                0 => disk.edit(name, |content| {
                    content.truncate(random.random_range(0..=content.len()))
                }),
                1 => disk.edit(name, |content| content.extend(&garbage)),
                2 => disk.edit(name, |content| {
                    let at = random.random_range(0..=content.len());
                    let end = (at + garbage.len()).min(content.len());
                    content[at..end].copy_from_slice(&garbage[..end - at]);
                }),
                _ => {
                    let number: u32 = [0, 1, 5, u32::MAX][random.random_range(0..4)];
                    disk.plant(&super::super::segment::segment_name(number), garbage);
                }
            }
        }
        match open_with(&disk, small()) {
            Ok((journal, recovered)) => {
                for destination in &recovered.destinations {
                    let sequences = destination.messages.iter().map(|found| found.sequence);
                    let keys = sequences.map(|sequence| key(destination.key.0, sequence));
                    load(&journal, keys.collect()).unwrap();
                }
            }
            Err(StoreError::Damaged { .. } | StoreError::Io(_) | StoreError::Refused(_)) => {}
            Err(other) => panic!("seed {seed}: {other:?}"),
        }
    }
}
