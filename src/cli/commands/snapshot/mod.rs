//! `snapshot`: captures a data dir, reads the archive back, prints its path.

mod dry_run;
mod place;
mod room;

use std::path::{Path, PathBuf};

use crate::archive::manifest::Scope;
use crate::data_dir::DataDir;
use crate::etcd::ids::Identity;
use crate::fs::error::parent_of;
use crate::repository::Repository;
use crate::repository::lock::{BackupLock, LockRequest};
use crate::retention::{Group, Policy, prune};
use crate::snapshot::destination::Destination;
use crate::snapshot::if_changed::{Unchanged, unchanged};
use crate::snapshot::{Captured, CreatedAt, SnapshotRequest, capture};
use crate::text::{count, size, utc};
use bytesize::ByteSize;
use clap::ArgAction;
use clap::builder::BoolishValueParser;

use crate::cli::commands::prune::after_snapshot;
use crate::cli::context::Context;
use crate::cli::error::Result;
use crate::cli::flags::common::Threads;
use crate::cli::flags::destination::DestinationFlags;
use crate::cli::flags::lock_wait::UNLOCKED;
use crate::cli::json::{self, text};
use crate::cli::output::{Output, Paint};
use crate::cli::render::member::{position_text, version_text};
use crate::cli::values::{label, level, size_limit};

/// `snapshot` as it is typed; `schedule` writes down all but the dry run.
#[derive(Debug, clap::Args)]
pub(crate) struct SnapshotCommand {
    #[command(flatten)]
    pub(crate) snapshot: Snapshot,
    /// Check all that a snapshot needs; take none
    ///
    /// A line for each check, and the exit code that the snapshot would have. Nothing is changed: where the archives go a small
    /// object is written, read and removed. No variable and no configuration file can set it.
    // Set for every night, it would leave a host without backups.
    #[arg(id = "self_test", long = "dry-run")]
    pub(crate) dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Snapshot {
    /// Data dir of the member (only read)
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
    /// Dedicated WAL dir, if etcd runs with --wal-dir
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR")]
    pub(crate) wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) to: DestinationFlags,
    /// Include every file, not only what etcd needs to start
    #[arg(long, env = "ETCD_ARK_ALL", value_parser = BoolishValueParser::new())]
    pub(crate) all: bool,
    /// Save a damaged data dir as it is (etcd stopped)
    ///
    /// Every file that can be read goes into the archive, with a list of what is wrong. Nothing is pruned.
    #[arg(long, env = "ETCD_ARK_DAMAGED", value_parser = BoolishValueParser::new())]
    pub(crate) damaged: bool,
    /// Label for the archive, e.g. pre-upgrade (repeatable)
    ///
    /// `a,b` is two labels.
    #[arg(long, value_name = "LABEL", action = ArgAction::Append, value_delimiter = ',', value_parser = label, env = "ETCD_ARK_LABEL")]
    pub(crate) label: Vec<String>,
    /// zstd compression level, 1 to 19
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = level, env = "ETCD_ARK_LEVEL")]
    pub(crate) level: i32,
    #[command(flatten)]
    pub(crate) threads: Threads,
    /// Warn if the data size is over SIZE
    #[arg(
        long,
        value_name = "SIZE", value_parser = size_limit,
        default_value = "100MB",
        env = "ETCD_ARK_SIZE_LIMIT"
    )]
    pub(crate) size_limit: ByteSize,
    /// Skip if no client has written since the newest archive
    ///
    /// That archive is verified again. Its recipients are not compared: leave this flag out once when
    /// they change.
    #[arg(long, env = "ETCD_ARK_IF_CHANGED", value_parser = BoolishValueParser::new())]
    pub(crate) if_changed: bool,
    #[command(flatten)]
    pub(crate) keep: crate::cli::flags::retention::Keep,
    #[command(flatten)]
    pub(crate) lock: crate::cli::flags::lock_wait::LockWait,
    #[command(flatten)]
    pub(crate) metrics: crate::cli::metrics::MetricsFile,
}

pub(crate) fn run(command: &SnapshotCommand, cx: &Context<'_>) -> Result<()> {
    if command.dry_run {
        return dry_run::run(&command.snapshot, cx);
    }
    let args = &command.snapshot;
    // The archive of a damaged data dir must not cause the removal of others.
    let policy = args.keep.wanted()?.filter(|_| !args.damaged);
    let data_dir = open_source(args)?;
    let opened = args.to.open(&cx.places)?;
    let repository = &opened.repository;
    let request = request(args, &data_dir, opened.destination());
    let found = if args.if_changed && !args.damaged {
        cx.watched(|observe| unchanged(&request, cx.interrupt, observe))?
    } else {
        None
    };
    if let Some(found) = found {
        let SnapshotRequest { lock, .. } = &request;
        record_unchanged(&found, &**repository, lock.as_ref(), cx)?;
        print_unchanged(&found, &cx.out);
        let (pruned, ended) = prune(
            policy.as_ref(),
            &found.summary.identity,
            &found.path,
            &**repository,
            args,
            cx,
        );
        cx.out.json(|| {
            let more = serde_json::json!({
                "dry_run": false,
                "unchanged": true,
                "sha256": null,
                "manifest": null,
                "locked": null,
                "pruned": pruned,
            });
            json::with(json::archive(&**repository, &found.summary), more)
        });
        return ended;
    }
    // Several levels are rather a typo.
    let is_nested = |dir: &&Path| !parent_of(dir).exists();
    let made = repository.directory().filter(is_nested);
    let captured = cx.watched(|observe| capture(&request, cx.interrupt, observe))?;
    if let Some(dir) = made {
        cx.out.note(&format!(
            "created the backup dir `{}`, and directories above it",
            dir.display()
        ));
    }
    cx.record.archive(&captured);
    for warning in captured.manifest.warnings.iter() {
        cx.out.warn(&warning.text);
    }
    if !captured.alone {
        cx.out.warn(UNLOCKED);
    }
    for note in &captured.manifest.notes {
        cx.out.print_note(note);
    }
    print(&captured, &cx.out);
    let (pruned, ended) = prune(
        policy.as_ref(),
        &captured.manifest.member.identity,
        &captured.path,
        &**repository,
        args,
        cx,
    );
    cx.out.json(|| {
        serde_json::json!({
            "dry_run": false,
            "unchanged": false,
            "archive": text(&captured.path),
            "archive_bytes": captured.bytes,
            "created_at": captured.manifest.created,
            "member": json::member(&captured.manifest.member.identity),
            "position": json::position(&captured.manifest.member.position),
            "cluster_version": captured.manifest.member.cluster_version,
            "labels": captured.manifest.labels,
            "sha256": captured.sha256,
            "manifest": captured.manifest,
            "locked": captured.alone,
            "pruned": pruned,
        })
    });
    ended.map_err(|error| error.context("the snapshot succeeded, but pruning failed"))
}

fn open_source(args: &Snapshot) -> Result<DataDir> {
    let (root, wal_dir) = (&args.data_dir, args.wal_dir.as_deref());
    Ok(if args.damaged {
        DataDir::open_damaged(root, wal_dir)?
    } else {
        DataDir::open(root, wal_dir)?
    })
}

fn request<'r>(args: &Snapshot, data_dir: &'r DataDir, to: Destination<'r>) -> SnapshotRequest<'r> {
    SnapshotRequest {
        data_dir,
        to,
        scope: match (args.damaged, args.all) {
            (true, _) => Scope::Damaged,
            (false, true) => Scope::All,
            (false, false) => Scope::Live,
        },
        labels: args.label.clone(),
        level: args.level,
        threads: args.threads.count(),
        size_limit: args.size_limit.as_u64(),
        created: CreatedAt::Beginning(crate::clock::now),
        lock: Some(args.lock.claim("snapshot")),
    }
}

/// Records that the existing archive is as good as a new one.
fn record_unchanged(
    found: &Unchanged,
    repository: &dyn Repository,
    claim: Option<&LockRequest>,
    cx: &Context<'_>,
) -> Result<()> {
    let lock = repository.directory().zip(claim);
    let _lock = lock
        .map(|(dir, claim)| BackupLock::take(dir, claim, cx.interrupt))
        .transpose()?;
    let listed = &found.summary.listed;
    if let Err(error) = prune::record_unchanged(repository, listed, crate::clock::now()) {
        cx.out.warn(&format!(
            "cannot record that the archive is still current; `status` may report it as too old: {error}"
        ));
    }
    Ok(())
}

/// Prunes the member's archives, if requested; the one at `proven` was verified just now.
fn prune(
    policy: Option<&Policy>,
    identity: &Identity,
    proven: &Path,
    repository: &dyn Repository,
    args: &Snapshot,
    cx: &Context<'_>,
) -> (serde_json::Value, Result<()>) {
    let Some(policy) = policy else {
        return (serde_json::Value::Null, Ok(()));
    };
    let proven = proven.file_name().and_then(|name| name.to_str());
    let (request, group) = retention(policy, identity, proven, repository, args);
    after_snapshot(&request, group, &args.lock.claim("snapshot"), cx)
}

/// What is pruned with the member's archives; `proven` is the name of one that was verified just now.
fn retention<'r>(
    policy: &'r Policy,
    identity: &Identity,
    proven: Option<&'r str>,
    repository: &'r dyn Repository,
    args: &Snapshot,
) -> (prune::PruneRequest<'r>, Group) {
    let request = prune::PruneRequest {
        repository,
        policy,
        prove_again_after: args.keep.prove_again_after,
        now: crate::clock::now(),
        proven,
    };
    let group = Group {
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
    };
    (request, group)
}

/// Names the existing archive, and repeats its warnings.
fn print_unchanged(found: &Unchanged, out: &Output) {
    let summary = &found.summary;
    // They were true when it was made, with the limits of that run.
    for warning in &summary.warnings {
        out.warn(&format!(
            "archive of {}: {}",
            utc(summary.created),
            warning.text
        ));
    }
    let path = found.path.display().to_string();
    out.print(&out.paint(Paint::Strong, &path));
    out.print(&format!(
        "  unchanged since {}: no new archive; this one was verified again",
        utc(summary.created)
    ));
}

fn print(captured: &Captured, out: &Output) {
    let manifest = &captured.manifest;
    let member = &manifest.member;
    let plain: u64 = manifest.files.iter().map(|file| file.size).sum();
    let path = captured.path.display().to_string();
    out.print(&out.paint(Paint::Strong, &path));
    let row = |name: &str, text: &str| out.print(&format!("  {name:<10} {text}"));
    row("member", &member.identity.to_string());
    row("position", &position_text(member));
    if let Some(damage) = &manifest.damage {
        let found = damage.lines().len();
        row(
            "damaged",
            &format!(
                "{}, see the warnings; `restore` takes it with --damaged only",
                count(found as u64, "problem", "problems")
            ),
        );
    }
    row("version", &version_text(member));
    // Of a damaged member it is not known what a start would need.
    if manifest.damage.is_none() {
        row(
            "data size",
            &format!(
                "{} (limit {})",
                size(manifest.sizes.data),
                size(manifest.sizes.limit)
            ),
        );
    }
    row(
        "archive",
        &format!(
            "{}: {} of {}, verified",
            size(captured.bytes),
            count(manifest.files.len() as u64, "file", "files"),
            size(plain)
        ),
    );
    if !manifest.labels.is_empty() {
        row("labels", &manifest.labels.join(", "));
    }
}
