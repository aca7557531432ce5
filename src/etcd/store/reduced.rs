//! What two stores differ in, with only one of them in memory at a time.
//!
//! In: a [`Store`]. Out: [`Nodes`], by which another store can tell what is in it too, in 16 bytes a node; and a store with its
//! directories and only those of its keys that the other lacks. [`compare`](super::diff::compare) finds in two of these what it
//! finds in the whole ones: where it looks up a key, one of them lacks it.

use std::collections::btree_map;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use crate::etcd::json::tokens::go_utf8;
use crate::etcd::store::value::Value;
use crate::etcd::store::{Content, Node, NodeId, Step, Store, directory};

/// Hashes of a node's path, and of all else that differs between two stores. Their key is random: two
/// values cannot be chosen that look alike.
type NodeHash = (u64, u64);

/// The nodes of a store that is not in memory any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// The store's index.
    index: u64,
    /// In order.
    nodes: Vec<NodeHash>,
}

impl Nodes {
    fn has(&self, node: &NodeHash) -> bool {
        self.nodes.binary_search(node).is_ok()
    }

    /// Whether one of them is not in `other`, or not the same there.
    pub fn has_more_than(&self, other: &Self) -> bool {
        !self.nodes.iter().all(|node| other.has(node))
    }
}

/// Makes [`Nodes`] that can be compared with each other.
#[derive(Debug, Default)]
pub struct Reducer {
    state: RandomState,
}

impl Reducer {
    /// The nodes of `store`; and of its keys those that are not in `known`, if that is given, with all directories.
    pub fn reduce(&self, store: Store, known: Option<&Nodes>) -> (Nodes, Store) {
        let mut nodes = Vec::new();
        let mut is_kept = vec![false; store.nodes.len()];
        let mut walk = store.walk(NodeId::ROOT);
        // The hashes of the paths of the open directories.
        let mut open = Vec::new();
        while let Some(step) = walk.step() {
            let (Step::Key(id) | Step::Open(id)) = step else {
                open.pop();
                continue;
            };
            let node = store.node(id);
            let path = self.state.hash_one((open.last(), node.name()));
            if node.is_dir() {
                open.push(path);
            }
            let hash = (path, self.content(node));
            nodes.push(hash);
            if let Some(kept) = is_kept.get_mut(id.0 as usize) {
                *kept = known.is_some_and(|known| !known.has(&hash));
            }
        }
        nodes.sort_unstable();
        let index = store.index;
        let is_kept = |id: NodeId| is_kept.get(id.0 as usize) == Some(&true);
        (Nodes { index, nodes }, store.with_keys(is_kept))
    }

    fn content(&self, node: &Node) -> u64 {
        let value = node.value().map(Value::bytes);
        // Bytes that are not UTF-8 are replaced when the store is saved, at another time on each member.
        let value = value.as_deref().map(go_utf8);
        let facts = (node.expires, node.modified, node.created);
        self.state.hash_one((facts, value))
    }
}

impl Store {
    /// The store with all its directories, and of its keys those that `is_kept` is true of.
    fn with_keys(mut self, is_kept: impl Fn(NodeId) -> bool) -> Self {
        let mut reduced = Self {
            index: self.index,
            refreshes: self.refreshes,
            ..Self::bare()
        };
        let mut open = vec![(NodeId::ROOT, self.take_children(NodeId::ROOT))];
        reduced.take_facts(NodeId::ROOT, self.node(NodeId::ROOT));
        while let Some((parent, children)) = open.last_mut() {
            let Some(id) = children.next() else {
                open.pop();
                continue;
            };
            let name = Arc::clone(&self.node(id).name);
            if self.node(id).is_dir() {
                let copy = reduced.attach(*parent, &name, directory());
                reduced.take_facts(copy, self.node(id));
                open.push((copy, self.take_children(id)));
            } else if is_kept(id) {
                let gone = Content::Key(Value::default());
                let value = std::mem::replace(&mut self.node_mut(id).content, gone);
                let copy = reduced.attach(*parent, &name, value);
                reduced.take_facts(copy, self.node(id));
            }
        }
        reduced
    }

    fn take_children(&mut self, id: NodeId) -> btree_map::IntoValues<Arc<[u8]>, NodeId> {
        match std::mem::replace(&mut self.node_mut(id).content, directory()) {
            Content::Directory(children) => children.into_values(),
            Content::Key(_) => btree_map::BTreeMap::new().into_values(),
        }
    }

    fn take_facts(&mut self, id: NodeId, from: &Node) {
        let node = self.node_mut(id);
        (node.created, node.modified) = (from.created, from.modified);
        self.set_expiry(id, from.expires);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::etcd::proto::Request;
    use crate::etcd::store::apply::Names;
    use crate::etcd::store::diff::{Difference, Part, compare};

    type Told = (Vec<u8>, Vec<Part>, Option<Vec<u8>>, [Option<String>; 2]);

    /// What is told of the differences, with the nodes that they are of.
    fn told([a, b]: [&Store; 2]) -> Vec<Told> {
        let node = |store: &Store, id: Option<NodeId>| {
            let node = store.node(id?);
            let value = node.value().map(|value| value.bytes().into_owned());
            Some(format!(
                "{value:?} {:?} {} {}",
                node.expires, node.modified, node.created
            ))
        };
        let found = compare(a, b).into_iter();
        let told = found.map(
            |Difference {
                 path,
                 a: in_a,
                 b: in_b,
                 parts,
                 twin,
             }| { (path, parts, twin, [node(a, in_a), node(b, in_b)]) },
        );
        told.collect()
    }

    /// A request of few keys and values, so that two stores often have the same; `/1/q` gets in-order keys and directories.
    fn request() -> impl Strategy<Value = Request> {
        let paths = [
            "/1/a",
            "/1/d/b",
            "/1/d",
            "/1/q",
            "/1/q/1",
            "/1/q/00000000000000000001",
        ];
        let paths = paths
            .into_iter()
            .chain(["/1/q/2/x", "/1/q/00000000000000000002/x", "/"]);
        let path = proptest::sample::select(paths.collect::<Vec<_>>());
        let value = proptest::sample::select(vec![&b""[..], b"v", b"\xff", b"\xef\xbf\xbd"]);
        let method = proptest::sample::select(vec!["PUT", "PUT", "POST", "DELETE", "SYNC"]);
        let expires = proptest::option::of(1_i64..4);
        (method, path, value, expires, any::<bool>()).prop_map(
            |(method, path, value, expiration, flag)| Request {
                method: Some(method.into()),
                path: Some(path.into()),
                val: Some(value.into()),
                dir: Some(flag && method != "DELETE"),
                recursive: Some(flag),
                time: Some(2),
                expiration,
                ..Request::default()
            },
        )
    }

    proptest! {
        #[test]
        fn reduced_stores_differ_in_what_the_whole_ones_differ_in(
            common in proptest::collection::vec(request(), 0..12),
            rest in proptest::collection::vec(request(), 0..4),
            renames in any::<bool>(),
            (is_only_in_a, is_only_in_b) in any::<(bool, bool)>(),
        ) {
            let (mut a, mut b) = (Store::new(), Store::new());
            let names = if renames { Names::Padded } else { Names::Plain };
            for request in &common {
                a.apply_request(request, Names::Plain);
                b.apply_request(request, names);
            }
            for request in &rest {
                if !is_only_in_b {
                    a.apply_request(request, Names::Plain);
                }
                if !is_only_in_a {
                    b.apply_request(request, names);
                }
            }
            let expected = told([&a, &b]);
            let reducer = Reducer::default();
            let (nodes_a, directories) = reducer.reduce(a.clone(), None);
            let (nodes_b, reduced_b) = reducer.reduce(b, Some(&nodes_a));
            let (again, reduced_a) = reducer.reduce(a, Some(&nodes_b));
            prop_assert_eq!(&nodes_a, &again);
            prop_assert_eq!(told([&reduced_a, &reduced_b]), &expected[..]);
            if !nodes_a.has_more_than(&nodes_b) {
                // Then the first need not be read again.
                prop_assert_eq!(told([&directories, &reduced_b]), &expected[..]);
            }
            prop_assert_eq!(nodes_a == nodes_b, expected.is_empty() && reduced_a.index() == reduced_b.index());
        }
    }
}
