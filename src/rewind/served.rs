//! What members serve now that the store of a rewind has otherwise: names of in-order keys, authentication.
//!
//! In: the store of a member, and the store that all members will have. Out: the differences that a user must know of.

use std::collections::{BTreeMap, BTreeSet};

use crate::etcd::replay::InOrderRules;
use crate::etcd::store::diff::{Difference, in_order_number};
use crate::etcd::store::{NodeId, Store};

/// Two store paths of one in-order key.
pub(crate) type NamePair = (Vec<u8>, Vec<u8>);

/// In-order keys by the name that they will have and the name that they have elsewhere, both store
/// paths, with the inputs that have the second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renamed(pub BTreeMap<NamePair, BTreeSet<usize>>);

impl Renamed {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn add(&mut self, names: impl IntoIterator<Item = NamePair>, input: usize) {
        for pair in names {
            self.0.entry(pair).or_default().insert(input);
        }
    }
}

/// What members serve now.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// In-order keys that one of them serves under another name.
    pub(crate) renamed: Renamed,
    /// The highest `X-Etcd-Index` of any of them.
    pub(crate) highest_index: u64,
    /// What any of them has of authentication, and the store that all will have lacks.
    pub(crate) auth: Auth,
}

/// What a store holds of authentication, under `/2` (`etcdserver/auth/auth.go` at etcd 2.1.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    pub is_on: bool,
    pub users: BTreeSet<String>,
}

impl Auth {
    pub(crate) fn of(store: &Store) -> Self {
        let enabled = store.get(b"/2/enabled").map(|id| store.node(id));
        let value = enabled.and_then(|node| Some(node.value()?.bytes().into_owned()));
        let users = store.get(b"/2/users").into_iter();
        let users = users.flat_map(|users| store.children(users));
        let name = |id| String::from_utf8_lossy(store.node(id).name()).into_owned();
        Self {
            is_on: value.as_deref() == Some(b"true"),
            users: users.map(name).collect(),
        }
    }

    /// What of it `store` lacks.
    pub(crate) fn without(mut self, store: &Store) -> Self {
        let kept = Self::of(store);
        self.is_on &= !kept.is_on;
        self.users.retain(|user| !kept.users.contains(user));
        self
    }
}

/// What of a store is compared with the store that all members will have.
#[derive(Clone, Debug)]
pub(crate) struct ServedStore {
    /// The store paths of what is named like an in-order key.
    in_order: BTreeSet<Vec<u8>>,
    /// Its `X-Etcd-Index`.
    pub(crate) index: u64,
    pub(crate) auth: Auth,
}

impl ServedStore {
    pub(crate) fn of(store: &Store) -> Self {
        let mut in_order = BTreeSet::new();
        let mut walk = store.walk(NodeId::ROOT);
        while let Some(id) = walk.next_node() {
            if in_order_number(store.node(id).name()).is_some() {
                in_order.insert(walk.path().to_vec());
            }
        }
        Self {
            in_order,
            index: store.index(),
            auth: Auth::of(store),
        }
    }

    pub(crate) fn has(&self, in_order: &[u8]) -> bool {
        self.in_order.contains(in_order)
    }
}

/// The path of an in-order key under the other naming rules.
fn other_name(path: &[u8]) -> Option<Vec<u8>> {
    let cut = path.iter().rposition(|&byte| byte == b'/')?;
    let (directory, name) = path.split_at_checked(cut + 1)?;
    let number = in_order_number(name)?;
    let names = [InOrderRules::Before22, InOrderRules::From22]
        .map(|rules| [directory, rules.names().name(number).as_bytes()].concat());
    names.into_iter().find(|twin| twin != path)
}

/// Whether a difference is only the name of an in-order key, or a node below such a key.
pub(crate) fn is_in_order(difference: &Difference, a: &Store, b: &Store) -> bool {
    let renamed = difference.twin.is_some() || in_order_pair(difference, a, b).is_some();
    renamed && difference.parts.is_empty()
}

/// The two names of one in-order key in `a` and in `b`, if a difference is of one.
pub(crate) fn in_order_pair(difference: &Difference, a: &Store, b: &Store) -> Option<NamePair> {
    let path = difference.path.clone();
    let twin = other_name(&path)?;
    let made_in_order = |store: &Store, id| {
        let node = store.node(id);
        in_order_number(node.name()) == Some(node.created)
    };
    match (difference.a, difference.b) {
        // A later request may have made a second key under the other name on one side, so that
        // side may have both.
        (Some(id), None) => {
            let there = b.get(&twin)?;
            (made_in_order(a, id) || made_in_order(b, there)).then_some((path, twin))
        }
        (None, Some(id)) => {
            let there = a.get(&twin)?;
            (made_in_order(b, id) || made_in_order(a, there)).then_some((twin, path))
        }
        _ => None,
    }
}

/// The in-order keys of `ours` that `theirs` has under the other name only: store paths, ours first.
pub(crate) fn renamed(ours: &Store, theirs: &ServedStore) -> Vec<NamePair> {
    let mut found = Vec::new();
    let mut walk = ours.walk(NodeId::ROOT);
    while let Some(id) = walk.next_node() {
        let node = ours.node(id);
        if in_order_number(node.name()) == Some(node.created)
            && let Some(twin) = other_name(walk.path())
            && theirs.has(&twin)
            && !theirs.has(walk.path())
        {
            found.push((walk.path().to_vec(), twin));
        }
    }
    found
}
