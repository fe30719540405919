//! The thread behind the writer: what takes time and need not happen at once.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
#[cfg(test)]
use std::sync::mpsc::TryRecvError;
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

/// Who does it.
pub(super) struct Keeper {
    tasks: Receiver<Task>,
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    /// Segments that are given up, and from where on that is durable.
    retiring: Vec<(Position, Arc<Segment>)>,
}

impl Keeper {
    pub(super) fn new(tasks: Receiver<Task>, shared: Arc<Shared>, pool: Arc<Pool>) -> Self {
        Self {
            tasks,
            shared,
            pool,
            retiring: Vec::new(),
        }
    }

    /// Works through tasks until nobody can send another.
    pub(super) fn run(mut self) {
        while let Ok(task) = self.tasks.recv() {
            self.work(task);
        }
    }

    /// Does what there is to do now; false if nobody can send another task.
    #[cfg(test)]
    pub(super) fn poll(&mut self) -> bool {
        match self.tasks.try_recv() {
            Ok(task) => self.work(task),
            Err(error) => return error == TryRecvError::Empty,
        }
        true
    }

    fn work(&mut self, task: Task) {
        match task {
            Task::Replenish => self.pool.replenish(),
            Task::Sync { segments, upto } => self.sync(&segments, upto),
            Task::Retire { segment, after } => self.retiring.push((after, segment)),
        }
        let synced = self.shared.synced();
        for (_, segment) in self.retiring.extract_if(.., |(after, _)| *after <= synced) {
            self.pool.retire(segment);
        }
    }

    fn sync(&self, segments: &[Arc<Segment>], upto: Position) {
        if self.shared.failure().is_some() {
            return;
        }
        let begin = Instant::now();
        let result = segments.iter().try_for_each(|segment| {
            let synced = segment.file.sync();
            synced.map_err(|error| segment.poisoned("syncing", &error))
        });
        // Only what a master has synced is sure to be seen by the next one.
        match result.and_then(|()| self.shared.may_write()) {
            Ok(()) => {
                self.shared.note_sync(begin);
                self.shared.set_synced(upto);
            }
            Err(failure) => self.shared.poison(failure),
        }
    }
}
