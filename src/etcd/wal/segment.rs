//! Reads a segment's bytes in pieces, and returns its records one by one, each checked.
//!
//! ```text
//! segment = crc record · metadata record · [hard state] · (entry | hard state | marker)*
//!           [a torn tail]                       2.x: the last frame, cut anywhere
//!           [zeros]                             3.x: preallocated room
//! ```
//!
//! The CRC is CRC-32C over the data of every record since the log began, continued from
//! segment to segment; a crc record states the value so far. Memory: one record.
//! Source: `wal/decoder.go` at etcd 2.1.3 and 3.4.23 (formats page §2).

use crate::etcd::wal::error::LogFault;
use crate::etcd::wal::record::{Head, Kind, LENGTH_WORD, LengthWord, MAX_RECORD_HEAD, Record};
use crate::etcd::wal::unsound::{Unsound, is_zero};

/// How a segment ended; each of these is normal in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentEnd {
    /// After a complete record.
    Whole {
        /// Bytes of the segment.
        offset: u64,
    },
    /// After a complete record, with only zeros after it.
    Preallocated {
        /// The start of the zeros, in bytes from the start of the segment.
        offset: u64,
    },
    /// Before its metadata record, empty or after the crc record: a crash while it is created leaves that (2.0.0
    /// to 2.0.9). Normal in the last segment; a gap anywhere else.
    Begun {
        /// Bytes of the segment.
        offset: u64,
    },
    /// Inside a frame, which is so far valid or no record at all. Normal at the end of the
    /// last segment; a gap anywhere else.
    TornTail {
        /// The start of the unfinished frame, in bytes from the start of the segment.
        offset: u64,
    },
}

impl SegmentEnd {
    /// Bytes from the start of the segment to the end of its last complete record.
    pub fn records_end(self) -> u64 {
        match self {
            Self::Whole { offset }
            | Self::Preallocated { offset }
            | Self::Begun { offset }
            | Self::TornTail { offset } => offset,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentFault {
    /// A length word that no etcd writes.
    #[error("impossible length word")]
    LengthWord,
    /// A record with fields that etcd does not write, or that do not fill its frame.
    #[error("malformed record")]
    Malformed,
    #[error("CRC mismatch (stored {stored:08x}, computed {computed:08x})")]
    CrcMismatch {
        stored: u32,
        /// The CRC of the data up to and including it.
        computed: u32,
    },
    /// Padding bytes that are not zero.
    #[error("padding that is not zero")]
    Padding,
    /// Zeros after the last record of a segment of 2.x.
    #[error("zeros behind the last record, which etcd 2.x neither writes nor reads past")]
    ZerosBehindEnd,
    /// Something other than zeros after the end of the records.
    #[error("data behind the end of the records")]
    DataBehindEnd,
    /// A frame is cut short before the end of the log.
    #[error("record cut short")]
    CutShort,
    /// Valid records follow a break, so it is not a torn tail.
    #[error("broken record with whole records behind it (the next at offset {next})")]
    RecordsBehind {
        /// The start of the next complete record, in bytes from the start of the segment.
        next: u64,
    },
    /// A segment that does not begin with a crc record and a metadata record.
    #[error("no crc and metadata records at the start")]
    NoHeader,
    /// The records are valid, but contradict raft's rules.
    #[error(transparent)]
    Log(#[from] LogFault),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// Bytes from the start of the segment to the corrupt frame.
    pub offset: u64,
    pub fault: SegmentFault,
}

#[derive(Clone, Copy, Debug)]
pub struct Located<'a> {
    /// Bytes from the start of the segment to the frame.
    pub offset: u64,
    /// Bytes of the frame, with length word and padding.
    pub frame: u64,
    pub record: Record<'a>,
}

#[derive(Debug)]
pub struct SegmentScan {
    /// Bytes from the start of the segment to the next frame.
    offset: u64,
    /// The running CRC; `None` before the first crc record of a chain with an unknown start.
    crc: Option<u32>,
    /// The number of records in this segment so far.
    records: u64,
    /// Whether a frame had padding, as only 3.x writes it.
    padded: bool,
    /// Whether every frame so far ended at a multiple of 8, as all of 3.x's do.
    aligned: bool,
    /// The start of an incomplete frame.
    carry: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    Reading,
    /// After the last record of a preallocated segment: zeros must follow.
    Zeros,
    /// Inside or after a corrupt frame.
    Unsound(Break, Unsound),
    Broken(Break),
}

enum Next {
    /// This many more bytes are needed to tell.
    More(usize),
    Frame {
        record: usize,
        padding: usize,
    },
    Nothing,
    Impossible,
    /// Not a valid record, in a frame of `frame` bytes, not all of which may be available.
    Malformed {
        frame: usize,
        /// Whether it begins like one.
        begins: bool,
    },
}

impl SegmentScan {
    /// Continues a chain at `crc`, or takes the first crc record's value if there is none.
    pub fn new(crc: Option<u32>) -> Self {
        Self {
            offset: 0,
            crc,
            records: 0,
            padded: false,
            aligned: true,
            carry: Vec::new(),
            state: State::Reading,
        }
    }

    /// Whether the CRC of every record so far matches.
    pub(crate) fn is_proven(&self) -> bool {
        matches!(self.state, State::Reading) && self.crc.is_some()
    }

    /// Takes the next bytes and passes every complete record to `sink`; if it refuses one, that
    /// counts as a break at that record. After a break nothing more is read.
    pub fn update(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(Located<'_>) -> Result<(), SegmentFault>,
    ) {
        if !self.carry.is_empty() {
            bytes = self.complete_carry(bytes, sink);
        }
        while matches!(self.state, State::Reading) && !bytes.is_empty() {
            match next(bytes) {
                Next::Frame { record, padding } => {
                    let (frame, rest) = bytes.split_at(LENGTH_WORD + record + padding);
                    self.take_frame(frame, record, sink);
                    bytes = rest;
                }
                Next::More(_) => {
                    self.carry.extend_from_slice(bytes);
                    return;
                }
                Next::Nothing => self.end_in_zeros(),
                Next::Impossible => self.break_here(SegmentFault::LengthWord),
                Next::Malformed { frame, begins } => {
                    self.tear_or_break(frame, begins, SegmentFault::Malformed);
                }
            }
        }
        self.pass_by(bytes);
    }

    /// Completes the incomplete frame from `bytes`; returns the rest of them.
    fn complete_carry<'b>(
        &mut self,
        mut bytes: &'b [u8],
        sink: &mut impl FnMut(Located<'_>) -> Result<(), SegmentFault>,
    ) -> &'b [u8] {
        let mut carry = std::mem::take(&mut self.carry);
        loop {
            match next(&carry) {
                Next::More(missing) => {
                    let (now, later) = bytes.split_at(missing.min(bytes.len()));
                    carry.extend_from_slice(now);
                    bytes = later;
                    if now.len() < missing {
                        self.carry = carry;
                        return bytes;
                    }
                }
                Next::Frame { record, .. } => {
                    self.take_frame(&carry, record, sink);
                    // Large frames are rare; their buffer is not kept for the whole log.
                    if carry.capacity() <= 1 << 20 {
                        carry.clear();
                        self.carry = carry;
                    }
                    return bytes;
                }
                Next::Nothing => self.end_in_zeros(),
                Next::Impossible => self.break_here(SegmentFault::LengthWord),
                Next::Malformed { frame, begins } => {
                    self.tear_or_break(frame, begins, SegmentFault::Malformed);
                }
            }
            if !matches!(self.state, State::Reading) {
                self.pass_by(&carry);
                return bytes;
            }
        }
    }

    fn take_frame(
        &mut self,
        frame: &[u8],
        record: usize,
        sink: &mut impl FnMut(Located<'_>) -> Result<(), SegmentFault>,
    ) {
        if let Err(fault) = self.check_frame(frame, record, sink) {
            self.tear_or_break(frame.len(), true, fault);
            self.pass_by(frame);
            return;
        }
        self.padded |= frame.len() > LENGTH_WORD + record;
        self.aligned &= frame.len().is_multiple_of(8);
        self.records += 1;
        self.offset += frame.len() as u64;
    }

    fn check_frame(
        &mut self,
        frame: &[u8],
        record: usize,
        sink: &mut impl FnMut(Located<'_>) -> Result<(), SegmentFault>,
    ) -> Result<(), SegmentFault> {
        let (body, padding) = frame
            .get(LENGTH_WORD..)
            .and_then(|rest| rest.split_at_checked(record))
            .ok_or(SegmentFault::Malformed)?;
        let record = Record::read(body).ok_or(SegmentFault::Malformed)?;
        if padding.iter().any(|&byte| byte != 0) {
            return Err(SegmentFault::Padding);
        }
        let header = match self.records {
            0 => record.kind == Kind::Crc,
            1 => record.kind == Kind::Metadata,
            _ => true,
        };
        if !header {
            return Err(SegmentFault::NoHeader);
        }
        let computed = match (record.data, self.crc) {
            (Some(data), Some(crc)) => crc32c::crc32c_append(crc, data),
            (None, Some(crc)) => crc,
            (_, None) => record.crc,
        };
        if record.crc != computed {
            return Err(SegmentFault::CrcMismatch {
                stored: record.crc,
                computed,
            });
        }
        self.crc = Some(computed);
        sink(Located {
            offset: self.offset,
            frame: frame.len() as u64,
            record,
        })
    }

    fn break_here(&mut self, fault: SegmentFault) {
        self.carry = Vec::new();
        self.state = State::Broken(Break {
            offset: self.offset,
            fault,
        });
    }

    /// Whether 3.x may have written it.
    fn may_be_3x(&self) -> bool {
        self.padded || self.aligned
    }

    /// Only 3.x has visible preallocated space; for 2.x a zero length word is a corrupt
    /// record.
    fn end_in_zeros(&mut self) {
        if self.may_be_3x() {
            self.state = State::Zeros;
        } else {
            self.break_here(SegmentFault::ZerosBehindEnd);
        }
    }

    /// Ends the reading at a frame of `frame` bytes; `is_record` tells whether it begins like a record. If 3.x may call
    /// it torn, or it is no record at all, its content and the bytes after it decide.
    fn tear_or_break(&mut self, frame: usize, is_record: bool, fault: SegmentFault) {
        let may_be_torn = matches!(
            fault,
            SegmentFault::CrcMismatch { .. } | SegmentFault::Malformed
        ) && (self.may_be_3x() || !is_record);
        if self.records < 2 || !may_be_torn {
            self.break_here(fault);
            return;
        }
        let offset = self.offset;
        self.carry = Vec::new();
        let frame = Unsound::new(offset, frame as u64, is_record);
        self.state = State::Unsound(Break { offset, fault }, frame);
    }

    /// Takes bytes after the last record: zeros, or the rest of a corrupt frame
    /// and zeros after it.
    fn pass_by(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Zeros if !is_zero(bytes) => self.break_here(SegmentFault::DataBehindEnd),
            State::Unsound(found, frame) => {
                let behind = frame.pass_by(bytes);
                if !is_zero(behind) {
                    self.state = State::Broken(found.clone());
                }
            }
            _ => {}
        }
    }

    /// How the segment ended and the CRC at which the next one continues.
    pub fn finish(mut self) -> Result<(SegmentEnd, Option<u32>), Break> {
        // The last bytes may have come one by one: fewer than were needed may still be enough.
        let carry = std::mem::take(&mut self.carry);
        if let Next::Malformed { frame, begins } = next(&carry) {
            self.tear_or_break(frame, begins, SegmentFault::Malformed);
            self.pass_by(&carry);
        }
        let offset = self.offset;
        let broken = |fault| Err(Break { offset, fault });
        let may_be_3x = self.may_be_3x();
        let end = match self.state {
            State::Broken(found) => return Err(found),
            State::Zeros => SegmentEnd::Preallocated { offset },
            State::Reading if carry.is_empty() && self.records < 2 => SegmentEnd::Begun { offset },
            State::Reading if carry.is_empty() => SegmentEnd::Whole { offset },
            State::Unsound(found, frame) if !frame.is_torn(may_be_3x) => return Err(found),
            State::Reading | State::Unsound(..) => SegmentEnd::TornTail { offset },
        };
        if self.records < 2 && matches!(end, SegmentEnd::Preallocated { .. }) {
            return broken(SegmentFault::NoHeader);
        }
        Ok((end, self.crc))
    }
}

fn next(bytes: &[u8]) -> Next {
    let Some((word, rest)) = bytes.split_first_chunk::<LENGTH_WORD>() else {
        return Next::More(LENGTH_WORD - bytes.len());
    };
    let (record, padding) = match LengthWord::read(*word) {
        LengthWord::Nothing => return Next::Nothing,
        LengthWord::Impossible => return Next::Impossible,
        LengthWord::Frame { record, padding } => (record, padding),
    };
    let whole = record + padding;
    if rest.len() >= whole {
        return Next::Frame { record, padding };
    }
    // Do not collect a frame that is known to hold no record.
    let missing = whole - rest.len();
    match Head::read(rest, record) {
        Head::Malformed => Next::Malformed {
            frame: LENGTH_WORD + whole,
            begins: Head::begins(rest),
        },
        Head::Cut => Next::More(missing.min(MAX_RECORD_HEAD)),
        Head::Whole { .. } => Next::More(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], size: usize) -> Result<SegmentEnd, Break> {
        let mut scan = SegmentScan::new(Some(0));
        for piece in bytes.chunks(size) {
            scan.update(piece, &mut |_| Ok(()));
        }
        scan.finish().map(|(end, _)| end)
    }

    /// A crc and a metadata record as 3.x frames them, then `frame`, then preallocated space.
    fn segment(frame: &[&[u8]]) -> Vec<u8> {
        let crc = [4, 0, 0, 0, 0, 0, 0, 0x84, 8, 4, 16, 0, 0, 0, 0, 0];
        let metadata = [6, 0, 0, 0, 0, 0, 0, 0x82, 8, 1, 16, 0, 26, 0, 0, 0];
        [&crc, &metadata, &frame.concat()[..], &[0; 100]].concat()
    }

    #[test]
    fn what_is_no_record_is_torn_where_the_file_ends_in_it_and_damage_where_a_record_stands() {
        let end = segment(&[]).len() - 100;
        let behind = |tail: &[u8]| read(&[&segment(&[])[..end], tail].concat(), 7);
        let torn = Ok(SegmentEnd::TornTail { offset: 32 });
        assert_eq!(behind(b"\x20\0\0\0\0\0\0\0abc"), torn);
        assert_eq!(behind(b"\x20\0\0\0\0\0\0\0\x08\x09"), torn);
        let malformed = Err(Break {
            offset: 32,
            fault: SegmentFault::Malformed,
        });
        // A length word that is too long, with a complete record after it.
        assert_eq!(behind(b"\x20\0\0\0\0\0\0\0\x08\x04\x10\0\0"), malformed);
        // A complete frame.
        assert_eq!(behind(b"\x03\0\0\0\0\0\0\0abc"), malformed);
    }

    #[test]
    fn a_verdict_does_not_depend_on_how_the_bytes_come() {
        // A frame of 1 KB without a record was called torn or malformed depending on how much of it had
        // been read; and so was a file that ends within its first bytes.
        let word = [0, 4, 0, 0, 0, 0, 0, 0];
        let padded = [28, 0, 0, 0, 0, 0, 0, 0x84];
        let malformed = |offset| {
            let fault = SegmentFault::Malformed;
            Err(Break { offset, fault })
        };
        let stories = [
            (
                segment(&[&word, &[0x1c; 472], &[0; 512], &[0x1c; 40]]),
                Ok(SegmentEnd::TornTail { offset: 32 }),
            ),
            (
                segment(&[&word, &[0x1c; 471], &[0; 512], &[0x1c; 41]]),
                malformed(32),
            ),
            (segment(&[&padded, &[0x1c; 28], &[1; 4]]), malformed(32)),
        ];
        for (bytes, verdict) in stories {
            assert_eq!(read(&bytes, bytes.len()), verdict);
            for end in 1..=bytes.len() {
                let bytes = &bytes[..end];
                for size in [1, 8, 9, 15, 100, 513] {
                    assert_eq!(read(bytes, size), read(bytes, end), "{end} in {size}");
                }
            }
        }
    }
}
