//! What the brokers were told and who they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::quorum::Asker;
use crate::error::{Error, ErrorKind, Result};
use crate::link::Single;
use crate::link::guard::{Guard, TransactionGuard};
use crate::link::outbox::{Item, Reply};
use crate::link::tracker::Tracker;
use crate::uri::Endpoint;
use crate::wire::{Command, ConsumerId, ConsumerInfo, TransactionId, TransactionInfo};

/// A consumer by the number of its session and its own.
pub(super) type ConsumerKey = (i64, i64);

/// Everything that is known; behind one lock, so that all brokers are told the same in the same order.
#[derive(Debug)]
pub(super) struct State {
    pub(super) brokers: Vec<Broker>,
    pub(super) next_id: u64,
    /// Who has the consumers, and queue messages unless they go to all.
    pub(super) primary: Option<u64>,
    /// Sessions, producers and temporary destinations, for a broker that comes later.
    pub(super) tracker: Tracker,
    pub(super) consumers: BTreeMap<ConsumerKey, Consumer>,
    pub(super) transactions: Vec<Open>,
    /// Who waits for the first connections.
    pub(super) starting: Option<oneshot::Sender<Result<()>>>,
    /// Why everything is over.
    pub(super) over: Option<Error>,
    /// How many links have not come to their end.
    pub(super) running: usize,
    pub(super) max_frame_size: Option<u64>,
    pub(super) tally: Tally,
}

/// What `Resumed` and `Closed` will tell.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Since when there are too few brokers.
    pub(super) interrupted: Option<Instant>,
    pub(super) resumed: u64,
    pub(super) lost: u64,
    pub(super) attempts: u32,
}

/// One of the brokers.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) id: u64,
    /// Where it is; several addresses are those of a master and its slaves.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) link: Single,
    /// The number of its physical connection.
    pub(super) connection: u64,
    /// It was told the state and is told what changes.
    pub(super) joined: bool,
    pub(super) live: bool,
}

impl Broker {
    /// Puts a command into its queue, to be dropped if its connection breaks.
    pub(super) fn post_bound(&self, command: Command, reply: Option<Reply>) -> Result<()> {
        self.post(command, reply, Guard::Connection(self.connection))
    }

    pub(super) fn post(&self, command: Command, reply: Option<Reply>, guard: Guard) -> Result<()> {
        self.link.shared.outbox.post(Item {
            command,
            reply,
            guard,
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.link.shared.outbox.is_full()
    }

    pub(super) fn name(&self) -> String {
        let names: Vec<_> = self.endpoints.iter().map(ToString::to_string).collect();
        names.join(",")
    }
}

/// A consumer, which moves from primary to primary.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) info: Box<ConsumerInfo>,
    /// Who waits until a broker has accepted it.
    pub(super) asker: Option<Asker>,
}

/// A transaction that has begun.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: TransactionId,
    pub(super) begin: TransactionInfo,
    pub(super) guard: Arc<TransactionGuard>,
    /// The brokers that have all of it; none before the first message.
    pub(super) members: Vec<u64>,
    /// The one that has the messages for queues.
    pub(super) queues: Option<u64>,
}

impl Open {
    pub(super) fn guard(&self) -> Guard {
        Guard::Transaction(self.guard.clone())
    }
}

impl State {
    pub(super) fn broker(&self, id: u64) -> Option<&Broker> {
        self.brokers.iter().find(|broker| broker.id == id)
    }

    pub(super) fn broker_mut(&mut self, id: u64) -> Option<&mut Broker> {
        self.brokers.iter_mut().find(|broker| broker.id == id)
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.iter().filter(|broker| broker.live)
    }

    pub(super) fn primary(&self) -> Option<&Broker> {
        self.broker(self.primary?)
    }

    pub(super) fn check_open(&self) -> Result<()> {
        self.over.clone().map_or(Ok(()), Err)
    }

    /// Enough brokers are connected.
    pub(super) fn is_ready(&self, need: usize) -> bool {
        self.primary.is_some() && self.live().count() >= need
    }

    /// Leaves those out of the transaction that are not there: what they miss of it cannot be made good.
    pub(super) fn expel_absent(&mut self, at: usize) {
        let Some(open) = self.transactions.get(at) else {
            return;
        };
        let (there, absent): (Vec<_>, Vec<_>) = open
            .members
            .iter()
            .partition(|id| self.broker(**id).is_some_and(|broker| broker.live));
        self.roll_back(open, &absent);
        if let Some(open) = self.transactions.get_mut(at) {
            open.members = there;
        }
    }

    /// Gives a transaction up: it is rolled back wherever it is.
    pub(super) fn abandon(&mut self, at: usize) -> Error {
        let open = self.transactions.swap_remove(at);
        open.guard.kill();
        self.roll_back(&open, &open.members);
        Error::new(
            ErrorKind::TransactionRolledBack,
            "the transaction was rolled back: too few brokers were connected all the time",
        )
    }

    pub(super) fn roll_back(&self, open: &Open, members: &[u64]) {
        for broker in members.iter().filter_map(|id| self.broker(*id)) {
            let rollback = TransactionInfo {
                step: TransactionInfo::ROLLBACK,
                ..open.begin.clone()
            };
            // Nobody waits for the answer, but it ends the transaction in the books of the link. One that has ended
            // has rolled back by that.
            let reply = Reply::new(oneshot::channel().0, None);
            let _ = broker.post(Command::from(rollback), Some(reply), open.guard());
        }
    }
}

pub(super) fn consumer_key(id: &ConsumerId) -> ConsumerKey {
    (id.session_id, id.value)
}
