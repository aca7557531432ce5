//! A damaged data dir is saved unchanged, before it is repaired, and never counts as a backup.

use etcd_ark::archive::manifest::Scope;
use etcd_ark::data_dir::start::start_verdicts;
use etcd_ark::data_dir::{DataDir, DataDirError};
use etcd_ark::interrupt::Interrupt;
use etcd_ark::snapshot::destination::Destination;
use etcd_ark::snapshot::error::CaptureError;
use etcd_ark::snapshot::{CreatedAt, SnapshotRequest, capture};
use etcd_ark::target::{StoreQuery, Target};

use crate::support::prelude::*;

struct Story {
    recording: Recording,
    dir: TempDir,
}

impl Story {
    fn new() -> Self {
        let recording = unpack("start-verdicts");
        let dir = TempDir::new().unwrap();
        Self { recording, dir }
    }

    /// A data dir of its own with this damage.
    fn data_dir(&self, case: &str) -> PathBuf {
        let to = self.dir.path().join(format!("{case}.etcd"));
        if !to.exists() {
            copy_dir(
                &self
                    .recording
                    .path(format!("start-verdicts/cases/{case}.etcd")),
                &to,
            );
        }
        to
    }

    /// The same, and an archive of it as it is, if etcd-ark finds it damaged.
    fn data_dir_and_archive(&self, case: &str) -> Vec<PathBuf> {
        let (dir, backups) = (self.data_dir(case), self.backups());
        let saved = typed(
            "snapshot --damaged --json --data-dir {} --backup-dir {}",
            &[&dir, &backups],
        );
        let archive = (saved.code == 0).then(|| saved.json()["archive"].as_str().unwrap().into());
        [dir].into_iter().chain(archive).collect()
    }

    fn backups(&self) -> PathBuf {
        self.dir.path().join("backups")
    }
}

fn files(data_dir: &Path) -> Vec<(PathBuf, String)> {
    let found = tree(&data_dir.join("member")).into_iter();
    let found = found.filter(|(_, stat)| !stat.sha256.is_empty());
    found.map(|(path, stat)| (path, stat.sha256)).collect()
}

#[test]
fn every_file_of_a_damaged_data_dir_comes_back_as_it_was() {
    let story = Story::new();
    let cases = "C-mid_record_flip C-middle_wal_gone C-all_snaps_flip C-wal_dir_gone C-wal_dir_empty C-commit_past_last \
        C-last_wal_empty C-foreign_file_in_wal G-entry_gap C-purged_and_all_snaps_broken C-snap_dir_gone C-intact";
    for case in cases.split(' ') {
        let data_dir = story.data_dir(case);
        if case == "C-intact" {
            // Every file of the log is whole, and an ordinary capture refuses it.
            fs::write(data_dir.join("member/snap/db"), "").unwrap();
        }
        let before = tree(&data_dir);
        let backups = story.dir.path().join(format!("backups-{case}"));
        if case == "C-foreign_file_in_wal" {
            // That is not damage.
            typed(
                "snapshot --damaged --data-dir {} --backup-dir {}",
                &[&data_dir, &backups],
            )
            .exits(3)
            .says("no file of this data dir is damaged");
            assert_eq!(names(&backups), [""; 0]);
            continue;
        }
        let (archive, told) = snapshot(&data_dir, &backups, &["--damaged"]);
        assert_eq!(tree(&data_dir), before, "{case}");
        assert!(archive.to_str().unwrap().contains("-damaged-"), "{told:#}");
        let damage = &told["manifest"]["damage"];
        let warnings = told["manifest"]["warnings"].to_string();
        let has_hint = warnings.contains("if etcd runs with `--wal-dir`, pass the same here");
        assert_eq!(
            has_hint,
            case.starts_with("C-wal_dir"),
            "{case}: {warnings}"
        );
        assert!(
            !damage["files"].as_array().unwrap().is_empty() || damage["start"].is_string(),
            "{case}: {damage:#}"
        );
        let archive_name = archive.file_name().unwrap().to_str().unwrap();
        tool(
            &backups,
            "sha256sum",
            &["-c", &format!("{archive_name}.sha256")],
        );

        // It is proven to hold what it was given, and is not called good.
        let verified = typed("verify --json {}", &[&archive]).exits(4).json();
        let faults = verified["targets"][0]["problems"].to_string();
        assert_has(&faults, "it contains a damaged data dir");

        let target = story.dir.path().join(format!("restored-{case}"));
        let line = "restore {} --offline --data-dir {}";
        typed(line, &[&archive, &target])
            .exits(3)
            .says("contains a damaged data dir");
        assert!(!target.exists(), "{case}");
        typed(&format!("{line} --damaged"), &[&archive, &target]).exits(0);
        assert_eq!(files(&target), files(&data_dir), "{case}");
    }
}

#[test]
fn a_data_dir_that_2_0_moved_half_of_is_saved_whole() {
    // Killed while it moved `snap` and `wal` under `member`, it left the log above: etcd takes the member for empty.
    let story = Story::new();
    let whole = story.data_dir("C-intact");
    let before = files(&whole);
    for part in ["wal", "snap"] {
        let half = story.dir.path().join(format!("half-{part}"));
        copy_dir(&whole, &half);
        fs::rename(half.join("member").join(part), half.join(part)).unwrap();
        let (archive, told) = snapshot(&half, &story.backups(), &["--damaged"]);
        assert_eq!(told["manifest"]["damage"]["files"], json!([]), "{told:#}");
        let target = story.dir.path().join(format!("restored-{part}"));
        let line = "restore {} --offline --damaged --data-dir {}";
        typed(line, &[&archive, &target]).exits(0);
        assert_eq!(files(&target), before, "{part}");
    }
}

#[test]
fn what_no_ordinary_snapshot_takes_is_saved_as_damaged() {
    let recording = unpack("start-verdicts");
    let cases = recording.path("start-verdicts/cases");
    let (mut saved, mut ordinary, mut empty) = (0, 0, 0);
    for case in names(&cases) {
        let dir = cases.join(&case);
        let capture = |data_dir: Result<DataDir, DataDirError>, scope| {
            let request = SnapshotRequest {
                data_dir: &data_dir?,
                to: Destination::Nowhere,
                scope,
                labels: Vec::new(),
                level: 1,
                threads: 1,
                size_limit: u64::MAX,
                created: CreatedAt::At(jiff::Timestamp::UNIX_EPOCH),
                lock: None,
            };
            capture(&request, &Interrupt::default(), &mut |_| {})
        };
        match capture(DataDir::open_damaged(&dir, None), Scope::Damaged) {
            Ok(_) => saved += 1,
            Err(CaptureError::NotDamaged) => {
                let captured = capture(DataDir::open(&dir, None), Scope::Live).unwrap();
                assert_eq!(captured.manifest.does_not_start, None, "{case}");
                ordinary += 1;
            }
            Err(error) => {
                let files = tree(&dir).into_iter();
                let files: Vec<_> = files.filter(|(_, it)| !it.sha256.is_empty()).collect();
                assert!(files.is_empty(), "{case}: {error}");
                empty += 1;
            }
        }
    }
    assert_eq!((saved, ordinary, empty), (184, 163, 10));
}

#[test]
fn an_archive_of_a_damaged_data_dir_counts_as_no_backup_and_stays() {
    let story = Story::new();
    let backups = story.backups();
    let (good, _) = snapshot(&story.data_dir("C-intact"), &backups, &[]);
    let metrics = story.dir.path().join("run.prom");
    let to_metrics = format!("--metrics-file={}", metrics.display());
    let (damaged, _) = snapshot(
        &story.data_dir("C-mid_record_flip"),
        &backups,
        &["--damaged", "--keep-last", "1", &to_metrics],
    );
    let metrics = fs::read_to_string(metrics).unwrap();
    let success = "etcd_ark_last_success_timestamp_seconds{command=\"snapshot\"} 0";
    assert!(metrics.contains(success), "{metrics}");
    assert!(!metrics.contains("last_archive"), "{metrics}");
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let (good, damaged) = (name(&good), name(&damaged));

    let listed = typed("list {}", &[&backups]).exits(0);
    let line = listed
        .stdout
        .lines()
        .zip(listed.stdout.lines().skip(1))
        .find_map(|(line, name)| name.contains(&damaged).then_some(line))
        .unwrap();
    assert!(
        line.contains("DAMAGED") && !line.contains("0 B"),
        "{listed:#?}"
    );
    let listed = typed("list --json {}", &[&backups]).exits(0).json();
    assert_eq!(listed["archives"][0]["damaged"], true, "{listed:#}");

    // The newest file there is not a backup: the valid one is, and it is watched.
    let status = typed("status --json {}", &[&backups]).json();
    let newest = status["members"][0]["archive"].as_str().unwrap();
    assert!(newest.ends_with(&good), "{status:#}");
    assert_has(&status, "1 archive of a damaged data dir not watched");

    let pruned = typed("prune --keep-last 1 --json {}", &[&backups]).exits(0);
    assert!(pruned.stdout.contains("\"damaged\""), "{pruned:#?}");
    let left = names(&backups);
    assert!(left.contains(&good) && left.contains(&damaged), "{left:?}");

    // A run that looks for changes compares with the good one.
    let (_, told) = snapshot(&story.data_dir("C-intact"), &backups, &["--if-changed"]);
    assert_eq!(told["unchanged"], true, "{told:#}");
}

#[test]
fn of_a_damaged_member_no_data_size_is_told() {
    let story = Story::new();
    let dirs = [story.data_dir("C-mid_record_flip"), story.backups()];
    let told = typed(
        "snapshot -v --damaged --data-dir {} --backup-dir {}",
        &[&dirs[0], &dirs[1]],
    );
    let told = told.exits(0).stdout;
    assert_has(&told, "  damaged ");
    assert!(!told.contains("data size"), "{told}");
}

#[test]
fn what_the_disk_does_not_give_is_listed_and_the_rest_is_saved() {
    only_with!(need("strace"));
    let story = Story::new();
    let data_dir = story.data_dir("C-intact");
    let backups = story.backups();
    let mut command = clean("strace");
    // The newest raft snapshot is the first file that is read; all of it at once, then block by block.
    let newest = files(&data_dir).into_iter().map(|(path, _)| path);
    let newest = newest
        .filter(|path| path.extension().is_some_and(|it| it == "snap"))
        .max()
        .unwrap();
    let newest = data_dir.join("member").join(newest);
    command
        .args(["-f", "-qq", "-o", "/dev/null", "-P"])
        .arg(&newest);
    command.args(words(
        "-e trace=pread64 -e inject=pread64:error=EIO:when=1..2 --",
        &[],
    ));
    command
        .arg(BINARY)
        .args(["snapshot", "--damaged", "--json", "--data-dir"]);
    command.arg(&data_dir).arg("--backup-dir").arg(&backups);
    let told = run(&mut command).exits(0).json();
    let lost = &told["manifest"]["damage"]["unreadable"];
    assert_eq!(lost[0]["offset"], 0, "{told:#}");
    assert_eq!(lost[0]["bytes"], 4096, "{told:#}");
    assert_eq!(lost.as_array().unwrap().len(), 1, "{told:#}");
    // All but that block is there.
    let archive = told["archive"].as_str().unwrap();
    tool(story.dir.path(), "tar", &["--zstd", "-xf", archive]);
    let saved = fs::read(
        story
            .dir
            .path()
            .join("member/snap")
            .join(newest.file_name().unwrap()),
    )
    .unwrap();
    let original = fs::read(&newest).unwrap();
    assert_eq!(saved[..4096], [0; 4096]);
    assert_eq!(saved[4096..], original[4096..]);
}

#[test]
fn a_running_member_is_not_saved_as_damaged() {
    only_with!(need("etcd"));
    let dir = TempDir::new().unwrap();
    let data_dir = dir.path().join("real0.etcd");
    let server = Etcd::start(&data_dir);
    let backups = dir.path().join("backups");
    typed(
        "snapshot --damaged --data-dir {} --backup-dir {}",
        &[&data_dir, &backups],
    )
    .exits(11)
    .says("etcd runs on this data dir");
    server.stop();
}

/// The keys that a command or a test listed, hidden ones left out.
fn values(json: &Value) -> usize {
    let nodes = json["nodes"].as_array().into_iter().flatten();
    let own = usize::from(json["value"].is_string());
    own + nodes.map(values).sum::<usize>()
}

#[test]
fn what_is_whole_of_a_damaged_log_is_shown_and_what_is_lost_is_said_first() {
    let story = Story::new();
    let intact = story.data_dir("C-intact");
    for (case, whole_to, says) in [
        // The raft snapshot at 451 goes further than the log.
        ("C-mid_record_flip", 451, "CRC mismatch"),
        (
            "C-last_wal_gone",
            451,
            "lost is what was in it from entry 452 on",
        ),
        (
            "C-last_wal_empty",
            451,
            "lost is what was in it from entry 452 on",
        ),
        (
            "C-commit_past_last",
            455,
            "at least those up to 460 were committed",
        ),
        ("C-cluster_version_bad", 455, "unreadable cluster change"),
        (
            "C-entry_bad_request",
            455,
            "entry 456 holds no request that etcd could apply; the log is whole up to entry 455",
        ),
    ] {
        let at = whole_to.to_string();
        for dir in story.data_dir_and_archive(case) {
            let cut_off = typed("keys --json {} /", &[&dir]).exits(4);
            let error = cut_off.json_error()["message"].as_str().unwrap().to_owned();
            assert_has(&error, &format!("this is the state at entry {at}: "));
            assert!(error.contains(says), "{case}: {error}");
            // Up to there it is what an undamaged log leads to.
            let told = typed("keys {}", &[&dir]).exits(4);
            assert!(told.stderr.starts_with("warning: "), "{case}: {told:#?}");
            assert_eq!(told.stderr.matches(says).count(), 1, "{case}: {told:#?}");
            let rewind = format!(
                "`etcd-ark rewind --to index:{at} --out OUT_DIR {}`",
                dir.display()
            );
            assert!(told.stderr.contains(&rewind), "{case}: {told:#?}");
            let of_intact = |index: &str| {
                let dir = intact.as_os_str();
                typed("keys --json {} --at-index {}", &[&dir, &index])
            };
            let same = of_intact(&at).exits(0).json();
            assert_eq!(cut_off.json()["node"], same["node"], "{case}");
            assert_eq!(values(&cut_off.json()["node"]), 173, "{case}");
            // An index that is there is all that was asked for.
            let index: [&OsStr; 2] = ["--at-index".as_ref(), "451".as_ref()];
            let told = ark([&["keys".as_ref(), dir.as_os_str()], &index[..]].concat());
            // What is behind it is not lost to it, but no server starts.
            let unreadable = case == "C-entry_bad_request";
            told.exits(0)
                .says(if unreadable { "entry 456" } else { says });
            let told = typed("diff --json {} {}", &[&dir, &intact]).exits(4);
            assert_eq!(
                told.json()["a"]["lost"]["whole_to_raft_index"],
                whole_to,
                "{case}"
            );
            let common = "diff --json {} {} --at-common-index";
            typed(common, &[&dir, &intact]).exits(0);
        }
    }
}

#[test]
fn keys_of_a_damaged_log_are_put_back_and_what_it_lacks_is_not_deleted_for_that() {
    only_with!(need("etcd"));
    let story = Story::new();
    let server = Etcd::start(&story.dir.path().join("real0.etcd"));
    let endpoint = server.client_url();
    for dir in story.data_dir_and_archive("C-mid_record_flip") {
        let put = |flags: &[&str]| {
            let line = "put-keys {} / --endpoints {}";
            typed_with(line, &[&dir, &endpoint], flags)
        };
        let lost = "the log is whole up to entry 451; lost is what was in it";
        for also in [&[][..], &["--dry-run"]] {
            put(&[&["--delete-others"], also].concat())
                .exits(3)
                .says(lost)
                .says("so `--delete-others` removes nothing");
            put(also).exits(4).says(lost);
        }
        let told = put(&["--json"]).exits(4);
        assert_eq!(told.json()["counts"]["create"], 0, "{told:#?}");
        let in_whole_part = ["--at-index", "451", "--delete-others"];
        put(&in_whole_part).exits(0);
    }
    server.stop();
}

#[test]
fn a_damaged_log_is_taken_back_to_an_entry_of_its_whole_part_and_to_no_other() {
    let story = Story::new();
    for (case, to) in [
        ("C-mid_record_flip", 451),
        ("C-last_wal_gone", 451),
        ("C-commit_past_last", 455),
        ("C-no_marker_of_newest_snap", 455),
        ("C-entry_bad_request", 455),
        ("C-term_lower_at_end", 455),
        ("G-mid_record_flip", 82),
    ] {
        for dir in story.data_dir_and_archive(case) {
            let (out, restored) = (
                story.dir.path().join("out"),
                story.dir.path().join("restored"),
            );
            let rewind = |to: &str| typed("rewind --json {} --to {} --out {}", &[&dir, &to, &out]);
            let told = rewind(&format!("index:{to}")).exits(0).json();
            let warnings = told["warnings"].to_string();
            let lost = &told["inputs"][0]["lost"];
            assert_eq!(
                warnings.contains("is damaged"),
                lost.is_object(),
                "{case}: {told:#}"
            );
            let archive = Path::new(told["members"][0]["archive"].as_str().unwrap());
            let line = "restore {} --data-dir {} --offline";
            typed(line, &[&archive, &restored]).exits(0);
            let verdicts = start_verdicts(&restored, None, true).unwrap();
            assert!(verdicts[2].1.is_yes(), "{case}: {verdicts:?}");
            fs::remove_dir_all(&out).unwrap();
            fs::remove_dir_all(&restored).unwrap();
            // What is damaged does not say where the history ends.
            let damaged = lost.is_object() || case == "C-no_marker_of_newest_snap";
            let code = rewind("end").code;
            assert!(code == 4 || !damaged, "{case}: {code:?}");
            if out.exists() {
                fs::remove_dir_all(&out).unwrap();
            }
        }
    }
}

#[test]
fn keys_that_no_server_would_serve_are_not_given_without_a_word() {
    let recording = unpack("start-verdicts");
    let seen = recording.json("start-verdicts/verdicts.json");
    let (mut read, mut silent) = (0, Vec::new());
    for (case, servers) in seen.as_object().unwrap() {
        let dir = recording.path(format!("start-verdicts/cases/{case}.etcd"));
        let wanted = StoreQuery {
            rescue: true,
            starts: true,
            threads: 1,
            ..StoreQuery::default()
        };
        let target = Target::open(&dir, None)
            .and_then(|target| target.read_store(wanted, &Interrupt::default(), &mut |_| {}));
        let Ok(target) = target else { continue };
        read += 1;
        let mut servers = servers.as_object().unwrap().values();
        let is_served = servers.any(|server| server["starts"] == true && server["keys"] != 0);
        if !is_served && target.none_starts().is_none() && target.lost.is_none() {
            silent.push(case);
        }
    }
    assert!(read > 200, "{read}");
    assert!(silent.is_empty(), "{silent:?}");
    let dir = recording.path("start-verdicts/cases/A-no_marker_of_newest_snap.etcd");
    for args in [vec!["keys"], vec!["diff", "--at-common-index"]] {
        let targets = vec![dir.as_os_str(); args.len()];
        let told = ark(args.iter().map(AsRef::as_ref).chain(targets));
        told.exits(0)
            .says("no etcd starts from it: the WAL has no marker of the raft snapshot");
    }
}

#[test]
fn a_raft_snapshot_renamed_by_hand_changes_no_verdict_of_what_was_saved() {
    // The server reads the one that sorts last first; behind the segments in the archive, it was not found.
    let story = Story::new();
    let data_dir = story.data_dir("C-intact");
    let snap = data_dir.join("member/snap");
    let rename = |from: &str, to: &str| fs::rename(snap.join(from), snap.join(to)).unwrap();
    rename("0000000000000004-000000000000019a.snap", "4-19a.snap");
    rename(
        "0000000000000004-0000000000000171.snap",
        "0000000000000004-0000000000000172.snap",
    );
    let (archive, _) = snapshot(&data_dir, &story.backups(), &["--damaged"]);
    for (target, code) in [(&data_dir, 0), (&archive, 4)] {
        let told = typed("verify --json {}", &[target]).exits(code).json();
        let starts = told["targets"][0]["starts"].as_object().unwrap();
        assert!(starts.values().all(|starts| starts == "yes"), "{told:#}");
    }
}
