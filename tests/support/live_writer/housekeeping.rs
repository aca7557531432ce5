//! A member's work besides its log: it writes raft snapshots in place, and purges old files.
//!
//! In: snapshots with a synced marker, and the passing of time. Out: `.snap` files that are incomplete for a while;
//! directories from which the oldest files vanish.

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use fs_err as fs;
use rustix::fs::{FlockOperation, flock};

use super::super::encode::write_file;
use super::log::open_new;
use super::workload::Rng;
use super::{Seal, Shared};

/// A raft snapshot to be written; its marker is in the log already.
#[derive(Debug)]
pub(super) struct SnapshotJob {
    pub(super) name: String,
    pub(super) index: u64,
    pub(super) bytes: Vec<u8>,
}

/// Writes one snapshot after the other until the writer is gone.
pub(super) fn write_snapshots(shared: &Shared, queue: &Receiver<SnapshotJob>) {
    let mut rng = Rng::new(shared.options.seed.wrapping_add(2));
    for (number, job) in queue.iter().enumerate() {
        // The copy comes first: whatever a capture reads of the file can be compared with it.
        write_file(&shared.mirrored(&job.name), 0o600, &job.bytes);
        let rests = number % 4 == 0;
        if write_in_place(shared, &mut rng, &job, rests) {
            shared.seal(&job.name, Seal::of(&job.bytes));
            release_locks_to(shared, job.index);
        }
        shared.snapshotting.store(false, Ordering::Release);
    }
}

/// As `ioutil.WriteFile` does, only slower: at the final name, piece by piece. False if the member died over it.
fn write_in_place(shared: &Shared, rng: &mut Rng, job: &SnapshotJob, rests: bool) -> bool {
    let mut file = open_new(&shared.snap.join(&job.name), 0o644);
    let half = rng.inside(job.bytes.len());
    // It begins empty, as the file does between its creation and its first write.
    shared.pause(shared.options.piece_pause);
    let piece = half.div_ceil(rng.range(1, 5) as usize);
    for (part, rest_after) in [(&job.bytes[..half], rests), (&job.bytes[half..], false)] {
        for bytes in part.chunks(piece) {
            if shared.stopping() && shared.options.die_at_stop {
                return false;
            }
            file.write_all(bytes).unwrap();
            shared.pause(shared.options.piece_pause);
        }
        if rest_after {
            shared.pause(shared.options.half_written_pause);
        }
    }
    true
}

/// Gives up the segments before the one that the complete snapshot at `index` starts from, as etcd's `ReleaseLockTo`.
fn release_locks_to(shared: &Shared, index: u64) {
    let mut held = shared.held.lock().unwrap();
    let covering = held
        .iter()
        .rposition(|segment| segment.first_index <= index)
        .unwrap_or(0);
    for segment in held.drain(..covering) {
        flock(&segment.file, FlockOperation::Unlock).unwrap();
    }
}

/// Removes what is old, at intervals, until the member stops.
pub(super) fn purge_at_intervals(shared: &Shared) {
    while !shared.stopping() {
        shared.pause(shared.options.purge_interval);
        purge(shared, &shared.wal, ".wal");
        purge(shared, &shared.snap, ".snap");
    }
}

/// Removes all but the newest `keep` files, oldest first, and stops at the first that is locked, because it is needed.
fn purge(shared: &Shared, dir: &Path, suffix: &str) {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(suffix))
        .collect();
    names.sort();
    let surplus = names.len().saturating_sub(shared.options.keep);
    for name in &names[..surplus] {
        let path = dir.join(name);
        let file = fs::File::open(&path).unwrap();
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            break;
        }
        shared.purged.lock().unwrap().insert(name.clone());
        fs::remove_file(&path).unwrap();
    }
}
