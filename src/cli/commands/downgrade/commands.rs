//! The commands that are printed as next steps, with every flag of this run that they need.
//!
//! In: the flags of this run. Out: a line for a POSIX shell. Values that only the operator knows are in capitals.

use std::path::{Path, PathBuf};

use crate::upgrade::downgrade::evidence::Step;

use crate::cli::commands::downgrade::flags::Gate;
use crate::cli::flags::destination::DestinationFlags;
use crate::cli::json::text;
use crate::cli::location::Location;
use crate::cli::open::is_encrypted;
use crate::cli::printed::Printed;
use crate::cli::quote::shell;

struct Line(String);

impl Line {
    fn new(command: &str) -> Self {
        Self(format!("etcd-ark {command}"))
    }

    fn word(mut self, word: &str) -> Self {
        self.0 += " ";
        self.0 += &shell(word);
        self
    }

    fn flag(self, flag: &str, value: &str) -> Self {
        self.word(flag).word(value)
    }

    fn path(self, flag: &str, path: Option<&Path>) -> Self {
        match path {
            Some(path) => self.flag(flag, &text(path)),
            None => self,
        }
    }

    fn flags(self, flags: Vec<(&'static str, String)>) -> Self {
        flags
            .into_iter()
            .fold(self, |line, (flag, value)| line.flag(flag, &value))
    }
}

/// `downgrade run` for this member; on another member with its own paths.
pub(crate) fn run(
    gate: &Gate,
    step: Step,
    data_dir: Option<&Path>,
    to: Option<&DestinationFlags>,
    strict: bool,
) -> String {
    let line = Line::new("downgrade run").flags(gate.step_flags());
    let mut line = line.flags(gate.connection.flags());
    if gate.offline {
        line = line.word("--offline");
    }
    line = rest_of_run(line, gate, step, data_dir, to, strict);
    if gate.offline && !gate.targets.is_empty() {
        line = line.word("OTHER_DATA_DIRS");
    }
    line.0
}

/// `downgrade run` for a member of a cluster of two that run now: both must be stopped for it.
pub(crate) fn run_of_two(gate: &Gate, step: Step, data_dir: Option<&Path>, strict: bool) -> String {
    let line = Line::new("downgrade run").flags(gate.step_flags());
    let line = rest_of_run(line.word("--offline"), gate, step, data_dir, None, strict);
    line.word("OTHER_DATA_DIR").0
}

fn rest_of_run(
    mut line: Line,
    gate: &Gate,
    step: Step,
    data_dir: Option<&Path>,
    to: Option<&DestinationFlags>,
    strict: bool,
) -> Line {
    let data_dir = data_dir.map_or_else(|| "DATA_DIR".to_owned(), text);
    if strict {
        line = line.word("--strict");
    }
    line = line
        .flag("--data-dir", &data_dir)
        .path("--wal-dir", gate.wal_dir.as_deref());
    if gate.wal_dir.is_some() && step.needs_wal_at_home() {
        line = line.word("--move-wal");
    }
    // If it is in the environment, the next command finds it there.
    let is_set = std::env::var_os("ETCD_ARK_BACKUP_DIR").is_some();
    match to {
        Some(to) => {
            let line = line
                .path("--backup-dir", place(to))
                .path("--spool-dir", to.spool_dir.as_deref());
            line.flags(to.recipient_flags())
        }
        None if is_set => line,
        None => line.flag("--backup-dir", "BACKUP_DIR"),
    }
}

/// A rewind of the whole cluster to `to`, such as `last-before:2.2`, from `inputs`, one of which may be the base.
pub(crate) fn rewind(
    gate: &Gate,
    data_dir: Option<&Path>,
    inputs: &[PathBuf],
    to: &str,
    base: Option<&Path>,
    keys: Vec<(&'static str, String)>,
) -> String {
    let mut line = Line::new("rewind").flags(keys);
    if inputs.is_empty() {
        line = line.word("DATA_DIRS_AND_ARCHIVES");
    }
    for input in inputs {
        line = line.word(&text(input));
    }
    if let (Some(data_dir), Some(wal_dir)) = (data_dir, &gate.wal_dir) {
        let pair = format!("{}={}", text(data_dir), text(wal_dir));
        line = line.flag("--wal-dir", &pair);
    }
    line.flag("--to", to)
        .path("--base", base)
        .flag("--out", "rewound")
        .0
}

/// The keys with which a rewind of `inputs` reads and writes.
pub(crate) fn keys_of(printed: &Printed, inputs: &[PathBuf]) -> Vec<(&'static str, String)> {
    let mut flags = Vec::new();
    let is_encrypted = |input: &PathBuf| is_encrypted(&Location::from(input.clone()));
    if inputs.iter().any(is_encrypted) {
        let given = printed.identities.iter();
        flags.extend(given.map(|file| ("--identity", text(file))));
        if flags.is_empty() {
            flags.push(("--identity", "KEY_FILE".to_owned()));
        }
        if printed.recipients.is_empty() {
            flags.push(("--recipient", "RECIPIENT".to_owned()));
        }
    }
    flags.extend(printed.recipients.iter().cloned());
    flags
}

/// Lists this member's archives at the place `to`.
pub(crate) fn list(to: &DestinationFlags) -> String {
    let place = place(to).map_or_else(|| "BACKUP_DIR".to_owned(), text);
    Line::new("list").word(&place).0
}

/// Restores this member from an archive that the operator must choose.
pub(crate) fn restore(gate: &Gate, data_dir: &Path) -> String {
    let mut line = Line::new("restore ARCHIVE")
        .flags(gate.connection.tls_flags())
        .path("--data-dir", Some(data_dir))
        // Also where the segments go home into `member/wal`: those in the WAL dir then go out of the way.
        .path("--wal-dir", gate.wal_dir.as_deref());
    if data_dir.join("member").exists() {
        line = line.word("--replace");
    }
    line.0
}

fn place(to: &DestinationFlags) -> Option<&Path> {
    to.backup_dir.backup_dir.as_ref().map(Location::as_path)
}
