//! The message, exit code and hint of a failure.
//!
//! In: an error of the library, with its [`Judge`] implementation in one of these files, or a command's own message.
//! Out: a [`CliError`]. A library error without a `Judge` cannot become one.

pub(crate) mod access;
#[cfg(feature = "object-store")]
pub(crate) mod bucket;
#[cfg(feature = "encryption")]
pub(crate) mod encryption;
pub(crate) mod member;
pub(crate) mod repository;
pub(crate) mod restore;
pub(crate) mod rewind;
pub(crate) mod upgrade;

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use crate::etcd::text::printable;
use crate::fs::auxiliary::NotAFile;
use crate::fs::dir::ForeignLink;
use crate::fs::error::{cause_of, path_of};
use crate::fs::space::SpaceError;
use crate::interrupt::Interrupted;
use crate::monitoring::Level;
#[cfg(feature = "object-store")]
use crate::repository::bucket::BucketFault;
use crate::retention::EmptyPolicy;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Failed,
    /// `diff` found a difference.
    Different,
    /// Done, but with warnings under `--strict`.
    Warned,
    /// The result of `status`, with the exit code of a Nagios plugin.
    Backups(Level),
    Usage,
    Refused,
    Corrupt,
    NotFound,
    Busy,
    NoSpace,
    /// By SIGHUP: the terminal is gone, as after a lost ssh connection.
    HungUp,
    /// By SIGINT, or Ctrl-C at a prompt.
    Interrupted,
    Terminated,
}

/// The signals that stop a run, and the exit codes: 128 plus the signal's number, as in a
/// shell.
pub(crate) const SIGNALS: [(i32, Kind); 3] = [
    (signal_hook::consts::SIGHUP, Kind::HungUp),
    (signal_hook::consts::SIGINT, Kind::Interrupted),
    (signal_hook::consts::SIGTERM, Kind::Terminated),
];

impl Kind {
    /// Its exit code, and its name in JSON.
    fn code_and_name(self) -> (u8, &'static str) {
        match self {
            Self::Failed => (1, "failed"),
            Self::Different => (1, "different"),
            Self::Warned => (5, "warnings"),
            Self::Backups(Level::Ok) => (0, "ok"),
            Self::Backups(Level::Warning) => (1, "warning"),
            Self::Backups(Level::Critical) => (2, "critical"),
            Self::Backups(Level::Unknown) => (3, "unknown"),
            Self::Usage => (2, "usage"),
            Self::Refused => (3, "refused"),
            Self::Corrupt => (4, "corrupt"),
            Self::NotFound => (10, "not-found"),
            Self::Busy => (11, "busy"),
            Self::NoSpace => (12, "no-space"),
            Self::HungUp => (129, "hung-up"),
            Self::Interrupted => (130, "interrupted"),
            Self::Terminated => (143, "terminated"),
        }
    }

    pub(crate) fn exit_code(self) -> u8 {
        self.code_and_name().0
    }

    pub(crate) fn name(self) -> &'static str {
        self.code_and_name().1
    }

    pub(crate) fn error(self, message: impl Into<String>) -> CliError {
        CliError {
            kind: self,
            message: message.into(),
            hint: None,
            path: None,
            target: None,
            lacks_key: false,
        }
    }

    /// A failure without a message, and what to do about it.
    fn advice(self, hint: impl Into<Cow<'static, str>>) -> CliError {
        self.error("").hint(hint)
    }
}

#[derive(Debug)]
pub(crate) struct CliError {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    pub(crate) hint: Option<Cow<'static, str>>,
    /// The file or directory of a system error.
    pub(crate) path: Option<PathBuf>,
    /// The archive or data dir that the hint is about.
    pub(crate) target: Option<PathBuf>,
    /// Whether only a key is missing: the archive itself may be intact.
    pub(crate) lacks_key: bool,
}

pub(crate) type Result<T, E = CliError> = std::result::Result<T, E>;

impl CliError {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Kind::Usage.error(message)
    }

    pub(crate) fn hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        let hint = Some(hint.into());
        Self { hint, ..self }
    }

    /// Adds a hint unless it has one.
    pub(crate) fn or_hint(self, hint: &'static str) -> Self {
        let hint = self.hint.or(Some(hint.into()));
        Self { hint, ..self }
    }

    /// Prefixes what was tried.
    pub(crate) fn context(self, tried: &str) -> Self {
        let message = format!("{tried}: {}", self.message);
        Self { message, ..self }
    }

    /// Sets the archive or data dir that the hint is about.
    fn about(self, target: &Path) -> Self {
        let target = Some(target.to_owned());
        Self { target, ..self }
    }

    /// For a run that writes into `spool` first: adds how to choose another directory.
    pub(crate) fn of_spool(self, spool: Option<&Path>) -> Self {
        let is_there = |path: &Path| Some(path) == spool || path.parent() == spool;
        if self.kind == Kind::NoSpace
            && spool.is_some()
            && self.path.as_deref().is_some_and(is_there)
        {
            return self.hint(
                "free some space there, or pass a `--spool-dir` on another disk; no partial archive was left",
            );
        }
        self
    }

    /// For a run that `signal` stopped: the work itself does not know which signal it was.
    pub(crate) fn stopped_by(mut self, signal: Option<usize>) -> Self {
        let stopped = SIGNALS
            .into_iter()
            .find(|(number, _)| Some(number.cast_unsigned() as usize) == signal);
        if let (Kind::Interrupted, Some((_, kind))) = (self.kind, stopped) {
            self.kind = kind;
        }
        self
    }
}

pub(crate) fn failed(hint: &'static str) -> CliError {
    Kind::Failed.advice(hint)
}

pub(crate) fn usage(hint: &'static str) -> CliError {
    Kind::Usage.advice(hint)
}

pub(crate) fn refused(hint: &'static str) -> CliError {
    Kind::Refused.advice(hint)
}

pub(crate) fn corrupt(hint: &'static str) -> CliError {
    Kind::Corrupt.advice(hint)
}

pub(crate) fn not_found(hint: &'static str) -> CliError {
    Kind::NotFound.advice(hint)
}

pub(crate) fn busy(hint: &'static str) -> CliError {
    Kind::Busy.advice(hint)
}

pub(crate) fn no_space(hint: &'static str) -> CliError {
    Kind::NoSpace.advice(hint)
}

pub(crate) fn interrupted(hint: &'static str) -> CliError {
    Kind::Interrupted.advice(hint)
}

/// An error with a known kind and hint.
pub(crate) trait Judge: Error {
    /// The failure that it is, still without its message.
    fn judge(&self) -> CliError;
}

impl<E: Judge> From<E> for CliError {
    fn from(error: E) -> Self {
        Self {
            // Names of files may contain control characters.
            message: printable(&with_causes(&error)).replace(QUERIED, "cannot read"),
            ..error.judge()
        }
    }
}

/// What `fs_err` says of a file that it could not look at.
const QUERIED: &str = "failed to query resolved metadata";

/// The text of an error and of its causes, without a cause that the text before ends with.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.ends_with(&text) {
            message += ": ";
            message += &text;
        }
        cause = error.source();
    }
    message
}

/// The hint about an archive that cannot be used.
pub(crate) const USE_ANOTHER: &str =
    "use another archive: `etcd-ark list` shows them, `etcd-ark verify BACKUP_DIR` checks them";

pub(crate) const STOP_FIRST: &str = "stop etcd first, and keep it stopped: `systemctl stop etcd`";

fn of_space(error: &SpaceError, hint: &'static str) -> CliError {
    match error {
        SpaceError::NoRoom { .. } | SpaceError::NoInodes { .. } => no_space(hint),
        SpaceError::Io(error) => error.judge(),
    }
}

impl Judge for Interrupted {
    fn judge(&self) -> CliError {
        Kind::Interrupted.error("")
    }
}

impl Judge for EmptyPolicy {
    fn judge(&self) -> CliError {
        usage(
            "pass any of --keep-last, -hourly, -daily, -weekly, -monthly, -yearly and -within; in the configuration file \
             they count for `prune` above the first table, or under [prune]: those under [snapshot] are for `snapshot` alone",
        )
    }
}

impl Judge for io::Error {
    fn judge(&self) -> CliError {
        let cause = cause_of(self);
        let is_interrupted = |inner: &(dyn Error + Send + Sync + 'static)| {
            inner.is::<Interrupted>() || inner.source().is_some_and(<dyn Error>::is::<Interrupted>)
        };
        if cause.get_ref().is_some_and(is_interrupted) {
            return Kind::Interrupted.error("");
        }
        #[cfg(feature = "object-store")]
        if let Some(fault) = cause
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<BucketFault>())
        {
            return fault.judge();
        }
        let is_named_by_flag = |inner: &(dyn Error + Send + Sync + 'static)| inner.is::<NotAFile>();
        if cause.get_ref().is_some_and(is_named_by_flag) {
            return usage("pass the path of a file that is there");
        }
        let path = path_of(self);
        if cause
            .get_ref()
            .is_some_and(<dyn Error + Send + Sync>::is::<ForeignLink>)
        {
            let judged = refused(
                "pass the path that it leads to, or make the link root's own: `chown -h root LINK`",
            );
            return CliError { path, ..judged };
        }
        let judged = match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                no_space("free some space and run it again; no partial archive was left")
            }
            io::ErrorKind::FileTooLarge => no_space(
                "raise the limit on the size of files (`ulimit -f`, `LimitFSIZE=` in a unit) and run it again; no partial archive was left",
            ),
            io::ErrorKind::NotFound => Kind::NotFound.error(""),
            io::ErrorKind::Interrupted => Kind::Interrupted.error(""),
            io::ErrorKind::WouldBlock => failed(
                "raise the limit on processes and threads (`ulimit -u`, `TasksMax=` in a unit)",
            ),
            // Such as a chunk of an encrypted archive that fails authentication.
            io::ErrorKind::InvalidData => corrupt(USE_ANOTHER),
            io::ErrorKind::PermissionDenied => Kind::Failed.advice(access::hint(path.as_deref())),
            // Our own error, about a given path; the system's comes from a directory that was replaced meanwhile.
            io::ErrorKind::NotADirectory if cause.raw_os_error().is_none() => {
                usage("pass the path of a directory")
            }
            io::ErrorKind::ReadOnlyFilesystem => failed("that filesystem is mounted read-only"),
            _ => Kind::Failed.error(""),
        };
        CliError { path, ..judged }
    }
}
