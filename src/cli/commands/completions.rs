//! `completions`: a shell's script to complete this command's words.
//!
//! In: the shell. Out: its script on stdout.

use clap::Command;
use clap_complete::Shell;
use serde_json::json;

use crate::cli::context::Context;

#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// Shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// `line` is the whole command line.
pub(crate) fn run(args: &Completions, mut line: Command, cx: &Context<'_>) {
    let out = &cx.out;
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut line, "etcd-ark", &mut script);
    // clap_complete 4.6.11 writes the dash of a binary's name in two ways for bash, and then finds no command's flags.
    let script = String::from_utf8_lossy(&script).replace("etcd__subcmd__ark", "etcd__ark");
    if out.is_json() {
        out.json(|| json!({ "shell": args.shell.to_string(), "script": script }));
    } else {
        out.stream(|stdout| stdout.write_all(script.as_bytes()));
    }
}
