//! A member that published its attributes after its removal: no server starts from such data, and a rewind brings the
//! cluster back.
//!
//! Expectations come from data of real servers, from an encoder of the tests' own, and from a real 2.1 if the
//! environment names one.

use etcd_ark::data_dir::start::start_verdicts;

use crate::rewind::{archives, entry, hard_state, keys, rewind, rewrite, untar};
use crate::support::encode::{NORMAL, request};
use crate::support::prelude::*;

const MEM_B: &str = "1512e7959dba47fe";

/// Fails unless 2.1 starts from every archive, with as many keys as the tool lists, and lists those of `expected`.
fn assert_all_start(told: &Value, work: &Path, expected: &Value) {
    let made = archives(told);
    assert!(!made.is_empty());
    for (id, archive) in &made {
        assert_eq!(&keys(archive), expected);
        let data = untar(archive, &work.join(format!("{id:x}")));
        for (line, verdict) in start_verdicts(&data, None, false).unwrap() {
            assert!(verdict.is_yes(), "{line}: {verdict:?}");
        }
    }
}

fn dead(name: &str) -> (crate::support::recordings::Recording, PathBuf) {
    let recording = unpack("dead-members");
    let archive = recording.path(format!("dead-members/{name}.tar.zst"));
    (recording, archive)
}

#[test]
fn members_that_no_server_starts_from_come_back_with_every_key_and_without_the_removed_member() {
    for (name, removed, last) in [
        ("natural", "fba35af87e93c535", 207),
        ("crafted", "cccc693501f6cbc6", 507),
    ] {
        let (_recording, archive) = dead(name);
        let work = TempDir::new().unwrap();
        let out = work.path().join("out");
        let told = rewind(&[&archive], &out, &["--to", "end"]).exits(0).json();
        assert_eq!(told["to_raft_index"], last);
        let expected = json!([{"id": removed, "in_raft_snapshot": true, "entries": []}]);
        assert_eq!(told["dropped"], expected);
        let ids: Vec<_> = archives(&told).into_keys().collect();
        assert!(
            ids.iter().all(|id| format!("{id:x}") != removed),
            "{ids:x?}"
        );
        // It is not asked for its log, nor said to be a member again.
        let heard = told["lost"]["members_unheard"].to_string();
        assert!(!heard.contains(removed), "{heard}");
        assert!(!told["warnings"].to_string().contains(removed), "{told:#}");
        assert_all_start(&told, work.path(), &keys(&archive));
        // What was made says nothing of it either, and can be gone back from again.
        let again = archives(&told).into_values().next().unwrap();
        let told = rewind(&[&again], &work.path().join("again"), &["--to", "end"]);
        assert_eq!(told.exits(0).json()["dropped"], json!([]));
    }
}

#[test]
fn a_raft_snapshot_behind_a_late_publish_and_the_log_with_it_are_one_history() {
    let (_recording, archive) = dead("natural");
    let work = TempDir::new().unwrap();
    let log_only = untar(&archive, &work.path().join("log-only"));
    for snap in crate::support::decode::snaps(&log_only.join("member/snap")) {
        fs::remove_file(snap).unwrap();
    }
    let out = work.path().join("both");
    let told = rewind(&[&archive, &log_only], &out, &["--to", "end"]).exits(0);
    assert_eq!(told.json()["dropped"][0]["in_raft_snapshot"], true);
    let told = rewind(&[&log_only], &work.path().join("log"), &["--to", "end"]);
    let told = told.exits(0).json();
    let dropped = &told["dropped"];
    assert_eq!(dropped[0]["in_raft_snapshot"], false);
    assert_eq!(
        dropped[0]["entries"].as_array().unwrap().len(),
        1,
        "{dropped}"
    );
    assert_all_start(&told, work.path(), &keys(&archive));
}

#[test]
fn keys_behind_a_late_publish_in_the_log_keep_their_indexes_and_in_order_names() {
    let recording = unpack("mem-a");
    let work = TempDir::new().unwrap();
    let source = work.path().join("mem-a");
    copy_dir(&recording.data_dir("mem-a"), &source);
    let path = format!("/0/members/{MEM_B}/attributes");
    let publish = r#"{"name":"mem-b","clientURLs":["http://127.0.0.1:1"]}"#;
    rewrite(&source, |records| {
        records.push(entry(NORMAL, 2, 74, &request("PUT", &path, publish)));
        records.push(entry(NORMAL, 2, 75, &request("PUT", "/1/after", "a")));
        records.push(entry(
            NORMAL,
            2,
            76,
            &request("POST", "/1/queue-after", "b"),
        ));
        records.push(hard_state(2, 0, 76));
    });
    let flags = ["--to", "end"];
    let before = rewind(
        &[&recording.data_dir("mem-a")],
        &work.path().join("before"),
        &flags,
    );
    let before = before.exits(0).json()["store"]["etcd_index"]
        .as_u64()
        .unwrap();
    let told = rewind(&[&source], &work.path().join("out"), &flags);
    let told = told.exits(0).json();
    let expected = json!([{"id": MEM_B, "in_raft_snapshot": false, "entries": [74]}]);
    assert_eq!(told["dropped"], expected);
    assert_eq!(told["store"]["etcd_index"], before + 3);
    let found = keys(&source).to_string();
    let name = format!("/queue-after/{}", before + 3);
    assert!(found.contains(&format!("\"{name}\"")), "{found}");
    assert_all_start(&told, work.path(), &keys(&source));
}

/// The rewind that `ran` names, run as printed; returns the directory that it made.
fn rewound_as_printed(ran: &Ran, dir: &Path) -> PathBuf {
    let told = format!("{}{}", ran.stdout, ran.stderr);
    // A shell joins the lines of a long command.
    let told = told.replace(" \\\n", " ");
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut quoted = told.split('`').skip(1).step_by(2);
    let command = quoted.find(|text| text.starts_with("etcd-ark rewind "));
    let command = command.unwrap_or_else(|| panic!("{ran:#?}"));
    let out = dir.join("OUT_DIR");
    let mut shell = clean("sh");
    let line = command.replace("etcd-ark ", &format!("{BINARY} "));
    run(shell.args(["-c", &line]).current_dir(dir)).exits(0);
    out
}

#[test]
fn every_command_that_refuses_dead_members_names_the_rewind_that_brings_them_back() {
    let (_recording, archive) = dead("natural");
    let work = TempDir::new().unwrap();
    let data_dir = untar(&archive, &work.path().join("data"));
    let etcd = work.path().join("etcd");
    let script = "#!/bin/sh\ncase $1 in --version) echo 'etcd Version: 2.3.8';; *) exit 2;; esac\n";
    fs::write(&etcd, script).unwrap();
    fs::set_permissions(&etcd, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (new, dir) = (work.path().join("new"), work.path());
    let unknown = unpack("start-verdicts");
    let unknown = unknown.path("start-verdicts/cases/C-publish_of_unknown_member.etcd");
    for (code, ran) in [
        (4, typed("verify {}", &[&archive])),
        (4, typed("verify {}", &[&data_dir])),
        (4, typed("verify {} {}", &[&data_dir, &unknown])),
        (4, typed("verify {}", &[&unknown])),
        (0, typed("inspect {}", &[&archive])),
        (0, typed("inspect {}", &[&data_dir])),
        (
            3,
            typed("restore {} --offline --data-dir {}", &[&archive, &new]),
        ),
        (3, typed("preflight --data-dir {}", &[&data_dir])),
        (
            3,
            typed("downgrade check --offline --data-dir {}", &[&data_dir]),
        ),
        (
            4,
            typed(
                "drill {} --etcd {} --scratch-dir {}",
                &[&archive, &etcd, &dir],
            ),
        ),
        (
            4,
            typed(
                "drill {} --etcd {} --scratch-dir {}",
                &[&data_dir, &etcd, &dir],
            ),
        ),
    ] {
        let out = rewound_as_printed(&ran.exits(code), work.path());
        typed("verify {}", &[&out]).exits(0);
        fs::remove_dir_all(&out).unwrap();
    }
}

/// 2.0 and later end on attributes of a member that never was, so no rewind makes such an archive.
#[test]
fn what_no_server_would_start_from_is_refused_and_nothing_is_kept() {
    let recording = unpack("mem-a");
    let work = TempDir::new().unwrap();
    let source = work.path().join("mem-a");
    copy_dir(&recording.data_dir("mem-a"), &source);
    rewrite(&source, |records| {
        let publish = request("PUT", "/0/members/1234/attributes", r#"{"name":"x"}"#);
        records.push(entry(NORMAL, 2, 74, &publish));
        records.push(hard_state(2, 0, 74));
    });
    let out = work.path().join("out");
    let told = rewind(&[&source], &out, &["--to", "end"]).exits(3);
    let message = told.json_error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("would not start"), "{message}");
    assert!(message.contains("1234"), "{message}");
    assert!(!out.exists());
    // A plan that is only shown meets the same refusal.
    let told = rewind(&[&source], &out, &["--to", "end", "--dry-run"]).exits(3);
    assert_eq!(told.json_error()["message"], message);
    rewind(&[&source], &out, &["--to", "index:73", "--dry-run"]).exits(0);
    // The moment before is fine.
    rewind(&[&source], &out, &["--to", "index:73"]).exits(0);
}
