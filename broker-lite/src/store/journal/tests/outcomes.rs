//! Outcomes of transactions: as durable as what the transactions did.

use super::faults::Crash;
use super::*;

const FIRST: &str = "journal-0000000001.log";

fn commit(transaction: i64, at: i64, forgotten: i64) -> Op {
    Op::Committed {
        outcome: committed(1, transaction, at),
        forgotten,
    }
}

fn transactions(recovered: &Recovered) -> Vec<i64> {
    let outcomes = recovered.committed.iter();
    outcomes.map(|outcome| outcome.transaction).collect()
}

#[test]
fn outcomes_outlive_the_segments_they_were_written_to() {
    let disk = FaultyDisk::default();
    let (journal, recovered) = open(&disk);
    let identity = recovered.identity;
    store(&journal, vec![create(1)]);
    // Many segments, of which the messages need only the last.
    for at in 1..=200 {
        let sequence = at as u64;
        store(
            &journal,
            vec![
                put(1, sequence, 400),
                commit(at, at, at - 20),
                remove(1, sequence),
            ],
        );
    }
    until("old segments are given up", || {
        !disk.names().iter().any(|name| name == FIRST)
    });
    drop(journal);
    let disk = disk.crash(Crash::Nothing, 1);
    let (journal, recovered) = open(&disk);
    assert_eq!(transactions(&recovered), (181..=200).collect::<Vec<_>>());
    assert_eq!((recovered.forgotten, &recovered.identity), (180, &identity));
    journal.close().unwrap();
    drop(journal);
    let (_journal, recovered) = open(&disk);
    assert_eq!(
        (transactions(&recovered).len(), recovered.identity),
        (20, identity)
    );
}

#[test]
fn a_transaction_is_there_with_its_outcome_or_not_at_all() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1)]);
    let synced = disk.hold_syncs();
    let answers: Vec<_> = (1..=20)
        .map(|number| {
            append(
                &journal,
                vec![put(1, number as u64, 300), commit(number, number, 0)],
            )
        })
        .collect();
    synced.wait();
    for seed in 0..50 {
        for kind in [Crash::Nothing, Crash::Prefix, Crash::Sectors, Crash::Process] {
            let after = disk.crash(kind, seed);
            let (_journal, recovered) = open(&after);
            let there: Vec<i64> = sequences(&recovered, 1)
                .iter()
                .map(|&number| number as i64)
                .collect();
            assert_eq!(transactions(&recovered), there, "{kind:?} {seed}");
        }
    }
    drop(synced);
    answers.into_iter().for_each(|answer| wait(answer).unwrap());
}

#[test]
fn a_batch_that_finds_no_room_leaves_no_outcome() {
    let disk = FaultyDisk::default();
    let (journal, _) = open(&disk);
    store(&journal, vec![create(1)]);
    disk.set_space(Some(disk.allocated()));
    let mut number = 0;
    let refused = loop {
        number += 1;
        let answer = append(
            &journal,
            vec![put(1, number as u64, 1_000), commit(number, number, 0)],
        );
        if let Err(error) = wait(answer) {
            break error;
        }
        assert!(number < 1_000, "there is room for everything");
    };
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    drop(journal);
    disk.set_space(None);
    let (_journal, recovered) = open(&disk);
    assert_eq!(transactions(&recovered), (1..number).collect::<Vec<_>>());
}

#[test]
fn another_journal_has_another_identity() {
    let (_one, one) = open(&FaultyDisk::default());
    let (_other, other) = open(&FaultyDisk::default());
    assert!(!one.identity.is_empty() && one.identity != other.identity);
}

/// What a journal without outcomes wrote: `create(1)` with message 1, then message 2 and the removal of 1.
const VERSION_1: &str = "\
    4f574a3161269dd51c000000010000000b7e2b81081e327c0100000000000000000000000000000001000000010000000100\
    000000000000010000000000000000000000000000004f574a3121e51e1a0f010000020000000b7e2b81081e327c01000000\
    48000000010000004800000005010000000a00000071756575653a2f2f713101942f5515b400000001000000010000000000\
    000005040000000000002700000001000000000000000100000000000000010000000000000049443a686f73742d312d322d\
    333a34170000000000017b01000f49443a686f73742d312d322d333a34000000000000000100000000000000010164010001\
    710000016e00017b01000f49443a686f73742d312d322d333a34000000000000000100000000000000010000000000000001\
    0000000000000000000000000000000000000000000000000000000000000000000000010000000500000000000000000000\
    000000000000000000000000000000000000000000000000000000000000000000004f574a31582f56940901000002000000\
    0b7e2b81081e327c010000008001000001000000800100000110cebe9db40000000100000002000000000000000504000000\
    0000002700000001000000000000000100000000000000020000000000000049443a686f73742d312d322d333a3417000000\
    0000017b01000f49443a686f73742d312d322d333a34000000000000000100000000000000010164010001710000016e0001\
    7b01000f49443a686f73742d312d322d333a3400000000000000010000000000000001000000000000000200000000000000\
    0000000000000000000000000000000000000000000000000000000001000000050000000000000000000000000000000000\
    00000000000000000000000000000000000000000000000000000201000000010000000000000000000000000000\
";

/// What a journal wrote that knew queues only: `create(1)` with messages 1 and 2, and then the removal of 1,
/// `commit(7, 70, 60)`, counter 3 of message 2 and that 2 was dispatched.
const VERSION_2: &str = "\
    4f574a316921ed5c28000000010000006c77a0142a36646b0100000000000000000000000000000002000000010000000100\
    0000000000000100000000000000000000000000000000000000000000004f574a311681982504020000020000006c77a014\
    2a36646b0100000050000000010000005000000005010000000a00000071756575653a2f2f713101730b2097b00000000100\
    0000010000000000000001040000000000002700000001000000000000000100000000000000010000000000000049443a68\
    6f73742d312d322d333a34170000000000017b01000f49443a686f73742d312d322d333a3400000000000000010000000000\
    0000010164010001710000016e00017b01000f49443a686f73742d312d322d333a3400000000000000010000000000000001\
    0000000000000001000000000000000000000000000000000000000000000000000000000000000000000001000000010000\
    0000000000000000000000000000000000000000000000000000000000000000000000000001abed04f1b100000001000000\
    020000000000000002040000000000002700000001000000000000000100000000000000020000000000000049443a686f73\
    742d312d322d333a34170000000000017b01000f49443a686f73742d312d322d333a34000000000000000100000000000000\
    010164010001710000016e00017b01000f49443a686f73742d312d322d333a34000000000000000100000000000000010000\
    0000000000020000000000000000000000000000000000000000000000000000000000000000000000010000000200000000\
    000000000000000000000000000000000000000000000000000000000000000000000000000000004f574a31d7c1a6d75700\
    0000020000006c77a0142a36646b0100000080020000010000008002000002010000000100000000000000070f0000000700\
    00000000000046000000000000003c0000000000000049443a686f73742d312d322d333a3103010000000200000000000000\
    030000000401000000020000000000000000\
";

/// A disk with this as the first segment.
fn from_fixture(hexadecimal: &str) -> FaultyDisk {
    let digits = hexadecimal.as_bytes().chunks(2);
    let mut content: Vec<u8> = digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    content.resize(SEGMENT as usize, 0);
    let disk = FaultyDisk::default();
    disk.plant(FIRST, content);
    disk
}

#[test]
fn a_journal_from_before_there_were_outcomes_opens() {
    let disk = from_fixture(VERSION_1);
    let (journal, recovered) = open(&disk);
    assert_eq!(sequences(&recovered, 1), [2]);
    assert_eq!((recovered.committed.len(), recovered.forgotten), (0, 0));
    let identity = recovered.identity;
    store(&journal, vec![commit(1, 1, 0)]);
    drop(journal);
    let (_journal, recovered) = open(&disk);
    assert_eq!(sequences(&recovered, 1), [2]);
    assert_eq!(
        (transactions(&recovered), recovered.identity),
        (vec![1], identity)
    );
}

#[test]
fn a_journal_that_knew_queues_only_opens() {
    let disk = from_fixture(VERSION_2);
    let (journal, recovered) = open(&disk);
    assert_eq!(transactions(&recovered), [7]);
    let found = &recovered.destinations[0];
    assert_eq!((&found.destination, found.dispatched), (&queue(1), 2));
    let counters = found
        .messages
        .iter()
        .map(|found| (found.sequence, found.redelivered));
    assert_eq!(counters.collect::<Vec<_>>(), [(2, 3)]);
    // It goes on as any other, also once what it wrote has been copied forward.
    store(&journal, vec![create(2), share(key(2, 3), key(1, 2))]);
    for sequence in 4..200 {
        store(&journal, vec![put(1, sequence, 400), remove(1, sequence)]);
    }
    until("the old segment is given up", || {
        !disk.names().iter().any(|name| name == FIRST)
    });
    drop(journal);
    let (journal, recovered) = open(&disk);
    assert_eq!(
        (sequences(&recovered, 1), sequences(&recovered, 2)),
        (vec![2], vec![3])
    );
    assert_eq!(transactions(&recovered), [7]);
    assert_eq!(recovered.destinations[0].messages[0].redelivered, 3);
    assert_eq!(recovered.destinations[1].messages[0].redelivered, 0);
    for (_, found) in load(&journal, vec![key(1, 2), key(2, 3)]).unwrap() {
        assert_eq!(found, Some(Arc::new(message(1, 2, 2))));
    }
}
