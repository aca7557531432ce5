//! etcd's identifiers and file names as types, so that a term cannot be used as an index.
//!
//! In: integers from protobuf, hexadecimal text and file names. Out: types that print as etcd prints them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::etcd::text::printable;

/// A raft term: the number of an election; an entry has the term of the leader that proposed it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Term(pub u64);

/// A raft index: the position of an entry in the log, from 1. 0 means "before the first".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Index(pub u64);

impl Index {
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The index right before this one; 0 stays 0.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

pub(crate) fn missing(from: Index, to: Index) -> String {
    if from == to {
        format!("entry {from} is missing")
    } else {
        format!("entries {from} to {to} are missing")
    }
}

/// A member's id, printed in hex without leading zeros as etcd does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// A cluster's id, printed in hex without leading zeros as etcd does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! hex_id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&format!("{:x}", self.0))
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                hex(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

hex_id!(MemberId);
hex_id!(ClusterId);

/// A release as etcd compares them: major and minor, such as `2.1`, without the patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    pub major: u64,
    pub minor: u64,
}

pub const V2_1: Release = Release { major: 2, minor: 1 };
pub const V2_2: Release = Release { major: 2, minor: 2 };
pub const V2_3: Release = Release { major: 2, minor: 3 };

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a release is two numbers, such as `2.1`")]
pub struct NoRelease;

impl Release {
    pub fn of(version: &semver::Version) -> Self {
        Self {
            major: version.major,
            minor: version.minor,
        }
    }

    /// The release after this one, of the same major.
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
        f.pad(&format!("{}.{}", self.major, self.minor))
    }
}

impl Release {
    /// Reads what `etcd --version` prints: `etcd Version: 2.1.3`, or `etcd version 2.0.13`; gives the version, too.
    pub fn printed(text: &str) -> Option<(&str, Self)> {
        let first = text.lines().next()?.strip_prefix("etcd ")?;
        let version = first.rsplit(' ').next()?;
        let mut parts = version.split('.');
        let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((version, Self { major, minor }))
    }
}

impl FromStr for Release {
    type Err = NoRelease;

    /// Reads `2.1`, and `2.1.3` or `v2.1.3` as people write them.
    fn from_str(text: &str) -> Result<Self, NoRelease> {
        let mut numbers = text.strip_prefix('v').unwrap_or(text).split('.');
        let mut number = || -> Result<Option<u64>, NoRelease> {
            let number = numbers.next().map(str::parse).transpose();
            number.map_err(|_| NoRelease)
        };
        let (major, minor) = (number()?, number()?);
        number()?;
        match (major, minor, numbers.next()) {
            (Some(major), Some(minor), None) => Ok(Self { major, minor }),
            _ => Err(NoRelease),
        }
    }
}

impl Serialize for Release {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The version all members of a cluster agree on, such as `2.1.0` (formats page §6).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterVersion(pub semver::Version);

impl fmt::Display for ClusterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ClusterVersion {
    type Err = semver::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl ClusterVersion {
    pub fn release(&self) -> Release {
        Release::of(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub cluster_id: ClusterId,
    pub member_id: MemberId,
    /// The name it last published; `None` before that, and after its removal.
    pub name: Option<String>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} ({})", printable(name), self.member_id)?,
            None => write!(f, "{}", self.member_id)?,
        }
        write!(f, " of cluster {}", self.cluster_id)
    }
}

/// Identifies a raft snapshot by the last entry in it. Sorted as etcd sorts its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SnapshotId {
    pub term: Term,
    pub index: Index,
}

impl SnapshotId {
    /// Reads a file name, `{term:016x}-{index:016x}.snap`; `None` if it is not a snapshot's.
    pub fn from_file_name(name: &str) -> Option<Self> {
        let (term, index) = two_hex_words(name.strip_suffix(".snap")?)?;
        Some(Self {
            term: Term(term),
            index: Index(index),
        })
    }

    pub fn file_name(self) -> String {
        format!("{:016x}-{:016x}.snap", self.term.0, self.index.0)
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {} of term {}", self.index, self.term)
    }
}

/// A segment's file name, `{seq:016x}-{first index:016x}.wal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Consecutive number of the segment, from 0.
    pub sequence: u64,
    /// The index that its first entry was expected to have when the segment was created.
    pub first_index: Index,
}

impl SegmentName {
    /// Reads a file name; `None` if it is not a segment's. etcd writes lower-case digits, and reads others too.
    pub fn parse(name: &str) -> Option<Self> {
        let words = name.strip_suffix(".wal")?.to_ascii_lowercase();
        let (sequence, first_index) = two_hex_words(&words)?;
        Some(Self {
            sequence,
            first_index: Index(first_index),
        })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.sequence, self.first_index.0)
    }
}

/// Two numbers of exactly 16 lower-case hex digits with a dash between, as etcd names its files.
fn two_hex_words(text: &str) -> Option<(u64, u64)> {
    let (first, second) = text.split_once('-')?;
    Some((hex_word(first)?, hex_word(second)?))
}

/// A hexadecimal number as Go reads it: without a sign.
pub(crate) fn hex(text: &str) -> Result<u64, std::num::ParseIntError> {
    let text = if text.starts_with('+') { "" } else { text };
    u64::from_str_radix(text, 16)
}

fn hex_word(text: &str) -> Option<u64> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 16 || !text.bytes().all(is_digit) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_no_sign() {
        // Rust reads one, and Go does not: a server stops at such a name among the removed members.
        assert_eq!("ab".parse(), Ok(MemberId(0xab)));
        assert!("+ab".parse::<MemberId>().is_err());
    }

    #[test]
    fn releases_are_read_as_people_write_them_and_compared_by_major_and_minor() {
        let read = |text: &str| text.parse::<Release>();
        assert_eq!(read("2.1").unwrap(), read("v2.1.3").unwrap());
        assert!(read("2.10").unwrap() > read("2.2").unwrap());
        assert_eq!(read("3.4").unwrap().to_string(), "3.4");
        for bad in ["", "2", "2.", "2.x", "2.1.x", "2.1.3.4", "-2.1", "2.1-rc"] {
            assert_eq!(read(bad), Err(NoRelease), "{bad}");
        }
    }
}
