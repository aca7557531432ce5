//! etcd's formats and rules. Pure: bytes in, facts out; nothing here opens a file.

pub mod conf_change;
pub mod digest;
pub mod entry;
pub mod growth_rate;
pub mod ids;
pub mod json;
pub mod member;
pub mod membership;
pub mod proto;
pub mod raft_snapshot;
pub mod replay;
pub mod rescue;
pub mod scan;
pub mod start;
pub mod store;
pub mod text;
pub mod trace;
pub mod wal;
