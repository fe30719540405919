//! Batches in line for the writer of a store, and when it takes them.
//!
//! A batch that somebody waits for is written at once, or as soon as those are there that may be expected with it; see
//! [`Gather`]. One that nobody waits for, an acknowledgement mostly, goes with the next that somebody does, or when its
//! patience ends: it would only keep the disk busy when the next message comes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::gather::Gather;

/// For so long a batch that nobody waits for may stay in line.
const PATIENCE: Duration = Duration::from_millis(2);

/// When the writer is to take from the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Now,
    /// Then, unless it is woken before.
    At(Instant),
    /// There is nothing to write.
    Idle,
}

/// What waits to be written, in order.
#[derive(Debug)]
pub(super) struct Line<T> {
    waiting: VecDeque<Place<T>>,
    /// How many of them are waited for.
    awaited: usize,
    /// Everything is to be written now.
    hurried: bool,
    /// Until when those that nobody waits for stay.
    patience: Option<Instant>,
    gather: Gather,
    /// The writer sleeps until so many are waited for.
    wanted: usize,
    appended: u64,
}

#[derive(Debug)]
struct Place<T> {
    batch: T,
    awaited: bool,
}

/// What a writer took, and how many of it are waited for.
#[derive(Debug)]
pub(super) struct Group<T> {
    pub(super) batches: Vec<T>,
    pub(super) awaited: usize,
}

impl<T> Line<T> {
    /// An empty one, for a writer with whose clients a batch more takes `each` longer; see [`Gather::new`].
    pub(super) fn new(each: Duration) -> Self {
        Self {
            waiting: VecDeque::new(),
            awaited: 0,
            hurried: false,
            patience: None,
            gather: Gather::new(each),
            wanted: 0,
            appended: 0,
        }
    }

    /// Adds a batch at the end; true if the writer is to be woken.
    pub(super) fn push(&mut self, batch: T, awaited: bool) -> bool {
        self.waiting.push_back(Place { batch, awaited });
        self.appended += 1;
        if awaited {
            self.awaited += 1;
            return self.awaited >= self.wanted;
        }
        let first = self.patience.is_none();
        if first {
            self.patience = Some(Instant::now() + PATIENCE);
        }
        // Where somebody is waited for, the writer is awake or knows when to be.
        first && self.awaited == 0
    }

    /// Whoever is in line is waited for now.
    pub(super) fn hurry(&mut self) {
        self.hurried = true;
    }

    /// What the writer is to do. It asks again after it was woken, and after the time that it is told.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        self.wanted = 0;
        if self.waiting.is_empty() {
            return Next::Idle;
        }
        let is_over = self.patience.is_some_and(|until| until <= now);
        if self.hurried || is_over {
            return Next::Now;
        }
        if self.awaited == 0 {
            return self.patience.map_or(Next::Now, Next::At);
        }
        let Some((until, wanted)) = self.gather.wait(self.awaited, now) else {
            return Next::Now;
        };
        self.wanted = wanted;
        Next::At(self.patience.map_or(until, |patience| patience.min(until)))
    }

    /// Takes from the front for as long as they `fit`, at least one.
    pub(super) fn take(&mut self, mut fit: impl FnMut(&T) -> bool) -> Group<T> {
        let count = self.waiting.iter().take_while(|place| fit(&place.batch)).count();
        let count = count.max(1).min(self.waiting.len());
        let awaited = self.waiting.iter().take(count).filter(|place| place.awaited);
        let awaited = awaited.count();
        self.awaited -= awaited;
        let batches = self.waiting.drain(..count).map(|place| place.batch).collect();
        if self.waiting.is_empty() {
            // What is left behind is as old as it was.
            (self.hurried, self.patience) = (false, None);
        }
        Group { batches, awaited }
    }

    /// A group was written; how long it took and who came meanwhile tells for how many the next one waits.
    pub(super) fn written(&mut self, awaited: usize, took: Duration) {
        if awaited > 0 {
            self.gather.written(awaited, took, self.awaited);
        }
    }

    /// How many were ever in line.
    pub(super) fn appended(&self) -> u64 {
        self.appended
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True if somebody waits for something in it.
    #[cfg(test)]
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited > 0 || (self.hurried && !self.waiting.is_empty())
    }

    /// Everybody leaves.
    pub(super) fn drain(&mut self) -> Vec<T> {
        self.awaited = 0;
        let everybody = std::mem::take(&mut self.waiting);
        everybody.into_iter().map(|place| place.batch).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(line: &mut Line<u32>) -> (Vec<u32>, usize) {
        let Group { batches, awaited } = line.take(|_| true);
        (batches, awaited)
    }

    #[test]
    fn what_is_waited_for_is_written_at_once_and_takes_the_rest_along() {
        let mut line = Line::new(Duration::from_micros(10));
        assert!(line.push(1, false), "the writer sets its alarm");
        assert!(!line.push(2, false));
        let now = Instant::now();
        assert!(matches!(line.next(now), Next::At(until) if until <= now + PATIENCE));
        assert!(line.push(3, true));
        assert_eq!(line.next(now), Next::Now);
        assert_eq!(take(&mut line), (vec![1, 2, 3], 1));
        assert_eq!(line.next(now), Next::Idle);
    }

    #[test]
    fn patience_ends() {
        let mut line = Line::new(Duration::from_micros(10));
        line.push(1, false);
        assert_eq!(line.next(Instant::now() + PATIENCE), Next::Now);
        assert_eq!(take(&mut line), (vec![1], 0));
        line.push(2, false);
        assert!(matches!(line.next(Instant::now()), Next::At(_)), "it begins anew");
    }

    #[test]
    fn whoever_hurries_waits_for_all() {
        let mut line = Line::new(Duration::from_micros(10));
        line.push(1, false);
        line.hurry();
        assert_eq!(line.next(Instant::now()), Next::Now);
        // No more than one fits: the rest is as urgent.
        line.push(2, false);
        let first = line.take(|&batch| batch == 1);
        assert_eq!(first.batches, [1]);
        assert_eq!(line.next(Instant::now()), Next::Now);
        assert_eq!(take(&mut line), (vec![2], 0));
    }

    #[test]
    fn the_writer_is_woken_once_those_are_there_that_it_waits_for() {
        let mut line = Line::new(Duration::from_micros(10));
        line.written(3, Duration::from_millis(1));
        assert!(line.push(1, true), "it does not know yet for how many to wait");
        assert!(matches!(line.next(Instant::now()), Next::At(_)));
        assert!(!line.push(2, true));
        assert!(!line.push(3, false));
        assert!(line.push(4, true));
        assert_eq!(line.next(Instant::now()), Next::Now);
        assert_eq!(take(&mut line), (vec![1, 2, 3, 4], 3));
    }

    #[test]
    fn the_first_is_taken_whether_it_fits_or_not() {
        let mut line = Line::new(Duration::from_micros(10));
        line.push(1, true);
        line.push(2, true);
        assert_eq!(line.take(|_| false).batches, [1]);
        assert_eq!((line.appended(), line.drain()), (2, vec![2]));
        assert!(line.is_empty() && line.take(|_| true).batches.is_empty());
    }
}
