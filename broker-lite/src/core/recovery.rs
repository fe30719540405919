//! What the store held when the broker starts.

use std::sync::Arc;

use openwire_client::wire::{Destination, DestinationKind};
use rustc_hash::{FxHashMap, FxHashSet};

use super::destinations::Target;
use super::durable_subscription::DurableSubscription;
use super::queue::{Entry, Queue, QueueKey};
use super::spool::Spooled;
use super::subscription::{InFlight, Sight};
use super::timer::Alarm;
use super::{Core, Effects, Turn};
use crate::selector::Selector;
use crate::store::{
    MessageKey, RecoveredDestination, RecoveredMessage, StoredDestination, StoredSubscription,
};

impl Core {
    /// Takes over what the store held; `clean` if it was closed in order.
    pub(super) fn recover(&mut self, now: i64, destinations: Vec<RecoveredDestination>, clean: bool) {
        // What prepared transactions acknowledged is on no queue.
        let held = destinations.iter().filter_map(|stored| stored.prepared.as_ref());
        let held: FxHashSet<_> = held
            .flat_map(|prepared| &prepared.acknowledged)
            .copied()
            .collect();
        let mut taken = FxHashMap::default();
        for stored in &destinations {
            self.recover_destination(now, stored, clean, &held, &mut taken);
        }
        for stored in &destinations {
            let Some(prepared) = &stored.prepared else {
                continue;
            };
            // What is not there went with its queue.
            let acknowledged = prepared.acknowledged.iter();
            let held = acknowledged.filter_map(|key| taken.remove(key)).collect();
            let sent = stored
                .messages
                .iter()
                .map(|message| (message.sequence, message.size));
            self.recover_branch(stored.key, prepared, sent, held);
        }
    }

    fn recover_destination(
        &mut self,
        now: i64,
        stored: &RecoveredDestination,
        clean: bool,
        held: &FxHashSet<MessageKey>,
        taken: &mut FxHashMap<MessageKey, InFlight>,
    ) {
        let recovered = match &stored.destination {
            StoredDestination::Queue(name) => {
                let destination = Destination::parse(name, DestinationKind::Queue);
                let queue = Queue::new(destination.clone(), self.policy_of(&destination));
                let key = self.recover_queue(now, queue, stored, clean, held);
                self.link(&destination, Target::Queue(key));
                self.destinations.insert(destination, Target::Queue(key));
                key
            }
            StoredDestination::Subscription(subscription) => {
                let subscription = subscription.clone();
                self.recover_subscription(now, &subscription, stored, clean, held)
            }
            StoredDestination::Schedule => return self.recover_jobs(stored),
            StoredDestination::Retained(name) => return self.recover_retained(now, name, stored),
            StoredDestination::Transaction => return,
        };
        if held.is_empty() {
            return;
        }
        for message in &stored.messages {
            let key = MessageKey {
                destination: stored.key,
                sequence: message.sequence,
            };
            if held.contains(&key) {
                self.queues[recovered.0].in_flight += 1;
                let message = InFlight {
                    entry: entry_of(message, message.redelivered),
                    queue: recovered,
                    number: 0,
                    id: None,
                };
                taken.insert(key, message);
            }
        }
    }

    /// Makes the destinations that are there from the start, and begins to watch the time.
    pub(super) fn begin(&mut self, now: i64) {
        let mut effects = Effects::new();
        let turn = &mut Turn {
            now,
            effects: &mut effects,
        };
        for destination in &self.config.rules.clone().destinations {
            if let Err(refusal) = self.resolve_for_send(destination, turn) {
                tracing::error!(%destination, %refusal, "a destination cannot be made");
            }
        }
        self.watch_absent(now);
        self.watch_unused(now);
        if !self.flagged.is_empty() {
            self.alarms.set(now, Alarm::Flagged);
        }
    }

    /// Tells the store what may have been shown before a crash, or what it refused to be told: the next start may follow
    /// an orderly stop, after which nothing but the counters says so.
    pub(super) fn keep_flags(&mut self, turn: &mut Turn<'_>) {
        let mut counters = Vec::new();
        for key in std::mem::take(&mut self.flagged) {
            // What a consumer has meanwhile is told of when it comes back.
            let waiting = self.stored_queues.get(&key.destination).and_then(|queue| {
                let backlog = &self.queues[queue.0].backlog;
                backlog.get(backlog.find(key.sequence)?)
            });
            if let Some(entry) = waiting {
                counters.push((key, entry.redelivered));
            }
        }
        self.store_counters(counters, turn);
    }

    fn recover_queue(
        &mut self,
        now: i64,
        mut queue: Queue,
        stored: &RecoveredDestination,
        clean: bool,
        held: &FxHashSet<MessageKey>,
    ) -> QueueKey {
        queue.key = Some(stored.key);
        queue.created = true;
        queue.mark = stored.dispatched;
        for message in &stored.messages {
            let key = MessageKey {
                destination: stored.key,
                sequence: message.sequence,
            };
            self.stored_used += message.size as usize;
            if held.contains(&key) {
                continue;
            }
            // After a crash nobody knows who saw what: whatever may have been shown says so.
            let shown = !clean && message.sequence <= stored.dispatched;
            if shown && message.redelivered == 0 {
                self.flagged.push(key);
            }
            queue.put(entry_of(message, message.redelivered.max(shown.into())));
        }
        let key = self.add_queue(queue);
        self.stored_queues.insert(stored.key, key);
        for &(sequence, expiration) in &stored.expiring {
            // One that a prepared transaction acknowledged does not wait.
            if let Some(place) = self.queues[key.0].backlog.find(sequence) {
                self.note_expiration(key, place, expiration, now);
            }
        }
        key
    }

    fn recover_subscription(
        &mut self,
        now: i64,
        subscription: &StoredSubscription,
        stored: &RecoveredDestination,
        clean: bool,
        held: &FxHashSet<MessageKey>,
    ) -> QueueKey {
        let destination = Destination::parse(&subscription.destination, DestinationKind::Topic);
        let selector = subscription
            .selector
            .as_ref()
            .and_then(|text| match Selector::parse(text) {
                Ok(selector) => Some(Arc::new(selector)),
                // It was checked when it was stored. Too much is better than too little.
                Err(error) => {
                    tracing::error!(client = %subscription.client_id, name = %subscription.name, %error,
                        "the selector of a durable subscription is not understood: it gets everything");
                    None
                }
            });
        let mut queue = Queue::new(destination.clone(), self.policy_of(&destination));
        queue.durable = Some(Box::new(DurableSubscription {
            client_id: subscription.client_id.clone(),
            name: subscription.name.clone(),
            destination: destination.clone(),
            no_local: subscription.no_local,
            topics: Vec::new(),
            sight: Sight {
                priority: 0,
                selector,
                not_from: None,
            },
            active: false,
            absent_since: now,
            recalled: Vec::new(),
        }));
        let key = self.recover_queue(now, queue, stored, clean, held);
        let id = (subscription.client_id.clone(), subscription.name.clone());
        self.durables.insert(id, key);
        let mut effects = Effects::new();
        let turn = &mut Turn {
            now,
            effects: &mut effects,
        };
        // It was accepted before.
        if let Err(refusal) = self.attach(key, &destination, turn) {
            tracing::error!(client = %subscription.client_id, name = %subscription.name, %refusal,
                "a durable subscription gets nothing more");
        }
        key
    }
}

fn entry_of(message: &RecoveredMessage, redelivered: u32) -> Entry {
    Entry {
        sequence: message.sequence,
        size: message.size,
        redelivered,
        stored: true,
        tied: false,
        spooled: Spooled::No,
        priority: message.priority,
        body: None,
    }
}
