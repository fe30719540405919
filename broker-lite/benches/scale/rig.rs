//! A core with everything around it that answers at once: a client that acknowledges, and a store that remembers
//! nothing but can tell what any message was.

use std::sync::Arc;

use broker_lite::core::{
    AdvisoryOptions, ConnectionKey, Core, CoreConfig, Effect, Effects, OutcomeLimits, Then, UserIds,
};
use broker_lite::store::Recovered;
use bytes::{Bytes, BytesMut};
use openwire_client::wire::*;

/// Commands a turn, as a connection's reader gathers them.
const TURN: usize = 64;

/// One message in so many has a given value of the property `pick`.
pub(crate) const PICKS: i64 = 1000;

/// What the broker does by default with bodies of stored messages.
const RESIDENT: usize = 64 * 1024 * 1024;

/// It does not matter: nothing here depends on time.
const NOW: i64 = 1;

pub(crate) struct Rig {
    core: Core,
    effects: Effects,
    key: ConnectionKey,
    connection: Arc<str>,
    producer: ProducerId,
    stored: bool,
    body: Bytes,
    /// The marshalled properties of a message, by what `pick` is.
    properties: Vec<Bytes>,
    sent: i64,
    consumers: i64,
    /// Commands since the last turn.
    commands: usize,
    acks: Vec<(ConnectionKey, Command)>,
    /// How many more messages are acknowledged.
    pub(crate) to_acknowledge: u64,
    /// Messages that came.
    pub(crate) delivered: u64,
}

impl Rig {
    pub(crate) fn new(stored: bool, body: usize) -> Self {
        let config = CoreConfig {
            broker_name: "bench".into(),
            broker_id: BrokerId {
                value: Some("ID:bench".into()),
            },
            broker_url: "vm://bench".into(),
            stored,
            resident_limit: RESIDENT,
            memory_limit: usize::MAX,
            temp_limit: None,
            outcomes: OutcomeLimits::default(),
            rules: Default::default(),
            authorization: None,
            user_ids: UserIds::default(),
            max_uncommitted: 0,
            advisories: AdvisoryOptions::default(),
            statistics: None,
        };
        let recovered = Recovered {
            next_sequence: 1,
            next_destination: 1,
            ..Recovered::default()
        };
        let connection: Arc<str> = "ID:host-40993-1795385921299-1:1".into();
        let mut rig = Self {
            core: Core::new(0, config, recovered),
            effects: Effects::new(),
            key: ConnectionKey(0),
            producer: ProducerId {
                connection_id: Some(connection.clone()),
                session_id: 1,
                value: 1,
            },
            connection: connection.clone(),
            stored,
            body: Bytes::from(vec![0; body]),
            properties: (0..PICKS).map(properties).collect(),
            sent: 0,
            consumers: 0,
            commands: 0,
            acks: Vec::new(),
            to_acknowledge: u64::MAX,
            delivered: 0,
        };
        rig.key = rig.connect(connection);
        rig
    }

    /// One more connection, with one session.
    pub(crate) fn connect(&mut self, id: Arc<str>) -> ConnectionKey {
        let key = self.core.open("bench", &mut self.effects);
        let info = ConnectionInfo {
            connection_id: Some(ConnectionId::new(id.clone())),
            client_id: Some(id.clone()),
            ..ConnectionInfo::default()
        };
        self.core
            .handle(NOW, key, Box::new(info).into(), &mut self.effects);
        let session = SessionInfo {
            session_id: Some(SessionId {
                connection_id: Some(id),
                value: 1,
            }),
            ..SessionInfo::default()
        };
        self.core.handle(NOW, key, session.into(), &mut self.effects);
        self.turn();
        key
    }

    /// The connection breaks.
    pub(crate) fn break_off(&mut self, key: ConnectionKey) {
        self.core.lost(NOW, key, &mut self.effects);
        self.turn();
    }

    fn handle(&mut self, command: impl Into<Command>) {
        self.core.handle(NOW, self.key, command.into(), &mut self.effects);
    }

    pub(crate) fn consume(
        &mut self,
        from: &Destination,
        prefetch: i32,
        with: impl FnOnce(&mut ConsumerInfo),
    ) -> ConsumerId {
        let connection = self.connection.clone();
        self.consume_on(self.key, connection, from, prefetch, with)
    }

    pub(crate) fn consume_on(
        &mut self,
        key: ConnectionKey,
        connection: Arc<str>,
        from: &Destination,
        prefetch: i32,
        with: impl FnOnce(&mut ConsumerInfo),
    ) -> ConsumerId {
        self.consumers += 1;
        let id = ConsumerId {
            connection_id: Some(connection),
            session_id: 1,
            value: self.consumers,
        };
        let mut info = ConsumerInfo {
            consumer_id: Some(id.clone()),
            destination: Some(from.clone()),
            prefetch_size: prefetch,
            ..ConsumerInfo::default()
        };
        with(&mut info);
        self.core
            .handle(NOW, key, Box::new(info).into(), &mut self.effects);
        self.turn();
        id
    }

    pub(crate) fn set_prefetch(&mut self, consumer: &ConsumerId, prefetch: i32) {
        let control = ConsumerControl {
            consumer_id: Some(consumer.clone()),
            prefetch,
            ..ConsumerControl::default()
        };
        self.handle(control);
        self.turn();
    }

    pub(crate) fn close(&mut self, consumer: ConsumerId) {
        self.handle(RemoveInfo {
            object_id: Some(EntityId::Consumer(consumer)),
            last_delivered_sequence_id: RemoveInfo::NOTHING_DELIVERED,
            ..RemoveInfo::default()
        });
        self.turn();
    }

    pub(crate) fn unsubscribe(&mut self, name: Arc<str>) {
        self.handle(RemoveSubscriptionInfo {
            connection_id: Some(ConnectionId::new(self.connection.clone())),
            subscription_name: Some(name),
            client_id: Some(self.connection.clone()),
            ..RemoveSubscriptionInfo::default()
        });
        self.turn();
    }

    pub(crate) fn send(&mut self, to: &Destination, with: impl FnOnce(&mut Message)) {
        self.sent += 1;
        let mut message = self.message(self.sent);
        message.destination = Some(to.clone());
        with(&mut message);
        self.handle(Arc::new(message));
        self.commands += 1;
        if self.commands == TURN {
            self.turn();
        }
    }

    fn message(&self, number: i64) -> Message {
        Message {
            kind: MessageKind::Bytes,
            producer_id: Some(self.producer.clone()),
            message_id: Some(MessageId {
                producer_id: Some(self.producer.clone()),
                producer_sequence_id: number,
                ..MessageId::default()
            }),
            persistent: self.stored,
            content: Some(self.body.clone()),
            marshalled_properties: Some(self.properties[(number % PICKS) as usize].clone()),
            priority: 4,
            ..Message::default()
        }
    }

    /// Does what the core asks for until it asks for nothing.
    pub(crate) fn turn(&mut self) {
        self.commands = 0;
        while !self.effects.is_empty() || !self.acks.is_empty() {
            let effects: Vec<_> = self.effects.drain().collect();
            for effect in effects {
                match effect {
                    Effect::Send {
                        to,
                        command: Command::MessageDispatch(dispatch),
                    } => self.take(to, &dispatch),
                    Effect::Send {
                        command: Command::ConnectionError(error),
                        ..
                    } => panic!("refused: {error:?}"),
                    Effect::Store { then, .. } => {
                        for then in then {
                            if let Then::Tell(token) = then {
                                self.core.stored(NOW, token, Ok(()), &mut self.effects);
                            }
                        }
                    }
                    Effect::Load { keys } => {
                        let bodies = keys.into_iter().map(|key| {
                            let message = self.message(key.sequence as i64);
                            (key, Some(Arc::new(message)))
                        });
                        let bodies = Ok(bodies.collect());
                        self.core.loaded(NOW, bodies, &mut self.effects);
                    }
                    _ => {}
                }
            }
            for (from, ack) in std::mem::take(&mut self.acks) {
                self.core.handle(NOW, from, ack, &mut self.effects);
            }
        }
    }

    fn take(&mut self, by: ConnectionKey, dispatch: &MessageDispatch) {
        let Some(message) = &dispatch.message else { return };
        self.delivered += 1;
        if self.to_acknowledge == 0 {
            return;
        }
        self.to_acknowledge -= 1;
        let ack = MessageAck {
            destination: dispatch.destination.clone(),
            consumer_id: dispatch.consumer_id.clone(),
            ack_type: MessageAck::INDIVIDUAL,
            first_message_id: message.message_id.clone(),
            last_message_id: message.message_id.clone(),
            message_count: 1,
            ..MessageAck::default()
        };
        self.acks.push((by, Box::new(ack).into()));
    }
}

fn properties(pick: i64) -> Bytes {
    let map: ValueMap = [("pick", pick)].into_iter().collect();
    let mut marshalled = BytesMut::new();
    encode_map(&map, &mut marshalled).expect("a small map");
    marshalled.freeze()
}
