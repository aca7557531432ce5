//! `verify`: prove archives and data dirs, and go on past what is corrupt.

pub(crate) mod deep;

use std::path::{Path, PathBuf};

use crate::archive::verify::verify;
use crate::archive::{Archive, ArchiveError, Digests};
use crate::data_dir::DataDir;
use crate::data_dir::scan::survey;
use crate::data_dir::start::start_verdicts;
use crate::etcd::ids::{ClusterVersion, Identity, Release};
use crate::etcd::member::{MemberFacts, Position};
use crate::etcd::replay::Replayed;
use crate::etcd::scan::Outcome;
use crate::etcd::scan::{FileReport, Pass};
use crate::etcd::start::{V2_3, Verdicts, is_3x, some_line_starts};
use crate::etcd::text::printable;
use crate::fs::staged::STAGING_PREFIX;
use crate::interrupt::Interrupt;
use crate::repository::check::prove;
use crate::repository::{Repository, Summary};
use crate::target::Target;
use crate::target::deep_verify::first_look;
use clap::builder::FalseyValueParser;
use serde_json::{Value, json};

use crate::cli::commands::verify::deep::Deep;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::flags::common::Threads;
use crate::cli::flags::repository::LatestFlags;
use crate::cli::json;
use crate::cli::json::text;
use crate::cli::open as places;
use crate::cli::open::Places;
use crate::cli::output::{Out, Paint, size};
use crate::cli::progress::Progress;
use crate::cli::render::member::{starts_json, starts_why_json};
use crate::cli::values::local_path;

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Archives, data dirs, backup dirs; or latest, latest:LABEL [default: --backup-dir]
    ///
    /// A backup dir stands for all archives in it.
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) latest: LatestFlags,
    /// Dedicated WAL dir of a data dir among them
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR", value_parser = local_path())]
    pub(crate) wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) threads: Threads,
    /// Also replay the log: every raft snapshot must equal what the entries before it lead to
    #[arg(long, env = "ETCD_ARK_DEEP", value_parser = FalseyValueParser::new())]
    pub(crate) deep: bool,
    /// With --deep: report what would expire before a restore at TIME [default: now]
    ///
    /// For example 2015-10-01T00:00:00Z.
    #[arg(
        long,
        value_name = "TIME",
        requires = "deep",
        env = "ETCD_ARK_RESTORE_AT"
    )]
    pub(crate) restore_at: Option<jiff::Timestamp>,
}

/// What proving one target gave.
struct Verdict {
    /// Whose it is and how far its log goes, where that can be read.
    whose: Option<(Identity, Position)>,
    files: Vec<FileReport>,
    faults: Vec<String>,
    notes: Vec<String>,
    summary: String,
    /// What servers of each release line do with it, where all of it could be read.
    starts: Option<Verdicts>,
    deep: Option<Deep>,
}

impl Verdict {
    /// Takes what servers do with it. It is a fault if nothing up to the release of the data starts,
    /// and a note if only some do not.
    fn take_starts(&mut self, starts: Option<Verdicts>, own: Option<Release>) {
        let Some(starts) = starts else { return };
        let is_3x = is_3x(&starts) || own.is_some_and(|own| own.major > V2_3.major);
        if !some_line_starts(&starts, own) {
            let last = starts
                .iter()
                .rfind(|(line, _)| Some(*line) <= own.or(Some(V2_3)));
            let why = last.and_then(|(line, verdict)| verdict.why_not(*line));
            let why = why.unwrap_or_default();
            if self.is_sound() {
                self.faults.push(format!("no etcd starts from it: {why}"));
            }
        } else if !is_3x {
            for (line, verdict) in &starts {
                if let Some(why) = verdict.why_not(*line) {
                    self.notes
                        .push(format!("etcd {line} does not start from it: {why}"));
                }
            }
        }
        self.starts = Some(starts);
    }

    fn is_sound(&self) -> bool {
        self.first_fault().is_none()
    }

    /// The first thing that is wrong, and with which file.
    fn first_fault(&self) -> Option<String> {
        let mut files = self.files.iter();
        let in_file =
            files.find_map(|file| Some(format!("{}: {}", file.path, file.fault.as_ref()?)));
        let deep = || self.deep.as_ref()?.first_fault();
        in_file
            .or_else(|| self.faults.first().cloned())
            .or_else(deep)
    }
}

/// How it stands with a target, for scripts.
const OK: &str = "ok";
const FAILED: &str = "failed";

const QUIET: &str =
    "without --quiet every fault is shown; `etcd-ark list` shows the other archives";

pub(crate) fn run(args: &Verify, places: &Places<'_>, out: &Out) -> Result<u8> {
    let (mut failed, mut worst, mut first, mut key_hint) = (0, None, None, None);
    let mut results = Vec::new();
    let targets = with_repositories_opened(&named(args, places, out)?, places, out)?;
    for target in &targets {
        let verdict = verdict_of(target, args, places, out);
        let wrong = match verdict {
            Ok(verdict) => {
                tell(target, &verdict, out);
                results.push(to_json(target, &verdict));
                verdict.first_fault().map(|fault| (Kind::Corrupt, fault))
            }
            Err(error) => {
                if error.kind == Kind::Interrupted {
                    return Err(error);
                }
                results.push(unopened_json(target, &error, args));
                // One target alone fails as any command does; of several each gets its verdict.
                if targets.len() == 1 {
                    if target.exists() {
                        out.json(|| answer(&results));
                    }
                    return Err(error);
                }
                if error.lacks_key {
                    key_hint = key_hint.or(error.hint);
                }
                let word = out.paint(Paint::Bad, "FAILED ");
                out.line(&format!("{word} {}  {}", shown(target), error.message));
                Some((error.kind, error.message))
            }
        };
        if let Some((kind, fault)) = wrong {
            failed += 1;
            first.get_or_insert_with(|| format!("`{}`: {fault}", shown(target)));
            // Corruption outweighs every other failure.
            if worst != Some(Kind::Corrupt) {
                worst = Some(kind);
            }
        }
    }
    out.json(|| answer(&results));
    let (Some(kind), Some(first)) = (worst, first) else {
        return Ok(0);
    };
    // Where bytes are wrong no key helps.
    let key_hint = key_hint.filter(|_| kind != Kind::Corrupt);
    let hint = key_hint.unwrap_or(if out.is_quiet() {
        QUIET.into()
    } else {
        "`etcd-ark list` shows the other archives".into()
    });
    // Under --quiet this is all that is said, so it says where.
    let message = match targets.as_slice() {
        [_] => format!("is corrupt: {first}"),
        targets => format!(
            "{failed} of {} targets are corrupt, first {first}",
            targets.len()
        ),
    };
    Err(CliError::new(kind, message).hint(hint))
}

fn answer(targets: &[Value]) -> Value {
    let failed = targets.iter().any(|target| target["status"] != OK);
    json!({ "status": if failed { FAILED } else { OK }, "targets": targets })
}

/// The targets; without any, the backup dir.
fn named(args: &Verify, places: &Places<'_>, out: &Out) -> Result<Vec<PathBuf>> {
    if args.targets.is_empty() {
        return Ok(vec![args.latest.backup_dir.place()?.to_owned()]);
    }
    let targets = args.targets.iter();
    targets
        .map(|target| args.latest.resolve(target, places, out))
        .collect()
}

/// What is told of a target that cannot be opened. Servers may start from it all the same.
fn unopened_json(target: &Path, failure: &CliError, args: &Verify) -> Value {
    let wal_dir = args.wal_dir.as_deref();
    let starts = target
        .is_dir()
        .then(|| start_verdicts(target, wal_dir, false));
    let starts = starts.and_then(Result::ok);
    let path = text(target);
    json!({
        "target": path,
        "status": FAILED,
        "member": null,
        "position": null,
        "files": [],
        "problems": [json::problem(&path, failure.kind, &failure.message)],
        "notes": [],
        "starts": starts_json(starts.as_ref()),
        "starts_why": starts_why_json(starts.as_ref()),
        "deep": null,
    })
}

fn verdict_of(target: &Path, args: &Verify, places: &Places<'_>, out: &Out) -> Result<Verdict> {
    let interrupt = places.interrupt();
    if let Some((repository, summary)) = places.locked(target)? {
        return locked_verdict(&*repository, &summary, interrupt);
    }
    if places::is_bucket(target) || is_bare(target) {
        return Err(nothing_in(target));
    }
    let opened = places.target(target, args.wal_dir.as_deref())?;
    match &opened {
        Target::DataDir(dir) => data_dir_verdict(&opened, dir, args, out, interrupt),
        Target::Archive(archive) => {
            // Whoever has no key goes by the sidecar alone: what it says must be true for them, too.
            places.prove_beside(target)?;
            archive_verdict(&opened, archive, args, out, interrupt)
        }
    }
}

/// Whether `target` is a directory without anything in it but what we leave in a backup dir.
fn is_bare(target: &Path) -> bool {
    let is_ours = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.map(|entry| entry.file_name());
        name.is_ok_and(|name| name.to_string_lossy().starts_with(STAGING_PREFIX))
    };
    std::fs::read_dir(target).is_ok_and(|mut entries| entries.all(is_ours))
}

fn nothing_in(target: &Path) -> CliError {
    let (what, hint) = if places::is_bucket(target) {
        (
            "no archives in",
            "is the prefix right? it is the URL that `snapshot --backup-dir` was given",
        )
    } else {
        (
            "no archives and no member in",
            "pass the directory that `etcd-ark snapshot --backup-dir` was given, or a data dir; is its disk mounted?",
        )
    };
    CliError::new(Kind::NotFound, format!("{what} `{}`", target.display())).hint(hint)
}

/// Of an encrypted archive without a key only the ciphertext can be proven.
fn locked_verdict(
    repository: &dyn Repository,
    summary: &Summary,
    interrupt: &Interrupt,
) -> Result<Verdict> {
    let faults = match prove(repository, summary, interrupt) {
        Ok(()) => Vec::new(),
        Err(ArchiveError::Fault { fault, .. }) => vec![fault.to_string()],
        Err(error) => return Err(error.into()),
    };
    let is_sound = faults.is_empty();
    let note = format!(
        "`{}` is encrypted: its ciphertext is proven, what is in it only with --identity",
        summary.name()
    );
    Ok(Verdict {
        whose: Some((summary.identity.clone(), summary.position.clone())),
        files: Vec::new(),
        faults,
        notes: is_sound.then_some(note).into_iter().collect(),
        summary: format!(
            "{}, index {}, {} of ciphertext {}",
            summary.identity,
            summary.position.index,
            size(summary.listed.bytes),
            worth(is_sound)
        ),
        starts: None,
        deep: None,
    })
}

/// What reading it all made of its bytes.
fn worth(is_sound: bool) -> &'static str {
    if is_sound { "proven" } else { "read" }
}

/// A backup dir or bucket among the targets stands for every archive in it.
fn with_repositories_opened(
    targets: &[PathBuf],
    places: &Places<'_>,
    out: &Out,
) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for target in targets {
        let archives = if target.is_dir() || places::is_bucket(target) {
            let repository = places.repository(target)?;
            let listed = repository.list()?.into_iter();
            out.warn_skipped(&*repository);
            listed.map(|one| repository.path_of(&one.name)).collect()
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

fn archive_verdict(
    target: &Target,
    archive: &Archive,
    args: &Verify,
    out: &Out,
    interrupt: &Interrupt,
) -> Result<Verdict> {
    let mut progress = Progress::new(out);
    let threads = args.threads.count();
    let plan = args.deep.then(|| first_look(target)).transpose()?;
    let observe = &mut |event| progress.observe(event);
    let pass = plan.map_or(Pass::WHOLE, Pass::replaying);
    let report = verify(archive, pass, Digests::All, threads, interrupt, observe)?;
    let member = &archive.manifest().member;
    let mut verdict = Verdict {
        whose: Some((member.identity.clone(), member.position.clone())),
        files: report.files,
        faults: report.faults.iter().map(ToString::to_string).collect(),
        notes: Vec::new(),
        starts: None,
        deep: None,
        summary: String::new(),
    };
    let mut files = archive.manifest().files.iter();
    let has_db = files.any(|file| file.path == "member/snap/db");
    let version = member.cluster_version.as_ref();
    verdict.take_starts(report.starts, own_release(version, has_db));
    verdict.summary = format!(
        "{}, index {}, {} {}",
        member.identity,
        member.position.index,
        size(archive.plain_bytes()),
        worth(verdict.is_sound())
    );
    if args.deep && verdict.is_sound() {
        let first = first_read(member, report.replay);
        verdict.deep = Some(Deep::look(target, first, args, out, interrupt)?);
    }
    Ok(verdict)
}

fn data_dir_verdict(
    target: &Target,
    data_dir: &DataDir,
    args: &Verify,
    out: &Out,
    interrupt: &Interrupt,
) -> Result<Verdict> {
    let plan = args.deep.then(|| first_look(target)).transpose()?;
    let pass = plan.map_or(Pass::WHOLE, Pass::replaying);
    let mut progress = Progress::new(out);
    let observe = &mut |event| progress.observe(event);
    let found = survey(data_dir, pass, interrupt, observe)?;
    drop(progress);
    let mut faults = Vec::new();
    let summary = match &found.facts {
        Ok(facts) => format!("{}, index {}", facts.identity, facts.position.index),
        Err(fault) => {
            // A file that is corrupt is reason enough; what it leaves would mislead.
            if found.files.iter().all(|file| file.fault.is_none()) {
                faults.push(format!("etcd could not start from it: {fault}"));
            }
            String::new()
        }
    };
    let notes = found.torn_tail.iter().map(|(segment, offset)| {
        format!("`{segment}` ends in an unfinished record at offset {offset}, as after a crash; etcd cuts it off at its next start")
    });
    let whose = found.facts.as_ref().ok();
    let mut verdict = Verdict {
        whose: whose.map(|facts| (facts.identity.clone(), facts.position.clone())),
        notes: notes.collect(),
        starts: None,
        deep: None,
        files: found.files,
        faults,
        summary,
    };
    let facts = found.facts.as_ref().ok();
    let last_segment = facts.and_then(MemberFacts::last_segment_warning);
    verdict.notes.extend(last_segment);
    let version = facts.and_then(|facts| facts.cluster_version.as_ref());
    verdict.take_starts(found.starts, own_release(version, found.has_db));
    if args.deep && verdict.is_sound() {
        let member = found.facts.as_ref().ok();
        let first = member.and_then(|member| first_read(member, found.replay));
        verdict.deep = Some(Deep::look(target, first, args, out, interrupt)?);
    }
    Ok(verdict)
}

/// The release of the data, as far as they tell.
fn own_release(version: Option<&ClusterVersion>, has_db: bool) -> Option<Release> {
    let version = version.map(ClusterVersion::release);
    if has_db {
        // 3.x keeps no cluster version before its first decision.
        return version.max(Some(Release { major: 3, minor: 0 }));
    }
    version
}

fn first_read(member: &MemberFacts, replay: Option<Outcome>) -> Option<(MemberFacts, Replayed)> {
    // If it failed the log does not reach back to where it began; the deep look finds where it does.
    Some((member.clone(), replay?.ok()?))
}

/// A target on one line: whoever made the file chose its name.
fn shown(target: &Path) -> String {
    printable(&target.display().to_string())
}

fn tell(target: &Path, verdict: &Verdict, out: &Out) {
    let word = if verdict.is_sound() {
        out.paint(Paint::Good, "OK     ")
    } else {
        out.paint(Paint::Bad, "CORRUPT")
    };
    out.line(&format!("{word} {}  {}", shown(target), verdict.summary));
    for file in &verdict.files {
        match &file.fault {
            None if out.verbose => {
                let word = out.paint(Paint::Good, "ok ");
                out.line(&format!("  {word} {}  {}", file.path, size(file.bytes)));
            }
            None => {}
            Some(fault) => {
                let word = out.paint(Paint::Bad, "BAD");
                out.line(&format!("  {word} {}: {fault}", file.path));
            }
        }
    }
    for fault in &verdict.faults {
        let word = out.paint(Paint::Bad, "BAD");
        out.line(&format!("  {word} {fault}"));
    }
    for note in &verdict.notes {
        out.note(note);
    }
    if let Some(deep) = &verdict.deep {
        deep.tell(out);
    }
}

fn to_json(target: &Path, verdict: &Verdict) -> Value {
    let files = verdict.files.iter();
    let files = files.map(|file| json!({"path": file.path, "bytes": file.bytes}));
    let path = text(target);
    let deep = verdict.deep.as_ref().and_then(Deep::first_fault);
    let others = verdict.faults.iter().cloned().chain(deep);
    let mut problems = json::file_problems(&verdict.files);
    problems.extend(others.map(|message| json::problem(&path, Kind::Corrupt, &message)));
    let whose = verdict.whose.as_ref();
    json!({
        "target": path,
        "status": if verdict.is_sound() { OK } else { FAILED },
        "member": whose.map(|(identity, _)| json::member(identity)),
        "position": whose.map(|(_, position)| json::position(position)),
        "files": files.collect::<Vec<_>>(),
        "problems": problems,
        "notes": verdict.notes,
        "starts": starts_json(verdict.starts.as_ref()),
        "starts_why": starts_why_json(verdict.starts.as_ref()),
        "deep": verdict.deep.as_ref().map(Deep::to_json),
    })
}
