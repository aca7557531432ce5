//! What a rewind refuses or warns about before it writes anything.

use super::{
    CRC, ENTRY, HARD_STATE, METADATA, archives, assert_framed_well, keys, number, raft_snapshot,
    rewind, segment_name, step, untar, without_ttl,
};
use crate::support::prelude::*;

#[test]
fn what_a_user_gets_wrong_is_said_and_changes_nothing() {
    // Guards against a typo that takes away the wrong member, or lands in the wrong place.
    let recording = unpack("mem-a");
    let dir = TempDir::new().unwrap();
    let source = recording.data_dir("mem-a");
    let out = dir.path().join("out");
    let wrong = [
        (
            &["--single", "mem-x"][..],
            2,
            "no member named `mem-x` as of entry 73",
        ),
        (
            &["--peer-url", "mem-b=http://127.0.0.1:1"],
            2,
            "named `mem-b`",
        ),
        (
            &[
                "--single",
                "mem-a",
                "--peer-url",
                "mem-d=http://127.0.0.1:1",
            ],
            2,
            "mem-d is to be removed",
        ),
        (&["--peer-url", "mem-a=127.0.0.1:1"], 2, "not a peer URL"),
        (
            &["--peer-url", "mem-a=http://127.0.0.1:1/x"],
            2,
            "not a peer URL",
        ),
        (&["--peer-url", "mem-a"], 2, "expected MEMBER=URL"),
        (
            &["--peer-url", "mem-a=http://127.0.0.1:17380"],
            3,
            "another member has one of them",
        ),
        (&["--base", "mem-d"], 2, "none of the inputs is of `mem-d`"),
        (
            &["--to", "index:74"],
            3,
            "the most up-to-date log ends at 73",
        ),
        (&["--to", "index:0"], 2, "a moment is"),
        (&["--to", "yesterday"], 2, "a moment is"),
        (
            &["--to", "last-before:2.1"],
            3,
            "no cluster version below 2.1 was ever set: the first one, 2.1.0, was set by entry 9",
        ),
        (&["--wal-dir", "elsewhere=wal"], 2, "not one of the targets"),
    ];
    for (flags, code, message) in wrong {
        let refused = rewind(&[&source], &out, flags).exits(code);
        let error = refused.json_error();
        let text = error["message"].as_str().unwrap();
        assert!(text.contains(message), "{flags:?}: {error}");
    }
    let [taken, inside] = [dir.path().join("taken"), source.join("member/out")];
    make_dir(&taken);
    fs::write(taken.join("mine"), b"").unwrap();
    rewind(&[&source], &taken, &[]).exits(3);
    rewind(&[&source], &inside, &[]).exits(3);
    rewind(&[&source], &dir.path().join("no/where"), &[]).exits(10);
    let told = rewind(&[&source], &out, &["--dry-run"]).exits(0).json();
    assert_eq!(told["members"][0]["archive"], Value::Null);
    assert_eq!(names(dir.path()), ["taken"]);
    assert_eq!(names(&taken), ["mine"]);
    // A corrupt archive is refused here, too.
    let (archive, _) = snapshot(&source, &dir.path().join("taken"), &[]);
    flip_middle(&archive);
    let refused = rewind(&[&source, &archive], &out, &[]).exits(4);
    let hint = format!("`etcd-ark verify {}`", archive.display());
    let told = refused.json_error();
    assert!(told["hint"].as_str().unwrap().contains(&hint), "{told}");
    assert!(!out.exists());
    // An empty directory is as good as none.
    make_dir(&out);
    rewind(&[&source], &out, &[]).exits(0);
    assert_eq!(names(&out).len(), 6);
}

#[test]
fn a_member_that_runs_is_not_taken_back_under_its_own_feet() {
    // Guards against a plan made of a log that goes on, and archives without what was written meanwhile.
    let recording = unpack("mem-a");
    let dir = TempDir::new().unwrap();
    let source = recording.data_dir("mem-a");
    let segment = decode::segments(&source.join("member/wal")).pop().unwrap();
    let held = fs::File::open(segment).unwrap();
    rustix::fs::flock(held.file(), rustix::fs::FlockOperation::LockExclusive).unwrap();
    let out = dir.path().join("out");
    let refused = rewind(&[&source], &out, &[]).exits(11);
    assert_has(&refused.json_error()["message"], "etcd runs on");
    let told = rewind(&[&source], &out, &["--dry-run"]).exits(0).json();
    assert_has(&told["warnings"][0], "etcd runs on");
    assert!(!out.exists());
}

#[test]
fn stores_that_differ_in_more_than_in_order_names_are_refused_whatever_the_base() {
    // Guards against damage, or a diverged member, that hides behind the in-order trap.
    let story = unpack("upgrade-story");
    let dir = TempDir::new().unwrap();
    let [_, _, source] = step(&story, "2-backup");
    let damaged = dir.path().join("damaged");
    copy_dir(&source, &damaged);
    let newest = decode::snaps(&damaged.join("member/snap")).pop().unwrap();
    let saved = decode::raft_snapshot(&fs::read(&newest).unwrap());
    let from = saved.json.find(r#""/1/app/config/"#).unwrap();
    let value = from + saved.json[from..].find(r#""Value":"v2"#).unwrap() + 9;
    let mut json = saved.json.clone().into_bytes();
    json[value] = b'x';
    fs::write(
        &newest,
        raft_snapshot(saved.term, saved.index, &saved.nodes, &json),
    )
    .unwrap();
    ark(["verify".as_ref(), damaged.as_os_str()]).exits(0);
    let out = dir.path().join("out");
    let path = damaged.to_str().unwrap();
    for flags in [&[][..], &["--base", "infra2"], &["--base", path]] {
        let refused = rewind(&[&source, &damaged], &out, flags).exits(3);
        let message = refused.json_error()["message"].as_str().unwrap().to_owned();
        assert_has(&message, "not because of in-order names");
        assert!(
            message.contains("1 key differs") && message.contains("/1/app/config/"),
            "{message}"
        );
    }
    assert!(!out.exists());
}

#[test]
fn a_cluster_that_was_never_below_is_not_cut_to_its_first_entries() {
    // Guards against a default that empties a cluster born on a later release, and against a WAL dir that is forgotten.
    let recording = unpack("waldir");
    let dir = TempDir::new().unwrap();
    let (source, wal) = (recording.data_dir("waldir"), recording.path("waldir.wal"));
    let out = dir.path().join("out");
    rewind(&[&source], &out, &[]).exits(10);
    let pair = format!("{}={}", source.display(), wal.display());
    let refused = rewind(&[&source], &out, &["--wal-dir", &pair]).exits(3);
    let message = refused.json_error()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("no cluster version below 2.2 was ever set"),
        "{message}"
    );
    let spelt_otherwise = format!("{}/member/..={}", source.display(), wal.display());
    let told = rewind(
        &[&source],
        &out,
        &["--wal-dir", &spelt_otherwise, "--to", "end"],
    )
    .exits(0)
    .json();
    let (_, archive) = archives(&told).pop_first().unwrap();
    assert_eq!(
        without_ttl(keys(&archive)),
        without_ttl(recording.json("waldir.keys.json"))
    );
    assert_eq!(
        names(&untar(&archive, &dir.path().join("data")).join("member")),
        ["snap", "wal"]
    );
}

#[test]
fn keeping_the_cluster_id_is_possible_and_warned_of() {
    // Guards against an old member that comes back late and mixes in without a word.
    let recording = unpack("mem-a");
    let dir = TempDir::new().unwrap();
    let told = rewind(
        &[&recording.data_dir("mem-a")],
        &dir.path().join("out"),
        &["--keep-cluster-id"],
    );
    let told = told.exits(0).json();
    assert_eq!(told["new_cluster_id"], told["cluster_id"]);
    assert_has(&told["warnings"][0], "keeps its id");
    let (_, archive) = archives(&told).pop_first().unwrap();
    let data = untar(&archive, &dir.path().join("data"));
    assert_eq!(
        decode::log(&data.join("member/wal")).cluster_id,
        0x1b3e_7184_1435_7104
    );
}

#[test]
fn a_long_log_is_cut_into_segments_as_etcd_cuts_it() {
    // Guards against a segment that etcd would never have written, which its next purge or start stumbles over.
    let recording = unpack("multisegment");
    let dir = TempDir::new().unwrap();
    let source = recording.data_dir("multisegment");
    for snap in decode::snaps(&source.join("member/snap")) {
        fs::remove_file(snap).unwrap();
    }
    let out = dir.path().join("out");
    let told = rewind(&[&source], &out, &["--to", "end"]).exits(0).json();
    let (id, archive) = archives(&told).pop_first().unwrap();
    let data = untar(&archive, &dir.path().join("data"));
    assert_framed_well(&data, false);
    let (old, new) = (source.join("member/wal"), data.join("member/wal"));
    assert!(decode::entries(&old) == decode::entries(&new));
    let (term, mut last) = (told["term"].as_u64().unwrap(), 0);
    let segments = decode::segments(&new);
    assert_eq!(segments.len(), 3);
    for (sequence, path) in segments.iter().enumerate() {
        assert_eq!(
            path.file_name().unwrap().to_str().unwrap(),
            segment_name(sequence as u64, if sequence == 0 { 0 } else { last + 1 })
        );
        let frames = decode::frames(&fs::read(path).unwrap());
        assert_eq!([frames[0].kind, frames[1].kind], [CRC, METADATA]);
        assert_eq!(number(&frames[1].data, 1), id);
        let state = |frame: &decode::FrameRead| {
            (
                frame.kind,
                [1, 2, 3].map(|field| number(&frame.data, field)),
            )
        };
        if sequence > 0 {
            assert_eq!(state(&frames[2]), (HARD_STATE, [term, 0, last]));
        }
        let entries = frames.iter().filter(|frame| frame.kind == ENTRY);
        last = number(&entries.clone().next_back().unwrap().data, 3);
        assert_eq!(state(frames.last().unwrap()), (HARD_STATE, [term, 0, last]));
        if sequence + 1 < segments.len() {
            // The last entry crosses 64 MB; the one before it does not.
            let crossing = entries.clone().next_back().unwrap();
            assert!(crossing.end >= 64_000_000 && crossing.offset < 64_000_000);
        }
    }
}
