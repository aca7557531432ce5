//! Parsers of values that several flags take.

use std::path::PathBuf;

use jiff::SignedDuration;

use crate::cli::location::no_url;

const LIKE_A_TIME: &str = "not a valid duration: write it like `90m`, `24h` or `7d`";

/// A length of time above zero, such as `3s`, `24h` or `7d`; a day is 24 hours.
pub(crate) fn length_of_time(text: &str) -> Result<SignedDuration, String> {
    time_or_none(text)
        .ok()
        .filter(SignedDuration::is_positive)
        .ok_or_else(|| LIKE_A_TIME.to_owned())
}

/// The same, or `0s`.
pub(crate) fn time_or_none(text: &str) -> Result<SignedDuration, String> {
    let wrong = || LIKE_A_TIME.to_owned();
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    let length = span.to_duration(days).map_err(|_| wrong())?;
    Some(length)
        .filter(|length| !length.is_negative())
        .ok_or_else(wrong)
}

/// A label, without the blanks around it that `a, b` leaves.
pub(crate) fn label(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a label must not be empty".to_owned()),
        label => Ok(label.to_owned()),
    }
}

/// `LEFT=RIGHT`, neither of them empty.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err(format!("`{text}` is not of the form LEFT=RIGHT")),
    }
}

/// The same of two paths on this machine.
pub(crate) fn path_pair(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let (left, right) = pair(text)?;
    let local = |path: String| no_url(path.into()).map(PathBuf::from);
    Ok((local(left)?, local(right)?))
}
