//! The disk that the brokers of a world share, and the store they see it through.
//!
//! What is appended becomes durable later, in order and a batch at a time. A broker that is killed loses what is not
//! durable yet, and perhaps hears nothing of what is.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use broker_lite::store::memory::MemoryStore;
use broker_lite::store::{Batch, Done, Loaded, MessageKey, Recovered, Store, StoreError, StoreStats};
use parking_lot::Mutex;
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::world::{millis, random};

/// A disk.
pub(crate) struct Disk {
    state: Mutex<State>,
    appended: Notify,
    /// Says that a batch is durable at once: no disk may do that.
    lies: bool,
}

struct State {
    random: SmallRng,
    /// Everything that is durable.
    log: Vec<Batch>,
    /// What waits for the next sync, with what to tell then.
    waiting: VecDeque<(Batch, Option<Done>)>,
    /// How long a sync takes, in milliseconds.
    sync: std::ops::Range<u64>,
    /// The store that may write, the last one that was opened.
    owner: u64,
}

/// The store of one broker.
pub(crate) struct SimulatedStore {
    disk: Arc<Disk>,
    owner: u64,
    /// What the broker has written, durable or not.
    live: MemoryStore,
}

impl Disk {
    pub(crate) fn new(seed: u64, lies: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                random: random(seed, "disk", 0),
                log: Vec::new(),
                waiting: VecDeque::new(),
                sync: 0..5,
                owner: 0,
            }),
            appended: Notify::new(),
            lies,
        })
    }

    /// Sets how long a sync takes from now on.
    pub(crate) fn set_sync(&self, range: std::ops::Range<u64>) {
        self.state.lock().sync = range;
    }

    /// Opens a store on what is durable. The one before writes no more.
    pub(crate) fn open(self: &Arc<Self>) -> (Arc<SimulatedStore>, Recovered) {
        let mut state = self.state.lock();
        let before = MemoryStore::new();
        for batch in &state.log {
            before.append(batch.clone(), Box::new(|_| {}));
        }
        let (live, mut recovered) = before.reopen();
        // It is the same store for ever: what it knows of a commit counts, whichever broker says it.
        recovered.identity = "disk".into();
        state.owner += 1;
        let owner = state.owner;
        tokio::spawn(self.clone().sync(owner));
        let store = SimulatedStore {
            disk: self.clone(),
            owner,
            live,
        };
        (Arc::new(store), recovered)
    }

    /// The machine of the broker that writes stops: the first of what waits is durable nevertheless.
    pub(crate) fn kill(&self) {
        let mut state = self.state.lock();
        state.owner += 1;
        let waiting = state.waiting.len();
        let durable = state.random.random_range(0..=waiting);
        let lost: Vec<_> = state.waiting.drain(..).collect();
        state
            .log
            .extend(lost.into_iter().take(durable).map(|(batch, _)| batch));
    }

    /// Makes durable what waits, over and over, for as long as its owner may write.
    async fn sync(self: Arc<Self>, owner: u64) {
        loop {
            let appended = self.appended.notified();
            let (waiting, delay) = {
                let mut state = self.state.lock();
                if state.owner != owner {
                    return;
                }
                let range = state.sync.clone();
                (state.waiting.len(), millis(state.random.random_range(range)))
            };
            if waiting == 0 {
                appended.await;
                continue;
            }
            sleep(delay).await;
            let told = {
                let mut state = self.state.lock();
                if state.owner != owner {
                    return;
                }
                let (batches, told): (Vec<_>, Vec<_>) = state.waiting.drain(..waiting).unzip();
                state.log.extend(batches);
                told
            };
            told.into_iter().flatten().for_each(|done| done(Ok(())));
        }
    }
}

impl SimulatedStore {
    /// Writes where the broker sees it. What the store refuses is not for the disk.
    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let result = Arc::new(Mutex::new(Err(StoreError::Closed)));
        let told = result.clone();
        self.live
            .append(batch.clone(), Box::new(move |result| *told.lock() = result));
        std::mem::replace(&mut *result.lock(), Ok(()))
    }

    fn is_owner(&self) -> bool {
        self.disk.state.lock().owner == self.owner
    }
}

#[async_trait]
impl Store for SimulatedStore {
    fn append(&self, batch: Batch, done: Done) {
        if !self.is_owner() {
            return done(Err(StoreError::Closed));
        }
        if let Err(refused) = self.write(&batch) {
            return done(Err(refused));
        }
        if self.disk.lies {
            self.disk.state.lock().waiting.push_back((batch, None));
            done(Ok(()));
        } else {
            self.disk.state.lock().waiting.push_back((batch, Some(done)));
        }
        self.disk.appended.notify_waiters();
    }

    fn load(&self, keys: Vec<MessageKey>, done: Loaded) {
        if self.is_owner() {
            self.live.load(keys, done);
        } else {
            done(Err(StoreError::Closed));
        }
    }

    fn backlog(&self) -> usize {
        0
    }

    async fn ready(&self) {}

    fn stats(&self) -> StoreStats {
        self.live.stats()
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
