//! Prints a checklist: a mark, a title and the evidence, then what to do about it.

use serde_json::{Value, json};

use crate::upgrade::preflight::{Check, Status};

use crate::cli::layout::{WIDTH, wrap};
use crate::cli::output::{Output, Paint};

/// The column where a check's evidence begins.
const INDENT: usize = 23;

pub(crate) fn print(check: &Check, out: &Output) {
    if out.quiet && matches!(check.status, Status::Ok | Status::Note) {
        return;
    }
    let (mark, paint) = match check.status {
        Status::Ok => ("OK  ", Paint::Good),
        Status::Warn => ("WARN", Paint::Warn),
        Status::Fail => ("FAIL", Paint::Bad),
        Status::Note => ("note", Paint::Dim),
    };
    let indent = " ".repeat(INDENT);
    let mut lines = check
        .evidence
        .iter()
        .flat_map(|text| wrap(text, WIDTH - INDENT));
    let first = lines.next().unwrap_or_default();
    let mark = out.paint(paint, mark);
    out.line(&format!("{mark}  {:<15}  {first}", check.title));
    for line in lines {
        out.line(&format!("{indent}{line}"));
    }
    let advice = check.advice.iter().map(|advice| format!("hint: {advice}"));
    for line in advice.flat_map(|text| wrap(&text, WIDTH - INDENT)) {
        let line = match line.strip_prefix("hint:") {
            Some(rest) => out.paint(Paint::Strong, "hint:") + rest,
            None => line,
        };
        out.line(&format!("{indent}{line}"));
    }
}

pub(crate) fn titles(all: &[Check], status: Status) -> Vec<&'static str> {
    let ended_so = all.iter().filter(|check| check.status == status);
    ended_so.map(|check| check.title).collect()
}

/// The worst status, not counting notes.
pub(crate) fn overall(all: &[Check]) -> Status {
    let has = |status| all.iter().any(|check| check.status == status);
    match (has(Status::Fail), has(Status::Warn)) {
        (true, _) => Status::Fail,
        (false, true) => Status::Warn,
        (false, false) => Status::Ok,
    }
}

pub(crate) fn counts(all: &[Check]) -> Value {
    let count = |status| titles(all, status).len();
    json!({
        "ok": count(Status::Ok), "warning": count(Status::Warn), "failed": count(Status::Fail),
    })
}
