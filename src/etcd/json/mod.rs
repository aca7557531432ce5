//! JSON as etcd writes it into its raft snapshots, read in pieces of any size.

pub(crate) mod go;
pub mod swar;
pub mod tokens;
