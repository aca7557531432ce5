//! The raft side of the member: which entries, hard states and markers it writes, and when.
//!
//! In: pseudo-random choices. Out: batches for the log, in the order of etcd 2.1 and later, and jobs for the snapshotter.
//! At every synced point snapshot index <= commit <= last index, and nothing at or below commit is ever overwritten.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::super::encode::{
    MEMBER_ID, NORMAL, SegmentBuilder, StoreImage, bootstrap, members, raft_snapshot, request,
    snap_name, sync_request,
};
use super::Shared;
use super::housekeeping::SnapshotJob;
use super::log::{HardState, Log};
use super::workload::Rng;

/// Keys that clients put: few, so that the snapshots stay small while the log grows.
const KEYS: u64 = 48;
/// Events kept in a snapshot's watcher hub; etcd's 1000 would be most of it.
const EVENTS: usize = 8;
/// The moment of the first SYNC, nanoseconds since 1970, and from one to the next.
const FIRST_SYNC: i64 = 1_795_331_421_000_000_000;
const SYNC_INTERVAL: i64 = 500_000_000;

/// An entry that is in the log and not yet in the store.
#[derive(Debug)]
struct Pending {
    index: u64,
    term: u64,
    /// Path and value, if it is a PUT.
    put: Option<(String, String)>,
}

#[derive(Debug)]
pub(super) struct Member {
    shared: Arc<Shared>,
    jobs: SyncSender<SnapshotJob>,
    log: Log,
    rng: Rng,
    /// The state at `state.commit`, from which raft snapshots are taken.
    store: StoreImage,
    /// What the last hard state in the log says.
    state: HardState,
    last_index: u64,
    /// Term of the entry at `state.commit`.
    applied_term: u64,
    pending: VecDeque<Pending>,
    last_snapshot: u64,
    syncs: i64,
}

impl Member {
    /// Writes and syncs what every cluster's log begins with.
    pub(super) fn bootstrap(shared: Arc<Shared>, jobs: SyncSender<SnapshotJob>) -> Self {
        let mut member = Self {
            rng: Rng::new(shared.options.seed),
            log: Log::create(Arc::clone(&shared)),
            shared,
            jobs,
            store: StoreImage::new(EVENTS),
            state: HardState {
                term: 1,
                vote: 0,
                commit: 0,
            },
            last_index: 0,
            applied_term: 1,
            pending: VecDeque::new(),
            last_snapshot: 0,
            syncs: 0,
        };
        let mut batch = member.log.batch();
        for change in bootstrap(&members(), Some("2.1.0")) {
            let (kind, data) = change.entry();
            if kind == NORMAL && member.state.term == 1 {
                member.save_state(&mut batch, 1, 0, member.last_index);
                member.begin_term(&mut batch, MEMBER_ID);
            }
            member.last_index += 1;
            batch.entry(kind, member.state.term, member.last_index, Some(&data));
            change.apply(&mut member.store);
        }
        member.applied_term = member.state.term;
        // All of this is in the store already, the empty entry too, which does nothing to it.
        member.pending.clear();
        member.save_state(&mut batch, member.state.term, MEMBER_ID, member.last_index);
        member.write(&batch);
        member
    }

    /// Writes at full load until it must stop, or until the limits of the options.
    pub(super) fn run(mut self) {
        let deadline = Instant::now() + Duration::from_secs(self.shared.options.max_seconds);
        while !self.shared.stopping() && Instant::now() < deadline && self.below_max_bytes() {
            match self.rng.range(0, 100) {
                0..2 => self.election(),
                2..5 => self.overwrite_uncommitted(),
                _ => self.client_batch(),
            }
            if self.log.is_full() {
                self.log.cut(self.last_index, self.state);
            }
            self.take_snapshot_if_due();
            self.shared.pause(self.shared.options.batch_pause);
        }
        if self.shared.options.die_at_stop {
            let mut batch = self.log.batch();
            self.append_client_entry(&mut batch, self.state.term);
            self.log.tear(&batch);
        }
        self.log.seal();
    }

    fn below_max_bytes(&self) -> bool {
        let total = self.shared.total_bytes.load(Ordering::Relaxed);
        total < self.shared.options.max_bytes
    }

    /// Entries first, then the hard state, then the sync.
    fn client_batch(&mut self) {
        let mut batch = self.log.batch();
        for _ in 0..self.rng.range(1, 13) {
            self.append_client_entry(&mut batch, self.state.term);
        }
        self.commit_some(&mut batch);
        self.write(&batch);
    }

    /// A new term: its vote first, in a write of its own, then the new leader's empty entry.
    fn election(&mut self) {
        let mut batch = self.log.batch();
        let vote = self.choose_vote();
        self.save_state(&mut batch, self.state.term + 1, vote, self.state.commit);
        self.write(&batch);
        let mut batch = self.log.batch();
        self.append(&mut batch, self.state.term, None, None);
        self.commit_some(&mut batch);
        self.write(&batch);
    }

    /// A leader of a higher term replaces entries that were never committed; the log may become shorter.
    fn overwrite_uncommitted(&mut self) {
        if self.last_index == self.state.commit {
            return;
        }
        let first = self.rng.range(self.state.commit + 1, self.last_index + 1);
        self.pending.retain(|entry| entry.index < first);
        self.last_index = first - 1;
        let mut batch = self.log.batch();
        let vote = self.choose_vote();
        self.begin_term(&mut batch, vote);
        for _ in 0..self.rng.range(0, 4) {
            self.append_client_entry(&mut batch, self.state.term);
        }
        self.save_state(&mut batch, self.state.term, vote, self.state.commit);
        self.write(&batch);
    }

    /// The first entry of the next term, ahead of the hard state that says so: etcd writes entries first.
    fn begin_term(&mut self, batch: &mut SegmentBuilder, vote: u64) {
        self.state.term += 1;
        self.state.vote = vote;
        self.append(batch, self.state.term, None, None);
    }

    /// A follower may not have voted in the term that it is in.
    fn choose_vote(&mut self) -> u64 {
        let [first, second, third] = members().map(|(id, _, _)| id);
        self.rng.choose(&[first, second, third, 0])
    }

    fn append_client_entry(&mut self, batch: &mut SegmentBuilder, term: u64) {
        if self.rng.one_in(40) {
            let time = FIRST_SYNC + self.syncs * SYNC_INTERVAL;
            self.syncs += 1;
            self.append(batch, term, Some(&sync_request(time)), None);
        } else {
            let path = format!("/1/load/key-{:02}", self.rng.range(0, KEYS));
            let value = self.rng.value();
            let data = request("PUT", &path, &value);
            self.append(batch, term, Some(&data), Some((path, value)));
        }
    }

    fn append(
        &mut self,
        batch: &mut SegmentBuilder,
        term: u64,
        data: Option<&[u8]>,
        put: Option<(String, String)>,
    ) {
        self.last_index += 1;
        batch.entry(NORMAL, term, self.last_index, data);
        self.pending.push_back(Pending {
            index: self.last_index,
            term,
            put,
        });
    }

    /// Moves commit towards the last entry, as the other members' answers come in.
    fn commit_some(&mut self, batch: &mut SegmentBuilder) {
        let unanswered = self.rng.range(0, 6);
        let commit = self
            .last_index
            .saturating_sub(unanswered)
            .max(self.state.commit);
        if commit != self.state.commit {
            self.save_state(batch, self.state.term, self.state.vote, commit);
        }
    }

    /// Adds the hard state and applies what it commits.
    fn save_state(&mut self, batch: &mut SegmentBuilder, term: u64, vote: u64, commit: u64) {
        batch.hard_state(term, vote, commit);
        self.state = HardState { term, vote, commit };
        let committed = self.pending.partition_point(|entry| entry.index <= commit);
        for entry in self.pending.drain(..committed) {
            self.applied_term = entry.term;
            if let Some((path, value)) = entry.put {
                self.store.set(&path, &value);
            }
        }
    }

    fn write(&mut self, batch: &SegmentBuilder) {
        self.log.append(batch);
        self.log.sync(self.last_index, self.state.commit);
    }

    /// As etcd 2.x: the marker is in the log, and synced, before there is a file.
    fn take_snapshot_if_due(&mut self) {
        let due = self.state.commit - self.last_snapshot >= self.shared.options.snapshot_every;
        if !due || self.shared.snapshotting.swap(true, Ordering::Acquire) {
            return;
        }
        let (term, index) = (self.applied_term, self.state.commit);
        let nodes = members().map(|(id, _, _)| id);
        let bytes = raft_snapshot(term, index, &nodes, &self.store.to_json());
        let mut batch = self.log.batch();
        batch.marker(term, index);
        self.write(&batch);
        self.last_snapshot = index;
        let name = snap_name(term, index);
        self.jobs
            .send(SnapshotJob { name, index, bytes })
            .expect("the snapshotter lives as long as the writer");
    }
}
