//! The small member in a directory of its own, with a place for its archives.

use std::path::PathBuf;

use tempfile::TempDir;

use super::encode::{SmallMember, small_member};

/// A directory; in it the small member, and where archives of it may go: that is not there yet. And the member's facts.
pub fn small_scene() -> (TempDir, PathBuf, PathBuf, SmallMember) {
    let dir = TempDir::new().unwrap();
    let [source, backups] = ["source", "backups"].map(|name| dir.path().join(name));
    let member = small_member(&source);
    (dir, source, backups, member)
}
