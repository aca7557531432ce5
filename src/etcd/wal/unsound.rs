//! A corrupt frame, and whether it is only the torn end of a segment.
//!
//! In: the frame's bytes and those after it, in pieces. Out: whether it was never completely written.

/// Bytes of a sector, which a disk writes completely or not at all.
const SECTOR: u64 = 512;

/// A corrupt frame, checked in pieces: it may be too long to be collected,
/// since its length word may be wrong.
#[derive(Debug)]
pub(super) struct Unsound {
    /// Bytes from the start of the segment to the next byte.
    at: u64,
    /// Bytes of the frame that are still missing.
    left: u64,
    /// Whether all bytes since the last sector boundary, or the frame's start, are zeros.
    zeros: bool,
    /// Whether a part of it between two sector boundaries is all zeros.
    zero_sector: bool,
    is_record: bool,
}

/// Whether all bytes are zero: compared in blocks, since preallocated segments are long.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    let is_zero = |block: &[u8]| ZEROS.starts_with(block);
    bytes.chunks(ZEROS.len()).all(is_zero)
}

impl Unsound {
    /// A frame of `length` bytes that begins at `at`, in bytes from the start of the segment.
    pub(super) fn new(at: u64, length: u64, is_record: bool) -> Self {
        Self {
            at,
            left: length,
            zeros: true,
            zero_sector: false,
            is_record,
        }
    }

    /// Takes the frame's next bytes; returns the bytes after it.
    pub(super) fn pass_by<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let frame = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let (mut frame, behind) = bytes.split_at(frame);
        self.left -= frame.len() as u64;
        while !frame.is_empty() {
            let to_border = (SECTOR - self.at % SECTOR) as usize;
            let (part, rest) = frame.split_at(to_border.min(frame.len()));
            self.zeros &= is_zero(part);
            self.at += part.len() as u64;
            if self.at.is_multiple_of(SECTOR) {
                self.zero_sector |= self.zeros;
                self.zeros = true;
            }
            frame = rest;
        }
        behind
    }

    /// Whether it was never completely written: no record at all in a frame longer than the file, which
    /// 2.1 and later cut off; or, in a log that 3.x may have written, one with a sector of zeros, which 3.x
    /// calls a torn entry (`isTornEntry` in `wal/decoder.go`).
    pub(super) fn is_torn(&self, may_be_3x: bool) -> bool {
        let has_hole = self.zero_sector || (self.zeros && !self.at.is_multiple_of(SECTOR));
        may_be_3x && has_hole || !self.is_record && self.left > 0
    }
}
