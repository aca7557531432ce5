//! What the replay applies, from where and up to where, with logs made by hand.

use prost::Message as _;

use super::*;
use crate::etcd::ids::ClusterVersion;
use crate::etcd::membership::StoreFacts;
use crate::etcd::proto::{Entry, HardState, Request, SnapshotMarker};
use crate::etcd::store::apply::Names;
use crate::etcd::wal::log::LogScan;
use crate::etcd::wal::record::Record;

/// The content of a log, in order.
#[derive(Clone, Copy)]
enum Logged {
    /// An entry at a term and an index, that sets `/1/{index}` to a value.
    Set(u64, u64, &'static str),
    /// A hard state with a commit index.
    Commit(u64),
    /// A raft snapshot's marker at an index.
    Marker(u64),
}
use Logged::{Commit, Marker, Set};

fn plan(until: Until) -> Plan {
    Plan {
        start: Start::Newest,
        until,
        rules: InOrderRules::From22,
        along: Along::Nothing,
    }
}

/// Reads a log as `MemberScan` does: a record is checked first, then replayed.
fn read(mut replay: Replay, log: &[Logged]) -> Result<Replayed, ReplayFault> {
    let mut scan = LogScan::new(replay.at);
    for logged in log {
        let (kind, data) = match *logged {
            Set(term, index, value) => {
                let request = Request {
                    method: Some(b"PUT".to_vec()),
                    path: Some(format!("/1/{index}").into_bytes()),
                    val: Some(value.into()),
                    ..Request::default()
                };
                let entry = Entry {
                    kind: Some(0),
                    term: Some(term),
                    index: Some(index),
                    data: Some(request.encode_to_vec()),
                };
                (Kind::Entry, entry.encode_to_vec())
            }
            Commit(commit) => {
                let state = HardState {
                    term: Some(9),
                    vote: Some(0),
                    commit: Some(commit),
                };
                (Kind::HardState, state.encode_to_vec())
            }
            Marker(index) => {
                let marker = SnapshotMarker {
                    index: Some(index),
                    term: Some(1),
                };
                (Kind::SnapshotMarker, marker.encode_to_vec())
            }
        };
        let located = Located {
            offset: 0,
            frame: 0,
            record: Record {
                kind,
                crc: 0,
                data: Some(&data),
            },
        };
        scan.record(located).unwrap();
        replay.record(&located, scan.settled());
    }
    let log = scan.finish();
    let commit = log.commit;
    replay.finish(commit, log.last.1)
}

fn values(replayed: &Replayed) -> Vec<String> {
    let store = &replayed.store;
    let top = store.get(b"/1").unwrap();
    let keys = store.children(top).map(|id| store.node(id));
    let lines = keys.map(|node| [node.name(), &node.value().unwrap().bytes()].join(&b'='));
    lines.map(|line| String::from_utf8(line).unwrap()).collect()
}

/// A raft snapshot at `index` that holds `/1/snapshot`.
fn snapshot(replay: &mut Replay, index: u64) {
    let id = SnapshotId {
        term: Term(1),
        index: Index(index),
    };
    let wanted = replay.wants(id).tree;
    let mut store = Store::new();
    let request = Request {
        method: Some(b"PUT".to_vec()),
        path: Some(b"/1/snapshot".to_vec()),
        val: Some(index.to_string().into_bytes()),
        ..Request::default()
    };
    store.apply_request(&request, Names::Padded);
    let facts = SnapshotFacts {
        id,
        nodes: Vec::new(),
        store: StoreFacts::default(),
        fingerprint: None,
    };
    replay.snapshot(&facts, wanted.then_some(store));
}

const THREE: [Logged; 4] = [Set(1, 1, "a"), Set(1, 2, "b"), Set(1, 3, "c"), Commit(2)];

#[test]
fn only_what_is_committed_is_applied_unless_the_rest_is_asked_for() {
    for (until, expected) in [
        (Until::Commit, &["1=a", "2=b"][..]),
        (Until::End, &["1=a", "2=b", "3=c"]),
        (Until::Index(Index(1)), &["1=a"]),
        (Until::PendingIndex(Index(3)), &["1=a", "2=b", "3=c"]),
    ] {
        let replayed = read(Replay::new(plan(until)), &THREE).unwrap();
        assert_eq!(values(&replayed), expected, "{until:?}");
        assert_eq!(replayed.at.0, expected.len() as u64, "{until:?}");
    }
}

#[test]
fn an_index_that_is_not_committed_or_not_there_is_refused() {
    let wanted = Index(3);
    let commit = Index(2);
    let refused = read(Replay::new(plan(Until::Index(wanted))), &THREE).unwrap_err();
    assert_eq!(refused, ReplayFault::Uncommitted { wanted, commit });
    let (wanted, last) = (Index(4), Index(3));
    for until in [Until::Index(wanted), Until::PendingIndex(wanted)] {
        let refused = read(Replay::new(plan(until)), &THREE).unwrap_err();
        assert_eq!(refused, ReplayFault::Beyond { wanted, last });
    }
}

#[test]
fn an_entry_that_is_replaced_is_never_applied_nor_what_stood_behind_it() {
    let log = [
        Set(1, 1, "a"),
        Set(1, 2, "never"),
        Set(1, 3, "never"),
        Commit(1),
        Set(2, 2, "b"),
        Commit(2),
    ];
    for until in [Until::Commit, Until::End] {
        let replayed = read(Replay::new(plan(until)), &log).unwrap();
        assert_eq!(values(&replayed), ["1=a", "2=b"], "{until:?}");
    }
}

#[test]
fn an_entry_behind_the_hard_state_that_commits_it_still_replaces() {
    // 2.0.13 writes them in this order.
    let log = [
        Set(1, 1, "a"),
        Set(1, 2, "never"),
        Commit(1),
        Commit(2),
        Set(2, 2, "b"),
        Commit(2),
    ];
    let replayed = read(Replay::new(plan(Until::Commit)), &log).unwrap();
    assert_eq!(values(&replayed), ["1=a", "2=b"]);
}

#[test]
fn a_replay_begins_at_the_newest_raft_snapshot_not_above_its_end() {
    let log = [THREE.as_slice(), &[Commit(3)]].concat();
    for (until, start, expected) in [
        (Until::Commit, 2, &["3=c", "snapshot=2"][..]),
        (Until::Index(Index(2)), 2, &["snapshot=2"]),
        (Until::Index(Index(1)), 1, &["snapshot=1"]),
    ] {
        let mut replay = Replay::new(plan(until));
        // Newest first.
        for index in [2, 1] {
            snapshot(&mut replay, index);
        }
        let replayed = read(replay, &log).unwrap();
        assert_eq!(replayed.start.unwrap().index, Index(start), "{until:?}");
        // Entries in the raft snapshot are not applied again.
        assert_eq!(values(&replayed), expected, "{until:?}");
    }
}

#[test]
fn a_log_from_entry_1_needs_no_raft_snapshot_and_any_other_does() {
    let replayed = read(Replay::new(plan(Until::Commit)), &THREE).unwrap();
    assert_eq!(replayed.start, None);
    let mut replay = Replay::new(plan(Until::Commit));
    replay.entry(EntryView {
        kind: 0,
        term: Term(1),
        index: Index(7),
        data: b"",
    });
    let fault = replay.finish(Index(7), Index(7)).unwrap_err();
    assert_eq!(fault, ReplayFault::NoStart { wanted: Index(6) });
}

#[test]
fn nothing_is_replayed_across_a_hole() {
    let mut replay = Replay::new(plan(Until::Commit));
    snapshot(&mut replay, 3);
    let empty = |index| EntryView {
        kind: 0,
        term: Term(1),
        index: Index(index),
        data: b"",
    };
    for index in [4, 7] {
        replay.entry(empty(index));
    }
    let fault = replay.finish(Index(7), Index(7)).unwrap_err();
    let (from, to) = (Index(5), Index(6));
    assert_eq!(fault, ReplayFault::Hole { from, to });
    assert_eq!(fault.to_string(), "entries 5 to 6 are missing");
    // Nor does it end too early.
    let mut replay = Replay::new(plan(Until::Commit));
    snapshot(&mut replay, 3);
    let fault = replay.finish(Index(4), Index(4)).unwrap_err();
    let (from, to) = (Index(4), Index(4));
    assert_eq!(fault, ReplayFault::Hole { from, to });
    assert_eq!(fault.to_string(), "entry 4 is missing");
}

#[test]
fn a_replay_goes_on_behind_a_raft_snapshot_that_was_received() {
    let log = [
        Set(1, 1, "a"),
        Set(1, 2, "b"),
        Commit(2),
        Marker(5),
        Set(1, 6, "f"),
        Commit(6),
    ];
    let replay_to = |until| {
        let mut replay = Replay::new(plan(until));
        snapshot(&mut replay, 5);
        read(replay, &log)
    };
    let replayed = replay_to(Until::Commit).unwrap();
    assert_eq!(values(&replayed), ["6=f", "snapshot=5"]);
    // Below it there is the older content, and nothing in between.
    let replayed = replay_to(Until::Index(Index(2))).unwrap();
    assert_eq!(values(&replayed), ["1=a", "2=b"]);
    let (from, to) = (Index(3), Index(4));
    let fault = replay_to(Until::Index(Index(4))).unwrap_err();
    assert_eq!(fault, ReplayFault::Hole { from, to });
}

#[test]
fn the_cluster_version_says_which_names_in_order_children_get() {
    for (version, rules) in [
        (None, InOrderRules::Before22),
        (Some("2.0.0"), InOrderRules::Before22),
        (Some("2.1.0"), InOrderRules::Before22),
        (Some("2.2.0"), InOrderRules::From22),
        (Some("2.3.0"), InOrderRules::From23),
        (Some("3.0.0"), InOrderRules::From23),
    ] {
        let version = version.map(|version| ClusterVersion(version.parse().unwrap()));
        assert_eq!(InOrderRules::of(version.as_ref()), rules);
    }
}

#[test]
fn a_refresh_leaves_the_value_only_from_2_3_on() {
    // Seen: in a cluster of 2.2 and 2.3 one member served the value and two an empty one, with the same log.
    let refresh = Request {
        method: Some(b"PUT".to_vec()),
        path: Some(b"/1/lock".to_vec()),
        prev_exist: Some(true),
        refresh: Some(true),
        ..Request::default()
    };
    for (rules, value) in InOrderRules::ALL.into_iter().zip(["", "", "owner"]) {
        let mut store = Store::new();
        let made = Request {
            val: Some(b"owner".to_vec()),
            prev_exist: None,
            refresh: None,
            ..refresh.clone()
        };
        for request in [&made, &refresh] {
            let applied = store.apply(0, &request.encode_to_vec(), rules);
            assert_eq!(applied, Ok(Applied::Done), "{rules}");
        }
        let node = store.node(store.get(b"/1/lock").unwrap());
        assert_eq!(node.value().unwrap().bytes(), value.as_bytes(), "{rules}");
        assert_eq!(store.refreshes(), 1);
    }
}
