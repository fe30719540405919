//! Queue browsers: a look at what is on a queue, without taking it.
//!
//! A browser sees what was there when it came, what consumers have and have not acknowledged included, each message
//! once and in order, as far as its credit goes; then it is told that it is at the end.

use std::collections::VecDeque;
use std::sync::Arc;

use openwire_client::wire::{Message, MessageDispatch};

use super::backlog::Place;
use super::dispatch::LOAD_MESSAGES;
use super::queue::{Entry, QueueKey};
use super::send::is_expired;
use super::subscription::SubscriptionKey;
use super::{Core, Turn};

/// How far a browser has come.
#[derive(Debug)]
pub(super) struct Browse {
    /// What is left to be looked at, queue by queue.
    left: VecDeque<Part>,
    /// Messages up to this sequence are shown: later ones came after the browser.
    until: u64,
    /// It was told that it is at the end.
    ended: bool,
}

/// What a browser has left to see of one queue.
#[derive(Debug)]
struct Part {
    queue: QueueKey,
    /// What consumers had when the browser came, in order, and where it stood.
    in_flight: VecDeque<(Place, Entry)>,
    next: Place,
}

/// What a browser comes upon.
enum Sight {
    Message(Place, Entry),
    /// It has to be read back first.
    Absent(Place),
    /// Not for this browser.
    Other(Place),
    End,
}

impl Core {
    /// The consumer is a browser: it begins to look at its queues.
    pub(super) fn begin_browsing(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let queues = self.subscriptions[key.0].queues().to_vec();
        let left = queues.iter().map(|&queue| {
            let backlog = &self.queues[queue.0].backlog;
            let mut in_flight: Vec<(Place, Entry)> = self.queues[queue.0]
                .consumers()
                .flat_map(|consumer| {
                    let subscription = &self.subscriptions[consumer.0];
                    let taken = self.taken_by(consumer, &subscription.transactions);
                    subscription.in_flight.iter().chain(taken)
                })
                .filter(|message| message.queue == queue)
                .map(|message| (backlog.place(&message.entry), message.entry.clone()))
                .collect();
            in_flight.sort_unstable_by_key(|(place, _)| *place);
            Part {
                queue,
                in_flight: in_flight.into(),
                next: Place::START,
            }
        });
        let browse = Browse {
            left: left.collect(),
            until: self.sequence,
            ended: false,
        };
        for queue in queues {
            self.queues[queue.0].browsers.push(key);
            self.queues[queue.0].counts.browsers += 1;
        }
        self.subscriptions[key.0].browse = Some(Box::new(browse));
        self.serve_browser(key, turn);
    }

    /// Shows what came back from the store to those who wait for it.
    pub(super) fn serve_browsers(&mut self, key: QueueKey, turn: &mut Turn<'_>) {
        for browser in self.queues[key.0].browsers.clone() {
            self.serve_browser(browser, turn);
        }
    }

    /// Shows a browser as much as it has credit for.
    pub(super) fn serve_browser(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        while self.subscriptions[key.0].has_credit() {
            let Some(browse) = self.subscriptions[key.0].browse.as_deref() else {
                return;
            };
            if browse.ended {
                return;
            }
            let until = browse.until;
            let Some(part) = browse.left.front() else {
                return self.end_browsing(key, turn);
            };
            let (queue, next) = (part.queue, part.next);
            match self.sight(key, queue, next, until, turn.now) {
                Sight::Message(place, entry) => {
                    self.show(key, queue, entry, turn);
                    self.let_body_go(queue, place);
                }
                Sight::Absent(place) => {
                    self.browse_from(key, place);
                    let places = self.queues[queue.0].backlog.iter_from(place);
                    let places: Vec<_> = places.map(|(place, _)| place).take(LOAD_MESSAGES).collect();
                    self.load(queue, places, turn);
                    return;
                }
                Sight::Other(place) => {
                    self.browse_from(key, place.next());
                    self.let_body_go(queue, place);
                }
                Sight::End => {
                    if let Some(browse) = &mut self.subscriptions[key.0].browse {
                        browse.left.pop_front();
                    }
                    self.queues[queue.0].browsers.retain(|&browser| browser != key);
                }
            }
        }
    }

    /// What a browser comes upon next, from this place on.
    fn sight(&mut self, key: SubscriptionKey, queue: QueueKey, next: Place, until: u64, now: i64) -> Sight {
        let subscription = &mut self.subscriptions[key.0];
        let wanted = &subscription.sight;
        let part = subscription
            .browse
            .as_mut()
            .and_then(|browse| browse.left.front_mut());
        let Some(part) = part else {
            return Sight::End;
        };
        let sees = |message: &Arc<Message>| !is_expired(message, now) && wanted.sees(message);
        let ahead = self.queues.get(queue.0).and_then(|waiting| {
            let mut waiting = waiting.backlog.iter_from(next);
            waiting.find(|(_, entry)| {
                entry.sequence <= until && (!entry.waits_for_store() || entry.sequence <= self.durable)
            })
        });
        // Both are in order; a consumer may meanwhile have given back what it had.
        while let Some((first, _)) = part.in_flight.front() {
            if ahead.is_some_and(|(place, _)| place < *first) {
                break;
            }
            let back = ahead.is_some_and(|(place, _)| place == *first);
            let Some((place, entry)) = part.in_flight.pop_front() else {
                break;
            };
            if back {
                continue;
            }
            // It may be given back later, and is not shown again then.
            part.next = place.next();
            if entry.body.as_ref().is_some_and(sees) {
                return Sight::Message(place, entry);
            }
        }
        let Some((place, entry)) = ahead else {
            return Sight::End;
        };
        match &entry.body {
            None => Sight::Absent(place),
            Some(message) if sees(message) => {
                part.next = place.next();
                Sight::Message(place, entry.clone())
            }
            Some(_) => Sight::Other(place),
        }
    }

    fn browse_from(&mut self, key: SubscriptionKey, place: Place) {
        let browse = self.subscriptions[key.0].browse.as_mut();
        if let Some(part) = browse.and_then(|browse| browse.left.front_mut()) {
            part.next = place;
        }
    }

    fn show(&mut self, key: SubscriptionKey, queue: QueueKey, mut entry: Entry, turn: &mut Turn<'_>) {
        if let Some(message) = &mut entry.body {
            let fields = Arc::make_mut(message);
            fields.redelivery_counter = entry.redelivered as i32;
            fields.broker_out_time = turn.now;
        }
        self.send_to(queue, key, entry, turn);
    }

    /// Tells a browser that it has seen everything.
    fn end_browsing(&mut self, key: SubscriptionKey, turn: &mut Turn<'_>) {
        let subscription = &mut self.subscriptions[key.0];
        if let Some(browse) = &mut subscription.browse {
            browse.ended = true;
        }
        let consumer_id = Some(subscription.id.clone());
        turn.send(
            subscription.connection,
            MessageDispatch {
                consumer_id,
                ..MessageDispatch::default()
            },
        );
    }
}
