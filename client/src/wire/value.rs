//! Tagged values and maps of them: properties, map and stream bodies, the options of a `WireFormatInfo`.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::{WireError, WireErrorKind};
use super::loose::{MAX_DEPTH, count, too_deep, too_long};
use super::mutf8::{decode_mutf8, encode_mutf8};

/// A Java string of this many UTF-16 units or more is written with a four-byte length.
const BIG_STRING: usize = 8191;

/// A value with its type.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Java's null.
    #[default]
    Null,
    /// `boolean`.
    Bool(bool),
    /// `byte`.
    Byte(i8),
    /// `char`: one UTF-16 unit.
    Char(u16),
    /// `short`.
    Short(i16),
    /// `int`.
    Int(i32),
    /// `long`.
    Long(i64),
    /// `double`.
    Double(f64),
    /// `float`.
    Float(f32),
    /// `String`.
    String(Arc<str>),
    /// `byte[]`.
    Bytes(Bytes),
    /// A map; see `jms.nestedMapAndListEnabled`.
    Map(ValueMap),
    /// A list; see `jms.nestedMapAndListEnabled`.
    List(Vec<Value>),
}

macro_rules! value_from {
    ($($ty:ty => $variant:ident),* $(,)?) => { $(
        impl From<$ty> for Value {
            fn from(value: $ty) -> Self {
                Self::$variant(value.into())
            }
        }
    )* };
}

value_from! {
    bool => Bool, i8 => Byte, i16 => Short, i32 => Int, i64 => Long, f64 => Double, f32 => Float,
    &str => String, String => String, Arc<str> => String, Bytes => Bytes, Vec<u8> => Bytes,
    ValueMap => Map, Vec<Value> => List,
}

/// A map from names to values that keeps its order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ValueMap {
    entries: Vec<(Arc<str>, Value)>,
}

impl ValueMap {
    /// An empty map.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// The value under a name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.entries
            .iter()
            .rfind(|(key, _)| &**key == name)
            .map(|(_, value)| value)
    }

    /// Sets a value, in place if the name is known. Returns the value that was there.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, value: impl Into<Value>) -> Option<Value> {
        let (name, value) = (name.into(), value.into());
        match self.entries.iter_mut().rfind(|(key, _)| *key == name) {
            Some((_, old)) => Some(std::mem::replace(old, value)),
            None => {
                self.entries.push((name, value));
                None
            }
        }
    }

    /// Removes a value.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.entries.iter().rposition(|(key, _)| &**key == name)?;
        Some(self.entries.remove(at).1)
    }

    /// The entries, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (&**key, value))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<K: Into<Arc<str>>, V: Into<Value>> FromIterator<(K, V)> for ValueMap {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self {
            entries: entries
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        }
    }
}

/// Appends a map: its count, then names and tagged values.
///
/// # Errors
///
/// [`WireErrorKind::TooLong`] for a name of more than 65535 bytes.
pub fn encode_map(map: &ValueMap, out: &mut BytesMut) -> Result<(), WireError> {
    out.put_i32(i32::try_from(map.len()).map_err(|_| too_long(map.len(), i32::MAX as usize))?);
    for (name, value) in map.iter() {
        put_short_string(name, out)?;
        write_value(value, out)?;
    }
    Ok(())
}

/// Reads a map that fills `bytes`. The null map reads as an empty one.
///
/// # Errors
///
/// Any [`WireError`]; bytes left over are one.
pub fn decode_map(mut bytes: Bytes) -> Result<ValueMap, WireError> {
    let map = read_map(&mut bytes, 0)?;
    if bytes.has_remaining() {
        return Err(WireError::new(
            WireErrorKind::Trailing,
            format!("{} bytes after a map", bytes.len()),
        ));
    }
    Ok(map)
}

/// Appends a tagged value.
///
/// # Errors
///
/// [`WireErrorKind::TooLong`] for a value that has no encoding.
pub fn write_value(value: &Value, out: &mut BytesMut) -> Result<(), WireError> {
    match value {
        Value::Null => out.put_u8(0),
        Value::Bool(value) => {
            out.put_u8(1);
            out.put_u8((*value).into());
        }
        Value::Byte(value) => {
            out.put_u8(2);
            out.put_i8(*value);
        }
        Value::Char(value) => {
            out.put_u8(3);
            out.put_u16(*value);
        }
        Value::Short(value) => {
            out.put_u8(4);
            out.put_i16(*value);
        }
        Value::Int(value) => {
            out.put_u8(5);
            out.put_i32(*value);
        }
        Value::Long(value) => {
            out.put_u8(6);
            out.put_i64(*value);
        }
        Value::Double(value) => {
            out.put_u8(7);
            out.put_f64(*value);
        }
        Value::Float(value) => {
            out.put_u8(8);
            out.put_f32(*value);
        }
        Value::String(text) if text.encode_utf16().count() < BIG_STRING => {
            out.put_u8(9);
            put_short_string(text, out)?;
        }
        Value::String(text) => {
            let encoded = encode_mutf8(text);
            out.put_u8(13);
            put_length(encoded.len(), out)?;
            out.put_slice(&encoded);
        }
        Value::Bytes(bytes) => {
            out.put_u8(10);
            put_length(bytes.len(), out)?;
            out.put_slice(bytes);
        }
        Value::Map(map) => {
            out.put_u8(11);
            encode_map(map, out)?;
        }
        Value::List(list) => {
            out.put_u8(12);
            put_length(list.len(), out)?;
            list.iter().try_for_each(|item| write_value(item, out))?;
        }
    }
    Ok(())
}

fn put_length(length: usize, out: &mut BytesMut) -> Result<(), WireError> {
    out.put_i32(i32::try_from(length).map_err(|_| too_long(length, i32::MAX as usize))?);
    Ok(())
}

fn put_short_string(text: &str, out: &mut BytesMut) -> Result<(), WireError> {
    let encoded = encode_mutf8(text);
    out.put_u16(u16::try_from(encoded.len()).map_err(|_| too_long(encoded.len(), 65535))?);
    out.put_slice(&encoded);
    Ok(())
}

/// Takes a tagged value from the front of `input`.
///
/// # Errors
///
/// Any [`WireError`].
pub fn read_value(input: &mut Bytes) -> Result<Value, WireError> {
    read_tagged(input, 0)
}

fn read_tagged(input: &mut Bytes, depth: u32) -> Result<Value, WireError> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    Ok(match take(input, 1)?.get_u8() {
        0 => Value::Null,
        1 => Value::Bool(take(input, 1)?.get_u8() != 0),
        2 => Value::Byte(take(input, 1)?.get_i8()),
        3 => Value::Char(take(input, 2)?.get_u16()),
        4 => Value::Short(take(input, 2)?.get_i16()),
        5 => Value::Int(take(input, 4)?.get_i32()),
        6 => Value::Long(take(input, 8)?.get_i64()),
        7 => Value::Double(take(input, 8)?.get_f64()),
        8 => Value::Float(take(input, 4)?.get_f32()),
        9 => Value::String(short_string(input)?),
        10 => {
            let length = length(input)?;
            Value::Bytes(take(input, length)?)
        }
        11 => Value::Map(read_map(input, depth + 1)?),
        12 => {
            let items = length(input)?;
            let mut list = Vec::new();
            for _ in 0..items {
                list.push(read_tagged(input, depth + 1)?);
            }
            Value::List(list)
        }
        13 => {
            let length = length(input)?;
            Value::String(Arc::from(&*decode_mutf8(&take(input, length)?)?))
        }
        other => {
            return Err(WireError::new(
                WireErrorKind::UnexpectedType,
                format!("tag {other} where a value belongs"),
            ));
        }
    })
}

fn read_map(input: &mut Bytes, depth: u32) -> Result<ValueMap, WireError> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    let declared = take(input, 4)?.get_i32();
    let mut map = ValueMap::new();
    if declared == -1 {
        return Ok(map);
    }
    // A name takes at least its length, a value at least its tag.
    for _ in 0..count(declared.into(), input.len() / 3)? {
        let name = short_string(input)?;
        map.entries.push((name, read_tagged(input, depth + 1)?));
    }
    Ok(map)
}

fn length(input: &mut Bytes) -> Result<usize, WireError> {
    let declared = take(input, 4)?.get_i32();
    count(declared.into(), input.len())
}

fn short_string(input: &mut Bytes) -> Result<Arc<str>, WireError> {
    let length = take(input, 2)?.get_u16();
    Ok(Arc::from(&*decode_mutf8(&take(input, length.into())?)?))
}

fn take(input: &mut Bytes, length: usize) -> Result<Bytes, WireError> {
    if input.len() < length {
        Err(WireError::truncated())
    } else {
        Ok(input.split_to(length))
    }
}
