//! An etcd 2.x member at full load: it writes a data directory from threads of the test process while captures run.
//!
//! In: a directory to make and [`Options`]. Out: torn tails, cut segments, half-written snapshots and purges, as etcd
//! makes them, and [`Written`], which knows every byte that was ever in a segment or a snapshot, also of those purged
//! since.
//!
//! ```text
//! writer       entries, hard state, fdatasync; cuts segments; writes a snapshot's marker   (log.rs, member.rs)
//! snapshotter  writes the .snap in place, slowly; then unlocks segments no longer needed     (housekeeping.rs)
//! purger       removes the oldest files that are not locked                                  (housekeeping.rs)
//! ```

mod housekeeping;
mod log;
mod member;
/// Pseudo-random choices and values, the same for the same seed.
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fs_err as fs;
use tempfile::TempDir;

use super::encode::make_dir;
use member::Member;

/// How the member behaves; the defaults are the full load.
#[derive(Clone, Debug)]
pub struct Options {
    /// Same seed, same requests; when snapshots are taken still depends on the clock.
    pub seed: u64,
    /// A segment is cut once it holds this many bytes (etcd: 64 MB).
    pub segment_bytes: u64,
    /// Committed entries from one raft snapshot to the next, at least: one still being written delays the next.
    pub snapshot_every: u64,
    /// Files of each kind that the purge leaves, at least 2.
    pub keep: usize,
    /// From one purge to the next (etcd: 30 s).
    pub purge_interval: Duration,
    /// Rest between two pieces of a `.snap`.
    pub piece_pause: Duration,
    /// Rest in the middle of every fourth `.snap`.
    pub half_written_pause: Duration,
    /// Rest when a write has just ended inside a length word.
    pub torn_pause: Duration,
    /// Rest after each batch: zero is full load.
    pub batch_pause: Duration,
    /// Stop as if killed: in the middle of a frame, and of a `.snap` if one is being written.
    pub die_at_stop: bool,
    /// The writer stops by itself after this time,
    pub max_seconds: u64,
    /// or after this many bytes of segments. As much disk is needed, beside the data directory.
    pub max_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            segment_bytes: 256 << 10,
            snapshot_every: 400,
            keep: 5,
            purge_interval: Duration::from_millis(50),
            piece_pause: Duration::from_millis(2),
            half_written_pause: Duration::from_millis(60),
            torn_pause: Duration::from_micros(200),
            batch_pause: Duration::ZERO,
            die_at_stop: false,
            max_seconds: 60,
            max_bytes: 1 << 30,
        }
    }
}

/// What the last completed fdatasync made safe: a capture that begins now must not lose it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SyncedPoint {
    /// Sequence number of the last segment.
    pub segment_seq: u64,
    /// Bytes of that segment that are synced; they end with a whole frame.
    pub offset: u64,
    /// Index of the last entry. It falls when a new leader overwrites more entries than it brings.
    pub last_index: u64,
    /// The last hard state's commit. It never falls.
    pub commit: u64,
}

#[derive(Debug)]
struct HeldSegment {
    first_index: u64,
    file: fs::File,
}

/// Length and CRC-32C of a finished file, as they were handed to `write`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Seal {
    len: u64,
    crc: u32,
}

/// What the three threads and the test share.
#[derive(Debug)]
struct Shared {
    wal: PathBuf,
    snap: PathBuf,
    /// Every segment by a second name (a hard link), and a copy of every snapshot made before its first piece is written.
    mirror: TempDir,
    options: Options,
    stop: AtomicBool,
    /// Set while a raft snapshot is under way: etcd, too, takes one at a time.
    snapshotting: AtomicBool,
    synced: Mutex<SyncedPoint>,
    held: Mutex<Vec<HeldSegment>>,
    sealed: Mutex<BTreeMap<String, Seal>>,
    purged: Mutex<BTreeSet<String>>,
    /// Of all segments together.
    total_bytes: AtomicU64,
}

impl Shared {
    fn new(dir: &Path, options: Options) -> Self {
        assert!(options.keep >= 2, "the newest .snap may be half-written");
        let (wal, snap) = (dir.join("member/wal"), dir.join("member/snap"));
        for path in [dir, &dir.join("member"), &wal, &snap] {
            make_dir(path);
        }
        // Beside the data directory: a hard link cannot leave the file system.
        let beside = dir.parent().expect("a data directory has a parent");
        Self {
            wal,
            snap,
            mirror: TempDir::with_prefix_in(".live-writer-mirror-", beside).unwrap(),
            options,
            stop: AtomicBool::new(false),
            snapshotting: AtomicBool::new(false),
            synced: Mutex::default(),
            held: Mutex::default(),
            sealed: Mutex::default(),
            purged: Mutex::default(),
            total_bytes: AtomicU64::default(),
        }
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sleeps, but not much longer than until the member must stop.
    fn pause(&self, length: Duration) {
        let end = Instant::now() + length;
        while !self.stopping() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(Duration::from_millis(20)));
        }
    }

    fn mirrored(&self, name: &str) -> PathBuf {
        self.mirror.path().join(name)
    }

    fn count(&self, bytes: &[u8]) {
        let more = bytes.len() as u64;
        self.total_bytes.fetch_add(more, Ordering::Relaxed);
    }

    fn seal(&self, name: &str, seal: Seal) {
        self.sealed.lock().unwrap().insert(name.to_owned(), seal);
    }
}

/// A running member. Dropping it stops it.
#[derive(Debug)]
pub struct LiveWriter {
    written: Written,
    threads: Vec<JoinHandle<()>>,
}

impl LiveWriter {
    /// Makes the data directory `dir`; when this returns, the cluster's first entries are synced and the load has begun.
    pub fn start(dir: &Path, options: Options) -> Self {
        let shared = Arc::new(Shared::new(dir, options));
        // No job waits: `snapshotting` is set from the moment one is sent until it is done.
        let (jobs, queue) = mpsc::sync_channel(1);
        let member = Member::bootstrap(Arc::clone(&shared), jobs);
        let (for_snapshots, for_purge) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || member.run()),
            thread::spawn(move || housekeeping::write_snapshots(&for_snapshots, &queue)),
            thread::spawn(move || housekeeping::purge_at_intervals(&for_purge)),
        ];
        Self {
            written: Written { shared },
            threads,
        }
    }

    /// Whether the load goes on; not after `max_seconds` or `max_bytes`.
    pub fn is_running(&self) -> bool {
        self.threads
            .first()
            .is_some_and(|writer| !writer.is_finished())
    }

    /// Stops all threads, at a synced point unless `die_at_stop`, and panics if one of them did.
    pub fn stop(mut self) -> Written {
        for outcome in self.join() {
            if let Err(panic) = outcome {
                std::panic::resume_unwind(panic);
            }
        }
        Written {
            shared: Arc::clone(&self.written.shared),
        }
    }

    fn join(&mut self) -> Vec<thread::Result<()>> {
        self.written.shared.stop.store(true, Ordering::Relaxed);
        let outcomes = self.threads.drain(..).map(JoinHandle::join).collect();
        // The locks of a process go with it.
        let held = self.written.shared.held.lock();
        held.unwrap_or_else(PoisonError::into_inner).clear();
        outcomes
    }
}

impl Drop for LiveWriter {
    fn drop(&mut self) {
        // A test that failed must not leave the load running beside the next one; its own panic is the one to show.
        self.join();
    }
}

/// Everything that can be asked of [`Written`] can be asked while the member runs.
impl Deref for LiveWriter {
    type Target = Written;

    fn deref(&self) -> &Written {
        &self.written
    }
}

/// What the member has written so far. Its record of all bytes is removed when it is dropped.
#[derive(Debug)]
pub struct Written {
    shared: Arc<Shared>,
}

impl Written {
    /// What was safe at the last completed fdatasync.
    pub fn synced(&self) -> SyncedPoint {
        *self.shared.synced.lock().unwrap()
    }

    /// Whether `bytes` are the beginning, or all, of what has been written to this segment; it may have been purged since.
    pub fn is_prefix_of_written(&self, segment_name: &str, bytes: &[u8]) -> bool {
        let name = segment_name.trim_end_matches(".tmp");
        fs::read(self.shared.mirrored(name)).is_ok_and(|written| written.starts_with(bytes))
    }

    /// Whether `bytes` are the whole of this snapshot, as it was meant to be written.
    pub fn snapshot_matches(&self, snap_name: &str, bytes: &[u8]) -> bool {
        fs::read(self.shared.mirrored(snap_name)).is_ok_and(|written| written == bytes)
    }

    pub fn total_bytes(&self) -> u64 {
        self.shared.total_bytes.load(Ordering::Relaxed)
    }

    /// Names of files that someone else changed, removed or added in `member/wal` and `member/snap`. Ask when the member
    /// has stopped; a capture that only reads leaves this empty.
    pub fn tampered_with(&self) -> Vec<String> {
        let present = self.names_present();
        let sealed = self.shared.sealed.lock().unwrap();
        let purged = self.shared.purged.lock().unwrap();
        let removed = sealed
            .keys()
            .filter(|name| !present.contains_key(*name) && !purged.contains(*name));
        let changed = present.iter().filter(|(name, path)| {
            let bytes = fs::read(path).unwrap();
            match sealed.get(*name) {
                Some(seal) => Seal::of(&bytes) != *seal,
                // Unfinished at the stop, or not the member's own.
                None => !fs::read(self.shared.mirrored(name))
                    .is_ok_and(|meant| meant.starts_with(&bytes)),
            }
        });
        removed
            .chain(changed.map(|(name, _)| name))
            .cloned()
            .collect()
    }

    fn names_present(&self) -> BTreeMap<String, PathBuf> {
        [&self.shared.wal, &self.shared.snap]
            .into_iter()
            .flat_map(|dir| fs::read_dir(dir).unwrap())
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (
                    entry.file_name().to_string_lossy().into_owned(),
                    entry.path(),
                )
            })
            .collect()
    }
}

impl Seal {
    fn of(bytes: &[u8]) -> Self {
        let mut seal = Self::default();
        seal.add(bytes);
        seal
    }

    fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
    }
}
