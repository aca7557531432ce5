//! How it is told that the command line, or the file that completes it, cannot be obeyed.

use clap::CommandFactory as _;

use crate::cli::args::Args;
use crate::cli::commands::status::tell_unknown;
use crate::cli::config::{ConfigError, Misread, said_by};
use crate::cli::error::{Failure, Judged, Kind, of_io};

pub(crate) fn of_config(error: &ConfigError) -> Judged {
    match error {
        ConfigError::NotFound(_) => (
            Kind::NotFound,
            Some("`--config ''` goes without any configuration file"),
        ),
        ConfigError::NoConfig { .. } | ConfigError::Line { .. } => (
            Kind::Usage,
            Some(
                "its keys are the long names of the flags that `etcd-ark COMMAND --help` shows, its values what those take",
            ),
        ),
        ConfigError::Value { .. } => (
            Kind::Usage,
            Some("`etcd-ark COMMAND --help` shows what the flag of that name takes"),
        ),
        ConfigError::Together { .. } => (
            Kind::Usage,
            Some(
                "see `etcd-ark COMMAND --help`; a key in a command's own table is for that command alone",
            ),
        ),
        ConfigError::Io(error) => of_io(error),
    }
}

/// Tells why the command line cannot be obeyed, or shows the help that was asked for; gives the
/// exit code.
pub(crate) fn misread(misread: Misread) -> u8 {
    let asks_json = std::env::args_os().any(|arg| arg == "--json") || environment_asks_json();
    let failure = match misread {
        Misread::Line(error) => match usage(&error) {
            // Also for people, whose clap shows how it is used.
            Some(_) if !asks_json && !is_status() => {
                let _ = error.print();
                return Kind::Usage.exit_code();
            }
            Some(failure) => failure,
            None => {
                let _ = error.print();
                return 0;
            }
        },
        Misread::File(error) => Failure::of(&error.into()),
    };
    if is_status() {
        return tell_unknown(&failure, asks_json);
    }
    tell(&failure, asks_json);
    failure.kind.exit_code()
}

#[expect(
    clippy::print_stderr,
    reason = "no Out exists before the arguments are read"
)]
fn tell(failure: &Failure, asks_json: bool) {
    if asks_json {
        eprintln!("{}", failure.to_json());
        return;
    }
    eprintln!("error: {}", failure.message);
    if let Some(hint) = &failure.hint {
        eprintln!("hint: {hint}");
    }
}

/// What clap says is wrong, if it is not the help that it shows.
fn usage(error: &clap::Error) -> Option<Failure> {
    error.use_stderr().then(|| Failure {
        kind: Kind::Usage,
        message: said_by(error),
        hint: Some("see `etcd-ark --help`".to_owned()),
    })
}

/// Whether the command is the one whose stdout and exit code a monitoring system reads, also if
/// something is wrong with the rest of the line.
fn is_status() -> bool {
    let lenient = Args::command().ignore_errors(true);
    let matches = lenient.try_get_matches_from(std::env::args_os());
    matches.is_ok_and(|matches| matches.subcommand_name() == Some("status"))
}

/// As clap reads a flag's variable: set, and not to one of its words for no.
fn environment_asks_json() -> bool {
    let no = ["", "0", "n", "no", "f", "false", "off"];
    std::env::var("ETCD_ARK_JSON").is_ok_and(|value| !no.contains(&value.to_lowercase().as_str()))
}
