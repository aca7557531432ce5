//! `verify --deep`: each raft snapshot compared with the log that leads to it.

use super::{encode, posts, run};
use crate::support::prelude::*;

#[test]
fn every_raft_snapshot_recorded_is_what_the_log_leads_to() {
    // Guards against a deep verification that finds fault with what real servers wrote.
    let mut servers: Vec<&Server> = SINGLE.iter().collect();
    let removed = Server::alone("mem-b");
    servers.push(&removed);
    for server in servers {
        let rules = if matches!(
            server.recording,
            "ops-2.2" | "v23" | "waldir" | "multisegment"
        ) {
            "2.2"
        } else {
            "2.1"
        };
        let recording = unpack(server.recording);
        assert_deeply_sound(server, &recording, |_| rules);
    }
}

#[test]
fn every_raft_snapshot_of_the_upgrade_is_what_the_binary_of_its_time_made() {
    // Guards against the in-order names of one release called damage in a log that two releases wrote.
    let recording = unpack("upgrade-story");
    for (number, server) in UPGRADE.iter().enumerate() {
        // What was there before a member's own upgrade is of 2.1, and all else of 2.2.
        let before = recording
            .data_dir(&format!("2-backup-infra{}", number % 3))
            .join("member/snap");
        let before: BTreeSet<u64> = decode::snaps(&before)
            .iter()
            .map(|path| decode::second_word(path))
            .collect();
        assert_deeply_sound(server, &recording, |index| {
            if before.contains(&index) {
                "2.1"
            } else {
                "2.2"
            }
        });
    }
}

/// Verifies a recorded directory and its archives deeply; `rules` are those by which a raft snapshot took what came after
/// the one before it.
fn assert_deeply_sound(
    server: &Server,
    recording: &Recording,
    rules: impl Fn(u64) -> &'static str,
) {
    let scratch = TempDir::new().unwrap();
    let [data, live, all] = server.targets(recording, scratch.path());
    let wal = Source::of(recording, server.dir).wal_dir();
    let entries = decode::entries(&wal);
    let in_dir: Vec<u64> = decode::snaps(&data.path.join("member/snap"))
        .iter()
        .map(|path| decode::second_word(path))
        .collect();
    let newest = in_dir.last().copied();
    let commit = decode::log(&wal).commit.max(newest.unwrap_or(0));
    // By which rules each POST was applied for good: what is in a raft snapshot is not applied again.
    let posted: BTreeMap<u64, &str> = posts(recording, server.dir)
        .iter()
        .filter_map(|post| {
            let covering = in_dir.iter().find(|index| **index >= post.raft_index)?;
            Some((post.raft_index, rules(*covering)))
        })
        .collect();
    for (target, held) in [
        (data, in_dir.clone()),
        (live, newest.into_iter().collect()),
        (all, in_dir.clone()),
    ] {
        let what = &target.what;
        let told = run(&["--json", "verify", "--deep"], &target.path, &target.flags);
        let told = told.exits(0).json();
        let deep = &told["targets"][0]["deep"];
        assert_eq!(deep["to_raft_index"], json!(commit), "{what}: {deep}");
        assert!(
            deep["from_raft_index"].as_u64().unwrap() <= commit,
            "{what}: {deep}"
        );
        let mut listed: BTreeMap<u64, &Value> = BTreeMap::new();
        for found in deep["raft_snapshots"].as_array().unwrap() {
            listed.insert(found["raft_index"].as_u64().unwrap(), found);
        }
        // The oldest has nothing before it but, at best, the empty store.
        for (number, &index) in held.iter().enumerate() {
            let before = number.checked_sub(1).map_or(0, |number| held[number]);
            let led_to = (before + 1..=index).all(|index| entries.contains_key(&index));
            let Some(found) = listed.remove(&index) else {
                let nothing_to_check = number == 0 || !led_to;
                assert!(nothing_to_check, "{what}: {index} is not in {deep}");
                continue;
            };
            let rules: BTreeSet<&str> = posted
                .range(before + 1..=index)
                .map(|(_, rules)| *rules)
                .collect();
            assert_snapshot_is_true(found, &rules, what);
        }
        assert!(listed.is_empty(), "{what}: {listed:?}");
    }
}

/// A raft snapshot that equals its replay; only POSTs tell by which rules, and those of both cannot be told apart entry by
/// entry.
fn assert_snapshot_is_true(found: &Value, rules: &BTreeSet<&str>, what: &str) {
    if rules.len() == 2 {
        assert_eq!(found["in_order_rules"], "mixed", "{what}: {found}");
        return;
    }
    assert_eq!(found["equal"], true, "{what}: {found}");
    assert_eq!(found["differences"], 0, "{what}: {found}");
    if let Some(rules) = rules.first() {
        assert_eq!(found["in_order_rules"], *rules, "{what}: {found}");
    }
}

/// Makes the store's JSON into one that is not true.
type Alter<'a> = &'a dyn Fn(&str) -> String;

#[test]
fn a_raft_snapshot_that_is_not_what_the_log_leads_to_is_found() {
    // Guards against a store that was altered with all its checksums made right: only a replay can tell.
    let recording = unpack("upgrade-story");
    let source = recording.data_dir("2-backup-infra1");
    let snaps = decode::snaps(&source.join("member/snap"));
    assert_eq!(snaps.len(), 3);
    let (middle, newest) = (snaps[1].as_path(), snaps[2].as_path());
    let older = decode::raft_snapshot(&fs::read(&snaps[0]).unwrap()).json;
    let altered: [(&str, &Path, Alter); 8] = [
        ("a value", middle, &|json| {
            behind_a_key(json, r#""Value":""#, "x")
        }),
        ("a value", newest, &|json| {
            behind_a_key(json, r#""Value":""#, "x")
        }),
        ("an index of a key", middle, &|json| {
            behind_a_key(json, r#""ModifiedIndex":"#, "1")
        }),
        ("an index of creation", middle, &|json| {
            behind_a_key(json, r#""CreatedIndex":"#, "1")
        }),
        ("an expiry", middle, &|json| {
            replaced(json, r#""ExpireTime":"2036"#, r#""ExpireTime":"2037"#)
        }),
        ("the store's index", middle, &|json| {
            replaced(json, r#","CurrentIndex":"#, r#","CurrentIndex":1"#)
        }),
        ("a key is gone", newest, &without_a_key),
        ("the store of an older one", newest, &|_| older.clone()),
    ];
    for (what, path, alter) in altered {
        let scratch = TempDir::new().unwrap();
        let data = scratch.path().join("data");
        copy_dir(&source, &data);
        let path = data.join("member/snap").join(path.file_name().unwrap());
        let read = decode::raft_snapshot(&fs::read(&path).unwrap());
        let json = alter(&read.json);
        assert_ne!(json, read.json, "{what}");
        let file = encode::raft_snapshot(read.term, read.index, &read.nodes, json.as_bytes());
        fs::write(&path, file).unwrap();
        // The bytes check; what they say is not true.
        run::<&str>(&["verify"], &data, []).exits(0);
        let found = run::<&str>(&["verify", "--deep"], &data, []).exits(4);
        let said = found.stdout.clone() + &found.stderr;
        let name = encode::snap_name(read.term, read.index);
        assert!(
            said.contains(&name) || said.contains(&read.index.to_string()),
            "{what}: {said}"
        );
        let told = run::<&str>(&["--json", "verify", "--deep"], &data, []);
        assert_eq!(told.code, 4, "{what}: {told:#?}");
        let listed = told.json()["targets"][0]["deep"]["raft_snapshots"].clone();
        let fault = listed
            .as_array()
            .unwrap()
            .iter()
            .find(|found| found["raft_index"] == json!(read.index) && found["equal"] == false);
        let fault = fault.unwrap_or_else(|| panic!("{what}: {listed}"));
        assert!(fault["differences"].as_u64() > Some(0), "{what}: {fault}");
        // Nor does it help to put it into an archive.
        let (archive, _) = snapshot(&data, &scratch.path().join("backups"), &["--all"]);
        run::<&str>(&["verify", "-q"], &archive, []).exits(0);
        let told = run::<&str>(&["verify", "--deep"], &archive, []);
        assert_eq!(told.code, 4, "{what}, archived: {told:#?}");
    }
}

/// Puts `more` behind `field` in the first key below `/1/app`.
fn behind_a_key(json: &str, field: &str, more: &str) -> String {
    let key = json.find(r#""Path":"/1/app/"#).unwrap();
    let end = key + json[key..].find(r#""Children":null"#).unwrap();
    let at = json[..end].rfind(field).unwrap() + field.len();
    format!("{}{more}{}", &json[..at], &json[at..])
}

fn replaced(json: &str, old: &str, new: &str) -> String {
    assert!(json.contains(old), "no {old}");
    json.replacen(old, new, 1)
}

/// Takes the first key below `/1/app` out.
fn without_a_key(json: &str) -> String {
    // Text that stands in a value has its quotes escaped, so that none of these can be inside one.
    let leaf = r#","Children":null}"#;
    let app = json.find(r#""Path":"/1/app/"#).unwrap();
    let end = app + json[app..].find(leaf).unwrap() + leaf.len();
    let path = json[..end].rfind(r#":{"Path":""#).unwrap();
    let name = json[..path - 1].rfind('"').unwrap();
    if json[end..].starts_with(',') {
        format!("{}{}", &json[..name], &json[end + 1..])
    } else {
        let before = json[..name].trim_end_matches(',');
        format!("{before}{}", &json[end..])
    }
}
