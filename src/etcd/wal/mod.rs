//! The write-ahead log: frames in segments, segments in a chain, and what the chain says.
//!
//! [`record`] is one frame, read and written. [`segment`] takes a segment's bytes in pieces and
//! gives its records back, each checked against the rolling CRC. [`log`] takes the records of
//! all segments and holds them against raft's own rules. [`mod@write`] makes segments.

pub mod error;
pub mod log;
pub mod record;
pub mod resync;
pub mod segment;
mod unsound;
pub mod writer;
