//! Who sent what, what was confirmed, what came: plain book-keeping, without I/O and without a clock.
//!
//! Everything is kept as ranges of numbers, so that a long run takes no more memory than a short one as long as
//! few messages are missing in between.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use rangemap::RangeSet;

use super::report::Report;

/// As many messages as may have been taken from one consumer's connection without the broker knowing yet that they
/// were acknowledged: the largest prefetch there is by default, and as many again whose acknowledgement the broker
/// has taken in and not stored.
const UNSETTLED: usize = 2000;

/// A message of this run as a consumer got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) producer: usize,
    pub(super) number: u64,
    pub(super) redelivered: bool,
}

/// The books of a run.
#[derive(Debug)]
pub(super) struct Books {
    producers: Vec<Account>,
    consumers: Vec<Consuming>,
    duplicated: u64,
    flagged: u64,
    out_of_order: u64,
    foreign: u64,
    poisoned: u64,
    reconnects: u64,
    arrivals: Arrivals,
}

/// What is known about the messages of one producer.
#[derive(Debug, Default)]
struct Account {
    /// How many numbers were given out; the next message gets this one.
    sent: u64,
    /// An answer was asked for and has not come.
    unanswered: RangeSet<u64>,
    confirmed: RangeSet<u64>,
    /// Transactions whose commit is in doubt: each happened as a whole or not at all.
    doubtful_commits: Vec<Range<u64>>,
    /// Received for good: acknowledged, or the consumer's commit was confirmed.
    settled: RangeSet<u64>,
    /// Received in a transaction of the consumer whose commit is in doubt.
    doubtful: RangeSet<u64>,
    /// Received either way.
    came: RangeSet<u64>,
    /// Settled twice, and the second time without the redelivered flag.
    unflagged: RangeSet<u64>,
    /// Received shortly before the consumer's connection broke: the acknowledgement may not have arrived.
    shaken: RangeSet<u64>,
    /// Up to here messages may have gone back to the queue from a broken connection: their order means nothing.
    disturbed: u64,
}

/// What is known about a consumer.
#[derive(Debug)]
struct Consuming {
    /// For each producer, the number that has to come next or later.
    next: Vec<u64>,
    /// The last messages that were acknowledged without an answer.
    recent: VecDeque<(usize, u64)>,
    /// Part of a commit that is not answered.
    committing: Vec<Delivery>,
}

/// When messages came, as time since the run began.
#[derive(Debug, Default)]
struct Arrivals {
    last: Duration,
    longest_gap: Duration,
}

impl Books {
    pub(super) fn new(producers: usize, consumers: usize) -> Self {
        let consuming = || Consuming {
            next: vec![0; producers],
            recent: VecDeque::new(),
            committing: Vec::new(),
        };
        Self {
            producers: (0..producers).map(|_| Account::default()).collect(),
            consumers: (0..consumers).map(|_| consuming()).collect(),
            duplicated: 0,
            flagged: 0,
            out_of_order: 0,
            foreign: 0,
            poisoned: 0,
            reconnects: 0,
            arrivals: Arrivals::default(),
        }
    }

    /// The load begins.
    pub(super) fn begin(&mut self, at: Duration) {
        self.arrivals.last = at;
    }

    /// A producer's next message gets this number.
    pub(super) fn number(&mut self, producer: usize) -> u64 {
        let Some(account) = self.producers.get_mut(producer) else {
            return 0;
        };
        account.sent += 1;
        account.sent - 1
    }

    /// Messages, or the commit of their transaction, go to the broker, and it shall answer. Without a word to the
    /// contrary they stay in doubt.
    pub(super) fn asked(&mut self, producer: usize, numbers: Range<u64>) {
        self.account(producer, |account| insert(&mut account.unanswered, numbers));
    }

    /// The broker has them.
    pub(super) fn confirmed(&mut self, producer: usize, numbers: Range<u64>) {
        self.account(producer, |account| {
            remove(&mut account.unanswered, numbers.clone());
            insert(&mut account.confirmed, numbers);
        });
    }

    /// The broker does not have them: it refused, or the transaction was rolled back.
    pub(super) fn refused(&mut self, producer: usize, numbers: Range<u64>) {
        self.account(producer, |account| remove(&mut account.unanswered, numbers));
    }

    /// The commit of a transaction with these messages is in doubt.
    pub(super) fn commit_in_doubt(&mut self, producer: usize, numbers: Range<u64>) {
        self.account(producer, |account| account.doubtful_commits.push(numbers));
    }

    /// A consumer got a message. False if it is none of this run.
    pub(super) fn delivered(&mut self, consumer: usize, delivery: Delivery, at: Duration) -> bool {
        self.arrivals.came(at);
        let account = self.producers.get(delivery.producer);
        let Some(account) = account.filter(|account| delivery.number < account.sent) else {
            self.foreign += 1;
            return false;
        };
        // What comes again comes out of order, and says nothing about what comes for the first time.
        let exempt = delivery.redelivered
            || delivery.number < account.disturbed
            || account.came.contains(&delivery.number);
        let consuming = self.consumers.get_mut(consumer);
        if !exempt && let Some(next) = consuming.and_then(|it| it.next.get_mut(delivery.producer)) {
            if delivery.number < *next {
                self.out_of_order += 1;
            } else {
                *next = delivery.number + 1;
            }
        }
        true
    }

    /// A message that is none of this run came.
    pub(super) fn foreign(&mut self) {
        self.foreign += 1;
    }

    /// The consumer's connection acknowledges a message by itself.
    pub(super) fn acknowledged(&mut self, consumer: usize, delivery: Delivery) {
        self.settle(delivery);
        if let Some(consuming) = self.consumers.get_mut(consumer) {
            if consuming.recent.len() == UNSETTLED {
                consuming.recent.pop_front();
            }
            consuming.recent.push_back((delivery.producer, delivery.number));
        }
    }

    /// The consumer commits a transaction in which it got these messages.
    pub(super) fn committing(&mut self, consumer: usize, deliveries: Vec<Delivery>) {
        if let Some(consuming) = self.consumers.get_mut(consumer) {
            consuming.committing = deliveries;
        }
    }

    /// The broker has confirmed the consumer's commit.
    pub(super) fn committed(&mut self, consumer: usize) {
        for delivery in self.take_committing(consumer) {
            self.settle(delivery);
        }
    }

    /// The consumer's transaction was rolled back: its messages come again.
    pub(super) fn rolled_back(&mut self, consumer: usize) {
        self.take_committing(consumer);
    }

    /// The consumer's commit is in doubt: its messages come again or not.
    pub(super) fn receipt_in_doubt(&mut self, consumer: usize) {
        for Delivery { producer, number, .. } in self.take_committing(consumer) {
            self.account(producer, |account| {
                insert(&mut account.doubtful, number..number + 1);
                insert(&mut account.came, number..number + 1);
            });
        }
    }

    fn take_committing(&mut self, consumer: usize) -> Vec<Delivery> {
        let consuming = self.consumers.get_mut(consumer);
        consuming.map_or_else(Vec::new, |consuming| std::mem::take(&mut consuming.committing))
    }

    fn settle(&mut self, delivery: Delivery) {
        let number = delivery.number;
        let Some(account) = self.producers.get_mut(delivery.producer) else {
            return;
        };
        if !account.settled.contains(&number) {
            insert(&mut account.settled, number..number + 1);
            insert(&mut account.came, number..number + 1);
            return;
        }
        self.duplicated += 1;
        if delivery.redelivered {
            self.flagged += 1;
        } else {
            insert(&mut account.unflagged, number..number + 1);
        }
    }

    /// A consumer's connection broke, or came back: what it had been sent may go to others, later than it should, and
    /// what it acknowledged last may come again.
    pub(super) fn disturbed(&mut self, consumer: usize) {
        for account in &mut self.producers {
            account.disturbed = account.sent;
        }
        if let Some(consuming) = self.consumers.get(consumer) {
            for &(producer, number) in &consuming.recent {
                if let Some(account) = self.producers.get_mut(producer) {
                    insert(&mut account.shaken, number..number + 1);
                }
            }
        }
    }

    /// A broken connection was replaced.
    pub(super) fn reconnected(&mut self) {
        self.reconnects += 1;
    }

    /// A consumer's connection gave messages up because they had been delivered too often.
    pub(super) fn poisoned(&mut self, messages: u64) {
        self.poisoned += messages;
    }

    /// How many messages have to come still.
    pub(super) fn missing(&self) -> u64 {
        self.producers.iter().map(Account::missing).sum()
    }

    pub(super) fn sent(&self) -> u64 {
        self.producers.iter().map(|account| account.sent).sum()
    }

    pub(super) fn confirmed_messages(&self) -> u64 {
        self.producers
            .iter()
            .map(|account| count(&account.confirmed))
            .sum()
    }

    /// How many messages came, each counted once.
    pub(super) fn received(&self) -> u64 {
        self.producers.iter().map(|account| count(&account.came)).sum()
    }

    /// When the last message came.
    pub(super) fn last_arrival(&self) -> Duration {
        self.arrivals.last
    }

    /// The end of the run: what is said about it.
    pub(super) fn close(mut self, at: Duration) -> Report {
        for consumer in 0..self.consumers.len() {
            self.receipt_in_doubt(consumer);
        }
        let lost = self.missing();
        if lost > 0 {
            self.arrivals.came(at);
        }
        let sum = |of: fn(&Account) -> u64| self.producers.iter().map(of).sum::<u64>();
        let (sent, confirmed) = (self.sent(), self.confirmed_messages());
        let unanswered = sum(|account| count(&account.unanswered));
        let doubtful_receipts = sum(|account| count(&account.doubtful));
        Report {
            sent,
            confirmed,
            received: self.received(),
            lost,
            duplicated: self.duplicated,
            in_doubt: unanswered + doubtful_receipts,
            out_of_order: self.out_of_order,
            reconnects: self.reconnects,
            longest_gap_ms: u64::try_from(self.arrivals.longest_gap.as_millis()).unwrap_or(u64::MAX),
            flagged: self.flagged,
            unexplained: sum(Account::unexplained),
            doubtful_receipts,
            refused: sent - confirmed - unanswered,
            unexpected: sum(Account::unexpected),
            foreign: self.foreign,
            poisoned: self.poisoned,
        }
    }

    fn account(&mut self, producer: usize, change: impl FnOnce(&mut Account)) {
        if let Some(account) = self.producers.get_mut(producer) {
            change(account);
        }
    }
}

impl Account {
    /// Confirmed and not come. A transaction in doubt of which some came has happened, so all of it has to come.
    fn missing(&self) -> u64 {
        let confirmed = without(&self.confirmed, &self.came);
        let halves = self.doubtful_commits.iter().map(|numbers| {
            let missing = holes(numbers, &self.came);
            if missing < numbers.end - numbers.start {
                missing
            } else {
                0
            }
        });
        confirmed + halves.sum::<u64>()
    }

    /// Came twice, and nothing has told that it might: no flag, no doubt, no break.
    fn unexplained(&self) -> u64 {
        let mut unexplained = self.unflagged.clone();
        for reason in [&self.unanswered, &self.doubtful, &self.shaken] {
            for numbers in reason.iter() {
                unexplained.remove(numbers.clone());
            }
        }
        count(&unexplained)
    }

    /// Came although the broker had said that it does not have it.
    fn unexpected(&self) -> u64 {
        let mut known = self.confirmed.clone();
        known.extend(self.unanswered.iter().cloned());
        without(&self.came, &known)
    }
}

impl Arrivals {
    fn came(&mut self, at: Duration) {
        self.longest_gap = self.longest_gap.max(at.saturating_sub(self.last));
        self.last = at;
    }
}

/// As [`RangeSet::insert`], for which an empty range is an error.
fn insert(set: &mut RangeSet<u64>, numbers: Range<u64>) {
    if !numbers.is_empty() {
        set.insert(numbers);
    }
}

/// As [`RangeSet::remove`], for which an empty range is an error.
fn remove(set: &mut RangeSet<u64>, numbers: Range<u64>) {
    if !numbers.is_empty() {
        set.remove(numbers);
    }
}

fn count(set: &RangeSet<u64>) -> u64 {
    set.iter().map(|numbers| numbers.end - numbers.start).sum()
}

/// How many of these numbers are not in the set.
fn holes(numbers: &Range<u64>, set: &RangeSet<u64>) -> u64 {
    set.gaps(numbers).map(|gap| gap.end - gap.start).sum()
}

/// How many of one set are not in the other.
fn without(set: &RangeSet<u64>, other: &RangeSet<u64>) -> u64 {
    set.iter().map(|numbers| holes(numbers, other)).sum()
}

#[cfg(test)]
mod tests;
