//! How it is told that the command line, or the file that completes it, cannot be obeyed.

use super::super::config::{ConfigError, Misread};
use super::{Failure, Judged, Kind, of_io};

pub(super) fn of_config(error: &ConfigError) -> Judged {
    match error {
        ConfigError::NotFound(_) => (
            Kind::NotFound,
            Some("`--config ''` goes without any configuration file"),
        ),
        ConfigError::NoConfig { .. } | ConfigError::Line { .. } => (
            Kind::Usage,
            Some("its keys are the long names of the flags that `etcd-ark COMMAND --help` shows"),
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
#[expect(
    clippy::print_stderr,
    reason = "no Out exists before the arguments are read"
)]
pub(crate) fn misread(misread: Misread) -> u8 {
    let asks_json = std::env::args_os().any(|arg| arg == "--json") || environment_asks_json();
    match misread {
        Misread::Line(error) => usage(&error, asks_json),
        Misread::File(error) => {
            let failure = Failure::of(&error.into());
            if asks_json {
                eprintln!("{}", failure.to_json());
            } else {
                eprintln!("error: {}", failure.message);
                if let Some(hint) = &failure.hint {
                    eprintln!("hint: {hint}");
                }
            }
            failure.kind.exit_code()
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "no Out exists before the arguments are read"
)]
fn usage(error: &clap::Error, asks_json: bool) -> u8 {
    if !error.use_stderr() || !asks_json {
        let _ = error.print();
    } else {
        let text = error.to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or_default();
        let failure = Failure {
            kind: Kind::Usage,
            message: first.trim_start_matches("error: ").to_owned(),
            hint: Some("see `etcd-ark --help`".to_owned()),
        };
        eprintln!("{}", failure.to_json());
    }
    if error.use_stderr() {
        Kind::Usage.exit_code()
    } else {
        0
    }
}

/// As clap reads a flag's variable: set, and not to one of its words for no.
fn environment_asks_json() -> bool {
    let no = ["", "0", "n", "no", "f", "false", "off"];
    std::env::var("ETCD_ARK_JSON").is_ok_and(|value| !no.contains(&value.to_lowercase().as_str()))
}
