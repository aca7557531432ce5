//! One module per command: its arguments, its run, its output.

pub(crate) mod completions;
pub(crate) mod copy;
pub(crate) mod diff;
pub(crate) mod downgrade;
pub(crate) mod drill;
pub(crate) mod explain_log;
pub(crate) mod inspect;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod preflight;
pub(crate) mod prune;
pub(crate) mod put_keys;
pub(crate) mod restore;
pub(crate) mod rewind;
pub(crate) mod schedule;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod verify;
