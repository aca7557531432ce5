//! A data dir whose log really led to its raft snapshots, for the jobs that replay the log.
//!
//! In: how many keys, how many raft snapshots. Out: raft snapshots, each the store as the entries
//! before it left it, and one WAL segment from just before the oldest of them. Indexes,
//! expiries and directories are those that etcd would have written (formats page §5), so that
//! a replay that goes wrong cannot hide.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use etcd_ark::etcd::ids::{Index, MemberId, SegmentName, SnapshotId, Term};
use etcd_ark::etcd::raft_snapshot;
use prost::Message;

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
    let name = SegmentName {
        sequence: 1,
        first_index: Index(member.log.index + 1),
    };
    member.log.begin(false);
    member.work(ENTRIES_BEFORE);
    let mut lived = Lived {
        dir: dir.to_owned(),
        raft_snapshots: Vec::new(),
        bytes: 0,
    };
    for _ in 0..snapshots {
        let id = member.marker();
        let file = raft_snapshot::write(id, &[MemberId(MEMBER)], &member.store.to_json());
        let path = snap.join(id.file_name());
        std::fs::write(&path, &file).unwrap();
        lived.raft_snapshots.push(path);
        lived.bytes += file.len() as u64;
        member.work(entries);
    }
    std::fs::write(wal.join(name.to_string()), &member.log.segment).unwrap();
    lived.bytes += member.log.segment.len() as u64;
    lived
}

/// A member that applies each entry as it writes it.
struct Member {
    log: Log,
    store: Store,
    keys: u64,
    /// Nanoseconds since 1970.
    now: u64,
}

impl Member {
    /// A member that has set each of `keys` keys once.
    fn new(keys: u64) -> Self {
        let mut member = Self {
            log: Log {
                own: MEMBER,
                members: &MEMBERS[..1],
                random: 1,
                crc: 0,
                index: 0,
                segment: Vec::new(),
            },
            store: Store::new(),
            keys,
            now: BEGIN,
        };
        member.log.begin(true);
        let own = format!("/0/members/{MEMBER:x}");
        let urls = r#"{"peerURLs":["http://10.0.0.1:2380"]}"#;
        member
            .store
            .set(&format!("{own}/raftAttributes"), urls, None);
        let urls = r#"{"name":"bench","clientURLs":["http://10.0.0.1:2379"]}"#;
        member.put(&format!("{own}/attributes"), urls.to_owned(), None);
        member.put("/0/version", "2.1.0".to_owned(), None);
        for key in 0..keys {
            member.put_key(key);
            // What is purged before it is written need not be kept.
            member.log.segment.clear();
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
            text,
            expires,
        );
    }

    fn put(&mut self, path: &str, text: String, expires: Option<u64>) {
        self.store.set(path, &text, expires);
        let mut request = Request::plain("PUT");
        request.path = Some(path.to_owned());
        request.val = Some(text);
        request.expiration = Some(expires.unwrap_or_default().cast_signed());
        self.append(request);
    }

    /// The leader's word that time has passed; nothing expires by it.
    fn sync(&mut self) {
        self.now += 500_000_000;
        let mut request = Request::plain("SYNC");
        request.time = Some(self.now.cast_signed());
        self.append(request);
    }

    fn append(&mut self, mut request: Request) {
        request.id = Some(next(&mut self.log.random));
        self.log.entry(0, request.encode_to_vec());
        self.log.hard_state();
    }

    fn marker(&mut self) -> SnapshotId {
        let id = SnapshotId {
            term: Term(2),
            index: Index(self.log.index),
        };
        self.log.marker(id);
        id
    }
}

/// `etcdserverpb.Request` with every field that etcd 2.1 writes; `PrevExist` (8) is absent.
#[derive(Clone, PartialEq, Eq, Message)]
struct Request {
    #[prost(uint64, optional, tag = "1")]
    id: Option<u64>,
    #[prost(string, optional, tag = "2")]
    method: Option<String>,
    #[prost(string, optional, tag = "3")]
    path: Option<String>,
    #[prost(string, optional, tag = "4")]
    val: Option<String>,
    #[prost(bool, optional, tag = "5")]
    dir: Option<bool>,
    #[prost(string, optional, tag = "6")]
    prev_value: Option<String>,
    #[prost(uint64, optional, tag = "7")]
    prev_index: Option<u64>,
    #[prost(int64, optional, tag = "9")]
    expiration: Option<i64>,
    #[prost(bool, optional, tag = "10")]
    wait: Option<bool>,
    #[prost(uint64, optional, tag = "11")]
    since: Option<u64>,
    #[prost(bool, optional, tag = "12")]
    recursive: Option<bool>,
    #[prost(bool, optional, tag = "13")]
    sorted: Option<bool>,
    #[prost(bool, optional, tag = "14")]
    quorum: Option<bool>,
    #[prost(int64, optional, tag = "15")]
    time: Option<i64>,
    #[prost(bool, optional, tag = "16")]
    stream: Option<bool>,
}

impl Request {
    /// A request without conditions. etcd writes every field, also those that are zero.
    fn plain(method: &str) -> Self {
        Self {
            id: Some(0),
            method: Some(method.to_owned()),
            path: Some(String::new()),
            val: Some(String::new()),
            dir: Some(false),
            prev_value: Some(String::new()),
            prev_index: Some(0),
            expiration: Some(0),
            wait: Some(false),
            since: Some(0),
            recursive: Some(false),
            sorted: Some(false),
            quorum: Some(false),
            time: Some(0),
            stream: Some(false),
        }
    }
}

/// The v2 store, with the one operation that this member knows.
struct Store {
    index: u64,
    root: Node,
}

struct Node {
    created: u64,
    modified: u64,
    /// Nanoseconds since 1970.
    expires: Option<u64>,
    value: String,
    /// Of a directory.
    children: Option<BTreeMap<String, Node>>,
}

impl Node {
    fn dir(index: u64) -> Self {
        Self {
            created: index,
            modified: index,
            expires: None,
            value: String::new(),
            children: Some(BTreeMap::new()),
        }
    }
}

impl Store {
    /// What a new server begins with.
    fn new() -> Self {
        let mut root = Node::dir(0);
        let children = root.children.get_or_insert_default();
        children.insert("0".to_owned(), Node::dir(0));
        children.insert("1".to_owned(), Node::dir(0));
        Self { index: 0, root }
    }

    /// Sets a key; directories on the way get the index of the key that made them.
    fn set(&mut self, path: &str, value: &str, expires: Option<u64>) {
        self.index += 1;
        let index = self.index;
        let (parents, name) = path.rsplit_once('/').unwrap();
        let mut dir = &mut self.root;
        for part in parents.split('/').skip(1) {
            let children = dir.children.get_or_insert_default();
            if !children.contains_key(part) {
                children.insert(part.to_owned(), Node::dir(index));
            }
            dir = children.get_mut(part).unwrap();
        }
        let node = Node {
            created: index,
            modified: index,
            expires,
            value: value.to_owned(),
            children: None,
        };
        dir.children
            .get_or_insert_default()
            .insert(name.to_owned(), node);
    }

    /// The bytes of `store.Save`, with a watcher hub that has seen nothing.
    fn to_json(&self) -> Vec<u8> {
        let mut json = r#"{"Root":"#.to_owned();
        write_node(&mut json, "", &self.root);
        let _ = write!(
            json,
            r#","WatcherHub":{{"EventHistory":{{"Queue":{{"Events":[],"Size":0,"Front":0,"Back":0,"Capacity":1000}},"StartIndex":0,"LastIndex":0}}}},"CurrentIndex":{},"Stats":{{}},"CurrentVersion":2}}"#,
            self.index
        );
        json.into_bytes()
    }
}

/// Writes a node; the root's `path` is empty here and `/` in etcd's JSON.
fn write_node(json: &mut String, path: &str, node: &Node) {
    let shown = if path.is_empty() { "/" } else { path };
    let _ = write!(
        json,
        r#"{{"Path":"{shown}","CreatedIndex":{},"ModifiedIndex":{},"ExpireTime":"{}","Value":"{}","Children":"#,
        node.created,
        node.modified,
        time(node.expires),
        node.value.replace('"', "\\\"")
    );
    let Some(children) = &node.children else {
        json.push_str("null}");
        return;
    };
    for (number, (name, child)) in children.iter().enumerate() {
        json.push(if number == 0 { '{' } else { ',' });
        let _ = write!(json, r#""{name}":"#);
        write_node(json, &format!("{path}/{name}"), child);
    }
    json.push_str(if children.is_empty() { "{}}" } else { "}}" });
}

/// As Go writes a time in UTC.
fn time(nanoseconds: Option<u64>) -> String {
    let Some(nanoseconds) = nanoseconds else {
        return "0001-01-01T00:00:00Z".to_owned();
    };
    jiff::Timestamp::from_nanosecond(i128::from(nanoseconds))
        .unwrap()
        .to_string()
}
