//! The selection of archives in a backup dir: `--member`, `--label` and `--since`, and a part of a name.
//!
//! In: archives of three members over several nights. Out: the same ones for `list`, `verify`, `copy` and `prune`.
//! Guards against a filter that works differently in one command, and against a wrong archive.

use crate::support::nights::Night;
use crate::support::prelude::*;

struct Scene {
    dir: TempDir,
    backups: PathBuf,
    /// The names of the archives, the oldest first: of each member, of each night.
    names: Vec<String>,
}

/// Four nights of three members, the last one a minute ago; of the first night all are labelled `pre-upgrade`, of the others `nightly`.
fn scene() -> Scene {
    let recording = unpack("upgrade-story");
    let dir = TempDir::with_prefix("ark-selection-").unwrap();
    let backups = dir.path().join("backups");
    let mut names = Vec::new();
    for number in [0, 1, 2] {
        let source = recording.data_dir(&format!("2-backup-infra{number}"));
        let night = Night::of(&snapshot(&source, &dir.path().join("made"), &[]).0);
        for ago in [72.0, 48.0, 24.0, 0.02] {
            let path = night.ago(&backups, ago, |manifest| {
                let first = ago > 71.0;
                let label = if first { "pre-upgrade" } else { "nightly" };
                manifest["labels"] = json!([label, "all"]);
            });
            names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        }
    }
    Scene {
        dir,
        backups,
        names,
    }
}

impl Scene {
    fn run(&self, command: &str, rest: &[&str]) -> Ran {
        let backups = self.backups.to_str().unwrap();
        ark([command, backups].iter().chain(rest))
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// The names that a list in a command's JSON holds, in order.
    fn told(told: &Value, list: &str, field: &str) -> Vec<String> {
        let all = told[list].as_array().unwrap().iter();
        let name = |one: &Value| {
            let path = Path::new(one[field].as_str().unwrap());
            path.file_name().unwrap().to_str().unwrap().to_owned()
        };
        let mut names: Vec<_> = all.map(name).collect();
        names.sort();
        names
    }
}

#[test]
fn a_filter_means_the_same_to_list_verify_copy_and_prune() {
    let scene = scene();
    let ids = typed("inspect --json {}", &[&scene.backups.join(&scene.names[4])]);
    let id = ids.json()["member"]["id"].as_str().unwrap().to_owned();
    let yesterday = (etcd_ark::clock::now() - jiff::SignedDuration::from_hours(30)).to_string();
    let cases = format!(
        "--member infra1 -> 4 5 6 7
         --member {id} -> 4 5 6 7
         --label pre-upgrade -> 0 4 8
         --label pre-upgrade,nightly --member infra2 -> 8 9 10 11
         --since 30h -> 2 3 6 7 10 11
         --since {yesterday} --label all --member infra0 -> 2 3
         --since 2015-10-01 --member infra0 -> 0 1 2 3
         -> 0 1 2 3 4 5 6 7 8 9 10 11"
    );
    for (number, case) in cases.lines().map(str::trim).enumerate() {
        let (flags, expected) = case.split_once("-> ").unwrap();
        let flags: Vec<_> = flags.split_whitespace().collect();
        let expected = expected.split(' ').map(|at| at.parse::<usize>().unwrap());
        let mut expected: Vec<_> = expected.map(|at| scene.names[at].clone()).collect();
        expected.sort();
        let listed = scene
            .run("list", &[&flags, &["--names"][..]].concat())
            .exits(0);
        let mut lines: Vec<_> = listed.stdout.lines().map(str::to_owned).collect();
        lines.sort();
        assert_eq!(lines, expected, "{flags:?}");
        let json = [&flags, &["--json"][..]].concat();
        let listed = scene.run("list", &json).exits(0).json();
        assert_eq!(
            Scene::told(&listed, "archives", "archive"),
            expected,
            "{flags:?}"
        );
        let verified = scene.run("verify", &json).exits(0).json();
        assert_eq!(
            Scene::told(&verified, "targets", "target"),
            expected,
            "{flags:?}"
        );
        let to = scene.path(&format!("to-{number}"));
        let copied = scene
            .run("copy", &[&[to.as_str()], &json[..]].concat())
            .exits(0);
        assert_eq!(Scene::told(&copied.json(), "archives", "archive"), expected);
        let pruned = [&["--keep-last", "1", "--dry-run"], &json[..]].concat();
        let pruned = scene.run("prune", &pruned).exits(0).json();
        assert_eq!(
            Scene::told(&pruned, "archives", "archive"),
            expected,
            "{flags:?}"
        );
    }
}

#[test]
fn pruning_some_leaves_the_others_and_a_filter_that_fits_nothing_is_no_success() {
    let scene = scene();
    for flags in [
        ["--member", "infra9"],
        ["--label", "nightyl"],
        ["--since", "1s"],
    ] {
        let to = scene.path("to");
        for (command, rest) in [
            ("verify", vec![]),
            ("copy", vec![to.as_str()]),
            ("prune", vec!["--keep-last", "1"]),
        ] {
            let told = scene.run(command, &[&rest[..], &flags].concat()).exits(10);
            told.says("no archives")
                .says(flags[1].trim_end_matches("1s"));
        }
        let listed = scene.run("list", &flags).exits(0);
        assert!(listed.stdout.starts_with("no archives "), "{listed:?}");
        let named = scene.run("list", &[&flags[..], &["--names"]].concat());
        let named = named.exits(0).says("note: no archives ");
        assert_eq!(named.stdout, "");
        assert!(!Path::new(&to).exists());
    }
    // One that cannot be opened may match: it is reported, and never removed.
    let torn = "etcd-infra7-20261127T061424.149Z-00000000000000fa.tar.zst";
    fs::write(scene.backups.join(torn), "torn").unwrap();
    let told = scene.run("verify", &["--member", "infra0"]).exits(4);
    assert!(told.stdout.contains(torn), "{told:#?}");

    let flags = [
        "--member",
        "infra1",
        "--label",
        "nightly",
        "--keep-last",
        "1",
    ];
    scene.run("prune", &flags).exits(0).says(torn);
    let removed = [&scene.names[5], &scene.names[6]];
    let mut expected: Vec<_> = scene
        .names
        .iter()
        .filter(|name| !removed.contains(name))
        .cloned()
        .collect();
    expected.push(torn.to_owned());
    expected.sort();
    let mut found = names(&scene.backups);
    found.retain(|name| name.ends_with(".tar.zst"));
    assert_eq!(found, expected);
}

#[test]
fn an_archive_is_named_by_a_part_of_its_name_wherever_one_is_read() {
    let scene = scene();
    let (old, new) = (&scene.names[4], &scene.names[7]);
    // The time of one night, as `list` shows it in the name.
    let part = old.split('-').nth(2).unwrap();
    let part = format!("infra1-{part}");
    let backups = scene.backups.to_str().unwrap();
    let at = |name: &str| scene.backups.join(name).to_str().unwrap().to_owned();
    let with = |args: &[&str]| ark(args.iter().chain(&["--json", "--backup-dir", backups]));

    let verified = with(&["verify", &part]).exits(0).json();
    assert_eq!(verified["targets"][0]["target"], json!(at(old)));
    assert_eq!(
        with(&["verify", new]).exits(0).json()["targets"][0]["target"],
        json!(at(new))
    );
    assert_eq!(
        with(&["inspect", &part]).exits(0).json()["target"],
        json!(at(old))
    );
    let restore = ["restore", &part, "--offline", "--dry-run", "--data-dir"];
    let restored = with(&[&restore[..], &[&scene.path("restored")]].concat())
        .exits(0)
        .json();
    assert_eq!(restored["archive"], json!(at(old)));
    with(&["keys", &part]).exits(0);
    with(&["diff", &part, "latest", "--member", "infra1"]).exits(0);
    let to = scene.path("to");
    let copied = scene.run("copy", &[&to, &part, "--json"]).exits(0).json();
    assert_eq!(Scene::told(&copied, "archives", "archive"), [old.as_str()]);

    let told = with(&["inspect", "infra1"]).exits(2).json_error();
    let message = told["message"].as_str().unwrap();
    assert_begins(&message, "`infra1` is in the names of 4 archives in `");
    assert!(message.contains(old) && message.contains(new), "{message}");
    let told = with(&["restore", "2", "--data-dir", &scene.path("restored")]).exits(2);
    assert_ends(
        &told.json_error()["message"].as_str().unwrap(),
        ", and 4 more",
    );
    scene
        .run("copy", &[&to, "infra1"])
        .exits(2)
        .says("4 archives");
    let told = with(&["inspect", "infra7"]).exits(10).json_error();
    assert_has(&told["message"], "no archive with that in its name");
    for every in ["etcd", ".tar.zst", "zst", "d-", "age"] {
        let told = with(&["inspect", every]).exits(2).json_error();
        assert_has(&told["message"], "is in the name of every archive");
    }
    // What is here by that name is meant, and without a backup dir there is nothing to look in.
    let mut here = clean(crate::support::ark::BINARY);
    here.current_dir(&scene.backups)
        .args(["inspect", "--json", new, "--backup-dir", "/nowhere"]);
    let told = run(&mut here).exits(0).json();
    assert_eq!(told["target"], json!(new));
    ark(["inspect", &part]).exits(10);
}

/// A cluster of the same names as that of `upgrade-story`, with other ids, in the same backup dir.
fn second_cluster(scene: &Scene) -> (String, String) {
    let night = Night::of(&scene.backups.join(&scene.names[7]));
    let path = night.ago(&scene.backups, 0.01, |manifest| {
        manifest["member"]["identity"]["cluster_id"] = json!("00000000000c0000");
        manifest["member"]["identity"]["member_id"] = json!("00000000000a0000");
    });
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    (name, "a0000".to_owned())
}

#[test]
fn tables_name_members_of_one_name_by_their_ids_too_and_prune_has_a_table_for_each_cluster() {
    // Guards against two rows that read alike after a member was replaced: which one is the removed member's?
    let scene = scene();
    let night = Night::of(&scene.backups.join(&scene.names[7]));
    night.ago(&scene.backups, 0.01, |manifest| {
        manifest["member"]["identity"]["member_id"] = json!("00000000000a0000");
    });
    let prune = ["--keep-last", "1", "--dry-run"];
    for told in [scene.run("list", &[]), scene.run("prune", &prune)] {
        let shown = told.exits(0).stdout;
        assert_has_each(&shown, &["infra1 (a0000)", "infra1 (4c068e21e5a08be2)"]);
        assert!(!shown.contains("infra0 ("), "{shown}");
        assert!(!shown.contains("infra1 \n"), "{shown}");
    }
    let shown = scene.run("prune", &prune).stdout;
    assert!(!shown.contains("cluster "), "{shown}");
    let (_, _) = second_cluster(&scene);
    let shown = scene.run("prune", &prune).exits(0).stdout;
    assert_begins(&shown, "cluster c0000\n");
    assert_has(&shown, "\ncluster aa1662aca318a75f\n");
}

#[test]
fn latest_is_never_a_guess_between_two_clusters_also_where_their_members_have_one_name() {
    let scene = scene();
    let backups = scene.backups.to_str().unwrap();
    let ids = typed("inspect --json {}", &[&scene.backups.join(&scene.names[4])]).json();
    let id = ids["member"]["id"].as_str().unwrap();
    let cluster = ids["member"]["cluster_id"].as_str().unwrap();
    let (other, other_id) = second_cluster(&scene);
    let new = scene.path("new");
    let to = scene.path("to");
    for command in [
        &["inspect", "latest"][..],
        &["keys", "latest"],
        &["diff", "latest", backups],
        &["drill", "latest", "--etcd", "/bin/true"],
        &["verify", "latest"],
        &["restore", "latest", "--offline", "--data-dir", &new],
        &["copy", backups, &to, "latest"],
    ] {
        for member in [&[][..], &["--member", "infra1"]] {
            let copy: &[&str] = &["--backup-dir", backups];
            let place = if command[0] == "copy" { &[] } else { copy };
            let told = ark(command.iter().chain(member).chain(place)).exits(2);
            let named = if member.is_empty() {
                ""
            } else {
                " named `infra1`"
            };
            told.says(&format!("backups of several members{named}: "))
                .says(&format!("infra1 ({id}) of cluster {cluster}"))
                .says(&format!("infra1 ({other_id}) of cluster c0000"));
        }
    }
    let with = |id: &str| {
        let args = ["inspect", "latest", "--member", id, "--backup-dir", backups];
        ark(args)
    };
    let told = with(id).exits(0);
    assert!(told.stdout.contains(&scene.names[7]), "{told:#?}");
    // The files in it are another member's, and it is the one that was looked at.
    with(&other_id).exits(4).says(&other);
}

#[test]
fn a_filter_holds_for_whatever_a_target_means() {
    let scene = scene();
    let backups = scene.backups.to_str().unwrap();
    let with = |args: &[&str]| ark(args.iter().chain(&["--json", "--backup-dir", backups]));
    let new = scene.path("new");
    let restore = |archive: &str, member: &str| {
        let args = ["restore", archive, "--offline", "--dry-run", "--data-dir"];
        with(&[&args[..], &[&new, "--member", member]].concat())
    };
    // All members have an archive of that day.
    let day = scene.names[4]
        .split('-')
        .nth(2)
        .unwrap()
        .split('T')
        .next()
        .unwrap();
    let told = restore(day, "infra1").exits(0).json();
    assert!(told["archive"].as_str().unwrap().ends_with(&scene.names[4]));
    let part = &scene.names[4][..scene.names[4].len() - 20];
    for named in [part, &scene.names[4]] {
        let told = restore(named, "infra2").exits(10).json_error();
        assert_has(&told["message"], "no archive of `infra2` in");
        assert_has(&told["message"], &scene.names[4]);
    }
    let verify = |target: &str, flag: &[&str]| with(&[&["verify", target], flag].concat());
    let member = ["--member", "infra1"];
    for (flag, code) in [
        (["--label", "nightly"], 10),
        (["--label", "pre-upgrade"], 0),
    ] {
        verify(part, &flag).exits(code);
    }
    let found = verify(
        "latest",
        &[&member[..], &["--label", "pre-upgrade"]].concat(),
    )
    .exits(0);
    let found = found.json()["targets"][0]["target"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(found.ends_with(&scene.names[4]), "{found}");
    let told = verify("latest", &[&member[..], &["--since", "1s"]].concat()).exits(10);
    assert_has(
        &told.json_error()["message"],
        "no backup of `infra1` since ",
    );
    let to = scene.path("to");
    let path = scene.backups.join(&scene.names[4]);
    let path = path.to_str().unwrap();
    for named in [part, path] {
        let args = [&to, named, "--member", "infra0"];
        scene
            .run("copy", &args)
            .exits(10)
            .says("no archive of `infra0`");
    }
    // A path is taken as it is, and must not contradict.
    restore(path, "infra1").exits(0);
    let told = restore(path, "infra2").exits(2).json_error();
    assert_has(&told["message"], "and not one of `infra2`");
    verify(path, &["--label", "nightly"]).exits(2);
    let recording = unpack("upgrade-story");
    let data_dir = recording.data_dir("2-backup-infra0");
    let data_dir = data_dir.to_str().unwrap();
    with(&["inspect", data_dir, "--member", "infra0"]).exits(0);
    let told = with(&["inspect", data_dir, "--member", "infra2"]).exits(2);
    assert_has(&told.json_error()["message"], "and not of `infra2`");
    let told = verify(data_dir, &["--label", "nightly"]).exits(2);
    assert_has(&told.json_error()["message"], "is a data dir");
    // The filter is for the one of the two that is looked for.
    with(&["diff", "latest", path, "--member", "infra2"]).exits(1);
    with(&["diff", data_dir, path, "--member", "infra2"]).exits(2);
}

#[test]
fn what_latest_passes_over_is_named_and_never_taken() {
    let scene = scene();
    let night = Night::of(&scene.backups.join(&scene.names[0]));
    let only = |change: &dyn Fn(&mut Value), hours: f64| {
        let place = tempfile::tempdir_in(scene.dir.path()).unwrap();
        let path = night.ago(place.path(), hours, |manifest| change(manifest));
        (place, path)
    };
    let told = |place: &Path| {
        let told = typed("inspect latest --json --backup-dir {}", &[&place]).exits(10);
        told.json_error()["message"].as_str().unwrap().to_owned()
    };
    let (place, _) = only(&|_| (), -9.0);
    assert_has(&told(place.path()), "passes over: 1 dated in the future");
    let (place, path) = only(&|_| (), 9.0);
    night.ago(place.path(), -9.0, |_| ());
    let found = typed("inspect latest --json --backup-dir {}", &[&place.path()]).exits(0);
    assert_eq!(found.json()["target"], json!(path));
    fs::write(&path, "torn").unwrap();
    let message = told(place.path());
    assert_has(&message, "1 dated in the future, 1 not readable");
    // Dated in the future by its name, it would not be the newest.
    let torn = night.ago(place.path(), -10.0, |_| ());
    fs::write(&torn, "torn").unwrap();
    fs::remove_file(&path).unwrap();
    night.ago(place.path(), 9.0, |_| ());
    typed("inspect latest --backup-dir {}", &[&place.path()]).exits(0);
}

#[test]
fn an_archive_that_a_wrong_clock_made_the_newest_is_not_taken_for_it() {
    // Seen: after the clock went back two hours, `latest` was the archive from before 15 acknowledged writes.
    let scene = scene();
    let night = Night::of(&scene.backups.join(&scene.names[0]));
    for hours_of_longest in [9.0, -9.0] {
        let place = tempfile::tempdir_in(scene.dir.path()).unwrap();
        night.ago(place.path(), 3.0, |_| ());
        let longest = night.ago(place.path(), hours_of_longest, |manifest| {
            manifest["member"]["position"]["index"] = json!(9999);
        });
        let told = typed("inspect latest --json --backup-dir {}", &[&place.path()]).exits(3);
        let message = told.json_error()["message"].as_str().unwrap().to_owned();
        assert_has(&message, "cannot be told");
        assert_has(&message, longest.file_name().unwrap().to_str().unwrap());
        assert_has(&message, "ends at entry 9999");
        let status = typed("status {}", &[&place.path()]).exits(1);
        assert_has(
            &status.stdout,
            "an archive with a longer log than the newest is dated",
        );
    }
}
