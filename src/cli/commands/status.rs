//! `status`: whether the backups are in order, as a plugin of a monitoring system.
//!
//! In: a backup dir. Out: one line with performance data after a `|`, more lines with `-v`, and
//! the plugin's exit code. The line is the result: it is printed without a terminal, too.

use std::io::Write as _;
use std::path::Path;

use crate::archive::ArchiveError;
use crate::monitoring::scope::{Others, Watched, is_called, others, watched};
use crate::monitoring::{
    Facts, Finding, Level, MemberReport, Report, Thresholds, Unreadable, Verification, judge,
};
use crate::repository::check::prove;
use crate::repository::{ArchiveRef, ArchiveSummary, Repository, RepositoryError, summarize};
use crate::retention::prune::verified;
use bytesize::ByteSize;
use clap::builder::{BoolishValueParser, NonEmptyStringValueParser};
use jiff::SignedDuration;
use rustix::fs::StatVfsMountFlags;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::flags::repository::RepositoryFlags;
use crate::cli::json;
use crate::cli::output::Output;
use crate::cli::values::{byte_size, duration};

pub(crate) const AFTER_HELP: &str = "Exits as a plugin of Nagios, Icinga and their like: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. These \
    are this command's own codes: whatever keeps it from looking, wrong usage too, is 3, with its line.\n\n\
    CRITICAL: no backup dir, or no archive in it; the newest is older than --max-age, or dated in the future, so that its age is \
    not known; the newest is corrupt; room for fewer than 2 more archives. WARNING: older than \
    --warn-age; more data than --size-limit; less room than --min-free; an archive that cannot be opened; \
    the newest carries a warning, such as that its member was removed; the file system is mounted \
    read-only. UNKNOWN: the place, or a newest archive in it, cannot be looked at.\n\n\
    Where several members' archives are in one place, the cluster of the newest counts, and those of its \
    members that have archives there: each must have a fresh one. Members that were removed, other \
    clusters, and archives that `rewind` made raise no alarm; that such are not watched is told.";

#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) repository: RepositoryFlags,
    /// Maximum age of the newest archive, e.g. 90m, 26h, 7d
    #[arg(long, value_name = "DURATION", default_value = "26h", value_parser = duration, env = "ETCD_ARK_MAX_AGE")]
    max_age: SignedDuration,
    /// Warn if the newest archive is older than DURATION
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "ETCD_ARK_WARN_AGE")]
    warn_age: Option<SignedDuration>,
    /// Warn if the data size is over SIZE
    #[arg(
        long,
        value_name = "SIZE", value_parser = byte_size,
        default_value = "100MB",
        env = "ETCD_ARK_SIZE_LIMIT"
    )]
    size_limit: ByteSize,
    /// Warn if less space than SIZE is free [default: 10 more archives per member]
    #[arg(long, value_name = "SIZE", value_parser = byte_size, env = "ETCD_ARK_MIN_FREE")]
    min_free: Option<ByteSize>,
    /// Read only the footers, do not verify the newest archives
    #[arg(long, env = "ETCD_ARK_QUICK", value_parser = BoolishValueParser::new())]
    quick: bool,
    /// Check one member only (name or id)
    #[arg(long, value_name = "MEMBER", value_parser = NonEmptyStringValueParser::new(), env = "ETCD_ARK_MEMBER")]
    member: Option<String>,
}

pub(crate) fn run(args: &Status, cx: &Context<'_>) -> Result<()> {
    let out = &cx.out;
    let rules = Thresholds {
        max_age: args.max_age,
        warn_age: args.warn_age,
        size_limit: args.size_limit.as_u64(),
        min_free: args.min_free.map(|size| size.as_u64()),
    };
    let report = match look(args, &rules, cx) {
        Err(error) if error.kind != Kind::Interrupted => {
            let hint = error.hint.map(|hint| format!("; {}", out.complete(&hint)));
            let why = error.message + &hint.unwrap_or_default();
            Report::nothing_seen(Level::Unknown, why)
        }
        report => report?,
    };
    print(&report, &rules, out);
    match report.level {
        Level::Ok => Ok(()),
        level => Err(not_in_order(level, &summary(&report))),
    }
}

/// The failure for people; a monitoring system reads stdout and the exit code.
fn not_in_order(level: Level, summary: &str) -> CliError {
    let message = format!("{}: {}", word(level), clean(summary));
    Kind::Backups(level).error(message)
}

/// Prints `failure`, which came before any check, as a plugin does; returns it as one of `status`.
pub(crate) fn print_unknown(failure: &CliError, as_json: bool) -> CliError {
    let report = Report::nothing_seen(Level::Unknown, failure.message.clone());
    let text = if as_json {
        json::pretty(&to_json(&report))
    } else {
        line(&report)
    };
    // If stdout cannot be written to, the exit code is enough.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    not_in_order(report.level, &summary(&report))
}

fn look(args: &Status, rules: &Thresholds, cx: &Context<'_>) -> Result<Report> {
    let Context {
        places, interrupt, ..
    } = cx;
    if args
        .warn_age
        .is_some_and(|warn_age| warn_age >= args.max_age)
    {
        let why = "--warn-age is not below --max-age: it could never warn";
        return Err(CliError::usage(why).hint("raise --max-age, which is 26h by default"));
    }
    let repository = args.repository.open(places)?;
    let repository = &*repository;
    let catalog = match summarize(repository) {
        // Without a backup dir there are certainly no archives.
        Err(missing @ RepositoryError::NotFound(_)) => {
            let why = CliError::from(missing).message;
            return Ok(Report::nothing_seen(Level::Critical, why));
        }
        catalog => catalog?,
    };
    // An interrupted run has read no archive, so it must not judge any.
    interrupt.check()?;
    let now = crate::clock::now();
    let wanted = |one: &ArchiveSummary| is_called(&one.identity, args.member.as_deref());
    let watched = watched(&catalog.summaries, now, &wanted);
    // If one member is asked for, the others are not reported.
    let others = match args.member {
        Some(_) => Others::default(),
        None => others(&catalog.summaries, &watched),
    };
    let mut proven = Vec::new();
    let verified = verified(repository);
    for mut watched in watched {
        places.read_warnings(repository, &mut watched.newest);
        watched.current = verified.current(&watched.newest.listed);
        let proof = if args.quick {
            Verification::EndOnly
        } else {
            prove_newest(repository, &watched, cx)?
        };
        proven.push((watched, proof));
    }
    let unreadable = catalog.unreadable.into_iter().map(why_unreadable);
    let facts = Facts {
        location: repository.location(),
        now,
        wanted: args.member.clone(),
        watched: proven,
        unreadable: unreadable.collect(),
        skipped: repository.skipped(),
        free: repository
            .free_bytes()
            .map_err(|error| CliError::from(error).message),
        read_only: repository.directory().is_some_and(is_read_only),
        others,
    };
    Ok(judge(&facts, rules))
}

/// Whether `dir` is on a filesystem that is mounted read-only, as after a disk error.
fn is_read_only(dir: &Path) -> bool {
    let found = rustix::fs::statvfs(dir);
    found.is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn why_unreadable((listed, error): (ArchiveRef, ArchiveError)) -> Unreadable {
    Unreadable {
        name: listed.name,
        looked: matches!(error, ArchiveError::Fault { .. }),
        why: CliError::from(error).message,
    }
}

/// Verifies a member's newest archive; if it is corrupt, the ones before it, until one is valid.
fn prove_newest(
    repository: &dyn Repository,
    watched: &Watched,
    cx: &Context<'_>,
) -> Result<Verification> {
    let interrupt = cx.interrupt;
    let why = match prove(repository, &watched.newest, interrupt) {
        Ok(()) => return Ok(Verification::Whole),
        Err(interrupted @ ArchiveError::Interrupted(_)) => return Err(interrupted.into()),
        Err(fault @ ArchiveError::Fault { .. }) => CliError::from(fault).message,
        Err(error) => return Ok(Verification::Unread(CliError::from(error).message)),
    };
    let mut good = None;
    for older in &watched.older {
        match prove(repository, older, interrupt) {
            Ok(()) => {
                good = Some(older.created);
                break;
            }
            Err(interrupted @ ArchiveError::Interrupted(_)) => return Err(interrupted.into()),
            Err(_) => {}
        }
    }
    Ok(Verification::Bad { why, good })
}

fn print(report: &Report, rules: &Thresholds, out: &Output) {
    if out.is_json() {
        out.json(|| to_json(report));
        return;
    }
    let mut text = line(report);
    let data = crate::cli::render::perfdata::of(report, rules);
    if !data.is_empty() {
        text += " | ";
        text += &data;
    }
    let mut lines = vec![text];
    if out.verbose {
        let findings = report.findings.iter();
        lines.extend(findings.map(|finding| {
            let word = word(finding.level);
            format!("{word}: {}", clean(&whole(finding)))
        }));
    }
    out.stream(|stdout| writeln!(stdout, "{}", lines.join("\n")));
}

fn line(report: &Report) -> String {
    let word = word(report.level);
    format!("ETCD-ARK {word}: {}", clean(&summary(report)))
}

fn to_json(report: &Report) -> Value {
    json!({
        "status": report.level,
        "code": Kind::Backups(report.level).exit_code(),
        "message": summary(report),
        "members": report.members.iter().map(member_json).collect::<Vec<_>>(),
        "room": {
            "free_bytes": report.room.free,
            "round_bytes": report.room.round,
            "warning_below_bytes": report.room.warning_below,
            "critical_below_bytes": report.room.critical_below,
        },
        "findings": report.findings.iter().map(|finding| json!({
            "status": finding.level,
            "check": finding.check,
            "member_name": finding.member,
            "message": finding.text,
        })).collect::<Vec<_>>(),
    })
}

fn member_json(member: &MemberReport) -> Value {
    json!({
        "member": {
            "id": member.member_id, "name": member.name, "cluster_id": member.cluster_id,
        },
        "archive": member.newest,
        "archive_bytes": member.archive_bytes,
        "created_at": member.created,
        "age_seconds": member.age_seconds,
        "raft_index": member.index,
        "data_bytes": member.data_size,
        "verified": member.proven,
        "archives": member.archives,
        "warnings": member.warnings,
    })
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "OK",
        Level::Warning => "WARNING",
        Level::Unknown => "UNKNOWN",
        Level::Critical => "CRITICAL",
    }
}

/// What is wrong, the worst first; if nothing is, the state of the backups.
fn summary(report: &Report) -> String {
    let told = |finding: &&Finding| report.level == Level::Ok || finding.level > Level::Ok;
    let mut text = String::new();
    let mut about = None;
    for finding in report.findings.iter().filter(told) {
        let member = finding.member.as_deref();
        // What is in order is reported by member; what is not, one by one.
        if finding.level == Level::Ok && member.is_some() && about == member {
            text = format!("{text}, {}", finding.text);
        } else {
            let separator = if text.is_empty() { "" } else { "; " };
            text = format!("{text}{separator}{}", whole(finding));
        }
        about = member;
    }
    text
}

fn whole(finding: &Finding) -> String {
    match &finding.member {
        Some(member) => format!("{member}: {}", finding.text),
        None => finding.text.clone(),
    }
}

/// A text as a plugin may print it: on one line, and without the character that starts performance
/// data.
fn clean(text: &str) -> String {
    let replaced = |c: char| match c {
        '|' => '/',
        c if c.is_control() => ' ',
        c => c,
    };
    text.chars().map(replaced).collect()
}
