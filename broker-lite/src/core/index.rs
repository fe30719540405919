//! Which classes of consumers ask for which value of a field.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use openwire_client::wire::Message;
use rustc_hash::FxHashMap;

use super::backlog::Place;
use super::gaze::{ASKED_FOR, Gaze};
use crate::selector::{Constant, Equality, Field, Given};

/// So few classes are asked one by one: their selectors have to be evaluated in any case.
const FEW: usize = 4;

/// Looks at messages for all classes that ask for some value of one field.
#[derive(Debug)]
pub(super) struct Index {
    field: Field,
    /// What was looked at.
    pub(super) gaze: Gaze,
    /// By text. Whoever sends may choose it, so it is hashed with a secret.
    texts: HashMap<Box<str>, Vec<usize>>,
    numbers: FxHashMap<i64, Vec<usize>>,
    classes: FxHashMap<usize, Standing>,
    /// How many of the classes have somebody in line.
    ready: usize,
    /// What those have to look at first.
    found: BTreeSet<(Place, usize)>,
    /// Classes that ask or will ask.
    expected: usize,
}

/// What is known of a class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Standing {
    ready: bool,
    first: Option<Place>,
}

impl Index {
    pub(super) fn new(field: Field) -> Self {
        Self {
            field,
            gaze: Gaze::new(),
            texts: HashMap::new(),
            numbers: FxHashMap::default(),
            classes: FxHashMap::default(),
            ready: 0,
            found: BTreeSet::new(),
            expected: 0,
        }
    }

    pub(super) fn field(&self) -> &Field {
        &self.field
    }

    /// One more class will ask.
    pub(super) fn expect_one(&mut self) {
        self.expected += 1;
    }

    /// One class fewer asks or will ask; true if none is left.
    pub(super) fn forget_one(&mut self) -> bool {
        self.expected -= 1;
        self.expected == 0
    }

    /// How many ask for the same, for the most common of these values.
    pub(super) fn others(&self, asked: &Equality) -> usize {
        let others = asked.values.iter().map(|value| self.who(value).len());
        others.max().unwrap_or(0)
    }

    fn who(&self, value: &Constant) -> &[usize] {
        let who = match value {
            Constant::Text(text) => self.texts.get(text),
            Constant::Whole(number) => self.numbers.get(number),
        };
        who.map_or(&[], Vec::as_slice)
    }

    pub(super) fn add(&mut self, class: usize, asked: &Equality) {
        for value in &asked.values {
            let who = match value {
                Constant::Text(text) => self.texts.entry(text.clone()).or_default(),
                Constant::Whole(number) => self.numbers.entry(*number).or_default(),
            };
            // A list may name a value twice.
            if who.last() != Some(&class) {
                who.push(class);
            }
        }
        self.classes.insert(class, Standing::default());
    }

    pub(super) fn remove(&mut self, class: usize, asked: &Equality) {
        self.note(class, false, None);
        self.classes.remove(&class);
        for value in &asked.values {
            match value {
                Constant::Text(text) => strike(&mut self.texts, text, class),
                Constant::Whole(number) => strike(&mut self.numbers, number, class),
            }
        }
    }

    /// Who may want this message; all that do are among them.
    pub(super) fn asked(&self, message: &Message) -> impl Iterator<Item = usize> {
        let who = match self.classes.len() {
            ..=FEW => None,
            _ => self.who_asks_for(message),
        };
        let all = who.is_none().then(|| self.classes.keys());
        let some = who.unwrap_or_default();
        some.iter().chain(all.into_iter().flatten()).copied()
    }

    /// None if it may be all of them.
    fn who_asks_for(&self, message: &Message) -> Option<&[usize]> {
        let who = match self.field.given(message) {
            Given::Unclear => return None,
            Given::Nothing => None,
            Given::Text(text) => self.texts.get(&*text),
            Given::Whole(number) => self.numbers.get(&number),
        };
        Some(who.map_or(&[], Vec::as_slice))
    }

    /// A class has somebody in line or not, and has to look at this first of what was found for it.
    pub(super) fn note(&mut self, class: usize, ready: bool, first: Option<Place>) {
        let standing = self.classes.entry(class).or_default();
        let before = std::mem::replace(standing, Standing { ready, first });
        if before == *standing {
            return;
        }
        if before.ready {
            self.ready -= 1;
            if let Some(place) = before.first {
                self.found.remove(&(place, class));
            }
        }
        if ready {
            self.ready += 1;
            if let Some(place) = first {
                self.found.insert((place, class));
            }
        }
    }

    /// Some class has somebody in line.
    pub(super) fn is_ready(&self) -> bool {
        self.ready > 0
    }

    /// All have.
    pub(super) fn all_ready(&self) -> bool {
        self.ready == self.classes.len()
    }

    /// The first there of each class that has somebody in line.
    pub(super) fn all_found(&self, between: Range<Place>) -> impl Iterator<Item = Place> {
        let found = self.found.range((between.start, 0)..(between.end, 0));
        found.map(|(place, _)| *place).take(ASKED_FOR)
    }

    /// The first that was found for a class that has somebody in line.
    pub(super) fn first_found(&self) -> Option<(Place, usize)> {
        self.found.first().copied()
    }
}

/// Takes a class off those that ask for this value.
fn strike<K, Q, S>(who: &mut HashMap<K, Vec<usize>, S>, value: &Q, class: usize)
where
    K: std::borrow::Borrow<Q> + Eq + std::hash::Hash,
    Q: Eq + std::hash::Hash + ?Sized,
    S: std::hash::BuildHasher,
{
    if let Some(asking) = who.get_mut(value) {
        asking.retain(|asks| *asks != class);
        if asking.is_empty() {
            who.remove(value);
        }
    }
}
