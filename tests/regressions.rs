//! Faults found by hostile reading of the code, each as the story of its failure.
//!
//! In: small members made for each story, and real tools. Out: the exit code, the output, and the state on disk.

use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use rustix::fs::FlockOperation;

use crate::support::encode::{
    ADD_NODE, CLUSTER_ID, CONF_CHANGE, MEMBER_ID, NORMAL, SegmentBuilder, UPDATE_NODE, conf_change,
    key_path, key_value, members, raft_snapshot, request, segment_name, snap_name, store_json,
};
use crate::support::prelude::*;

fn on(command: &str, target: &Path) -> Ran {
    typed("{} {}", &[&command, &target])
}

fn try_snapshot(data_dir: &Path, backups: &Path) -> Ran {
    typed(
        "snapshot --data-dir {} --backup-dir {}",
        &[&data_dir, &backups],
    )
}

fn restore(archive: &Path, data_dir: &Path, more: &[&str]) -> Ran {
    let line = "restore --offline {} --data-dir {}";
    typed_with(line, &[&archive, &data_dir], more)
}

/// The raft snapshot that `etcdctl backup` took.
const TAKEN: u64 = 40;

/// A directory as `etcdctl backup` 2.x writes it: one segment that begins far above its name's index.
fn backup_of_2x(data_dir: &Path, marked: bool, snapped: bool) {
    let (wal, snap) = (data_dir.join("member/wal"), data_dir.join("member/snap"));
    make_dir(&wal);
    make_dir(&snap);
    let mut log = SegmentBuilder::new(0, false);
    log.crc().metadata(MEMBER_ID, CLUSTER_ID).marker(0, 0);
    for index in TAKEN + 1..TAKEN + 6 {
        let data = request("PUT", &key_path(9), &key_value(9));
        log.entry(NORMAL, 2, index, Some(&data));
    }
    log.hard_state(2, MEMBER_ID, TAKEN + 5);
    if marked {
        log.marker(2, TAKEN);
    }
    write_file(&wal.join(segment_name(0, 0)), 0o600, log.bytes());
    if snapped {
        let store = store_json(Some("2.1.0"), &members(), 3);
        let ids = members().map(|(id, _, _)| id);
        let image = raft_snapshot(2, TAKEN, &ids, &store);
        write_file(&snap.join(snap_name(2, TAKEN)), 0o644, &image);
    }
}

/// Captured, verified, restored, and the gap of the entries that the backup left out is reported.
fn there_and_back(data_dir: &Path, scratch: &Path) -> PathBuf {
    on("verify", data_dir).exits(0);
    let (archive, _) = snapshot(data_dir, &scratch.join("backups"), &[]);
    on("verify", &archive).exits(0);
    let restored = scratch.join("restored");
    restore(&archive, &restored, &[]).exits(0);
    on("verify", &restored).exits(0);
    restored
}

fn jumps(target: &Path) -> Value {
    let told = typed("--json inspect {}", &[&target]).exits(0).json();
    let to = told["facts"]["raft_snapshot"]["index"].clone();
    let jumps = told["facts"]["position"]["jumps"].clone();
    let elsewhere = told["facts"]["jumps"].clone();
    let found = if jumps.is_null() { elsewhere } else { jumps };
    assert_eq!(found, json!([{"after": 0, "to": to}]), "{told:#}");
    to
}

#[test]
fn what_etcdctl_backup_wrote_is_no_damage() {
    // Guards against the backups that etcd's own guide asks for taken for corrupt: `etcdctl backup` 2.x puts the marker last.
    let dir = TempDir::new().unwrap();
    let source = dir.path().join("source");
    backup_of_2x(&source, true, true);
    let restored = there_and_back(&source, dir.path());
    for target in [source, restored] {
        assert_eq!(jumps(&target), TAKEN);
    }
}

#[test]
fn a_backup_by_etcdctl_with_an_update_of_a_member_starts_on_2_2_and_later_only() {
    // With --force-new-cluster 2.0 and 2.1 panic: "ConfChange Type should be either ConfChangeAddNode or ConfChangeRemoveNode!"
    let dir = TempDir::new().unwrap();
    let starts = |kind: u64| {
        let source = dir.path().join(kind.to_string());
        backup_of_2x(&source, true, true);
        let (id, name, peer) = members()[0];
        let member = format!(r#"{{"id":{id},"peerURLs":["{peer}"],"name":"{name}"}}"#);
        let mut log = SegmentBuilder::new(0, false);
        // etcdctl gives the copy a member id of its own.
        log.crc().metadata(MEMBER_ID + 1, CLUSTER_ID).marker(0, 0);
        let change = conf_change(kind, id, &member);
        log.entry(CONF_CHANGE, 2, TAKEN + 1, Some(&change));
        log.hard_state(2, 0, TAKEN + 1).marker(2, TAKEN);
        let segment = source.join("member/wal").join(segment_name(0, 0));
        fs::write(segment, log.bytes()).unwrap();
        let told = typed("--json verify {}", &[&source]).json();
        let starts = told["targets"][0]["starts"].as_object().unwrap();
        starts
            .values()
            .map(|word| word.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let forced = "force-new-cluster";
    assert_eq!(starts(ADD_NODE), [forced; 4]);
    assert_eq!(starts(UPDATE_NODE), ["no", "no", forced, forced]);
}

#[test]
fn a_log_that_begins_nowhere_is_refused() {
    // Guards against the leniency for `etcdctl backup` taken for a licence to lose entries.
    for (marked, snapped) in [(false, true), (true, false), (false, false)] {
        let dir = TempDir::new().unwrap();
        let (source, backups) = (dir.path().join("source"), dir.path().join("backups"));
        backup_of_2x(&source, marked, snapped);
        on("verify", &source).exits(4);
        try_snapshot(&source, &backups).exits(4);
        assert_eq!(names(&backups), Vec::<String>::new());
    }
}

#[test]
fn what_a_real_etcdctl_backup_wrote_is_no_damage() {
    // Guards against an encoder of ours that writes backups as the reader expects them, and not as etcdctl does.
    only_with!(need("etcd") && need("etcdctl"));
    let dir = TempDir::new().unwrap();
    let (source, copy) = (dir.path().join("source"), dir.path().join("copy"));
    let etcd = Etcd::start(&source);
    for number in 0..130 {
        etcd.set_v2(&format!("key-{number}"), "value");
    }
    etcd.stop();
    let mut etcdctl = clean("etcdctl");
    etcdctl.env("ETCDCTL_API", "2").arg("backup");
    etcdctl.arg("--with-v3=false").arg("--data-dir");
    etcdctl.arg(&source).arg("--backup-dir").arg(&copy);
    run(&mut etcdctl).exits(0);
    let restored = there_and_back(&copy, dir.path());
    assert_eq!(jumps(&restored), jumps(&copy));
}

/// Appends to the newest segment of a member.
fn append(segment: &Path, bytes: &[u8]) {
    let mut whole = fs::read(segment).unwrap();
    whole.extend_from_slice(bytes);
    fs::write(segment, whole).unwrap();
}

/// A member as 3.x writes it: one padded and preallocated segment; where it is.
fn padded_member(data_dir: &Path, tail: &[u8]) -> PathBuf {
    let wal = data_dir.join("member/wal");
    make_dir(&wal);
    make_dir(&data_dir.join("member/snap"));
    let mut log = SegmentBuilder::new(0, true);
    log.crc().metadata(MEMBER_ID, CLUSTER_ID).marker(0, 0);
    for index in 1..4 {
        let data = request("PUT", &key_path(9), &key_value(9));
        log.entry(NORMAL, 1, index, Some(&data));
        log.hard_state(1, MEMBER_ID, index);
    }
    let path = wal.join(segment_name(0, 0));
    write_file(&path, 0o600, &[log.bytes(), tail].concat());
    path
}

#[test]
fn zeros_behind_a_2x_log_are_damage() {
    // Guards against acknowledged entries lost unnoticed: a crash that left zeros where records were, read as the log's end.
    for zeros in [8, 512, 4096] {
        let (_dir, source, backups, facts) = small_scene();
        append(&facts.segments[1].path, &vec![0; zeros]);
        let said = "zeros behind the last record";
        let told = on("verify", &source).exits(4);
        assert!(told.stdout.contains(said), "{told:#?}");
        try_snapshot(&source, &backups).exits(4).says(said);
        assert_eq!(names(&backups), Vec::<String>::new());
    }
}

#[test]
fn a_3x_frame_torn_at_a_sector_is_cut_off_with_a_warning() {
    // Guards against an ordinary power cut taken for corruption: sectors of a frame that never reached the disk are zeros.
    let dir = TempDir::new().unwrap();
    let (whole, source) = (dir.path().join("whole"), dir.path().join("source"));
    let start = fs::metadata(padded_member(&whole, &[])).unwrap().len() as usize;
    let mut torn = SegmentBuilder::new(0, true);
    torn.entry(NORMAL, 1, 4, Some(&[b'x'; 3000]));
    let mut tail = torn.bytes().to_vec();
    // All from the second sector border on is missing.
    let border = (start / 512 + 2) * 512 - start;
    tail[border..].fill(0);
    tail.resize(tail.len() + 8192, 0);
    padded_member(&source, &tail);
    let backups = dir.path().join("backups");
    let taken = try_snapshot(&source, &backups).exits(0);
    taken.says("warning").says("cut off");
    let archive = archives_in(&backups).remove(0);
    on("verify", &archive).exits(0);
    on("verify", &source).exits(0);
    restore(&archive, &dir.path().join("restored"), &[]).exits(0);
}

/// An archive of the small member in `dir/small`.
fn archive_of_small_member(dir: &Path) -> PathBuf {
    small_member(&dir.join("small"));
    snapshot(&dir.join("small"), &dir.join("backups"), &[]).0
}

#[test]
fn a_member_whose_wal_is_elsewhere_is_not_replaced_without_it() {
    // Guards against a new `member/` beside the old WAL of a forgotten `--wal-dir`, from which etcd then starts.
    let dir = TempDir::new().unwrap();
    let archive = archive_of_small_member(dir.path());
    let (target, wal) = (dir.path().join("target"), dir.path().join("wal"));
    small_member(&target);
    fs::rename(target.join("member/wal"), &wal).unwrap();
    let before = (tree(&target), tree(&wal));
    restore(&archive, &target, &["--replace"]).exits(3);
    // Nor with a mistyped one: its member is not compared with the archive, and etcd goes on in the real one.
    let [missing, empty] = ["wla", "empty"].map(|name| dir.path().join(name));
    fs::create_dir(&empty).unwrap();
    for mistyped in [&missing, &empty] {
        let flags = ["--replace", "--wal-dir", mistyped.to_str().unwrap()];
        restore(&archive, &target, &flags)
            .exits(3)
            .says("has a WAL in it: this member keeps its WAL in another directory");
    }
    assert_eq!((tree(&target), tree(&wal)), before);
    assert!(!missing.exists());
}

#[test]
fn a_directory_where_etcd_looks_elsewhere_is_not_restored_into() {
    // Guards against a restore that says done where etcd starts as a proxy, or moves old `snap` and `wal` over it.
    for others in [&["proxy"][..], &["snap", "wal"]] {
        let dir = TempDir::new().unwrap();
        let archive = archive_of_small_member(dir.path());
        let target = dir.path().join("target");
        for other in others {
            make_dir(&target.join(other));
        }
        let before = tree(&target);
        for more in [&[][..], &["--replace"]] {
            restore(&archive, &target, more).exits(3);
            assert_eq!(tree(&target), before);
        }
    }
}

#[test]
fn a_wal_dir_that_is_the_usual_one_is_none() {
    // Guards against a `member/wal` staged and exchanged on its own, inside a `member` that is exchanged too.
    let dir = TempDir::new().unwrap();
    let archive = archive_of_small_member(dir.path());
    let target = dir.path().join("target");
    small_member(&target);
    let wal = target.join("member/wal");
    let more = ["--replace", "--wal-dir", wal.to_str().unwrap()];
    restore(&archive, &target, &more).exits(0);
    on("verify", &target).exits(0);
    let names = names(&target);
    assert!(
        names.len() == 2 && names[1].starts_with("member.before-restore-"),
        "{names:?}"
    );
}

#[test]
fn a_wal_dir_that_is_the_usual_one_need_not_be_there_yet() {
    // Guards against a restore onto a new disk refused because the unit file names `DATA/member/wal`, which it would make.
    let dir = TempDir::new().unwrap();
    let archive = archive_of_small_member(dir.path());
    for exists in [true, false] {
        let fresh = dir.path().join(format!("fresh-{exists}"));
        if exists {
            make_dir(&fresh);
        }
        let wal = fresh.join("member/wal");
        restore(&archive, &fresh, &["--wal-dir", wal.to_str().unwrap()]).exits(0);
        on("verify", &fresh).exits(0);
        assert_eq!(names(&fresh), ["member"]);
    }
}

#[test]
fn an_etcd_that_starts_during_a_restore_is_noticed() {
    // Guards against a directory exchanged under a server that was started while the archive was being unpacked.
    only_with!(need("strace"));
    let dir = TempDir::new().unwrap();
    let archive = archive_of_small_member(dir.path());
    let target = dir.path().join("target");
    let facts = small_member(&target);
    let before = tree(&target.join("member"));
    let mut slowly = clean("strace");
    let slowing = "inject=fsync,fdatasync,syncfs:delay_enter=700000";
    slowly.args(["-qq", "-f", "-o", "/dev/null", "-e", slowing, BINARY]);
    slowly.args(["restore", "--offline", "--replace", "--data-dir"]);
    slowly.arg(&target).arg(&archive);
    let restoring = std::thread::spawn(move || run(&mut slowly));
    let deadline = Instant::now() + Duration::from_secs(60);
    while names(&target).len() < 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    let segment = fs::File::open(&facts.segments[1].path).unwrap();
    rustix::fs::flock(segment.file(), FlockOperation::NonBlockingLockExclusive).unwrap();
    restoring.join().unwrap().exits(11);
    assert_eq!(tree(&target.join("member")), before);
    assert_eq!(names(&target), ["member"]);
}

#[test]
fn paths_that_are_not_utf_8_are_paths() {
    // Guards against a panic while a name is printed: a path on Linux is bytes.
    let dir = TempDir::new().unwrap();
    let odd = dir.path().join(OsStr::from_bytes(b"caf\xe9"));
    let (source, backups) = (odd.join("source"), odd.join("backups"));
    make_dir(&odd);
    small_member(&source);
    for (round, json) in [&[][..], &["--json"]].into_iter().enumerate() {
        let told = |line: &str, values: &[&dyn AsRef<OsStr>]| {
            typed_with(line, values, json).exits(0);
        };
        let before = archives_in(&backups);
        told(
            "snapshot --data-dir {} --backup-dir {}",
            &[&source, &backups],
        );
        let mut made = archives_in(&backups);
        made.retain(|path| !before.contains(path));
        let archive = made.remove(0);
        let target = odd.join(format!("target-{round}"));
        told("verify {} {}", &[&archive, &source]);
        told("inspect {}", &[&archive]);
        told("inspect {}", &[&source]);
        told("list {}", &[&backups]);
        let line = "restore --offline {} --data-dir {}";
        told(line, &[&archive, &target]);
        told(&format!("{line} --replace"), &[&archive, &target]);
        let nowhere = odd.join("nowhere");
        let refused = ["inspect", "verify", "list"].map(|command| on(command, &nowhere).code);
        assert!(
            !refused.contains(&101) && !refused.contains(&0),
            "{refused:?}"
        );
    }
}

/// A snapshot of `dir/small` into `dir/backups` under further variables.
fn snapshot_under(dir: &Path, variables: &[(&str, &str)]) -> Ran {
    let mut command = clean(BINARY);
    command.arg("snapshot").arg("--data-dir");
    command.arg(dir.join("small")).arg("--backup-dir");
    command.arg(dir.join("backups"));
    run(command.envs(variables.iter().copied()))
}

#[test]
fn what_the_environment_says_counts() {
    // Guards against a unit's `ETCD_ARK_STRICT=1` that is refused as no boolean, and an `=0` that means yes.
    let dir = TempDir::new().unwrap();
    small_member(&dir.path().join("small"));
    let over_limit = ("ETCD_ARK_SIZE_LIMIT", "1B");
    for (strict, code) in [("1", 5), ("yes", 5), ("true", 5), ("0", 0), ("", 0)] {
        let variables = [over_limit, ("ETCD_ARK_STRICT", strict)];
        snapshot_under(dir.path(), &variables).exits(code);
    }
    snapshot_under(dir.path(), &[("ETCD_ARK_JSON", "1")])
        .exits(0)
        .json();
    let empty = [("ETCD_WAL_DIR", ""), ("ETCD_ARK_LABEL", "")];
    let json = [("ETCD_ARK_JSON", "1")];
    let told = snapshot_under(dir.path(), &[&empty[..], &json].concat());
    let told = told.exits(0).json();
    let labels = &told["manifest"]["labels"];
    assert!(labels.is_null() || *labels == json!([]), "{told:#}");
}

#[test]
fn a_backup_dir_inside_the_data_dir_is_refused() {
    // Guards against archives that go with the data they are to bring back, and a source that is written to.
    let (_dir, source, _, _) = small_scene();
    let before = tree(&source);
    for inside in ["", "backups", "member/backups", "a/b", "member/wal"] {
        try_snapshot(&source, &source.join(inside)).exits(3);
        assert_eq!(tree(&source), before, "{inside}");
    }
}

#[test]
fn a_learner_is_no_damage() {
    // Guards against a log of 3.4 taken for corrupt because of a kind of change that 2.x does not know.
    let dir = TempDir::new().unwrap();
    let source = dir.path().join("source");
    let mut log = SegmentBuilder::new(0, true);
    log.crc().metadata(MEMBER_ID, CLUSTER_ID).marker(0, 0);
    let context = r#"{"id":5,"peerURLs":["http://127.10.1.15:2380"],"isLearner":true}"#;
    let added = conf_change(
        0,
        MEMBER_ID,
        r#"{"id":14855829450254237642,"peerURLs":["http://127.10.1.10:2380"]}"#,
    );
    let learner = conf_change(3, 5, context);
    log.entry(CONF_CHANGE, 1, 1, Some(&added));
    log.entry(CONF_CHANGE, 1, 2, Some(&learner));
    log.hard_state(1, MEMBER_ID, 2);
    make_dir(&source.join("member/wal"));
    make_dir(&source.join("member/snap"));
    let path = source.join("member/wal").join(segment_name(0, 0));
    write_file(&path, 0o600, log.bytes());
    there_and_back(&source, dir.path());
}

#[test]
fn the_mode_of_member_is_its_own() {
    // Guards against a `member/` open to everyone because the disk that `member/snap` links to is.
    let dir = TempDir::new().unwrap();
    let (source, disk) = (dir.path().join("source"), dir.path().join("disk"));
    small_member(&source);
    make_dir(&disk);
    fs::set_permissions(&disk, Permissions::from_mode(0o755)).unwrap();
    fs::rename(source.join("member/snap"), disk.join("snap")).unwrap();
    symlink(disk.join("snap"), source.join("member/snap")).unwrap();
    let (archive, _) = snapshot(&source, &dir.path().join("backups"), &[]);
    let restored = dir.path().join("restored");
    restore(&archive, &restored, &[]).exits(0);
    for part in ["member", "member/snap", "member/wal"] {
        let mode = fs::metadata(restored.join(part)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700, "{part}");
    }
}

#[test]
fn a_pipe_in_the_backup_dir_holds_no_run_up() {
    // Guards against a nightly backup that waits for ever to open what someone put there.
    let dir = TempDir::new().unwrap();
    let backups = dir.path().join("backups");
    small_member(&dir.path().join("small"));
    make_dir(&backups);
    let pipe = backups.join(".etcd-ark-x.tmp");
    for args in [&["mkfifo"][..], &["touch", "-d", "2 weeks ago"]] {
        let mut command = clean(args[0]);
        run(command.args(&args[1..]).arg(&pipe)).exits(0);
    }
    let mut bounded = clean("timeout");
    bounded.args(["60", BINARY, "snapshot", "--data-dir"]);
    bounded.arg(dir.path().join("small")).arg("--backup-dir");
    run(bounded.arg(&backups)).exits(0);
}

#[test]
fn an_answer_that_could_not_be_written_is_no_success() {
    // Guards against a script that reads half a JSON and believes it, because the exit code said done.
    let dir = TempDir::new().unwrap();
    let archive = archive_of_small_member(dir.path());
    for json in ["", "--json"] {
        let script = r#"exec "$1" inspect $3 "$2" >/dev/full"#;
        let mut sh = clean("sh");
        sh.args(["-c", script, "sh", BINARY])
            .arg(&archive)
            .arg(json);
        let ran = run(&mut sh);
        assert!(ran.code != 0 && ran.code != 101, "{ran:#?}");
    }
}

#[test]
fn no_name_reaches_the_terminal_raw() {
    // Guards against a member that is called by a terminal's commands and writes what it likes on the operator's screen.
    let dir = TempDir::new().unwrap();
    let (source, backups) = (dir.path().join("source"), dir.path().join("backups"));
    for part in ["wal", "snap"] {
        make_dir(&source.join("member").join(part));
    }
    let context = r#"{"id":14855829450254237642,"peerURLs":["http://127.10.1.10:2380"],"name":"a\u001b[2Jb\nFORGED"}"#;
    let mut log = SegmentBuilder::new(0, false);
    log.crc().metadata(MEMBER_ID, CLUSTER_ID).marker(0, 0);
    let attributes = format!("/0/members/{MEMBER_ID:x}/attributes");
    let value = "{\"name\":\"a\\u001b[2Jb\\nFORGED\",\"clientURLs\":[\"http://x\\u001b[2J\"]}";
    log.entry(CONF_CHANGE, 1, 1, Some(&conf_change(0, MEMBER_ID, context)));
    log.entry(NORMAL, 1, 2, Some(&request("PUT", &attributes, value)));
    log.hard_state(1, MEMBER_ID, 2);
    let path = source.join("member/wal").join(segment_name(0, 0));
    write_file(&path, 0o600, log.bytes());
    let taken = try_snapshot(&source, &backups).exits(0);
    let archive = archives_in(&backups).remove(0);
    let told = [
        taken,
        on("inspect", &source),
        on("inspect", &archive),
        on("list", &backups),
        on("verify", &archive),
        restore(&archive, &dir.path().join("restored"), &[]),
    ];
    assert!(told[1].stdout.contains("FORGED"), "{told:#?}");
    for ran in told {
        let ran = ran.exits(0);
        for text in [&ran.stdout, &ran.stderr] {
            assert!(!text.contains('\u{1b}'), "{ran:#?}");
            assert!(!text.contains("\nFORGED"), "{ran:#?}");
        }
    }
}

#[test]
fn leftovers_beyond_the_soft_limit_of_open_files_are_captured() {
    // Guards against a backup that fails on the member that needs it most: one with years of leftovers.
    let (_dir, source, backups, _) = small_scene();
    for number in 0..1200 {
        let name = format!("{number:016x}-{number:016x}.snap.broken");
        write_file(&source.join("member/snap").join(name), 0o644, b"broken");
    }
    let script = r#"ulimit -Sn 1024; exec "$1" snapshot --all --data-dir "$2" --backup-dir "$3""#;
    let mut sh = clean("sh");
    sh.args(["-c", script, "sh", BINARY])
        .arg(&source)
        .arg(&backups);
    run(&mut sh).exits(0);
    on("verify", &archives_in(&backups)[0]).exits(0);
}

/// Who goes back beyond a change of the membership must hear whose old data have no place any more, and
/// who counts again: an old data dir that is started beside the archives is another cluster.
#[test]
fn a_rewind_across_a_change_of_members_says_who_is_gone_and_who_is_back() {
    let recordings = ["mem-a", "mem-b", "mem-d"].map(unpack);
    let dirs: Vec<_> = ["mem-a", "mem-b", "mem-d"]
        .iter()
        .zip(&recordings)
        .map(|(name, recording)| recording.data_dir(name))
        .collect();
    let rewind = |more: &[&str]| {
        let dirs = [&dirs[0] as &dyn AsRef<OsStr>, &dirs[1], &dirs[2]];
        typed_with("rewind --dry-run {} {} {}", &dirs, more).exits(0)
    };
    // mem-d joined at 43, mem-b was removed at 50.
    rewind(&["--to", "index:30"])
        .says("mem-d (913b1d8fe9353213) is a member now and was not one at entry 30: there is no archive for it")
        .says("mem-b (1512e7959dba47fe) was removed after entry 30 and is a member again");
    let said = rewind(&["--to", "index:30", "--json"]).json();
    assert_eq!(said["warnings"].as_array().unwrap().len(), 2, "{said:#}");
    // No such note if the members did not change, or if the user asked for the change.
    for more in [&[][..], &["--single", "mem-a"]] {
        let told = rewind(more);
        assert!(!told.stderr.contains("member"), "{told:#?}");
    }
}

/// A link that leads nowhere is not a place for a result, and its parent is not what is missing.
#[test]
fn a_link_that_leads_nowhere_is_not_taken_for_a_missing_parent() {
    let recording = unpack("auth");
    let scratch = TempDir::new().unwrap();
    let out = scratch.path().join("out");
    symlink(scratch.path().join("nowhere"), &out).unwrap();
    typed("rewind {} --out {}", &[&recording.data_dir("auth"), &out])
        .exits(3)
        .says("exists and is not an empty directory");
    assert_eq!(names(scratch.path()), ["out"]);
}

/// Who names `member` has named a source anyway: nothing is written beside it.
#[test]
fn a_source_that_is_named_by_its_member_directory_is_not_written_to() {
    let recording = unpack("auth");
    let data = recording.data_dir("auth");
    let member = data.join("member");
    let before = tree(&data);
    let inside = data.join("inside");
    typed("rewind {} --out {}", &[&member, &inside])
        .exits(3)
        .says("is inside a data dir that is only read");
    try_snapshot(&member, &inside)
        .exits(3)
        .says("is inside the data dir, which is only read");
    assert_eq!(tree(&data), before);
    // Elsewhere it is as good a name as any.
    let scratch = TempDir::new().unwrap();
    try_snapshot(&member, scratch.path()).exits(0);
}
