//! Entries that change the cluster's own data: its version and its members.
//!
//! In: an entry's kind and data. Out: the change, and how it acts on [`StoreFacts`].
//! Source: `etcdserver/cluster.go` at 2.1.3 (formats page §4, §5).

use std::collections::BTreeSet;

use memchr::memchr_iter;
use prost::Message;

use crate::etcd::ids::{ClusterVersion, Index, MemberId};
use crate::etcd::json::go::{ATTRIBUTES, MEMBER, MemberJson};
use crate::etcd::membership::{Member, StoreFacts};
use crate::etcd::proto::{ConfChange, Request};

/// How far into an entry's data a cluster path may begin, in bytes: after an id, a method and
/// at most one outer message.
const PATH_WITHIN: usize = 64;

/// One change to the cluster's own keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterChange {
    /// `PUT /0/version`.
    Version(ClusterVersion),
    /// A member publishes its name and client URLs.
    Attributes {
        id: MemberId,
        name: String,
        client_urls: Vec<String>,
    },
    Add(Member),
    Remove(MemberId),
    /// A member's peer URLs change.
    Update(Member),
    /// A change that only later releases make, or a member that cannot be read.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedChange {
    pub index: Index,
    pub change: ClusterChange,
}

/// An entry that should change the cluster cannot be read.
#[derive(Clone, Copy, Debug)]
pub struct Unreadable;

impl ClusterChange {
    /// The change in an entry of `kind` (0 normal, 1 conf change), if it holds one.
    pub fn in_entry(kind: u64, data: &[u8]) -> Result<Option<Self>, Unreadable> {
        if kind == 1 {
            return Self::in_conf_change(data).map(Some);
        }
        let beginning = data.get(..PATH_WITHIN).unwrap_or(data);
        let mut slashes = memchr_iter(b'/', beginning);
        let is_cluster = |at: usize| beginning.get(at..at + 3) == Some(b"/0/");
        if !slashes.any(is_cluster) {
            return Ok(None);
        }
        match Request::in_entry(data) {
            Ok(Some(request)) => Self::in_request(&request),
            // Not a v2 request: its path bytes only look like a cluster key.
            Ok(None) | Err(_) => Ok(None),
        }
    }

    fn in_conf_change(data: &[u8]) -> Result<Self, Unreadable> {
        let change = ConfChange::decode(data).map_err(|_| Unreadable)?;
        let id = MemberId(change.node_id.filter(|&id| id != 0).ok_or(Unreadable)?);
        let context = change.context.as_deref().unwrap_or_default();
        let context = MemberJson::read(context, MEMBER);
        let member = context
            .filter(|context| context.id == id.0)
            .map(|context| Member {
                id,
                name: context.name,
                peer_urls: context.peer_urls,
                client_urls: context.client_urls,
            });
        Ok(match (change.kind.ok_or(Unreadable)?, member) {
            // 3: a learner, from 3.4 on.
            (0 | 3, Some(member)) => Self::Add(member),
            (1, _) => Self::Remove(id),
            (2, Some(member)) => Self::Update(member),
            _ => Self::Unknown,
        })
    }

    fn in_request(request: &Request) -> Result<Option<Self>, Unreadable> {
        let path = request.path.as_deref().unwrap_or_default();
        let is_put = request.method.as_deref() == Some(b"PUT");
        let (Ok(path), true) = (std::str::from_utf8(path), is_put) else {
            return Ok(None);
        };
        let value = request.val.as_deref().unwrap_or_default();
        if path == "/0/version" {
            let text = std::str::from_utf8(value).map_err(|_| Unreadable)?;
            return text
                .parse()
                .map(|v| Some(Self::Version(v)))
                .map_err(|_| Unreadable);
        }
        let id = path
            .strip_prefix("/0/members/")
            .and_then(|rest| rest.strip_suffix("/attributes"));
        // If the id is not hexadecimal, etcd treats the key like any other.
        let Some(id) = id.and_then(|id| id.parse().ok()) else {
            return Ok(None);
        };
        let attributes = MemberJson::read(value, ATTRIBUTES).ok_or(Unreadable)?;
        Ok(Some(Self::Attributes {
            id,
            name: attributes.name,
            client_urls: attributes.client_urls,
        }))
    }

    /// Changes `facts` as etcd does when it applies the entry; an invalid change does nothing.
    /// `urls` are the peer URLs in use.
    pub fn apply(&self, facts: &mut StoreFacts, urls: &mut BTreeSet<String>) {
        match self {
            Self::Version(version) => facts.cluster_version = Some(version.clone()),
            Self::Attributes {
                id,
                name,
                client_urls,
            } => {
                if let Some(member) = facts.members.get_mut(id) {
                    member.name.clone_from(name);
                    member.client_urls.clone_from(client_urls);
                }
            }
            Self::Add(member) => {
                let url_in_use = member.peer_urls.iter().any(|url| urls.contains(url));
                let known =
                    facts.members.contains_key(&member.id) || facts.removed.contains(&member.id);
                if !known && !url_in_use {
                    // The name in the context is not stored; the member publishes it itself.
                    let added = Member {
                        name: String::new(),
                        client_urls: Vec::new(),
                        ..member.clone()
                    };
                    urls.extend(added.peer_urls.iter().cloned());
                    facts.members.insert(member.id, added);
                }
            }
            Self::Remove(id) => {
                if let Some(gone) = facts.members.remove(id) {
                    for url in &gone.peer_urls {
                        urls.remove(url);
                    }
                    facts.removed.insert(*id);
                }
            }
            Self::Update(member) => {
                let others = facts.members.values().filter(|other| other.id != member.id);
                let mut used = others.flat_map(|other| &other.peer_urls);
                let url_in_use = used.any(|url| member.peer_urls.contains(url));
                if let Some(known) = facts.members.get_mut(&member.id)
                    && !url_in_use
                {
                    for url in &known.peer_urls {
                        urls.remove(url);
                    }
                    urls.extend(member.peer_urls.iter().cloned());
                    known.peer_urls.clone_from(&member.peer_urls);
                }
            }
            Self::Unknown => {}
        }
    }
}
