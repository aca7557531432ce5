//! `inspect`: the content of an archive or a data dir, as text, as a picture, as JSON.

pub(crate) mod store;

use std::path::Path;

use crate::archive::manifest::Role;
use crate::archive::{Archive, Manifest};
use crate::data_dir::DataDir;
use crate::data_dir::scan::{Survey, survey};
use crate::data_dir::start::start_verdicts;
use crate::etcd::ids::{ClusterVersion, Release, SnapshotId};
use crate::etcd::member::{MemberFacts, VersionChange};
use crate::etcd::scan::{FileReport, Pass};
use crate::etcd::start::{Verdicts, but_do_not, cure, none_starts, own_release};
use crate::etcd::text::printable;
use crate::target::Target;
use crate::text::{count, size, utc};
use serde_json::json;

use crate::cli::commands::inspect::store as contents;
use crate::cli::commands::inspect::store::Contents;
use crate::cli::commands::verify::verdict::{FAILED, OK};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::flags::target::TargetFlags;
use crate::cli::json::{self, text};
use crate::cli::location::Location;
use crate::cli::output::{Output, Paint};
use crate::cli::render::log::picture;
use crate::cli::render::member::{position_text, row, starts_json, starts_why_json, version_text};

#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    pub(crate) from: TargetFlags,
}

pub(crate) fn run(args: &Inspect, cx: &Context<'_>) -> Result<()> {
    let opened = args.from.open(cx);
    let (path, target) = opened.inspect_err(|error| print_unopened(error, args, cx))?;
    let contents = || contents::read(&target, args.from.threads.count(), cx);
    match &target {
        Target::Archive(archive) => inspect_archive(archive, path.as_path(), contents, cx),
        Target::DataDir(data_dir) => inspect_data_dir(data_dir, path.as_path(), contents, cx),
    }
}

/// What servers do with a directory that cannot be opened as a data dir, for `--json`.
fn print_unopened(failure: &CliError, args: &Inspect, cx: &Context<'_>) {
    let (search, wal_dir) = (args.from.latest.search(), args.from.wal_dir.as_deref());
    let place = search.resolve(&args.from.target, wal_dir, cx);
    let dir = place.as_ref().ok().and_then(Location::local);
    let dir = dir.filter(|dir| dir.is_dir() && failure.kind == Kind::NotFound);
    let starts = dir.map(|dir| start_verdicts(dir, wal_dir, false));
    if let (Some(dir), Some(Ok(starts))) = (dir, starts) {
        cx.out.json(|| {
            json!({
                "target": text(dir),
                "kind": "data-dir",
                "status": FAILED,
                "starts": starts_json(Some(&starts)),
                "starts_why": starts_why_json(Some(&starts)),
            })
        });
    }
}

/// The word for a whole target, if a server up to the release of its data starts from it.
fn status(
    starts: Option<&Verdicts>,
    version: Option<&ClusterVersion>,
    has_db: bool,
) -> &'static str {
    let dead = starts.and_then(|starts| none_starts(starts, own_release(version, has_db)));
    if dead.is_none() { OK } else { FAILED }
}

fn inspect_archive(
    archive: &Archive,
    path: &Path,
    contents: impl FnOnce() -> Result<Contents>,
    cx: &Context<'_>,
) -> Result<()> {
    let out = &cx.out;
    let manifest = archive.manifest();
    for warning in manifest.warnings.iter() {
        out.warn(&warning.text);
    }
    for note in &manifest.notes {
        out.note(note);
    }
    let contents = contents();
    let starts = contents.as_ref().ok().and_then(Contents::starts);
    out.json(|| {
        json!({
            "target": text(path),
            "kind": "archive",
            "status": contents.as_ref().map_or(FAILED, |_| {
                status(starts, manifest.member.cluster_version.as_ref(), manifest.has_backend())
            }),
            "archive_bytes": archive.bytes(),
            "created_at": manifest.created,
            "member": json::member(&manifest.member.identity),
            "position": json::position(&manifest.member.position),
            "cluster_version": manifest.member.cluster_version,
            "labels": manifest.labels,
            "starts": starts_json(starts),
            "starts_why": starts_why_json(starts),
            "facts": manifest.member,
            "manifest": manifest,
            "store": contents.as_ref().ok().map(Contents::to_json),
        })
    });
    // The manifest is shown even if the rest is corrupt.
    print_archive(archive, out);
    let version = manifest.member.cluster_version.as_ref();
    print_starts(starts, version.map(ClusterVersion::release), out);
    contents?.print(out);
    Ok(())
}

fn inspect_data_dir(
    data_dir: &DataDir,
    path: &Path,
    contents: impl FnOnce() -> Result<Contents>,
    cx: &Context<'_>,
) -> Result<()> {
    let found = cx.watched(|observe| survey(data_dir, Pass::WHOLE, cx.interrupt, observe))?;
    // Without a start there is no store; the reason is reported below.
    let contents = found.facts.is_ok().then(contents).transpose();
    let snapshots = found.sound_snapshots();
    let facts = found.facts.as_ref().ok();
    let version = facts.and_then(|facts| facts.cluster_version.as_ref());
    let status = status(found.starts.as_ref(), version, found.has_db);
    let db = found.db_fault(data_dir)?;
    let db = db.map(|fault| format!("`member/snap/db`: {fault}"));
    if let Some(fault) = &db {
        cx.out.warn(fault);
    }
    cx.out.json(|| {
        json!({
            "target": text(path),
            "kind": "data-dir",
            "status": if found.is_valid() && db.is_none() { status } else { FAILED },
            "member": facts.map(|facts| json::member(&facts.identity)),
            "position": facts.map(|facts| json::position(&facts.position)),
            "cluster_version": facts.and_then(|facts| facts.cluster_version.as_ref()),
            "facts": facts,
            "cannot_start": facts.is_none().then(|| problem(&found)),
            "starts": starts_json(found.starts.as_ref()),
            "starts_why": starts_why_json(found.starts.as_ref()),
            "raft_snapshots": snapshots.iter().map(json::raft_snapshot).collect::<Vec<_>>(),
            "data_bytes": found.data_bytes(),
            "directory_bytes": data_dir.total_bytes(),
            "dedicated_wal_dir": data_dir.has_dedicated_wal(),
            "running": found.running.is_some(),
            "torn_tail": found.torn_tail.as_ref().map(|(segment, offset)| json!({
                "path": segment, "offset": offset,
            })),
            "problems": json::file_problems(&found.files),
            "leftovers": found.leftovers.iter().map(|(kind, file)| json!({
                "path": file.archive_path, "bytes": file.bytes, "message": kind.texts()[0],
                "origin": kind.texts()[1], "loaded": kind.is_loaded(), "removable": kind.texts()[2],
            })).collect::<Vec<_>>(),
            "outside": found.outside,
            "symlinks": found.links.iter().map(|link| text(link)).collect::<Vec<_>>(),
            "store": contents.as_ref().ok().and_then(Option::as_ref).map(Contents::to_json),
        })
    });
    print_data_dir(path, data_dir, &found, &snapshots, &cx.out);
    match contents {
        Ok(Some(contents)) => contents.print(&cx.out),
        // The fault that prevents it has been reported.
        Err(_) if !found.is_valid() => {}
        Err(error) => return Err(error),
        Ok(None) => {}
    }
    match problem(&found) {
        None => Ok(()),
        Some(problem) => {
            let message = format!("`{}`: {problem}", path.display());
            let hint = "`etcd-ark snapshot --damaged` saves it as it is; the other members' data are the better copy";
            Err(Kind::Corrupt.error(message).hint(hint))
        }
    }
}

/// The first problem: a corrupt file, or else why etcd could not start.
fn problem(found: &Survey) -> Option<String> {
    let fault = |file: &FileReport| {
        Some(format!(
            "{} is corrupt: {}",
            file.path,
            file.fault.as_ref()?
        ))
    };
    let in_file = found.files.iter().find_map(fault);
    let start = || {
        found
            .facts
            .as_ref()
            .err()
            .map(|fault| format!("etcd cannot start from it: {fault}"))
    };
    in_file.or_else(start)
}

fn snapshot_id(path: &str) -> Option<SnapshotId> {
    SnapshotId::from_file_name(path.strip_prefix("member/snap/")?)
}

fn print_data_dir(
    target: &Path,
    data_dir: &DataDir,
    found: &Survey,
    snapshots: &[SnapshotId],
    out: &Output,
) {
    let running = match &found.running {
        Some(running) => match running.pid {
            Some(pid) => format!(", etcd runs on it (process {pid})"),
            None => ", etcd runs on it".to_owned(),
        },
        None => String::new(),
    };
    out.line(&out.paint(
        Paint::Strong,
        &format!("data dir {}{running}", target.display()),
    ));
    match &found.facts {
        Ok(facts) => {
            print_member(facts, out);
            let sizes = format!(
                "{} of data, {} in the directory",
                size(found.data_bytes()),
                size(data_dir.total_bytes())
            );
            row(out, "size", &sizes);
            if data_dir.has_dedicated_wal() {
                row(out, "WAL dir", &data_dir.wal_dir().display().to_string());
            }
            out.line("");
            out.line(&picture(facts, snapshots));
        }
        // A corrupt file is told below.
        Err(_) if found.files.iter().any(|file| file.fault.is_some()) => {}
        Err(_) => row(
            out,
            "problem",
            &out.paint(Paint::Bad, &problem(found).unwrap_or_default()),
        ),
    }
    for file in found.files.iter().filter(|file| file.fault.is_some()) {
        if let Some(fault) = &file.fault {
            out.line(&format!(
                "  {} {}: {fault}",
                out.paint(Paint::Bad, "BAD"),
                file.path
            ));
        }
    }
    let facts = found.facts.as_ref().ok();
    let version = facts.and_then(|facts| facts.cluster_version.as_ref());
    let own = version.map(ClusterVersion::release);
    print_starts(found.starts.as_ref(), own, out);
    if let Some((segment, offset)) = &found.torn_tail {
        out.line(&format!("  {segment} ends in an unfinished record at offset {offset}; etcd cuts it off at its next start"));
    }
    if !found.leftovers.is_empty() {
        let all_left = found.leftovers.iter().all(|(kind, _)| !kind.is_loaded());
        out.line(if all_left {
            "leftovers, which etcd does not load:"
        } else {
            "other files of the member:"
        });
        for (kind, file) in &found.leftovers {
            let [what, origin, removable] = kind.texts();
            let (path, size) = (&file.archive_path, size(file.bytes));
            out.line(&format!("  {path} ({size}): {what}"));
            row(out, "", &format!("  from: {origin}"));
            row(out, "", &format!("  safe to delete: {removable}"));
        }
    }
    for link in &found.links {
        row(out, "symlink", &format!("{} was followed", link.display()));
    }
    if !found.outside.is_empty() {
        out.line(&format!(
            "not part of the member: {}",
            found.outside.join(", ")
        ));
    }
}

fn print_starts(starts: Option<&Verdicts>, own: Option<Release>, out: &Output) {
    for (line, verdict) in starts.into_iter().flatten() {
        let unnoticed = own.filter(|own| line < own && verdict.is_yes());
        let unnoticed = unnoticed.map(|own| format!(", {}", but_do_not(own)));
        let why = verdict.why_not(*line).map(|why| format!(": {why}"));
        let why = why.or(unnoticed);
        let told = format!("etcd {line}: {}{}", verdict.word(), why.unwrap_or_default());
        row(out, "starts", &told);
    }
    let dead = starts.filter(|starts| none_starts(starts, own).is_some());
    if let Some(cure) = dead.and_then(cure) {
        out.note(&cure);
    }
}

fn print_archive(archive: &Archive, out: &Output) {
    let manifest: &Manifest = archive.manifest();
    let path = archive.path().display();
    out.line(&out.paint(Paint::Strong, &format!("archive {path}")));
    row(
        out,
        "created",
        &format!(
            "{} by {} {}",
            utc(manifest.created),
            manifest.tool.name,
            manifest.tool.version
        ),
    );
    if let Some(rewind) = &manifest.rewind {
        let (to, old) = (rewind.rewound_to, rewind.old_cluster_id);
        row(out, "rewound", &format!("to entry {to} of cluster {old}"));
        for origin in &rewind.derived_from {
            let used = match origin.used_for.as_slice() {
                [] => "cross-check only".to_owned(),
                used => used.join(", "),
            };
            let name = printable(&origin.name);
            row(
                out,
                "",
                &format!("from {name} ({}): {used}", origin.identity),
            );
        }
    }
    if let Some(damage) = &manifest.damage {
        let told = "a damaged data dir, saved as it was; `restore` takes it with --damaged only";
        row(out, "DAMAGED", &out.paint(Paint::Bad, told));
        for line in damage.lines() {
            row(out, "", &printable(&line));
        }
    }
    print_member(&manifest.member, out);
    let plain = archive.plain_bytes();
    let sizes = format!(
        "{} of data, {} in {}, {} in the archive",
        size(manifest.sizes.data),
        size(plain),
        count(manifest.files.len() as u64, "file", "files"),
        size(archive.bytes())
    );
    row(out, "size", &sizes);
    if !manifest.labels.is_empty() {
        row(out, "labels", &printable(&manifest.labels.join(", ")));
    }
    out.line("");
    let kept = |file: &&crate::archive::FileEntry| file.role != Role::Leftover;
    let mut snapshots: Vec<_> = manifest
        .files
        .iter()
        .filter(kept)
        .filter_map(|file| snapshot_id(&file.path))
        .collect();
    snapshots.sort();
    out.line(&picture(&manifest.member, &snapshots));
    for file in &manifest.files {
        if file.role == Role::Leftover {
            out.line(&format!("  leftover {} ({})", file.path, size(file.size)));
        }
    }
}

fn print_member(facts: &MemberFacts, out: &Output) {
    row(out, "member", &facts.identity.to_string());
    if facts.is_removed() {
        row(out, "", "removed from its cluster for good");
    }
    if facts.removal_pending {
        row(
            out,
            "",
            "its removal is in the log, not known to be committed",
        );
    }
    row(out, "position", &position_text(facts));
    row(out, "version", &version_text(facts));
    for change in &facts.versions {
        row(out, "", &version_change_text(change));
    }
    let members = count(facts.members.len() as u64, "member", "members");
    row(out, "cluster", &members);
    for member in &facts.members {
        let own = if member.id == facts.identity.member_id {
            "  <- this one"
        } else {
            ""
        };
        let name = if member.name.is_empty() {
            "(not published)"
        } else {
            &member.name
        };
        let urls = member.peer_urls.join(",");
        row(
            out,
            "",
            &format!(
                "{} ({}) {}{own}",
                printable(name),
                member.id,
                printable(&urls)
            ),
        );
    }
    for id in &facts.removed_members {
        row(out, "", &format!("({id}) removed"));
    }
    if facts.replaced_entries > 0 {
        row(
            out,
            "note",
            &format!(
                "{} of the log replaced by a later leader's",
                count(facts.replaced_entries, "entry", "entries")
            ),
        );
    }
}

fn version_change_text(change: &VersionChange) -> String {
    let version = &change.version;
    match (change.set_at, change.committed) {
        (Some(index), true) => format!("{version} set at index {index}"),
        (Some(index), false) => {
            format!("{version} at index {index}, not known to be committed: about to move")
        }
        (None, _) => format!("{version} set before the available log"),
    }
}
