//! The cluster's own keys in a stored v2 store: its version and its members.
//!
//! In: the store's JSON in pieces. Out: what stands under `/0` (formats page §4). Go writes the
//! children of a node in the order of their names, so `/0` comes before the users' keys and the
//! first few KiB hold it; nothing behind it is kept. Source: `store/store.go` `Save` at 2.1.3.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::ground::ids::{ClusterVersion, MemberId};

/// How much JSON is kept at most while `/0` is not complete, in bytes.
const MAX_PREFIX: usize = 16 << 20;
/// When the beginning is first looked at, in bytes; then at each fourfold of it.
const FIRST_LOOK: usize = 16 << 10;

/// A member as the cluster knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty until it has published itself.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has published itself.
    pub client_urls: Vec<String>,
}

/// What a store says about its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFacts {
    /// `/0/version`; absent in a 2.0 cluster and before the first decision.
    pub cluster_version: Option<ClusterVersion>,
    /// `/0/members`.
    pub members: BTreeMap<MemberId, Member>,
    /// `/0/removed_members`.
    pub removed: BTreeSet<MemberId>,
}

/// What can be wrong with a stored store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    /// The JSON is not what etcd writes.
    #[error("the store is not etcd's JSON: {0}")]
    Json(String),
    /// The cluster's part did not come where etcd writes it.
    #[error("no cluster keys in the first {} MB of the store", MAX_PREFIX / 1_000_000)]
    TooFar,
    /// A cluster key holds what etcd does not write there.
    #[error("unreadable cluster key {key}")]
    Key {
        /// The store path.
        key: String,
    },
}

/// `raftAttributes` of a member, and what it looks like in a conf change's context.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RaftAttributes {
    #[serde(rename = "peerURLs", default)]
    pub(crate) peer_urls: Option<Vec<String>>,
}

/// `attributes` of a member.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Attributes {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(rename = "clientURLs", default)]
    pub(crate) client_urls: Option<Vec<String>>,
}

/// A stored store being read.
#[derive(Debug)]
pub struct StoreFactsScan {
    prefix: Vec<u8>,
    look_at: usize,
    found: Option<Result<StoreFacts, StoreFault>>,
}

impl Default for StoreFactsScan {
    fn default() -> Self {
        Self {
            prefix: Vec::new(),
            look_at: FIRST_LOOK,
            found: None,
        }
    }
}

impl StoreFactsScan {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        if self.found.is_some() {
            return;
        }
        let room = MAX_PREFIX.saturating_sub(self.prefix.len());
        self.prefix
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        if self.prefix.len() >= self.look_at {
            self.look_at = self.prefix.len() * 4;
            self.look(false);
        }
        if self.found.is_none() && self.prefix.len() >= MAX_PREFIX {
            self.found = Some(Err(StoreFault::TooFar));
        }
    }

    /// What the store says of its cluster.
    pub fn finish(mut self) -> Result<StoreFacts, StoreFault> {
        if self.found.is_none() {
            self.look(true);
        }
        self.found.unwrap_or_else(|| Ok(StoreFacts::default()))
    }

    fn look(&mut self, at_end: bool) {
        let mut cluster = None;
        let mut json = serde_json::Deserializer::from_slice(&self.prefix);
        let outcome = Descend {
            path: &["Root", "Children", "0"],
            found: &mut cluster,
        }
        .deserialize(&mut json);
        self.found = match (cluster, outcome) {
            (Some(node), _) => Some(read_cluster(node)),
            (None, Err(error)) if at_end || !error.is_eof() => {
                Some(Err(StoreFault::Json(error.to_string())))
            }
            (None, Err(_)) => None,
            (None, Ok(())) => Some(Ok(StoreFacts::default())),
        };
        if self.found.is_some() {
            self.prefix = Vec::new();
        }
    }
}

/// A node of the stored store.
#[derive(Debug, Deserialize)]
struct Node {
    #[serde(rename = "Value", default)]
    value: String,
    #[serde(rename = "Children", default)]
    children: Option<BTreeMap<String, Node>>,
}

/// Goes down a path of object keys, keeps what is there, and ends the reading with an error:
/// what follows is of no interest and may not even be at hand yet.
struct Descend<'p> {
    path: &'static [&'static str],
    found: &'p mut Option<Node>,
}

impl<'de> DeserializeSeed<'de> for Descend<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.path.is_empty() {
            *self.found = Some(Node::deserialize(deserializer)?);
            return Err(D::Error::custom("found"));
        }
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Descend<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.path.split_first() {
                Some((wanted, path)) if *wanted == key => map.next_value_seed(Descend {
                    path,
                    found: &mut *self.found,
                })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

fn read_cluster(cluster: Node) -> Result<StoreFacts, StoreFault> {
    let mut facts = StoreFacts::default();
    for (name, node) in cluster.children.unwrap_or_default() {
        let children = node.children.unwrap_or_default();
        match name.as_str() {
            "version" => {
                let version = node.value.parse().map_err(|_| bad_key("/0/version"))?;
                facts.cluster_version = Some(version);
            }
            "members" => {
                for (id, node) in children {
                    let member = read_member(&id, node)?;
                    facts.members.insert(member.id, member);
                }
            }
            "removed_members" => {
                for id in children.keys() {
                    let key = || bad_key(&format!("/0/removed_members/{id}"));
                    facts.removed.insert(id.parse().map_err(|_| key())?);
                }
            }
            _ => {}
        }
    }
    Ok(facts)
}

fn read_member(id: &str, node: Node) -> Result<Member, StoreFault> {
    let key = |leaf: &str| bad_key(&format!("/0/members/{id}{leaf}"));
    let mut member = Member {
        id: id.parse().map_err(|_| key(""))?,
        ..Member::default()
    };
    for (leaf, node) in node.children.unwrap_or_default() {
        match leaf.as_str() {
            "raftAttributes" => {
                let found: RaftAttributes =
                    serde_json::from_str(&node.value).map_err(|_| key("/raftAttributes"))?;
                member.peer_urls = found.peer_urls.unwrap_or_default();
            }
            "attributes" => {
                let found: Attributes =
                    serde_json::from_str(&node.value).map_err(|_| key("/attributes"))?;
                member.name = found.name;
                member.client_urls = found.client_urls.unwrap_or_default();
            }
            _ => {}
        }
    }
    Ok(member)
}

fn bad_key(key: &str) -> StoreFault {
    StoreFault::Key {
        key: key.to_owned(),
    }
}
