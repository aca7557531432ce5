//! The checklist before an upgrade: what meets the guide passes, and each fault is found for its own reason.
//!
//! Guards against a false "OK": `etcdctl cluster-health` accepts one healthy member, and a backup that was never
//! read may be corrupt. The members answer as the recorded ones did, with the data dirs that they had at that time.

use crate::support::archive_builder::Forge;
use crate::support::ark;
use crate::support::fake_cluster::Quorum;
use crate::support::prelude::*;

/// A moment of the recorded upgrade: three members that answer, their data dirs, and a backup dir with an archive of each.
struct Scene {
    fake: FakeCluster,
    recording: Recording,
    backups: TempDir,
    /// Which data dirs of the recording: `2-backup` or `3-after-upgrade`.
    dirs: &'static str,
}

impl Scene {
    /// All run 2.1.3; the data dirs are those that each member had just before its own turn.
    fn before() -> Self {
        Self::of("1-before-upgrade", "2-backup")
    }

    /// All run 2.2.5, and the cluster has moved.
    fn after() -> Self {
        Self::of("3-after-upgrade", "3-after-upgrade")
    }

    fn of(moment: &str, dirs: &'static str) -> Self {
        let scene = Self {
            fake: FakeCluster::of_story(moment),
            recording: unpack("upgrade-story"),
            backups: TempDir::new().unwrap(),
            dirs,
        };
        for number in 0..3 {
            scene.back_up(number);
        }
        scene
    }

    fn data_dir(&self, number: usize) -> PathBuf {
        self.recording
            .data_dir(&format!("{}-infra{number}", self.dirs))
    }

    fn back_up(&self, number: usize) -> PathBuf {
        let label = ["--label", "pre-upgrade"];
        ark::snapshot(&self.data_dir(number), self.backups.path(), &label).0
    }

    fn asked(&self, flags: &[&str]) -> Ran {
        let endpoints = self.fake.endpoints();
        typed_with("preflight --endpoints {}", &[&endpoints], flags)
    }

    fn on_infra0(&self, flags: &[&str]) -> Ran {
        let dir = self.data_dir(0);
        self.on(&dir, flags)
    }

    fn on(&self, data_dir: &Path, flags: &[&str]) -> Ran {
        let mut all = vec!["--data-dir", data_dir.to_str().unwrap()];
        all.extend(["--backup-dir", self.backups.path().to_str().unwrap()]);
        all.extend(flags);
        self.asked(&all)
    }
}

#[track_caller]
fn check(ran: &Ran, id: &str) -> Value {
    let all = ran.json()["checks"].clone();
    let found = all.as_array().unwrap().iter().find(|c| c["id"] == id);
    found
        .unwrap_or_else(|| panic!("no {id} in {all:#}"))
        .clone()
}

fn failed(ran: &Ran) -> Vec<String> {
    with_status(ran, "failed")
}

fn with_status(ran: &Ran, status: &str) -> Vec<String> {
    let all = ran.json()["checks"].clone();
    let all = all.as_array().unwrap().iter();
    let found = all.filter(|check| check["status"] == status);
    found
        .map(|check| check["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Exactly `ids`, with spaces between them, fail, with exit code 3; `words`, with bars between them, stand in the evidence or
/// the advice of the first of them.
#[track_caller]
fn refused(ran: Ran, ids: &str, words: &str) {
    // The case, in the output of a failed test.
    println!("{ids}: {words}");
    let ran = ran.exits(3);
    assert_eq!(failed(&ran).join(" "), ids, "{:#}", ran.json());
    let text = check(&ran, ids.split(' ').next().unwrap()).to_string();
    assert_has_each(&text, &words.split(" | ").collect::<Vec<_>>());
    assert_eq!(ran.json_error()["kind"], "refused");
    assert_eq!(ran.json()["status"], "failed");
}

/// Compares what was said, but for what differs from run to run.
macro_rules! shows {
    ($text:expr, @$expected:literal) => {
        insta::with_settings!({filters => vec![
            (r"http://127\.0\.0\.1:\d+", "[URL]"),
            (r"[\d.]+ (seconds?|minutes) old", "[AGE] old"),
            (r"verified,\n +pre-upgrade", "verified, pre-upgrade"),
            (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "[TIME]"),
            (r"[\d.]+ [kMGT]B free", "[FREE] free"),
            (r"--data-dir /\S+`\s+follows\s+the\s+upgrade", "--data-dir DATA_DIR` follows the upgrade"),
        ]}, { insta::assert_snapshot!($text, @$expected) });
    };
}

#[test]
fn a_healthy_cluster_with_fresh_archives_is_ready() {
    let ran = Scene::after().on_infra0(&["--from", "2.2", "--to", "2.3", "--strict"]);
    let ran = ran.exits(0);
    assert_eq!(ran.stderr, "");
    shows!(&ran.stdout, @r#"
upgrade 2.2 to 2.3, cluster aa1662aca318a75f; this member is infra0

NAME    ID                SERVER  CLUSTER  HEALTH   ROLE      POSITION
infra0  8998a2face6fb7ba  2.2.5   2.2.0    healthy  leader    250, term 2
infra1  4c068e21e5a08be2  2.2.5   2.2.0    healthy  follower  250, term 2
infra2  4971f327a24069a9  2.2.5   2.2.0    healthy  follower  250, term 2

OK    server versions  infra0, infra1 and infra2 run 2.2.5
OK    health           all 3 members are healthy and answered a quorum read
OK    leader           infra0, known to all 3
OK    membership       3 members, the same at each
OK    cluster version  2.2.0, says each of 3 members
OK    data dir         infra0, valid up to index 498
OK    data size        101.4 kB of data, 316.5 kB in the directory
OK    free space       [FREE] free for the data dir, 192.3 MB wanted
OK    own backup       [AGE] old, to index 498, verified, pre-upgrade
OK    all backups      infra1: [AGE] old, to index 498, verified, pre-upgrade
                       infra2: [AGE] old, to index 498, verified, pre-upgrade
OK    in-order keys    2.2 and 2.3 name them alike
OK    WAL dir          member/wal, as every release has it
OK    way back         if the cluster version changed now, at index 498, this
                       member's log could be rewound until about index 909
                       that is in 31 seconds ([TIME]), at 13
                       entries a second
                       etcd keeps 5 raft snapshots, here one every 101 entries
                       the archive (up to index 498) remains available
OK    auth             off, says the store in the data dir
note  staging          manual check: were the applications tested against the
                       new release in staging?

ready for 2.3
next: infra1: take a snapshot of it, stop etcd, start 2.3 with the same
configuration; once it is healthy, the same with infra2, then infra0 (the
leader); `etcd-ark preflight --watch --from 2.2 --to 2.3 --endpoints \
  [URL],[URL],[URL] \
  --data-dir DATA_DIR` follows the upgrade
"#);
}

#[test]
fn in_order_keys_that_2_2_would_rename_are_the_ones_that_it_renamed() {
    let scene = Scene::before();
    let ran = scene.on_infra0(&[]).exits(0);
    let (_, warning) = ran.stdout.split_once("WARN  ").unwrap();
    let (warning, rest) = warning.split_once("OK    WAL dir").unwrap();
    shows!(warning, @r#"
in-order keys    a first start with 2.2 gives 3 acknowledged keys a new
                       name, on this member only
                       /app/inorder/: the last POST is entry 233, the raft
                       snapshot is at 202
                       hint: stop all POSTs until all members run 2.2, and on
                       each member wait for a raft snapshot above the last POST
                       before it is stopped (`inspect` of its data dir shows the
                       newest; etcd makes one every --snapshot-count entries,
                       10,000 by default); it comes sooner after a restart with
                       the old release and a low --snapshot-count
"#);
    assert!(!rest.contains("WARN  "), "{rest}");
    let (_, end) = rest.split_once("\n\n").unwrap();
    shows!(end, @r#"
no check failed; weigh what is marked WARN first: in-order keys
next: infra1: take a snapshot of it, stop etcd, start 2.2 with the same
configuration; once it is healthy, the same with infra2, then infra0 (the
leader); `etcd-ark preflight --watch --endpoints \
  [URL],[URL],[URL] \
  --data-dir DATA_DIR` follows the upgrade
"#);
    scene.on_infra0(&["--strict"]).exits(5);
    // What infra0 itself served before its turn and after it, as recorded.
    let names = |moment: &str| {
        let answer = scene.recording.json(format!("{moment}.keys.json"));
        in_order_names(&answer["node"])
    };
    let (before, after) = (names("2-backup-infra0"), names("3-after-upgrade.infra0"));
    let renamed = |name: &&String| {
        let padded = format!("{name:0>20}");
        !after.contains(*name) && after.contains(&padded)
    };
    let renamed = before.iter().filter(renamed).count();
    let told = check(&scene.on_infra0(&["--json"]), "in-order");
    let told = told["evidence"][0].as_str().unwrap();
    assert_has(&told, &format!("gives {renamed} acknowledged keys"));
    assert!(renamed > 0);
}

/// The names in `/app/inorder` of a recorded answer.
fn in_order_names(node: &Value) -> Vec<String> {
    let nodes = node["nodes"].as_array().into_iter().flatten();
    let names = nodes.flat_map(|node| {
        let key = node["key"].as_str().unwrap();
        match key.strip_prefix("/app/inorder/") {
            Some(name) => vec![name.to_owned()],
            None => in_order_names(node),
        }
    });
    names.collect()
}

#[test]
fn data_dir_and_backup_dir_stay_as_they_are() {
    let scene = Scene::before();
    let all = [scene.data_dir(0), scene.backups.path().to_path_buf()];
    let before = all.each_ref().map(|dir| tree(dir));
    scene.on_infra0(&[]).exits(0);
    assert_eq!(before, all.each_ref().map(|dir| tree(dir)));
}

#[test]
fn without_a_data_dir_and_a_backup_dir_what_they_would_tell_is_not_checked_and_so_a_warning() {
    let scene = Scene::before();
    let ran = scene.asked(&["--json"]).exits(0);
    let unchecked = [
        "data-dir",
        "data-size",
        "free-space",
        "own-backup",
        "all-backups",
        "in-order",
        "wal-dir",
        "way-back",
        "auth",
    ];
    assert_eq!(with_status(&ran, "warning"), unchecked);
    for id in unchecked {
        let text = check(&ran, id)["evidence"][0].as_str().unwrap().to_owned();
        assert!(text.starts_with("not checked: give --"), "{text}");
    }
    scene.asked(&["--strict"]).exits(5);
    let quiet = scene.asked(&["--quiet"]).exits(0);
    assert_begins(&quiet.stdout, "WARN  data dir");
    assert!(!quiet.stdout.contains("OK   "), "{quiet:#?}");
    assert!(!quiet.stdout.contains("staging"), "{quiet:#?}");
    assert!(!quiet.stdout.contains("next:"), "{quiet:#?}");
}

#[test]
fn the_json_has_the_members_the_checks_and_the_way_back() {
    let scene = Scene::before();
    let told = scene.on_infra0(&["--json"]).exits(0).json();
    assert_ne!(told["status"], "failed");
    assert_eq!((&told["from"], &told["to"]), (&"2.1".into(), &"2.2".into()));
    assert_eq!(told["cluster_id"], format!("{:x}", scene.fake.cluster_id()));
    assert_eq!(told["members"][0]["name"], "infra0");
    assert_eq!(told["members"][0]["role"], "leader");
    assert_eq!(told["members"][0]["server_version"], "2.1.3");
    assert_eq!(told["members"][2]["cluster_version"], "2.1.0");
    assert_eq!(told["counts"]["failed"], 0);
    let way_back = &told["way_back"];
    assert_eq!(way_back["last_raft_index"], 250);
    assert_eq!(way_back["raft_snapshot_raft_index"], 202);
    // The server was started with --snapshot-count 100, as the distances of its raft snapshots show.
    assert_eq!(way_back["entries_per_raft_snapshot"], 101);
    assert_eq!(way_back["gone_from_raft_index"], 202 + 5 * 101);
    assert!(way_back["rate"]["entries_per_second"].as_f64().unwrap() > 0.0);
}

mod members {
    use super::*;

    /// What preflight says on infra0 after `change`; only what the members answer is of interest.
    fn after(change: impl FnOnce(&FakeCluster)) -> Ran {
        let scene = Scene::before();
        change(&scene.fake);
        scene.on_infra0(&["--json", "--timeout", "3"])
    }

    #[test]
    fn what_one_member_says_fails_just_the_checks_that_it_is_about() {
        type Change = fn(&FakeCluster);
        // What is changed, the checks that fail for it, and words of the first of them.
        let rows: [(Change, &str, &str); 8] = [
            (
                |fake| _ = fake.member(1).down(),
                "versions health leader cluster-version",
                "infra1 does not answer | cannot be reached",
            ),
            (
                |fake| _ = fake.member(2).version_text("etcd 2.0.13"),
                "versions cluster-version",
                "infra2 runs 2.0.13 | upgrade to 2.1 first",
            ),
            (
                // `etcdctl` is content with one that is healthy.
                |fake| _ = fake.member(1).healthy(false),
                "health",
                "infra1 says that it is not healthy",
            ),
            (
                |fake| _ = fake.member(2).quorum(Quorum::IsLost).follows(0),
                "health leader",
                "infra2 answered no quorum read",
            ),
            (
                |fake| _ = fake.member(2).follows(fake.member(2).id()),
                "leader",
                "infra2 says that it leads",
            ),
            (
                |fake| {
                    let own = fake.member(1);
                    own.lists(&format!(
                        r#"{{"members":[{{"id":"{:x}","name":"infra1","peerURLs":[],"clientURLs":["{}"]}}]}}"#,
                        own.id(),
                        own.client_url()
                    ));
                },
                "membership",
                "infra1 lists other members",
            ),
            (
                |fake| _ = fake.member(1).version("2.1.3", "not_decided"),
                "cluster-version",
                "not decided yet, says infra1",
            ),
            (
                |fake| _ = fake.member(1).version("2.1.3", "2.0.0"),
                "cluster-version",
                "2.0.0, says infra1",
            ),
        ];
        for (change, ids, words) in rows {
            refused(after(change), ids, words);
        }
    }

    #[test]
    fn an_endpoint_where_nothing_listens_is_named_once_with_the_reason() {
        let args = ["preflight", "--endpoints", "http://127.0.0.1:1"];
        let ran = ark(args).exits(3);
        let told = "no member answers: http://127.0.0.1:1 cannot be reached: Connection refused";
        let lines: Vec<_> = ran.stdout.split_whitespace().collect();
        assert_eq!(lines.join(" ").matches(told).count(), 1, "{ran:#?}");
        assert_eq!(
            ran.stdout
                .matches("not checked: no member answered")
                .count(),
            4
        );
    }

    #[test]
    fn within_the_roll_it_is_told_who_is_left_with_the_leader_last() {
        let scene = Scene::of("2-backup-infra1", "2-backup");
        let ran = scene.on_infra0(&["--json"]).exits(0);
        let told = check(&ran, "versions").to_string();
        assert!(told.contains("infra0 runs 2.2.5"), "{told}");
        assert!(told.contains("infra1 and infra2 run 2.1.3"), "{told}");
        assert!(told.contains("still to do: infra"), "{told}");
        // infra0 names by 2.2's rules now, and the others by those of 2.1.
        let in_order = check(&ran, "in-order");
        assert_eq!(in_order["status"], "warning");
        assert!(in_order.to_string().contains("members run 2.1 and 2.2"));
    }

    #[test]
    fn a_cluster_that_has_moved_is_past_preflight() {
        let scene = Scene::after();
        let ran = scene.on_infra0(&["--json"]);
        let ids = "versions cluster-version own-backup all-backups way-back";
        let advice = check(&ran, "own-backup").to_string();
        let says = "an archive taken now cannot take it back to 2.1";
        assert!(advice.contains(says), "{advice}");
        refused(ran, ids, "downgrade check");
    }

    #[test]
    fn an_endpoint_of_another_cluster_fails() {
        let scene = Scene::before();
        let other = FakeCluster::start(0xdead, &[(0xbad, "other")]);
        let both = format!("{},{}", scene.fake.endpoints(), other.endpoints());
        let dir = scene.data_dir(0);
        let ran = typed(
            "preflight --json --endpoints {} --data-dir {}",
            &[&both, &dir],
        );
        refused(ran, "membership data-dir", "another cluster, dead");
        // Where only the other one answers, that is all there is to say.
        for flags in [&[][..], &["--watch", "--watch-for", "1s"]] {
            let line = "preflight --endpoints {} --data-dir {}";
            let ran = typed_with(line, &[&other.endpoints(), &dir], flags).exits(3);
            assert_eq!(ran.stdout, "");
            ran.says("belongs to cluster dead, and `")
                .says("pass the data dir and the endpoints of one cluster");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_evidence_and_what_to_do_about_it() {
        let scene = Scene::before();
        scene.fake.member(1).down();
        scene.fake.member(0).healthy(false);
        scene.fake.member(2).version("2.2.5", "2.1.0");
        let ran = scene.asked(&[]).exits(3);
        shows!(&ran.stdout, @r#"
upgrade 2.1 to 2.2, cluster aa1662aca318a75f

NAME    ID                SERVER  CLUSTER  HEALTH     ROLE      POSITION
infra0  8998a2face6fb7ba  2.1.3   2.1.0    unhealthy  leader    250, term 2
infra1  4c068e21e5a08be2  -       -        down       -         -
infra2  4971f327a24069a9  2.2.5   2.1.0    healthy    follower  250, term 2

FAIL  server versions  infra0 runs 2.1.3
                       infra2 runs 2.2.5
                       infra1 does not answer: [URL] cannot be
                       reached: Connection refused (os error 111)
                       hint: every member must answer before another is stopped:
                       bring it back first
FAIL  health           infra1 does not answer
                       infra0 says that it is not healthy
                       hint: do not stop another member now; bring these back
                       first (`etcdctl cluster-health` calls a cluster healthy
                       when one member is)
FAIL  leader           infra1 does not answer
                       infra0 and infra2 follow infra0
                       hint: every member must answer before another is stopped:
                       bring it back first
OK    membership       3 members, the same at each that answers
FAIL  cluster version  2.1.0, says infra0 and infra2
                       infra1 does not answer
                       hint: every member must answer before another is stopped:
                       bring it back first
WARN  data dir         not checked: give --data-dir
WARN  data size        not checked: give --data-dir
WARN  free space       not checked: give --data-dir
WARN  own backup       not checked: give --backup-dir
WARN  all backups      not checked: give --backup-dir
WARN  in-order keys    not checked: give --data-dir
WARN  WAL dir          not checked: give --data-dir
WARN  way back         not checked: give --data-dir
WARN  auth             not checked: give --data-dir: the store in it says
                       whether it is on
note  staging          manual check: were the applications tested against the
                       new release in staging?
"#);
        shows!(&ran.stderr, @r#"
error: not ready for 2.2: 4 of 14 checks failed: server versions, health, leader, cluster version
hint: fix these, and run preflight again before you upgrade
"#);
    }
}

mod data_dirs {
    use super::*;

    /// A member alone in its cluster, as its data dir says, that answers with these versions.
    fn alone(data_dir: &Path, wal_dir: Option<&Path>, versions: (&str, &str)) -> FakeCluster {
        let mut args = vec!["--json".as_ref(), "inspect".as_ref(), data_dir.as_os_str()];
        if let Some(wal_dir) = wal_dir {
            args.extend([OsStr::new("--wal-dir"), wal_dir.as_os_str()]);
        }
        let told = ark(args).exits(0).json();
        let identity = &told["member"];
        let hex = |id: &Value| u64::from_str_radix(id.as_str().unwrap(), 16).unwrap();
        let member = (hex(&identity["id"]), identity["name"].as_str().unwrap());
        let fake = FakeCluster::start(hex(&identity["cluster_id"]), &[member]);
        let applied = told["position"]["commit_index"].as_u64().unwrap();
        fake.member(0).version(versions.0, versions.1);
        fake.member(0).applied(applied, 2, 1);
        fake
    }

    #[test]
    fn one_that_is_not_there_fails_with_the_reason() {
        let scene = Scene::before();
        let nowhere = scene.backups.path().join("nowhere");
        let ran = scene.on(&nowhere, &["--json"]);
        let ids = "data-dir data-size free-space own-backup in-order wal-dir way-back";
        refused(
            ran,
            ids,
            "there is no data dir at | nowhere | pass the directory",
        );
    }

    #[test]
    fn one_flipped_bit_in_its_log_fails() {
        let scene = Scene::before();
        let copy = TempDir::new().unwrap();
        let dir = copy.path().join("infra0.etcd");
        copy_dir(&scene.data_dir(0), &dir);
        let wal = dir.join("member/wal/0000000000000000-0000000000000000.wal");
        flip_middle(&wal);
        let ran = scene.on(&dir, &["--json"]).exits(3);
        let told = check(&ran, "data-dir").to_string();
        assert_has(&told, "0000000000000000-0000000000000000.wal");
        assert!(failed(&ran).contains(&"data-dir".to_owned()));
    }

    #[test]
    fn more_than_100_mb_fail_until_accepted_and_more_than_50_advise_to_wait() {
        let recording = unpack("multisegment");
        let dir = recording.data_dir("multisegment");
        let fake = alone(&dir, None, ("2.2.5", "2.2.0"));
        let run = |flags: &[&str]| {
            let endpoints = fake.endpoints();
            let line = "preflight --json --from 2.2 --to 2.3 --endpoints {} --data-dir {}";
            typed_with(line, &[&endpoints, &dir], flags)
        };
        refused(
            run(&[]),
            "data-size",
            "MB of data | over the limit of 100.0 MB",
        );
        let accepted = run(&["--accept-data-size"]).exits(0);
        let told = check(&accepted, "data-size");
        assert_eq!(told["status"], "warning");
        assert!(told["hint"].as_str().unwrap().contains("wait 2 minutes"));
        let lifted = check(&run(&["--size-limit", "500MB"]).exits(0), "data-size");
        assert_eq!(lifted["status"], "warning");
        assert_begins(&lifted["hint"].as_str().unwrap(), "wait 2 minutes");
        // Its one raft snapshot is at 61, and the log goes on to 165: at least 104 entries lie between two.
        let way_back = &accepted.json()["way_back"];
        assert_eq!(way_back["interval"], "at-least");
        assert_eq!(way_back["entries_per_raft_snapshot"], 165 - 61);
        assert_eq!(way_back["goes_first"], "segment");
    }

    #[test]
    fn a_dedicated_wal_dir_is_a_trap_on_the_way_back_to_2_1() {
        let recording = unpack("waldir");
        let (dir, wal) = (recording.data_dir("waldir"), recording.path("waldir.wal"));
        let fake = alone(&dir, Some(&wal), ("2.1.3", "2.1.0"));
        let run = |flags: &[&str]| {
            let endpoints = fake.endpoints();
            let line = "preflight --json --endpoints {} --data-dir {}";
            typed_with(line, &[&endpoints, &dir], flags).exits(3)
        };
        let told = check(&run(&["--wal-dir", wal.to_str().unwrap()]), "wal-dir");
        assert_eq!(told["status"], "failed");
        let words = [wal.to_str().unwrap(), "2.1 has no --wal-dir", "member/wal"];
        assert_has_each(&told, &words);
        // Not given, the segments are not found at all.
        let told = check(&run(&[]), "data-dir");
        assert_eq!(told["status"], "failed");
        assert_has(&told["hint"], "--wal-dir");
        fake.member(0).version("2.2.5", "2.1.0");
        let told = check(&run(&["--wal-dir", wal.to_str().unwrap()]), "wal-dir");
        assert_eq!(told["status"], "warning");
        assert!(told.to_string().contains("--move-wal"), "{told}");
    }

    #[test]
    fn auth_is_read_in_the_store_and_met_at_the_members() {
        let recording = unpack("auth");
        let dir = recording.data_dir("auth");
        let fake = alone(&dir, None, ("2.1.3", "2.1.0"));
        fake.member(0).auth("cm9vdDpyb290cHc=");
        let endpoints = fake.endpoints();
        let args = ["preflight", "--json", "--endpoints", &endpoints];
        let dir = ["--data-dir", dir.to_str().unwrap()];
        let ran = ark(args.iter().chain(&dir));
        refused(ran, "health", "--username");
        let password = TempDir::new().unwrap();
        let password = password.path().join("password");
        fs::create_dir_all(password.parent().unwrap()).unwrap();
        fs::write(&password, "rootpw\n").unwrap();
        let user = [
            "--username",
            "root",
            "--password-file",
            password.to_str().unwrap(),
        ];
        let ran = ark(args.iter().chain(&dir).chain(&user)).exits(0);
        let told = check(&ran, "auth");
        assert_eq!(told["status"], "warning");
        assert_eq!(told["evidence"].as_array().unwrap().len(), 1, "{told}");
        // Without the store a read that is answered proves nothing: a guest may read, too.
        let ran = ark(args.iter().chain(&user)).exits(0);
        let told = check(&ran, "auth");
        assert_begins(&told["evidence"][0].as_str().unwrap(), "not checked");
    }
}

mod archives {
    use super::*;

    /// What preflight says on infra0 once the backup dir is spoilt.
    fn after(spoil: impl FnOnce(&Scene)) -> Ran {
        let scene = Scene::before();
        spoil(&scene);
        scene.on_infra0(&["--json"])
    }

    /// The archives of infra`number`.
    fn of(scene: &Scene, number: usize) -> Vec<PathBuf> {
        let names = ark::names(scene.backups.path()).into_iter();
        let own = format!("etcd-infra{number}-");
        let archives = names.filter(|name| name.starts_with(&own) && name.ends_with(".tar.zst"));
        archives
            .map(|name| scene.backups.path().join(name))
            .collect()
    }

    #[test]
    fn older_than_allowed_they_do_not_count() {
        let scene = Scene::before();
        let ran = scene.on_infra0(&["--json", "--max-backup-age", "1ms"]);
        refused(ran, "own-backup all-backups", "old, more than");
        scene.on_infra0(&["--max-backup-age", "7d"]).exits(0);
    }

    #[test]
    fn one_flipped_bit_fails_in_any_members_archive() {
        let ran = after(|scene| flip(&of(scene, 0)[0], 3000));
        let words = "is corrupt | SHA-256 | etcd-ark snapshot";
        refused(ran, "own-backup", words);
        let ran = after(|scene| flip(&of(scene, 2)[0], 3000));
        refused(ran, "all-backups", "infra2 | is corrupt");
    }

    #[test]
    fn one_that_is_cut_short_fails_although_a_newer_one_is_sound() {
        let ran = after(|scene| {
            let cut = of(scene, 1).remove(0);
            let bytes = fs::read(&cut).unwrap();
            fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
            scene.back_up(1);
        });
        refused(ran, "all-backups", "etcd-infra1-");
    }

    #[test]
    fn the_newest_one_counts() {
        let scene = Scene::before();
        let old = of(&scene, 0).remove(0);
        let new = scene.back_up(0);
        flip(&old, 3000);
        scene.on_infra0(&[]).exits(0);
        flip(&new, 3000);
        refused(scene.on_infra0(&["--json"]), "own-backup", "is corrupt");
    }

    #[test]
    fn a_backup_dir_that_is_not_there_fails() {
        let ran = after(|scene| fs::remove_dir_all(scene.backups.path()).unwrap());
        refused(ran, "own-backup all-backups", "there is no backup dir");
    }

    #[test]
    fn those_taken_after_the_move_lead_nowhere() {
        let mut scene = Scene::before();
        scene.dirs = "3-after-upgrade";
        for number in 0..3 {
            scene.back_up(number);
        }
        scene.dirs = "2-backup";
        let ran = scene.on_infra0(&["--json"]);
        let words = "was taken after the cluster moved to 2.2.0";
        refused(ran, "own-backup all-backups", words);
    }

    #[test]
    fn those_that_a_rewind_made_are_no_backups() {
        let ran = after(|scene| {
            let archive = of(scene, 0).remove(0);
            let mut forge = Forge::of(&archive);
            forge.manifest["rewind"] = json!({
                "old_cluster_id": forge.manifest["member"]["identity"]["cluster_id"],
                "old_members": [], "rewound_to": 250, "derived_from": [],
            });
            fs::write(&archive, forge.bytes()).unwrap();
            typed("verify {}", &[&archive]).exits(0);
        });
        refused(ran, "own-backup", "no archive of infra0");
    }

    #[test]
    fn those_of_another_cluster_with_the_same_members_do_not_count() {
        let ran = after(|scene| {
            for number in 0..3 {
                let archive = of(scene, number).remove(0);
                let mut forge = Forge::of(&archive);
                forge.manifest["member"]["identity"]["cluster_id"] = json!("bad");
                fs::write(&archive, forge.bytes()).unwrap();
            }
        });
        refused(ran, "own-backup all-backups", "no archive");
    }
}

#[test]
fn what_cannot_be_meant_is_wrong_usage() {
    let endpoints = ["preflight", "--endpoints", "127.0.0.1:1"];
    for (flags, words) in [
        (
            &["--from", "2.1", "--to", "2.3"][..],
            "is not an upgrade by one minor release",
        ),
        (
            &["--from", "2.0", "--to", "2.1"],
            "is not an upgrade by one minor release",
        ),
        (
            &["--from", "3.0", "--to", "3.1"],
            "is not an upgrade by one minor release",
        ),
        (&["--from", "2.x"], "a release is two numbers"),
        (&["--max-backup-age", "0h"], "it must be longer than 0s"),
        (&["--interval", "soon"], "not a valid duration"),
    ] {
        ark(endpoints.iter().chain(flags)).exits(2).says(words);
    }
    ark(["preflight"]).exits(2).says("no endpoint is known");
    ark(["preflight", "--watch"])
        .exits(2)
        .says("no endpoint is known");
}
