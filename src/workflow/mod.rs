//! Workflows: what etcd's upgrade guide says, and the way back.

pub mod explain_log;
pub mod gate;
pub mod rewind;
