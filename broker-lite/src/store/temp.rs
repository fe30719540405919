//! The temporary store: where non-persistent messages lie while memory is short (ActiveMQ's `tempDataStore`).

use std::path::PathBuf;
use std::sync::OnceLock;
use std::{fs, io};

use async_trait::async_trait;

use super::journal::{Durability, Journal, JournalOptions};
use super::{Batch, Done, Loaded, MessageKey, Store, StoreError, StoreStats};

/// The directory in that of the broker's data, as in ActiveMQ.
const DIRECTORY: &str = "tmp_storage";

/// A quarter of the journal's: what lies here soon goes again.
const SEGMENT_SIZE: u64 = 16 * 1024 * 1024;

/// Bytes that may be on their way to it before connections are not read: memory is short when it is used.
const BACKLOG_LIMIT: usize = 8 * 1024 * 1024;

/// A journal that is never synced and does not outlive the broker.
///
/// It is made when something is first given to it, so a broker that has memory enough has no files of it. That append
/// takes as long as making a file does.
pub(crate) struct TempStore {
    directory: PathBuf,
    journal: OnceLock<Result<Journal, StoreError>>,
}

impl TempStore {
    /// A store in a broker's data directory, which nobody else uses now. What a broker before left there goes. Blocks.
    pub(crate) fn new(data_directory: PathBuf) -> io::Result<Self> {
        let store = Self {
            directory: data_directory.join(DIRECTORY),
            journal: OnceLock::new(),
        };
        store.wipe()?;
        Ok(store)
    }

    /// Bytes that the disk has free for it.
    pub(crate) fn free_space(&self) -> io::Result<u64> {
        let of = self.directory.parent().unwrap_or(&self.directory);
        let disk = rustix::fs::statvfs(of)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn wipe(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn open(&self) -> &Result<Journal, StoreError> {
        self.journal.get_or_init(|| {
            let options = JournalOptions {
                segment_size: SEGMENT_SIZE,
                durability: Durability::Os,
                spare_segments: 1,
                backlog_limit: BACKLOG_LIMIT,
                ..JournalOptions::default()
            };
            Journal::open(self.directory.clone(), options).map(|(journal, _)| journal)
        })
    }

    fn opened(&self) -> Option<&Journal> {
        self.journal.get()?.as_ref().ok()
    }
}

#[async_trait]
impl Store for TempStore {
    fn append(&self, batch: Batch, done: Done) {
        match self.open() {
            Ok(journal) => journal.append(batch, done),
            Err(error) => done(Err(error.clone())),
        }
    }

    fn load(&self, keys: Vec<MessageKey>, done: Loaded) {
        match self.open() {
            Ok(journal) => journal.load(keys, done),
            Err(error) => done(Err(error.clone())),
        }
    }

    fn backlog(&self) -> usize {
        self.opened().map_or(0, Store::backlog)
    }

    async fn ready(&self) {
        if let Some(journal) = self.opened() {
            journal.ready().await;
        }
    }

    fn stats(&self) -> StoreStats {
        self.opened().map(Store::stats).unwrap_or_default()
    }

    /// Closes it and removes its files.
    fn close(&self) -> Result<(), StoreError> {
        let never_made = self.journal.set(Err(StoreError::Closed)).is_ok();
        if never_made {
            return Ok(());
        }
        let closed = self.opened().map_or(Ok(()), Store::close);
        self.wipe().map_err(|error| StoreError::Io(error.to_string()))?;
        closed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use bytes::Bytes;
    use openwire_client::wire::Message;

    use super::*;
    use crate::store::{DestinationKey, Op, StoredDestination};

    fn put(store: &TempStore) -> MessageKey {
        let key = MessageKey {
            destination: DestinationKey(1 << 31),
            sequence: 7,
        };
        let message = Arc::new(Message {
            content: Some(Bytes::from_static(b"body")),
            ..Message::default()
        });
        let ops = vec![
            Op::CreateDestination {
                key: key.destination,
                destination: StoredDestination::Queue("queue://Q".into()),
            },
            Op::Put { key, message },
        ];
        let (sender, receiver) = mpsc::channel();
        store.append(
            Batch { ops },
            Box::new(move |result| sender.send(result).unwrap()),
        );
        receiver.recv().unwrap().unwrap();
        key
    }

    fn load(store: &TempStore, key: MessageKey) -> Option<Arc<Message>> {
        let (sender, receiver) = mpsc::channel();
        store.load(vec![key], Box::new(move |bodies| sender.send(bodies).unwrap()));
        receiver.recv().unwrap().unwrap().remove(0).1
    }

    #[test]
    fn what_it_holds_ends_with_the_broker() {
        let data = tempfile::tempdir().unwrap();
        let directory = data.path().join(DIRECTORY);
        let store = TempStore::new(data.path().into()).unwrap();
        assert!(store.free_space().unwrap() > 0);
        assert!(!directory.exists(), "nothing was given to it");
        let key = put(&store);
        assert_eq!(load(&store, key).unwrap().content.as_deref(), Some(&b"body"[..]));
        // As after a crash.
        drop(store);
        assert!(directory.exists());
        let store = TempStore::new(data.path().into()).unwrap();
        assert!(!directory.exists());
        put(&store);
        store.close().unwrap();
        assert!(!directory.exists());
        store.append(
            Batch::default(),
            Box::new(|result| assert!(matches!(result, Err(StoreError::Closed)))),
        );
    }

    #[test]
    fn one_that_was_never_used_makes_no_files_when_it_closes() {
        let data = tempfile::tempdir().unwrap();
        let store = TempStore::new(data.path().into()).unwrap();
        store.close().unwrap();
        store.close().unwrap();
        store.append(
            Batch::default(),
            Box::new(|result| assert!(matches!(result, Err(StoreError::Closed)))),
        );
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
    }
}
