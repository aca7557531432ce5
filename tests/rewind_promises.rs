//! The promises of a rewind: it reports what it cannot know, its printed commands work, and it never writes
//! unencrypted archives from encrypted ones by itself.

use crate::rewind::{INFRA2, archives, entry, hard_state, keys, paths, rewind, rewrite};
use crate::support::encode::{NORMAL, request};
use crate::support::prelude::*;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a printed line in a shell, with this build for `etcd-ark`.
fn in_shell(line: &str) -> Ran {
    let mut command = clean("sh");
    let line = line.replacen("etcd-ark", crate::support::ark::BINARY, 1);
    command.args(["-c", &line]);
    run(&mut command)
}

#[test]
fn authentication_that_was_turned_on_after_the_entry_is_not_lost_without_a_word() {
    // Guards against a cluster behind a password that serves every client after a rewind.
    let recording = unpack("auth");
    let (data, work) = (recording.data_dir("auth"), TempDir::new().unwrap());
    for (to, is_off, lost) in [("index:6", true, true), ("end", false, false)] {
        let out = work.path().join(lost.to_string());
        let told = rewind(&[&data], &out, &["--to", to]).exits(0).json();
        let warnings = told["warnings"].to_string();
        assert_eq!(
            warnings.contains("authentication is on now"),
            is_off,
            "{told:#}"
        );
        assert_eq!(warnings.contains("are lost: root"), lost, "{told:#}");
    }
}

#[test]
fn writes_after_the_newest_backup_are_never_promised_to_be_kept() {
    let story = unpack("upgrade-story");
    let work = TempDir::new().unwrap();
    let backups = work.path().join("backups");
    let mut targets = Vec::new();
    let mut times = Vec::new();
    for number in 0..2 {
        let source = story.data_dir(&format!("2-backup-infra{number}"));
        let (archive, told) = snapshot(&source, &backups, &[]);
        targets.push(archive);
        times.push(told["created_at"].clone());
    }
    let args = |json: bool| {
        let mut args = vec!["rewind", "--dry-run", text(&targets[0]), text(&targets[1])];
        args.extend(json.then_some("--json"));
        ark(args).exits(0)
    };
    let told = args(true).json();
    assert_eq!(
        told["lost"]["not_known"],
        // What infra1 and infra2 acknowledged since need not be in the second one: it may have been cut off.
        json!({"input": 1, "after_at": times[0]})
    );
    let second = times[0].as_str().unwrap().split('.').next().unwrap();
    let second = second.replace('T', " ");
    let expected = format!("writes after {second} UTC, the time of input 1: how many is not known");
    let stdout = args(false).stdout;
    assert!(stdout.contains(&expected), "{expected}: {stdout}");
    // A dry run names no cluster id: the one that is made later is another.
    assert_eq!(told["new_cluster_id"], Value::Null);
    assert!(!stdout.contains("new cluster id "), "{stdout}");
    // A data dir is as new as its last segment.
    let source = work.path().join("infra2");
    copy_dir(&story.data_dir("2-backup-infra2"), &source);
    let later: std::time::SystemTime = "2030-01-02T03:04:05Z"
        .parse::<jiff::Timestamp>()
        .unwrap()
        .into();
    for segment in crate::support::decode::segments(&source.join("member/wal")) {
        fs::OpenOptions::new()
            .append(true)
            .open(segment)
            .unwrap()
            .set_modified(later)
            .unwrap();
    }
    let not_known = |inputs: &[&dyn AsRef<OsStr>]| {
        let line = format!("rewind --dry-run --json{}", " {}".repeat(inputs.len()));
        typed(&line, inputs).exits(0).json()["lost"]["not_known"].clone()
    };
    // Seen: the last member was archived after the others had acknowledged writes and lost their disks.
    let told = not_known(&[&targets[0], &source]);
    assert_eq!(told, json!({"input": 1, "after_at": times[0]}));
    let told = not_known(&[&targets[1], &targets[0], &source]);
    assert_eq!(told, json!({"input": 1, "after_at": times[1]}));
}

#[test]
fn what_a_crashed_leader_never_committed_is_left_out_with_a_line_of_its_own() {
    // Guards against a refusal where raft did what it does after every crash of a leader that had written ahead.
    let story = unpack("upgrade-story");
    let work = TempDir::new().unwrap();
    let source = story.data_dir("2-backup-infra2");
    let member = |name: &str, term: u64, last: u64, commit: u64| {
        let path = work.path().join(name);
        copy_dir(&source, &path);
        rewrite(&path, |records| {
            records.push(hard_state(term, 0, 435));
            records.extend((436..=last).map(|index| {
                let write = request("PUT", &format!("/1/app/{name}-{index}"), "1");
                entry(NORMAL, term, index, &write)
            }));
            records.push(hard_state(term, 0, commit));
        });
        path
    };
    let crashed = member("crashed", 4, 438, 435);
    let later = member("later", 5, 440, 440);
    for (inputs, place) in [([&crashed, &later], 1), ([&later, &crashed], 2)] {
        let out = work.path().join(format!("out-{place}"));
        let inputs = inputs.map(PathBuf::as_path);
        let told = rewind(&inputs, &out, &["--to", "end"]).exits(0).json();
        assert_eq!(told["to_raft_index"], 440);
        assert_eq!(told["committed_raft_index"], 440);
        let tail = json!({"input": place, "from_raft_index": 436, "to_raft_index": 438});
        assert_eq!(told["lost"]["tails"], json!([tail]));
        assert_eq!(told["lost"]["entries"], 0);
        for archive in archives(&told).values() {
            let found = keys(archive).to_string();
            assert!(found.contains("/app/later-440"), "{found}");
            assert!(!found.contains("/app/crashed"), "{found}");
        }
        let args = ["rewind", "--dry-run", text(inputs[0]), text(inputs[1])];
        let line = format!(
            "entries 436 to 438 of input {place}, never committed: a later leader wrote others there"
        );
        let told = ark(args).exits(0).stdout;
        assert!(told.contains(&line), "{told}");
    }
    // What it knows to be committed is never dropped.
    let knows = member("knows", 4, 438, 436);
    let out = work.path().join("no");
    let refused = rewind(&[&knows, &later], &out, &["--to", "end"]).exits(3);
    refused.says("not one history, from entry 436 on");
    assert!(!out.exists());
}

#[test]
fn a_result_that_has_no_room_to_stand_is_refused_before_the_work() {
    let story = unpack("upgrade-story");
    let work = TempDir::new().unwrap();
    fs::write(work.path().join("something"), "").unwrap();
    let source = story.data_dir("2-backup-infra0");
    let told = ark(["rewind", "--out", text(work.path()), text(&source)]).exits(3);
    assert_eq!(told.stdout, "", "the plan was made all the same");
    assert_has(&told.stderr, "is not an empty directory");
    assert_eq!(names(work.path()), ["something"]);
}

#[test]
fn every_restore_that_is_printed_works_as_printed() {
    let story = unpack("upgrade-story");
    let work = TempDir::with_prefix("ark it's ").unwrap();
    let out = work.path().join("out");
    let told = rewind(&[&story.data_dir("2-backup-infra0")], &out, &[]);
    let told = told.exits(0).json();
    let steps = told["next"].as_array().unwrap().iter();
    let commands: Vec<_> = steps
        .filter_map(|step| step.as_str().unwrap().split_once(": etcd-ark restore "))
        .collect();
    assert_eq!(commands.len(), 3, "{:#}", told["next"]);
    let dir = TempDir::new().unwrap();
    for (member, rest) in commands {
        let data_dir = dir.path().join(member.trim());
        let old = story.data_dir(&format!("2-backup-{}", member.trim()));
        copy_dir(&old, &data_dir);
        let line = format!("etcd-ark restore {rest} --offline --json");
        let told = in_shell(&line.replace("DIR", text(&data_dir)));
        let kept = told.exits(0).json()["kept"].clone();
        assert!(Path::new(kept.as_str().unwrap()).is_dir(), "{member}");
        assert!(data_dir.join("member/wal").is_dir(), "{member}");
    }
}

#[test]
fn what_came_in_encrypted_goes_out_encrypted_or_not_at_all() {
    only_with!(need("age") && need("age-keygen"));
    let story = unpack("upgrade-story");
    let work = TempDir::new().unwrap();
    let (key, recipient) = crate::encryption::keygen(work.path(), "key");
    let source = story.data_dir("2-backup-infra0");
    let backups = work.path().join("backups");
    let told = typed(
        "snapshot --json --data-dir {} --backup-dir {} --recipient {}",
        &[&text(&source), &text(&backups), &recipient],
    );
    let archive = told.exits(0).json()["archive"].as_str().unwrap().to_owned();
    let plain = TempDir::new().unwrap();
    let (plain, _) = snapshot(&story.data_dir("2-backup-infra1"), plain.path(), &[]);
    let out = work.path().join("out");
    let to = |flags: &[&str]| {
        let args = [
            "rewind",
            "--json",
            "--identity",
            &key,
            text(&plain),
            &archive,
            "--out",
            text(&out),
        ];
        ark([&args[..], flags].concat())
    };
    let before = tree(work.path());
    let refused = to(&[]).exits(3).json_error()["message"].clone();
    assert_has(&refused, "is encrypted");
    to(&["--dry-run"]).exits(3);
    assert_eq!(tree(work.path()), before);
    let told = to(&["--recipient", &recipient]).exits(0).json();
    for member in told["members"].as_array().unwrap() {
        let made = member["archive"].as_str().unwrap();
        assert!(made.ends_with(".tar.zst.age"), "{made}");
        assert!(
            fs::read(made)
                .unwrap()
                .starts_with(b"age-encryption.org/v1")
        );
        ark(["verify", made]).exits(0);
        ark(["verify", "--identity", &key, made]).exits(0);
    }
    // As printed, with the key.
    let step = told["next"][2].as_str().unwrap();
    let (_, command) = step.split_once(": etcd-ark restore ").unwrap();
    let data_dir = work.path().join("restored");
    let command = command
        .replace("KEY_FILE", &key)
        .replace("DIR", text(&data_dir));
    in_shell(&format!("etcd-ark restore {command} --offline")).exits(0);
    let left = names(&out);
    assert_eq!(left.len(), 9, "archive, sum and sidecar of each: {left:?}");
    fs::rename(&out, work.path().join("encrypted")).unwrap();
    let told = to(&["--allow-plaintext"]).exits(0).json();
    let made = told["members"][0]["archive"].as_str().unwrap();
    assert!(made.ends_with(".tar.zst"), "{made}");
}

#[test]
fn with_a_kept_cluster_id_a_member_of_the_old_cluster_is_not_taken_for_one_of_the_new() {
    // Seen on real servers: the last member campaigned alone, and the hint was to leave it as it was. It then ran with
    // the old keys beside the rewound members.
    let story = unpack("upgrade-story");
    let work = TempDir::new().unwrap();
    let sources = [0, 1, 2].map(|n| story.data_dir(&format!("2-backup-infra{n}")));
    let out = work.path().join("out");
    let told = rewind(&paths(&sources), &out, &["--keep-cluster-id"])
        .exits(0)
        .json();
    let archive = &archives(&told)[&INFRA2];
    let data = work.path().join("data");
    copy_dir(&sources[2], &data);
    let campaign = |term: u64| {
        rewrite(&data, |records| records.push(hard_state(term, 0, 435)));
    };
    let replace = || {
        typed(
            "restore {} --data-dir {} --replace --offline",
            &[archive, &data],
        )
    };
    campaign(20);
    replace().exits(0);
    // As it was restored it may be restored again, but not once it has voted.
    replace().exits(0);
    campaign(30);
    replace()
        .exits(3)
        .says("has taken part in elections of the rewound cluster");
}
