//! How fast the main job is, as ratios against the tools an operator would use instead, all in
//! one run on one machine.
//!
//! `cargo bench --bench peers` makes a data dir (5 raft snapshots of some 88 MB, 5 segments of
//! 64 MB, JSON-like values), runs each job in turn with its peer, A B A B …, and prints medians
//! and the ratio pair by pair. Settings, from the environment: `ETCD_ARK_BENCH_ROUNDS` (5),
//! `ETCD_ARK_BENCH_SCALE` in percent of the full size (100), `ETCD_ARK_BENCH_DIR` (the system's
//! temporary directory), `ETCD_ARK_BENCH_LEVEL` (zstd level of both, 3), `ETCD_ARK_BENCH_PART`
//! (`bytes`: captures and the like, `store`: what looks into the store, `places`: copies and buckets, `many`: 1,000
//! archives, `rewind`; all of these unless told; only if told `growth`, up to `ETCD_ARK_BENCH_GROWTH` MB (1,000), and
//! `load`: captures beside a server, see that module). Whatever ran is told once more at the end, as a table.
//!
//! What looks into the store (`keys`, `verify --deep`) is measured against a parse of the same
//! raft snapshot's JSON with `serde_json` into a plain `Value`, a process for each raft snapshot.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

mod aged_store;
#[path = "../../tests/support/encode/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the tests' encoder: not all of it is wanted here"
)]
mod encode;
mod generate;
mod growth;
mod load;
mod measure;
mod parse;
mod places;

use std::path::{Path, PathBuf};

use measure::{Job, alone, has, in_turn, print_table, shell, tell};

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
    let told = |name| part.as_deref() == Some(name);
    if wanted("bytes") {
        bench.bytes(scale);
    }
    if wanted("places") {
        bench.places(scale);
    }
    if wanted("many") {
        bench.many(1000);
    }
    if wanted("rewind") {
        bench.rewind(scale);
    }
    if wanted("store") {
        bench.store(scale);
    }
    if told("growth") {
        bench.growth(setting("ETCD_ARK_BENCH_GROWTH", 1000));
    }
    if told("load") {
        bench.load();
    }
    print_table();
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
        let made = generate::data_dir(&self.path("data"), scale, generate::MEMBER);
        println!(
            "data dir: {:.1} MB, live set {:.1} MB in {} files",
            made.bytes as f64 / 1e6,
            made.live_bytes as f64 / 1e6,
            made.live.len(),
        );
        let live = made.live.join(" ");
        self.against_tar("snapshot (live set)", "", &live, made.live_bytes);
        self.against_tar("snapshot --all", "--all", "member", made.bytes);
        self.read_side(made.bytes);
        self.backup_tools();
        self.limits();
        std::fs::remove_dir_all(self.path("data")).unwrap();
    }

    /// What looks into the store.
    fn store(&self, scale: u64) {
        let one = aged_store::data_dir(&self.path("lived"), scale, 1);
        self.look("keys --json of a data dir", "--json keys", &one.dir, &one);
        self.fresh("ours");
        shell(&self.snapshot("lived", &self.text("ours")));
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
        tell(title, lived.bytes, &a, Some(&b), Some(0.70));
    }

    /// The command that captures `data` into `to`.
    fn snapshot(&self, data: &str, to: &str) -> String {
        let (ark, level) = (&self.ark, self.level);
        let data = self.text(data);
        format!(
            "{ark} snapshot -q --level {level} --size-limit 1TB --data-dir {data} --backup-dir {to}"
        )
    }

    fn against_tar(&self, title: &str, flag: &str, files: &str, bytes: u64) {
        let (data, ours, theirs) = (self.text("data"), self.text("ours"), self.text("theirs"));
        let level = self.level;
        let a = Job::new(
            "etcd-ark",
            &format!("{} {flag}", self.snapshot("data", &ours)),
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
        tell(title, bytes, &a, Some(&b), Some(0.80));
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
        tell("  its compression alone", bytes, &unsynced, None, None);
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
        tell("verify", bytes, &a, Some(&b), Some(0.40));
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
        tell("restore", bytes, &a, Some(&b), None);
        let unsynced = Job::new(
            "the peer without sync",
            &format!("mkdir {out}/theirs && zstd -q -d < {theirs}/f | tar -x -C {out}/theirs"),
        );
        let unsynced = alone(self.rounds, &unsynced, || self.fresh("out"));
        tell("  its unpacking alone", bytes, &unsynced, None, None);
    }

    /// The tools that copy without compressing, or keep a repository; for orientation.
    fn backup_tools(&self) {
        let (data, ours, theirs) = (self.text("data"), self.text("ours"), self.text("theirs"));
        let a = Job::new("etcd-ark", &self.snapshot("data", &ours));
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
            let (a, b) = in_turn(self.rounds, &a, &b, before);
            tell("snapshot", 0, &a, Some(&b), None);
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
            let (a, b) = in_turn(self.rounds, &a, &b, before);
            tell("snapshot --all", 0, &a, Some(&b), Some(0.80));
        } else {
            println!("restic is not installed: not compared");
        }
    }

    /// What bounds every row: each step alone, on the archive and the data dir that are there.
    fn limits(&self) {
        let (data, theirs, out) = (self.text("data"), self.text("theirs"), self.text("out"));
        let level = self.level;
        let packed = format!("{theirs}/limit");
        self.fresh("out");
        shell(&format!("cat {data}/member/*/* > {out}/plain"));
        shell(&format!("zstd -q -f -{level} -T0 {out}/plain -o {packed}"));
        let plain = std::fs::metadata(self.path("out/plain")).unwrap().len();
        let bytes = std::fs::metadata(&packed).unwrap().len();
        let written = format!("{out}/written");
        for (title, bytes, command) in [
            (
                "limit: zstd, all cores",
                plain,
                format!("zstd -q -{level} -T0 -c {out}/plain > /dev/null"),
            ),
            (
                "limit: zstd -d, one core",
                plain,
                format!("zstd -q -d -c {packed} > /dev/null"),
            ),
            (
                "limit: sha256sum of the plain bytes",
                plain,
                format!("sha256sum {out}/plain"),
            ),
            (
                "limit: sha256sum of the archive",
                bytes,
                format!("sha256sum {packed}"),
            ),
            (
                "limit: the archive's bytes written and synced",
                bytes,
                format!("dd if={packed} of={written} bs=1M conv=fsync status=none"),
            ),
            (
                "limit: the plain bytes written and synced",
                plain,
                format!("dd if={out}/plain of={written} bs=1M conv=fsync status=none"),
            ),
        ] {
            let runs = alone(self.rounds, &Job::new("alone", &command), || {
                let _ = std::fs::remove_file(&written);
            });
            tell(title, bytes, &runs, None, None);
        }
        self.fresh("out");
    }

    /// What reads the ends of many archives.
    fn many(&self, archives: usize) {
        self.fresh("ours");
        let ours = self.text("ours");
        generate::small_data_dir(&self.path("small"));
        shell(&self.snapshot("small", &ours));
        let archive = self.archive();
        let name = archive.file_name().unwrap().to_string_lossy().into_owned();
        let sum = std::fs::read_to_string(format!("{}.sha256", archive.display())).unwrap();
        for number in 1..archives {
            let copy = archive.with_file_name(name.replace("etcd-", &format!("etcd-{number}-")));
            std::fs::copy(&archive, &copy).unwrap();
            let copied = copy.file_name().unwrap().to_string_lossy();
            let sum = sum.replace(&name, &copied);
            std::fs::write(format!("{}.sha256", copy.display()), sum).unwrap();
        }
        let keep = "--keep-last 1000000 --prove-again-after 3650d";
        // The first one proves them all, and notes that.
        shell(&format!("{} prune -q {ours} {keep} > /dev/null", self.ark));
        for command in [
            "list".to_owned(),
            "status --max-age 3650d".to_owned(),
            format!("prune --dry-run {keep}"),
        ] {
            let a = Job::new(
                "etcd-ark",
                &format!("{} {command} {ours} > /dev/null", self.ark),
            );
            let title = format!(
                "{} of {archives} archives",
                command.split_once(" --keep").map_or(&*command, |(c, _)| c)
            );
            tell(&title, 0, &alone(self.rounds, &a, || ()), None, Some(0.05));
        }
    }

    /// Three members of one cluster, against proving them and capturing as much again.
    fn rewind(&self, scale: u64) {
        self.fresh("ours");
        let mut inputs = Vec::new();
        let mut bytes = 0;
        for (place, member) in generate::MEMBERS.into_iter().enumerate() {
            let data = format!("member{place}");
            bytes += generate::data_dir(&self.path(&data), scale, member).live_bytes;
            self.fresh(&format!("in{place}"));
            shell(&self.snapshot(&data, &self.text(&format!("in{place}"))));
            inputs.push(format!("{}/*.zst", self.text(&format!("in{place}"))));
        }
        let (ark, inputs, out) = (&self.ark, inputs.join(" "), self.text("out"));
        let a = Job::new(
            "etcd-ark",
            &format!("{ark} rewind -q --to end {inputs} --out {out}/rewound > /dev/null"),
        );
        let captures =
            (0..3).map(|place| self.snapshot(&format!("member{place}"), &self.text("ours")));
        let captures: Vec<_> = captures.collect();
        let b = Job::new(
            "verify and snapshot",
            &format!("{ark} verify -q {inputs} && {}", captures.join(" && ")),
        );
        let before = || {
            self.fresh("out");
            self.fresh("ours");
        };
        let (a, b) = in_turn(self.rounds, &a, &b, before);
        tell("rewind of three members", bytes, &a, Some(&b), Some(1.30));
        for place in 0..3 {
            std::fs::remove_dir_all(self.path(&format!("member{place}"))).unwrap();
        }
    }
}
