//! A release line of etcd, such as 2.1: what an upgrade goes from and to.
//!
//! In: text, or a whole version. Out: a type that compares as releases follow one another.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Major and minor of a version; the cluster version knows no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Major, such as 2.
    pub major: u64,
    /// Minor, such as 1.
    pub minor: u64,
}

/// etcd 2.1.
pub const V2_1: Release = Release { major: 2, minor: 1 };
/// etcd 2.2.
pub const V2_2: Release = Release { major: 2, minor: 2 };

impl Release {
    /// The release line that `version` belongs to.
    pub fn of(version: &semver::Version) -> Self {
        Self {
            major: version.major,
            minor: version.minor,
        }
    }

    /// The release line after this one, of the same major.
    #[must_use]
    pub fn next(self) -> Self {
        Self {
            minor: self.minor.saturating_add(1),
            ..self
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Release {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('.');
        let parsed = parts.and_then(|(major, minor)| {
            let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
            Some(Self { major, minor })
        });
        parsed.ok_or_else(|| "a release is written like `2.1`".to_owned())
    }
}

impl Serialize for Release {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_as_numbers_and_forget_the_patch() {
        let of = |text: &str| Release::of(&text.parse().unwrap());
        assert_eq!(of("2.1.3"), V2_1);
        assert_eq!(of("2.2.0-rc.0+git"), V2_2);
        assert!(of("2.10.0") > of("2.9.9"));
        assert_eq!(V2_1.next(), V2_2);
    }

    #[test]
    fn a_patch_or_a_word_is_no_release() {
        assert_eq!("2.1".parse(), Ok(V2_1));
        for text in ["2", "2.1.3", "2.x", "two.one", "", "."] {
            assert!(text.parse::<Release>().is_err(), "{text}");
        }
    }
}
