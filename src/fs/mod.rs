//! Files that are published complete or not at all, open directories, and I/O errors with a path.

pub mod auxiliary;
pub mod dir;
pub mod error;
pub mod owner;
pub mod space;
pub mod staged;

/// Bytes of one read.
pub(crate) const PIECE: usize = 256 << 10;
