//! The v2 store as etcd saves it into a raft snapshot, with just the operations that the test members perform.
//!
//! In: sets, by store path, in log order. Out: the JSON of `store.Save` at that moment, keys sorted as Go sorts them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use super::{Member, bootstrap};

/// Events that etcd's watcher hub keeps (`newWatchHub(1000)`).
const EVENT_CAPACITY: usize = 1000;

/// What Go makes of a zero `time.Time`: the node never expires.
const PERMANENT: &str = "0001-01-01T00:00:00Z";

/// A node of the tree; a directory has children, if only an empty map of them.
#[derive(Clone, Debug)]
struct Node {
    created: u64,
    modified: u64,
    /// Nanoseconds since 1970.
    expires: Option<u64>,
    value: String,
    children: Option<BTreeMap<String, Node>>,
}

impl Node {
    fn dir(index: u64) -> Self {
        Self {
            created: index,
            modified: index,
            expires: None,
            value: String::new(),
            children: Some(BTreeMap::new()),
        }
    }
}

/// One entry of the watcher hub's history.
#[derive(Clone, Debug)]
struct Event {
    action: &'static str,
    path: String,
    value: String,
    index: u64,
}

/// A store to which requests have been applied, ready to be saved.
#[derive(Clone, Debug)]
pub struct StoreImage {
    index: u64,
    root: Node,
    events: VecDeque<Event>,
    event_capacity: usize,
    creates: u64,
    sets: u64,
}

impl StoreImage {
    /// An empty store, with its two directories, and a history of `event_capacity` events (etcd's own is 1000).
    pub fn new(event_capacity: usize) -> Self {
        let mut root = Node::dir(0);
        let children = root.children.get_or_insert_default();
        children.insert("0".to_owned(), Node::dir(0));
        children.insert("1".to_owned(), Node::dir(0));
        Self {
            index: 0,
            root,
            events: VecDeque::new(),
            event_capacity,
            creates: 0,
            sets: 0,
        }
    }

    /// What a PUT without conditions does.
    pub fn set(&mut self, path: &str, value: &str) {
        self.set_until(path, value, None);
    }

    /// The same of a key that expires, in nanoseconds since 1970.
    pub fn set_until(&mut self, path: &str, value: &str, expires: Option<u64>) {
        self.sets += 1;
        self.put("set", path, value, expires);
    }

    /// What a valid `AddNode` does.
    pub fn add_member(&mut self, id: u64, peer_url: &str) {
        self.creates += 1;
        let path = format!("/0/members/{id:x}/raftAttributes");
        self.put(
            "create",
            &path,
            &format!(r#"{{"peerURLs":["{peer_url}"]}}"#),
            None,
        );
    }

    pub fn index(&self) -> u64 {
        self.index
    }

    fn put(&mut self, action: &'static str, path: &str, value: &str, expires: Option<u64>) {
        self.index += 1;
        let index = self.index;
        let mut names: Vec<&str> = path.split('/').skip(1).collect();
        let name = names.pop().expect("a path has a last element");
        let parent = names.iter().fold(&mut self.root, |dir, part| {
            let children = dir.children.as_mut().expect("no key in the way");
            children
                .entry((*part).to_owned())
                .or_insert_with(|| Node::dir(index))
        });
        let children = parent.children.as_mut().expect("no key in the way");
        let node = Node {
            created: index,
            modified: index,
            expires,
            value: value.to_owned(),
            children: None,
        };
        children.insert(name.to_owned(), node);
        self.remember(action, path, value);
    }

    fn remember(&mut self, action: &'static str, path: &str, value: &str) {
        self.events.push_back(Event {
            action,
            path: path.to_owned(),
            value: value.to_owned(),
            index: self.index,
        });
        if self.events.len() > self.event_capacity {
            self.events.pop_front();
        }
    }

    /// The bytes of `store.Save`.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = String::from(r#"{"Root":"#);
        write_node(&mut out, "/", &self.root);
        out.push_str(r#","WatcherHub":{"EventHistory":"#);
        self.write_history(&mut out);
        write!(out, r#"}},"CurrentIndex":{},"Stats":"#, self.index).expect(INFALLIBLE);
        self.write_stats(&mut out);
        out.push_str(r#","CurrentVersion":2}"#);
        out.into_bytes()
    }

    /// A ring of `Capacity` slots, the unused ones null; it is written from slot 0, wherever `Front` is.
    fn write_history(&self, out: &mut String) {
        let (size, capacity) = (self.events.len(), self.event_capacity);
        let pushed = usize::try_from(self.index).expect("a small store");
        // Every index has one event, so the ring has turned once the index passes its capacity.
        let back = pushed.checked_rem(capacity).unwrap_or(0);
        let front = if pushed > capacity { back } else { 0 };
        out.push_str(r#"{"Queue":{"Events":["#);
        for slot in 0..capacity {
            if slot > 0 {
                out.push(',');
            }
            match self.events.get((slot + capacity - front) % capacity) {
                Some(event) => write_event(out, event),
                None => out.push_str("null"),
            }
        }
        let start = self.events.front().map_or(0, |event| event.index);
        let last = self.events.back().map_or(0, |event| event.index);
        write!(
            out,
            r#"],"Size":{size},"Front":{front},"Back":{back},"Capacity":{capacity}}},"StartIndex":{start},"LastIndex":{last}}}"#
        )
        .expect(INFALLIBLE);
    }

    fn write_stats(&self, out: &mut String) {
        let counts = [
            ("getsSuccess", 0),
            ("getsFail", 0),
            ("setsSuccess", self.sets),
            ("setsFail", 0),
            ("deleteSuccess", 0),
            ("deleteFail", 0),
            ("updateSuccess", 0),
            ("updateFail", 0),
            ("createSuccess", self.creates),
            ("createFail", 0),
            ("compareAndSwapSuccess", 0),
            ("compareAndSwapFail", 0),
            ("compareAndDeleteSuccess", 0),
            ("compareAndDeleteFail", 0),
            ("expireCount", 0),
            ("watchers", 0),
        ];
        let fields: Vec<String> = counts
            .iter()
            .map(|(name, count)| format!(r#""{name}":{count}"#))
            .collect();
        write!(out, "{{{}}}", fields.join(",")).expect(INFALLIBLE);
    }
}

const INFALLIBLE: &str = "a String takes everything";

/// As Go writes a time in UTC.
fn time(nanoseconds: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(nanoseconds.into());
    time.expect("a time within what Go knows").to_string()
}

fn write_node(out: &mut String, path: &str, node: &Node) {
    write!(
        out,
        r#"{{"Path":{},"CreatedIndex":{},"ModifiedIndex":{},"ExpireTime":"{}","Value":{},"Children":"#,
        go_string(path),
        node.created,
        node.modified,
        node.expires.map_or_else(|| PERMANENT.to_owned(), time),
        go_string(&node.value),
    )
    .expect(INFALLIBLE);
    let Some(children) = &node.children else {
        out.push_str("null}");
        return;
    };
    out.push('{');
    for (position, (name, child)) in children.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        write!(out, "{}:", go_string(name)).expect(INFALLIBLE);
        write_node(
            out,
            &format!("{}/{name}", path.trim_end_matches('/')),
            child,
        );
    }
    out.push_str("}}");
}

fn write_event(out: &mut String, event: &Event) {
    write!(
        out,
        r#"{{"action":"{}","node":{{"key":{},"value":{},"modifiedIndex":{index},"createdIndex":{index}}}}}"#,
        event.action,
        go_string(&event.path),
        go_string(&event.value),
        index = event.index,
    )
    .expect(INFALLIBLE);
}

/// A JSON string as Go's encoder writes it: safe to stand in HTML.
fn go_string(text: &str) -> String {
    serde_json::to_string(text)
        .expect("text is always JSON")
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// The client URL that a test member publishes beside its peer URL: one port below it, as etcd's usual ports are.
pub fn client_url(peer_url: &str) -> String {
    match peer_url.rsplit_once(':') {
        Some((host, port)) => format!("{host}:{}", port.parse::<u16>().unwrap() - 1),
        None => peer_url.to_owned(),
    }
}

/// Store path of the test members' key number `number`.
pub fn key_path(number: usize) -> String {
    format!("/1/app/key-{number:04}")
}

/// The value that goes with [`key_path`].
pub fn key_value(number: usize) -> String {
    format!("value {number}")
}

/// The saved store of a cluster of `members` (an unpublished one has an empty name) with `n_keys` keys and, from 2.1 on, a
/// cluster version; indexes are those of the members' additions, publications, version and keys, in this order.
pub fn store_json(version: Option<&str>, members: &[Member<'_>], n_keys: usize) -> Vec<u8> {
    let mut store = StoreImage::new(EVENT_CAPACITY);
    for request in bootstrap(members, version) {
        request.apply(&mut store);
    }
    for number in 0..n_keys {
        store.set(&key_path(number), &key_value(number));
    }
    store.to_json()
}
