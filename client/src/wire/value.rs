//! Tagged values and maps of them: properties, map and stream bodies, the options of a `WireFormatInfo`.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::error::{WireError, WireErrorKind};
use super::mutf8::encode_mutf8;
use super::read::{Input, check_depth, count};
use super::write::{put_length, put_text, too_long};

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
    List(Vec<Self>),
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
        // What a peer sent may hold a name twice; the last value counts.
        let mut removed = None;
        self.entries.retain_mut(|(key, value)| {
            let keep = &**key != name;
            if !keep {
                removed = Some(std::mem::take(value));
            }
            keep
        });
        removed
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

/// A map or list with more values than this, those in maps and lists within it included, is neither read nor
/// written: a value takes 40 bytes of memory and more for as little as one byte of the frame.
const MAX_VALUES: usize = 1 << 20;

/// Appends a map: its count, then names and tagged values.
///
/// # Errors
///
/// [`WireErrorKind::TooLong`] for a name of more than 65535 bytes or for more than 1048576 values,
/// [`WireErrorKind::TooDeep`] for maps and lists that no decoder would read. `out` is as before then.
pub fn encode_map(map: &ValueMap, out: &mut BytesMut) -> Result<(), WireError> {
    write(out, |writer| writer.map(map, 0))
}

/// Appends a tagged value.
///
/// # Errors
///
/// As for [`encode_map`].
pub fn write_value(value: &Value, out: &mut BytesMut) -> Result<(), WireError> {
    write(out, |writer| writer.value(value, 0))
}

/// Reads a map that fills `bytes`. The null map reads as an empty one. A name that stands twice has its
/// last value.
///
/// # Errors
///
/// Any [`WireError`]; bytes left over are one.
pub fn decode_map(bytes: Bytes) -> Result<ValueMap, WireError> {
    let mut reader = ValueReader::new(bytes);
    let map = reader.map(0)?;
    match reader.input.remaining() {
        0 => Ok(map),
        left => Err(WireError::new(
            WireErrorKind::Trailing,
            format!("{left} bytes after a map"),
        )),
    }
}

/// Takes a tagged value from the front of `input`.
///
/// # Errors
///
/// Any [`WireError`]. How much of `input` is left then is not specified.
pub fn read_value(input: &mut Bytes) -> Result<Value, WireError> {
    let mut reader = ValueReader::new(std::mem::take(input));
    let value = reader.value(0);
    *input = reader.input.into_rest();
    value
}

fn write(
    out: &mut BytesMut,
    write: impl FnOnce(&mut ValueWriter<'_>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let start = out.len();
    let result = write(&mut ValueWriter {
        out,
        left: MAX_VALUES,
    });
    if result.is_err() {
        out.truncate(start);
    }
    result
}

struct ValueWriter<'a> {
    out: &'a mut BytesMut,
    /// How many more values may follow.
    left: usize,
}

impl ValueWriter<'_> {
    fn map(&mut self, map: &ValueMap, depth: u32) -> Result<(), WireError> {
        check_depth(depth)?;
        put_length(self.out, map.len())?;
        for (name, value) in map.iter() {
            put_text(self.out, &encode_mutf8(name), u16::MAX.into())?;
            self.value(value, depth)?;
        }
        Ok(())
    }

    fn value(&mut self, value: &Value, depth: u32) -> Result<(), WireError> {
        self.left = self.left.checked_sub(1).ok_or_else(too_many)?;
        let out = &mut *self.out;
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
                put_text(out, &encode_mutf8(text), u16::MAX.into())?;
            }
            Value::String(text) => {
                let encoded = encode_mutf8(text);
                out.put_u8(13);
                put_length(out, encoded.len())?;
                out.put_slice(&encoded);
            }
            Value::Bytes(bytes) => {
                out.put_u8(10);
                put_length(out, bytes.len())?;
                out.put_slice(bytes);
            }
            Value::Map(map) => {
                out.put_u8(11);
                self.map(map, depth + 1)?;
            }
            Value::List(list) => {
                out.put_u8(12);
                check_depth(depth + 1)?;
                put_length(out, list.len())?;
                list.iter().try_for_each(|item| self.value(item, depth + 1))?;
            }
        }
        Ok(())
    }
}

struct ValueReader {
    input: Input,
    /// How many more values may follow.
    left: usize,
}

impl ValueReader {
    fn new(bytes: Bytes) -> Self {
        Self {
            input: Input::new(bytes),
            left: MAX_VALUES,
        }
    }

    fn map(&mut self, depth: u32) -> Result<ValueMap, WireError> {
        check_depth(depth)?;
        let declared = self.input.i32()?;
        let mut map = ValueMap::new();
        if declared == -1 {
            return Ok(map);
        }
        // A name takes at least its length, a value at least its tag.
        for _ in 0..count(declared, self.input.remaining() / 3)? {
            let length = self.input.u16()?;
            let name = self.input.text(length.into())?;
            map.entries.push((name, self.value(depth)?));
        }
        Ok(map)
    }

    fn value(&mut self, depth: u32) -> Result<Value, WireError> {
        self.left = self.left.checked_sub(1).ok_or_else(too_many)?;
        let input = &mut self.input;
        Ok(match input.u8()? {
            0 => Value::Null,
            1 => Value::Bool(input.u8()? != 0),
            2 => Value::Byte(input.u8()? as i8),
            3 => Value::Char(input.u16()?),
            4 => Value::Short(input.i16()?),
            5 => Value::Int(input.i32()?),
            6 => Value::Long(input.i64()?),
            7 => Value::Double(input.array().map(f64::from_be_bytes)?),
            8 => Value::Float(input.array().map(f32::from_be_bytes)?),
            9 => {
                let length = input.u16()?;
                Value::String(input.text(length.into())?)
            }
            10 => {
                let length = input.length()?;
                Value::Bytes(input.share(length)?)
            }
            11 => Value::Map(self.map(depth + 1)?),
            12 => {
                check_depth(depth + 1)?;
                let mut list = Vec::new();
                for _ in 0..input.length()? {
                    list.push(self.value(depth + 1)?);
                }
                Value::List(list)
            }
            13 => {
                let length = input.length()?;
                Value::String(input.text(length)?)
            }
            other => {
                return Err(WireError::new(
                    WireErrorKind::UnexpectedType,
                    format!("tag {other} where a value belongs"),
                ));
            }
        })
    }
}

fn too_many() -> WireError {
    too_long(MAX_VALUES + 1, MAX_VALUES)
}
