//! Where persistent messages live: one trait, several stores.
//!
//! The core decides *what* is stored; a store decides where the bytes lie and says when they are safe.
//! A store is written to in [`Batch`]es. A batch is atomic: after a crash all of it is there or none of it.
//! Batches become durable in the order in which they were appended.
//!
//! A message lies at a [`MessageKey`]; what the first half of a key stands for is a [`StoredDestination`]. The
//! same message can lie at several keys ([`Op::Share`]) and wander from one to another ([`Op::Move`]); its body
//! is stored once, for as long as any key is left.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use openwire_client::wire::{Message, ProducerId};

mod check;
mod destination;
mod error;
mod gather;
pub mod journal;
mod line;
pub(crate) mod lock_file;
pub mod memory;
mod ordered;
mod recent;
#[cfg(feature = "sql")]
pub mod sql;
mod state;
#[cfg(test)]
mod suite;
mod temp;

pub use destination::{Prepared, StoredDestination, StoredSubscription, StoredXid};
pub use error::StoreError;
use journal::JournalStats;
pub(crate) use temp::TempStore;

/// Names a destination inside a store. Given out by the core, never reused within one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DestinationKey(pub u32);

/// Names a stored message: its destination and its broker sequence number.
///
/// Sequences grow over the whole broker and are never reused, so within one destination their order is
/// the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageKey {
    /// The destination the message lies on.
    pub destination: DestinationKey,
    /// The broker sequence number (`MessageId.brokerSequenceId`).
    pub sequence: u64,
}

/// A local transaction that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The id of the connection it belonged to.
    pub connection: Arc<str>,
    /// Its number there.
    pub transaction: i64,
    /// When, in milliseconds since 1970. Never less than that of a transaction committed before.
    pub at: i64,
}

/// An identity for a store that is being created.
pub(crate) fn new_identity() -> Arc<str> {
    identity(openwire_client::environment::random())
}

/// The identity of a store with this random number.
fn identity(number: u64) -> Arc<str> {
    format!("{number:016x}").into()
}

/// One change of the stored state.
#[derive(Debug, Clone)]
pub enum Op {
    /// A destination with stored messages exists from here on. One that exists stands for something else from
    /// here on, and keeps its messages.
    CreateDestination {
        /// Its key.
        key: DestinationKey,
        /// What it stands for.
        destination: StoredDestination,
    },
    /// The destination and every message on it are gone, and what was prepared with them.
    RemoveDestination {
        /// Its key.
        key: DestinationKey,
    },
    /// A message arrived. Its destination exists: a store refuses a batch in which it does not.
    ///
    /// One that is put on a [`StoredDestination::Transaction`] counts for duplicate detection once it is moved
    /// off it, because a client sends a transaction that was lost again under the same numbers.
    Put {
        /// Where and with which sequence.
        key: MessageKey,
        /// The message as it will be dispatched.
        message: Arc<Message>,
    },
    /// A message was acknowledged, expired or dead-lettered. Not an error if it is not there.
    Remove {
        /// Which.
        key: MessageKey,
    },
    /// The message at `of` lies at `key` as well. Both are removed independently.
    ///
    /// The redelivery counter of the new one starts with what the message was put with, and it is not due. What
    /// lay at `key` before is replaced; with `key` as `of` nothing happens. A store refuses a batch in which no message lies at `of`, or in which
    /// the destination of `key` does not exist or is a [`StoredDestination::Transaction`].
    Share {
        /// Where it lies from here on.
        key: MessageKey,
        /// Where it lies already.
        of: MessageKey,
    },
    /// The message at `from` lies at `to` from here on: the commit of a transaction whose messages were stored
    /// before. Not an error, and without any effect, if no message lies at `from`: whoever commits has to know
    /// that the batches with the messages were not refused.
    ///
    /// Its redelivery counter goes along; that it was due does not. What lay at `to` before is replaced; with `from`
    /// as `to` nothing happens. A store refuses a batch in which the destination of `to` does not exist or is a
    /// [`StoredDestination::Transaction`].
    Move {
        /// Where it lies so far.
        from: MessageKey,
        /// Where it lies from here on.
        to: MessageKey,
    },
    /// The transaction whose messages lie on `destination` is prepared: it survives a restart, until the
    /// destination is removed. A store refuses a batch in which that is no existing
    /// [`StoredDestination::Transaction`]. Preparing it again replaces what was said before.
    Prepare {
        /// Where its messages lie.
        destination: DestinationKey,
        /// Which transaction it is, and what it acknowledged.
        prepared: Arc<Prepared>,
    },
    /// When the message at `key` is due, and how often it fired so far. Without any effect if it is not there.
    ///
    /// Kept beside the message, like the counter, and meant for those of a [`StoredDestination::Schedule`].
    Due {
        /// Which.
        key: MessageKey,
        /// When, in milliseconds since 1970.
        at: i64,
        /// How often it fired so far.
        times: u32,
    },
    /// The redelivery counter of a stored message changed. It starts with what the message was put with.
    ///
    /// The counter is kept beside the message: a message that is loaded has the one it was put with.
    Redelivered {
        /// Which.
        key: MessageKey,
        /// `JMSXDeliveryCount - 1`.
        count: u32,
    },
    /// Messages of this destination up to and including `sequence` may have been shown to a consumer.
    ///
    /// After a crash those that are still there are dispatched with the redelivered flag.
    Dispatched {
        /// The destination.
        destination: DestinationKey,
        /// The high-water mark.
        sequence: u64,
    },
    /// A transaction was committed: what it did is in the same batch.
    Committed {
        /// Which, and when.
        outcome: Committed,
        /// Outcomes up to this time need not be known any more, in milliseconds since 1970.
        forgotten: i64,
    },
}

/// Changes that become durable together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The changes, in order.
    pub ops: Vec<Op>,
}

impl Batch {
    /// True if it does nothing but remove messages.
    pub(crate) fn only_removes(&self) -> bool {
        !self.ops.is_empty() && self.ops.iter().all(|op| matches!(op, Op::Remove { .. }))
    }
}

/// Told once when a batch is durable, or that it never will be.
///
/// Runs on a thread of the store or, before [`Store::append`] returns, on the caller's: the caller holds no
/// lock then that it takes. It must not block and not call [`Store::close`].
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Told once with what was loaded, in the order asked for; `None` for a message that is no longer there.
///
/// Runs where a [`Done`] does, under the same rules.
pub type Loaded = Box<dyn FnOnce(Bodies) + Send>;

/// What was loaded, in the order asked for; `None` for a message that is no longer there.
pub type Bodies = Result<Vec<(MessageKey, Option<Arc<Message>>)>, StoreError>;

/// What a store held when it was opened.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The store was closed in order: nothing but what [`Op::Redelivered`] says was shown to a consumer.
    pub clean: bool,
    /// Every destination with its messages.
    pub destinations: Vec<RecoveredDestination>,
    /// The next sequence to give out: larger than any ever used.
    pub next_sequence: u64,
    /// The next destination key to give out.
    pub next_destination: u32,
    /// The highest stored `producerSequenceId` of the producers seen most recently, the latest one last, for
    /// duplicate detection of what a client sends again after a failover.
    pub producers: Vec<(ProducerId, i64)>,
    /// Says which store this is, for ever: made at random when the store was created. Empty for a store that
    /// keeps no outcomes of transactions.
    pub identity: Arc<str>,
    /// The transactions that were committed lately, the oldest first.
    pub committed: Vec<Committed>,
    /// Outcomes up to this time may have been forgotten, in milliseconds since 1970; all later ones are in
    /// `committed`.
    pub forgotten: i64,
}

/// A destination found when a store was opened.
#[derive(Debug)]
pub struct RecoveredDestination {
    /// Its key.
    pub key: DestinationKey,
    /// What it stands for.
    pub destination: StoredDestination,
    /// Up to where its messages may have been shown to a consumer; see [`Op::Dispatched`].
    pub dispatched: u64,
    /// Its messages in order of their sequence.
    pub messages: Vec<RecoveredMessage>,
    /// When messages of it are due: sequence, time in milliseconds since 1970, and how often it fired so far;
    /// see [`Op::Due`]. In order of the sequences, and only of messages that are due at all.
    pub due: Vec<(u64, i64, u32)>,
    /// When messages of it end (`JMSExpiration`): sequence, and time in milliseconds since 1970. In order of the
    /// sequences, and only of messages of which it is known that they end. Beside the messages, because most have no
    /// end and there may be millions.
    pub expiring: Vec<(u64, i64)>,
    /// What was prepared; only of a [`StoredDestination::Transaction`], and there always, because one that was
    /// not prepared is gone with its messages when a store is opened.
    pub prepared: Option<Arc<Prepared>>,
}

/// A message found when a store was opened. Its body stays where it is until it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct RecoveredMessage {
    /// Its sequence.
    pub sequence: u64,
    /// Its [`accounting_size`], in bytes.
    pub size: u32,
    /// Its redelivery counter.
    pub redelivered: u32,
    /// Its `JMSPriority`, 0 to 9; 4, the default, where the store does not know it.
    pub priority: u8,
}

/// Says whether this process is still the one that may write to a store that others can reach as well: a lock or a
/// lease that can be lost while the process lives.
///
/// It is asked before each write, and again before anything that depends on one is answered or removed. So what a
/// store says is stored was stored while this process was the master, whoever is it by now.
pub trait Mastership: std::fmt::Debug + Send + Sync + 'static {
    /// Whether this process may write. Asked often, on the store's own threads, so it should take no longer than
    /// looking at a clock.
    ///
    /// # Errors
    ///
    /// Why it may not; the store then takes nothing more, and says so with [`StoreError::Poisoned`].
    fn may_write(&self) -> Result<(), StoreError>;
}

/// What a store knows of a message without its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    /// Its [`accounting_size`].
    size: u32,
    /// `JMSPriority`, 0 to 9.
    priority: u8,
    /// `JMSExpiration`, in milliseconds since 1970; 0 for none, or none that is known.
    expiration: i64,
}

/// `JMSPriority` of a message of which it is not known.
const DEFAULT_PRIORITY: u8 = 4;

impl Header {
    fn of(message: &Message) -> Self {
        Self {
            size: accounting_size(message),
            priority: message.priority.clamp(0, 9) as u8,
            expiration: message.expiration.max(0),
        }
    }
}

/// The size of a message in the broker's accounting, as ActiveMQ counts it: body and properties and a fixed
/// amount for the rest.
pub fn accounting_size(message: &Message) -> u32 {
    /// `Message.DEFAULT_MINIMUM_MESSAGE_SIZE`.
    const HEADER: usize = 1024;
    u32::try_from(HEADER + payload_len(message)).unwrap_or(u32::MAX)
}

/// Bytes of body and properties.
fn payload_len(message: &Message) -> usize {
    let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    len(&message.content) + len(&message.marshalled_properties)
}

/// What a store says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Messages that are stored; one that lies at several keys counts at each.
    pub messages: u64,
    /// Bytes on disk, free space in segments included.
    pub disk_bytes: u64,
    /// Batches made durable since the store was opened.
    pub batches: u64,
    /// Syncs done for them.
    pub syncs: u64,
    /// Bytes appended whose `done` was not called yet.
    pub backlog_bytes: u64,
    /// What a journal measures of itself; none of another store.
    pub journal: Option<JournalStats>,
}

/// A place for persistent messages.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Appends a batch. Returns at once; `done` is called when the batch is durable.
    ///
    /// Appends take effect, and their `done`s are called, in the order of the calls. A batch that fails with
    /// [`StoreError::Refused`] or [`StoreError::Full`] is as if it had never been appended, and the store
    /// goes on; after any other error it does not.
    fn append(&self, batch: Batch, done: Done);

    /// Appends a batch that nobody waits for. As [`Store::append`], but the store may take a few milliseconds until it
    /// begins to write it, and writes it with one that comes meanwhile. What is asked of the store after it waits for it.
    fn append_unawaited(&self, batch: Batch, done: Done) {
        self.append(batch, done);
    }

    /// Reads messages back. A message of a batch that was appended before this call is found.
    fn load(&self, keys: Vec<MessageKey>, done: Loaded);

    /// Bytes appended whose `done` was not called yet: what [`Store::ready`] waits on.
    fn backlog(&self) -> usize;

    /// Waits until the backlog is small enough to accept more; a store that failed or is closed does not
    /// keep anybody waiting. Cancel safe.
    async fn ready(&self);

    /// What the store says of itself.
    fn stats(&self) -> StoreStats;

    /// Makes everything durable, marks the store as closed in order and releases it.
    ///
    /// Blocks until done. Later appends and loads fail with [`StoreError::Closed`]; closing again does
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Poisoned`] if the store had failed before or fails now. It is released all the same.
    fn close(&self) -> Result<(), StoreError>;
}
