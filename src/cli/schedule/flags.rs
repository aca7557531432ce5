//! What `schedule` can be told, and the `snapshot` command line that it writes down.
//!
//! The flags of `snapshot` are not listed here: they are the ones that `snapshot` has, and what was given of them is written
//! down again word by word.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum, ValueHint};

use super::super::args::{Global, Snapshot, length_of_time};
use super::when::When;

#[derive(Debug, Args)]
pub(crate) struct Schedule {
    /// What shall start it
    #[arg(
        long,
        value_name = "KIND",
        default_value = "systemd",
        env = "ETCD_ARK_SCHEDULE_KIND"
    )]
    pub(super) kind: Scheduler,
    /// Every day at this time of day, by this machine's clock; 03:30 by default
    #[arg(long, value_name = "HH:MM", conflicts_with = "every", value_parser = When::at, env = "ETCD_ARK_SCHEDULE_AT")]
    pub(super) at: Option<When>,
    /// Again and again: any part of an hour or of a day that leaves no rest, such as 15m or 6h
    #[arg(long, value_name = "TIME", value_parser = every, env = "ETCD_ARK_SCHEDULE_EVERY")]
    pub(super) every: Option<When>,
    /// As which user it runs; by default etcd-ark under systemd, whose unit grants it the right to
    /// read the data dir, and root under cron, because cron cannot grant a right
    #[arg(long, value_name = "USER", value_parser = user, env = "ETCD_ARK_SCHEDULE_RUN_AS")]
    pub(super) run_as: Option<String>,
    #[command(flatten)]
    pub(super) snapshot: SnapshotLine,
}

/// What starts things at their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scheduler {
    /// a service and a timer
    Systemd,
    /// a line for /etc/cron.d
    Cron,
}

fn every(text: &str) -> Result<When, String> {
    When::every(length_of_time(text)?)
}

/// A user's name that every scheduler reads as one.
fn user(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with(['-', '.']) {
        Ok(text.to_owned())
    } else {
        Err("a user is named by letters, digits, `_`, `-` and `.`".to_owned())
    }
}

/// How `snapshot` is to be called.
#[derive(Clone, Debug, Default)]
pub(crate) struct SnapshotLine {
    /// Flags before the command's name.
    pub(super) global: Vec<OsString>,
    /// Flags after it.
    pub(super) flags: Vec<OsString>,
    /// Directories that it reads.
    pub(super) reads: Vec<PathBuf>,
    /// Directories that it writes to and that are its own.
    pub(super) writes: Vec<PathBuf>,
    /// The directory of the metrics file, which is somebody else's.
    pub(super) metrics: Option<PathBuf>,
}

/// Flags on how *this* run speaks, which are nothing to the runs to come; and the key to encrypted archives, which no snapshot
/// needs and no unattended run should.
const NOT_CARRIED: [&str; 6] = [
    "json",
    "quiet",
    "verbose",
    "color",
    "no_progress",
    "identity",
];

impl FromArgMatches for SnapshotLine {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let snapshot = Snapshot::augment_args(Command::new("snapshot"));
        let global = Global::augment_args(Command::new("etcd-ark"));
        let carried = |arg: &&Arg| !NOT_CARRIED.contains(&arg.get_id().as_str());
        let path = |id: &str| {
            let path = matches.get_one::<PathBuf>(id)?;
            local(&whole(path))
        };
        let reads = ["data_dir", "wal_dir"].into_iter();
        let recipients = matches.get_many::<PathBuf>("recipients_file");
        let recipients = recipients.into_iter().flatten();
        let recipients = recipients.filter_map(|path| local(&whole(path)));
        let writes = ["backup_dir", "repo", "spool_dir"].into_iter();
        Ok(Self {
            global: words(global.get_arguments().filter(carried), matches),
            flags: words(snapshot.get_arguments(), matches),
            reads: reads.filter_map(path).chain(recipients).collect(),
            writes: writes.filter_map(path).collect(),
            metrics: path("metrics_file").and_then(|file| Some(file.parent()?.to_owned())),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SnapshotLine {
    fn augment_args(command: Command) -> Command {
        Snapshot::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Snapshot::augment_args_for_update(command)
    }
}

/// What was given for `args`, on the command line or in the environment, as a command line again.
fn words<'a>(args: impl Iterator<Item = &'a Arg>, matches: &ArgMatches) -> Vec<OsString> {
    let mut words = Vec::new();
    for arg in args {
        let (id, Some(long)) = (arg.get_id().as_str(), arg.get_long()) else {
            continue;
        };
        let given = matches.value_source(id);
        if !matches!(
            given,
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        ) {
            continue;
        }
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            if matches.get_flag(id) {
                words.push(format!("--{long}").into());
            }
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            let mut word = OsString::from(format!("--{long}="));
            if matches!(
                arg.get_value_hint(),
                ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath
            ) {
                word.push(whole(Path::new(value)));
            } else {
                word.push(value);
            }
            words.push(word);
        }
    }
    words
}

/// A path that is good from any working directory; a URL is good as it is. One that cannot be made whole stays as it is, and
/// `snapshot` will say so.
fn whole(path: &Path) -> PathBuf {
    if path.to_string_lossy().contains("://") {
        return path.to_owned();
    }
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Where it is on this machine, if it is here.
fn local(path: &Path) -> Option<PathBuf> {
    match path.to_string_lossy().split_once("://") {
        None => Some(path.to_owned()),
        Some(("file", path)) => Some(PathBuf::from(path)),
        Some(_) => None,
    }
}
