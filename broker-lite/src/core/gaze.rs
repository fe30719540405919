//! How far somebody has looked at a queue's messages.

use std::collections::BTreeSet;
use std::ops::Range;

use super::backlog::{Backlog, Place};

/// What was looked at: everything before the *cursor* but what came back behind it.
#[derive(Debug)]
pub(super) struct Gaze {
    cursor: Place,
    /// What came back behind the cursor. Some of it may be gone again.
    returned: BTreeSet<Place>,
}

impl Gaze {
    /// Nothing was looked at.
    pub(super) fn new() -> Self {
        Self {
            cursor: Place::START,
            returned: BTreeSet::new(),
        }
    }

    /// The next message to look at.
    pub(super) fn next(&mut self, backlog: &Backlog) -> Option<Place> {
        let fresh = backlog.first_from(self.cursor).map(|(place, _)| place);
        while let Some(&place) = self.returned.first() {
            if fresh.is_some_and(|fresh| fresh <= place) {
                break;
            }
            if backlog.get(place).is_some() {
                return Some(place);
            }
            self.returned.pop_first();
        }
        fresh
    }

    /// The message at this place has been looked at, or is gone.
    pub(super) fn pass(&mut self, place: Place) {
        if place >= self.cursor {
            self.cursor = place.next();
        } else {
            self.returned.remove(&place);
        }
    }

    /// Everything before this was looked at, but what came back.
    pub(super) fn cursor(&self) -> Place {
        self.cursor
    }

    /// What came back there.
    pub(super) fn returned(&self, between: Range<Place>) -> impl Iterator<Item = Place> {
        self.returned.range(between).copied().take(ASKED_FOR)
    }

    pub(super) fn has_seen(&self, place: Place) -> bool {
        place < self.cursor && !self.returned.contains(&place)
    }

    /// There is a message to look at here.
    pub(super) fn look_at(&mut self, place: Place, backlog: &Backlog) {
        if place < self.cursor {
            remember(&mut self.returned, place, backlog);
        }
    }

    /// No message waits between where this one has come to and where the other has: what came back aside, this one has
    /// seen as much.
    pub(super) fn has_caught_up_with(&self, other: &Self, backlog: &Backlog) -> bool {
        let fresh = backlog.first_from(self.cursor);
        fresh.is_none_or(|(place, _)| place >= other.cursor)
    }

    /// What came back and was not looked at again.
    pub(super) fn into_returned(self) -> BTreeSet<Place> {
        self.returned
    }
}

/// Nobody wants to know of more at once.
pub(super) const ASKED_FOR: usize = 1024;

/// So many places are remembered at least before those are forgotten at which nothing is any more.
const FORGET: usize = 1024;

/// Remembers a place, in a number of them that does not grow beyond what waits.
pub(super) fn remember(places: &mut BTreeSet<Place>, place: Place, backlog: &Backlog) {
    places.insert(place);
    if places.len() > backlog.len() * 2 + FORGET {
        places.retain(|place| backlog.get(*place).is_some());
    }
}
