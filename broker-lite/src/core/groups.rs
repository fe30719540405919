//! Message groups (`JMSXGroupID`): all messages of a group go to one consumer, as long as it lives.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::backlog::Place;
use super::subscription::SubscriptionKey;
use crate::policy::{self, GroupMap};

/// Who owns which group of a queue, and what waits for owners that have no credit.
#[derive(Debug)]
pub(super) struct Groups {
    owners: policy::Groups<SubscriptionKey>,
    parked: FxHashMap<SubscriptionKey, BTreeSet<Place>>,
}

impl Groups {
    pub(super) fn new(kind: GroupMap) -> Self {
        Self {
            owners: policy::Groups::new(kind),
            parked: FxHashMap::default(),
        }
    }

    pub(super) fn owner(&mut self, group: &str) -> Option<SubscriptionKey> {
        self.owners.owner(group)
    }

    /// The group is this consumer's from now on.
    pub(super) fn assign(&mut self, group: &str, owner: SubscriptionKey) {
        self.owners.assign(group, owner);
    }

    /// The group is nobody's.
    pub(super) fn close(&mut self, group: &str) {
        self.owners.close(group);
    }

    /// A message waits for this owner.
    pub(super) fn park(&mut self, owner: SubscriptionKey, place: Place) {
        self.parked.entry(owner).or_default().insert(place);
    }

    pub(super) fn has_parked(&self, owner: SubscriptionKey) -> bool {
        self.parked.contains_key(&owner)
    }

    /// The first message that waits for this owner.
    pub(super) fn first_parked(&self, owner: SubscriptionKey) -> Option<Place> {
        self.parked.get(&owner)?.first().copied()
    }

    /// The message here waits no longer for this owner.
    pub(super) fn unpark(&mut self, owner: SubscriptionKey, place: Place) {
        if let Some(parked) = self.parked.get_mut(&owner) {
            parked.remove(&place);
            if parked.is_empty() {
                self.parked.remove(&owner);
            }
        }
    }

    /// Owners for which messages wait.
    pub(super) fn waiting_owners(&self) -> Vec<SubscriptionKey> {
        self.parked.keys().copied().collect()
    }

    /// The consumer has ended: its groups are free, and what waited for it is for all to look at.
    pub(super) fn remove_owner(&mut self, owner: SubscriptionKey) -> BTreeSet<Place> {
        self.owners.remove_owner(owner);
        self.parked.remove(&owner).unwrap_or_default()
    }
}
