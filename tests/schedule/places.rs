//! The paths in a unit: absolute, from flags and from the configuration file alike, and accessible inside the sandbox.

use super::{lasting_dir, printed, text, value};
use crate::support::prelude::*;

#[test]
fn a_path_is_one_that_systemd_heeds() {
    // systemd leaves out a path that has `..` in it, and the service could not write.
    let scratch = lasting_dir();
    let root = scratch.path().canonicalize().unwrap();
    fs::create_dir_all(root.join("a/b")).unwrap();
    std::os::unix::fs::symlink("a/b", root.join("link")).unwrap();
    let given = |path: &str| format!("{}/{path}", text(&root));
    let (data_dir, backups) = (given("link/../c/./d"), given("a/../link"));
    let flags = "--data-dir {} --backup-dir {}";
    let unit = printed(flags, &[&data_dir, &backups], ".service");
    assert_eq!(value(&unit, "ReadWritePaths"), given("a/b"));
    let mounts = format!("{} {}", given("a/c/d"), given("a/b"));
    assert_eq!(value(&unit, "RequiresMountsFor"), mounts);
    // A symlink that is turned later is followed then; what it is now must be mounted, too.
    let (link, file) = (given("link"), format!("file://{}/./x", given("link")));
    let flags = "--data-dir /d --repo {} --spool-dir {}";
    let unit = printed(flags, &[&file, &link], ".service");
    assert_eq!(value(&unit, "ReadWritePaths"), format!("{link}/x {link}"));
    let mounts = format!("/d {link}/x {0}/x {link} {0}", given("a/b"));
    assert_eq!(value(&unit, "RequiresMountsFor"), mounts);
    for kind in ["systemd", "cron"] {
        let lost = given("missing/../b");
        typed(
            "schedule --kind {} --data-dir /d --backup-dir {}",
            &[&kind, &lost],
        )
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
    let line = "--data-dir /d --backup-dir /b --config {}";
    let unit = printed(line, &[text(&config)], ".service");
    assert_eq!(value(&unit, "PrivateTmp"), "no");
    assert_eq!(
        value(&unit, "RequiresMountsFor"),
        format!("/d {} /b", text(&config))
    );
}

#[test]
fn a_backup_dir_that_the_sandbox_would_hide_is_not_hidden() {
    let unit = printed("--data-dir /d --backup-dir /var/tmp/b", &[], ".service");
    assert_eq!(value(&unit, "PrivateTmp"), "no");
    let unit = printed("--data-dir /root/d --backup-dir /b", &[], ".service");
    assert_eq!(value(&unit, "ProtectHome"), "read-only");
}

#[test]
fn the_service_can_write_to_what_its_flags_name_on_this_machine_and_to_nothing_else() {
    let unit = printed("--data-dir /d --repo s3://bucket/a", &[], ".service");
    assert_ends(&value(&unit, "ExecStart"), " --backup-dir=s3://bucket/a");
    assert!(!unit.contains("\nReadWritePaths="), "{unit}");
    let line = "--data-dir /d --repo file:///srv/a --spool-dir /srv/spool";
    let unit = printed(line, &[], ".service");
    assert_eq!(value(&unit, "ReadWritePaths"), "/srv/a /srv/spool");
    let line = "--data-dir /d --backup-dir /b --metrics-file /m/etcd.prom";
    let unit = printed(line, &[], ".service");
    assert_eq!(value(&unit, "ReadWritePaths"), "/b /m");
    assert!(unit.contains("setfacl -m u:etcd-ark:rwx /m\n"), "{unit}");
}

#[test]
fn the_packages_configuration_is_one_that_every_command_takes_also_with_all_of_it_in_force() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/etcd-ark.toml");
    let shipped = fs::read_to_string(shipped).unwrap();
    // A comment differs from a disabled setting by the space after its `#`.
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
        assert_begins(&value(&unit, "RequiresMountsFor"), "/var/lib/etcd/default");
        assert_begins(&value(&unit, "ReadWritePaths"), "/var/backups/etcd");
    }
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
    assert_has(&unit, "\n#     setfacl -m u:etcd-ark:rwx /m\n");
    // The typed place applies, and the other one is not used.
    let unit = told(&["--repo", "s3://bucket", "--spool-dir", "/spool2"]);
    assert_eq!(value(&unit, "ReadWritePaths"), "/spool2 /m");
    let line = value(&unit, "ExecStart");
    assert_ends(
        &line,
        " snapshot --backup-dir=s3://bucket --spool-dir=/spool2 --level=5",
    );
    fs::write(&config, "data-dir = 'd'\nbackup-dir = '/b'\n").unwrap();
    ark(["schedule", "--config", text(&config)])
        .exits(2)
        .says("the configuration file sets `data-dir` to `d`, which is somewhere else");
}

/// For a key that does not exist.
const AGE_RECIPIENT: &str = "age15xp4qasj4dfk8mys486j66n495gamu0ss6pkhltg0hwsql0m9g4sey3lzu";
