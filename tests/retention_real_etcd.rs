//! Ten nights of a member: a real etcd that works by day, and a snapshot each night, pruned after each.
//!
//! The nights are simulated: etcd-ark runs under libfaketime, a day later each time. etcd itself is a 3.4, which must
//! stop for its snapshot, and keeps the true time.

use crate::support::etcd::http;
use crate::support::prelude::*;
use crate::support::{ark, tools};

struct Nights {
    dir: TempDir,
    faketime: PathBuf,
}

impl Nights {
    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("infra0.etcd")
    }

    fn ark(&self, night: u32, args: &[&str]) -> Ran {
        let mut command = clean(ark::BINARY);
        command
            .env("LD_PRELOAD", &self.faketime)
            .env("FAKETIME", format!("+{night}d"))
            // A wait measures time that passes, not what a clock says.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("ETCD_ARK_BACKUP_DIR", self.dir.path().join("backups"))
            .args(args);
        ark::run(&mut command)
    }

    /// What cron would do; what it says.
    fn snapshot(&self, night: u32) -> Ran {
        let data_dir = self.data_dir();
        let metrics = self.dir.path().join("etcd-ark.prom");
        self.ark(
            night,
            &[
                "snapshot",
                "--data-dir",
                data_dir.to_str().unwrap(),
                "--keep-last=2",
                "--keep-daily=4",
                "--keep-weekly=3",
                "--metrics-file",
                metrics.to_str().unwrap(),
            ],
        )
    }

    fn archives(&self) -> Vec<Value> {
        let told = self.ark(0, &["--json", "list"]).exits(0).json();
        told["archives"].as_array().unwrap().clone()
    }
}

fn value(server: &Etcd, key: &str) -> (u16, String) {
    http(server.client(), "GET", &format!("/v2/keys/{key}"), "").unwrap()
}

#[test]
fn ten_nights_are_pruned_as_asked_and_the_oldest_that_is_left_starts() {
    only_with!(tools::need("etcd"));
    let Some(faketime) = tools::need_faketime() else {
        return;
    };
    let nights = Nights {
        dir: TempDir::new().unwrap(),
        faketime,
    };
    for night in 0..10 {
        let server = Etcd::start(&nights.data_dir());
        for key in 0..20 {
            server.set_v2(
                &format!("night-{night}/{key}"),
                &format!("written by day {night}"),
            );
        }
        server.stop();
        let ran = nights.snapshot(night).exits(0);
        assert_eq!(ran.stdout.as_str(), "", "cron would send a mail");
        assert_eq!(ran.stderr.as_str(), "", "cron would send a mail");
        let status = nights.ark(night, &["status"]).exits(0);
        assert!(status.stdout.starts_with("ETCD-ARK OK: "), "{status:?}");
    }
    // There was no run on the eleventh and twelfth night, and that is reported.
    let late = nights.ark(12, &["status", "--max-age", "26h"]).exits(2);
    assert!(late.stdout.starts_with("ETCD-ARK CRITICAL: "), "{late:?}");
    let archives = nights.archives();
    let created = |archive: &Value| -> jiff::Timestamp {
        archive["created_at"].as_str().unwrap().parse().unwrap()
    };
    let first = created(archives.last().unwrap());
    let days: Vec<_> = archives
        .iter()
        .map(|archive| created(archive).duration_since(first).as_hours() / 24)
        .collect();
    // Four days, two of which are the last two; and the newest of each of three weeks at most.
    assert!((5..=6).contains(&days.len()), "{days:?}");
    let newest: Vec<_> = archives.iter().take(4).map(created).collect();
    for pair in newest.windows(2) {
        let hours = pair[0].duration_since(pair[1]).as_hours();
        assert!(hours.abs_diff(24) <= 1, "{days:?}");
    }
    let week = |time: jiff::Timestamp| (time.as_second().div_euclid(86_400) + 3).div_euclid(7);
    let weeks: std::collections::BTreeSet<_> = archives.iter().map(|a| week(created(a))).collect();
    assert!(
        weeks.len() >= 2,
        "ten nights lie in two weeks or three: {days:?}"
    );
    restore_and_look(&nights, archives.last().unwrap());
}

/// The oldest archive holds the nights up to its own, and not the later ones.
fn restore_and_look(nights: &Nights, oldest: &Value) {
    let archive = Path::new(oldest["archive"].as_str().unwrap());
    let told = nights
        .ark(0, &["--json", "inspect", archive.to_str().unwrap()])
        .exits(0);
    assert!(
        told.stdout.contains("infra0") || told.stdout.contains("member"),
        "{told:?}"
    );
    let restored = nights.dir.path().join("restored.etcd");
    nights
        .ark(
            12,
            &[
                "restore",
                archive.to_str().unwrap(),
                "--offline",
                "--data-dir",
                restored.to_str().unwrap(),
            ],
        )
        .exits(0);
    let server = Etcd::start(&restored);
    let has = |night: u32| value(&server, &format!("night-{night}/7")).0 == 200;
    let had: Vec<_> = (0..10).filter(|night| has(*night)).collect();
    server.stop();
    let last = *had.last().unwrap();
    assert_eq!(
        had,
        (0..=last).collect::<Vec<_>>(),
        "every night up to its own, and no later one"
    );
    assert!(last < 6, "the four last days are not the oldest: {had:?}");
}
