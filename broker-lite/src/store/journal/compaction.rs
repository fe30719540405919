//! Moving the few messages of an old segment forward, so that it can be reclaimed.
//!
//! Segments are reclaimed oldest first, so one message that nobody takes would keep everything behind it.
//! When the log is more than twice as long as what is needed of it, the oldest segment is walked through
//! and what is still there is written again, at the end of the log. That costs at most about one byte
//! written for each byte freed, and leaves a log of at most about twice what is stored, and a few segments.
//! It comes to an end because copies lie close together: no more than an eighth of a segment is catalog. A message
//! that lies at several keys is copied once, and what says where else it lies stands behind it.

use std::sync::Arc;

use super::super::StoreError;
use super::frame::{ALIGN, FrameHeader, FrameKind, HEADER, begin_frame, frame_len};
use super::index::{Copied, Index, Location, Survivor};
use super::record::{PutRecord, RECORD_PREFIX, SHARE_LEN, encode_copy, is_put, put_key_of, record_len};
use super::segment::Segment;
use super::shared::Shared;
use super::window::Window;
use super::writer::{Pending, Purpose, Writer};

/// The log may be so many times as long as what is needed of it.
const ALLOWED_FACTOR: u64 = 2;

/// And this many segments longer: a short log is not worth the work.
const ALLOWED_SEGMENTS: u64 = 2;

/// What is copied in a turn, in bytes: batches that wait are held up for about a millisecond.
const COPIED_IN_A_TURN: usize = 1024 * 1024;

/// What is walked through in a turn, in bytes.
const WALKED_IN_A_TURN: u64 = 4 * 1024 * 1024;

/// How much is read at a time.
const READ_AHEAD: usize = 1024 * 1024;

/// Where compaction stands.
#[derive(Default)]
pub(super) struct Compaction {
    segment_size: u64,
    /// Segments before this one are to be moved on however little that saves.
    before: u32,
    walk: Option<Walk>,
    /// There was no room for copies.
    stalled: bool,
    /// A segment could not be read to its end.
    broken: bool,
}

/// How far a segment has been walked through.
#[derive(Clone)]
struct Walk {
    segment: Arc<Segment>,
    end: u64,
    /// The next frame or, inside a frame, the next record.
    at: u64,
    /// The frame the next record is in: where its payload ends.
    frame: Option<u64>,
}

impl Compaction {
    pub(super) fn new(segment_size: u64) -> Self {
        Self {
            segment_size,
            ..Self::default()
        }
    }

    /// A turn begins: something may have become free since there was no room for copies, and somebody may have asked
    /// for segments before this one to be moved on.
    pub(super) fn begin_turn(&mut self, before: u32) {
        self.stalled = false;
        self.before = before;
    }

    /// Segments before this one are given up: nothing may hold on to them.
    pub(super) fn given_up_before(&mut self, oldest: u32) {
        self.walk.take_if(|walk| walk.segment.number < oldest);
    }

    /// True if the oldest segment is to be moved on.
    pub(super) fn is_due(&self, index: &Index) -> bool {
        let Some((oldest, _)) = index.oldest() else {
            return false;
        };
        let allowed = ALLOWED_FACTOR * index.live() + ALLOWED_SEGMENTS * self.segment_size;
        let due = index.used() > allowed || oldest.number < self.before;
        due && !self.stalled && !self.broken
    }

    /// Moves on some of what the oldest segment still holds.
    pub(super) fn step(&mut self, writer: &mut Writer) -> Result<(), StoreError> {
        let walk = self.next_walk(&writer.shared);
        let Some(mut walk) = walk else {
            return Ok(());
        };
        let start = begin_frame(&mut writer.buffer);
        let copies = match walk.collect(writer, start) {
            Ok(copies) => copies,
            Err(why) => {
                writer.buffer.truncate(start);
                self.give_up(&walk, &why, &writer.shared);
                return Ok(());
            }
        };
        if copies.is_empty() {
            writer.buffer.truncate(start);
            self.walk = Some(walk);
            return Ok(());
        }
        match writer.place(start, FrameKind::Copies, Purpose::Copies) {
            Ok(at) => {
                let moved = copies.into_iter().map(|copied| Copied {
                    to: copied.to.moved_to(at),
                    ..copied
                });
                writer.pending.push(Pending::Copies(moved.collect()));
                self.walk = Some(walk);
                Ok(())
            }
            Err(error @ (StoreError::Full(_) | StoreError::Refused(_))) => {
                self.stalled = true;
                writer.shared.fail_compaction(error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The walk through the oldest segment, begun or gone on with.
    fn next_walk(&mut self, shared: &Shared) -> Option<Walk> {
        let index = shared.index.lock();
        let (oldest, end) = index.oldest()?;
        let begun = self
            .walk
            .clone()
            .filter(|walk| walk.segment.number == oldest.number);
        let walk = begun.unwrap_or_else(|| Walk {
            segment: oldest.clone(),
            end: end.into(),
            at: 0,
            frame: None,
        });
        drop(index);
        if walk.at >= walk.end {
            self.give_up(&walk, "not every message it should hold was found", shared);
            return None;
        }
        Some(walk)
    }

    /// Leaves the log as long as it is: nothing is lost.
    fn give_up(&mut self, walk: &Walk, why: &str, shared: &Shared) {
        let name = walk.segment.name();
        tracing::error!("{name} cannot be compacted: {why}");
        self.broken = true;
        self.walk = None;
        shared.fail_compaction(StoreError::Damaged {
            file: name,
            offset: walk.at,
            reason: why.to_owned(),
        });
    }
}

impl Walk {
    /// Appends copies of messages that are still there to the writer's buffer, up to the limits of a turn.
    /// Their places are counted from `start` in the buffer.
    fn collect(&mut self, writer: &mut Writer, start: usize) -> Result<Vec<Copied>, String> {
        let segment = self.segment.clone();
        let mut window = Window::new(&*segment.file, self.end, READ_AHEAD);
        let mut copies = Vec::new();
        let begin = self.at;
        while self.at < self.end && self.at - begin < WALKED_IN_A_TURN {
            let Some(frame_end) = self.frame else {
                self.enter_frame(&mut window)?;
                continue;
            };
            if self.at >= frame_end {
                self.at = self.at.next_multiple_of(ALIGN as u64);
                self.frame = None;
                continue;
            }
            let left = usize::try_from(frame_end - self.at).unwrap_or(usize::MAX);
            let prefix = window.get(self.at, left.min(RECORD_PREFIX));
            let prefix = prefix.map_err(|error| error.to_string())?;
            let length = record_len(prefix)
                .filter(|&length| length <= left)
                .ok_or_else(|| format!("no record at byte {}", self.at))?;
            let survivor = self.survivor(prefix, &writer.shared.index.lock());
            if let Some(survivor) = survivor {
                let copied = writer.buffer.len() - start;
                let copy = length + survivor.others.len() * SHARE_LEN;
                if !copies.is_empty() && copied + copy > COPIED_IN_A_TURN {
                    break;
                }
                let key = survivor.key;
                let record = window.get(self.at, length).map_err(|error| error.to_string())?;
                let Some(put) = PutRecord::parse(record) else {
                    return Err(format!("message {} is damaged at byte {}", key.sequence, self.at));
                };
                let initial = put.redelivered;
                encode_copy(record, key, &mut writer.buffer);
                let index = writer.shared.index.lock();
                index.encode_beside(&survivor, initial, &mut writer.buffer);
                drop(index);
                let from = survivor.location;
                let to = Location {
                    offset: copied as u32,
                    ..from
                };
                copies.push(Copied {
                    key,
                    others: survivor.others,
                    from,
                    to,
                });
            }
            self.at += length as u64;
        }
        Ok(copies)
    }

    fn enter_frame(&mut self, window: &mut Window<'_>) -> Result<(), String> {
        let header = window.get(self.at, HEADER).map_err(|error| error.to_string())?;
        let header = FrameHeader::parse(header).ok_or_else(|| format!("no frame at byte {}", self.at))?;
        match header.kind() {
            Some(FrameKind::Batch | FrameKind::Copies) => {
                self.at += HEADER as u64;
                self.frame = Some(self.at + header.length as u64);
            }
            _ => self.at += frame_len(header.length) as u64,
        }
        Ok(())
    }

    /// The message whose record begins so and stands here, if it is needed.
    fn survivor(&self, prefix: &[u8], index: &Index) -> Option<Survivor> {
        if !is_put(prefix) {
            return None;
        }
        let offset = u32::try_from(self.at).ok()?;
        index.survivor(put_key_of(prefix)?, self.segment.number, offset)
    }
}
