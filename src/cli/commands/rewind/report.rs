//! A rewind's plan and archives as JSON.
//!
//! In: a plan and its archives. Out: JSON with the content of the text.

use crate::etcd::ids::Index;
use crate::etcd::store::to_json::{Expiration, key_text};
use crate::rewind::Plan;
use crate::rewind::archived::Archived;
use crate::rewind::new_cluster::ChangeKind;
use crate::rewind::served::Renamed;
use serde_json::{Value, json};

use crate::cli::commands::rewind::Rewind;
use crate::cli::commands::rewind::text::{NextStep, next_steps};
use crate::cli::json::{self, text};

/// The keys for which a base must be given; `names` are the inputs'.
pub(crate) fn disagreement(keys: &Renamed, names: &[String]) -> Value {
    let keys = keys.0.iter().map(|((path, other), inputs)| {
        let other_in = inputs.iter().filter_map(|place| names.get(*place));
        json!({
            "key": key_text(path),
            "other": key_text(other),
            "other_in": other_in.collect::<Vec<_>>(),
        })
    });
    json!({ "in_order_keys": keys.collect::<Vec<_>>() })
}

pub(crate) fn to_json(
    plan: &Plan,
    archived: &[Archived],
    warnings: &[String],
    args: &Rewind,
) -> Value {
    let store = &plan.store;
    // The time is part of a new id: a dry run's id would never be used.
    let new_cluster_id = (!args.dry_run || args.keep_cluster_id).then_some(plan.cluster_id);
    json!({
        "dry_run": args.dry_run,
        "out": args.out.as_deref().map(text),
        "cluster_id": plan.old_cluster_id,
        "new_cluster_id": new_cluster_id,
        "to_raft_index": plan.moment.index,
        "last_raft_index": plan.last_index(),
        "term": plan.term,
        "cluster_version": plan.moment.cluster_version,
        "moved": plan.moment.moved.as_ref().map(|moved| json!({
            "version": moved.version, "set_at_raft_index": moved.at, "committed": moved.committed,
        })),
        "committed_raft_index": plan.agreement.committed,
        "end_raft_index": plan.agreement.end.index,
        "inputs": inputs_json(plan),
        "base": {
            "input": plan.base.input + 1,
            "raft_snapshot": plan.base.snapshot.as_ref().map(json::raft_snapshot),
        },
        "log": plan.log.iter().map(|part| json!({
            "from_raft_index": part.from, "to_raft_index": part.to, "input": part.input + 1,
        })).collect::<Vec<_>>(),
        "in_order_rules": plan.rules,
        "store": {
            "keys": store.keys,
            "etcd_index": store.index,
            "etcd_index_before": store.index_before,
            "expiring": store.expiring.total,
            "expired": store.expiring.expired,
        },
        "kept_until_at": plan.clocks.0.map(|clock| Expiration(clock).to_string()),
        "logged_until_at": plan.clocks.1.map(|clock| Expiration(clock).to_string()),
        "lost": {
            "entries": plan.lost.count.entries,
            "client_writes": plan.lost.count.client_writes,
            "committed": plan.lost.committed,
            "not_known": plan.known_until().map(|(until, place)| json!({
                "input": place.map(|place| place + 1), "after_at": until,
            })),
            "members_unheard": plan.without_input(),
            "unseen": plan.lost.unseen.iter().map(|missing| range(missing.from, missing.to)).collect::<Vec<_>>(),
            "tails": plan.lost.tails.iter().map(|(place, from, to)| json!({
                "input": place + 1, "from_raft_index": from, "to_raft_index": to,
            })).collect::<Vec<_>>(),
        },
        "dropped": plan.leftovers.members.iter().map(|(id, found)| json!({
            "id": id,
            "in_raft_snapshot": found.in_snapshot,
            "entries": found.entries,
        })).collect::<Vec<_>>(),
        "disagreed": renamed_json(&plan.disagreed),
        "renamed": renamed_json(&plan.renamed),
        "changes": plan.changes.iter().map(|change| json!({
            "raft_index": change.index,
            "kind": match change.kind { ChangeKind::Remove => "remove", ChangeKind::Update => "update" },
            "member_id": change.member,
        })).collect::<Vec<_>>(),
        "members": plan.members.iter().map(|member| {
            let own = archived.iter().find(|one| one.member.id == member.id);
            let captured = own.map(|one| &one.captured);
            json!({
                "member": {"id": member.id, "name": member.name, "cluster_id": new_cluster_id},
                "peer_urls": member.peer_urls,
                "client_urls": member.client_urls,
                "archive": captured.map(|captured| text(&captured.path)),
                "archive_bytes": captured.map(|captured| captured.bytes),
                "sha256": captured.map(|captured| captured.sha256),
            })
        }).collect::<Vec<_>>(),
        "warnings": warnings,
        "next": next_steps(plan, archived, args.encrypts()).iter().map(NextStep::in_one_line).collect::<Vec<_>>(),
    })
}

fn inputs_json(plan: &Plan) -> Vec<Value> {
    let inputs = plan
        .read_inputs
        .iter()
        .zip(&plan.agreement.sure)
        .enumerate();
    let json = inputs.map(|(place, (read_input, sure))| {
        let snapshots = read_input.trace.snapshots.iter();
        json!({
            "input": place + 1,
            "target": text(&read_input.path),
            "member": json::member(&read_input.facts.identity),
            "position": json::position(&read_input.facts.position),
            "first_raft_index": read_input.trace.entries.first().map(|entry| entry.index),
            "agrees_up_to_raft_index": sure,
            "lost": read_input.lost,
            "raft_snapshots": snapshots.map(|one| json::raft_snapshot(&one.id)).collect::<Vec<_>>(),
            "used_for": plan.used_for(place).iter().map(|what| what.replace(' ', "-")).collect::<Vec<_>>(),
        })
    });
    json.collect()
}

fn range(from: Index, to: Index) -> Value {
    json!({ "from_raft_index": from, "to_raft_index": to })
}

fn renamed_json(renamed: &Renamed) -> Vec<Value> {
    let keys = renamed.0.iter().map(|((path, other), inputs)| {
        json!({
            "key": key_text(path),
            "other": key_text(other),
            "inputs": inputs.iter().map(|place| place + 1).collect::<Vec<_>>(),
        })
    });
    keys.collect()
}
