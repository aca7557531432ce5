//! Runs the real binary, and the tools an operator has beside it.
//!
//! In: arguments. Out: exit code, stdout and stderr, with the whole of them in the message of whatever is not as expected.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fs_err as fs;
use serde_json::Value;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_etcd-ark");

/// Puts the binary at `path`, for accounts that cannot enter the build directory. Another process copies it: one that this
/// process starts meanwhile would have the file open for writing, and a file that is cannot be run.
pub fn copy_binary(path: &Path) {
    run(clean("cp").arg(BINARY).arg(path)).exits(0);
}

/// The lock on a backup dir.
pub const LOCK_FILE: &str = ".etcd-ark-lock";

/// What a command left behind.
#[derive(Debug)]
pub struct Ran {
    /// The command line, for messages.
    pub line: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn of(command: &mut Command) -> Self {
        let line = format!("{command:?}");
        let Output {
            status,
            stdout,
            stderr,
        } = command
            .output()
            .unwrap_or_else(|error| panic!("cannot run {line}: {error}"));
        Self {
            line,
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    /// Fails unless it ended with `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// Fails unless stderr has `text` in it.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        self
    }

    /// The JSON on stdout: an object, which says its schema.
    #[track_caller]
    pub fn json(&self) -> Value {
        answer(&self.stdout)
    }

    /// The error object on stderr, which must hold nothing else.
    #[track_caller]
    pub fn json_error(&self) -> Value {
        answer(&self.stderr)
    }
}

/// What every answer in JSON is, without its schema.
#[track_caller]
pub fn answer(text: &str) -> Value {
    let mut found: Value =
        serde_json::from_str(text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"));
    let fields = found.as_object_mut();
    let schema = fields.and_then(|fields| fields.remove("schema"));
    assert_eq!(schema, Some(1.into()), "{text}");
    assert!(
        text.trim_start()
            .trim_start_matches(['{', '\n', ' '])
            .starts_with("\"schema\""),
        "{text}"
    );
    found
}

/// A command that sees nothing of the environment's flags.
pub fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD") {
            command.env_remove(name);
        }
    }
    // Stories read messages whole; how they are broken into lines is told in `columns`.
    command.env("COLUMNS", "10000");
    // Nor of what is configured on this machine.
    command.env("ETCD_ARK_CONFIG", "");
    command
}

/// Runs the binary.
pub fn ark(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
    Ran::of(clean(BINARY).args(args))
}

/// Runs another program in `dir`, which must succeed.
#[track_caller]
pub fn tool(dir: &Path, program: &str, args: &[&str]) -> Ran {
    Ran::of(clean(program).current_dir(dir).args(args)).exits(0)
}

/// Runs any prepared command.
pub fn run(command: &mut Command) -> Ran {
    Ran::of(command)
}

/// A snapshot of `data_dir` with further flags, which must be taken; where it is, and what the command said.
#[track_caller]
pub fn snapshot(data_dir: &Path, backups: &Path, flags: &[&str]) -> (PathBuf, Value) {
    let mut args: Vec<&OsStr> = vec!["--json".as_ref(), "snapshot".as_ref()];
    args.extend(["--data-dir".as_ref(), data_dir.as_os_str()]);
    args.extend(["--backup-dir".as_ref(), backups.as_os_str()]);
    args.extend(flags.iter().map(OsStr::new));
    let told = ark(args).exits(0).json();
    (PathBuf::from(told["archive"].as_str().unwrap()), told)
}

/// The names in a directory, in order, but for the lock, which stays; none if it is not there.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != LOCK_FILE)
        .collect();
    names.sort();
    names
}
