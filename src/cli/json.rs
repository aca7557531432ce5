//! The common parts of all JSON output: the top-level object, and one shape for a member, an archive, a position and a
//! problem.
//!
//! In: facts. Out: JSON, printed through [`pretty`], [`line`] or [`AfterSchema`] only, so that all of it has its schema
//! number. Sizes are in bytes and named so, times are RFC 3339 in UTC and end in `_at`, indexes of the log are in
//! `raft_index`. The content of an archive's own `manifest.json` is shown unchanged.

use std::io::{self, Write};

use crate::etcd::ids::{Identity, SnapshotId};
use crate::etcd::member::Position;
use crate::etcd::scan::FileReport;
use crate::repository::{ArchiveSummary, Repository};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::error::{CliError, Kind};

/// Increases when a field changes its name or meaning, or is removed; new fields may come at any time.
const SCHEMA: u32 = 1;

/// A top-level answer, which must be an object.
#[derive(Serialize)]
struct Answer<'a, T> {
    schema: u32,
    #[serde(flatten)]
    answer: &'a T,
}

impl<'a, T> Answer<'a, T> {
    fn new(answer: &'a T) -> Self {
        let schema = SCHEMA;
        Self { schema, answer }
    }
}

pub(crate) fn pretty<T: Serialize>(answer: &T) -> String {
    serde_json::to_string_pretty(&Answer::new(answer)).unwrap_or_default()
}

/// The same on one line, for a series of answers.
pub(crate) fn line<T: Serialize>(answer: &T) -> String {
    serde_json::to_string(&Answer::new(answer)).unwrap_or_default()
}

/// Adds the schema number to an object that is written in pieces.
pub(crate) struct AfterSchema<'w> {
    to: &'w mut dyn Write,
    begun: bool,
}

impl<'w> AfterSchema<'w> {
    pub(crate) fn new(to: &'w mut dyn Write) -> Self {
        Self { to, begun: false }
    }
}

impl Write for AfterSchema<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match bytes.split_first() {
            Some((b'{', rest)) if !self.begun => {
                write!(self.to, "{{\"schema\":{SCHEMA},")?;
                self.begun = true;
                self.to.write_all(rest)?;
                Ok(bytes.len())
            }
            _ => self.to.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

pub(crate) fn member(identity: &Identity) -> Value {
    json!({
        "id": identity.member_id,
        "name": identity.name,
        "cluster_id": identity.cluster_id,
    })
}

pub(crate) fn position(position: &Position) -> Value {
    json!({
        "term": position.term,
        "raft_index": position.index,
        "commit_index": position.commit,
        "hard_state_term": position.hard_state_term,
        "vote": position.vote,
    })
}

pub(crate) fn raft_snapshot(id: &SnapshotId) -> Value {
    json!({ "term": id.term, "raft_index": id.index })
}

pub(crate) fn archive(repository: &dyn Repository, summary: &ArchiveSummary) -> Value {
    json!({
        "archive": text(&repository.path_of(summary.name())),
        "archive_bytes": summary.listed.bytes,
        "created_at": summary.created,
        "member": member(&summary.identity),
        "position": position(&summary.position),
        "cluster_version": summary.cluster_version,
        "labels": summary.labels,
    })
}

pub(crate) fn problem(path: &str, kind: Kind, message: &str) -> Value {
    json!({ "path": path, "kind": kind.name(), "message": message })
}

pub(crate) fn failure(failure: &CliError, hint: Option<&str>) -> String {
    line(&json!({
        "code": failure.kind.exit_code(),
        "kind": failure.kind.name(),
        // A list in it is on separate lines only for people.
        "message": failure.message.replace("\n  ", " "),
        "hint": hint,
    }))
}

pub(crate) fn with(mut object: Value, more: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut object, more) {
        fields.extend(more);
    }
    object
}

pub(crate) fn file_problems(files: &[FileReport]) -> Vec<Value> {
    let fault = |file: &FileReport| {
        Some(problem(
            &file.path,
            Kind::Corrupt,
            &file.fault.as_ref()?.to_string(),
        ))
    };
    files.iter().filter_map(fault).collect()
}

/// A path as JSON text: bytes that are not UTF-8 are replaced.
pub(crate) fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}
