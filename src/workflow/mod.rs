//! Workflows: what etcd's upgrade guide says, and the way back.

pub mod collect;
pub mod evidence;
pub mod gate;
