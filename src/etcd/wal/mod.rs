//! The write-ahead log: frames in segments, segments in a chain, and what the chain says.
//!
//! [`record`] is one frame, read and written. [`segment`] takes a segment's bytes in pieces and
//! gives its records back, each checked against the rolling CRC. [`log`] takes the records of
//! all segments and holds them against raft's own rules. [`mod@write`] makes segments.

pub mod log;
pub mod record;
pub mod resync;
pub mod segment;
pub mod writer;

use std::fmt;

use crate::etcd::ids::Index;

/// A segment's file name, `{seq:016x}-{first index:016x}.wal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Consecutive number of the segment, from 0.
    pub sequence: u64,
    /// The index that its first entry was expected to have when the segment was cut.
    pub first_index: Index,
}

impl SegmentName {
    /// Reads a file name; `None` if it is not a segment's.
    pub fn parse(name: &str) -> Option<Self> {
        let (sequence, first_index) = two_hex_words(name.strip_suffix(".wal")?)?;
        Some(Self {
            sequence,
            first_index: Index(first_index),
        })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.sequence, self.first_index.0)
    }
}

/// Two numbers of exactly 16 lower-case hex digits with a dash between, as etcd names its files.
pub(crate) fn two_hex_words(text: &str) -> Option<(u64, u64)> {
    let (first, second) = text.split_once('-')?;
    Some((hex_word(first)?, hex_word(second)?))
}

fn hex_word(text: &str) -> Option<u64> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 16 || !text.bytes().all(is_digit) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}
