//! What an operator does with the text: the commands in it, the warnings, what is refused, who is told of a failure.

use super::{lasting_dir, printed, stub, text};
use crate::support::prelude::*;

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
    // `install -d -m 0700` on /tmp locks everyone out.
    let scratch = lasting_dir();
    let there = text(scratch.path());
    let missing = scratch.path().join("new");
    let installs = |backups: &str, spool: &str| {
        let line = "--data-dir /d --backup-dir {} --spool-dir {}";
        let unit = printed(line, &[backups, spool], ".service");
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
    assert_has(
        &notes[0],
        "/tmp must be there, and etcd-ark be able to write to it",
    );
    let (commands, notes) = installs(there, there);
    assert_eq!(commands, [""; 0]);
    assert_has(&notes[0], "is there: etcd-ark must be able to write to it");
    for temporary in ["/tmp", "/var/tmp/no-such-directory", "/dev/shm/x"] {
        let (commands, notes) = installs(temporary, there);
        assert_eq!(commands, [""; 0]);
        assert!(notes[0].contains("not a place for backups"), "{notes:?}");
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
    // Also without a data dir.
    typed("schedule --data-dir /no/such --backup-dir /no/such/b", &[])
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
        .says("warning: every scheduled run would fail: there is no data dir at `/no/such`");
    assert!(told.stdout.contains("\nExecStart="), "{told:#?}");
    let told = ark([&["--json"], &args[..]].concat()).exits(0);
    assert_eq!(told.json()["warnings"].as_array().unwrap().len(), 2);
    assert_eq!(told.stderr, "");
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
    let unit = printed("--data-dir /d --backup-dir /b", &[], ".service");
    let in_text: Vec<_> = lines.iter().map(|line| format!("#     {line}")).collect();
    let in_text = in_text.join("\n");
    assert!(unit.contains(&in_text), "{unit}");
    assert_has(&unit, "\n#OnFailure=etcd-ark-failed@%n.service\n");
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
    only_with!(need("systemd-analyze"));
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
fn what_no_line_of_text_can_hold_is_refused() {
    for kind in ["systemd", "cron"] {
        typed(
            "schedule --kind {} --data-dir /d --backup-dir {}",
            &[&kind, &"/a\nUser=root"],
        )
        .exits(2)
        .says("cannot be written into a unit or a crontab");
    }
    let long = format!("/{}", "x/".repeat(500));
    typed(
        "schedule --kind cron --data-dir /d --backup-dir {}",
        &[&long],
    )
    .exits(2)
    .says("cron takes 998");
    typed(
        "schedule --data-dir /d --backup-dir /b --run-as {}",
        &[&"a b"],
    )
    .exits(2)
    .says("a user is named by");
    typed("schedule --data-dir /d --backup-dir /b --every 7m", &[])
        .exits(2)
        .says("must divide an hour or a day");
}

fn with_stubs(dir: &Path) -> String {
    format!("{}:{}", text(dir), std::env::var("PATH").unwrap())
}
