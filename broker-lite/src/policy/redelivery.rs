//! How a broker delivers again what a consumer could not take: ActiveMQ's `redeliveryPlugin`.

use std::time::Duration;

use openwire_client::wire::Destination;

use super::fields::{FieldError, Fields, flag, fraction, limit, millis, millis_or_never, percent};
use super::pattern::{Pattern, PatternMap};

/// `redeliveryPolicy`: how often and when.
#[derive(Debug, Clone, PartialEq)]
pub struct RedeliveryPolicy {
    /// `initialRedeliveryDelay`, in milliseconds: before the first redelivery. Default 1000.
    pub initial_redelivery_delay: Duration,
    /// `redeliveryDelay`, in milliseconds: before each further one. Default 1000.
    pub redelivery_delay: Duration,
    /// `useExponentialBackOff`: each delay is a multiple of the one before. Default false.
    pub use_exponential_back_off: bool,
    /// `backOffMultiplier`: which multiple; 1 and less is none. Default 5.
    pub back_off_multiplier: f64,
    /// `maximumRedeliveryDelay`, in milliseconds, of delays that grow. Default `None`, written -1: without bound.
    pub maximum_redelivery_delay: Option<Duration>,
    /// `maximumRedeliveries`. Default 6; `None`, written -1: any number.
    pub maximum_redeliveries: Option<u32>,
    /// `useCollisionAvoidance`: each delay but the first is a little longer or shorter. Default false.
    pub use_collision_avoidance: bool,
    /// `collisionAvoidancePercent`: by so much at most. Default 15.
    pub collision_avoidance_percent: u8,
}

impl Default for RedeliveryPolicy {
    fn default() -> Self {
        Self {
            initial_redelivery_delay: Duration::from_secs(1),
            redelivery_delay: Duration::from_secs(1),
            use_exponential_back_off: false,
            back_off_multiplier: 5.0,
            maximum_redelivery_delay: None,
            maximum_redeliveries: Some(6),
            use_collision_avoidance: false,
            collision_avoidance_percent: 15,
        }
    }
}

/// No delay is longer than this, however it grows: about 300 years.
const LONGEST: Duration = Duration::from_secs(10_000_000_000);

/// After so many steps a delay has grown as far as it will: the count of a message comes from outside.
const MOST_STEPS: u32 = 10_000;

impl RedeliveryPolicy {
    /// How long a message waits that was redelivered `count` times already; `None` if it was redelivered as often as
    /// it may be. `random` gives numbers from 0 to less than 1; it is asked only for collision avoidance.
    pub fn delay(&self, count: u32, mut random: impl FnMut() -> f64) -> Option<Duration> {
        if self.maximum_redeliveries.is_some_and(|most| count >= most) {
            return None;
        }
        let mut delay = self.initial_redelivery_delay.min(LONGEST);
        // Without growth a delay does not depend on the one before.
        let steps = if self.use_exponential_back_off {
            count.min(MOST_STEPS)
        } else {
            count.min(1)
        };
        for _ in 0..steps {
            delay = self.next_delay(delay, &mut random);
        }
        Some(delay)
    }

    fn next_delay(&self, before: Duration, random: &mut impl FnMut() -> f64) -> Duration {
        let mut next = self.redelivery_delay.min(LONGEST);
        if !before.is_zero() && self.use_exponential_back_off && self.back_off_multiplier > 1.0 {
            next = stretch(before, self.back_off_multiplier);
            if let Some(longest) = self.maximum_redelivery_delay
                && next > longest
            {
                next = longest.max(self.redelivery_delay);
            }
        }
        if self.use_collision_avoidance {
            let sign = if random() < 0.5 { 1.0 } else { -1.0 };
            let share = f64::from(self.collision_avoidance_percent) / 100.0;
            next = stretch(next, 1.0 + sign * share * random());
        }
        next
    }

    /// Takes the attributes of a `redeliveryPolicy` out of the fields of a configuration.
    ///
    /// # Errors
    ///
    /// A [`FieldError`] for a value that cannot be.
    pub fn read(&mut self, fields: &mut Fields) -> Result<(), FieldError> {
        fields.refuse(&[("preDispatchCheck", "it is a matter of clients")])?;
        fields.take_into(
            "initialRedeliveryDelay",
            &mut self.initial_redelivery_delay,
            millis,
        )?;
        fields.take_into("redeliveryDelay", &mut self.redelivery_delay, millis)?;
        fields.take_into("useExponentialBackOff", &mut self.use_exponential_back_off, flag)?;
        fields.take_into("backOffMultiplier", &mut self.back_off_multiplier, fraction)?;
        fields.take_into(
            "maximumRedeliveryDelay",
            &mut self.maximum_redelivery_delay,
            millis_or_never,
        )?;
        fields.take_into("maximumRedeliveries", &mut self.maximum_redeliveries, limit)?;
        fields.take_into("useCollisionAvoidance", &mut self.use_collision_avoidance, flag)?;
        fields.take_into(
            "collisionAvoidancePercent",
            &mut self.collision_avoidance_percent,
            percent,
        )
    }
}

/// In whole milliseconds, as ActiveMQ counts.
fn stretch(delay: Duration, factor: f64) -> Duration {
    let millis = delay.as_millis() as f64 * factor;
    if millis >= LONGEST.as_millis() as f64 {
        LONGEST
    } else {
        Duration::from_millis(millis.max(0.0) as u64)
    }
}

/// `redeliveryPlugin`: messages that a consumer gives up (a poison acknowledgement) are sent again after a while instead
/// of to the dead letters.
///
/// Clients should use it with `jms.redeliveryPolicy.maximumRedeliveries=0`. It needs `schedulerSupport`. ActiveMQ needs
/// delays of a second at least as well, this broker does not.
#[derive(Debug, Clone)]
pub struct Redelivery {
    /// `redeliveryPolicyMap`: the policies of destinations.
    pub policies: PatternMap<RedeliveryPolicy>,
    /// `defaultEntry` of the map: the policy of all others. Default `None`.
    pub default: Option<RedeliveryPolicy>,
    /// `sendToDlqIfMaxRetriesExceeded`: when there are no redeliveries left a message goes to the dead letters, not
    /// nowhere. Default true.
    pub send_to_dlq_if_max_retries_exceeded: bool,
    /// `fallbackToDeadLetter`: a message without a policy goes to the dead letters, not nowhere. Default true.
    pub fallback_to_dead_letter: bool,
}

impl Default for Redelivery {
    fn default() -> Self {
        Self {
            policies: PatternMap::new(),
            default: None,
            send_to_dlq_if_max_retries_exceeded: true,
            fallback_to_dead_letter: true,
        }
    }
}

/// What becomes of a message that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenUp {
    /// It is sent again, after this time, with a redelivery count of one more.
    Again(Duration),
    /// It goes where dead letters go.
    DeadLetter,
    /// It is dropped; to be counted.
    Dropped,
}

impl Redelivery {
    /// Adds a policy. Of several for the same pattern the first counts.
    #[must_use]
    pub fn with(mut self, pattern: Pattern, policy: RedeliveryPolicy) -> Self {
        self.policies.insert(pattern, policy);
        self
    }

    /// Decides about a message that was given up on a destination, after `count` redeliveries. Not to be asked about
    /// messages whose time is over, or duplicates: those are dead letters at once.
    pub fn given_up(&self, destination: &Destination, count: u32, random: impl FnMut() -> f64) -> GivenUp {
        let policy = self.policies.select(destination).or(self.default.as_ref());
        let to_dead_letters = match policy {
            Some(policy) => match policy.delay(count, random) {
                Some(delay) => return GivenUp::Again(delay),
                None => self.send_to_dlq_if_max_retries_exceeded,
            },
            None => self.fallback_to_dead_letter,
        };
        if to_dead_letters {
            GivenUp::DeadLetter
        } else {
            GivenUp::Dropped
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(policy: &RedeliveryPolicy, most: u32) -> Vec<u128> {
        (0..most)
            .map_while(|count| policy.delay(count, || 0.5))
            .map(|delay| delay.as_millis())
            .collect()
    }

    #[test]
    fn delays_as_activemq_counts_them() {
        let plain = RedeliveryPolicy::default();
        assert_eq!(delays(&plain, 10), [1000; 6]);
        let growing = RedeliveryPolicy {
            use_exponential_back_off: true,
            back_off_multiplier: 2.5,
            maximum_redelivery_delay: Some(Duration::from_millis(7000)),
            maximum_redeliveries: None,
            ..plain.clone()
        };
        assert_eq!(delays(&growing, 6), [1000, 2500, 6250, 7000, 7000, 7000]);
        // A bound below the delay gives way to it.
        let bounded = RedeliveryPolicy {
            maximum_redelivery_delay: Some(Duration::from_millis(10)),
            ..growing.clone()
        };
        assert_eq!(delays(&bounded, 3), [1000, 1000, 1000]);
        let avoiding = RedeliveryPolicy {
            use_collision_avoidance: true,
            ..plain.clone()
        };
        // 15 % of one half, downwards; the first delay stays as it is.
        assert_eq!(delays(&avoiding, 3), [1000, 925, 925]);
        let endless = RedeliveryPolicy {
            use_exponential_back_off: true,
            maximum_redeliveries: None,
            ..plain
        };
        assert_eq!(endless.delay(u32::MAX, || 0.0), Some(LONGEST));
        let flat = RedeliveryPolicy {
            maximum_redeliveries: None,
            ..RedeliveryPolicy::default()
        };
        assert_eq!(flat.delay(u32::MAX, || 0.0), Some(Duration::from_secs(1)));
    }

    #[test]
    fn what_becomes_of_what_was_given_up() {
        let once = RedeliveryPolicy {
            maximum_redeliveries: Some(1),
            ..RedeliveryPolicy::default()
        };
        let mut plugin = Redelivery::default().with(Pattern::queue("A.>"), once);
        let (known, other) = (Destination::queue("A.B"), Destination::queue("B"));
        let decide = |plugin: &Redelivery, destination, count| plugin.given_up(destination, count, || 0.0);
        assert_eq!(decide(&plugin, &known, 0), GivenUp::Again(Duration::from_secs(1)));
        assert_eq!(decide(&plugin, &known, 1), GivenUp::DeadLetter);
        assert_eq!(decide(&plugin, &other, 0), GivenUp::DeadLetter);
        plugin.send_to_dlq_if_max_retries_exceeded = false;
        plugin.fallback_to_dead_letter = false;
        assert_eq!(decide(&plugin, &known, 1), GivenUp::Dropped);
        assert_eq!(decide(&plugin, &other, 0), GivenUp::Dropped);
        plugin.default = Some(RedeliveryPolicy::default());
        assert_eq!(decide(&plugin, &other, 5), GivenUp::Again(Duration::from_secs(1)));
    }
}
