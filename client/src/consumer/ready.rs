//! What waits to be delivered to the application, in the order in which it is. Knows no clock: it is told the time.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use super::delivery::Delivery;

/// The priorities of JMS.
const PRIORITIES: usize = 10;

/// Messages that were dispatched, or given back, and are not delivered.
#[derive(Debug)]
pub(super) struct Ready {
    /// One, or one for each priority, the highest first (`messagePrioritySupported`).
    queues: Vec<VecDeque<Delivery>>,
    /// Given back, and to wait until then without holding up others (`nonBlockingRedelivery`).
    delayed: BTreeMap<(Instant, u64), Delivery>,
}

impl Ready {
    pub(super) fn new(by_priority: bool) -> Self {
        let queues = if by_priority { PRIORITIES } else { 1 };
        Self {
            queues: (0..queues).map(|_| VecDeque::new()).collect(),
            delayed: BTreeMap::new(),
        }
    }

    fn queue(&mut self, delivery: &Delivery) -> &mut VecDeque<Delivery> {
        let last = self.queues.len() - 1;
        let priority = usize::try_from(delivery.message.priority).unwrap_or(0);
        &mut self.queues[last.saturating_sub(priority)]
    }

    pub(super) fn push_back(&mut self, delivery: Delivery) {
        self.queue(&delivery).push_back(delivery);
    }

    /// It goes before all others, of its priority.
    pub(super) fn push_front(&mut self, delivery: Delivery) {
        self.queue(&delivery).push_front(delivery);
    }

    /// It waits until then, and goes behind what is there then.
    pub(super) fn delay(&mut self, delivery: Delivery, until: Instant) {
        self.delayed.insert((until, delivery.order), delivery);
    }

    /// Those whose time has come can be delivered. Says when the next one's comes.
    pub(super) fn wake(&mut self, now: Instant) -> Option<Instant> {
        while let Some(first) = self.delayed.first_entry() {
            if first.key().0 > now {
                return Some(first.key().0);
            }
            let delivery = first.remove();
            self.push_back(delivery);
        }
        None
    }

    pub(super) fn pop_front(&mut self) -> Option<Delivery> {
        self.queues.iter_mut().find_map(VecDeque::pop_front)
    }

    /// Nothing can be delivered now.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// How many can be delivered now.
    pub(super) fn len(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }

    /// All of them, in no order that could be relied on.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Delivery> {
        self.queues.iter().flatten().chain(self.delayed.values())
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Delivery> {
        let delayed = std::mem::take(&mut self.delayed);
        self.queues
            .iter_mut()
            .flat_map(|queue| queue.drain(..))
            .chain(delayed.into_values())
    }
}
