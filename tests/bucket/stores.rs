//! Stores that fail, give wrong answers, are slow or are locked.

use super::{
    AtomicU32, Bucket, BucketLimits, Interrupt, Ordering, Place, Road, TOLD_WITHIN, Then, URL, age,
    make_unreachable,
};
use crate::malicious_archives::table_footer;
use crate::support::ark;
use crate::support::prelude::*;
use etcd_ark::repository::Repository as _;
use std::sync::{Arc, Mutex};

#[test]
fn a_store_that_cannot_be_reached_or_that_refuses_is_told_within_half_a_minute() {
    // Guards against a nightly run that waits for minutes to say that the store is gone.
    let Some(place) = Place::new() else { return };
    let creates = |method: &str, target: &str| method == "PUT" && target.contains("claim");
    let completes = |method: &str, target: &str| method == "POST" && target.contains("uploadId=");
    let no_create = Road::to(&place.server, move |method, target| {
        if creates(method, target) {
            Then::Answer("501 Not Implemented", "NotImplemented")
        } else {
            Then::Pass
        }
    });
    let no_complete = Road::to(&place.server, move |method, target| {
        if completes(method, target) {
            Then::Answer("200 OK", "InternalError")
        } else {
            Then::Pass
        }
    });
    // One that answers nothing at all, and a port without a listener.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at =
        |listener: &std::net::TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let endpoint = |road: &Road| road.environment()[3].1.clone();
    let endpoints = [
        (endpoint(&no_create), "it cannot do that"),
        (endpoint(&no_complete), "with success and an error"),
        (at(&silent), "is the store reachable?"),
        (at(&closed), "is the store reachable?"),
    ];
    drop(closed);
    std::thread::scope(|scope| {
        for (endpoint, says) in &endpoints {
            for args in [place.snapshot_args(), vec!["list", "--repo", URL]] {
                let mut command = place.command(&no_create, &args);
                command.env("AWS_ENDPOINT_URL", endpoint);
                scope.spawn(move || {
                    let since = Instant::now();
                    let ran = ark::run(&mut command);
                    assert!(
                        since.elapsed() < TOLD_WITHIN,
                        "{endpoint} {args:?}: {:?}",
                        since.elapsed()
                    );
                    if args.contains(&"snapshot") || says.contains("reachable") {
                        assert!(ran.stderr.contains(says), "{ran:#?}");
                    }
                });
            }
        }
    });
    assert_eq!(place.objects(), [""; 0]);
}

#[test]
fn a_copy_stops_at_a_store_that_answers_nothing_or_refuses_the_secret() {
    // Guards against a try and a warning for each archive, and a hint to run it again.
    let Some(place) = Place::new() else { return };
    let road = Road::open(&place.server);
    place.snapshot(&road);
    let local = place.path("local");
    let local = local.to_str().unwrap();
    place.run(&road, &["copy", URL, local]).exits(0);
    let first = fs::read_dir(local)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let first: Vec<_> = first.collect();
    for path in &first {
        // A second archive, by another name.
        let name = path.file_name().unwrap().to_str().unwrap();
        fs::copy(
            path,
            path.with_file_name(name.replacen("etcd-", "etcd-other-", 1)),
        )
        .unwrap();
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    for (variable, value, says) in [
        ("AWS_ENDPOINT_URL", nowhere.as_str(), "Connection refused"),
        ("AWS_SECRET_ACCESS_KEY", "wrong", "the secret key is wrong"),
    ] {
        let mut command = place.command(&road, &["copy", local, "s3://backups/other"]);
        let since = Instant::now();
        let told = ark::run(command.env(variable, value)).exits(1);
        let told = told.says("2 of 2 archives were not copied").says(says);
        assert!(since.elapsed() < TOLD_WITHIN, "{:?}", since.elapsed());
        assert!(!told.stderr.contains("warning: "), "{told:#?}");
        assert!(!told.stderr.contains("run it again"), "{told:#?}");
    }
}

#[test]
fn a_clock_that_is_wrong_is_called_that_and_not_a_wrong_key() {
    let Some(place) = Place::new() else { return };
    let by_date = Road::to(&place.server, |_, _| Then::OtherTime);
    let by_code = Road::to(&place.server, |_, _| {
        Then::Answer("403 Forbidden", "RequestTimeTooSkewed")
    });
    for road in [&by_date, &by_code] {
        for args in [place.snapshot_args(), vec!["--json", "list", "--repo", URL]] {
            let error = place.run(road, &args).exits(1).json_error();
            assert_has(&error["message"], "clock");
            assert_begins(
                &error["hint"].as_str().unwrap(),
                "set this machine's clock right",
            );
        }
    }
}

#[test]
fn a_dry_run_puts_a_probe_into_a_bucket_and_takes_it_out_again() {
    let Some(place) = Place::new() else { return };
    let dry_run = |road: &Road, flags: &[&str]| {
        let mut args = place.snapshot_args();
        args.extend(["--dry-run"].iter().chain(flags));
        place.run(road, &args)
    };
    let of = |told: &Ran, id: &str| {
        let told = told.json();
        let mut checks = told["checks"].as_array().unwrap().iter();
        checks.find(|check| check["id"] == id).unwrap().clone()
    };
    let puts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&puts);
    let road = Road::to(&place.server, move |method, _| {
        counted.fetch_add(u32::from(method == "PUT"), Ordering::Relaxed);
        Then::Pass
    });
    let told = dry_run(&road, &[]).exits(0);
    assert_eq!(of(&told, "write")["status"], "ok", "{told:#?}");
    assert!(puts.load(Ordering::Relaxed) >= 2, "a claim and a probe");
    assert_eq!(place.objects(), Vec::<String>::new());

    // A user who may only add archives takes snapshots; with retention each of them would fail.
    let adds_only = || {
        Road::to(&place.server, |method, target| {
            let removes = method == "DELETE" || (method == "POST" && target.contains("delete"));
            if removes { Then::Deny } else { Then::Pass }
        })
    };
    let told = dry_run(&adds_only(), &[]).exits(0);
    let write = of(&told, "write");
    assert_eq!(write["status"], "warning", "{write:#}");
    assert_has(&write["evidence"], ".etcd-ark-probe-");
    dry_run(&adds_only(), &["--keep-last", "1"])
        .exits(1)
        .says("checks failed: write");

    let reads_only = Road::to(&place.server, |method, _| match method {
        "PUT" | "POST" => Then::Deny,
        _ => Then::Pass,
    });
    let told = dry_run(&reads_only, &[]).exits(1);
    assert_eq!(of(&told, "write")["status"], "failed", "{told:#?}");
    place.run(&reads_only, &place.snapshot_args()).exits(1);

    // What could not be removed is not an archive, and goes with `prune` once it is old.
    place.snapshot(&road);
    assert_eq!(place.listed(&road).as_array().map(Vec::len), Some(1));
    age(&place);
    place
        .run(&road, &["prune", "s3://backups/etcd", "--keep-last", "1"])
        .exits(0);
    let left = place.objects();
    assert!(left.iter().all(|name| !name.contains("probe")), "{left:?}");
}

#[test]
fn a_bucket_with_object_lock_takes_archives_once_it_gets_checksums() {
    let Some(place) = Place::new() else { return };
    let locked = Road::to(&place.server, |method, _| {
        if method == "PUT" {
            Then::WantChecksum
        } else {
            Then::Pass
        }
    });
    let ran = place.run(&locked, &place.snapshot_args());
    let error = ran.exits(1).json_error();
    assert_has(&error["hint"], "AWS_CHECKSUM_ALGORITHM=SHA256");
    let mut command = place.command(&locked, &place.snapshot_args());
    command.env("AWS_CHECKSUM_ALGORITHM", "SHA256");
    ark::run(&mut command).exits(0);
    assert_eq!(place.objects().len(), 2);
}

#[test]
fn a_store_that_sends_bytes_without_end_is_given_up() {
    let Some(place) = Place::new() else { return };
    let url = place.snapshot(&Road::open(&place.server));
    for what in [".tar.zst?", "list-type=2", ".sha256"] {
        let endless = Road::to(&place.server, move |method, target| {
            let target = if target.contains('?') {
                target.to_owned()
            } else {
                format!("{target}?")
            };
            if method == "GET" && target.contains(what) {
                Then::WithoutEnd
            } else {
                Then::Pass
            }
        });
        let args = if what == "list-type=2" {
            ["list", "--repo", URL]
        } else {
            ["-q", "verify", &url]
        };
        let ran = place.run(&endless, &args);
        assert!(what == ".sha256" || ran.code != 0, "{ran:#?}");
        let back = endless.traffic().bytes_back;
        assert!(back < 64 << 20, "{what}: {back}");
    }
}

#[test]
fn the_claim_of_a_run_that_died_is_taken_over_by_the_next_copy() {
    // Guards against a name that no run can write for ever where prune is never run.
    let Some(place) = Place::new() else { return };
    let road = Road::open(&place.server);
    let url = place.snapshot(&road);
    let name = url.rsplit('/').next().unwrap();
    let local = place.path("local");
    let local = local.to_str().unwrap();
    place.run(&road, &["copy", URL, local]).exits(0);
    let bucket = place.path("s3/backups/etcd");
    for object in place.objects() {
        fs::remove_file(bucket.join(object)).unwrap();
    }
    fs::write(bucket.join(format!(".etcd-ark-claim-{name}")), "someone\n").unwrap();
    place.run(&road, &["copy", local, URL]).exits(11);
    age(&place);
    place.run(&road, &["copy", local, URL]).exits(0);
    assert_eq!(place.objects(), [name.to_owned(), format!("{name}.sha256")]);
    place.run(&road, &["verify", &url]).exits(0);
}

#[test]
fn going_back_and_the_checklist_before_an_upgrade_take_a_bucket_for_the_backup_dir() {
    let Some(place) = Place::new() else { return };
    let road = Road::open(&place.server);
    let recording = unpack("ops-2.1");
    let data = recording.data_dir("ops-2.1");
    make_unreachable(&data);
    let data = data.to_str().unwrap();
    let line = "--json downgrade run --timeout 1 --settle 0 --data-dir {} --repo {}";
    let told = place.typed(&road, line, &[&data, &URL]).exits(0).json();
    let url = told["snapshot"]["archive"].as_str().unwrap();
    assert!(url.starts_with(URL), "{told}");
    place.run(&road, &["verify", url]).exits(0);
    let line = "--json preflight --timeout 1 --data-dir {} --backup-dir {}";
    let told = place.typed(&road, line, &[&data, &URL]).exits(3).json();
    let checks = told["checks"].as_array().unwrap();
    let own = checks
        .iter()
        .find(|check| check["id"] == "own-backup")
        .unwrap();
    assert_eq!(own["status"], "ok", "{own}");
    let room = checks
        .iter()
        .find(|check| check["id"] == "free-space")
        .unwrap();
    assert_eq!(room["status"], "ok", "{room}");
}

#[test]
fn a_copy_out_of_a_bucket_downloads_each_archive_once() {
    let Some(place) = Place::large() else { return };
    let road = Road::open(&place.server);
    let url = place.snapshot(&road);
    let size = fs::metadata(
        place
            .path("s3/backups/etcd")
            .join(url.rsplit('/').next().unwrap()),
    )
    .unwrap()
    .len();
    let before = road.traffic().bytes_back;
    place
        .run(&road, &["copy", URL, place.path("local").to_str().unwrap()])
        .exits(0);
    let downloaded = road.traffic().bytes_back - before;
    assert!(downloaded < size + (1 << 20), "{downloaded} of {size}");
}

#[test]
fn many_archives_in_a_bucket_are_listed_once_and_only_their_ends_are_read() {
    // Guards against a `list` that downloads the bucket, and a `prune` that lists it twice.
    const MANY: u64 = 40;
    let Some(place) = Place::new() else { return };
    // So that an archive is more than its end.
    let log = fs::read(super::ark::BINARY).unwrap();
    let broken = "member/snap/0000000000000001-0000000000000001.snap.broken";
    super::write_file(&place.data_dir.join(broken), 0o600, &log[..1 << 20]);
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&told);
    let road = Road::to(&place.server, move |method, target| {
        noted.lock().unwrap().push(format!("{method} {target}"));
        Then::Pass
    });
    let url = place.snapshot(&road);
    let bucket = place.path("s3/backups/etcd");
    let name = url.rsplit('/').next().unwrap();
    for number in 1..MANY {
        let copy = name.replace("etcd-", &format!("etcd-{number}-"));
        fs::hard_link(bucket.join(name), bucket.join(&copy)).unwrap();
        fs::copy(
            bucket.join(format!("{name}.sha256")),
            bucket.join(format!("{copy}.sha256")),
        )
        .unwrap();
    }
    // What was proven is noted, as after any `prune`: that does read them.
    let prune = ["prune", "--keep-last=1000000", URL];
    place.run(&road, &prune).exits(0);
    for (args, beside) in [
        (&["list", URL][..], 0),
        (&["status", "--quick", "--max-age=1d", URL], 1),
        (&[&prune[..], &["--dry-run"]].concat(), 1),
    ] {
        told.lock().unwrap().clear();
        let before = road.traffic().bytes_back;
        place.run(&road, args).exits(0);
        let bytes = road.traffic().bytes_back - before;
        let told = told.lock().unwrap();
        let lists = told
            .iter()
            .filter(|request| request.contains("list-type=2"))
            .count();
        assert_eq!(lists, 1, "{args:?}: {told:#?}");
        assert_eq!(told.len() as u64, 1 + MANY + beside, "{args:?}: {told:#?}");
        assert!(bytes < MANY * (40 << 10), "{args:?}: {bytes} bytes");
    }
}

#[test]
fn a_rotten_archive_in_a_bucket_is_not_downloaded_and_stops_nothing() {
    // Guards against a `list` that downloads gigabytes for four damaged bytes at the end of an object.
    let Some(place) = Place::new() else { return };
    let road = Road::to(&place.server, |_, _| Then::Pass);
    place.snapshot(&road);
    let bucket = place.path("s3/backups/etcd");
    let name = "etcd-infra0-20200101T000000.000Z.tar.zst";
    let mut rotten = vec![0; 64 << 20];
    rotten.extend(table_footer(1 << 22));
    super::write_file(&bucket.join(name), 0o600, &rotten);
    super::write_file(&bucket.join(format!("{name}.sha256")), 0o600, b"");
    let mut snapshot = place.snapshot_args();
    snapshot.push("--if-changed");
    for (args, code) in [
        (&["list", URL][..], 0),
        (&["status", "--quick", URL], 1),
        (&["verify", URL], 4),
        (&["prune", "--keep-last=1", "--dry-run", URL], 0),
        (&snapshot, 0),
    ] {
        let before = road.traffic().bytes_back;
        let ran = place.run(&road, args).exits(code);
        let bytes = road.traffic().bytes_back - before;
        assert!(bytes < 1 << 20, "{bytes} bytes: {ran:#?}");
    }
}

/// A thirtieth of the product's time limits, so that a slow line is reported within seconds.
const SHORT: BucketLimits = BucketLimits {
    connect: Duration::from_secs(1),
    silence: Duration::from_secs(1),
    request: Duration::from_secs(14),
};

/// Uploads an archive's name with a few bytes through a road on which `slow` requests take three times the allowed silence.
fn upload_over_a_slow_line(place: &Place, slow: fn(&str, &str) -> bool) -> std::io::Result<()> {
    let road = Road::to(&place.server, move |method, target| {
        if slow(method, target) {
            std::thread::sleep(3 * SHORT.silence);
        }
        Then::Pass
    });
    let settings = road
        .environment()
        .map(|(name, value)| (name.to_owned(), value));
    let bucket = Bucket::open_with(URL, &settings, SHORT, &Interrupt::default()).unwrap();
    let mut pending = bucket.receive("etcd-slow.tar.zst")?;
    pending.write(b"all of it")?;
    pending.finish()?;
    pending.publish(&[])
}

#[test]
fn an_upload_goes_on_while_a_part_takes_longer_than_the_store_may_be_silent() {
    // Guards against one limit for all: at 500 kbit/s a part takes minutes, and nothing comes back meanwhile.
    let Some(place) = Place::new() else { return };
    let is_part = |method: &str, target: &str| method == "PUT" && target.contains("partNumber=");
    upload_over_a_slow_line(&place, is_part).unwrap();
}

#[test]
fn a_store_that_is_silent_where_it_should_answer_at_once_is_given_up() {
    // Guards against a snapshot that hangs all night.
    let Some(place) = Place::new() else { return };
    let since = Instant::now();
    upload_over_a_slow_line(&place, |_, _| true).unwrap_err();
    assert!(since.elapsed() < SHORT.request, "{:?}", since.elapsed());
}
