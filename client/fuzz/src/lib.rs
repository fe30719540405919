//! What the fuzzer calls with bytes of its own making. `tests/fuzz_seeds.rs` calls the same with the seeds.
//!
//! A finding is copied to `seeds`, so that the tests know it from then on.

use bytes::{Bytes, BytesMut};
use openwire_client::uri::ClientUri;
use openwire_client::wire::{
    Command, Decoder, Encoder, WireErrorKind, WireFormat, decode_map, decode_mutf8, encode_map, encode_mutf8,
    read_value, write_value,
};

/// The first two bytes choose the settings of a connection, the rest is what comes in.
fn connection(data: &[u8]) -> Option<(WireFormat, BytesMut)> {
    let (&[version, flags], rest) = data.split_first_chunk()?;
    let format = WireFormat {
        version: 1 + i32::from(version % 12),
        tight: flags & 1 != 0,
        cache: (flags & 2 != 0).then_some(128),
        stack_trace: flags & 4 != 0,
        max_frame_size: 1 << 20,
        ..WireFormat::handshake()
    };
    Some((format, BytesMut::from(rest)))
}

/// A stream of frames never harms its reader.
pub fn decode_frame(data: &[u8]) {
    let Some((format, mut input)) = connection(data) else {
        return;
    };
    let mut decoder = Decoder::new(format);
    while let Ok(Some(_)) = decoder.decode(&mut input) {}
}

/// What was read can be written, and reads as the same.
pub fn round_trip(data: &[u8]) {
    let Some((format, mut input)) = connection(data) else {
        return;
    };
    let mut decoder = Decoder::new(format.clone());
    let mut decoded = Vec::new();
    while let Ok(Some(command)) = decoder.decode(&mut input) {
        decoded.push(command);
    }
    let Some(sent) = send(&format, &decoded) else {
        return;
    };
    // In these versions the messages of throwables change on their way, but only once.
    if matches!(format.version, 1 | 10) {
        let again = send(&format, &sent).expect("what has changed is shorter");
        assert_eq!(exact(&again), exact(&sent));
    } else {
        assert_eq!(exact(&sent), exact(&decoded));
        assert!(sent == decoded, "a password");
    }
}

/// Commands as they arrive at the other end; none if a text is too long in the form that is written.
fn send(format: &WireFormat, commands: &[Command]) -> Option<Vec<Command>> {
    let mut encoder = Encoder::new(WireFormat {
        // A frame can grow: text comes in other forms than those that are written.
        max_frame_size: 1 << 30,
        ..format.clone()
    });
    let mut wire = BytesMut::new();
    for command in commands {
        if let Err(error) = encoder.encode(command, &mut wire) {
            assert_eq!(error.kind(), WireErrorKind::TooLong, "{error}");
            return None;
        }
    }
    let mut decoder = Decoder::new(encoder.format().clone());
    let arrived = std::iter::from_fn(|| decoder.decode(&mut wire).expect("our own frame")).collect();
    assert!(wire.is_empty());
    Some(arrived)
}

/// Equality leaves out parts of ids and destinations, and this text leaves out passwords.
fn exact(commands: &[Command]) -> String {
    format!("{commands:?}")
}

/// Maps and values read as they were written.
pub fn value_map(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(map) = decode_map(bytes.clone()) {
        let mut out = BytesMut::new();
        match encode_map(&map, &mut out) {
            Ok(()) => {
                let again = decode_map(out.freeze()).expect("our own map");
                assert_eq!(format!("{again:?}"), format!("{map:?}"));
            }
            Err(error) => assert_eq!(error.kind(), WireErrorKind::TooLong),
        }
    }
    let mut stream = bytes;
    loop {
        let left = stream.len();
        let Ok(value) = read_value(&mut stream) else {
            return;
        };
        assert!(stream.len() < left, "a value takes at least a byte");
        let mut out = BytesMut::new();
        match write_value(&value, &mut out) {
            Ok(()) => {
                let again = read_value(&mut out.freeze()).expect("our own value");
                assert_eq!(format!("{again:?}"), format!("{value:?}"));
            }
            Err(error) => assert_eq!(error.kind(), WireErrorKind::TooLong),
        }
    }
}

/// Text reads as it was written, and what is written is modified UTF-8.
pub fn mutf8(data: &[u8]) {
    let Ok(text) = decode_mutf8(data) else {
        return;
    };
    let encoded = encode_mutf8(&text);
    assert!(encoded.iter().all(|byte| (1..0xF0).contains(byte)));
    assert_eq!(decode_mutf8(&encoded).expect("our own text"), text);
}

/// A URI that was understood is understood again from its own text, unless that hides a password, or what
/// stands where one could.
pub fn uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(uri) = ClientUri::parse(text) else {
        return;
    };
    let text = uri.to_string();
    match ClientUri::parse(&text) {
        Ok(again) => assert_eq!(again.to_string(), text),
        Err(error) => assert!(text.contains("***"), "{error}"),
    }
}
