//! The reader: the thread that gets messages back from the files.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use bytes::{Bytes, BytesMut};
use openwire_client::wire::Message;

use super::super::{Loaded, MessageKey, StoreError};
use super::index::Location;
use super::record::PutRecord;
use super::segment::Segment;
use super::shared::Shared;

/// Records that lie together are read with one call of at most so many bytes.
const RUN: u32 = 1024 * 1024;

/// Bytes between two records that are rather read than skipped.
const GAP: u32 = 16 * 1024;

/// How many keys are looked up at a time: the writer waits meanwhile.
const LOOKUP: usize = 256;

/// Messages to get back.
pub(super) struct Request {
    pub(super) keys: Vec<MessageKey>,
    /// The batches appended before: they have to be written first.
    pub(super) after: u64,
    pub(super) done: Loaded,
}

/// A record to read, and for which key.
struct Read {
    slot: usize,
    location: Location,
    segment: Arc<Segment>,
    /// The key in the record, which is another one if the message was shared or moved.
    own: MessageKey,
}

pub(super) type Answers = Vec<(MessageKey, Option<Arc<Message>>)>;

/// Answers requests until nobody can send another.
pub(super) fn run(requests: &Receiver<Request>, shared: &Shared) {
    while let Ok(Request { keys, after, done }) = requests.recv() {
        done(shared.wait_written(after).and_then(|()| load(shared, &keys)));
    }
}

/// Reads messages back.
pub(super) fn load(shared: &Shared, keys: &[MessageKey]) -> Result<Answers, StoreError> {
    let mut answers: Answers = keys.iter().map(|&key| (key, None)).collect();
    let mut reads = locate(shared, keys);
    reads.sort_unstable_by_key(|read| (read.location.segment, read.location.offset));
    let mut scratch = Vec::new();
    let mut rest = &reads[..];
    while !rest.is_empty() {
        let (run, later) = rest.split_at(run_length(rest));
        read_run(run, &mut scratch, &mut answers)?;
        rest = later;
    }
    Ok(answers)
}

/// Finds where the messages lie. The segments cannot be used again while they are held.
fn locate(shared: &Shared, keys: &[MessageKey]) -> Vec<Read> {
    let mut reads = Vec::with_capacity(keys.len());
    for (chunk, keys) in keys.chunks(LOOKUP).enumerate() {
        let index = shared.index.lock();
        reads.extend(keys.iter().enumerate().filter_map(|(slot, &key)| {
            let (location, segment, own) = index.locate(key)?;
            Some(Read {
                slot: chunk * LOOKUP + slot,
                location,
                segment: segment.clone(),
                own,
            })
        }));
    }
    reads
}

fn end_of(location: &Location) -> u32 {
    location.offset.saturating_add(location.length)
}

/// How many of these records, in order of their places, are read with one call.
fn run_length(reads: &[Read]) -> usize {
    let Some(first) = reads.first().map(|read| read.location) else {
        return 0;
    };
    let together = reads.windows(2).take_while(|pair| {
        let (last, next) = (&pair[0].location, &pair[1].location);
        next.segment == first.segment
            && next.offset.saturating_sub(end_of(last)) <= GAP
            && end_of(next) - first.offset <= RUN
    });
    1 + together.count()
}

/// Reads records that lie together.
fn read_run(run: &[Read], scratch: &mut Vec<u8>, answers: &mut Answers) -> Result<(), StoreError> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return Ok(());
    };
    let segment = &first.segment;
    let offset = first.location.offset;
    let unreadable = |error| StoreError::Io(format!("reading {} at byte {offset}: {error}", segment.name()));
    if run.len() == 1 {
        let mut record = BytesMut::zeroed(first.location.length as usize);
        segment
            .file
            .read_exact_at(&mut record, offset.into())
            .map_err(unreadable)?;
        return answer(first, &record.freeze(), answers);
    }
    scratch.resize((end_of(&last.location) - offset) as usize, 0);
    segment
        .file
        .read_exact_at(scratch, offset.into())
        .map_err(unreadable)?;
    for read in run {
        let start = (read.location.offset - offset) as usize;
        // Copied, so that one message that stays in memory does not keep the whole run there.
        let record = Bytes::copy_from_slice(&scratch[start..start + read.location.length as usize]);
        answer(read, &record, answers)?;
    }
    Ok(())
}

fn answer(read: &Read, record: &Bytes, answers: &mut Answers) -> Result<(), StoreError> {
    let (key, answer) = &mut answers[read.slot];
    let damaged = |reason: String| StoreError::Damaged {
        file: read.segment.name(),
        offset: read.location.offset.into(),
        reason: format!("message {}: {reason}", key.sequence),
    };
    let put = PutRecord::parse(record)
        .filter(|put| put.key == read.own)
        .ok_or_else(|| damaged("its record does not stand here or its checksum is wrong".into()))?;
    *answer = Some(put.message(record).map_err(|error| damaged(error.to_string()))?);
    Ok(())
}
