//! Workflows: what etcd's upgrade guide says, and the way back.

pub mod preflight;
pub mod stale_member;
