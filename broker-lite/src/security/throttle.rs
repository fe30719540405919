//! Guessing is slowed down: who was wrong has to wait before the next attempt is looked at.
//!
//! Three books are kept: of an address with a user, of a user from wherever, and of an address with whomever. An
//! attempt waits for the slowest of them. Where a user logged in lately from an address, only the first counts, so
//! that nobody is kept out of the place they always come from by somebody who guesses elsewhere.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// What is remembered of each kind, twice: old and new. Past it the older half is forgotten, so memory is bounded
/// whatever names and addresses are tried.
const REMEMBERED: usize = 8192;

/// After so long without another failure, the failures are forgotten.
const FORGET: Duration = Duration::from_secs(10 * 60);

/// So long a user who logged in from an address is known to come from there.
const KNOWN: Duration = Duration::from_secs(24 * 60 * 60);

/// The first pause; each further failure doubles it.
const FIRST: Duration = Duration::from_millis(250);

/// How patient a book is: failures that cost no pause, and the longest pause.
#[derive(Debug, Clone, Copy)]
struct Patience {
    free: u32,
    longest: Duration,
}

/// People mistype; programs that are set up wrongly try for ever.
const PAIR: Patience = Patience {
    free: 3,
    longest: Duration::from_secs(5),
};

/// Many may come from one address, and a user may come from many. They are held up less, because others pay.
const ONE_SIDE: Patience = Patience {
    free: 10,
    longest: Duration::from_secs(2),
};

impl Patience {
    fn pause(self, failures: u32) -> Duration {
        match failures.checked_sub(self.free) {
            None | Some(0) => Duration::ZERO,
            Some(more) => FIRST.saturating_mul(1 << (more - 1).min(16)).min(self.longest),
        }
    }
}

/// Whose attempt it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attempt {
    pair: u64,
    sides: [Option<u64>; 2],
}

#[derive(Debug, Clone, Copy)]
struct Record {
    failures: u32,
    last: Instant,
    /// Before it nothing is looked at.
    next: Instant,
}

/// What was tried lately. All times are given.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// Names are kept as numbers that nobody outside can foresee, however long they are.
    numbers: RandomState,
    failed: Lately<Record>,
    known: Lately<Instant>,
}

impl Throttle {
    /// An attempt by a user, from an address if it came over a network.
    pub(super) fn attempt(&self, address: Option<IpAddr>, user: Option<&str>) -> Attempt {
        let address = address.map(|address| match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            // Who has one address of these has all of the network.
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        });
        Attempt {
            pair: self.numbers.hash_one((0, address, user)),
            sides: [
                address.map(|address| self.numbers.hash_one((1, address))),
                user.map(|user| self.numbers.hash_one((2, user))),
            ],
        }
    }

    fn books(&mut self, attempt: &Attempt, now: Instant) -> impl Iterator<Item = (u64, Patience)> + use<> {
        let known = self.known.get(attempt.pair).is_some_and(|&mut until| now < until);
        let sides = attempt.sides.into_iter().flatten().filter(move |_| !known);
        std::iter::once((attempt.pair, PAIR)).chain(sides.map(|side| (side, ONE_SIDE)))
    }

    fn record(&mut self, book: u64, now: Instant) -> Option<&mut Record> {
        self.failed
            .get(book)
            .filter(|record| now.saturating_duration_since(record.last) < FORGET)
    }

    /// Looks at an attempt: none if its turn is now, and then those that come next have to wait; or else how long
    /// it has to wait before it is asked for again.
    pub(super) fn wait(&mut self, attempt: &Attempt, now: Instant) -> Option<Duration> {
        let books: Vec<_> = self.books(attempt, now).collect();
        let wait = books
            .iter()
            .filter_map(|&(book, _)| {
                let record = self.record(book, now)?;
                record
                    .next
                    .checked_duration_since(now)
                    .filter(|wait| !wait.is_zero())
            })
            .max();
        if wait.is_none() {
            for (book, patience) in books {
                if let Some(record) = self.record(book, now) {
                    record.next = now + patience.pause(record.failures);
                }
            }
        }
        wait
    }

    /// How often it failed lately.
    pub(super) fn failures(&mut self, attempt: &Attempt, now: Instant) -> u32 {
        self.record(attempt.pair, now).map_or(0, |record| record.failures)
    }

    /// The attempt failed.
    pub(super) fn failed(&mut self, attempt: &Attempt, now: Instant) {
        let sides = attempt.sides.into_iter().flatten().map(|side| (side, ONE_SIDE));
        for (book, patience) in std::iter::once((attempt.pair, PAIR)).chain(sides) {
            let before = self.record(book, now).copied();
            let failures = before.map_or(1, |record| record.failures.saturating_add(1));
            let pause = now + patience.pause(failures);
            self.failed.insert(
                book,
                Record {
                    failures,
                    last: now,
                    next: before.map_or(pause, |record| record.next.max(pause)),
                },
            );
        }
    }

    /// The attempt was right.
    pub(super) fn succeeded(&mut self, attempt: &Attempt, now: Instant) {
        self.failed.remove(attempt.pair);
        self.known.insert(attempt.pair, now + KNOWN);
    }
}

/// A map of what was used lately, bounded.
#[derive(Debug)]
struct Lately<V> {
    new: HashMap<u64, V>,
    old: HashMap<u64, V>,
}

impl<V> Default for Lately<V> {
    fn default() -> Self {
        Self {
            new: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<V> Lately<V> {
    fn get(&mut self, key: u64) -> Option<&mut V> {
        if let Some(value) = self.old.remove(&key) {
            self.insert(key, value);
        }
        self.new.get_mut(&key)
    }

    fn insert(&mut self, key: u64, value: V) {
        if self.new.len() >= REMEMBERED && !self.new.contains_key(&key) {
            self.old = std::mem::take(&mut self.new);
        }
        self.old.remove(&key);
        self.new.insert(key, value);
    }

    fn remove(&mut self, key: u64) {
        self.new.remove(&key);
        self.old.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    /// How many guesses a while allows for, one after the other.
    fn guesses(
        throttle: &mut Throttle,
        mut now: Instant,
        within: Duration,
        mut next: impl FnMut(u32) -> Attempt,
    ) -> u32 {
        let end = now + within;
        let mut count = 0;
        loop {
            let attempt = next(count);
            while let Some(wait) = throttle.wait(&attempt, now) {
                now += wait;
                if now >= end {
                    return count;
                }
            }
            throttle.failed(&attempt, now);
            count += 1;
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_few_mistakes_cost_nothing() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let ada = throttle.attempt(address(1), Some("ada"));
        for _ in 0..PAIR.free {
            assert_eq!(throttle.wait(&ada, now), None);
            throttle.failed(&ada, now);
        }
        assert_eq!(throttle.wait(&ada, now), None);
        throttle.failed(&ada, now);
        assert_eq!(throttle.wait(&ada, now), Some(FIRST));
        assert_eq!(throttle.wait(&ada, now + FIRST), None);
        throttle.succeeded(&ada, now + FIRST);
        assert_eq!(throttle.failures(&ada, now + FIRST), 0);
        assert_eq!(throttle.wait(&ada, now + FIRST), None);
    }

    #[test]
    fn however_it_is_done_guessing_is_slow() {
        let now = Instant::now();
        let mut throttle = Throttle::default();
        let one = throttle.attempt(address(1), Some("ada"));
        assert!(guesses(&mut throttle, now, HOUR, |_| one) < 750);

        let mut throttle = Throttle::default();
        let many: Vec<_> = (0..=255)
            .map(|last| throttle.attempt(address(last), Some("ada")))
            .collect();
        let count = guesses(&mut throttle, now, HOUR, |count| {
            many[count as usize % many.len()]
        });
        assert!(count < 2000, "{count} guesses from many addresses");

        let mut throttle = Throttle::default();
        let users: Vec<_> = (0..5000)
            .map(|user| throttle.attempt(address(1), Some(&format!("user{user}"))))
            .collect();
        let count = guesses(&mut throttle, now, HOUR, |count| {
            users[count as usize % users.len()]
        });
        assert!(count < 2000, "{count} guesses of many users");
    }

    /// Those that wait at the same time get their turns one by one.
    #[test]
    fn many_at_once_gain_nothing() {
        let (mut throttle, mut now) = (Throttle::default(), Instant::now());
        let ada = throttle.attempt(address(1), Some("ada"));
        for _ in 0..20 {
            throttle.failed(&ada, now);
        }
        now += PAIR.longest;
        assert_eq!(throttle.wait(&ada, now), None);
        for _ in 0..100 {
            assert_eq!(throttle.wait(&ada, now), Some(PAIR.longest));
        }
    }

    #[test]
    fn guessing_elsewhere_does_not_keep_anybody_out() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let home = throttle.attempt(address(1), Some("ada"));
        throttle.succeeded(&home, now);
        for last in 2..100 {
            let elsewhere = throttle.attempt(address(last), Some("ada"));
            let other = throttle.attempt(address(1), Some("eve"));
            throttle.failed(&elsewhere, now);
            throttle.failed(&other, now);
        }
        let new = throttle.attempt(address(200), Some("ada"));
        assert!(throttle.wait(&new, now).is_some());
        assert_eq!(throttle.wait(&home, now), None);
    }

    #[test]
    fn failures_are_forgotten() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let ada = throttle.attempt(address(1), Some("ada"));
        for _ in 0..50 {
            throttle.failed(&ada, now);
        }
        assert_eq!(throttle.failures(&ada, now), 50);
        assert_eq!(throttle.failures(&ada, now + FORGET), 0);
        throttle.failed(&ada, now + FORGET);
        assert_eq!(throttle.wait(&ada, now + FORGET), None);
    }

    #[test]
    fn memory_is_bounded_and_the_busiest_stay() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let ada = throttle.attempt(None, Some("ada"));
        for _ in 0..50 {
            throttle.failed(&ada, now);
        }
        for name in 0..10 * REMEMBERED {
            let other = throttle.attempt(address(1), Some(&name.to_string()));
            throttle.failed(&other, now);
            if name % 1000 == 0 {
                assert!(throttle.wait(&ada, now).is_some());
            }
        }
        assert!(throttle.failed.new.len() <= REMEMBERED && throttle.failed.old.len() <= REMEMBERED);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let throttle = Throttle::default();
        let attempt = |address: &str| throttle.attempt(Some(address.parse().unwrap()), Some("ada"));
        assert_eq!(attempt("2001:db8::1"), attempt("2001:db8::2:3"));
        assert_ne!(attempt("2001:db8::1"), attempt("2001:db8:0:1::1"));
        assert_eq!(attempt("::ffff:192.0.2.1"), attempt("192.0.2.1"));
        assert_ne!(attempt("192.0.2.1"), attempt("192.0.2.2"));
    }
}
