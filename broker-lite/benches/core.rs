//! What a message costs the core alone: sent, dispatched, acknowledged. No sockets, no disk.
//!
//! `cargo bench -p broker-lite --bench core [-- MESSAGES]`. Few messages are for counting instructions, which no other
//! load of the machine disturbs: `valgrind --tool=callgrind`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use broker_lite::core::{AdvisoryOptions, Core, CoreConfig, Effect, Effects, OutcomeLimits, UserIds};
use broker_lite::store::Recovered;
use bytes::Bytes;
use openwire_client::wire::*;

/// Unless told otherwise.
const MESSAGES: i64 = 1_000_000;
/// Commands a turn, as a connection's reader gathers them.
const TURN: i64 = 64;

fn main() {
    let messages = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(MESSAGES);
    for (name, consumers, stored) in [
        ("queue, 1 consumer", 1, false),
        ("queue, 10 consumers", 10, false),
        ("stored queue, 1 consumer", 1, true),
    ] {
        let seconds = run(messages, consumers, stored);
        println!("{name:28} {:7.0} ns a message", seconds * 1e9 / messages as f64);
    }
}

fn run(messages: i64, consumers: i64, stored: bool) -> f64 {
    let config = CoreConfig {
        broker_name: "bench".into(),
        broker_id: BrokerId {
            value: Some("ID:bench".into()),
        },
        broker_url: "vm://bench".into(),
        stored,
        resident_limit: usize::MAX,
        memory_limit: usize::MAX,
        // As of a broker with a data directory: whether memory is short is looked at each time.
        temp_limit: Some(u64::MAX),
        outcomes: OutcomeLimits::default(),
        rules: Default::default(),
        authorization: None,
        user_ids: UserIds::default(),
        max_uncommitted: 0,
        advisories: AdvisoryOptions::default(),
        statistics: None,
    };
    let mut core = Core::new(
        0,
        config,
        Recovered {
            next_sequence: 1,
            next_destination: 1,
            ..Recovered::default()
        },
    );
    let mut effects = Effects::new();
    let key = core.open("bench", &mut effects);
    let id: Arc<str> = "ID:host-40993-1795385921299-1:1".into();
    let producer = ProducerId {
        connection_id: Some(id.clone()),
        session_id: 1,
        value: 1,
    };
    let queue = Destination::queue("bench");
    let info = ConnectionInfo {
        connection_id: Some(ConnectionId::new(id.clone())),
        client_id: Some(id.clone()),
        ..ConnectionInfo::default()
    };
    core.handle(0, key, Box::new(info).into(), &mut effects);
    let session_id = Some(SessionId {
        connection_id: Some(id.clone()),
        value: 1,
    });
    core.handle(
        0,
        key,
        SessionInfo {
            session_id,
            ..SessionInfo::default()
        }
        .into(),
        &mut effects,
    );
    for value in 1..=consumers {
        let info = ConsumerInfo {
            consumer_id: Some(ConsumerId {
                connection_id: Some(id.clone()),
                session_id: 1,
                value,
            }),
            destination: Some(queue.clone()),
            prefetch_size: 1000,
            ..ConsumerInfo::default()
        };
        core.handle(0, key, Box::new(info).into(), &mut effects);
    }
    let body = Bytes::from(vec![0; 1024]);
    let mut acks: Vec<Command> = Vec::new();
    let start = Instant::now();
    let mut number = 0;
    while number < messages {
        for _ in 0..TURN {
            number += 1;
            let message = Message {
                kind: MessageKind::Bytes,
                producer_id: Some(producer.clone()),
                destination: Some(queue.clone()),
                message_id: Some(MessageId {
                    producer_id: Some(producer.clone()),
                    producer_sequence_id: number,
                    ..MessageId::default()
                }),
                persistent: stored,
                content: Some(body.clone()),
                ..Message::default()
            };
            core.handle(number, key, Arc::new(message).into(), &mut effects);
        }
        for ack in acks.drain(..) {
            core.handle(number, key, ack, &mut effects);
        }
        let mut tokens = Vec::new();
        for effect in effects.drain() {
            match effect {
                Effect::Send {
                    command: Command::MessageDispatch(dispatch),
                    ..
                } => {
                    let id = dispatch
                        .message
                        .as_ref()
                        .and_then(|message| message.message_id.clone());
                    acks.push(Command::from(Box::new(MessageAck {
                        consumer_id: dispatch.consumer_id.clone(),
                        ack_type: MessageAck::STANDARD,
                        first_message_id: id.clone(),
                        last_message_id: id,
                        message_count: 1,
                        ..MessageAck::default()
                    })));
                    black_box(dispatch);
                }
                Effect::Store { then, .. } => tokens.extend(then),
                _ => {}
            }
        }
        for then in tokens {
            if let broker_lite::core::Then::Tell(token) = then {
                core.stored(number, token, Ok(()), &mut effects);
            }
        }
    }
    start.elapsed().as_secs_f64()
}
