//! Reading and writing a bytes body value by value, as `java.io.DataInput` and `DataOutput` do.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::malformed;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::{Value, decode_mutf8, encode_mutf8};

/// Reads the body of a bytes message value by value (JMS `BytesMessage`); numbers are big-endian.
///
/// A read that fails does not move on.
#[derive(Debug, Clone)]
pub struct BytesReader {
    body: Bytes,
    rest: Bytes,
}

macro_rules! typed_reads {
    ($($name:ident => $get:ident, $ty:ty, $jms:literal;)*) => { $(
        #[doc = concat!("Reads a number (`BytesMessage.", $jms, "`).")]
        ///
        /// # Errors
        ///
        /// [`is_message_eof`](Error::is_message_eof) if the body ends before it does.
        pub fn $name(&mut self) -> Result<$ty> {
            Ok(self.take(size_of::<$ty>())?.$get())
        }
    )* };
}

impl BytesReader {
    /// A reader at the start of these bytes.
    pub fn new(body: Bytes) -> Self {
        Self {
            rest: body.clone(),
            body,
        }
    }

    /// The length of the whole body in bytes (`BytesMessage.getBodyLength`).
    pub fn body_length(&self) -> usize {
        self.body.len()
    }

    /// How many bytes are left to read.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Reads a byte that is 0 for false (`BytesMessage.readBoolean`).
    ///
    /// # Errors
    ///
    /// [`is_message_eof`](Error::is_message_eof) at the end of the body.
    pub fn read_bool(&mut self) -> Result<bool> {
        Ok(self.take(1)?.get_u8() != 0)
    }

    typed_reads! {
        read_i8 => get_i8, i8, "readByte";
        read_u8 => get_u8, u8, "readUnsignedByte";
        read_i16 => get_i16, i16, "readShort";
        read_u16 => get_u16, u16, "readUnsignedShort";
        read_char => get_u16, u16, "readChar";
        read_i32 => get_i32, i32, "readInt";
        read_i64 => get_i64, i64, "readLong";
        read_f32 => get_f32, f32, "readFloat";
        read_f64 => get_f64, f64, "readDouble";
    }

    /// Reads a text: two bytes of length, then modified UTF-8 (`BytesMessage.readUTF`).
    ///
    /// # Errors
    ///
    /// [`is_message_eof`](Error::is_message_eof) if the body ends before the text does,
    /// [`is_message_format`](Error::is_message_format) if it is no text.
    pub fn read_utf(&mut self) -> Result<String> {
        let mut ahead = self.clone();
        let length = ahead.read_u16()?;
        let text = decode_mutf8(&ahead.take(length.into())?)
            .map_err(malformed)?
            .into_owned();
        *self = ahead;
        Ok(text)
    }

    /// Fills `buffer` from the front as far as bytes are left, and says how far that was: 0 at the end
    /// (`BytesMessage.readBytes`, which says -1 there).
    pub fn read_bytes(&mut self, buffer: &mut [u8]) -> usize {
        let part = self.rest.split_to(buffer.len().min(self.rest.len()));
        buffer[..part.len()].copy_from_slice(&part);
        part.len()
    }

    /// Takes all bytes that are left, without copying them.
    pub fn read_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    /// Goes back to the start (`BytesMessage.reset`).
    pub fn reset(&mut self) {
        self.rest = self.body.clone();
    }

    fn take(&mut self, length: usize) -> Result<Bytes> {
        if self.rest.len() < length {
            return Err(Error::new(ErrorKind::MessageEof, "the body has no more bytes"));
        }
        Ok(self.rest.split_to(length))
    }
}

/// Writes the body of a bytes message value by value (JMS `BytesMessage`); numbers are big-endian.
///
/// ```
/// use openwire_client::Message;
/// use openwire_client::message::BytesWriter;
///
/// # fn main() -> openwire_client::Result<()> {
/// let mut body = BytesWriter::new();
/// body.write_i32(7);
/// body.write_utf("seven")?;
/// let message = Message::from(body);
///
/// let mut body = message.bytes_reader()?;
/// assert_eq!(body.read_i32()?, 7);
/// assert_eq!(body.read_utf()?, "seven");
/// assert!(body.read_i8().unwrap_err().is_message_eof());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct BytesWriter {
    body: BytesMut,
}

macro_rules! typed_writes {
    ($($name:ident => $put:ident, $ty:ty, $jms:literal;)*) => { $(
        #[doc = concat!("Writes a number (`BytesMessage.", $jms, "`).")]
        pub fn $name(&mut self, value: $ty) {
            self.body.$put(value);
        }
    )* };
}

impl BytesWriter {
    /// A writer of an empty body.
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a byte, 1 or 0 (`BytesMessage.writeBoolean`).
    pub fn write_bool(&mut self, value: bool) {
        self.body.put_u8(value.into());
    }

    typed_writes! {
        write_i8 => put_i8, i8, "writeByte";
        write_i16 => put_i16, i16, "writeShort";
        write_char => put_u16, u16, "writeChar";
        write_i32 => put_i32, i32, "writeInt";
        write_i64 => put_i64, i64, "writeLong";
        write_f32 => put_f32, f32, "writeFloat";
        write_f64 => put_f64, f64, "writeDouble";
    }

    /// Writes a text: two bytes of length, then modified UTF-8 (`BytesMessage.writeUTF`).
    ///
    /// # Errors
    ///
    /// [`is_message_format`](Error::is_message_format) if it takes more than 65535 bytes.
    pub fn write_utf(&mut self, text: &str) -> Result<()> {
        let encoded = encode_mutf8(text);
        let length = u16::try_from(encoded.len()).map_err(|_| {
            Error::new(
                ErrorKind::MessageFormat,
                format!("a text of {} bytes where 65535 is the limit", encoded.len()),
            )
        })?;
        self.body.put_u16(length);
        self.body.put_slice(&encoded);
        Ok(())
    }

    /// Writes bytes as they are, without a length (`BytesMessage.writeBytes`).
    pub fn write_bytes(&mut self, bytes: &[u8]) {
        self.body.put_slice(bytes);
    }

    /// Writes a value by its type (`BytesMessage.writeObject`).
    ///
    /// # Errors
    ///
    /// [`is_message_format`](Error::is_message_format) for null, maps, lists and too long a text.
    pub fn write_value(&mut self, value: &Value) -> Result<()> {
        match value {
            Value::Bool(value) => self.write_bool(*value),
            Value::Byte(value) => self.write_i8(*value),
            Value::Char(value) => self.write_char(*value),
            Value::Short(value) => self.write_i16(*value),
            Value::Int(value) => self.write_i32(*value),
            Value::Long(value) => self.write_i64(*value),
            Value::Double(value) => self.write_f64(*value),
            Value::Float(value) => self.write_f32(*value),
            Value::String(text) => self.write_utf(text)?,
            Value::Bytes(bytes) => self.write_bytes(bytes),
            Value::Null | Value::Map(_) | Value::List(_) => {
                return Err(Error::new(
                    ErrorKind::MessageFormat,
                    "a bytes message holds no null, map or list",
                ));
            }
        }
        Ok(())
    }

    /// What was written.
    pub fn into_bytes(self) -> Bytes {
        self.body.freeze()
    }
}

impl From<BytesWriter> for super::Message {
    fn from(writer: BytesWriter) -> Self {
        Self::bytes(writer.into_bytes())
    }
}
