//! Every line that the tool prints fits 80 columns, and a command that is broken still runs as printed.
//!
//! In: recordings, in a directory with a short path and one with a long path. Out: no line is longer, except a path, a
//! digest or a URL alone on its line. Not checked: JSON, pages of the manual, completions, the command
//! of a crontab and the line of `status`, which other programs read.

use crate::support::prelude::*;

/// What is run in a directory with `a`, `b` and `c`, members before the upgrade; `A`, `B` and `C`, the same after it; `bad`,
/// with a flipped bit; `w` and `wal`, a member with a WAL dir. Commands of which all lines are looked at.
const LINES: &str = "
    -v snapshot --data-dir a --backup-dir bk --label pre-upgrade --label long-label-of-some-forty-characters
    -v snapshot --data-dir b --backup-dir bk --size-limit 1kB
    -v snapshot --data-dir c --backup-dir bk --keep-last 2
    -v snapshot --data-dir b --backup-dir bk --if-changed
    snapshot --data-dir bad --backup-dir bk
    snapshot --data-dir missing --backup-dir bk
    snapshot --data-dir . --backup-dir bk
    snapshot --data-dir a --backup-dir a/bk
    snapshot --data-dir w --wal-dir wal --backup-dir bk
    snapshot --data-dir w --backup-dir bk
    snapshot --data-dir a
    snapshot --datadir a
    snapshot --data-dir a --backup-dir bk --size-limit 100mega
    list bk
    list nowhere
    list bk --history
    verify bk
    verify a bad bk
    verify bad
    verify -v --deep A
    verify a/member/wal
    prune bk --keep-last 1 --dry-run
    prune bk
    inspect A
    inspect bad
    inspect w --wal-dir wal
    inspect latest --backup-dir bk --member infra0
    inspect latest --backup-dir bk
    keys a --get /no/such/key
    keys bad
    diff a A
    diff A B
    copy bk bk2 -v
    copy bk bk
    drill latest --backup-dir bk --member infra0 --etcd /bin/true
    restore latest --backup-dir bk --member infra0 --data-dir r --offline
    restore latest --backup-dir bk --member infra0 --data-dir r
    restore latest --backup-dir bk --member infra0 --data-dir r --replace
    restore latest --backup-dir bk --member infra1 --data-dir r --replace --offline
    restore latest --backup-dir bk --member infra0 --data-dir r --replace --offline --dry-run
    restore latest --backup-dir bk --member infra0 --data-dir r --replace --offline --allow-stale-member
    rewind A B C --out out1
    rewind A B C --out out2 --base infra0
    rewind A B C --to index:220 --dry-run
    rewind A B C --to index:9999 --dry-run
    rewind A B C --single nope --to index:220 --dry-run
    rewind a w --dry-run
    downgrade check --data-dir a --offline b c
    downgrade check --data-dir c --offline a b
    downgrade check --data-dir A --offline B C
    downgrade check --endpoints http://127.0.0.1:9
    downgrade run --data-dir c --backup-dir bk --offline a b
    downgrade run --data-dir missing --backup-dir bk --offline a b
    preflight --data-dir a --backup-dir bk
    preflight --endpoints http://127.0.0.1:9
    explain-log infra0.log
    explain-log --only-notable infra0.log infra1.log
    put-keys a /app --endpoints http://127.0.0.1:9
    schedule --kind systemd --data-dir a --backup-dir bk --keep-last 3 --keep-daily 14 --keep-weekly 8 --label nightly
    schedule --kind systemd --data-dir a --backup-dir s3://bucket/prefix
    nonsense
    --help
";

/// A story's directory: long if the paths in messages are to be.
fn scene(long: bool) -> (TempDir, std::path::PathBuf) {
    let dir = TempDir::new().unwrap();
    let name = if long {
        "a-directory-with-a-name-of-more-than-eighty-characters-as-some-have-it-for-their-data-and-backups"
    } else {
        "x"
    };
    let root = dir.path().join(name);
    fs::create_dir(&root).unwrap();
    let story = unpack("upgrade-story");
    for (number, (before, after)) in ["aA", "bB", "cC"]
        .map(|pair| pair.split_at(1))
        .iter()
        .enumerate()
    {
        copy_dir(
            &story.data_dir(&format!("2-backup-infra{number}")),
            &root.join(before),
        );
        copy_dir(
            &story.data_dir(&format!("3-after-upgrade-infra{number}")),
            &root.join(after),
        );
        let file = format!("infra{number}.log");
        fs::copy(story.path(&file), root.join(&file)).unwrap();
    }
    copy_dir(&root.join("a"), &root.join("bad"));
    let wal = root
        .join("bad/member/wal")
        .join(&names(&root.join("bad/member/wal"))[0]);
    flip(&wal, 20_000);
    let waldir = unpack("waldir");
    copy_dir(&waldir.data_dir("waldir"), &root.join("w"));
    copy_dir(&waldir.path("waldir.wal"), &root.join("wal"));
    (dir, root)
}

fn ark_in(root: &Path, args: &[String]) -> Ran {
    run(clean(BINARY)
        .env_remove("COLUMNS")
        .current_dir(root)
        .args(args))
}

/// The lines that are too long although they could be broken.
fn too_long(ran: &Ran) -> Vec<&str> {
    let lines = ran.stdout.lines().chain(ran.stderr.lines());
    let is_long = |line: &&str| line.chars().count() > 80;
    let breaks = |line: &&str| line.trim().trim_end_matches(" \\").contains(' ');
    // A line of etcd's log stays one for `grep`.
    let is_data = |line: &&str| line.contains(" 2026/11/22 07:") || line.contains(" | ");
    // A unit's settings, and what is typed as it stands in its comments.
    let is_setting = |line: &&str| {
        let key = line.split('=').next().unwrap_or_default();
        line.starts_with("#     ") || !key.contains(' ') && line.contains('=')
    };
    lines
        .filter(|line| is_long(line) && breaks(line) && !is_data(line) && !is_setting(line))
        .collect()
}

fn fits(long: bool) {
    let (_dir, root) = scene(long);
    let mut wrong = Vec::new();
    for line in LINES.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let args = line.split(' ').map(|word| match word {
            // Paths in full, as an operator has them.
            "a" | "b" | "c" | "A" | "B" | "C" | "bk" | "bad" if long => {
                root.join(word).display().to_string()
            }
            word => word.to_owned(),
        });
        let ran = ark_in(&root, &args.collect::<Vec<_>>());
        assert_ne!(ran.code, 101, "{ran:#?}");
        wrong.extend(
            too_long(&ran)
                .into_iter()
                .map(|found| format!("{line}\n    {found}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_line_is_longer_than_80_columns() {
    fits(false);
}

#[test]
fn a_long_path_stands_alone_in_its_line() {
    fits(true);
}

#[test]
fn a_value_of_a_key_is_cut_where_the_line_ends() {
    // Guards against lines of 82 columns, and against a value that is cut on a terminal with room for it.
    let recording = unpack("multisegment");
    for columns in [60, 80, 120] {
        let mut command = clean(BINARY);
        command.env("COLUMNS", columns.to_string());
        command.arg("keys").arg(recording.data_dir("multisegment"));
        let told = run(&mut command).exits(0);
        let longest = told.stdout.lines().map(|line| line.chars().count()).max();
        assert_eq!(longest, Some(columns), "{told:#?}");
        assert_has(&told.stdout, "oo… (950.0 kB)\n");
    }
}

#[test]
fn the_help_of_every_command_fits() {
    let (_dir, root) = scene(false);
    let commands = ", snapshot, verify, restore, drill, list, inspect, keys, put-keys, diff, explain-log, rewind, copy, \
        downgrade, downgrade check, downgrade run, preflight, status, prune, schedule, completions, man";
    for command in commands.split(", ") {
        for flag in ["-h", "--help"] {
            let words = command.split_whitespace().chain([flag]).map(str::to_owned);
            let ran = ark_in(&root, &words.collect::<Vec<_>>()).exits(0);
            assert_eq!(too_long(&ran), Vec::<&str>::new(), "{command} {flag}");
        }
    }
}

#[test]
fn the_undo_of_a_restore_runs_as_printed_over_several_lines() {
    let (_dir, root) = scene(true);
    let restore = |flags: &[&str]| {
        let data_dir = root.join("r r").display().to_string();
        let args = "restore latest --backup-dir bk --offline --data-dir".split(' ');
        let args = args.chain([&*data_dir]).chain(flags.iter().copied());
        let args: Vec<_> = args.map(str::to_owned).collect();
        ark_in(&root, &args).exits(0)
    };
    let words = ["snapshot", "--data-dir", "a", "--backup-dir", "bk"].map(str::to_owned);
    ark_in(&root, &words).exits(0);
    restore(&[]);
    let mark = root.join("r r/member/mark");
    fs::write(&mark, "old").unwrap();
    let told = restore(&["--replace", "--allow-stale-member"]);
    assert!(!mark.exists());
    let (_, undo) = told
        .stdout
        .split_once("to undo it, with etcd stopped:\n")
        .unwrap();
    assert!(undo.lines().count() > 1, "{undo}");
    run(clean("sh").args(["-e", "-c", undo])).exits(0);
    assert_eq!(fs::read_to_string(&mark).unwrap(), "old");
}
