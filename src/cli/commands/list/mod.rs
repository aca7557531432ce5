//! `list`: the archives of a backup dir, newest first, read from their ends only.

pub(crate) mod history;

use crate::etcd::ids::ClusterId;
use crate::etcd::text::printable;
use crate::repository::{ArchiveSummary, Repository, summarize};
use crate::text::{names_in_table, size};
use clap::builder::BoolishValueParser;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::error::{CliError, Result};
use crate::cli::json::{self, text};
use crate::cli::layout::Table;
use crate::cli::output::{Output, Paint};
use crate::cli::render::member::versions_text;

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) repository: crate::cli::flags::repository::RepositoryFlags,
    #[command(flatten)]
    selection: crate::cli::flags::selection::Selection,
    /// Print the archives' names only, one a line
    #[arg(long, conflicts_with = "history", env = "ETCD_ARK_NAMES", value_parser = BoolishValueParser::new())]
    names: bool,
    #[command(flatten)]
    pub(crate) history: crate::cli::commands::list::history::HistoryFlags,
}

pub(crate) fn run(args: &List, cx: &Context<'_>) -> Result<()> {
    let repository = args.repository.open(&cx.places)?;
    let mut catalog = summarize(&*repository)?;
    args.selection.narrow(&mut catalog);
    for summary in &mut catalog.summaries {
        cx.places.read_warnings(&*repository, summary);
    }
    cx.interrupt.check()?;
    cx.out.warn_skipped(&*repository);
    let unreadable = catalog.unreadable.into_iter();
    let unreadable: Vec<_> = unreadable
        .map(|(listed, error)| {
            let path = text(&repository.path_of(&listed.name));
            (path, CliError::from(error))
        })
        .collect();
    let problems = || {
        let all = unreadable.iter();
        all.map(|(path, failure)| json::problem(path, failure.kind, &failure.message))
            .collect::<Vec<_>>()
    };
    let summaries = &catalog.summaries;
    if args.history.history {
        let histories = history::of(&args.history, summaries);
        cx.out.json(|| {
            json!({
                "members": history::to_json(&histories, &*repository),
                "problems": problems(),
                "skipped": repository.skipped(),
            })
        });
        history::print(&histories, &cx.out);
    } else {
        let archives = summaries.iter();
        let archives = archives.map(|summary| to_json(&*repository, summary));
        cx.out.json(|| {
            json!({
                "archives": archives.collect::<Vec<_>>(),
                "problems": problems(),
                "skipped": repository.skipped(),
            })
        });
        if args.names {
            for summary in summaries {
                cx.out.line(&printable(summary.name()));
            }
        } else {
            print(summaries, &cx.out);
        }
    }
    if summaries.is_empty() && unreadable.is_empty() {
        let which = args.selection.text();
        let none = format!("no archives{which} in {}", repository.location());
        if args.names {
            cx.out.note(&none);
        } else {
            cx.out.line(&none);
        }
    }
    for (_, failure) in &unreadable {
        cx.out.warn(&failure.message);
    }
    Ok(())
}

/// A table for each cluster, the one with the newest archive first.
fn print(summaries: &[ArchiveSummary], out: &Output) {
    let ids = summaries.iter().map(|summary| summary.identity.cluster_id);
    for (place, id) in in_order_of_appearance(ids).into_iter().enumerate() {
        if place > 0 {
            out.line("");
        }
        out.line(&out.paint(Paint::Strong, &format!("cluster {id}")));
        let of_it = summaries.iter();
        for line in table(of_it.filter(|summary| summary.identity.cluster_id == id)).lines() {
            out.line(&line);
        }
    }
}

/// Each cluster once.
pub(crate) fn in_order_of_appearance(ids: impl Iterator<Item = ClusterId>) -> Vec<ClusterId> {
    let mut clusters = Vec::new();
    for id in ids {
        if !clusters.contains(&id) {
            clusters.push(id);
        }
    }
    clusters
}

fn table<'s>(summaries: impl Iterator<Item = &'s ArchiveSummary> + Clone) -> Table {
    let names = names_in_table(summaries.clone().map(|summary| &summary.identity));
    let mut table = Table::new(&[
        "CREATED (UTC)",
        ">INDEX",
        "VERSION",
        ">DATA",
        ">ARCHIVE",
        "MEMBER",
        "LABELS",
    ]);
    for (summary, name) in summaries.zip(names) {
        let cells = [
            summary.created.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            summary.position.index.to_string(),
            versions_text(
                summary.cluster_version.as_ref(),
                summary.pending_version.as_ref(),
            ),
            // For damaged data it is not known what a start would need.
            if summary.is_damaged() {
                "-".to_owned()
            } else {
                size(summary.sizes.data)
            },
            size(summary.listed.bytes),
            name,
            labels(summary),
        ];
        table.row(cells.into(), vec![printable(summary.name())]);
    }
    table
}

/// The user's labels, and a mark if it is not a usable backup.
fn labels(summary: &ArchiveSummary) -> String {
    let damaged = summary.is_damaged().then(|| "DAMAGED".to_owned());
    let dead = summary.does_not_start.as_ref();
    let dead = dead.map(|_| "DOES NOT START".to_owned());
    let all: Vec<_> = damaged
        .into_iter()
        .chain(dead)
        .chain(summary.labels.clone())
        .collect();
    printable(&all.join(","))
}

fn to_json(repository: &dyn Repository, summary: &ArchiveSummary) -> Value {
    let sizes = &summary.sizes;
    let more = json!({
        "scope": summary.scope,
        "damaged": summary.is_damaged(),
        "encrypted": summary.ciphertext.is_some(),
        "data_bytes": sizes.data,
        "directory_bytes": sizes.directory,
        "limit_bytes": sizes.limit,
        "warnings": summary.warnings,
    });
    json::with(json::archive(repository, summary), more)
}
