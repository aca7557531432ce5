//! Parsers of values that several flags take.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::builder::{OsStringValueParser, TypedValueParser};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::cli::location::no_url;
use crate::etcd::store::path::components;

const LIKE_A_DURATION: &str = "not a valid duration: write it like `30s`, `90m`, `24h` or `7d`";

/// A duration above zero, such as `3s`, `24h` or `7d`; a day is 24 hours. A bare number is refused, so that 30 days
/// cannot become 30 seconds.
pub(crate) fn duration(text: &str) -> Result<SignedDuration, String> {
    let length = duration_or_zero(text)?;
    if length.is_zero() {
        return Err("it must be longer than 0s".to_owned());
    }
    Ok(length)
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
    let wrong = |_| format!("not a number from 1 to {}", u32::MAX);
    text.parse().map_err(wrong)
}

pub(crate) fn threads(text: &str) -> Result<u16, String> {
    up_to(1024, text)
}

pub(crate) fn level(text: &str) -> Result<i32, String> {
    up_to(19, text).map(i32::from)
}

fn up_to(most: u16, text: &str) -> Result<u16, String> {
    let number = text.parse().ok();
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("not a number from 1 to {most}"))
}

pub(crate) fn index(text: &str) -> Result<u64, String> {
    let wrong = |_| "not an index of the log: write a number, such as 318".to_owned();
    text.parse().map_err(wrong)
}

/// A time: a span before now, a date (UTC), or an instant.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    moment(text, |span| crate::clock::now().checked_sub(span))
}

/// The same, but a span is one from now.
pub(crate) fn time_ahead(text: &str) -> Result<Timestamp, String> {
    moment(text, |span| crate::clock::now().checked_add(span))
}

fn moment(
    text: &str,
    after: impl FnOnce(SignedDuration) -> Result<Timestamp, jiff::Error>,
) -> Result<Timestamp, String> {
    if let Ok(span) = duration(text) {
        return after(span).map_err(|error| error.to_string());
    }
    let midnight = |date: Date| date.to_zoned(TimeZone::UTC).map(|time| time.timestamp());
    let time = text.parse().or_else(|_| text.parse().and_then(midnight));
    time.map_err(|_| {
        "not a valid time: write it like `7d`, `2026-11-01` or `2026-11-01T06:00:00Z`".to_owned()
    })
}

/// A size above zero.
pub(crate) fn size_limit(text: &str) -> Result<ByteSize, String> {
    let size = byte_size(text)?;
    if size.as_u64() == 0 {
        return Err("it must be larger than 0".to_owned());
    }
    Ok(size)
}

/// A label, without the spaces around it, as in `a, b`.
pub(crate) fn label(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a label must not be empty".to_owned()),
        label if label.chars().any(char::is_control) => {
            Err("a label must not have control characters".to_owned())
        }
        label => Ok(label.to_owned()),
    }
}

/// `MEMBER=URL`.
pub(crate) fn member_url(text: &str) -> Result<(String, String), String> {
    pair(text, "MEMBER=URL")
}

/// `DATA_DIR=WAL_DIR`, both local paths. Each may have a `=` in it, so that there can be several readings.
#[derive(Clone, Debug)]
pub(crate) struct DataAndWalDir(pub(crate) Vec<(PathBuf, PathBuf)>);

pub(crate) fn data_and_wal_dir(text: &str) -> Result<DataAndWalDir, String> {
    pair(text, "DATA_DIR=WAL_DIR")?;
    let local = |path: &str| no_url(path.into()).map(PathBuf::from);
    let places = text.match_indices('=').map(|(at, _)| at);
    let pairs = places.filter_map(|at| Some((text.get(..at)?, text.get(at + 1..)?)));
    let pairs = pairs.filter(|(left, right)| !left.is_empty() && !right.is_empty());
    let readings = pairs.map(|(left, right)| Ok((local(left)?, local(right)?)));
    readings.collect::<Result<_, String>>().map(DataAndWalDir)
}

/// Two texts with `=` between, both not empty.
fn pair(text: &str, form: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err(format!("expected {form}")),
    }
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

    #[test]
    fn a_time_is_a_span_before_now_a_day_or_an_instant() {
        let day: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        assert_eq!(time("2026-11-01"), Ok(day));
        assert_eq!(time("2026-11-01T01:00:00+01:00"), Ok(day));
        let week = crate::clock::now().duration_since(time("7d").unwrap());
        assert_eq!((week.as_secs() + 60) / 3600, 7 * 24);
        let week = time_ahead("7d").unwrap();
        let week = week.duration_since(crate::clock::now());
        assert_eq!((week.as_secs() + 60) / 3600, 7 * 24);
        for wrong in ["", "7", "yesterday", "2026-13-01", "0s", "-1d"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_number_out_of_range_is_refused_with_the_range() {
        for wrong in ["", "x", "0", "-1", "20", "99999999999"] {
            assert_eq!(level(wrong), Err("not a number from 1 to 19".to_owned()));
        }
        assert_eq!((level("19"), threads("1024")), (Ok(19), Ok(1024)));
        assert!(threads("1025").is_err_and(|why| why.ends_with("1 to 1024")));
        assert!(index("x").is_err() && index("-1").is_err() && index("0") == Ok(0));
    }
}
