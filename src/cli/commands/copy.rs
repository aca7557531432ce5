//! `copy`: archives from one repository to another, each verified before and after.

use std::path::{Path, PathBuf};

use crate::archive::ArchiveError;
use crate::repository::copy::{Copied, CopyError, copy};
use crate::repository::{ArchiveRef, Repository, is_archive_name};
use crate::text::size;
use clap::ValueHint;
use serde_json::json;

use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::flags::chosen::{latest, named};
use crate::cli::flags::lock_wait::LockWait;
use crate::cli::flags::selection::Selection;
use crate::cli::json::{self, text};
use crate::cli::location::{Location, TargetName};
use crate::cli::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Copy {
    /// Backup directory or bucket URL to copy from
    #[arg(value_name = "FROM", value_hint = ValueHint::AnyPath)]
    pub(crate) from: Location,
    /// Backup directory or bucket URL to copy to
    #[arg(value_name = "TO", value_hint = ValueHint::AnyPath)]
    to: Location,
    /// Archives in FROM, by path, name or part of it; or latest, latest:LABEL [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    lock: LockWait,
}

pub(crate) fn run(args: &Copy, cx: &Context<'_>) -> Result<()> {
    let from = cx.places.repository(&args.from)?;
    let to = cx.places.repository(&args.to)?;
    refuse_same(&*from, &*to)?;
    let wanted = wanted(&*from, args, &cx.out)?;
    to.prepare()?;
    let _lock = args.lock.take(to.directory(), "copy", cx)?;
    let (mut new, mut bytes, mut there) = (0_u64, 0, 0_u64);
    let (mut results, mut problems) = (Vec::new(), Vec::new());
    let mut worst: Option<CliError> = None;
    let mut cut_short = false;
    for listed in &wanted {
        let outcome = cx.watched(|observe| copy(&*from, &*to, listed, cx.interrupt, observe));
        let path = text(&to.path_of(&listed.name));
        match outcome {
            Ok(Copied::New(copied)) => {
                new += 1;
                bytes += copied;
                cx.out.print(&format!("copied {path}  {}", size(copied)));
                results.push(json!({"archive": path, "copied": true, "archive_bytes": copied}));
            }
            Ok(Copied::AlreadyThere) => {
                there += 1;
                results
                    .push(json!({"archive": path, "copied": false, "archive_bytes": listed.bytes}));
            }
            Err(error) => {
                let is_corrupt = matches!(error, CopyError::Archive(ArchiveError::Fault { .. }));
                let mut failure = CliError::from(error);
                cx.interrupt.check()?;
                results
                    .push(json!({"archive": path, "copied": false, "archive_bytes": listed.bytes}));
                problems.push(json::problem(&path, failure.kind, &failure.message));
                if is_corrupt && failure.kind == Kind::Corrupt {
                    failure = failure.hint(set_aside(&*from, &listed.name));
                }
                // If there is no space left, or a place does not answer, all others would fail too.
                if failure.kind == Kind::Failed
                    && let Err(of_place) = answer(&*from).and_then(|()| answer(&*to))
                {
                    failure.hint = of_place.hint.or(failure.hint);
                    cut_short = true;
                }
                cut_short |= failure.kind == Kind::NoSpace;
                // For a single archive the failure itself is reported.
                if wanted.len() > 1 && !cut_short {
                    cx.out.warn(&failure.message);
                }
                // The first failure is reported, but corruption outweighs every other.
                let outweighs =
                    |known: &CliError| known.kind != Kind::Corrupt && failure.kind == Kind::Corrupt;
                if worst.as_ref().is_none_or(outweighs) {
                    worst = Some(failure);
                }
                if cut_short {
                    break;
                }
            }
        }
    }
    cx.out.json(|| {
        json!({
            "copied": new, "copied_bytes": bytes, "already_there": there, "archives": results,
            "problems": problems, "skipped": from.skipped(),
        })
    });
    let summary = format!(
        "{new} copied ({}), {there} already there, of {}",
        size(bytes),
        wanted.len()
    );
    // If archives are named, the user must learn that none of them was copied.
    if new == 0 && !args.names.is_empty() {
        cx.out.report(&summary);
    } else {
        cx.out.print(&summary);
    }
    let Some(first) = worst else {
        return Ok(());
    };
    let failed = wanted.len() as u64 - new - there;
    let were = if failed == 1 { "was" } else { "were" };
    let tried = format!("{failed} of {} archives {were} not copied", wanted.len());
    let hint = match (&first.hint, cut_short && new + there > 0) {
        (Some(hint), false) => hint.to_string(),
        (Some(hint), true) => format!("{hint}; then run it again for the rest"),
        (None, _) => "those that were copied are whole; run it again for the rest".to_owned(),
    };
    Err(first.context(&tried).hint(hint))
}

/// The archives to copy, at least one.
fn wanted(from: &dyn Repository, args: &Copy, out: &Output) -> Result<Vec<ArchiveRef>> {
    if args.names.is_empty() {
        let all = args.selection.listed(from, out)?;
        if all.is_empty() {
            return Err(nothing_in(from));
        }
        return Ok(all);
    }
    let mut listed = Vec::new();
    for name in names_in(from, args)? {
        listed.push(from.look_up(&name)?);
    }
    Ok(listed)
}

/// Checks that the place answers at all.
fn answer(place: &dyn Repository) -> Result<()> {
    place.list()?;
    Ok(())
}

/// What to do about a corrupt archive, so that the next nightly run succeeds.
fn set_aside(from: &dyn Repository, name: &str) -> String {
    format!(
        "once another archive of this member verifies (`etcd-ark verify {from}`), move `{name}` and what is beside it \
         (`{name}.*`) out of `{from}`; every `copy` ends with 4 until then",
        from = from.location()
    )
}

/// The names of archives in `from`, each once: `given` as file names, or as paths into it, as a shell
/// makes them from `FROM/*.tar.zst`. Other paths are refused: they would be read from another place.
fn names_in(from: &dyn Repository, args: &Copy) -> Result<Vec<String>> {
    let filter = args.selection.filter();
    let mut names = Vec::new();
    for given in &args.names {
        let name = match (
            TargetName::from(PathBuf::from(given)),
            given.rsplit_once('/'),
        ) {
            (TargetName::Latest { label }, _) => latest(from, label.as_deref(), filter)?,
            (_, None) => named(from, given, filter)?.unwrap_or_else(|| given.clone()),
            (_, Some((place, name))) if is_place(from, place) => {
                if !filter.is_of_all() {
                    named(from, name, filter)?;
                }
                name.to_owned()
            }
            _ => return Err(wrong_name(from, given, "is not in")),
        };
        if !is_archive_name(&name) {
            return Err(wrong_name(from, given, "is not the name of an archive in"));
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether `place`, the part of a path before its last slash, is the directory `from`.
fn is_place(from: &dyn Repository, place: &str) -> bool {
    // An empty part before the first slash is the root.
    let place = if place.is_empty() { "/" } else { place };
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    match (from.directory(), Location::from(PathBuf::from(place))) {
        (Some(dir), Location::Path(place)) => {
            real(dir).is_some_and(|dir| real(&place) == Some(dir))
        }
        _ => place == from.location(),
    }
}

fn wrong_name(from: &dyn Repository, given: &str, what: &str) -> CliError {
    CliError::usage(format!("`{given}` {what} `{}`", from.location()))
        .hint("name archives as `etcd-ark list` shows them; without any NAME all are copied")
}

/// Refuses a copy to the same place under another name.
fn refuse_same(from: &dyn Repository, to: &dyn Repository) -> Result<()> {
    let real = |place: &dyn Repository| {
        let dir = place.directory();
        dir.and_then(|dir| std::fs::canonicalize(dir).ok())
            .unwrap_or_else(|| PathBuf::from(place.location()))
    };
    if real(from) != real(to) {
        return Ok(());
    }
    Err(CliError::usage(format!(
        "source and destination are the same: `{}` and `{}`",
        from.location(),
        to.location()
    ))
    .hint("copy to another disk, or to a bucket"))
}

/// The error for an empty source: a nightly copy from a wrong prefix must not succeed forever.
fn nothing_in(from: &dyn Repository) -> CliError {
    Kind::NotFound
        .error(format!("no archives in `{}`", from.location()))
        .hint("pass the backup dir, or the bucket's URL, that `snapshot` was given as --backup-dir; is its disk mounted?")
}
