//! Applies a log to the store and the cluster as the servers of one release line do when they start.
//!
//! In: the raft snapshot's store and voters, then entries in order. Out: the first reason on which
//! the server stops, and the resulting membership.
//! Source: `etcdserver/server.go`, `etcdserver/cluster.go`, `etcdserver/member.go` at 2.0.13, 2.1.3,
//! 2.2.5 and 2.3.8.

use std::collections::{BTreeMap, BTreeSet};

use memchr::{memchr, memmem};
use prost::Message;
use prost::encoding::decode_varint;

use crate::etcd::ids::{Index, MemberId, Release, hex};
use crate::etcd::json::go::{ATTRIBUTES, MEMBER, MemberJson, RAFT_ATTRIBUTES};
use crate::etcd::proto::{ConfChange, Request};
use crate::etcd::start::reason::Reason;
use crate::etcd::start::{LINES, V2_0, V2_2, V2_3};
use crate::etcd::store::apply::Applied;
use crate::etcd::store::ops::Write;
use crate::etcd::store::rules::InOrderRules;
use crate::etcd::store::{NodeId, Store, path};

/// A server of one release line while it starts.
#[derive(Clone, Debug)]
pub(super) struct Server {
    line: Release,
    /// The whole store, or only what is below `/0`.
    store: Store,
    whole: bool,
    /// The members in the server's memory.
    members: BTreeSet<u64>,
    removed: BTreeSet<u64>,
    /// The members with a vote in raft.
    pub(super) voters: BTreeSet<u64>,
    /// What is wrong with the cluster in the raft snapshot's store.
    pub(super) cluster_fault: Option<Reason>,
    /// Why it stops at an entry.
    pub(super) entry_fault: Option<Reason>,
    pub(super) removed_itself: bool,
    /// The first entry that changes a member's peer URLs.
    pub(super) update: Option<Index>,
}

/// An entry to apply; its fields are not validated.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) index: Index,
    pub(super) kind: u64,
    pub(super) data: Box<[u8]>,
}

/// The cluster in the store: peer URLs by member, and removed members.
#[derive(Default)]
struct Cluster {
    members: BTreeMap<u64, Vec<String>>,
    removed: BTreeSet<u64>,
}

impl Server {
    /// A server with an empty store.
    pub(super) fn new(line: Release, whole: bool) -> Self {
        Self::with(line, Store::new(), whole, BTreeSet::new())
    }

    /// A server that has loaded a raft snapshot.
    pub(super) fn loaded(line: Release, store: Store, whole: bool, nodes: &[MemberId]) -> Self {
        let voters = nodes.iter().map(|id| id.0).collect();
        let mut server = Self::with(line, store, whole, voters);
        match cluster_of(&server.store) {
            Ok(cluster) => {
                server.members = cluster.members.into_keys().collect();
                server.removed = cluster.removed;
            }
            Err(reason) => server.cluster_fault = Some(reason),
        }
        if server.cluster_fault.is_none() {
            server.cluster_fault = version_fault(line, &server.store);
        }
        server
    }

    /// On what it would stop when it loads a raft snapshot with its store as it is now.
    pub(super) fn later_fault(&self) -> Option<Reason> {
        let cluster = cluster_of(&self.store);
        cluster
            .err()
            .or_else(|| version_fault(self.line, &self.store))
    }

    fn with(line: Release, store: Store, whole: bool, voters: BTreeSet<u64>) -> Self {
        Self {
            line,
            store,
            whole,
            members: BTreeSet::new(),
            removed: BTreeSet::new(),
            voters,
            cluster_fault: None,
            entry_fault: None,
            removed_itself: false,
            update: None,
        }
    }

    /// Whether it can publish the attributes of `id`.
    pub(super) fn lists(&self, id: MemberId) -> bool {
        self.members.contains(&id.0)
    }

    /// Whether too few voters are members to elect a leader.
    pub(super) fn majority_fault(&self) -> Option<Reason> {
        let voters = self.voters.len();
        let listed = self.voters.intersection(&self.members).count();
        (listed <= voters / 2).then_some(Reason::NoMajority { voters, listed })
    }

    /// Whether the whole store is here.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The users' keys that a listing shows, if the whole store is here.
    pub(super) fn keys(&self) -> Option<u64> {
        if !self.whole {
            return None;
        }
        let mut keys = 0;
        let mut open: Vec<NodeId> = self.store.get(b"/1").into_iter().collect();
        while let Some(directory) = open.pop() {
            for child in self.store.children(directory) {
                let node = self.store.node(child);
                if node.is_hidden() {
                } else if node.is_dir() {
                    open.push(child);
                } else {
                    keys += 1;
                }
            }
        }
        Some(keys)
    }

    /// Applies an entry, unless one before it has stopped the server.
    pub(super) fn apply(&mut self, entry: &Entry, own: u64) {
        if self.entry_fault.is_some() || self.removed_itself {
            return;
        }
        let done = match entry.kind {
            0 => self.apply_normal(entry),
            1 => self.apply_conf_change(entry, own),
            _ => Err(Reason::EntryType(entry.index)),
        };
        self.entry_fault = done.err();
    }

    fn apply_normal(&mut self, entry: &Entry) -> Result<(), Reason> {
        if entry.data.is_empty() {
            return Ok(());
        }
        let request = if self.line >= V2_2 {
            Request::in_entry(&entry.data)
        } else {
            Request::decode(&*entry.data).map(Some)
        };
        match request {
            Ok(Some(request)) => self.apply_request(&request, entry.index),
            Ok(None) => Ok(()),
            Err(_) => Err(Reason::UnreadableEntry(entry.index)),
        }
    }

    fn apply_request(&mut self, request: &Request, index: Index) -> Result<(), Reason> {
        let at = request.path.as_deref().unwrap_or_default();
        let components = path::components(at);
        let is_set = request.method.as_deref() == Some(b"PUT")
            && request.prev_exist.is_none()
            && request.prev_index.unwrap_or(0) == 0
            && request.prev_value.as_deref().unwrap_or_default().is_empty();
        if is_set && is_attributes(at) {
            return self.publish(request, &components, index);
        }
        if is_set && at == b"/0/version" && self.line > V2_0 {
            check_version(self.line, request.val.as_deref().unwrap_or_default())?;
        }
        if self.whole || components.first() == Some(&&b"0"[..]) {
            let rules = InOrderRules::of_release(self.line);
            let known = (request.refresh.is_some() && !rules.knows_refresh()).then(|| Request {
                refresh: None,
                ..request.clone()
            });
            let request = known.as_ref().unwrap_or(request);
            self.store.apply_request(request, rules.names());
        }
        Ok(())
    }

    /// A member publishes its name and client URLs.
    fn publish(
        &mut self,
        request: &Request,
        components: &[&[u8]],
        index: Index,
    ) -> Result<(), Reason> {
        let value = request.val.as_deref().unwrap_or_default();
        let parent = components.iter().rev().nth(1);
        let id = parent
            .and_then(|name| hex_id(name))
            .ok_or(Reason::BadMember)?;
        if MemberJson::read(value, ATTRIBUTES).is_none() {
            return Err(Reason::UnreadableEntry(index));
        }
        if !self.members.contains(&id) {
            // 2.0 checks no more; 2.1 and later know the removed members.
            if self.line == V2_0 || !self.removed.contains(&id) {
                return Err(Reason::UnknownMember {
                    id: MemberId(id),
                    index,
                });
            }
            if self.line >= V2_3 {
                return Ok(());
            }
        }
        let write = Write {
            value,
            dir: request.dir.unwrap_or(false),
            expires: request.expiration.filter(|&expiration| expiration != 0),
            refresh: false,
        };
        let _ = self
            .store
            .set(request.path.as_deref().unwrap_or_default(), write);
        Ok(())
    }

    fn apply_conf_change(&mut self, entry: &Entry, own: u64) -> Result<(), Reason> {
        let unreadable = || Reason::UnreadableEntry(entry.index);
        let change = ConfChange::decode(&*entry.data).map_err(|_| unreadable())?;
        if change.kind == Some(2) {
            self.update.get_or_insert(entry.index);
        }
        let id = change.node_id.unwrap_or(0);
        let cluster = cluster_of(&self.store)?;
        if cluster.removed.contains(&id) {
            return Ok(());
        }
        let known = cluster.members.contains_key(&id);
        let kind = change.kind.unwrap_or(0);
        match (kind, known) {
            (0, true) | (1 | 2, false) => return Ok(()),
            (0, false) | (2, true) => {
                let context = change.context.as_deref().unwrap_or_default();
                let member = MemberJson::read(context, MEMBER).ok_or_else(unreadable)?;
                let urls = member.peer_urls;
                let others = cluster.members.iter().filter(|(other, _)| **other != id);
                if others
                    .flat_map(|(_, used)| used)
                    .any(|url| urls.contains(url))
                {
                    return Ok(());
                }
                if member.id != id {
                    return Err(unreadable());
                }
            }
            (1, true) => {}
            _ => return Err(unreadable()),
        }
        match self
            .store
            .apply(1, &entry.data, InOrderRules::of_release(self.line))
        {
            Ok(Applied::Invalid) => return Ok(()),
            Ok(_) => {}
            Err(_) => return Err(unreadable()),
        }
        if kind == 1 {
            self.members.remove(&id);
            self.removed.insert(id);
            self.voters.remove(&id);
            self.removed_itself |= id == own;
        } else {
            self.members.insert(id);
            self.voters.insert(id);
        }
        Ok(())
    }
}

/// Whether a normal entry holds a request for a client's key that every line reads alike, so that
/// a start does not depend on it. Most entries do, and need not be copied nor read by each line.
pub(super) fn is_plain_client_write(data: &[u8]) -> bool {
    let Some((method, path)) = plain_request(data) else {
        return false;
    };
    match method {
        b"SYNC" => path.is_empty(),
        // No entry of 3.x has one of these here.
        b"PUT" | b"POST" | b"DELETE" | b"QGET" => {
            path.starts_with(b"/1/")
                && (memchr(b'.', path).is_none() || memmem::find(path, b"/.").is_none())
                && !is_attributes(path)
        }
        _ => false,
    }
}

/// Method and path of a request with no other fields than those of `etcdserverpb.Request`.
fn plain_request(mut data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut method, mut path) = (&b""[..], &b""[..]);
    loop {
        // Most fields are numbers of one byte.
        while let [key @ (0x08 | 0x28 | 0x38..0x80), 0..0x80, rest @ ..] = data
            && key % 8 == 0
        {
            data = rest;
        }
        if data.is_empty() {
            return Some((method, path));
        }
        let key = decode_varint(&mut data).ok()?;
        match (key >> 3, key & 7) {
            (1 | 5 | 7..=17, 0) => {
                decode_varint(&mut data).ok()?;
            }
            (field @ (2 | 3 | 4 | 6), 2) => {
                let length = usize::try_from(decode_varint(&mut data).ok()?).ok()?;
                let (text, rest) = data.split_at_checked(length)?;
                data = rest;
                match field {
                    2 => method = text,
                    3 => path = text,
                    _ => {}
                }
            }
            _ => return None,
        }
    }
}

/// Whether etcd treats a set of `path` as the attributes of a member. It looks for the pattern
/// anywhere in the path.
fn is_attributes(path: &[u8]) -> bool {
    const BEFORE: &[u8] = b"/0/members/";
    let mut rest = path;
    while let Some(at) = memchr::memmem::find(rest, BEFORE) {
        rest = rest.get(at + BEFORE.len()..).unwrap_or_default();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit());
        let digits = digits.count();
        let behind = rest.get(digits..).unwrap_or_default();
        if (1..=16).contains(&digits) && behind.starts_with(b"/attributes") {
            return true;
        }
    }
    false
}

fn hex_id(name: &[u8]) -> Option<u64> {
    hex(std::str::from_utf8(name).ok()?).ok()
}

/// The cluster in a store, or the reason why the server panics.
fn cluster_of(store: &Store) -> Result<Cluster, Reason> {
    let mut cluster = Cluster::default();
    let members = store.get(b"/0/members");
    for member in members.into_iter().flat_map(|top| store.children(top)) {
        let id = hex_id(store.node(member).name()).ok_or(Reason::BadMember)?;
        let bad = || Reason::HalfMember(MemberId(id));
        let mut urls = None;
        for part in store.children(member) {
            let node = store.node(part);
            let value = node.value().ok_or_else(bad)?.bytes();
            match node.name() {
                b"raftAttributes" => {
                    let raft = MemberJson::read(&value, RAFT_ATTRIBUTES).ok_or_else(bad)?;
                    urls = Some(raft.peer_urls);
                }
                b"attributes" => {
                    MemberJson::read(&value, ATTRIBUTES).ok_or_else(bad)?;
                }
                // A listing omits it.
                name if name.first() == Some(&b'_') => {}
                _ => return Err(bad()),
            }
        }
        cluster.members.insert(id, urls.ok_or_else(bad)?);
    }
    let removed = store.get(b"/0/removed_members");
    for member in removed.into_iter().flat_map(|top| store.children(top)) {
        let id = hex_id(store.node(member).name()).ok_or(Reason::BadMember)?;
        cluster.removed.insert(id);
    }
    Ok(cluster)
}

/// What is wrong with the cluster version in a store, for a server of `line`: 2.0 does not read it.
fn version_fault(line: Release, store: &Store) -> Option<Reason> {
    let version = store.get(b"/0/version").filter(|_| line > V2_0)?;
    match store.node(version).value() {
        Some(version) => check_version(line, &version.bytes()).err(),
        None => Some(Reason::VersionDirectory),
    }
}

/// Whether a server of `line`, 2.1 or later, accepts this cluster version.
fn check_version(line: Release, text: &[u8]) -> Result<(), Reason> {
    let text = String::from_utf8_lossy(text);
    let version = read_version(&text).ok_or_else(|| Reason::BadVersion(text.into_owned()))?;
    let (major, minor, _) = version;
    if line >= V2_2 && version > (line.major.into(), line.minor.into(), 0) {
        return Err(Reason::Downgrade { major, minor });
    }
    Ok(())
}

/// Three numbers, as `coreos/go-semver` reads them: with a sign, too.
fn read_version(text: &str) -> Option<(i128, i128, i128)> {
    let mut parts = text.splitn(3, '.');
    let (major, minor, rest) = (parts.next()?, parts.next()?, parts.next()?);
    let patch = rest.split(['+', '-']).next()?;
    let number = |text: &str| text.parse::<i64>().ok().map(i128::from);
    Some((number(major)?, number(minor)?, number(patch)?))
}

/// A server of each line, all in the same state.
pub(super) fn servers(make: impl Fn(Release) -> Server) -> [Server; 4] {
    LINES.map(make)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::etcd::start::V2_1;

    fn entry(request: &Request) -> Entry {
        Entry {
            index: Index(7),
            kind: 0,
            data: request.encode_to_vec().into(),
        }
    }

    fn put(path: &str) -> Request {
        Request {
            method: Some(b"PUT".to_vec()),
            path: Some(path.into()),
            val: Some(b"not JSON".to_vec()),
            ..Request::default()
        }
    }

    #[test]
    fn an_entry_that_can_stop_a_start_is_never_passed_over() {
        for path in [
            "/0/version",
            "/0/members/deadbeef/attributes",
            "/1/0/members/deadbeef/attributes",
            "/1/../0/version",
            "/1",
            "/2/users/root",
            "",
        ] {
            assert!(!is_plain_client_write(&put(path).encode_to_vec()), "{path}");
        }
        assert!(is_plain_client_write(&put("/1/a/b").encode_to_vec()));
        assert!(!is_plain_client_write(b"\x12\x03PUT\x1a\x05/1/a"));
    }

    /// A store with these keys; an empty value makes a directory.
    fn store(keys: &[(&str, &str)]) -> Store {
        let mut store = Store::new();
        for (path, value) in keys {
            let write = Write {
                value: value.as_bytes(),
                dir: value.is_empty(),
                expires: None,
                refresh: false,
            };
            store.set(path.as_bytes(), write).unwrap();
        }
        store
    }

    #[test]
    fn a_cluster_version_is_a_value_that_go_reads() {
        for (version, says) in [
            ("2.1.0", None),
            // Go reads each part as a signed number.
            ("2.-1.0", None),
            ("+2.1.0", None),
            ("2.1", Some("the cluster version `2.1` cannot be read")),
            ("", Some("`/0/version` is a directory")),
        ] {
            let server = Server::loaded(V2_3, store(&[("/0/version", version)]), false, &[]);
            let fault = server.cluster_fault.map(|reason| reason.to_string());
            assert_eq!(fault.as_deref(), says, "{version}");
            let old = Server::loaded(V2_0, store(&[("/0/version", version)]), false, &[]);
            assert_eq!(old.cluster_fault, None);
        }
    }

    #[test]
    fn voters_that_are_not_members_elect_no_leader() {
        // No message reaches a voter that the store does not list.
        let member = r#"{"peerURLs":["http://p"]}"#;
        let members = [
            ("/0/members/7/raftAttributes", member),
            ("/0/members/8/raftAttributes", member),
        ];
        for (voters, fault) in [
            (&[7, 8][..], None),
            (&[7, 8, 9], None),
            (&[7], None),
            (
                &[7, 8, 9, 10],
                Some(Reason::NoMajority {
                    voters: 4,
                    listed: 2,
                }),
            ),
            (
                &[9],
                Some(Reason::NoMajority {
                    voters: 1,
                    listed: 0,
                }),
            ),
        ] {
            let nodes: Vec<_> = voters.iter().copied().map(MemberId).collect();
            let server = Server::loaded(V2_1, store(&members), false, &nodes);
            assert_eq!(server.majority_fault(), fault, "{voters:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_passed_over_changes_nothing_for_any_line(
            method in prop::sample::select(vec!["PUT", "POST", "DELETE", "QGET", "SYNC", "GET", ""]),
            path in prop::sample::select(vec!["/1/a", "/1/0/members/a/attributes", "/0/version", "/1/./a", "", "/2/a"]),
            val in prop::collection::vec(any::<u8>(), 0..9),
            numbers: (u64, u64, i64, i64), flags: (bool, Option<bool>, bool),
        ) {
            let request = Request {
                id: Some(numbers.0),
                method: Some(method.into()),
                path: Some(path.into()),
                val: Some(val),
                prev_index: Some(numbers.1),
                expiration: Some(numbers.2),
                time: Some(numbers.3),
                dir: Some(flags.0),
                prev_exist: flags.1,
                recursive: Some(flags.2),
                ..Request::default()
            };
            let entry = entry(&request);
            if !is_plain_client_write(&entry.data) {
                return Ok(());
            }
            for mut server in servers(|line| Server::new(line, false)) {
                let before = server.store.index();
                server.apply(&entry, 1);
                prop_assert_eq!((&server.entry_fault, server.store.index()), (&None, before));
            }
        }
    }
}
