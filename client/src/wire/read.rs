//! Reading a frame: what both encodings share.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use super::cache::{Cacheable, ReceiveCache};
use super::error::{WireError, WireErrorKind};
use super::fields::{Structure, is_marshal_aware};
use super::format::WireFormat;
use super::mutf8::decode_mutf8;
use super::throwable::{StackTraceElement, Throwable};

/// Structures, causes, maps and lists nested deeper than this are refused. Real ones nest five deep, and
/// this many fit into a quarter of a thread's 2 MiB stack, without optimisation too.
pub(crate) const MAX_DEPTH: u32 = 32;

/// The arrays of a frame together hold at most this many nulls. They mean nothing to any peer, but eight of
/// them fit into a byte and take hundreds of bytes of memory.
pub(crate) const MAX_NULLS: usize = 4096;

/// Checks how deep something stands.
pub(crate) fn check_depth(depth: u32) -> Result<(), WireError> {
    if depth > MAX_DEPTH {
        return Err(WireError::new(
            WireErrorKind::TooDeep,
            format!("more than {MAX_DEPTH} levels"),
        ));
    }
    Ok(())
}

/// Checks how many nulls stood in arrays.
pub(crate) fn check_nulls(nulls: usize) -> Result<(), WireError> {
    if nulls > MAX_NULLS {
        return Err(WireError::invalid(format!(
            "more than {MAX_NULLS} nulls in arrays"
        )));
    }
    Ok(())
}

/// The bytes of a frame, and how many of them were read.
///
/// Every size a peer declares ends up in [`take`](Self::take) or [`count`](Self::count), so none is
/// believed before it was compared with what is there.
pub(crate) struct Input {
    frame: Bytes,
    at: usize,
}

impl Input {
    pub(crate) fn new(frame: Bytes) -> Self {
        Self { frame, at: 0 }
    }

    /// What was not read.
    pub(crate) fn into_rest(mut self) -> Bytes {
        self.frame.advance(self.at);
        self.frame
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    pub(crate) fn remaining(&self) -> usize {
        self.frame.len() - self.at
    }

    /// Bytes that were stepped over before.
    pub(crate) fn again(&self, start: usize, length: usize) -> &[u8] {
        &self.frame[start..start + length]
    }

    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Result<&[u8], WireError> {
        if self.remaining() < length {
            return Err(WireError::truncated());
        }
        let start = self.at;
        self.at += length;
        Ok(&self.frame[start..self.at])
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        match self.frame[self.at..].first_chunk() {
            Some(chunk) => {
                self.at += N;
                Ok(*chunk)
            }
            None => Err(WireError::truncated()),
        }
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i16(&mut self) -> Result<i16, WireError> {
        self.array().map(i16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_be_bytes)
    }

    /// A byte string that is shared with the frame rather than copied.
    pub(crate) fn share(&mut self, length: usize) -> Result<Bytes, WireError> {
        let start = self.at;
        self.take(length)?;
        Ok(self.frame.slice(start..self.at))
    }

    /// A string in modified UTF-8.
    pub(crate) fn text(&mut self, length: usize) -> Result<Arc<str>, WireError> {
        Ok(Arc::from(&*decode_mutf8(self.take(length)?)?))
    }

    /// A declared length of bytes that follow.
    pub(crate) fn length(&mut self) -> Result<usize, WireError> {
        let declared = self.i32()?;
        count(declared, self.remaining())
    }
}

/// A declared number of things of which at most `available` can be there.
pub(crate) fn count(declared: impl Into<i64>, available: usize) -> Result<usize, WireError> {
    let declared = declared.into();
    let count =
        usize::try_from(declared).map_err(|_| WireError::invalid(format!("a count of {declared}")))?;
    if count > available {
        return Err(WireError::truncated());
    }
    Ok(count)
}

/// What the encodings differ in.
pub(crate) trait ReadEncoding {
    /// A boolean, or whether a value is there.
    fn flag(&mut self, input: &mut Input) -> Result<bool, WireError>;
    fn long(&mut self, input: &mut Input) -> Result<i64, WireError>;
    /// The string behind the flag that says it is there.
    fn text(&mut self, input: &mut Input) -> Result<Arc<str>, WireError>;
    /// Whether a nested object comes as a frame of its own, for the types that could.
    fn own_frame(&mut self, input: &mut Input) -> Result<bool, WireError>;
    /// How many elements of an array there can be at most.
    fn elements_left(&self, input: &Input) -> usize;
}

/// Reads the fields of one frame.
pub(crate) struct Reader<'a, E> {
    format: &'a WireFormat,
    cache: Option<&'a mut ReceiveCache>,
    encoding: E,
    input: Input,
    depth: u32,
    nulls: usize,
}

impl<'a, E: ReadEncoding> Reader<'a, E> {
    pub(crate) fn new(
        format: &'a WireFormat,
        cache: Option<&'a mut ReceiveCache>,
        encoding: E,
        input: Input,
    ) -> Self {
        Self {
            format,
            cache,
            encoding,
            input,
            depth: 0,
            nulls: 0,
        }
    }

    /// Fails if anything was not read.
    pub(crate) fn finish(self) -> Result<(), WireError> {
        match self.input.remaining() {
            0 => Ok(()),
            left => Err(WireError::new(WireErrorKind::Trailing, format!("{left} bytes"))),
        }
    }

    /// The agreed version, which decides what fields exist.
    pub(crate) fn version(&self) -> i32 {
        self.format.version
    }

    #[inline]
    pub(crate) fn boolean(&mut self) -> Result<bool, WireError> {
        self.encoding.flag(&mut self.input)
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<i8, WireError> {
        self.input.u8().map(|byte| byte as i8)
    }

    #[inline]
    pub(crate) fn int(&mut self) -> Result<i32, WireError> {
        self.input.i32()
    }

    #[inline]
    pub(crate) fn long(&mut self) -> Result<i64, WireError> {
        self.encoding.long(&mut self.input)
    }

    #[inline]
    pub(crate) fn string(&mut self, field: &mut Option<Arc<str>>) -> Result<(), WireError> {
        if self.boolean()? {
            *field = Some(self.encoding.text(&mut self.input)?);
        }
        Ok(())
    }

    pub(crate) fn bytes(&mut self, field: &mut Option<Bytes>) -> Result<(), WireError> {
        if self.boolean()? {
            let length = self.input.length()?;
            *field = Some(self.input.share(length)?);
        }
        Ok(())
    }

    pub(crate) fn const8(&mut self) -> Result<[u8; 8], WireError> {
        self.input.array()
    }

    pub(crate) fn nested<T: Structure>(&mut self, field: &mut Option<T>) -> Result<(), WireError> {
        if !self.boolean()? {
            return Ok(());
        }
        let id = self.input.u8()?;
        if is_marshal_aware(id) && self.encoding.own_frame(&mut self.input)? {
            return Err(WireError::invalid("a frame in a frame, which no peer sends"));
        }
        self.depth += 1;
        check_depth(self.depth)?;
        *field = Some(T::read(id, self)?);
        self.depth -= 1;
        Ok(())
    }

    pub(crate) fn cached<T: Cacheable>(&mut self, field: &mut Option<T>) -> Result<(), WireError> {
        if self.cache.is_none() {
            return self.nested(field);
        }
        let new = self.boolean()?;
        let index = self.input.i16()?;
        if new {
            self.nested(field)?;
        }
        match &mut self.cache {
            Some(cache) if new => cache.store(index, field.as_ref()),
            Some(cache) => cache.get(index, field),
            None => Ok(()),
        }
    }

    pub(crate) fn array<T: Structure>(
        &mut self,
        field: &mut Option<Vec<Option<T>>>,
    ) -> Result<(), WireError> {
        if !self.boolean()? {
            return Ok(());
        }
        let declared = self.input.i16()?;
        let length = count(declared, self.encoding.elements_left(&self.input))?;
        // Grows as elements come: a count is cheap to declare.
        let mut elements = Vec::new();
        for _ in 0..length {
            let mut element = None;
            self.nested(&mut element)?;
            if element.is_none() {
                self.nulls += 1;
                check_nulls(self.nulls)?;
            }
            elements.push(element);
        }
        *field = Some(elements);
        Ok(())
    }

    pub(crate) fn throwable(&mut self, field: &mut Option<Throwable>) -> Result<(), WireError> {
        if !self.boolean()? {
            return Ok(());
        }
        let throwable = field.insert(Throwable::default());
        self.string(&mut throwable.class)?;
        self.string(&mut throwable.message)?;
        if self.format.stack_trace {
            let declared = self.input.i16()?;
            for _ in 0..count(declared, self.input.remaining())? {
                let mut line = StackTraceElement::default();
                self.string(&mut line.class)?;
                self.string(&mut line.method)?;
                self.string(&mut line.file)?;
                line.line = self.int()?;
                throwable.stack_trace.push(line);
            }
            self.depth += 1;
            check_depth(self.depth)?;
            let mut cause = None;
            self.throwable(&mut cause)?;
            throwable.cause = cause.map(Box::new);
            self.depth -= 1;
        }
        Ok(())
    }
}
