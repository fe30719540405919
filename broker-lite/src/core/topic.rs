//! A topic: who subscribes to it.

use openwire_client::wire::Destination;

use super::queue::QueueKey;
use super::subscription::SubscriptionKey;

/// Names a topic inside the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TopicKey(pub(super) usize);

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) destination: Destination,
    pub(super) subscribers: Vec<SubscriptionKey>,
    /// What waits for durable subscriptions, whether or not anybody consumes from them.
    pub(super) durables: Vec<QueueKey>,
}

impl Topic {
    pub(super) fn new(destination: Destination) -> Self {
        Self {
            destination,
            subscribers: Vec::new(),
            durables: Vec::new(),
        }
    }
}
