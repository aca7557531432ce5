//! etcd's v2 store in memory: a tree of keys and directories, and the index that counts changes.
//!
//! ```text
//! from_json.rs    a raft snapshot's JSON, in pieces  ->  a Store, its cluster facts
//! fingerprint.rs  a Store, or its JSON  ->  a digest of its state
//! ops.rs          create, set, update, compare, delete, expire: the rules of `store/store.go`
//! apply.rs        a log entry  ->  the operation it asks for
//! path.rs         store paths, cleaned as etcd does
//! tree.rs         builds the tree from a saved store
//! value.rs        a key's value, as it was read
//! to_json.rs      a Store  ->  the JSON of etcd's API
//! diff.rs         two Stores  ->  their differences
//! reduced.rs      two Stores, one at a time  ->  what of them differs
//! stats.rs        a Store  ->  numbers and sizes of its keys
//! ```
//!
//! Nodes are in one arena and refer to each other by number: a tree of any depth is built, walked
//! and dropped without recursion. Memory is that of names and values and some 150 bytes a node.
//! Source: `store/node.go`, `store/store.go` at etcd 2.1.3 and 2.2.5 (formats page §3, §5).

pub mod apply;
pub mod diff;
pub mod fingerprint;
pub mod from_json;
pub mod ops;
pub mod path;
pub mod reduced;
pub mod rules;
pub mod stats;
#[cfg(test)]
mod tests;
pub mod to_json;
mod tree;
pub mod value;

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::sync::Arc;

use crate::etcd::store::path::components;
use crate::etcd::store::value::Value;

/// The cluster's own keys.
pub const CLUSTER: &str = "0";
/// The users' keys: `/1/foo` is the API's `/foo`.
pub const KEYS: &str = "1";

/// A time in nanoseconds since 1970, as in a request.
pub type UnixNanos = i64;

/// A node's position in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    pub const ROOT: Self = Self(0);
}

#[derive(Clone, Debug)]
pub struct Node {
    parent: NodeId,
    name: Arc<[u8]>,
    /// The store's index when it was made.
    pub created: u64,
    /// The store's index when it last changed.
    pub modified: u64,
    /// When it expires; `None` means never.
    pub expires: Option<UnixNanos>,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub enum Content {
    Key(Value),
    /// Nodes by name, in the order of their bytes.
    Directory(BTreeMap<Arc<[u8]>, NodeId>),
}

impl Node {
    /// Its name in its directory; empty for the root.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    pub fn is_dir(&self) -> bool {
        matches!(self.content, Content::Directory(_))
    }

    /// Its value; `None` for a directory.
    pub fn value(&self) -> Option<&Value> {
        match &self.content {
            Content::Key(value) => Some(value),
            Content::Directory(_) => None,
        }
    }

    /// Whether the API leaves it out of listings.
    pub fn is_hidden(&self) -> bool {
        self.name.first() == Some(&b'_')
    }
}

/// Seconds from `now` until `expires`, rounded up as etcd shows them.
pub fn seconds_left(expires: UnixNanos, now: UnixNanos) -> i64 {
    const SECOND: UnixNanos = 1_000_000_000;
    let left = expires.saturating_sub(now).saturating_add(SECOND - 1);
    left.div_euclid(SECOND)
}

/// A store at one index.
#[derive(Clone, Debug)]
pub struct Store {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    index: u64,
    /// Every node that expires, soonest first.
    expiries: BTreeSet<(UnixNanos, NodeId)>,
    /// How many requests were a refresh.
    refreshes: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// An empty store as a new member has it: index 0 and the directories `/`, `/0` and `/1`.
    pub fn new() -> Self {
        let mut store = Self::bare();
        for name in [CLUSTER, KEYS] {
            store.attach(NodeId::ROOT, name.as_bytes(), directory());
        }
        store
    }

    fn bare() -> Self {
        Self {
            nodes: vec![Node {
                parent: NodeId::ROOT,
                name: Arc::from(&b""[..]),
                created: 0,
                modified: 0,
                expires: None,
                content: directory(),
            }],
            free: Vec::new(),
            index: 0,
            expiries: BTreeSet::new(),
            refreshes: 0,
        }
    }

    /// The number of changes so far: `CurrentIndex`, the API's `X-Etcd-Index`.
    pub fn index(&self) -> u64 {
        self.index
    }

    pub(crate) fn refreshes(&self) -> u64 {
        self.refreshes
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// The node at a store path, such as `/1/foo`.
    pub fn get(&self, path: &[u8]) -> Option<NodeId> {
        let mut names = components(path).into_iter();
        names.try_fold(NodeId::ROOT, |at, name| self.child(at, name))
    }

    pub fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        match &self.node(directory).content {
            Content::Directory(children) => children.get(name).copied(),
            Content::Key(_) => None,
        }
    }

    /// The children of a directory, in the order of the names' bytes; none for a key.
    pub fn children(&self, directory: NodeId) -> impl Iterator<Item = NodeId> {
        let children = match &self.node(directory).content {
            Content::Directory(children) => Some(children.values().copied()),
            Content::Key(_) => None,
        };
        children.into_iter().flatten()
    }

    pub fn path(&self, id: NodeId) -> Vec<u8> {
        let mut names: Vec<_> = self.upwards(id).map(|id| self.node(id).name()).collect();
        names.reverse();
        path::join(&names)
    }

    /// The node and the directories that it is in, up to but without the root.
    pub fn upwards(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        let below_root = |id: &NodeId| *id != NodeId::ROOT;
        std::iter::successors(Some(id), |id| Some(self.node(*id).parent)).take_while(below_root)
    }

    /// When it goes: the first instant at which it, or a directory that it is in, expires.
    pub fn gone_at(&self, id: NodeId) -> Option<UnixNanos> {
        let expiries = self.upwards(id).map(|id| self.node(id).expires);
        expiries.flatten().min()
    }

    /// Walks from `top` down, each directory before its children.
    pub fn walk(&self, top: NodeId) -> Walk<'_> {
        Walk {
            store: self,
            path: match top {
                NodeId::ROOT => Vec::new(),
                top => self.path(top),
            },
            top: Some(top),
            open: Vec::new(),
            depth: 0,
        }
    }

    /// Every node that expires and when, soonest first.
    pub fn expiries(&self) -> impl Iterator<Item = (UnixNanos, NodeId)> {
        self.expiries.iter().copied()
    }

    /// Adds a new node to a directory; `created` and `modified` are 0, and it never expires.
    fn attach(&mut self, parent: NodeId, name: &[u8], content: Content) -> NodeId {
        let name: Arc<[u8]> = Arc::from(name);
        let node = Node {
            parent,
            name: Arc::clone(&name),
            created: 0,
            modified: 0,
            expires: None,
            content,
        };
        let id = self.place(node);
        if let Content::Directory(children) = &mut self.node_mut(parent).content {
            children.insert(name, id);
        }
        id
    }

    fn place(&mut self, node: Node) -> NodeId {
        if let Some(id) = self.free.pop() {
            *self.node_mut(id) = node;
            id
        } else {
            let id = NodeId(self.nodes.len() as u32);
            self.nodes.push(node);
            id
        }
    }

    fn set_expiry(&mut self, id: NodeId, expires: Option<UnixNanos>) {
        let before = std::mem::replace(&mut self.node_mut(id).expires, expires);
        if let Some(before) = before {
            self.expiries.remove(&(before, id));
        }
        if let Some(expires) = expires {
            self.expiries.insert((expires, id));
        }
    }

    /// Removes a node from its directory, with all below it.
    fn detach(&mut self, id: NodeId) {
        let (parent, name) = {
            let node = self.node(id);
            (node.parent, Arc::clone(&node.name))
        };
        if let Content::Directory(children) = &mut self.node_mut(parent).content {
            children.remove(&name);
        }
        let mut gone = vec![id];
        while let Some(id) = gone.pop() {
            self.set_expiry(id, None);
            let empty = Content::Key(Value::default());
            if let Content::Directory(children) =
                std::mem::replace(&mut self.node_mut(id).content, empty)
            {
                gone.extend(children.into_values());
            }
            self.free.push(id);
        }
    }
}

fn directory() -> Content {
    Content::Directory(BTreeMap::new())
}

/// The length of its path, and its children still to be walked.
type OpenDirectory<'s> = (usize, btree_map::Values<'s, Arc<[u8]>, NodeId>);

/// A walk through a part of the store, without recursion.
#[derive(Debug)]
pub struct Walk<'s> {
    store: &'s Store,
    /// The first node, until it is visited.
    top: Option<NodeId>,
    /// The path of the current node, without a `/` at the end; empty for the root.
    path: Vec<u8>,
    open: Vec<OpenDirectory<'s>>,
    /// How many directories the current node is in.
    depth: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Key(NodeId),
    /// A directory; its children follow.
    Open(NodeId),
    /// The end of the last opened directory.
    Close,
}

impl Walk<'_> {
    pub fn step(&mut self) -> Option<Step> {
        let id = if let Some(top) = self.top.take() {
            top
        } else {
            let (length, children) = self.open.last_mut()?;
            self.path.truncate(*length);
            let Some(&id) = children.next() else {
                self.open.pop();
                return Some(Step::Close);
            };
            self.path.push(b'/');
            self.path.extend_from_slice(self.store.node(id).name());
            id
        };
        self.depth = self.open.len();
        match &self.store.node(id).content {
            Content::Key(_) => Some(Step::Key(id)),
            Content::Directory(children) => {
                self.open.push((self.path.len(), children.values()));
                Some(Step::Open(id))
            }
        }
    }

    /// The next node, of either kind.
    pub fn next_node(&mut self) -> Option<NodeId> {
        loop {
            match self.step()? {
                Step::Key(id) | Step::Open(id) => return Some(id),
                Step::Close => {}
            }
        }
    }

    /// Skips the children of the last opened directory; its [`Step::Close`] still comes.
    pub fn skip(&mut self) {
        if let Some((_, children)) = self.open.last_mut() {
            while children.next().is_some() {}
        }
    }

    /// How many directories below the top the current node is.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The store path of the current node; empty for the root.
    pub fn path(&self) -> &[u8] {
        &self.path
    }
}
