//! Parses one line of an etcd log.
//!
//! In: a line without its end. Out: its time, its level, the package that wrote it, and the message.
//! Nothing here fails: a part that is missing is `None`.
//!
//! ```text
//! 2015/09/10 12:00:00 etcdserver: message                      2.0 and 2.1: no level
//! 2015-09-10 12:00:00.000000 W | etcdserver: message           2.2 and later
//! Sep 10 12:00:00 host etcd[123]: either of the above          what a unit writes to its stdout
//! Sep 10 12:00:00 host etcd[123]: message                      2.1 and later, straight to the journal
//! {"level":"warn","ts":"2026-…","caller":"…","msg":"message"}  3.4
//! ```

use std::borrow::Cow;

use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

/// The greatest length of the journal's prefix, in bytes.
const PREFIX: usize = 160;

/// The year for times of the journal, which have none; one with 29 days in February.
const SOME_YEAR: i16 = 2000;

/// The journal's names of the months, in English.
const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";

/// The packages that write to etcd's logs; longer names such as `etcdserver/membership` begin with one of them.
const PACKAGES: [&str; 24] = [
    "auth",
    "discovery",
    "embed",
    "etcd",
    "etcdhttp",
    "etcdmain",
    "etcdserver",
    "fileutil",
    "flags",
    "httptypes",
    "membership",
    "netutil",
    "osutil",
    "pkg",
    "proxy",
    "raft",
    "raft.node",
    "rafthttp",
    "security",
    "snap",
    "store",
    "systemd",
    "transport",
    "wal",
];

/// The level that the logger gave a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For etcd's developers.
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    /// etcd exits.
    Critical,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line<'a> {
    /// When it was written, by that machine's clock. The journal leaves out the year, so only
    /// differences between times are meaningful.
    #[serde(skip)]
    pub time: Option<DateTime>,
    /// The level; `None` in the logs of 2.0 and 2.1.
    pub level: Option<Level>,
    pub package: Option<&'a str>,
    pub message: Cow<'a, str>,
}

impl<'a> Line<'a> {
    pub fn parse(text: &'a str) -> Self {
        let text = text.trim_end();
        let (journal_time, text) = match etcd_time(text) {
            Some(_) => (None, text),
            None => journal_prefix(text).unwrap_or((None, text)),
        };
        if let Some(zap) = Zap::parse(text) {
            return zap.into_line();
        }
        let (time, text) = etcd_time(text).map_or((journal_time, text), |(time, rest)| {
            (Some(time), rest.trim_start())
        });
        let (level, text) = level(text).map_or((None, text), |(level, rest)| (Some(level), rest));
        let (package, message) = package(text);
        Self {
            time,
            level,
            package,
            message: Cow::Borrowed(message),
        }
    }
}

/// Parses `2015/09/10 12:00:00` or `2015-09-10 12:00:00.000000`; returns the rest. etcd's own upgrade
/// guide has days of one digit.
fn etcd_time(text: &str) -> Option<(DateTime, &str)> {
    date_and_time(text, ' ')
}

fn date_and_time(text: &str, between: char) -> Option<(DateTime, &str)> {
    let (date, rest) = text.split_once(between)?;
    let mut parts = date.splitn(3, ['/', '-']);
    let year = number(parts.next()?, 4)?;
    let (month, day) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let (clock, rest) = clock(rest)?;
    let time = moment(year, month, day, clock)?;
    let fraction = rest
        .strip_prefix('.')
        .map(|digits| digits.trim_start_matches(|c: char| c.is_ascii_digit()));
    Some((time, fraction.unwrap_or(rest)))
}

/// Parses `12:00:00`; returns the rest.
fn clock(text: &str) -> Option<((i16, i16, i16), &str)> {
    let (clock, rest) = text.split_at_checked(8)?;
    let mut parts = clock.split(':');
    let mut part = || number(parts.next()?, 2);
    Some(((part()?, part()?, part()?), rest))
}

fn number(text: &str, digits: usize) -> Option<i16> {
    let fits = (1..=digits).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok())?
}

fn moment(year: i16, month: i16, day: i16, clock: (i16, i16, i16)) -> Option<DateTime> {
    let small = |number: i16| i8::try_from(number).ok();
    let (hour, minute, second) = clock;
    DateTime::new(
        year,
        small(month)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second)?,
        0,
    )
    .ok()
}

/// Parses the journal's `Sep 10 12:00:00 host etcd[123]: ` in any language and form: it needs
/// the program with its process id. Returns the time if it can be read, and the rest.
fn journal_prefix(text: &str) -> Option<(Option<DateTime>, &str)> {
    let end = text.find("]: ").filter(|end| *end <= PREFIX)?;
    let (prefix, message) = (text.get(..end)?, text.get(end + 3..)?);
    let (before, process) = prefix.rsplit_once('[')?;
    let is_number = !process.is_empty() && process.bytes().all(|b| b.is_ascii_digit());
    let program = before.rsplit(' ').next()?;
    if !is_number || program.is_empty() || !before.contains(' ') {
        return None;
    }
    Some((journal_time(before), message))
}

fn journal_time(prefix: &str) -> Option<DateTime> {
    if let Some((time, _)) = date_and_time(prefix, 'T') {
        return Some(time);
    }
    let (name, rest) = prefix.split_once(' ')?;
    let at = MONTHS
        .find(name)
        .filter(|at| name.len() == 3 && at % 3 == 0)?;
    let (day, rest) = rest.trim_start().split_once(' ')?;
    let (clock, _) = clock(rest)?;
    let month = i16::try_from(at / 3 + 1).ok()?;
    moment(SOME_YEAR, month, number(day, 2)?, clock)
}

/// Parses `W | `; returns the rest.
fn level(text: &str) -> Option<(Level, &str)> {
    let (letter, rest) = text.split_once(" | ")?;
    let level = match letter {
        "T" | "D" => Level::Debug,
        "I" => Level::Info,
        "N" => Level::Notice,
        "W" => Level::Warning,
        "E" => Level::Error,
        "C" => Level::Critical,
        _ => return None,
    };
    Some((level, rest))
}

/// Parses `etcdserver: `; returns the rest. Some messages name a second package: only the first counts.
fn package(text: &str) -> (Option<&str>, &str) {
    let (mut first, mut message) = (None, text);
    while let Some((name, rest)) = message.split_once(": ")
        && PACKAGES.contains(&name.split('/').next().unwrap_or(name))
    {
        first = first.or(Some(name));
        message = rest;
    }
    (first, message)
}

/// The fields that are used of a line that 3.4 writes with `--logger zap`.
#[derive(Deserialize)]
struct Zap<'a> {
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow, default)]
    ts: Option<Cow<'a, str>>,
    #[serde(borrow)]
    msg: Cow<'a, str>,
    #[serde(borrow, default)]
    error: Option<Cow<'a, str>>,
}

impl<'a> Zap<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.starts_with('{').then_some(text)?;
        serde_json::from_str(text).ok()
    }

    fn into_line(self) -> Line<'a> {
        let level = match self.level.as_ref() {
            "debug" => Some(Level::Debug),
            "info" => Some(Level::Info),
            "warn" => Some(Level::Warning),
            "error" => Some(Level::Error),
            "dpanic" | "panic" | "fatal" => Some(Level::Critical),
            _ => None,
        };
        let time = self.ts.as_deref().and_then(|text| date_and_time(text, 'T'));
        let message = match self.error {
            Some(error) => Cow::Owned(format!("{} ({error})", self.msg)),
            None => self.msg,
        };
        Line {
            time: time.map(|(time, _)| time),
            level,
            package: None,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of a line: time, level, package and message; `-` is one that it does not have.
    fn parts(text: &str) -> String {
        let line = Line::parse(text);
        let time = line.time.map(|time| time.to_string());
        let level = line.level.map(|level| format!("{level:?}"));
        let parts = [time.as_deref(), level.as_deref(), line.package];
        let parts = parts.map(|part| part.unwrap_or("-")).join(" ");
        format!("{parts} {}", line.message)
    }

    #[test]
    fn every_form_of_the_drawing_is_taken_apart() {
        let rows = r#"
            2015/09/10 12:00:01 etcdserver: it: works
                2015-09-10T12:00:01 - etcdserver it: works
            2015-09-10 12:00:01.000001 W | etcdserver: it works<CR>
                2015-09-10T12:00:01 Warning etcdserver it works
            Sep 10 12:00:01 host etcd[123]: 2015-09-10 12:00:01.5 W | etcdserver: it works
                2015-09-10T12:00:01 Warning etcdserver it works
            Sep 10 12:00:01 host etcd[123]: it works
                2000-09-10T12:00:01 - - it works
            2015-09-10T12:00:01+0200 host etcd2[1]: it works
                2015-09-10T12:00:01 - - it works
            9月 10 12:00:01 host etcd[1]: it works
                - - - it works
            {"level":"warn","ts":"2015-09-10T12:00:01.5Z","caller":"a.go:1","msg":"it works","error":"not"}
                2015-09-10T12:00:01 Warning - it works (not)
            2015/09/2 09:48:35 rafthttp: it works
                2015-09-02T09:48:35 - rafthttp it works
            2015-09-10 12:00:01.0 I | etcdserver/membership: it works
                2015-09-10T12:00:01 Info etcdserver/membership it works"#;
        let rows: Vec<_> = rows.trim().lines().map(str::trim).collect();
        for row in rows.chunks(2) {
            assert_eq!(parts(&row[0].replace("<CR>", "\r")), row[1], "{}", row[0]);
        }
    }

    #[test]
    fn what_is_none_of_the_forms_is_a_message() {
        for text in [
            "",
            "{",
            r#"{"level":1}"#,
            "2015/13/40 12:00:00 x",
            "2015/09/10 12:00",
            "2015-09-10 99:00:00 I | x",
            "goroutine 1 [running]:",
            "[123]: x",
            "x[123]: y",
            "日本語日本語 12:00:0é etcd[x]: y",
            "\u{fffd}\u{fffd}\0 | ]: [",
        ] {
            assert_eq!(parts(text), format!("- - - {text}"));
        }
    }

    #[test]
    fn a_package_that_a_message_names_again_is_no_part_of_it() {
        let line = Line::parse("2015/09/10 12:00:00 etcdhttp: etcdserver: request timed out");
        assert_eq!(
            (line.package, line.message.as_ref()),
            (Some("etcdhttp"), "request timed out")
        );
        let line = Line::parse("2015/09/10 12:00:00 raft.node: 1 elected leader 1 at term 2");
        assert_eq!(line.message, "1 elected leader 1 at term 2");
    }
}
