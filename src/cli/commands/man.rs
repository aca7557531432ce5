//! `man`: the manual, made from the same text as `--help`.
//!
//! In: a command's name, or a directory. Out: one page on stdout, or all of them as files. A page has no date and
//! nothing of this machine: the same release makes the same bytes.

pub(crate) mod text;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::fs::dir::{Dir, PUBLIC, create_dirs};
use crate::fs::staged::StagedFile;
use clap::Command;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use serde_json::json;

use crate::cli::commands::man::text::{
    ENVIRONMENT, FILES, description, exit_status, items, see_also,
};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Result};
use crate::cli::help;
use crate::cli::json::text;

#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// Command, such as `snapshot` or `downgrade check` [default: etcd-ark(1)]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write every page into this directory, created if missing
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with = "command",
        env = "ETCD_ARK_MAN_OUT"
    )]
    out: Option<PathBuf>,
}

/// A page of section 1.
struct Page {
    /// Its name without the section, such as `etcd-ark-snapshot`.
    name: String,
    roff: String,
}

/// `line` is the whole command line.
pub(crate) fn run(args: &Man, line: Command, cx: &Context<'_>) -> Result<()> {
    let out = &cx.out;
    let whole = whole(line);
    let pages = pages(&whole)?;
    if let Some(dir) = &args.out {
        if dir.exists() && !dir.is_dir() {
            let message = format!("`{}` is a file, not a directory", dir.display());
            return Err(CliError::usage(message).hint("pass the path of a directory"));
        }
        create_dirs(dir, PUBLIC)?;
        let into = Dir::open(dir)?;
        let mut written = Vec::new();
        for page in &pages {
            let name = format!("{}.1", page.name);
            let staged = StagedFile::holding(&into, page.roff.as_bytes())?;
            staged
                .file()
                .set_permissions(PermissionsExt::from_mode(0o644))?;
            staged.replace(name.as_ref())?;
            written.push(text(&dir.join(name)));
        }
        out.report(&format!("{} pages in {}", pages.len(), dir.display()));
        out.json(|| json!({ "pages": written }));
        return Ok(());
    }
    let mut name = vec!["etcd-ark"];
    name.extend(args.command.iter().map(String::as_str));
    let name = name.join("-");
    // `backup` is another name of `snapshot`.
    let command = args
        .command
        .first()
        .and_then(|word| whole.find_subcommand(word));
    let own = command.and_then(Command::get_display_name);
    let own = own.filter(|_| args.command.len() == 1).unwrap_or(&name);
    let page = pages.iter().find(|page| page.name == own).ok_or_else(|| {
        CliError::usage(format!("there is no command `{}`", args.command.join(" ")))
            .hint("`etcd-ark --help` lists the commands")
    })?;
    if out.is_json() {
        out.json(|| json!({ "name": page.name, "section": 1, "roff": page.roff }));
    } else {
        out.stream(|stdout| stdout.write_all(page.roff.as_bytes()));
    }
    Ok(())
}

/// The command line with every command's full name, and the global flags set apart.
fn whole(line: Command) -> Command {
    let mut command = line.disable_help_subcommand(true).mut_args(|arg| {
        if arg.is_global_set() {
            arg.help_heading("Options of every command")
        } else {
            arg
        }
    });
    command.build();
    command
}

/// The page of a command, then those of its subcommands.
fn pages(command: &Command) -> io::Result<Vec<Page>> {
    let mut pages = vec![page(command)?];
    for command in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        pages.extend(self::pages(command)?);
    }
    Ok(pages)
}

fn page(command: &Command) -> io::Result<Page> {
    let name = command.get_display_name().unwrap_or("etcd-ark").to_owned();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim().to_owned();
    let man = clap_mangen::Man::new(command.clone().override_usage(usage));
    let mut roff = Vec::new();
    man.render_name_section(&mut roff)?;
    man.render_synopsis_section(&mut roff)?;
    man.render_description_section(&mut roff)?;
    further_description(&name, command).to_writer(&mut roff)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut roff)?;
    }
    man.render_options_section(&mut roff)?;
    prose_sections(&name, command).to_writer(&mut roff)?;
    let roff = in_one(&name, &String::from_utf8_lossy(&roff));
    Ok(Page { name, roff })
}

/// A page made of its sections, each with the same first lines. The title is written here because the
/// crate omits an empty date, so that the version would take its place.
fn in_one(name: &str, sections: &str) -> String {
    let is_head = |line: &&str| line.starts_with(".ie \\n(.g") || line.starts_with(".el .ds Aq");
    let mut page: Vec<_> = sections.lines().take_while(is_head).collect();
    let version = env!("CARGO_PKG_VERSION");
    let title = format!(
        ".TH \"{}\" \"1\" \"\" \"etcd-ark {version}\" \"etcd-ark\"",
        name.to_uppercase()
    );
    page.push(&title);
    page.extend(sections.lines().filter(|line| !is_head(line)));
    let mut text = String::new();
    for c in page.join("\n").chars() {
        // Not every roff is set to UTF-8, but all know character numbers.
        if c.is_ascii() {
            text.push(c);
        } else {
            text.extend(["\\[u", &format!("{:04X}", u32::from(c)), "]"]);
        }
    }
    text + "\n"
}

fn further_description(name: &str, command: &Command) -> Roff {
    let mut roff = Roff::new();
    // The main page lists the exit codes in a section of their own.
    let after = command.get_after_help().filter(|_| name != "etcd-ark");
    let after = after.map(ToString::to_string);
    for paragraph in description(name).iter().copied().chain(after.as_deref()) {
        roff.control("PP", []);
        roff.text([roman(paragraph)]);
    }
    roff
}

fn prose_sections(name: &str, command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in items(exit_status(name)) {
        item(&mut roff, bold(code), meaning);
    }
    if name == "etcd-ark" {
        roff.control("SH", ["ENVIRONMENT"]);
        for (variable, meaning) in items(ENVIRONMENT) {
            item(&mut roff, bold(variable), meaning);
        }
    }
    roff.control("SH", ["FILES"]);
    for (path, meaning) in items(FILES) {
        item(&mut roff, italic(path), meaning);
    }
    if let Some(examples) = help::examples(command.get_name()) {
        roff.control("SH", ["EXAMPLES"]);
        roff.control("nf", []);
        for line in examples.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(see_also(name))]);
    roff
}

fn item(roff: &mut Roff, tag: Inline, meaning: &str) {
    roff.control("TP", []);
    roff.text([tag]);
    roff.text([roman(meaning)]);
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::cli::args::Args;
    use crate::cli::commands::man::text::{EXIT_STATUS, items};

    #[test]
    fn the_manual_and_the_help_name_the_same_exit_codes() {
        let command = Args::command();
        let help = command.get_after_help().expect("exit codes").to_string();
        let told = help.split([' ', ',', '/', '.', '\n']);
        let told: Vec<_> = told.filter(|word| word.parse::<u8>().is_ok()).collect();
        let codes: Vec<_> = items(EXIT_STATUS).map(|(code, _)| code).collect();
        assert_eq!(codes, told);
    }
}
