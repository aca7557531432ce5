//! The layout of `-h` and `--help`: groups, examples, and the environment in one place.
//!
//! In: the command line from its structs. Out: the same, with `-h` on one screen and everything in `--help`.

use std::any::TypeId;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, PathBufValueParser, TypedValueParser};
use clap::{Arg, ArgAction, Command};

use crate::cli::global::CONFIG_FLAG;
use crate::cli::location::no_url;

pub(crate) const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused, 4 corrupt, \
    5 warnings (--strict), 10 not found, 11 busy, 12 no space, 129, 130 or 143 stopped by a signal";

const GLOBAL: &str = "Global options";

/// The commands by purpose, in the order of `etcd-ark --help`.
const COMMANDS: &[(&str, &[&str])] = &[
    ("Back up", &["snapshot", "copy", "prune", "schedule"]),
    ("Look", &["list", "inspect", "verify", "keys", "diff"]),
    ("Upgrade", &["preflight", "explain-log"]),
    ("Go back", &["downgrade", "rewind", "restore", "put-keys"]),
    ("Monitor", &["status", "drill"]),
    ("Shell", &["completions", "man"]),
];

/// Headings for the flags of every command, by their ids.
const HEADINGS: &[(&str, &[&str])] = &[
    (
        "Connection",
        &[
            "endpoints",
            "cacert",
            "pin_sha256",
            "cert",
            "key",
            "username",
            "password_file",
            "timeout",
        ],
    ),
    (
        "Encryption",
        &["recipient", "recipients_file", "allow_plaintext"],
    ),
];

/// Further ones for the commands that take a snapshot.
const SNAPSHOT_HEADINGS: &[(&str, &[&str])] = &[
    ("Schedule", &["kind", "at", "every", "run_as"]),
    ("Source", &["data_dir", "wal_dir", "all", "damaged"]),
    (
        "Destination",
        &[
            "backup_dir",
            "spool_dir",
            "label",
            "if_changed",
            "lock_wait",
            "level",
            "threads",
        ],
    ),
    ("Monitoring", &["size_limit", "metrics_file", "self_test"]),
];

/// Flags that only `--help` lists, by their ids.
const RARE: &[&str] = &[
    "spool_dir",
    "level",
    "threads",
    "prove_again_after",
    "keep_hourly",
    "keep_weekly",
    "keep_monthly",
    "keep_yearly",
    "lock_wait",
    "timeout",
    "pin_sha256",
    "damaged",
    "in_order_rules",
    "scratch_dir",
    "interval",
    "accept_data_size",
    "stopped_version",
    "within",
];

/// The flags of `snapshot` that `schedule -h` lists.
const OF_SCHEDULE: &[&str] = &["kind", "at", "every", "run_as", "data_dir", "backup_dir"];

/// The examples at the end of a command's `-h` and of its manual page, below the command's name.
const EXAMPLES: &str = r"
[etcd-ark]
etcd-ark snapshot --data-dir /var/lib/etcd --backup-dir /var/backups/etcd
etcd-ark verify /var/backups/etcd
[snapshot]
etcd-ark snapshot --data-dir /var/lib/etcd --backup-dir /var/backups/etcd
etcd-ark snapshot --keep-last 8 --dry-run   # dirs from /etc/etcd-ark.toml
[verify]
etcd-ark verify /var/backups/etcd
etcd-ark verify --deep /var/lib/etcd
[restore]
etcd-ark restore latest --backup-dir /var/backups/etcd --member infra0 \
      --data-dir /var/lib/etcd --replace --dry-run
etcd-ark restore infra0.tar.zst --data-dir /var/lib/etcd   # nothing there yet
[drill]
etcd-ark drill latest --backup-dir /var/backups/etcd --etcd /usr/bin/etcd
etcd-ark drill /var/lib/etcd --etcd /usr/bin/etcd
[put-keys]
etcd-ark put-keys latest /app/config --backup-dir /var/backups/etcd \
      --endpoints http://10.0.1.10:2379 --dry-run
etcd-ark put-keys /var/lib/etcd /app/config --at-index 318 \
      --endpoints http://10.0.1.10:2379   # as it was before entry 319
[list]
etcd-ark list /var/backups/etcd
etcd-ark list --member infra0 --since 7d /var/backups/etcd
[copy]
etcd-ark copy /var/backups/etcd s3://backups/etcd
etcd-ark copy s3://backups/etcd /var/backups/etcd
[inspect]
etcd-ark inspect /var/lib/etcd
etcd-ark inspect latest:pre-upgrade --backup-dir /var/backups/etcd
[keys]
etcd-ark keys /var/lib/etcd
etcd-ark keys /var/lib/etcd /app/config --values --at-index 240
[diff]
etcd-ark diff latest /var/lib/etcd --backup-dir /var/backups/etcd
etcd-ark diff infra0.tar.zst infra1.tar.zst --at-common-index
[explain-log]
journalctl -u etcd -o cat | etcd-ark explain-log
tail -f etcd.log | etcd-ark explain-log --only-notable
[rewind]
etcd-ark rewind /backups/etcd-*.tar.zst --out /backups/rewound --dry-run
etcd-ark rewind /backups/etcd-*.tar.zst --out /backups/rewound
[downgrade]
etcd-ark downgrade check --endpoints http://10.0.1.10:2379 \
      --data-dir /var/lib/etcd
etcd-ark downgrade run --endpoints http://10.0.1.10:2379 \
      --data-dir /var/lib/etcd --backup-dir /var/backups/etcd
[check]
etcd-ark downgrade check --endpoints http://10.0.1.10:2379 \
      --data-dir /var/lib/etcd
etcd-ark downgrade check --offline infra0.etcd infra1.etcd   # all are stopped
[run]
etcd-ark downgrade run --endpoints http://10.0.1.10:2379 \
      --data-dir /var/lib/etcd --backup-dir /var/backups/etcd --dry-run
etcd-ark downgrade run --endpoints http://10.0.1.10:2379 \
      --data-dir /var/lib/etcd --backup-dir /var/backups/etcd
[preflight]
etcd-ark preflight --endpoints http://10.0.1.10:2379 \
      --data-dir /var/lib/etcd --backup-dir /var/backups/etcd
etcd-ark preflight --watch --endpoints http://10.0.1.10:2379
[prune]
etcd-ark prune /var/backups/etcd --keep-last 8 --keep-daily 14 --dry-run
etcd-ark prune   # backup dir and rules from /etc/etcd-ark.toml
[status]
etcd-ark status /var/backups/etcd --max-age 26h
etcd-ark status /var/backups/etcd --member infra0 --max-age 26h --quick
[schedule]
etcd-ark schedule --data-dir /var/lib/etcd \
      --backup-dir /var/backups/etcd --keep-daily 14
etcd-ark schedule --kind cron --every 6h --data-dir /var/lib/etcd \
      --backup-dir /var/backups/etcd --keep-last 8
[completions]
etcd-ark completions bash > /etc/bash_completion.d/etcd-ark
[man]
etcd-ark man snapshot | man -l -
";

/// The command line with its help laid out, and with URLs refused where a value must be a local path.
pub(crate) fn arranged(command: Command) -> Command {
    let command = local_paths(command);
    let help = Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::Help)
        .global(true)
        .help("Print help; -h prints the options used most");
    let command = command.disable_help_flag(true).arg(help);
    let list = command_list(&command);
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{list}\n{{options}}{{after-help}}\n\n\
        Help for a command: etcd-ark COMMAND -h, or --help for all of it"
    );
    let globals = variables(&command);
    let examples = headed_examples("etcd-ark").unwrap_or_default();
    command
        .after_long_help(format!("{examples}\n\n{EXIT_CODES}"))
        .after_help(examples)
        .mut_args(|arg| {
            if arg.is_global_set() {
                arg.help_heading(GLOBAL)
                    .hide_short_help(true)
                    .hide_env(true)
            } else {
                arg
            }
        })
        .help_template(template)
        .mut_subcommands(|command| command_help(command, &globals))
}

fn local_paths(command: Command) -> Command {
    let path = TypeId::of::<PathBuf>();
    command
        .mut_args(|arg| {
            if arg.get_id() == CONFIG_FLAG {
                arg.value_parser(OsStringValueParser::new().try_map(no_url))
            } else if arg.get_value_parser().type_id() == path {
                let local = |path: PathBuf| no_url(path.into_os_string()).map(PathBuf::from);
                arg.value_parser(PathBufValueParser::new().try_map(local))
            } else {
                arg
            }
        })
        .mut_subcommands(local_paths)
}

fn command_list(command: &Command) -> String {
    let about = |name: &str| {
        let about = command.find_subcommand(name).and_then(Command::get_about);
        about.map(ToString::to_string).unwrap_or_default()
    };
    let groups = COMMANDS.iter().flat_map(|(group, names)| {
        let lines = names.iter();
        let lines = lines.map(|name| format!("  {name:<12} {}\n", about(name)));
        std::iter::once(format!("{group}:\n")).chain(lines)
    });
    groups.collect()
}

fn command_help(command: Command, globals: &[(String, String)]) -> Command {
    let name = command.get_name().to_owned();
    let takes_snapshots = name == "snapshot" || name == "schedule";
    let of_snapshot = SNAPSHOT_HEADINGS.iter().filter(|_| takes_snapshots);
    let headings: Vec<_> = HEADINGS.iter().chain(of_snapshot).collect();
    let command = command.mut_args(|arg| {
        let id = arg.get_id().as_str();
        let group = headings.iter().find(|(_, ids)| ids.contains(&id));
        let passed_on = name == "schedule" && !OF_SCHEDULE.contains(&id);
        let rare = RARE.contains(&id) || passed_on;
        let positional = arg.is_positional();
        let arg = arg.hide_env(true);
        let arg = if rare { arg.hide_short_help(true) } else { arg };
        match group {
            Some((heading, _)) if !positional => arg.help_heading(*heading),
            _ => arg,
        }
    });
    let examples = headed_examples(&name);
    let prose = command.get_after_help().map(ToString::to_string);
    let exit_codes = (name != "status").then(|| EXIT_CODES.to_owned());
    let passed_on = (name == "schedule").then(|| {
        "Takes all options of `snapshot`, too, and writes them into what it prints.".to_owned()
    });
    let short = [
        passed_on,
        examples.clone(),
        Some(format!(
            "More options, exit codes and the environment: etcd-ark {} --help",
            full_name(&name)
        )),
    ];
    let long = [
        prose,
        examples,
        exit_codes,
        Some(environment(&command, globals)),
    ];
    let joined = |parts: &[Option<String>]| {
        let parts: Vec<_> = parts.iter().flatten().map(String::as_str).collect();
        parts.join("\n\n")
    };
    command
        .after_help(joined(&short))
        .after_long_help(joined(&long))
        .mut_subcommands(|command| command_help(command, globals))
}

pub(crate) fn examples(name: &str) -> Option<&'static str> {
    let mut all = EXAMPLES
        .split("\n[")
        .filter_map(|part| part.split_once("]\n"));
    let (_, lines) = all.find(|(command, _)| *command == name)?;
    Some(lines.trim_end())
}

fn headed_examples(name: &str) -> Option<String> {
    let lines = examples(name)?.replace('\n', "\n  ");
    Some(format!("Examples:\n  {lines}"))
}

fn full_name(name: &str) -> String {
    match name {
        "check" | "run" => format!("downgrade {name}"),
        name => name.to_owned(),
    }
}

fn variables(command: &Command) -> Vec<(String, String)> {
    let pair = |arg: &Arg| {
        let variable = arg.get_env()?.to_string_lossy().into_owned();
        let value = || arg.get_id().as_str().to_uppercase();
        let name = arg
            .get_long()
            .map_or_else(value, |long| format!("--{long}"));
        Some((name, variable))
    };
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    shown.filter_map(pair).collect()
}

fn environment(command: &Command, globals: &[(String, String)]) -> String {
    let mut pairs = variables(command);
    pairs.extend_from_slice(globals);
    let width = pairs.iter().map(|(name, _)| name.len()).max();
    let width = width.unwrap_or_default();
    let lines = pairs.iter();
    let lines = lines.map(|(name, variable)| format!("\n  {name:<width$}  {variable}"));
    let title = "Environment, where the command line says nothing:".to_owned();
    std::iter::once(title).chain(lines).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::CommandFactory as _;
    use clap::error::ErrorKind;

    use super::*;
    use crate::cli::args::Args;

    pub(crate) fn leaves() -> Vec<Command> {
        let mut command = arranged(Args::command()).term_width(80);
        command.build();
        let mut found = Vec::new();
        let mut left = vec![command];
        while let Some(command) = left.pop() {
            left.extend(
                command
                    .get_subcommands()
                    .filter(|c| c.get_name() != "help")
                    .cloned(),
            );
            if !command.has_subcommands() {
                found.push(command);
            }
        }
        found
    }

    #[test]
    fn the_short_help_of_every_command_fits_on_one_screen() {
        let helps = leaves()
            .into_iter()
            .map(|mut command| command.render_help().to_string());
        let long: Vec<_> = helps.filter(|help| help.lines().count() > 40).collect();
        assert!(long.is_empty(), "{}", long.join("\n=====\n"));
        let top = arranged(Args::command())
            .term_width(80)
            .render_help()
            .to_string();
        let widest = top.lines().map(|line| line.chars().count()).max();
        assert!(top.lines().count() <= 40 && widest <= Some(80), "{top}");
    }

    #[test]
    fn every_command_is_in_one_group_and_has_two_examples_that_parse() {
        let grouped: Vec<_> = COMMANDS.iter().flat_map(|(_, names)| *names).collect();
        for command in Args::command().get_subcommands() {
            let times = grouped.iter().filter(|name| ***name == command.get_name());
            assert_eq!(times.count(), 1, "{}", command.get_name());
        }
        for command in leaves() {
            let name = command.get_name();
            let count = examples(name).expect(name).matches("etcd-ark ").count();
            assert!(
                count >= 2 || ["completions", "man"].contains(&name),
                "{name}"
            );
        }
        for line in EXAMPLES.lines() {
            assert!(line.chars().count() <= 78, "{line}");
        }
        for line in EXAMPLES.replace("\\\n", " ").lines() {
            if line.is_empty() || line.starts_with('[') {
                continue;
            }
            let call = line.split(" | ").find(|part| part.starts_with("etcd-ark "));
            let call = call.expect(line).split(['#', '>']).next().unwrap();
            let parsed = Args::command().try_get_matches_from(call.split_whitespace());
            let dirs_from_file = line.contains("etcd-ark.toml");
            assert!(parsed.is_ok() || dirs_from_file, "{line}: {parsed:?}");
        }
    }

    #[test]
    fn no_table_of_the_layout_names_an_option_that_is_gone() {
        let commands = leaves();
        let groups = HEADINGS.iter().chain(SNAPSHOT_HEADINGS);
        let named = groups
            .flat_map(|(_, ids)| *ids)
            .chain(RARE)
            .chain(OF_SCHEDULE);
        for id in named {
            let known = commands.iter().any(|command| {
                command
                    .get_arguments()
                    .any(|arg| arg.get_id().as_str() == *id)
            });
            assert!(known, "{id}");
        }
    }

    #[test]
    fn what_names_a_path_on_this_machine_takes_no_url() {
        let path = TypeId::of::<PathBuf>();
        let mut found = Vec::new();
        for command in leaves() {
            let command = command.mut_args(|arg| arg.required(false));
            for arg in command.get_arguments() {
                let is_path = arg.get_value_parser().type_id() == path;
                if !is_path && arg.get_id() != CONFIG_FLAG {
                    continue;
                }
                let url = |value: &str| match arg.get_long() {
                    Some(long) => vec![command.get_name().to_owned(), format!("--{long}={value}")],
                    None => vec![command.get_name().to_owned(), value.to_owned()],
                };
                let name = format!("{} {arg}", command.get_name());
                for value in ["s3://bucket/x", "file:///x", "/x/https://y"] {
                    let parsed = command.clone().try_get_matches_from(url(value));
                    let refused = parsed.expect_err(&name);
                    assert_eq!(
                        refused.kind(),
                        ErrorKind::ValueValidation,
                        "{name}: {refused}"
                    );
                    assert!(refused.to_string().contains("this is a URL"), "{refused}");
                }
                found.push(name);
            }
        }
        let some = [
            "snapshot --data-dir <DIR>",
            "restore --cacert <FILE>",
            "explain-log [FILE]...",
        ];
        assert!(
            some.iter().all(|name| found.iter().any(|one| one == name)),
            "{found:?}"
        );
        assert!(found.len() > 60, "{found:?}");
    }
}
