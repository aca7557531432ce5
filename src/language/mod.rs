//! Language: what etcd's bytes mean. Pure: bytes in, facts out; nothing here opens a file.

pub mod cluster_change;
pub mod entry_class;
pub mod examine;
pub mod member;
pub mod messages;
pub mod raft_snapshot;
pub mod replay;
pub mod since_version;
pub mod store;
pub mod store_facts;
pub mod trace;
pub mod wal;
