//! etcd-ark
pub mod deed;
pub mod ground;
pub mod language;
pub mod place;
