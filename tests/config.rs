//! Flags from a file: which apply where, and errors in the file.
//!
//! In: a configuration file, the command line and the environment. Out: the value that applies, seen in what the run
//! does; or a message with the file, the line, the key and a suggestion.

use crate::support::prelude::*;

struct Scratch {
    dir: TempDir,
    source: PathBuf,
    backups: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let (dir, source, backups, _) = small_scene();
        Self {
            dir,
            source,
            backups,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the file; `SOURCE` and `BACKUPS` in it are the paths of these.
    fn configure(&self, text: &str) -> PathBuf {
        let path = self.path("ark.toml");
        let text = text
            .replace("SOURCE", self.source.to_str().unwrap())
            .replace("BACKUPS", self.backups.to_str().unwrap());
        fs::write(&path, text).unwrap();
        path
    }

    fn with(&self, text: &str, args: &[&str]) -> Ran {
        run(&mut self.command(text, args))
    }

    fn command(&self, text: &str, args: &[&str]) -> Command {
        let mut command = clean(BINARY);
        command.args(args).arg("--config").arg(self.configure(text));
        command
    }
}

const PLACES: &str = "data-dir = 'SOURCE'\nbackup-dir = 'BACKUPS'\n";

fn manifest(ran: Ran) -> Value {
    ran.exits(0).json()["manifest"].clone()
}

#[test]
fn flag_environment_file_default_the_first_that_says_something_counts() {
    // Guards against a value that comes from another place than the operator thinks.
    let scratch = Scratch::new();
    let file = format!(
        "{PLACES}json = true\nsize-limit = 2_000_000\n[snapshot]\nlabel = ['of the file', 'too']\nall = true\n"
    );
    let told = |text: &str, variables: &[(&str, &str)], args: &[&str]| {
        let args = [&["snapshot"], args].concat();
        let mut command = scratch.command(text, &args);
        let found = manifest(run(command.envs(variables.iter().copied())));
        let labels = found["labels"].clone();
        (
            found["sizes"]["limit"].clone(),
            labels,
            found["scope"].clone(),
        )
    };
    let none = Value::Array(Vec::new());
    let labels = |value: Value| if value.is_null() { none.clone() } else { value };
    let (limit, label, scope) = told(&format!("{PLACES}json = true"), &[], &[]);
    assert_eq!((limit, labels(label)), (json!(100_000_000), none.clone()));
    assert_eq!(scope, "live");
    let of_file = json!(["of the file", "too"]);
    assert_eq!(
        told(&file, &[], &[]),
        (json!(2_000_000), of_file.clone(), json!("all"))
    );
    let variables = [
        ("ETCD_ARK_SIZE_LIMIT", "3MB"),
        ("ETCD_ARK_LABEL", "of the environment"),
        ("ETCD_ARK_ALL", "0"),
    ];
    let of_environment = (
        json!(3_000_000),
        json!(["of the environment"]),
        json!("live"),
    );
    assert_eq!(told(&file, &variables, &[]), of_environment);
    let flags = ["--size-limit", "4MB", "--label", "of the line"];
    let of_line = (json!(4_000_000), json!(["of the line"]), json!("live"));
    assert_eq!(told(&file, &variables, &flags), of_line);
    // A variable that is set to nothing says nothing.
    let empty = [("ETCD_ARK_SIZE_LIMIT", ""), ("ETCD_ARK_LABEL", "")];
    assert_eq!(
        told(&file, &empty, &[]),
        (json!(2_000_000), of_file, json!("all"))
    );
}

#[test]
fn a_commands_own_table_wins_over_the_top_and_is_for_it_alone() {
    let scratch = Scratch::new();
    let file = format!(
        "{PLACES}size-limit = '5MB'\nthreads = 1\n[snapshot]\nsize-limit = '6MB'\nstrict = false\njson = true\n\
         [list]\nbackup-dir = '/nowhere'\n"
    );
    let found = manifest(scratch.with(&format!("strict = true\n{file}"), &["snapshot"]));
    assert_eq!(found["sizes"]["limit"], 6_000_000);
    scratch
        .with(&file, &["list"])
        .exits(10)
        .says("no backup dir at `/nowhere`");
    let told = scratch.with(PLACES, &["list"]).exits(0);
    assert!(told.stdout.contains("etcd-"), "{told:#?}");
    let elsewhere = scratch.path("elsewhere");
    scratch
        .with(PLACES, &["list", elsewhere.to_str().unwrap()])
        .exits(10)
        .says(elsewhere.to_str().unwrap());
    // `strict` at the top holds for all commands, `false` in a table takes it back.
    let strict = format!("{PLACES}strict = true\nsize-limit = 1\n");
    scratch.with(&strict, &["snapshot"]).exits(5);
    let lenient = format!("{strict}[snapshot]\nstrict = false\n");
    scratch.with(&lenient, &["snapshot"]).exits(0);
    // Tables of commands below others.
    let nested = "[downgrade.check]\nto = 'not a release'\n";
    scratch
        .with(nested, &["downgrade", "check"])
        .exits(2)
        .says("line 2: invalid value 'not a release' for '--to <RELEASE>'");
    let told = scratch.with(nested, &["downgrade", "run"]).exits(2);
    assert!(!told.stderr.contains("not a release"), "{told:#?}");
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line_and_the_nearest_name() {
    // Guards against a typo that makes a policy vanish without a word.
    let scratch = Scratch::new();
    // Each: a file with ` / ` for a line's end, and parts of its message, in which `$` is one.
    let rows = "
          / backupdir = 'x' -> line 2: no command has a flag `backupdir`; is it `backup-dir`?
         [snapshot] / labels = ['a'] -> line 2: `etcd-ark snapshot` has no flag `labels`; is it `label`?
         [snapshot] / replace = true -> line 2: `etcd-ark snapshot` has no flag `replace`
         [snapshots] / all = true -> no command for the table `[snapshots]`; is it `snapshot`?
         [downgrade.runs] / settle = 5 -> table `[downgrade.runs]`; is it `run`?
         [downgrade] / move-wal = true -> line 2: `move-wal` belongs in the table of one command | `[downgrade.run]`
         zzz = 1 -> line 1: no command has a flag `zzz`$
         strict = 'yes' -> line 1: `strict` is true or false, not a text
         threads = true -> line 1: `threads` takes a N as a number or in quotes, not true or false
         data-dir = 5 -> line 1: `data-dir` takes a DIR in quotes, not an integer
         data-dir = ['a', 'b'] -> line 1: `data-dir` takes one value, not a list
         [snapshot] / label = ['a', 5] -> line 2: `label` takes a LABEL in quotes, not an integer
         [snapshot] / level = 1.5 -> line 2: `level` takes a N | not a number with a fraction
         replace = true -> line 1: `replace` changes what a command does | `[restore]`
         offline = true -> line 1: `offline` changes what a command does | `[restore]`
         to = '2.3' -> line 1: `to` means different things | `[preflight]` | `[rewind]`
         config = 'other.toml' -> line 1: `config` is for one run
         [snapshot] / dry-run = true -> line 2: `dry-run` is for one run, so it is given as `--dry-run`
         a = 1 / a = 2 /  -> line 2:";
    for row in rows.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let (text, messages) = row.split_once(" -> ").unwrap();
        let text = &text.replace("/ ", "\n");
        // Whatever the command is: a file that is wrong anywhere is not half obeyed.
        let told = scratch.with(text, &["list", "x"]).exits(2);
        assert!(told.stderr.contains("ark.toml`, line "), "{told:#?}");
        for message in messages.split(" | ") {
            assert_has(&told.stderr, &message.replace('$', "\n"));
        }
        let error = scratch
            .with(text, &["--json", "list", "x"])
            .exits(2)
            .json_error();
        assert_eq!(error["kind"], "usage", "{error}");
    }
}

#[test]
fn a_value_of_the_file_that_clap_refuses_is_said_to_be_the_files() {
    // Guards against a message about a flag that was not typed.
    let scratch = Scratch::new();
    let wrong = format!("{PLACES}[snapshot]\nlevel = 99\n");
    scratch
        .with(&wrong, &["snapshot"])
        .exits(2)
        .says("ark.toml`, line 4: invalid value '99' for '--level <N>': not a number from 1 to 19")
        .says("hint: `etcd-ark COMMAND --help` shows what the flag of that name takes");
    // What is typed wins, and is wrong by itself or not at all.
    scratch.with(&wrong, &["snapshot", "--level", "1"]).exits(0);
    let told = scratch
        .with(&wrong, &["snapshot", "--level", "98"])
        .exits(2);
    assert!(
        told.stderr.contains("'98'") && !told.stderr.contains("ark.toml"),
        "{told:#?}"
    );
    let told = scratch.with(PLACES, &["snapshot", "--nonsense"]).exits(2);
    assert!(
        told.stderr.contains("--nonsense") && !told.stderr.contains("ark.toml"),
        "{told:#?}"
    );
    // One key needs another.
    scratch
        .with(
            "[verify]\nrestore-at = 2015-10-01T00:00:00Z\n",
            &["verify", "x"],
        )
        .exits(2)
        .says("ark.toml` sets (restore-at): ")
        .says("--deep");
}

#[test]
fn a_flag_that_is_set_keeps_out_what_the_file_says_instead() {
    // Guards against a backup dir that is named on the command line, and a snapshot that goes to a bucket.
    let scratch = Scratch::new();
    let bucket = scratch.path("bucket");
    let file = format!(
        "data-dir = 'SOURCE'\nrepo = 'file://{}'\n",
        bucket.display()
    );
    let backups = scratch.backups.to_str().unwrap();
    scratch
        .with(&file, &["snapshot", "--backup-dir", backups])
        .exits(0);
    assert_eq!(archives_in(&scratch.backups).len(), 1);
    assert!(!bucket.exists());
    scratch.with(&file, &["snapshot"]).exits(0);
    assert_eq!(archives_in(&bucket).len(), 1);
    // The other way round, and the own table keeps out the top.
    let repo = format!("file://{}", bucket.display());
    scratch
        .with(PLACES, &["snapshot", "--repo", &repo])
        .exits(0);
    let own = format!("{PLACES}[snapshot]\nrepo = '{repo}'\n");
    scratch.with(&own, &["snapshot"]).exits(0);
    assert_eq!(archives_in(&bucket).len(), 3);
    assert_eq!(archives_in(&scratch.backups).len(), 1);
    // A conflict that clap knows of.
    let archive = archived(&scratch.source, &scratch.backups);
    scratch
        .with(
            "[keys]\nget = '/1/x'\n",
            &["keys", archive.to_str().unwrap(), "/"],
        )
        .exits(0);
}

#[test]
fn etcds_own_variables_win_over_the_file_too() {
    // Guards against a cluster that is asked because of a file, where the environment names another.
    let scratch = Scratch::new();
    let file = "endpoints = ['http://127.0.0.1:1']\ntimeout = 1\n";
    for name in ["ETCDCTL_ENDPOINTS", "ETCDCTL_PEERS"] {
        let mut command = scratch.command(file, &["downgrade", "check"]);
        let told = run(command.env(name, "http://127.0.0.1:2"));
        let all = format!("{}{}", told.stdout, told.stderr);
        assert!(
            all.contains("127.0.0.1:2") && !all.contains("127.0.0.1:1"),
            "{told:#?}"
        );
    }
}

#[test]
fn a_file_that_is_none_is_said_to_be_none() {
    let scratch = Scratch::new();
    let at = |path: &Path| {
        let mut command = clean(BINARY);
        run(command.args(["list", "x", "--config"]).arg(path))
    };
    at(&scratch.path("missing"))
        .exits(2)
        .says("there is no configuration file at `");
    at(scratch.dir.path()).exits(2).says("it is a directory");
    let latin = scratch.path("latin");
    fs::write(&latin, b"# caf\xe9\n").unwrap();
    at(&latin).exits(2).says("it is not UTF-8 text");
    let long = scratch.path("long");
    fs::write(&long, "#".repeat(2 << 20)).unwrap();
    at(&long).exits(2).says("it is over 1 MiB");
    // None, by name, in the environment, or not at all; and help needs none.
    at(Path::new("")).exits(10).says("no backup dir at `x`");
    let missing = scratch.path("missing");
    for (variable, code) in [(missing.as_path(), 2), (Path::new(""), 10)] {
        let mut command = clean(BINARY);
        let told = run(command.args(["list", "x"]).env("ETCD_ARK_CONFIG", variable)).exits(code);
        assert_eq!(
            told.stderr.contains("configuration"),
            variable == missing,
            "{told:#?}"
        );
    }
    let mut command = clean(BINARY);
    let told = run(command
        .args(["list", "--help"])
        .env("ETCD_ARK_CONFIG", &missing))
    .exits(0);
    assert!(told.stdout.contains("--config <FILE>"), "{told:#?}");
}

#[test]
fn a_file_that_cannot_be_read_is_not_passed_over() {
    // Guards against a timer that runs without its policy because the file is root's alone.
    only_with!(need_root() && need("setpriv"));
    let scratch = Scratch::new();
    let path = scratch.configure("strict = true\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    fs::set_permissions(&path, mode(0o600)).unwrap();
    fs::set_permissions(scratch.dir.path(), mode(0o755)).unwrap();
    let binary = scratch.path("ark");
    copy_binary(&binary);
    let mut as_user = clean("setpriv");
    as_user.args(["--reuid", "1234", "--regid", "1234", "--clear-groups"]);
    run(as_user
        .arg(&binary)
        .args(["list", "x", "--config"])
        .arg(&path))
    .exits(1)
    .says("ark.toml`: Permission denied");
}

#[test]
fn the_file_of_this_machine_is_read_if_it_is_there() {
    only_with!(need("unshare") && need_root());
    let scratch = Scratch::new();
    let file = scratch.configure(PLACES);
    let script = r#"
        unset ETCD_ARK_CONFIG
        mount -t tmpfs tmpfs /etc
        code=0; "$ARK" snapshot || code=$?; echo "code $code"
        cp "$1" /etc/etcd-ark.toml
        "$ARK" snapshot; "$ARK" list | grep -c tar.zst
        code=0; "$ARK" --config '' snapshot 2>/dev/null || code=$?; echo "code $code"
    "#;
    let ran = in_own_mounts(script, &[&file]).exits(0);
    assert_eq!(ran.stdout, "code 2\n1\ncode 2\n", "{ran:#?}");
}

#[test]
fn what_stands_behind_two_dashes_is_still_no_flag() {
    let scratch = Scratch::new();
    let log = scratch.path("-odd.log");
    fs::write(&log, "etcd: a line\n").unwrap();
    let mut command = scratch.command("[explain-log]\nonly-notable = true\n", &[]);
    command.args(["explain-log", "--", "-odd.log"]);
    run(command.current_dir(scratch.dir.path())).exits(0);
}
