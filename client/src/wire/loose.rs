//! The loose encoding: fields one after another, flags as bytes.

use std::sync::Arc;

use super::error::WireError;
use super::mutf8::encode_mutf8;
use super::read::{Input, ReadEncoding};
use super::write::{WriteEncoding, put_text};

/// The loose encoding, which keeps nothing besides the bytes.
pub(crate) struct Loose;

impl WriteEncoding for Loose {
    const OUTER_SLOT_FIRST: bool = true;

    #[inline]
    fn flag(&mut self, out: &mut Vec<u8>, value: bool) {
        out.push(value.into());
    }

    #[inline]
    fn long(&mut self, out: &mut Vec<u8>, value: i64) {
        out.extend_from_slice(&value.to_be_bytes());
    }

    fn text(&mut self, out: &mut Vec<u8>, text: &str) -> Result<(), WireError> {
        put_text(out, &encode_mutf8(text), u16::MAX.into())
    }

    #[inline]
    fn no_own_frame(&mut self) {}
}

impl ReadEncoding for Loose {
    /// Any byte but 0 is true, as Java reads it.
    #[inline]
    fn flag(&mut self, input: &mut Input) -> Result<bool, WireError> {
        input.u8().map(|byte| byte != 0)
    }

    #[inline]
    fn long(&mut self, input: &mut Input) -> Result<i64, WireError> {
        input.i64()
    }

    fn text(&mut self, input: &mut Input) -> Result<Arc<str>, WireError> {
        let length = input.u16()?;
        input.text(length.into())
    }

    #[inline]
    fn own_frame(&mut self, _: &mut Input) -> Result<bool, WireError> {
        Ok(false)
    }

    /// Each takes at least a byte.
    fn elements_left(&self, input: &Input) -> usize {
        input.remaining()
    }
}
