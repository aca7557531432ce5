//! What would be done with every key.
//!
//! In: a store, a key in it, and the cluster's present keys. Out: a [`Plan`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::cluster::keys::{Keys, LiveNode};
use crate::etcd::json::tokens::go_utf8;
use crate::etcd::store::to_json::api_key;
use crate::etcd::store::value::Value;
use crate::etcd::store::{NodeId, Store, UnixNanos};
use crate::interrupt::Interrupt;
use crate::put_keys::{Plan, Planned, PutError, Step, is_below};

impl<'s> Plan<'s> {
    /// The plan for `top` and what is below it, and for the directories that it is in and that expire: they expire with
    /// all that is in them.
    pub fn new(
        store: &'s Store,
        top: NodeId,
        keys: &mut Keys<'_>,
        now: UnixNanos,
        interrupt: &Interrupt,
    ) -> Result<Self, PutError> {
        let top_key = key_of(&store.path(top));
        let is_dir = store.node(top).is_dir();
        let mut draft = Draft {
            store,
            live: read(keys, &top_key, is_dir, interrupt)?,
            // etcd lists its root without a name.
            known: BTreeSet::from([String::new()]),
            stays: None,
            expiring: Vec::new(),
            keys: Vec::new(),
        };
        let is_gone = |id| store.gone_at(id).is_some_and(|gone| gone <= now);
        let above = store.upwards(top).skip(1);
        let mut above: Vec<_> = above
            .filter(|id| store.node(*id).expires.is_some() && !is_gone(top))
            .map(|id| (id, key_of(&store.path(id))))
            .collect();
        above.reverse();
        for (_, path) in &above {
            if let Some(node) = keys.node(path, true).map_err(PutError::Read)? {
                draft.live.insert(as_go_shows(path), node);
            }
        }
        draft.find_key_above(&as_go_shows(&top_key));
        for (id, path) in above {
            draft.add(id, path);
        }
        let mut walk = store.walk(top);
        while let Some(id) = walk.next_node() {
            interrupt.check()?;
            let node = store.node(id);
            let path = key_of(walk.path());
            if is_gone(id) {
                draft.add_expired(path);
                if node.is_dir() {
                    walk.skip();
                }
                continue;
            }
            if path == b"/" {
                continue;
            }
            // etcd shows a hidden node only to a request for its name.
            if node.is_hidden() && id != top {
                for (key, node) in read(keys, &path, node.is_dir(), interrupt)? {
                    draft.live.entry(key).or_insert(node);
                }
            }
            draft.add(id, path);
        }
        let mut keys = draft.keys;
        keys.extend(only_there(&draft.live, &draft.known));
        Ok(Self {
            keys,
            now,
            began: Instant::now(),
        })
    }
}

/// A plan that is being made.
struct Draft<'s> {
    store: &'s Store,
    /// The cluster's keys.
    live: BTreeMap<String, LiveNode>,
    /// Those of them that are not only in the cluster.
    known: BTreeSet<String>,
    /// The last one of another kind or expiry: nothing below it is written or removed.
    stays: Option<(String, Step)>,
    /// The directories that expire and that the last key is in, by their place in `keys`.
    expiring: Vec<usize>,
    keys: Vec<Planned<'s>>,
}

impl Draft<'_> {
    /// A key of the cluster in the place of a directory that `top` is in stays.
    fn find_key_above(&mut self, top: &str) {
        let is_above = |(key, node): &(&String, &LiveNode)| {
            node.value.is_some() && is_below(top, key.as_str())
        };
        if let Some((above, _)) = self.live.iter().find(is_above) {
            self.known.insert(above.clone());
            self.stays = Some((above.clone(), Step::OtherKind));
        }
    }

    fn add_expired(&mut self, path: Vec<u8>) {
        let key = as_go_shows(&path);
        // A client that renewed it has it still: that is not only in the cluster.
        self.know_all_below(&key);
        self.known.insert(key.clone());
        self.keys.push(Planned {
            key,
            step: Step::Expired,
            path,
            value: None,
            expires: None,
            gone_at: None,
            within: None,
            created: 0,
        });
    }

    fn know_all_below(&mut self, top: &str) {
        let below = self.live.keys().filter(|one| is_below(one.as_str(), top));
        self.known.extend(below.cloned());
    }
}

impl Draft<'_> {
    /// Adds what is to be done with a node that has not expired.
    fn add(&mut self, id: NodeId, path: Vec<u8>) {
        let node = self.store.node(id);
        let key = as_go_shows(&path);
        let value = node.value().map(Value::bytes);
        let live = self.live.get(&key);
        let created = live.map_or(0, |live| live.created);
        let above = self.stays.as_ref();
        let above = above.filter(|(top, _)| is_below(key.as_str(), top.as_str()));
        let mut step = if let Some((_, step)) = above {
            *step
        } else {
            let step = step(value.as_deref(), node.expires.is_some(), live);
            if matches!(step, Step::OtherKind | Step::OtherExpiry) {
                self.know_all_below(&key);
                self.stays = Some((key.clone(), step));
            }
            step
        };
        if step == Step::Create
            && let Some(value) = value.as_deref()
            && let Some(other) = other_name(&key)
            && let Some(node) = self.live.get(&other)
        {
            if node.value.as_deref() == Some(&*as_go_shows(value)) {
                step = Step::OtherName;
                self.known.insert(other);
            } else {
                step = Step::CreateBeside;
            }
        }
        self.known.insert(key.clone());
        while let Some(directory) = self.expiring.last()
            && !is_below(&path, &self.keys[*directory].path)
        {
            self.expiring.pop();
        }
        let within = self.expiring.last().copied();
        if value.is_none() && node.expires.is_some() {
            self.expiring.push(self.keys.len());
        }
        self.keys.push(Planned {
            key,
            step,
            path,
            value,
            expires: node.expires,
            gone_at: self.store.gone_at(id),
            within,
            created,
        });
    }
}

fn read(
    keys: &mut Keys<'_>,
    key: &[u8],
    is_dir: bool,
    interrupt: &Interrupt,
) -> Result<BTreeMap<String, LiveNode>, PutError> {
    let read = keys.read(key, is_dir);
    // An interrupt is why it gave up waiting.
    interrupt.check()?;
    read.map_err(PutError::Read)
}

fn key_of(path: &[u8]) -> Vec<u8> {
    match api_key(path) {
        b"" => b"/".to_vec(),
        key => key.to_vec(),
    }
}

fn step(value: Option<&[u8]>, expires: bool, live: Option<&LiveNode>) -> Step {
    let Some(live) = live else {
        return Step::Create;
    };
    match (value, &live.value) {
        (None, None) if expires != live.expires => Step::OtherExpiry,
        (None, None) => Step::Same,
        (Some(value), Some(text)) if as_go_shows(value) == *text && expires == live.expires => {
            let is_raw = std::str::from_utf8(value).is_err();
            if text.contains('\u{fffd}') {
                Step::Unsure(is_raw.then_some(live.modified))
            } else {
                Step::Same
            }
        }
        (Some(_), Some(_)) => Step::Change(live.modified),
        _ => Step::OtherKind,
    }
}

/// The name of an in-order key in another release of etcd: a plain number before 2.2, 20 digits from 2.2 on.
fn other_name(key: &str) -> Option<String> {
    let (directory, name) = key.rsplit_once('/')?;
    let number: u64 = name.parse().ok()?;
    let (plain, padded) = (number.to_string(), format!("{number:020}"));
    let other = match name {
        name if name == plain => padded,
        name if name == padded => plain,
        _ => return None,
    };
    Some(format!("{directory}/{other}"))
}

fn only_there<'s>(live: &BTreeMap<String, LiveNode>, known: &BTreeSet<String>) -> Vec<Planned<'s>> {
    let others = live.iter().rev().filter(|(key, _)| !known.contains(*key));
    let planned = |(key, node): (&String, &LiveNode)| Planned {
        key: key.clone(),
        step: Step::OnlyThere(node.value.as_ref().map(|_| node.modified)),
        path: key.clone().into_bytes(),
        value: None,
        expires: None,
        gone_at: None,
        within: None,
        created: node.created,
    };
    others.map(planned).collect()
}

/// A text as Go writes it into JSON: U+FFFD for each byte outside a character.
fn as_go_shows(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&go_utf8(bytes)).into_owned()
}
