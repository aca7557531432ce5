//! A whole cluster taken back to one entry, compared with the answers of real servers when that was done by hand.
//!
//! Expectations come from recorded answers, from the tests' own reading of the bytes, and from a real etcd.

mod faults;
mod membership;
mod real_servers;
mod refusals;

use crate::faults::{Blow, Call, Story, ensure, ensure_no_staging, strike_everywhere};
use crate::support::decode::number;
use crate::support::encode;
use crate::support::encode::{
    CONF_CHANGE, CRC, ENTRY, HARD_STATE, MARKER, METADATA, NORMAL, REMOVE_NODE, SegmentBuilder,
    StoreImage, UPDATE_NODE, bootstrap, members, raft_snapshot, request, segment_name, snap_name,
};
use crate::support::etcd::Addresses;
use crate::support::prelude::*;
use crate::support::trio::without_ttl;

/// `rewind` of `targets` with further flags.
pub(crate) fn rewind(targets: &[&Path], out: &Path, flags: &[&str]) -> Ran {
    let targets = targets.iter().map(|target| target.as_os_str());
    let more: Vec<_> = targets.chain(flags.iter().map(OsStr::new)).collect();
    typed_with("--json rewind --out {}", &[&out], &more)
}

pub(crate) fn archives(told: &Value) -> BTreeMap<u64, PathBuf> {
    let members = told["members"].as_array().unwrap();
    let pair = |member: &Value| {
        let id = member["member"]["id"].as_str().unwrap();
        let id = u64::from_str_radix(id, 16).unwrap();
        (id, PathBuf::from(member["archive"].as_str().unwrap()))
    };
    members.iter().map(pair).collect()
}

pub(crate) fn keys(target: &Path) -> Value {
    let told = ark(["--json".as_ref(), "keys".as_ref(), target.as_os_str()]);
    told.exits(0).json()
}

fn values(answer: &Value) -> BTreeMap<String, Value> {
    fn walk(node: &Value, found: &mut BTreeMap<String, Value>) {
        if let (Some(key), Some(value)) = (node["key"].as_str(), node.get("value")) {
            found.insert(key.to_owned(), value.clone());
        }
        let children = node["nodes"].as_array();
        children
            .into_iter()
            .flatten()
            .for_each(|child| walk(child, found));
    }
    let mut found = BTreeMap::new();
    walk(&answer["node"], &mut found);
    found
}

/// Keys and values with in-order names without the zeros that 2.2 puts before them.
fn with_plain_names(answer: &Value) -> BTreeMap<String, Value> {
    let plain = |key: String| {
        let (directory, name) = key.rsplit_once('/').unwrap();
        let is_padded = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
        let short = name.trim_start_matches('0');
        if is_padded {
            format!("{directory}/{short}")
        } else {
            key.clone()
        }
    };
    let found = values(answer).into_iter();
    found.map(|(key, value)| (plain(key), value)).collect()
}

/// An archive unpacked with the tools that an operator has: its data dir.
pub(crate) fn untar(archive: &Path, to: &Path) -> PathBuf {
    make_dir(to);
    tool(to, "tar", &["--zstd", "-xf", archive.to_str().unwrap()]);
    tool(to, "sha256sum", &["--quiet", "-c", "SHA256SUMS"]);
    to.to_owned()
}

/// The records of a log behind its crc records, from all segments.
fn records(data_dir: &Path) -> Vec<(u64, Vec<u8>)> {
    let segments = decode::segments(&data_dir.join("member/wal"));
    let frames = segments
        .iter()
        .flat_map(|path| decode::frames(&fs::read(path).unwrap()));
    frames
        .filter(|frame| frame.kind != CRC)
        .map(|frame| (frame.kind, frame.data))
        .collect()
}

/// Fails unless the segments are, byte for byte, what the tests' own encoder makes of the same records.
fn assert_framed_well(data_dir: &Path, padded: bool) {
    let mut chain = 0;
    for path in decode::segments(&data_dir.join("member/wal")) {
        let bytes = fs::read(&path).unwrap();
        let mut again = SegmentBuilder::new(chain, padded);
        for frame in decode::frames(&bytes) {
            match frame.kind {
                CRC => again.crc(),
                kind => again.record(kind, &frame.data),
            };
        }
        assert!(
            again.bytes() == bytes,
            "{} is framed otherwise",
            path.display()
        );
        chain = again.chain_crc();
    }
}

pub(crate) fn entry(kind: u64, term: u64, index: u64, data: &[u8]) -> (u64, Vec<u8>) {
    let message = encode::Message::new().uint(1, kind).uint(2, term);
    (ENTRY, message.uint(3, index).bytes(4, data).finish())
}

pub(crate) fn hard_state(term: u64, vote: u64, commit: u64) -> (u64, Vec<u8>) {
    let message = encode::Message::new().uint(1, term).uint(2, vote);
    (HARD_STATE, message.uint(3, commit).finish())
}

/// Writes the only segment of a data dir again, with what `change` makes of its records and with every CRC right.
pub(crate) fn rewrite(data_dir: &Path, change: impl FnOnce(&mut Vec<(u64, Vec<u8>)>)) {
    let mut all = records(data_dir);
    change(&mut all);
    let wal = data_dir.join("member/wal");
    write_segment(&wal.join(segment_name(0, 0)), 0, &all);
}

fn write_segment(path: &Path, chain: u32, records: &[(u64, Vec<u8>)]) {
    let mut segment = SegmentBuilder::new(chain, false);
    segment.crc();
    for (kind, data) in records {
        segment.record(*kind, data);
    }
    fs::write(path, segment.bytes()).unwrap();
}

/// The three directories of a step of the upgrade.
fn step(story: &Recording, step: &str) -> [PathBuf; 3] {
    [0, 1, 2].map(|number| story.data_dir(&format!("{step}-infra{number}")))
}

pub(crate) fn paths(paths: &[PathBuf]) -> Vec<&Path> {
    paths.iter().map(PathBuf::as_path).collect()
}

const INFRA0: u64 = 0x8998_a2fa_ce6f_b7ba;
const INFRA1: u64 = 0x4c06_8e21_e5a0_8be2;
pub(crate) const INFRA2: u64 = 0x4971_f327_a240_69a9;
const OLD_CLUSTER: &str = "aa1662aca318a75f";

#[test]
fn three_backups_taken_at_different_times_become_three_archives_of_one_history() {
    // Guards against what the guide leads to: each member restored from its own backup, and a cluster that has diverged.
    let story = unpack("upgrade-story");
    let dir = TempDir::new().unwrap();
    let backups = step(&story, "2-backup");
    let before: Vec<_> = backups.iter().map(|path| tree(path)).collect();
    let out = dir.path().join("out");
    let told = rewind(&paths(&backups), &out, &[]).exits(0).json();
    let after: Vec<_> = backups.iter().map(|path| tree(path)).collect();
    assert_eq!(before, after, "a source was touched");
    assert_eq!(told["to_raft_index"], 435);
    assert_eq!(told["lost"]["entries"], 0);
    assert_eq!(told["moved"], Value::Null);
    assert_eq!(told["renamed"], json!([]));
    let made = archives(&told);
    assert_eq!(
        made.keys().copied().collect::<Vec<_>>(),
        [INFRA2, INFRA1, INFRA0]
    );
    assert_eq!(
        names(&out).len(),
        6,
        "an archive and its checksum for each member"
    );
    assert_eq!(names(dir.path()), ["out"], "nothing else is left");
    assert_eq!(tree(&out)[Path::new("")].permissions(), 0o700);

    let expected = without_ttl(story.json("4-after-rewind.keys.json"));
    let source = decode::entries(&backups[2].join("member/wal"));
    let snap = fs::read(
        decode::snaps(&backups[2].join("member/snap"))
            .pop()
            .unwrap(),
    )
    .unwrap();
    let new_cluster = told["new_cluster_id"].as_str().unwrap();
    assert_ne!(new_cluster, OLD_CLUSTER);
    for (id, archive) in &made {
        assert_eq!(without_ttl(keys(archive)), expected, "{id:x}");
        ark(["verify".as_ref(), "--deep".as_ref(), archive.as_os_str()]).exits(0);
        tool(
            &out,
            "sha256sum",
            &["--quiet", "-c", &format!("{}.sha256", archive.display())],
        );
        let data = untar(archive, &dir.path().join(format!("{id:x}")));
        let log = decode::log(&data.join("member/wal"));
        assert_eq!(
            (log.member_id, format!("{:x}", log.cluster_id).as_str()),
            (*id, new_cluster)
        );
        assert_one_committed_segment(&data, &source);
        assert_eq!(
            names(&data.join("member/snap")),
            ["0000000000000004-0000000000000194.snap"]
        );
        assert_eq!(
            fs::read(data.join("member/snap/0000000000000004-0000000000000194.snap")).unwrap(),
            snap
        );
    }
    let inspected = ark(["inspect".as_ref(), made[&INFRA0].as_os_str()]).exits(0);
    let rewound = format!("rewound    to entry 435 of cluster {OLD_CLUSTER}\n");
    assert!(inspected.stdout.contains(&rewound), "{inspected:#?}");
    // Another rewind of the same is another cluster.
    let again = rewind(&paths(&backups), &dir.path().join("again"), &[]);
    assert_ne!(
        again.exits(0).json()["new_cluster_id"],
        told["new_cluster_id"]
    );
}

/// crc 0, metadata, the raft snapshot's marker, entries 405 to 435 as they were, one hard state; nothing else.
fn assert_one_committed_segment(data: &Path, source: &BTreeMap<u64, (u64, Vec<u8>)>) {
    let wal = data.join("member/wal");
    assert_eq!(names(&wal), [segment_name(0, 0)]);
    assert_framed_well(data, false);
    let all = records(data);
    let kinds: Vec<u64> = all.iter().map(|(kind, _)| *kind).collect();
    let expected = [vec![METADATA, MARKER], vec![ENTRY; 31], vec![HARD_STATE]].concat();
    assert_eq!(kinds, expected);
    let marker = &all[1].1;
    assert_eq!((number(marker, 1), number(marker, 2)), (404, 4));
    let mut kept = source.clone();
    kept.retain(|index, _| *index > 404);
    assert_eq!(decode::entries(&wal), kept);
    let state = &all.last().unwrap().1;
    assert_eq!([1, 2, 3].map(|field| number(state, field)), [5, 0, 435]);
}

#[test]
fn an_archive_says_what_it_was_made_from_and_how_far_it_goes_back() {
    // Guards against an archive that looks like a member's own, and a restore that asks the wrong cluster.
    let story = unpack("upgrade-story");
    let dir = TempDir::new().unwrap();
    let [one, two, three] = step(&story, "2-backup");
    let (archive, _) = snapshot(&two, &dir.path().join("backups"), &["--all"]);
    let out = dir.path().join("out");
    let told = rewind(&[&one, &archive, &three], &out, &["--to", "index:400"]);
    let told = told.exits(0).json();
    let inspected = archives(&told).into_values().map(|archive| {
        let inspected = ark(["--json".as_ref(), "inspect".as_ref(), archive.as_os_str()]);
        inspected.exits(0).json()
    });
    for inspected in inspected {
        let manifest = &inspected["manifest"];
        let rewind = &manifest["rewind"];
        assert_eq!(manifest["labels"], json!(["rewind"]));
        assert_eq!(rewind["old_cluster_id"], OLD_CLUSTER);
        assert_eq!(rewind["rewound_to"], 400);
        let named = rewind["old_members"].as_array().unwrap().iter();
        let named = named.map(|member| member["name"].as_str().unwrap().to_owned());
        assert_eq!(named.collect::<Vec<_>>(), ["infra2", "infra1", "infra0"]);
        let origins = rewind["derived_from"].as_array().unwrap();
        let origins = origins
            .iter()
            .map(|origin| (origin["name"].clone(), origin["used_for"].clone()));
        let file = archive.file_name().unwrap().to_str().unwrap();
        // The newest raft snapshot below 400 is at 303; infra1's log ends at 343.
        assert_eq!(
            origins.collect::<Vec<_>>(),
            [
                (json!("2-backup-infra0.etcd"), json!([])),
                (json!(file), json!(["raft snapshot"])),
                (json!("2-backup-infra2.etcd"), json!(["log"])),
            ]
        );
        assert_eq!(manifest["member"]["position"]["index"], 400);
        assert_eq!(manifest["member"]["position"]["commit"], 400);
    }
}

/// What an answer has below `/app/inorder`, and how members of the other release name it.
fn in_order_twins(answer: &Value) -> BTreeMap<String, String> {
    let found = values(answer).into_keys();
    let in_order = found.filter_map(|key| {
        let name = key.strip_prefix("/app/inorder/")?;
        let number: u64 = name.parse().ok()?;
        let (plain, padded) = (number.to_string(), format!("{number:020}"));
        let other = if name == plain { padded } else { plain };
        Some((key.clone(), format!("/app/inorder/{other}")))
    });
    in_order.collect()
}

#[test]
fn after_the_move_a_base_must_be_named_and_every_key_that_is_renamed_is_told() {
    // Guards against in-order keys that change their names without a word, and against a rewind that picks someone's.
    let story = unpack("upgrade-story");
    let dir = TempDir::new().unwrap();
    let upgraded = step(&story, "3-after-upgrade");
    let out = dir.path().join("out");
    let refused = rewind(&paths(&upgraded), &out, &[]).exits(3);
    let error = refused.json_error();
    assert_has(&error["message"], "10 in-order keys");
    assert_has(&error["hint"], "--base");
    assert_eq!(
        refused.json()["in_order_keys"].as_array().unwrap().len(),
        10
    );
    assert_eq!(names(dir.path()), Vec::<String>::new());

    let told = rewind(&paths(&upgraded), &out, &["--base", "infra0"])
        .exits(0)
        .json();
    assert_eq!(told["to_raft_index"], 450);
    assert_eq!(
        told["moved"],
        json!({"version": "2.2.0", "set_at_raft_index": 451, "committed": true})
    );
    assert_eq!(
        (&told["lost"]["entries"], &told["lost"]["client_writes"]),
        (&json!(48), &json!(37))
    );
    assert_eq!(told["disagreed"].as_array().unwrap().len(), 10);
    let expected = without_ttl(story.json("5-rewound-before-2.2.keys.json"));
    for archive in archives(&told).values() {
        assert_eq!(without_ttl(keys(archive)), expected);
        ark(["verify".as_ref(), "--deep".as_ref(), archive.as_os_str()]).exits(0);
    }
    // Whatever in-order key a member answered by another name, as the recorded answers have it.
    let mut renamed = BTreeSet::new();
    for number in 0..3 {
        let served = values(&story.json(format!("3-after-upgrade.infra{number}.keys.json")));
        for (key, other) in in_order_twins(&expected) {
            if served.contains_key(&other) && !served.contains_key(&key) {
                renamed.insert((key, other, number + 1));
            }
        }
    }
    let mut found = BTreeSet::new();
    for key in told["renamed"].as_array().unwrap() {
        let text = |name: &str| key[name].as_str().unwrap().to_owned();
        for input in key["inputs"].as_array().unwrap() {
            found.insert((text("key"), text("other"), input.as_u64().unwrap()));
        }
    }
    assert_eq!(found, renamed);
    assert_has(&told["warnings"][0], "12 in-order keys get another name");
    // Another base gives others' names: those of infra2 were all given by 2.1.
    let told = rewind(
        &paths(&upgraded),
        &dir.path().join("two"),
        &["--base", "4971f327a24069a9"],
    );
    let made = archives(&told.exits(0).json());
    let found = values(&keys(&made[&INFRA1]));
    assert_eq!(found, with_plain_names(&expected));
}

#[test]
fn an_entry_that_differs_is_found_where_it_is_though_every_crc_is_right() {
    // Guards against two histories taken for one: a member that was restored by itself goes on under the same cluster id.
    let story = unpack("upgrade-story");
    let dir = TempDir::new().unwrap();
    let [one, two, three] = step(&story, "2-backup");
    let forged = dir.path().join("forged");
    copy_dir(&two, &forged);
    rewrite(&forged, |records| {
        let at = |(kind, data): &&mut (u64, Vec<u8>)| *kind == ENTRY && number(data, 3) == 320;
        let (_, data) = records.iter_mut().find(at).unwrap();
        let (term, forged) = (number(data, 2), request("PUT", "/1/app/forged", "1"));
        *data = entry(NORMAL, term, 320, &forged).1;
    });
    ark(["verify".as_ref(), forged.as_os_str()]).exits(0);
    let out = dir.path().join("out");
    let refused = rewind(&[&one, &forged, &three], &out, &["--to", "end"]).exits(3);
    let error = refused.json_error();
    let message = error["message"].as_str().unwrap();
    assert_has(&message, "not one history, from entry 320 on");
    for path in [&forged, &three] {
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }
    assert!(!message.contains("2-backup-infra0"), "{message}");
    assert!(!out.exists());
    // It says nothing about what lies below: without the forged one all is well.
    rewind(&[&one, &three], &out, &[]).exits(0);
}

#[test]
fn tails_that_are_not_known_to_be_committed_may_differ_and_the_most_up_to_date_log_wins() {
    // Guards against a crashed leader's last words taken for a fork, and against the longer log taken for the better.
    let story = unpack("upgrade-story");
    let dir = TempDir::new().unwrap();
    let [_, _, source] = step(&story, "2-backup");
    let (long, late) = (dir.path().join("long"), dir.path().join("late"));
    let write = |key: &str| request("PUT", &format!("/1/app/{key}"), "1");
    copy_dir(&source, &long);
    rewrite(&long, |records| {
        let keys = ["a", "b", "c"].iter().zip(436..);
        records.extend(keys.map(|(key, index)| entry(NORMAL, 4, index, &write(key))));
    });
    copy_dir(&source, &late);
    rewrite(&late, |records| {
        records.push(hard_state(6, 0, 435));
        records.push(entry(NORMAL, 6, 436, &write("late")));
    });
    let out = dir.path().join("out");
    let told = rewind(&[&long, &late], &out, &[]).exits(0).json();
    assert_eq!(
        (&told["to_raft_index"], &told["committed_raft_index"]),
        (&json!(436), &json!(435))
    );
    assert_eq!(told["term"], 7, "one more than any input has seen");
    assert_eq!(
        told["lost"]["tails"],
        json!([{"input": 1, "from_raft_index": 436, "to_raft_index": 438}])
    );
    assert_has(&told["warnings"][0], "entry 436 is not known");
    for archive in archives(&told).values() {
        let found = values(&keys(archive));
        assert!(found.contains_key("/app/late") && !found.contains_key("/app/a"));
    }
    // Once someone knows the other one to be committed, it is a fork.
    let known = dir.path().join("known");
    copy_dir(&long, &known);
    rewrite(&known, |records| records.push(hard_state(4, 0, 438)));
    let refused = rewind(&[&known, &late], &dir.path().join("no"), &[]).exits(3);
    let message = refused.json_error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("from entry 436 on"), "{message}");
}

#[test]
fn archives_of_two_clusters_are_refused_by_their_ids() {
    // Guards against two clusters mixed into one, where someone keeps all backups in one place.
    let (story, other) = (unpack("upgrade-story"), unpack("mem-a"));
    let dir = TempDir::new().unwrap();
    let [one, _, _] = step(&story, "2-backup");
    let out = dir.path().join("out");
    let refused = rewind(&[&one, &other.data_dir("mem-a")], &out, &[]).exits(3);
    let message = refused.json_error()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains(OLD_CLUSTER) && message.contains("1b3e718414357104"),
        "{message}"
    );
    // The same id is not the same cluster: these two were made with the same flags one after the other.
    let gap = unpack("gap-follower");
    let (one, two) = (other.data_dir("mem-a"), gap.data_dir("gap-follower"));
    let refused = rewind(&[&one, &two], &out, &[]).exits(3);
    let message = refused.json_error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("from entry 1 on"), "{message}");
}

/// `3-after-upgrade-infra2` as it is when its raft snapshot is from above the move and its log begins at `first`.
fn long_after(story: &Recording, to: &Path, first: u64) -> PathBuf {
    let [_, _, source] = step(story, "3-after-upgrade");
    copy_dir(&source, to);
    let (wal, snap) = (to.join("member/wal"), to.join("member/snap"));
    let newest = decode::snaps(&snap).pop().unwrap();
    let saved = decode::raft_snapshot(&fs::read(newest).unwrap());
    for path in decode::snaps(&snap)
        .into_iter()
        .chain(decode::segments(&wal))
    {
        fs::remove_file(path).unwrap();
    }
    let json = saved.json.replace("2.1.0", "2.2.0");
    let file = raft_snapshot(4, 460, &saved.nodes, json.as_bytes());
    write_file(&snap.join(snap_name(4, 460)), 0o644, &file);
    let mut all = vec![(METADATA, encode::metadata(INFRA2, 0xaa16_62ac_a318_a75f))];
    all.push(hard_state(4, 0, first));
    let entries = records(&source).into_iter();
    all.extend(entries.filter(|(kind, data)| *kind == ENTRY && number(data, 3) >= first));
    let marker = encode::Message::new().uint(1, 460).uint(2, 4).finish();
    all.extend([(MARKER, marker), hard_state(4, 0, 498)]);
    write_segment(&wal.join(segment_name(3, first)), 99, &all);
    to.to_owned()
}

#[test]
fn a_raft_snapshot_from_before_and_a_log_from_after_the_move_are_spliced() {
    // Guards against "too late": the only whole backup is old, and the only long log has purged what it began from.
    let story = unpack("upgrade-story");
    let dir = TempDir::new().unwrap();
    let [_, before, _] = step(&story, "2-backup");
    let after = long_after(&story, &dir.path().join("after"), 310);
    let (after, _) = snapshot(&after, &dir.path().join("backups"), &[]);
    let out = dir.path().join("out");
    let told = rewind(&[&before, &after], &out, &[]).exits(0).json();
    assert_eq!(told["to_raft_index"], 450);
    assert_eq!(
        told["base"],
        json!({"input": 1, "raft_snapshot": {"term": 3, "raft_index": 303}})
    );
    assert_eq!(
        told["log"],
        json!([
            {"from_raft_index": 304, "to_raft_index": 343, "input": 1},
            {"from_raft_index": 344, "to_raft_index": 450, "input": 2},
        ])
    );
    let source = decode::entries(&story.data_dir("3-after-upgrade-infra0").join("member/wal"));
    let expected = with_plain_names(&story.json("5-rewound-before-2.2.keys.json"));
    for (id, archive) in archives(&told) {
        assert_eq!(values(&keys(&archive)), expected);
        let data = untar(&archive, &dir.path().join(format!("{id:x}")));
        let mut kept = source.clone();
        kept.retain(|index, _| (304..=450).contains(index));
        assert_eq!(decode::entries(&data.join("member/wal")), kept);
    }

    // A log that begins after the other one ends: what is missing is said.
    let late = long_after(&story, &dir.path().join("late"), 350);
    let no = dir.path().join("no");
    let refused = rewind(&[&before, &late], &no, &["--to", "index:450"]).exits(3);
    let message = refused.json_error()["message"].as_str().unwrap().to_owned();
    assert_has(
        &message,
        "above the newest, at 303, entries 344 to 349 are missing",
    );
    // One that begins right where the other ends may be of another history: nothing shows that it is not.
    let next = long_after(&story, &dir.path().join("next"), 344);
    let refused = rewind(&[&before, &next], &dir.path().join("no"), &[]).exits(3);
    let message = refused.json_error()["message"].as_str().unwrap().to_owned();
    assert_has(&message, "at entry 343: they have no entry in common");
    // And the move itself: another one may be in what is missing, or it is there and nowhere else.
    let blind = long_after(&story, &dir.path().join("blind"), 455);
    for (log, by, missing) in [(&late, 451, "344 to 349"), (&blind, 460, "344 to 454")] {
        let refused = rewind(&[&before, log], &no, &[]).exits(3);
        let message = refused.json_error()["message"].as_str().unwrap().to_owned();
        let expected = format!(
            "which entry moved the cluster version to 2.2 or more cannot be told: as of entry 343 it was below, as of entry {by} it was not, and between them entries {missing} are missing; `--to index:343` goes back to before the move"
        );
        assert_eq!(message, expected);
        // So does the gate: its command would be refused for the same reason.
        let gate = typed("downgrade check --offline {} {}", &[&before, log]);
        assert_has(&gate.exits(3).stdout, "`--to index:343`");
        // As it says.
        let to = dir.path().join(format!("instead-{by}"));
        let told = rewind(&[&before, log], &to, &["--to", "index:343"]).exits(0);
        assert_eq!(told.json()["cluster_version"], "2.1.0");
    }
    assert!(names(dir.path()).iter().all(|name| name != "no"));
}

#[test]
fn a_log_with_a_hole_serves_on_either_side_of_it() {
    // Guards against invented entries in place of those that a received raft snapshot replaces.
    let recording = unpack("gap-follower");
    let dir = TempDir::new().unwrap();
    let source = recording.data_dir("gap-follower");
    let told = rewind(&[&source], &dir.path().join("out"), &[])
        .exits(0)
        .json();
    assert_eq!(told["to_raft_index"], 5700);
    let expected = recording.json("gap-follower.keys.json");
    for archive in archives(&told).values() {
        assert_eq!(keys(archive), expected);
    }
    let early = rewind(&[&source], &dir.path().join("early"), &["--to", "index:40"]);
    let told = early.exits(0).json();
    assert_eq!(told["base"]["raft_snapshot"], Value::Null);
    assert_eq!(
        told["lost"]["unseen"],
        json!([{"from_raft_index": 47, "to_raft_index": 5661}])
    );
    let (id, archive) = archives(&told).pop_first().unwrap();
    let data = untar(&archive, &dir.path().join("data"));
    let first = &records(&data)[1];
    assert_eq!(
        (first.0, number(&first.1, 1), number(&first.1, 2)),
        (MARKER, 0, 0),
        "{id:x}"
    );
    let entries = decode::entries(&data.join("member/wal"));
    assert_eq!(
        entries.into_keys().collect::<Vec<_>>(),
        (1..=40).collect::<Vec<_>>()
    );
    let refused = rewind(&[&source], &dir.path().join("no"), &["--to", "index:5000"]).exits(3);
    let message = refused.json_error()["message"].as_str().unwrap().to_owned();
    assert_has(&message, "entries 47 to 5000 are missing");
    // What it wrote ahead before that raft snapshot came was never known to be committed.
    let crashed = dir.path().join("crashed");
    copy_dir(&source, &crashed);
    rewrite(&crashed, |records| {
        let received = |(kind, data): &(u64, Vec<u8>)| *kind == MARKER && number(data, 1) == 5661;
        let at = records.iter().position(received).unwrap();
        let write = request("PUT", "/1/never", "committed");
        let ahead = [47, 48].map(|index| entry(NORMAL, 2, index, &write));
        records.splice(at..at, ahead);
    });
    rewind(&[&crashed], &dir.path().join("same"), &[]).exits(0);
    let refused = rewind(&[&crashed], &dir.path().join("no"), &["--to", "index:48"]).exits(3);
    refused.says("entries 47 to 48 are missing");
}

/// A cluster of three 2.1 members with the logs and raft snapshots that a story needs.
struct SmallCluster {
    store: StoreImage,
    /// The records of entries, from 1 on.
    entries: Vec<(u64, Vec<u8>)>,
}

impl SmallCluster {
    fn new() -> Self {
        let mut found = Self {
            store: StoreImage::new(2),
            entries: Vec::new(),
        };
        for change in bootstrap(&members(), Some("2.1.0")) {
            let (kind, data) = change.entry();
            let index = found.entries.len() as u64 + 1;
            found.entries.push(entry(kind, 1, index, &data));
            change.apply(&mut found.store);
        }
        found
    }

    fn put(&mut self, path: &str, value: &str) {
        let index = self.entries.len() as u64 + 1;
        self.entries
            .push(entry(NORMAL, 1, index, &request("PUT", path, value)));
        self.store.set(path, value);
    }

    /// A member's data dir, with a raft snapshot of its present state by default.
    fn write(&self, dir: &Path, member: usize, with_snapshot: bool) -> PathBuf {
        let (id, _, _) = members()[member];
        let (wal, snap) = (dir.join("member/wal"), dir.join("member/snap"));
        make_dir(&wal);
        make_dir(&snap);
        let last = self.entries.len() as u64;
        let mut all = vec![(METADATA, encode::metadata(id, encode::CLUSTER_ID))];
        let marker = |index, term| {
            (
                MARKER,
                encode::Message::new().uint(1, index).uint(2, term).finish(),
            )
        };
        all.push(marker(0, 0));
        all.extend(self.entries.iter().cloned());
        all.push(hard_state(1, id, last));
        if with_snapshot {
            let ids = members().map(|(id, _, _)| id);
            let file = raft_snapshot(1, last, &ids, &self.store.to_json());
            write_file(&snap.join(snap_name(1, last)), 0o644, &file);
            all.push(marker(last, 1));
        }
        write_segment(&wal.join(segment_name(0, 0)), 0, &all);
        dir.to_owned()
    }
}

#[test]
fn a_move_that_is_not_known_to_be_committed_is_left_out_too() {
    // Guards against an entry that becomes committed with the first leader and moves the cluster after all.
    let dir = TempDir::new().unwrap();
    let mut cluster = SmallCluster::new();
    cluster.put("/1/a", "1");
    let kept = cluster.entries.len();
    cluster.put("/0/version", "2.2.0");
    cluster.put("/1/b", "2");
    let source = cluster.write(&dir.path().join("source"), 0, false);
    rewrite(&source, |records| {
        records.retain(|(kind, _)| *kind != HARD_STATE);
        records.push(hard_state(1, 0, kept as u64));
    });
    let told = rewind(&[&source], &dir.path().join("out"), &[])
        .exits(0)
        .json();
    assert_eq!(told["to_raft_index"], kept);
    assert_eq!(
        told["moved"],
        json!({"version": "2.2.0", "set_at_raft_index": kept + 1, "committed": false})
    );
    assert_eq!(told["lost"]["committed"]["entries"], 0);
    assert_eq!(told["lost"]["client_writes"], 1);
    let heard: Vec<_> = told["lost"]["members_unheard"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member["name"].clone())
        .collect();
    assert_eq!(heard, ["infra2", "infra0"]);
    for archive in archives(&told).values() {
        assert_eq!(
            values(&keys(archive)),
            [("/a".to_owned(), json!("1"))].into()
        );
    }
}

#[test]
fn members_of_one_name_get_archives_of_their_own() {
    // Guards against one archive that takes the place of another's, where a name was given twice.
    let dir = TempDir::new().unwrap();
    let mut cluster = SmallCluster::new();
    for (id, _, _) in members() {
        let attributes = r#"{"name":"default","clientURLs":["http://10.0.1.1:2379"]}"#;
        cluster.put(&format!("/0/members/{id:x}/attributes"), attributes);
    }
    let source = cluster.write(&dir.path().join("source"), 1, true);
    let told = rewind(&[&source], &dir.path().join("out"), &[])
        .exits(0)
        .json();
    let made = archives(&told);
    assert_eq!(made.len(), 3);
    for (id, archive) in made {
        let name = archive.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with(&format!("etcd-{id:x}-")), "{name}");
    }
    let two = rewind(&[&source], &dir.path().join("no"), &["--single", "default"]).exits(2);
    let message = two.json_error()["message"].as_str().unwrap().to_owned();
    assert_has(&message, "3 members named `default` as of entry");
    let (id, _, _) = members()[0];
    rewind(
        &[&source],
        &dir.path().join("one"),
        &["--single", &format!("{id:x}")],
    )
    .exits(0);
}

#[test]
fn the_plan_is_told_in_pictures_and_plain_words() {
    // Guards against a plan that only a script can read: it is read at night, by someone who is in a hurry.
    let story = unpack("upgrade-story");
    let [one, two, three] = step(&story, "3-after-upgrade");
    let line = "rewind --dry-run --base infra0 {} {} {}";
    let told = typed(line, &[&one, &two, &three]).exits(0);
    for text in [
        "rewind of cluster aa1662aca318a75f to entry 450",
        "the last before 2.2.0, which entry 451 set",
        "2026-11-22 07:10:56 UTC by the log's own clock, which ends at 2026-11-22 07:11:00",
        "  1 infra0    ━━━━━━━━━━━━◆━━━━━━━━━━━◆━━━━━━━━━━━━◆━━━━━━━━━━━◆━━━━━━━━━━━━",
        "  kept        ════════════════════════════════════════════════════════ 450",
        "raft snapshot at index 404 of term 4 of input 1",
        "233 keys, X-Etcd-Index 324, goes back from 359",
        "lost       48 entries, 37 of them client writes; 48 of the entries and 37 of the client writes are known to be committed",
        "/app/inorder/00000000000000000297, so named by infra0, infra1, infra2, becomes /app/inorder/297",
        "all committed up to 450",
        "nothing was written",
    ] {
        assert!(
            told.stdout.contains(text),
            "no {text:?} in\n{}",
            told.stdout
        );
    }
    assert_has(&told.stderr, "warning: 12 in-order keys get another name");
}
