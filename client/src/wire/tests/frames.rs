//! The format, frame by frame.

use std::sync::Arc;

use bytes::BytesMut;

use super::super::*;

fn format(tight: bool, cache: Option<i32>) -> WireFormat {
    WireFormat {
        version: MAX_VERSION,
        tight,
        cache,
        max_frame_size: 1024,
        ..WireFormat::handshake()
    }
}

fn encode(format: &WireFormat, command: impl Into<Command>) -> Result<BytesMut, WireError> {
    let mut out = BytesMut::new();
    Encoder::new(format.clone())
        .encode(&command.into(), &mut out)
        .map(|()| out)
}

fn decode(format: &WireFormat, bytes: &[u8]) -> Result<Option<Command>, WireError> {
    Decoder::new(format.clone()).decode(&mut BytesMut::from(bytes))
}

#[test]
fn a_frame_is_its_size_its_type_and_its_fields() {
    let command = KeepAliveInfo {
        command_id: 5811,
        response_required: true,
    };
    // Tight: one byte of bits, the bit of the flag, then the id.
    let tight = b"\0\0\0\x07\x0a\x01\x01\0\0\x16\xb3";
    // Loose: the id, then the flag.
    let loose = b"\0\0\0\x06\x0a\0\0\x16\xb3\x01";
    for (format, frame) in [(format(true, None), &tight[..]), (format(false, None), loose)] {
        assert_eq!(encode(&format, command.clone()).unwrap(), frame);
        assert_eq!(decode(&format, frame).unwrap(), Some(command.clone().into()));
    }
}

#[test]
fn tight_fields_are_bits_and_bytes() {
    let id = SessionId {
        connection_id: Some("miropexbo".into()),
        value: i64::MIN,
    };
    // Bits, lowest first: there is a string, it is ASCII, and the number takes eight bytes (1, 1).
    let frame = b"\0\0\0\x16\x79\x01\x0f\0\x09miropexbo\x80\0\0\0\0\0\0\0";
    assert_eq!(encode(&format(true, None), id.clone()).unwrap(), &frame[..]);
    assert_eq!(decode(&format(true, None), frame).unwrap(), Some(id.into()));
}

#[test]
fn any_flag_but_zero_is_true_as_java_reads_it() {
    let frame = b"\0\0\0\x06\x0a\0\0\0\x01\x7f";
    let command = decode(&format(false, None), frame).unwrap().unwrap();
    assert!(command.response_required());
}

#[test]
fn a_cached_value_goes_over_the_wire_once() {
    for tight in [false, true] {
        let format = format(tight, Some(1024));
        let command = Command::from(SessionInfo {
            session_id: Some(SessionId {
                connection_id: Some("ID:somewhere-1".into()),
                value: 1,
            }),
            ..SessionInfo::default()
        });
        let (mut encoder, mut decoder) = (Encoder::new(format.clone()), Decoder::new(format));
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let mut out = BytesMut::new();
            encoder.encode(&command, &mut out).unwrap();
            sizes.push(out.len());
            assert_eq!(decoder.decode(&mut out).unwrap().as_ref(), Some(&command));
        }
        assert!(sizes[1] < sizes[0] / 2 && sizes[1] == sizes[2], "{sizes:?}");
    }
}

#[test]
fn a_frame_over_the_limit_is_refused_by_its_size_alone() {
    let kind = |bytes: &[u8]| decode(&format(true, None), bytes).map_err(|error| error.kind());
    assert_eq!(kind(b"\0\0\x04\x01"), Err(WireErrorKind::FrameTooLarge));
    assert_eq!(kind(b"\x7f\xff\xff\xff"), Err(WireErrorKind::FrameTooLarge));
    assert_eq!(kind(b"\0\0\x04\0"), Ok(None), "1024 bytes may come");
    assert_eq!(kind(b"\0\0\0\0"), Err(WireErrorKind::Invalid));
    assert_eq!(kind(b"\xff\xff\xff\xff"), Err(WireErrorKind::Invalid));
}

#[test]
fn a_frame_that_cannot_be_sent_leaves_the_connection_as_it_was() {
    for tight in [false, true] {
        let format = format(tight, Some(100));
        let named = |name: &str, selector: String| {
            Command::from(Box::new(ConsumerInfo {
                destination: Some(Destination::queue(name)),
                selector: Some(selector.into()),
                ..ConsumerInfo::default()
            }))
        };
        let good = named("good", "a = 1".into());
        let (mut encoder, mut decoder) = (Encoder::new(format.clone()), Decoder::new(format.clone()));
        let mut out = BytesMut::new();
        encoder.encode(&good, &mut out).unwrap();
        let before = out.clone();
        for (bad, kind) in [
            (named("long", "x".repeat(65536)), WireErrorKind::TooLong),
            (named("large", "x".repeat(1024)), WireErrorKind::FrameTooLarge),
        ] {
            assert_eq!(encoder.encode(&bad, &mut out).unwrap_err().kind(), kind);
            assert_eq!(out, before);
        }
        // The peer, which saw nothing of those, understands what comes after.
        encoder.encode(&named("long", String::new()), &mut out).unwrap();
        encoder.encode(&named("large", String::new()), &mut out).unwrap();
        encoder.encode(&good, &mut out).unwrap();
        for expected in [
            good.clone(),
            named("long", String::new()),
            named("large", String::new()),
            good,
        ] {
            assert_eq!(decoder.decode(&mut out).unwrap(), Some(expected));
        }
    }
}

#[test]
fn bytes_left_over_are_an_error_and_null_objects_are_skipped() {
    let kind = |bytes: &[u8]| decode(&format(false, None), bytes).map_err(|error| error.kind());
    assert_eq!(kind(b"\0\0\0\x07\x0a\0\0\0\0\0\0"), Err(WireErrorKind::Trailing));
    assert_eq!(kind(b"\0\0\0\x02\0\0"), Err(WireErrorKind::Trailing));
    let mut out = BytesMut::new();
    let mut encoder = Encoder::new(format(false, None));
    encoder.encode_null(&mut out);
    encoder.encode_null(&mut out);
    assert_eq!(kind(&out), Ok(None));
    encoder.encode(&ShutdownInfo::default().into(), &mut out).unwrap();
    assert_eq!(kind(&out), Ok(Some(ShutdownInfo::default().into())));
}

#[test]
fn the_length_of_the_bits_takes_one_to_three_bytes() {
    let nulls = |count: usize| DataArrayResponse {
        data: Some(vec![None; count]),
        ..DataArrayResponse::default()
    };
    let mut format = format(true, None);
    format.max_frame_size = 1 << 20;
    // Two bits stand before those of the elements.
    for (count, head) in [
        (63 * 8 - 2, &[63][..]),
        (63 * 8 - 1, &[0xC0, 64]),
        (255 * 8 - 2, &[0xC0, 255]),
        (255 * 8 - 1, &[0x80, 1, 0]),
        (4096, &[0x80, 0x02, 0x01]),
    ] {
        let frame = encode(&format, nulls(count)).unwrap();
        assert_eq!(&frame[5..5 + head.len()], head, "{count} elements");
        assert_eq!(decode(&format, &frame).unwrap(), Some(nulls(count).into()));
    }
    // What Java could not write: an unused code, and more bits than a signed length counts.
    for head in [&[0x40][..], &[0x81], &[0xFF], &[0x80, 0x80, 0x00]] {
        let mut frame = vec![10];
        frame.extend_from_slice(head);
        frame.resize(40_000, 0);
        let error = Decoder::new(format.clone())
            .decode_frame(frame.into())
            .unwrap_err();
        assert_eq!(error.kind(), WireErrorKind::Invalid, "{head:02x?}");
    }
}

#[test]
fn more_bits_or_elements_than_a_length_counts_do_not_fit() {
    let format = WireFormat {
        max_frame_size: 1 << 20,
        ..format(true, None)
    };
    let info = |consumers: usize, path: usize| BrokerSubscriptionInfo {
        subscription_infos: Some(vec![
            Some(Box::new(ConsumerInfo {
                network_consumer_path: Some(vec![Some(ConsumerId::default()); path]),
                ..ConsumerInfo::default()
            }));
            consumers
        ]),
        ..BrokerSubscriptionInfo::default()
    };
    assert!(encode(&format, info(1, 32767)).is_ok());
    let kind = |info| encode(&format, info).unwrap_err().kind();
    assert_eq!(kind(info(1, 32768)), WireErrorKind::TooLong);
    // Each element has six bits, and at most 32767 bytes of them can be.
    assert_eq!(kind(info(2, 32767)), WireErrorKind::TooLong);
}

#[test]
fn nulls_in_arrays_are_cheap_to_send_and_therefore_counted() {
    for tight in [false, true] {
        let format = WireFormat {
            max_frame_size: 1 << 20,
            ..format(tight, None)
        };
        let nulls = |count| DataArrayResponse {
            data: Some(vec![None; count]),
            ..DataArrayResponse::default()
        };
        let frame = encode(&format, nulls(4096)).unwrap();
        assert_eq!(decode(&format, &frame).unwrap(), Some(nulls(4096).into()));
        assert_eq!(
            encode(&format, nulls(4097)).unwrap_err().kind(),
            WireErrorKind::Invalid
        );

        // The same frame with all the nulls a count can declare.
        let mut frame = vec![33];
        if tight {
            frame.extend_from_slice(&[0x80, 0x10, 0x01, 0x02]);
            frame.resize(4 + 4097, 0);
            frame.extend_from_slice(&[0; 8]);
        } else {
            frame.extend_from_slice(&[0; 9]);
            frame.push(1);
        }
        frame.extend_from_slice(&32767_i16.to_be_bytes());
        if !tight {
            frame.resize(frame.len() + 32767, 0);
        }
        let error = Decoder::new(format).decode_frame(frame.into()).unwrap_err();
        assert_eq!(error.kind(), WireErrorKind::Invalid);
    }
}

#[test]
fn the_parts_of_a_distributed_transaction_id_are_short_and_do_not_hold_on_to_the_frame() {
    let id = |length| {
        TransactionId::Xa(XaTransactionId {
            format_id: 1,
            global_transaction_id: Some(vec![7; length].into()),
            branch_qualifier: None,
        })
    };
    for tight in [false, true] {
        let format = format(tight, None);
        let frame = encode(&format, id(64)).unwrap().freeze().slice(4..);
        let Ok(Some(Command::TransactionId(TransactionId::Xa(read)))) =
            Decoder::new(format.clone()).decode_frame(frame.clone())
        else {
            panic!("not the id that was sent");
        };
        assert!(frame.is_unique(), "a part of the frame is still held");
        assert_eq!(TransactionId::Xa(read), id(64));
        assert_eq!(
            encode(&format, id(65)).unwrap_err().kind(),
            WireErrorKind::TooLong
        );
    }
}

#[test]
fn no_log_shows_a_password() {
    let command = Command::from(Box::new(ConnectionInfo {
        user_name: Some("somebody".into()),
        password: Some("hunter2".into()),
        ..ConnectionInfo::default()
    }));
    let shown = format!("{command:?}");
    assert!(
        shown.contains("somebody") && !shown.contains("hunter2"),
        "{shown}"
    );
    let frame = encode(&format(true, None), command.clone()).unwrap();
    assert_eq!(decode(&format(true, None), &frame).unwrap(), Some(command));
}

#[test]
fn long_bodies_come_out_where_they_belong() {
    for tight in [false, true] {
        let mut format = format(tight, None);
        format.max_frame_size = 1 << 20;
        for (content, properties) in [(5000, 10), (10, 5000), (5000, 5000), (1024, 1023), (0, 0)] {
            let message = Message {
                content: Some(vec![1; content].into()),
                marshalled_properties: Some(vec![2; properties].into()),
                user_id: Some("somebody".into()),
                ..Message::default()
            };
            let frame = encode(&format, Arc::new(message.clone())).unwrap();
            assert_eq!(decode(&format, &frame).unwrap(), Some(Arc::new(message).into()));
        }
    }
}

#[test]
fn the_stand_alone_form_is_loose_and_has_no_size() {
    let message = Message {
        kind: MessageKind::Text,
        content: Some(b"\0\0\0\x02hi"[..].into()),
        ..Message::default()
    };
    let mut out = BytesMut::from(&b"before"[..]);
    marshal(&message, &mut out).unwrap();
    assert_eq!(out[..11], *b"before\x1c\0\0\0\0");
    let bytes = out.freeze().slice(6..);
    assert_eq!(*unmarshal(bytes.clone()).unwrap(), message);
    for other in [&b"\0"[..], b"\x0a\0\0\0\0\0"] {
        assert_eq!(
            unmarshal(other.into()).unwrap_err().kind(),
            WireErrorKind::UnexpectedType
        );
    }
    assert!(unmarshal(bytes.slice(..bytes.len() - 1)).is_err());
}
