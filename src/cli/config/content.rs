//! Checks a configuration file's content against the commands' flags.
//!
//! In: its text. Out: a [`Setting`] for each line, or the first line that is wrong, and why.
//!
//! A key at the top applies to every command with a flag of that name. Two kinds are allowed only in a command's
//! own table. *Switches* (except those that all commands share), because each changes what a
//! command does: a `replace`, an `offline` or a `dry-run` for one command must not apply to another one that
//! happens to have a flag of that name. And *names that mean different things* for different commands, such
//! as `to`: they are distinguished by the variable that the flag reads.

use std::any::TypeId;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cli::location::Location;

/// Variables of flags with another meaning than in all other commands: no key at the top is for them.
const OTHER_MEANING: [&str; 2] = ["ETCD_ARK_WAL_DIRS", "ETCD_ARK_ONLY_LABEL"];
/// Flags that no file can set: those of every command, and those that would leave every night without a backup.
const NOT_FOR_FILES: [&str; 4] = ["help", "version", "config", "self_test"];
/// Flags that must not be empty, or an archive that should be encrypted would not be.
const NEVER_EMPTY: [&str; 2] = ["recipient", "recipients-file"];
/// Known names with this similarity or more are suggested, as clap does.
const ALIKE: f64 = 0.7;

pub(crate) struct Setting {
    /// The command's names if it is in the command's table; empty at the top.
    pub(crate) table: Vec<String>,
    pub(crate) key: String,
    /// Line in the file, from 1.
    pub(crate) line: usize,
    pub(crate) said: FileValue,
}

pub(crate) enum FileValue {
    Switch(bool),
    Values(Vec<String>),
}

/// A line of the file, from 1, and what is wrong with it.
type Wrong = (usize, String);

impl Setting {
    /// Whether it sets `arg` of its command.
    pub(crate) fn is_for(&self, arg: &Arg) -> bool {
        let is_shared = || variable(arg).is_none_or(|name| !OTHER_MEANING.contains(&name));
        key_of(arg).as_deref() == Some(&self.key) && (!self.table.is_empty() || is_shared())
    }
}

/// The key for `arg` in a file: its long name; an argument without one has a key if it has a variable.
pub(crate) fn key_of(arg: &Arg) -> Option<String> {
    if NOT_FOR_FILES.contains(&arg.get_id().as_str()) {
        return None;
    }
    let by_id = || variable(arg).map(|_| arg.get_id().as_str().replace('_', "-"));
    arg.get_long().map(str::to_owned).or_else(by_id)
}

fn variable(arg: &Arg) -> Option<&str> {
    arg.get_env().and_then(|name| name.to_str())
}

/// Parses `text`; `known` is the whole tree of commands.
pub(crate) fn parse(text: &str, known: &Command) -> Result<Vec<Setting>, Wrong> {
    let line_of = |offset: usize| {
        let before = text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    };
    let table = DeTable::parse(text).map_err(|error| {
        let line = line_of(error.span().map_or(0, |span| span.start));
        (line, error.message().to_owned())
    })?;
    let mut reader = Reader {
        line_of: &line_of,
        known,
        settings: Vec::new(),
    };
    reader.table(table.get_ref(), known, &[])?;
    Ok(reader.settings)
}

struct Reader<'r> {
    line_of: &'r dyn Fn(usize) -> usize,
    known: &'r Command,
    settings: Vec<Setting>,
}

impl Reader<'_> {
    fn table(
        &mut self,
        table: &DeTable<'_>,
        command: &Command,
        names: &[String],
    ) -> Result<(), Wrong> {
        for (key, value) in table {
            let line = (self.line_of)(key.span().start);
            let key = self.current(key.get_ref().as_ref());
            let key = key.as_str();
            let is_it = |one: &Setting| one.table == names && one.key == key;
            if self.settings.iter().any(is_it) {
                let what = format!("`{key}` is set twice (`repo` is its older name): leave one");
                return Err((line, what));
            }
            let below: Vec<_> = names.iter().cloned().chain([key.to_owned()]).collect();
            let said = if let DeValue::Table(inner) = value.get_ref() {
                let found = subcommands(command).find(|command| command.get_name() == key);
                let Some(found) = found else {
                    let tables = subcommands(command).map(Command::get_name);
                    let suggestion = nearest(key, tables.map(str::to_owned));
                    let what = format!(
                        "there is no command for the table `[{}]`{suggestion}",
                        below.join(".")
                    );
                    return Err((line, what));
                };
                self.table(inner, found, &below)?;
                continue;
            } else if names.is_empty() {
                self.shared(key, value)
            } else {
                own(key, value, command, names)
            };
            self.settings.push(Setting {
                table: names.to_vec(),
                key: key.to_owned(),
                line,
                said: said.map_err(|what| (line, what))?,
            });
        }
        Ok(())
    }

    /// The present name of a flag that was once called `key`.
    fn current(&self, key: &str) -> String {
        let mut all = Vec::new();
        flags(self.known, &mut Vec::new(), &mut all);
        let was = |arg: &Arg| {
            arg.get_all_aliases()
                .is_some_and(|names| names.contains(&key))
        };
        let renamed = all.iter().find(|(_, arg)| was(arg));
        renamed
            .and_then(|(_, arg)| key_of(arg))
            .unwrap_or_else(|| key.to_owned())
    }

    /// A key at the top.
    fn shared(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Result<FileValue, String> {
        let mut all = Vec::new();
        flags(self.known, &mut Vec::new(), &mut all);
        let having: Vec<_> = all
            .iter()
            .filter(|(_, arg)| key_of(arg).as_deref() == Some(key))
            .collect();
        let Some((_, first)) = having.first() else {
            if all.iter().any(|(_, arg)| arg.get_long() == Some(key)) {
                return Err(for_one_run(key));
            }
            let suggestion = nearest(key, all.iter().filter_map(|(_, arg)| key_of(arg)));
            return Err(format!("no command has a flag `{key}`{suggestion}"));
        };
        let variables: BTreeSet<_> = having.iter().map(|(_, arg)| variable(arg)).collect();
        let apart = variables
            .iter()
            .filter(|name| name.is_none_or(|name| !OTHER_MEANING.contains(&name)));
        let is_switch = !first.get_action().takes_values() && !first.is_global_set();
        if is_switch || apart.count() > 1 {
            let tables: Vec<_> = having
                .iter()
                .map(|(table, _)| format!("`[{table}]`"))
                .collect();
            let why = if is_switch {
                "changes what a command does"
            } else {
                "means different things to different commands"
            };
            return Err(format!(
                "`{key}` {why}, so it belongs in the command's own table: {}",
                tables.join(" or ")
            ));
        }
        read(key, value.get_ref(), first)
    }
}

/// A key in the table of a command.
fn own(
    key: &str,
    value: &Spanned<DeValue<'_>>,
    command: &Command,
    names: &[String],
) -> Result<FileValue, String> {
    let table = names.join(".");
    let mut tables = subcommands(command).map(|below| format!("`[{table}.{}]`", below.get_name()));
    if let Some(first) = tables.next() {
        let all: Vec<_> = std::iter::once(first).chain(tables).collect();
        return Err(format!(
            "`{key}` belongs in the table of one command: {}",
            all.join(" or ")
        ));
    }
    let is_it = |arg: &&Arg| key_of(arg).as_deref() == Some(key);
    if let Some(arg) = command.get_arguments().find(is_it) {
        return read(key, value.get_ref(), arg);
    }
    if command
        .get_arguments()
        .any(|arg| arg.get_long() == Some(key))
    {
        return Err(for_one_run(key));
    }
    let suggestion = nearest(key, command.get_arguments().filter_map(key_of));
    let command = names.join(" ");
    Err(format!(
        "`etcd-ark {command}` has no flag `{key}`{suggestion}"
    ))
}

/// Why a flag that exists cannot be in the file.
fn for_one_run(key: &str) -> String {
    format!("`{key}` is for one run, so it is given as `--{key}` and not in a file")
}

/// Every command that runs, with its flags.
fn flags<'c>(command: &'c Command, names: &mut Vec<&'c str>, all: &mut Vec<(String, &'c Arg)>) {
    let mut is_group = false;
    for below in subcommands(command) {
        is_group = true;
        names.push(below.get_name());
        flags(below, names, all);
        names.pop();
    }
    if !is_group {
        let table = names.join(".");
        all.extend(command.get_arguments().map(|arg| (table.clone(), arg)));
    }
}

fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    let all = command.get_subcommands();
    all.filter(|command| command.get_name() != "help")
}

fn read(key: &str, value: &DeValue<'_>, arg: &Arg) -> Result<FileValue, String> {
    let said = said(key, value, arg)?;
    if let FileValue::Values(values) = &said
        && NEVER_EMPTY.contains(&key)
        && values.iter().all(String::is_empty)
    {
        return Err(format!(
            "`{key}` names no recipient: name who may read the archives, or leave the line out if all may"
        ));
    }
    Ok(said)
}

fn said(key: &str, value: &DeValue<'_>, arg: &Arg) -> Result<FileValue, String> {
    match value {
        _ if !arg.get_action().takes_values() => match value {
            DeValue::Boolean(on) => Ok(FileValue::Switch(*on)),
            other => Err(format!("`{key}` is true or false, not {}", kind(other))),
        },
        DeValue::Array(values) if matches!(arg.get_action(), ArgAction::Append) => {
            let each = values.iter().map(|value| one(key, value.get_ref(), arg));
            Ok(FileValue::Values(each.collect::<Result<_, _>>()?))
        }
        DeValue::Array(_) => Err(format!("`{key}` takes one value, not a list")),
        value => Ok(FileValue::Values(vec![one(key, value, arg)?])),
    }
}

fn one(key: &str, value: &DeValue<'_>, arg: &Arg) -> Result<String, String> {
    let parser = arg.get_value_parser().type_id();
    let of_text = [
        TypeId::of::<PathBuf>(),
        TypeId::of::<Location>(),
        TypeId::of::<OsString>(),
        TypeId::of::<String>(),
    ];
    let only_text = of_text.iter().any(|known| parser == *known);
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if !only_text && number.radix() == 10 => {
            Ok(number.as_str().replace('_', ""))
        }
        DeValue::Datetime(time) if !only_text => Ok(time.to_string()),
        other => Err(format!(
            "`{key}` takes {}, not {}",
            wanted(arg, only_text),
            kind(other)
        )),
    }
}

fn wanted(arg: &Arg, only_text: bool) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let name = names.first().map_or("VALUE", |name| name.as_str());
    let how = if only_text {
        "in quotes"
    } else {
        "as a number or in quotes"
    };
    format!("a {name} {how}")
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// `; is it NAME?` with the known name that is most similar to `key`.
fn nearest(key: &str, known: impl Iterator<Item = String>) -> String {
    let likeness = known.map(|name| (strsim::jaro(key, &name), name));
    let best = likeness.max_by(|(a, _), (b, _)| a.total_cmp(b));
    match best {
        Some((likeness, name)) if likeness >= ALIKE => format!("; is it `{name}`?"),
        _ => String::new(),
    }
}
