//! The write-ahead log as etcd 2.x writes it: through a small buffer, and cut into segments.
//!
//! In: batches of frames. Out: `write` calls that end anywhere, fdatasyncs after which [`SyncedPoint`] moves, new
//! segments that appear under their final name once their header is synced.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::{FlockOperation, flock};

use super::super::encode::{CLUSTER_ID, LENGTH_WORD, MEMBER_ID, SegmentBuilder, segment_name};
use super::workload::Rng;
use super::{HeldSegment, Seal, Shared, SyncedPoint};

/// Bytes that etcd 2.x gathers before it writes (`bufio.NewWriter`).
const BUFFER: usize = 4096;

/// What a hard state says: term, vote, commit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct HardState {
    pub(super) term: u64,
    pub(super) vote: u64,
    pub(super) commit: u64,
}

/// The end of the log.
#[derive(Debug)]
pub(super) struct Log {
    shared: Arc<Shared>,
    rng: Rng,
    file: fs::File,
    name: String,
    seq: u64,
    /// The running crc of all records so far.
    chain: u32,
    /// What has gone to the file of this segment, the buffer not counted.
    written: Seal,
    buffer: Vec<u8>,
}

impl Log {
    /// Begins an empty log with its first segment, which carries the marker (0,0).
    pub(super) fn create(shared: Arc<Shared>) -> Self {
        let mut head = SegmentBuilder::new(0, false);
        head.crc().metadata(MEMBER_ID, CLUSTER_ID).marker(0, 0);
        let name = segment_name(0, 0);
        let file = create_segment(&shared, &name, 0, &head);
        Self {
            rng: Rng::new(shared.options.seed.wrapping_add(1)),
            shared,
            file,
            name,
            seq: 0,
            chain: head.chain_crc(),
            written: Seal::of(head.bytes()),
            buffer: Vec::with_capacity(BUFFER),
        }
    }

    /// An empty batch, to be filled and given to [`Log::append`].
    pub(super) fn batch(&self) -> SegmentBuilder {
        SegmentBuilder::new(self.chain, false)
    }

    /// Puts a batch into the buffer; now and then a part of a frame is written and seen by readers on its own.
    pub(super) fn append(&mut self, batch: &SegmentBuilder) {
        for frame in &batch.frames {
            let bytes = &batch.bytes()[frame.offset..frame.end()];
            if self.rng.one_in(40) {
                self.push_in_two(bytes, LENGTH_WORD);
            } else if self.rng.one_in(20) {
                self.push_in_two(bytes, bytes.len());
            } else {
                self.push(bytes);
            }
        }
        self.chain = batch.chain_crc();
    }

    /// Writes up to a random byte among the first `within`, rests, and buffers the remainder.
    fn push_in_two(&mut self, bytes: &[u8], within: usize) {
        let (head, tail) = bytes.split_at(self.rng.inside(within));
        self.push(head);
        self.write_out();
        self.shared.pause(self.shared.options.torn_pause);
        self.push(tail);
    }

    fn push(&mut self, mut bytes: &[u8]) {
        while self.buffer.len() + bytes.len() > BUFFER {
            let (fits, rest) = bytes.split_at(BUFFER - self.buffer.len());
            self.buffer.extend_from_slice(fits);
            self.write_out();
            bytes = rest;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Empties the buffer into the file, one time in four in two pieces.
    fn write_out(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.len() > 1 && self.rng.one_in(4) {
            let (head, tail) = buffer.split_at(self.rng.inside(buffer.len()));
            self.write(head);
            thread::yield_now();
            self.write(tail);
        } else {
            self.write(&buffer);
        }
        self.buffer = buffer;
        self.buffer.clear();
    }

    fn write(&mut self, bytes: &[u8]) {
        self.file.write_all(bytes).unwrap();
        self.written.add(bytes);
        self.shared.count(bytes);
    }

    /// Writes what is buffered and waits until it is on disk.
    pub(super) fn sync(&mut self, last_index: u64, commit: u64) {
        self.write_out();
        self.file.sync_data().unwrap();
        *self.shared.synced.lock().unwrap() = SyncedPoint {
            segment_seq: self.seq,
            offset: self.written.len,
            last_index,
            commit,
        };
    }

    /// Whether it is time to cut; to be asked after a sync.
    pub(super) fn is_full(&self) -> bool {
        self.written.len >= self.shared.options.segment_bytes
    }

    /// Ends the segment and begins the next, which is named for the entry after `last_index`.
    pub(super) fn cut(&mut self, last_index: u64, state: HardState) {
        self.sync(last_index, state.commit);
        self.seal();
        let mut head = self.batch();
        head.crc()
            .metadata(MEMBER_ID, CLUSTER_ID)
            .hard_state(state.term, state.vote, state.commit);
        self.seq += 1;
        self.name = segment_name(self.seq, last_index + 1);
        self.file = create_segment(&self.shared, &self.name, last_index + 1, &head);
        self.chain = head.chain_crc();
        self.written = Seal::of(head.bytes());
        self.sync(last_index, state.commit);
    }

    /// Notes what the segment holds, now that nothing more will come.
    pub(super) fn seal(&self) {
        self.shared.seal(&self.name, self.written);
    }

    /// Leaves the log as a kill does: of the batch's bytes only some are in the file.
    pub(super) fn tear(&mut self, batch: &SegmentBuilder) {
        let torn = self.rng.inside(batch.bytes().len());
        self.write(&batch.bytes()[..torn]);
    }
}

/// Writes the head of a segment to a temporary name, locked and mirrored, syncs it and gives it its final name.
fn create_segment(
    shared: &Shared,
    name: &str,
    first_index: u64,
    head: &SegmentBuilder,
) -> fs::File {
    let temporary = shared.wal.join(format!("{name}.tmp"));
    // The mirror's name comes first: a run that finds the file in the directory finds it locked, and can compare it with the mirror.
    let mirrored = shared.mirrored(name);
    let mut file = open_new(&mirrored, 0o600);
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .expect("no one else can lock a new file");
    fs::hard_link(&mirrored, &temporary).unwrap();
    file.write_all(head.bytes()).unwrap();
    shared.count(head.bytes());
    file.sync_data().unwrap();
    fs::rename(&temporary, shared.wal.join(name)).unwrap();
    // A duplicate belongs to the same open file description: the lock lasts until it is given up there.
    let duplicate = file.try_clone().unwrap();
    shared.held.lock().unwrap().push(HeldSegment {
        first_index,
        file: duplicate,
    });
    file
}

/// Creates a file for appending that does not exist yet.
pub(super) fn open_new(path: &Path, mode: u32) -> fs::File {
    let mut options = fs::OpenOptions::new();
    options
        .append(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .unwrap()
}
