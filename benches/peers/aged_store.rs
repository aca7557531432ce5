//! A data dir whose log really led to its raft snapshots, for the jobs that replay the log.
//!
//! In: how many keys, how many raft snapshots. Out: raft snapshots, each the store as the entries
//! before it left it, and one WAL segment from just before the oldest of them. Indexes,
//! expiries and directories are those that etcd would have written (formats page §5), so that
//! a replay that goes wrong cannot hide.

use std::path::{Path, PathBuf};

use crate::encode::{NORMAL, Request, StoreImage, raft_snapshot, segment_name};
use crate::generate::{KEYS, Log, MEMBER, MEMBERS, below, next, value};

/// Entries after each raft snapshot at full size.
const ENTRIES: u64 = 20_000;
/// Entries before the oldest raft snapshot that are in its segment.
const ENTRIES_BEFORE: u64 = 100;
/// One entry in so many is a SYNC.
const SYNC_EVERY: u64 = 20;
/// One key in so many expires, long after the last SYNC.
const TTL_EVERY: u64 = 50;
/// 2015-08-01, in nanoseconds since 1970: when the log begins.
const BEGIN: u64 = 1_438_387_200_000_000_000;
/// 2036-01-01, likewise: when keys begin to expire.
const EXPIRY: u64 = 2_082_758_400_000_000_000;

/// What was made.
pub(crate) struct Lived {
    /// The data dir.
    pub(crate) dir: PathBuf,
    /// Paths of the raft snapshots, oldest first.
    pub(crate) raft_snapshots: Vec<PathBuf>,
    /// Bytes of all files.
    pub(crate) bytes: u64,
}

/// Makes a data dir with `snapshots` raft snapshots of 80,000 keys and 20,000 entries after
/// each, at `scale` percent of full size.
pub(crate) fn data_dir(dir: &Path, scale: u64, snapshots: u64) -> Lived {
    let (keys, entries) = (KEYS * scale / 100, ENTRIES * scale / 100);
    let (wal, snap) = (dir.join("member/wal"), dir.join("member/snap"));
    std::fs::create_dir_all(&wal).unwrap();
    std::fs::create_dir_all(&snap).unwrap();
    let mut member = Member::new(keys);
    // This far the log is gone: etcd has cut a new segment and purged the ones before.
    let name = segment_name(1, member.log.index + 1);
    member.log.begin(false);
    member.work(ENTRIES_BEFORE);
    let mut lived = Lived {
        dir: dir.to_owned(),
        raft_snapshots: Vec::new(),
        bytes: 0,
    };
    for _ in 0..snapshots {
        let path = snap.join(member.log.marker());
        let (log, store) = (&member.log, &member.store);
        let file = raft_snapshot(2, log.index, &[MEMBER], &store.to_json());
        std::fs::write(&path, &file).unwrap();
        lived.raft_snapshots.push(path);
        lived.bytes += file.len() as u64;
        member.work(entries);
    }
    let bytes = member.log.segment.bytes();
    std::fs::write(wal.join(name), bytes).unwrap();
    lived.bytes += bytes.len() as u64;
    lived
}

/// A member that applies each entry as it writes it.
struct Member {
    log: Log,
    store: StoreImage,
    keys: u64,
    /// Nanoseconds since 1970.
    now: u64,
}

impl Member {
    /// A member that has set each of `keys` keys once.
    fn new(keys: u64) -> Self {
        let mut member = Self {
            log: Log::new(MEMBER, &MEMBERS[..1]),
            // What has happened is of no use to a replay.
            store: StoreImage::new(1),
            keys,
            now: BEGIN,
        };
        member.log.begin(true);
        let own = format!("/0/members/{MEMBER:x}");
        let urls = r#"{"peerURLs":["http://10.0.0.1:2380"]}"#;
        member.store.set(&format!("{own}/raftAttributes"), urls);
        let urls = r#"{"name":"bench","clientURLs":["http://10.0.0.1:2379"]}"#;
        member.put(&format!("{own}/attributes"), urls, None);
        member.put("/0/version", "2.1.0", None);
        for key in 0..keys {
            member.put_key(key);
        }
        member
    }

    /// Writes and applies `entries` entries.
    fn work(&mut self, entries: u64) {
        for entry in 1..=entries {
            if entry % SYNC_EVERY == 0 {
                self.sync();
            } else {
                let key = below(&mut self.log.random, self.keys);
                self.put_key(key);
            }
        }
    }

    fn put_key(&mut self, key: u64) {
        let random = &mut self.log.random;
        let expires = below(random, TTL_EVERY) == 0;
        let expires = expires.then(|| EXPIRY + below(random, 1_000_000_000_000_000));
        let text = value(random);
        self.put(
            &format!("/1/app/{:04}/{:03}", key / 200, key % 200),
            &text,
            expires,
        );
    }

    fn put(&mut self, path: &str, val: &str, expires: Option<u64>) {
        self.store.set_until(path, val, expires);
        self.append(Request {
            method: "PUT",
            path,
            val,
            expiration: expires.unwrap_or_default().cast_signed(),
            ..Request::default()
        });
    }

    /// The leader's word that time has passed; nothing expires by it.
    fn sync(&mut self) {
        self.now += 500_000_000;
        self.append(Request {
            method: "SYNC",
            time: self.now.cast_signed(),
            ..Request::default()
        });
    }

    fn append(&mut self, mut request: Request<'_>) {
        request.id = next(&mut self.log.random);
        self.log.entry(NORMAL, &request.encode());
        self.log.hard_state();
    }
}
