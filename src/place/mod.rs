//! Places: where a member's files are, a data dir on disk or an archive of one, and where the
//! cluster itself is.

pub mod archive;
pub mod backup_lock;
pub mod cluster;
pub mod data_dir;
pub mod repository;
