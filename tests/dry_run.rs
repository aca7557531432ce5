//! `snapshot --dry-run`, the self test before the first nightly run.
//!
//! In: places and flags with a fault. Out: a line for each check, the exit code of the snapshot itself, and nothing
//! changed. Guards against a self test that passes before a run that fails, and against one that leaves something
//! behind.

use std::os::unix::fs::PermissionsExt as _;

use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

use crate::support::nights::Night;
use crate::support::prelude::*;

const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

/// Names, modes and content; the probe changes the times of the directory that it is put into.
fn state(dir: &Path) -> BTreeMap<PathBuf, (u32, String)> {
    let all = tree(dir).into_iter();
    all.map(|(path, stat)| (path, (stat.mode, stat.sha256)))
        .collect()
}

struct Scene {
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = TempDir::with_prefix("ark-dry-run-").unwrap();
        small_member(&dir.path().join("data"));
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The flags of a snapshot; what begins with `@` is in the scene's directory.
    fn flags(&self, flags: &[&str]) -> Vec<String> {
        let defaults = ["--data-dir", "@data", "--backup-dir", "@backups"];
        let is_given = |flag: &str| flags.contains(&flag);
        let defaults = defaults.chunks(2).filter(|pair| !is_given(pair[0]));
        let all = defaults.flatten().chain(flags);
        all.map(|word| match word.strip_prefix('@') {
            Some(name) => self.path(name).to_str().unwrap().to_owned(),
            None => (*word).to_owned(),
        })
        .collect()
    }

    /// What the dry run says; it has changed nothing.
    #[track_caller]
    fn dry_run(&self, flags: &[&str]) -> Ran {
        let before = state(self.dir.path());
        let mut args = vec!["snapshot".to_owned(), "--dry-run".to_owned()];
        args.extend(self.flags(flags));
        let ran = ark(args);
        assert_eq!(state(self.dir.path()), before, "{ran:#?}");
        ran
    }

    /// What was printed, with the scene's directory as `DIR`, the moment as `NOW` and each check on one line.
    fn text(&self, ran: &Ran) -> String {
        let text = ran.stdout.clone() + &ran.stderr;
        let text = text.replace(self.dir.path().to_str().unwrap(), "DIR");
        let text = text.replace(&format!("\n{}", " ".repeat(23)), " ");
        let lines = text.lines().map(|line| match line.split_once(" UTC here") {
            None if line.contains(" free in ") => {
                let (_size, place) = line.split_once(" free in ").unwrap();
                format!("OK    room             SIZE free in {place}\n")
            }
            Some((before, after)) => {
                let (before, _now) = before.split_at(before.len() - "2026-11-27 10:00:00".len());
                let days = after
                    .split_once(" is dated ")
                    .and_then(|(_, rest)| rest.split_once(" later"));
                let days = days.map_or("", |(days, _)| days);
                format!(
                    "{before}NOW{}\n",
                    after.replacen(days, if days.is_empty() { "" } else { "DAYS" }, 1)
                )
            }
            None => format!("{line}\n"),
        });
        lines.collect()
    }
}

#[test]
fn five_things_wrong_are_all_told_at_once_and_nothing_is_changed() {
    let scene = Scene::new();
    let backups = scene.path("backups");
    let (first, _) = snapshot(&scene.path("data"), &scene.path("made"), &[]);
    let future = "2099-01-01T00:00:00Z".parse().unwrap();
    let ahead = Night::of(&first).put(&backups, future, |_| ());
    fs::set_permissions(&ahead, std::fs::Permissions::from_mode(0o644)).unwrap();
    let lock = fs::File::create(backups.join(LOCK_FILE)).unwrap();
    rustix::fs::flock(lock.file(), FlockOperation::LockExclusive).unwrap();
    fs::write(scene.path("taken.prom"), "up 1\n").unwrap();

    let flags = "--recipient age1nobody --spool-dir @no-spool --metrics-file @taken.prom";
    let flags: Vec<_> = flags.split(' ').collect();
    let told = scene.dry_run(&flags).exits(2);
    insta::assert_snapshot!(scene.text(&told), @r"
    OK    configuration    no configuration file; flags and environment only
    OK    data dir         `DIR/data`
    FAIL  recipients       `age1nobody` is not a valid age recipient hint: a recipient is the public key that `age-keygen -y KEY` prints: age1…
    WARN  backup dir       `DIR/backups`: of root, mode 755 1 archive can be read by others than the owner, such as `etcd-infra0-20990101T000000.000Z-000000000000000f.tar.zst` (mode 644) hint: a backup is as secret as the keys in it: `chmod 700` the directory, `chmod 600` the archives, and `chown` them to the user that takes them
    FAIL  lock             the backup dir `DIR/backups` is locked by another process (unknown) hint: run it again when that run is over; `snapshot`, `prune` and `copy` wait for it with `--lock-wait 10m`
    FAIL  spool dir        failed to create a file in `DIR/no-spool`: No such file or directory (os error 2)
    OK    content          member infra0 (ce2a822cea30bfca) of cluster 7e27652122e8b2; term 3, index 15, commit 14; raft snapshot at 10 archive of 3.0 kB with 3 files
    OK    start            etcd of the release of its data starts from it
    OK    data size        3.9 kB (limit 100.0 MB)
    OK    room             SIZE free in `DIR/backups`
    OK    write            a probe was written, read back and removed
    WARN  clock            NOW; `etcd-infra0-20990101T000000.000Z-000000000000000f.tar.zst` is dated DAYS later hint: set this clock; if the other one was wrong: such an archive is kept, and is never `latest`
    FAIL  metrics file     `DIR/taken.prom` was not written by etcd-ark (line 1); it is not overwritten hint: it was left as it is; move it away, or pass another --metrics-file
    error: a snapshot would fail: 4 of 13 checks failed: recipients, lock, spool dir, metrics file
    hint: correct these, then run it again; no archive was made
    ");

    let told = scene.dry_run(&[&flags[..], &["--json"]].concat());
    let (error, told) = (told.json_error(), told.json());
    assert_eq!(error["code"], 2);
    assert_eq!(error["kind"], "usage");
    let checks = told["checks"].as_array().unwrap().iter();
    let statuses: BTreeMap<_, _> = checks
        .map(|check| {
            (
                check["id"].as_str().unwrap(),
                check["status"].as_str().unwrap(),
            )
        })
        .collect();
    let wrong = [
        ("backup-dir", "warning"),
        ("recipients", "failed"),
        ("lock", "failed"),
        ("spool-dir", "failed"),
        ("clock", "warning"),
        ("metrics", "failed"),
    ];
    for (id, status) in wrong {
        assert_eq!(statuses[id], status, "{told:#}");
    }
    assert_eq!(
        told["counts"],
        serde_json::json!({"ok": 7, "warning": 2, "failed": 4})
    );
}

#[test]
fn what_was_not_checked_and_what_collectors_do_not_read_is_said_and_one_fault_once() {
    let scene = Scene::new();
    let told = scene.dry_run(&["--data-dir", "@nothing"]).exits(10);
    let told = told.says("1 of 6 checks failed: data dir");
    assert!(told.stdout.contains("start, data size, room"), "{told:#?}");
    let told = scene.dry_run(&["--backup-dir", "@data/backups"]).exits(3);
    assert!(told.stdout.contains("room, write, clock"), "{told:#?}");
    assert!(!told.stdout.contains("OK    room"), "{told:#?}");
    fs::write(scene.path("file"), "").unwrap();
    let told = scene.dry_run(&["--backup-dir", "@file"]).exits(2);
    assert_eq!(told.stdout.matches("FAIL").count(), 1, "{told:#?}");
    let flags = ["--metrics-file", "@etcd.txt", "--strict"];
    let told = scene.dry_run(&flags).exits(0);
    assert!(told.stdout.contains("WARN  metrics file"), "{told:#?}");
    let told = scene.dry_run(&["--size-limit", "1kB", "--strict"]).exits(5);
    assert!(told.stdout.contains("would end with 5"), "{told:#?}");
    let quiet = scene
        .dry_run(&["--quiet", "--metrics-file", "@etcd.txt"])
        .exits(0);
    assert!(quiet.stdout.starts_with("WARN  metrics file"), "{quiet:#?}");
}

/// Two archives, and a directory in the place of the older one's checksum file.
fn with_one_that_stays(scene: &Scene) {
    let take = || snapshot(&scene.path("data"), &scene.path("backups"), &[]).0;
    let (first, _) = (take(), take());
    let sum = format!("{}.sha256", first.display());
    fs::remove_file(&sum).unwrap();
    fs::create_dir(sum).unwrap();
}

fn with_corrupt_archive(scene: &Scene) {
    let taken = ark([
        vec!["snapshot".to_owned(), "--json".to_owned()],
        scene.flags(&[]),
    ]
    .concat());
    flip_middle(Path::new(
        taken.exits(0).json()["archive"].as_str().unwrap(),
    ));
}

/// What is done to the scene, the flags, and how the dry run and the run itself end.
type Case = (fn(&Scene), &'static [&'static str], i32);

#[track_caller]
fn end_alike(cases: &[Case]) {
    for (number, (change, flags, code)) in cases.iter().enumerate() {
        let scene = Scene::new();
        change(&scene);
        let dry = scene.dry_run(flags);
        let real = ark([vec!["snapshot".to_owned()], scene.flags(flags)].concat());
        assert_eq!(dry.code, real.code, "{number}: {dry:#?}\n{real:#?}");
        assert_eq!(dry.code, *code, "{number}: {dry:#?}");
    }
}

#[test]
fn it_ends_as_the_snapshot_does_and_comes_before_it() {
    let cases: [Case; 18] = [
        (|_| (), &[], 0),
        (|_| (), &["--backup-dir", "@not/there/yet"], 0),
        (
            |_| (),
            &["--keep-last", "3", "--metrics-file", "@new.prom"],
            0,
        ),
        (|_| (), &["--size-limit", "1kB", "--strict"], 5),
        (with_corrupt_archive, &["--strict"], 0),
        (with_corrupt_archive, &["--keep-last", "2", "--strict"], 5),
        (with_one_that_stays, &["--keep-last", "1"], 1),
        (|_| (), &["--data-dir", "@nothing"], 10),
        (|_| (), &["--backup-dir", "@data/backups"], 3),
        (|_| (), &["--recipient", "age1nobody"], 2),
        (|_| (), &["--metrics-file", "@no/such/dir.prom"], 1),
        (
            |scene| fs::write(scene.path("backups"), "a file").unwrap(),
            &[],
            2,
        ),
        (
            |scene| {
                fs::create_dir_all(scene.path("backups").join(LOCK_FILE)).unwrap();
            },
            &[],
            1,
        ),
        (
            |scene| {
                let wal = "data/member/wal/0000000000000000-0000000000000000.wal";
                flip_middle(&scene.path(wal));
            },
            &[],
            4,
        ),
        (|_| (), &["--damaged"], 3),
        (|_| (), &["--backup-dir", "/proc/no"], 10),
        (
            |scene| std::os::unix::fs::symlink("/nonexistent", scene.path("backups")).unwrap(),
            &[],
            1,
        ),
        (
            // What is open to others is worth a warning here, and none of the run.
            |scene| {
                fs::create_dir(scene.path("backups")).unwrap();
                let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
                fs::set_permissions(scene.path("backups"), open).unwrap();
            },
            &["--strict"],
            0,
        ),
    ];
    end_alike(&cases);
}

#[test]
fn of_two_faults_the_one_counts_that_the_run_comes_to_first() {
    let cases: [Case; 8] = [
        (
            |_| (),
            &["--backup-dir", "@data/b", "--recipient", "age1x"],
            2,
        ),
        (
            |_| (),
            &["--backup-dir", "/etc/passwd/x", "--recipient", "age1x"],
            2,
        ),
        (
            |_| (),
            &["--backup-dir", "/proc/x", "--recipient", "age1x"],
            2,
        ),
        (
            |_| (),
            &["--data-dir", "@nothing", "--recipient", "age1x"],
            10,
        ),
        (
            |_| (),
            &[
                "--backup-dir",
                "/sys/kernel",
                "--spool-dir",
                "@no",
                "--recipient",
                RECIPIENT,
            ],
            1,
        ),
        (
            |_| (),
            &["--spool-dir", "@no", "--recipient", RECIPIENT],
            10,
        ),
        (
            |scene| {
                fs::remove_dir_all(scene.path("data/member/wal")).unwrap();
                fs::create_dir(scene.path("data/member/wal")).unwrap();
            },
            &["--backup-dir", "@data/b"],
            10,
        ),
        (
            |scene| {
                flip_middle(&scene.path("data/member/wal/0000000000000000-0000000000000000.wal"));
            },
            &["--backup-dir", "/sys/kernel", "--recipient", RECIPIENT],
            1,
        ),
    ];
    end_alike(&cases);
}

#[test]
fn a_disk_that_is_full_or_has_no_inodes_or_is_read_only_is_told_without_writing_to_it() {
    only_with!(need_root());
    let scene = Scene::new();
    fs::create_dir(scene.path("backups")).unwrap();
    let script = r#"
        mount -t tmpfs -o size=4k none "$2"
        "$ARK" snapshot --dry-run --data-dir "$1" --backup-dir "$2" && exit 99 || [ $? = 12 ]
        umount "$2"
        # Of four, the directory has one, and a run takes three: lock, archive and checksum file.
        for inodes in 3 4; do
            mount -t tmpfs -o size=1m,nr_inodes=$inodes none "$2"
            "$ARK" snapshot --dry-run --data-dir "$1" --backup-dir "$2" && dry=0 || dry=$?
            "$ARK" snapshot --data-dir "$1" --backup-dir "$2" && real=0 || real=$?
            [ $real = $dry ] || exit 98
            [ $dry = $((inodes == 3 ? 12 : 0)) ] || exit 97
            umount "$2"
        done
        # The backup dir has room, and the disk of the metrics is full.
        mount -t tmpfs -o size=1m none "$2"
        mkdir "$2/metrics" "$2/backups"
        mount -t tmpfs -o size=4k none "$2/metrics"
        head -c 4096 /dev/zero > "$2/metrics/other"
        set -- "$1" "$2" --metrics-file "$2/metrics/etcd.prom"
        "$ARK" snapshot --dry-run --data-dir "$1" --backup-dir "$2/backups" $3 "$4" && exit 96 || [ $? = 1 ]
        "$ARK" snapshot --data-dir "$1" --backup-dir "$2/backups" $3 "$4" && exit 95 || [ $? = 1 ]
        umount "$2/metrics" "$2"
        mount -t tmpfs -o ro none "$2"
        "$ARK" snapshot --dry-run --data-dir "$1" --backup-dir "$2" && exit 99 || [ $? = 1 ]
        "$ARK" snapshot --data-dir "$1" --backup-dir "$2" && exit 99 || [ $? = 1 ]
    "#;
    let data = Path::new("testdata/infra0.etcd");
    let ran = in_own_mounts(script, &[data, &scene.path("backups")]).exits(0);
    assert!(ran.stdout.contains("FAIL  room "), "{ran:#?}");
    assert!(ran.stdout.contains("FAIL  write"), "{ran:#?}");
    assert!(ran.stdout.contains("FAIL  metrics file"), "{ran:#?}");
    assert!(ran.stderr.contains("failed: room"), "{ran:#?}");
}

#[test]
fn what_is_spooled_to_the_disk_of_the_backup_dir_needs_room_twice() {
    only_with!(need_root());
    let scene = Scene::new();
    fs::create_dir(scene.path("disk")).unwrap();
    // Bytes that do not compress.
    let digests = (0..16_000_u32).map(|number| Sha256::digest(number.to_le_bytes()));
    let bytes: Vec<u8> = digests.flatten().collect();
    fs::write(
        scene.path("data/member/snap/0000000000000001-0000000000000001.snap.broken"),
        bytes,
    )
    .unwrap();
    let script = r#"
        cd "$1"
        set -- --all --data-dir data --backup-dir disk/backups --spool-dir disk --recipient "$2"
        for size in 900 1200; do
            mount -t tmpfs -o size=${size}k none disk
            "$ARK" snapshot --dry-run "$@" && dry=0 || dry=$?
            "$ARK" snapshot "$@" && real=0 || real=$?
            [ $real = $((size == 900 ? 12 : 0)) ] || exit 98
            [ $dry = $real ] || exit 97
            umount disk
        done
    "#;
    let args = [scene.dir.path(), Path::new(RECIPIENT)];
    let ran = in_own_mounts(script, &args).exits(0);
    assert!(ran.stdout.contains("FAIL  room "), "{ran:#?}");
}

#[test]
fn no_variable_and_no_file_turns_a_night_into_a_dry_run() {
    let scene = Scene::new();
    let config = scene.path("etcd-ark.toml");
    fs::write(&config, "[snapshot]\ndry-run = true\n").unwrap();
    let mut command = clean(crate::support::ark::BINARY);
    command.arg("snapshot").args(scene.flags(&[]));
    command.env("ETCD_ARK_DRY_RUN", "1");
    run(&mut command).exits(0);
    assert_eq!(fs::read_dir(scene.path("backups")).unwrap().count(), 3);
    command.arg("--config").arg(&config);
    let told = run(&mut command).exits(2);
    told.says("line 2");
    // What `schedule` writes down is what takes backups.
    ark([
        vec!["schedule".to_owned(), "--dry-run".to_owned()],
        scene.flags(&[]),
    ]
    .concat())
    .exits(2);
}
