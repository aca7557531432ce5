//! The differences between two stores.
//!
//! In: two [`Store`]s. Out: every node that is in one only or differs, in the order
//! of a walk; and which of them are one in-order key under two names (formats page §5).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::etcd::json::tokens::go_utf8;
use crate::etcd::store::ops::InOrderNames;
use crate::etcd::store::{NodeId, Store, Walk};

/// The longest path, in bytes, below which nodes that are in one store only are listed one by one. Paths add
/// up: those of a directory 100,000 deep are gigabytes.
const LONG_PATH: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Part {
    /// One is a key, the other a directory.
    #[serde(rename = "dir")]
    Dir,
    #[serde(rename = "value")]
    Value,
    #[serde(rename = "expiration")]
    Expiration,
    /// The store's index when it last changed.
    #[serde(rename = "modifiedIndex")]
    ModifiedIndex,
    /// The store's index when it was made.
    #[serde(rename = "createdIndex")]
    CreatedIndex,
}

impl Part {
    /// The names of `parts`, with commas.
    pub fn names(parts: &[Self]) -> String {
        let name = |part: &Self| match part {
            Self::Dir => "key or directory",
            Self::Value => "value",
            Self::Expiration => "expiry",
            Self::ModifiedIndex => "modified index",
            Self::CreatedIndex => "created index",
        };
        parts.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub path: Vec<u8>,
    /// The node in the first store.
    pub a: Option<NodeId>,
    pub b: Option<NodeId>,
    /// The parts that differ, if both have the node, even under another name.
    pub parts: Vec<Part>,
    /// The store path of the same in-order key in the other store, if it has another name there.
    pub twin: Option<Vec<u8>>,
}

pub fn compare(a: &Store, b: &Store) -> Vec<Difference> {
    let (mut in_a, mut in_b) = (Side::new(a), Side::new(b));
    let mut found = Vec::new();
    loop {
        let order = match (in_a.at, in_b.at) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            // A deeper node is below one that is only on its own side, or has more children there; at
            // the same depth both are in the same directory.
            (Some(at_a), Some(at_b)) => {
                let deeper_first = in_b.walk.depth().cmp(&in_a.walk.depth());
                deeper_first.then_with(|| a.node(at_a).name().cmp(b.node(at_b).name()))
            }
        };
        let one_sided = |path: &[u8], a, b| Difference {
            path: path.to_vec(),
            a,
            b,
            parts: Vec::new(),
            twin: None,
        };
        match order {
            Ordering::Less => {
                found.push(one_sided(in_a.walk.path(), in_a.at, None));
                in_a.leave_depths();
                in_a.advance();
            }
            Ordering::Greater => {
                found.push(one_sided(in_b.walk.path(), None, in_b.at));
                in_b.leave_depths();
                in_b.advance();
            }
            Ordering::Equal => {
                let parts = match (in_a.at, in_b.at) {
                    (Some(at_a), Some(at_b)) => parts(a, at_a, b, at_b),
                    _ => Vec::new(),
                };
                if !parts.is_empty() {
                    found.push(Difference {
                        parts,
                        ..one_sided(in_a.walk.path(), in_a.at, in_b.at)
                    });
                }
                in_a.advance();
                in_b.advance();
            }
        }
    }
    pair_twins(a, b, &mut found);
    found
}

struct Side<'s> {
    store: &'s Store,
    walk: Walk<'s>,
    at: Option<NodeId>,
}

impl<'s> Side<'s> {
    fn new(store: &'s Store) -> Self {
        let mut walk = store.walk(NodeId::ROOT);
        let at = walk.next_node();
        Self { store, walk, at }
    }

    /// Skips the children of the current node, if its path is long.
    fn leave_depths(&mut self) {
        let is_dir = |id| self.store.node(id).is_dir();
        if self.walk.path().len() > LONG_PATH && self.at.is_some_and(is_dir) {
            self.walk.skip();
        }
    }

    fn advance(&mut self) {
        self.at = self.walk.next_node();
    }
}

/// The parts in which two nodes differ.
pub fn parts(a: &Store, at_a: NodeId, b: &Store, at_b: NodeId) -> Vec<Part> {
    let (a, b) = (a.node(at_a), b.node(at_b));
    let same_value = match (a.value(), b.value()) {
        // Bytes that are not UTF-8 are replaced when the store is saved, at another time on each member.
        (Some(a), Some(b)) => {
            let (a, b) = (a.bytes(), b.bytes());
            a == b || go_utf8(&a) == go_utf8(&b)
        }
        _ => true,
    };
    let differs = [
        (a.is_dir() != b.is_dir(), Part::Dir),
        (!same_value, Part::Value),
        (a.expires != b.expires, Part::Expiration),
        (a.modified != b.modified, Part::ModifiedIndex),
        (a.created != b.created, Part::CreatedIndex),
    ];
    let found = differs.into_iter().filter(|(differs, _)| *differs);
    found.map(|(_, part)| part).collect()
}

/// An in-order key that one member named by the rules of 2.1 and the other by those of 2.2 is
/// missing on either side under the other's name. The children of such a directory are paired too.
/// The name is the store's index at its creation: numbers that clients choose are not in-order
/// names.
fn pair_twins(a: &Store, b: &Store, found: &mut [Difference]) {
    let mut renamed: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for difference in &mut *found {
        let (own, other, id) = match (difference.a, difference.b) {
            (Some(id), None) => (a, b, id),
            (None, Some(id)) => (b, a, id),
            _ => continue,
        };
        let cut = difference.path.iter().rposition(|&byte| byte == b'/');
        let (directory, name) = difference.path.split_at(cut.map_or(0, |at| at + 1));
        if let Some(number) = in_order_number(name) {
            let twins = [InOrderNames::Plain, InOrderNames::Padded].map(|names| {
                let mut path = directory.to_vec();
                path.extend_from_slice(names.name(number).as_bytes());
                path
            });
            let twin = twins.into_iter().find(|twin| *twin != difference.path);
            if let Some(twin) = twin
                && let Some(there) = other.get(&twin)
                && own.get(&twin).is_none()
                && (own.node(id).created == number || other.node(there).created == number)
            {
                difference.parts = parts(own, id, other, there);
                if own.node(id).is_dir() {
                    renamed.insert(difference.path.clone(), twin.clone());
                }
                difference.twin = Some(twin);
                continue;
            }
        }
        // Below a directory that has another name there.
        let above = ancestors(&difference.path).find_map(|at| {
            let twin = renamed.get(difference.path.get(..at)?)?;
            let rest = difference.path.get(at..)?;
            Some([twin.as_slice(), rest].concat())
        });
        if let Some(twin) = above
            && let Some(there) = other.get(&twin)
        {
            difference.parts = parts(own, id, other, there);
            difference.twin = Some(twin);
        }
    }
}

fn ancestors(path: &[u8]) -> impl Iterator<Item = usize> {
    let cuts = path.iter().enumerate().skip(1);
    cuts.filter(|(_, byte)| **byte == b'/').map(|(at, _)| at)
}

/// The store index in an in-order name, by the rules of 2.1 or of 2.2.
pub fn in_order_number(name: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(name).ok()?;
    let number: u64 = text.parse().ok()?;
    let is_name = [InOrderNames::Plain, InOrderNames::Padded]
        .into_iter()
        .any(|names| names.name(number) == text);
    is_name.then_some(number)
}
