//! The configuration file: default values for flags.
//!
//! ```toml
//! # /etc/etcd-ark.toml, or what --config names
//! data-dir = "/var/lib/etcd"            # for every command that has this flag
//! backup-dir = "/var/backups/etcd"
//! strict = true
//!
//! [snapshot]                            # for this command only; wins over the lines above
//! label = ["nightly", "node-1"]
//! lock-wait = "10m"
//!
//! [downgrade.run]
//! move-wal = true
//! ```
//!
//! In: the command line, and the file. Out: the command line with the file's flags added, which clap
//! then reads as if all of it had been typed, so that its checks apply to both. A flag that is set on the
//! command line or in the environment is not changed, and neither is one that conflicts with such a flag.

pub(crate) mod content;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use crate::cli::config::content::{FileValue, Setting};
use crate::cli::connection::also_read;
use crate::cli::error::{CliError, Judge, usage};
use crate::cli::global::CONFIG_FLAG;
use crate::fs::auxiliary::{MOST, read_small};
use crate::fs::error::cause_of;

/// A command that writes another one's command line: the file's values for that one apply to both, and are not written.
const WRITES_DOWN: (&str, &str) = ("schedule", "snapshot");

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("there is no configuration file at `{}`", .0.display())]
    NotFound(PathBuf),
    #[error("`{}` is not a configuration file: {what}", path.display())]
    NoConfig { path: PathBuf, what: String },
    #[error("`{}`, line {line}: {what}", path.display())]
    Line {
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        what: String,
    },
    #[error("`{}`, line {line}: {what}", path.display())]
    Value {
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        what: String,
    },
    #[error("with what `{}` sets ({keys}): {what}", path.display())]
    Together {
        path: PathBuf,
        keys: String,
        what: String,
    },
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Debug)]
pub(crate) enum ArgsError {
    /// It is not valid, or asks for help.
    Line(clap::Error),
    File(ConfigError),
}

/// A command line with the file's flags added.
pub(crate) struct Completed {
    line: Vec<OsString>,
    typed: Vec<OsString>,
    path: PathBuf,
    added: Vec<Added>,
}

struct Added {
    /// The flag as clap shows it, such as `--level <N>`.
    shown: String,
    key: String,
    /// Line in the file, from 1.
    line: usize,
    /// Whether it is in the command's own table.
    own: bool,
}

/// Completes what was typed. `known` are the commands with all flags that a file may set, `command` the
/// commands that will parse the result.
pub(crate) fn complete(
    known: &Command,
    command: &Command,
    typed: Vec<OsString>,
) -> Result<Completed, ConfigError> {
    let mut completed = Completed {
        line: typed.clone(),
        typed,
        path: PathBuf::new(),
        added: Vec::new(),
    };
    // Errors in the line are reported when it is parsed finally.
    let lenient = command.clone().ignore_errors(true);
    let Ok(matches) = lenient.try_get_matches_from(&completed.typed) else {
        return Ok(completed);
    };
    let mut known = known.clone();
    known.build();
    let (mut chosen, mut matches) = (&known, &matches);
    let mut names = Vec::new();
    while let Some((name, below)) = matches.subcommand() {
        let Some(next) = chosen.find_subcommand(name) else {
            return Ok(completed);
        };
        (chosen, matches) = (next, below);
        names.push(name.to_owned());
    }
    let Some((path, text)) = read(matches)? else {
        return Ok(completed);
    };
    completed.path = path;
    let settings = content::parse(&text, &known).map_err(|(line, what)| ConfigError::Line {
        path: completed.path.clone(),
        line,
        what,
    })?;
    completed.add(&settings, chosen, &names, matches);
    Ok(completed)
}

/// The file's path and text; `None` if it is disabled, or if it is the default one and does not exist.
fn read(matches: &ArgMatches) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let named = matches.value_source(CONFIG_FLAG) != Some(ValueSource::DefaultValue);
    let path = matches.get_one::<OsString>(CONFIG_FLAG);
    let Some(path) = path.filter(|path| !path.is_empty()).map(PathBuf::from) else {
        return Ok(None);
    };
    let no_config = |what| {
        let path = path.clone();
        Err(ConfigError::NoConfig { path, what })
    };
    let bytes = match read_small(&path, MOST) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return if named {
                Err(ConfigError::NotFound(path))
            } else {
                Ok(None)
            };
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return no_config(cause_of(&error).to_string());
        }
        read => read?,
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some((path, text))),
        Err(_) => no_config("it is not UTF-8 text".to_owned()),
    }
}

impl Completed {
    pub(crate) fn line(&self) -> &[OsString] {
        &self.line
    }

    pub(crate) fn typed(&self) -> &[OsString] {
        &self.typed
    }

    /// The added keys outside the command's own table, which other commands also read from the file.
    pub(crate) fn shared(&self) -> Vec<String> {
        let shared = self.added.iter().filter(|one| !one.own);
        shared.map(|one| one.key.clone()).collect()
    }

    /// Adds the `settings` for the command `names`: its own table first.
    fn add(
        &mut self,
        settings: &[Setting],
        chosen: &Command,
        names: &[String],
        matches: &ArgMatches,
    ) {
        let flags: Vec<&Arg> = chosen.get_arguments().collect();
        let mut set: Vec<&Arg> = flags
            .iter()
            .copied()
            .filter(|arg| is_set(arg, matches))
            .collect();
        let mut new = Vec::new();
        let written_down = [WRITES_DOWN.1.to_owned()];
        let mut tables = vec![names, &[]];
        if names == [WRITES_DOWN.0] {
            tables.insert(1, &written_down);
        }
        for table in tables {
            let before = set.clone();
            // Output flags in another command's table do not apply to this run.
            let is_others = table == written_down && table != names;
            for setting in settings.iter().filter(|setting| setting.table == table) {
                let is_it =
                    |arg: &&&Arg| setting.is_for(arg) && !(is_others && arg.is_global_set());
                let Some(arg) = flags.iter().find(is_it).copied() else {
                    continue;
                };
                if before.iter().any(|other| excludes(chosen, arg, other)) {
                    continue;
                }
                let words = words(arg, &setting.said);
                if !words.is_empty() {
                    new.extend(words);
                    self.added.push(Added {
                        shown: arg.to_string(),
                        key: setting.key.clone(),
                        line: setting.line,
                        own: table == names,
                    });
                }
                // Even a `false`: it takes precedence over the lines above.
                set.push(arg);
            }
        }
        // Words after `--` are not flags.
        let end = self.line.iter().position(|word| word == "--");
        let end = end.unwrap_or(self.line.len());
        self.line.splice(end..end, new);
    }

    /// Clap's error about the whole line, with the file and line that caused it.
    pub(crate) fn explain(&self, command: &Command, error: clap::Error) -> ArgsError {
        if self.added.is_empty() || !error.use_stderr() {
            return ArgsError::Line(error);
        }
        let what = said_by(&error);
        let by_itself = command.clone().try_get_matches_from(&self.typed);
        if by_itself.is_err_and(|by_itself| said_by(&by_itself) == what) {
            return ArgsError::Line(error);
        }
        let path = self.path.clone();
        let blamed = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(shown)) => self.added.iter().find(|one| one.shown == *shown),
            _ => None,
        };
        ArgsError::File(if let Some(one) = blamed {
            ConfigError::Value {
                path,
                line: one.line,
                what,
            }
        } else {
            let keys: Vec<_> = self.added.iter().map(|one| one.key.as_str()).collect();
            let keys = keys.join(", ");
            ConfigError::Together { path, keys, what }
        })
    }
}

/// The message without usage and hints, on one line.
pub(crate) fn said_by(error: &clap::Error) -> String {
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let lines: Vec<_> = paragraph.lines().map(str::trim).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

fn is_set(arg: &Arg, matches: &ArgMatches) -> bool {
    let is_filled = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let source = matches.value_source(arg.get_id().as_str());
    matches!(
        source,
        Some(ValueSource::CommandLine | ValueSource::EnvVariable)
    ) || also_read(arg.get_long().unwrap_or_default())
        .iter()
        .any(is_filled)
}

/// Whether `arg` cannot be added where `other` is set.
fn excludes(command: &Command, arg: &Arg, other: &Arg) -> bool {
    let conflicts = |one: &Arg, with: &Arg| {
        let all = command.get_arg_conflicts_with(one);
        all.iter()
            .any(|conflict| conflict.get_id() == with.get_id())
    };
    arg.get_id() == other.get_id() || conflicts(arg, other) || conflicts(other, arg)
}

/// The words that have the same effect on the command line.
fn words(arg: &Arg, said: &FileValue) -> Vec<OsString> {
    match said {
        FileValue::Switch(on) => arg
            .get_long()
            .filter(|_| *on)
            .map(|long| OsString::from(format!("--{long}")))
            .into_iter()
            .collect(),
        FileValue::Values(values) => {
            // An empty value counts as not set, as in the environment.
            let values = values.iter().filter(|value| !value.is_empty());
            let word = |value: &String| match arg.get_long() {
                Some(long) => format!("--{long}={value}"),
                None => value.clone(),
            };
            values.map(|value| word(value).into()).collect()
        }
    }
}

impl Judge for ConfigError {
    fn judge(&self) -> CliError {
        match self {
            Self::NotFound(_) => usage("`--config ''` goes without any configuration file"),
            Self::NoConfig { .. } => {
                usage("it is a TOML file with the long option names of `etcd-ark COMMAND --help`")
            }
            Self::Line { .. } => usage(
                "correct that line or remove it; `etcd-ark COMMAND --help` shows the long option names",
            ),
            Self::Value { .. } => {
                usage("`etcd-ark COMMAND --help` shows what the flag of that name takes")
            }
            Self::Together { .. } => usage(
                "see `etcd-ark COMMAND --help`; a key in a command's own table is for that command alone",
            ),
            Self::Io(error) => error.judge(),
        }
    }
}
