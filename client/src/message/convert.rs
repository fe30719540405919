//! The conversions JMS allows between the types of values.

use std::sync::Arc;

use bytes::Bytes;

use super::{Message, number};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::{Value, ValueMap};

/// Reading a value as another type.
///
/// This is the table of JMS 1.1, 3.5.4 (properties) and 3.11.3 (map and stream bodies). A number widens,
/// everything but bytes reads as a string, and a string reads as whatever Java's `valueOf` takes it for:
///
/// | from \ to | bool | i8 | i16 | char | i32 | i64 | f32 | f64 | string | bytes |
/// |---|---|---|---|---|---|---|---|---|---|---|
/// | bool   | X | | | | | | | | X | |
/// | i8     | | X | X | | X | X | | | X | |
/// | i16    | | | X | | X | X | | | X | |
/// | char   | | | | X | | | | | X | |
/// | i32    | | | | | X | X | | | X | |
/// | i64    | | | | | | X | | | X | |
/// | f32    | | | | | | | X | X | X | |
/// | f64    | | | | | | | | X | X | |
/// | string | X | X | X | | X | X | X | X | X | |
/// | bytes  | | | | | | | | | | X |
///
/// Null reads as a false `bool`, as `None` where there is an option, and as nothing else. Every other
/// conversion fails with [`is_message_format`](Error::is_message_format), and so does a string that is no
/// number (Java's `NumberFormatException`). Of what Java's `valueOf` takes, digits other than ASCII's and
/// hexadecimal floating-point numbers are not read.
impl Value {
    /// The value as a `boolean`. A string is true if it is `true` in any case.
    pub fn bool(&self) -> Result<bool> {
        match self {
            Self::Null => Ok(false),
            Self::Bool(value) => Ok(*value),
            Self::String(text) => Ok(text.eq_ignore_ascii_case("true")),
            _ => Err(self.not("a boolean")),
        }
    }

    /// The value as a `byte`.
    pub fn i8(&self) -> Result<i8> {
        match self {
            Self::Byte(value) => Ok(*value),
            Self::String(text) => text.parse().map_err(|_| self.not("a byte")),
            _ => Err(self.not("a byte")),
        }
    }

    /// The value as a `short`.
    pub fn i16(&self) -> Result<i16> {
        match self {
            Self::Byte(value) => Ok((*value).into()),
            Self::Short(value) => Ok(*value),
            Self::String(text) => text.parse().map_err(|_| self.not("a short")),
            _ => Err(self.not("a short")),
        }
    }

    /// The value as a `char`: one UTF-16 unit.
    pub fn char(&self) -> Result<u16> {
        match self {
            Self::Char(value) => Ok(*value),
            _ => Err(self.not("a char")),
        }
    }

    /// The value as an `int`.
    pub fn i32(&self) -> Result<i32> {
        match self {
            Self::Byte(value) => Ok((*value).into()),
            Self::Short(value) => Ok((*value).into()),
            Self::Int(value) => Ok(*value),
            Self::String(text) => text.parse().map_err(|_| self.not("an int")),
            _ => Err(self.not("an int")),
        }
    }

    /// The value as a `long`.
    pub fn i64(&self) -> Result<i64> {
        match self {
            Self::Byte(value) => Ok((*value).into()),
            Self::Short(value) => Ok((*value).into()),
            Self::Int(value) => Ok((*value).into()),
            Self::Long(value) => Ok(*value),
            Self::String(text) => text.parse().map_err(|_| self.not("a long")),
            _ => Err(self.not("a long")),
        }
    }

    /// The value as a `float`.
    pub fn f32(&self) -> Result<f32> {
        match self {
            Self::Float(value) => Ok(*value),
            Self::String(text) => number::parse_float(text).ok_or_else(|| self.not("a float")),
            _ => Err(self.not("a float")),
        }
    }

    /// The value as a `double`.
    pub fn f64(&self) -> Result<f64> {
        match self {
            Self::Float(value) => Ok((*value).into()),
            Self::Double(value) => Ok(*value),
            Self::String(text) => number::parse_float(text).ok_or_else(|| self.not("a double")),
            _ => Err(self.not("a double")),
        }
    }

    /// The value as a `String`, with numbers as Java prints them (`1.0`, `1.0E10`); null is `None`.
    pub fn string(&self) -> Result<Option<Arc<str>>> {
        Ok(Some(match self {
            Self::Null => return Ok(None),
            Self::String(text) => text.clone(),
            Self::Bool(value) => value.to_string().into(),
            Self::Byte(value) => value.to_string().into(),
            Self::Short(value) => value.to_string().into(),
            Self::Int(value) => value.to_string().into(),
            Self::Long(value) => value.to_string().into(),
            Self::Char(unit) => String::from_utf16_lossy(&[*unit]).into(),
            Self::Float(value) => number::float_text(*value).into(),
            Self::Double(value) => number::double_text(*value).into(),
            Self::Bytes(_) | Self::Map(_) | Self::List(_) => return Err(self.not("a string")),
        }))
    }

    /// The value as a `byte[]`; null is `None`.
    pub fn bytes(&self) -> Result<Option<Bytes>> {
        match self {
            Self::Null => Ok(None),
            Self::Bytes(bytes) => Ok(Some(bytes.clone())),
            _ => Err(self.not("a byte array")),
        }
    }

    fn not(&self, wanted: &str) -> Error {
        let this = match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Byte(_) => "a byte",
            Self::Char(_) => "a char",
            Self::Short(_) => "a short",
            Self::Int(_) => "an int",
            Self::Long(_) => "a long",
            Self::Double(_) => "a double",
            Self::Float(_) => "a float",
            Self::String(_) => "this string",
            Self::Bytes(_) => "a byte array",
            Self::Map(_) => "a map",
            Self::List(_) => "a list",
        };
        Error::new(
            ErrorKind::MessageFormat,
            format!("{this} does not read as {wanted}"),
        )
    }
}

macro_rules! typed_getters {
    ($($convert:ident: $ty:ty, $get:ident $get_jms:literal, $property:ident $property_jms:literal;)*) => {
        /// Reading entries as JMS `MapMessage` does. A name without an entry reads as null.
        impl ValueMap { $(
            #[doc = concat!("The value under a name, converted (`MapMessage.", $get_jms, "`).")]
            ///
            /// # Errors
            ///
            #[doc = concat!("As [`Value::", stringify!($convert), "`].")]
            pub fn $get(&self, name: &str) -> Result<$ty> {
                self.get(name).unwrap_or(&Value::Null).$convert()
            }
        )* }

        /// Reading properties as JMS does. A property that is not there reads as null.
        impl Message { $(
            #[doc = concat!("A property, converted (`Message.", $property_jms, "`).")]
            ///
            /// # Errors
            ///
            #[doc = concat!("As [`Value::", stringify!($convert), "`] and [`property`](Self::property).")]
            pub fn $property(&self, name: &str) -> Result<$ty> {
                self.property(name)?.unwrap_or_default().$convert()
            }
        )* }
    };
}

typed_getters! {
    bool: bool, get_bool "getBoolean", property_bool "getBooleanProperty";
    i8: i8, get_i8 "getByte", property_i8 "getByteProperty";
    i16: i16, get_i16 "getShort", property_i16 "getShortProperty";
    i32: i32, get_i32 "getInt", property_i32 "getIntProperty";
    i64: i64, get_i64 "getLong", property_i64 "getLongProperty";
    f32: f32, get_f32 "getFloat", property_f32 "getFloatProperty";
    f64: f64, get_f64 "getDouble", property_f64 "getDoubleProperty";
    string: Option<Arc<str>>, get_string "getString", property_string "getStringProperty";
}

impl ValueMap {
    /// The value under a name, a UTF-16 unit (`MapMessage.getChar`).
    ///
    /// # Errors
    ///
    /// As [`Value::char`].
    pub fn get_char(&self, name: &str) -> Result<u16> {
        self.get(name).unwrap_or(&Value::Null).char()
    }

    /// The bytes under a name (`MapMessage.getBytes`).
    ///
    /// # Errors
    ///
    /// As [`Value::bytes`].
    pub fn get_bytes(&self, name: &str) -> Result<Option<Bytes>> {
        self.get(name).unwrap_or(&Value::Null).bytes()
    }
}
