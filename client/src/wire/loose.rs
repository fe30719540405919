//! The loose encoding: fields one after another, flags as bytes.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::cache::{Cacheable, Cached, ReceiveCache, SendCache};
use super::error::{WireError, WireErrorKind};
use super::fields::{Reader, Structure, Writer};
use super::format::WireFormat;
use super::mutf8::{decode_mutf8, encode_mutf8};
use super::throwable::{StackTraceElement, Throwable};

/// Structures in structures deeper than this are refused: real ones nest five deep.
pub(crate) const MAX_DEPTH: u32 = 64;

pub(crate) struct LooseWriter<'a> {
    pub(crate) format: &'a WireFormat,
    pub(crate) cache: Option<&'a mut SendCache>,
    pub(crate) out: &'a mut BytesMut,
}

impl LooseWriter<'_> {
    fn flagged<T: Structure>(&mut self, value: Option<&T>) -> Result<(), WireError> {
        match value {
            None => self.out.put_u8(0),
            Some(value) => {
                self.out.put_u8(1);
                self.out.put_u8(value.type_id());
                value.write(self)?;
            }
        }
        Ok(())
    }
}

impl Writer for LooseWriter<'_> {
    fn version(&self) -> i32 {
        self.format.version
    }

    fn boolean(&mut self, value: bool) -> Result<(), WireError> {
        self.out.put_u8(value.into());
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
        self.out.put_i64(value);
        Ok(())
    }

    fn string(&mut self, value: Option<&str>) -> Result<(), WireError> {
        let Some(text) = value else {
            return self.boolean(false);
        };
        let encoded = encode_mutf8(text);
        let length = u16::try_from(encoded.len()).map_err(|_| too_long(encoded.len(), 65535))?;
        self.out.put_u8(1);
        self.out.put_u16(length);
        self.out.put_slice(&encoded);
        Ok(())
    }

    fn bytes(&mut self, value: Option<&[u8]>) -> Result<(), WireError> {
        let Some(bytes) = value else {
            return self.boolean(false);
        };
        let length = i32::try_from(bytes.len()).map_err(|_| too_long(bytes.len(), i32::MAX as usize))?;
        self.out.put_u8(1);
        self.out.put_i32(length);
        self.out.put_slice(bytes);
        Ok(())
    }

    fn const8(&mut self, value: &[u8; 8]) -> Result<(), WireError> {
        self.out.put_slice(value);
        Ok(())
    }

    fn nested<T: Structure>(&mut self, value: Option<&T>) -> Result<(), WireError> {
        self.flagged(value)
    }

    fn cached<T: Cacheable>(&mut self, value: Option<&T>) -> Result<(), WireError> {
        let Some(cache) = self.cache.as_deref_mut() else {
            return self.flagged(value);
        };
        let key = value.map_or(Cached::Null, Cacheable::to_cached);
        if let Some(slot) = cache.find(&key) {
            self.out.put_u8(0);
            self.out.put_u16(slot);
            return Ok(());
        }
        // The outer value takes its slot before an inner one does.
        let slot = cache.insert(key).map_or(-1, |slot| slot as i16);
        self.out.put_u8(1);
        self.out.put_i16(slot);
        self.flagged(value)
    }

    fn array<T: Structure>(&mut self, value: Option<&[Option<T>]>) -> Result<(), WireError> {
        let Some(items) = value else {
            return self.boolean(false);
        };
        let length = i16::try_from(items.len()).map_err(|_| too_long(items.len(), i16::MAX as usize))?;
        self.out.put_u8(1);
        self.out.put_i16(length);
        items.iter().try_for_each(|item| self.flagged(item.as_ref()))
    }

    fn throwable(&mut self, value: Option<&Throwable>) -> Result<(), WireError> {
        let mut next = value;
        loop {
            let Some(throwable) = next else {
                return self.boolean(false);
            };
            self.boolean(true)?;
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

pub(crate) fn too_long(length: usize, limit: usize) -> WireError {
    WireError::new(
        WireErrorKind::TooLong,
        format!("{length} where {limit} is the limit"),
    )
}

/// In versions 1 and 10 Java cuts the message of a throwable to 1024 UTF-16 units and cannot send none.
pub(crate) fn clip(message: Option<&str>, version: i32) -> Option<std::borrow::Cow<'_, str>> {
    const LIMIT: usize = 1024;
    if !matches!(version, 1 | 10) {
        return message.map(Into::into);
    }
    let message = message.unwrap_or_default();
    if message.encode_utf16().count() <= LIMIT {
        return Some(message.into());
    }
    let units: Vec<u16> = message.encode_utf16().take(LIMIT - 3).collect();
    Some((String::from_utf16_lossy(&units) + "...").into())
}

pub(crate) struct LooseReader<'a> {
    pub(crate) format: &'a WireFormat,
    pub(crate) cache: Option<&'a mut ReceiveCache>,
    pub(crate) input: &'a mut Bytes,
    pub(crate) depth: u32,
}

impl LooseReader<'_> {
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

    fn text(&mut self, length: usize) -> Result<Arc<str>, WireError> {
        self.need(length)?;
        let text = Arc::from(&*decode_mutf8(&self.input[..length])?);
        self.input.advance(length);
        Ok(text)
    }

    fn flagged<T: Structure>(&mut self) -> Result<Option<T>, WireError> {
        if !self.boolean()? {
            return Ok(None);
        }
        self.need(1)?;
        let id = self.input.get_u8();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let value = T::read(id, self)?;
        self.depth -= 1;
        Ok(Some(value))
    }
}

pub(crate) fn too_deep() -> WireError {
    WireError::new(WireErrorKind::TooDeep, format!("more than {MAX_DEPTH} levels"))
}

/// A declared count of things that take at least a byte (or a bit) each.
pub(crate) fn count(declared: i64, available: usize) -> Result<usize, WireError> {
    let count =
        usize::try_from(declared).map_err(|_| WireError::invalid(format!("a count of {declared}")))?;
    if count > available {
        Err(WireError::truncated())
    } else {
        Ok(count)
    }
}

impl Reader for LooseReader<'_> {
    fn version(&self) -> i32 {
        self.format.version
    }

    fn boolean(&mut self) -> Result<bool, WireError> {
        self.need(1)?;
        match self.input.get_u8() {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::invalid(format!("a flag of {other}"))),
        }
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
        self.need(8)?;
        Ok(self.input.get_i64())
    }

    fn string(&mut self) -> Result<Option<Arc<str>>, WireError> {
        if !self.boolean()? {
            return Ok(None);
        }
        self.need(2)?;
        let length = self.input.get_u16();
        self.text(length.into()).map(Some)
    }

    fn bytes(&mut self) -> Result<Option<Bytes>, WireError> {
        if !self.boolean()? {
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
        self.flagged()
    }

    fn cached<T: Cacheable>(&mut self) -> Result<Option<T>, WireError> {
        if self.cache.is_none() {
            return self.flagged();
        }
        let new = self.boolean()?;
        let index = self.short()?;
        let value: Option<T> = if new { self.flagged()? } else { None };
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
        if !self.boolean()? {
            return Ok(None);
        }
        let declared = self.short()?;
        let length = count(declared.into(), self.input.len())?;
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(self.flagged()?);
        }
        Ok(Some(items))
    }

    fn throwable(&mut self) -> Result<Option<Throwable>, WireError> {
        if !self.boolean()? {
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
