//! Numbers and sizes of the keys in a store.
//!
//! In: a [`Store`]. Out: counts and sizes of the users' keys, the largest of them, and
//! expiries. One walk; memory does not grow with the store.

use crate::etcd::store::value::Value;
use crate::etcd::store::{KEYS, NodeId, Step, Store, UnixNanos};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySize {
    pub id: NodeId,
    /// Bytes of its value.
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixSize {
    pub id: NodeId,
    pub keys: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// The users' keys, hidden ones too.
    pub keys: u64,
    /// The users' directories, without the root.
    pub directories: u64,
    /// Bytes of all values of the users' keys.
    pub value_bytes: u64,
    pub largest_keys: Vec<KeySize>,
    pub largest_prefixes: Vec<PrefixSize>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expiring {
    pub total: u64,
    pub expired: u64,
    /// Those that expire within the next day.
    pub within_a_day: u64,
    /// The first expiry after the time in question.
    pub next: Option<UnixNanos>,
}

impl Store {
    pub fn summary(&self, largest: usize) -> StoreStats {
        let mut summary = StoreStats::default();
        let Some(top) = self.child(NodeId::ROOT, KEYS.as_bytes()) else {
            return summary;
        };
        let mut open: Vec<PrefixSize> = Vec::new();
        let mut walk = self.walk(top);
        while let Some(step) = walk.step() {
            match step {
                Step::Open(id) => open.push(PrefixSize {
                    id,
                    keys: 0,
                    bytes: 0,
                }),
                Step::Key(id) => {
                    let bytes = self.node(id).value().map_or(0, Value::length) as u64;
                    // If the namespace itself is a key, it holds nothing.
                    let Some(prefix) = open.last_mut() else { break };
                    prefix.keys += 1;
                    prefix.bytes += bytes;
                    let key = KeySize { id, bytes };
                    keep_largest(&mut summary.largest_keys, key, largest, |key| key.bytes);
                }
                Step::Close => {
                    let Some(prefix) = open.pop() else { break };
                    let Some(above) = open.last_mut() else {
                        summary.keys = prefix.keys;
                        summary.value_bytes = prefix.bytes;
                        continue;
                    };
                    above.keys += prefix.keys;
                    above.bytes += prefix.bytes;
                    summary.directories += 1;
                    keep_largest(&mut summary.largest_prefixes, prefix, largest, |p| p.bytes);
                }
            }
        }
        summary
    }

    pub fn expiring(&self, now: UnixNanos) -> Expiring {
        const DAY: UnixNanos = 86_400_000_000_000;
        let mut found = Expiring::default();
        for (expires, _) in self.expiries() {
            found.total += 1;
            if expires <= now {
                found.expired += 1;
                continue;
            }
            found.next.get_or_insert(expires);
            found.within_a_day += u64::from(expires <= now.saturating_add(DAY));
        }
        found
    }
}

/// Puts `item` into `largest`, which stays sorted and no longer than `limit`.
fn keep_largest<T>(largest: &mut Vec<T>, item: T, limit: usize, bytes: impl Fn(&T) -> u64) {
    let place = largest.partition_point(|other| bytes(other) >= bytes(&item));
    if place < limit {
        largest.insert(place, item);
        largest.truncate(limit);
    }
}

#[cfg(test)]
mod tests {
    use crate::etcd::store::from_json::{LoadOptions, SavedScan};

    /// Found by the fuzz target `raft_snapshot`: no etcd writes it, and it must not be counted.
    #[test]
    fn a_namespace_that_is_a_key_holds_no_keys() {
        let mut scan = SavedScan::new(LoadOptions {
            tree: true,
            fingerprint: false,
            ..LoadOptions::default()
        });
        scan.update(br#"{"Root":{"Path":"/","Children":{"1":{"Path":"/1","Value":"x"}}}}"#);
        let store = scan.finish().0.unwrap().store.unwrap();
        let summary = store.summary(3);
        assert_eq!(summary, super::StoreStats::default());
    }
}
