//! The broker proper: synchronous, without I/O, tasks or a clock. Commands, time and what was loaded come
//! in; [`Effects`] go out.
//!
//! | room | what it knows |
//! |---|---|
//! | `connection` | who is connected: sessions, producers, consumers, client ids |
//! | `destinations` | the registry of queues and topics, temporary ones included |
//! | `queue`, `topic`, `subscription` | the data: what waits, what is in flight, who has credit |
//! | `send` | a message arrives |
//! | `subscriber` | a message goes to the subscribers of a topic |
//! | `deferred` | what they get once it is durable |
//! | `retained` | what topics keep for consumers that come later |
//! | `slow_consumer` | who does not keep up, and what becomes of them |
//! | `dispatch` | a message goes to a consumer; bodies come back from the store |
//! | `durable` | what was stored became durable, or was refused |
//! | `spool` | what waits and is not persistent lies on disk when memory runs short |
//! | `acknowledge` | a message was consumed, or given up |
//! | `transaction` | local transactions and branches of distributed ones |
//! | `outcomes` | which of them were committed lately |
//! | `authorize` | what the user of a connection may do |
//! | `schedule`, `browse_jobs` | messages that are delivered later, and who looks after them |
//! | `redeliver` | what the plugins change: sent again later, stamped, persistent or not |
//! | `dead_letter`, `advisory`, `statistics`, `audit` | what their names say |

mod acknowledge;
mod advisory;
mod audit;
mod authorize;
mod backlog;
mod browse;
mod browse_jobs;
mod classes;
mod connection;
mod dead_letter;
mod deferred;
mod destinations;
mod dispatch;
mod durable;
mod durable_subscription;
mod effect;
mod expiry;
mod flow;
#[cfg(feature = "sql")]
pub(crate) mod foreign;
mod gaze;
mod groups;
mod index;
mod once;
mod outcomes;
mod purge;
mod queue;
mod recovery;
mod redeliver;
mod refusal;
mod retained;
mod route;
mod rules;
mod schedule;
mod send;
mod slow_consumer;
mod spool;
mod statistics;
mod subscriber;
mod subscribers;
mod subscription;
#[cfg(test)]
mod tests;
mod timer;
mod topic;
mod transaction;
mod wildcards;

use std::collections::VecDeque;
use std::sync::Arc;

use openwire_client::wire::{
    BrokerId, BrokerInfo, Command, Destination, ExceptionResponse, Message, Response, TransactionId,
};
use rustc_hash::FxHashMap;
use slab::Slab;

use crate::security::Authorization;
use crate::store::{Bodies, DestinationKey, MessageKey, Recovered};
use advisory::Advisories;
pub use advisory::{AdvisoryKind, AdvisoryOptions};
use audit::ProducerAudit;
pub use authorize::UserIds;
use backlog::Place;
use connection::Connection;
use dead_letter::{DeadAudit, GivenUp};
use destinations::Target;
use dispatch::number_as;
use durable::{Interrupted, PendingBatch};
use durable_subscription::DurableName;
pub use effect::{ConnectionKey, Effect, Effects, StoreToken, Then};
use flow::Flow;
use once::Once;
pub use outcomes::OutcomeLimits;
use outcomes::Outcomes;

use queue::{Queue, QueueKey};
use refusal::Refusal;
pub(crate) use refusal::not_stored;
pub use rules::{Rules, SchedulerRules};
use schedule::Jobs;
pub use schedule::{Scheduled, ScheduledJob};
use spool::{Spool, Spooled};
pub use statistics::{DestinationStats, StatisticsOptions};
use subscription::Subscription;
use timer::Alarms;
use topic::{Topic, TopicKey};
use transaction::Transactions;
use wildcards::Wildcards;

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
    /// Bytes of messages that live in memory only; beyond it producers are paused. What was sent in transactions counts
    /// until their end, except persistent messages for one queue each, which can wait in the store: any other for which
    /// there is no room is refused, and the transaction is rolled back.
    pub memory_limit: usize,
    /// Bytes of messages that live in memory only and may lie in a temporary store while they wait; none if there is
    /// no such store.
    pub temp_limit: Option<u64>,
    /// How long the outcomes of transactions are kept.
    pub outcomes: OutcomeLimits,
    /// What holds for destinations and messages.
    pub rules: Arc<Rules>,
    /// Who may do what; none: everybody may do everything.
    pub authorization: Option<Arc<Authorization>>,
    /// What becomes of `JMSXUserID`.
    pub user_ids: UserIds,
    /// `maxUncommittedCount`: a transaction in which more messages than this are sent is rolled back. 0 is no limit.
    pub max_uncommitted: usize,
    /// What the broker tells of itself.
    pub advisories: AdvisoryOptions,
    /// `statisticsBrokerPlugin`: requests for statistics are answered. Without, they are messages like others.
    pub statistics: Option<StatisticsOptions>,
}

/// What the broker counts. All but those up to `outcomes` only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections, introduced or not.
    pub connections: usize,
    /// Queues and topics.
    pub destinations: usize,
    /// Consumers.
    pub consumers: usize,
    /// Bytes of messages that live in memory only.
    pub memory_used: usize,
    /// Bytes of messages that lie in the store, as the broker counts them.
    pub stored_used: usize,
    /// Bytes of messages that live in memory only and lie in the temporary store meanwhile.
    pub temp_used: usize,
    /// Producers that wait for room, each once for each destination.
    pub blocked: usize,
    /// Sends that are held back.
    pub held_back: usize,
    /// Transactions whose outcome is known.
    pub outcomes: usize,
    /// Messages that are scheduled for later.
    pub scheduled: usize,
    /// Messages that arrived, dead letters included.
    pub enqueued: u64,
    /// Messages that went to consumers.
    pub dispatched: u64,
    /// Messages that were consumed.
    pub acknowledged: u64,
    /// Messages whose time was over.
    pub expired: u64,
    /// Messages that were moved to the dead letter queue.
    pub dead_lettered: u64,
    /// Messages that were dropped: not persistent and expired or given up, or given up as dead letters, or
    /// sent to a temporary destination that was gone at commit.
    pub discarded: u64,
    /// Messages that were delivered because their time had come: one that is delivered again counts again.
    pub fired: u64,
    /// Messages that a consumer gave up and that are sent again after a while (`redeliveryPlugin`).
    pub redelivered: u64,
    /// Messages that were sent again after a failover and were there already.
    pub duplicates: u64,
    /// Messages that a consumer of a topic did not get because too many waited for it, each counted for each consumer.
    pub evicted: u64,
    /// How often a consumer was found to be slow that was not before.
    pub slow_consumers: u64,
    /// Consumers that were ended because they were slow for too long.
    pub aborted_consumers: u64,
    /// Messages refused for want of memory.
    pub refused: u64,
    /// Commands refused because their user may not do that.
    pub denied: u64,
    /// Commits that were sent again and answered with what had become of them.
    pub commits_repeated: u64,
    /// Outcomes of transactions that were forgotten before their time, because there were too many.
    pub outcomes_crowded_out: u64,
}

/// The broker's state: connections, destinations, subscriptions, transactions.
#[derive(Debug)]
pub struct Core {
    config: CoreConfig,
    connections: Slab<Connection>,
    client_ids: FxHashMap<Arc<str>, ConnectionKey>,
    connection_ids: FxHashMap<Arc<str>, ConnectionKey>,
    destinations: FxHashMap<Destination, Target>,
    queues: Slab<Queue>,
    topics: Slab<Topic>,
    subscriptions: Slab<Subscription>,
    durables: FxHashMap<DurableName, QueueKey>,
    wildcards: Wildcards,
    /// The queues that virtual topics feed, by topic.
    fed: FxHashMap<Destination, Vec<Destination>>,
    /// Destinations whose names read as wildcards, because somebody sent to them.
    literal_patterns: Vec<Destination>,
    /// Messages that consumers gave up and whose bodies are on their way from the store.
    given_up: FxHashMap<MessageKey, GivenUp>,
    transactions: Transactions,
    stored_queues: FxHashMap<DestinationKey, QueueKey>,
    next_destination: u32,
    /// The last broker sequence number given out.
    sequence: u64,
    /// Stored messages up to this sequence are durable.
    durable: u64,
    /// What was stored and is not durable yet, in order.
    batches: VecDeque<PendingBatch>,
    last_token: u64,
    /// Where dispatching goes on later, because the store refused a batch.
    interrupted: Interrupted,
    advisories: Advisories,
    audit: ProducerAudit,
    outcomes: Outcomes,
    /// Counts what is dispatched, browsers included.
    last_dispatch: u64,
    /// Consumers that are to be told at once if there is nothing for them, and have not been.
    pulls_without_wait: usize,
    alarms: Alarms,
    dead_audit: DeadAudit,
    jobs: Jobs,
    /// Counts queues, so that one that is gone is not taken for another.
    last_queue: u64,
    /// What was redelivered, or may have been before a crash, and the store does not know of yet.
    flagged: Vec<MessageKey>,
    paused: Vec<ConnectionKey>,
    /// The topics whose retained messages the store keeps.
    retaining: FxHashMap<DestinationKey, TopicKey>,
    /// Bytes of messages that topics keep for consumers that come later.
    kept_used: usize,
    /// What is published now is so because messages were evicted.
    discarding: bool,
    /// Queues from which is dispatched later, because consumers are ending, or never, because the broker stops.
    postponed: Option<Once<QueueKey>>,
    flow: Flow,
    /// Bytes of messages that live in memory only.
    memory_used: usize,
    /// Bytes of messages that lie in the store.
    stored_used: usize,
    /// Bytes of those that are in memory as well.
    resident_used: usize,
    spool: Spool,
    stats: Stats,
    /// What had been counted when the statistics that messages ask for were last set back.
    statistics_since: Stats,
}

/// The time of a turn and where its effects go.
struct Turn<'a> {
    now: i64,
    effects: &'a mut Effects,
}

impl Turn<'_> {
    /// Answers a command. If the turn stores something, the answer waits for that: a client is told only what
    /// a restart would remember.
    fn confirm(&mut self, reply: Option<Then>) -> Outcome {
        match reply {
            Some(reply) if self.effects.has_store() => {
                self.effects.store([], Some(reply));
                Outcome::Answered
            }
            _ => Outcome::Done,
        }
    }

    fn send(&mut self, to: ConnectionKey, command: impl Into<Command>) {
        self.effects.push(Effect::Send {
            to,
            command: command.into(),
        });
    }
}

/// What is to be said to a command that succeeded.
enum Outcome {
    /// A plain response, now, if one is wanted.
    Done,
    /// The response is under way: it goes out when the store has what it confirms.
    Answered,
}

impl Core {
    /// A broker with what its store held. `now` is in milliseconds since 1970.
    pub fn new(now: i64, config: CoreConfig, recovered: Recovered) -> Self {
        let outcomes = Outcomes::new(config.outcomes, recovered.committed, recovered.forgotten);
        let jobs = Jobs::new(&config, &recovered.identity);
        let mut core = Self {
            config,
            connections: Slab::new(),
            client_ids: FxHashMap::default(),
            connection_ids: FxHashMap::default(),
            destinations: FxHashMap::default(),
            queues: Slab::new(),
            topics: Slab::new(),
            subscriptions: Slab::new(),
            durables: FxHashMap::default(),
            wildcards: Wildcards::default(),
            fed: FxHashMap::default(),
            literal_patterns: Vec::new(),
            given_up: FxHashMap::default(),
            transactions: Transactions::default(),
            stored_queues: FxHashMap::default(),
            next_destination: recovered.next_destination,
            sequence: recovered.next_sequence.saturating_sub(1),
            durable: recovered.next_sequence.saturating_sub(1),
            batches: VecDeque::new(),
            last_token: 0,
            interrupted: Interrupted::default(),
            advisories: Advisories::default(),
            audit: ProducerAudit::new(recovered.producers),
            outcomes,
            last_dispatch: 0,
            pulls_without_wait: 0,
            alarms: Alarms::default(),
            dead_audit: DeadAudit::default(),
            jobs,
            last_queue: 0,
            flagged: Vec::new(),
            paused: Vec::new(),
            postponed: None,
            flow: Flow::default(),
            retaining: FxHashMap::default(),
            kept_used: 0,
            discarding: false,
            memory_used: 0,
            stored_used: 0,
            resident_used: 0,
            spool: Spool::default(),
            stats: Stats::default(),
            statistics_since: Stats::default(),
        };
        core.recover(now, recovered.destinations, recovered.clean);
        core.begin(now);
        core
    }

    /// A client connected and agreed on a wire format; `peer` is its address, for messages. The broker
    /// introduces itself.
    pub fn open(&mut self, peer: &str, effects: &mut Effects) -> ConnectionKey {
        let key = ConnectionKey(self.connections.insert(Connection::new(peer)) as u32);
        let info = BrokerInfo {
            broker_id: Some(self.config.broker_id.clone()),
            broker_name: Some(self.config.broker_name.clone()),
            broker_url: Some(self.config.broker_url.clone()),
            ..BrokerInfo::default()
        };
        effects.push(Effect::Send {
            to: key,
            command: Command::from(Box::new(info)),
        });
        key
    }

    /// A client sent a command. `now` is in milliseconds since 1970.
    ///
    /// What comes after the broker has ended the connection is ignored.
    pub fn handle(&mut self, now: i64, from: ConnectionKey, command: Command, effects: &mut Effects) {
        if self
            .connections
            .get(from.0 as usize)
            .is_none_or(Connection::is_closing)
        {
            return;
        }
        let turn = &mut Turn { now, effects };
        let correlation_id = command.command_id();
        let wanted = command.response_required();
        let response = || Response {
            correlation_id,
            ..Response::default()
        };
        let reply = wanted.then(|| Then::Reply {
            to: from,
            response: response().into(),
        });
        let transaction = transaction_of(&command);
        self.advisories.act_for(Some(from));
        let result = self.execute(from, command, reply, turn);
        self.advisories.act_for(None);
        match result {
            Ok(Outcome::Answered) => {}
            Ok(Outcome::Done) if wanted => turn.send(from, response()),
            Ok(Outcome::Done) => {}
            Err(refusal) if wanted => {
                let exception = Some(refusal.throwable());
                turn.send(
                    from,
                    Box::new(ExceptionResponse {
                        correlation_id,
                        exception,
                        ..Default::default()
                    }),
                );
            }
            Err(refusal) => {
                // Nobody waits for this answer, so the commit has to fail.
                if let Ok(Some(key)) = self.transaction_of(from, transaction.as_ref()) {
                    self.fail_transaction(key, &refusal.to_string());
                }
                self.report(from, &refusal, turn);
            }
        }
    }

    fn execute(
        &mut self,
        from: ConnectionKey,
        command: Command,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        match command {
            Command::Message(message) => self.message(from, message, reply, turn),
            Command::MessageAck(ack) => self.acknowledge(from, &ack, reply, turn),
            Command::TransactionInfo(info) => self.transaction_info(from, &info, reply, turn),
            Command::MessagePull(pull) => self.pull(from, &pull, turn),
            Command::ConsumerInfo(info) => self.consumer_info(from, info, reply, turn),
            Command::ProducerInfo(info) => self.producer_info(from, info, turn),
            Command::SessionInfo(info) => self.session_info(from, info.session_id),
            Command::ConnectionInfo(info) => self.connection_info(from, info, turn),
            Command::RemoveInfo(info) => self.remove(from, info, turn),
            Command::DestinationInfo(info) => self.destination_info(from, info, turn),
            Command::ConsumerControl(control) => self.consumer_control(from, &control, turn),
            Command::ShutdownInfo(_) => {
                self.close(from, "the client said that it ends".into(), turn);
                Ok(Outcome::Done)
            }
            // A client that reconnects says that it is fault tolerant; these have no effect on a broker.
            Command::ConnectionControl(_)
            | Command::ControlCommand(_)
            | Command::FlushCommand(_)
            | Command::KeepAliveInfo(_) => Ok(Outcome::Done),
            Command::RemoveSubscriptionInfo(info) => self.remove_subscription(from, &info, reply, turn),
            Command::BrokerInfo(_) | Command::BrokerSubscriptionInfo(_) => {
                self.close(from, "it is a network bridge".into(), turn);
                Err(Refusal::unsupported("network bridges are"))
            }
            other => {
                self.close(
                    from,
                    format!("it sent type {}, which is not for a broker", other.type_id()),
                    turn,
                );
                Err(Refusal::illegal_state(format!(
                    "a broker has no use for type {}",
                    other.type_id()
                )))
            }
        }
    }

    /// The connection ended. Its key is free afterwards.
    pub fn lost(&mut self, now: i64, connection: ConnectionKey, effects: &mut Effects) {
        if !self.connections.contains(connection.0 as usize) {
            return;
        }
        let turn = &mut Turn { now, effects };
        self.forget(connection, turn);
        self.paused.retain(|&paused| paused != connection);
        for batch in &mut self.batches {
            batch.undecided.gone(connection);
        }
        self.connections.remove(connection.0 as usize);
    }

    /// Messages asked for with [`Effect::Load`] or [`Effect::LoadSpooled`] are there.
    ///
    /// If the store failed, their queues stand still: a failed store takes nothing more, and the shell stops
    /// the broker.
    pub fn loaded(&mut self, now: i64, messages: Bodies, effects: &mut Effects) {
        let turn = &mut Turn { now, effects };
        let messages = match messages {
            Ok(messages) => messages,
            Err(error) => {
                tracing::error!(%error, "messages cannot be read from the store");
                return;
            }
        };
        if messages
            .first()
            .is_some_and(|(key, _)| self.jobs.lie_at(key.destination))
        {
            return self.jobs_loaded(messages, turn);
        }
        let mut queues: Once<QueueKey> = Once::default();
        let messages = self.arrivals_loaded(messages, turn);
        let messages = self.messages_loaded(messages, turn);
        for (key, message) in messages {
            let Some(&queue_key) = self.stored_queues.get(&key.destination) else {
                self.retained_loaded(key, message, turn);
                continue;
            };
            queues.add(queue_key);
            let queue = &mut self.queues[queue_key.0];
            let Some(place) = queue.find(key.sequence) else {
                continue;
            };
            match message {
                Some(mut message) => {
                    number_as(&mut message, key.sequence);
                    self.read_back(queue_key, place, message, turn.now);
                }
                None => {
                    tracing::error!(queue = %queue.destination, sequence = key.sequence, "a stored message is gone");
                    self.stats.discarded += 1;
                    if let Some(entry) = self.remove_waiting(queue_key, place, turn) {
                        self.uncount(queue_key, &entry);
                    }
                }
            }
        }
        for queue in queues {
            self.queues[queue.0].loading = false;
            self.expire_waiting(queue, turn);
            self.dispatch(queue, turn);
            self.end_pulls(queue, turn);
        }
        self.resume_producers(turn);
    }

    /// The body of a message that waits was read back.
    fn read_back(&mut self, key: QueueKey, place: Place, message: Arc<Message>, now: i64) {
        let queue = &mut self.queues[key.0];
        let Some(entry) = queue.backlog.get_mut(place) else {
            return;
        };
        if entry.body.is_some() {
            return;
        }
        if entry.spooled == Spooled::No {
            self.resident_used += entry.size as usize;
        }
        let expiration = message.expiration;
        entry.body = Some(message);
        if expiration > 0 {
            self.note_expiration(key, place, expiration, now);
        }
    }

    /// What the broker counts.
    pub fn stats(&self) -> Stats {
        Stats {
            connections: self.connections.len(),
            destinations: self.destinations.len(),
            consumers: self.subscriptions.len(),
            memory_used: self.memory_used,
            stored_used: self.stored_used,
            temp_used: self.spool.used,
            held_back: self.flow.len(),
            outcomes: self.outcomes.len(),
            scheduled: self.jobs.waiting.len(),
            outcomes_crowded_out: self.outcomes.crowded_out,
            ..self.stats
        }
    }

    /// How many messages wait on a queue; none if there is no such queue.
    pub fn queue_depth(&self, queue: &Destination) -> Option<usize> {
        match self.destinations.get(queue)? {
            Target::Queue(key) => Some(self.queues[key.0].backlog.len()),
            Target::Topic(_) => None,
        }
    }
}

/// The transaction a command belongs to.
fn transaction_of(command: &Command) -> Option<TransactionId> {
    match command {
        Command::Message(message) => message.transaction_id.clone(),
        Command::MessageAck(ack) => ack.transaction_id.clone(),
        _ => None,
    }
}
