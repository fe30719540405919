//! How fast the journal is, against the disk by itself.
//!
//! `cargo bench -p broker-lite --bench journal`; `JOURNAL_BENCH_DIR` says where the files go, which should
//! be the disk that counts.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use broker_lite::store::journal::{Durability, Journal, JournalOptions};
use broker_lite::store::{Batch, DestinationKey, MessageKey, Op, Store, StoredDestination};
use openwire_client::wire::{Destination, Message, MessageId, ProducerId};

const QUEUE: DestinationKey = DestinationKey(1);

/// So many messages stay pending while others are appended.
const PENDING: u64 = 10_000;

const WARM_UP: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_millis(700);
const ROUNDS: usize = 5;

/// What a batch takes in the log beside the body of its message, so that the bare loop writes as much.
const OVERHEAD: usize = 256;

fn main() {
    let dir = match std::env::var_os("JOURNAL_BENCH_DIR") {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
    .expect("a directory for the files");
    println!("files in {}", dir.path().display());
    println!("appends of 1 KiB, each with the removal of an older one; medians of {ROUNDS} rounds");
    for in_flight in [1, 64, 512] {
        compare(dir.path(), in_flight);
    }
    let unsynced = (0..ROUNDS).map(|_| journal_appends(dir.path(), 64, Durability::Os));
    println!(
        "  64 in flight, not synced: {:>9.0}/s",
        median(unsynced.collect())
    );
    recovery(&dir.path().join("recovery"), 1_000_000);
}

fn key(sequence: u64) -> MessageKey {
    MessageKey {
        destination: QUEUE,
        sequence,
    }
}

fn message(size: usize) -> Arc<Message> {
    let producer = ProducerId {
        connection_id: Some("ID:host.example.org-41234-1700000000000-1:1".into()),
        value: 1,
        session_id: 1,
    };
    Arc::new(Message {
        producer_id: Some(producer.clone()),
        destination: Some(Destination::queue("FirstQueue")),
        message_id: Some(MessageId {
            producer_id: Some(producer),
            producer_sequence_id: 1,
            ..MessageId::default()
        }),
        persistent: true,
        content: Some(vec![b'x'; size].into()),
        ..Message::default()
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare(dir: &Path, in_flight: usize) {
    let mut bare = Vec::new();
    let mut ours = Vec::new();
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let one = bare_appends(dir, in_flight);
        let other = journal_appends(dir, in_flight, Durability::Always);
        bare.push(one);
        ours.push(other);
        ratios.push(other / one);
    }
    println!(
        "{in_flight:>4} in flight: journal {:>9.0}/s, bare write + fdatasync {:>9.0}/s, ratio {:.2}",
        median(ours),
        median(bare),
        median(ratios)
    );
}

/// Writes and syncs so many appends at once, over and over in files as long as segments.
fn bare_appends(dir: &Path, at_once: usize) -> f64 {
    const LEN: u64 = 4 * 64 * 1024 * 1024;
    let path = dir.join("bare");
    let file = File::create(&path).expect("a file");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, LEN).expect("its space");
    file.sync_all().expect("a sync");
    let bytes = vec![b'x'; at_once * (1024 + OVERHEAD)];
    let mut offset = 0;
    let mut run = |duration: Duration| {
        let begin = Instant::now();
        let mut turns = 0;
        while begin.elapsed() < duration {
            if offset + bytes.len() as u64 > LEN {
                offset = 0;
            }
            file.write_all_at(&bytes, offset).expect("a write");
            file.sync_data().expect("a sync");
            offset += bytes.len() as u64;
            turns += 1;
        }
        (turns * at_once) as f64 / begin.elapsed().as_secs_f64()
    };
    run(WARM_UP);
    let rate = run(MEASURED);
    std::fs::remove_file(path).expect("the file goes");
    rate
}

/// Keeps so many batches under way: each callback appends the next.
struct Driver {
    journal: Journal,
    message: Arc<Message>,
    sequence: AtomicU64,
    stored: AtomicU64,
    stop: AtomicBool,
    under_way: AtomicUsize,
    stopped: Sender<()>,
}

impl Driver {
    fn append(self: &Arc<Self>) {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let mut ops = vec![Op::Put {
            key: key(sequence),
            message: self.message.clone(),
        }];
        if sequence > PENDING {
            ops.push(Op::Remove {
                key: key(sequence - PENDING),
            });
        }
        let driver = self.clone();
        let done = move |result: Result<(), _>| {
            result.expect("it is stored");
            driver.stored.fetch_add(1, Ordering::Relaxed);
            if driver.stop.load(Ordering::Relaxed) {
                if driver.under_way.fetch_sub(1, Ordering::Relaxed) == 1 {
                    driver.stopped.send(()).expect("somebody waits");
                }
            } else {
                driver.append();
            }
        };
        self.journal.append(Batch { ops }, Box::new(done));
    }
}

fn journal_appends(dir: &Path, in_flight: usize, durability: Durability) -> f64 {
    let dir = dir.join("journal");
    let options = JournalOptions {
        durability,
        ..JournalOptions::default()
    };
    let (journal, _) = Journal::open(&dir, options).expect("a journal");
    create_queue(&journal);
    let (stopped, waiting) = channel();
    let driver = Arc::new(Driver {
        journal,
        message: message(1024),
        sequence: AtomicU64::new(1),
        stored: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        under_way: AtomicUsize::new(in_flight),
        stopped,
    });
    for _ in 0..in_flight {
        driver.append();
    }
    std::thread::sleep(WARM_UP);
    let before = driver.stored.load(Ordering::Relaxed);
    let begin = Instant::now();
    std::thread::sleep(MEASURED);
    let stored = driver.stored.load(Ordering::Relaxed) - before;
    let rate = stored as f64 / begin.elapsed().as_secs_f64();
    driver.stop.store(true, Ordering::Relaxed);
    waiting.recv().expect("it stops");
    driver.journal.close().expect("it closes");
    std::fs::remove_dir_all(dir).expect("the files go");
    rate
}

fn create_queue(journal: &Journal) {
    let create = Op::CreateDestination {
        key: QUEUE,
        destination: StoredDestination::Queue("queue://FirstQueue".into()),
    };
    append(journal, vec![create]);
}

fn append(journal: &Journal, ops: Vec<Op>) {
    let (stored, waiting) = channel();
    let done = move |result: Result<(), _>| {
        result.expect("it is stored");
        stored.send(()).expect("somebody waits");
    };
    journal.append(Batch { ops }, Box::new(done));
    waiting.recv().expect("it is answered");
}

fn recovery(dir: &Path, messages: u64) {
    const BATCH: u64 = 1000;
    let options = JournalOptions {
        durability: Durability::Os,
        ..JournalOptions::default()
    };
    let (journal, _) = Journal::open(dir, options.clone()).expect("a journal");
    create_queue(&journal);
    let small = message(100);
    let begin = Instant::now();
    for first in (0..messages).step_by(BATCH as usize) {
        let ops = (first + 1..=first + BATCH).map(|sequence| Op::Put {
            key: key(sequence),
            message: small.clone(),
        });
        append(&journal, ops.collect());
    }
    let rate = messages as f64 / begin.elapsed().as_secs_f64();
    println!("{messages} messages of 100 bytes, {BATCH} in a batch, not synced: {rate:.0}/s");
    drop(journal);

    let before = resident();
    let (begin, cpu_begin) = (Instant::now(), cpu_time());
    let (journal, recovered) = Journal::open(dir, options).expect("the journal again");
    let (took, cpu) = (begin.elapsed(), cpu_time() - cpu_begin);
    let found: usize = recovered
        .destinations
        .iter()
        .map(|found| found.messages.len())
        .sum();
    drop(recovered);
    println!(
        "recovery of {found} messages: {:.2} s, {:.2} s of CPU time; {} MB more in memory",
        took.as_secs_f64(),
        cpu.as_secs_f64(),
        (resident().saturating_sub(before)) / 1_000_000
    );

    for window in [100, 1000] {
        let begin = Instant::now();
        let mut loaded = 0;
        for first in (0..messages).step_by(window as usize) {
            let (found, waiting) = channel();
            let keys = (first + 1..=first + window).map(key).collect();
            journal.load(
                keys,
                Box::new(move |result| found.send(result).expect("somebody waits")),
            );
            let found = waiting.recv().expect("it is answered").expect("it is read");
            loaded += found.iter().filter(|(_, message)| message.is_some()).count();
        }
        let rate = loaded as f64 / begin.elapsed().as_secs_f64();
        println!("loading them in order, {window} at a time: {rate:.0}/s");
    }
    journal.close().expect("it closes");
}

/// What the processor spent on this process.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Bytes of memory in use.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
