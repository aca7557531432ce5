//! The command line and its environment variables.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{
    ArgMatches, Command as ClapCommand, CommandFactory, FromArgMatches, Parser, Subcommand,
};

use crate::cli::commands::status::print_unknown;
use crate::cli::config::{self, ArgsError, Completed, said_by};
use crate::cli::error::{CliError, Kind};
use crate::cli::global::{CONFIG_FLAG, Global};
use crate::cli::output::shown;
use crate::cli::{help, json};

/// Back up, verify and restore data directories of etcd 2.x
#[derive(Debug, Parser)]
#[command(
    name = "etcd-ark",
    version,
    max_term_width = 80,
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
    /// Reads the command line, the environment and the configuration file. An empty variable counts as not
    /// set, as for etcd itself.
    pub(crate) fn read() -> Result<Self, ArgsError> {
        let command = without_empty_variables(help::arranged(Self::command()));
        let command = with_negative_numbers(command);
        let typed: Vec<_> = std::env::args_os().collect();
        let command = crate::cli::flags::repository::decide(command, &typed)
            .map_err(|error| ArgsError::Line(of_typed(error.kind(), &said_by(&error))))?;
        let completed = config::complete(&Self::command(), &command, typed);
        let completed = completed.map_err(ArgsError::File)?;
        let matches = command.clone().try_get_matches_from(completed.line());
        let mut args = matches
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map_err(|error| match completed.explain(&command, error) {
                ArgsError::Line(error) => {
                    ArgsError::Line(with_variable_named(error, &command, completed.line()))
                }
                file @ ArgsError::File(_) => file,
            })?;
        refuse_without_effect(&command, &completed).map_err(ArgsError::Line)?;
        if let Command::Schedule(schedule) = &mut args.command {
            schedule.leave_to_file(&completed.shared());
        }
        Ok(args)
    }
}

/// A bad value from a variable, reported as the variable's.
fn with_variable_named(
    mut error: clap::Error,
    command: &ClapCommand,
    line: &[OsString],
) -> clap::Error {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let mut built = command.clone();
    built.build();
    let path = command_path(line);
    let below = path.iter().scan(&built, |at, name| {
        *at = at.find_subcommand(name)?;
        Some(*at)
    });
    let commands: Vec<_> = std::iter::once(&built).chain(below).collect();
    let mut flags = commands.iter().flat_map(|command| command.get_arguments());
    let flag = flags.find(|arg| arg.to_string() == *shown);
    let Some(variable) = flag.and_then(clap::Arg::get_env) else {
        return error;
    };
    let by_itself = without_variables(command.clone(), &|name| name == variable);
    let by_itself = by_itself.try_get_matches_from(line);
    let is_typed = by_itself.is_err_and(|by_itself| said_by(&by_itself) == said_by(&error));
    if !is_typed {
        let variable = variable.to_string_lossy().into_owned();
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
    error
}

/// Flags that have an effect only with another one: the command, the flag, the other. In the environment and in the file
/// they are for the runs that have it.
const ONLY_WITH: [(&str, &str, &str); 3] = [
    ("list", "size_limit", "history"),
    ("preflight", "interval", "watch"),
    ("preflight", "wal_dir", "data_dir"),
];

fn refuse_without_effect(command: &ClapCommand, completed: &Completed) -> Result<(), clap::Error> {
    let lenient = command.clone().ignore_errors(true);
    let typed = lenient.clone().try_get_matches_from(completed.typed());
    let (Ok(typed), Ok(whole)) = (typed, lenient.try_get_matches_from(completed.line())) else {
        return Ok(());
    };
    for (name, flag, other) in ONLY_WITH {
        let of = |matches: &ArgMatches, id| matches.subcommand_matches(name)?.value_source(id);
        let is_set = of(&whole, other).is_some_and(|source| source != ValueSource::DefaultValue);
        if of(&typed, flag) == Some(ValueSource::CommandLine) && !is_set {
            let [flag, other] = [flag, other].map(|id| id.replace('_', "-"));
            let what = format!("`--{flag}` has no effect without `--{other}`");
            return Err(of_typed(ErrorKind::MissingRequiredArgument, &what));
        }
    }
    Ok(())
}

/// Lets every flag take a negative number, so that its own message refuses it.
fn with_negative_numbers(command: ClapCommand) -> ClapCommand {
    command
        .mut_args(|arg| {
            let takes = arg.get_long().is_some() && arg.get_action().takes_values();
            arg.allow_negative_numbers(takes)
        })
        .mut_subcommands(with_negative_numbers)
}

/// The names of the command in `line`, also if the rest is not valid.
fn command_path(line: &[OsString]) -> Vec<String> {
    let lenient = Args::command().ignore_errors(true);
    let matches = lenient.try_get_matches_from(line).unwrap_or_default();
    let (mut at, mut names) = (&matches, Vec::new());
    while let Some((name, below)) = at.subcommand() {
        names.push(name.to_owned());
        at = below;
    }
    names
}

fn without_empty_variables(command: ClapCommand) -> ClapCommand {
    without_variables(command, &|name| {
        std::env::var_os(name).is_some_and(|value| value.is_empty())
    })
}

fn without_variables(command: ClapCommand, is_out: &dyn Fn(&OsStr) -> bool) -> ClapCommand {
    command
        .mut_args(|arg| {
            // For this one an empty name is a value: no file.
            if arg.get_env().is_some_and(is_out) && arg.get_id() != CONFIG_FLAG {
                arg.env(None::<&str>)
            } else {
                arg
            }
        })
        .mut_subcommands(|below| without_variables(below, is_out))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Back up a data dir into one verified archive; etcd may run
    #[command(visible_alias = "backup")]
    Snapshot(crate::cli::commands::snapshot::SnapshotCommand),
    /// Verify archives or data dirs, and whether etcd would start
    Verify(crate::cli::commands::verify::Verify),
    /// Restore a member directory, completely or not at all
    #[command(
        after_help = "First asks all members that the archive names, for up to 2 seconds, whether their cluster \
        runs, and refuses if it does: a restored member would lose writes that it acknowledged since. For an \
        archive made by `rewind`, the cluster it was made from must not run."
    )]
    Restore(crate::cli::commands::restore::Restore),
    /// Start etcd on a restored backup, and compare every key
    #[command(after_help = crate::cli::commands::drill::AFTER_HELP)]
    Drill(crate::cli::commands::drill::Drill),
    /// List the archives of a backup dir, newest first
    List(crate::cli::commands::list::List),
    /// Copy archives between backup dirs and buckets
    Copy(crate::cli::commands::copy::Copy),
    /// Show what is in an archive or a data dir
    Inspect(crate::cli::commands::inspect::Inspect),
    /// Print keys of the v2 store as of an index
    Keys(crate::cli::commands::keys::Keys),
    /// Write keys of a backup back into a running cluster
    #[command(after_help = crate::cli::commands::put_keys::AFTER_HELP)]
    PutKeys(Box<crate::cli::commands::put_keys::PutKeys>),
    /// Compare two archives or data dirs
    #[command(
        after_help = "Exits with 0 when nothing differs and 1 when something does. Two members of one cluster \
        must be equal at a common index."
    )]
    Diff(crate::cli::commands::diff::Diff),
    /// Tell expected lines of an etcd log from those worth a look
    #[command(
        after_help = "Reads on as the log grows: `tail -f etcd.log | etcd-ark explain-log`, or with \
        `journalctl -f -u etcd`. With --json each line is one JSON object on a line of its own, and the last \
        one is the summary. With --strict it exits with 5 if a line is worth a look."
    )]
    ExplainLog(crate::cli::commands::explain_log::ExplainLog),
    /// Take all members back to one point of the log, from backups
    #[command(
        after_help = "Nothing is changed but that --out is made. The archives are one new cluster's: stop all \
        members of the old one, restore each member's own archive, then start them."
    )]
    Rewind(crate::cli::commands::rewind::Rewind),
    /// Check for, or prepare, a downgrade
    Downgrade(Box<crate::cli::commands::downgrade::flags::Downgrade>),
    /// Check what etcd's guide asks before an upgrade
    #[command(
        after_help = "Exits with 0 if the upgrade can begin, with 5 under --strict if something was worth \
        a warning, and with 3 if any check fails: then do not upgrade. With --watch it exits with 0 once \
        the cluster is at the new version."
    )]
    Preflight(crate::cli::commands::preflight::Preflight),
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
    /// The command's name in its metrics, and the metrics file.
    pub(crate) fn metrics(&self) -> Option<(&'static str, &Path)> {
        let (name, file) = match self {
            // A dry run has no new numbers.
            Self::Snapshot(args) if args.dry_run => return None,
            Self::Snapshot(args) => ("snapshot", &args.snapshot.metrics),
            Self::Prune(args) if args.dry_run => return None,
            Self::Prune(args) => ("prune", &args.metrics),
            Self::Drill(args) => ("drill", &args.metrics),
            _ => return None,
        };
        Some((name, file.metrics_file.as_deref()?))
    }

    /// The spool directory that the command may write to first.
    pub(crate) fn spool_dir(&self) -> Option<PathBuf> {
        match self {
            Self::Snapshot(args) => args.snapshot.to.used_spool(),
            Self::Downgrade(args) => args.used_spool(),
            _ => None,
        }
    }
}

/// Reports why the command line is not valid, or shows the requested help; returns the
/// exit code.
pub(crate) fn misread(misread: ArgsError) -> u8 {
    let asks_json = std::env::args_os().any(|arg| arg == "--json") || environment_asks_json();
    let mut failure = match misread {
        ArgsError::Line(error) => {
            let error = in_our_words(error);
            match usage(&error) {
                Some(failure) if error.kind() == ErrorKind::MissingSubcommand => failure,
                // Also for people, to whom clap shows the usage.
                Some(_) if !asks_json && !is_status() => {
                    show(&with_good_advice(error));
                    return Kind::Usage.exit_code();
                }
                Some(failure) => failure,
                None => {
                    let _ = error.print();
                    return 0;
                }
            }
        }
        ArgsError::File(error) => error.into(),
    };
    if is_status() {
        let told = print_unknown(&failure, asks_json);
        (failure.kind, failure.message) = (told.kind, told.message);
    }
    print(&failure, asks_json);
    failure.kind.exit_code()
}

#[expect(
    clippy::print_stderr,
    reason = "no Out exists before the arguments are read"
)]
fn print(failure: &CliError, asks_json: bool) {
    if asks_json {
        eprintln!("{}", json::failure(failure, failure.hint.as_deref()));
        return;
    }
    eprintln!("{}", shown(&format!("error: {}", failure.message)));
    if let Some(hint) = &failure.hint {
        eprintln!("{}", shown(&format!("hint: {hint}")));
    }
}

/// Prints clap's text in lines that fit.
#[expect(
    clippy::print_stderr,
    reason = "no Out exists before the arguments are read"
)]
fn show(error: &clap::Error) {
    let text = error.render();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
    let text = if std::io::stderr().is_terminal() && !plain {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    eprint!("{}", shown(&text));
}

/// Flags that override a refusal, or let more be written or removed: never suggested for a typo.
const DANGEROUS: [&str; 14] = [
    "--accept-data-size",
    "--allow-plaintext",
    "--allow-stale-member",
    "--change-member",
    "--damaged",
    "--delete-others",
    "--keep-cluster-id",
    "--move-wal",
    "--offline",
    "--overwrite",
    "--pending",
    "--pin-sha256",
    "--replace",
    "--stopped-version",
];

/// Other tools' names for our commands.
const ELSEWHERE: [(&str, &[&str]); 6] = [
    ("check", &["verify", "preflight", "status"]),
    ("forget", &["prune"]),
    ("info", &["inspect"]),
    ("ls", &["list"]),
    ("save", &["snapshot"]),
    ("validate", &["verify"]),
];

/// Clap's error about a value that is not one of a few.
fn in_our_words(error: clap::Error) -> clap::Error {
    const SWITCH: &str = "value was not a boolean";
    let said = said_by(&error);
    if error.kind() == ErrorKind::ValueValidation && said.ends_with(SWITCH) {
        let said = said.replace(SWITCH, "use true, false, 1, 0, yes, no, on or off");
        return clap::Error::raw(error.kind(), said + "\n");
    }
    let get = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(all)) => all.join(", "),
        _ => String::new(),
    };
    let valid = get(ContextKind::ValidValue);
    if error.kind() != ErrorKind::InvalidValue || valid.is_empty() {
        return error;
    }
    let (value, flag) = (get(ContextKind::InvalidValue), get(ContextKind::InvalidArg));
    let said = format!("invalid value '{value}' for '{flag}': use one of {valid}\n");
    clap::Error::raw(error.kind(), said)
}

/// An error of the command that was typed, with its usage.
fn of_typed(kind: ErrorKind, what: &str) -> clap::Error {
    let line: Vec<_> = std::env::args_os().collect();
    let mut built = Args::command();
    built.build();
    let mut at = &built;
    for name in command_path(&line) {
        at = at.find_subcommand(name).unwrap_or(at);
    }
    at.clone().error(kind, what)
}

/// The error without the suggestion of a dangerous flag, and without the advice to pass a flag as a value; with a
/// better suggestion.
fn with_good_advice(mut error: clap::Error) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let (argument, command) = (
        text(ContextKind::InvalidArg),
        text(ContextKind::InvalidSubcommand),
    );
    let suggested = text(ContextKind::SuggestedArg);
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            if let Some((_, ours)) = ELSEWHERE.iter().find(|(name, _)| *name == command) {
                let ours = ours.iter().map(ToString::to_string).collect();
                error.insert(
                    ContextKind::SuggestedSubcommand,
                    ContextValue::Strings(ours),
                );
            }
            error
        }
        ErrorKind::ArgumentConflict if argument.starts_with("--backup-dir") => of_typed(
            error.kind(),
            "two backup dirs are given (`--repo` is another name of `--backup-dir`): name one",
        ),
        ErrorKind::MissingRequiredArgument if said_by(&error).contains("--data-dir") => {
            let tip = "the data dir can also come from ETCD_DATA_DIR, or from `data-dir` in /etc/etcd-ark.toml";
            let tips = ContextValue::StyledStrs(vec![tip.into()]);
            error.insert(ContextKind::Suggested, tips);
            error
        }
        ErrorKind::UnknownArgument
            if suggested.is_empty()
                || DANGEROUS.contains(&&*suggested)
                || ["--backup-dir", "--repo"].contains(&&*argument) =>
        {
            let mut bare = clap::Error::new(ErrorKind::UnknownArgument).with_cmd(&Args::command());
            let tip = match argument.as_str() {
                "--force" => "each refusal names the flag that lifts it; there is none for all",
                "--tag" => "labels are given with `--label`",
                "--backup-dir" | "--repo" => {
                    "archives are named by their paths here, such as DIR/etcd-*.tar.zst"
                }
                "--backup-wal-dir" => {
                    "leave it out: an archive holds the WAL, too; `etcd-ark restore --wal-dir` puts it into a directory of its own"
                }
                argument if argument.starts_with('-') && argument.ends_with(char::is_numeric) => {
                    "no value here can be negative"
                }
                argument if !argument.starts_with('-') && is_data_dir(argument) => {
                    "the data dir is given with `--data-dir`, the place of archives with `--backup-dir`"
                }
                argument if !argument.starts_with('-') => {
                    "this is one argument too many; did a pattern match several files?"
                }
                _ => "",
            };
            bare.insert(ContextKind::InvalidArg, ContextValue::String(argument));
            if !tip.is_empty() {
                let tips = ContextValue::StyledStrs(vec![tip.into()]);
                bare.insert(ContextKind::Suggested, tips);
            }
            bare
        }
        _ => error,
    }
}

/// Whether `argument` is rather a data dir, in a command that takes it as a flag, than one of several archives.
fn is_data_dir(argument: &str) -> bool {
    let line: Vec<_> = std::env::args_os().collect();
    let path = command_path(&line);
    (path == ["snapshot"] || path == ["restore"]) && !argument.contains(".tar.zst")
}

/// Clap's error message, unless it shows help.
fn usage(error: &clap::Error) -> Option<CliError> {
    let line: Vec<_> = std::env::args_os().collect();
    let names = command_path(&line).join(" ");
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
            if names.is_empty() =>
        {
            "no command is given".to_owned()
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            format!("`etcd-ark {names}` is not a whole command: one of its own is missing")
        }
        _ => said_by(error),
    };
    let help = ["etcd-ark", &names, "--help"]
        .into_iter()
        .filter(|word| !word.is_empty());
    let hint = format!("see `{}`", help.collect::<Vec<_>>().join(" "));
    error
        .use_stderr()
        .then(|| CliError::usage(message).hint(hint))
}

/// Whether the command is `status`, with stdout and exit code for a monitoring system, even if
/// the rest of the line is not valid.
fn is_status() -> bool {
    let line: Vec<_> = std::env::args_os().collect();
    command_path(&line) == ["status"]
}

/// As clap reads a flag's variable: set to one of its words for true.
fn environment_asks_json() -> bool {
    let yes = ["1", "y", "yes", "t", "true", "on"];
    std::env::var("ETCD_ARK_JSON").is_ok_and(|value| yes.contains(&value.to_lowercase().as_str()))
}
