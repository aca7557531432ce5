//! Every recording of a real server, captured and restored; and every kind of directory that is not a data dir.
//!
//! The tool's output is compared with the recordings' own answers and with the tests' own reading of the bytes.

mod inspect;
mod odd_directories;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use etcd_ark::archive::warning::WarningCode;

use crate::corruption::{look, take};
use crate::support::encode::SegmentBuilder;
use crate::support::prelude::*;

fn files_of(root: &Path) -> BTreeMap<PathBuf, Stat> {
    let mut files = tree(root);
    files.retain(|_, stat| stat.mode & 0o170_000 == 0o100_000);
    files
}

/// Fails unless the files below `root` are exactly `expected`: name, type, mode, bytes, and time where a tool keeps it.
#[track_caller]
fn assert_same_files(root: &Path, expected: &BTreeMap<PathBuf, PathBuf>) {
    let found = files_of(root);
    let wanted: BTreeMap<_, _> = expected
        .iter()
        .map(|(path, source)| (path.clone(), stat(source)))
        .collect();
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        wanted.keys().collect::<Vec<_>>()
    );
    for (path, stat) in &found {
        let source = &wanted[path];
        assert!(
            stat.same_content(source),
            "{}: {stat:?} {source:?}",
            path.display()
        );
        let (second, source_second) = (
            stat.mtime_ns / 1_000_000_000,
            source.mtime_ns / 1_000_000_000,
        );
        assert_eq!(second, source_second, "{}", path.display());
    }
}

/// Snapshot, verify, restore and the operator's own tools, on one member.
fn there_and_back(name: &str, dirs: &[&str]) {
    let recording = unpack(name);
    for dir in dirs {
        let source = Source::of(&recording, dir);
        let before = source.trees();
        let live = decode::live_set(&source.snap_dir(), &source.wal_dir());
        let all = decode::all_files(&source.snap_dir(), &source.wal_dir());
        for (scope, files) in [(None, &live), (Some("--all"), &all)] {
            let scratch = TempDir::new().unwrap();
            let backups = scratch.path().join("backups");
            let mut flags = source.wal_flags();
            flags.extend(scope);
            let (archive, told) = snapshot(&source.data, &backups, &flags);
            let listed = told["manifest"]["files"].as_array().unwrap();
            assert_eq!(listed.len(), files.len(), "{dir} {scope:?}: {listed:#?}");
            typed("verify {}", &[&archive]).exits(0);
            let restored = scratch.path().join("restored");
            restore(&archive, &restored, &[]).exits(0);
            assert_same_files(&restored, files);
            assert_same_directories(&restored, &source);
            if scope.is_none() {
                assert_everyday_tools_read(
                    &archive,
                    &backups,
                    &scratch.path().join("plain"),
                    files,
                );
            }
        }
        assert!(before == source.trees(), "{dir}: the source was touched");
    }
}

fn restore(archive: &Path, data_dir: &Path, flags: &[&str]) -> crate::support::ark::Ran {
    typed_with(
        "restore --offline {} --data-dir {}",
        &[&archive, &data_dir],
        flags,
    )
}

fn assert_same_directories(restored: &Path, source: &Source) {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let (member, wal) = (source.data.join("member"), source.wal_dir());
    let pairs = [
        ("member", member),
        ("member/snap", source.snap_dir()),
        ("member/wal", wal),
    ];
    for (rel, from) in pairs {
        assert_eq!(mode(&restored.join(rel)), mode(&from), "{rel}");
    }
}

/// Without this tool available an archive must be as good: `tar`, `zstd` and `sha256sum` are all it takes.
fn assert_everyday_tools_read(
    archive: &Path,
    backups: &Path,
    plain: &Path,
    files: &BTreeMap<PathBuf, PathBuf>,
) {
    let name = archive.file_name().unwrap().to_str().unwrap();
    let listed = tool(backups, "tar", &["--zstd", "-tf", name]).stdout;
    for path in files.keys() {
        assert!(
            listed.lines().any(|line| Path::new(line) == path),
            "{listed}"
        );
    }
    tool(backups, "zstd", &["-q", "-t", name]);
    tool(
        backups,
        "sha256sum",
        &["--strict", "-c", &format!("{name}.sha256")],
    );
    fs::create_dir(plain).unwrap();
    let into = plain.to_str().unwrap();
    tool(backups, "tar", &["--zstd", "-xpf", name, "-C", into]);
    let checked = tool(plain, "sha256sum", &["--strict", "-c", "SHA256SUMS"]).stdout;
    assert_eq!(checked.lines().count(), files.len(), "{checked}");
    fs::remove_file(plain.join("SHA256SUMS")).unwrap();
    fs::remove_file(plain.join("manifest.json")).unwrap();
    assert_same_files(plain, files);
}

#[test]
fn members_of_2_0_and_2_3_come_back_as_they_were() {
    // Guards against a format detail of another release (2.0 writes hard states first) taken for damage.
    there_and_back("v20", &["v20"]);
    there_and_back("v23", &["v23"]);
}

#[test]
fn a_member_without_a_raft_snapshot_comes_back_as_it_was() {
    // Guards against a tool that cannot do without a `.snap`: a young member has none.
    there_and_back("auth", &["auth"]);
}

#[test]
fn members_that_joined_stayed_and_were_removed_come_back_as_they_were() {
    // Guards against a log that begins with a received snapshot (mem-d) or ends with one's own removal (mem-b).
    there_and_back("mem-a", &["mem-a"]);
    there_and_back("mem-b", &["mem-b"]);
    there_and_back("mem-d", &["mem-d"]);
}

#[test]
fn a_follower_with_a_hole_in_its_log_comes_back_as_it_was() {
    // Guards against a jump to a received snapshot taken for missing entries.
    there_and_back("gap-follower", &["gap-follower"]);
}

#[test]
fn busy_members_come_back_as_they_were() {
    // Guards against values and operations of every kind that 2,400 random requests leave in a log.
    there_and_back("ops-2.1", &["ops-2.1"]);
    there_and_back("ops-2.2", &["ops-2.2"]);
}

#[test]
fn every_member_of_the_upgrade_comes_back_as_it_was() {
    // Guards against losing the way back at any moment of a rolling upgrade.
    there_and_back("upgrade-story", &UPGRADE.map(|server| server.dir));
}

#[test]
fn a_member_with_three_segments_comes_back_as_it_was() {
    // Guards against a chain that breaks where one segment ends and the next begins, and against frames out of order.
    there_and_back("multisegment", &["multisegment"]);
}

#[test]
fn a_member_with_a_wal_dir_of_its_own_comes_back_into_one() {
    // Guards against a restore that puts segments where etcd, started with `--wal-dir`, does not look.
    there_and_back("waldir", &["waldir"]);
    let recording = unpack("waldir");
    let source = Source::of(&recording, "waldir");
    let scratch = TempDir::new().unwrap();
    let (archive, _) = snapshot(&source.data, scratch.path(), &source.wal_flags());
    let (data, wal) = (scratch.path().join("data"), scratch.path().join("wal"));
    restore(&archive, &data, &["--wal-dir", wal.to_str().unwrap()]).exits(0);
    assert!(
        !data.join("member/wal").exists(),
        "etcd would find two WALs"
    );
    let live = decode::live_set(&source.snap_dir(), &source.wal_dir());
    let (segments, snapshots): (BTreeMap<_, _>, BTreeMap<_, _>) = live
        .into_iter()
        .partition(|(path, _)| path.starts_with("member/wal"));
    assert_same_files(&data, &snapshots);
    let by_name = |(path, source): (PathBuf, PathBuf)| (path.file_name().unwrap().into(), source);
    assert_same_files(&wal, &segments.into_iter().map(by_name).collect());
}

#[test]
fn a_forgotten_wal_dir_is_asked_for() {
    // Guards against an archive without a WAL, or an empty restore, because a flag was left out.
    let recording = unpack("waldir");
    let data = recording.data_dir("waldir");
    let scratch = TempDir::new().unwrap();
    for command in ["snapshot", "inspect", "verify"] {
        let ran = match command {
            "snapshot" => typed(
                "snapshot --data-dir {} --backup-dir {}",
                &[&data, &scratch.path()],
            ),
            _ => typed("{} {}", &[&command, &data]),
        };
        ran.exits(10)
            .says("has no WAL: neither `member/wal` nor a dedicated WAL dir was found")
            .says("hint: if etcd runs with `--wal-dir`, pass the same here");
    }
    assert_eq!(names(scratch.path()), [""; 0]);
}

fn inspect(target: &Path, flags: &[&str]) -> Value {
    typed_with("--json inspect {}", &[&target], flags)
        .exits(0)
        .json()
}

fn cut(path: &Path, length: usize) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(length as u64).unwrap();
}

#[test]
fn two_snapshots_of_the_same_directory_differ_in_nothing_but_their_time() {
    // Guards against bytes that depend on the clock, on thread timing or on the order of a directory listing.
    for name in ["ops-2.2", "mem-a", "multisegment"] {
        let recording = unpack(name);
        let scratch = TempDir::new().unwrap();
        let data = recording.data_dir(name);
        let first = snapshot(&data, &scratch.path().join("1"), &["--threads", "1"]).0;
        let second = snapshot(&data, &scratch.path().join("2"), &["--threads", "4"]).0;
        let (mut first, mut second) = (Parts::of(&first), Parts::of(&second));
        assert_eq!(first.content, second.content, "{name}");
        assert_ne!(
            first.manifest["created"].take(),
            second.manifest["created"].take()
        );
        assert_eq!(first.manifest, second.manifest, "{name}");
    }
}

/// An archive as its seek table divides it.
struct Parts {
    /// The compressed bytes of all frames before the manifest's.
    content: Vec<u8>,
    manifest: Value,
}

impl Parts {
    fn of(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let count = word(bytes.len() - 9);
        let table = bytes.len() - 9 - count * 8;
        let compressed: Vec<_> = (0..count).map(|frame| word(table + frame * 8)).collect();
        // The last two are the manifest's frame and the seal.
        let (before, last) = compressed[..count - 1].split_at(count - 2);
        let manifest = before.iter().sum::<usize>();
        let tar = zstd::decode_all(&bytes[manifest..manifest + last[0]]).unwrap();
        let mut tar = tar::Archive::new(&tar[..]);
        let entry = tar.entries().unwrap().next().unwrap().unwrap();
        Self {
            content: bytes[..manifest].to_vec(),
            manifest: serde_json::from_reader(entry).unwrap(),
        }
    }
}

#[test]
fn over_100_megabytes_is_said() {
    // Guards against an upgrade on more data than etcd's guide allows, for lack of a warning.
    let recording = unpack("multisegment");
    let data = recording.data_dir("multisegment");
    let scratch = TempDir::new().unwrap();
    let backups = scratch.path().to_str().unwrap();
    let size = snapshot_and_log_size(&data);
    assert!(size > 100_000_000);
    let args = ["snapshot", "--json", "--data-dir", data.to_str().unwrap()];
    let told = ark(args.iter().chain(&["--backup-dir", backups]));
    let told = told.exits(0).json();
    assert_eq!(told["manifest"]["sizes"]["data"], size);
    assert_eq!(told["manifest"]["sizes"]["limit"], 100_000_000);
    let warning = "over the limit of 100.0 MB: etcd's guide says to get help before an upgrade";
    let warnings = told["manifest"]["warnings"].as_array().unwrap();
    assert!(
        warnings
            .iter()
            .any(|found| found.as_str().unwrap().contains(warning)),
        "{warnings:?}"
    );
}

/// Bytes of the newest raft snapshot and of the frames of the entries above it.
fn snapshot_and_log_size(data: &Path) -> u64 {
    let snap = decode::snaps(&data.join("member/snap")).pop().unwrap();
    let index =
        u64::from_str_radix(&snap.file_stem().unwrap().to_str().unwrap()[17..], 16).unwrap();
    let mut size = fs::metadata(&snap).unwrap().len();
    for segment in decode::segments(&data.join("member/wal")) {
        for frame in decode::frames(&fs::read(segment).unwrap()) {
            if frame.kind == 2 && decode::number(&frame.data, 3) > index {
                size += (frame.end - frame.offset) as u64;
            }
        }
    }
    size
}

#[test]
fn a_limit_of_ones_own_counts_and_between_data_and_directory_it_is_only_noted() {
    // Guards against a limit that is read but not used, and against a cron job that fails by what is no reason to.
    let (_dir, data, backups, _) = small_scene();
    let [data_dir, backup_dir] = [&data, &backups].map(|path| path.to_str().unwrap());
    let base = [
        "snapshot",
        "--data-dir",
        data_dir,
        "--backup-dir",
        backup_dir,
    ];
    let with = |limit: &str, more: &[&str]| {
        let limit = ["--size-limit", limit];
        ark(base.iter().chain(&limit).chain(more))
    };
    let warning = "over the limit of 1.0 kB: etcd's guide says to get help before an upgrade";
    with("1KB", &[])
        .exits(0)
        .says("warning: the data size is")
        .says(warning);
    with("1KB", &["--strict"]).exits(5).says(warning);
    with("1KB", &["--strict", "--quiet"]).exits(5).says(warning);

    // Above the data but below the directory as a whole: a note, which does not count under --strict.
    let limit = (snapshot_and_log_size(&data) + 1).to_string();
    let told = with(&limit, &["--strict", "-v"]).exits(0);
    assert!(!told.stderr.contains("warning:"), "{told:?}");
    told.says("note: the data dir as a whole is");
    let told = with(&limit, &["--strict"]).exits(0);
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("", ""));
    let told = with("1GB", &["--strict"]).exits(0);
    assert_eq!(told.stderr, "");
}

#[test]
fn what_is_missing_or_beside_the_point_is_called_what_it_is() {
    // Guards against an operator who looks for a data dir although the link, the WAL dir or the checksum file is wrong.
    let scratch = TempDir::new().unwrap();
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (data, link, backups) = (path("data"), path("link"), path("backups"));
    small_member(Path::new(&data));
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    let is_link = "is a symbolic link to `nowhere`, which does not exist";
    for command in ["verify", "inspect", "keys"] {
        ark([command, &link]).exits(10).says(is_link);
    }
    let from = |data: &str, more: &[&str]| {
        let args = ["snapshot", "--data-dir", data, "--backup-dir", &backups];
        ark(args.iter().chain(more))
    };
    from(&link, &[]).exits(10).says(is_link);
    let no_wal = format!("there is no WAL dir at `{}`", path("wal"));
    from(&data, &["--wal-dir", &path("wal")])
        .exits(10)
        .says(&no_wal);
    from(&data, &["--wal-dir", &link]).exits(10).says(is_link);

    from(&data, &[]).exits(0);
    let archive = names(Path::new(&backups)).remove(0);
    let archive = Path::new(&backups).join(archive);
    let sum = archive.with_extension("zst.sha256");
    let right = fs::read_to_string(&sum).unwrap();
    let verified = || typed("verify {}", &[&archive]).exits(0);
    assert!(!verified().stderr.contains("does not match"));
    fs::write(&sum, format!("{:064}{}", 0, &right[64..])).unwrap();
    verified()
        .says("does not match the archive, which is valid")
        .says(&right[..64]);

    // A corrupt data dir is kept as it is first; there may be no archive.
    let segment = decode::segments(&Path::new(&data).join("member/wal")).remove(0);
    flip(&segment, 20);
    let told = ark(["verify", &data]).exits(4);
    let told = told.says("is corrupt: ");
    told.says("etcd-ark snapshot --damaged");
    for command in ["verify", "inspect", "keys"] {
        let told = ark([command, &data]).exits(4);
        let all = format!("{}{}", told.stdout, told.stderr).to_lowercase();
        assert!(!all.contains("no wal"), "the WAL is there: {all}");
        assert!(
            !all.contains("etcd-ark list"),
            "that is for archives: {all}"
        );
    }
}

#[test]
fn leftovers_are_named_and_stay_out_of_the_live_set() {
    // Guards against a file that etcd set aside as broken coming back as part of a member.
    let (scratch, data, _, small) = small_scene();
    let leftovers = [
        (
            "member/snap/0000000000000002-0000000000000004.snap.broken",
            "could not read and set aside",
        ),
        (
            "member/wal/0000000000000001-000000000000000c.wal.broken",
            "from before it cut off a torn tail",
        ),
        (
            "member/wal/0000000000000002-0000000000000010.wal.tmp",
            "being made when etcd stopped",
        ),
    ];
    for (path, _) in leftovers {
        write_file(&data.join(path), 0o600, b"half of something");
    }
    let told = inspect(&data, &[]);
    let text = typed("inspect {}", &[&data]).exits(0).stdout;
    for (path, what) in leftovers {
        let found = told["leftovers"].as_array().unwrap();
        let named = |leftover: &&Value| leftover["path"] == path;
        let leftover = found
            .iter()
            .find(named)
            .unwrap_or_else(|| panic!("{path}: {told:#}"));
        assert_has(&leftover["message"], what);
        assert!(text.contains(path), "{text}");
    }
    let backups = scratch.path().join("backups");
    let (_, live) = snapshot(&data, &backups, &[]);
    assert_eq!(
        live["manifest"]["files"].as_array().unwrap().len(),
        3,
        "{live:#}"
    );
    let (archive, all) = snapshot(&data, &backups, &["--all"]);
    let roles: Vec<_> = all["manifest"]["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["role"].as_str().unwrap())
        .collect();
    assert_eq!(
        roles,
        [
            "raft-snapshot",
            "wal",
            "wal",
            "leftover",
            "leftover",
            "leftover"
        ]
    );
    let restored = scratch.path().join("restored");
    restore(&archive, &restored, &[]).exits(0);
    assert_same_files(
        &restored,
        &decode::all_files(&data.join("member/snap"), &data.join("member/wal")),
    );
    assert!(small.snap_path.exists());
}

#[test]
fn a_half_written_raft_snapshot_is_passed_over_for_the_one_before() {
    // Guards against an archive whose newest `.snap` etcd would refuse: a crash while it was written leaves half of one.
    let recording = unpack("mem-a");
    let snaps = decode::snaps(&recording.data_dir("mem-a").join("member/snap"));
    let newest = snaps.last().unwrap().file_name().unwrap();
    for damage in ["half", "flipped", "empty"] {
        let scratch = TempDir::new().unwrap();
        let data = scratch.path().join("data");
        copy_dir(&recording.data_dir("mem-a"), &data);
        let path = data.join("member/snap").join(newest);
        let mut bytes = fs::read(&path).unwrap();
        match damage {
            "half" => bytes.truncate(bytes.len() / 2),
            "flipped" => *bytes.last_mut().unwrap() ^= 1,
            _ => bytes.clear(),
        }
        fs::write(&path, &bytes).unwrap();
        let before = tree(&data);
        let live = decode::live_set(&data.join("member/snap"), &data.join("member/wal"));
        let expected = snaps[snaps.len() - 2].file_name().unwrap();
        assert!(
            live.contains_key(&Path::new("member/snap").join(expected)),
            "{live:?}"
        );
        let backups = scratch.path().join("backups");
        let (archive, told) = snapshot(&data, &backups, &[]);
        let warnings = told["manifest"]["warnings"].to_string();
        assert!(warnings.contains("was passed over: "), "{warnings}");
        let restored = scratch.path().join("restored");
        restore(&archive, &restored, &[]).exits(0);
        assert_same_files(&restored, &live);
        assert!(before == tree(&data), "{damage}: the source was touched");
    }
}

#[test]
fn a_log_cut_at_any_length_is_archived_to_its_last_whole_record() {
    // Guards against a torn tail, which every crash may leave, that stops a backup or comes back as part of it.
    let (scratch, data, _, small) = small_scene();
    let last = small.segments.last().unwrap();
    let whole = fs::read(&last.path).unwrap();
    let header_end = last.frames[1].end();
    for length in (header_end..=whole.len()).rev() {
        cut(&last.path, length);
        let end = last
            .frames
            .iter()
            .map(super::support::encode::Frame::end)
            .filter(|&end| end <= length)
            .max()
            .unwrap();
        let found = look(&data);
        assert!(found.is_valid(), "cut at {length}: {found:#?}");
        let torn = (end < length).then(|| (format!("member/wal/{}", last.name), end as u64));
        assert_eq!(found.torn_tail, torn, "cut at {length}");
        let captured = take(&data, &scratch.path().join("backups")).unwrap();
        let entry = captured.manifest.files.last().unwrap();
        assert_eq!(entry.size, end as u64, "cut at {length}");
        assert_eq!(
            entry.sha256,
            etcd_ark::etcd::digest::Digest::of(&whole[..end]),
            "cut at {length}"
        );
        let warned = captured
            .manifest
            .warnings
            .iter()
            .any(|found| found.code == WarningCode::TornTail);
        assert_eq!(warned, end < length, "cut at {length}");
        fs::remove_dir_all(scratch.path().join("backups")).unwrap();
    }
}

#[test]
fn a_segment_cut_within_its_header_is_named() {
    // Guards against an archive that has lost a segment's entries without a word. 2.0.0 to 2.0.9 leave such a segment when
    // they crash at a cut; later ones rename a segment into place only when its header is synced.
    let (scratch, data, _, small) = small_scene();
    let last = small.segments.last().unwrap();
    for length in (0..last.frames[1].end()).rev() {
        cut(&last.path, length);
        let found = look(&data);
        assert_eq!(found.files.len(), 3, "cut at {length}");
        if [0, 3, last.frames[0].end(), last.frames[1].end() - 1].contains(&length) {
            let backups = scratch.path().join("backups");
            typed("snapshot --data-dir {} --backup-dir {}", &[&data, &backups])
                .exits(0)
                .says(&last.name)
                .says("holds no record of the log");
            fs::remove_dir_all(&backups).unwrap();
        }
    }
}

#[test]
fn a_log_that_lost_committed_entries_is_not_archived() {
    // Guards against an archive that etcd panics on: its commit index is above its last entry.
    let (scratch, data, _, _) = small_scene();
    let wal = data.join("member/wal");
    let first = decode::segments(&wal).remove(0);
    let second = decode::segments(&wal).remove(1);
    fs::remove_file(second).unwrap();
    let mut tail = SegmentBuilder::new(chain_crc(&first), false);
    tail.hard_state(2, 0, 12);
    let mut bytes = fs::read(&first).unwrap();
    bytes.extend_from_slice(tail.bytes());
    fs::write(&first, bytes).unwrap();
    typed(
        "snapshot --data-dir {} --backup-dir {}",
        &[&data, &scratch.path()],
    )
    .exits(4)
    .says("etcd could not start from this data dir")
    .says("the commit index 12 is not between the raft snapshot's index 10 and the last index 11")
    .says("hint: etcd cannot start from this directory as it is");
    assert_eq!(names(scratch.path()), ["source"]);
}

/// The running crc at the end of a first segment.
fn chain_crc(segment: &Path) -> u32 {
    let frames = decode::frames(&fs::read(segment).unwrap());
    frames
        .iter()
        .fold(0, |crc, frame| crc32c::crc32c_append(crc, &frame.data))
}

#[test]
fn the_zeros_of_a_preallocated_segment_are_no_damage() {
    // Guards against refusing every 3.x directory, whose last segment ends in zeros; they are kept, as etcd wants them.
    let scratch = TempDir::new().unwrap();
    let data = scratch.path().join("data");
    for dir in ["member/wal", "member/snap"] {
        fs::create_dir_all(data.join(dir)).unwrap();
    }
    let mut segment = SegmentBuilder::new(0, true);
    segment
        .crc()
        .metadata(0xa, 0xb)
        .marker(0, 0)
        .entry(0, 1, 1, None)
        .entry(0, 1, 2, Some(b""))
        .hard_state(1, 0, 2);
    let records = segment.bytes().len();
    segment.zero_tail(1 << 20);
    let path = data.join("member/wal/0000000000000000-0000000000000000.wal");
    write_file(&path, 0o600, segment.bytes());
    let (archive, told) = snapshot(&data, &scratch.path().join("backups"), &[]);
    assert_eq!(
        told["manifest"]["member"]["segments"][0]["records_end"],
        records
    );
    assert_eq!(told["manifest"]["warnings"], json!([]));
    let restored = scratch.path().join("restored");
    restore(&archive, &restored, &[]).exits(0);
    assert_same_files(
        &restored,
        &decode::live_set(&data.join("member/snap"), &data.join("member/wal")),
    );
    // A byte that is not zero behind the end was not written by etcd.
    let mut bytes = segment.bytes().to_vec();
    *bytes.last_mut().unwrap() = 1;
    fs::write(&path, bytes).unwrap();
    let found = look(&data);
    assert!(!found.is_valid(), "{found:#?}");
}
