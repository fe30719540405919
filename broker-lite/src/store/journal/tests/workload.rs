//! Random batches that make sense after the ones before them.

use std::sync::Arc;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;

use super::model::Model;
use super::{committed, key, message, queue};
use crate::store::{
    Batch, DestinationKey, MessageKey, Op, Prepared, StoredDestination, StoredSubscription, StoredXid,
};

/// Destinations at a time.
const DESTINATIONS: usize = 6;

/// Makes a batch, and applies it to the model.
pub(super) fn random_batch(model: &mut Model, random: &mut SmallRng) -> Batch {
    let mut batch = Batch::default();
    for _ in 0..random.random_range(1..6) {
        let ops = match random.random_range(0..100) {
            0..5 => commit(model, random),
            5..10 => fan_out(model, random),
            _ => vec![random_op(model, random)],
        };
        ops.iter().for_each(|op| model.apply_op(op));
        batch.ops.extend(ops);
    }
    batch
}

fn pick<T: Copy>(from: &[T], random: &mut SmallRng) -> Option<T> {
    (!from.is_empty()).then(|| from[random.random_range(0..from.len())])
}

/// The destinations that are transactions, or those that are not.
fn destinations(model: &Model, transactions: bool) -> Vec<u32> {
    let found = model.destinations.iter();
    found
        .filter(|(_, found)| found.is_transaction() == transactions)
        .map(|(&number, _)| number)
        .collect()
}

/// Mostly a key that was never used.
fn new_key(model: &Model, destination: u32, random: &mut SmallRng) -> MessageKey {
    match random.random_range(0..10) {
        0 => key(destination, random.random_range(1..=model.next_sequence)),
        _ => key(destination, model.next_sequence + random.random_range(0..2)),
    }
}

/// A message, or where none is.
fn any_key(model: &Model, destination: u32, random: &mut SmallRng) -> MessageKey {
    let messages = &model.destinations[&destination].messages;
    let first = messages.keys().next().copied().unwrap_or(1);
    let from = random.random_range(first..=model.next_sequence.max(first));
    let at = messages.range(from..).next();
    key(destination, at.map_or(first, |(sequence, _)| *sequence))
}

fn description(number: u32, random: &mut SmallRng) -> StoredDestination {
    match random.random_range(0..10) {
        0..3 => queue(number),
        3..5 => {
            let subscription = StoredSubscription {
                client_id: format!("client {number}").into(),
                name: "name".into(),
                destination: "topic://T.>".into(),
                selector: random.random_bool(0.5).then(|| "a > 1".into()),
                no_local: random.random(),
            };
            StoredDestination::Subscription(Arc::new(subscription))
        }
        5..8 => StoredDestination::Transaction,
        8 => StoredDestination::Schedule,
        _ => StoredDestination::Retained(format!("topic://t{number}").into()),
    }
}

/// Moves what lies on a transaction, some of it to several places, and ends it, mostly.
fn commit(model: &Model, random: &mut SmallRng) -> Vec<Op> {
    let targets = destinations(model, false);
    let transaction = pick(&destinations(model, true), random);
    let (Some(transaction), false) = (transaction, targets.is_empty()) else {
        return vec![random_op(model, random)];
    };
    let mut sequence = model.next_sequence;
    let mut ops = Vec::new();
    for &at in model.destinations[&transaction].messages.keys() {
        let mut target = || {
            sequence += 1;
            key(targets[random.random_range(0..targets.len())], sequence)
        };
        let from = key(transaction, at);
        let (first, second) = (target(), target());
        let shares = random.random_range(0..6);
        if shares == 0 {
            ops.push(Op::Share {
                key: second,
                of: from,
            });
        }
        ops.push(Op::Move { from, to: first });
        if shares == 1 {
            ops.push(Op::Share {
                key: second,
                of: first,
            });
        }
    }
    if random.random_ratio(9, 10) {
        ops.push(Op::RemoveDestination {
            key: DestinationKey(transaction),
        });
    }
    ops
}

/// Puts a message and shares it with every destination that can have it.
fn fan_out(model: &Model, random: &mut SmallRng) -> Vec<Op> {
    let targets = destinations(model, false);
    let Some((&first, others)) = targets.split_first() else {
        return vec![random_op(model, random)];
    };
    let sequence = model.next_sequence;
    let mut ops = vec![put(key(first, sequence), random)];
    ops.extend(others.iter().zip(1..).map(|(&other, index)| Op::Share {
        key: key(other, sequence + index),
        of: key(first, sequence),
    }));
    ops
}

fn put(key: MessageKey, random: &mut SmallRng) -> Op {
    let size = match random.random_range(0..80) {
        0 => random.random_range(0..40_000),
        1..9 => random.random_range(0..5_000),
        _ => random.random_range(0..600),
    };
    let mut message = message(random.random_range(0..20), random.random_range(1..1_000), size);
    message.redelivery_counter = i32::from(random.random_ratio(1, 10));
    if random.random_ratio(1, 5) {
        message.priority = random.random_range(0..10);
        message.expiration = random.random_range(0..3);
    }
    Op::Put {
        key,
        message: Arc::new(message),
    }
}

fn prepare(model: &Model, transaction: u32, random: &mut SmallRng) -> Op {
    let mut acknowledged = model.keys();
    acknowledged.retain(|_| random.random_ratio(1, 10));
    let xid = StoredXid {
        format_id: random.random_range(0..3),
        global: Bytes::from(format!("global {transaction}")),
        branch: Bytes::from_static(b"branch"),
    };
    Op::Prepare {
        destination: DestinationKey(transaction),
        prepared: Arc::new(Prepared { xid, acknowledged }),
    }
}

fn random_op(model: &Model, random: &mut SmallRng) -> Op {
    let all: Vec<u32> = model.destinations.keys().copied().collect();
    let create = all.len() < DESTINATIONS && random.random_ratio(1, 15);
    let (Some(destination), false) = (pick(&all, random), create) else {
        let number = model.next_destination;
        return Op::CreateDestination {
            key: DestinationKey(number),
            destination: description(number, random),
        };
    };
    let found = &model.destinations[&destination];
    let first = found.messages.keys().next().copied().unwrap_or(1);
    let target = pick(&destinations(model, false), random);
    match (random.random_range(0..120), target) {
        (0, _) => Op::RemoveDestination {
            key: DestinationKey(destination),
        },
        (1..8, _) => Op::Redelivered {
            key: any_key(model, destination, random),
            count: random.random_range(0..5),
        },
        (8..16, _) => Op::Dispatched {
            destination: DestinationKey(destination),
            sequence: random.random_range(0..model.next_sequence),
        },
        (16..20, _) => {
            let at = model.committed.last().map_or(model.forgotten, |last| last.at) + 1;
            Op::Committed {
                outcome: committed(random.random_range(0..3), random.random_range(1..1_000), at),
                forgotten: (at - random.random_range(1..50)).max(model.forgotten),
            }
        }
        (20..25, _) => Op::Due {
            key: any_key(model, destination, random),
            at: random.random_range(0..1_000),
            times: random.random_range(0..3),
        },
        (25..30, _) if found.is_transaction() => prepare(model, destination, random),
        (30..38, Some(target)) => Op::Move {
            from: match random.random_range(0..6) {
                // Perhaps of a transaction that is long gone.
                0 => key(
                    random.random_range(1..model.next_destination),
                    random.random_range(1..=model.next_sequence),
                ),
                _ => any_key(model, destination, random),
            },
            to: new_key(model, target, random),
        },
        (38..48, Some(target)) if found.messages.contains_key(&first) => Op::Share {
            key: new_key(model, target, random),
            of: match any_key(model, destination, random) {
                there if found.messages.contains_key(&there.sequence) => there,
                _ => key(destination, first),
            },
        },
        (48..70, _) => Op::Remove {
            key: any_key(model, destination, random),
        },
        // Mostly the first, as consumers do.
        (70..78, _) => Op::Remove {
            key: key(destination, first),
        },
        _ => put(new_key(model, destination, random), random),
    }
}
