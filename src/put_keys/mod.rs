//! Keys of a backup written back into a running cluster.
//!
//! In: a store as of an index, a key in it, the cluster's present keys. Out: a [`Plan`] that says of every key what would be
//! done, and then what was done of it. A write happens only where the cluster still has what the plan was made from, so that
//! a client that writes meanwhile loses nothing, and a run after one that failed writes only what is left.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::Silence;
use crate::cluster::keys::{Condition, Keys, LiveNode, Written};
use crate::etcd::store::to_json::api_key;
use crate::etcd::store::{NodeId, Store, UnixNanos};
use crate::interrupt::{Interrupt, Interrupted};

/// Why keys were not put back, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    #[error("cannot read the cluster's keys, nothing was written: {0}")]
    Read(Silence),
    #[error("stopped at `{key}`, after {done} writes: {why}")]
    Write {
        key: String,
        done: usize,
        why: Silence,
    },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

/// What is to be done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Create,
    /// It has another value, with this `modifiedIndex`.
    Change(u64),
    Same,
    /// It is a directory here and a key there; it is left as it is.
    OtherKind,
    /// It is an in-order key that is there under the name that etcd of another release gives it; writing it would make two of it.
    OtherName,
    /// It is in the cluster only: a key with this `modifiedIndex`, or a directory.
    OnlyThere(Option<u64>),
}

/// A key and what is to be done with it.
#[derive(Clone, Debug)]
pub struct Planned<'s> {
    /// As the API names it; what is not UTF-8 is replaced.
    pub key: String,
    pub step: Step,
    path: Vec<u8>,
    value: Option<Cow<'s, [u8]>>,
    ttl: Option<i64>,
}

/// What is to be done with every key below one.
#[derive(Debug)]
pub struct Plan<'s> {
    /// A directory stands before what is in it; what is in the cluster only comes last, the deepest first.
    pub keys: Vec<Planned<'s>>,
    /// Keys and directories of the backup whose time to live has passed, and which are left out.
    pub expired: usize,
}

/// What a plan may do beyond creating what is missing.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Give keys that have another value that of the backup.
    pub overwrite: bool,
    /// Remove what is in the cluster only.
    pub delete_others: bool,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Done {
    pub created: usize,
    /// Keys given the value of the backup.
    pub changed: usize,
    pub deleted: usize,
    /// Keys that another client wrote meanwhile; they were left as that client made them.
    pub conflicts: Vec<String>,
}

impl Allowed {
    /// Whether `step` is one to be taken.
    pub fn takes(self, step: Step) -> bool {
        match step {
            Step::Create => true,
            Step::Change(_) => self.overwrite,
            Step::OnlyThere(_) => self.delete_others,
            Step::Same | Step::OtherKind | Step::OtherName => false,
        }
    }
}

impl<'s> Plan<'s> {
    /// Compares the node `top` of `store` and what is below it with the cluster, at the time `now`.
    pub fn new(
        store: &'s Store,
        top: NodeId,
        keys: &mut Keys<'_>,
        now: UnixNanos,
        interrupt: &Interrupt,
    ) -> Result<Self, PutError> {
        let mut live = keys
            .read(&key_of(&store.path(top)))
            .map_err(PutError::Read)?;
        let mut plan = Self {
            keys: Vec::new(),
            expired: 0,
        };
        // etcd shows its root without a name.
        let mut known = BTreeSet::from([String::new()]);
        let mut walk = store.walk(top);
        while let Some(id) = walk.next_node() {
            interrupt.check()?;
            let node = store.node(id);
            let path = key_of(walk.path());
            if node.ttl(now).is_some_and(|left| left <= 0) {
                plan.expired += 1;
                if node.is_dir() {
                    walk.skip();
                }
                continue;
            }
            if path == b"/" {
                continue;
            }
            // etcd names what is hidden only to whom asks for it by its name.
            if node.is_hidden() && id != top {
                live.extend(keys.read(&path).map_err(PutError::Read)?);
            }
            let key = as_go_shows(&path);
            let value = node.value().map(crate::etcd::store::value::Value::bytes);
            let mut step = step(value.as_deref(), live.get(&key));
            let other = other_name(&key).filter(|_| step == Step::Create && value.is_some());
            if let Some(other) = other.filter(|other| live.contains_key(other)) {
                step = Step::OtherName;
                known.insert(other);
            }
            known.insert(key.clone());
            let ttl = node.ttl(now);
            plan.keys.push(Planned {
                key,
                step,
                path,
                value,
                ttl,
            });
        }
        plan.keys.extend(only_there(&live, &known));
        Ok(plan)
    }

    /// Takes every step that is allowed, through `keys`.
    pub fn carry_out(
        &self,
        allowed: Allowed,
        keys: &mut Keys<'_>,
        interrupt: &Interrupt,
    ) -> Result<Done, PutError> {
        let mut done = Done::default();
        for planned in self
            .keys
            .iter()
            .filter(|planned| allowed.takes(planned.step))
        {
            interrupt.check()?;
            let value = planned.value.as_deref();
            let mut put = |condition| keys.put(&planned.path, value, planned.ttl, condition);
            let (written, count) = match planned.step {
                Step::Create => (put(Condition::Absent), &mut done.created),
                Step::Change(at) => (put(Condition::Modified(at)), &mut done.changed),
                Step::OnlyThere(at) => {
                    let condition = at.map_or(Condition::EmptyDirectory, Condition::Modified);
                    (keys.delete(&planned.key, condition), &mut done.deleted)
                }
                Step::Same | Step::OtherKind | Step::OtherName => continue,
            };
            match written {
                Ok(Written::Done) => *count += 1,
                Ok(Written::Conflict) => done.conflicts.push(planned.key.clone()),
                Err(why) => {
                    return Err(PutError::Write {
                        key: planned.key.clone(),
                        done: done.created + done.changed + done.deleted,
                        why,
                    });
                }
            }
        }
        Ok(done)
    }
}

fn key_of(path: &[u8]) -> Vec<u8> {
    match api_key(path) {
        b"" => b"/".to_vec(),
        key => key.to_vec(),
    }
}

fn step(value: Option<&[u8]>, live: Option<&LiveNode>) -> Step {
    let Some(live) = live else {
        return Step::Create;
    };
    match (value, &live.value) {
        (None, None) => Step::Same,
        // What is not UTF-8 cannot be told apart by what the server shows of it.
        (Some(value), Some(text)) if as_go_shows(value) == *text => Step::Same,
        (Some(_), Some(_)) => Step::Change(live.modified),
        _ => Step::OtherKind,
    }
}

/// The name that etcd of another release gives an in-order key: before 2.2 a plain number, from 2.2 on one of 20 digits.
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
        ttl: None,
    };
    others.map(planned).collect()
}

/// A text as Go writes it into JSON: U+FFFD for each byte outside a character.
fn as_go_shows(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '\u{fffd}'));
    }
    text
}
