//! Keys of a backup written back into a running cluster.
//!
//! In: a store at an index, a key in it, the cluster's present keys. Out: a [`Plan`] that says for every key what
//! would be done, and then the result. A key is written only if the cluster still has what the plan was made from, so a
//! client that writes meanwhile loses nothing, and a run after a failed one writes only the rest.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::ProbeError;
use crate::cluster::keys::{Condition, Keys, LiveNode, Written};
use crate::etcd::json::tokens::go_utf8;
use crate::etcd::store::to_json::api_key;
use crate::etcd::store::{NodeId, Store, UnixNanos};
use crate::interrupt::{Interrupt, Interrupted};

#[derive(Debug, thiserror::Error)]
pub enum PutError {
    #[error("cannot read the cluster's keys, nothing was written: {0}")]
    Read(ProbeError),
    #[error("stopped at `{key}`, after {done} writes: {why}")]
    Write {
        key: String,
        done: usize,
        why: ProbeError,
    },
    #[error(
        "stopped at `{key}`, after {done} writes: reading is allowed there, but writing is not"
    )]
    MayNotWrite { key: String, done: usize },
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Create,
    /// It has another value, or expires on one side only; with this `modifiedIndex`.
    Change(u64),
    Same,
    /// The API shows the same text with U+FFFD for both values, which stands for any byte outside a character; with
    /// its `modifiedIndex` if the backup has such bytes, which a write would bring back.
    Unsure(Option<u64>),
    /// It is a directory on one side and a key on the other, or below such a one; it is left unchanged.
    OtherKind,
    /// It is an in-order key that the cluster has, with this value, under the name of another release; writing it would
    /// duplicate it.
    OtherName,
    /// The same name in the cluster has another value, so it need not be this key: numbers come a second time after a
    /// rewind. It is created like any missing key, because that loses neither.
    CreateBeside,
    /// It is a directory on both sides and expires on one only, or below such a one; it is left unchanged.
    OtherExpiry,
    /// It is only in the cluster: a key with this `modifiedIndex`, or a directory.
    OnlyThere(Option<u64>),
    /// It has expired in the backup, and is left out.
    Expired,
}

#[derive(Clone, Debug)]
pub struct Planned<'s> {
    /// Its name in the API; bytes that are not UTF-8 are replaced.
    pub key: String,
    pub step: Step,
    path: Vec<u8>,
    value: Option<Cow<'s, [u8]>>,
    ttl: Option<i64>,
}

#[derive(Debug)]
pub struct Plan<'s> {
    /// A directory comes before its children; what is only in the cluster comes last, the deepest first.
    pub keys: Vec<Planned<'s>>,
}

/// What a plan may do besides creating missing keys.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    pub overwrite: bool,
    pub delete_others: bool,
}

#[derive(Debug, Default)]
pub struct Done {
    pub created: usize,
    /// Keys set to the value of the backup.
    pub changed: usize,
    pub deleted: usize,
    /// Keys that another client wrote meanwhile; they were not written.
    pub conflicts: Vec<String>,
    /// Directories that were to be removed and are not empty: hidden keys, which etcd does not list, or new ones are in them.
    pub not_empty: Vec<String>,
}

impl Allowed {
    pub fn takes(self, step: Step) -> bool {
        match step {
            Step::Create | Step::CreateBeside => true,
            Step::Change(_) | Step::Unsure(Some(_)) => self.overwrite,
            Step::OnlyThere(_) => self.delete_others,
            Step::Same
            | Step::Unsure(None)
            | Step::OtherKind
            | Step::OtherName
            | Step::OtherExpiry
            | Step::Expired => false,
        }
    }
}

impl<'s> Plan<'s> {
    pub fn new(
        store: &'s Store,
        top: NodeId,
        keys: &mut Keys<'_>,
        now: UnixNanos,
        interrupt: &Interrupt,
    ) -> Result<Self, PutError> {
        let top_key = key_of(&store.path(top));
        let is_dir = store.node(top).is_dir();
        let mut live = read(keys, &top_key, is_dir, interrupt)?;
        let mut plan = Self { keys: Vec::new() };
        // etcd lists its root without a name.
        let mut known = BTreeSet::from([String::new()]);
        // The last one of another kind or expiry: nothing below it is written or removed.
        let mut stays: Option<(String, Step)> = None;
        let top_key = as_go_shows(&top_key);
        let is_above =
            |(key, node): &(&String, &LiveNode)| node.value.is_some() && is_below(&top_key, key);
        if let Some((above, _)) = live.iter().find(is_above) {
            known.insert(above.clone());
            stays = Some((above.clone(), Step::OtherKind));
        }
        let mut walk = store.walk(top);
        while let Some(id) = walk.next_node() {
            interrupt.check()?;
            let node = store.node(id);
            let path = key_of(walk.path());
            if node.ttl(now).is_some_and(|left| left <= 0) {
                // A client that renewed it has it still: that is not only in the cluster.
                let key = as_go_shows(&path);
                known.extend(live.keys().filter(|one| is_below(one, &key)).cloned());
                known.insert(key.clone());
                plan.keys.push(Planned {
                    key,
                    step: Step::Expired,
                    path,
                    value: None,
                    ttl: None,
                });
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
                    live.entry(key).or_insert(node);
                }
            }
            let key = as_go_shows(&path);
            let value = node.value().map(crate::etcd::store::value::Value::bytes);
            let ttl = node.ttl(now);
            let above = stays.as_ref().filter(|(top, _)| is_below(&key, top));
            let mut step = if let Some((_, step)) = above {
                *step
            } else {
                let step = step(value.as_deref(), ttl.is_some(), live.get(&key));
                if matches!(step, Step::OtherKind | Step::OtherExpiry) {
                    known.extend(live.keys().filter(|one| is_below(one, &key)).cloned());
                    stays = Some((key.clone(), step));
                }
                step
            };
            if step == Step::Create
                && let Some(value) = value.as_deref()
                && let Some(other) = other_name(&key)
                && let Some(node) = live.get(&other)
            {
                if node.value.as_deref() == Some(&*as_go_shows(value)) {
                    step = Step::OtherName;
                    known.insert(other);
                } else {
                    step = Step::CreateBeside;
                }
            }
            known.insert(key.clone());
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
                Step::Create | Step::CreateBeside => (put(Condition::Absent), &mut done.created),
                Step::Change(at) | Step::Unsure(Some(at)) => {
                    (put(Condition::Modified(at)), &mut done.changed)
                }
                Step::OnlyThere(at) => {
                    let condition = at.map_or(Condition::EmptyDirectory, Condition::Modified);
                    (keys.delete(&planned.key, condition), &mut done.deleted)
                }
                _ => continue,
            };
            match written {
                Ok(Written::Done) => *count += 1,
                Ok(Written::Conflict) => done.conflicts.push(planned.key.clone()),
                Ok(Written::NotEmpty) => done.not_empty.push(planned.key.clone()),
                Err(why) => {
                    interrupt.check()?;
                    let key = planned.key.clone();
                    let done = done.created + done.changed + done.deleted;
                    return Err(match why {
                        ProbeError::NotAllowed { .. } => PutError::MayNotWrite { key, done },
                        why => PutError::Write { key, done, why },
                    });
                }
            }
        }
        Ok(done)
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

fn is_below(key: &str, top: &str) -> bool {
    let rest = key.strip_prefix(top);
    rest.is_some_and(|rest| rest.starts_with('/'))
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
        ttl: None,
    };
    others.map(planned).collect()
}

/// A text as Go writes it into JSON: U+FFFD for each byte outside a character.
fn as_go_shows(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&go_utf8(bytes)).into_owned()
}
