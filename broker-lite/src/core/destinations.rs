//! The registry of destinations: made when first used, temporary ones when their connection says so.

use openwire_client::wire::{Destination, DestinationInfo, DestinationKind};

use super::advisory;
use super::effect::ConnectionKey;
use super::queue::{Queue, QueueKey};
use super::refusal::Refusal;
use super::subscription::Source;
use super::topic::{Topic, TopicKey};
use super::{Core, Outcome, Turn};
use crate::store::{DestinationKey, Op};

/// Destinations are made by naming them, so there must be an end to it.
const MAX_DESTINATIONS: usize = 1_000_000;

/// A name longer than this has no place in a store's tables.
const MAX_NAME: usize = 4096;

/// A destination inside the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Queue(QueueKey),
    Topic(TopicKey),
}

impl Core {
    /// The destination a message or producer names.
    pub(super) fn resolve_for_send(&mut self, destination: &Destination) -> Result<Target, Refusal> {
        if let Some(&target) = self.destinations.get(destination) {
            return Ok(target);
        }
        check_simple(destination)?;
        if destination.is_temporary() {
            return Err(Refusal::no_such_temporary(&destination.qualified_name()));
        }
        self.create(destination)
    }

    /// The destination, or for advisories the list of them, a consumer names.
    pub(super) fn resolve_for_consumer(
        &mut self,
        from: ConnectionKey,
        destination: &Destination,
    ) -> Result<Source, Refusal> {
        if destination.is_advisory() {
            return self.resolve_advisories(destination).map(Source::Topics);
        }
        check_simple(destination)?;
        if destination.is_temporary() {
            let owner = destination.name().rsplit_once(':').map(|(owner, _)| owner);
            if owner != Some(self.connections[from.0 as usize].id()) {
                return Err(Refusal::destination(format!(
                    "Cannot use the temporary destination {} of another connection",
                    destination.qualified_name()
                )));
            }
        }
        let target = match self.destinations.get(destination) {
            Some(&target) => target,
            None if destination.is_temporary() => {
                return Err(Refusal::no_such_temporary(&destination.qualified_name()));
            }
            None => self.create(destination)?,
        };
        Ok(match target {
            Target::Queue(queue) => Source::Queue(queue),
            Target::Topic(topic) => Source::Topics(vec![topic]),
        })
    }

    fn resolve_advisories(&mut self, destination: &Destination) -> Result<Vec<TopicKey>, Refusal> {
        let mut topics = Vec::new();
        for name in destination
            .name()
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            if !advisory::is_provided(name) {
                return Err(Refusal::unsupported(&format!("the advisory topic {name} is")));
            }
            let topic = Destination::topic(name);
            let target = match self.destinations.get(&topic) {
                Some(&target) => target,
                None => self.create(&topic)?,
            };
            if let Target::Topic(key) = target
                && !topics.contains(&key)
            {
                topics.push(key);
            }
        }
        Ok(topics)
    }

    fn create(&mut self, destination: &Destination) -> Result<Target, Refusal> {
        if self.destinations.len() >= MAX_DESTINATIONS {
            return Err(Refusal::resources(format!(
                "the broker has {MAX_DESTINATIONS} destinations already"
            )));
        }
        let target = if destination.is_queue() {
            Target::Queue(QueueKey(self.queues.insert(Queue::new(destination.clone()))))
        } else {
            Target::Topic(TopicKey(self.topics.insert(Topic::new(destination.clone()))))
        };
        self.destinations.insert(destination.clone(), target);
        Ok(target)
    }

    pub(super) fn destination_info(
        &mut self,
        from: ConnectionKey,
        info: DestinationInfo,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let connection = self.registered(from)?;
        let destination = info
            .destination
            .ok_or_else(|| Refusal::destination("DestinationInfo without a destination"))?;
        check_simple(&destination)?;
        let own = destination
            .name()
            .rsplit_once(':')
            .is_some_and(|(owner, _)| owner == connection.id());
        if destination.is_temporary() && !own {
            return Err(Refusal::destination(format!(
                "{} is not a temporary destination of this connection",
                destination.qualified_name()
            )));
        }
        match info.operation_type {
            DestinationInfo::ADD => {
                if !self.destinations.contains_key(&destination) {
                    self.create(&destination)?;
                    if destination.is_temporary() {
                        self.connections[from.0 as usize]
                            .temporaries
                            .push(destination.clone());
                        self.advise_temporary(from, &destination, true, turn);
                    }
                }
            }
            DestinationInfo::REMOVE => {
                let in_use = match self.destinations.get(&destination) {
                    None => return Ok(Outcome::Done),
                    Some(Target::Queue(queue)) => !self.queues[queue.0].consumers.is_empty(),
                    Some(Target::Topic(topic)) => !self.topics[topic.0].subscribers.is_empty(),
                };
                if in_use {
                    return Err(Refusal::jms(format!(
                        "Destination still has an active subscription: {}",
                        destination.qualified_name()
                    )));
                }
                self.remove_destination(&destination, turn);
                if destination.is_temporary() {
                    self.connections[from.0 as usize]
                        .temporaries
                        .retain(|temporary| *temporary != destination);
                    self.advise_temporary(from, &destination, false, turn);
                }
            }
            other => {
                return Err(Refusal::jms(format!(
                    "no such operation on a destination: {other}"
                )));
            }
        }
        Ok(Outcome::Done)
    }

    /// Removes a destination with all that waits on it. Its consumers, if any, get nothing more.
    pub(super) fn remove_destination(&mut self, destination: &Destination, turn: &mut Turn<'_>) {
        match self.destinations.remove(destination) {
            None => {}
            Some(Target::Topic(key)) => {
                for subscriber in self.topics.remove(key.0).subscribers {
                    if let Some(Source::Topics(topics)) = self
                        .subscriptions
                        .get_mut(subscriber.0)
                        .map(|subscription| &mut subscription.source)
                    {
                        topics.retain(|&topic| topic != key);
                    }
                }
            }
            Some(Target::Queue(key)) => {
                let mut queue = self.queues.remove(key.0);
                for entry in queue.pending.drain(..) {
                    self.uncount(&entry);
                }
                self.drop_orphans(key);
                for batch in &mut self.batches {
                    batch.drop_queue(key);
                }
                if let Some(stored) = queue.key {
                    self.stored_queues.remove(&stored);
                    if queue.created {
                        turn.effects.store([Op::RemoveDestination { key: stored }], None);
                    }
                }
                self.resume_producers(turn);
            }
        }
    }

    /// Open transactions must not bring messages back to a queue that is gone.
    fn drop_orphans(&mut self, queue: QueueKey) {
        let mut freed = 0;
        for (_, connection) in &mut self.connections {
            for transaction in connection.transactions.values_mut() {
                transaction.orphans.retain(|(of, entry)| {
                    if *of == queue && !entry.stored {
                        freed += entry.size as usize;
                    }
                    *of != queue
                });
            }
        }
        self.memory_used -= freed;
    }

    /// The queue's key in the store, given out when something of it is stored first.
    pub(super) fn stored_key(&mut self, queue: QueueKey, turn: &mut Turn<'_>) -> DestinationKey {
        let Queue { key, created, .. } = self.queues[queue.0];
        let key = match key {
            Some(key) if created => return key,
            // The store refused it.
            Some(key) => key,
            None => {
                self.next_destination += 1;
                DestinationKey(self.next_destination - 1)
            }
        };
        let name = self.queues[queue.0].destination.qualified_name().into();
        turn.effects.store([Op::CreateDestination { key, name }], None);
        self.batch(turn).created.push(queue);
        let stored = &mut self.queues[queue.0];
        (stored.key, stored.created) = (Some(key), true);
        self.stored_queues.insert(key, queue);
        key
    }
}

/// Names that stand for several destinations are refused rather than taken literally.
fn check_simple(destination: &Destination) -> Result<(), Refusal> {
    let name = destination.name();
    if name.is_empty() {
        return Err(Refusal::destination("a destination without a name"));
    }
    if name.len() > MAX_NAME {
        return Err(Refusal::destination(format!(
            "a destination name of {} bytes; {MAX_NAME} is the limit",
            name.len()
        )));
    }
    if destination.is_composite() {
        return Err(Refusal::unsupported(&format!(
            "the composite destination {name} is"
        )));
    }
    if is_virtual(destination) {
        return Err(Refusal::unsupported(&format!(
            "the virtual topic destination {name} is"
        )));
    }
    if destination.is_pattern() {
        return Err(Refusal::unsupported(&format!(
            "the wildcard destination {name} is"
        )));
    }
    Ok(())
}

/// True for ActiveMQ's virtual topics and the queues that they feed, by its default names.
fn is_virtual(destination: &Destination) -> bool {
    let name = destination.name();
    match destination.kind() {
        DestinationKind::Topic => name.starts_with("VirtualTopic."),
        DestinationKind::Queue => {
            let mut levels = name.splitn(3, '.').skip(2);
            name.starts_with("Consumer.")
                && levels
                    .next()
                    .is_some_and(|rest| rest.starts_with("VirtualTopic."))
        }
        _ => false,
    }
}

/// A stored queue's destination, from its qualified name.
pub(super) fn from_stored_name(name: &str) -> Destination {
    Destination::parse(name, DestinationKind::Queue)
}
