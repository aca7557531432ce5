//! Retention on real archives: what is removed, what is kept, and what an interrupted run leaves.

use jiff::{SignedDuration, Timestamp};

use crate::support::nights::Night;
use crate::support::prelude::*;
use crate::support::{ark, tools};

/// A backup dir with an archive of each of `nights` nights, the newest last.
struct Place {
    dir: TempDir,
    night: Night,
}

fn place(nights: u64) -> Place {
    let dir = TempDir::new().unwrap();
    let made = dir.path().join("made");
    let (archive, _) = ark::snapshot(Path::new("testdata/infra0.etcd"), &made, &[]);
    let night = Night::of(&archive);
    fs::create_dir(dir.path().join("backups")).unwrap();
    let place = Place { dir, night };
    for number in 0..nights {
        place.add(number, |_| ());
    }
    place
}

fn at(night: u64) -> Timestamp {
    let first: Timestamp = "2015-09-01T02:00:00Z".parse().unwrap();
    first + SignedDuration::from_hours(24 * night.cast_signed())
}

impl Place {
    fn backups(&self) -> PathBuf {
        self.dir.path().join("backups")
    }

    /// An archive of that night, with its `.sha256`, and with a log that grows each night.
    fn add(&self, night: u64, change: impl FnOnce(&mut Value)) -> PathBuf {
        let archive = self.night.put(&self.backups(), at(night), |manifest| {
            for field in ["index", "commit"] {
                manifest["member"]["position"][field] = json!(1000 + night);
            }
            change(manifest);
        });
        let sum = format!("{}.sha256", archive.display());
        fs::write(sum, "of no concern here\n").unwrap();
        archive
    }

    fn prune(&self, flags: &[&str]) -> Ran {
        let backups = self.backups();
        let args = ["--json", "prune", backups.to_str().unwrap()];
        ark(args.into_iter().chain(flags.iter().copied()))
    }

    fn archives(&self) -> Vec<String> {
        let mut all = names(&self.backups());
        all.retain(|name| name.ends_with(".tar.zst"));
        all
    }

    /// Whether each archive has its `.sha256`, and there are no other files.
    fn is_tidy(&self) -> bool {
        let all = names(&self.backups());
        let own = |name: &&String| !name.starts_with(".etcd-ark-");
        let beside: Vec<_> = self
            .archives()
            .iter()
            .flat_map(|name| [name.clone(), format!("{name}.sha256")])
            .collect();
        all.iter().filter(own).cloned().collect::<Vec<_>>() == beside
    }
}

#[test]
fn a_dry_run_says_what_a_run_then_does() {
    let place = place(20);
    // Not even a lock or a note of what was proven is left.
    let before = names(&place.backups());
    let flags = ["--keep-last=2", "--keep-daily=4", "--keep-weekly=3"];
    let told = place
        .prune(&[&flags[..], &["--dry-run"]].concat())
        .exits(0)
        .json();
    assert_eq!(names(&place.backups()), before);
    assert_eq!(told["to_be_removed"], 14);
    assert_eq!(told["removed_bytes"], 0);
    let stays: Vec<String> = told["archives"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|archive| archive["keep"] == true)
        .map(|archive| {
            archive["archive"]
                .as_str()
                .unwrap()
                .rsplit('/')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect();
    // 20 nights from Tuesday 1 September 2015: the last four days, and the newest of two weeks before.
    let expected = [19, 18, 17, 16, 12, 5].map(|night| at(night).strftime("%Y%m%d").to_string());
    assert_eq!(stays.len(), expected.len(), "{told:#}");
    for (name, day) in stays.iter().zip(&expected) {
        assert!(name.contains(day.as_str()), "{name} is not of {day}");
    }
    let table = typed("prune {} --dry-run --keep-last=2", &[&place.backups()])
        .exits(0)
        .stdout;
    assert_eq!(table.matches("REMOVE").count(), 18, "{table}");
    assert!(
        table.contains("keep-last 1/2") && table.contains("2 kept ("),
        "{table}"
    );
    let ran = place.prune(&flags).exits(0);
    assert_eq!(ran.json()["removed"], 14);
    assert_eq!(ran.json()["removed_bytes"], told["to_be_removed_bytes"]);
    let mut kept = place.archives();
    kept.reverse();
    assert_eq!(kept, stays);
    assert!(place.is_tidy(), "{:?}", names(&place.backups()));
    // Another run finds nothing left to do, and off a terminal says nothing.
    let again = typed(
        "prune {} --keep-last=2 --keep-daily=4 --keep-weekly=3",
        &[&place.backups()],
    )
    .exits(0);
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", ""));
}

#[test]
fn a_policy_that_keeps_nothing_is_wrong_usage() {
    let place = place(3);
    place
        .prune(&["--keep-label=x"])
        .exits(2)
        .says("add another rule");
    for flags in [&[][..], &["--keep-last=0"], &["--keep-within=0s"]] {
        place.prune(flags).exits(2);
    }
    assert_eq!(place.archives().len(), 3);
    let data_dir = "testdata/infra0.etcd";
    let backups = place.dir.path().join("none");
    typed(
        "snapshot --data-dir {} --backup-dir {} --keep-label=x",
        &[&data_dir, &backups],
    )
    .exits(2);
    assert!(!backups.exists());
}

#[test]
fn what_does_not_check_counts_for_nothing_and_stays() {
    let place = place(6);
    let all = place.archives();
    flip(&place.backups().join(&all[5]), 1000);
    flip(&place.backups().join(&all[3]), 1000);
    fs::write(place.backups().join(&all[1]), b"nonsense").unwrap();
    let ran = typed("--strict prune {} --keep-last=2", &[&place.backups()]).exits(5);
    assert_eq!(
        ran.stderr.matches("it stays and does not count").count(),
        3,
        "{ran:?}"
    );
    // Two good ones, and the three that are not.
    let kept: Vec<_> = [1, 2, 3, 4, 5].map(|night| all[night].clone()).to_vec();
    assert_eq!(place.archives(), kept);
}

#[test]
fn the_way_back_before_a_move_stays_for_good() {
    let place = place(0);
    let version = |version: &'static str| {
        move |manifest: &mut Value| {
            manifest["member"]["cluster_version"] = json!(version);
        }
    };
    for night in 0..10 {
        place.add(night, version("2.1.0"));
    }
    for night in 10..100 {
        place.add(night, version("2.2.0"));
    }
    place.add(100, |manifest| {
        version("2.2.0")(manifest);
        manifest["labels"] = json!(["pre-upgrade"]);
    });
    place.add(101, version("2.2.0"));
    place
        .prune(&["--keep-last=1", "--keep-label=pre-upgrade"])
        .exits(0);
    let days: Vec<_> = [9, 100, 101]
        .map(|night| at(night).strftime("%Y%m%d").to_string())
        .to_vec();
    let kept = place.archives();
    assert_eq!(kept.len(), 3, "{kept:?}");
    for (name, day) in kept.iter().zip(&days) {
        assert!(name.contains(day.as_str()), "{name} is not of {day}");
    }
}

#[test]
fn a_snapshot_prunes_its_own_member_only_and_a_failed_one_nothing() {
    let place = place(4);
    // Another member's, older than all.
    for night in 0..3 {
        place.add(night, |manifest| {
            manifest["member"]["identity"]["member_id"] = json!("abcdef");
            manifest["member"]["identity"]["name"] = json!("infra9");
        });
    }
    let backups = place.backups();
    let args = [
        "--json",
        "snapshot",
        "--backup-dir",
        backups.to_str().unwrap(),
        "--keep-last=1",
        "--data-dir",
    ];
    ark(args.into_iter().chain(["testdata/nowhere"])).exits(10);
    assert_eq!(place.archives().len(), 7);
    // A real snapshot of the same member, whose log is behind those of the forged nights: it stays, and so does the newest.
    let told = ark(args.into_iter().chain(["testdata/infra0.etcd"]))
        .exits(0)
        .json();
    assert_eq!(told["pruned"]["removed"], 3, "{told:#}");
    let kept = place.archives();
    let of = |member: &str| kept.iter().filter(|name| name.contains(member)).count();
    assert_eq!((of("-infra0-"), of("-infra9-")), (2, 3), "{kept:?}");
}

#[test]
fn killed_at_any_removal_only_whole_archives_are_left_and_the_next_run_ends_it() {
    only_with!(tools::need("strace"));
    for number in 1..=9 {
        let place = place(5);
        let mut command = clean("strace");
        command
            .args(words("-f -qq -o /dev/null -e trace=unlink,unlinkat", &[]))
            .arg("-e")
            .arg(format!("inject=unlink,unlinkat:signal=KILL:when={number}"))
            .args([ark::BINARY, "prune", "--keep-last=1"])
            .arg(place.backups());
        let ran = ark::run(&mut command);
        if number <= 8 {
            assert_ne!(ran.code, 0, "the blow {number} did not fall: {ran:?}");
        }
        // Whatever is there proves: a strict run has no warning.
        let told = place
            .prune(&["--strict", "--dry-run", "--keep-last=9"])
            .exits(0)
            .json();
        let left = told["archives"].as_array().unwrap().len();
        assert_eq!(left, place.archives().len(), "{number}: {told:#}");
        place.prune(&["--keep-last=1"]).exits(0);
        assert_eq!(place.archives().len(), 1);
        assert!(place.is_tidy(), "{number}: {:?}", names(&place.backups()));
    }
}

#[test]
fn what_cannot_be_removed_is_said_and_nothing_is_lost() {
    only_with!(tools::need("unshare") && tools::need_root());
    let place = place(4);
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && \"$ARK\" prune \"$1\" --keep-last=1";
    let ran = tools::in_own_mounts(script, &[&place.backups()]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("read-only") || ran.stderr.contains("Read-only"),
        "{ran:?}"
    );
    assert_eq!(place.archives().len(), 4);
}

#[test]
fn an_archive_is_read_again_only_when_its_proof_is_old_or_its_file_another() {
    let place = place(3);
    let reads = |flags: &[&str]| -> usize {
        let backups = place.backups();
        let args = ["-v", "prune", backups.to_str().unwrap(), "--keep-last=5"];
        ark(args.into_iter().chain(flags.iter().copied()))
            .exits(0)
            .stderr
            .matches("reading etcd-")
            .count()
    };
    assert_eq!(reads(&[]), 3);
    assert_eq!(reads(&[]), 0);
    assert_eq!(reads(&["--prove-again-after=0s"]), 3);
    // Touched, it may be another one.
    let all = place.archives();
    flip(&place.backups().join(&all[0]), 1000);
    let ran = place.prune(&["--keep-last=5"]).exits(0);
    assert_eq!(
        ran.json()["archives"][2]["reasons"][0]["rule"],
        "bad",
        "{ran:?}"
    );
    fs::write(place.backups().join(".etcd-ark-proofs.json"), "nonsense").unwrap();
    assert_eq!(reads(&[]), 3);
}

#[test]
fn one_that_cannot_be_removed_is_said_and_the_rest_goes() {
    only_with!(tools::need("strace"));
    let place = place(5);
    let all = place.archives();
    let mut command = clean("strace");
    command
        .args(["-f", "-qq", "-o", "/dev/null"])
        .args(["-e", "trace=unlink,unlinkat"])
        .args(["-e", "inject=unlink,unlinkat:error=EPERM:when=1"])
        .args([ark::BINARY, "prune", "--keep-last=1"])
        .arg(place.backups());
    let ran = ark::run(&mut command)
        .exits(1)
        .says("1 of 4 archives could not be removed")
        .says(&all[0]);
    // The result is printed without a terminal, too.
    assert_eq!(ran.stdout.matches("REMOVED").count(), 3, "{ran:#?}");
    assert_eq!(ran.stdout.matches("FAILED").count(), 1, "{ran:#?}");
    assert_eq!(place.archives(), [all[0].clone(), all[4].clone()]);
    assert!(place.is_tidy(), "{:?}", names(&place.backups()));
    place.prune(&["--keep-last=1"]).exits(0);
    assert_eq!(place.archives(), [all[4].clone()]);
}

#[test]
fn a_wrong_clock_is_said_and_what_it_dated_stays() {
    let place = place(4);
    // One from the year 2115, and one whose log ends where the first one's does, dated after all of them.
    place.add(36_600, |_| ());
    place.add(50, |manifest| {
        manifest["member"]["position"]["index"] = json!(999);
    });
    let backups = place.backups();
    let args = ["--strict", "prune", backups.to_str().unwrap()];
    ark(args.into_iter().chain(["--keep-last=1"]))
        .exits(5)
        .says("1 of 6 archives is dated in the future")
        .says("1 of 6 archives is dated against the order of the log");
    assert_eq!(place.archives().len(), 3);
}

#[test]
fn what_a_snapshot_has_just_proven_is_not_read_again() {
    let place = place(0);
    let backups = place.backups();
    let reads = || -> usize {
        let args = ["-v", "snapshot", "--backup-dir", backups.to_str().unwrap()];
        let flags = ["--keep-last=3", "--data-dir", "testdata/infra0.etcd"];
        let ran = ark(args.into_iter().chain(flags)).exits(0);
        assert!(ran.stdout.contains("kept"), "{ran:#?}");
        ran.stderr.matches("reading etcd-").count()
    };
    assert_eq!([reads(), reads(), reads()], [0, 0, 0]);
    // The same as a run later finds it noted.
    let ran = ark(["-v", "prune", backups.to_str().unwrap(), "--keep-last=3"]).exits(0);
    assert!(!ran.stderr.contains("reading etcd-"), "{ran:#?}");
    assert_eq!(place.archives().len(), 3);
}

#[test]
fn a_link_to_an_archive_does_not_have_it_removed() {
    // Guards against `etcd-latest.tar.zst`, which an operator's own script makes.
    for link in ["etcd-a.tar.zst", "etcd-zz.tar.zst"] {
        let place = place(4);
        let newest = place.archives().pop().unwrap();
        std::os::unix::fs::symlink(&newest, place.backups().join(link)).unwrap();
        let told = place.prune(&["--keep-last=1"]).exits(0).json();
        assert_eq!(told["removed"], 3, "{told}");
        let backups = place.backups();
        assert!(backups.join(&newest).is_file(), "{told}");
        assert!(backups.join(link).is_file(), "{told}");
    }
}

#[test]
fn an_archive_that_rotted_since_it_was_proven_has_none_removed_for_its_sake() {
    let place = place(4);
    let all = place.archives();
    place.prune(&["--keep-last=9"]).exits(0);
    // Bits rot without a word: the size and the time of writing stay.
    let newest = place.backups().join(&all[3]);
    let written = fs::metadata(&newest).unwrap().modified().unwrap();
    flip(&newest, 1000);
    let file = fs::OpenOptions::new().write(true).open(&newest).unwrap();
    file.file().set_modified(written).unwrap();
    let ran = place.prune(&["--keep-last=1"]).exits(0);
    let told = ran.json();
    assert_eq!(told["archives"][0]["reasons"][0]["rule"], "bad", "{told}");
    assert_eq!(place.archives(), [all[2].clone(), all[3].clone()]);
    // And it is not believed again because it once was.
    place.prune(&["--keep-last=1"]).exits(0);
    assert_eq!(place.archives(), [all[2].clone(), all[3].clone()]);
}

#[test]
fn what_was_just_taken_is_not_removed_whatever_the_clock() {
    let place = place(0);
    // Another machine's clock is three minutes ahead, which is tolerated.
    let ahead = etcd_ark::clock::now() + SignedDuration::from_mins(3);
    place.night.put(&place.backups(), ahead, |_| ());
    let backups = place.backups();
    let told = typed("--json snapshot --data-dir testdata/infra0.etcd --backup-dir {} --keep-last=1 --label=pre-upgrade", &[&backups])
    .exits(0)
    .json();
    let taken = PathBuf::from(told["archive"].as_str().unwrap());
    assert!(taken.is_file(), "{told}");
}

#[test]
fn labels_are_told_apart_without_the_blanks_around_them() {
    let place = place(2);
    for night in [2, 3] {
        place.add(night, |manifest| manifest["labels"] = json!(["golden"]));
    }
    place.add(4, |_| ());
    place
        .prune(&["--keep-last=1", "--keep-label=pre-upgrade, golden"])
        .exits(0);
    assert_eq!(place.archives().len(), 3);
    place
        .prune(&["--keep-last=1", "--keep-label=a,,b"])
        .exits(2);
}
