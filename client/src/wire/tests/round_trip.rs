//! Whatever is encoded decodes to the same, less what the agreed version does not have.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::sample::{Sample, Source};

fn formats() -> impl Strategy<Value = WireFormat> {
    let cache = prop_oneof![
        Just(None),
        Just(Some(0)),
        Just(Some(100)),
        Just(Some(103)),
        Just(Some(1024))
    ];
    (1..=MAX_VERSION, any::<bool>(), cache, any::<bool>()).prop_map(|(version, tight, cache, stack_trace)| {
        WireFormat {
            version,
            tight,
            cache,
            stack_trace,
            max_frame_size: 1 << 20,
            ..WireFormat::handshake()
        }
    })
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    vec(vec(any::<u8>(), 0..400), 1..8).prop_map(|sources| {
        let command = |mut bytes: Vec<u8>| {
            // Small numbers come more often, so that values repeat and the caches are put to use.
            for byte in bytes.iter_mut().skip(1).filter(|byte| **byte % 3 == 1) {
                *byte %= 8;
            }
            // As do messages, which have the most fields.
            match bytes.first() {
                Some(0..64) => Command::Message(Source::new(&bytes).sample()),
                _ => Source::new(&bytes).sample(),
            }
        };
        sources.into_iter().map(command).collect()
    })
}

fn encode(format: &WireFormat, commands: &[Command]) -> BytesMut {
    let mut encoder = Encoder::new(format.clone());
    let mut out = BytesMut::new();
    for command in commands {
        encoder.encode(command, &mut out).unwrap();
    }
    out
}

fn decode_all(decoder: &mut Decoder, input: &mut BytesMut) -> Vec<Command> {
    std::iter::from_fn(|| decoder.decode(input).unwrap()).collect()
}

/// Equality leaves out parts of ids and destinations, and this text leaves out passwords.
fn exact(commands: &[Command]) -> Vec<String> {
    commands.iter().map(|command| format!("{command:?}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn commands_arrive_as_they_were_sent(format in formats(), commands in commands()) {
        let mut wire = encode(&format, &commands);
        let expected: Vec<_> = commands.into_iter().map(|command| command.seen(&format)).collect();
        let decoded = decode_all(&mut Decoder::new(format.clone()), &mut wire);
        prop_assert!(wire.is_empty());
        prop_assert_eq!(exact(&decoded), exact(&expected));
        prop_assert!(decoded == expected, "a password");
        // What arrived has nothing that would be lost on the way back.
        prop_assert_eq!(
            exact(&decode_all(&mut Decoder::new(format.clone()), &mut encode(&format, &decoded))),
            exact(&expected)
        );
    }

    #[test]
    fn frames_may_come_in_pieces(format in formats(), commands in commands(), piece in 1_usize..40) {
        let wire = encode(&format, &commands);
        let mut decoder = Decoder::new(format.clone());
        let mut input = BytesMut::new();
        let mut decoded = Vec::new();
        for bytes in wire.chunks(piece) {
            input.extend_from_slice(bytes);
            decoded.extend(decode_all(&mut decoder, &mut input));
        }
        prop_assert!(input.is_empty());
        let whole = decode_all(&mut Decoder::new(format), &mut wire.clone());
        prop_assert_eq!(exact(&decoded), exact(&whole));
    }

    #[test]
    fn a_frame_that_is_cut_short_is_refused(format in formats(), commands in commands()) {
        let frame = encode(&format, &commands[..1]).freeze().slice(4..);
        for length in (0..frame.len()).step_by(1 + frame.len() / 200) {
            let error = Decoder::new(format.clone()).decode_frame(frame.slice(..length)).unwrap_err();
            prop_assert_eq!(error.kind(), WireErrorKind::Truncated);
        }
        let longer = [&frame[..], &[0]].concat();
        let error = Decoder::new(format).decode_frame(longer.into()).unwrap_err();
        prop_assert_eq!(error.kind(), WireErrorKind::Trailing);
    }

    #[test]
    fn messages_are_stored_as_they_were_sent(bytes in vec(any::<u8>(), 0..400)) {
        let message: Message = Source::new(&bytes).sample();
        let mut out = BytesMut::new();
        marshal(&message, &mut out).unwrap();
        let stored = WireFormat { version: STORE_VERSION, stack_trace: true, ..WireFormat::handshake() };
        prop_assert_eq!(
            format!("{:?}", unmarshal(out.freeze()).unwrap()),
            format!("{:?}", message.seen(&stored))
        );
    }

    #[test]
    fn maps_and_values_arrive_as_they_were_sent(bytes in vec(any::<u8>(), 0..400)) {
        let map: ValueMap = Source::new(&bytes).sample();
        let mut out = BytesMut::new();
        encode_map(&map, &mut out).unwrap();
        let decoded = decode_map(out.clone().freeze()).unwrap();
        prop_assert_eq!(format!("{decoded:?}"), format!("{map:?}"));
        // The bits of a NaN too.
        let mut again = BytesMut::new();
        encode_map(&decoded, &mut again).unwrap();
        prop_assert_eq!(&again, &out);
        for length in 0..out.len() {
            let cut = Bytes::copy_from_slice(&out[..length]);
            prop_assert_eq!(decode_map(cut).unwrap_err().kind(), WireErrorKind::Truncated);
        }

        // A stream body is nothing but values.
        let mut stream = BytesMut::new();
        for (_, value) in map.iter() {
            write_value(value, &mut stream).unwrap();
        }
        let mut input = stream.freeze();
        for (_, value) in map.iter() {
            prop_assert_eq!(format!("{:?}", read_value(&mut input).unwrap()), format!("{value:?}"));
        }
        prop_assert!(input.is_empty());
    }

    #[test]
    fn text_arrives_as_it_was_sent(text in any::<String>()) {
        let encoded = encode_mutf8(&text);
        prop_assert!(encoded.iter().all(|byte| *byte != 0 && *byte < 0xF0));
        prop_assert!(decode_mutf8(&encoded).unwrap() == text);
    }
}

#[test]
fn strings_as_long_as_each_encoding_allows() {
    for (tight, longest) in [(true, 32766), (false, 65535)] {
        let format = WireFormat {
            version: 12,
            tight,
            max_frame_size: 1 << 20,
            ..WireFormat::handshake()
        };
        let control = |text: String| {
            Command::from(ControlCommand {
                command: Some(text.into()),
                ..ControlCommand::default()
            })
        };
        let odd = "é".repeat(longest / 2) + &"x".repeat(longest % 2);
        for text in ["x".repeat(longest), odd] {
            let command = control(text.clone());
            let mut wire = encode(&format, std::slice::from_ref(&command));
            assert_eq!(
                Decoder::new(format.clone()).decode(&mut wire).unwrap(),
                Some(command)
            );
            let error = Encoder::new(format.clone())
                .encode(&control(text + "x"), &mut BytesMut::new())
                .unwrap_err();
            assert_eq!(error.kind(), WireErrorKind::TooLong);
        }
    }
}

#[test]
fn strings_change_their_form_at_java_s_length() {
    // UTF-16 units count, not bytes.
    for (text, tag) in [
        ("x".repeat(8190), 9),
        ("x".repeat(8191), 13),
        ("漢".repeat(8190), 9),
        ("😀".repeat(4095), 9),
        ("😀".repeat(4096), 13),
    ] {
        let mut out = BytesMut::new();
        write_value(&Value::from(text.as_str()), &mut out).unwrap();
        assert_eq!(out[0], tag, "{} bytes", text.len());
        assert_eq!(read_value(&mut out.freeze()).unwrap(), Value::from(text));
    }
}
