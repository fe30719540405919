//! Byte equality with the Java marshallers: frames made by ActiveMQ 5.17.2 with the values they hold, and
//! conversations recorded between a real client and a real broker.
//!
//! `OPENWIRE_VECTORS` names another file of the same form, plain or gzip; default is the one in `tests/data`.

mod fields;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use bytes::BytesMut;
use fields::{Body, FromJson, unhex};
use openwire_client::wire::*;
use serde_json::Value as Json;

fn data(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

struct Vector {
    label: String,
    format: WireFormat,
    frames: Vec<u8>,
    /// What the frames hold; none for the null object.
    fields: Vec<Option<Json>>,
}

impl Vector {
    fn parse(line: &str) -> Self {
        let json: Json = serde_json::from_str(line).unwrap();
        let flag = |name: &str| json[name] == Json::Bool(true);
        let cache = json.get("cacheSize").map(i32::from_json);
        assert_eq!(cache.is_some(), flag("cache"));
        let format = WireFormat {
            version: i32::from_json(&json["version"]),
            tight: flag("tight"),
            cache,
            stack_trace: flag("stackTrace"),
            max_frame_size: 1024 * 1024,
            ..WireFormat::handshake()
        };
        let object = |json: &Json| (!json.is_null()).then(|| json.clone());
        let fields = match &json["fields"]["frames"] {
            Json::Array(frames) => frames.iter().map(object).collect(),
            _ => vec![object(&json["fields"])],
        };
        Self {
            label: format!(
                "{} version {} {}",
                json["name"],
                format.version,
                if format.tight { "tight" } else { "loose" }
            ),
            format,
            frames: unhex(json["hex"].as_str().unwrap()),
            fields,
        }
    }

    fn decode(&self) -> Vec<Command> {
        let mut decoder = Decoder::new(self.format.clone());
        let mut input = BytesMut::from(&self.frames[..]);
        let mut commands = Vec::new();
        while let Some(command) = decoder
            .decode(&mut input)
            .unwrap_or_else(|e| panic!("{}: {e}", self.label))
        {
            commands.push(command);
        }
        assert!(input.is_empty(), "{}: bytes left over", self.label);
        commands
    }

    /// The commands, built from the fields alone.
    fn build(&self) -> Vec<Option<Command>> {
        self.fields
            .iter()
            .map(|fields| fields.as_ref().map(Command::from_json))
            .collect()
    }

    fn encode<'a>(&self, commands: impl IntoIterator<Item = Option<&'a Command>>) -> BytesMut {
        let mut encoder = Encoder::new(self.format.clone());
        let mut out = BytesMut::new();
        for command in commands {
            match command {
                Some(command) => encoder
                    .encode(command, &mut out)
                    .unwrap_or_else(|e| panic!("{}: {e}", self.label)),
                None => encoder.encode_null(&mut out),
            }
        }
        out
    }

    /// Deflate has many outputs for one input, so a deflated body that is too long to be part of the
    /// vector cannot be built again byte for byte.
    fn is_reproducible(&self) -> bool {
        !self
            .fields
            .iter()
            .flatten()
            .any(|fields| fields.get("contentLength").is_some() && fields["compressed"] == Json::Bool(true))
    }
}

/// Runs every line of the file and says how many there were.
fn each_vector(mut check: impl FnMut(&Vector)) -> usize {
    let path = std::env::var("OPENWIRE_VECTORS").unwrap_or_else(|_| data("vectors.jsonl.gz"));
    let file = File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let reader: Box<dyn Read> = if path.ends_with(".gz") {
        Box::new(flate2::read::GzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut count = 0;
    for line in BufReader::new(reader).lines() {
        check(&Vector::parse(&line.unwrap()));
        count += 1;
    }
    assert!(count > 3000, "{path} has only {count} vectors");
    count
}

/// Equality leaves out parts of ids and destinations, and this text leaves out passwords.
fn exact(commands: &[Command]) -> Vec<String> {
    commands.iter().map(|command| format!("{command:?}")).collect()
}

#[test]
fn vectors_decode_to_their_fields() {
    each_vector(|vector| {
        let expected: Vec<_> = vector.build().into_iter().flatten().collect();
        let decoded = vector.decode();
        if vector.is_reproducible() {
            assert_eq!(exact(&decoded), exact(&expected), "{}", vector.label);
            assert!(decoded == expected, "{}: a password", vector.label);
        } else {
            let body = |commands: &[Command]| match commands {
                [Command::Message(message)] => Body::of(message),
                other => panic!("{}: {other:?}", vector.label),
            };
            assert_eq!(body(&decoded), body(&expected), "{}", vector.label);
        }
    });
}

#[test]
fn vectors_built_from_their_fields_encode_to_the_very_bytes() {
    let mut inflated = 0;
    let count = each_vector(|vector| {
        let built = vector.build();
        let encoded = vector.encode(built.iter().map(Option::as_ref));
        if vector.is_reproducible() {
            assert_eq!(encoded, vector.frames, "{}", vector.label);
        } else {
            inflated += 1;
        }
    });
    assert!(inflated <= 4, "{inflated} of {count} were not compared");
}

#[test]
fn vectors_decoded_encode_to_the_very_bytes() {
    each_vector(|vector| {
        if vector.fields != [None] {
            let decoded = vector.decode();
            assert_eq!(
                vector.encode(decoded.iter().map(Some)),
                vector.frames,
                "{}",
                vector.label
            );
        }
    });
}

#[test]
fn vectors_of_captured_conversations_encode_to_the_very_bytes() {
    for name in ["tx-producer", "auto-consumer", "failover-1", "failover-2"] {
        let read = |side| {
            let path = data(&format!("captures/{name}.{side}.bin"));
            std::fs::read(Path::new(&path)).unwrap_or_else(|e| panic!("{path}: {e}"))
        };
        let sides = [read("c2s"), read("s2c")];
        let [client, broker] = sides.each_ref().map(|bytes| hello(&mut &bytes[..]));

        // Either side computes the settings from what both sent.
        let format = negotiate(&WireFormatOptions::default(), &broker).unwrap();
        assert_eq!(
            (format.version, format.tight, format.cache),
            (12, true, Some(1024))
        );
        let from_client = negotiate(&WireFormatOptions::default(), &client).unwrap();
        assert_eq!(
            (from_client.cache, from_client.stack_trace),
            (format.cache, format.stack_trace)
        );

        for bytes in &sides {
            let mut rest = &bytes[..];
            hello(&mut rest);
            let (mut decoder, mut encoder) = (Decoder::new(format.clone()), Encoder::new(format.clone()));
            let mut input = BytesMut::from(rest);
            let mut frames = 0;
            while !input.is_empty() {
                let before = input.clone();
                let command = decoder.decode(&mut input).unwrap().expect("whole frames only");
                let mut again = BytesMut::new();
                encoder.encode(&command, &mut again).unwrap();
                assert_eq!(again, before[..before.len() - input.len()], "{name}: {command:?}");
                frames += 1;
            }
            assert!(frames >= 5, "{name} has only {frames} frames");
        }
    }
}

/// Takes the first frame of a conversation, which no settings apply to yet.
fn hello(bytes: &mut &[u8]) -> WireFormatInfo {
    let mut input = BytesMut::from(*bytes);
    let command = Decoder::new(WireFormat::handshake()).decode(&mut input).unwrap();
    let taken = bytes.len() - input.len();
    let Some(Command::WireFormatInfo(info)) = command else {
        panic!("the first frame is {command:?}");
    };
    let mut again = BytesMut::new();
    Encoder::new(WireFormat::handshake())
        .encode(&info.clone().into(), &mut again)
        .unwrap();
    assert_eq!(again, bytes[..taken]);
    *bytes = &bytes[taken..];
    info
}
