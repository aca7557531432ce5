//! Keys of a backup written back into a running cluster.
//!
//! In: a store at an index, a key in it, the cluster's present keys. Out: a [`Plan`] that says for every key what
//! would be done, and then the result. A key is written only if the cluster still has what the plan was made from, so a
//! client that writes meanwhile loses nothing, and a run after a failed one writes only the rest.

mod plan;
mod write;

use std::borrow::Cow;
use std::time::Instant;

use crate::cluster::ProbeError;
use crate::etcd::store::UnixNanos;
use crate::interrupt::Interrupted;
use crate::text::count;

#[derive(Debug, thiserror::Error)]
pub enum PutError {
    #[error("cannot read the cluster's keys, nothing was written: {0}")]
    Read(ProbeError),
    #[error("stopped at `{key}`, after {}: {why}", writes(*.done))]
    Write {
        key: String,
        done: usize,
        why: ProbeError,
    },
    #[error(
        "stopped at `{key}`, after {}: reading is allowed there, but writing is not",
        writes(*.done)
    )]
    MayNotWrite { key: String, done: usize },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    #[error("interrupted after {}", writes(*.done))]
    Stopped { done: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Create,
    /// It has another value, or expires on one side only; with this `modifiedIndex`.
    Change(u64),
    Same,
    /// The API shows the same text with U+FFFD for both values, which stands for any byte outside a character; with
    /// its `modifiedIndex` if the backup has such bytes, which a write would bring back.
    Unsure(Option<u64>),
    /// It is a directory on one side and a key on the other, or below such a one; it is left unchanged.
    OtherKind,
    /// It is an in-order key that the cluster has, with this value, under the name of another release; writing it would
    /// duplicate it.
    OtherName,
    /// The same name in the cluster has another value, so it need not be this key: numbers come a second time after a
    /// rewind. It is created like any missing key, because that loses neither.
    CreateBeside,
    /// It is a directory on both sides and expires on one only, or below such a one; it is left unchanged.
    OtherExpiry,
    /// It is only in the cluster: a key with this `modifiedIndex`, or a directory.
    OnlyThere(Option<u64>),
    /// It has expired in the backup, and is left out.
    Expired,
}

#[derive(Clone, Debug)]
pub struct Planned<'s> {
    /// Its name in the API; bytes that are not UTF-8 are replaced.
    pub key: String,
    pub step: Step,
    path: Vec<u8>,
    value: Option<Cow<'s, [u8]>>,
    /// When it expires itself.
    expires: Option<UnixNanos>,
    /// When it, or a directory that it is in, expires.
    gone_at: Option<UnixNanos>,
    /// The innermost directory that it is in and that expires, by its place in the plan.
    within: Option<usize>,
    /// `createdIndex` of what the cluster has in its place.
    created: u64,
}

#[derive(Debug)]
pub struct Plan<'s> {
    /// A directory comes before its children; what is only in the cluster comes last, the deepest first.
    pub keys: Vec<Planned<'s>>,
    /// When it was made.
    now: UnixNanos,
    began: Instant,
}

/// What a plan may do besides creating missing keys.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    pub overwrite: bool,
    pub delete_others: bool,
}

#[derive(Debug, Default)]
pub struct Done {
    pub created: usize,
    /// Keys set to the value of the backup.
    pub changed: usize,
    pub deleted: usize,
    /// Keys that another client wrote meanwhile; they were not written.
    pub conflicts: Vec<String>,
    /// Keys that expired before they were written, and directories that expired, or were removed, meanwhile; what was
    /// still to be written below them was not.
    pub gone: Vec<String>,
    /// Directories that were to be removed and are not empty: hidden keys, which etcd does not list, or new ones are in them.
    pub not_empty: Vec<String>,
}

impl Allowed {
    pub fn takes(self, step: Step) -> bool {
        match step {
            Step::Create | Step::CreateBeside => true,
            Step::Change(_) | Step::Unsure(Some(_)) => self.overwrite,
            Step::OnlyThere(_) => self.delete_others,
            Step::Same
            | Step::Unsure(None)
            | Step::OtherKind
            | Step::OtherName
            | Step::OtherExpiry
            | Step::Expired => false,
        }
    }
}

/// Whether a key is below a directory, by their names in the API.
fn is_below<K: AsRef<[u8]> + ?Sized>(key: &K, top: &K) -> bool {
    let rest = key.as_ref().strip_prefix(top.as_ref());
    rest.is_some_and(|rest| rest.starts_with(b"/"))
}

fn writes(done: usize) -> String {
    count(done as u64, "write", "writes")
}
