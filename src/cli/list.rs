//! `list`: the archives of a backup dir, newest first, from their ends alone.

use std::path::{Path, PathBuf};

use anyhow::Result;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use etcd_ark::language::member::printable;
use etcd_ark::place::archive::{Archive, EXTENSION};
use fs_err as fs;
use serde_json::{Value, json};

use super::args::List;
use super::failure::{Failure, Kind, Told};
use super::inspect::version_text;
use super::out::{Out, size, text};

pub(crate) fn run(args: &List, out: &Out) -> Result<u8> {
    let mut archives = Vec::new();
    let mut unreadable = Vec::new();
    for path in archive_paths(&args.backup_dir)? {
        match Archive::open(&path) {
            Ok(archive) => archives.push(archive),
            Err(error) => {
                let failure = Failure::of(&error.into());
                unreadable.push((path, failure.message));
            }
        }
    }
    archives.sort_by(|a, b| {
        let newest_first = b.manifest().created.cmp(&a.manifest().created);
        newest_first.then_with(|| a.path().cmp(b.path()))
    });
    out.json(|| {
        json!({
            "archives": archives.iter().map(to_json).collect::<Vec<_>>(),
            "unreadable": unreadable
                .iter()
                .map(|(path, why)| json!({"archive": text(path), "error": why}))
                .collect::<Vec<_>>(),
        })
    });
    if archives.is_empty() && unreadable.is_empty() {
        out.line(&format!("no archives in {}", args.backup_dir.display()));
    } else if !archives.is_empty() {
        out.line(&table(&archives).to_string());
    }
    for (_, why) in &unreadable {
        out.warn(why);
    }
    Ok(0)
}

/// The files of `dir` that have an archive's name, in the order of their names.
pub(super) fn archive_paths(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(|error| -> anyhow::Error {
        if error.kind() == std::io::ErrorKind::NotFound {
            Told {
                kind: Kind::NotFound,
                message: format!("there is no backup dir at `{}`", dir.display()),
                hint: Some("pass the directory that `etcd-ark snapshot --backup-dir` was given"),
            }
            .into()
        } else {
            error.into()
        }
    })?;
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("etcd-") && name.ends_with(EXTENSION) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn table(archives: &[Archive]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "CREATED (UTC)",
        "MEMBER",
        "CLUSTER",
        "INDEX",
        "VERSION",
        "DATA",
        "ARCHIVE",
        "LABELS",
        "FILE",
    ]);
    for archive in archives {
        let manifest = archive.manifest();
        let member = &manifest.member;
        let name = member.identity.name.clone();
        table.add_row([
            manifest.created.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            name.map_or_else(
                || member.identity.member_id.to_string(),
                |name| printable(&name),
            ),
            member.identity.cluster_id.to_string(),
            member.position.index.to_string(),
            version_text(member),
            size(manifest.sizes.data),
            size(archive.bytes()),
            printable(&manifest.labels.join(",")),
            archive
                .path()
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        ]);
    }
    for number in [3, 5, 6] {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn to_json(archive: &Archive) -> Value {
    let manifest = archive.manifest();
    json!({
        "archive": text(archive.path()),
        "bytes": archive.bytes(),
        "created": manifest.created,
        "scope": manifest.scope,
        "labels": manifest.labels,
        "identity": manifest.member.identity,
        "position": manifest.member.position,
        "cluster_version": manifest.member.cluster_version,
        "sizes": manifest.sizes,
        "warnings": manifest.warnings,
    })
}
