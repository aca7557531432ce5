//! The place of the archives, for a dry run: its owner, and other users' access to it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fs_err as fs;

use crate::fs::owner::name_of;
use crate::repository::{Directory, Repository};
use crate::text::count;
use crate::upgrade::preflight::{Finding, Status};

use crate::cli::error::CliError;

/// Permission bits of other users that a directory of archives, and an archive, should not have.
const OTHERS_WRITE: u32 = 0o022;
const OTHERS_READ: u32 = 0o077;

/// The repository, and other users' access to it.
pub(super) fn place(repository: &dyn Repository) -> Finding {
    let location = format!("`{}`", repository.location());
    let Some(dir) = repository.directory() else {
        return Finding::ok(location);
    };
    if !dir.exists() {
        return Finding::ok(format!("{location} will be made, with mode 700"));
    }
    match exposed(dir) {
        Ok((whole, open)) if open.is_empty() => Finding::ok(format!("{location}: {whole}")),
        Ok((whole, open)) => {
            let evidence = std::iter::once(format!("{location}: {whole}")).chain(open);
            Finding {
                status: Status::Warn,
                evidence: evidence.collect(),
                advice: Some("a backup is as secret as the keys in it: `chmod 700` the directory, `chmod 600` the archives, and `chown` them to the user that takes them".to_owned()),
            }
        }
        Err(error) => Finding::warning(CliError::from(error).message),
    }
}

/// Owner and mode of the backup dir `dir`, and other users' access to it or to the archives in it.
fn exposed(dir: &Path) -> std::io::Result<(String, Vec<String>)> {
    let named = |uid| name_of(uid).unwrap_or_else(|| format!("user {uid}"));
    let mode_of = |metadata: &std::fs::Metadata| metadata.mode() & 0o7777;
    let found = fs::metadata(dir)?;
    let (owner, mode) = (named(found.uid()), mode_of(&found));
    let mut open = Vec::new();
    if mode & OTHERS_WRITE != 0 {
        open.push("others than its owner can write to it".to_owned());
    }
    let listed = Directory::new(dir).list().unwrap_or_default();
    let archives = listed
        .iter()
        .filter_map(|one| Some((&one.name, fs::symlink_metadata(dir.join(&one.name)).ok()?)))
        .filter(|(_, metadata)| metadata.is_file());
    let archives: Vec<_> = archives.collect();
    let number =
        |found: &[&(&String, std::fs::Metadata)]| count(found.len() as u64, "archive", "archives");
    let readable: Vec<_> = archives
        .iter()
        .filter(|(_, metadata)| metadata.mode() & OTHERS_READ != 0)
        .collect();
    if let Some((name, metadata)) = readable.first() {
        let mode = mode_of(metadata);
        open.push(format!(
            "{} can be read by others than the owner, such as `{name}` (mode {mode:o})",
            number(&readable)
        ));
    }
    let foreign: Vec<_> = archives
        .iter()
        .filter(|(_, metadata)| metadata.uid() != found.uid())
        .collect();
    if let Some((name, metadata)) = foreign.first() {
        let of = named(metadata.uid());
        open.push(format!(
            "{} not of the directory's owner, such as `{name}`, of {of}",
            number(&foreign)
        ));
    }
    Ok((format!("of {owner}, mode {mode:o}"), open))
}
