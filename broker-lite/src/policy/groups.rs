//! Which consumer has which message group: ActiveMQ's `MessageGroupMap`.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::strategy::GroupMap;

/// The owners of the message groups of a queue. An owner is whatever names a consumer.
#[derive(Debug, Clone)]
pub struct Groups<O> {
    map: Map<O>,
    /// How many groups, or buckets, each owner has.
    assigned: FxHashMap<O, usize>,
}

#[derive(Debug, Clone)]
enum Map<O> {
    Names(Names<O>),
    Buckets(Box<[Option<O>]>),
}

/// Groups by name. When there are too many, the one that was not asked for the longest is forgotten.
#[derive(Debug, Clone)]
struct Names<O> {
    most: usize,
    owners: FxHashMap<Arc<str>, (O, u64)>,
    /// The groups by the time they were asked for last.
    used: BTreeMap<u64, Arc<str>>,
    clock: u64,
}

impl<O: Copy + Eq + Hash> Groups<O> {
    /// No queue remembers more groups than this, whatever its policy: names of groups come from outside.
    pub const MOST: usize = 1_000_000;

    /// An empty map of the kind that a policy asks for.
    pub fn new(kind: GroupMap) -> Self {
        let map = match kind {
            GroupMap::Cached(most) => Map::Names(Names::new(most.clamp(1, Self::MOST))),
            GroupMap::Simple => Map::Names(Names::new(Self::MOST)),
            GroupMap::Bucket(count) => Map::Buckets(vec![None; count.clamp(1, Self::MOST)].into()),
        };
        Self {
            map,
            assigned: FxHashMap::default(),
        }
    }

    /// The owner of a group, if it has one. In a bucket all groups have the same.
    pub fn owner(&mut self, group: &str) -> Option<O> {
        match &mut self.map {
            Map::Names(names) => names.owner(group),
            Map::Buckets(buckets) => buckets[bucket(group, buckets.len())],
        }
    }

    /// Gives a group to an owner, whoever had it before.
    pub fn assign(&mut self, group: &str, owner: O) {
        let lost = match &mut self.map {
            Map::Names(names) => names.assign(group, owner),
            Map::Buckets(buckets) => [buckets[bucket(group, buckets.len())].replace(owner), None],
        };
        lost.into_iter().flatten().for_each(|lost| self.less(lost));
        *self.assigned.entry(owner).or_default() += 1;
    }

    /// Closes a group: the next message of it goes to whoever is served next. Returns who had it.
    pub fn close(&mut self, group: &str) -> Option<O> {
        let owner = match &mut self.map {
            Map::Names(names) => names.close(group),
            Map::Buckets(buckets) => buckets[bucket(group, buckets.len())].take(),
        }?;
        self.less(owner);
        Some(owner)
    }

    /// Frees all groups of an owner that leaves, and says how many they were; buckets, where there are such.
    pub fn remove_owner(&mut self, owner: O) -> usize {
        let freed = self.assigned.remove(&owner).unwrap_or(0);
        if freed > 0 {
            match &mut self.map {
                Map::Names(names) => names.remove_owner(owner),
                Map::Buckets(buckets) => {
                    for bucket in buckets.iter_mut().filter(|bucket| **bucket == Some(owner)) {
                        *bucket = None;
                    }
                }
            }
        }
        freed
    }

    /// How many groups, or buckets, an owner has. ActiveMQ serves those with fewer first, among consumers of the same
    /// priority.
    pub fn assigned(&self, owner: O) -> usize {
        self.assigned.get(&owner).copied().unwrap_or(0)
    }

    /// How many groups, or buckets, have an owner.
    pub fn len(&self) -> usize {
        self.assigned.values().sum()
    }

    /// True if none has.
    pub fn is_empty(&self) -> bool {
        self.assigned.is_empty()
    }

    fn less(&mut self, owner: O) {
        if let Some(count) = self.assigned.get_mut(&owner) {
            *count -= 1;
            if *count == 0 {
                self.assigned.remove(&owner);
            }
        }
    }
}

impl<O: Copy + Eq> Names<O> {
    fn new(most: usize) -> Self {
        Self {
            most,
            owners: FxHashMap::default(),
            used: BTreeMap::new(),
            clock: 0,
        }
    }

    fn owner(&mut self, group: &str) -> Option<O> {
        let (owner, used) = self.owners.get_mut(group)?;
        self.clock += 1;
        if let Some(name) = self.used.remove(used) {
            *used = self.clock;
            self.used.insert(self.clock, name);
        }
        Some(*owner)
    }

    /// Returns who lost a group by it: the one who had it, or else the one whose group had to be forgotten.
    fn assign(&mut self, group: &str, owner: O) -> [Option<O>; 2] {
        let before = self.close(group);
        let forgotten = if self.owners.len() >= self.most {
            self.used
                .pop_first()
                .and_then(|(_, name)| self.owners.remove(&name))
                .map(|(owner, _)| owner)
        } else {
            None
        };
        self.clock += 1;
        let name: Arc<str> = group.into();
        self.used.insert(self.clock, name.clone());
        self.owners.insert(name, (owner, self.clock));
        [before, forgotten]
    }

    fn close(&mut self, group: &str) -> Option<O> {
        let (owner, used) = self.owners.remove(group)?;
        self.used.remove(&used);
        Some(owner)
    }

    fn remove_owner(&mut self, gone: O) {
        let used = &mut self.used;
        self.owners.retain(|_, (owner, at)| {
            let stays = *owner != gone;
            if !stays {
                used.remove(at);
            }
            stays
        });
    }
}

/// The bucket of a group, as in Java: the hash code of the string, modulo their number, without its sign.
fn bucket(group: &str, count: usize) -> usize {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(unit.into())
    });
    (i64::from(hash) % count as i64).unsigned_abs() as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_are_java_s() {
        // "hello".hashCode() is 99162322; that of "polygenelubricants" is the smallest int.
        assert_eq!(bucket("hello", 1024), 99_162_322 % 1024);
        assert_eq!(bucket("polygenelubricants", 1000), 648);
        assert_eq!(bucket("", 7), 0);
        let mut groups = Groups::new(GroupMap::Bucket(1));
        groups.assign("a", 1);
        assert_eq!(groups.owner("b"), Some(1));
        groups.assign("b", 2);
        assert_eq!(
            (groups.owner("a"), groups.assigned(1), groups.assigned(2)),
            (Some(2), 0, 1)
        );
        assert_eq!(groups.remove_owner(2), 1);
        assert_eq!(groups.owner("a"), None);
    }

    #[test]
    fn the_group_that_was_not_asked_for_is_forgotten() {
        let mut groups = Groups::new(GroupMap::Cached(2));
        groups.assign("a", 1);
        groups.assign("b", 2);
        assert_eq!(groups.owner("a"), Some(1));
        groups.assign("c", 1);
        assert_eq!(
            (groups.owner("a"), groups.owner("b"), groups.owner("c")),
            (Some(1), None, Some(1))
        );
        assert_eq!((groups.assigned(1), groups.assigned(2), groups.len()), (2, 0, 2));
        assert_eq!(groups.close("a"), Some(1));
        assert_eq!(groups.close("a"), None);
        assert_eq!(groups.remove_owner(1), 1);
        assert!(groups.is_empty());
        assert_eq!(groups.remove_owner(1), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Owner(u8),
        Assign(u8, u8),
        Close(u8),
        Remove(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..8_u8).prop_map(Step::Owner),
            (0..8_u8, 0..3_u8).prop_map(|(group, owner)| Step::Assign(group, owner)),
            (0..8_u8).prop_map(Step::Close),
            (0..3_u8).prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn a_simple_map_is_a_map(steps in prop::collection::vec(step(), 0..60)) {
            let mut groups = Groups::new(GroupMap::Simple);
            let mut model = HashMap::new();
            for step in steps {
                match step {
                    Step::Owner(group) => {
                        prop_assert_eq!(groups.owner(&group.to_string()), model.get(&group).copied());
                    }
                    Step::Assign(group, owner) => {
                        groups.assign(&group.to_string(), owner);
                        model.insert(group, owner);
                    }
                    Step::Close(group) => {
                        prop_assert_eq!(groups.close(&group.to_string()), model.remove(&group));
                    }
                    Step::Remove(owner) => {
                        let before = model.len();
                        model.retain(|_, has| *has != owner);
                        prop_assert_eq!(groups.remove_owner(owner), before - model.len());
                    }
                }
                prop_assert_eq!(groups.len(), model.len());
                for owner in 0..3 {
                    let count = model.values().filter(|has| **has == owner).count();
                    prop_assert_eq!(groups.assigned(owner), count);
                }
            }
        }
    }
}
