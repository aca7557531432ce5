//! Texts about a member for several commands: its position in the log, its versions, which servers start from it.

use serde_json::Value;

use crate::etcd::ids::ClusterVersion;
use crate::etcd::member::MemberFacts;
use crate::etcd::start::{LINES, Verdicts};

use crate::cli::output::Output;

pub(crate) fn row(out: &Output, name: &str, text: &str) {
    out.line(&format!("  {name:<10} {text}"));
}

pub(crate) fn position_text(facts: &MemberFacts) -> String {
    let position = &facts.position;
    let snapshot = match facts.raft_snapshot {
        Some(id) => format!("raft snapshot at {}", id.index),
        None => "no raft snapshot yet".to_owned(),
    };
    format!(
        "term {}, index {}, commit {}; {snapshot}",
        position.term, position.index, position.commit
    )
}

/// The cluster version, and an uncommitted one.
pub(crate) fn version_text(facts: &MemberFacts) -> String {
    let pending = facts.pending_version().map(|pending| &pending.version);
    versions_text(facts.cluster_version.as_ref(), pending)
}

/// The cluster version, and one that is not known to be committed.
pub(crate) fn versions_text(
    now: Option<&ClusterVersion>,
    pending: Option<&ClusterVersion>,
) -> String {
    let now = now.map_or_else(|| "not decided".to_owned(), ToString::to_string);
    match pending {
        Some(pending) => format!("{now}, {pending} pending"),
        None => now,
    }
}

/// One word for each release line: `yes`, `no`, `empty` or `force-new-cluster`. No server starts from data that
/// cannot be read completely.
pub(crate) fn starts_json(starts: Option<&Verdicts>) -> Value {
    match starts {
        Some(starts) => starts
            .iter()
            .map(|(line, verdict)| (line.to_string(), Value::from(verdict.word())))
            .collect(),
        None => LINES
            .iter()
            .map(|line| (line.to_string(), Value::from("no")))
            .collect(),
    }
}

/// The reason for each release line that does not start from it.
pub(crate) fn starts_why_json(starts: Option<&Verdicts>) -> Value {
    match starts {
        Some(starts) => starts
            .iter()
            .filter_map(|(line, verdict)| {
                Some((line.to_string(), Value::from(verdict.why_not(*line)?)))
            })
            .collect(),
        None => LINES
            .iter()
            .map(|line| {
                let why = "not all of it could be read";
                (line.to_string(), Value::from(why))
            })
            .collect(),
    }
}
