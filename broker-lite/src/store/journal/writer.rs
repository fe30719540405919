//! The writer: the one thread that appends to the log.
//!
//! It works in turns. Each takes everything that waits, writes it with one call for each segment it touches,
//! makes it durable with one sync, and calls back. What arrives meanwhile is the next turn: the sync in
//! progress is the time in which batches gather, and no timer is needed.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use openwire_client::wire::ProducerId;
use rustc_hash::FxHashMap;

use super::super::check::{Kind, Plan, check};
use super::super::line::Group;
use super::super::state::producer_of;
use super::super::{Batch, DestinationKey, MessageKey, Op, StoreError, accounting_size};
use super::Durability;
use super::compaction::Compaction;
use super::disk::is_full;
use super::frame::{
    FrameKind, HEADER, MAX_PAYLOAD, Position, begin_frame, encode_reclaim, end_frame, frame_len,
};
use super::index::{Copied, Location};
use super::keeper::Task;
use super::record::encode_op;
use super::segment::{END_ROOM, Pool, SEAL_ROOM, Segment};
use super::shared::{Shared, Stop, Waiting, Work};

/// A buffer that grew larger than this for one turn is given back after it.
const KEPT_BUFFER: usize = 32 * 1024 * 1024;

/// While the disk has no room for another segment, messages leave this part of the last one to
/// acknowledgements, and all of a makeshift one: only they can make room.
const ACKNOWLEDGEMENT_SHARE: u64 = 8;

/// How soon a write that found no space is tried again.
const RETRY_WRITE: Duration = Duration::from_millis(200);

/// What a frame is for, which decides how far it may fill the last segment of a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It takes messages in.
    Messages,
    /// It makes room in the end.
    Copies,
    /// It takes nothing in.
    Upkeep,
    /// It makes room.
    Reclaim,
}

/// What is encoded and not yet in the index.
pub(super) enum Pending {
    Batch(Batch),
    Copies(Vec<Copied>),
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pool: Arc<Pool>,
    keeper: Sender<Task>,
    durability: Durability,
    /// The random number of the journal.
    journal: u64,
    active: Arc<Segment>,
    /// Where in the active segment the buffer belongs.
    offset: u32,
    pub(super) buffer: BytesMut,
    pub(super) pending: Vec<Pending>,
    /// Where the messages of the pending batches lie.
    locations: Vec<Location>,
    /// The same of the batch at hand.
    places: Vec<Location>,
    /// Which destinations exist once everything pending is applied.
    destinations: FxHashMap<DestinationKey, Kind>,
    /// What was applied in this turn: dropped after the callbacks.
    applied: Vec<Pending>,
    /// Bytes written in this turn.
    written: u64,
    /// Segments written to and not synced.
    unsynced: Vec<Arc<Segment>>,
    synced: Position,
    /// When the interval ends that began with the first write after the last sync.
    sync_due: Option<Instant>,
    /// A sync is due for another reason.
    sync_wanted: bool,
    /// The segment that was made ready for when this one is half full.
    replenished: u32,
    /// Segments that hold nothing needed, before the log says so.
    reclaimable: Vec<Arc<Segment>>,
    /// The same after the log says so, up to where.
    reclaimed: Vec<(Position, Arc<Segment>)>,
    /// The disk was found full in this turn.
    full: Option<StoreError>,
    compaction: Compaction,
    /// There is something to do even if nothing waits.
    chores: bool,
}

/// Answers everybody, whatever ends the writer.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison(StoreError::Poisoned("the writer panicked".into()));
        }
        let failure = self.0.failure().unwrap_or(StoreError::Closed);
        for waiting in self.0.give_up(Stop::Abandon) {
            (waiting.done)(Err(failure.clone()));
            self.0.answered(waiting.bytes, 0);
        }
        self.0.end();
    }
}

impl Writer {
    /// A writer that goes on in a fresh segment, whose catalog is written and durable up to `at`.
    pub(super) fn new(
        shared: Arc<Shared>,
        pool: Arc<Pool>,
        keeper: Sender<Task>,
        durability: Durability,
        journal: u64,
        (active, at): (Arc<Segment>, Position),
        compaction: Compaction,
    ) -> Self {
        let index = shared.index.lock();
        let destinations = index.state().destinations();
        let destinations = destinations
            .map(|(key, stored)| (key, Kind::from(&stored.destination)))
            .collect();
        drop(index);
        Self {
            shared,
            pool,
            keeper,
            durability,
            journal,
            active,
            offset: at.offset,
            buffer: BytesMut::new(),
            pending: Vec::new(),
            locations: Vec::new(),
            places: Vec::new(),
            destinations,
            applied: Vec::new(),
            written: 0,
            unsynced: Vec::new(),
            synced: at,
            sync_due: None,
            sync_wanted: false,
            replenished: 0,
            reclaimable: Vec::new(),
            reclaimed: Vec::new(),
            full: None,
            compaction,
            chores: true,
        }
    }

    /// Works until the journal stops.
    pub(super) fn run(mut self) {
        let _guard = Guard(self.shared.clone());
        while self.work() {}
    }

    /// Waits for what is to be done next and does it; false if the journal has stopped.
    pub(super) fn work(&mut self) -> bool {
        match self.shared.next_work(self.sync_due, self.chores) {
            Work::Turn(group) => {
                self.turn(group);
                true
            }
            Work::Stop(Stop::Close) => {
                if self.shared.failure().is_none()
                    && let Err(failure) = self.close()
                {
                    self.shared.poison(failure);
                }
                false
            }
            Work::Stop(Stop::Abandon) => false,
        }
    }

    /// True if it would not have to wait.
    #[cfg(test)]
    pub(super) fn has_work(&self) -> bool {
        let is_due = self.sync_due.is_some_and(|due| due <= Instant::now());
        self.chores || is_due || self.shared.has_work()
    }

    fn turn(&mut self, group: Group<Waiting>) {
        let begins = Instant::now();
        let Group {
            batches: waiting,
            awaited,
        } = group;
        let count = waiting.len() as u64;
        let mut bytes = 0;
        let mut answers = Vec::with_capacity(waiting.len());
        self.full = None;
        self.synced = self.shared.synced();
        let mut failure = self.shared.failure();
        if failure.is_none() {
            failure = self.do_chores(count > 0).err();
        }
        for Waiting {
            batch,
            bytes: size,
            done,
        } in waiting
        {
            bytes += size;
            let result = match &failure {
                Some(failure) => Err(failure.clone()),
                None => self.add(batch, size),
            };
            if let Err(error @ StoreError::Poisoned(_)) = &result {
                failure = Some(error.clone());
            }
            answers.push((done, result));
        }
        if failure.is_none() {
            failure = self.commit(count).err();
        }
        if let Some(failure) = &failure {
            self.shared.poison(failure.clone());
            self.chores = false;
            self.sync_due = None;
        }
        self.shared.wrote(awaited, begins.elapsed());
        let mut durable = 0;
        for (done, result) in answers {
            let result = failure.clone().map_or(result, Err);
            durable += u64::from(result.is_ok());
            done(result);
        }
        self.shared.answered(bytes, durable);
        self.applied.clear();
    }

    /// Encodes a batch into the buffer.
    fn add(&mut self, batch: Batch, size: usize) -> Result<(), StoreError> {
        if batch.ops.is_empty() {
            return Ok(());
        }
        if size > MAX_PAYLOAD {
            return Err(too_large(size));
        }
        let changes = check(&batch, |key| self.destinations.get(&key).copied())?;
        // What was encoded before is brought into the index to know whether a message is there.
        let plan = Plan::of(&batch, |key| {
            self.flush()?;
            Ok(self.shared.index.lock().state().get(key).is_some())
        })?;
        let start = begin_frame(&mut self.buffer);
        self.places.clear();
        let mut shares = false;
        for (index, op) in batch.ops.iter().enumerate() {
            if plan.is_idle(index) {
                continue;
            }
            let record = self.buffer.len();
            let encoded = match op {
                Op::Move { from, .. } => {
                    let sender = self.sender(*from, plan.put_of(index).and_then(|put| batch.ops.get(put)));
                    let sender = sender.as_ref().map(|(producer, number)| (producer, *number));
                    encode_op(op, sender, &mut self.buffer)
                }
                _ => encode_op(op, None, &mut self.buffer),
            };
            if let Err(error) = encoded {
                self.buffer.truncate(start);
                return Err(error);
            }
            shares |= matches!(op, Op::Share { .. });
            if let Op::Put { message, .. } = op {
                self.places.push(Location {
                    segment: 0,
                    offset: (record - start) as u32,
                    length: (self.buffer.len() - record) as u32,
                    size: accounting_size(message),
                });
            }
            let payload = self.buffer.len() - start - HEADER;
            if payload > MAX_PAYLOAD {
                self.buffer.truncate(start);
                return Err(too_large(payload));
            }
        }
        let purpose = match self.places.is_empty() && !shares {
            true => Purpose::Upkeep,
            false => Purpose::Messages,
        };
        let at = self.place(start, FrameKind::Batch, purpose)?;
        self.locations
            .extend(self.places.drain(..).map(|place| place.moved_to(at)));
        for (key, kind) in changes {
            match kind {
                Some(kind) => self.destinations.insert(key, kind),
                None => self.destinations.remove(&key),
            };
        }
        self.pending.push(Pending::Batch(batch));
        Ok(())
    }

    /// Who sent a message that is moved, if it lies on a transaction: it counts from here on. `put` is what put
    /// it, if that is in the same batch; if not, the index knows the message.
    fn sender(&self, from: MessageKey, put: Option<&Op>) -> Option<(ProducerId, i64)> {
        let owned = |(producer, number): (&ProducerId, i64)| (producer.clone(), number);
        match put {
            Some(Op::Put { message, .. }) => producer_of(message).map(owned),
            _ => self.shared.index.lock().state().sender(from).map(owned),
        }
    }

    /// Completes the frame that begins at `start` in the buffer and says where it stands in the log, which
    /// may be in a new segment. After an error the frame is gone and everything else as it was.
    pub(super) fn place(
        &mut self,
        mut start: usize,
        kind: FrameKind,
        purpose: Purpose,
    ) -> Result<Position, StoreError> {
        let length = frame_len(self.buffer.len() - start - HEADER) as u64;
        if !self.fits(start, length, purpose) {
            let frame = self.buffer.split_off(start);
            if let Some(full) = &self.full {
                return Err(full.clone());
            }
            if let Err(error) = self.roll(length, purpose) {
                if matches!(error, StoreError::Full(_)) {
                    self.full = Some(error.clone());
                }
                return Err(error);
            }
            start = self.buffer.len();
            self.buffer.extend_from_slice(&frame);
        }
        let at = self.position(start);
        end_frame(&mut self.buffer, start, kind, self.journal, at, self.synced);
        Ok(at)
    }

    fn fits(&self, start: usize, length: u64, purpose: Purpose) -> bool {
        let end = u64::from(self.offset) + start as u64 + length;
        let share = match self.pool.is_makeshift(&self.active) {
            true => self.active.len,
            false => self.active.len / ACKNOWLEDGEMENT_SHARE,
        };
        match purpose {
            Purpose::Messages if end + END_ROOM > self.active.len => false,
            Purpose::Messages => end + END_ROOM + share <= self.active.len || !self.pool.is_exhausted(),
            Purpose::Copies | Purpose::Upkeep => end + END_ROOM <= self.active.len,
            Purpose::Reclaim => end + SEAL_ROOM <= self.active.len,
        }
    }

    /// Where in the log a place in the buffer is.
    fn position(&self, in_buffer: usize) -> Position {
        Position {
            segment: self.active.number,
            offset: self.offset + in_buffer as u32,
        }
    }

    /// Seals the segment and goes on in the next one, which has room for a frame of this length.
    fn roll(&mut self, length: u64, purpose: Purpose) -> Result<(), StoreError> {
        self.flush()?;
        let number = self.active.number.checked_add(1);
        let number = number.ok_or_else(|| StoreError::Refused("the journal has no number left".into()))?;
        let mut catalog = BytesMut::new();
        let start = begin_frame(&mut catalog);
        self.shared.index.lock().catalog().encode(&mut catalog);
        let catalog_len = frame_len(catalog.len() - start - HEADER) as u64;
        self.shared.may_write()?;
        let makeshift = matches!(purpose, Purpose::Upkeep | Purpose::Reclaim);
        let segment = self.pool.segment(number, catalog_len, length, makeshift)?;

        let seal = begin_frame(&mut self.buffer);
        let at = self.position(seal);
        end_frame(
            &mut self.buffer,
            seal,
            FrameKind::Seal,
            self.journal,
            at,
            self.synced,
        );
        self.flush()?;

        self.shared.index.lock().add_segment(segment.clone());
        self.active = segment;
        self.offset = 0;
        let at = self.position(0);
        end_frame(
            &mut catalog,
            start,
            FrameKind::Catalog,
            self.journal,
            at,
            self.synced,
        );
        self.buffer.extend_from_slice(&catalog);
        self.sync_wanted = true;
        Ok(())
    }

    /// Writes the buffer and brings the index up to it.
    fn flush(&mut self) -> Result<(), StoreError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.shared.may_write()?;
        self.write()?;
        self.written += self.buffer.len() as u64;
        self.offset += self.buffer.len() as u32;
        if self.unsynced.last().map(|last| last.number) != Some(self.active.number) {
            self.unsynced.push(self.active.clone());
        }
        let mut index = self.shared.index.lock();
        index.set_end(self.offset);
        let mut locations = self.locations.drain(..);
        for pending in &self.pending {
            match pending {
                Pending::Batch(batch) => index.apply(batch, &mut locations),
                Pending::Copies(copies) => index.apply_copies(copies),
            }
        }
        drop(index);
        drop(locations);
        self.applied.append(&mut self.pending);
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = BytesMut::new();
        }
        self.buffer.clear();
        Ok(())
    }

    /// Writes the buffer where it belongs.
    ///
    /// The space for it was taken when the segment was made. Where a file system gives it to somebody else all the same,
    /// as one that copies on write may do, everybody waits until there is space: nothing was answered yet, and what
    /// was written of the buffer is written again.
    fn write(&self) -> Result<(), StoreError> {
        let mut waits = false;
        loop {
            match self.active.file.write_all_at(&self.buffer, self.offset.into()) {
                Ok(()) => break,
                Err(error) if is_full(&error) => {
                    if !std::mem::replace(&mut waits, true) {
                        tracing::error!("{}: {error}: the journal waits for space", self.active.name());
                        self.pool.clear();
                        continue;
                    }
                    if self.shared.is_stopped_within(RETRY_WRITE) {
                        return Err(self.active.poisoned("writing", &error));
                    }
                    self.shared.may_write()?;
                }
                Err(error) => return Err(self.active.poisoned("writing", &error)),
            }
        }
        if waits {
            tracing::info!("{}: there is space again", self.active.name());
        }
        Ok(())
    }

    /// Writes what was encoded in this turn and makes it as durable as asked for.
    fn commit(&mut self, batches: u64) -> Result<(), StoreError> {
        self.flush()?;
        let written = std::mem::take(&mut self.written);
        if batches > 0 {
            self.shared.add_written(batches);
            self.shared.turn_batches.note(batches);
            self.shared.turn_bytes.note(written);
        }
        match self.durability {
            Durability::Always => self.sync()?,
            Durability::Interval(interval) => {
                let now = Instant::now();
                if self.sync_due.is_some_and(|due| due <= now) {
                    self.sync_wanted = true;
                }
                if self.sync_wanted {
                    self.sync_later();
                    self.sync_due = None;
                } else if !self.unsynced.is_empty() && self.sync_due.is_none() {
                    self.sync_due = Some(now + interval);
                }
            }
            Durability::Os if self.sync_wanted => self.sync_later(),
            Durability::Os => {}
        }
        // What is answered was written by a master, so the next one finds it.
        self.shared.may_write()?;
        self.sync_wanted = false;
        for (after, segment) in self.reclaimed.drain(..) {
            tell(&self.keeper, Task::Retire { segment, after });
        }
        if self.replenished != self.active.number && u64::from(self.offset) > self.active.len / 2 {
            self.replenished = self.active.number;
            tell(&self.keeper, Task::Replenish);
        }
        let index = self.shared.index.lock();
        self.chores = index.can_reclaim() || self.compaction.is_due(&index);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        let begin = Instant::now();
        for segment in self.unsynced.drain(..) {
            let synced = segment.file.sync();
            synced.map_err(|error| segment.poisoned("syncing", &error))?;
        }
        self.shared.may_write()?;
        self.shared.note_sync(begin);
        self.synced = self.position(self.buffer.len());
        self.shared.set_synced(self.synced);
        Ok(())
    }

    /// Has the keeper sync what was written: nobody waits for it.
    fn sync_later(&mut self) {
        if !self.unsynced.is_empty() {
            let segments = std::mem::take(&mut self.unsynced);
            let upto = self.position(0);
            tell(&self.keeper, Task::Sync { segments, upto });
        }
    }

    /// Gives up segments and moves messages on. Before any batch of the turn: the index is up to date.
    fn do_chores(&mut self, batches: bool) -> Result<(), StoreError> {
        let index = &self.shared.index;
        self.reclaimable
            .extend(std::iter::from_fn(|| index.lock().reclaim()));
        if !self.reclaimable.is_empty() {
            self.reclaim()?;
        }
        if batches {
            self.compaction.begin_turn(self.shared.compact_before());
        }
        if self.compaction.is_due(&self.shared.index.lock()) {
            let mut compaction = std::mem::take(&mut self.compaction);
            let result = compaction.step(self);
            self.compaction = compaction;
            result?;
        }
        Ok(())
    }

    /// Says in the log that segments are not needed; the keeper has them after that is durable.
    fn reclaim(&mut self) -> Result<(), StoreError> {
        let oldest = self.shared.index.lock().oldest_number();
        let oldest = oldest.unwrap_or(self.active.number);
        self.compaction.given_up_before(oldest);
        let start = begin_frame(&mut self.buffer);
        encode_reclaim(oldest, &mut self.buffer);
        match self.place(start, FrameKind::Reclaim, Purpose::Reclaim) {
            Ok(_) => {}
            // Tried again in the next turn.
            Err(StoreError::Full(_) | StoreError::Refused(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        let after = self.position(self.buffer.len());
        self.reclaimed
            .extend(self.reclaimable.drain(..).map(|segment| (after, segment)));
        self.sync_wanted = true;
        Ok(())
    }

    /// Makes everything durable and says that the journal was closed in order.
    fn close(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        // The keeper may not have come to what it was told to sync.
        let from = self.shared.synced().segment;
        self.unsynced = self.shared.index.lock().segments_from(from);
        self.sync()?;
        let start = begin_frame(&mut self.buffer);
        let at = self.position(start);
        end_frame(
            &mut self.buffer,
            start,
            FrameKind::Close,
            self.journal,
            at,
            self.synced,
        );
        self.flush()?;
        self.sync()?;
        // What was reserved behind it is for whoever needs the space.
        if let Err(error) = self.active.file.truncate(self.offset.into()) {
            tracing::warn!("{} is longer than it need be: {error}", self.active.name());
        }
        Ok(())
    }
}

fn tell(keeper: &Sender<Task>, task: Task) {
    // It ends after the writer only, unless it panicked: then there is nobody to tell.
    let _ = keeper.send(task);
}

fn too_large(bytes: usize) -> StoreError {
    StoreError::Refused(format!(
        "a batch of {bytes} bytes is larger than the journal's limit of {MAX_PAYLOAD}"
    ))
}
