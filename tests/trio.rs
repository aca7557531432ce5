//! Backups of a real cluster of three, taken at different times, and what comes of restoring them: by the book, which
//! makes the members differ, and under a supervisor that never stops trying.
//!
//! In: etcd and etcdctl 3.4, where they are installed. Out: what the members themselves answer.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::tools::{Ran, ark, need, snapshot};
use crate::support::trio::{MEMBERS, Trio, values};

/// Entries between two raft snapshots.
const SNAPSHOT_COUNT: u64 = 100;
/// How long a member that may never serve again is waited for.
const BRIEFLY: Duration = Duration::from_secs(10);

/// A cluster at work and its members' cold backups, each taken at another position of the log.
struct BackedUp {
    trio: Trio,
    /// One archive of each member, the shortest log first.
    archives: Vec<PathBuf>,
    /// How many keys there are, named `app/key-N`.
    keys: usize,
}

impl BackedUp {
    /// Writes before, between and after the backups; every member is up again, and all are stopped at the end.
    fn new(dir: &Path) -> Self {
        let mut made = Self {
            trio: Trio::start(dir, SNAPSHOT_COUNT),
            archives: Vec::new(),
            keys: 0,
        };
        made.write(150);
        for n in 0..MEMBERS {
            made.trio.stop(n);
            let backups = dir.join("backups");
            made.archives
                .push(snapshot(made.trio.data_dir(n), &backups));
            made.trio.start_all();
            made.write(60);
        }
        made.trio.wait_equal();
        made.trio.stop_all();
        made
    }

    fn write(&mut self, count: usize) {
        for _ in 0..count {
            let number = self.keys;
            let key = format!("app/key-{number}");
            self.trio
                .set_v2(number % MEMBERS, &key, &format!("value-{number}"));
            self.keys += 1;
        }
    }
}

fn restore(archive: &Path, data_dir: &Path) -> Ran {
    let mut args: Vec<OsString> = vec!["restore".into(), archive.into(), "--data-dir".into()];
    args.extend([data_dir.into(), "--replace".into()]);
    ark(args)
}

#[test]
fn members_restored_by_the_book_from_their_own_backups_differ() {
    // Guards against the belief that each member's own backup brings a cluster back: it is why `rewind` is there. If a
    // release of etcd refuses or heals this one day, this story says so.
    if !need("etcd") || !need("etcdctl") {
        return;
    }
    let dir = TempDir::with_prefix("ark-trio-").unwrap();
    let BackedUp {
        mut trio, archives, ..
    } = BackedUp::new(dir.path());
    for (n, archive) in archives.iter().enumerate() {
        let told = restore(archive, trio.data_dir(n)).expect(0);
        let warning = "never each member from its own backup";
        assert!(told.stderr.contains(warning), "{told:?}");
    }
    // The two shorter logs are a majority: they go on as if nothing had been after them.
    trio.start_member(0);
    trio.start_member(1);
    trio.wait_healthy(&[0, 1]);
    for number in 0..100 {
        trio.set_v2(0, &format!("new/key-{number}"), "written after the restore");
    }
    trio.start_member(2);
    let began = Instant::now();
    while began.elapsed() < BRIEFLY && trio.runs(2) && !trio.healthy(2) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let outcome = if !trio.runs(2) {
        "the third ended by itself".to_owned()
    } else if trio.healthy(2) {
        // It calls itself healthy, as the others do, and holds what they have lost.
        let kept = values(&trio.keys(2));
        let lost = values(&trio.keys(0));
        let only_there = kept.keys().filter(|key| !lost.contains_key(*key)).count();
        assert!(only_there > 0, "etcd has healed it: {kept:?}");
        let missing = lost.keys().filter(|key| !kept.contains_key(*key)).count();
        format!("all healthy; {only_there} keys only on the third, {missing} missing there")
    } else {
        "the third does not serve".to_owned()
    };
    println!("{outcome}");
    // One that still waits to join does not stop when it is told to.
    trio.kill(2);
    trio.stop_all();
    let args: [OsString; 4] = [
        "diff".into(),
        "--json".into(),
        trio.data_dir(0).into(),
        trio.data_dir(2).into(),
    ];
    let told = ark(args).expect(1).json();
    let only_there = |name: &str, other: &str| {
        let keys = told["keys"].as_array().unwrap().iter();
        keys.filter(|key| key[name].is_object() && key[other].is_null())
            .count()
    };
    // What the longest log had and what was written since: both were acknowledged, and no member has both.
    assert!(only_there("b", "a") >= 50, "{outcome}: {told:#}");
    assert!(only_there("a", "b") >= 50, "{outcome}: {told:#}");
    let log = &told["log"];
    assert!(log["first_difference"].is_u64(), "{outcome}: {log:#}");
}
