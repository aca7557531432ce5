//! A data dir like that of a busy member, written with the tests' encoder.

use std::fmt::Write as _;
use std::path::Path;

use crate::encode::{
    ADD_NODE, CONF_CHANGE, NORMAL, Request, SegmentBuilder, StoreImage, conf_change, raft_snapshot,
    segment_name, snap_name,
};

pub(crate) const MEMBER: u64 = MEMBERS[0];
/// In the order of their numbers, each of as many bytes in a record: so that all logs have the same entries.
pub(crate) const MEMBERS: [u64; 3] = [
    0x8998_a2fa_ce6f_b7ba,
    0x9f07_2a8b_11c3_90d4,
    0xa998_a2fa_ce6f_b7ba,
];
const CLUSTER: u64 = 0xaa16_62ac_a318_a75f;
/// etcd's own: a segment is cut after the write that takes it past this.
const SEGMENT: usize = 64_000_000;
/// Keys in a store of full size.
pub(crate) const KEYS: u64 = 80_000;
const SEGMENTS: u64 = 5;

/// What was made.
pub(crate) struct Made {
    pub(crate) bytes: u64,
    pub(crate) live_bytes: u64,
    /// Paths below the data dir.
    pub(crate) live: Vec<String>,
}

/// Makes the data dir of `member` of a cluster of three: five raft snapshots and five segments, at `scale` percent of full
/// size. All members hold the same.
pub(crate) fn data_dir(dir: &Path, scale: u64, member: u64) -> Made {
    write_member(
        dir,
        member,
        KEYS * scale / 100,
        SEGMENT * scale as usize / 100,
        SEGMENTS,
    )
}

/// Makes a data dir of a few KB.
pub(crate) fn small_data_dir(dir: &Path) -> Made {
    write_member(dir, MEMBER, 5, 4_000, 2)
}

fn write_member(dir: &Path, own: u64, keys: u64, segment_bytes: usize, segments: u64) -> Made {
    let (wal, snap) = (dir.join("member/wal"), dir.join("member/snap"));
    std::fs::create_dir_all(&wal).unwrap();
    std::fs::create_dir_all(&snap).unwrap();
    let mut made = Made {
        bytes: 0,
        live_bytes: 0,
        live: Vec::new(),
    };
    let mut log = Log::new(own, &MEMBERS);
    let live_from = segments.saturating_sub(2);
    for sequence in 0..segments {
        let name = segment_name(sequence, if sequence == 0 { 0 } else { log.index + 1 });
        log.begin(sequence == 0);
        // The newest raft snapshot lies in the last segment but one, so that a start reads two.
        let snapshots = match sequence.cmp(&live_from) {
            std::cmp::Ordering::Less => 1,
            std::cmp::Ordering::Equal => 2,
            std::cmp::Ordering::Greater => 0,
        };
        for number in 1..=snapshots {
            log.fill(segment_bytes * number / (snapshots + 1));
            // etcd writes the marker to the log first.
            let name = log.marker();
            let json = store(&mut log.random, keys);
            let file = raft_snapshot(2, log.index, &MEMBERS, &json);
            std::fs::write(snap.join(&name), &file).unwrap();
            made.bytes += file.len() as u64;
            if sequence == live_from && number == snapshots {
                made.live.push(format!("member/snap/{name}"));
                made.live_bytes += file.len() as u64;
            }
        }
        log.fill(segment_bytes);
        let bytes = log.segment.bytes();
        std::fs::write(wal.join(&name), bytes).unwrap();
        made.bytes += bytes.len() as u64;
        if sequence >= live_from {
            made.live.push(format!("member/wal/{name}"));
            made.live_bytes += bytes.len() as u64;
        }
    }
    made
}

/// A WAL being written; its last segment.
pub(crate) struct Log {
    own: u64,
    members: &'static [u64],
    pub(crate) random: u64,
    /// Of the last entry.
    pub(crate) index: u64,
    pub(crate) segment: SegmentBuilder,
}

impl Log {
    pub(crate) fn new(own: u64, members: &'static [u64]) -> Self {
        Self {
            own,
            members,
            random: 1,
            index: 0,
            segment: SegmentBuilder::new(0, false),
        }
    }

    pub(crate) fn begin(&mut self, first: bool) {
        self.segment = SegmentBuilder::new(self.segment.chain_crc(), false);
        self.segment.crc().metadata(self.own, CLUSTER);
        for &member in self.members.iter().filter(|_| first) {
            let urls = peer_urls(member);
            let context = format!(r#"{{"id":{member},"peerURLs":{urls},"name":"bench"}}"#);
            self.entry(CONF_CHANGE, &conf_change(ADD_NODE, member, &context));
        }
        self.hard_state();
    }

    fn fill(&mut self, until: usize) {
        while self.segment.bytes().len() < until {
            let key = below(&mut self.random, KEYS);
            let request = Request {
                id: next(&mut self.random),
                method: "PUT",
                path: &format!("/1/app/{}/{key}", key % 400),
                val: &value(&mut self.random),
                ..Request::default()
            };
            self.entry(NORMAL, &request.encode());
            self.hard_state();
        }
    }

    pub(crate) fn entry(&mut self, kind: u64, data: &[u8]) {
        self.index += 1;
        self.segment.entry(kind, 2, self.index, Some(data));
    }

    pub(crate) fn hard_state(&mut self) {
        self.segment.hard_state(2, self.own, self.index);
    }

    /// Marks a raft snapshot at the last entry; its file's name.
    pub(crate) fn marker(&mut self) -> String {
        self.segment.marker(2, self.index);
        snap_name(2, self.index)
    }
}

/// JSON; another host for each member.
fn peer_urls(member: u64) -> String {
    format!(r#"["http://10.0.0.{}:2380"]"#, member >> 60)
}

/// The v2 store's JSON with `keys` keys of some 800 bytes, 200 to a directory.
fn store(random: &mut u64, keys: u64) -> Vec<u8> {
    let mut store = StoreImage::new(1);
    for member in MEMBERS {
        let urls = format!(r#"{{"peerURLs":{}}}"#, peer_urls(member));
        store.set(&format!("/0/members/{member:x}/raftAttributes"), &urls);
    }
    store.set("/0/version", "2.1.0");
    for key in 0..keys {
        store.set(
            &format!("/1/app/{:04}/{:03}", key / 200, key % 200),
            &value(random),
        );
    }
    store.to_json()
}

/// Some 800 bytes as a scheduler might store them: names that recur, ids that do not.
pub(crate) fn value(random: &mut u64) -> String {
    const WORDS: [&str; 16] = [
        "frontend", "backend", "cache", "worker", "ingress", "billing", "search", "session",
        "metrics", "journal", "gateway", "indexer", "mailer", "queue", "replica", "primary",
    ];
    let mut text = String::with_capacity(900);
    let word = |random: &mut u64| WORDS[below(random, 16) as usize];
    let _ = write!(
        text,
        r#"{{"id":"{:016x}{:016x}","host":"{}-{}","state":"running","ip":"10.{}.{}.{}","ts":{},"labels":{{"#,
        next(random),
        next(random),
        word(random),
        below(random, 1000),
        below(random, 256),
        below(random, 256),
        below(random, 256),
        1_440_000_000 + below(random, 10_000_000)
    );
    for number in 0..8 {
        let _ = write!(
            text,
            r#""{}{number}":"{}-{}","#,
            word(random),
            word(random),
            below(random, 100)
        );
    }
    text.push_str(r#""tier":"1"},"args":["#);
    while text.len() < 760 {
        let _ = write!(text, r#""--{}={}","#, word(random), below(random, 10_000));
    }
    text.push_str(r#""--end"]}"#);
    text
}

/// xorshift: the same data every time.
pub(crate) fn next(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

pub(crate) fn below(random: &mut u64, limit: u64) -> u64 {
    next(random) % limit
}
