//! Where an archive goes: it is written, read back, and renamed to its name.
//!
//! In: a capture. Out: the archive in a backup dir or a bucket, renamed only after every byte of it was read back.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fs_err as fs;

use crate::archive::verify::{VerifyFault, verify};
use crate::archive::{Archive, Cipher, Digests, ENCRYPTED, FileSource, Source};
use crate::data_dir::DataDir;
use crate::etcd::scan::Pass;
use crate::fs::error::with_path;
use crate::fs::staged::{StagedFile, remove_stale};
use crate::progress::Event;
use crate::repository::copy::sum;
use crate::repository::directory::publish;
use crate::repository::lock::{BackupLock, LockError};
use crate::repository::sidecar::{SIDECAR_EXTENSION, Sidecar};
use crate::repository::upload::{UploadRequest, read_all, upload};
use crate::repository::{CompanionFile, Directory, Repository};
use crate::snapshot::error::CaptureError;
use crate::snapshot::{Capture, Captured, CreatedAt, ReadBack};

/// How often another name is tried.
const TRIES: u32 = 4;

#[derive(Clone, Copy, Debug)]
pub enum Destination<'r> {
    /// A backup dir, which is created if it is missing; the archive is written there.
    BackupDir(&'r Path),
    /// Not stored: the data dir is read and checked as for an archive.
    Nowhere,
    /// A repository, after the archive was written to an unnamed file in `spool` and verified
    /// there: a capture at the speed of a network would hold a running member's files open for long, and
    /// would have to start again when the connection is lost.
    Through {
        repository: &'r dyn Repository,
        /// A directory on a local disk.
        spool: &'r Path,
        cipher: Option<&'r dyn Cipher>,
    },
}

impl Destination<'_> {
    fn directories(&self) -> Vec<&Path> {
        match self {
            Self::BackupDir(dir) => vec![dir],
            Self::Nowhere => Vec::new(),
            Self::Through {
                repository, spool, ..
            } => repository.directory().into_iter().chain([*spool]).collect(),
        }
    }

    /// Refuses to write into the source.
    pub fn refuse_inside(&self, data_dir: &DataDir) -> Result<(), CaptureError> {
        let mut directories = self.directories().into_iter();
        directories.try_for_each(|dir| refuse_backup_inside(data_dir, dir))
    }
}

/// Refuses a backup dir inside the source: that would write to it, and `--all` would back it up.
pub fn refuse_backup_inside(data_dir: &DataDir, backup_dir: &Path) -> Result<(), CaptureError> {
    if is_inside(data_dir, backup_dir)? {
        return Err(CaptureError::BackupInside(backup_dir.to_path_buf()));
    }
    Ok(())
}

/// Whether what is written into `dir`, which need not exist yet, would be written into the source.
pub fn is_inside(data_dir: &DataDir, dir: &Path) -> io::Result<bool> {
    let Some(there) = dir.ancestors().find_map(|path| {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        fs::canonicalize(path).ok()
    }) else {
        return Ok(false);
    };
    data_dir.holds(&there)
}

pub fn spool_file(spool: &Path) -> io::Result<File> {
    tempfile::tempfile_in(spool).map_err(|error| with_path(error, "create a file in", spool))
}

impl Capture<'_> {
    pub(super) fn store(&mut self) -> Result<Captured, CaptureError> {
        match self.request.to {
            Destination::Nowhere => self.keep_nothing(),
            Destination::BackupDir(dir) => {
                self.put_in(&Directory::new(dir), |capture| capture.stage_in(dir))
            }
            Destination::Through {
                repository,
                spool,
                cipher,
            } => self.put_in(repository, |capture| {
                capture.pass_on(repository, spool, cipher)
            }),
        }
    }

    /// Captures with `take`, under the lock of `repository` if it is a directory and a lock is requested.
    fn put_in(
        &mut self,
        repository: &dyn Repository,
        take: impl FnMut(&mut Self) -> Result<Captured, CaptureError>,
    ) -> Result<Captured, CaptureError> {
        repository.prepare()?;
        let lock = repository.directory().map(|dir| self.lock(dir));
        let lock = lock.transpose()?.flatten();
        repository.directory().into_iter().for_each(remove_stale);
        let captured = self.retry_on_name_clash(take)?;
        Ok(Captured {
            alone: lock.is_none_or(|lock| lock.keeps_others_out()),
            ..captured
        })
    }

    /// Captures again with a later time while the name is taken: two captures of one member may
    /// start in the same millisecond.
    fn retry_on_name_clash(
        &mut self,
        mut take: impl FnMut(&mut Self) -> Result<Captured, CaptureError>,
    ) -> Result<Captured, CaptureError> {
        let mut attempt = 1;
        loop {
            self.created = self.request.created.read();
            let error = match take(self) {
                Err(error) if error.is_name_taken() && attempt < TRIES => error,
                taken => return taken,
            };
            if let CreatedAt::At(_) = self.request.created {
                return Err(error);
            }
            let reason = error.to_string();
            (self.observe)(Event::Again { attempt, reason });
            attempt += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Writes the archive under a staging name in a backup dir, reads it back, renames it.
    fn stage_in(&mut self, dir: &Path) -> Result<Captured, CaptureError> {
        let staged = StagedFile::create(dir)?;
        let (manifest, finished) =
            self.retry_until_consistent(Some((staged.file(), staged.path())))?;
        staged.sync_and_drop_cache()?;
        let proof = self.prove(&Archive::open(staged.path())?)?;
        let name = self.name(&manifest);
        let path = dir.join(&name);
        self.interrupt.check()?;
        publish(staged, &name, &[sum(&name, finished.sha256)])?;
        Ok(Captured {
            path,
            bytes: finished.bytes,
            sha256: finished.sha256,
            manifest,
            proof,
            alone: true,
        })
    }

    /// Captures without storing; returns the archive's name as its path.
    fn keep_nothing(&mut self) -> Result<Captured, CaptureError> {
        let (manifest, finished) = self.retry_until_consistent(None)?;
        Ok(Captured {
            path: PathBuf::from(self.name(&manifest)),
            bytes: finished.bytes,
            sha256: finished.sha256,
            manifest,
            proof: None,
            alone: true,
        })
    }

    /// Writes the archive to an unnamed file, reads it back, and puts it into `repository`.
    fn pass_on(
        &mut self,
        repository: &dyn Repository,
        spool: &Path,
        cipher: Option<&dyn Cipher>,
    ) -> Result<Captured, CaptureError> {
        let file = spool_file(spool)?;
        let (manifest, finished) = self.retry_until_consistent(Some((&file, spool)))?;
        let mut name = self.name(&manifest);
        let source: Arc<dyn Source> = Arc::new(FileSource::of(file)?);
        let archive = Archive::from_source(Arc::clone(&source), &spool.join(&name))?;
        let proof = self.prove(&archive)?;
        if cipher.is_some() {
            name += ENCRYPTED;
        }
        let interrupt = self.interrupt;
        let mut content =
            |out: &mut dyn Write| read_all(&*source, interrupt, &mut |bytes| out.write_all(bytes));
        let sidecar = |sha256, bytes| -> io::Result<CompanionFile> {
            let bytes = Sidecar::of(&manifest, bytes, sha256).write();
            Ok(CompanionFile {
                extension: SIDECAR_EXTENSION,
                bytes: bytes.map_err(io::Error::other)?,
            })
        };
        let deposited = upload(
            repository,
            &mut UploadRequest {
                name: &name,
                bytes: finished.bytes,
                write: &mut |out| match cipher {
                    Some(cipher) => cipher.pass(out, &mut content),
                    None => content(out),
                },
                sides: &|sha256, bytes| {
                    let sidecar = cipher.map(|_| sidecar(sha256, bytes)).transpose()?;
                    Ok(sidecar.into_iter().chain([sum(&name, sha256)]).collect())
                },
            },
            interrupt,
            self.observe,
        )?;
        Ok(Captured {
            path: repository.path_of(&name),
            bytes: deposited.bytes,
            sha256: deposited.sha256,
            manifest,
            proof,
            alone: true,
        })
    }

    fn lock(&self, dir: &Path) -> Result<Option<BackupLock>, LockError> {
        let claim = self.request.lock.as_ref();
        let lock = claim.map(|claim| BackupLock::take(dir, claim, self.interrupt));
        lock.transpose()
    }

    /// Reads back what this process has just written; for a rewind, as a member would.
    fn prove(&mut self, archive: &Archive) -> Result<Option<ReadBack>, CaptureError> {
        let made = self.made.as_ref();
        // Which servers start was found out while the same bytes were written.
        let pass = Pass {
            replay: made.and_then(|made| made.replay),
            trace: made.is_some(),
            ..Pass::CHECK
        };
        let digests = Digests::Unchecked;
        let threads = self.request.threads;
        let (interrupt, observe) = (self.interrupt, &mut *self.observe);
        let report = verify(archive, pass, digests, threads, interrupt, observe)?;
        match report.first_fault() {
            // The source is damaged; every byte of it is in the archive.
            None | Some(VerifyFault::Damaged(_)) => Ok(made.map(|_| ReadBack {
                store: report
                    .replay
                    .and_then(|outcome| Some(outcome.ok()?.store.fingerprint())),
                trace: report.trace.unwrap_or_default(),
                starts: self.starts.take(),
            })),
            Some(fault) => Err(CaptureError::ReadBack(fault)),
        }
    }
}
