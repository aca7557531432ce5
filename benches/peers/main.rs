//! How fast the main job is, as ratios against the tools an operator would use instead, all in
//! one run on one machine.
//!
//! `cargo bench --bench peers` makes a data dir (5 raft snapshots of some 88 MB, 5 segments of
//! 64 MB, JSON-like values), runs each job in turn with its peer, A B A B …, and prints medians
//! and the ratio pair by pair. Settings, from the environment: `ETCD_ARK_BENCH_ROUNDS` (5),
//! `ETCD_ARK_BENCH_SCALE` in percent of the full size (100), `ETCD_ARK_BENCH_DIR` (the system's
//! temporary directory), `ETCD_ARK_BENCH_LEVEL` (zstd level of both, 3), `ETCD_ARK_BENCH_PART`
//! (`bytes`: captures and the like, `store`: what looks into the store; both unless told).
//!
//! What looks into the store (`keys`, `verify --deep`) is measured against a parse of the same
//! raft snapshot's JSON with `serde_json` into a plain `Value`, a process for each raft snapshot.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

mod aged_store;
mod generate;
mod measure;
mod parse;

use std::path::{Path, PathBuf};

use measure::{Job, alone, has, in_turn, shell, tell};

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|mode| mode == parse::MODE) {
        parse::run(Path::new(&arguments.next().unwrap()));
    }
    let setting = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
    };
    let rounds = setting("ETCD_ARK_BENCH_ROUNDS", 5) as usize;
    let scale = setting("ETCD_ARK_BENCH_SCALE", 100);
    let level = setting("ETCD_ARK_BENCH_LEVEL", 3);
    let parent = std::env::var_os("ETCD_ARK_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(parent).unwrap();
    let bench = Bench {
        ark: env!("CARGO_BIN_EXE_etcd-ark").to_owned(),
        dir: dir.path().to_path_buf(),
        level,
        rounds,
    };
    println!(
        "zstd level {level}; {rounds} rounds; {} cores",
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    );
    let part = std::env::var("ETCD_ARK_BENCH_PART").ok();
    let wanted = |name| part.as_deref().is_none_or(|part| part == name);
    if wanted("bytes") {
        bench.bytes(scale);
    }
    if wanted("store") {
        bench.store(scale);
    }
}

struct Bench {
    ark: String,
    dir: PathBuf,
    level: u64,
    rounds: usize,
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn fresh(&self, name: &str) {
        let path = self.path(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
    }

    /// What is done to bytes.
    fn bytes(&self, scale: u64) {
        let made = generate::data_dir(&self.path("data"), scale);
        println!(
            "data dir: {:.1} MB, live set {:.1} MB in {} files",
            made.bytes as f64 / 1e6,
            made.live_bytes as f64 / 1e6,
            made.live.len(),
        );
        let live = made.live.join(" ");
        self.snapshot("snapshot (live set)", "", &live, made.live_bytes);
        self.snapshot("snapshot --all", "--all", "member", made.bytes);
        self.read_side(made.bytes);
        self.backup_tools();
        self.list(1000);
        std::fs::remove_dir_all(self.path("data")).unwrap();
    }

    /// What looks into the store.
    fn store(&self, scale: u64) {
        let one = aged_store::data_dir(&self.path("lived"), scale, 1);
        self.look("keys --json of a data dir", "--json keys", &one.dir, &one);
        self.fresh("ours");
        shell(&format!(
            "{} snapshot -q --size-limit 1TB --data-dir {} --backup-dir {}",
            self.ark,
            one.dir.display(),
            self.text("ours")
        ));
        let title = "keys --json of its archive";
        self.look(title, "--json keys", &self.archive(), &one);
        self.look("verify --deep of it", "verify --deep", &one.dir, &one);
        let more = aged_store::data_dir(&self.path("lived-longer"), scale, 3);
        let title = "verify --deep of three raft snapshots, each led to by the log";
        self.look(title, "verify --deep", &more.dir, &more);
    }

    /// Runs `command` on `target` beside the parse of each raft snapshot in it.
    fn look(&self, title: &str, command: &str, target: &Path, lived: &aged_store::Lived) {
        let ark = &self.ark;
        let a = Job::new(
            "etcd-ark",
            &format!("{ark} {command} {} > /dev/null", target.display()),
        );
        let bench = std::env::current_exe().unwrap();
        let parse = |path: &PathBuf| {
            let (bench, path) = (bench.display(), path.display());
            format!("{bench} {} {path}", parse::MODE)
        };
        let each: Vec<_> = lived.raft_snapshots.iter().map(parse).collect();
        let b = Job::new("serde_json to a Value", &each.join(" && "));
        let (a, b) = in_turn(self.rounds, &a, &b, || ());
        tell(title, lived.bytes, &a, Some(&b));
    }

    fn snapshot(&self, title: &str, flag: &str, files: &str, bytes: u64) {
        let (data, ours, theirs) = (self.text("data"), self.text("ours"), self.text("theirs"));
        let (ark, level) = (&self.ark, self.level);
        let a = Job::new(
            "etcd-ark",
            &format!(
                "{ark} snapshot -q {flag} --level {level} --size-limit 1TB --data-dir {data} --backup-dir {ours}"
            ),
        );
        let b = Job::new(
            "tar|zstd -T0; sha256sum; sync",
            &format!(
                "tar -c -C {data} {files} | zstd -q -{level} -T0 > {theirs}/f && sha256sum {theirs}/f > {theirs}/f.sha256 && sync {theirs}/f {theirs}/f.sha256"
            ),
        );
        let before = || {
            self.fresh("ours");
            self.fresh("theirs");
        };
        let (a, b) = in_turn(self.rounds, &a, &b, before);
        tell(title, bytes, &a, Some(&b));
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len()) as f64;
        let packed = size(&self.archive());
        let theirs = size(&self.path("theirs/f"));
        println!(
            "  archive {:.1} MB, {:.3} of the peer's {:.1} MB",
            packed / 1e6,
            packed / theirs,
            theirs / 1e6
        );
        // Without its sync, to show how much of the peer's time is the disk's.
        let unsynced = Job::new(
            "the peer without sync",
            &format!("tar -c -C {data} {files} | zstd -q -{level} -T0 > /dev/null"),
        );
        let unsynced = alone(self.rounds, &unsynced, || ());
        tell("  its compression alone", bytes, &unsynced, None);
    }

    fn archive(&self) -> PathBuf {
        let found = std::fs::read_dir(self.path("ours")).unwrap().flatten();
        found
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|e| e == "zst"))
            .unwrap()
    }

    /// `verify` and `restore` of the archives that the last snapshots left.
    fn read_side(&self, bytes: u64) {
        let ark = &self.ark;
        let archive = self.archive().display().to_string();
        let (theirs, out) = (self.text("theirs"), self.text("out"));
        let a = Job::new("etcd-ark", &format!("{ark} verify -q {archive}"));
        let b = Job::new(
            "zstd -t; sha256sum -c",
            &format!("zstd -q -t {theirs}/f && sha256sum --quiet -c {theirs}/f.sha256"),
        );
        let (a, b) = in_turn(self.rounds, &a, &b, || ());
        tell("verify", bytes, &a, Some(&b));
        let a = Job::new(
            "etcd-ark",
            &format!("{ark} restore -q --offline {archive} --data-dir {out}/ours"),
        );
        let b = Job::new(
            "zstd -d|tar x; sync",
            &format!(
                "mkdir {out}/theirs && zstd -q -d < {theirs}/f | tar -x -C {out}/theirs && sync"
            ),
        );
        let (a, b) = in_turn(self.rounds, &a, &b, || self.fresh("out"));
        tell("restore", bytes, &a, Some(&b));
        let unsynced = Job::new(
            "the peer without sync",
            &format!("mkdir {out}/theirs && zstd -q -d < {theirs}/f | tar -x -C {out}/theirs"),
        );
        let unsynced = alone(self.rounds, &unsynced, || self.fresh("out"));
        tell("  its unpacking alone", bytes, &unsynced, None);
    }

    /// The tools that copy without compressing, or keep a repository; for orientation.
    fn backup_tools(&self) {
        let (data, ours, theirs) = (self.text("data"), self.text("ours"), self.text("theirs"));
        let (ark, level) = (&self.ark, self.level);
        let a = Job::new(
            "etcd-ark",
            &format!(
                "{ark} snapshot -q --level {level} --size-limit 1TB --data-dir {data} --backup-dir {ours}"
            ),
        );
        let before = || {
            self.fresh("ours");
            self.fresh("theirs");
        };
        if has("etcdctl") {
            let b = Job::new(
                "etcdctl backup",
                &format!(
                    "ETCDCTL_API=2 etcdctl backup --data-dir {data} --backup-dir {theirs}/b 2>/dev/null"
                ),
            );
            let (a, b) = in_turn(self.rounds.min(3), &a, &b, before);
            tell("snapshot beside `etcdctl backup`", 0, &a, Some(&b));
        } else {
            println!("etcdctl is not installed: not compared");
        }
        if has("restic") {
            shell(&format!(
                "export RESTIC_PASSWORD=x; restic -q init --repo {theirs}-restic"
            ));
            let b = Job::new(
                "restic backup --force",
                &format!(
                    "export RESTIC_PASSWORD=x; rm -rf {theirs}-restic && restic -q init --repo {theirs}-restic && restic -q backup --force --repo {theirs}-restic {data}"
                ),
            );
            let a = Job::new("etcd-ark", &format!("{} --all", a.command));
            let (a, b) = in_turn(self.rounds.min(3), &a, &b, before);
            tell("snapshot --all beside restic", 0, &a, Some(&b));
        } else {
            println!("restic is not installed: not compared");
        }
    }

    fn list(&self, archives: usize) {
        self.fresh("ours");
        let (small, ours) = (self.path("small"), self.text("ours"));
        generate::small_data_dir(&small);
        let ark = &self.ark;
        shell(&format!(
            "{ark} snapshot -q --data-dir {} --backup-dir {ours}",
            small.display()
        ));
        let archive = self.archive();
        let name = archive.file_name().unwrap().to_string_lossy().into_owned();
        for number in 1..archives {
            let copy = name.replace("etcd-", &format!("etcd-{number}-"));
            std::fs::copy(&archive, archive.with_file_name(copy)).unwrap();
        }
        let a = Job::new("etcd-ark", &format!("{ark} list {ours} > /dev/null"));
        let a = alone(self.rounds, &a, || ());
        tell(&format!("list of {archives} archives"), 0, &a, None);
    }
}
