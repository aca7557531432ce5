//! The scheduled command line: its words, and the places that it reads and writes.
//!
//! In: the given flags, and those in the configuration file. Out: text for a unit and a crontab. What every run
//! would refuse is refused here, by the same checks.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::data_dir::{DataDir, DataDirError};
use crate::snapshot::destination::refuse_backup_inside;
use crate::snapshot::error::CaptureError;

use crate::cli::commands::schedule::flags::{SnapshotLine, Word};
use crate::cli::commands::schedule::paths::Place;
use crate::cli::commands::snapshot::Snapshot;
use crate::cli::encryption::cipher;
use crate::cli::error::{CliError, Result};
use crate::cli::location::Location;
use crate::cli::open::Opener;
use crate::cli::quote::plain;

/// URLs of buckets, which this run does not open because it may not have the credentials.
const BUCKETS: [&str; 3] = ["s3://", "gs://", "az://"];

#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) global: Vec<String>,
    pub(crate) flags: Vec<String>,
    pub(crate) reads: Vec<Place>,
    /// The backup dir; `None` if the archives go to a bucket.
    pub(crate) backups: Option<Place>,
    pub(crate) spool: Option<Place>,
    /// The directory of the metrics file, which other programs use too.
    pub(crate) metrics: Option<Place>,
}

impl Line {
    pub(crate) fn new(given: &SnapshotLine) -> Result<Self> {
        given.flags.iter().try_for_each(refuse_relative)?;
        let snapshot = &given.snapshot;
        let place = |path: Option<&Path>| path.map(Place::of).transpose();
        let reads = [
            Some(snapshot.data_dir.as_path()),
            snapshot.wal_dir.as_deref(),
        ]
        .into_iter();
        let reads = reads.chain(
            snapshot
                .to
                .recipients_file
                .iter()
                .map(|file| Some(file.as_path())),
        );
        let reads = reads.chain([given.config.as_deref()]);
        let reads = reads.filter_map(|path| place(path).transpose());
        let archives = snapshot.to.backup_dir.place()?;
        let metrics = snapshot.metrics.metrics_file.as_deref();
        let metrics = metrics.map(std::path::absolute).transpose()?;
        Ok(Self {
            global: words(&given.global)?,
            flags: words(&given.flags)?,
            reads: reads.collect::<Result<_>>()?,
            backups: place(archives.local())?,
            spool: place(snapshot.to.spool_dir.as_deref())?,
            metrics: place(metrics.as_deref().and_then(Path::parent))?,
        })
    }

    /// The places that it writes to or locks.
    pub(crate) fn writes(&self) -> impl Iterator<Item = &Place> {
        self.backups.iter().chain(&self.spool)
    }

    /// Refuses what `snapshot` would refuse every time; returns warnings.
    pub(crate) fn check(&self, snapshot: &Snapshot, places: &Opener<'_>) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        if snapshot.keep.wanted()?.is_none() {
            warnings.push(
                "without any of `--keep-last` and the like nothing is ever removed: the archives fill the disk in time"
                    .to_owned(),
            );
        }
        cipher(&snapshot.to.recipient, &snapshot.to.recipients_file)?;
        let archives = snapshot.to.backup_dir.place()?;
        let is_known = |url: &str| BUCKETS.iter().any(|scheme| url.starts_with(scheme));
        match archives {
            Location::Url(url) if cfg!(feature = "object-store") && is_known(url) => {}
            archives => drop(places.repository(archives)?),
        }
        let source = Place::of(&snapshot.data_dir)?;
        match DataDir::open(&snapshot.data_dir, snapshot.wal_dir.as_deref()) {
            Ok(data_dir) => {
                for dir in self.writes() {
                    refuse_backup_inside(&data_dir, Path::new(&dir.real))?;
                }
            }
            Err(error) => {
                let is_inside = |dir: &&Place| Path::new(&dir.real).starts_with(&source.real);
                if let Some(dir) = self.writes().find(is_inside) {
                    return Err(CaptureError::BackupInside(PathBuf::from(&dir.named)).into());
                }
                // A user without access to it may still schedule snapshots for another user.
                let is_hidden = matches!(&error, DataDirError::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied);
                if !is_hidden {
                    warnings.push(format!("every scheduled run would fail: {error}"));
                }
            }
        }
        Ok(warnings)
    }
}

/// Refuses a relative path in the file: every run reads it again, from another working directory.
fn refuse_relative(word: &Word) -> Result<()> {
    let path = word
        .value
        .as_ref()
        .filter(|_| word.is_of_file && word.is_path);
    let path = path.and_then(|path| local(path));
    match path.filter(|path| path.is_relative()) {
        None => Ok(()),
        Some(path) => {
            Err(CliError::usage(format!(
                    "the configuration file sets `{}` to `{}`, which is somewhere else for a run that is started by systemd or cron",
                    word.flag,
                    path.display()
                )).hint("write it there as a path that begins with /"))
        }
    }
}

/// The words to write; without the file's.
fn words(words: &[Word]) -> Result<Vec<String>> {
    let typed = words.iter().filter(|word| !word.is_of_file);
    let texts = typed.map(|word| {
        let Some(value) = &word.value else {
            return Ok(format!("--{}", word.flag));
        };
        let path = word.is_path.then(|| local(value)).flatten();
        let value = match path {
            // An empty name is not a path: it means no configuration file.
            Some(path) if !path.as_os_str().is_empty() => in_place_of(value, &path)?,
            _ => plain(value)?.to_owned(),
        };
        Ok(format!("--{}={value}", word.flag))
    });
    texts.collect()
}

/// `value`, which contains `path`, for any working directory.
fn in_place_of(value: &OsString, path: &Path) -> Result<String> {
    let named = Place::of(path)?.named;
    let is_url = value != path.as_os_str();
    Ok(if is_url {
        format!("file://{named}")
    } else {
        named
    })
}

/// The local path, unless it is a bucket.
fn local(value: &OsStr) -> Option<PathBuf> {
    match Location::from(PathBuf::from(value)) {
        Location::Path(path) => Some(path),
        Location::Url(_) => None,
    }
}
