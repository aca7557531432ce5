//! Flips and cuts, bit by bit, in archives and in data directories: each is found, and changes nothing.
//!
//! The exhaustive tests run in this process on the small member; a sample goes through the binary.

use std::os::unix::fs::FileExt as _;
use std::thread;

use etcd_ark::archive::format::TailFault;
use etcd_ark::archive::manifest::{ManifestFault, Scope};
use etcd_ark::archive::verify::verify;
use etcd_ark::archive::warning::{Warning, WarningCode};
use etcd_ark::archive::{Archive, ArchiveError, ArchiveFault, Digests, EXTENSION, Role};
use etcd_ark::data_dir::DataDir;
use etcd_ark::data_dir::scan::{Survey, survey};
use etcd_ark::etcd::member::StartFault;
use etcd_ark::etcd::scan::{FileFault, Pass};
use etcd_ark::etcd::wal::error::LogFault;
use etcd_ark::etcd::wal::segment::{Break, SegmentFault};
use etcd_ark::interrupt::Interrupt;
use etcd_ark::restore::{RestoreError, restore};
use etcd_ark::snapshot::error::CaptureError;
use etcd_ark::snapshot::{Captured, capture};
use etcd_ark::{restore, snapshot as capture};
use jiff::Timestamp;

use crate::support::encode::{ENTRY, Frame, HARD_STATE, LENGTH_WORD, SegmentBuilder, SegmentFacts};
use crate::support::prelude::*;

/// A file in which one bit after the other is turned and turned back.
struct Victim {
    file: fs::File,
    bytes: Vec<u8>,
}

impl Victim {
    fn open(path: &Path) -> Self {
        let mut options = fs::OpenOptions::new();
        Self {
            file: options.read(true).write(true).open(path).unwrap(),
            bytes: fs::read(path).unwrap(),
        }
    }

    fn bits(&self) -> usize {
        self.bytes.len() * 8
    }

    /// Runs `check` while the bit is the other way round.
    fn with_flipped<R>(&self, bit: usize, check: impl FnOnce() -> R) -> R {
        let (byte, mask) = (self.bytes[bit / 8], 1 << (bit % 8));
        self.put(bit / 8, byte ^ mask);
        let outcome = check();
        self.put(bit / 8, byte);
        outcome
    }

    fn put(&self, at: usize, byte: u8) {
        self.file.file().write_all_at(&[byte], at as u64).unwrap();
    }
}

/// Runs `work` on every core with its number and how many there are.
fn on_every_core(work: impl Fn(usize, usize) + Sync) {
    on_threads(thread::available_parallelism().unwrap().get(), work);
}

fn on_threads(cores: usize, work: impl Fn(usize, usize) + Sync) {
    thread::scope(|scope| {
        for core in 0..cores {
            let work = &work;
            scope.spawn(move || work(core, cores));
        }
    });
}

/// An archive of the small member, alone in a directory, and a target with something in it.
struct ArchiveBench {
    scratch: TempDir,
    archive: PathBuf,
    target: PathBuf,
}

impl ArchiveBench {
    fn new() -> Self {
        let (scratch, data, _, _) = small_scene();
        let (archive, _) = snapshot(&data, scratch.path(), &[]);
        let target = scratch.path().join("target");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("bystander"), "here first").unwrap();
        Self {
            scratch,
            archive,
            target,
        }
    }

    /// Fails unless both `verify` and `restore` refuse the archive as corrupt, and the restore leaves nothing.
    fn assert_found(&self, what: &str) {
        let archive = match Archive::open(&self.archive) {
            Ok(archive) => archive,
            Err(error) => return assert_corrupt(&error, what),
        };
        let no_interrupt = Interrupt::default();
        match verify(
            &archive,
            Pass::WHOLE,
            Digests::All,
            1,
            &no_interrupt,
            &mut |_| {},
        ) {
            Ok(report) => assert!(!report.is_valid(), "{what}: verify says it is sound"),
            Err(error) => assert_corrupt(&error, what),
        }
        let request = restore::RestoreRequest {
            archive: &archive,
            data_dir: &self.target,
            wal_dir: None,
            replace: false,
            owner: None,
            dry_run: false,
            damaged: false,
            threads: 1,
            now: Timestamp::UNIX_EPOCH,
        };
        match restore(&request, &no_interrupt, &mut |_| {}) {
            Err(RestoreError::Unsound { .. }) => {}
            Err(RestoreError::Archive(error)) => assert_corrupt(&error, what),
            outcome => panic!("{what}: {outcome:?}"),
        }
        self.assert_target_untouched(what);
    }

    fn assert_target_untouched(&self, what: &str) {
        assert_eq!(names(&self.target), ["bystander"], "{what}");
        assert_eq!(names(self.scratch.path()).len(), 4, "{what}");
    }
}

/// Of the faults only a later version is not corruption: its digests are valid.
fn assert_corrupt(error: &ArchiveError, what: &str) {
    let ArchiveError::Fault { fault, .. } = error else {
        panic!("{what}: {error}");
    };
    let later = matches!(
        fault,
        ArchiveFault::Tail(TailFault::LaterSeal(_))
            | ArchiveFault::Manifest(ManifestFault::LaterFormat { .. })
    );
    assert!(!later, "{what}: {error}");
}

/// A core's share of the bits of `victim`: every fifth, so that each byte and each place in a byte gets its turn, or all where
/// the environment asks for it.
fn bits(victim: &Victim, core: usize, cores: usize) -> impl Iterator<Item = usize> {
    let step = if is_thorough() { 1 } else { 5 };
    (core * step..victim.bits()).step_by(cores * step)
}

#[test]
fn a_flipped_bit_of_an_archive_is_found() {
    // Guards against a byte that no digest covers: some flips in zstd's own headers decode to the same content.
    let one = fs::read(ArchiveBench::new().archive).unwrap();
    on_every_core(|core, cores| {
        let bench = ArchiveBench::new();
        // All cores share the bits of the same archive; their own would differ in their time.
        fs::write(&bench.archive, &one).unwrap();
        let victim = Victim::open(&bench.archive);
        for bit in bits(&victim, core, cores) {
            victim.with_flipped(bit, || bench.assert_found(&format!("bit {bit}")));
        }
        // And with every bit back in its place it is the archive it was.
        let archive = Archive::open(&bench.archive).unwrap();
        assert!(
            verify(
                &archive,
                Pass::WHOLE,
                Digests::All,
                1,
                &Interrupt::default(),
                &mut |_| {}
            )
            .unwrap()
            .is_valid()
        );
    });
}

#[test]
fn an_archive_cut_at_any_length_is_refused() {
    // Guards against half an archive, as a full disk or a broken copy leaves it, restored as if it were whole.
    let bench = ArchiveBench::new();
    let whole = fs::read(&bench.archive).unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&bench.archive)
        .unwrap();
    for length in (0..whole.len()).rev() {
        file.set_len(length as u64).unwrap();
        bench.assert_found(&format!("cut at {length}"));
    }
}

#[test]
fn restore_of_a_flipped_archive_changes_nothing() {
    // Guards against a member that is half of one archive and half of nothing, through the binary as it is used.
    let bench = ArchiveBench::new();
    let victim = Victim::open(&bench.archive);
    let step = victim.bits() / 40;
    for bit in (3..victim.bits()).step_by(step) {
        victim.with_flipped(bit, || {
            let told = typed("verify {}", &[&bench.archive]).exits(4);
            assert!(!told.stdout.contains("verified"), "{told:#?}");
            let to = ["--data-dir".as_ref(), bench.target.as_os_str()];
            let from = [
                "restore".as_ref(),
                "--offline".as_ref(),
                bench.archive.as_os_str(),
            ];
            let told = ark(from.into_iter().chain(to))
                .exits(4)
                .says("error: ")
                .says("hint: ");
            assert!(told.stdout.is_empty(), "{told:#?}");
        });
        bench.assert_target_untouched(&format!("bit {bit}"));
    }
}

#[test]
fn replace_with_a_flipped_archive_keeps_the_member_that_is_there() {
    // Guards against the member in place going out before the new one is proven.
    let bench = ArchiveBench::new();
    let data = bench.scratch.path().join("source");
    let before = tree(&data.join("member"));
    let victim = Victim::open(&bench.archive);
    for bit in [0, victim.bits() / 3, victim.bits() / 2, victim.bits() - 1] {
        victim.with_flipped(bit, || {
            typed(
                "restore --offline {} --replace --data-dir {}",
                &[&bench.archive, &data],
            )
            .exits(4);
        });
        assert!(before == tree(&data.join("member")), "bit {bit}");
        assert_eq!(names(&data), ["member"], "bit {bit}");
    }
}

pub(crate) fn look(data: &Path) -> Survey {
    let dir = DataDir::open(data, None).unwrap();
    survey(&dir, Pass::WHOLE, &Interrupt::default(), &mut |_| {}).unwrap()
}

pub(crate) fn take(data: &Path, backups: &Path) -> Result<Captured, CaptureError> {
    let data_dir = DataDir::open(data, None).unwrap();
    let request = capture::SnapshotRequest {
        data_dir: &data_dir,
        to: etcd_ark::snapshot::destination::Destination::BackupDir(backups),
        scope: Scope::Live,
        labels: Vec::new(),
        level: 1,
        threads: 1,
        size_limit: 100_000_000,
        created: etcd_ark::snapshot::CreatedAt::At(Timestamp::UNIX_EPOCH),
        lock: None,
    };
    capture(&request, &Interrupt::default(), &mut |_| {})
}

/// The fault found in the segment `name`, if any.
fn fault_in<'s>(found: &'s Survey, name: &str) -> Option<&'s FileFault> {
    let report = found.files.iter().find(|file| file.path.ends_with(name));
    report.unwrap().fault.as_ref()
}

/// The frame that holds the byte at `offset`.
fn frame_at(frames: &[Frame], offset: usize) -> usize {
    frames
        .iter()
        .position(|frame| offset < frame.end())
        .unwrap()
}

/// The one exception: an entry of term 1 that comes before any hard state, its type turned from 2 to 3, is a proper hard
/// state until the entry behind it is missed, and is found there.
fn reads_as_first_hard_state(segment: &SegmentFacts, number: usize, bit: usize) -> bool {
    let frame = segment.frames[number];
    let type_low_bit = (frame.offset + LENGTH_WORD + 1) * 8;
    let is_first_segment = segment.name.starts_with("0000000000000000-");
    let no_hard_state_before = segment.frames[..number]
        .iter()
        .all(|frame| frame.kind != HARD_STATE);
    is_first_segment && frame.kind == ENTRY && no_hard_state_before && bit == type_low_bit
}

#[test]
fn a_flipped_bit_of_a_log_is_found_where_it_is() {
    // Guards against records dropped or changed without a word. The crc covers neither length word nor type.
    on_every_core(|core, cores| {
        let (_dir, data, _, small) = small_scene();
        for segment in &small.segments {
            let victim = Victim::open(&segment.path);
            for bit in bits(&victim, core, cores) {
                let number = frame_at(&segment.frames, bit / 8);
                let frame = segment.frames[number];
                let what = format!(
                    "{} frame {number} byte {} bit {}",
                    segment.name,
                    bit / 8 - frame.offset,
                    bit % 8
                );
                let found = victim.with_flipped(bit, || look(&data));
                assert!(!found.is_valid(), "{what}: nothing found");
                assert_eq!(found.torn_tail, None, "{what}");
                if reads_as_first_hard_state(segment, number, bit)
                    && matches!(found.facts, Err(StartFault::Hole { .. }))
                {
                    // The log now begins at entry 2, as one that `etcdctl backup` made might;
                    // but no raft snapshot stands for entry 1.
                    continue;
                }
                let Some(FileFault::Segment(Break { offset, fault })) =
                    fault_in(&found, &segment.name)
                else {
                    panic!("{what}: {found:#?}");
                };
                if reads_as_first_hard_state(segment, number, bit) {
                    assert!(
                        matches!(fault, SegmentFault::Log(LogFault::Hole { .. })),
                        "{what}: {fault}"
                    );
                    assert!(*offset >= frame.end() as u64, "{what}: at {offset}");
                } else {
                    assert_eq!(*offset, frame.offset as u64, "{what}: {fault}");
                }
            }
        }
    });
}

#[test]
fn a_flipped_bit_of_a_raft_snapshot_is_found() {
    // Guards against a store that comes back with another value in it, or a name that does not fit its content.
    on_every_core(|core, cores| {
        let (_dir, data, _, small) = small_scene();
        let victim = Victim::open(&small.snap_path);
        for bit in bits(&victim, core, cores) {
            let found = victim.with_flipped(bit, || look(&data));
            assert!(!found.is_valid(), "bit {bit}: nothing found");
            let fault = fault_in(&found, ".snap");
            assert!(
                matches!(fault, Some(FileFault::Snapshot(_))),
                "bit {bit}: {fault:?}"
            );
            let wal = found
                .files
                .iter()
                .filter(|file| file.path.starts_with("member/wal"));
            assert!(
                wal.into_iter().all(|file| file.fault.is_none()),
                "bit {bit}"
            );
        }
        assert!(look(&data).is_valid());
    });
}

/// How many threads wait at once for captures that look several times before they refuse.
const WAITERS: usize = 16;

#[test]
fn a_flipped_log_is_not_archived() {
    // Guards against a backup, taken night after night, of a log that etcd cannot read.
    on_threads(WAITERS, |core, cores| {
        let (_dir, data, backups, small) = small_scene();
        for segment in &small.segments {
            let victim = Victim::open(&segment.path);
            // A prime, so that every place within a frame gets its turn.
            for bit in (core * 101..victim.bits()).step_by(cores * 101) {
                let frame = segment.frames[frame_at(&segment.frames, bit / 8)];
                let what = format!("{} at {} bit {}", segment.name, frame.offset, bit % 8);
                let refusal = victim
                    .with_flipped(bit, || take(&data, &backups))
                    .unwrap_err();
                let CaptureError::Source { path, .. } = &refusal else {
                    panic!("{what}: {refusal:?}");
                };
                assert_eq!(path, &fs::canonicalize(&segment.path).unwrap(), "{what}");
                assert_eq!(names(&backups), [""; 0], "{what}");
            }
        }
    });
}

#[test]
fn snapshot_of_a_flipped_log_exits_4_and_says_where() {
    // Guards against a script that takes the refusal for success, and an operator who cannot find the place.
    let (_dir, data, backups, small) = small_scene();
    for segment in &small.segments {
        let victim = Victim::open(&segment.path);
        let frame = segment.frames[segment.frames.len() / 2];
        victim.with_flipped((frame.end() - 1) * 8, || {
            let place = format!("{}` is corrupt: CRC mismatch", segment.name);
            typed("snapshot --data-dir {} --backup-dir {}", &[&data, &backups])
                .exits(4)
                .says(&place)
                .says(&format!("at offset {}", frame.offset))
                .says("hint: ");
            let told = typed("verify {}", &[&data]).exits(4);
            assert_has(&told.stdout, &format!("at offset {}", frame.offset));
            assert_ends(&told.stderr, "BACKUP_DIR` saves a data dir as it is\n");
        });
        assert_eq!(names(&backups), [""; 0]);
    }
}

#[test]
fn a_flipped_raft_snapshot_is_never_archived_as_the_live_one() {
    // Guards against an archive from which etcd would start with less than it says.
    let recording = unpack("mem-a");
    on_threads(WAITERS, |core, cores| {
        let scratch = TempDir::new().unwrap();
        let data = scratch.path().join("data");
        copy_dir(&recording.data_dir("mem-a"), &data);
        let snaps = decode::snaps(&data.join("member/snap"));
        let [.., older, newest] = &snaps[..] else {
            panic!("{snaps:?}");
        };
        let backups = scratch.path().join("backups");
        let victim = Victim::open(newest);
        // 48 places, all over the file.
        let step = victim.bits() / 48 + 1;
        for bit in (core * step..victim.bits()).step_by(cores * step) {
            let taken = victim.with_flipped(bit, || take(&data, &backups)).unwrap();
            let live = taken
                .manifest
                .files
                .iter()
                .find(|file| file.role == Role::RaftSnapshot);
            let older = older.file_name().unwrap().to_str().unwrap();
            assert!(live.unwrap().path.ends_with(older), "bit {bit}: {live:?}");
            assert!(
                taken
                    .manifest
                    .files
                    .iter()
                    .all(|file| !newest.ends_with(&file.path)),
                "bit {bit}"
            );
            let warned = |one: &Warning| one.code == WarningCode::PassedOver;
            assert!(taken.manifest.warnings.iter().any(warned), "bit {bit}");
            let archives = names(&backups);
            assert!(
                archives.iter().any(|name| name.ends_with(EXTENSION)),
                "{archives:?}"
            );
            fs::remove_dir_all(&backups).unwrap();
        }
    });
}

#[test]
fn a_broken_length_word_in_a_large_log_is_no_torn_tail() {
    // Guards against the worst silent loss: most flips in a length word look exactly like a torn tail, and everything
    // behind it would be dropped.
    let recording = unpack("ops-2.1");
    let data = recording.data_dir("ops-2.1");
    let segment = decode::segments(&data.join("member/wal")).remove(0);
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    let frames = decode::frames(&fs::read(&segment).unwrap());
    let middle = &frames[frames.len() / 4..frames.len() * 3 / 4];
    let bits = middle.len() * LENGTH_WORD * 8;
    let victim = Victim::open(&segment);
    let step = bits / 500;
    let mut tried = 0;
    for place in (0..bits).step_by(step) {
        let frame = &middle[place / (LENGTH_WORD * 8)];
        let bit = frame.offset * 8 + place % (LENGTH_WORD * 8);
        let found = victim.with_flipped(bit, || look(&data));
        let what = format!("length word at {} bit {}", frame.offset, place % 64);
        assert_eq!(found.torn_tail, None, "{what}");
        let Some(FileFault::Segment(Break { offset, .. })) = fault_in(&found, &name) else {
            panic!("{what}: nothing found");
        };
        assert_eq!(*offset, frame.offset as u64, "{what}");
        tried += 1;
    }
    assert!(tried >= 500, "{tried}");
    assert!(look(&data).is_valid());
}

#[test]
fn a_broken_length_word_that_its_record_bears_out_is_no_torn_tail() {
    // Guards against the same loss where the record's own length was changed along with the word, so that the frame is the
    // proper beginning of a longer one than the file holds: only the whole records behind it tell.
    let scratch = TempDir::new().unwrap();
    let wal = scratch.path().join("member/wal");
    fs::create_dir_all(&wal).unwrap();
    let mut segment = SegmentBuilder::new(0, false);
    segment.crc().metadata(0xa, 0xb).marker(0, 0);
    for index in 1..=5 {
        segment
            .entry(0, 1, index, Some(&[b'v'; 300]))
            .hard_state(1, 0, index);
    }
    let whole = segment.bytes();
    let path = wal.join("0000000000000000-0000000000000000.wal");
    let entries = segment.frames.iter().filter(|frame| frame.kind == ENTRY);
    for frame in entries {
        let record = &whole[frame.offset + LENGTH_WORD..frame.end()];
        let head = record.len() - decode::bytes(record, 3).len();
        // The upper byte of the data length, which counts 128s.
        let upper = frame.offset + LENGTH_WORD + head - 1;
        let raised = u64::from(0x7f - whole[upper]) * 128;
        let mut bytes = whole.to_vec();
        bytes[upper] = 0x7f;
        let length = (frame.len - LENGTH_WORD) as u64 + raised;
        bytes[frame.offset..frame.offset + LENGTH_WORD].copy_from_slice(&length.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        let found = look(scratch.path());
        assert_eq!(found.torn_tail, None, "entry at {}", frame.offset);
        let expected = Break {
            offset: frame.offset as u64,
            fault: SegmentFault::RecordsBehind {
                next: frame.end() as u64,
            },
        };
        assert_eq!(
            fault_in(&found, ".wal"),
            Some(&FileFault::Segment(expected))
        );
        // With nothing behind it, it is one.
        fs::write(&path, &bytes[..frame.end()]).unwrap();
        let found = look(scratch.path());
        assert_eq!(fault_in(&found, ".wal"), None, "entry at {}", frame.offset);
        assert_eq!(found.torn_tail.unwrap().1, frame.offset as u64);
    }
}
