//! A topic: who subscribes to it.

use std::sync::Arc;

use openwire_client::wire::{ConnectionId, Destination};

use super::queue::QueueKey;
use super::statistics::Counts;
use super::subscription::SubscriptionKey;
use crate::policy::Policy;

/// Names a topic inside the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TopicKey(pub(super) usize);

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) destination: Destination,
    /// What holds for it.
    pub(super) policy: Arc<Policy>,
    pub(super) subscribers: Vec<SubscriptionKey>,
    /// What waits for durable subscriptions, whether or not anybody consumes from them.
    pub(super) durables: Vec<QueueKey>,
    /// It may pass on what is sent to it.
    pub(super) passes_on: bool,
    /// Since when nobody has used it, in milliseconds since 1970, as far as that was looked for.
    pub(super) unused_since: Option<i64>,
    pub(super) counts: Counts,
    /// The connection that made it, if one did.
    pub(super) made_by: Option<ConnectionId>,
}

impl Topic {
    pub(super) fn new(destination: Destination, policy: Arc<Policy>) -> Self {
        Self {
            destination,
            policy,
            subscribers: Vec::new(),
            durables: Vec::new(),
            passes_on: false,
            unused_since: None,
            counts: Counts::default(),
            made_by: None,
        }
    }
}
