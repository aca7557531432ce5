//! Whether there is room for a snapshot: bytes, inodes, and this process's limit on the size of files.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fs_err as fs;

use crate::fs::space::{self, nearest};
use crate::repository::Repository;
use crate::repository::lock::LOCK_FILE;
use crate::text::size;

use crate::cli::commands::snapshot::Snapshot;
use crate::cli::error::{Kind, Result};

/// Inodes that a run takes in the backup dir `dir`: archive, checksum file and sidecar, lock, missing directories.
fn inodes(dir: &Path, is_encrypted: bool) -> u64 {
    let there = nearest(dir);
    let missing = dir.ancestors().take_while(|path| *path != there);
    let missing = missing.filter(|path| !path.as_os_str().is_empty()).count() as u64;
    2 + u64::from(is_encrypted) + u64::from(!dir.join(LOCK_FILE).exists()) + missing
}

/// Whether an archive of `bytes` fits wherever it is written.
pub(super) fn room(
    args: &Snapshot,
    repository: Option<&dyn Repository>,
    bytes: u64,
) -> Result<String> {
    let is_encrypted = args.to.is_encrypted();
    let spool = args.to.used_spool().filter(|spool| spool.is_dir());
    let backups = repository.and_then(Repository::directory);
    let mut told = Vec::new();
    let most = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
    if most.is_some_and(|most| most < bytes) {
        return Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge).into());
    }
    let spool = spool.as_deref().map(|dir| (dir, 1));
    // What is spooled stays until it is in its place, which may be on the same filesystem.
    let mut taken = HashMap::new();
    let backups = backups.map(|dir| (dir, inodes(dir, is_encrypted)));
    for (dir, files) in spool.into_iter().chain(backups) {
        let there = nearest(dir);
        let (all_bytes, all_files) = taken.entry(fs::metadata(there)?.dev()).or_insert((0, 0));
        *all_bytes += bytes;
        *all_files += files;
        let required = space::require(there, *all_bytes, dir);
        let required = required.and_then(|()| space::require_inodes(there, *all_files, dir));
        required.map_err(|error| match error {
            space::SpaceError::Io(error) => error.into(),
            full => Kind::NoSpace
                .error(full.to_string())
                .hint("make room there, or write elsewhere (`--backup-dir`, `--spool-dir`)"),
        })?;
        told.push(format!(
            "{} free in `{}`",
            size(space::free(there)?),
            dir.display()
        ));
    }
    Ok(told.join("; "))
}
