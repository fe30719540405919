//! From the files back to the state, and what to make of bytes that are no frame.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openwire_client::wire::ProducerId;

use super::super::{DEFAULT_PRIORITY, Header, StoreError};
use super::catalog::{Catalog, parse_begin};
use super::disk::Disk;
use super::epoch::{Epoch, Head, Lineage, Part};
use super::frame::{FrameKind, HEADER, Position, frame_len, parse_reclaim};
use super::index::{Index, Location};
use super::record::Record;
use super::segment::{FIRST_SEGMENT, Segment, segment_name, segment_number};
use super::window::Window;

/// How much of a segment is read at a time.
const READ_AHEAD: usize = 4 * 1024 * 1024;

/// How often it is told how far reading has come: whoever waits for a start wants to know that it goes on.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// How the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// In the middle of a segment: the journal was not closed.
    Open,
    /// With a full segment.
    Sealed,
    /// In order.
    Closed,
}

/// What the files held.
pub(super) struct Recovery {
    pub(super) index: Index,
    /// The random number of the journal; none if there is no journal yet.
    pub(super) journal: Option<u64>,
    /// Where the log ends.
    pub(super) end: Position,
    pub(super) ending: Ending,
    /// Up to here the log is known to be durable.
    pub(super) synced: Position,
    /// Segments that are not part of the log, the oldest first.
    pub(super) leftovers: Vec<String>,
    /// The newest epoch so far.
    pub(super) epoch: Epoch,
    /// The oldest segment that is still needed, as the log says.
    oldest: u32,
    /// Who sent the last message that was read.
    sender: Option<ProducerId>,
    /// How many records of messages stand in each segment.
    pub(super) records: BTreeMap<u32, u64>,
    /// Of the records that say something unusual, where they stand, priority and expiration; in order of the places.
    /// Only needed until the core knows.
    unusual: Vec<(Position, u8, i64)>,
}

impl Recovery {
    /// What is known of the message whose record lies here.
    pub(super) fn header(&self, location: &Location) -> Header {
        let at = Position {
            segment: location.segment,
            offset: location.offset,
        };
        let unusual = self.unusual.binary_search_by_key(&at, |(at, ..)| *at);
        let (priority, expiration) = match unusual.ok().and_then(|found| self.unusual.get(found)) {
            Some(&(_, priority, expiration)) => (priority, expiration),
            None => (DEFAULT_PRIORITY, 0),
        };
        Header {
            size: location.size,
            priority,
            expiration,
        }
    }
}

/// Reads the log.
///
/// A frame that is not valid ends it if it can be part of what was being written when the process or the
/// machine stopped. It cannot if a later frame says that it was durable: then the journal is damaged.
pub(super) fn recover(disk: &dyn Disk) -> Result<Recovery, StoreError> {
    let Files { stale, log, heads } = files(disk)?;
    let mut recovery = Recovery {
        index: Index::default(),
        journal: None,
        end: Position::default(),
        ending: Ending::Closed,
        synced: Position::default(),
        leftovers: Vec::new(),
        epoch: Epoch::default(),
        oldest: 0,
        sender: None,
        records: BTreeMap::new(),
        unusual: Vec::new(),
    };
    let lineage = Lineage::of(heads);
    recovery.epoch = lineage.newest;
    recovery.read_log(&lineage.log)?;
    if let Some(first) = lineage.log.first()
        && recovery.journal.is_some()
        && recovery.oldest < first.segment.number
    {
        let missing = first.segment.number - 1;
        let reason = match log.contains(&missing) {
            true => "the catalog of the segment cannot be read",
            false => "the segment is missing",
        };
        return Err(StoreError::Damaged {
            file: segment_name(missing),
            offset: 0,
            reason: reason.into(),
        });
    }
    let stale = stale.iter().map(|&number| segment_name(number));
    recovery.leftovers.extend(stale.chain(lineage.leftovers));
    recovery.leftovers.sort_unstable();
    Ok(recovery)
}

/// The segments that are there.
struct Files {
    /// They were given up, and some between them have gone already.
    stale: Vec<u32>,
    /// Those behind, whose numbers follow each other.
    log: Vec<u32>,
    heads: Vec<Head>,
}

fn files(disk: &dyn Disk) -> Result<Files, StoreError> {
    let mut listed = Vec::new();
    loop {
        let mut numbers: Vec<u32> = disk
            .list()
            .map_err(|error| StoreError::Io(format!("the journal's directory: {error}")))?
            .iter()
            .filter_map(|name| segment_number(name))
            .collect();
        numbers.sort_unstable();
        let gap = numbers.windows(2).rposition(|pair| pair[0] + 1 != pair[1]);
        let log = numbers.split_off(gap.map_or(0, |before| before + 1));
        match heads(disk, &log) {
            Ok(heads) => {
                let stale = numbers;
                return Ok(Files { stale, log, heads });
            }
            // A former master was about to give it up.
            Err((_, error)) if error.kind() == io::ErrorKind::NotFound && listed != log => listed = log,
            Err((number, error)) => return Err(unreadable(number)(error)),
        }
    }
}

/// Opens these segments and reads how they begin; fails with the segment that cannot be read.
fn heads(disk: &dyn Disk, numbers: &[u32]) -> Result<Vec<Head>, (u32, io::Error)> {
    /// Most catalogs are smaller.
    const READ_AHEAD: usize = 4 * 1024;
    let mut journal = None;
    let mut heads = Vec::with_capacity(numbers.len());
    for &number in numbers {
        let failed = |error| (number, error);
        let file = disk.open(&segment_name(number)).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        let begin = Position {
            segment: number,
            offset: 0,
        };
        let mut window = Window::new(&*file, len, READ_AHEAD);
        let epoch = match window.frame(begin, journal).map_err(failed)? {
            Ok((header, mut payload)) if header.kind() == Some(FrameKind::Catalog) => {
                journal = Some(header.journal);
                parse_begin(&mut payload).ok().map(|(_, epoch)| epoch)
            }
            _ => None,
        };
        let segment = Arc::new(Segment {
            number,
            epoch: epoch.unwrap_or_default().number,
            len,
            file,
        });
        heads.push(Head { segment, epoch });
    }
    Ok(heads)
}

/// Bytes that are no frame where one was expected.
struct Invalid {
    at: Position,
    reason: &'static str,
}

fn damaged(at: Position, reason: &str) -> StoreError {
    StoreError::Damaged {
        file: segment_name(at.segment),
        offset: at.offset.into(),
        reason: reason.into(),
    }
}

fn unreadable(segment: u32) -> impl Fn(io::Error) -> StoreError {
    move |error| StoreError::Io(format!("{}: {error}", segment_name(segment)))
}

impl Recovery {
    /// Reads these segments, whose numbers follow each other.
    fn read_log(&mut self, log: &[Part]) -> Result<(), StoreError> {
        let mut told = Instant::now();
        for (index, part) in log.iter().enumerate() {
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                let messages = self.index.state().messages();
                tracing::info!(
                    "reading the journal: {index} of {} segments, {messages} messages",
                    log.len()
                );
            }
            let segment = &part.segment;
            let mut window = Window::new(&*segment.file, segment.len, READ_AHEAD);
            let Some(invalid) = self.read_segment(part, &mut window)? else {
                continue;
            };
            let later = &log[index + 1..];
            if self.was_durable(invalid.at, &mut window, later)? {
                return Err(damaged(invalid.at, invalid.reason));
            }
            return self.cut(&invalid, later);
        }
        Ok(())
    }

    /// Reads a segment up to its end, or to where no frame is.
    fn read_segment(&mut self, part: &Part, window: &mut Window<'_>) -> Result<Option<Invalid>, StoreError> {
        let segment = &part.segment;
        let mut at = Position {
            segment: segment.number,
            offset: 0,
        };
        loop {
            if part.sealed.is_some_and(|sealed| sealed <= at.offset) {
                self.ending = Ending::Sealed;
                return Ok(None);
            }
            let (header, payload) = match window
                .frame(at, self.journal)
                .map_err(unreadable(segment.number))?
            {
                Ok(frame) => frame,
                Err(reason) => return Ok(Some(Invalid { at, reason })),
            };
            let kind = header.kind();
            if (kind == Some(FrameKind::Catalog)) != (at.offset == 0) {
                return Err(damaged(at, "a segment has one catalog, at its begin"));
            }
            self.journal = Some(header.journal);
            self.synced = self.synced.max(header.synced);
            match kind {
                Some(FrameKind::Catalog) => self.read_catalog(at, payload, segment)?,
                Some(FrameKind::Batch) => self.read_records(at, payload, true)?,
                Some(FrameKind::Copies) => self.read_records(at, payload, false)?,
                Some(FrameKind::Reclaim) => {
                    let oldest = parse_reclaim(payload);
                    let oldest = oldest.ok_or_else(|| damaged(at, "a reclaim frame without number"))?;
                    self.oldest = self.oldest.max(oldest);
                }
                Some(FrameKind::Seal) => self.ending = Ending::Sealed,
                Some(FrameKind::Close) => self.ending = Ending::Closed,
                None => return Err(damaged(at, "a newer version wrote this frame")),
            }
            // The length was checked against that of the file.
            at.offset = at.offset.saturating_add(frame_len(header.length) as u32);
            self.end = at;
            self.index.set_end(at.offset);
            match kind {
                Some(FrameKind::Seal | FrameKind::Close) => return Ok(None),
                _ => self.ending = Ending::Open,
            }
        }
    }

    fn read_catalog(
        &mut self,
        at: Position,
        payload: &[u8],
        segment: &Arc<Segment>,
    ) -> Result<(), StoreError> {
        let catalog = Catalog::parse(payload).map_err(|reason| damaged(at, reason))?;
        // Who took over from somebody that had given up a segment, and not yet its file, says again that it is there.
        self.oldest = self.oldest.max(catalog.oldest);
        // The later ones say what the frames before them said.
        if self.index.oldest_number().is_none() {
            self.index.restore(catalog);
        }
        self.index.add_segment(segment.clone());
        Ok(())
    }

    fn read_records(&mut self, at: Position, payload: &[u8], arrived: bool) -> Result<(), StoreError> {
        let mut offset = 0;
        let mut messages = 0;
        while offset < payload.len() {
            let (record, length) = payload
                .get(offset..)
                .and_then(Record::parse)
                .ok_or_else(|| damaged(at, "a record that cannot be read"))?;
            match record {
                Record::Put(put) => {
                    messages += 1;
                    let location = Location {
                        segment: at.segment,
                        offset: at.offset + (HEADER + offset) as u32,
                        length: length as u32,
                        size: put.header.size,
                    };
                    if put.header.priority != DEFAULT_PRIORITY || put.header.expiration != 0 {
                        let place = Position {
                            segment: at.segment,
                            offset: location.offset,
                        };
                        self.unusual
                            .push((place, put.header.priority, put.header.expiration));
                    }
                    if !self.index.put(put.key, location, put.redelivered) {
                        return Err(damaged(at, "a message for a destination that does not exist"));
                    }
                    if let Some((producer, sequence)) = put.producer {
                        // Messages that lie together mostly have one producer.
                        let known = self.sender.take().filter(|known| producer.is(known));
                        let sender = known.unwrap_or_else(|| producer.id());
                        self.index.note_sender(put.key, &sender, sequence, !arrived);
                        self.sender = Some(sender);
                    }
                }
                Record::Remove { key } => self.index.remove(key),
                Record::Redelivered { key, count } => self.index.set_redelivered(key, count),
                Record::Dispatched {
                    destination,
                    sequence,
                } => self.index.set_dispatched(destination, sequence),
                Record::CreateDestination { key, destination } => {
                    self.index.create_destination(key, destination);
                }
                Record::RemoveDestination { key } => self.index.remove_destination(key),
                Record::Committed { outcome, forgotten } => self.index.note_outcome(outcome, forgotten),
                Record::Share { key, .. } | Record::Move { to: key, .. }
                    if self.index.state().destination(key.destination).is_none() =>
                {
                    return Err(damaged(at, "a message for a destination that does not exist"));
                }
                Record::Share { key, of } => self.index.replay_share(key, of),
                Record::Move { from, to, producer } => {
                    let sent = producer.map(|(producer, sequence)| (producer.id(), sequence));
                    self.index.replay_move(from, to, sent);
                }
                Record::Prepare {
                    destination,
                    prepared,
                } => {
                    if !self.index.prepare(destination, Arc::new(prepared)) {
                        return Err(damaged(at, "a prepared transaction that does not exist"));
                    }
                }
                Record::Due { key, at, times } => self.index.set_due(key, at, times),
            }
            offset += length;
        }
        *self.records.entry(at.segment).or_default() += messages;
        Ok(())
    }

    /// True if a later frame says that what should stand at `end` was durable.
    fn was_durable(
        &self,
        end: Position,
        window: &mut Window<'_>,
        later: &[Part],
    ) -> Result<bool, StoreError> {
        let failed = unreadable(end.segment);
        if window.has_claim_beyond(end, end, self.journal).map_err(failed)? {
            return Ok(true);
        }
        for Part { segment, .. } in later {
            let begin = Position {
                segment: segment.number,
                offset: 0,
            };
            let claimed = Window::new(&*segment.file, segment.len, READ_AHEAD)
                .has_claim_beyond(end, begin, self.journal)
                .map_err(unreadable(segment.number))?;
            if claimed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The log ends where no frame is, and what comes later never was part of it.
    fn cut(&mut self, invalid: &Invalid, later: &[Part]) -> Result<(), StoreError> {
        let Invalid { at, reason } = invalid;
        if at.offset == 0 {
            // Nothing was written to this segment yet. The first one ever has none before it.
            if self.journal.is_none() && at.segment != FIRST_SEGMENT {
                return Err(damaged(*at, reason));
            }
            self.leftovers.push(segment_name(at.segment));
        } else {
            tracing::warn!(
                "{} was not written to its end: it is cut at byte {} ({reason})",
                segment_name(at.segment),
                at.offset
            );
        }
        self.leftovers
            .extend(later.iter().map(|part| part.segment.name()));
        Ok(())
    }
}
