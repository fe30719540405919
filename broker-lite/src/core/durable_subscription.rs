//! Durable subscriptions: what a topic's messages wait in for a client that may be away.
//!
//! What waits for one is a queue of its own, which is filled by topics and has one consumer at a time. So its messages
//! are stored, flagged, acknowledged in transactions and dead-lettered as those of any queue.

use std::sync::Arc;

use openwire_client::wire::{ConsumerInfo, Destination, Message, RemoveInfo, RemoveSubscriptionInfo};

use super::destinations::{Target, parts};
use super::effect::{ConnectionKey, Then};
use super::expiry::millis;
use super::queue::{Queue, QueueKey};
use super::refusal::Refusal;
use super::subscription::{Sight, Subscription};
use super::timer::Alarm;
use super::topic::TopicKey;
use super::wildcards::Wildcard;
use super::{Core, Outcome, Turn};
use crate::store::StoreError;

/// The client id and the name of a subscription.
pub(super) type DurableName = (Arc<str>, Arc<str>);

/// The longest name of a subscription, and the longest client id that can have one, in bytes: they stand in the store.
const MAX_NAME: usize = 4096;

/// What the broker knows of a durable subscription.
#[derive(Debug)]
pub(super) struct DurableSubscription {
    pub(super) client_id: Arc<str>,
    pub(super) name: Arc<str>,
    /// The topic; it can be a wildcard or list several.
    pub(super) destination: Destination,
    pub(super) no_local: bool,
    /// The topics there are that fill what waits for it.
    pub(super) topics: Vec<TopicKey>,
    /// What it wants of what arrives, besides `noLocal`.
    pub(super) sight: Sight,
    /// Somebody consumes from it.
    pub(super) active: bool,
    /// Since when nobody has, in milliseconds since 1970.
    pub(super) absent_since: i64,
    /// What topics had kept and its consumer got when it came last.
    pub(super) recalled: Vec<u64>,
}

impl DurableSubscription {
    fn is_as_wanted(&self, info: &ConsumerInfo, sight: &Sight) -> bool {
        let selector = |sight: &Sight| {
            sight
                .selector
                .as_ref()
                .map(|selector| selector.as_str().to_owned())
        };
        info.destination.as_ref() == Some(&self.destination)
            && info.no_local == self.no_local
            && selector(&self.sight) == selector(sight)
    }
}

impl Core {
    /// The subscription a consumer asks for: the one that is there, or a new one if there is none or it was another.
    pub(super) fn activate(
        &mut self,
        from: ConnectionKey,
        info: &ConsumerInfo,
        sight: &Sight,
        turn: &mut Turn<'_>,
    ) -> Result<QueueKey, Refusal> {
        if self.config.rules.reject_durable_consumers {
            return Err(Refusal::jms("Durable Consumers are not allowed"));
        }
        let id = self.durable_name(from, info.subscription_name.clone())?;
        let destination = info.destination.clone().unwrap_or_else(|| Destination::topic(""));
        if !destination.is_topic() || parts(&destination)?.iter().any(Destination::is_temporary) {
            return Err(Refusal::destination(format!(
                "{destination} cannot have durable subscriptions"
            )));
        }
        if destination.is_advisory() {
            return Err(Refusal::destination(
                "Cannot create a durable subscription for an advisory Topic",
            ));
        }
        if let Some(&key) = self.durables.get(&id)
            && let Some(durable) = &mut self.queues[key.0].durable
        {
            if durable.active {
                return Err(in_use(&id));
            }
            if durable.is_as_wanted(info, sight) {
                durable.active = true;
                durable.sight = sight.clone();
                return Ok(key);
            }
            // As in ActiveMQ, what waited for the other one is gone.
            self.remove_durable(&id, turn);
        }
        let durable = DurableSubscription {
            client_id: id.0.clone(),
            name: id.1.clone(),
            destination: destination.clone(),
            no_local: info.no_local,
            topics: Vec::new(),
            sight: sight.clone(),
            active: true,
            absent_since: turn.now,
            recalled: Vec::new(),
        };
        let mut queue = Queue::new(destination.clone(), self.policy_of(&destination));
        queue.durable = Some(Box::new(durable));
        let key = self.add_queue(queue);
        self.durables.insert(id.clone(), key);
        if let Err(refusal) = self.attach(key, &destination, turn) {
            self.remove_durable(&id, turn);
            return Err(refusal);
        }
        if self.config.stored {
            self.stored_key(key, turn);
        }
        Ok(key)
    }

    /// Answers a client that asked for a subscription. A refusal is told by the core itself, after the subscription is
    /// gone: the client may ask again at once.
    pub(super) fn confirm_subscription(&mut self, reply: Option<Then>, turn: &mut Turn<'_>) -> Outcome {
        match reply {
            Some(Then::Reply { to, response }) if turn.effects.has_store() => {
                self.batch(turn).undecided.wait(to, response);
                Outcome::Answered
            }
            reply => turn.confirm(reply),
        }
    }

    /// The store refused to take these in: those that are subscriptions were never there, and their consumers are gone.
    pub(super) fn refuse_subscriptions(
        &mut self,
        created: &[QueueKey],
        why: &StoreError,
        turn: &mut Turn<'_>,
    ) {
        for key in created {
            let Some(queue) = self.queues.get(key.0) else {
                continue;
            };
            let Some(durable) = &queue.durable else { continue };
            let id = (durable.client_id.clone(), durable.name.clone());
            for consumer in queue.consumers().collect::<Vec<_>>() {
                let Subscription { connection, info, .. } = &self.subscriptions[consumer.0];
                if !info.response_required {
                    self.report(*connection, &Refusal::resources(why.to_string()), turn);
                }
                self.remove_consumer(consumer, RemoveInfo::UNKNOWN_DELIVERED, turn);
            }
            self.remove_durable(&id, turn);
        }
    }

    /// Has the topics fill what waits for a subscription.
    pub(super) fn attach(
        &mut self,
        key: QueueKey,
        destination: &Destination,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        self.wildcards.watch(destination, Wildcard::Durable(key));
        for part in parts(destination)? {
            for target in self.targets_of(&part, turn)? {
                if let Target::Topic(topic) = target
                    && !self.topics[topic.0].destination.is_advisory()
                {
                    self.fill_from(key, topic);
                }
            }
        }
        Ok(())
    }

    /// What is sent to a topic waits for a subscription from here on.
    pub(super) fn fill_from(&mut self, key: QueueKey, topic: TopicKey) {
        if let Some(durable) = &mut self.queues[key.0].durable
            && Arc::make_mut(&mut self.topics[topic.0].durables).insert(key)
        {
            durable.topics.push(topic);
        }
    }

    /// True if a subscription wants a message. `noLocal` keeps out what its client sends, over whichever connection, and
    /// whether or not anybody consumes: the client id is known in any case, after a restart as well, as JMS 2.0 has
    /// it. (ActiveMQ goes by the connection of the last consumer, which a restart forgets.)
    pub(super) fn is_for_subscription(&self, durable: &DurableSubscription, message: &Message) -> bool {
        durable.sight.sees(message) && !(durable.no_local && self.is_sent_by(&durable.client_id, message))
    }

    /// True if a client that is connected with this client id has sent the message.
    fn is_sent_by(&self, client_id: &str, message: &Message) -> bool {
        let id = message.message_id.as_ref();
        let connection = id.and_then(|id| id.producer_id.as_ref()?.connection_id.as_deref());
        let connection = connection.and_then(|id| self.connection_ids.get(id));
        let info = connection.and_then(|key| self.connections[key.0 as usize].info.as_ref());
        info.is_some_and(|info| info.client_id.as_deref() == Some(client_id))
    }

    /// A client ends a subscription for good (JMS `unsubscribe`).
    pub(super) fn remove_subscription(
        &mut self,
        from: ConnectionKey,
        info: &RemoveSubscriptionInfo,
        reply: Option<Then>,
        turn: &mut Turn<'_>,
    ) -> Result<Outcome, Refusal> {
        let mut id = self.durable_name(from, info.subscription_name.clone())?;
        if let Some(client_id) = &info.client_id {
            id.0 = client_id.clone();
        }
        let key = *self.durables.get(&id).ok_or_else(|| {
            Refusal::destination(format!(
                "No durable subscription exists for clientID: {} and subscriptionName: {}",
                id.0, id.1
            ))
        })?;
        if self.queues[key.0]
            .durable
            .as_ref()
            .is_some_and(|durable| durable.active)
        {
            return Err(in_use(&id));
        }
        if self.is_held(key) {
            return Err(Refusal::jms(format!(
                "subscription {} has messages that a prepared transaction may have to give back",
                id.1
            )));
        }
        let destination = self.queues[key.0].destination.clone();
        self.remove_durable(&id, turn);
        self.advise_unsubscription(&destination, info, turn);
        Ok(turn.confirm(reply))
    }

    pub(super) fn remove_durable(&mut self, id: &DurableName, turn: &mut Turn<'_>) {
        let Some(key) = self.durables.remove(id) else {
            return;
        };
        self.wildcards.unwatch(Wildcard::Durable(key));
        let durable = self.queues[key.0].durable.as_mut();
        for topic in durable
            .map(|durable| std::mem::take(&mut durable.topics))
            .unwrap_or_default()
        {
            Arc::make_mut(&mut self.topics[topic.0].durables).remove(&key);
        }
        self.remove_queue(key, turn);
    }

    /// It will be looked for subscriptions that have been away for too long.
    pub(super) fn watch_absent(&mut self, now: i64) {
        let rules = &self.config.rules;
        if rules.offline_durable_subscriber_timeout.is_some() {
            let after = millis(rules.offline_durable_subscriber_task_schedule).max(1);
            self.alarms.set(now.saturating_add(after), Alarm::Absent);
        }
    }

    /// Removes subscriptions that have been away for too long (`offlineDurableSubscriberTimeout`).
    pub(super) fn remove_absent(&mut self, turn: &mut Turn<'_>) {
        let Some(timeout) = self.config.rules.offline_durable_subscriber_timeout else {
            return;
        };
        let since = turn.now.saturating_sub(millis(timeout));
        let durables = self.durables.iter().filter(|(_, queue)| {
            let durable = self.queues[queue.0].durable.as_ref();
            durable.is_some_and(|durable| !durable.active && durable.absent_since <= since)
        });
        for id in durables.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            tracing::info!(client = %id.0, name = %id.1, "a durable subscription was away for too long: it is removed");
            self.remove_durable(&id, turn);
        }
        self.watch_absent(turn.now);
    }

    fn durable_name(&self, from: ConnectionKey, name: Option<Arc<str>>) -> Result<DurableName, Refusal> {
        let info = self.connections[from.0 as usize].info.as_ref();
        let client_id = info.and_then(|info| info.client_id.clone()).unwrap_or_default();
        let name = name.unwrap_or_default();
        if name.is_empty() || name.len() > MAX_NAME || client_id.len() > MAX_NAME {
            return Err(Refusal::jms(format!(
                "the name of a durable subscription, and the client id, have 1 to {MAX_NAME} bytes"
            )));
        }
        Ok((client_id, name))
    }
}

fn in_use((client, name): &DurableName) -> Refusal {
    Refusal::jms(format!(
        "Durable consumer is in use for client: {client} and subscriptionName: {name}"
    ))
}
