//! `downgrade run`: the part of one member, the steps for the others, and a WAL dir that 2.1 would not find.

use super::{FlockOperation, Quorum, alone, at, check, go_back, judged, lock_of, story, with};
use crate::support::certs::Authority;
use crate::support::prelude::*;

#[test]
fn this_members_part_is_a_snapshot_a_proof_and_the_plain_truth_and_its_data_stay() {
    let story = story();
    let own = story.path("mine.etcd");
    copy_dir(&story.data_dir("2-backup-infra1"), &own);
    let before = tree(&own);
    let scratch = TempDir::new().unwrap();
    let backups = scratch.path().join("backups");
    // infra0 and infra1 are of 2.2, infra1 is stopped to go back.
    let fake = FakeCluster::of_story("2-backup-infra2");
    fake.member(1).down();
    let endpoints = fake.endpoints();
    let dry = go_back(&own, &backups, &["--endpoints", &endpoints, "--dry-run"]).exits(0);
    assert!(dry.stdout.contains("nothing was changed"), "{dry:#?}");
    assert_has(&dry.stdout, "  1. Run this without --dry-run first");
    assert!(!backups.exists());
    let ran = go_back(&own, &backups, &["--endpoints", &endpoints]).exits(0);
    assert_eq!(tree(&own), before);
    assert_has_each(
        &ran.stdout,
        &[
            "ALLOWED: the cluster version is 2.1, as of a quorum read just now",
            "labelled pre-downgrade, verified",
            "verified: infra1 (4c068e21e5a08be2)",
            "This member's own data are good for etcd 2.1 and must be kept: only the binary is swapped.",
            "--wal-dir (ETCD_WAL_DIR), --experimental-v3demo (ETCD_EXPERIMENTAL_V3DEMO)",
            "on infra0, once this member is healthy again: stop etcd; run `etcd-ark downgrade run --endpoints http://127.0.0.1:",
            "infra2: nothing to do, already of 2.1.",
        ],
    );
    ran.says("waited only 0 s");
    let archives = archives_in(&backups);
    let [archive] = archives.as_slice() else {
        panic!("{archives:?}");
    };
    typed("verify {}", &[&archive]).exits(0);
    let listed = typed("inspect --json {}", &[&archive]).exits(0).json();
    assert_eq!(listed["manifest"]["labels"], json!(["pre-downgrade"]));
    // etcd's own tools need the certificates too.
    let authority = Authority::new(scratch.path(), "ca");
    let pair = authority.signs("client");
    let [ca, cert, key] =
        [&authority.cert, &pair.cert, &pair.key].map(|path| path.to_str().unwrap());
    let access = ["--cacert", ca, "--cert", cert, "--key", key];
    let tls = go_back(
        &own,
        &backups,
        &[&["--endpoints", &endpoints, "--dry-run"], &access[..]].concat(),
    );
    let told = tls.exits(0).stdout;
    let told = told
        .replace(" \\\n", " ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    for (program, [a, b, c]) in [
        ("curl", ["--cacert", "--cert", "--key"]),
        ("etcdctl", ["--ca-file", "--cert-file", "--key-file"]),
    ] {
        assert_has(&told, &format!("`{program} {a} {ca} {b} {cert} {c} {key} "));
    }
    assert_has(
        &told,
        &format!("--cacert {ca} --cert {cert} --key {key} --timeout 2 --data-dir"),
    );
    // Under --strict a warning does not refuse here, but is said; for scripts it is all in the JSON.
    let strict = go_back(
        &own,
        &backups,
        &["--endpoints", &endpoints, "--strict", "--json"],
    )
    .exits(5)
    .json();
    assert_eq!(strict["gate"]["verdict"], "allowed");
    assert_begins(&strict["warnings"][0].as_str().unwrap(), "waited only 0 s");
    assert_eq!(strict["keep_data_dir"], own.to_str().unwrap());
    assert_eq!(strict["wal_moved"], Value::Null);
    assert!(Path::new(strict["snapshot"]["archive"].as_str().unwrap()).is_file());
    assert_eq!(strict["this_member"].as_array().unwrap().len(), 4);
    assert_eq!(strict["others"].as_array().unwrap().len(), 3);
}

/// The text between the back quotes in the first line of `text` that holds `command`.
fn printed<'t>(text: &'t str, command: &str) -> &'t str {
    let begin = text
        .find(&format!("`{command}"))
        .unwrap_or_else(|| panic!("no {command:?} in {text}"));
    text[begin + 1..].split('`').next().unwrap()
}

#[test]
fn the_commands_that_are_printed_for_the_members_run_as_printed_with_every_flag_of_this_run() {
    // Guards against a next step without the releases, the WAL dir or the user of this one: it asks or does something else.
    let story = story();
    let own = story.path("data dir");
    copy_dir(&story.data_dir("2-backup-infra1"), &own);
    let wal = story.path("wal dir");
    fs::rename(own.join("member/wal"), &wal).unwrap();
    let scratch = TempDir::new().unwrap();
    let fake = FakeCluster::of_story("2-backup-infra2");
    for member in fake.members() {
        member.auth("cm9vdDpyb290cHc=");
    }
    fake.member(1).down();
    let password = scratch.path().join("password");
    fs::write(&password, "rootpw\n").unwrap();
    let user = with(&[&"--username", &"root", &"--password-file", &password]);
    let flags = [&at(&fake)[..], &user, &with(&[&"--wal-dir", &wal])].concat();
    let said = check(Some(&own), &flags).exits(0).stdout;
    assert_has(&said, "next, on infra1, infra0, one at a time");
    let command = printed(&said, "etcd-ark downgrade run");
    let backups = scratch.path().join("backups");
    let command = command.replace("BACKUP_DIR", backups.to_str().unwrap());
    let run = |command: &str| {
        crate::gate_rewind::as_printed(&format!("{command} --settle 0"), scratch.path())
    };
    let done = run(&command).exits(0).json();
    assert_ne!(done["wal_moved"], Value::Null);
    assert_eq!(archives_in(&backups).len(), 1);
    // What that one prints for the others has all of it, too.
    let others = done["others"].to_string().replace('\\', "");
    let again = run(printed(&others, "etcd-ark downgrade run"))
        .exits(0)
        .json();
    assert_eq!(again["gate"]["verdict"], "allowed");
}

#[test]
fn a_cluster_that_is_all_of_2_1_is_told_that_nothing_is_left_to_do() {
    let fake = FakeCluster::of_story("1-before-upgrade");
    let ran = check(None, &at(&fake)).exits(0);
    assert_has(
        &ran.stdout,
        "next: nothing, no member is known to run a release above 2.1",
    );
}

#[test]
fn the_safety_snapshot_waits_for_another_run_on_the_backup_dir() {
    // Guards against a downgrade that stops, with etcd down, because a timer's snapshot is at work.
    let (_recording, data) = alone();
    let scratch = TempDir::new().unwrap();
    let lock = fs::File::create(scratch.path().join(LOCK_FILE)).unwrap();
    rustix::fs::flock(lock.file(), FlockOperation::LockExclusive).unwrap();
    let held_for = Duration::from_secs(2);
    let holder = std::thread::spawn(move || {
        std::thread::sleep(held_for);
        drop(lock);
    });
    let begun = Instant::now();
    go_back(&data, scratch.path(), &[]).exits(0);
    assert!(begun.elapsed() >= held_for);
    holder.join().unwrap();
    assert_eq!(archives_in(scratch.path()).len(), 1);
}

#[test]
fn a_move_that_was_begun_is_waited_for() {
    let (_recording, data) = alone();
    let scratch = TempDir::new().unwrap();
    let begun = Instant::now();
    go_back(&data, scratch.path(), &["--settle", "3", "--dry-run"])
        .exits(0)
        .says("waited only 3 s");
    assert!(begun.elapsed() >= Duration::from_secs(3));
    let begun = Instant::now();
    let quiet = go_back(&data, scratch.path(), &["--settle", "10", "--dry-run"]).exits(0);
    assert!(begun.elapsed() >= Duration::from_secs(10));
    assert_eq!(quiet.stderr, "", "nothing is wrong");
    assert!(quiet.stdout.contains("waited     10 s"), "{quiet:#?}");
    // It is the default, and what is interrupted has changed nothing.
    let mut command = clean(BINARY);
    command.args(["downgrade", "run", "--data-dir"]).arg(&data);
    let mut child = command
        .arg("--backup-dir")
        .arg(scratch.path().join("b"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!scratch.path().join("b").exists());
}

#[test]
fn a_member_that_runs_is_not_touched() {
    let story = story();
    let own = story.data_dir("2-backup-infra1");
    let scratch = TempDir::new().unwrap();
    let fake = FakeCluster::of_story("2-backup-infra2");
    let endpoints = fake.endpoints();
    let held = lock_of(&own);
    go_back(&own, scratch.path(), &["--endpoints", &endpoints])
        .exits(11)
        .says("is locked");
    drop(held);
    // No lock can be seen, as in a container, but it answers.
    let ran = go_back(&own, scratch.path(), &["--endpoints", &endpoints]).exits(11);
    ran.says("this member runs: it answers at http://127.0.0.1:");
    assert_eq!(names(scratch.path()), Vec::<String>::new());
}

/// A member's data dir in the middle of which a bit is wrong.
fn damage(data: &Path) {
    let segment = decode::segments(&data.join("member/wal")).remove(0);
    flip_middle(&segment);
}

#[test]
fn only_where_the_data_dir_is_missing_or_broken_is_a_backup_put_back_and_not_by_us() {
    let story = story();
    let scratch = TempDir::new().unwrap();
    let backups = scratch.path().join("backups");
    let (gone, broken) = (story.path("gone.etcd"), story.data_dir("2-backup-infra1"));
    let (archive, _) = snapshot(&broken, &story.path("taken"), &[]);
    damage(&broken);
    let before = tree(&broken);
    let fake = FakeCluster::of_story("2-backup-infra2");
    fake.member(1).down();
    let endpoints = fake.endpoints();
    let flags = ["--endpoints", endpoints.as_str()];
    for (data, code, state) in [(&gone, 10, "missing"), (&broken, 4, "damaged")] {
        let ran = go_back(data, &backups, &flags).exits(code);
        let head = format!("this member's data dir is {state}; only then is a backup restored:");
        for wanted in [
            "ALLOWED, with a warning",
            head.as_str(),
            "etcd-ark restore ARCHIVE",
            "etcd-ark rewind",
        ] {
            assert!(ran.stdout.contains(wanted), "no {wanted:?} in {ran:#?}");
        }
        let told = go_back(data, &backups, &[&flags[..], &["--json"]].concat())
            .exits(code)
            .json();
        assert_eq!(told["restore_steps"].as_array().unwrap().len(), 4);
        // With no other member to ask nothing is known, and nothing is advised.
        let alone = go_back(data, &backups, &[]).exits(code);
        assert_eq!(alone.stdout, "");
    }
    let ran = go_back(&gone, &backups, &flags).exits(10);
    let beside = format!(
        "Make sure that {} is the right path: nothing is there, while there is ",
        gone.display()
    );
    assert!(ran.stdout.contains(&beside), "{ran:#?}");
    assert_eq!(tree(&broken), before);
    assert!(!backups.exists() && !gone.exists());
    // As printed, also for a member with a WAL dir: 2.1 needs its segments in `member/wal`.
    let (own, wal) = (story.path("own"), story.path("own wal"));
    copy_dir(&broken, &own);
    fs::rename(own.join("member/wal"), &wal).unwrap();
    let wal_dir = ["--wal-dir", wal.to_str().unwrap()];
    let ran = go_back(&own, &backups, &[&flags[..], &wal_dir].concat()).exits(4);
    let restore = printed(&ran.stdout, "etcd-ark restore ARCHIVE");
    let restore = restore.replace("ARCHIVE", archive.to_str().unwrap());
    let restore = format!("{restore} --offline");
    crate::gate_rewind::as_printed(&restore, scratch.path()).exits(0);
    typed("verify {}", &[&own]).exits(0);
    // Only the WAL is not where it was looked for: then it is somewhere else, and nothing is lost.
    let member = elsewhere();
    let ran = go_back(&member.data, &backups, &[]).exits(10);
    assert_eq!(ran.stdout, "");
    ran.says("hint: if etcd runs with `--wal-dir`, pass the same here");
    // For the check an unreadable disk is not evidence.
    check(Some(&broken), &[]).exits(4);
    let said = judged(Some(&broken), &at(&fake), 0);
    assert_eq!(said["verdict"], "allowed-with-warning");
    assert_has(&said["unreadable"], "is corrupt");
    let missing = check(Some(&gone), &at(&fake)).exits(10);
    assert_has(&missing.stdout, "ALLOWED, with a warning");
}

#[test]
fn the_gate_comes_first_also_where_the_data_dir_is_mistyped_or_damaged() {
    // Guards against advice to put the old binary back on a cluster that has moved, for want of a data dir to read it in.
    let story = story();
    let scratch = TempDir::new().unwrap();
    let backups = scratch.path().join("backups");
    let (gone, broken) = (
        story.path("mistyped.etcd"),
        story.data_dir("3-after-upgrade-infra1"),
    );
    damage(&broken);
    let empty = story.path("empty.etcd");
    fs::create_dir(&empty).unwrap();
    let fake = FakeCluster::of_story("3-after-upgrade");
    fake.member(1).down();
    let endpoints = fake.endpoints();
    let flags = ["--endpoints", endpoints.as_str()];
    for data in [&gone, &broken, &empty] {
        let ran = go_back(data, &backups, &flags).exits(3);
        let stdout = &ran.stdout;
        assert!(
            stdout.contains("REFUSED: the cluster has moved to 2.2")
                && stdout.contains("this member's data dir cannot be read: ")
                && !stdout.contains("restore")
                && !stdout.contains("binary"),
            "{ran:#?}"
        );
        let said = go_back(data, &backups, &[&flags[..], &["--json"]].concat())
            .exits(3)
            .json();
        assert_eq!(said["gate"]["reason"], "moved");
        assert_eq!(said["restore_steps"], Value::Null);
        assert_eq!(judged(Some(data), &at(&fake), 3)["reason"], "moved");
    }
    assert!(!backups.exists());
}

#[test]
fn what_is_refused_already_is_refused_without_a_wait() {
    let story = story();
    let scratch = TempDir::new().unwrap();
    let moved = story.data_dir("3-after-upgrade-infra0");
    let own = story.data_dir("2-backup-infra0");
    let begun = Instant::now();
    let settle = ["--settle", "60"];
    // Moved; no member answers; the WAL is where 2.1 does not look.
    go_back(&moved, scratch.path(), &settle).exits(3);
    go_back(&own, scratch.path(), &settle).exits(3);
    let member = elsewhere();
    let wal_dir = ["--wal-dir", member.wal.to_str().unwrap()];
    go_back(
        &member.data,
        scratch.path(),
        &[&settle[..], &wal_dir].concat(),
    )
    .exits(3)
    .says("it would take this member for a new one");
    // Something is where the segments would go, or archives would come into the data dir.
    let flags = [&settle[..], &wal_dir, &["--move-wal"]].concat();
    let inside = member.data.join("backups");
    let inside = go_back(&member.data, &inside, &flags).exits(3);
    inside.says("pass a --backup-dir elsewhere");
    fs::create_dir_all(member.data.join("member/wal/other")).unwrap();
    let taken = go_back(&member.data, scratch.path(), &flags).exits(3);
    taken.says("is in the way");
    // It answers, so it runs.
    let fake = FakeCluster::of_story("2-backup-infra2");
    let endpoints = fake.endpoints();
    let flags = [&settle[..], &["--endpoints", &endpoints]].concat();
    go_back(&own, scratch.path(), &flags)
        .exits(11)
        .says("this member runs");
    assert!(begun.elapsed() < Duration::from_secs(50), "it waited");
    assert_eq!(names(scratch.path()), Vec::<String>::new());
}

#[test]
fn a_quorum_that_is_missing_only_while_a_leader_is_elected_is_waited_for() {
    let story = story();
    let scratch = TempDir::new().unwrap();
    let own = story.data_dir("2-backup-infra1");
    let fake = FakeCluster::of_story("2-backup-infra2");
    fake.member(1).down();
    fake.member(0).quorum(Quorum::IsLost);
    fake.member(2).quorum(Quorum::IsLost);
    let endpoints = fake.endpoints();
    let elected_meanwhile = |data: &Path, more: &[&str]| {
        fake.member(2).quorum(Quorum::IsLost);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_secs(4));
                fake.member(2).quorum(Quorum::Reads);
            });
            let flags = ["--endpoints", &endpoints, "--settle", "9", "--dry-run"];
            go_back(data, scratch.path(), &[&flags[..], more].concat())
        })
    };
    elected_meanwhile(&own, &[]).exits(0);
    // What stands in the way is seen behind the wait, too: 2.1 would begin an empty WAL.
    let wal = story.path("wal");
    fs::rename(own.join("member/wal"), &wal).unwrap();
    elected_meanwhile(&own, &["--wal-dir", wal.to_str().unwrap()])
        .exits(3)
        .says("it would take this member for a new one");
}

/// A member that is alone, of 2.1, with its segments in a directory of their own.
struct Elsewhere {
    _recording: Recording,
    data: PathBuf,
    wal: PathBuf,
}

fn elsewhere() -> Elsewhere {
    let (recording, data) = alone();
    let wal = recording.path("disk2/wal");
    fs::create_dir(recording.path("disk2")).unwrap();
    fs::rename(data.join("member/wal"), &wal).unwrap();
    Elsewhere {
        _recording: recording,
        data,
        wal,
    }
}

#[test]
fn a_recorded_member_with_a_wal_dir_has_moved_and_where_its_wal_is_does_not_matter() {
    let recording = unpack("waldir");
    let (data, wal) = (recording.data_dir("waldir"), recording.path("waldir.wal"));
    let more = with(&[&"--wal-dir", &wal, &"--offline"]);
    assert_eq!(judged(Some(&data), &more, 3)["reason"], "moved");
    check(Some(&data), &[]).exits(10).says("pass the same here");
    // From 2.3 to 2.2 there is nothing to move: 2.2 has the flag.
    let scratch = TempDir::new().unwrap();
    let wal_dir = wal.to_str().unwrap();
    let flags = format!("--wal-dir {wal_dir} --from 2.3 --to 2.2 --offline");
    let flags: Vec<_> = flags.split(' ').collect();
    let ran = go_back(&data, scratch.path(), &flags).exits(0);
    assert!(!ran.stdout.contains("member/wal now"), "{ran:#?}");
    assert_eq!(decode::segments(&wal).len(), 1);
}

#[test]
fn segments_that_2_1_would_not_find_are_brought_home_first() {
    let member = elsewhere();
    let wal_dir = member.wal.to_str().unwrap();
    let scratch = TempDir::new().unwrap();
    let before = tree(member.data.parent().unwrap());
    let refused = go_back(&member.data, scratch.path(), &["--wal-dir", wal_dir]).exits(3);
    let refused = refused.says("it would take this member for a new one");
    refused.says("`--move-wal` moves the segments into `member/wal`");
    let dry = go_back(
        &member.data,
        scratch.path(),
        &["--wal-dir", wal_dir, "--move-wal", "--dry-run"],
    )
    .exits(0);
    // Who takes a dry run for the run and starts 2.1 would bootstrap an empty member.
    assert!(
        dry.stdout.contains("  1. Run this without --dry-run first")
            && !dry.stdout.contains("are in member/wal now"),
        "{dry:#?}"
    );
    assert_eq!(tree(member.data.parent().unwrap()), before);
    assert_eq!(names(scratch.path()), Vec::<String>::new());

    let segments = tree(&member.wal);
    let told = go_back(
        &member.data,
        scratch.path(),
        &["--wal-dir", wal_dir, "--move-wal", "--json"],
    )
    .exits(0)
    .json();
    let home = tree(&member.data.join("member/wal"));
    assert!(home.len() > 1);
    for (path, stat) in &segments {
        let moved = &home[path];
        assert!(moved.same_content(stat), "{}", path.display());
        let is_file = !stat.sha256.is_empty();
        assert!(
            !is_file || moved.mtime_ns == stat.mtime_ns,
            "{}",
            path.display()
        );
    }
    let kept = PathBuf::from(told["wal_moved"]["kept"].as_str().unwrap());
    assert_eq!(
        kept.parent(),
        Some(fs::canonicalize(&member.wal).unwrap().as_path())
    );
    assert_eq!(tree(&kept).len(), segments.len());
    // What stays keeps an etcd that still has the flag from starting with nothing.
    assert_eq!(names(&member.wal).len(), 2);
    let note = fs::read_to_string(member.wal.join("moved-to-member-wal.wal")).unwrap();
    assert!(note.contains("Start etcd without --wal-dir"), "{note}");
    typed("verify {}", &[&member.data]).exits(0);
    // Again, with the flag and without: it is done.
    for flags in [
        &["--wal-dir", wal_dir, "--move-wal"][..],
        &["--wal-dir", wal_dir],
        &[],
    ] {
        let told = go_back(&member.data, scratch.path(), &[flags, &["--json"]].concat())
            .exits(0)
            .json();
        assert_eq!(told["wal_moved"], Value::Null);
    }
}

#[test]
fn a_wal_dir_on_a_disk_of_its_own_is_a_mount_point_and_comes_home_too() {
    // Guards against a rename of what cannot be renamed, with the segments already published.
    only_with!(need("unshare") && need_root());
    let member = elsewhere();
    let (scratch, disk) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let script = r#"
        mount -t tmpfs tmpfs "$1"
        cp -a "$2"/. "$1"
        "$ARK" downgrade run --offline --data-dir "$3" --wal-dir "$1" --move-wal --backup-dir "$4"
        "$ARK" verify "$3"
        ls "$1" "$1"/before-downgrade-*
    "#;
    let paths = [disk.path(), &member.wal, &member.data, scratch.path()];
    let ran = in_own_mounts(script, &paths).exits(0);
    assert_has(&ran.stdout, "the old segments are kept in");
    assert!(ran.stdout.contains("moved-to-member-wal.wal"), "{ran:#?}");
    assert_ends(&ran.stdout, "0000000000000000-0000000000000000.wal\n");
}

#[test]
fn between_two_wals_that_differ_nothing_is_chosen() {
    let member = elsewhere();
    let wal_dir = member.wal.to_str().unwrap();
    let scratch = TempDir::new().unwrap();
    let home = member.data.join("member/wal");
    copy_dir(&member.wal, &home);
    let segment = decode::segments(&home).pop().unwrap();
    let mut more = fs::read(&segment).unwrap();
    more.truncate(decode::frames(&more).iter().rev().nth(3).unwrap().end);
    fs::write(&segment, more).unwrap();
    let before = tree(member.data.parent().unwrap());
    let flags = ["--wal-dir", wal_dir, "--move-wal"];
    go_back(&member.data, scratch.path(), &flags)
        .exits(3)
        .says("and in the dedicated WAL dir")
        .says("move it out of the data dir");
    assert_eq!(tree(member.data.parent().unwrap()), before);
    // The same bytes in both are a run that was cut off: it is finished.
    fs::remove_dir_all(&home).unwrap();
    copy_dir(&member.wal, &home);
    go_back(&member.data, scratch.path(), &["--wal-dir", wal_dir])
        .exits(3)
        .says("and the two would diverge");
    let told = go_back(
        &member.data,
        scratch.path(),
        &[&flags[..], &["--json"]].concat(),
    )
    .exits(0)
    .json();
    assert_ne!(told["wal_moved"], Value::Null);
    assert_eq!(decode::segments(&member.wal).len(), 1, "the note alone");
    // Something else in the way is not overwritten.
    let member = elsewhere();
    fs::create_dir(member.data.join("member/wal")).unwrap();
    fs::write(member.data.join("member/wal/notes.txt"), "mine").unwrap();
    let wal_dir = member.wal.to_str().unwrap();
    let flags = ["--wal-dir", wal_dir, "--move-wal"];
    go_back(&member.data, scratch.path(), &flags)
        .exits(3)
        .says("is in the way");
    fs::remove_file(member.data.join("member/wal/notes.txt")).unwrap();
    go_back(&member.data, scratch.path(), &flags).exits(0);
    typed("verify {}", &[&member.data]).exits(0);
}

#[test]
fn a_wal_dir_that_is_locked_stays_where_it_is() {
    let member = elsewhere();
    let wal_dir = member.wal.to_str().unwrap();
    let scratch = TempDir::new().unwrap();
    let segment = decode::segments(&member.wal).pop().unwrap();
    let file = fs::File::open(segment).unwrap();
    rustix::fs::flock(file.file(), FlockOperation::LockExclusive).unwrap();
    let before = tree(member.data.parent().unwrap());
    go_back(
        &member.data,
        scratch.path(),
        &["--wal-dir", wal_dir, "--move-wal"],
    )
    .exits(11);
    assert_eq!(tree(member.data.parent().unwrap()), before);
}

#[test]
fn a_cluster_of_two_is_told_to_stop_both_before_it_goes_back() {
    // Seen: allowed, and the command printed for one stopped member could only be refused: the other had no quorum.
    let fake = FakeCluster::start(7, &[(0xa, "infra0"), (0xb, "infra1")]);
    fake.member(0).version("2.2.5", "2.1.0");
    fake.member(1).version("2.1.3", "2.1.0");
    let said = check(None, &at(&fake)).exits(0).stdout;
    assert_has(&said, "stop etcd on both members");
    let command = printed(&said, "etcd-ark downgrade run");
    assert_has(command, "--offline");
    assert!(!command.contains("--endpoints"), "{command}");
    assert_has(command, "OTHER_DATA_DIR");
}
