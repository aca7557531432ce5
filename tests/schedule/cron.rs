//! The line for cron, run as cron runs it.
//!
//! In: the output of `schedule --kind cron`. Out: what the shell runs, with a disk, a credential or a lock missing.

use super::{HARD, NO_CONFIG, lasting_dir, printed, stub, text};
use crate::support::prelude::*;

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
    let line = "--kind cron --data-dir /d --backup-dir {} --label {}";
    let text = printed(line, &[&dir, &hard], "/etc/cron.d/etcd-ark");
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
    let args = words(
        "--kind cron --data-dir testdata/infra0.etcd --backup-dir {}",
        &[&"back ups"],
    );
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
fn cron_gives_a_bucket_its_credentials_and_one_run_at_a_time() {
    // Guards against a bucket that is never written to, because cron passes on nothing of a shell's environment.
    only_with!(need("flock"));
    let line = "--kind cron --data-dir /d --repo s3://bucket/a";
    let file = printed(line, &[], "etcd-ark");
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
    assert_ne!(told.code, 0, "{told:#?}");
    assert_eq!(told.stdout, "");
    told.says("default");
    fs::write(&credentials, "AWS_ACCESS_KEY_ID=me\n").unwrap();
    let told = cron().exits(0);
    assert_eq!(
        told.stdout,
        "me: --quiet --config= snapshot --data-dir=/d --backup-dir=s3://bucket/a\n"
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
    only_with!(need_root() && need("unshare") && need("mountpoint"));
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
    let ran = in_own_mounts(script, &[&source, &disk]).exits(0);
    assert_eq!(ran.stdout, "1\ncode 1\n", "{ran:#?}");
    assert_has(
        &ran.stderr,
        "the disk is not mounted: no snapshot was taken",
    );
    let line = "--kind cron --data-dir /d --backup-dir /no-such-directory";
    let file = printed(line, &[], "etcd-ark");
    assert!(
        file.contains("No flock(1) is needed") && file.contains("is on the root disk now"),
        "{file}"
    );
}

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
    let line = printed("--kind cron --config {}", &[text(&config)], "etcd-ark");
    let command = as_cron_reads(line.lines().last().unwrap());
    configure("second");
    run(clean("sh").args(["-c", &command]).current_dir("/")).exits(0);
    assert_eq!(names(&at("first")).len(), 0);
    assert_eq!(names(&at("second")).len(), 2);
}
