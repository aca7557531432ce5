//! Warnings about an archive, or the member in it: a stable code, and a text for people.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize, Serializer};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarningCode {
    OverLimit,
    /// The log ended in an unfinished record, which was cut off.
    TornTail,
    LeftOut,
    /// A raft snapshot was skipped in favour of an older one.
    PassedOver,
    /// A segment that etcd no longer needs is corrupt.
    OldSegment,
    EmptySegment,
    Removed,
    /// The same in an entry that is not known to be committed.
    RemovalPending,
    /// The member's vote is for a member that is not in its files.
    StrayVote,
    VersionPending,
    DoesNotStart,
    /// No server starts from the data dir itself: entries in its newest raft snapshot are not in its log.
    SourceDoesNotStart,
    Damage,
    /// A code of a later release, or a text of one without codes.
    #[serde(other)]
    Other,
}

impl WarningCode {
    /// Whether it is only about the time of the capture, or about what every reader measures again: an archive with
    /// such a warning is as good as one without it.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::OverLimit | Self::TornTail)
    }

    /// The code for a text of a release without codes.
    fn of_text(text: &str) -> Self {
        if text.starts_with("the data size is ") {
            Self::OverLimit
        } else if text.contains(" ends in an unfinished record; ") {
            Self::TornTail
        } else {
            Self::Other
        }
    }

    pub fn text(self, text: impl Into<String>) -> Warning {
        let (code, text) = (self, text.into());
        Warning { code, text }
    }
}

/// A warning. It is serialized and shown as its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub code: WarningCode,
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Lists", into = "Lists")]
pub struct Warnings(pub Vec<Warning>);

/// As in a manifest: the texts, which every release reads, and their codes.
#[derive(Serialize, Deserialize)]
struct Lists {
    warnings: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warning_codes: Vec<WarningCode>,
}

impl From<Lists> for Warnings {
    fn from(lists: Lists) -> Self {
        let mut codes = lists.warning_codes.into_iter();
        let with_code = |text: String| {
            let code = codes.next();
            code.unwrap_or_else(|| WarningCode::of_text(&text))
                .text(text)
        };
        Self(lists.warnings.into_iter().map(with_code).collect())
    }
}

impl From<Warnings> for Lists {
    fn from(warnings: Warnings) -> Self {
        let pairs = warnings.0.into_iter();
        let (warnings, warning_codes) = pairs.map(|one| (one.text, one.code)).unzip();
        Self {
            warnings,
            warning_codes,
        }
    }
}

impl Deref for Warnings {
    type Target = [Warning];

    fn deref(&self) -> &[Warning] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::WarningCode::{Other, OverLimit, Removed, TornTail};
    use super::*;

    #[test]
    fn texts_of_releases_without_codes_are_read_and_codes_of_later_ones_too() {
        let old = r#"{"warnings":["the data size is 120 MB, over","x ends in an unfinished record; its","y"]}"#;
        let read: Warnings = serde_json::from_str(old).unwrap();
        let codes: Vec<_> = read.iter().map(|one| one.code).collect();
        assert_eq!(codes, [OverLimit, TornTail, Other]);
        let later = r#"{"warnings":["a","b"],"warning_codes":["removed","not-yet-known"]}"#;
        let read: Warnings = serde_json::from_str(later).unwrap();
        assert_eq!(read.0, [Removed.text("a"), Other.text("b")]);
        let written = serde_json::to_string(&read).unwrap();
        assert_eq!(written, later.replace("not-yet-known", "other"));
    }
}
