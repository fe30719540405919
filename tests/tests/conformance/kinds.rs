//! One message of each kind, with every type of value in it, and what has to be found in it at the other end.

use bytes::Bytes;
use openwire_client::message::BytesWriter;
use openwire_client::{Message, MessageKind, Value, ValueMap};

use crate::check::{Outcome, ensure, refused, same};

/// Two, three and four bytes in UTF-8, and the character that modified UTF-8 writes in its own way.
pub(crate) const UNICODE: &str = "caf\u{e9} \u{4f60}\u{597d} \u{20ac} nul[\0] emoji[\u{1f600}] end";

/// The stream of Java's serialization for the string `hello`.
const JAVA_OBJECT: &[u8] = b"\xac\xed\0\x05t\0\x05hello";

/// More than a string with a length of two bytes holds.
const LONG: usize = 100_000;

/// A kind of message.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) make: fn() -> Outcome<Message>,
    pub(crate) verify: fn(&Message) -> Outcome,
}

/// All of them.
pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "text",
        make: || Ok(Message::text("hello")),
        verify: |message| same("the text", message.as_text()?, Some("hello")),
    },
    Kind {
        name: "text-empty",
        make: || Ok(Message::text("")),
        verify: |message| same("an empty text", message.as_text()?, Some("")),
    },
    Kind {
        name: "text-null",
        make: || Ok(Message::empty(MessageKind::Text)),
        verify: |message| same("no text", message.as_text()?, None),
    },
    Kind {
        name: "text-unicode",
        make: || Ok(Message::text(UNICODE)),
        verify: |message| same("any character", message.as_text()?, Some(UNICODE)),
    },
    Kind {
        name: "text-long",
        make: || Ok(Message::text(pattern(LONG))),
        verify: |message| same("a long text", message.as_text()?, Some(pattern(LONG).as_str())),
    },
    Kind {
        name: "bytes",
        make: write_bytes,
        verify: read_bytes,
    },
    Kind {
        name: "bytes-empty",
        make: || Ok(Message::empty(MessageKind::Bytes)),
        verify: |message| same("no bytes", message.as_bytes()?.len(), 0),
    },
    Kind {
        name: "map",
        make: || Ok(Message::map(entries())),
        verify: read_map,
    },
    Kind {
        name: "map-empty",
        make: || Ok(Message::empty(MessageKind::Map)),
        verify: |message| ensure(message.as_map()?.is_empty(), "the map is empty"),
    },
    Kind {
        name: "stream",
        make: || Ok(Message::stream(values())),
        verify: read_stream,
    },
    Kind {
        name: "stream-empty",
        make: || Ok(Message::empty(MessageKind::Stream)),
        verify: |message| {
            let end = message.stream_reader()?.read_i32();
            refused("reading an empty stream", end, |error| error.is_message_eof())
        },
    },
    Kind {
        name: "object",
        make: || Ok(Message::object(JAVA_OBJECT)),
        verify: |message| same("the object", message.as_object()?.as_deref(), Some(JAVA_OBJECT)),
    },
    Kind {
        name: "object-null",
        make: || Ok(Message::empty(MessageKind::Object)),
        verify: |message| same("no object", message.as_object()?, None),
    },
    Kind {
        name: "plain",
        make: || Ok(Message::new()),
        verify: |message| same("a message without a body", message.kind(), MessageKind::Plain),
    },
];

/// So many characters, none of which repeats its neighbourhood soon.
pub(crate) fn pattern(length: usize) -> String {
    let mut state: u32 = 7;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Printable ASCII.
        char::from(b' ' + (state >> 24) as u8 % 95)
    })
    .take(length)
    .collect()
}

/// Every byte there is.
fn every_byte() -> Vec<u8> {
    (0..=u8::MAX).collect()
}

fn write_bytes() -> Outcome<Message> {
    let mut body = BytesWriter::new();
    body.write_bool(true);
    body.write_i8(-7);
    body.write_i16(-12_345);
    body.write_char(0x4f60);
    body.write_i32(-123_456_789);
    body.write_i64(i64::MIN + 1);
    body.write_f32(3.25);
    body.write_f64(-1.0e300);
    body.write_utf(UNICODE)?;
    body.write_bytes(&every_byte());
    Ok(Message::from(body))
}

fn read_bytes(message: &Message) -> Outcome {
    let mut body = message.bytes_reader()?;
    same("a boolean", body.read_bool()?, true)?;
    same("a byte", body.read_i8()?, -7)?;
    same("a short", body.read_i16()?, -12_345)?;
    same("a char", body.read_char()?, 0x4f60)?;
    same("an int", body.read_i32()?, -123_456_789)?;
    same("a long", body.read_i64()?, i64::MIN + 1)?;
    same("a float", body.read_f32()?, 3.25)?;
    same("a double", body.read_f64()?, -1.0e300)?;
    same("a UTF string", body.read_utf()?, UNICODE)?;
    same("the rest", body.read_rest().to_vec(), every_byte())?;
    refused("reading behind the end", body.read_i32(), |error| {
        error.is_message_eof()
    })?;
    body.reset();
    same("the first value again", body.read_bool()?, true)
}

/// Every type that a map and a property can have, at its limits.
fn entries() -> ValueMap {
    let mut map = numbers_and_texts();
    map.insert("char", Value::Char(0xe9));
    map.insert("bytes", Bytes::from(every_byte()));
    map
}

fn numbers_and_texts() -> ValueMap {
    ValueMap::from_iter([
        ("yes", Value::from(true)),
        ("no", false.into()),
        ("byteMin", i8::MIN.into()),
        ("byteMax", i8::MAX.into()),
        ("shortMin", i16::MIN.into()),
        ("shortMax", i16::MAX.into()),
        ("intMin", i32::MIN.into()),
        ("intMax", i32::MAX.into()),
        ("longMin", i64::MIN.into()),
        ("longMax", i64::MAX.into()),
        ("float", 1.5_f32.into()),
        ("floatMin", f32::MIN_POSITIVE.into()),
        ("double", (-2.25_f64).into()),
        ("doubleMax", f64::MAX.into()),
        ("infinite", f64::NEG_INFINITY.into()),
        ("string", UNICODE.into()),
        ("emptyString", "".into()),
        ("nothing", Value::Null),
    ])
}

fn read_map(message: &Message) -> Outcome {
    let map = message.as_map()?;
    same("the entries", sorted(map), sorted(&entries()))?;
    same("a byte as a long", map.get_i64("byteMin")?, i64::from(i8::MIN))?;
    same("a char", map.get_char("char")?, 0xe9)?;
    same(
        "a number as a string",
        map.get_string("intMax")?.as_deref(),
        Some("2147483647"),
    )?;
    refused("a long as an int", map.get_i32("longMax"), |error| {
        error.is_message_format()
    })?;
    ensure(map.get("nothing").is_some(), "an entry that is null is there")?;
    ensure(map.get("absent").is_none(), "an entry that is absent is not")
}

/// A map has no order.
fn sorted(map: &ValueMap) -> Vec<(&str, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(name, _)| *name);
    entries
}

/// Every type that a stream can hold.
fn values() -> Vec<Value> {
    vec![
        false.into(),
        1_i8.into(),
        2_i16.into(),
        Value::Char(u16::from(b'c')),
        3_i32.into(),
        4_i64.into(),
        5.5_f32.into(),
        6.25_f64.into(),
        UNICODE.into(),
        Value::Null,
        Bytes::from(every_byte()).into(),
        "17".into(),
    ]
}

fn read_stream(message: &Message) -> Outcome {
    same("the entries", message.as_stream()?, values().as_slice())?;
    let mut stream = message.stream_reader()?;
    same("a boolean", stream.read_bool()?, false)?;
    same("a byte as a long", stream.read_i64()?, 1)?;
    refused("a short as a byte", stream.read_i8(), |error| {
        error.is_message_format()
    })?;
    same("the same short", stream.read_i16()?, 2)?;
    for _ in 0..8 {
        stream.read_value()?;
    }
    same("a string as a number", stream.read_i32()?, 17)?;
    refused("reading behind the end", stream.read_value(), |error| {
        error.is_message_eof()
    })
}

/// Gives a message one property of every type.
pub(crate) fn set_properties(message: &mut Message) -> Outcome {
    for (name, value) in numbers_and_texts().iter() {
        message.set_property(name, value.clone())?;
    }
    Ok(())
}

/// They have to be as they were.
pub(crate) fn verify_properties(message: &Message) -> Outcome {
    same(
        "the properties",
        sorted(message.properties()?),
        sorted(&numbers_and_texts()),
    )?;
    same(
        "a byte as a long",
        message.property_i64("byteMin")?,
        i64::from(i8::MIN),
    )?;
    same(
        "a short as an int",
        message.property_i32("shortMax")?,
        i32::from(i16::MAX),
    )?;
    same("a float as a double", message.property_f64("float")?, 1.5)?;
    same(
        "a boolean as a string",
        message.property_string("yes")?.as_deref(),
        Some("true"),
    )?;
    refused("a long as an int", message.property_i32("longMax"), |error| {
        error.is_message_format()
    })
}
