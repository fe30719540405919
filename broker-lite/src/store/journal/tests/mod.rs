//! What the journal promises, on a disk that can fail.

use std::sync::Arc;
use std::time::Instant;

use super::super::suite::{
    DEADLINE, append, committed, create, key, load, message, move_to, prepare, producer, put, queue, remove,
    sequences, share, transaction, wait,
};
use super::frame::{FrameHeader, FrameKind, HEADER, frame_len};
use super::{Durability, Journal, JournalOptions};
use crate::store::{Op, Recovered, Store, StoreError};
use faults::FaultyDisk;

mod broker;
mod damage;
mod failure;
mod faults;
mod leash;
mod masters;
mod model;
mod outcomes;
mod process;
mod reclaim;
mod references;
mod workload;

const SEGMENT: u64 = 8 * 1024;

fn small() -> JournalOptions {
    JournalOptions {
        segment_size: SEGMENT,
        ..JournalOptions::default()
    }
}

fn open(disk: &FaultyDisk) -> (Journal, Recovered) {
    open_with(disk, small()).unwrap()
}

fn open_with(disk: &FaultyDisk, options: JournalOptions) -> Result<(Journal, Recovered), StoreError> {
    Journal::open_on(Arc::new(disk.clone()), options)
}

/// Appends a batch and waits until it is stored.
fn store(journal: &Journal, ops: Vec<Op>) {
    wait(append(journal, ops)).unwrap();
}

/// Waits until something is so.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// The frames of a segment and where they stand.
fn frames(disk: &FaultyDisk, name: &str) -> Vec<(usize, FrameHeader)> {
    let content = disk.content(name);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = content.get(at..at + HEADER).and_then(FrameHeader::parse) {
        if header.at.offset as usize != at || header.at.segment != number_of(name) {
            break;
        }
        found.push((at, header));
        at += frame_len(header.length);
    }
    found
}

fn number_of(name: &str) -> u32 {
    super::segment::segment_number(name).unwrap()
}

fn batches(disk: &FaultyDisk, name: &str) -> Vec<usize> {
    let frames = frames(disk, name).into_iter();
    frames
        .filter(|(_, header)| header.kind() == Some(FrameKind::Batch))
        .map(|(at, _)| at)
        .collect()
}
