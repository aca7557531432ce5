//! `--metrics-file`: the results of a run, for the textfile collector of Prometheus's node exporter.
//!
//! In: the results of the run and its end. Out: the file, replaced in one step after success and
//! failure alike. A run replaces the series for which it has new values and keeps the others: so
//! commands can share a file, and a failed run keeps the time of the last success.

pub(crate) mod prometheus;

use std::cell::{Cell, RefCell};
use std::io;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::archive::SUM_EXTENSION;
use crate::etcd::ids::Identity;
use crate::etcd::member::MemberFacts;
use crate::fs::auxiliary::{MOST_BUNDLE, read_small};
use crate::fs::error::{parent_of, with_path};
use crate::fs::staged::{STAGING_PREFIX, StagedFile, remove_stale};
use crate::repository::is_archive_name;
use crate::repository::sidecar::SIDECAR_EXTENSION;
use crate::snapshot::Captured;
use fs_err as fs;
use jiff::Timestamp;
use rustix::fs::FlockOperation;

use crate::cli::error::{CliError, Kind};
use crate::cli::metrics::prometheus::{Family, Series};

/// How often, and at what intervals, the lock of the file's directory is tried.
const LOCK_TRIES: (u32, Duration) = (20, Duration::from_millis(50));
/// The longest chain of symlinks that is followed.
const MOST_LINKS: usize = 8;
/// The file must be readable for the metrics collector.
const MODE: u32 = 0o644;

#[derive(Debug, clap::Args)]
pub(crate) struct MetricsFile {
    /// Write the result as a Prometheus textfile (*.prom)
    ///
    /// It is written after a failure, too. Several commands can write to one file, but for one member only.
    #[arg(long, value_name = "FILE", env = "ETCD_ARK_METRICS_FILE")]
    pub(crate) metrics_file: Option<PathBuf>,
}

pub(crate) struct Record {
    wanted: Option<(&'static str, PathBuf)>,
    begun: Instant,
    series: RefCell<Vec<Series>>,
    made_no_backup: Cell<bool>,
}

impl Record {
    /// Begins a run, with its name and its metrics file, if it has one.
    pub(crate) fn begin(wanted: Option<(&'static str, &Path)>) -> Self {
        Self {
            wanted: wanted.map(|(name, file)| (name, file.to_path_buf())),
            begun: Instant::now(),
            series: RefCell::default(),
            made_no_backup: Cell::default(),
        }
    }

    /// Records an archive that was made. One of a damaged data dir does not count as a backup, nor its run as a success.
    pub(crate) fn archive(&self, captured: &Captured) {
        let manifest = &captured.manifest;
        if manifest.damage.is_some() {
            self.made_no_backup.set(true);
            return;
        }
        let member = &manifest.member;
        let labels = labels(&member.identity);
        let add = |family, value| self.add(family, &labels, value);
        add(Family::ArchiveTime, seconds(manifest.created));
        add(Family::ArchiveBytes, captured.bytes as f64);
        add(Family::ArchiveIndex, member.position.index.0 as f64);
        let starts = u8::from(manifest.does_not_start.is_none());
        add(Family::ArchiveStarts, starts.into());
        add(Family::ArchiveWarnings, manifest.warnings.len() as f64);
        add(Family::DataSize, manifest.sizes.data as f64);
        add(Family::DataSizeLimit, manifest.sizes.limit as f64);
    }

    pub(crate) fn pruned(&self, kept: usize, removed: usize) {
        self.add(Family::Kept, &[], kept as f64);
        self.add(Family::Removed, &[], removed as f64);
    }

    /// Records a drill: a server had all that a backup of `created` holds.
    pub(crate) fn drilled(&self, member: &MemberFacts, created: Timestamp, keys: u64) {
        let labels = labels(&member.identity);
        self.add(Family::DrillTime, &labels, seconds(created));
        self.add(Family::DrillKeys, &labels, keys as f64);
    }

    fn add(&self, family: Family, labels: &[(&str, String)], value: f64) {
        let Some((command, _)) = &self.wanted else {
            return;
        };
        let series = Series::new(family, command, labels, value);
        self.series.borrow_mut().push(series);
    }

    /// Ends the run and writes its metrics; returns its end. If they cannot be written, the run
    /// has failed: monitoring would not notice that it sees old numbers.
    pub(crate) fn end(self, ended: Result<(), CliError>) -> Result<(), CliError> {
        let Some((command, file)) = &self.wanted else {
            return ended;
        };
        let now = seconds(crate::clock::now());
        let failure = ended.as_ref().err();
        let is_done = failure.is_none_or(|failure| failure.kind == Kind::Warned);
        let code = failure.map_or(0, |failure| failure.kind.exit_code());
        self.add(Family::RunTime, &[], now);
        if is_done && !self.made_no_backup.get() {
            self.add(Family::SuccessTime, &[], now);
        }
        self.add(Family::ExitCode, &[], f64::from(code));
        self.add(Family::Duration, &[], self.begun.elapsed().as_secs_f64());
        let Err(error) = update(file, command, self.series.take()) else {
            return ended;
        };
        let what = format!("its metrics could not be written: {error}");
        Err(match ended {
            Err(mut failure) if !is_done => {
                failure.message.extend(["; and ", &what]);
                failure
            }
            _ => Kind::Failed
                .error(format!("the {command} is done, but {what}"))
                .hint(hint(&error)),
        })
    }
}

fn labels(identity: &Identity) -> [(&'static str, String); 3] {
    [
        ("cluster_id", identity.cluster_id.to_string()),
        ("member_id", identity.member_id.to_string()),
        ("member", identity.name.clone().unwrap_or_default()),
    ]
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

#[derive(Debug, thiserror::Error)]
enum MetricsError {
    #[error("`{}` has a name that etcd-ark gives to files of its own", .0.display())]
    Ours(PathBuf),
    #[error("`{}` is not a regular file", .0.display())]
    NotAFile(PathBuf),
    #[error("`{}` was not written by etcd-ark (line {line}); it is not overwritten", file.display())]
    Foreign { file: PathBuf, line: usize },
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn hint(error: &MetricsError) -> &'static str {
    match error {
        MetricsError::NotAFile(_) | MetricsError::Ours(_) => {
            "pass a file of its own to --metrics-file"
        }
        MetricsError::Foreign { .. } => {
            "it was left as it is; move it away, or pass another --metrics-file"
        }
        MetricsError::Io(_) => {
            "the directory of --metrics-file must be there, and the current user must be able to write to it"
        }
    }
}

struct Update {
    file: PathBuf,
    dir: PathBuf,
    /// Held until the end: two commands that share the file must not lose each other's numbers.
    _lock: std::fs::File,
    old: Vec<Series>,
    staged: StagedFile,
}

impl Update {
    fn begin(file: &Path) -> Result<Self, MetricsError> {
        let file = at_its_end(file);
        if is_ours(&file) {
            return Err(MetricsError::Ours(file));
        }
        let dir = parent_of(&file);
        Ok(Self {
            _lock: lock(&dir)?,
            old: read(&file)?,
            staged: StagedFile::create(&dir)?,
            file,
            dir,
        })
    }

    fn write(&self, text: &str) -> Result<(), MetricsError> {
        let mut file = self.staged.file();
        let written = file.write_all(text.as_bytes());
        written.map_err(|error| with_path(error, "write", self.staged.path()))?;
        Ok(self.staged.sync()?)
    }
}

/// Bytes of the series that one run adds, at most.
const MOST_ADDED: usize = 8 << 10;

/// Fails if a run could not write `file` at its end; changes nothing.
pub(crate) fn try_out(file: &Path) -> Result<(), CliError> {
    let tried = Update::begin(file).and_then(|update| {
        let text = crate::cli::metrics::prometheus::write(&update.old);
        update.write(&(text + &"\n".repeat(MOST_ADDED)))
    });
    match tried {
        Ok(()) => Ok(()),
        Err(error) => Err(Kind::Failed.error(error.to_string()).hint(hint(&error))),
    }
}

/// Replaces in `file` the series with new values.
fn update(file: &Path, command: &str, new: Vec<Series>) -> Result<(), MetricsError> {
    let mut update = Update::begin(file)?;
    let is_new = |old: &Series| new.iter().any(|new| new.stands_for(old));
    let old = std::mem::take(&mut update.old).into_iter();
    let mut series: Vec<_> = old.filter(|old| !is_new(old)).collect();
    series.extend(new);
    let succeeded = |one: &Series| one.is(Family::SuccessTime, command);
    if !series.iter().any(succeeded) {
        // Without a number a rule about its age would be silent.
        series.push(Series::new(Family::SuccessTime, command, &[], 0.0));
    }
    remove_stale(&update.dir);
    let readable = std::fs::Permissions::from_mode(MODE);
    update.staged.file().set_permissions(readable)?;
    update.write(&crate::cli::metrics::prometheus::write(&series))?;
    let name = update.file.file_name().unwrap_or_default();
    update.staged.replace(name)?;
    Ok(())
}

/// The target of a symlink, even if it does not exist yet, so that the symlink stays. One of another account than
/// root and this one is not followed, but replaced: it could lead root anywhere.
fn at_its_end(file: &Path) -> PathBuf {
    let mut file = file.to_path_buf();
    let own = rustix::process::geteuid().as_raw();
    // In a cycle of symlinks the write will fail.
    for _ in 0..MOST_LINKS {
        if std::fs::symlink_metadata(&file).is_ok_and(|found| ![0, own].contains(&found.uid())) {
            return file;
        }
        let Ok(next) = std::fs::read_link(&file) else {
            break;
        };
        file = parent_of(&file).join(next);
    }
    fs::canonicalize(&file).unwrap_or(file)
}

/// Whether a file is a lock, an archive or a file beside one: an empty one would be replaced.
fn is_ours(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let sides = [SUM_EXTENSION, SIDECAR_EXTENSION].into_iter();
    let mut of = sides.filter_map(|side| name.strip_suffix(side));
    name.starts_with(STAGING_PREFIX) || is_archive_name(&name) || of.any(is_archive_name)
}

/// Locks a directory. Another program may hold its lock for other reasons: after a second
/// the run continues without it.
fn lock(dir: &Path) -> io::Result<std::fs::File> {
    let opened = std::fs::File::open(dir);
    let dir = opened.map_err(|error| with_path(error, "open the directory", dir))?;
    let (tries, pause) = LOCK_TRIES;
    for _ in 0..tries {
        match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(pause),
            _ => break,
        }
    }
    Ok(dir)
}

fn read(file: &Path) -> Result<Vec<Series>, MetricsError> {
    match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
        Ok(metadata) if !metadata.is_file() => {
            return Err(MetricsError::NotAFile(file.to_path_buf()));
        }
        Ok(_) => {}
    }
    let text = read_small(file, MOST_BUNDLE)?;
    crate::cli::metrics::prometheus::read(&String::from_utf8_lossy(&text)).map_err(|line| {
        MetricsError::Foreign {
            file: file.to_path_buf(),
            line,
        }
    })
}
