//! Whether a cluster may go back to the release before, and what a member needs for it.

pub mod collect;
pub mod evidence;
pub mod gate;
pub mod move_wal;
pub mod prepare;
