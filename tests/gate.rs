//! The downgrade gate: when a member may go back, and how.
//!
//! Guards against silent loss: etcd 2.1 starts on data of a cluster that has moved to 2.2 and reports itself healthy,
//! so a gate that wrongly allows one downgrade is worse than none. The members' answers are those of recorded servers,
//! the disks hold what they wrote; the numbers are counted a second time here.

mod this_member;

use rustix::fs::FlockOperation;

use crate::support::fake_cluster::Quorum;
use crate::support::prelude::*;
use crate::support::relabel_member::{make_member, make_unreachable};

/// The entry that moved the recorded cluster.
const MOVED_AT: u64 = 451;

/// The recorded upgrade, with its members at addresses without a server.
fn story() -> Recording {
    let story = unpack("upgrade-story");
    for name in names(story.dir.path()) {
        let path = story.path(name);
        if path.is_dir() {
            make_unreachable(&path);
        }
    }
    story
}

/// A recorded member that is alone in its cluster, of 2.1.
fn alone() -> (Recording, PathBuf) {
    let recording = unpack("ops-2.1");
    let data = recording.data_dir("ops-2.1");
    make_unreachable(&data);
    (recording, data)
}

fn with(args: &[&dyn AsRef<OsStr>]) -> Vec<OsString> {
    args.iter().map(|arg| arg.as_ref().to_owned()).collect()
}

fn check(data_dir: Option<&Path>, more: &[OsString]) -> Ran {
    let data_dir = data_dir.map(|dir| words("--data-dir {}", &[&dir]));
    let more = [&data_dir.unwrap_or_default(), more].concat();
    typed_with("downgrade check --timeout 2", &[], &more)
}

/// As `check`, with the flags of a text; and with `--json`, which must say the same.
#[track_caller]
fn judged(data_dir: Option<&Path>, more: &[OsString], code: i32) -> Value {
    let as_text = check(data_dir, more).exits(code);
    let mut with_json = more.to_vec();
    with_json.push("--json".into());
    let as_json = check(data_dir, &with_json).exits(code);
    let said = as_json.json();
    let headline = said["message"].as_str().unwrap();
    assert!(as_text.stdout.contains(headline), "{as_text:#?}");
    for detail in said["details"].as_array().unwrap() {
        assert!(
            as_text.stdout.contains(detail.as_str().unwrap()),
            "{detail} in {as_text:#?}"
        );
    }
    if code == 3 {
        assert_eq!(as_json.json_error()["kind"], "refused");
        assert!(as_text.stderr.contains("\nhint: "), "{as_text:#?}");
        assert!(as_text.stdout.contains("REFUSED"), "{as_text:#?}");
    }
    said
}

fn at(fake: &FakeCluster) -> Vec<OsString> {
    with(&[&"--endpoints", &fake.endpoints()])
}

fn offline(targets: &[&Path]) -> Vec<OsString> {
    let mut all = with(&[&"--offline"]);
    all.extend(targets.iter().map(OsString::from));
    all
}

/// `(entries, client writes)` from the entry `from` on: counted by the formats page alone.
fn lost_from(wal: &Path, from: u64) -> (u64, u64) {
    let mut lost = (0, 0);
    for (kind, data) in decode::entries(wal).split_off(&from).into_values() {
        lost.0 += 1;
        if kind == 0 && !data.is_empty() {
            let (method, path) = (decode::bytes(&data, 2), decode::bytes(&data, 3));
            let asked_for = matches!(method, b"PUT" | b"POST" | b"DELETE");
            lost.1 += u64::from(asked_for && !path.starts_with(b"/0/"));
        }
    }
    lost
}

#[test]
fn a_cluster_that_has_moved_is_refused_by_its_disk_with_what_going_back_would_lose() {
    let story = story();
    let data = story.data_dir("3-after-upgrade-infra0");
    let lost = lost_from(&data.join("member/wal"), MOVED_AT);
    assert_eq!(lost, (48, 37));
    let scratch = TempDir::new().unwrap();
    let (archive, _) = snapshot(&data, scratch.path(), &[]);
    for target in [&data, &archive] {
        let more = with(&[&target, &"--offline"]);
        let said = judged(None, &more, 3);
        assert_eq!(said["reason"], "moved");
        assert_eq!(said["said_by"][0]["set_at_raft_index"], MOVED_AT);
        assert_eq!(said["said_by"][0]["version"], "2.2.0");
        assert_eq!(said["said_by"][0]["target"], target.to_str().unwrap());
        let left = &said["left"];
        assert_eq!(left["entries"], json!(lost.0));
        assert_eq!(left["client_writes"], json!(lost.1));
        assert_eq!(left["to_raft_index"], MOVED_AT - 1);
        assert_eq!(left["is_before_move"], true);
    }
    let text = check(Some(&data), &[]).exits(3).stdout;
    assert_has_each(
        &text,
        &[
            "REFUSED: the cluster has moved to 2.2",
            "2.2.0, set by raft entry 451",
            "etcd 2.1 would start on this data and report healthy without any warning",
            "no flag overrides this",
            "rewind the whole cluster to before entry 451, which loses 48 entries, 37 of them client writes",
        ],
    );
}

#[test]
fn nothing_overrides_the_disk_of_a_moved_member() {
    // The others are said to be of 2.1 and well, the operator vouches for everything, the flags are all there are.
    let story = story();
    let moved = story.data_dir("3-after-upgrade-infra0");
    let fake = FakeCluster::of_story("1-before-upgrade");
    let endpoints = at(&fake);
    assert_eq!(judged(Some(&moved), &endpoints, 3)["reason"], "moved");
    let others = ["2-backup-infra1", "2-backup-infra2"].map(|name| story.data_dir(name));
    let all = with(&[
        &"--offline",
        &"--stopped-version",
        &"2.1",
        &others[0],
        &others[1],
    ]);
    assert_eq!(judged(Some(&moved), &all, 3)["reason"], "moved");
    // As one TARGET among good ones it still is the one that counts.
    let own = story.data_dir("2-backup-infra1");
    let with_moved = [&endpoints[..], &with(&[&moved])].concat();
    assert_eq!(judged(Some(&own), &with_moved, 3)["reason"], "moved");
    let scratch = TempDir::new().unwrap();
    let ran = go_back(&moved, scratch.path(), &[]).exits(3);
    assert_has(&ran.stderr, "the cluster has moved to 2.2");
    assert_eq!(names(scratch.path()), Vec::<String>::new());
}

#[test]
fn the_recorded_members_after_the_upgrade_refuse_and_one_partitioned_word_is_enough() {
    let story = story();
    let own = story.data_dir("2-backup-infra1");
    let fake = FakeCluster::of_story("3-after-upgrade");
    fake.member(1).down();
    let endpoints = at(&fake);
    let said = judged(Some(&own), &endpoints, 3);
    assert_eq!(said["reason"], "moved");
    assert_eq!(said["said_by"].as_array().unwrap().len(), 2);
    // The data do not hold the entry that moved the cluster, so what a rewind would lose is not known.
    assert_eq!(said["left"]["is_before_move"], false);
    assert_eq!(
        said["left"]["to_raft_index"],
        said["left"]["not_counted_after_raft_index"]
    );
    for member in fake.members() {
        member.version("2.1.3", "2.1.0");
    }
    fake.member(2)
        .version("2.2.5", "2.2.0")
        .quorum(Quorum::IsLost);
    let said = judged(Some(&own), &endpoints, 3);
    assert_eq!(
        said["said_by"],
        json!([{
            "member_id": format!("{:x}", fake.member(2).id()), "target": null, "version": "2.2.0", "set_at_raft_index": null,
        }])
    );
}

#[test]
fn a_move_that_waits_for_a_leader_refuses() {
    // The log ends with the entry that moves the cluster, and no hard state knows it to be committed.
    let story = story();
    let data = story.data_dir("3-after-upgrade-infra0");
    cut_behind_the_move(&data);
    let fake = FakeCluster::of_story("2-backup-infra0");
    fake.member(0).down();
    let with_quorum = at(&fake);
    let offline = words("--offline", &[]);
    for more in [&with_quorum[..], &offline] {
        let said = judged(Some(&data), more, 3);
        assert_eq!(said["reason"], "moving");
        assert_eq!(said["said_by"][0]["set_at_raft_index"], MOVED_AT);
        assert_eq!(said["left"]["entries"], 1);
        assert_eq!(said["left"]["client_writes"], 0);
        let detail = said["details"][0].as_str().unwrap();
        assert!(detail.contains("not known to be committed"), "{detail}");
    }
}

/// Cuts the log right behind the entry that moves the cluster.
fn cut_behind_the_move(data: &Path) {
    let segment = decode::segments(&data.join("member/wal")).remove(0);
    let bytes = fs::read(&segment).unwrap();
    let frames = decode::frames(&bytes);
    let moves =
        |frame: &&decode::FrameRead| frame.kind == 2 && decode::number(&frame.data, 3) == MOVED_AT;
    let end = frames.iter().find(moves).unwrap().end;
    fs::write(&segment, &bytes[..end]).unwrap();
}

#[test]
fn all_members_of_2_2_refuse_also_before_the_version_has_moved() {
    let story = story();
    let own = story.data_dir("2-backup-infra2");
    let fake = FakeCluster::of_story("2-backup-infra2");
    let endpoints = at(&fake);
    // As recorded, but the last of 2.1 has been upgraded since: for seconds, the cluster is still 2.1.
    fake.member(2).version("2.2.5", "2.1.0");
    let said = judged(None, &endpoints, 3);
    assert_eq!(said["reason"], "moving");
    assert_eq!(said["said_by"], json!([]));
    let detail = said["details"][0].as_str().unwrap();
    assert_has(&detail, "every member is of 2.2 or later");
    // It has been stopped since: what it ran counts, and that is assumed to have been 2.2, which is said.
    fake.member(2).down();
    let said = judged(Some(&own), &endpoints, 3);
    assert_eq!(said["reason"], "unknown", "{said:#}");
    assert_eq!(
        said["left"],
        Value::Null,
        "what would lose writes is offered: {said:#}"
    );
    let members = said["members"].as_array().unwrap();
    let assumed = members.iter().find(|m| m["name"] == "infra2").unwrap();
    assert_eq!(assumed["release_is_assumed"], true, "{assumed}");
    let text = check(Some(&own), &endpoints).exits(3);
    let text = text
        .says("is assumed to have run 2.2 before it stopped")
        .says("`--stopped-version 2.1`");
    assert_has(
        &text.stdout,
        "assumed to have run etcd 2.2 (to change that: --stopped-version)",
    );
    let not_yet = [&endpoints[..], &with(&[&"--stopped-version", &"2.1"])].concat();
    assert_eq!(judged(Some(&own), &not_yet, 0)["verdict"], "allowed");
    // What the binaries of 2.0 and of 2.1 print.
    for printed in [
        "etcd Version: 2.1.3\nGit SHA: 1b8e5b9",
        "etcd version 2.1.0",
    ] {
        let version = with(&[&"--stopped-version", &printed]);
        let not_yet = [&endpoints[..], &version].concat();
        assert_eq!(judged(Some(&own), &not_yet, 0)["verdict"], "allowed");
    }
}

#[test]
fn in_the_mixed_phase_going_back_is_allowed_with_every_recorded_version_shown() {
    let story = story();
    for (moment, place) in [("2-backup-infra1", 1), ("2-backup-infra2", 2)] {
        let fake = FakeCluster::of_story(moment);
        let endpoints = at(&fake);
        // Everyone runs.
        let said = judged(None, &endpoints, 0);
        assert_eq!(said["verdict"], "allowed");
        assert_eq!(said["reason"], "quorum-read");
        for member in said["members"].as_array().unwrap() {
            let name = member["name"].as_str().unwrap();
            let recorded = story.json(format!("{moment}.version-of-{name}.json"));
            assert_eq!(member["server_version"], recorded["etcdserver"]);
            assert_eq!(member["cluster_version"], recorded["etcdcluster"]);
            assert_eq!(member["quorum_read"], true);
        }
        // The first that was upgraded is stopped to go back; its disk speaks for it. It is found through its endpoint's port
        // no more, and through no one else's.
        fake.member(0).down();
        let own = story.data_dir("2-backup-infra0");
        let said = judged(Some(&own), &endpoints, 0);
        assert_eq!(said["verdict"], "allowed");
        let stopped = said["members"]
            .as_array()
            .unwrap()
            .iter()
            .find(|m| m["name"] == "infra0")
            .unwrap();
        assert_eq!(stopped["stopped_and_ran"], "2.2");
        // Without its disk there is no evidence for it.
        let said = judged(None, &endpoints, 0);
        assert_eq!(said["verdict"], "allowed-with-warning");
        fake.member(0).version("2.2.5", "2.1.0");
        let one = OsString::from(fake.member(place).client_url());
        let said = judged(None, &with(&[&"--endpoints", &one]), 0);
        assert_eq!(
            said["members"].as_array().unwrap().len(),
            3,
            "one endpoint leads to all"
        );
    }
}

#[test]
fn a_silent_member_is_a_warning_and_under_strict_a_refusal() {
    let story = story();
    let own = story.data_dir("2-backup-infra0");
    let fake = FakeCluster::of_story("2-backup-infra1");
    fake.member(0).down();
    fake.member(1).down();
    let endpoints = at(&fake);
    let ran = check(Some(&own), &endpoints)
        .exits(0)
        .says("warning: infra1 (");
    assert!(ran.stdout.contains("ALLOWED, with a warning: "), "{ran:#?}");
    assert_eq!(
        judged(Some(&own), &endpoints, 0)["warnings"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let strict = [&endpoints[..], &with(&[&"--strict"])].concat();
    let said = judged(Some(&own), &strict, 3);
    assert_eq!(said["verdict"], "refused");
    assert_eq!(said["reason"], "warning");
    // The one of 2.1 is silent, too: no member is known to keep the version low.
    fake.member(2).down();
    fake.member(1)
        .client(crate::support::fake_cluster::Behaviour::Answers)
        .version("2.2.5", "2.1.0");
    assert_eq!(judged(Some(&own), &endpoints, 3)["reason"], "unknown");
}

#[test]
fn unknown_is_no() {
    let story = story();
    let own = story.data_dir("2-backup-infra0");
    // No one answers: neither where the disk says, nor anywhere else.
    let said = judged(Some(&own), &[], 3);
    assert_eq!(said["reason"], "unknown");
    assert_eq!(said["details"], json!(["no member answers"]));
    let nowhere = judged(None, &with(&[&"--endpoints", &"http://127.0.0.1:1"]), 3);
    assert_eq!(nowhere["reason"], "unknown");
    // Partitioned members that still say 2.1, one by one and together; one whose quorum read never ends.
    let fake = FakeCluster::of_story("2-backup-infra1");
    fake.member(0).down();
    let endpoints = at(&fake);
    for (first, second) in [
        (Quorum::IsLost, Quorum::IsLost),
        (Quorum::IsLost, Quorum::Hangs),
    ] {
        fake.member(1).quorum(first);
        fake.member(2).quorum(second);
        let said = judged(Some(&own), &endpoints, 3);
        let detail = said["details"][0].as_str().unwrap();
        assert_has(&detail, "may be cut off from a cluster that has moved");
    }
    // Strangers to it: the quorum read wants to know who asks.
    for member in fake.members() {
        member.quorum(Quorum::Reads).auth("cm9vdDpyb290cHc=");
    }
    let said = judged(Some(&own), &endpoints, 3);
    assert_eq!(said["reason"], "unknown");
    let detail = said["details"][0].as_str().unwrap();
    assert!(detail.contains("no or wrong user"), "{said:#}");
    let scratch = TempDir::new().unwrap();
    let password = scratch.path().join("password");
    fs::write(&password, "rootpw\n").unwrap();
    let user = with(&[&"--username", &"root", &"--password-file", &password]);
    let with_user = [&endpoints[..], &user].concat();
    assert_eq!(judged(Some(&own), &with_user, 0)["verdict"], "allowed");
}

#[test]
fn what_a_member_said_before_its_quorum_read_does_not_count() {
    // Guards against a cluster that moves between the two questions: the version is asked for again, behind the read.
    let fake = FakeCluster::of_story("2-backup-infra1");
    judged(None, &at(&fake), 0);
    for member in fake.members() {
        let requests = member.requests();
        let last = |part: &str| {
            requests
                .iter()
                .rposition(|request| request.starts_with(part))
        };
        assert!(
            last("/version") > last("/v2/keys/?quorum=true"),
            "{requests:?}"
        );
    }
}

#[test]
fn offline_one_directory_of_three_is_too_few_and_two_decide_by_what_they_hold() {
    let story = story();
    let of = |name: &str| story.data_dir(name);
    let (first, second, third) = (
        of("2-backup-infra0"),
        of("2-backup-infra1"),
        of("2-backup-infra2"),
    );
    let said = judged(Some(&first), &offline(&[]), 3);
    let detail = said["details"][0].as_str().unwrap();
    assert!(
        detail.starts_with(
            "2 of 3 members are a majority, and data dirs of 1 are given; missing: infra"
        ) && detail.contains("infra1 (")
            && detail.contains("infra2 (")
            && !detail.contains("infra0"),
        "{detail}"
    );
    let copy = story.path("copy.etcd");
    copy_dir(&first, &copy);
    let twice = judged(Some(&first), &offline(&[&copy, &first]), 3);
    assert_eq!(twice["reason"], "unknown", "the same member twice is one");
    let said = judged(Some(&first), &offline(&[&second]), 0);
    assert_eq!(said["verdict"], "allowed-with-warning");
    assert_eq!(said["reason"], "majority");
    assert_begins(
        &said["warnings"][0].as_str().unwrap(),
        "no data dir of infra2 (",
    );
    let strict = [&offline(&[&second])[..], &with(&[&"--strict"])].concat();
    judged(Some(&first), &strict, 3);
    // Copied one after the other in the rolling upgrade, before the cluster moved: what is committed at
    // 435 must be in two logs of three, so these are not what the members stopped with.
    let said = judged(None, &offline(&[&first, &second, &third]), 3);
    assert_eq!(said["reason"], "unknown");
    assert_begins(
        &said["details"][0].as_str().unwrap(),
        "entry 435 is known to be committed, so 2 members must have it",
    );
    // Two that hold it are enough; the third is said to be behind.
    let id_of = |data: &Path| decode::log(&data.join("member/wal")).member_id;
    let caught_up = story.path("infra1-at-the-end.etcd");
    copy_dir(&third, &caught_up);
    make_member(&caught_up, id_of(&second));
    let said = judged(None, &offline(&[&first, &caught_up, &third]), 0);
    assert_eq!(said["verdict"], "allowed-with-warning");
    let warnings = said["warnings"].to_string();
    assert_has(
        &warnings,
        "end at 250, and entries up to 435 are known to be committed",
    );
    let all_three = story.path("infra0-at-the-end.etcd");
    copy_dir(&third, &all_three);
    make_member(&all_three, id_of(&first));
    let said = judged(None, &offline(&[&all_three, &caught_up, &third]), 0);
    assert_eq!(said["verdict"], "allowed");
    // Two, one of which has moved; two, in one of which the move waits.
    let moved = of("3-after-upgrade-infra2");
    assert_eq!(
        judged(Some(&first), &offline(&[&moved]), 3)["reason"],
        "moved"
    );
    let waiting = of("3-after-upgrade-infra0");
    cut_behind_the_move(&waiting);
    assert_eq!(
        judged(Some(&second), &offline(&[&waiting]), 3)["reason"],
        "moving"
    );
}

/// A member that comes back alone is not healthy: who waits for that with all others stopped would start
/// them as they are.
#[test]
fn the_safety_snapshot_is_encrypted_for_the_recipients_that_are_configured() {
    // Guards against a plaintext archive, with all keys, in a backup dir of encrypted ones.
    let recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let (recording, data) = alone();
    let config = recording.dir.path().join("ark.toml");
    fs::write(&config, format!("recipient = ['{recipient}']\n")).unwrap();
    for (number, more) in [
        ["--recipient", recipient],
        ["--config", config.to_str().unwrap()],
    ]
    .iter()
    .enumerate()
    {
        let backups = recording.dir.path().join(format!("backups-{number}"));
        let line = "downgrade run --timeout 2 --settle 0 --data-dir {} --backup-dir {}";
        typed_with(line, &[&data, &backups], more).exits(0);
        let left = names(&backups);
        assert!(
            left.len() == 3 && left.iter().all(|name| name.contains(".tar.zst.age")),
            "{left:?}"
        );
    }
}

#[test]
fn a_data_dir_that_is_behind_its_own_member_is_not_the_one_that_it_runs_on() {
    // Guards against an old copy in member/wal beside a WAL dir that was not named: 2.1 on it lacks what the member has
    // acknowledged, and panics.
    let story = story();
    let fake = FakeCluster::of_story("2-backup-infra0");
    let own = story.data_dir("2-backup-infra0");
    judged(Some(&own), &at(&fake), 0);
    fake.member(0).applied(5000, 3, 4000);
    let said = judged(Some(&own), &at(&fake), 3);
    assert_eq!(said["reason"], "unknown");
    assert_has(&said["details"][0], "has applied entry 5000, and `");
    let told = typed_with("preflight --json --data-dir {}", &[&own], &at(&fake));
    assert_has(&told.exits(3).stdout, "it is not the one that it runs on");
    // While etcd runs on it, its log goes on after it was read.
    let held = lock_of(&own);
    judged(Some(&own), &at(&fake), 0);
    drop(held);
}

#[test]
fn offline_the_steps_are_those_of_a_cluster_that_is_stopped() {
    let story = story();
    let (own, other) = (
        story.data_dir("2-backup-infra1"),
        story.data_dir("2-backup-infra2"),
    );
    let scratch = TempDir::new().unwrap();
    let flags = ["--offline", other.to_str().unwrap()];
    let ran = go_back(&own, &scratch.path().join("backups"), &flags).exits(0);
    assert_has_each(
        &ran.stdout,
        &[
            "Leave etcd stopped until all members have the etcd 2.1 binary",
            "On infra2 and infra0, all of them stopped, too: run `etcd-ark downgrade run --timeout 2 --offline --data-dir ",
        ],
    );
    assert!(
        !ran.stdout.contains("when the one before is healthy again"),
        "{ran:#?}"
    );
    let check = "downgrade check --offline --data-dir {} {}";
    let told = typed(check, &[&own, &other]).exits(0).stdout;
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_has(
        &told,
        "assumed to have run etcd 2.2 (to change that: --stopped-version)",
    );
    assert_has(
        &told,
        "with the paths of that member: `etcd-ark downgrade run --offline",
    );
}

#[test]
fn offline_archives_from_before_the_move_never_allow_what_the_members_have_long_done() {
    // Guards against the pre-upgrade archives of a cluster that has moved since: every one says 2.1, and rightly so.
    let story = story();
    let scratch = TempDir::new().unwrap();
    let archives = ["2-backup-infra0", "2-backup-infra1", "2-backup-infra2"]
        .map(|name| snapshot(&story.data_dir(name), scratch.path(), &[]).0);
    let all: Vec<&Path> = archives.iter().map(PathBuf::as_path).collect();
    let said = judged(None, &offline(&all), 3);
    assert_eq!(said["reason"], "unknown");
    let text = said["details"].to_string();
    assert_has_each(
        &text,
        &[
            "are a majority, and data dirs of 0 are given; missing: infra",
            "an archive can show that the cluster has moved, but not that it has not",
        ],
    );
    // One data dir and any number of archives are one data dir.
    let own = story.data_dir("2-backup-infra2");
    let said = judged(Some(&own), &offline(&all), 3);
    let text = said["details"].to_string();
    assert!(text.contains("data dirs of 1 are given"), "{text}");
    // What moved the cluster is proof from an archive as from anywhere else.
    let (moved, _) = snapshot(
        &story.data_dir("3-after-upgrade-infra1"),
        scratch.path(),
        &[],
    );
    assert_eq!(
        judged(Some(&own), &offline(&[&moved]), 3)["reason"],
        "moved"
    );
    // A corrupt archive is not evidence.
    flip(&archives[0], 1000);
    let ran = check(None, &offline(&all)).exits(4);
    assert!(ran.stdout.is_empty(), "{ran:#?}");
}

#[test]
fn a_member_whose_version_cannot_be_read_is_not_taken_for_one_that_is_silent() {
    let story = story();
    let own = story.data_dir("2-backup-infra0");
    let fake = FakeCluster::of_story("2-backup-infra1");
    fake.member(0).down();
    let endpoints = at(&fake);
    judged(Some(&own), &endpoints, 0);
    fake.member(1)
        .version_text(r#"{"etcdserver":"2.2.5.1","etcdcluster":"2.2.0"}"#);
    let said = judged(Some(&own), &endpoints, 3);
    assert_eq!(said["reason"], "unknown");
    let detail = said["details"][0].as_str().unwrap();
    assert_begins(&detail, "something answers at the URLs of infra1 (");
    check(Some(&own), &endpoints)
        .exits(3)
        .says("hint: find out what answers there");
}

#[test]
fn offline_a_member_that_answers_gives_the_lie_to_the_vouch() {
    let story = story();
    let (first, second) = (
        story.data_dir("2-backup-infra0"),
        story.data_dir("2-backup-infra1"),
    );
    let fake = FakeCluster::of_story("2-backup-infra1");
    fake.member(0).down();
    fake.member(1).down();
    let endpoints = at(&fake);
    let more = [&endpoints[..], &with(&[&"--offline", &second])].concat();
    let said = judged(Some(&first), &more, 3);
    assert_has(&said["details"][0], "but infra2 (");
    // Without endpoints no member is asked.
    let before = fake.member(2).requests().len();
    judged(Some(&first), &with(&[&"--offline", &second]), 0);
    assert_eq!(fake.member(2).requests().len(), before);
    let held = lock_of(&second);
    let said = judged(Some(&first), &with(&[&"--offline", &second]), 3);
    assert_has(&said["details"][0], "but etcd runs on");
    drop(held);
}

/// The lock that a running etcd holds on its last segment.
fn lock_of(data: &Path) -> fs::File {
    let segment = decode::segments(&data.join("member/wal")).pop().unwrap();
    let file = fs::File::open(segment).unwrap();
    rustix::fs::flock(file.file(), FlockOperation::LockExclusive).unwrap();
    file
}

#[test]
fn a_member_that_is_alone_decides_by_its_own_data_dir_once_it_is_stopped() {
    let (_recording, data) = alone();
    let said = judged(Some(&data), &[], 0);
    assert_eq!(said["verdict"], "allowed");
    assert_eq!(said["reason"], "own-data-dir");
    let held = lock_of(&data);
    let said = judged(Some(&data), &[], 3);
    assert_eq!(said["reason"], "unknown", "it runs, and does not answer");
    drop(held);
    // The same as an archive is the truth of yesterday.
    let scratch = TempDir::new().unwrap();
    let (archive, _) = snapshot(&data, scratch.path(), &[]);
    assert_eq!(judged(None, &with(&[&archive]), 3)["reason"], "unknown");
    // It runs and answers: of 2.2 it is about to move, of 2.1 it is where it should be.
    let log = decode::log(&data.join("member/wal"));
    let fake = FakeCluster::start(log.cluster_id, &[(log.member_id, "solo")]);
    let endpoints = at(&fake);
    assert_eq!(judged(Some(&data), &endpoints, 0)["reason"], "quorum-read");
    fake.member(0).version("2.2.5", "2.1.0");
    assert_eq!(judged(Some(&data), &endpoints, 3)["reason"], "moving");
}

#[test]
fn a_cluster_that_was_never_so_far_has_nothing_to_go_back_from() {
    let fake = FakeCluster::start(7, &[(1, "a"), (2, "b")]);
    fake.member(0).version_text("etcd 2.0.13");
    fake.member(1).version("2.2.5", "not_decided");
    let endpoints = at(&fake);
    let said = judged(None, &endpoints, 0);
    assert_eq!(said["verdict"], "nothing-to-go-back-from");
    let recording = unpack("v20");
    let data = recording.data_dir("v20");
    make_unreachable(&data);
    assert_eq!(
        judged(Some(&data), &[], 3)["reason"],
        "unknown",
        "it may have run 2.2"
    );
    let more = with(&[&"--stopped-version", &"2.0"]);
    assert_eq!(
        judged(Some(&data), &more, 0)["verdict"],
        "nothing-to-go-back-from"
    );
    let scratch = TempDir::new().unwrap();
    let ran = go_back(&data, scratch.path(), &["--stopped-version", "2.0"]).exits(0);
    assert!(ran.stdout.contains("NOTHING TO GO BACK FROM"), "{ran:#?}");
    assert_eq!(names(scratch.path()), Vec::<String>::new());
}

#[test]
fn a_cluster_that_moved_further_than_was_asked_stays_on_what_it_runs() {
    // Guards against advice to stay on 2.2, which does not start on these data.
    let fake = FakeCluster::of_story("1-before-upgrade");
    for member in fake.members() {
        member.version("2.3.8", "2.3.0");
    }
    let said = check(None, &at(&fake)).exits(3).stdout;
    assert_has(&said, "stay on 2.3, with the data as they are");
}

#[test]
fn data_and_endpoints_of_two_clusters_are_refused_and_so_is_a_removed_member() {
    let story = story();
    let own = story.data_dir("2-backup-infra0");
    let other = unpack("mem-a");
    let theirs = other.data_dir("mem-a");
    make_unreachable(&theirs);
    check(Some(&own), &with(&[&theirs]))
        .exits(3)
        .says("belongs to cluster 1b3e718414357104, and `");
    let fake = FakeCluster::of_story("1-before-upgrade");
    let endpoints = at(&fake);
    check(Some(&theirs), &endpoints)
        .exits(3)
        .says("belongs to cluster aa1662aca318a75f");
    fake.member(0).removed().down();
    check(Some(&own), &endpoints)
        .exits(3)
        .says("which is not a member of it any more");
    // One of two endpoints is of another cluster.
    let stranger = FakeCluster::start(7, &[(1, "a")]);
    let both = OsString::from(format!("{},{}", fake.endpoints(), stranger.endpoints()));
    check(None, &with(&[&"--endpoints", &both]))
        .exits(3)
        .says("belongs to cluster 7, and");
}

#[test]
fn wrong_usage_is_said_before_anything_is_asked() {
    check(None, &[])
        .exits(2)
        .says("no endpoint and no data dir is given");
    let (_recording, data) = alone();
    check(Some(&data), &with(&[&"--from", &"2.1"]))
        .exits(2)
        .says("is not a downgrade");
    check(Some(&data), &with(&[&"--from", &"two"])).exits(2);
    check(Some(Path::new("/nonexistent")), &[]).exits(10);
    let other_way = with(&[&"--from", &"2.3", &"--to", &"2.0"]);
    let said = judged(Some(&data), &other_way, 3);
    assert_has(&said["details"][0], "`--to 2.1`");
}

/// `downgrade run` without waiting by default.
fn go_back(data: &Path, backups: &Path, more: &[&str]) -> Ran {
    let settle: &[_] = if more.contains(&"--settle") {
        &[]
    } else {
        &["--settle", "0"]
    };
    let line = "downgrade run --timeout 2 --data-dir {} --backup-dir {}";
    typed_with(line, &[&data, &backups], &[more, settle].concat())
}

#[test]
fn the_flags_are_in_the_environment_too() {
    let (_recording, data) = alone();
    let mut command = clean(BINARY);
    command
        .args(["downgrade", "check"])
        .env("ETCD_DATA_DIR", &data)
        .env("ETCD_WAL_DIR", "");
    run(&mut command).exits(0);
    run(command
        .env("ETCD_ARK_DOWNGRADE_FROM", "2.1")
        .env("ETCD_ARK_DOWNGRADE_TO", "2.0"))
    .exits(3)
    .says("has moved to 2.1");
}

#[test]
fn a_member_that_was_added_and_has_not_started_is_named_by_its_id_and_said_not_to_have_started() {
    // Guards against a line that begins with an empty name, and a search for a member that never was there.
    let fake = FakeCluster::of_story("2-backup-infra1");
    fake.member(2).publishes(&[]).down();
    let id = format!("{:016x}", fake.member(2).id());
    let endpoints = at(&fake);
    let gate = check(None, &endpoints);
    let preflight = typed_with("preflight --timeout 2", &[], &endpoints);
    for ran in [&gate, &preflight] {
        let unwrapped = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        let wanted = format!("{id} (has not started yet)");
        assert!(unwrapped.contains(&wanted), "no {wanted} in {ran:#?}");
        assert!(
            !unwrapped.contains(" ()") && !unwrapped.contains("  ("),
            "{ran:#?}"
        );
    }
}

#[test]
fn a_cluster_of_two_is_told_that_it_goes_back_only_when_both_are_stopped() {
    // Guards against "bring back enough members" where the only one that is missing is stopped to go back.
    let fake = FakeCluster::start(7, &[(1, "one"), (2, "two")]);
    for member in fake.members() {
        member.version("2.1.3", "2.1.0");
    }
    fake.member(1).down();
    fake.member(0).quorum(Quorum::IsLost);
    let told = check(None, &at(&fake)).exits(3);
    told.says("stop the other too and pass --offline and the data dirs of both");
}
