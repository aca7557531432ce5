//! One run at a time on a backup dir.
//!
//! In: a run that holds the lock, and another that wants it. Out: exit code 11 and the holder's name, or a wait; and
//! after any failure of the holder, or of the disk, a next run that works.

use rustix::process::{Pid, Signal, kill_process};

use crate::support::prelude::*;

/// A run that is at work on a backup dir for many seconds, and is killed when it is dropped.
struct Holder {
    child: Child,
    _recording: Recording,
}

impl Holder {
    fn start(backups: &Path) -> Self {
        let recording = unpack("multisegment");
        let mut command = clean(BINARY);
        command
            .args(["snapshot", "--level", "19", "--threads", "1", "--data-dir"])
            .arg(recording.data_dir("multisegment"))
            .arg("--backup-dir")
            .arg(backups)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        // The staged file comes after the lock.
        while names(backups).is_empty() {
            assert!(Instant::now() < deadline, "the holder does nothing");
            std::thread::sleep(Duration::from_millis(2));
        }
        Self {
            child,
            _recording: recording,
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(mut self, signal: Signal) {
        self.signal(signal);
        self.child.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Scratch {
    _dir: TempDir,
    source: PathBuf,
    backups: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let dir = fast_dir("ark-lock-");
        let (source, backups) = (dir.path().join("source"), dir.path().join("backups"));
        small_member(&source);
        Self {
            _dir: dir,
            source,
            backups,
        }
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = clean(BINARY);
        command.arg("snapshot").arg("--data-dir").arg(&self.source);
        command.arg("--backup-dir").arg(&self.backups).args(more);
        command
    }

    fn snapshot(&self, more: &[&str]) -> Ran {
        run(&mut self.command(more))
    }
}

#[test]
fn a_second_run_is_told_who_holds_the_lock() {
    // Guards against two timers that work on one backup dir, and against a "busy" that does not say who.
    let scratch = Scratch::new();
    let mut holder = Holder::start(&scratch.backups);
    let process = format!("`etcd-ark snapshot`, process {} on ", holder.child.id());
    let told = scratch
        .snapshot(&[])
        .exits(11)
        .says("is locked by `etcd-ark snapshot`")
        .says(&process)
        .says("hint: ")
        .says("`snapshot`, `prune` and `copy` wait for it with `--lock-wait 10m`");
    assert_eq!(told.stdout, "");
    let error = scratch.snapshot(&["--json"]).exits(11).json_error();
    assert_eq!(error["code"], 11, "{error}");
    assert_eq!(error["kind"], "busy", "{error}");
    let begun = Instant::now();
    let waited = scratch.snapshot(&["--lock-wait", "1s"]);
    // On a machine that stood still meanwhile the holder may have ended within that second.
    if holder.child.try_wait().unwrap().is_none() {
        waited.exits(11).says("it did not end in time");
        assert!(begun.elapsed() >= Duration::from_secs(1));
    }
    // Who only reads is not kept out.
    typed("list {}", &[&scratch.backups]).exits(0);
    drop(holder);
}

#[test]
fn a_run_that_waits_for_the_lock_gets_it() {
    // Guards against a backup that is missing because another one took its time.
    let scratch = Scratch::new();
    let holder = Holder::start(&scratch.backups);
    let waits = [&["--lock-wait", "2m"][..], &[]];
    let mut by_flag = scratch.command(waits[0]).spawn().unwrap();
    // If two begin in the same millisecond, one would fail because its name is taken.
    std::thread::sleep(Duration::from_millis(20));
    let mut command = scratch.command(waits[1]);
    let mut by_variable = command.env("ETCD_ARK_LOCK_WAIT", "2m").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert!(by_flag.try_wait().unwrap().is_none(), "it did not wait");
    assert!(archives_in(&scratch.backups).is_empty());
    holder.end(Signal::TERM);
    for child in [&mut by_flag, &mut by_variable] {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    assert_eq!(archives_in(&scratch.backups).len(), 2);
}

#[test]
fn a_run_that_waits_for_the_lock_can_be_stopped() {
    let scratch = Scratch::new();
    let _holder = Holder::start(&scratch.backups);
    let mut child = scratch.command(&["--lock-wait", "1h"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn a_holder_that_was_killed_holds_nothing() {
    // Guards against a stale lock that stops every backup until someone notices.
    let scratch = Scratch::new();
    let holder = Holder::start(&scratch.backups);
    scratch.snapshot(&[]).exits(11);
    holder.end(Signal::KILL);
    let left = fs::read_to_string(scratch.backups.join(LOCK_FILE)).unwrap();
    assert!(left.contains("`etcd-ark snapshot`, process "), "{left:?}");
    scratch.snapshot(&[]).exits(0);
    assert_eq!(archives_in(&scratch.backups).len(), 1);
    for command in ["list", "verify"] {
        let told = typed("{} {}", &[&command, &scratch.backups]).exits(0);
        assert!(!told.stdout.contains(LOCK_FILE), "{told:#?}");
        assert!(!told.stderr.contains(LOCK_FILE), "{told:#?}");
    }
}

#[test]
fn a_lock_by_hand_keeps_runs_out_too() {
    // Guards against a lock that only we know: an operator's own script may hold it with `flock`.
    only_with!(need("flock"));
    let scratch = Scratch::new();
    scratch.snapshot(&[]).exits(0);
    let mut by_hand = clean("flock");
    by_hand.arg(scratch.backups.join(LOCK_FILE));
    by_hand
        .args([BINARY, "snapshot", "--data-dir"])
        .arg(&scratch.source);
    run(by_hand.arg("--backup-dir").arg(&scratch.backups))
        .exits(11)
        .says("another process (unknown)");
}

#[test]
fn a_snapshot_by_root_does_not_lock_out_the_user_that_owns_the_backup_dir() {
    // Guards against one run by hand that ends all of the timer's, because of a lock file that is root's alone.
    only_with!(need_root() && need("setpriv"));
    let scratch = Scratch::new();
    make_dir(&scratch.backups);
    std::os::unix::fs::chown(&scratch.backups, Some(1234), Some(1234)).unwrap();
    scratch.snapshot(&[]).exits(0);
    let mut as_user = clean("setpriv");
    as_user.args(["--reuid", "1234", "--regid", "1234", "--clear-groups"]);
    let lock = scratch.backups.join(LOCK_FILE);
    run(as_user.args(["sh", "-c", ": <>\"$1\"", "sh"]).arg(&lock)).exits(0);
}

#[test]
fn an_account_that_may_not_write_there_is_told_the_owner() {
    // A backup dir is hardly ever that of the user that etcd runs as.
    only_with!(need_root() && need("setpriv"));
    let scratch = Scratch::new();
    scratch.snapshot(&[]).exits(0);
    let (owner, mode) = (Some(4321), std::os::unix::fs::PermissionsExt::from_mode);
    for path in [scratch.backups.clone(), scratch.backups.join(LOCK_FILE)] {
        std::os::unix::fs::chown(&path, owner, owner).unwrap();
    }
    let readable = scratch.backups.parent().unwrap();
    fs::set_permissions(readable, mode(0o755)).unwrap();
    let binary = readable.join("ark");
    copy_binary(&binary);
    let prune = |uid: &str| {
        let mut as_user = clean("setpriv");
        as_user.args(["--reuid", uid, "--regid", uid, "--clear-groups"]);
        let prune = as_user.arg(&binary).arg("prune").arg(&scratch.backups);
        run(prune.args(["--keep-last", "1"])).exits(1)
    };
    let shown = scratch.backups.display();
    let hint = format!("hint: run it as the user 4321, who owns `{shown}`, or as root");
    prune("1234").says(&hint);
    fs::set_permissions(&scratch.backups, mode(0o000)).unwrap();
    prune("4321").says("hint: see the mode of `");
}

#[test]
fn the_line_of_a_holder_cannot_speak_to_the_terminal() {
    let scratch = Scratch::new();
    let mut holder = Holder::start(&scratch.backups);
    fs::write(
        scratch.backups.join(LOCK_FILE),
        "a \x1b[31mred\x1b[0m run\n",
    )
    .unwrap();
    let told = scratch.snapshot(&[]);
    if holder.child.try_wait().unwrap().is_none() {
        assert!(!told.exits(11).says("red").stderr.contains('\x1b'));
    }
}

#[test]
fn a_backup_dir_that_is_full_or_read_only_is_said_and_the_next_run_works() {
    // Guards against a lock that stays in the way of the run after it.
    only_with!(need("unshare") && need_root());
    let scratch = Scratch::new();
    make_dir(&scratch.backups);
    let script = r#"
        try() { code=0; "$ARK" snapshot --data-dir "$2" --backup-dir "$1" || code=$?; echo "code $code"; }
        mount -t tmpfs -o size=64k tmpfs "$1"
        dd if=/dev/zero of="$1/other" bs=4k 2>/dev/null || true
        echo full; try "$1" "$2"
        ls -A "$1" | grep -v -e other -e etcd-ark-lock || true
        rm "$1/other"; mount -o remount,size=32m "$1"
        echo room; try "$1" "$2"
        mount -o remount,ro "$1"
        echo read-only; try "$1" "$2"
        mount -o remount,rw "$1"
        echo writable; try "$1" "$2"
        rm "$1/.etcd-ark-lock"; mount -o remount,ro "$1"
        echo read-only; try "$1" "$2"
    "#;
    let ran = in_own_mounts(script, &[&scratch.backups, &scratch.source]).exits(0);
    let told: Vec<&str> = ran.stdout.lines().collect();
    let expected =
        "full, code 12, room, code 0, read-only, code 1, writable, code 0, read-only, code 1";
    assert_eq!(told.join(", "), expected, "{ran:#?}");
    assert!(ran.stderr.contains("No space left on device"), "{ran:#?}");
    assert!(!ran.stderr.contains("--spool-dir"), "{ran:#?}");
    let hint = "hint: that filesystem is mounted read-only";
    assert_eq!(ran.stderr.matches(hint).count(), 2, "{ran:#?}");
}

#[test]
fn a_backup_dir_that_vanishes_meanwhile_is_not_found_and_the_next_run_makes_it() {
    // Guards against an unmounted or removed backup dir that passes for a success.
    let scratch = Scratch::new();
    let mut holder = Holder::start(&scratch.backups);
    fs::remove_dir_all(&scratch.backups).unwrap();
    assert_eq!(holder.child.wait().unwrap().code(), Some(10));
    scratch.snapshot(&[]).exits(0);
    assert_eq!(archives_in(&scratch.backups).len(), 1);
}

#[test]
fn a_spool_dir_that_is_full_is_named_with_its_flag() {
    only_with!(need("unshare") && need_root());
    let scratch = Scratch::new();
    let spool = scratch.backups.with_file_name("spool");
    make_dir(&spool);
    let script = r#"
        mount -t tmpfs -o size=4k tmpfs "$1"; echo full > "$1/other"
        exec "$ARK" snapshot --data-dir "$2" --repo "file://$3" --spool-dir "$1" --recipient "$4"
    "#;
    let recipient = Path::new("age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p");
    let args = [&spool, &scratch.source, &scratch.backups, recipient];
    let ran = in_own_mounts(script, &args).exits(12);
    assert_has(&ran.stderr, "pass a `--spool-dir` on another disk");
}
