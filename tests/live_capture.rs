//! Captures of a member at full load, and of one that was killed.
//!
//! In: `support::live_writer`, several seeds. Out: every archive verified, and compared byte by byte with what the
//! member wrote. `ETCD_ARK_HOT_CAPTURES` is the number of captures for all seeds together, 300 by default.

use std::io::Read as _;

use etcd_ark::archive::manifest::{Role, Scope};
use etcd_ark::archive::verify::verify;
use etcd_ark::archive::warning::{Warning, WarningCode};
use etcd_ark::archive::{Archive, Digests};
use etcd_ark::data_dir::DataDir;
use etcd_ark::etcd::scan::Pass;
use etcd_ark::interrupt::Interrupt;
use etcd_ark::progress::Event;
use etcd_ark::snapshot::destination::Destination;
use etcd_ark::snapshot::{Captured, CreatedAt, SnapshotRequest, capture};

use crate::support::live_writer::{LiveWriter, Options, SyncedPoint, Written};
use crate::support::prelude::*;

/// Captures of an ordinary test run, over all seeds.
const CAPTURES: usize = 120;
/// Members that run, each with a seed of its own.
const MEMBERS: usize = 4;
/// Bytes after which a member that has filled its share is replaced by a fresh one: its record of them takes the same again.
const MAX_BYTES: u64 = 256 << 20;

fn captures_wanted() -> usize {
    std::env::var("ETCD_ARK_HOT_CAPTURES").map_or(CAPTURES, |text| {
        text.parse()
            .expect("ETCD_ARK_HOT_CAPTURES is a number of captures")
    })
}

/// What happened in some captures.
#[derive(Debug, Default)]
struct Tally {
    captures: usize,
    bytes: u64,
    retries: BTreeMap<String, usize>,
    /// Captures in which at least one retry took place.
    retried: usize,
    torn_tails_cut: usize,
    overtaken_by_purge: usize,
}

fn request<'r>(data_dir: &'r DataDir, backup_dir: &'r Path, scope: Scope) -> SnapshotRequest<'r> {
    SnapshotRequest {
        data_dir,
        to: Destination::BackupDir(backup_dir),
        scope,
        labels: Vec::new(),
        level: 1,
        threads: 1,
        size_limit: 100_000_000,
        created: CreatedAt::Beginning(etcd_ark::clock::now),
        lock: None,
    }
}

/// Captures once, proves the archive, and holds each file of it against what the member wrote.
fn capture_and_judge(
    data_dir: &DataDir,
    backup_dir: &Path,
    scope: Scope,
    written: &Written,
    tally: &mut Tally,
) -> Captured {
    let before = written.synced();
    let mut reasons = Vec::new();
    let captured = capture(
        &request(data_dir, backup_dir, scope),
        &Interrupt::default(),
        &mut |event| {
            if let Event::Again { reason, .. } = event {
                reasons.push(reason);
            }
        },
    )
    .unwrap_or_else(|error| panic!("{error:?} after {reasons:#?}"));
    tally.captures += 1;
    tally.bytes += captured.bytes;
    tally.retried += usize::from(!reasons.is_empty());
    for reason in reasons {
        *tally.retries.entry(kind_of(&reason)).or_default() += 1;
    }
    let cut = |warning: &Warning| warning.code == WarningCode::TornTail;
    tally.torn_tails_cut += usize::from(captured.manifest.warnings.iter().any(cut));
    let archive = Archive::open(&captured.path).unwrap();
    let report = verify(
        &archive,
        Pass::WHOLE,
        Digests::All,
        1,
        &Interrupt::default(),
        &mut |_| {},
    )
    .unwrap();
    assert!(report.is_valid(), "{report:?}");
    let files = unpacked(&captured.path);
    hold_against(&captured, &files, written);
    tally.overtaken_by_purge += usize::from(!covers(&captured, &files, before));
    captured
}

/// A reason without what differs each time: digits, and of quoted paths all but the extension.
fn kind_of(reason: &str) -> String {
    let parts = reason.split('`').enumerate().map(|(number, part)| {
        let is_path = number % 2 == 1;
        match Path::new(part).extension() {
            Some(extension) if is_path => format!("*.{}", extension.display()),
            _ => part.replace(|c: char| c.is_ascii_digit(), ""),
        }
    });
    parts.collect()
}

/// An archive's files by path, unpacked with nothing of the crate under test.
fn unpacked(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let plain = zstd::stream::read::Decoder::new(fs::File::open(archive).unwrap()).unwrap();
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(plain).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if !path.ends_with('/') {
            files.insert(path, bytes);
        }
    }
    files
}

/// Every segment is a beginning of what was written to it, and every raft snapshot one that was written.
fn hold_against(captured: &Captured, files: &BTreeMap<String, Vec<u8>>, written: &Written) {
    let manifest = &captured.manifest;
    assert_eq!(files.len(), manifest.files.len() + 2, "{:?}", files.keys());
    for entry in &manifest.files {
        let name = entry.path.rsplit('/').next().unwrap();
        // So is called what etcd would load and does not.
        let name = name.strip_suffix(".leftover").unwrap_or(name);
        let bytes = &files[&entry.path];
        match entry.role {
            Role::RaftSnapshot | Role::OlderRaftSnapshot => {
                assert!(
                    written.snapshot_matches(name, bytes),
                    "{name} is not as written"
                );
            }
            // `--all` keeps what is still being written as far as it is.
            Role::Wal | Role::OlderWal | Role::Leftover | Role::Damaged => {
                assert!(
                    written.is_prefix_of_written(name, bytes),
                    "{name} is not as written"
                );
            }
            Role::V3Backend => panic!("there is no v3 backend"),
        }
    }
    if let Some(id) = manifest.member.raft_snapshot {
        assert!(id.index <= manifest.member.position.commit);
    }
}

/// Asserts that nothing that was safe when the capture began is missing from it. False if the segment that was the last one
/// then has been purged since, so that only the commit can tell.
fn covers(captured: &Captured, files: &BTreeMap<String, Vec<u8>>, before: SyncedPoint) -> bool {
    let position = &captured.manifest.member.position;
    assert!(
        position.commit.0 >= before.commit,
        "commit {} in the archive, and {before:?} was synced before it",
        position.commit.0
    );
    let sequence = format!("member/wal/{:016x}-", before.segment_seq);
    let segment = files.iter().find(|(path, _)| path.starts_with(&sequence));
    let Some((path, bytes)) = segment else {
        // Only a later raft snapshot can have made it unnecessary.
        let snapshot = captured.manifest.member.raft_snapshot.unwrap();
        assert!(snapshot.index.0 >= before.commit, "{before:?} is missing");
        return false;
    };
    assert!(
        bytes.len() as u64 >= before.offset,
        "{path} has {} bytes in the archive, and {before:?} was synced before it",
        bytes.len()
    );
    true
}

fn run_beside(seed: u64, scope: Scope, wanted: usize, tally: &mut Tally) {
    let mut left = wanted;
    while left > 0 {
        let dir = fast_dir("ark-hot-");
        let source = dir.path().join("infra0.etcd");
        let options = Options {
            seed: seed + left as u64,
            max_bytes: MAX_BYTES,
            max_seconds: 600,
            ..Options::default()
        };
        let writer = LiveWriter::start(&source, options);
        let data_dir = DataDir::open(&source, None).unwrap();
        let backups = dir.path().join("backups");
        while left > 0 && writer.is_running() {
            let captured = capture_and_judge(&data_dir, &backups, scope, &writer, tally);
            fs::remove_dir_all(&backups).unwrap();
            assert!(captured.bytes > 0);
            left -= 1;
        }
        let written = writer.stop();
        assert_eq!(written.tampered_with(), Vec::<String>::new());
        assert!(written.total_bytes() > 0);
    }
}

/// Guards against what a copy of a live directory does: half a raft snapshot, a hole where a segment was purged, a marker
/// that is not found, an entry that was acknowledged and is missing.
fn captures_lose_nothing(seed: u64, scope: Scope) {
    let begun = Instant::now();
    let mut tally = Tally::default();
    let wanted = captures_wanted().div_ceil(MEMBERS);
    run_beside(seed, scope, wanted, &mut tally);
    println!("{tally:#?} in {:.1?}", begun.elapsed());
    assert!(tally.captures >= wanted);
    // Else the load was none: one capture in a few meets a write that is under way.
    assert!(tally.torn_tails_cut > 0, "{tally:?}");
}

#[test]
fn captures_beside_a_member_at_full_load_lose_nothing_seed_1() {
    captures_lose_nothing(1, Scope::Live);
}

#[test]
fn captures_beside_a_member_at_full_load_lose_nothing_seed_7() {
    captures_lose_nothing(7, Scope::Live);
}

#[test]
fn captures_beside_a_member_at_full_load_lose_nothing_seed_42() {
    captures_lose_nothing(42, Scope::Live);
}

#[test]
fn captures_of_every_file_beside_a_member_at_full_load_lose_nothing() {
    captures_lose_nothing(1000, Scope::All);
}

#[test]
fn a_killed_members_directory_is_captured_without_its_torn_tail() {
    // Guards against a torn tail taken for corruption after a crash, just when a backup of what is left is wanted most.
    let mut tally = Tally::default();
    // A busy machine writes little before the kill: then it takes more of them.
    for seed in 0..48 {
        if seed >= 12 && tally.torn_tails_cut > 12 {
            break;
        }
        let dir = fast_dir("ark-crash-");
        let source = dir.path().join("infra0.etcd");
        let options = Options {
            seed,
            die_at_stop: true,
            ..Options::default()
        };
        let writer = LiveWriter::start(&source, options);
        std::thread::sleep(Duration::from_millis(100 + 20 * seed));
        let written = writer.stop();
        let before = tree(&source);
        let data_dir = DataDir::open(&source, None).unwrap();
        for scope in [Scope::Live, Scope::All] {
            let backups = dir.path().join("backups");
            capture_and_judge(&data_dir, &backups, scope, &written, &mut tally);
            fs::remove_dir_all(&backups).unwrap();
        }
        assert_eq!(tree(&source), before, "the capture touched the source");
        assert_eq!(written.tampered_with(), Vec::<String>::new());
    }
    println!("{tally:#?}");
    assert!(tally.torn_tails_cut > 12, "{tally:?}");
    assert_eq!(tally.overtaken_by_purge, 0, "nothing was purged meanwhile");
}

#[test]
fn captures_beside_a_resting_member_touch_no_name_time_or_lock() {
    // Guards against a reader that takes a lock, touches a time or leaves a file: the member would stall or exit at its next cut.
    let dir = fast_dir("ark-rest-");
    let source = dir.path().join("infra0.etcd");
    let options = Options {
        // It rests after its first batch: whatever changes now, we changed.
        batch_pause: Duration::from_secs(600),
        purge_interval: Duration::from_secs(600),
        ..Options::default()
    };
    let writer = LiveWriter::start(&source, options);
    std::thread::sleep(Duration::from_millis(200));
    let (before, locks) = (tree(&source), locks_below(&source));
    assert!(!locks.is_empty(), "the member holds its segments");
    for number in 0..5 {
        archived(&source, &dir.path().join(format!("backups-{number}")));
    }
    assert_eq!(tree(&source), before);
    assert_eq!(locks_below(&source), locks);
    assert_eq!(writer.stop().tampered_with(), Vec::<String>::new());
}

/// The lines of `/proc/locks` about files below `dir`, without their running numbers.
fn locks_below(dir: &Path) -> Vec<String> {
    let inodes: Vec<String> = tree(dir)
        .into_values()
        .map(|stat| format!(":{} ", stat.inode))
        .collect();
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let about = |line: &&str| inodes.iter().any(|inode| line.contains(inode));
    let lines = locks.lines().filter(about);
    lines
        .filter_map(|line| line.split_once(": "))
        .map(|(_, lock)| lock.to_owned())
        .collect()
}
