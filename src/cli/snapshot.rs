//! `snapshot`: capture a data dir, read the archive back, say where it stands.

use anyhow::Result;
use etcd_ark::deed::capture::{Captured, Request, capture};
use etcd_ark::ground::interrupt::Interrupt;
use etcd_ark::place::archive::manifest::Scope;
use etcd_ark::place::data_dir::DataDir;
use jiff::Timestamp;

use super::args::Snapshot;
use super::inspect::{position_text, version_text};
use super::metrics::Record;
use super::out::{Out, Paint, size, text};
use super::progress::Progress;

pub(crate) fn run(
    args: &Snapshot,
    out: &Out,
    interrupt: &Interrupt,
    record: &Record,
) -> Result<u8> {
    let data_dir = DataDir::open(&args.data_dir, args.wal_dir.as_deref())?;
    let request = Request {
        data_dir: &data_dir,
        backup_dir: &args.backup_dir,
        scope: if args.all { Scope::All } else { Scope::Live },
        labels: args.label.clone(),
        level: args.level,
        threads: args.threads.count(),
        size_limit: args.size_limit.as_u64(),
        created: Timestamp::now(),
    };
    let mut progress = Progress::new(out);
    let captured = capture(&request, interrupt, &mut |event| progress.observe(event))?;
    drop(progress);
    record.archive(&captured);
    for warning in &captured.manifest.warnings {
        out.warn(warning);
    }
    for note in &captured.manifest.notes {
        out.note(note);
    }
    out.json(|| {
        serde_json::json!({
            "archive": text(&captured.path),
            "bytes": captured.bytes,
            "sha256": captured.sha256,
            "manifest": captured.manifest,
        })
    });
    tell(&captured, out);
    Ok(0)
}

fn tell(captured: &Captured, out: &Out) {
    let manifest = &captured.manifest;
    let member = &manifest.member;
    let plain: u64 = manifest.files.iter().map(|file| file.size).sum();
    let path = captured.path.display().to_string();
    out.line(&out.paint(Paint::Strong, &path));
    let row = |name: &str, text: &str| out.line(&format!("  {name:<10} {text}"));
    row("member", &member.identity.to_string());
    row("position", &position_text(member));
    row("version", &version_text(member));
    row(
        "data size",
        &format!(
            "{} of {}",
            size(manifest.sizes.data),
            size(manifest.sizes.limit)
        ),
    );
    row(
        "archive",
        &format!(
            "{}: {} files of {}, read back and proven",
            size(captured.bytes),
            manifest.files.len(),
            size(plain)
        ),
    );
    if !manifest.labels.is_empty() {
        row("labels", &manifest.labels.join(", "));
    }
}
