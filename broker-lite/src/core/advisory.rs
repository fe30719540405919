//! Advisories: the broker tells clients about temporary destinations, without which the Java client does
//! not send to one of another connection.

use std::sync::Arc;

use bytes::BytesMut;
use openwire_client::wire::{
    Command, Destination, DestinationInfo, DestinationKind, Message, MessageId, ProducerId, ValueMap,
    encode_map,
};

use super::destinations::Target;
use super::effect::ConnectionKey;
use super::route::Routes;
use super::subscription::SubscriptionKey;
use super::topic::TopicKey;
use super::{Core, Turn};
use crate::store::accounting_size;

fn topic_of(destination: &Destination) -> Option<Destination> {
    match destination.kind() {
        DestinationKind::TempQueue => Some(Destination::topic("ActiveMQ.Advisory.TempQueue")),
        DestinationKind::TempTopic => Some(Destination::topic("ActiveMQ.Advisory.TempTopic")),
        _ => None,
    }
}

impl Core {
    /// Announces that a temporary destination came or went.
    pub(super) fn advise_temporary(
        &mut self,
        owner: ConnectionKey,
        destination: &Destination,
        added: bool,
        turn: &mut Turn<'_>,
    ) {
        let Some(topic) = topic_of(destination) else {
            return;
        };
        let Some(&Target::Topic(key)) = self.destinations.get(&topic) else {
            // Nobody ever listened.
            return;
        };
        let operation = if added {
            DestinationInfo::ADD
        } else {
            DestinationInfo::REMOVE
        };
        let message = self.temporary_advisory(owner, destination, operation, topic, None);
        self.publish(Routes::One(Target::Topic(key)), message, None, turn);
    }

    /// Tells a new listener what exists already.
    pub(super) fn replay_advisories(
        &mut self,
        key: SubscriptionKey,
        topics: &[TopicKey],
        turn: &mut Turn<'_>,
    ) {
        let names: Vec<_> = topics
            .iter()
            .map(|topic| self.topics[topic.0].destination.clone())
            .collect();
        if !names.iter().any(Destination::is_advisory) {
            return;
        }
        let existing: Vec<_> = self
            .connections
            .iter()
            .flat_map(|(owner, connection)| {
                connection
                    .temporaries
                    .iter()
                    .map(move |temporary| (ConnectionKey(owner as u32), temporary.clone()))
            })
            .collect();
        for (owner, temporary) in existing {
            let Some(topic) = topic_of(&temporary).filter(|topic| names.contains(topic)) else {
                continue;
            };
            let mut message =
                self.temporary_advisory(owner, &temporary, DestinationInfo::ADD, topic, Some(key));
            Arc::make_mut(&mut message).broker_out_time = turn.now;
            let subscription = &mut self.subscriptions[key.0];
            if subscription.sight.sees(&message) {
                self.memory_used += accounting_size(&message) as usize;
                subscription.waiting.push_back(message);
            }
        }
        self.feed(key, turn);
    }

    fn temporary_advisory(
        &mut self,
        owner: ConnectionKey,
        destination: &Destination,
        operation_type: i8,
        topic: Destination,
        target: Option<SubscriptionKey>,
    ) -> Arc<Message> {
        self.advisories += 1;
        let producer_id = ProducerId {
            connection_id: self.config.broker_id.value.clone(),
            value: 0,
            session_id: 0,
        };
        let properties: ValueMap = [
            ("originBrokerName", &*self.config.broker_name),
            (
                "originBrokerId",
                self.config.broker_id.value.as_deref().unwrap_or_default(),
            ),
            ("originBrokerURL", &*self.config.broker_url),
        ]
        .into_iter()
        .collect();
        let mut marshalled = BytesMut::new();
        // Names and URLs of this broker are short, so this cannot fail.
        let marshalled_properties = encode_map(&properties, &mut marshalled)
            .ok()
            .map(|()| marshalled.freeze());
        let info = DestinationInfo {
            connection_id: self.connections[owner.0 as usize]
                .info
                .as_ref()
                .and_then(|info| info.connection_id.clone()),
            destination: Some(destination.clone()),
            operation_type,
            ..DestinationInfo::default()
        };
        Arc::new(Message {
            producer_id: Some(producer_id.clone()),
            message_id: Some(MessageId {
                producer_id: Some(producer_id),
                producer_sequence_id: self.advisories,
                ..MessageId::default()
            }),
            destination: Some(topic),
            message_type: Some("Advisory".into()),
            data_structure: Some(Box::new(Command::from(info))),
            marshalled_properties,
            target_consumer_id: target.map(|key| self.subscriptions[key.0].id.clone()),
            ..Message::default()
        })
    }
}
