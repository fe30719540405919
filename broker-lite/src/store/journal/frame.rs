//! Frames to bytes and back. The layout is described in the [journal's documentation](super).

use bytes::{Buf, BufMut, BytesMut};

/// Frames start at multiples of it.
pub(super) const ALIGN: usize = 8;

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 40;

/// The largest payload of a frame: offsets in a segment have 32 bits, and a catalog and a seal must fit in
/// beside it.
pub(super) const MAX_PAYLOAD: usize = 1 << 30;

/// Every frame begins with it.
pub(super) const MAGIC: [u8; 4] = *b"OWJ1";

/// What the CRC covers begins here.
const CHECKED: usize = 8;

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Position {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// The state at the begin of a segment.
    Catalog = 1,
    /// The records of a batch.
    Batch = 2,
    /// Messages copied forward.
    Copies = 3,
    /// The number of the oldest segment that is still needed.
    Reclaim = 4,
    /// Nothing: the log goes on in the next segment.
    Seal = 5,
    /// Nothing: the journal was closed in order.
    Close = 6,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Catalog,
            Self::Batch,
            Self::Copies,
            Self::Reclaim,
            Self::Seal,
            Self::Close,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    crc: u32,
    /// Bytes of payload.
    pub(super) length: usize,
    kind: u8,
    /// The random number of the journal.
    pub(super) journal: u64,
    /// Where the frame stands.
    pub(super) at: Position,
    /// Everything before this was durable when the frame was written.
    pub(super) synced: Position,
}

/// What a frame takes in a segment, for so much payload.
pub(super) const fn frame_len(payload: usize) -> usize {
    (HEADER + payload).next_multiple_of(ALIGN)
}

/// Begins a frame at the end of `out`: its payload is to be appended.
pub(super) fn begin_frame(out: &mut BytesMut) -> usize {
    let start = out.len();
    out.put_bytes(0, HEADER);
    start
}

/// Completes the frame that begins at `start` and ends at the end of `out`.
pub(super) fn end_frame(
    out: &mut BytesMut,
    start: usize,
    kind: FrameKind,
    journal: u64,
    at: Position,
    synced: Position,
) {
    let length = out.len() - start - HEADER;
    let mut header = &mut out[start..start + HEADER];
    header.put_slice(&MAGIC);
    header.put_u32_le(0);
    header.put_u32_le(length as u32);
    header.put_u32_le(kind as u32);
    header.put_u64_le(journal);
    header.put_u32_le(at.segment);
    header.put_u32_le(at.offset);
    header.put_u32_le(synced.segment);
    header.put_u32_le(synced.offset);
    let crc = crc32fast::hash(&out[start + CHECKED..]);
    out[start + 4..start + CHECKED].copy_from_slice(&crc.to_le_bytes());
    out.put_bytes(0, frame_len(length) - HEADER - length);
}

impl FrameHeader {
    /// Reads a header; none if these bytes are no header.
    pub(super) fn parse(mut bytes: &[u8]) -> Option<Self> {
        bytes = bytes.strip_prefix(&MAGIC)?;
        Some(Self {
            crc: bytes.try_get_u32_le().ok()?,
            length: bytes.try_get_u32_le().ok()? as usize,
            kind: bytes
                .try_get_u32_le()
                .ok()
                .and_then(|kind| kind.try_into().ok())?,
            journal: bytes.try_get_u64_le().ok()?,
            at: Position {
                segment: bytes.try_get_u32_le().ok()?,
                offset: bytes.try_get_u32_le().ok()?,
            },
            synced: Position {
                segment: bytes.try_get_u32_le().ok()?,
                offset: bytes.try_get_u32_le().ok()?,
            },
        })
    }

    /// What the frame holds; none if a newer version wrote it.
    pub(super) fn kind(&self) -> Option<FrameKind> {
        FrameKind::from_byte(self.kind)
    }

    /// Checks header and payload, which follow each other in `frame`.
    pub(super) fn is_intact(&self, frame: &[u8]) -> bool {
        frame
            .get(CHECKED..HEADER + self.length)
            .is_some_and(|checked| crc32fast::hash(checked) == self.crc)
    }
}

/// Appends the payload of a reclaim frame.
pub(super) fn encode_reclaim(oldest: u32, out: &mut BytesMut) {
    out.put_u32_le(oldest);
}

/// Reads the payload of a reclaim frame.
pub(super) fn parse_reclaim(mut from: &[u8]) -> Option<u32> {
    from.try_get_u32_le().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8], at: Position) -> BytesMut {
        let mut out = BytesMut::from(&b"before"[..]);
        let start = begin_frame(&mut out);
        out.put_slice(payload);
        let synced = Position {
            segment: 2,
            offset: 96,
        };
        end_frame(
            &mut out,
            start,
            FrameKind::Batch,
            0x0123_4567_89ab_cdef,
            at,
            synced,
        );
        out.split_off(start)
    }

    #[test]
    fn a_frame_is_as_described() {
        let at = Position {
            segment: 3,
            offset: 64,
        };
        let bytes = frame(b"abc", at);
        assert_eq!(bytes.len(), frame_len(3));
        assert_eq!(bytes.len() % ALIGN, 0);
        assert_eq!(&bytes[..4], b"OWJ1");
        assert_eq!(bytes[4..8], crc32fast::hash(&bytes[8..43]).to_le_bytes());
        let rest = [
            3, 0, 0, 0, 2, 0, 0, 0, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01, 3, 0, 0, 0, 64, 0, 0, 0,
            2, 0, 0, 0, 96, 0, 0, 0, b'a', b'b', b'c', 0, 0, 0, 0, 0,
        ];
        assert_eq!(bytes[8..], rest);
        let header = FrameHeader::parse(&bytes).unwrap();
        assert_eq!((header.at, header.length), (at, 3));
        assert_eq!(header.kind(), Some(FrameKind::Batch));
        assert!(header.is_intact(&bytes));
        for byte in 4..43 {
            let mut broken = bytes.clone();
            broken[byte] ^= 4;
            let header = FrameHeader::parse(&broken);
            assert!(header.is_none_or(|header| !header.is_intact(&broken)), "{byte}");
        }
    }
}
