//! What a rewind keeps, loses and makes, as text.

use std::collections::BTreeSet;
use std::path::Path;

use crate::etcd::membership::Member;
use crate::etcd::store::to_json::api_key;
use crate::etcd::text::printable;
use crate::rewind::Plan;
use crate::rewind::archived::Archived;
use crate::rewind::cut::stretches;
use crate::rewind::input::ReadInput;
use crate::rewind::new_cluster::ChangeKind;
use crate::rewind::served::Renamed;
use crate::text::{count, entries, expiry, name, size, utc, who};

use crate::cli::commands::rewind::Rewind;
use crate::cli::json::text;
use crate::cli::output::{Output, Paint, one_line};
use crate::cli::quote::shell;
use crate::cli::render::member::{row, versions_text};
use crate::cli::render::rewind_plan::picture;

/// How many renamed keys are shown, unless `--verbose`.
const SHOWN: usize = 50;

pub(super) fn print_plan(plan: &Plan, out: &Output) {
    let head = format!(
        "rewind of cluster {} to entry {}",
        plan.old_cluster_id, plan.moment.index
    );
    out.line(&out.paint(Paint::Strong, &head));
    row(out, "moment", &moment_text(plan));
    if let Some(clock) = clock_text(plan) {
        row(out, "", &clock);
    }
    let version = versions_text(plan.moment.cluster_version.as_ref(), None);
    row(out, "version", &version);
    out.line("");
    out.line(&picture(plan));
    out.line("");
    for (place, read_input) in plan.read_inputs.iter().enumerate() {
        let used = plan.used_for(place);
        let is_spare = used.is_empty();
        let used = match used.as_slice() {
            [] => "cross-check only".to_owned(),
            used => format!("used for: {}", used.join(", ")),
        };
        let position = &read_input.facts.position;
        let number = format!("input {}", place + 1);
        if is_spare && !out.verbose {
            let path = read_input.path.display();
            row(
                out,
                &number,
                &format!("{path}: index {}, {used}", position.index),
            );
            continue;
        }
        row(out, &number, &read_input.path.display().to_string());
        row(out, "", &read_input.facts.identity.to_string());
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
    print_kept(plan, out);
    print_lost(plan, out);
    print_leftovers(plan, out);
    print_renamed(&plan.renamed, plan, out);
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

/// The time in the log: every SYNC has its leader's.
fn clock_text(plan: &Plan) -> Option<String> {
    match plan.clocks {
        (Some(kept), Some(all)) if kept < all => Some(format!(
            "{} by the log's own clock, which ends at {}",
            expiry(kept),
            expiry(all)
        )),
        (Some(kept), _) => Some(format!("{} by the log's own clock", expiry(kept))),
        (None, _) => None,
    }
}

fn print_kept(plan: &Plan, out: &Output) {
    let name = |place: usize| format!("input {}", place + 1);
    let start = match plan.base.snapshot {
        Some(id) => format!("raft snapshot at {id} of {}", name(plan.base.input)),
        None => "the log from its beginning".to_owned(),
    };
    row(out, "kept", &start);
    for part in &plan.log {
        let part_of = format!("{} of {}", entries(part.from, part.to), name(part.input));
        row(out, "", &part_of);
    }
    let store = &plan.store;
    let (keys, index, before) = (store.keys, store.index, store.index_before);
    let keys = count(keys, "key", "keys");
    let index = if before > index {
        format!("X-Etcd-Index {index}, goes back from {before}")
    } else {
        format!("X-Etcd-Index {index}")
    };
    row(out, "", &format!("{keys}, {index}"));
    let expiring = &store.expiring;
    if expiring.total > 0 {
        let total = count(expiring.total, "has a TTL", "have a TTL");
        row(
            out,
            "",
            &format!(
                "{total}; {} expired by now, removed at the start",
                expiring.expired
            ),
        );
    }
}

fn print_lost(plan: &Plan, out: &Output) {
    let lost = &plan.lost;
    let mut lines = Vec::new();
    if lost.count.entries > 0 {
        lines.push(format!(
            "{}, {} of them client writes; {} of the entries and {} of the client writes are known to be committed",
            count(lost.count.entries, "entry", "entries"),
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
        let why = if *from <= plan.agreement.committed {
            "never committed: a later leader wrote others there"
        } else {
            "which no input knows to be committed"
        };
        lines.push(format!(
            "{} of input {}, {why}",
            entries(*from, *to),
            place + 1
        ));
    }
    if lines.is_empty() {
        lines.push("nothing that these inputs know of".to_owned());
    }
    if let Some((until, place)) = plan.known_until() {
        let what = match place {
            Some(place) => format!("the time of input {}", place + 1),
            None => "where the logs end by their own clock".to_owned(),
        };
        lines.push(format!(
            "writes after {}, {what}: how many is not known",
            utc(until)
        ));
    }
    let without_input = plan.without_input();
    if !without_input.is_empty() {
        let members: Vec<_> = without_input.iter().map(|member| name(member)).collect();
        lines.push(format!(
            "and writes only in the logs of {}, which were not given",
            members.join(", ")
        ));
    }
    for (at, line) in lines.iter().enumerate() {
        row(out, if at == 0 { "lost" } else { "" }, line);
    }
}

fn print_leftovers(plan: &Plan, out: &Output) {
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

fn print_renamed(renamed: &Renamed, plan: &Plan, out: &Output) {
    let shown = if out.verbose { usize::MAX } else { SHOWN };
    for (at, ((path, other), inputs)) in renamed.0.iter().take(shown).enumerate() {
        let served = inputs.iter().filter_map(|at| plan.read_inputs.get(*at));
        let members: BTreeSet<_> = served.map(ReadInput::member).collect();
        let members: Vec<_> = members.into_iter().collect();
        let (path, other) = (one_line(api_key(path)), one_line(api_key(other)));
        let line = format!(
            "{other}, so named by {}, becomes {path}",
            members.join(", ")
        );
        row(out, if at == 0 { "renamed" } else { "" }, &line);
    }
    if renamed.len() > shown {
        let more = renamed.len() - shown;
        row(out, "", &format!("and {more} more; --verbose shows all"));
    }
}

pub(super) fn print_archives(plan: &Plan, archived: &[Archived], args: &Rewind, out: &Output) {
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
        let what = match change.kind {
            ChangeKind::Remove => format!("removes {}", who(&change.member)),
            ChangeKind::Update => {
                let urls = change.member.peer_urls.join(",");
                format!("moves {} to {}", name(&change.member), printable(&urls))
            }
        };
        row(out, "", &format!("entry {} {what}", change.index));
    }
    for member in &plan.members {
        let urls = printable(&member.peer_urls.join(","));
        row(out, "", &format!("{} {urls}", who(member)));
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
    for step in next_steps(plan, archived, args.encrypts()) {
        out.line(&step.lines());
    }
}

pub(super) struct NextStep {
    text: String,
    command: Option<String>,
}

impl NextStep {
    /// The command on a line of its own, for copying.
    fn lines(&self) -> String {
        match &self.command {
            Some(command) => format!("  {}\n       {command}", self.text),
            None => format!("  {}", self.text),
        }
    }

    pub(super) fn in_one_line(&self) -> String {
        let command = self.command.iter().map(String::as_str);
        let parts: Vec<_> = std::iter::once(self.text.trim()).chain(command).collect();
        parts.join(" ")
    }
}

pub(super) fn next_steps(plan: &Plan, archived: &[Archived], encrypted: bool) -> Vec<NextStep> {
    let binary = match &plan.moment.cluster_version {
        Some(version) => format!("etcd {}", version.release()),
        None => "the release that they ran then".to_owned(),
    };
    let step = |text: &str| NextStep {
        text: text.to_owned(),
        command: None,
    };
    let is_alone = plan.members.len() == 1;
    let own = if is_alone {
        "the member's host"
    } else {
        "each host, with that member's own archive"
    };
    let urls = |member: &Member| [&member.client_urls[..], &member.peer_urls].concat();
    let mut urls = plan.members.iter().flat_map(urls);
    // `restore` asks the old members whether they are stopped.
    let tls = if urls.any(|url| url.starts_with("https://")) {
        ", with the --cacert, --cert and --key of a client"
    } else {
        ""
    };
    let mut steps = vec![
        step("1. stop all members of the old cluster and keep them stopped"),
        step(&format!(
            "2. on {own}, with its data dir for DIR, with --wal-dir if it has a WAL dir{tls}:"
        )),
    ];
    let members = plan.members.iter();
    steps.extend(members.map(|member| {
        let own = archived.iter().find(|one| one.member.id == member.id);
        let archive = own.map(|one| one.captured.path.as_path());
        let mut command = restore_command(archive, encrypted);
        let mut name = crate::text::name(member);
        if plan.is_host_of_another(member) {
            name += " (its host was added again as another member)";
            command += " --change-member";
        }
        NextStep {
            text: format!("   {name}:"),
            command: Some(command),
        }
    }));
    steps.push(step(&if is_alone {
        format!(
            "3. start it, with {binary}; more members join it with `etcdctl member add`, each with an empty data dir"
        )
    } else {
        format!("3. start them all, with {binary}")
    }));
    steps.push(step(
        "4. X-Etcd-Index goes back: watchers, and clients that compare and swap, must start over",
    ));
    steps
}

fn restore_command(archive: Option<&Path>, encrypted: bool) -> String {
    let path = archive.map_or_else(|| "ARCHIVE".to_owned(), |path| shell(&text(path)));
    let identity = if encrypted {
        " --identity KEY_FILE"
    } else {
        ""
    };
    format!("etcd-ark restore {path} --data-dir DIR --replace{identity}")
}
