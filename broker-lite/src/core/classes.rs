//! The consumers of a queue by what they see, and who of them is to get a message.
//!
//! Consumers that see alike (same priority, same selector) form a class, which looks at each message once. Many classes
//! would each look at all messages, so those whose selectors ask for a field's value, as the many do that wait for an
//! answer each, have an *index* look for them: it finds the few that ask for what a message has. A class that comes
//! late looks for itself until it has seen what its index has.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use openwire_client::wire::Message;
use rustc_hash::FxHashMap;
use slab::Slab;

use super::backlog::{Backlog, Place};
use super::gaze::{Gaze, remember};
use super::index::Index;
use super::subscription::{Sight, SubscriptionKey};
use crate::selector::Equality;

/// Names a class inside a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClassKey(usize);

/// Consumers that see alike.
#[derive(Debug)]
struct Class {
    sight: Sight,
    members: usize,
    line: Line,
    look: Look,
}

/// Who looks for a class.
#[derive(Debug)]
enum Look {
    /// It does itself.
    Own {
        gaze: Gaze,
        /// What it will ask of this index, once it has seen as much.
        catches_up: Option<(usize, Equality)>,
    },
    /// An index.
    Index {
        index: usize,
        asked: Equality,
        /// What the index found for it and it has not looked at. Some of it may be gone.
        found: BTreeSet<Place>,
    },
}

/// Those with credit, in the order in which they are served, with a number that orders them over all classes. Behind the
/// first, who is always there, some may have left the line.
#[derive(Debug, Default)]
struct Line {
    places: VecDeque<(u64, SubscriptionKey)>,
    /// How many have left it.
    left: usize,
}

/// So many places in a line may be empty before it is closed up, beside as many as there are others.
const GAPS: usize = 32;

impl Line {
    fn first(&self) -> Option<(u64, SubscriptionKey)> {
        self.places.front().copied()
    }

    /// Takes those that have left out: at the front always, elsewhere when they are many, so that leaving costs the same
    /// wherever one stands.
    fn close_up(&mut self, stands: &impl Fn(u64, SubscriptionKey) -> bool) {
        while self.left > 0
            && let Some((number, key)) = self.first()
            && !stands(number, key)
        {
            self.places.pop_front();
            self.left -= 1;
        }
        if self.left > self.places.len() / 2 + GAPS {
            self.places.retain(|&(number, key)| stands(number, key));
            self.left = 0;
        }
    }
}

impl Class {
    fn is_ready(&self) -> bool {
        self.line.first().is_some()
    }

    /// What it comes after, if it wants the message too.
    fn rank(&self) -> Option<(Reverse<i8>, u64, SubscriptionKey)> {
        let (number, first) = self.line.first()?;
        Some((Reverse(self.sight.priority), number, first))
    }
}

/// All classes of a queue.
#[derive(Debug, Default)]
pub(super) struct Classes {
    classes: Slab<Class>,
    by_sight: FxHashMap<Sight, usize>,
    /// Those that look for themselves.
    alone: Vec<usize>,
    indexes: Slab<Index>,
}

impl Classes {
    /// One more consumer sees so.
    pub(super) fn join(&mut self, sight: Sight, backlog: &Backlog) -> ClassKey {
        let class = match self.by_sight.get(&sight) {
            Some(class) => *class,
            None => self.create(sight, backlog),
        };
        self.classes[class].members += 1;
        ClassKey(class)
    }

    fn create(&mut self, sight: Sight, backlog: &Backlog) -> usize {
        let catches_up = self.index_for(&sight);
        let class = self.classes.insert(Class {
            sight: sight.clone(),
            members: 0,
            line: Line::default(),
            look: Look::Own {
                gaze: Gaze::new(),
                catches_up,
            },
        });
        self.by_sight.insert(sight, class);
        self.alone.push(class);
        self.catch_up(class, backlog);
        class
    }

    /// The index that has the fewest classes to ask for what this one selects.
    fn index_for(&mut self, sight: &Sight) -> Option<(usize, Equality)> {
        let equalities = sight.selector.as_ref()?.equalities();
        let choices = equalities.into_iter().map(|asked| {
            let index = self
                .indexes
                .iter()
                .find(|(_, index)| *index.field() == asked.field);
            let others = index.map_or(0, |(_, index)| index.others(&asked));
            (others, index.map(|(at, _)| at), asked)
        });
        let (_, index, asked) = choices.min_by_key(|(others, index, _)| (*others, index.is_none()))?;
        let index = index.unwrap_or_else(|| self.indexes.insert(Index::new(asked.field.clone())));
        self.indexes[index].expect_one();
        Some((index, asked))
    }

    /// One consumer that saw so is gone.
    pub(super) fn leave(&mut self, ClassKey(key): ClassKey) {
        let class = &mut self.classes[key];
        class.members -= 1;
        if class.members > 0 {
            return;
        }
        let class = self.classes.remove(key);
        self.by_sight.remove(&class.sight);
        let index = match class.look {
            Look::Own { catches_up, .. } => {
                self.alone.retain(|alone| *alone != key);
                catches_up.map(|(index, _)| index)
            }
            Look::Index { index, asked, .. } => {
                self.indexes[index].remove(key, &asked);
                Some(index)
            }
        };
        if let Some(index) = index
            && self.indexes[index].forget_one()
        {
            self.indexes.remove(index);
        }
    }

    pub(super) fn sight(&self, ClassKey(key): ClassKey) -> &Sight {
        &self.classes[key].sight
    }

    /// The consumer takes its place at the end of those that are served.
    pub(super) fn line_up(&mut self, ClassKey(key): ClassKey, number: u64, consumer: SubscriptionKey) {
        self.classes[key].line.places.push_back((number, consumer));
        self.tell_index(key);
    }

    /// One has left the line; `stands` says of those in it whether they still do.
    pub(super) fn step_out(
        &mut self,
        ClassKey(key): ClassKey,
        stands: impl Fn(u64, SubscriptionKey) -> bool,
    ) {
        let line = &mut self.classes[key].line;
        line.left += 1;
        line.close_up(&stands);
        self.tell_index(key);
    }

    /// Nobody is served.
    pub(super) fn clear_lines(&mut self) {
        let keys: Vec<_> = self.classes.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.classes[key].line = Line::default();
            self.tell_index(key);
        }
    }

    /// True if anybody is in line.
    pub(super) fn any_ready(&self) -> bool {
        self.ready_alone().next().is_some() || self.indexes.iter().any(|(_, index)| index.is_ready())
    }

    /// All in line, and some that have left it.
    pub(super) fn in_line(&self) -> impl Iterator<Item = (u64, SubscriptionKey)> {
        self.classes
            .iter()
            .flat_map(|(_, class)| class.line.places.iter().copied())
    }

    fn ready_alone(&self) -> impl Iterator<Item = usize> {
        let ready = |class: &usize| self.classes[*class].is_ready();
        self.alone.iter().copied().filter(ready)
    }

    /// True if some consumer selects the message.
    pub(super) fn want(&self, message: &Message) -> bool {
        let alone = self.alone.iter().copied();
        let asked = self.indexes.iter().flat_map(|(_, index)| index.asked(message));
        alone
            .chain(asked)
            .any(|class| self.classes[class].sight.sees(message))
    }

    /// The next message that somebody in line has to look at.
    pub(super) fn next(&mut self, backlog: &Backlog) -> Option<Place> {
        let mut next = None;
        for class in &self.alone {
            let class = &mut self.classes[*class];
            if class.is_ready()
                && let Look::Own { gaze, .. } = &mut class.look
            {
                next = earlier(next, gaze.next(backlog));
            }
        }
        for (_, index) in &mut self.indexes {
            next = earlier(next, next_of(index, &mut self.classes, backlog));
        }
        next
    }

    /// From here on somebody in line has looked at nothing; somebody who is not, if nobody stands there.
    pub(super) fn fresh(&self) -> Option<Place> {
        let looks = |ready: bool| {
            let alone = self.alone.iter().map(|class| &self.classes[*class]);
            let alone = alone.filter(move |class| class.is_ready() || !ready);
            let alone = alone.filter_map(|class| match &class.look {
                Look::Own { gaze, .. } => Some(gaze.cursor()),
                Look::Index { .. } => None,
            });
            let indexes = self.indexes.iter().map(|(_, index)| index);
            let indexes = indexes.filter(move |index| index.is_ready() || !ready);
            alone.chain(indexes.map(|index| index.gaze.cursor())).min()
        };
        looks(true).or_else(|| looks(false))
    }

    /// What came back there, or was found, and somebody in line has not looked at. Some of it may be gone.
    pub(super) fn behind(&self, between: Range<Place>) -> impl Iterator<Item = Place> {
        let alone = self
            .ready_alone()
            .filter_map(|class| match &self.classes[class].look {
                Look::Own { gaze, .. } => Some(gaze),
                Look::Index { .. } => None,
            });
        let indexes = self.indexes.iter().map(|(_, index)| index);
        let indexes = indexes.filter(|index| index.is_ready());
        let found = {
            let between = between.clone();
            let indexes = indexes.clone();
            indexes.flat_map(move |index| index.all_found(between.clone()))
        };
        let gazes = alone.chain(indexes.map(|index| &index.gaze));
        gazes
            .flat_map(move |gaze| gaze.returned(between.clone()))
            .chain(found)
    }

    /// True if this class has looked at everything that is there.
    pub(super) fn has_nothing(&mut self, ClassKey(key): ClassKey, backlog: &Backlog) -> bool {
        match &mut self.classes[key].look {
            Look::Own { gaze, .. } => gaze.next(backlog).is_none(),
            Look::Index { index, found, .. } => {
                let nothing_found = !found.iter().any(|place| backlog.get(*place).is_some());
                nothing_found && self.indexes[*index].gaze.next(backlog).is_none()
            }
        }
    }

    /// Who in line takes the message: the highest priority first and, among equals, whoever was served the longest time
    /// ago.
    pub(super) fn choose(&self, place: Place, message: &Message) -> Option<SubscriptionKey> {
        // Whether a class wants the message costs the most, so only those are asked that would come before the best so far.
        let mut best = None;
        let mut ask = |class: usize| {
            if let Some((priority, number, first)) = self.classes[class].rank()
                && best.is_none_or(|(best, _)| (priority, number) < best)
                && self.is_for(class, place, message)
            {
                best = Some(((priority, number), first));
            }
        };
        self.alone.iter().copied().for_each(&mut ask);
        for (_, index) in &self.indexes {
            if index.is_ready() {
                index.asked(message).for_each(&mut ask);
            }
        }
        best.map(|(_, first)| first)
    }

    /// The class has not looked at the message, and selects it.
    fn is_for(&self, class: usize, place: Place, message: &Message) -> bool {
        let class = &self.classes[class];
        let seen = match &class.look {
            Look::Own { gaze, .. } => gaze.has_seen(place),
            Look::Index { index, found, .. } => {
                self.indexes[*index].gaze.has_seen(place) && !found.contains(&place)
            }
        };
        !seen && class.sight.sees(message)
    }

    /// Nobody in line takes the message here: all of them have looked at it.
    pub(super) fn pass(&mut self, place: Place, message: &Message, backlog: &Backlog) {
        let mut at = 0;
        while let Some(&class) = self.alone.get(at) {
            if self.classes[class].is_ready()
                && let Look::Own { gaze, .. } = &mut self.classes[class].look
            {
                gaze.pass(place);
                self.catch_up(class, backlog);
            }
            // One that has caught up stands there no more.
            at += usize::from(self.alone.get(at) == Some(&class));
        }
        for (_, index) in &mut self.indexes {
            pass_index(index, &mut self.classes, place, message, backlog);
        }
    }

    /// The message here goes to a consumer of this class.
    pub(super) fn take(&mut self, ClassKey(key): ClassKey, place: Place, backlog: &Backlog) {
        match &mut self.classes[key].look {
            Look::Own { gaze, .. } => {
                gaze.pass(place);
                self.catch_up(key, backlog);
            }
            Look::Index { index, found, .. } => {
                let gaze = &mut self.indexes[*index].gaze;
                if !found.remove(&place) && !gaze.has_seen(place) {
                    gaze.pass(place);
                }
                self.tell_index(key);
            }
        }
    }

    /// There is a message to look at here, for all.
    pub(super) fn look_at(&mut self, place: Place, backlog: &Backlog) {
        for class in &self.alone {
            if let Look::Own { gaze, .. } = &mut self.classes[*class].look {
                gaze.look_at(place, backlog);
            }
        }
        for (_, index) in &mut self.indexes {
            index.gaze.look_at(place, backlog);
        }
    }

    /// The class need not look for itself any more if it has seen as much as its index.
    fn catch_up(&mut self, key: usize, backlog: &Backlog) {
        let Look::Own {
            gaze,
            catches_up: Some((index, _)),
        } = &self.classes[key].look
        else {
            return;
        };
        let index = *index;
        if !gaze.has_caught_up_with(&self.indexes[index].gaze, backlog) {
            return;
        }
        let own = Look::Own {
            gaze: Gaze::new(),
            catches_up: None,
        };
        let Look::Own {
            gaze,
            catches_up: Some((_, asked)),
        } = std::mem::replace(&mut self.classes[key].look, own)
        else {
            return;
        };
        self.alone.retain(|alone| *alone != key);
        self.indexes[index].add(key, &asked);
        self.classes[key].look = Look::Index {
            index,
            asked,
            found: gaze.into_returned(),
        };
        self.tell_index(key);
    }

    /// The class's index knows whether it is in line, and what it has to look at first.
    fn tell_index(&mut self, key: usize) {
        let class = &self.classes[key];
        if let Look::Index { index, .. } = &class.look {
            tell(&mut self.indexes[*index], key, class);
        }
    }
}

fn tell(index: &mut Index, key: usize, class: &Class) {
    if let Look::Index { found, .. } = &class.look {
        index.note(key, class.is_ready(), found.first().copied());
    }
}

/// The next message that the index, or a class that it looks for, has to look at.
fn next_of(index: &mut Index, classes: &mut Slab<Class>, backlog: &Backlog) -> Option<Place> {
    if !index.is_ready() {
        return None;
    }
    let fresh = index.gaze.next(backlog);
    while let Some((place, key)) = index.first_found() {
        if fresh.is_some_and(|fresh| fresh <= place) {
            break;
        }
        if backlog.get(place).is_some() {
            return Some(place);
        }
        forget(index, classes, key, place);
    }
    fresh
}

/// None of those for whom the index looks, and who are in line, takes the message.
fn pass_index(
    index: &mut Index,
    classes: &mut Slab<Class>,
    place: Place,
    message: &Message,
    backlog: &Backlog,
) {
    if !index.is_ready() {
        return;
    }
    let first_look = !index.gaze.has_seen(place);
    index.gaze.pass(place);
    while let Some((first, key)) = index.first_found()
        && first == place
    {
        forget(index, classes, key, place);
    }
    if !first_look || index.all_ready() {
        return;
    }
    let asked: Vec<_> = index.asked(message).collect();
    for key in asked {
        let class = &mut classes[key];
        if !class.is_ready()
            && let Look::Index { found, .. } = &mut class.look
        {
            remember(found, place, backlog);
            tell(index, key, class);
        }
    }
}

/// The class has looked at what was found for it here, or it is gone.
fn forget(index: &mut Index, classes: &mut Slab<Class>, key: usize, place: Place) {
    let class = &mut classes[key];
    if let Look::Index { found, .. } = &mut class.look {
        found.remove(&place);
    }
    tell(index, key, class);
}

fn earlier(one: Option<Place>, other: Option<Place>) -> Option<Place> {
    one.into_iter().chain(other).min()
}
