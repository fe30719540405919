//! The only task that connects: dial, negotiate, restore, send again, run; and then decide what follows.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::backoff::{Backoff, Next};
use super::endpoints::{Endpoints, same_address};
use super::handshake::handshake;
use super::running::{Outcome, Running};
use super::tracker::Tracker;
use super::traffic::{Restore, Traffic};
use super::{Shared, Upper};
use crate::environment::{random, with_rng};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::transport::{self, TlsOptions};
use crate::uri::{Endpoint, FailoverOptions};
use crate::wire::{Command, ConnectionControl, ConnectionInfo};

/// What a link needs to know.
#[derive(Debug)]
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
    /// How long one attempt may take, the broker's answer included; none is for ever.
    pub(crate) attempt_timeout: Option<Duration>,
    /// How long the broker may take to accept the connection.
    pub(crate) accept_timeout: Option<Duration>,
    /// How long the last bytes may take after the connection was closed.
    pub(crate) close_timeout: Duration,
}

pub(super) struct Supervisor {
    endpoints: Endpoints,
    discovered: Option<watch::Receiver<Vec<String>>>,
    backoff: Backoff,
    failover: Option<FailoverOptions>,
    tls: TlsOptions,
    connection_info: Command,
    attempt_timeout: Option<Duration>,
    accept_timeout: Option<Duration>,
    close_timeout: Duration,
    shared: Arc<Shared>,
    upper: Arc<dyn Upper>,
    traffic: Traffic,
    /// The broker of the live connection.
    current: Option<Endpoint>,
}

/// How a live connection ended.
enum End {
    Closed,
    Broken(Error),
}

impl Supervisor {
    pub(super) fn new(config: Config, shared: Arc<Shared>, upper: Arc<dyn Upper>) -> Self {
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
        let randomize = config.failover.as_ref().is_some_and(|options| options.randomize);
        Self {
            endpoints: Endpoints::new(config.endpoints, randomize),
            discovered: config.discovered,
            backoff,
            failover: config.failover,
            tls: config.tls,
            connection_info: Command::from(info),
            attempt_timeout: config.attempt_timeout,
            accept_timeout: config.accept_timeout,
            close_timeout: config.close_timeout,
            shared,
            upper,
            traffic: Traffic::new(tracker, keep),
            current: None,
        }
    }

    pub(super) async fn run(mut self, ready: oneshot::Sender<Result<()>>) {
        let mut ready = Some(ready);
        let mut broken: Option<Break> = None;
        let (cause, flushed) = loop {
            let mut running = match self.connect(broken.as_mut()).await {
                Ok(running) => running,
                Err(error) => break (error, 0),
            };
            let since = Instant::now();
            self.announce(broken.take(), &mut ready);
            match self.serve(&mut running).await {
                End::Closed => break (closed(), running.flushed()),
                End::Broken(error) if !self.backoff.reconnects() || self.shared.outbox.is_closed() => {
                    break (error, running.flushed());
                }
                End::Broken(error) => broken = Some(self.interrupted(error, running.flushed(), since)),
            }
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
                    attempts: broken.attempts,
                    downtime,
                });
            }
        }
        if let Some(ready) = ready.take() {
            let _ = ready.send(Ok(()));
        }
    }

    fn interrupted(&mut self, cause: Error, flushed: u64, since: Instant) -> Break {
        tracing::warn!(%cause, "connection interrupted");
        let connection = self.shared.next_connection();
        // First the books, which know what was written, then the sessions, which may give up transactions.
        let lost = self.traffic.broken(flushed);
        self.upper.interrupted(connection);
        self.upper.event(Event::Interrupted { cause: cause.clone() });
        if let Some(endpoint) = self.current.take() {
            self.endpoints.failed(&endpoint);
        }
        Break {
            at: Instant::now(),
            lived: since.elapsed(),
            lost,
            resumed: 0,
            attempts: 0,
        }
    }

    fn finish(mut self, cause: Error, flushed: u64, ready: Option<oneshot::Sender<Result<()>>>) {
        let orderly = cause.is_closed();
        let late = if orderly {
            cause.clone()
        } else {
            Error::new(ErrorKind::Closed, format!("the connection is closed: {cause}"))
                .with_source(cause.clone())
        };
        self.shared.outbox.close(late);
        self.shared.outbox.take(&mut self.traffic.staged);
        let lost = self.traffic.fail(&cause, flushed);
        self.upper.closed(&cause);
        self.upper.event(Event::Closed {
            cause: (!orderly).then(|| cause.clone()),
            lost,
        });
        if let Some(ready) = ready {
            let _ = ready.send(Err(cause));
        }
        self.shared.done.send_replace(true);
    }

    /// Moves bytes until the connection ends.
    async fn serve(&mut self, running: &mut Running) -> End {
        let shared = self.shared.clone();
        let close_timeout = self.close_timeout;
        let expired = async {
            shared.closing.notified().await;
            sleep(close_timeout).await;
        };
        tokio::pin!(expired);
        loop {
            let outcome = tokio::select! {
                biased;
                outcome = running.next(&self.shared, &mut self.traffic, &*self.upper) => outcome,
                () = &mut expired => return End::Closed,
            };
            match outcome {
                Outcome::Opened => {}
                Outcome::Closed => return End::Closed,
                Outcome::Broken(error) | Outcome::Refused(error) => {
                    return match self.shared.outbox.is_closed() {
                        // Whoever is closed does not mind how.
                        true => End::Closed,
                        false => End::Broken(error),
                    };
                }
                Outcome::Control(control) => {
                    if let Some(reason) = self.control(&control) {
                        return End::Broken(reason);
                    }
                }
            }
        }
    }

    /// The broker says something about the cluster. The reason to leave it, if that follows.
    fn control(&mut self, control: &ConnectionControl) -> Option<Error> {
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
                    self.endpoints.redirect(endpoint);
                    if !here {
                        return Some(moved(format!("the broker sends its clients to {uri}")));
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
            self.endpoints.push(learnt);
            if control.rebalance_connection {
                let first = with_rng(|rng| self.endpoints.pass(rng)).into_iter().next();
                let here = self.current.as_ref();
                if let (Some(first), Some(here)) = (first, here)
                    && !same_address(&first, here)
                {
                    return Some(moved("the broker asks its clients to spread".into()));
                }
            }
        }
        None
    }

    /// Tries addresses until one of them accepts the connection, or until that was enough.
    async fn connect(&mut self, broken: Option<&mut Break>) -> Result<Running> {
        let shared = self.shared.clone();
        tokio::select! {
            biased;
            () = shared.closing.notified() => Err(closed()),
            running = self.try_passes(broken) => running,
        }
    }

    async fn try_passes(&mut self, mut broken: Option<&mut Break>) -> Result<Running> {
        if let Some(broken) = &broken {
            let delay = self.backoff.after_break(broken.lived, random());
            self.pause(delay).await;
        }
        let mut attempt = 0;
        loop {
            let mut last = Error::new(ErrorKind::Io, "there is no address to connect to");
            self.discover();
            let pass = with_rng(|rng| self.endpoints.pass(rng));
            if pass.is_empty() && self.discovered.is_some() {
                // That nobody is announced yet is no failure.
                self.announced().await;
                continue;
            }
            for endpoint in pass {
                attempt += 1;
                if let Some(broken) = &mut broken {
                    broken.attempts = attempt;
                }
                self.upper.event(Event::Connecting {
                    broker: endpoint.to_string(),
                    attempt,
                });
                match self.attempt(&endpoint, broken.as_deref_mut()).await {
                    Ok(running) => {
                        self.backoff.connected();
                        self.current = Some(endpoint);
                        return Ok(running);
                    }
                    // The first connection is somebody's call, who is to hear what the broker says.
                    Err(Failure::Refused(error)) if broken.is_none() => return Err(error),
                    Err(Failure::Refused(error) | Failure::Broken(error)) => {
                        tracing::debug!(%endpoint, %error, "could not connect");
                        last = error;
                    }
                }
            }
            match self.backoff.after_failed_pass(random()) {
                Next::GiveUp => return Err(last),
                Next::Wait(delay, warn) => {
                    let passes = self.backoff.failed_passes();
                    if warn {
                        tracing::warn!(passes, error = %last, "no broker accepts the connection, trying again");
                    }
                    self.upper.event(Event::Retrying {
                        passes,
                        cause: last,
                        delay,
                    });
                    self.pause(delay).await;
                }
            }
        }
    }

    /// Takes over what the discovery agent finds. True if there is an address that was not known.
    fn discover(&mut self) -> bool {
        let (Some(discovered), Some(options)) = (&mut self.discovered, &self.failover) else {
            return false;
        };
        let learn = |uri: &String| match options.learn(uri) {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                tracing::debug!(%uri, %error, "a broker is announced by a URI that is of no use");
                None
            }
        };
        let found = discovered.borrow_and_update().iter().filter_map(learn).collect();
        self.endpoints.discover(found)
    }

    /// Waits until an address is announced that was not known.
    async fn announced(&mut self) {
        loop {
            let Some(discovered) = &mut self.discovered else {
                return std::future::pending().await;
            };
            if discovered.changed().await.is_err() {
                // The agent is gone: nobody will be announced any more.
                return std::future::pending().await;
            }
            if self.discover() {
                return;
            }
        }
    }

    /// Waits for `delay`, or until there is an address that has not been tried.
    async fn pause(&mut self, delay: Duration) {
        // Whoever comes first, the pass that follows sees all that was announced.
        let _ = timeout(delay, self.announced()).await;
    }

    async fn attempt(&mut self, endpoint: &Endpoint, broken: Option<&mut Break>) -> Result<Running, Failure> {
        let limit = self.attempt_timeout;
        within(limit, "connecting", self.open(endpoint, broken))
            .await
            .unwrap_or_else(|error| Err(error.into()))
    }

    async fn open(&mut self, endpoint: &Endpoint, broken: Option<&mut Break>) -> Result<Running, Failure> {
        let stream = transport::connect(endpoint, &self.tls).await?;
        let (mut reader, mut writer) = stream.into_split();
        let mut input = BytesMut::new();
        let agreed = within(
            Some(negotiation_timeout(endpoint)),
            "waiting for the broker's WireFormatInfo",
            handshake(endpoint, &mut reader, &mut writer, &mut input),
        )
        .await??;
        let restore = match broken {
            Some(broken) => {
                let restore = self.traffic.restore();
                broken.resumed = restore.again.len() as u64;
                restore
            }
            None => Restore {
                opening: vec![self.connection_info.clone()],
                ..Restore::default()
            },
        };
        let mut running = Running::new(endpoint, (reader, writer), agreed, input, restore);
        let limit = self.accept_timeout;
        within(
            limit,
            "waiting for the broker to accept the connection",
            self.accepted(&mut running),
        )
        .await??;
        self.upper.opened(running.format());
        Ok(running)
    }

    async fn accepted(&mut self, running: &mut Running) -> Result<(), Failure> {
        loop {
            match running.next(&self.shared, &mut self.traffic, &*self.upper).await {
                Outcome::Opened => return Ok(()),
                Outcome::Refused(error) => return Err(Failure::Refused(error)),
                Outcome::Broken(error) => return Err(Failure::Broken(error)),
                Outcome::Closed => return Err(Failure::Broken(closed())),
                Outcome::Control(control) => {
                    if let Some(reason) = self.control(&control) {
                        return Err(Failure::Broken(reason));
                    }
                }
            }
        }
    }
}

/// What is known of a break until it is over.
struct Break {
    at: Instant,
    /// How long the connection had lived.
    lived: Duration,
    lost: u64,
    resumed: u64,
    attempts: u32,
}

/// Why an attempt failed.
enum Failure {
    /// The broker said no.
    Refused(Error),
    Broken(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

/// As ActiveMQ: the time to the first inactivity check, 15 seconds if there is none.
fn negotiation_timeout(endpoint: &Endpoint) -> Duration {
    match u64::try_from(endpoint.wire_format.max_inactivity_duration_initial_delay) {
        Ok(millis) if millis > 0 => Duration::from_millis(millis),
        _ => Duration::from_secs(15),
    }
}

async fn within<T>(limit: Option<Duration>, what: &str, work: impl Future<Output = T>) -> Result<T> {
    match limit {
        None => Ok(work.await),
        Some(limit) => timeout(limit, work)
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, format!("{what} took longer than {limit:?}"))),
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the connection is closed")
}

fn moved(why: String) -> Error {
    Error::new(ErrorKind::Io, why)
}
