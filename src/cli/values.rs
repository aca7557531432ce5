//! Parsers of values that several flags take.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::builder::{OsStringValueParser, TypedValueParser};
use jiff::SignedDuration;

use crate::cli::location::no_url;
use crate::etcd::store::path::components;

const LIKE_A_DURATION: &str = "not a valid duration: write it like `30s`, `90m`, `24h` or `7d`";

/// A duration above zero, such as `3s`, `24h` or `7d`; a day is 24 hours. A bare number is refused, so that 30 days
/// cannot become 30 seconds.
pub(crate) fn duration(text: &str) -> Result<SignedDuration, String> {
    duration_or_zero(text)
        .ok()
        .filter(SignedDuration::is_positive)
        .ok_or_else(|| LIKE_A_DURATION.to_owned())
}

/// The same, or `0s`.
pub(crate) fn duration_or_zero(text: &str) -> Result<SignedDuration, String> {
    let wrong = || LIKE_A_DURATION.to_owned();
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    let length = span.to_duration(days).map_err(|_| wrong())?;
    Some(length)
        .filter(|length| !length.is_negative())
        .ok_or_else(wrong)
}

/// A size, such as `100MB` or `95MiB`; a number without a unit is bytes.
pub(crate) fn byte_size(text: &str) -> Result<ByteSize, String> {
    let wrong = |_| "not a valid size: write it like `100MB`, `95MiB` or `2GB`".to_owned();
    text.parse().map_err(wrong)
}

/// A key as the API names it. All keys are meant by `/` only, and not by what a variable that is not set leaves.
pub(crate) fn key() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|given| {
        let bytes = given.as_bytes();
        let is_root = !bytes.is_empty() && bytes.iter().all(|byte| *byte == b'/');
        if is_root || !components(bytes).is_empty() {
            Ok(given)
        } else {
            Err("it names no key; `/` means all keys")
        }
    })
}

/// A number of archives to keep.
pub(crate) fn count(text: &str) -> Result<NonZeroU32, String> {
    let wrong = |_| "not a number of 1 or more".to_owned();
    text.parse().map_err(wrong)
}

/// A label, without the spaces around it, as in `a, b`.
pub(crate) fn label(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a label must not be empty".to_owned()),
        label => Ok(label.to_owned()),
    }
}

/// `LEFT=RIGHT`, both not empty.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err(format!("`{text}`: expected NAME=VALUE")),
    }
}

/// The same with two local paths.
pub(crate) fn path_pair(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let (left, right) = pair(text)?;
    let local = |path: String| no_url(path.into()).map(PathBuf::from);
    Ok((local(left)?, local(right)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_in_the_same_way_everywhere_and_so_is_a_size() {
        let seconds = |text: &str| duration_or_zero(text).map(|length| length.as_secs_f64());
        let read = [
            ("5s", 5.0),
            ("90m", 5400.0),
            ("1h30m", 5400.0),
            ("7d", 604_800.0),
            ("0s", 0.0),
        ];
        for (text, length) in read {
            assert_eq!(seconds(text), Ok(length), "{text}");
        }
        for wrong in [
            "",
            "30",
            "-1",
            "-5s",
            "soon",
            "1x",
            "inf",
            "nan",
            "1e300",
            "1 fortnight",
        ] {
            assert!(
                seconds(wrong).is_err_and(|why| why == LIKE_A_DURATION),
                "{wrong}"
            );
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration("0s").is_err() && duration("1s").is_ok());
        assert_eq!(
            byte_size("100MB").map(|size| size.as_u64()),
            Ok(100_000_000)
        );
        assert_eq!(byte_size("2MiB").map(|size| size.as_u64()), Ok(2 << 20));
        for wrong in ["", "100mega", "-1", "MB"] {
            assert!(
                byte_size(wrong).is_err_and(|why| why.starts_with("not a valid size")),
                "{wrong}"
            );
        }
        assert!(count("0").is_err() && count("-1").is_err() && count("8").is_ok());
    }
}
