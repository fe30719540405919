//! Which entries match a destination: a tree of name parts, ActiveMQ's `DestinationMap`.

use rustc_hash::{FxHashMap, FxHashSet};

const ANY_PART: &str = "*";
const ANY_REST: &str = ">";

/// Patterns with the number of the entry each stands for.
#[derive(Debug)]
pub(super) struct Patterns {
    /// The root is the first.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    children: FxHashMap<Box<str>, usize>,
    entries: Vec<usize>,
}

impl Default for Patterns {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
        }
    }
}

impl Patterns {
    pub(super) fn insert(&mut self, pattern: &str, entry: usize) {
        let mut at = 0;
        for part in parts(pattern) {
            at = match self.nodes[at].children.get(part) {
                Some(&child) => child,
                None => {
                    self.nodes.push(Node::default());
                    let child = self.nodes.len() - 1;
                    self.nodes[at].children.insert(part.into(), child);
                    child
                }
            };
        }
        self.nodes[at].entries.push(entry);
    }

    /// True if `wanted` says so of any entry that matches the name.
    pub(super) fn any(&self, name: &str, wanted: impl FnMut(usize) -> bool) -> bool {
        let parts: Vec<_> = parts(name).collect();
        let mut walk = Walk {
            patterns: self,
            parts: &parts,
            seen: FxHashSet::default(),
            wanted,
        };
        walk.from(vec![0], 0, false)
    }
}

/// The parts of a name, as they are: ActiveMQ keeps the blanks round them.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split('.')
}

/// One name's way through the tree.
struct Walk<'a, F> {
    patterns: &'a Patterns,
    parts: &'a [&'a str],
    /// Where it was below a `*` already: names and patterns of many stars have many ways to the same place.
    seen: FxHashSet<(usize, usize)>,
    wanted: F,
}

impl<F: FnMut(usize) -> bool> Walk<'_, F> {
    /// Follows the parts from the given one on. Below a `*` of a pattern, `>` in the name stands for all there is;
    /// elsewhere it is matched as a part.
    fn from(&mut self, mut at: Vec<usize>, first: usize, rest_is_all: bool) -> bool {
        for index in first..self.parts.len() {
            let part = self.parts[index];
            if rest_is_all && part == ANY_REST {
                return at.iter().any(|&node| self.here(node) || self.below(node));
            }
            for &node in &at {
                if self.wildcards(node, index) {
                    return true;
                }
            }
            at = at
                .iter()
                .flat_map(|&node| {
                    let children = &self.patterns.nodes[node].children;
                    let (all, one) = if part == ANY_PART {
                        (Some(children.values()), None)
                    } else {
                        (None, children.get(part))
                    };
                    all.into_iter().flatten().chain(one).copied()
                })
                .collect();
            if at.is_empty() {
                return false;
            }
        }
        at.iter().any(|&node| {
            self.here(node)
                || self.patterns.nodes[node]
                    .children
                    .get(ANY_REST)
                    .is_some_and(|&rest| self.here(rest))
        })
    }

    /// Follows the wildcards below a node, for a name whose part of this index stands there.
    fn wildcards(&mut self, node: usize, index: usize) -> bool {
        let children = &self.patterns.nodes[node].children;
        if let Some(&any) = children.get(ANY_PART)
            && self.seen.insert((any, index + 1))
            && self.from(vec![any], index + 1, true)
        {
            return true;
        }
        children
            .get(ANY_REST)
            .is_some_and(|&rest| self.here(rest) || self.below(rest))
    }

    fn here(&mut self, node: usize) -> bool {
        self.patterns.nodes[node]
            .entries
            .iter()
            .any(|&entry| (self.wanted)(entry))
    }

    fn below(&mut self, node: usize) -> bool {
        let mut waiting: Vec<_> = self.patterns.nodes[node].children.values().copied().collect();
        while let Some(node) = waiting.pop() {
            if self.here(node) {
                return true;
            }
            waiting.extend(self.patterns.nodes[node].children.values());
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn matches(patterns: &[&str], name: &str) -> Vec<usize> {
        let mut tree = Patterns::default();
        for (entry, pattern) in patterns.iter().enumerate() {
            tree.insert(pattern, entry);
        }
        let mut found = Vec::new();
        tree.any(name, |entry| {
            found.push(entry);
            false
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    #[test]
    fn wildcards() {
        let patterns = ["A", "A.B", "A.*", "A.>", "*.B", ">", "*", "A.*.C"];
        assert_eq!(matches(&patterns, "A"), [0, 3, 5, 6]);
        assert_eq!(matches(&patterns, "A.B"), [1, 2, 3, 4, 5]);
        assert_eq!(matches(&patterns, "A.B.C"), [3, 5, 7]);
        assert_eq!(matches(&patterns, "X.Y"), [5]);
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let stars = vec!["*"; 200].join(".");
        let started = Instant::now();
        assert_eq!(matches(&[&stars], &format!("{stars}.x")), [0; 0]);
        assert_eq!(matches(&[&stars], &stars), [0]);
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
