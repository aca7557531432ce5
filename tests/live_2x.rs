//! Clusters of real etcd 2.1 and 2.2 servers: upgrades, downgrades while possible, and rewinds after the move.
//!
//! In: the servers in `ETCD_ARK_ETCD_2_1`, `ETCD_ARK_ETCD_2_2` and so on; without them these stories are skipped
//! with a message. Out: the servers' own answers after each step.

mod lost_disk;
mod refreshes;
mod rewinds;
mod runbooks;
pub(crate) mod starts;

use std::net::SocketAddr;

use crate::support::etcd::http;
use crate::support::prelude::*;
use crate::support::trio::{MEMBERS, Program, Trio, without_ttl};

/// Entries between two raft snapshots.
const SNAPSHOT_COUNT: u64 = 100;
/// How long a cluster may take to decide on a version, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster on its way from one release to the next and back, with a backup dir that all members share.
struct Roll {
    trio: Trio,
    old: PathBuf,
    new: PathBuf,
    backups: PathBuf,
    /// How many keys there are, named `app/key-N`.
    keys: usize,
    /// Goes after the servers, which write there.
    _dir: TempDir,
}

impl Roll {
    /// Three members of 2.1 with keys of every kind; `None` without the servers.
    fn start() -> Option<Self> {
        let mut roll = Self::of(["2.1", "2.2"], |dir| Trio::prepare(dir, SNAPSHOT_COUNT))?;
        roll.write_every_kind();
        roll.request("PUT", "app/short-lived", "value=x&ttl=86400");
        Some(roll)
    }

    /// As [`Roll::start`] at these client and peer addresses, and without a key that expires.
    fn start_at(addresses: impl Fn(usize) -> [SocketAddr; 2]) -> Option<Self> {
        let prepare = |dir: &Path| Trio::prepare_at(dir, SNAPSHOT_COUNT, addresses);
        let mut roll = Self::of(["2.1", "2.2"], prepare)?;
        roll.write_every_kind();
        Some(roll)
    }

    /// Three members of the first release, without a key.
    fn of([before, after]: [&str; 2], prepare: impl FnOnce(&Path) -> Trio) -> Option<Self> {
        let (old, new) = (need_etcd_2x(before)?, need_etcd_2x(after)?);
        let dir = TempDir::with_prefix("ark-roll-").unwrap();
        let mut trio = prepare(dir.path());
        (0..MEMBERS).for_each(|n| trio.set_program(n, Program::Etcd2(old.clone())));
        trio.start_all();
        let backups = dir.path().join("backups");
        let roll = Self {
            trio,
            old,
            new,
            backups,
            keys: 0,
            _dir: dir,
        };
        roll.wait_version(&format!("{before}.0"));
        Some(roll)
    }

    fn write_every_kind(&mut self) {
        for number in 0..20 {
            self.trio.post_v2(number % MEMBERS, "queue", "job");
        }
        self.request("PUT", "app/_hidden", "value=seen%20by%20no%20listing");
        self.request("PUT", "app/empty", "dir=true");
        self.request("PUT", "app/gone", "value=x");
        self.request("DELETE", "app/gone", "");
        // Every member has a raft snapshot above the last POST: else 2.2 would give those keys other names.
        self.write(130);
    }

    fn request(&self, method: &str, key: &str, form: &str) {
        let path = format!("/v2/keys/{key}");
        let (status, body) = http(self.trio.client(0), method, &path, form).unwrap();
        assert!(
            matches!(status, 200 | 201),
            "{method} {key}: {status} {body}"
        );
    }

    fn write(&mut self, count: usize) {
        for _ in 0..count {
            let number = self.keys;
            let (key, value) = (format!("app/key-{number}"), format!("value-{number}"));
            self.trio.set_v2(number % MEMBERS, &key, &value);
            self.keys += 1;
        }
    }

    /// Waits until every member says that this is the cluster version.
    #[track_caller]
    fn wait_version(&self, version: &str) {
        let deadline = Instant::now() + PATIENCE;
        for n in 0..MEMBERS {
            while self.trio.version(n)["etcdcluster"] != version {
                assert!(Instant::now() < deadline, "{}", self.trio.version(n));
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    /// What the members run, and what they say the cluster's version is.
    fn versions(&self) -> [Value; MEMBERS] {
        [0, 1, 2].map(|n| self.trio.version(n))
    }

    /// Runs a command of the tool as JSON, for the member at a place: its directories, all endpoints.
    fn ark_for(&self, n: usize, words: &[&str], more: &[&str]) -> Ran {
        let mut args: Vec<OsString> = words.iter().map(OsString::from).collect();
        args.extend(["--json".into(), "--data-dir".into()]);
        args.push(self.trio.data_dir(n).into());
        if words[0] != "snapshot" {
            args.extend(["--endpoints".into(), self.trio.endpoints().into()]);
        }
        args.extend(["--backup-dir".into(), self.backups.clone().into()]);
        args.extend(more.iter().map(OsString::from));
        ark(args)
    }

    #[track_caller]
    fn check(&self, code: i32) -> Value {
        let endpoints = self.trio.endpoints();
        let args = ["downgrade", "check", "--json", "--endpoints", &endpoints];
        ark(args).exits(code).json()
    }

    /// A backup of every member: `preflight` lets no member begin without.
    #[track_caller]
    fn back_up_all(&self) {
        for n in 0..MEMBERS {
            self.ark_for(n, &["snapshot"], &["--label", "pre-upgrade"])
                .exits(0);
        }
    }

    /// One member's turn, by the book: looked at, backed up, stopped, started as 2.2.
    #[track_caller]
    fn upgrade(&mut self, n: usize) {
        self.ark_for(n, &["snapshot"], &["--label", "pre-upgrade"])
            .exits(0);
        let ready = self.ark_for(n, &["preflight"], &[]).exits(0).json();
        assert_ne!(ready["status"], "failed", "{ready:#}");
        self.trio.stop(n);
        self.install(n, true);
        self.trio.start_member(n);
        self.trio.wait_healthy(&[0, 1, 2]);
    }

    /// Gives a stopped member the new or the old binary.
    fn install(&mut self, n: usize, new: bool) {
        let program = if new { &self.new } else { &self.old };
        self.trio.set_program(n, Program::Etcd2(program.clone()));
    }

    fn archives(&self) -> Vec<PathBuf> {
        archives_in(&self.backups)
    }
}

/// Runs the tool with paths among its words.
fn ark_with(words: &[&str], paths: &[&Path]) -> Ran {
    let words = words.iter().map(OsStr::new);
    ark(words.chain(paths.iter().map(|path| path.as_os_str())))
}

#[test]
fn a_mixed_cluster_goes_back_member_by_member_with_every_key_and_a_moved_one_is_refused() {
    // Guards against a gate that closes the only way back while it is open, and against one that opens after the move.
    let Some(mut roll) = Roll::start() else {
        return;
    };
    let unready = roll.ark_for(0, &["preflight"], &[]).exits(3);
    assert!(unready.stderr.contains("all backups"), "{unready:#?}");
    roll.back_up_all();
    for n in [0, 1] {
        roll.upgrade(n);
        roll.write(15);
    }
    let mixed = roll.versions();
    assert_eq!(
        mixed[0],
        json!({"etcdserver": "2.2.5", "etcdcluster": "2.1.0"})
    );
    assert_eq!(
        mixed[2],
        json!({"etcdserver": "2.1.3", "etcdcluster": "2.1.0"})
    );
    assert_eq!(roll.check(0)["verdict"], "allowed");
    let keys = roll.trio.wait_equal();
    for n in [0, 1] {
        // While it runs its directory is busy, and nothing is done.
        let busy = roll.ark_for(n, &["downgrade", "run"], &["--settle", "0"]);
        assert_eq!(busy.exits(11).json_error()["kind"], "busy");
        roll.trio.stop(n);
        let before = tree(roll.trio.data_dir(n));
        let told = roll.ark_for(n, &["downgrade", "run"], &[]).exits(0).json();
        assert_eq!(told["gate"]["verdict"], "allowed", "{told:#}");
        assert_eq!(
            tree(roll.trio.data_dir(n)),
            before,
            "its data are kept as they are"
        );
        roll.install(n, false);
        roll.trio.start_member(n);
        roll.trio.wait_healthy(&[0, 1, 2]);
    }
    let back = json!({"etcdserver": "2.1.3", "etcdcluster": "2.1.0"});
    assert_eq!(roll.versions(), [0, 1, 2].map(|_| back.clone()));
    assert_eq!(roll.trio.wait_equal(), keys);

    // The whole way this time.
    for n in 0..MEMBERS {
        roll.upgrade(n);
    }
    roll.wait_version("2.2.0");
    assert_eq!(roll.trio.wait_equal(), keys);
    let refused = roll.check(3);
    assert_eq!(refused["reason"], "moved", "{refused:#}");
    roll.trio.stop(1);
    let before = tree(roll.trio.data_dir(1));
    let archives = roll.archives();
    let told = roll.ark_for(1, &["downgrade", "run"], &[]).exits(3).json();
    assert_eq!(told["gate"]["reason"], "moved", "{told:#}");
    assert_eq!(tree(roll.trio.data_dir(1)), before);
    assert_eq!(roll.archives(), archives);
    // It is the only guard there is: 2.1 starts on such data without a word.
    roll.install(1, false);
    roll.trio.start_member(1);
    roll.trio.wait_healthy(&[0, 1, 2]);
    let silent = json!({"etcdserver": "2.1.3", "etcdcluster": "2.2.0"});
    assert_eq!(roll.trio.version(1), silent);
}

/// A cluster that has moved and must go back: what every member held in the instant before, and the archives to rewind.
struct Moved {
    roll: Roll,
    before: Value,
    /// How many keys were written after the move.
    lost: usize,
}

impl Moved {
    /// Rolls to the end and writes on. With `wal_dir` the segments move to a dedicated WAL dir with the upgrade.
    fn new(mut roll: Roll, wal_dir: bool) -> Self {
        roll.back_up_all();
        for n in [0, 1] {
            roll.upgrade(n);
            if wal_dir {
                roll.use_wal_dir(n);
            }
            roll.write(15);
        }
        let before = roll.trio.wait_equal();
        roll.upgrade(2);
        roll.wait_version("2.2.0");
        if wal_dir {
            roll.use_wal_dir(2);
        }
        let lost = 40;
        roll.write(lost);
        roll.trio.wait_equal();
        roll.trio.stop_all();
        for n in 0..MEMBERS {
            let wal_dir = roll.wal_dir(n);
            let wal_dir: Vec<&str> = match &wal_dir {
                Some(wal_dir) => vec!["--wal-dir", wal_dir.to_str().unwrap()],
                None => Vec::new(),
            };
            let flags = [&["--all", "--label", "before-rewind"][..], &wal_dir].concat();
            roll.ark_for(n, &["snapshot"], &flags).exits(0);
        }
        Self { roll, before, lost }
    }

    /// Rewinds all archives to before the move and gives the archive of each member.
    fn rewind(&self) -> Vec<PathBuf> {
        let out = self.roll.backups.with_file_name("rewound");
        let archives = self.roll.archives();
        let mut paths: Vec<&Path> = archives.iter().map(PathBuf::as_path).collect();
        paths.extend([Path::new("--out"), &out]);
        let plan = ark_with(&["rewind", "--json", "--dry-run"], &paths)
            .exits(0)
            .json();
        assert_eq!(plan["lost"]["client_writes"], self.lost, "{plan:#}");
        assert!(!out.exists());
        let made = ark_with(&["rewind", "--json"], &paths).exits(0).json();
        assert_eq!(made["cluster_version"], "2.1.0");
        assert_eq!(made["to_raft_index"], plan["to_raft_index"]);
        let members = made["members"].as_array().unwrap();
        let archive = |n: usize| {
            let name = json!(format!("infra{n}"));
            let mut members = members.iter();
            let own = members.find(|member| member["member"]["name"] == name);
            PathBuf::from(own.unwrap()["archive"].as_str().unwrap())
        };
        (0..MEMBERS).map(archive).collect()
    }
}

impl Roll {
    /// Where a member keeps its segments, if it is not in its data dir.
    fn wal_dir(&self, n: usize) -> Option<PathBuf> {
        let wal_dir = self.trio.data_dir(n).with_extension("wal");
        wal_dir.exists().then_some(wal_dir)
    }

    /// Stops a member of 2.2, moves its segments out of its data dir, and starts it with `--wal-dir`.
    fn use_wal_dir(&mut self, n: usize) {
        self.trio.stop(n);
        let wal_dir = self.trio.data_dir(n).with_extension("wal");
        fs::rename(self.trio.data_dir(n).join("member/wal"), &wal_dir).unwrap();
        self.trio.set_wal_dir(n, Some(&wal_dir));
        self.trio.start_member(n);
        self.trio.wait_healthy(&[0, 1, 2]);
    }

    /// Starts a member that must end by itself, with these words in its log and no file of its data dir changed.
    #[track_caller]
    fn ends_with(&mut self, n: usize, words: &str) {
        let before = tree(self.trio.data_dir(n));
        self.trio.start_member(n);
        let deadline = Instant::now() + PATIENCE;
        while self.trio.runs(n) {
            assert!(Instant::now() < deadline, "it runs: {}", self.trio.log(n));
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = self.trio.log(n);
        assert!(log.contains(words), "{log}");
        let after = tree(self.trio.data_dir(n));
        for (path, stat) in before {
            assert!(after[&path].same_content(&stat), "{}", path.display());
        }
    }

    fn restore(&self, n: usize, archive: &Path) -> Ran {
        let mut paths = vec![archive, Path::new("--data-dir"), self.trio.data_dir(n)];
        let wal_dir = self.wal_dir(n);
        if let Some(wal_dir) = &wal_dir {
            paths.extend([Path::new("--wal-dir"), wal_dir]);
        }
        ark_with(&["restore", "--json", "--replace"], &paths)
    }
}

/// What the archive is said to hold, in the server's own shape.
fn predicted(archive: &Path) -> Value {
    without_ttl(ark_with(&["keys", "--json"], &[archive]).exits(0).json())
}

#[test]
fn a_moved_cluster_is_rewound_and_serves_every_key_of_the_instant_before_under_21() {
    let Some(roll) = Roll::start() else {
        return;
    };
    let mut moved = Moved::new(roll, false);
    let archives = moved.rewind();
    let roll = &mut moved.roll;
    for (n, archive) in archives.iter().enumerate() {
        assert_eq!(predicted(archive), moved.before);
        roll.restore(n, archive).exits(0);
        roll.install(n, false);
    }
    roll.trio.start_all();
    let back = json!({"etcdserver": "2.1.3", "etcdcluster": "2.1.0"});
    assert_eq!(roll.versions(), [0, 1, 2].map(|_| back.clone()));
    assert_eq!(roll.trio.wait_equal(), moved.before);

    // A playbook that runs a second time must not take back what the rewound cluster has acknowledged since.
    roll.write(10);
    let newer = roll.trio.wait_equal();
    roll.trio.stop(1);
    let before = tree(roll.trio.data_dir(1));
    for flags in [
        &["restore", "--json", "--replace"][..],
        &["restore", "--json", "--replace", "--offline"],
    ] {
        let paths = [
            archives[1].as_path(),
            Path::new("--data-dir"),
            roll.trio.data_dir(1),
        ];
        let refused = ark_with(flags, &paths).exits(3);
        assert_eq!(refused.json_error()["kind"], "refused", "{flags:?}");
        assert_eq!(tree(roll.trio.data_dir(1)), before, "{flags:?}");
    }
    // Also when no member runs.
    roll.trio.stop_all();
    roll.restore(1, &archives[1]).exits(3);
    roll.trio.start_all();
    assert_eq!(roll.trio.wait_equal(), newer);
    // And up again, the whole way: the old cluster's backups are none of this one.
    roll.back_up_all();
    for n in 0..MEMBERS {
        roll.upgrade(n);
    }
    roll.wait_version("2.2.0");
    assert_eq!(roll.trio.wait_equal(), newer);
}

#[test]
fn a_member_with_a_wal_dir_goes_back_with_its_segments_and_a_forgotten_flag_starts_no_empty_member()
{
    // Guards against the empty member that 2.1 makes of one whose segments it does not find, and 2.2 of one whose WAL dir is
    // empty.
    let Some(mut roll) = Roll::start() else {
        return;
    };
    roll.back_up_all();
    roll.upgrade(0);
    roll.use_wal_dir(0);
    roll.write(15);
    let keys = roll.trio.wait_equal();
    roll.trio.stop(0);
    let wal_dir = roll.wal_dir(0).unwrap();
    let flag = ["--wal-dir", wal_dir.to_str().unwrap()];
    let told = roll.ark_for(0, &["downgrade", "run"], &flag).exits(3);
    assert!(told.stderr.contains("--move-wal"), "{told:#?}");
    let flags = [&flag[..], &["--move-wal"]].concat();
    roll.ark_for(0, &["downgrade", "run"], &flags).exits(0);
    roll.ends_with(0, "wal: file not found");
    roll.trio.set_wal_dir(0, None);
    roll.install(0, false);
    roll.trio.start_all();
    let back = json!({"etcdserver": "2.1.3", "etcdcluster": "2.1.0"});
    assert_eq!(roll.trio.version(0), back);
    assert_eq!(roll.trio.wait_equal(), keys);
}

#[test]
fn a_cluster_with_dedicated_wal_dirs_is_rewound_to_21_and_the_emptied_ones_start_no_empty_member() {
    // Guards against the WAL dir that 2.1 does not look into, and against a server that still has the flag.
    let Some(roll) = Roll::start() else {
        return;
    };
    let mut moved = Moved::new(roll, true);
    let archives = moved.rewind();
    let roll = &mut moved.roll;
    for (n, archive) in archives.iter().enumerate() {
        roll.restore(n, archive).exits(0);
    }
    // A unit that was forgotten: still the new binary, still the flag.
    roll.ends_with(2, "wal: file not found");
    for n in 0..MEMBERS {
        roll.trio.set_wal_dir(n, None);
        roll.install(n, false);
    }
    roll.trio.start_all();
    let back = json!({"etcdserver": "2.1.3", "etcdcluster": "2.1.0"});
    assert_eq!(roll.versions(), [0, 1, 2].map(|_| back.clone()));
    assert_eq!(roll.trio.wait_equal(), moved.before);
}
