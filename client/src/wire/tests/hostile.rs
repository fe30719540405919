//! What a hostile peer can send: it gets a typed error, and gets it without a panic, deep recursion or
//! memory that it did not pay for in bytes (see also `tests/wire_memory.rs`).

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::read::MAX_DEPTH;
use super::super::*;
use super::sample::Source;

fn format(tight: bool) -> WireFormat {
    WireFormat {
        version: 12,
        tight,
        stack_trace: true,
        max_frame_size: 1 << 20,
        ..WireFormat::handshake()
    }
}

fn decode(format: &WireFormat, frame: impl Into<Vec<u8>>) -> Result<Option<Command>, WireErrorKind> {
    Decoder::new(format.clone())
        .decode_frame(frame.into().into())
        .map_err(|error| error.kind())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn arbitrary_bytes_do_no_harm(
        bytes in vec(any::<u8>(), 0..300),
        tight in any::<bool>(),
        cache in proptest::option::of(Just(1024)),
        version in 1..=12,
    ) {
        let format = WireFormat { version, cache, ..format(tight) };
        let _ = Decoder::new(format.clone()).decode(&mut BytesMut::from(&bytes[..]));
        // Most bytes are no type; these all are.
        for id in (0..=127).filter(|id| id % 7 == version as u8 % 7) {
            let _ = Decoder::new(format.clone()).decode_frame([&[id], &bytes[..]].concat().into());
        }
        let _ = decode_map(bytes.clone().into());
        let _ = read_value(&mut bytes.clone().into());
        let _ = decode_mutf8(&bytes);
        let _ = unmarshal(bytes.into());
    }

    #[test]
    fn damaged_frames_do_no_harm(
        source in vec(any::<u8>(), 0..400),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        tight in any::<bool>(),
        cache in proptest::option::of(Just(1024)),
    ) {
        let format = WireFormat { cache, ..format(tight) };
        let command: Command = Source::new(&source).sample();
        let mut wire = BytesMut::new();
        Encoder::new(format.clone()).encode(&command, &mut wire).unwrap();
        for (at, byte) in damage {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        if let Ok(Some(command)) = Decoder::new(format.clone()).decode(&mut wire) {
            // What reads is sound: it can be written.
            Encoder::new(format).encode(&command, &mut BytesMut::new()).unwrap();
        }
    }
}

#[test]
fn declared_sizes_are_not_believed() {
    let loose = format(false);
    // A control command's header, then a string; a partial command's id, then a byte string.
    for (frame, kind) in [
        (&b"\x0e\0\0\0\0\0\x01\xff\xffabc"[..], WireErrorKind::Truncated),
        (b"\x3c\0\0\0\0\x01\x7f\xff\xff\xff", WireErrorKind::Truncated),
        (b"\x3c\0\0\0\0\x01\0\0\0\x01", WireErrorKind::Truncated),
        (b"\x3c\0\0\0\0\x01\xff\xff\xff\xff", WireErrorKind::Invalid),
        // Arrays.
        (b"\x21\0\0\0\0\0\0\0\0\0\x01\x7f\xff", WireErrorKind::Truncated),
        (b"\x21\0\0\0\0\0\0\0\0\0\x01\xff\xff", WireErrorKind::Invalid),
        // Lines of a stack trace.
        (
            b"\x1f\0\0\0\0\0\0\0\0\0\x01\0\0\x7f\xff",
            WireErrorKind::Truncated,
        ),
        (b"\x1f\0\0\0\0\0\0\0\0\0\x01\0\0\xff\xff", WireErrorKind::Invalid),
    ] {
        assert_eq!(decode(&loose, frame), Err(kind), "{frame:02x?}");
    }

    let tight = format(true);
    for (frame, kind) in [
        // The bits themselves.
        (&b"\x0a\x3f"[..], WireErrorKind::Truncated),
        (b"\x0a\xc0\xff\0", WireErrorKind::Truncated),
        (b"\x0a\x80\x7f\xff\0", WireErrorKind::Truncated),
        (b"\x0a\x80\x80\0\0", WireErrorKind::Invalid),
        // No bit for the flag.
        (b"\x0a\0\0\0\0\0", WireErrorKind::Truncated),
        (b"\x0e\x01\x06\0\0\0\0\xff\xffabc", WireErrorKind::Truncated),
        (b"\x3c\x01\x01\0\0\0\0\x7f\xff\xff\xff", WireErrorKind::Truncated),
        (b"\x3c\x01\x01\0\0\0\0\xff\xff\xff\xff", WireErrorKind::Invalid),
        // Six bits are left for the elements.
        (b"\x21\x01\x02\0\0\0\0\0\0\0\0\0\x07", WireErrorKind::Truncated),
        (b"\x21\x01\x02\0\0\0\0\0\0\0\0\xff\xff", WireErrorKind::Invalid),
        (b"\x1f\x01\x02\0\0\0\0\0\0\0\0\x7f\xff", WireErrorKind::Truncated),
        (b"\x1f\x01\x02\0\0\0\0\0\0\0\0\xff\xff", WireErrorKind::Invalid),
    ] {
        assert_eq!(decode(&tight, frame), Err(kind), "{frame:02x?}");
    }

    for (map, kind) in [
        (&b"\0\0\0\x02\0\0\0\0\0"[..], WireErrorKind::Truncated),
        (b"\x7f\xff\xff\xff\0\0\0", WireErrorKind::Truncated),
        (b"\xff\xff\xff\xfe", WireErrorKind::Invalid),
        (b"\0\0\0\x01\0\0\x0c\x7f\xff\xff\xff", WireErrorKind::Truncated),
        (b"\0\0\0\x01\0\0\x0c\xff\xff\xff\xff", WireErrorKind::Invalid),
        (b"\0\0\0\x01\0\0\x0a\0\0\0\x01", WireErrorKind::Truncated),
        (b"\0\0\0\x01\0\0\x0d\0\0\0\x01", WireErrorKind::Truncated),
        (b"\0\0\0\x01\0\0\x0e", WireErrorKind::UnexpectedType),
        (b"\0\0\0\x01\0\x01\xff\0", WireErrorKind::Text),
    ] {
        assert_eq!(decode_map(map.into()).unwrap_err().kind(), kind, "{map:02x?}");
    }
}

#[test]
fn types_stand_only_where_they_belong() {
    for tight in [false, true] {
        let format = format(tight);
        // Ids that nothing has, or nothing any more.
        for id in [13, 35, 70, 79, 99, 104, 109, 113, 125, 255] {
            let frame = if tight { vec![id, 0] } else { vec![id] };
            assert_eq!(decode(&format, frame), Err(WireErrorKind::UnexpectedType), "{id}");
        }
    }
    // A queue as the id of a session.
    let frame = b"\x04\0\0\0\0\0\x01\x64\0";
    assert_eq!(decode(&format(false), frame), Err(WireErrorKind::UnexpectedType));
    // A message that comes as a frame of its own: a data response, its bits (has data, own frame), a message.
    let frame = b"\x20\x01\x06\0\0\0\0\0\0\0\0\x17";
    assert_eq!(decode(&format(true), frame), Err(WireErrorKind::Invalid));
}

#[test]
fn a_cached_value_must_be_there_and_fit() {
    let format = WireFormat {
        cache: Some(100),
        ..format(false)
    };
    let session = |cached: &[u8]| [b"\x04\0\0\0\0\0", cached].concat();
    let consumer_of = |cached: &[u8]| [b"\x15\0\0\0\0\0", cached].concat();
    let mut decoder = Decoder::new(format);
    let mut decode = |frame: Vec<u8>| decoder.decode_frame(frame.into()).map_err(|error| error.kind());
    assert_eq!(
        decode(session(b"\0\0\x05")),
        Err(WireErrorKind::Invalid),
        "an empty slot"
    );
    assert_eq!(
        decode(session(b"\x01\0\x64\0")),
        Err(WireErrorKind::Invalid),
        "no such slot"
    );
    assert!(decode(session(b"\x01\0\x05\x01\x79\0\0\0\0\0\0\0\0\x01")).is_ok());
    assert!(decode(session(b"\0\0\x05")).is_ok());
    assert_eq!(
        decode(consumer_of(b"\0\0\x05")),
        Err(WireErrorKind::Invalid),
        "another type"
    );
}

/// Responses in responses, `levels` deep.
fn nested_responses(tight: bool, levels: u32) -> Vec<u8> {
    let mut fields = BytesMut::new();
    let mut bits = Vec::new();
    for level in 0..levels {
        if level > 0 {
            fields.put_slice(if tight { &[32] } else { &[1, 32] });
        }
        fields.put_slice(if tight { &[0; 8] } else { &[0; 9] });
        bits.extend([false, level + 1 < levels]);
    }
    if !tight {
        fields.put_u8(0);
        return [&[32], &fields[..]].concat();
    }
    let packed: Vec<u8> = bits
        .chunks(8)
        .map(|byte| byte.iter().rev().fold(0, |bits, bit| bits << 1 | u8::from(*bit)))
        .collect();
    [&[32, packed.len() as u8], &packed[..], &fields].concat()
}

/// A failure with a cause that has a cause, `levels` deep.
fn nested_causes(levels: u32) -> Vec<u8> {
    let mut frame = b"\x1f\0\0\0\0\0\0\0\0\0".to_vec();
    for _ in 0..levels {
        frame.extend_from_slice(b"\x01\0\0\0\0");
    }
    frame.push(0);
    frame
}

#[test]
fn nesting_is_bounded() {
    for tight in [false, true] {
        // The outermost object stands at depth 0.
        assert!(decode(&format(tight), nested_responses(tight, MAX_DEPTH + 1)).is_ok());
        for levels in [MAX_DEPTH + 2, 200] {
            let frame = nested_responses(tight, levels);
            assert_eq!(decode(&format(tight), frame), Err(WireErrorKind::TooDeep));
        }
    }
    assert!(decode(&format(false), nested_causes(MAX_DEPTH)).is_ok());
    for levels in [MAX_DEPTH + 1, 20_000] {
        assert_eq!(
            decode(&format(false), nested_causes(levels)),
            Err(WireErrorKind::TooDeep)
        );
    }
    for (level, end) in [
        (&b"\x0c\0\0\0\x01"[..], &b"\0"[..]),
        (b"\x0b\0\0\0\x01\0\0", b"\0"),
    ] {
        let nested = |levels: u32| [level.repeat(levels as usize), end.into()].concat();
        assert!(read_value(&mut nested(MAX_DEPTH).into()).is_ok());
        for levels in [MAX_DEPTH + 1, 100_000] {
            let error = read_value(&mut nested(levels).into()).unwrap_err();
            assert_eq!(error.kind(), WireErrorKind::TooDeep);
        }
    }
}

/// Calls `outer` for each level around a start.
fn nest<T>(levels: u32, start: T, outer: impl Fn(T) -> T) -> T {
    (0..levels).fold(start, |inner, _| outer(inner))
}

#[test]
fn the_deepest_nesting_fits_into_half_a_thread_s_stack_and_deeper_is_not_sent() {
    let peers = |levels| {
        Command::from(nest(levels, Box::new(BrokerInfo::default()), |peer| {
            Box::new(BrokerInfo {
                peer_broker_infos: Some(vec![Some(peer)]),
                ..BrokerInfo::default()
            })
        }))
    };
    let advisories = |levels| {
        Command::from(nest(levels, Arc::new(Message::default()), |message| {
            Arc::new(Message {
                data_structure: Some(Box::new(message.into())),
                ..Message::default()
            })
        }))
    };
    let dispatches = |levels: u32| {
        nest(
            levels / 2,
            Command::from(MessageDispatch::default()),
            |dispatch| {
                let message = Message {
                    data_structure: Some(Box::new(dispatch)),
                    ..Message::default()
                };
                Command::from(MessageDispatch {
                    message: Some(Arc::new(message)),
                    ..MessageDispatch::default()
                })
            },
        )
    };
    let causes = |levels| {
        let throwable = nest(levels, Throwable::default(), |cause| Throwable {
            cause: Some(Box::new(cause)),
            ..Throwable::default()
        });
        Command::from(Box::new(ConnectionError {
            exception: Some(throwable),
            ..ConnectionError::default()
        }))
    };
    let values = |levels| nest(levels, Value::Null, |value| Value::from(vec![value]));
    let maps = |levels| {
        nest(levels, Value::Null, |value| {
            Value::from([("inner", value)].into_iter().collect::<ValueMap>())
        })
    };

    let round_trips = move || {
        for tight in [false, true] {
            for cache in [None, Some(1024)] {
                let format = WireFormat {
                    cache,
                    ..format(tight)
                };
                for command in [
                    peers(MAX_DEPTH),
                    advisories(MAX_DEPTH),
                    dispatches(MAX_DEPTH),
                    causes(MAX_DEPTH - 1),
                ] {
                    let mut wire = BytesMut::new();
                    Encoder::new(format.clone()).encode(&command, &mut wire).unwrap();
                    let decoded = Decoder::new(format.clone()).decode(&mut wire).unwrap();
                    assert_eq!(decoded, Some(command.clone()));
                }
                for command in [
                    peers(MAX_DEPTH + 1),
                    advisories(MAX_DEPTH + 1),
                    dispatches(MAX_DEPTH + 2),
                    causes(MAX_DEPTH),
                    causes(1000),
                ] {
                    let mut wire = BytesMut::new();
                    let error = Encoder::new(format.clone())
                        .encode(&command, &mut wire)
                        .unwrap_err();
                    assert_eq!(error.kind(), WireErrorKind::TooDeep);
                }
            }
        }
        for nested in [values, maps] {
            let mut wire = BytesMut::new();
            write_value(&nested(MAX_DEPTH), &mut wire).unwrap();
            assert_eq!(read_value(&mut wire.split().freeze()), Ok(nested(MAX_DEPTH)));
            let error = write_value(&nested(1000), &mut wire).unwrap_err();
            assert_eq!(error.kind(), WireErrorKind::TooDeep);
            assert!(wire.is_empty());
        }
    };
    std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(round_trips)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn a_map_cannot_hold_more_values_than_memory_should() {
    let list = |items: usize| {
        let mut bytes = b"\x0c".to_vec();
        bytes.put_u32(items as u32);
        bytes.resize(bytes.len() + items, 0);
        bytes
    };
    // The list itself is a value too.
    assert!(read_value(&mut list((1 << 20) - 1).into()).is_ok());
    let error = read_value(&mut list(1 << 20).into()).unwrap_err();
    assert_eq!(error.kind(), WireErrorKind::TooLong);
    let error = write_value(&Value::List(vec![Value::Null; 1 << 20]), &mut BytesMut::new()).unwrap_err();
    assert_eq!(error.kind(), WireErrorKind::TooLong);
}

#[test]
fn a_name_that_stands_twice_has_its_last_value() {
    let twice = b"\0\0\0\x02\0\x01a\x02\x01\0\x01a\x02\x02";
    let mut map = decode_map(twice[..].into()).unwrap();
    assert_eq!(map.get("a"), Some(&Value::Byte(2)));
    assert_eq!(map.remove("a"), Some(Value::Byte(2)));
    assert_eq!(map.get("a"), None);
    assert!(
        decode_map(b"\xff\xff\xff\xff"[..].into()).unwrap().is_empty(),
        "the null map"
    );
}
