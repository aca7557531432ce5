//! Bytes as a WAL segment: raw, or as records whose CRCs check, in the frames of 2.x or 3.x; alone,
//! or above a raft snapshot.
#![no_main]

use etcd_ark::etcd::ids::SegmentName;
use etcd_ark::etcd::ids::SnapshotId;
use etcd_ark::etcd::ids::{Index, Term};
use etcd_ark::etcd::member::{MemberFacts, StartFault};
use etcd_ark::etcd::raft_snapshot;
use etcd_ark::etcd::scan::{FileEnd, FileFault, FileKind, MemberScan};
use etcd_ark::etcd::wal::resync::next_whole_record;
use etcd_ark::etcd::wal::segment::{Break, SegmentEnd, SegmentFault};
use libfuzzer_sys::fuzz_target;

/// The store of a member that nothing has happened to, as etcd 2.1 saves it.
const STORE: &[u8] = br#"{"Root":{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{"0":{"Path":"/0","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{}},"1":{"Path":"/1","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{}}}},"WatcherHub":{"EventHistory":{"Queue":{"Events":[],"Size":0,"Front":0,"Back":0,"Capacity":1000},"StartIndex":0,"LastIndex":0}},"CurrentIndex":0,"Stats":{},"CurrentVersion":2}"#;

type Verdict = (Result<SegmentEnd, Break>, Result<MemberFacts, StartFault>);

/// An examiner that has read a raft snapshot at `index`, or nothing if that is 0.
fn begin(index: u64) -> MemberScan {
    let mut examiner = MemberScan::default();
    if index > 0 {
        let (term, index) = (Term(1), Index(index));
        let id = SnapshotId { term, index };
        let file = raft_snapshot::write(id, &[], STORE);
        examiner.begin(FileKind::Snapshot(id), file.len() as u64);
        examiner.update(&file);
        assert!(examiner.end().is_ok());
    }
    examiner
}

fn read(snapshot: u64, name: SegmentName, bytes: &[u8], sizes: &[u8]) -> Verdict {
    let mut examiner = begin(snapshot);
    examiner.begin(FileKind::Segment(name), bytes.len() as u64);
    fuzz::in_pieces(sizes, bytes, |piece| examiner.update(piece));
    let end = match examiner.end() {
        Ok(FileEnd::Segment(end)) => Ok(end),
        Err(FileFault::Segment(found)) => Err(found),
        other => panic!("not a segment's verdict: {other:?}"),
    };
    (end, examiner.finish())
}

// input = form 1 and 3 times the raft snapshot's index, sequence 1, first index 8, piece sizes 3, where to cut 2, body
fuzz_target!(|input: &[u8]| {
    let Some((&[form, sequence, ref more @ ..], body)) = input.split_first_chunk::<15>() else {
        return;
    };
    let (&first_index, more) = more.split_first_chunk().expect("8 of 13 bytes");
    let (sizes, cut) = more.split_at(3);
    let snapshot = u64::from(form / 3);
    let name = SegmentName {
        sequence: sequence.into(),
        first_index: Index(u64::from_le_bytes(first_index)),
    };
    let segment = match form % 3 {
        0 => body.to_vec(),
        form => fuzz::segment(body, form == 2),
    };
    let length = segment.len();
    let verdict = read(snapshot, name, &segment, &[0]);
    assert_eq!(verdict, read(snapshot, name, &segment, sizes));
    let (end, facts) = verdict;
    // Where the whole records end, and how much of the segment is as it should be.
    let (records, sound) = match end {
        Ok(SegmentEnd::Whole { offset } | SegmentEnd::Begun { offset }) => {
            assert_eq!(offset, length as u64);
            (length, length)
        }
        Ok(SegmentEnd::Preallocated { offset }) => {
            assert!(segment[offset as usize..].iter().all(|&byte| byte == 0));
            (offset as usize, length)
        }
        Ok(SegmentEnd::TornTail { offset }) => {
            let behind = &segment[offset as usize + 1..];
            let next = next_whole_record(behind, behind.len() as u64).expect("no I/O");
            assert!(next.is_none_or(|next| next < behind.len() as u64));
            (offset as usize, offset as usize)
        }
        Err(found) => (found.offset as usize, found.offset as usize),
    };
    // Cut anywhere in that, it is the same log, cut short.
    let cut = usize::from(u16::from_le_bytes([cut[0], cut[1]])) % (sound + 1);
    for cut in [cut, records] {
        match read(snapshot, name, &segment[..cut], sizes).0 {
            Ok(end) if cut == records => assert_eq!(end.records_end(), cut as u64),
            Ok(end) => assert!(end.records_end() <= cut.min(records) as u64),
            Err(found) => assert_eq!(found.fault, SegmentFault::NoHeader, "cut at {cut}"),
        }
    }
    if let Ok(facts) = facts {
        assert!(facts.position.commit <= facts.position.index);
        assert!(facts.segments.iter().all(|at| at.records_end <= at.bytes));
        assert!(facts.jumps.iter().all(|jump| jump.after < jump.to));
    }
});
