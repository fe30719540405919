//! Reading a segment's file from front to back, a stretch at a time.

use std::io;

use super::disk::DiskFile;
use super::frame::{ALIGN, FrameHeader, HEADER, MAGIC, Position};

/// A stretch of a file in memory.
pub(super) struct Window<'a> {
    file: &'a dyn DiskFile,
    len: u64,
    /// How much is read at least.
    ahead: usize,
    start: u64,
    stretch: Vec<u8>,
}

/// A frame that was found, or why there is none.
pub(super) type Found<'a> = Result<(FrameHeader, &'a [u8]), &'static str>;

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, len: u64, ahead: usize) -> Self {
        Self {
            file,
            // Offsets have 32 bits; no segment is longer.
            len: len.min(u32::MAX.into()),
            ahead,
            start: 0,
            stretch: Vec::new(),
        }
    }

    /// The bytes from `offset` on: `len` of them, or fewer where the file ends.
    pub(super) fn get(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let left = self.len.saturating_sub(offset);
        let len = left.min(len as u64) as usize;
        let is_here = offset >= self.start && offset + len as u64 <= self.start + self.stretch.len() as u64;
        if !is_here {
            let wanted = left.min(len.max(self.ahead) as u64) as usize;
            // What is in memory is not true of the file if reading fails half-way.
            self.start = offset;
            self.stretch.resize(wanted, 0);
            if let Err(error) = self.file.read_exact_at(&mut self.stretch, offset) {
                self.stretch.clear();
                let now = self.file.len()?;
                if error.kind() != io::ErrorKind::UnexpectedEof || now >= self.len {
                    return Err(error);
                }
                // A former master has just closed its journal, and gave back what it had not written to.
                self.len = now;
                return self.get(offset, len);
            }
        }
        let at = (offset - self.start) as usize;
        Ok(&self.stretch[at..at + len])
    }

    /// The frame at this position, if a valid one of this journal stands there.
    pub(super) fn frame(&mut self, at: Position, journal: Option<u64>) -> io::Result<Found<'_>> {
        let offset = u64::from(at.offset);
        let header = self.get(offset, HEADER)?;
        let Some(header) = FrameHeader::parse(header) else {
            return Ok(Err("no frame begins here"));
        };
        if header.at != at || journal.is_some_and(|journal| header.journal != journal) {
            return Ok(Err("a frame of another place or journal stands here"));
        }
        if header.length as u64 > self.len - offset - HEADER as u64 {
            return Ok(Err("the frame is longer than its file"));
        }
        let frame = self.get(offset, HEADER + header.length)?;
        if !header.is_intact(frame) {
            return Ok(Err("the checksum of the frame is wrong"));
        }
        Ok(Ok((header, &frame[HEADER..])))
    }

    /// True if a valid frame at or behind `from` says that more than `end` was durable when it was written.
    ///
    /// The frames need not follow each other: what lies between may be damaged.
    pub(super) fn has_claim_beyond(
        &mut self,
        end: Position,
        from: Position,
        journal: Option<u64>,
    ) -> io::Result<bool> {
        let mut offset = u64::from(from.offset);
        while offset < self.len {
            let stretch = self.get(offset, self.ahead)?;
            let candidates: Vec<u64> = stretch
                .chunks(ALIGN)
                .enumerate()
                .filter(|(_, bytes)| bytes.starts_with(&MAGIC))
                .map(|(index, _)| offset + (index * ALIGN) as u64)
                .collect();
            offset += stretch.len() as u64;
            for candidate in candidates {
                let at = Position {
                    segment: from.segment,
                    offset: u32::try_from(candidate).unwrap_or(u32::MAX),
                };
                if let Ok((header, _)) = self.frame(at, journal)?
                    && header.synced > end
                {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_becomes_shorter_ends_there() {
        let file = tempfile::tempfile().unwrap();
        DiskFile::write_all_at(&file, &[7; 1_000], 0).unwrap();
        let mut window = Window::new(&file, 1_000, 100);
        assert_eq!(window.get(0, 100).unwrap(), [7; 100]);
        DiskFile::truncate(&file, 250).unwrap();
        assert_eq!(window.get(200, 80).unwrap(), [7; 50]);
        assert!(window.get(600, 80).unwrap().is_empty());
        assert!(
            !window
                .has_claim_beyond(Position::default(), Position::default(), None)
                .unwrap()
        );
    }
}
