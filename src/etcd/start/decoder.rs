//! Reads a log's records as the servers' own decoder does, which accepts more than it should.
//!
//! In: the bytes of all segments in order, since the decoder does not see where one ends.
//! Out: each record, and how the bytes end. Memory: one record.
//! Source: `wal/decoder.go`, `wal/repair.go`, `wal/walpb/record.pb.go` at 2.0.13, 2.1.3 and 2.3.8.

use crate::etcd::start::reason::Illegal;
use crate::etcd::wal::record::{LENGTH_WORD, MAX_RECORD};

/// The length at which Go refuses to make a slice, in bytes.
const MAX_SLICE: u64 = 1 << 48;

/// The length from which on a server is assumed to lack the memory for the slice, in bytes. Whether it starts with
/// a smaller one depends on the memory of its host.
const MAX_MEMORY: u64 = 1 << 35;

/// A record's fields; absent ones are zero, as in Go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) kind: u64,
    pub(super) crc: u32,
    pub(super) data: &'a [u8],
}

/// The type of the record with the running CRC.
pub(super) const CRC: u64 = 4;

/// Why the reading stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The length word of a padded frame, which only 3.x writes; for 2.x the length is impossible.
    Padded,
    /// A length for which Go makes no slice.
    ImpossibleLength,
    /// A length for which a server lacks the memory.
    OutOfMemory,
    /// The running CRC does not match.
    CrcMismatch,
    /// A record that ends inside a field.
    CutRecord,
    /// A record that is not protobuf.
    Malformed,
    /// The caller refused the record.
    Refused,
}

/// How the bytes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// After a complete record.
    Whole,
    /// After a length word: 2.0 treats that as the end.
    LengthWord,
    /// Inside a record or a length word.
    Torn,
}

/// The bytes of a log that is being read.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    crc: u32,
    /// Whether the CRCs of the records are known to match.
    proven: bool,
    /// An incomplete frame; of one that is too long to accept only its length word.
    carry: Vec<u8>,
    /// Bytes of such a frame so far.
    passed: u64,
    stop: Option<Stop>,
    /// What 2.2 and later stop at in a record that older releases read, or take for a torn one.
    illegal: Option<Illegal>,
    /// Whether a record began at the start of the last segment.
    aligned: bool,
    /// Bytes of the last segment up to the end of its last complete record.
    records_end: u64,
    /// Bytes of the last segment so far.
    taken: u64,
}

impl Decoder {
    /// Begins the next segment. Its bytes follow those of the last one.
    pub(super) fn begin_segment(&mut self) {
        if self.stop.is_some() {
            // The break is not in the last segment.
            self.aligned = false;
            return;
        }
        self.aligned = self.carry.is_empty();
        self.records_end = 0;
        self.taken = 0;
    }

    /// Takes the next bytes and passes each complete record to `sink`, until that refuses one.
    /// If the records' CRCs are `proven` to match, they are not computed again.
    pub(super) fn update(
        &mut self,
        mut bytes: &[u8],
        proven: bool,
        sink: &mut impl FnMut(Record<'_>) -> bool,
    ) {
        self.proven = proven;
        self.taken += bytes.len() as u64;
        while self.stop.is_none() && !bytes.is_empty() {
            if self.carry.is_empty() {
                // Most frames are complete and need no copy.
                if let Some(length) = self.frame_length(bytes)
                    && let Some((frame, rest)) = bytes.split_at_checked(LENGTH_WORD + length)
                {
                    self.frame(frame.get(LENGTH_WORD..).unwrap_or_default(), sink);
                    bytes = rest;
                    self.note_end(bytes);
                    continue;
                }
            }
            if self.stop.is_none() {
                bytes = self.gather(bytes, sink);
            }
        }
    }

    fn note_end(&mut self, rest: &[u8]) {
        if self.stop.is_none() {
            self.records_end = self.taken - rest.len() as u64;
        }
    }

    /// The length of the record in the frame that begins with `bytes`; `None` if there are not
    /// enough of them, or if the length is not possible.
    fn frame_length(&mut self, bytes: &[u8]) -> Option<usize> {
        let word = u64::from_le_bytes(*bytes.first_chunk()?);
        if word >= MAX_MEMORY {
            self.stop = Some(match word >> 56 {
                0x81..=0x87 => Stop::Padded,
                _ if word <= MAX_SLICE => Stop::OutOfMemory,
                _ => Stop::ImpossibleLength,
            });
            return None;
        }
        usize::try_from(word).ok()
    }

    /// Adds to the incomplete frame; returns the bytes after it.
    fn gather<'b>(
        &mut self,
        bytes: &'b [u8],
        sink: &mut impl FnMut(Record<'_>) -> bool,
    ) -> &'b [u8] {
        let carry = std::mem::take(&mut self.carry);
        let wanted = match self.frame_length(&carry) {
            _ if self.stop.is_some() => return bytes,
            None => LENGTH_WORD - carry.len(),
            Some(length) if length as u64 > MAX_RECORD => {
                self.passed += bytes.len() as u64;
                if self.passed >= length as u64 {
                    self.stop = Some(Stop::Malformed);
                }
                self.carry = carry;
                return &[];
            }
            Some(length) => LENGTH_WORD + length - carry.len(),
        };
        let (now, rest) = bytes.split_at(wanted.min(bytes.len()));
        self.carry = carry;
        self.carry.extend_from_slice(now);
        let carry = std::mem::take(&mut self.carry);
        match self.frame_length(&carry) {
            Some(length) if carry.len() == LENGTH_WORD + length => {
                self.frame(carry.get(LENGTH_WORD..).unwrap_or_default(), sink);
                self.note_end(rest);
            }
            _ => self.carry = carry,
        }
        rest
    }

    fn frame(&mut self, bytes: &[u8], sink: &mut impl FnMut(Record<'_>) -> bool) {
        let (record, illegal) = read(bytes);
        if self.illegal.is_none() {
            self.illegal = illegal;
        }
        let record = match record {
            Ok(record) => record,
            Err(stop) => {
                self.stop = Some(stop);
                return;
            }
        };
        if record.kind == CRC {
            // A running CRC of 0 means that the decoder has read nothing.
            if self.crc != 0 && record.crc != self.crc {
                self.stop = Some(Stop::CrcMismatch);
                return;
            }
            self.crc = record.crc;
        } else {
            self.crc = if self.proven {
                record.crc
            } else {
                crc32c::crc32c_append(self.crc, record.data)
            };
            if record.crc != self.crc {
                self.stop = Some(Stop::CrcMismatch);
                return;
            }
        }
        if !sink(record) {
            self.stop = Some(Stop::Refused);
        }
    }

    /// What 2.2 and later refuse before older releases stop.
    pub(super) fn illegal(&self) -> Option<&Illegal> {
        self.illegal.as_ref()
    }

    /// Why the reading stopped before the end, if it did.
    pub(super) fn stop(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// How the bytes end, if the reading came to the end.
    pub(super) fn tail(&self) -> Tail {
        match self.carry.len() {
            0 => Tail::Whole,
            LENGTH_WORD if self.passed == 0 => Tail::LengthWord,
            _ => Tail::Torn,
        }
    }

    /// How many bytes 2.1 and later cut off the last segment, if they cut at this kind of break
    /// and it is in that segment.
    pub(super) fn repairable(&self) -> Option<u64> {
        let torn = match &self.stop {
            None => self.tail() != Tail::Whole,
            Some(stop) => *stop == Stop::CutRecord,
        };
        (torn && self.aligned).then(|| self.taken - self.records_end)
    }
}

/// Reads a record as the generated code of 2.0 and 2.1 does, and what that of 2.2 and later refuses in it.
fn read(bytes: &[u8]) -> (Result<Record<'_>, Stop>, Option<Illegal>) {
    let mut fields = Fields {
        bytes,
        illegal: None,
    };
    let record = fields.record();
    (record, fields.illegal)
}

/// What is left of a record.
struct Fields<'a> {
    bytes: &'a [u8],
    illegal: Option<Illegal>,
}

impl<'a> Fields<'a> {
    fn record(&mut self) -> Result<Record<'a>, Stop> {
        let mut record = Record::default();
        while !self.bytes.is_empty() {
            let key = self.varint()?;
            // Go cuts the number of a field off as here.
            let field = (key >> 3) as i32;
            if key & 7 == 4 {
                self.refuse(Illegal::EndGroup);
            } else if field <= 0 {
                self.refuse(Illegal::Tag(field, key));
            }
            match (field, key & 7) {
                (1, 0) => record.kind = self.varint()?,
                (2, 0) => record.crc = self.varint()? as u32,
                (3, 2) => record.data = self.delimited()?,
                (1..=3, _) => return Err(Stop::Malformed),
                (_, wire) => self.skip(wire)?,
            }
        }
        Ok(record)
    }

    /// Passes over the rest of an unknown field.
    fn skip(&mut self, wire: u64) -> Result<(), Stop> {
        match wire {
            0 => self.varint().map(drop),
            1 => self.take(8).map(drop),
            2 => self.delimited().map(drop),
            4 => Ok(()),
            5 => self.take(4).map(drop),
            _ => Err(Stop::Malformed),
        }
    }

    fn refuse(&mut self, illegal: Illegal) {
        self.illegal.get_or_insert(illegal);
    }

    fn varint(&mut self) -> Result<u64, Stop> {
        let mut value = 0;
        for shift in (0u32..).step_by(7) {
            if shift >= u64::BITS {
                self.refuse(Illegal::Overflow);
            }
            let (&byte, rest) = self.bytes.split_first().ok_or(Stop::CutRecord)?;
            self.bytes = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    fn delimited(&mut self) -> Result<&'a [u8], Stop> {
        let length = i64::try_from(self.varint()?).map_err(|_| Stop::Malformed)?;
        self.take(usize::try_from(length).map_err(|_| Stop::Malformed)?)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let split = self.bytes.split_at_checked(length);
        let (taken, rest) = split.ok_or(Stop::CutRecord)?;
        self.bytes = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers of 2.1 to 2.3 ended with `fatal error: runtime: out of memory` at 2^35 and more.
    #[test]
    fn a_length_word_of_more_memory_than_there_is_ends_the_server() {
        for (word, stop) in [
            (MAX_MEMORY - 1, None),
            (MAX_MEMORY, Some(Stop::OutOfMemory)),
            (1 << 47, Some(Stop::OutOfMemory)),
            (MAX_SLICE + 1, Some(Stop::ImpossibleLength)),
            (0x83 << 56, Some(Stop::Padded)),
        ] {
            let mut decoder = Decoder::default();
            decoder.frame_length(&word.to_le_bytes());
            assert_eq!(decoder.stop, stop, "{word:x}");
        }
    }

    /// A record, its type and CRC whole, of which nothing but zeros was written behind them: an odd number ends
    /// inside a field for 2.0 and 2.1, which know no field 0 and pass over it; 2.2 and later refuse it.
    #[test]
    fn a_field_0_is_passed_over_by_old_releases_and_refused_by_later_ones() {
        let head = [8, 2, 16, 5];
        let illegal = Some(Illegal::Tag(0, 0));
        for (zeros, cut) in [(1, true), (2, false), (9, true), (40, false)] {
            let bytes = [&head[..], &vec![0; zeros]].concat();
            let (record, refused) = read(&bytes);
            assert_eq!(
                (record.is_err(), refused),
                (cut, illegal.clone()),
                "{zeros}"
            );
            assert!(record.is_ok_and(|record| record.crc == 5) || cut);
        }
        // Zeros from inside the data are data.
        let data = [&head[..], &[26, 3, 0, 0, 0]].concat();
        let (record, refused) = read(&data);
        assert_eq!((record.unwrap().data, refused), (&[0; 3][..], None));
    }

    #[test]
    fn a_number_of_more_than_10_bytes_is_refused_by_later_releases_only() {
        for (bytes, cut, refused) in [
            (&[8, 0xff][..], true, None),
            (&[0xff; 9], true, None),
            (&[0xff; 10], true, Some(Illegal::Overflow)),
            (&[0x24, 8, 1], false, Some(Illegal::EndGroup)),
        ] {
            let (record, illegal) = read(bytes);
            assert_eq!((record.is_err(), illegal), (cut, refused), "{bytes:?}");
        }
    }
}
