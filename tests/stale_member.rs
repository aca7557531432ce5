//! The stale-member rule: what `restore` does if members of the archive's cluster run, or may run.
//!
//! Guards against an old directory restored beside members that continued (it silently forgets what it acknowledged),
//! and against a rewound cluster that meets the one it was made from.

use crate::support::archive_builder::Forge;
use crate::support::certs::Authority;
use crate::support::encode::{
    CLUSTER_ID, MEMBER_ID, SegmentBuilder, SmallMember, members, small_member_of,
};
use crate::support::etcd::ServerTls;
use crate::support::fake_cluster::{Behaviour, FakeMember};
use crate::support::prelude::*;

/// A fake cluster, and an archive of its member infra0.
struct Scene {
    dir: TempDir,
    fake: FakeCluster,
    archive: PathBuf,
    member: SmallMember,
}

impl Scene {
    /// As many members as `count`, infra0 among them.
    fn new(count: usize) -> Self {
        let all = members();
        let ids: Vec<_> = all[3 - count..]
            .iter()
            .map(|&(id, name, _)| (id, name))
            .collect();
        let fake = FakeCluster::start(CLUSTER_ID, &ids);
        let dir = TempDir::with_prefix("ark-stale-").unwrap();
        let members = fake.as_encoded();
        let members = members
            .iter()
            .map(|(id, name, url)| (*id, name.as_str(), url.as_str()));
        let source = dir.path().join("source");
        let member = small_member_of(&source, &members.collect::<Vec<_>>());
        let (archive, _) = snapshot(&source, &dir.path().join("backups"), &[]);
        Self {
            dir,
            fake,
            archive,
            member,
        }
    }

    /// The same archive as a rewind would have made it, from `old_cluster_id` with the members of the fake.
    fn rewound_from(mut self, old_cluster_id: u64) -> Self {
        let mut forge = Forge::of(&self.archive);
        let old_members = forge.manifest["member"]["members"].clone();
        forge.manifest["rewind"] = json!({
            "old_cluster_id": format!("{old_cluster_id:x}"),
            "old_members": old_members,
            "rewound_to": 14,
            "derived_from": [],
        });
        self.archive = self.dir.path().join("etcd-rewound.tar.zst");
        fs::write(&self.archive, forge.bytes()).unwrap();
        self
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn restore(&self, flags: &[&str]) -> Ran {
        restore(&self.archive, &self.target(), flags)
    }

    /// Fails unless it is refused, with nothing changed; what it says.
    #[track_caller]
    fn refuses(&self, flags: &[&str]) -> Ran {
        let ran = self
            .restore(flags)
            .exits(3)
            .says("hint: nothing was changed");
        assert!(!self.target().exists(), "{ran:#?}");
        assert!(ran.stdout.is_empty(), "{ran:#?}");
        ran
    }

    /// Fails unless it is restored; what it says.
    #[track_caller]
    fn restores(&self, flags: &[&str]) -> Ran {
        let ran = self.restore(flags).exits(0);
        assert_eq!(names(&self.target()), ["member"]);
        let (restored, source) = (tree(&self.target()), tree(&self.dir.path().join("source")));
        assert!(restored.keys().eq(source.keys()));
        fs::remove_dir_all(self.target()).unwrap();
        ran
    }
}

#[test]
fn a_member_whose_cluster_runs_is_not_put_back() {
    let scene = Scene::new(3);
    let (own, other) = (scene.fake.member(0), scene.fake.member(1));
    assert_eq!(own.id(), MEMBER_ID);
    let refused = scene
        .refuses(&[])
        .says("cluster 7e27652122e8b2 runs")
        .says(&format!(
            "infra1 (8211f1d0f64f3269) answers at {}",
            other.client_url()
        ))
        .says("infra0 (ce2a822cea30bfca), which the archive is of,")
        .says("lose writes that it has acknowledged")
        .says("Keep the current data if they are intact. If they are lost: `etcdctl member remove` and `member add`, then start with an empty data dir and `--initial-cluster-state existing`;")
        .says("`etcd-ark rewind`")
        .says("`rewind --single`");
    assert!(!refused.stderr.contains("[2m"), "{refused:#?}");
    // A dry run tells the truth about the wet one.
    scene.refuses(&["--dry-run"]);
    // One member is enough, and its peer URL, too.
    for place in [0, 2] {
        scene.fake.member(place).down();
    }
    other.client(Behaviour::Down);
    scene
        .refuses(&[])
        .says(&format!("answers at {}", other.peer_url()));
    let refused = scene.restore(&["--json"]).exits(3).json_error();
    assert_eq!(refused["kind"], "refused");

    // Told to, it is restored anyway, and what that means is said; by a dry run, that it would be.
    let dry = scene.restore(&["--allow-stale-member", "--dry-run"]);
    dry.exits(0)
        .says("; would be restored because of --allow-stale-member");
    assert!(!scene.target().exists());
    let told = scene
        .restores(&["--allow-stale-member"])
        .says("warning: cluster");
    told.says("restored because of --allow-stale-member");
    scene
        .restore(&["--allow-stale-member", "--strict"])
        .exits(5);
    fs::remove_dir_all(scene.target()).unwrap();
    let told = scene.restores(&["--allow-stale-member", "--json"]).json();
    let asked: Vec<_> = told["members_asked"].as_array().unwrap().iter().collect();
    assert_eq!(asked.len(), 3, "{told:#}");
    let one = asked.iter().find(|one| one["name"] == "infra1").unwrap();
    assert_eq!(one["presence"], "here");
    assert_eq!(one["url"], json!(other.peer_url()));
    assert!(
        asked
            .iter()
            .filter(|one| one["presence"] == "absent")
            .count()
            == 2
    );

    // No one is asked, and that is said.
    let before = other.requests().len();
    scene
        .restores(&["--offline"])
        .says("warning: no member was contacted");
    assert_eq!(other.requests().len(), before);
    let told = scene.restores(&["--offline", "--json"]).json();
    assert_eq!(told["members_asked"], Value::Null);
}

#[test]
fn a_cluster_that_has_moved_since_is_asked_where_it_is_now() {
    // Seen: every member got new URLs, an archive from before asked only the old ones, and 20 acknowledged writes were lost.
    let scene = Scene::new(3);
    let nowhere = scene.fake.as_encoded();
    let nowhere = nowhere
        .iter()
        .map(|(id, name, _)| (*id, name.as_str(), "http://127.0.0.1:9"));
    let old = scene.dir.path().join("old");
    small_member_of(&old, &nowhere.collect::<Vec<_>>());
    let apart = scene.dir.path().join("apart");
    let (alone, _) = snapshot(&old, &apart, &[]);
    restore(&alone, &scene.target(), &[])
        .exits(0)
        .says("none of the 3 members");
    // The data dir that it would replace knows the new ones.
    fs::remove_dir_all(scene.target()).unwrap();
    copy_dir(&scene.dir.path().join("source"), &scene.target());
    let before = tree(&scene.target());
    restore(&alone, &scene.target(), &["--replace"])
        .exits(3)
        .says("answers at http://127.0.0.1");
    assert_eq!(tree(&scene.target()), before);
    // The disk is lost: a later archive beside it knows them.
    fs::remove_dir_all(scene.target()).unwrap();
    snapshot(&scene.dir.path().join("source"), &apart, &[]);
    restore(&alone, &scene.target(), &[])
        .exits(3)
        .says("answers at http://127.0.0.1");
}

#[test]
fn a_member_of_a_silent_cluster_is_restored_with_a_plain_warning() {
    let scene = Scene::new(3);
    for member in scene.fake.members() {
        member.down();
    }
    let told = scene
        .restores(&[])
        .says("warning: none of the 3 members of the cluster answers");
    told.says("never each member's own backup");
    // Members of another cluster at their URLs are no reason to refuse, and are mentioned.
    let member = scene.fake.member(2);
    member.client(Behaviour::Answers).peer(Behaviour::Answers);
    member.of_cluster(0xd411);
    let told = scene
        .restores(&[])
        .says("note: where infra2 (91bc3c398fb3c146) should be");
    told.says("answers for another cluster, d411");
}

#[test]
fn the_only_member_is_asked_whether_it_runs_itself() {
    let scene = Scene::new(1);
    scene
        .refuses(&[])
        .says("which the archive is of, answers at");
    scene.fake.member(0).down();
    let told = scene.restores(&[]);
    // There is no other member that could have continued.
    assert!(!told.stderr.contains("acknowledged"), "{told:#?}");
}

#[test]
fn a_member_that_cannot_be_asked_is_no_reason_to_go_on() {
    let scene = Scene::new(3);
    for member in scene.fake.members() {
        member.down();
    }
    for (behaviour, why) in [
        (Behaviour::WantsTls, "TLS"),
        (Behaviour::Says(401, ""), "authentication failed"),
        (Behaviour::Html, "It works!"),
        (Behaviour::Silent, "did not answer within 2 s"),
        (Behaviour::Dribbles, "did not answer within 2 s"),
    ] {
        scene.fake.member(1).peer(behaviour);
        scene.fake.member(2).client(behaviour);
        let began = Instant::now();
        scene
            .refuses(&[])
            .says("cannot determine whether cluster 7e27652122e8b2 runs: infra1")
            .says("infra2 (91bc3c398fb3c146): ")
            .says(why)
            .says("`--cacert`, `--cert` and `--key`")
            .says("--offline");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    }
    scene.fake.member(2).down();
    scene
        .restores(&["--allow-stale-member"])
        .says("because of --allow-stale-member");
    scene.restores(&["--offline"]);
}

#[test]
fn a_rewound_archive_waits_until_no_member_of_the_old_cluster_answers() {
    const OLD: u64 = 0x01dc;
    let scene = Scene::new(3).rewound_from(OLD);
    for place in [0, 1] {
        scene.fake.member(place).of_cluster(OLD);
    }
    scene.fake.member(2).down();
    // Everyone who answers is named, and nothing overrides it.
    for flags in [&[][..], &["--allow-stale-member"]] {
        scene
            .refuses(flags)
            .says("cluster 1dc, from which this archive was rewound, runs: infra1")
            .says(&scene.fake.member(0).client_url())
            .says("stop every member of the old cluster")
            .says("--offline");
    }
    scene
        .restores(&["--offline"])
        .says("cluster 1dc must not run any more");
    // Someone there who cannot be asked may be one of them.
    scene
        .fake
        .member(0)
        .client(Behaviour::WantsTls)
        .peer(Behaviour::Down);
    scene.fake.member(1).down();
    scene
        .refuses(&["--allow-stale-member"])
        .says("cannot determine whether cluster 1dc runs: infra0");
    // A member of the rewound cluster that runs already: this one may have been in it, too.
    scene.fake.member(0).client(Behaviour::Answers);
    scene.fake.member(0).of_cluster(CLUSTER_ID);
    scene
        .refuses(&[])
        .says("the rewound cluster 7e27652122e8b2 runs already: infra0")
        .says("`--allow-stale-member`");
    scene
        .restores(&["--allow-stale-member"])
        .says("warning: the rewound cluster 7e27652122e8b2 runs already");
    // Any other cluster there is neither of the two, and no reason to refuse.
    scene.fake.member(0).of_cluster(0xd411);
    let told = scene.restores(&[]);
    let told = told.says("answers for another cluster, d411");
    assert!(!told.stderr.contains("the rewound cluster"), "{told:#?}");
    scene.fake.member(0).down();
    scene.restores(&["--strict"]);

    // With the same id the two clusters cannot be distinguished.
    let scene = Scene::new(3).rewound_from(CLUSTER_ID);
    scene.refuses(&[]).says("the rewound cluster keeps its id");
}

#[test]
fn a_target_that_cannot_take_the_archive_is_said_before_anybody_is_asked() {
    let scene = Scene::new(3);
    let source = scene.dir.path().join("source");
    restore(&scene.archive, &source, &[])
        .exits(3)
        .says("--replace");
    let asked: Vec<_> = scene
        .fake
        .members()
        .iter()
        .flat_map(FakeMember::requests)
        .collect();
    assert!(asked.is_empty(), "{asked:?}");
    // A certificate without its key is wrong usage.
    for lone in ["--cert", "--key"] {
        let usage = scene.restore(&[lone, "x.pem"]).exits(2);
        usage.says("go together");
    }
    scene
        .restore(&["--cacert", "/dev/null"])
        .exits(2)
        .says("is not a valid certificate in PEM");
    assert!(!scene.target().exists());
}

#[test]
fn a_real_server_is_found_and_with_its_certificates_known() {
    only_with!(need("etcd"));
    let dir = TempDir::with_prefix("ark-stale-").unwrap();
    let (data, target) = (dir.path().join("data"), dir.path().join("restored"));
    let authority = Authority::new(dir.path(), "ca");
    let tls = ServerTls {
        own: authority.signs("server"),
        trusted_ca: authority.cert.clone(),
    };
    let etcd = Etcd::start_tls(&data, &tls);
    let addresses = etcd.addresses();
    etcd.stop();
    let (archive, _) = snapshot(&data, &dir.path().join("backups"), &[]);
    let etcd = Etcd::start_tls_at(addresses, &data, &tls);
    let pair = authority.signs("client");
    let [ca, cert, key] =
        [&authority.cert, &pair.cert, &pair.key].map(|path| path.to_str().unwrap());
    restore(&archive, &target, &[])
        .exits(3)
        .says("cannot determine whether cluster")
        .says("TLS");
    let refused = restore(
        &archive,
        &target,
        &["--cacert", ca, "--cert", cert, "--key", key],
    );
    refused.exits(3).says("acknowledged since: real0 ");
    assert!(!target.exists());
    etcd.stop();
    restore(&archive, &target, &[]).exits(0);
}

/// Goes on writing a member's log, as the first election in its cluster does: an empty entry of the next term, committed.
fn run_on(data_dir: &Path, member: &SmallMember) {
    let segment = member.segments.last().unwrap();
    let path = data_dir.join("member/wal").join(&segment.name);
    let mut bytes = fs::read(&path).unwrap();
    // A record is a type and a CRC, both varints, then data.
    let record = &bytes[segment.frames.last().unwrap().offset + 8..];
    assert_eq!((record[0], record[2]), (0x08, 0x10));
    let crc = record[3..].iter().take(5).scan(true, |goes_on, &byte| {
        let is_part = *goes_on;
        *goes_on = byte >= 0x80;
        is_part.then_some(u64::from(byte & 0x7f))
    });
    let crc = crc
        .enumerate()
        .map(|(n, bits)| bits << (7 * n))
        .sum::<u64>() as u32;
    let (term, index) = (member.term + 1, member.last_index + 1);
    let mut more = SegmentBuilder::new(crc, false);
    more.entry(0, term, index, None)
        .hard_state(term, member.member_id, index);
    bytes.extend_from_slice(more.bytes());
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_playbook_that_restores_a_rewound_member_twice_does_not_lose_what_it_acknowledged_in_between() {
    let scene = Scene::new(3).rewound_from(0x01dc);
    let again = ["--offline", "--replace"];
    scene.restore(&["--offline"]).exits(0);
    // Nothing has started yet: the same bytes again.
    scene.restore(&again).exits(0);
    // The old segments, which a killed restore left in the WAL dir, are not what the member has run on.
    let old_wal = scene.dir.path().join("old-wal");
    copy_dir(&scene.target().join("member/wal"), &old_wal);
    run_on(&scene.target(), &scene.member);
    let before = tree(&scene.target());
    scene
        .restore(&[&again[..], &["--wal-dir", old_wal.to_str().unwrap()]].concat())
        .exits(3)
        .says("has run in the rewound cluster");
    assert_eq!(tree(&scene.target()), before);
    scene
        .restore(&again)
        .exits(3)
        .says("has run in the rewound cluster 7e27652122e8b2 already: its log ends at 16, the archive's at 15")
        .says("hint: nothing was changed; leave this member as it is");
    scene
        .restore(&[&again[..], &["--dry-run"]].concat())
        .exits(3);
    assert_eq!(tree(&scene.target()), before);
    // What it has written since cannot be read any more, but it was there.
    let segments = crate::support::decode::segments(&scene.target().join("member/wal"));
    let segment = segments.last().unwrap();
    let mut bytes = fs::read(segment).unwrap();
    let restored = fs::metadata(old_wal.join(segment.file_name().unwrap())).unwrap();
    bytes[restored.len() as usize + 20] ^= 1;
    fs::write(segment, bytes).unwrap();
    scene
        .restore(&again)
        .exits(3)
        .says("is of the rewound cluster 7e27652122e8b2 and damaged behind entry 15");
    scene
        .restore(&[&again[..], &["--allow-stale-member"]].concat())
        .exits(0);
}

#[test]
fn a_wal_dir_without_a_log_does_not_hide_the_member_that_would_be_replaced() {
    // Guards against a `--wal-dir` that was right before the segments came home: the member in the data dir was not read, and
    // the archive of another one took its place without a word.
    let scene = Scene::new(3);
    let (target, wal_dir) = (scene.target(), scene.dir.path().join("wal"));
    small_member_of(&target, &members()[..1]);
    fs::create_dir(&wal_dir).unwrap();
    let flags = [
        "--offline",
        "--replace",
        "--wal-dir",
        wal_dir.to_str().unwrap(),
    ];
    let before = tree(&target);
    for note in [None, Some("moved-to-member-wal.wal")] {
        if let Some(note) = note {
            fs::write(wal_dir.join(note), "moved").unwrap();
        }
        scene.restore(&flags).exits(3).says("`--change-member`");
        assert_eq!(tree(&target), before);
    }
}

fn damage(data: &Path) {
    let segment = crate::support::decode::segments(&data.join("member/wal")).remove(0);
    flip_middle(&segment);
}

#[test]
fn damage_hides_neither_which_member_is_there_nor_how_far_it_went() {
    // Guards against a data dir that is replaced without a look because a bit in it is wrong.
    let (ours, theirs) = (unpack("mem-a"), unpack("v20"));
    let dir = TempDir::new().unwrap();
    let (archive, _) = snapshot(&ours.data_dir("mem-a"), dir.path(), &[]);
    let target = theirs.data_dir("v20");
    damage(&target);
    let before = tree(&target);
    let restore = |data: &PathBuf| {
        typed(
            "restore {} --offline --replace --data-dir {}",
            &[&archive, data],
        )
    };
    restore(&target).exits(3).says("of another cluster");
    assert_eq!(tree(&target), before);
    // The member itself, and one that no file names any more: told.
    let own = ours.data_dir("mem-a");
    damage(&own);
    restore(&own)
        .exits(0)
        .says("is damaged: it was compared with the archive up to entry");
    for segment in crate::support::decode::segments(&own.join("member/wal")) {
        fs::write(segment, "nothing that etcd writes").unwrap();
    }
    restore(&own)
        .exits(0)
        .says("is damaged: no file says which member it is");
}

#[test]
fn another_members_archive_replaces_no_data_dir_unless_that_is_said() {
    // Guards against the archive of the neighbour's member, taken from the directory where all lie together.
    let scene = Scene::new(3);
    let target = scene.target();
    let other: Vec<_> = members()[..1].to_vec();
    small_member_of(&target, &other);
    let before = tree(&target);
    let replace = ["--offline", "--replace"];
    scene
        .restore(&replace)
        .exits(3)
        .says(&format!("holds member {:x} of cluster ", other[0].0))
        .says(", and the archive is of ")
        .says("`--change-member`");
    assert_eq!(tree(&target), before);
    scene
        .restore(&[&replace[..], &["--change-member"]].concat())
        .exits(0);
}

#[test]
fn a_member_of_the_same_id_in_another_cluster_is_another_member() {
    // Two clusters that were set up alike share member ids: the id alone let one take the other's place.
    let (ours, theirs) = (unpack("mem-a"), unpack("v20"));
    let dir = TempDir::new().unwrap();
    let (archive, _) = snapshot(&ours.data_dir("mem-a"), dir.path(), &[]);
    let target = theirs.data_dir("v20");
    let before = tree(&target);
    let args = [
        "restore",
        archive.to_str().unwrap(),
        "--offline",
        "--replace",
    ];
    let restore = |more: &[&str]| {
        let target = ["--data-dir", target.to_str().unwrap()];
        ark([&args[..], &target, more].concat())
    };
    restore(&[]).exits(3).says(
        "holds the same member, 55209a07e772ae46, of another cluster, daac157a6fa359c2; the archive is of cluster 1b3e718414357104",
    );
    assert_eq!(tree(&target), before);
    restore(&["--change-member"]).exits(0);
}
