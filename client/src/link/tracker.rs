//! What a new broker must be told, in order, so that everything the user holds goes on working.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::guard::TransactionGuard;
use crate::wire::{
    Command, ConnectionControl, ConnectionInfo, ConsumerId, ConsumerInfo, DestinationInfo, EntityId,
    ProducerId, ProducerInfo, RemoveInfo, SessionInfo, TransactionId, TransactionInfo,
};

/// The state of a connection as the broker knows it, learnt from the commands that were written.
#[derive(Debug)]
pub(crate) struct Tracker {
    connection: Box<ConnectionInfo>,
    /// `trackTransactionProducers`
    keep_producers: bool,
    temporary: Vec<DestinationInfo>,
    sessions: BTreeMap<i64, TrackedSession>,
    transactions: Vec<TrackedTransaction>,
}

#[derive(Debug, Default)]
struct TrackedSession {
    info: Option<SessionInfo>,
    producers: BTreeMap<i64, ProducerInfo>,
    consumers: BTreeMap<i64, Box<ConsumerInfo>>,
}

#[derive(Debug)]
struct TrackedTransaction {
    id: TransactionId,
    guard: Arc<TransactionGuard>,
    /// `BEGIN` and all that was sent since. As large as the transaction: without it there is no replay.
    commands: Vec<Command>,
    /// Producers that were closed meanwhile.
    closed_producers: Vec<ProducerInfo>,
}

impl Tracker {
    pub(crate) fn new(connection: Box<ConnectionInfo>, keep_producers: bool) -> Self {
        Self {
            connection,
            keep_producers,
            temporary: Vec::new(),
            sessions: BTreeMap::new(),
            transactions: Vec::new(),
        }
    }

    /// Learns from a command that is being written. True if [`restore`](Self::restore) repeats it.
    pub(crate) fn observe(&mut self, command: &Command, guard: Option<&Arc<TransactionGuard>>) -> bool {
        match command {
            Command::SessionInfo(info) => match &info.session_id {
                Some(id) => self.sessions.entry(id.value).or_default().info = Some(info.clone()),
                None => return false,
            },
            Command::ProducerInfo(info) => match &info.producer_id {
                Some(id) => {
                    let session = self.sessions.entry(id.session_id).or_default();
                    session.producers.insert(id.value, info.clone());
                }
                None => return false,
            },
            // What a browser has seen would come again.
            Command::ConsumerInfo(info) if info.browser => return false,
            Command::ConsumerInfo(info) => match &info.consumer_id {
                Some(id) => {
                    let session = self.sessions.entry(id.session_id).or_default();
                    session.consumers.insert(id.value, info.clone());
                }
                None => return false,
            },
            Command::DestinationInfo(info) => return self.observe_destination(info),
            Command::RemoveInfo(info) => {
                if let Some(id) = &info.object_id {
                    self.remove(id);
                }
                return false;
            }
            Command::TransactionInfo(info) if info.step == TransactionInfo::BEGIN => {
                let (Some(id), Some(guard)) = (&info.transaction_id, guard) else {
                    return false;
                };
                self.transactions.push(TrackedTransaction {
                    id: id.clone(),
                    guard: guard.clone(),
                    commands: vec![command.clone()],
                    closed_producers: Vec::new(),
                });
            }
            Command::Message(message) => {
                let Some(id) = &message.transaction_id else {
                    return false;
                };
                let Some(transaction) = self.transactions.iter_mut().rfind(|t| t.id == *id) else {
                    return false;
                };
                transaction.commands.push(command.clone());
            }
            _ => return false,
        }
        true
    }

    fn observe_destination(&mut self, info: &DestinationInfo) -> bool {
        let Some(destination) = info.destination.as_ref().filter(|d| d.is_temporary()) else {
            return false;
        };
        if info.operation_type == DestinationInfo::ADD {
            self.temporary.push(info.clone());
            return true;
        }
        self.temporary
            .retain(|known| known.destination.as_ref() != Some(destination));
        false
    }

    /// Forgets what was closed, or what the broker refused.
    pub(crate) fn remove(&mut self, id: &EntityId) {
        match id {
            // Whoever takes leave of a broker to go to another one takes everything along.
            EntityId::Connection(_) => {}
            EntityId::Session(id) => {
                if let Some(session) = self.sessions.remove(&id.value) {
                    session
                        .producers
                        .into_values()
                        .for_each(|info| self.keep_producer(info));
                }
            }
            EntityId::Consumer(id) => {
                if let Some(session) = self.sessions.get_mut(&id.session_id) {
                    session.consumers.remove(&id.value);
                }
            }
            EntityId::Producer(id) => {
                let session = self.sessions.get_mut(&id.session_id);
                if let Some(info) = session.and_then(|session| session.producers.remove(&id.value)) {
                    self.keep_producer(info);
                }
            }
        }
    }

    /// A producer was closed: the transactions it sent in need it for their replay.
    fn keep_producer(&mut self, info: ProducerInfo) {
        if !self.keep_producers {
            return;
        }
        for transaction in &mut self.transactions {
            let sent = |command: &Command| match command {
                Command::Message(message) => message.producer_id == info.producer_id,
                _ => false,
            };
            if transaction.commands.iter().any(sent) {
                transaction.closed_producers.push(info.clone());
            }
        }
    }

    /// The broker refused the temporary destination.
    pub(crate) fn remove_destination(&mut self, refused: &DestinationInfo) {
        self.temporary
            .retain(|known| known.destination != refused.destination);
    }

    /// The broker changed the prefetch of a consumer.
    pub(crate) fn set_prefetch(&mut self, id: &ConsumerId, prefetch: i32) {
        if let Some(session) = self.sessions.get_mut(&id.session_id)
            && let Some(consumer) = session.consumers.get_mut(&id.value)
        {
            consumer.prefetch_size = prefetch;
        }
    }

    /// The broker was told of the transaction, and it is not over.
    pub(crate) fn knows(&self, id: &TransactionId) -> bool {
        self.transactions.iter().any(|transaction| transaction.id == *id)
    }

    /// The transaction is over.
    pub(crate) fn end_transaction(&mut self, id: &TransactionId) {
        self.transactions.retain(|transaction| transaction.id != *id);
    }

    /// What opens a connection to a new broker.
    pub(crate) fn opening(&self) -> Vec<Command> {
        let control = ConnectionControl {
            fault_tolerant: true,
            connected_brokers: Some("".into()),
            reconnect_to: Some("".into()),
            ..ConnectionControl::default()
        };
        let connection = ConnectionInfo {
            failover_reconnect: true,
            ..(*self.connection).clone()
        };
        vec![
            Command::from(Box::new(control)),
            Command::from(Box::new(connection)),
        ]
    }

    /// What a new broker is told once it has accepted the connection.
    pub(crate) fn restore(&mut self) -> Vec<Command> {
        self.transactions
            .retain(|transaction| !transaction.guard.is_dead());
        let mut commands: Vec<_> = self.temporary.iter().cloned().map(Command::from).collect();
        for session in self.sessions.values() {
            commands.extend(session.info.iter().cloned().map(Command::from));
            commands.extend(session.producers.values().cloned().map(Command::from));
            commands.extend(session.consumers.values().cloned().map(Command::from));
        }
        for transaction in &self.transactions {
            commands.extend(transaction.closed_producers.iter().cloned().map(Command::from));
            commands.extend(transaction.commands.iter().cloned());
            commands.extend(transaction.closed_producers.iter().filter_map(remove_producer));
        }
        commands
    }
}

fn remove_producer(info: &ProducerInfo) -> Option<Command> {
    let id: ProducerId = info.producer_id.clone()?;
    Some(Command::from(RemoveInfo {
        object_id: Some(EntityId::Producer(id)),
        last_delivered_sequence_id: RemoveInfo::UNKNOWN_DELIVERED,
        ..RemoveInfo::default()
    }))
}

#[cfg(test)]
mod tests;
