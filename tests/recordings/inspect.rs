//! What `inspect` shows of a member, compared with its server's answers.

use super::{SegmentBuilder, chain_crc, cut, inspect};
use crate::support::prelude::*;

#[test]
fn inspect_says_what_the_servers_said_themselves() {
    // Guards against an identity, a version or a position read wrongly: an operator decides by them.
    // The last indexes of the upgrade are known from elsewhere.
    let last_indexes = [250, 343, 435, 498, 498, 498].map(Some);
    let upgraded = UPGRADE.iter().zip(last_indexes);
    let mut unpacked = BTreeMap::new();
    for (server, last_index) in SINGLE.iter().map(|server| (server, None)).chain(upgraded) {
        let (name, dir, answers) = (server.recording, server.dir, server.answers);
        let recording = unpacked.entry(name).or_insert_with(|| unpack(name));
        let source = Source::of(recording, dir);
        let scratch = TempDir::new().unwrap();
        let (archive, _) = snapshot(&source.data, scratch.path(), &source.wal_flags());
        let on_disk = inspect(&source.data, &source.wal_flags());
        assert_eq!(on_disk["facts"], inspect(&archive, &[])["facts"], "{dir}");
        let member = &on_disk["facts"];
        assert_server_agrees(recording, answers, member);
        let log = decode::log(&source.wal_dir());
        let own = json!({
            "term": log.term, "index": log.index, "commit": log.commit,
            "hard_state_term": member["position"]["hard_state_term"], "vote": format!("{:x}", log.vote),
        });
        assert_eq!(member["position"], own, "{dir}");
        if let Some(index) = last_index {
            assert_eq!(member["position"]["index"], index, "{dir}");
        }
        assert_eq!(
            member["identity"]["cluster_id"],
            format!("{:x}", log.cluster_id)
        );
        assert_eq!(
            member["identity"]["member_id"],
            format!("{:x}", log.member_id)
        );
        let headers = recording.path(format!("{answers}.headers.json"));
        if headers.exists() {
            let headers = recording.json(format!("{answers}.headers.json"));
            assert_eq!(
                member["identity"]["cluster_id"],
                headers["X-Etcd-Cluster-Id"]
            );
            let applied: u64 = headers["X-Raft-Index"].as_str().unwrap().parse().unwrap();
            // The log goes on by a SYNC every half second until the server stops.
            assert!(
                (applied..applied + 10).contains(&log.index),
                "{dir}: {applied} {log:?}"
            );
        }
    }
}

/// Holds what was found against `/v2/stats/self`, `/version` and `/v2/members` as the server answered them.
fn assert_server_agrees(recording: &Recording, answers: &str, member: &Value) {
    let itself = recording.json(format!("{answers}.self.json"));
    assert_eq!(member["identity"]["member_id"], itself["id"], "{answers}");
    assert_eq!(member["identity"]["name"], itself["name"], "{answers}");
    let version = recording.text(format!("{answers}.version.json"));
    let cluster_version = match serde_json::from_str::<Value>(&version) {
        Ok(version) => version["etcdcluster"].clone(),
        // 2.0 has no cluster version, and answers in plain text.
        Err(_) => Value::Null,
    };
    assert_eq!(member["cluster_version"], cluster_version, "{answers}");
    let mut expected: Vec<_> = recording.json(format!("{answers}.members.json"))["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| {
            let urls = |name: &str| found.get(name).cloned().unwrap_or_else(|| json!([]));
            json!({
                "id": found["id"], "name": found["name"],
                "peer_urls": urls("peerURLs"), "client_urls": urls("clientURLs"),
            })
        })
        .collect();
    let mut found = member["members"].as_array().unwrap().clone();
    let by_id = |member: &Value| member["id"].as_str().unwrap().to_owned();
    expected.sort_by_key(by_id);
    found.sort_by_key(by_id);
    assert_eq!(found, expected, "{answers}");
}

#[test]
fn inspect_tells_of_a_jump_and_of_an_undecided_version() {
    // Guards against facts that change what an operator may do next being passed over in silence.
    let gap = unpack("gap-follower");
    let member = &inspect(&gap.data_dir("gap-follower"), &[])["facts"];
    assert_eq!(member["jumps"], json!([{"after": 46, "to": 5661}]));
    assert_eq!(member["raft_snapshot"], json!({"term": 2, "index": 5661}));

    let old = unpack("v20");
    let text = typed("inspect {}", &[&old.data_dir("v20")]).exits(0).stdout;
    assert!(text.contains("version    not decided"), "{text}");
}

#[test]
fn a_member_counts_as_removed_once_its_removal_is_committed() {
    // Guards against a removal that is believed too early or not at all: mem-b's own log ends with it, not yet known to
    // be committed; the members that stayed know it.
    let stayed = unpack("mem-a");
    let known = &inspect(&stayed.data_dir("mem-a"), &[])["facts"];
    let gone = unpack("mem-b");
    let data = gone.data_dir("mem-b");
    let segment = decode::segments(&data.join("member/wal")).remove(0);
    let before = &inspect(&data, &[])["facts"];
    let id = &before["identity"]["member_id"];
    assert_eq!(known["removed_members"], json!([id]));
    assert_eq!(before["removed_members"], json!([]));
    assert_eq!(before["position"]["index"], 50);
    assert_eq!(before["position"]["commit"], 49);

    let log = decode::log(&data.join("member/wal"));
    let mut bytes = fs::read(&segment).unwrap();
    let mut more = SegmentBuilder::new(chain_crc(&segment), false);
    more.hard_state(log.term, log.vote, 50);
    bytes.extend_from_slice(more.bytes());
    fs::write(&segment, bytes).unwrap();
    let after = &inspect(&data, &[])["facts"];
    assert_eq!(after["removed_members"], json!([id]));
    assert_eq!(after["members"].as_array().unwrap().len(), 3);
    let scratch = TempDir::new().unwrap();
    let (_, told) = snapshot(&data, scratch.path(), &[]);
    let warnings = told["manifest"]["warnings"].to_string();
    assert_has(&warnings, "has been removed from its cluster");
}

#[test]
fn inspect_tells_when_the_cluster_moved_and_when_it_is_about_to() {
    // Guards against a downgrade onto a log in which 2.2.0 waits for a leader to commit it.
    let story = unpack("upgrade-story");
    let before = inspect(&story.data_dir("2-backup-infra2"), &[]);
    let set = |version: &str, at: u64, committed: bool| json!({"version": version, "set_at": at, "committed": committed});
    assert_eq!(before["facts"]["versions"], json!([set("2.1.0", 9, true)]));
    let data = story.data_dir("3-after-upgrade-infra0");
    let after = inspect(&data, &[]);
    let moved = json!([set("2.1.0", 9, true), set("2.2.0", 451, true)]);
    assert_eq!(after["facts"]["versions"], moved);

    let segment = decode::segments(&data.join("member/wal")).remove(0);
    let frames = decode::frames(&fs::read(&segment).unwrap());
    let move_entry = frames
        .iter()
        .position(|frame| frame.kind == 2 && decode::number(&frame.data, 3) == 451)
        .unwrap();
    let commit = frames[..move_entry]
        .iter()
        .rev()
        .find(|frame| frame.kind == 3);
    assert!(decode::number(&commit.unwrap().data, 3) < 451);
    cut(&segment, frames[move_entry].end);
    let pending = inspect(&data, &[]);
    assert_eq!(pending["facts"]["cluster_version"], "2.1.0");
    let waiting = json!([set("2.1.0", 9, true), set("2.2.0", 451, false)]);
    assert_eq!(pending["facts"]["versions"], waiting);
    let text = typed("inspect {}", &[&data]).exits(0).stdout;
    assert!(text.contains("2.1.0, 2.2.0 pending"), "{text}");
    let scratch = TempDir::new().unwrap();
    let (_, told) = snapshot(&data, scratch.path(), &[]);
    let warnings = told["manifest"]["warnings"].to_string();
    assert_has(&warnings, "the cluster is about to move");
}
