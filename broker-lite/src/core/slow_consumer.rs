//! Consumers that do not keep up, and what their policies have done with them (`slowConsumerStrategy`).
//!
//! A consumer of a topic is slow when more than its prefetch waits for it, which shows as messages come. A consumer of
//! a queue is when its prefetch is full while messages wait that it wants. That is looked for from time to time,
//! and only where a policy asks for it, so that dispatching need not.

use std::time::Duration;

use openwire_client::wire::{ConsumerControl, RemoveInfo};

use super::destinations::Target;
use super::expiry::millis;
use super::subscription::{Source, Subscription, SubscriptionKey};
use super::timer::Alarm;
use super::{Core, Turn};
use crate::policy::{AbortLimits, Policy, SlowConsumers};

/// How often it is looked for slow consumers of queues of which only is to be told.
const LOOK: Duration = Duration::from_secs(1);

/// How long a client has to end a consumer that it was told to end, in milliseconds; as ActiveMQ.
const GRACE: i64 = 1000;

/// How a consumer keeps up.
#[derive(Debug)]
pub(super) struct Slowness {
    slow: bool,
    /// How often it became slow, and how often it was found slow, since it was first found to be.
    times: u32,
    marks: u32,
    /// When it last acknowledged something or, if it had nothing, got something; in milliseconds since 1970.
    moved: i64,
    /// When it is looked at next; another alarm than that one means nothing.
    look_at: Option<i64>,
    /// When it ends, because it was too slow.
    ends_at: Option<i64>,
}

impl Slowness {
    pub(super) fn new(now: i64) -> Self {
        Self {
            slow: false,
            times: 0,
            marks: 0,
            moved: now,
            look_at: None,
            ends_at: None,
        }
    }

    /// It is slow now; true if it was not before.
    pub(super) fn falls_behind(&mut self) -> bool {
        let edge = !std::mem::replace(&mut self.slow, true);
        self.times += u32::from(edge);
        edge
    }

    /// It is not slow.
    pub(super) fn keeps_up(&mut self) {
        self.slow = false;
    }

    /// It acknowledged something, or has something to acknowledge.
    pub(super) fn moved(&mut self, now: i64) {
        self.moved = now;
    }

    /// It was told to end.
    pub(super) fn is_aborted(&self) -> bool {
        self.ends_at.is_some()
    }

    /// True while it does not keep up.
    pub(super) fn is_slow(&self) -> bool {
        self.slow
    }

    fn forgive(&mut self) {
        (self.slow, self.times, self.marks) = (false, 0, 0);
    }
}

/// What is to be looked for.
#[derive(Debug, Clone, Copy)]
struct Watch {
    strategy: SlowConsumers,
    period: Duration,
}

impl Watch {
    fn of(policy: &Policy, queue: bool) -> Option<Self> {
        let strategy = policy.slow_consumers;
        let period = match limits_of(strategy) {
            Some(limits) => limits.check_period,
            // Topic consumers are found as messages come.
            None if policy.advisory_for_slow_consumers && queue => LOOK,
            None => return None,
        };
        Some(Self { strategy, period })
    }
}

fn limits_of(strategy: SlowConsumers) -> Option<AbortLimits> {
    match strategy {
        SlowConsumers::None => None,
        SlowConsumers::Abort(limits) | SlowConsumers::AbortSlowAck { limits, .. } => Some(limits),
    }
}

/// The consumer had its chance. Each check that finds it slow counts as the time from one to the next.
fn is_too_slow(limits: &AbortLimits, slowness: &Slowness) -> bool {
    let long = limits
        .max_slow_duration
        .is_some_and(|most| !most.is_zero() && limits.check_period.saturating_mul(slowness.marks) >= most);
    let often = limits
        .max_slow_count
        .is_some_and(|most| most > 0 && slowness.times >= most);
    long || often
}

impl Core {
    /// It will be looked whether a consumer keeps up, if a policy of what it consumes from asks for it.
    pub(super) fn watch_slow(&mut self, key: SubscriptionKey, now: i64) {
        let subscription = &self.subscriptions[key.0];
        if subscription.slowness.look_at.is_some() || subscription.browse.is_some() {
            return;
        }
        if let Some(watch) = self.watch_of(subscription) {
            let at = now.saturating_add(millis(watch.period).max(1));
            self.look_again(key, at);
        }
    }

    /// As [`watch_slow`](Self::watch_slow), for a consumer that has one more destination.
    pub(super) fn watch_slow_of(&mut self, key: SubscriptionKey, joined: Target, now: i64) {
        let (policy, queue) = match joined {
            Target::Queue(queue) => (&self.queues[queue.0].policy, true),
            Target::Topic(topic) => (&self.topics[topic.0].policy, false),
        };
        if Watch::of(policy, queue).is_some() {
            self.watch_slow(key, now);
        }
    }

    fn look_again(&mut self, key: SubscriptionKey, at: i64) {
        let subscription = &mut self.subscriptions[key.0];
        subscription.slowness.look_at = Some(at);
        let alarm = Alarm::Slow(subscription.connection, subscription.id.clone());
        self.alarms.set(at, alarm);
    }

    /// The first policy of what it consumes from that asks for something.
    fn watch_of(&self, subscription: &Subscription) -> Option<Watch> {
        match &subscription.source {
            Source::Queues(queues) => {
                let mut policies = queues.iter().map(|queue| &self.queues[queue.0].policy);
                policies.find_map(|policy| Watch::of(policy, true))
            }
            Source::Topics(topics) => {
                let mut policies = topics.iter().map(|topic| &self.topics[topic.0].policy);
                policies.find_map(|policy| Watch::of(policy, false))
            }
        }
    }

    /// Looks whether a consumer keeps up, and ends it if it did not for too long; or ends it at last.
    pub(super) fn look_for_slow(&mut self, key: SubscriptionKey, at: i64, turn: &mut Turn<'_>) {
        let subscription = &mut self.subscriptions[key.0];
        if subscription.slowness.ends_at == Some(at) {
            return self.remove_consumer(key, RemoveInfo::UNKNOWN_DELIVERED, turn);
        }
        if subscription.slowness.look_at != Some(at) {
            return;
        }
        subscription.slowness.look_at = None;
        if subscription.slowness.is_aborted() {
            return;
        }
        let Some(watch) = self.watch_of(&self.subscriptions[key.0]) else {
            return;
        };
        let behind = self.is_behind(key, watch.strategy, turn.now);
        let slowness = &mut self.subscriptions[key.0].slowness;
        if !behind {
            slowness.forgive();
        } else {
            slowness.marks += 1;
            let edge = slowness.falls_behind();
            if matches!(watch.strategy, SlowConsumers::AbortSlowAck { .. }) {
                slowness.times = slowness.marks;
            }
            if edge {
                self.slow(key, turn);
            }
            let slowness = &self.subscriptions[key.0].slowness;
            if let Some(limits) = limits_of(watch.strategy)
                && is_too_slow(&limits, slowness)
            {
                return self.abort(key, limits.abort_connection, turn);
            }
        }
        let at = turn.now.saturating_add(millis(watch.period).max(1));
        self.look_again(key, at);
    }

    fn is_behind(&mut self, key: SubscriptionKey, strategy: SlowConsumers, now: i64) -> bool {
        let subscription = &self.subscriptions[key.0];
        if let SlowConsumers::AbortSlowAck {
            max_time_since_last_ack,
            ignore_idle_consumers,
            ..
        } = strategy
        {
            let idle = subscription.topic_in_flight == 0 && subscription.in_flight.is_empty();
            let since = now.saturating_sub(subscription.slowness.moved);
            return !(idle && ignore_idle_consumers) && since > millis(max_time_since_last_ack);
        }
        match &subscription.source {
            Source::Topics(_) => subscription.slowness.slow,
            // One that pulls takes its time.
            Source::Queues(_) if subscription.prefetch == 0 || subscription.has_credit() => false,
            Source::Queues(queues) => queues.clone().into_iter().any(|queue| {
                let queue = &mut self.queues[queue.0];
                queue.is_served(key) && !queue.has_nothing_for(key)
            }),
        }
    }

    /// A consumer does not keep up from here on.
    pub(super) fn slow(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        self.stats.slow_consumers += 1;
        self.advise_slow(key, turn);
        let subscription = &self.subscriptions[key.0];
        tracing::warn!(
            consumer = %subscription.id,
            peer = %self.connections[subscription.connection.0 as usize].peer,
            destination = ?subscription.info.destination,
            prefetch = subscription.prefetch,
            waiting = subscription.waiting.len(),
            "a consumer is slow"
        );
    }

    /// Ends a consumer that was slow for too long: its client is told to end it or, if that does nothing, the
    /// broker does; or its connection is ended.
    fn abort(&mut self, key: SubscriptionKey, connection: bool, turn: &mut Turn<'_>) {
        self.stats.aborted_consumers += 1;
        let subscription = &mut self.subscriptions[key.0];
        let (id, owner) = (subscription.id.clone(), subscription.connection);
        if connection {
            let reason = format!("its consumer {id} was slow too often or for too long");
            tracing::warn!(consumer = %id, peer = %self.connections[owner.0 as usize].peer,
                "a consumer was slow for too long: its connection is ended");
            return self.close(owner, reason, turn);
        }
        tracing::warn!(consumer = %id, peer = %self.connections[owner.0 as usize].peer,
            "a consumer was slow for too long: it is ended");
        let at = turn.now.saturating_add(GRACE);
        subscription.slowness.ends_at = Some(at);
        self.alarms.set(at, Alarm::Slow(owner, id.clone()));
        let control = ConsumerControl {
            consumer_id: Some(id),
            close: true,
            ..ConsumerControl::default()
        };
        turn.send(owner, control);
    }
}
