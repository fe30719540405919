//! What a frame costs: nanoseconds to encode and to decode the commands that carry the traffic.
//!
//! `cargo bench -p openwire-client --bench wire [-- <part of a name>]`

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use openwire_client::wire::*;

/// The best of many short rounds counts: on a machine that is busy otherwise some are left alone.
const ROUND: Duration = Duration::from_millis(2);
const ROUNDS: usize = 200;

/// Frames between two looks at the clock; also what a reader typically finds in one read.
const BATCH: usize = 64;

fn main() {
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_default();
    println!(
        "{:<26}{:>12}{:>12}{:>8}",
        "ns per frame", "encode", "decode", "bytes"
    );
    for (tight, cache) in [
        (true, Some(1024)),
        (true, None),
        (false, Some(1024)),
        (false, None),
    ] {
        let format = WireFormat {
            version: MAX_VERSION,
            tight,
            cache,
            stack_trace: true,
            max_frame_size: 1 << 20,
            ..WireFormat::handshake()
        };
        println!(
            "{}, cache {}",
            if tight { "tight" } else { "loose" },
            if cache.is_some() { "on" } else { "off" }
        );
        for (name, command) in commands().into_iter().filter(|(name, _)| name.contains(&filter)) {
            let (encode, decode, bytes) = measure(&format, &command);
            println!("  {name:<24}{encode:>12.0}{decode:>12.0}{bytes:>8}");
        }
    }
}

fn measure(format: &WireFormat, command: &Command) -> (f64, f64, usize) {
    let mut encoder = Encoder::new(format.clone());
    let mut decoder = Decoder::new(format.clone());
    // The first frame fills the caches, so that what is measured is a connection at work.
    let mut wire = BytesMut::new();
    encoder.encode(command, &mut wire).expect("a sound command");
    let first = decoder.decode(&mut wire).expect("a sound frame");
    assert_eq!(first.as_ref(), Some(command));
    for _ in 0..BATCH {
        encoder.encode(command, &mut wire).expect("a sound command");
    }
    let sample = wire.clone();

    let mut out = BytesMut::with_capacity(sample.len());
    let encode = best(|| {
        for _ in 0..BATCH {
            encoder
                .encode(black_box(command), &mut out)
                .expect("a sound command");
        }
        black_box(&out);
        out.clear();
    });
    let decode = best(|| {
        // A copy, as a read from a socket makes one; its share is below a tenth of the result.
        let mut input = BytesMut::from(&sample[..]);
        while let Some(command) = decoder.decode(&mut input).expect("a sound frame") {
            black_box(command);
        }
    });
    (encode, decode, sample.len() / BATCH)
}

/// Nanoseconds per frame of the best round; `batch` handles [`BATCH`] frames.
fn best(mut batch: impl FnMut()) -> f64 {
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let mut frames = 0;
            while start.elapsed() < ROUND {
                batch();
                frames += BATCH;
            }
            start.elapsed().as_nanos() as f64 / frames as f64
        })
        .fold(f64::INFINITY, f64::min)
}

fn commands() -> Vec<(&'static str, Command)> {
    let connection = "ID:node-17-40993-1795385921299-1:1";
    let destination = Some(Destination::queue("orders.incoming"));
    let producer_id = Some(ProducerId {
        connection_id: Some(connection.into()),
        value: 1,
        session_id: 1,
    });
    let consumer_id = Some(ConsumerId {
        connection_id: Some(connection.into()),
        session_id: 2,
        value: 1,
    });
    let message_id = MessageId {
        producer_id: producer_id.clone(),
        producer_sequence_id: 4711,
        broker_sequence_id: 815,
        ..MessageId::default()
    };

    let properties: ValueMap = [
        ("customer", Value::from("ACME Corporation")),
        ("attempt", Value::from(3)),
        ("express", Value::from(true)),
    ]
    .into_iter()
    .collect();
    let mut marshalled = BytesMut::new();
    encode_map(&properties, &mut marshalled).expect("short names");

    let mut content = BytesMut::new();
    content.put_i32(1024);
    content.put_bytes(b'x', 1024);

    let message = Message {
        kind: MessageKind::Text,
        command_id: 10_000,
        producer_id,
        destination: destination.clone(),
        message_id: Some(message_id.clone()),
        persistent: true,
        priority: 4,
        timestamp: 1_795_385_921_299,
        content: Some(content.freeze()),
        marshalled_properties: Some(marshalled.freeze()),
        broker_in_time: 1_795_385_921_300,
        broker_out_time: 1_795_385_921_301,
        ..Message::default()
    };

    vec![
        (
            "MessageDispatch, 1 KiB",
            Command::from(MessageDispatch {
                consumer_id: consumer_id.clone(),
                destination: destination.clone(),
                message: Some(Arc::new(message.clone())),
                ..MessageDispatch::default()
            }),
        ),
        ("Message, 1 KiB", Command::from(Arc::new(message))),
        (
            "MessageAck",
            Command::from(Box::new(MessageAck {
                command_id: 10_001,
                destination,
                consumer_id,
                ack_type: MessageAck::STANDARD,
                first_message_id: Some(message_id.clone()),
                last_message_id: Some(message_id),
                message_count: 1,
                ..MessageAck::default()
            })),
        ),
        (
            "Response",
            Command::from(Response {
                correlation_id: 10_000,
                ..Response::default()
            }),
        ),
    ]
}
