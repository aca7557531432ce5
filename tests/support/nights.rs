//! Archives of many nights in a backup dir.
//!
//! In: an archive that the tool made, and for each night its time and other changes in its manifest. Out: valid
//! archives with these manifests.

use std::path::{Path, PathBuf};

use fs_err as fs;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::archive_builder::Forge;

#[derive(Debug)]
pub struct Night {
    forge: Forge,
}

impl Night {
    pub fn of(archive: &Path) -> Self {
        Self {
            forge: Forge::of(archive),
        }
    }

    /// Puts an archive that was made at `at` into `backups`, with its manifest changed.
    pub fn put(&self, backups: &Path, at: Timestamp, change: impl FnOnce(&mut Value)) -> PathBuf {
        let mut forge = self.forge.clone();
        forge.manifest["created"] = json!(at);
        change(&mut forge.manifest);
        let member = &forge.manifest["member"];
        let name = member["identity"]["name"].as_str().unwrap();
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let name: String = name.chars().map(plain).collect();
        let index = member["position"]["index"].as_u64().unwrap();
        let time = at.strftime("%Y%m%dT%H%M%S%.3fZ");
        let path = backups.join(format!("etcd-{name}-{time}-{index:016x}.tar.zst"));
        fs::create_dir_all(backups).unwrap();
        fs::write(&path, forge.bytes()).unwrap();
        path
    }

    /// The same, made this number of hours ago.
    pub fn ago(&self, backups: &Path, hours: f64, change: impl FnOnce(&mut Value)) -> PathBuf {
        self.put(backups, hours_ago(hours), change)
    }
}

/// A moment so many hours before now; a second more, so that it does not round down.
pub fn hours_ago(hours: f64) -> Timestamp {
    etcd_ark::clock::now() - SignedDuration::from_secs((hours * 3600.0) as i64 + 1)
}
