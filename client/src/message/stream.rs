//! Reading a stream body entry by entry.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::Value;

/// Reads the entries of a stream message one after another (JMS `StreamMessage`).
///
/// Each read converts as JMS says, see [`Value`]. A read that fails does not move on, so that the same entry
/// can be read as another type.
#[derive(Debug, Clone)]
pub struct StreamReader {
    entries: Arc<[Value]>,
    next: usize,
}

macro_rules! typed_reads {
    ($($name:ident => $convert:ident, $ty:ty, $jms:literal;)*) => { $(
        #[doc = concat!("The next entry, converted (`StreamMessage.", $jms, "`).")]
        ///
        /// # Errors
        ///
        /// [`is_message_eof`](Error::is_message_eof) behind the last entry,
        /// [`is_message_format`](Error::is_message_format) if it does not convert.
        pub fn $name(&mut self) -> Result<$ty> {
            let value = self.peek()?.$convert()?;
            self.next += 1;
            Ok(value)
        }
    )* };
}

impl StreamReader {
    pub(super) fn new(entries: Arc<[Value]>) -> Self {
        Self { entries, next: 0 }
    }

    typed_reads! {
        read_bool => bool, bool, "readBoolean";
        read_i8 => i8, i8, "readByte";
        read_i16 => i16, i16, "readShort";
        read_char => char, u16, "readChar";
        read_i32 => i32, i32, "readInt";
        read_i64 => i64, i64, "readLong";
        read_f32 => f32, f32, "readFloat";
        read_f64 => f64, f64, "readDouble";
        read_string => string, Option<Arc<str>>, "readString";
        read_bytes => bytes, Option<Bytes>, "readBytes";
    }

    /// The next entry as it is (`StreamMessage.readObject`).
    ///
    /// # Errors
    ///
    /// [`is_message_eof`](Error::is_message_eof) behind the last entry.
    pub fn read_value(&mut self) -> Result<Value> {
        let value = self.peek()?.clone();
        self.next += 1;
        Ok(value)
    }

    /// Goes back to the first entry (`StreamMessage.reset`).
    pub fn reset(&mut self) {
        self.next = 0;
    }

    fn peek(&self) -> Result<&Value> {
        self.entries
            .get(self.next)
            .ok_or_else(|| Error::new(ErrorKind::MessageEof, "the stream has no more entries"))
    }
}
