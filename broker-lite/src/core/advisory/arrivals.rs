//! The arrival of messages that a commit moves to their queue in the store, without their bodies: they are read to be
//! told of (`MessageDelivered`), a few at a time.
//!
//! Whoever reads such a message first, be it for its queue, tells of it; so no consumer has it before.

use std::collections::BTreeMap;
use std::sync::Arc;

use openwire_client::wire::Message;

use super::AdvisoryKind;
use crate::core::destinations::Target;
use crate::core::dispatch::number_as;
use crate::core::effect::Effect;
use crate::core::queue::{Entry, QueueKey};
use crate::core::schedule::fits;
use crate::core::send::is_expired;
use crate::core::{Core, Turn};
use crate::store::MessageKey;

#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Those that are to be told of, with their sizes.
    untold: BTreeMap<MessageKey, u32>,
    /// The last one of those that are being read.
    asked: Option<MessageKey>,
}

impl Core {
    /// A stored message was moved to a queue.
    pub(in crate::core) fn note_moved(
        &mut self,
        queue: QueueKey,
        key: MessageKey,
        entry: &Entry,
        turn: &mut Turn<'_>,
    ) {
        const KIND: AdvisoryKind = AdvisoryKind::MessageDelivered;
        if !self.listens(KIND) || !self.advises(KIND, &self.queues[queue.0].destination) {
            return;
        }
        match &entry.body {
            Some(message) if is_expired(message, turn.now) => {}
            Some(message) => self.advise_arrival(Target::Queue(queue), message, turn),
            None => drop(self.advisories.arrivals.untold.insert(key, entry.size)),
        }
    }

    /// Asks the store for the next messages that are to be told of.
    pub(in crate::core) fn load_arrivals(&mut self, turn: &mut Turn<'_>) {
        let arrivals = &mut self.advisories.arrivals;
        if arrivals.untold.is_empty() || arrivals.asked.is_some() {
            return;
        }
        let mut bytes = 0;
        let next = arrivals.untold.iter().enumerate();
        let next = next.take_while(|(count, (_, size))| {
            let more = fits(*count, bytes);
            bytes += **size as usize;
            more
        });
        let keys: Vec<_> = next.map(|(_, (key, _))| *key).collect();
        arrivals.asked = keys.last().copied();
        turn.effects.push(Effect::Load { keys });
    }

    /// Tells of those that were read. Gives back what others may have asked for.
    pub(in crate::core) fn arrivals_loaded(
        &mut self,
        mut messages: Vec<(MessageKey, Option<Arc<Message>>)>,
        turn: &mut Turn<'_>,
    ) -> Vec<(MessageKey, Option<Arc<Message>>)> {
        let arrivals = &self.advisories.arrivals;
        if arrivals.untold.is_empty() && arrivals.asked.is_none() {
            return messages;
        }
        let answered = arrivals.asked.is_some() && messages.last().map(|(key, _)| *key) == arrivals.asked;
        messages.retain(|(key, message)| {
            let untold = self.advisories.arrivals.untold.remove(key).is_some();
            let queue = self.stored_queues.get(&key.destination).copied();
            if untold && let (Some(queue), Some(message)) = (queue, message) {
                let mut message = message.clone();
                number_as(&mut message, key.sequence);
                if !is_expired(&message, turn.now) {
                    self.advise_arrival(Target::Queue(queue), &message, turn);
                }
            }
            let asked_for = queue.is_some_and(|queue| self.queues[queue.0].loading);
            asked_for || self.given_up.contains_key(key) || !(answered || untold)
        });
        if answered {
            self.advisories.arrivals.asked = None;
            self.load_arrivals(turn);
        }
        messages
    }
}
