use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use proptest::prelude::*;

use super::*;
use crate::wire::{BrokerId, ConsumerId, Destination, MessageId, ProducerId, marshal, unmarshal};

/// Through the wire and back, as a receiver sees it.
fn received(message: Message, how: Marshalling) -> Message {
    let mut out = BytesMut::new();
    marshal(&message.into_wire(how).unwrap(), &mut out).unwrap();
    Message::from_wire(unmarshal(out.freeze()).unwrap())
}

const COMPRESSED: Marshalling = Marshalling {
    compress: true,
    nested_maps_and_lists: true,
};

fn both_ways(message: &Message, check: impl Fn(&Message)) {
    check(message);
    check(&received(message.clone(), Marshalling::default()));
    check(&received(message.clone(), COMPRESSED));
}

/// A message with this content, as a peer could send it.
fn with_content(kind: MessageKind, content: impl Into<Bytes>, compressed: bool) -> Message {
    Message::from_wire(Arc::new(wire::Message {
        kind,
        content: Some(content.into()),
        compressed,
        ..wire::Message::default()
    }))
}

/// Every accessor of a body; none of them may panic.
fn read_all(message: &Message) {
    let _ = message.as_text();
    let _ = message.as_bytes();
    let _ = message.as_map();
    let _ = message.as_stream();
    let _ = message.as_object();
    let _ = message.object_class_name();
    let _ = message.properties();
}

fn kinds() -> [Message; 7] {
    [
        Message::new(),
        Message::text("text"),
        Message::bytes(vec![1, 2, 3]),
        Message::map(ValueMap::from_iter([("a", 1)])),
        Message::stream(vec![Value::from(1)]),
        Message::object(vec![0xAC, 0xED, 0, 5, 0x70]),
        Message::blob("http://host/blob", None),
    ]
}

#[test]
fn each_kind_answers_its_own_accessor_only() {
    for message in kinds() {
        both_ways(&message, |message| {
            let answers = [
                (MessageKind::Text, message.as_text().map(drop)),
                (MessageKind::Bytes, message.as_bytes().map(drop)),
                (MessageKind::Bytes, message.bytes_reader().map(drop)),
                (MessageKind::Map, message.as_map().map(drop)),
                (MessageKind::Stream, message.as_stream().map(drop)),
                (MessageKind::Stream, message.stream_reader().map(drop)),
                (MessageKind::Object, message.as_object().map(drop)),
            ];
            for (kind, answer) in answers {
                match answer {
                    Ok(()) => assert_eq!(kind, message.kind()),
                    Err(error) => {
                        assert_ne!(kind, message.kind());
                        assert!(error.is_message_format());
                    }
                }
            }
        });
    }
}

#[test]
fn bodies_keep_what_was_put_into_them() {
    for text in ["", "hello", "你好 \0 \u{1F600}", &"long ".repeat(5000)] {
        both_ways(&Message::text(text), |m| {
            assert_eq!(m.as_text().unwrap(), Some(text))
        });
    }
    let map = ValueMap::from_iter([
        ("null", Value::Null),
        ("char", Value::Char(0xD800)),
        ("bytes", Value::from(vec![1, 2])),
        (
            "list",
            Value::from(vec![Value::from(ValueMap::from_iter([("deep", 1.5)]))]),
        ),
    ]);
    both_ways(&Message::map(map.clone()), |m| {
        assert_eq!(*m.as_map().unwrap(), map)
    });
    let entries = vec![
        Value::from("a"),
        Value::Null,
        Value::from(7_i64),
        Value::from(vec![0]),
    ];
    both_ways(&Message::stream(entries.clone()), |m| {
        assert_eq!(m.as_stream().unwrap(), entries);
    });
    both_ways(&Message::bytes(vec![0; 3000]), |m| {
        assert_eq!(m.as_bytes().unwrap(), vec![0; 3000])
    });
    both_ways(&Message::blob("http://host/blob", None), |m| {
        let blob = m.blob_reference().unwrap();
        assert_eq!(blob.remote_blob_url.as_deref(), Some("http://host/blob"));
        assert_eq!(blob.mime_type.as_deref(), Some("application/octet-stream"));
    });
}

#[test]
fn empty_bodies_have_no_content_and_are_never_marked_compressed() {
    let empty = [
        Message::empty(MessageKind::Text),
        Message::empty(MessageKind::Object),
        Message::empty(MessageKind::Bytes),
        Message::bytes(Bytes::new()),
        Message::map(ValueMap::new()),
        Message::stream(Vec::new()),
        Message::new(),
    ];
    for message in empty {
        let wire = message.clone().into_wire(COMPRESSED).unwrap();
        assert_eq!((&wire.content, wire.compressed), (&None, false), "{message:?}");
        both_ways(&message, |message| {
            match message.kind() {
                MessageKind::Text => assert_eq!(message.as_text().unwrap(), None),
                MessageKind::Object => assert_eq!(message.as_object().unwrap(), None),
                MessageKind::Bytes => assert!(message.as_bytes().unwrap().is_empty()),
                MessageKind::Map => assert!(message.as_map().unwrap().is_empty()),
                MessageKind::Stream => assert!(message.as_stream().unwrap().is_empty()),
                _ => {}
            };
        });
    }
    // The empty text is not the null text.
    assert_eq!(
        Message::text("")
            .into_wire(COMPRESSED)
            .unwrap()
            .content
            .as_ref()
            .map(|c| c.len()),
        Some(
            body::deflate(MessageKind::Text, &Bytes::from_static(&[0; 4]))
                .unwrap()
                .len()
        )
    );
    let null = with_content(MessageKind::Text, vec![0xFF; 4], false);
    assert_eq!(null.as_text().unwrap(), None);
}

#[test]
fn a_change_stays_with_the_handle_it_was_made_through() {
    let original = received(
        {
            let mut message = Message::text("before");
            message.set_property("a", 1).unwrap();
            message
        },
        COMPRESSED,
    );
    let mut changed = original.clone();
    changed.set_property("b", 2).unwrap();
    changed.set_text("after");
    changed.set_correlation_id("c");
    assert_eq!(original.as_text().unwrap(), Some("before"));
    assert_eq!(original.property("b").unwrap(), None);
    assert_eq!(original.correlation_id(), None);
    both_ways(&changed, |changed| {
        assert_eq!(changed.as_text().unwrap(), Some("after"));
        assert_eq!(changed.property_i32("a").unwrap(), 1);
        assert_eq!(changed.property_i32("b").unwrap(), 2);
        assert_eq!(changed.correlation_id(), Some("c"));
    });
    changed.clear_body();
    changed.clear_properties();
    both_ways(&changed, |changed| {
        assert_eq!(changed.kind(), MessageKind::Text);
        assert_eq!(changed.as_text().unwrap(), None);
        assert!(changed.properties().unwrap().is_empty());
        assert_eq!(changed.correlation_id(), Some("c"));
    });
}

#[test]
fn what_nobody_touched_is_sent_on_as_the_bytes_it_came_as() {
    // Trailing garbage in the properties and a body that inflates to nothing sensible.
    let wire = wire::Message {
        kind: MessageKind::Map,
        content: Some(Bytes::from_static(b"not deflated")),
        compressed: true,
        marshalled_properties: Some(Bytes::from_static(b"nor these")),
        ..wire::Message::default()
    };
    let sent = Message::from_wire(Arc::new(wire.clone()))
        .into_wire(Marshalling::default())
        .unwrap();
    assert_eq!(*sent, wire);
}

#[test]
fn sending_on_leaves_an_earlier_life_behind() {
    let producer = ProducerId {
        connection_id: Some("ID:c".into()),
        value: 1,
        session_id: 1,
    };
    let first = Message::from_wire(Arc::new(wire::Message {
        kind: MessageKind::Text,
        command_id: 9,
        response_required: true,
        producer_id: Some(producer.clone()),
        message_id: Some(MessageId {
            producer_id: Some(producer),
            producer_sequence_id: 3,
            ..MessageId::default()
        }),
        original_destination: Some(Destination::queue("before")),
        target_consumer_id: Some(ConsumerId::default()),
        redelivery_counter: 4,
        broker_path: Some(vec![Some(BrokerId::default())]),
        user_id: Some("somebody".into()),
        broker_in_time: 1,
        broker_out_time: 2,
        arrival: 3,
        recieved_by_df_bridge: true,
        jmsx_group_first_for_consumer: true,
        correlation_id: Some("c".into()),
        reply_to: Some(Destination::topic("answers")),
        message_type: Some("t".into()),
        group_id: Some("g".into()),
        group_sequence: 2,
        ..wire::Message::default()
    }));
    assert_eq!(first.message_id().as_deref(), Some("ID:c:1:1:3"));
    assert_eq!(
        *first.into_wire(Marshalling::default()).unwrap(),
        wire::Message {
            kind: MessageKind::Text,
            correlation_id: Some("c".into()),
            reply_to: Some(Destination::topic("answers")),
            message_type: Some("t".into()),
            group_id: Some("g".into()),
            group_sequence: 2,
            ..wire::Message::default()
        }
    );
}

#[test]
fn values_that_cannot_stand_where_they_do_are_refused() {
    let list = || Value::from(vec![Value::Null]);
    let flat = Marshalling {
        nested_maps_and_lists: false,
        ..Marshalling::default()
    };
    let refused = |message: Message, how| message.into_wire(how).unwrap_err().is_message_format();
    assert!(refused(Message::stream(vec![list()]), Marshalling::default()));
    assert!(refused(Message::map(ValueMap::from_iter([("a", list())])), flat));
    let mut message = Message::new();
    message.set_property("a", list()).unwrap();
    assert!(refused(message.clone(), flat));
    assert!(message.into_wire(Marshalling::default()).is_ok());
    let long_name = ValueMap::from_iter([("x".repeat(65536), 1)]);
    assert!(refused(Message::map(long_name), Marshalling::default()));
    assert!(
        Message::new()
            .set_property("a", vec![1_u8])
            .unwrap_err()
            .is_message_format()
    );
}

/// As Java writes it: the whole buffer of the stream, zeros and all, behind the length of what counts.
#[test]
fn a_compressed_bytes_body_ends_where_its_length_says() {
    let mut buffer = vec![7; 10];
    buffer.resize(1028, 0);
    let mut content = body::deflate(MessageKind::Bytes, &buffer.into())
        .unwrap()
        .to_vec();
    content[..4].copy_from_slice(&10_i32.to_be_bytes());
    let message = with_content(MessageKind::Bytes, content.clone(), true);
    assert_eq!(message.as_bytes().unwrap(), vec![7; 10]);

    content[..4].copy_from_slice(&1029_i32.to_be_bytes());
    let message = with_content(MessageKind::Bytes, content, true);
    assert!(message.as_bytes().unwrap_err().is_message_format());
}

#[test]
fn a_body_that_inflates_past_the_limit_is_refused() {
    let zeros = Bytes::from(vec![0; 1000]);
    for kind in [MessageKind::Text, MessageKind::Bytes, MessageKind::Object] {
        let content = body::deflate(kind, &zeros).unwrap();
        assert_eq!(body::inflate(kind, &content, 1000).unwrap(), zeros);
        let message = with_content(kind, content, true).with_inflated_limit(999);
        let fault = match kind {
            MessageKind::Text => message.as_text().map(drop),
            MessageKind::Bytes => message.as_bytes().map(drop),
            _ => message.as_object().map(drop),
        };
        let error = fault.unwrap_err();
        assert!(
            error.is_message_format() && error.to_string().contains("999"),
            "{error}"
        );
    }
}

#[test]
fn malformed_bodies_are_errors() {
    let bad: &[(MessageKind, &[u8])] = &[
        (MessageKind::Text, b""),
        (MessageKind::Text, b"\0\0\0"),
        (MessageKind::Text, b"\0\0\0\x05abcd"),
        (MessageKind::Text, b"\0\0\0\x02abcd"),
        (MessageKind::Text, b"\xFF\xFF\xFF\xFEabcd"),
        (MessageKind::Text, b"\0\0\0\x01\xFF"),
        (MessageKind::Map, b"\0\0\0\x01"),
        (MessageKind::Map, b"\x7F\xFF\xFF\xFF"),
        (MessageKind::Stream, b"\x63"),
        (MessageKind::Stream, b"\x0A\x7F\xFF\xFF\xFFab"),
    ];
    for (kind, content) in bad {
        let message = with_content(*kind, *content, false);
        let fault = match kind {
            MessageKind::Text => message.as_text().map(drop),
            MessageKind::Map => message.as_map().map(drop),
            _ => message.as_stream().map(drop),
        };
        assert!(fault.unwrap_err().is_message_format(), "{kind:?} {content:?}");
    }
}

#[test]
fn the_class_of_a_serialized_object_is_read_from_its_stream() {
    let class = |tail: &[u8]| {
        let stream = [b"\xAC\xED\0\x05", tail].concat();
        Message::object(stream).object_class_name().unwrap()
    };
    assert_eq!(
        class(b"sr\0\x13java.util.ArrayListx").as_deref(),
        Some("java.util.ArrayList")
    );
    assert_eq!(class(b"ur\0\x02[B").as_deref(), Some("[B"));
    assert_eq!(class(b"t\0\x01a").as_deref(), Some("java.lang.String"));
    assert_eq!(class(b"p"), None);
    assert_eq!(class(b"sr\0\x13java"), None);
    assert_eq!(class(b""), None);
    assert_eq!(
        Message::object(b"anything".to_vec()).object_class_name().unwrap(),
        None
    );
}

#[test]
fn property_names_keep_the_rules_of_jms() {
    let mut message = Message::new();
    for name in [
        "a",
        "_a1",
        "$x",
        "größe",
        "JMS_vendor",
        "JMSXAppID",
        "nullable",
        "内容",
    ] {
        message.set_property(name, 1).unwrap();
        assert_eq!(message.property_i32(name).unwrap(), 1);
    }
    for name in [
        "",
        "1a",
        "a.b",
        "a-b",
        "a b",
        "NULL",
        "true",
        "Escape",
        "is",
        "JMSMessageID",
        "JMSDestination",
    ] {
        assert!(
            message.set_property(name, 1).unwrap_err().is_invalid(),
            "{name:?}"
        );
    }
}

#[test]
fn header_fields_are_set_and_seen_as_properties() {
    let mut message = Message::new();
    let cases: &[(&str, Value, Value)] = &[
        ("JMSXDeliveryCount", "3".into(), 3.into()),
        ("JMSXGroupID", 7.into(), "7".into()),
        ("JMSXGroupSeq", 2.into(), 2.into()),
        ("JMSCorrelationID", true.into(), "true".into()),
        (
            "JMSDeliveryMode",
            "non_persistent".into(),
            "NON_PERSISTENT".into(),
        ),
        ("JMSDeliveryMode", 2.into(), "PERSISTENT".into()),
        ("JMSDeliveryMode", false.into(), "NON_PERSISTENT".into()),
        ("JMSExpiration", 5.into(), 5_i64.into()),
        ("JMSPriority", 9.into(), 9.into()),
        ("JMSRedelivered", true.into(), true.into()),
        ("JMSReplyTo", "topic://t".into(), "topic://t".into()),
        ("JMSReplyTo", "q".into(), "queue://q".into()),
        ("JMSTimestamp", 6_i64.into(), 6_i64.into()),
        ("JMSType", "t".into(), "t".into()),
    ];
    for (name, set, seen) in cases {
        message.set_property(name, set.clone()).unwrap();
        assert_eq!(message.property(name).unwrap().as_ref(), Some(seen), "{name}");
    }
    assert!(message.properties().unwrap().is_empty());
    assert_eq!(
        message.property_names().unwrap(),
        ["JMSXDeliveryCount", "JMSXGroupID", "JMSXGroupSeq"]
    );
    assert_eq!(message.delivery_count(), 3);
    assert_eq!(message.group_id(), Some("7"));
    assert_eq!(message.delivery_mode(), DeliveryMode::NonPersistent);
    for (name, wrong) in [
        ("JMSXDeliveryCount", Value::from(5_i64)),
        ("JMSXGroupSeq", "x".into()),
        ("JMSPriority", 10.into()),
        ("JMSDeliveryMode", 3.into()),
        ("JMSRedelivered", 3.into()),
        ("JMSReplyTo", 3.into()),
        ("JMSTimestamp", Value::Null),
    ] {
        assert!(
            message.set_property(name, wrong).unwrap_err().is_message_format(),
            "{name}"
        );
    }
    for name in ["JMSXGroupID", "JMSCorrelationID", "JMSReplyTo", "JMSType"] {
        message.set_property(name, Value::Null).unwrap();
        assert!(!message.has_property(name).unwrap(), "{name}");
    }
    message.clear_properties();
    assert_eq!(message.expiration(), 5);
}

/// The broker's own word on the user goes before what the sender says.
#[test]
fn the_user_id_is_a_property_until_a_broker_sets_it() {
    let mut message = Message::new();
    message.set_property("JMSXUserID", "said").unwrap();
    let mut wire = message.into_wire(Marshalling::default()).unwrap();
    assert_eq!(wire.user_id, None);
    let said = Message::from_wire(wire.clone());
    assert_eq!(said.property("JMSXUserID").unwrap(), Some("said".into()));
    Arc::make_mut(&mut wire).user_id = Some("known".into());
    let known = Message::from_wire(wire);
    assert_eq!(known.property("JMSXUserID").unwrap(), Some("known".into()));
    assert_eq!(known.property_names().unwrap(), ["JMSXUserID"]);
}

#[test]
fn scheduling_properties_take_the_types_the_broker_reads() {
    let mut message = Message::new();
    message.set_property("AMQ_SCHEDULED_DELAY", 500).unwrap();
    message.set_property("AMQ_SCHEDULED_PERIOD", "10").unwrap();
    message.set_property("AMQ_SCHEDULED_REPEAT", 3_i8).unwrap();
    message.set_property("AMQ_SCHEDULED_CRON", "0 * * * *").unwrap();
    let properties = message.properties().unwrap();
    assert_eq!(properties.get("AMQ_SCHEDULED_DELAY"), Some(&Value::Long(500)));
    assert_eq!(properties.get("AMQ_SCHEDULED_PERIOD"), Some(&Value::Long(10)));
    assert_eq!(properties.get("AMQ_SCHEDULED_REPEAT"), Some(&Value::Int(3)));
    assert!(
        message
            .set_property("AMQ_SCHEDULED_DELAY", 1.5)
            .unwrap_err()
            .is_message_format()
    );
}

#[test]
fn times_and_expiry() {
    let at = |expiration| {
        Message::from_wire(Arc::new(wire::Message {
            expiration,
            timestamp: expiration,
            ..wire::Message::default()
        }))
    };
    let now = UNIX_EPOCH + Duration::from_millis(1000);
    assert!(at(999).is_expired(now));
    for expiration in [1000, 1001, 0, i64::MAX, -1] {
        assert!(!at(expiration).is_expired(now), "{expiration}");
    }
    assert_eq!(at(1000).sent_at(), Some(now));
    assert_eq!(at(0).sent_at(), None);
}

/// The rows and columns of JMS 1.1, 3.5.4 and 3.11.3, with the values ActiveMQ's Java client gives.
#[test]
fn values_convert_as_jms_says() {
    let text = |value: Value| {
        let show = |result: Result<String>| match result {
            Ok(text) => text,
            Err(error) => {
                assert!(error.is_message_format());
                "!".into()
            }
        };
        [
            show(value.bool().map(|v| v.to_string())),
            show(value.i8().map(|v| v.to_string())),
            show(value.i16().map(|v| v.to_string())),
            show(value.char().map(|v| v.to_string())),
            show(value.i32().map(|v| v.to_string())),
            show(value.i64().map(|v| v.to_string())),
            show(value.f32().map(|v| v.to_string())),
            show(value.f64().map(|v| v.to_string())),
            show(value.string().map(|v| v.as_deref().unwrap_or("null").to_owned())),
            show(
                value
                    .bytes()
                    .map(|v| v.map_or_else(|| "null".into(), |v| v.len().to_string())),
            ),
        ]
        .join(" ")
    };
    assert_eq!(text(true.into()), "true ! ! ! ! ! ! ! true !");
    assert_eq!(text(7_i8.into()), "! 7 7 ! 7 7 ! ! 7 !");
    assert_eq!(text(8_i16.into()), "! ! 8 ! 8 8 ! ! 8 !");
    assert_eq!(text(Value::Char(99)), "! ! ! 99 ! ! ! ! c !");
    assert_eq!(text(9.into()), "! ! ! ! 9 9 ! ! 9 !");
    assert_eq!(text(10_i64.into()), "! ! ! ! ! 10 ! ! 10 !");
    assert_eq!(text(1.5_f32.into()), "! ! ! ! ! ! 1.5 1.5 1.5 !");
    assert_eq!(text(1e10.into()), "! ! ! ! ! ! ! 10000000000 1.0E10 !");
    assert_eq!(text("12".into()), "false 12 12 ! 12 12 12 12 12 !");
    assert_eq!(text("True".into()), "true ! ! ! ! ! ! ! True !");
    assert_eq!(text("-129".into()), "false ! -129 ! -129 -129 -129 -129 -129 !");
    assert_eq!(text(vec![1, 2].into()), "! ! ! ! ! ! ! ! ! 2");
    assert_eq!(text(Value::Null), "false ! ! ! ! ! ! ! null null");
    assert_eq!(text(Value::List(Vec::new())), "! ! ! ! ! ! ! ! ! !");
    assert_eq!(text(ValueMap::new().into()), "! ! ! ! ! ! ! ! ! !");
    // Java's integer parsers take a sign and nothing else.
    for refused in [
        "",
        "+",
        " 1",
        "1 ",
        "1.0",
        "0x10",
        "1L",
        "1e5",
        "9223372036854775808",
    ] {
        assert!(Value::from(refused).i64().is_err(), "{refused:?}");
    }
    assert_eq!(Value::from("+1").i8().unwrap(), 1);
}

#[test]
fn missing_entries_and_properties_read_as_null() {
    let message = Message::map(ValueMap::new());
    let map = message.as_map().unwrap();
    assert!(!map.get_bool("a").unwrap());
    assert_eq!(map.get_string("a").unwrap(), None);
    assert_eq!(map.get_bytes("a").unwrap(), None);
    assert!(map.get_i32("a").unwrap_err().is_message_format());
    assert!(map.get_char("a").unwrap_err().is_message_format());
    assert!(!message.property_bool("a").unwrap());
    assert_eq!(message.property_string("a").unwrap(), None);
    assert!(message.property_f64("a").unwrap_err().is_message_format());
}

#[test]
fn a_stream_is_read_in_order_and_a_failed_read_can_be_done_again() {
    let message = Message::stream(vec![
        Value::from("12"),
        Value::Null,
        Value::from(vec![1, 2]),
        Value::Char(99),
    ]);
    both_ways(&message, |message| {
        let mut reader = message.stream_reader().unwrap();
        assert!(reader.read_bytes().unwrap_err().is_message_format());
        assert_eq!(reader.read_i8().unwrap(), 12);
        assert_eq!(reader.read_string().unwrap(), None);
        assert!(reader.read_i32().unwrap_err().is_message_format());
        assert_eq!(reader.read_bytes().unwrap().unwrap(), vec![1, 2]);
        assert_eq!(reader.read_value().unwrap(), Value::Char(99));
        assert!(reader.read_value().unwrap_err().is_message_eof());
        assert!(reader.read_bool().unwrap_err().is_message_eof());
        reader.reset();
        assert_eq!(reader.read_f64().unwrap(), 12.0);
    });
}

#[test]
fn bytes_are_read_as_they_were_written() {
    let mut writer = BytesWriter::new();
    writer.write_bool(true);
    writer.write_i8(-7);
    writer.write_i8(-56);
    writer.write_i16(-12345);
    writer.write_i16(-11215);
    writer.write_char(0x4F60);
    writer.write_i32(-123456789);
    writer.write_i64(i64::MIN + 1);
    writer.write_f32(3.25);
    writer.write_f64(-1e300);
    writer.write_utf("你\0\u{1F600}").unwrap();
    writer.write_bytes(&[1, 2, 3]);
    assert!(
        writer
            .write_utf(&"x".repeat(65536))
            .unwrap_err()
            .is_message_format()
    );
    assert!(writer.write_value(&Value::Null).unwrap_err().is_message_format());
    both_ways(&Message::from(writer), |message| {
        let mut reader = message.bytes_reader().unwrap();
        assert!(reader.read_bool().unwrap());
        assert_eq!(reader.read_i8().unwrap(), -7);
        assert_eq!(reader.read_u8().unwrap(), 200);
        assert_eq!(reader.read_i16().unwrap(), -12345);
        assert_eq!(reader.read_u16().unwrap(), 54321);
        assert_eq!(reader.read_char().unwrap(), 0x4F60);
        assert_eq!(reader.read_i32().unwrap(), -123456789);
        assert_eq!(reader.read_i64().unwrap(), i64::MIN + 1);
        assert_eq!(reader.read_f32().unwrap(), 3.25);
        assert_eq!(reader.read_f64().unwrap(), -1e300);
        assert_eq!(reader.read_utf().unwrap(), "你\0\u{1F600}");
        let mut buffer = [0; 2];
        assert_eq!(reader.read_bytes(&mut buffer), 2);
        assert!(reader.read_i32().unwrap_err().is_message_eof());
        assert_eq!(reader.remaining(), 1);
        assert_eq!(reader.read_bytes(&mut buffer), 1);
        assert_eq!(buffer, [3, 2]);
        assert_eq!(reader.read_bytes(&mut buffer), 0);
        assert!(reader.read_i8().unwrap_err().is_message_eof());
        reader.reset();
        assert_eq!(reader.remaining(), reader.body_length());
        assert!(reader.read_bool().unwrap());
    });
}

/// A text that ends early, or is none, leaves the reader where it was.
#[test]
fn a_failed_read_of_text_does_not_move_on() {
    for (body, is_eof) in [(&b"\0\x05abc"[..], true), (b"\0\x01\xFF", false)] {
        let mut reader = BytesReader::new(Bytes::from_static(body));
        let error = reader.read_utf().unwrap_err();
        assert_eq!(
            (error.is_message_eof(), error.is_message_format()),
            (is_eof, !is_eof)
        );
        assert_eq!(reader.remaining(), body.len());
    }
}

#[tokio::test]
async fn a_message_is_acknowledged_by_its_consumer_or_by_nobody() {
    #[derive(Default)]
    struct Count(AtomicU32);

    #[async_trait]
    impl Acknowledger for Count {
        async fn acknowledge(&self) -> Result<()> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    let count = Arc::new(Count::default());
    Message::new().acknowledge().await.unwrap();
    let message = Message::new().with_acknowledger(count.clone());
    message.clone().acknowledge().await.unwrap();
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::Byte),
        any::<u16>().prop_map(Value::Char),
        any::<i16>().prop_map(Value::Short),
        any::<i32>().prop_map(Value::Int),
        any::<i64>().prop_map(Value::Long),
        any::<f64>().prop_map(Value::Double),
        any::<f32>().prop_map(Value::Float),
        any::<String>().prop_map(Value::from),
        any::<Vec<u8>>().prop_map(Value::from),
    ]
}

proptest! {
    #[test]
    fn any_text_goes_there_and_back(text: String) {
        both_ways(&Message::text(&*text), |m| assert_eq!(m.as_text().unwrap(), Some(&*text)));
    }

    #[test]
    fn any_bytes_go_there_and_back(bytes: Vec<u8>) {
        both_ways(&Message::bytes(bytes.clone()), |m| assert_eq!(m.as_bytes().unwrap(), bytes));
    }

    #[test]
    fn any_stream_goes_there_and_back(entries in prop::collection::vec(value(), 0..20)) {
        both_ways(&Message::stream(entries.clone()), |m| assert_eq!(m.as_stream().unwrap(), entries));
    }

    #[test]
    fn any_map_goes_there_and_back(map in prop::collection::btree_map(any::<String>(), value(), 0..20)) {
        let map: ValueMap = map.into_iter().collect();
        both_ways(&Message::map(map.clone()), |m| assert_eq!(*m.as_map().unwrap(), map));
    }

    #[test]
    fn any_content_reads_or_fails(content: Vec<u8>, compressed: bool) {
        for kind in [MessageKind::Text, MessageKind::Bytes, MessageKind::Map, MessageKind::Stream, MessageKind::Object] {
            let message = with_content(kind, content.clone(), compressed);
            read_all(&message);
            let properties = Message::from_wire(Arc::new(wire::Message {
                marshalled_properties: Some(content.clone().into()),
                ..wire::Message::default()
            }));
            let _ = properties.property_names();
        }
    }

    #[test]
    fn any_double_reads_back_from_its_text(value: f64) {
        let text = Value::Double(value).string().unwrap().unwrap();
        prop_assert_eq!(Value::from(text).f64().unwrap().to_bits(), value.to_bits());
    }

    #[test]
    fn any_float_reads_back_from_its_text(value: f32) {
        let text = Value::Float(value).string().unwrap().unwrap();
        prop_assert_eq!(Value::from(text).f32().unwrap().to_bits(), value.to_bits());
    }
}
