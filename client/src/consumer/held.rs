//! What the application was given and has not finished with, also when the connection breaks: the broker does not know
//! then who was given what, and delivers it again. Knows no clock and no connection.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::audit::MessageKey;
use super::delivery::Delivery;

/// Messages that were delivered and belong together: those of one transaction, or those not acknowledged yet.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// In the order of their dispatch.
    deliveries: VecDeque<Delivery>,
    /// Delivered over a connection that broke, and to come again, with the counter that the application has seen.
    expected: FxHashMap<MessageKey, i32>,
}

impl Held {
    /// Adds what was delivered. Most of the time it is what was dispatched last.
    pub(super) fn insert(&mut self, delivery: Delivery) {
        let at = self
            .deliveries
            .partition_point(|held| held.order < delivery.order);
        self.deliveries.insert(at, delivery);
    }

    pub(super) fn deliveries(&self) -> &VecDeque<Delivery> {
        &self.deliveries
    }

    pub(super) fn deliveries_mut(&mut self) -> &mut VecDeque<Delivery> {
        &mut self.deliveries
    }

    /// Nothing of it is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.expected.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.expected.is_empty()
    }

    /// The connection broke: all of it is to come again.
    pub(super) fn broken(&mut self) {
        let again = self
            .deliveries
            .drain(..)
            .filter_map(|delivery| Some((delivery.key()?, delivery.counter())));
        self.expected.extend(again);
    }

    /// A message came. If it belongs here it takes the place of the earlier delivery, and comes to the application no
    /// second time.
    pub(super) fn take_back(&mut self, key: &MessageKey, delivery: &Delivery) -> bool {
        let Some(counter) = self.expected.remove(key) else {
            return false;
        };
        let mut delivery = delivery.clone();
        // It is the same delivery, whatever the broker has counted for the break.
        delivery.set_counter(counter);
        delivery.reported = true;
        self.insert(delivery);
        true
    }

    /// The deliveries, and what did not come again.
    pub(super) fn into_parts(self) -> (VecDeque<Delivery>, FxHashMap<MessageKey, i32>) {
        (self.deliveries, self.expected)
    }

    /// The deliveries as ranges that a broker finds without a gap among what it has dispatched: their first, last and
    /// count. `between` says whether there is something else of the consumer's between two.
    pub(super) fn ranges(
        &self,
        between: impl Fn(u64, u64) -> bool,
    ) -> impl Iterator<Item = (&Delivery, &Delivery, usize)> {
        let mut rest = self.deliveries.iter().peekable();
        std::iter::from_fn(move || {
            let first = rest.next()?;
            let (mut last, mut count) = (first, 1);
            while let Some(next) = rest.next_if(|next| {
                let adjacent = next.order == last.order + 1;
                adjacent || !between(last.order, next.order)
            }) {
                last = next;
                count += 1;
            }
            Some((first, last, count))
        })
    }
}

/// So many breaks long a message is remembered that was shown and did not come again. What has not come by then went
/// elsewhere.
const SHOWN_FOR: i32 = 8;

/// What the application has seen over a connection that broke, and does not hold any more. A broker that was killed may
/// not know it and deliver it as if for the first time.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// With the counter they have to have at least, and the number of the break.
    messages: FxHashMap<MessageKey, (i32, i32)>,
    breaks: i32,
}

impl Shown {
    /// The connection broke.
    pub(super) fn broken(&mut self) {
        self.breaks = self.breaks.saturating_add(1);
        let breaks = self.breaks;
        self.messages
            .retain(|_, (_, since)| breaks.saturating_sub(*since) < SHOWN_FOR);
    }

    /// How many breaks there were.
    pub(super) fn breaks(&self) -> i32 {
        self.breaks
    }

    /// When this message comes again its counter is not lower.
    pub(super) fn remember(&mut self, key: MessageKey, counter: i32) {
        self.messages.insert(key, (counter, self.breaks));
    }

    /// A message is about to be delivered, again perhaps.
    pub(super) fn correct(&mut self, delivery: &mut Delivery) {
        if !self.messages.is_empty()
            && let Some(key) = delivery.key()
            && let Some((counter, _)) = self.messages.remove(&key)
        {
            delivery.set_counter(delivery.counter().max(counter));
        }
    }
}
