//! JSON as etcd writes it into its raft snapshots, read in pieces of any size.

pub mod swar;
pub mod tokens;
