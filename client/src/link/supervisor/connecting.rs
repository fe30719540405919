//! The way from no connection to one: which address, after how long, and what makes an end of trying.

use std::time::Duration;

use tokio::time::timeout;

use super::{Break, Supervisor, closed};
use crate::environment::{random, with_rng};
use crate::error::{Error, ErrorKind, Result};
use crate::events::Event;
use crate::link::backoff::Next;
use crate::link::handshake::{dial, within};
use crate::link::physical::Physical;
use crate::link::running::{Outcome, Running};
use crate::link::spares::{Spare, Spares};
use crate::link::status::EndpointSource;
use crate::link::traffic::Restore;
use crate::uri::Endpoint;
use crate::wire::Command;

/// How a pass through the addresses ended.
enum Pass {
    Connected(Box<Running>),
    Failed(Error),
    /// Another one would end the same way.
    Over(Error),
}

/// Why an attempt failed.
enum Failure {
    /// The broker said no.
    Refused(Error),
    Broken(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) | Failure::Broken(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl Supervisor {
    /// Tries addresses until one of them accepts the connection, or until that was enough.
    pub(super) async fn connect(&mut self, mut broken: Option<&mut Break>) -> Result<Running> {
        let shared = self.shared.clone();
        self.attempts = 0;
        loop {
            tokio::select! {
                biased;
                () = shared.closing_expired(|closing| closing.without_connection()) => return Err(closed()),
                () = shared.reconnect.notified() => {
                    // Whatever is waited for, it begins anew.
                    if let Some(broken) = &mut broken {
                        broken.at_once = true;
                    }
                }
                running = self.try_all(broken.as_deref_mut()) => return running,
            }
        }
    }

    async fn try_all(&mut self, mut broken: Option<&mut Break>) -> Result<Running> {
        if let Some(broken) = &mut broken {
            self.pause_after(broken).await;
            while let Some(spare) = self.take_spare() {
                let Spare {
                    endpoint, physical, ..
                } = spare;
                match self.attempt(&endpoint, Some(physical), Some(broken)).await {
                    Ok(running) => return Ok(running),
                    Err(Failure::Refused(error) | Failure::Broken(error)) => {
                        tracing::debug!(%endpoint, %error, "a spare connection is of no use");
                    }
                }
            }
        }
        loop {
            let last = match self.try_pass(broken.as_deref_mut()).await {
                Pass::Connected(running) => return Ok(*running),
                Pass::Over(error) => return Err(error),
                Pass::Failed(error) => error,
            };
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
        self.shared
            .endpoints
            .lock()
            .learn(EndpointSource::Discovered, found)
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

    /// Waits before the first attempt after a break, unless there is no reason to.
    async fn pause_after(&mut self, broken: &mut Break) {
        if std::mem::replace(&mut broken.at_once, true) {
            return;
        }
        let elsewhere = self.shared.endpoints.lock().has_another();
        let delay = self.backoff.after_break(broken.lived, elsewhere, random());
        let spare = self.spares.as_ref().is_some_and(Spares::is_ready);
        // A connection that broke at once is not followed at once, spare or not: nobody is to be hammered.
        if !spare || !self.backoff.is_stable(broken.lived) {
            self.pause(delay).await;
        }
    }

    fn take_spare(&mut self) -> Option<Spare> {
        self.spares.as_mut()?.take(&self.shared.endpoints)
    }

    /// Tries every address once.
    async fn try_pass(&mut self, mut broken: Option<&mut Break>) -> Pass {
        let mut last = Error::new(ErrorKind::Io, "there is no address to connect to");
        let mut denied = None;
        let mut only_denied = true;
        if let (Some(updates), Some(options)) = (&mut self.updates, &self.failover)
            && let Some(list) = updates.read(options).await
        {
            self.learnt(EndpointSource::UpdateUrl, list, false);
        }
        let pass = loop {
            self.discover();
            let pass = with_rng(|rng| self.shared.endpoints.lock().pass(rng));
            if !pass.is_empty() || self.discovered.is_none() {
                break pass;
            }
            // That nobody is announced yet is no failure.
            self.announced().await;
        };
        for endpoint in pass {
            match self.attempt(&endpoint, None, broken.as_deref_mut()).await {
                Ok(running) => return Pass::Connected(Box::new(running)),
                Err(failure) => {
                    if broken.is_none() && self.is_final(&failure) {
                        return Pass::Over(failure.into());
                    }
                    if let Failure::Refused(error) = &failure {
                        if error.is_security() {
                            denied.get_or_insert_with(|| error.clone());
                        } else {
                            only_denied = false;
                        }
                    }
                    last = failure.into();
                    tracing::debug!(%endpoint, error = %last, "could not connect");
                }
            }
        }
        match denied {
            // The same user and password would be refused for ever, and in the end lock the account.
            Some(error) if only_denied && self.credentials.is_none() => Pass::Over(error),
            _ => Pass::Failed(last),
        }
    }

    /// Whether a failure of the first connection is told at once to whoever asked for it, although there is failover.
    fn is_final(&self, failure: &Failure) -> bool {
        match failure {
            Failure::Refused(error) => {
                self.failover.is_none()
                    || error.is_security()
                    // The old connection of this client may be what has its id.
                    || error.is_invalid_client_id() && !self.introduced
            }
            Failure::Broken(_) => false,
        }
    }

    async fn attempt(
        &mut self,
        endpoint: &Endpoint,
        physical: Option<Physical>,
        broken: Option<&mut Break>,
    ) -> Result<Running, Failure> {
        self.attempts = self.attempts.saturating_add(1);
        self.upper.event(Event::Connecting {
            broker: endpoint.to_string(),
            attempt: self.attempts,
        });
        let limit = self.attempt_timeout;
        let result = within(limit, "connecting", self.open(endpoint, physical, broken))
            .await
            .unwrap_or_else(|error| Err(error.into()));
        let mut endpoints = self.shared.endpoints.lock();
        match &result {
            Ok(_) => {
                self.backoff.connected();
                self.current = Some(endpoint.clone());
                endpoints.set_current(Some(endpoint));
                drop(endpoints);
                if let Some(spares) = &mut self.spares {
                    spares.begin(endpoint, &self.shared.endpoints);
                }
            }
            Err(Failure::Refused(error) | Failure::Broken(error)) => {
                endpoints.attempt_failed(endpoint, error);
            }
        }
        result
    }

    /// Makes a connection, unless there is one to begin with, and has the broker accept it.
    async fn open(
        &mut self,
        endpoint: &Endpoint,
        physical: Option<Physical>,
        broken: Option<&mut Break>,
    ) -> Result<Running, Failure> {
        let physical = match physical {
            Some(physical) => physical,
            None => dial(endpoint, &self.tls).await?,
        };
        let credentials = match &self.credentials {
            Some(provider) => Some(provider.ask(endpoint).await?),
            None => None,
        };
        let mut restore = match broken {
            Some(broken) => {
                let restore = self.traffic.restore();
                broken.resumed = restore.resumed;
                restore
            }
            None => Restore {
                opening: vec![self.connection_info.clone()],
                ..Restore::default()
            },
        };
        if let Some(credentials) = credentials {
            for command in &mut restore.opening {
                if let Command::ConnectionInfo(info) = command {
                    info.user_name = Some(credentials.user.as_str().into());
                    info.password = Some(credentials.password.expose().into());
                }
            }
        }
        let restore_timeout = self
            .failover
            .as_ref()
            .and_then(|failover| failover.restore_timeout);
        let mut running = Running::new(physical, restore, restore_timeout);
        let introduced = std::mem::replace(&mut self.introduced, true);
        let limit = self.accept_timeout;
        let accepted = within(
            limit,
            "waiting for the broker to accept the connection",
            self.accepted(&mut running),
        )
        .await?;
        if let Err(Failure::Refused(_)) = accepted {
            self.introduced = introduced;
        }
        accepted?;
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
                    if let Some((why, _)) = self.control(&control) {
                        return Err(Failure::Broken(why));
                    }
                }
            }
        }
    }
}
