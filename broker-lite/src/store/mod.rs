//! Where persistent messages live: one trait, several stores.
//!
//! The core decides *what* is stored; a store decides where the bytes lie and says when they are safe.
//! A store is written to in [`Batch`]es. A batch is atomic: after a crash all of it is there or none of it.
//! Batches become durable in the order in which they were appended.

use std::sync::Arc;

use async_trait::async_trait;
use openwire_client::wire::{Message, ProducerId};

mod error;
pub mod journal;
pub mod memory;

pub use error::StoreError;

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

/// One change of the stored state.
#[derive(Debug, Clone)]
pub enum Op {
    /// A destination with stored messages exists from here on.
    CreateDestination {
        /// Its key.
        key: DestinationKey,
        /// Its qualified name, such as `queue://FirstQueue`.
        name: Arc<str>,
    },
    /// The destination and every message on it are gone.
    RemoveDestination {
        /// Its key.
        key: DestinationKey,
    },
    /// A message arrived.
    Put {
        /// Where and with which sequence.
        key: MessageKey,
        /// The message as it will be dispatched.
        message: Arc<Message>,
    },
    /// A message was acknowledged, expired or dead-lettered.
    Remove {
        /// Which.
        key: MessageKey,
    },
    /// The redelivery counter of a stored message changed.
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
}

/// Changes that become durable together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The changes, in order.
    pub ops: Vec<Op>,
}

/// Told once when a batch is durable, or that it never will be.
///
/// Runs on a thread of the store: it must not block.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Told once with what was loaded, in the order asked for; `None` for a message that is no longer there.
pub type Loaded = Box<dyn FnOnce(Result<Vec<(MessageKey, Option<Arc<Message>>)>, StoreError>) + Send>;

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
    /// The last stored `producerSequenceId` of the producers seen most recently, for duplicate detection
    /// of what a client sends again after a failover.
    pub producers: Vec<(ProducerId, i64)>,
}

/// A destination found when a store was opened.
#[derive(Debug)]
pub struct RecoveredDestination {
    /// Its key.
    pub key: DestinationKey,
    /// Its qualified name.
    pub name: Arc<str>,
    /// Up to where its messages may have been shown to a consumer; see [`Op::Dispatched`].
    pub dispatched: u64,
    /// Its messages in order of their sequence.
    pub messages: Vec<RecoveredMessage>,
}

/// A message found when a store was opened. Its body stays where it is until it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct RecoveredMessage {
    /// Its sequence.
    pub sequence: u64,
    /// Its size in the broker's accounting, in bytes.
    pub size: u32,
    /// Its redelivery counter.
    pub redelivered: u32,
}

/// What a store says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Messages that are stored.
    pub messages: u64,
    /// Bytes on disk, free space in segments included.
    pub disk_bytes: u64,
    /// Batches made durable since the store was opened.
    pub batches: u64,
    /// Syncs done for them.
    pub syncs: u64,
    /// Bytes appended and not yet durable.
    pub backlog_bytes: u64,
}

/// A place for persistent messages.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Appends a batch. Returns at once; `done` is called when the batch is durable.
    ///
    /// Appends take effect in the order of the calls.
    fn append(&self, batch: Batch, done: Done);

    /// Reads messages back. A message of a batch that was appended before this call is found.
    fn load(&self, keys: Vec<MessageKey>, done: Loaded);

    /// Bytes appended and not yet durable: what [`Store::ready`] waits on.
    fn backlog(&self) -> usize;

    /// Waits until the backlog is small enough to accept more. Cancel safe.
    async fn ready(&self);

    /// What the store says of itself.
    fn stats(&self) -> StoreStats;

    /// Makes everything durable, marks the store as closed in order and releases it.
    ///
    /// Blocks until done; later appends fail with [`StoreError`].
    fn close(&self) -> Result<(), StoreError>;
}
