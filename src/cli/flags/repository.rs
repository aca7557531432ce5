//! Where archives are kept, as a command line says it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::repository::Repository;
use anyhow::Result;
use clap::Command;
use clap::error::ErrorKind;
use clap::parser::ValueSource;

use crate::cli::error::{Kind, Told};
use crate::cli::open::{Places, is_url};

/// Where archives are.
#[derive(Debug, clap::Args)]
pub(crate) struct RepositoryFlags {
    /// Backup directory
    #[arg(
        value_name = "BACKUP_DIR",
        env = "ETCD_ARK_BACKUP_DIR",
        required_unless_present = "repo"
    )]
    backup_dir: Option<PathBuf>,
    /// Bucket instead of a directory: s3://, gs:// or az://
    ///
    /// Credentials come from the environment, under the names that the clouds' own tools use.
    #[arg(long, value_name = "URL", env = "ETCD_ARK_REPO")]
    repo: Option<PathBuf>,
}

impl RepositoryFlags {
    pub(crate) fn open(&self, places: &Places<'_>) -> Result<Rc<dyn Repository>> {
        places.repository(one_place(self.backup_dir.as_deref(), self.repo.as_deref())?)
    }
}

/// The bucket or the backup dir that is named; [`decide`] has left one of them, unless a file names
/// both.
pub(crate) fn one_place<'p>(
    backup_dir: Option<&'p Path>,
    repo: Option<&'p Path>,
) -> Result<&'p Path> {
    let (message, hint) = match (backup_dir, repo) {
        (Some(dir), None) => return Ok(dir),
        (None, Some(repo)) if is_url(repo) => return Ok(repo),
        (None, Some(repo)) => {
            let shown = repo.display();
            let scheme = if repo.is_absolute() { "file" } else { "s3" };
            (
                format!("`{shown}` is not a URL; did you mean `{scheme}://{shown}`?"),
                "--repo takes s3://…, gs://…, az://… or file:///…; a directory is named as the backup dir",
            )
        }
        (Some(dir), Some(repo)) => (
            format!(
                "the configuration file names both a backup dir, `{}`, and a bucket, `{}`",
                dir.display(),
                repo.display()
            ),
            "leave one of them out, or name one on the command line",
        ),
        (None, None) => (
            "neither a backup dir nor a bucket is named".to_owned(),
            "pass the backup dir, or `--repo URL`",
        ),
    };
    let told = Told {
        kind: Kind::Usage,
        message,
        hint: Some(hint),
    };
    Err(told.into())
}

/// The two that name one place in two ways.
const EITHER: [&str; 2] = ["backup_dir", "repo"];

/// Leaves one of the backup dir and the bucket to every command that knows both: what is typed counts
/// before what is in the environment. Both typed, or both in the environment, is an error: whichever
/// was taken could be the wrong one.
pub(crate) fn decide(command: Command, typed: &[OsString]) -> Result<Command, clap::Error> {
    // What else is wrong with the line is said when it is read in earnest.
    let lenient = command.clone().ignore_errors(true);
    let Ok(matches) = lenient.try_get_matches_from(typed) else {
        return Ok(command);
    };
    let mut matches = &matches;
    while let Some((_, below)) = matches.subcommand() {
        matches = below;
    }
    let source = |id| {
        // A command that knows none of the two has no value of it either.
        let known = matches.try_contains_id(id);
        known.ok().and_then(|_| matches.value_source(id))
    };
    let [dir, repo] = EITHER.map(source);
    let both = |what: &str| {
        let what = format!("both a backup dir and a bucket (--repo) are {what}: name one place");
        Err(command.clone().error(ErrorKind::ArgumentConflict, what))
    };
    let passed_over = match (dir, repo) {
        (Some(ValueSource::CommandLine), Some(ValueSource::CommandLine)) => return both("given"),
        (Some(ValueSource::EnvVariable), Some(ValueSource::EnvVariable)) => {
            return both("in the environment, ETCD_ARK_BACKUP_DIR and ETCD_ARK_REPO");
        }
        (Some(ValueSource::CommandLine), Some(_)) => "repo",
        (Some(_), Some(ValueSource::CommandLine)) => "backup_dir",
        _ => return Ok(command),
    };
    Ok(without_variable(command, passed_over))
}

fn without_variable(command: Command, id: &'static str) -> Command {
    command
        .mut_args(|arg| {
            if arg.get_id() == id {
                arg.env(None::<&str>)
            } else {
                arg
            }
        })
        .mut_subcommands(|command| without_variable(command, id))
}
