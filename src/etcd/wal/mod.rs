//! The write-ahead log: frames in segments, segments in a chain, and the log's facts.
//!
//! [`record`] reads and writes one frame. [`segment`] takes a segment's bytes in pieces and
//! returns its records, each checked against the rolling CRC. [`log`] compares the records of
//! all segments with raft's rules. [`resync`] looks for records after a break. [`writer`] makes
//! segments, and [`isolated`] those of another cluster.

pub mod error;
pub mod isolated;
pub mod log;
pub mod record;
pub mod resync;
pub mod segment;
mod unsound;
pub mod writer;
