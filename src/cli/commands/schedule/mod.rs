//! `schedule`: the text with which systemd or cron takes snapshots on this machine.
//!
//! In: the times, the user, and `snapshot`'s own flags. Out: two units or a crontab on stdout; nothing is installed.
//! The units are those of the Debian package, `dist/etcd-ark.service` and `.timer`, with a few lines changed.

pub(crate) mod command_line;
pub(crate) mod cron;
pub(crate) mod flags;
pub(crate) mod interval;
pub(crate) mod paths;
pub(crate) mod systemd;

use serde_json::{Value, json};

use crate::cli::commands::schedule::command_line::Line;
use crate::cli::commands::schedule::flags::{Schedule, Scheduler};
use crate::cli::commands::schedule::interval::When;
use crate::cli::commands::schedule::paths::Place;
use crate::cli::commands::schedule::systemd::{USER, Unit};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Result};
use crate::cli::layout::{WIDTH, wrap};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A file to write.
pub(crate) struct Text {
    path: &'static str,
    text: String,
}

pub(crate) fn run(args: &Schedule, cx: &Context<'_>) -> Result<()> {
    if args.snapshot.snapshot.damaged {
        return Err(CliError::usage(
            "`--damaged` is for one run by hand, with etcd stopped",
        ));
    }
    let when = args.at.or(args.every).unwrap_or(When::NIGHTLY);
    let exe = Place::of(&std::env::current_exe()?)?;
    let line = Line::new(&args.snapshot)?;
    let warnings = line.check(&args.snapshot.snapshot, &cx.places)?;
    let user = args.run_as.as_deref();
    let mut texts = match args.kind {
        Scheduler::Systemd => {
            let unit = Unit {
                exe: &exe,
                user: user.unwrap_or(USER),
                when,
                line: &line,
            };
            vec![unit.service(), unit.timer()]
        }
        Scheduler::Cron => vec![crate::cli::commands::schedule::cron::crontab(
            &exe,
            user.unwrap_or("root"),
            when,
            &line,
        )?],
    };
    for text in &mut texts {
        text.text = fitted(&text.text);
    }
    for warning in &warnings {
        cx.out.warn(warning);
    }
    if cx.out.is_json() {
        let files: Vec<Value> = texts
            .iter()
            .map(|text| json!({ "path": text.path, "text": text.text }))
            .collect();
        cx.out
            .json(|| json!({ "files": files, "warnings": warnings }));
    } else {
        let texts: Vec<_> = texts.into_iter().map(|text| text.text).collect();
        cx.out
            .stream(|stdout| stdout.write_all(texts.join("\n").as_bytes()));
    }
    Ok(())
}

/// A unit or crontab with its comments in lines that fit; a setting and a crontab's command stay on one line.
fn fitted(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut comment = String::new();
    for line in text.lines().chain([""]) {
        // Neither a command nor the name of the file.
        let prose = line.strip_prefix("# ");
        if let Some(more) =
            prose.filter(|text| !text.starts_with("/etc/") && !text.starts_with(' '))
        {
            comment = format!("{comment}{more} ");
            continue;
        }
        if !comment.is_empty() {
            let wrapped = wrap(&std::mem::take(&mut comment), WIDTH - 2);
            lines.extend(wrapped.iter().map(|line| format!("# {line}")));
        }
        lines.push(line.to_owned());
    }
    lines.pop();
    lines.join("\n") + "\n"
}
