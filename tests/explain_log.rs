//! `explain-log` on the logs of a real rolling upgrade, on a log with a failure in it, and on files that are not logs.
//!
//! In: the logs of the recorded servers, 2.1.3 and 2.2.5 in one file; lines as etcd's sources print them. Out: the
//! mark of each line. The expected marks are written by hand, line by line where there is a failure.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::prelude::*;

/// `explain-log` with `log` on its stdin.
fn explain(args: &[&str], log: impl Into<Vec<u8>>) -> Ran {
    let log = log.into();
    let mut command = clean(BINARY);
    let mut child = start(command.arg("explain-log").args(args));
    let mut stdin = child.stdin.take().unwrap();
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&log)));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    Ran::ended(&command, output)
}

fn start(command: &mut std::process::Command) -> Child {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    piped.stderr(Stdio::piped()).spawn().unwrap()
}

/// The lines of `--json`, and the summary that ends them.
fn json_lines(ran: &Ran) -> (Vec<Value>, Value) {
    let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let mut lines: Vec<Value> = ran.stdout.lines().map(read).collect();
    let mut last = lines.pop().unwrap();
    (lines, last["summary"].take())
}

fn judged(log: impl Into<Vec<u8>>) -> Vec<(String, String)> {
    let ran = explain(&["--json"], log);
    // A line alone may be one of no etcd.
    assert!([0, 10].contains(&ran.code), "{ran:#?}");
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let (lines, _) = json_lines(&ran);
    let judged = lines
        .iter()
        .map(|line| (text(line, "class"), text(line, "verdict")));
    judged.collect()
}

/// Fails unless the one line of `log` gets `class` and `verdict`.
#[track_caller]
fn is_judged(line: &str, class: &str, verdict: &str) {
    let got = judged(format!("{line}\n"));
    let want = vec![(class.to_owned(), verdict.to_owned())];
    assert_eq!(got, want, "{line}");
}

fn counts(lines: &[Value]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line["class"].as_str().unwrap()).or_default() += 1;
    }
    counts
}

#[test]
fn every_line_of_a_real_rolling_upgrade_is_known_and_only_a_lost_quorum_is_worth_a_look() {
    // Guards against a list of messages written from memory: these are all that three servers said.
    let story = unpack("upgrade-story");
    for (name, worth_a_look, want) in [
        (
            "infra0.log",
            vec![],
            "cluster-version 2, connected 6, election 21, initial-version 2, members 3, new-member 1, own-stop 12, \
             peer-away 15, published 2, raft-snapshot 9, start-up 35, started 7, stopped 2",
        ),
        (
            "infra1.log",
            vec![],
            "cluster-version 1, connected 6, election 15, higher-version 2, initial-version 1, members 3, new-member 1, \
             own-stop 9, peer-away 16, published 2, raft-snapshot 9, request-lost 1, start-up 36, started 7, stopped 2",
        ),
        (
            // When the recording was ended, infra2 was the last to be stopped: for a moment it had lost both others.
            "infra2.log",
            vec![102, 103],
            "cluster-version 1, connected 6, election 12, initial-version 1, members 3, new-member 1, own-stop 6, \
             peer-away 14, published 2, raft-snapshot 9, request-lost 1, start-up 37, started 7, stopped 2, two-peers-away 2",
        ),
    ] {
        let ran = explain(&["--json"], story.text(name)).exits(0);
        let (lines, summary) = json_lines(&ran);
        assert_eq!(lines.len(), story.text(name).lines().count());
        let got = counts(&lines);
        let got: Vec<_> = got
            .iter()
            .map(|(name, lines)| format!("{name} {lines}"))
            .collect();
        assert_eq!(got.join(", "), want, "{name}");
        let notable = lines
            .iter()
            .filter(|line| line["verdict"] == "worth-a-look");
        let notable: Vec<_> = notable.map(|line| line["line"].as_u64().unwrap()).collect();
        assert_eq!(notable, worth_a_look, "{name}");
        assert_eq!(summary["not_known"], 0, "{name}");
        assert_eq!(summary["worth_a_look"], worth_a_look.len(), "{name}");
    }
}

#[test]
fn the_logs_of_all_recorded_servers_hold_nothing_unknown() {
    // Guards against a normal line of 2.0 to 2.3 called odd, and a removed member passed over.
    for (name, log, notable) in [
        ("auth", "auth.etcd.log", ""),
        ("gap-follower", "gap-follower.etcd.log", "two-peers-away 2"),
        ("mem-a", "mem-a.etcd.log", "member-removed 3"),
        ("mem-b", "mem-b.etcd.log", "member-removed 4"),
        (
            "mem-d",
            "mem-d.etcd.log",
            "member-removed 1, two-peers-away 2",
        ),
        ("ops-2.1", "ops-2.1.log", ""),
        ("ops-2.2", "ops-2.2.log", ""),
        ("proxy", "proxy.etcd.log", ""),
        ("v20", "v20.etcd.log", ""),
        ("v23", "v23.etcd.log", ""),
        ("waldir", "waldir.etcd.log", ""),
    ] {
        let ran = explain(&["--json"], unpack(name).text(log)).exits(0);
        let (lines, summary) = json_lines(&ran);
        assert_eq!(summary["not_known"], 0, "{log}");
        let odd: Vec<Value> = lines
            .into_iter()
            .filter(|line| line["verdict"] == "worth-a-look")
            .collect();
        let odd: Vec<_> = counts(&odd)
            .iter()
            .map(|(name, lines)| format!("{name} {lines}"))
            .collect();
        assert_eq!(odd.join(", "), notable, "{log}");
    }
}

#[test]
fn what_the_guide_calls_normal_is_expected_in_every_form_that_a_log_has() {
    // Guards against a line that is known from a file and not from the journal, where etcd leaves out package and level.
    let refused = "dial tcp [::1]:12380: getsockopt: connection refused";
    let broken = "write tcp 127.0.0.1:32380->127.0.0.1:64394: write: broken pipe";
    let id = "a8266ecf031671f0";
    for (package, class, message) in [
        (
            "etcdserver",
            "peer-away",
            format!("failed to reach the peerURL(http://localhost:12380) of member {id} (Get http://localhost:12380/version: {refused})"),
        ),
        (
            "etcdserver",
            "peer-away",
            format!("cannot get the version of member {id} (Get http://localhost:12380/version: {refused})"),
        ),
        ("rafthttp", "peer-away", format!("failed to write {id} on stream Message ({broken})")),
        ("rafthttp", "peer-away", format!("failed to write {id} on pipeline ({refused})")),
        ("rafthttp", "peer-away", format!("failed to heartbeat {id} on stream MsgApp v2 ({broken})")),
        ("etcdserver", "higher-version", "the etcd version 2.1.2+git is not up-to-date".to_owned()),
        (
            "etcdserver",
            "higher-version",
            format!("member {id} has a higher version &{{2.2.0-rc.0+git 2.1.0}}"),
        ),
        ("rafthttp", "no-health-check", format!("the connection to peer {id} is unhealthy")),
        (
            "etcdserver",
            "published",
            "published {Name:infra2 ClientURLs:[http://localhost:22380]} to cluster e9c7614f68f35fb0".to_owned(),
        ),
        ("etcdserver", "cluster-version", "updated the cluster version from 2.1 to 2.2".to_owned()),
    ] {
        for line in [
            // As in the guide, with days of one digit.
            format!("2015/09/2 09:48:35 {package}: {message}"),
            format!("2015/09/02 09:48:35 {package}: {message}"),
            format!("2015-09-02 09:55:42.691384 W | {package}: {message}"),
            format!("Sep  2 09:48:35 infra2 etcd[4711]: {message}"),
            format!("Sep 02 09:48:35 infra2 etcd2[4711]: 2015-09-02 09:48:35.691384 W | {package}: {message}"),
            format!("2015-09-02T09:48:35+0200 infra2.example etcd[1]: {package}: {message}"),
            format!("9月 02 09:48:35 infra2 etcd[1]: {message}"),
            format!("{package}: {message}\r"),
        ] {
            is_judged(&line, class, "expected");
        }
    }
}

/// What must stand out, and as what: messages of 2.0 to 2.3 with their packages.
const DISASTERS: &str = "\
forgotten-log      raft: tocommit(4711) is out of range [lastIndex(250)]
forgotten-log      raft: tocommit(9) is out of range [lastIndex(3)]. Was the raft log corrupted, truncated, or lost?
panic              panic: runtime error: invalid memory address or nil pointer dereference
damaged-data       snap: corrupted snapshot file 0000000000000002-00000000000000ca.snap: crc mismatch
damaged-data       snap: cannot rename broken snapshot file a.snap to a.snap.broken: no such file or directory
damaged-data       etcdserver: read wal error (wal: crc mismatch) and cannot be repaired
damaged-data       raft: 8998a2face6fb7ba state.commit 451 is out of range [250, 300]
torn-log           wal: repairing /var/lib/etcd/member/wal/0000000000000000-0000000000000000.wal
no-space           etcdserver: save snapshot error: write a.snap: no space left on device
disk-fault         etcdserver: raft save state and entries error: write a.wal: file already closed
other-version      etcdserver: the running cluster version(2.2.0) is higher than the maximum cluster version(2.1.0) supported
other-version      etcdserver: cluster cannot be downgraded (current version: 2.2.5 is lower than determined cluster version: 2.3).
other-version      rafthttp: request sent was ignored by peer 4c068e21e5a08be2 (server version incompatible)
other-cluster      rafthttp: request sent was ignored (cluster ID mismatch: remote[4c068e21e5a08be2]=1, local=2)
other-cluster      rafthttp: request received was ignored (cluster ID mismatch got 1 want 2)
member-removed     etcdserver: removed member 4c068e21e5a08be2 from cluster aa1662aca318a75f
lost-data-dir      etcdmain: member 8998a2face6fb7ba has already been bootstrapped
default-data-dir   etcdmain: no data-dir provided, using default data-dir ./infra0.etcd
unknown-flag       flags: unrecognized environment variable ETCD_WAL_DIR=/wal
forced-new-cluster etcdserver: forcing restart of member 1 in cluster 2 at commit index 3
in-use             etcdmain: listen tcp 127.0.0.1:2380: bind: address already in use
not-permitted      etcdserver: cannot write to data directory: open /var/lib/etcd/.touch: permission denied
tls                rafthttp: failed to dial 4c068e21e5a08be2 on stream Message (x509: certificate has expired or is not yet valid)
clock-difference   rafthttp: the clock difference against peer 4c068e21e5a08be2 is too high [2s > 1s]
overloaded         etcdserver: failed to send out heartbeat on time (deadline exceeded for 431ms)
overloaded         etcdserver: server is likely overloaded
buffer-full        rafthttp: dropped MsgApp to 4c068e21e5a08be2 since stream MsgApp v2's sending buffer is full
no-quorum          etcdhttp: etcdserver: request timed out, possibly due to connection lost
no-quorum          etcdserver: publish error: etcdserver: request timed out
no-resources       etcdmain: accept tcp 127.0.0.1:2379: too many open files
later-release      etcdserver: the local etcd version 2.2.0 is not up-to-date
later-release      etcdserver: member 4c068e21e5a08be2 has a higher version 2.3.1
later-release      etcdserver: member 4c068e21e5a08be2 has a higher version &{2.3.8 2.1.0}
";

#[test]
fn a_variable_for_this_tool_is_no_flag_that_etcd_lacks() {
    let line = "flags: unrecognized environment variable ETCD_ARK_BACKUP_DIR=/b";
    is_judged(line, "etcd-ark-variable", "routine");
}

#[test]
fn each_disaster_stands_out_of_a_real_log() {
    // Guards against the one line that matters drowned in an upgrade's noise, and against a mark that a prefix takes away.
    let log = unpack("upgrade-story").text("infra0.log");
    // Up to the quiet time before the first member is stopped.
    let quiet: Vec<&str> = log.lines().take(46).collect();
    for disaster in DISASTERS.lines() {
        let (class, line) = disaster.split_once(' ').unwrap();
        let line = line.trim_start();
        let message = line.split_once(": ").map_or(line, |(_, message)| message);
        for line in [
            line.to_owned(),
            format!("2026/11/22 07:10:26 {line}"),
            format!("2026-11-22 07:10:26.123456 E | {line}"),
            // The journal's own form leaves out the package.
            format!("Nov 22 07:10:26 infra0 etcd[5]: {message}"),
        ] {
            if class == "panic" && line.ends_with(&format!("etcd[5]: {message}")) {
                continue;
            }
            let told = judged(format!("{}\n{line}\n", quiet.join("\n")));
            let odd: Vec<_> = told
                .iter()
                .filter(|line| line.1 == "worth-a-look")
                .collect();
            let want = (class.to_owned(), "worth-a-look".to_owned());
            assert_eq!(odd, [&want], "{line}");
        }
    }
}

#[test]
fn a_panic_is_one_finding_and_not_one_for_each_line_of_its_stack() {
    // Guards against a list of what is worth a look that is filled by one stack trace.
    let log = "2026-11-22 07:10:42.1 C | raft: tocommit(5) is out of range [lastIndex(3)]\n\
        panic: tocommit(5) is out of range [lastIndex(3)]\n\ngoroutine 94 [running]:\n\
        main.main()\n\t/go/src/main.go:12 +0x20\ncreated by x\n\
        2026-11-22 07:10:43.1 I | etcdmain: etcd Version: 2.2.5\nwhat is this?\n";
    let got: Vec<_> = judged(log).into_iter().map(|line| line.0).collect();
    let trace = "stack-trace";
    let mut want = vec!["forgotten-log", "panic", trace, trace, trace, trace, trace];
    want.extend(["started", "not-known"]);
    assert_eq!(got, want);
}

#[test]
fn a_grave_line_that_is_not_known_is_worth_a_look_and_a_light_one_is_not() {
    // Guards against silence about what no list foresaw.
    for (letter, class, verdict) in [
        ("I", "not-known", "not-known"),
        ("N", "not-known", "not-known"),
        ("W", "grave", "worth-a-look"),
        ("E", "grave", "worth-a-look"),
        ("C", "grave", "worth-a-look"),
    ] {
        let line = format!("2026-11-22 07:10:42.1 {letter} | etcdserver: the moon is full");
        is_judged(&line, class, verdict);
    }
    is_judged("the moon is full", "not-known", "not-known");
    let zap = r#"{"level":"warn","ts":"2026-11-22T07:10:42.1Z","caller":"a/b.go:5","msg":"the moon is full"}"#;
    is_judged(zap, "grave", "worth-a-look");
    is_judged(&zap.replace("warn", "info"), "not-known", "not-known");
}

#[test]
fn what_is_expected_for_a_moment_is_not_expected_for_long_or_twice_at_once() {
    // Guards against `expected` printed over a member that never came back, and over an upgrade of two at a time.
    let class = |lines: &[&str]| {
        let told = judged(lines.join("\n"));
        told.last().unwrap().0.clone()
    };
    let away = |time: &str, id: &str| {
        format!(
            "2026/11/22 {time} rafthttp: failed to dial {id} on stream Message (dial tcp 1.2.3.4:2380: connect: connection refused)"
        )
    };
    let (a, b) = ("4c068e21e5a08be2", "4971f327a24069a9");
    let first = away("07:10:00", a);
    assert_eq!(class(&[&first, &away("07:14:59", a)]), "peer-away");
    assert_eq!(class(&[&first, &away("07:15:01", a)]), "peer-away-long");
    assert_eq!(class(&[&first, &away("07:10:01", b)]), "two-peers-away");
    let back = format!("2026/11/22 07:10:02 rafthttp: the connection with {a} became active");
    assert_eq!(class(&[&first, &back, &away("07:15:01", a)]), "peer-away");
    assert_eq!(class(&[&first, &back, &away("07:10:03", b)]), "peer-away");
    // The health check of 2.2 speaks of a stopped member too, and of one that does not answer after the upgrade.
    let unhealthy =
        format!("2026-11-22 07:20:00.1 W | rafthttp: the connection to peer {a} is unhealthy");
    assert_eq!(class(&[&unhealthy]), "no-health-check");
    assert_eq!(class(&[&first, &unhealthy]), "peer-away-long");
    let moved = "2026-11-22 07:19:00.1 N | etcdserver: updated the cluster version from 2.1 to 2.2";
    assert_eq!(class(&[moved, &unhealthy]), "unhealthy");
    let on_2_2 = "2026-11-22 07:19:00.1 I | etcdserver: starting server... [version: 2.2.5, cluster version: 2.2]";
    assert_eq!(class(&[on_2_2, &unhealthy]), "unhealthy");
    // A server that is being stopped loses all its peers.
    let stopping = "2026/11/22 07:10:00 osutil: received terminated signal, shutting down...";
    assert_eq!(class(&[stopping, &first, &away("07:10:00", b)]), "own-stop");
    // A full buffer is normal while the other member is away.
    let dropped = format!(
        "2026/11/22 07:10:05 rafthttp: dropped MsgHeartbeat to {a} since pipeline's sending buffer is full"
    );
    assert_eq!(class(&[&first, &dropped]), "peer-away");
    assert_eq!(class(&[&dropped]), "buffer-full");
}

#[test]
fn a_member_that_begins_with_nothing_where_it_had_data_is_worth_a_look() {
    // Guards against the quiet disaster of this very upgrade's way back: 2.1 has no `--wal-dir`, and starts over beside the data.
    let start = "2026/11/22 07:10:19 etcdserver: starting member 4c068e21e5a08be2 in cluster aa1662aca318a75f\n";
    let restart = "2026/11/22 07:10:18 etcdserver: restarting member 4c068e21e5a08be2 in cluster aa1662aca318a75f at commit index 250\n";
    let version = "2026/11/22 07:10:19 etcdmain: etcd Version: 2.1.3\n";
    is_judged(start.trim(), "new-member", "expected");
    let told = judged([restart, version, start].concat());
    assert_eq!(told[2].0, "empty-again");
    let twice = unpack("upgrade-story").text("infra1.log") + version + start;
    assert_eq!(judged(twice).last().unwrap().0, "empty-again");
}

#[test]
fn one_election_is_expected_and_five_within_a_minute_are_not() {
    // Guards against a cluster that cannot agree on a leader and is called normal, line by line.
    let election = |second: u32, term: u64| {
        format!(
            "2026/11/22 07:{:02}:{:02} raft: 4c068e21e5a08be2 is starting a new election at term {term}\n",
            second / 60,
            second % 60
        )
    };
    let classes = |log: String| {
        judged(log)
            .into_iter()
            .map(|line| line.0)
            .collect::<Vec<_>>()
    };
    let storm: String = (0..7).map(|n| election(n * 2, 40 + u64::from(n))).collect();
    let mut want = vec!["election"; 5];
    want.extend(["election-storm"; 2]);
    assert_eq!(classes(storm), want);
    let calm: String = (0..7)
        .map(|n| election(n * 15, 40 + u64::from(n)))
        .collect();
    assert_eq!(classes(calm), vec!["election"; 7]);
}

#[test]
fn the_text_marks_lines_and_says_each_reason_once() {
    // Guards against a mark without a reason, and against reasons that bury the log.
    let log = "2026/11/22 07:10:28 rafthttp: failed to dial 4c068e21e5a08be2 on stream Message (EOF)\n\
        2026/11/22 07:10:28 rafthttp: failed to dial 4c068e21e5a08be2 on pipeline (EOF)\n\
        2026/11/22 07:10:29 etcdserver: name = infra0\nwhat \x1b[2J is this\n\
        2026/11/22 07:10:30 raft: tocommit(5) is out of range [lastIndex(3)]\n";
    let told = explain(&[], log).exits(0);
    insta::assert_snapshot!(told.stdout, @r"
    ok   2026/11/22 07:10:28 rafthttp: failed to dial 4c068e21e5a08be2 on stream Message (EOF)
           A member that was stopped cannot be reached until it runs again. The
           guide calls this normal, for one member at a time.
    ok   2026/11/22 07:10:28 rafthttp: failed to dial 4c068e21e5a08be2 on pipeline (EOF)
         2026/11/22 07:10:29 etcdserver: name = infra0
         what \x1b[2J is this
    LOOK 2026/11/22 07:10:30 raft: tocommit(5) is out of range [lastIndex(3)]
           The leader counts on entries that this member no longer has: an older
           copy of its data dir was put back, or the end of its log was lost. Do not
           start it on this again; put its newest data back, or `rewind` the whole
           cluster.

    5 lines: 2 expected, 1 routine, 1 worth a look, 1 not known
      expected            2  peer-away
      routine             1  start-up
      worth a look        1  forgotten-log
      not known           1  not-known
    line 5, forgotten-log: 2026/11/22 07:10:30 raft: tocommit(5) is out of range [lastIndex(3)]
    ");
    assert_has(&told.stderr, "warning: 1 line is worth a look");
    let reason = "A member that was stopped cannot be reached";
    assert_eq!(told.stdout.matches(reason).count(), 1);
    let verbose = explain(&["--verbose"], log).exits(0);
    assert_eq!(verbose.stdout.matches(reason).count(), 2);
    let notable = explain(&["--only-notable"], log).exits(0);
    assert!(notable.stdout.starts_with("     4: what"), "{notable:#?}");
    assert!(notable.stdout.contains("\nLOOK 5: 2026"), "{notable:#?}");
    assert!(!notable.stdout.contains("failed to dial"), "{notable:#?}");
    let nothing = explain(&["--only-notable"], log.lines().next().unwrap()).exits(0);
    assert_begins(&nothing.stdout, "1 line: 1 expected");
    let colored = explain(&["--color", "always"], log).exits(0);
    assert_has(&colored.stdout, "\x1b[32mok  \x1b[0m 2026");
    // Under --strict a script can tell; what is expected does not count.
    explain(&["--strict"], log).exits(5);
    explain(&["--strict", "--json"], log).exits(5);
    explain(&["--strict"], log.lines().next().unwrap()).exits(0);
    explain(&["--strict"], "").exits(10);
}

#[test]
fn several_files_are_several_members_and_a_missing_one_is_said() {
    // Guards against what one member's log says taken for the other's, and against a file that is passed over.
    let dir = TempDir::with_prefix("ark-log-").unwrap();
    let away =
        |id: &str| format!("2026/11/22 07:10:28 rafthttp: failed to dial {id} on pipeline (EOF)\n");
    let (a, b) = (dir.path().join("a.log"), dir.path().join("b.log"));
    fs::write(&a, away("4c068e21e5a08be2")).unwrap();
    fs::write(&b, away("4971f327a24069a9")).unwrap();
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let ran = explain(&["--json", a, "-", b], away("8998a2face6fb7ba")).exits(0);
    let (lines, summary) = json_lines(&ran);
    let places: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["file"].as_str().unwrap(),
                line["line"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(places, [(a, 1), ("-", 1), (b, 1)]);
    assert_eq!(summary["expected"], 3);
    assert_eq!(summary["worth_a_look"], 0);
    let told = explain(&[a, b], "").exits(0);
    assert_begins(&told.stdout, &format!("==> {a} <==\nok   2026"));
    let missing = dir.path().join("missing.log");
    let ran = explain(&["--json", a, missing.to_str().unwrap()], "").exits(10);
    assert_has(&ran.json_error()["message"], "missing.log");
    assert_has(&ran.json_error()["hint"], "journalctl -u etcd");
    explain(&[dir.path().to_str().unwrap()], "")
        .exits(2)
        .says("is a directory");
}

#[test]
fn rubbish_is_not_known_and_moves_no_terminal() {
    // Guards against a crash, a lie or an obeyed escape sequence where the file is not a log at all.
    let mut rubbish: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    rubbish.extend_from_slice(b"\n\xff\xfe 2026/11/22 07:10:28 rafthttp: failed to dial\n\0\0\0\n{\"level\":\"warn\"\n{}\n");
    let (lines, summary) = json_lines(&explain(&["--json"], rubbish.clone()).exits(10));
    assert!(
        lines.iter().all(|line| line["verdict"] == "not-known"),
        "{summary}"
    );
    let told = explain(&[], rubbish).exits(10);
    let tame = |c: char| c == '\n' || !c.is_control();
    assert!(told.stdout.chars().all(tame));
    let longest = told.stdout.lines().map(|line| line.chars().count()).max();
    assert!(longest < Some(450), "{longest:?}");
}

#[test]
fn what_has_no_line_of_etcd_is_no_log_that_is_in_order() {
    // Guards against "0 worth a look" of another unit's journal, of one without entries, and of a file of zeros.
    let other =
        "Sep 10 12:00:00 host sshd[812]: Server listening on 0.0.0.0 port 22.\n-- Reboot --\n";
    for (log, why) in [
        ("", "stdin is empty"),
        ("-- No entries --\n", "no line of etcd (1 line read):"),
        (other, "no line of etcd (2 lines read):"),
        ("\0\0\0\0", "no line of etcd (1 line read):"),
    ] {
        explain(&[], log).exits(10).says(why);
        let told = explain(&["--json", "-q"], log).exits(10);
        assert_eq!(told.json_error()["kind"], "not-found");
    }
    // One of several is enough: its member was not looked at.
    let dir = TempDir::new().unwrap();
    let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
    fs::write(&good, "2026/11/22 07:10:21 etcdserver: name = infra0\n").unwrap();
    fs::write(&bad, other).unwrap();
    let [good, bad] = [good, bad].map(|path| path.to_str().unwrap().to_owned());
    explain(&[&good], "").exits(0);
    for both in [[good.as_str(), &bad], [&bad, &good]] {
        explain(&both, "")
            .exits(10)
            .says("bad` has no line of etcd");
    }
}

#[test]
fn a_line_without_an_end_is_held_in_bounded_memory() {
    // Guards against a disk image or a core dump, taken for a log, that takes all memory on a member's machine.
    let mut command = clean(BINARY);
    let mut child = start(command.args(["explain-log", "--json"]));
    let mut stdin = child.stdin.take().unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        stdin.write_all(&piece).unwrap();
    }
    // All but what a pipe and two buffers hold has been read by now, and the process still waits for more.
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    assert!(peak < 40_000, "{peak} kB");
    stdin.write_all(b"\nafter\n").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(10));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kept = lines[0]["message"].as_str().unwrap().len() as u64;
    assert_eq!(
        kept + lines[0]["bytes_left_out"].as_u64().unwrap(),
        100 << 20
    );
    assert!(kept <= 64 << 10);
    assert_eq!(lines[1]["message"], "after");
    assert_eq!(lines[1]["line"], 2);
}

#[test]
fn a_growing_log_is_told_line_by_line_and_ctrl_c_ends_it_with_the_summary() {
    // Guards against marks that come when the upgrade is over, and against a summary lost to the only way to end it.
    let mut command = clean(BINARY);
    let mut child = start(command.arg("explain-log"));
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for number in 0..3 {
        writeln!(
            stdin,
            "2026/11/22 07:10:19 etcdserver: name = infra{number}"
        )
        .unwrap();
        let mut told = String::new();
        // Would wait for ever if it waited for more.
        stdout.read_line(&mut told).unwrap();
        assert_eq!(
            told,
            format!("     2026/11/22 07:10:19 etcdserver: name = infra{number}\n")
        );
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("3 lines: 0 expected, 3 routine"), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(stdin);
}

#[test]
fn a_reader_that_went_away_ends_it_quietly() {
    // Guards against a broken pipe (`| head`) reported as a failure, and against reading on after it.
    let mut command = clean(BINARY);
    let mut child = start(command.arg("explain-log"));
    let mut stdin = child.stdin.take().unwrap();
    drop(child.stdout.take());
    let deadline = Instant::now() + Duration::from_secs(20);
    let code = loop {
        // It cannot know before it writes; then its own reading ends, and so does ours.
        let _ = stdin.write_all(b"2026/11/22 07:10:19 etcdserver: name = infra0\n");
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        assert!(Instant::now() < deadline, "it still reads");
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!((code, said.as_str()), (Some(0), ""));
}
