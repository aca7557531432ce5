//! Flags for repositories, and the choice of an archive in one: by `latest`, or by a part of its name.

use std::ffi::OsString;
use std::rc::Rc;

use crate::archive::error::ArchiveError;
use crate::archive::{ENCRYPTED, EXTENSION};
use crate::monitoring::scope::{Watched, watched};
use crate::repository::{ArchiveRef, Repository, summarize};
use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Command, ValueHint};

use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::location::{LATEST, Location, TargetName};
use crate::cli::open::Opener;

const VARIABLE: &str = "ETCD_ARK_BACKUP_DIR";
/// How many archives are listed if several match.
const MOST_CANDIDATES: usize = 8;
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

/// Where `latest` is looked for.
#[derive(Debug, clap::Args)]
pub(crate) struct LatestFlags {
    #[command(flatten)]
    pub(crate) backup_dir: BackupDir,
    #[command(flatten)]
    member: MemberFlag,
}

/// The member that is meant, of several in one place.
#[derive(Debug, clap::Args)]
pub(crate) struct MemberFlag {
    /// Only archives of this member (name or id)
    #[arg(long, value_name = "MEMBER", value_parser = NonEmptyStringValueParser::new(), env = "ETCD_ARK_MEMBER")]
    member: Option<String>,
}

impl LatestFlags {
    pub(crate) fn resolve(&self, target: &TargetName, cx: &Context<'_>) -> Result<Location> {
        resolve(target, &self.backup_dir, &self.member, cx)
    }
}

/// The place that `target` means: the place itself, the newest archive, or the one with this part in its name.
pub(crate) fn resolve(
    target: &TargetName,
    backup_dir: &BackupDir,
    member: &MemberFlag,
    cx: &Context<'_>,
) -> Result<Location> {
    let places = &cx.places;
    match target {
        TargetName::At(place) => {
            let (Some(part), Ok(archives)) = (part(place), backup_dir.place()) else {
                return Ok(place.clone());
            };
            let repository = places.repository(archives)?;
            let Some(name) = named(&*repository, part)? else {
                let message = format!(
                    "there is no `{part}` here, and no archive with that in its name in `{}`",
                    repository.location()
                );
                return Err(CliError::new(Kind::NotFound, message)
                    .hint("`etcd-ark list` shows what is there"));
            };
            Ok(repository.path_of(&name).into())
        }
        TargetName::Latest { label } => {
            let repository = places.repository(backup_dir.place()?)?;
            let name = member.latest(&*repository, label.as_deref())?;
            Ok(repository.path_of(&name).into())
        }
    }
}

/// The text of `place` if it may be a part of an archive's name: one word that is not an existing path.
fn part(place: &Location) -> Option<&str> {
    let path = place.local()?;
    let word = path.to_str().filter(|word| !word.contains('/'))?;
    std::fs::symlink_metadata(path).is_err().then_some(word)
}

/// The one archive in `repository` with the name `part`, or with `part` in its name.
pub(crate) fn named(repository: &dyn Repository, part: &str) -> Result<Option<String>> {
    let listed = repository.list()?.into_iter().map(|listed| listed.name);
    if part.is_empty() {
        return Ok(None);
    }
    if "etcd-".contains(part) || format!("{EXTENSION}{ENCRYPTED}").contains(part) {
        let message = format!("`{part}` is in the name of every archive");
        return Err(CliError::usage(message)
            .hint("name the archive by another part, or as `etcd-ark list` does"));
    }
    let mut found: Vec<_> = listed.filter(|name| name.contains(part)).collect();
    if found.iter().any(|name| name == part) {
        return Ok(Some(part.to_owned()));
    }
    let number = found.len();
    if number < 2 {
        return Ok(found.pop());
    }
    let more = number.saturating_sub(MOST_CANDIDATES);
    found.truncate(MOST_CANDIDATES);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    let message = format!(
        "`{part}` is in the names of {number} archives in `{}`: {}",
        repository.location(),
        found.join(", ")
    );
    Err(CliError::usage(message)
        .hint("name the archive by a longer part, or as `etcd-ark list` does"))
}

impl MemberFlag {
    pub(crate) fn wanted(&self) -> Option<&str> {
        self.member.as_deref()
    }

    /// The name of the newest archive in `repository`, with a label if one is requested.
    pub(crate) fn latest(
        &self,
        repository: &dyn Repository,
        label: Option<&str>,
    ) -> Result<String> {
        let mut catalog = summarize(repository)?;
        catalog
            .summaries
            .retain(|one| label.is_none_or(|label| one.labels.iter().any(|own| own == label)));
        let mut newest = watched(
            &catalog.summaries,
            crate::clock::now(),
            self.member.as_deref(),
        );
        match newest.len() {
            0 => {
                let of = self.member.as_ref().map(|name| format!(" of `{name}`"));
                let labelled = label.map(|label| format!(" with the label `{label}`"));
                let message = format!(
                    "no backup{}{} in `{}`",
                    of.unwrap_or_default(),
                    labelled.unwrap_or_default(),
                    repository.location()
                );
                Err(CliError::new(Kind::NotFound, message)
                    .hint("`etcd-ark list` shows what is there"))
            }
            1 => {
                let newest = newest.remove(0);
                refuse_older(&newest, catalog.unreadable)?;
                Ok(newest.newest.listed.name)
            }
            _ => {
                let names: Vec<_> = newest.iter().map(|one| one.name.as_str()).collect();
                let message = format!(
                    "`{}` holds backups of several members: {}",
                    repository.location(),
                    names.join(", ")
                );
                Err(CliError::usage(message).hint("choose one with `--member NAME`"))
            }
        }
    }
}

/// Refuses if one of `unreadable` is of the same member and newer than `newest`: the user expects the newest backup.
fn refuse_older(newest: &Watched, unreadable: Vec<(ArchiveRef, ArchiveError)>) -> Result<()> {
    let is_newer = |(listed, _): &(ArchiveRef, _)| newest.is_newer_by_name(&listed.name);
    let Some((_, error)) = unreadable.into_iter().find(is_newer) else {
        return Ok(());
    };
    let error = CliError::from(error);
    let message = format!("`{LATEST}` is damaged: {}", error.message);
    let hint = format!(
        "the newest of {} that can be opened is {}: to use it, name it",
        newest.name, newest.newest.listed.name
    );
    Err(CliError::new(error.kind, message).hint(hint))
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
