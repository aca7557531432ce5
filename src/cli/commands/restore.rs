//! `restore`: restores an archive's member directory, completely or not at all.

use std::path::PathBuf;

use crate::archive::manifest::Manifest;
use crate::cluster::{Cluster, Presence};
use crate::etcd::ids::{ClusterId, Identity};
use crate::etcd::membership::Member;
use crate::fs::owner::{self, Owner};
use crate::monitoring::scope::log_order;
use crate::repository::{ArchiveSummary, summarize};
use crate::restore::replaced::{Present, ReplacedError};
use crate::restore::stale_member::{Asked, StaleMemberError, WITHIN, unasked};
use crate::restore::{RestoreRequest, check_target, restore};
use crate::text::{count, size};
use clap::ValueHint;
use clap::builder::BoolishValueParser;
use serde_json::{Value, json};

use crate::cli::connection::Tls;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::flags::chosen::LatestFlags;
use crate::cli::flags::common::Threads;
use crate::cli::json::{self, text};
use crate::cli::location::{Location, TargetName};
use crate::cli::output::{Output, Paint};
use crate::cli::render::member::{position_text, version_text};

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Restore {
    /// Archive; or part of its name, latest, latest:LABEL
    #[arg(value_name = "ARCHIVE", value_hint = ValueHint::AnyPath)]
    pub(crate) archive: TargetName,
    #[command(flatten)]
    pub(crate) latest: LatestFlags,
    /// Data dir to restore into, created if missing
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
    /// Dedicated WAL dir for the segments (etcd 2.2 and later)
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR")]
    pub(crate) wal_dir: Option<PathBuf>,
    /// Exchange an existing member directory with the restored one; the old one is kept
    #[arg(long, env = "ETCD_ARK_REPLACE", value_parser = BoolishValueParser::new())]
    pub(crate) replace: bool,
    /// Allow replacing the data dir of another member
    #[arg(long, env = "ETCD_ARK_CHANGE_MEMBER", value_parser = BoolishValueParser::new())]
    pub(crate) change_member: bool,
    /// Refuse the archive unless it is of the member of this name
    #[arg(long, value_name = "NAME", env = "ETCD_NAME")]
    pub(crate) name: Option<String>,
    /// Owner of the restored files, USER[:GROUP] (names or ids)
    #[arg(long, value_name = "OWNER", env = "ETCD_ARK_OWNER")]
    pub(crate) owner: Option<String>,
    /// Do everything but publish the result
    #[arg(long, env = "ETCD_ARK_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub(crate) dry_run: bool,
    /// Also restore an archive of a damaged data dir, or one that its etcd release does not start from
    #[arg(long, env = "ETCD_ARK_DAMAGED", value_parser = BoolishValueParser::new())]
    pub(crate) damaged: bool,
    /// Restore although members of the same cluster may be running
    #[arg(long, env = "ETCD_ARK_ALLOW_STALE_MEMBER", value_parser = BoolishValueParser::new())]
    pub(crate) allow_stale_member: bool,
    /// Contact no member: you are sure that the cluster is stopped
    #[arg(long, env = "ETCD_ARK_OFFLINE", value_parser = BoolishValueParser::new())]
    pub(crate) offline: bool,
    #[command(flatten)]
    pub(crate) tls: Tls,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

pub(crate) fn run(args: &Restore, cx: &Context<'_>) -> Result<()> {
    let path = args.latest.search().resolve(&args.archive, None, cx)?;
    let archive = cx.places.archive_to_restore(&path)?;
    let owner = args.owner.as_deref().map(owner_of).transpose()?;
    let request = RestoreRequest {
        archive: &archive,
        data_dir: &args.data_dir,
        wal_dir: args.wal_dir.as_deref(),
        replace: args.replace,
        owner,
        dry_run: args.dry_run,
        damaged: args.damaged,
        threads: args.threads.count(),
        now: crate::clock::now(),
    };
    refuse_other_name(args.name.as_deref(), &archive.manifest().member.identity)?;
    check_target(&request)?;
    let (mut warnings, mut later) = compare_with_replaced(args, archive.manifest(), cx)?;
    let (asked, more) = if args.offline {
        (None, vec![unasked(archive.manifest())])
    } else {
        later.extend(later_archive(&path, archive.manifest(), cx).unwrap_or_default());
        ask(args, archive.manifest(), &later, &cx.out)?
    };
    warnings.extend(more);
    let restored = cx.watched(|observe| restore(&request, cx.interrupt, observe))?;
    warnings.extend(restored.warnings);
    for warning in &warnings {
        cx.out.warn(warning);
    }
    let member = &archive.manifest().member;
    // One command: a step that fails, as all do if it is run again, ends it.
    let undo = |between| {
        let chain = restored.undo.join(between);
        Some(chain).filter(|chain| !chain.is_empty())
    };
    cx.out.json(|| {
        json!({
            "archive": text(path.as_path()),
            "member_dir": text(&restored.member),
            "dry_run": args.dry_run,
            "kept": restored.kept.as_deref().map(text),
            "kept_wal": restored.kept_wal.as_deref().map(text),
            "undo": undo(" && ").into_iter().collect::<Vec<_>>(),
            "unpacked_bytes": restored.bytes,
            "member": json::member(&member.identity),
            "position": json::position(&member.position),
            "members_asked": asked.as_ref().map(asked_json),
            "warnings": warnings,
        })
    });
    let place = restored.member.display().to_string();
    if args.dry_run {
        cx.out.line(&format!(
            "would restore {} to {place}; the archive is verified, nothing was changed",
            size(restored.bytes)
        ));
        cx.out
            .line(&format!("  archive    {}", path.as_path().display()));
        cx.out.line(&format!("  member     {}", member.identity));
        return Ok(());
    }
    cx.out.report(&format!(
        "restored {} to {}",
        size(restored.bytes),
        cx.out.paint(Paint::Strong, &place)
    ));
    cx.out
        .report(&format!("  archive    {}", path.as_path().display()));
    cx.out.report(&format!("  member     {}", member.identity));
    cx.out
        .report(&format!("  position   {}", position_text(member)));
    cx.out
        .report(&format!("  version    {}", version_text(member)));
    if let Some(asked) = &asked {
        cx.out
            .report(&format!("  asked      {}", asked_text(asked)));
    }
    for (name, kept) in [("kept", &restored.kept), ("kept WAL", &restored.kept_wal)] {
        if let Some(kept) = kept {
            cx.out.report(&format!("  {name:<10} {}", kept.display()));
        }
    }
    if !restored.undo.is_empty() {
        cx.out.report("to undo it, with etcd stopped:");
        for line in undo(" &&\n").iter().flat_map(|chain| chain.lines()) {
            cx.out.report(&format!("  {line}"));
        }
    }
    Ok(())
}

fn refuse_other_name(expected: Option<&str>, found: &Identity) -> Result<()> {
    match expected {
        Some(expected) if found.name.as_deref() != Some(expected) => Err(Kind::Refused.error(format!("the archive is not of a member `{expected}`, but of {found}"),
        )
        .hint("nothing was changed; choose the archive of this member, `etcd-ark list` shows the member of each")),
        _ => Ok(()),
    }
}

/// A cluster and its members, as known later than when an archive was made.
type Later = Vec<(ClusterId, Vec<Member>)>;

/// Refuses to replace another member, or one that has run in the cluster that the archive would start. Returns warnings of
/// what could not be compared, and the members that it knows.
fn compare_with_replaced(
    args: &Restore,
    manifest: &Manifest,
    cx: &Context<'_>,
) -> Result<(Vec<String>, Later)> {
    let dir = args.data_dir.display();
    let replaced = match Present::find(
        &args.data_dir,
        args.wal_dir.as_deref(),
        manifest,
        cx.interrupt,
    )? {
        Present::Nothing => return Ok(Default::default()),
        Present::Unreadable => {
            let warning = format!(
                "`{dir}` is damaged: no file says which member it is, so it could not be compared with the archive"
            );
            return Ok((vec![warning], Vec::new()));
        }
        Present::Member(replaced) => replaced,
    };
    let warning = replaced.is_damaged.then(|| {
        format!(
            "`{dir}` is damaged: it was compared with the archive up to entry {}, and its log may have gone further",
            replaced.end.1
        )
    });
    match replaced.may_be_replaced(&args.data_dir, manifest) {
        Err(ReplacedError::OtherMember { .. } | ReplacedError::OtherCluster { .. })
            if args.change_member => {}
        Err(
            ReplacedError::HasRun { .. }
            | ReplacedError::HasVoted { .. }
            | ReplacedError::Unclear { .. }
            | ReplacedError::MayHaveRun { .. },
        ) if args.allow_stale_member => {}
        verdict => verdict?,
    }
    let known = (replaced.cluster_id, replaced.members);
    Ok((warning.into_iter().collect(), vec![known]))
}

/// The members in the archive beside it that goes furthest in the log of the cluster that must not run.
fn later_archive(path: &Location, manifest: &Manifest, cx: &Context<'_>) -> Option<Later> {
    let rewound = manifest.rewind.as_ref().map(|made| made.old_cluster_id);
    let cluster_id = rewound.unwrap_or(manifest.member.identity.cluster_id);
    let unread = |of: &str, error: CliError| {
        let why = error.message;
        cx.out.note(&format!(
            "the members' URLs in {of} could not be read: {why}"
        ));
    };
    let listed = cx.places.locate(path).and_then(|(repository, _)| {
        let catalog = summarize(&*repository)?;
        Ok((repository, catalog))
    });
    let (repository, catalog) = listed
        .map_err(|error| unread("the archives beside this one", error))
        .ok()?;
    let is_of_it = |one: &&ArchiveSummary| one.identity.cluster_id == cluster_id && one.is_backup();
    let of_it = catalog.summaries.iter().filter(is_of_it);
    let last = of_it.max_by_key(|one| (log_order(one), one.created))?;
    let of = format!("`{}`, which goes further in the log,", last.name());
    let last = cx.places.archive(&repository.path_of(last.name()).into());
    let last = last.map_err(|error| unread(&of, error)).ok()?;
    Some(vec![(cluster_id, last.manifest().member.members.clone())])
}

/// Asks the running members: returns their answers, and a warning.
fn ask(
    args: &Restore,
    manifest: &Manifest,
    later: &Later,
    out: &Output,
) -> Result<(Option<Asked>, Vec<String>)> {
    let cluster = Cluster::new(&args.tls.access()?)?;
    let asked = Asked::about(manifest, later, |members, cluster_id| {
        cluster.presence_of(members, cluster_id, WITHIN)
    });
    for note in asked.notes() {
        out.note(&note);
    }
    let warning = match asked.verdict() {
        Ok(()) => asked.warning(),
        Err(error)
            if args.allow_stale_member
                && (!asked.rewound
                    || matches!(error, StaleMemberError::RewoundClusterRuns { .. })) =>
        {
            let done = if args.dry_run {
                "would be restored"
            } else {
                "restored"
            };
            Some(format!("{error}; {done} because of --allow-stale-member"))
        }
        Err(error) => return Err(error.into()),
    };
    Ok((Some(asked), warning.into_iter().collect()))
}

fn asked_text(asked: &Asked) -> String {
    let members = count(asked.found.len() as u64, "member", "members");
    let is_here = |(_, presence): &&(_, Presence)| matches!(presence, Presence::Here { .. });
    match asked.found.iter().filter(is_here).count() {
        0 => format!("{members} of cluster {}: none answers", asked.cluster_id),
        here => {
            let here = count(here as u64, "answers", "answer");
            format!("{members} of cluster {}: {here}", asked.cluster_id)
        }
    }
}

fn asked_json(asked: &Asked) -> Value {
    let one = |(member, presence): &(_, Presence)| {
        let member: &crate::etcd::membership::Member = member;
        let (what, url, cluster_id, why) = match presence {
            Presence::Here { url, .. } => ("here", Some(url), Some(asked.cluster_id), None),
            Presence::OtherCluster { url, found } => {
                ("other-cluster", Some(url), Some(*found), None)
            }
            Presence::Unclear(silence) => ("unclear", None, None, Some(silence.to_string())),
            Presence::Absent => ("absent", None, None, None),
        };
        json!({
            "id": member.id, "name": member.name, "presence": what,
            "url": url, "cluster_id": cluster_id, "reason": why,
        })
    };
    asked.found.iter().map(one).collect()
}

/// Parses `USER[:GROUP]`, each a number or a name known on this machine.
fn owner_of(text: &str) -> Result<Owner> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let unknown = |what, name| {
        CliError::usage(format!("`{name}` is not a known {what}, and not a number"))
            .hint("give --owner as USER or USER:GROUP")
    };
    let user = owner::user(user).ok_or_else(|| unknown("user", user))?;
    let gid = match group {
        "" => user.gid,
        _ => owner::group(group).ok_or_else(|| unknown("group", group))?,
    };
    Ok(Owner { gid, ..user })
}
