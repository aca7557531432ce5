//! A digest of a store: the same from the saved JSON and from the tree.
//!
//! In: nodes in the order of a walk. Out: a SHA-256 over all of its state.

use crate::etcd::digest::{Digest, Hasher};
use crate::etcd::json::tokens::go_utf8;
use crate::etcd::store::value::Value;
use crate::etcd::store::{NodeId, Step, Store, UnixNanos};

/// How many bytes are collected before they are hashed.
const HASH_PIECE: usize = 32 << 10;

/// The facts of one node, without its children.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) created: u64,
    pub(super) modified: u64,
    pub(super) expires: Option<UnixNanos>,
}

/// Computes a digest over nodes in the order of a walk.
///
/// ```text
/// node = 'D' or 'K' · name length (8) · name · created (8) · modified (8) · expires (1 + 8) · [value length (8) · value]
/// 'C' closes a directory; the store's index (8) ends it
/// ```
#[derive(Default)]
pub(super) struct Fingerprint {
    hasher: Hasher,
    gathered: Vec<u8>,
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fingerprint").finish_non_exhaustive()
    }
}

impl Fingerprint {
    /// Takes a key with its value, or the start of a directory.
    pub(super) fn node(&mut self, name: &[u8], facts: Facts, value: Option<&[u8]>) {
        let out = &mut self.gathered;
        out.push(if value.is_some() { b'K' } else { b'D' });
        put_bytes(out, name);
        out.extend(facts.created.to_le_bytes());
        out.extend(facts.modified.to_le_bytes());
        out.push(u8::from(facts.expires.is_some()));
        out.extend(facts.expires.unwrap_or(0).to_le_bytes());
        if let Some(value) = value {
            put_bytes(out, value);
        }
        if out.len() >= HASH_PIECE {
            self.hasher.update(out);
            out.clear();
        }
    }

    pub(super) fn close(&mut self) {
        self.gathered.push(b'C');
    }

    pub(super) fn finish(mut self, index: u64) -> Digest {
        self.gathered.extend(index.to_le_bytes());
        self.hasher.update(&self.gathered);
        self.hasher.finish()
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

impl Store {
    /// A digest of all of the state: two stores with the same one are equal once they
    /// are saved. Bytes that are not UTF-8 count as Go saves them.
    pub fn fingerprint(&self) -> Digest {
        let mut fingerprint = Fingerprint::default();
        let mut walk = self.walk(NodeId::ROOT);
        while let Some(step) = walk.step() {
            match step {
                Step::Close => fingerprint.close(),
                Step::Key(id) | Step::Open(id) => {
                    let node = self.node(id);
                    let facts = Facts {
                        created: node.created,
                        modified: node.modified,
                        expires: node.expires,
                    };
                    let value = node.value().map(Value::bytes);
                    let value = value.as_deref().map(go_utf8);
                    fingerprint.node(&go_utf8(node.name()), facts, value.as_deref());
                }
            }
        }
        fingerprint.finish(self.index)
    }
}
