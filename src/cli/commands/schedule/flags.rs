//! The flags of `schedule`, and the `snapshot` command line that it writes.
//!
//! The flags of `snapshot` are not listed here: they come from `snapshot` itself, and the given ones are written
//! again word by word. Those in the configuration file are known here but not written: the runs read the file again.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum, ValueHint};

use crate::cli::commands::schedule::interval::When;
use crate::cli::commands::snapshot::Snapshot;
use crate::cli::global::{CONFIG_FLAG, DEFAULT_CONFIG, Global};
use crate::cli::values::duration;

#[derive(Debug, Args)]
pub(crate) struct Schedule {
    /// What starts the snapshots
    #[arg(
        long,
        value_name = "KIND",
        default_value = "systemd",
        env = "ETCD_ARK_SCHEDULE_KIND"
    )]
    pub(crate) kind: Scheduler,
    /// Every day at this local time [default: 03:30]
    #[arg(long, value_name = "HH:MM", conflicts_with = "every", value_parser = When::at, env = "ETCD_ARK_SCHEDULE_AT")]
    pub(crate) at: Option<When>,
    /// Interval that divides an hour or a day, e.g. 15m, 6h
    #[arg(long, value_name = "DURATION", value_parser = every, env = "ETCD_ARK_SCHEDULE_EVERY")]
    pub(crate) every: Option<When>,
    /// User to run as [default: etcd-ark under systemd, root under cron]
    ///
    /// The systemd unit grants its user the right to read the data dir; cron cannot grant a right.
    #[arg(long, value_name = "USER", value_parser = user, env = "ETCD_ARK_SCHEDULE_RUN_AS")]
    pub(crate) run_as: Option<String>,
    #[command(flatten)]
    pub(crate) snapshot: SnapshotLine,
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
    When::every(duration(text)?)
}

/// A user name that every scheduler reads the same way.
fn user(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with(['-', '.']) {
        Ok(text.to_owned())
    } else {
        Err("a user is named by letters, digits, `_`, `-` and `.`".to_owned())
    }
}

impl Schedule {
    /// Removes what the configuration file sets, since the runs read it themselves.
    pub(crate) fn leave_to_file(&mut self, keys: &[String]) {
        let snapshot = &mut self.snapshot;
        let words = snapshot.global.iter_mut().chain(&mut snapshot.flags);
        for word in words {
            word.is_of_file = keys.contains(&word.flag);
        }
    }
}

#[derive(Debug)]
pub(crate) struct SnapshotLine {
    pub(crate) snapshot: Snapshot,
    /// The configuration file, if it is not the default one.
    pub(crate) config: Option<PathBuf>,
    pub(crate) global: Vec<Word>,
    pub(crate) flags: Vec<Word>,
}

/// One flag, as it was given.
#[derive(Debug)]
pub(crate) struct Word {
    /// Its long name, without dashes.
    pub(crate) flag: String,
    pub(crate) value: Option<OsString>,
    pub(crate) is_path: bool,
    pub(crate) is_of_file: bool,
}

/// Flags about the output of *this* run, which do not apply to the scheduled ones; and the key to encrypted archives,
/// which no snapshot needs and no unattended run should have.
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
        let config = matches.get_one::<OsString>(CONFIG_FLAG);
        let config = config.filter(|path| *path != DEFAULT_CONFIG);
        let carried = |arg: &&Arg| {
            let id = arg.get_id().as_str();
            !NOT_CARRIED.contains(&id) && (id != CONFIG_FLAG || config.is_some())
        };
        Ok(Self {
            snapshot: Snapshot::from_arg_matches(matches)?,
            config: config.filter(|path| !path.is_empty()).map(PathBuf::from),
            global: words(global.get_arguments().filter(carried), matches),
            flags: words(snapshot.get_arguments(), matches),
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

/// The values of `args`, from the command line or the environment, as a command line again.
fn words<'a>(args: impl Iterator<Item = &'a Arg>, matches: &ArgMatches) -> Vec<Word> {
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
        let word = |value: Option<&OsStr>| Word {
            flag: long.to_owned(),
            value: value.map(OsStr::to_owned),
            is_path: matches!(
                arg.get_value_hint(),
                ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath
            ),
            is_of_file: false,
        };
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            words.extend(matches.get_flag(id).then(|| word(None)));
        } else {
            let values = matches.get_raw(id).into_iter().flatten();
            words.extend(values.map(|value| word(Some(value))));
        }
    }
    words
}
