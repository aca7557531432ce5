//! A whole cluster taken back to one moment, held against what real servers answered when that was done by hand.
//!
//! Expectations come from recorded answers, from the tests' own reading of the bytes, and from a real etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::faults::{Blow, Call, Story, ensure, ensure_no_staging, strike_everywhere};
use crate::support::ark::{Ran, ark, names, run, snapshot, tool};
use crate::support::decode::number;
use crate::support::encode::{
    CONF_CHANGE, CRC, ENTRY, HARD_STATE, MARKER, METADATA, NORMAL, REMOVE_NODE, SegmentBuilder,
    StoreImage, UPDATE_NODE, bootstrap, make_dir, members, raft_snapshot, request, segment_name,
    small_member, snap_name, write_file,
};
use crate::support::etcd::{Addresses, Etcd};
use crate::support::recordings::{Recording, copy_dir, tree, unpack};
use crate::support::tools::{archives_in, fast_dir, names_in, need};
use crate::support::{decode, encode};

/// `rewind` of `targets` with further flags.
pub(crate) fn rewind(targets: &[&Path], out: &Path, flags: &[&str]) -> Ran {
    let mut args: Vec<OsString> = vec!["--json".into(), "rewind".into()];
    args.extend(targets.iter().map(Into::into));
    args.extend(["--out".into(), out.into()]);
    args.extend(flags.iter().map(OsString::from));
    ark(args)
}

/// The new archives by the id of their member.
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

/// Takes `ttl`, which counts down, out of every node of an answer.
fn without_ttl(mut answer: Value) -> Value {
    fn strip(node: &mut Value) {
        if let Some(node) = node.as_object_mut() {
            node.remove("ttl");
            let children = node.get_mut("nodes").and_then(Value::as_array_mut);
            children.into_iter().flatten().for_each(strip);
        }
    }
    strip(&mut answer["node"]);
    answer
}

/// The values of all keys, by name.
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

fn paths(paths: &[PathBuf]) -> Vec<&Path> {
    paths.iter().map(PathBuf::as_path).collect()
}

const INFRA0: u64 = 0x8998_a2fa_ce6f_b7ba;
const INFRA1: u64 = 0x4c06_8e21_e5a0_8be2;
const INFRA2: u64 = 0x4971_f327_a240_69a9;
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
    // Guards against an archive that no one can tell from a member's own, and a restore that asks the wrong cluster.
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
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("10 in-order keys"),
        "{error}"
    );
    assert!(
        error["hint"].as_str().unwrap().contains("--base"),
        "{error}"
    );
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
    assert!(
        told["warnings"][0]
            .as_str()
            .unwrap()
            .contains("12 in-order keys get another name")
    );
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
    assert!(
        message.contains("not one history, from entry 320 on"),
        "{message}"
    );
    for path in [&forged, &three] {
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }
    assert!(!message.contains("2-backup-infra0"), "{message}");
    assert!(!out.exists());
    // It says nothing about what lies below: without the forged one all is well.
    rewind(&[&one, &three], &out, &[]).exits(0);
}

#[test]
fn tails_that_nobody_knows_to_be_committed_may_differ_and_the_most_up_to_date_log_wins() {
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
    assert!(
        told["warnings"][0]
            .as_str()
            .unwrap()
            .contains("436 to 436 are not known")
    );
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
    assert!(
        message.contains("above the newest, at 303, entries 344 to 349 are missing"),
        "{message}"
    );
    // One that begins right where the other ends may be of another history: nothing shows that it is not.
    let next = long_after(&story, &dir.path().join("next"), 344);
    let refused = rewind(&[&before, &next], &dir.path().join("no"), &[]).exits(3);
    let message = refused.json_error()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("at entry 343: neither has anything that the other has too"),
        "{message}"
    );
    // And the move itself: another one may be in what is missing, or it is there and nowhere else.
    let blind = long_after(&story, &dir.path().join("blind"), 455);
    for (log, by, missing) in [(&late, 451, "344 to 349"), (&blind, 460, "344 to 454")] {
        let refused = rewind(&[&before, log], &no, &[]).exits(3);
        let message = refused.json_error()["message"].as_str().unwrap().to_owned();
        let expected = format!(
            "which entry moved the cluster version to 2.2 or more cannot be told: as of entry 343 it was below, as of entry {by} it was not, and of the entries between, {missing} are missing; `--to index:343` goes back to before the move"
        );
        assert_eq!(message, expected);
        // As it says.
        let to = dir.path().join(format!("instead-{by}"));
        let told = rewind(&[&before, log], &to, &["--to", "index:343"]).exits(0);
        assert_eq!(told.json()["cluster_version"], "2.1.0");
    }
    assert!(names(dir.path()).iter().all(|name| name != "no"));
}

#[test]
fn a_log_with_a_hole_serves_on_either_side_of_it() {
    // Guards against entries made up for those that a received raft snapshot stands for.
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
    assert!(
        message.contains("entries 47 to 5000 are missing"),
        "{message}"
    );
}

const MEM_A: u64 = 0x5520_9a07_e772_ae46;
const MEM_B: u64 = 0x1512_e795_9dba_47fe;
const MEM_C: u64 = 0x866b_2327_9458_7293;
const MEM_D: u64 = 0x913b_1d8f_e935_3213;

/// The conf changes above `index` in an archive: kind, member, context.
fn conf_changes(data: &Path, index: u64) -> Vec<(u64, u64, String)> {
    let entries = decode::entries(&data.join("member/wal")).into_iter();
    let last = entries.filter(|(at, (kind, _))| *at > index && *kind == CONF_CHANGE);
    last.map(|(_, (_, data))| {
        let context = String::from_utf8(decode::bytes(&data, 4).to_vec()).unwrap();
        assert_eq!(number(&data, 1), 0, "nobody waits for the answer");
        (number(&data, 2), number(&data, 3), context)
    })
    .collect()
}

#[test]
fn members_removed_and_moved_are_conf_changes_at_the_end_of_the_log() {
    // Guards against a drill cluster that calls the members of the real one, and against new hosts nobody finds.
    let recordings = ["mem-a", "mem-b", "mem-d"].map(unpack);
    let dir = TempDir::new().unwrap();
    let sources = ["mem-a", "mem-b", "mem-d"];
    let sources: Vec<_> = recordings
        .iter()
        .zip(sources)
        .map(|(from, name)| from.data_dir(name))
        .collect();
    let sources = paths(&sources);
    let out = dir.path().join("alone");
    let new = "http://127.0.0.1:9380";
    let flags = ["--single", "mem-d", "--peer-url", &format!("mem-d={new}")];
    let told = rewind(&sources, &out, &flags).exits(0).json();
    assert_eq!(
        (&told["to_raft_index"], &told["last_raft_index"]),
        (&json!(73), &json!(76))
    );
    let made = archives(&told);
    assert_eq!(made.keys().copied().collect::<Vec<_>>(), [MEM_D]);
    let data = untar(&made[&MEM_D], &dir.path().join("data"));
    assert_eq!(
        conf_changes(&data, 73),
        [
            (REMOVE_NODE, MEM_A, String::new()),
            (REMOVE_NODE, MEM_C, String::new()),
            (
                UPDATE_NODE,
                MEM_D,
                format!(r#"{{"id":{MEM_D},"peerURLs":["{new}"]}}"#)
            ),
        ]
    );
    let terms: Vec<u64> = records(&data)
        .iter()
        .filter(|(kind, _)| *kind == ENTRY)
        .map(|(_, data)| number(data, 2))
        .collect();
    assert_eq!(terms[terms.len() - 4..], [2, 3, 3, 3], "{terms:?}");
    let inspected = ark([
        "--json".as_ref(),
        "inspect".as_ref(),
        made[&MEM_D].as_os_str(),
    ]);
    let member = inspected.exits(0).json()["facts"].take();
    let [only] = member["members"].as_array().unwrap().as_slice() else {
        panic!("{member:#}");
    };
    assert_eq!(
        (&only["name"], &only["peer_urls"]),
        (&json!("mem-d"), &json!([new]))
    );
    let removed: BTreeSet<_> = member["removed_members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        removed,
        [MEM_A, MEM_B, MEM_C].map(|id| format!("{id:x}")).into()
    );
    assert_eq!(
        without_ttl(keys(&made[&MEM_D])),
        without_ttl(recordings[0].json("mem-a.keys.json"))
    );

    // All keep their places, on new hosts; one takes the URL that another leaves.
    let moves = [
        "--peer-url",
        "mem-a=http://127.0.0.1:17380",
        "--peer-url",
        "mem-c=http://127.0.0.1:1,mem-c=http://127.0.0.1:2",
    ];
    let told = rewind(&sources, &dir.path().join("moved"), &moves)
        .exits(0)
        .json();
    let urls: BTreeMap<_, _> = told["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| {
            let name = member["member"]["name"].as_str().unwrap();
            (name.to_owned(), member["peer_urls"].clone())
        })
        .collect();
    assert_eq!(urls["mem-a"], json!(["http://127.0.0.1:17380"]));
    assert_eq!(
        urls["mem-c"],
        json!(["http://127.0.0.1:1", "http://127.0.0.1:2"])
    );
    assert_eq!(urls["mem-d"], json!(["http://127.0.0.1:18380"]));
    assert_eq!(archives(&told).len(), 3);
}

#[test]
fn before_a_member_left_it_gets_an_archive_too() {
    // Guards against the membership of today put onto the data of then.
    let recording = unpack("mem-a");
    let dir = TempDir::new().unwrap();
    let source = recording.data_dir("mem-a");
    for (to, members) in [
        ("index:73", vec![MEM_A, MEM_C, MEM_D]),
        ("index:49", vec![MEM_A, MEM_B, MEM_C, MEM_D]),
        ("index:20", vec![MEM_A, MEM_B, MEM_C]),
    ] {
        let out = dir.path().join(to);
        let told = rewind(&[&source], &out, &["--to", to]).exits(0).json();
        let found: BTreeSet<_> = archives(&told).into_keys().collect();
        assert_eq!(found, members.into_iter().collect(), "{to}");
    }
}

#[test]
fn what_a_user_gets_wrong_is_said_and_changes_nothing() {
    // Guards against a typo that takes away the wrong member, or lands in the wrong place.
    let recording = unpack("mem-a");
    let dir = TempDir::new().unwrap();
    let source = recording.data_dir("mem-a");
    let out = dir.path().join("out");
    let wrong = [
        (
            &["--single", "mem-x"][..],
            2,
            "no member is as of entry 73 called `mem-x`",
        ),
        (
            &["--peer-url", "mem-b=http://127.0.0.1:1"],
            2,
            "called `mem-b`",
        ),
        (
            &[
                "--single",
                "mem-a",
                "--peer-url",
                "mem-d=http://127.0.0.1:1",
            ],
            2,
            "mem-d is to be removed",
        ),
        (&["--peer-url", "mem-a=127.0.0.1:1"], 2, "not a peer URL"),
        (
            &["--peer-url", "mem-a=http://127.0.0.1:1/x"],
            2,
            "not a peer URL",
        ),
        (&["--peer-url", "mem-a"], 2, "of the form LEFT=RIGHT"),
        (
            &["--peer-url", "mem-a=http://127.0.0.1:17380"],
            3,
            "another member has one of them",
        ),
        (&["--base", "mem-d"], 2, "none of the inputs is of `mem-d`"),
        (
            &["--to", "index:74"],
            3,
            "the most up-to-date log ends at 73",
        ),
        (&["--to", "index:0"], 2, "a moment is"),
        (&["--to", "yesterday"], 2, "a moment is"),
        (
            &["--to", "last-before:2.1"],
            3,
            "was never below 2.1: the first that was decided, 2.1.0, was set by entry 9",
        ),
        (&["--wal-dir", "elsewhere=wal"], 2, "not one of the targets"),
    ];
    for (flags, code, message) in wrong {
        let refused = rewind(&[&source], &out, flags).exits(code);
        let error = refused.json_error();
        let text = error["message"].as_str().unwrap();
        assert!(text.contains(message), "{flags:?}: {error}");
    }
    let [taken, inside] = [dir.path().join("taken"), source.join("member/out")];
    make_dir(&taken);
    fs::write(taken.join("mine"), b"").unwrap();
    rewind(&[&source], &taken, &[]).exits(3);
    rewind(&[&source], &inside, &[]).exits(3);
    rewind(&[&source], &dir.path().join("no/where"), &[]).exits(10);
    let told = rewind(&[&source], &out, &["--dry-run"]).exits(0).json();
    assert_eq!(told["members"][0]["archive"], Value::Null);
    assert_eq!(names(dir.path()), ["taken"]);
    assert_eq!(names(&taken), ["mine"]);
    // An archive that is corrupt is worth nothing here either.
    let (archive, _) = snapshot(&source, &dir.path().join("taken"), &[]);
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes).unwrap();
    rewind(&[&source, &archive], &out, &[]).exits(4);
    assert!(!out.exists());
    // An empty directory is as good as none.
    make_dir(&out);
    rewind(&[&source], &out, &[]).exits(0);
    assert_eq!(names(&out).len(), 6);
}

#[test]
fn a_member_that_runs_is_not_taken_back_under_its_own_feet() {
    // Guards against a plan made of a log that goes on, and archives without what was written meanwhile.
    let recording = unpack("mem-a");
    let dir = TempDir::new().unwrap();
    let source = recording.data_dir("mem-a");
    let segment = decode::segments(&source.join("member/wal")).pop().unwrap();
    let held = fs::File::open(segment).unwrap();
    rustix::fs::flock(held.file(), rustix::fs::FlockOperation::LockExclusive).unwrap();
    let out = dir.path().join("out");
    let refused = rewind(&[&source], &out, &[]).exits(11);
    assert!(
        refused.json_error()["message"]
            .as_str()
            .unwrap()
            .contains("etcd runs on")
    );
    let told = rewind(&[&source], &out, &["--dry-run"]).exits(0).json();
    assert!(
        told["warnings"][0]
            .as_str()
            .unwrap()
            .contains("etcd runs on")
    );
    assert!(!out.exists());
}

#[test]
fn stores_that_differ_in_more_than_in_order_names_are_refused_whatever_the_base() {
    // Guards against damage, or a diverged member, that hides behind the in-order trap.
    let story = unpack("upgrade-story");
    let dir = TempDir::new().unwrap();
    let [_, _, source] = step(&story, "2-backup");
    let damaged = dir.path().join("damaged");
    copy_dir(&source, &damaged);
    let newest = decode::snaps(&damaged.join("member/snap")).pop().unwrap();
    let saved = decode::raft_snapshot(&fs::read(&newest).unwrap());
    let from = saved.json.find(r#""/1/app/config/"#).unwrap();
    let value = from + saved.json[from..].find(r#""Value":"v2"#).unwrap() + 9;
    let mut json = saved.json.clone().into_bytes();
    json[value] = b'x';
    fs::write(
        &newest,
        raft_snapshot(saved.term, saved.index, &saved.nodes, &json),
    )
    .unwrap();
    ark(["verify".as_ref(), damaged.as_os_str()]).exits(0);
    let out = dir.path().join("out");
    let path = damaged.to_str().unwrap();
    for flags in [&[][..], &["--base", "infra2"], &["--base", path]] {
        let refused = rewind(&[&source, &damaged], &out, flags).exits(3);
        let message = refused.json_error()["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains("not because of in-order names"),
            "{message}"
        );
        assert!(
            message.contains("1 keys differ") && message.contains("/1/app/config/"),
            "{message}"
        );
    }
    assert!(!out.exists());
}

#[test]
fn a_cluster_that_was_never_below_is_not_cut_to_its_first_entries() {
    // Guards against a default that empties a cluster born on a later release, and against a WAL dir that is forgotten.
    let recording = unpack("waldir");
    let dir = TempDir::new().unwrap();
    let (source, wal) = (recording.data_dir("waldir"), recording.path("waldir.wal"));
    let out = dir.path().join("out");
    rewind(&[&source], &out, &[]).exits(10);
    let pair = format!("{}={}", source.display(), wal.display());
    let refused = rewind(&[&source], &out, &["--wal-dir", &pair]).exits(3);
    let message = refused.json_error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("never below 2.2"), "{message}");
    let told = rewind(&[&source], &out, &["--wal-dir", &pair, "--to", "end"])
        .exits(0)
        .json();
    let (_, archive) = archives(&told).pop_first().unwrap();
    assert_eq!(
        without_ttl(keys(&archive)),
        without_ttl(recording.json("waldir.keys.json"))
    );
    assert_eq!(
        names(&untar(&archive, &dir.path().join("data")).join("member")),
        ["snap", "wal"]
    );
}

#[test]
fn keeping_the_cluster_id_is_possible_and_warned_of() {
    // Guards against an old member that comes back late and mixes in without a word.
    let recording = unpack("mem-a");
    let dir = TempDir::new().unwrap();
    let told = rewind(
        &[&recording.data_dir("mem-a")],
        &dir.path().join("out"),
        &["--keep-cluster-id"],
    );
    let told = told.exits(0).json();
    assert_eq!(told["new_cluster_id"], told["cluster_id"]);
    assert!(
        told["warnings"][0]
            .as_str()
            .unwrap()
            .contains("keeps its id")
    );
    let (_, archive) = archives(&told).pop_first().unwrap();
    let data = untar(&archive, &dir.path().join("data"));
    assert_eq!(
        decode::log(&data.join("member/wal")).cluster_id,
        0x1b3e_7184_1435_7104
    );
}

#[test]
fn a_long_log_is_cut_into_segments_as_etcd_cuts_it() {
    // Guards against a segment that etcd would never have written, which its next purge or start stumbles over.
    let recording = unpack("multisegment");
    let dir = TempDir::new().unwrap();
    let source = recording.data_dir("multisegment");
    for snap in decode::snaps(&source.join("member/snap")) {
        fs::remove_file(snap).unwrap();
    }
    let out = dir.path().join("out");
    let told = rewind(&[&source], &out, &["--to", "end"]).exits(0).json();
    let (id, archive) = archives(&told).pop_first().unwrap();
    let data = untar(&archive, &dir.path().join("data"));
    assert_framed_well(&data, false);
    let (old, new) = (source.join("member/wal"), data.join("member/wal"));
    assert!(decode::entries(&old) == decode::entries(&new));
    let (term, mut last) = (told["term"].as_u64().unwrap(), 0);
    let segments = decode::segments(&new);
    assert_eq!(segments.len(), 3);
    for (sequence, path) in segments.iter().enumerate() {
        assert_eq!(
            path.file_name().unwrap().to_str().unwrap(),
            segment_name(sequence as u64, if sequence == 0 { 0 } else { last + 1 })
        );
        let frames = decode::frames(&fs::read(path).unwrap());
        assert_eq!([frames[0].kind, frames[1].kind], [CRC, METADATA]);
        assert_eq!(number(&frames[1].data, 1), id);
        let state = |frame: &decode::FrameRead| {
            (
                frame.kind,
                [1, 2, 3].map(|field| number(&frame.data, field)),
            )
        };
        if sequence > 0 {
            assert_eq!(state(&frames[2]), (HARD_STATE, [term, 0, last]));
        }
        let entries = frames.iter().filter(|frame| frame.kind == ENTRY);
        last = number(&entries.clone().next_back().unwrap().data, 3);
        assert_eq!(state(frames.last().unwrap()), (HARD_STATE, [term, 0, last]));
        if sequence + 1 < segments.len() {
            // The last entry crosses 64 MB; the one before it does not.
            let crossing = entries.clone().next_back().unwrap();
            assert!(crossing.end >= 64_000_000 && crossing.offset < 64_000_000);
        }
    }
}

/// A cluster of three 2.1 members whose logs and raft snapshots are as a story needs them.
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

    /// A member's data dir, with a raft snapshot of now unless it is told not to.
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
    assert!(message.contains("3 members are as of entry"), "{message}");
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
    let mut args: Vec<OsString> = vec![
        "rewind".into(),
        "--dry-run".into(),
        "--base".into(),
        "infra0".into(),
    ];
    args.extend([&one, &two, &three].map(Into::into));
    let told = ark(args).exits(0);
    for text in [
        "cluster aa1662aca318a75f taken back to entry 450",
        "the last before 2.2.0, which entry 451 set",
        "2026-11-22T07:10:56.996304394Z by the log's own clock, which goes on to 2026-11-22T07:11:00",
        "  1 infra0    ━━━━━━━━━━━━◆━━━━━━━━━━━◆━━━━━━━━━━━━◆━━━━━━━━━━━◆━━━━━━━━━━━━",
        "  kept        ════════════════════════════════════════════════════════ 450",
        "raft snapshot at index 404 of term 4 of input 1",
        "233 keys, X-Etcd-Index 324, goes back from 359",
        "lost       48 entries, 37 of them client writes (48 and 37 known to be committed)",
        "/app/inorder/297, now /app/inorder/00000000000000000297 on infra0, infra1, infra2",
        "all committed up to 450",
        "nothing was written",
    ] {
        assert!(
            told.stdout.contains(text),
            "no {text:?} in\n{}",
            told.stdout
        );
    }
    assert!(
        told.stderr
            .contains("warning: 12 in-order keys get another name"),
        "{told:?}"
    );
}

/// A `rewind` of the small member: of an archive of it to a cluster of one, struck at every call, or of its data dir to all
/// three members, killed at every call that makes something.
struct RewindStory {
    template: PathBuf,
    single: bool,
}

impl RewindStory {
    /// Where the results are: the first run's, and the next one's if the first was done.
    fn outs(root: &Path) -> [PathBuf; 2] {
        ["out", "out-2"].map(|name| root.join("results").join(name))
    }
}

impl Story for RewindStory {
    fn prepare(&self, root: &Path) {
        make_dir(&root.join("data"));
        copy_dir(&self.template, &root.join("data/input"));
        make_dir(&root.join("results"));
        let source = format!("{:?}", tree(&root.join("data")));
        fs::write(root.with_extension("before"), source).unwrap();
    }

    fn args(&self, root: &Path) -> Vec<OsString> {
        let [out, _] = Self::outs(root);
        let mut args: Vec<OsString> = vec!["rewind".into(), "--threads".into(), "1".into()];
        let input = root.join("data/input");
        // Of a data dir `/proc/locks` is read, in as many calls as it takes on that day.
        let input = archives_in(&input).pop().unwrap_or(input);
        args.extend([input.into(), "--out".into(), out.into()]);
        args.extend(["--to".into(), "end".into()]);
        if self.single {
            args.extend(["--single".into(), "infra0".into()]);
        }
        args
    }

    fn blows(&self, call: &Call) -> Vec<Blow> {
        if self.single {
            call.blows()
        } else {
            // Half a set is what three archives add to the story.
            call.creates().then_some(Blow::Kill).into_iter().collect()
        }
    }

    fn judge(
        &self,
        root: &Path,
        struck: Option<(&Call, Blow)>,
        ran: &crate::support::tools::Ran,
    ) -> Result<(), String> {
        let before = fs::read_to_string(root.with_extension("before")).unwrap();
        let after = format!("{:?}", tree(&root.join("data")));
        ensure(before == after, || "the source was touched".to_owned())?;
        let wanted = if self.single { 1 } else { 3 };
        for out in Self::outs(root).iter().filter(|out| out.exists()) {
            let made = archives_in(out);
            ensure(
                made.len() == wanted && names_in(out).len() == 2 * wanted,
                || format!("half a set: {:?}", names_in(out)),
            )?;
            for archive in made {
                let verified = ark([OsString::from("verify"), archive.into()]);
                ensure(verified.code == Some(0), || {
                    format!("a broken archive: {verified:?}")
                })?;
            }
        }
        let [out, _] = Self::outs(root);
        ensure(ran.code != 0 || out.exists(), || {
            "done, and no result".to_owned()
        })?;
        ensure(struck.is_some() || ran.code == 0, || {
            "it does not work any more".to_owned()
        })?;
        ensure_no_staging(&root.join("results"), struck, ran)
    }

    fn next_args(&self, root: &Path) -> Vec<OsString> {
        let [out, next] = Self::outs(root);
        let mut args = self.args(root);
        if out.exists() {
            for arg in &mut args {
                if *arg == *out.as_os_str() {
                    *arg = next.clone().into();
                }
            }
        }
        args
    }
}

#[test]
fn a_rewind_struck_anywhere_leaves_a_whole_set_or_none() {
    // Guards against half a set of archives: the cluster restored from it would have members of two incarnations.
    if !need("strace") {
        return;
    }
    let dir = fast_dir("ark-rewind-");
    let (member, archive) = (dir.path().join("member"), dir.path().join("archive"));
    small_member(&member);
    snapshot(&member, &archive, &[]);
    let mut blows = 0;
    for (template, single) in [(archive, true), (member, false)] {
        blows += strike_everywhere(&RewindStory { template, single });
    }
    println!("rewind: {blows} blows");
    assert!(blows > 50, "only {blows}");
}

fn need_etcd() -> bool {
    need("etcd") && need("etcdctl")
}

#[test]
fn a_rewound_archive_for_2_1_brings_the_segments_home_where_the_member_had_a_wal_dir() {
    // Guards against the segments in a WAL dir that 2.1 does not know: it would start an empty member, healthy and without keys.
    let story = unpack("upgrade-story");
    let dir = TempDir::new().unwrap();
    let backups = step(&story, "2-backup");
    let told = rewind(&paths(&backups), &dir.path().join("out"), &[]);
    let archive = archives(&told.exits(0).json())[&INFRA0].clone();
    let (data, wal) = (dir.path().join("data"), dir.path().join("wal"));
    copy_dir(&backups[0], &data);
    fs::rename(data.join("member/wal"), &wal).unwrap();
    let with_wal_dir = |command: &str| {
        let mut args: Vec<OsString> = vec!["--json".into(), command.into(), data.clone().into()];
        args.extend(["--wal-dir".into(), wal.clone().into()]);
        ark(args)
    };
    let before = with_wal_dir("keys").exits(0).json();

    let mut args: Vec<OsString> = vec!["--json".into(), "restore".into(), archive.clone().into()];
    args.extend(["--data-dir".into(), data.clone().into()]);
    args.extend(["--wal-dir".into(), wal.clone().into()]);
    args.extend(["--replace".into(), "--offline".into()]);
    let ran = ark(args).exits(0);
    let warnings = ran.json()["warnings"].to_string();
    assert!(
        warnings.contains("start etcd without --wal-dir"),
        "{warnings}"
    );
    assert_eq!(keys(&data), keys(&archive));
    let verified = ark(["--json".as_ref(), "verify".as_ref(), data.as_os_str()]);
    let starts = verified.exits(0).json();
    assert_eq!(starts["targets"][0]["starts"]["2.1"], "yes", "{starts}");
    // An etcd that is still started with the WAL dir finds a note there, and does not take the member for a new one.
    let left = names(&wal);
    assert!(
        left.len() == 2 && left[0].starts_with("before-restore-"),
        "{left:?}"
    );
    assert_eq!(left[1], "moved-to-member-wal.wal");

    for command in ran.json()["undo"].as_array().unwrap() {
        run(crate::support::ark::clean("sh").args(["-c", command.as_str().unwrap()])).exits(0);
    }
    assert_eq!(with_wal_dir("keys").exits(0).json(), before);
}

fn restore(archive: &Path, data_dir: &Path) {
    let mut command = crate::support::ark::clean(crate::support::ark::BINARY);
    command
        .arg("restore")
        .arg(archive)
        .arg("--data-dir")
        .arg(data_dir);
    run(&mut command).exits(0);
}

/// The keys of both APIs; the v3 header's revision is the same on all members.
fn all_keys(server: &Etcd) -> (String, String) {
    server.all_keys()
}

#[test]
fn three_real_3x_members_come_back_from_one_rewind_with_every_key() {
    // Guards against archives that read well and that no etcd starts from, or as a cluster that does not agree.
    if !need_etcd() {
        return;
    }
    let dir = TempDir::with_prefix("ark-rewind-real-").unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    make_dir(&old);
    make_dir(&new);
    let members = ["one", "two", "three"].map(|name| (name, Addresses::free()));
    let servers = Etcd::start_cluster(&old, &members);
    for number in 0..70 {
        servers[number % 3].set_v2(&format!("app/key-{number}"), &format!("value-{number}"));
    }
    for number in 0..4 {
        servers[number % 3].set_v3(&format!("/v3/key-{number}"), "x");
    }
    let keys = all_keys(&servers[0]);
    servers.into_iter().for_each(Etcd::stop);

    let sources = members.map(|(name, _)| old.join(name));
    let out = dir.path().join("out");
    let cut = rewind(&paths(&sources), &out, &["--to", "index:30"]).exits(3);
    let message = cut.json_error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("cannot be cut back"), "{message}");
    // On new hosts, as after the loss of a site.
    let moved = ["one", "two", "three"].map(|name| (name, Addresses::free()));
    let urls = moved.map(|(name, own)| format!("{name}=http://{}", own.peer));
    let urls = urls.join(",");
    let told = rewind(
        &paths(&sources),
        &out,
        &["--to", "end", "--peer-url", &urls],
    );
    let told = told.exits(0).json();
    for member in told["members"].as_array().unwrap() {
        let name = member["member"]["name"].as_str().unwrap();
        let archive = PathBuf::from(member["archive"].as_str().unwrap());
        ark(["verify".as_ref(), "--deep".as_ref(), archive.as_os_str()]).exits(0);
        assert_framed_well(
            &untar(&archive, &dir.path().join(format!("tar-{name}"))),
            true,
        );
        restore(&archive, &new.join(name));
    }
    let servers = Etcd::start_cluster(&new, &moved);
    for server in &servers {
        assert_eq!(all_keys(server), keys);
    }
    servers[0].set_v2("app/afterwards", "it lives");
    servers[1].set_v3("/v3/afterwards", "it lives");
    let found: BTreeSet<_> = servers.iter().map(all_keys).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    servers.into_iter().for_each(Etcd::stop);

    // And one of them alone, for a drill.
    let drill = dir.path().join("drill");
    let alone = [("two", Addresses::free())];
    let url = format!("two=http://{}", alone[0].1.peer);
    let flags = ["--to", "end", "--single", "two", "--peer-url", &url];
    let told = rewind(&paths(&sources), &drill, &flags).exits(0).json();
    let (_, archive) = archives(&told).pop_first().unwrap();
    let data = dir.path().join("alone");
    make_dir(&data);
    restore(&archive, &data.join("two"));
    let servers = Etcd::start_cluster(&data, &alone);
    assert_eq!(all_keys(&servers[0]).0, keys.0);
    servers[0].set_v2("app/drill", "it writes alone");
}

#[test]
fn a_real_server_starts_on_a_rewound_log_of_2x_and_answers_what_2_1_3_answered() {
    // Guards against a log of 2.x that only our own reader takes. 3.4 starts on one from the very beginning, without a raft
    // snapshot (which it would want a `snap/db` for), and names in-order keys as 2.2 does.
    if !need_etcd() {
        return;
    }
    let story = unpack("upgrade-story");
    let dir = TempDir::with_prefix("ark-rewind-real-").unwrap();
    let [source, _, _] = step(&story, "2-backup");
    for snap in decode::snaps(&source.join("member/snap")) {
        fs::remove_file(snap).unwrap();
    }
    let own = [("infra1", Addresses::free())];
    let url = format!("infra1=http://{}", own[0].1.peer);
    let out = dir.path().join("out");
    let told = rewind(
        &[&source],
        &out,
        &["--single", "infra1", "--peer-url", &url],
    );
    let told = told.exits(0).json();
    assert_eq!(told["base"]["raft_snapshot"], Value::Null);
    let made = archives(&told);
    restore(&made[&INFRA1], &dir.path().join("infra1"));
    let servers = Etcd::start_cluster(dir.path(), &own);
    let answer: Value = serde_json::from_str(&servers[0].all_keys().0).unwrap();
    let expected = story.json("2-backup-infra0.keys.json");
    assert_eq!(with_plain_names(&answer), values(&expected));
}
