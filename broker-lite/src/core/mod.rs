//! The broker proper: synchronous, without I/O, tasks or a clock. Commands, time and what was loaded come
//! in; [`Effect`]s go out.

mod effect;

use std::sync::Arc;

use openwire_client::wire::{BrokerId, Command, Message};

use crate::store::{MessageKey, Recovered, StoreError};

pub use effect::{ConnectionKey, Effect, Effects, StoreToken, Then};

/// What the core needs to know beforehand.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// `brokerName`.
    pub broker_name: Arc<str>,
    /// The broker's id, new at every start.
    pub broker_id: BrokerId,
    /// A URI clients can connect to.
    pub broker_url: Arc<str>,
    /// Persistent messages go to a store. Without one they live in memory like any others.
    pub stored: bool,
    /// Bytes of message bodies kept in memory for messages that are stored as well; beyond it they are read
    /// back when their turn comes.
    pub resident_limit: usize,
    /// Bytes of messages that live in memory only; beyond it producers are paused.
    pub memory_limit: usize,
}

/// The broker's state: connections, destinations, subscriptions, transactions.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
}

impl Core {
    /// A broker with what its store held.
    pub fn new(config: CoreConfig, _recovered: Recovered) -> Self {
        Self { config }
    }

    /// A client connected and agreed on a wire format; `peer` is its address, for messages. The broker
    /// introduces itself.
    pub fn open(&mut self, _peer: &str, _effects: &mut Effects) -> ConnectionKey {
        let _ = &self.config;
        ConnectionKey(0)
    }

    /// A client sent a command. `now` is in milliseconds since 1970.
    pub fn handle(&mut self, _now: i64, _from: ConnectionKey, _command: Command, _effects: &mut Effects) {}

    /// The connection ended. Its key is free afterwards.
    pub fn lost(&mut self, _now: i64, _connection: ConnectionKey, _effects: &mut Effects) {}

    /// Messages asked for with [`Effect::Load`] are there.
    pub fn loaded(
        &mut self,
        _now: i64,
        _messages: Result<Vec<(MessageKey, Option<Arc<Message>>)>, StoreError>,
        _effects: &mut Effects,
    ) {
    }

    /// The batch of a [`Then::Tell`] is durable, or never will be.
    pub fn stored(
        &mut self,
        _now: i64,
        _token: StoreToken,
        _result: Result<(), StoreError>,
        _effects: &mut Effects,
    ) {
    }

    /// When [`Core::tick`] wants to be called next, in milliseconds since 1970.
    pub fn next_deadline(&self) -> Option<i64> {
        None
    }

    /// Time has passed.
    pub fn tick(&mut self, _now: i64, _effects: &mut Effects) {}

    /// The broker stops in order: what a restart must know is stored. Connections are reported lost before.
    pub fn shutdown(&mut self, _now: i64, _effects: &mut Effects) {}
}
