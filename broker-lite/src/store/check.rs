//! Whether a batch makes sense after the ones before it: what does not is refused as a whole.
//!
//! Both stores ask here, so both refuse the same.

use rustc_hash::FxHashMap;

use super::{Batch, DestinationKey, MessageKey, Op, StoreError, StoredDestination};

/// What matters of a destination here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Messages come onto it by being put, and leave it when it is committed.
    Transaction,
    /// Anything else.
    Other,
}

impl From<&StoredDestination> for Kind {
    fn from(destination: &StoredDestination) -> Self {
        match destination {
            StoredDestination::Transaction => Self::Transaction,
            _ => Self::Other,
        }
    }
}

/// Which destinations a batch creates, and as what, and which it removes.
pub(super) type DestinationChanges = FxHashMap<DestinationKey, Option<Kind>>;

/// Checks that every message of a batch goes to a destination that exists when its turn comes, and that what it
/// shares and prepares is there. `kind` tells of the destinations before the batch.
pub(super) fn check(
    batch: &Batch,
    kind: impl Fn(DestinationKey) -> Option<Kind>,
) -> Result<DestinationChanges, StoreError> {
    let mut changes = DestinationChanges::default();
    let kind_of = |changes: &DestinationChanges, key: DestinationKey| {
        changes.get(&key).copied().unwrap_or_else(|| kind(key))
    };
    for op in &batch.ops {
        match op {
            Op::CreateDestination { key, destination } => {
                let new = Kind::from(destination);
                if kind_of(&changes, *key).is_some_and(|known| known != new) {
                    return Err(StoreError::Refused(format!(
                        "destination {} exists, and is something else",
                        key.0
                    )));
                }
                changes.insert(*key, Some(new));
            }
            Op::RemoveDestination { key } => {
                changes.insert(*key, None);
            }
            Op::Put { key, .. } => {
                if kind_of(&changes, key.destination).is_none() {
                    return Err(no_destination(*key));
                }
            }
            Op::Share { key, .. } | Op::Move { to: key, .. } => match kind_of(&changes, key.destination) {
                Some(Kind::Other) => {}
                Some(Kind::Transaction) => {
                    return Err(StoreError::Refused(format!(
                        "message {} can only be put on the transaction {}",
                        key.sequence, key.destination.0
                    )));
                }
                None => return Err(no_destination(*key)),
            },
            Op::Prepare { destination, .. } => {
                if kind_of(&changes, *destination) != Some(Kind::Transaction) {
                    return Err(StoreError::Refused(format!(
                        "destination {} is no transaction that could be prepared",
                        destination.0
                    )));
                }
            }
            Op::Remove { .. }
            | Op::Due { .. }
            | Op::Redelivered { .. }
            | Op::Dispatched { .. }
            | Op::Committed { .. } => {}
        }
    }
    Ok(changes)
}

fn no_destination(key: MessageKey) -> StoreError {
    StoreError::Refused(format!(
        "message {} is for destination {}, which does not exist",
        key.sequence, key.destination.0
    ))
}

/// What a batch that shares or moves messages finds, gone through in order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The changes without any effect, by their place in the batch.
    idle: Vec<usize>,
    /// Which moves are of messages that the batch put itself: places of the move and of the put.
    put_here: FxHashMap<usize, usize>,
    /// Which messages the batch has put, moved or removed so far.
    messages: FxHashMap<MessageKey, Presence>,
    removed: Vec<DestinationKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Gone,
    /// Moved or shared there.
    There,
    /// Put by the change at this place in the batch.
    Put(usize),
}

impl Plan {
    /// Goes through a batch. `there` tells of the messages before it, and is asked only of those that are shared
    /// or moved.
    pub(super) fn of(
        batch: &Batch,
        mut there: impl FnMut(MessageKey) -> Result<bool, StoreError>,
    ) -> Result<Self, StoreError> {
        let mut plan = Self::default();
        // Most batches share and move nothing: nothing of them is noted.
        let mut ops = batch.ops.iter();
        if !ops.any(|op| matches!(op, Op::Share { .. } | Op::Move { .. })) {
            return Ok(plan);
        }
        for (index, op) in batch.ops.iter().enumerate() {
            match op {
                Op::Put { key, .. } => plan.set(*key, Presence::Put(index)),
                Op::Remove { key } => plan.set(*key, Presence::Gone),
                Op::Share { key, of } => {
                    if !plan.has(*of, &mut there)? {
                        return Err(StoreError::Refused(format!(
                            "message {} of destination {}, which is to be shared, is not there",
                            of.sequence, of.destination.0
                        )));
                    }
                    if key == of {
                        plan.idle.push(index);
                    } else {
                        plan.set(*key, Presence::There);
                    }
                }
                Op::Move { from, to } => {
                    if from == to || !plan.has(*from, &mut there)? {
                        plan.idle.push(index);
                    } else {
                        if let Some(Presence::Put(put)) = plan.messages.get(from) {
                            plan.put_here.insert(index, *put);
                        }
                        plan.set(*from, Presence::Gone);
                        plan.set(*to, Presence::There);
                    }
                }
                Op::RemoveDestination { key } => {
                    plan.messages.retain(|message, _| message.destination != *key);
                    plan.removed.push(*key);
                }
                _ => {}
            }
        }
        Ok(plan)
    }

    fn set(&mut self, key: MessageKey, presence: Presence) {
        self.messages.insert(key, presence);
    }

    fn has(
        &self,
        key: MessageKey,
        there: impl FnOnce(MessageKey) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        match self.messages.get(&key) {
            Some(presence) => Ok(*presence != Presence::Gone),
            None if self.removed.contains(&key.destination) => Ok(false),
            None => there(key),
        }
    }

    /// True if the change at this place in the batch has no effect.
    pub(super) fn is_idle(&self, index: usize) -> bool {
        self.idle.binary_search(&index).is_ok()
    }

    /// The place of the put whose message the move at this place moves, if both are in the batch.
    pub(super) fn put_of(&self, index: usize) -> Option<usize> {
        self.put_here.get(&index).copied()
    }
}
