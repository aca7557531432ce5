//! Archives of a real etcd 3.4 with both stores, and real servers started on the restored data.
//!
//! In: etcd and etcdctl, if they are installed. Out: the same keys from the API, before and after.

use crate::faults::assert_reads_only;
use crate::support::encode::{raft_snapshot, snap_name, store_json};
use crate::support::etcd::http;
use crate::support::prelude::*;

/// More than twice `--snapshot-count`, so that there are raft snapshots and a log above the newest.
const KEYS: usize = 130;

fn need_etcd() -> bool {
    need("etcd") && need("etcdctl")
}

/// Starts a server on a new data dir and writes keys to both stores; their values begin with `value`.
fn server_with_keys(data_dir: &Path, value: &str) -> Etcd {
    let etcd = Etcd::start(data_dir);
    for number in 0..KEYS {
        etcd.set_v2(
            &format!("app/dir-{}/key-{number}", number % 7),
            &format!("{value}-{number}"),
        );
    }
    for number in 0..5 {
        etcd.set_v3(&format!("/v3/key-{number}"), &format!("{value}-{number}"));
    }
    etcd
}

/// The keys of a server that is started on `data_dir` and stopped again.
fn keys_after_start(data_dir: &Path) -> (String, String) {
    let etcd = Etcd::start(data_dir);
    let keys = etcd.all_keys();
    etcd.stop();
    keys
}

/// A stopped server's data dir, and the keys that it answered with.
fn stopped_server(dir: &TempDir, name: &str) -> (PathBuf, (String, String)) {
    let data_dir = dir.path().join(name);
    let etcd = server_with_keys(&data_dir, name);
    let keys = etcd.all_keys();
    assert!(keys.0.contains(name) && keys.1.contains(name), "{keys:?}");
    etcd.stop();
    (data_dir, keys)
}

fn restore(archive: &Path, data_dir: &Path, more: &[&str]) -> Ran {
    typed_with(
        "restore --offline {} --data-dir {}",
        &[&archive, &data_dir],
        more,
    )
}

fn try_snapshot(data_dir: &Path, backups: &Path) -> Ran {
    typed(
        "snapshot --data-dir {} --backup-dir {}",
        &[&data_dir, &backups],
    )
}

#[test]
fn a_3x_server_is_captured_when_stopped_and_comes_back_with_every_key() {
    // Guards against `snap/db` copied under a server that writes to it, and against a restored member that lost a store.
    only_with!(need_etcd());
    let dir = TempDir::with_prefix("ark-real-").unwrap();
    let (source, backups) = (dir.path().join("source"), dir.path().join("backups"));
    let etcd = server_with_keys(&source, "first");
    let refused = try_snapshot(&source, &backups).exits(11);
    assert_has(&refused.stderr, "etcd 3.x runs on this data dir");
    assert_has(&refused.stderr, "hint: stop this member first");
    assert_has(&refused.stderr, "etcdctl snapshot save");
    assert_eq!(names(&backups), Vec::<String>::new());
    let keys = etcd.all_keys();
    etcd.stop();

    let before = tree(&source);
    let archive = archived(&source, &backups);
    assert_eq!(tree(&source), before);
    ark([OsString::from("verify"), archive.clone().into()]).exits(0);
    inspected(&source);
    inspected(&archive);

    let restored = dir.path().join("restored");
    restore(&archive, &restored, &[]).exits(0);
    assert_eq!(keys_after_start(&restored), keys);
    if need("tar") && need("zstd") && need("sha256sum") {
        let by_hand = dir.path().join("by-hand");
        make_dir(&by_hand);
        let script =
            r#"cd "$1" && tar --zstd -xf "$2" && sha256sum --quiet -c SHA256SUMS && zstd -qt "$2""#;
        let args: [OsString; 5] = [
            "-euc".into(),
            script.into(),
            "sh".into(),
            (&by_hand).into(),
            (&archive).into(),
        ];
        program("sh", args).exits(0);
        assert_eq!(keys_after_start(&by_hand), keys);
    }
    if need("strace") {
        let again = dir.path().join("again");
        copy_dir(&source, &again);
        assert_reads_only(&again, &dir.path().join("backups-2"), &[]);
    }
}

#[test]
fn a_db_without_a_key_of_the_v3_api_is_whole_and_on_data_of_2_3_it_has_one_answer_everywhere() {
    // Guards against a healthy member of 3.x called corrupt, because it has not saved yet which entry its db includes.
    only_with!(need_etcd());
    let dir = TempDir::with_prefix("ark-real-").unwrap();
    let fresh = dir.path().join("fresh");
    let etcd = Etcd::start(&fresh);
    etcd.set_v2("a", "b");
    etcd.stop();
    ark([OsString::from("verify"), (&fresh).into()]).exits(0);

    let recording = unpack("v23");
    let data = recording.data_dir("v23");
    let db = "member/snap/db";
    fs::copy(fresh.join(db), data.join(db)).unwrap();
    let archive = archived(&data, &dir.path().join("backups"));
    for target in [&data, &archive] {
        let args = ["verify".into(), "--json".into(), OsString::from(target)];
        let told = ark(args).exits(0).json()["targets"][0].clone();
        assert_eq!(told["starts"]["2.3"], "no", "{told:#}");
        let says = "etcd 2.3 does not start from it: `snap/db` is there";
        assert_has(&told["notes"].to_string(), says);
    }
}

/// What `inspect` says of the one-member cluster of version 3.4.
fn inspected(target: &Path) {
    let args: [OsString; 3] = ["inspect".into(), "--json".into(), target.into()];
    let told = ark(args).exits(0).json();
    let member = &told["facts"];
    assert_eq!(member["cluster_version"], "3.4.0", "{member:#}");
    let members = member["members"].as_array().unwrap();
    assert_eq!(members.len(), 1, "{member:#}");
    assert_eq!(members[0]["name"], "real0");
    assert_eq!(members[0]["id"], member["identity"]["member_id"]);
    let position = &member["position"];
    let [index, commit] = ["index", "commit"].map(|name| position[name].as_u64().unwrap());
    // Every key is an entry, and so are the member, its name and the version.
    assert!(
        commit >= KEYS as u64 + 5 && commit <= index && index < 2000,
        "{position:#}"
    );
    let raft_snapshot = member["raft_snapshot"]["index"].as_u64().unwrap();
    assert!(raft_snapshot >= 50 && raft_snapshot <= commit, "{member:#}");
}

#[test]
fn a_replaced_3x_member_comes_back_by_the_printed_commands() {
    // Guards against an undo that is printed and does not work, on the day when it is wanted.
    only_with!(need_etcd());
    let dir = TempDir::with_prefix("ark-real-").unwrap();
    let (source, new_keys) = stopped_server(&dir, "new");
    let archive = archived(&source, &dir.path().join("backups"));
    let (target, old_keys) = stopped_server(&dir, "old data, it's mine");
    let before = tree(&target.join("member"));
    let refused = restore(&archive, &target, &[]).exits(3);
    assert!(refused.stderr.contains("--replace"), "{refused:?}");
    assert_eq!(tree(&target.join("member")), before);

    let told = restore(&archive, &target, &["--replace", "--change-member"]).exits(0);
    assert_eq!(keys_after_start(&target), new_keys);
    let (_, undo) = told
        .stdout
        .split_once("to undo it, with etcd stopped:\n")
        .unwrap();
    program("sh", ["-euc", undo]).exits(0);
    assert_eq!(tree(&target.join("member")), before);
    assert_eq!(keys_after_start(&target), old_keys);
}

#[test]
fn a_restore_onto_a_running_server_changes_nothing() {
    // Guards against a directory exchanged under a server that goes on writing to the old one.
    only_with!(need_etcd());
    let dir = TempDir::with_prefix("ark-real-").unwrap();
    small_member(&dir.path().join("small"));
    let archive = archived(&dir.path().join("small"), &dir.path().join("backups"));
    let target = dir.path().join("running");
    let etcd = server_with_keys(&target, "running");
    let (names, keys) = (
        tree(&target).into_keys().collect::<BTreeSet<_>>(),
        etcd.all_keys(),
    );
    for more in [&["--replace"][..], &[], &["--replace", "--dry-run"]] {
        let refused = restore(&archive, &target, more).exits(11);
        assert_has(&refused.stderr, "etcd runs on the target");
        assert_has(&refused.stderr, "hint: stop etcd first");
    }
    assert_eq!(tree(&target).into_keys().collect::<BTreeSet<_>>(), names);
    etcd.set_v2("afterwards", "it still writes");
    assert!(keys.0 != etcd.all_keys().0 && keys.1 == etcd.all_keys().1);
    etcd.stop();
    let (v2, v3) = keys_after_start(&target);
    assert!(v2.contains("it still writes") && v3 == keys.1);
}

#[test]
fn a_3x_server_without_a_v3_write_is_rewound_as_its_dry_run_said() {
    // Guards against a `snap/db` that has no index yet, which etcd reads as 0, taken for a corrupt one.
    only_with!(need_etcd());
    let dir = TempDir::with_prefix("ark-real-").unwrap();
    let source = dir.path().join("source");
    let etcd = Etcd::start(&source);
    for number in 0..9 {
        etcd.set_v2(&format!("app/key-{number}"), "x");
    }
    let keys = etcd.all_keys();
    etcd.stop();
    ark([OsString::from("verify"), source.clone().into()]).exits(0);
    let archive = archived(&source, &dir.path().join("backups"));
    for (number, input) in [source, archive].iter().enumerate() {
        typed("rewind {} --to end --dry-run", &[input]).exits(0);
        let out = dir.path().join(format!("out-{number}"));
        typed("rewind {} --to end --out {}", &[input, &out]).exits(0);
        let made = archives_in(&out).remove(0);
        let restored = dir.path().join(format!("restored-{number}"));
        restore(&made, &restored, &[]).exits(0);
        assert_eq!(keys_after_start(&restored), keys);
    }
}

#[test]
fn a_3x_server_killed_under_writes_is_captured_with_all_it_acknowledged() {
    // Guards against preallocated zeros or a torn tail taken for corruption, and against acknowledged keys that are missing.
    only_with!(need_etcd());
    let dir = TempDir::with_prefix("ark-real-").unwrap();
    for round in 0..3 {
        let source = dir.path().join(format!("killed-{round}"));
        let etcd = Etcd::start(&source);
        let client = etcd.client();
        let writers: Vec<_> = (0..4)
            .map(|writer| std::thread::spawn(move || put_until_it_dies(client, writer)))
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(700 + 400 * round));
        etcd.kill();
        let acknowledged: Vec<String> = writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect();
        assert!(acknowledged.len() > 10, "{}", acknowledged.len());

        let before = tree(&source);
        let archive = archived(&source, &dir.path().join("backups"));
        assert_eq!(tree(&source), before);
        let verified = ark([OsString::from("verify"), (&source).into()]);
        if verified.code != 0 {
            // The kill may hit while a raft snapshot is being written: that file, and nothing
            // else, is corrupt, and the capture has passed it over.
            let bad: Vec<_> = verified
                .stdout
                .lines()
                .filter(|line| line.contains("BAD"))
                .collect();
            let half_written = |line: &&str| {
                line.contains("member/snap/")
                    && (line.contains("cut short") || line.contains("the file is empty"))
            };
            assert!(verified.code == 4 && bad.len() == 1, "{verified:?}");
            assert!(bad.iter().all(half_written), "{verified:?}");
        }
        let restored = dir.path().join(format!("restored-{round}"));
        restore(&archive, &restored, &[]).exits(0);
        let (v2, _) = keys_after_start(&restored);
        let lost = acknowledged
            .iter()
            .filter(|key| !v2.contains(&format!("\"/{key}\"")))
            .count();
        println!(
            "round {round}: {} keys acknowledged, {lost} lost",
            acknowledged.len()
        );
        assert_eq!(lost, 0);
    }
}

#[test]
fn a_raft_snapshot_that_a_killed_3x_server_had_not_yet_marked_is_passed_over() {
    // Guards against a refusal of a directory from which etcd 3.4 starts well: it writes the file first and the marker after
    // it, and a kill in between (seen in one of three) leaves a raft snapshot that the WAL does not know of.
    only_with!(need_etcd());
    let dir = TempDir::with_prefix("ark-real-").unwrap();
    let (source, keys) = stopped_server(&dir, "unmarked");
    let inspect = |target: &Path| {
        let args: [OsString; 3] = ["inspect".into(), "--json".into(), target.into()];
        ark(args).exits(0).json()
    };
    let member = inspect(&source)["facts"].take();
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let [term, commit] = ["term", "commit"].map(|name| number(&member["position"][name]));
    let id = member["identity"]["member_id"].as_str().unwrap();
    let id = u64::from_str_radix(id, 16).unwrap();
    let json = store_json(Some("3.4.0"), &[(id, "real0", "http://127.0.0.1:1")], 3);
    let name = snap_name(term, commit);
    let path = source.join("member/snap").join(&name);
    write_file(&path, 0o644, &raft_snapshot(term, commit, &[id], &json));

    let again = inspect(&source);
    assert_eq!(again["facts"], member);
    assert_eq!(again["leftovers"][0]["path"], format!("member/snap/{name}"));
    ark([OsString::from("verify"), (&source).into()]).exits(0);
    for more in [&[][..], &["--all"]] {
        let backups = dir.path().join(format!("backups{}", more.len()));
        let line = "snapshot --json --data-dir {} --backup-dir {}";
        let ran = typed_with(line, &[&source, &backups], more).exits(0);
        assert_has(&ran.stdout, "was passed over: the WAL has no marker");
        let archive = PathBuf::from(ran.json()["archive"].as_str().unwrap());
        ark([OsString::from("verify"), (&archive).into()]).exits(0);
        let restored = dir.path().join(format!("restored{}", more.len()));
        restore(&archive, &restored, &[]).exits(0);
        assert_eq!(keys_after_start(&restored), keys);
    }
    // That etcd itself starts from it is what makes a refusal wrong.
    assert_eq!(keys_after_start(&source), keys);
}

/// Keys that the server said it had set.
fn put_until_it_dies(client: std::net::SocketAddr, writer: usize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    loop {
        let key = format!("load/{writer}/{}", acknowledged.len());
        match http(
            client,
            "PUT",
            &format!("/v2/keys/{key}"),
            &format!("value={}", "x".repeat(300)),
        ) {
            Ok((201, _)) => acknowledged.push(key),
            _ => return acknowledged,
        }
    }
}

/// An archive of the small member, and the directories to restore it to.
fn archive_of_small_member(dir: &Path) -> PathBuf {
    small_member(&dir.join("small"));
    archived(&dir.join("small"), &dir.join("backups"))
}

#[test]
fn a_data_dir_that_is_a_symlink_stays_one() {
    // Guards against a symlink replaced by a directory, which leaves the data on the wrong disk.
    let dir = TempDir::with_prefix("ark-link-").unwrap();
    let archive = archive_of_small_member(dir.path());
    let (real, link) = (dir.path().join("disk/real"), dir.path().join("link"));
    make_dir(&real);
    std::os::unix::fs::symlink(&real, &link).unwrap();
    restore(&archive, &link, &[]).exits(0);
    restore(&archive, &link, &["--replace"]).exits(0);
    assert!(link.is_symlink());
    let found = names(&real);
    assert!(
        found.len() == 2 && found[0] == "member" && found[1].starts_with("member.before-restore-"),
        "{found:?}"
    );
    assert_eq!(names(&dir.path().join("disk")), ["real"]);
    let again = archived(&link, &dir.path().join("backups-2"));
    ark([OsString::from("verify"), again.into()]).exits(0);
}

#[test]
fn a_member_that_is_a_symlink_is_refused() {
    // Guards against an exchange that swaps a link for a directory and leaves the data behind it unprotected.
    let dir = TempDir::with_prefix("ark-link-").unwrap();
    let archive = archive_of_small_member(dir.path());
    let recording = unpack("mem-a");
    for part in ["member", "member/wal", "member/snap"] {
        let target = dir.path().join(part.replace('/', "-"));
        copy_dir(&recording.data_dir("mem-a"), &target);
        let elsewhere = target.with_extension("elsewhere");
        fs::rename(target.join(part), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, target.join(part)).unwrap();
        let before = (tree(&target), tree(&elsewhere));
        let refused = restore(&archive, &target, &["--replace"]).exits(3);
        assert!(refused.stderr.contains("symbolic link"), "{refused:?}");
        assert_has(&refused.stderr, "nothing was changed");
        restore(&archive, &target, &[]).exits(3);
        assert_eq!((tree(&target), tree(&elsewhere)), before);
    }
}

#[test]
fn a_data_dir_that_is_a_mount_point_is_restored_into() {
    // Guards against staging on another file system than the mount, from which no rename leads into it.
    only_with!(need("unshare") && need_root());
    let dir = TempDir::with_prefix("ark-mount-").unwrap();
    let archive = archive_of_small_member(dir.path());
    let target = dir.path().join("mounted");
    make_dir(&target);
    let script = r#"
        mount -t tmpfs -o size=16m,mode=0700 tmpfs "$1"
        "$ARK" restore --offline "$2" --data-dir "$1"
        "$ARK" restore --offline "$2" --data-dir "$1" --replace
        "$ARK" verify "$1"
        ls -A "$1" | sed s/restore-.*/restore/
        # A mount inside the member cannot be exchanged.
        mount -t tmpfs tmpfs "$1/member/wal"
        code=0; "$ARK" restore --offline "$2" --data-dir "$1" --replace || code=$?
        echo "refused with $code"
        grep -c " $1 " /proc/mounts
    "#;
    let ran = in_own_mounts(script, &[&target, &archive]).exits(0);
    assert_has(&ran.stdout, "\nmember\nmember.before-restore\n");
    assert!(ran.stdout.contains("refused with 3"), "{ran:?}");
    assert!(ran.stderr.contains("mount point"), "{ran:?}");
}
