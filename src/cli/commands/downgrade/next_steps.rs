//! The remaining manual steps, as text.
//!
//! In: all paths and the evidence. Out: numbered steps for this member and for the
//! others, and for the one case in which a backup is restored.

use std::path::Path;

use fs_err as fs;

use crate::etcd::ids::{MemberId, Release, V2_3};
use crate::etcd::text::printable;
use crate::text::list;
use crate::upgrade::downgrade::evidence::{Evidence, MemberEvidence, Step};
use crate::upgrade::downgrade::prepare::Prepared;

use crate::cli::commands::downgrade::commands;
use crate::cli::commands::downgrade::flags::GoBack;
use crate::cli::json::text;
use crate::cli::printed::Printed;
use crate::cli::quote::shell;

/// How many similar paths are suggested.
const SHOWN: usize = 3;

pub(crate) struct Steps {
    pub(crate) this_member: Vec<String>,
    pub(crate) others: Vec<String>,
}

impl Steps {
    pub(crate) fn after(
        prepared: &Prepared,
        args: &GoBack,
        evidence: &Evidence,
        strict: bool,
    ) -> Self {
        let own = prepared.member.identity.member_id;
        let mut this_member = this_member(prepared, args, evidence);
        if args.dry_run {
            // The other steps hold only after that.
            let first = "Run this without --dry-run first: nothing has been done yet.";
            this_member.insert(0, first.to_owned());
        }
        let members = evidence.members.iter();
        let others: Vec<_> = members.filter(|known| known.member.id != own).collect();
        Self {
            this_member,
            others: if others.is_empty() {
                Vec::new()
            } else {
                other_members(&others, args, evidence, strict)
            },
        }
    }
}

fn this_member(prepared: &Prepared, args: &GoBack, evidence: &Evidence) -> Vec<String> {
    let step = evidence.step;
    let to = step.to;
    let dir = text(&args.data_dir);
    let mut steps = vec![
        format!("Keep {dir} as it is, and restore nothing into it."),
        format!("Install the etcd {to} binary."),
    ];
    let flags: Vec<_> = step.later_flags().collect();
    if flags.is_empty() {
        steps.push(format!(
            "Compare the flags it is started with to `etcd --help` of {to}: it does not start with one that it does not know."
        ));
    } else {
        let names: Vec<_> = flags
            .iter()
            .map(|flag| format!("{} ({})", flag.flag, flag.variable))
            .collect();
        steps.push(format!(
            "Remove the flags and environment variables that etcd {to} does not know: {}.",
            names.join(", ")
        ));
    }
    if let (Some(wal_dir), true) = (&args.gate.wal_dir, step.needs_wal_at_home()) {
        steps.push(format!(
            "--wal-dir {} must be gone from the unit before etcd starts, and its segments must be in member/wal, where `ls {dir}/member/wal` shows them.",
            text(wal_dir)
        ));
    }
    let url = client_url(evidence, prepared.member.identity.member_id);
    if evidence.offline && evidence.members.len() > 1 {
        steps.push(format!(
            "Leave etcd stopped until all members have the etcd {to} binary: were all of them started as {from}, the cluster would move.",
            from = step.from
        ));
    }
    let tls = |names: [&str; 3]| -> String {
        let paths = args.gate.connection.tls_paths();
        let given = names
            .iter()
            .zip(paths)
            .filter_map(|(name, path)| Some((name, path?)));
        let words = given.map(|(name, path)| format!("{name} {} ", shell(&text(path))));
        words.collect()
    };
    let (curl, etcdctl) = (
        tls(["--cacert", "--cert", "--key"]),
        tls(["--ca-file", "--cert-file", "--key-file"]),
    );
    steps.push(format!(
        "Start etcd, with the same name and URLs; `curl {curl}{url}/version` then says etcdserver {to}.x and etcdcluster {to}.0, and `etcdctl {etcdctl}--peers {url} cluster-health` that all is well."
    ));
    steps
}

fn client_url(evidence: &Evidence, id: MemberId) -> String {
    let mut members = evidence.members.iter();
    let own = members.find(|known| known.member.id == id);
    let url = own.and_then(|own| own.member.client_urls.first());
    url.map_or_else(|| "http://127.0.0.1:2379".to_owned(), |url| printable(url))
}

fn other_members(
    others: &[&MemberEvidence],
    args: &GoBack,
    evidence: &Evidence,
    strict: bool,
) -> Vec<String> {
    let step = evidence.step;
    let (from, to) = (step.from, step.to);
    let of = |wanted: &dyn Fn(Release) -> bool| -> Vec<String> {
        let found = others
            .iter()
            .filter(|known| known.release().is_some_and(wanted));
        found.map(|known| name(known)).collect()
    };
    let data_dir = Some(args.data_dir.as_path());
    let command = commands::run(&args.gate, step, data_dir, Some(&args.to), strict);
    let (ahead, back) = (of(&|release| release > to), of(&|release| release == to));
    let silent = others.iter().filter(|known| known.release().is_none());
    let silent: Vec<_> = silent.map(|known| name(known)).collect();
    let mut steps = Vec::new();
    if evidence.offline {
        let others: Vec<_> = others.iter().map(|known| name(known)).collect();
        steps.push(format!(
            "On {}, all of them stopped, too: run `{command}` there, with the paths of that member, and swap the binary wherever it is not {to}. Then start all members, one soon after the other: none is healthy before a majority runs.",
            list(&others)
        ));
    } else if !ahead.is_empty() {
        let when = match ahead.len() {
            1 => "once this member is healthy again",
            _ => "one at a time, each only when the one before is healthy again",
        };
        steps.push(format!(
            "Then on {}, {when}: stop etcd; run `{command}` there, with the paths of that member; swap the binary; start etcd.",
            list(&ahead)
        ));
    }
    if !back.is_empty() {
        steps.push(format!(
            "{}: nothing to do, already of {to}. Until the last member is back, none of {to} may be upgraded or removed: without one of {to} the cluster moves to {from}.",
            list(&back)
        ));
    }
    if !silent.is_empty() {
        let it = if silent.len() == 1 {
            "it"
        } else {
            "one of them"
        };
        steps.push(format!(
            "{}: did not answer; before {it} starts again make sure that its binary is etcd {to}.",
            list(&silent)
        ));
    }
    if step.needs_wal_at_home() && ahead_of_names(step) {
        steps.push(format!(
            "In-order keys that were made while releases were mixed, or before the upgrade and above a member's raft snapshot, may have two names, which members keep silent about: stop all POSTs until all members run {to}. A member of {from} that has made no raft snapshot since these POSTs gives them the names of {to} when it starts with it, so wait for none. `diff --at-common-index` of two members' data shows keys with two names."
        ));
    }
    if step.to < V2_3 && step.from >= V2_3 {
        steps.push(format!(
            "Until all members run {to}, no client may refresh keys (`PUT` with `refresh=true`): etcd {from} leaves the value, and {to}, which does not know the field, empties it, also when it applies the log again. `diff --at-common-index` of two members' data shows such keys."
        ));
    }
    steps
}

/// Whether the two releases name in-order keys differently.
fn ahead_of_names(step: Step) -> bool {
    let padded = Release { major: 2, minor: 2 };
    step.to < padded && step.from >= padded
}

pub(crate) fn name(known: &MemberEvidence) -> String {
    crate::text::name(&known.member)
}

/// How to restore a backup if the data dir is missing or damaged, the only case for a restore.
pub(crate) fn restoring(
    args: &GoBack,
    is_missing: bool,
    step: Step,
    printed: &Printed,
) -> Vec<String> {
    let data_dir = &args.data_dir;
    let (dir, to) = (text(data_dir), step.to);
    let list = commands::list(&args.to);
    let restore = commands::restore(&args.gate, data_dir);
    let last_before = format!("last-before:{}", step.first_above());
    let targets = args.gate.targets.iter();
    let inputs: Vec<_> = targets.map(|target| target.as_path().to_owned()).collect();
    let rewind = commands::rewind(
        &args.gate,
        None,
        &inputs,
        &last_before,
        None,
        commands::keys_of(printed, &inputs),
    );
    let first = if is_missing {
        let instead = match data_dirs_beside(data_dir).as_slice() {
            [] => String::new(),
            found => format!(", while there is {}", found.join(", ")),
        };
        format!(
            "Make sure that {dir} is the right path: nothing is there{instead}. If it is a mistake, run this again with the right path, and restore nothing."
        )
    } else {
        format!(
            "Leave {dir} as it is: it may still be needed to tell what happened, and etcd must not start on it."
        )
    };
    vec![
        first,
        format!(
            "If the other members have a quorum without this one: go back with each of them first, on its own data. When all run {to}, replace this member: `etcdctl member remove ID`, `etcdctl member add NAME PEER_URL`, and start etcd {to} with an empty data dir. Not before: removing a member while releases are mixed can move the cluster."
        ),
        format!(
            "If they have none: stop them all, and restore this member's newest archive, which `{list}` shows: `{restore}`. It asks the members first and refuses if any of them went on: a member restored to an older log loses writes that it acknowledged."
        ),
        format!(
            "If any of them did go on since that archive: `{rewind}` makes one consistent archive for every member."
        ),
    ]
}

/// Data dirs in the same directory, one of which may be the right one.
fn data_dirs_beside(missing: &Path) -> Vec<String> {
    let parent = missing.parent().filter(|parent| parent.is_dir());
    let entries = parent.and_then(|parent| fs::read_dir(parent).ok());
    let paths = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut found: Vec<_> = paths.filter(|path| path.join("member").is_dir()).collect();
    found.sort();
    let shown = found.iter().take(SHOWN);
    shown.map(|path| printable(&text(path))).collect()
}
