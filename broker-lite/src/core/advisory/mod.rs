//! Advisories: messages by which the broker tells of what happens to it, on topics `ActiveMQ.Advisory.…`.
//!
//! `kind` knows the topics, `events` what is told when, `arrivals` what has to be read for that, `replay` what a new
//! listener is told of what is there already. An advisory goes straight to those who listen: no topic is made for it, and
//! nothing is built that nobody would get.

mod arrivals;
mod events;
mod kind;
mod replay;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use openwire_client::wire::{
    Command, ConnectionId, Destination, Message, MessageId, ProducerId, Value, ValueMap, encode_map,
};
use rustc_hash::FxHashMap;

use self::arrivals::Arrivals;
use super::destinations::{Target, parts};
use super::effect::ConnectionKey;
use super::once::Once;
use super::subscription::SubscriptionKey;
use super::wildcards::Wildcard;
use super::{Core, Turn};
use crate::store::accounting_size;
pub use kind::AdvisoryKind;

const KINDS: usize = AdvisoryKind::ALL.len();

/// What the broker tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdvisoryOptions {
    /// `advisorySupport`: there are advisories. Without those of temporary destinations a Java client that watches
    /// them does not send to what another connection made. Default true.
    pub enabled: bool,
    /// `anonymousProducerAdvisorySupport`: producers that name no destination are told of as well. Default false.
    pub anonymous_producers: bool,
}

impl Default for AdvisoryOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            anonymous_producers: false,
        }
    }
}

/// What the core has to know for its advisories.
#[derive(Debug, Default)]
pub(super) struct Advisories {
    /// The last number given to a message of the broker's own.
    last: i64,
    /// How many names of consumers reach each kind.
    listeners: [u32; KINDS],
    /// Topics that consumers named, of advisories about one destination.
    pub(super) topics: usize,
    /// How many producers there are for each destination, whether or not it is there.
    producers: FxHashMap<Destination, usize>,
    arrivals: Arrivals,
    /// Whose command is carried out.
    acting: Option<ConnectionKey>,
    /// There was no room for an advisory, and nothing has shown since that there is.
    dropping: bool,
}

impl Advisories {
    /// The command of a connection is carried out; none is the end of it.
    pub(super) fn act_for(&mut self, connection: Option<ConnectionKey>) {
        self.acting = connection;
    }

    /// The number of the broker's next message.
    pub(super) fn next_number(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    /// A consumer of this comes or leaves.
    fn listen(&mut self, destination: &Destination, comes: bool) {
        if destination.is_queue() {
            return;
        }
        for part in parts(destination).into_iter().flatten() {
            for (listeners, kind) in self.listeners.iter_mut().zip(AdvisoryKind::ALL) {
                if kind.is_reached_by(part.name()) {
                    *listeners = match comes {
                        true => listeners.saturating_add(1),
                        false => listeners.saturating_sub(1),
                    };
                }
            }
        }
    }

    fn count_producer(&mut self, destination: &Destination, comes: bool) {
        if comes {
            *self.producers.entry(destination.clone()).or_default() += 1;
        } else if let Some(count) = self.producers.get_mut(destination) {
            *count -= 1;
            if *count == 0 {
                self.producers.remove(destination);
            }
        }
    }

    /// How many producers name this destination.
    pub(super) fn producers(&self, destination: &Destination) -> usize {
        self.producers.get(destination).copied().unwrap_or(0)
    }
}

/// What an advisory says.
#[derive(Debug, Default)]
struct Advisory {
    data: Option<Command>,
    properties: Vec<(&'static str, Value)>,
}

impl Advisory {
    fn of(data: impl Into<Command>) -> Self {
        Self {
            data: Some(data.into()),
            properties: Vec::new(),
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.properties.push((name, value.into()));
        self
    }
}

/// True if one of the names is that of an advisory topic; there are no advisories about such.
pub(super) fn names_advisories(destination: &Destination) -> bool {
    destination.is_advisory()
        || (destination.is_composite()
            && parts(destination)
                .into_iter()
                .flatten()
                .any(|part| part.is_advisory()))
}

impl Core {
    /// True if there may be somebody to be told of this kind of thing.
    pub(super) fn listens(&self, kind: AdvisoryKind) -> bool {
        self.advisories.listeners[kind as usize] > 0
    }

    /// True if the policies want advisories of this kind about a destination.
    pub(super) fn advises(&self, kind: AdvisoryKind, destination: &Destination) -> bool {
        self.config.advisories.enabled
            && !destination.is_advisory()
            && kind.is_asked_for_by(self.config.rules.policies.for_destination(destination))
    }

    /// Tells those who listen to a topic of this kind.
    fn advise(
        &mut self,
        kind: AdvisoryKind,
        about: Option<&Destination>,
        advisory: Advisory,
        turn: &mut Turn<'_>,
    ) {
        let topic = kind.topic(about);
        let listeners = self.listeners(&topic);
        if listeners.is_empty() {
            return;
        }
        let mut message = self.advisory(topic, advisory);
        message.broker_in_time = turn.now;
        self.post(listeners, message, turn);
    }

    /// Who gets what is sent to an advisory topic.
    fn listeners(&self, topic: &Destination) -> Vec<SubscriptionKey> {
        if let Some(Target::Topic(key)) = self.destinations.get(topic) {
            // Those whose wildcards match it are among them.
            return self.topics[key.0].subscribers.iter().collect();
        }
        let mut listeners = Once::default();
        for who in self.wildcards.matching(topic) {
            if let Wildcard::Consumer(key) = who {
                listeners.add(key);
            }
        }
        listeners.into_list()
    }

    /// Gives a message of the broker's own to subscribers. One that has not taken what it was given before gets none
    /// while the broker has no room: nothing holds the broker back as it does its producers.
    fn post(&mut self, listeners: Vec<SubscriptionKey>, mut message: Message, turn: &mut Turn<'_>) {
        self.sequence += 1;
        if let Some(id) = &mut message.message_id {
            id.broker_sequence_id = self.sequence as i64;
        }
        message.broker_out_time = turn.now;
        let message = Arc::new(message);
        let full = self.memory_used + accounting_size(&message) as usize > self.config.memory_limit;
        self.stats.enqueued += 1;
        for key in listeners {
            if full && !self.subscriptions[key.0].waiting.is_empty() {
                self.drop_advisory(key);
            } else {
                self.post_to(key, &message, turn);
            }
        }
        self.advisories.dropping &= full;
    }

    fn drop_advisory(&mut self, key: SubscriptionKey) {
        self.stats.discarded += 1;
        let subscription = &mut self.subscriptions[key.0];
        subscription.counts.discarded += 1;
        if !std::mem::replace(&mut self.advisories.dropping, true) {
            tracing::warn!(consumer = %subscription.id, limit = self.config.memory_limit,
                "memory limit reached: advisories for slow consumers are dropped");
        }
    }

    fn advisory(&mut self, topic: Destination, advisory: Advisory) -> Message {
        let config = &self.config;
        let origin = [
            ("originBrokerName", &*config.broker_name),
            (
                "originBrokerId",
                config.broker_id.value.as_deref().unwrap_or_default(),
            ),
            ("originBrokerURL", &*config.broker_url),
        ];
        let origin = origin.into_iter().map(|(name, value)| (name, Value::from(value)));
        let properties: ValueMap = advisory.properties.into_iter().chain(origin).collect();
        let (producer_id, message_id) = self.own_ids();
        Message {
            producer_id: Some(producer_id),
            message_id: Some(message_id),
            destination: Some(topic),
            message_type: Some("Advisory".into()),
            data_structure: advisory.data.map(Box::new),
            marshalled_properties: marshalled(&properties),
            ..Message::default()
        }
    }

    /// The ids of the broker's next message.
    pub(super) fn own_ids(&mut self) -> (ProducerId, MessageId) {
        let producer_id = ProducerId {
            connection_id: self.config.broker_id.value.clone(),
            value: 0,
            session_id: 0,
        };
        let message_id = MessageId {
            producer_id: Some(producer_id.clone()),
            producer_sequence_id: self.advisories.next_number(),
            ..MessageId::default()
        };
        (producer_id, message_id)
    }

    /// The connection whose command is carried out.
    pub(super) fn acting_connection(&self) -> Option<ConnectionId> {
        self.connection_id(self.advisories.acting?)
    }

    fn connection_id(&self, key: ConnectionKey) -> Option<ConnectionId> {
        let connection = self.connections.get(key.0 as usize)?;
        connection.info.as_ref()?.connection_id.clone()
    }
}

/// A map as it stands in a message. Nothing here is longer than the format allows: names and ids come from frames.
pub(super) fn marshalled(map: &ValueMap) -> Option<Bytes> {
    let mut out = BytesMut::new();
    match encode_map(map, &mut out) {
        Ok(()) => Some(out.freeze()),
        Err(error) => {
            tracing::error!(%error, "a message of the broker's own has lost its values");
            None
        }
    }
}
