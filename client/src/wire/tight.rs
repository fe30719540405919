//! The tight encoding: all flags in a bit stream before the bytes, small numbers and known values short.
//!
//! One pass collects bits and bytes side by side; the frame is put together from both.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::cache::{Cacheable, Cached, ReceiveCache, SendCache};
use super::error::WireError;
use super::fields::{Reader, Structure, Writer, is_marshal_aware};
use super::format::WireFormat;
use super::loose::{MAX_DEPTH, clip, count, too_deep, too_long};
use super::mutf8::{decode_mutf8, encode_mutf8};
use super::throwable::{StackTraceElement, Throwable};

/// Java refuses to write a longer string in this encoding.
const MAX_STRING: usize = 32766;

/// A stream of bits, filled from the least significant bit of the first byte upwards.
#[derive(Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    bits: usize,
}

impl BitWriter {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bits = 0;
    }

    fn push(&mut self, bit: bool) {
        if self.bits.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.bits % 8);
        }
        self.bits += 1;
    }

    /// How many bytes [`BitWriter::write_to`] writes.
    pub(crate) fn encoded_len(&self) -> usize {
        self.bytes.len()
            + match self.bytes.len() {
                0..64 => 1,
                64..256 => 2,
                _ => 3,
            }
    }

    pub(crate) fn write_to(&self, out: &mut BytesMut) -> Result<(), WireError> {
        match self.bytes.len() {
            length @ 0..64 => out.put_u8(length as u8),
            length @ 64..256 => out.put_slice(&[0xC0, length as u8]),
            length => {
                out.put_u8(0x80);
                // Java reads this length as a signed number.
                out.put_i16(i16::try_from(length).map_err(|_| too_long(length, i16::MAX as usize))?);
            }
        }
        out.put_slice(&self.bytes);
        Ok(())
    }
}

pub(crate) struct TightWriter<'a> {
    pub(crate) format: &'a WireFormat,
    pub(crate) cache: Option<&'a mut SendCache>,
    pub(crate) bits: &'a mut BitWriter,
    pub(crate) out: &'a mut BytesMut,
}

impl TightWriter<'_> {
    fn plain<T: Structure>(&mut self, value: Option<&T>) -> Result<(), WireError> {
        self.bits.push(value.is_some());
        let Some(value) = value else { return Ok(()) };
        let id = value.type_id();
        if is_marshal_aware(id) {
            self.bits.push(false);
        }
        self.out.put_u8(id);
        value.write(self)
    }
}

impl Writer for TightWriter<'_> {
    fn version(&self) -> i32 {
        self.format.version
    }

    fn boolean(&mut self, value: bool) -> Result<(), WireError> {
        self.bits.push(value);
        Ok(())
    }

    fn byte(&mut self, value: i8) -> Result<(), WireError> {
        self.out.put_i8(value);
        Ok(())
    }

    fn int(&mut self, value: i32) -> Result<(), WireError> {
        self.out.put_i32(value);
        Ok(())
    }

    fn long(&mut self, value: i64) -> Result<(), WireError> {
        let (first, second) = match value as u64 {
            0 => (false, false),
            1..=0xFFFF => {
                self.out.put_u16(value as u16);
                (false, true)
            }
            0x1_0000..=0xFFFF_FFFF => {
                self.out.put_u32(value as u32);
                (true, false)
            }
            _ => {
                self.out.put_i64(value);
                (true, true)
            }
        };
        self.bits.push(first);
        self.bits.push(second);
        Ok(())
    }

    fn string(&mut self, value: Option<&str>) -> Result<(), WireError> {
        self.bits.push(value.is_some());
        let Some(text) = value else { return Ok(()) };
        let ascii = text.bytes().all(|b| (1..0x80).contains(&b));
        self.bits.push(ascii);
        let encoded = if ascii {
            text.as_bytes().into()
        } else {
            encode_mutf8(text)
        };
        if encoded.len() > MAX_STRING {
            return Err(too_long(encoded.len(), MAX_STRING));
        }
        self.out.put_u16(encoded.len() as u16);
        self.out.put_slice(&encoded);
        Ok(())
    }

    fn bytes(&mut self, value: Option<&[u8]>) -> Result<(), WireError> {
        self.bits.push(value.is_some());
        let Some(bytes) = value else { return Ok(()) };
        self.out
            .put_i32(i32::try_from(bytes.len()).map_err(|_| too_long(bytes.len(), i32::MAX as usize))?);
        self.out.put_slice(bytes);
        Ok(())
    }

    fn const8(&mut self, value: &[u8; 8]) -> Result<(), WireError> {
        self.out.put_slice(value);
        Ok(())
    }

    fn nested<T: Structure>(&mut self, value: Option<&T>) -> Result<(), WireError> {
        self.plain(value)
    }

    fn cached<T: Cacheable>(&mut self, value: Option<&T>) -> Result<(), WireError> {
        let Some(cache) = self.cache.as_deref_mut() else {
            return self.plain(value);
        };
        let key = value.map_or(Cached::Null, Cacheable::to_cached);
        if let Some(slot) = cache.find(&key) {
            self.bits.push(false);
            self.out.put_u16(slot);
            return Ok(());
        }
        self.bits.push(true);
        // The inner value gets its slot first, but the outer one's index is written first.
        let index_at = self.out.len();
        self.out.put_i16(0);
        self.plain(value)?;
        let slot = self
            .cache
            .as_deref_mut()
            .and_then(|cache| cache.insert(key))
            .map_or(-1, |slot| slot as i16);
        self.out[index_at..index_at + 2].copy_from_slice(&slot.to_be_bytes());
        Ok(())
    }

    fn array<T: Structure>(&mut self, value: Option<&[Option<T>]>) -> Result<(), WireError> {
        self.bits.push(value.is_some());
        let Some(items) = value else { return Ok(()) };
        self.out
            .put_i16(i16::try_from(items.len()).map_err(|_| too_long(items.len(), i16::MAX as usize))?);
        items.iter().try_for_each(|item| self.plain(item.as_ref()))
    }

    fn throwable(&mut self, value: Option<&Throwable>) -> Result<(), WireError> {
        let mut next = value;
        loop {
            self.bits.push(next.is_some());
            let Some(throwable) = next else { return Ok(()) };
            self.string(throwable.class.as_deref())?;
            self.string(clip(throwable.message.as_deref(), self.version()).as_deref())?;
            if !self.format.stack_trace {
                return Ok(());
            }
            let lines = &throwable.stack_trace;
            self.out
                .put_i16(i16::try_from(lines.len()).map_err(|_| too_long(lines.len(), i16::MAX as usize))?);
            for line in lines {
                self.string(line.class.as_deref())?;
                self.string(line.method.as_deref())?;
                self.string(line.file.as_deref())?;
                self.int(line.line)?;
            }
            next = throwable.cause.as_deref();
        }
    }
}

/// The bits of a frame.
pub(crate) struct BitReader {
    bytes: Bytes,
    next: usize,
}

impl BitReader {
    /// Takes the bit stream from the front of a frame's payload.
    pub(crate) fn take(input: &mut Bytes) -> Result<Self, WireError> {
        let mut byte = |bytes: usize| -> Result<u64, WireError> {
            if input.len() < bytes {
                Err(WireError::truncated())
            } else {
                Ok(input.get_uint(bytes))
            }
        };
        let length = match byte(1)? {
            length @ 0..64 => length,
            0xC0 => byte(1)?,
            0x80 => byte(2)?,
            other => return Err(WireError::invalid(format!("a bit stream length of {other}"))),
        } as usize;
        if input.len() < length {
            return Err(WireError::truncated());
        }
        Ok(Self {
            bytes: input.split_to(length),
            next: 0,
        })
    }

    fn next(&mut self) -> Result<bool, WireError> {
        let byte = self.bytes.get(self.next / 8).ok_or_else(WireError::truncated)?;
        let bit = byte >> (self.next % 8) & 1 == 1;
        self.next += 1;
        Ok(bit)
    }

    fn left(&self) -> usize {
        self.bytes.len() * 8 - self.next
    }
}

pub(crate) struct TightReader<'a> {
    pub(crate) format: &'a WireFormat,
    pub(crate) cache: Option<&'a mut ReceiveCache>,
    pub(crate) bits: BitReader,
    pub(crate) input: &'a mut Bytes,
    pub(crate) depth: u32,
}

impl TightReader<'_> {
    fn need(&self, bytes: usize) -> Result<(), WireError> {
        if self.input.len() < bytes {
            Err(WireError::truncated())
        } else {
            Ok(())
        }
    }

    fn short(&mut self) -> Result<i16, WireError> {
        self.need(2)?;
        Ok(self.input.get_i16())
    }

    fn plain<T: Structure>(&mut self) -> Result<Option<T>, WireError> {
        if !self.bits.next()? {
            return Ok(None);
        }
        self.need(1)?;
        let id = self.input.get_u8();
        if is_marshal_aware(id) && self.bits.next()? {
            return Err(WireError::invalid(
                "a separately encoded form, which no peer sends",
            ));
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let value = T::read(id, self)?;
        self.depth -= 1;
        Ok(Some(value))
    }
}

impl Reader for TightReader<'_> {
    fn version(&self) -> i32 {
        self.format.version
    }

    fn boolean(&mut self) -> Result<bool, WireError> {
        self.bits.next()
    }

    fn byte(&mut self) -> Result<i8, WireError> {
        self.need(1)?;
        Ok(self.input.get_i8())
    }

    fn int(&mut self) -> Result<i32, WireError> {
        self.need(4)?;
        Ok(self.input.get_i32())
    }

    fn long(&mut self) -> Result<i64, WireError> {
        let size = match (self.bits.next()?, self.bits.next()?) {
            (false, false) => return Ok(0),
            (false, true) => 2,
            (true, false) => 4,
            (true, true) => 8,
        };
        self.need(size)?;
        Ok(self.input.get_uint(size) as i64)
    }

    fn string(&mut self) -> Result<Option<Arc<str>>, WireError> {
        if !self.bits.next()? {
            return Ok(None);
        }
        let ascii = self.bits.next()?;
        let length = usize::from(self.short()? as u16);
        self.need(length)?;
        let bytes = &self.input[..length];
        let text: Arc<str> = if !ascii {
            Arc::from(&*decode_mutf8(bytes)?)
        } else if let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii()) {
            Arc::from(text)
        } else {
            // Java reads what should have been ASCII as Latin-1.
            bytes.iter().copied().map(char::from).collect::<String>().into()
        };
        self.input.advance(length);
        Ok(Some(text))
    }

    fn bytes(&mut self) -> Result<Option<Bytes>, WireError> {
        if !self.bits.next()? {
            return Ok(None);
        }
        let declared = self.int()?;
        let length = count(declared.into(), self.input.len())?;
        Ok(Some(self.input.split_to(length)))
    }

    fn const8(&mut self) -> Result<[u8; 8], WireError> {
        self.need(8)?;
        let mut value = [0; 8];
        self.input.copy_to_slice(&mut value);
        Ok(value)
    }

    fn nested<T: Structure>(&mut self) -> Result<Option<T>, WireError> {
        self.plain()
    }

    fn cached<T: Cacheable>(&mut self) -> Result<Option<T>, WireError> {
        if self.cache.is_none() {
            return self.plain();
        }
        let new = self.bits.next()?;
        let index = self.short()?;
        let value: Option<T> = if new { self.plain()? } else { None };
        match self.cache.as_deref_mut() {
            Some(cache) if new => {
                cache.store(index, value.as_ref().map_or(Cached::Null, Cacheable::to_cached))?;
                Ok(value)
            }
            Some(cache) => cache.get(index),
            None => Ok(value),
        }
    }

    fn array<T: Structure>(&mut self) -> Result<Option<Vec<Option<T>>>, WireError> {
        if !self.bits.next()? {
            return Ok(None);
        }
        let declared = self.short()?;
        let length = count(declared.into(), self.bits.left())?;
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(self.plain()?);
        }
        Ok(Some(items))
    }

    fn throwable(&mut self) -> Result<Option<Throwable>, WireError> {
        if !self.bits.next()? {
            return Ok(None);
        }
        let mut throwable = Throwable {
            class: self.string()?,
            message: self.string()?,
            ..Throwable::default()
        };
        if !self.format.stack_trace {
            return Ok(Some(throwable));
        }
        let declared = self.short()?;
        for _ in 0..count(declared.into(), self.input.len())? {
            throwable.stack_trace.push(StackTraceElement {
                class: self.string()?,
                method: self.string()?,
                file: self.string()?,
                line: self.int()?,
            });
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep());
        }
        throwable.cause = self.throwable()?.map(Box::new);
        self.depth -= 1;
        Ok(Some(throwable))
    }
}
