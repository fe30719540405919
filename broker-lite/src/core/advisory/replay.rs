//! A new listener is told of what is there: connections, destinations, producers, consumers.

use std::sync::Arc;

use openwire_client::wire::{ConnectionId, Destination, DestinationInfo};

use super::kind::AdvisoryKind;
use super::{Advisory, names_advisories};
use crate::core::destinations::{Target, parts};
use crate::core::effect::ConnectionKey;
use crate::core::subscription::SubscriptionKey;
use crate::core::{Core, Turn};
use crate::policy::Pattern;
use crate::store::accounting_size;

impl Core {
    /// A consumer of topics comes. If it listens to advisories, it alone is told of what exists already.
    pub(in crate::core) fn begin_listening(
        &mut self,
        key: SubscriptionKey,
        destination: &Destination,
        turn: &mut Turn<'_>,
    ) {
        if !self.config.advisories.enabled {
            return;
        }
        self.advisories.listen(destination, true);
        let names: Vec<_> = parts(destination).into_iter().flatten().collect();
        let reaches = |kind: AdvisoryKind| names.iter().any(|name| kind.is_reached_by(name.name()));
        if reaches(AdvisoryKind::MasterBroker) {
            let to = Listener::new(key, &names, false);
            self.replay(&to, AdvisoryKind::MasterBroker, None, Advisory::default(), turn);
        }
        // As in ActiveMQ, `>` and `ActiveMQ.>` hear what happens but not what was before.
        if names_advisories(destination) {
            let to = Listener::new(key, &names, true);
            if reaches(AdvisoryKind::Connection) {
                self.replay_connections(&to, turn);
            }
            let existence = [
                AdvisoryKind::Queue,
                AdvisoryKind::Topic,
                AdvisoryKind::TempQueue,
                AdvisoryKind::TempTopic,
            ];
            if existence.into_iter().any(reaches) {
                self.replay_destinations(&to, turn);
            }
            if reaches(AdvisoryKind::Producer) {
                self.replay_producers(&to, turn);
            }
            if reaches(AdvisoryKind::Consumer) {
                self.replay_consumers(&to, turn);
            }
        }
        self.feed(key, turn);
    }

    /// A consumer of topics leaves.
    pub(in crate::core) fn end_listening(&mut self, destination: &Destination) {
        if self.config.advisories.enabled {
            self.advisories.listen(destination, false);
        }
    }

    fn replay_connections(&mut self, to: &Listener, turn: &mut Turn<'_>) {
        let keys = self.connections.iter().map(|(key, _)| ConnectionKey(key as u32));
        for key in keys.collect::<Vec<_>>() {
            if let Some(advisory) = self.connection_advisory(key) {
                self.replay(to, AdvisoryKind::Connection, None, advisory, turn);
            }
        }
    }

    fn replay_destinations(&mut self, to: &Listener, turn: &mut Turn<'_>) {
        let mut known: Vec<(Destination, Option<ConnectionId>)> = self
            .destinations
            .iter()
            .filter(|(destination, _)| !destination.is_advisory() && !destination.is_temporary())
            .map(|(destination, target)| {
                let maker = match target {
                    Target::Queue(key) => &self.queues[key.0].made_by,
                    Target::Topic(key) => &self.topics[key.0].made_by,
                };
                (destination.clone(), maker.clone())
            })
            .collect();
        known.sort_unstable_by(|(one, _), (other, _)| one.name().cmp(other.name()));
        for (key, connection) in &self.connections {
            let owner = self.connection_id(ConnectionKey(key as u32));
            let temporaries = connection.temporaries.iter();
            known.extend(temporaries.map(|temporary| (temporary.clone(), owner.clone())));
        }
        for (destination, connection_id) in known {
            let kind = AdvisoryKind::of_existence(&destination);
            let info = DestinationInfo {
                connection_id,
                destination: Some(destination),
                operation_type: DestinationInfo::ADD,
                ..DestinationInfo::default()
            };
            self.replay(to, kind, None, Advisory::of(info), turn);
        }
    }

    fn replay_producers(&mut self, to: &Listener, turn: &mut Turn<'_>) {
        let known: Vec<_> = self
            .connections
            .iter()
            .flat_map(|(_, connection)| connection.producers.values())
            .map(|producer| producer.info.clone())
            .collect();
        for info in known {
            for (about, advisory) in self.producer_advisories(&info) {
                self.replay(to, AdvisoryKind::Producer, about.as_ref(), advisory, turn);
            }
        }
    }

    fn replay_consumers(&mut self, to: &Listener, turn: &mut Turn<'_>) {
        let others = self.subscriptions.iter().map(|(key, _)| SubscriptionKey(key));
        for other in others.filter(|other| *other != to.key).collect::<Vec<_>>() {
            if let Some((about, advisory)) = self.consumer_advisory(other) {
                self.replay(to, AdvisoryKind::Consumer, Some(&about), advisory, turn);
            }
        }
    }

    /// Puts an advisory where the listener's messages wait, if it is on one of its topics.
    fn replay(
        &mut self,
        to: &Listener,
        kind: AdvisoryKind,
        about: Option<&Destination>,
        advisory: Advisory,
        turn: &mut Turn<'_>,
    ) {
        let topic = kind.topic(about);
        if !to.patterns.iter().any(|pattern| pattern.matches(&topic)) {
            return;
        }
        let mut message = self.advisory(topic, advisory);
        (message.broker_in_time, message.broker_out_time) = (turn.now, turn.now);
        let subscription = &mut self.subscriptions[to.key.0];
        if to.addressed {
            message.target_consumer_id = Some(subscription.id.clone());
        }
        if subscription.sight.sees(&message) {
            self.memory_used += accounting_size(&message) as usize;
            subscription.counts.offered += 1;
            subscription.waiting.push_back(Arc::new(message));
        }
    }
}

/// Whom a replay is for.
struct Listener {
    key: SubscriptionKey,
    patterns: Vec<Pattern>,
    /// The messages name it as the one they are for.
    addressed: bool,
}

impl Listener {
    fn new(key: SubscriptionKey, names: &[Destination], addressed: bool) -> Self {
        Self {
            key,
            patterns: names.iter().map(Pattern::from).collect(),
            addressed,
        }
    }
}
