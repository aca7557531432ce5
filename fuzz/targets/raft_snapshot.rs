//! Bytes as a raft snapshot file: raw, or as the store in a file whose CRC checks.
#![no_main]

use std::collections::BTreeSet;
use std::sync::Arc;

use etcd_ark::etcd::ids::SnapshotId;
use etcd_ark::etcd::ids::{Index, MemberId, Term};
use etcd_ark::etcd::raft_snapshot;
use etcd_ark::etcd::raft_snapshot::{SnapshotFacts, SnapshotFault, SnapshotScan};
use etcd_ark::etcd::scan::{FileEnd, FileFault, FileKind, MemberScan};
use etcd_ark::etcd::store::NodeId;
use etcd_ark::etcd::store::diff::compare;
use etcd_ark::etcd::store::from_json::LoadOptions;
use etcd_ark::etcd::store::to_json::Shown;
use etcd_ark::target::keys_json::write_answer;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const NODES: [MemberId; 2] = [MemberId(7), MemberId(u64::MAX)];
const ID: SnapshotId = SnapshotId {
    term: Term(2),
    index: Index(0xca),
};

type Verdict = Result<SnapshotFacts, SnapshotFault>;

fn read(name: SnapshotId, bytes: &[u8], length: usize, sizes: &[u8]) -> Verdict {
    let mut examiner = MemberScan::default();
    examiner.begin(FileKind::Snapshot(name), length as u64);
    fuzz::in_pieces(sizes, bytes, |piece| examiner.update(piece));
    match examiner.end() {
        Ok(FileEnd::Snapshot(facts)) => Ok(*facts),
        Err(FileFault::Snapshot(fault)) => Err(fault),
        other => panic!("not a raft snapshot's verdict: {other:?}"),
    }
}

/// What holds for any file. Gives the verdict on it, under the name that it itself says is its own.
fn check(bytes: &[u8], sizes: &[u8], place: usize) -> Verdict {
    let whole = |name, sizes: &[u8]| read(name, bytes, bytes.len(), sizes);
    let mut verdict = whole(ID, &[0]);
    assert_eq!(verdict, whole(ID, sizes));
    match verdict {
        Err(SnapshotFault::Name { found }) => {
            verdict = whole(found, sizes);
            assert!(matches!(verdict, Ok(_) | Err(SnapshotFault::Store(_))));
        }
        Err(SnapshotFault::Malformed { offset } | SnapshotFault::CrcMismatch { offset, .. }) => {
            assert!(offset <= bytes.len() as u64);
        }
        Err(SnapshotFault::CutShort { present, expected }) => assert!(present < expected),
        _ => {}
    }
    // Neither a part of a sound file nor one with a flipped bit is sound.
    if let Ok(SnapshotFacts { id, .. }) = verdict {
        let (cut, bit) = (place / 8 % bytes.len(), 1 << (place % 8));
        assert!(read(id, &bytes[..cut], cut, sizes).is_err());
        assert!(read(id, &bytes[..cut], bytes.len(), sizes).is_err());
        let mut flipped = bytes.to_vec();
        flipped[cut] ^= bit;
        assert!(read(id, &flipped, bytes.len(), sizes).is_err());
    }
    verdict
}

/// A store in a file that checks: only the store itself can be at fault.
fn check_store(json: &[u8], sizes: &[u8], place: usize) -> Option<SnapshotFacts> {
    match check(&raft_snapshot::write(ID, &NODES, json), sizes, place) {
        Ok(facts) => {
            assert_eq!((facts.id, &facts.nodes[..]), (ID, &NODES[..]));
            Some(facts)
        }
        Err(SnapshotFault::Store(_)) => None,
        Err(other) => panic!("{other}"),
    }
}

// input = form 1, piece sizes 3, where to cut and flip 2, body
fuzz_target!(|input: &[u8]| {
    let Some((&[form, ref sizes @ .., low, high], body)) = input.split_first_chunk::<6>() else {
        return;
    };
    let place = usize::from(u16::from_le_bytes([low, high]));
    if form % 2 == 0 {
        let _ = check(body, sizes, place);
        return;
    }
    check_store(body, sizes, place);
    // The same without repeated keys, where serde_json and this crate must read the same.
    let Ok(store) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    let Some(facts) = check_store(store.to_string().as_bytes(), sizes, place) else {
        return;
    };
    let at = |path: &str| store.pointer(&format!("/Root/Children/0/Children/{path}"));
    if let Some(version) = &facts.store.cluster_version {
        let text = at("version/Value")
            .and_then(Value::as_str)
            .unwrap_or_default();
        assert_eq!(text.parse().ok().as_ref(), Some(version));
    }
    let ids = |path| -> BTreeSet<MemberId> {
        let children = at(path).and_then(Value::as_object);
        let ids = children.into_iter().flat_map(|map| map.keys());
        ids.filter_map(|id| id.parse().ok()).collect()
    };
    let members: BTreeSet<_> = facts.store.members.into_keys().collect();
    assert!(members.is_subset(&ids("members/Children")));
    assert!(
        facts
            .store
            .removed
            .is_subset(&ids("removed_members/Children"))
    );
    check_tree(&store, sizes);
});

/// The whole tree of a store without repeated keys.
fn check_tree(json: &Value, sizes: &[u8]) {
    let file = raft_snapshot::write(ID, &NODES, json.to_string().as_bytes());
    let wanted = LoadOptions {
        tree: true,
        fingerprint: true,
        ..LoadOptions::default()
    };
    let mut scan = SnapshotScan::new(ID, file.len() as u64, wanted);
    fuzz::in_pieces(sizes, &file, |piece| scan.update(piece));
    let Ok((facts, Some(tree))) = scan.finish() else {
        return;
    };
    assert!(facts.fingerprint.is_some());
    if is_sorted(&json["Root"]) {
        assert_eq!(facts.fingerprint, Some(tree.fingerprint()));
    }
    assert!(compare(&tree, &tree).is_empty());
    let (summary, expiring) = (tree.summary(3), tree.expiring(0));
    assert!(expiring.expired <= expiring.total);
    assert!(summary.largest_keys.len() as u64 <= summary.keys);
    // Without a fingerprint values are kept as they are written, which must not show.
    let wanted = LoadOptions {
        fingerprint: false,
        ..wanted
    };
    let mut scan = SnapshotScan::new(ID, file.len() as u64, wanted);
    fuzz::in_pieces(&[0], &file, |piece| scan.update(piece));
    let Ok((_, Some(as_written))) = scan.finish() else {
        panic!("sound with a fingerprint and not without");
    };
    assert_eq!(as_written.fingerprint(), tree.fingerprint());
    let [one, other] = [tree, as_written].map(|tree| {
        let (tree, mut answer) = (Arc::new(tree), Vec::new());
        let shown = Shown { hidden: true };
        write_answer(&tree, NodeId::ROOT, shown, 1, &mut answer).expect("a vector");
        answer
    });
    assert_eq!(one, other);
    serde_json::from_slice::<Value>(&one).expect("JSON");
}

/// Whether every directory has its children in the order of their names, as etcd writes them.
fn is_sorted(node: &Value) -> bool {
    let children = node.get("Children").and_then(Value::as_object);
    children.is_none_or(|children| children.keys().is_sorted() && children.values().all(is_sorted))
}
