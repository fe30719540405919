//! What the core asks its shell to do.

use openwire_client::wire::Command;

use crate::store::{Batch, MessageKey};

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
        /// What happens once the batch is durable.
        then: Then,
    },
    /// Messages whose bodies are not in memory are needed: [`Core::loaded`](super::Core::loaded) takes them.
    Load {
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

/// What happens once a batch is durable.
#[derive(Debug)]
pub enum Then {
    /// Nothing waits for it.
    Nothing,
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
