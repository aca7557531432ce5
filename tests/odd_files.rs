//! Names that etcd reads but that are not regular files: each is an error, and none blocks.

use std::os::unix::fs::{PermissionsExt, chown, symlink};

use crate::support::certs::Authority;
use crate::support::prelude::*;

fn make_fifo(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
}

/// The binary, which must end within some seconds.
fn typed_in_time(line: &str, values: &[&dyn AsRef<OsStr>]) -> crate::support::ark::Ran {
    let args = words(line, values);
    run(clean("timeout").arg("20").arg(BINARY).args(args))
}

#[test]
fn a_segment_or_raft_snapshot_that_is_no_file_ends_no_archive_early() {
    // Passed over, the last segment took the newest writes with it, at exit 0.
    let dir = TempDir::new().unwrap();
    let whole = dir.path().join("whole");
    let member = small_member(&whole);
    let last = names(&whole.join("member/wal")).pop().unwrap();
    let snap = member.snap_path.file_name().unwrap().to_owned();
    let put = |kind: &str, path: &Path| match kind {
        "a symbolic link to nothing" => symlink("nowhere", path).unwrap(),
        "a FIFO" => make_fifo(path),
        "a device" => symlink("/dev/null", path).unwrap(),
        _ => make_dir(path),
    };
    let backups = dir.path().join("backups");
    let kinds = [
        "a symbolic link to nothing",
        "a FIFO",
        "a device",
        "a directory",
    ];
    for (number, kind) in kinds.into_iter().enumerate() {
        let data_dir = dir.path().join(format!("data{number}"));
        copy_dir(&whole, &data_dir);
        let path = if number % 2 == 0 {
            data_dir.join("member/wal").join(&last)
        } else {
            data_dir.join("member/snap").join(&snap)
        };
        fs::remove_file(&path).unwrap();
        put(kind, &path);
        let told = format!(
            "`{}` has the name of a file that etcd reads, but is {kind}",
            path.display()
        );
        let capture = "snapshot --data-dir {} --backup-dir {}";
        typed_in_time(capture, &[&data_dir, &backups])
            .exits(4)
            .says(&told);
        for command in ["verify", "inspect"] {
            typed_in_time("{} {}", &[&command, &data_dir])
                .exits(4)
                .says(&told);
        }
        let checked = typed_in_time("preflight --data-dir {}", &[&data_dir]);
        let words: Vec<&str> = checked.stdout.split_whitespace().collect();
        assert!(words.join(" ").contains(&told), "{checked:#?}");
        // Saved as it is, and said; and replaced by a restore.
        typed_in_time(&format!("{capture} --damaged"), &[&data_dir, &backups])
            .exits(0)
            .says("it is not in the archive");
        let (archive, _) = snapshot(&whole, &dir.path().join("good"), &[]);
        let line = "restore {} --data-dir {} --offline --replace";
        typed_in_time(line, &[&archive, &data_dir]).exits(0);
        assert_eq!(
            names(&data_dir.join("member/wal")),
            names(&whole.join("member/wal"))
        );
    }
}

#[test]
fn a_member_that_cannot_be_entered_or_is_a_file_is_called_that() {
    let (dir, source, _, _) = small_scene();
    let (archive, _) = snapshot(&source, &dir.path().join("backups"), &[]);
    let restore = |data_dir: &Path| {
        let line = "restore {} --data-dir {} --replace --offline";
        words(line, &[&archive, &data_dir])
    };
    let file = dir.path().join("file");
    make_dir(&file);
    fs::write(file.join("member"), "").unwrap();
    ark(restore(&file))
        .exits(2)
        .says("member` is not a directory");
    only_with!(need_root() && need("setpriv"));
    let locked = dir.path().join("locked");
    small_member(&locked);
    for path in [dir.path(), &dir.path().join("backups"), &locked] {
        fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(&archive, PermissionsExt::from_mode(0o644)).unwrap();
    fs::set_permissions(locked.join("member"), PermissionsExt::from_mode(0o700)).unwrap();
    chown(&locked, Some(1234), Some(1234)).unwrap();
    let binary = dir.path().join("ark");
    copy_binary(&binary);
    let mut as_user = clean("setpriv");
    as_user.args(["--reuid", "1234", "--regid", "1234", "--clear-groups"]);
    run(as_user.arg(&binary).args(restore(&locked)))
        .exits(1)
        .says("Permission denied")
        .says("run it as root, who owns `");
}

#[test]
fn the_member_that_comes_is_told_and_another_one_refused() {
    let (dir, source, _, _) = small_scene();
    let (archive, _) = snapshot(&source, &dir.path().join("backups"), &[]);
    let told = typed("inspect {} --json", &[&archive]).json();
    let identity = &told["manifest"]["member"]["identity"];
    let name = identity["name"].as_str().unwrap();
    let data_dir = dir.path().join("data");
    let restore = |flags: &[&str]| {
        typed_with(
            "restore --offline {} --data-dir {}",
            &[&archive, &data_dir],
            flags,
        )
    };
    restore(&["--name", "someone-else"])
        .exits(3)
        .says("is not of a member `someone-else`, but of ");
    assert!(!data_dir.exists());
    for flags in [&["--dry-run"][..], &["--name", name]] {
        let ran = restore(flags).exits(0);
        for part in [name, identity["cluster_id"].as_str().unwrap()] {
            assert!(ran.stdout.contains(part), "{ran:#?}");
        }
    }
}

#[test]
fn a_file_that_a_flag_names_is_small_and_waits_for_no_one_beyond_a_signal() {
    // A FIFO held the run beyond SIGTERM, /dev/zero filled the memory.
    let (dir, source, _, _) = small_scene();
    let (archive, _) = snapshot(&source, &dir.path().join("backups"), &[]);
    let fifo = dir.path().join("fifo");
    make_fifo(&fifo);
    let large = dir.path().join("large");
    let sparse = fs::File::create(&large).unwrap();
    sparse.set_len(1 << 30).unwrap();
    let (source, archive) = (source.to_str().unwrap(), archive.to_str().unwrap());
    let signed = Authority::new(dir.path(), "ca").signs("client");
    let certificate = signed.cert.to_str().unwrap();
    let backups = dir.path().join("encrypted");
    let backups = backups.to_str().unwrap();
    let ask = "preflight --endpoints https://127.0.0.1:1";
    let take = format!("snapshot --data-dir {source} --backup-dir {backups}");
    let runs = [
        ("--cacert", ask),
        ("--cert", &format!("{ask} --key /dev/null")),
        ("--key", &format!("{ask} --cert {certificate}")),
        (
            "--password-file",
            "preflight --endpoints http://127.0.0.1:1 --username u",
        ),
        ("--metrics-file", &take),
        ("--config", &take),
        ("--recipients-file", &take),
        ("--identity", &format!("verify {archive}")),
    ];
    for (flag, line) in runs {
        let args: Vec<_> = line.split(' ').collect();
        for file in ["/dev/zero", large.to_str().unwrap()] {
            let ran = run(clean("timeout")
                .arg("20")
                .arg(BINARY)
                .args(&args)
                .args([flag, file]));
            let said = format!("{}{}", ran.stdout, ran.stderr);
            let is_told = ["it is over ", "not a regular file"];
            let is_fine = flag == "--identity" && ran.code == 0;
            assert!(
                is_fine || is_told.iter().any(|why| said.contains(why)),
                "{flag} {file}: {ran:#?}"
            );
            assert!(matches!(ran.code, 0..=4), "{flag} {file}: {ran:#?}");
        }
        let mut waiting = clean("timeout");
        waiting.args(["-k", "5", "--preserve-status", "0.5"]);
        let ran = run(waiting.arg(BINARY).args(args).arg(flag).arg(&fifo));
        assert!(matches!(ran.code, 0 | 1 | 143), "{flag}: {ran:#?}");
    }
    let mut no_archive = clean("timeout");
    no_archive.args(["20", BINARY, "verify"]).arg(&fifo);
    run(&mut no_archive).exits(2).says("is not a regular file");
    // A device that a link gives an archive's name is told in the same way.
    let device = dir.path().join("etcd-zero.tar.zst");
    symlink("/dev/zero", &device).unwrap();
    typed_in_time("verify {}", &[&device])
        .exits(2)
        .says("is not a regular file");
    // What a shell makes of `<(command)` is such a pipe.
    let script = "\"$0\" \"$@\" --config <(sleep 0.2; echo 'label = \"by-pipe\"')";
    let told = run(clean("bash")
        .args(["-c", script, BINARY, "--json"])
        .args(take.split(' ')))
    .exits(0);
    assert_eq!(told.json()["manifest"]["labels"][0], "by-pipe");
}

#[test]
fn a_segment_that_2_0_has_not_renamed_is_in_the_archive_under_its_name() {
    // Guards against a backup without the entries behind a kill: 2.0 goes on in `….wal.tmp` after a restart.
    let recording = unpack("multisegment");
    let data = recording.data_dir("multisegment");
    let segments = crate::support::decode::segments(&data.join("member/wal"));
    let last = segments.last().unwrap();
    let whole = typed("keys --json {}", &[&data]);
    let unrenamed = last.with_extension("wal.tmp");
    fs::rename(last, &unrenamed).unwrap();
    let again = typed("keys --json {}", &[&data]);
    assert_eq!(again.exits(0).stdout, whole.exits(0).stdout);
    let told = typed("verify --json {}", &[&data]);
    let told = told.exits(0).json();
    assert_eq!(told["targets"][0]["starts"]["2.0"], "yes", "{told:#}");
    let backups = recording.path("backups");
    // In another directory the name means nothing.
    let stray = "0000000000000009-0000000000000001.wal";
    fs::copy(&unrenamed, data.join(format!("member/snap/{stray}.tmp"))).unwrap();
    let (archive, told) = snapshot(&data, &backups, &[]);
    let warnings = told["manifest"]["warnings"].to_string();
    assert_has(&warnings, "goes on in it; it is archived as `member/wal/");
    let restored = recording.path("restored");
    typed("restore --offline {} --data-dir {}", &[&archive, &restored]).exits(0);
    let home = restored.join("member/wal").join(last.file_name().unwrap());
    assert_eq!(fs::read(home).unwrap(), fs::read(&unrenamed).unwrap());
    assert!(!restored.join("member/wal").join(stray).exists());
    // One that a server was killed in, and has not gone on in, is a leftover.
    let head = fs::read(&unrenamed).unwrap();
    fs::write(&unrenamed, &head[..64]).unwrap();
    let (_, told) = snapshot(&data, &backups, &[]);
    assert!(
        !told["manifest"]["warnings"]
            .to_string()
            .contains("goes on in it"),
        "{told:#}"
    );
}

#[test]
fn etcd_passes_over_a_raft_snapshot_that_is_a_link_to_nothing_or_a_directory() {
    // As real 2.0.13, 2.1.3, 2.2.5 and 2.3.8 do: they rename it and load the one before.
    let recording = unpack("start-verdicts");
    let whole = recording.path("start-verdicts/cases/C-intact.etcd");
    for kind in ["link", "directory"] {
        let dir = TempDir::new().unwrap();
        let data_dir = dir.path().join("data");
        copy_dir(&whole, &data_dir);
        let snap = data_dir.join("member/snap");
        let newest = snap.join(names(&snap).pop().unwrap());
        fs::remove_file(&newest).unwrap();
        match kind {
            "link" => symlink("nowhere", &newest).unwrap(),
            _ => make_dir(&newest),
        }
        let verified = typed("verify --json {}", &[&data_dir]).exits(4).json();
        let starts = &verified["targets"][0]["starts"];
        let yes = json!({"2.0": "yes", "2.1": "yes", "2.2": "yes", "2.3": "yes"});
        assert_eq!(*starts, yes, "{kind}: {verified:#}");
    }
}

#[test]
fn what_a_kill_left_before_the_log_changes_no_verdict_of_an_archive() {
    // Seen: 2.0 was killed while it cut a segment, and later ones went on; it starts, and its archive was said not to.
    let recording = unpack("start-verdicts");
    let data_dir = recording.path("start-verdicts/cases/C-intact.etcd");
    let wal = data_dir.join("member/wal");
    let mut before = names(&wal);
    before.truncate(2);
    let left = wal.join(format!("{}.tmp", before[0]));
    fs::rename(wal.join(&before[0]), left).unwrap();
    fs::remove_file(wal.join(&before[1])).unwrap();
    let (archive, _) = snapshot(&data_dir, &recording.path("backups"), &["--all"]);
    for target in [data_dir, archive] {
        let verified = typed("verify --json {}", &[&target]).exits(0).json();
        assert_eq!(
            verified["targets"][0]["starts"]["2.0"], "yes",
            "{verified:#}"
        );
    }
}

#[test]
fn a_cut_archive_is_corrupt_everywhere_and_the_hint_names_the_backup_dir() {
    // The hint was the command that had just failed, and `verify` of the backup dir had another word for it.
    let (dir, source, backups, _) = small_scene();
    let (archive, _) = snapshot(&source, &backups, &[]);
    let bytes = fs::read(&archive).unwrap();
    let cut = backups.join("etcd-cut-20200101T000000.000Z-0000000000000001.tar.zst");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let whole_dir = format!("`etcd-ark verify {}`", backups.display());
    typed("verify {}", &[&cut]).exits(4).says(&whole_dir);
    let told = typed("verify {}", &[&backups]).exits(4);
    assert_has(&told.stdout, &format!("CORRUPT {}", cut.display()));
    assert!(!told.stdout.contains("FAILED"), "{told:#?}");
    // Under another name it is a file of a kind that etcd-ark did not make.
    let other = dir.path().join("host.zst");
    fs::copy(&cut, &other).unwrap();
    typed("verify {}", &[&other]).exits(2).says("cut short");
}

#[test]
fn a_backup_dir_below_missing_directories_is_told() {
    // A typo made a tree of directories without a word.
    let (dir, source, _, _) = small_scene();
    let line = "snapshot --data-dir {} --backup-dir {}";
    let told = "note: created the backup dir";
    let deep = dir.path().join("a/b/c");
    typed(line, &[&source, &deep]).exits(0).says(told);
    let flat = typed(line, &[&source, &dir.path().join("flat")]).exits(0);
    assert_eq!(flat.stderr, "");
}

#[test]
fn a_renamed_raft_snapshot_that_etcd_loads_first_is_not_called_a_leftover() {
    // etcd takes the `.snap` file whose name sorts last; the words were "etcd does not need it".
    let dir = TempDir::new().unwrap();
    let data_dir = dir.path().join("data");
    let snap = small_member(&data_dir).snap_path;
    let look = |name: &str| {
        fs::copy(&snap, snap.with_file_name(name)).unwrap();
        let told = typed("inspect {}", &[&data_dir]).exits(0).stdout;
        let json = typed("inspect --json {}", &[&data_dir]).exits(0).json();
        fs::remove_file(snap.with_file_name(name)).unwrap();
        (told, json["leftovers"][0]["loaded"].as_bool())
    };
    let (told, loaded) = look("2-2bd.snap");
    assert_has(&told, "loads before the others");
    assert!(!told.contains("which etcd does not load"), "{told}");
    assert_eq!(loaded, Some(true));
    let (told, loaded) = look("0-old.snap");
    assert_has(&told, "leftovers, which etcd does not load");
    assert_eq!(loaded, Some(false));
}

#[test]
fn a_wal_dir_without_a_segment_is_not_said_to_hold_some() {
    // Seen: after the way home of the segments the hint was to move `member/wal` away; 2.1.3 started with no key.
    let dir = TempDir::new().unwrap();
    let (data_dir, wal_dir) = (dir.path().join("data"), dir.path().join("wal"));
    small_member(&data_dir);
    make_dir(&wal_dir);
    let look = |line: &str| typed(line, &[&data_dir, &wal_dir]);
    for line in ["verify {} --wal-dir {}", "inspect {} --wal-dir {}"] {
        let refused = look(line).exits(3);
        refused
            .says("holds no WAL segment")
            .says("leave `--wal-dir` out");
    }
    fs::write(wal_dir.join("moved-to-member-wal.wal"), "They are at home.").unwrap();
    make_dir(&wal_dir.join("before-restore-20260101T000000.000Z"));
    let alone = typed("verify --json {}", &[&data_dir]).exits(0).json();
    let beside = look("verify --json {} --wal-dir {}").exits(0).json();
    assert_eq!(beside["targets"], alone["targets"]);
    look("inspect {} --wal-dir {}").exits(0);
}
