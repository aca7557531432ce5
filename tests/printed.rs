//! Every printed command works as printed: run by a shell, with only the words in capitals replaced.
//!
//! In: stories of preflight, the gate, rewind, verify and inspect. Out: not one usage error.
//!
//! Guards against a hint at 3 a.m. that fails with "the following required arguments were not provided".

use crate::encryption::keygen;
use crate::support::prelude::*;

/// Every text in an answer.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(all) => all.iter().for_each(|value| texts(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, found)),
        _ => {}
    }
}

/// The commands that a run with `--json` printed: in backticks, behind the name of a member, or alone.
fn printed(ran: &Ran) -> Vec<String> {
    let mut all = Vec::new();
    for stream in [&ran.stdout, &ran.stderr] {
        for line in serde_json::Deserializer::from_str(stream).into_iter::<Value>() {
            texts(&line.unwrap(), &mut all);
        }
    }
    let mut commands = Vec::new();
    for text in all {
        let quoted = text.split('`').skip(1).step_by(2);
        let bare = text.split_once("etcd-ark ").filter(|_| !text.contains('`'));
        let bare = bare.map(|(_, rest)| format!("etcd-ark {rest}"));
        let quoted = quoted.map(str::to_owned).chain(bare);
        commands.extend(quoted.filter(|text| text.starts_with("etcd-ark ")));
    }
    commands
}

/// Fails unless `command` is complete, and a shell gets no usage error of it.
pub(crate) fn works(command: &str, dir: &Path, keys: (&str, &str)) {
    assert!(!command.contains('…'), "{command}");
    let line = command
        .replace("KEY_FILE", keys.0)
        .replace("RECIPIENT", keys.1)
        .replace("etcd-ark ", &format!("{BINARY} "));
    // One that would not end by itself.
    let line = line.replace("--watch", "--watch --watch-for 1s");
    let mut shell = clean("sh");
    shell.args(["-c", &line]).current_dir(dir);
    shell.env("ETCD_ARK_SETTLE", "0");
    let ran = run(&mut shell);
    assert_ne!(ran.code, 2, "{ran:#?}");
}

/// Runs that print commands; words in capitals are paths, endpoints and keys of the scene.
const RUNS: [&str; 22] = [
    "preflight --endpoints MIXED --data-dir OWN --backup-dir NONE",
    "preflight --endpoints MIXED --data-dir OWN --backup-dir LOCKED-DIR",
    "preflight --endpoints MIXED --data-dir BROKEN",
    "preflight --endpoints MIXED --data-dir SPLIT --wal-dir WAL",
    "preflight --endpoints AFTER --data-dir MOVED0 --backup-dir BACKUPS",
    "downgrade check --endpoints MIXED",
    "downgrade check --endpoints AFTER",
    "downgrade check --endpoints AFTER --data-dir MOVED0 ARCHIVE",
    "downgrade check --offline --data-dir MOVED0 LOCKED",
    "downgrade check --offline --data-dir MOVED0 LOCKED -i KEY",
    "downgrade run --endpoints MIXED --data-dir NONE --backup-dir BACKUPS",
    "downgrade run --endpoints MIXED --data-dir BROKEN --backup-dir BACKUPS",
    "rewind MOVED0 MOVED1 MOVED2 --base infra0 --out OUT",
    "rewind MOVED0 MOVED1 MOVED2 --base infra0 --out LOCKED-OUT --recipient RECIPIENT",
    "rewind OWN TORN --out NONE",
    "verify TORN",
    "verify TORN ARCHIVE",
    "verify BROKEN",
    "verify LOCKED",
    "inspect BROKEN",
    "restore TORN --data-dir NONE --offline",
    "list NONE",
];

/// What the words of [`RUNS`] stand for, made in `dir`.
fn scene(dir: &Path, story: &Recording, recipient: &str) -> BTreeMap<&'static str, String> {
    let data_dir = |name: &str| story.data_dir(name);
    let own = data_dir("2-backup-infra0");
    let moved = [0, 1, 2].map(|n| data_dir(&format!("3-after-upgrade-infra{n}")));
    let (backups, locked_dir) = (dir.join("back ups"), dir.join("locked"));
    let (archive, _) = snapshot(&own, &backups, &[]);
    let (locked, _) = snapshot(&moved[0], &locked_dir, &["--recipient", recipient]);
    let flip = |from: &Path, to: &Path, at: usize| {
        let mut bytes = fs::read(from).unwrap();
        bytes[at] ^= 1;
        fs::write(to, bytes).unwrap();
    };
    flip(&archive, &dir.join("torn"), 100);
    copy_dir(&own, &dir.join("broken"));
    let segment = "member/wal/0000000000000000-0000000000000000.wal";
    flip(&own.join(segment), &dir.join("broken").join(segment), 500);
    copy_dir(&own, &dir.join("split"));
    fs::rename(dir.join("split/member/wal"), dir.join("wal dir")).unwrap();
    let [first, second, third] = moved;
    let paths = [
        ("OWN", own),
        ("MOVED0", first),
        ("MOVED1", second),
        ("MOVED2", third),
        ("ARCHIVE", archive),
        ("BACKUPS", backups),
        ("LOCKED", locked),
        ("LOCKED-DIR", locked_dir),
        ("TORN", dir.join("torn")),
        ("BROKEN", dir.join("broken")),
        ("SPLIT", dir.join("split")),
        ("WAL", dir.join("wal dir")),
        ("NONE", dir.join("none")),
        ("OUT", dir.join("out")),
        ("LOCKED-OUT", dir.join("locked out")),
    ];
    let texts = paths.map(|(word, path)| (word, path.to_str().unwrap().to_owned()));
    texts.into_iter().collect()
}

#[test]
fn every_printed_command_works_as_printed() {
    only_with!(need("age-keygen"));
    let dir = TempDir::new().unwrap();
    let (key, recipient) = keygen(dir.path(), "key");
    let story = unpack("upgrade-story");
    let mut words = scene(dir.path(), &story, &recipient);
    let [mixed, after] = [(); 2].map(|()| FakeCluster::of_story("1-before-upgrade"));
    mixed.member(0).version("2.2.5", "2.1.0");
    for member in after.members() {
        member.version("2.2.5", "2.2.0");
    }
    words.extend([("MIXED", mixed.endpoints()), ("AFTER", after.endpoints())]);
    words.extend([("KEY", key.clone()), ("RECIPIENT", recipient.clone())]);
    let mut seen = BTreeSet::new();
    for line in RUNS {
        let words = line
            .split(' ')
            .map(|word| words.get(word).map_or(word, String::as_str));
        let mut command = clean(BINARY);
        let command = command
            .arg("--json")
            .args(words)
            .env("ETCD_ARK_SETTLE", "0");
        for command in printed(&run(command.current_dir(dir.path()))) {
            seen.insert(command.split(' ').nth(1).unwrap().to_owned());
            works(&command, dir.path(), (&key, &recipient));
        }
    }
    let expected = [
        "downgrade",
        "list",
        "restore",
        "rewind",
        "snapshot",
        "verify",
    ];
    let is_seen = |command: &&str| seen.contains(*command);
    assert!(expected.iter().all(is_seen), "{seen:?}");
}

#[test]
fn an_encrypted_archive_under_another_name_is_known_by_what_it_begins_with() {
    // Guards against a rewind that takes one without `.age` in its name for one in the open, and writes the others in the open.
    only_with!(need("age-keygen"));
    let dir = TempDir::new().unwrap();
    let (key, recipient) = keygen(dir.path(), "key");
    let story = unpack("upgrade-story");
    let own = story.data_dir("2-backup-infra0");
    let (locked, _) = snapshot(
        &own,
        &dir.path().join("locked"),
        &["--recipient", &recipient],
    );
    let (open, _) = snapshot(&own, &dir.path().join("open"), &[]);
    let renamed = dir.path().join("renamed.tar.zst");
    fs::copy(&locked, &renamed).unwrap();
    let misnamed = dir.path().join("open.tar.zst.age");
    fs::copy(&open, &misnamed).unwrap();
    let out = dir.path().join("out");
    let rewind = |input: &Path| {
        let words = ["-i", &key, "rewind", "--to", "end", "--out"].map(AsRef::as_ref);
        ark(words
            .into_iter()
            .chain([out.as_os_str(), input.as_os_str()]))
    };
    rewind(&renamed)
        .exits(3)
        .says("is encrypted, and the new archives would not be");
    assert!(!out.exists());
    for readable in [&renamed, &misnamed] {
        typed("-i {} verify {}", &[&key, &readable]).exits(0);
    }
    rewind(&misnamed).exits(0);
}

#[test]
fn a_hint_names_the_backup_dir_that_was_given_and_no_check_that_was_just_made() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/infra0.etcd");
    let dir = TempDir::new().unwrap();
    let backups = dir.path().join("backups");
    let (archive, _) = snapshot(&source, &backups, &[]);
    let list = format!("`etcd-ark list {}`", backups.display());
    typed("verify --member nope {}", &[&backups])
        .exits(10)
        .says(&list);
    typed("inspect {}", &[&backups]).exits(2).says(&list);
    typed("verify {}", &[&backups.join("none.tar.zst")])
        .exits(10)
        .says(&list);
    typed("verify {}", &[&"/gone/none.tar.zst"])
        .exits(10)
        .says("`etcd-ark list BACKUP_DIR`");
    flip(&archive, 5000);
    typed("verify {}", &[&archive])
        .exits(4)
        .says("`verify` of the whole backup dir shows which are valid");
    typed("verify {}", &[&backups])
        .exits(4)
        .says("none here is valid");
    snapshot(&source, &backups, &[]);
    typed("verify {}", &[&backups])
        .exits(4)
        .says("all others here are valid");
}

/// Puts a recorded member into `data` and `wal` of `dir`; returns its archive.
fn member_with_a_wal_dir(dir: &Path) -> String {
    let story = unpack("waldir");
    let source = Source::of(&story, "waldir");
    let (data, wal, backups) = (dir.join("data"), dir.join("wal"), dir.join("backups"));
    copy_dir(&source.data, &data);
    copy_dir(&source.wal_dir(), &wal);
    let place = "snapshot --data-dir {} --wal-dir {} --backup-dir {} --json";
    let archived = typed(place, &[&data, &wal, &backups]).exits(0).json();
    archived["archive"].as_str().unwrap().to_owned()
}

#[test]
fn the_undo_of_a_restore_with_a_wal_dir_removes_nothing_even_if_it_is_run_twice() {
    // Seen: run a second time it removed the original segments, which the first time had brought back.
    let dir = TempDir::new().unwrap();
    let (data, wal) = (dir.path().join("data"), dir.path().join("wal"));
    let archive = member_with_a_wal_dir(dir.path());
    // The member that is replaced is not what the archive holds.
    fs::write(data.join("member/snap/mark"), "old").unwrap();
    let before = (tree(&data), tree(&wal));
    let replace = "restore {} --data-dir {} --wal-dir {} --replace --offline";
    let told = typed(replace, &[&archive, &data, &wal]).exits(0).stdout;
    let (_, undo) = told.split_once("to undo it, with etcd stopped:\n").unwrap();
    let undone = |code: i32| {
        let ran = run(clean("sh").args(["-c", undo]));
        assert_eq!(ran.code != 0, code != 0, "{ran:#?}");
        for (root, before) in [(&data, &before.0), (&wal, &before.1)] {
            let after = tree(root);
            // Directories have other times now.
            let files = before.iter().filter(|(path, _)| !root.join(path).is_dir());
            for (path, stat) in files {
                assert_eq!(after.get(path), Some(stat), "{}: {undo}", path.display());
            }
        }
    };
    undone(0);
    let restored: Vec<_> = names(&wal.join("undone"));
    assert!(!restored.is_empty(), "what was restored is kept, too");
    undone(1);
}

#[test]
fn a_restore_after_a_killed_one_says_where_the_first_data_are() {
    // With a WAL dir `member` goes out first; its undo leads to the state in between, which starts nothing.
    let dir = TempDir::new().unwrap();
    let (data, wal) = (dir.path().join("data"), dir.path().join("wal"));
    let archive = member_with_a_wal_dir(dir.path());
    let kept = data.join("member.before-restore-20260101T000000.000Z");
    fs::rename(data.join("member"), &kept).unwrap();
    let replace = "restore {} --data-dir {} --wal-dir {} --replace --offline";
    let told = typed(replace, &[&archive, &data, &wal]).exits(0);
    let kept = format!("are in `{}`", kept.display());
    told.says("an earlier restore ended in between").says(&kept);
}
