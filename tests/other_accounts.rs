//! Root in directories of other accounts: their owner may replace any name in them at any time, and must get nothing of
//! root's.
//!
//! In: data dirs and backup dirs of another account. Out: the owners of the files afterwards, and the state of a
//! directory of root's that a symlink led to.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown, symlink};

use crate::support::prelude::*;
use crate::support::relabel_member::make_unreachable;

const ETCD: u32 = 1234;

struct Scene {
    dir: TempDir,
}

impl Scene {
    /// A member's data dir, in a directory that all may enter.
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let scene = Self { dir };
        small_member(&scene.path("source"));
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A directory of the etcd account's.
    fn theirs(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        make_dir(&path);
        chown(&path, Some(ETCD), Some(ETCD)).unwrap();
        path
    }

    fn archive(&self) -> PathBuf {
        snapshot(&self.path("source"), &self.path("backups"), &[]).0
    }
}

fn restore(archive: &Path, data_dir: &Path, flags: &[&str]) -> Ran {
    typed_with(
        "restore --offline {} --data-dir {}",
        &[&archive, &data_dir],
        flags,
    )
}

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let found = fs::symlink_metadata(path.as_ref()).unwrap();
    (found.uid(), found.gid())
}

/// Puts a symlink to `$2` in the place of each staged directory in `$1`, as fast as it can, until it is killed or the test ends.
const SWAP: &str = r#"
my ($place, $victim) = @ARGV;
my $parent = getppid;
my $number = 0;
while (getppid == $parent) {
    for my $staged (glob "$place/.etcd-ark-*.staging") {
        next if -l $staged;
        $number += 1;
        rename($staged, "$place/aside$number") and symlink($victim, $staged);
    }
}
"#;

#[test]
fn swapping_the_staging_directory_for_a_symlink_gains_no_directory_of_roots() {
    // 4 of 4 tries gave the account that owned the data dir any directory that it named.
    only_with!(need_root() && need("setpriv") && need("perl"));
    let scene = Scene::new();
    let archive = scene.archive();
    let victim = scene.path("victim");
    for place in ["existing", "parent"] {
        let theirs = scene.theirs(place);
        make_dir(&victim);
        let before = fs::metadata(&victim).unwrap();
        let attacker = as_etcd(SWAP, &[&theirs, &victim]);
        let until = Instant::now() + Duration::from_secs(1);
        let (mut whole, mut tries) = (0, 0);
        while tries < 3 || Instant::now() < until {
            let data_dir = match place {
                "existing" => theirs.clone(),
                _ => theirs.join(format!("data{tries}")),
            };
            let flags: &[&str] = if tries == 0 { &[] } else { &["--replace"] };
            let ran = restore(&archive, &data_dir, flags);
            tries += 1;
            if ran.code == 0 {
                assert!(!names(&data_dir.join("member/wal")).is_empty(), "{ran:#?}");
                whole += 1;
            }
            assert!(matches!(ran.code, 0 | 1 | 10), "{ran:#?}");
            assert_eq!(names(&victim), [""; 0], "{ran:#?}");
        }
        drop(attacker);
        let now = fs::metadata(&victim).unwrap();
        assert_eq!(now.uid(), before.uid(), "{whole} of {tries} were restored");
        assert_eq!(now.gid(), before.gid(), "{whole} of {tries} were restored");
        assert_eq!(
            now.mode(),
            before.mode(),
            "{whole} of {tries} were restored"
        );
    }
}

#[test]
fn swapping_the_staging_directory_of_a_rewind_or_a_drill_has_nothing_written_elsewhere() {
    // Guards against root's archives, logs and clean-up in a directory that the etcd account names.
    only_with!(need_root() && need("setpriv") && need("perl"));
    let scene = Scene::new();
    let archive = scene.archive();
    let theirs = scene.theirs("theirs");
    let victim = scene.path("victim");
    for path in ["set", "work", "data"] {
        make_dir(&victim.join(path));
        fs::write(victim.join(path).join("of-root"), "stays").unwrap();
    }
    let before = tree(&victim);
    let etcd = scene.path("etcd");
    fs::write(&etcd, "#!/bin/sh\necho etcd Version: 2.1.3\n").unwrap();
    fs::set_permissions(&etcd, PermissionsExt::from_mode(0o755)).unwrap();
    let attacker = as_etcd(SWAP, &[&theirs, &victim]);
    let until = Instant::now() + Duration::from_secs(2);
    let mut tries = 0;
    while tries < 3 || Instant::now() < until {
        let out = theirs.join(format!("out{tries}"));
        let ran = typed("rewind {} --out {}", &[&archive, &out]);
        assert!(matches!(ran.code, 0 | 1 | 10), "{ran:#?}");
        let line = "drill {} --etcd {} --scratch-dir {}";
        let ran = typed(line, &[&archive, &etcd, &theirs]);
        assert!(ran.code != 0, "{ran:#?}");
        assert!(!ran.stderr.contains("panicked"), "{ran:#?}");
        tries += 1;
        assert_eq!(tree(&victim), before, "after {tries}: {ran:#?}");
    }
    drop(attacker);
    // Without an attacker there is a result, and nothing else is left.
    let out = theirs.join("last");
    typed("rewind {} --out {}", &[&archive, &out]).exits(0);
    assert!(names(&theirs).contains(&"last".to_owned()));
}

/// Makes `$1` a symlink to `$2`, and what it was again, and so on until it is killed.
const FLIP: &str = r#"
my ($place, $victim) = @ARGV;
my $parent = getppid;
while (getppid == $parent) {
    rename($place, "$place.real") and symlink($victim, $place);
    select(undef, undef, undef, rand(0.002));
    unlink($place) and rename("$place.real", $place);
    select(undef, undef, undef, rand(0.004));
}
"#;

#[test]
fn swapping_a_directory_of_the_member_has_no_file_of_roots_archived() {
    // 15 of 60 tries had a file of root's in the archive.
    only_with!(need_root() && need("setpriv") && need("perl"));
    let scene = Scene::new();
    let source = scene.path("source");
    for path in ["", "member", "member/snap", "member/wal"] {
        chown(source.join(path), Some(ETCD), Some(ETCD)).unwrap();
    }
    let victim = scene.path("victim");
    make_dir(&victim);
    fs::write(victim.join("secret"), "of root's").unwrap();
    let attacker = as_etcd(FLIP, &[&source.join("member/snap"), &victim]);
    let until = Instant::now() + Duration::from_secs(1);
    let mut tries = 0;
    while tries < 3 || Instant::now() < until {
        let mut args = vec![OsStr::new("--json"), "snapshot".as_ref(), "--all".as_ref()];
        args.extend([OsStr::new("--data-dir"), source.as_ref()]);
        let backups = scene.path("backups");
        args.extend([OsStr::new("--backup-dir"), backups.as_ref()]);
        let ran = ark(args);
        assert!(matches!(ran.code, 0 | 1 | 3 | 4 | 10), "{ran:#?}");
        assert!(!ran.stdout.contains("member/snap/secret"), "{ran:#?}");
        tries += 1;
    }
    drop(attacker);
}

#[test]
fn swapping_what_a_backup_or_a_way_home_stages_has_nothing_of_roots_changed() {
    // The same account owns the backup dirs, the data dir and the WAL dir.
    only_with!(need_root() && need("setpriv") && need("perl"));
    let scene = Scene::new();
    let victim = scene.path("victim");
    make_dir(&victim);
    fs::write(victim.join("of-root"), "stays").unwrap();
    let before = (tree(&victim), owner(&victim));
    let source = scene.path("source");
    let recording = unpack("ops-2.1");
    let alone = recording.data_dir("ops-2.1");
    make_unreachable(&alone);
    let member = scene.theirs("member");
    let [backups, copies] = ["backups", "copies"].map(|name| scene.theirs(name));
    let places = [&backups, &copies, &member, &member.join("data/member")];
    let attackers = places.map(|place| as_etcd(SWAP, &[place, &victim]));
    let until = Instant::now() + Duration::from_secs(3);
    let mut tries = 0;
    while tries < 3 || Instant::now() < until {
        for path in ["data", "wal"] {
            let _ = fs::remove_dir_all(member.join(path));
        }
        copy_dir(&alone, &member.join("data"));
        fs::rename(member.join("data/member/wal"), member.join("wal")).unwrap();
        for path in ["data", "data/member", "wal"] {
            chown(member.join(path), Some(ETCD), Some(ETCD)).unwrap();
        }
        let home = "downgrade run --offline --settle 0 --data-dir {} --wal-dir {} --move-wal --backup-dir {}";
        let home = typed(home, &[&member.join("data"), &member.join("wal"), &copies]);
        let line = "snapshot --all --data-dir {} --backup-dir {}";
        let taken = typed(line, &[&source, &backups]);
        let saved = typed("copy {} {}", &[&backups, &copies]);
        let pruned = typed("prune {} --keep-last 2", &[&backups]);
        for ran in [home, taken, saved, pruned] {
            assert!(!ran.stderr.contains("panicked"), "{ran:#?}");
            let now = (tree(&victim), owner(&victim));
            assert_eq!(now, before, "after {tries}: {ran:#?}");
        }
        tries += 1;
    }
    drop(attackers);
    // Without them it goes on.
    let line = "snapshot --data-dir {} --backup-dir {}";
    typed(line, &[&source, &scene.theirs("more")]).exits(0);
}

/// A program that would go on for ever: it ends with the test, also where that fails.
struct Attacker(Child);

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A perl script that runs as the etcd account.
fn as_etcd(script: &str, args: &[&Path]) -> Attacker {
    let mut attacker = clean("setpriv");
    let id = ETCD.to_string();
    attacker.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    attacker.args(["perl", "-e", script]).args(args);
    Attacker(attacker.stdin(Stdio::null()).spawn().unwrap())
}

#[test]
fn what_root_puts_into_a_backup_dir_belongs_to_its_owner() {
    // Archives that the service cannot read are a warning every night, for ever.
    only_with!(need_root());
    let scene = Scene::new();
    let backups = scene.theirs("theirs").join("missing/backups");
    let (archive, _) = snapshot(&scene.path("source"), &backups, &[]);
    for made in [&backups, backups.parent().unwrap()] {
        assert_eq!(owner(made), (ETCD, ETCD), "{}", made.display());
    }
    typed("verify {}", &[&archive]).exits(0);
    let copies = scene.theirs("copies");
    typed("copy {} {}", &[&backups, &copies]).exits(0);
    typed("prune {} --keep-last 1", &[&copies]).exits(0);
    for dir in [&backups, &copies] {
        for name in fs::read_dir(dir).unwrap() {
            let path = name.unwrap().path();
            assert_eq!(owner(&path), (ETCD, ETCD), "{}", path.display());
        }
        assert!(dir.join(LOCK_FILE).exists());
        assert!(names(dir).len() >= 2);
    }
}

#[test]
fn a_symlink_among_the_man_pages_is_replaced_and_not_followed() {
    only_with!(need_root());
    let scene = Scene::new();
    let (pages, precious) = (scene.theirs("pages"), scene.path("precious"));
    fs::write(&precious, "kept").unwrap();
    symlink(&precious, pages.join("etcd-ark.1")).unwrap();
    typed("man --out {}", &[&pages]).exits(0);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "kept");
    let page = fs::symlink_metadata(pages.join("etcd-ark.1")).unwrap();
    assert_eq!((page.mode(), page.uid()), (0o100_644, ETCD));
}

#[test]
fn what_root_rewinds_into_a_directory_of_another_account_belongs_to_it() {
    only_with!(need_root());
    let scene = Scene::new();
    let theirs = scene.theirs("theirs");
    let empty = scene.theirs("empty");
    fs::set_permissions(&empty, PermissionsExt::from_mode(0o750)).unwrap();
    for (out, mode) in [(theirs.join("new"), 0o700), (empty, 0o750)] {
        typed(
            "rewind {} --to index:1 --out {}",
            &[&scene.path("source"), &out],
        )
        .exits(0);
        let made = archives_in(&out);
        for path in [&out, &made[0]] {
            assert_eq!(owner(path), (ETCD, ETCD), "{}", path.display());
        }
        assert_eq!(fs::metadata(&out).unwrap().mode() & 0o777, mode);
    }
}

#[test]
fn a_directory_that_is_there_keeps_its_owner_and_missing_ones_are_made_as_etcd_does() {
    only_with!(need_root());
    let scene = Scene::new();
    let archive = scene.archive();
    let theirs = scene.theirs("data");
    restore(&archive, &theirs, &[])
        .exits(0)
        .says("the files belong to 1234:1234, as `")
        .says("`--owner USER:GROUP`");
    for path in ["", "member", "member/wal", "member/snap"] {
        assert_eq!(owner(theirs.join(path)), (ETCD, ETCD), "{path}");
    }
    // Nothing is made by a dry run, and nothing is left of one that fails.
    let deep = scene.path("a/b/data");
    let missing = [
        "--owner",
        "77:78",
        "--wal-dir",
        scene.path("a/c/wal").to_str().unwrap(),
    ]
    .map(str::to_owned);
    let flags: Vec<&str> = missing.iter().map(String::as_str).collect();
    restore(&archive, &deep, &[&flags[..], &["--dry-run"]].concat()).exits(0);
    assert!(!scene.path("a").exists());
    restore(&archive, &deep, &flags).exits(0);
    for path in ["a", "a/b", "a/b/data", "a/c", "a/c/wal"] {
        let found = fs::metadata(scene.path(path)).unwrap();
        assert_eq!((found.uid(), found.gid()), (77, 78), "{path}");
        assert_eq!(found.mode() & 0o777, 0o700, "{path}");
    }
    assert!(!names(&scene.path("a/c/wal")).is_empty());
}

#[test]
fn an_owner_is_looked_up_as_the_system_does() {
    // Guards against accounts that are in a directory service only.
    only_with!(need_root());
    let scene = Scene::new();
    let archive = scene.archive();
    let bin = scene.path("bin");
    make_dir(&bin);
    let script = "#!/bin/sh\ncase \"$1:$3\" in\npasswd:far) echo far:x:4001:4002::/:/bin/sh ;;\n\
                  group:away) echo away:x:4003: ;;\n*) exit 2 ;;\nesac\n";
    fs::write(bin.join("getent"), script).unwrap();
    fs::set_permissions(bin.join("getent"), PermissionsExt::from_mode(0o755)).unwrap();
    for (text, expected) in [
        ("far", Some((4001, 4002))),
        ("far:away", Some((4001, 4003))),
        ("root:away", Some((0, 4003))),
        ("65000:65001", Some((65000, 65001))),
        ("nobody-of-this-name", None),
        ("far:nothing-of-this-name", None),
    ] {
        let data_dir = scene.path(&format!("of-{text}"));
        let mut restore = clean(BINARY);
        restore.env("PATH", &bin).arg("restore").arg(&archive);
        restore.arg("--data-dir").arg(&data_dir);
        let ran = run(restore.args(["--offline", "--owner", text]));
        if let Some(expected) = expected {
            ran.exits(0);
            assert_eq!(owner(data_dir.join("member/wal")), expected, "{text}");
        } else {
            ran.exits(2).says(", and not a number");
        }
    }
}

#[test]
fn what_a_symlink_of_another_owner_leads_to_comes_into_no_archive() {
    // Guards against files of root's that the etcd account gets by way of an archive and a restore.
    only_with!(need_root());
    let scene = Scene::new();
    let source = scene.path("source");
    let secret = scene.path("secret");
    fs::write(&secret, "root's own").unwrap();
    let take = || {
        let backups = scene.path("backups");
        typed(
            "--json snapshot --all --data-dir {} --backup-dir {}",
            &[&source, &backups],
        )
    };
    let leftover = source.join("member/snap/0000000000000001-0000000000000001.snap.broken");
    symlink(&secret, &leftover).unwrap();
    let left_out = "snap/0000000000000001-0000000000000001.snap.broken (a symbolic link)";
    assert!(take().exits(0).stdout.contains(left_out));
    let backups = scene.path("backups");
    let archive = archives_in(&backups).remove(0);
    let listed = run(clean("tar").arg("--zstd").arg("-tf").arg(&archive)).exits(0);
    assert!(!listed.stdout.contains("broken"), "{listed:#?}");
    fs::remove_file(&leftover).unwrap();

    // A segment may be a link, which etcd follows, to a file of the same owner only.
    let segment = names(&source.join("member/wal")).remove(0);
    let (at, away) = (
        source.join("member/wal").join(segment),
        scene.path("away.wal"),
    );
    fs::rename(&at, &away).unwrap();
    symlink(&away, &at).unwrap();
    let ran = take().exits(0);
    let followed = format!("`{}` is a symbolic link, and was followed", at.display());
    assert!(ran.stdout.contains(&followed), "{ran:#?}");
    let inspected = typed("inspect {}", &[&source]).exits(0);
    assert!(inspected.stdout.contains("was followed"), "{inspected:#?}");
    for path in [&away, &source.join("member")] {
        chown(path, Some(ETCD), Some(ETCD)).unwrap();
    }
    take().exits(3).says("belongs to another owner");
    typed("verify {}", &[&source]).exits(3);
    chown(&away, Some(0), Some(0)).unwrap();
    fs::remove_file(&at).unwrap();
    fs::rename(&away, &at).unwrap();
    chown(source.join("member"), Some(0), Some(0)).unwrap();
    // And so may a raft snapshot.
    let raft_snapshot = decode::snaps(&source.join("member/snap")).remove(0);
    fs::rename(&raft_snapshot, &away).unwrap();
    symlink(&away, &raft_snapshot).unwrap();
    let followed = format!("`{}` is a symbolic link, and", raft_snapshot.display());
    assert_has(&take().exits(0).stdout, &followed);
    chown(&away, Some(ETCD), Some(ETCD)).unwrap();
    take().exits(3).says("belongs to another owner");
    fs::remove_file(&raft_snapshot).unwrap();
    fs::rename(&away, &raft_snapshot).unwrap();
    // And a directory.
    fs::rename(source.join("member/wal"), scene.path("elsewhere")).unwrap();
    symlink(scene.path("elsewhere"), source.join("member/wal")).unwrap();
    typed("verify {}", &[&source]).exits(0);
    chown(scene.path("elsewhere"), Some(ETCD), Some(ETCD)).unwrap();
    take().exits(3).says("belongs to another owner");
}

#[test]
fn a_symlink_of_another_account_leads_root_to_no_archive_and_no_directory() {
    // Guards against an archive of root's that a nightly copy gives away, and against directories made in root's.
    only_with!(need_root());
    let scene = Scene::new();
    let archive = scene.archive();
    let (theirs, of_root) = (scene.theirs("theirs"), scene.path("of-root"));
    make_dir(&of_root);
    let file = archive.file_name().unwrap();
    let as_theirs = |target: &Path, link: PathBuf| {
        symlink(target, &link).unwrap();
        std::os::unix::fs::lchown(&link, Some(ETCD), Some(ETCD)).unwrap();
        link
    };
    let from = theirs.join("from");
    make_dir(&from);
    let linked = as_theirs(&archive, from.join(file));
    let place = as_theirs(&of_root, theirs.join("place"));
    let refused = "root does not follow it";
    let data_dir = scene.path("data");
    restore(&linked, &data_dir, &[]).exits(3).says(refused);
    let out = scene.path("out");
    typed("rewind {} --to end --out {}", &[&linked, &out])
        .exits(3)
        .says(refused);
    for command in ["verify", "keys", "inspect"] {
        ark([OsStr::new(command), linked.as_ref()])
            .exits(3)
            .says(refused);
    }
    let copied = typed("copy {} {}", &[&from, &theirs.join("to")]);
    assert_has(&copied.stderr, refused);
    let to = fs::read_dir(theirs.join("to")).into_iter().flatten();
    let kept = to.filter(|found| {
        let name = found.as_ref().unwrap().file_name();
        name.to_string_lossy().contains(".tar.zst")
    });
    assert_eq!(kept.count(), 0, "{copied:#?}");
    // Also in the middle of a path.
    let source = scene.path("source");
    let line = "snapshot --data-dir {} --backup-dir {}";
    for dir in [place.clone(), place.join("new/backups")] {
        typed(line, &[&source, &dir]).exits(3).says(refused);
    }
    restore(&archive, &place.join("new/etcd"), &[])
        .exits(3)
        .says(refused);
    let wal = place.to_str().unwrap();
    restore(&archive, &data_dir, &["--wal-dir", wal])
        .exits(3)
        .says(refused);
    let line = "rewind {} --to end --out {}";
    typed(line, &[&archive, &place.join("set")])
        .exits(3)
        .says(refused);
    typed("prune {} --keep-last 1", &[&place])
        .exits(3)
        .says(refused);
    assert_eq!(names(&of_root), [""; 0]);
    // Root's own link is followed, and a link to what belongs to the link's owner.
    symlink(&of_root, scene.path("root-link")).unwrap();
    let line = "snapshot --data-dir {} --backup-dir {}";
    typed(line, &[&source, &scene.path("root-link")]).exits(0);
    let own = as_theirs(&scene.theirs("more"), theirs.join("more"));
    typed(line, &[&source, &own]).exits(0);
    typed("verify {}", &[&own]).exits(0);
}

#[test]
fn a_symlink_of_another_account_leads_no_metrics_file_out_of_its_directory() {
    // Guards against root creating a file wherever the account that owns the directory wants it, such as /etc/nologin.
    only_with!(need_root());
    let scene = Scene::new();
    let (theirs, backups) = (scene.theirs("metrics"), scene.path("backups"));
    let (file, elsewhere) = (theirs.join("ark.prom"), scene.path("nologin"));
    symlink(&elsewhere, &file).unwrap();
    rustix::fs::chownat(
        rustix::fs::CWD,
        &file,
        Some(rustix::fs::Uid::from_raw(ETCD)),
        None,
        rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
    let told = typed(
        "snapshot --data-dir {} --backup-dir {} --metrics-file {}",
        &[&scene.path("source"), &backups, &file],
    );
    told.exits(0);
    assert!(!elsewhere.exists());
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
}
