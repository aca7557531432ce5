//! What a failure is called, which exit code it has and what to do about it: the one place
//! where that is decided.

pub(crate) mod access;
pub(crate) mod repository;
pub(crate) mod rewind;

use std::error::Error;
use std::io;
use std::path::Path;

use crate::archive::format::TailFault;
use crate::archive::manifest::ManifestFault;
use crate::archive::{ArchiveError, ArchiveFault};
use crate::cluster::AccessError;
use crate::data_dir::DataDirError;
use crate::data_dir::scan::SurveyError;
use crate::drill::DrillError;
use crate::etcd::replay::ReplayFault;
use crate::etcd::text::printable;
use crate::fs::space::SpaceError;
use crate::fs::staged::cause_of;
use crate::interrupt::Interrupted;
use crate::monitoring::Level;
use crate::repository::RepositoryError;
use crate::repository::copy::CopyError;
use crate::repository::lock::LockError;
use crate::restore::RestoreError;
use crate::restore::replaced::ReplacedError;
use crate::restore::stale_member::StaleMemberError;
use crate::retention::EmptyPolicy;
use crate::rewind::RewindError;
use crate::snapshot::CaptureError;
use crate::target::StoreError;
use crate::upgrade::downgrade::collect::CollectError;
use crate::upgrade::downgrade::move_wal::MoveError;
use crate::upgrade::downgrade::prepare::PrepareError;

pub(crate) use crate::cli::error::repository::of_keys;

#[cfg(feature = "encryption")]
use crate::cli::error::repository::of_encryption;
use crate::cli::error::repository::{of_bucket, of_bucket_url, of_copy, of_deposit};
use crate::cli::error::repository::{of_key, of_repository};

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Failed,
    Usage,
    Refused,
    Corrupt,
    NotFound,
    Busy,
    NoSpace,
    /// By SIGHUP: the terminal is gone, as with its ssh.
    HungUp,
    /// By SIGINT, or Ctrl-C at a question.
    Interrupted,
    /// By SIGTERM.
    Terminated,
}

/// The signals that stop a run, and what it then ends with: 128 and the signal's number, as a shell
/// has it.
pub(crate) const SIGNALS: [(i32, Kind); 3] = [
    (signal_hook::consts::SIGHUP, Kind::HungUp),
    (signal_hook::consts::SIGINT, Kind::Interrupted),
    (signal_hook::consts::SIGTERM, Kind::Terminated),
];

impl Kind {
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Corrupt => 4,
            Self::NotFound => 10,
            Self::Busy => 11,
            Self::NoSpace => 12,
            Self::HungUp => 129,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::Corrupt => "corrupt",
            Self::NotFound => "not-found",
            Self::Busy => "busy",
            Self::NoSpace => "no-space",
            Self::HungUp => "hung-up",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
        }
    }
}

/// The exit code of `status`, which is a plugin of Nagios: its codes are that one's.
pub(crate) fn plugin_exit_code(level: Level) -> u8 {
    match level {
        Level::Ok => 0,
        Level::Warning => 1,
        Level::Critical => 2,
        Level::Unknown => 3,
    }
}

/// A failure as it is told.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// A failure that a command itself finds, with its kind and hint.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Told {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) hint: Option<&'static str>,
}

pub(crate) type Judged = (Kind, Option<&'static str>);

/// What to do where something may not be opened, if no one knows whose it is.
const DENIED: &str = "run it as its owner, or as root";

impl Failure {
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        Self::told(error, judge(error))
    }

    /// An error with its kind and hint.
    pub(crate) fn told(error: &anyhow::Error, (kind, hint): Judged) -> Self {
        let mut message = String::new();
        for cause in error.chain() {
            let text = cause.to_string();
            if message.is_empty() {
                message = text;
            } else if !message.ends_with(&text) {
                message += ": ";
                message += &text;
            }
        }
        let hint = match hint {
            Some(DENIED) => Some(crate::cli::error::access::hint(&message)),
            hint => hint.map(str::to_owned),
        };
        Self {
            kind,
            // Names of files come from whoever made them.
            message: printable(&message),
            hint,
        }
    }

    /// The same, of a run that writes into `spool` first: it can be told to write elsewhere.
    pub(crate) fn of_spool(mut self, spool: Option<&Path>) -> Self {
        let place = crate::cli::error::access::quoted(&self.message);
        let is_there = |spool| place.is_some_and(|at| at == spool || at.parent() == Some(spool));
        if self.kind == Kind::NoSpace && spool.is_some_and(is_there) {
            let hint = "make room there, or pass a `--spool-dir` on another disk; nothing was kept and nothing was lost";
            self.hint = Some(hint.to_owned());
        }
        self
    }

    /// The same, of a run that `signal` asked to stop: work that stops does not know which it was.
    pub(crate) fn stopped_by(mut self, signal: Option<usize>) -> Self {
        let stopped = SIGNALS
            .into_iter()
            .find(|(number, _)| Some(number.cast_unsigned() as usize) == signal);
        if let (Kind::Interrupted, Some((_, kind))) = (self.kind, stopped) {
            self.kind = kind;
        }
        self
    }

    pub(crate) fn to_json(&self) -> String {
        crate::cli::json::line(&serde_json::json!({
            "code": self.kind.exit_code(),
            "kind": self.kind.name(),
            "message": self.message,
            "hint": self.hint,
        }))
    }
}

fn judge(error: &anyhow::Error) -> Judged {
    if let Some(told) = error.downcast_ref::<Told>() {
        (told.kind, told.hint)
    } else if let Some(error) = error.downcast_ref::<CaptureError>() {
        of_capture(error)
    } else if let Some(error) = error.downcast_ref::<RestoreError>() {
        of_restore(error)
    } else if let Some(error) = error.downcast_ref::<DrillError>() {
        of_drill(error)
    } else if let Some(error) = error.downcast_ref::<SurveyError>() {
        of_survey(error)
    } else if let Some(error) = error.downcast_ref::<StoreError>() {
        of_store(error)
    } else if let Some(error) = error.downcast_ref::<CollectError>() {
        of_collect(error)
    } else if let Some(error) = error.downcast_ref::<PrepareError>() {
        of_prepare(error)
    } else if error.is::<Interrupted>() {
        (Kind::Interrupted, None)
    } else if let Some(error) = error.downcast_ref::<ArchiveError>() {
        of_archive(error)
    } else if error.is::<EmptyPolicy>() {
        (
            Kind::Usage,
            Some(
                "pass any of --keep-last, -hourly, -daily, -weekly, -monthly, -yearly and -within",
            ),
        )
    } else if let Some(error) = error.downcast_ref::<CopyError>() {
        of_copy(error)
    } else if let Some(judged) = of_bucket_url(error).or_else(|| of_key(error)) {
        judged
    } else if let Some(error) = error.downcast_ref::<RepositoryError>() {
        of_repository(error)
    } else if let Some(error) = error.downcast_ref::<LockError>() {
        of_lock(error)
    } else if let Some(error) = error.downcast_ref::<DataDirError>() {
        of_data_dir(error)
    } else if let Some(error) = error.downcast_ref::<RewindError>() {
        rewind::of_rewind(error)
    } else if let Some(error) = error.downcast_ref::<StaleMemberError>() {
        of_stale_member(error)
    } else if let Some(error) = error.downcast_ref::<ReplacedError>() {
        of_replaced(error)
    } else if let Some(error) = error.downcast_ref::<AccessError>() {
        of_access(error)
    } else if let Some(error) = error.downcast_ref::<io::Error>() {
        of_io(error)
    } else {
        (Kind::Failed, None)
    }
}

fn of_capture(error: &CaptureError) -> Judged {
    match error {
        CaptureError::DataDir(error) => of_data_dir(error),
        CaptureError::Archive(error) => of_archive(error),
        CaptureError::Deposit(error) => of_deposit(error),
        CaptureError::Io(error) => of_io(error),
        CaptureError::Interrupted(_) => (Kind::Interrupted, None),
        CaptureError::Running(_) | CaptureError::DbChanged => (
            Kind::Busy,
            Some(
                "stop this member first, or use `ETCDCTL_API=3 etcdctl snapshot save FILE` while it runs",
            ),
        ),
        CaptureError::Source { .. } | CaptureError::Db(_) => (
            Kind::Corrupt,
            Some(
                "`etcd-ark verify` on the data dir shows all that is corrupt, and `snapshot --damaged` saves it as it is; this member's disk needs a look, and the other members' data are the better copy",
            ),
        ),
        CaptureError::Start(_) => (
            Kind::Corrupt,
            Some(
                "etcd cannot start from this directory as it is; save it with `snapshot --damaged` before you repair it, and back up the other members",
            ),
        ),
        CaptureError::RunningOnDamaged(_) => (
            Kind::Busy,
            Some("stop etcd on this member first, or leave out --damaged"),
        ),
        CaptureError::NotDamaged => (
            Kind::Refused,
            Some("leave out --damaged: an ordinary archive counts as a backup"),
        ),
        CaptureError::NothingToSave(_) => (
            Kind::NotFound,
            Some("pass the data dir that etcd was started with; is its disk mounted?"),
        ),
        CaptureError::Unsettled(_) => (
            Kind::Failed,
            Some(
                "the member may be receiving a snapshot from its leader; run this again in a minute",
            ),
        ),
        CaptureError::Lock(error) => of_lock(error),
        CaptureError::BackupInside(_) => (
            Kind::Refused,
            Some("pass a --backup-dir elsewhere, best on another disk"),
        ),
        CaptureError::ReadBack(_) => (
            Kind::Corrupt,
            Some(
                "the disk of the backup dir returned other bytes than were written to it; nothing was kept, use another disk",
            ),
        ),
        CaptureError::Vanished(_) => (
            Kind::Failed,
            Some(
                "files went away faster than they could be opened; is something else cleaning up the data dir?",
            ),
        ),
    }
}

fn of_drill(error: &DrillError) -> Judged {
    match error {
        DrillError::NoBinary(_) => (
            Kind::NotFound,
            Some("pass the path of an etcd of the release that the backup is for to --etcd"),
        ),
        DrillError::NotEtcd(_) => (Kind::Failed, Some("pass the path of an etcd to --etcd")),
        DrillError::DoesNotStart { .. } => (
            Kind::Corrupt,
            Some(
                "is it an etcd of the release that the backup is for? `etcd-ark verify` says which releases start from it",
            ),
        ),
        DrillError::Capture(error) => of_capture(error),
        DrillError::Archive(error) => of_archive(error),
        DrillError::Restore(error) => of_restore(error),
        DrillError::Store(error) => of_store(error),
        DrillError::Io(error) => of_io(error),
        DrillError::Interrupted(_) => (Kind::Interrupted, None),
    }
}

fn of_lock(error: &LockError) -> Judged {
    match error {
        LockError::Busy { waited: false, .. } => (
            Kind::Busy,
            Some(
                "run it again when that run is over; `snapshot`, `prune` and `copy` wait for it with `--lock-wait 10m`",
            ),
        ),
        LockError::Busy { waited: true, .. } => (
            Kind::Busy,
            Some(
                "it did not end in time; run it again when it is over, or with a longer `--lock-wait`",
            ),
        ),
        LockError::Io(error) => of_io(error),
        LockError::Interrupted(_) => (Kind::Interrupted, None),
    }
}

fn of_restore(error: &RestoreError) -> Judged {
    match error {
        RestoreError::Archive(error) => of_archive(error),
        RestoreError::Io(error) => of_io(error),
        RestoreError::Interrupted(_) => (Kind::Interrupted, Some("nothing was changed")),
        RestoreError::Unsound { .. } => (
            Kind::Corrupt,
            Some("nothing was changed; restore another archive, `etcd-ark list` shows them"),
        ),
        RestoreError::Damaged { .. } => (
            Kind::Refused,
            Some(
                "nothing was changed; restore a backup, `etcd-ark list` shows them, or pass --damaged to get the damaged files back",
            ),
        ),
        RestoreError::DoesNotStart { .. } => (
            Kind::Refused,
            Some(
                "nothing was changed; restore another archive, `etcd-ark list` shows them, or pass --damaged to get the files back as they are",
            ),
        ),
        RestoreError::Running(_) => (
            Kind::Busy,
            Some("stop etcd first, and keep it stopped: `systemctl mask --now etcd`"),
        ),
        RestoreError::MemberExists(_) | RestoreError::SegmentsExist(_) => (
            Kind::Refused,
            Some(
                "nothing was changed; `--replace` exchanges it with the restored one and keeps it under another name",
            ),
        ),
        RestoreError::WalElsewhere(_) => (
            Kind::Refused,
            Some("nothing was changed; pass the `--wal-dir` that etcd is started with"),
        ),
        RestoreError::NotExchangeable { .. }
        | RestoreError::CannotExchange(_)
        | RestoreError::NotForAMember(_) => (
            Kind::Refused,
            Some(
                "nothing was changed; restore into a new data dir and point etcd's `--data-dir` there",
            ),
        ),
        RestoreError::CannotBeMade(_) => (Kind::NotFound, Some("make that directory first")),
        RestoreError::NotADirectory(_) => (Kind::Failed, None),
        RestoreError::Space(error) => of_space(
            error,
            "nothing was changed; make room, or restore into a data dir on another disk",
        ),
    }
}

fn of_space(error: &SpaceError, hint: &'static str) -> Judged {
    match error {
        SpaceError::NoRoom { .. } => (Kind::NoSpace, Some(hint)),
        SpaceError::Io(error) => of_io(error),
    }
}

fn of_stale_member(error: &StaleMemberError) -> Judged {
    let hint = match error {
        StaleMemberError::ClusterRuns { .. } => {
            "nothing was changed; keep this member's present data if they are intact, else `etcd-ark rewind` takes the whole cluster back together; for a drill, `rewind --single` makes a cluster with an id of its own; `--allow-stale-member` restores all the same"
        }
        StaleMemberError::OldClusterRuns { .. } => {
            "nothing was changed; stop every member of the old cluster for good before any of the rewound one starts; `--offline` vouches that they cannot meet"
        }
        StaleMemberError::RewoundClusterRuns { .. } => {
            "nothing was changed; a member that has started in the rewound cluster keeps its data. Only for a member that never started there: `--allow-stale-member`"
        }
        StaleMemberError::CannotBeAsked { rewound: false, .. } => {
            "nothing was changed; `--cacert`, `--cert` and `--key` may help to ask; if you know that no member of this cluster runs, `--offline` asks no member"
        }
        StaleMemberError::CannotBeAsked { rewound: true, .. } => {
            "nothing was changed; `--cacert`, `--cert` and `--key` may help to ask; if you know that no member of the old cluster runs, `--offline` asks no member"
        }
    };
    (Kind::Refused, Some(hint))
}

fn of_replaced(error: &ReplacedError) -> Judged {
    let hint = match error {
        ReplacedError::OtherMember { .. } => {
            "nothing was changed; choose the archive of this data dir's member. Only if this machine is to become the other member: `--change-member`"
        }
        ReplacedError::HasRun { .. } => {
            "nothing was changed; leave this member as it is, it is part of the rewound cluster. To give up its writes all the same: `--allow-stale-member`"
        }
    };
    (Kind::Refused, Some(hint))
}

fn of_survey(error: &SurveyError) -> Judged {
    match error {
        SurveyError::DataDir(error) => of_data_dir(error),
        SurveyError::Io(error) => of_io(error),
        SurveyError::Interrupted(_) => (Kind::Interrupted, None),
    }
}

fn of_store(error: &StoreError) -> Judged {
    match error {
        StoreError::Survey(error) => of_survey(error),
        StoreError::Archive(error) => of_archive(error),
        StoreError::Unsound { .. } => (
            Kind::Corrupt,
            Some("`etcd-ark verify` shows all that is corrupt; use another archive or member"),
        ),
        StoreError::Start { .. } => (
            Kind::Corrupt,
            Some("etcd could not start from it either; use another archive or member"),
        ),
        StoreError::Replay { fault, .. } => match fault {
            ReplayFault::NoStart { .. } | ReplayFault::Hole { .. } => (
                Kind::NotFound,
                Some(
                    "`etcd-ark inspect` shows from which index on there is a raft snapshot with its log; an archive made with --all, or an older one, reaches further back",
                ),
            ),
            ReplayFault::Beyond { .. } => (
                Kind::NotFound,
                Some(
                    "`etcd-ark inspect` shows how far the log goes; a later archive, or another member, may go further",
                ),
            ),
            ReplayFault::Uncommitted { .. } => (
                Kind::Refused,
                Some("`--pending` applies it all the same; it may still be replaced"),
            ),
            ReplayFault::TooManyMembers(_) => (
                Kind::Corrupt,
                Some(
                    "no cluster has that many; the checksums are right, so another program wrote it",
                ),
            ),
            ReplayFault::Unreadable(_) => (
                Kind::Corrupt,
                Some(
                    "etcd panics on such an entry; its bytes check, so a later release or another program wrote it",
                ),
            ),
        },
    }
}

fn of_collect(error: &CollectError) -> Judged {
    match error {
        CollectError::Store(error) => of_store(error),
        CollectError::OtherCluster { .. } => (
            Kind::Refused,
            Some("pass the data dir, the archives and the endpoints of one cluster"),
        ),
        CollectError::NotAMember { .. } => (
            Kind::Refused,
            Some(
                "a removed member does not come back with its old data; look at the others' data dirs instead",
            ),
        ),
    }
}

fn of_prepare(error: &PrepareError) -> Judged {
    match error {
        PrepareError::Running(_) => (
            Kind::Busy,
            Some("stop etcd first, and keep it stopped: `systemctl mask --now etcd`"),
        ),
        PrepareError::Capture(error) => of_capture(error),
        PrepareError::Store(error) => of_store(error),
        PrepareError::Move(error) => of_move(error),
        PrepareError::Io(error) => of_io(error),
        PrepareError::Interrupted(_) => (Kind::Interrupted, None),
    }
}

fn of_move(error: &MoveError) -> Judged {
    match error {
        MoveError::DataDir(error) => of_data_dir(error),
        MoveError::Survey(error) => of_survey(error),
        MoveError::Running(_) => (
            Kind::Busy,
            Some("stop etcd first, and keep it stopped: `systemctl mask --now etcd`"),
        ),
        MoveError::InTheWay(_) => (
            Kind::Refused,
            Some(
                "nothing was changed; see what is in it, and move it away if etcd does not need it",
            ),
        ),
        MoveError::Space(error) => of_space(
            error,
            "nothing was moved; make room for a second copy of the segments",
        ),
        MoveError::ReadBack(_) => (
            Kind::Corrupt,
            Some(
                "the disk returned other bytes than were written to it; the segments are where they were",
            ),
        ),
        MoveError::Io(error) => {
            let (kind, hint) = of_io(error);
            (
                kind,
                hint.or(Some(
                    "run it again: whatever step it died at, it goes on from there",
                )),
            )
        }
        MoveError::Interrupted(_) => (Kind::Interrupted, Some("run it again to go on")),
    }
}

pub(crate) fn of_archive(error: &ArchiveError) -> Judged {
    match error {
        ArchiveError::NotFound(_) => (
            Kind::NotFound,
            Some("`etcd-ark list BACKUP_DIR` shows the archives there are"),
        ),
        ArchiveError::Io(error) => of_io(error),
        ArchiveError::Interrupted(_) => (Kind::Interrupted, None),
        ArchiveError::Fault { fault, .. } => match fault {
            ArchiveFault::Tail(TailFault::LaterSeal(_))
            | ArchiveFault::Manifest(ManifestFault::LaterFormat { .. }) => (
                Kind::Refused,
                Some("use the release of etcd-ark that wrote it, or a later one"),
            ),
            #[cfg(feature = "encryption")]
            ArchiveFault::Encryption(fault) => of_encryption(fault),
            ArchiveFault::Sidecar(_) | ArchiveFault::Ciphertext => (
                Kind::Corrupt,
                Some(
                    "the archive inside may be whole all the same: with its key, `etcd-ark verify -i KEY` tells, once the `.json` beside it is moved away",
                ),
            ),
            ArchiveFault::NoEncryption => (
                Kind::Usage,
                Some("use a build with the feature `encryption`, which is on by default"),
            ),
            _ => (
                Kind::Corrupt,
                Some(
                    "do not rely on it; `etcd-ark list` shows the other archives, and `etcd-ark verify` what each is worth",
                ),
            ),
        },
    }
}

fn of_data_dir(error: &DataDirError) -> Judged {
    match error {
        DataDirError::Io(error) => of_io(error),
        DataDirError::NotFound(_) => (
            Kind::NotFound,
            Some(
                "pass the directory that etcd was started with, `--data-dir`; without that flag it is `NAME.etcd` in etcd's working directory",
            ),
        ),
        DataDirError::NotADirectory(_) | DataDirError::Foreign { .. } => (
            Kind::NotFound,
            Some(
                "pass the directory that etcd was started with; it has a `member` directory in it",
            ),
        ),
        DataDirError::Empty(_) => (
            Kind::NotFound,
            Some("this member has not started yet, or its data are on a disk that is not mounted"),
        ),
        DataDirError::Proxy(_) => (
            Kind::NotFound,
            Some("there is nothing to back up on a proxy; run this on the members"),
        ),
        DataDirError::Version04(_) => (
            Kind::NotFound,
            Some("start it once with etcd 2.0, which moves the data to its own format"),
        ),
        DataDirError::NoWal(_) | DataDirError::NoSegments(_) => (
            Kind::NotFound,
            Some("if etcd runs with `--wal-dir`, pass the same here"),
        ),
        DataDirError::TwoWals { .. } => (
            Kind::Refused,
            Some(
                "find out which one etcd was started with; leave `--wal-dir` out if it is the one in the data dir",
            ),
        ),
        DataDirError::SegmentGap { .. } | DataDirError::BeginsLate { .. } => (
            Kind::Corrupt,
            Some("etcd cannot start from this; were files removed by hand?"),
        ),
        DataDirError::NotAFile { .. } => (
            Kind::Corrupt,
            Some(
                "etcd cannot start from this; is another disk not mounted, or were files moved by hand?",
            ),
        ),
        DataDirError::ForeignLink(_) => (
            Kind::Refused,
            Some(
                "give what it leads to to the owner of the data dir, or name a dedicated WAL dir with `--wal-dir`",
            ),
        ),
    }
}

fn of_access(error: &AccessError) -> Judged {
    match error {
        AccessError::Pem { .. } => (
            Kind::Usage,
            Some("`--cacert`, `--cert` and `--key` each name a PEM file, as for etcdctl"),
        ),
        AccessError::KeyMismatch { .. } => (
            Kind::Usage,
            Some("pass with `--key` the key that the certificate of `--cert` was made for"),
        ),
        AccessError::Key { .. } => (
            Kind::Usage,
            Some(
                "pass a client certificate with an RSA key of 2048 bits or more, or with an ECDSA key, of the same authority",
            ),
        ),
        AccessError::Tls(_) => (Kind::Failed, None),
        AccessError::Endpoint(_) => (
            Kind::Usage,
            Some(
                "an endpoint is a member's client URL without a path, such as http://10.0.1.10:2379",
            ),
        ),
        AccessError::Io(error) => of_io(error),
    }
}

pub(crate) fn of_io(error: &io::Error) -> Judged {
    let error = cause_of(error);
    if error.get_ref().is_some_and(|inner| {
        inner.is::<Interrupted>() || inner.source().is_some_and(<dyn Error>::is::<Interrupted>)
    }) {
        return (Kind::Interrupted, None);
    }
    if let Some(judged) = of_bucket(error) {
        return judged;
    }
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
            Kind::NoSpace,
            Some("make room and run it again; nothing was kept and nothing was lost"),
        ),
        io::ErrorKind::FileTooLarge => (
            Kind::NoSpace,
            Some(
                "raise the limit on the size of files (`ulimit -f`, `LimitFSIZE=` in a unit) and run it again; nothing was kept and nothing was lost",
            ),
        ),
        io::ErrorKind::NotFound => (Kind::NotFound, None),
        // Such as a chunk of an encrypted archive that does not authenticate.
        io::ErrorKind::InvalidData => (
            Kind::Corrupt,
            Some("do not rely on it; `etcd-ark list` shows the other archives"),
        ),
        io::ErrorKind::PermissionDenied => (Kind::Failed, Some(DENIED)),
        io::ErrorKind::ReadOnlyFilesystem => {
            (Kind::Failed, Some("that filesystem is mounted read-only"))
        }
        _ => (Kind::Failed, None),
    }
}
