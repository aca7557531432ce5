//! `put-keys`: keys of a backup written back into a running cluster.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use crate::cluster::Cluster;
use crate::cluster::keys::Keys;
use crate::etcd::ids::Index;
use crate::etcd::replay::Until;
use crate::etcd::text::printable;
use crate::put_keys::{Allowed, Done, Plan, Planned, Step};
use crate::text::count;
use serde_json::{Value, json};

use crate::cli::commands::keys::{find, lost, now, only_to, print_lost, read_store};
use crate::cli::connection::Connection;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::flags::common::NamingRules;
use crate::cli::flags::target::TargetFlags;
use crate::cli::json;
use crate::cli::output::{Output, Paint};
use crate::cli::values::{index, key};

pub(crate) const AFTER_HELP: &str = "Compares the keys below PREFIX with those of the cluster, shows what it will do, and writes what is missing, \
    directories first. A key that has another value by now is left as it is unless --overwrite is given, and nothing is removed unless \
    --delete-others is; hidden keys of the cluster are not listed by etcd, so they stay. Each write is conditional on what the plan was made from: what another client writes meanwhile stays, and is \
    named. Keys that have expired are left out; others keep the time that is left; a key that expires in only one of the two has \
    changed. A member that does not answer any more is replaced by the next endpoint. After a failure the same command goes on: \
    what has been written is found to be as it was. Of a damaged log the whole part is written, with exit code 4, and --delete-others is \
    refused (3).";

/// How many keys are shown without -v.
const SHOWN: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct PutKeys {
    #[command(flatten)]
    pub(crate) from: TargetFlags,
    /// A key, or a directory with its content; `/` for all
    #[arg(value_name = "PREFIX", value_parser = key())]
    prefix: OsString,
    /// Keys as of this raft index [default: commit index]
    #[arg(long, value_name = "INDEX", value_parser = index, env = "ETCD_ARK_AT_INDEX")]
    at_index: Option<u64>,
    /// Show what would be done; write nothing
    #[arg(long)]
    dry_run: bool,
    /// Also replace values that differ by now
    #[arg(long)]
    overwrite: bool,
    /// Also remove what the backup does not have
    #[arg(long)]
    delete_others: bool,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    rules: NamingRules,
}

pub(crate) fn run(args: &PutKeys, cx: &Context<'_>) -> Result<()> {
    if !args.connection.is_given() {
        let told = CliError::usage("no cluster is named: `--endpoints URL`");
        return Err(told.hint("client URLs of members, comma-separated; one will do"));
    }
    let cluster = Cluster::new(&args.connection.access()?)?;
    let (path, target) = args.from.open(cx)?;
    let until = args.at_index.map(|index| Until::Index(Index(index)));
    let (until, threads) = (until.unwrap_or(Until::Commit), args.from.threads.count());
    let read = read_store(&target, until, &args.rules, threads, cx)?;
    let incomplete = lost(&read).filter(|_| args.at_index.is_none());
    if let Some(lost) = incomplete.as_ref().filter(|_| args.delete_others) {
        let told = format!(
            "{lost}: what the cluster has and the backup has not may be of the lost entries, so `--delete-others` removes nothing"
        );
        return Err(Kind::Refused
            .error(told)
            .hint("leave out --delete-others, or name an entry that is not lost with --at-index"));
    }
    if !cx.out.is_json() || incomplete.is_none() {
        print_lost(&read, &cx.out);
    }
    let store = &read.replayed.store;
    let top = find(store, Some(&args.prefix), &read)?;
    let mut keys = Keys::new(&cluster, cx.interrupt);
    let plan = Plan::new(store, top, &mut keys, now(), cx.interrupt)?;
    let allowed = Allowed {
        overwrite: args.overwrite,
        delete_others: args.delete_others,
    };
    let source = format!("{} at index {}", path.as_path().display(), read.replayed.at);
    if !cx.out.is_json() && (args.dry_run || !cx.out.quiet) {
        show(&plan, allowed, args, &cx.out, &source, &keys);
    }
    let done = if args.dry_run {
        Done::default()
    } else {
        plan.carry_out(allowed, &mut keys, cx.interrupt)?
    };
    cx.out.json(|| {
        let cluster = json!({
            "raft_index": read.replayed.at,
            "cluster_id": keys.cluster_id(),
            "endpoint": keys.url(),
            "dry_run": args.dry_run,
        });
        json::with(cluster, answer(&plan, &done))
    });
    warn(&plan, allowed, &done, &cx.out);
    let Done {
        created,
        changed,
        deleted,
        ..
    } = &done;
    cx.out.report(&if args.dry_run {
        "nothing was written (--dry-run)".to_owned()
    } else {
        format!("{created} created, {changed} changed, {deleted} removed")
    });
    match incomplete {
        Some(lost) => Err(only_to(&target, read.replayed.at, &lost, &cx.out)),
        None => Ok(()),
    }
}

/// Warns about keys that stay different from the backup.
fn warn(plan: &Plan<'_>, allowed: Allowed, done: &Done, out: &Output) {
    let number_of = |name| {
        plan.keys
            .iter()
            .filter(|key| word(key.step) == name)
            .count() as u64
    };
    let changed = number_of("change");
    if changed > 0 && !allowed.overwrite {
        let keys = count(changed, "key has", "keys have");
        out.warn(&format!(
            "{keys} another value or expiration by now, which stays; `--overwrite` replaces it"
        ));
    }
    let kinds = number_of("other_kind");
    if kinds > 0 {
        let (are, stay) = are_and_stay(kinds);
        out.warn(&format!(
            "{are} a key on one side and a directory on the other, or below such a name: {stay} as in the cluster"
        ));
    }
    let named = number_of("other_name");
    if named > 0 {
        let keys = count(named, "in-order key is", "in-order keys are");
        out.warn(&format!(
            "{keys} there with the same value under the name that another release gives it, and not written a second time"
        ));
    }
    let beside = number_of("create_beside");
    if beside > 0 {
        let keys = count(beside, "in-order key has", "in-order keys have");
        let other = if allowed.delete_others {
            "`--delete-others` removes that one"
        } else {
            "the one of the backup is created beside that"
        };
        out.warn(&format!(
            "{keys} another value under the name that another release gives it; {other}"
        ));
    }
    let unsure = number_of("unsure");
    if unsure > 0 {
        let keys = count(unsure, "value looks", "values look");
        let (its, stay) = if unsure == 1 {
            ("its", "it stays")
        } else {
            ("their", "they stay")
        };
        let stays = if allowed.overwrite {
            "those that are not UTF-8 in the backup are written".to_owned()
        } else {
            format!("{stay}; `--overwrite` writes those that are not UTF-8 in the backup")
        };
        out.warn(&format!(
            "{keys} the same, but the API shows U+FFFD for each byte that is not UTF-8, so {its} bytes may differ: {stays}"
        ));
    }
    let expiring = number_of("other_expiry");
    if expiring > 0 {
        let (are, stay) = are_and_stay(expiring);
        out.warn(&format!(
            "{are} a directory that expires in only one of backup and cluster, or below such a one: {stay} as in the cluster"
        ));
    }
    for directory in &done.not_empty {
        out.warn(&format!(
            "`{}` is not empty and stays: hidden keys, or keys written meanwhile, are in it",
            printable(directory)
        ));
    }
    for key in &done.gone {
        out.warn(&format!(
            "`{}` expired or was removed meanwhile: what was still to be written of it is left out",
            printable(key)
        ));
    }
    for key in &done.conflicts {
        out.warn(&format!(
            "`{}` was written by another client meanwhile, and stays as that client made it",
            printable(key)
        ));
    }
}

fn are_and_stay(names: u64) -> (String, &'static str) {
    let stay = if names == 1 { "it stays" } else { "they stay" };
    (count(names, "name is", "names are"), stay)
}

fn show(
    plan: &Plan<'_>,
    allowed: Allowed,
    args: &PutKeys,
    out: &Output,
    source: &str,
    keys: &Keys<'_>,
) {
    let cluster = keys
        .cluster_id()
        .map(|id| id.to_string())
        .unwrap_or_default();
    let prefix = String::from_utf8_lossy(args.prefix.as_bytes());
    let title = format!(
        "{} of {source} into cluster {cluster} at {}",
        printable(&prefix),
        keys.url()
    );
    out.line(&out.paint(Paint::Strong, &printable(&title)));
    let to_do = plan.keys.iter().filter(|key| key.step != Step::Same);
    let mut to_do: Vec<_> = to_do.collect();
    // Steps other than creations come first: they need attention.
    to_do.sort_by_key(|key| matches!(key.step, Step::Create | Step::Expired));
    let shown = if out.verbose { to_do.len() } else { SHOWN };
    for planned in to_do.iter().take(shown) {
        let left = match planned.step {
            Step::Expired => "  (left out)",
            step if allowed.takes(step) => "",
            _ => "  (stays)",
        };
        out.line(&format!(
            "{:<13} {}{left}",
            match planned.step {
                Step::OnlyThere(_) if allowed.delete_others => "remove".to_owned(),
                Step::CreateBeside if allowed.delete_others => "create".to_owned(),
                step => word(step).replace('_', " "),
            },
            printable(&planned.key)
        ));
    }
    if to_do.len() > shown {
        out.line(&format!(
            "… and {} more; -v shows them",
            to_do.len() - shown
        ));
    }
    let what = |name| match name {
        "create" => "to create",
        "change" if allowed.overwrite => "to change",
        "change" => "with another value or expiration (not changed)",
        "same" => "the same, with directories",
        "unsure" => "that the API shows alike",
        "other_kind" => "of another kind",
        "other_name" => "under another name",
        "create_beside" if allowed.delete_others => "to create instead of another value",
        "create_beside" => "to create beside another value",
        "other_expiry" => "with another expiration",
        "only_there" if allowed.delete_others => "to remove",
        "only_there" => "only in the cluster (not removed)",
        name => name,
    };
    let parts = counts(plan).into_iter().filter(|(_, count)| *count > 0);
    let parts: Vec<_> = parts
        .map(|(name, count)| format!("{count} {}", what(name)))
        .collect();
    out.line(&parts.join(", "));
}

const WORDS: [&str; 10] = [
    "create",
    "change",
    "same",
    "unsure",
    "other_kind",
    "other_name",
    "create_beside",
    "other_expiry",
    "only_there",
    "expired",
];

fn word(step: Step) -> &'static str {
    match step {
        Step::Create => "create",
        Step::Change(_) => "change",
        Step::Same => "same",
        Step::Unsure(_) => "unsure",
        Step::OtherKind => "other_kind",
        Step::OtherName => "other_name",
        Step::CreateBeside => "create_beside",
        Step::OtherExpiry => "other_expiry",
        Step::OnlyThere(_) => "only_there",
        Step::Expired => "expired",
    }
}

/// How many keys have each step, in the order of the summary.
fn counts(plan: &Plan<'_>) -> Vec<(&'static str, usize)> {
    let of = |name: &'static str| {
        let same = |key: &&Planned<'_>| word(key.step) == name;
        (name, plan.keys.iter().filter(same).count())
    };
    WORDS.into_iter().map(of).collect()
}

fn answer(plan: &Plan<'_>, done: &Done) -> Value {
    let to_do = plan.keys.iter().filter(|key| key.step != Step::Same);
    let to_do = to_do.map(|key| json!({"key": key.key, "step": word(key.step)}));
    let counts = counts(plan).into_iter();
    let counts: serde_json::Map<_, _> = counts
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect();
    json!({
        "plan": to_do.collect::<Vec<_>>(),
        "counts": counts,
        "created": done.created,
        "changed": done.changed,
        "deleted": done.deleted,
        "conflicts": done.conflicts,
        "gone": done.gone,
        "not_empty": done.not_empty,
    })
}
