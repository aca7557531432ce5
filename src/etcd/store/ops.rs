//! The operations of etcd's v2 store, with the same effects and refusals.
//!
//! In: an operation on a [`Store`]. Out: what it did. A refused operation changes neither the
//! tree nor the index. Source: `store/store.go`, `store/node.go` at etcd 2.1.3 and 2.2.5, the
//! same in 3.4.23 (formats page §5).

use crate::etcd::store::path::components;
use crate::etcd::store::{Content, NodeId, Store, UnixNanos, directory};

/// On create and set an earlier expiry is ignored: 2000-01-01, etcd's `minExpireTime`.
const MIN_EXPIRE_TIME: UnixNanos = 946_684_800_000_000_000;
/// Paths that no request may write: the store's root and its namespaces.
const READ_ONLY: [&[&[u8]]; 3] = [&[], &[b"0"], &[b"1"]];

/// Why the store refuses an operation, by the names of etcd's error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 100: the path does not exist.
    KeyNotFound,
    /// 101: the node does not match the condition.
    TestFailed,
    /// 102: a directory where a key is needed.
    NotFile,
    /// 104: a key where a directory is needed.
    NotDir,
    /// 105: the path exists.
    NodeExist,
    /// 107: the path is read-only.
    RootReadOnly,
    /// 108: the directory is not empty.
    DirNotEmpty,
}

#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The value; ignored for a directory.
    pub value: &'a [u8],
    pub dir: bool,
    pub expires: Option<UnixNanos>,
    /// Whether to keep the value (2.3 and later).
    pub refresh: bool,
}

/// The condition of an operation; empty parts match anything.
#[derive(Clone, Copy, Debug)]
pub struct Condition<'a> {
    /// Its value, if not empty.
    pub value: &'a [u8],
    /// Its modified index, if not 0.
    pub index: u64,
}

/// How in-order children are named (formats page §5, the in-order trap).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InOrderNames {
    /// The bare number: 2.1 and before.
    Plain,
    /// Twenty digits with leading zeros: 2.2 and later.
    Padded,
}

impl InOrderNames {
    /// The name of an in-order child made at a store index.
    pub fn name(self, index: u64) -> String {
        match self {
            Self::Plain => index.to_string(),
            Self::Padded => format!("{index:020}"),
        }
    }
}

type Outcome = Result<(), Refusal>;

impl Store {
    /// Creates a node; fails if it exists.
    pub fn create(&mut self, path: &[u8], write: Write<'_>) -> Outcome {
        self.put(&writable(path)?, write, false)
    }

    /// Creates an in-order child of the directory at `path`; returns its store path.
    pub fn create_in_order(
        &mut self,
        path: &[u8],
        names: InOrderNames,
        write: Write<'_>,
    ) -> Result<Vec<u8>, Refusal> {
        let name = names.name(self.index.saturating_add(1));
        let mut target = components(path);
        target.push(name.as_bytes());
        let target = unless_read_only(target)?;
        self.put(&target, write, false)?;
        Ok(crate::etcd::store::path::join(&target))
    }

    /// Creates a node or replaces a key.
    pub fn set(&mut self, path: &[u8], write: Write<'_>) -> Outcome {
        let path = writable(path)?;
        if !write.refresh {
            return self.put(&path, write, true);
        }
        let there = self.node(self.find(&path)?);
        let kept = there.value().ok_or(Refusal::NotFile)?.bytes().into_owned();
        let write = Write {
            value: &kept,
            ..write
        };
        self.put(&path, write, true)
    }

    /// Sets a key's value and expiry, or a directory's expiry.
    pub fn update(&mut self, path: &[u8], write: Write<'_>) -> Outcome {
        let id = self.find(&writable(path)?)?;
        let next = self.index.saturating_add(1);
        let node = self.node_mut(id);
        match &mut node.content {
            Content::Directory(_) if !write.value.is_empty() => return Err(Refusal::NotFile),
            Content::Directory(_) => {}
            Content::Key(value) => {
                if !write.refresh {
                    *value = write.value.into();
                }
                node.modified = next;
            }
        }
        self.set_expiry(id, write.expires);
        self.index = next;
        Ok(())
    }

    /// Sets a key's value and expiry if it matches `condition`.
    pub fn compare_and_swap(
        &mut self,
        path: &[u8],
        condition: Condition<'_>,
        write: Write<'_>,
    ) -> Outcome {
        let id = self.compare(&writable(path)?, condition)?;
        self.index = self.index.saturating_add(1);
        let modified = self.index;
        let node = self.node_mut(id);
        if !write.refresh {
            node.content = Content::Key(write.value.into());
        }
        node.modified = modified;
        self.set_expiry(id, write.expires);
        Ok(())
    }

    /// Removes a key if it matches `condition`.
    pub fn compare_and_delete(&mut self, path: &[u8], condition: Condition<'_>) -> Outcome {
        let id = self.compare(&components(path), condition)?;
        self.detach(id);
        self.index = self.index.saturating_add(1);
        Ok(())
    }

    /// Removes a key, or a directory if `dir` or `recursive` is set.
    pub fn delete(&mut self, path: &[u8], dir: bool, recursive: bool) -> Outcome {
        let id = self.find(&writable(path)?)?;
        if let Content::Directory(children) = &self.node(id).content {
            if !dir && !recursive {
                return Err(Refusal::NotFile);
            }
            if !recursive && !children.is_empty() {
                return Err(Refusal::DirNotEmpty);
            }
        }
        self.detach(id);
        self.index = self.index.saturating_add(1);
        Ok(())
    }

    /// Removes every node with an expiry not after `cutoff`, soonest first, a directory with all
    /// below it; returns how many had expired themselves, each of which raises the index.
    pub fn expire(&mut self, cutoff: UnixNanos) -> u64 {
        let mut removed = 0;
        while let Some(&(expires, id)) = self.expiries.first()
            && expires <= cutoff
        {
            self.detach(id);
            removed += 1;
        }
        self.index = self.index.saturating_add(removed);
        removed
    }

    /// etcd's `internalCreate`.
    fn put(&mut self, path: &[&[u8]], write: Write<'_>, replace: bool) -> Outcome {
        let (name, parents) = path.split_last().ok_or(Refusal::RootReadOnly)?;
        let next = self.index.saturating_add(1);
        let mut parent = NodeId::ROOT;
        for component in parents {
            if !self.node(parent).is_dir() {
                return Err(Refusal::NotDir);
            }
            parent = match self.child(parent, component) {
                Some(id) => id,
                None => self.make(parent, component, directory(), next),
            };
        }
        if !self.node(parent).is_dir() {
            return Err(Refusal::NotDir);
        }
        let there = self.child(parent, name);
        if let Some(there) = there {
            if !replace {
                return Err(Refusal::NodeExist);
            }
            if self.node(there).is_dir() {
                return Err(Refusal::NotFile);
            }
        }
        let content = if write.dir {
            directory()
        } else {
            Content::Key(write.value.into())
        };
        let id = if let Some(there) = there {
            // etcd removes the key and makes a new node, which keeps nothing of the old one.
            let node = self.node_mut(there);
            node.created = next;
            node.modified = next;
            node.content = content;
            there
        } else {
            self.make(parent, name, content, next)
        };
        let expires = write.expires.filter(|&expires| expires >= MIN_EXPIRE_TIME);
        self.set_expiry(id, expires);
        self.index = next;
        Ok(())
    }

    fn make(&mut self, parent: NodeId, name: &[u8], content: Content, index: u64) -> NodeId {
        let id = self.attach(parent, name, content);
        let node = self.node_mut(id);
        node.created = index;
        node.modified = index;
        id
    }

    /// etcd's `internalGet`.
    fn find(&self, path: &[&[u8]]) -> Result<NodeId, Refusal> {
        let mut at = NodeId::ROOT;
        for name in path {
            if !self.node(at).is_dir() {
                return Err(Refusal::NotDir);
            }
            at = self.child(at, name).ok_or(Refusal::KeyNotFound)?;
        }
        Ok(at)
    }

    fn compare(&self, path: &[&[u8]], condition: Condition<'_>) -> Result<NodeId, Refusal> {
        let id = self.find(path)?;
        let node = self.node(id);
        let value = node.value().ok_or(Refusal::NotFile)?;
        let index_matches = condition.index == 0 || condition.index == node.modified;
        let value_matches = condition.value.is_empty() || condition.value == &*value.bytes();
        if index_matches && value_matches {
            Ok(id)
        } else {
            Err(Refusal::TestFailed)
        }
    }
}

/// The components of a path that may be written.
fn writable(path: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    unless_read_only(components(path))
}

fn unless_read_only(path: Vec<&[u8]>) -> Result<Vec<&[u8]>, Refusal> {
    if READ_ONLY.contains(&path.as_slice()) {
        return Err(Refusal::RootReadOnly);
    }
    Ok(path)
}
