//! `rewind`: takes a whole cluster back to one entry, with an archive for every member.

pub(crate) mod report;
pub(crate) mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::etcd::membership::Member;
use crate::etcd::scan::FileFault;
use crate::etcd::store::to_json::api_key;
use crate::etcd::text::printable;
use crate::repository::{Directory, Repository as _, is_encrypted_name};
use crate::rewind::cut::RewindTarget;
use crate::rewind::new_cluster::MemberChanges;
use crate::rewind::output_dir::Place;
use crate::rewind::write::NewArchives;
use crate::rewind::{Input, Plan, RewindError, RewindRequest, plan, refuse_dead_plan, write};
use crate::text::{count, entries, who};
use clap::builder::BoolishValueParser;
use clap::{ArgAction, ValueHint};

use crate::cli::commands::rewind::report::to_json;
use crate::cli::commands::rewind::text::{print_archives, print_plan};
use crate::cli::context::Context;
use crate::cli::encryption::cipher;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::flags::common::Threads;
use crate::cli::location::Location;
use crate::cli::open::{Opener, is_encrypted};
use crate::cli::output::{Output, one_line};
use crate::cli::quote::shell;
use crate::cli::values::{DataAndWalDir, data_and_wal_dir, level, member_url};

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
    pub(crate) to: RewindTarget,
    /// Member (name or id) that gives the raft snapshot for all
    ///
    /// Needed where members name in-order keys differently.
    #[arg(long, value_name = "MEMBER", env = "ETCD_ARK_BASE")]
    pub(crate) base: Option<String>,
    /// Make a cluster of this member alone (name or id); the others are removed
    #[arg(long, value_name = "MEMBER", env = "ETCD_ARK_SINGLE")]
    pub(crate) single: Option<String>,
    /// New peer URL of a member, for a new host (repeatable)
    #[arg(long, value_name = "MEMBER=URL", action = ArgAction::Append, value_delimiter = ',', value_parser = member_url, env = "ETCD_ARK_PEER_URL")]
    pub(crate) peer_url: Vec<(String, String)>,
    /// Keep the cluster id; members of the old cluster that still run could then join
    #[arg(long, env = "ETCD_ARK_KEEP_CLUSTER_ID", value_parser = BoolishValueParser::new())]
    pub(crate) keep_cluster_id: bool,
    /// Dedicated WAL dir of a data dir among the targets (repeatable)
    #[arg(long, value_name = "DATA_DIR=WAL_DIR", action = ArgAction::Append, value_parser = data_and_wal_dir, env = "ETCD_ARK_WAL_DIRS")]
    pub(crate) wal_dir: Vec<DataAndWalDir>,
    /// Show what would be kept and lost; write nothing
    #[arg(long, env = "ETCD_ARK_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub(crate) dry_run: bool,
    /// Encrypt for an age recipient (repeatable)
    #[arg(long, value_name = "RECIPIENT", action = ArgAction::Append, value_delimiter = ',', env = "ETCD_ARK_RECIPIENT")]
    pub(crate) recipient: Vec<String>,
    /// Encrypt for the recipients in FILE (repeatable)
    #[arg(short = 'R', long, value_name = "FILE", action = ArgAction::Append, env = "ETCD_ARK_RECIPIENTS_FILE")]
    pub(crate) recipients_file: Vec<PathBuf>,
    /// Write unencrypted archives although an input is encrypted
    #[arg(long, env = "ETCD_ARK_ALLOW_PLAINTEXT", value_parser = BoolishValueParser::new())]
    pub(crate) allow_plaintext: bool,
    /// zstd compression level, 1 to 19
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = level, env = "ETCD_ARK_LEVEL")]
    pub(crate) level: i32,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

impl Rewind {
    pub(crate) fn encrypts(&self) -> bool {
        !self.recipient.is_empty() || !self.recipients_file.is_empty()
    }
}

pub(crate) fn run(args: &Rewind, cx: &Context<'_>) -> Result<()> {
    let cipher = cipher(&args.recipient, &args.recipients_file)?;
    let to_write = args.out.as_deref().filter(|_| !args.dry_run);
    if args.out.is_some() && cipher.is_none() {
        refuse_plaintext(args)?;
    }
    let inputs = open(args, &cx.places)?;
    if let Some(dir) = to_write {
        // Checked now, before the work.
        Place::find(dir, &inputs)?;
    }
    let request = RewindRequest {
        to: args.to.clone(),
        base: args.base.as_deref(),
        requested: MemberChanges {
            single: args.single.as_deref(),
            peer_urls: &args.peer_url,
        },
        keep_cluster_id: args.keep_cluster_id,
        may_run: args.dry_run,
        now: crate::clock::now(),
        threads: args.threads.count(),
    };
    let planned = cx.watched(|observe| plan(&request, &inputs, cx.interrupt, observe));
    let planned = planned.inspect_err(|error| print_refusal(error, &cx.out))?;
    let warnings = warnings(&planned, args);
    for warning in &warnings {
        cx.out.warn(warning);
    }
    // A plan that was only asked for is an answer; what was done is a report.
    let tells = args.dry_run || !cx.out.quiet;
    if tells {
        print_plan(&planned, &cx.out);
    }
    let mut archived = Vec::new();
    if let Some(dir) = to_write {
        let output = NewArchives {
            dir,
            level: args.level,
            threads: args.threads.count(),
            cipher: cipher.as_deref(),
        };
        archived = cx.watched(|observe| write(&planned, &inputs, output, cx.interrupt, observe))?;
    } else {
        let threads = args.threads.count();
        cx.watched(|observe| refuse_dead_plan(&planned, &inputs, threads, cx.interrupt, observe))?;
    }
    cx.out
        .json(|| to_json(&planned, &archived, &warnings, args));
    if tells {
        print_archives(&planned, &archived, args, &cx.out);
    }
    Ok(())
}

fn open(args: &Rewind, places: &Opener<'_>) -> Result<Vec<Input>> {
    // However it is spelt.
    let place = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let is_of = |data_dir: &Path, target: &Location| {
        target
            .local()
            .is_some_and(|local| place(local) == place(data_dir))
    };
    let mut pairs = Vec::new();
    for DataAndWalDir(readings) in &args.wal_dir {
        let is_target = |(data_dir, _): &&(PathBuf, PathBuf)| {
            args.targets.iter().any(|target| is_of(data_dir, target))
        };
        let Some(pair) = readings.iter().find(is_target) else {
            let data_dirs = readings.iter().map(|(data_dir, _)| data_dir.display());
            let data_dirs: Vec<_> = data_dirs.map(|path| format!("`{path}`")).collect();
            return Err(CliError::usage(format!(
                "`--wal-dir` names {}, which is not one of the targets",
                data_dirs.join(" or ")
            ))
            .hint("give it as --wal-dir DATA_DIR=WAL_DIR, DATA_DIR as among the targets"));
        };
        pairs.push(pair);
    }
    let mut inputs = Vec::new();
    for path in &args.targets {
        let mut wal_dirs = pairs.iter();
        let wal_dir = wal_dirs.find(|(data_dir, _)| is_of(data_dir, path));
        let target = places.target(path, wal_dir.map(|(_, dir)| dir.as_path()));
        let target = target.map_err(|error| match path.local().and_then(all_in) {
            Some(hint) => error.hint(hint),
            None => error,
        })?;
        inputs.push(Input { target });
    }
    Ok(inputs)
}

/// How to name all archives of `dir`, if it has any.
fn all_in(dir: &Path) -> Option<String> {
    let archives = Directory::new(dir).list().ok()?.into_iter();
    let endings: BTreeSet<_> = archives
        .map(|one| {
            if is_encrypted_name(&one.name) {
                ".tar.zst.age"
            } else {
                ".tar.zst"
            }
        })
        .collect();
    let dir = shell(dir.to_str()?);
    let all = endings.iter().map(|ending| format!("{dir}/etcd-*{ending}"));
    let all = all.collect::<Vec<_>>().join(" ");
    (!all.is_empty()).then(|| format!("name its archives: `{all}`"))
}

/// Refuses to write unencrypted archives from an encrypted input unless a flag allows it.
fn refuse_plaintext(args: &Rewind) -> Result<()> {
    match args.targets.iter().find(|target| is_encrypted(target)) {
        Some(path) if !args.allow_plaintext => Err(Kind::Refused.error(format!(
                "`{}` is encrypted, and the new archives would not be",
                path.as_path().display()
            )).hint("name with `--recipient` or `--recipients-file` who may read them; `--allow-plaintext` writes them unencrypted")),
        _ => Ok(()),
    }
}

/// Prints the keys for which a base must be given; the failure itself follows on stderr.
fn print_refusal(error: &RewindError, out: &Output) {
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

fn warnings(plan: &Plan, args: &Rewind) -> Vec<String> {
    let mut warnings = Vec::new();
    for read_input in &plan.read_inputs {
        for file in &read_input.passed_over {
            if let Some(fault @ FileFault::Snapshot(_)) = &file.fault {
                let path = read_input.path.join(&file.path);
                let path = path.display();
                warnings.push(format!("`{path}` is corrupt and was passed over: {fault}"));
            }
        }
        if let Some(lost) = &read_input.lost {
            let (path, lost) = (read_input.path.display(), lost.of(&read_input.passed_over));
            warnings.push(format!("`{path}` is damaged: {lost}"));
        }
        if let Some(running) = &read_input.running {
            let file = running.file.display();
            warnings.push(format!(
                "etcd runs on `{}` (`{file}` is locked): what it writes from now on is not in this plan",
                read_input.path.display()
            ));
        }
    }
    warnings.extend(other_members(plan));
    if args.keep_cluster_id {
        warnings.push(format!(
            "the cluster keeps its id {}: a member of the old one that still runs, or comes back later, joins without any warning",
            plan.cluster_id
        ));
    }
    if !plan.renamed.is_empty() {
        let keys = count(
            plan.renamed.len() as u64,
            "in-order key gets",
            "in-order keys get",
        );
        warnings.push(format!(
            "{keys} another name than a member serves now; clients that keep such names must look them up again"
        ));
    }
    if plan.store.refreshes > 0 && !plan.rules.knows_refresh() {
        let refreshes = count(plan.store.refreshes, "refresh", "refreshes");
        warnings.push(format!(
            "{refreshes} (`refresh=true`, of etcd 2.3) in the log before that entry: etcd {} writes an empty value instead of leaving the key's own",
            plan.rules
        ));
    }
    let asked = |member: &Member| {
        let mut asked = args.peer_url.iter();
        asked.any(|(name, _)| *name == member.name || *name == member.id.to_string())
    };
    for (member, now) in plan.moved_since() {
        if !asked(member) {
            let name = printable(&member.name);
            warnings.push(format!(
                "{name} was at {} at that entry and is at {} now: if it stays there, add `--peer-url {name}={}`, or it finds no other member",
                printable(&member.peer_urls.join(",")),
                printable(&now.join(",")),
                printable(now.first().map_or("", String::as_str)),
            ));
        }
    }
    if plan.auth_lost.is_on {
        warnings.push(
            "authentication is on now, and was not at that entry: the new cluster serves every client until it is turned on again"
                .to_owned(),
        );
    }
    if !plan.auth_lost.users.is_empty() {
        let users: Vec<_> = plan
            .auth_lost
            .users
            .iter()
            .map(|user| printable(user))
            .collect();
        warnings.push(format!(
            "users that were made after that entry are lost: {}",
            users.join(", ")
        ));
    }
    let (kept, known) = (plan.moment.index, plan.agreement.committed);
    if kept > known {
        let first = known.next();
        warnings.push(format!(
            "{} not known to be committed: clients may have been told that a write in them failed, and it will have succeeded",
            if first == kept {
                format!("entry {kept} is")
            } else {
                format!("{} are", entries(first, kept))
            }
        ));
    }
    warnings
}

/// Members that were added or removed after that entry, as far as the inputs show.
fn other_members(plan: &Plan) -> Vec<String> {
    let Some(latest) = plan
        .read_inputs
        .iter()
        .max_by_key(|read_input| read_input.facts.position.commit)
    else {
        return Vec::new();
    };
    let at = plan.moment.index;
    let removed = plan.changes.iter().map(|change| &change.member);
    let then: BTreeSet<_> = plan.members.iter().chain(removed).map(|m| m.id).collect();
    let now = latest.facts.standing_members();
    let joined = now.filter(|member| !then.contains(&member.id)).map(|member| {
        format!(
            "{} is a member now and was not one at entry {at}: there is no archive for it, and it must not start on its old data",
            who(member)
        )
    });
    let left = plan.members.iter();
    let left = left
        .filter(|member| latest.facts.removed_members.contains(&member.id))
        .map(|member| {
            format!(
                "{} was removed after entry {at} and is a member again: the cluster counts on it",
                who(member)
            )
        });
    joined.chain(left).collect()
}
