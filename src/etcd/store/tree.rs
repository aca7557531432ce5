//! Builds trees of the v2 store while the JSON of a saved one is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::etcd::store::fingerprint::Facts;
use crate::etcd::store::value::Value;
use crate::etcd::store::{Content, Node, NodeId, Store, directory};

#[derive(Debug)]
pub(super) struct Trees {
    pub(super) whole: Option<Tree>,
    pub(super) start: Option<Tree>,
    pub(super) is_start_whole: bool,
}

impl Trees {
    /// The trees that need the node at `path`.
    pub(super) fn at(&mut self, path: &[u8]) -> impl Iterator<Item = &mut Tree> {
        let is_in_start =
            self.is_start_whole || path.is_empty() || path == b"/0" || path.starts_with(b"/0/");
        let start = self.start.as_mut().filter(|_| is_in_start);
        self.whole.iter_mut().chain(start)
    }
}

#[derive(Debug)]
pub(super) struct Tree {
    store: Store,
    /// The open directories, each with its children so far.
    open: Vec<(NodeId, Vec<Child>)>,
}

type Child = (Arc<[u8]>, NodeId);

impl Default for Tree {
    fn default() -> Self {
        Self {
            store: Store::bare(),
            open: Vec::new(),
        }
    }
}

impl Tree {
    pub(super) fn open(&mut self, name: &[u8], facts: Facts) {
        let id = self.add(name, facts, directory());
        self.open.push((id, Vec::new()));
    }

    pub(super) fn close(&mut self) {
        if let Some((id, mut children)) = self.open.pop() {
            self.leave_out_doubles(&mut children);
            // In the order of the names, as etcd writes them: built in one go.
            let children = children.into_iter().collect();
            self.store.node_mut(id).content = Content::Directory(children);
        }
    }

    /// Removes duplicates: of two fields with the same name Go keeps the last.
    fn leave_out_doubles(&mut self, children: &mut Vec<Child>) {
        if children.is_sorted_by(|(a, _), (b, _)| a < b) {
            return;
        }
        let last: BTreeMap<_, _> = children.iter().cloned().collect();
        for (name, id) in children.drain(..) {
            if last.get(&name) != Some(&id) {
                self.store.detach(id);
            }
        }
        children.extend(last);
    }

    pub(super) fn key(&mut self, name: &[u8], facts: Facts, value: Value) {
        self.add(name, facts, Content::Key(value));
    }

    fn add(&mut self, name: &[u8], facts: Facts, content: Content) -> NodeId {
        let Some((parent, children)) = self.open.last_mut() else {
            let root = self.store.node_mut(NodeId::ROOT);
            root.created = facts.created;
            root.modified = facts.modified;
            return NodeId::ROOT;
        };
        let name: Arc<[u8]> = Arc::from(name);
        let id = self.store.place(Node {
            parent: *parent,
            name: Arc::clone(&name),
            created: facts.created,
            modified: facts.modified,
            expires: None,
            content,
        });
        children.push((name, id));
        if facts.expires.is_some() {
            self.store.set_expiry(id, facts.expires);
        }
        id
    }

    pub(super) fn finish(mut self, index: u64) -> Store {
        self.store.index = index;
        self.store.nodes.shrink_to_fit();
        self.store
    }
}
