//! A core with clients and a store that are played by the test.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use openwire_client::wire::*;

use crate::core::{
    AdvisoryOptions, ConnectionKey, Core, CoreConfig, Effect, Effects, OutcomeLimits, Stats, StoreToken,
    Then, UserIds, not_stored,
};
use crate::store::{
    Committed, DestinationKey, MessageKey, Op, Prepared, Recovered, RecoveredDestination, RecoveredMessage,
    StoreError, StoredDestination, accounting_size,
};

pub(super) struct Rig {
    pub(super) core: Core,
    pub(super) now: i64,
    effects: Effects,
    /// What each client was sent and has not looked at.
    inbox: HashMap<ConnectionKey, Vec<Command>>,
    pub(super) closed: Vec<ConnectionKey>,
    pub(super) paused: Vec<ConnectionKey>,
    /// The store holds back what waits for durability until told to let go.
    pub(super) slow_store: bool,
    /// The store refuses what it is given.
    pub(super) refusing: bool,
    /// What waits for the store, and whether it was refused.
    waiting: Vec<(Then, bool)>,
    loads: Vec<Vec<MessageKey>>,
    pub(super) temp: Temp,
    stored: BTreeMap<MessageKey, (Arc<Message>, u32)>,
    names: BTreeMap<DestinationKey, (StoredDestination, u64)>,
    prepared: BTreeMap<DestinationKey, Arc<Prepared>>,
    due: BTreeMap<MessageKey, (i64, u32)>,
    committed: Vec<Committed>,
    forgotten: i64,
    pub(super) next_client: u32,
}

/// A temporary store.
#[derive(Default)]
pub(super) struct Temp {
    pub(super) messages: BTreeMap<MessageKey, Arc<Message>>,
    pub(super) destinations: Vec<DestinationKey>,
    /// It tells what became of what it was given only once this is false again.
    pub(super) slow: bool,
    pub(super) refusing: bool,
    /// What it has not told of yet.
    told: Vec<(StoreToken, Result<(), StoreError>)>,
    loads: Vec<Vec<MessageKey>>,
}

impl Temp {
    fn append(&mut self, ops: Vec<Op>, token: StoreToken) {
        let unknown = |key: &MessageKey, created: &[DestinationKey]| {
            !created.contains(&key.destination) && !self.destinations.contains(&key.destination)
        };
        let mut created = Vec::new();
        let mut fits = true;
        for op in &ops {
            match op {
                Op::CreateDestination { key, .. } => created.push(*key),
                Op::Put { key, .. } if self.refusing || unknown(key, &created) => fits = false,
                _ => {}
            }
        }
        if !fits {
            return self.told.push((token, Err(StoreError::Full("no space".into()))));
        }
        self.told.push((token, Ok(())));
        for op in ops {
            match op {
                Op::CreateDestination { key, .. } => self.destinations.push(key),
                Op::RemoveDestination { key } => {
                    self.destinations.retain(|&destination| destination != key);
                    self.messages.retain(|message, _| message.destination != key);
                }
                Op::Put { key, message } => drop(self.messages.insert(key, message)),
                Op::Remove { key } => drop(self.messages.remove(&key)),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A client's connection with one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Client {
    pub(super) key: ConnectionKey,
    pub(super) number: u32,
}

impl Client {
    pub(super) fn id(self) -> String {
        format!("ID:client-{}", self.number)
    }

    pub(super) fn consumer(self, value: i64) -> ConsumerId {
        ConsumerId {
            connection_id: Some(self.id().into()),
            session_id: 1,
            value,
        }
    }

    pub(super) fn producer(self) -> ProducerId {
        ProducerId {
            connection_id: Some(self.id().into()),
            session_id: 1,
            value: 1,
        }
    }

    pub(super) fn transaction(self, value: i64) -> TransactionId {
        let connection_id = Some(ConnectionId::new(self.id()));
        TransactionId::Local(LocalTransactionId { value, connection_id })
    }
}

const NOW: i64 = 1_700_000_000_000;

pub(super) const QUEUE: &str = "Q";

impl Rig {
    pub(super) fn new(stored: bool) -> Self {
        Self::with_config(stored, usize::MAX, usize::MAX)
    }

    pub(super) fn with_config(stored: bool, resident_limit: usize, memory_limit: usize) -> Self {
        Self::with(stored, |config| {
            config.resident_limit = resident_limit;
            config.memory_limit = memory_limit;
        })
    }

    pub(super) fn with(stored: bool, change: impl FnOnce(&mut CoreConfig)) -> Self {
        let mut config = CoreConfig {
            broker_name: "test".into(),
            broker_id: BrokerId {
                value: Some("ID:test".into()),
            },
            broker_url: "vm://test".into(),
            stored,
            resident_limit: usize::MAX,
            memory_limit: usize::MAX,
            temp_limit: None,
            outcomes: OutcomeLimits::default(),
            rules: Arc::default(),
            authorization: None,
            user_ids: UserIds::default(),
            max_uncommitted: 0,
            advisories: AdvisoryOptions::default(),
            statistics: None,
        };
        change(&mut config);
        Self {
            core: Core::new(
                NOW,
                config,
                Recovered {
                    identity: "test".into(),
                    next_sequence: 1,
                    next_destination: 1,
                    ..Recovered::default()
                },
            ),
            now: NOW,
            effects: Effects::new(),
            inbox: HashMap::new(),
            closed: Vec::new(),
            paused: Vec::new(),
            slow_store: false,
            refusing: false,
            waiting: Vec::new(),
            loads: Vec::new(),
            temp: Temp::default(),
            stored: BTreeMap::new(),
            names: BTreeMap::new(),
            prepared: BTreeMap::new(),
            due: BTreeMap::new(),
            committed: Vec::new(),
            forgotten: 0,
            next_client: 0,
        }
    }

    /// A core that starts on what this one has stored.
    pub(super) fn restart(mut self, clean: bool) -> Self {
        let prepared = &self.prepared;
        self.names.retain(|key, (destination, _)| {
            *destination != StoredDestination::Transaction || prepared.contains_key(key)
        });
        let names = &self.names;
        self.stored.retain(|key, _| names.contains_key(&key.destination));
        let destinations = self
            .names
            .iter()
            .map(|(&key, (destination, dispatched))| RecoveredDestination {
                key,
                destination: destination.clone(),
                dispatched: *dispatched,
                due: self
                    .due
                    .iter()
                    .filter(|(message, _)| message.destination == key)
                    .map(|(message, (at, times))| (message.sequence, *at, *times))
                    .collect(),
                prepared: self.prepared.get(&key).cloned(),
                messages: self
                    .stored
                    .iter()
                    .filter(|(message, _)| message.destination == key)
                    .map(|(message, (body, redelivered))| RecoveredMessage {
                        sequence: message.sequence,
                        size: accounting_size(body),
                        redelivered: *redelivered,
                        priority: body.priority as u8,
                    })
                    .collect(),
                expiring: self
                    .stored
                    .iter()
                    .filter(|(message, (body, _))| message.destination == key && body.expiration > 0)
                    .map(|(message, (body, _))| (message.sequence, body.expiration))
                    .collect(),
            });
        let recovered = Recovered {
            clean,
            destinations: destinations.collect(),
            next_sequence: self.stored.keys().map(|key| key.sequence).max().unwrap_or(0) + 1,
            next_destination: self.names.keys().map(|key| key.0).max().unwrap_or(0) + 1,
            producers: Vec::new(),
            identity: "test".into(),
            committed: self.committed.clone(),
            forgotten: self.forgotten,
        };
        Self {
            core: Core::new(self.now, self.core.config.clone(), recovered),
            now: self.now,
            stored: self.stored,
            names: self.names,
            prepared: self.prepared,
            due: self.due,
            committed: self.committed,
            forgotten: self.forgotten,
            ..Self::new(true)
        }
    }

    fn settle(&mut self) {
        loop {
            for effect in self.effects.drain().collect::<Vec<_>>() {
                match effect {
                    Effect::Send { to, command } => self.inbox.entry(to).or_default().push(command),
                    Effect::Store { batch, then } => {
                        let refused = self.refusing && !batch.ops.is_empty() || !self.fits(&batch.ops);
                        if !refused {
                            batch.ops.into_iter().for_each(|op| self.apply(op));
                        }
                        self.waiting.extend(then.into_iter().map(|then| (then, refused)));
                    }
                    Effect::Load { keys } => self.loads.push(keys),
                    Effect::Spool { batch, token } => self.temp.append(batch.ops, token),
                    Effect::LoadSpooled { keys } => self.temp.loads.push(keys),
                    Effect::Close { connection, .. } => self.closed.push(connection),
                    Effect::Pause { connection } => self.paused.push(connection),
                    Effect::Resume { connection } => self.paused.retain(|&paused| paused != connection),
                }
            }
            let main = !(self.slow_store || self.waiting.is_empty() && self.loads.is_empty());
            let temp = !(self.temp.slow || self.temp.told.is_empty() && self.temp.loads.is_empty());
            if !main && !temp {
                return;
            }
            if main {
                self.finish_store();
            }
            if temp {
                self.finish_temp();
            }
        }
    }

    /// The store has caught up: what waited for it happens.
    pub(super) fn release(&mut self) {
        self.slow_store = false;
        self.settle();
    }

    /// The disk has space again, and what the core held back because it had none goes on.
    pub(super) fn make_space(&mut self) {
        self.refusing = false;
        self.now += 1000;
        self.tick();
    }

    /// A store refuses messages for destinations that it does not know.
    fn fits(&self, ops: &[Op]) -> bool {
        let mut created = Vec::new();
        ops.iter().all(|op| {
            match op {
                Op::CreateDestination { key, .. } => created.push(*key),
                Op::Put { key, .. } | Op::Share { key, .. } | Op::Move { to: key, .. } => {
                    return created.contains(&key.destination) || self.names.contains_key(&key.destination);
                }
                _ => {}
            }
            true
        })
    }

    /// The store fails: nobody knows what it has.
    pub(super) fn fail_waiting(&mut self) {
        for (then, _) in std::mem::take(&mut self.waiting) {
            if let Then::Tell(token) = then {
                let failed = Err(StoreError::Poisoned("a write failed".into()));
                self.core.stored(self.now, token, failed, &mut self.effects);
            }
        }
        self.settle();
    }

    fn finish_store(&mut self) {
        for (then, refused) in std::mem::take(&mut self.waiting) {
            let full = StoreError::Full("no space".into());
            match then {
                Then::Reply { to, response } => {
                    let command = match refused {
                        true => not_stored(&response, &full),
                        false => response,
                    };
                    self.inbox.entry(to).or_default().push(command);
                }
                Then::Tell(token) => {
                    let result = if refused { Err(full) } else { Ok(()) };
                    self.core.stored(self.now, token, result, &mut self.effects);
                }
            }
        }
        for keys in std::mem::take(&mut self.loads) {
            let found = keys
                .into_iter()
                .map(|key| (key, self.stored.get(&key).map(|(message, _)| message.clone())));
            let found = found.collect();
            self.core.loaded(self.now, Ok(found), &mut self.effects);
        }
    }

    fn finish_temp(&mut self) {
        for (token, result) in std::mem::take(&mut self.temp.told) {
            self.core.spooled(self.now, token, result, &mut self.effects);
        }
        for keys in std::mem::take(&mut self.temp.loads) {
            let found = keys
                .into_iter()
                .map(|key| (key, self.temp.messages.get(&key).cloned()));
            let found = found.collect();
            self.core.loaded(self.now, Ok(found), &mut self.effects);
        }
    }

    /// The temporary store has caught up.
    pub(super) fn release_temp(&mut self) {
        self.temp.slow = false;
        self.settle();
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::CreateDestination { key, destination } => {
                assert!(
                    self.names.insert(key, (destination, 0)).is_none(),
                    "a key is given out once"
                );
            }
            Op::RemoveDestination { key } => {
                self.names.remove(&key);
                self.prepared.remove(&key);
                self.due.retain(|message, _| message.destination != key);
                self.stored.retain(|message, _| message.destination != key);
            }
            Op::Put { key, message } => {
                let redelivered = message.redelivery_counter.max(0) as u32;
                assert!(
                    self.stored.insert(key, (message, redelivered)).is_none(),
                    "a message is stored once"
                );
            }
            Op::Remove { key } => {
                self.due.remove(&key);
                let is_scheduled = self.names[&key.destination].0 == StoredDestination::Schedule;
                let removed = self.stored.remove(&key).is_some();
                // One that is being delivered may be removed by a client at the same time.
                assert!(removed || is_scheduled, "a message is removed once");
            }
            Op::Share { key, of } => {
                let message = self.stored[&of].0.clone();
                assert!(
                    self.stored.insert(key, (message, 0)).is_none(),
                    "a message is shared once"
                );
            }
            Op::Move { from, to } => {
                let message = self.stored.remove(&from).expect("what is moved is there");
                self.due.remove(&from);
                assert!(self.stored.insert(to, message).is_none(), "a place is used once");
            }
            Op::Prepare {
                destination,
                prepared,
            } => {
                self.prepared.insert(destination, prepared);
            }
            Op::Due { key, at, times } => {
                self.due.insert(key, (at, times));
            }
            Op::Redelivered { key, count } => {
                if let Some((_, redelivered)) = self.stored.get_mut(&key) {
                    *redelivered = count;
                }
            }
            Op::Dispatched {
                destination,
                sequence,
            } => {
                if let Some((_, dispatched)) = self.names.get_mut(&destination) {
                    *dispatched = sequence;
                }
            }
            Op::Committed { outcome, forgotten } => {
                assert!(self.committed.last().is_none_or(|last| last.at <= outcome.at));
                self.committed.push(outcome);
                self.committed.retain(|outcome| outcome.at > forgotten);
                self.forgotten = self.forgotten.max(forgotten);
            }
        }
    }

    pub(super) fn stored(&self) -> usize {
        self.stored.len()
    }

    pub(super) fn stats(&self) -> Stats {
        self.core.stats()
    }

    pub(super) fn resident(&self) -> usize {
        self.core.resident_used
    }

    pub(super) fn depth(&self) -> usize {
        self.core.queue_depth(&Destination::queue(QUEUE)).unwrap_or(0)
    }

    pub(super) fn tick(&mut self) {
        self.core.tick(self.now, &mut self.effects);
        self.settle();
    }

    pub(super) fn say(&mut self, client: Client, command: impl Into<Command>) {
        self.core
            .handle(self.now, client.key, command.into(), &mut self.effects);
        self.settle();
    }

    /// Sends a request and gives back its answer.
    pub(super) fn ask(&mut self, client: Client, command: impl Into<Command>) -> Result<(), String> {
        self.request(client, command);
        self.answer(client).expect("an answer")
    }

    /// The answer to a request as it is, if it came.
    pub(super) fn raw_answer(&mut self, client: Client) -> Option<Command> {
        let inbox = self.inbox.entry(client.key).or_default();
        let at = inbox
            .iter()
            .position(|command| command.correlation_id().is_some())?;
        Some(inbox.remove(at))
    }

    /// Sends a request.
    pub(super) fn request(&mut self, client: Client, command: impl Into<Command>) {
        let mut command = command.into();
        command.set_header(77, true);
        let stale = self.raw_answer(client);
        assert!(stale.is_none(), "nobody asked for {stale:?}");
        self.say(client, command);
    }

    /// The answer to a request, if it came.
    pub(super) fn answer(&mut self, client: Client) -> Option<Result<(), String>> {
        Some(match self.raw_answer(client)? {
            Command::ExceptionResponse(response) => Err(response
                .exception
                .as_ref()
                .map(|e| e.simple_class().to_owned())
                .unwrap_or_default()),
            _ => Ok(()),
        })
    }

    pub(super) fn socket(&mut self) -> ConnectionKey {
        let key = self.core.open("test", &mut self.effects);
        self.settle();
        self.inbox.insert(key, Vec::new());
        key
    }

    pub(super) fn introduce(&mut self, client: Client, reconnect: bool) -> Result<(), String> {
        let info = ConnectionInfo {
            connection_id: Some(ConnectionId::new(client.id())),
            client_id: Some(client.id().into()),
            failover_reconnect: reconnect,
            ..ConnectionInfo::default()
        };
        self.ask(client, Box::new(info))?;
        let session_id = Some(SessionId {
            connection_id: Some(client.id().into()),
            value: 1,
        });
        self.say(
            client,
            SessionInfo {
                session_id,
                ..SessionInfo::default()
            },
        );
        self.ask(
            client,
            ProducerInfo {
                producer_id: Some(client.producer()),
                ..ProducerInfo::default()
            },
        )
    }

    pub(super) fn connect(&mut self) -> Client {
        self.next_client += 1;
        let client = Client {
            key: self.socket(),
            number: self.next_client,
        };
        self.introduce(client, false).expect("connects");
        client
    }

    /// The same client on a new socket.
    pub(super) fn reconnect(&mut self, client: Client) -> Client {
        let client = Client {
            key: self.socket(),
            number: client.number,
        };
        self.introduce(client, true).expect("reconnects");
        client
    }

    pub(super) fn lose(&mut self, client: Client) {
        self.core.lost(self.now, client.key, &mut self.effects);
        self.settle();
    }

    pub(super) fn consume(&mut self, client: Client, consumer: i64, prefetch: i32) {
        self.consume_from(client, consumer, prefetch, Destination::queue(QUEUE))
            .expect("a consumer");
    }

    pub(super) fn consume_from(
        &mut self,
        client: Client,
        consumer: i64,
        prefetch_size: i32,
        from: Destination,
    ) -> Result<(), String> {
        let info = ConsumerInfo {
            consumer_id: Some(client.consumer(consumer)),
            destination: Some(from),
            prefetch_size,
            ..ConsumerInfo::default()
        };
        self.ask(client, Box::new(info))
    }

    pub(super) fn stop_consuming(&mut self, client: Client, consumer: i64, delivered: i64) {
        let info = RemoveInfo {
            object_id: Some(EntityId::Consumer(client.consumer(consumer))),
            last_delivered_sequence_id: delivered,
            ..RemoveInfo::default()
        };
        self.ask(client, info).expect("removes");
    }

    pub(super) fn message(client: Client, number: i64, persistent: bool) -> Message {
        Message {
            kind: MessageKind::Text,
            destination: Some(Destination::queue(QUEUE)),
            producer_id: Some(client.producer()),
            message_id: Some(MessageId {
                producer_id: Some(client.producer()),
                producer_sequence_id: number,
                ..MessageId::default()
            }),
            persistent,
            ..Message::default()
        }
    }

    pub(super) fn send(&mut self, client: Client, number: i64) {
        self.ask(client, Arc::new(Self::message(client, number, true)))
            .expect("sends");
    }

    /// What was dispatched since the last look: consumer, number of the message, redelivery counter.
    pub(super) fn dispatched(&mut self, client: Client) -> Vec<(i64, i64, i32)> {
        let mut seen = Vec::new();
        for dispatch in self.dispatches(client) {
            let consumer = dispatch.consumer_id.map_or(0, |id| id.value);
            let number = match &dispatch.message {
                Some(message) => {
                    assert_eq!(message.redelivery_counter, dispatch.redelivery_counter);
                    message
                        .message_id
                        .as_ref()
                        .map_or(0, |id| id.producer_sequence_id)
                }
                None => 0,
            };
            seen.push((consumer, number, dispatch.redelivery_counter));
        }
        seen
    }

    pub(super) fn dispatches(&mut self, client: Client) -> Vec<MessageDispatch> {
        let inbox = self.inbox.entry(client.key).or_default();
        let mut taken = Vec::new();
        inbox.retain(|command| match command {
            Command::MessageDispatch(dispatch) => {
                taken.push(dispatch.clone());
                false
            }
            _ => true,
        });
        taken
    }

    /// A client has taken what there was for it; true if there is more.
    pub(super) fn relieve(&mut self, client: Client) -> bool {
        let more = self.core.relieved(self.now, client.key, &mut self.effects);
        self.settle();
        more
    }

    /// What a client was told of its consumers.
    pub(super) fn controls(&mut self, client: Client) -> Vec<ConsumerControl> {
        let inbox = self.inbox.entry(client.key).or_default();
        let mut controls = Vec::new();
        inbox.retain(|command| match command {
            Command::ConsumerControl(control) => {
                controls.push(control.clone());
                false
            }
            _ => true,
        });
        controls
    }

    pub(super) fn numbers(&mut self, client: Client) -> Vec<i64> {
        self.dispatched(client)
            .into_iter()
            .map(|(_, number, _)| number)
            .collect()
    }

    /// The classes of exceptions a client was told without asking.
    pub(super) fn errors(&mut self, client: Client) -> Vec<String> {
        let inbox = self.inbox.entry(client.key).or_default();
        let mut errors = Vec::new();
        inbox.retain(|command| match command {
            Command::ConnectionError(error) => {
                errors.extend(error.exception.as_ref().map(|e| e.simple_class().to_owned()));
                false
            }
            _ => true,
        });
        errors
    }

    pub(super) fn ack(
        &self,
        client: Client,
        consumer: i64,
        ack_type: i8,
        sender: Client,
        from: i64,
        to: i64,
    ) -> MessageAck {
        let id = |number| Self::message(sender, number, true).message_id;
        MessageAck {
            consumer_id: Some(client.consumer(consumer)),
            ack_type,
            first_message_id: id(from),
            last_message_id: id(to),
            message_count: (to - from + 1) as i32,
            ..MessageAck::default()
        }
    }

    pub(super) fn consumed(
        &mut self,
        client: Client,
        consumer: i64,
        sender: Client,
        from: i64,
        to: i64,
    ) -> Result<(), String> {
        let ack = self.ack(client, consumer, MessageAck::STANDARD, sender, from, to);
        self.ask(client, Box::new(ack))
    }

    pub(super) fn transact(&mut self, client: Client, transaction: i64, step: i8) -> Result<(), String> {
        let info = TransactionInfo {
            transaction_id: Some(client.transaction(transaction)),
            step,
            ..Default::default()
        };
        self.ask(client, info)
    }
}

/// Properties of a message.
pub(super) fn properties(pairs: &[(&str, i64)]) -> Option<bytes::Bytes> {
    let mut out = bytes::BytesMut::new();
    encode_map(&pairs.iter().copied().collect(), &mut out).unwrap();
    Some(out.freeze())
}

impl Rig {
    pub(super) fn send_with(&mut self, client: Client, number: i64, change: impl FnOnce(&mut Message)) {
        let mut message = Self::message(client, number, true);
        change(&mut message);
        self.ask(client, Arc::new(message)).unwrap();
    }

    pub(super) fn send_colour(&mut self, client: Client, number: i64, colour: i64) {
        self.send_with(client, number, |message| {
            message.marshalled_properties = properties(&[("colour", colour)]);
        });
    }

    pub(super) fn subscribe(
        &mut self,
        client: Client,
        consumer: i64,
        change: impl FnOnce(&mut ConsumerInfo),
    ) -> Result<(), String> {
        let mut info = ConsumerInfo {
            consumer_id: Some(client.consumer(consumer)),
            destination: Some(Destination::queue(QUEUE)),
            prefetch_size: 100,
            ..ConsumerInfo::default()
        };
        change(&mut info);
        self.ask(client, Box::new(info))
    }

    pub(super) fn by_consumer(&mut self, client: Client) -> Vec<(i64, i64)> {
        let dispatched = self.dispatched(client);
        dispatched
            .into_iter()
            .map(|(consumer, number, _)| (consumer, number))
            .collect()
    }
}
