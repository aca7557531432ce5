//! Which archives were verified recently, so that a run every quarter of an hour need not read them
//! all.
//!
//! In and out: a small JSON file beside the archives. It only saves time: an archive that it does
//! not name, or that has another size or time of writing, is read again, and so is every one
//! after a while. A file that cannot be read counts as empty.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::repository::ArchiveRef;

pub const CACHE_NAME: &str = ".etcd-ark-proofs.json";
/// The format that this release reads and writes.
const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifiedCache {
    format: u32,
    proofs: BTreeMap<String, Proven>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proven {
    bytes: u64,
    modified: Timestamp,
    at: Timestamp,
    /// When its member was last found to hold nothing that is not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<Timestamp>,
}

impl Default for VerifiedCache {
    fn default() -> Self {
        Self {
            format: FORMAT,
            proofs: BTreeMap::new(),
        }
    }
}

impl VerifiedCache {
    pub fn read(json: &[u8]) -> Self {
        let read: Option<Self> = serde_json::from_slice(json).ok();
        read.filter(|verified| verified.format == FORMAT)
            .unwrap_or_default()
    }

    pub fn write(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Whether the archive, unchanged since, was verified less than `again_after` before `now`.
    pub fn covers(&self, listed: &ArchiveRef, now: Timestamp, again_after: SignedDuration) -> bool {
        self.of(listed).is_some_and(|proven| {
            let age = now.duration_since(proven.at);
            // A time in the future does not tell its age.
            !age.is_negative() && age < again_after
        })
    }

    fn of(&self, listed: &ArchiveRef) -> Option<&Proven> {
        self.proofs.get(&listed.name).filter(|proven| {
            proven.bytes == listed.bytes && Some(proven.modified) == listed.modified
        })
    }

    /// When the archive's member was last found to hold nothing that is not in the archive.
    pub fn current(&self, listed: &ArchiveRef) -> Option<Timestamp> {
        self.of(listed).and_then(|proven| proven.current)
    }

    /// Records that the archive was verified at `now`, and holds all that its member holds.
    pub fn record_unchanged(&mut self, listed: &ArchiveRef, now: Timestamp) {
        self.note(listed, now);
        if let Some(proven) = self.proofs.get_mut(&listed.name) {
            proven.current = Some(now);
        }
    }

    /// Records that the archive was verified at `now`.
    pub fn note(&mut self, listed: &ArchiveRef, now: Timestamp) {
        let current = self.current(listed);
        if let Some(modified) = listed.modified {
            let proven = Proven {
                bytes: listed.bytes,
                modified,
                at: now,
                current,
            };
            self.proofs.insert(listed.name.clone(), proven);
        }
    }

    /// Removes an archive that is corrupt now.
    pub fn forget(&mut self, name: &str) {
        self.proofs.remove(name);
    }

    /// Removes archives for which `there` is false.
    pub fn retain(&mut self, there: impl Fn(&str) -> bool) {
        self.proofs.retain(|name, _| there(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(bytes: u64, modified: i64) -> ArchiveRef {
        ArchiveRef {
            is_link: false,
            name: "etcd-a.tar.zst".to_owned(),
            bytes,
            modified: Timestamp::from_second(modified).ok(),
        }
    }

    #[test]
    fn a_proof_counts_for_the_file_that_was_proven_and_for_a_while() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let week = SignedDuration::from_hours(7 * 24);
        let mut verified = VerifiedCache::default();
        verified.note(&listed(10, 5), at(1000));
        let verified = VerifiedCache::read(&verified.write().unwrap());
        assert!(verified.covers(&listed(10, 5), at(1000), week));
        assert!(verified.covers(&listed(10, 5), at(1000 + 7 * 86_400 - 1), week));
        assert!(!verified.covers(&listed(10, 5), at(1000 + 7 * 86_400), week));
        assert!(
            !verified.covers(&listed(11, 5), at(1001), week),
            "another size"
        );
        assert!(
            !verified.covers(&listed(10, 6), at(1001), week),
            "written again"
        );
        assert!(
            !verified.covers(&listed(10, 5), at(999), week),
            "a proof from the future"
        );
        assert!(!verified.covers(&listed(10, 5), at(1000), SignedDuration::ZERO));
        let unknown = ArchiveRef {
            modified: None,
            ..listed(10, 5)
        };
        assert!(!verified.covers(&unknown, at(1001), week));
    }

    #[test]
    fn a_broken_ledger_is_as_good_as_none() {
        for json in ["", "[]", "{\"format\":2,\"proofs\":{}}", "{\"format\":1}"] {
            assert_eq!(
                VerifiedCache::read(json.as_bytes()),
                VerifiedCache::default()
            );
        }
    }
}
