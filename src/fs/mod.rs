//! Files that appear whole or not at all, and I/O errors that carry a path.

pub mod staged;
