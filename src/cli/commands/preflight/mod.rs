//! `preflight`: the upgrade guide as a checklist, each check OK, WARN or FAIL with its evidence.

pub(crate) mod watch;

use std::borrow::Cow;
use std::path::PathBuf;

use crate::cluster::{Cluster, ClusterState};
use crate::data_dir::DataDir;
use crate::etcd::ids::{ClusterId, Release, V2_1};
use crate::etcd::member::MemberFacts;
use crate::etcd::membership::Member;
use crate::repository::summarize;
use crate::text::name_or_id;
use crate::upgrade::preflight::backups::Backups;
use crate::upgrade::preflight::data_dir::DataFacts;
use crate::upgrade::preflight::watch::standings;
use crate::upgrade::preflight::{Check, Facts, PreflightOptions, Seen, Status, checks, collect};
use bytesize::ByteSize;
use clap::builder::BoolishValueParser;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::cli::connection::Connection;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::flags::common::Threads;
use crate::cli::flags::repository::BackupDir;
use crate::cli::json;
use crate::cli::layout::{WIDTH, wrap};
use crate::cli::output::{Output, Paint};
use crate::cli::render::checklist;
use crate::cli::render::member_table::table;
use crate::cli::values::{duration, size_limit};

#[derive(Debug, clap::Args)]
pub(crate) struct Preflight {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Data dir of this member (only read)
    #[arg(long, value_name = "DIR", env = "ETCD_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Dedicated WAL dir, if etcd runs with --wal-dir
    #[arg(long, value_name = "DIR", env = "ETCD_WAL_DIR")]
    pub(crate) wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) backup_dir: BackupDir,
    /// Maximum age of an archive, e.g. 90m, 24h, 7d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration, env = "ETCD_ARK_MAX_BACKUP_AGE")]
    pub(crate) max_backup_age: SignedDuration,
    /// Fail if the data size is over SIZE
    #[arg(
        long,
        value_name = "SIZE", value_parser = size_limit,
        default_value = "100MB",
        env = "ETCD_ARK_SIZE_LIMIT"
    )]
    pub(crate) size_limit: ByteSize,
    /// Accept a data size over the limit
    #[arg(long, env = "ETCD_ARK_ACCEPT_DATA_SIZE", value_parser = BoolishValueParser::new())]
    pub(crate) accept_data_size: bool,
    /// Release that the members run
    #[arg(
        long,
        value_name = "RELEASE",
        default_value = "2.1",
        env = "ETCD_ARK_UPGRADE_FROM"
    )]
    pub(crate) from: Release,
    /// Release to upgrade to
    #[arg(
        long,
        value_name = "RELEASE",
        default_value = "2.2",
        env = "ETCD_ARK_UPGRADE_TO"
    )]
    pub(crate) to: Release,
    /// Show the state of all members until the cluster version has moved
    #[arg(long, env = "ETCD_ARK_WATCH", value_parser = BoolishValueParser::new())]
    pub(crate) watch: bool,
    /// With --watch: give up after DURATION, with exit code 1
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "watch", env = "ETCD_ARK_WATCH_FOR")]
    pub(crate) watch_for: Option<SignedDuration>,
    /// With --watch: time between two polls
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = duration, env = "ETCD_ARK_INTERVAL")]
    pub(crate) interval: SignedDuration,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

pub(crate) fn run(args: &Preflight, cx: &Context<'_>) -> Result<()> {
    demand_one_step(args)?;
    demand_an_endpoint(args)?;
    let cluster = Cluster::new(&args.connection.access()?)?;
    let data = see(|| data_facts(args, cx))?;
    let (known, expected) = known(&data);
    if args.watch && known.is_empty() && !args.connection.is_given() {
        return Err(Kind::NotFound
            .error("the data dir does not say who the members are")
            .hint("give --endpoints; without --watch it is said what is wrong with the data dir"));
    }
    if args.watch {
        return watch::run(args, &cluster, (known, expected), cx);
    }
    let look = watch::look(&cluster, known, expected, cx.interrupt)?;
    refuse_other_cluster(args, &look, expected)?;
    let cluster_id = expected.or(look.cluster_id);
    let facts = Facts {
        rules: PreflightOptions {
            from: args.from,
            to: args.to,
            size_limit: args.size_limit.as_u64(),
            accept_data_size: args.accept_data_size,
            max_backup_age: args.max_backup_age,
        },
        now: crate::clock::now(),
        backups: see(|| backups(args, cluster_id, cx))?,
        look,
        data,
    };
    let mut all = checks(&facts);
    for check in &mut all {
        let texts = check.evidence.iter_mut().chain(&mut check.advice);
        texts.for_each(|text| *text = cx.out.complete(text));
    }
    cx.out.json(|| to_json(&facts, &all));
    print(&facts, &all, &cx.out);
    refuse_if_failed(&facts, &all)?;
    if !cx.out.is_json() {
        print_ready(&facts, &all, &cx.out);
    }
    Ok(())
}

/// Refuses other steps: etcd upgrades one minor release at a time, and this guide is for releases of 2.x with a
/// cluster version.
fn demand_one_step(args: &Preflight) -> Result<()> {
    if args.from >= V2_1 && args.to.major == 2 && args.from.next() == args.to {
        return Ok(());
    }
    Err(CliError::usage(format!(
        "from {} to {} is not an upgrade by one minor release, from 2.1 or later",
        args.from, args.to
    ))
    .hint("etcd is upgraded by one minor release at a time, such as --from 2.1 --to 2.2"))
}

fn demand_an_endpoint(args: &Preflight) -> Result<()> {
    if args.connection.is_given() || args.data_dir.is_some() {
        return Ok(());
    }
    Err(CliError::usage("no endpoint is known").hint(
        "give --endpoints with client URLs of members, or --data-dir of a member, which knows them",
    ))
}

/// Refuses if only members of another cluster answer than that of the data dir: no check of both would mean anything.
fn refuse_other_cluster(
    args: &Preflight,
    look: &ClusterState,
    expected: Option<ClusterId>,
) -> Result<()> {
    let (Some(expected), Some(dir)) = (expected, &args.data_dir) else {
        return Ok(());
    };
    let Some((url, found)) = look.only_other_cluster() else {
        return Ok(());
    };
    let dir = dir.display();
    let message = format!("`{url}` belongs to cluster {found}, and `{dir}` to cluster {expected}");
    Err(Kind::Refused
        .error(message)
        .hint("pass the data dir and the endpoints of one cluster"))
}

/// Reads facts; a failure becomes part of them, and only an interrupt is an error.
fn see<T>(read: impl FnOnce() -> Result<Option<T>>) -> Result<Seen<T>> {
    match read() {
        Ok(Some(found)) => Ok(Seen::Found(found)),
        Ok(None) => Ok(Seen::NotGiven),
        Err(error) => {
            if error.kind == Kind::Interrupted {
                return Err(error);
            }
            Ok(Seen::Unreadable {
                why: error.message,
                hint: error.hint.map(Cow::into_owned),
            })
        }
    }
}

fn data_facts(args: &Preflight, cx: &Context<'_>) -> Result<Option<DataFacts>> {
    let Some(path) = &args.data_dir else {
        return Ok(None);
    };
    let data_dir = DataDir::open(path, args.wal_dir.as_deref())?;
    let facts = cx.watched(|observe| collect::data_facts(&data_dir, cx.interrupt, observe))?;
    Ok(Some(facts))
}

fn backups(
    args: &Preflight,
    cluster: Option<ClusterId>,
    cx: &Context<'_>,
) -> Result<Option<Backups>> {
    let Some(place) = &args.backup_dir.backup_dir else {
        return Ok(None);
    };
    let repository = cx.places.repository(place)?;
    let catalog = summarize(&*repository)?;
    cx.interrupt.check()?;
    cx.out.warn_skipped(&*repository);
    let threads = args.threads.count();
    let found = cx.watched(|observe| {
        collect::backups(
            &*repository,
            catalog,
            cluster,
            threads,
            cx.interrupt,
            observe,
        )
    })?;
    Ok(Some(found))
}

/// The members and the cluster in the data dir.
fn known(data: &Seen<DataFacts>) -> (&[Member], Option<ClusterId>) {
    match own(data) {
        Some(member) => (&member.members, Some(member.identity.cluster_id)),
        None => (&[], None),
    }
}

fn own(data: &Seen<DataFacts>) -> Option<&MemberFacts> {
    data.found()?.member.as_ref().ok()
}

fn to_json(facts: &Facts, all: &[Check]) -> Value {
    json!({
        "status": checklist::overall(all),
        "from": facts.rules.from,
        "to": facts.rules.to,
        "cluster_id": facts.look.cluster_id,
        "member": own(&facts.data).map(|member| json::member(&member.identity)),
        "members": standings(&facts.look),
        "checks": all,
        "counts": checklist::counts(all),
        "way_back": facts.way_back(),
    })
}

fn print(facts: &Facts, all: &[Check], out: &Output) {
    if out.is_json() {
        for check in all.iter().filter(|check| check.status == Status::Warn) {
            out.warn(&format!("{}: {}", check.title, check.evidence.join("; ")));
        }
        return;
    }
    out.report(&out.paint(Paint::Strong, &header(facts)));
    let members = standings(&facts.look);
    if !members.is_empty() {
        out.report("");
        for line in table(&members, out) {
            out.report(&line);
        }
    }
    out.report("");
    for check in all {
        if check.status == Status::Warn {
            out.count_warning();
        }
        checklist::print(check, out);
    }
    out.report("");
}

fn header(facts: &Facts) -> String {
    let (from, to) = (facts.rules.from, facts.rules.to);
    let cluster = match facts.look.cluster_id {
        Some(id) => format!("cluster {id}"),
        None => "cluster not known".to_owned(),
    };
    let own = own(&facts.data).map(|member| &member.identity);
    let own = own.map_or(String::new(), |own| {
        format!("; this member is {}", name_or_id(own))
    });
    format!("upgrade {from} to {to}, {cluster}{own}")
}

fn refuse_if_failed(facts: &Facts, all: &[Check]) -> Result<()> {
    let failed = checklist::titles(all, Status::Fail);
    if failed.is_empty() {
        return Ok(());
    }
    Err(Kind::Refused.error(format!(
            "not ready for {}: {} of {} checks failed: {}",
            facts.rules.to,
            failed.len(),
            all.len() - checklist::titles(all, Status::Note).len(),
            failed.join(", ")
        ),
    )
    .hint(if facts.has_moved() {
        "nothing is left to prepare: the cluster version has moved, or is about to; keep the archives from before"
    } else if failed.len() == 1 {
        "fix this, and run preflight again before you upgrade"
    } else {
        "fix these, and run preflight again before you upgrade"
    }))
}

fn print_ready(facts: &Facts, all: &[Check], out: &Output) {
    let to = facts.rules.to;
    let warned = checklist::titles(all, Status::Warn);
    if warned.is_empty() {
        out.report(&out.paint(Paint::Good, &format!("ready for {to}")));
    } else {
        let verdict = format!(
            "no check failed; weigh what is marked WARN first: {}",
            warned.join(", ")
        );
        for line in wrap(&verdict, WIDTH) {
            out.report(&out.paint(Paint::Warn, &line));
        }
    }
    let from = facts.rules.from;
    let next = match facts.still_to_do().as_slice() {
        [] => format!("next: nothing, no member runs {from}"),
        [last] => format!(
            "next: {last}, the last member that runs {from}: take a snapshot of it, stop etcd, start {to} with the same configuration; within seconds of that start the cluster version moves, and from then on going back loses writes"
        ),
        [first, others @ ..] => format!(
            "next: {first}: take a snapshot of it, stop etcd, start {to} with the same configuration; once it is healthy, the same with {}; `etcd-ark preflight --watch` follows the upgrade",
            others.join(", then ")
        ),
    };
    for line in wrap(&out.complete(&next), WIDTH) {
        out.report(&line);
    }
}
