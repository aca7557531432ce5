//! Runs the real binary, and an operator's usual tools.
//!
//! In: arguments. Out: exit code, stdout and stderr, all of them in the message of a failed expectation.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fs_err as fs;
use serde_json::Value;

use super::tools::clear_environment;

pub const BINARY: &str = env!("CARGO_BIN_EXE_etcd-ark");

/// Puts the binary at `path`, for accounts that cannot enter the build directory. Another process copies it: one that this
/// process starts meanwhile would have the file open for writing, and a file that is cannot be run.
pub fn copy_binary(path: &Path) {
    run(clean("cp").arg(BINARY).arg(path)).exits(0);
}

/// Turns one bit of a file's byte `at` the other way round.
pub fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The same of its byte in the middle.
pub fn flip_middle(path: &Path) {
    flip(path, fs::metadata(path).unwrap().len() as usize / 2);
}

pub const LOCK_FILE: &str = ".etcd-ark-lock";

#[derive(Debug)]
pub struct Ran {
    /// The command line, for messages.
    #[allow(dead_code, reason = "a failed expectation shows it")]
    pub line: String,
    /// The exit code, or the negative number of the signal that ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn of(command: &mut Command) -> Self {
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        Self::ended(command, output)
    }

    pub fn ended(command: &Command, output: Output) -> Self {
        let status = output.status;
        let text = |bytes| {
            let read = String::from_utf8(bytes);
            // Only another program may write what is not text.
            assert!(read.is_ok() || command.get_program() != BINARY);
            read.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
        };
        Self {
            line: format!("{command:?}"),
            code: status
                .code()
                .or(status.signal().map(|signal| -signal))
                .unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Fails unless it ended with `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// Fails unless stderr has `text` in it.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in {self:#?}");
        self
    }

    /// Fails unless stdout has `text` in it.
    #[track_caller]
    pub fn shows(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no {text:?} in {self:#?}");
        self
    }

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

#[track_caller]
pub fn assert_has(text: &(impl Display + ?Sized), part: &str) {
    let text = text.to_string();
    assert!(text.contains(part), "no {part:?} in {text}");
}

#[track_caller]
pub fn assert_begins(text: &(impl Display + ?Sized), part: &str) {
    let text = text.to_string();
    assert!(text.starts_with(part), "not {part:?} first in {text}");
}

#[track_caller]
pub fn assert_ends(text: &(impl Display + ?Sized), part: &str) {
    let text = text.to_string();
    assert!(text.ends_with(part), "not {part:?} last in {text}");
}

#[track_caller]
pub fn assert_has_each(text: &(impl Display + ?Sized), parts: &[&str]) {
    for part in parts {
        assert_has(text, part);
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
    clear_environment(&mut command);
    // Stories read messages without line breaks; `columns` tests these.
    command.env("COLUMNS", "10000");
    command
}

pub fn ark(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
    Ran::of(clean(BINARY).args(args))
}

/// The words of a line as it is typed; each `{}` in it is the next of `values`, whole.
pub fn words(line: &str, values: &[&dyn AsRef<OsStr>]) -> Vec<OsString> {
    let mut values = values.iter().copied().map(AsRef::as_ref);
    let words = line.split(' ').map(|word| match word {
        "{}" => values.next().unwrap(),
        word => OsStr::new(word),
    });
    words.map(OsStr::to_owned).collect()
}

/// Runs the binary with [`words`].
pub fn typed(line: &str, values: &[&dyn AsRef<OsStr>]) -> Ran {
    ark(words(line, values))
}

/// The same, with further flags.
pub fn typed_with(line: &str, values: &[&dyn AsRef<OsStr>], flags: &[impl AsRef<OsStr>]) -> Ran {
    let flags = flags.iter().map(|flag| flag.as_ref().to_owned());
    ark(words(line, values).into_iter().chain(flags))
}

/// A restore of `archive` to `data_dir`, with further flags.
pub fn restore(archive: &Path, data_dir: &Path, flags: &[&str]) -> Ran {
    typed_with("restore {} --data-dir {}", &[&archive, &data_dir], flags)
}

#[track_caller]
pub fn tool(dir: &Path, program: &str, args: &[&str]) -> Ran {
    Ran::of(clean(program).current_dir(dir).args(args)).exits(0)
}

/// Runs another program to its end.
pub fn program(name: &str, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ran {
    Ran::of(clean(name).args(args))
}

/// Runs any prepared command.
pub fn run(command: &mut Command) -> Ran {
    Ran::of(command)
}

/// A snapshot of `data_dir` with further flags, which must be taken; where it is, and what the command said.
#[track_caller]
pub fn snapshot(data_dir: &Path, backups: &Path, flags: &[&str]) -> (PathBuf, Value) {
    let line = "--json snapshot --data-dir {} --backup-dir {}";
    let ran = typed_with(line, &[&data_dir, &backups], flags);
    let told = ran.exits(0).json();
    (PathBuf::from(told["archive"].as_str().unwrap()), told)
}

/// The archive of a snapshot without further flags.
#[track_caller]
pub fn archived(data_dir: &Path, backups: &Path) -> PathBuf {
    snapshot(data_dir, backups, &[]).0
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
