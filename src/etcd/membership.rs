//! The cluster's own keys: its version and its members.
//!
//! In: keys below `/0` and their values. Out: the cluster's facts (formats page §4).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::etcd::ids::{ClusterVersion, MemberId};
use crate::etcd::json::go::{ATTRIBUTES, MemberJson, RAFT_ATTRIBUTES};
use crate::etcd::json::tokens::JsonFault;
use crate::etcd::text::printable;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub id: MemberId,
    /// Its name; empty until it has published itself.
    pub name: String,
    pub peer_urls: Vec<String>,
    /// Its client URLs; empty until it has published itself.
    pub client_urls: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFacts {
    /// `/0/version`; missing in a 2.0 cluster and before a version is written.
    pub cluster_version: Option<ClusterVersion>,
    /// `/0/members`.
    pub members: BTreeMap<MemberId, Member>,
    /// `/0/removed_members`.
    pub removed: BTreeSet<MemberId>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    /// The JSON is not what etcd writes.
    #[error("the store is not etcd's JSON: {0}")]
    Json(JsonFault),
    /// There is no tree in it.
    #[error("the store is not etcd's JSON: it has no root")]
    NoRoot,
    /// A cluster key has a value that etcd does not write there.
    #[error("unreadable cluster key {key}")]
    Key {
        /// The store path.
        key: String,
    },
}

impl StoreFacts {
    /// Takes a key of the store; ignores those that are not about the cluster.
    pub fn take(&mut self, path: &[u8], value: &[u8]) -> Result<(), StoreFault> {
        let bad_key = || StoreFault::Key {
            key: printable(&String::from_utf8_lossy(path)),
        };
        // The cluster's keys are at most four levels deep; the rest of a deeper path does not matter.
        let components: Vec<_> = path.splitn(6, |&byte| byte == b'/').skip(1).collect();
        if components.len() > 4 {
            return Ok(());
        }
        let texts = components.into_iter().map(std::str::from_utf8);
        let components: Vec<_> = texts.collect::<Result<_, _>>().map_err(|_| bad_key())?;
        match components.as_slice() {
            ["0", "version"] => {
                let version = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                self.cluster_version = Some(version.ok_or_else(bad_key)?);
            }
            ["0", "members", id, "raftAttributes"] => {
                let found = MemberJson::read(value, RAFT_ATTRIBUTES).ok_or_else(bad_key)?;
                self.member(id).ok_or_else(bad_key)?.peer_urls = found.peer_urls;
            }
            ["0", "members", id, "attributes"] => {
                let found = MemberJson::read(value, ATTRIBUTES).ok_or_else(bad_key)?;
                let member = self.member(id).ok_or_else(bad_key)?;
                member.name = found.name;
                member.client_urls = found.client_urls;
            }
            ["0", "removed_members", id] => {
                self.removed.insert(id.parse().map_err(|_| bad_key())?);
            }
            _ => {}
        }
        Ok(())
    }

    fn member(&mut self, id: &str) -> Option<&mut Member> {
        let id = id.parse().ok()?;
        let new = Member {
            id,
            ..Member::default()
        };
        Some(self.members.entry(id).or_insert(new))
    }
}
