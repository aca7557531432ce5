//! Checks an archive's bytes in one pass from the first to the last.
//!
//! In: an open [`Archive`], and all of its bytes in order. Out: the first fault. Nothing is
//! decompressed: every content frame is compared with its SHA-256 in the seal, and the seal and the
//! seek table with those that were verified when the archive was opened.

use crate::archive::format::{Frame, TailFault, write_tail};
use crate::archive::{Archive, ArchiveError, ArchiveFault};
use crate::etcd::digest::Hasher;

pub struct FrameCheck<'a> {
    archive: &'a Archive,
    frames: std::iter::Enumerate<std::slice::Iter<'a, Frame>>,
    /// The current frame, its digest so far, and the number of its bytes that are missing.
    now: Option<(usize, &'a Frame, Hasher, usize)>,
    tail: Vec<u8>,
    /// The number of tail bytes so far.
    tail_seen: usize,
}

impl<'a> FrameCheck<'a> {
    pub fn of(archive: &'a Archive) -> Self {
        let mut check = Self {
            archive,
            frames: archive.frames().iter().enumerate(),
            now: None,
            tail: write_tail(archive.frames()),
            tail_seen: 0,
        };
        check.next_frame();
        check
    }

    fn next_frame(&mut self) {
        self.now = self
            .frames
            .next()
            .map(|(number, frame)| (number, frame, Hasher::default(), frame.compressed as usize));
    }

    /// Takes the next bytes; an error as soon as a frame does not match.
    pub fn update(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let mut rest = bytes;
        while let Some((number, frame, hasher, left)) = &mut self.now {
            let (now, later) = rest.split_at(rest.len().min(*left));
            hasher.update(now);
            *left -= now.len();
            rest = later;
            if *left > 0 {
                return Ok(());
            }
            if std::mem::take(hasher).finish() != frame.digest {
                return Err(self.archive.fault(ArchiveFault::FrameDigest {
                    frame: *number,
                    offset: frame.offset,
                }));
            }
            self.next_frame();
        }
        let expected = self.tail.get(self.tail_seen..).unwrap_or_default();
        if !expected.starts_with(rest) {
            return Err(self.archive.fault(TailFault::Seal.into()));
        }
        self.tail_seen += rest.len();
        Ok(())
    }

    /// Fails unless all bytes have been given.
    pub fn finish(self) -> Result<(), ArchiveError> {
        if self.now.is_none() && self.tail_seen == self.tail.len() {
            return Ok(());
        }
        Err(self.archive.fault(TailFault::NoTable.into()))
    }
}
