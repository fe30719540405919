//! ActiveMQ's `DestinationSource`.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Advisories, AdvisoryEvent};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::{Destination, DestinationKind};

/// The destinations of a broker, by name.
///
/// As large as the broker's own list of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DestinationListing {
    queues: BTreeSet<Arc<str>>,
    topics: BTreeSet<Arc<str>>,
    temporary_queues: BTreeSet<Arc<str>>,
    temporary_topics: BTreeSet<Arc<str>>,
}

impl DestinationListing {
    /// The queues (`getQueues`).
    pub fn queues(&self) -> impl Iterator<Item = Destination> + '_ {
        self.all(DestinationKind::Queue)
    }

    /// The topics (`getTopics`), without those of advisories, of which brokers tell nothing.
    pub fn topics(&self) -> impl Iterator<Item = Destination> + '_ {
        self.all(DestinationKind::Topic)
    }

    /// The temporary queues (`getTemporaryQueues`).
    pub fn temporary_queues(&self) -> impl Iterator<Item = Destination> + '_ {
        self.all(DestinationKind::TempQueue)
    }

    /// The temporary topics (`getTemporaryTopics`).
    pub fn temporary_topics(&self) -> impl Iterator<Item = Destination> + '_ {
        self.all(DestinationKind::TempTopic)
    }

    /// There is such a destination.
    pub fn contains(&self, destination: &Destination) -> bool {
        self.names(destination.kind()).contains(destination.name())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.queues.len() + self.topics.len() + self.temporary_queues.len() + self.temporary_topics.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn all(&self, kind: DestinationKind) -> impl Iterator<Item = Destination> + '_ {
        self.names(kind)
            .iter()
            .map(move |name| Destination::new(kind, name))
    }

    fn names(&self, kind: DestinationKind) -> &BTreeSet<Arc<str>> {
        match kind {
            DestinationKind::Queue => &self.queues,
            DestinationKind::Topic => &self.topics,
            DestinationKind::TempQueue => &self.temporary_queues,
            DestinationKind::TempTopic => &self.temporary_topics,
        }
    }

    fn names_mut(&mut self, kind: DestinationKind) -> &mut BTreeSet<Arc<str>> {
        match kind {
            DestinationKind::Queue => &mut self.queues,
            DestinationKind::Topic => &mut self.topics,
            DestinationKind::TempQueue => &mut self.temporary_queues,
            DestinationKind::TempTopic => &mut self.temporary_topics,
        }
    }

    /// Learns from an advisory. True if that changes something.
    fn learn(&mut self, event: &AdvisoryEvent) -> bool {
        match event {
            AdvisoryEvent::DestinationAdded(added) => {
                self.names_mut(added.kind()).insert(added.shared_name())
            }
            AdvisoryEvent::DestinationRemoved(removed) => {
                self.names_mut(removed.kind()).remove(removed.name())
            }
            _ => false,
        }
    }
}

/// A list of the broker's destinations that is kept up to date (ActiveMQ's `DestinationSource`), made by
/// [`Connection::destinations`](crate::Connection::destinations).
///
/// It fills once the connection is started; a broker does not say when it has told of all there are, so wait for what is
/// expected with [`wait_for`](Self::wait_for). When the connection breaks, the list begins anew with what the next broker
/// tells. Dropping it ends it without waiting.
///
/// ```no_run
/// # async fn example(connection: openwire_client::Connection) -> openwire_client::Result<()> {
/// use openwire_client::Destination;
///
/// connection.start().await?;
/// let source = connection.destinations().await?;
/// let orders = Destination::queue("Orders");
/// source.wait_for(|listing| listing.contains(&orders)).await?;
/// for queue in source.listing().queues() {
///     println!("{}", queue.name());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DestinationSource {
    listing: watch::Receiver<DestinationListing>,
    task: JoinHandle<()>,
}

impl DestinationSource {
    pub(crate) fn start(advisories: Advisories) -> Result<Self> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|error| Error::new(ErrorKind::IllegalState, error.to_string()).with_source(error))?;
        let (sender, listing) = watch::channel(DestinationListing::default());
        let task = runtime.spawn(keep(advisories, sender));
        Ok(Self { listing, task })
    }

    /// What is known now.
    pub fn listing(&self) -> DestinationListing {
        self.listing.borrow().clone()
    }

    /// The list, to be looked at or waited for: each change wakes.
    pub fn watch(&self) -> watch::Receiver<DestinationListing> {
        self.listing.clone()
    }

    /// Waits until the list is such, for ever if that does not come.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed): the connection is over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wait_for(&self, what: impl FnMut(&DestinationListing) -> bool) -> Result<()> {
        let mut listing = self.listing.clone();
        match listing.wait_for(what).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(ErrorKind::Closed, "the connection is closed")),
        }
    }
}

impl Drop for DestinationSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(mut advisories: Advisories, listing: watch::Sender<DestinationListing>) {
    let mut over = advisories.over();
    loop {
        let advisory = advisories.next().await;
        // The consumer heard of a break before it was sent anything over the next connection.
        let now = advisories.over();
        if now != over {
            over = now;
            listing.send_replace(DestinationListing::default());
        }
        match advisory {
            Ok(advisory) => {
                listing.send_if_modified(|listing| listing.learn(&advisory.event));
            }
            Err(_) => break,
        }
    }
}
