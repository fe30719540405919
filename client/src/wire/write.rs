//! Writing a frame: what both encodings share.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use super::cache::{Cacheable, SendCache};
use super::error::{WireError, WireErrorKind};
use super::fields::{Structure, is_marshal_aware};
use super::format::WireFormat;
use super::read::{check_depth, check_nulls};
use super::throwable::Throwable;

pub(crate) fn too_long(length: usize, limit: usize) -> WireError {
    WireError::new(
        WireErrorKind::TooLong,
        format!("{length} where {limit} is the limit"),
    )
}

/// Appends a count or length of 32 bits.
pub(crate) fn put_length(out: &mut impl BufMut, length: usize) -> Result<(), WireError> {
    out.put_i32(i32::try_from(length).map_err(|_| too_long(length, i32::MAX as usize))?);
    Ok(())
}

/// Appends a count of 16 bits.
fn put_count(out: &mut impl BufMut, count: usize) -> Result<(), WireError> {
    out.put_i16(i16::try_from(count).map_err(|_| too_long(count, i16::MAX as usize))?);
    Ok(())
}

/// Appends a string with a length of 16 bits.
pub(crate) fn put_text(out: &mut impl BufMut, encoded: &[u8], limit: usize) -> Result<(), WireError> {
    let length = u16::try_from(encoded.len())
        .ok()
        .filter(|&length| usize::from(length) <= limit)
        .ok_or_else(|| too_long(encoded.len(), limit))?;
    out.put_u16(length);
    out.put_slice(encoded);
    Ok(())
}

/// What the encodings differ in.
pub(crate) trait WriteEncoding {
    /// Of a new cached value that holds another one, the outer gets its slot first.
    const OUTER_SLOT_FIRST: bool;

    /// A boolean, or whether a value is there.
    fn flag(&mut self, out: &mut Vec<u8>, value: bool);
    fn long(&mut self, out: &mut Vec<u8>, value: i64);
    /// The string behind the flag that says it is there.
    fn text(&mut self, out: &mut Vec<u8>, text: &str) -> Result<(), WireError>;
    /// A nested object that could come as a frame of its own does not.
    fn no_own_frame(&mut self);
}

/// A byte string of this length or more is copied once, into the finished frame. Below, counting the
/// reference costs as much as the copy.
const SHARED_LEN: usize = 1024;

/// The fields of a frame, until its size and its bits are known.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    bytes: Vec<u8>,
    /// Long byte strings, and where among `bytes` they belong.
    shared: Vec<(usize, Bytes)>,
}

impl Fields {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.shared.clear();
        // One huge frame must not keep its size in memory for as long as the connection lives.
        self.bytes.shrink_to(1024 * 1024);
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.shared.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }

    pub(crate) fn append_to(&self, out: &mut BytesMut) {
        let mut done = 0;
        for (at, shared) in &self.shared {
            out.put_slice(&self.bytes[done..*at]);
            out.put_slice(shared);
            done = *at;
        }
        out.put_slice(&self.bytes[done..]);
    }
}

/// Writes the fields of one frame.
pub(crate) struct Writer<'a, E> {
    format: &'a WireFormat,
    cache: Option<&'a mut SendCache>,
    encoding: E,
    out: &'a mut Vec<u8>,
    shared: &'a mut Vec<(usize, Bytes)>,
    depth: u32,
    nulls: usize,
}

impl<'a, E: WriteEncoding> Writer<'a, E> {
    pub(crate) fn new(
        format: &'a WireFormat,
        cache: Option<&'a mut SendCache>,
        encoding: E,
        fields: &'a mut Fields,
    ) -> Self {
        Self {
            format,
            cache,
            encoding,
            out: &mut fields.bytes,
            shared: &mut fields.shared,
            depth: 0,
            nulls: 0,
        }
    }

    /// The agreed version, which decides what fields exist.
    pub(crate) fn version(&self) -> i32 {
        self.format.version
    }

    #[inline]
    pub(crate) fn boolean(&mut self, value: bool) {
        self.encoding.flag(self.out, value);
    }

    #[inline]
    pub(crate) fn byte(&mut self, value: i8) {
        self.out.push(value as u8);
    }

    #[inline]
    pub(crate) fn int(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn long(&mut self, value: i64) {
        self.encoding.long(self.out, value);
    }

    #[inline]
    pub(crate) fn string(&mut self, value: Option<&str>) -> Result<(), WireError> {
        self.boolean(value.is_some());
        match value {
            Some(text) => self.encoding.text(self.out, text),
            None => Ok(()),
        }
    }

    pub(crate) fn bytes(&mut self, value: Option<&Bytes>) -> Result<(), WireError> {
        self.boolean(value.is_some());
        if let Some(bytes) = value {
            put_length(self.out, bytes.len())?;
            if bytes.len() < SHARED_LEN {
                self.out.extend_from_slice(bytes);
            } else {
                self.shared.push((self.out.len(), bytes.clone()));
            }
        }
        Ok(())
    }

    pub(crate) fn const8(&mut self, value: &[u8; 8]) {
        self.out.extend_from_slice(value);
    }

    pub(crate) fn nested<T: Structure>(&mut self, value: Option<&T>) -> Result<(), WireError> {
        self.boolean(value.is_some());
        let Some(value) = value else { return Ok(()) };
        let id = value.type_id();
        if is_marshal_aware(id) {
            self.encoding.no_own_frame();
        }
        self.out.push(id);
        self.depth += 1;
        check_depth(self.depth)?;
        value.write(self)?;
        self.depth -= 1;
        Ok(())
    }

    pub(crate) fn cached<T: Cacheable>(&mut self, value: Option<&T>) -> Result<(), WireError> {
        let Some(cache) = &mut self.cache else {
            return self.nested(value);
        };
        if let Some(slot) = cache.find(value) {
            self.boolean(false);
            self.out.extend_from_slice(&slot.to_be_bytes());
            return Ok(());
        }
        let early = if E::OUTER_SLOT_FIRST {
            cache.insert(value)
        } else {
            None
        };
        self.boolean(true);
        let slot_at = self.out.len();
        self.out.extend_from_slice(&[0; 2]);
        self.nested(value)?;
        let slot = match &mut self.cache {
            Some(cache) if !E::OUTER_SLOT_FIRST => cache.insert(value),
            _ => early,
        };
        // Java writes -1 for a value that found no room.
        let slot = slot.unwrap_or(u16::MAX);
        self.out[slot_at..slot_at + 2].copy_from_slice(&slot.to_be_bytes());
        Ok(())
    }

    pub(crate) fn array<T: Structure>(&mut self, value: Option<&[Option<T>]>) -> Result<(), WireError> {
        self.boolean(value.is_some());
        let Some(elements) = value else { return Ok(()) };
        put_count(self.out, elements.len())?;
        self.nulls += elements.iter().filter(|element| element.is_none()).count();
        check_nulls(self.nulls)?;
        elements
            .iter()
            .try_for_each(|element| self.nested(element.as_ref()))
    }

    pub(crate) fn throwable(&mut self, value: Option<&Throwable>) -> Result<(), WireError> {
        let outer = self.depth;
        let mut next = value;
        while let Some(throwable) = next {
            self.boolean(true);
            self.string(throwable.class.as_deref())?;
            self.string(clip(throwable.message.as_deref(), self.version()).as_deref())?;
            if !self.format.stack_trace {
                return Ok(());
            }
            put_count(self.out, throwable.stack_trace.len())?;
            for line in &throwable.stack_trace {
                self.string(line.class.as_deref())?;
                self.string(line.method.as_deref())?;
                self.string(line.file.as_deref())?;
                self.int(line.line);
            }
            self.depth += 1;
            check_depth(self.depth)?;
            next = throwable.cause.as_deref();
        }
        self.boolean(false);
        self.depth = outer;
        Ok(())
    }
}

/// In versions 1 and 10 Java cuts the message of a throwable to 1024 UTF-16 units and cannot send none.
pub(super) fn clip(message: Option<&str>, version: i32) -> Option<Cow<'_, str>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_versions_clip_the_messages_of_throwables() {
        let long = "x".repeat(1025);
        for version in 1..=12 {
            let clips = version == 1 || version == 10;
            assert_eq!(clip(None, version).as_deref(), clips.then_some(""));
            assert_eq!(clip(Some(&long[1..]), version).as_deref(), Some(&long[1..]));
            let expected = if clips {
                long[..1021].to_owned() + "..."
            } else {
                long.clone()
            };
            assert_eq!(clip(Some(&long), version).as_deref(), Some(&*expected));
        }
        // The cut may go through a pair of surrogates.
        let pairs = clip(Some(&"😀".repeat(600)), 1).unwrap().into_owned();
        assert_eq!(pairs, "😀".repeat(510) + "\u{FFFD}...");
    }
}
