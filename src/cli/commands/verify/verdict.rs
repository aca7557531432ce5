//! The result of verifying one target, as text and as JSON.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::commands::verify::deep::Deep;
use crate::cli::error::Kind;
use crate::cli::json::{self, text};
use crate::cli::output::{Output, Paint};
use crate::cli::render::member::{starts_json, starts_why_json};
use crate::etcd::ids::{Identity, Release};
use crate::etcd::member::Position;
use crate::etcd::scan::FileReport;
use crate::etcd::start::{
    V2_3, V3_0, Verdicts, cure, is_3x, none_starts, starting_lines, those_that_start,
};
use crate::etcd::text::printable;
use crate::text::size;

#[derive(Default)]
pub(super) struct Verdict {
    /// The member and its position in the log, if they can be read.
    pub(super) member: Option<(Identity, Position)>,
    pub(super) files: Vec<FileReport>,
    pub(super) faults: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) summary: String,
    /// Whether servers of each release line start from it, if all of it could be read.
    pub(super) starts: Option<Verdicts>,
    /// The release of the data, if it is known.
    pub(super) own: Option<Release>,
    pub(super) deep: Option<Deep>,
}

impl Verdict {
    /// Records whether servers start from it. It is a fault if none up to the release of the data does,
    /// and a note if some do not.
    pub(super) fn take_starts(&mut self, starts: Option<Verdicts>, own: Option<Release>) {
        let Some(starts) = starts else { return };
        let is_3x = is_3x(&starts) || own.is_some_and(|own| own.major > V2_3.major);
        if let Some(why) = none_starts(&starts, own) {
            if self.is_valid() {
                self.faults.push(why);
            }
        } else if own == Some(V3_0) {
            // Data of 2.3 on which a 3.x server has run for a while: the way back is closed.
            let last = starts
                .last()
                .and_then(|(line, verdict)| verdict.warning(*line, "it"));
            self.notes.extend(last);
        } else if !is_3x {
            let also = those_that_start(&starts).filter(|_| !self.is_valid());
            self.notes.extend(also);
            let warnings = starts
                .iter()
                .filter_map(|(line, verdict)| verdict.warning(*line, "it"));
            self.notes.extend(warnings);
        }
        self.starts = Some(starts);
        self.own = own;
    }

    /// What makes a cluster that starts of what no server starts from.
    pub(super) fn cure(&self) -> Option<String> {
        let starts = self.starts.as_ref()?;
        none_starts(starts, self.own).and_then(|_| cure(starts))
    }

    pub(super) fn is_valid(&self) -> bool {
        self.first_fault().is_none()
    }

    /// Whether a file is corrupt, or none tells the member: `snapshot` refuses such a data dir.
    pub(super) fn is_damaged(&self) -> bool {
        let mut files = self.files.iter();
        self.member.is_none() || files.any(|file| file.fault.is_some())
    }

    pub(super) fn first_fault(&self) -> Option<String> {
        let mut files = self.files.iter();
        let in_file =
            files.find_map(|file| Some(format!("{}: {}", file.path, file.fault.as_ref()?)));
        let deep = || self.deep.as_ref()?.first_fault();
        in_file
            .or_else(|| self.faults.first().cloned())
            .or_else(deep)
    }
}

/// The status words of a target, for scripts.
pub(crate) const OK: &str = "ok";
pub(crate) const FAILED: &str = "failed";

/// A target on one line: its name may contain control characters.
pub(super) fn shown(target: &Path) -> String {
    printable(&target.display().to_string())
}

pub(super) fn print(target: &Path, verdict: &Verdict, out: &Output) {
    let word = if verdict.is_valid() {
        out.paint(Paint::Good, "OK     ")
    } else {
        out.paint(Paint::Bad, "CORRUPT")
    };
    out.line(&format!("{word} {}", shown(target)));
    if !verdict.summary.is_empty() {
        out.line(&format!("  {}", verdict.summary));
    }
    let starts = verdict.starts.as_ref().filter(|_| verdict.is_valid());
    let starts = starts.and_then(|starts| starting_lines(starts, verdict.own));
    if let Some(lines) = starts {
        out.line(&format!("  starts: {lines}"));
    }
    for file in &verdict.files {
        match &file.fault {
            None if out.verbose => {
                let word = out.paint(Paint::Good, "ok ");
                out.line(&format!("  {word} {}  {}", file.path, size(file.bytes)));
            }
            None => {}
            Some(fault) => {
                let word = out.paint(Paint::Bad, "BAD");
                out.line(&format!("  {word} {}: {fault}", file.path));
            }
        }
    }
    for fault in &verdict.faults {
        let word = out.paint(Paint::Bad, "BAD");
        out.line(&format!("  {word} {fault}"));
    }
    for note in &verdict.notes {
        out.note(note);
    }
    if let Some(deep) = &verdict.deep {
        deep.print(out);
    }
}

pub(super) fn to_json(target: &Path, verdict: &Verdict) -> Value {
    let files = verdict.files.iter();
    let files = files.map(|file| json!({"path": file.path, "bytes": file.bytes}));
    let path = text(target);
    let deep = verdict.deep.as_ref().and_then(Deep::first_fault);
    let others = verdict.faults.iter().cloned().chain(deep);
    let mut problems = json::file_problems(&verdict.files);
    problems.extend(others.map(|message| json::problem(&path, Kind::Corrupt, &message)));
    let member = verdict.member.as_ref();
    json!({
        "target": path,
        "status": if verdict.is_valid() { OK } else { FAILED },
        "member": member.map(|(identity, _)| json::member(identity)),
        "position": member.map(|(_, position)| json::position(position)),
        "files": files.collect::<Vec<_>>(),
        "problems": problems,
        "notes": verdict.notes,
        "starts": starts_json(verdict.starts.as_ref()),
        "starts_why": starts_why_json(verdict.starts.as_ref()),
        "deep": verdict.deep.as_ref().map(Deep::to_json),
    })
}
