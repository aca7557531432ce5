//! `diff`: the differences between two archives or data dirs, and the entries that made them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::etcd::ids::MemberId;
use crate::etcd::membership::StoreFacts;
use crate::etcd::replay::InOrderRules;
use crate::etcd::store::diff::Part;
use crate::etcd::store::to_json::{Expiration, api_key, key_text};
use crate::etcd::store::{NodeId, Store};
use crate::etcd::text::printable;
use crate::target::diff::{Comparison, KeyDifference, TwoNames, diff};
use crate::target::{StoreQuery, StoreRead, Target};
use crate::text::count;
use clap::ValueHint;
use clap::builder::BoolishValueParser;
use serde_json::{Value, json};

use crate::cli::commands::keys::{
    lost, only_to, print_lost, print_none_starts, print_passed_over, rules_text,
};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Kind, Result};
use crate::cli::flags::chosen::LatestFlags;
use crate::cli::flags::common::{NamingRules, Threads};
use crate::cli::json::{self, text};
use crate::cli::layout::{WIDTH, wrap};
use crate::cli::location::TargetName;
use crate::cli::output::{Output, Paint, one_line};
use crate::cli::render::member::versions_text;

#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// Archive or data dir; or part of its name, latest, latest:LABEL
    #[arg(value_name = "A", value_hint = ValueHint::AnyPath)]
    pub(crate) a: TargetName,
    /// Archive or data dir to compare with
    #[arg(value_name = "B", value_hint = ValueHint::AnyPath)]
    pub(crate) b: TargetName,
    #[command(flatten)]
    pub(crate) latest: LatestFlags,
    /// Compare as of the lower of both commit indexes
    #[arg(long, env = "ETCD_ARK_AT_COMMON_INDEX", value_parser = BoolishValueParser::new())]
    pub(crate) at_common_index: bool,
    /// Dedicated WAL dir of A
    #[arg(long, value_name = "DIR")]
    pub(crate) a_wal_dir: Option<PathBuf>,
    /// Dedicated WAL dir of B
    #[arg(long, value_name = "DIR")]
    pub(crate) b_wal_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) rules: NamingRules,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

/// How many key differences are shown, unless `--verbose`.
const SHOWN: usize = 50;

pub(crate) fn run(args: &Diff, cx: &Context<'_>) -> Result<()> {
    let wal_dirs = (args.a_wal_dir.as_deref(), args.b_wal_dir.as_deref());
    let both = [(&args.a, wal_dirs.0), (&args.b, wal_dirs.1)];
    let (a_path, b_path) = args.latest.search().resolve_both(both, cx)?;
    let a = cx.places.target(&a_path, wal_dirs.0)?;
    let b = cx.places.target(&b_path, wal_dirs.1)?;
    for (flag, wal_dir, target) in [("a", wal_dirs.0, &a), ("b", wal_dirs.1, &b)] {
        if let (Some(_), Target::Archive(archive)) = (wal_dir, target) {
            let path = archive.path().display();
            let message = format!("`--{flag}-wal-dir` has no effect: `{path}` is an archive");
            return Err(
                CliError::usage(message).hint("an archive holds the WAL, too: leave it out")
            );
        }
    }
    let paths = (a_path.as_path(), b_path.as_path());
    let wanted = StoreQuery {
        rules: args.rules.in_order_rules,
        rescue: true,
        starts: true,
        threads: args.threads.count(),
        ..StoreQuery::default()
    };
    let found =
        cx.watched(|observe| diff(&a, &b, args.at_common_index, wanted, cx.interrupt, observe))?;
    for read in [&found.a, &found.b] {
        print_passed_over(read, &cx.out);
        print_none_starts(read, &cx.out);
        if !cx.out.is_json() {
            print_lost(read, &cx.out);
        }
    }
    if !found.unsure.is_empty() {
        let next = found.unsure.first().map(|key| key.next);
        let (own, what, keys) = if next == Some(InOrderRules::From23) {
            ("2.2", "value", ["refreshed key", "refreshed keys"])
        } else {
            ("2.1", "name", ["in-order key", "in-order keys"])
        };
        let next = next.map(|next| next.to_string()).unwrap_or_default();
        let keys = count(found.unsure.len() as u64, keys[0], keys[1]);
        cx.out.warn(&format!(
            "the cluster version is {own}, and no file says whether a member ran {next}: then it gives {keys} above its raft snapshot another {what}; --in-order-rules decides"
        ));
    }
    cx.out.json(|| to_json(paths, &found));
    print(paths, &found, &cx.out);
    let broken = [(&a, &found.a), (&b, &found.b)]
        .into_iter()
        .find(|(_, read)| read.lost.is_some());
    match broken.filter(|_| !args.at_common_index) {
        Some((target, read)) => {
            let lost = lost(read).unwrap_or_default();
            Err(only_to(target, read.replayed.at, &lost, &cx.out))
        }
        None if found.is_equal() => Ok(()),
        None => Err(different(paths, &found)),
    }
}

fn to_json((a, b): (&Path, &Path), found: &Comparison) -> Value {
    let side = |path, read: &StoreRead| {
        json!({
            "target": text(path),
            "member": json::member(&read.member.identity),
            "raft_index": read.replayed.at,
            "etcd_index": read.replayed.store.index(),
            "in_order_rules": read.replayed.rules,
            "lost": read.lost,
        })
    };
    let (stores, keys) = (stores(found), found.keys.iter());
    let versions = (
        &found.clusters.0.cluster_version,
        &found.clusters.1.cluster_version,
    );
    let common = found.logs.common;
    json!({
        "equal": found.is_equal(),
        "a": side(a, &found.a),
        "b": side(b, &found.b),
        "keys": keys.map(|key| key_json(key, stores)).collect::<Vec<_>>(),
        "in_order_keys": found.in_order(),
        "in_order_keys_unsure": found.unsure.iter().map(|key| json!({
            "before_2_2": key.before_2_2.as_deref().map(key_text),
            "from_2_2": key.from_2_2.as_deref().map(key_text),
            "next_release": key.next,
        })).collect::<Vec<_>>(),
        "members": member_differences(found).iter().map(|(id, what)| json!({
            "id": id, "change": what,
            "a": found.clusters.0.members.get(id), "b": found.clusters.1.members.get(id),
        })).collect::<Vec<_>>(),
        "cluster_version": (versions.0 != versions.1).then(|| json!({
            "a": versions.0, "b": versions.1,
        })),
        "log": {
            "common_from_raft_index": common.map(|(from, _)| from),
            "common_to_raft_index": common.map(|(_, to)| to),
            "first_difference_raft_index": found.logs.first_difference,
        },
    })
}

/// One line for what [`tell`] reports in full.
fn different((a, b): (&Path, &Path), found: &Comparison) -> CliError {
    let mut what = Vec::new();
    let (trap, plain) = trap_and_plain(found);
    if !plain.is_empty() {
        what.push(count(plain.len() as u64, "key", "keys"));
    }
    if !trap.is_empty() {
        let trap = once(&trap).len() as u64;
        what.push(count(trap, "in-order key", "in-order keys"));
    }
    let members = member_differences(found).len() as u64;
    if members > 0 {
        what.push(count(members, "member", "members"));
    }
    if found.clusters.0.cluster_version != found.clusters.1.cluster_version {
        what.push("the cluster version".to_owned());
    }
    if let Some(index) = found.logs.first_difference {
        what.push(format!("the logs from entry {index} on"));
    }
    if what.is_empty() {
        what.push("the store".to_owned());
    }
    let message = format!(
        "`{}` and `{}` differ: {}",
        a.display(),
        b.display(),
        what.join(", ")
    );
    Kind::Different.error(message)
}

fn stores(found: &Comparison) -> (&Store, &Store) {
    (&found.a.replayed.store, &found.b.replayed.store)
}

fn key_json(key: &KeyDifference, stores: (&Store, &Store)) -> Value {
    let difference = &key.difference;
    let change = match (difference.a, difference.b) {
        (Some(_), None) => "removed",
        (None, Some(_)) => "added",
        _ => "changed",
    };
    let twin = difference.twin.as_deref();
    json!({
        "key": key_text(&difference.path),
        "change": change,
        "fields": difference.parts,
        "a": difference.a.map(|id| node_json(stores.0, id)),
        "b": difference.b.map(|id| node_json(stores.1, id)),
        "raft_index": key.entry,
        "in_order": key.in_order.then(|| json!({"other": twin.map(key_text)})),
    })
}

fn node_json(store: &Store, id: NodeId) -> Value {
    let node = store.node(id);
    json!({
        "value": node.value().map(|value| String::from_utf8_lossy(&value.bytes()).into_owned()),
        "dir": node.is_dir(),
        "expiration": node.expires.map(|expires| Expiration(expires).to_string()),
        "modifiedIndex": node.modified,
        "createdIndex": node.created,
    })
}

/// The differences between the members: added, removed, renamed, moved.
fn member_differences(found: &Comparison) -> Vec<(MemberId, &'static str)> {
    let (a, b) = &found.clusters;
    let all: BTreeSet<_> = [a, b]
        .into_iter()
        .flat_map(|facts: &StoreFacts| facts.members.keys().chain(&facts.removed))
        .copied()
        .collect();
    let what = |id: &MemberId| match (a.members.get(id), b.members.get(id)) {
        (Some(_), None) => Some("only in A"),
        (None, Some(_)) => Some("only in B"),
        (Some(a), Some(b)) if a.peer_urls != b.peer_urls => Some("peer URLs differ"),
        (Some(a), Some(b)) if a != b => Some("name or client URLs differ"),
        _ if a.removed.contains(id) != b.removed.contains(id) => Some("removed in one only"),
        _ => None,
    };
    all.iter().filter_map(|id| Some((*id, what(id)?))).collect()
}

fn print((a, b): (&Path, &Path), found: &Comparison, out: &Output) {
    for (name, path, read) in [("A", a, &found.a), ("B", b, &found.b)] {
        let name = out.paint(Paint::Strong, name);
        out.line(&format!("{name}  {}", path.display()));
        out.line(&format!("   {}", read.member.identity));
        let (at, index) = (read.replayed.at, read.replayed.store.index());
        out.line(&format!("   index {at}, X-Etcd-Index {index}"));
        out.line(&format!("   {}", rules_text(read)));
    }
    let shown = if out.verbose { usize::MAX } else { SHOWN };
    if found.is_equal() {
        if found.unsure.is_empty() {
            out.line(&out.paint(Paint::Good, "equal"));
        } else {
            let next = found.unsure.iter().map(|key| key.next).max();
            let own = if next == Some(InOrderRules::From23) {
                "2.2"
            } else {
                "2.1"
            };
            let told = format!("equal if both run etcd {own}");
            out.line(&out.paint(Paint::Warn, &told));
            print_unsure(&found.unsure, shown, true, out);
        }
        return;
    }
    let (at_a, at_b) = (found.a.replayed.at, found.b.replayed.at);
    let member = |read: &StoreRead| read.member.identity.member_id;
    // Of one member the later state is what is looked for.
    if at_a != at_b && member(&found.a) != member(&found.b) {
        out.note(&format!(
            "A is at index {at_a} and B at {at_b}; `--at-common-index` compares them where both were"
        ));
    }
    print_cluster(found, out);
    if found.counts_differ() {
        let (a, b) = stores(found);
        let what = format!(
            "X-Etcd-Index: {} in A, {} in B: one of them counted a change that the other did not",
            a.index(),
            b.index()
        );
        out.line(&out.paint(Paint::Bad, &what));
    }
    let (trap, plain) = trap_and_plain(found);
    if !plain.is_empty() {
        let mut head = count(plain.len() as u64, "key differs", "keys differ");
        let in_dir = |key: &&&KeyDifference| is_directory(key, stores(found));
        match plain.iter().filter(in_dir).count() {
            0 => {}
            1 => head += ", 1 of them a directory",
            many => head = format!("{head}, {many} of them directories"),
        }
        if !trap.is_empty() {
            head += ", besides the in-order keys below";
        }
        out.line(&out.paint(Paint::Bad, &head));
        for key in plain.iter().take(shown) {
            out.line(&key_line(key, stores(found)));
        }
        print_rest(plain.len(), shown, out);
    }
    if !trap.is_empty() {
        print_trap(&trap, shown, out);
    }
    if !found.unsure.is_empty() {
        print_unsure(&found.unsure, shown, trap.is_empty(), out);
    }
    match (found.logs.first_difference, found.logs.common) {
        (Some(index), _) => {
            let what =
                format!("the logs differ from entry {index} on: no common history from there");
            out.line(&out.paint(Paint::Bad, &what));
        }
        (None, Some((from, to))) => {
            out.line(&format!("the logs agree on entries {from} to {to}"));
        }
        (None, None) => out.line("the logs have no entry in common to compare"),
    }
}

fn print_cluster(found: &Comparison, out: &Output) {
    let (a, b) = (&found.a.member.identity, &found.b.member.identity);
    if a.cluster_id != b.cluster_id {
        out.line(&out.paint(
            Paint::Bad,
            &format!("two clusters: {} and {}", a.cluster_id, b.cluster_id),
        ));
    }
    let version = |facts: &StoreFacts| versions_text(facts.cluster_version.as_ref(), None);
    let (a, b) = (version(&found.clusters.0), version(&found.clusters.1));
    if a != b {
        out.line(&format!("cluster version: {a} in A, {b} in B"));
    }
    for (id, what) in member_differences(found) {
        let known = [&found.clusters.0, &found.clusters.1];
        let name = known
            .iter()
            .find_map(|facts| facts.members.get(&id))
            .map_or(String::new(), |member| printable(&member.name));
        out.line(&format!("member {name} ({id}): {what}"));
    }
}

fn is_directory(key: &KeyDifference, (a, b): (&Store, &Store)) -> bool {
    let is_dir = |store: &Store, id: Option<NodeId>| id.is_some_and(|id| store.node(id).is_dir());
    is_dir(a, key.difference.a) || is_dir(b, key.difference.b)
}

fn key_line(key: &KeyDifference, stores: (&Store, &Store)) -> String {
    let difference = &key.difference;
    let path = one_line(api_key(&difference.path));
    let kind = |store: &Store, id| {
        if store.node(id).is_dir() {
            "directory"
        } else {
            "key"
        }
    };
    let what = match (difference.a, difference.b) {
        (Some(id), None) => format!("{} only in A", kind(stores.0, id)),
        (None, Some(id)) => format!("{} only in B", kind(stores.1, id)),
        _ => Part::names(&difference.parts),
    };
    format!("  {path}  {what}, {}", entry_text(key))
}

fn entry_text(key: &KeyDifference) -> String {
    match key.entry {
        Some(entry) => format!("entry {entry}"),
        None => "from before the available logs".to_owned(),
    }
}

/// The in-order keys, and the others.
fn trap_and_plain(found: &Comparison) -> (Vec<&KeyDifference>, Vec<&KeyDifference>) {
    found.keys.iter().partition(|key| key.in_order)
}

/// Each in-order key once: a pair appears on both sides; a name without its counterpart is reported alone.
fn once<'k>(trap: &[&'k KeyDifference]) -> Vec<&'k KeyDifference> {
    let trap = trap.iter().copied();
    trap.filter(|key| key.difference.twin.is_none() || key.difference.b.is_none())
        .collect()
}

fn print_trap(trap: &[&KeyDifference], shown: usize, out: &Output) {
    let once = once(trap);
    let head = count(once.len() as u64, "in-order key is", "in-order keys are");
    out.line(&out.paint(
        Paint::Warn,
        &format!("the in-order trap: {head} named as 2.1 does in one, as 2.2 does in the other"),
    ));
    for key in once.iter().take(shown) {
        let path = one_line(api_key(&key.difference.path));
        let entry = entry_text(key);
        let line = match (&key.difference.twin, key.difference.a) {
            (Some(twin), _) => {
                let twin = one_line(api_key(twin));
                let parts = match key.difference.parts.as_slice() {
                    [] => String::new(),
                    parts => format!(", and with a different {}", Part::names(parts)),
                };
                format!("  {path} in A is {twin} in B, {entry}{parts}")
            }
            (None, Some(_)) => format!("  {path} only in A, {entry}"),
            (None, None) => format!("  {path} only in B, {entry}"),
        };
        out.line(&line);
    }
    print_rest(once.len(), shown, out);
    print_indented(&format!("{TRAP_EXPLAINED} {TRAP_MENDED}"), out);
}

fn print_indented(text: &str, out: &Output) {
    for line in wrap(text, WIDTH - 2) {
        out.line(&format!("  {line}"));
    }
}

/// Prints the keys that may have two names, and what helps unless that was said before.
fn print_unsure(unsure: &[TwoNames], shown: usize, with_advice: bool, out: &Output) {
    for key in unsure.iter().take(shown) {
        let name = |path: &Option<Vec<u8>>| match path {
            Some(path) => one_line(api_key(path)),
            None => "not there".to_owned(),
        };
        let (before, after) = (name(&key.before_2_2), name(&key.from_2_2));
        out.line(&if key.next == InOrderRules::From23 {
            format!("  {after} is empty on a member of 2.2, and not on one of 2.3")
        } else {
            format!("  {before} on a member of 2.1, {after} on one of 2.2")
        });
    }
    print_rest(unsure.len(), shown, out);
    let ask = "Ask the members themselves, once they run, and if their answers differ:";
    let refreshed = unsure.iter().any(|key| key.next == InOrderRules::From23);
    let mended = if refreshed {
        "write these keys again, with their values, once all members run one release."
    } else if with_advice {
        TRAP_MENDED
    } else {
        "the same helps."
    };
    print_indented(&format!("{ask} {mended}"), out);
}

/// Explains the in-order trap and what helps.
const TRAP_EXPLAINED: &str = "Each is one POST that these members applied with different releases: 2.2 names \
    in-order keys with 20 digits, and a member that first starts with 2.2 renames those above its raft snapshot. \
    Nothing is lost, but clients see one name or the other, depending on the member they ask. What helps:";
const TRAP_MENDED: &str = "copy what is needed by PUT to a new directory, then delete the old one with \
    `recursive=true`: that one request leaves every member with the same keys.";

fn print_rest(all: usize, shown: usize, out: &Output) {
    if all > shown {
        out.line(&format!("  and {} more; --verbose shows all", all - shown));
    }
}
