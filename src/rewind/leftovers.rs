//! What a removed member left in the store by publishing its attributes after its removal.
//!
//! In: a store, a raft snapshot file, entries. Out: the same without it. No server of 2.x starts from
//! such data (formats page, "When a server starts"), so a rewind drops it.
//!
//! An entry is never removed, since indexes must not change. The late publish becomes a write to the
//! marker of the removed member: the store's index rises by one as it did on the servers, so that all
//! later keys keep their indexes and in-order names, and no server reads the marker's value.
//! 2.3 does not apply a late publish; there the entry becomes an empty one, like a new leader's first.

use std::collections::BTreeMap;

use prost::Message;
use prost::encoding::decode_varint;

use crate::etcd::ids::{Index, MemberId};
use crate::etcd::proto::{Entry, Request};
use crate::etcd::raft_snapshot::{SnapshotFacts, write};
use crate::etcd::start::V2_3;
use crate::etcd::store::Store;
use crate::etcd::wal::log::EntryView;

const MEMBERS: &[u8] = b"/0/members";
const REMOVED: &[u8] = b"/0/removed_members";

/// Leftovers by member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    pub members: BTreeMap<MemberId, Found>,
    /// The entries that publish them, each with the record data to write instead.
    pub(crate) entries: BTreeMap<Index, Vec<u8>>,
}

/// Where a member's leftover was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Whether it is in the raft snapshot that the new logs begin from.
    pub in_snapshot: bool,
    pub entries: Vec<Index>,
}

impl Leftovers {
    /// Those in the store of a raft snapshot: of members that were removed, or have no peer URLs.
    pub(crate) fn in_snapshot(store: &Store) -> Self {
        let mut found = Self::default();
        let top = store.get(MEMBERS);
        for member in top.into_iter().flat_map(|top| store.children(top)) {
            let name = store.node(member).name();
            let is_half = store.child(member, b"raftAttributes").is_none();
            if (is_half || is_removed(store, name))
                && let Some(id) = id_of(name)
            {
                found.members.entry(id).or_default().in_snapshot = true;
            }
        }
        found
    }

    /// Whether the raft snapshot holds one.
    pub(crate) fn is_in_snapshot(&self) -> bool {
        self.members.values().any(|found| found.in_snapshot)
    }

    /// What to apply to `store` instead of `entry`, if it is a late publish.
    pub(crate) fn replace(&mut self, store: &Store, entry: &EntryView<'_>) -> Option<Vec<u8>> {
        let (member, marker, id) = late_publish(store, entry)?;
        let data = if store.cluster_release() >= Some(V2_3) {
            Vec::new()
        } else {
            Request {
                id,
                method: Some(b"PUT".to_vec()),
                path: Some(marker),
                ..Request::default()
            }
            .encode_to_vec()
        };
        let record = Entry {
            kind: Some(0),
            term: Some(entry.term.0),
            index: Some(entry.index.0),
            data: Some(data.clone()),
        };
        let found = self.members.entry(member).or_default();
        found.entries.push(entry.index);
        self.entries.insert(entry.index, record.encode_to_vec());
        Some(data)
    }

    /// The raft snapshot `file` without leftovers; `None` if it is not framed as etcd frames it.
    pub(crate) fn out_of_snapshot(&self, file: &[u8], facts: &SnapshotFacts) -> Option<Vec<u8>> {
        let mut json = json_of(file)?.to_vec();
        let held = self.members.iter().filter(|(_, found)| found.in_snapshot);
        for (id, _) in held {
            let node = node_in(&json, *id)?;
            json.drain(node);
        }
        let nodes = facts.nodes.iter().copied();
        let nodes: Vec<_> = nodes.filter(|id| !self.members.contains_key(id)).collect();
        Some(write(facts.id, &nodes, &json))
    }
}

fn id_of(name: &[u8]) -> Option<MemberId> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

fn is_removed(store: &Store, name: &[u8]) -> bool {
    let removed = store.get(REMOVED);
    removed.is_some_and(|top| store.child(top, name).is_some())
}

/// The member of a late publish, with the store path of that member's marker and the request's id.
fn late_publish(store: &Store, entry: &EntryView<'_>) -> Option<(MemberId, Vec<u8>, Option<u64>)> {
    // Most entries need no second decoding.
    memchr::memmem::find(entry.data, MEMBERS).filter(|_| entry.kind == 0)?;
    let request = Request::in_entry(entry.data).ok()??;
    let is_set = request.method.as_deref() == Some(b"PUT") && request.prev_exist.is_none();
    let path = request.path.as_deref().filter(|_| is_set)?;
    let name = path
        .strip_prefix(MEMBERS)?
        .strip_prefix(b"/")?
        .strip_suffix(b"/attributes")?;
    let id = id_of(name).filter(|_| is_removed(store, name))?;
    Some((id, [REMOVED, b"/", name].concat(), request.id))
}

/// The store's JSON in a raft snapshot file.
fn json_of(file: &[u8]) -> Option<&[u8]> {
    let mut rest = file.strip_prefix(&[0x08])?;
    decode_varint(&mut rest).ok()?;
    for tag in [0x12, 0x0a] {
        rest = rest.strip_prefix(&[tag])?;
        let length = decode_varint(&mut rest).ok()?;
        rest = rest.get(..usize::try_from(length).ok()?)?;
    }
    Some(rest)
}

/// The byte range of a member's node in a store's JSON, with one comma if it has a neighbour.
fn node_in(json: &[u8], id: MemberId) -> Option<std::ops::Range<usize>> {
    // Quotes are escaped inside values, so no value holds this text.
    let needle = format!(r#""{id}":{{"Path":"/0/members/{id}""#);
    let start = memchr::memmem::find(json, needle.as_bytes())?;
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let mut end = None;
    for (at, &byte) in json.iter().enumerate().skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            b'{' if !in_text => depth += 1,
            b'}' if !in_text => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    end = Some(at + 1);
                    break;
                }
            }
            _ => {}
        }
    }
    let end = end?;
    let before = start.checked_sub(1).and_then(|at| json.get(at));
    match (before, json.get(end)) {
        (Some(b','), _) => Some(start - 1..end),
        (_, Some(b',')) => Some(start..end + 1),
        _ => Some(start..end),
    }
}
