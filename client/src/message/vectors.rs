//! Bodies and properties as the Java marshallers made them, against the values they hold.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use bytes::BytesMut;
use flate2::read::GzDecoder;
use serde_json::Value as Json;

use super::{Marshalling, Message};
use crate::wire::{Command, Decoder, MessageKind, Value, ValueMap, WireFormat, encode_map};

fn unhex(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A typed value. Floating-point numbers are compared with Java's text of them, too.
fn value(json: &Json) -> Value {
    let v = &json["v"];
    let long = || v.as_i64().or_else(|| v.as_str()?.parse().ok()).unwrap();
    let bits = || u64::from_str_radix(json["bits"].as_str().unwrap(), 16).unwrap();
    match json["t"].as_str().unwrap() {
        "null" => Value::Null,
        "bool" => Value::Bool(v.as_bool().unwrap()),
        "byte" => Value::Byte(long().try_into().unwrap()),
        "char" => Value::Char(long().try_into().unwrap()),
        "short" => Value::Short(long().try_into().unwrap()),
        "int" => Value::Int(long().try_into().unwrap()),
        "long" => Value::Long(long()),
        "double" => same_text(Value::Double(f64::from_bits(bits())), v),
        "float" => same_text(Value::Float(f32::from_bits(bits().try_into().unwrap())), v),
        "string" => v.as_str().unwrap().into(),
        "bytes" => unhex(v.as_str().unwrap()).into(),
        "map" => map(v).into(),
        "list" => list(v).into(),
        other => panic!("a value of type {other}"),
    }
}

fn same_text(value: Value, text: &Json) -> Value {
    assert_eq!(value.string().unwrap().as_deref(), text.as_str());
    value
}

fn map(json: &Json) -> ValueMap {
    let entries = json.as_array().unwrap().iter();
    entries
        .map(|entry| (entry[0].as_str().unwrap(), value(&entry[1])))
        .collect()
}

fn list(json: &Json) -> Vec<Value> {
    json.as_array().unwrap().iter().map(value).collect()
}

/// NaN is not equal to itself, its text is.
fn same(a: &impl std::fmt::Debug, b: &impl std::fmt::Debug) -> bool {
    format!("{a:?}") == format!("{b:?}")
}

/// The messages of a frame with their fields: it may be one or carry one.
fn message_of(command: Command, fields: &Json) -> Option<(Message, &Json)> {
    match command {
        Command::Message(message) => Some((Message::from_wire(message), fields)),
        Command::MessageDispatch(dispatch) => {
            Some((Message::from_wire(dispatch.message?), &fields["message"]))
        }
        _ => None,
    }
}

fn check(message: &Message, fields: &Json) {
    let body = &fields["body"];
    let text = body.get("text").map(|text| text.as_str().unwrap());
    let mut again = message.clone();
    match message.kind() {
        MessageKind::Text => {
            assert_eq!(message.as_text().unwrap(), text);
            text.into_iter().for_each(|text| again.set_text(text));
        }
        MessageKind::Bytes => {
            let bytes = body
                .get("bytes")
                .map_or_else(Vec::new, |hex| unhex(hex.as_str().unwrap()));
            assert_eq!(message.as_bytes().unwrap(), bytes);
            again.set_bytes(bytes);
        }
        MessageKind::Map => {
            let map = body.get("map").map_or_else(ValueMap::new, map);
            assert!(same(message.as_map().unwrap(), &map));
            again.set_map(map);
        }
        MessageKind::Stream => {
            let list = body.get("stream").map_or_else(Vec::new, list);
            assert!(same(&message.as_stream().unwrap(), &list));
            again.set_stream(list);
        }
        MessageKind::Object => {
            let stream = message.as_object().unwrap();
            assert!(stream.is_none_or(|stream| stream.starts_with(b"\xAC\xED\0\x05")));
        }
        MessageKind::Plain | MessageKind::Blob => assert!(body.is_null()),
    }
    // What was built from the values is what Java wrote; deflated bodies have many forms.
    if !message.wire().compressed {
        let content = again.into_wire(Marshalling::default()).unwrap().content.clone();
        assert_eq!(
            content.unwrap_or_default(),
            message.wire().content.clone().unwrap_or_default()
        );
    }

    let properties = match &fields["properties"] {
        Json::Null => ValueMap::new(),
        properties => map(properties),
    };
    assert!(same(message.properties().unwrap(), &properties));
    for (name, value) in properties.iter() {
        assert!(same(&message.property(name).unwrap().as_ref(), &Some(value)));
    }
    if let Some(marshalled) = &message.wire().marshalled_properties {
        let mut out = BytesMut::new();
        encode_map(&properties, &mut out).unwrap();
        assert_eq!(out, marshalled);
    }
}

#[test]
fn vectors_bodies() {
    let path = std::env::var("OPENWIRE_VECTORS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/vectors.jsonl.gz").into());
    let file = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let reader: Box<dyn Read> = match path.ends_with(".gz") {
        true => Box::new(GzDecoder::new(file)),
        false => Box::new(file),
    };
    let mut checked = [0; 7];
    for line in BufReader::new(reader).lines() {
        let vector: Json = serde_json::from_str(&line.unwrap()).unwrap();
        let mut decoder = Decoder::new(WireFormat {
            version: vector["version"].as_i64().unwrap().try_into().unwrap(),
            tight: vector["tight"] == true,
            cache: vector
                .get("cacheSize")
                .map(|size| size.as_i64().unwrap().try_into().unwrap()),
            stack_trace: vector["stackTrace"] == true,
            max_frame_size: 1024 * 1024,
            ..WireFormat::handshake()
        });
        let frames = match &vector["fields"]["frames"] {
            Json::Array(frames) => frames.clone(),
            _ => vec![vector["fields"].clone()],
        };
        let mut input = BytesMut::from(&*unhex(vector["hex"].as_str().unwrap()));
        for fields in frames.iter().filter(|fields| !fields.is_null()) {
            // Null objects are frames, too; the decoder passes over them.
            let command = decoder.decode(&mut input).unwrap().unwrap();
            if let Some((message, fields)) = message_of(command, fields) {
                check(&message, fields);
                checked[usize::from(message.kind().type_id() - 23)] += 1;
            }
        }
    }
    assert!(checked.iter().all(|&count| count > 20), "{checked:?}");
}
