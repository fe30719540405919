//! All brokers at once: a [`Single`] for each, behind the same few methods.
//!
//! Sessions, producers and temporary destinations are told to every broker, and to one that comes later when it
//! comes; a link keeps them over a break of its own. Consumers belong to the primary, bound to its physical
//! connection: when that breaks the next broker that is connected becomes the primary and is told of them all.
//! Who gets what, and what counts as an answer, is in the documentation of [`FanoutUri`](crate::uri::FanoutUri).

mod books;
mod brokers;
mod quorum;
mod routes;
mod upper;

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use self::brokers::Shared;
use self::quorum::Asker;
use super::{Answer, Config, Ended, EndpointStatus, GRACE, Guard, Receipt, Share, Single, Upper};
use crate::deadline::timeout_at;
use crate::error::{Result, Unfinished};
use crate::uri::{Endpoint, FanoutOptions};
use crate::wire::{Command, Message};

/// What a fanout needs to know.
#[derive(Debug)]
pub(crate) struct FanoutConfig {
    /// The brokers; several addresses are those of a master and its slaves.
    pub(crate) brokers: Vec<Vec<Endpoint>>,
    /// The URIs of further ones that a discovery agent finds.
    pub(crate) discovered: Option<watch::Receiver<Vec<String>>>,
    pub(crate) options: FanoutOptions,
    /// What each link needs to know, apart from its addresses.
    pub(crate) link: Config,
}

/// The handle of a connection to all brokers. Dropping it closes the connection without waiting.
#[derive(Debug)]
pub(crate) struct Fanout {
    shared: Arc<Shared>,
}

fn ask(share: Option<Share>) -> (Asker, Receipt) {
    let (sender, receiver) = oneshot::channel();
    (Asker { sender, share }, Receipt::new(receiver))
}

impl Fanout {
    /// Begins to connect. The receiver hears when enough brokers have accepted the connection, or why they will not.
    ///
    /// # Errors
    ///
    /// There is no tokio runtime.
    pub(crate) fn start(
        config: FanoutConfig,
        upper: Arc<dyn Upper>,
    ) -> Result<(Self, oneshot::Receiver<Result<()>>)> {
        let (shared, started) = Shared::start(config, upper)?;
        Ok((Self { shared }, started))
    }

    pub(crate) fn connection(&self) -> u64 {
        self.shared.number()
    }

    pub(crate) fn post(&self, command: Command, guard: Guard) -> Result<()> {
        self.shared
            .route(&mut self.shared.state.lock(), command, guard, None)
    }

    pub(crate) fn post_request(&self, command: Command, guard: Guard) -> Result<Receipt> {
        let (asker, receipt) = ask(None);
        let mut state = self.shared.state.lock();
        self.shared.route(&mut state, command, guard, Some(asker))?;
        Ok(receipt)
    }

    pub(crate) async fn request(&self, command: Command, guard: Guard) -> Result<Receipt> {
        loop {
            self.shared.ready().await;
            let posted = self.shared.if_ready(|state| {
                let (asker, receipt) = ask(None);
                self.shared
                    .route(state, command.clone(), guard.clone(), Some(asker))?;
                Ok(receipt)
            });
            match posted {
                Some(receipt) => return receipt,
                // One has just broken, and its link is about to say so.
                None => tokio::task::yield_now().await,
            }
        }
    }

    pub(crate) async fn send_message(
        &self,
        mut message: Arc<Message>,
        guard: Guard,
        answer: Answer,
        mut number: impl FnMut(&mut Message),
    ) -> Result<Option<Receipt>> {
        let (mut asker, receipt) = match answer {
            Answer::None => (None, None),
            Answer::Wanted(share) => {
                let (asker, receipt) = ask(share);
                (Some(asker), Some(receipt))
            }
        };
        loop {
            self.shared.ready().await;
            let sent = self.shared.if_ready(|state| {
                state.check_open()?;
                number(Arc::make_mut(&mut message));
                self.shared.send(state, &message, &guard, asker.take())
            });
            match sent {
                Some(sent) => return sent.map(|()| receipt),
                None => tokio::task::yield_now().await,
            }
        }
    }

    pub(crate) fn wake(&self) {
        let state = self.shared.state.lock();
        state.brokers.iter().for_each(|broker| broker.link.wake());
    }

    pub(crate) fn reconnect_now(&self) {
        let state = self.shared.state.lock();
        state
            .brokers
            .iter()
            .for_each(|broker| broker.link.reconnect_now());
    }

    pub(crate) fn endpoints(&self) -> Vec<EndpointStatus> {
        let state = self.shared.state.lock();
        let links = state.brokers.iter().map(|broker| &broker.link);
        links.flat_map(Single::endpoints).collect()
    }

    pub(crate) async fn close(&self, last_delivered: i64, limit: Duration, thorough: bool) -> Option<Ended> {
        let links = self.shared.end();
        let closing = links
            .iter()
            .map(|broker| broker.link.close(last_delivered, limit, thorough));
        let cause = self.shared.cause();
        let mut unfinished = Unfinished::default();
        for ended in join_all(closing).await {
            unfinished = unfinished.plus(&ended?.unfinished);
        }
        Some(Ended { unfinished, cause })
    }

    pub(crate) async fn ended(&self, limit: Duration) -> Option<Ended> {
        let end = Instant::now().checked_add(limit.saturating_add(GRACE));
        timeout_at(end, self.shared.all_ended()).await.ok()?;
        Some(Ended {
            unfinished: Unfinished::default(),
            cause: self.shared.cause(),
        })
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        drop(self.shared.end());
    }
}

#[cfg(test)]
mod tests;
