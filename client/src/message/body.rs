//! Bodies: their layouts in the content of a message, and its compression.

use std::io::{Read, Write};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::malformed;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::{
    self, MessageKind, Value, ValueMap, WireError, WireErrorKind, decode_map, decode_mutf8, encode_map,
    encode_mutf8, read_value, write_value,
};

/// A compressed body may inflate to this many bytes unless its consumer sets another limit: 100 MiB, what
/// ActiveMQ 6 allows. Without a bound a few kilobytes from a peer could fill the memory.
pub(super) const MAX_INFLATED: usize = 100 * 1024 * 1024;

/// A decoded body, or one to be encoded.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    None,
    Text(Option<Arc<str>>),
    Bytes(Bytes),
    Map(Arc<ValueMap>),
    Stream(Arc<[Value]>),
    Object(Option<Bytes>),
}

impl Body {
    /// Decodes the content of a message by its kind. A compressed one inflates to `limit` bytes at most.
    pub(super) fn decode(message: &wire::Message, limit: usize) -> Result<Self> {
        let content = match &message.content {
            Some(content) if message.compressed => Some(inflate(message.kind, content, limit)?),
            content => content.clone(),
        };
        Ok(match message.kind {
            MessageKind::Plain | MessageKind::Blob => Self::None,
            MessageKind::Text => Self::Text(content.map_or(Ok(None), decode_text)?),
            MessageKind::Bytes => Self::Bytes(content.unwrap_or_default()),
            MessageKind::Object => Self::Object(content),
            MessageKind::Map => Self::Map(Arc::new(match content {
                Some(content) => decode_map(content).map_err(malformed)?,
                None => ValueMap::new(),
            })),
            MessageKind::Stream => Self::Stream(decode_stream(content.unwrap_or_default())?),
        })
    }

    /// The content, without compression. `None` where Java sends none.
    pub(super) fn encode(&self) -> Result<Option<Bytes>> {
        let mut out = BytesMut::new();
        match self {
            Self::None => {}
            Self::Text(None) => {}
            Self::Text(Some(text)) => {
                let encoded = encode_mutf8(text);
                let length = i32::try_from(encoded.len()).map_err(|_| too_long(encoded.len()))?;
                out.reserve(4 + encoded.len());
                out.put_i32(length);
                out.put_slice(&encoded);
            }
            Self::Bytes(bytes) => return Ok(Some(bytes.clone()).filter(|bytes| !bytes.is_empty())),
            Self::Object(stream) => return Ok(stream.clone()),
            Self::Map(map) if map.is_empty() => {}
            Self::Map(map) => encode_map(map, &mut out).map_err(malformed)?,
            Self::Stream(entries) => {
                for entry in &**entries {
                    if matches!(entry, Value::Map(_) | Value::List(_)) {
                        return Err(Error::new(
                            ErrorKind::MessageFormat,
                            "a stream message holds no map or list",
                        ));
                    }
                    write_value(entry, &mut out).map_err(malformed)?;
                }
            }
        }
        Ok(Some(out.freeze()).filter(|content| !content.is_empty()))
    }
}

fn decode_text(mut content: Bytes) -> Result<Option<Arc<str>>> {
    let declared = content
        .try_get_i32()
        .map_err(|_| malformed(WireError::truncated()))?;
    match usize::try_from(declared) {
        Ok(length) if length == content.len() => {
            let text = decode_mutf8(&content).map_err(malformed)?;
            Ok(Some(Arc::from(&*text)))
        }
        Err(_) if declared == -1 => Ok(None),
        _ => Err(malformed(WireError::invalid(format!(
            "a text of {declared} bytes in {}",
            content.len()
        )))),
    }
}

fn decode_stream(mut content: Bytes) -> Result<Arc<[Value]>> {
    let mut entries = Vec::new();
    while content.has_remaining() {
        entries.push(read_value(&mut content).map_err(malformed)?);
    }
    Ok(entries.into())
}

/// Compresses content. That of a bytes message begins with its uncompressed length, as in Java.
pub(super) fn deflate(kind: MessageKind, content: &Bytes) -> Result<Bytes> {
    let mut out = Vec::new();
    if kind == MessageKind::Bytes {
        let length = i32::try_from(content.len()).map_err(|_| too_long(content.len()))?;
        out.put_i32(length);
    }
    let mut encoder = ZlibEncoder::new(out, Compression::default());
    encoder.write_all(content)?;
    Ok(encoder.finish()?.into())
}

/// Undoes [`deflate`] as far as the result keeps to `limit` bytes.
pub(super) fn inflate(kind: MessageKind, content: &Bytes, limit: usize) -> Result<Bytes> {
    if kind != MessageKind::Bytes {
        let out = read_inflated(content, limit.saturating_add(1))?;
        if out.len() > limit {
            return Err(over_limit(limit));
        }
        return Ok(out);
    }
    let mut content = content.clone();
    let declared = content
        .try_get_i32()
        .map_err(|_| malformed(WireError::truncated()))?;
    let length = usize::try_from(declared).map_err(|_| {
        malformed(WireError::new(
            WireErrorKind::Compression,
            format!("a body of {declared} bytes"),
        ))
    })?;
    if length > limit {
        return Err(over_limit(limit));
    }
    // Java deflates its whole buffer: what comes after the declared length is padding.
    let out = read_inflated(&content, length)?;
    if out.len() < length {
        return Err(malformed(WireError::new(
            WireErrorKind::Compression,
            format!("{} bytes where {length} were declared", out.len()),
        )));
    }
    Ok(out)
}

fn read_inflated(content: &[u8], at_most: usize) -> Result<Bytes> {
    let mut out = Vec::new();
    ZlibDecoder::new(content)
        .take(at_most as u64)
        .read_to_end(&mut out)
        .map_err(|error| malformed(WireError::new(WireErrorKind::Compression, error.to_string())))?;
    Ok(out.into())
}

fn over_limit(limit: usize) -> Error {
    malformed(WireError::new(
        WireErrorKind::Compression,
        format!("a body that inflates to more than {limit} bytes"),
    ))
}

fn too_long(length: usize) -> Error {
    malformed(WireError::new(
        WireErrorKind::TooLong,
        format!("a body of {length} bytes where {} is the limit", i32::MAX),
    ))
}

/// The class of the object that a Java serialization stream begins with, from its class descriptor.
pub(super) fn serialized_class_name(stream: &[u8]) -> Option<String> {
    // Stream magic and version, the tags of the grammar in the Java Object Serialization Specification, 6.4.
    let content = stream.strip_prefix(&[0xAC, 0xED, 0x00, 0x05])?;
    match content {
        // TC_STRING, TC_LONGSTRING.
        [0x74 | 0x7C, ..] => Some("java.lang.String".into()),
        // TC_CLASS.
        [0x76, ..] => Some("java.lang.Class".into()),
        // TC_OBJECT, TC_ARRAY or TC_ENUM, then TC_CLASSDESC and the name.
        [0x73 | 0x75 | 0x7E, 0x72, high, low, rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let name = decode_mutf8(rest.get(..length)?).ok()?;
            Some(name.into_owned())
        }
        _ => None,
    }
}
