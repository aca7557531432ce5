//! Where everything that is said goes: stdout for results, stderr for warnings and failures.

use std::cell::{Cell, RefCell};
use std::io::{BufWriter, IsTerminal, Write};

use crate::repository::Repository;
use serde::Serialize;

use crate::cli::error::{CliError, Kind};
use crate::cli::global::{Color, Global};
use crate::cli::printed::Printed;
use crate::cli::{json, layout};

/// How much is gathered for stdout at once, in bytes.
const STREAM_BUFFER: usize = 64 << 10;

/// A colour that means something.
#[derive(Clone, Copy)]
pub(crate) enum Paint {
    Good,
    Bad,
    Warn,
    Dim,
    Strong,
}

/// The two streams, and how to write to them.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each answers a question of its own"
)]
pub(crate) struct Out {
    json: bool,
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
    pub(crate) progress: bool,
    /// Whether a command run from cron says that it went well: someone looks, or asked for it.
    tells_success: bool,
    color_stdout: bool,
    color_stderr: bool,
    pub(crate) printed: Printed,
    warned: Cell<bool>,
    warnings: RefCell<Vec<String>>,
    lost_output: Cell<bool>,
}

impl Out {
    /// `printed` completes the commands that texts name.
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
            lost_output: Cell::new(false),
        }
    }

    /// Whether anything was worth a warning.
    pub(crate) fn warned(&self) -> bool {
        self.warned.get()
    }

    /// Whether something could not be written to stdout, other than because no one reads it.
    pub(crate) fn lost_output(&self) -> bool {
        self.lost_output.get()
    }

    fn to_stdout(&self, text: &str) {
        self.stream(|stdout| writeln!(stdout, "{text}"));
    }

    /// Lets `write` write to stdout as much as it likes, its bytes as they are.
    pub(crate) fn stream(&self, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) {
        let mut stdout = BufWriter::with_capacity(STREAM_BUFFER, std::io::stdout().lock());
        let written = write(&mut stdout).and_then(|()| stdout.flush());
        // A reader that went away (`| head`) is no failure of ours.
        if written.is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe) {
            self.lost_output.set(true);
        }
    }

    /// Whether the result is for scripts.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// What a command that changes something says when it went well, and what is needed to go on.
    pub(crate) fn report(&self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// A [`Self::report`] of a command that runs from cron: nothing off a terminal, because cron mails every word.
    pub(crate) fn tell(&self, text: &str) {
        if self.tells_success {
            self.report(text);
        }
    }

    /// A [`Self::note`] of such a command.
    pub(crate) fn tell_note(&self, text: &str) {
        if self.tells_success {
            self.note(text);
        }
    }

    /// A line of an answer, which was asked for.
    pub(crate) fn line(&self, text: &str) {
        if !self.json {
            self.to_stdout(&shown(text.trim_end()));
        }
    }

    /// The result for scripts, made only if they asked for it.
    pub(crate) fn json<T: Serialize>(&self, value: impl FnOnce() -> T) {
        if self.json {
            self.to_stdout(&visible(&json::pretty(&value())));
        }
    }

    /// The same on one line, for results that come one after another.
    pub(crate) fn json_line<T: Serialize>(&self, value: impl FnOnce() -> T) {
        if self.json {
            self.to_stdout(&visible(&json::line(&value())));
        }
    }

    /// Counts a warning that the result itself tells of.
    pub(crate) fn count_warning(&self) {
        self.warned.set(true);
    }

    /// Why a run that did what it should ends with [`Kind::Warned`].
    pub(crate) fn only_warned(&self) -> CliError {
        let mut message = "done, with warnings, which --strict counts".to_owned();
        // Where they were not written to stderr.
        if self.json {
            for warning in &*self.warnings.borrow() {
                message = format!("{message}; {warning}");
            }
        }
        CliError::new(Kind::Warned, message)
    }

    /// Something that the user should know, said once; it counts under `--strict`.
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

    /// `text` with the commands in it as they can be typed.
    pub(crate) fn complete(&self, text: &str) -> String {
        self.printed.complete(text)
    }

    /// Names what the list of `repository` passed over.
    pub(crate) fn warn_skipped(&self, repository: &dyn Repository) {
        for key in repository.skipped() {
            self.warn(&format!(
                "{key:?} in `{}` is skipped: no archive can have such a key",
                repository.location()
            ));
        }
    }

    /// Something good to know, which does not count.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            let word = paint(self.color_stderr, Paint::Dim, "note:");
            self.to_stderr(&format!("{word} {}", self.complete(text)));
        }
    }

    /// Why the command failed.
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

    /// `text` in a colour, where stdout shows colours.
    pub(crate) fn paint(&self, how: Paint, text: &str) -> String {
        paint(self.color_stdout, how, text)
    }

    /// Under `--json` stderr holds nothing but an error object: warnings are in the result.
    fn to_stderr(&self, text: &str) {
        if !self.json {
            write_line(&mut std::io::stderr().lock(), text);
        }
    }
}

/// Where stderr cannot be written to, no one is left to tell.
fn write_line(stream: &mut dyn Write, text: &str) {
    let _ = writeln!(stream, "{}", shown(text));
}

/// `text` as it may be shown, in lines that fit.
pub(crate) fn shown(text: &str) -> String {
    layout::fit(&visible(text), layout::width())
}

/// `text` without what a terminal would obey: names and labels come from files that anyone may
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

/// Bytes of a key or value on one line: control characters and what is not UTF-8 as `\xNN`, line
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
