//! The store that keeps messages in memory: for brokers whose messages need not survive them, and for tests.

use std::sync::Arc;

use async_trait::async_trait;
use openwire_client::wire::Message;
use parking_lot::Mutex;

use super::check::{Kind, Plan, check};
use super::state::{Counter, State, initial_redelivered, producer_of};
use super::{
    Batch, Done, Header, Loaded, MessageKey, Op, Recovered, Store, StoreError, StoreStats, new_identity,
};

/// A store in memory.
///
/// A batch is stored when [`Store::append`] returns: its `done` is called before. What it holds can be
/// handed on with [`MemoryStore::reopen`], as if a broker had been started anew on its files: a transaction that
/// was not prepared is gone then.
#[derive(Debug)]
pub struct MemoryStore {
    identity: Arc<str>,
    inner: Mutex<Inner>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug, Default)]
struct Inner {
    state: State<Arc<Message>>,
    batches: u64,
    closed: Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Closed {
    #[default]
    No,
    /// By [`Store::close`].
    InOrder,
    /// By [`MemoryStore::reopen`].
    Taken,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self {
            identity: new_identity(),
            inner: Mutex::default(),
        }
    }

    /// Takes what this store holds over to another one, and says what that is. As after a restart, nothing
    /// more is taken by this one; [`Recovered::clean`] tells whether it had been closed.
    pub fn reopen(&self) -> (Self, Recovered) {
        let mut inner = self.inner.lock();
        let mut state = std::mem::take(&mut inner.state);
        for key in state.unprepared() {
            drop(state.remove_destination(key));
        }
        let clean = inner.closed == Closed::InOrder;
        let recovered = state.recovered(self.identity.clone(), clean, |message| Header::of(message));
        inner.closed = Closed::Taken;
        let store = Self {
            identity: self.identity.clone(),
            inner: Mutex::new(Inner {
                state,
                ..Inner::default()
            }),
        };
        (store, recovered)
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        if inner.closed != Closed::No {
            return Err(StoreError::Closed);
        }
        check(&batch, |key| inner.state.destination(key).map(Kind::from))?;
        Plan::of(&batch, |key| Ok(inner.state.get(key).is_some()))?;
        for op in batch.ops {
            inner.state.apply(op);
        }
        inner.batches += 1;
        Ok(())
    }
}

impl State<Arc<Message>> {
    fn apply(&mut self, op: Op) {
        match op {
            Op::CreateDestination { key, destination } => self.create_destination(key, destination),
            Op::RemoveDestination { key } => drop(self.remove_destination(key)),
            Op::Put { key, message } => {
                let counter = Counter::starting(initial_redelivered(&message));
                // The batch was checked: the destination is there.
                let _ = self.put(key, message.clone(), counter);
                if let Some((producer, sequence)) = producer_of(&message) {
                    self.note_sender(key, producer, sequence);
                }
            }
            Op::Remove { key } => drop(self.remove(key)),
            Op::Share { key, of } => drop(self.share(key, of)),
            Op::Move { from, to } => drop(self.move_to(from, to)),
            Op::Prepare {
                destination,
                prepared,
            } => {
                self.prepare(destination, prepared);
            }
            Op::Due { key, at, times } => self.set_due(key, at, times),
            Op::Redelivered { key, count } => self.set_redelivered(key, count),
            Op::Dispatched {
                destination,
                sequence,
            } => self.set_dispatched(destination, sequence),
            Op::Committed { outcome, forgotten } => self.outcomes.note(outcome, forgotten),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    /// Applies a batch. `done` is called before this returns.
    fn append(&self, batch: Batch, done: Done) {
        done(self.apply(batch));
    }

    /// Looks messages up. `done` is called before this returns.
    fn load(&self, keys: Vec<MessageKey>, done: Loaded) {
        let inner = self.inner.lock();
        let found = match inner.closed {
            Closed::No => Ok(keys
                .into_iter()
                .map(|key| (key, inner.state.get(key).cloned()))
                .collect()),
            _ => Err(StoreError::Closed),
        };
        drop(inner);
        done(found);
    }

    fn backlog(&self) -> usize {
        0
    }

    async fn ready(&self) {}

    fn stats(&self) -> StoreStats {
        let inner = self.inner.lock();
        StoreStats {
            messages: inner.state.messages(),
            batches: inner.batches,
            ..StoreStats::default()
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        if inner.closed == Closed::No {
            inner.closed = Closed::InOrder;
        }
        Ok(())
    }
}
