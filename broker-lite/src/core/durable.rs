//! What was stored becomes durable; only then is it shown to anybody.
//!
//! A consumer that acts on a message which a crash then forgets would see it again, unflagged, when its
//! producer sends it again. And a message that the store refuses, because the disk is full, must never
//! have been there.

use super::effect::StoreToken;
use super::outcomes::Undecided;
use super::{Core, Turn};
use crate::store::{DestinationKey, StoreError};

/// A turn's batch on its way into the store.
#[derive(Debug)]
pub(super) struct PendingBatch {
    pub(super) token: StoreToken,
    /// The first and the last message put in it.
    pub(super) first: Option<u64>,
    pub(super) last: u64,
    /// The queues they were put on.
    queues: Vec<DestinationKey>,
    /// The marks that hold once it is durable.
    pub(super) marks: Vec<(DestinationKey, u64)>,
    /// The transactions that are committed with it.
    pub(super) undecided: Undecided,
}

impl PendingBatch {
    pub(super) fn touch(&mut self, queue: DestinationKey) {
        if !self.queues.contains(&queue) {
            self.queues.push(queue);
        }
    }
}

impl Core {
    /// The batch of this turn; the core is told when it is durable.
    pub(super) fn batch(&mut self, turn: &mut Turn<'_>) -> &mut PendingBatch {
        if turn.effects.token().is_none() {
            self.last_token += 1;
            let token = StoreToken(self.last_token);
            turn.effects.tell(token);
            self.batches.push_back(PendingBatch {
                token,
                first: None,
                last: 0,
                queues: Vec::new(),
                marks: Vec::new(),
                undecided: Undecided::default(),
            });
        }
        let last = self.batches.len() - 1;
        &mut self.batches[last]
    }

    /// The batch of a [`Then::Tell`](super::Then::Tell) is durable, or never will be. Batches are told of in
    /// the order in which they were stored.
    pub fn stored(
        &mut self,
        now: i64,
        token: StoreToken,
        result: Result<(), StoreError>,
        effects: &mut super::Effects,
    ) {
        let turn = &mut Turn { now, effects };
        let Some(mut batch) = self.batches.pop_front_if(|batch| batch.token == token) else {
            return;
        };
        self.decide(token, std::mem::take(&mut batch.undecided), &result, turn);
        match result {
            Ok(()) => {
                self.durable = self.durable.max(batch.last);
                for &(destination, mark) in &batch.marks {
                    if let Some(&key) = self.stored_queues.get(&destination) {
                        let queue = &mut self.queues[key.0];
                        queue.marking = false;
                        queue.mark = queue.mark.max(mark);
                    }
                }
                self.drop_bodies(&batch);
            }
            Err(error) => self.withdraw(&batch, &error),
        }
        let marked = batch.marks.iter().map(|(destination, _)| *destination);
        for destination in batch.queues.iter().copied().chain(marked) {
            if let Some(&key) = self.stored_queues.get(&destination) {
                self.dispatch(key, turn);
                self.end_pulls(key, turn);
            }
        }
    }

    /// A deep queue's bodies stay in the store.
    fn drop_bodies(&mut self, batch: &PendingBatch) {
        let Some(first) = batch.first else { return };
        if self.resident_used <= self.config.resident_limit {
            return;
        }
        for destination in &batch.queues {
            let Some(key) = self.stored_queues.get(destination) else {
                continue;
            };
            let queue = &mut self.queues[key.0];
            // Consumers that wait take these at once.
            if !queue.ready.is_empty() {
                continue;
            }
            let arrived = queue
                .pending
                .iter_mut()
                .rev()
                .take_while(|entry| entry.sequence >= first);
            for entry in arrived.filter(|entry| entry.stored && entry.sequence <= batch.last) {
                if entry.body.take().is_some() {
                    self.resident_used -= entry.size as usize;
                }
            }
        }
    }

    /// The store refused the batch: its messages were never there. Whoever sent them is told by the answer.
    fn withdraw(&mut self, batch: &PendingBatch, error: &StoreError) {
        tracing::warn!(%error, "messages were refused by the store");
        for (destination, _) in &batch.marks {
            if let Some(key) = self.stored_queues.get(destination) {
                self.queues[key.0].marking = false;
            }
        }
        let Some(first) = batch.first else { return };
        for destination in &batch.queues {
            let Some(key) = self.stored_queues.get(destination) else {
                continue;
            };
            let queue = &mut self.queues[key.0];
            let from = queue.pending.partition_point(|entry| entry.sequence < first);
            let to = queue
                .pending
                .partition_point(|entry| entry.sequence <= batch.last);
            let refused: Vec<_> = queue.pending.drain(from..to).collect();
            for entry in refused {
                self.uncount(&entry);
                self.stats.refused += 1;
                if let Some(id) = entry
                    .body
                    .as_ref()
                    .and_then(|message| message.message_id.as_ref())
                {
                    self.audit.not_taken(id);
                }
            }
        }
    }
}
