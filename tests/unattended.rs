//! Unattended runs: their output when all is well, and the state when they are stopped.
//!
//! In: runs without a terminal, with one, and with signals. Out: no output, or the right one; the right exit code;
//! nothing incomplete.

use std::io::{BufRead as _, BufReader};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::prelude::*;

fn snapshot_args(source: &Path, backups: &Path) -> [String; 5] {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let flags = ["snapshot", "--data-dir", "--backup-dir"].map(str::to_owned);
    let [command, data_dir, backup_dir] = flags;
    [command, data_dir, text(source), backup_dir, text(backups)]
}

#[test]
fn a_snapshot_from_cron_says_nothing_unless_something_is_wrong() {
    // Guards against a mail of success every night, which people stop reading.
    let (dir, source, backups, _) = small_scene();
    let args = snapshot_args(&source, &backups);
    let with = |more: &[&str]| ark(args.iter().map(String::as_str).chain(more.iter().copied()));
    for more in [&[][..], &["-q"], &["-q", "-v"], &["--label", "nightly"]] {
        let told = with(more).exits(0);
        assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("", ""));
    }
    let told = with(&["-v"]).exits(0);
    assert!(told.stdout.contains("verified"), "{told:#?}");
    with(&["--json"]).exits(0).json();
    for more in [&["--size-limit", "1"][..], &["--size-limit", "1", "-q"]] {
        let told = with(more).exits(0).says("warning: the data size is");
        assert_eq!(told.stdout, "");
    }
    let nowhere = dir.path().join("nowhere");
    let told = ark(snapshot_args(&nowhere, &backups)).exits(10);
    assert!(told.stderr.starts_with("error: "), "{told:#?}");
    // Who asks gets an answer.
    let told = ark(["list", backups.to_str().unwrap()]).exits(0);
    assert!(told.stdout.contains("nightly"), "{told:#?}");
}

#[test]
fn quiet_is_silent_on_success_and_never_on_a_question() {
    // Guards against `quiet = true` in the configuration, which made a monitoring check and every list say nothing.
    let (dir, source, backups, _) = small_scene();
    let archive = archived(&source, &backups);
    let texts = [&source, &backups, &archive].map(|path| path.to_str().unwrap());
    let [source, backups, archive] = texts;
    let log = dir.path().join("etcd.log");
    fs::write(&log, "2026/11/22 07:10:21 etcdserver: name = infra0\n").unwrap();
    let with = |quiet: &str, args: &[&str]| {
        run(clean(BINARY)
            .env("ETCD_ARK_QUIET", quiet)
            .current_dir(dir.path())
            .args(args))
        .exits(0)
    };
    for question in [
        &["list", backups][..],
        &["list", "--history", backups],
        &["inspect", archive],
        &["keys", source],
        &["diff", archive, source],
        &["prune", "--dry-run", "--keep-last", "1", backups],
        &["explain-log", "etcd.log"],
    ] {
        let told = with("1", question).stdout;
        assert_eq!(told, with("", question).stdout, "{question:?}");
        assert_ne!(told, "", "{question:?}");
    }
    for command in [
        &["copy", backups, "to"][..],
        &["verify", archive],
        &[
            "snapshot",
            "--dry-run",
            "--data-dir",
            source,
            "--backup-dir",
            backups,
        ],
        &["prune", "--keep-last", "1", backups],
        &["restore", archive, "--data-dir", "new"],
        &["man", "--out", "pages"],
    ] {
        let told = with("1", &[&["-v"], command].concat());
        assert_eq!(told.stdout, "", "{command:?}");
    }
}

#[test]
fn a_snapshot_on_a_terminal_says_what_it_made() {
    // Guards against a tool that is silent to the person before it.
    only_with!(need("script"));
    let (_dir, source, backups, _) = small_scene();
    let line = format!("{BINARY} {}", snapshot_args(&source, &backups).join(" "));
    let mut command = clean("script");
    let told = run(command
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", "xterm"))
    .exits(0);
    assert!(told.stdout.contains("verified"), "{told:#?}");
}

/// 100 MB of raft snapshot and log.
fn large_member() -> (Recording, PathBuf) {
    let recording = unpack("multisegment");
    let source = recording.data_dir("multisegment");
    (recording, source)
}

/// A snapshot at the highest level, which takes many seconds: a signal meets it at work, on however fast a machine.
fn slow_snapshot(source: &Path, backups: &Path, more: &[&str]) -> Command {
    let mut command = clean(BINARY);
    command
        .args(snapshot_args(source, backups))
        .args(["--level", "19", "--threads", "1"])
        .args(more);
    command
}

/// Starts it as a shell on a terminal does, also where these stories run under `nohup`, whose children ignore SIGHUP.
fn start(command: &Command) -> Child {
    let mut heeding = clean("env");
    heeding.arg("--default-signal=HUP");
    heeding.arg(command.get_program()).args(command.get_args());
    let heeding = heeding
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    heeding.spawn().unwrap()
}

/// Sends `signal`, and gives the exit code and stderr.
fn stop(mut child: Child, signal: Signal) -> (Option<i32>, String) {
    kill_process(Pid::from_child(&child), signal).unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told: Vec<String> = lines.map(Result::unwrap).collect();
    (child.wait().unwrap().code(), told.join("\n"))
}

const STOPPED: [(Signal, i32, &str); 3] = [
    (Signal::HUP, 129, "hung-up"),
    (Signal::INT, 130, "interrupted"),
    (Signal::TERM, 143, "terminated"),
];

#[test]
fn a_snapshot_stopped_by_a_signal_leaves_nothing_and_says_which_it_was() {
    // Guards against half an archive after Ctrl-C or a timer's stop, and against the exit code of something that worked.
    let (_recording, source) = large_member();
    let dir = fast_dir("ark-interrupt-");
    let before = tree(&source);
    for (signal, code, kind) in STOPPED {
        let backups = dir.path().join(kind);
        let child = start(&slow_snapshot(&source, &backups, &["--json"]));
        wait_for_staged_bytes(&backups);
        let (ended, told) = stop(child, signal);
        assert_eq!(ended, Some(code), "{told:?}");
        let error: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(error["code"], code, "{error}");
        assert_eq!(error["kind"], kind, "{error}");
        assert_eq!(error["message"], "interrupted", "{error}");
        assert_eq!(names(&backups), Vec::<String>::new());
    }
    assert_eq!(tree(&source), before);
    // Who starts it with nohup wants it to go on when the terminal is gone.
    let backups = dir.path().join("nohup");
    let mut command = clean("nohup");
    command.arg(BINARY).args(snapshot_args(&source, &backups));
    command.args(["--level", "9", "--threads", "1"]);
    let child = start(&command);
    wait_for_staged_bytes(&backups);
    let (ended, told) = stop(child, Signal::HUP);
    assert_eq!(ended, Some(0), "{told:?}");
    let backups = dir.path().join("afterwards");
    archived(&source, &backups);
    assert_eq!(archives_in(&backups).len(), 1);
}

/// Runs it with a limit on the size of files that nothing but its smallest files keep.
fn with_small_files_only(args: &[&str]) -> Ran {
    let limited = "ulimit -f 1; exec \"$0\" \"$@\"";
    run(clean("sh").args(["-c", limited, BINARY]).args(args))
}

#[test]
fn a_limit_on_the_size_of_files_is_told_and_leaves_nothing() {
    // Guards against SIGXFSZ, which ended the run without a word and left what it had staged.
    let dir = TempDir::new().unwrap();
    let [source, backups, more, data] =
        ["source", "backups", "more", "data"].map(|name| dir.path().join(name));
    small_member(&source);
    let archive = archived(&source, &backups);
    fs::create_dir(&more).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let [source, from, to, archive, into] =
        [&source, &backups, &more, &archive, &data].map(|path| text(path));
    let before = tree(dir.path());
    for args in [
        &["snapshot", "--data-dir", &source, "--backup-dir", &to][..],
        &["copy", &from, &to],
        &["restore", "--offline", &archive, "--data-dir", &into],
    ] {
        let ran = with_small_files_only(args).exits(12).says("File too large");
        assert!(ran.stdout.is_empty(), "{ran:#?}");
        assert!(archives_in(&more).is_empty(), "{args:?}");
        assert!(!data.exists(), "{args:?}");
    }
    let left: Vec<_> = tree(dir.path())
        .into_keys()
        .filter(|path| !before.contains_key(path))
        .collect();
    assert!(
        left.iter().all(|path| path.ends_with(LOCK_FILE)),
        "{left:?}"
    );
}

/// A restore whose first sync takes two seconds: on a fast disk no signal would meet it at work. `-D` makes strace the
/// grandchild, so that the child is the restore itself.
fn slow_restore(archive: &Path, data_dir: &Path) -> Command {
    let mut command = clean("strace");
    let delay = "inject=fsync:delay_enter=2000000:when=1";
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync"]);
    command.args(["-e", delay, BINARY, "restore", "--offline"]);
    command.arg(archive).arg("--data-dir").arg(data_dir);
    command
}

#[test]
fn a_restore_stopped_by_a_signal_leaves_nothing() {
    // Guards against half a data dir, on which etcd would start.
    only_with!(need("strace"));
    let dir = fast_dir("ark-interrupt-");
    let source = dir.path().join("source");
    small_member(&source);
    let archive = archived(&source, &dir.path().join("backups"));
    for (signal, code, kind) in STOPPED {
        let parent = dir.path().join(kind);
        fs::create_dir(&parent).unwrap();
        let child = start(&slow_restore(&archive, &parent.join("data")));
        wait_until("it unpacks", || !names(&parent).is_empty());
        let (ended, told) = stop(child, signal);
        assert_eq!(ended, Some(code), "{told:?}");
        assert!(told.contains("error: interrupted"), "{told}");
        assert_eq!(names(&parent), Vec::<String>::new());
    }
}

/// A restore with a first sync and a clean-up that each take two seconds.
fn restore_slow_to_clean_up(archive: &Path, data_dir: &Path) -> Command {
    let mut command = clean("strace");
    let removals = "unlink,unlinkat,rmdir";
    command.args(["-D", "-f", "-qq", "-o", "/dev/null"]);
    command.args(["-e", &format!("trace=fsync,{removals}")]);
    command.args(["-e", "inject=fsync:delay_enter=2000000:when=1"]);
    command.args(["-e", &format!("inject={removals}:delay_enter=2000000")]);
    command.args([BINARY, "restore", "--offline"]);
    command.arg(archive).arg("--data-dir").arg(data_dir);
    command
}

#[test]
fn a_second_signal_ends_a_run_at_once_and_with_its_own_code() {
    // Guards against a run that cannot be ended while it cleans up.
    only_with!(need("strace"));
    let dir = fast_dir("ark-interrupt-");
    let source = dir.path().join("source");
    small_member(&source);
    let archive = archived(&source, &dir.path().join("backups"));
    let parent = dir.path().join("parent");
    fs::create_dir(&parent).unwrap();
    let child = start(&restore_slow_to_clean_up(&archive, &parent.join("data")));
    wait_until("it unpacks", || !names(&parent).is_empty());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    // The first removal begins within the two seconds after the sync, and takes as long.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let (code, told) = stop(child, Signal::TERM);
    assert_eq!((code, told.as_str()), (Some(143), ""));
}

/// Until the run has written a part of its archive under its temporary name.
fn wait_for_staged_bytes(backups: &Path) {
    let has_bytes =
        |name: &String| fs::metadata(backups.join(name)).is_ok_and(|metadata| metadata.len() > 0);
    wait_until("it writes", || names(backups).iter().any(has_bytes));
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn where_no_thread_can_be_had_the_work_is_done_without_or_refused_with_a_reason() {
    // RLIMIT_NPROC, or a limit on the service's tasks: a panic is no answer.
    only_with!(need_root() && need("prlimit") && need("setpriv"));
    let dir = TempDir::new().unwrap();
    let binary = dir.path().join("ark");
    copy_binary(&binary);
    small_member(&dir.path().join("source"));
    fs::write(dir.path().join("log"), "etcd: hello\n").unwrap();
    run(Command::new("chown")
        .args(["-R", "4321:4321"])
        .arg(dir.path()))
    .exits(0);
    // One process may have so many threads, and no more.
    for most in ["1", "2", "3"] {
        let limited = |args: &[&str]| {
            let mut command = clean("prlimit");
            command.arg(format!("--nproc={most}")).arg("setpriv");
            command.args(["--reuid", "4321", "--regid", "4321", "--clear-groups"]);
            let ran = run(command.arg(&binary).args(args).current_dir(dir.path()));
            assert!(!ran.stderr.contains("panicked"), "{ran:#?}");
            ran
        };
        let backups = format!("backups{most}");
        limited(&["snapshot", "--data-dir", "source", "--backup-dir", &backups]).exits(0);
        let archive = archives_in(&dir.path().join(&backups)).remove(0);
        let archive = archive.to_str().unwrap();
        limited(&["verify", "--deep", archive, "source"]).exits(0);
        let restored = format!("restored{most}");
        limited(&["restore", archive, "--data-dir", &restored, "--offline"]).exits(0);
        limited(&["list", "--json", "s3://bucket/prefix"]);
        // The reason is the server's, as with threads.
        let refused = limited(&["downgrade", "check", "--endpoints", "http://localhost:1"]);
        assert_has(&refused.exits(3).stdout, "Connection refused");
        let explained = limited(&["--json", "explain-log", "log"]);
        if most == "1" {
            let error = explained.exits(1).json_error();
            assert_eq!(error["kind"], "failed");
            let why = error["message"].as_str().unwrap();
            assert!(why.starts_with("failed to start a thread"), "{why}");
        }
    }
}

#[test]
fn a_clock_beyond_the_year_9999_stops_no_run() {
    let Some(faketime) = need_faketime() else {
        return;
    };
    let (_dir, source, backups, _) = small_scene();
    for args in [
        &snapshot_args(&source, &backups)
            .each_ref()
            .map(String::as_str)[..],
        &["prune", backups.to_str().unwrap(), "--keep-within", "9d"],
        &["list", "--history", backups.to_str().unwrap()],
    ] {
        let mut late = clean(BINARY);
        late.env("LD_PRELOAD", &faketime);
        late.env("FAKETIME", "@9999-12-31 23:59:58");
        run(late.args(args)).exits(0);
    }
    let archives = archives_in(&backups);
    assert!(format!("{archives:?}").contains("-9999"), "{archives:?}");
}

/// A failing run of each command, and the exit codes that come without an error of their own; `A`, `D` and so on are paths.
const FAILING: [(i32, &str); 28] = [
    (10, "snapshot --data-dir NOWHERE --backup-dir NEW"),
    (
        5,
        "--strict snapshot --data-dir D --backup-dir NEW --size-limit 1",
    ),
    (4, "verify TORN"),
    (4, "verify A TORN"),
    (3, "restore A --data-dir D --offline"),
    (10, "restore latest --backup-dir EMPTY --data-dir NEW"),
    (1, "drill A --etcd /bin/false"),
    (10, "list NOWHERE"),
    (2, "copy B NEW nothing-of-that-name"),
    (4, "inspect BROKEN"),
    (10, "inspect NOWHERE"),
    (10, "keys D /nothing"),
    (1, "put-keys D /app --endpoints http://127.0.0.1:1"),
    (1, "diff D OTHER"),
    (10, "explain-log EMPTY-FILE"),
    (5, "--strict explain-log PANIC"),
    (3, "rewind D OTHER --out NEW"),
    (3, "downgrade check --endpoints http://127.0.0.1:1"),
    (
        3,
        "downgrade run --data-dir D --backup-dir NEW --settle 0 --endpoints http://127.0.0.1:1",
    ),
    (3, "preflight --data-dir D --endpoints http://127.0.0.1:1"),
    (2, "prune B"),
    (2, "status EMPTY"),
    (3, "status --member x NOWHERE --nonsense"),
    (1, "status B --max-age 9d --warn-age 1s"),
    (5, "--strict schedule --data-dir NOWHERE --backup-dir B"),
    (2, "completions nonsense"),
    (2, "man nonsense"),
    (2, "--strict"),
];

#[test]
fn whatever_exits_non_zero_says_why_on_stderr() {
    // Guards against a cron mail or a playbook's log with an exit code and nothing else in it.
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let story = unpack("upgrade-story");
    let data_dir = story.data_dir("2-backup-infra0");
    small_member(&at("OTHER"));
    let archive = archived(&data_dir, &at("B"));
    let mut torn = fs::read(&archive).unwrap();
    torn[100] ^= 1;
    fs::write(at("TORN"), torn).unwrap();
    fs::create_dir(at("EMPTY")).unwrap();
    fs::write(at("EMPTY-FILE"), "").unwrap();
    fs::write(
        at("PANIC"),
        "2026/11/22 07:10:21 etcdserver: name = a\npanic: no\n",
    )
    .unwrap();
    copy_dir(&data_dir, &at("BROKEN"));
    let segment = at("BROKEN").join("member/wal/0000000000000000-0000000000000000.wal");
    flip(&segment, 500);
    let path = |word: &str| match word {
        "A" => archive.clone(),
        "D" => data_dir.clone(),
        word if word.chars().all(|c| c.is_ascii_uppercase() || c == '-')
            && !word.starts_with('-') =>
        {
            at(word)
        }
        word => PathBuf::from(word),
    };
    let mut failed = BTreeSet::new();
    for (code, line) in FAILING {
        let args: Vec<_> = line.split(' ').map(path).collect();
        failed.extend(line.split(' ').find(|word| !word.starts_with('-')));
        for mode in ["--no-progress", "--json", "-q"] {
            let told = run(clean(BINARY).current_dir(dir.path()).arg(mode).args(&args));
            let told = told.exits(code);
            // `status` is read from stdout.
            let is_told = line.starts_with("status") && told.stdout.starts_with("ETCD-ARK ");
            assert!(is_told || !told.stderr.trim().is_empty(), "{told:#?}");
            if mode == "--json" {
                let error = told.json_error();
                assert_eq!(error["code"], code, "{told:#?}");
                assert_ne!(error["message"], "", "{told:#?}");
            }
        }
    }
    ark(["man", "--out", at("pages").to_str().unwrap()]).exits(0);
    for page in names(&at("pages")) {
        let command = page.trim_end_matches(".1").trim_start_matches("etcd-ark");
        let command = command
            .trim_start_matches('-')
            .split("-check")
            .next()
            .unwrap();
        let command = command.split("-run").next().unwrap();
        assert!(
            command.is_empty() || failed.contains(command),
            "no failing run of {command}"
        );
    }
}
