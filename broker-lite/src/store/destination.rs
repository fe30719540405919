//! What the keys of a store stand for.

use std::sync::Arc;

use bytes::Bytes;

use super::MessageKey;

/// What a [`DestinationKey`](super::DestinationKey) stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredDestination {
    /// A queue, by its qualified name, such as `queue://FirstQueue`.
    Queue(Arc<str>),
    /// A durable subscription: what it has still to deliver.
    Subscription(Arc<StoredSubscription>),
    /// What was sent in a transaction that is not committed. Gone after a restart unless it was prepared; see
    /// [`Op::Prepare`](super::Op::Prepare).
    Transaction,
    /// Scheduled messages.
    Schedule,
    /// The last message of a topic that was sent to be retained (`ActiveMQ.Retain`), by the topic's qualified
    /// name, such as `topic://Prices`.
    Retained(Arc<str>),
}

/// A durable subscription (`SubscriptionInfo`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSubscription {
    /// The client id of the connection it belongs to.
    pub client_id: Arc<str>,
    /// Its name, which is unique for the client id (`subscriptionName`).
    pub name: Arc<str>,
    /// The qualified name of what is subscribed to; it may be a wildcard or composite.
    pub destination: Arc<str>,
    /// The message selector; none for all messages.
    pub selector: Option<Arc<str>>,
    /// True if messages that its own connection sends are not for it.
    pub no_local: bool,
}

/// The id of a branch of a distributed transaction (`javax.transaction.xa.Xid`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoredXid {
    /// `getFormatId`.
    pub format_id: i32,
    /// `getGlobalTransactionId`.
    pub global: Bytes,
    /// `getBranchQualifier`.
    pub branch: Bytes,
}

/// A prepared XA transaction.
///
/// What was sent in it lies on its [`StoredDestination::Transaction`], each message with the destination it is
/// for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Which.
    pub xid: StoredXid,
    /// The messages it acknowledged: they are there until it is committed, and nobody else may have them.
    pub acknowledged: Vec<MessageKey>,
}
