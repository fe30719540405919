//! The brokers: who there is, who is connected, who is the primary.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::FanoutConfig;
use super::books::{Broker, State, Tally, consumer_key};
use super::upper::BrokerUpper;
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::link::tracker::Tracker;
use crate::link::{Config, Guard, Single, Upper};
use crate::uri::{Endpoint, FailoverOptions};
use crate::wire::{ConsumerId, WireFormat};

/// A discovery agent may find so many brokers. A connection to each is enough to bear.
const MAX_BROKERS: usize = 64;

/// What the handle and the links have in common.
///
/// The order of locks: `calls`, then those of the layer above, then `state`, then the outboxes and quorums. The layer
/// above is called without `state`.
pub(super) struct Shared {
    /// `minAckCount`
    pub(super) need: usize,
    pub(super) fan_out_queues: bool,
    /// Nobody else comes.
    fixed: bool,
    link: Config,
    pub(super) upper: Arc<dyn Upper>,
    /// Held while the layer above is told what has changed: changes of two links are told in their order.
    pub(super) calls: Mutex<()>,
    /// The number of the primary's connection, as the layer above knows it.
    number: AtomicU64,
    /// The broker whose messages count; 0 for none.
    pub(super) source: AtomicU64,
    pub(super) state: Mutex<State>,
    /// Enough brokers are connected, or all is over.
    ready: watch::Sender<bool>,
    /// All links have ended.
    done: watch::Sender<bool>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// The end of a connection, to be told.
pub(super) type Ending = (Error, u64);

impl Shared {
    pub(super) fn start(
        config: FanoutConfig,
        upper: Arc<dyn Upper>,
    ) -> Result<(Arc<Self>, oneshot::Receiver<Result<()>>)> {
        let options = &config.options;
        let mut link = config.link;
        link.failover = Some(FailoverOptions {
            initial_reconnect_delay: Some(options.initial_reconnect_delay),
            max_reconnect_delay: options.max_reconnect_delay,
            reconnect_delay_exponent: options.reconnect_delay_exponent,
            max_reconnect_attempts: options.max_reconnect_attempts,
            randomize: false,
            // A link stands for one broker and goes to no other.
            reconnect_supported: false,
            update_uris_supported: false,
            ..FailoverOptions::default()
        });
        let (starting, started) = oneshot::channel();
        let tracker = Tracker::new(Box::new(link.connection_info.clone()), false);
        let shared = Arc::new(Self {
            need: options.min_ack_count.max(1) as usize,
            fan_out_queues: options.fan_out_queues,
            fixed: config.discovered.is_none(),
            link,
            upper,
            calls: Mutex::default(),
            number: AtomicU64::new(1),
            source: AtomicU64::new(0),
            state: Mutex::new(State {
                brokers: Vec::new(),
                next_id: 1,
                primary: None,
                tracker,
                consumers: BTreeMap::new(),
                transactions: Vec::new(),
                starting: Some(starting),
                over: None,
                running: 0,
                max_frame_size: None,
                tally: Tally::default(),
            }),
            ready: watch::Sender::new(false),
            done: watch::Sender::new(false),
        });
        {
            let mut state = shared.state.lock();
            for endpoints in config.brokers {
                shared.add(&mut state, endpoints)?;
            }
        }
        if let Some(discovered) = config.discovered {
            tokio::spawn(follow(Arc::downgrade(&shared), discovered));
        }
        Ok((shared, started))
    }

    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Waits until enough brokers are connected and have room, or all is over: the slowest sets the pace.
    pub(super) async fn ready(&self) {
        // The sender lives as long as this does.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
        let live: Vec<_> = {
            let state = self.state.lock();
            state.live().map(|broker| broker.link.shared.clone()).collect()
        };
        for link in live {
            link.outbox.room().await;
        }
    }

    /// Sends if there are enough brokers with room, or if it is over, which `send` will find.
    pub(super) fn if_ready<T>(&self, send: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut state = self.state.lock();
        let ready = state.is_ready(self.need) && !state.live().any(Broker::is_full);
        (ready || state.over.is_some()).then(|| send(&mut state))
    }

    fn add(self: &Arc<Self>, state: &mut State, endpoints: Vec<Endpoint>) -> Result<()> {
        let id = state.next_id;
        let config = Config {
            endpoints: endpoints.clone(),
            ..self.link.clone()
        };
        let upper = BrokerUpper::new(id, self.clone());
        // Whether it connects is told to `upper`.
        let (link, _) = Single::start(config, Arc::new(upper))?;
        state.next_id += 1;
        state.running += 1;
        state.brokers.push(Broker {
            id,
            endpoints,
            link,
            connection: 1,
            joined: false,
            live: false,
        });
        Ok(())
    }

    /// Gives up a link whose broker is away, for one that begins from nothing.
    pub(super) fn begin_anew(self: &Arc<Self>, state: &mut State, id: u64) {
        if let Some(at) = state.brokers.iter().position(|broker| broker.id == id) {
            let broker = state.brokers.remove(at);
            tracing::warn!(
                broker = broker.name(),
                "gave up what waited for a broker that stays away"
            );
            // Without a runtime nothing is connected.
            let _ = self.add(state, broker.endpoints.clone());
        }
    }

    /// The brokers that a discovery agent finds now. Those that are connected stay until their connection breaks, whatever the
    /// agent says of them.
    fn discovered(self: &Arc<Self>, uris: &[String]) {
        let learn = FailoverOptions::default();
        let mut found = Vec::new();
        for uri in uris.iter().take(MAX_BROKERS) {
            match learn.learn(uri) {
                Ok(endpoint) => found.push(vec![endpoint]),
                Err(error) => {
                    tracing::debug!(%uri, %error, "a broker is announced by a URI that is of no use")
                }
            }
        }
        let mut state = self.state.lock();
        if state.over.is_some() {
            return;
        }
        state
            .brokers
            .retain(|broker| broker.live || found.contains(&broker.endpoints));
        for endpoints in found {
            let known = state.brokers.iter().any(|broker| broker.endpoints == endpoints);
            if !known && state.brokers.len() < MAX_BROKERS {
                // Without a runtime nothing is connected.
                let _ = self.add(&mut state, endpoints);
            }
        }
    }

    /// A broker has accepted a connection: the first one, or one after a break. What its link says of the break is in
    /// `resumed`, `lost` and `attempts`.
    pub(super) fn joined(self: &Arc<Self>, id: u64, resumed: u64, lost: u64, attempts: u32) {
        let _calls = self.calls.lock();
        let mut state = self.state.lock();
        state.tally.resumed += resumed;
        state.tally.lost += lost;
        state.tally.attempts = state.tally.attempts.saturating_add(attempts);
        let was_ready = *self.ready.borrow();
        let Some(broker) = state.broker_mut(id) else {
            return;
        };
        broker.live = true;
        let first = !std::mem::replace(&mut broker.joined, true);
        tracing::info!(broker = broker.name(), "a broker of the fanout is connected");
        if first {
            let told = state.tracker.restore();
            if let Some(broker) = state.broker(id) {
                for command in told {
                    // A link that has just ended is told of by its end.
                    let _ = broker.post(command, None, Guard::Always);
                }
            }
        }
        if state.primary.is_none() {
            self.elect(&mut state);
        }
        if was_ready || !state.is_ready(self.need) {
            return;
        }
        let broker = state.primary().map(Broker::name).unwrap_or_default();
        let tally = std::mem::take(&mut state.tally);
        let starting = state.starting.take();
        self.ready.send_replace(true);
        drop(state);
        self.upper.event(match &starting {
            Some(_) => Event::Connected { broker },
            None => Event::Resumed {
                broker,
                resumed: tally.resumed,
                lost: tally.lost,
                attempts: tally.attempts,
                downtime: tally.interrupted.map(|at| at.elapsed()).unwrap_or_default(),
            },
        });
        if let Some(starting) = starting {
            let _ = starting.send(Ok(()));
        }
    }

    /// Makes somebody the primary, and tells it of the consumers.
    fn elect(self: &Arc<Self>, state: &mut State) {
        let Some(id) = state.live().map(|broker| broker.id).next() else {
            return;
        };
        state.primary = Some(id);
        self.source.store(id, Ordering::Release);
        let keys: Vec<_> = state.consumers.keys().copied().collect();
        for key in keys {
            self.introduce(state, key);
        }
    }

    /// What was agreed with a broker: the smallest frame that one of them takes is the largest that can be sent to all.
    pub(super) fn opened(&self, format: &WireFormat) {
        let mut state = self.state.lock();
        let smallest = state
            .max_frame_size
            .is_none_or(|size| format.max_frame_size <= size);
        if smallest {
            state.max_frame_size = Some(format.max_frame_size);
            drop(state);
            self.upper.opened(format);
        }
    }

    /// The primary has closed a consumer.
    pub(super) fn forget(&self, id: &ConsumerId) {
        self.state.lock().consumers.remove(&consumer_key(id));
    }

    /// The connection to a broker broke. `connection` is the number of its next one.
    pub(super) fn broken(self: &Arc<Self>, id: u64, connection: u64) {
        let _calls = self.calls.lock();
        let mut state = self.state.lock();
        let Some(broker) = state.broker_mut(id) else {
            return;
        };
        broker.live = false;
        broker.connection = connection;
        if state.primary != Some(id) {
            return;
        }
        // Until the layer above knows, there is no primary: what a new one sends must not be mistaken.
        state.primary = None;
        self.source.store(0, Ordering::Release);
        let number = self.number.fetch_add(1, Ordering::AcqRel) + 1;
        drop(state);
        self.upper.interrupted(number);
        self.elect(&mut self.state.lock());
    }

    /// The same, with the reason.
    pub(super) fn interrupted(&self, id: u64, cause: Error) {
        let _calls = self.calls.lock();
        let mut state = self.state.lock();
        let Some(name) = state.broker(id).map(Broker::name) else {
            return;
        };
        let was_ready = *self.ready.borrow();
        if state.is_ready(self.need) || !was_ready || state.over.is_some() {
            drop(state);
            if was_ready {
                let what = format!("the connection to {name}, one of several, broke: {cause}");
                self.upper
                    .broker_error(Error::new(ErrorKind::Io, what).with_source(cause));
            }
            return;
        }
        self.ready.send_replace(false);
        state.tally.interrupted = Some(Instant::now());
        drop(state);
        self.upper.event(Event::Interrupted { cause });
    }

    /// The link to a broker has come to its end.
    pub(super) fn ended(&self, id: u64, cause: Option<Error>, lost: u64) {
        let _calls = self.calls.lock();
        let mut report = None;
        let ending = {
            let mut state = self.state.lock();
            state.tally.lost += lost;
            state.running = state.running.saturating_sub(1);
            let at = state.brokers.iter().position(|broker| broker.id == id);
            if let (Some(at), None) = (at, &state.over) {
                let name = state.brokers.remove(at).name();
                let cause = cause.unwrap_or_else(closed);
                let enough = !self.fixed || state.brokers.len() >= self.need;
                if cause.throwable().is_some() && state.starting.is_none() && enough {
                    let what = format!("{name} refuses the connection and is left out: {cause}");
                    report = Some(Error::new(ErrorKind::Io, what).with_source(cause));
                } else {
                    self.finish(&mut state, cause);
                }
            }
            self.ending(&mut state)
        };
        if let Some(error) = report {
            self.upper.broker_error(error);
        }
        self.tell(ending);
    }

    /// Takes nothing more in. The links are for the caller to close.
    pub(super) fn end(&self) -> Vec<Broker> {
        let (brokers, ending) = {
            let mut state = self.state.lock();
            let brokers = std::mem::take(&mut state.brokers);
            state.over.get_or_insert_with(closed);
            self.release(&mut state);
            let ending = match brokers.is_empty() {
                true => self.ending(&mut state),
                false => None,
            };
            (brokers, ending)
        };
        self.tell(ending);
        brokers
    }

    /// The connection cannot go on.
    fn finish(&self, state: &mut State, cause: Error) {
        state.over = Some(cause);
        state.brokers.clear();
        self.release(state);
    }

    /// Nobody is left waiting.
    fn release(&self, state: &mut State) {
        let cause = state.over.clone().unwrap_or_else(closed);
        state.primary = None;
        self.source.store(0, Ordering::Release);
        self.ready.send_replace(true);
        for (_, consumer) in std::mem::take(&mut state.consumers) {
            if let Some(asker) = consumer.asker {
                asker.answer(Err(cause.clone()));
            }
        }
    }

    /// What is to be told once the last link has ended.
    fn ending(&self, state: &mut State) -> Option<Ending> {
        if state.running > 0 {
            return None;
        }
        let cause = state.over.clone()?;
        let lost = std::mem::take(&mut state.tally).lost;
        if let Some(starting) = state.starting.take() {
            let _ = starting.send(Err(cause.clone()));
        }
        Some((cause, lost))
    }

    /// Why it is over, unless it was closed from this side.
    pub(super) fn cause(&self) -> Option<Error> {
        self.state.lock().over.clone().filter(|cause| !cause.is_closed())
    }

    /// Waits until the last link has ended.
    pub(super) async fn all_ended(&self) {
        // The sender lives as long as this does.
        let _ = self.done.subscribe().wait_for(|done| *done).await;
    }

    fn tell(&self, ending: Option<Ending>) {
        if let Some((cause, lost)) = ending {
            self.done.send_replace(true);
            self.upper.closed(&cause);
            let cause = (!cause.is_closed()).then_some(cause);
            self.upper.event(Event::Closed { cause, lost });
        }
    }
}

/// Takes over what a discovery agent finds, for as long as the connection is there.
async fn follow(shared: Weak<Shared>, mut discovered: watch::Receiver<Vec<String>>) {
    loop {
        let found = discovered.borrow_and_update().clone();
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.discovered(&found);
        let mut ready = shared.ready.subscribe();
        drop(shared);
        loop {
            tokio::select! {
                changed = discovered.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                changed = ready.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the connection is closed")
}
