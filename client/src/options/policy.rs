//! How much is sent ahead, and when a message comes again.

use std::time::Duration;

use crate::error::Result;
use crate::uri::{OptionValue, Query, multiplier, unless_negative};

/// How many messages a broker sends ahead to a consumer that has not acknowledged them
/// (`jms.prefetchPolicy.*`, `ActiveMQPrefetchPolicy`).
///
/// 0 is pull mode: the consumer asks for each message. ActiveMQ's limit is 32767; more, in a URI, is cut
/// down to that with a warning, as ActiveMQ does. `all` in a URI sets the five that are not named besides it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrefetchPolicy {
    /// Queue consumers. Default 1000.
    pub queue_prefetch: u16,
    /// Queue browsers. Default 500.
    pub queue_browser_prefetch: u16,
    /// Topic consumers that are not durable. Default 32767.
    pub topic_prefetch: u16,
    /// Durable subscribers. Default 100.
    pub durable_topic_prefetch: u16,
    /// Durable subscribers that acknowledge by themselves, if
    /// [`optimized_message_dispatch`](super::ConnectionOptions::optimized_message_dispatch) is on. Default 1000.
    pub optimize_durable_topic_prefetch: u16,
    /// How many messages beyond the prefetch the broker should keep for a topic consumer. Default 0: the
    /// broker decides.
    pub maximum_pending_message_limit: u32,
}

impl Default for PrefetchPolicy {
    fn default() -> Self {
        Self {
            queue_prefetch: 1000,
            queue_browser_prefetch: 500,
            topic_prefetch: 32767,
            durable_topic_prefetch: 100,
            optimize_durable_topic_prefetch: 1000,
            maximum_pending_message_limit: 0,
        }
    }
}

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

/// `ActiveMQPrefetchPolicy.MAX_PREFETCH_SIZE`
const MAX_PREFETCH: u16 = i16::MAX as u16;

impl PrefetchPolicy {
    /// Reads the options of a URI, which have lost their prefix, and refuses what is none.
    pub(super) fn read(&mut self, mut query: Query) -> Result<()> {
        let mut all = None;
        query.read_with("all", &mut all, |text| prefetch(text).map(Some))?;
        for (name, prefetch_size) in [
            ("queuePrefetch", &mut self.queue_prefetch),
            ("queueBrowserPrefetch", &mut self.queue_browser_prefetch),
            ("topicPrefetch", &mut self.topic_prefetch),
            ("durableTopicPrefetch", &mut self.durable_topic_prefetch),
            (
                "optimizeDurableTopicPrefetch",
                &mut self.optimize_durable_topic_prefetch,
            ),
        ] {
            *prefetch_size = all.unwrap_or(*prefetch_size);
            query.read_with(name, prefetch_size, prefetch)?;
        }
        query.read(
            "maximumPendingMessageLimit",
            &mut self.maximum_pending_message_limit,
        )?;
        query.finish("the prefetch policy")
    }
}

fn prefetch(text: &str) -> Result<u16, String> {
    let wanted = u32::from_text(text)?;
    match u16::try_from(wanted) {
        Ok(size @ ..=MAX_PREFETCH) => Ok(size),
        _ => {
            tracing::warn!(
                wanted,
                used = MAX_PREFETCH,
                "a prefetch is larger than there can be"
            );
            Ok(MAX_PREFETCH)
        }
    }
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
}
