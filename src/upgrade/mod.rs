//! The rules of the upgrade from one etcd release line to the next, and of the way back.

pub mod downgrade;
pub mod explain_log;
pub mod preflight;

/// Keeps one name for every in-order key while members with two naming rules run together, on the way up. On the way
/// back a raft snapshot would keep the names of the newer release.
pub const REST_POSTS: &str = "stop all POSTs until all members run the same release, and on each member wait for a raft snapshot above the last POST before it is stopped (`inspect` of its data dir shows the newest; etcd makes one every --snapshot-count entries, 10,000 by default)";
