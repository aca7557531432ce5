//! Why an archive is kept: a [`Reason`], as data and as text.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::etcd::ids::ClusterVersion;

/// A calendar period, in UTC, of which the newest valid archive is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday, as ISO 8601 counts weeks.
    Week,
    Month,
    Year,
}

impl Period {
    /// A number that two times have in common exactly if they are in the same period.
    pub(crate) fn number(self, time: Timestamp) -> i64 {
        let day = || time.as_second().div_euclid(24 * 60 * 60);
        let date = || -> Date { time.to_zoned(TimeZone::UTC).date() };
        match self {
            Self::Hour => time.as_second().div_euclid(60 * 60),
            Self::Day => day(),
            // 1970 began on a Thursday, three days after the start of its week.
            Self::Week => day().saturating_add(3).div_euclid(7),
            Self::Month => {
                let date = date();
                i64::from(date.year()) * 12 + i64::from(date.month())
            }
            Self::Year => date().year().into(),
        }
    }

    fn rule(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    fn format(self) -> &'static str {
        match self {
            Self::Hour => "%Y-%m-%d %H:00",
            Self::Day => "%Y-%m-%d",
            Self::Week => "%G-W%V",
            Self::Month => "%Y-%m",
            Self::Year => "%Y",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// One of the newest.
    Last {
        /// Its position among them, from 1.
        place: u32,
        of: u32,
    },
    /// The newest valid one of its period.
    Newest {
        period: Period,
        at: Timestamp,
    },
    Within {
        /// The greatest difference in age.
        span: SignedDuration,
        /// The time from which it is measured.
        than: Timestamp,
    },
    /// Recent enough if the newer ones are left out, which follow a pause: their clock may be wrong.
    WithinBeforePause {
        /// The greatest difference in age.
        span: SignedDuration,
        /// The time from which it is measured.
        than: Timestamp,
    },
    /// The newest valid one of its group.
    LastGood,
    Label(String),
    /// The newest valid one from before the cluster version changed to this.
    BeforeVersion {
        /// The new version; `None` where a member went back to a log without one.
        version: Option<ClusterVersion>,
        /// Whether this is the newest without the change in its log, kept besides a newer one that has it there.
        without_it_in_the_log: bool,
    },
    Rewound,
    /// It holds a damaged data dir: only a person may remove it.
    Damaged,
    JustTaken,
    /// The same as another archive that is kept, of this name.
    CopyOf(String),
    Link,
    Future,
    /// Its time and its log position are not in the order of the others'.
    Contradiction,
    Bad(String),
    /// It is not known whether it is valid.
    Undecided(String),
}

impl Reason {
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Last { .. } => "last",
            Self::Newest { period, .. } => period.rule(),
            Self::Within { .. } => "within",
            Self::WithinBeforePause { .. } => "within-before-pause",
            Self::LastGood => "last-good",
            Self::Label(_) => "label",
            Self::BeforeVersion { .. } => "before-version",
            Self::Rewound => "rewound",
            Self::Damaged => "damaged",
            Self::JustTaken => "just-taken",
            Self::CopyOf(_) => "copy",
            Self::Link => "link",
            Self::Future => "future",
            Self::Contradiction => "contradiction",
            Self::Bad(_) => "bad",
            Self::Undecided(_) => "undecided",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last { place, of } => write!(f, "keep-last {place}/{of}"),
            Self::Newest { period, at } => {
                write!(f, "{} {}", period.rule(), at.strftime(period.format()))
            }
            Self::Within { span, than } => {
                let than = than.strftime("%Y-%m-%d %H:%M");
                write!(f, "within {} of {than}", length(*span))
            }
            Self::WithinBeforePause { span, than } => {
                let than = than.strftime("%Y-%m-%d %H:%M");
                let span = length(*span);
                write!(
                    f,
                    "the clock of newer ones may be wrong: within {span} of {than}, before a pause"
                )
            }
            Self::LastGood => f.write_str("newest valid archive"),
            Self::Label(label) => write!(f, "label {label}"),
            Self::BeforeVersion {
                version: Some(version),
                without_it_in_the_log: true,
            } => write!(f, "newest without {version} in its log"),
            Self::BeforeVersion {
                version: Some(version),
                ..
            } => write!(f, "newest before {version}"),
            Self::BeforeVersion { version: None, .. } => {
                f.write_str("newest before the cluster version was undecided again")
            }
            Self::Rewound => f.write_str("made by rewind"),
            Self::Damaged => f.write_str("of a damaged data dir"),
            Self::JustTaken => f.write_str("just taken"),
            Self::CopyOf(name) => write!(f, "a copy of {name}"),
            Self::Link => f.write_str("a symbolic link"),
            Self::Future => f.write_str("from the future"),
            Self::Contradiction => f.write_str("its date does not fit its place in the log"),
            Self::Bad(why) => write!(f, "is corrupt: {why}"),
            Self::Undecided(why) => write!(f, "cannot be checked: {why}"),
        }
    }
}

/// A duration as written on the command line.
fn length(span: SignedDuration) -> String {
    let seconds = span.as_secs();
    for (unit, letter) in [(24 * 60 * 60, 'd'), (60 * 60, 'h'), (60, 'm')] {
        if seconds % unit == 0 {
            return format!("{}{letter}", seconds / unit);
        }
    }
    format!("{seconds}s")
}
