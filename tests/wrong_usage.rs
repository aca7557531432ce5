//! What a wrong value, variable or flag is answered with: where it comes from, and what is taken instead.
//!
//! In: command lines, variables and configuration files with one fault each. Out: exit code 2 and the tool's own words.
//! Guards against a typo that is read as consent, and against a message about a flag that was not typed.

use crate::support::prelude::*;

/// Command lines, each with a part of its message.
const VALUES: &str = "\
keys D --at-index x: not an index of the log
keys D --at-index -1: not an index of the log
keys D --threads x: not a number from 1 to 1024
keys D --threads -1: not a number from 1 to 1024
keys D --threads 99999999999: not a number from 1 to 1024
keys D --in-order-rules 2: of `2.1` (and before)
rewind D --out N --level x: not a number from 1 to 19
rewind D --out N --level 0: not a number from 1 to 19
rewind D --out N --peer-url m22: expected MEMBER=URL
rewind D --out N --wal-dir foo: expected DATA_DIR=WAL_DIR
prune B --keep-last 99999999999: from 1 to 4294967295
prune B --keep-last -1: from 1 to 4294967295
prune B --keep-within -1: not a valid duration
list B --since -1: not a valid time
snapshot --data-dir D --backup-dir B --size-limit -1: not a valid size
drill A --etcd E --within 0s: longer than 0s
preflight --data-dir D --timeout 0s: longer than 0s
preflight --data-dir D --watch --watch-for 0s: longer than 0s
verify A --deep --restore-at soon: not a valid time: write it like
preflight --data-dir D --interval 1s: no effect without `--watch`
preflight --endpoints E --wal-dir D: no effect without `--data-dir`
list B --size-limit 1GB: no effect without `--history`
diff A D --a-wal-dir D: `--a-wal-dir` has no effect
rewind latest --backup-dir B --out N: archives are named by their paths here
downgrade check latest --backup-dir B: archives are named by their paths here
list A: is a file, not a directory
man --out A: is a file, not a directory
restore A --data-dir A --offline: is not a directory
explain-log D: is a directory, not a log
snapshot --data-dir D --backup-dir B --size-limit 0: larger than 0
snapshot --data-dir D --backup-dir B --lock-wait -5s: can be negative
snapshot --data-dir D --backup-dir B --repo N: Usage: etcd-ark snapshot
snapshot D B: is given with `--data-dir`
restore --backup-dir B --data-dir N latest:: has no label after it
schedule --kind crond: use one of systemd, cron
snapshot --data-dir D --backup-dir N --recipient AGE-SECRET-KEY-1QQ: error: a private key was given as a recipient
rewind B --dry-run: hint: name its archives: `B/etcd-*.tar.zst`
verify /bin/true: is not an etcd-ark archive
verify /dev/null: is not a regular file
-q: no command is given
";

struct Scene {
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        small_member(&dir.path().join("D"));
        let archive = archived(&dir.path().join("D"), &dir.path().join("B"));
        fs::copy(archive, dir.path().join("A")).unwrap();
        Self { dir }
    }

    fn run(&self, line: &str, variables: &[(&str, &str)]) -> Ran {
        let mut command = clean(BINARY);
        command.current_dir(self.dir.path()).args(line.split(' '));
        run(command.envs(variables.iter().copied()))
    }
}

#[test]
fn a_wrong_value_is_refused_in_words_of_this_tool() {
    let scene = Scene::new();
    for row in VALUES.lines() {
        let (line, part) = row.split_once(": ").unwrap();
        let told = scene.run(line, &[]).exits(2);
        assert_has(&told.stderr, part);
        for foreign in [
            "unexpected argument '-1",
            "digit found",
            "premature end",
            "'--wal-dir' exists",
        ] {
            assert!(!told.stderr.contains(foreign), "{told:#?}");
        }
    }
    for line in [
        "keys D --in-order-rules v2.2",
        "keys D --in-order-rules 2.2.5",
        "verify A --deep --restore-at 2015-10-01",
    ] {
        scene.run(line, &[]).exits(0);
    }
    let label = words(
        "snapshot --data-dir D --backup-dir B --label {}",
        &[&"a\nb"],
    );
    let mut command = clean(BINARY);
    let told = run(command.current_dir(scene.dir.path()).args(label)).exits(2);
    told.says("a label must not have control characters");
}

#[test]
fn a_pattern_that_the_shell_left_as_it_is_is_called_one() {
    // Guards against "no archive" below a list that shows many: sudo does not expand what the account may not read.
    let scene = Scene::new();
    for line in [
        "verify B/etcd-*.tar.zst",
        "rewind B/etcd-?.tar.zst --dry-run",
        "inspect etcd-*9 --backup-dir B",
    ] {
        let told = scene.run(line, &[]).exits(10);
        told.says("the shell did not expand the pattern")
            .says("`etcd-ark list B`");
    }
    let told = scene.run("verify B/etcd-x.tar.zst", &[]).exits(10);
    assert!(!told.stderr.contains("pattern"), "{told:#?}");
}

#[test]
fn a_variable_is_named_and_only_a_word_for_true_is_consent() {
    let scene = Scene::new();
    let restore = "restore A --offline --dry-run --data-dir D";
    for word in ["never", "flase", "2", "no!"] {
        for variable in [
            "ETCD_ARK_REPLACE",
            "ETCD_ARK_ALLOW_STALE_MEMBER",
            "ETCD_ARK_STRICT",
        ] {
            let told = scene.run(restore, &[(variable, word)]).exits(2);
            assert_has(&told.stderr, &format!("'{word}' for '{variable}'"));
        }
    }
    for word in ["", "0", "n", "no", "F", "False", "OFF"] {
        scene.run(restore, &[("ETCD_ARK_REPLACE", word)]).exits(3);
    }
    for word in ["1", "y", "Yes", "t", "TRUE", "on"] {
        scene.run(restore, &[("ETCD_ARK_REPLACE", word)]).exits(0);
    }
    let told = scene.run("status B", &[("ETCD_ARK_SIZE_LIMIT", "foo")]);
    assert_has(
        &told.stdout,
        "invalid value 'foo' for 'ETCD_ARK_SIZE_LIMIT'",
    );
    let told = scene.run("list B", &[("ETCD_ARK_COLOR", "red")]).exits(2);
    assert_has(&told.stderr, "'red' for 'ETCD_ARK_COLOR'");
    // What was typed comes first, and is blamed by its own name.
    let both = [("ETCD_ARK_MAX_AGE", "foo")];
    let told = scene.run("status B --max-age bar", &both);
    assert_has(
        &told.stdout,
        "invalid value 'bar' for '--max-age <DURATION>'",
    );
    scene
        .run("list B", &[("ETCD_ARK_SIZE_LIMIT", "1GB")])
        .exits(0);
}

#[test]
fn a_hint_is_about_the_command_that_was_typed() {
    let scene = Scene::new();
    for (line, command) in [
        ("--json list B --nonsense", "list"),
        ("--json downgrade check --nonsense", "downgrade check"),
        ("--json downgrade", "downgrade"),
    ] {
        let told = scene.run(line, &[]).exits(2).json_error();
        assert_eq!(told["hint"], format!("see `etcd-ark {command} --help`"));
        assert_ne!(told["message"], "Check for, or prepare, a downgrade");
    }
    let told = scene.run("status B --nonsense", &[]).exits(3);
    told.says("see `etcd-ark status --help`");
    fs::write(scene.dir.path().join("C"), "backup-dir = 'B'\nrepo = 'B'\n").unwrap();
    let told = scene.run("list --config C", &[]).exits(2);
    told.says("`C`, line 2: `backup-dir` is set twice");
    scene
        .run("copy B N nothing-like-it", &[])
        .exits(2)
        .says("`etcd-ark list B`");
}

#[test]
fn a_file_that_a_flag_names_and_that_is_not_there_is_wrong_usage() {
    let scene = Scene::new();
    for line in [
        "list B --config nope",
        "preflight --endpoints http://127.0.0.1:1 --cacert nope",
        "preflight --endpoints http://127.0.0.1:1 --cert nope --key nope",
        "preflight --endpoints http://127.0.0.1:1 --username u --password-file nope",
        "preflight --endpoints http://127.0.0.1:1 --cacert B",
        "snapshot --data-dir D --backup-dir B -R nope",
    ] {
        let told = scene.run(line, &[]).exits(2);
        assert_has(&told.stderr, "hint: ");
    }
}
