//! When to try again, and when to give up.

use std::time::Duration;

use crate::uri::FailoverOptions;

/// The delays between passes through the list of addresses, and how many passes there are.
#[derive(Debug)]
pub(crate) struct Backoff {
    initial: Duration,
    /// Nobody has said that there is to be a delay before another broker is tried.
    elsewhere_at_once: bool,
    max: Duration,
    first_failed: Option<Duration>,
    exponent: Option<f64>,
    jitter: bool,
    stable_period: Duration,
    limit: Option<u32>,
    startup_limit: Option<u32>,
    warn_after: Option<u32>,
    current: Duration,
    failed_passes: u32,
    connected_before: bool,
    /// The last connection broke soon.
    broke_soon: bool,
}

/// What follows a failed pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another pass after this delay; the flag says that it is worth a warning.
    Wait(Duration, bool),
    /// As many passes as allowed have failed.
    GiveUp,
}

impl Backoff {
    pub(crate) fn new(options: &FailoverOptions) -> Self {
        let initial = options
            .initial_reconnect_delay
            .unwrap_or(FailoverOptions::INITIAL_RECONNECT_DELAY);
        Self {
            initial,
            elsewhere_at_once: options.initial_reconnect_delay.is_none(),
            max: options.max_reconnect_delay,
            first_failed: options.reconnect_delay,
            exponent: options
                .use_exponential_back_off
                .then_some(options.reconnect_delay_exponent),
            jitter: options.jitter,
            stable_period: options.stable_period,
            limit: options.max_reconnect_attempts,
            startup_limit: options.startup_max_reconnect_attempts,
            warn_after: options.warn_after_reconnect_attempts,
            current: initial,
            failed_passes: 0,
            connected_before: false,
            broke_soon: false,
        }
    }

    /// One pass and never a reconnect: what a URI of a single broker means.
    pub(crate) fn never() -> Self {
        Self::new(&FailoverOptions {
            max_reconnect_attempts: Some(0),
            warn_after_reconnect_attempts: None,
            ..FailoverOptions::default()
        })
    }

    /// The same delays without an end or a warning: for what nobody waits for.
    pub(crate) fn endless(options: &FailoverOptions) -> Self {
        Self::new(&FailoverOptions {
            max_reconnect_attempts: None,
            startup_max_reconnect_attempts: None,
            warn_after_reconnect_attempts: None,
            ..options.clone()
        })
    }

    /// True if a broken connection is followed by another one.
    pub(crate) fn reconnects(&self) -> bool {
        self.limit != Some(0)
    }

    /// How many passes have failed since the last connection.
    pub(crate) fn failed_passes(&self) -> u32 {
        self.failed_passes
    }

    /// A connection was made.
    pub(crate) fn connected(&mut self) {
        self.connected_before = true;
        self.failed_passes = 0;
    }

    /// Whether a connection that lived for `lived` counts as one that worked.
    pub(crate) fn is_stable(&self, lived: Duration) -> bool {
        lived >= self.stable_period
    }

    /// The delay before the first pass after a connection that lived for `lived`; `elsewhere` says that the pass begins with
    /// another broker than the one that went.
    ///
    /// Connections that break soon, one after another, keep the delay growing: a broker that accepts and closes must
    /// not be hammered.
    pub(crate) fn after_break(&mut self, lived: Duration, elsewhere: bool, random: f64) -> Duration {
        let stable = self.is_stable(lived);
        if stable {
            self.current = self.initial;
        }
        let again = std::mem::replace(&mut self.broke_soon, !stable) && !stable;
        let delay = self.advance(random);
        if self.elsewhere_at_once && elsewhere && !again {
            return Duration::ZERO;
        }
        delay
    }

    /// What follows a pass in which no address answered. `random` is between 0 and 1.
    pub(crate) fn after_failed_pass(&mut self, random: f64) -> Next {
        self.failed_passes = self.failed_passes.saturating_add(1);
        let limit = match self.startup_limit {
            Some(limit) if !self.connected_before => Some(limit),
            _ => self.limit,
        };
        if limit.is_some_and(|limit| self.failed_passes >= limit.max(1)) {
            return Next::GiveUp;
        }
        if self.failed_passes == 1
            && let Some(delay) = self.first_failed
        {
            self.current = delay;
        }
        let warn = self
            .warn_after
            .is_some_and(|every| self.failed_passes == 1 || self.failed_passes.is_multiple_of(every));
        Next::Wait(self.advance(random), warn)
    }

    fn advance(&mut self, random: f64) -> Duration {
        let delay = self.current.min(self.max);
        self.current = match self.exponent {
            Some(exponent) => scaled(delay, exponent).min(self.max),
            None => self.initial,
        };
        if self.jitter {
            scaled(delay, random.clamp(0.0, 1.0))
        } else {
            delay
        }
    }
}

fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn steady(change: impl FnOnce(&mut FailoverOptions)) -> Backoff {
        let mut options = FailoverOptions {
            jitter: false,
            ..FailoverOptions::default()
        };
        change(&mut options);
        Backoff::new(&options)
    }

    fn wait(backoff: &mut Backoff) -> Duration {
        match backoff.after_failed_pass(0.5) {
            Next::Wait(delay, _) => delay,
            Next::GiveUp => panic!("gave up"),
        }
    }

    #[test]
    fn delays_double_from_the_initial_one_up_to_the_maximum() {
        let mut backoff = steady(|o| o.max_reconnect_delay = ms(100));
        backoff.connected();
        assert_eq!(backoff.after_break(ms(60_000), false, 0.5), ms(10));
        let delays: Vec<_> = (0..5).map(|_| wait(&mut backoff)).collect();
        assert_eq!(delays, [ms(20), ms(40), ms(80), ms(100), ms(100)]);
    }

    #[test]
    fn only_a_connection_that_lived_resets_the_delay() {
        let mut backoff = steady(|o| o.stable_period = ms(5000));
        backoff.connected();
        assert_eq!(backoff.after_break(ms(1), false, 0.5), ms(10));
        backoff.connected();
        assert_eq!(backoff.after_break(ms(4999), false, 0.5), ms(20));
        backoff.connected();
        assert_eq!(backoff.after_break(ms(5000), false, 0.5), ms(10));
    }

    #[test]
    fn another_broker_is_tried_at_once_unless_that_goes_on() {
        let mut backoff = steady(|_| {});
        backoff.connected();
        assert_eq!(backoff.after_break(ms(1), true, 0.5), ms(0));
        backoff.connected();
        assert_eq!(backoff.after_break(ms(1), true, 0.5), ms(20));
        backoff.connected();
        assert_eq!(backoff.after_break(ms(60_000), true, 0.5), ms(0));
        assert_eq!(wait(&mut backoff), ms(20));
        let mut backoff = steady(|o| o.use_exponential_back_off = false);
        assert_eq!(backoff.after_break(ms(1), true, 0.5), ms(0));
        assert_eq!(backoff.after_break(ms(1), true, 0.5), ms(10));
        let mut backoff = steady(|o| o.initial_reconnect_delay = Some(ms(10)));
        assert_eq!(backoff.after_break(ms(60_000), true, 0.5), ms(10));
    }

    #[test]
    fn without_the_exponent_the_delay_stays() {
        let mut backoff = steady(|o| o.use_exponential_back_off = false);
        assert_eq!([wait(&mut backoff), wait(&mut backoff)], [ms(10), ms(10)]);
    }

    #[test]
    fn the_delay_after_the_first_failed_pass_can_be_given() {
        let mut backoff = steady(|o| o.reconnect_delay = Some(ms(300)));
        assert_eq!([wait(&mut backoff), wait(&mut backoff)], [ms(300), ms(600)]);
    }

    #[test]
    fn jitter_draws_from_nothing_to_the_whole_delay() {
        let mut backoff = steady(|o| {
            o.jitter = true;
            o.initial_reconnect_delay = Some(ms(1000));
        });
        assert_eq!(backoff.after_failed_pass(0.0), Next::Wait(ms(0), true));
        assert_eq!(backoff.after_failed_pass(0.25), Next::Wait(ms(500), false));
        assert_eq!(backoff.after_failed_pass(1.0), Next::Wait(ms(4000), false));
    }

    #[test]
    fn the_limit_counts_passes_since_the_last_connection() {
        let mut backoff = steady(|o| o.max_reconnect_attempts = Some(2));
        wait(&mut backoff);
        backoff.connected();
        wait(&mut backoff);
        assert_eq!(backoff.after_failed_pass(0.5), Next::GiveUp);
    }

    #[test]
    fn the_startup_limit_holds_until_the_first_connection() {
        let mut backoff = steady(|o| {
            o.startup_max_reconnect_attempts = Some(1);
            o.max_reconnect_attempts = Some(3);
        });
        assert_eq!(backoff.after_failed_pass(0.5), Next::GiveUp);
        backoff.connected();
        wait(&mut backoff);
        wait(&mut backoff);
        assert_eq!(backoff.after_failed_pass(0.5), Next::GiveUp);
    }

    #[test]
    fn a_single_broker_is_tried_once_and_never_again() {
        let mut backoff = Backoff::never();
        assert!(!backoff.reconnects());
        assert_eq!(backoff.after_failed_pass(0.5), Next::GiveUp);
    }

    #[test]
    fn warnings_come_first_and_then_every_so_often() {
        let mut backoff = steady(|o| o.warn_after_reconnect_attempts = Some(3));
        let warned: Vec<_> = (0..7)
            .map(|_| matches!(backoff.after_failed_pass(0.5), Next::Wait(_, true)))
            .collect();
        assert_eq!(warned, [true, false, true, false, false, true, false]);
    }
}
