//! `verify`: verifies archives and data dirs, and continues after a corrupt one.

pub(crate) mod deep;
pub(crate) mod verdict;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::archive::verify::verify;
use crate::archive::warning::WarningCode;
use crate::archive::{Archive, ArchiveError, Digests, SUM_EXTENSION};
use crate::data_dir::DataDir;
use crate::data_dir::scan::survey;
use crate::data_dir::start::start_verdicts;
use crate::etcd::digest::Digest;
use crate::etcd::member::MemberFacts;
use crate::etcd::replay::Replayed;
use crate::etcd::scan::{FileReport, Pass, ReplayResult};
use crate::etcd::start::own_release;
use crate::fs::staged::STAGING_PREFIX;
use crate::repository::check::prove;
use crate::repository::upload::digest_of;
use crate::repository::{ArchiveSummary, Directory, Repository, is_encrypted_name};
use crate::target::Target;
use crate::target::deep_verify::first_look;
use crate::text::size;
use clap::ValueHint;
use clap::builder::BoolishValueParser;
use serde_json::{Value, json};

use crate::cli::commands::verify::deep::Deep;
use crate::cli::commands::verify::verdict::{FAILED, OK, Verdict, print, shown, to_json};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::flags::chosen::Search;
use crate::cli::flags::common::Threads;
use crate::cli::flags::repository::BackupDir;
use crate::cli::flags::selection::Selection;
use crate::cli::json::{self, text};
use crate::cli::location::{Location, TargetName};
use crate::cli::output::Paint;
use crate::cli::values::time_ahead;

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Archives or parts of their names, data dirs, backup dirs, latest, latest:LABEL [default: --backup-dir]
    ///
    /// Of a backup dir all archives are verified.
    #[arg(value_name = "TARGET", value_hint = ValueHint::AnyPath)]
    pub(crate) targets: Vec<TargetName>,
    #[command(flatten)]
    pub(crate) backup_dir: BackupDir,
    #[command(flatten)]
    selection: Selection,
    /// Dedicated WAL dir of a data dir among them
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR")]
    pub(crate) wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) threads: Threads,
    /// Also replay the log: every raft snapshot must equal what the entries before it lead to
    #[arg(long, env = "ETCD_ARK_DEEP", value_parser = BoolishValueParser::new())]
    pub(crate) deep: bool,
    /// With --deep: report what would expire before a restore at TIMESTAMP [default: now]
    ///
    /// For example 7d (from now), 2015-10-01 (UTC) or 2015-10-01T06:00:00Z.
    #[arg(
        long,
        value_name = "TIMESTAMP",
        value_parser = time_ahead,
        requires = "deep",
        env = "ETCD_ARK_RESTORE_AT"
    )]
    pub(crate) restore_at: Option<jiff::Timestamp>,
}

const NONE_IS_VALID: &str = "use an archive from another place: none here is valid";

pub(crate) fn run(args: &Verify, cx: &Context<'_>) -> Result<()> {
    let out = &cx.out;
    let (mut failed, mut worst, mut first, mut key_hint) = (0, None, None, None);
    let (mut cure, mut is_damaged) = (None, false);
    let mut results = Vec::new();
    let named = named(args, cx)?;
    let targets = with_repositories_opened(&named, &args.selection, cx)?;
    for target in &targets {
        let verdict = verdict_of(target, args, cx);
        let path = target.as_path();
        let wrong = match verdict {
            Ok(verdict) => {
                if !out.quiet || !verdict.is_valid() {
                    print(path, &verdict, out);
                }
                results.push(to_json(path, &verdict));
                let corrupt = |fault| format!("`{}` is corrupt: {fault}", shown(path));
                let fault = verdict.first_fault();
                cure = cure.or_else(|| Some((path, verdict.cure()?)));
                is_damaged |= verdict.is_damaged();
                fault.map(|fault| (Kind::Corrupt, corrupt(fault)))
            }
            Err(error) => {
                if error.kind == Kind::Interrupted {
                    return Err(error);
                }
                results.push(unopened_json(path, &error, args));
                // One target fails as in any command; with several each has its verdict.
                if targets.len() == 1 {
                    if path.exists() {
                        out.json(|| answer(&results));
                    }
                    return Err(match error.kind {
                        Kind::Corrupt if targets != named => error.hint(NONE_IS_VALID),
                        _ => error,
                    });
                }
                is_damaged = true;
                if error.lacks_key {
                    key_hint = key_hint.or(error.hint);
                }
                let word = if error.kind == Kind::Corrupt {
                    "CORRUPT"
                } else {
                    "FAILED "
                };
                let word = out.paint(Paint::Bad, word);
                out.line(&format!("{word} {}", shown(path)));
                out.line(&format!("  {}", error.message));
                Some((error.kind, error.message))
            }
        };
        if let Some((kind, fault)) = wrong {
            failed += 1;
            // Corruption outweighs every other failure; else the first counts. The message names that one.
            if worst.is_none() || kind == Kind::Corrupt && worst != Some(Kind::Corrupt) {
                (worst, first) = (Some(kind), Some(fault));
            }
        }
    }
    out.json(|| answer(&results));
    let (Some(kind), Some(first)) = (worst, first) else {
        return Ok(());
    };
    // A key does not help if bytes are wrong.
    let key_hint = key_hint.filter(|_| kind != Kind::Corrupt);
    let hint = key_hint.unwrap_or(if targets.iter().all(Location::is_dir) {
        if is_damaged {
            "before anything is repaired: `etcd-ark snapshot --damaged` saves a data dir as it is"
        } else {
            "before anything is repaired: `etcd-ark snapshot` saves it, its files are whole"
        }
        .into()
    } else if targets == named {
        "use another archive; `verify` of the whole backup dir shows which are valid".into()
    } else if failed < targets.len() {
        "use another archive: all others here are valid".into()
    } else {
        NONE_IS_VALID.into()
    });
    let message = match targets.as_slice() {
        [_] => first,
        targets => format!(
            "{failed} of {} targets failed, the first: {first}",
            targets.len()
        ),
    };
    let hint = match &cure {
        Some((_, cure)) => format!("{cure}; {hint}").into(),
        None => hint,
    };
    let mut error = kind.error(message).hint(hint);
    error.target = cure.map(|(target, _)| target.to_path_buf());
    Err(error)
}

fn answer(targets: &[Value]) -> Value {
    let failed = targets.iter().any(|target| target["status"] != OK);
    json!({ "status": if failed { FAILED } else { OK }, "targets": targets })
}

/// The targets; without any, the backup dir.
fn named(args: &Verify, cx: &Context<'_>) -> Result<Vec<Location>> {
    if args.targets.is_empty() {
        return Ok(vec![args.backup_dir.place()?.clone()]);
    }
    let search = Search {
        backup_dir: &args.backup_dir,
        filter: args.selection.filter(),
    };
    let targets = args.targets.iter();
    targets
        .map(|target| search.resolve(target, args.wal_dir.as_deref(), cx))
        .collect()
}

/// The report on a target that cannot be opened. Servers may start from it anyway.
fn unopened_json(target: &Path, failure: &CliError, args: &Verify) -> Value {
    let starts = target
        .is_dir()
        .then(|| start_verdicts(target, args.wal_dir.as_deref(), false));
    let verdict = Verdict {
        starts: starts.and_then(Result::ok),
        ..Verdict::default()
    };
    let problem = json::problem(&text(target), failure.kind, &failure.message);
    let failed = json!({"status": FAILED, "problems": [problem]});
    json::with(to_json(target, &verdict), failed)
}

fn verdict_of(target: &Location, args: &Verify, cx: &Context<'_>) -> Result<Verdict> {
    let places = &cx.places;
    if let Some((repository, summary)) = places.locked(target)? {
        if args.deep {
            let name = summary.name();
            let message = format!("`{name}` is encrypted: --deep reads its content");
            return Err(CliError::usage(message)
                .hint("pass its key with --identity; without --deep the ciphertext is verified"));
        }
        return locked_verdict(&*repository, &summary, cx);
    }
    if target.is_bucket() || target.local().is_some_and(is_bare) {
        return Err(nothing_in(target));
    }
    let opened = places.target(target, args.wal_dir.as_deref())?;
    match &opened {
        Target::DataDir(dir) => data_dir_verdict(&opened, dir, args, cx),
        Target::Archive(archive) => {
            // Without a key only the sidecar can be checked, so it must be right.
            places.prove_beside(target)?;
            let sum = SumFile::of(target, cx)?;
            let whole = sum.as_ref().is_some_and(SumFile::is_of_plain_bytes);
            let (mut verdict, sha256) = archive_verdict(&opened, archive, whole, args, cx)?;
            if let Some(sum) = sum.filter(|_| verdict.is_valid()) {
                verdict.notes.extend(sum.wrong(target, sha256, cx)?);
            }
            Ok(verdict)
        }
    }
}

struct SumFile {
    repository: Rc<dyn Repository>,
    name: String,
    written: Vec<u8>,
}

impl SumFile {
    fn of(target: &Location, cx: &Context<'_>) -> Result<Option<Self>> {
        let (repository, name) = cx.places.locate(target)?;
        let written = repository.read_beside(&format!("{name}{SUM_EXTENSION}"))?;
        Ok(written.map(|written| Self {
            repository,
            name,
            written,
        }))
    }

    /// Whether its digest is that of the archive's plain bytes.
    fn is_of_plain_bytes(&self) -> bool {
        !is_encrypted_name(&self.name)
    }

    /// The fault if it has another digest than the archive, which is valid: `sha256sum -c` would fail. `sha256` is the
    /// archive's, if it is known.
    fn wrong(
        &self,
        target: &Location,
        sha256: Option<Digest>,
        cx: &Context<'_>,
    ) -> Result<Option<String>> {
        let repository = &*self.repository;
        let digest = if let Some(digest) = sha256 {
            digest
        } else {
            let source = repository.source(&repository.look_up(&self.name)?)?;
            digest_of(&*source, cx.interrupt)?
        };
        let is_right = self.written.starts_with(digest.to_string().as_bytes());
        Ok((!is_right).then(|| {
            let target = target.as_path().display();
            format!(
                "`{target}{SUM_EXTENSION}` does not match the archive, which is valid: remove it, or write its first word as {digest}"
            )
        }))
    }
}

/// Whether `target` is a directory with nothing in it but what we leave in a backup dir.
fn is_bare(target: &Path) -> bool {
    let is_ours = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.map(|entry| entry.file_name());
        name.is_ok_and(|name| name.to_string_lossy().starts_with(STAGING_PREFIX))
    };
    std::fs::read_dir(target).is_ok_and(|mut entries| entries.all(is_ours))
}

fn nothing_in(target: &Location) -> CliError {
    let (what, hint) = if target.is_bucket() {
        (
            "no archives in",
            "is the prefix right? it is the URL that `snapshot --backup-dir` was given",
        )
    } else {
        (
            "no archives and no member in",
            "pass the directory that `snapshot` was given as --backup-dir, or a data dir; is its disk mounted?",
        )
    };
    Kind::NotFound
        .error(format!("{what} `{}`", target.as_path().display()))
        .hint(hint)
}

/// The verdict on an encrypted archive without a key: only the ciphertext can be verified.
fn locked_verdict(
    repository: &dyn Repository,
    summary: &ArchiveSummary,
    cx: &Context<'_>,
) -> Result<Verdict> {
    let interrupt = cx.interrupt;
    let faults = match prove(repository, summary, interrupt) {
        Ok(()) => Vec::new(),
        Err(ArchiveError::Fault { fault, .. }) => vec![fault.to_string()],
        Err(error) => return Err(error.into()),
    };
    let is_valid = faults.is_empty();
    let note = format!(
        "`{}` is encrypted: its ciphertext is verified; its content can be verified only with --identity",
        summary.name()
    );
    Ok(Verdict {
        member: Some((summary.identity.clone(), summary.position.clone())),
        faults,
        notes: is_valid.then_some(note).into_iter().collect(),
        summary: format!(
            "{}\n  index {}, {} of ciphertext {}",
            summary.identity,
            summary.position.index,
            size(summary.listed.bytes),
            worth(is_valid)
        ),
        ..Verdict::default()
    })
}

/// The word for the result of reading all of it.
fn worth(is_valid: bool) -> &'static str {
    if is_valid { "verified" } else { "read" }
}

fn with_repositories_opened(
    targets: &[Location],
    selection: &Selection,
    cx: &Context<'_>,
) -> Result<Vec<Location>> {
    let mut all = Vec::new();
    for target in targets {
        let is_place = |dir| Directory::new(dir).list().is_ok_and(|all| !all.is_empty());
        let is_place = target.is_bucket() || target.local().is_some_and(is_place);
        let archives = if is_place {
            let repository = cx.places.repository(target)?;
            let listed = selection.listed(&*repository, &cx.out)?.into_iter();
            listed
                .map(|one| repository.path_of(&one.name).into())
                .collect()
        } else {
            Vec::new()
        };
        if archives.is_empty() {
            all.push(target.clone());
        } else {
            all.extend(archives);
        }
    }
    Ok(all)
}

/// The verdict on an archive, and if `whole` the digest of its bytes.
fn archive_verdict(
    target: &Target,
    archive: &Archive,
    whole: bool,
    args: &Verify,
    cx: &Context<'_>,
) -> Result<(Verdict, Option<Digest>)> {
    let threads = args.threads.count();
    let digests = if whole {
        Digests::AllAndWhole
    } else {
        Digests::All
    };
    let plan = args.deep.then(|| first_look(target)).transpose()?;
    let pass = plan.map_or(Pass::WHOLE, Pass::replaying);
    let report =
        cx.watched(|observe| verify(archive, pass, digests, threads, cx.interrupt, observe))?;
    let member = &archive.manifest().member;
    let mut verdict = Verdict {
        member: Some((member.identity.clone(), member.position.clone())),
        files: report.files,
        faults: report.faults.iter().map(ToString::to_string).collect(),
        ..Verdict::default()
    };
    let warnings = archive.manifest().warnings.iter();
    let lost = warnings.filter(|warning| warning.code == WarningCode::SourceDoesNotStart);
    let lost = lost.map(|warning| format!("when it was taken: {warning}"));
    verdict.notes.extend(lost);
    let mut files = archive.manifest().files.iter();
    let has_db = files.any(|file| file.path == "member/snap/db");
    let version = member.cluster_version.as_ref();
    verdict.take_starts(report.starts, own_release(version, has_db));
    verdict.summary = format!(
        "{}\n  index {}, {} {}",
        member.identity,
        member.position.index,
        size(archive.plain_bytes()),
        worth(verdict.is_valid())
    );
    if args.deep && verdict.is_valid() {
        let first = first_read(member, report.replay);
        verdict.deep = Some(Deep::look(target, first, args, cx)?);
    }
    Ok((verdict, report.sha256))
}

fn data_dir_verdict(
    target: &Target,
    data_dir: &DataDir,
    args: &Verify,
    cx: &Context<'_>,
) -> Result<Verdict> {
    let interrupt = cx.interrupt;
    let plan = args.deep.then(|| first_look(target)).transpose()?;
    let pass = plan.map_or(Pass::WHOLE, Pass::replaying);
    let mut found = cx.watched(|observe| survey(data_dir, pass, interrupt, observe))?;
    let mut faults = Vec::new();
    let summary = match &found.facts {
        Ok(facts) => format!("{}\n  index {}", facts.identity, facts.position.index),
        Err(fault) => {
            // A corrupt file is enough; its effects on the facts would mislead.
            if found.files.iter().all(|file| file.fault.is_none()) {
                faults.push(format!("etcd could not start from it: {fault}"));
            }
            String::new()
        }
    };
    let db = found.db_fault(data_dir)?;
    faults.extend(db.map(|fault| format!("`member/snap/db`: {fault}")));
    let is_harmless = |file: &mut FileReport| file.fault.take_if(|fault| !fault.is_damage());
    let mut harmless = Vec::new();
    if found.facts.is_ok() {
        for file in &mut found.files {
            let fault = is_harmless(file);
            harmless
                .extend(fault.map(|fault| format!("`{}`: {fault}; etcd still starts", file.path)));
        }
    }
    let notes = found.torn_tail.iter().map(|(segment, offset)| {
        format!("`{segment}` ends in an unfinished record at offset {offset}, as after a crash; etcd cuts it off at its next start")
    });
    let member = found.facts.as_ref().ok();
    let mut verdict = Verdict {
        member: member.map(|facts| (facts.identity.clone(), facts.position.clone())),
        notes: notes.collect(),
        files: found.files,
        faults,
        summary,
        ..Verdict::default()
    };
    let facts = found.facts.as_ref().ok();
    let last_segment = facts.and_then(MemberFacts::last_segment_warning);
    verdict
        .notes
        .extend(last_segment.into_iter().chain(harmless));
    let version = facts.and_then(|facts| facts.cluster_version.as_ref());
    verdict.take_starts(found.starts, own_release(version, found.has_db));
    if args.deep && verdict.is_valid() {
        let member = found.facts.as_ref().ok();
        let first = member.and_then(|member| first_read(member, found.replay));
        verdict.deep = Some(Deep::look(target, first, args, cx)?);
    }
    Ok(verdict)
}

/// The result of the first read, for the deep verification.
fn first_read(
    member: &MemberFacts,
    replay: Option<ReplayResult>,
) -> Option<(MemberFacts, Replayed)> {
    // If the replay failed, the log does not reach back to its start; the deep verification finds another one.
    Some((member.clone(), replay?.ok()?))
}
