//! The store of a broker that stores nothing.

use async_trait::async_trait;

use crate::store::{Batch, Done, Loaded, MessageKey, Store, StoreError, StoreStats};

/// Everything is done at once, and nothing is found again.
#[derive(Debug)]
pub(crate) struct Nowhere;

#[async_trait]
impl Store for Nowhere {
    fn append(&self, _batch: Batch, done: Done) {
        done(Ok(()));
    }

    fn load(&self, keys: Vec<MessageKey>, done: Loaded) {
        done(Ok(keys.into_iter().map(|key| (key, None)).collect()));
    }

    fn backlog(&self) -> usize {
        0
    }

    async fn ready(&self) {}

    fn stats(&self) -> StoreStats {
        StoreStats::default()
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
