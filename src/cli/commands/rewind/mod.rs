//! `rewind`: take a whole cluster back to one moment, an archive for every member.

pub(crate) mod report;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::archive::ENCRYPTED;
use crate::etcd::membership::Member;
use crate::etcd::scan::FileFault;
use crate::etcd::store::to_json::{Expiration, api_key};
use crate::etcd::text::printable;
use crate::rewind::cut::{To, stretches};
use crate::rewind::input::{Witness, member_text};
use crate::rewind::new_cluster::{ChangeKind, Wishes};
use crate::rewind::output_dir::Place;
use crate::rewind::stores::Renamed;
use crate::rewind::write::{Archived, Output};
use crate::rewind::{Input, Plan, Request, RewindError, plan, write};
use clap::builder::FalseyValueParser;
use clap::{ArgAction, ValueHint};
use jiff::Timestamp;

use crate::cli::commands::rewind::report::to_json;
use crate::cli::commands::schedule::quote::shell;
use crate::cli::context::Context;
use crate::cli::encryption::cipher;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::flags::common::Threads;
use crate::cli::json::text;
use crate::cli::location::Location;
use crate::cli::open::Places;
use crate::cli::output::{Out, Paint, one_line, size};
use crate::cli::render::member::{plural, row};
use crate::cli::render::rewind_plan::picture;
use crate::cli::values::{pair, path_pair};

#[derive(Debug, clap::Args)]
pub(crate) struct Rewind {
    /// Archives and data dirs of any members of one cluster
    #[arg(value_name = "TARGET", value_hint = ValueHint::AnyPath, required = true)]
    pub(crate) targets: Vec<Location>,
    /// Directory for the new archives (empty or missing)
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "dry_run",
        env = "ETCD_ARK_OUT"
    )]
    pub(crate) out: Option<PathBuf>,
    /// Where to cut: last-before:RELEASE, index:N or end
    ///
    /// `last-before:RELEASE` is the last entry before the cluster version moved to it, or the end, if it
    /// never did; `index:N` is that entry; `end` is the end of the most up-to-date log.
    #[arg(
        long,
        value_name = "MOMENT",
        default_value = "last-before:2.2",
        env = "ETCD_ARK_REWIND_TO"
    )]
    pub(crate) to: To,
    /// Member (name or id) that gives the raft snapshot for all
    ///
    /// Needed where members name in-order keys differently.
    #[arg(long, value_name = "MEMBER", env = "ETCD_ARK_BASE")]
    pub(crate) base: Option<String>,
    /// Make a cluster of this member alone (name or id); the others are removed
    #[arg(long, value_name = "MEMBER", env = "ETCD_ARK_SINGLE")]
    pub(crate) single: Option<String>,
    /// New peer URL of a member, for a new host (repeatable)
    #[arg(long, value_name = "MEMBER=URL", action = ArgAction::Append, value_delimiter = ',', value_parser = pair, env = "ETCD_ARK_PEER_URL")]
    pub(crate) peer_url: Vec<(String, String)>,
    /// Keep the cluster id; members of the old cluster that still run could then join
    #[arg(long, env = "ETCD_ARK_KEEP_CLUSTER_ID", value_parser = FalseyValueParser::new())]
    pub(crate) keep_cluster_id: bool,
    /// Dedicated WAL dir of a data dir among the targets (repeatable)
    #[arg(long, value_name = "DATA_DIR=WAL_DIR", action = ArgAction::Append, value_parser = path_pair, env = "ETCD_ARK_WAL_DIRS")]
    pub(crate) wal_dir: Vec<(PathBuf, PathBuf)>,
    /// Show what would be kept and lost; write nothing
    #[arg(long, env = "ETCD_ARK_DRY_RUN", value_parser = FalseyValueParser::new())]
    pub(crate) dry_run: bool,
    /// Encrypt for an age recipient (repeatable)
    #[arg(long, value_name = "RECIPIENT", action = ArgAction::Append, value_delimiter = ',', env = "ETCD_ARK_RECIPIENT")]
    pub(crate) recipient: Vec<String>,
    /// Encrypt for the recipients in FILE (repeatable)
    #[arg(short = 'R', long, value_name = "FILE", action = ArgAction::Append, env = "ETCD_ARK_RECIPIENTS_FILE")]
    pub(crate) recipients_file: Vec<PathBuf>,
    /// Write archives in the open although an input is encrypted
    #[arg(long, env = "ETCD_ARK_ALLOW_PLAINTEXT", value_parser = FalseyValueParser::new())]
    pub(crate) allow_plaintext: bool,
    /// zstd compression level, 1 to 19
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=19), env = "ETCD_ARK_LEVEL")]
    pub(crate) level: i32,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

/// How many renamed keys are shown, unless `--verbose`.
const SHOWN: usize = 50;

pub(crate) fn run(args: &Rewind, cx: &Context<'_>) -> Result<u8> {
    let Context {
        places,
        out,
        interrupt,
        ..
    } = cx;
    let cipher = cipher(&args.recipient, &args.recipients_file)?;
    let to_write = args.out.as_deref().filter(|_| !args.dry_run);
    if to_write.is_some() && cipher.is_none() {
        refuse_plaintext(args)?;
    }
    let inputs = open(args, places)?;
    if let Some(dir) = to_write {
        // Now, and not after the work.
        Place::find(dir, &inputs)?;
    }
    let request = Request {
        to: args.to.clone(),
        base: args.base.as_deref(),
        wishes: Wishes {
            single: args.single.as_deref(),
            peer_urls: &args.peer_url,
        },
        keep_cluster_id: args.keep_cluster_id,
        may_run: args.dry_run,
        now: Timestamp::now(),
        threads: args.threads.count(),
    };
    let planned = cx.watched(|observe| plan(&request, &inputs, interrupt, observe));
    let planned = planned.inspect_err(|error| tell_refusal(error, out))?;
    let warnings = warnings(&planned, args);
    for warning in &warnings {
        out.warn(warning);
    }
    tell_plan(&planned, out);
    let mut archived = Vec::new();
    if let Some(dir) = to_write {
        let output = Output {
            dir,
            level: args.level,
            threads: args.threads.count(),
            cipher: cipher.as_deref(),
        };
        archived = cx.watched(|observe| write(&planned, &inputs, output, interrupt, observe))?;
    }
    out.json(|| to_json(&planned, &archived, &warnings, args));
    tell_archives(&planned, &archived, args, out);
    Ok(0)
}

fn open(args: &Rewind, places: &Places<'_>) -> Result<Vec<Input>> {
    let is_of = |data_dir: &Path, target: &Location| target.local() == Some(data_dir);
    for (data_dir, _) in &args.wal_dir {
        if !args.targets.iter().any(|target| is_of(data_dir, target)) {
            return Err(CliError::usage(format!(
                "`--wal-dir` names `{}`, which is not one of the targets",
                data_dir.display()
            ))
            .hint("give it as --wal-dir DATA_DIR=WAL_DIR, DATA_DIR as among the targets"));
        }
    }
    let mut inputs = Vec::new();
    for path in &args.targets {
        let mut wal_dirs = args.wal_dir.iter();
        let wal_dir = wal_dirs.find(|(data_dir, _)| is_of(data_dir, path));
        let target = places.target(path, wal_dir.map(|(_, dir)| dir.as_path()))?;
        inputs.push(Input { target });
    }
    Ok(inputs)
}

/// What someone encrypted is not written in the open by a command that says nothing of it.
fn refuse_plaintext(args: &Rewind) -> Result<()> {
    let is_encrypted = |target: &&Location| {
        let path = target.as_path().to_string_lossy();
        path.ends_with(ENCRYPTED)
    };
    match args.targets.iter().find(is_encrypted) {
        Some(path) if !args.allow_plaintext => Err(CliError::new(Kind::Refused, format!(
                "`{}` is encrypted, and the new archives would not be",
                path.as_path().display()
            )).hint("name with `--recipient` or `--recipients-file` who may read them; `--allow-plaintext` writes them in the open")),
        _ => Ok(()),
    }
}

/// The keys for which it has to be said whose names count; the failure itself follows on stderr.
fn tell_refusal(error: &RewindError, out: &Out) {
    let RewindError::InOrder { keys, names } = error else {
        return;
    };
    let name = |input: &usize| names.get(*input).cloned().unwrap_or_default();
    out.json(|| crate::cli::commands::rewind::report::disagreement(keys, names));
    for ((path, other), inputs) in &keys.0 {
        let inputs: Vec<_> = inputs.iter().map(name).collect();
        let (path, other) = (one_line(api_key(path)), one_line(api_key(other)));
        out.line(&format!("  {path} is {other} in {}", inputs.join(", ")));
    }
}

/// What should not be passed over.
fn warnings(plan: &Plan, args: &Rewind) -> Vec<String> {
    let mut warnings = Vec::new();
    for witness in &plan.witnesses {
        for file in &witness.passed_over {
            if let Some(fault @ FileFault::Snapshot(_)) = &file.fault {
                let path = witness.path.join(&file.path);
                let path = path.display();
                warnings.push(format!("`{path}` is corrupt and was passed over: {fault}"));
            }
        }
        if let Some(lost) = &witness.lost {
            let (path, lost) = (witness.path.display(), lost.of(&witness.passed_over));
            warnings.push(format!("`{path}` is damaged: {lost}"));
        }
        if let Some(running) = &witness.running {
            let file = running.file.display();
            warnings.push(format!(
                "etcd runs on `{}` (`{file}` is locked): what it writes from now on is not in this plan",
                witness.path.display()
            ));
        }
    }
    warnings.extend(other_members(plan));
    if args.keep_cluster_id {
        warnings.push(format!(
            "the cluster keeps its id {}: a member of the old one that still runs, or comes back later, mixes in silently",
            plan.cluster_id
        ));
    }
    if !plan.renamed.is_empty() {
        let keys = plural(
            plan.renamed.len() as u64,
            "in-order key gets",
            "in-order keys get",
        );
        warnings.push(format!(
            "{keys} another name than a member serves now; clients that keep such names must look them up again"
        ));
    }
    let (kept, known) = (plan.moment.index, plan.agreement.committed);
    if kept > known {
        let first = known.next();
        warnings.push(format!(
            "entries {first} to {kept} are not known to be committed: clients may have been told that what they hold failed, and it will have succeeded"
        ));
    }
    warnings
}

/// Who is a member now and was not then, and the other way round, as far as the inputs know.
fn other_members(plan: &Plan) -> Vec<String> {
    let Some(latest) = plan
        .witnesses
        .iter()
        .max_by_key(|witness| witness.facts.position.commit)
    else {
        return Vec::new();
    };
    let at = plan.moment.index;
    let name = |member: &Member| match printable(&member.name) {
        name if name.is_empty() => member.id.to_string(),
        name => format!("{name} ({})", member.id),
    };
    let removed = plan.changes.iter().map(|change| &change.member);
    let then: BTreeSet<_> = plan.members.iter().chain(removed).map(|m| m.id).collect();
    let now = latest.facts.standing_members();
    let joined = now.filter(|member| !then.contains(&member.id)).map(|member| {
        format!(
            "{} is a member now and was not one as of entry {at}: there is no archive for it, and it must not start on its old data",
            name(member)
        )
    });
    let left = plan.members.iter();
    let left = left
        .filter(|member| latest.facts.removed_members.contains(&member.id))
        .map(|member| {
            format!(
                "{} was removed after entry {at} and is a member again: the cluster counts on it",
                name(member)
            )
        });
    joined.chain(left).collect()
}

fn tell_plan(plan: &Plan, out: &Out) {
    let head = format!(
        "cluster {} taken back to entry {}",
        plan.old_cluster_id, plan.moment.index
    );
    out.line(&out.paint(Paint::Strong, &head));
    row(out, "moment", &moment_text(plan));
    if let Some(clock) = clock_text(plan) {
        row(out, "", &clock);
    }
    let version = plan.moment.cluster_version.as_ref();
    let version = version.map_or("not decided".to_owned(), ToString::to_string);
    row(out, "version", &version);
    out.line("");
    out.line(&picture(plan));
    out.line("");
    for (place, witness) in plan.witnesses.iter().enumerate() {
        let used = plan.used_for(place);
        let used = match used.as_slice() {
            [] => "bears witness only".to_owned(),
            used => format!("gives {}", used.join(", ")),
        };
        let position = &witness.facts.position;
        let number = format!("input {}", place + 1);
        row(out, &number, &witness.path.display().to_string());
        row(out, "", &witness.facts.identity.to_string());
        row(
            out,
            "",
            &format!(
                "term {}, index {}, commit {}; {used}",
                position.term, position.index, position.commit
            ),
        );
    }
    out.line("");
    tell_kept(plan, out);
    tell_lost(plan, out);
    tell_leftovers(plan, out);
    tell_renamed(&plan.renamed, plan, out);
}

fn moment_text(plan: &Plan) -> String {
    match &plan.moment.moved {
        Some(moved) => {
            let known = if moved.committed {
                ""
            } else {
                ", not known to be committed"
            };
            let (version, at) = (&moved.version, moved.at);
            format!("the last before {version}, which entry {at} set{known}")
        }
        None if plan.moment.index == plan.agreement.end.index => {
            "the end of the most up-to-date log".to_owned()
        }
        None => format!("entry {}, as asked for", plan.moment.index),
    }
}

/// The log's own clock: every SYNC has its leader's.
fn clock_text(plan: &Plan) -> Option<String> {
    match plan.clocks {
        (Some(kept), Some(all)) if kept < all => Some(format!(
            "{} by the log's own clock, which goes on to {}",
            Expiration(kept),
            Expiration(all)
        )),
        (Some(kept), _) => Some(format!("{} by the log's own clock", Expiration(kept))),
        (None, _) => None,
    }
}

fn tell_kept(plan: &Plan, out: &Out) {
    let name = |place: usize| format!("input {}", place + 1);
    let start = match plan.base.snapshot {
        Some(id) => format!("raft snapshot at {id} of {}", name(plan.base.input)),
        None => "the log from its beginning".to_owned(),
    };
    row(out, "kept", &start);
    for part in &plan.log {
        let entries = format!("entries {} to {} of", part.from, part.to);
        row(out, "", &format!("{entries} {}", name(part.input)));
    }
    let store = &plan.store;
    let (keys, index, before) = (store.keys, store.index, store.index_before);
    let keys = plural(keys, "key", "keys");
    let index = if before > index {
        format!("X-Etcd-Index {index}, goes back from {before}")
    } else {
        format!("X-Etcd-Index {index}")
    };
    row(out, "", &format!("{keys}, {index}"));
    let expiring = &store.expiring;
    if expiring.total > 0 {
        let total = plural(expiring.total, "has a TTL", "have a TTL");
        row(
            out,
            "",
            &format!(
                "{total}; {} expired by now and go at the start",
                expiring.expired
            ),
        );
    }
}

fn tell_lost(plan: &Plan, out: &Out) {
    let lost = &plan.lost;
    let mut lines = Vec::new();
    if lost.count.entries > 0 {
        lines.push(format!(
            "{}, {} of them client writes ({} and {} known to be committed)",
            plural(lost.count.entries, "entry", "entries"),
            lost.count.client_writes,
            lost.committed.entries,
            lost.committed.client_writes
        ));
    }
    if !lost.unseen.is_empty() {
        lines.push(format!(
            "and what is in entries {}, which no input has",
            stretches(&lost.unseen)
        ));
    }
    for (place, from, to) in &lost.tails {
        lines.push(format!(
            "entries {from} to {to} of input {}, which no input knows to be committed",
            place + 1
        ));
    }
    if lines.is_empty() {
        lines.push("nothing that these inputs know of".to_owned());
    }
    if let Some((place, taken)) = plan.newest() {
        lines.push(format!(
            "and every write after {taken:.0}, when the newest, input {}, was taken: how many is not known",
            place + 1
        ));
    }
    let unheard = plan.unheard();
    if !unheard.is_empty() {
        let members: Vec<_> = unheard
            .iter()
            .map(|member| match printable(&member.name) {
                name if name.is_empty() => member.id.to_string(),
                name => name,
            })
            .collect();
        lines.push(format!(
            "and what only the logs of {} hold, which are not among the inputs",
            members.join(", ")
        ));
    }
    for (at, line) in lines.iter().enumerate() {
        row(out, if at == 0 { "lost" } else { "" }, line);
    }
}

fn tell_leftovers(plan: &Plan, out: &Out) {
    for (at, (id, found)) in plan.leftovers.members.iter().enumerate() {
        let snapshot = found.in_snapshot.then(|| "the raft snapshot".to_owned());
        let entries = found.entries.iter().map(|index| format!("entry {index}"));
        let places: Vec<_> = snapshot.into_iter().chain(entries).collect();
        let line = format!(
            "{id} out of {}: it published its attributes after its removal, and etcd does not start from that",
            places.join(", ")
        );
        row(out, if at == 0 { "dropped" } else { "" }, &line);
    }
}

fn tell_renamed(renamed: &Renamed, plan: &Plan, out: &Out) {
    let shown = if out.verbose { usize::MAX } else { SHOWN };
    for (at, ((path, other), inputs)) in renamed.0.iter().take(shown).enumerate() {
        let served = inputs.iter().filter_map(|at| plan.witnesses.get(*at));
        let mut members: Vec<_> = served.map(Witness::member).collect();
        members.dedup();
        let (path, other) = (one_line(api_key(path)), one_line(api_key(other)));
        let line = format!("{path}, now {other} on {}", members.join(", "));
        row(out, if at == 0 { "renamed" } else { "" }, &line);
    }
    if renamed.len() > shown {
        let more = renamed.len() - shown;
        row(out, "", &format!("and {more} more; --verbose shows all"));
    }
}

fn tell_archives(plan: &Plan, archived: &[Archived], args: &Rewind, out: &Out) {
    let id = if args.keep_cluster_id {
        format!("the same cluster id {}", plan.cluster_id)
    } else if args.dry_run {
        "a new cluster id".to_owned()
    } else {
        format!("new cluster id {}", plan.cluster_id)
    };
    let last = plan.last_index();
    row(
        out,
        "members",
        &format!("{id}, term {}, all committed up to {last}", plan.term),
    );
    for change in &plan.changes {
        let name = printable(&change.member.name);
        let what = match change.kind {
            ChangeKind::Remove => format!("removes {name} ({})", change.member.id),
            ChangeKind::Update => {
                let urls = change.member.peer_urls.join(",");
                format!("moves {name} to {}", printable(&urls))
            }
        };
        row(out, "", &format!("entry {} {what}", change.index));
    }
    for member in &plan.members {
        let name = printable(&member.name);
        let urls = printable(&member.peer_urls.join(","));
        row(out, "", &format!("{name} ({}) {urls}", member.id));
        let own = archived.iter().find(|one| one.member.id == member.id);
        if let Some(captured) = own.map(|one| &one.captured) {
            let path = captured.path.display().to_string();
            let path = out.paint(Paint::Strong, &path);
            row(out, "", &format!("  {path} ({})", size(captured.bytes)));
        }
    }
    out.line("");
    if args.dry_run {
        let with_out = if args.out.is_none() {
            " and with --out DIR"
        } else {
            ""
        };
        out.line(&format!(
            "nothing was written; without --dry-run{with_out} this makes an archive for each member"
        ));
        return;
    }
    for line in next_steps(plan, archived) {
        out.line(&line);
    }
}

/// What is left to do, and what clients will see.
fn next_steps(plan: &Plan, archived: &[Archived]) -> Vec<String> {
    let binary = match &plan.moment.cluster_version {
        Some(version) => format!("etcd {}", version.release()),
        None => "the release that they ran then".to_owned(),
    };
    let mut steps = vec![
        "  1. stop all members of the old cluster and keep them stopped".to_owned(),
        "  2. on each host, with that member's own archive and its data dir for DIR:".to_owned(),
    ];
    let members = plan.members.iter();
    steps.extend(members.map(|member| {
        let own = archived.iter().find(|one| one.member.id == member.id);
        let command = restore_command(own.map(|one| one.captured.path.as_path()));
        format!(
            "     {}: {command}",
            member_text(Some(&member.name), member.id)
        )
    }));
    steps.push(format!("  3. start them all, with {binary}"));
    steps.push(
        "  4. X-Etcd-Index goes back: watchers, and clients that compare and swap, must start over"
            .to_owned(),
    );
    steps
}

fn restore_command(archive: Option<&Path>) -> String {
    let path = archive.map_or_else(|| "ARCHIVE".to_owned(), |path| shell(&text(path)));
    let identity = if path.trim_end_matches('\'').ends_with(ENCRYPTED) {
        " --identity KEY_FILE"
    } else {
        ""
    };
    format!("etcd-ark restore {path} --data-dir DIR --replace{identity}")
}
