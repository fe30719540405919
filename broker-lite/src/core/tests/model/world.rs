//! The core with a store that takes its time, forgets in a crash what it had not finished, and refuses what it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use openwire_client::wire::*;

use crate::core::{ConnectionKey, Core, CoreConfig, Effect, Effects, Then, not_stored};
use crate::store::{
    DestinationKey, MessageKey, Op, Recovered, RecoveredDestination, RecoveredMessage, StoreError,
    StoredDestination, accounting_size,
};

/// What the store holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    pub(super) messages: BTreeMap<MessageKey, (Arc<Message>, u32)>,
    destinations: BTreeMap<DestinationKey, (StoredDestination, u64)>,
    highest: u64,
}

impl Disk {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::CreateDestination { key, destination } => {
                let before = self.destinations.insert(*key, (destination.clone(), 0));
                assert!(before.is_none(), "{key:?} was given out twice");
            }
            Op::RemoveDestination { key } => {
                assert!(self.destinations.remove(key).is_some(), "{key:?} is not there");
                self.messages.retain(|message, _| message.destination != *key);
            }
            Op::Put { key, message } => self.put(*key, (message.clone(), 0)),
            Op::Share { key, of } => {
                let message = self.messages[of].0.clone();
                self.put(*key, (message, 0));
            }
            Op::Remove { key } => {
                assert!(
                    self.messages.remove(key).is_some(),
                    "{key:?} is removed and not there"
                );
            }
            Op::Redelivered { key, count } => {
                if let Some((_, counter)) = self.messages.get_mut(key) {
                    *counter = *count;
                }
            }
            Op::Dispatched {
                destination,
                sequence,
            } => {
                if let Some((_, mark)) = self.destinations.get_mut(destination) {
                    *mark = *sequence;
                }
            }
            Op::Committed { .. } => {}
            other => panic!("nothing here asks for {other:?}"),
        }
    }

    fn put(&mut self, key: MessageKey, message: (Arc<Message>, u32)) {
        self.highest = self.highest.max(key.sequence);
        assert!(
            self.messages.insert(key, message).is_none(),
            "{key:?} is put twice"
        );
    }

    /// A store refuses messages for destinations it does not know.
    fn fits(&self, ops: &[Op]) -> bool {
        let mut created = Vec::new();
        ops.iter().all(|op| match op {
            Op::CreateDestination { key, .. } => {
                created.push(*key);
                true
            }
            Op::Put { key, .. } | Op::Share { key, .. } => {
                created.contains(&key.destination) || self.destinations.contains_key(&key.destination)
            }
            _ => true,
        })
    }

    fn recovered(&self, clean: bool) -> Recovered {
        let destinations = self.destinations.iter().map(|(&key, (destination, mark))| {
            let messages = self.messages.iter().filter(|(at, _)| at.destination == key);
            RecoveredDestination {
                key,
                destination: destination.clone(),
                dispatched: *mark,
                messages: messages
                    .map(|(at, (message, redelivered))| RecoveredMessage {
                        sequence: at.sequence,
                        size: accounting_size(message),
                        redelivered: *redelivered,
                        priority: message.priority as u8,
                    })
                    .collect(),
                due: Vec::new(),
                expiring: self
                    .messages
                    .iter()
                    .filter(|(at, (message, _))| at.destination == key && message.expiration > 0)
                    .map(|(at, (message, _))| (at.sequence, message.expiration))
                    .collect(),
                prepared: None,
            }
        });
        Recovered {
            clean,
            destinations: destinations.collect(),
            next_sequence: self.highest + 1,
            next_destination: self.destinations.keys().map(|key| key.0).max().unwrap_or(0) + 1,
            ..Recovered::default()
        }
    }
}

/// A batch that the store has not finished with.
#[derive(Debug)]
struct Pending {
    number: u64,
    ops: Vec<Op>,
    refused: bool,
    then: Vec<Then>,
}

/// What one call of the core gave to the store.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored {
    /// The number of the batch; none if there was none.
    pub(super) batch: Option<u64>,
    pub(super) ops: Vec<Op>,
}

/// A batch the store has finished with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finished {
    pub(super) batch: u64,
    pub(super) refused: bool,
}

pub(super) struct World {
    pub(super) core: Core,
    pub(super) now: i64,
    pub(super) refusing: bool,
    effects: Effects,
    config: CoreConfig,
    /// With everything that was given to it and not refused.
    pub(super) view: Disk,
    /// With what a crash leaves.
    durable: Disk,
    pending: VecDeque<Pending>,
    loads: VecDeque<Vec<MessageKey>>,
    last_batch: u64,
    /// What was sent to clients and has not been looked at, in order.
    pub(super) sent: Vec<(ConnectionKey, Command)>,
}

impl World {
    pub(super) fn new(now: i64, config: CoreConfig) -> Self {
        let durable = Disk::default();
        Self {
            core: Core::new(now, config.clone(), durable.recovered(true)),
            now,
            refusing: false,
            effects: Effects::new(),
            config,
            view: durable.clone(),
            durable,
            pending: VecDeque::new(),
            loads: VecDeque::new(),
            last_batch: 0,
            sent: Vec::new(),
        }
    }

    /// One call of the core, and what came of it.
    fn turn<T>(&mut self, call: impl FnOnce(&mut Core, i64, &mut Effects) -> T) -> (T, Stored) {
        let result = call(&mut self.core, self.now, &mut self.effects);
        let mut stored = Stored::default();
        for effect in self.effects.drain().collect::<Vec<_>>() {
            match effect {
                Effect::Send { to, command } => self.sent.push((to, command)),
                Effect::Store { batch, then } => {
                    assert!(stored.batch.is_none(), "a turn has one batch");
                    let ops = batch.ops;
                    let refused = self.refusing && !ops.is_empty() || !self.view.fits(&ops);
                    if !refused {
                        ops.iter().for_each(|op| self.view.apply(op));
                    }
                    self.last_batch += 1;
                    let number = self.last_batch;
                    stored = Stored {
                        batch: Some(number),
                        ops: ops.clone(),
                    };
                    self.pending.push_back(Pending {
                        number,
                        ops,
                        refused,
                        then,
                    });
                }
                Effect::Load { keys } => self.loads.push_back(keys),
                Effect::Spool { .. } | Effect::LoadSpooled { .. } => panic!("there is memory enough"),
                Effect::Close { connection, reason } => panic!("{connection:?} is closed: {reason}"),
                Effect::Pause { .. } | Effect::Resume { .. } => panic!("there is room enough"),
            }
        }
        (result, stored)
    }

    pub(super) fn open(&mut self) -> ConnectionKey {
        self.turn(|core, _, effects| core.open("test", effects)).0
    }

    pub(super) fn say(&mut self, from: ConnectionKey, command: Command) -> Stored {
        self.turn(|core, now, effects| core.handle(now, from, command, effects))
            .1
    }

    pub(super) fn lose(&mut self, connection: ConnectionKey) -> Stored {
        self.turn(|core, now, effects| core.lost(now, connection, effects))
            .1
    }

    pub(super) fn tick(&mut self) -> Stored {
        self.turn(|core, now, effects| core.tick(now, effects)).1
    }

    /// The store finishes with its oldest batch. The core is told in the call that is given back with it, if it asked.
    pub(super) fn finish_batch(&mut self) -> Option<(Finished, Stored)> {
        let Pending {
            number,
            ops,
            refused,
            then,
        } = self.pending.pop_front()?;
        if !refused {
            ops.iter().for_each(|op| self.durable.apply(op));
        }
        let finished = Finished {
            batch: number,
            refused,
        };
        let full = || StoreError::Full("no space".into());
        let mut stored = Stored::default();
        for then in then {
            match then {
                Then::Reply { to, response } => {
                    let command = match refused {
                        true => not_stored(&response, &full()),
                        false => response,
                    };
                    self.sent.push((to, command));
                }
                Then::Tell(token) => {
                    let result = if refused { Err(full()) } else { Ok(()) };
                    stored = self
                        .turn(|core, now, effects| core.stored(now, token, result, effects))
                        .1;
                }
            }
        }
        Some((finished, stored))
    }

    /// The oldest load comes back.
    pub(super) fn finish_load(&mut self) -> Option<Stored> {
        let keys = self.loads.pop_front()?;
        let bodies = keys.into_iter().map(|key| {
            let found = self.view.messages.get(&key);
            (key, found.map(|(message, _)| message.clone()))
        });
        let bodies = bodies.collect();
        Some(
            self.turn(|core, now, effects| core.loaded(now, Ok(bodies), effects))
                .1,
        )
    }

    /// The store has nothing left to do, and no queue pauses because it refused something.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.loads.is_empty() && self.core.interrupted.until().is_none()
    }

    pub(super) fn waits_for_batch(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn waits_for_load(&self) -> bool {
        !self.loads.is_empty()
    }

    /// How many batches are not durable.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The broker ends, and a new one starts on what the store has. Of the batches that were not durable the first few
    /// are there all the same. Gives back what became of each: none for those that are lost.
    pub(super) fn restart(&mut self, clean: bool, kept: usize) -> Vec<(u64, Option<bool>)> {
        let mut outcomes = Vec::new();
        for (at, batch) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let outcome = (at < kept).then_some(batch.refused);
            if outcome == Some(false) {
                batch.ops.iter().for_each(|op| self.durable.apply(op));
            }
            outcomes.push((batch.number, outcome));
        }
        self.loads.clear();
        self.sent.clear();
        self.view = self.durable.clone();
        self.refusing = false;
        self.core = Core::new(self.now, self.config.clone(), self.durable.recovered(clean));
        outcomes
    }

    /// The last sequence that the store knows of.
    pub(super) fn last_sequence(&self) -> u64 {
        self.view.highest
    }
}
