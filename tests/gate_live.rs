//! The downgrade gate with a real cluster of etcd 3.4, which decides what a quorum is.
//!
//! In: etcd, if it is installed. Out: the gate's verdict while members are killed one by one, and servers started on
//! the data that `downgrade run` leaves.

use crate::support::etcd::http;
use crate::support::prelude::*;
use crate::support::trio::Trio;

/// How long servers may take, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until all of `members` answer as `holds` wants it: what led may be gone, or be new.
fn wait(cluster: &Trio, members: &[usize], path: &str, holds: fn(&str) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    for &n in members {
        let answer = || http(cluster.client(n), "GET", path, "");
        while !answer().is_ok_and(|(status, body)| status == 200 && holds(&body)) {
            assert!(Instant::now() < deadline, "never: {path} of infra{n}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn a_real_cluster_opens_the_gate_only_while_it_has_a_quorum_and_never_once_it_has_moved() {
    // Guards against a minority's word: cut off from the others it still says what it said yesterday.
    only_with!(need("etcd"));
    let dir = TempDir::with_prefix("ark-three-").unwrap();
    let mut cluster = Trio::start(dir.path(), 10_000);
    wait(&cluster, &[0, 1, 2], "/version", |body| {
        body.contains(r#""etcdcluster":"3.4.0""#)
    });
    let endpoints = cluster.endpoints();
    let back = |to: &str, from: &str, code: i32, line: &str| -> Value {
        // Patient: on a busy machine an election may be under way.
        let all = "--json downgrade check --timeout 20 --endpoints {} --from {} --to {}";
        let ran = typed(&format!("{all}{line}"), &[&endpoints, &from, &to]);
        ran.exits(code).json()
    };
    // All are of 3.4 and so is the cluster: from 3.4 there is no way back, from 3.5 no one has gone.
    let moved = back("3.3", "3.4", 3, "");
    assert_eq!(moved["reason"], "moved");
    assert_eq!(moved["said_by"].as_array().unwrap().len(), 3);
    let said = back("3.4", "3.5", 0, "");
    assert_eq!(said["reason"], "quorum-read");
    for member in said["members"].as_array().unwrap() {
        assert_eq!(member["cluster_version"], "3.4.0");
        assert_ne!(member["raft_index"], Value::Null);
    }
    let own = cluster.data_dir(0).to_owned();
    let with_own = format!(" --data-dir {}", own.display());
    assert_eq!(
        back("3.3", "3.4", 3, &with_own)["said_by"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    // One is stopped to go back; its disk speaks for it. It is of 3.5, so to say.
    cluster.kill(0);
    wait(&cluster, &[1, 2], "/v2/keys/?quorum=true", |_| true);
    assert_eq!(back("3.4", "3.5", 0, &with_own)["verdict"], "allowed");
    assert_eq!(back("3.4", "3.5", 0, "")["verdict"], "allowed-with-warning");
    assert_eq!(back("3.4", "3.5", 3, " --strict")["reason"], "warning");
    // One more, and what is left is a minority: it answers still, and does not know.
    cluster.kill(1);
    let said = back("3.4", "3.5", 3, &with_own);
    assert_eq!(said["reason"], "unknown");
    let alive = said["members"]
        .as_array()
        .unwrap()
        .iter()
        .find(|member| member["name"] == "infra2")
        .unwrap();
    assert_eq!(alive["cluster_version"], "3.4.0");
    assert_eq!(alive["quorum_read"], false);
    let moved = back("3.3", "3.4", 3, "");
    assert_eq!(moved["reason"], "moved", "for a refusal its word is enough");
    // All are stopped: their directories decide.
    cluster.kill(2);
    assert_eq!(back("3.4", "3.5", 3, &with_own)["reason"], "unknown");
    let second = cluster.data_dir(1).to_owned();
    let two = format!("{with_own} --offline {}", second.display());
    assert_eq!(back("3.4", "3.5", 0, &two)["reason"], "majority");
    assert_eq!(back("3.3", "3.4", 3, &two)["reason"], "moved");
}

/// Starts etcd with a WAL dir and gives its exit code and what it said; it must end by itself.
fn refuses_to_start(data: &Path, wal: &Path) -> String {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = server("etcd");
    clear_environment(&mut command);
    command
        .args(["--name", "real0", "--logger", "zap"])
        .args(words(
            "--listen-client-urls http://127.0.0.1:0 --listen-peer-urls http://127.0.0.1:0",
            &[],
        ))
        .args(["--advertise-client-urls", "http://127.0.0.1:1"])
        .arg("--data-dir")
        .arg(data)
        .arg("--wal-dir")
        .arg(wal)
        .stdin(Stdio::null())
        .stdout(log.reopen().unwrap())
        .stderr(log.reopen().unwrap());
    let mut child = start_server(command);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(!status.success());
            return fs::read_to_string(log.path()).unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("it runs: {}", fs::read_to_string(log.path()).unwrap());
}

#[test]
fn a_real_server_starts_on_what_was_brought_home_and_not_on_what_is_left_of_its_wal_dir() {
    // Guards against the empty member that a server with its old --wal-dir would make of itself.
    only_with!(need("etcd") && need("etcdctl"));
    let dir = TempDir::with_prefix("ark-wal-home-").unwrap();
    let (data, wal, backups) = (
        dir.path().join("data"),
        dir.path().join("wal"),
        dir.path().join("backups"),
    );
    let etcd = Etcd::start(&data);
    for number in 0..130 {
        etcd.set_v2(&format!("app/key-{number}"), &format!("{number}"));
    }
    etcd.set_v3("/v3/key", "value");
    let keys = etcd.all_keys();
    let line = "--json downgrade run --data-dir {} --backup-dir {} --settle 0";
    let running = typed(line, &[&data, &backups]);
    assert_eq!(running.exits(11).json_error()["kind"], "busy");
    etcd.stop();
    // As a server with `--wal-dir` leaves it.
    fs::rename(data.join("member/wal"), &wal).unwrap();
    let run = |more: &str| {
        let line = format!("{line} --wal-dir {{}} --from 3.5 --to 3.4 --offline{more}");
        typed(&line, &[&data, &backups, &wal]).exits(0).json()
    };
    assert_eq!(run("")["wal_moved"], Value::Null, "3.4 knows the flag");
    let moved = run(" --move-wal");
    assert_ne!(moved["wal_moved"], Value::Null);
    let before = tree(dir.path());
    let said = refuses_to_start(&data, &wal);
    assert!(said.contains("wal: file not found"), "{said}");
    // It may have looked for a place to write; nothing that counts has changed.
    let after = tree(dir.path());
    for (path, stat) in before
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|kind| kind == "wal"))
    {
        assert!(after[path].same_content(stat), "{}", path.display());
    }
    let etcd = Etcd::start(&data);
    assert_eq!(etcd.all_keys(), keys);
    etcd.stop();
}
