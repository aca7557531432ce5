//! A drill: a backup is restored to a scratch directory, a real etcd started on it, every key compared.
//!
//! Debian's etcd 3.4 tests its own data dirs; servers of 2.1 and 2.2 test recorded ones if the environment names
//! them (`ETCD_ARK_ETCD_2_1`, `ETCD_ARK_ETCD_2_2`).

use std::io::Write as _;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::prelude::*;
use crate::support::trio::{MEMBERS, Program, Trio};

fn drill(target: &Path, etcd: &OsStr, scratch: &Path, flags: &[&str]) -> Ran {
    let mut args: Vec<&OsStr> = vec!["--json".as_ref(), "drill".as_ref(), target.as_os_str()];
    args.extend(["--etcd".as_ref(), etcd]);
    args.extend(["--scratch-dir".as_ref(), scratch.as_os_str()]);
    args.extend(flags.iter().map(OsStr::new));
    ark(args)
}

/// A stopped 3.4 with keys of every kind in its v2 store, hidden ones among them.
fn member_of_34(dir: &Path) -> PathBuf {
    let data_dir = dir.join("real0.etcd");
    let server = Etcd::start(&data_dir);
    for number in 0..120 {
        server.set_v2(&format!("app/key{number}"), &format!("value {number}"));
    }
    server.set_v2("_hidden/_deep/key", "seen by nobody");
    server.set_v2("odd%20name", "ä\"\\<>&");
    // Names that are not UTF-8: etcd saves another one, and of the last two one.
    server.set_v2("caf%E9/key%FF", "x");
    server.set_v2("two%FE", "x");
    server.set_v2("two%FF", "x");
    server.stop();
    data_dir
}

/// An etcd 2.x that the environment names; without it the story is skipped, and says so.
fn server_of(line: &str) -> Option<PathBuf> {
    let variable = format!("ETCD_ARK_ETCD_{}", line.replace('.', "_"));
    let path = std::env::var_os(&variable).map(PathBuf::from);
    if path.is_none() {
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        let mut stderr = std::io::stderr();
        let _ = writeln!(stderr, "\n*** SKIPPED {name}: {variable} names no etcd ***");
    }
    path
}

#[test]
fn a_drill_beside_the_running_cluster_neither_joins_it_nor_hears_from_it() {
    // A server that joined as the member of the backup took the leader's entries, died of them, and left the leader sure
    // that the real member had what only it had: that one could not start any more.
    only_with!(need("etcd"));
    let of_2x = ["2.1", "2.2", "2.3"].map(server_of).into_iter().flatten();
    let of_2x = of_2x.map(|path| (path.clone().into_os_string(), Program::Etcd2(path)));
    for (etcd, program) in [("etcd".into(), Program::Etcd34)].into_iter().chain(of_2x) {
        let dir = TempDir::new().unwrap();
        let mut trio = Trio::prepare(dir.path(), 100_000);
        for n in 0..MEMBERS {
            trio.set_program(n, program.clone());
        }
        trio.start_all();
        for number in 0..300 {
            trio.set_v2(number % 2, &format!("app/{}", number % 40), "before");
        }
        let backups = dir.path().join("backups");
        // 3.4's cannot be taken while it runs.
        trio.stop(2);
        let (archive, _) = snapshot(trio.data_dir(2), &backups, &[]);
        for number in 0..200 {
            trio.set_v2(number % 2, &format!("app/{}", number % 40), "since");
        }
        for _ in 0..2 {
            for _ in 0..2 {
                drill(&archive, &etcd, dir.path(), &[]).exits(0);
            }
            trio.start_member(2);
            trio.wait_healthy(&[0, 1, 2]);
            drill(&archive, &etcd, dir.path(), &[]).exits(0);
            trio.wait_equal();
            trio.stop(2);
            trio.set_v2(0, "app/last", "since");
        }
        // It was at their doors, and they did not let it in; how soon it forgets them depends on the release.
        if etcd == "etcd" {
            let told = [trio.log(0), trio.log(1)].concat();
            assert_has(&told, "cluster ID mismatch");
        }
    }
}

#[test]
fn a_backup_of_a_real_member_is_proven_by_its_own_server_and_nothing_stays() {
    only_with!(need("etcd"));
    let dir = TempDir::new().unwrap();
    let data_dir = member_of_34(dir.path());
    let before = tree(&data_dir);
    let (backups, scratch) = (dir.path().join("backups"), dir.path().join("scratch"));
    fs::create_dir(&scratch).unwrap();
    let (archive, _) = snapshot(&data_dir, &backups, &[]);
    let kept = tree(&backups);
    let metrics = dir.path().join("drill.prom");
    for (target, flags) in [
        (
            archive.as_path(),
            vec!["--metrics-file", metrics.to_str().unwrap()],
        ),
        (
            Path::new("latest"),
            vec!["--backup-dir", backups.to_str().unwrap()],
        ),
        (data_dir.as_path(), vec![]),
    ] {
        let told = drill(target, "etcd".as_ref(), &scratch, &flags)
            .exits(0)
            .json();
        assert_eq!(told["equal"], true, "{told:#}");
        assert_eq!(told["keys"], 125, "{told:#}");
        assert_eq!(names(&scratch), [""; 0]);
    }
    assert_eq!(tree(&data_dir), before);
    assert_eq!(tree(&backups), kept);
    let metrics = fs::read_to_string(metrics).unwrap();
    assert_has_each(
        &metrics,
        &[
            "etcd_ark_last_run_exit_code{command=\"drill\"} 0",
            "etcd_ark_last_proven_archive_keys{command=\"drill\"",
        ],
    );
}

#[test]
fn a_server_that_does_not_start_fails_the_drill_with_its_own_last_lines() {
    let dir = TempDir::new().unwrap();
    let recording = unpack("v23");
    let (archive, _) = snapshot(&recording.data_dir("v23"), &dir.path().join("backups"), &[]);
    let scratch = dir.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    // What it says of its version is all that this one has of an etcd.
    let fake = dir.path().join("etcd");
    let script = "#!/bin/sh\ncase $1 in --version) echo 'etcd Version: 2.3.8';; *) echo 'panic: it is broken'; exit 2;; esac\n";
    fs::write(&fake, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&fake, mode).unwrap();
    let ran = drill(&archive, fake.as_os_str(), &scratch, &[]).exits(4);
    let told = ran.json();
    assert_eq!(told["equal"], false);
    assert_eq!(told["started"], false);
    assert_eq!(told["etcd_log"][0], "panic: it is broken");
    ran.says("it exited with code 2");
    assert_eq!(names(&scratch), [""; 0]);

    // An older one starts on what it does not know, and that proves nothing.
    let older = "#!/bin/sh\necho 'etcd Version: 2.1.3'\n";
    fs::write(&fake, older).unwrap();
    drill(&archive, fake.as_os_str(), &scratch, &[])
        .exits(3)
        .says("the backup is of a cluster at 2.3, and etcd 2.1.3 is older");
    assert_eq!(names(&scratch), [""; 0]);

    // One that runs and never serves is ended in time.
    let script = "#!/bin/sh\ncase $1 in --version) echo 'etcd Version: 2.3.8';; *) sleep 600 & wait;; esac\n";
    fs::write(&fake, script).unwrap();
    drill(&archive, fake.as_os_str(), &scratch, &["--within", "1s"])
        .exits(4)
        .says("within 1 s it was not healthy");
    assert_eq!(names(&scratch), [""; 0]);
    assert!(processes_about(&scratch).is_empty());

    // One that fills the disk is ended before it does.
    let script = "#!/bin/sh\ncase $1 in --version) echo 'etcd Version: 2.3.8';; *) exec yes 'a line of a log';; esac\n";
    fs::write(&fake, script).unwrap();
    let began = Instant::now();
    let ran = drill(&archive, fake.as_os_str(), &scratch, &["--within", "30s"]).exits(4);
    assert!(began.elapsed() < Duration::from_secs(20));
    let told = ran.json();
    assert_eq!(told["etcd_log"].as_array().unwrap().len(), 12, "{told:#}");
    ran.says("its log grew to more than 64 MiB, so it was stopped");
    assert_eq!(names(&scratch), [""; 0]);
}

#[test]
fn without_such_a_program_or_such_a_backup_nothing_is_done() {
    let dir = TempDir::new().unwrap();
    let recording = unpack("v23");
    let (archive, _) = snapshot(&recording.data_dir("v23"), &dir.path().join("backups"), &[]);
    let scratch = dir.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    drill(&archive, "/nowhere/etcd".as_ref(), &scratch, &[])
        .exits(10)
        .says("there is no program at");
    drill(&archive, "true".as_ref(), &scratch, &[])
        .exits(1)
        .says("does not answer");
    let missing = dir.path().join("missing.tar.zst");
    drill(&missing, "true".as_ref(), &scratch, &[]).exits(10);
    drill(Path::new("latest"), "true".as_ref(), &scratch, &[]).exits(2);
    let empty = scratch.to_str().unwrap();
    drill(
        Path::new("latest"),
        "true".as_ref(),
        &scratch,
        &["--backup-dir", empty],
    )
    .exits(10);
    assert_eq!(names(&scratch), [""; 0]);
}

#[test]
fn a_scratch_directory_in_the_source_or_missing_is_refused_before_anything_is_made() {
    let dir = TempDir::new().unwrap();
    let data_dir = dir.path().join("data");
    small_member(&data_dir);
    let fake = dir.path().join("etcd");
    let script = "#!/bin/sh\necho 'etcd Version: 2.3.8'\n";
    fs::write(&fake, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&fake, mode).unwrap();
    // A directory that something was made in has another time.
    let (member, link) = (data_dir.join("member"), dir.path().join("link"));
    std::os::unix::fs::symlink(&member, &link).unwrap();
    let written = |dir: &Path| fs::metadata(dir).unwrap().modified().unwrap();
    let before = [&data_dir, &member].map(|dir| written(dir));
    for scratch in [&data_dir, &member, &member.join("wal"), &link] {
        let ran = drill(&data_dir, fake.as_os_str(), scratch, &[]).exits(3);
        let told = ran.says("is inside the data dir, which is only read");
        let told = told.says("--scratch-dir");
        assert!(!told.stderr.contains("backup"), "{told:#?}");
        assert_eq!([&data_dir, &member].map(|dir| written(dir)), before);
    }
    let missing = dir.path().join("missing");
    let ran = drill(&data_dir, fake.as_os_str(), &missing, &[]).exits(10);
    ran.says("there is no scratch directory at")
        .says("--scratch-dir");
}

/// The processes with `path` in their command line.
fn processes_about(path: &Path) -> Vec<String> {
    let path = path.to_str().unwrap();
    let lines = fs::read_dir("/proc").unwrap().flatten();
    let lines = lines.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(path)).collect()
}

#[test]
fn a_drill_that_is_killed_leaves_no_server_and_the_next_one_cleans_up() {
    let dir = TempDir::new().unwrap();
    let recording = unpack("v23");
    let (archive, _) = snapshot(&recording.data_dir("v23"), &dir.path().join("backups"), &[]);
    let fake = dir.path().join("etcd");
    // It becomes one long process, as a server is one, with the data dir in its command line.
    let script = "#!/bin/sh\ncase $1 in --version) echo 'etcd Version: 2.3.8';; *) exec tail -f /dev/null \"$4\";; esac\n";
    fs::write(&fake, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&fake, mode).unwrap();
    for (signal, stays) in [
        (Signal::TERM, false),
        (Signal::INT, false),
        (Signal::KILL, true),
    ] {
        let scratch = dir.path().join(format!("scratch{}", signal.as_raw()));
        fs::create_dir(&scratch).unwrap();
        let mut command: Command = clean(BINARY);
        command.arg("drill").arg(&archive).arg("--etcd").arg(&fake);
        command.arg("--scratch-dir").arg(&scratch);
        let output = [Stdio::null(), Stdio::null()];
        let [out, err] = output;
        let mut child = command.stdout(out).stderr(err).spawn().unwrap();
        let is_server = |line: &String| line.starts_with("tail");
        let until = |what: &dyn Fn() -> bool| {
            let deadline = Instant::now() + Duration::from_secs(60);
            while !what() {
                assert!(
                    Instant::now() < deadline,
                    "{signal:?}: {:?}",
                    processes_about(&scratch)
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        until(&|| processes_about(&scratch).iter().any(is_server));
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap();
        until(&|| processes_about(&scratch).is_empty());
        assert_eq!(!names(&scratch).is_empty(), stays, "{signal:?}");
    }
}

#[test]
fn recorded_members_are_proven_by_servers_of_their_own_release() {
    for (line, name, dir) in [
        ("2.1", "upgrade-story", "2-backup-infra1"),
        ("2.1", "ops-2.1", "ops-2.1"),
        ("2.1", "auth", "auth"),
        ("2.1", "mem-d", "mem-d"),
        ("2.2", "ops-2.2", "ops-2.2"),
        ("2.2", "upgrade-story", "3-after-upgrade-infra0"),
    ] {
        let Some(etcd) = server_of(line) else {
            continue;
        };
        let recording = unpack(name);
        let work = TempDir::new().unwrap();
        let (archive, _) = snapshot(&recording.data_dir(dir), &work.path().join("backups"), &[]);
        let told = drill(&archive, etcd.as_os_str(), work.path(), &[])
            .exits(0)
            .json();
        assert_eq!(told["equal"], true, "{dir}: {told:#}");
        assert!(told["keys"].as_u64().unwrap() > 0, "{dir}: {told:#}");
    }
}

#[test]
fn a_backup_of_2x_with_a_raft_snapshot_is_for_no_server_of_3x() {
    only_with!(need("etcd"));
    let work = TempDir::new().unwrap();
    let backups = work.path().join("backups");
    let (archive, _) = snapshot(Path::new("testdata/infra0.etcd"), &backups, &[]);
    let told = drill(&archive, "etcd".as_ref(), work.path(), &[]).exits(4);
    let hint = told.json_error()["hint"].to_string();
    assert_has(
        &hint,
        "etcd 3 wants its own database beside a raft snapshot",
    );
}

#[test]
fn a_backup_that_no_server_starts_from_fails_the_drill() {
    let Some(etcd) = server_of("2.1") else { return };
    let recording = unpack("dead-members");
    let work = TempDir::new().unwrap();
    let archive = recording.path("dead-members/natural.tar.zst");
    let told = drill(&archive, etcd.as_os_str(), work.path(), &[])
        .exits(4)
        .json();
    let log = told["etcd_log"].to_string();
    assert!(log.contains("panic"), "{told:#}");
}
