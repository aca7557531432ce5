//! `schedule`, `man` and `completions`: text for other programs, read as they read it.

use std::path::Path;
use std::process::Command;

use fs_err as fs;
use tempfile::TempDir;

use crate::support::ark::{BINARY, ark, clean, names, run};
use crate::support::encode::small_member;
use crate::support::tools::{in_own_mounts, need, need_root};

/// Every character that some reader on the way takes for its own.
const HARD: &str = "a b\t\u{e9}%n%%$HOME${x}'\"\\\\;#!*~`|&<>(){}[]";

/// What stories set in the environment, so that no file of this machine is read.
const NO_CONFIG: &str = "--config=";

/// The file named `name` that `schedule` prints with `args`.
#[track_caller]
fn printed(args: &[&str], name: &str) -> String {
    let mut all = vec!["--json", "schedule"];
    all.extend(args);
    let told = ark(all).exits(0).json();
    let files = told["files"].as_array().unwrap();
    let is_it = |file: &&serde_json::Value| file["path"].as_str().unwrap().ends_with(name);
    let file = files.iter().find(is_it).unwrap();
    file["text"].as_str().unwrap().to_owned()
}

/// The words of a line in a unit, by the rules of systemd.syntax(7), systemd.unit(5) and systemd.service(5). `variables`
/// says whether `$` is read, as it is in all words of a command but the first.
fn unit_words(line: &str, variables: bool) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.chars().peekable();
    while rest.peek().is_some() {
        let mut word = String::new();
        let quoted = rest.next_if_eq(&'"').is_some();
        while let Some(c) = rest.next() {
            match c {
                '"' if quoted => break,
                ' ' if !quoted => break,
                '\\' => word.push(rest.next().unwrap()),
                '%' => {
                    assert_eq!(rest.next(), Some('%'), "a specifier in {line}");
                    word.push('%');
                }
                '$' if variables && !words.is_empty() => {
                    assert_eq!(rest.next(), Some('$'), "a variable in {line}");
                    word.push('$');
                }
                c => {
                    assert!(quoted || c != '"', "a quote within a word in {line}");
                    word.push(c);
                }
            }
        }
        rest.next_if_eq(&' ');
        words.push(word);
    }
    words
}

fn value<'u>(unit: &'u str, key: &str) -> &'u str {
    let mut lines = unit
        .lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let found = lines.next().unwrap();
    assert_eq!(lines.next(), None, "{key} twice in {unit}");
    found
}

#[test]
fn systemd_reads_back_every_word_that_was_given() {
    let hard = HARD.replace('\t', "");
    let dir = format!("/srv/{hard}");
    let args = [
        "--data-dir",
        "/d",
        "--backup-dir",
        &dir,
        "--label",
        &hard,
        "--all",
    ];
    let unit = printed(&args, ".service");
    let words = unit_words(value(&unit, "ExecStart"), true);
    assert_eq!(
        words,
        [
            BINARY,
            NO_CONFIG,
            "snapshot",
            "--data-dir=/d",
            &format!("--backup-dir={dir}"),
            "--all",
            &format!("--label={hard}"),
        ]
    );
    assert_eq!(
        unit_words(value(&unit, "ReadWritePaths"), false),
        [dir.as_str()]
    );
    assert_eq!(
        unit_words(value(&unit, "RequiresMountsFor"), false),
        ["/d", &dir]
    );
}

#[test]
fn systemd_finds_nothing_to_say_about_printed_units() {
    if !need("systemd-analyze") {
        return;
    }
    let scratch = TempDir::new().unwrap();
    let dir = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (data_dir, backups) = (dir("100% of $HOME"), dir("a \"b\""));
    let args = [
        "--data-dir",
        &data_dir,
        "--backup-dir",
        &backups,
        "--every",
        "15m",
        "--run-as",
        "root",
    ];
    for name in ["etcd-ark.service", "etcd-ark.timer"] {
        fs::write(scratch.path().join(name), printed(&args, name)).unwrap();
    }
    let mut verify = clean("systemd-analyze");
    verify.args(["verify", "--man=no", "etcd-ark.service", "etcd-ark.timer"]);
    let ran = run(verify.current_dir(scratch.path())).exits(0);
    assert_eq!(ran.stdout + &ran.stderr, "");
}

#[test]
fn systemd_and_cron_take_every_time_that_schedule_takes() {
    // Guards against a timer that is installed, enabled, and never fires.
    if !need("systemd-analyze") {
        return;
    }
    let minutes = (1..=60).map(|n| format!("{n}m"));
    let hours = (2..=25).map(|n| format!("{n}h"));
    let mut times = Vec::new();
    for every in minutes.chain(hours).chain(["1d".to_owned()]) {
        let ran = ark([
            "schedule",
            "--data-dir",
            "/d",
            "--backup-dir",
            "/b",
            "--every",
            &every,
        ]);
        if ran.code == Some(0) {
            times.push(value(&ran.stdout, "OnCalendar").to_owned());
        } else {
            ran.exits(2).says("must divide an hour or a day");
        }
    }
    // 12 parts of an hour, 7 of a day, and a day by two names.
    assert_eq!(times.len(), 12 + 7 + 1, "{times:?}");
    times.push(
        value(
            &printed(
                &["--data-dir", "/d", "--backup-dir", "/b", "--at", "23:59"],
                ".timer",
            ),
            "OnCalendar",
        )
        .to_owned(),
    );
    run(clean("systemd-analyze").arg("calendar").args(&times)).exits(0);
    for day in ["24h", "1d"] {
        let args = ["--data-dir", "/d", "--backup-dir", "/b", "--every", day];
        assert_eq!(
            value(&printed(&args, ".timer"), "OnCalendar"),
            "*-*-* 00:00:00"
        );
        let line = printed(&[&["--kind", "cron"], &args[..]].concat(), "etcd-ark");
        assert!(line.contains("\n0 0 * * * root "), "{line}");
    }
}

#[test]
fn systemd_calls_the_packages_service_well_confined() {
    if !need("systemd-analyze") {
        return;
    }
    // In tenths of what it shows: 2.0.
    let mut security = clean("systemd-analyze");
    security.args(["security", "--offline=true", "--threshold=20", "--no-pager"]);
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/etcd-ark.service");
    run(security.arg(unit)).exits(0);
}

/// What cron hands to the shell: `\%` is a `%`, and a bare one would end the command.
fn as_cron_reads(line: &str) -> String {
    let command = line.splitn(7, ' ').last().unwrap();
    let without = command.replace(r"\%", "");
    assert!(!without.contains('%'), "{line}");
    command.replace(r"\%", "%")
}

#[test]
fn cron_and_its_shell_read_back_every_word_that_was_given() {
    let hard = HARD.replace('\t', "");
    let dir = format!("/srv/{hard}");
    let args = [
        "--kind",
        "cron",
        "--data-dir",
        "/d",
        "--backup-dir",
        &dir,
        "--label",
        &hard,
    ];
    let text = printed(&args, "/etc/cron.d/etcd-ark");
    assert!(
        text.ends_with('\n'),
        "cron leaves out a line without an end: {text}"
    );
    let line = text.lines().last().unwrap();
    assert!(line.starts_with("30 3 * * * root /"), "{line}");
    // What is before it guards the disk that it is on.
    let command = as_cron_reads(line);
    let command = &command[command.find(BINARY).unwrap()..];
    let script = format!("set -- {command}; printf '%s\\n' \"$@\"");
    let ran = run(Command::new("sh").args(["-c", &script])).exits(0);
    let words: Vec<_> = ran.stdout.lines().collect();
    let backup_dir = format!("--backup-dir={dir}");
    let label = format!("--label={hard}");
    let wanted = [
        BINARY,
        "--quiet",
        NO_CONFIG,
        "snapshot",
        "--data-dir=/d",
        &backup_dir,
        &label,
    ];
    assert_eq!(words, wanted);
}

#[test]
fn what_is_printed_for_cron_takes_a_snapshot_and_says_nothing() {
    let scratch = TempDir::new().unwrap();
    let args = [
        "--kind",
        "cron",
        "--data-dir",
        "testdata/infra0.etcd",
        "--backup-dir",
        "back ups",
    ];
    let mut schedule = clean(BINARY);
    schedule
        .arg("schedule")
        .args(args)
        .current_dir(scratch.path());
    std::os::unix::fs::symlink(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"),
        scratch.path().join("testdata"),
    )
    .unwrap();
    let text = run(&mut schedule).exits(0).stdout;
    let command = as_cron_reads(text.lines().last().unwrap());
    // cron starts things in the user's home.
    let ran = run(clean("sh").args(["-c", &command]).current_dir("/")).exits(0);
    assert_eq!(ran.stdout + &ran.stderr, "");
    assert_eq!(names(&scratch.path().join("back ups")).len(), 2);
}

#[test]
fn what_was_said_in_the_environment_is_written_down_and_how_this_run_speaks_is_not() {
    let mut schedule = clean(BINARY);
    schedule.args(["--quiet", "--strict", "schedule"]);
    // Under --strict what this run warns of counts, too.
    schedule
        .env("ETCD_DATA_DIR", "/d")
        .env("ETCD_ARK_BACKUP_DIR", "/b");
    schedule
        .env("ETCD_ARK_ALL", "no")
        .env("ETCD_ARK_LABEL", "x,y");
    let text = run(&mut schedule).exits(5).stdout;
    let line = format!(
        "{BINARY} --strict {NO_CONFIG} snapshot --data-dir=/d --backup-dir=/b --label=x --label=y"
    );
    assert_eq!(value(&text, "ExecStart"), line);
}

#[test]
fn what_no_line_of_text_can_hold_is_refused() {
    for kind in ["systemd", "cron"] {
        let args = [
            "schedule",
            "--kind",
            kind,
            "--data-dir",
            "/d",
            "--backup-dir",
            "/a\nUser=root",
        ];
        ark(args)
            .exits(2)
            .says("cannot be written into a unit or a crontab");
    }
    let long = format!("/{}", "x/".repeat(500));
    let args = [
        "schedule",
        "--kind",
        "cron",
        "--data-dir",
        "/d",
        "--backup-dir",
        &long,
    ];
    ark(args).exits(2).says("cron takes 998");
    let args = [
        "schedule",
        "--data-dir",
        "/d",
        "--backup-dir",
        "/b",
        "--run-as",
        "a b",
    ];
    ark(args).exits(2).says("a user is named by");
    let args = [
        "schedule",
        "--data-dir",
        "/d",
        "--backup-dir",
        "/b",
        "--every",
        "7m",
    ];
    ark(args).exits(2).says("must divide an hour or a day");
}

#[test]
fn a_backup_dir_that_the_sandbox_would_hide_is_not_hidden() {
    let unit = printed(
        &["--data-dir", "/d", "--backup-dir", "/var/tmp/b"],
        ".service",
    );
    assert_eq!(value(&unit, "PrivateTmp"), "no");
    let unit = printed(&["--data-dir", "/root/d", "--backup-dir", "/b"], ".service");
    assert_eq!(value(&unit, "ProtectHome"), "read-only");
}

#[test]
fn every_command_has_a_page_that_groff_has_nothing_to_say_about() {
    if !need("groff") {
        return;
    }
    let scratch = TempDir::new().unwrap();
    let pages = scratch.path().join("man");
    let ran = ark(["--json", "man", "--out", pages.to_str().unwrap()]).exits(0);
    assert_eq!(
        ran.json()["pages"].as_array().unwrap().len(),
        names(&pages).len()
    );
    for name in names(&pages) {
        let mut groff = clean("groff");
        groff
            .args(["-ww", "-man", "-Tutf8", &name])
            .current_dir(&pages);
        let ran = run(&mut groff).exits(0);
        assert_eq!(ran.stderr, "", "{name}");
        let words = name.trim_end_matches(".1").replace("etcd-ark", "");
        let command = match words.trim_start_matches('-') {
            "explain-log" => vec!["explain-log".to_owned()],
            words => words
                .split('-')
                .map(str::to_owned)
                .filter(|word| !word.is_empty())
                .collect(),
        };
        let alone = ark(["man".to_owned()].into_iter().chain(command)).exits(0);
        assert_eq!(alone.stdout, fs::read_to_string(pages.join(&name)).unwrap());
    }
    ark(["man", "nosuch"])
        .exits(2)
        .says("there is no command `nosuch`");
}

#[test]
fn bash_completes_a_command_and_its_flags() {
    let script = ark(["completions", "bash"]).exits(0).stdout;
    let complete = |words: &str| {
        let script = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); \
             _etcd__ark etcd-ark \"${{COMP_WORDS[COMP_CWORD]}}\" x; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        run(Command::new("bash").args(["-c", &script]))
            .exits(0)
            .stdout
    };
    assert_eq!(complete("etcd-ark snap"), "snapshot\n");
    assert_eq!(complete("etcd-ark schedule --run"), "--run-as\n");
}

#[test]
fn the_service_can_write_to_what_its_flags_name_on_this_machine_and_to_nothing_else() {
    let unit = printed(&["--data-dir", "/d", "--repo", "s3://bucket/a"], ".service");
    assert!(
        value(&unit, "ExecStart").ends_with(" --repo=s3://bucket/a"),
        "{unit}"
    );
    assert!(!unit.contains("\nReadWritePaths="), "{unit}");
    let args = [
        "--data-dir",
        "/d",
        "--repo",
        "file:///srv/a",
        "--spool-dir",
        "/srv/spool",
    ];
    let unit = printed(&args, ".service");
    assert_eq!(value(&unit, "ReadWritePaths"), "/srv/a /srv/spool");
    let args = [
        "--data-dir",
        "/d",
        "--backup-dir",
        "/b",
        "--metrics-file",
        "/m/etcd.prom",
    ];
    let unit = printed(&args, ".service");
    assert_eq!(value(&unit, "ReadWritePaths"), "/b /m");
    assert!(unit.contains("setfacl -m u:etcd-ark:rwx /m\n"), "{unit}");
}

#[test]
fn the_packages_configuration_is_one_that_every_command_takes_also_with_all_of_it_in_force() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/etcd-ark.toml");
    let shipped = fs::read_to_string(shipped).unwrap();
    // Prose is told from a setting by the space after its `#`.
    let is_setting = |line: &&str| !line.starts_with("# ") && *line != "#";
    let all: Vec<_> = shipped
        .lines()
        .filter(is_setting)
        .map(|line| line.trim_start_matches('#'))
        .collect();
    let scratch = TempDir::new().unwrap();
    let config = scratch.path().join("etcd-ark.toml");
    for text in [shipped.clone(), all.join("\n")] {
        fs::write(&config, text).unwrap();
        let config = config.to_str().unwrap();
        // All of it makes warnings count; there is no data dir here.
        let ran = ark(["schedule", "--config", config]);
        let unit = ran
            .says("there is no data dir at `/var/lib/etcd/default`")
            .stdout;
        assert_eq!(
            value(&unit, "ExecStart"),
            format!("{BINARY} --config={config} snapshot")
        );
        assert!(
            value(&unit, "RequiresMountsFor").starts_with("/var/lib/etcd/default"),
            "{unit}"
        );
        assert!(
            value(&unit, "ReadWritePaths").starts_with("/var/backups/etcd"),
            "{unit}"
        );
    }
}

/// A directory of which no name is one for temporary files.
fn lasting_dir() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_the_file_sets_counts_for_the_unit_and_stays_in_the_file() {
    // Guards against a unit that cannot write its metrics, and one on which edits of the file are lost.
    let scratch = lasting_dir();
    let at = |name: &str| scratch.path().join(name);
    let (config, keys) = (at("ark.toml"), at("keys"));
    fs::write(&keys, AGE_RECIPIENT).unwrap();
    let set = format!(
        "data-dir = '/top'\nstrict = true\n\
         [snapshot]\ndata-dir = '/d'\njson = true\nbackup-dir = '/b'\nmetrics-file = '/m/x.prom'\nspool-dir = '/spool'\n\
         recipients-file = '{}'\nkeep-last = 3\nall = true\nlabel = ['of the file']\n\
         [schedule]\nevery = '6h'\nlevel = 5\n",
        text(&keys)
    );
    fs::write(&config, set).unwrap();
    let told = |more: &[&str]| {
        // The data dir is not there, and the file is strict.
        let args = [&["schedule", "--config", text(&config)], more].concat();
        ark(args).exits(5).says("no data dir at `/d`").stdout
    };
    let unit = told(&["--label", "typed"]);
    // Its own table is for `schedule` alone: a run would know nothing of it.
    let line = format!(
        "{BINARY} --config={} snapshot --label=typed --level=5",
        text(&config)
    );
    assert_eq!(value(&unit, "ExecStart"), line);
    assert_eq!(value(&unit, "OnCalendar"), "*-*-* 00/6:00:00");
    let mounts = format!("/d {} {} /b /spool", text(&keys), text(&config));
    assert_eq!(value(&unit, "RequiresMountsFor"), mounts);
    assert_eq!(value(&unit, "ReadWritePaths"), "/b /spool /m");
    assert!(
        unit.contains("\n#     setfacl -m u:etcd-ark:rwx /m\n"),
        "{unit}"
    );
    // What was typed wins, and the place that it wins over is none.
    let unit = told(&["--repo", "s3://bucket", "--spool-dir", "/spool2"]);
    assert_eq!(value(&unit, "ReadWritePaths"), "/spool2 /m");
    let line = value(&unit, "ExecStart");
    assert!(
        line.ends_with(" snapshot --repo=s3://bucket --spool-dir=/spool2 --level=5"),
        "{line}"
    );
    fs::write(&config, "data-dir = 'd'\nbackup-dir = '/b'\n").unwrap();
    ark(["schedule", "--config", text(&config)])
        .exits(2)
        .says("the configuration file sets `data-dir` to `d`, which is somewhere else");
}

/// Of a key that nobody has.
const AGE_RECIPIENT: &str = "age15xp4qasj4dfk8mys486j66n495gamu0ss6pkhltg0hwsql0m9g4sey3lzu";

#[test]
fn an_edit_of_the_file_is_what_the_next_run_goes_by() {
    let scratch = TempDir::new().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let (source, config) = (at("source"), at("ark.toml"));
    small_member(&source);
    let configure = |backups: &str| {
        let set = format!(
            "data-dir = '{}'\nbackup-dir = '{}'\n",
            text(&source),
            text(&at(backups))
        );
        fs::write(&config, set).unwrap();
    };
    configure("first");
    let line = printed(&["--kind", "cron", "--config", text(&config)], "etcd-ark");
    let command = as_cron_reads(line.lines().last().unwrap());
    configure("second");
    run(clean("sh").args(["-c", &command]).current_dir("/")).exits(0);
    assert_eq!(
        (names(&at("first")).len(), names(&at("second")).len()),
        (0, 2)
    );
}

#[test]
fn a_path_is_one_that_systemd_heeds() {
    // systemd leaves out a path that has `..` in it, and the service could not write.
    let scratch = lasting_dir();
    let root = scratch.path().canonicalize().unwrap();
    fs::create_dir_all(root.join("a/b")).unwrap();
    std::os::unix::fs::symlink("a/b", root.join("link")).unwrap();
    let given = |path: &str| format!("{}/{path}", text(&root));
    let (data_dir, backups) = (given("link/../c/./d"), given("a/../link"));
    let args = ["--data-dir", &data_dir, "--backup-dir", &backups];
    let unit = printed(&args, ".service");
    assert_eq!(value(&unit, "ReadWritePaths"), given("a/b"));
    let mounts = format!("{} {}", given("a/c/d"), given("a/b"));
    assert_eq!(value(&unit, "RequiresMountsFor"), mounts);
    // A symlink that is turned later is followed then; what it is now must be mounted, too.
    let (link, file) = (given("link"), format!("file://{}/./x", given("link")));
    let args = ["--data-dir", "/d", "--repo", &file, "--spool-dir", &link];
    let unit = printed(&args, ".service");
    assert_eq!(value(&unit, "ReadWritePaths"), format!("{link}/x {link}"));
    let mounts = format!("/d {link}/x {0}/x {link} {0}", given("a/b"));
    assert_eq!(value(&unit, "RequiresMountsFor"), mounts);
    for kind in ["systemd", "cron"] {
        let lost = given("missing/../b");
        let args = [
            "schedule",
            "--kind",
            kind,
            "--data-dir",
            "/d",
            "--backup-dir",
            &lost,
        ];
        ark(args)
            .exits(2)
            .says("leads cannot be told")
            .says("hint: name it without `..`");
    }
}

#[test]
fn a_configuration_file_that_the_sandbox_would_hide_is_not_hidden() {
    let scratch = TempDir::new_in("/tmp").unwrap();
    let config = scratch.path().join("ark.toml");
    fs::write(&config, "").unwrap();
    let args = [
        "--data-dir",
        "/d",
        "--backup-dir",
        "/b",
        "--config",
        text(&config),
    ];
    let unit = printed(&args, ".service");
    assert_eq!(value(&unit, "PrivateTmp"), "no");
    assert_eq!(
        value(&unit, "RequiresMountsFor"),
        format!("/d {} /b", text(&config))
    );
}

/// The commands, and what else is said, that root is to type.
fn to_type(unit: &str) -> (Vec<&str>, Vec<&str>) {
    let head = unit.lines().take_while(|line| *line != "#");
    let lines: Vec<_> = head
        .filter_map(|line| line.strip_prefix("#     "))
        .collect();
    lines.into_iter().partition(|line| !line.starts_with('#'))
}

#[test]
fn no_command_is_printed_that_would_take_a_directory_away_from_others() {
    // `install -d -m 0700` on /tmp locks everybody out.
    let scratch = lasting_dir();
    let there = text(scratch.path());
    let missing = scratch.path().join("new");
    let installs = |backups: &str, spool: &str| {
        let args = [
            "--data-dir",
            "/d",
            "--backup-dir",
            backups,
            "--spool-dir",
            spool,
        ];
        let unit = printed(&args, ".service");
        let (commands, notes) = to_type(&unit);
        let installs = commands
            .into_iter()
            .filter(|line| line.starts_with("install"));
        let texts = |lines: Vec<&str>| lines.into_iter().map(str::to_owned).collect::<Vec<_>>();
        (texts(installs.collect()), texts(notes))
    };
    let (commands, notes) = installs(text(&missing), "/tmp");
    assert_eq!(
        commands,
        [format!("install -d -m 0700 -o etcd-ark {}", text(&missing))]
    );
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].contains("/tmp must be there, and etcd-ark be able to write to it"),
        "{notes:?}"
    );
    let (commands, notes) = installs(there, there);
    assert_eq!(commands, [""; 0]);
    assert!(
        notes[0].contains("is there: etcd-ark must be able to write to it"),
        "{notes:?}"
    );
    for temporary in ["/tmp", "/var/tmp/no-such-directory", "/dev/shm/x"] {
        let (commands, notes) = installs(temporary, there);
        assert_eq!(commands, [""; 0]);
        assert!(notes[0].contains("no place for backups"), "{notes:?}");
    }
}

#[test]
fn what_every_run_would_be_refused_for_is_refused_before_it_is_installed() {
    let scratch = lasting_dir();
    let source = scratch.path().join("source");
    small_member(&source);
    let inside = source.join("backups");
    let refused = |more: &[&str], code: i32, says: &str| {
        for kind in ["systemd", "cron"] {
            let args = [&["schedule", "--kind", kind], more].concat();
            let told = ark(args).exits(code).says(says);
            assert_eq!(told.stdout, "");
        }
        // As the run itself has it.
        ark([&["snapshot"], more].concat()).exits(code).says(says);
    };
    let (data_dir, backups) = (text(&source), text(scratch.path()));
    let places = ["--data-dir", data_dir, "--backup-dir", backups];
    refused(
        &[&places[..], &["--keep-label", "x"]].concat(),
        2,
        "--keep-last",
    );
    refused(
        &[&places[..], &["--recipient", "age1foo"]].concat(),
        2,
        "a recipient is the public key",
    );
    let args = ["--data-dir", data_dir, "--backup-dir", text(&inside)];
    refused(&args, 3, "is inside the data dir");
    refused(
        &["--data-dir", data_dir, "--repo", "ftp://x/y"],
        2,
        "a bucket is written as",
    );
    // Also where there is no data dir yet.
    ark([
        "schedule",
        "--data-dir",
        "/no/such",
        "--backup-dir",
        "/no/such/b",
    ])
    .exits(3)
    .says("is inside the data dir");
    let told = ark([&["schedule"], &places[..], &["--keep-last", "3"]].concat()).exits(0);
    assert_eq!(told.stderr, "");
}

#[test]
fn what_is_probably_not_meant_is_said_and_printed_all_the_same() {
    let args = ["schedule", "--data-dir", "/no/such", "--backup-dir", "/b"];
    let told = ark(args)
        .exits(0)
        .says("warning: without any of `--keep-last` and the like nothing is ever removed")
        .says("warning: as things are now every run fails: there is no data dir at `/no/such`");
    assert!(told.stdout.contains("\nExecStart="), "{told:#?}");
    let told = ark([&["--json"], &args[..]].concat()).exits(0);
    assert_eq!(told.json()["warnings"].as_array().unwrap().len(), 2);
    assert_eq!(told.stderr, "");
}

/// Puts a script in the place of `program`.
fn stub(dir: &Path, program: &str, script: &str) {
    let path = dir.join(program);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, mode).unwrap();
}

fn with_stubs(dir: &Path) -> String {
    format!("{}:{}", text(dir), std::env::var("PATH").unwrap())
}

#[test]
fn the_unit_that_tells_of_a_failure_tells_root_and_the_log() {
    let shipped =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/examples/etcd-ark-failed@.service");
    let shipped = fs::read_to_string(shipped).unwrap();
    let lines: Vec<_> = shipped
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(lines.len(), 6);
    let unit = printed(&["--data-dir", "/d", "--backup-dir", "/b"], ".service");
    let in_text = lines
        .iter()
        .map(|line| format!("#     {line}\n"))
        .collect::<String>();
    assert!(unit.contains(&in_text), "{unit}");
    assert!(
        unit.contains("\n#OnFailure=etcd-ark-failed@%n.service\n"),
        "{unit}"
    );
    // systemd's words are a shell's here.
    let stubs = TempDir::new().unwrap();
    stub(stubs.path(), "logger", "echo log \"$@\"");
    stub(stubs.path(), "systemctl", "echo status of \"$@\"");
    stub(stubs.path(), "mail", "echo mail \"$@\"; cat");
    let commands = lines
        .iter()
        .filter_map(|line| line.strip_prefix("ExecStart="));
    let commands =
        commands.map(|line| line.replace("%i", "etcd-ark.service").replace("%H", "node"));
    let script = commands.collect::<Vec<_>>().join("\n");
    let mut shell = clean("sh");
    shell
        .args(["-euc", &script])
        .env("PATH", with_stubs(stubs.path()));
    assert_eq!(
        run(&mut shell).exits(0).stdout,
        "log -p daemon.crit -t etcd-ark.service etcd-ark.service failed on node\n\
         mail -s etcd-ark.service failed on node root\n\
         status of status --no-pager --full --lines=20 etcd-ark.service\n"
    );
    if !need("systemd-analyze") {
        return;
    }
    let scratch = TempDir::new().unwrap();
    fs::write(scratch.path().join("etcd-ark-failed@.service"), &shipped).unwrap();
    let wired = unit.replace("\n#OnFailure", "\nOnFailure");
    fs::write(
        scratch.path().join("etcd-ark.service"),
        wired.replace("User=etcd-ark", "User=root"),
    )
    .unwrap();
    let mut verify = clean("systemd-analyze");
    let names = [
        "etcd-ark.service",
        "etcd-ark-failed@etcd-ark.service.service",
    ];
    verify.args(["verify", "--man=no"]).args(names);
    let ran = run(verify.current_dir(scratch.path())).exits(0);
    assert_eq!(ran.stdout + &ran.stderr, "");
}

#[test]
fn cron_gives_a_bucket_its_credentials_and_one_run_at_a_time() {
    // Guards against a bucket that is never written to, because cron passes on nothing of a shell's environment.
    if !need("flock") {
        return;
    }
    let args = [
        "--kind",
        "cron",
        "--data-dir",
        "/d",
        "--repo",
        "s3://bucket/a",
    ];
    let file = printed(&args, "etcd-ark");
    assert!(!file.contains("No flock"), "{file}");
    let scratch = TempDir::new().unwrap();
    let credentials = scratch.path().join("default");
    let program = scratch.path().join("program");
    stub(
        scratch.path(),
        "program",
        "echo \"$AWS_ACCESS_KEY_ID: $*\"; exit $CODE",
    );
    let command = as_cron_reads(file.lines().last().unwrap())
        .replace("/etc/default/etcd-ark", text(&credentials))
        .replace(BINARY, text(&program));
    let cron = || run(clean("sh").args(["-c", &command]).env("CODE", "0"));
    // Without them no run begins, and cron has something to mail.
    let told = cron();
    assert_ne!(told.code, Some(0), "{told:#?}");
    assert_eq!(told.stdout, "");
    told.says("default");
    fs::write(&credentials, "AWS_ACCESS_KEY_ID=me\n").unwrap();
    let told = cron().exits(0);
    assert_eq!(
        told.stdout,
        "me: --quiet --config= snapshot --data-dir=/d --repo=s3://bucket/a\n"
    );
    assert_eq!(told.stderr, "");
    run(clean("sh").args(["-c", &command]).env("CODE", "4")).says("etcd-ark ended with 4");
    let held = fs::File::open(&credentials).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let told = cron().says("etcd-ark ended with 11");
    assert_eq!(told.stdout, "");
}

#[test]
fn cron_takes_no_snapshot_onto_the_root_disk_while_the_backup_disk_is_missing() {
    if !need_root() || !need("unshare") || !need("mountpoint") {
        return;
    }
    let scratch = lasting_dir();
    let source = scratch.path().join("source");
    small_member(&source);
    let disk = scratch.path().join("the disk");
    fs::create_dir(&disk).unwrap();
    let script = r#"
        mount -t tmpfs tmpfs "$2"
        line=$("$ARK" --quiet schedule --kind cron --data-dir "$1" --backup-dir "$2/etcd" 2>/dev/null | tail -n 1 | cut -d ' ' -f 7-)
        sh -c "$line"
        ls "$2/etcd" | grep -c 'zst$'
        umount "$2"
        code=0; sh -c "$line" || code=$?
        echo "code $code"; ls "$2"
    "#;
    let ran = in_own_mounts(script, &[&source, &disk]).expect(0);
    assert_eq!(ran.stdout, "1\ncode 1\n", "{ran:#?}");
    assert!(
        ran.stderr
            .contains("the disk is not mounted: no snapshot was taken"),
        "{ran:#?}"
    );
    let args = [
        "--kind",
        "cron",
        "--data-dir",
        "/d",
        "--backup-dir",
        "/no-such-directory",
    ];
    let file = printed(&args, "etcd-ark");
    assert!(
        file.contains("No flock(1) is needed") && file.contains("is on the root disk now"),
        "{file}"
    );
}
