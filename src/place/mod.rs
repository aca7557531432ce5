//! Places: where a member's files are. A data dir on disk, or an archive of one.

pub mod archive;
pub mod data_dir;
