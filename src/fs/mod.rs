//! Files that appear whole or not at all, and I/O errors that carry a path.

pub mod staged;

/// How much is read at once, in bytes.
pub(crate) const PIECE: usize = 256 << 10;
