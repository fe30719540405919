//! When a message comes again.

use std::cmp::Reverse;
use std::time::Duration;

use crate::error::Result;
use crate::uri::{OptionValue, Query, multiplier, unless_negative};
use crate::wire::Destination;

/// When and how often a message that was rolled back or recovered is delivered again
/// (`jms.redeliveryPolicy.*`, `RedeliveryPolicy`).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RedeliveryPolicy {
    /// How often, before the message goes to the dead letter queue; none is without an end (-1). Default 6.
    pub maximum_redeliveries: Option<u32>,
    /// The delay before the first redelivery. Default 1 second.
    pub initial_redelivery_delay: Duration,
    /// The delay before each further one, as long as the back-off is not exponential. Default 1 second.
    pub redelivery_delay: Duration,
    /// Each delay is the one before times [`back_off_multiplier`](Self::back_off_multiplier). Default false.
    pub use_exponential_back_off: bool,
    /// See [`use_exponential_back_off`](Self::use_exponential_back_off). Default 5.
    pub back_off_multiplier: f64,
    /// No exponential delay is longer, unless [`redelivery_delay`](Self::redelivery_delay) is. Default none (-1).
    pub maximum_redelivery_delay: Option<Duration>,
    /// Each delay is varied at random, so that many consumers do not come back at the same time. Default false.
    pub use_collision_avoidance: bool,
    /// By how many per cent at most, up or down. Default 15.
    pub collision_avoidance_percent: u8,
    /// A message that arrives with more redeliveries than allowed is dead-lettered before it is shown. Those that come
    /// from breaks of the connection which the consumer has lived through do not count.
    /// Default true.
    pub pre_dispatch_check: bool,
}

impl Default for RedeliveryPolicy {
    fn default() -> Self {
        Self {
            maximum_redeliveries: Some(6),
            initial_redelivery_delay: Duration::from_secs(1),
            redelivery_delay: Duration::from_secs(1),
            use_exponential_back_off: false,
            back_off_multiplier: 5.0,
            maximum_redelivery_delay: None,
            use_collision_avoidance: false,
            collision_avoidance_percent: 15,
            pre_dispatch_check: true,
        }
    }
}

/// Redelivery policies for some destinations (`RedeliveryPolicyMap`): others have the connection's own.
///
/// The keys may have wildcards: `*` is one part of a name, `>` the rest of it. Of several that match, the one without
/// wildcards counts most, then the one that leaves fewer parts open, then the one that was put in last.
///
/// ```
/// use openwire_client::Destination;
/// use openwire_client::options::{RedeliveryPolicy, RedeliveryPolicyMap};
///
/// let mut patient = RedeliveryPolicy::default();
/// patient.maximum_redeliveries = Some(20);
/// let mut policies = RedeliveryPolicyMap::default();
/// policies.put(Destination::queue("Orders.>"), patient);
/// assert!(policies.get(&Destination::queue("Orders.Late")).is_some());
/// assert!(policies.get(&Destination::topic("Orders.Late")).is_none());
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RedeliveryPolicyMap {
    policies: Vec<(Destination, RedeliveryPolicy)>,
}

impl RedeliveryPolicyMap {
    /// Sets the policy of a destination, or of all that match it (`put`).
    pub fn put(&mut self, destination: Destination, policy: RedeliveryPolicy) {
        self.policies.retain(|(known, _)| *known != destination);
        self.policies.push((destination, policy));
    }

    /// The policy of a destination, if it has one of its own (`getEntryFor`).
    pub fn get(&self, destination: &Destination) -> Option<&RedeliveryPolicy> {
        self.policies
            .iter()
            .filter_map(|(pattern, policy)| Some((fit(pattern, destination)?, policy)))
            .max_by_key(|(fit, _)| *fit)
            .map(|(_, policy)| policy)
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }
}

/// How well a pattern fits: how many parts it leaves open, the fewer the better; none if it does not match.
fn fit(pattern: &Destination, destination: &Destination) -> Option<Reverse<usize>> {
    if pattern == destination {
        return Some(Reverse(0));
    }
    if pattern.kind() != destination.kind() || !pattern.is_pattern() {
        return None;
    }
    let mut names = destination.name().split('.');
    let mut open = 1;
    for part in pattern.name().split('.') {
        match part {
            ">" => return Some(Reverse(open + names.count() + 1)),
            "*" => {
                names.next()?;
                open += 1;
            }
            part if names.next()? == part => {}
            _ => return None,
        }
    }
    names.next().is_none().then_some(Reverse(open))
}

impl RedeliveryPolicy {
    /// Reads the options of a URI, which have lost their prefix, and refuses what is none.
    pub(super) fn read(&mut self, mut query: Query) -> Result<()> {
        query.read_with(
            "maximumRedeliveries",
            &mut self.maximum_redeliveries,
            unless_negative,
        )?;
        query.read("initialRedeliveryDelay", &mut self.initial_redelivery_delay)?;
        query.read("redeliveryDelay", &mut self.redelivery_delay)?;
        query.read("useExponentialBackOff", &mut self.use_exponential_back_off)?;
        query.read_with("backOffMultiplier", &mut self.back_off_multiplier, multiplier)?;
        query.read_with(
            "maximumRedeliveryDelay",
            &mut self.maximum_redelivery_delay,
            unless_negative,
        )?;
        query.read("useCollisionAvoidance", &mut self.use_collision_avoidance)?;
        query.read_with(
            "collisionAvoidancePercent",
            &mut self.collision_avoidance_percent,
            |text| match u8::from_text(text) {
                Ok(percent @ ..=100) => Ok(percent),
                _ => Err("is not a whole number from 0 to 100".into()),
            },
        )?;
        query.read("preDispatchCheck", &mut self.pre_dispatch_check)?;
        query.finish("the redelivery policy")
    }

    /// The delay before the redelivery that follows one with the delay `previous`; without a `previous`, before
    /// the first.
    ///
    /// `random` is what collision avoidance uses, evenly spread from 0 to 1; it has no effect without.
    pub fn next_delay(&self, previous: Option<Duration>, random: f64) -> Duration {
        let Some(previous) = previous else {
            return self.initial_redelivery_delay;
        };
        let mut delay = self.redelivery_delay;
        if self.use_exponential_back_off && self.back_off_multiplier > 1.0 && !previous.is_zero() {
            delay = scale(previous, self.back_off_multiplier);
            if let Some(maximum) = self.maximum_redelivery_delay {
                delay = delay.min(maximum.max(self.redelivery_delay));
            }
        }
        if self.use_collision_avoidance {
            let spread = f64::from(self.collision_avoidance_percent.min(100)) / 100.0;
            delay = scale(delay, 1.0 + spread * (2.0 * random.clamp(0.0, 1.0) - 1.0));
        }
        delay
    }
}

impl RedeliveryPolicy {
    /// The delay before the redelivery number `redelivery` of a message, from 1: [`next_delay`](Self::next_delay) for each
    /// of them in turn. `random` as there.
    pub fn delay_of(&self, redelivery: u32, random: f64) -> Duration {
        let mut delay = self.next_delay(None, random);
        // By then it has grown as far as it can.
        for _ in 1..redelivery.min(GROWS_FOR) {
            delay = self.next_delay(Some(delay), random);
        }
        delay
    }
}

/// So many redeliveries long a delay grows: no clock counts further than twice that often doubled.
const GROWS_FOR: u32 = 128;

/// What a factor makes of a duration, up to the longest there is.
fn scale(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn delays(policy: &RedeliveryPolicy, count: usize) -> Vec<Duration> {
        let mut previous = None;
        std::iter::repeat_with(|| {
            let delay = policy.next_delay(previous, 0.5);
            previous = Some(delay);
            delay
        })
        .take(count)
        .collect()
    }

    #[test]
    fn the_initial_delay_comes_first_and_the_constant_one_after() {
        let policy = RedeliveryPolicy {
            initial_redelivery_delay: ms(50),
            redelivery_delay: ms(200),
            ..Default::default()
        };
        assert_eq!(delays(&policy, 3), [ms(50), ms(200), ms(200)]);
    }

    #[test]
    fn exponential_delays_grow_up_to_the_maximum() {
        let policy = RedeliveryPolicy {
            use_exponential_back_off: true,
            back_off_multiplier: 2.0,
            maximum_redelivery_delay: Some(ms(3500)),
            ..Default::default()
        };
        assert_eq!(delays(&policy, 4), [ms(1000), ms(2000), ms(3500), ms(3500)]);
    }

    #[test]
    fn the_maximum_is_never_below_the_redelivery_delay() {
        let policy = RedeliveryPolicy {
            use_exponential_back_off: true,
            redelivery_delay: ms(800),
            maximum_redelivery_delay: Some(ms(10)),
            ..Default::default()
        };
        assert_eq!(policy.next_delay(Some(ms(1000)), 0.5), ms(800));
    }

    #[test]
    fn an_exponential_delay_after_none_is_the_redelivery_delay() {
        let policy = RedeliveryPolicy {
            use_exponential_back_off: true,
            initial_redelivery_delay: Duration::ZERO,
            ..Default::default()
        };
        assert_eq!(delays(&policy, 3), [ms(0), ms(1000), ms(5000)]);
    }

    #[test]
    fn collision_avoidance_varies_by_the_percentage_at_most() {
        let policy = RedeliveryPolicy {
            use_collision_avoidance: true,
            ..Default::default()
        };
        let near = |random, wanted: u64| {
            let delay = policy.next_delay(Some(ms(1000)), random);
            assert!(
                delay.abs_diff(ms(wanted)) < Duration::from_micros(1),
                "{delay:?} for {random}"
            );
        };
        near(0.0, 850);
        near(0.5, 1000);
        near(1.0, 1150);
    }

    #[test]
    fn nothing_overflows() {
        let policy = RedeliveryPolicy {
            use_exponential_back_off: true,
            back_off_multiplier: f64::MAX,
            ..Default::default()
        };
        assert_eq!(policy.next_delay(Some(Duration::MAX), 0.5), Duration::MAX);
        let policy = RedeliveryPolicy {
            back_off_multiplier: f64::NAN,
            ..policy
        };
        assert_eq!(policy.next_delay(Some(ms(7)), f64::NAN), ms(1000));
    }

    #[test]
    fn the_number_of_a_redelivery_says_how_long_it_waits() {
        let policy = RedeliveryPolicy {
            use_exponential_back_off: true,
            back_off_multiplier: 2.0,
            maximum_redelivery_delay: Some(ms(3000)),
            ..Default::default()
        };
        let delays: Vec<_> = (0..5).map(|number| policy.delay_of(number, 0.5)).collect();
        assert_eq!(delays, [ms(1000), ms(1000), ms(2000), ms(3000), ms(3000)]);
        assert_eq!(policy.delay_of(u32::MAX, 0.5), ms(3000));
    }

    #[test]
    fn the_policy_that_fits_best_counts() {
        let policy = |maximum| RedeliveryPolicy {
            maximum_redeliveries: Some(maximum),
            ..Default::default()
        };
        let mut map = RedeliveryPolicyMap::default();
        for (number, name) in [">", "A.>", "A.*", "A.B", "A.*.C"].into_iter().enumerate() {
            map.put(Destination::queue(name), policy(number as u32));
        }
        map.put(Destination::topic("A.B"), policy(9));
        map.put(Destination::queue("A.B"), policy(3));
        for (name, wanted) in [
            ("X", 0),
            ("A", 1),
            ("A.B.D", 1),
            ("A.X", 2),
            ("A.B", 3),
            ("A.B.C", 4),
        ] {
            let found = map.get(&Destination::queue(name)).unwrap();
            assert_eq!(found.maximum_redeliveries, Some(wanted), "{name}");
        }
        assert_eq!(map.get(&Destination::topic("A.B")), Some(&policy(9)));
        assert_eq!(map.get(&Destination::topic("A.C")), None);
        assert!(!map.is_empty());
    }
}
