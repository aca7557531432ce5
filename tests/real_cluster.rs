//! Backups of a real cluster of three, taken at different times, and the results of restoring them: as documented,
//! which makes the members differ, and under a supervisor that restarts etcd all the time.
//!
//! In: etcd and etcdctl 3.4, if they are installed. Out: the members' own answers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::etcd::Connection;
use crate::support::prelude::*;
use crate::support::trio::{MEMBERS, Trio, values};

/// Entries between two raft snapshots.
const SNAPSHOT_COUNT: u64 = 100;
/// How many keys are written after each backup.
const AFTER: usize = 60;
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
                .push(archived(made.trio.data_dir(n), &backups));
            made.trio.start_all();
            made.write(AFTER);
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
    typed("restore {} --data-dir {} --replace", &[&archive, &data_dir])
}

#[test]
fn members_restored_by_the_book_from_their_own_backups_differ() {
    // Guards against the belief that each member's own backup brings a cluster back: it is why `rewind` is there. If a
    // release of etcd refuses or heals this one day, this story says so.
    only_with!(need("etcd") && need("etcdctl"));
    let dir = TempDir::with_prefix("ark-trio-").unwrap();
    let BackedUp {
        mut trio, archives, ..
    } = BackedUp::new(dir.path());
    for (n, archive) in archives.iter().enumerate() {
        let told = restore(archive, trio.data_dir(n)).exits(0);
        let warning = "never each member's own backup";
        let stderr = told.stderr.split_whitespace().collect::<Vec<_>>();
        assert!(stderr.join(" ").contains(warning), "{told:?}");
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
    // A server that still waits to join does not stop after a signal.
    trio.kill(2);
    trio.stop_all();
    let told = typed("diff --json {} {}", &[&trio.data_dir(0), &trio.data_dir(2)])
        .exits(1)
        .json();
    let only_there = |name: &str, other: &str| {
        let keys = told["keys"].as_array().unwrap().iter();
        keys.filter(|key| key[name].is_object() && key[other].is_null())
            .count()
    };
    // What the longest log had and what was written since: both were acknowledged, and no member has both.
    assert!(only_there("b", "a") >= 50, "{outcome}: {told:#}");
    assert!(only_there("a", "b") >= 50, "{outcome}: {told:#}");
    let log = &told["log"];
    assert!(
        log["first_difference_raft_index"].is_u64(),
        "{outcome}: {log:#}"
    );
}

#[test]
fn members_restored_from_one_rewind_of_those_backups_stay_equal() {
    // Guards against a rewind that is right by our own reading and that real servers do not agree on. The backups are taken
    // as above, and what the longest log had is all there.
    only_with!(need("etcd") && need("etcdctl"));
    let dir = TempDir::with_prefix("ark-trio-").unwrap();
    let BackedUp {
        mut trio,
        archives,
        keys,
    } = BackedUp::new(dir.path());
    let out = dir.path().join("rewound");
    let mut args: Vec<OsString> = vec!["rewind".into(), "--json".into(), "--to".into()];
    args.extend(["end".into(), "--out".into(), (&out).into()]);
    args.extend(archives.iter().map(OsString::from));
    let told = ark(args).exits(0).json();
    let rewound = |n: usize| {
        let members = told["members"].as_array().unwrap();
        let name = format!("infra{n}");
        let its = members.iter().find(|made| made["member"]["name"] == *name);
        PathBuf::from(its.unwrap()["archive"].as_str().unwrap())
    };
    // While a member of the old cluster runs, no member of the new one may be restored.
    trio.start_member(1);
    trio.start_member(2);
    trio.wait_healthy(&[1, 2]);
    let before = tree(trio.data_dir(0));
    restore(&rewound(0), trio.data_dir(0)).exits(3);
    assert_eq!(tree(trio.data_dir(0)), before);
    trio.stop_all();
    for n in 0..MEMBERS {
        restore(&rewound(n), trio.data_dir(n)).exits(0);
    }

    trio.start_all();
    let mut expected: BTreeMap<String, String> = (0..keys - AFTER)
        .map(|number| (format!("/app/key-{number}"), format!("value-{number}")))
        .collect();
    assert_eq!(values(&trio.wait_equal()), expected);
    let id = told["new_cluster_id"].as_str().unwrap();
    for n in 0..MEMBERS {
        let mut connection = Connection::new(trio.client(n));
        let answer = connection.get("/v2/keys/").unwrap();
        assert_eq!(answer.header("X-Etcd-Cluster-Id"), Some(id));
    }
    for number in 0..1000 {
        let (key, value) = (format!("more/key-{number}"), format!("{number}"));
        trio.set_v2(number % MEMBERS, &key, &value);
        expected.insert(format!("/{key}"), value);
    }
    assert_eq!(values(&trio.wait_equal()), expected);
    trio.stop_all();
    trio.start_all();
    assert_eq!(values(&trio.wait_equal()), expected);
    // And so do their logs and stores on disk, read by us.
    trio.stop_all();
    for n in 1..MEMBERS {
        let mut args: Vec<OsString> = vec!["diff".into(), "--at-common-index".into()];
        args.extend([trio.data_dir(0).into(), trio.data_dir(n).into()]);
        ark(args).exits(0);
    }
}

#[test]
fn an_old_copy_of_a_member_is_refused_beside_the_others_and_dies_if_it_is_forced() {
    // Guards against the restore that everyone would try first, and shows on real servers what the refusal spares.
    only_with!(need("etcd") && need("etcdctl"));
    let dir = TempDir::with_prefix("ark-trio-").unwrap();
    let mut trio = Trio::start(dir.path(), SNAPSHOT_COUNT);
    let write = |trio: &Trio, what: &str| {
        for number in 0..100 {
            trio.set_v2(number % MEMBERS, &format!("{what}/key-{number}"), what);
        }
        trio.wait_equal();
    };
    write(&trio, "before");
    // The leader knows how far a follower's log has come, and counts on it. It must stay the leader.
    let victim = (0..MEMBERS).find(|n| !trio.leads(*n)).unwrap();
    trio.stop(victim);
    let archive = archived(trio.data_dir(victim), &dir.path().join("backups"));
    trio.start_all();
    write(&trio, "after");
    trio.stop(victim);
    let before = tree(trio.data_dir(victim));
    let refused = restore(&archive, trio.data_dir(victim)).exits(3);
    assert!(refused.stderr.contains("rewind"), "{refused:?}");
    for n in (0..MEMBERS).filter(|n| *n != victim) {
        let url = trio.client_url(n);
        assert!(refused.stderr.contains(&url), "no {url} in {refused:?}");
    }
    assert_eq!(tree(trio.data_dir(victim)), before);

    let mut args: Vec<OsString> = vec!["restore".into(), archive.into(), "--data-dir".into()];
    args.extend([trio.data_dir(victim).into(), "--replace".into()]);
    args.push("--allow-stale-member".into());
    ark(args).exits(0);
    trio.start_member(victim);
    let deadline = Instant::now() + Duration::from_secs(30);
    while trio.runs(victim) {
        assert!(Instant::now() < deadline, "it runs on: etcd has healed it");
        std::thread::sleep(Duration::from_millis(50));
    }
    // Its log says why, and `explain-log` what that means.
    let mut args: Vec<OsString> = vec!["explain-log".into(), "--json".into()];
    args.push(trio.log_path(victim).into());
    let told = ark(args).exits(0).stdout;
    assert!(told.contains(r#""class":"forgotten-log""#), "{told}");
}

/// What a server shows of its data: the id of its cluster, and all its keys as the API tells them.
fn shown(etcd: &Etcd) -> (String, String) {
    let mut connection = Connection::new(etcd.client());
    let path = "/v2/keys/?recursive=true&sorted=true";
    let answer = connection.get(path).unwrap();
    let cluster = answer.header("X-Etcd-Cluster-Id").unwrap().to_owned();
    (cluster, String::from_utf8(answer.body).unwrap())
}

/// Starts a server on `data_dir` again and again, however it ended, until `stop`; what each start showed.
fn supervise(data_dir: &Path, stop: &AtomicBool, starts: &AtomicUsize) -> Vec<(String, String)> {
    // From none, as a unit without `RestartSec`, to one that a restore fits into: on a slow machine later ones are longer.
    let pauses = [0, 30, 200, 1000].map(Duration::from_millis);
    let mut seen = Vec::new();
    for round in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        // One that meets a restore's locks ends by itself.
        if let Some(etcd) = Etcd::try_start_with(data_dir, SNAPSHOT_COUNT) {
            seen.push(shown(&etcd));
            starts.fetch_add(1, Ordering::SeqCst);
            let end = [Etcd::kill, Etcd::stop][round % 2];
            end(etcd);
        }
        let longer = 1 + u32::try_from(round / 8).unwrap();
        std::thread::sleep(pauses[round % pauses.len()] * longer);
    }
    seen
}

/// Looks at the member's directories as fast as it can, until `stop`; how often it looked.
fn watch(data_dir: &Path, stop: &AtomicBool) -> usize {
    let parts = ["member", "member/wal", "member/snap"].map(|part| data_dir.join(part));
    let mut looks = 0;
    while !stop.load(Ordering::Relaxed) {
        let gone = parts.iter().find(|part| !part.exists());
        assert_eq!(gone, None, "gone for an instant");
        looks += 1;
    }
    looks
}

#[test]
fn a_supervisor_that_always_restarts_etcd_never_finds_an_empty_or_half_a_member() {
    // Guards against the instant without a `member/`: etcd would bootstrap an empty member there, and with luck no one would
    // notice for weeks. Its cluster id would be another, as its peer URL is.
    only_with!(need("etcd") && need("etcdctl"));
    let dir = TempDir::with_prefix("ark-supervised-").unwrap();
    let (data_dir, backups) = (dir.path().join("infra0.etcd"), dir.path().join("backups"));
    let mut archives = Vec::new();
    let mut right = Vec::new();
    for state in ["old", "new"] {
        let etcd = Etcd::start_with(&data_dir, SNAPSHOT_COUNT);
        for number in 0..120 {
            etcd.set_v2(&format!("{state}/key-{number}"), state);
        }
        right.push(shown(&etcd));
        etcd.stop();
        archives.push(archived(&data_dir, &backups));
    }
    assert_ne!(right[0].1, right[1].1);

    let (stop, starts) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut done, mut busy) = (0, 0);
    let seen = std::thread::scope(|scope| {
        let supervisor = scope.spawn(|| supervise(&data_dir, &stop, &starts));
        let watcher = scope.spawn(|| watch(&data_dir, &stop));
        let deadline = Instant::now() + Duration::from_secs(180);
        while done < 4 && Instant::now() < deadline && !supervisor.is_finished() {
            let told = restore(&archives[done % 2], &data_dir);
            match told.code {
                0 => {
                    done += 1;
                    drop_kept(&data_dir);
                    let before = starts.load(Ordering::SeqCst);
                    // Two starts: the first may have begun before the exchange.
                    while starts.load(Ordering::SeqCst) < before + 2 && !supervisor.is_finished() {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                }
                11 => {
                    busy += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                _ => {
                    stop.store(true, Ordering::SeqCst);
                    panic!("neither done nor busy: {told:?}");
                }
            }
        }
        stop.store(true, Ordering::SeqCst);
        assert!(watcher.join().unwrap() > 10_000);
        supervisor.join().unwrap()
    });
    println!(
        "{done} restores, {busy} refused as busy, {} starts",
        seen.len()
    );
    for (number, state) in seen.iter().enumerate() {
        let (cluster, keys) = state;
        let beginning: String = keys.chars().take(200).collect();
        let is_right = right.contains(state);
        assert!(is_right, "start {number}: cluster {cluster}, {beginning}");
    }
    assert!(done == 4 && busy > 0 && seen.len() > 8, "{done} {busy}");
    assert!(right.iter().all(|state| seen.contains(state)));
    assert_eq!(names(&data_dir), ["member"]);
}

/// Removes what restores have kept: each is a 64 MB segment.
fn drop_kept(data_dir: &Path) {
    for name in names(data_dir) {
        if name.starts_with("member.before-restore-") {
            fs::remove_dir_all(data_dir.join(name)).unwrap();
        }
    }
}
