//! The only task that connects: dial, negotiate, restore, send again, run; and then decide what follows.

mod connecting;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::credentials::Provider;
use crate::environment::with_rng;
use crate::error::{Error, ErrorKind, Result, Unfinished};
use crate::events::Event;
use crate::link::backoff::Backoff;
use crate::link::endpoints::same_address;
use crate::link::guard::Guard;
use crate::link::outbox::{Item, Reply};
use crate::link::receipt::runtime_gone;
use crate::link::running::{Outcome, Running};
use crate::link::spares::Spares;
use crate::link::status::EndpointSource;
use crate::link::tracker::Tracker;
use crate::link::traffic::Traffic;
use crate::link::updates::Updates;
use crate::link::{Ended, Shared, Upper, farewell};
use crate::transport::TlsOptions;
use crate::uri::{Endpoint, FailoverOptions};
use crate::wire::{Command, ConnectionControl, ConnectionId, ConnectionInfo, RemoveInfo};

/// A connection that is left although it works is left in order, if the broker answers what is on its way within this
/// time: long for a broker that lives, short for one that does not.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a link needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Where to connect to.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The URIs of the brokers that a discovery agent finds, which come first.
    pub(crate) discovered: Option<watch::Receiver<Vec<String>>>,
    /// What happens when a connection breaks; none is the end.
    pub(crate) failover: Option<FailoverOptions>,
    pub(crate) tls: TlsOptions,
    /// The command that opens the connection.
    pub(crate) connection_info: ConnectionInfo,
    /// Who connects, if that is asked for each time.
    pub(crate) credentials: Option<Provider>,
    /// How long one attempt may take, the broker's answer included; none is for ever.
    pub(crate) attempt_timeout: Option<Duration>,
    /// How long the broker may take to accept the connection.
    pub(crate) accept_timeout: Option<Duration>,
    /// How long the last bytes may take after the last handle was dropped.
    pub(crate) close_timeout: Duration,
}

pub(in crate::link) struct Supervisor {
    discovered: Option<watch::Receiver<Vec<String>>>,
    backoff: Backoff,
    failover: Option<FailoverOptions>,
    tls: TlsOptions,
    connection_id: ConnectionId,
    connection_info: Command,
    credentials: Option<Provider>,
    attempt_timeout: Option<Duration>,
    accept_timeout: Option<Duration>,
    shared: Arc<Shared>,
    upper: Arc<dyn Upper>,
    traffic: Traffic,
    spares: Option<Spares>,
    updates: Option<Updates>,
    /// What breaks have made of what was to be finished.
    unfinished: Unfinished,
    finished: bool,
    /// The broker of the live connection.
    current: Option<Endpoint>,
    /// A broker may have accepted this client, although its answer did not come.
    introduced: bool,
    /// How many addresses were tried since there was a connection.
    attempts: u32,
}

/// How a live connection ended.
enum End {
    Closed,
    Broken(Error),
    /// It worked, and there is a better one.
    Left(Error, Departure),
}

/// What happens while there is a connection.
enum Served {
    Outcome(Outcome),
    /// There is another list of brokers.
    Updated(Vec<Endpoint>),
    /// A preferred broker is back.
    Preferred,
    /// The user wants another connection.
    Asked,
}

/// Why a connection that works is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Departure {
    /// The broker asked for it.
    Sent,
    /// A preferred broker is back.
    Preferred,
    /// The user asked for it.
    Asked,
}

impl Supervisor {
    pub(in crate::link) fn new(config: Config, shared: Arc<Shared>, upper: Arc<dyn Upper>) -> Self {
        let connection_id = config.connection_info.connection_id.clone().unwrap_or_default();
        let mut info = Box::new(config.connection_info);
        info.command_id = 1;
        info.response_required = true;
        let backoff = config.failover.as_ref().map_or_else(Backoff::never, Backoff::new);
        let reconnects = config.failover.as_ref().filter(|_| backoff.reconnects());
        let tracker =
            reconnects.map(|options| Tracker::new(info.clone(), options.track_transaction_producers));
        let keep = reconnects
            .filter(|options| options.track_messages)
            .map_or(0, |options| options.max_cache_size as usize);
        let spares = reconnects.and_then(|options| Spares::new(options, config.tls.clone()));
        let updates = config.failover.as_ref().and_then(Updates::new);
        Self {
            updates,
            discovered: config.discovered,
            backoff,
            failover: config.failover,
            tls: config.tls,
            connection_id,
            connection_info: Command::from(info),
            credentials: config.credentials,
            attempt_timeout: config.attempt_timeout,
            accept_timeout: config.accept_timeout,
            shared,
            upper,
            traffic: Traffic::new(tracker, keep),
            spares,
            unfinished: Unfinished::default(),
            finished: false,
            current: None,
            introduced: false,
            attempts: 0,
        }
    }

    pub(in crate::link) async fn run(mut self, ready: oneshot::Sender<Result<()>>) {
        let mut ready = Some(ready);
        let mut broken: Option<Break> = None;
        let (cause, flushed) = loop {
            let mut running = match self.connect(broken.as_mut()).await {
                Ok(running) => running,
                Err(error) => break (error, 0),
            };
            let since = Instant::now();
            self.announce(broken.take(), &mut ready);
            let (error, departure) = match self.serve(&mut running).await {
                End::Closed => break (closed(), running.flushed()),
                End::Broken(error) => (error, None),
                End::Left(error, departure) => (error, Some(departure)),
            };
            if !self.backoff.reconnects() {
                break (error, running.flushed());
            }
            broken = Some(self.interrupted(error, departure, running.flushed(), since));
        };
        self.finish(cause, flushed, ready);
    }

    /// The broker has accepted the connection: the first one, or one after a break.
    fn announce(&mut self, broken: Option<Break>, ready: &mut Option<oneshot::Sender<Result<()>>>) {
        let broker = self.current.as_ref().map(ToString::to_string).unwrap_or_default();
        match broken {
            None => self.upper.event(Event::Connected { broker }),
            Some(broken) => {
                let downtime = broken.at.elapsed();
                tracing::warn!(
                    %broker, ?downtime, lost = broken.lost, resumed = broken.resumed, "connection resumed"
                );
                self.upper.event(Event::Resumed {
                    broker,
                    resumed: broken.resumed,
                    lost: broken.lost,
                    attempts: self.attempts,
                    downtime,
                });
            }
        }
        if let Some(ready) = ready.take() {
            let _ = ready.send(Ok(()));
        }
    }

    fn interrupted(
        &mut self,
        cause: Error,
        departure: Option<Departure>,
        flushed: u64,
        since: Instant,
    ) -> Break {
        match departure {
            None => tracing::warn!(%cause, "connection interrupted"),
            Some(_) => tracing::info!(%cause, "connection left for another one"),
        }
        let connection = self.shared.next_connection();
        if self.shared.outbox.is_closed() {
            let unfinished = self.traffic.unfinished();
            self.unfinished.acknowledgements += unfinished.acknowledgements;
            self.unfinished.unconfirmed += unfinished.unconfirmed;
        }
        // First the books, which know what was written, then the sessions, which may give up transactions.
        let lost = self.traffic.broken(flushed);
        self.upper.interrupted(connection);
        self.upper.event(Event::Interrupted { cause: cause.clone() });
        let mut endpoints = self.shared.endpoints.lock();
        endpoints.set_current(None);
        if let Some(endpoint) = self.current.take() {
            if departure.is_none() {
                endpoints.attempt_failed(&endpoint, &cause);
            }
            if departure != Some(Departure::Asked) {
                endpoints.failed(&endpoint);
            }
        }
        Break {
            at: Instant::now(),
            lived: since.elapsed(),
            at_once: departure.is_some(),
            lost,
            resumed: 0,
        }
    }

    fn finish(&mut self, cause: Error, flushed: u64, ready: Option<oneshot::Sender<Result<()>>>) {
        self.finished = true;
        let orderly = cause.is_closed() && self.shared.outbox.is_closed();
        let late = if orderly {
            cause.clone()
        } else {
            Error::new(ErrorKind::Closed, format!("the connection is closed: {cause}"))
                .with_source(cause.clone())
        };
        self.shared.outbox.close(late);
        self.shared.outbox.take(&mut self.traffic.staged);
        let mut unfinished = self.traffic.unfinished();
        unfinished.acknowledgements += self.unfinished.acknowledgements;
        unfinished.unconfirmed += self.unfinished.unconfirmed;
        let lost = self.traffic.fail(&cause, flushed);
        // Whoever waits for the first connection is told.
        if !orderly && ready.is_none() {
            tracing::warn!(%cause, lost, "the connection is over");
        }
        self.upper.closed(&cause);
        self.upper.event(Event::Closed {
            cause: (!orderly).then(|| cause.clone()),
            lost,
        });
        if let Some(ready) = ready {
            let _ = ready.send(Err(cause.clone()));
        }
        self.shared.done.send_replace(Some(Ended {
            unfinished,
            cause: (!orderly).then_some(cause),
        }));
    }

    /// Moves bytes until the connection ends.
    async fn serve(&mut self, running: &mut Running) -> End {
        let shared = self.shared.clone();
        let expired = shared.closing_expired(|closing| closing.until);
        tokio::pin!(expired);
        loop {
            let event = tokio::select! {
                biased;
                outcome = running.next(&self.shared, &mut self.traffic, &*self.upper) => Served::Outcome(outcome),
                () = &mut expired => return End::Closed,
                () = shared.reconnect.notified() => Served::Asked,
                () = spare_connections(&mut self.spares, &shared) => Served::Preferred,
                list = updated(&mut self.updates, self.failover.as_ref()) => Served::Updated(list),
            };
            let reason = match event {
                Served::Outcome(Outcome::Opened) => None,
                Served::Outcome(Outcome::Closed) => return End::Closed,
                Served::Outcome(Outcome::Broken(error) | Outcome::Refused(error)) => {
                    return match self.is_over() {
                        true => End::Closed,
                        false => End::Broken(error),
                    };
                }
                Served::Outcome(Outcome::Control(control)) => self.control(&control),
                Served::Updated(list) => {
                    let rebalance = self.failover.as_ref().is_some_and(|o| o.rebalance_update_uris);
                    self.learnt(EndpointSource::UpdateUrl, list, rebalance)
                }
                Served::Preferred => Some((
                    moved("a preferred broker can be reached again".into()),
                    Departure::Preferred,
                )),
                Served::Asked => Some((moved("a new connection was asked for".into()), Departure::Asked)),
            };
            match reason {
                // Whoever is about to close, or could not come back, stays where it is.
                Some(_) if self.shared.outbox.is_closed() || !self.backoff.reconnects() => {
                    self.spares = None;
                }
                Some((why, departure)) => return self.leave(running, why, departure).await,
                None => {}
            }
        }
    }

    /// Ends a connection that works: what was written is answered first, and the broker hears that the client goes. What
    /// comes to be sent meanwhile waits for the next connection.
    async fn leave(&mut self, running: &mut Running, why: Error, departure: Departure) -> End {
        let (reply, mut answered) = oneshot::channel();
        let item = Item {
            command: farewell(&self.connection_id, RemoveInfo::UNKNOWN_DELIVERED).into(),
            reply: Some(Reply::new(reply, None)),
            guard: Guard::Connection(self.shared.connection()),
        };
        if self.shared.outbox.post(item).is_ok() {
            let done = async {
                loop {
                    let outcome = tokio::select! {
                        biased;
                        _ = &mut answered => break,
                        outcome = running.next(&self.shared, &mut self.traffic, &*self.upper) => outcome,
                    };
                    if !matches!(outcome, Outcome::Opened | Outcome::Control(_)) {
                        break;
                    }
                }
            };
            if timeout(LEAVE_TIMEOUT, done).await.is_err() {
                tracing::debug!(limit = ?LEAVE_TIMEOUT, "the broker did not answer everything before it was left");
            }
        }
        match self.is_over() {
            true => End::Closed,
            false => End::Left(why, departure),
        }
    }

    /// Whoever is closed does not mind how a connection ends, unless something was to get out.
    fn is_over(&self) -> bool {
        self.shared.outbox.is_closed()
            && (!self.shared.is_thorough() || self.traffic.unfinished().is_nothing())
    }

    /// The broker says something about the cluster. The reason to leave it, if that follows.
    fn control(&mut self, control: &ConnectionControl) -> Option<(Error, Departure)> {
        let options = self.failover.as_ref()?;
        let text = |text: &Option<Arc<str>>| text.clone().filter(|text| !text.trim().is_empty());
        if options.reconnect_supported
            && let Some(uri) = text(&control.reconnect_to)
        {
            match options.learn(&uri) {
                Ok(endpoint) => {
                    let here = self
                        .current
                        .as_ref()
                        .is_some_and(|here| same_address(here, &endpoint));
                    self.shared.endpoints.lock().redirect(endpoint);
                    if !here {
                        let why = moved(format!("the broker sends its clients to {uri}"));
                        return Some((why, Departure::Sent));
                    }
                }
                Err(error) => {
                    tracing::warn!(%uri, %error, "the broker sends its clients to a URI that is of no use")
                }
            }
        }
        if options.update_uris_supported
            && let Some(list) = text(&control.connected_brokers)
        {
            let mut learnt = Vec::new();
            for endpoint in options.learn_list(&list) {
                match endpoint {
                    Ok(endpoint) => learnt.push(endpoint),
                    Err(error) => tracing::debug!(%error, "the broker told of a URI that is of no use"),
                }
            }
            return self.learnt(EndpointSource::Broker, learnt, control.rebalance_connection);
        }
        None
    }

    /// There are other addresses. The reason to leave the broker, if it is not to stay.
    fn learnt(
        &self,
        source: EndpointSource,
        list: Vec<Endpoint>,
        rebalance: bool,
    ) -> Option<(Error, Departure)> {
        if list.is_empty() {
            return None;
        }
        let mut endpoints = self.shared.endpoints.lock();
        endpoints.learn(source, list);
        let here = self.current.as_ref().filter(|_| rebalance)?;
        let why = "the clients of the brokers are to spread";
        (!with_rng(|rng| endpoints.may_stay(here, rng))).then(|| (moved(why.into()), Departure::Sent))
    }
}

/// The runtime went away, or the task has panicked: everybody who waits hears of it all the same.
impl Drop for Supervisor {
    fn drop(&mut self) {
        if !self.finished {
            // How much had left is not known any more, so it may be everything.
            self.finish(runtime_gone(), u64::MAX, None);
        }
    }
}

/// What is known of a break until it is over.
struct Break {
    at: Instant,
    /// How long the connection had lived.
    lived: Duration,
    /// There is nothing to wait for before the first attempt (any more).
    at_once: bool,
    lost: u64,
    resumed: u64,
}

async fn updated(updates: &mut Option<Updates>, options: Option<&FailoverOptions>) -> Vec<Endpoint> {
    match (updates, options) {
        (Some(updates), Some(options)) => updates.next(options).await,
        _ => std::future::pending().await,
    }
}

async fn spare_connections(spares: &mut Option<Spares>, shared: &Shared) {
    match spares {
        Some(spares) => spares.next(&shared.endpoints).await,
        None => std::future::pending().await,
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the connection is closed")
}

fn moved(why: String) -> Error {
    Error::new(ErrorKind::Io, why)
}
