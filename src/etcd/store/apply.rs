//! Applies a log entry to the store, as etcd does.
//!
//! In: an entry's kind and data. Out: what it did.
//! Source: `applyRequest` and `applyConfChange` in `etcdserver/server.go`, `etcdserver/cluster.go`
//! at etcd 2.1.3, 2.2.5 and 2.3.8, `etcdserver/apply_v2.go` at 3.4.23 (formats page §5).

use std::collections::BTreeMap;

use prost::Message;
use serde::{Deserialize, Serialize};

use crate::etcd::ids::{ClusterVersion, MemberId, Release, V2_3};
use crate::etcd::membership::{StoreFacts, StoreFault};
use crate::etcd::proto::{ConfChange, Request};
use crate::etcd::store::ops::{Condition, InOrderNames, Refusal, Write};
use crate::etcd::store::rules::InOrderRules;
use crate::etcd::store::to_json::go_text;
use crate::etcd::store::{NodeId, Store};

pub use crate::etcd::store::ops::InOrderNames as Names;

/// The most members that are accepted: raft is not used with a hundredth of them, and each conf change is
/// compared with all.
pub(crate) const MAX_MEMBERS: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It changes nothing: a new leader's first entry, a read, a request of the v3 store.
    Nothing,
    /// It was carried out.
    Done,
    /// It made an in-order child with this store path.
    CreatedInOrder(Vec<u8>),
    /// SYNC: this number of nodes expired.
    Expired(u64),
    /// The store refused it.
    Refused(Refusal),
    /// A conf change that is not valid, which etcd ignores.
    Invalid,
}

/// Why an entry is not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unapplied {
    /// etcd itself could not read it.
    Unreadable,
    /// It changes a cluster with more members than are accepted.
    TooManyMembers,
}

/// A member in the context of a conf change, or its raft attributes, with the fields of 3.4.
#[derive(Clone, Default, Deserialize)]
struct Context {
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", default)]
    is_learner: bool,
    #[serde(rename = "isPromote", default)]
    is_promote: bool,
}

/// `membership.RaftAttributes` as Go writes it.
#[derive(Serialize)]
struct RaftAttributes<'a> {
    #[serde(rename = "peerURLs")]
    peer_urls: Option<&'a [String]>,
    #[serde(rename = "isLearner", skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
}

impl Store {
    /// Applies an entry of `kind` (0 normal, 1 conf change) as a release of `rules` does.
    pub fn apply(
        &mut self,
        kind: u64,
        data: &[u8],
        rules: InOrderRules,
    ) -> Result<Applied, Unapplied> {
        if kind == 1 {
            let change = ConfChange::decode(data).map_err(|_| Unapplied::Unreadable)?;
            return self.apply_conf_change(&change);
        }
        if data.is_empty() {
            return Ok(Applied::Nothing);
        }
        match Request::in_entry(data) {
            Ok(Some(mut request)) => {
                if request.refresh == Some(true) {
                    self.refreshes += 1;
                    request.refresh = Some(rules.knows_refresh());
                }
                Ok(self.apply_request(&request, rules.names()))
            }
            Ok(None) => Ok(Applied::Nothing),
            Err(_) => Err(Unapplied::Unreadable),
        }
    }

    /// Applies a request of a client or of the cluster itself.
    pub fn apply_request(&mut self, request: &Request, names: InOrderNames) -> Applied {
        let path = request.path.as_deref().unwrap_or_default();
        let write = Write {
            value: request.val.as_deref().unwrap_or_default(),
            dir: request.dir.unwrap_or(false),
            expires: request.expiration.filter(|&expiration| expiration != 0),
            refresh: request.refresh.unwrap_or(false),
        };
        let condition = Condition {
            value: request.prev_value.as_deref().unwrap_or_default(),
            index: request.prev_index.unwrap_or(0),
        };
        let conditional = condition.index != 0 || !condition.value.is_empty();
        let outcome = match request.method.as_deref().unwrap_or_default() {
            b"POST" => {
                return match self.create_in_order(path, names, write) {
                    Ok(made) => Applied::CreatedInOrder(made),
                    Err(refusal) => Applied::Refused(refusal),
                };
            }
            b"PUT" => match request.prev_exist {
                Some(false) => self.create(path, write),
                Some(true) if !conditional => self.update(path, write),
                _ if conditional => self.compare_and_swap(path, condition, write),
                _ if self.publishes_removed_member(path)
                    && self.cluster_release() >= Some(V2_3) =>
                {
                    return Applied::Invalid;
                }
                _ => self.set(path, write),
            },
            b"DELETE" if conditional => self.compare_and_delete(path, condition),
            b"DELETE" => {
                let recursive = request.recursive.unwrap_or(false);
                self.delete(path, write.dir, recursive)
            }
            b"SYNC" => return Applied::Expired(self.expire(request.time.unwrap_or(0))),
            // QGET, and requests that etcd answers with an error.
            _ => return Applied::Nothing,
        };
        outcome.map_or_else(Applied::Refused, |()| Applied::Done)
    }

    /// Whether `path` is the attributes of a member that was removed: 2.3 and later ignore such a late
    /// publish, 2.1 and 2.2 write it (and no release starts from a raft snapshot that holds it).
    fn publishes_removed_member(&self, path: &[u8]) -> bool {
        let id = path
            .strip_prefix(b"/0/members/")
            .and_then(|rest| rest.strip_suffix(b"/attributes"));
        id.is_some_and(|id| {
            let removed = [b"/0/removed_members/", id].concat();
            !id.contains(&b'/') && self.get(&removed).is_some()
        })
    }

    pub(crate) fn cluster_release(&self) -> Option<Release> {
        let version = self.node(self.get(b"/0/version")?).value()?.bytes();
        let version: ClusterVersion = std::str::from_utf8(&version).ok()?.parse().ok()?;
        Some(version.release())
    }

    fn apply_conf_change(&mut self, change: &ConfChange) -> Result<Applied, Unapplied> {
        let id = MemberId(change.node_id.unwrap_or(0));
        let members = self.members()?;
        let context = || -> Result<Context, Unapplied> {
            let json = change.context.as_deref().unwrap_or_default();
            serde_json::from_slice(json).map_err(|_| Unapplied::Unreadable)
        };
        let known = members.contains_key(&id);
        let in_use = |context: &Context| {
            let others = members.iter().filter(|(other, _)| **other != id);
            let mut used = others.flat_map(|(_, other)| other.peer_urls.iter().flatten());
            let wanted = context.peer_urls.as_deref().unwrap_or_default();
            used.any(|url| wanted.contains(url))
        };
        let removed = format!("/0/removed_members/{id}");
        if self.get(removed.as_bytes()).is_some() {
            return Ok(Applied::Invalid);
        }
        match change.kind.unwrap_or(0) {
            // 3: a learner, from 3.4 on, which has at most one; a promotion is an addition with
            // no field but the id.
            0 | 3 => {
                let context = context()?;
                if context.is_promote {
                    let Some(learner) = members.get(&id).filter(|was| was.is_learner) else {
                        return Ok(Applied::Invalid);
                    };
                    let voter = Context {
                        is_learner: false,
                        ..learner.clone()
                    };
                    return Ok(self.write_raft_attributes(id, &voter, false));
                }
                let has_learner = members.values().any(|member| member.is_learner);
                let second_learner = context.is_learner && has_learner;
                if known || in_use(&context) || second_learner {
                    return Ok(Applied::Invalid);
                }
                Ok(self.write_raft_attributes(id, &context, true))
            }
            1 if known => {
                let _ = self.delete(format!("/0/members/{id}").as_bytes(), true, true);
                Ok(done(self.create(removed.as_bytes(), plain(b""))))
            }
            2 if known => {
                let context = context()?;
                if in_use(&context) {
                    return Ok(Applied::Invalid);
                }
                Ok(self.write_raft_attributes(id, &context, false))
            }
            1 | 2 => Ok(Applied::Invalid),
            _ => Err(Unapplied::Unreadable),
        }
    }

    /// The members with their raft attributes, if they have any.
    fn members(&self) -> Result<BTreeMap<MemberId, Context>, Unapplied> {
        let Some(top) = self.get(b"/0/members") else {
            return Ok(BTreeMap::new());
        };
        let mut members = BTreeMap::new();
        for member in self.children(top) {
            if members.len() == MAX_MEMBERS {
                return Err(Unapplied::TooManyMembers);
            }
            let id =
                std::str::from_utf8(self.node(member).name()).map_err(|_| Unapplied::Unreadable)?;
            let id = id.parse().map_err(|_| Unapplied::Unreadable)?;
            let attributes = self.child(member, b"raftAttributes");
            let context = match attributes.and_then(|node| self.node(node).value()) {
                Some(json) => {
                    serde_json::from_slice(&json.bytes()).map_err(|_| Unapplied::Unreadable)?
                }
                None => Context::default(),
            };
            members.insert(id, context);
        }
        Ok(members)
    }

    fn write_raft_attributes(&mut self, id: MemberId, context: &Context, new: bool) -> Applied {
        let attributes = RaftAttributes {
            peer_urls: context.peer_urls.as_deref(),
            is_learner: context.is_learner,
        };
        let json = serde_json::to_string(&attributes).unwrap_or_default();
        let path = format!("/0/members/{id}/raftAttributes");
        let (path, write) = (path.as_bytes(), go_text(&json));
        done(if new {
            self.create(path, plain(write.as_bytes()))
        } else {
            self.update(path, plain(write.as_bytes()))
        })
    }

    pub fn cluster_facts(&self) -> Result<StoreFacts, StoreFault> {
        let mut facts = StoreFacts::default();
        let Some(cluster) = self.child(NodeId::ROOT, crate::etcd::store::CLUSTER.as_bytes()) else {
            return Ok(facts);
        };
        let mut walk = self.walk(cluster);
        while let Some(id) = walk.next_node() {
            if let Some(value) = self.node(id).value() {
                facts.take(walk.path(), &value.bytes())?;
            }
        }
        Ok(facts)
    }
}

fn plain(value: &[u8]) -> Write<'_> {
    Write {
        value,
        dir: false,
        expires: None,
        refresh: false,
    }
}

fn done(outcome: Result<(), Refusal>) -> Applied {
    outcome.map_or_else(Applied::Refused, |()| Applied::Done)
}
