//! Whether the backups are in order, as a monitoring system sees it.
//!
//! In: archives of a recorded cluster, with their times changed. Out: the plugin's line, with values that depend on the
//! machine or the time as `N`, and its exit code.

use crate::encryption::keygen;
use crate::support::nights::Night;
use crate::support::prelude::*;

/// The three members of the recorded cluster, each with an archive to make others from, and an empty backup dir.
fn scene() -> (TempDir, PathBuf, [Night; 3]) {
    let recording = unpack("upgrade-story");
    let dir = TempDir::with_prefix("ark-status-").unwrap();
    let members = [0, 1, 2].map(|number| {
        let source = recording.data_dir(&format!("2-backup-infra{number}"));
        let made = snapshot(&source, &dir.path().join("made"), &[]).0;
        Night::of(&made)
    });
    let backups = dir.path().join("backups");
    fs::create_dir(&backups).unwrap();
    (dir, backups, members)
}

fn status(backups: &Path, flags: &[&str]) -> Ran {
    let backups = backups.to_str().unwrap();
    let args = ["status", backups].into_iter().chain(flags.iter().copied());
    let ran = ark(args);
    // A plugin speaks on stdout, and once: a monitoring system shows both streams.
    let says_more = flags.contains(&"--json") && ran.code != 0;
    assert_eq!(ran.stderr.is_empty(), !says_more, "{ran:#?}");
    ran
}

/// The text before the performance data, with the backup dir as `DIR` and numbers of room as `N`.
#[track_caller]
fn text(ran: &Ran, backups: &Path) -> String {
    let line = ran.stdout.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'), "more than one line: {ran:#?}");
    assert!(line.matches('|').count() <= 1, "{ran:#?}");
    let text = line.split(" | ").next().unwrap();
    let text = text.replace(backups.to_str().unwrap(), "DIR");
    match text.split_once(" free in DIR") {
        Some((before, "")) => {
            let (before, _) = before.rsplit_once("; ").unwrap();
            format!("{before}; N free in DIR")
        }
        _ => text,
    }
}

/// Fails unless it ends with `code` and tells just this.
#[track_caller]
fn tells(backups: &Path, flags: &[&str], code: i32, expected: &str) -> Ran {
    let ran = status(backups, flags).exits(code);
    assert_eq!(text(&ran, backups), expected);
    ran
}

/// The performance data, with what the machine or the moment decides as `N`.
#[track_caller]
fn perfdata(ran: &Ran) -> String {
    let data = ran.stdout.trim_end().split(" | ").nth(1).unwrap();
    let steady = |item: &str| {
        let (label, value) = item.rsplit_once('=').unwrap();
        let (value, limits) = value.split_once(';').map_or((value, ""), |split| split);
        if label == "free" {
            return "free=NB;N:;N:".to_owned();
        }
        let own = label.trim_start_matches('\'');
        let value = if own.starts_with("age") || own.starts_with("archive_size") {
            let unit = value.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("N{unit}")
        } else {
            value.to_owned()
        };
        let limits = if limits.is_empty() {
            String::new()
        } else {
            format!(";{limits}")
        };
        format!("{label}={value}{limits}")
    };
    data.split(' ').map(steady).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_fresh_archive_that_checks_is_ok() {
    let (_dir, backups, members) = &scene();
    members[0].ago(backups, 3.0, |_| {});
    members[0].ago(backups, 27.0, |_| {});
    let ran = tells(
        backups,
        &[],
        0,
        "ETCD-ARK OK: infra0: newest archive is 3.0 hours old, verified, data size 59.9 kB; N free in DIR",
    );
    assert_eq!(
        perfdata(&ran),
        "age=Ns;;93600 data_size=59865B;100000000 archive_size=NB archives=2 free=NB;N:;N:"
    );
    let age: u64 = ran
        .stdout
        .split_once("age=")
        .unwrap()
        .1
        .split_once('s')
        .unwrap()
        .0
        .parse()
        .unwrap();
    assert!((10_801..10_900).contains(&age), "{age}");
    let ran = status(backups, &["--quick"]).exits(0);
    assert!(ran.stdout.contains("old, only its end was read, data size"));
    let ran = status(backups, &["-q"]).exits(0);
    assert!(ran.stdout.starts_with("ETCD-ARK OK: "), "{ran:#?}");
    let ran = status(backups, &["-v"]).exits(0);
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{ran:#?}");
    assert_eq!(lines[2], "OK: infra0: verified");
}

#[test]
fn an_old_archive_is_a_warning_and_then_critical() {
    let (_dir, backups, members) = &scene();
    members[0].ago(backups, 5.0, |_| {});
    let ran = tells(
        backups,
        &["--warn-age", "4h"],
        1,
        "ETCD-ARK WARNING: infra0: newest archive is 5.0 hours old, over 4.0 hours",
    );
    assert!(perfdata(&ran).starts_with("age=Ns;14400;93600 "));
    let ran = status(backups, &["--warn-age", "30h"]).exits(3);
    assert!(ran.stdout.contains("it could never warn"), "{ran:#?}");
    tells(
        backups,
        &["--warn-age", "3h", "--max-age", "4h"],
        2,
        "ETCD-ARK CRITICAL: infra0: newest archive is 5.0 hours old, over 4.0 hours",
    );
}

#[test]
fn what_is_dated_in_the_future_does_not_hide_that_nothing_came_since() {
    // Guards against a clock that was wrong for one night and keeps the alarm silent for ten years, or ringing.
    let (_dir, backups, members) = &scene();
    let far = "2222-02-02T02:02:00Z".parse().unwrap();
    let ahead = members[0].put(backups, far, |_| {});
    let ran = tells(
        backups,
        &[],
        2,
        "ETCD-ARK CRITICAL: infra0: newest archive is dated 2222-02-02 02:02:00 UTC, in the future: its age is not known",
    );
    assert!(ran.stdout.contains(" | age=U;;93600 "), "{ran:#?}");
    members[0].ago(backups, 50.0, |_| {});
    let ran = status(backups, &[]).exits(2);
    assert!(text(&ran, backups).contains("newest archive is 2.1 days old, over 26 hours"));
    // One that goes as far in the log, and is dated rightly: whatever the clock was, there is a fresh backup.
    members[0].ago(backups, 3.0, |_| {});
    status(backups, &[]).exits(0);
    fs::remove_file(ahead).unwrap();
    members[0].put(backups, far, |manifest| {
        manifest["member"]["position"]["index"] = json!(9999);
    });
    tells(
        backups,
        &[],
        1,
        "ETCD-ARK WARNING: infra0: an archive with a longer log than the newest is dated 2222-02-02 02:02:00 UTC, in the future",
    );
}

#[test]
fn more_data_than_the_limit_is_a_warning_with_the_rule() {
    let (_dir, backups, members) = &scene();
    // Its own warning was about another limit; it is measured again.
    members[0].ago(backups, 3.0, |manifest| {
        manifest["sizes"]["data"] = json!(120_000_000);
        manifest["warnings"] = json!(["the data size is 120.0 MB, over the limit of 100.0 MB: …"]);
    });
    tells(
        backups,
        &[],
        1,
        "ETCD-ARK WARNING: infra0: data size 120.0 MB, over 100.0 MB: etcd's guide says to get help before an upgrade",
    );
    status(backups, &["--size-limit", "200MB"]).exits(0);
}

#[test]
fn a_damaged_newest_archive_is_critical_and_the_good_one_before_it_is_named() {
    let (_dir, backups, members) = &scene();
    let newest = members[0].ago(backups, 3.0, |_| {});
    flip(&newest, 100);
    let newest_name = newest.display().to_string();
    let ran = status(backups, &[]).exits(2);
    let fault = format!(
        "newest archive is corrupt: `{newest_name}` is corrupt: frame 0 at offset 0 does not match its SHA-256"
    );
    let expected = format!("ETCD-ARK CRITICAL: infra0: {fault}; there is no older one");
    assert_eq!(
        text(&ran, backups),
        expected.replace(backups.to_str().unwrap(), "DIR")
    );
    let older = members[0].ago(backups, 20.0, |_| {});
    members[0].ago(backups, 30.0, |_| {});
    let ran = status(backups, &[]).exits(2);
    assert_has(&ran.stdout, "; the newest valid one is 20 hours old |");
    flip(&older, 100);
    let ran = status(backups, &[]).exits(2);
    assert!(ran.stdout.contains("is 30 hours old |"), "{ran:#?}");
    // That is what --quick is quick by.
    status(backups, &["--quick"]).exits(0);
}

#[test]
fn an_archive_that_cannot_be_opened_is_a_warning_unless_it_is_the_newest() {
    let (_dir, backups, members) = &scene();
    members[0].ago(backups, 3.0, |_| {});
    let old = members[0].ago(backups, 40.0, |_| {});
    fs::write(&old, b"torn").unwrap();
    let ran = status(backups, &[]).exits(1);
    let told = text(&ran, backups);
    assert_begins(
        &told,
        "ETCD-ARK WARNING: an archive cannot be opened: `DIR/etcd-infra0-",
    );
    let old = members[1].ago(backups, 400.0, |_| {});
    fs::write(&old, b"torn").unwrap();
    let ran = status(backups, &[]).exits(1);
    assert_has(&ran.stdout, "2 archives cannot be opened, the first: ");
    // Tonight's, which never got whole: the one before it is fresh, and still this is not in order.
    let newest = members[0].ago(backups, 1.0, |_| {});
    fs::write(&newest, b"torn").unwrap();
    let ran = status(backups, &[]).exits(2);
    let told = text(&ran, backups);
    assert_begins(
        &told,
        "ETCD-ARK CRITICAL: infra0: newest archive cannot be opened: `DIR/etcd-infra0-",
    );
    assert_has(
        &told,
        "; the newest that can be opened is 3.0 hours old; 2 archives",
    );
}

#[test]
fn no_archive_is_critical_and_no_look_is_unknown() {
    let (_dir, backups, members) = &scene();
    tells(backups, &[], 2, "ETCD-ARK CRITICAL: no archive in DIR");
    let ran = status(&backups.join("nowhere"), &[]).exits(2);
    assert_eq!(
        text(&ran, backups),
        "ETCD-ARK CRITICAL: there is no backup dir at `DIR/nowhere`"
    );
    let archive = members[0].ago(backups, 3.0, |_| {});
    let ran = status(&archive, &[]).exits(3);
    assert!(ran.stdout.starts_with("ETCD-ARK UNKNOWN: "), "{ran:#?}");
    ran.shows("is a file, not a directory");
    tells(
        backups,
        &["--member", "infra9"],
        2,
        "ETCD-ARK CRITICAL: no archive of a member infra9 in DIR",
    );
    let ran = status(backups, &["--max-age", "500ms"]).exits(2);
    assert_ends(
        &text(&ran, backups),
        "3.0 hours old, over less than a second",
    );
    fs::write(&archive, b"torn").unwrap();
    let ran = status(backups, &[]).exits(2);
    assert_begins(
        &text(&ran, backups),
        "ETCD-ARK CRITICAL: no archive in DIR can be read: ",
    );
    // As for a user without read access: it may or may not be valid.
    fs::remove_file(&archive).unwrap();
    fs_err::os::unix::fs::symlink("nowhere", &archive).unwrap();
    let ran = status(backups, &[]).exits(3);
    assert_begins(
        &text(&ran, backups),
        "ETCD-ARK UNKNOWN: failed to open `DIR/etcd-infra0-",
    );
}

#[test]
fn each_member_of_the_cluster_must_have_a_fresh_one() {
    let (_dir, backups, members) = &scene();
    for (member, hours) in members.iter().zip([1.0, 2.0, 3.0]) {
        member.ago(backups, hours, |_| {});
    }
    let ran = tells(
        backups,
        &[],
        0,
        "ETCD-ARK OK: infra0: newest archive is 1.0 hours old, verified, data size 59.9 kB; \
        infra1: newest archive is 2.0 hours old, verified, data size 75.1 kB; \
        infra2: newest archive is 3.0 hours old, verified, data size 94.3 kB; N free in DIR",
    );
    assert_eq!(
        perfdata(&ran),
        "age_infra0=Ns;;93600 data_size_infra0=59865B;100000000 archive_size_infra0=NB archives_infra0=1 \
        age_infra1=Ns;;93600 data_size_infra1=75089B;100000000 archive_size_infra1=NB archives_infra1=1 \
        age_infra2=Ns;;93600 data_size_infra2=94301B;100000000 archive_size_infra2=NB archives_infra2=1 free=NB;N:;N:"
    );
    tells(
        backups,
        &["--max-age", "90m"],
        2,
        "ETCD-ARK CRITICAL: infra1: newest archive is 2.0 hours old, over 1.5 hours; \
        infra2: newest archive is 3.0 hours old, over 1.5 hours",
    );
    let ran = status(backups, &["--max-age", "90m", "--member", "infra0"]).exits(0);
    assert!(perfdata(&ran).starts_with("age=Ns;;5400 data_size=59865B;"));
    // By its id, too.
    let told = ark(["--json", "list", backups.to_str().unwrap()])
        .exits(0)
        .json();
    let id = told["archives"][2]["member"]["id"].as_str().unwrap();
    status(backups, &["--max-age", "90m", "--member", id]).exits(2);
}

#[test]
fn who_is_gone_for_good_raises_no_alarm() {
    // Guards against an alarm that rings for ever, which someone would switch off.
    let (_dir, backups, members) = &scene();
    // infra2 was removed after its last archive; there was a cluster before a rewind, and a drill's after it.
    let without = |manifest: &mut serde_json::Value| {
        let members = manifest["member"]["members"].as_array_mut().unwrap();
        members.retain(|member| member["name"] != "infra2");
    };
    members[0].ago(backups, 3.0, without);
    members[1].ago(backups, 4.0, without);
    members[2].ago(backups, 900.0, |_| {});
    members[0].ago(backups, 2000.0, |manifest| {
        manifest["member"]["identity"]["cluster_id"] = json!("abc");
        manifest["member"]["identity"]["name"] = json!("old");
    });
    members[0].ago(backups, 1.0, |manifest| {
        manifest["member"]["identity"]["cluster_id"] = json!("def");
        manifest["rewind"] = json!({
            "old_cluster_id": "abc", "old_members": [], "rewound_to": 3, "derived_from": [],
        });
    });
    let ran = status(backups, &[]).exits(0);
    let told = text(&ran, backups);
    assert_has(&told, "infra0: newest archive is 3.0 hours old");
    assert!(!told.contains("infra2") && !told.contains("old:"), "{told}");
    // But they must not appear to be watched.
    assert_has(&told, "; 1 other cluster and 1 other member not watched");
    // A member that is asked about by name is looked at anyway.
    let ran = status(backups, &["--member", "infra2"]).exits(2);
    assert!(text(&ran, backups).contains("infra2: newest archive is 38 days old, over 26 hours"));
}

#[test]
fn a_member_added_again_under_its_name_is_the_one_that_is_meant_by_it() {
    // infra0 lost its disk, and was removed and added, as etcd's guide has it.
    let (_dir, backups, members) = &scene();
    let lost = members[0].ago(backups, 900.0, |manifest| {
        manifest["member"]["identity"]["member_id"] = json!("abc");
    });
    let new = members[0].ago(backups, 3.0, |_| {});
    let by_name = status(backups, &["--member", "infra0"]).exits(0);
    assert_has(
        &text(&by_name, backups),
        "infra0: newest archive is 3.0 hours old",
    );
    let place = ["--json", "--backup-dir", backups.to_str().unwrap()];
    for (member, expected) in [("infra0", &new), ("abc", &lost)] {
        let args = ["inspect", "latest", "--member", member];
        let found = ark(args.iter().chain(&place)).json();
        assert_eq!(found["target"], expected.to_str().unwrap(), "{member}");
    }
    status(backups, &["--member", "abc"]).exits(2);
}

#[test]
fn what_the_newest_archive_warns_of_is_passed_on() {
    let (_dir, backups, members) = &scene();
    members[0].ago(backups, 3.0, |manifest| {
        manifest["warnings"] = json!([
            "cluster version 2.2.0 is in the log but not known to be committed: the cluster is about to move",
            "member/wal/1.wal ends in an unfinished record; its last 3 bytes were cut off, as etcd does at a start",
        ]);
    });
    let ran = status(backups, &[]).exits(1);
    // A torn tail is how a running member looks, and no news.
    assert_eq!(
        text(&ran, backups),
        "ETCD-ARK WARNING: infra0: newest archive warns: cluster version 2.2.0 is in the log but not known to be \
        committed: the cluster is about to move"
    );
    // A real one, of a member that was removed, alone in its backup dir.
    let removed = unpack("mem-b");
    let own = backups.join("own");
    snapshot(&removed.data_dir("mem-b"), &own, &[]);
    let ran = status(&own, &[]).exits(1);
    assert_eq!(
        text(&ran, backups),
        "ETCD-ARK WARNING: mem-b: newest archive warns: the removal of member 1512e7959dba47fe, this one, is in the log \
        but not known to be committed"
    );
    // Its encrypted twin says that there is something, and how to read it; the text may name files.
    let own = backups.join("encrypted");
    let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    snapshot(
        &removed.data_dir("mem-b"),
        &own,
        &["--recipient", recipient],
    );
    let ran = status(&own, &[]).exits(1);
    assert_eq!(
        text(&ran, backups),
        "ETCD-ARK WARNING: mem-b: newest archive warns: 1 warning of the capture can be read with a key: `etcd-ark \
        inspect --identity FILE ARCHIVE`"
    );
}

#[test]
fn what_an_encrypted_archive_warns_of_is_told_with_a_key() {
    only_with!(need("age-keygen"));
    let (_dir, backups, _) = &scene();
    let removed = unpack("mem-b");
    let (key, recipient) = keygen(removed.path("").as_path(), "key");
    let source = removed.data_dir("mem-b");
    let [plain, encrypted] = ["plain", "encrypted"].map(|name| backups.join(name));
    snapshot(&source, &plain, &[]);
    snapshot(&source, &encrypted, &["--recipient", &recipient]);
    let with_key = status(&encrypted, &["-i", &key]).exits(1);
    let without = status(&plain, &[]).exits(1);
    assert_eq!(text(&with_key, backups), text(&without, backups));
    let warnings = |place: &Path| {
        let told = ark(["list", "--json", place.to_str().unwrap(), "-i", &key]);
        told.exits(0).json()["archives"][0]["warnings"].clone()
    };
    assert_eq!(warnings(&encrypted), warnings(&plain));
    // Another key opens nothing, and raises no alarm.
    let (other, _) = keygen(removed.path("").as_path(), "other");
    let told = status(&encrypted, &["-i", &other]).exits(1);
    assert_has(
        &told.stdout,
        "1 warning of the capture can be read with a key",
    );
}

#[test]
fn a_name_cannot_break_the_line() {
    let (_dir, backups, members) = &scene();
    members[0].ago(backups, 3.0, |_| {});
    members[1].ago(backups, 3.0, |manifest| {
        manifest["member"]["identity"]["name"] = json!("a|b=c 'd'\nCRITICAL\u{1b}[2J");
    });
    let ran = status(backups, &[]).exits(0);
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:#?}");
    assert_eq!(ran.stdout.matches('|').count(), 1, "{ran:#?}");
    assert!(!ran.stdout.contains('\u{1b}'), "{ran:#?}");
    assert_has(&ran.stdout, "'age_a_b_c _d_\u{fffd}CRITICAL\u{fffd}[2J'=");
}

#[test]
fn scripts_get_all_of_it_as_json() {
    let (_dir, backups, members) = &scene();
    members[0].ago(backups, 30.0, |_| {});
    let told = status(backups, &["--json"]).exits(2).json();
    assert_eq!(told["status"], "critical");
    assert_eq!(told["code"], 2);
    assert_eq!(
        told["message"],
        "infra0: newest archive is 30 hours old, over 26 hours"
    );
    let member = &told["members"][0];
    assert_eq!(member["member"]["name"], "infra0");
    assert_eq!(member["verified"], true);
    assert_eq!(member["data_bytes"], 59_865);
    assert!(member["age_seconds"].as_i64().unwrap() >= 108_000);
    assert_eq!(told["findings"][0]["check"], "age");
    assert!(told["room"]["free_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn whatever_keeps_it_from_looking_is_unknown_and_said_in_its_line() {
    // A plugin that says nothing and exits with 2 is shown as CRITICAL, without a word why.
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("typo.toml");
    fs::write(&config, "bakcup-dir = '/b'\n").unwrap();
    let config = config.to_str().unwrap();
    for (args, says) in [
        (
            vec!["status", "--max-age", "soon", "x"],
            "not a valid duration: write it like",
        ),
        (vec!["status"], "no backup dir is given: `--backup-dir DIR`"),
        (
            vec!["status", "--bogus", "x"],
            "unexpected argument '--bogus'",
        ),
        (
            vec!["status", "--member", "", "x"],
            "a value is required for '--member",
        ),
        (
            vec!["--config", config, "status", "x"],
            "no command has a flag `bakcup-dir`",
        ),
        (
            vec!["--config", "nowhere.toml", "status", "x"],
            "no configuration file at `nowhere.toml`",
        ),
        (
            vec!["status", "--repo", "ftp://backups"],
            "begins with none of s3://",
        ),
    ] {
        let ran = ark(args).exits(3);
        assert!(ran.stdout.starts_with("ETCD-ARK UNKNOWN: "), "{ran:#?}");
        assert!(ran.stdout.contains(says), "no {says:?} in {ran:#?}");
        assert_eq!(ran.stdout.lines().count(), 1, "{ran:#?}");
    }
    let told = ark(["--json", "status"]).exits(3).json();
    assert_eq!(told["status"], "unknown");
    assert_eq!(told["code"], 3);
    // What another command is asked for may have that word in it.
    ark(["snapshot", "--label", "status"])
        .exits(2)
        .says("--data-dir");
    let page = ark(["man", "status"]).exits(0).stdout;
    assert_has(&page, "UNKNOWN: it could not be looked at");
    assert!(!page.contains("Corrupt"), "{page}");
    let help = ark(["status", "--help"]).exits(0).stdout;
    for told in [
        "0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN",
        "ETCD_ARK_MAX_AGE",
        "fewer than 2 more archives",
    ] {
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains(told), "{help}");
    }
}

#[test]
fn a_disk_that_fills_up_warns_before_it_is_critical() {
    only_with!(need("unshare") && need_root());
    let (_dir, backups, members) = &scene();
    let archive = members[0].ago(backups, 3.0, |_| {});
    let length = fs::metadata(&archive).unwrap().len();
    let mounted = backups.join("mounted");
    fs::create_dir(&mounted).unwrap();
    let script = r#"
        try() { code=0; "$ARK" status "$@" || code=$?; echo "code $code"; }
        mount -t tmpfs -o size="$3" tmpfs "$1"
        cp "$2" "$1"
        try "$1"
        try --min-free 1kB "$1"
        mount -o remount,size="$4" "$1"
        try "$1"
        umount "$1"
    "#;
    let size = |archives: u64| std::path::PathBuf::from((length * archives).to_string());
    let ran = in_own_mounts(script, &[&mounted, &archive, &size(5), &size(2)]).exits(0);
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(
        [lines[1], lines[3], lines[5]],
        ["code 1", "code 0", "code 2"],
        "{ran:?}"
    );
    assert!(lines[0].starts_with("ETCD-ARK WARNING: "), "{ran:?}");
    assert!(lines[0].contains(" free in "), "{ran:?}");
    assert!(
        lines[0].contains(": room for 3 archives like the newest |")
            || lines[0].contains(": room for 4 archives like the newest |"),
        "{ran:?}"
    );
    assert!(lines[4].starts_with("ETCD-ARK CRITICAL: "), "{ran:?}");
    let thresholds = format!("B;{}:;{}:", length * 10, length * 2);
    assert!(lines[0].ends_with(&thresholds), "{ran:?}");
}

#[test]
fn a_backup_dir_that_went_read_only_is_a_warning() {
    only_with!(need("unshare") && need_root());
    let (_dir, backups, members) = &scene();
    members[0].ago(backups, 3.0, |_| {});
    let script =
        r#"mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; exec "$ARK" status "$1""#;
    let ran = in_own_mounts(script, &[backups]).exits(1);
    assert!(
        ran.stdout.starts_with("ETCD-ARK WARNING: ")
            && ran
                .stdout
                .contains("is mounted read-only: nothing can be written there"),
        "{ran:#?}"
    );
}
