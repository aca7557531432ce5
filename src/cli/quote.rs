//! Quotes words for systemd, cron and a shell.
//!
//! In: words of text without control characters ([`plain`] checks that). Out: the same, quoted.

use std::ffi::OsStr;

use crate::cli::error::{CliError, Result};

/// A word as text, if it can be on one line of text.
pub(crate) fn plain(word: &OsStr) -> Result<&str> {
    let text = word
        .to_str()
        .filter(|text| !text.contains(char::is_control));
    let told = || {
        CliError::usage(format!(
            "`{}` cannot be written into a unit or a crontab",
            word.display()
        )).hint("only text without line breaks and control characters can; for a path, make a symlink to it with another name")
    };
    text.ok_or_else(told)
}

fn needs_quotes(word: &str) -> bool {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@+".contains(c);
    word.is_empty() || !word.chars().all(harmless)
}

/// A path in a unit: `ExecStart=`'s first word, `ReadWritePaths=`, `RequiresMountsFor=`.
pub(crate) fn unit_path(path: &str) -> String {
    if !needs_quotes(path) {
        return path.to_owned();
    }
    let escaped = path.replace('\\', r"\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('%', "%%"))
}

/// A later word of `ExecStart=`, in which `$` begins a variable.
pub(crate) fn unit_argument(word: &str) -> String {
    unit_path(word).replace('$', "$$")
}

pub(crate) fn shell(word: &str) -> String {
    if needs_quotes(word) {
        format!("'{}'", word.replace('\'', r"'\''"))
    } else {
        word.to_owned()
    }
}

/// A shell command for cron, in which a bare `%` ends the line.
pub(crate) fn cron(line: &str) -> String {
    line.replace('%', r"\%")
}
