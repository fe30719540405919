//! Names with wildcards, and what is told to whole groups of destinations.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use openwire_client::wire::{Destination, DestinationKind};
use rustc_hash::FxHashMap;
use slab::Slab;

/// What parts the levels of a name.
const SEPARATOR: char = '.';

/// The level that stands for any one level.
const ANY_LEVEL: &str = "*";

/// The last level that stands for all that follow, and for none.
const ALL_BELOW: &str = ">";

/// The destinations of one kind whose names fit: ActiveMQ's `DestinationFilter`.
///
/// The levels of a name are parted by dots. A level `*` stands for exactly one level; a last level `>` for any number
/// of levels, none included: `A.>` matches `A`, `A.B` and `A.B.C`. Elsewhere in a name `>` means itself, and so does a
/// `*` that is only a part of a level. A pattern without wildcards matches its own name only. A pattern never matches a
/// destination of another kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    kind: DestinationKind,
    /// Without the `>` at its end.
    levels: Box<[Box<str>]>,
    /// It ended with `>`.
    below: bool,
}

impl Pattern {
    /// The pattern a name of a kind is.
    pub fn new(kind: DestinationKind, name: &str) -> Self {
        let mut levels = name.split(SEPARATOR).map(Box::from).collect::<Vec<Box<str>>>();
        let mut below = false;
        while levels.last().is_some_and(|level| **level == *ALL_BELOW) {
            levels.pop();
            below = true;
        }
        Self {
            kind,
            levels: levels.into(),
            below,
        }
    }

    /// The pattern of the names of queues.
    pub fn queue(name: &str) -> Self {
        Self::new(DestinationKind::Queue, name)
    }

    /// The pattern of the names of topics.
    pub fn topic(name: &str) -> Self {
        Self::new(DestinationKind::Topic, name)
    }

    /// Every destination of a kind: `>`.
    pub fn all(kind: DestinationKind) -> Self {
        Self::new(kind, ALL_BELOW)
    }

    /// The kind of the destinations it matches.
    pub fn kind(&self) -> DestinationKind {
        self.kind
    }

    /// The pattern as a name. Several `>` at its end are written as one.
    pub fn name(&self) -> String {
        let mut name = self.levels.join(".");
        if self.below {
            if !self.levels.is_empty() {
                name.push(SEPARATOR);
            }
            name.push_str(ALL_BELOW);
        }
        name
    }

    /// True if it can match more than one name.
    pub fn has_wildcards(&self) -> bool {
        self.below || self.levels.iter().any(|level| **level == *ANY_LEVEL)
    }

    /// True if the destination is of its kind and its name fits. The destination's name is taken literally, so one
    /// that has wildcards itself is only matched by what would match any other name, or by itself.
    pub fn matches(&self, destination: &Destination) -> bool {
        destination.kind() == self.kind && self.matches_name(destination.name())
    }

    /// True if the name fits.
    pub fn matches_name(&self, name: &str) -> bool {
        let mut given = name.split(SEPARATOR);
        for level in &self.levels {
            match given.next() {
                Some(given) if level.is(given) => {}
                _ => return false,
            }
        }
        self.below || given.next().is_none()
    }

    /// True if it matches every destination that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        if self.kind != other.kind || other.levels.len() < self.levels.len() {
            return false;
        }
        let fits = self
            .levels
            .iter()
            .zip(&other.levels)
            .all(|(level, other)| **level == *ANY_LEVEL || level == other);
        fits && (self.below || (!other.below && self.levels.len() == other.levels.len()))
    }
}

impl From<&Destination> for Pattern {
    fn from(destination: &Destination) -> Self {
        Self::new(destination.kind(), destination.name())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.kind.prefix(), self.name())
    }
}

trait Level {
    /// A level of a pattern stands for a level of a name.
    fn is(&self, given: &str) -> bool;
}

impl Level for str {
    fn is(&self, given: &str) -> bool {
        self == ANY_LEVEL || self == given
    }
}

/// Values by pattern: ActiveMQ's `DestinationMap`.
///
/// A look-up takes time in proportion to the levels of the name and to the patterns that match it, however many there
/// are besides.
#[derive(Debug, Clone)]
pub struct PatternMap<T> {
    /// By numbers that grow with each.
    entries: BTreeMap<u64, (Pattern, T)>,
    next: u64,
    /// The levels of all patterns as a tree, one root for each kind in front. They lie side by side and refer to each
    /// other by place, so that the depth of a name is no depth of calls.
    nodes: Slab<Node>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    children: FxHashMap<Box<str>, usize>,
    any: Option<usize>,
    /// Entries whose patterns end here.
    here: BTreeSet<u64>,
    /// Entries whose patterns go on with `>`.
    below: BTreeSet<u64>,
}

impl Node {
    /// Where the levels of a pattern go on.
    fn next(&self, level: &str) -> Option<usize> {
        match level {
            ANY_LEVEL => self.any,
            level => self.children.get(level).copied(),
        }
    }

    fn forget(&mut self, level: &str) {
        match level {
            ANY_LEVEL => self.any = None,
            level => drop(self.children.remove(level)),
        }
    }

    fn leads_nowhere(&self) -> bool {
        self.children.is_empty() && self.any.is_none() && self.here.is_empty() && self.below.is_empty()
    }

    fn entries(&mut self, below: bool) -> &mut BTreeSet<u64> {
        match below {
            true => &mut self.below,
            false => &mut self.here,
        }
    }
}

const KINDS: usize = 4;

fn root(kind: DestinationKind) -> usize {
    match kind {
        DestinationKind::Queue => 0,
        DestinationKind::Topic => 1,
        DestinationKind::TempQueue => 2,
        DestinationKind::TempTopic => 3,
    }
}

impl<T> Default for PatternMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> PatternMap<T> {
    /// A map without entries.
    pub fn new() -> Self {
        let roots = (0..KINDS).map(|root| (root, Node::default()));
        Self {
            entries: BTreeMap::new(),
            next: 0,
            nodes: roots.collect(),
        }
    }

    /// Adds a value. What was given for the same pattern before stays beside it, and comes first. Returns the number by
    /// which it can be [removed](Self::remove); no other entry ever has the same.
    pub fn insert(&mut self, pattern: Pattern, value: T) -> u64 {
        let mut at = root(pattern.kind);
        for level in &pattern.levels {
            at = match self.nodes[at].next(level) {
                Some(next) => next,
                None => {
                    let next = self.nodes.insert(Node::default());
                    if **level == *ANY_LEVEL {
                        self.nodes[at].any = Some(next);
                    } else {
                        self.nodes[at].children.insert(level.clone(), next);
                    }
                    next
                }
            };
        }
        let number = self.next;
        self.next += 1;
        self.nodes[at].entries(pattern.below).insert(number);
        self.entries.insert(number, (pattern, value));
        number
    }

    /// Takes out what [`insert`](Self::insert) gave this number; none if it is not there any more.
    pub fn remove(&mut self, number: u64) -> Option<T> {
        let (pattern, value) = self.entries.remove(&number)?;
        let mut at = root(pattern.kind);
        let mut path = Vec::with_capacity(pattern.levels.len());
        for level in &pattern.levels {
            path.push(at);
            at = self.nodes[at].next(level)?;
        }
        self.nodes[at].entries(pattern.below).remove(&number);
        for (above, level) in path.into_iter().zip(&pattern.levels).rev() {
            if !self.nodes[at].leads_nowhere() {
                break;
            }
            self.nodes.remove(at);
            self.nodes[above].forget(level);
            at = above;
        }
        Some(value)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&Pattern, &T)> {
        self.entries.values().map(|(pattern, value)| (pattern, value))
    }

    /// The value that holds for a destination, if any pattern matches: that of its own name, or else that of the
    /// narrowest pattern. A pattern is narrower than another that covers it; of those that are equally narrow the
    /// one first by name is taken, and of equal ones the one given first.
    pub fn select(&self, destination: &Destination) -> Option<&T> {
        self.select_entry(destination).map(|(_, value)| value)
    }

    /// As [`select`](Self::select), with the pattern.
    pub fn select_entry(&self, destination: &Destination) -> Option<(&Pattern, &T)> {
        let mut narrowest: Vec<u64> = Vec::new();
        for found in self.matching(destination) {
            let pattern = &self.entries[&found].0;
            if *pattern == Pattern::from(destination) {
                // The first of equal ones: they stand in the order in which they were given.
                return self.entry(found);
            }
            if narrowest
                .iter()
                .any(|other| pattern.covers(&self.entries[other].0))
            {
                continue;
            }
            narrowest.retain(|other| !self.entries[other].0.covers(pattern));
            narrowest.push(found);
        }
        let first = narrowest.into_iter().min_by(|a, b| self.by_name(*a, *b))?;
        self.entry(first)
    }

    /// The values of all patterns that match a destination, in the order in which they were given.
    pub fn all(&self, destination: &Destination) -> impl Iterator<Item = &T> {
        let mut found = self.matching(destination);
        found.sort_unstable();
        found.into_iter().map(|entry| &self.entries[&entry].1)
    }

    fn entry(&self, entry: u64) -> Option<(&Pattern, &T)> {
        self.entries.get(&entry).map(|(pattern, value)| (pattern, value))
    }

    fn by_name(&self, a: u64, b: u64) -> Ordering {
        let name = |entry: u64| self.entries[&entry].0.name();
        name(a).cmp(&name(b)).then(a.cmp(&b))
    }

    fn matching(&self, destination: &Destination) -> Vec<u64> {
        let mut found = Vec::new();
        let mut reached = vec![root(destination.kind())];
        let mut next = Vec::new();
        for level in destination.name().split(SEPARATOR) {
            for node in reached.drain(..).map(|node| &self.nodes[node]) {
                found.extend(&node.below);
                next.extend(node.children.get(level));
                next.extend(node.any);
            }
            if next.is_empty() {
                return found;
            }
            std::mem::swap(&mut reached, &mut next);
        }
        for node in reached.into_iter().map(|node| &self.nodes[node]) {
            found.extend(&node.below);
            found.extend(&node.here);
        }
        found
    }
}

impl<T> FromIterator<(Pattern, T)> for PatternMap<T> {
    fn from_iter<I: IntoIterator<Item = (Pattern, T)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (pattern, value) in entries {
            map.insert(pattern, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_stand_for_levels() {
        for (pattern, matched, not) in [
            ("A", &["A"][..], &["B", "A.B", "", "a"][..]),
            ("A.*", &["A.B", "A.", "A.*"], &["A", "A.B.C", "B.A"]),
            ("A.>", &["A", "A.B", "A.B.C"], &["B", "AB", "B.A"]),
            (">", &["", "A", "A.B"], &[]),
            ("*", &["A", ""], &["A.B"]),
            ("*.>", &["A", "A.B"], &[]),
            ("A.*.C", &["A.B.C"], &["A.C", "A.B.D", "A.B.C.D"]),
            ("A.>.>", &["A", "A.B"], &["B"]),
            ("A.>.B", &["A.>.B"], &["A.X.B"]),
            ("A.B*", &["A.B*"], &["A.BC"]),
        ] {
            let pattern = Pattern::queue(pattern);
            for name in matched {
                assert!(pattern.matches(&Destination::queue(name)), "{pattern} {name}");
                assert!(!pattern.matches(&Destination::topic(name)), "{pattern} {name}");
            }
            for name in not {
                assert!(!pattern.matches(&Destination::queue(name)), "{pattern} {name}");
            }
        }
        assert_eq!(Pattern::queue("A.>.>").to_string(), "queue://A.>");
        assert_eq!(Pattern::topic(">").name(), ">");
    }

    #[test]
    fn the_own_name_wins_then_the_narrowest_pattern() {
        let names = [
            ">", "A.>", "A.*", "*.B", "A.B", "A.B.>", "A.*.C", "*.B.C", "Z.>", "Z.>",
        ];
        let map = names
            .iter()
            .enumerate()
            .map(|(i, name)| (Pattern::queue(name), (i, *name)))
            .collect::<PatternMap<_>>();
        for (name, expected) in [
            ("A.B", "A.B"),
            ("A.C", "A.*"),
            ("C.B", "*.B"),
            ("A", "A.>"),
            ("X", ">"),
            // Neither covers the other: by name.
            ("A.B.C", "*.B.C"),
            ("A.X.C", "A.*.C"),
            ("A.B.X", "A.B.>"),
        ] {
            let selected = map.select(&Destination::queue(name)).map(|(_, pattern)| *pattern);
            assert_eq!(selected, Some(expected), "{name}");
        }
        assert_eq!(map.select(&Destination::queue("Z.A")), Some(&(8, "Z.>")));
        assert_eq!(map.select(&Destination::topic("A")), None);
        let all = map
            .all(&Destination::queue("A.B"))
            .map(|(i, _)| *i)
            .collect::<Vec<_>>();
        assert_eq!(all, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn many_entries_and_deep_names() {
        let mut map = PatternMap::new();
        for i in 0..10_000 {
            map.insert(Pattern::queue(&format!("A.{i}.*")), i);
            map.insert(Pattern::queue(&format!("A.{i}.>")), 10_000 + i);
        }
        let deep = vec!["*"; 10_000].join(".");
        map.insert(Pattern::queue(&deep), usize::MAX);
        assert_eq!(map.select(&Destination::queue("A.77.x")), Some(&77));
        assert_eq!(map.select(&Destination::queue("A.77.x.y")), Some(&10_077));
        assert_eq!(
            map.select(&Destination::queue(&vec!["B"; 10_000].join("."))),
            Some(&usize::MAX)
        );
    }

    #[test]
    fn what_is_removed_is_found_no_more_and_leaves_nothing_behind() {
        let mut map = PatternMap::new();
        let names = ["A.*", "A.*", "A.>", "A.B.C", "*.B", ">"];
        let numbers: Vec<_> = names
            .iter()
            .map(|name| map.insert(Pattern::queue(name), *name))
            .collect();
        let found = |map: &PatternMap<&'static str>| {
            let destination = Destination::queue("A.B");
            map.all(&destination).copied().collect::<Vec<_>>()
        };
        assert_eq!(map.remove(numbers[0]), Some("A.*"));
        assert_eq!(map.remove(numbers[0]), None);
        assert_eq!(found(&map), ["A.*", "A.>", "*.B", ">"]);
        for number in &numbers[1..] {
            map.remove(*number);
        }
        assert_eq!((found(&map).len(), map.len(), map.nodes.len()), (0, 0, KINDS));
        map.insert(Pattern::queue("A.B"), "again");
        assert_eq!(found(&map), ["again"]);
    }

    fn name() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["A", "B", "*", ">", ""]), 1..5)
            .prop_map(|levels| levels.join("."))
    }

    /// Matches by the words of the definition, one level after the other.
    fn naive(pattern: &[&str], name: &[&str]) -> bool {
        match (pattern, name) {
            (rest, _) if !rest.is_empty() && rest.iter().all(|level| *level == ">") => true,
            ([], []) => true,
            ([first, pattern @ ..], [level, name @ ..]) => {
                (first == level || *first == "*") && naive(pattern, name)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn the_map_finds_what_a_naive_matcher_finds(
            patterns in prop::collection::vec(name(), 0..12),
            name in name(),
        ) {
            let map = patterns
                .iter()
                .map(|pattern| (Pattern::topic(pattern), pattern.clone()))
                .collect::<PatternMap<_>>();
            let destination = Destination::topic(&name);
            let levels = name.split('.').collect::<Vec<_>>();
            let matching = patterns
                .iter()
                .filter(|pattern| naive(&pattern.split('.').collect::<Vec<_>>(), &levels))
                .collect::<Vec<_>>();
            for pattern in &patterns {
                prop_assert_eq!(Pattern::topic(pattern).matches(&destination), matching.contains(&pattern));
            }
            prop_assert_eq!(map.all(&destination).collect::<Vec<_>>(), matching.clone());
            // What is selected matches, and nothing that matches is narrower or the very name.
            match map.select_entry(&destination) {
                None => prop_assert!(matching.is_empty()),
                Some((selected, _)) => {
                    let own = Pattern::from(&destination);
                    for other in matching.iter().map(|other| Pattern::topic(other)) {
                        prop_assert!(!selected.covers(&other) || other.covers(selected) || *selected == own);
                        prop_assert!(other != own || *selected == own);
                    }
                }
            }
        }

        #[test]
        fn what_covers_matches_whatever_the_other_matches(
            wide in name(), narrow in name(), name in name(),
        ) {
            let (wide, narrow) = (Pattern::topic(&wide), Pattern::topic(&narrow));
            if wide.covers(&narrow) && narrow.matches_name(&name) {
                prop_assert!(wide.matches_name(&name));
            }
        }
    }
}
