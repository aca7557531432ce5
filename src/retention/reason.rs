//! Why an archive is kept.
//!
//! In: nothing. Out: a [`Reason`] as data, and in words.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::etcd::ids::ClusterVersion;

/// A stretch of the calendar, in UTC, of which the newest good archive is kept.
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
    /// A number that two times have in common if, and only if, they lie in the same period.
    pub(crate) fn number(self, time: Timestamp) -> i64 {
        let day = || time.as_second().div_euclid(24 * 60 * 60);
        let date = || -> Date { time.to_zoned(TimeZone::UTC).date() };
        match self {
            Self::Hour => time.as_second().div_euclid(60 * 60),
            Self::Day => day(),
            // 1970 began on a Thursday, three days after its week did.
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

/// Why an archive is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// One of the newest.
    Last {
        /// Its place among them, from 1.
        place: u32,
        of: u32,
    },
    /// The newest good one of its period.
    Newest {
        period: Period,
        at: Timestamp,
    },
    Within {
        /// How much older it may be.
        span: SignedDuration,
        /// Than this time.
        than: Timestamp,
    },
    /// Young enough if the newer ones are left out, which follow a pause: their clock may be wrong.
    WithinBeforePause {
        /// How much older it may be.
        span: SignedDuration,
        /// Than this time.
        than: Timestamp,
    },
    /// The newest good one of its group.
    LastGood,
    Label(String),
    /// The newest good one from before the cluster version became this.
    BeforeVersion {
        /// What it became; `None` where a member went back to a log that has none yet.
        version: Option<ClusterVersion>,
        /// Whether a newer one has the change in its log already.
        without_it_in_the_log: bool,
    },
    Rewound,
    /// It holds a damaged data dir: only a person removes it.
    Damaged,
    JustTaken,
    /// The same archive as another one that is kept, of this name.
    CopyOf(String),
    /// A symbolic link: only another name.
    Link,
    Future,
    /// Its time and its place in the log do not go together with those of the others.
    Contradiction,
    Bad(String),
    /// Whether it checks cannot be told.
    Undecided(String),
}

impl Reason {
    /// The name of the rule, for scripts.
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

/// A length of time as it is written on the command line.
fn length(span: SignedDuration) -> String {
    let seconds = span.as_secs();
    for (unit, letter) in [(24 * 60 * 60, 'd'), (60 * 60, 'h'), (60, 'm')] {
        if seconds % unit == 0 {
            return format!("{}{letter}", seconds / unit);
        }
    }
    format!("{seconds}s")
}
