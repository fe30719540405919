//! Connections kept in reserve (`backup`), and the way back to a preferred broker (`priorityBackup`).

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::RngExt;
use tokio::time::{Instant, Sleep, sleep};

use super::backoff::{Backoff, Next};
use super::endpoints::{Endpoints, same_address};
use super::handshake::{dial, within};
use super::physical::Physical;
use crate::environment::{random, with_rng};
use crate::error::Result;
use crate::transport::TlsOptions;
use crate::uri::{Endpoint, FailoverOptions};

/// Between two rounds through the addresses it takes at least this long, whatever the options say: nobody waits for
/// a spare connection.
const MIN_DELAY: Duration = Duration::from_millis(10);

/// The spare connections of a link. They are negotiated, the broker knows nothing of a client yet.
pub(super) struct Spares {
    options: FailoverOptions,
    tls: TlsOptions,
    open: Vec<Spare>,
    opening: Option<Opening>,
    /// What is left of a round through the addresses.
    candidates: VecDeque<Endpoint>,
    /// The pause between two rounds.
    pause: Option<Pin<Box<Sleep>>>,
    backoff: Backoff,
    /// The connection is to a preferred broker, or there is none.
    settled: bool,
}

/// A connection in reserve.
pub(super) struct Spare {
    pub(super) endpoint: Endpoint,
    pub(super) physical: Physical,
    preferred: bool,
    since: Instant,
}

struct Opening {
    endpoint: Endpoint,
    attempt: BoxFuture<'static, Result<Physical>>,
}

impl Spares {
    /// None if the options ask for none.
    pub(super) fn new(options: &FailoverOptions, tls: TlsOptions) -> Option<Self> {
        let wanted = options.backup && options.backup_pool_size > 0 || options.priority_backup;
        wanted.then(|| Self {
            options: options.clone(),
            tls,
            open: Vec::new(),
            opening: None,
            candidates: VecDeque::new(),
            pause: None,
            backoff: Backoff::endless(options),
            settled: true,
        })
    }

    /// There is a connection to `here` now: spare ones are opened elsewhere.
    pub(super) fn begin(&mut self, here: &Endpoint, endpoints: &Mutex<Endpoints>) {
        let mut endpoints = endpoints.lock();
        self.settled = !self.options.priority_backup || endpoints.is_priority(here);
        self.opening = None;
        self.pause = None;
        self.open.retain(|spare| {
            let stays = !same_address(&spare.endpoint, here);
            if !stays {
                endpoints.set_spare(&spare.endpoint, false);
            }
            stays
        });
        self.begin_round(&endpoints);
    }

    /// Opens spare connections and keeps them alive. Returns when there is one to a preferred broker and the
    /// connection is to another one.
    ///
    /// Cancel safe.
    pub(super) async fn next(&mut self, endpoints: &Mutex<Endpoints>) {
        std::future::poll_fn(|cx| self.poll(cx, endpoints)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>, endpoints: &Mutex<Endpoints>) -> Poll<()> {
        loop {
            self.tend(cx, endpoints);
            if !self.settled && self.has_preferred() {
                return Poll::Ready(());
            }
            if let Some(opening) = &mut self.opening {
                let result = ready!(opening.attempt.as_mut().poll(cx));
                if let Some(Opening { endpoint, .. }) = self.opening.take() {
                    self.opened(endpoint, result, endpoints);
                }
                continue;
            }
            if !self.wants_any() && !self.wants_preferred() {
                return Poll::Pending;
            }
            if let Some(endpoint) = self.candidates.pop_front() {
                if self.wants_any() || endpoints.lock().is_priority(&endpoint) {
                    self.opening = Some(Opening {
                        attempt: self.attempt(endpoint.clone()),
                        endpoint,
                    });
                }
                continue;
            }
            match &mut self.pause {
                None => self.pause(),
                Some(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.pause = None;
                    self.begin_round(&endpoints.lock());
                    if self.candidates.is_empty() {
                        self.pause();
                    }
                }
            }
        }
    }

    fn begin_round(&mut self, endpoints: &Endpoints) {
        let preferred_only = !self.wants_any();
        self.candidates = with_rng(|rng| endpoints.spare_pass(preferred_only, rng)).into();
    }

    fn pause(&mut self) {
        if let Next::Wait(delay, _) = self.backoff.after_failed_pass(random()) {
            self.pause = Some(Box::pin(sleep(delay.max(MIN_DELAY))));
        }
    }

    fn attempt(&self, endpoint: Endpoint) -> BoxFuture<'static, Result<Physical>> {
        let tls = self.tls.clone();
        let limit = self.options.connect_timeout;
        Box::pin(async move { within(limit, "connecting", dial(&endpoint, &tls)).await? })
    }

    fn opened(&mut self, endpoint: Endpoint, result: Result<Physical>, endpoints: &Mutex<Endpoints>) {
        let mut endpoints = endpoints.lock();
        match result {
            Err(error) => {
                tracing::debug!(%endpoint, %error, "no spare connection");
                endpoints.attempt_failed(&endpoint, &error);
            }
            Ok(physical) => {
                tracing::debug!(%endpoint, "spare connection");
                endpoints.set_spare(&endpoint, true);
                let spare = Spare {
                    preferred: endpoints.is_priority(&endpoint),
                    endpoint,
                    physical,
                    since: Instant::now(),
                };
                if spare.preferred {
                    self.open.insert(0, spare);
                } else {
                    self.open.push(spare);
                }
                // The preferred one is the last to go.
                let room = self.pool_size().max(usize::from(!self.settled));
                for spare in self.open.drain(room.min(self.open.len())..) {
                    endpoints.set_spare(&spare.endpoint, false);
                }
            }
        }
    }

    /// Keeps the spare connections alive, and gives up those that are not.
    fn tend(&mut self, cx: &mut Context<'_>, endpoints: &Mutex<Endpoints>) {
        let mut index = 0;
        while let Some(spare) = self.open.get_mut(index) {
            let Poll::Ready(error) = spare.physical.poll_spare(cx) else {
                index += 1;
                continue;
            };
            let spare = self.open.remove(index);
            tracing::debug!(endpoint = %spare.endpoint, %error, "a spare connection is lost");
            {
                let mut endpoints = endpoints.lock();
                endpoints.set_spare(&spare.endpoint, false);
                endpoints.attempt_failed(&spare.endpoint, &error);
            }
            if self.backoff.is_stable(spare.since.elapsed()) {
                self.backoff = Backoff::endless(&self.options);
            }
        }
    }

    /// One to begin with when there is no connection: a preferred one, or else any.
    pub(super) fn take(&mut self, endpoints: &Mutex<Endpoints>) -> Option<Spare> {
        if self.open.is_empty() {
            return None;
        }
        let index = match self.open.iter().position(|spare| spare.preferred) {
            Some(index) => index,
            None if self.options.randomize => with_rng(|rng| rng.random_range(0..self.open.len())),
            None => 0,
        };
        let spare = self.open.remove(index);
        endpoints.lock().set_spare(&spare.endpoint, false);
        Some(spare)
    }

    /// Whether there is one to begin with.
    pub(super) fn is_ready(&self) -> bool {
        !self.open.is_empty()
    }

    fn has_preferred(&self) -> bool {
        self.open.iter().any(|spare| spare.preferred)
    }

    fn pool_size(&self) -> usize {
        match self.options.backup {
            true => self.options.backup_pool_size as usize,
            false => 0,
        }
    }

    fn wants_any(&self) -> bool {
        self.open.len() < self.pool_size()
    }

    fn wants_preferred(&self) -> bool {
        !self.settled && !self.has_preferred()
    }
}
