//! What there can be many of, and what is done with so many.

use std::sync::Arc;

use openwire_client::wire::{ConsumerId, ConsumerInfo, Destination};

use crate::Meter;
use crate::rig::{PICKS, Rig};

/// Messages by which the cost of one is measured.
const MESSAGES: u64 = 200_000;

/// The least of them, where each costs much.
const FEW: u64 = 1_000;

/// Two of these are far apart, whatever the size: visits come in no order that helps a cache.
const STRIDE: u64 = 7919;

/// Something there can be many of.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) sizes: &'static [u64],
    pub(crate) run: fn(u64, &mut Meter),
}

pub(crate) const ALL: &[Case] = &[
    Case {
        name: "depth",
        what: "stored messages on a queue, bodies beyond 64 MiB in the store",
        sizes: &[1_000, 10_000, 100_000, 1_000_000, 5_000_000],
        run: depth,
    },
    Case {
        name: "selector",
        what: "stored messages on a queue with consumers that select one in 1,000",
        sizes: &[1_000, 10_000, 100_000, 1_000_000, 5_000_000],
        run: selector,
    },
    Case {
        name: "destinations",
        what: "queues with a consumer each, sent to in turn",
        sizes: &[10, 100, 1_000, 10_000, 100_000],
        run: destinations,
    },
    Case {
        name: "consumers",
        what: "consumers on one queue that wait for messages",
        sizes: &[10, 100, 1_000, 10_000, 20_000],
        run: consumers,
    },
    Case {
        name: "full",
        what: "consumers on one queue that have all they want, beside one that takes messages",
        sizes: &[10, 100, 1_000, 10_000, 20_000],
        run: full,
    },
    Case {
        name: "selectors",
        what: "consumers on one queue that wait for an answer each, by JMSCorrelationID",
        sizes: &[10, 100, 1_000, 10_000, 20_000],
        run: selectors,
    },
    Case {
        name: "wildcards",
        what: "consumers of a wildcard each, 1,000 queues",
        sizes: &[10, 100, 1_000, 10_000, 20_000],
        run: wildcards,
    },
    Case {
        name: "matching",
        what: "queues that one wildcard consumer has",
        sizes: &[10, 100, 1_000, 10_000, 100_000],
        run: matching,
    },
    Case {
        name: "subscribers",
        what: "subscribers of one topic",
        sizes: &[10, 100, 1_000, 10_000, 20_000],
        run: subscribers,
    },
    Case {
        name: "durables",
        what: "durable subscribers of one topic, stored",
        sizes: &[1, 10, 100, 1_000, 10_000],
        run: durables,
    },
    Case {
        name: "groups",
        what: "message groups of one queue with ten consumers",
        sizes: &[10, 100, 1_000, 10_000, 100_000, 1_000_000],
        run: groups,
    },
    Case {
        name: "connections",
        what: "connections with a consumer of one queue each",
        sizes: &[10, 100, 1_000, 5_000, 20_000],
        run: connections,
    },
];

fn nothing<T>(_: &mut T) {}

fn depth(size: u64, meter: &mut Meter) {
    let mut rig = Rig::new(true, 1024);
    let queue = Destination::queue("deep");
    meter.time("put", size, || {
        (0..size).for_each(|_| rig.send(&queue, nothing));
        rig.turn();
    });
    let taken = (size / 2).min(MESSAGES);
    rig.to_acknowledge = taken;
    let mut consumer = None;
    meter.time("take", taken, || {
        consumer = Some(rig.consume(&queue, 100, nothing))
    });
    assert!(rig.delivered >= taken);
    // Put and taken at once, at either end.
    rig.to_acknowledge = taken;
    meter.time("put and take", taken, || {
        for _ in 0..taken {
            rig.send(&queue, nothing);
        }
        rig.turn();
    });
}

fn selector(size: u64, meter: &mut Meter) {
    let mut rig = Rig::new(true, 1024);
    let queue = Destination::queue("deep");
    (0..size).for_each(|_| rig.send(&queue, nothing));
    rig.turn();
    let few = size / PICKS as u64;
    meter.time("look at", size, || {
        rig.consume(&queue, 1000, |info| info.selector = Some("pick = 500".into()));
    });
    assert_eq!(rig.delivered, few);
    meter.time("put past it", MESSAGES, || {
        for _ in 0..MESSAGES {
            rig.send(&queue, nothing);
        }
        rig.turn();
    });
    // One consumer holds what it selects, from all over the queue, and gives it back; another that selects alike takes it.
    rig.to_acknowledge = 0;
    let pick = |info: &mut ConsumerInfo| info.selector = Some("pick = 250".into());
    let holder = rig.consume(&queue, 100_000, pick);
    let waits = rig.consume(&queue, 0, pick);
    let held = (size + MESSAGES) / PICKS as u64;
    meter.time("give back to the middle", held, || rig.close(holder));
    rig.to_acknowledge = u64::MAX;
    let before = rig.delivered;
    meter.time("take from the middle", held, || rig.set_prefetch(&waits, 100_000));
    assert_eq!(rig.delivered - before, held);
}

fn queues(size: u64) -> Vec<Destination> {
    (0..size)
        .map(|at| Destination::queue(&format!("Q.{at}.in")))
        .collect()
}

fn destinations(size: u64, meter: &mut Meter) {
    let mut rig = Rig::new(false, 1024);
    let queues = queues(size);
    let mut consumers = Vec::new();
    meter.time("open", size, || {
        consumers.extend(queues.iter().map(|queue| rig.consume(queue, 100, nothing)));
    });
    exchange(&mut rig, meter, MESSAGES, |rig, at| {
        rig.send(&queues[(at * STRIDE % size) as usize], nothing);
    });
    close_all(&mut rig, meter, consumers);
}

/// Messages that are sent, dispatched and acknowledged.
fn exchange(rig: &mut Rig, meter: &mut Meter, count: u64, mut send: impl FnMut(&mut Rig, u64)) {
    let before = rig.delivered;
    meter.time("message", count, || {
        (0..count).for_each(|at| send(rig, at));
        rig.turn();
    });
    assert_eq!(rig.delivered - before, count, "each message is delivered once");
}

fn close_all(rig: &mut Rig, meter: &mut Meter, consumers: Vec<ConsumerId>) {
    meter.time("close", consumers.len() as u64, || {
        consumers
            .into_iter()
            .rev()
            .for_each(|consumer| rig.close(consumer));
    });
}

fn consumers(size: u64, meter: &mut Meter) {
    let mut rig = Rig::new(false, 1024);
    let queue = Destination::queue("one");
    let mut consumers = Vec::new();
    meter.time("open", size, || {
        consumers.extend((0..size).map(|_| rig.consume(&queue, 1, nothing)));
    });
    exchange(&mut rig, meter, MESSAGES, |rig, _| rig.send(&queue, nothing));
    close_all(&mut rig, meter, consumers);
}

fn full(size: u64, meter: &mut Meter) {
    let mut rig = Rig::new(false, 1024);
    let queue = Destination::queue("one");
    let mut consumers: Vec<_> = (0..size).map(|_| rig.consume(&queue, 1, nothing)).collect();
    rig.to_acknowledge = 0;
    (0..size).for_each(|_| rig.send(&queue, nothing));
    rig.turn();
    rig.to_acknowledge = u64::MAX;
    consumers.push(rig.consume(&queue, 1000, nothing));
    exchange(&mut rig, meter, MESSAGES, |rig, _| rig.send(&queue, nothing));
}

fn selectors(size: u64, meter: &mut Meter) {
    let mut rig = Rig::new(false, 1024);
    let queue = Destination::queue("answers");
    let mut consumers = Vec::new();
    meter.time("open", size, || {
        consumers.extend((0..size).map(|at| {
            rig.consume(&queue, 1, |info| {
                info.selector = Some(format!("JMSCorrelationID = 'ID:{at}'").into());
            })
        }));
    });
    let count = (20_000_000 / size).clamp(FEW, MESSAGES);
    exchange(&mut rig, meter, count, |rig, at| {
        let to = at * STRIDE % size;
        rig.send(&queue, |message| {
            message.correlation_id = Some(format!("ID:{to}").into())
        });
    });
    close_all(&mut rig, meter, consumers);
}

fn wildcards(size: u64, meter: &mut Meter) {
    let mut rig = Rig::new(false, 1024);
    let mut consumers = Vec::new();
    meter.time("open", size, || {
        consumers.extend((0..size).map(|at| {
            let pattern = Destination::queue(&format!("Q.{at}.>"));
            rig.consume(&pattern, 100, nothing)
        }));
    });
    let many = size.min(1_000);
    let queues = queues(many);
    let before = rig.delivered;
    meter.time("create", many, || {
        queues.iter().for_each(|queue| rig.send(queue, nothing));
        rig.turn();
    });
    assert_eq!(rig.delivered - before, many);
    exchange(&mut rig, meter, MESSAGES, |rig, at| {
        rig.send(&queues[(at * STRIDE % many) as usize], nothing);
    });
    close_all(&mut rig, meter, consumers);
}

fn matching(size: u64, meter: &mut Meter) {
    let mut rig = Rig::new(false, 1024);
    let all = Destination::queue("Q.>");
    let first = rig.consume(&all, 100, nothing);
    let queues = queues(size);
    meter.time("create", size, || {
        queues.iter().for_each(|queue| rig.send(queue, nothing));
        rig.turn();
    });
    meter.time("close", size, || rig.close(first));
    meter.time("join", size, || {
        rig.consume(&all, 100, nothing);
    });
    exchange(&mut rig, meter, MESSAGES, |rig, at| {
        rig.send(&queues[(at * STRIDE % size) as usize], nothing);
    });
}

fn subscribers(size: u64, meter: &mut Meter) {
    let mut rig = Rig::new(false, 1024);
    let topic = Destination::topic("news");
    let mut consumers = Vec::new();
    meter.time("open", size, || {
        consumers.extend((0..size).map(|_| rig.consume(&topic, 1000, nothing)));
    });
    publish(&mut rig, meter, &topic, size, 1_000_000);
    close_all(&mut rig, meter, consumers);
}

/// Messages of a topic, counted once for each subscriber.
fn publish(rig: &mut Rig, meter: &mut Meter, topic: &Destination, subscribers: u64, deliveries: u64) {
    let count = deliveries / subscribers;
    let before = rig.delivered;
    meter.time("delivery", count * subscribers, || {
        (0..count).for_each(|_| {
            rig.send(topic, nothing);
            if subscribers >= 100 {
                rig.turn();
            }
        });
        rig.turn();
    });
    assert_eq!(rig.delivered - before, count * subscribers);
}

fn durables(size: u64, meter: &mut Meter) {
    let mut rig = Rig::new(true, 1024);
    let topic = Destination::topic("news");
    let mut consumers = Vec::new();
    let name = |at: u64| format!("subscription {at}").into();
    meter.time("open", size, || {
        consumers.extend(
            (0..size).map(|at| rig.consume(&topic, 100, |info| info.subscription_name = Some(name(at)))),
        );
    });
    publish(&mut rig, meter, &topic, size, 500_000);
    close_all(&mut rig, meter, consumers);
    // What is published while nobody consumes waits.
    let count = (500_000 / size).min(20_000);
    meter.time("keep", count * size, || {
        (0..count).for_each(|_| rig.send(&topic, nothing));
        rig.turn();
    });
    meter.time("unsubscribe", size, || {
        (0..size).for_each(|at| rig.unsubscribe(name(at)));
    });
}

fn groups(size: u64, meter: &mut Meter) {
    let mut rig = Rig::new(false, 1024);
    let queue = Destination::queue("grouped");
    let consumers: Vec<_> = (0..10).map(|_| rig.consume(&queue, 1000, nothing)).collect();
    let grouped = |rig: &mut Rig, group: u64| {
        rig.send(&queue, |message| {
            message.group_id = Some(format!("group {group}").into());
            message.group_sequence = 2;
        });
    };
    meter.time("begin", size, || {
        (0..size).for_each(|group| grouped(&mut rig, group));
        rig.turn();
    });
    exchange(&mut rig, meter, MESSAGES, |rig, at| {
        grouped(rig, at * STRIDE % size)
    });
    close_all(&mut rig, meter, consumers);
}

fn connections(size: u64, meter: &mut Meter) {
    let mut rig = Rig::new(false, 1024);
    let queue = Destination::queue("one");
    rig.consume(&queue, 1000, nothing);
    let mut keys = Vec::new();
    meter.time("connect", size, || {
        keys.extend((0..size).map(|at| {
            let id: Arc<str> = format!("ID:client-{at}:1").into();
            let key = rig.connect(id.clone());
            rig.consume_on(key, id, &queue, 1, nothing);
            key
        }));
    });
    exchange(&mut rig, meter, MESSAGES, |rig, _| rig.send(&queue, nothing));
    meter.time("break", size, || {
        keys.into_iter().for_each(|key| rig.break_off(key))
    });
}
