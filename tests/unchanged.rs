//! Snapshots that are skipped because the newest archive has all data.
//!
//! In: logs that continued in every way, and archives that may replace a new one. Out: no new archive, if that is
//! right; or a new one in any case of doubt.

use etcd_ark::repository::is_archive_name;

use crate::support::encode::{SegmentBuilder, SmallMember, conf_change, request, sync_request};
use crate::support::prelude::*;
use crate::support::relabel_member::make_member;

struct Scratch {
    dir: TempDir,
    source: PathBuf,
    backups: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (source, backups) = (dir.path().join("source"), dir.path().join("backups"));
        Self {
            dir,
            source,
            backups,
        }
    }

    fn run(&self, source: &Path, more: &[&str]) -> Ran {
        let mut args = vec!["snapshot", "--if-changed"];
        args.extend(["--data-dir", source.to_str().unwrap()]);
        args.extend(["--backup-dir", self.backups.to_str().unwrap()]);
        args.extend(more);
        ark(args)
    }

    fn told(&self, source: &Path, more: &[&str]) -> Value {
        let more = [&["--json"], more].concat();
        self.run(source, &more).exits(0).json()
    }

    /// Whether a snapshot of the source found nothing new, and took none.
    #[track_caller]
    fn is_unchanged(&self, more: &[&str]) -> bool {
        let before = self.archives();
        let told = self.told(&self.source, more);
        let unchanged = told["unchanged"].as_bool().unwrap();
        let archive = PathBuf::from(told["archive"].as_str().unwrap());
        assert!(archive.is_file(), "{told}");
        assert!(told["position"].is_object(), "{told}");
        let taken = self.archives() - before;
        assert_eq!(taken, usize::from(!unchanged), "{told}");
        unchanged
    }

    /// How many archives there are, encrypted ones too.
    fn archives(&self) -> usize {
        let is_archive = |name: &&String| is_archive_name(name);
        names(&self.backups).iter().filter(is_archive).count()
    }

    fn newest(&self) -> PathBuf {
        archives_in(&self.backups).pop().unwrap()
    }
}

/// Goes on with the small member's log: entries of the last term, all of them committed.
struct Log {
    path: PathBuf,
    tail: SegmentBuilder,
    term: u64,
    vote: u64,
    last: u64,
}

impl Log {
    fn of(member: &SmallMember) -> Self {
        let mut crc = 0;
        for segment in &member.segments {
            for frame in decode::frames(&fs::read(&segment.path).unwrap()) {
                crc = crc32c::crc32c_append(crc, &frame.data);
            }
        }
        Self {
            path: member.segments.last().unwrap().path.clone(),
            tail: SegmentBuilder::new(crc, false),
            term: member.term,
            vote: member.vote,
            last: member.last_index,
        }
    }

    fn add(&mut self, kind: u64, data: Option<&[u8]>) {
        let written = self.tail.bytes().len();
        self.last += 1;
        self.tail.entry(kind, self.term, self.last, data);
        self.tail.hard_state(self.term, self.vote, self.last);
        let mut bytes = fs::read(&self.path).unwrap();
        bytes.extend_from_slice(&self.tail.bytes()[written..]);
        fs::write(&self.path, bytes).unwrap();
    }
}

#[test]
fn an_idle_cluster_gets_no_new_archive_and_every_change_does() {
    // Guards against a full archive every quarter of an hour of a cluster that no one writes to, and against a write that is
    // in none because it was taken for idling.
    let scratch = Scratch::new();
    let member = small_member(&scratch.source);
    let mut log = Log::of(&member);
    assert!(!scratch.is_unchanged(&[]), "there was none");
    assert!(scratch.is_unchanged(&[]), "nothing at all happened");
    let own = format!("/0/members/{:x}/attributes", member.member_id);
    let attributes = request(
        "PUT",
        &own,
        r#"{"name":"infra2","clientURLs":["http://10.0.0.9:1"]}"#,
    );
    // The small member ends with a write that is not known to be committed; it is, from here on.
    log.add(0, Some(&sync_request(1)));
    assert!(
        !scratch.is_unchanged(&[]),
        "what was pending is committed now"
    );
    let (sync, quorum_read) = (sync_request(2), request("QGET", "/1/x", ""));
    for idle in [
        Some(sync.as_slice()),
        Some(&quorum_read),
        None,
        Some(&attributes),
    ] {
        log.add(0, idle);
        assert!(scratch.is_unchanged(&[]), "{idle:?}");
    }
    let context = r#"{"id":153,"peerURLs":["http://10.0.0.9:2380"]}"#;
    let changes = [
        (0, request("PUT", "/1/x", "new")),
        (0, request("DELETE", "/1/x", "")),
        (0, request("POST", "/1/queue", "")),
        (0, request("PUT", "/2/users/root", "{}")),
        (0, request("PUT", "/0/version", "2.2.0")),
        (1, conf_change(0, 153, context)),
    ];
    for (kind, change) in changes {
        log.add(kind, Some(&change));
        log.add(0, Some(&sync));
        assert!(!scratch.is_unchanged(&[]), "{kind} {change:?}");
        assert!(scratch.is_unchanged(&[]), "{kind} {change:?}");
    }
}

#[test]
fn a_run_from_cron_that_finds_nothing_new_says_nothing_unless_asked() {
    let scratch = Scratch::new();
    small_member(&scratch.source);
    scratch.run(&scratch.source, &[]).exits(0);
    let told = scratch.run(&scratch.source, &[]).exits(0);
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("", ""));
    let told = scratch.run(&scratch.source, &["-v"]).exits(0);
    assert!(told.stdout.contains("unchanged since "), "{told:#?}");
    told.shows(scratch.newest().to_str().unwrap());
    let told = scratch.run(&scratch.source, &["-v", "--keep-last", "9"]);
    let order = ["unchanged since ", "pruned "].map(|part| told.stdout.find(part).unwrap());
    assert!(order.is_sorted(), "{told:#?}");
    // What was worth a warning still is, and it is said of which archive.
    let limit = ["--size-limit", "1", "--label", "small"];
    scratch.run(&scratch.source, &limit).exits(0);
    let strict = [&limit[..], &["--strict"]].concat();
    let told = scratch.run(&scratch.source, &strict).exits(5);
    assert!(
        told.stderr.starts_with("warning: archive of 20")
            && told.stderr.contains(" UTC: the data size is"),
        "{told:#?}"
    );
    assert_eq!(archives_in(&scratch.backups).len(), 2);
}

#[test]
fn only_an_archive_that_is_what_was_asked_for_counts() {
    let scratch = Scratch::new();
    small_member(&scratch.source);
    assert!(!scratch.is_unchanged(&["--label", "nightly"]));
    assert!(scratch.is_unchanged(&["--label", "nightly"]));
    assert!(scratch.is_unchanged(&[]));
    assert!(!scratch.is_unchanged(&["--label", "nightly,pre-upgrade"]));
    assert!(scratch.is_unchanged(&["--label", "pre-upgrade"]));
    assert!(!scratch.is_unchanged(&["--all"]));
    assert!(scratch.is_unchanged(&["--all"]));
}

#[test]
fn an_archive_that_does_not_prove_itself_does_not_count() {
    // Guards against the only good backup being the one that is broken.
    let scratch = Scratch::new();
    small_member(&scratch.source);
    assert!(!scratch.is_unchanged(&[]));
    for position in [100, 7] {
        let newest = scratch.newest();
        let mut bytes = fs::read(&newest).unwrap();
        let at = if position == 7 {
            bytes.len() - 7
        } else {
            position
        };
        bytes[at] ^= 4;
        fs::write(&newest, bytes).unwrap();
        assert!(!scratch.is_unchanged(&[]), "flipped at {at}");
        assert!(scratch.is_unchanged(&[]));
    }
    fs::remove_file(scratch.newest()).unwrap();
    assert!(
        !scratch.is_unchanged(&[]),
        "the newest that is left is broken"
    );
}

#[test]
fn a_later_archive_of_another_member_or_cluster_does_not_count() {
    let scratch = Scratch::new();
    let story = unpack("upgrade-story");
    let [mine, other] = ["2-backup-infra0", "2-backup-infra1"].map(|name| story.data_dir(name));
    copy_dir(&mine, &scratch.source);
    assert_eq!(scratch.told(&other, &[])["unchanged"], false);
    assert!(!scratch.is_unchanged(&[]), "only another member has one");
    let foreign = scratch.dir.path().join("foreign");
    small_member(&foreign);
    assert_eq!(scratch.told(&foreign, &[])["unchanged"], false);
    assert_eq!(
        scratch.told(&other, &["--label", "later"])["unchanged"],
        false
    );
    assert!(
        scratch.is_unchanged(&[]),
        "its own is older, and still good"
    );
    // The same log under another member's id is another member's.
    let renamed = scratch.dir.path().join("renamed");
    copy_dir(&mine, &renamed);
    make_member(&renamed, 0x99);
    assert_eq!(scratch.told(&renamed, &[])["unchanged"], false);
}

/// A recipient of age; the tests here hold no key of it.
const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

#[test]
fn another_branch_that_agrees_in_index_and_term_is_a_change() {
    // Guards against "unchanged" after a restore of an older archive: the member starts a new term from there, as it did
    // before, and reaches the same index in the same term with other keys.
    for more in [&[][..], &["--recipient", RECIPIENT]] {
        let scratch = Scratch::new();
        let member = small_member(&scratch.source);
        let mut log = Log::of(&member);
        log.add(0, Some(&sync_request(1)));
        let older = scratch.dir.path().join("older");
        copy_dir(&scratch.source, &older);
        let branch = |value: &str, syncs: i64| {
            fs::remove_dir_all(&scratch.source).unwrap();
            copy_dir(&older, &scratch.source);
            let mut log = Log::of(&member);
            (log.term, log.last) = (member.term + 1, member.last_index + 1);
            log.add(0, None);
            log.add(0, Some(&request("PUT", "/1/x", value)));
            for second in 2..2 + syncs {
                log.add(0, Some(&sync_request(second)));
            }
        };
        branch("one", 1);
        assert!(!scratch.is_unchanged(more));
        branch("two", 1);
        assert!(!scratch.is_unchanged(more), "{more:?}: other keys");
        // The last entries are the same SYNCs on both branches, however many.
        branch("two", 300);
        assert!(scratch.is_unchanged(more), "{more:?}: SYNCs are no change");
        assert!(!scratch.is_unchanged(&[more, &["--label", "x"]].concat()));
        branch("six", 300);
        assert!(!scratch.is_unchanged(more), "{more:?}: behind equal SYNCs");
        branch("six", 301);
        assert!(scratch.is_unchanged(more), "{more:?}");
    }
}

#[test]
fn the_move_to_another_version_is_a_change() {
    // Guards against a last archive from before the move: it alone would say that the cluster may still go back.
    let scratch = Scratch::new();
    let story = unpack("upgrade-story");
    for member in ["infra0", "infra1", "infra2"] {
        let before = story.data_dir(&format!("2-backup-{member}"));
        let after = story.data_dir(&format!("3-after-upgrade-{member}"));
        for (source, unchanged) in [
            (&before, false),
            (&before, true),
            (&after, false),
            (&after, true),
        ] {
            let told = scratch.told(source, &[]);
            assert_eq!(
                told["unchanged"],
                unchanged,
                "{member} {}",
                source.display()
            );
        }
        // Back on older data: its last entry is in no newer log that could vouch for it.
        assert_eq!(scratch.told(&before, &[])["unchanged"], false, "{member}");
    }
}

#[test]
fn a_source_that_is_damaged_is_never_called_unchanged() {
    let scratch = Scratch::new();
    let member = small_member(&scratch.source);
    assert!(!scratch.is_unchanged(&[]));
    let segment = &member.segments[1];
    let mut bytes = fs::read(&segment.path).unwrap();
    bytes[segment.frames[3].end() - 1] ^= 1;
    fs::write(&segment.path, bytes).unwrap();
    scratch
        .run(&scratch.source, &[])
        .exits(4)
        .says("is corrupt");
}

#[test]
fn a_real_server_that_idles_is_unchanged_until_a_client_writes() {
    // Guards against SYNCs, elections and published attributes that are not what the tests here make them.
    only_with!(need("etcd") && need("etcdctl"));
    let scratch = Scratch::new();
    let etcd = Etcd::start_with(&scratch.source, 100_000);
    etcd.set_v2("app/key", "first");
    // So that the write is known to be committed: the next SYNC says so.
    std::thread::sleep(Duration::from_secs(2));
    etcd.stop();
    assert!(!scratch.is_unchanged(&[]));
    let index = |told: &Value| told["position"]["raft_index"].clone();
    let taken = index(&scratch.told(&scratch.source, &[]));
    let etcd = Etcd::start_with(&scratch.source, 100_000);
    std::thread::sleep(Duration::from_secs(3));
    // While it runs a 3.x directory cannot be captured, but it can be read.
    assert!(scratch.is_unchanged(&[]));
    etcd.stop();
    let last = decode::log(&scratch.source.join("member/wal")).index;
    assert!(
        last > taken.as_u64().unwrap() + 1,
        "the server did not idle: {last} after {taken}"
    );
    assert!(scratch.is_unchanged(&[]));
    let etcd = Etcd::start_with(&scratch.source, 100_000);
    etcd.set_v2("app/key", "second");
    etcd.stop();
    assert!(!scratch.is_unchanged(&[]));
    let etcd = Etcd::start_with(&scratch.source, 100_000);
    etcd.set_v3("/v3/key", "third");
    etcd.stop();
    assert!(!scratch.is_unchanged(&[]), "a write to the other store");
}

#[test]
fn an_idle_cluster_rings_no_alarm_and_its_backup_dir_is_pruned_all_the_same() {
    // Guards against a `status` that calls a backup old which every run finds to hold all there is.
    let scratch = Scratch::new();
    small_member(&scratch.source);
    let backups = scratch.backups.to_str().unwrap();
    typed(
        "snapshot --data-dir {} --backup-dir {}",
        &[&scratch.source, &backups],
    )
    .exits(0);
    assert!(!scratch.is_unchanged(&["--label", "second"]));
    std::thread::sleep(Duration::from_secs(6));
    let status = ["status", backups, "--max-age", "5s"];
    let old = ark(status).exits(2);
    assert!(old.stdout.contains("over 5 seconds"), "{old:#?}");
    let told = scratch.told(&scratch.source, &["--keep-last", "1"]);
    assert_eq!(told["unchanged"], true, "{told}");
    assert_eq!(told["pruned"]["removed"], 1, "{told}");
    assert_eq!(archives_in(&scratch.backups).len(), 1);
    let fresh = ark(status).exits(0);
    assert!(
        fresh.stdout.contains("old (found still current"),
        "{fresh:#?}"
    );
    // What was noted is of that file: another one under its name is as old as it is.
    let newest = scratch.newest();
    let bytes = fs::read(&newest).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    fs::write(&newest, bytes).unwrap();
    ark(status).exits(2);
}
