//! What the core asks its shell to do.

use openwire_client::wire::Command;

use crate::store::{Batch, MessageKey, Op};

/// Names a connection of the broker. Reused after the connection was reported lost and forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub u32);

/// Names something that waits until a batch is durable; handed back with [`Core::stored`](super::Core::stored).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreToken(pub u64);

/// What is to be done, in the order given.
#[derive(Debug)]
pub enum Effect {
    /// A command goes to a client.
    Send {
        /// To whom.
        to: ConnectionKey,
        /// What.
        command: Command,
    },
    /// A batch goes to the store. The order of batches is the order of these effects over all turns.
    Store {
        /// The changes.
        batch: Batch,
        /// What happens, in order, once the batch is durable.
        then: Vec<Then>,
    },
    /// Messages whose bodies are not in memory are needed: [`Core::loaded`](super::Core::loaded) takes them.
    Load {
        /// Which, in order.
        keys: Vec<MessageKey>,
    },
    /// A batch goes to the temporary store, in the order of these effects over all turns; [`Core::spooled`](super::Core::spooled)
    /// takes what became of it.
    Spool {
        /// The changes.
        batch: Batch,
        /// What the core knows it by.
        token: StoreToken,
    },
    /// Messages whose bodies are in the temporary store are needed: [`Core::loaded`](super::Core::loaded) takes them.
    LoadSpooled {
        /// Which, in order.
        keys: Vec<MessageKey>,
    },
    /// The connection ends once what was sent to it is written. The shell reports it lost as ever.
    Close {
        /// Which.
        connection: ConnectionKey,
        /// Why, for the log.
        reason: String,
    },
    /// Nothing more is read from the connection until [`Effect::Resume`]: the broker has no room for what it
    /// sends.
    Pause {
        /// Which.
        connection: ConnectionKey,
    },
    /// Reading goes on.
    Resume {
        /// Which.
        connection: ConnectionKey,
    },
}

/// Something that happens once a batch is durable.
#[derive(Debug, Clone)]
pub enum Then {
    /// This response goes out; if the store fails, an `ExceptionResponse` with the same correlation id does.
    Reply {
        /// To whom.
        to: ConnectionKey,
        /// The response.
        response: Command,
    },
    /// The core waits for it.
    Tell(StoreToken),
}

/// The effects of a turn, in order. What is stored in one turn is gathered into one batch, because a batch
/// costs a frame, a checksum and a wake-up, whatever its size.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
    last_store: Option<usize>,
    last_spool: Option<usize>,
    /// What the core is told by when the turn's batch is durable.
    token: Option<StoreToken>,
}

impl Effects {
    /// No effects yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the effects out, in order.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Effect> {
        self.last_store = None;
        self.last_spool = None;
        self.token = None;
        self.list.drain(..)
    }

    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The token of the turn's batch, if the core asked to be told.
    pub(super) fn token(&self) -> Option<StoreToken> {
        self.token
    }

    /// Asks that the core is told when the turn's batch is durable.
    pub(super) fn tell(&mut self, token: StoreToken) {
        self.token = Some(token);
        self.store([], Some(Then::Tell(token)));
    }

    /// True if this turn stores something.
    pub(super) fn has_store(&self) -> bool {
        self.last_store.is_some()
    }

    pub(super) fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Adds a change to the turn's batch for the temporary store, which gets this token if it begins; true if it does.
    pub(super) fn spool(&mut self, op: Op, token: StoreToken) -> bool {
        if let Some(at) = self.last_spool
            && let Some(Effect::Spool { batch, .. }) = self.list.get_mut(at)
        {
            batch.ops.push(op);
            return false;
        }
        self.last_spool = Some(self.list.len());
        let batch = Batch { ops: vec![op] };
        self.list.push(Effect::Spool { batch, token });
        true
    }

    /// Adds changes to the turn's batch.
    ///
    /// Only the order among store effects matters to a store, so the batch may stand before effects that
    /// were added earlier than these changes.
    pub(super) fn store(&mut self, ops: impl IntoIterator<Item = Op>, then: Option<Then>) {
        let at = match self.last_store {
            Some(at) => at,
            None => {
                self.list.push(Effect::Store {
                    batch: Batch::default(),
                    then: Vec::new(),
                });
                self.list.len() - 1
            }
        };
        self.last_store = Some(at);
        if let Some(Effect::Store { batch, then: waiting }) = self.list.get_mut(at) {
            batch.ops.extend(ops);
            waiting.extend(then);
        }
    }
}
