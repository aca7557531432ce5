//! A complete and valid data directory, so small that a test can damage every byte of it.
//!
//! In: where to write it. Out: `member/wal` with two segments and `member/snap` with one raft snapshot, as a member of
//! a three-member 2.1 cluster would leave them, and the facts that a reader must find in them.

use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt as _;

use super::store::{StoreImage, client_url, key_path, key_value};
use super::{
    ADD_NODE, CONF_CHANGE, Frame, NORMAL, SegmentBuilder, conf_change, raft_snapshot, request,
    segment_name, snap_name,
};

/// A member as the cluster knows it: id, name (empty while it has not published itself), peer URL.
pub type Member<'a> = (u64, &'a str, &'a str);

/// The members of the test clusters, by id; ids and names are those of etcd's own documentation.
pub fn members() -> [Member<'static>; 3] {
    [
        (0x8211_f1d0_f64f_3269, "infra1", "http://127.10.1.11:2380"),
        (0x91bc_3c39_8fb3_c146, "infra2", "http://127.10.1.12:2380"),
        (0xce2a_822c_ea30_bfca, "infra0", "http://127.10.1.10:2380"),
    ]
}

/// The member that the test directories belong to: the last of [`members`].
pub const MEMBER_ID: u64 = 0xce2a_822c_ea30_bfca;
/// The cluster of the test directories.
pub const CLUSTER_ID: u64 = 0x007e_2765_2122_e8b2;

/// One of the changes that a new cluster's log begins with.
#[derive(Clone, Debug)]
pub enum Bootstrap {
    Add {
        id: u64,
        name: String,
        peer_url: String,
    },
    Put {
        path: String,
        value: String,
    },
}

impl Bootstrap {
    /// The type and the data of the entry that brings the change.
    pub fn entry(&self) -> (u64, Vec<u8>) {
        match self {
            Self::Add { id, name, peer_url } => {
                let context = format!(r#"{{"id":{id},"peerURLs":["{peer_url}"],"name":"{name}"}}"#);
                (CONF_CHANGE, conf_change(ADD_NODE, *id, &context))
            }
            Self::Put { path, value } => (NORMAL, request("PUT", path, value)),
        }
    }

    /// What the change does to the store.
    pub fn apply(&self, store: &mut StoreImage) {
        match self {
            Self::Add { id, peer_url, .. } => store.add_member(*id, peer_url),
            Self::Put { path, value } => store.set(path, value),
        }
    }
}

/// How a cluster of `members` comes to be: additions, then publications of the named ones, then the version if it has one.
pub fn bootstrap(members: &[Member<'_>], version: Option<&str>) -> Vec<Bootstrap> {
    let additions = members.iter().map(|&(id, name, peer_url)| Bootstrap::Add {
        id,
        name: name.to_owned(),
        peer_url: peer_url.to_owned(),
    });
    let named = members.iter().filter(|(_, name, _)| !name.is_empty());
    let publications = named.map(|(id, name, peer_url)| Bootstrap::Put {
        path: format!("/0/members/{id:x}/attributes"),
        value: format!(
            r#"{{"name":"{name}","clientURLs":["{}"]}}"#,
            client_url(peer_url)
        ),
    });
    let version = version.map(|version| Bootstrap::Put {
        path: "/0/version".to_owned(),
        value: version.to_owned(),
    });
    additions.chain(publications).chain(version).collect()
}

#[derive(Clone, Debug)]
pub struct SegmentFacts {
    pub name: String,
    pub path: PathBuf,
    pub frames: Vec<Frame>,
}

/// What a reader must find in the directory that [`small_member`] wrote.
#[derive(Clone, Debug)]
pub struct SmallMember {
    pub member_id: u64,
    pub segments: Vec<SegmentFacts>,
    pub snap_path: PathBuf,
    /// Index of the last entry, which is not committed: one above `commit`.
    pub last_index: u64,
    /// The last hard state.
    pub term: u64,
    pub vote: u64,
    /// The user's keys at `commit`, by store path, in order.
    pub keys: Vec<(String, String)>,
    /// The store's own index at `commit`.
    pub store_index: u64,
}

/// Events kept in the small snapshot's watcher hub: etcd would keep 1000, and write 5 kB of nulls for an empty history.
const FEW_EVENTS: usize = 2;
/// Keys set before the raft snapshot is taken, and committed keys in all.
const KEYS_BEFORE_SNAPSHOT: usize = 2;
const KEYS: usize = 5;
const VERSION: &str = "2.1.0";

/// Writes a complete small data directory to `dir`, which may exist if it is empty.
///
/// ```text
/// segment 0   crc 0 · metadata · marker (0,0) · 1–3 members added (term 1) · 4 elected (term 2) · 5–7 published ·
///             8 version · 9–10 keys · marker (2,10) · 11 key
/// segment 1   crc · metadata · hard state · 12 elected (term 3) · 13–14 keys · 15 key, not committed
/// ```
pub fn small_member(dir: &Path) -> SmallMember {
    small_member_of(dir, &members())
}

/// As [`small_member`], of a cluster that has moved to another `version`.
pub fn small_member_of_version(dir: &Path, version: &'static str) -> SmallMember {
    write_small_member(dir, &members(), version)
}

/// As [`small_member`], of a cluster of other members: the directory belongs to the last of them, and they are in the order
/// of their ids.
pub fn small_member_of(dir: &Path, members: &[Member<'_>]) -> SmallMember {
    write_small_member(dir, members, VERSION)
}

fn write_small_member(dir: &Path, members: &[Member<'_>], version: &'static str) -> SmallMember {
    let ids: Vec<u64> = members.iter().map(|(id, _, _)| *id).collect();
    let own = *ids.last().unwrap();
    let wal = dir.join("member/wal");
    let snap = dir.join("member/snap");
    for path in [dir, &dir.join("member"), &wal, &snap] {
        make_dir(path);
    }
    let mut log = SmallLog::new(own);
    log.write_until_snapshot(members, version);
    let snapshot_index = log.last_index;
    let image = raft_snapshot(2, snapshot_index, &ids, &log.store.to_json());
    let snap_path = snap.join(snap_name(2, snapshot_index));
    write_file(&snap_path, 0o644, &image);
    log.put_key();
    let second_first_index = log.last_index + 1;
    let first = log.cut();
    log.write_after_cut();
    SmallMember {
        member_id: own,
        snap_path,
        last_index: log.last_index,
        term: log.term,
        vote: own,
        keys: (0..KEYS).map(|n| (key_path(n), key_value(n))).collect(),
        store_index: log.store.index(),
        segments: vec![
            write_segment(&wal, &segment_name(0, 0), &first),
            write_segment(&wal, &segment_name(1, second_first_index), &log.segment),
        ],
    }
}

/// Writes one file of a data directory, with the mode that etcd gives it.
pub fn write_file(path: &Path, mode: u32, bytes: &[u8]) {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    options.open(path).unwrap().write_all(bytes).unwrap();
}

/// Makes a directory of mode 0700 unless it is there.
pub fn make_dir(path: &Path) {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .unwrap();
}

fn write_segment(wal: &Path, name: &str, segment: &SegmentBuilder) -> SegmentFacts {
    let path = wal.join(name);
    write_file(&path, 0o600, segment.bytes());
    SegmentFacts {
        name: name.to_owned(),
        path,
        frames: segment.frames.clone(),
    }
}

/// The log of the small member while it is written: every entry is followed by the hard state that commits it.
struct SmallLog {
    own: u64,
    segment: SegmentBuilder,
    store: StoreImage,
    term: u64,
    last_index: u64,
    commit: u64,
    keys: usize,
}

impl SmallLog {
    fn new(own: u64) -> Self {
        let mut segment = SegmentBuilder::new(0, false);
        segment.crc().metadata(own, CLUSTER_ID).marker(0, 0);
        Self {
            own,
            segment,
            store: StoreImage::new(FEW_EVENTS),
            term: 1,
            last_index: 0,
            commit: 0,
            keys: 0,
        }
    }

    fn write_until_snapshot(&mut self, members: &[Member<'_>], version: &str) {
        for change in bootstrap(members, Some(version)) {
            let (kind, data) = change.entry();
            if kind == NORMAL && self.term == 1 {
                // All members are in: they can elect a leader.
                self.commit_with_vote(0);
                self.elect();
            }
            self.append(kind, Some(&data));
            change.apply(&mut self.store);
        }
        self.commit_with_vote(self.own);
        for _ in 0..KEYS_BEFORE_SNAPSHOT {
            self.put_key();
        }
        self.segment.marker(self.term, self.last_index);
    }

    fn write_after_cut(&mut self) {
        self.elect();
        while self.keys < KEYS {
            self.put_key();
        }
        let data = request("PUT", &key_path(KEYS), &key_value(KEYS));
        self.append(NORMAL, Some(&data));
    }

    /// A new term and its leader's empty first entry.
    fn elect(&mut self) {
        self.term += 1;
        self.append(NORMAL, None);
        self.commit_with_vote(self.own);
    }

    fn put_key(&mut self) {
        let (path, value) = (key_path(self.keys), key_value(self.keys));
        self.keys += 1;
        self.append(NORMAL, Some(&request("PUT", &path, &value)));
        self.store.set(&path, &value);
        self.commit_with_vote(self.own);
    }

    fn append(&mut self, kind: u64, data: Option<&[u8]>) {
        self.last_index += 1;
        self.segment.entry(kind, self.term, self.last_index, data);
    }

    fn commit_with_vote(&mut self, vote: u64) {
        self.commit = self.last_index;
        self.segment.hard_state(self.term, vote, self.commit);
    }

    /// Ends the segment and begins the next as etcd does when it cuts.
    fn cut(&mut self) -> SegmentBuilder {
        let mut next = SegmentBuilder::new(self.segment.chain_crc(), false);
        next.crc()
            .metadata(self.own, CLUSTER_ID)
            .hard_state(self.term, self.own, self.commit);
        std::mem::replace(&mut self.segment, next)
    }
}
