//! A topic: who subscribes to it, and what it keeps for those that come later.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use openwire_client::wire::{ConnectionId, Destination};

use super::deferred::Deferred;
use super::queue::QueueKey;
use super::retained::Retained;
use super::statistics::Counts;
use super::subscribers::Subscribers;
use crate::policy::{Policy, Recovery, RecoveryBuffer};
use crate::store::accounting_size;

/// Tells clients which broker is the master; whoever comes later is told as well, whatever the policies say.
const MASTER_BROKER: &str = "ActiveMQ.Advisory.MasterBroker";

/// Names a topic inside the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TopicKey(pub(super) usize);

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) destination: Destination,
    /// What holds for it.
    pub(super) policy: Arc<Policy>,
    /// Which destination it is of all that ever were; 0 until the core has it.
    pub(super) number: u64,
    /// Those that get its messages.
    pub(super) subscribers: Subscribers,
    /// What waits for durable subscriptions, whether or not anybody consumes from them. Shared with whoever goes through
    /// it.
    pub(super) durables: Arc<BTreeSet<QueueKey>>,
    /// What its subscribers do not have yet, in order: something it was stored with is not durable.
    pub(super) deferred: VecDeque<Deferred>,
    /// What it keeps for retroactive consumers that come later.
    pub(super) recovery: RecoveryBuffer,
    /// Where its retained message lies.
    pub(super) retained: Retained,
    /// Every consumer is a retroactive one (`alwaysRetroactive`).
    pub(super) always_retroactive: bool,
    /// It will be looked for what it need not keep any longer.
    pub(super) forgetting: bool,
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
        let tells_master = destination.name() == MASTER_BROKER;
        let recovery = match tells_master {
            true => RecoveryBuffer::new(&Recovery::LastImage),
            false => RecoveryBuffer::new(&policy.recovery),
        };
        Self {
            always_retroactive: policy.always_retroactive || tells_master,
            destination,
            policy,
            number: 0,
            subscribers: Subscribers::default(),
            durables: Arc::default(),
            deferred: VecDeque::new(),
            recovery,
            retained: Retained::default(),
            forgetting: false,
            passes_on: false,
            unused_since: None,
            counts: Counts::default(),
            made_by: None,
        }
    }

    /// Bytes of messages that it keeps for consumers that come later.
    pub(super) fn kept_bytes(&self) -> usize {
        let retained = self.recovery.current();
        let retained = retained.map_or(0, |message| accounting_size(message) as usize);
        retained.saturating_add(usize::try_from(self.recovery.bytes()).unwrap_or(usize::MAX))
    }
}
