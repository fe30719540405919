//! Mastership of a file of SQLite, by a lock on a file beside it.

use std::fs::File;

use async_trait::async_trait;

use crate::ha::{Attempt, Holder, LockError, Locker};

use super::super::StoreError;
use super::connect::Database;

/// Holds the lock. The system gives it back when the process ends, however it ends.
pub(super) struct FileLock {
    database: Database,
    file: Option<File>,
}

impl FileLock {
    pub(super) fn new(database: Database) -> Self {
        Self { database, file: None }
    }
}

#[async_trait]
impl Locker for FileLock {
    async fn try_acquire(&mut self) -> Result<Attempt, LockError> {
        match self.database.lock_file() {
            Ok(file) => {
                self.file = file;
                Ok(Attempt::Acquired { epoch: 0 })
            }
            Err(StoreError::Locked(file)) => Ok(Attempt::Held(Holder::new(format!("{file} is locked")))),
            Err(error) => Err(LockError::Unavailable(error.to_string())),
        }
    }

    async fn keep_alive(&mut self) -> Result<(), LockError> {
        match self.file {
            Some(_) => Ok(()),
            None => Err(LockError::Lost("it was given back".to_owned())),
        }
    }

    async fn release(&mut self) {
        self.file = None;
    }
}
