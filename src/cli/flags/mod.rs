//! Groups of flags that several commands share.

pub(crate) mod chosen;
pub(crate) mod common;
pub(crate) mod destination;
pub(crate) mod lock_wait;
pub(crate) mod repository;
pub(crate) mod retention;
pub(crate) mod selection;
pub(crate) mod target;
