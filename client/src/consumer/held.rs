//! What the application was given and has not finished with, also when the connection breaks: the broker does not know
//! then who was given what, and delivers it again. Knows no clock and no connection.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, VecDeque};

use rustc_hash::FxHashMap;

use super::audit::MessageKey;
use super::delivery::Delivery;
use crate::wire::{Destination, ProducerId};

/// Messages that were delivered and belong together: those of one transaction, or those not acknowledged yet.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// In the order of their dispatch.
    deliveries: VecDeque<Delivery>,
    /// Delivered over a connection that broke, and to come again, with the counter that the application has seen.
    expected: FxHashMap<MessageKey, i32>,
    /// The same by their order.
    rows: FxHashMap<Row, Missing>,
    /// In how many rows something came although something before it is missing.
    overtaken: usize,
}

/// Messages of one producer, to one destination and of one priority: a broker keeps their order.
type Row = (ProducerId, Destination, i8);

/// What is missing of a row.
#[derive(Debug)]
struct Missing {
    numbers: BTreeSet<i64>,
    /// The highest number that came since the connection broke.
    highest: i64,
}

impl Missing {
    fn is_overtaken(&self) -> bool {
        self.numbers.first().is_some_and(|first| *first < self.highest)
    }
}

/// The row of a message, and its number there.
fn row(delivery: &Delivery) -> Option<(Row, i64)> {
    let id = delivery.id()?;
    let producer = id.producer_id.clone()?;
    let row = (
        producer,
        delivery.destination()?.clone(),
        delivery.message.priority,
    );
    Some((row, id.producer_sequence_id))
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

    /// Something that came after it has come again, and it has not: most likely another consumer has it.
    pub(super) fn is_overtaken(&self) -> bool {
        self.overtaken > 0
    }

    /// The connection broke: all of it is to come again.
    pub(super) fn broken(&mut self) {
        self.overtaken = 0;
        for missing in self.rows.values_mut() {
            missing.highest = i64::MIN;
        }
        for delivery in self.deliveries.drain(..) {
            let Some(key) = delivery.key() else { continue };
            self.expected.insert(key, delivery.counter());
            if let Some((row, number)) = row(&delivery) {
                let missing = self.rows.entry(row).or_insert_with(|| Missing {
                    numbers: BTreeSet::new(),
                    highest: i64::MIN,
                });
                missing.numbers.insert(number);
            }
        }
    }

    /// A message came. If it belongs here it takes the place of the earlier delivery, and comes to the application no
    /// second time.
    pub(super) fn take_back(&mut self, key: &MessageKey, delivery: &Delivery) -> bool {
        self.came(delivery);
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

    fn came(&mut self, delivery: &Delivery) {
        let Some((row, number)) = row(delivery) else {
            return;
        };
        if let Entry::Occupied(mut entry) = self.rows.entry(row) {
            let missing = entry.get_mut();
            let before = missing.is_overtaken();
            missing.numbers.remove(&number);
            missing.highest = missing.highest.max(number);
            let after = missing.is_overtaken();
            if missing.numbers.is_empty() {
                entry.remove();
            }
            self.overtaken = self.overtaken + usize::from(after) - usize::from(before);
        }
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
