//! All output: stdout for results, stderr for warnings and failures.

use std::cell::{Cell, RefCell};
use std::io::{BufWriter, IsTerminal, Write};

use crate::repository::Repository;
use serde::Serialize;

use crate::cli::error::{CliError, Kind};
use crate::cli::global::{Color, Global};
use crate::cli::printed::Printed;
use crate::cli::{json, layout};

/// Bytes that are collected before a write to stdout.
const STREAM_BUFFER: usize = 64 << 10;

#[derive(Clone, Copy)]
pub(crate) enum Paint {
    Good,
    Bad,
    Warn,
    Dim,
    Strong,
}

/// The two streams and their options.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each answers a question of its own"
)]
pub(crate) struct Output {
    json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    pub(crate) progress: bool,
    /// Whether a command that cron runs reports success: on a terminal, or with `--verbose`.
    tells_success: bool,
    color_stdout: bool,
    color_stderr: bool,
    pub(crate) printed: Printed,
    warned: Cell<bool>,
    warnings: RefCell<Vec<String>>,
    lost: Cell<bool>,
}

impl Output {
    /// `printed` completes the commands in texts.
    pub(crate) fn new(global: &Global, printed: Printed) -> Self {
        let wanted = |is_terminal: bool| match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        let terminal = std::io::stderr().is_terminal();
        let watched = terminal || std::io::stdout().is_terminal();
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            progress: terminal && !global.no_progress && !global.quiet && !global.json,
            tells_success: watched || global.verbose,
            color_stdout: wanted(std::io::stdout().is_terminal()),
            color_stderr: wanted(terminal),
            printed,
            warned: Cell::new(false),
            warnings: RefCell::default(),
            lost: Cell::new(false),
        }
    }

    pub(crate) fn warned(&self) -> bool {
        self.warned.get()
    }

    /// Whether a write to stdout failed, except for a closed pipe.
    pub(crate) fn lost(&self) -> bool {
        self.lost.get()
    }

    fn to_stdout(&self, text: &str) {
        self.stream(|stdout| writeln!(stdout, "{text}"));
    }

    /// Lets `write` write any number of bytes to stdout, unchanged.
    pub(crate) fn stream(&self, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) {
        let mut stdout = BufWriter::with_capacity(STREAM_BUFFER, std::io::stdout().lock());
        let written = write(&mut stdout).and_then(|()| stdout.flush());
        // A closed pipe (`| head`) is not a failure.
        if written.is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe) {
            self.lost.set(true);
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// The success message of a command that changes something, with what is needed to continue.
    pub(crate) fn report(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// A [`Self::report`] of a command that cron runs: only on a terminal, because cron mails all output.
    pub(crate) fn print(&self, text: &str) {
        if self.tells_success {
            self.report(text);
        }
    }

    /// A [`Self::note`] of such a command.
    pub(crate) fn print_note(&self, text: &str) {
        if self.tells_success {
            self.note(text);
        }
    }

    pub(crate) fn line(&self, text: &str) {
        if !self.json {
            self.to_stdout(&shown(text.trim_end()));
        }
    }

    /// The result as JSON, made only if it is requested.
    pub(crate) fn json<T: Serialize>(&self, value: impl FnOnce() -> T) {
        if self.json {
            self.to_stdout(&visible(&json::pretty(&value())));
        }
    }

    /// The same on one line, for a series of results.
    pub(crate) fn json_line<T: Serialize>(&self, value: impl FnOnce() -> T) {
        if self.json {
            self.to_stdout(&visible(&json::line(&value())));
        }
    }

    /// Counts a warning that is part of the result.
    pub(crate) fn count_warning(&self) {
        self.warned.set(true);
    }

    /// The failure of a successful run with warnings, of kind [`Kind::Warned`].
    pub(crate) fn only_warned(&self) -> CliError {
        let mut message = "done, with warnings, which --strict counts".to_owned();
        // If they were not written to stderr.
        if self.json {
            for warning in &*self.warnings.borrow() {
                message = format!("{message}; {warning}");
            }
        }
        Kind::Warned.error(message)
    }

    /// A warning, printed once; it counts under `--strict`.
    pub(crate) fn warn(&self, text: &str) {
        self.warned.set(true);
        let text = self.complete(text);
        if self.warnings.borrow().contains(&text) {
            return;
        }
        let word = paint(self.color_stderr, Paint::Warn, "warning:");
        self.to_stderr(&format!("{word} {text}"));
        self.warnings.borrow_mut().push(text);
    }

    /// `text` with its commands completed so that they can be typed.
    pub(crate) fn complete(&self, text: &str) -> String {
        self.printed.complete(text)
    }

    pub(crate) fn warn_skipped(&self, repository: &dyn Repository) {
        for warning in skipped_keys(repository) {
            self.warn(&warning);
        }
    }

    /// A note, which does not count under `--strict`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            let word = paint(self.color_stderr, Paint::Dim, "note:");
            self.to_stderr(&format!("{word} {}", self.complete(text)));
        }
    }

    pub(crate) fn failure(&self, failure: &CliError) {
        let printed = self.printed.about(failure.target.as_deref());
        let hint = failure.hint.as_deref().map(|hint| printed.complete(hint));
        if self.json {
            let line = json::failure(failure, hint.as_deref());
            let _ = writeln!(std::io::stderr(), "{}", visible(&line));
            return;
        }
        let word = paint(self.color_stderr, Paint::Bad, "error:");
        let mut stderr = std::io::stderr().lock();
        write_line(&mut stderr, &format!("{word} {}", failure.message));
        if let Some(hint) = &hint {
            let word = paint(self.color_stderr, Paint::Strong, "hint:");
            write_line(&mut stderr, &format!("{word} {hint}"));
        }
    }

    /// `text` in a colour, if stdout shows colours.
    pub(crate) fn paint(&self, how: Paint, text: &str) -> String {
        paint(self.color_stdout, how, text)
    }

    /// With `--json` stderr has only an error object: warnings are in the result.
    fn to_stderr(&self, text: &str) {
        if !self.json {
            write_line(&mut std::io::stderr().lock(), text);
        }
    }
}

/// Ignores errors: if stderr cannot be written to, they cannot be reported.
/// A warning for each object that the list of `repository` skipped.
pub(crate) fn skipped_keys(repository: &dyn Repository) -> Vec<String> {
    let skipped = repository.skipped().into_iter().map(|key| {
        let location = repository.location();
        format!("{key:?} in `{location}` is skipped: no archive can have such a key")
    });
    skipped.collect()
}

fn write_line(stream: &mut dyn Write, text: &str) {
    let _ = writeln!(stream, "{}", shown(text));
}

/// `text` as it may be shown, in lines that fit.
pub(crate) fn shown(text: &str) -> String {
    layout::fit(&visible(text), layout::width())
}

/// `text` without control characters for a terminal: names and labels come from files that any user may
/// have made. Line breaks and colours stay.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if !c.is_control() || c == '\n' {
            shown.push(c);
            continue;
        }
        let after = rest.as_str();
        let colour = after
            .strip_prefix('[')
            .and_then(|codes| codes.split_once('m'));
        match colour {
            Some((codes, _))
                if c == '\x1b' && codes.bytes().all(|b| b.is_ascii_digit() || b == b';') =>
            {
                shown.push(c);
            }
            _ => shown.push('\u{fffd}'),
        }
    }
    shown
}

fn paint(color: bool, how: Paint, text: &str) -> String {
    if !color {
        return text.to_owned();
    }
    let code = match how {
        Paint::Good => "32",
        Paint::Bad => "1;31",
        Paint::Warn => "33",
        Paint::Dim => "2",
        Paint::Strong => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Bytes of a key or value on one line: control characters and bytes that are not UTF-8 as `\xNN`, line
/// ends and tabs as `\n`, `\r`, `\t`.
pub(crate) fn one_line(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut line = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => line += "\\n",
                '\r' => line += "\\r",
                '\t' => line += "\\t",
                c if c.is_control() => {
                    let _ = write!(line, "\\x{:02x}", u32::from(c));
                }
                c => line.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(line, "\\x{byte:02x}");
        }
    }
    line
}
