//! Messages of prepared branches whose bodies are only in the store: a commit reads them, a few at a time, to know
//! where they go.

use std::sync::Arc;

use openwire_client::wire::Message;
use rustc_hash::FxHashMap;

use super::TransactionKey;
use super::sends::Sent;
use crate::core::destinations::Target;
use crate::core::effect::Effect;
use crate::core::route::Routes;
use crate::core::{Core, Turn};
use crate::store::accounting_size;

/// How many bodies, and how many bytes of them, a commit asks the store for at once.
const LOAD_MESSAGES: usize = 1024;
const LOAD_BYTES: usize = 4 * 1024 * 1024;

impl Core {
    /// A transaction is prepared: nobody knows for how long, so its bodies leave memory if that gets scarce.
    pub(super) fn drop_resident(&mut self, open: TransactionKey) {
        if self.memory_used <= self.config.memory_limit / 2 {
            return;
        }
        let Some(transaction) = self.transactions.get_mut(open) else {
            return;
        };
        let sends = &mut transaction.sends;
        for sent in &mut sends.list {
            if let Sent::Here {
                message,
                sequence,
                stored: true,
            } = sent
            {
                let size = accounting_size(message);
                let sequence = *sequence;
                *sent = Sent::Unread { sequence, size };
                sends.resident -= size as usize;
                sends.unread += 1;
                self.memory_used -= size as usize;
            }
        }
    }

    /// Asks the store for the next messages of which a commit has to know where they go.
    pub(super) fn load_sends(&mut self, open: TransactionKey, turn: &mut Turn<'_>) {
        let Some(transaction) = self.transactions.get(open) else {
            return;
        };
        let mut bytes = 0;
        let unread = transaction.sends.list.iter().filter_map(|sent| match sent {
            Sent::Unread { sequence, size } => Some((*sequence, *size as usize)),
            _ => None,
        });
        let keys: Vec<_> = unread
            .take(LOAD_MESSAGES)
            .take_while(|(_, size)| {
                let fits = bytes < LOAD_BYTES;
                bytes += size;
                fits
            })
            .filter_map(|(sequence, _)| transaction.sends.key(sequence))
            .collect();
        if !keys.is_empty() {
            turn.effects.push(Effect::Load { keys });
        }
    }

    /// Messages of a transaction were read; none for one that is gone.
    pub(in crate::core) fn sends_loaded(
        &mut self,
        open: TransactionKey,
        mut loaded: FxHashMap<u64, Option<Arc<Message>>>,
        turn: &mut Turn<'_>,
    ) {
        let Some(transaction) = self.transactions.get_mut(open) else {
            return;
        };
        let mut list = std::mem::take(&mut transaction.sends.list);
        list.retain_mut(|sent| {
            let Sent::Unread { sequence, size } = *sent else {
                return true;
            };
            let Some(message) = loaded.remove(&sequence) else {
                return true;
            };
            let routes = message.as_ref().map(|message| self.route(message, turn));
            let Some(transaction) = self.transactions.get_mut(open) else {
                return false;
            };
            let sends = &mut transaction.sends;
            sends.unread -= 1;
            let Some(message) = message else {
                tracing::error!(sequence, "a message of a prepared transaction is gone");
                self.stats.discarded += 1;
                return false;
            };
            *sent = match routes {
                Some(Ok(Routes::One(Target::Queue(queue))))
                    if !self.queues[queue.0].destination.is_temporary() =>
                {
                    let queue = &self.queues[queue.0].destination;
                    Sent::Stored(sends.spilled(sequence, &message, queue))
                }
                _ => {
                    sends.resident += size as usize;
                    self.memory_used += size as usize;
                    let stored = true;
                    Sent::Here {
                        message,
                        sequence,
                        stored,
                    }
                }
            };
            true
        });
        let Some(transaction) = self.transactions.get_mut(open) else {
            return;
        };
        transaction.sends.list = list;
        match transaction.sends.unread {
            0 => self.advance(open, turn),
            _ if transaction.asked.is_some() => self.load_sends(open, turn),
            // Whoever asked for the commit has gone.
            _ => {}
        }
    }
}
