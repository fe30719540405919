//! The thread behind the writer: what takes time and need not happen at once.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use super::frame::Position;
use super::segment::{Pool, Segment};
use super::shared::Shared;

/// Something for the keeper to do.
pub(super) enum Task {
    /// Make segments ahead of time.
    Replenish,
    /// Make these segments durable; the log is durable up to `upto` then.
    Sync {
        segments: Vec<Arc<Segment>>,
        upto: Position,
    },
    /// Use a segment again or remove it, once the log says durably, before `after`, that it is not needed.
    Retire { segment: Arc<Segment>, after: Position },
}

/// Works through tasks until nobody can send another.
pub(super) fn run(tasks: &Receiver<Task>, shared: &Shared, pool: &Pool) {
    let mut retiring: Vec<(Position, Arc<Segment>)> = Vec::new();
    while let Ok(task) = tasks.recv() {
        match task {
            Task::Replenish => pool.replenish(),
            Task::Sync { segments, upto } => {
                if shared.failure().is_some() {
                    continue;
                }
                let begin = Instant::now();
                let result = segments.iter().try_for_each(|segment| {
                    let synced = segment.file.sync();
                    synced.map_err(|error| segment.poisoned("syncing", &error))
                });
                // Only what a master has synced is sure to be seen by the next one.
                match result.and_then(|()| shared.may_write()) {
                    Ok(()) => {
                        shared.note_sync(begin);
                        shared.set_synced(upto);
                    }
                    Err(failure) => shared.poison(failure),
                }
            }
            Task::Retire { segment, after } => retiring.push((after, segment)),
        }
        let synced = shared.synced();
        for (_, segment) in retiring.extract_if(.., |(after, _)| *after <= synced) {
            pool.retire(segment);
        }
    }
}
