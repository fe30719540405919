//! The registry of destinations: made when first used, temporary ones when their connection says so.

use std::sync::Arc;

use openwire_client::wire::{Destination, DestinationInfo};

use super::effect::ConnectionKey;
use super::once::Once;
use super::queue::{Queue, QueueKey};
use super::refusal::Refusal;
use super::subscription::{Source, SubscriptionKey};
use super::topic::{Topic, TopicKey};
use super::wildcards::Wildcard;
use super::{Core, Outcome, Turn};
use crate::policy::{Pattern, Policy};
use crate::security::Action;
use crate::store::{DestinationKey, Op, StoredDestination, StoredSubscription};

/// A name longer than this has no place in a store's tables.
const MAX_NAME: usize = 4096;

/// How many destinations one name may list.
const MAX_PARTS: usize = 1024;

/// A destination inside the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Queue(QueueKey),
    Topic(TopicKey),
}

impl Core {
    /// The destination a message or producer names.
    pub(super) fn resolve_for_send(
        &mut self,
        destination: &Destination,
        turn: &mut Turn<'_>,
    ) -> Result<Target, Refusal> {
        if let Some(&target) = self.destinations.get(destination) {
            return Ok(target);
        }
        check_name(destination)?;
        if destination.is_temporary() && !self.config.rules.allow_temp_auto_creation_on_send {
            return Err(Refusal::no_such_temporary(&destination.qualified_name()));
        }
        self.create(destination, turn)
    }

    /// The destinations a consumer names: those that are there and those that match later.
    pub(super) fn resolve_for_consumer(
        &mut self,
        from: ConnectionKey,
        destination: &Destination,
        turn: &mut Turn<'_>,
    ) -> Result<Source, Refusal> {
        let mut queues = Once::default();
        let mut topics = Once::default();
        for part in parts(destination)? {
            if part.is_queue() != destination.is_queue() {
                return Err(Refusal::destination(format!(
                    "{destination} names queues and topics; a consumer has one or the other"
                )));
            }
            if part.is_temporary() {
                self.check_owner(from, &part)?;
            }
            for target in self.targets_of(&part, turn)? {
                if part.is_pattern() && !self.may_read(from, target) {
                    continue;
                }
                match target {
                    Target::Queue(queue) => queues.add(queue),
                    Target::Topic(topic) => topics.add(topic),
                }
            }
        }
        Ok(match destination.is_queue() {
            true => Source::Queues(queues.into_list()),
            false => Source::Topics(topics.into_list()),
        })
    }

    /// A wildcard brings in only what its owner may read.
    fn may_read(&mut self, who: ConnectionKey, target: Target) -> bool {
        let destination = match target {
            Target::Queue(key) => self.queues[key.0].destination.clone(),
            Target::Topic(key) => self.topics[key.0].destination.clone(),
        };
        self.authorize(who, Action::Read, &destination).is_ok()
    }

    fn check_owner(&self, from: ConnectionKey, destination: &Destination) -> Result<(), Refusal> {
        let owner = destination.name().rsplit_once(':').map(|(owner, _)| owner);
        if owner == Some(self.connections[from.0 as usize].id())
            || self.policy_of(destination).allow_temp_destination_stealing
        {
            return Ok(());
        }
        Err(Refusal::destination(format!(
            "Cannot use the temporary destination {} of another connection",
            destination.qualified_name()
        )))
    }

    /// What one name stands for: a destination, which is made if it is not there, or all that match.
    pub(super) fn targets_of(
        &mut self,
        destination: &Destination,
        turn: &mut Turn<'_>,
    ) -> Result<Vec<Target>, Refusal> {
        if destination.is_pattern() {
            let pattern = Pattern::from(destination);
            let matching = self
                .destinations
                .iter()
                .filter(|(destination, _)| pattern.matches(destination));
            let mut matching: Vec<_> = matching
                .map(|(name, target)| (name.shared_name(), *target))
                .collect();
            matching.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            return Ok(matching.into_iter().map(|(_, target)| target).collect());
        }
        let mut targets = vec![match self.destinations.get(destination) {
            Some(&target) => target,
            None if destination.is_temporary() => {
                return Err(Refusal::no_such_temporary(&destination.qualified_name()));
            }
            None => self.create(destination, turn)?,
        }];
        // Somebody sent to a wildcard: ActiveMQ takes that literally, and gives it to those it matches as well.
        for literal in &self.literal_patterns {
            if Pattern::from(literal).matches(destination) {
                targets.extend(self.destinations.get(literal));
            }
        }
        Ok(targets)
    }

    /// What holds for a destination.
    pub(super) fn policy_of(&self, destination: &Destination) -> Arc<Policy> {
        self.config.rules.policies.for_destination(destination).clone()
    }

    pub(super) fn add_queue(&mut self, mut queue: Queue) -> QueueKey {
        self.last_queue += 1;
        queue.number = self.last_queue;
        QueueKey(self.queues.insert(queue))
    }

    pub(super) fn create(
        &mut self,
        destination: &Destination,
        turn: &mut Turn<'_>,
    ) -> Result<Target, Refusal> {
        let rules = self.config.rules.clone();
        let most = rules.max_destinations;
        if self.destinations.len() >= most {
            return Err(Refusal::resources(format!(
                "the broker has {most} destinations already"
            )));
        }
        let (pattern, policy) = rules.policies.entry(destination);
        if let (Some(pattern), Some(most)) = (pattern, policy.max_destinations) {
            let held = self
                .destinations
                .keys()
                .filter(|held| pattern.matches(held))
                .count();
            if held >= most as usize {
                return Err(Refusal::resources(format!(
                    "there are {most} destinations {pattern} already"
                )));
            }
        }
        let target = if destination.is_queue() {
            let queue = Queue::new(destination.clone(), policy.clone());
            Target::Queue(self.add_queue(queue))
        } else {
            let mut topic = Topic::new(destination.clone(), policy.clone());
            self.last_queue += 1;
            topic.number = self.last_queue;
            Target::Topic(TopicKey(self.topics.insert(topic)))
        };
        self.destinations.insert(destination.clone(), target);
        self.link(destination, target);
        if destination.is_pattern() {
            self.literal_patterns.push(destination.clone());
        }
        self.join_wildcards(destination, target, turn);
        self.note_creation(destination, target, turn);
        Ok(target)
    }

    /// Consumers and durable subscriptions whose wildcards match a new destination have it as well.
    fn join_wildcards(&mut self, destination: &Destination, target: Target, turn: &mut Turn<'_>) {
        for who in self.wildcards.matching(destination).collect::<Vec<_>>() {
            if let Wildcard::Consumer(key) = who
                && !self.may_read(self.subscriptions[key.0].connection, target)
            {
                continue;
            }
            match (target, who) {
                (Target::Queue(queue), Wildcard::Consumer(key)) => self.join_queue(key, queue, turn),
                (Target::Topic(topic), Wildcard::Consumer(key)) => {
                    // Another of its wildcards may have matched; the topic is new, so that was just now.
                    if let Source::Topics(topics) = &mut self.subscriptions[key.0].source
                        && topics.last() != Some(&topic)
                    {
                        topics.push(topic);
                        self.join_topic(key, topic);
                        self.watch_slow_of(key, Target::Topic(topic), turn.now);
                    }
                }
                (Target::Topic(topic), Wildcard::Durable(queue)) if !destination.is_advisory() => {
                    self.fill_from(queue, topic);
                }
                _ => {}
            }
        }
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
        check_name(&destination)?;
        if destination.is_composite() {
            return Err(Refusal::destination(format!(
                "{destination} names several destinations"
            )));
        }
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
                    self.authorize(from, Action::Create, &destination)?;
                    self.create(&destination, turn)?;
                    if destination.is_temporary() {
                        self.connections[from.0 as usize]
                            .temporaries
                            .push(destination.clone());
                        self.advise_existence(&destination, Some(from), DestinationInfo::ADD, turn);
                    }
                }
            }
            DestinationInfo::REMOVE => {
                self.authorize(from, Action::Remove, &destination)?;
                let in_use = match self.destinations.get(&destination) {
                    None => return Ok(Outcome::Done),
                    Some(Target::Queue(queue)) => self.queues[queue.0].consumers().len() > 0,
                    Some(Target::Topic(topic)) => {
                        let Topic {
                            subscribers,
                            durables,
                            ..
                        } = &self.topics[topic.0];
                        !subscribers.is_empty() || !durables.is_empty()
                    }
                };
                if let Some(Target::Queue(queue)) = self.destinations.get(&destination)
                    && self.is_held(*queue)
                {
                    return Err(Refusal::jms(format!(
                        "{} has messages that a prepared transaction may have to give back",
                        destination.qualified_name()
                    )));
                }
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
                    self.advise_existence(&destination, Some(from), DestinationInfo::REMOVE, turn);
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
        self.literal_patterns.retain(|literal| literal != destination);
        match self.destinations.remove(destination) {
            None => return,
            Some(Target::Topic(key)) => {
                let topic = self.topics.remove(key.0);
                self.drop_deferred(key, &topic);
                self.drop_kept(&topic, turn);
                for queue in topic.durables.iter() {
                    if let Some(durable) = &mut self.queues[queue.0].durable {
                        durable.topics.retain(|&of| of != key);
                    }
                }
                for subscriber in topic.subscribers.iter() {
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
                self.unlink(destination);
                self.remove_queue(key, turn);
            }
        }
        self.note_removal(destination, turn);
    }

    /// Removes a queue, or what waits for a durable subscription.
    pub(super) fn remove_queue(&mut self, key: QueueKey, turn: &mut Turn<'_>) {
        let mut queue = self.queues.remove(key.0);
        for entry in queue.backlog.drain() {
            self.uncount(key, &entry);
            if entry.stored && entry.body.is_some() {
                self.resident_used -= entry.size as usize;
            }
        }
        for consumer in queue.consumers() {
            self.leave_queue(consumer, key);
        }
        for browser in queue.browsers {
            self.leave_queue(browser, key);
        }
        self.drop_taken(key);
        self.given_up.retain(|_, given| given.queue != key);
        for batch in &mut self.batches {
            batch.drop_queue(key);
        }
        self.forget_spooled(&queue.spool, turn);
        if let Some(stored) = queue.key {
            self.stored_queues.remove(&stored);
            if queue.created {
                self.remove_stored(stored, turn);
            }
        }
        self.resume_producers(turn);
    }

    /// The queue is gone: a consumer that had it has it no more, nor what it had of it.
    fn leave_queue(&mut self, consumer: SubscriptionKey, queue: QueueKey) {
        let Some(subscription) = self.subscriptions.get_mut(consumer.0) else {
            return;
        };
        if let Source::Queues(queues) = &mut subscription.source {
            queues.retain(|&of| of != queue);
        }
        subscription.starved.retain(|&of| of != queue);
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut subscription.in_flight)
            .into_iter()
            .partition(|message| message.queue == queue);
        subscription.in_flight = kept.into();
        subscription.extension = subscription.extension.saturating_sub(gone.len());
        if subscription.browse.is_none() {
            for message in &gone {
                self.uncount(queue, &message.entry);
            }
        }
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
        let destination = match &self.queues[queue.0].durable {
            None => StoredDestination::Queue(name),
            Some(durable) => StoredDestination::Subscription(Arc::new(StoredSubscription {
                client_id: durable.client_id.clone(),
                name: durable.name.clone(),
                destination: name,
                selector: durable
                    .sight
                    .selector
                    .as_ref()
                    .map(|selector| selector.as_str().into()),
                no_local: durable.no_local,
            })),
        };
        turn.effects
            .store([Op::CreateDestination { key, destination }], None);
        self.batch(turn).created.push(queue);
        let stored = &mut self.queues[queue.0];
        (stored.key, stored.created) = (Some(key), true);
        self.stored_queues.insert(key, queue);
        key
    }
}

/// The destinations that a name lists: `A,topic://B` are two.
pub(super) fn parts(destination: &Destination) -> Result<Vec<Destination>, Refusal> {
    if !destination.is_composite() {
        check_name(destination)?;
        return Ok(vec![destination.clone()]);
    }
    let mut parts = Vec::new();
    for name in destination.name().split(',').map(str::trim) {
        if name.is_empty() {
            continue;
        }
        let part = Destination::parse(name, destination.kind());
        check_name(&part)?;
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    if parts.is_empty() || parts.len() > MAX_PARTS {
        return Err(Refusal::destination(format!(
            "{destination} names {} destinations; 1 to {MAX_PARTS} are possible",
            parts.len()
        )));
    }
    Ok(parts)
}

fn check_name(destination: &Destination) -> Result<(), Refusal> {
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
    Ok(())
}
