//! Ground: what everything else stands on and what knows nothing of etcd's files.

pub mod digest;
pub mod ids;
pub mod interrupt;
pub mod json_tokens;
pub mod parallel;
pub mod publish;
pub mod release;
pub(crate) mod swar;
