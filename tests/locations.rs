//! The places on the command line: which takes precedence, and which are not valid; what is copied from where.
//!
//! In: backup dirs by path, by URL and by variable. Out: the intended one, or a refusal; never another one.

use etcd_ark::archive::{ArchiveError, ArchiveFault};
use etcd_ark::interrupt::Interrupt;
use etcd_ark::progress::Event;
use etcd_ark::repository::copy::{CopyError, copy};
use etcd_ark::repository::{Directory, Repository as _};

use crate::support::prelude::*;

/// Two backup dirs, with an archive each.
struct Scratch {
    dir: TempDir,
    source: PathBuf,
    mine: PathBuf,
    prod: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let [source, mine, prod] = ["source", "mine", "prod"].map(|name| dir.path().join(name));
        small_member(&source);
        for backups in [&mine, &prod] {
            archived(&source, backups);
            archived(&source, backups);
        }
        Self {
            dir,
            source,
            mine,
            prod,
        }
    }

    fn url(&self) -> String {
        format!("file://{}", self.prod.display())
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn with(&self, variables: &[(&str, &str)], args: &[&str]) -> Ran {
        let mut command = clean(BINARY);
        command.current_dir(self.dir.path());
        command.envs(variables.iter().copied()).args(args);
        run(&mut command)
    }
}

fn archives(dir: &Path) -> usize {
    archives_in(dir).len()
}

#[test]
fn what_is_typed_wins_over_the_environment() {
    // Guards against a prune that empties the bucket of a variable when a directory was typed.
    let scratch = Scratch::new();
    let (url, mine) = (scratch.url(), scratch.path("mine"));
    let in_environment = [("ETCD_ARK_REPO", url.as_str())];
    scratch
        .with(&in_environment, &["prune", &mine, "--keep-last", "1"])
        .exits(0);
    assert_eq!((archives(&scratch.mine), archives(&scratch.prod)), (1, 2));
    let source = scratch.source.to_str().unwrap();
    let args = ["snapshot", "--data-dir", source, "--backup-dir", &mine];
    scratch.with(&in_environment, &args).exits(0);
    assert_eq!((archives(&scratch.mine), archives(&scratch.prod)), (2, 2));
    let told = scratch
        .with(&in_environment, &["status", "-v", &mine])
        .exits(0);
    assert!(told.stdout.contains("archives=2"), "{told:#?}");
    let listed = scratch
        .with(&in_environment, &["--json", "list", &mine])
        .exits(0);
    assert!(listed.stdout.contains("/mine/") && !listed.stdout.contains("/prod/"));
    // The other way round, with a configuration file that names the directory, too.
    let in_environment = [("ETCD_ARK_BACKUP_DIR", mine.as_str())];
    let config = scratch.path("ark.toml");
    fs::write(&config, format!("backup-dir = '{mine}'\n")).unwrap();
    let args = format!("prune --repo {url} --keep-last 1 --config {config}");
    let args: Vec<_> = args.split(' ').collect();
    scratch.with(&in_environment, &args).exits(0);
    assert_eq!((archives(&scratch.mine), archives(&scratch.prod)), (2, 1));
    // Without anything typed the variable counts.
    let in_environment = [("ETCD_ARK_REPO", url.as_str())];
    let listed = scratch.with(&in_environment, &["--json", "list", "--config", &config]);
    assert!(listed.exits(0).stdout.contains("/prod/"));
}

#[test]
fn two_places_of_one_rank_are_one_too_many() {
    let scratch = Scratch::new();
    let (url, mine) = (scratch.url(), scratch.path("mine"));
    let both = [
        ("ETCD_ARK_REPO", url.as_str()),
        ("ETCD_ARK_BACKUP_DIR", mine.as_str()),
    ];
    for command in ["list", "prune"] {
        let keep: &[&str] = if command == "prune" {
            &["--keep-last", "1"]
        } else {
            &[]
        };
        let args = [&[command, &mine, "--repo", &url], keep].concat();
        scratch
            .with(&[], &args)
            .exits(2)
            .says("two backup dirs are given: name one");
        let args = [&[command], keep].concat();
        scratch
            .with(&both, &args)
            .exits(2)
            .says("ETCD_ARK_BACKUP_DIR and ETCD_ARK_REPO");
        // One of them typed settles it.
        let args = [&[command, "--dry-run", &mine], keep].concat();
        if command == "prune" {
            scratch.with(&both, &args).exits(0);
        }
    }
    let config = scratch.path("ark.toml");
    fs::write(&config, format!("backup-dir = '{mine}'\nrepo = '{url}'\n")).unwrap();
    let told = scratch.with(&[], &["list", "--config", &config]).exits(2);
    told.says("line 2: `backup-dir` is set twice (`repo` is its older name)");
    assert_eq!((archives(&scratch.mine), archives(&scratch.prod)), (2, 2));
}

/// What each command that takes an archive says of it, for `latest` and its kin.
#[test]
fn latest_is_the_newest_backup_and_never_a_guess() {
    let scratch = Scratch::new();
    let mine = scratch.path("mine");
    let newest = |label: &str| {
        let line = "--json snapshot --data-dir {} --backup-dir {} --label {}";
        let told = typed(line, &[&scratch.source, &mine, &label])
            .exits(0)
            .json();
        told["archive"].as_str().unwrap().to_owned()
    };
    let (first, second) = (newest("first"), newest("second"));
    let place = ["--backup-dir", mine.as_str()];
    let told = |command: &[&str], field: &str| {
        let ran = scratch
            .with(&[], &[&["--json"], command, &place[..]].concat())
            .exits(0);
        ran.json()
            .pointer(field)
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(told(&["inspect", "latest"], "/target"), second);
    assert_eq!(told(&["inspect", "latest:first"], "/target"), first);
    assert_eq!(
        told(&["diff", "latest:first", "latest"], "/b/target"),
        second
    );
    let restore = [
        "restore",
        "latest",
        "--offline",
        "--dry-run",
        "--data-dir",
        "x",
    ];
    assert_eq!(told(&restore, "/archive"), second);
    let plain = |args: &[&str]| scratch.with(&[("ETCD_ARK_BACKUP_DIR", &mine)], args);
    for args in [&["keys", "latest"], &["verify", "latest"]] {
        assert!(plain(args).exits(0).stdout.contains(&second), "{args:?}");
    }
    // The step of etcd's guide, with one word changed.
    let guide = scratch.path("guide");
    typed(
        "backup --data-dir {} --backup-dir {}",
        &[&scratch.source, &guide],
    )
    .exits(0);
    assert_eq!(archives(Path::new(&guide)), 1);
    // Without a target it is all of them.
    let verified = plain(&["verify"]).exits(0).stdout;
    assert_eq!(verified.matches("OK  ").count(), 4, "{verified}");
    plain(&["copy", &mine, "to", "latest"]).exits(0);
    assert_eq!(archives(Path::new(&scratch.path("to"))), 1);
    plain(&["keys", "latest:third"])
        .exits(10)
        .says("no backup with the label `third`");
    plain(&["keys", "latest", "--member", "nope"])
        .exits(10)
        .says("no backup of `nope`");
    scratch
        .with(&[], &["keys", "latest"])
        .exits(2)
        .says("no backup dir is given: `--backup-dir DIR`");
    // The newest that can be opened is not the newest: nothing goes back further than it was told to.
    let older = plain(&["list", "--names"]).exits(0).stdout;
    let older = older.lines().find(|name| !second.ends_with(name)).unwrap();
    fs::write(&second, "torn").unwrap();
    plain(&["inspect", "latest"])
        .exits(4)
        .says("`latest` is damaged")
        .says(&format!("{older}: to use it, name it"));
    plain(&["inspect", older]).exits(0);
    // A cluster of three in one place.
    let trio = scratch.path("trio");
    let recording = unpack("upgrade-story");
    for name in ["infra0", "infra1", "infra2"] {
        let source = recording.data_dir(&format!("2-backup-{name}"));
        archived(&source, Path::new(&trio));
    }
    let args = ["inspect", "latest", "--backup-dir", &trio];
    scratch
        .with(&[], &args)
        .exits(2)
        .says("members: infra0 (8998a2face6fb7ba) of cluster aa1662aca318a75f, infra1 (");
    let chosen = scratch
        .with(&[], &[&args[..], &["--member", "infra1"]].concat())
        .exits(0);
    assert!(chosen.stdout.contains("infra1"), "{chosen:#?}");
}

#[test]
fn a_file_that_is_no_archive_is_called_what_it_is() {
    // Guards against a hint about the other archives where a wrong file was named.
    let scratch = Scratch::new();
    let dir = scratch.dir.path();
    let files = [
        "passwd",
        "plain.tar",
        "packed.tar.gz",
        "packed.tar.zst",
        "snapshot.db",
        "key.age",
    ];
    let [text, tar, gzip, zst, db, age] = files.map(|name| scratch.path(name));
    fs::write(&text, "root:x:0:0:root:/root:/bin/bash\n").unwrap();
    for (flag, packed) in [("-v", &tar), ("-z", &gzip), ("--zstd", &zst)] {
        tool(dir, "tar", &[flag, "-cf", packed, "source"]);
    }
    // A page of bbolt: the page's header, then the magic of a meta page.
    let page = [&[0; 16][..], &0xED0C_DAED_u32.to_le_bytes(), &[0; 4000]].concat();
    fs::write(&db, page).unwrap();
    fs::write(&age, "age-encryption.org/v1\n").unwrap();
    for (file, what) in [
        (&text, "a text"),
        (&tar, "a plain tar"),
        (&gzip, "a gzip file"),
        (&zst, "a tar compressed by another zstd, or cut short"),
        (&db, "a bbolt database"),
    ] {
        for command in ["verify", "inspect", "keys"] {
            let told = ark([command, file]).exits(2);
            told.says(&format!("is not an etcd-ark archive: it is {what}"));
        }
    }
    ark(["inspect", &age]).exits(2);
    // What `restore` cannot take is told what does.
    let new = scratch.path("new");
    for file in [&tar, &zst, &gzip] {
        ark(["restore", file, "--data-dir", &new])
            .exits(2)
            .says("unpack it into the data dir");
    }
    let source = scratch.source.to_str().unwrap();
    ark(["restore", source, "--data-dir", &new])
        .exits(2)
        .says("is a data dir, not an archive")
        .says(&format!(
            "`etcd-ark snapshot --data-dir {source} --backup-dir DIR`"
        ));
    // A mistyped data dir is not taken for an archive alone.
    for command in ["verify", "inspect", "keys"] {
        ark([command, &scratch.path("etdc")])
            .exits(10)
            .says("there is no archive or data dir at")
            .says("the data dir that etcd was started with");
        let gone = scratch.mine.join("gone");
        ark([command, gone.to_str().unwrap()])
            .exits(10)
            .says("there is no archive at");
    }
}

#[test]
fn an_empty_place_is_said_to_be_empty() {
    let scratch = Scratch::new();
    let empty = scratch.path("empty");
    fs::create_dir(&empty).unwrap();
    for _ in 0..2 {
        ark(["verify", &empty])
            .exits(10)
            .says(&format!("no archives and no member in `{empty}`"));
        // What a pruned backup dir keeps.
        fs::write(format!("{empty}/.etcd-ark-lock"), "").unwrap();
    }
    let prod = scratch.path("prod");
    for args in [
        &["restore", prod.as_str(), "--offline", "--data-dir", "x"][..],
        &["inspect", prod.as_str()],
        &["keys", prod.as_str()],
    ] {
        ark(args).exits(2).says("is a directory, not an archive");
    }
}

#[test]
fn a_backup_dir_with_one_cut_archive_is_not_called_a_place_to_look_for_another() {
    let scratch = Scratch::new();
    let place = scratch.path("cut");
    fs::create_dir(&place).unwrap();
    let name = &names(&scratch.mine)[0];
    let name = name.strip_suffix(".sha256").unwrap_or(name);
    fs::write(format!("{place}/{name}"), "cut").unwrap();
    let told = ark(["verify", &place]).exits(4);
    assert_ends(&told.stderr, "from another place: none here is valid\n");
}

#[test]
fn a_copy_of_nothing_or_onto_itself_is_not_green() {
    let scratch = Scratch::new();
    let (mine, empty) = (scratch.path("mine"), scratch.path("empty"));
    fs::create_dir(&empty).unwrap();
    ark(["copy", &empty, &mine])
        .exits(10)
        .says(&format!("no archives in `{empty}`"));
    let again = format!("file://{mine}/");
    ark(["copy", &mine, &again])
        .exits(2)
        .says("source and destination are the same");
    ark(["copy", &mine, &empty]).exits(0);
    assert_eq!(names(Path::new(&empty)), names(&scratch.mine));
    // Another run at work there is not disturbed.
    let lock = fs::File::open(format!("{empty}/.etcd-ark-lock")).unwrap();
    let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(lock.file(), exclusive).unwrap();
    ark(["copy", &mine, &empty]).exits(11).says("is locked by");
    ark(["copy", &mine, &empty, "--lock-wait", "1s"])
        .exits(11)
        .says("it did not end in time");
}

#[test]
fn of_several_that_are_not_copied_the_first_is_told() {
    let scratch = Scratch::new();
    let to = scratch.path("to");
    fs::create_dir(&to).unwrap();
    let all = archives_in(&scratch.mine);
    for archive in &all {
        let name = archive.file_name().unwrap();
        fs::write(Path::new(&to).join(name), "another one").unwrap();
    }
    let told = ark(["copy", &scratch.path("mine"), &to]).exits(3);
    let last = told.stderr.lines().find(|line| line.starts_with("error: "));
    let first = all[0].file_name().unwrap().to_str().unwrap();
    assert!(last.unwrap().contains(first), "{told:#?}");
}

#[test]
fn a_corrupt_archive_is_named_with_what_ends_the_nightly_failure() {
    // Guards against "run it again for the rest" every night.
    let scratch = Scratch::new();
    let (mine, to) = (scratch.path("mine"), scratch.path("to"));
    let corrupt = &archives_in(&scratch.mine)[0];
    flip_middle(corrupt);
    let name = corrupt.file_name().unwrap().to_str().unwrap();
    let told = ark(["copy", &mine, &to]).exits(4);
    let told = told.says(&format!("move `{name}` and what is beside it"));
    assert!(!told.stderr.contains("run it again"), "{told:#?}");
    for file in [name.to_owned(), format!("{name}.sha256")] {
        fs::rename(scratch.mine.join(&file), scratch.dir.path().join(&file)).unwrap();
    }
    ark(["copy", &mine, &to]).exits(0);
}

#[test]
fn a_name_that_is_not_in_from_is_wrong_usage_and_not_green() {
    // Guards against "0 copied" with exit 0 for a path, and against a read or a write outside of both places.
    let scratch = Scratch::new();
    let (mine, prod, to) = (
        scratch.path("mine"),
        scratch.path("prod"),
        scratch.path("to"),
    );
    let name = |dir: &Path| {
        archives_in(dir)[0]
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    let (own, others) = (name(&scratch.mine), name(&scratch.prod));
    let elsewhere = [
        format!("{prod}/{others}"),
        format!("../prod/{others}"),
        format!("{mine}/../prod/{others}"),
        format!("{mine}/{own}.sha256"),
        format!("{own}.sha256"),
        "..".to_owned(),
        String::new(),
        format!("s3://bucket/{own}"),
    ];
    for elsewhere in &elsewhere {
        ark(["copy", &mine, &to, &own, elsewhere])
            .exits(2)
            .says("name archives as `etcd-ark list ");
        assert!(!Path::new(&to).exists(), "{elsewhere}");
    }
    ark(["copy", &mine, &to, &others]).exits(10);
    assert_eq!(archives(&scratch.mine), 2);
}

#[test]
fn paths_into_from_are_the_names_of_its_archives() {
    let scratch = Scratch::new();
    let (mine, to) = (scratch.path("mine"), scratch.path("to"));
    let paths = archives_in(&scratch.mine);
    let [first, second] = [0, 1].map(|at| paths[at].to_str().unwrap());
    // As a shell makes them from `mine/*.tar.zst`, seen from inside and from outside; one of them twice.
    let inside = format!("mine/{}", paths[0].file_name().unwrap().to_str().unwrap());
    let args = ["--json", "copy", &mine, &to, first, second, &inside];
    let told = scratch.with(&[], &args).exits(0).json();
    assert_eq!(told["copied"], 2, "{told}");
    assert_eq!(names(Path::new(&to)), names(&scratch.mine));
    let again = ark(["copy", &format!("file://{mine}"), &to, first]).exits(0);
    assert!(again.stdout.contains("0 copied"), "{again:#?}");
    // Without names all are copied every night, and nothing is reported.
    assert_eq!(ark(["copy", &mine, &to]).exits(0).stdout, "");
}

#[test]
fn an_archive_that_changes_while_it_is_copied_is_told_so_at_once() {
    let scratch = Scratch::new();
    let (from, to) = (
        Directory::new(&scratch.mine),
        Directory::new(&scratch.dir.path().join("to")),
    );
    to.prepare().unwrap();
    let listed = from.list().unwrap().remove(0);
    let path = scratch.mine.join(&listed.name);
    let mut tries = 0;
    let outcome = copy(&from, &to, &listed, &Interrupt::default(), &mut |event| {
        match event {
            // It was proven; now it is written.
            Event::Begin {
                part: "writing", ..
            } => {
                flip(&path, 100);
            }
            Event::Again { .. } => tries += 1,
            _ => {}
        }
    });
    let fault = match outcome {
        Err(CopyError::Archive(ArchiveError::Fault { fault, .. })) => fault,
        outcome => panic!("{outcome:?}"),
    };
    assert!(
        matches!(fault, ArchiveFault::FrameDigest { frame: 0, .. }),
        "{fault:?}"
    );
    assert_eq!(tries, 0);
    assert_eq!(names(to.path()), [""; 0]);
}

#[test]
fn a_name_that_a_stranger_chose_cannot_speak_to_the_terminal() {
    let scratch = Scratch::new();
    let archive = archives_in(&scratch.mine).remove(0);
    let name = "etcd-\x1b[31mred\nline.tar.zst";
    fs::copy(&archive, scratch.mine.join(name)).unwrap();
    fs::write(scratch.mine.join(format!("{name}.tar.zst")), "torn").unwrap();
    let mine = scratch.path("mine");
    for args in [&["list", mine.as_str()][..], &["verify", mine.as_str()]] {
        let told = ark(args);
        for text in [&told.stdout, &told.stderr] {
            assert!(text.contains("red"), "{told:#?}");
            assert!(
                !text.contains('\x1b') && !text.contains("red\n"),
                "{told:#?}"
            );
        }
    }
}

#[test]
fn a_flag_that_takes_a_local_path_refuses_a_url_instead_of_making_a_directory_named_s3() {
    // Guards against a backup that is reported at a URL and lies in a directory below the current one.
    let scratch = TempDir::new().unwrap();
    let commands = "
        snapshot --backup-dir b --data-dir URL
        snapshot --backup-dir b --data-dir d --wal-dir URL
        snapshot --repo URL --data-dir d --spool-dir URL
        snapshot --backup-dir b --data-dir d --metrics-file URL
        restore a.tar.zst --data-dir URL
        rewind d --out URL
        downgrade check --data-dir URL
        keys d --wal-dir URL";
    // No typo may end in a suggestion to lift a refusal.
    let typo = ark(["restore", "a.tar.zst", "--data-dir", "d", "--replac"]).exits(2);
    assert!(!typo.stderr.contains("--replace"), "{typo:#?}");
    for line in commands.trim().lines() {
        let line = line.trim().replace("URL", "s3://backups/etcd");
        run(clean(BINARY)
            .args(line.split(' '))
            .current_dir(scratch.path()))
        .exits(2)
        .says("this is a URL, and only a path on this machine is possible here");
    }
    assert_eq!(names(scratch.path()), [""; 0]);
}

#[test]
fn a_data_dir_to_restore_into_is_not_the_member_directory_in_one() {
    let recording = unpack("upgrade-story");
    let infra0 = recording.data_dir("2-backup-infra0");
    let (archive, _) = snapshot(&infra0, &recording.path("b"), &[]);
    let restore =
        |data_dir: &Path| typed("restore --offline {} --data-dir {}", &[&archive, &data_dir]);
    let new = recording.path("new");
    for (data_dir, meant) in [
        (infra0.join("member"), &infra0),
        (infra0.join("member/wal"), &infra0),
        (new.join("member"), &new),
    ] {
        restore(&data_dir)
            .exits(2)
            .says(&format!("did you mean `{}`?", meant.display()));
    }
    assert!(!new.exists());
    // A data dir may have that name, if it is there, or is made first.
    fs::create_dir_all(new.join("member")).unwrap();
    restore(&new.join("member")).exits(0);
    let again = restore(&new.join("member")).exits(3);
    again.says("`--replace` replaces it");
}

#[test]
fn of_several_targets_that_fail_the_first_gives_the_exit_code_and_the_message() {
    // Seen: the last one gave the code, and the message named the first.
    let dir = TempDir::new().unwrap();
    let (text, missing) = (dir.path().join("text"), dir.path().join("missing"));
    fs::write(&text, "a text, and no archive").unwrap();
    typed("verify {} {}", &[&text, &missing]).exits(2);
    typed("verify {} {}", &[&missing, &text]).exits(10);
}
