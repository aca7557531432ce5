//! Files that appear whole or not at all, directories held open, and I/O errors that carry a path.

pub mod auxiliary;
pub mod dir;
pub mod error;
pub mod owner;
pub mod space;
pub mod staged;

/// How much is read at once, in bytes.
pub(crate) const PIECE: usize = 256 << 10;
