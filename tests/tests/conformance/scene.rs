//! What a check works with: a broker, names that are its own, and connections that end with it.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use openwire_client::{AcknowledgeMode, Connection, ConnectionFactory, Destination, Event, Events, Session};
use parking_lot::Mutex;

use crate::check::{Failure, Outcome};
use crate::host::Host;

/// Closing a connection takes no longer.
const CLOSING: Duration = Duration::from_secs(10);

/// What a check works with.
pub(crate) struct Scene {
    name: &'static str,
    host: Arc<Host>,
    opened: Mutex<Vec<(Connection, Events)>>,
}

impl Scene {
    pub(crate) fn new(name: &'static str, host: Arc<Host>) -> Self {
        Self {
            name,
            host,
            opened: Mutex::default(),
        }
    }

    /// The name of the check, under which its destinations are.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Where the broker listens.
    pub(crate) fn url(&self) -> String {
        self.host.url()
    }

    /// A URI that survives restarts.
    pub(crate) fn failover(&self) -> String {
        format!(
            "failover:({})?initialReconnectDelay=20&maxReconnectDelay=200",
            self.url()
        )
    }

    /// The queue of this check.
    pub(crate) fn queue(&self) -> Destination {
        Destination::queue(self.name)
    }

    /// Another one: `more` goes behind the name, with a separator if it is to have one.
    pub(crate) fn queue_of(&self, more: &str) -> Destination {
        Destination::queue(&format!("{}{more}", self.name))
    }

    /// The topic of this check.
    pub(crate) fn topic(&self) -> Destination {
        Destination::topic(self.name)
    }

    /// Another one, as [`queue_of`](Self::queue_of).
    pub(crate) fn topic_of(&self, more: &str) -> Destination {
        Destination::topic(&format!("{}{more}", self.name))
    }

    /// A started connection.
    pub(crate) async fn connect(&self) -> Outcome<Connection> {
        self.connect_to(&self.url()).await
    }

    /// A started connection with options such as `jms.useCompression=true&wireFormat.version=9`.
    pub(crate) async fn connect_with(&self, options: &str) -> Outcome<Connection> {
        self.connect_to(&format!("{}?{options}", self.url())).await
    }

    /// A started connection with a client id of this check.
    pub(crate) async fn connect_as(&self, client: &str) -> Outcome<Connection> {
        self.connect_with(&format!("jms.clientID={}.{client}", self.name))
            .await
    }

    /// A started connection to wherever the URI leads.
    pub(crate) async fn connect_to(&self, uri: &str) -> Outcome<Connection> {
        let connection = ConnectionFactory::new(uri)?.create_connection().await?;
        let events = connection.events();
        self.opened.lock().push((connection.clone(), events));
        connection.start().await?;
        Ok(connection)
    }

    /// A session of a connection of its own that acknowledges what is received.
    pub(crate) async fn auto(&self) -> Outcome<Session> {
        self.session(AcknowledgeMode::Auto).await
    }

    /// A transacted session of a connection of its own.
    pub(crate) async fn transacted(&self) -> Outcome<Session> {
        self.session(AcknowledgeMode::Transacted).await
    }

    /// A session of a connection of its own.
    pub(crate) async fn session(&self, mode: AcknowledgeMode) -> Outcome<Session> {
        Ok(self.connect().await?.create_session(mode).await?)
    }

    /// Kills the broker, and returns once it accepts again.
    pub(crate) async fn restart(&self) -> Outcome {
        let host = self.host.clone();
        tokio::task::spawn_blocking(move || host.restart())
            .await
            .map_err(|error| Failure::new(format!("the broker does not come back: {error}")))
    }

    /// Closes what is open. A failure gets what the broker had to say that nobody waited for.
    pub(crate) async fn end(&self, outcome: Outcome) -> Outcome {
        let opened = std::mem::take(&mut *self.opened.lock());
        let mut outcome = outcome;
        for (connection, mut events) in opened {
            while let Some(Some(event)) = events.next().now_or_never() {
                if let (Err(failure), Event::BrokerError(error)) = (&mut outcome, event) {
                    failure.add(&format!("a connection was told: {error}"));
                }
            }
            let closed = tokio::time::timeout(CLOSING, connection.close()).await;
            if closed.is_err() && outcome.is_ok() {
                outcome = Err(Failure::new("closing a connection takes too long"));
            }
        }
        outcome
    }
}
