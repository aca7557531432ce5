//! What can be said on the command line, and in the environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::etcd::ids::Release;
use crate::etcd::replay::InOrderRules;
use crate::rewind::cut::To;
use bytesize::ByteSize;
use clap::builder::FalseyValueParser;
use clap::{
    ArgAction, Command as ClapCommand, CommandFactory, FromArgMatches, Parser, Subcommand,
    ValueEnum,
};
use jiff::SignedDuration;

use crate::cli::config;
use crate::cli::config::Misread;
use crate::cli::connection::{Connection, Tls};
use crate::cli::flags::destination::DestinationFlags;
use crate::cli::values::local_path;

/// Snapshot, prove and restore etcd 2.x data directories.
#[derive(Debug, Parser)]
#[command(
    name = "etcd-ark",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 corrupt, \
    5 done with warnings under --strict, 10 not found, 11 busy, 12 no space, \
    129 hung up (SIGHUP), 130 interrupted (SIGINT), 143 terminated (SIGTERM)."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// What the command line, the environment and the configuration file say. A variable that is set
    /// to nothing counts as not set, as etcd itself takes it.
    pub(crate) fn read() -> Result<Self, Misread> {
        let command = without_empty_variables(Self::command());
        let typed: Vec<_> = std::env::args_os().collect();
        let command =
            crate::cli::flags::repository::decide(command, &typed).map_err(Misread::Line)?;
        let completed = config::complete(&Self::command(), &command, typed);
        let completed = completed.map_err(Misread::File)?;
        let matches = command.clone().try_get_matches_from(completed.line());
        let mut args = matches
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map_err(|error| completed.explain(&command, error))?;
        if let Command::Schedule(schedule) = &mut args.command {
            schedule.leave_to_file(&completed.shared());
        }
        Ok(args)
    }
}

fn without_empty_variables(command: ClapCommand) -> ClapCommand {
    let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|v| v.is_empty());
    command
        .mut_args(|arg| {
            // An empty name is an answer there: no file.
            if arg.get_env().is_some_and(is_empty) && arg.get_id() != config::FLAG {
                arg.env(None::<&str>)
            } else {
                arg
            }
        })
        .mut_subcommands(without_empty_variables)
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Global {
    /// Write JSON to stdout and nothing else; errors become a JSON object on stderr
    #[arg(long, global = true, env = "ETCD_ARK_JSON", value_parser = FalseyValueParser::new())]
    pub(crate) json: bool,
    /// Say nothing but warnings and errors
    #[arg(short, long, global = true, env = "ETCD_ARK_QUIET", value_parser = FalseyValueParser::new())]
    pub(crate) quiet: bool,
    /// Say more about what is done
    #[arg(short, long, global = true, env = "ETCD_ARK_VERBOSE", value_parser = FalseyValueParser::new())]
    pub(crate) verbose: bool,
    /// A file of age identities that open encrypted archives; can be given more than once
    #[arg(short, long, global = true, value_name = "FILE", action = ArgAction::Append, env = "ETCD_ARK_IDENTITY")]
    pub(crate) identity: Vec<PathBuf>,
    /// When to use colours; `NO_COLOR` counts too
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        env = "ETCD_ARK_COLOR"
    )]
    pub(crate) color: Color,
    /// Show no progress bar
    #[arg(long, global = true, env = "ETCD_ARK_NO_PROGRESS", value_parser = FalseyValueParser::new())]
    pub(crate) no_progress: bool,
    /// Exit with 5 when something was worth a warning
    #[arg(long, global = true, env = "ETCD_ARK_STRICT", value_parser = FalseyValueParser::new())]
    pub(crate) strict: bool,
    /// Read flags from this file, too; none from an empty name
    #[arg(long, global = true, value_name = "FILE", value_hint = clap::ValueHint::FilePath, default_value = config::DEFAULT, env = "ETCD_ARK_CONFIG")]
    pub(crate) config: OsString,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Capture a data dir into an archive, also while etcd 2.x runs, and read it back
    Snapshot(Snapshot),
    /// Prove archives or data dirs: every digest, every WAL record, the whole chain
    Verify(Verify),
    /// Put an archive's member directory in place, atomically, or not at all
    #[command(
        after_help = "First asks all members that the archive names, for up to 2 seconds, whether their cluster \
        runs, and refuses if it does: a restored member would have forgotten what it acknowledged since. For an \
        archive made by `rewind`, the cluster it was made from must not run."
    )]
    Restore(Restore),
    /// List the archives of a backup dir, newest first
    List(List),
    /// Copy archives from one backup dir or bucket to another, each proven before and after
    Copy(crate::cli::commands::copy::Copy),
    /// Show what is in an archive or a data dir: identity, members, positions, versions, its store
    Inspect(Inspect),
    /// List or print the keys of the v2 store as of an index of the log
    Keys(Keys),
    /// Show what differs between two archives or data dirs: keys, members, versions
    #[command(
        after_help = "Exits with 0 when nothing differs and 1 when something does. Two members of one cluster \
        must be equal at a common index."
    )]
    Diff(Diff),
    /// Mark each line of an etcd log: expected while going from 2.1 to 2.2, or worth a look
    #[command(
        after_help = "Reads on as the log grows: `tail -f etcd.log | etcd-ark explain-log`, or with \
        `journalctl -f -u etcd`. With --json each line is one JSON object on a line of its own, and the last \
        one is the summary. With --strict it exits with 5 if a line is worth a look."
    )]
    ExplainLog(ExplainLog),
    /// Take a whole cluster back to one moment: an archive for every member, all alike, from the
    /// backups of any of them
    #[command(
        after_help = "Nothing is changed but that --out is made. The archives are one new cluster's: stop all \
        members of the old one, restore each member's own archive, then start them."
    )]
    Rewind(Rewind),
    /// Go back a release: whether the cluster still may, and this member's part of it
    Downgrade(Box<crate::cli::commands::downgrade::flags::Downgrade>),
    /// Check everything that the guide asks for before an upgrade, such as 2.1 to 2.2
    #[command(
        after_help = "Exits with 0 if nothing stands in the way, with 5 under --strict if something was worth \
        a warning, and with 3 if any check fails: then do not upgrade. With --watch it exits with 0 once \
        the cluster is at the new version."
    )]
    Preflight(Preflight),
    /// Remove the archives that no rule keeps
    #[command(after_help = crate::cli::commands::prune::AFTER_HELP)]
    Prune(crate::cli::commands::prune::Prune),
    /// Tell a monitoring system whether the backups are in order: one line, 0 to 3
    #[command(after_help = crate::cli::commands::status::AFTER_HELP)]
    Status(crate::cli::commands::status::Status),
    /// Print a systemd service and timer, or a line for cron, that take snapshots on this machine
    #[command(
        after_help = "Takes the flags of `snapshot`, and writes them into what it prints; what the configuration file sets \
        is left to the runs, which read it anew. Installs nothing: the text says how to."
    )]
    Schedule(Box<crate::cli::commands::schedule::flags::Schedule>),
    /// Print what a shell needs to complete this command's words
    Completions(crate::cli::commands::completions::Completions),
    /// Print a page of the manual, or write all of them
    Man(crate::cli::commands::man::Man),
}

impl Command {
    /// What the command is called in the metrics that it writes, and where to.
    pub(crate) fn metrics(&self) -> Option<(&'static str, &Path)> {
        let (name, file) = match self {
            Self::Snapshot(args) => ("snapshot", &args.metrics),
            // Nothing was pruned, so no number is new.
            Self::Prune(args) if args.dry_run => return None,
            Self::Prune(args) => ("prune", &args.metrics),
            _ => return None,
        };
        Some((name, file.metrics_file.as_deref()?))
    }

    /// Where the command writes before it writes where it was told to, if it may.
    pub(crate) fn spool_dir(&self) -> Option<PathBuf> {
        match self {
            Self::Snapshot(args) => args.to.used_spool(),
            Self::Downgrade(args) => args.used_spool(),
            _ => None,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Snapshot {
    /// The member's data dir; it is only read
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR", value_parser = local_path())]
    pub(crate) data_dir: PathBuf,
    /// The dedicated WAL dir, where etcd was started with one (2.2 and later)
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR", value_parser = local_path())]
    pub(crate) wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) to: DestinationFlags,
    /// Capture every file of the member, not only what a restart of etcd needs
    #[arg(long, env = "ETCD_ARK_ALL", value_parser = FalseyValueParser::new())]
    pub(crate) all: bool,
    /// Call it something, such as pre-upgrade; can be given more than once
    #[arg(long, value_name = "LABEL", action = ArgAction::Append, value_delimiter = ',', value_parser = label, env = "ETCD_ARK_LABEL")]
    pub(crate) label: Vec<String>,
    /// zstd's compression level
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19), env = "ETCD_ARK_LEVEL")]
    pub(crate) level: i32,
    #[command(flatten)]
    pub(crate) threads: Threads,
    /// Warn when the data size is over this
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "100MB",
        env = "ETCD_ARK_SIZE_LIMIT"
    )]
    pub(crate) size_limit: ByteSize,
    /// Take none if no client wrote since this member's newest archive there, which is proven anew; who can
    /// read that one is not looked at, so leave this out once when the recipients change
    #[arg(long, env = "ETCD_ARK_IF_CHANGED", value_parser = FalseyValueParser::new())]
    pub(crate) if_changed: bool,
    #[command(flatten)]
    pub(crate) keep: crate::cli::flags::retention::Keep,
    #[command(flatten)]
    pub(crate) lock: crate::cli::flags::lock_wait::LockWait,
    #[command(flatten)]
    pub(crate) metrics: crate::cli::metrics::MetricsFile,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Threads {
    /// How many threads to use; all cores by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), env = "ETCD_ARK_THREADS")]
    threads: Option<u16>,
}

impl Threads {
    pub(crate) fn count(&self) -> usize {
        self.threads
            .map_or_else(crate::thread_pool::default_threads, usize::from)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Archives, data dirs, and backup dirs, which stand for the archives in them
    #[arg(value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<PathBuf>,
    /// The dedicated WAL dir of a data dir among them
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR", value_parser = local_path())]
    pub(crate) wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) threads: Threads,
    /// Replay the log onto the store, too: every raft snapshot must be what the entries before it
    /// lead to
    #[arg(long, env = "ETCD_ARK_DEEP", value_parser = FalseyValueParser::new())]
    pub(crate) deep: bool,
    /// With --deep: tell what would expire before a restore at this time, such as
    /// 2015-10-01T00:00:00Z; now by default
    #[arg(
        long,
        value_name = "TIME",
        requires = "deep",
        env = "ETCD_ARK_RESTORE_AT"
    )]
    pub(crate) restore_at: Option<jiff::Timestamp>,
}

/// How in-order keys are named.
#[derive(Debug, clap::Args)]
pub(crate) struct Rules {
    /// Name in-order keys as etcd 2.1 (and before) or 2.2 (and later) does; by default as the
    /// cluster version in the data says
    #[arg(long, value_name = "VERSION", env = "ETCD_ARK_IN_ORDER_RULES")]
    pub(crate) in_order_rules: Option<InOrderRules>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Keys {
    /// An archive or a data dir
    #[arg(value_name = "TARGET")]
    pub(crate) target: PathBuf,
    /// Only this key, or this directory and what is below it
    #[arg(value_name = "PREFIX", conflicts_with = "get")]
    pub(crate) prefix: Option<OsString>,
    /// The data dir's dedicated WAL dir
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR", value_parser = local_path())]
    pub(crate) wal_dir: Option<PathBuf>,
    /// The store as of this index of the log; by default the last one known to be committed
    #[arg(long, value_name = "INDEX", env = "ETCD_ARK_AT_INDEX")]
    pub(crate) at_index: Option<u64>,
    /// Apply entries that are not known to be committed, too
    #[arg(long, env = "ETCD_ARK_PENDING", value_parser = FalseyValueParser::new())]
    pub(crate) pending: bool,
    #[command(flatten)]
    pub(crate) rules: Rules,
    /// Show values whole
    #[arg(long, env = "ETCD_ARK_VALUES", value_parser = FalseyValueParser::new())]
    pub(crate) values: bool,
    /// Show hidden keys, whose names begin with `_`
    #[arg(long, env = "ETCD_ARK_HIDDEN", value_parser = FalseyValueParser::new())]
    pub(crate) hidden: bool,
    /// Write the value of one key to stdout, its bytes as they are
    #[arg(long, value_name = "KEY")]
    pub(crate) get: Option<OsString>,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// An archive or a data dir
    #[arg(value_name = "A")]
    pub(crate) a: PathBuf,
    /// Another one
    #[arg(value_name = "B")]
    pub(crate) b: PathBuf,
    /// Compare both as of the lower of their commit indexes
    #[arg(long, env = "ETCD_ARK_AT_COMMON_INDEX", value_parser = FalseyValueParser::new())]
    pub(crate) at_common_index: bool,
    /// A's dedicated WAL dir, if it is a data dir with one
    #[arg(long, value_name = "DIR", value_parser = local_path())]
    pub(crate) a_wal_dir: Option<PathBuf>,
    /// B's dedicated WAL dir, if it is a data dir with one
    #[arg(long, value_name = "DIR", value_parser = local_path())]
    pub(crate) b_wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) rules: Rules,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainLog {
    /// Logs, one member's each; `-` is stdin, which is also read if there are none
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Hide the lines that are expected, and those that etcd writes at any time
    #[arg(long, env = "ETCD_ARK_ONLY_NOTABLE", value_parser = FalseyValueParser::new())]
    pub(crate) only_notable: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Preflight {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// This member's data dir; it is only read
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR", value_parser = local_path())]
    pub(crate) data_dir: Option<PathBuf>,
    /// The dedicated WAL dir, where etcd was started with one (2.2 and later)
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR", value_parser = local_path())]
    pub(crate) wal_dir: Option<PathBuf>,
    /// Where the archives are, of all members if they are gathered there
    #[arg(long, value_name = "DIR|URL", env = "ETCD_ARK_BACKUP_DIR")]
    pub(crate) backup_dir: Option<PathBuf>,
    /// How old an archive may be, such as 90m, 24h or 7d
    #[arg(long, value_name = "AGE", default_value = "24h", value_parser = length_of_time, env = "ETCD_ARK_MAX_BACKUP_AGE")]
    pub(crate) max_backup_age: SignedDuration,
    /// Fail when the data size is over this
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "100MB",
        env = "ETCD_ARK_SIZE_LIMIT"
    )]
    pub(crate) size_limit: ByteSize,
    /// Go on with more data than that
    #[arg(long, env = "ETCD_ARK_ACCEPT_DATA_SIZE", value_parser = FalseyValueParser::new())]
    pub(crate) accept_data_size: bool,
    /// The release that the members run
    #[arg(
        long,
        value_name = "RELEASE",
        default_value = "2.1",
        env = "ETCD_ARK_UPGRADE_FROM"
    )]
    pub(crate) from: Release,
    /// The release that they are to run
    #[arg(
        long,
        value_name = "RELEASE",
        default_value = "2.2",
        env = "ETCD_ARK_UPGRADE_TO"
    )]
    pub(crate) to: Release,
    /// Show how the members stand, again and again, until the cluster is at the new version
    #[arg(long, env = "ETCD_ARK_WATCH", value_parser = FalseyValueParser::new())]
    pub(crate) watch: bool,
    /// With --watch: how long to wait between two looks
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = length_of_time, env = "ETCD_ARK_INTERVAL")]
    pub(crate) interval: SignedDuration,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

const LIKE_A_TIME: &str = "a length of time is written like `90m`, `24h` or `7d`";

/// A length of time above zero, such as `3s`, `24h` or `7d`; a day is 24 hours.
pub(crate) fn length_of_time(text: &str) -> Result<SignedDuration, String> {
    time_or_none(text)
        .ok()
        .filter(SignedDuration::is_positive)
        .ok_or_else(|| LIKE_A_TIME.to_owned())
}

/// A label, without the blanks around it that `a, b` leaves.
pub(crate) fn label(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("a label is not empty".to_owned()),
        label => Ok(label.to_owned()),
    }
}

/// The same, or `0s`.
pub(crate) fn time_or_none(text: &str) -> Result<SignedDuration, String> {
    let wrong = || LIKE_A_TIME.to_owned();
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    let length = span.to_duration(days).map_err(|_| wrong())?;
    Some(length)
        .filter(|length| !length.is_negative())
        .ok_or_else(wrong)
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Restore {
    /// The archive
    #[arg(value_name = "ARCHIVE")]
    pub(crate) archive: PathBuf,
    /// The data dir to put it into; made if it is missing
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR", value_parser = local_path())]
    pub(crate) data_dir: PathBuf,
    /// Put the segments into this directory (2.2 and later, started with --wal-dir)
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR", value_parser = local_path())]
    pub(crate) wal_dir: Option<PathBuf>,
    /// Exchange a member directory that is there with the restored one, and keep it
    #[arg(long, env = "ETCD_ARK_REPLACE", value_parser = FalseyValueParser::new())]
    pub(crate) replace: bool,
    /// Replace the data dir of another member, which this machine then no longer is
    #[arg(long, env = "ETCD_ARK_CHANGE_MEMBER", value_parser = FalseyValueParser::new())]
    pub(crate) change_member: bool,
    /// Whose the files shall be, as numbers or names: USER or USER:GROUP
    #[arg(long, value_name = "OWNER", env = "ETCD_ARK_OWNER")]
    pub(crate) owner: Option<String>,
    /// Do everything but put it in place
    #[arg(long, env = "ETCD_ARK_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub(crate) dry_run: bool,
    /// Restore although members of the same cluster answer, or may be there
    #[arg(long, env = "ETCD_ARK_ALLOW_STALE_MEMBER", value_parser = FalseyValueParser::new())]
    pub(crate) allow_stale_member: bool,
    /// Ask no member: you vouch that the cluster does not run
    #[arg(long, env = "ETCD_ARK_OFFLINE", value_parser = FalseyValueParser::new())]
    pub(crate) offline: bool,
    #[command(flatten)]
    pub(crate) tls: Tls,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rewind {
    /// Archives and data dirs of any members of one cluster
    #[arg(value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<PathBuf>,
    /// Where the archives go: a directory that is empty or does not exist
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "dry_run",
        env = "ETCD_ARK_OUT",
        value_parser = local_path()
    )]
    pub(crate) out: Option<PathBuf>,
    /// The moment: `last-before:RELEASE` is the last entry before the cluster moved to it (or the
    /// end, if it never did), `index:N` that entry, `end` the end of the most up-to-date log
    #[arg(
        long,
        value_name = "MOMENT",
        default_value = "last-before:2.2",
        env = "ETCD_ARK_REWIND_TO"
    )]
    pub(crate) to: To,
    /// Whose raft snapshot every member gets, by name or id, where members name in-order keys
    /// differently
    #[arg(long, value_name = "MEMBER", env = "ETCD_ARK_BASE")]
    pub(crate) base: Option<String>,
    /// Make a cluster of this member alone, by name or id: the others are removed for good
    #[arg(long, value_name = "MEMBER", env = "ETCD_ARK_SINGLE")]
    pub(crate) single: Option<String>,
    /// A member's new peer URL, for a new host; can be given more than once
    #[arg(long, value_name = "MEMBER=URL", action = ArgAction::Append, value_delimiter = ',', value_parser = pair, env = "ETCD_ARK_PEER_URL")]
    pub(crate) peer_url: Vec<(String, String)>,
    /// Keep the cluster's id: members of the old cluster that still run could then mix in
    #[arg(long, env = "ETCD_ARK_KEEP_CLUSTER_ID", value_parser = FalseyValueParser::new())]
    pub(crate) keep_cluster_id: bool,
    /// The dedicated WAL dir of a data dir among the targets; can be given more than once
    #[arg(long, value_name = "DATA_DIR=WAL_DIR", action = ArgAction::Append, value_parser = pair, env = "ETCD_ARK_WAL_DIRS")]
    pub(crate) wal_dir: Vec<(String, String)>,
    /// Show what would be kept and lost, and write nothing
    #[arg(long, env = "ETCD_ARK_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub(crate) dry_run: bool,
    /// zstd's compression level
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19), env = "ETCD_ARK_LEVEL")]
    pub(crate) level: i32,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

/// `LEFT=RIGHT`, neither of them empty.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err(format!("`{text}` has no two parts with a `=` between them")),
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) repository: crate::cli::flags::repository::RepositoryFlags,
    #[command(flatten)]
    pub(crate) history: crate::cli::commands::list::history::HistoryFlags,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// An archive or a data dir
    #[arg(value_name = "TARGET")]
    pub(crate) target: PathBuf,
    /// The data dir's dedicated WAL dir
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR", value_parser = local_path())]
    pub(crate) wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) threads: Threads,
}
