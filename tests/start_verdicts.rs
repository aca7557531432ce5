//! Whether a server starts from a data dir, compared with what real servers of four releases did with 357.

use etcd_ark::data_dir::start::start_verdicts;
use etcd_ark::etcd::start::{Verdict, Verdicts};

use crate::rewind::{entry, hard_state, rewrite};
use crate::support::damages::BASES;
use crate::support::decode::{Field, FrameRead, fields, frames, log, segments};
use crate::support::encode::{
    ENTRY, LENGTH_WORD, Message, NORMAL, SegmentBuilder, conf_change, request, segment_name,
    snap_name,
};
use crate::support::prelude::*;

/// The patch releases that the verdicts were seen on, in the order of the release lines.
const SERVERS: [&str; 4] = ["2.0.13", "2.1.3", "2.2.5", "2.3.8"];

/// The recipient of an archive; the key does not exist.
const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

/// What is wrong with a verdict, if anything: whether it starts, and with how many keys.
fn difference(verdict: &Verdict, seen: &Value) -> Option<String> {
    let starts = seen["starts"].as_bool().unwrap();
    let equal = match verdict {
        Verdict::Starts(way) => starts && way.keys == seen["keys"].as_u64(),
        Verdict::Empty => starts && seen["keys"] == 0,
        Verdict::DoesNotStart(_) | Verdict::ForceNewClusterOnly => !starts,
    };
    (!equal).then(|| format!("{verdict:?}, but {seen}"))
}

/// Whether the reason is the one that the server gave.
fn same_message(verdict: &Verdict, line: etcd_ark::etcd::ids::Release, seen: &Value) -> bool {
    let Verdict::DoesNotStart(reason) = verdict else {
        return true;
    };
    let why = seen["why"].as_str().unwrap_or_default();
    reason.etcd_says(line).is_none_or(|says| {
        let says = says.strip_prefix("panic: ").unwrap_or(&says);
        why.contains(says)
    })
}

#[test]
fn every_verdict_is_that_of_the_real_server() {
    let recording = unpack("start-verdicts");
    let seen = recording.json("start-verdicts/verdicts.json");
    let mut compared = 0;
    let (mut wrong, mut worded) = (Vec::new(), Vec::new());
    for (case, seen) in seen.as_object().unwrap() {
        let dir = recording.path(format!("start-verdicts/cases/{case}.etcd"));
        let verdicts: Verdicts = start_verdicts(&dir, None, true).unwrap();
        for ((line, verdict), server) in verdicts.iter().zip(SERVERS) {
            compared += 1;
            if let Some(difference) = difference(verdict, &seen[server]) {
                wrong.push(format!("{case} on {server}: {difference}"));
            } else if !same_message(verdict, *line, &seen[server]) {
                worded.push(format!(
                    "{case} on {server}: {verdict:?}, but {}",
                    seen[server]
                ));
            }
        }
    }
    println!(
        "{compared} verdicts compared, {} differ; {} have another message",
        wrong.len(),
        worded.len()
    );
    println!("{}", worded.join("\n"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(compared, 1428);
}

/// The removal of `mem-b` is in its own log, but not known to be committed.
#[test]
fn what_servers_left_when_they_stopped_starts_on_their_own_release() {
    let others = [("ops-2.1", "ops-2.1", "2.1"), ("ops-2.2", "ops-2.2", "2.2")];
    for (name, dir, own) in BASES.into_iter().chain(others) {
        let recording = unpack(name);
        let verdicts = start_verdicts(&recording.data_dir(dir), None, true).unwrap();
        for (line, verdict) in &verdicts {
            let is_own = line.to_string() == own;
            assert!(!is_own || verdict.is_yes(), "{dir} on {line}: {verdict:?}");
        }
    }
}

#[test]
fn verify_says_of_dead_members_that_no_server_starts_from_their_archives() {
    let recording = unpack("dead-members");
    for name in ["natural", "crafted"] {
        let archive = recording.path(format!("dead-members/{name}.tar.zst"));
        let args: [&OsStr; 3] = ["verify".as_ref(), "--json".as_ref(), archive.as_ref()];
        let told = ark(args).exits(4).json();
        for line in ["2.0", "2.1", "2.2"] {
            assert_eq!(told["targets"][0]["starts"][line], "no", "{name}: {told:#}");
            assert!(
                told["targets"][0]["starts_why"][line].is_string(),
                "{name}: {told:#}"
            );
        }
        let args: [&OsStr; 3] = ["inspect".as_ref(), "--json".as_ref(), archive.as_ref()];
        let told = ark(args).exits(0).json();
        assert_eq!(told["starts"]["2.1"], "no", "{name}: {told:#}");
    }
}

#[test]
fn verify_and_inspect_say_from_which_releases_a_data_dir_starts() {
    let recording = unpack("start-verdicts");
    let words = |case: &str, verb: &str, code: i32| {
        let dir = recording.path(format!("start-verdicts/cases/{case}.etcd"));
        let args: [&OsStr; 3] = [verb.as_ref(), "--json".as_ref(), dir.as_ref()];
        let told = ark(args).exits(code).json();
        let told = if verb == "verify" {
            &told["targets"][0]
        } else {
            &told
        };
        let lines = ["2.0", "2.1", "2.2", "2.3"];
        lines.map(|line| told["starts"][line].as_str().unwrap().to_owned())
    };
    for verb in ["verify", "inspect"] {
        let code = |code| if verb == "verify" { code } else { 0 };
        assert_eq!(words("C-intact", verb, 0), ["yes"; 4]);
        // 2.0 does not cut off a torn tail; 2.1 and later do.
        let torn = ["no", "yes", "yes", "yes"];
        assert_eq!(words("C-tail_minus_1", verb, 0), torn);
        assert_eq!(
            words("C-etcdctl_backup_213", verb, code(4)),
            ["force-new-cluster"; 4]
        );
        // What a server takes can be damaged anyway.
        assert_eq!(words("G-entry_gap", verb, 4), ["yes"; 4]);
        assert_eq!(words("G-snap_dir_gone", verb, code(4)), ["no"; 4]);
        assert_eq!(words("C-wal_dir_gone", verb, 10), ["empty"; 4]);
        assert_eq!(words("C-member_gone", verb, 10), ["empty"; 4]);
    }
}

#[test]
fn what_a_server_runs_on_healthily_is_not_called_damaged() {
    let recording = unpack("start-verdicts");
    let backups = tempfile::tempdir().unwrap();
    for case in [
        // No hard state is not an error where there is a raft snapshot.
        "A-no_hardstate",
        "C-no_hardstate",
        "G-no_hardstate",
        // What is not an id in a path is a key like any other.
        "C-publish_with_bad_id",
        "F-publish_with_bad_id",
        "A-snap_with_bad_name",
        "C-foreign_dir_in_wal",
        "C-tmp_in_wal",
        // Bytes that no write leaves that was synced, a gap below the raft snapshot, one under a wrong name.
        "A-small_garbage_more",
        "G-small_garbage_more",
        "C-middle_wal_gone",
        "G-snap_name_too_high",
    ] {
        let dir = recording.path(format!("start-verdicts/cases/{case}.etcd"));
        typed("verify {}", &[&dir]).exits(0);
        snapshot(&dir, &backups.path().join(case), &[]);
    }
}

#[test]
fn where_a_server_takes_what_is_corrupt_both_are_said() {
    let recording = unpack("start-verdicts");
    let backups = tempfile::tempdir().unwrap();
    for (case, also) in [
        (
            "A-entry_gap",
            "etcd 2.0, 2.1, 2.2, 2.3 still start from it; entry 233 is lost then",
        ),
        (
            "F-commit_below_snapshot",
            "etcd 2.0, 2.1, 2.2, 2.3 still start from it",
        ),
        (
            "G-term_lower_at_end",
            "etcd 2.0, 2.1, 2.2, 2.3 still start from it",
        ),
        (
            "C-last_length_flip",
            "etcd 2.1, 2.2, 2.3 still start from it; 34 bytes are cut off the log",
        ),
        ("A-cluster_version_bad", "etcd 2.0 still starts from it"),
    ] {
        let dir = recording.path(format!("start-verdicts/cases/{case}.etcd"));
        typed("verify {}", &[&dir]).exits(4).says(also);
        let line = "snapshot --data-dir {} --backup-dir {}";
        typed(line, &[&dir, &backups.path()]).exits(4).says(also);
    }
}

/// A crash at a cut leaves such a segment (2.0.0 to 2.0.9). It holds nothing, so nothing is missing.
#[test]
fn an_empty_last_segment_is_no_damage_where_the_markers_are_before_it() {
    let backups = tempfile::tempdir().unwrap();
    for (name, dir) in [
        ("upgrade-story", "2-backup-infra1"),
        ("ops-2.1", "ops-2.1"),
        ("v20", "v20"),
    ] {
        let recording = unpack(name);
        for with_crc in [false, true] {
            let dir = recording.data_dir(dir);
            let work = backups.path().join(format!("{name}-{with_crc}.etcd"));
            copy_dir(&dir, &work);
            let wal = work.join("member/wal");
            add_cut_segment(&wal, with_crc);
            let verdicts = start_verdicts(&work, None, false).unwrap();
            let starts = verdicts.iter().any(|(_, verdict)| verdict.is_yes());
            assert!(starts, "{name} {with_crc}: {verdicts:?}");
            let says = "holds no record of the log";
            typed("verify {}", &[&work]).exits(0).says(says);
            let backups = backups.path().join(format!("{name}-{with_crc}"));
            let (archive, told) = snapshot(&work, &backups, &[]);
            let warnings = told["manifest"]["warnings"].to_string();
            assert!(warnings.contains(says), "{told:#}");
            typed("verify {}", &[&archive]).exits(0);
        }
    }
}

/// Tried on 2.0.13, 2.1.3, 2.2.5 and 2.3.8: each passes over a directory that is named as a raft snapshot, takes `null`
/// for a member's attributes, stops at its own publish where the store does not list it, and reads names in upper case.
#[test]
fn what_is_rarely_wrong_with_a_data_dir_has_the_verdict_of_the_real_servers() {
    let recording = unpack("start-verdicts");
    let work = tempfile::tempdir().unwrap();
    let damages: [(&str, bool, Damage); 5] = [
        ("upper-case", true, |snap| {
            for path in segments(&snap.with_file_name("wal")) {
                let name = path.file_stem().unwrap().to_str().unwrap();
                let upper = format!("{}.wal", name.to_uppercase());
                std::fs::rename(&path, path.with_file_name(upper)).unwrap();
            }
        }),
        ("directory", true, |snap| {
            std::fs::create_dir(snap.join(snap_name(u64::MAX, u64::MAX))).unwrap();
        }),
        ("null", true, |snap| {
            change_store(snap, |json| {
                let at = json.find("/attributes\",").unwrap();
                let from = at + json[at..].find(r#""Value":""#).unwrap();
                let to = from + json[from..].find(r#"","Children""#).unwrap();
                json.replace_range(from..to, r#""Value":"null"#);
            });
        }),
        // "invalid datadir. Both member and proxy directories exist."
        ("proxy", false, |snap| {
            std::fs::create_dir(snap.join("../../proxy")).unwrap();
        }),
        ("unlisted", false, |snap| {
            change_store(snap, |json| {
                let from = json.find(r#""0":{"Path":"/0","#).unwrap();
                let to = json.find(r#""1":{"Path":"/1","#).unwrap();
                json.replace_range(from..to, "");
            });
        }),
    ];
    for (name, starts, damage) in damages {
        let dir = work.path().join(format!("{name}.etcd"));
        copy_dir(&recording.path("start-verdicts/cases/C-intact.etcd"), &dir);
        damage(&dir.join("member/snap"));
        for (line, verdict) in start_verdicts(&dir, None, true).unwrap() {
            assert_eq!(verdict.is_yes(), starts, "{name} on {line}: {verdict:?}");
        }
    }
}

type Damage = fn(&Path);

fn change_store(snap: &Path, change: fn(&mut String)) {
    let newest = names(snap).pop().unwrap();
    let part = |bytes: &[u8], number: u64| {
        let found = fields(bytes).unwrap().into_iter();
        let found = found.filter(|(field, _)| *field == number);
        let mut found = found.filter_map(|(_, field)| match field {
            Field::Bytes(bytes) => Some(bytes.to_vec()),
            Field::Number(_) => None,
        });
        found.next().unwrap()
    };
    let data = part(&std::fs::read(snap.join(&newest)).unwrap(), 2);
    let mut json = String::from_utf8(part(&data, 1)).unwrap();
    change(&mut json);
    let data = Message::new()
        .bytes(1, json.as_bytes())
        .bytes(2, &part(&data, 2))
        .finish();
    let file = Message::new()
        .uint(1, crc32c::crc32c(&data).into())
        .bytes(2, &data)
        .finish();
    std::fs::write(snap.join(newest), file).unwrap();
}

/// Adds the segment that a cut begins with, cut short by a crash: empty, or with its crc record.
fn add_cut_segment(wal: &Path, with_crc: bool) {
    let mut crc = 0;
    let all = segments(wal);
    for path in &all {
        for frame in frames(&std::fs::read(path).unwrap()) {
            if frame.kind != 4 {
                crc = crc32c::crc32c_append(crc, &frame.data);
            }
        }
    }
    let mut builder = SegmentBuilder::new(crc, false);
    if with_crc {
        builder.crc();
    }
    let last = all.last().unwrap().file_name().unwrap().to_str().unwrap();
    let sequence = u64::from_str_radix(&last[..16], 16).unwrap() + 1;
    let name = segment_name(sequence, log(wal).index + 1);
    std::fs::write(wal.join(name), builder.bytes()).unwrap();
}

#[test]
fn verify_says_of_one_target_that_is_no_whole_data_dir_what_servers_do_with_it() {
    let recording = unpack("start-verdicts");
    for (case, word) in [
        ("G-wal_dir_gone", "empty"),
        ("G-wal_dir_empty", "empty"),
        ("G-member_gone", "empty"),
    ] {
        let dir = recording.path(format!("start-verdicts/cases/{case}.etcd"));
        let ran = typed("verify --json {}", &[&dir]);
        assert!(ran.code != 0, "{case}: {ran:#?}");
        let told = ran.json();
        let target = &told["targets"][0];
        assert_eq!(target["status"], "failed", "{case}: {told:#}");
        for line in ["2.0", "2.1", "2.2", "2.3"] {
            assert_eq!(target["starts"][line], word, "{case}: {told:#}");
        }
        ran.json_error();
    }
    // What is not an archive any more starts nothing.
    let (archive, _) = snapshot(
        &recording.data_dir("start-verdicts/cases/G-intact"),
        recording.path("").as_ref(),
        &[],
    );
    let bytes = std::fs::read(&archive).unwrap();
    std::fs::write(&archive, &bytes[..bytes.len() - 1]).unwrap();
    let told = typed("verify --json {}", &[&archive]).exits(4).json();
    assert_eq!(told["targets"][0]["starts"]["2.1"], "no", "{told:#}");
}

#[test]
fn a_dedicated_wal_dir_is_not_found_by_releases_that_do_not_know_it() {
    let recording = unpack("waldir");
    let wal = recording.path("waldir.wal");
    let verdicts = start_verdicts(&recording.data_dir("waldir"), Some(&wal), false).unwrap();
    let words = verdicts.map(|(_, verdict)| verdict.word());
    assert_eq!(words, ["empty", "empty", "yes", "yes"]);
}

#[test]
fn no_restore_with_a_wal_dir_ends_in_what_the_own_release_starts_empty_from() {
    for (name, dir, line, at_home) in [
        ("v20", "v20", "2.0", true),
        ("ops-2.1", "ops-2.1", "2.1", true),
        ("ops-2.2", "ops-2.2", "2.2", false),
    ] {
        let recording = unpack(name);
        let work = tempfile::tempdir().unwrap();
        let path = |name: &str| work.path().join(name);
        let (archive, _) = snapshot(&recording.data_dir(dir), &path("backups"), &[]);
        let (data, wal) = (path("data"), path("wal"));
        let restore = "restore {} --data-dir {} --wal-dir {} --offline";
        let ran = typed(restore, &[&archive, &data, &wal]).exits(0);
        let told = "start etcd without --wal-dir";
        assert_eq!(ran.stderr.contains(told), at_home, "{name}: {ran:#?}");
        // With the right flags for etcd, and without them.
        let given = (!at_home).then_some(wal.as_path());
        let right = start_verdicts(&data, given, false).unwrap();
        let wrong = start_verdicts(&data, Some(&wal), false).unwrap();
        let of = |verdicts: &Verdicts, line: &str| {
            let mut of = verdicts
                .iter()
                .filter(|(release, _)| release.to_string() == line);
            of.next().unwrap().1.word()
        };
        assert_eq!(of(&right, line), "yes", "{name}");
        if at_home {
            // 2.2 finds the note instead of segments, and does not start.
            assert_eq!(of(&wrong, "2.2"), "no", "{name}");
        }
    }
}

#[test]
fn snapshot_warns_where_the_own_release_of_the_data_does_not_start_from_them() {
    let recording = unpack("start-verdicts");
    let backups = tempfile::tempdir().unwrap();
    let warned = |case: &str| {
        let dir = recording.path(format!("start-verdicts/cases/{case}.etcd"));
        let (_, told) = snapshot(&dir, &backups.path().join(case), &[]);
        let warnings = told["manifest"]["warnings"].as_array().unwrap();
        let mut warnings = warnings.iter().map(|warning| warning.as_str().unwrap());
        warnings.any(|warning| warning.contains("does not start from this archive"))
    };
    let restored = |archive: &std::path::Path, flags: &[&str]| {
        let data = tempfile::tempdir().unwrap();
        let ran = restore(archive, data.path(), &[&["--offline"], flags].concat());
        (ran, data.path().join("member").exists())
    };
    let archive_of = |case: &str| {
        let archives = names(&backups.path().join(case)).into_iter();
        let mut archives = archives.filter(|name| name.ends_with(".tar.zst"));
        backups.path().join(case).join(archives.next().unwrap())
    };
    let status = |case: &str| typed("status {}", &[&backups.path().join(case)]);
    assert!(!warned("C-intact"));
    assert!(!warned("C-tail_minus_1"));
    status("C-tail_minus_1").exits(0);
    assert!(warned("C-publish_of_unknown_member"));
    let critical = status("C-publish_of_unknown_member").exits(2);
    let says = "does not start from this archive: entry 456 publishes";
    assert!(critical.stdout.contains(says), "{critical:#?}");
    let dead = archive_of("C-publish_of_unknown_member");
    let (refused, is_there) = restored(&dead, &["--json"]);
    let refused = refused.exits(3).json_error();
    assert_eq!((&refused["kind"], is_there), (&"refused".into(), false));
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains(says), "{refused:#}");
    let (taken, is_there) = restored(&dead, &["--damaged"]);
    taken.exits(0).says(says);
    assert!(is_there);
    assert!(warned("C-etcdctl_backup_225"));
    // It starts, but not as it is.
    status("C-etcdctl_backup_225").exits(1);
    let inspected = |target: &Path| typed("inspect --json {}", &[&target]).exits(0).json();
    assert_eq!(
        inspected(&archive_of("C-etcdctl_backup_225"))["status"],
        "failed"
    );
    assert_eq!(inspected(&archive_of("C-intact"))["status"], "ok");
    let dir = recording.path("start-verdicts/cases/C-etcdctl_backup_225.etcd");
    assert_eq!(inspected(&dir)["status"], "failed");
    typed("downgrade check --offline --data-dir {}", &[&dir])
        .exits(3)
        .says("is the output of `etcdctl backup`, which starts only with `--force-new-cluster`");
    let (taken, is_there) = restored(&archive_of("C-etcdctl_backup_225"), &[]);
    taken
        .exits(0)
        .says("starts only with `--force-new-cluster`");
    assert!(is_there);
    // Encrypted, the sidecar says so.
    let dir = recording.path("start-verdicts/cases/C-publish_of_unknown_member.etcd");
    let encrypted = backups.path().join("encrypted");
    snapshot(&dir, &encrypted, &["--recipient", RECIPIENT]);
    let critical = status("encrypted").exits(2);
    assert_has(&critical.stdout, "etcd does not start from it");
}

/// Seen on 2.1.3 and 2.2.5: they start and run, and panic at the first start behind their next raft snapshot. 2.0.13
/// panics at once, and 2.3.8 ignores the late publish.
#[test]
fn what_starts_only_until_the_next_raft_snapshot_is_told_everywhere() {
    let (_recording, dir) = published_late();
    let work = tempfile::tempdir().unwrap();
    let told = typed("verify --json {}", &[&dir]).exits(0);
    let told = told.json()["targets"][0].clone();
    let starts = ["2.0", "2.1", "2.2", "2.3"].map(|line| told["starts"][line].clone());
    assert_eq!(starts, ["no", "yes", "yes", "yes"], "{told:#}");
    let says = "it starts only until its next raft snapshot or change of members";
    for line in ["2.1", "2.2"] {
        assert_has(told["starts_why"][line].as_str().unwrap(), says);
    }
    assert_eq!(told["starts_why"]["2.3"], Value::Null, "{told:#}");
    let warning = format!("etcd 2.1 does not start from it for good: {says}");
    assert_has(&told["notes"].to_string(), &warning);
    let backups = work.path().join("backups");
    let (archive, _) = snapshot(&dir, &backups, &[]);
    let warning = format!("etcd 2.1 does not start from this archive for good: {says}");
    let again = "snapshot --data-dir {} --backup-dir {} --strict";
    typed(again, &[&dir, &backups]).exits(5).says(&warning);
    let status = typed("status {}", &[&backups]).exits(1);
    assert_has(&status.stdout, &warning);
    restore(&archive, &work.path().join("data"), &["--offline"])
        .exits(0)
        .says(&warning);
    let preflight = "preflight --endpoints http://127.0.0.1:1 --data-dir {}";
    let told = typed(preflight, &[&dir]);
    for line in ["2.1", "2.2"] {
        assert_has(
            &told.stdout,
            &format!("etcd {line} does not start from it for good"),
        );
    }
}

/// Data of 2.1 of which the last entry publishes the attributes of a removed member.
fn published_late() -> (Recording, PathBuf) {
    let recording = unpack("mem-a");
    let dir = recording.data_dir("mem-a");
    let publish = r#"{"name":"mem-b","clientURLs":["http://127.0.0.1:1"]}"#;
    let publish = request("PUT", "/0/members/1512e7959dba47fe/attributes", publish);
    rewrite(&dir, |records| {
        records.push(entry(NORMAL, 2, 74, &publish));
        records.push(hard_state(2, 0, 74));
    });
    (recording, dir)
}

/// Seen on all four servers: they load the newest raft snapshot, find no marker of it, and exit. An archive of the
/// one before it starts, and lacks what only the newest one holds.
#[test]
fn a_log_that_ends_below_the_newest_raft_snapshot_is_told_with_what_is_lost() {
    let (recording, work) = (unpack("mem-a"), tempfile::tempdir().unwrap());
    let (work, dir) = (work.path(), recording.data_dir("mem-a"));
    let snap = names(&dir.join("member/snap")).pop().unwrap();
    let newest = u64::from_str_radix(&snap[17..33], 16).unwrap();
    let wal = dir.join("member/wal");
    let mut cut = false;
    for path in segments(&wal) {
        let bytes = std::fs::read(&path).unwrap();
        let all = frames(&bytes);
        let is_first_lost = |frame: &FrameRead| {
            let at = fields(&frame.data).unwrap_or_default().into_iter();
            let mut at = at.filter(|(field, _)| *field == 3);
            let number = at.next().map(|(_, field)| field);
            frame.kind == ENTRY && matches!(number, Some(Field::Number(at)) if at == newest - 4)
        };
        match all.iter().find(|frame| is_first_lost(frame)) {
            _ if cut => std::fs::remove_file(&path).unwrap(),
            Some(frame) => {
                std::fs::write(&path, &bytes[..frame.offset]).unwrap();
                cut = true;
            }
            None => {}
        }
    }
    assert!(cut);
    typed("verify {}", &[&dir]).exits(4);
    let (end, first) = (newest - 5, newest - 4);
    let lost =
        format!("this archive ends at entry {end}, and entries {first} to {newest} are lost");
    let source = "no etcd 2.x starts from the data dir itself: the WAL has no marker";
    let backups = work.join("backups");
    let line = "snapshot --data-dir {} --backup-dir {} --strict";
    typed(&format!("{line} --dry-run"), &[&dir, &backups]).exits(5);
    let ran = typed(line, &[&dir, &backups]).exits(5);
    ran.says(source).says(&lost);
    let critical = typed("status {}", &[&backups]).exits(2);
    assert_has(&critical.stdout, &lost);
    let etcd = work.join("etcd");
    write_file(&etcd, 0o755, b"#!/bin/sh\necho etcd Version: 2.1.3\n");
    let drill = typed("drill {} --etcd {}", &[&dir, &etcd]).exits(4);
    drill.says(source);
}

/// 2.0 writes no cluster version, so it is the release of data without one. Seen on 2.0.13: it panics on the publish at
/// once, and 2.1 and later start.
#[test]
fn data_without_a_cluster_version_are_of_2_0() {
    let recording = unpack("v20");
    let work = tempfile::tempdir().unwrap();
    let dir = recording.data_dir("v20");
    let end = log(&dir.join("member/wal"));
    let change = |kind, context| conf_change(kind, 0x77, context);
    let added = change(0, r#"{"id":119,"peerURLs":["http://127.0.0.1:9"]}"#);
    let publish = request("PUT", "/0/members/77/attributes", r#"{"name":"x"}"#);
    rewrite(&dir, |records| {
        let changes = [
            (1, added.clone()),
            (1, change(1, "")),
            (NORMAL, publish.clone()),
        ];
        for (index, (kind, data)) in (end.index + 1..).zip(changes) {
            records.push(entry(kind, end.term, index, &data));
        }
        records.push(hard_state(end.term, 0, end.index + 3));
    });
    let told = typed("verify --json {}", &[&dir]).exits(0);
    let starts = &told.json()["targets"][0]["starts"];
    assert_eq!(starts["2.0"], "no");
    assert_eq!(starts["2.1"], "yes");
    let backups = work.path().join("backups");
    let (archive, _) = snapshot(&dir, &backups, &[]);
    let says = format!(
        "etcd 2.0 does not start from this archive: entry {} publishes",
        end.index + 3
    );
    let line = "snapshot --data-dir {} --backup-dir {} --strict";
    typed(line, &[&dir, &backups]).exits(5).says(&says);
    let critical = typed("status {}", &[&backups]).exits(2);
    assert_has(&critical.stdout, &says);
    restore(&archive, &work.path().join("data"), &["--offline"])
        .exits(3)
        .says(&says);
}

/// Tried on 2.0.13, 2.1.3, 2.2.5 and 2.3.8: what a loss of power can leave. 2.0 and 2.1 read the zeros as fields; where
/// they end inside one, 2.1 cuts the record off. 2.2 and later refuse a field 0, and do not cut it off.
#[test]
fn zeros_from_inside_a_record_to_the_end_are_cut_off_by_2_1_at_most() {
    let recording = unpack("start-verdicts");
    let work = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for back in [0, 2] {
        let dir = work.path().join(back.to_string());
        copy_dir(&recording.path("start-verdicts/cases/G-intact.etcd"), &dir);
        let last = segments(&dir.join("member/wal")).pop().unwrap();
        let mut bytes = std::fs::read(&last).unwrap();
        // Behind the record's type and CRC, or two bytes earlier: then one zero more is left over.
        let start = frames(&bytes).last().unwrap().offset + LENGTH_WORD + 3;
        let crc_end = start + bytes[start..].iter().position(|byte| *byte < 0x80).unwrap() + 1;
        assert!(crc_end - start > 2);
        bytes[crc_end - back..].fill(0);
        std::fs::write(&last, &bytes).unwrap();
        let verdicts = start_verdicts(&dir, None, true).unwrap();
        seen.push(verdicts.map(|(_, verdict)| verdict.word()));
    }
    seen.sort_unstable();
    assert_eq!(seen, [["no"; 4], ["no", "yes", "no", "no"]]);
}

#[test]
fn preflight_fails_on_a_data_dir_from_which_a_release_of_the_upgrade_does_not_start() {
    let recording = unpack("start-verdicts");
    for (case, dead) in [("C-intact", false), ("C-publish_of_unknown_member", true)] {
        let dir = recording.path(format!("start-verdicts/cases/{case}.etcd"));
        // Nothing listens there: that other checks fail does not matter.
        let told = typed(
            "preflight --endpoints http://127.0.0.1:1 --json --data-dir {}",
            &[&dir],
        );
        let said = told.stdout.clone() + &told.stderr;
        let is_said = said.contains("etcd 2.1 does not start from it")
            && said.contains("etcd 2.2 does not start from it");
        assert_eq!(is_said, dead, "{case}: {said}");
    }
}
