//! Classifies the entries of a log, to tell what would be lost with them.
//!
//! In: an entry's kind and data. Out: its [`EntryClass`], and sums of them. A *client write* is an
//! entry that a client asked for and that can change keys; an idle cluster logs a SYNC every 500 ms,
//! which is no loss. Source: formats page §5; `InternalRaftRequest` at 3.4.23.

use prost::Message;
use serde::Serialize;

use crate::etcd::proto::Request;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryClass {
    /// A client's request that can change keys, or users of auth.
    ClientWrite,
    /// A new leader's first entry.
    Empty,
    /// A member is added, removed, or gets other peer URLs.
    ConfChange,
    /// SYNC: the leader gives all members the time up to which keys expire.
    Sync,
    /// A read that goes through the log (QGET).
    QuorumRead,
    /// A member's name and client URLs, which it publishes whenever it starts.
    MemberAttributes,
    /// The cluster's other own keys, such as the cluster version.
    ClustersOwn,
    /// An entry that changes no key: a lease granted, a request that etcd answers with an error.
    Other,
}

/// The number of entries, and the number of client writes among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EntryCount {
    pub entries: u64,
    /// Those that a client asked for and that can change keys.
    pub client_writes: u64,
}

/// The requests of 3.x's `InternalRaftRequest` that can change keys of the v3 store, without their
/// content.
#[derive(Clone, PartialEq, Eq, Message)]
struct V3Request {
    #[prost(bytes = "vec", optional, tag = "4")]
    put: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    delete_range: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "6")]
    txn: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "9")]
    lease_revoke: Option<Vec<u8>>,
}

impl EntryClass {
    /// The class of an entry of `kind` (0 normal, 1 conf change). Data that cannot be read count as
    /// a client's, so that their loss is reported.
    pub fn of(kind: u64, data: &[u8]) -> Self {
        if kind == 1 {
            return Self::ConfChange;
        }
        if data.is_empty() {
            return Self::Empty;
        }
        match Request::in_entry(data) {
            Ok(Some(request)) => Self::of_request(&request),
            Ok(None) => Self::of_v3(data),
            Err(_) => Self::ClientWrite,
        }
    }

    fn of_request(request: &Request) -> Self {
        // A client's paths begin with `/1`, or `/2` for users of auth.
        let path = request.path.as_deref().unwrap_or_default();
        match request.method.as_deref().unwrap_or_default() {
            b"SYNC" => Self::Sync,
            b"QGET" => Self::QuorumRead,
            b"PUT" if is_attributes(path) => Self::MemberAttributes,
            b"PUT" | b"POST" | b"DELETE" if path == b"/0" || path.starts_with(b"/0/") => {
                Self::ClustersOwn
            }
            b"PUT" | b"POST" | b"DELETE" => Self::ClientWrite,
            _ => Self::Other,
        }
    }

    fn of_v3(data: &[u8]) -> Self {
        let changes_keys = V3Request::decode(data).map_or(true, |request| {
            let parts = [
                request.put,
                request.delete_range,
                request.txn,
                request.lease_revoke,
            ];
            parts.iter().any(Option::is_some)
        });
        if changes_keys {
            Self::ClientWrite
        } else {
            Self::Other
        }
    }

    /// Whether a client asked for it and it can change keys.
    pub fn is_client_write(self) -> bool {
        self == Self::ClientWrite
    }
}

fn is_attributes(path: &[u8]) -> bool {
    let of_member = path.strip_prefix(b"/0/members/");
    let id = of_member.and_then(|rest| rest.strip_suffix(b"/attributes"));
    id.is_some_and(|id| !id.contains(&b'/'))
}

impl EntryCount {
    pub fn add(&mut self, class: EntryClass) {
        self.entries += 1;
        self.client_writes += u64::from(class.is_client_write());
    }
}

impl FromIterator<EntryClass> for EntryCount {
    fn from_iter<I: IntoIterator<Item = EntryClass>>(classes: I) -> Self {
        let mut count = Self::default();
        for class in classes {
            count.add(class);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str) -> Vec<u8> {
        let request = Request {
            id: Some(7),
            method: Some(method.into()),
            path: Some(path.into()),
            ..Request::default()
        };
        request.encode_to_vec()
    }

    #[test]
    fn only_what_a_client_asked_to_change_counts_as_a_client_write() {
        use EntryClass::{
            ClientWrite, ClustersOwn, ConfChange, Empty, MemberAttributes, Other, QuorumRead, Sync,
        };
        let cases = [
            (0, request("PUT", "/1/foo"), ClientWrite),
            (0, request("POST", "/1/queue"), ClientWrite),
            (0, request("DELETE", "/1/foo"), ClientWrite),
            (0, request("PUT", "/2/users/root"), ClientWrite),
            (0, request("PUT", "/0/version"), ClustersOwn),
            (
                0,
                request("PUT", "/0/members/1/attributes"),
                MemberAttributes,
            ),
            (0, request("DELETE", "/0/members/1/attributes"), ClustersOwn),
            (
                0,
                request("PUT", "/0/members/1/raftAttributes"),
                ClustersOwn,
            ),
            (0, request("PUT", "/0/members/1/x/attributes"), ClustersOwn),
            (0, request("PUT", "/01"), ClientWrite),
            (0, request("SYNC", ""), Sync),
            (0, request("QGET", "/1/foo"), QuorumRead),
            (0, request("GET", "/1/foo"), Other),
            (0, Vec::new(), Empty),
            (1, request("PUT", "/1/foo"), ConfChange),
            (0, vec![0xff], ClientWrite),
        ];
        for (kind, data, class) in cases {
            assert_eq!(EntryClass::of(kind, &data), class, "{kind} {data:?}");
        }
    }

    #[test]
    fn of_3x_only_requests_that_change_keys_count() {
        // `InternalRaftRequest { ID = 1, and one request at its own number }`.
        let internal = |number: u8| [&[0x08, 7][..], &[number << 3 | 2, 2, 0x0a, 0]].concat();
        for (number, class) in [
            (3, EntryClass::Other),
            (4, EntryClass::ClientWrite),
            (5, EntryClass::ClientWrite),
            (6, EntryClass::ClientWrite),
            (7, EntryClass::Other),
            (8, EntryClass::Other),
            (9, EntryClass::ClientWrite),
        ] {
            assert_eq!(EntryClass::of(0, &internal(number)), class, "{number}");
        }
    }

    #[test]
    fn a_count_knows_all_entries_and_those_that_are_client_writes() {
        let classes = [EntryClass::Sync, EntryClass::ClientWrite, EntryClass::Empty];
        let count: EntryCount = classes.into_iter().collect();
        assert_eq!((count.entries, count.client_writes), (3, 1));
    }
}
