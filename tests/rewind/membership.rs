//! Members that were removed, moved or never started: which of them get an archive, and with which log.

use super::{
    CONF_CHANGE, ENTRY, REMOVE_NODE, UPDATE_NODE, archives, keys, number, paths, records, rewind,
    untar, without_ttl,
};
use crate::support::prelude::*;

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
    // Guards against a test cluster that connects to the members of the real one, and against unreachable new hosts.
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
    let records = records(&data).into_iter();
    let entries = records.filter(|(kind, _)| *kind == ENTRY);
    let terms: Vec<u64> = entries.map(|(_, data)| number(&data, 2)).collect();
    assert_eq!(terms[terms.len() - 4..], [2, 3, 3, 3], "{terms:?}");
    let inspected = typed("--json inspect {}", &[&made[&MEM_D]]);
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
    let made = archives(&told);
    assert_eq!(made.len(), 3);

    // Back to before they moved: members at URLs that they have left find no other member, and no server says why.
    let made: Vec<&Path> = made.values().map(PathBuf::as_path).collect();
    let out = dir.path().join("moved-back");
    let flags = ["--to", "index:73", "--dry-run"];
    let plan = rewind(&made, &out, &flags).exits(0).json();
    let warnings = plan["warnings"].to_string();
    for moved in [
        "mem-a was at http://127.0.0.1:15380 at that entry and is at http://127.0.0.1:17380 now: if it stays there, add `--peer-url mem-a=http://127.0.0.1:17380`",
        "mem-c was at http://127.0.0.1:17380 at that entry and is at http://127.0.0.1:1,http://127.0.0.1:2 now",
    ] {
        assert_has(&warnings, moved);
    }
    assert!(!warnings.contains("mem-d was"), "{warnings}");
    let plan = rewind(&made, &out, &[&flags[..], &moves].concat()).exits(0);
    let warnings = plan.json()["warnings"].to_string();
    assert!(!warnings.contains("was at"), "{warnings}");
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
fn members_with_tls_are_restored_with_the_certificate_of_a_client() {
    // Guards against printed restores that each end with "cannot determine whether the cluster runs".
    let recording = unpack("mem-d");
    let dir = TempDir::new().unwrap();
    let line = "rewind {} --to end --single mem-d --out {}";
    let told = |out: &str, more: &[&str]| {
        let paths: [&dyn AsRef<OsStr>; 2] = [&recording.data_dir("mem-d"), &dir.path().join(out)];
        typed_with(line, &paths, more).exits(0).stdout
    };
    assert!(!told("plain", &[]).contains("--cacert"));
    let https = told("https", &["--peer-url", "mem-d=https://127.0.0.1:1"]);
    assert_has(&https, "with the --cacert, --cert and --key of a client");
}
