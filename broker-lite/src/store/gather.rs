//! Whom a writer waits for before it writes a group of batches.
//!
//! What arrives while a group is written is the next one. Clients that send one message at a time then fall into two
//! halves, each of which waits for two groups: its own, and that of the others. But whoever was just answered is about
//! to come back. So a writer waits a moment for as many batches as it may expect, for no longer than writing the last
//! group took: nobody is worse off than with two halves, and where they come back in time all are written together.

use std::time::{Duration, Instant};

/// So many batches are waited for in any case.
const FEW: usize = 16;

/// What is quicker than this is not waited for: to fall asleep and wake up takes as long.
const SHORTEST: Duration = Duration::from_micros(50);

/// What is slower than this is not waited for as long.
const LONGEST: Duration = Duration::from_millis(10);

/// After waiting in vain again and again, up to 2 to this power groups are not waited for.
const PATIENCE: u32 = 6;

/// What a writer knows of those it writes for.
#[derive(Debug)]
pub(super) struct Gather {
    /// About how much longer it takes with each batch more, in which its client has its answer and comes back and it is
    /// written.
    each: Duration,
    /// How many batches may be expected: those that the last group answered, and those that arrived meanwhile.
    expected: usize,
    /// How long the last group took.
    took: Duration,
    /// Until when the next group is waited for, once something of it is there.
    until: Option<Instant>,
    /// How often in a row it was waited in vain.
    vain: u32,
    /// For so many groups nobody is waited for.
    unwaited: u32,
}

impl Gather {
    /// For a writer for whose clients a batch more takes `each` longer: to answer, to come back, and to write.
    pub(super) fn new(each: Duration) -> Self {
        Self {
            each,
            expected: 0,
            took: Duration::ZERO,
            until: None,
            vain: 0,
            unwaited: 0,
        }
    }

    /// So many batches wait to be written: until when, and for how many in all, to wait. None if they are to be written
    /// now.
    pub(super) fn wait(&mut self, waiting: usize, now: Instant) -> Option<(Instant, usize)> {
        let too_many = self.expected > FEW && self.each * self.expected as u32 > self.took;
        if self.unwaited > 0 || waiting >= self.expected || too_many || self.took < SHORTEST {
            return None;
        }
        let until = *self.until.get_or_insert_with(|| now + self.took.min(LONGEST));
        (now < until).then_some((until, self.expected))
    }

    /// A group of so many batches was written in this time, in which so many others have arrived.
    pub(super) fn written(&mut self, batches: usize, took: Duration, arrived: usize) {
        if self.until.take().is_some() {
            match batches < self.expected {
                true => {
                    self.vain = (self.vain + 1).min(PATIENCE);
                    self.unwaited = 1 << self.vain;
                }
                false => self.vain = 0,
            }
        } else {
            self.unwaited = self.unwaited.saturating_sub(1);
        }
        self.expected = batches + arrived;
        self.took = took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Duration = Duration::from_micros(200);
    const EACH: Duration = Duration::from_micros(10);

    /// A group of `alone`, while whose writing `meanwhile` others came.
    fn after(alone: usize, meanwhile: usize) -> Gather {
        let mut gather = Gather::new(EACH);
        gather.written(alone, WRITE, meanwhile);
        gather
    }

    #[test]
    fn one_that_sends_alone_is_not_kept_waiting() {
        let mut gather = after(1, 0);
        for _ in 0..10 {
            assert_eq!(gather.wait(1, Instant::now()), None);
            gather.written(1, WRITE, 0);
        }
    }

    #[test]
    fn two_halves_become_one_group() {
        let mut gather = after(4, 4);
        let now = Instant::now();
        assert_eq!(gather.wait(4, now), Some((now + WRITE, 8)));
        // The time runs from the first look.
        assert_eq!(gather.wait(7, now + WRITE / 2), Some((now + WRITE, 8)));
        assert_eq!(gather.wait(8, now + WRITE / 2), None);
        gather.written(8, WRITE, 0);
        assert!(gather.wait(1, now).is_some());
    }

    #[test]
    fn nobody_is_waited_for_longer_than_a_write_takes() {
        let mut gather = after(4, 4);
        let now = Instant::now();
        assert!(gather.wait(4, now).is_some());
        assert_eq!(gather.wait(4, now + WRITE), None);
        let mut gather = Gather::new(EACH);
        gather.written(2, Duration::from_secs(30), 0);
        assert_eq!(gather.wait(1, now), Some((now + LONGEST, 2)));
    }

    #[test]
    fn waiting_in_vain_becomes_rare() {
        let mut gather = after(2, 0);
        let now = Instant::now();
        let mut waited = 0;
        for _ in 0..1_000 {
            if gather.wait(1, now).is_some() {
                waited += 1;
                assert_eq!(gather.wait(1, now + WRITE), None);
            }
            // Another one comes while it is written, but never before.
            gather.written(1, WRITE, 1);
        }
        assert!((5..=20).contains(&waited), "{waited}");
    }

    #[test]
    fn nobody_is_waited_for_where_writing_takes_no_time() {
        let mut gather = Gather::new(EACH);
        gather.written(4, SHORTEST / 2, 4);
        assert_eq!(gather.wait(4, Instant::now()), None);
    }

    #[test]
    fn more_are_waited_for_only_while_a_write_takes_longer_than_they_do() {
        let mut gather = after(10, 10);
        assert!(gather.wait(1, Instant::now()).is_some(), "20 come back in 200 us");
        let mut gather = after(10, 11);
        assert_eq!(gather.wait(1, Instant::now()), None);
        let mut gather = Gather::new(EACH);
        gather.written(64, Duration::from_millis(1), 0);
        assert!(gather.wait(1, Instant::now()).is_some());
    }
}
