//! Workflows: what etcd's upgrade guide says, and the way back.

pub mod collect;
pub mod downgrade;
pub mod evidence;
pub mod explain_log;
pub mod gate;
pub mod growth;
pub mod health;
pub mod move_wal;
pub mod preflight;
pub mod prune;
pub mod retention;
pub mod rewind;
pub mod stale_member;
mod words;
