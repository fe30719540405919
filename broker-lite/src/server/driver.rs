//! How the core is driven: the one place that decides it.
//!
//! The core stands behind one lock. Each connection's task reads what is there, decodes it and takes the
//! lock once for all of it: a *turn*. While it holds the lock it hands what is to be stored to the store,
//! which only queues it, and what is to be sent to the outboxes; so both keep the order of the turns. The
//! sleepers are woken after the lock is released, and each connection encodes and writes on its own task.
//!
//! What becomes durable is told on a thread of the store: replies go from there straight to the outbox.
//! What the core itself waits for must not come back inside the turn that asked for it (a store may answer
//! while it is asked), so it goes through a channel to the driver's own task, which also keeps the time.
//!
//! Lock order: the core, then an outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::Duration;

use openwire_client::environment::now_millis;
use openwire_client::wire::{Command, Destination};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::{error, warn};

use super::outbox::Outbox;
use crate::core::{
    ConnectionKey, Core, DestinationStats, Effect, Effects, Scheduled, ScheduledJob, Stats, StoreToken, Then,
    not_stored,
};
use crate::security::Principal;
use crate::store::{Batch, Bodies, Done, MessageKey, Store, StoreError};

/// How many completions are handed to the core in one turn, so that others get theirs.
const COMPLETIONS_PER_TURN: usize = 256;

/// The timer looks at the clock at least this often, because the wall clock can be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Drives the core, whose time is milliseconds since 1970. See the module.
pub(crate) struct Driver {
    turn: Mutex<Turn>,
    stores: Stores,
    answers: Answers,
    /// The core wants its tick sooner than the timer is set for.
    sooner: Notify,
}

/// What the core writes to.
pub(crate) struct Stores {
    /// What outlives the broker.
    pub(crate) main: Arc<dyn Store>,
    /// What does not, and is asked for only if the core was told of it.
    pub(crate) temp: Option<Arc<dyn Store>>,
}

/// What the lock protects.
struct Turn {
    core: Core,
    effects: Effects,
    outboxes: FxHashMap<ConnectionKey, Arc<Outbox>>,
    /// What the timer is set for.
    alarm: Option<i64>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    /// No connection is taken any more.
    Draining,
    /// The core was shut down.
    Stopped,
}

/// Something the core, or whoever stops it, waits for.
pub(crate) enum Completion {
    Stored(StoreToken, Result<(), StoreError>),
    Loaded(Bodies),
    Spooled(StoreToken, Result<(), StoreError>),
    Barrier(oneshot::Sender<()>),
}

/// Where the store's answers go.
#[derive(Clone)]
struct Answers {
    completions: mpsc::UnboundedSender<Completion>,
    /// The first failure of the store, after which it takes nothing more.
    failure: Arc<watch::Sender<Option<StoreError>>>,
    /// The last batch was refused, and this was logged.
    refused: Arc<AtomicBool>,
}

/// What waits for a batch.
enum Waiting {
    Reply(Arc<Outbox>, Command),
    Core(StoreToken),
}

impl Driver {
    /// A driver, and what [`run`](Self::run) needs.
    pub(crate) fn new(core: Core, stores: Stores) -> (Arc<Self>, mpsc::UnboundedReceiver<Completion>) {
        // Unbounded, because a store must not block. What goes through is bounded by what the core waits
        // for, and that by the store's backlog, which stops the connections.
        let (completions, receiver) = mpsc::unbounded_channel();
        let driver = Arc::new(Self {
            turn: Mutex::new(Turn {
                core,
                effects: Effects::new(),
                outboxes: FxHashMap::default(),
                alarm: None,
                stage: Stage::Running,
            }),
            stores,
            answers: Answers {
                completions,
                failure: Arc::new(watch::Sender::new(None)),
                refused: Arc::new(AtomicBool::new(false)),
            },
            sooner: Notify::new(),
        });
        (driver, receiver)
    }

    /// The store that is written to.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.stores.main
    }

    /// All stores that are written to, the temporary one first.
    pub(crate) fn stores(&self) -> impl Iterator<Item = &Arc<dyn Store>> {
        self.stores.temp.iter().chain([&self.stores.main])
    }

    /// For how long the outcomes of transactions are known at this moment, in milliseconds.
    pub(crate) fn outcomes_kept(&self) -> i64 {
        self.turn.lock().core.outcomes_kept(now_millis())
    }

    /// A connection begins; none if the broker stops. Its client was told that outcomes are kept for so long.
    /// Report the key with [`lost`](Self::lost) when it ends.
    pub(crate) fn open(&self, peer: &str, outbox: &Arc<Outbox>, kept: i64) -> Option<ConnectionKey> {
        self.turn(|turn, _| {
            if turn.stage != Stage::Running {
                return None;
            }
            let key = turn.core.open(peer, &mut turn.effects);
            turn.core.promised(key, kept);
            turn.outboxes.insert(key, outbox.clone());
            Some(key)
        })?
    }

    /// The connection belongs to somebody from here on.
    pub(crate) fn authenticated(&self, connection: ConnectionKey, principal: Principal) {
        self.turn(|turn, _| turn.core.authenticated(connection, principal));
    }

    /// Takes one turn over a connection's commands and empties `commands`.
    pub(crate) fn handle(&self, from: ConnectionKey, commands: &mut Vec<Command>) {
        self.turn(|turn, now| {
            for command in commands.drain(..) {
                turn.core.handle(now, from, command, &mut turn.effects);
            }
        });
        // After the core was shut down they go nowhere.
        commands.clear();
    }

    /// A connection has taken what waited for it, after it was congested.
    pub(crate) fn relieved(&self, key: ConnectionKey) {
        let mut sleeper = None;
        self.turn(|turn, now| {
            if turn.core.relieved(now, key, &mut turn.effects) {
                sleeper = turn.outboxes.get(&key).and_then(|outbox| outbox.congest());
            }
        });
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }

    /// A connection has ended.
    pub(crate) fn lost(&self, key: ConnectionKey) {
        self.turn(|turn, now| {
            turn.outboxes.remove(&key);
            turn.core.lost(now, key, &mut turn.effects);
        });
    }

    /// Waits until the store fails: what the broker promised to keep it no longer can.
    pub(crate) async fn failed(&self) -> StoreError {
        let mut failure = self.answers.failure.subscribe();
        match failure.wait_for(Option::is_some).await {
            Ok(first) => first.clone().unwrap_or(StoreError::Closed),
            // This driver holds the other end.
            Err(_) => StoreError::Closed,
        }
    }

    /// Has the broker fail: it may store nothing more, whatever the store says.
    pub(crate) fn fail(&self, failure: &StoreError) {
        self.answers.fail(failure);
    }

    /// What the core counts.
    pub(crate) fn stats(&self) -> Stats {
        self.turn.lock().core.stats()
    }

    /// What the core counts of each destination.
    pub(crate) fn destinations(&self) -> Vec<DestinationStats> {
        self.turn.lock().core.destinations()
    }

    /// How many messages wait on a queue.
    pub(crate) fn queue_depth(&self, queue: &Destination) -> Option<usize> {
        self.turn.lock().core.queue_depth(queue)
    }

    /// How much is scheduled.
    pub(crate) fn scheduled(&self) -> Scheduled {
        self.turn.lock().core.scheduled()
    }

    /// What is scheduled, from a time on.
    pub(crate) fn scheduled_jobs(&self, from: i64, most: usize) -> Vec<ScheduledJob> {
        self.turn.lock().core.scheduled_jobs(from, most)
    }

    /// No connection is taken any more, and no consumer gets anything more from a queue.
    pub(crate) fn end_dispatch(&self) {
        self.turn(|turn, _| {
            turn.stage = Stage::Draining;
            turn.core.end_dispatch();
        });
    }

    /// Has the connections read what has arrived, and no more. Waits until they have.
    pub(crate) async fn drain(&self) {
        let (unread, mut all_read) = mpsc::channel(1);
        self.each_outbox(Stage::Draining, |outbox| outbox.drain(unread.clone()));
        drop(unread);
        let None = all_read.recv().await;
    }

    /// All connections end once what was sent to them is written.
    pub(crate) fn close_connections(&self, reason: &str) {
        self.each_outbox(Stage::Draining, |outbox| outbox.close(reason));
    }

    fn each_outbox(&self, stage: Stage, tell: impl Fn(&Outbox) -> Option<Waker>) {
        let mut sleepers = Vec::new();
        self.turn(|turn, _| {
            turn.stage = stage;
            sleepers.extend(turn.outboxes.values().filter_map(|outbox| tell(outbox)));
        });
        sleepers.into_iter().for_each(Waker::wake);
    }

    /// Waits until everything stored so far is durable, and what follows from that is in the outboxes.
    pub(crate) async fn barrier(&self) {
        let (done, passed) = oneshot::channel();
        let answers = self.answers.clone();
        self.stores.main.append(
            Batch::default(),
            Box::new(move |_| answers.complete(Completion::Barrier(done))),
        );
        // An error means that the driver's task has ended: nothing can follow any more.
        let _ = passed.await;
    }

    /// Reports what is connected as lost, so that every message is back on its queue with the counter it deserves, and
    /// that is in the store. The driver does nothing from here on. Safe to call again.
    pub(crate) fn shutdown(&self) {
        self.turn(|turn, now| {
            turn.core.end_dispatch();
            for key in turn.outboxes.drain().map(|(key, _)| key) {
                turn.core.lost(now, key, &mut turn.effects);
            }
            turn.stage = Stage::Stopped;
        });
    }

    /// One turn of the core: `work` under the lock, then its effects; `None` once the core was shut down.
    fn turn<R>(&self, work: impl FnOnce(&mut Turn, i64) -> R) -> Option<R> {
        let mut sleepers = Vec::new();
        let (result, sooner) = {
            let mut turn = self.turn.lock();
            if turn.stage == Stage::Stopped {
                return None;
            }
            let result = work(&mut turn, now_millis());
            turn.apply(&self.stores, &self.answers, &mut sleepers);
            let deadline = turn.core.next_deadline();
            let sooner = match (deadline, turn.alarm) {
                (Some(deadline), Some(alarm)) => deadline < alarm,
                (deadline, alarm) => deadline.is_some() && alarm.is_none(),
            };
            if sooner {
                turn.alarm = deadline;
            }
            (result, sooner)
        };
        sleepers.into_iter().for_each(Waker::wake);
        if sooner {
            self.sooner.notify_one();
        }
        Some(result)
    }

    /// The driver's own task: hands completions and time to the core. Ends when it is aborted.
    pub(crate) async fn run(self: Arc<Self>, mut completions: mpsc::UnboundedReceiver<Completion>) {
        let mut batch = Vec::new();
        loop {
            let alarm = self.set_alarm();
            tokio::select! {
                biased;
                _ = completions.recv_many(&mut batch, COMPLETIONS_PER_TURN) => self.complete(&mut batch),
                () = self.sooner.notified() => {}
                () = tokio::time::sleep(alarm) => self.tick(),
            }
        }
    }

    /// Sets the timer: how long to sleep.
    fn set_alarm(&self) -> Duration {
        let mut turn = self.turn.lock();
        turn.alarm = turn.core.next_deadline();
        match turn.alarm {
            // Rounded up to the timer's grain, so that it never wakes too early over and over.
            Some(alarm) => {
                Duration::from_millis(alarm.saturating_sub(now_millis()).max(1) as u64).min(LONGEST_SLEEP)
            }
            None => LONGEST_SLEEP,
        }
    }

    /// The store has room for so many bytes of messages.
    pub(crate) fn set_store_limit(&self, bytes: u64) {
        self.turn(|turn, now| turn.core.set_store_limit(now, bytes, &mut turn.effects));
    }

    fn tick(&self) {
        self.turn(|turn, now| {
            if turn.core.next_deadline().is_some_and(|deadline| deadline <= now) {
                turn.core.tick(now, &mut turn.effects);
            }
        });
    }

    fn complete(&self, batch: &mut Vec<Completion>) {
        let mut passed = Vec::new();
        self.turn(|turn, now| {
            for completion in batch.drain(..) {
                match completion {
                    Completion::Stored(token, result) => {
                        turn.core.stored(now, token, result, &mut turn.effects);
                    }
                    Completion::Spooled(token, result) => {
                        turn.core.spooled(now, token, result, &mut turn.effects);
                    }
                    Completion::Loaded(result) => turn.core.loaded(now, result, &mut turn.effects),
                    Completion::Barrier(done) => passed.push(done),
                }
            }
        });
        batch.clear();
        for done in passed {
            // Whoever waited may have given up.
            let _ = done.send(());
        }
    }
}

impl Turn {
    /// Does what the core asked for, in order.
    fn apply(&mut self, stores: &Stores, answers: &Answers, sleepers: &mut Vec<Waker>) {
        let mut congested = Vec::new();
        for effect in self.effects.drain() {
            let sleeper = match effect {
                Effect::Send { to, command } => self.outboxes.get(&to).and_then(|outbox| {
                    let (sleeper, full) = outbox.push_counted(command);
                    if full {
                        congested.push(to);
                    }
                    sleeper
                }),
                Effect::Store { batch, then } => {
                    // An acknowledgement, mostly.
                    let unawaited = then.is_empty() && batch.only_removes();
                    let waiting = then
                        .into_iter()
                        .filter_map(|then| match then {
                            // A client that has gone needs no reply.
                            Then::Reply { to, response } => {
                                let outbox = self.outboxes.get(&to)?;
                                Some(Waiting::Reply(outbox.clone(), response))
                            }
                            Then::Tell(token) => Some(Waiting::Core(token)),
                        })
                        .collect();
                    let answers = answers.clone();
                    let done: Done = Box::new(move |result| answers.stored(waiting, result));
                    match unawaited {
                        true => stores.main.append_unawaited(batch, done),
                        false => stores.main.append(batch, done),
                    }
                    None
                }
                Effect::Load { keys } => {
                    let answers = answers.clone();
                    stores.main.load(
                        keys,
                        Box::new(move |result| answers.complete(Completion::Loaded(result))),
                    );
                    None
                }
                Effect::Spool { batch, token } => {
                    let answers = answers.clone();
                    if let Some(temp) = &stores.temp {
                        temp.append(
                            batch,
                            Box::new(move |result| answers.complete(Completion::Spooled(token, result))),
                        );
                    }
                    None
                }
                Effect::LoadSpooled { keys } => {
                    let answers = answers.clone();
                    if let Some(temp) = &stores.temp {
                        let wanted = keys.clone();
                        temp.load(
                            keys,
                            Box::new(move |result| {
                                answers.complete(Completion::Loaded(read(result, wanted)))
                            }),
                        );
                    }
                    None
                }
                Effect::Close { connection, reason } => self
                    .outboxes
                    .get(&connection)
                    .and_then(|outbox| outbox.close(reason)),
                Effect::Pause { connection } => self
                    .outboxes
                    .get(&connection)
                    .and_then(|outbox| outbox.pause(true)),
                Effect::Resume { connection } => self
                    .outboxes
                    .get(&connection)
                    .and_then(|outbox| outbox.pause(false)),
            };
            sleepers.extend(sleeper);
        }
        for connection in congested {
            self.core.congested(connection);
        }
    }
}

/// What the temporary store cannot read is gone: these messages are not persistent, and the broker goes on without them.
fn read(result: Bodies, wanted: Vec<MessageKey>) -> Bodies {
    Ok(result.unwrap_or_else(|failure| {
        error!("the temporary store cannot be read: {failure}");
        wanted.into_iter().map(|key| (key, None)).collect()
    }))
}

impl Answers {
    fn complete(&self, completion: Completion) {
        // The receiver is gone only when the broker has stopped.
        let _ = self.completions.send(completion);
    }

    /// A batch is durable, or never will be. Runs on a thread of the store, or inside `append`.
    fn stored(&self, waiting: Vec<Waiting>, result: Result<(), StoreError>) {
        match &result {
            Ok(()) => self.refused.store(false, Ordering::Relaxed),
            // The batch is as if it had never been, and the store goes on.
            Err(failure @ (StoreError::Refused(_) | StoreError::Full(_))) => {
                if !self.refused.swap(true, Ordering::Relaxed) {
                    warn!("not stored: {failure}");
                }
            }
            Err(failure) => self.fail(failure),
        }
        for waiting in waiting {
            match waiting {
                Waiting::Reply(outbox, response) => {
                    let command = match &result {
                        Ok(()) => response,
                        Err(failure) => not_stored(&response, failure),
                    };
                    if let Some(sleeper) = outbox.push(command) {
                        sleeper.wake();
                    }
                }
                Waiting::Core(token) => self.complete(Completion::Stored(token, result.clone())),
            }
        }
    }
}

impl Answers {
    /// Nothing is stored any more.
    fn fail(&self, failure: &StoreError) {
        self.failure.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                error!("nothing more can be stored: {failure}");
                *first = Some(failure.clone());
            }
            is_first
        });
    }
}
