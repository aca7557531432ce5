//! What a run writes for Prometheus's textfile collector, in success and failure.
//!
//! In: runs of `snapshot` that succeed and fail. Out: the file, read by a strict parser of the exposition format
//! in this file, and by promtool if it is installed.
#![expect(
    clippy::float_cmp,
    reason = "whole numbers, and the same text read twice"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::prelude::*;

/// Series by name and labels, as they stand in the text.
type Metrics = BTreeMap<String, f64>;

/// Reads the exposition format as strictly as its description is: help and type once, before the series, which are
/// together; known escapes only; no series twice; a line feed at the end.
fn parse(text: &str) -> Result<Metrics, String> {
    let mut found = Metrics::new();
    let mut families: Vec<(String, bool, bool)> = Vec::new();
    if !text.ends_with('\n') {
        return Err("no line feed at the end".to_owned());
    }
    for line in text.lines() {
        let wrong = |why: &str| Err(format!("{why}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let Some((name, help)) = rest.split_once(' ') else {
                return wrong("no help");
            };
            if help.is_empty() || families.iter().any(|(known, ..)| known == name) {
                return wrong("a family again, or without help");
            }
            families.push((name.to_owned(), false, false));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            match families.last_mut() {
                Some((name, typed @ false, _)) if rest == format!("{name} gauge") => *typed = true,
                _ => return wrong("type where no type belongs"),
            }
        } else {
            let Some((series, value)) = line.rsplit_once(' ') else {
                return wrong("no value");
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            match families.last_mut() {
                Some((family, true, used)) if family == name => *used = true,
                _ => return wrong("a series outside of its family"),
            }
            check_labels(labels).map_err(|why| format!("{why}: {line}"))?;
            let Ok(value) = value.parse::<f64>() else {
                return wrong("no number");
            };
            if found.insert(series.to_owned(), value).is_some() {
                return wrong("a series twice");
            }
        }
    }
    match families.iter().find(|(_, _, used)| !used) {
        Some((name, ..)) => Err(format!("{name} has no series")),
        None => Ok(found),
    }
}

fn check_labels(labels: &str) -> Result<(), &'static str> {
    let mut rest = labels;
    let mut seen = Vec::new();
    while rest != "}" {
        let (name, after) = rest.split_once("=\"").ok_or("no label")?;
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(letter) || !name.chars().all(|c| letter(c) || c.is_ascii_digit()) {
            return Err("no name of a label");
        }
        if seen.contains(&name) {
            return Err("a label twice");
        }
        seen.push(name);
        let mut escaped = false;
        let end = after.char_indices().find(|(_, c)| {
            let ends = !escaped && *c == '"';
            escaped = !escaped && *c == '\\';
            ends
        });
        let (end, _) = end.ok_or("a label without end")?;
        let mut value = after[..end].chars();
        while let Some(c) = value.next() {
            if c == '\\' && !matches!(value.next(), Some('\\' | '"' | 'n')) {
                return Err("an unknown escape");
            }
        }
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Ok(())
}

/// The file's metrics, which promtool has nothing to say against either.
#[track_caller]
fn metrics(file: &Path) -> Metrics {
    let text = fs::read_to_string(file).unwrap();
    if need("promtool") {
        let mut promtool = clean("promtool");
        promtool.args(["check", "metrics"]);
        promtool.stdin(Stdio::from(std::fs::File::open(file).unwrap()));
        let ran = run(&mut promtool).exits(0);
        assert_eq!(ran.stderr, "", "promtool objects to\n{text}");
    }
    parse(&text).unwrap_or_else(|why| panic!("{why}\n{text}"))
}

struct Scene {
    recording: Recording,
    dir: TempDir,
    file: std::path::PathBuf,
}

fn scene() -> Scene {
    let dir = TempDir::with_prefix("ark-metrics-").unwrap();
    let metrics = dir.path().join("metrics");
    fs::create_dir(&metrics).unwrap();
    Scene {
        recording: unpack("mem-a"),
        file: metrics.join("etcd_ark.prom"),
        dir,
    }
}

impl Scene {
    fn command(&self, data_dir: &Path, flags: &[&str]) -> std::process::Command {
        let mut command = clean(BINARY);
        command.arg("snapshot").arg("--data-dir").arg(data_dir);
        command
            .arg("--backup-dir")
            .arg(self.dir.path().join("backups"));
        command.arg("--metrics-file").arg(&self.file).args(flags);
        command
    }

    fn snapshot(&self, flags: &[&str]) -> Ran {
        run(&mut self.command(&self.recording.data_dir("mem-a"), flags))
    }

    fn fail(&self, flags: &[&str]) -> Ran {
        run(&mut self.command(&self.dir.path().join("nowhere"), flags))
    }
}

const RUN: &str = r#"etcd_ark_last_run_timestamp_seconds{command="snapshot"}"#;
const SUCCESS: &str = r#"etcd_ark_last_success_timestamp_seconds{command="snapshot"}"#;
const CODE: &str = r#"etcd_ark_last_run_exit_code{command="snapshot"}"#;
const DURATION: &str = r#"etcd_ark_last_run_duration_seconds{command="snapshot"}"#;

#[test]
fn a_good_run_says_what_it_made_and_a_failed_one_leaves_that_standing() {
    let scene = scene();
    let before = etcd_ark::clock::now().as_millisecond() as f64 / 1000.0;
    let told = scene.snapshot(&["--json"]).exits(0).json();
    let after = etcd_ark::clock::now().as_millisecond() as f64 / 1000.0;
    let good = metrics(&scene.file);
    assert!((before..=after).contains(&good[RUN]), "{good:#?}");
    assert_eq!(good[SUCCESS], good[RUN]);
    assert_eq!(good[CODE], 0.0);
    assert!(good[DURATION] > 0.0 && good[DURATION] < 60.0, "{good:#?}");
    let identity = &told["manifest"]["member"]["identity"];
    let labels = format!(
        r#"{{command="snapshot",cluster_id={},member_id={},member={}}}"#,
        identity["cluster_id"], identity["member_id"], identity["name"]
    );
    let of = |name: &str| good[&format!("etcd_ark_{name}{labels}")];
    assert_eq!(
        [of("last_archive_starts"), of("last_archive_warnings")],
        [1.0, 0.0]
    );
    assert_eq!(
        of("last_archive_bytes"),
        told["archive_bytes"].as_f64().unwrap()
    );
    let member = &told["manifest"]["member"];
    let index = member["position"]["index"].as_f64().unwrap();
    assert_eq!(of("last_archive_raft_index"), index);
    let sizes = &told["manifest"]["sizes"];
    assert_eq!(of("data_size_bytes"), sizes["data"].as_f64().unwrap());
    assert_eq!(of("data_size_limit_bytes"), 100e6);
    assert!((before..=after).contains(&of("last_archive_timestamp_seconds")));
    assert_eq!(good.len(), 11);

    scene.fail(&[]).exits(10);
    let failed = metrics(&scene.file);
    assert_eq!(failed[CODE], 10.0);
    assert_eq!(failed[SUCCESS], good[SUCCESS]);
    assert!(failed[RUN] > good[RUN]);
    let rest = |metrics: &Metrics| -> Metrics {
        let all = metrics.clone().into_iter();
        all.filter(|(name, _)| !name.contains("last_run")).collect()
    };
    assert_eq!(rest(&failed), rest(&good));

    scene
        .snapshot(&["--size-limit", "1kB", "--strict"])
        .exits(5);
    let warned = metrics(&scene.file);
    assert_eq!(warned[CODE], 5.0);
    assert_eq!(warned[SUCCESS], warned[RUN]);
    assert_eq!(names(scene.file.parent().unwrap()), ["etcd_ark.prom"]);
}

#[test]
fn a_first_run_that_fails_says_that_none_ever_succeeded() {
    // Guards against a rule on the age of the last success that has nothing to compare and stays silent.
    let scene = scene();
    scene.fail(&[]).exits(10);
    let told = metrics(&scene.file);
    assert_eq!(told[SUCCESS], 0.0);
    assert_eq!(told[CODE], 10.0);
    assert_eq!(told.len(), 4);
}

#[test]
fn another_command_that_shares_the_file_keeps_its_series() {
    let scene = scene();
    let others = "# HELP etcd_ark_last_run_exit_code As another release words it.\n\
        # TYPE etcd_ark_last_run_exit_code gauge\n\
        etcd_ark_last_run_exit_code{command=\"prune\"} 3\n\
        # HELP etcd_ark_archives_kept Kept.\n\
        # TYPE etcd_ark_archives_kept gauge\n\
        etcd_ark_archives_kept{command=\"prune\",member=\"a \\\"b\\\" \\\\ \\n, c\"} 17\n";
    fs::write(&scene.file, others).unwrap();
    scene.snapshot(&[]).exits(0);
    let told = metrics(&scene.file);
    assert_eq!(told[r#"etcd_ark_last_run_exit_code{command="prune"}"#], 3.0);
    let kept = r#"etcd_ark_archives_kept{command="prune",member="a \"b\" \\ \n, c"}"#;
    assert_eq!(told[kept], 17.0);
    assert_eq!(told[CODE], 0.0);
}

#[test]
fn the_file_is_there_for_others_to_read_whatever_the_umask() {
    let scene = scene();
    let line = format!("umask 077; exec {}", shell(&scene));
    run(clean("sh").args(["-c", &line])).exits(0);
    let mode = fs::metadata(&scene.file).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644);
    // A link keeps leading where it leads.
    let real = scene.dir.path().join("real.prom");
    fs::rename(&scene.file, &real).unwrap();
    fs_err::os::unix::fs::symlink(&real, &scene.file).unwrap();
    let before = metrics(&real);
    scene.snapshot(&[]).exits(0);
    assert!(scene.file.is_symlink());
    assert!(metrics(&real)[RUN] > before[RUN]);
}

fn shell(scene: &Scene) -> String {
    let data_dir = scene.recording.data_dir("mem-a");
    let command = scene.command(&data_dir, &[]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    words.join(" ")
}

#[test]
fn a_reader_meanwhile_reads_all_of_it_or_nothing() {
    let scene = scene();
    scene.snapshot(&["-q"]).exits(0);
    let done = AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                let text = fs::read_to_string(&scene.file).unwrap();
                assert_eq!(parse(&text).unwrap().len(), 11, "{text}");
                looks += 1;
            }
            looks
        });
        for _ in 0..5 {
            scene.snapshot(&["-q"]).exits(0);
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(looks > 5, "{looks}");
}

#[test]
fn a_file_that_is_not_ours_is_left_alone() {
    let scene = scene();
    for foreign in [
        "node_load1 0.5\n",
        "# HELP etcd_ark_x y\n\u{1}\n",
        "etcd_ark_x{ 1\n",
    ] {
        fs::write(&scene.file, foreign).unwrap();
        let ran = scene.snapshot(&[]).exits(1);
        let ran = ran.says("the snapshot is done, but its metrics could not be written: ");
        ran.says("was not written by etcd-ark (line ")
            .says("hint: it was left as it is");
        assert_eq!(fs::read_to_string(&scene.file).unwrap(), foreign);
    }
    // One that is empty holds nothing of anyone's.
    fs::write(&scene.file, "").unwrap();
    scene.snapshot(&[]).exits(0);
    assert_eq!(metrics(&scene.file).len(), 11);
    // As root, a rename over a device would take it away from the whole machine.
    fs::remove_file(&scene.file).unwrap();
    fs_err::os::unix::fs::symlink("/dev/null", &scene.file).unwrap();
    scene
        .snapshot(&[])
        .exits(1)
        .says("`/dev/null` is not a regular file");
}

#[test]
fn a_dry_run_leaves_no_success_behind() {
    let scene = scene();
    scene.snapshot(&[]).exits(0);
    let before = fs::read_to_string(&scene.file).unwrap();
    let mut prune = clean(BINARY);
    prune.arg("prune").arg(scene.dir.path().join("backups"));
    prune.args(["--keep-last", "1", "--dry-run", "--metrics-file"]);
    run(prune.arg(&scene.file)).exits(0);
    assert_eq!(fs::read_to_string(&scene.file).unwrap(), before);
}

#[test]
fn a_link_to_a_file_that_is_not_there_yet_goes_on_leading_there() {
    let scene = scene();
    let there = scene.dir.path().join("there.prom");
    std::os::unix::fs::symlink("../there.prom", &scene.file).unwrap();
    scene.snapshot(&[]).exits(0);
    assert!(scene.file.is_symlink());
    assert!(metrics(&there).contains_key(SUCCESS));
}

#[test]
fn what_the_tool_keeps_beside_archives_is_no_file_for_metrics() {
    let mut scene = scene();
    scene.snapshot(&[]).exits(0);
    let backups = scene.dir.path().join("backups");
    for name in [
        ".etcd-ark-lock",
        "etcd-a.tar.zst",
        "etcd-a.tar.zst.age.json",
        "etcd-a.tar.zst.sha256",
    ] {
        scene.file = backups.join(name);
        fs::write(&scene.file, "").unwrap();
        scene.snapshot(&[]).exits(1).says("files of its own");
        assert_eq!(fs::read_to_string(&scene.file).unwrap(), "", "{name}");
    }
}

#[test]
fn metrics_that_cannot_be_written_do_not_go_unnoticed() {
    // Guards against monitoring that looks at old numbers and finds them good.
    let mut scene = scene();
    scene.file = scene.dir.path().join("gone/etcd_ark.prom");
    let ran = scene.snapshot(&["--json"]).exits(1);
    let error = ran.json_error();
    let message = error["message"].as_str().unwrap();
    assert_begins(
        &message,
        "the snapshot is done, but its metrics could not be written: ",
    );
    assert_eq!(error["kind"], "failed");
    // The archive is there, and stdout says so.
    assert!(Path::new(ran.json()["archive"].as_str().unwrap()).is_file());
    // A run that failed by itself says both, in one object, with its own code.
    let error = scene.fail(&["--json"]).exits(10).json_error();
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("there is no data dir at "), "{message}");
    assert_has(&message, "; and its metrics could not be written: ");
}

#[test]
fn promtool_takes_the_alert_rules() {
    only_with!(need("promtool"));
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/examples/etcd-ark.rules.yml");
    let mut promtool = clean("promtool");
    let told = run(promtool.args(["check", "rules"]).arg(rules)).exits(0);
    assert!(told.stdout.contains("7 rules found"), "{told:?}");
}

#[test]
fn the_strict_parser_of_these_stories_is_strict() {
    let good = "# HELP a A.\n# TYPE a gauge\na{x=\"1\\\\\\\"\",y=\"\"} 1\na{x=\"2\"} 2\n";
    assert_eq!(parse(good).unwrap().len(), 2);
    for bad in [
        &good[..good.len() - 1],
        "a 1\n",
        "# HELP a A.\na 1\n",
        "# TYPE a gauge\na 1\n",
        "# HELP a A.\n# TYPE a gauge\n",
        "# HELP a A.\n# TYPE a gauge\nb 1\n",
        "# HELP a A.\n# TYPE a gauge\na{x=\"1} 1\n",
        "# HELP a A.\n# TYPE a gauge\na{x=\"\\q\"} 1\n",
        "# HELP a A.\n# TYPE a gauge\na{1x=\"\"} 1\n",
        "# HELP a A.\n# TYPE a gauge\na{x=\"\"} one\n",
        "# HELP a A.\n# TYPE a gauge\na 1\na 2\n",
        "# HELP a A.\n# TYPE a gauge\na{x=\"\",x=\"\"} 1\n",
    ] {
        parse(bad).expect_err(bad);
    }
}
