//! The fields of a saved store, by the object in which they are.
//!
//! Source: `store/store.go`, `store/watcher_hub.go`, `store/event_history.go`, `store/event_queue.go`,
//! `store/event.go`, `store/node_extern.go`, `store/stats.go` at etcd 2.1.3.

use crate::etcd::json::go::{Fields, Type, same_name};

/// The next value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    /// None: a name, or the end of the object.
    None,
    Root,
    WatcherHub,
    CurrentIndex,
    Path,
    CreatedIndex,
    ModifiedIndex,
    ExpireTime,
    Value,
    Children,
    /// A node in `Children`.
    Child,
    /// A value of this type, which is not kept.
    Skimmed(Type),
}

/// The fields of the outermost object.
pub(super) const TOP: &[(&str, Field)] = &[
    ("Root", Field::Root),
    ("WatcherHub", Field::WatcherHub),
    ("CurrentIndex", Field::CurrentIndex),
    ("Stats", Field::Skimmed(Type::Required(STATS))),
    ("CurrentVersion", Field::Skimmed(Type::Signed)),
];
pub(super) const NODE: &[(&str, Field)] = &[
    ("Path", Field::Path),
    ("CreatedIndex", Field::CreatedIndex),
    ("ModifiedIndex", Field::ModifiedIndex),
    ("ExpireTime", Field::ExpireTime),
    ("Value", Field::Value),
    ("Children", Field::Children),
];
pub(super) const WATCHER_HUB: Fields = &[("EventHistory", Type::Required(EVENT_HISTORY))];
const EVENT_HISTORY: Fields = &[
    ("Queue", Type::Object(QUEUE)),
    ("StartIndex", Type::Unsigned),
    ("LastIndex", Type::Unsigned),
];
const QUEUE: Fields = &[
    ("Events", Type::Array(&Type::Object(EVENT))),
    ("Size", Type::Signed),
    ("Front", Type::Signed),
    ("Back", Type::Signed),
    ("Capacity", Type::Signed),
];
const EVENT: Fields = &[
    ("action", Type::Text),
    ("node", Type::Object(&EVENT_NODE)),
    ("prevNode", Type::Object(&EVENT_NODE)),
];
static EVENT_NODE: [(&str, Type); 8] = [
    ("key", Type::Text),
    ("value", Type::Text),
    ("dir", Type::Bool),
    ("expiration", Type::Time),
    ("ttl", Type::Signed),
    ("nodes", Type::Array(&Type::Object(&EVENT_NODE))),
    ("modifiedIndex", Type::Unsigned),
    ("createdIndex", Type::Unsigned),
];
const STATS: Fields = &[
    ("getsSuccess", Type::Unsigned),
    ("getsFail", Type::Unsigned),
    ("setsSuccess", Type::Unsigned),
    ("setsFail", Type::Unsigned),
    ("deleteSuccess", Type::Unsigned),
    ("deleteFail", Type::Unsigned),
    ("updateSuccess", Type::Unsigned),
    ("updateFail", Type::Unsigned),
    ("createSuccess", Type::Unsigned),
    ("createFail", Type::Unsigned),
    ("compareAndSwapSuccess", Type::Unsigned),
    ("compareAndSwapFail", Type::Unsigned),
    ("compareAndDeleteSuccess", Type::Unsigned),
    ("compareAndDeleteFail", Type::Unsigned),
    ("expireCount", Type::Unsigned),
    ("watchers", Type::Unsigned),
];

/// The field of an object with the `known` ones to which Go assigns `name`.
pub(super) fn field_of(known: &[(&str, Field)], name: &[u8]) -> Field {
    let mut known = known.iter();
    let found = known.find(|(known, _)| same_name(known.as_bytes(), name));
    found.map_or(Field::Skimmed(Type::Any), |(_, field)| *field)
}
