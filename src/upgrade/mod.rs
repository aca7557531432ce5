//! The rules of the upgrade from one etcd release line to the next, and of the way back.

pub mod downgrade;
pub mod explain_log;
pub mod preflight;
