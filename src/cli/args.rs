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
use crate::cli::flags::repository::{BackupDir, LatestFlags};
use crate::cli::help;
use crate::cli::values::local_path;

/// Back up, verify and restore data directories of etcd 2.x
#[derive(Debug, Parser)]
#[command(
    name = "etcd-ark",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
#[command(after_help = help::EXIT_CODES)]
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
        let command = without_empty_variables(help::arranged(Self::command()));
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
    /// Print no progress, notes or reports of success; warnings and errors remain
    #[arg(short, long, global = true, env = "ETCD_ARK_QUIET", value_parser = FalseyValueParser::new())]
    pub(crate) quiet: bool,
    /// Print more about what is done
    #[arg(short, long, global = true, env = "ETCD_ARK_VERBOSE", value_parser = FalseyValueParser::new())]
    pub(crate) verbose: bool,
    /// File of age identities for encrypted archives (repeatable)
    #[arg(short, long, global = true, value_name = "FILE", action = ArgAction::Append, env = "ETCD_ARK_IDENTITY")]
    pub(crate) identity: Vec<PathBuf>,
    /// When to use colours; `NO_COLOR` is honoured
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
    /// Exit with 5 if there were warnings
    #[arg(long, global = true, env = "ETCD_ARK_STRICT", value_parser = FalseyValueParser::new())]
    pub(crate) strict: bool,
    /// Configuration file; an empty name means none
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
    /// Back up a data dir into one verified archive; etcd may run
    Snapshot(Snapshot),
    /// Verify archives or data dirs, and whether etcd would start
    Verify(Verify),
    /// Restore a member directory, completely or not at all
    #[command(
        after_help = "First asks all members that the archive names, for up to 2 seconds, whether their cluster \
        runs, and refuses if it does: a restored member would have forgotten what it acknowledged since. For an \
        archive made by `rewind`, the cluster it was made from must not run."
    )]
    Restore(Restore),
    /// Start etcd on a restored backup, and compare every key
    #[command(after_help = crate::cli::commands::drill::AFTER_HELP)]
    Drill(crate::cli::commands::drill::Drill),
    /// List the archives of a backup dir, newest first
    List(List),
    /// Copy archives between backup dirs and buckets
    Copy(crate::cli::commands::copy::Copy),
    /// Show what is in an archive or a data dir
    Inspect(Inspect),
    /// Print keys of the v2 store as of an index
    Keys(Keys),
    /// Compare two archives or data dirs
    #[command(
        after_help = "Exits with 0 when nothing differs and 1 when something does. Two members of one cluster \
        must be equal at a common index."
    )]
    Diff(Diff),
    /// Tell expected lines of an etcd log from those worth a look
    #[command(
        after_help = "Reads on as the log grows: `tail -f etcd.log | etcd-ark explain-log`, or with \
        `journalctl -f -u etcd`. With --json each line is one JSON object on a line of its own, and the last \
        one is the summary. With --strict it exits with 5 if a line is worth a look."
    )]
    ExplainLog(ExplainLog),
    /// Take all members back to one point of the log, from backups
    #[command(
        after_help = "Nothing is changed but that --out is made. The archives are one new cluster's: stop all \
        members of the old one, restore each member's own archive, then start them."
    )]
    Rewind(Rewind),
    /// Check for, or prepare, a downgrade
    Downgrade(Box<crate::cli::commands::downgrade::flags::Downgrade>),
    /// Check what etcd's guide asks before an upgrade
    #[command(
        after_help = "Exits with 0 if nothing stands in the way, with 5 under --strict if something was worth \
        a warning, and with 3 if any check fails: then do not upgrade. With --watch it exits with 0 once \
        the cluster is at the new version."
    )]
    Preflight(Preflight),
    /// Remove the archives that no retention rule keeps
    #[command(after_help = crate::cli::commands::prune::AFTER_HELP)]
    Prune(crate::cli::commands::prune::Prune),
    /// Check the backups for a monitoring system
    #[command(after_help = crate::cli::commands::status::AFTER_HELP)]
    Status(crate::cli::commands::status::Status),
    /// Print systemd units or a cron line for regular snapshots
    #[command(
        after_help = "Takes the flags of `snapshot`, and writes them into what it prints; what the configuration file sets \
        is left to the runs, which read it each time. Installs nothing: the text says how to."
    )]
    Schedule(Box<crate::cli::commands::schedule::flags::Schedule>),
    /// Print a script for shell completion
    Completions(crate::cli::commands::completions::Completions),
    /// Print a man page, or write all of them
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
            Self::Drill(args) => ("drill", &args.metrics),
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
    /// Data dir of the member (only read)
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR", value_parser = local_path())]
    pub(crate) data_dir: PathBuf,
    /// Dedicated WAL dir, if etcd runs with --wal-dir
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR", value_parser = local_path())]
    pub(crate) wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) to: DestinationFlags,
    /// Include every file, not only what etcd needs to start
    #[arg(long, env = "ETCD_ARK_ALL", value_parser = FalseyValueParser::new())]
    pub(crate) all: bool,
    /// Save a damaged data dir as it is (etcd stopped)
    ///
    /// Every file that can be read goes into the archive, with a list of what is wrong. Nothing is pruned.
    #[arg(long, env = "ETCD_ARK_DAMAGED", value_parser = FalseyValueParser::new())]
    pub(crate) damaged: bool,
    /// Label for the archive, e.g. pre-upgrade (repeatable)
    #[arg(long, value_name = "LABEL", action = ArgAction::Append, value_delimiter = ',', value_parser = label, env = "ETCD_ARK_LABEL")]
    pub(crate) label: Vec<String>,
    /// zstd compression level, 1 to 19
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19), env = "ETCD_ARK_LEVEL")]
    pub(crate) level: i32,
    #[command(flatten)]
    pub(crate) threads: Threads,
    /// Warn if the data size is over SIZE
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "100MB",
        env = "ETCD_ARK_SIZE_LIMIT"
    )]
    pub(crate) size_limit: ByteSize,
    /// Skip if no client has written since the newest archive
    ///
    /// That archive is verified again. Its recipients are not compared: leave this flag out once when
    /// they change.
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
    /// Number of threads [default: all cores]
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
    /// Archives, data dirs, backup dirs; or latest, latest:LABEL [default: --backup-dir]
    ///
    /// A backup dir stands for all archives in it.
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) latest: LatestFlags,
    /// Dedicated WAL dir of a data dir among them
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR", value_parser = local_path())]
    pub(crate) wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) threads: Threads,
    /// Also replay the log: every raft snapshot must equal what the entries before it lead to
    #[arg(long, env = "ETCD_ARK_DEEP", value_parser = FalseyValueParser::new())]
    pub(crate) deep: bool,
    /// With --deep: report what would expire before a restore at TIME [default: now]
    ///
    /// For example 2015-10-01T00:00:00Z.
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
    /// Name in-order keys by the rules of 2.1 or 2.2 [default: of the data's cluster version]
    #[arg(long, value_name = "VERSION", env = "ETCD_ARK_IN_ORDER_RULES")]
    pub(crate) in_order_rules: Option<InOrderRules>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Keys {
    /// Archive or data dir; or latest, latest:LABEL
    #[arg(value_name = "TARGET")]
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) latest: LatestFlags,
    /// Only this key, or this directory and its content
    #[arg(value_name = "PREFIX", conflicts_with = "get")]
    pub(crate) prefix: Option<OsString>,
    /// Dedicated WAL dir of the data dir
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR", value_parser = local_path())]
    pub(crate) wal_dir: Option<PathBuf>,
    /// Store as of this raft index [default: last one known to be committed]
    #[arg(long, value_name = "INDEX", env = "ETCD_ARK_AT_INDEX")]
    pub(crate) at_index: Option<u64>,
    /// Also apply entries that are not known to be committed
    #[arg(long, env = "ETCD_ARK_PENDING", value_parser = FalseyValueParser::new())]
    pub(crate) pending: bool,
    #[command(flatten)]
    pub(crate) rules: Rules,
    /// Show values in full
    #[arg(long, env = "ETCD_ARK_VALUES", value_parser = FalseyValueParser::new())]
    pub(crate) values: bool,
    /// Show hidden keys (name begins with `_`)
    #[arg(long, env = "ETCD_ARK_HIDDEN", value_parser = FalseyValueParser::new())]
    pub(crate) hidden: bool,
    /// Write the value of one key to stdout, byte for byte
    #[arg(long, value_name = "KEY")]
    pub(crate) get: Option<OsString>,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// Archive or data dir; or latest, latest:LABEL
    #[arg(value_name = "A")]
    pub(crate) a: PathBuf,
    /// Archive or data dir to compare with
    #[arg(value_name = "B")]
    pub(crate) b: PathBuf,
    #[command(flatten)]
    pub(crate) latest: LatestFlags,
    /// Compare as of the lower of both commit indexes
    #[arg(long, env = "ETCD_ARK_AT_COMMON_INDEX", value_parser = FalseyValueParser::new())]
    pub(crate) at_common_index: bool,
    /// Dedicated WAL dir of A
    #[arg(long, value_name = "DIR", value_parser = local_path())]
    pub(crate) a_wal_dir: Option<PathBuf>,
    /// Dedicated WAL dir of B
    #[arg(long, value_name = "DIR", value_parser = local_path())]
    pub(crate) b_wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) rules: Rules,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExplainLog {
    /// Logs, one member each [default: -, stdin]
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Hide expected and ordinary lines
    #[arg(long, env = "ETCD_ARK_ONLY_NOTABLE", value_parser = FalseyValueParser::new())]
    pub(crate) only_notable: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Preflight {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Data dir of this member (only read)
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR", value_parser = local_path())]
    pub(crate) data_dir: Option<PathBuf>,
    /// Dedicated WAL dir, if etcd runs with --wal-dir
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR", value_parser = local_path())]
    pub(crate) wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) backup_dir: BackupDir,
    /// Maximum age of an archive, e.g. 90m, 24h, 7d
    #[arg(long, value_name = "AGE", default_value = "24h", value_parser = length_of_time, env = "ETCD_ARK_MAX_BACKUP_AGE")]
    pub(crate) max_backup_age: SignedDuration,
    /// Fail if the data size is over SIZE
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "100MB",
        env = "ETCD_ARK_SIZE_LIMIT"
    )]
    pub(crate) size_limit: ByteSize,
    /// Accept a data size over the limit
    #[arg(long, env = "ETCD_ARK_ACCEPT_DATA_SIZE", value_parser = FalseyValueParser::new())]
    pub(crate) accept_data_size: bool,
    /// Release that the members run
    #[arg(
        long,
        value_name = "RELEASE",
        default_value = "2.1",
        env = "ETCD_ARK_UPGRADE_FROM"
    )]
    pub(crate) from: Release,
    /// Release to upgrade to
    #[arg(
        long,
        value_name = "RELEASE",
        default_value = "2.2",
        env = "ETCD_ARK_UPGRADE_TO"
    )]
    pub(crate) to: Release,
    /// Show the state of all members until the cluster version has moved
    #[arg(long, env = "ETCD_ARK_WATCH", value_parser = FalseyValueParser::new())]
    pub(crate) watch: bool,
    /// With --watch: time between two polls
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = length_of_time, env = "ETCD_ARK_INTERVAL")]
    pub(crate) interval: SignedDuration,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

const LIKE_A_TIME: &str = "not a valid duration: write it like `90m`, `24h` or `7d`";

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
        "" => Err("a label must not be empty".to_owned()),
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
    /// Archive; or latest, latest:LABEL
    #[arg(value_name = "ARCHIVE")]
    pub(crate) archive: PathBuf,
    #[command(flatten)]
    pub(crate) latest: LatestFlags,
    /// Data dir to restore into, created if missing
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR", value_parser = local_path())]
    pub(crate) data_dir: PathBuf,
    /// Dedicated WAL dir for the segments (etcd 2.2 and later)
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR", value_parser = local_path())]
    pub(crate) wal_dir: Option<PathBuf>,
    /// Exchange an existing member directory with the restored one; the old one is kept
    #[arg(long, env = "ETCD_ARK_REPLACE", value_parser = FalseyValueParser::new())]
    pub(crate) replace: bool,
    /// Allow replacing the data dir of another member
    #[arg(long, env = "ETCD_ARK_CHANGE_MEMBER", value_parser = FalseyValueParser::new())]
    pub(crate) change_member: bool,
    /// Owner of the restored files, USER[:GROUP] (names or ids)
    #[arg(long, value_name = "OWNER", env = "ETCD_ARK_OWNER")]
    pub(crate) owner: Option<String>,
    /// Do everything but publish the result
    #[arg(long, env = "ETCD_ARK_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub(crate) dry_run: bool,
    /// Restore an archive that `snapshot --damaged` made
    #[arg(long, env = "ETCD_ARK_DAMAGED", value_parser = FalseyValueParser::new())]
    pub(crate) damaged: bool,
    /// Restore although members of the same cluster may be running
    #[arg(long, env = "ETCD_ARK_ALLOW_STALE_MEMBER", value_parser = FalseyValueParser::new())]
    pub(crate) allow_stale_member: bool,
    /// Ask no member; you vouch that the cluster is stopped
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
    /// Directory for the new archives (empty or missing)
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "dry_run",
        env = "ETCD_ARK_OUT",
        value_parser = local_path()
    )]
    pub(crate) out: Option<PathBuf>,
    /// Where to cut: last-before:RELEASE, index:N or end
    ///
    /// `last-before:RELEASE` is the last entry before the cluster version moved to it, or the end, if it
    /// never did; `index:N` is that entry; `end` is the end of the most up-to-date log.
    #[arg(
        long,
        value_name = "MOMENT",
        default_value = "last-before:2.2",
        env = "ETCD_ARK_REWIND_TO"
    )]
    pub(crate) to: To,
    /// Member (name or id) that gives the raft snapshot for all
    ///
    /// Needed where members name in-order keys differently.
    #[arg(long, value_name = "MEMBER", env = "ETCD_ARK_BASE")]
    pub(crate) base: Option<String>,
    /// Make a cluster of this member alone (name or id); the others are removed
    #[arg(long, value_name = "MEMBER", env = "ETCD_ARK_SINGLE")]
    pub(crate) single: Option<String>,
    /// New peer URL of a member, for a new host (repeatable)
    #[arg(long, value_name = "MEMBER=URL", action = ArgAction::Append, value_delimiter = ',', value_parser = pair, env = "ETCD_ARK_PEER_URL")]
    pub(crate) peer_url: Vec<(String, String)>,
    /// Keep the cluster id; members of the old cluster that still run could then join
    #[arg(long, env = "ETCD_ARK_KEEP_CLUSTER_ID", value_parser = FalseyValueParser::new())]
    pub(crate) keep_cluster_id: bool,
    /// Dedicated WAL dir of a data dir among the targets (repeatable)
    #[arg(long, value_name = "DATA_DIR=WAL_DIR", action = ArgAction::Append, value_parser = pair, env = "ETCD_ARK_WAL_DIRS")]
    pub(crate) wal_dir: Vec<(String, String)>,
    /// Show what would be kept and lost; write nothing
    #[arg(long, env = "ETCD_ARK_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub(crate) dry_run: bool,
    /// Encrypt for an age recipient (repeatable)
    #[arg(long, value_name = "RECIPIENT", action = ArgAction::Append, value_delimiter = ',', env = "ETCD_ARK_RECIPIENT")]
    pub(crate) recipient: Vec<String>,
    /// Encrypt for the recipients in FILE (repeatable)
    #[arg(short = 'R', long, value_name = "FILE", action = ArgAction::Append, env = "ETCD_ARK_RECIPIENTS_FILE")]
    pub(crate) recipients_file: Vec<PathBuf>,
    /// Write archives in the open although an input is encrypted
    #[arg(long, env = "ETCD_ARK_ALLOW_PLAINTEXT", value_parser = FalseyValueParser::new())]
    pub(crate) allow_plaintext: bool,
    /// zstd compression level, 1 to 19
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
        _ => Err(format!("`{text}` is not of the form LEFT=RIGHT")),
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
    /// Archive or data dir; or latest, latest:LABEL
    #[arg(value_name = "TARGET")]
    pub(crate) target: PathBuf,
    #[command(flatten)]
    pub(crate) latest: LatestFlags,
    /// Dedicated WAL dir of the data dir
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR", value_parser = local_path())]
    pub(crate) wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) threads: Threads,
}
