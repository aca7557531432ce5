//! Compares the table of flags in docs/reference.md with the commands.

use std::collections::BTreeMap;

use clap::{Arg, Command};

use crate::cli::help::tests::leaves;

/// The text between the comments that begin and end the table `name`.
fn table<'t>(text: &'t str, name: &str) -> &'t str {
    let begin = format!("<!-- {name} -->\n");
    let (_, rest) = text.split_once(&begin).expect("the table's beginning");
    let end = format!("<!-- end of {name} -->");
    rest.split_once(&end).expect("the table's end").0
}

/// A command's full name, without the tool's own name.
fn name(command: &Command) -> String {
    let called = command.get_bin_name().unwrap_or_default();
    called.trim_start_matches("etcd-ark ").to_owned()
}

/// A row for each flag, with its commands; flags with different variables have different rows.
fn flags(commands: &[Command]) -> String {
    let mut rows: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for command in commands {
        let shown = |arg: &&Arg| !arg.is_positional() && !arg.is_hide_set();
        for arg in command.get_arguments().filter(shown) {
            let long = arg.get_long().expect("a long name");
            let value = arg
                .get_value_names()
                .filter(|_| arg.get_action().takes_values());
            let value = value.map(|names| format!(" {}", names[0].as_str()));
            let short = arg.get_short().map(|short| format!("`, `-{short}"));
            let flag = format!(
                "`--{long}{}{}`",
                value.unwrap_or_default(),
                short.unwrap_or_default()
            );
            let variable = arg
                .get_env()
                .map(|name| format!("`{}`", name.to_string_lossy()));
            let key = (flag.replace('|', "\\|"), variable.unwrap_or_default());
            rows.entry(key).or_default().push(name(command));
        }
    }
    let mut table = "| flag | commands | variable |\n|---|---|---|\n".to_owned();
    for ((flag, variable), mut takers) in rows {
        takers.sort();
        let takers = if takers.len() == commands.len() {
            "all".to_owned()
        } else {
            takers.join(", ")
        };
        let row = [flag, takers, variable].join(" | ");
        table.extend(["| ", &row, " |\n"]);
    }
    table
}

#[test]
fn the_table_of_flags_in_the_reference_is_that_of_the_command_line() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference.md");
    let reference = std::fs::read_to_string(path).expect("docs/reference.md");
    let expected = flags(&leaves());
    let is_true = table(&reference, "flags") == expected;
    assert!(is_true, "docs/reference.md should have:\n{expected}");
}
