//! `schedule`, `man` and `completions`: text for other programs, read as they read it.

/// The line for cron.
mod cron;
/// What is said to the one who installs it.
mod install;
/// The paths in a unit.
mod places;

use crate::support::prelude::*;

/// Every character that some reader on the way takes for its own.
const HARD: &str = "a b\t\u{e9}%n%%$HOME${x}'\"\\\\;#!*~`|&<>(){}[]";

/// What stories set in the environment, so that no file of this machine is read.
const NO_CONFIG: &str = "--config=";

/// The file named `name` that `schedule` prints, typed as a line with `{}` for each of `values`.
#[track_caller]
fn printed(line: &str, values: &[&str], name: &str) -> String {
    let values: Vec<&dyn AsRef<OsStr>> = values.iter().map(|value| value as _).collect();
    let line = format!("--json schedule {line}");
    let told = typed(&line, &values).exits(0).json();
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
    let line = "--data-dir /d --backup-dir {} --label {} --all";
    let unit = printed(line, &[&dir, &hard], ".service");
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
    only_with!(need("systemd-analyze"));
    let scratch = TempDir::new().unwrap();
    let dir = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (data_dir, backups) = (dir("100% of $HOME"), dir("a \"b\""));
    let line = "--data-dir {} --backup-dir {} --every 15m --run-as root";
    for name in ["etcd-ark.service", "etcd-ark.timer"] {
        let unit = printed(line, &[&data_dir, &backups], name);
        fs::write(scratch.path().join(name), unit).unwrap();
    }
    let mut verify = clean("systemd-analyze");
    verify.args(["verify", "--man=no", "etcd-ark.service", "etcd-ark.timer"]);
    let ran = run(verify.current_dir(scratch.path())).exits(0);
    assert_eq!(ran.stdout + &ran.stderr, "");
}

#[test]
fn systemd_and_cron_take_every_time_that_schedule_takes() {
    // Guards against a timer that is installed, enabled, and never fires.
    only_with!(need("systemd-analyze"));
    let minutes = (1..=60).map(|n| format!("{n}m"));
    let hours = (2..=25).map(|n| format!("{n}h"));
    let mut times = Vec::new();
    for every in minutes.chain(hours).chain(["1d".to_owned()]) {
        let ran = typed(
            "schedule --data-dir /d --backup-dir /b --every {}",
            &[&every],
        );
        if ran.code == 0 {
            times.push(value(&ran.stdout, "OnCalendar").to_owned());
        } else {
            ran.exits(2).says("must divide an hour or a day");
        }
    }
    // 12 parts of an hour, 7 of a day, and a day by two names.
    assert_eq!(times.len(), 12 + 7 + 1, "{times:?}");
    let at = printed("--data-dir /d --backup-dir /b --at 23:59", &[], ".timer");
    times.push(value(&at, "OnCalendar").to_owned());
    run(clean("systemd-analyze").arg("calendar").args(&times)).exits(0);
    for day in ["24h", "1d"] {
        let every = format!("--data-dir /d --backup-dir /b --every {day}");
        let unit = printed(&every, &[], ".timer");
        assert_eq!(value(&unit, "OnCalendar"), "*-*-* 00:00:00");
        let line = printed(&format!("--kind cron {every}"), &[], "etcd-ark");
        assert!(line.contains("\n0 0 * * * root "), "{line}");
    }
}

#[test]
fn systemd_calls_the_packages_service_well_confined() {
    only_with!(need("systemd-analyze"));
    // In tenths of what it shows: 2.0.
    let mut security = clean("systemd-analyze");
    security.args(["security", "--offline=true", "--threshold=20", "--no-pager"]);
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/etcd-ark.service");
    run(security.arg(unit)).exits(0);
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
fn every_command_has_a_page_that_groff_has_nothing_to_say_about() {
    only_with!(need("groff"));
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
    let of_the_other_name = ark(["man", "backup"]).exits(0).stdout;
    assert_eq!(of_the_other_name, ark(["man", "snapshot"]).exits(0).stdout);
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

/// A directory that is not below one for temporary files, wherever this tree lies.
fn lasting_dir() -> TempDir {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let candidates = [
        Path::new(env!("CARGO_TARGET_TMPDIR")),
        Path::new(&home),
        Path::new("/var/lib"),
        Path::new("/opt"),
    ];
    let is_lasting = |dir: &&Path| {
        dir.is_absolute()
            && !["/tmp", "/var/tmp", "/dev/shm"]
                .iter()
                .any(|temporary| dir.starts_with(temporary))
    };
    let mut lasting = candidates.into_iter().filter(is_lasting);
    lasting
        .find_map(|dir| TempDir::with_prefix_in("etcd-ark-test-", dir).ok())
        .expect("no directory here is both writable and not for temporary files")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Puts a script in the place of `program`.
fn stub(dir: &Path, program: &str, script: &str) {
    let path = dir.join(program);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, mode).unwrap();
}
