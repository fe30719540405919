//! What memory a peer's bytes can claim. Alone in its program, because it measures the whole program.

use bytes::{Bytes, BytesMut};
use openwire_client::wire::*;
use peak_alloc::PeakAlloc;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes of memory for each byte of a frame, at most. The dearest is an array of the smallest objects:
/// ten bits each, for a [`Command`] in a box.
const FACTOR: usize = 128;

/// What any frame may take: errors, the first allocation of a collection, as many nulls as arrays may hold.
const BASE: usize = 256 * 1024;

/// Runs it and checks the memory it took at its worst.
fn measure<T>(what: &str, frame: Vec<u8>, run: impl FnOnce(Bytes) -> T) -> T {
    let length = frame.len();
    let frame = Bytes::from(frame);
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let result = run(frame);
    let taken = MEMORY.peak_usage().saturating_sub(before);
    assert!(
        taken <= FACTOR * length + BASE,
        "{what}: {taken} bytes of memory for {length}"
    );
    result
}

fn decode(tight: bool, frame: Bytes) -> Result<Option<Command>, WireError> {
    let format = WireFormat {
        version: MAX_VERSION,
        tight,
        stack_trace: true,
        max_frame_size: 100 << 20,
        ..WireFormat::handshake()
    };
    Decoder::new(format).decode_frame(frame)
}

fn encode(tight: bool, command: impl Into<Command>) -> Vec<u8> {
    let format = WireFormat {
        version: MAX_VERSION,
        tight,
        max_frame_size: 100 << 20,
        ..WireFormat::handshake()
    };
    let mut out = BytesMut::new();
    Encoder::new(format).encode(&command.into(), &mut out).unwrap();
    out.split_off(4).to_vec()
}

#[test]
fn memory_is_paid_for_in_bytes() {
    declared_sizes();
    arrays();
    values();
    any_bytes();
}

fn declared_sizes() {
    for frame in [
        &b"\x0e\0\0\0\0\0\x01\xff\xff"[..],
        b"\x3c\0\0\0\0\x01\x7f\xff\xff\xff",
        b"\x21\0\0\0\0\0\0\0\0\0\x01\x7f\xff",
        b"\x1f\0\0\0\0\0\0\0\0\0\x01\0\0\x7f\xff",
        b"\x0a\x80\x7f\xff",
    ] {
        for tight in [false, true] {
            measure("a declared size", frame.into(), |frame| decode(tight, frame)).unwrap_err();
        }
    }
    for map in [&b"\x7f\xff\xff\xff"[..], b"\0\0\0\x01\0\0\x0c\x7f\xff\xff\xff"] {
        measure("a declared map", map.into(), decode_map).unwrap_err();
    }
    // A frame is not waited for with room for all of it.
    measure("a declared frame", b"\x06\0\0\0\x0a".into(), |frame| {
        let format = WireFormat {
            max_frame_size: u64::MAX,
            ..WireFormat::handshake()
        };
        Decoder::new(format).decode(&mut BytesMut::from(&frame[..]))
    })
    .unwrap();
}

fn arrays() {
    for tight in [false, true] {
        let objects = |object: Command| DataArrayResponse {
            data: Some(vec![Some(Box::new(object)); 32767]),
            ..DataArrayResponse::default()
        };
        for object in [
            Command::from(Destination::queue("")),
            ConnectionId::default().into(),
            SessionId::default().into(),
        ] {
            let frame = encode(tight, objects(object));
            measure("smallest objects", frame, |frame| decode(tight, frame)).unwrap();
        }
        let frame = encode(
            tight,
            Box::new(ConnectionInfo {
                broker_path: Some(vec![Some(BrokerId::default()); 32767]),
                ..ConnectionInfo::default()
            }),
        );
        measure("empty ids", frame, |frame| decode(tight, frame)).unwrap();
        let frame = encode(
            tight,
            BrokerSubscriptionInfo {
                subscription_infos: Some(vec![Some(Box::default()); 5000]),
                ..BrokerSubscriptionInfo::default()
            },
        );
        measure("empty consumers", frame, |frame| decode(tight, frame)).unwrap();
        let frame = encode(
            tight,
            Box::new(ConsumerInfo {
                network_consumer_path: Some(vec![None; 4096]),
                ..ConsumerInfo::default()
            }),
        );
        measure("nulls", frame, |frame| decode(tight, frame)).unwrap();
    }
    // All the nulls that a count can declare.
    let mut frame = vec![33, 0x80, 0x10, 0x01, 0x02];
    frame.resize(4 + 4097 + 8, 0);
    frame.extend_from_slice(&32767_i16.to_be_bytes());
    measure("too many nulls", frame, |frame| decode(true, frame)).unwrap_err();
}

fn values() {
    for entry in [&b"\0\0\0"[..], b"\0\0\x09\0\0", b"\0\x01x\x0b\0\0\0\0"] {
        let map = [&100_000_i32.to_be_bytes(), &entry.repeat(100_000)[..]].concat();
        measure("small entries", map, decode_map).unwrap();
    }
    for item in [&b"\0"[..], b"\x09\0\0", b"\x0c\0\0\0\0"] {
        let list = [b"\x0c", &100_000_i32.to_be_bytes()[..], &item.repeat(100_000)].concat();
        measure("small items", list, |mut list| read_value(&mut list)).unwrap();
    }
    // However large a body is.
    let list = [b"\x0c", &(20_i32 << 20).to_be_bytes()[..], &vec![0; 20 << 20]].concat();
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    read_value(&mut list.into()).unwrap_err();
    assert!(MEMORY.peak_usage() - before < 128 << 20);
}

fn any_bytes() {
    let frames = (any::<u8>(), vec(any::<u8>(), 0..2000), any::<bool>());
    TestRunner::new(ProptestConfig::with_cases(2000))
        .run(&frames, |(id, mut frame, tight)| {
            frame.insert(0, id % 125);
            let _ = measure("any frame", frame.clone(), |frame| decode(tight, frame));
            let _ = measure("any map", frame, decode_map);
            Ok(())
        })
        .unwrap();
}
