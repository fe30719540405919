//! One value out of a marshalled map, without unmarshalling the map: what a selector asks of a message.

use std::borrow::Cow;

use super::error::{WireError, WireErrorKind};
use super::mutf8::{decode_mutf8, encode_mutf8};
use super::read::check_depth;

/// A value in a marshalled map, borrowed from it.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueRef<'a> {
    /// Java's null.
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
    /// `String`. Borrowed unless it has characters that modified UTF-8 writes in its own way.
    String(Cow<'a, str>),
    /// `byte[]`, a map or a list, tagged as [`read_value`](super::read_value) takes it.
    Other(&'a [u8]),
}

/// Finds a value in a marshalled map, as [`decode_map`](super::decode_map) and
/// [`ValueMap::get`](super::ValueMap::get) would: a name that stands twice has its last value.
///
/// Takes time in proportion to the length of the map and allocates nothing, unless for the text found.
///
/// # Errors
///
/// Any [`WireError`] that the structure of the map gives. Names and texts that are not asked for are not looked into.
pub fn find_value<'a>(map: &'a [u8], name: &str) -> Result<Option<ValueRef<'a>>, WireError> {
    let name = encode_mutf8(name);
    let mut found = None;
    let mut rest = Rest(map);
    rest.entries(0, |key, value| {
        if key == &*name {
            found = Some(value);
        }
    })?;
    match rest.0.len() {
        0 => found.map(read).transpose(),
        left => Err(WireError::new(
            WireErrorKind::Trailing,
            format!("{left} bytes after a map"),
        )),
    }
}

/// Reads a tagged value that is known to be whole.
fn read(tagged: &[u8]) -> Result<ValueRef<'_>, WireError> {
    let mut rest = Rest(tagged);
    Ok(match rest.byte()? {
        0 => ValueRef::Null,
        1 => ValueRef::Bool(rest.byte()? != 0),
        2 => ValueRef::Byte(rest.byte()? as i8),
        3 => ValueRef::Char(u16::from_be_bytes(rest.array()?)),
        4 => ValueRef::Short(i16::from_be_bytes(rest.array()?)),
        5 => ValueRef::Int(i32::from_be_bytes(rest.array()?)),
        6 => ValueRef::Long(i64::from_be_bytes(rest.array()?)),
        7 => ValueRef::Double(f64::from_be_bytes(rest.array()?)),
        8 => ValueRef::Float(f32::from_be_bytes(rest.array()?)),
        9 => {
            let length = rest.short_length()?;
            ValueRef::String(decode_mutf8(rest.take(length)?)?)
        }
        13 => {
            let length = rest.length()?;
            ValueRef::String(decode_mutf8(rest.take(length)?)?)
        }
        _ => ValueRef::Other(tagged),
    })
}

/// What was not stepped over yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(WireError::truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(WireError::truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_be_bytes)
    }

    fn short_length(&mut self) -> Result<usize, WireError> {
        self.array().map(|length| u16::from_be_bytes(length).into())
    }

    fn length(&mut self) -> Result<usize, WireError> {
        let declared = i32::from_be_bytes(self.array()?);
        usize::try_from(declared).map_err(|_| WireError::invalid(format!("a count of {declared}")))
    }

    /// Steps over a map; `each` gets the names and the tagged values.
    fn entries(&mut self, depth: u32, mut each: impl FnMut(&'a [u8], &'a [u8])) -> Result<(), WireError> {
        check_depth(depth)?;
        let declared = i32::from_be_bytes(self.array()?);
        if declared == -1 {
            return Ok(());
        }
        let count =
            usize::try_from(declared).map_err(|_| WireError::invalid(format!("a count of {declared}")))?;
        for _ in 0..count {
            let length = self.short_length()?;
            let name = self.take(length)?;
            let before = self.0;
            self.skip(depth)?;
            each(name, &before[..before.len() - self.0.len()]);
        }
        Ok(())
    }

    /// Steps over a tagged value.
    fn skip(&mut self, depth: u32) -> Result<(), WireError> {
        let length = match self.byte()? {
            0 => 0,
            1 | 2 => 1,
            3 | 4 => 2,
            5 | 8 => 4,
            6 | 7 => 8,
            9 => self.short_length()?,
            10 | 13 => self.length()?,
            11 => return self.entries(depth + 1, |_, _| ()),
            12 => {
                check_depth(depth + 1)?;
                for _ in 0..self.length()? {
                    self.skip(depth + 1)?;
                }
                return Ok(());
            }
            other => {
                return Err(WireError::new(
                    WireErrorKind::UnexpectedType,
                    format!("tag {other} where a value belongs"),
                ));
            }
        };
        self.take(length).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use proptest::prelude::*;

    use super::super::{Value, ValueMap, decode_map, encode_map};
    use super::*;

    fn owned(value: ValueRef<'_>) -> Value {
        match value {
            ValueRef::Null => Value::Null,
            ValueRef::Bool(value) => value.into(),
            ValueRef::Byte(value) => value.into(),
            ValueRef::Char(value) => Value::Char(value),
            ValueRef::Short(value) => value.into(),
            ValueRef::Int(value) => value.into(),
            ValueRef::Long(value) => value.into(),
            ValueRef::Double(value) => value.into(),
            ValueRef::Float(value) => value.into(),
            ValueRef::String(value) => value.into_owned().into(),
            ValueRef::Other(tagged) => {
                super::super::read_value(&mut Bytes::copy_from_slice(tagged)).expect("it was stepped over")
            }
        }
    }

    #[test]
    fn every_value_is_found_as_it_is() {
        let list = vec![Value::from("in a list"), Value::Map(ValueMap::new())];
        let long = "x".repeat(70_000);
        let map: ValueMap = [
            ("null", Value::Null),
            ("bool", true.into()),
            ("byte", (-1_i8).into()),
            ("char", Value::Char(0x20AC)),
            ("short", (-300_i16).into()),
            ("int", 70_000_i32.into()),
            ("long", i64::MIN.into()),
            ("double", 1.5_f64.into()),
            ("float", (-0.5_f32).into()),
            ("string", "a\0\u{1F600}é".into()),
            ("long string", long.as_str().into()),
            ("bytes", vec![1_u8, 2].into()),
            ("list", list.into()),
            ("naïve\0", "its name is written in Java's way".into()),
        ]
        .into_iter()
        .collect();
        let mut bytes = BytesMut::new();
        encode_map(&map, &mut bytes).unwrap();
        for (name, value) in map.iter() {
            assert_eq!(find_value(&bytes, name).unwrap().map(owned).as_ref(), Some(value));
        }
        assert_eq!(find_value(&bytes, "absent").unwrap(), None);
        assert_eq!(find_value(&[0xFF; 4], "in the null map").unwrap(), None);
    }

    proptest! {
        #[test]
        fn whatever_decodes_is_found_and_nothing_panics(bytes in prop::collection::vec(
            prop_oneof![3 => 0_u8..16, 1 => any::<u8>()], 0..64,
        ), name in "[a-c]?") {
            let looked = find_value(&bytes, &name);
            if let Ok(map) = decode_map(Bytes::copy_from_slice(&bytes)) {
                // NaN is no equal of itself.
                let found = looked.unwrap().map(owned);
                prop_assert_eq!(format!("{:?}", found.as_ref()), format!("{:?}", map.get(&name)));
            }
        }
    }
}
