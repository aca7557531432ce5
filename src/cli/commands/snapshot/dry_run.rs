//! `snapshot --dry-run`: tries everything that a snapshot needs with the same code, and makes no archive.
//!
//! In: the flags of `snapshot`. Out: a line for each check, in the order of a run, and the exit code that the run would
//! have. Nothing is changed except for a probe in the repository, which is removed again.

use std::path::Path;

use fs_err as fs;
use jiff::Timestamp;
use serde_json::json;

use crate::archive::Cipher;
use crate::archive::warning::WarningCode;
use crate::data_dir::DataDir;
use crate::fs::error::cause_of;
use crate::fs::space::nearest;
use crate::fs::staged::{StagedDir, StagedFile};
use crate::monitoring::scope::is_ahead;
use crate::repository::lock::{BackupLock, LOCK_FILE};
use crate::repository::probe::{WriteProbeError, probe};
use crate::repository::{Catalog, Directory, Repository, RepositoryError, summarize};
use crate::snapshot::destination::{Destination, refuse_backup_inside, spool_file};
use crate::snapshot::error::CaptureError;
use crate::snapshot::{Captured, capture};
use crate::text::{about, count, size, utc};
use crate::upgrade::preflight::{Check, Finding, Status};

use crate::cli::commands::prune::before_snapshot;
use crate::cli::commands::snapshot::place::place;
use crate::cli::commands::snapshot::room::room;
use crate::cli::commands::snapshot::{Snapshot, open_source, request, retention};
use crate::cli::context::Context;
use crate::cli::encryption::cipher;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::flags::destination::DestinationFlags;
use crate::cli::flags::lock_wait::UNLOCKED;
use crate::cli::metrics::try_out;
use crate::cli::output::Paint;
use crate::cli::render::checklist;
use crate::cli::render::member::position_text;

/// Checks that a failure is told of in several places; each with its id.
const BACKUP_DIR: (&str, &str) = ("backup-dir", "backup dir");
const CONTENT: (&str, &str) = ("content", "content");
const WRITE: (&str, &str) = ("write", "write");

pub(crate) fn run(args: &Snapshot, cx: &Context<'_>) -> Result<()> {
    let policy = args.keep.wanted()?.filter(|_| !args.damaged);
    let prunes = policy.is_some();
    let mut list = List::default();
    let name = ("configuration", "configuration");
    list.add(name, Finding::ok(configuration(cx)));
    let data_dir = list.take(
        ("data-dir", "data dir"),
        open_source(args),
        |dir: &DataDir| Finding::ok(format!("`{}`", dir.root().display())),
    )?;
    let to = &args.to;
    let named = to.backup_dir.place();
    let named = match named.and_then(|place| cx.places.repository(place)) {
        Ok(named) => Some(named),
        Err(error) => list.fail(BACKUP_DIR, error)?,
    };
    let cipher = recipients(to, &mut list)?;
    let data_dir = match data_dir {
        Some(data_dir) if !args.damaged => match data_dir.list() {
            Ok(_) => Some(data_dir),
            Err(error) => list.fail(CONTENT, CaptureError::from(error).into())?,
        },
        data_dir => data_dir,
    };
    let opened = named.map(|repository| {
        refuse_inside(args, data_dir.as_ref(), &*repository)?;
        refuse_unmade(&*repository)?;
        Ok(repository)
    });
    let repository = match opened {
        Some(opened) => list.take(BACKUP_DIR, opened, |repository| place(&**repository))?,
        None => None,
    };
    let directory = repository.as_ref().and_then(|found| found.directory());
    if let Some(dir) = directory.filter(|dir| dir.is_dir()) {
        look_at_lock(dir, args, &mut list, cx)?;
    }
    // The lock file is made before all else.
    let lacks_lock = |dir: &&Path| dir.is_dir() && !dir.join(LOCK_FILE).exists();
    let made = directory.filter(lacks_lock).map(StagedFile::create);
    let made = made.transpose().map(drop);
    let mut written = None;
    if let Err(error) = made {
        list.fail::<()>(WRITE, error.into())?;
    } else if let Some(repository) = &repository {
        written = Some(write_probe(&**repository, cipher.as_deref(), prunes, cx));
    }
    let is_writable = matches!(written, Some(Ok(_)));
    let spool = to.used_spool();
    if let Some(spool) = &spool {
        let tried = spool_file(spool).map_err(CliError::from);
        list.take(("spool-dir", "spool dir"), tried, |_| {
            Finding::ok(format!("`{}` can be written to", spool.display()))
        })?;
    }
    // What is spooled is written to its place only when it is whole.
    if let Some(written) = written.take_if(|_| spool.is_none()) {
        list.take(WRITE, written, Clone::clone)?;
    }
    let captured = data_dir.as_ref().map(|data_dir| {
        let request = request(args, data_dir, Destination::Nowhere);
        cx.watched(|observe| capture(&request, cx.interrupt, observe))
    });
    let captured = match captured {
        Some(captured) => {
            let captured = captured.map_err(CliError::from);
            list.take(CONTENT, captured, content)?
        }
        None => None,
    };
    if let Some(captured) = &captured {
        list.all.extend(judged(captured));
        if repository.is_some() {
            let place = repository.as_deref();
            let place = place.filter(|_| is_writable || spool.is_none());
            let room = room(args, place, captured.bytes);
            list.take(("room", "room"), room, |told: &String| Finding::ok(told))?;
        }
    }
    if let Some(written) = written {
        list.take(WRITE, written, Clone::clone)?;
    }
    if let (Some(captured), Some(policy), Some(repository)) = (&captured, &policy, &repository) {
        let identity = &captured.manifest.member.identity;
        let (request, group) = retention(policy, identity, None, &**repository, args);
        let found = before_snapshot(&request, group, cx);
        list.take(("retention", "retention"), found, Clone::clone)?;
    }
    list.leave_out(captured.is_none(), repository.is_none());
    if let Some(repository) = &repository {
        let clock = clock(&**repository, prunes, crate::clock::now());
        list.take(("clock", "clock"), clock, Clone::clone)?;
    }
    if let Some(file) = &args.metrics.metrics_file {
        let tried = try_out(file);
        list.take(("metrics", "metrics file"), tried, |()| replaceable(file))?;
    }
    list.end(captured.as_ref(), cx)
}

fn recipients(to: &DestinationFlags, list: &mut List) -> Result<Option<Box<dyn Cipher>>> {
    let read = cipher(&to.recipient, &to.recipients_file);
    let read = list.take(("recipients", "recipients"), read, |cipher| match cipher {
        Some(_) => Finding::ok("archives are encrypted for those named"),
        None => Finding::ok("none is named: archives are not encrypted"),
    })?;
    Ok(read.flatten())
}

fn look_at_lock(dir: &Path, args: &Snapshot, list: &mut List, cx: &Context<'_>) -> Result<()> {
    let claim = args.lock.claim("snapshot");
    let looked = BackupLock::look(dir, &claim, cx.interrupt).map_err(CliError::from);
    list.take(("lock", "lock"), looked, |keeps_others_out| {
        if *keeps_others_out {
            Finding::ok("no other run works on the backup dir")
        } else {
            Finding::warning(UNLOCKED)
        }
    })?;
    Ok(())
}

fn replaceable(file: &Path) -> Finding {
    let text = format!("`{}` can be replaced", file.display());
    if file
        .extension()
        .is_some_and(|extension| extension == "prom")
    {
        return Finding::ok(text);
    }
    Finding::warning(text)
        .advice("node_exporter reads only files with a name that ends with `.prom`")
}

/// The checks so far, and the first failure that a run would have.
#[derive(Default)]
struct List {
    all: Vec<Check>,
    first: Option<Kind>,
}

impl List {
    fn add(&mut self, name: (&'static str, &'static str), found: Finding) {
        self.all.push(found.of(name));
    }

    /// Adds the result of a try; a failure is added too, and only an interrupt ends the list.
    fn take<T>(
        &mut self,
        name: (&'static str, &'static str),
        tried: Result<T>,
        describe: impl FnOnce(&T) -> Finding,
    ) -> Result<Option<T>> {
        match tried {
            Ok(found) => {
                self.add(name, describe(&found));
                Ok(Some(found))
            }
            Err(error) => self.fail(name, error),
        }
    }

    fn fail<T>(
        &mut self,
        name: (&'static str, &'static str),
        error: CliError,
    ) -> Result<Option<T>> {
        if error.kind == Kind::Interrupted {
            return Err(error);
        }
        self.first.get_or_insert(error.kind);
        let found = Finding {
            status: Status::Fail,
            evidence: vec![error.message],
            advice: error.hint.map(Into::into),
        };
        self.add(name, found);
        Ok(None)
    }

    /// Names the checks that were left out because there is neither content nor a place.
    fn leave_out(&mut self, lacks_content: bool, lacks_place: bool) {
        let left_out = match (lacks_content, lacks_place) {
            (true, true) => "start, data size, room, write, clock",
            (true, false) => "start, data size, room",
            (false, true) => "room, write, clock",
            (false, false) => return,
        };
        let mut found = Finding::ok(left_out);
        found.status = Status::Note;
        self.add(("not-checked", "not checked"), found);
    }

    fn end(self, captured: Option<&Captured>, cx: &Context<'_>) -> Result<()> {
        let out = &cx.out;
        let all = &self.all;
        out.json(|| {
            json!({
                "dry_run": true,
                "status": checklist::overall(all),
                "archive": null,
                "archive_bytes": captured.map(|captured| captured.bytes),
                "checks": all,
                "counts": checklist::counts(all),
            })
        });
        for check in all {
            if is_of_the_run(check) {
                out.count_warning();
            }
            if !out.is_json() {
                checklist::print(check, out);
            }
        }
        if let Some(kind) = self.first {
            let failed = checklist::titles(all, Status::Fail);
            let message = format!(
                "a snapshot would fail: {} of {} checks failed: {}",
                failed.len(),
                all.len() - checklist::titles(all, Status::Note).len(),
                failed.join(", ")
            );
            let these = if failed.len() == 1 { "this" } else { "these" };
            let hint = format!("correct {these}, then run it again; no archive was made");
            return Err(kind.error(message).hint(hint));
        }
        let warned = checklist::titles(all, Status::Warn);
        if warned.is_empty() {
            out.report(&out.paint(Paint::Good, "a snapshot would succeed"));
        } else {
            let ends = if cx.strict && all.iter().any(is_of_the_run) {
                "a snapshot would be taken, and would end with 5 because of --strict"
            } else {
                "a snapshot would succeed"
            };
            let text = format!("{ends}; but look at: {}", warned.join(", "));
            out.line(&out.paint(Paint::Warn, &text));
        }
        Ok(())
    }
}

/// Whether a snapshot warns of it too, and not only its dry run.
fn is_of_the_run(check: &Check) -> bool {
    let warns = ["lock", "content", "start", "data-size", "retention"].contains(&check.id);
    warns && check.status == Status::Warn
}

fn configuration(cx: &Context<'_>) -> String {
    match &cx.config {
        Some(path) => format!("`{}` is read", path.display()),
        None => "no configuration file; flags and environment only".to_owned(),
    }
}

fn refuse_inside(
    args: &Snapshot,
    data_dir: Option<&DataDir>,
    repository: &dyn Repository,
) -> Result<()> {
    let Some(data_dir) = data_dir else {
        return Ok(());
    };
    let spool = args.to.used_spool();
    for dir in repository.directory().into_iter().chain(spool.as_deref()) {
        refuse_backup_inside(data_dir, dir)?;
    }
    Ok(())
}

/// Fails if the backup dir is missing and cannot be made; one fault is enough.
fn refuse_unmade(repository: &dyn Repository) -> Result<()> {
    let Some(dir) = repository.directory().filter(|dir| !dir.is_dir()) else {
        return Ok(());
    };
    if fs::symlink_metadata(dir).is_ok() {
        return Ok(repository.prepare()?);
    }
    let made = StagedDir::create(nearest(dir));
    made.map(drop).map_err(|error| {
        let message = format!("`{}` cannot be made: {}", dir.display(), cause_of(&error));
        let error = CliError::from(error).or_hint("make it, or pass another --backup-dir");
        CliError { message, ..error }
    })
}

/// The content of a present archive.
fn content(captured: &Captured) -> Finding {
    let manifest = &captured.manifest;
    let member = &manifest.member;
    let evidence = vec![
        format!("member {}; {}", member.identity, position_text(member)),
        format!(
            "archive of {} with {}",
            size(captured.bytes),
            count(manifest.files.len() as u64, "file", "files")
        ),
    ];
    let other = manifest.warnings.iter().filter(|warning| {
        !matches!(
            warning.code,
            WarningCode::DoesNotStart | WarningCode::SourceDoesNotStart | WarningCode::OverLimit
        )
    });
    let other: Vec<_> = other.map(ToString::to_string).collect();
    let status = if other.is_empty() {
        Status::Ok
    } else {
        Status::Warn
    };
    Finding {
        status,
        evidence: evidence.into_iter().chain(other).collect(),
        advice: None,
    }
}

/// Whether etcd would start from it, and whether it is larger than etcd's guide recommends.
fn judged(captured: &Captured) -> Vec<Check> {
    let manifest = &captured.manifest;
    let warned = |code| {
        let mut warnings = manifest.warnings.iter();
        warnings.find(|warning| warning.code == code)
    };
    let mut list = List::default();
    if manifest.damage.is_none() {
        let source = warned(WarningCode::SourceDoesNotStart);
        let starts = match source.or(warned(WarningCode::DoesNotStart)) {
            None => Finding::ok("etcd of the release of its data starts from it"),
            Some(warning) => Finding::warning(&warning.text).advice(
                "the archive is taken anyway; `etcd-ark verify` on the data dir says which releases start from it",
            ),
        };
        list.add(("start", "start"), starts);
        let (data, limit) = (size(manifest.sizes.data), size(manifest.sizes.limit));
        let data_size = match warned(WarningCode::OverLimit) {
            None => Finding::ok(format!("{data} (limit {limit})")),
            Some(warning) => Finding::warning(&warning.text),
        };
        list.add(("data-size", "data size"), data_size);
    }
    list.all
}

fn write_probe(
    repository: &dyn Repository,
    cipher: Option<&dyn Cipher>,
    prunes: bool,
    cx: &Context<'_>,
) -> Result<Finding> {
    let missing = repository.directory().filter(|dir| !dir.is_dir());
    let probed = match missing {
        None => probe(repository, cipher, cx.interrupt),
        Some(missing) => {
            let made = StagedDir::create(nearest(missing))?;
            probe(&Directory::new(made.path()), cipher, cx.interrupt)
        }
    };
    match probed {
        Ok(()) => Ok(Finding::ok("a probe was written, read back and removed")),
        Err(WriteProbeError::Upload(error)) => Err(error.into()),
        Err(stays @ WriteProbeError::Stays { .. }) => {
            let text = stays.to_string();
            let error = CliError::from(stays);
            if prunes {
                return Err(error);
            }
            let more = format!("{text}: archives could not be pruned there either");
            Ok(Finding::warning(more).advice(error.message))
        }
    }
}

/// Whether this machine's clock agrees with the times of the archives.
fn clock(repository: &dyn Repository, prunes: bool, now: Timestamp) -> Result<Finding> {
    let catalog = match summarize(repository) {
        Ok(catalog) => catalog,
        Err(RepositoryError::NotFound(_)) => Catalog::default(),
        // An account that may only write can take snapshots.
        Err(error) if !prunes => {
            let why = CliError::from(error).message;
            return Ok(Finding::warning(format!("cannot be compared: {why}")));
        }
        Err(error) => return Err(error.into()),
    };
    let here = format!("{} here", utc(now));
    let Some(newest) = catalog.summaries.first() else {
        return Ok(Finding::ok(format!(
            "{here}; no archive to compare it with"
        )));
    };
    if is_ahead(newest, now) {
        let ahead = about(newest.created.duration_since(now));
        let text = format!("{here}; `{}` is dated {ahead} later", newest.name());
        return Ok(Finding::warning(text).advice(
            "set this clock; if the other one was wrong: such an archive is kept, and is never `latest`",
        ));
    }
    let age = about(now.duration_since(newest.created));
    let text = format!("{here}; the newest archive is {age} old");
    Ok(Finding::ok(text))
}
