//! Reads the v2 store from a raft snapshot: JSON, in pieces.
//!
//! ```text
//! {"Root": node, "WatcherHub": {…}, "CurrentIndex": n, "Stats": {…}, "CurrentVersion": 2}
//! node = {"Path", "CreatedIndex", "ModifiedIndex", "ExpireTime", "Value", "Children"}
//! Children = null for a key, an object of nodes by name, in the order of the names, for a directory
//! ```
//!
//! In: the JSON in pieces and which results are wanted. Out: the cluster's own facts, and if wanted
//! the whole [`Store`] and its [fingerprint](Store::fingerprint), without keeping the JSON:
//! `WatcherHub`, most of a busy member's snapshot, is only checked for whether Go accepts it.
//! When only the cluster's facts are wanted the reading ends after `/0`, which comes first.
//! Source: `Save` in `store/store.go` at etcd 2.1.3 (formats page §3).

mod event_queue;
mod fields;
mod plain_keys;

use crate::etcd::digest::Digest;
use crate::etcd::json::go::{Skim, Type, is_time, unsigned};
use crate::etcd::json::tokens::{JsonTokens, Members, Token, TokenSink, WantedText};
use crate::etcd::membership::{StoreFacts, StoreFault};
use crate::etcd::store::fingerprint::{Facts, Fingerprint};
use crate::etcd::store::from_json::event_queue::EventQueue;
use crate::etcd::store::from_json::fields::{Field, NODE, TOP, WATCHER_HUB, field_of};
use crate::etcd::store::tree::{Tree, Trees};
use crate::etcd::store::value::Value;
use crate::etcd::store::{Store, UnixNanos};

/// A zero `time.Time` in Go: the node never expires.
const PERMANENT: &[u8] = b"0001-01-01T00:00:00Z";

/// What is wanted of a saved store besides the cluster's facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    pub tree: bool,
    pub fingerprint: bool,
    /// The tree for a start, separate from the others.
    pub for_start: StartTree,
}

/// The part of a saved store that a start needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartTree {
    /// None: no start is simulated.
    #[default]
    None,
    /// `/0` alone.
    Cluster,
    /// All of it, to count its keys.
    Whole,
}

#[derive(Clone, Debug, Default)]
pub struct Saved {
    pub facts: StoreFacts,
    /// The whole tree, if wanted.
    pub store: Option<Store>,
    pub fingerprint: Option<Digest>,
}

/// A tree of all that Go accepts, even with unreadable keys of the cluster, or why Go accepts no store.
pub type SavedForStart = Result<Store, StoreFault>;

#[derive(Debug)]
pub struct SavedScan {
    tokens: JsonTokens,
    shape: Shape,
}

impl SavedScan {
    pub fn new(wanted: LoadOptions) -> Self {
        Self {
            tokens: JsonTokens::default(),
            shape: Shape::new(wanted),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.tokens.update(bytes, &mut self.shape);
    }

    /// The results, if the store is valid, and the tree for a start, if wanted.
    pub fn finish(self) -> (Result<Saved, StoreFault>, Option<SavedForStart>) {
        let Self { tokens, mut shape } = self;
        let json = tokens.finish(&shape).map_err(StoreFault::Json);
        let rooted = match &json {
            Ok(()) if !shape.has_root => Err(StoreFault::NoRoot),
            json => json.clone(),
        };
        let index = shape.index;
        let for_start = shape.trees.start.take();
        let for_start = for_start.map(|tree| rooted.clone().map(|()| tree.finish(index)));
        let read = match shape.bad_key.take() {
            Some(bad_key) => Err(bad_key),
            None if shape.is_wanted_whole() => rooted,
            // The rest was only read for the start.
            None if shape.cluster_done => Ok(()),
            None => json,
        };
        (read.map(|()| shape.finish()), for_start)
    }
}

/// An open object.
#[derive(Debug)]
enum Frame {
    Top,
    Node {
        facts: Facts,
        /// Bytes of the path before the node's name was added.
        parent_path: usize,
        /// Whether its `Path` has come.
        placed: bool,
        /// Whether its children have come, after which no field may follow.
        closed: bool,
    },
    Children,
}

/// Builds a store from tokens.
#[derive(Debug)]
struct Shape {
    frames: Vec<Frame>,
    field: Field,
    /// The current value, if it is not kept.
    skim: Option<Skim>,
    events: EventQueue,
    /// The store path of the current node, without a `/` at the end; empty for the root.
    path: Vec<u8>,
    value: Vec<u8>,
    /// Whether the value is kept as in the document.
    written: bool,
    has_root: bool,
    cluster_done: bool,
    facts: StoreFacts,
    bad_key: Option<StoreFault>,
    index: u64,
    wanted: LoadOptions,
    trees: Trees,
    fingerprint: Option<Fingerprint>,
}

impl Shape {
    fn new(wanted: LoadOptions) -> Self {
        Self {
            frames: Vec::new(),
            field: Field::None,
            skim: None,
            events: EventQueue::default(),
            path: Vec::new(),
            value: Vec::new(),
            written: false,
            has_root: false,
            cluster_done: false,
            facts: StoreFacts::default(),
            bad_key: None,
            index: 0,
            wanted,
            trees: Trees {
                whole: wanted.tree.then(Tree::default),
                start: (wanted.for_start != StartTree::None).then(Tree::default),
                is_start_whole: wanted.for_start == StartTree::Whole,
            },
            fingerprint: wanted.fingerprint.then(Fingerprint::default),
        }
    }

    fn finish(self) -> Saved {
        Saved {
            facts: self.facts,
            store: self.trees.whole.map(|tree| tree.finish(self.index)),
            fingerprint: self.fingerprint.map(|f| f.finish(self.index)),
        }
    }

    /// Whether more than the cluster's facts is wanted, not counting a start.
    fn is_wanted_whole(&self) -> bool {
        self.wanted.tree || self.wanted.fingerprint
    }

    fn key(&mut self, name: &[u8]) -> Result<(), &'static str> {
        let field = match self.frames.last() {
            Some(Frame::Top) => field_of(TOP, name),
            Some(Frame::Node { closed: true, .. }) => return Err("a field behind the children"),
            Some(Frame::Node { .. }) => field_of(NODE, name),
            Some(Frame::Children) => {
                // etcd cleans paths, so that no node has one of these names.
                if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
                    return Err("an impossible node name");
                }
                self.path.push(b'/');
                self.path.extend_from_slice(name);
                Field::Child
            }
            None => Field::None,
        };
        match field {
            Field::Root if self.has_root => return Err("a second root"),
            Field::WatcherHub => self.skim = Some(Skim::new(Type::Required(WATCHER_HUB))),
            Field::Skimmed(of) => self.skim = Some(Skim::new(of)),
            _ => {}
        }
        self.field = field;
        Ok(())
    }

    fn begin_object(&mut self) -> Result<(), &'static str> {
        match self.field {
            Field::None if self.frames.is_empty() => self.frames.push(Frame::Top),
            Field::Root => self.begin_node(0),
            Field::Child => {
                let name = self.path.iter().rposition(|&byte| byte == b'/');
                self.begin_node(name.unwrap_or(0));
            }
            Field::Children => {
                let facts = self.node_facts()?;
                if self.path.is_empty() && facts.expires.is_some() {
                    // etcd refuses writes to the root.
                    return Err("a root that expires");
                }
                self.frames.push(Frame::Children);
                let name = last_component(&self.path);
                for tree in self.trees.at(&self.path) {
                    tree.open(name, facts);
                }
                if let Some(fingerprint) = &mut self.fingerprint {
                    fingerprint.node(name, facts, None);
                }
            }
            _ => return Err("an object where etcd writes none"),
        }
        self.field = Field::None;
        Ok(())
    }

    fn begin_node(&mut self, parent_path: usize) {
        self.has_root = true;
        self.value.clear();
        self.written = false;
        self.frames.push(Frame::Node {
            facts: Facts::default(),
            parent_path,
            placed: false,
            closed: false,
        });
    }

    /// The facts of the current node, once all but its children have come.
    fn node_facts(&self) -> Result<Facts, &'static str> {
        match self.frames.last() {
            // Every etcd writes it first. Without it a file could nest deeper than its paths are long.
            Some(Frame::Node { placed: false, .. }) => Err("a node that does not say where it is"),
            Some(Frame::Node { facts, .. }) => Ok(*facts),
            _ => Ok(Facts::default()),
        }
    }

    fn end_object(&mut self) -> Result<(), &'static str> {
        let facts = self.node_facts()?;
        match self.frames.pop() {
            Some(Frame::Children) => {
                for tree in self.trees.at(&self.path) {
                    tree.close();
                }
                if let Some(fingerprint) = &mut self.fingerprint {
                    fingerprint.close();
                }
                if let Some(Frame::Node { closed, .. }) = self.frames.last_mut() {
                    *closed = true;
                }
            }
            Some(Frame::Node {
                parent_path,
                closed,
                ..
            }) => {
                if !closed {
                    self.end_key(facts)?;
                }
                self.cluster_done |= self.path == b"/0";
                self.path.truncate(parent_path);
            }
            Some(Frame::Top) if !self.events.takes_an_event() => {
                return Err("an event queue in which etcd cannot put an event");
            }
            Some(Frame::Top) | None => {}
        }
        Ok(())
    }

    fn end_key(&mut self, facts: Facts) -> Result<(), &'static str> {
        if self.path.is_empty() {
            return Err("the root is not a directory");
        }
        if self.path.starts_with(b"/0/")
            && (self.is_wanted_whole() || !self.cluster_done)
            && let Err(fault) = self.facts.take(&self.path, &self.value)
        {
            // Go accepts it.
            self.bad_key.get_or_insert(fault);
        }
        let name = last_component(&self.path);
        if let Some(fingerprint) = &mut self.fingerprint {
            fingerprint.node(name, facts, Some(&self.value));
        }
        let mut trees = self.trees.at(&self.path);
        if let Some(first) = trees.next() {
            let value = std::mem::take(&mut self.value);
            let value = if self.written {
                Value::written(value)
            } else {
                value.into()
            };
            for other in trees {
                other.key(name, facts, value.clone());
            }
            first.key(name, facts, value);
        }
        Ok(())
    }

    fn text(&mut self, text: &[u8]) -> Result<(), &'static str> {
        match std::mem::replace(&mut self.field, Field::None) {
            Field::Path => {
                let path: &[u8] = if self.path.is_empty() {
                    b"/"
                } else {
                    &self.path
                };
                if path != text {
                    return Err("a node that says it is elsewhere");
                }
                if let Some(Frame::Node { placed, .. }) = self.frames.last_mut() {
                    *placed = true;
                }
            }
            Field::Value => {
                self.written = false;
                if self.wanted.tree || self.trees.is_start_whole {
                    // An allocation of exactly its size, for the tree to keep.
                    self.value = text.to_vec();
                } else {
                    self.value.clear();
                    self.value.extend_from_slice(text);
                }
            }
            Field::ExpireTime if text == PERMANENT => {}
            Field::ExpireTime => {
                let expires = read_time(text).ok_or("an impossible expiry")?;
                if let Some(Frame::Node { facts, .. }) = self.frames.last_mut() {
                    facts.expires = Some(expires);
                }
            }
            _ => return Err("a text where etcd writes none"),
        }
        Ok(())
    }

    /// Takes a text as in the document, if only the values of a tree's keys are wanted.
    fn written(&mut self, text: &[u8]) {
        self.field = Field::None;
        self.value = text.to_vec();
        self.written = true;
    }

    fn number(&mut self, digits: &[u8]) -> Result<(), &'static str> {
        let field = std::mem::replace(&mut self.field, Field::None);
        let number = unsigned(digits).ok_or("an impossible index")?;
        match (field, self.frames.last_mut()) {
            (Field::CurrentIndex, _) => self.index = number,
            (Field::CreatedIndex, Some(Frame::Node { facts, .. })) => facts.created = number,
            (Field::ModifiedIndex, Some(Frame::Node { facts, .. })) => facts.modified = number,
            _ => return Err("a number where etcd writes none"),
        }
        Ok(())
    }
}

impl TokenSink for Shape {
    fn token(&mut self, token: Token<'_>) -> Result<(), &'static str> {
        if let Some(skim) = &mut self.skim {
            if matches!(self.field, Field::WatcherHub) {
                self.events.token(skim.depth(), token);
            }
            if skim.token(token)? {
                self.skim = None;
                self.field = Field::None;
            }
            return Ok(());
        }
        match token {
            Token::Key(name) => self.key(name),
            Token::BeginObject => self.begin_object(),
            Token::EndObject => self.end_object(),
            Token::Text(text) => self.text(text),
            Token::Written(text) => {
                self.written(text);
                Ok(())
            }
            Token::Number(digits) => self.number(digits),
            Token::Null if matches!(self.field, Field::Children) => {
                self.field = Field::None;
                Ok(())
            }
            _ => Err("a value where etcd writes none"),
        }
    }

    fn wants_text(&self) -> WantedText {
        if let Some(skim) = &self.skim {
            return skim.wants_text();
        }
        if matches!(self.field, Field::ExpireTime) {
            return WantedText::Literal;
        }
        if !matches!(self.field, Field::Value) || self.path.starts_with(b"/0/") {
            return WantedText::Plain;
        }
        if self.wanted.fingerprint {
            WantedText::Plain
        } else if self.wanted.tree || self.trees.is_start_whole {
            WantedText::AsWritten
        } else {
            // Without a tree only the values of the cluster's keys are needed.
            WantedText::Nothing
        }
    }

    fn members(&mut self, bytes: &[u8]) -> Result<Members, &'static str> {
        self.plain_keys(bytes)
    }

    fn is_done(&self) -> bool {
        self.cluster_done && !self.is_wanted_whole() && self.trees.start.is_none()
    }
}

fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

fn read_time(text: &[u8]) -> Option<UnixNanos> {
    if !is_time(text) {
        return None;
    }
    let time: jiff::Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
    time.as_nanosecond().try_into().ok()
}

#[cfg(test)]
mod tests;
