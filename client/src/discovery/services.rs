//! Who is there: a book without sockets and clocks.

use std::time::{Duration, Instant};

use crate::uri::AgentRetry;

/// So many brokers are known at a time; further ones are ignored until one has left. Far more than a network of
/// brokers has, and little to search and to send.
pub(super) const MAX_SERVICES: usize = 256;

/// A broker that announces itself and has not failed for so long has recovered: its failures are forgotten. As in
/// ActiveMQ.
const RECOVERED: Duration = Duration::from_secs(60);

/// The brokers that are there, in the order in which they came.
#[derive(Debug)]
pub(super) struct Services {
    known: Vec<Service>,
    /// Who has not been heard for so long is gone.
    lifetime: Duration,
    retry: AgentRetry,
}

#[derive(Debug)]
struct Service {
    uri: String,
    heard: Instant,
    failures: u32,
    /// When the last failure is over, or was.
    recovery: Option<Instant>,
    failed: bool,
}

/// What an announcement of life was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Of one that was not known.
    New,
    /// Of one that had failed and is tried again.
    Recovered,
    /// Of one that is known, or that has failed lately.
    Known,
    /// Of one too many.
    NoRoom,
}

impl Services {
    pub(super) fn new(lifetime: Duration, retry: AgentRetry) -> Self {
        Self {
            known: Vec::new(),
            lifetime,
            retry,
        }
    }

    /// The URIs of those that are there and have not failed.
    pub(super) fn list(&self) -> Vec<String> {
        let good = self.known.iter().filter(|service| !service.failed);
        good.map(|service| service.uri.clone()).collect()
    }

    pub(super) fn alive(&mut self, uri: &str, now: Instant) -> Life {
        if let Some(service) = self.known.iter_mut().find(|service| service.uri == uri) {
            return service.alive(now, self.retry.max_reconnect_attempts);
        }
        if self.known.len() >= MAX_SERVICES {
            return Life::NoRoom;
        }
        self.known.push(Service {
            uri: uri.into(),
            heard: now,
            failures: 0,
            recovery: None,
            failed: false,
        });
        Life::New
    }

    /// True if the list has changed.
    pub(super) fn dead(&mut self, uri: &str) -> bool {
        let Some(at) = self.known.iter().position(|service| service.uri == uri) else {
            return false;
        };
        !self.known.remove(at).failed
    }

    /// Somebody could not connect to it, or lost it. True if the list has changed.
    pub(super) fn failed(&mut self, uri: &str, now: Instant) -> bool {
        let known = self.known.iter_mut();
        let Some(service) = known
            .into_iter()
            .find(|service| service.uri == uri && !service.failed)
        else {
            return false;
        };
        service.failed = true;
        service.failures = service.failures.saturating_add(1);
        service.recovery = now.checked_add(delay(&self.retry, service.failures));
        true
    }

    /// Forgets those that have not been heard for long. True if the list has changed.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let mut changed = false;
        self.known.retain(|service| {
            let gone = now.saturating_duration_since(service.heard) > self.lifetime;
            changed |= gone && !service.failed;
            !gone
        });
        changed
    }
}

impl Service {
    fn alive(&mut self, now: Instant, attempts: Option<u32>) -> Life {
        self.heard = now;
        if !self.failed {
            let good = self.recovery.map(|since| now.saturating_duration_since(since));
            if good.is_some_and(|good| good > RECOVERED) {
                self.failures = 0;
                self.recovery = None;
            }
            return Life::Known;
        }
        let given_up = attempts.is_some_and(|attempts| self.failures > attempts);
        if given_up || self.recovery.is_none_or(|recovery| now < recovery) {
            return Life::Known;
        }
        self.failed = false;
        Life::Recovered
    }
}

/// How long one that has failed so often is not reported.
fn delay(retry: &AgentRetry, failures: u32) -> Duration {
    let factor = match retry.use_exponential_back_off {
        true => retry
            .back_off_multiplier
            .powf(f64::from(failures.saturating_sub(1))),
        false => 1.0,
    };
    let delay = retry.initial_reconnect_delay.as_secs_f64() * factor;
    let delay = Duration::try_from_secs_f64(delay).unwrap_or(Duration::MAX);
    if retry.use_exponential_back_off {
        delay.min(retry.max_reconnect_delay)
    } else {
        delay
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFETIME: Duration = secs(5);

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn services(change: impl FnOnce(&mut AgentRetry)) -> Services {
        let mut retry = AgentRetry {
            use_exponential_back_off: false,
            ..AgentRetry::default()
        };
        change(&mut retry);
        Services::new(LIFETIME, retry)
    }

    #[test]
    fn brokers_come_and_go_in_order() {
        let now = Instant::now();
        let mut book = services(|_| {});
        assert_eq!(book.alive("b", now), Life::New);
        assert_eq!(book.alive("a", now), Life::New);
        assert_eq!(book.alive("b", now), Life::Known);
        assert_eq!(book.list(), ["b", "a"]);
        assert!(book.dead("b"));
        assert!(!book.dead("b"));
        assert_eq!(book.list(), ["a"]);
    }

    #[test]
    fn whoever_is_silent_is_gone() {
        let now = Instant::now();
        let mut book = services(|_| {});
        book.alive("a", now);
        book.alive("b", now + secs(3));
        assert!(!book.expire(now + secs(5)));
        assert!(book.expire(now + secs(6)));
        assert_eq!(book.list(), ["b"]);
        assert!(book.expire(now + secs(9)));
        assert!(book.list().is_empty());
    }

    #[test]
    fn one_that_failed_is_reported_again_after_the_delay() {
        let now = Instant::now();
        let mut book = services(|retry| retry.initial_reconnect_delay = secs(2));
        book.alive("a", now);
        assert!(book.failed("a", now));
        assert!(!book.failed("a", now), "it has failed already");
        assert!(book.list().is_empty());
        assert_eq!(book.alive("a", now + secs(1)), Life::Known);
        assert_eq!(book.alive("a", now + secs(2)), Life::Recovered);
        assert_eq!(book.list(), ["a"]);
    }

    #[test]
    fn delays_grow_up_to_the_maximum_and_begin_anew_after_a_good_time() {
        let mut now = Instant::now();
        let mut book = services(|retry| {
            retry.use_exponential_back_off = true;
            retry.max_reconnect_delay = secs(3);
        });
        book.alive("a", now);
        for delay in [1, 2, 3, 3] {
            book.failed("a", now);
            let almost = now + secs(delay) - Duration::from_millis(1);
            assert_eq!(book.alive("a", almost), Life::Known);
            now += secs(delay);
            assert_eq!(book.alive("a", now), Life::Recovered);
        }
        now += RECOVERED + secs(1);
        assert_eq!(book.alive("a", now), Life::Known);
        book.failed("a", now);
        assert_eq!(book.alive("a", now + secs(1)), Life::Recovered);
    }

    #[test]
    fn after_the_allowed_failures_it_stays_away_until_it_begins_anew() {
        let mut now = Instant::now();
        let mut book = services(|retry| retry.max_reconnect_attempts = Some(1));
        book.alive("a", now);
        book.failed("a", now);
        now += secs(1);
        assert_eq!(book.alive("a", now), Life::Recovered);
        book.failed("a", now);
        assert_eq!(book.alive("a", now + secs(3600)), Life::Known);
        assert!(!book.dead("a"));
        assert_eq!(book.alive("a", now + secs(3600)), Life::New);
    }

    #[test]
    fn a_failed_one_that_leaves_changes_nothing() {
        let now = Instant::now();
        let mut book = services(|_| {});
        book.alive("a", now);
        book.failed("a", now);
        assert!(!book.expire(now + secs(60)));
        assert_eq!(book.alive("a", now + secs(60)), Life::New);
    }

    #[test]
    fn a_flood_of_brokers_finds_no_room() {
        let now = Instant::now();
        let mut book = services(|_| {});
        for n in 0..MAX_SERVICES {
            assert_eq!(book.alive(&n.to_string(), now), Life::New);
        }
        assert_eq!(book.alive("one more", now), Life::NoRoom);
        assert_eq!(book.list().len(), MAX_SERVICES);
        assert!(book.expire(now + LIFETIME + secs(1)));
        assert_eq!(book.alive("one more", now), Life::New);
    }

    proptest! {
        /// The list is what its changes say, whatever happens in which order.
        #[test]
        fn changes_are_told(steps in proptest::collection::vec((0_u8..4, 0_u8..5, 0_u64..4), 1..60)) {
            let mut now = Instant::now();
            let mut book = services(|_| {});
            for (step, broker, pause) in steps {
                now += secs(pause);
                let uri = broker.to_string();
                let before = book.list();
                let changed = match step {
                    0 => matches!(book.alive(&uri, now), Life::New | Life::Recovered),
                    1 => book.dead(&uri),
                    2 => book.failed(&uri, now),
                    _ => book.expire(now),
                };
                prop_assert_eq!(changed, before != book.list());
            }
        }
    }
}
