//! Message groups (`JMSXGroupID`): all messages of a group go to one consumer, as long as it lives.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::backlog::Place;
use super::gaze::ASKED_FOR;
use super::subscription::SubscriptionKey;
use crate::policy::{self, GroupMap};

/// Who owns which group of a queue, and what waits for owners that cannot take it.
#[derive(Debug)]
pub(super) struct Groups {
    owners: policy::Groups<SubscriptionKey>,
    /// Several groups share an owner whatever their names.
    shared: bool,
    /// What owners take once they have credit.
    waiting: FxHashMap<SubscriptionKey, BTreeSet<Place>>,
    /// The first of that, for those who have.
    in_line: BTreeSet<(Place, SubscriptionKey)>,
    /// All that is parked, by group; what its owner does not select as well.
    parked: FxHashMap<Arc<str>, (SubscriptionKey, BTreeSet<Place>)>,
}

impl Groups {
    pub(super) fn new(kind: GroupMap) -> Self {
        Self {
            owners: policy::Groups::new(kind),
            shared: matches!(kind, GroupMap::Bucket(_)),
            waiting: FxHashMap::default(),
            in_line: BTreeSet::new(),
            parked: FxHashMap::default(),
        }
    }

    pub(super) fn owner(&mut self, group: &str) -> Option<SubscriptionKey> {
        self.owners.owner(group)
    }

    /// The group is this consumer's from now on. Gives back what is parked for owners that have their groups no more.
    pub(super) fn assign(&mut self, group: &str, owner: SubscriptionKey) -> BTreeSet<Place> {
        let known = self.owners.owner(group).is_some();
        // Where nothing is parked it does not matter whether another group is forgotten for this one.
        let before = (!known && !self.parked.is_empty()).then(|| self.owners.len());
        self.owners.assign(group, owner);
        match before {
            Some(before) if before == self.owners.len() => self.release_all(),
            _ => self.release(group),
        }
    }

    /// The group is nobody's. Gives back what is parked for its owner.
    pub(super) fn close(&mut self, group: &str) -> BTreeSet<Place> {
        self.owners.close(group);
        self.release(group)
    }

    fn release(&mut self, group: &str) -> BTreeSet<Place> {
        if self.shared {
            return self.release_all();
        }
        let Some((owner, places)) = self.parked.remove(group) else {
            return BTreeSet::new();
        };
        for place in &places {
            self.wait_no_more(owner, *place);
        }
        places
    }

    fn release_all(&mut self) -> BTreeSet<Place> {
        self.waiting.clear();
        self.in_line.clear();
        let parked = std::mem::take(&mut self.parked);
        parked.into_values().flat_map(|(_, places)| places).collect()
    }

    /// A message of this group is its owner's, who takes it once it has credit if it selects it.
    pub(super) fn park(&mut self, group: &Arc<str>, owner: SubscriptionKey, place: Place, selects: bool) {
        let parked = self.parked.entry(group.clone());
        parked.or_insert_with(|| (owner, BTreeSet::new())).1.insert(place);
        if selects {
            self.waiting.entry(owner).or_default().insert(place);
        }
    }

    /// The message of this group is not there any more.
    pub(super) fn unpark(&mut self, group: &str, place: Place) {
        let Some((owner, places)) = self.parked.get_mut(group) else {
            return;
        };
        let owner = *owner;
        places.remove(&place);
        if places.is_empty() {
            self.parked.remove(group);
        }
        self.wait_no_more(owner, place);
    }

    fn wait_no_more(&mut self, owner: SubscriptionKey, place: Place) {
        let Some(waiting) = self.waiting.get_mut(&owner) else {
            return;
        };
        waiting.remove(&place);
        let next = waiting.first().copied();
        if next.is_none() {
            self.waiting.remove(&owner);
        }
        if self.in_line.remove(&(place, owner))
            && let Some(next) = next
        {
            self.in_line.insert((next, owner));
        }
    }

    /// What waits there for owners that have credit. Some of it may be gone.
    pub(super) fn waiting(&self, between: Range<Place>) -> impl Iterator<Item = Place> {
        let in_line = self
            .in_line
            .iter()
            .filter_map(|(_, owner)| self.waiting.get(owner));
        in_line.flat_map(move |waiting| waiting.range(between.clone()).copied().take(ASKED_FOR))
    }

    /// The owner has credit.
    pub(super) fn get_ready(&mut self, owner: SubscriptionKey) {
        if let Some(first) = self.waiting.get(&owner).and_then(BTreeSet::first) {
            self.in_line.insert((*first, owner));
        }
    }

    /// The owner has none.
    pub(super) fn rest(&mut self, owner: SubscriptionKey) {
        if let Some(first) = self.waiting.get(&owner).and_then(BTreeSet::first) {
            self.in_line.remove(&(*first, owner));
        }
    }

    /// No owner has.
    pub(super) fn all_rest(&mut self) {
        self.in_line.clear();
    }

    /// The first message that waits for an owner that can take it.
    pub(super) fn next(&self) -> Option<(Place, SubscriptionKey)> {
        self.in_line.first().copied()
    }

    /// What waited here for an owner was taken away.
    pub(super) fn forget(&mut self, owner: SubscriptionKey, place: Place) {
        self.wait_no_more(owner, place);
    }

    /// True if something waits for this owner's credit.
    pub(super) fn has_waiting(&self, owner: SubscriptionKey) -> bool {
        self.waiting.contains_key(&owner)
    }

    /// The consumer has ended: its groups are free, and what was parked for it is for all to look at.
    pub(super) fn remove_owner(&mut self, owner: SubscriptionKey) -> BTreeSet<Place> {
        self.rest(owner);
        self.waiting.remove(&owner);
        let mut places = BTreeSet::new();
        if self.owners.remove_owner(owner) > 0 {
            self.parked.retain(|_, (of, parked)| {
                if *of == owner {
                    places.append(parked);
                }
                *of != owner
            });
        }
        places
    }
}
