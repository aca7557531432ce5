//! Errors of a capture.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::ArchiveError;
use crate::archive::verify::VerifyFault;
use crate::data_dir::start::StartBeside;
use crate::data_dir::{DataDir, DataDirError, DbFault, Running};
use crate::etcd::member::StartFault;
use crate::etcd::scan::FileFault;
use crate::etcd::start::those_that_start;
use crate::fs::error::with_path;
use crate::interrupt::Interrupted;
use crate::repository::lock::LockError;
use crate::repository::upload::UploadError;

#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("etcd 3.x runs on this data dir (`{}` is locked), and its `snap/db` cannot be copied while it is written to", .0.file.display())]
    Running(Running),
    #[error("`snap/db` changed while it was copied: a server is writing to it")]
    DbChanged,
    #[error(transparent)]
    Db(#[from] DbFault),
    #[error("`{path}` is corrupt{}", also.as_ref().map(|also| format!(" ({also})")).unwrap_or_default())]
    Source {
        path: PathBuf,
        /// Which servers start from the data dir in spite of it, if any.
        also: Option<String>,
        #[source]
        fault: FileFault,
    },
    #[error("etcd could not start from this data dir")]
    Start(#[from] StartFault),
    #[error("etcd runs on this data dir (`{}` is locked): files that are being written to cannot be told from damaged ones", .0.file.display())]
    RunningOnDamaged(Running),
    #[error(
        "no file of this data dir is damaged: an ordinary snapshot saves all that etcd would read"
    )]
    NotDamaged,
    #[error("there is no file in `{0}` that can be read")]
    NothingToSave(PathBuf),
    #[error("the data dir is changing (etcd is running); no consistent state found yet")]
    Unsettled(#[source] StartFault),
    #[error("the backup dir `{0}` is inside the data dir, which is only read")]
    BackupInside(PathBuf),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("`{0}` vanished while it was being captured")]
    Vanished(PathBuf),
    #[error("the archive does not read back from the disk as it was written")]
    ReadBack(#[source] VerifyFault),
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

pub(super) fn with_cause(error: &CaptureError) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

impl CaptureError {
    /// Adds the path of the archive to an error without a path; `fs_err` adds that of a source file.
    pub(super) fn written_to(self, path: &Path) -> Self {
        match self {
            Self::Io(error) if error.raw_os_error().is_some() => {
                Self::Io(with_path(error, "write", path))
            }
            other => other,
        }
    }

    pub(super) fn is_name_taken(&self) -> bool {
        let (Self::Io(error) | Self::Upload(UploadError::Io(error))) = self else {
            return false;
        };
        error.kind() == io::ErrorKind::AlreadyExists
    }

    /// Whether the error may go away shortly, because etcd is writing.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Source { .. } | Self::Start(_) | Self::Vanished(_) => true,
            Self::DataDir(error) => matches!(
                error,
                DataDirError::BeginsLate { .. } | DataDirError::SegmentGap { .. }
            ),
            _ => false,
        }
    }

    /// Adds the servers that start from the data dir: a server may start from corrupt data,
    /// and the user should know both.
    pub(super) fn with_those_that_start(self, data_dir: &DataDir) -> Self {
        let Self::Source { path, fault, .. } = self else {
            return self;
        };
        let starts = StartBeside::new(data_dir).and_then(|(scan, beside)| beside.finish(scan));
        let also = starts.ok().as_ref().and_then(those_that_start);
        Self::Source { path, also, fault }
    }
}
