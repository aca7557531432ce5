//! Opens the places on the command line: a backup dir, a bucket by its URL, an archive in either.

use std::cell::RefCell;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::archive::{Archive, ArchiveError, ArchiveFault};
use crate::data_dir::DataDir;
use crate::fs::dir::open_regular;
use crate::fs::error::{missing, parent_of};
use crate::interrupt::Interrupt;
use crate::repository::catalog::{ArchiveSummary, read_one, sidecar_of};
use crate::repository::check::prove;
use crate::repository::sidecar::SIDECAR_EXTENSION;
use crate::repository::{ArchiveRef, Directory, Repository, is_archive_name};
use crate::target::Target;

use crate::cli::encryption::decrypt;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::foreign::{Use, ZSTD, foreign};
use crate::cli::location::Location;
use crate::cli::quote::shell;

/// How many first bytes tell whether an archive is encrypted.
const BEGINNING: usize = 21;
const AGE: &[u8; BEGINNING] = b"age-encryption.org/v1";

/// Opens places; waiting for them can be interrupted.
pub(crate) struct Opener<'p> {
    interrupt: &'p Interrupt,
    identities: &'p [PathBuf],
    /// Open buckets, by their URLs, to reuse their connections.
    buckets: RefCell<Vec<(String, Rc<dyn Repository>)>>,
}

impl<'p> Opener<'p> {
    pub(crate) fn new(interrupt: &'p Interrupt, identities: &'p [PathBuf]) -> Self {
        Self {
            interrupt,
            identities,
            buckets: RefCell::default(),
        }
    }

    /// The repository at `place`: a bucket, or a backup dir.
    pub(crate) fn repository(&self, place: &Location) -> Result<Rc<dyn Repository>> {
        let url = match place {
            Location::Path(path) => return Ok(Rc::new(Directory::new(path))),
            Location::Url(url) => url,
        };
        let mut buckets = self.buckets.borrow_mut();
        if let Some((_, known)) = buckets.iter().find(|(known, _)| known == url) {
            return Ok(Rc::clone(known));
        }
        let bucket = self.bucket(url)?;
        buckets.push((url.to_owned(), Rc::clone(&bucket)));
        Ok(bucket)
    }

    /// The repository of the archive at `place`, and the archive's name.
    pub(crate) fn locate(&self, place: &Location) -> Result<(Rc<dyn Repository>, String)> {
        let url = match place {
            Location::Url(url) => url,
            Location::Path(path) => {
                let name = path.file_name().unwrap_or_default();
                let directory = Directory::new(&parent_of(path));
                return Ok((Rc::new(directory), name.to_string_lossy().into_owned()));
            }
        };
        let named = url.rsplit_once('/');
        let Some((bucket, name)) = named.filter(|(_, name)| is_archive_name(name)) else {
            return Err(
                CliError::usage(format!("`{url}` does not end in the name of an archive"))
                    .hint("`etcd-ark list URL` shows the archives there are"),
            );
        };
        let bucket = Location::Url(bucket.to_owned());
        Ok((self.repository(&bucket)?, name.to_owned()))
    }

    /// The archive at `place`, for a restore: another file may be unpacked by hand.
    pub(crate) fn archive_to_restore(&self, place: &Location) -> Result<Archive> {
        match place.local() {
            Some(dir) if DataDir::open(dir, None).is_ok() => {
                let dir = dir.display();
                let message = format!("`{dir}` is a data dir, not an archive");
                Err(CliError::usage(message).hint(format!(
                    "stop its etcd and copy it with `cp -a`, or make an archive of it: `etcd-ark snapshot --data-dir {} --backup-dir DIR`",
                    shell(&dir.to_string())
                )))
            }
            _ => self.archive_for(place, Use::Restore),
        }
    }

    pub(crate) fn archive(&self, place: &Location) -> Result<Archive> {
        self.archive_for(place, Use::Read)
    }

    fn archive_for(&self, place: &Location, use_: Use) -> Result<Archive> {
        let is_encrypted = is_encrypted(place);
        if let Location::Path(path) = place {
            if path.is_dir() {
                return Err(told_directory(path));
            }
            if !is_encrypted {
                let is_tail = |error: &ArchiveError| {
                    matches!(
                        error,
                        ArchiveError::Fault {
                            fault: ArchiveFault::Tail(_),
                            ..
                        }
                    )
                };
                return Archive::open(path).map_err(|error| {
                    let foreign = is_tail(&error).then(|| foreign(path, use_)).flatten();
                    foreign.unwrap_or_else(|| error.into())
                });
            }
        }
        let (repository, name) = self.locate(place)?;
        let listed = repository.look_up(&name)?;
        let path = repository.path_of(&name);
        let source = repository.source(&listed)?;
        if !is_encrypted {
            return Ok(Archive::from_source(source, &path)?);
        }
        let inside = match decrypt(Arc::clone(&source), &path, self.identities)? {
            Err(error) if is_of_header(&error) => {
                // Damage to the header looks like a wrong key; the sidecar tells the difference.
                self.prove_ciphertext(&*repository, listed)?;
                return Err(error.into());
            }
            inside => inside?,
        };
        let archive = Archive::from_source(inside, &path)?;
        // An archive that was encrypted by hand has no sidecar; an existing one must be right.
        let there = repository.read_beside(&format!("{name}{SIDECAR_EXTENSION}"))?;
        if there.is_some() && !sidecar_of(&*repository, &name)?.0.is_of(archive.manifest()) {
            let why = "it does not match the manifest in the archive".to_owned();
            let fault = ArchiveFault::Sidecar(why);
            return Err(ArchiveError::Fault { path, fault }.into());
        }
        Ok(archive)
    }

    /// Replaces what stands in `summary` for the encrypted warnings by these, if a key of this run opens the archive.
    pub(crate) fn read_warnings(&self, repository: &dyn Repository, summary: &mut ArchiveSummary) {
        let has_any = !summary.warnings.is_empty() || summary.does_not_start.is_some();
        if summary.ciphertext.is_none() || self.identities.is_empty() || !has_any {
            return;
        }
        let path = repository.path_of(summary.name());
        let source = repository.source(&summary.listed).ok();
        let inside = source.and_then(|source| decrypt(source, &path, self.identities).ok()?.ok());
        // What is wrong with the archive is for `verify`.
        let archive = inside.and_then(|inside| Archive::from_source(inside, &path).ok());
        if let Some(archive) = archive {
            let manifest = archive.manifest();
            summary.warnings.clone_from(&manifest.warnings.0);
            summary.does_not_start.clone_from(&manifest.does_not_start);
        }
    }

    /// Fails if the archive at `place` is encrypted and has a sidecar for other bytes.
    pub(crate) fn prove_beside(&self, place: &Location) -> Result<()> {
        if !is_encrypted(place) {
            return Ok(());
        }
        let (repository, name) = self.locate(place)?;
        let listed = repository.look_up(&name)?;
        self.prove_ciphertext(&*repository, listed)
    }

    /// Fails if there is a sidecar for other bytes than the archive's.
    fn prove_ciphertext(&self, repository: &dyn Repository, listed: ArchiveRef) -> Result<()> {
        if let Ok(summary) = read_one(repository, listed) {
            prove(repository, &summary, self.interrupt)?;
        }
        Ok(())
    }

    /// What is known of the archive at `place` without a key, if it is encrypted and no key
    /// was given.
    pub(crate) fn locked(
        &self,
        place: &Location,
    ) -> Result<Option<(Rc<dyn Repository>, ArchiveSummary)>> {
        if !is_encrypted(place) || !self.identities.is_empty() {
            return Ok(None);
        }
        let (repository, name) = self.locate(place)?;
        let listed = repository.look_up(&name)?;
        let sidecar = repository.read_beside(&format!("{name}{SIDECAR_EXTENSION}"))?;
        if sidecar.is_none() {
            return Ok(None);
        }
        let summary = read_one(&*repository, listed)?;
        Ok(Some((repository, summary)))
    }

    pub(crate) fn target(&self, place: &Location, wal_dir: Option<&Path>) -> Result<Target> {
        let Some(dir) = place.local().filter(|path| path.is_dir()) else {
            if let Some(missing) = place.local().and_then(missing_target) {
                return Err(missing);
            }
            return Ok(Target::Archive(Box::new(self.archive(place)?)));
        };
        match Target::open(dir, wal_dir) {
            // Not a data dir, but a directory with archives.
            Err(_) if Directory::new(dir).list().is_ok_and(|l| !l.is_empty()) => {
                Err(told_directory(dir))
            }
            target => Ok(target?),
        }
    }

    #[cfg(feature = "object-store")]
    fn bucket(&self, url: &str) -> Result<Rc<dyn Repository>> {
        use crate::repository::bucket::Bucket;
        let settings: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Rc::new(Bucket::open(url, &settings, self.interrupt)?))
    }

    #[cfg(not(feature = "object-store"))]
    #[expect(clippy::unused_self, reason = "as where there are object stores")]
    fn bucket(&self, url: &str) -> Result<Rc<dyn Repository>> {
        Err(
            CliError::usage(format!("`{url}`: this build has no bucket support"))
                .hint("build it with the feature `object-store`, which is on by default"),
        )
    }
}

/// The error for a path that is not there, and may have been meant as a data dir: nothing in its name or beside it says
/// that it is an archive.
fn missing_target(path: &Path) -> Option<CliError> {
    let name = path.file_name()?.to_string_lossy();
    let is_beside = || {
        Directory::new(&parent_of(path))
            .list()
            .is_ok_and(|l| !l.is_empty())
    };
    let is_there = std::fs::symlink_metadata(path).is_ok();
    if is_there || name.contains('*') || name.contains(".tar") || is_beside() {
        return None;
    }
    let message = missing("archive or data dir", path);
    Some(Kind::NotFound.error(message).hint(
        "pass an archive, or the data dir that etcd was started with; it has a `member` directory in it",
    ))
}

fn told_directory(place: &Path) -> CliError {
    CliError::usage(format!(
        "`{}` is a directory, not an archive",
        place.display()
    ))
    .hint(format!(
        "if it is a backup dir, `etcd-ark list {}` shows its archives",
        shell(&place.to_string_lossy())
    ))
}

/// Whether an archive cannot be decrypted because of its header.
#[cfg(feature = "encryption")]
fn is_of_header(error: &ArchiveError) -> bool {
    use crate::archive::encryption::EncryptionFault::{Header, WrongIdentity};
    let ArchiveError::Fault { fault, .. } = error else {
        return false;
    };
    matches!(fault, ArchiveFault::Encryption(WrongIdentity | Header(_)))
}

#[cfg(not(feature = "encryption"))]
fn is_of_header(_: &ArchiveError) -> bool {
    false
}

/// Whether the archive at `place` is encrypted, by its first bytes. The name decides if they do not print, as in a
/// damaged one, and in a bucket, where only archives have such names.
pub(crate) fn is_encrypted(place: &Location) -> bool {
    let begins = |path: &Path| {
        let mut begin = [0; BEGINNING];
        let file = open_regular(path).ok()?;
        file.file().read_exact_at(&mut begin, 0).ok()?;
        match &begin {
            AGE => Some(true),
            _ if begin.starts_with(&ZSTD) => Some(false),
            _ => None,
        }
    };
    let ending = place.as_path().extension();
    let is_named = ending.is_some_and(|ending| ending == "age");
    place.local().and_then(begins).unwrap_or(is_named)
}
