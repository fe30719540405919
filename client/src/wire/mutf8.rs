//! Java's modified UTF-8: NUL takes two bytes, a character outside the BMP six.

use std::borrow::Cow;

use super::error::{WireError, WireErrorKind};

/// True if every byte is between `low` and `high`. Looks at blocks of bytes, which the compiler does all at
/// once where stopping at the first odd byte would go one by one.
fn all_within(bytes: &[u8], low: u8, high: u8) -> bool {
    let within = |block: &[u8]| {
        block
            .iter()
            .fold(true, |all, byte| all & (low..=high).contains(byte))
    };
    bytes.chunks(32).all(within)
}

/// True for what Java's tight encoding calls ASCII: it leaves out NUL.
pub(crate) fn is_plain_ascii(text: &str) -> bool {
    all_within(text.as_bytes(), 0x01, 0x7F)
}

/// Encodes text. Borrows it where both encodings agree.
pub fn encode_mutf8(text: &str) -> Cow<'_, [u8]> {
    if all_within(text.as_bytes(), 0x01, 0xEF) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => out.extend_from_slice(&[0xC0, 0x80]),
            '\u{10000}'.. => {
                let mut units = [0; 2];
                for &unit in &*c.encode_utf16(&mut units) {
                    out.extend_from_slice(&[
                        0xE0 | (unit >> 12) as u8,
                        0x80 | (unit >> 6 & 0x3F) as u8,
                        0x80 | (unit & 0x3F) as u8,
                    ]);
                }
            }
            _ => {
                let mut bytes = [0; 4];
                out.extend_from_slice(c.encode_utf8(&mut bytes).as_bytes());
            }
        }
    }
    Cow::Owned(out)
}

/// Decodes text. An unpaired surrogate, which a Java peer can send, becomes U+FFFD.
///
/// Plain UTF-8 (a NUL byte, a four-byte character) is read too: Java peers accept it in properties.
pub fn decode_mutf8(bytes: &[u8]) -> Result<Cow<'_, str>, WireError> {
    // Everything but surrogates and the two-byte NUL is UTF-8 already.
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(Cow::Borrowed(text));
    }
    let mut units = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter().copied();
    let malformed = || WireError::new(WireErrorKind::Text, "not modified UTF-8");
    while let Some(first) = rest.next() {
        let mut tail = || match rest.next() {
            Some(byte) if byte & 0xC0 == 0x80 => Ok(u32::from(byte & 0x3F)),
            _ => Err(malformed()),
        };
        match first {
            0x00..=0x7F => units.push(u16::from(first)),
            0xC0..=0xDF => units.push(((u32::from(first & 0x1F) << 6) | tail()?) as u16),
            0xE0..=0xEF => units.push(((u32::from(first & 0x0F) << 12) | (tail()? << 6) | tail()?) as u16),
            0xF0..=0xF7 => {
                let code = (u32::from(first & 0x07) << 18) | (tail()? << 12) | (tail()? << 6) | tail()?;
                let c = char::from_u32(code).ok_or_else(malformed)?;
                units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            }
            _ => return Err(malformed()),
        }
    }
    Ok(Cow::Owned(String::from_utf16_lossy(&units)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_characters_take_their_java_form() {
        assert_eq!(&*encode_mutf8("a\0"), b"a\xC0\x80");
        assert_eq!(&*encode_mutf8("\u{1F600}"), b"\xED\xA0\xBD\xED\xB8\x80");
        assert!(matches!(encode_mutf8("é漢"), Cow::Borrowed(_)));
        for text in ["", "a\0b", "é漢\u{1F600}", "\u{10FFFF}\u{FFFF}"] {
            assert_eq!(decode_mutf8(&encode_mutf8(text)).unwrap(), text);
        }
    }

    #[test]
    fn a_lone_surrogate_is_replaced_and_garbage_refused() {
        assert_eq!(decode_mutf8(b"x\xED\xA0\xBDy").unwrap(), "x\u{FFFD}y");
        for bad in [&b"\xC3"[..], b"\x80", b"\xE2\x82", b"\xFF", b"\xC3\x28"] {
            assert_eq!(decode_mutf8(bad).unwrap_err().kind(), WireErrorKind::Text);
        }
    }
}
