//! What releases apply differently: the names of in-order keys, and a refresh.
//!
//! A log does not say which release applies it, so members of two releases may differ with the same log.
//! Source: formats page §5, the in-order trap; `store.go` and `etcdserver.proto` at 2.1.3, 2.2.5 and 2.3.8.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::etcd::ids::{ClusterVersion, Release, V2_2, V2_3};
use crate::etcd::store::ops::InOrderNames;

/// The release by which requests are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum InOrderRules {
    /// Bare numbers: etcd 2.1 and before.
    #[serde(rename = "2.1")]
    Before22,
    /// Twenty digits: etcd 2.2.
    #[serde(rename = "2.2")]
    From22,
    /// Twenty digits, and a refresh leaves the value: etcd 2.3 and later. Earlier ones do not know the field, and write an
    /// empty value.
    #[serde(rename = "2.3")]
    From23,
}

impl InOrderRules {
    pub const ALL: [Self; 3] = [Self::Before22, Self::From22, Self::From23];

    /// The rules of servers in a cluster of `version`.
    pub fn of(version: Option<&ClusterVersion>) -> Self {
        version.map_or(Self::Before22, |version| {
            Self::of_release(version.release())
        })
    }

    pub fn of_release(release: Release) -> Self {
        match release {
            release if release >= V2_3 => Self::From23,
            release if release >= V2_2 => Self::From22,
            _ => Self::Before22,
        }
    }

    pub fn names(self) -> InOrderNames {
        match self {
            Self::Before22 => InOrderNames::Plain,
            Self::From22 | Self::From23 => InOrderNames::Padded,
        }
    }

    pub fn knows_refresh(self) -> bool {
        self == Self::From23
    }
}

impl fmt::Display for InOrderRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before22 => "2.1",
            Self::From22 => "2.2",
            Self::From23 => "2.3",
        })
    }
}

impl FromStr for InOrderRules {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let release = text.parse::<Release>().map_err(|_| {
            "the rules are those of `2.1` (and before), `2.2`, or `2.3` (and later)".to_owned()
        })?;
        Ok(Self::of_release(release))
    }
}
