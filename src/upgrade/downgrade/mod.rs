//! Whether a cluster may go back to the release before, and how to prepare a member for it.

pub mod collect;
pub mod evidence;
pub mod gate;
pub mod move_wal;
pub mod prepare;
