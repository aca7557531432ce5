//! Data size over time against the limit.
//!
//! In: archives of a recorded member, with times and data sizes changed. Out: the chart, the forecast, both as JSON.

use jiff::{SignedDuration, Timestamp};

use crate::support::nights::{Night, hours_ago};
use crate::support::prelude::*;

fn scene() -> (TempDir, PathBuf, Night) {
    let recording = unpack("mem-a");
    let dir = TempDir::with_prefix("ark-history-").unwrap();
    let made = snapshot(&recording.data_dir("mem-a"), &dir.path().join("made"), &[]).0;
    let backups = dir.path().join("backups");
    (dir, backups, Night::of(&made))
}

fn history(backups: &Path, flags: &[&str]) -> Ran {
    let args = ["list", "--history", backups.to_str().unwrap()];
    ark(args.into_iter().chain(flags.iter().copied())).exits(0)
}

/// An archive of that data size with a log up to `index`.
fn of(bytes: u64, index: u64) -> impl FnOnce(&mut Value) {
    move |manifest| {
        manifest["sizes"]["data"] = json!(bytes);
        manifest["member"]["position"]["index"] = json!(index);
        manifest["member"]["position"]["commit"] = json!(index);
    }
}

fn day(number: u64) -> Timestamp {
    let start: Timestamp = "2015-08-01T02:00:00Z".parse().unwrap();
    start + SignedDuration::from_hours(24 * number.cast_signed())
}

const CHART: [&str; 16] = [
    "mem-a (55209a07e772ae46) of cluster 1b3e718414357104",
    "     125.0 MB │                                                                ▃",
    "              │                                                  ▁    ▃ ▆ ▂▅ █ █",
    "     100.0 MB ┝╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌█╌╌╌╌█╌█╌██╌█╌█",
    "              │                                          ▁ ▄  ▃ ▆█ ▅ ██ █ ██ █ █",
    "              │                               ▂    ▄▇ ▂ ▆█ ██ █ ██ █ ██ █ ██ █ █",
    "      75.0 MB │                      ▁ ▅  ▃ ▇ █▅ █ ██ █ ██ ██ █ ██ █ ██ █ ██ █ █",
    "              │           ▂  ▁ ▄ █▃ ▆█ █ ██ █ ██ █ ██ █ ██ ██ █ ██ █ ██ █ ██ █ █",
    "      50.0 MB │   ▂▅ ▁ ▄▇ █ ▆█ █ ██ ██ █ ██ █ ██ █ ██ █ ██ ██ █ ██ █ ██ █ ██ █ █",
    "              │▄▇ ██ █ ██ █ ██ █ ██ ██ █ ██ █ ██ █ ██ █ ██ ██ █ ██ █ ██ █ ██ █ █",
    "      25.0 MB │██ ██ █ ██ █ ██ █ ██ ██ █ ██ █ ██ █ ██ █ ██ ██ █ ██ █ ██ █ ██ █ █",
    "              │██ ██ █ ██ █ ██ █ ██ ██ █ ██ █ ██ █ ██ █ ██ ██ █ ██ █ ██ █ ██ █ █",
    "          0 B └─────────────────────────────────────────────────────────────────",
    "               2015-08-01                 2015-08-20                  2015-09-09",
    "  40 archives, 30.0 MB to 117.0 MB, now 117.0 MB",
    "  over 100.0 MB since 2015-09-04: get help before an upgrade, says etcd's guide",
];

#[test]
fn growth_past_the_limit_is_drawn() {
    let (_dir, backups, night) = scene();
    for number in 0..40 {
        let saw = number % 4 * 3_000_000;
        night.put(
            &backups,
            day(number),
            of(30_000_000 + number * 2_000_000 + saw, 1000 + number),
        );
    }
    let ran = history(&backups, &[]);
    let widest = ran.stdout.lines().map(|line| line.chars().count()).max();
    assert!(widest.unwrap() <= 80, "{ran:#?}");
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines, CHART);
    let told = history(&backups, &["--json"]).json();
    let member = &told["members"][0];
    assert_eq!(member["points"].as_array().unwrap().len(), 40);
    assert_eq!(member["points"][0]["data_bytes"], 30_000_000);
    assert_eq!(member["points"][0]["created_at"], "2015-08-01T02:00:00Z");
    assert_eq!(member["limit_bytes"], 100_000_000);
    assert_eq!(member["forecast"]["kind"], "over");
    assert_eq!(told["problems"], json!([]));
    let text = history(&backups, &["--size-limit", "1GB"]).stdout;
    assert!(text.contains("reaches 1.0 GB around"), "{text}");
}

#[test]
fn the_date_at_which_the_limit_is_reached_is_told() {
    let (_dir, backups, night) = scene();
    // Half a megabyte a day up to 60 MB now: 80 days are left.
    for number in 0..60_u32 {
        let age = 24.0 * f64::from(59 - number);
        let bytes = 30_500_000 + 500_000 * u64::from(number);
        night.ago(&backups, age, of(bytes, 1000 + u64::from(number)));
    }
    let told = history(&backups, &["--json"]).json();
    let forecast = &told["members"][0]["forecast"];
    assert_eq!(forecast["kind"], "at");
    let rate = forecast["bytes_per_day"].as_f64().unwrap();
    assert!((rate - 500_000.0).abs() < 1000.0, "{forecast}");
    let at: Timestamp = forecast["limit_at"].as_str().unwrap().parse().unwrap();
    let off = at.duration_since(hours_ago(-80.0 * 24.0)).as_hours();
    assert!(off.abs() < 24, "{forecast}");
    let text = history(&backups, &[]).stdout;
    let date = at.strftime("%Y-%m-%d");
    let expected = format!(
        "grows by 500.0 kB a day: reaches 100.0 MB around {date}, if it continues like this"
    );
    assert!(text.contains(&expected), "{text}");
}

#[test]
fn a_clock_that_was_wrong_draws_no_nonsense() {
    let (_dir, backups, night) = scene();
    for number in 0..20 {
        night.put(&backups, day(number), of(50_000_000, 1000 + number));
    }
    night.put(
        &backups,
        "2222-02-02T02:02:02Z".parse().unwrap(),
        of(1, 1005),
    );
    night.put(
        &backups,
        "1970-01-01T00:00:00Z".parse().unwrap(),
        of(99_000_000, 1010),
    );
    let told = history(&backups, &["--json"]).json();
    let member = &told["members"][0];
    assert_eq!(member["left_out"], 2);
    assert_eq!(member["points"].as_array().unwrap().len(), 20);
    assert_eq!(member["forecast"]["kind"], "not-growing");
    let text = history(&backups, &[]).stdout;
    assert!(
        text.contains("20 archives, 50.0 MB; 2 more left out: their dates cannot be right"),
        "{text}"
    );
    assert!(text.contains("\n  not growing\n"), "{text}");
}

#[test]
fn each_member_has_a_chart_of_its_own_and_few_archives_foretell_nothing() {
    let (_dir, backups, night) = scene();
    night.put(&backups, day(0), of(1000, 10));
    night.put(&backups, day(1), |manifest| {
        manifest["member"]["identity"]["member_id"] = json!("b");
        manifest["member"]["identity"]["name"] = json!("other");
    });
    night.put(&backups, day(2), |manifest| {
        manifest["rewind"] = json!({
            "old_cluster_id": "abc", "old_members": [], "rewound_to": 3, "derived_from": [],
        });
    });
    let ran = history(&backups, &[]);
    assert_eq!(
        ran.stdout.matches("too few archives").count(),
        2,
        "{ran:#?}"
    );
    assert!(ran.stdout.starts_with("other (b) of cluster "), "{ran:#?}");
    assert_eq!(ran.stdout.matches("1 archive, ").count(), 2, "{ran:#?}");
    assert_has(&ran.stdout, "  1 archive, 1.0 kB\n");
    let empty = backups.join("empty");
    fs_err::create_dir(&empty).unwrap();
    assert!(history(&empty, &[]).stdout.starts_with("no archives in "));
}
