//! The new cluster after a rewind: its id, its term, its members.
//!
//! In: the store at the last kept entry, and the requested members. Out: the conf changes at the end of
//! every new log, and the resulting members. They are entries like any other, all committed:
//! a start applies them (proven on 2.1.3; formats page §7).

use std::collections::BTreeMap;

use jiff::Timestamp;
use prost::Message;
use serde::Serialize;

use crate::etcd::digest::Hasher;
use crate::etcd::ids::{ClusterId, Index, MemberId, Term};
use crate::etcd::membership::{Member, StoreFacts};
use crate::etcd::proto::{ConfChange, Entry};
use crate::etcd::store::Store;
use crate::etcd::store::apply::Applied;
use crate::etcd::store::rules::InOrderRules;
use crate::etcd::store::to_json::go_text;
use crate::rewind::RewindError;
use crate::rewind::input::{ReadInput, member_text};

/// Requested changes of the members.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemberChanges<'w> {
    /// The member, by name or id, that becomes the only one.
    pub single: Option<&'w str>,
    /// New peer URLs, each with the member's name or id; several of one member add up.
    pub peer_urls: &'w [(String, String)],
}

/// A conf change at the end of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    pub member: Member,
    pub index: Index,
    pub record: Vec<u8>,
}

/// What a conf change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Remove,
    /// `UpdateNode`: from then on the member has the peer URLs in [`Change::member`].
    Update,
}

/// A member as etcd's own API writes it into an update: `etcdserver.Member` without its empty fields.
#[derive(Serialize)]
struct Context<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
}

/// The conf changes that carry out `requested`, in an order in which each is valid, as entries of `term`
/// after entry `after`; they are applied to `store`.
pub(crate) fn changes(
    requested: MemberChanges<'_>,
    store: &mut Store,
    after: Index,
    term: Term,
) -> Result<Vec<Change>, RewindError> {
    let members = members_of(store, after)?;
    let mut wanted = Vec::new();
    if let Some(name) = requested.single {
        let alone = find(name, &members, after)?.id;
        let others = members.values().filter(|member| member.id != alone);
        wanted.extend(others.map(|member| (ChangeKind::Remove, member.clone())));
    }
    let mut urls: BTreeMap<MemberId, Vec<String>> = BTreeMap::new();
    for (name, url) in requested.peer_urls {
        check_url(url)?;
        let of = find(name, &members, after)?.id;
        let of = urls.entry(of).or_default();
        if !of.contains(url) {
            of.push(url.clone());
        }
    }
    for (id, peer_urls) in urls {
        let member = members.get(&id).cloned().unwrap_or_default();
        if wanted.iter().any(|(_, removed)| removed.id == id) {
            let name = member_text(Some(&member.name), id);
            return Err(RewindError::UrlOfRemoved(name));
        }
        if member.peer_urls != peer_urls {
            let member = Member {
                peer_urls,
                ..member
            };
            wanted.push((ChangeKind::Update, member));
        }
    }
    in_valid_order(wanted, store, after, term)
}

/// Applies each change as soon as it is valid: another member may have a URL until that one has moved.
fn in_valid_order(
    mut wanted: Vec<(ChangeKind, Member)>,
    store: &mut Store,
    after: Index,
    term: Term,
) -> Result<Vec<Change>, RewindError> {
    let mut done = Vec::new();
    let mut index = after;
    while !wanted.is_empty() {
        let mut waiting = Vec::new();
        let before = done.len();
        for (kind, member) in wanted {
            let data = conf_change(kind, &member);
            // How in-order keys are named does not matter to a conf change.
            match store.apply(1, &data, InOrderRules::Before22) {
                Ok(Applied::Done) => {
                    index = index.next();
                    let record = Entry {
                        kind: Some(1),
                        term: Some(term.0),
                        index: Some(index.0),
                        data: Some(data),
                    }
                    .encode_to_vec();
                    done.push(Change {
                        kind,
                        member,
                        index,
                        record,
                    });
                }
                _ => waiting.push((kind, member)),
            }
        }
        if let (true, Some((_, member))) = (done.len() == before, waiting.first()) {
            let name = member_text(Some(&member.name), member.id);
            return Err(RewindError::PeerUrlInUse(name));
        }
        wanted = waiting;
    }
    Ok(done)
}

fn conf_change(kind: ChangeKind, member: &Member) -> Vec<u8> {
    let (kind, context) = match kind {
        ChangeKind::Remove => (1, None),
        ChangeKind::Update => {
            let context = Context {
                id: member.id.0,
                peer_urls: &member.peer_urls,
            };
            let json = serde_json::to_string(&context).unwrap_or_default();
            (2, Some(go_text(&json).as_bytes().to_vec()))
        }
    };
    ConfChange {
        // 0, as etcd's own `--force-new-cluster` writes it: no client waits for the answer.
        id: Some(0),
        kind: Some(kind),
        node_id: Some(member.id.0),
        context,
    }
    .encode_to_vec()
}

/// The members in `store`; at least one.
pub(crate) fn members_of(
    store: &Store,
    at: Index,
) -> Result<BTreeMap<MemberId, Member>, RewindError> {
    // It comes from a verified raft snapshot, or from verified entries.
    let StoreFacts { members, .. } = store.cluster_facts().unwrap_or_default();
    if members.is_empty() {
        return Err(RewindError::NoMembers(at));
    }
    Ok(members)
}

/// The one member with the name or id `name`.
fn find<'m>(
    name: &str,
    members: &'m BTreeMap<MemberId, Member>,
    at: Index,
) -> Result<&'m Member, RewindError> {
    let named: Vec<_> = members
        .values()
        .filter(|member| member.name == name || member.id.to_string() == name)
        .collect();
    match named.as_slice() {
        [member] => Ok(member),
        named => {
            let known = members.values().map(|member| {
                let name = member_text(Some(&member.name), member.id);
                format!("{name} ({})", member.id)
            });
            Err(RewindError::Member {
                name: name.to_owned(),
                count: named.len(),
                at,
                known: known.collect::<Vec<_>>().join(", "),
            })
        }
    }
}

/// Checks a peer URL as etcd does: a scheme, a host, a port, and nothing after them.
fn check_url(url: &str) -> Result<(), RewindError> {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let port = rest.and_then(|rest| rest.rsplit_once(':'));
    let is_host = |host: &str| {
        let (bracketed, inner) = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(inner) => (true, inner),
            None => (false, host),
        };
        let fits = |c: char| {
            c.is_ascii_alphanumeric() || "-._".contains(c) || bracketed && ":%".contains(c)
        };
        !inner.is_empty() && inner.chars().all(fits)
    };
    match port {
        Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0) => {
            Ok(())
        }
        _ => Err(RewindError::PeerUrl(url.to_owned())),
    }
}

/// A cluster id that no other rewind has: a digest of all inputs and the time.
pub(crate) fn new_cluster_id(
    old: ClusterId,
    to: Index,
    read_inputs: &[ReadInput],
    now: Timestamp,
) -> ClusterId {
    let mut attempt = 0_u64;
    loop {
        let mut hasher = Hasher::default();
        hasher.update(b"etcd-ark rewind");
        hasher.update(&attempt.to_le_bytes());
        hasher.update(&old.0.to_le_bytes());
        hasher.update(&to.0.to_le_bytes());
        hasher.update(&now.as_nanosecond().to_le_bytes());
        for read_input in read_inputs {
            let position = &read_input.facts.position;
            hasher.update(&read_input.facts.identity.member_id.0.to_le_bytes());
            for number in [position.term.0, position.index.0, position.commit.0] {
                hasher.update(&number.to_le_bytes());
            }
            // The last entry's digest covers all before it.
            if let Some(last) = read_input.trace.entries.last() {
                hasher.update(last.digest.bytes());
            }
        }
        let digest = hasher.finish().0;
        let id = digest
            .first_chunk()
            .map_or(0, |eight| u64::from_le_bytes(*eight));
        if id != 0 && id != old.0 {
            return ClusterId(id);
        }
        attempt += 1;
    }
}
