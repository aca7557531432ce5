//! Directories that hold no member, cannot be read, or have wrong names.

use super::{Permissions, assert_same_files, inspect, restore};
use std::os::unix::fs::PermissionsExt as _;

use crate::support::prelude::*;

#[test]
fn a_directory_in_the_first_layout_of_2_0_is_a_member_too() {
    // Guards against refusing a directory that etcd 2.0 itself would still move under `member/`.
    let (scratch, data, _, _) = small_scene();
    let live = decode::live_set(&data.join("member/snap"), &data.join("member/wal"));
    let (archive, _) = snapshot(&data, &scratch.path().join("1"), &[]);
    let expected = inspect(&archive, &[])["manifest"]["files"].clone();
    let flat = scratch.path().join("flat");
    copy_dir(&data.join("member"), &flat);
    let (archive, told) = snapshot(&flat, &scratch.path().join("2"), &[]);
    assert_eq!(told["manifest"]["files"], expected);
    let restored = scratch.path().join("restored");
    restore(&archive, &restored, &[]).exits(0);
    assert_same_files(&restored, &live);
}

#[test]
fn what_is_no_members_directory_is_called_what_it_is() {
    // Guards against a bare "no such file" at three in the morning, and against a backup dir made for nothing.
    let scratch = TempDir::new().unwrap();
    let place = |name: &str| scratch.path().join(name);
    fs::create_dir(place("empty")).unwrap();
    fs::create_dir_all(place("foreign/lib")).unwrap();
    fs::create_dir_all(place("no-segments/member/wal")).unwrap();
    fs::create_dir_all(place("old/log")).unwrap();
    fs::create_dir_all(place("old/conf")).unwrap();
    fs::write(place("file"), "no directory").unwrap();
    let proxy = unpack("proxy");
    let rows = "
        missing: there is no data dir at | hint: pass the directory that etcd was started with
        empty: is empty: no etcd member has written here | hint: this member has not started yet
        foreign: is not an etcd data dir: it has no `member` directory, but `lib` | hint: pass the directory
        no-segments: holds no WAL segment | hint: if etcd runs with `--wal-dir`
        old: was written by etcd 0.4 | hint: start it once with etcd 2.0
        file: is not a directory | hint: pass the directory
        proxy: belongs to an etcd proxy, which holds no data of the cluster | hint: there is nothing to back up on a proxy";
    for row in rows.trim().lines().map(str::trim) {
        let (name, told) = row.split_once(": ").unwrap();
        let (message, hint) = told.split_once(" | ").unwrap();
        let path = if name == "proxy" {
            proxy.data_dir("proxy")
        } else {
            place(name)
        };
        let backups = place("backups");
        let line = "snapshot --data-dir {} --backup-dir {}";
        let told = typed(line, &[&path, &backups]).exits(10);
        let told = told.says(message).says(hint);
        assert!(told.stderr.contains(path.to_str().unwrap()), "{told:#?}");
        assert_eq!(names(&backups), [""; 0], "{}", path.display());
        let json = typed(&format!("--json {line}"), &[&path, &backups]).exits(10);
        assert_eq!(json.stdout, "");
        assert_is_error(&json.json_error(), 10, message);
    }
}

/// The error object's four fields.
#[track_caller]
fn assert_is_error(error: &Value, code: i32, message: &str) {
    let fields: Vec<_> = error.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["code", "hint", "kind", "message"], "{error}");
    assert_eq!(error["code"], code, "{error}");
    assert!(error["kind"].is_string(), "{error}");
    assert_has(&error["message"], message);
}

#[test]
fn a_directory_that_may_not_be_read_is_said_to_be_so() {
    // Guards against "not found", or an archive without the unreadable file, when the run has too few rights.
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI must run this as root");
        eprintln!("SKIPPED: only root can run the binary as someone else");
        return;
    }
    let scratch = TempDir::new().unwrap();
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
    let binary = scratch.path().join("etcd-ark");
    copy_binary(&binary);
    let closed = scratch.path().join("closed");
    small_member(&closed);
    let open = scratch.path().join("open");
    let member = small_member(&open);
    for dir in ["", "member", "member/wal", "member/snap"] {
        fs::set_permissions(open.join(dir), Permissions::from_mode(0o755)).unwrap();
    }
    let backups = scratch.path().join("backups");
    fs::create_dir(&backups).unwrap();
    fs::set_permissions(&backups, Permissions::from_mode(0o777)).unwrap();
    for (data, path) in [(&closed, &closed), (&open, &member.segments[0].path)] {
        let mut command = clean("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command
            .arg(&binary)
            .args(["--json", "snapshot", "--data-dir"])
            .arg(data);
        let error = run(command.arg("--backup-dir").arg(&backups))
            .exits(1)
            .json_error();
        assert_is_error(&error, 1, "ermission denied");
        assert!(
            error["message"]
                .as_str()
                .unwrap()
                .contains(path.to_str().unwrap()),
            "{error}"
        );
        assert_has(&error["hint"], "run it as root");
        assert_eq!(names(&backups), [""; 0]);
    }
}

#[test]
fn wrong_usage_is_one_json_object_too() {
    // Guards against a script that parses stderr and meets prose.
    for (line, message) in [
        ("--json", ""),
        ("--json snapshot", "required arguments were not provided"),
        (
            "--json snapshot --data-dir x --backup-dir y --level 99",
            "99",
        ),
        ("--json nonsense", "nonsense"),
        ("verify --json", "no backup dir is given"),
        ("restore x --data-dir y --threads 0 --json", "0"),
    ] {
        let told = typed(line, &[]).exits(2);
        assert_eq!(told.stdout, "", "{line}");
        let error = told.json_error();
        assert_is_error(&error, 2, message);
        assert_eq!(error["kind"], "usage");
        assert_ne!(error["message"], "", "{line}");
    }
}

#[test]
fn wrong_usage_is_json_when_the_environment_asks_for_it() {
    // Guards against a flag that counts on the command line and not in the environment, where cron sets it.
    let told = run(clean(BINARY).env("ETCD_ARK_JSON", "true").arg("nonsense")).exits(2);
    assert_is_error(&told.json_error(), 2, "nonsense");
}
