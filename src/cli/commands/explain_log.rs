//! `explain-log`: the lines of an etcd log, each with a mark, as they arrive; at the end the number
//! of each kind.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fs::error::missing;
use crate::interrupt::Interrupt;
use crate::text::{count, size};
use crate::thread_pool::start;
use crate::upgrade::explain_log::{Class, Explained, Explainer, Verdict};
use clap::builder::BoolishValueParser;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::json::{self, text};
use crate::cli::layout::{WIDTH, fit, hung, width, wrap};
use crate::cli::output::{Output, Paint, one_line};

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainLog {
    /// Logs, one member each [default: -, stdin]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Hide expected and ordinary lines
    #[arg(long, env = "ETCD_ARK_ONLY_NOTABLE", value_parser = BoolishValueParser::new())]
    pub(crate) only_notable: bool,
}

/// How many bytes of a line are kept; etcd's own lines are much shorter.
const LINE: usize = 8 << 10;
/// How many lines are read ahead.
const AHEAD: usize = 256;
/// How often an interrupt is checked while no line comes.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How many bytes of a line that is not text are shown: each takes up to 4 columns.
const BINARY: usize = 100;
const PASS_A_LOG: &str = "pass the path of etcd's log; `journalctl -u etcd -o cat | etcd-ark explain-log` reads it where etcd is a unit of that name";
const IS_IT_THE_UNIT: &str = "is it the right unit and time? `journalctl -u etcd` prints the log where etcd is a unit of that name";
/// The columns where a line and its reason begin.
const MARK: usize = 5;
const WHY: usize = 7;
/// How many lines worth a look are repeated at the end.
const TOLD_AGAIN: usize = 10;

enum Piece {
    File(PathBuf),
    /// The start of a line, and the number of its further bytes.
    Line(Vec<u8>, u64),
    Failed(io::Error),
}

pub(crate) fn run(args: &ExplainLog, cx: &Context<'_>) -> Result<()> {
    let mut files = args.files.clone();
    if files.is_empty() {
        files.push(PathBuf::from("-"));
    }
    if files.iter().any(|file| is_stdin(file)) && io::stdin().is_terminal() {
        cx.out
            .note("reading a log from the terminal; Ctrl-D ends it");
    }
    if let Some(dir) = files.iter().find(|file| file.is_dir()) {
        let message = format!("`{}` is a directory, not a log", dir.display());
        return Err(CliError::usage(message).hint("pass the path of a file"));
    }
    let is_missing = |file: &&PathBuf| !is_stdin(file) && file.try_exists().is_ok_and(|is| !is);
    if let Some(file) = files.iter().find(is_missing) {
        return Err(Kind::NotFound.error(missing("log", file)).hint(PASS_A_LOG));
    }
    let mut teller = Teller {
        only_notable: args.only_notable,
        several: files.len() > 1,
        out: &cx.out,
        file: PathBuf::new(),
        line: 0,
        explainer: Explainer::default(),
        of_etcd: 0,
        told: BTreeSet::new(),
        has_printed: false,
        summary: Summary::default(),
    };
    let (sender, receiver) = bounded(AHEAD);
    // It ends with the process: a read from a terminal or a pipe cannot be cancelled.
    start(move || read_all(files, &sender))?;
    let mut read = Ok(());
    cx.out.stream(|stdout| {
        read = teller.print_all(&receiver, cx.interrupt, stdout)?;
        teller.print_summary(stdout)
    });
    read?;
    let notable = teller.summary.count(Verdict::WorthALook);
    if notable > 0 {
        let lines = count(notable, "line is", "lines are");
        cx.out.warn(&format!("{lines} worth a look"));
    }
    cx.interrupt.check()?;
    teller.refuse_what_is_no_log()
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

fn read_all(files: Vec<PathBuf>, sender: &Sender<Piece>) {
    for file in files {
        let lines = if is_stdin(&file) {
            sender
                .send(Piece::File(file))
                .map(|()| read_lines(io::stdin().lock(), sender))
        } else {
            match fs_err::File::open(&file) {
                Ok(opened) => sender
                    .send(Piece::File(file))
                    .map(|()| read_lines(BufReader::new(opened), sender)),
                Err(error) => Ok(Err(error)),
            }
        };
        // Without a receiver the printing has ended.
        let Ok(lines) = lines else { return };
        if let Err(error) = lines {
            let _ = sender.send(Piece::Failed(error));
            return;
        }
    }
}

fn read_lines(mut from: impl BufRead, sender: &Sender<Piece>) -> io::Result<()> {
    loop {
        let (mut line, mut more) = (Vec::new(), 0);
        if !read_line(&mut from, &mut line, &mut more)?
            || sender.send(Piece::Line(line, more)).is_err()
        {
            return Ok(());
        }
    }
}

/// The start of the next line, and the number of its further bytes in `more`; `false` at the end.
fn read_line(from: &mut impl BufRead, line: &mut Vec<u8>, more: &mut u64) -> io::Result<bool> {
    let mut any = false;
    loop {
        let held = match from.fill_buf() {
            Ok(held) => held,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = memchr::memchr(b'\n', held);
        let piece = held.get(..end.unwrap_or(held.len())).unwrap_or_default();
        let room = LINE.saturating_sub(line.len()).min(piece.len());
        let (kept, dropped) = piece.split_at(room);
        line.extend_from_slice(kept);
        *more += dropped.len() as u64;
        let used = piece.len() + usize::from(end.is_some());
        any |= used > 0;
        from.consume(used);
        if end.is_some() || used == 0 {
            return Ok(any);
        }
    }
}

/// Prints each line, and collects what to print at the end.
struct Teller<'a> {
    only_notable: bool,
    several: bool,
    out: &'a Output,
    file: PathBuf,
    line: u64,
    explainer: Explainer,
    /// How many lines of the file are etcd's.
    of_etcd: u64,
    told: BTreeSet<&'static str>,
    /// Whether anything stands above the summary.
    has_printed: bool,
    summary: Summary,
}

#[derive(Default)]
struct Summary {
    classes: BTreeMap<&'static str, (Class, u64)>,
    /// The files without a line of etcd, with their numbers of lines.
    no_logs: Vec<(PathBuf, u64)>,
    /// The first lines worth a look: file, number, class, line.
    notable: Vec<(PathBuf, u64, Class, String)>,
}

impl Summary {
    fn count(&self, verdict: Verdict) -> u64 {
        let counted = self.classes.values();
        let of_it = counted.filter(|(class, _)| class.verdict == verdict);
        of_it.map(|(_, lines)| lines).sum()
    }
}

impl Teller<'_> {
    /// The outer error is of stdout, the inner one of the log.
    fn print_all(
        &mut self,
        pieces: &Receiver<Piece>,
        interrupt: &Interrupt,
        stdout: &mut dyn Write,
    ) -> io::Result<io::Result<()>> {
        while interrupt.check().is_ok() {
            if pieces.is_empty() {
                // Each line is shown as it arrives.
                stdout.flush()?;
            }
            match pieces.recv_timeout(POLL_INTERVAL) {
                Ok(Piece::File(file)) => self.begin(file, stdout)?,
                Ok(Piece::Line(line, more)) => self.print_line(&line, more, stdout)?,
                Ok(Piece::Failed(error)) => return Ok(Err(error)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.end();
                    break;
                }
            }
        }
        Ok(Ok(()))
    }

    fn end(&mut self) {
        if self.of_etcd == 0 && !self.file.as_os_str().is_empty() {
            self.summary.no_logs.push((self.file.clone(), self.line));
        }
    }

    /// Refuses a file without etcd's lines: nothing in it is worth a look, which proves nothing.
    fn refuse_what_is_no_log(&self) -> Result<()> {
        let Some((file, lines)) = self.summary.no_logs.first() else {
            return Ok(());
        };
        let name = if is_stdin(file) {
            "stdin".to_owned()
        } else {
            format!("`{}`", one_line(file.as_os_str().as_encoded_bytes()))
        };
        let what = match lines {
            0 => "is empty".to_owned(),
            _ => format!(
                "has no line of etcd ({} read)",
                count(*lines, "line", "lines")
            ),
        };
        let message = format!("{name} {what}: this is not a log of etcd");
        Err(Kind::NotFound.error(message).hint(IS_IT_THE_UNIT))
    }

    fn begin(&mut self, file: PathBuf, stdout: &mut dyn Write) -> io::Result<()> {
        self.end();
        if self.several && !self.out.is_json() {
            let name = one_line(file.as_os_str().as_encoded_bytes());
            let name = format!("==> {name} <==");
            writeln!(stdout, "{}", self.out.paint(Paint::Strong, &name))?;
            self.has_printed = true;
        }
        (self.file, self.line, self.of_etcd) = (file, 0, 0);
        self.explainer = Explainer::default();
        Ok(())
    }

    fn print_line(&mut self, line: &[u8], more: u64, stdout: &mut dyn Write) -> io::Result<()> {
        self.line += 1;
        let readable = String::from_utf8_lossy(line);
        let explained = self.explainer.explain(&readable);
        let class = explained.class;
        self.of_etcd += u64::from(explained.is_of_etcd);
        let count = self.summary.classes.entry(class.name);
        count.or_insert((class, 0)).1 += 1;
        let shown = shown(line, more);
        if class.verdict == Verdict::WorthALook && self.summary.notable.len() < TOLD_AGAIN {
            let again = (self.file.clone(), self.line, class, shown.clone());
            self.summary.notable.push(again);
        }
        if self.only_notable && matches!(class.verdict, Verdict::Expected | Verdict::Routine) {
            return Ok(());
        }
        if self.out.is_json() {
            return writeln!(stdout, "{}", json::line(&self.to_json(&explained, more)));
        }
        self.write_line(class, &shown, stdout)
    }

    fn write_line(&mut self, class: Class, shown: &str, stdout: &mut dyn Write) -> io::Result<()> {
        let mark = match class.verdict {
            Verdict::Expected => self.out.paint(Paint::Good, "ok  "),
            Verdict::WorthALook => self.out.paint(Paint::Bad, "LOOK"),
            Verdict::Routine | Verdict::NotKnown => "    ".to_owned(),
        };
        let shown = match class.verdict {
            Verdict::NotKnown => self.out.paint(Paint::Dim, shown),
            _ => shown.to_owned(),
        };
        // If lines are hidden, line numbers show their positions.
        let number = if self.only_notable {
            format!("{}: ", self.line)
        } else {
            String::new()
        };
        // For `grep` a line of the log stays one line.
        let width = if io::stdout().is_terminal() {
            width()
        } else {
            usize::MAX
        };
        let line = hung(&format!("{mark} {number}{shown}"), MARK, width);
        writeln!(stdout, "{line}")?;
        self.has_printed = true;
        let first_time = self.told.insert(class.name);
        let speaks = matches!(class.verdict, Verdict::Expected | Verdict::WorthALook);
        if self.out.verbose || (speaks && first_time) {
            for line in wrap(class.why, WIDTH - WHY) {
                let line = self.out.paint(Paint::Dim, &line);
                writeln!(stdout, "{:WHY$}{line}", "")?;
            }
        }
        Ok(())
    }

    fn to_json(&self, explained: &Explained<'_>, more: u64) -> Value {
        let Explained { line, class, .. } = explained;
        let mut value = json!({
            "file": text(&self.file),
            "line": self.line,
            "verdict": class.verdict,
            "class": class.name,
            "reason": class.why,
            "level": line.level,
            "package": line.package,
            "message": line.message,
        });
        if more > 0 {
            value["bytes_left_out"] = json!(more);
        }
        value
    }

    fn print_summary(&self, stdout: &mut dyn Write) -> io::Result<()> {
        if self.out.is_json() {
            return writeln!(stdout, "{}", json::line(&self.summary_json()));
        }
        let [expected, routine, notable, unknown] = VERDICTS.map(|(of, _)| self.summary.count(of));
        let all = expected + routine + notable + unknown;
        // The error says why nothing was read.
        if all == 0 {
            return Ok(());
        }
        let head = format!(
            "{}: {expected} expected, {routine} routine, {notable} worth a look, {unknown} not known",
            count(all, "line", "lines")
        );
        let head = self.out.paint(Paint::Strong, &head);
        if self.has_printed {
            writeln!(stdout)?;
        }
        writeln!(stdout, "{}", fitted(&head))?;
        for (verdict, name) in VERDICTS {
            let of_it = self.summary.classes.values();
            for (class, lines) in of_it.filter(|(class, _)| class.verdict == verdict) {
                writeln!(stdout, "  {name:<12} {lines:>8}  {}", class.name)?;
            }
        }
        for (file, line, class, shown) in &self.summary.notable {
            let place = if self.several {
                format!("{}:{line}", one_line(file.as_os_str().as_encoded_bytes()))
            } else {
                format!("line {line}")
            };
            let what = format!("{place}, {}:", class.name);
            let what = self.out.paint(Paint::Bad, &what);
            writeln!(stdout, "{}", fitted(&format!("{what} {shown}")))?;
        }
        let told = self.summary.notable.len() as u64;
        if notable > told {
            writeln!(stdout, "and {} more worth a look", notable - told)?;
        }
        Ok(())
    }

    fn summary_json(&self) -> Value {
        let classes = self.summary.classes.values();
        let classes = classes.map(
            |(class, lines)| json!({"class": class.name, "verdict": class.verdict, "lines": lines}),
        );
        let notable = self.summary.notable.iter();
        let notable = notable.map(
            |(file, line, class, _)| json!({"file": text(file), "line": line, "class": class.name}),
        );
        let counts = VERDICTS.map(|(verdict, _)| self.summary.count(verdict));
        json!({"summary": {
            "lines": counts.iter().sum::<u64>(),
            "expected": counts[0],
            "routine": counts[1],
            "worth_a_look": counts[2],
            "not_known": counts[3],
            "classes": classes.collect::<Vec<_>>(),
            "first_worth_a_look": notable.collect::<Vec<_>>(),
        }})
    }
}

/// All verdicts, in the order of the summary.
const VERDICTS: [(Verdict, &str); 4] = [
    (Verdict::Expected, "expected"),
    (Verdict::Routine, "routine"),
    (Verdict::WorthALook, "worth a look"),
    (Verdict::NotKnown, "not known"),
];

fn fitted(line: &str) -> String {
    fit(line, width())
}

/// A line as it is shown: without control characters, and of one that is not text only the beginning.
fn shown(line: &[u8], more: u64) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (line, more) = match line.get(..BINARY) {
        Some(beginning) if is_binary(line) => {
            (beginning, more + (line.len() - beginning.len()) as u64)
        }
        _ => (line, more),
    };
    // The lines of a stack trace begin with a tab.
    let shown = one_line(line).replace("\\t", "    ");
    if more > 0 {
        format!("{shown} … and {} more", size(more))
    } else {
        shown
    }
}

/// Whether a line is not text; one that was cut off may end within a character.
fn is_binary(line: &[u8]) -> bool {
    let is_wrong = std::str::from_utf8(line).is_err_and(|error| error.error_len().is_some());
    is_wrong || line.contains(&0)
}
