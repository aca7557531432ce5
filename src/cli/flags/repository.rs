//! Flags for repositories.

use std::ffi::OsString;
use std::rc::Rc;

use crate::repository::Repository;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Command, ValueHint};

use crate::cli::error::{CliError, Result};
use crate::cli::location::Location;
use crate::cli::open::Opener;

const VARIABLE: &str = "ETCD_ARK_BACKUP_DIR";
/// The variable of a former flag for buckets, which is an alias now.
const OLDER_VARIABLE: &str = "ETCD_ARK_REPO";

/// A place of archives.
#[derive(Debug, clap::Args)]
pub(crate) struct BackupDir {
    /// Backup directory, or bucket URL: s3://, gs:// or az://
    ///
    /// For a bucket the credentials come from the environment, under the names that the clouds' own tools use. `--repo` is another name of this flag.
    #[arg(long, alias = "repo", value_name = "DIR|URL", value_hint = ValueHint::AnyPath, env = VARIABLE)]
    pub(crate) backup_dir: Option<Location>,
}

impl BackupDir {
    /// The place, which must be given.
    pub(crate) fn place(&self) -> Result<&Location> {
        let told = || {
            CliError::usage("no backup dir is given: `--backup-dir DIR` or `--backup-dir URL`").hint("it can also be set as ETCD_ARK_BACKUP_DIR, or as `backup-dir` in /etc/etcd-ark.toml")
        };
        self.backup_dir.as_ref().ok_or_else(told)
    }
}

/// The same, also as an argument.
#[derive(Debug, clap::Args)]
pub(crate) struct RepositoryFlags {
    /// Backup directory or bucket URL, in place of --backup-dir
    #[arg(value_name = "BACKUP_DIR", value_hint = ValueHint::AnyPath, conflicts_with = "backup_dir")]
    place: Option<Location>,
    #[command(flatten)]
    backup_dir: BackupDir,
}

impl RepositoryFlags {
    pub(crate) fn open(&self, places: &Opener<'_>) -> Result<Rc<dyn Repository>> {
        let place = self.named().map_or_else(|| self.backup_dir.place(), Ok);
        places.repository(place?)
    }

    pub(crate) fn named(&self) -> Option<&Location> {
        self.place.as_ref().or(self.backup_dir.backup_dir.as_ref())
    }
}

/// Leaves one of the argument and the flag to every command that accepts a backup dir as both: typed values take
/// precedence over the environment. Two typed places, or two in the environment, are an error.
pub(crate) fn decide(command: Command, typed: &[OsString]) -> Result<Command, clap::Error> {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let command = match (is_set(VARIABLE), is_set(OLDER_VARIABLE)) {
        (false, true) => with_variable(command, Some(OLDER_VARIABLE)),
        _ => command,
    };
    // Other errors in the line are reported when it is parsed finally.
    let lenient = command.clone().ignore_errors(true);
    let Ok(matches) = lenient.try_get_matches_from(typed) else {
        return Ok(command);
    };
    let mut matches = &matches;
    while let Some((_, below)) = matches.subcommand() {
        matches = below;
    }
    let [argument, flag] = ["place", "backup_dir"].map(|id| {
        // A command without either of the two has no value of it.
        let known = matches.try_contains_id(id);
        known.ok().and_then(|_| matches.value_source(id))
    });
    let both = |what: &str| {
        let what = format!("two backup dirs are {what}: name one");
        Err(command.clone().error(ErrorKind::ArgumentConflict, what))
    };
    match (argument, flag) {
        (Some(_), Some(ValueSource::CommandLine)) => both("given"),
        (Some(_), Some(_)) => Ok(with_variable(command, None)),
        (None, Some(ValueSource::EnvVariable)) if is_set(OLDER_VARIABLE) && is_set(VARIABLE) => {
            both("in the environment, ETCD_ARK_BACKUP_DIR and ETCD_ARK_REPO")
        }
        _ => Ok(command),
    }
}

/// The commands with another variable for the backup dir.
fn with_variable(command: Command, variable: Option<&'static str>) -> Command {
    command
        .mut_args(|arg| {
            if arg.get_id() == "backup_dir" {
                arg.env(variable)
            } else {
                arg
            }
        })
        .mut_subcommands(|command| with_variable(command, variable))
}
