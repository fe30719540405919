//! The journal: the store that keeps messages in append-only files of its own.
//!
//! # How it works
//!
//! Batches are appended to a log, which lies in segment files of a fixed size. A segment is made ahead of
//! time, so a commit never changes the length of a file, and is used again when it is no longer needed. One
//! thread writes: what arrives during a sync is written together and made durable by the next one. Where
//! each message lies is kept in memory (about 50 bytes for each), bodies are not; a second thread reads them
//! back. A third makes segments ahead and puts old ones back.
//!
//! **A segment is reclaimed when none of its messages is there any more, the oldest segment first.** So
//! what says that a message is gone never goes before the message does. If a few old messages keep a log
//! that is more than twice as long as needed, and by more than two segments, they are copied to its end. What consumers
//! acknowledged, idle durable subscribers as well, is in every catalog or gone with its message, so it keeps no segment.
//!
//! **A message can lie at several keys, or elsewhere than it was put.** Its record is needed as long as any key
//! refers to it, and copied once, with what says where it lies by then. Only such records have a list of their
//! keys in memory, with their segment. What says that a message was shared or moved stands behind its
//! record, in the same segment or a later one; so the record can go before it, but not the reverse.
//!
//! **On a full disk messages are refused with [`StoreError::Full`], acknowledgements are not**: the last
//! eighth of the last segment is theirs. Where there is no room for another segment, a *makeshift* one takes what
//! acknowledgements and a start need, as large as there is room for. The space of a segment is taken when it is made;
//! where a file system gives it away all the same, a write waits until there is some, and nobody is answered meanwhile.
//! So that it does not come to that, the store limit of a broker is no more than the disk has room for
//! ([`Journal::capacity`]).
//!
//! **Who opens a journal begins an epoch**, with a higher number than any before it, in a segment of its own whose catalog
//! says where the log ended that was found. A former master that was only paused may go on writing in its own segment
//! behind that place, or make a segment of a number that is free again: neither is ever read. It cannot replace a file,
//! because no file is created or renamed over another, and files of an earlier epoch are never used again. Where the lock
//! file is not enough, [`JournalOptions::mastership`] is asked before each write, and again before what was written is
//! answered, counts as synced or lets a segment go.
//!
//! # The files
//!
//! | name | what |
//! | --- | --- |
//! | `lock` | locked as long as a process has the journal open, or is master of it; says who that is |
//! | `journal-0000000042.log` | segment 42; the numbers of the segments follow each other |
//! | `spare-3-7.log` | a file of epoch 3 that waits to become a segment; its content means nothing |
//!
//! All numbers are little-endian. A segment is a sequence of frames, each at a multiple of 8 bytes, with
//! zeros between; what follows the last one means nothing (older frames, if the file was used before).
//!
//! ```text
//! frame
//!   0  4  magic            "OWJ1"
//!   4  4  crc              CRC-32 (IEEE) of everything from byte 8 to the end of the payload
//!   8  4  length           bytes of payload
//!  12  4  kind             1 catalog, 2 batch, 3 copies, 4 reclaim, 5 seal, 6 close
//!  16  8  journal          random number of this journal
//!  24  4  segment          the segment the frame stands in
//!  28  4  offset           where in it
//!  32  4  synced segment   everything before this place was durable
//!  36  4  synced offset    when the frame was written
//!  40     payload
//! ```
//!
//! The number of the journal, segment and offset are checked, so that neither a frame from an earlier use
//! of the file nor one inside a message's body is ever taken for one of the log.
//!
//! * A **catalog** is the first frame of each segment and stands nowhere else: what the segments before it
//!   said, except messages. With it, the segments before it are not needed.
//! * A **batch** holds the records of one batch: all of them count, or none.
//! * **Copies** hold puts of messages that stood in an older segment and are still there, each followed by the
//!   other keys at which it lies (share), counters that changed (redelivered) and when it is due (due).
//! * A **reclaim** frame says that all segments before the given one are not needed. Their files are touched
//!   once it is durable. One that is missing otherwise is damage.
//! * A **seal** ends a segment; the log goes on in the next one. A **close** does the same, and says that the
//!   journal was closed in order. Both are empty.
//!
//! ```text
//! payload of a catalog                    payload of a reclaim frame
//!   4  version of this layout: 4            4  oldest segment that is needed
//!   8  epoch
//!   4  segment and                        producer
//!   4  offset where it began                8  value
//!   4  oldest segment that is needed        8  session
//!   8  next sequence                        8  highest producerSequenceId
//!   4  next destination key                    connection id, UTF-8
//!   4  number of destinations, for each
//!        4  key
//!        8  dispatched up to
//!           description
//!        1  1 if it is prepared, and then what
//!           prepared
//!   4  number of producers, for each, the latest one last
//!        4  length of the producer
//!           producer
//!   8  outcomes up to this time may be missing; times are milliseconds since 1970
//!   4  number of connections with outcomes, for each
//!        4  length of the connection id
//!           connection id, UTF-8
//!        4  number of transactions, for each
//!             8  transaction
//!             8  time of the commit
//!
//! description of a destination            prepared
//!   1  kind                                 4  format id of the Xid
//!   1: queue; 5: retained                   4  length of the global transaction id
//!      name                                    global transaction id
//!   2: subscription                         4  length of the branch qualifier
//!      1  flags: 1 noLocal, 2 selector         branch qualifier
//!         client id                         4  number of messages it acknowledged, for each
//!         name                                   4  destination
//!         destination                            8  sequence
//!         selector, with flag 2
//!   3: transaction; 4: schedule           each text: 4 bytes of length, UTF-8
//!
//! records of a batch, one after the other, and of copies
//!   put                                   remove              create queue
//!     0  1  13                              0  1  2             0  1  5
//!     1  4  CRC-32 of all from byte 5 on    1  4  destination   1  4  destination
//!     5  4  length of the body              5  8  sequence      5  4  length of the name
//!     9  4  destination                   redelivered           9     name, UTF-8
//!    13  8  sequence                        0  1  3           remove destination
//!    21  4  accounting size                 1  4  destination   0  1  6
//!    25  4  redelivery counter              5  8  sequence      1  4  destination
//!    29  4  length of the producer or 0    13  4  counter     committed
//!    33  8  expiration or 0, in ms        dispatched            0  1  7
//!    41  1  priority                        0  1  4             1  4  length of the connection id
//!    42     producer, its sequence being    1  4  destination   5  8  transaction
//!           that of this message            5  8  up to this   13  8  time of the commit
//!           body: the marshalled message          sequence     21  8  outcomes up to this time are
//!                                                                     not needed any more
//!                                                              29     connection id, UTF-8
//!   share                                 move                create destination
//!     0  1  8                               0  1  9             0  1  10
//!     1  4  destination                     1  4  from          1  4  destination
//!     5  8  sequence                        5  8  sequence      5  4  length of the description
//!    13  4  destination of the             13  4  to            9     description
//!           same message                   17  8  sequence    prepare
//!    17  8  its sequence there             25  4  length of     0  1  11
//!   due                                           the producer  1  4  destination
//!     0  1  12                                    or 0          5  4  length of what was prepared
//!     1  4  destination                    29     producer,     9     prepared
//!     5  8  sequence                              its sequence
//!    13  8  milliseconds since 1970               being that of
//!    21  4  times it fired                        the message
//! ```
//!
//! The redelivery counter of a put is what the message arrived with, also in a copy. A put of a key that is there
//! replaces it: the later place counts. A copy has the first key at which the message still lies, its own before
//! others.
//!
//! A share or a move whose message is not there was one when it was written: a move of nothing is not
//! written, and a share of nothing is refused. Its record is gone with its segment, and either a copy comes later
//! or it is gone from everywhere; what lay at the target is replaced all the same.
//!
//! A message that is put on a **transaction** says nothing of its producer until it is moved, which is why a move
//! repeats who sent it: a client sends a transaction that was lost again. When a journal opens, transactions that
//! were not prepared end. The first batch behind its catalog says so, so that the next opener makes the same of
//! what comes later. Nothing is moved or shared onto a transaction, so the record of a message on one is always
//! that of its sender.
//!
//! The **outcome of a transaction** stands in the batch with what the transaction did. The broker says with each how old an outcome
//! must be to be forgotten; those that are younger are in every catalog, so reclaiming segments takes none of them away.
//! The random number of the journal is the identity of the store.
//!
//! Version 3 of the layout knew no epochs, and no priorities and expirations: their fields are missing in catalog and put,
//! whose record is 1. Such records are copied as they are, and their messages count as of priority 4 and without an end until
//! they are read. Versions 1 and 2 knew queues only: they had no records from 8 on, a catalog had the length of the name
//! and the name of each queue in place of the description, and the counter of a copy was what it was by then. Version 1
//! had no outcomes either: no record 7, and a catalog ended with the producers. A journal of an earlier version is opened,
//! and goes on in a segment of version 4. An older broker refuses a journal with a segment of version 4.
//!
//! # Recovery
//!
//! Segments are read in order from the first catalog on. The first frame that is not valid ends the log if
//! it can be what was being written when the machine stopped; everything from there on is cut off. If any
//! later frame, in this or a later segment, says that more than the log up to there was durable, it cannot:
//! the journal is damaged, and does not open. After a close in order every frame is known to have been
//! durable; after a crash the last turn of the writer is not, as nothing was written after it.
//!
//! What the log does not say was durable is written once more and synced before anything else: where a sync failed, the
//! system may take for written what is not on the disk.
//!
//! A journal that opens always goes on in a new segment, whose catalog says where the one before it ends, and cuts its file
//! to that length. Segments behind a cut are removed, never used again, so their frames cannot come back.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::BytesMut;
use parking_lot::Mutex;

use super::{
    Batch, DestinationKey, Done, Loaded, Mastership, MessageKey, Recovered, Store, StoreError, StoreStats,
    identity,
};

mod catalog;
mod compaction;
mod describe;
mod disk;
mod epoch;
mod figures;
mod frame;
mod index;
pub(crate) mod inspect;
mod keeper;
mod reader;
mod record;
mod recovery;
mod segment;
mod shared;
mod shares;
#[cfg(test)]
mod tests;
mod window;
mod writer;

use compaction::Compaction;
use disk::{Directory, Disk, DiskFile};
use epoch::Epoch;
pub use figures::{JournalStats, Spread};
use frame::{ALIGN, FrameKind, HEADER, Position, begin_frame, end_frame, frame_len};
use index::Index;
use keeper::Keeper;
use reader::Request;
use record::encode_removal;
use recovery::{Ending, Recovery, recover};
use segment::{FIRST_SEGMENT, Pool, Segment};
use shared::{Shared, Stop, may_write};
use writer::Writer;

/// The sizes [`JournalOptions::segment_size`] may have: smaller ones are all catalog and seal, and of larger
/// ones two would not fit the 32 bits of an offset.
const SEGMENT_SIZES: std::ops::RangeInclusive<u64> = 8 * 1024..=1 << 30;

/// The most [`JournalOptions::spare_segments`] may be: they are space that nobody else can use.
const MAX_SPARES: usize = 64;

/// When a batch counts as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is durable: neither a killed process nor a power failure loses it. ActiveMQ's
    /// `journalDiskSyncStrategy="always"`.
    #[default]
    Always,
    /// When it is written: a killed process does not lose it, a power failure may lose what was written in
    /// the last interval. ActiveMQ's `journalDiskSyncStrategy="periodic"`.
    Interval(Duration),
    /// When it is written, and the operating system decides when it becomes durable: a power failure may
    /// lose what was written since, usually half a minute. What is lost is lost from the end, and the journal
    /// opens, because a segment that is full is synced before older ones are used again. ActiveMQ's
    /// `journalDiskSyncStrategy="never"`.
    Os,
}

/// How a [`Journal`] is kept.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// The size of a segment in bytes, 8 KiB to 1 GiB; 64 MiB by default. One with a batch that is larger is
    /// as large as needed. It may change between two runs. ActiveMQ's `journalMaxFileLength`.
    pub segment_size: u64,
    /// When a batch counts as stored; [`Durability::Always`] by default.
    pub durability: Durability,
    /// How many segments are made ahead of time, once one is half full, and how many old ones are kept to be
    /// used again; 1 to 64, 3 by default.
    pub spare_segments: usize,
    /// [`Store::ready`] waits while more bytes than this were appended and not yet stored. 64 MiB by
    /// default.
    pub backlog_limit: usize,
    /// The least number of the epoch that begins; otherwise, and by default, it is one more than the highest found. What a former master writes after this was opened, because it does
    /// not know yet, is never read by anybody.
    pub epoch: Option<u64>,
    /// Is asked before each write and before each answer whether this process is still the master; nobody by default.
    /// For a directory that several machines reach: there the lock file is not enough.
    pub mastership: Option<Arc<dyn Mastership>>,
}

/// A multiple of what the writer writes at a time, so that it always finds enough; and a tenth of a second
/// of a fast disk, so that nobody waits long for what stands before him.
const BACKLOG_LIMIT: usize = 64 * 1024 * 1024;

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            segment_size: 64 * 1024 * 1024,
            durability: Durability::Always,
            spare_segments: 3,
            backlog_limit: BACKLOG_LIMIT,
            epoch: None,
            mastership: None,
        }
    }
}

impl JournalOptions {
    fn check(&self) -> Result<(), StoreError> {
        if !SEGMENT_SIZES.contains(&self.segment_size) {
            return Err(StoreError::Refused(format!(
                "a segment size of {} bytes is not in {} to {}",
                self.segment_size,
                SEGMENT_SIZES.start(),
                SEGMENT_SIZES.end()
            )));
        }
        if !(1..=MAX_SPARES).contains(&self.spare_segments) {
            return Err(StoreError::Refused(format!(
                "{} spare segments are not in 1 to {MAX_SPARES}",
                self.spare_segments
            )));
        }
        Ok(())
    }
}

/// A store in files of its own; see [the module](self).
///
/// Dropping it without [`Store::close`] is what a crash of the process is: batches whose `done` was not called
/// fail with [`StoreError::Closed`], and the next opener is not told that it was closed in order.
pub struct Journal {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    disk: Arc<dyn Disk>,
    /// What does not change while it is open.
    opened: JournalStats,
    requests: Mutex<Option<Sender<Request>>>,
    /// Writer, keeper and reader, in the order in which they end.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// Opens the journal in a directory, which is made if it is missing, and says what it holds. Blocks as
    /// long as it takes to read the log.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] if a process has it open, this one included; [`StoreError::Damaged`] if
    /// something that was durable cannot be read; [`StoreError::Refused`] for options out of range; what [`Mastership::may_write`] says if it says no;
    /// [`StoreError::Full`] if there is no space to go on in; [`StoreError::Io`] for anything else the file
    /// system says.
    pub fn open(dir: impl AsRef<Path>, options: JournalOptions) -> Result<(Self, Recovered), StoreError> {
        Self::open_on(Arc::new(Directory::open(dir.as_ref())?), options)
    }

    /// The same for a master, which has the lock on the directory already.
    pub(crate) fn open_locked(
        dir: impl AsRef<Path>,
        options: JournalOptions,
    ) -> Result<(Self, Recovered), StoreError> {
        Self::open_on(Arc::new(Directory::open_locked(dir.as_ref())?), options)
    }

    /// The number of the epoch that began when it was opened.
    pub fn epoch(&self) -> u64 {
        self.pool.epoch()
    }

    fn open_on(disk: Arc<dyn Disk>, options: JournalOptions) -> Result<(Self, Recovered), StoreError> {
        options.check()?;
        disk.lock()?;
        let opened = Self::open_alone(disk.clone(), &options);
        if opened.is_err() {
            disk.unlock();
        }
        opened
    }

    fn open_alone(disk: Arc<dyn Disk>, options: &JournalOptions) -> Result<(Self, Recovered), StoreError> {
        let (machinery, recovered) = Machinery::assemble(&disk, options)?;
        let Machinery {
            shared,
            pool,
            writer,
            keeper,
            opened,
        } = machinery;
        // Without a bound: who asks for messages keeps what was asked for within what he has room for.
        let (requests, reader_requests) = channel();
        // The writer last: should one not start, those before it end by themselves.
        let keeper = spawn("journal-keeper", move || keeper.run())?;
        let reader = {
            let shared = shared.clone();
            spawn("journal-reader", move || reader::run(&reader_requests, &shared))?
        };
        let writer = spawn("journal-writer", move || writer.run())?;
        let journal = Self {
            shared,
            pool,
            disk,
            opened,
            requests: Mutex::new(Some(requests)),
            threads: Mutex::new(vec![writer, keeper, reader]),
        };
        Ok((journal, recovered))
    }

    /// How many bytes of messages the file system has room for, now: less than half of what is free or the journal's,
    /// because the log can be twice as long as what is needed of it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the file system does not say.
    pub fn capacity(&self) -> Result<u64, StoreError> {
        let capacity = self.pool.capacity();
        capacity.map_err(|error| StoreError::Io(format!("free space: {error}")))
    }

    /// Copies what is needed of all segments that are there forward, so that they can go. Blocks until they are given
    /// up; the space is free once the journal is closed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`] or [`StoreError::Refused`] if there is no room for copies, [`StoreError::Damaged`] if a
    /// segment cannot be read; then everything is as before. Else what [`Store::append`] fails with.
    pub fn compact(&self) -> Result<(), StoreError> {
        let before = self.shared.index.lock().newest_number().unwrap_or(0);
        self.shared.request_compaction(before);
        loop {
            let (answer, turn) = channel();
            self.append(Batch::default(), Box::new(move |done| drop(answer.send(done))));
            turn.recv().unwrap_or(Err(StoreError::Closed))?;
            if let Some(failure) = self.shared.compaction_failure() {
                return Err(failure);
            }
            if self.shared.index.lock().oldest_number() >= Some(before) {
                return Ok(());
            }
        }
    }

    /// Waits for the threads to end. Does nothing when called again.
    fn join(&self) {
        let mut threads = self.threads.lock();
        self.requests.lock().take();
        for thread in threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// A journal that is open, before anything in it moves.
struct Machinery {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    writer: Writer,
    keeper: Keeper,
    opened: JournalStats,
}

impl Machinery {
    /// Reads the log, makes what was found final, and begins an epoch.
    fn assemble(disk: &Arc<dyn Disk>, options: &JournalOptions) -> Result<(Self, Recovered), StoreError> {
        let failed = |error: io::Error| StoreError::Io(format!("opening the journal: {error}"));
        let may_write = || may_write(options.mastership.as_ref());
        may_write()?;
        let begun = Instant::now();
        let mut recovery = recover(&**disk)?;
        let replay = begun.elapsed();
        let epoch = next_epoch(options.epoch, recovery.epoch.number)?;
        settle(&**disk, &mut recovery, may_write)?;
        let journal = recovery.journal.unwrap_or_else(rand::random);
        let ended = recovery.index.drop_unprepared();
        let clean = recovery.ending == Ending::Closed;
        let recovered = recovery
            .index
            .state()
            .recovered(identity(journal), clean, |location| recovery.header(location));
        let Recovery { mut index, end, .. } = recovery;
        let opened = JournalStats {
            epoch,
            replay,
            replayed_bytes: index.used(),
            ..JournalStats::default()
        };
        tracing::info!(
            "the journal holds {} messages; {} bytes of log in {} segments were read in {} ms, epoch {epoch} begins",
            index.state().messages(),
            opened.replayed_bytes,
            index.segments(),
            replay.as_millis()
        );
        index.begin_epoch(Epoch {
            number: epoch,
            sealed: end,
        });
        let segment_size = options.segment_size / ALIGN as u64 * ALIGN as u64;
        let pool = Pool::open(
            disk.clone(),
            epoch,
            segment_size,
            options.spare_segments,
            index.disk_bytes(),
        );
        let pool = Arc::new(pool.map_err(failed)?);
        let (active, at) = begin(&pool, &mut index, journal, end, &ended)?;
        may_write()?;

        let mastership = options.mastership.clone();
        let shared = Arc::new(Shared::new(index, at, options.backlog_limit, mastership));
        // Without a bound: the writer sends a few tasks in a turn and must not wait.
        let (tasks, keeper_tasks) = channel();
        let writer = Writer::new(
            shared.clone(),
            pool.clone(),
            tasks,
            options.durability,
            journal,
            (active, at),
            Compaction::new(segment_size),
        );
        let keeper = Keeper::new(keeper_tasks, shared.clone(), pool.clone());
        let machinery = Self {
            shared,
            pool,
            writer,
            keeper,
            opened,
        };
        Ok((machinery, recovered))
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|error| StoreError::Io(format!("starting the thread {name}: {error}")))
}

/// The epoch that begins after `last`, which is not less than `least`.
fn next_epoch(least: Option<u64>, last: u64) -> Result<u64, StoreError> {
    let next = last.checked_add(1);
    let next = next.ok_or_else(|| StoreError::Refused("the journal has no epoch left".into()))?;
    Ok(least.map_or(next, |least| next.max(least)))
}

/// Makes what was recovered durable and final, so that what was cut off cannot come back.
fn settle(
    disk: &dyn Disk,
    recovery: &mut Recovery,
    may_write: impl Fn() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let failed = |error: io::Error| StoreError::Io(format!("opening the journal: {error}"));
    // The newest first, each for good: what is behind a cut must never seem to follow a gap.
    for name in recovery.leftovers.iter().rev() {
        // Another who took over meanwhile may have made a file of this name.
        may_write()?;
        disk.remove(name).map_err(failed)?;
        disk.sync_directory().map_err(failed)?;
    }
    // A killed process may have written more than it synced. And where a sync failed the system may take for written
    // what is not on the disk: writing it once more makes sure.
    for segment in recovery.index.segments_from(recovery.synced.segment) {
        let from = match segment.number == recovery.synced.segment {
            true => recovery.synced.offset,
            false => 0,
        };
        let end = recovery.index.end_of(segment.number);
        may_write()?;
        write_again(&*segment.file, from.into(), end.into()).map_err(failed)?;
        segment.file.sync().map_err(failed)?;
    }
    let end = u64::from(recovery.end.offset);
    if let Some(newest) = recovery.index.newest_mut() {
        may_write()?;
        newest.file.truncate(end).map_err(failed)?;
        if let Some(newest) = Arc::get_mut(newest) {
            newest.len = end;
        }
    }
    Ok(())
}

/// Writes what stands between two places of a file where it stands.
fn write_again(file: &dyn DiskFile, mut from: u64, end: u64) -> io::Result<()> {
    /// How much is in memory at a time.
    const STRETCH: u64 = 1024 * 1024;
    let mut bytes = Vec::new();
    while from < end {
        bytes.resize(STRETCH.min(end - from) as usize, 0);
        file.read_exact_at(&mut bytes, from)?;
        file.write_all_at(&bytes, from)?;
        from += bytes.len() as u64;
    }
    Ok(())
}

/// Begins the segment behind `end`, and says where the log goes on. The log says that the transactions `ended`
/// are gone, so that the next opener finds the same.
fn begin(
    pool: &Pool,
    index: &mut Index,
    journal: u64,
    end: Position,
    ended: &[DestinationKey],
) -> Result<(Arc<Segment>, Position), StoreError> {
    let number = match end.segment {
        0 => FIRST_SEGMENT,
        last => last
            .checked_add(1)
            .ok_or_else(|| StoreError::Refused("the journal has no number left".into()))?,
    };
    let mut catalog = index.catalog();
    if index.oldest_number().is_none() {
        catalog.oldest = number;
    }
    let mut frame = BytesMut::new();
    let start = begin_frame(&mut frame);
    catalog.encode(&mut frame);
    let mut removals = BytesMut::new();
    ended.iter().for_each(|key| encode_removal(*key, &mut removals));
    let catalog_len = frame_len(frame.len() - HEADER) as u64;
    let segment = pool.segment(number, catalog_len, frame_len(removals.len()) as u64, true)?;
    let mut at = Position {
        segment: number,
        offset: 0,
    };
    end_frame(&mut frame, start, FrameKind::Catalog, journal, at, end);
    if !removals.is_empty() {
        at.offset = frame.len() as u32;
        let start = begin_frame(&mut frame);
        frame.extend_from_slice(&removals);
        end_frame(&mut frame, start, FrameKind::Batch, journal, at, end);
    }
    let failed = |error| StoreError::Io(format!("{}: {error}", segment.name()));
    segment.file.write_all_at(&frame, 0).map_err(failed)?;
    segment.file.sync().map_err(failed)?;
    index.add_segment(segment.clone());
    index.set_end(frame.len() as u32);
    let at = Position {
        offset: frame.len() as u32,
        ..at
    };
    Ok((segment, at))
}

#[async_trait]
impl Store for Journal {
    fn append(&self, batch: Batch, done: Done) {
        self.shared.append(batch, true, done);
    }

    fn append_unawaited(&self, batch: Batch, done: Done) {
        self.shared.append(batch, false, done);
    }

    fn load(&self, keys: Vec<MessageKey>, done: Loaded) {
        let after = self.shared.hurry();
        let requests = self.requests.lock().clone();
        let request = Request { keys, after, done };
        let unsent = match requests {
            Some(requests) => requests.send(request).err().map(|unsent| unsent.0),
            None => Some(request),
        };
        if let Some(request) = unsent {
            (request.done)(Err(StoreError::Closed));
        }
    }

    fn backlog(&self) -> usize {
        self.shared.backlog()
    }

    async fn ready(&self) {
        self.shared.wait_room().await;
    }

    fn stats(&self) -> StoreStats {
        let index = self.shared.index.lock();
        let messages = index.state().messages();
        let (segments, used_bytes, live_bytes) = (index.segments(), index.used(), index.live());
        drop(index);
        let syncs = self.shared.syncs.spread();
        StoreStats {
            messages,
            disk_bytes: self.pool.disk_bytes(),
            batches: self.shared.batches(),
            syncs: syncs.count,
            backlog_bytes: self.shared.backlog() as u64,
            journal: Some(JournalStats {
                segments,
                used_bytes,
                live_bytes,
                sync_micros: syncs,
                turn_batches: self.shared.turn_batches.spread(),
                turn_bytes: self.shared.turn_bytes.spread(),
                ..self.opened
            }),
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        self.shared.stop(Stop::Close);
        self.join();
        if self.shared.may_write().is_ok() {
            self.pool.clear();
        }
        self.disk.unlock();
        self.shared.failure().map_or(Ok(()), Err)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.stop(Stop::Abandon);
        let me = std::thread::current().id();
        let on_own_thread = self
            .threads
            .get_mut()
            .iter()
            .any(|thread| thread.thread().id() == me);
        // A callback may hold the last handle. The lock goes with the threads then.
        if !on_own_thread {
            self.join();
            self.disk.unlock();
        }
    }
}
