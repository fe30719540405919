//! The room that a journal has on its disk.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tracing::warn;

use super::Driver;
use crate::store::journal::Journal;

/// How often it is looked how much room the disk has.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(5);

/// How much a journal may hold: what was asked for, or what its disk has room for.
pub(crate) struct Room {
    /// Who holds it closes it.
    journal: Weak<Journal>,
    wanted: u64,
    limit: u64,
}

impl Room {
    pub(crate) fn new(journal: &Arc<Journal>, wanted: u64) -> Self {
        // Not every file system says; then what was asked for holds.
        let limit = journal.capacity().unwrap_or(wanted).min(wanted);
        if limit < wanted {
            warn!("the store limit is {limit} bytes, not {wanted}: the disk has no room for more");
        }
        let journal = Arc::downgrade(journal);
        Self {
            journal,
            wanted,
            limit,
        }
    }

    /// In bytes of messages.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Keeps the store limit at that, as others fill the disk and make room on it.
    pub(crate) async fn follow(mut self, driver: Arc<Driver>) {
        let mut told = self.limit;
        loop {
            tokio::time::sleep(LOOK_FOR_ROOM).await;
            let Some(journal) = self.journal.upgrade() else {
                return;
            };
            // A file system that hangs holds up nothing but this.
            let Ok(Ok(room)) = tokio::task::spawn_blocking(move || journal.capacity()).await else {
                continue;
            };
            let limit = room.min(self.wanted);
            if limit == self.limit {
                continue;
            }
            self.limit = limit;
            driver.set_store_limit(limit);
            let is_news = limit == self.wanted || told == self.wanted || limit / 2 > told || limit < told / 2;
            if is_news {
                told = limit;
                warn!("the disk has room for more or less: the store limit is {limit} bytes");
            }
        }
    }
}
