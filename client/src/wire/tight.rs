//! The tight encoding: all flags in a bit stream before the bytes, small numbers and known values short.
//!
//! One pass collects bits and bytes side by side; the frame is put together from both.

use std::ops::Range;
use std::sync::Arc;

use super::error::WireError;
use super::mutf8::{encode_mutf8, is_plain_ascii};
use super::read::{Input, ReadEncoding};
use super::write::{WriteEncoding, put_text, too_long};

/// Java refuses to write a longer string in this encoding.
const MAX_STRING: usize = 32766;

/// Java reads the length of a bit stream as a signed number of 16 bits.
const MAX_BIT_BYTES: usize = 32767;

/// Room for the length in front of the bits.
const HEAD: usize = 3;

/// A stream of bits, filled from the least significant bit of the first byte upwards.
#[derive(Debug, Default)]
pub(crate) struct BitWriter {
    /// The head, and whole words in their wire order.
    bytes: Vec<u8>,
    /// The bits after those, fewer than 64.
    word: u64,
    count: u32,
}

impl BitWriter {
    /// Starts a frame.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&[0; HEAD]);
        self.word = 0;
        self.count = 0;
    }

    #[inline]
    fn push(&mut self, bit: bool) {
        self.word |= u64::from(bit) << self.count;
        self.count += 1;
        if self.count == u64::BITS {
            self.bytes.extend_from_slice(&self.word.to_le_bytes());
            self.word = 0;
            self.count = 0;
        }
    }

    /// The finished stream with its length in front.
    pub(crate) fn finish(&mut self) -> Result<&[u8], WireError> {
        let started = self.count.div_ceil(8) as usize;
        self.bytes.extend_from_slice(&self.word.to_le_bytes()[..started]);
        self.word = 0;
        self.count = 0;
        let length = self.bytes.len() - HEAD;
        let head: &[u8] = match length {
            0..64 => &[length as u8],
            64..256 => &[0xC0, length as u8],
            256..=MAX_BIT_BYTES => &[0x80, (length >> 8) as u8, length as u8],
            _ => return Err(too_long(length, MAX_BIT_BYTES)),
        };
        let start = HEAD - head.len();
        self.bytes[start..HEAD].copy_from_slice(head);
        Ok(&self.bytes[start..])
    }
}

impl WriteEncoding for &mut BitWriter {
    const OUTER_SLOT_FIRST: bool = false;

    #[inline]
    fn flag(&mut self, _: &mut Vec<u8>, value: bool) {
        self.push(value);
    }

    #[inline]
    fn long(&mut self, out: &mut Vec<u8>, value: i64) {
        let (first, second) = match value as u64 {
            0 => (false, false),
            1..=0xFFFF => {
                out.extend_from_slice(&(value as u16).to_be_bytes());
                (false, true)
            }
            0x1_0000..=0xFFFF_FFFF => {
                out.extend_from_slice(&(value as u32).to_be_bytes());
                (true, false)
            }
            _ => {
                out.extend_from_slice(&value.to_be_bytes());
                (true, true)
            }
        };
        self.push(first);
        self.push(second);
    }

    fn text(&mut self, out: &mut Vec<u8>, text: &str) -> Result<(), WireError> {
        let ascii = is_plain_ascii(text);
        self.push(ascii);
        if ascii {
            put_text(out, text.as_bytes(), MAX_STRING)
        } else {
            put_text(out, &encode_mutf8(text), MAX_STRING)
        }
    }

    #[inline]
    fn no_own_frame(&mut self) {
        self.push(false);
    }
}

/// The bits of a frame that were not read.
pub(crate) struct BitReader {
    /// The next bits, `count` of them.
    word: u64,
    count: u32,
    /// Where the bytes after those are in the frame.
    rest: Range<usize>,
}

impl BitReader {
    /// Finds the bit stream at the front of a frame's payload and steps over it.
    pub(crate) fn new(input: &mut Input) -> Result<Self, WireError> {
        let length = match input.u8()? {
            length @ 0..64 => length.into(),
            0xC0 => input.u8()?.into(),
            0x80 => input.u16()?.into(),
            other => return Err(WireError::invalid(format!("a bit stream length of {other:#x}"))),
        };
        if length > MAX_BIT_BYTES {
            return Err(WireError::invalid(format!("a bit stream of {length} bytes")));
        }
        let start = input.position();
        input.take(length)?;
        Ok(Self {
            word: 0,
            count: 0,
            rest: start..start + length,
        })
    }

    #[inline]
    fn next(&mut self, input: &Input) -> Result<bool, WireError> {
        self.take(1, input).map(|bits| bits == 1)
    }

    /// The next few bits, the first one lowest.
    #[inline]
    fn take(&mut self, count: u32, input: &Input) -> Result<u64, WireError> {
        if self.count < count {
            self.refill(count, input)?;
        }
        let bits = self.word & ((1 << count) - 1);
        self.word >>= count;
        self.count -= count;
        Ok(bits)
    }

    fn refill(&mut self, count: u32, input: &Input) -> Result<(), WireError> {
        let room = (u64::BITS - self.count) / 8;
        let length = self.rest.len().min(room as usize);
        let mut word = [0; size_of::<u64>()];
        word[..length].copy_from_slice(input.again(self.rest.start, length));
        self.rest.start += length;
        self.word |= u64::from_le_bytes(word) << self.count;
        self.count += 8 * length as u32;
        if self.count < count {
            return Err(WireError::truncated());
        }
        Ok(())
    }
}

impl ReadEncoding for BitReader {
    #[inline]
    fn flag(&mut self, input: &mut Input) -> Result<bool, WireError> {
        self.next(input)
    }

    #[inline]
    fn long(&mut self, input: &mut Input) -> Result<i64, WireError> {
        // The first bit is the high one of the choice.
        match self.take(2, input)? {
            0b00 => Ok(0),
            0b10 => input.u16().map(i64::from),
            0b01 => input.u32().map(i64::from),
            _ => input.i64(),
        }
    }

    fn text(&mut self, input: &mut Input) -> Result<Arc<str>, WireError> {
        let ascii = self.next(input)?;
        let length = input.u16()?.into();
        if !ascii {
            return input.text(length);
        }
        let bytes = input.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) if text.is_ascii() => Ok(text.into()),
            // Java reads what should have been ASCII as Latin-1.
            _ => Ok(bytes.iter().copied().map(char::from).collect::<String>().into()),
        }
    }

    #[inline]
    fn own_frame(&mut self, input: &mut Input) -> Result<bool, WireError> {
        self.next(input)
    }

    /// Each takes at least a bit.
    fn elements_left(&self, _: &Input) -> usize {
        self.count as usize + 8 * self.rest.len()
    }
}
