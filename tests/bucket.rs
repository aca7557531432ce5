//! A real S3 server, and the failures of its connection.

mod stores;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use etcd_ark::interrupt::Interrupt;
use etcd_ark::repository::bucket::{Bucket, BucketLimits};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::prelude::*;
use crate::support::relabel_member::make_unreachable;
use crate::support::s3::{ACCESS_KEY, Road, S3, SERVER, Then, objects};
use crate::support::{ark, tools};

const URL: &str = "s3://backups/etcd";

/// A server with one bucket, and a member to back up.
struct Place {
    dir: TempDir,
    server: Arc<S3>,
    data_dir: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        // A road's thread holds the server, too, and never ends.
        self.server.kill();
    }
}

impl Place {
    fn new() -> Option<Self> {
        if !tools::need(SERVER) {
            return None;
        }
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("s3/backups/etcd")).unwrap();
        let data_dir = dir.path().join("infra0.etcd");
        copy_dir(Path::new("testdata/infra0.etcd"), &data_dir);
        Some(Self {
            server: S3::start(&dir.path().join("s3")),
            data_dir,
            dir,
        })
    }

    /// A member with an archive that is too large for a few parts of an upload.
    fn large() -> Option<Self> {
        let place = Self::new()?;
        // Nothing that compresses: xorshift.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .take(40 * 1024 * 1024 / 8)
        .flatten()
        .collect();
        let snap = place.data_dir.join("member/snap");
        write_file(
            &snap.join("0000000000000001-0000000000000001.snap.broken"),
            0o600,
            &noise,
        );
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn objects(&self) -> Vec<String> {
        objects(&self.path("s3/backups/etcd"))
    }

    fn command(&self, road: &Road, args: &[&str]) -> Command {
        let mut command = clean(ark::BINARY);
        command.envs(road.environment()).args(args);
        command.env("TMPDIR", self.dir.path());
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, road: &Road, args: &[&str]) -> Ran {
        ark::run(&mut self.command(road, args))
    }

    /// Runs a line as it is typed; `{}` in it is the next of `values`.
    fn typed(&self, road: &Road, line: &str, values: &[&dyn AsRef<OsStr>]) -> Ran {
        let words = ark::words(line, values);
        ark::run(self.command(road, &[]).args(words))
    }

    /// A road on which requests that are as `is` get `then`.
    fn road(&self, is: fn(&str, &str) -> bool, then: Then) -> Road {
        Road::to(&self.server, move |method, target| {
            if is(method, target) { then } else { Then::Pass }
        })
    }

    fn start(&self, road: &Road, args: &[&str]) -> Child {
        let mut command = self.command(road, args);
        let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
        silent.spawn().unwrap()
    }

    fn snapshot_args(&self) -> Vec<&str> {
        let data_dir = self.data_dir.to_str().unwrap();
        vec![
            "--json",
            "snapshot",
            "--data-dir",
            data_dir,
            "--repo",
            URL,
            "--all",
        ]
    }

    /// A snapshot into the bucket, which must be taken; its URL.
    fn snapshot(&self, road: &Road) -> String {
        let told = self.run(road, &self.snapshot_args()).exits(0).json();
        told["archive"].as_str().unwrap().to_owned()
    }

    fn listed(&self, road: &Road) -> Value {
        let told = self
            .run(road, &["--json", "list", "--repo", URL])
            .exits(0)
            .json();
        assert_eq!(told["problems"], serde_json::json!([]));
        told["archives"].clone()
    }
}

#[test]
fn a_bucket_is_a_place_for_archives_as_a_directory_is() {
    let Some(place) = Place::new() else { return };
    let road = Road::open(&place.server);
    let url = place.snapshot(&road);
    let name = url.rsplit('/').next().unwrap();
    assert_eq!(place.objects(), [name.to_owned(), format!("{name}.sha256")]);
    // What is in the bucket is what `sha256sum` and `tar` take.
    let bucket = place.path("s3/backups/etcd");
    ark::tool(&bucket, "sh", &["-c", "sha256sum -c *.sha256"]);
    let listed = place.listed(&road);
    assert_eq!(listed[0]["archive"], url);
    assert_eq!(listed[0]["position"]["raft_index"], 250);
    for args in [
        ["verify", &url],
        ["verify", URL],
        ["inspect", &url],
        ["keys", &url],
    ] {
        let ran = place.run(&road, &args).exits(0);
        assert!(!ran.stdout.is_empty(), "{ran:?}");
    }
    let restored = place.path("restored.etcd");
    let line = "restore {} --offline --data-dir {}";
    place.typed(&road, line, &[&url, &restored]).exits(0);
    let content = |dir: &Path| -> Vec<_> {
        tree(&dir.join("member"))
            .into_iter()
            .map(|(path, stat)| (path, stat.sha256))
            .collect()
    };
    assert_eq!(content(&restored), content(&place.data_dir));
    // And back out of it.
    let local = place.path("local");
    place.typed(&road, "copy {} {}", &[&URL, &local]).exits(0);
    assert_eq!(names(&local), place.objects());
    let again = place.typed(&road, "--json copy {} {}", &[&URL, &local]);
    let again = again.exits(0).json();
    assert_eq!(again["copied"], 0);
    assert_eq!(again["already_there"], 1);
}

#[test]
fn a_server_that_dies_in_the_middle_of_an_upload_and_comes_back_costs_nothing() {
    let Some(place) = Place::large() else { return };
    let parts = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&parts);
    let road = Road::to(&place.server, move |method, target| {
        let is_part = method == "PUT" && target.contains("partNumber=");
        if is_part && seen.fetch_add(1, Ordering::SeqCst) == 2 {
            return Then::Outage;
        }
        Then::Pass
    });
    let url = place.snapshot(&road);
    assert!(
        parts.load(Ordering::SeqCst) >= 6,
        "an archive of 40 MB has more parts than that"
    );
    place.run(&road, &["verify", &url]).exits(0);
    assert_eq!(place.objects().len(), 2);
    assert_eq!(names(place.dir.path()), ["infra0.etcd", "s3"]);
}

#[test]
fn wrong_credentials_and_a_missing_bucket_are_told_apart_and_leave_nothing() {
    let Some(place) = Place::new() else { return };
    let road = Road::open(&place.server);
    for args in [place.snapshot_args(), vec!["--json", "list", "--repo", URL]] {
        let mut wrong = place.command(&road, &args);
        wrong.env("AWS_SECRET_ACCESS_KEY", "not-the-secret");
        let error = ark::run(&mut wrong).exits(1).json_error();
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains("the secret key is wrong"), "{error}");
        // Where the store's answer is short enough to be seen whole, it says which it is.
        if args.contains(&"list") {
            assert!(hint.starts_with("the secret key is wrong"), "{error}");
        }
        assert!(
            !error.to_string().contains("not-the-secret")
                && !error.to_string().contains(ACCESS_KEY)
        );
    }
    // No one has any: then the service of Amazon's own machines is asked, which is not here.
    let mut none = place.command(&road, &["--json", "list", "--repo", URL]);
    none.env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    let environment = road.environment();
    let nobody = environment
        .iter()
        .find(|(name, _)| *name == "AWS_ENDPOINT_URL");
    none.env("AWS_METADATA_ENDPOINT", &nobody.unwrap().1);
    let error = ark::run(&mut none).exits(1).json_error();
    let message = error["message"].as_str().unwrap();
    assert!(message.ends_with("no credentials found"), "{error}");
    let missing = Road::to(&place.server, |_, _| Then::NoBucket);
    for args in [place.snapshot_args(), vec!["--json", "list", "--repo", URL]] {
        let error = place.run(&missing, &args).exits(10).json_error();
        assert_has(&error["hint"], "bucket's name");
    }
    place
        .run(&road, &["list", "--repo", "ftp://backups"])
        .exits(2);
    // A wrong prefix holds nothing, and a nightly run that takes it is not to be green for ever.
    let local = place.path("local");
    let local = local.to_str().unwrap();
    for args in [
        &["verify", "s3://backups/nothing"][..],
        &["copy", "s3://backups/nothing", local],
    ] {
        let ran = place.run(&road, args).exits(10);
        ran.says("no archives in `s3://backups/nothing`");
    }
    assert_eq!(place.objects(), [""; 0]);
}

#[test]
fn a_bucket_that_forbids_to_remove_takes_archives_and_keeps_them() {
    let Some(place) = Place::new() else { return };
    let road = place.road(
        |method, _| method == "DELETE" || method == "POST",
        Then::Deny,
    );
    // An upload in parts begins and ends with a POST; small ones must not need any.
    let removes = |method: &str, target: &str| {
        method == "DELETE" || (method == "POST" && target.contains("delete"))
    };
    let small = place.road(removes, Then::Deny);
    let url = place.snapshot(&small);
    place.run(&small, &["verify", &url]).exits(0);
    assert_eq!(place.listed(&road).as_array().unwrap().len(), 1);
    // `prune` says what it could not do, and nothing is half gone.
    place.snapshot(&small);
    place
        .run(&small, &["prune", "--repo", URL, "--keep-last=1"])
        .exits(1)
        .says("could not be removed");
    assert_eq!(place.listed(&road).as_array().unwrap().len(), 2);
    let open = Road::open(&place.server);
    place
        .run(&open, &["prune", "--repo", URL, "--keep-last=1"])
        .exits(0);
    let listed = place.listed(&open);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    place.run(&open, &["status", "--repo", URL]).exits(0);
}

#[test]
fn two_writers_at_once_do_not_spoil_each_other() {
    let Some(place) = Place::new() else { return };
    let road = Road::open(&place.server);
    let codes = |count: usize, args: &[&str]| {
        let start = |_| {
            // This server looks and writes in two steps: within one moment it lets two create the same object.
            std::thread::sleep(Duration::from_millis(25));
            place.start(&road, args)
        };
        let all: Vec<_> = (0..count).map(start).collect();
        let ended = all
            .into_iter()
            .map(|mut child| child.wait().unwrap().code());
        let codes: Vec<_> = ended.collect();
        let known = codes.iter().all(|code| [Some(0), Some(11)].contains(code));
        assert!(known, "{codes:?}");
        codes
    };
    let codes_of_writers = codes(2, &place.snapshot_args());
    // Two that began in the same millisecond want the same name, and one of them gets an error.
    let taken = codes_of_writers.iter().filter(|code| **code == Some(0));
    let taken = taken.count();
    assert!(taken >= 1, "{codes_of_writers:?}");
    assert_eq!(place.listed(&road).as_array().unwrap().len(), taken);
    // The same archive under the same name, from two sides.
    let local = place.path("local");
    place.typed(&road, "copy {} {}", &[&URL, &local]).exits(0);
    // Of each archive one is first; who comes second finds it there, or is told that another one
    // writes it. So all are there, whole.
    codes(4, &["copy", local.to_str().unwrap(), "s3://backups/other"]);
    place.run(&road, &["verify", "s3://backups/other"]).exits(0);
    assert_eq!(objects(&place.path("s3/backups/other")), names(&local));
}

#[test]
fn an_upload_that_was_stopped_or_killed_is_in_no_list() {
    let Some(place) = Place::large() else { return };
    for signal in ["INT", "KILL"] {
        let road = Road::to(&place.server, |method, target| {
            if method == "PUT" && target.contains("partNumber=") {
                std::thread::sleep(Duration::from_millis(300));
            }
            Then::Pass
        });
        let mut child = place.start(&road, &place.snapshot_args());
        let since = Instant::now();
        while road.traffic().requests < 6 {
            assert!(since.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(20));
        }
        let pid = child.id().to_string();
        ark::program("kill", [&format!("-{signal}"), &pid]).exits(0);
        let code = child.wait().unwrap().code();
        assert_eq!(code, if signal == "INT" { Some(130) } else { None });
        let open = Road::open(&place.server);
        assert_eq!(place.listed(&open).as_array().unwrap().len(), 0, "{signal}");
        if signal == "INT" {
            assert_eq!(place.objects(), [""; 0]);
        }
    }
    let road = Road::open(&place.server);
    let url = place.snapshot(&road);
    place.run(&road, &["verify", &url]).exits(0);
}

#[test]
fn a_list_of_a_thousand_archives_reads_their_ends_only() {
    let Some(place) = Place::new() else { return };
    let road = Road::open(&place.server);
    place.snapshot(&road);
    let bucket = place.path("s3/backups/etcd");
    let [archive, sum] = <[String; 2]>::try_from(place.objects()).unwrap();
    for number in 1..1000 {
        let name = archive.replace(".tar.zst", &format!("-{number:04}.tar.zst"));
        fs::copy(bucket.join(&archive), bucket.join(&name)).unwrap();
        fs::copy(bucket.join(&sum), bucket.join(format!("{name}.sha256"))).unwrap();
    }
    let size = fs::metadata(bucket.join(&archive)).unwrap().len();
    let counting = Road::open(&place.server);
    assert_eq!(place.listed(&counting).as_array().unwrap().len(), 1000);
    let traffic = counting.traffic();
    eprintln!("list of 1,000 archives of {size} bytes: {traffic:?}");
    assert!(traffic.requests <= 1000 + 10, "{traffic:?}");
    assert!(
        traffic.bytes_back <= 1000 * (33 << 10) + (2 << 20),
        "{traffic:?}"
    );
}

#[test]
fn what_a_bucket_gives_back_is_believed_no_more_than_a_disk() {
    let Some(place) = Place::new() else { return };
    let road = Road::open(&place.server);
    let url = place.snapshot(&road);
    let name = url.rsplit('/').next().unwrap();
    let object = place.path("s3/backups/etcd").join(name);
    let whole = fs::read(&object).unwrap();
    let mut flipped = whole.clone();
    flipped[1000] ^= 1;
    fs::write(&object, &flipped).unwrap();
    place.run(&road, &["verify", &url]).exits(4);
    let target = place.path("restored.etcd");
    let line = "restore {} --offline --data-dir {}";
    place.typed(&road, line, &[&url, &target]).exits(4);
    assert!(!target.exists());
    fs::write(&object, &whole[..whole.len() - 100]).unwrap();
    place.run(&road, &["verify", &url]).exits(4);
    // An archive that is corrupt is not copied on.
    let local = place.path("local");
    place.typed(&road, "copy {} {}", &[&URL, &local]).exits(4);
    assert_eq!(names(&local), [""; 0]);
}

fn lists(method: &str, target: &str) -> bool {
    method == "GET" && target.contains("list-type=2")
}

fn reads_archive(method: &str, target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    method == "GET" && path.ends_with(".tar.zst")
}

#[test]
fn an_archive_that_may_not_be_read_is_no_archive_that_is_wrong() {
    let Some(place) = Place::new() else { return };
    let url = place.snapshot(&Road::open(&place.server));
    let denied = place.road(reads_archive, Then::Deny);
    let error = place
        .run(&denied, &["--json", "verify", &url])
        .exits(1)
        .json_error();
    let hint = error["hint"].as_str().unwrap();
    assert!(hint.contains("AWS_ACCESS_KEY_ID"), "{error}");
    // It may be valid, so there must be no alarm about a missing backup.
    let ran = place.run(&denied, &["status", "--repo", URL]).exits(3);
    assert!(ran.stdout.starts_with("ETCD-ARK UNKNOWN: "), "{ran:#?}");
}

#[test]
fn an_archive_that_was_pruned_meanwhile_is_gone() {
    let Some(place) = Place::new() else { return };
    let url = place.snapshot(&Road::open(&place.server));
    let pruned = place.road(reads_archive, Then::NoBucket);
    place
        .run(&pruned, &["verify", &url])
        .exits(10)
        .says("there is no archive at");
    let listed = place.run(&pruned, &["list", "--repo", URL]).exits(0);
    assert!(listed.stdout.contains("no archives in"), "{listed:#?}");
}

#[test]
fn a_run_that_is_stopped_while_a_bucket_is_read_judges_nothing() {
    let Some(place) = Place::new() else { return };
    for _ in 0..3 {
        place.snapshot(&Road::open(&place.server));
    }
    for args in [
        vec!["verify", URL],
        vec!["list", "--repo", URL],
        vec!["status", "--repo", URL],
        vec!["copy", URL, place.path("local").to_str().unwrap()],
    ] {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let slow = Road::to(&place.server, move |method, target| {
            if reads_archive(method, target) {
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_secs(5));
            }
            Then::Pass
        });
        let mut command = place.command(&slow, &args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let since = Instant::now();
        while asked.load(Ordering::SeqCst) == 0 {
            assert!(since.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(10));
        }
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        let ended = child.wait_with_output().unwrap();
        let stdout = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(ended.status.code(), Some(130), "{args:?}: {ended:?}");
        assert_eq!(stdout, "", "{args:?}");
    }
}

/// Puts the time of writing of all objects three days back.
fn age(place: &Place) {
    let old = std::time::SystemTime::now() - Duration::from_secs(3 * 24 * 60 * 60);
    for name in place.objects() {
        let path = place.path("s3/backups/etcd").join(name);
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.file().set_modified(old).unwrap();
    }
}

#[test]
fn an_archive_that_was_put_there_by_other_means_counts_and_is_not_swept_away() {
    let Some(place) = Place::new() else { return };
    let road = Road::open(&place.server);
    let url = place.snapshot(&road);
    let bucket = place.path("s3/backups/etcd");
    let name = url.rsplit('/').next().unwrap();
    fs::remove_file(bucket.join(format!("{name}.sha256"))).unwrap();
    age(&place);
    let prune = ["prune", "--repo", URL, "--keep-last", "1"];
    place.run(&road, &prune).exits(0);
    assert_eq!(place.listed(&road).as_array().unwrap().len(), 1);
    place.run(&road, &["verify", &url]).exits(0);
    // While it may be on its way it is in no list.
    let claim = format!(".etcd-ark-claim-{name}");
    fs::write(bucket.join(&claim), "someone\n").unwrap();
    assert_eq!(place.listed(&road).as_array().unwrap().len(), 0);
    place.run(&road, &["verify", &url]).exits(10);
    place.run(&road, &prune).exits(0);
    assert!(
        place.objects().iter().any(|object| object == name),
        "it is young"
    );
    // A day later its writer is dead, and it is whole: it is an archive, and only the claim goes. Nothing goes that
    // was not named before.
    age(&place);
    let json = [&["--json"], &prune[..]].concat();
    let dry_run = [&json[..], &["--dry-run"]].concat();
    for (args, removed) in [(dry_run, false), (json, true)] {
        let told = place.run(&road, &args).exits(0).json();
        let leftover = serde_json::json!([{"name": claim, "removed": removed}]);
        assert_eq!(told["leftovers"], leftover, "{told}");
        assert_eq!(told["archives"][0]["keep"], true, "{told}");
        assert_eq!(place.objects().contains(&claim), !removed);
    }
    assert!(place.objects().iter().any(|object| object == name));
    assert_eq!(place.listed(&road).as_array().unwrap().len(), 1);
    place.run(&road, &["verify", &url]).exits(0);
}

#[test]
fn a_list_that_names_an_archive_twice_does_not_have_it_removed() {
    let Some(place) = Place::new() else { return };
    let url = place.snapshot(&Road::open(&place.server));
    let twice = place.road(lists, Then::NameTwice);
    let prune = ["--json", "prune", "--repo", URL, "--keep-last", "1"];
    let told = place.run(&twice, &prune).exits(0).json();
    assert_eq!(told["archives"].as_array().unwrap().len(), 1, "{told}");
    place
        .run(&Road::open(&place.server), &["verify", &url])
        .exits(0);
}

#[test]
fn a_store_that_says_it_has_the_marker_and_has_not_is_no_success() {
    let Some(place) = Place::new() else { return };
    let is_marker = |method: &str, target: &str| method == "PUT" && target.contains(".sha256");
    let lying = place.road(is_marker, Then::Pretend);
    place
        .run(&lying, &place.snapshot_args())
        .exits(1)
        .says("has not kept");
    let open = Road::open(&place.server);
    assert_eq!(place.listed(&open).as_array().unwrap().len(), 0);
    assert_eq!(place.objects(), [""; 0]);
}

#[test]
fn a_variable_of_another_program_is_no_setting_of_the_store() {
    let Some(place) = Place::new() else { return };
    let road = Road::open(&place.server);
    let mut command = place.command(&road, &place.snapshot_args());
    for (name, value) in [
        ("ENDPOINT", "http://127.0.0.1:9"),
        ("TOKEN", "x"),
        ("TIMEOUT", "bogus"),
        ("SKIP_SIGNATURE", "true"),
    ] {
        command.env(name, value);
    }
    ark::run(&mut command).exits(0);
}

#[test]
fn a_name_with_any_sign_in_it_is_the_key_and_is_found_again() {
    // Guards against keys that are encoded twice: what is put there is in no list, or is found by no other program.
    let Some(place) = Place::new() else { return };
    let road = Road::open(&place.server);
    place.snapshot(&road);
    let (local, back) = (place.path("local"), place.path("back"));
    let [local, back] = [&local, &back].map(|path| path.to_str().unwrap());
    place.run(&road, &["copy", URL, local]).exits(0);
    let archive = tools::archives_in(Path::new(local)).remove(0);
    fs::remove_file(archive.with_extension("zst.sha256")).unwrap();
    let odd = [
        "a#b",
        "a%23b",
        "a?b=c&d",
        "a\\b",
        "ä ö+ü",
        "a%b",
        "{a}|^~[b]<c>\"d'`",
    ];
    let names_of = |odd: &[&str]| -> Vec<String> {
        odd.iter()
            .map(|odd| format!("etcd-{odd}.tar.zst"))
            .collect()
    };
    for name in names_of(&odd) {
        fs::copy(&archive, Path::new(local).join(name)).unwrap();
    }
    fs::remove_file(&archive).unwrap();
    let bucket = "s3://backups/odd #1%20";
    place.run(&road, &["copy", local, bucket]).exits(0);
    let there = objects(&place.path("s3/backups/odd #1%20"));
    for name in names_of(&odd) {
        assert!(there.contains(&name), "{name} of {there:?}");
        place
            .run(&road, &["verify", &format!("{bucket}/{name}")])
            .exits(0);
    }
    let listed = place
        .run(&road, &["--json", "list", "--repo", bucket])
        .exits(0)
        .json();
    assert_eq!(
        listed["archives"].as_array().unwrap().len(),
        odd.len(),
        "{listed}"
    );
    assert_eq!(listed["problems"], serde_json::json!([]));
    place.run(&road, &["copy", bucket, back]).exits(0);
    assert_eq!(names(Path::new(back)), there);
    place
        .run(&road, &["prune", "--repo", bucket, "--keep-last", "1"])
        .exits(0);
}

/// Objects with keys that no client can address, as other programs leave them.
const ODD_OBJECTS: &str = "\
    <Contents><Key>etcd//x</Key><Size>7</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>\
    <Contents><Key>etcd/a&#x1;b</Key><Size>7</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>\
    <CommonPrefixes><Prefix>etcd/../</Prefix></CommonPrefixes>";

#[test]
fn an_object_with_an_odd_key_hides_no_archive_and_is_named() {
    let Some(place) = Place::new() else { return };
    place.snapshot(&Road::open(&place.server));
    let odd = place.road(lists, Then::AlsoList(ODD_OBJECTS));
    let local = place.path("local");
    let commands: [&[&str]; 5] = [
        &["list", "--repo", URL],
        &["prune", "--repo", URL, "--keep-last", "1"],
        &["verify", URL],
        &["copy", URL, local.to_str().unwrap()],
        &["status", "-v", "--repo", URL],
    ];
    for args in commands {
        let ran = place.run(&odd, args).exits(0);
        let told = ran.stdout.clone() + &ran.stderr;
        assert_has_each(
            &told,
            &[r#""etcd//x""#, r#""etcd/a\u{1}b""#, r#""etcd/../""#],
        );
    }
    assert_eq!(tools::archives_in(&local).len(), 1);
}

#[test]
fn a_lost_answer_to_the_end_of_an_upload_leaves_one_archive() {
    // Guards against a second archive of the same moment, because the first was there already.
    let Some(place) = Place::new() else { return };
    for answered in [
        Then::LoseAnswer,
        Then::Answer("500 Internal Server Error", "InternalError"),
    ] {
        let lost = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&lost);
        let completes =
            |method: &str, target: &str| method == "POST" && target.contains("uploadId=");
        let road = Road::to(&place.server, move |method, target| {
            let first = completes(method, target) && count.fetch_add(1, Ordering::SeqCst) == 0;
            if first { answered } else { Then::Pass }
        });
        let before = place.objects().len();
        place.snapshot(&road);
        assert!(lost.load(Ordering::SeqCst) > 0);
        assert_eq!(place.objects().len(), before + 2, "{:?}", place.objects());
    }
}

const TOLD_WITHIN: Duration = Duration::from_secs(30);
