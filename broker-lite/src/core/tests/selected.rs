//! Many selectors on one queue: whatever comes and goes, nobody in line is passed over, and nobody gets what it does not
//! select.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;
use openwire_client::wire::{Destination, Message, Value, ValueMap, encode_map};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::backlog::Place;
use super::super::queue::{Choice, Entry, Queue};
use super::super::spool::Spooled;
use super::super::subscription::{Sight, SubscriptionKey};
use crate::policy::Policy;
use crate::selector::Selector;

/// Values of a field.
const IDS: u32 = 12;

struct Crowd {
    queue: Queue,
    random: StdRng,
    /// Who sees what, and whether it is in line.
    consumers: BTreeMap<SubscriptionKey, (Sight, bool)>,
    next_consumer: usize,
    sequence: u64,
    /// What consumers have.
    taken: Vec<Entry>,
}

impl Crowd {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let policy = Policy {
            prioritized_messages: random.random_bool(0.5),
            ..Policy::default()
        };
        Self {
            queue: Queue::new(Destination::queue("q"), Arc::new(policy)),
            random,
            consumers: BTreeMap::new(),
            next_consumer: 0,
            sequence: 0,
            taken: Vec::new(),
        }
    }

    fn selector(&mut self) -> Option<String> {
        let id = self.random.random_range(0..IDS);
        let number = self.random.random_range(0..IDS);
        Some(match self.random.random_range(0..10) {
            0 => return None,
            1 => format!("id > {number}"),
            2 => format!("kind = 'x' AND id = {id}"),
            3 => format!("JMSCorrelationID IN ('{id}', '{number}')"),
            4 => format!("id = {id}"),
            5 => format!("JMSCorrelationID = '{id}' AND id = {number}"),
            _ => format!("JMSCorrelationID = '{id}'"),
        })
    }

    fn come(&mut self) {
        let selector = self
            .selector()
            .map(|text| Selector::parse(&text).expect("a selector"));
        let sight = Sight {
            priority: self.random.random_range(0..2),
            selector: selector.map(Arc::new),
            not_from: None,
        };
        let key = SubscriptionKey(self.next_consumer);
        self.next_consumer += 1;
        self.queue.add_consumer(key, sight.clone(), false);
        self.consumers.insert(key, (sight, false));
    }

    fn somebody(&mut self) -> Option<SubscriptionKey> {
        let count = self.consumers.len();
        (count > 0).then(|| {
            let at = self.random.random_range(0..count);
            *self.consumers.keys().nth(at).expect("one of them")
        })
    }

    fn message(&mut self) -> Entry {
        self.sequence += 1;
        let id = self.random.random_range(0..IDS);
        let value = match self.random.random_range(0..5) {
            0 => Value::Double(id.into()),
            1 => Value::Float(id as f32),
            2 => Value::Bool(true),
            _ => Value::Int(id as i32),
        };
        let mut map = ValueMap::from_iter([("id", value)]);
        if self.random.random_bool(0.5) {
            map.insert("kind", "x");
        }
        let mut marshalled = BytesMut::new();
        encode_map(&map, &mut marshalled).expect("a small map");
        let correlation = self.random.random_range(0..IDS).to_string();
        let message = Message {
            correlation_id: self.random.random_bool(0.8).then(|| correlation.into()),
            marshalled_properties: Some(marshalled.freeze()),
            ..Message::default()
        };
        Entry {
            sequence: self.sequence,
            size: 1,
            redelivered: 0,
            stored: false,
            tied: false,
            spooled: Spooled::No,
            priority: self.random.random_range(0..10),
            body: Some(Arc::new(message)),
        }
    }

    fn step(&mut self) {
        match self.random.random_range(0..20) {
            0..=2 if self.consumers.len() < 40 => self.come(),
            3 => {
                if let Some(key) = self.somebody() {
                    self.queue.remove_consumer(key);
                    self.consumers.remove(&key);
                }
            }
            4..=8 => {
                if let Some(key) = self.somebody() {
                    self.queue.get_ready(key);
                    self.consumers.get_mut(&key).expect("one of them").1 = true;
                }
            }
            9 => {
                if let Some(key) = self.somebody() {
                    self.queue.rest(key);
                    self.consumers.get_mut(&key).expect("one of them").1 = false;
                }
            }
            10 | 11 if !self.taken.is_empty() => {
                let at = self.random.random_range(0..self.taken.len());
                let entry = self.taken.swap_remove(at);
                self.queue.put(entry);
            }
            // Somebody browses and removes, or its time is over.
            12 => {
                let at = self.random.random_range(0..=self.queue.backlog.len());
                let place = self.waiting().nth(at).map(|(place, _)| place);
                if let Some(place) = place {
                    self.queue.remove(place);
                }
            }
            _ => {
                let entry = self.message();
                self.queue.put(entry);
            }
        }
        // Dispatching may end at any time: bodies have to be read first, say.
        let turns = match self.random.random_bool(0.7) {
            true => usize::MAX,
            false => self.random.random_range(0..3),
        };
        if self.dispatch(turns) && self.random.random_bool(0.3) {
            self.check();
        }
    }

    fn waiting(&self) -> impl Iterator<Item = (Place, &Entry)> {
        self.queue.backlog.iter_from(Place::START)
    }

    /// True if it came to its end.
    fn dispatch(&mut self, turns: usize) -> bool {
        for _ in 0..turns {
            let Some(place) = self.queue.next() else {
                return true;
            };
            let entry = self.queue.backlog.get(place).expect("what is next is there");
            let message = entry.body.clone().expect("a body");
            match self.queue.choose(place, &message) {
                Choice::Consumer(key) => {
                    let (sight, ready) = self.consumers.get_mut(&key).expect("one of them");
                    assert!(*ready && sight.sees(&message));
                    *ready = false;
                    let entry = self.queue.take(place, key).expect("it is there");
                    if self.random.random_bool(0.5) {
                        self.taken.push(entry);
                    }
                }
                Choice::Nobody => self.queue.pass(place, &message),
                Choice::Parked(_) => unreachable!("there are no groups"),
            }
        }
        false
    }

    /// Nobody who is in line sees what waits.
    fn check(&mut self) {
        let waiting: Vec<_> = self
            .waiting()
            .filter_map(|(_, entry)| entry.body.clone())
            .collect();
        for (key, (sight, ready)) in &self.consumers {
            if *ready {
                assert!(!waiting.iter().any(|message| sight.sees(message)), "{sight:?}");
                assert!(self.queue.has_nothing_for(*key));
            }
        }
        for message in &waiting {
            let wanted = self.consumers.values().any(|(sight, _)| sight.sees(message));
            assert_eq!(self.queue.is_wanted(message), wanted);
        }
    }
}

#[test]
fn nobody_in_line_is_passed_over() {
    for seed in 0..30 {
        let mut crowd = Crowd::new(seed);
        (0..600).for_each(|_| crowd.step());
    }
}
